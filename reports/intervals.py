"""How sure a number is: intervals, and what seeds share. Numbers in, numbers out."""

import math
from collections.abc import Sequence
from functools import cache
from typing import NamedTuple

import numpy as np
from scipy import special  # not scipy.stats, whose import takes longer than all of this

CONFIDENCE = 0.95


class Interval(NamedTuple):
    """A mean of n values with its standard error and t-interval; NaN where n is too small to say."""

    mean: float
    standard_error: float
    low: float
    high: float
    n: int

    @property
    def half_width(self) -> float:
        """Half of the interval's width, in the values' unit."""
        return (self.high - self.low) / 2


def known(value: float) -> float | None:
    """A finite number; None in place of any other, which JSON has no word for."""
    return float(value) if math.isfinite(value) else None


def t_interval(values: Sequence[float] | np.ndarray, confidence: float = CONFIDENCE) -> Interval:
    """Mean, standard error (sd / sqrt(n), n - 1 degrees of freedom) and Student's t-interval of any values.

    With an infinite value the mean is infinite; with a NaN, or none at all, it is NaN. One has no interval.
    """
    n = len(values)
    if n < 2:
        return Interval(float(values[0]) if n else math.nan, math.nan, math.nan, math.nan, n)
    mean, deviation = _mean_and_deviation(values)
    if not math.isfinite(mean):
        return Interval(mean, math.nan, math.nan, math.nan, n)
    error = deviation / math.sqrt(n)
    half = _t_quantile(n - 1, confidence) * error
    return Interval(mean, error, mean - half, mean + half, n)


def _mean_and_deviation(values: Sequence[float] | np.ndarray) -> tuple[float, float]:
    """Of a handful, as a seed's values are, by hand: numpy takes ten times as long, and below eight adds up in the same order."""
    n = len(values)
    if n < 8:
        known = [float(v) for v in values]
        mean = sum(known) / n
        return mean, math.sqrt(sum((v - mean) ** 2 for v in known) / (n - 1)) if math.isfinite(mean) else math.nan
    array = np.asarray(values, dtype=float)
    mean = float(array.mean())
    return mean, float(array.std(ddof=1)) if math.isfinite(mean) else math.nan


@cache
def _t_quantile(freedom: int, confidence: float) -> float:
    return float(special.stdtrit(freedom, (1 + confidence) / 2))


def proportion_interval(hits: int, n: int, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """The exact interval of a probability after `hits` in `n` tries (Clopper, Pearson 1934): 0 of 5 is 0 to 0.52."""
    tail = (1 - confidence) / 2
    low = float(special.betaincinv(hits, n - hits + 1, tail)) if hits else 0.0
    high = float(special.betaincinv(hits + 1, n - hits, 1 - tail)) if hits < n else 1.0
    return low, high


def seed_correlation(values: np.ndarray) -> float:
    """How much of the spread over seeds is shared by all trials, from finite values of shape (trials, seeds).

    The intraclass correlation of a two-way table without replicates, ICC(3,1) of Shrout and Fleiss 1979 with
    seeds as subjects: 1 where a seed shifts every trial alike, 0 where seeds do not carry over. NaN below two
    of either.
    """
    trials, seeds = values.shape if values.ndim == 2 else (0, 0)
    if trials < 2 or seeds < 2:
        return math.nan
    grand = values.mean()
    by_trial, by_seed = values.mean(axis=1, keepdims=True), values.mean(axis=0, keepdims=True)
    seed_square = trials * float(((by_seed - grand) ** 2).sum()) / (seeds - 1)
    rest = values - by_trial - by_seed + grand
    rest_square = float((rest**2).sum()) / ((trials - 1) * (seeds - 1))
    total = seed_square + (trials - 1) * rest_square
    return (seed_square - rest_square) / total if total > 0 else math.nan


def rank_correlation(one: Sequence[float], other: Sequence[float]) -> float:
    """Spearman's, of finite values; equal ones share their mean rank. NaN where one of the two doesn't vary."""
    first, second = _ranks(one), _ranks(other)
    spread = first.std() * second.std()
    return float(np.cov(first, second, bias=True)[0, 1] / spread) if spread > 0 else math.nan


def rank_interval(correlation: float, n: int, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """The interval of Spearman's correlation of n pairs, by Fisher's z with the variance of Bonett and Wright (2000).

    NaN below four pairs, or where there is no correlation. A perfect one counts as half a step of neighbouring ranks less.
    """
    if n < 4 or math.isnan(correlation):
        return math.nan, math.nan
    most = 1 - 6 / (n * (n**2 - 1))
    z = math.atanh(max(-most, min(most, correlation)))
    half = float(special.ndtri((1 + confidence) / 2)) * math.sqrt((1 + correlation**2 / 2) / (n - 3))
    return math.tanh(z - half), math.tanh(z + half)


def _ranks(values: Sequence[float]) -> np.ndarray:
    _, places, counts = np.unique(np.asarray(values, dtype=float), return_inverse=True, return_counts=True)
    ranks: np.ndarray = (counts.cumsum() - (counts - 1) / 2)[places]
    return ranks
