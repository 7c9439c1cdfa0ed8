"""How weights are compared under common seeds: numbers in, numbers out, many studies at once.

Values `y` have the shape (studies, weights, seeds), less is better; `unbroken` is a mask of the same shape. A seed is a block:
it shifts all weights alike, so that differences are taken seed by seed.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np
from scipy import special

LEVEL = 0.05
TREND_SHARE = (
    0.6  # of the level for the trend in w, the rest for any difference: T² alone is blind to a dip of one weight
)
TREND_SEEDS = 5  # below, a covariance of two contrasts isn't known well enough
POWER = 0.8
MOST_SMOOTHED = 200  # weights on a line; beyond, plain means will do
HEIGHTS = (0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0)  # of curves, in standard errors of a mean
ROUGH_SHARE = 40
"""Prior weight of a curve without any smoothness, beside one of a smooth one; simulated in benchmarks/race.py."""
LEAST_OF_OWN_SPREAD = 4  # weights: the residuals of fewer don't tell whose spread is whose
TINY = 1e-12
MOST_QUANTILE = 200.0

_Z = np.linspace(-9, 9, 301)
_DENSITY = np.exp(-(_Z**2) / 2) / math.sqrt(2 * math.pi) * (_Z[1] - _Z[0])


# Quantiles


@cache
def dunnett(comparisons: int, df: int, level: float = LEVEL) -> float:
    """One-sided quantile of so many comparisons with one weight at equal seeds (Dunnett 1955), as Hsu (1984) takes it."""
    return _quantile(lambda d: special.ndtr(math.sqrt(2) * d + _Z) ** comparisons, df, level)


@cache
def tukey(count: int, df: int, level: float = LEVEL) -> float:
    """Quantile of the studentized range of so many means, divided by √2: for all their pairs, two-sided (Tukey 1953)."""

    def covered(d: np.ndarray) -> np.ndarray:
        return count * (special.ndtr(_Z + math.sqrt(2) * d) - special.ndtr(_Z)) ** (count - 1)

    return _quantile(covered, df, level)


def _quantile(covered: Callable[[np.ndarray], np.ndarray], df: int, level: float, nodes: int = 160) -> float:
    """Where the coverage is 1 - level: `covered` is integrated over the normal and over the estimated spread."""
    from scipy.optimize import brentq  # its import takes longer than much of what needs no quantile

    spread = np.sqrt(2 * special.gammaincinv(df / 2, (np.arange(nodes) + 0.5) / nodes) / df)[:, None]
    return float(
        brentq(lambda d: float((covered(d * spread) * _DENSITY).sum(axis=1).mean()) - (1 - level), 0.0, MOST_QUANTILE)
    )


def _t(df: np.ndarray | float, level: np.ndarray | float) -> np.ndarray:
    """The one-sided quantile of Student's t; infinite without a degree of freedom."""
    return np.where(np.asarray(df) >= 1, special.stdtrit(np.maximum(df, 1), 1 - level), np.inf)


def _f_tail(f: np.ndarray, a: np.ndarray | float, b: np.ndarray | float) -> np.ndarray:
    """P(F > f) with a and b degrees of freedom."""
    return special.betainc(b / 2, a / 2, b / (b + a * f))


# The additive fit


@dataclass(frozen=True)
class Fit:
    """The additive weight + seed fit of unbroken runs: means (studies, weights), NaN without a run; residual sd and its df.

    What compares them with the best holds for `among` weights at least: of a race, those that began, and of so many `stages`.
    """

    y: np.ndarray
    unbroken: np.ndarray
    means: np.ndarray
    counts: np.ndarray
    sd: np.ndarray
    df: np.ndarray
    among: int = 0
    stages: int = 1


