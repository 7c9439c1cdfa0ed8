"""How a claim is tested: for and against at once, at looks fixed beforehand, and beside the other claims of its family.

A verdict is what an interval says: a claim is supported where the interval lies wholly in what the claim says, contradicted where
it lies wholly in what contradicts it, and undecided otherwise. Not rejecting is never support. The interval's level is what
the claim's looks and Holm's steps leave of 5 %, so that interval and verdict can't disagree. Pure: arrays in, numbers out.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from scipy import special

from depth_loss_sweep.reports.comparisons import LEVEL, POWER, TINY, fit, smoothed

LOOKS = (5, 10, 20)
"""After so many pairs of seeds a claim is looked at; it stops at the look that decides it."""

SHARES = (0.2, 0.3, 0.5)
"""Of the level, for each look."""

ONCE = (1.0,)
"""The shares of a claim whose number of seeds is fixed."""

Verdict = Literal["supported", "contradicted", "undecided", "not testable here"]
Bounds = Callable[[float], tuple[float, float]]


@dataclass(frozen=True)
class Estimate:
    """An effect with its interval, and over how many seeds."""

    effect: float
    low: float
    high: float
    n: int


@dataclass(frozen=True)
class Test:
    """Two one-sided tests of a claim: p for it, of what it says being false, and p against it.

    The claim's own p is twice the smaller one. `interval` gives the effect's ends at a two-sided level; `sd` is that of paired
    differences (NaN where nothing is paired), in logs where the effect is a share. A claim of several statements has them as
    `parts`; the first ones carry what it says. What speaks against it has a share of the level: it is divided by `division`.
    """

    p_for: float
    p_against: float
    effect: float
    interval: Bounds = field(repr=False, compare=False)
    n: int
    sd: float = math.nan
    parts: tuple["Test", ...] = ()
    division: int = 1

    @property
    def low(self) -> float:
        """The lower end of the effect's 95 % interval."""
        return self.interval(LEVEL)[0]

    @property
    def high(self) -> float:
        """The upper end of the effect's 95 % interval."""
        return self.interval(LEVEL)[1]

    @property
    def p(self) -> float:
        """Of the claim: for and against share the level."""
        return min(1.0, 2 * min(self.p_for, self.p_against))

    def estimates(self, level: float, is_supported: bool) -> tuple[Estimate, ...]:
        """What is shown beside a verdict at this two-sided level, a row a part."""
        if not self.parts:
            return (Estimate(self.effect, *self.interval(level), self.n),)
        of_part = level if is_supported else level / self.division
        return tuple(row for part in self.parts for row in part.estimates(of_part, is_supported))


# Pairs of seeds


@dataclass(frozen=True)
class _Mean:
    """The mean of paired differences, by Student's t and by Hall's (1992) t for skewed values, whichever is more cautious.

    Student's alone makes the family's error .11 where differences have a skewness of 1, with looks at 5 to 20 seeds (.06 with
    Hall's beside it); where they are symmetric, caution costs power (tests/benchmarks/claims.py).
    """

    mean: float
    error: float
    df: int
    skewness: float  # over the square root of n

    def p_above(self, bound: float) -> float:
        """Of the mean not being above the bound."""
        return self._p(self.mean - bound, 1)

    def p_below(self, bound: float) -> float:
        """Of the mean not being below the bound."""
        return self._p(self.mean - bound, -1)

    def _p(self, beyond: float, sign: int) -> float:
        if self.df < 1:
            return 1.0
        if self.error == 0:
            return 0.0 if sign * beyond > 0 else 1.0
        t = beyond / self.error
        return float(special.stdtr(self.df, -sign * np.array([t, self._hall(t)])).max())

    def interval(self, level: float) -> tuple[float, float]:
        """Its ends at a two-sided level."""
        if self.df < 1:
            return -math.inf, math.inf
        t = float(special.stdtrit(self.df, 1 - level / 2))
        low, high = max(t, self._inverse(t)), min(-t, self._inverse(-t))
        return self.mean - low * self.error, self.mean - high * self.error

    def _hall(self, t: float) -> float:
        c = self.skewness
        return t if abs(c) < 1e-6 else ((1 + c * t / 3) ** 3 - 1) / c + c / 6

    def _inverse(self, t: float) -> float:
        c = self.skewness
        return t if abs(c) < 1e-6 else 3 * (float(np.cbrt(1 + c * (t - c / 6))) - 1) / c


