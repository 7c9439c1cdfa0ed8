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

from depth_loss_sweep.reports.comparisons import LEVEL, TINY, fit, smoothed
from depth_loss_sweep.reports.scenes import SAME

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
    """An effect with its interval at a two-sided level, and over how many seeds."""

    effect: float
    low: float
    high: float
    n: int
    level: float


@dataclass(frozen=True, eq=False)
class Pairs:
    """A statement on pairs of seeds: the mean of their gains (in logs where `is_relative`) is above `low` and below `high`."""

    gains: np.ndarray
    low: float
    high: float
    is_relative: bool

    def p(self, gains: np.ndarray) -> np.ndarray:
        """Of the statement being false, by other gains: (..., seeds)."""
        return _mean(gains, float(np.abs(gains).max(initial=0.0))).p_between(self.low, self.high)


@dataclass(frozen=True)
class Test:
    """Two one-sided tests of a claim: p for it, of what it says being false, and p against it.

    The claim's own p is twice the smaller one. `interval` gives the effect's ends at a two-sided level, `n` counts seeds. A claim
    of several statements has them as `parts`, the first ones of them for what it says; where any of `division` statements
    contradicts it, each has so small a share of the level. `pairs` are the statements that all must be shown to support it,
    none where nothing is paired.
    """

    p_for: float
    p_against: float
    effect: float
    interval: Bounds = field(repr=False, compare=False)
    n: int
    parts: tuple["Test", ...] = ()
    division: int = 1
    pairs: tuple[Pairs, ...] = field(default=(), repr=False, compare=False)

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

    @property
    def leaves(self) -> tuple["Test", ...]:
        """The statements that it consists of, in the order of `estimates`."""
        return tuple(leaf for part in self.parts for leaf in part.leaves) or (self,)

    def estimates(self, level: float, is_supported: bool) -> tuple[Estimate, ...]:
        """What is shown beside a verdict at this two-sided level, a row a part."""
        if not self.parts:
            return (Estimate(self.effect, *self.interval(level), self.n, level),)
        of_part = level if is_supported else level / self.division
        return tuple(row for part in self.parts for row in part.estimates(of_part, is_supported))


# Pairs of seeds


@dataclass(frozen=True, eq=False)
class _Mean:
    """The mean of paired differences, by Student's t and by Hall's for skewed values, whichever is more cautious; one or many.

    Hall 1992, On the removal of skewness by transformation. By Student's alone, nine claims with their looks err in .11 of studies
    whose differences have a skewness of 1, in .06 with Hall's beside it (tests/benchmarks/claims.py).
    """

    mean: np.ndarray
    error: np.ndarray
    df: int
    skewness: np.ndarray  # over the square root of n

    def p_above(self, bound: float) -> np.ndarray:
        """Of the mean not being above the bound."""
        return self._p(self.mean - bound, 1)

    def p_below(self, bound: float) -> np.ndarray:
        """Of the mean not being below the bound."""
        return self._p(self.mean - bound, -1)

    def p_between(self, low: float, high: float) -> np.ndarray:
        """Of the mean not being between them; `high` may be infinite."""
        above = self.p_above(low)
        return above if math.isinf(high) else np.maximum(above, self.p_below(high))

    def _p(self, beyond: np.ndarray, sign: int) -> np.ndarray:
        if self.df < 1:
            return np.ones_like(self.mean)
        is_exact = self.error == 0
        t = beyond / np.where(is_exact, 1.0, self.error)
        p = special.stdtr(self.df, -sign * np.array([t, self._hall(t)])).max(axis=0)
        return np.where(is_exact, np.where(sign * beyond > 0, 0.0, 1.0), p)

    def interval(self, level: float) -> tuple[float, float]:
        """Its ends at a two-sided level."""
        if self.df < 1:
            return -math.inf, math.inf
        t = float(special.stdtrit(self.df, 1 - level / 2))
        low, high = max(t, self._inverse(t)), min(-t, self._inverse(-t))
        return float(self.mean - low * self.error), float(self.mean - high * self.error)

    def _hall(self, t: np.ndarray) -> np.ndarray:
        is_even = np.abs(self.skewness) < 1e-6
        c = np.where(is_even, 1.0, self.skewness)
        return np.where(is_even, t, ((1 + c * t / 3) ** 3 - 1) / c + c / 6)

    def _inverse(self, t: float) -> float:
        c = float(self.skewness)
        return t if abs(c) < 1e-6 else 3 * (float(np.cbrt(1 + c * (t - c / 6))) - 1) / c


