"""When and where training broke in a study's runs, asked of the database. Light: imports neither torch nor pandas."""

import json
import math
from collections.abc import Sequence
from itertools import groupby
from typing import Any

from sqlalchemy import select

from depth_loss_sweep.measures import BROKEN
from depth_loss_sweep.model.outcomes import FLAT_RATIO, SPIKE_RATIO
from depth_loss_sweep.reports.instability import NON_FINITE, Break, Instability, Rules, instability
from depth_loss_sweep.reports.trials import TrialResult
from depth_loss_sweep.store import Store
from depth_loss_sweep.tables import RUN, TRIAL_RUN

RULES = Rules(FLAT_RATIO, SPIKE_RATIO)
"""By what `model.outcomes.judge` judges a run."""

BREAK = {"epoch": "Int64", "step": "Int64", "term": "object", "grad_norm": "float64"}
"""What is known of where a run became non-finite, and the type of its column in a table."""


def study_instability(store: Store, name: str, trials: Sequence[TrialResult]) -> Instability:
    """When each broken run of a study broke, and how likely that is at each of its trials; as the report has it."""
    rows = store.epochs(name, ("val",), [outcome for outcome in BROKEN if outcome != NON_FINITE])
    epochs = {run: list(own) for run, own in groupby(rows, lambda row: row["run"])}
    return instability(trials, BROKEN, _breaks(store, name), epochs, RULES)


def _breaks(store: Store, name: str) -> dict[str, Break]:
    """Run -> where it became non-finite, where that is known."""
    of_study = select(TRIAL_RUN.c.run).where(TRIAL_RUN.c.study == name)
    rows = store.rows(select(RUN.c.run, RUN.c.details).where(RUN.c.run.in_(of_study), RUN.c.outcome == NON_FINITE))
    known = {row["run"]: place for row in rows if (place := break_of(row["details"]))}
    return {run: Break(place["epoch"], place["step"], place["term"]) for run, place in known.items()}


def break_of(details: Any) -> dict[str, Any] | None:
    """The epoch, step, term and gradient norm with which a run became non-finite, of its details; None where unknown."""
    place: Any = details_of(details).get("break")
    try:
        epoch, step, norm = int(place["epoch"]), int(place["step"]), place["grad_norm"]
        if max(epoch, step) >= 1 << 53:  # of a damaged database, and more than a table's column takes
            return None
        norm = math.nan if norm is None else float(norm)
        return {"epoch": epoch, "step": step, "term": str(place["term"]), "grad_norm": norm}
    except (TypeError, ValueError, LookupError, OverflowError):
        return None


def details_of(details: Any) -> dict[str, Any]:
    """A run's details; none where they are missing (None, or a table's NaN) or damaged."""
    try:
        decoded = json.loads(details)
    except (TypeError, ValueError, RecursionError):
        return {}
    return decoded if isinstance(decoded, dict) else {}