@dataclass(frozen=True)
class _Pairs:
    """How much better a is than b, seed by seed: in logs where the effect is a share."""

    gain: _Mean
    sd: float
    is_relative: bool

    def bound(self, margin: float) -> float:
        """A margin as the differences have it."""
        return math.log1p(margin) if self.is_relative else margin

    def test(self, p_for: float, p_against: float) -> Test:
        """Of these pairs, with these p."""
        return Test(
            p_for, p_against, self._told(self.gain.mean), self._interval, self.gain.df + 1, self.sd
        )

    def _interval(self, level: float) -> tuple[float, float]:
        low, high = self.gain.interval(level)
        return self._told(low), self._told(high)

    def _told(self, value: float) -> float:
        return math.expm1(value) if self.is_relative else value


def _pairs(a: np.ndarray, b: np.ndarray, is_relative: bool, higher_is_better: bool) -> _Pairs:
    a, b = np.asarray(a, dtype=float), np.asarray(b, dtype=float)
    if a.shape != b.shape or a.ndim != 1:
        raise ValueError(f"pairs of seeds need two lists of the same length, not {a.shape} and {b.shape}")
    if is_relative:
        a, b = np.log(a), np.log(b)
    gaps = a - b if higher_is_better else b - a
    if not np.isfinite(gaps).all():
        raise ValueError("pairs of seeds need finite values, and positive ones where their ratio counts")
    return _Pairs(_mean(gaps, np.abs([a, b]).max(initial=0.0)), float(gaps.std(ddof=1)) if len(gaps) > 1 else math.nan, is_relative)


def _mean(values: np.ndarray, scale: float) -> _Mean:
    """Of values whose rounding errors are those of numbers of that scale."""
    n = len(values)
    if n < 2:
        return _Mean(float(values[0]) if n else math.nan, math.nan, n - 1, 0.0)
    mean, sd = float(values.mean()), float(values.std(ddof=1))
    if sd <= TINY * scale:
        return _Mean(0.0 if abs(mean) <= TINY * scale else mean, 0.0, n - 1, 0.0)
    rest = (values - mean) / sd
    skewness = float((rest**3).sum()) * n / ((n - 1) * (n - 2)) if n > 2 else 0.0
    return _Mean(mean, sd / math.sqrt(n), n - 1, skewness / math.sqrt(n))


def difference(a: np.ndarray, b: np.ndarray, *, is_relative: bool, higher_is_better: bool = False) -> Test:
    """That a is better than b, by values (seeds,) of the same seeds; against it: that a is worse.

    The effect is a's gain: by which share b is worse (a positive measure's, in logs), or how much (a fraction's).
    """
    pairs = _pairs(a, b, is_relative, higher_is_better)
    return pairs.test(pairs.gain.p_above(0.0), pairs.gain.p_below(0.0))


def equivalence(
    a: np.ndarray,
    b: np.ndarray,
    margin: float,
    *,
    is_relative: bool,
    higher_is_better: bool = False,
    side: Literal["either", "worse"] = "either",
) -> Test:
    """That a and b are within a margin of each other (two one-sided tests: Schuirmann 1987); the effect is a's gain.

    Against it: that they are further apart, either way, or only that a is worse by more.
    """
    pairs = _pairs(a, b, is_relative, higher_is_better)
    gain, bound = pairs.gain, pairs.bound(margin)
    worse = gain.p_below(-bound)
    against = worse if side == "worse" else min(worse, gain.p_above(bound))
    return pairs.test(max(gain.p_above(-bound), gain.p_below(bound)), against)


def non_inferiority(
    a: np.ndarray, b: np.ndarray, margin: float, *, is_relative: bool, higher_is_better: bool = False
) -> Test:
    """That a is worse than b by less than a margin, or better; against it: that it is worse by more."""
    pairs = _pairs(a, b, is_relative, higher_is_better)
    bound = pairs.bound(margin)
    return pairs.test(pairs.gain.p_above(-bound), pairs.gain.p_below(-bound))