def fit(y: np.ndarray, unbroken: np.ndarray, among: int = 0, stages: int = 1) -> Fit:
    """Least squares; a seed's effect is what is left of it over the weights that it didn't break."""
    z, m = np.where(unbroken, y, 0.0), unbroken.astype(float)
    of_weight, of_seed = m.sum(axis=2), m.sum(axis=1)
    means = z.sum(axis=2) / np.maximum(of_weight, 1)
    # The weights are eliminated: there are few seeds, and there may be ten thousand weights.
    normal = np.einsum("rs,st->rst", of_seed, np.eye(y.shape[2])) - np.einsum(
        "rks,rkt->rst", m, m / np.maximum(of_weight, 1)[:, :, None]
    )
    right = ((z - means[:, :, None]) * m).sum(axis=1)
    effects = np.einsum("rst,rt->rs", np.linalg.pinv(normal, hermitian=True, rcond=1e-9), right)
    effects -= (effects * of_seed).sum(axis=1, keepdims=True) / np.maximum(of_seed.sum(axis=1, keepdims=True), 1)
    means = ((z - effects[:, None, :]) * m).sum(axis=2) / np.maximum(of_weight, 1)
    rest = (z - means[:, :, None] - effects[:, None, :]) * m
    df = m.sum(axis=(1, 2)) - (of_weight > 0).sum(axis=1) - (of_seed > 0).sum(axis=1) + 1
    sd = np.sqrt((rest**2).sum(axis=(1, 2)) / np.maximum(df, 1))
    sd = np.where(df >= 1, np.where(sd <= _rounding(y), 0.0, sd), np.nan)
    return Fit(y, unbroken, np.where(of_weight > 0, means, np.nan), of_weight, sd, df, among, stages)


def _rounding(y: np.ndarray) -> np.ndarray:
    """Below it a spread is that of rounding."""
    return TINY * np.abs(y).max(axis=(1, 2))


# Comparisons with the best (Hsu 1984; Hsu 1996, Multiple Comparisons, ch. 4)


@dataclass(frozen=True)
class Differences:
    """Of every weight from one of them, over the seeds that broke neither: (studies, weights); positive is worse.

    `half` is the interval's half width: the larger of what the pooled spread and the pair's own say.
    """

    mean: np.ndarray
    half: np.ndarray


def differences(found: Fit, of: np.ndarray, level: float = LEVEL) -> Differences:
    """Each weight minus the weight `of` (studies,), with Hsu's one-sided half widths.

    Spread may be unequal, and no test tells reliably: the pooled contrast takes Dunnett's quantile, the pair's own a t with
    Bonferroni's share. A statement that needs both holds if either is right. The stages of a race share the level of the
    pooled one; the other, a safeguard, takes the whole at each: shared, it would exclude nobody before the eighth seed.
    """
    return _differences(
        found, of, lambda k, df: dunnett(k - 1, df, level), lambda k: found.stages * level / max(k - 1, 1)
    )


def contrasts(found: Fit, of: np.ndarray, level: float = LEVEL) -> Differences:
    """The same two-sided and for all pairs at once, so that `of` may have been chosen from the same numbers."""
    return _differences(found, of, lambda k, df: tukey(k, df, level), lambda k: level / max(k * (k - 1), 1))


def joint_contrasts(found: Fit, of: np.ndarray, level: float = LEVEL) -> Differences:
    """The same for claims that count only where a second measure makes them, too (`reports.front`), in one direction a pair.

    The pooled contrast is that of all pairs; the pair's own, a safeguard, takes Hsu's share. With Bonferroni's for all pairs, 45 %
    of what 8 trials show under 5 seeds at a distance of 3 sd would be seen, in place of 98 % (tests/benchmarks/front.py).
    """
    return _differences(found, of, lambda k, df: tukey(k, df, level), lambda k: level / max(k - 1, 1))


def drops(found: Fit, of: np.ndarray, level: float = LEVEL) -> Differences:
    """`differences` for who is dropped at a stage of a race, where each weight's own spread stands in for the pair's.

    A pair has two degrees of freedom under three seeds: races by it took 5 % more runs. The best of ten was dropped in 4 % of races
    at most, in 9 % where it spread three times as wide as others (tests/benchmarks/race.py).
    """
    return _differences(
        found, of, lambda k, df: dunnett(k - 1, df, level), lambda k: found.stages * level / max(k - 1, 1), by_own=True
    )