@dataclass(frozen=True, eq=False)
class _Gains:
    """By how much a is better than b, seed by seed; `told` makes an effect of it."""

    gains: np.ndarray
    mean: _Mean
    told: Callable[[float], float]
    is_relative: bool = False

    def between(self, low: float, high: float, p_against: float) -> Test:
        """That the mean is between two bounds, with what speaks against it."""
        statement = Pairs(self.gains, low, high, self.is_relative)
        p_for, effect = float(self.mean.p_between(low, high)), self.told(float(self.mean.mean))
        return Test(p_for, p_against, effect, self._interval, len(self.gains), pairs=(statement,))

    def beyond(self, bound: float) -> Test:
        """That the mean is above a bound; against it: that it is below."""
        return self.between(bound, math.inf, float(self.mean.p_below(bound)))

    def _interval(self, level: float) -> tuple[float, float]:
        low, high = self.mean.interval(level)
        return self.told(low), self.told(high)


def _gains(a: np.ndarray, b: np.ndarray, is_relative: bool, higher_is_better: bool = False) -> _Gains:
    a, b = np.asarray(a, dtype=float), np.asarray(b, dtype=float)
    if a.shape != b.shape or a.ndim != 1:
        raise ValueError(f"pairs of seeds need two lists of the same length, not {a.shape} and {b.shape}")
    if is_relative and min(a.min(initial=1), b.min(initial=1)) <= 0:
        raise ValueError("a ratio of values needs positive ones")
    if is_relative:
        a, b = np.log(a), np.log(b)
    gaps = a - b if higher_is_better else b - a
    return _of(gaps, float(np.abs([a, b]).max(initial=0.0)), _share if is_relative else float, is_relative)


def _of(gains: np.ndarray, scale: float, told: Callable[[float], float], is_relative: bool = False) -> _Gains:
    if not np.isfinite(gains).all():
        raise ValueError("pairs of seeds need finite values")
    return _Gains(gains, _mean(gains, scale), told, is_relative)


def _share(gain: float) -> float:
    """A gain in logs as the share of b by which a is less."""
    return -math.expm1(-gain) if gain > -700 else -math.inf


def bound(margin: float, is_relative: bool) -> float:
    """A margin as gains have it."""
    return math.log1p(margin) if is_relative else margin


def _mean(values: np.ndarray, scale: float) -> _Mean:
    """Of values (..., seeds) whose rounding errors are those of numbers of that scale."""
    n = values.shape[-1]
    if n < 2:
        mean = values.sum(axis=-1) if n else np.full(values.shape[:-1], math.nan)
        return _Mean(mean, np.full_like(mean, math.nan), n - 1, np.zeros_like(mean))
    mean, sd = values.mean(axis=-1), values.std(axis=-1, ddof=1)
    is_exact = sd <= TINY * scale
    mean = np.where(is_exact & (np.abs(mean) <= TINY * scale), 0.0, mean)
    rest = (values - mean[..., None]) / np.where(is_exact, 1.0, sd)[..., None]
    skewness = (rest * rest * rest).sum(axis=-1) * n / ((n - 1) * (n - 2)) if n > 2 else np.zeros_like(mean)
    return _Mean(mean, np.where(is_exact, 0.0, sd / math.sqrt(n)), n - 1, skewness / math.sqrt(n))


def difference(a: np.ndarray, b: np.ndarray, *, is_relative: bool, higher_is_better: bool = False) -> Test:
    """That a is better than b, by values (seeds,) of the same seeds; against it: that a is worse.

    The effect is a's gain: by which share of b a is less (a positive measure's, tested in logs), or how much better (a fraction's).
    """
    return _gains(a, b, is_relative, higher_is_better).beyond(0.0)


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
    gains, most = _gains(a, b, is_relative, higher_is_better), bound(margin, is_relative)
    worse, better = float(gains.mean.p_below(-most)), float(gains.mean.p_above(most))
    return gains.between(-most, most, worse if side == "worse" else min(worse, better))


def non_inferiority(
    a: np.ndarray, b: np.ndarray, margin: float, *, is_relative: bool, higher_is_better: bool = False
) -> Test:
    """That a is worse than b by less than a margin, or better; against it: that it is worse by more."""
    return _gains(a, b, is_relative, higher_is_better).beyond(-bound(margin, is_relative))


def all_of(tests: Sequence[Test]) -> Test:
    """That all of these hold (intersection-union: Berger 1982); one that is contradicted, at its share, contradicts it.

    Effect and interval are those of the weakest.
    """
    weakest = max(tests, key=lambda test: test.p_for)
    against = min(1.0, len(tests) * min(test.p_against for test in tests))
    n = min(test.n for test in tests)
    pairs = tuple(statement for test in tests for statement in test.pairs)
    return Test(weakest.p_for, against, weakest.effect, weakest.interval, n, tuple(tests), len(tests), pairs)


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
        over = [_gains(weight, end, is_relative).beyond(bound(margin, is_relative)) for end in ends]
        others.append(min(over, key=lambda test: test.p_against))
    against = min(1.0, len(ends) * max(test.p_against for test in others))
    return Test(own.p_for, against, own.effect, own.interval, own.n, (*own.parts, *others), len(ends), own.pairs)


