"""How long a study still takes, by what its workers have trained in this session."""

import statistics
import time
from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from depth_loss_sweep.coordinator import Coordinator

WINDOW = 200
"""So many epochs back are looked at."""

REAL = 0.5
"""An epoch that took less than this share of the time it says it took was not trained now, but read from a checkpoint."""


class Pace:
    """A worker's time an epoch, with all that goes on between epochs and runs; what was taken over has no part in it."""

    def __init__(self) -> None:
        self.since: dict[str, float] = {}
        self.cold: set[str] = set()
        """Runs in their first epoch that were given to a worker before any epoch had come in: its start is in their time, too."""
        self.cold_took: list[float] = []
        self.took: deque[float] = deque(maxlen=WINDOW)

    def begin(self, run: str) -> None:
        """A run was given to a worker."""
        self.since[run] = time.monotonic()
        if not self.took and not self.cold_took:
            self.cold.add(run)

    def epoch(self, run: str, trained: float) -> None:
        """An epoch of a run has come in, which says that it took so many seconds."""
        took, self.since[run] = time.monotonic() - self.since[run], time.monotonic()
        if took >= REAL * trained:
            (self.cold_took if run in self.cold else self.took).append(took)
        self.cold.discard(run)

    def left(self, epochs: int, longest: int, workers: int) -> float | None:
        """Seconds until so many epochs are trained, `longest` of them one after the other; None before the first epoch."""
        took = self.took or self.cold_took
        if not took:
            return None
        return statistics.fmean(took) * max(epochs / max(1, workers), longest)


def seconds_left(coordinator: "Coordinator") -> float | None:
    """About how long a study still takes, with the workers at hand and what they trained in this session; None if unknown."""
    spec, under_way = coordinator.spec, coordinator.trials[coordinator.told :]
    begun = {run.key: run.epochs - run.epoch for trial in under_way for run in trial.runs if not run.ended}
    coming = [(count, epochs) for count, epochs in _coming(coordinator) if count]
    workers = coordinator.executor.free() + len(coordinator.training) + coordinator.queued
    return coordinator.pace.left(
        epochs=sum(begun.values()) + sum(count * epochs for count, epochs in coming),
        longest=max([*begun.values(), *(epochs for _, epochs in coming)], default=0),
        workers=workers if coordinator.race else min(workers, spec.search.parallel * len(spec.seeds)),
    )


def _coming(coordinator: "Coordinator") -> list[tuple[int, int]]:
    """How many runs that aren't asked for yet are to be trained, and for how many epochs each."""
    spec, asked, ahead = coordinator.spec, len(coordinator.trials), coordinator.ahead
    if "train.epochs" in spec.variable_names:
        cells = enumerate(spec.cells[asked:], asked)
        return [(len(spec.seeds) - len(ahead.get(number, ())), int(cell["train.epochs"])) for number, cell in cells]
    runs = (spec.trial_count - asked) * len(spec.seeds) + coordinator.above
    return [(runs - sum(map(len, ahead.values())), spec.train.epochs)]
