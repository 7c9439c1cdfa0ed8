"""Runs as jobs of Slurm: a job a run, known by its comment; what becomes of it stands in the run's folder.

Nothing but the home folder, on a disk that the nodes share, connects a job with its coordinator. That one may stop: jobs go on, and
the next one follows them. RUN/slurm holds the request, which the job reads, a log, which it prints, and a file of events an
attempt, which it alone writes (see `job`). How jobs are is asked by one `squeue` for all; one that fails proves nothing.
"""

import hashlib
import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from depth_loss_sweep import __version__
from depth_loss_sweep.errors import SlurmAwayError, StudyError
from depth_loss_sweep.executors import Event, RunRequest, this_version
from depth_loss_sweep.executors.job import REQUEST, attempts, decoded, finished_attempt, machine_in
from depth_loss_sweep.executors.slurm_commands import (
    OVER,
    QUEUED,
    STUCK,
    Known,
    Queue,
    cancel_jobs,
    comment_of,
    ending,
    literal,
    requests,
    require_slurm,
    seconds_of,
    submit_job,
)
from depth_loss_sweep.files import write_whole
from depth_loss_sweep.paths import SLURM, Home
from depth_loss_sweep.words import counted

if TYPE_CHECKING:
    from depth_loss_sweep.model.runtime import Machine

MOST_JOBS = 64
"""So many are in Slurm at once, unless --workers says otherwise."""
TICK_S = 0.2
HEARING = 4
"""So many times as long as it took to read what jobs say they aren't listened to."""
PATIENCE_S = 70
"""A job that is gone may have said something that a shared disk shows only later: NFS up to a minute (nfs(5), acdirmax)."""
AGAIN_S = 15.0
"""How long nothing is submitted after Slurm took no job."""
SILENT_S = 60.0
END_WAIT_S = 10.0
GRACE = 4
"""One part in so many of a time limit is the most that is left for the last step and the checkpoint."""

NO_NODES = ("--time=", "--account=", "--qos=", "--mem=")
"""What of sbatch's options makes no difference to which nodes a job is given."""
LATER_ON = ("begin_from", "avoid", "label")
"""What of a request makes no difference to a job that is under way."""


@dataclass
class _Job:
    """A run's job, as far as it is followed."""

    request: RunRequest
    folder: Path
    not_before: float = -1.0
    """Only what squeue was asked later than that tells whether Slurm has a job of the run."""
    job: str | None = None
    attempt: int = 0
    offset: int = 0
    heard: float = 0.0
    """When it was placed, or said something."""
    node: str = ""
    """Where its attempt has begun."""
    leaving: str = ""
    """Why its attempt ends, as it said itself."""
    gone: float | None = None
    paths: dict[str, Path] = field(default_factory=dict)

    def events(self, attempt: int) -> Path:
        name = f"{self.job}.{attempt}.jsonl"
        # Of a thousand jobs, paths that are made anew take half of the time to read what was said.
        if name not in self.paths:
            self.paths[name] = self.folder / name
        return self.paths[name]


