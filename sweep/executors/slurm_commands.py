"""What is asked of Slurm: which jobs there are (`squeue`), to take one (`sbatch`), to end one (`scancel`)."""

import hashlib
import os
import re
import shlex
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from depth_loss_sweep.errors import SlurmAwayError, StudyError, SweepError

ASK_EVERY_S, ASK_AFTER_S = 5.0, 30.0
"""How often squeue is asked: less often where it takes its time, but so often at least, since one answer may have been late by chance."""
COMMAND_S = 60.0
"""A command of Slurm's that takes longer is given up."""

QUEUED = ("PENDING", "REQUEUED", "REQUEUE_HOLD", "REQUEUE_FED", "RESV_DEL_HOLD", "SPECIAL_EXIT")
OVER = (
    *("COMPLETED", "CANCELLED", "FAILED", "TIMEOUT", "NODE_FAIL", "PREEMPTED", "BOOT_FAIL"),
    *("DEADLINE", "OUT_OF_MEMORY", "REVOKED"),
)
STUCK = (
    "JobHeld",
    "launch failed",
    "PartitionTime",
    "PartitionNode",
    "PartitionDown",
    "BadConstraints",
    "ReqNodeNotAvail",
)
"""How the reason begins for which a job may wait for good."""
LATER = (
    *(
        "Unable to contact",
        "timed out",
        "Connection refused",
        "Resource temporarily",
        "Zero Bytes",
        "Transport endpoint",
    ),
    *("Communication connection", "backup controller", "SubmitJob", "MaxJobCount", "queue is full", "temporarily"),
)
"""How it sounds where sbatch may take the same job later."""

NAMES = re.compile(
    r"PATH|LD_LIBRARY_PATH|HOME|USER|LOGNAME|SHELL|LANG|LC_\w+|TZ|VIRTUAL_ENV|CONDA_PREFIX|MODULEPATH|HF_HOME|TORCH_HOME|"
    r"XDG_CACHE_HOME|(OMP|MKL|KMP|GOMP|ONEDNN|DNNL|ATEN|CUBLAS|CUDNN|NCCL|CUDA)_(?!VISIBLE_DEVICES)\w+"
)
"""The variables that a job is given: those by which programs are found and torch computes. No other, so no password."""
SLURM_NAMES = re.compile(r"SLURM_CONF|(SBATCH|MUNGE)_\w+")
"""What Slurm's own commands are told besides, and not what a user would rather see in squeue.

If we are a job ourselves, what that is called is no business of theirs.
"""


def require_slurm() -> None:
    """`SweepError` where this is no machine from which jobs are submitted."""
    missing = [command for command in ("sbatch", "squeue", "scancel") if shutil.which(command) is None]
    if missing:
        raise SweepError(
            f"--executor slurm needs Slurm's {', '.join(missing)}, which this machine lacks: start it on a login node of the cluster"
        )


def _environment() -> dict[str, str]:
    """What Slurm's commands may know of our environment."""
    known = (
        (name, value) for name, value in os.environ.items() if NAMES.fullmatch(name) or SLURM_NAMES.fullmatch(name)
    )
    return dict(known)


