"""Runs in worker processes on this machine, a run a worker at a time; workers are warm and reused."""

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from multiprocessing.connection import Connection, Pipe, wait
from pathlib import Path

from sweep.errors import StudyError
from sweep.executors import Event, RunRequest

HOUSE = str(Path(__file__).resolve().parent.parent.parent)


@dataclass
class _Worker:
    process: subprocess.Popen[bytes]
    pipe: Connection
    run: str | None = None
    spoke: bool = False


class LocalExecutor:
    """Up to `workers` processes, the first started at once, the others when needed; replaced when they die."""

    def __init__(self) -> None:
        self.size = 0
        self.workers: list[_Worker] = []
        self._start()

    def open(self, workers: int, should_stop: Callable[[], bool]) -> None:
        """Set the number of processes."""
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
