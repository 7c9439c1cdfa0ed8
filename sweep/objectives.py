"""What a study minimises or maximises, and what a run and a trial are worth by it: one rule for all that ask.

A run is worth the mean of the objective over its last epochs. One that went non-finite is worth the worst infinity, and so is
one whose mean is infinite. A run that is finite while the metric is not defined on the pictures that judge it (boundary_f1
where no truth has a boundary, rmse_far where nothing is far) is worth NaN, which is no value: it did not diverge, so nobody
may say so, and it is compared with no other.

A trial is worth the mean over its runs; where one of them has no finite value, the worst infinity: survivors are never
averaged alone, and Optuna, which takes no NaN for a finished trial, isn't drawn to where there is nothing to see.
"""

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from depth_loss_sweep.model.names import ALL_METRICS
from depth_loss_sweep.model.settings import OwnMetric

COMBINED, TOTAL = "combined", "total"
OBJECTIVES = (*(f"val_{metric}" for metric in ALL_METRICS), COMBINED)


@dataclass(frozen=True)
class StudyObjective:
    """The number by which a study's trials are told to Optuna: a column of the table of epochs, on val."""

    column: str
    """As records and tables call it: "metric_rmse", or "total"."""
    window: int
    """So many last epochs make a run's value."""
    higher_is_better: bool

    @classmethod
    def named(
        cls, name: str, value: Literal["last"] | int, own: Mapping[str, OwnMetric] | None = None
    ) -> "StudyObjective":
        """As a spec says it: [study] objective and value; `own` are the study's own metrics."""
        metric = name.removeprefix("val_")
        column = TOTAL if name == COMBINED else f"metric_{metric}"
        if own and metric in own:
            is_higher = own[metric].better == "higher"
        else:
            is_higher = metric in ALL_METRICS and ALL_METRICS[metric].higher_is_better
        return cls(column, 1 if value == "last" else value, is_higher)

    @property
    def name(self) -> str:
        """As a spec calls it: "val_rmse", or "combined"."""
        return COMBINED if self.column == TOTAL else f"val_{self.column.removeprefix('metric_')}"

    @property
    def direction(self) -> Literal["minimize", "maximize"]:
        """As Optuna calls it."""
        return "maximize" if self.higher_is_better else "minimize"

    @property
    def worst(self) -> float:
        """The worst infinity."""
        return -math.inf if self.direction == "maximize" else math.inf

    def value_of_run(self, curve: Sequence[float], outcome: str | None) -> float:
        """What a run is worth, by its epochs' values and how it ended; NaN where it has no value."""
        mean = statistics.fmean(curve[-self.window :]) if curve else math.nan
        return self.worst if outcome == "non_finite" or math.isinf(mean) else mean

    def value_of_trial(self, runs: Sequence[float]) -> float:
        """What a trial is worth, by what its runs are."""
        return statistics.fmean(runs) if all(map(math.isfinite, runs)) else self.worst
