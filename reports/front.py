"""The Pareto front of a study's trials by two objectives: which trials are on it, which may be, and where its knee is.

A trial is on the front where no other is better in one objective and no worse in the other, by means over the seeds that all
compared trials have. A run without a finite value counts as in the decision. Costs are arrays of which less is better.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from depth_loss_sweep.reports import comparisons
from depth_loss_sweep.reports.comparisons import LEVEL
from depth_loss_sweep.reports.decision import instead_of_infinite, left_out
from depth_loss_sweep.reports.intervals import known, t_interval
from depth_loss_sweep.reports.measures import Measure
from depth_loss_sweep.reports.stages import LEAST_SEEDS
from depth_loss_sweep.reports.trials import TrialResult

RESAMPLES, MOST_RESAMPLED = 2000, 4_000_000
"""How often seeds are resampled, and how many trials at most in all of these together."""
NOT_LEARNT = "a trivial predictor does as well in both"


@dataclass(frozen=True)
class Objective:
    """One of two objectives: its measure, every trial by it, and the trivial predictors' values."""

    measure: Measure
    trials: Sequence[TrialResult]
    baselines: Mapping[str, float]


@dataclass(frozen=True)
class FrontTrial:
    """A compared trial by both objectives: means over the common seeds, and 95 % t-intervals, each by itself.

    `dominated_by` is a trial of the front that is shown to be better in both. The shares are those of resamplings of the seeds
    in which it is on the front, and is its knee; None where there are too few seeds to tell.
    """

    trial: int
    means: tuple[float, ...]
    lows: tuple[float | None, ...]
    highs: tuple[float | None, ...]
    is_on_front: bool
    dominated_by: int | None
    front_share: float | None
    knee_share: float | None

    @property
    def half_widths(self) -> tuple[float, ...]:
        """Of both intervals; NaN where there is none."""
        return tuple(math.nan if h is None else h - mean for mean, h in zip(self.means, self.highs, strict=True))


@dataclass(frozen=True)
class Front:
    """The trials that are compared by both objectives, the best by the first of them first; `left` says who isn't, and why.

    Whoever isn't shown to be dominated may be on the front: in 95 % of studies that is true of all trials that truly are.
    """

    trials: tuple[FrontTrial, ...] = ()
    seeds: tuple[int, ...] = ()
    knee: int | None = None
    left: Mapping[int, str] = field(default_factory=dict)

    @property
    def members(self) -> tuple[FrontTrial, ...]:
        """The trials on the front."""
        return tuple(t for t in self.trials if t.is_on_front)

    @property
    def candidates(self) -> tuple[FrontTrial, ...]:
        """The trials that may be on it, its members among them."""
        return tuple(t for t in self.trials if t.dominated_by is None)

    def as_dict(self) -> dict[str, Any]:
        """JSON-able."""
        return {**asdict(self), "left": {str(n): why for n, why in self.left.items()}}


def pareto_front(objectives: Sequence[Objective], level: float = LEVEL) -> Front:
    """The front of a study's trials by two objectives, whatever state the study is in."""
    left = {n: why for o in reversed(objectives) for n, why in left_out(sorted(o.trials, key=_number)).items()}
    compared = [[t for t in sorted(o.trials, key=_number) if t.number not in left] for o in objectives]
    by_seed = [[{s.seed: s.value for s in t.seeds if not math.isnan(s.value)} for t in of] for of in compared]
    seeds = sorted(set.intersection(*(set(own) for of in by_seed for own in of))) if all(compared) else []
    values = np.array([[[own[s] for s in seeds] for own in of] for of in by_seed])
    if not seeds or not np.isfinite(values).any(axis=(1, 2)).all():
        return Front(left=left)
    for of, objective in zip(values, objectives, strict=True):
        of[np.isinf(of)] = instead_of_infinite(of, objective.measure, objective.baselines)
    signs = np.array([-1.0 if o.measure.higher_is_better else 1.0 for o in objectives])
    costs = signs[:, None, None] * values
    learnt = ~_beaten(costs.mean(axis=2), signs, objectives)
    numbers = [t.number for t in compared[0]]
    left |= {n: NOT_LEARNT for n, has_learnt in zip(numbers, learnt, strict=True) if not has_learnt}
    if not learnt.any():
        return Front(seeds=tuple(seeds), left=left)
    return _front([n for n in numbers if n not in left], values[:, learnt], costs[:, learnt], seeds, left, level)


def _number(trial: TrialResult) -> int:
    return trial.number


def _beaten(means: np.ndarray, signs: np.ndarray, objectives: Sequence[Objective]) -> np.ndarray:
    """Which trials a trivial predictor equals or beats in both objectives; means (objectives, trials)."""
    names = set.intersection(*(set(o.baselines) for o in objectives))
    trivial = np.array([[o.baselines[name] for name in sorted(names)] for o in objectives]) * signs[:, None]
    beaten: np.ndarray = (trivial[:, :, None] <= means[:, None, :]).all(axis=0).any(axis=0)
    return beaten


