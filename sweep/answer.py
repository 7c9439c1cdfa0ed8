"""What a study's numbers allow to be said, asked of the database by a few queries. Light: imports neither torch nor pandas."""

import hashlib
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from sqlalchemy import case, null, select

from depth_loss_sweep import measures
from depth_loss_sweep.data.settings import DataSummary
from depth_loss_sweep.objectives import StudyObjective
from depth_loss_sweep.paths import CONFIRMED, RACED
from depth_loss_sweep.queries import OBJECTS
from depth_loss_sweep.reports.confirmation import (
    FOUND,
    WINNER,
    Confirmation,
    ConfirmationRecord,
    FreshRun,
    candidates,
    confirm,
    confirmed_decision,
)
from depth_loss_sweep.reports.decision import Decision, Question, objection_to, ranking_of
from depth_loss_sweep.reports.front import Front, Objective, pareto_front
from depth_loss_sweep.reports.measures import Measure, predictor_values
from depth_loss_sweep.reports.naming import spec_recipe
from depth_loss_sweep.reports.race import Finals, decide, decide_by_finals, finalists
from depth_loss_sweep.reports.scenes import PictureValues, val_pictures
from depth_loss_sweep.reports.stages import FINALS_SEED, Race
from depth_loss_sweep.reports.trials import FAILED, TOLD, SeedValue, TrialResult, has_broken
from depth_loss_sweep.reports.wording import headline, verdict
from depth_loss_sweep.spec import StudySpec
from depth_loss_sweep.spec_file import stored_spec
from depth_loss_sweep.store import Store
from depth_loss_sweep.tables import RUN, TRIAL, TRIAL_RUN

BASELINES = dict[str, dict[str, dict[str, float]]]
"""Split -> trivial predictor -> measure -> its value, as a study's row has them."""


class StudyAnswer(NamedTuple):
    """The decision that the report comes to; the trial that it names and what was confirmed, None where there is none; all trials,
    and what was asked of them.

    Of the named trial: its number, what it is called, its value (the mean of its unbroken runs) in figures and in words, swept
    values and weights.
    """

    decision: Decision
    named: dict[str, Any] | None
    confirmation: Confirmation | None
    trials: Sequence[TrialResult]
    question: Question


class Unconfirmed(NamedTuple):
    """What a study's numbers allow to be said, but for what was confirmed: its trials, what is asked of them, and the decision.

    Of a search whose best are raced, `finals` are that race, which decides.
    """

    trials: Sequence[TrialResult]
    question: Question
    decision: Decision
    finals: Finals | None


def study_decision(store: Store, row: Mapping[str, Any], spec: StudySpec) -> StudyAnswer:
    """What a study's numbers allow to be said."""
    trials, question, own, _ = unconfirmed(store, row, spec, picture_values(store, spec))
    record = _confirmation(store, row, spec, trials, own)
    confirmation = confirm(record, question.measure, question.margin) if record else None
    decision = confirmed_decision(own, confirmation)
    named = next((t for t in trials if t.number == decision.trial), None)
    if named is None:
        return StudyAnswer(decision, None, confirmation, trials, question)
    said = None if decision.mean is None else measures.saying(spec)(decision.mean)
    about = {"trial": named.number, "verdict": verdict(decision), "value": decision.mean, "said": said}
    made_of = {"params": dict(named.params), "weights": dict(named.weights)}
    return StudyAnswer(decision, about | made_of, confirmation, trials, question)


def unconfirmed(
    store: Store, row: Mapping[str, Any], spec: StudySpec, pictures: PictureValues | None = None
) -> Unconfirmed:
    """What a study's numbers say before anything is confirmed; `pictures` are those of its own runs."""
    trials, question = study_question(store, row, spec)
    own = decide(trials, question, pictures)
    finals = _finals(store, spec, trials, own, question) if spec.races_best else None
    return Unconfirmed(trials, question, decide_by_finals(own, question, finals), finals)