def _differences(
    found: Fit,
    of: np.ndarray,
    quantile: Callable[[int, int], float],
    share: Callable[[int], float],
    by_own: bool = False,
) -> Differences:
    rows = np.arange(len(found.y))
    both = found.unbroken & found.unbroken[rows, of][:, None, :]
    gaps = np.where(both, found.y - found.y[rows, of][:, None, :], 0.0)
    n = both.sum(axis=2)
    mean = np.where(n > 0, gaps.sum(axis=2) / np.maximum(n, 1), np.nan)
    own = np.sqrt(((gaps - mean[:, :, None]) ** 2 * both).sum(axis=2) / np.maximum(n - 1, 1))
    counts = np.maximum((found.counts > 0).sum(axis=1), found.among)
    factors = np.array(
        [quantile(int(k), int(df)) if df >= 1 and k > 1 else np.inf for k, df in zip(counts, found.df, strict=True)]
    )
    shares = np.array([share(int(k)) for k in counts])
    pooled = (factors * np.where(found.df >= 1, found.sd, 1.0))[:, None] * np.sqrt(2 / np.maximum(n, 1))
    with np.errstate(invalid="ignore"):
        pair = np.where(n >= 2, _t(n - 1.0, shares[:, None]) * own / np.sqrt(np.maximum(n, 1)), np.inf)
        if by_own:
            variance, df = _own_spread(found)
            own = _t(df, shares[:, None]) * np.sqrt(variance / np.maximum(n, 1))
            pair = np.where(np.isnan(variance) | (n < 2), pair, own)
    pooled = np.where(n >= 1, pooled, np.inf)
    itself = np.arange(found.y.shape[1])[None, :] == np.asarray(of)[:, None]
    return Differences(np.where(itself, 0.0, mean), np.where(itself, 0.0, np.maximum(pooled, pair)))


def _own_spread(found: Fit) -> tuple[np.ndarray, np.ndarray]:
    """The variance of a difference under one seed of each weight from another, by its own spread and the others', which is the
    pooled one, and its degrees of freedom (Welch 1947); (studies, weights), NaN where too few weights are measured.

    A weight's own variance comes from its residuals of the additive fit, part of which the other weights' are (Grubbs 1948).
    """
    over = np.where(found.unbroken, found.y - np.nan_to_num(found.means)[:, :, None], 0.0)
    effects = over.sum(axis=1) / np.maximum(found.unbroken.sum(axis=1), 1)
    rest = np.where(found.unbroken, over - effects[:, None, :], 0.0)
    weights = (found.counts > 0).sum(axis=1, keepdims=True).astype(float)
    weights[weights < LEAST_OF_OWN_SPREAD] = math.nan
    own_df, pooled = np.maximum(found.counts - 1, 1), found.sd[:, None] ** 2
    mixed = (rest**2).sum(axis=2) / own_df
    own = np.maximum((weights * mixed - pooled) / (weights - 2), 0.0)
    variance = own + pooled
    with np.errstate(invalid="ignore", divide="ignore"):
        df = variance**2 / (own**2 / own_df + pooled**2 / found.df[:, None])
    return variance, df


def ahead(found: Fit) -> np.ndarray:
    """The weight of the least mean, (studies,)."""
    least: np.ndarray = np.where(np.isnan(found.means), np.inf, found.means).argmin(axis=1)
    return least


def kept(found: Fit, level: float = LEVEL) -> np.ndarray:
    """Which weights may be best, (studies, weights): the best is among them in 1 - level of studies.

    One leaves only where both contrasts with the weight that is ahead exclude it.
    """
    d = (differences if found.stages == 1 else drops)(found, ahead(found), level)
    with np.errstate(invalid="ignore"):
        return ~np.isnan(found.means) & ~(d.mean > d.half)


def regret_bound(found: Fit, of: np.ndarray, level: float = LEVEL, over: Fit | None = None) -> np.ndarray:
    """By how much the weight `of` (studies,) may be worse than the best; holds for all weights at once, in 1 - level.

    Infinite where another weight shares fewer than two unbroken seeds with it. `over` are the same weights over what else is
    a sample, as `reports.scenes` has them over scenes.
    """
    d = differences(found, of, level)
    half = d.half if over is None else np.hypot(d.half, differences(over, of, level).half)
    worst = np.where(found.counts > 0, np.where(np.isnan(d.mean), np.inf, half - d.mean), -np.inf)
    return np.maximum(worst.max(axis=1), 0.0)


# Gates: is there any difference?


@dataclass(frozen=True)
class Gate:
    """A test of all weights being equal; `p` (studies,) is to be held against the level."""

    name: str
    p: np.ndarray
    is_pilot: bool = False


def gate(y: np.ndarray, positions: np.ndarray | None) -> Gate:
    """The test that fits the design, of all runs. `positions` are those of the weights on a line, None where there is none."""
    _, weights, seeds = y.shape
    if weights == 2:
        return Gate("paired t", _paired(y))
    if positions is None or seeds < TREND_SEEDS:
        return Gate("blocked F", blocked_f(y), is_pilot=True)
    trend, blocked = trend_t2(y, positions), blocked_f(y, is_cautious=True)
    return Gate(
        "Hotelling's T² and blocked F", np.minimum(np.minimum(trend / TREND_SHARE, blocked / (1 - TREND_SHARE)), 1)
    )


