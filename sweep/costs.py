"""What a study's runs took, asked of the database. Light: imports neither torch nor pandas."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import false, func, select

from depth_loss_sweep.paths import CONFIRMED, RACED
from depth_loss_sweep.reports.cost import RunCost, RunSpan, StudyCost
from depth_loss_sweep.store import Store
from depth_loss_sweep.tables import EPOCH, RUN, STUDY_RUN, TRIAL_RUN

STAMP_S = 60.0
"""So much longer than it trained a run may have been at work without having been stopped: starting, evaluating, whole seconds."""


def study_cost(store: Store, name: str) -> StudyCost:
    """What a study's answer cost, and what confirming it did."""
    return StudyCost.of(finding_costs(store, name), confirming_costs(store, name))


def finding_costs(store: Store, name: str) -> tuple[RunCost, ...]:
    """What each run took that a study's answer is of: its own, and those of the race of its best."""
    return run_costs(store, name) + run_costs(store, name + RACED)


def confirming_costs(store: Store, name: str) -> tuple[RunCost, ...]:
    """What each run took that confirms a study; none where it isn't confirmed."""
    return run_costs(store, name + CONFIRMED)


def run_costs(store: Store, name: str) -> tuple[RunCost, ...]:
    """What each run of a study took, however it ended, as far as it was trained; not those that never began."""
    of_study = select(TRIAL_RUN.c.run).where(TRIAL_RUN.c.study == name)
    epochs = select(func.sum(EPOCH.c.seconds)).where(EPOCH.c.run == RUN.c.run, EPOCH.c.split == "val")
    asked = (STUDY_RUN.c.run == RUN.c.run) & (STUDY_RUN.c.study == name)
    query = (
        select(
            RUN.c.run,
            func.coalesce(RUN.c.seconds, epochs.scalar_subquery()).label("seconds"),  # a run that was dropped has none
            RUN.c.environment,
            RUN.c.origin,
            RUN.c.state,
            func.coalesce(STUDY_RUN.c.taken_over, false()).label("is_taken_over"),
        )
        .outerjoin(STUDY_RUN, asked)
        .where(RUN.c.run.in_(of_study))
        .order_by(RUN.c.run)
    )
    rows = [row for row in store.rows(query) if row["seconds"]]
    environments = {row["environment"]: row for row in rows}
    devices = {text: _device(store.decoded(row, "environment")) for text, row in environments.items()}
    found = []
    for row in rows:
        is_gpu, threads = devices[row["environment"]]
        is_own = row["origin"] is None and not row["is_taken_over"]
        found.append(
            RunCost(row["run"], row["seconds"] * threads, is_gpu, is_own, row["state"] not in ("waiting", "running"))
        )
    return tuple(found)


def run_spans(store: Store, name: str) -> tuple[RunSpan, ...]:
    """When the study trained each of its runs; of one that was stopped and resumed, the time before that isn't told."""
    asked = (STUDY_RUN.c.run == RUN.c.run) & (STUDY_RUN.c.study == name) & ~STUDY_RUN.c.taken_over
    query = (
        select(RUN.c.run, RUN.c.started, RUN.c.finished, RUN.c.seconds)
        .join(STUDY_RUN, asked)
        .where(RUN.c.origin.is_(None) & RUN.c.started.is_not(None) & RUN.c.finished.is_not(None))
        .order_by(RUN.c.run)
    )
    return tuple(_span(**row) for row in store.rows(query))


def _span(run: str, started: str, finished: str, seconds: float | None) -> RunSpan:
    begin, end = (datetime.fromisoformat(text).timestamp() for text in (started, finished))
    is_resumed = seconds is not None and end - begin > seconds + STAMP_S
    return RunSpan(run, end - seconds if is_resumed and seconds else begin, end)


def _device(environment: Mapping[str, Any]) -> tuple[bool, int]:
    """Whether a run of this environment is trained on a graphics card, and by how many threads of a CPU."""
    threads = environment.get("threads")
    return environment.get("device") in ("cuda", "mps"), threads if isinstance(threads, int) and threads > 0 else 1