def study_question(store: Store, row: Mapping[str, Any], spec: StudySpec) -> tuple[list[TrialResult], Question]:
    """A study's trials, and what is asked of them."""
    ranking = study_measure(spec)
    baselines = predictor_values(store.decoded(row, "baselines", BASELINES).get("val", {}), ranking)
    trials = trial_results(store, spec, ranking, baselines.get("median"))
    question = Question(
        measure=ranking,
        baselines=baselines,
        line=line_of(spec, trials),
        objection=objection_to(measures.measure(spec.objective.column, spec), spec.variable_names),
        is_search=spec.is_search,
        is_unfinished=len(trials) < spec.trial_count or any(t.state not in TOLD for t in trials),
        margin=spec.study.margin,
        looks=row["looks"] or 1,
        pictures=val_pictures(store.decoded(row, "data", DataSummary)),
        stages=spec.stages,
        seeds=spec.all_seeds,
        is_first_of_two=len(spec.objectives) > 1,
    )
    return trials, question


def study_front(store: Store, row: Mapping[str, Any], spec: StudySpec, answer: StudyAnswer) -> Front | None:
    """The front of a study's two objectives; None where there is one, or trials can't be compared."""
    question = answer.question
    if len(spec.objectives) < 2 or question.objection:
        return None
    second = measures.measure(spec.objectives[1].column, spec)
    values = store.decoded(row, "baselines", BASELINES).get("val", {})
    of_second = Objective(second, trial_results(store, spec, second, None), predictor_values(values, second))
    return pareto_front((Objective(question.measure, answer.trials, question.baselines), of_second), question.level)


def study_measure(spec: StudySpec) -> Measure:
    """What a study's trials are ranked by."""
    return ranking_of(measures.measure(spec.objective.column, spec), measures.measure("metric_rmse"))


def race_of(store: Store, spec: StudySpec) -> Race:
    """Where a raced study stands, and what is to be trained next."""
    race = decide(*study_question(store, store.require(spec.name), spec)).race
    if race is None:
        raise ValueError(f"{spec.name} is not raced")
    return race


def study_headline(decision: Decision, named: Mapping[str, Any] | None, spec: StudySpec) -> str:
    """The answer in one line, in the words of a spec."""
    return headline(decision, spec_recipe(named["weights"], named["params"]) if named else "", study_measure(spec))[0]


def trial_results(store: Store, spec: StudySpec, measure: Measure, median: float | None) -> list[TrialResult]:
    """Every trial with its seeds' final values of a measure, in trial order; `median` is the training-median predictor's."""
    seeds: dict[int, list[SeedValue]] = {}
    for (trial, seed, run, outcome), value in _values(store, spec, measure).items():
        finished = outcome is not None and outcome != FAILED
        broke = has_broken(outcome or "", value, measures.OUTCOMES, median, measure.higher_is_better)
        seeds.setdefault(trial, []).append(SeedValue(run, seed, value, outcome or "", finished, broke))
    query = select(TRIAL.c.number, TRIAL.c.state, TRIAL.c.params, TRIAL.c.weights).where(TRIAL.c.study == spec.name)
    return [
        TrialResult(
            number=row["number"],
            label="",
            weights=store.decoded(row, "weights", OBJECTS["weights"]),
            params=store.decoded(row, "params", OBJECTS["params"]),
            state=row["state"],
            expected=len(spec.seeds),
            seeds=tuple(seeds.get(row["number"], ())),
        )
        for row in store.rows(query.order_by(TRIAL.c.number))
    ]


def seed_values(store: Store, spec: StudySpec) -> dict[int, tuple[float, ...]]:
    """Trial -> what its finished runs are worth, in the order of the study's seeds."""
    return {
        trial.number: tuple(
            s.value for s in sorted(trial.seeds, key=lambda s: spec.seeds.index(s.seed)) if s.is_finished
        )
        for trial in trial_results(store, spec, study_measure(spec), None)
    }