def _front(
    numbers: Sequence[int],
    values: np.ndarray,
    costs: np.ndarray,
    seeds: Sequence[int],
    left: Mapping[int, str],
    level: float,
) -> Front:
    """The front of trials that are compared; values and costs (objectives, trials, seeds)."""
    means = costs.mean(axis=2).T
    members = on_front(means)
    by, shares = np.full(len(numbers), -1), None
    if len(seeds) >= LEAST_SEEDS:
        by, shares = dominators(costs[:, None], level)[0], resampled(costs)
    intervals = [[t_interval(of[row]) for of in values] for row in range(len(numbers))]
    knee = int(knees(means[None], members[None])[0])
    trials = tuple(
        FrontTrial(
            trial=numbers[row],
            means=tuple(i.mean for i in intervals[row]),
            lows=tuple(known(i.low) for i in intervals[row]),
            highs=tuple(known(i.high) for i in intervals[row]),
            is_on_front=bool(members[row]),
            dominated_by=numbers[by[row]] if by[row] >= 0 else None,
            front_share=None if shares is None else float(shares[0][row]),
            knee_share=None if shares is None else float(shares[1][row]),
        )
        for row in np.argsort(means[:, 0], kind="stable")
    )
    return Front(trials, tuple(seeds), numbers[knee] if knee >= 0 else None, left)


def on_front(costs: np.ndarray) -> np.ndarray:
    """Which points no other dominates, (..., points), from costs (..., points, 2); of equal points it is the first."""
    order = np.lexsort((costs[..., 1], costs[..., 0]), axis=-1)
    second = np.take_along_axis(costs[..., 1], order, axis=-1)
    least_before = np.full_like(second, np.inf)
    least_before[..., 1:] = np.minimum.accumulate(second, axis=-1)[..., :-1]
    members = np.empty(second.shape, dtype=bool)
    np.put_along_axis(members, order, second < least_before, axis=-1)
    return members


def knees(costs: np.ndarray, members: np.ndarray) -> np.ndarray:
    """The front's point that bulges farthest beyond the line through its ends, (studies,), -1 where none does.

    On axes scaled by the front's range, costs (studies, points, 2). The knee of Das (1999), "On characterizing the 'knee' of the
    Pareto curve based on normal-boundary intersection", Structural Optimization 18, whose line through the ends it is.
    """
    of_front = np.where(members[..., None], costs, np.nan)
    low, high = np.nanmin(of_front, axis=1, keepdims=True), np.nanmax(of_front, axis=1, keepdims=True)
    scaled = (of_front - low) / np.where(high > low, high - low, 1)
    # Scaled, the ends are (0, 1) and (1, 0), and the distance from their line is this over √2.
    bulge = np.where(members & (members.sum(axis=1, keepdims=True) > 2), 1 - scaled.sum(axis=2), 0.0)
    return np.where(bulge.max(axis=1) > comparisons.TINY, bulge.argmax(axis=1), -1)


def dominators(costs: np.ndarray, level: float = LEVEL) -> np.ndarray:
    """Which trial of the front each is shown to be dominated by, (studies, trials), -1 where by none.

    Costs are (2, studies, trials, seeds). Shown is what is worse in both objectives by more than the half width that holds for
    all pairs of trials at once (`comparisons.joint_contrasts`). To claim it falsely of a trial of the true front takes an error
    in an objective in which that one is no worse, and of each pair in one direction only: half of the level in either objective
    (an intersection-union test, Berger 1982). So in 1 - level of studies no trial of the true front is claimed to be dominated.
    Simulated in tests/benchmarks/front.py.
    """
    whole = np.ones(costs.shape[1:], dtype=bool)
    fits = [comparisons.fit(of, whole) for of in costs]
    members = on_front(np.moveaxis(costs.mean(axis=3), 0, -1))
    found = np.full(members.shape, -1)
    for of in np.flatnonzero(members.any(axis=0)):
        gaps = [comparisons.joint_contrasts(fit, np.full(len(members), of), level) for fit in fits]
        is_worse = np.all([gap.mean > gap.half for gap in gaps], axis=0) & members[:, [of]]
        found = np.where(is_worse & (found < 0), of, found)
    return found


def resampled(costs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """In which share of resamplings of the seeds each trial is on the front, and is its knee, (trials,); costs (2, trials, seeds).

    A seed is drawn for all trials and both objectives at once.
    """
    _, trials, seeds = costs.shape
    # Who is worse in both under every seed is so in every resampling.
    ahead = costs[:, on_front(costs.mean(axis=2).T)]
    hopeless = (ahead[:, :, None] < costs[:, None]).all(axis=(0, 3)).any(axis=0)
    open_ = np.flatnonzero(~hopeless)
    draws = max(1, min(RESAMPLES, MOST_RESAMPLED // len(open_)))
    drawn = np.random.default_rng(0).multinomial(seeds, np.full(seeds, 1 / seeds), draws) / seeds
    means = np.einsum("oks,ds->dko", costs[:, open_], drawn)
    members = on_front(means)
    knee = knees(means, members)
    on_it, is_knee = np.zeros(trials), np.zeros(trials)
    on_it[open_] = members.mean(axis=0)
    is_knee[open_] = (knee[:, None] == np.arange(len(open_))).mean(axis=0)
    return on_it, is_knee
