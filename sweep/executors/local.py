"""Runs in worker processes on this machine, a run a worker at a time; workers are warm and reused.

The first one is started at once, so that torch is imported while the coordinator, which does without it, opens the study.
On Linux workers are forked by a small program that imports torch for all of them; elsewhere each is a program of its own.
"""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import asdict, dataclass
from itertools import count
from multiprocessing.connection import Connection, Pipe, wait
from typing import TYPE_CHECKING

from depth_loss_sweep.cores import usable_cores
from depth_loss_sweep.errors import StudyError
from depth_loss_sweep.executors import Event, RunRequest
from depth_loss_sweep.executors.cards import VISIBLE, next_card, shared_cards
from depth_loss_sweep.executors.forkserver import FORK, MESSAGE, WAIT
from depth_loss_sweep.executors.packing import Packing, Room
from depth_loss_sweep.usercode import SECRETS

if TYPE_CHECKING:
    from depth_loss_sweep.model.runtime import Machine
    from depth_loss_sweep.paths import Home

MAX_DEATHS = 3
"""So many workers killed before the first one is ready are no accident."""

WAIT_S = 0.5
"""How often a caller hears that the first worker is not ready yet."""

WORKER = "depth_loss_sweep.executors.worker"


def environment() -> dict[str, str]:
    """Ours, without what is secret."""
    return {name: value for name, value in os.environ.items() if name not in SECRETS}


def _program(module: str, inherited: int) -> "subprocess.Popen[bytes]":
    """Run a module of ours that is given a file descriptor and our process number."""
    # -P: whatever the working folder holds, such as a torch.py, is not imported.
    command = [sys.executable, "-P", "-m", module, str(inherited), str(os.getpid())]
    return subprocess.Popen(command, pass_fds=[inherited], stdin=subprocess.DEVNULL, env=environment())


class _ForkServer:
    """Our end of `depth_loss_sweep.executors.forkserver`. What is asked before it is ready waits in its socket."""

    def __init__(self) -> None:
        self.requests, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with closing(theirs):
            self.process = _program("depth_loss_sweep.executors.forkserver", theirs.fileno())
        self.numbers = count()

    @property
    def is_alive(self) -> bool:
        """Whether it can still be asked."""
        return self.process.poll() is None

    def fork(self, pipe: Connection) -> "_Forked":
        """Ask for a worker on that pipe. Where the server is gone, the pipe closes without a word."""
        worker = next(self.numbers)
        with suppress(OSError):
            socket.send_fds(self.requests, [MESSAGE.pack(FORK, worker)], [pipe.fileno()])
        return _Forked(self, worker)

    def close(self) -> None:
        """End it, and with it all of its workers."""
        self.process.kill()
        self.process.wait()
        self.requests.close()


@dataclass
class _Forked:
    """A forked worker, as far as `subprocess.Popen` is needed here. Without its server it is dead, too."""

    server: _ForkServer
    number: int

    def wait(self) -> int:
        """How it ended, or its server: an exit status, or a signal as a negative number."""
        with suppress(OSError):
            self.server.requests.send(MESSAGE.pack(WAIT, self.number))
            while answer := self.server.requests.recv(MESSAGE.size):
                number, code = MESSAGE.unpack(answer)
                if number == self.number:  # else an answer that nobody stayed to hear
                    return int(code)
        return self.server.process.wait()


@dataclass
class _Worker:
    process: "subprocess.Popen[bytes] | _Forked"
    pipe: Connection
    is_ready: bool = False
    has_looked: bool = False
    """Whether it has started CUDA to say what machine this is: it keeps all cards, and computes on the first."""
    card: str = ""
    run: str | None = None


