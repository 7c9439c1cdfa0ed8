"""Where a study stands, in a few numbers. Light: imports neither torch nor pandas."""

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import ColumnElement, func, null, select

from depth_loss_sweep import measures
from depth_loss_sweep.lease import state_of
from depth_loss_sweep.objectives import StudyObjective
from depth_loss_sweep.paths import Home
from depth_loss_sweep.reports.advice import Advice, Contender, advise, objection_to, predictor_values, ranking_of
from depth_loss_sweep.reports.measures import Measure
from depth_loss_sweep.reports.naming import spec_recipe
from depth_loss_sweep.spec import StudySpec
from depth_loss_sweep.spec_file import stored_spec
from depth_loss_sweep.store import OBJECTS, Store
from depth_loss_sweep.tables import RUN, STATES, TRIAL, TRIAL_RUN

BREAK = {"epoch": "Int64", "step": "Int64", "term": "object", "grad_norm": "float64"}
"""What is known of where a run became non-finite, and the type of its column in a table."""


BASELINES = dict[str, dict[str, dict[str, float]]]
"""Split -> trivial predictor -> measure -> its value, as a study's row has them."""

LISTED = ("trial", "seed", "params", "weights", "run", "reason")


def status(store: Store, home: Home, name: str, most: int | None = None) -> dict[str, Any]:
    """A study's state in numbers, JSON-able; counted by the database, so that ten thousand trials cost little.

    `headline` and `best` are what the report and `sweep best` say. Runs that diverged or failed are listed, the `most`
    first of each where it is given.
    """
    row = store.require(name)
    spec = stored_spec(row, store.shown_url)
    state, worker = state_of(store, home, row)
    trials = _counts(store, select(TRIAL.c.state, func.count()).where(TRIAL.c.study == name).group_by(TRIAL.c.state))
    headline, best = _answer(store, row, spec, not trials or trials.get("running", 0) > 0)
    of_study = select(TRIAL_RUN.c.run).where(TRIAL_RUN.c.study == name).distinct().subquery()
    runs = select(RUN.c.state, func.count()).join(of_study, of_study.c.run == RUN.c.run).group_by(RUN.c.state)
    outcomes = (
        select(RUN.c.outcome, func.count())
        .join(of_study, of_study.c.run == RUN.c.run)
        .where(RUN.c.outcome.is_not(None))
        .group_by(RUN.c.outcome)
    )
    return {
        "name": name,
        "state": state,
        "held_by": worker,
        "objective": spec.study.objective,
        "trials": {
            "total": spec.trial_count,
            **{s: trials.get(s, 0) for s in STATES[TRIAL]},
        },
        "runs": _counts(store, runs),
        "outcomes": _counts(store, outcomes),
        "headline": headline,
        "best": best,
        "diverged": [_diverged(row) for row in _listed(store, name, RUN.c.outcome == "non_finite", most)],
        "failed": [_failed(row) for row in _listed(store, name, RUN.c.state == "failed", most)],
        "created": row["created"],
        "updated": row["updated"],
    }


def _counts(store: Store, query: Any) -> dict[str, int]:
    return {str(key): int(count) for key, count in (tuple(row.values()) for row in store.rows(query))}


def _listed(store: Store, name: str, which: ColumnElement[bool], most: int | None) -> list[dict[str, Any]]:
    """These runs of a study, each under its first trial, in the order of trials."""
    first = (
        select(TRIAL_RUN.c.run, func.min(TRIAL_RUN.c.trial).label("trial"), func.min(TRIAL_RUN.c.seed).label("seed"))
        .join(RUN, RUN.c.run == TRIAL_RUN.c.run)
        .where((TRIAL_RUN.c.study == name) & which)
        .group_by(TRIAL_RUN.c.run)
        .order_by("trial", "seed")
        .limit(most)
        .subquery()
    )
    query = (
        select(first.c.trial, first.c.seed, TRIAL.c.params, TRIAL.c.weights, RUN.c.run, RUN.c.reason, RUN.c.details)
        .join(TRIAL, (TRIAL.c.number == first.c.trial) & (TRIAL.c.study == name))
        .join(RUN, RUN.c.run == first.c.run)
        .order_by(first.c.trial, first.c.seed)
    )
    rows = store.rows(query)
    return [_decoded(store, row) for row in rows]


def _decoded(store: Store, row: dict[str, Any]) -> dict[str, Any]:
    """A trial's row with its swept values and weights."""
    return {**row, **{key: store.decoded(row, key, OBJECTS[key]) for key in ("params", "weights")}}


def _diverged(row: dict[str, Any]) -> dict[str, Any]:
    """Where a run became non-finite: at which weights, and, where that is known, in which step."""
    where = break_of(row["details"]) or dict.fromkeys(BREAK)
    return {**{key: row[key] for key in LISTED}, **where}


