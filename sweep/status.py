"""Where a study stands, in a few numbers. Light: imports neither torch nor pandas."""

import math
from typing import Any

from sqlalchemy import func, select

from sweep.claims import holder
from sweep.paths import Home
from sweep.spec import StudySpec, stored_spec
from sweep.store import OBJECTS, RUN, TRIAL, TRIAL_RUN, Store


def state_of(store: Store, home: Home, row: Any) -> tuple[str, str | None]:
    """running, interrupted or finished; and who is at work on it ("pid 12 on host"), if anyone."""
    worker = holder(store, row["name"], home.lock(row["name"]))
    return ("running" if worker else "interrupted" if row["state"] == "running" else row["state"]), worker


def status(store: Store, home: Home, name: str) -> dict[str, Any]:
    """A study's state in numbers, JSON-able; counted by the database, so that ten thousand trials cost little."""
    row = store.require(name)
    spec = stored_spec(row, store.shown_url)
    state, worker = state_of(store, home, row)
    trials = _counts(store, select(TRIAL.c.state, func.count()).where(TRIAL.c.study == name).group_by(TRIAL.c.state))
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
            **{s: trials.get(s, 0) for s in ("running", "complete", "pruned", "failed")},
        },
        "runs": _counts(store, runs),
        "outcomes": _counts(store, outcomes),
        "best": _best(store, name, spec),
        "created": row["created"],
        "updated": row["updated"],
    }


def _counts(store: Store, query: Any) -> dict[str, int]:
    return {str(key): int(count) for key, count in (tuple(row.values()) for row in store.rows(query))}


def _best(store: Store, name: str, spec: StudySpec) -> dict[str, Any] | None:
    """The complete trial of the best finite value."""
    ranking = TRIAL.c.value.desc() if spec.direction == "maximize" else TRIAL.c.value
    where = (TRIAL.c.study == name) & (TRIAL.c.state == "complete") & TRIAL.c.value.is_not(None)
    rows = store.rows(select(TRIAL).where(where).order_by(ranking, TRIAL.c.number).limit(1))
    if not rows or not math.isfinite(rows[0]["value"]):
        return None
    best = rows[0]
    parts = {key: store.decoded(best, key, OBJECTS[key]) for key in ("params", "weights")}
    return {"trial": best["number"], "value": best["value"], **parts}