class LocalExecutor:
    """Up to as many processes as it is opened for, started when needed; replaced when they die."""

    def __init__(self, home: "Home | None" = None, packs: bool = False) -> None:
        """With `packs`, as many share a card as it turns out to be worth."""
        self.size, self.packs = 1, packs
        self.packing: Packing | None = None
        self.workers: list[_Worker] = []
        self.server: _ForkServer | None = None
        self.machines: dict[str, Machine] = {}
        self.cards: tuple[str, ...] = ()
        """Where there are several, and a worker is to have one."""
        self._start()

    def open(self, workers: int | None, device: str, should_stop: Callable[[], bool]) -> int:
        """Set the number of processes.

        By default a worker a core on the CPU (one thread each is the fastest way through a sweep), one an accelerator.
        """
        count = len(self.machines[device].cards) if device in self.machines else 0
        self.cards = shared_cards(device, count, os.environ.get(VISIBLE))
        by_default = usable_cores().count if device == "cpu" else max(1, len(self.cards))
        self.size = by_default if workers is None else workers
        self.packing = Packing(self.size) if self.packs and count else None
        return self.size

    def describe(self) -> str:
        """How many processes, on how many cards, and the quota that made them fewer."""
        on = f" on {min(self.size, len(self.cards))} of {len(self.cards)} cards" if self.cards else ""
        return usable_cores().workers(self.size) + on

    def machine(self, device: str, on_wait: Callable[[str], None]) -> "Machine":
        """What an idle worker finds, the first one as a rule; asked once."""
        deaths = 0
        while device not in self.machines:
            worker = self._idle()
            worker.has_looked |= device != "cpu"
            try:
                worker.pipe.send(("machine", device))
                while device not in self.machines:
                    if worker.pipe.poll(WAIT_S):
                        self._received(worker)
                    else:
                        on_wait("")
            except (EOFError, OSError):
                self._buried(worker)
                deaths += 1
                if deaths == MAX_DEATHS:
                    raise StudyError("workers are killed before they are ready: is there memory for one?") from None
        return self.machines[device]

    def free(self) -> int:
        """Idle workers, and those that may still be started."""
        return self.size - sum(worker.run is not None for worker in self.workers)

    def submit(self, request: RunRequest) -> None:
        """Send the run to an idle worker."""
        worker = self._idle()
        worker.run = request.run
        with suppress(OSError):  # it died while idle: the next poll sees the closed pipe and reports the run as died
            self._pin(worker)
            worker.pipe.send(asdict(request))

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
        # Where fewer share a card from now on: an idle worker keeps its part of it.
        spare = max(0, len(self.workers) - self.size)
        for worker in [worker for worker in self.workers if worker.run is None][:spare]:
            self.workers.remove(worker)
            worker.pipe.close()
            worker.process.wait()
        return events

    def cancel(self, run: str) -> None:
        """Tell the run's worker to stop at its next step."""
        for worker in self.workers:
            if worker.run == run:
                with suppress(OSError):  # already dead; poll reports it
                    worker.pipe.send("cancel")

    def detach(self) -> str:
        """No worker outlives its coordinator."""
        self.close()
        return ""

    def close(self) -> None:
        """Kill all workers: what they had finished is in their checkpoints, which are written atomically."""
        if self.server is not None:
            self.server.close()
            self.server = None
        for worker in self.workers:
            if not isinstance(worker.process, _Forked):
                worker.process.kill()
                worker.process.wait()
            with suppress(EOFError, OSError):  # until it is gone, and with it its hold on a run's folder
                while True:
                    worker.pipe.recv()
            worker.pipe.close()
        self.workers.clear()

    def _idle(self) -> _Worker:
        return next((worker for worker in self.workers if worker.run is None), None) or self._start()

    def _pin(self, worker: _Worker) -> None:
        """Give a worker its card, once, where there are several."""
        if not self.cards or worker.card:
            return
        if worker.has_looked:
            worker.card = self.cards[0]
        else:
            worker.card = next_card(self.cards, [each.card for each in self.workers])
            worker.pipe.send(("card", worker.card))

    def _start(self) -> _Worker:
        ours, theirs = Pipe()
        with closing(theirs):
            process = self._forked(theirs) if sys.platform == "linux" else _program(WORKER, theirs.fileno())
        self.workers.append(_Worker(process, ours))
        return self.workers[-1]

    def _forked(self, pipe: Connection) -> _Forked:
        if self.server is not None and not self.server.is_alive:
            self.server.close()
            self.server = None
        self.server = self.server or _ForkServer()
        return self.server.fork(pipe)

    def _received(self, worker: _Worker) -> list[Event]:
        """The next thing a worker says; EOFError or OSError where it says nothing any more."""
        said = worker.pipe.recv()
        worker.is_ready = True
        if isinstance(said, tuple):
            device, self.machines[device] = said
            return []
        if isinstance(said, Room):
            return self._pack(worker.run or "", said)
        heard = [said, *(self._pack("", None) if said.is_of_memory else ())]
        if said.ends:
            worker.run = None
        return heard

    def _pack(self, run: str, room: Room | None) -> list[Event]:
        """Have as many runs share a card as its memory and speed say, by an epoch that ended, or a run that found no room."""
        if self.packing is None:
            return []
        running = sum(worker.run is not None for worker in self.workers)
        heard = self.packing.epoch(run, time.monotonic(), room, running) if room else self.packing.out_of_memory()
        self.size = self.packing.size
        return [Event("", "note", {"text": heard})] if heard else []

    def _buried(self, worker: _Worker) -> list[Event]:
        self.workers.remove(worker)
        worker.pipe.close()
        code = worker.process.wait()
        how = f"by signal {-code}" if code < 0 else f"with exit status {code}"
        if code > 0 and not worker.is_ready:
            raise StudyError(f"a worker could not start: it ended {how}; what it said stands above")
        return [Event(worker.run, "died", {"reason": f"its worker ended {how}"})] if worker.run else []
