"""Runs in worker processes on this machine, a run a worker at a time; workers are warm and reused.

On Linux the first workers are forked from the coordinator as soon as it has imported torch: one import serves all of them,
and its pages are shared. That is safe as long as the process has computed nothing yet, neither on a GPU nor in threads.
Later ones, and all where the process is not fresh (a notebook, a test), are programs of their own.
"""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from multiprocessing.connection import Connection, Pipe, wait
from pathlib import Path

from sweep.errors import StudyError
from sweep.executors import Event, RunRequest
from sweep.executors.worker import work

HOUSE = str(Path(__file__).resolve().parent.parent.parent)


class _Fork:
    """A forked worker, as far as `subprocess.Popen` is needed here."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.code: int | None = None

    def kill(self) -> None:
        """End it, if it is still there."""
        if self.code is None:
            os.kill(self.pid, signal.SIGKILL)

    def wait(self) -> int:
        """How it ended: an exit status, or a signal as a negative number."""
        if self.code is None:
            self.code = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        return self.code


@dataclass
class _Worker:
    process: "subprocess.Popen[bytes] | _Fork"
    pipe: Connection
    run: str | None = None
    spoke: bool = False


class LocalExecutor:
    """Up to `workers` processes, started at once where they are forked, else when needed; replaced when they die."""

    def __init__(self, workers: int | None) -> None:
        self.size = 0
        self.workers: list[_Worker] = []
        if sys.platform == "linux" and "torch" not in sys.modules:
            import torch

            import model.training  # noqa: F401  before the fork, for all

            # Without CUDA there will be a worker a core; with it, most likely one. See `sweep.study.default_workers`.
            guess = 1 if torch.backends.cuda.is_built() else len(os.sched_getaffinity(0))
            for _ in range(guess if workers is None else workers):
                self._fork()
        else:
            self._start()

    def open(self, workers: int, should_stop: Callable[[], bool]) -> None:
        """Set the number of processes; a worker too many stays idle."""
        self.size = workers

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
                    events.append(self._received(worker, Event(**worker.pipe.recv())))
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
            worker.process.kill()
        for worker in self.workers:
            worker.process.wait()
            worker.pipe.close()
        self.workers.clear()

    def _fork(self) -> None:
        ours, theirs = Pipe()
        coordinator = os.getpid()
        pid = os.fork()
        if pid == 0:
            # The coordinator's ends of the pipes must close when it dies, so nobody else may keep one.
            for pipe in (ours, *(worker.pipe for worker in self.workers)):
                pipe.close()
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
            work(theirs, coordinator)
        theirs.close()
        self.workers.append(_Worker(_Fork(pid), ours))

    def _start(self) -> _Worker:
        ours, theirs = Pipe()
        # -P: the working folder may hold a model.py of the user's; our own house is named instead.
        command = [sys.executable, "-P", "-m", "sweep.executors.worker", str(theirs.fileno()), str(os.getpid())]
        paths = os.pathsep.join([HOUSE, *filter(None, [os.environ.get("PYTHONPATH")])])
        process = subprocess.Popen(
            command,
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            env={**os.environ, "PYTHONPATH": paths},
        )
        theirs.close()
        self.workers.append(_Worker(process, ours))
        return self.workers[-1]

    def _received(self, worker: _Worker, event: Event) -> Event:
        worker.spoke = True
        if event.kind not in ("epoch", "note"):
            worker.run = None
        return event

    def _buried(self, worker: _Worker) -> list[Event]:
        self.workers.remove(worker)
        worker.pipe.close()
        code = worker.process.wait()
        if code > 0 and not worker.spoke:
            raise StudyError(f"a worker could not start (exit status {code}); what it said stands above")
        how = f"by signal {-code}" if code < 0 else f"with exit status {code}"
        return [Event(worker.run, "died", {"reason": f"its worker ended {how}"})] if worker.run else []
