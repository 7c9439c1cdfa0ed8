"""Which weights to use, how sure that is, where training breaks: decided here, from trials and their values alone.

`recommend` is the answer; `contrast`, `pairing` and `breakage` say how far it can be trusted. `reports.analysis` asks them
of a record.
"""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import numpy as np

from depth_loss_sweep.reports.advice import (
    COMBINED,
    OTHER_PICTURES,
    Advice,
    Contender,
    advise,
    cost,
)
from depth_loss_sweep.reports.intervals import (
    Interval,
    expected_best_of,
    proportion_interval,
    seed_correlation,
    t_interval,
)
from depth_loss_sweep.reports.measures import Measure
from depth_loss_sweep.reports.references import PAPER, POINT, REFERENCES
from depth_loss_sweep.reports.trials import TrialResult, is_equal, normalised

OBJECTIONS = {
    OTHER_PICTURES: "The trials differ in their data, so their metrics are of other pixels and say nothing about which weights "
    "are better. Read each setting of the data apart, or give each a study of its own.",
    COMBINED: "The objective is the combined loss, whose meaning changes with the weights: its minimum says nothing "
    "about which weights are better. Choose a validation metric, such as val_rmse, as the objective; trained "
    "runs are used again.",
}
DIVERGED = (
    "In every finished trial at least one seed went non-finite. Survivors are not averaged alone, so no trial "
    "has a value."
)


@dataclass(frozen=True)
class Recommendation(Advice):
    """Which weights to use, and why: an `Advice` with its numbers. `reason` says why, or why there is none.

    `params` are the trial's swept values. `mean`, `standard_error`, `low`, `high` (95 % t-interval) are of the objective,
    in its unit, over `seeds` seeds. `optimism` is by how much the best of `compared` equally good trials would look
    better than it is, by luck alone.
    """

    objective: str = ""
    reason: str = ""
    label: str = ""
    weights: dict[str, float] = field(default_factory=dict)
    params: dict[str, Any] = field(default_factory=dict)
    mean: float = math.nan
    standard_error: float = math.nan
    low: float = math.nan
    high: float = math.nan
    missing: int = 0
    optimism: float = math.nan
    baselines: dict[str, float] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """JSON-able: numbers that are missing or infinite become None."""
        bad = (math.nan, math.inf, -math.inf)
        plain = {
            k: None if isinstance(v, float) and (math.isnan(v) or v in bad) else v for k, v in asdict(self).items()
        }
        return {**plain, "tied": list(self.tied)}


def recommend(
    trials: Sequence[TrialResult],
    measure: Measure,
    baselines: Mapping[str, float],
    objective: str,
    objection: str,
    unfinished: bool,
) -> Recommendation:
    """The weights to use, by the rule of `reports.advice`: of trials with their values of a measure, for a study's objective.

    Compared are trials of which every seed has finished; one with a non-finite run counts as infinitely bad. `baselines`
    are the trivial predictors' values of the measure; `objection` is that of `reports.advice.objection_to`.
    """
    by_number = {t.number: t for t in trials}
    complete = [t for t in trials if t.is_complete]
    advice = advise(
        [Contender(t.number, t.values) for t in complete],
        measure,
        baselines,
        lambda numbers: {n: by_number[n].weights for n in numbers},
        objection,
        unfinished,
    )
    shared = {**vars(advice), "objective": objective, "missing": len(trials) - len(complete)}
    if advice.trial is None or advice.best is None:
        return Recommendation(**shared, reason=_no_reason(advice), baselines={} if advice.objection else {**baselines})
    chosen, best = by_number[advice.trial], by_number[advice.best]
    finite = [t for t in complete if math.isfinite(t.mean)]
    return Recommendation(
        **shared,
        reason=_reason(chosen, best, advice, measure),
        label=chosen.label,
        weights=dict(chosen.weights),
        params=dict(chosen.params),
        mean=chosen.mean,
        standard_error=chosen.interval.standard_error,
        low=chosen.interval.low,
        high=chosen.interval.high,
        optimism=optimism(finite, len(finite)),
        baselines={**baselines},
    )


def _no_reason(advice: Advice) -> str:
    if advice.objection:
        return OBJECTIONS[advice.objection]
    return DIVERGED if advice.compared else "No trial has finished all of its seeds yet."


def _reason(chosen: TrialResult, best: TrialResult, advice: Advice, measure: Measure) -> str:
    if advice.compared == 1:
        return "It is the only trial that was compared."
    if best.interval.n < 2:
        return "The best of the finished trials, from one seed: an anecdote, perhaps only luck. Add seeds."
    if len(advice.tied) == 1:
        return "No other trial is within one standard error of it."
    if chosen is best:
        where = "which is also the best"
    else:
        where = f"while trial {best.number} ({best.label}) has the best mean, {measure.write(best.mean)}"
    return (
        f"{len(advice.tied)} trials are within one standard error of the best: no difference that this study can show, "
        f"so the simplest is taken (fewest non-zero terms, then closest to equal weights), {where}."
    )


