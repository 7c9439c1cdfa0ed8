"""What the named trial is held against, and what seeds share: from trials and their values alone."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median_low

import numpy as np

from depth_loss_sweep.reports.decision import Contrast
from depth_loss_sweep.reports.intervals import seed_correlation
from depth_loss_sweep.reports.measures import Measure
from depth_loss_sweep.reports.references import FIXED, PAPER, POINT, REFERENCES, WEIGHTING
from depth_loss_sweep.reports.trials import SeedValue, TrialResult, are_close, is_equal, normalised

EQUAL_WEIGHTS, TABLE_2 = "equal weights", "the paper's Table 2"
TELLING = 4  # an interval's end that is so many times farther than the middle one tells as good as nothing

# What the named trial is held against


@dataclass(frozen=True)
class Reference:
    """A trial that the named one is held against, by what it is known as, and its contrast."""

    role: str
    label: str
    contrast: Contrast


def paired(trial: TrialResult, other: TrialResult, seeds: Sequence[int]) -> list[tuple[SeedValue, float]]:
    """A trial's values beside another's, under those of the seeds in which neither broke."""
    theirs = {s.seed: s.value for s in other.seeds if s.broke is False}
    return [(s, theirs[s.seed]) for s in trial.seeds if s.broke is False and s.seed in theirs and s.seed in seeds]


def reach_of_ends(ends: Iterable[float], most: float) -> float:
    """How far from zero intervals are drawn: to the farthest of their ends that tells something, which lies within `most`."""
    sizes = sorted(abs(end) for end in ends if math.isfinite(end))
    limit = min(most, TELLING * median_low(sizes)) if sizes else most
    return max((size for size in sizes if size <= limit), default=min(limit, 1.0)) or 1.0


def ranked(trials: Sequence[TrialResult], measure: Measure) -> list[TrialResult]:
    """The complete trials, best mean first; diverged ones last."""
    return sorted((t for t in trials if t.is_complete), key=lambda t: (measure.cost(t.mean), t.number))


def references(
    order: Sequence[TrialResult],
    named: int,
    terms: tuple[str, ...],
    names: Mapping[str, str],
    are_points: bool,
    line: Mapping[int, float],
    rule: str,
) -> list[tuple[str, TrialResult]]:
    """What the named trial is held against: role and trial, each trial once.

    The best mean of `order`, equal weights of the `terms` in use, the paper's Table 2 and single terms by their `names` where
    the study has them; all other named points of a study over such; on a `line` (trial -> place) its neighbours and both
    ends; otherwise the runner-up. By the `rule` go the weights of trials that have none of their own.
    """
    roles = [("the best mean", t) for t in order[:1]]
    roles += [(role, t) for t in order for role in known_as(t, terms, names, rule)]
    if are_points:
        roles += [(str(t.params[POINT]), t) for t in order]
    roles += _line_references(order, named, line)
    by_trial: dict[int, tuple[list[str], TrialResult]] = {}
    for role, trial in roles:
        if trial.number != named:
            by_trial.setdefault(trial.number, ([], trial))[0].append(role)
    return [(", ".join(said), trial) for said, trial in by_trial.values()]


def known_as(trial: TrialResult, terms: tuple[str, ...], names: Mapping[str, str], rule: str) -> list[str]:
    """What a trial is known as by its weights, unless a rule sets them: equal ones of the `terms` in use, Table 2, a term alone.

    By the `rule` go those of a trial that has none of its own.
    """
    if trial.params.get(WEIGHTING, rule) != FIXED:
        return []
    single = _single(trial)
    said = {EQUAL_WEIGHTS: is_equal(trial.weights, terms), TABLE_2: _is_table_2(trial, terms)}
    return [role for role, is_so in said.items() if is_so] + ([f"{names[single]} alone"] if single else [])


def _is_table_2(trial: TrialResult, terms: tuple[str, ...]) -> bool:
    table_2 = normalised(REFERENCES[PAPER].weights, terms)
    return are_close(normalised(trial.weights, terms), table_2) and len(terms) > 2


def _single(trial: TrialResult) -> str | None:
    used = [t for t, w in trial.weights.items() if w > 0]
    return used[0] if len(used) == 1 else None


def _line_references(
    order: Sequence[TrialResult], named: int, places: Mapping[int, float]
) -> list[tuple[str, TrialResult]]:
    if not places:
        return [("runner-up", t) for t in order if t.number != named][:1]
    line = sorted(order, key=lambda t: places[t.number])
    at = [t.number for t in line].index(named)
    neighbours = [("neighbour", line[i]) for i in (at - 1, at + 1) if 0 <= i < len(line)]
    return [("start of the line", line[0]), *neighbours, ("end of the line", line[-1])]


@dataclass(frozen=True)
class Pairing:
    """What the seeds share: `correlation` over trials, and the factor by which pairing multiplies their worth."""

    correlation: float
    worth: float
    seeds: int
    trials: int


def pairing(trials: Sequence[TrialResult]) -> Pairing:
    """The correlation of seeds across finite, complete trials.

    The variance of a difference is 2 sigma^2 (1 - correlation), so pairing is worth 1 / (1 - correlation).
    """
    finite = [t for t in trials if t.is_complete and math.isfinite(t.mean)]
    common = set.intersection(*[{s.seed for s in t.seeds} for t in finite]) if finite else set()
    matrix = np.array([[s.value for s in t.seeds if s.seed in common] for t in finite])
    correlation = seed_correlation(matrix)
    worth = 1 / (1 - correlation) if correlation < 1 else math.inf if correlation == 1 else math.nan
    return Pairing(correlation, worth, len(common), len(finite))