def arithmetic(curves: np.ndarray, terms: np.ndarray, weights: np.ndarray, least: float = 0.99) -> Test:
    """That one fixed network reproduces a curve of combined losses along a line: R² above `least`, as it stands, nothing fitted.

    `curves` (seeds, weights) are of networks trained at each weight, `terms` (seeds, terms) of one network a seed, `weights`
    (weights, terms) theirs along the line. The test is of the unexplained share's logs; the effect is R².
    """
    rest = ((curves - terms @ weights.T) ** 2).sum(axis=1)
    whole = ((curves - curves.mean(axis=1, keepdims=True)) ** 2).sum(axis=1)
    unexplained = np.maximum(rest / whole, TINY)
    return _of(-np.log(unexplained), 1.0, lambda gain: -math.expm1(-gain)).beyond(-math.log(1 - least))


def misranking(combined: np.ndarray, measure: np.ndarray, *, is_relative: bool, higher_is_better: bool = False) -> Test:
    """That the weight of the least mean combined loss is worse in the measure than every other, from (weights, seeds) of both.

    Against it: another weight is worse still. Parts: every other weight's gain over it, in the order of the line.
    """
    preferred = int(np.argmin(combined.mean(axis=1)))
    others = (row for i, row in enumerate(measure) if i != preferred)
    return all_of(
        [
            difference(other, measure[preferred], is_relative=is_relative, higher_is_better=higher_is_better)
            for other in others
        ]
    )


# Pictures of scenes


def validation_gap(
    values: np.ndarray,
    scenes: Sequence[str],
    training: float,
    n: int,
    margin: float,
    draws: int = 4999,
    seed: int = 0,
) -> Test:
    """That a high validation loss comes of few validation pictures, from each picture's loss and the training mean, a fixed number.

    For it: over the whole set the gap is within the margin of 0. Against it: so large a gap isn't that of n pictures, as many as
    the small set has. Both by drawing scenes with replacement until there are so many pictures; effects are shares of the
    training mean. Parts: the gap over the whole set, the gap as n pictures have it; `n` of the result counts scenes.
    """
    if not np.isfinite(values).all():
        raise ValueError("a mean over pictures needs a finite loss of each")
    random = np.random.default_rng(seed)
    whole = _redrawn(values, scenes, training, len(values), draws, random)
    few = _redrawn(values, scenes, training, n, draws, random)
    parts = (
        whole.test(
            max(whole.p_above(-margin), whole.p_below(margin)), min(whole.p_above(margin), whole.p_below(-margin))
        ),
        few.test(1.0, min(few.p_above(0.0), few.p_below(0.0))),
    )
    return Test(parts[0].p_for, parts[1].p_against, whole.effect, whole.interval, whole.scenes, parts=parts)


@dataclass(frozen=True, eq=False)
class _Redrawn:
    """A mean over pictures with its bootstrap over scenes: sorted draws, and the percentiles expanded (Hesterberg 2015, 3.5).

    Few scenes make draws too narrow: their spread by √((k - 1) / k), and a t has longer tails than a normal.
    """

    effect: float
    draws: np.ndarray
    scenes: int

    def p_above(self, bound: float) -> float:
        """Of the mean not being above the bound."""
        return self._p(int(np.searchsorted(self.draws, bound, side="right")))

    def p_below(self, bound: float) -> float:
        """Of the mean not being below the bound."""
        return self._p(len(self.draws) - int(np.searchsorted(self.draws, bound, side="left")))

    def _p(self, beyond: int) -> float:
        if self.scenes < 2:
            return 1.0
        z = special.ndtri(min(1.0, (beyond + 1) / (len(self.draws) + 1)))
        return float(special.stdtr(self.scenes - 1, z * math.sqrt((self.scenes - 1) / self.scenes)))

    def interval(self, level: float) -> tuple[float, float]:
        """Its ends at a two-sided level; infinite where draws are too few to say."""
        if self.scenes < 2:
            return -math.inf, math.inf
        t = special.stdtrit(self.scenes - 1, level / 2)
        share = float(special.ndtr(t * math.sqrt(self.scenes / (self.scenes - 1))))
        outside = math.ceil(share * (len(self.draws) + 1)) - 2
        return (-math.inf, math.inf) if outside < 0 else (float(self.draws[outside]), float(self.draws[-1 - outside]))

    def test(self, p_for: float, p_against: float) -> Test:
        """Of this mean, with these p."""
        return Test(p_for, p_against, self.effect, self.interval, self.scenes)


