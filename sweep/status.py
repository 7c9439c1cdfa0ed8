"""Where a study stands, in a few numbers. Light: imports neither torch nor pandas."""

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import ColumnElement, Subquery, func, select

from depth_loss_sweep.answer import study_decision, study_front, study_headline, study_measure
from depth_loss_sweep.costs import study_cost
from depth_loss_sweep.environments import told_of
from depth_loss_sweep.instability import BREAK, break_of, details_of, study_instability
from depth_loss_sweep.lease import state_of
from depth_loss_sweep.measures import measure
from depth_loss_sweep.paths import COMPANIONS, Home
from depth_loss_sweep.queries import OBJECTS
from depth_loss_sweep.reports.quotes import quote
from depth_loss_sweep.reports.wording import front_headline
from depth_loss_sweep.spec_file import stored_spec
from depth_loss_sweep.store import Store
from depth_loss_sweep.tables import EPOCH, RUN, STATES, STUDY, TRIAL, TRIAL_RUN

LISTED = ("trial", "seed", "params", "weights", "run", "reason")


def status(store: Store, home: Home, name: str, most: int | None = None) -> dict[str, Any]:
    """A study's state in numbers, JSON-able; counted by the database, so that ten thousand trials cost little.

    `headline` and `best` are what the report and `sweep best` say. Runs that diverged or failed are listed, the `most`
    first of each where it is given; `beside` are the studies that stand beside it, with those of theirs that failed.
    """
    row = store.require(name)
    spec = stored_spec(row, store.shown_url)
    state, worker = state_of(store, home, row)
    trials = _counts(store, select(TRIAL.c.state, func.count()).where(TRIAL.c.study == name).group_by(TRIAL.c.state))
    answer = study_decision(store, row, spec)
    decision, best, confirmation = answer.decision, answer.named, answer.confirmation
    front = study_front(store, row, spec, answer)
    both = [measure(each.column, spec) for each in spec.objectives]
    of_study = _runs_of(name)
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
        "objective": spec.objective.name,
        "trials": {
            "total": spec.trial_count,
            **{s: trials.get(s, 0) for s in STATES[TRIAL]},
        },
        "runs": run_counts(store, name),
        "outcomes": _counts(store, outcomes),
        "headline": study_headline(decision, best, spec),
        "decision": {key: getattr(decision, key) for key in ("state", "trial", "kept", "bound")},
        "best": best,
        "confirmed": quote(confirmation, study_measure(spec)) if confirmation else None,
        "confirmation": confirmation.as_dict() if confirmation else None,
        "front_headline": front_headline(front, both) if front else None,
        "front": front.as_dict() if front else None,
        "environments": told_of(store, name),
        "cost": study_cost(store, name).as_dict(),
        "diverged": [_diverged(row) for row in _listed(store, name, RUN.c.outcome == "non_finite", most)],
        "instability": study_instability(store, name, answer.trials).as_dict(),
        "failed": _failures(store, name, most),
        "beside": [
            _beside(store, home, each, most) for ending in COMPANIONS if (each := store.companion(name, ending))
        ],
        "created": row["created"],
        "updated": row["updated"],
    }


def _beside(store: Store, home: Home, row: Mapping[str, Any], most: int | None) -> dict[str, Any]:
    """Where a study beside another stands, whose answer is told with the other's: its runs, and which of them failed."""
    name = row["name"]
    runs, failed = run_counts(store, name), _failures(store, name, most)
    return {"name": name, "state": state_of(store, home, row)[0], "runs": runs, "failed": failed}


def run_counts(store: Store, name: str) -> dict[str, int]:
    """How many of a study's runs are in each state."""
    of_study = _runs_of(name)
    return _counts(
        store, select(RUN.c.state, func.count()).join(of_study, of_study.c.run == RUN.c.run).group_by(RUN.c.state)
    )


def progress(store: Store, names: Sequence[str]) -> list[list[tuple[str, ...]]]:
    """What differs once the numbers of one of these studies, or of those that stand beside them, have changed; cheap to ask."""
    studies = (STUDY.c.name.in_(names)) | (STUDY.c.parent.in_(names))
    known = select(STUDY.c.name).where(studies)
    asked = (
        select(STUDY.c.name, STUDY.c.state, STUDY.c.grown_hash, STUDY.c.looks).where(studies),
        select(TRIAL.c.study, TRIAL.c.state, func.count().label("n"))
        .group_by(TRIAL.c.study, TRIAL.c.state)
        .where(TRIAL.c.study.in_(known)),
        select(TRIAL_RUN.c.study, RUN.c.state, func.count().label("n"))
        .join(RUN, RUN.c.run == TRIAL_RUN.c.run)
        .where(TRIAL_RUN.c.study.in_(known))
        .group_by(TRIAL_RUN.c.study, RUN.c.state),
        select(func.count().label("n"))
        .select_from(EPOCH)
        .where(EPOCH.c.run.in_(select(TRIAL_RUN.c.run).where(TRIAL_RUN.c.study.in_(known)))),
    )
    return [sorted(tuple(map(str, row.values())) for row in store.rows(query)) for query in asked]


def _runs_of(name: str) -> Subquery:
    return select(TRIAL_RUN.c.run).where(TRIAL_RUN.c.study == name).distinct().subquery()


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


def _failures(store: Store, name: str, most: int | None) -> list[dict[str, Any]]:
    """The failed runs of a study, and why."""
    return [_failed(row) for row in _listed(store, name, RUN.c.state == "failed", most)]


def _failed(row: dict[str, Any]) -> dict[str, Any]:
    traceback = details_of(row["details"]).get("traceback")
    return {**{key: row[key] for key in LISTED}, "traceback": traceback if isinstance(traceback, str) else None}
