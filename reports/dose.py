"""Where along a dose training begins to break: from where on a seed breaks with a probability of 10 %, with the exact interval.

A dose is a weight that grows while the others stay. The runs of one seed aren't independent, so a seed is one try; P(broken)
grows with the dose, and nothing else is assumed of it: neither a shape, nor that a seed that broke breaks from there on.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy import special

from depth_loss_sweep.reports.claims import Test
from depth_loss_sweep.reports.comparisons import LEVEL, isotonic
from depth_loss_sweep.reports.intervals import proportion_interval

ONSET = 0.1
"""Training is unstable from the dose on at which a seed breaks with this probability."""


@dataclass(frozen=True, eq=False)
class Onset:
    """The dose at which P(broken) reaches 10 %: `table` (seeds, places) is 1 where a run broke, 0 where not, NaN without a run.

    Ends are exact for any rising P(broken) and any dependence within seeds. That the onset is after a place is tested on each
    seed's first run there or beyond, where P(broken) is no less; that it is before, on the last run up to there. Places are
    walked from the ends of the line inwards, so that no more than the level is spent (Marcus, Peritz, Gabriel 1976). Drawing seeds
    with replacement, as is usual, is bolder: with 36 seeds an isotonic fit held the truth in .88, a logistic one at a cliff in .05.
    """

    places: tuple[float, ...]
    table: np.ndarray

    @cached_property
    def broken(self) -> np.ndarray:
        """How many runs broke at each place."""
        return np.nansum(self.table, axis=0)

    @cached_property
    def runs(self) -> np.ndarray:
        """How many there are at each place."""
        return np.isfinite(self.table).sum(axis=0)

    @cached_property
    def shares(self) -> np.ndarray:
        """The shares of broken runs as they rise along the dose (isotonic: Ayer et al. 1955)."""
        return isotonic(self.broken / self.runs, self.runs)

    @property
    def place(self) -> float:
        """Where the rising share, linear between places, reaches 10 %; infinite where it doesn't, -inf where it begins above."""
        above = np.flatnonzero(self.shares >= ONSET)
        if not len(above):
            return math.inf
        i = int(above[0])
        if not i:
            return -math.inf if self.shares[0] > ONSET else self.places[0]
        step = (ONSET - self.shares[i - 1]) / (self.shares[i] - self.shares[i - 1])
        return float(self.places[i - 1] + step * (self.places[i] - self.places[i - 1]))

    def p_after(self, place: float) -> float:
        """Of the onset not being after a place (or at it)."""
        i = int(np.searchsorted(self.places, place))
        return max(self._after[: i + 1]) if i < len(self.places) else 1.0

    def p_before(self, place: float) -> float:
        """Of the onset not being before a place (or at it)."""
        i = int(np.searchsorted(self.places, place, side="right")) - 1
        return max(self._before[i:]) if i >= 0 else 1.0

    def interval(self, level: float = LEVEL) -> tuple[float, float]:
        """Its ends at a two-sided level: infinite where it may be before the line begins, or beyond its end."""
        after = [place for place in self.places if self.p_after(place) < level / 2]
        before = [place for place in self.places if self.p_before(place) < level / 2]
        return max(after, default=-math.inf), min(before, default=math.inf)

    @cached_property
    def _after(self) -> tuple[float, ...]:
        """At each place: of so few broken runs, were the onset there or before."""
        counts = [_tries(self.table[:, i:]) for i in range(len(self.places))]
        return tuple(float(special.bdtr(k, n, ONSET)) if n else 1.0 for k, n in counts)

    @cached_property
    def _before(self) -> tuple[float, ...]:
        """At each place: of so many broken runs, were the onset there or beyond."""
        counts = [_tries(self.table[:, i::-1]) for i in range(len(self.places))]
        return tuple(float(special.bdtrc(k - 1, n, ONSET)) if k else 1.0 for k, n in counts)


def _tries(table: np.ndarray) -> tuple[int, int]:
    """How many seeds' first runs broke, and of how many seeds."""
    known = np.isfinite(table)
    first = table[np.arange(len(table)), known.argmax(axis=1)]
    return int(np.nansum(first)), int(known.any(axis=1).sum())


def onset(weights: Sequence[float], seeds: Sequence[int], broken: Sequence[bool]) -> Onset:
    """Where training begins to break, by the runs' doses, seeds and whether they broke: (runs,)."""
    places, column = np.unique(np.asarray(weights, dtype=float), return_inverse=True)
    names, row = np.unique(np.asarray(seeds), return_inverse=True)
    table = np.full((len(names), len(places)), np.nan)
    table[row, column] = np.asarray(broken, dtype=float)
    return Onset(tuple(places.tolist()), table)