def _redrawn(
    values: np.ndarray, scenes: Sequence[str], training: float, n: int, draws: int, random: np.random.Generator
) -> _Redrawn:
    """Means of n pictures over the training mean, less 1: whole scenes drawn one after the other, the last one in part."""
    names, place, sizes = np.unique(scenes, return_inverse=True, return_counts=True)
    width, mean = int(sizes.max()), float(np.mean(values))
    # What a scene does to the mean, it hides by its share in it, as in reports.scenes.
    rest = (values - mean) / np.maximum(1 - sizes[place] / len(values), SAME)
    table = np.zeros((len(names), width))
    for scene in range(len(names)):
        table[scene, : sizes[scene]] = mean + (rest - rest.mean())[place == scene]
    sums = table.sum(axis=1)
    several = math.ceil(n / sizes.mean())
    drawn = random.integers(len(names), size=(draws, several))
    while sizes[drawn].sum(axis=1).min() < n:
        more = random.integers(len(names), size=(draws, math.ceil(several / 4)))
        drawn = np.concatenate([drawn, more], axis=1)
    own = sizes[drawn]
    taken = np.clip(n - own.cumsum(axis=1) + own, 0, own)
    means = np.where(taken == own, sums[drawn], 0.0).sum(axis=1)
    is_cut = (taken > 0) & (taken < own)
    last = np.where(is_cut, drawn, 0).sum(axis=1)
    # The last scene gives as many pictures as there is room for, any of them.
    keys = np.where(np.arange(width) < sizes[last][:, None], random.random((draws, width)), np.inf)
    ranks = keys.argsort(axis=1).argsort(axis=1)
    room = np.where(is_cut, taken, 0).sum(axis=1)
    means += np.where(ranks < room[:, None], table[last], 0.0).sum(axis=1)
    return _Redrawn(mean / training - 1, np.sort(means / n / training - 1), len(names))


# Looks and families


@dataclass(frozen=True)
class Looks:
    """A claim's tests so far, a look after the other, and each look's share of the level; none where nothing is measured yet."""

    tests: tuple[Test, ...]
    shares: tuple[float, ...] = SHARES

    def __post_init__(self) -> None:
        if len(self.tests) > len(self.shares):
            raise ValueError(f"{len(self.shares)} looks were fixed beforehand, and there are {len(self.tests)}")

    @property
    def p(self) -> float:
        """The least over the looks, each divided by its share: valid wherever it stops (Bonferroni)."""
        return min((min(1.0, t.p / a) for t, a in zip(self.tests, self.shares, strict=False)), default=1.0)


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
    """The verdicts in a family of so many claims, by Holm's steps; None is a claim that can't be tested here.

    A decided claim is shown as the look that decided it has it, at the level of its own step; another one as its last look has it, at
    the level of the step that decided nothing more. Then the interval says what the verdict says, since a p is below its level
    just where the interval at that level lies in what the p speaks for.
    """
    p = {name: looks.p for name, looks in claims.items() if looks is not None}
    adjusted = holm(p, size)
    order = sorted(p, key=lambda name: p[name])
    decided = sum(value < LEVEL for value in adjusted.values())
    found = {}
    for name, looks in claims.items():
        if looks is None:
            found[name] = Finding("not testable here", 1.0, 1.0, math.nan, None, (), False)
        elif adjusted[name] < LEVEL:
            test, share = min(zip(looks.tests, looks.shares, strict=False), key=lambda look: look[0].p / look[1])
            found[name] = _finding(test, share, p[name], adjusted[name], size - order.index(name), is_open=False)
        elif looks.tests:
            test, share, steps = looks.tests[-1], looks.shares[len(looks.tests) - 1], size - decided
            found[name] = _finding(test, share, p[name], adjusted[name], steps, len(looks.tests) < len(looks.shares))
        else:
            found[name] = Finding("undecided", 1.0, 1.0, LEVEL * looks.shares[0] / (size - decided), None, (), True)
    return found


def _finding(test: Test, share: float, p: float, adjusted: float, steps: int, is_open: bool) -> Finding:
    verdict: Verdict = "undecided"
    if adjusted < LEVEL:
        verdict = "supported" if test.p_for < test.p_against else "contradicted"
    level = LEVEL * share / steps
    return Finding(verdict, p, adjusted, level, test, test.estimates(level, verdict == "supported"), is_open)
