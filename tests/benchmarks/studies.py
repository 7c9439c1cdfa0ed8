"""Studies that train nothing: the real coordinator, database, sampler and files under runs that are over at once.

What is left is everything that isn't training, and databases of any size to open, resume and report.
"""

import json
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from depth_loss_sweep.coordinator import Coordinator
from depth_loss_sweep.executors import Event, RunRequest
from depth_loss_sweep.model.backend import this_machine
from depth_loss_sweep.model.runtime import Machine, resolve_runtime
from depth_loss_sweep.paths import Home
from depth_loss_sweep.session import Session, SessionResult
from depth_loss_sweep.spec import StudySpec
from depth_loss_sweep.spec_file import parse_spec
from depth_loss_sweep.study import start
from tests.benchmarks.made_up import MADE_UP, made_up

GRID = """
[study]
name = "growth"
seeds = {seeds}
[data]
image_size = 16
rooms = 6
[model]
width = 1
[train]
epochs = {epochs}
schedule = "constant"
[search]
parallel = {parallel}
w = {{ from = 0.0, to = 0.{last:05}, step = 0.00001 }}
[weights]
silog = "0.9 - w"
ssim = "w"
l1 = 0.1
"""
SEARCH = """
[study]
name = "search"
seeds = {seeds}
[data]
image_size = 16
rooms = 6
[model]
width = 1
[train]
epochs = {epochs}
[search]
sampler = "tpe"
trials = {trials}
parallel = {parallel}
simplex = ["silog", "ssim", "edge", "l1"]
"""


class InstantExecutor:
    """Every run is over as soon as it is submitted, with made-up numbers that depend on its weights and seed."""

    def __init__(self, slots: int = 4) -> None:
        self.slots = slots
        self.events: list[Event] = []

    def open(self, workers: int | None, device: str, should_stop: Callable[[], bool]) -> int:
        """Nothing to start."""
        return self.slots

    def describe(self) -> str:
        """As workers."""
        return f"{self.slots} workers"

    def machine(self, device: str, on_wait: Callable[[str], None]) -> Machine:
        """This one."""
        return this_machine(device)

    def free(self) -> int:
        """As many as there are slots."""
        return self.slots - sum(event.kind == "finished" for event in self.events)

    def submit(self, request: RunRequest) -> None:
        """All epochs and the end of the run, at once."""
        for epoch in range(1, request.settings["train"]["epochs"] + 1):
            self.events.append(Event(request.run, "epoch", made_up(request.settings, epoch)))
        self.events.append(Event(request.run, "finished", dict(MADE_UP)))

    def poll(self, timeout: float) -> list[Event]:
        """All that was submitted."""
        events, self.events = self.events, []
        return events

    def cancel(self, run: str) -> None:
        """It is over already."""

    def detach(self) -> str:
        """Nothing goes on."""
        return ""

    def close(self) -> None:
        """Nothing to end."""


class Silent:
    """A display that shows nothing."""

    def preparing(self, done: int, total: int) -> None:
        """Nothing."""

    def update(self, coordinator: Coordinator) -> None:
        """Nothing."""

    def note(self, text: str) -> None:
        """Nothing."""


def grid_spec(trials: int, seeds: int = 1, epochs: int = 1, parallel: int = 4) -> StudySpec:
    """A line of so many weights."""
    text = GRID.format(seeds=list(range(seeds)), epochs=epochs, parallel=parallel, last=trials - 1)
    return parse_spec(text, {})


def search_spec(trials: int, seeds: int = 1, epochs: int = 1, parallel: int = 4) -> StudySpec:
    """TPE on the simplex for so many trials."""
    return parse_spec(SEARCH.format(seeds=list(range(seeds)), epochs=epochs, parallel=parallel, trials=trials), {})


def conduct(spec: StudySpec, root: Path, slots: int = 4) -> tuple[SessionResult, float]:
    """Start (or resume, or grow) a study that trains nothing; returns how it ended and the wall seconds it took."""
    with closing(InstantExecutor(slots)) as executor:
        session = Session(Home(root), None, slots, "cpu", executor, "benchmark", Silent(), lambda: False)
        begun = time.perf_counter()
        end = start(spec, {}, session)
        return end, time.perf_counter() - begun


def warm_up(root: Path) -> None:
    """Import all that a study imports, and render its pictures."""
    conduct(grid_spec(2), root)
    json.dumps(resolve_runtime("cpu", grid_spec(2).train, this_machine("cpu")).as_dict())
