"""The winner confirmed under fresh seeds: beside which weights, and what the test pictures say. Only these numbers are quoted.

Pure, and light: numpy, but neither pandas nor a database. How it is said is `reports.quotes`'s.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

import numpy as np

from depth_loss_sweep.reports.comparisons import LEVEL
from depth_loss_sweep.reports.contrasts import EQUAL_WEIGHTS
from depth_loss_sweep.reports.decision import Decision, Question, decide, decided_by
from depth_loss_sweep.reports.intervals import Interval, known, proportion_interval, t_interval
from depth_loss_sweep.reports.measures import Measure, predictor_values
from depth_loss_sweep.reports.naming import swept_fields
from depth_loss_sweep.reports.race import finalists
from depth_loss_sweep.reports.references import (
    EQUAL,
    FIXED,
    POINT,
    REFERENCES,
    WEIGHTING,
    Candidate,
    allowed_references,
)
from depth_loss_sweep.reports.scenes import Effects, PictureValues, scene_effects, widened
from depth_loss_sweep.reports.trials import SeedValue, TrialResult, has_broken

FIRST_SEED = 10_000
"""Fresh seeds are counted from here."""

WINNER, FOUND, SIMPLEST = "winner", "found by the search", "simplest that may be best"


def candidates(
    trials: Sequence[TrialResult], decision: Decision, measure: Measure, is_scale_free: bool, rule: str = FIXED
) -> tuple[Candidate, ...]:
    """The winner (or the best five of a search that names none by fresh seeds), then what it is held against: equal weights and single
    terms of those that the study weighs, the reference points that these allow, and the simplest that may be best. What trains
    alike is there once. By the `rule` go the weights of trials that have none of their own; it changes no reference.
    """
    by_number = {t.number: t for t in trials}
    if decision.trial is None:
        return ()
    named = by_number[decision.trial]
    role, chosen = (FOUND, finalists(trials, decision, measure)) if decision.is_search else (WINNER, (named,))
    asked = [of_trial(trial, role) for trial in chosen]
    asked += _beside(named, tuple(dict.fromkeys(term for t in trials for term, w in t.weights.items() if w > 0)))
    if not decision.is_search and decision.kept:
        simplest = min(decision.kept, key=lambda n: (sum(w > 0 for w in by_number[n].weights.values()), n))
        asked.append(of_trial(by_number[simplest], SIMPLEST))
    if rule != FIXED:
        asked = [replace(c, fields={WEIGHTING: FIXED if c.trial is None else rule, **c.fields}) for c in asked]
    return _once(asked, is_scale_free)


def of_trial(trial: TrialResult, role: str) -> Candidate:
    """A trial as what is trained anew, in a role."""
    weights = {term: weight for term, weight in trial.weights.items() if weight}
    fields = swept_fields(trial.params) | {
        f"loss.{key}": value for key, value in getattr(REFERENCES.get(trial.params.get(POINT, "")), "loss", {}).items()
    }
    return Candidate(f"trial {trial.number}", (role,), weights, fields, trial.number)


def _beside(named: TrialResult, terms: tuple[str, ...]) -> list[Candidate]:
    """All but trials, at the named trial's swept fields; what is known by its weights is trained with them, by no other rule."""
    fields = {name: FIXED if name == WEIGHTING else value for name, value in swept_fields(named.params).items()}
    beside = [Candidate(EQUAL, (EQUAL_WEIGHTS,), dict.fromkeys(terms, 1.0), fields)] if len(terms) > 1 else []
    beside += [Candidate(term, (f"{term} alone",), {term: 1.0}, fields) for term in terms]
    return beside + [
        Candidate(r.name, (r.name,), dict(r.weights), {**fields, **{f"loss.{k}": v for k, v in r.loss.items()}})
        for r in allowed_references(terms)
    ]


def _once(asked: Sequence[Candidate], is_scale_free: bool) -> tuple[Candidate, ...]:
    """Each once, under the first of its names with all of its roles."""
    kept: list[Candidate] = []
    for one in asked:
        same = next((i for i, other in enumerate(kept) if one.is_as(other, is_scale_free)), None)
        if same is None:
            kept.append(one)
        else:
            kept[same] = replace(kept[same], roles=tuple(dict.fromkeys((*kept[same].roles, *one.roles))))
    return tuple(kept)


# What came of them


@dataclass(frozen=True)
class FreshRun:
    """One confirming run; NaN where it has no value (yet), or the test pictures weren't judged."""

    candidate: str
    seed: int
    run: str
    outcome: str
    is_finished: bool
    val: float
    test: float