class SlurmExecutor:
    """Up to as many jobs as it is opened for, each training one run."""

    def __init__(
        self,
        home: Home,
        partition: str | None = None,
        account: str | None = None,
        qos: str | None = None,
        time: str | None = None,
        gpus: str | None = None,
        cpus: int | None = None,
        memory: str | None = None,
        constraint: str | None = None,
        exclude: str | None = None,
        grace: int = 60,
        patience: int = PATIENCE_S,
        python: str | None = None,
        setup: str = "",
        arguments: str = "",
    ) -> None:
        require_slurm()
        given = {
            "partition": partition,
            "account": account,
            "qos": qos,
            "time": time,
            "gres": f"gpu:{gpus}" if gpus else None,
            "mem": memory,
            "constraint": constraint,
        }
        self.options = [f"--{key}={value}" for key, value in given.items() if value]
        self.options += requests(arguments)
        limit = seconds_of(time) if time else None
        self.grace = min(grace, limit // GRACE) if limit else grace
        self.exclude, self.patience = [exclude] if exclude else [], patience
        self.cpus, self.setup, self.python = cpus, setup, python or sys.executable
        self.where = f"partition {partition}" if partition else "the default partition"
        self.home, self.size = home, MOST_JOBS
        self.queue = Queue()
        self.jobs: dict[str, _Job] = {}
        self.over: dict[str, tuple[str, int, float]] = {}
        """The attempts that were followed to their end: run -> job, attempt, when."""
        self.unwanted: dict[str, float] = {}
        """Jobs that were cancelled, and when; one that Slurm has all the same is cancelled again."""
        self.dropped: dict[str, float] = {}
        """Runs that were cancelled before it was known whether they have a job, and when."""
        self.again, self.said = 0.0, set[str]()
        self.since, self.hear_again = 0.0, 0.0

    def open(self, workers: int | None, device: str, should_stop: Callable[[], bool]) -> int:
        """Set how many jobs there may be at once."""
        self.size = MOST_JOBS if workers is None else workers
        self.since = time.monotonic()
        self.queue.refresh()
        return self.size

    def describe(self) -> str:
        """How many jobs, and where."""
        return f"up to {counted(self.size, 'job')} at once in Slurm's {self.where}"

    def machine(self, device: str, on_wait: Callable[[str], None]) -> "Machine":
        """What a job finds on the first node that it is given; asked once a home and choice of nodes, and then kept there."""
        chosen = [option for option in self.options if not option.startswith(NO_NODES)]
        torch, nodes = version("torch"), json.dumps([chosen, self.exclude, self.python, self.setup])
        known = hashlib.sha256(f"{nodes} {__version__} {torch}".encode()).hexdigest()[:16]
        file, log = self.home.slurm / f"{known}.json", self.home.slurm / f"{known}.log"
        if (machine := machine_in(file)) is not None:
            return machine
        file.parent.mkdir(parents=True, exist_ok=True)
        log.unlink(missing_ok=True)
        program = [self.python, "-P", "-m", "depth_loss_sweep.executors.job", "--machine", str(file)]
        about = [
            "--job-name=sweep-machine",
            f"--output={literal(log)}",
            f"--chdir={self.home.root}",
            "--cpus-per-task=1",
        ]
        try:
            job = submit_job(program, self.setup, [*self.options, *about], self.exclude)
        except SlurmAwayError as error:
            raise StudyError(f"Slurm takes no job now ({error}): try again later") from None
        on_wait(f"job {job} of Slurm is to say what machine runs are trained on; waiting for it")
        begun, gone = time.monotonic(), None
        try:
            while (machine := machine_in(file)) is None:
                on_wait("")
                time.sleep(TICK_S)
                self.queue.refresh()
                if self.queue.at > begun and job not in {each.job for each in self.queue.live.values()}:
                    gone = gone or time.monotonic()
                    if time.monotonic() - gone > self.patience:
                        raise StudyError(_never_said(job, log, file.parent, self.queue.jobs.get(job)))
        except BaseException:
            cancel_jobs([job])
            raise
        log.unlink(missing_ok=True)
        return machine

    def free(self) -> int:
        """As many as there are no jobs for yet."""
        return self.size - len(self.jobs)

    def submit(self, request: RunRequest) -> None:
        """Have Slurm train the run, or follow the job that does already: once squeue has said which there are."""
        self.dropped.pop(request.run, None)
        self.jobs[request.run] = _Job(request, Path(request.folder) / SLURM, not_before=time.monotonic())

    def poll(self, timeout: float) -> list[Event]:
        """What jobs have said, and what has become of those that say no more."""
        end = time.monotonic() + timeout
        while True:
            self.queue.refresh()
            self._cancel_again()
            events = [*self._hear(), *self._place_all(end)]
            if events or time.monotonic() >= end:
                return events
            time.sleep(max(0.0, min(TICK_S, end - time.monotonic())))

    def cancel(self, run: str) -> None:
        """End the run's job, one that an earlier session left, too."""
        job = self.jobs.pop(run, None)
        if job is not None and job.job is not None:
            self._unwant(job.job)
        else:
            self.dropped[run] = time.monotonic()

    def detach(self) -> str:
        """Jobs go on, and write down what comes of them."""
        jobs = [job for job in self.jobs.values() if job.job is not None]
        self.jobs.clear()
        self.queue.stop()
        if not jobs:
            return ""
        return (
            f"{counted(len(jobs), 'job')} of Slurm {'goes' if len(jobs) == 1 else 'go'} on, and the next session follows; to end what is "
            f"there: {ending(_name(job.request) for job in jobs)}"
        )

    def close(self) -> None:
        """Cancel all jobs; their checkpoints stay."""
        cancel_jobs([job.job for job in self.jobs.values() if job.job is not None])
        self.jobs.clear()
        self.queue.stop()

    # Which job

    def _place_all(self, end: float) -> Iterator[Event]:
        """Find each run its job; sbatch may take its time, and whoever polls has other things to do."""
        for job in [job for job in self.jobs.values() if job.job is None]:
            if time.monotonic() >= end:
                return
            yield from self._place(job)

    def _place(self, job: _Job) -> Iterator[Event]:
        """Follow the job that Slurm has for the run, or submit one."""
        request, queue = job.request, self.queue
        if queue.at <= job.not_before:
            yield from self._say_silence(request.run)
            return
        if time.monotonic() < self.again:
            return
        is_same, live = self._is_asked_for(job), queue.live.get(self._comment(request.run))
        finished = finished_attempt(job.folder) if is_same else None
        if finished is not None:
            job.job, job.attempt, job.heard = *finished, time.monotonic()
        elif live is None:
            yield from self._submit(job)
        elif not is_same and self._is_anothers(job):
            del self.jobs[request.run]
            yield Event(request.run, "busy")
        elif not is_same and live.job not in self.unwanted:
            self._unwant(live.job)
        elif live.state != "COMPLETING" and live.job not in self.unwanted:
            self._attach(job, live)
            if job.job is not None and live.state in QUEUED:
                yield Event(request.run, "queued")

    def _attach(self, job: _Job, live: Known) -> None:
        """Follow a job; one whose attempt was followed to its end, from its next attempt on."""
        attempt = max((attempt for each, attempt in attempts(job.folder) if each == live.job), default=0)
        before, over, at = self.over.get(job.request.run, ("", 0, 0.0))
        if before == live.job and attempt <= over:
            if self.queue.at <= at or live.state not in QUEUED:
                return  # it is about to end, or to begin again
            attempt = over + 1
        job.job, job.attempt, job.heard = live.job, attempt, time.monotonic()

    def _submit(self, job: _Job) -> Iterator[Event]:
        request = job.request
        job.folder.mkdir(parents=True, exist_ok=True)
        for path in (*job.folder.glob("*.jsonl"), job.folder / "log"):
            path.unlink(missing_ok=True)
        write_whole(job.folder / REQUEST, json.dumps({"version": this_version(), "request": asdict(request)}).encode())
        program = [self.python, "-P", "-m", "depth_loss_sweep.executors.job", str(job.folder)]
        threads = int(request.settings["train"]["threads"])
        about = [
            f"--job-name={_name(request)}",
            f"--comment={self._comment(request.run)}",
            f"--output={literal(job.folder / 'log')}",
            f"--chdir={job.folder}",
            f"--cpus-per-task={self.cpus or threads}",
            f"--signal=B:USR1@{self.grace}",
        ]
        try:
            job.job = submit_job(program, self.setup, [*about, *self.options], [*self.exclude, *request.avoid])
        except SlurmAwayError as error:
            # It may have taken the job before the answer was lost: what squeue says from now on tells.
            self.again = time.monotonic() + AGAIN_S
            job.not_before = time.monotonic()
            yield from self._note(request.run, f"Slurm takes no job now ({error}); it is asked again")
        except StudyError as error:
            if not request.avoid:
                raise
            del self.jobs[request.run]
            reason = f"{', '.join(request.avoid)} failed it, and Slurm has no other node for it: {error}"
            yield Event(request.run, "failed", {"kind": "disk", "reason": reason})
        else:
            job.heard = time.monotonic()
            yield Event(request.run, "queued")

    def _is_asked_for(self, job: _Job) -> bool:
        """Whether what a job of the run was asked for is what is asked for now."""
        there = self._asked_before(job) or {"request": {}}
        now = json.loads(json.dumps({"version": this_version(), "request": asdict(job.request)}))
        for each in (there, now):
            for key in LATER_ON:
                each["request"].pop(key, None)
        return bool(there == now)

    def _is_anothers(self, job: _Job) -> bool:
        """Whether another study asked for what lies in a run's folder."""
        there = self._asked_before(job)
        return there is not None and there["request"].get("label") not in ("", job.request.label)

    def _asked_before(self, job: _Job) -> dict[str, Any] | None:
        """What a job of the run was asked for; None where that isn't known."""
        try:
            return dict(json.loads((job.folder / REQUEST).read_bytes()))
        except (OSError, ValueError):
            return None

    def _comment(self, run: str) -> str:
        return comment_of(self.home.root, run)

    # What becomes of it

    def _hear(self) -> Iterator[Event]:
        """What all jobs have said, and what follows of those that say no more; now and then, as many files are opened for it."""
        begun = time.monotonic()
        if begun < self.hear_again:
            return
        for run, job in list(self.jobs.items()):
            if job.job is not None:
                yield from self._read(job)
                if run in self.jobs:
                    yield from self._judge(job)
        self.hear_again = time.monotonic() + max(TICK_S, HEARING * (time.monotonic() - begun))

    def _read(self, job: _Job) -> Iterator[Event]:
        """What its attempt has said since it was read last; a line that is not whole yet comes later."""
        run = job.request.run
        for kind, payload in self._lines(job):
            job.heard = time.monotonic()
            if kind == "arrived":
                job.node = payload["node"]
            elif kind == "preempted":
                job.leaving = payload["reason"]
            else:
                event = Event(run, kind, payload)  # type: ignore[arg-type]
                if event.ends:
                    self._end(job)
                    if kind == "failed":
                        payload["node"] = job.node
                yield event

    def _lines(self, job: _Job) -> Iterator[tuple[str, dict[str, Any]]]:
        try:
            with job.events(job.attempt).open("rb", buffering=0) as file:
                file.seek(job.offset)
                said = file.read()
        except FileNotFoundError:
            return
        whole = said[: said.rfind(b"\n") + 1]
        job.offset += len(whole)
        yield from map(decoded, whole.splitlines())

    def _judge(self, job: _Job) -> Iterator[Event]:
        """Conclude from what squeue says, if it was asked after the last that is known of the job."""
        assert job.job is not None
        run, known = job.request.run, self.queue.jobs.get(job.job)
        is_next = job.events(job.attempt + 1).exists()
        if self.queue.at <= job.heard and not is_next:
            yield from self._say_silence(run)
            return
        is_next = is_next or any(each == job.job and n > job.attempt for each, n in attempts(job.folder))
        state = known.state if known else ""
        has_begun = bool(job.node or job.leaving)
        if is_next or (state in QUEUED and has_begun):
            self._end(job)
            yield self._left(job)
        elif state and state not in OVER:
            job.gone = None
            if known and state in QUEUED and known.reason.startswith(STUCK):
                yield from self._note(run, f"its job {job.job} waits in Slurm ({known.reason})")
        else:
            job.gone = job.gone or time.monotonic()
            if time.monotonic() - job.gone > self.patience:
                self._end(job)
                yield self._ended(job, state, known.node if known else "")

    def _left(self, job: _Job) -> Event:
        """Its attempt is over, and Slurm has queued the job again: it said why, or its node went."""
        if job.leaving:
            return Event(job.request.run, "preempted", {"reason": job.leaving})
        return Event(job.request.run, "lost", {"node": job.node or "its node"})

    def _ended(self, job: _Job, state: str, node: str) -> Event:
        """Its job is over, without a word on how the run is."""
        run, here = job.request.run, job.node or node
        where = f" on {here}" if here else ""
        said = _last_line(job.folder / "log")
        if state in ("NODE_FAIL", "BOOT_FAIL"):
            return Event(run, "lost", {"node": here or "its node"})
        if state == "CANCELLED":
            return Event(run, "died", {"reason": f"its job {job.job} was cancelled"})
        if state == "PREEMPTED" or job.leaving:
            return Event(run, "preempted", {"reason": job.leaving or f"it had to make room{where}"})
        if state == "TIMEOUT":
            return Event(run, "died", {"reason": f"its time limit was over{where} before it could save its work"})
        if state == "OUT_OF_MEMORY":
            return Event(
                run,
                "failed",
                {"kind": "memory", "reason": f"Slurm ended its job {job.job}{where} for its memory", "node": here},
            )
        if not job.node and state == "FAILED":
            why = (
                said
                or f"nothing can be written to {job.folder} there: is the home folder on a disk that the nodes share?"
            )
            reason = f"its job {job.job} could not begin{where}: {why}"
            return Event(run, "failed", {"kind": "installation" if said else "disk", "reason": reason, "node": here})
        return Event(
            run, "died", {"reason": f"its job {job.job} ended{where} without a result{f': {said}' if said else ''}"}
        )

    def _end(self, job: _Job) -> None:
        assert job.job is not None
        run = job.request.run
        del self.jobs[run]
        self.over[run] = (job.job, job.attempt, time.monotonic())

    def _unwant(self, job: str) -> None:
        cancel_jobs([job])
        self.unwanted[job] = time.monotonic()

    def _cancel_again(self) -> None:
        """Cancel once more what Slurm has though it was cancelled: it may not have answered, or not been asked, then."""
        for run, at in list(self.dropped.items()):
            if self.queue.at > at:
                del self.dropped[run]
                if live := self.queue.live.get(self._comment(run)):
                    self._unwant(live.job)
        for job, at in list(self.unwanted.items()):
            if self.queue.at <= at:
                continue
            known = self.queue.jobs.get(job)
            if known is None or known.state in OVER:
                del self.unwanted[job]
            elif known.state != "COMPLETING":
                self._unwant(job)

    def _say_silence(self, run: str) -> Iterator[Event]:
        if time.monotonic() - max(self.since, self.queue.at) > SILENT_S:
            yield from self._note(run, "Slurm does not answer; jobs go on, and it is asked again")

    def _note(self, run: str, text: str) -> Iterator[Event]:
        """A word, once."""
        if text not in self.said:
            self.said.add(text)
            yield Event(run, "note", {"text": text})


def _name(request: RunRequest) -> str:
    """What the run's job is called in squeue."""
    return f"sweep-{request.label}" if request.label else "sweep"


def _never_said(job: str, log: Path, folder: Path, known: Known | None) -> str:
    """Why no machine is known."""
    where = f" on {known.node}" if known and known.node else ""
    if known and known.state == "CANCELLED":
        return f"the job {job} of Slurm that was to say what machine runs are trained on was cancelled"
    why = _last_line(log) or f"nothing can be written to {folder} there: put --home on a disk that the nodes share"
    return f"the job {job} of Slurm could not begin{where}: {why}"


def _last_line(log: Path) -> str:
    """The last that a job has printed."""
    with suppress(OSError):
        lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
        return next((line.strip() for line in reversed(lines) if line.strip()), "")
    return ""
