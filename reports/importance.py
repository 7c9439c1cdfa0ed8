"""How much each weight matters in a search: what of its outcome's variance goes with it, with an interval, or that it can't be told.

Weights that sum to 1 have none apart: more of one is less of the others. What stands for itself is the log of a ratio of two
(Aitchison 1986). So each term is asked how much goes with what it weighs beside the others while their ratios stay: the outcome's log
is fitted by a quadratic in all log-ratios (a response surface: Box, Wilson 1951), and by one in those of the others alone. Neither
depends on which weight the ratios are taken to. Shares of several terms overlap, as their ratios do, and needn't add up to the whole.
"""

import math
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from scipy import special

from depth_loss_sweep.reports.claims import holm
from depth_loss_sweep.reports.comparisons import LEVEL
from depth_loss_sweep.reports.intervals import CONFIDENCE
from depth_loss_sweep.words import counted

FLOOR = 0.01
"""A weight below this share of the sum counts as that: it steers hardly more than none, whose logarithm would outweigh all others."""

LEAST_TRIALS = 20
TRIALS_A_COEFFICIENT = 2
PERMUTATIONS, BLOCK = 999, 111
NARROW = 0.5
"""An interval that is wider leaves open whether it is little or most."""


@dataclass(frozen=True, eq=False)
class Space:
    """Where trials stand, (trials, d), and, of everything that is varied, where they stand by all else, (trials, d - 1)."""

    places: np.ndarray
    without: Mapping[str, np.ndarray]


def of_weights(weights: Mapping[str, np.ndarray]) -> Space:
    """The space of log-ratios of some terms' weights, (trials,) each, of which every trial has a positive one."""
    table = np.stack([*weights.values()])
    logs = dict(zip(weights, np.log(np.maximum(table / table.sum(axis=0), FLOOR)), strict=True))
    return Space(_ratios(logs), {term: _ratios({t: v for t, v in logs.items() if t != term}) for term in logs})


def _ratios(logs: Mapping[str, np.ndarray]) -> np.ndarray:
    first, *others = logs.values()
    return np.stack([other - first for other in others], axis=1) if others else np.empty((len(first), 0))


def of_variables(values: Mapping[str, np.ndarray], logarithmic: Collection[str] = ()) -> Space:
    """The space of variables that are drawn for themselves, (trials,) each; by their logarithm those that are drawn so."""
    columns = {name: np.log(v) if name in logarithmic else np.asarray(v, float) for name, v in values.items()}
    table, order = np.stack([*columns.values()], axis=1), range(len(columns))
    return Space(table, {name: table[:, [i for i in order if i != own]] for own, name in enumerate(columns)})


@dataclass(frozen=True)
class Share:
    """What of the variance goes with one of them, with its 95 % interval; `p` is adjusted for all of them (Holm)."""

    name: str
    share: float
    low: float
    high: float
    p: float

    @property
    def is_shown(self) -> bool:
        """Whether it is shown to matter at all."""
        return self.p <= LEVEL

    @property
    def is_narrow(self) -> bool:
        """Whether its interval says how much."""
        return self.high - self.low <= NARROW


@dataclass(frozen=True)
class Importance:
    """What goes with each, and with all of them together (`explained`), over so many trials; or why that can't be told."""

    trials: int
    explained: float | None = None
    shares: tuple[Share, ...] = ()
    missing: str = ""

    def as_dict(self) -> dict[str, Any]:
        """JSON-able."""
        return {**asdict(self), "shares": [{**asdict(s), "is_shown": s.is_shown} for s in self.shares]}


def importance_of(space: Space, y: np.ndarray) -> Importance:
    """What of the variance over trials goes with each of a space's directions; `y` is (trials, seeds), of seeds that all have.

    Shares are differences of residual variances, so that of what doesn't matter is 0 on average. Intervals are of the jackknife over
    trials and over seeds, whose variances add, on the scale of a correlation, the share's root: a share's own interval held in 0.89 to
    0.98 of made-up searches, this one in 0.94 to 0.99, one by trials drawn with replacement in 0.86 to 0.97
    (tests/benchmarks/importance.py).
    That a direction matters is shown by permuting what the others leave open (Freedman, Lane 1983).
    """
    n, dimensions = space.places.shape
    least = max(LEAST_TRIALS, TRIALS_A_COEFFICIENT * math.comb(dimensions + 2, 2))
    if n < least:
        return Importance(n, missing=f"{counted(n, 'trial')} can be compared, and it takes {least}")
    full, means = _basis(space.places), y.mean(axis=1)
    if means.var() <= np.finfo(float).eps * np.abs(means).max() ** 2:
        return Importance(n, missing="all trials have the same value")
    rest = {name: _basis(places) for name, places in space.without.items()}
    found, errors = shares_of(space, means), _standard_errors(full, rest, y)
    half = float(special.stdtrit(n - 1, (1 + CONFIDENCE) / 2))
    random = np.random.default_rng(0)
    p = holm({name: _p_value(full, basis, means, random) for name, basis in rest.items()})
    shares = []
    for name, share in found.items():
        low, high = (_square(_root(share) + side * half * errors[name]) for side in (-1, 1))
        shares.append(Share(name, _within(share), _within(low), _within(high), p[name]))
    explained = 1 - float(_residual_variance(full, means) / means.var(ddof=1))
    return Importance(n, max(0.0, explained), tuple(shares))


