"""A run as a job of its own: `python -m depth_loss_sweep.executors.job FOLDER` trains FOLDER/request.json (see `slurm`).

What becomes of it stands in FOLDER/JOB.ATTEMPT.jsonl, a line an event, written after the checkpoint that holds it, by this process
alone; whoever wants to know reads on from where it stopped reading. Whether anybody does makes no difference to it.

SIGUSR1 says that the time limit is near, SIGTERM that the job must leave its node: it stops at its next step, with its checkpoint,
and is queued again, unless it was cancelled. With `--machine FILE` in place of the folder it says what machine this is, and ends.
"""

import dataclasses
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from depth_loss_sweep.executors import RunRequest, other_version, this_version
from depth_loss_sweep.files import write_whole

if TYPE_CHECKING:
    from depth_loss_sweep.model.runtime import Machine

REQUEST = "request.json"
BUSY_WAIT_S, BUSY_LOOK_S = 120.0, 2.0
"""How long a job waits for a run's folder: on a node that was lost, the attempt before may still be at work."""
ASK_S = 30.0


def encoded(kind: str, payload: Any) -> str:
    """An event as a line. Arrays keep their type, since a float32 is written otherwise than the same number as a float64."""
    return json.dumps({"kind": kind, "payload": payload}, default=_array) + "\n"


def decoded(line: bytes) -> tuple[str, dict[str, Any]]:
    """What `encoded` wrote."""
    said = json.loads(line, object_hook=_restored)
    return said["kind"], said["payload"]


def _array(value: Any) -> Any:
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray):
        return {"dtype": value.dtype.str, "values": value.tolist()}
    raise TypeError(f"{type(value).__name__} is none of an event's types")


def _restored(value: dict[str, Any]) -> Any:
    return np.array(value["values"], value["dtype"]) if value.keys() == {"dtype", "values"} else value


def attempts(folder: Path) -> list[tuple[str, int]]:
    """The attempts that have said something: job and attempt, the newest last."""
    parts = (path.name.split(".") for path in folder.glob("*.jsonl"))
    return sorted(((job, int(attempt)) for job, attempt, _ in parts), key=lambda each: (int(each[0]), each[1]))


def finished_attempt(folder: Path) -> tuple[str, int] | None:
    """The newest attempt, if it came to the run's end."""
    for job, attempt in attempts(folder)[-1:]:
        lines = (folder / f"{job}.{attempt}.jsonl").read_bytes().splitlines(keepends=True)
        if lines and lines[-1].endswith(b"\n") and decoded(lines[-1])[0] == "finished":
            return job, attempt
    return None


class Attempt:
    """This job, since it was begun last: what it says, and what it is told."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.job, self.number = os.environ["SLURM_JOB_ID"], os.environ.get("SLURM_RESTART_COUNT", "0")
        self.node = os.environ.get("SLURMD_NODENAME") or socket.gethostname()
        self.signal: int | None = None
        self.out: IO[str] | None = None
        for number in (signal.SIGTERM, signal.SIGUSR1):
            signal.signal(number, self._told)

    def _told(self, number: int, _frame: object) -> None:
        self.signal = number

    def should_stop(self) -> bool:
        """Whether it has to leave its node."""
        return self.signal is not None

    def train(self) -> None:
        """Train the run, and say so."""
        with (self.folder / f"{self.job}.{self.number}.jsonl").open("a", encoding="utf-8") as self.out:
            self.say("arrived", {"node": self.node})
            given = json.loads((self.folder / REQUEST).read_text(encoding="utf-8"))
            if given["version"] != this_version():
                reason = other_version(self.node, this_version(), given["version"])
                self.say("failed", {"kind": "installation", "reason": reason})
                return
            request = RunRequest(**given["request"])
            begun = time.monotonic()
            while not self._trained(request, time.monotonic() - begun < BUSY_WAIT_S):
                time.sleep(BUSY_LOOK_S)

    def _trained(self, request: RunRequest, may_wait: bool) -> bool:
        """Train; False where another process holds the run's folder, and may still let go of it."""
        from depth_loss_sweep.executors.worker import train_run
        from depth_loss_sweep.model.checkpoint import newest_checkpoint

        before = newest_checkpoint(Path(request.folder))
        known = epoch = before.epoch if before else 0
        for event in train_run(request, self.should_stop):
            if event.kind == "busy" and may_wait and not self.should_stop():
                return False
            if event.kind == "stopped":
                self._leave(has_come_on=epoch > known)
                break
            if event.kind == "epoch":
                epoch = event.payload["epoch"]
            self.say(event.kind, event.payload)
        return True

    def _leave(self, has_come_on: bool) -> None:
        """Say why, and be queued again; Slurm does that by itself for neither a time limit nor a job that ends in time."""
        if self.signal == signal.SIGUSR1 and not has_come_on:
            self.say(
                "died", {"reason": "its time limit came before the end of an epoch: give it more, with --option time="}
            )
            return
        why = "its time limit came" if self.signal == signal.SIGUSR1 else "it had to make room"
        self.say("preempted", {"reason": f"{why} on {self.node}"})
        if self.signal == signal.SIGUSR1 or self._state() == "RUNNING":  # else it was cancelled
            subprocess.run(["scontrol", "requeue", self.job], timeout=ASK_S, check=False)

    def _state(self) -> str:
        asked = ["squeue", "--noheader", f"--jobs={self.job}", "--format=%T"]
        return subprocess.run(asked, timeout=ASK_S, check=False, capture_output=True, text=True).stdout.strip()

    def say(self, kind: str, payload: dict[str, Any]) -> None:
        """Write an event so that another machine can read it."""
        assert self.out is not None
        self.out.write(encoded(kind, payload))
        self.out.flush()
        os.fsync(self.out.fileno())


def machine_in(file: Path) -> "Machine | None":
    """What a job has found."""
    from depth_loss_sweep.model.runtime import Machine

    try:
        found = json.loads(file.read_bytes())["machine"]
    except OSError:
        return None
    pairs = tuple((name, value) for name, value in found["instructions"])
    return Machine(**{**found, "cards": tuple(found["cards"]), "instructions": pairs})


def main() -> None:
    """Entry point."""
    if sys.argv[1] == "--machine":
        from depth_loss_sweep.model.backend import this_machine

        found = {"version": this_version(), "machine": dataclasses.asdict(this_machine("auto"))}
        write_whole(Path(sys.argv[2]), json.dumps(found).encode())
    else:
        Attempt(Path(sys.argv[1])).train()


if __name__ == "__main__":
    main()