def exceeds(found: Onset, beyond: float) -> Test:
    """That runs break more often beyond a dose than up to it; against it: less often. The effect is the odds ratio.

    Exact, and within seeds: given how many of a seed's runs broke, any of them are as likely where the dose doesn't matter (Cox
    1970, 4.3; the exact form of Mantel and Haenszel's test). A seed of which all runs broke, or none, says nothing.
    """
    is_beyond = np.array(found.places) > beyond
    ways, seen = np.ones(1, dtype=object), 0  # whole numbers, however large
    for row in found.table:
        known = np.isfinite(row)
        k, above, below = int(np.nansum(row)), int((known & is_beyond).sum()), int((known & ~is_beyond).sum())
        counts = range(max(0, k - below), min(k, above) + 1)
        ways = np.convolve(
            ways, np.array([math.comb(above, c) * math.comb(below, k - c) for c in counts], dtype=object)
        )
        seen += int(np.nansum(row[is_beyond])) - counts[0]
    count = _Count(np.array([math.log(number) for number in ways]), seen)
    return Test(count.upper(0.0), count.lower(0.0), count.odds(), count.interval, len(found.table))


@dataclass(frozen=True, eq=False)
class _Count:
    """How many runs broke beyond the dose, above the least number possible; in how many ways each number can come, in logs."""

    log_ways: np.ndarray
    seen: int

    def upper(self, log_odds: float) -> float:
        """P of at least so many."""
        return float(self._law(log_odds)[self.seen :].sum())

    def lower(self, log_odds: float) -> float:
        """P of at most so many."""
        return float(self._law(log_odds)[: self.seen + 1].sum())

    def odds(self) -> float:
        """The likeliest odds ratio; NaN where the number was certain."""
        if self._most == 0:
            return math.nan
        if self.seen in (0, self._most):
            return math.inf if self.seen else 0.0
        numbers = np.arange(self._most + 1)
        return _root(lambda log_odds: float(self._law(log_odds) @ numbers) - self.seen)

    def interval(self, level: float) -> tuple[float, float]:
        """Of the odds ratio at a two-sided level."""
        low = _root(lambda log_odds: self.upper(log_odds) - level / 2) if self.seen else 0.0
        high = _root(lambda log_odds: self.lower(log_odds) - level / 2) if self.seen < self._most else math.inf
        return low, high

    @property
    def _most(self) -> int:
        return len(self.log_ways) - 1

    def _law(self, log_odds: float) -> np.ndarray:
        logs = self.log_ways + log_odds * np.arange(len(self.log_ways))
        law: np.ndarray = np.exp(logs - logs.max())
        return law / law.sum()


def _root(of: Callable[[float], float]) -> float:
    """The odds ratio at which a monotone function of its log is 0."""
    from scipy.optimize import brentq  # as in `comparisons`

    return math.exp(brentq(of, -200.0, 200.0))


def instability(found: Onset, beyond: float, within: tuple[float, float], calm: Sequence[float]) -> Test:
    """That training is unstable beyond a dose: it breaks more often beyond it, and its onset lies within these doses.

    Against it: a seed breaks at one of the `calm` doses with a probability below 10 %, by the seeds that have a run at each.
    Parts: the odds ratio, the onset, the probability to break at the calm doses.
    """
    columns = [found.places.index(place) for place in calm]
    at = found.table[:, columns]
    tried = at[np.isfinite(at).all(axis=1)]
    k, n = int(tried.any(axis=1).sum()), len(tried)
    few = float(special.bdtr(k, n, ONSET)) if n else 1.0
    many = float(special.bdtrc(k - 1, n, ONSET)) if k else 1.0
    more = exceeds(found, beyond)
    lies = max(found.p_after(within[0]), found.p_before(within[1]))
    parts = (
        more,
        Test(lies, 1.0, found.place, found.interval, len(found.table)),
        Test(many, few, k / n if n else math.nan, lambda level: proportion_interval(k, n, 1 - level), n),
    )
    return Test(max(more.p_for, lies), few, found.place, found.interval, len(found.table), parts=parts)


def calm_seeds(level: float = LEVEL) -> int:
    """How many seeds without a break show that one breaks with a probability below 10 %, at a two-sided level."""
    return math.floor(math.log(level / 2) / math.log1p(-ONSET)) + 1
