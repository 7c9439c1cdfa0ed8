"""Runs in worker processes on this machine, a run a worker at a time; workers are warm and reused.

The first one is started at once, so that torch is imported while the coordinator, which does without it, opens the study.
On Linux workers are forked by a small program that imports torch for all of them; elsewhere each is a program of its own.
"""

import os
import signal
import socket
import struct
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from dataclasses import asdict, dataclass
from multiprocessing.connection import Connection, Pipe, wait
from pathlib import Path
from typing import TYPE_CHECKING

from sweep.errors import StudyError
from sweep.executors import Event, RunRequest
from sweep.executors.forkserver import NUMBER

if TYPE_CHECKING:
    from model.runtime import Machine

MAX_DEATHS = 3
"""So many workers killed before the first one is ready are no accident."""

HOUSE = str(Path(__file__).resolve().parent.parent.parent)


def _program(module: str, inherited: int) -> "subprocess.Popen[bytes]":
    """Run a module of ours that is given a file descriptor and our process number."""
    # -P: the working folder may hold a model.py of the user's; our own house is named instead.
    command = [sys.executable, "-P", "-m", module, str(inherited), str(os.getpid())]
    paths = os.pathsep.join([HOUSE, *filter(None, [os.environ.get("PYTHONPATH")])])
    return subprocess.Popen(
        command, pass_fds=[inherited], stdin=subprocess.DEVNULL, env={**os.environ, "PYTHONPATH": paths}
    )


class _ForkServer:
    """Our end of `sweep.executors.forkserver`. What is asked before it is ready waits in its socket."""

    def __init__(self) -> None:
        self.requests, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with closing(theirs):
            self.process = _program("sweep.executors.forkserver", theirs.fileno())

    @property
    def is_alive(self) -> bool:
        """Whether it can still be asked."""
        return self.process.poll() is None

    def fork(self, pipe: Connection) -> None:
        """Ask for a worker on that pipe."""
        try:
            socket.send_fds(self.requests, [NUMBER.pack(0)], [pipe.fileno()])
        except OSError:
            pass  # it died: the pipe closes without a word, as it does where the server dies later

    def wait(self, worker: int | None) -> int:
        """How a worker ended; one that never spoke, or whose server is gone, ended as the server did."""
        try:
            if worker is not None:
                self.requests.send(NUMBER.pack(worker))
                (code,) = NUMBER.unpack(self.requests.recv(NUMBER.size))
                return int(code)
        except (OSError, struct.error):
            pass
        return self.process.wait()

    def close(self) -> None:
        """End it, and with it workers that have not spoken yet."""
        self.process.kill()
        self.process.wait()
        self.requests.close()


@dataclass
class _Worker:
    """A worker's pipe, and who is its parent: the fork server, or the worker itself as a program of ours."""

    pipe: Connection
    parent: "_ForkServer | subprocess.Popen[bytes]"
    process: int | None = None
    is_ready: bool = False
    run: str | None = None

    def kill(self) -> None:
        """End it, if it is there."""
        if self.process is not None:
            os.kill(self.process, signal.SIGKILL)

    def wait(self) -> int:
        """How it ended: an exit status, or a signal as a negative number."""
        return self.parent.wait(self.process) if isinstance(self.parent, _ForkServer) else self.parent.wait()


class LocalExecutor:
    """Up to as many processes as it is opened for, started when needed; replaced when they die."""

    def __init__(self) -> None:
        self.size = 1
        self.workers: list[_Worker] = []
        self.server: _ForkServer | None = None
        self.found: Machine | None = None
        self._start()

    def open(self, workers: int, should_stop: Callable[[], bool]) -> None:
        """Set the number of processes."""
        self.size = workers

    def machine(self) -> "Machine":
        """What the first worker found."""
        deaths = 0
        while self.found is None:
            worker = self.workers[0] if self.workers else self._start()
            try:
                self._received(worker)
            except (EOFError, OSError):
                self._buried(worker)
                deaths += 1
                if deaths == MAX_DEATHS:
                    raise StudyError("workers are killed before they are ready: is there memory for one?") from None
        return self.found

    def free(self) -> int:
        """Idle workers, and those that may still be started."""
        return self.size - sum(worker.run is not None for worker in self.workers)

    def submit(self, request: RunRequest) -> None:
        """Send the run to an idle worker."""
        worker = next((w for w in self.workers if w.run is None), None) or self._start()
        worker.run = request.run
        try:
            worker.pipe.send(asdict(request))
        except OSError:
            pass  # it died while idle: the next poll sees the closed pipe and reports the run as died

    def poll(self, timeout: float) -> list[Event]:
        """Events of all workers."""
        events: list[Event] = []
        pipes = {worker.pipe: worker for worker in self.workers}
        for ready in wait(list(pipes), timeout):
            worker = pipes[ready]  # type: ignore[index]
            try:
                while worker.pipe.poll(0):
                    events += self._received(worker)
            except (EOFError, OSError):
                events += self._buried(worker)
        return events

    def cancel(self, run: str) -> None:
        """Tell the run's worker to stop at its next step."""
        for worker in self.workers:
            if worker.run == run:
                try:
                    worker.pipe.send("cancel")
                except OSError:
                    pass  # already dead; poll reports it

    def close(self) -> None:
        """Kill all workers: what they had finished is in their checkpoints, which are written atomically."""
        for worker in self.workers:
            worker.kill()
        for worker in self.workers:
            if worker.process is not None:
                worker.wait()
            worker.pipe.close()
        self.workers.clear()
        if self.server is not None:
            self.server.close()

    def _start(self) -> _Worker:
        ours, theirs = Pipe()
        with closing(theirs):
            if sys.platform == "linux":
                if self.server is not None and not self.server.is_alive:
                    self.server.close()
                    self.server = None
                self.server = self.server or _ForkServer()
                self.server.fork(theirs)
                self.workers.append(_Worker(ours, self.server))
            else:
                self.workers.append(_Worker(ours, _program("sweep.executors.worker", theirs.fileno())))
        return self.workers[-1]

    def _received(self, worker: _Worker) -> list[Event]:
        """The next thing a worker says; EOFError or OSError where it says nothing any more."""
        kind, value = worker.pipe.recv()
        if kind == "process":
            worker.process = value
        elif kind == "machine":
            worker.is_ready, self.found = True, self.found or value
        elif value.kind not in ("epoch", "note"):
            worker.run = None
        return [value] if kind == "event" else []

    def _buried(self, worker: _Worker) -> list[Event]:
        self.workers.remove(worker)
        worker.pipe.close()
        code = worker.wait()
        how = f"by signal {-code}" if code < 0 else f"with exit status {code}"
        if code > 0 and not worker.is_ready:
            raise StudyError(f"a worker could not start: it ended {how}; what it said stands above")
        return [Event(worker.run, "died", {"reason": f"its worker ended {how}"})] if worker.run else []