def all_of(tests: Sequence[Test]) -> Test:
    """That all of these hold (intersection-union: Berger 1982); one that is contradicted, at its share, contradicts it.

    Effect and interval are those of the weakest.
    """
    weakest = max(tests, key=lambda test: test.p_for)
    against = min(1.0, len(tests) * min(test.p_against for test in tests))
    n = min(test.n for test in tests)
    return Test(weakest.p_for, against, weakest.effect, weakest.interval, n, weakest.sd, tuple(tests), len(tests))


def interior(values: np.ndarray, places: np.ndarray, *, is_relative: bool) -> int:
    """Which weight between the ends of a line is least by the smoother, from (weights, seeds): chosen, and tested on other seeds."""
    y = np.log(values) if is_relative else np.asarray(values, dtype=float)
    curve = smoothed(fit(y[None], np.ones((1, *y.shape), dtype=bool)), places)[0]
    return 1 + int(np.argmin(curve[1:-1]))


def trade_off(chosen: int, values: np.ndarray, margin: float, *, is_relative: bool) -> Test:
    """That a weight between a line's ends beats both, from (weights, seeds) on which it wasn't chosen; less is better.

    Against it: every weight between gains less than the margin over an end. Gains over both ends must be shown, so that each has
    the whole level; against each weight, its two ends share it. Parts: the chosen weight's gain over each end, then every
    weight's gain over the end that is nearer to it.
    """
    ends = (values[0], values[-1])
    own = all_of([difference(values[chosen], end, is_relative=is_relative) for end in ends])
    others = []
    for weight in values[1:-1]:
        gains = [_pairs(weight, end, is_relative, False) for end in ends]
        small = [pairs.test(pairs.gain.p_above(pairs.bound(margin)), pairs.gain.p_below(pairs.bound(margin))) for pairs in gains]
        others.append(min(small, key=lambda test: test.p_against))
    against = min(1.0, len(ends) * max(test.p_against for test in others))
    return Test(own.p_for, against, own.effect, own.interval, own.n, own.sd, (*own.parts, *others), len(ends))


def seeds_needed(sd: float, margin: float, level: float = LEVEL, most: int = 1000) -> int | None:
    """From how many pairs on an effect of the margin is shown with a power of 0.8, by the noise alone; None beyond `most`.

    Never from the observed effect, which would be that of chance. `level` is two-sided.
    """
    raise NotImplementedError


# Looks and families


@dataclass(frozen=True)
class Looks:
    """A claim's tests so far, a look after the other, and each look's share of the level; none where nothing is measured yet."""

    tests: tuple[Test, ...]
    shares: tuple[float, ...] = SHARES

    @property
    def p(self) -> float:
        """The least over the looks, each divided by its share: valid wherever it stops (Bonferroni)."""
        return min((min(1.0, t.p / a) for t, a in zip(self.tests, self.shares)), default=1.0)


@dataclass(frozen=True)
class Finding:
    """What became of a claim in its family.

    `adjusted` is Holm's p; `level` the two-sided level at which `estimates` have their intervals. `test` is the look that decided
    it, or the last one. A claim that is undecided with looks left `is_open`.
    """

    verdict: Verdict
    p: float
    adjusted: float
    level: float
    test: Test | None
    estimates: tuple[Estimate, ...]
    is_open: bool


def holm(p: Mapping[str, float], size: int | None = None) -> dict[str, float]:
    """Adjusted p (Holm 1979) in a family of so many claims; those that aren't given count as 1."""
    size = len(p) if size is None else size
    adjusted, so_far = {}, 0.0
    for step, name in enumerate(sorted(p, key=lambda name: p[name])):
        so_far = max(so_far, min(1.0, (size - step) * p[name]))
        adjusted[name] = so_far
    return {name: adjusted[name] for name in p}


def family(claims: Mapping[str, Looks | None], size: int) -> dict[str, Finding]:
    """The verdicts of a family of so many claims; None is not testable here, and still counts if `size` counts it."""
    raise NotImplementedError