def optimism(trials: Sequence[TrialResult], compared: int) -> float:
    """By how much the best of that many equally good trials would look better than it is, in the objective's unit.

    The standard error is pooled over trials (NaN for one seed); seeds shared by trials make it smaller in truth.
    """
    squares = [t.interval.standard_error**2 for t in trials if math.isfinite(t.interval.standard_error)]
    return expected_best_of(compared) * math.sqrt(sum(squares) / len(squares)) if squares else math.nan


# Contrasts, paired by seed


@dataclass(frozen=True)
class Contrast:
    """How much better the best trial is than a reference, seed by seed, in the measure's unit."""

    role: str
    trial: int
    label: str
    advantage: Interval
    diverged: bool


def ranked(trials: Sequence[TrialResult], measure: Measure) -> list[TrialResult]:
    """The complete trials, best mean first; diverged ones last."""
    return sorted((t for t in trials if t.is_complete), key=lambda t: (cost(t.mean, measure), t.number))


def references(
    order: Sequence[TrialResult],
    advice: Advice,
    terms: tuple[str, ...],
    names: Mapping[str, str],
    are_points: bool,
    line: Mapping[int, float],
) -> list[tuple[str, TrialResult]]:
    """What the best trial (the first of `order`) is held against: role and trial, each trial once.

    The trial of the advice, equal weights of the `terms` in use, the paper's Table 2 and single terms by their `names` where
    the study has them; all other named points of a study over such; on a `line` (trial -> place) its neighbours and both
    ends; otherwise the runner-up.
    """
    roles = [(advice.verdict, t) for t in order if t.number == advice.trial]
    roles += [("equal weights", t) for t in order if is_equal(t.weights, terms)]
    roles += [("the paper's Table 2", t) for t in order if _is_table_2(t, terms)]
    roles += [(f"{names[single]} alone", t) for t in order if (single := _single(t))]
    if are_points:
        roles += [(str(t.params[POINT]), t) for t in order]
    roles += _line_references(order, line)
    named: dict[int, tuple[list[str], TrialResult]] = {}
    for role, trial in roles:
        if trial.number != order[0].number:
            named.setdefault(trial.number, ([], trial))[0].append(role)
    return [(", ".join(names), trial) for names, trial in named.values()]


def _is_table_2(trial: TrialResult, terms: tuple[str, ...]) -> bool:
    table_2 = normalised(REFERENCES[PAPER].weights, terms)
    return bool(np.allclose(normalised(trial.weights, terms), table_2, atol=1e-6)) and len(terms) > 2


def _single(trial: TrialResult) -> str | None:
    used = [t for t, w in trial.weights.items() if w > 0]
    return used[0] if len(used) == 1 else None


def _line_references(order: Sequence[TrialResult], places: Mapping[int, float]) -> list[tuple[str, TrialResult]]:
    if not places or not order:
        return [("runner-up", t) for t in order[1:2]]
    line = sorted(order, key=lambda t: places[t.number])
    at = line.index(order[0])
    neighbours = [("neighbour", line[i]) for i in (at - 1, at + 1) if 0 <= i < len(line)]
    return [("start of the line", line[0]), *neighbours, ("end of the line", line[-1])]


def contrast(role: str, best: TrialResult, other: TrialResult, measure: Measure) -> Contrast:
    """The best trial's advantage over another one, paired by seed."""
    mine = {s.seed: s.value for s in best.seeds}
    pairs = [(cost(s.value, measure), cost(mine[s.seed], measure)) for s in other.seeds if s.seed in mine]
    gains = [theirs - ours for theirs, ours in pairs if not math.isnan(theirs) and not math.isnan(ours)]
    return Contrast(role, other.number, other.label, t_interval(gains), any(math.isinf(g) for g in gains))


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


# Where training breaks


@dataclass(frozen=True)
class Breakage:
    """How runs ended. `broken` are flat, spiking or non-finite.

    `onset` is the value of a line's variable from which on (or up to which) every trial has a broken run.
    """

    counts: Counter[str]
    finished: int
    broken: int
    probability: tuple[float, float]
    trials: tuple[TrialResult, ...]
    onset: tuple[Literal["from", "up to"], float] | None


def breakage(trials: Sequence[TrialResult], line: Mapping[int, float]) -> Breakage:
    """Count outcomes over all finished runs, with the exact 95 % interval of a run's probability to break.

    `line` is trial -> place where the study sweeps one variable, else empty.
    """
    finished, broken = sum(t.finished for t in trials), sum(t.broken for t in trials)
    return Breakage(
        counts=sum((t.outcomes for t in trials), Counter()),
        finished=finished,
        broken=broken,
        probability=proportion_interval(broken, finished) if finished else (math.nan, math.nan),
        trials=tuple(t for t in trials if t.broken),
        onset=_onset(trials, line),
    )


def _onset(trials: Sequence[TrialResult], places: Mapping[int, float]) -> tuple[Literal["from", "up to"], float] | None:
    line = sorted((places[t.number], t.broken > 0) for t in trials if t.finished and places)
    broken = [is_broken for _, is_broken in line]
    top, bottom = _run_length(broken[::-1]), _run_length(broken)
    if top and top < len(line):
        return "from", line[-top][0]
    return ("up to", line[bottom - 1][0]) if bottom and bottom < len(line) else None


def _run_length(flags: Sequence[bool]) -> int:
    return next((i for i, flag in enumerate(flags) if not flag), len(flags))
