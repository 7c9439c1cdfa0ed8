"""What a trial amounts to over its seeds, for one measure; and weights compared up to scale."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from depth_loss_sweep.reports.intervals import Interval, t_interval

LEARNT, MEDIAN_ONLY = "learnt", "median_only"
"""How a run ended that beats the training median, and how the page tells one that beats no other trivial predictor."""

FAILED = "failed"
"""How a run ended by an error, ours or the machine's."""
TOLD = {"complete", "pruned", FAILED}
"""States of a trial that nothing is trained for any more."""


class SeedValue(NamedTuple):
    """One run's final value: NaN while it is missing, the worst infinity where the run went non-finite.

    `broke` says whether training itself broke: flat, non-finite, or spiking without beating the training median.
    """

    run: str
    seed: int
    value: float
    outcome: str  # as the record has it, "failed", or the run's state while it has none
    is_finished: bool = True
    broke: bool | None = None  # None while there is no outcome


@dataclass(frozen=True)
class TrialResult:
    """A trial over its seeds, for one measure.

    With a diverged seed its mean is infinite: survivors are never averaged alone.
    """

    number: int
    label: str
    weights: Mapping[str, float]
    params: Mapping[str, Any]  # the swept values
    state: str
    expected: int
    seeds: tuple[SeedValue, ...]

    @cached_property
    def interval(self) -> Interval:
        """Mean and 95 % t-interval over the seeds that have a value so far."""
        return t_interval(self.values)

    @property
    def values(self) -> tuple[float, ...]:
        """The final values of the seeds that have one so far."""
        return tuple(s.value for s in self.seeds if not math.isnan(s.value))

    @property
    def mean(self) -> float:
        """The mean over the seeds that have a value so far."""
        return self.interval.mean

    @property
    def is_complete(self) -> bool:
        """Whether every seed the study asks for has a value: only then is a trial compared."""
        return self.state not in ("pruned", "failed") and self.interval.n >= max(self.expected, 1)

    @property
    def broken(self) -> int:
        """How many runs broke: ended flat, spiking or non-finite."""
        return sum(s.broke is True for s in self.seeds)

    @property
    def finished(self) -> int:
        """How many runs have an outcome."""
        return sum(s.broke is not None for s in self.seeds)


def has_broken(
    outcome: str, value: float, outcomes: Mapping[str, bool], median: float | None, higher_is_better: bool
) -> bool | None:
    """Whether training broke in a run that ended so, by its final value and the training-median predictor's.

    A spike after which the network still beats that predictor broke nothing. None of a run that has no outcome.
    """
    if outcome != "spiking" or median is None:
        return outcomes.get(outcome)
    return outcomes.get(outcome) and not (value > median if higher_is_better else value < median)


def normalised(weights: Mapping[str, float], terms: tuple[str, ...]) -> np.ndarray:
    """The weights of some terms, scaled to sum to 1: Adam ignores a loss's overall scale. Shape (terms,)."""
    array = np.array([weights.get(t, 0.0) for t in terms], dtype=float)
    total = array.sum()
    return array / total if total > 0 else array


def is_equal(weights: Mapping[str, float], terms: tuple[str, ...]) -> bool:
    """Whether all of these terms weigh the same."""
    return len(terms) > 1 and are_close(normalised(weights, terms), np.full(len(terms), 1 / len(terms)))


def are_close(found: np.ndarray, wanted: np.ndarray) -> bool:
    """Whether normalised weights are these, but for rounding."""
    return bool((np.abs(found - wanted) <= 1e-6 + 1e-5 * wanted).all())