@dataclass(frozen=True)
class ConfirmationRecord:
    """A study's confirming runs as plain values. `is_current` is whether its winner is still the one that was confirmed."""

    candidates: tuple[Candidate, ...]
    seeds: tuple[int, ...]
    runs: tuple[FreshRun, ...]
    is_current: bool = True
    looks: int = 1
    read_before: int | None = None
    test_images: int = 0
    val_images: int = 0
    baselines: Mapping[str, Mapping[str, Mapping[str, float]]] = field(default_factory=dict)
    outcomes: Mapping[str, bool] = field(default_factory=dict)
    pictures: PictureValues | None = None
    """Of the part that is judged; `val_pictures` those that a search's best are compared on."""
    val_pictures: PictureValues | None = None


@dataclass(frozen=True)
class Gain:
    """By how much weights are better than others, paired over the seeds in which neither broke; in the measure's unit."""

    pairs: int
    mean: float
    low: float
    high: float
    share: float | None = None
    share_low: float | None = None
    share_high: float | None = None
    low_scenes: float | None = None
    high_scenes: float | None = None

    @property
    def turned(self) -> "Gain":
        """The same as a loss."""
        share = tuple(None if v is None else -v for v in (self.share, self.share_high, self.share_low))
        crossed = (None if v is None else -v for v in (self.high_scenes, self.low_scenes))
        return Gain(self.pairs, -self.mean, -self.high, -self.low, *share, *crossed)

    @property
    def is_shown(self) -> bool:
        """Whether the interval leaves no doubt that there is a difference."""
        return self.low > 0 or self.high < 0


@dataclass(frozen=True)
class Confirmed:
    """A candidate's numbers: the level of its unbroken runs, how many broke with the interval of that, its gain over equal weights.
    `behind` is what the quoted candidate gains over it.

    `low` and `high` are of seeds, on these pictures; `low_scenes` and `high_scenes` count their scenes as a sample, too.
    """

    candidate: Candidate
    confidence: float
    runs: int
    broken: int
    broken_low: float
    broken_high: float
    mean: float | None
    low: float | None
    high: float | None
    gain: Gain | None
    low_scenes: float | None = None
    high_scenes: float | None = None
    behind: Gain | None = None


@dataclass(frozen=True)
class Confirmation:
    """What the confirming runs allow to be quoted. `decision` is that of a search's best five, on their validation pictures."""

    state: Literal["unfinished", "finished"]
    is_current: bool
    part: Literal["test", "val"]
    images: int
    seeds: int
    runs_done: int
    runs: int
    looks: int
    read_before: int | None
    quoted: str | None
    rows: tuple[Confirmed, ...]
    decision: Decision | None = None

    @property
    def quoted_row(self) -> Confirmed | None:
        """The candidate whose numbers are the result; None while there is none."""
        return next((row for row in self.rows if row.candidate.name == self.quoted), None)

    def as_dict(self) -> dict[str, Any]:
        """JSON-able."""
        return {**asdict(replace(self, decision=None)), "decision": self.decision and self.decision.as_dict()}


@dataclass(frozen=True, eq=False)
class _Table:
    """What is judged, (candidates, seeds): `values`, NaN of runs that broke or aren't finished, `unbroken`, and what scenes do
    to them, or why that isn't known.
    """

    values: np.ndarray
    unbroken: np.ndarray
    effects: Effects | str

    def beyond(
        self, interval: Interval, runs: np.ndarray, confidence: float, own: int, other: int | None = None
    ) -> tuple[float | None, float | None]:
        """The interval of a candidate's unbroken runs (seeds,), or of what they differ by from another's, over other scenes, too."""
        if isinstance(self.effects, str) or not runs.any():
            return None, None
        raw = self.effects.raw
        return widened(interval, (raw[own] if other is None else raw[own] - raw[other])[runs], confidence)


def _table(finished: Sequence[FreshRun], record: ConfirmationRecord, measure: Measure, part: str) -> _Table:
    own = {(run.candidate, run.seed): run for run in finished if not _broke(run, record, measure)}
    runs = [[own.get((c.name, seed)) for seed in record.seeds] for c in record.candidates]
    values = np.array([[_value(run, part) if run else math.nan for run in of] for of in runs])
    unbroken = np.isfinite(values)
    keys = [[run.run if run else "" for run in of] for of in runs]
    return _Table(values, unbroken, scene_effects(record.pictures, keys, values, unbroken))