def picture_values(
    store: Store, spec: StudySpec, split: str = "val", column: str | None = None
) -> PictureValues | None:
    """What every picture of a split amounts to in the study's finished runs; None where nothing of the kind was kept.

    `column` is of which measure, by default what trials are ranked by. The test pictures are judged after the last epoch alone.
    """
    window = 1 if split == "test" else spec.objective.window
    rows = store.final_images(spec.name, column or study_measure(spec).column, window, split)
    if not rows:
        return None
    pictures, scenes = rows[0]["pictures"], store.scenes(rows[0]["pictures"])
    kept: dict[str, list[list[float]]] = {}
    for row in rows:
        if row["pictures"] == pictures and len(row["numbers"]) == len(scenes):
            kept.setdefault(row["run"], []).append(row["numbers"])
    whole = {row["run"]: min(window, row["epochs"]) for row in rows}
    return PictureValues(scenes, {run: np.mean(own, axis=0) for run, own in kept.items() if len(own) == whole[run]})


def _values(store: Store, spec: StudySpec, measure: Measure) -> dict[tuple[int, int, str, str | None], float]:
    """(trial, seed, run, outcome) -> the run's final value on val, NaN where it has none; of runs that ended."""
    epoch = store.epoch_table
    objective = StudyObjective(measure.column, spec.objective.window, measure.higher_is_better)
    column = epoch.c[measure.column] if measure.column in epoch.c else null()
    counted = (epoch.c.epoch > TRIAL.c.epochs - objective.window) & (epoch.c.epoch <= TRIAL.c.epochs)
    outcome = case((RUN.c.state == FAILED, FAILED), else_=RUN.c.outcome).label("outcome")
    query = (
        select(TRIAL_RUN.c.trial, TRIAL_RUN.c.seed, TRIAL_RUN.c.run, outcome, column.label("value"))
        .join(TRIAL, (TRIAL.c.study == TRIAL_RUN.c.study) & (TRIAL.c.number == TRIAL_RUN.c.trial))
        .join(RUN, RUN.c.run == TRIAL_RUN.c.run)
        .outerjoin(epoch, (epoch.c.run == TRIAL_RUN.c.run) & (epoch.c.split == "val") & counted)
        .where(TRIAL_RUN.c.study == spec.name, RUN.c.state.in_(("finished", FAILED)))
        .order_by(TRIAL_RUN.c.trial, TRIAL_RUN.c.seed, epoch.c.epoch)
    )
    curves: dict[tuple[int, int, str, str | None], list[float]] = {}
    for row in store.rows(query):
        curve = curves.setdefault((row["trial"], row["seed"], row["run"], row["outcome"]), [])
        curve.append(math.nan if row["value"] is None else row["value"])
    return {
        key: math.nan if key[3] == FAILED else objective.value_of_run(curve, key[3]) for key, curve in curves.items()
    }


def line_of(spec: StudySpec, trials: Sequence[TrialResult]) -> dict[int, float]:
    """Trial -> the value of a line's variable; empty where the study is no line, or its values are no numbers."""
    if spec.kind != "line":
        return {}
    values = {t.number: t.params.get(spec.variable_names[0]) for t in trials}
    return {n: float(v) for n, v in values.items()} if all(isinstance(v, int | float) for v in values.values()) else {}  # type: ignore[arg-type]


# What was trained under fresh seeds


def finals_seeds(spec: StudySpec) -> tuple[int, ...]:
    """Under which seeds a search's best are raced."""
    return spec.fresh_seeds(FINALS_SEED, spec.search.stages[-1])


def _finals(store: Store, spec: StudySpec, trials: Sequence[TrialResult], own: Decision, question: Question) -> Finals:
    """The race of a search's best; whoever is not among those raced (yet) has no values there."""
    best = [replace(t, seeds=(), state="running") for t in finalists(trials, own, question.measure)]
    begun, seeds, stages = store.companion(spec.name, RACED), finals_seeds(spec), spec.search.stages
    if begun is None:
        return Finals(tuple(best), seeds, stages)
    raced = stored_spec(begun, store.shown_url)
    found = trial_results(store, raced, question.measure, question.baselines.get("median"))
    by_number = {raced.candidates[t.number].trial: t for t in found}
    with_values = [(t, by_number.get(t.number, t)) for t in best]
    return Finals(
        tuple(replace(t, seeds=fresh.seeds, state=fresh.state) for t, fresh in with_values),
        seeds,
        stages,
        begun["looks"] or 1,
        picture_values(store, raced),
    )


