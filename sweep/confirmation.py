"""`sweep confirm`: the winner and what it is held against under fresh seeds, judged on the test pictures.

Confirming is a study of its own beside the one that it confirms: its row names that one and what is trained, all else is as with any
study, so that it shares runs, survives kills and goes on in the same way. Its runs never enter the other's comparison.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict
from itertools import count, islice
from typing import Any

from depth_loss_sweep import __version__
from depth_loss_sweep.answer import is_current, study_headline, study_measure, study_question
from depth_loss_sweep.errors import StudyError
from depth_loss_sweep.growth import fixed_hash, grown_hash
from depth_loss_sweep.paths import CONFIRMED
from depth_loss_sweep.reports.confirmation import FIRST_SEED, candidates
from depth_loss_sweep.reports.race import decide
from depth_loss_sweep.session import Session, SessionResult
from depth_loss_sweep.spec import StudySpec
from depth_loss_sweep.spec_file import overrides_json, stored_overrides, stored_spec
from depth_loss_sweep.store import Store, now
from depth_loss_sweep.study import check_place, conduct

SEEDS = 12
LONGEST_NAME = 100 - len(CONFIRMED)


def confirm(name: str, seeds: int | None, data: str | None, session: Session) -> SessionResult:
    """Train what is still to be trained to confirm a study; `StudyError` where there is nothing to confirm.

    `seeds` is how many fresh ones (None: as many as before, or as the spec asks for); `data` where the same pictures lie now.
    """
    store = session.open()
    row = store.require(name)
    if row["parent"]:
        raise StudyError(f"{name!r} confirms the study {row['parent']!r}: go on with: sweep confirm {row['parent']}")
    if len(name) > LONGEST_NAME:
        raise StudyError(
            f"the name {name!r} is too long to be confirmed: copy the study under a shorter one (sweep copy --name)"
        )
    spec = _confirming_spec(store, row, seeds)
    if data is not None:
        spec = spec.at(data)
    check_place(spec)
    session.take(spec.name)
    try:
        companion = _companion(spec, row, store)
        if companion["state"] == "finished" and not store.failed_trials(spec.name):
            return SessionResult(True, 0)
        return conduct(spec, companion, session)
    finally:
        session.release(forget=store.study(spec.name) is None)


def confirm_after(
    name: str, data: str | None, session: Session, end: SessionResult, seeds: int | None = None
) -> SessionResult:
    """Go on confirming after a session at work on the study itself, where `seeds` or its spec ask for it, or it was begun.

    `seeds` is how many fresh ones at least; None: as the spec says.
    """
    store = session.store
    row = store.require(name)
    if not end.finished or row["parent"]:
        return end
    spec, companion = stored_spec(row, store.shown_url), store.confirming(name)
    is_begun = companion is not None and companion["state"] != "finished"
    wanted = spec.study.confirm if seeds is None else seeds
    if not wanted and not is_begun:
        return end
    trials, question = study_question(store, row, spec)
    own = decide(trials, question)
    if own.trial is None:
        session.display.note(f"{name}: there is nothing to confirm")
        return end
    confirming = stored_spec(companion, store.shown_url) if companion else None
    if confirming and not wanted and not is_current(spec, confirming, trials, own):
        session.display.note(
            f"{name}: what was being confirmed is an earlier winner; for the new one: sweep confirm {name}"
        )
        return end
    before = len(confirming.study.seeds) if confirming else 0
    confirmed = confirm(name, max(wanted, before) or None, data, session)
    return SessionResult(confirmed.finished, end.failed_runs + confirmed.failed_runs)


def is_confirmed(store: Store, name: str, seeds: int) -> bool:
    """Whether a study's present winner is confirmed under at least so many fresh seeds, or it has none to be confirmed."""
    row, companion = store.require(name), store.confirming(name)
    spec = stored_spec(row, store.shown_url)
    trials, question = study_question(store, row, spec)
    own = decide(trials, question)
    if own.trial is None or companion is None:
        return own.trial is None
    confirming = stored_spec(companion, store.shown_url)
    is_finished = companion["state"] == "finished" and not store.failed_trials(companion["name"])
    return is_finished and len(confirming.study.seeds) >= seeds and is_current(spec, confirming, trials, own)


def _confirming_spec(store: Store, row: Mapping[str, Any], seeds: int | None) -> StudySpec:
    """What is to be trained to confirm a study as it stands."""
    name, spec = row["name"], stored_spec(row, store.shown_url)
    trials, question = study_question(store, row, spec)
    own = decide(trials, question)
    if own.trial is None:
        raise StudyError(f"the study {name!r} has nothing to confirm: {study_headline(own, None, spec)}")
    asked = candidates(trials, own, study_measure(spec), not spec.train.minds_scale)
    companion = store.confirming(name)
    before = len(stored_spec(companion, store.shown_url).study.seeds) if companion else 0
    if seeds is not None and seeds < before:
        raise StudyError(
            f"the study {name!r} is confirmed under {before} seeds, and those only grow: --seeds {seeds} is fewer"
        )
    fresh = (seed for seed in count(FIRST_SEED) if seed not in spec.all_seeds)
    number = seeds or max(before, spec.study.confirm) or SEEDS
    return spec.confirming(name + CONFIRMED, tuple(islice(fresh, number)), asked)


def _companion(spec: StudySpec, row: Mapping[str, Any], store: Store) -> dict[str, Any]:
    """The row of the study that confirms, made or grown to what is asked for now."""
    stored = store.study(spec.name)
    plain = {"study.seeds": list(spec.study.seeds), "study.confirm": 0, "search.race": False}
    overrides = stored_overrides(row["overrides"]) | plain | {"search.stages": list(spec.search.stages)}
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
        made = {"version": __version__, "command": f"sweep confirm {row['name']}", "created": now()}
        store.save_study({**columns, **same, **about, **made})
    elif grown_hash(stored_spec(stored, store.shown_url)) != grown_hash(spec):
        looks = (stored["looks"] or 1) + (stored["state"] == "finished")
        store.regrow_study(spec.name, **columns, looks=looks)
    return store.require(spec.name)
