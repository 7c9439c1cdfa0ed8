"""Runs in this process (`--workers 0`): one at a time, an event a poll. For debuggers, notebooks and small machines."""

import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from depth_loss_sweep.executors import Event, RunRequest
from depth_loss_sweep.executors.worker import train_run
from depth_loss_sweep.usercode import as_guest

if TYPE_CHECKING:
    from depth_loss_sweep.model.runtime import Machine
    from depth_loss_sweep.paths import Home


class InlineExecutor:
    """Trains in the coordinator's own process; the same numbers as any number of workers."""

    def __init__(self, home: "Home | None" = None) -> None:
        self.should_stop: Callable[[], bool] = lambda: False
        self.run: str | None = None
        self.cancelled = False
        self.events: Iterator[Event] = iter(())

    def open(self, workers: int | None, device: str, should_stop: Callable[[], bool]) -> int:
        """Remember whom to ask at every step."""
        self.should_stop = should_stop
        return 0

    def describe(self) -> str:
        """This process."""
        return "in this process"

    def machine(self, device: str, on_wait: Callable[[str], None]) -> "Machine":
        """This one."""
        from depth_loss_sweep.model.backend import this_machine

        return this_machine(device)

    def free(self) -> int:
        """One run at a time."""
        return int(self.run is None)

    def submit(self, request: RunRequest) -> None:
        """Begin the run; it goes on at each poll."""
        self.run, self.cancelled = request.run, False
        self.events = train_run(request, lambda: self.cancelled or self.should_stop())

    def poll(self, timeout: float) -> list[Event]:
        """Train until the next event."""
        if self.run is None:
            time.sleep(timeout)  # waiting for a run that another process trains
        with as_guest():
            event = next(self.events, None)
        if event is None or event.ends:
            self.run = None
        return [event] if event is not None else []

    def cancel(self, run: str) -> None:
        """Stop the run at its next step."""
        self.cancelled = self.cancelled or run == self.run

    def detach(self) -> str:
        """Nothing goes on without this process."""
        self.close()
        return ""

    def close(self) -> None:
        """Let go of the run; its checkpoint stays."""
        self.events = iter(())
        self.run = None