def fresh_numbers(
    store: Store, row: Mapping[str, Any], spec: StudySpec
) -> tuple[Finals | None, ConfirmationRecord | None]:
    """The race of a search's best and the confirming runs of a study as a record has them; None where there are none."""
    if not spec.races_best and store.companion(spec.name, CONFIRMED) is None:
        return None, None
    found = unconfirmed(store, row, spec)
    return found.finals, _confirmation(store, row, spec, found.trials, found.decision)


def _confirmation(
    store: Store, row: Mapping[str, Any], spec: StudySpec, trials: Sequence[TrialResult], own: Decision
) -> ConfirmationRecord | None:
    companion = store.companion(spec.name, CONFIRMED)
    if companion is None:
        return None
    confirming = stored_spec(companion, store.shown_url)
    images = store.decoded(row, "data", DataSummary).get("images", {})
    on_test, on_val = (images.get(part, 0) for part in ("test", "val"))
    return ConfirmationRecord(
        candidates=confirming.candidates,
        seeds=confirming.study.seeds,
        runs=tuple(_fresh_runs(store, confirming, bool(on_test))),
        pictures=picture_values(store, confirming, "test" if on_test else "val"),
        val_pictures=picture_values(store, confirming),
        is_current=is_current(spec, confirming, trials, own),
        looks=companion["looks"] or 1,
        read_before=store.readings(reader_of(companion)),
        test_images=on_test,
        val_images=on_val,
        baselines=store.decoded(row, "baselines", BASELINES),
        outcomes=measures.OUTCOMES,
    )


def reader_of(companion: Mapping[str, Any]) -> str:
    """By what a confirming study's reading of the test pictures is known; with other candidates or seeds it is another reading."""
    return hashlib.sha256(f"{companion['created']}|{companion['grown_hash']}".encode()).hexdigest()


def is_current(spec: StudySpec, confirming: StudySpec, trials: Sequence[TrialResult], own: Decision) -> bool:
    """Whether what is confirmed is still the study's winner, or a search's best five, trained as long, under seeds that chose neither."""
    is_scale_free = not spec.train.minds_scale
    asked = candidates(trials, own, study_measure(spec), is_scale_free, spec.loss.weighting)
    now, then = ([c for c in some if {WINNER, FOUND} & {*c.roles}] for some in (asked, confirming.candidates))
    are_same = len(now) == len(then) and all(any(c.is_as(other, is_scale_free) for other in then) for c in now)
    are_fresh = {*spec.all_seeds}.isdisjoint(confirming.study.seeds)
    return are_same and are_fresh and spec.train.epochs == confirming.train.epochs


def _fresh_runs(store: Store, confirming: StudySpec, is_on_test: bool) -> Iterator[FreshRun]:
    measure = study_measure(confirming)
    values = {run: (outcome, value) for (_, _, run, outcome), value in _values(store, confirming, measure).items()}
    tests = _test_values(store, confirming, measure)
    links = select(TRIAL_RUN.c.trial, TRIAL_RUN.c.seed, TRIAL_RUN.c.run, RUN.c.state)
    links = links.join(RUN, RUN.c.run == TRIAL_RUN.c.run).where(TRIAL_RUN.c.study == confirming.name)
    for row in store.rows(links.order_by(TRIAL_RUN.c.trial, TRIAL_RUN.c.seed)):
        run, state = row["run"], row["state"]
        outcome, val = values.get(run, (None, math.nan))
        is_finished = outcome not in (None, FAILED) and (run in tests or not is_on_test)
        test = tests.get(run, math.nan)
        name = confirming.candidates[row["trial"]].name
        yield FreshRun(name, row["seed"], run, outcome or state, is_finished, val, test)


def _test_values(store: Store, confirming: StudySpec, measure: Measure) -> dict[str, float]:
    """Run -> its value on the test pictures, NaN where it isn't defined; of runs that were judged on them."""
    epoch = store.epoch_table
    column = epoch.c[measure.column] if measure.column in epoch.c else null()
    runs = select(TRIAL_RUN.c.run).where(TRIAL_RUN.c.study == confirming.name)
    query = select(epoch.c.run, column.label("value")).where(epoch.c.split == "test", epoch.c.run.in_(runs))
    return {row["run"]: math.nan if row["value"] is None else row["value"] for row in store.rows(query)}