def _paired(y: np.ndarray) -> np.ndarray:
    gaps = y[:, 1] - y[:, 0]
    n = y.shape[2]
    mean, sd = gaps.mean(axis=1), gaps.std(axis=1, ddof=1)
    sure = sd <= _rounding(y)
    t = np.abs(mean) * math.sqrt(n) / np.where(sure, 1.0, sd)
    return np.where(sure, np.where(np.abs(mean) > _rounding(y), 0.0, 1.0), 2 * special.stdtr(n - 1, -t))


def blocked_f(y: np.ndarray, is_cautious: bool = False) -> np.ndarray:
    """p of the blocked F with the degrees of freedom of Huynh and Feldt (1976), for unequal spread and correlation.

    Where one of ten weights spreads three times as wide, that rejects 5 % at a level of 2 %. Caution takes the mean of their
    epsilon and Greenhouse and Geisser's (1959), as Stevens (2002) does: 3 %.
    """
    _, weights, seeds = y.shape
    means = y.mean(axis=2)
    rest = y - means[:, :, None] - y.mean(axis=1)[:, None, :] + means.mean(axis=1)[:, None, None]
    df = (weights - 1) * (seeds - 1)
    square = (rest**2).sum(axis=(1, 2)) / df
    between = seeds * ((means - means.mean(axis=1, keepdims=True)) ** 2).sum(axis=1) / (weights - 1)
    flat = np.sqrt(square) <= _rounding(y)
    # Trace and Frobenius norm of the weights' covariance, from the seeds' Gram matrix, which is small.
    gram = np.einsum("rks,rkt->rst", rest, rest)
    norm = np.where(flat, 1.0, (gram**2).sum(axis=(1, 2)))
    epsilon = np.trace(gram, axis1=1, axis2=2) ** 2 / ((weights - 1) * norm)
    with np.errstate(divide="ignore", invalid="ignore"):
        over, under = seeds * (weights - 1) * epsilon - 2, (weights - 1) * (seeds - 1 - (weights - 1) * epsilon)
        huynh_feldt = np.where(under > TINY, over / under, 1.0)
    huynh_feldt = np.where(huynh_feldt > 0, np.minimum(huynh_feldt, 1.0), 1.0)
    epsilon = (epsilon + huynh_feldt) / 2 if is_cautious else huynh_feldt
    p = _f_tail(between / np.where(flat, 1.0, square), (weights - 1) * epsilon, df * epsilon)
    return np.where(flat, np.where(np.sqrt(between) > _rounding(y), 0.0, 1.0), p)


def trend_t2(y: np.ndarray, positions: np.ndarray) -> np.ndarray:
    """p of Hotelling's T² (1931) on each seed's linear and quadratic contrast in the weight, as spaced."""
    seeds = y.shape[2]
    x = (positions - positions.mean()) / np.ptp(positions)
    basis, _ = np.linalg.qr(np.stack([np.ones_like(x), x, x**2], axis=1))
    c = np.einsum("rks,kj->rsj", y, basis[:, 1:])
    mean = c.mean(axis=1)
    d = c - mean[:, None]
    cov = np.einsum("rsi,rsj->rij", d, d) / (seeds - 1)
    a, b, off = cov[:, 0, 0], cov[:, 1, 1], cov[:, 0, 1]
    det = a * b - off**2
    sure = det <= (_rounding(y) ** 2) ** 2  # without spread the blocked F decides
    u, v = mean.T
    t2 = seeds * (b * u**2 - 2 * off * u * v + a * v**2) / np.where(sure, 1.0, det)
    return np.where(sure, 1.0, _f_tail(t2 * (seeds - 2) / (2 * (seeds - 1)), 2, seeds - 2))


# Choosing


@cache
def _kernels(places: tuple[float, ...]) -> tuple[tuple[np.ndarray, float], ...]:
    """Kernels with their prior weights: no curve at all, smooth ones, and rough ones, where each weight goes its own way.

    The smooth ones are Matérn 5/2 (Rasmussen, Williams 2006, eq. 4.17) over positions scaled to 0 to 1, in several lengths
    and heights. Without the rough ones, a dip of one weight took 1.2 to 2.4 times the runs that plain means take.
    """
    x = np.array(places)
    distance = np.abs(x[:, None] - x[None]) / np.ptp(x)
    shapes = [(np.eye(len(x)), ROUGH_SHARE)]
    for length in (0.2, 0.4, 0.8, 1.6):
        s = math.sqrt(5) * distance / length
        shapes.append(((1 + s + s**2 / 3) * np.exp(-s), 1))
    curves = [(height**2 * shape, float(share)) for shape, share in shapes for height in HEIGHTS]
    return ((np.zeros((len(x), len(x))), 1.0), *curves)


