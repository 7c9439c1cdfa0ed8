"""What a study's numbers allow to be said, asked of the database by a few queries. Light: imports neither torch nor pandas."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from sqlalchemy import case, null, select

from depth_loss_sweep import measures
from depth_loss_sweep.data.settings import DataSummary
from depth_loss_sweep.objectives import StudyObjective
from depth_loss_sweep.reports.decision import Decision, Question, objection_to, ranking_of
from depth_loss_sweep.reports.measures import Measure, predictor_values
from depth_loss_sweep.reports.naming import spec_recipe
from depth_loss_sweep.reports.race import decide
from depth_loss_sweep.reports.scenes import PictureValues, val_pictures
from depth_loss_sweep.reports.stages import Race
from depth_loss_sweep.reports.trials import FAILED, SeedValue, TrialResult, has_broken
from depth_loss_sweep.reports.wording import headline, verdict
from depth_loss_sweep.spec import StudySpec
from depth_loss_sweep.store import OBJECTS, Store
from depth_loss_sweep.tables import RUN, TRIAL, TRIAL_RUN

BASELINES = dict[str, dict[str, dict[str, float]]]
"""Split -> trivial predictor -> measure -> its value, as a study's row has them."""

TOLD = {"complete", "pruned", "failed"}


def study_decision(store: Store, row: Mapping[str, Any], spec: StudySpec) -> tuple[Decision, dict[str, Any] | None]:
    """The decision that the report comes to, and the trial that it names; None where there is none.

    Of the trial: its number, what it is called, its value (the mean of its unbroken runs), swept values and weights.
    """
    objective = measures.measure(spec.objective.column)
    ranking = ranking_of(objective, measures.measure("metric_rmse"))
    baselines = predictor_values(store.decoded(row, "baselines", BASELINES).get("val", {}), ranking)
    trials = trial_results(store, spec, ranking, baselines.get("median"))
    question = Question(
        measure=ranking,
        baselines=baselines,
        line=_line(spec, trials),
        objection=objection_to(objective, spec.variable_names),
        is_search=spec.search.sampler != "grid",
        is_unfinished=not trials or any(t.state not in TOLD for t in trials),
        margin=spec.study.margin,
        pictures=val_pictures(store.decoded(row, "data", DataSummary)),
        stages=spec.stages,
        seeds=spec.all_seeds,
    )
    decision = decide(trials, question, picture_values(store, spec))
    named = next((t for t in trials if t.number == decision.trial), None)
    if named is None:
        return decision, None
    about = {"trial": named.number, "verdict": verdict(decision), "value": decision.mean}
    return decision, {**about, "params": dict(named.params), "weights": dict(named.weights)}


def race_of(store: Store, spec: StudySpec) -> Race:
    """Where a raced study stands, and what is to be trained next."""
    race = study_decision(store, store.require(spec.name), spec)[0].race
    if race is None:
        raise ValueError(f"{spec.name} is not raced")
    return race


def study_headline(decision: Decision, named: Mapping[str, Any] | None, spec: StudySpec) -> str:
    """The answer in one line, in the words of a spec."""
    measure = ranking_of(measures.measure(spec.objective.column), measures.measure("metric_rmse"))
    return headline(decision, spec_recipe(named["weights"], named["params"]) if named else "", measure)[0]


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


def picture_values(store: Store, spec: StudySpec) -> PictureValues | None:
    """What every validation picture amounts to in the study's finished runs; None where nothing of the kind was kept."""
    ranking = ranking_of(measures.measure(spec.objective.column), measures.measure("metric_rmse"))
    rows = store.final_images(spec.name, ranking.column, spec.objective.window)
    if not rows:
        return None
    pictures, scenes = rows[0]["pictures"], store.scenes(rows[0]["pictures"])
    kept: dict[str, list[list[float]]] = {}
    for row in rows:
        if row["pictures"] == pictures and len(row["numbers"]) == len(scenes):
            kept.setdefault(row["run"], []).append(row["numbers"])
    whole = {row["run"]: min(spec.objective.window, row["epochs"]) for row in rows}
    return PictureValues(scenes, {run: np.mean(own, axis=0) for run, own in kept.items() if len(own) == whole[run]})


def _values(store: Store, spec: StudySpec, measure: Measure) -> dict[tuple[int, int, str, str | None], float]:
    """(trial, seed, run, outcome) -> the run's final value on val, NaN where it has none; of runs that ended."""
    epoch = store.epoch_table
    objective = StudyObjective(measure.column, spec.objective.window)
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


def _line(spec: StudySpec, trials: list[TrialResult]) -> dict[int, float]:
    """Trial -> the value of a line's variable; empty where the study is no line, or its values are no numbers."""
    if spec.kind != "line":
        return {}
    values = {t.number: t.params.get(spec.variable_names[0]) for t in trials}
    return {n: float(v) for n, v in values.items()} if all(isinstance(v, int | float) for v in values.values()) else {}  # type: ignore[arg-type]
