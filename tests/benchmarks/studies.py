"""Studies that train nothing: the real coordinator, database, sampler and files under runs that are over at once.

What is left is everything that isn't training, and databases of any size to open, resume and report.
"""

import json
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

from depth_loss_sweep.coordinator import Coordinator
from depth_loss_sweep.executors import Event, RunRequest
from depth_loss_sweep.model.backend import this_machine
from depth_loss_sweep.model.names import EXTRA_METRICS, METRICS, TERMS
from depth_loss_sweep.model.runtime import Machine, resolve_runtime
from depth_loss_sweep.paths import Home
from depth_loss_sweep.session import Session, SessionResult
from depth_loss_sweep.spec import StudySpec
from depth_loss_sweep.spec_file import parse_spec
from depth_loss_sweep.study import start

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
        self.events.append(
            Event(request.run, "finished", {"outcome": "learnt", "reason": "made up", "host": "here", "per_image": {}})
        )

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


def made_up(settings: dict[str, Any], epoch: int) -> dict[str, Any]:
    """An epoch record with numbers that depend on weights, seed and epoch."""
    weights = settings["weights"]
    value = 1.0 + 0.3 * (weights["ssim"] - 0.4) ** 2 + 0.02 * settings["seed"] + 0.5 / epoch
    names = ("total", *(f"term_{t}" for t in TERMS), *(f"metric_{m}" for m in (*METRICS, *EXTRA_METRICS)))
    return {
        "epoch": epoch,
        "splits": {split: dict.fromkeys(names, value) for split in ("train", "val")},
        "learning_rate": 1e-3,
        "weights": weights,
        "gradient_share": dict.fromkeys(TERMS, 0.2),
        **dict.fromkeys(("grad_norm_median", "grad_norm_p95", "grad_norm_max"), 1.0),
        "non_finite_steps": 0,
        "images_per_second": 100.0,
        "seconds": 1.0,
        "break_": None,
    }


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