def confirm(record: ConfirmationRecord, measure: Measure, margin: float) -> Confirmation:
    """Levels, gains over equal weights and breaks of all candidates, and which of them is quoted."""
    part: Literal["test", "val"] = "test" if record.test_images else "val"
    finished = [run for run in record.runs if run.is_finished]
    is_finished = len(finished) == len(record.candidates) * len(record.seeds)
    found = [c for c in record.candidates if FOUND in c.roles]
    decision = _decide(found, record, measure, margin) if found and is_finished else None
    table = _table(finished, record, measure, part)
    equal = next((i for i, c in enumerate(record.candidates) if EQUAL_WEIGHTS in c.roles), None)
    is_relative = measure.unit != "fraction" and bool((table.values[table.unbroken] > 0).all())
    rows = []
    for i, candidate in enumerate(record.candidates):
        own = [run for run in finished if run.candidate == candidate.name]
        # One of five is chosen by these runs: all five intervals hold at once, whichever it is.
        confidence = 1 - LEVEL / record.looks / (len(found) if candidate in found else 1)
        broken = sum(bool(_broke(run, record, measure)) or math.isinf(_value(run, part)) for run in own)
        low, high = proportion_interval(broken, len(own), confidence) if own else (0.0, 1.0)
        level = t_interval(table.values[i][table.unbroken[i]], confidence)
        beyond = table.beyond(level, table.unbroken[i], confidence, i)
        gain = None if equal is None or equal == i else _gain(table, i, equal, measure, is_relative, confidence)
        ends = (known(level.mean), known(level.low), known(level.high))
        rows.append(Confirmed(candidate, confidence, len(own), broken, low, high, *ends, gain, *beyond))
    quoted = next((c.name for c in record.candidates if WINNER in c.roles), None)
    if found:
        quoted = next((c.name for c in found if decision and c.trial == decision.trial), None)
    if not (is_finished and record.is_current):
        quoted = None
    ahead = next((i for i, c in enumerate(record.candidates) if c.name == quoted), None)
    if ahead is not None:
        sure = rows[ahead].confidence
        gains = [_gain(table, ahead, i, measure, is_relative, sure) if i != ahead else None for i in range(len(rows))]
        rows = [replace(row, behind=gain) for row, gain in zip(rows, gains, strict=True)]
    return Confirmation(
        state="finished" if is_finished else "unfinished",
        is_current=record.is_current,
        part=part,
        images=record.test_images or record.val_images,
        seeds=len(record.seeds),
        runs_done=len(finished),
        runs=len(record.candidates) * len(record.seeds),
        looks=record.looks,
        read_before=record.read_before,
        quoted=quoted,
        rows=tuple(rows),
        decision=decision,
    )


def confirmed_decision(decision: Decision, confirmation: Confirmation | None) -> Decision:
    """A study's decision: of a search, what its confirmed best five say, once they are; else its own."""
    if not (decision.is_search and confirmation and confirmation.decision and confirmation.is_current):
        return decision
    return decided_by(decision, confirmation.decision, "not among those confirmed")


def _decide(found: Sequence[Candidate], record: ConfirmationRecord, measure: Measure, margin: float) -> Decision:
    baselines = predictor_values(record.baselines.get("val") or {}, measure)
    trials = [_result(c, record, measure) for c in found]
    question = Question(measure, baselines, margin=margin, looks=record.looks, pictures=record.val_images or None)
    return decide(trials, question, record.val_pictures)


def _result(candidate: Candidate, record: ConfirmationRecord, measure: Measure) -> TrialResult:
    seeds = tuple(
        SeedValue(run.run, run.seed, run.val, run.outcome, run.is_finished, _broke(run, record, measure))
        for run in record.runs
        if run.candidate == candidate.name
    )
    number = -1 if candidate.trial is None else candidate.trial
    return TrialResult(
        number, candidate.name, candidate.weights, candidate.fields, "complete", len(record.seeds), seeds
    )


def _broke(run: FreshRun, record: ConfirmationRecord, measure: Measure) -> bool | None:
    median = predictor_values(record.baselines.get("val") or {}, measure).get("median")
    return has_broken(run.outcome, run.val, record.outcomes, median, measure.higher_is_better)


def _value(run: FreshRun, part: str) -> float:
    return run.test if part == "test" else run.val


def _gain(table: _Table, own: int, other: int, measure: Measure, is_relative: bool, confidence: float) -> Gain | None:
    both = table.unbroken[own] & table.unbroken[other]
    if both.sum() < 2:
        return None
    ours, theirs = table.values[own][both], table.values[other][both]
    sign = 1 if measure.higher_is_better else -1
    absolute = t_interval(sign * (ours - theirs), confidence)
    low, high = table.beyond(absolute, both, confidence, own, other)
    gain = Gain(len(ours), absolute.mean, absolute.low, absolute.high, low_scenes=low, high_scenes=high)
    if not is_relative:
        return gain
    logs = t_interval(np.log(ours / theirs), confidence)
    share, low, high = (sign * math.expm1(v) for v in (logs.mean, *sorted((logs.low, logs.high), reverse=sign < 0)))
    return replace(gain, share=share, share_low=low, share_high=high)
