"""Studies beside a study, which train some of its weights anew under fresh seeds: made, grown, trained.

The row of such a study names the one that it stands beside and what is trained, its candidates; all else is as with any study, so
that it shares runs, survives kills and goes on in the same way. Its runs never enter the other's comparison.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from depth_loss_sweep import __version__
from depth_loss_sweep.growth import fixed_hash, grown_hash, was_answered
from depth_loss_sweep.session import Session, SessionResult
from depth_loss_sweep.spec import StudySpec
from depth_loss_sweep.spec_file import overrides_json, stored_overrides, stored_spec
from depth_loss_sweep.store import Store, now
from depth_loss_sweep.study import check_place, conduct


def train_beside(
    spec: StudySpec, row: Mapping[str, Any], data: str | None, session: Session, about: str = ""
) -> SessionResult:
    """Train what is still to be trained of a study beside the one of that row; `data` is where the same pictures lie now.

    `about` is said before, where there is anything to train.
    """
    if data is not None:
        spec = spec.at(data)
    check_place(spec)
    store = session.store
    session.take(spec.name)
    try:
        companion = _companion(spec, row, store)
        if companion["state"] == "finished" and not store.failed_trials(spec.name):
            return SessionResult(True, 0)
        if about:
            session.display.note(about)
        return conduct(spec, companion, session)
    finally:
        session.release(forget=store.study(spec.name) is None)


def _companion(spec: StudySpec, row: Mapping[str, Any], store: Store) -> dict[str, Any]:
    """The row of the study beside, made or grown to what is asked for now."""
    stored = store.study(spec.name)
    overrides = stored_overrides(row["overrides"]) | {
        "study.seeds": list(spec.study.seeds),
        "study.confirm": 0,
        "search.race": spec.search.race,
        "search.stages": list(spec.search.stages),
    }
    columns = {
        "spec_text": row["spec_text"],
        "overrides": overrides_json(overrides),
        "candidates": json.dumps([asdict(candidate) for candidate in spec.candidates]),
        "fixed_hash": fixed_hash(spec),
        "grown_hash": grown_hash(spec),
        "state": "running",
    }
    if stored is None:
        same = {key: row[key] for key in ("environment", "runtime", "data", "baselines", "group")}
        about = {"name": spec.name, "optuna_name": spec.name, "parent": row["name"], "looks": 1}
        command = f"sweep {'confirm' if spec.is_confirming else 'resume'} {row['name']}"
        store.save_study({**columns, **same, **about, "version": __version__, "command": command, "created": now()})
    elif grown_hash(before := stored_spec(stored, store.shown_url)) != grown_hash(spec):
        looks = (stored["looks"] or 1) + was_answered(before, store)
        store.regrow_study(spec.name, **columns, looks=looks)
    return store.require(spec.name)