def _answer(command: Sequence[str], given: str = "") -> "subprocess.CompletedProcess[str]":
    """What a command of Slurm's says; raises SlurmAwayError where it doesn't answer, or was ended before it could.

    In a session of its own: Ctrl-C reaches all that is in ours, and whether a job was taken would then not be known.
    """
    try:
        done = subprocess.run(
            command, input=given, capture_output=True, text=True, errors="replace", timeout=COMMAND_S, env=_environment(),
            check=False, start_new_session=True,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise SlurmAwayError(f"{command[0]} does not answer") from None
    if done.returncode < 0:
        raise SlurmAwayError(f"{command[0]} was ended by signal {-done.returncode}")
    return done


def submit_job(program: Sequence[str], setup: str, options: Sequence[str], avoid: Sequence[str] = ()) -> str:
    """Have a program run by Slurm, after the lines of a shell in `setup`; the job's number.

    Raises SlurmAwayError where Slurm takes no job now, and StudyError, with what it says, where it takes none like this.
    """
    excluded = [f"--exclude={','.join(avoid)}"] if avoid else []
    command = [
        "sbatch",
        "--parsable",
        "--requeue",
        "--open-mode=append",
        "--nodes=1",
        "--ntasks=1",
        "--export=ALL",  # of what we let sbatch know; a list of names would have Slurm log in as well
    ]
    script = f"#!/bin/sh\n{setup}\nexec {shlex.join(program)}\n"
    done = _answer([*command, *options, *excluded], script)
    if done.returncode == 0:
        return done.stdout.strip().partition(";")[0]
    said = " ".join(line.removeprefix("sbatch: ").removeprefix("error: ") for line in done.stderr.splitlines())
    if any(text in said for text in LATER):
        raise SlurmAwayError(said)
    raise StudyError(f"Slurm refuses a job: {said or 'it does not say why'}; choose otherwise with --option")


def requests(script_options: str) -> list[str]:
    """Further arguments of sbatch, written as in a shell; `SweepError` where they aren't."""
    try:
        return shlex.split(script_options)
    except ValueError as error:
        raise SweepError(f"--option arguments={script_options}: {error}; expected arguments as in a shell") from None


def seconds_of(limit: str) -> int | None:
    """A time limit of Slurm's in seconds; None where it has none, or is written in no way that is known here."""
    days, dash, rest = limit.rpartition("-")
    try:
        parts = [int(part) for part in rest.split(":")]
        if dash:
            hours, minutes, seconds = (*parts, 0, 0)[:3]
        elif len(parts) == 3:
            hours, minutes, seconds = parts
        else:
            hours, minutes, seconds = 0, *(*parts, 0)[:2]
        return ((int(days or 0) * 24 + hours) * 60 + minutes) * 60 + seconds
    except ValueError:
        return None


def comment_of(home: Path, run: str) -> str:
    """What tells a run's job from all others of the user: another home may have the same run."""
    return f"{run}@{hashlib.sha256(str(home.resolve()).encode()).hexdigest()[:8]}"


def ending(names: Iterable[str]) -> str:
    """The command that ends all of one's jobs of these names."""
    return f"scancel --me --name={','.join(sorted({*names}))}"


def names_of(comments: Sequence[str]) -> list[str]:
    """What each job is called that is queued or at work under one of these comments; none on a machine without Slurm.

    Raises SlurmAwayError where Slurm doesn't say.
    """
    if shutil.which("squeue") is None:
        return []
    command = ["squeue", "--me", "--noheader", "--format=%j|%k"]
    done = _answer(command)
    if done.returncode:
        raise SlurmAwayError(" ".join(done.stderr.split()) or "squeue fails without a word")
    known = (line.rpartition("|") for line in done.stdout.splitlines())
    return [name for name, _, comment in known if comment in comments]


def literal(path: Path) -> str:
    """A path in which sbatch replaces nothing."""
    return str(path).replace("%", "%%")


def cancel_jobs(jobs: Sequence[str]) -> None:
    """Ask Slurm to end jobs; where it does not answer, nothing happens."""
    if jobs:
        with suppress(SlurmAwayError):
            _answer(["scancel", *jobs])


@dataclass(frozen=True)
class Known:
    """A job as squeue has it."""

    job: str
    state: str
    node: str
    reason: str
    comment: str


class Queue:
    """What `squeue` says of all of our jobs: asked again and again, never waited for."""

    def __init__(self) -> None:
        self.jobs: dict[str, Known] = {}
        self.live: dict[str, Known] = {}
        """By their comments, those that aren't over."""
        self.at = -1.0
        """When the question was asked whose answer this is; negative before the first one."""
        self._asked, self._next = 0.0, 0.0
        self._process: subprocess.Popen[bytes] | None = None
        self._answer: IO[bytes] | None = None

    def refresh(self) -> None:
        """Take in an answer that has come, or ask once it is time to."""
        if self._process is None:
            if time.monotonic() >= self._next:
                self._ask()
        elif self._process.poll() is not None:
            self._take_in()
        elif time.monotonic() - self._asked > COMMAND_S:
            self._process.kill()

    def _ask(self) -> None:
        self._asked, self._answer = time.monotonic(), tempfile.TemporaryFile()  # noqa: SIM115  it outlives this call
        command = ["squeue", "--me", "--noheader", "--states=all", "--format=%i|%T|%N|%r|%k"]
        self._process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=self._answer, stderr=subprocess.DEVNULL, env=_environment(),
            start_new_session=True,
        )  # fmt: skip

    def _take_in(self) -> None:
        assert self._process is not None and self._answer is not None
        took = time.monotonic() - self._asked
        self._next = time.monotonic() + min(max(ASK_EVERY_S, 10 * took), ASK_AFTER_S)
        if self._process.returncode == 0:
            self._answer.seek(0)
            lines = self._answer.read().decode(errors="replace").splitlines()
            known = [Known(*parts) for line in lines if len(parts := line.split("|", 4)) == 5]
            self.jobs = {each.job: each for each in known}
            self.live = {each.comment: each for each in known if each.state not in OVER}
            self.at = self._asked
        self.stop()

    def stop(self) -> None:
        """Ask no more for now."""
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        if self._answer is not None:
            self._answer.close()
        self._process = self._answer = None