def _within(share: np.ndarray | float) -> float:
    return min(1.0, max(0.0, float(share)))


def shares_of(space: Space, y: np.ndarray) -> dict[str, float]:
    """Each direction's share of the variance of values (trials,); on average 0 of one that doesn't matter, so it may be less."""
    full = _basis(space.places)
    return {name: float(_share(full, _basis(places), y)) for name, places in space.without.items()}


# The quadratic


def _basis(places: np.ndarray) -> np.ndarray:
    """An orthonormal basis, (trials, rank), of all quadratics in some coordinates (trials, d)."""
    spread = places.std(axis=0)
    z = (places - places.mean(axis=0)) / np.where(spread > 0, spread, 1.0)
    one, other = np.triu_indices(z.shape[1])
    columns = np.concatenate([np.ones((len(z), 1)), z, z[:, one] * z[:, other]], axis=1)
    basis, sizes, _ = np.linalg.svd(columns, full_matrices=False)
    return basis[:, sizes > 1e-9 * sizes[0]]


def _left(basis: np.ndarray, y: np.ndarray) -> np.ndarray:
    """What a fit leaves of values, (trials, ...)."""
    return y - basis @ (basis.T @ y)


def _residual_variance(basis: np.ndarray, y: np.ndarray) -> np.ndarray:
    return (_left(basis, y) ** 2).sum(axis=0) / (len(basis) - basis.shape[1])


def _share(full: np.ndarray, rest: np.ndarray, y: np.ndarray) -> np.ndarray:
    return (_residual_variance(rest, y) - _residual_variance(full, y)) / y.var(axis=0, ddof=1)


# How sure it is


def _standard_errors(full: np.ndarray, rest: Mapping[str, np.ndarray], y: np.ndarray) -> dict[str, float]:
    """Of every share's root, by leaving out a trial, and a seed, at a time (Quenouille, Tukey)."""
    means, seeds = y.mean(axis=1), y.shape[1]
    others = (y.sum(axis=1, keepdims=True) - y) / max(seeds - 1, 1)
    variance = _without_each(np.full((len(y), 1), len(y) ** -0.5), means)
    noise = _without_each(full, means)
    found = {}
    for name, basis in rest.items():
        by_trial = _root((_without_each(basis, means) - noise) / variance)
        by_seed = _root(_share(full, basis, others)) if seeds > 1 else np.zeros(1)
        found[name] = math.sqrt(sum((len(v) - 1) * v.var() for v in (by_trial, by_seed)))
    return found


def _root(share: np.ndarray | float) -> np.ndarray:
    """With its sign: an estimate of nothing is below 0 as often as above."""
    return np.sign(share) * np.sqrt(np.abs(share))


def _square(root: np.ndarray) -> np.ndarray:
    return root * np.abs(root)


def _without_each(basis: np.ndarray, y: np.ndarray) -> np.ndarray:
    """The residual variance of a fit to all trials but one, for each that is left out: by its leverage, in closed form."""
    left, leverage = _left(basis, y), (basis**2).sum(axis=1)
    squares = left**2 / np.maximum(1 - leverage, 1e-9)
    return ((left**2).sum() - squares) / (len(y) - 1 - basis.shape[1])


def _p_value(full: np.ndarray, rest: np.ndarray, y: np.ndarray, random: np.random.Generator) -> float:
    """How often permuted residuals of the fit without a direction gain as much by it as the values do."""
    left = _left(rest, y)
    if (left**2).sum() <= np.finfo(float).eps * (y**2).sum():  # nothing but rounding
        return 1.0
    gain, reached = _gain(full, rest, left), 0
    for _ in range(PERMUTATIONS // BLOCK):
        permuted = random.permuted(np.tile(left, (BLOCK, 1)), axis=1)
        reached += int((_gain(full, rest, permuted) >= gain).sum())
    return (1 + reached) / (1 + PERMUTATIONS)


def _gain(full: np.ndarray, rest: np.ndarray, y: np.ndarray) -> np.ndarray:
    """By how much the whole fit leaves less of values (..., trials) than the one without, as a share of what it leaves."""
    squares = (y**2).sum(axis=-1)
    less, more = (squares - ((y @ basis) ** 2).sum(axis=-1) for basis in (full, rest))
    return (more - less) / np.maximum(less, np.finfo(float).eps * squares)