def smoothed(found: Fit, positions: np.ndarray) -> np.ndarray:
    """The means along a line, as a Gaussian process sees them, averaged over its settings by their evidence.

    It chooses and never certifies: a bound of smoothed means was false in up to a quarter of studies with a dip.
    """
    weights = found.means.shape[1]
    if weights < 3 or weights > MOST_SMOOTHED:
        return found.means
    error = found.sd / np.sqrt(np.maximum(found.counts.mean(axis=1), 1))
    usable = (error > 0) & np.isfinite(error)
    measured = found.counts > 0
    # A weight without an unbroken run tells nothing: noise without end.
    noise = np.where(measured, found.counts.mean(axis=1, keepdims=True) / np.maximum(found.counts, 1), 1e6)
    level = np.nanmean(np.where(measured, found.means, np.nan), axis=1, keepdims=True)
    y = np.where(measured, found.means - level, 0.0) / np.where(usable, error, 1.0)[:, None]
    evidence, curves = [], []
    for kernel, prior in _kernels(tuple(positions)):
        inverse = np.linalg.inv(kernel + np.einsum("rk,kl->rkl", noise, np.eye(weights)))
        sums = inverse.sum(axis=2)
        total = sums.sum(axis=1)
        flat = (sums * y).sum(axis=1) / total
        d = y - flat[:, None]
        a = np.einsum("rkl,rl->rk", inverse, d)
        fit = (d * a).sum(axis=1) - np.linalg.slogdet(inverse)[1] + np.log(total)
        evidence.append(math.log(prior) - 0.5 * fit)
        curves.append(y - noise * a)
    share = np.exp(np.array(evidence) - np.max(evidence, axis=0))
    share /= share.sum(axis=0)
    curve = np.einsum("hr,hrk->rk", share, np.array(curves)) * np.where(usable, error, 1.0)[:, None] + level
    return np.where(measured, np.where(usable[:, None], curve, found.means), np.nan)


def break_shares(broken: np.ndarray, runs: np.ndarray) -> np.ndarray:
    """P(broken) along a line, from counts (weights,): rising or falling, whichever is likelier; raw if both ends break.

    Isotonic regression of (k + 1/2) / (n + 1) (Ayer et al. 1955); zero where nothing broke.
    """
    if not broken.any():
        return np.zeros(len(broken))
    raw = (broken + 0.5) / (runs + 1)
    if broken[0] and broken[-1]:
        return raw
    up, down = isotonic(raw, runs), isotonic(raw[::-1], runs[::-1])[::-1]
    return max((up, down), key=lambda p: float((broken * np.log(p) + (runs - broken) * np.log1p(-p)).sum()))


def isotonic(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """The rising sequence nearest to the values, by pooling adjacent violators."""
    blocks: list[tuple[float, float, int]] = []
    for value, weight in zip(values, weights, strict=True):
        blocks.append((float(value), float(weight), 1))
        while len(blocks) > 1 and blocks[-2][0] > blocks[-1][0]:
            (a, m, i), (b, n, j) = blocks[-2:]
            blocks[-2:] = [((a * m + b * n) / (m + n), m + n, i + j)]
    return np.concatenate([np.full(count, value) for value, _, count in blocks])


# What a study of this noise can see


def detectable(sd: float, weights: int, seeds: int, level: float = LEVEL) -> float:
    """The smallest difference of two weights that Hsu's comparisons see with a power of 0.8, by the noise alone."""
    if weights < 2 or seeds < 2:
        return math.inf
    quantile = max(
        dunnett(weights - 1, (weights - 1) * (seeds - 1), level), float(_t(seeds - 1, level / (weights - 1)))
    )
    return (quantile + float(special.ndtri(POWER))) * sd * math.sqrt(2 / seeds)


def seeds_needed(sd: float, weights: int, margin: float, level: float = LEVEL, most: int = 1000) -> int | None:
    """From how many seeds on a difference of the margin would be seen with a power of 0.8; None where that takes more."""
    low, high = 2, most
    if detectable(sd, weights, most, level) > margin:
        return None
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if detectable(sd, weights, middle, level) <= margin else (middle, high)
    return high
