"""How long a study still takes, by what its workers have trained in this session."""

import statistics
import time
from collections import deque

WINDOW = 200
"""So many epochs back are looked at."""

REAL = 0.5
"""An epoch that took less than this share of the time it says it took was not trained now, but read from a checkpoint."""


class Pace:
    """A worker's time an epoch, with all that goes on between epochs and runs; what was taken over has no part in it."""

    def __init__(self) -> None:
        self.since: dict[str, float] = {}
        self.took: deque[float] = deque(maxlen=WINDOW)

    def begin(self, run: str) -> None:
        """A run was given to a worker."""
        self.since[run] = time.monotonic()

    def epoch(self, run: str, trained: float) -> None:
        """An epoch of a run has come in, which says that it took so many seconds."""
        took = time.monotonic() - self.since[run]
        self.begin(run)
        if took >= REAL * trained:
            self.took.append(took)

    def left(self, epochs: int, longest: int, workers: int) -> float | None:
        """Seconds until so many epochs are trained, `longest` of them one after the other; None before the first epoch."""
        if not self.took:
            return None
        return statistics.fmean(self.took) * max(epochs / max(1, workers), longest)