def _failed(row: dict[str, Any]) -> dict[str, Any]:
    traceback = _details(row["details"]).get("traceback")
    return {**{key: row[key] for key in LISTED}, "traceback": traceback if isinstance(traceback, str) else None}


def break_of(details: Any) -> dict[str, Any] | None:
    """The epoch, step, term and gradient norm with which a run became non-finite, of its details; None where unknown."""
    place: Any = _details(details).get("break")
    try:
        epoch, step, norm = int(place["epoch"]), int(place["step"]), place["grad_norm"]
        if max(epoch, step) >= 1 << 53:  # of a damaged database, and more than a table's column takes
            return None
        norm = math.nan if norm is None else float(norm)
        return {"epoch": epoch, "step": step, "term": str(place["term"]), "grad_norm": norm}
    except (TypeError, ValueError, LookupError, OverflowError):
        return None


def _details(details: Any) -> dict[str, Any]:
    """A run's details; none where they are missing (None, or a table's NaN) or damaged."""
    try:
        decoded = json.loads(details)
    except (TypeError, ValueError, RecursionError):
        return {}
    return decoded if isinstance(decoded, dict) else {}


def _answer(
    store: Store, row: Mapping[str, Any], spec: StudySpec, unfinished: bool
) -> tuple[str, dict[str, Any] | None]:
    """The answer in one line, and the trial that is ahead, as the report has them (`reports.advice`)."""
    objective = measures.measure(spec.objective.column)
    ranking = ranking_of(objective, measures.measure("metric_rmse"))
    finals = final_values(store, spec, ranking)
    contenders = [Contender(n, values) for n, values in finals.items() if len(values) >= len(spec.study.seeds)]
    advice = advise(
        contenders,
        ranking,
        predictor_values(store.decoded(row, "baselines", BASELINES).get("val", {}), ranking),
        lambda numbers: {n: trial["weights"] for n, trial in _trials(store, spec.name, numbers).items()},
        objection_to(objective, spec.variable_names),
        unfinished,
    )
    best = _trial_ahead(store, spec, advice, contenders)
    return advice.headline(spec_recipe(best["weights"], best["params"]) if best else "")[0], best


def _trial_ahead(
    store: Store, spec: StudySpec, advice: Advice, contenders: Sequence[Contender]
) -> dict[str, Any] | None:
    if advice.trial is None:
        return None
    trial = _trials(store, spec.name, [advice.trial])[advice.trial]
    value = next(c.mean for c in contenders if c.number == advice.trial)
    about = {"trial": advice.trial, "verdict": advice.verdict, "value": value}
    return {**about, "params": trial["params"], "weights": trial["weights"]}


def final_values(store: Store, spec: StudySpec, measure: Measure) -> dict[int, tuple[float, ...]]:
    """Trial -> the final values of its seeds on val; none for one that has no value."""
    epoch = store.epoch_table
    objective = StudyObjective(measure.column, spec.objective.window)
    column = epoch.c[measure.column] if measure.column in epoch.c else null()
    counted = (epoch.c.epoch > TRIAL.c.epochs - objective.window) & (epoch.c.epoch <= TRIAL.c.epochs)
    query = (
        select(TRIAL_RUN.c.trial, TRIAL_RUN.c.seed, RUN.c.outcome, column.label("value"))
        .join(TRIAL, (TRIAL.c.study == TRIAL_RUN.c.study) & (TRIAL.c.number == TRIAL_RUN.c.trial))
        .join(RUN, RUN.c.run == TRIAL_RUN.c.run)
        .outerjoin(epoch, (epoch.c.run == TRIAL_RUN.c.run) & (epoch.c.split == "val") & counted)
        .where(TRIAL_RUN.c.study == spec.name, TRIAL.c.state.in_(["running", "complete"]), RUN.c.state == "finished")
    )
    curves: dict[tuple[int, int, str], list[float]] = {}
    for row in store.rows(query):
        curve = curves.setdefault((row["trial"], row["seed"], row["outcome"]), [])
        curve.append(math.nan if row["value"] is None else row["value"])
    values: dict[int, tuple[float, ...]] = {}
    for (trial, _, outcome), curve in sorted(curves.items()):
        value = objective.value_of_run(curve, outcome)
        values[trial] = (*values.get(trial, ()), value) if not math.isnan(value) else values.get(trial, ())
    return values


def _trials(store: Store, name: str, numbers: Sequence[int]) -> dict[int, dict[str, Any]]:
    """These trials with their swept values and weights; asked for as a range, since a query takes so many numbers only."""
    between = TRIAL.c.number.between(min(numbers), max(numbers))
    query = select(TRIAL.c.number, TRIAL.c.params, TRIAL.c.weights).where(TRIAL.c.study == name, between)
    asked = {*numbers}
    return {row["number"]: _decoded(store, row) for row in store.rows(query) if row["number"] in asked}
