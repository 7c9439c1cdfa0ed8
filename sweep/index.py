"""Every study and group of a home in a line each, as its index page lists them."""

import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

from depth_loss_sweep.answer import StudyAnswer, line_of, study_decision, study_headline, study_measure
from depth_loss_sweep.data.settings import DataSummary
from depth_loss_sweep.lease import state_of
from depth_loss_sweep.paper import group_account
from depth_loss_sweep.paths import Home
from depth_loss_sweep.reports.contrasts import ranked
from depth_loss_sweep.reports.decision import OTHER_PICTURES
from depth_loss_sweep.reports.index_page import Entry, Trend
from depth_loss_sweep.spec import StudySpec
from depth_loss_sweep.spec_file import stored_spec
from depth_loss_sweep.status import run_counts
from depth_loss_sweep.store import Store


def home_entries(store: Store, home: Home, folder: Path) -> list[Entry]:
    """All studies and groups of a home, a group's own within it; `folder` is where the index lies that links to their pages."""
    groups = {row["name"]: row for row in store.groups()}
    alone: list[Entry] = []
    members: dict[str, list[Entry]] = {name: [] for name in groups}
    for row in store.studies():
        if not row["parent"]:
            members.get(row["group"], alone).append(_study(store, home, row, folder))
    return [*alone, *(_group(store, home, row, members[name], folder) for name, row in groups.items())]


def _study(store: Store, home: Home, row: Mapping[str, Any], folder: Path) -> Entry:
    spec = stored_spec(row, store.shown_url)
    answer = study_decision(store, row, spec)
    runs, trials = run_counts(store, row["name"]), row["trials"]
    asked = max(sum(runs.values()), spec.trial_count * len(spec.study.seeds))
    height, width = store.decoded(row, "data", DataSummary)["image_size"]
    return Entry(
        name=row["name"],
        verdict=study_headline(answer.decision, answer.named, spec),
        state=state_of(store, home, row)[0],
        created=row["created"],
        trials=(trials["complete"] + trials["pruned"], spec.trial_count),
        runs=(runs.get("finished", 0), asked),
        pixels=(height, width),
        trend=_trend(answer, spec),
        page=_page(home, row["name"], folder),
    )


def _group(store: Store, home: Home, row: Mapping[str, Any], members: list[Entry], folder: Path) -> Entry:
    return Entry(
        name=row["name"],
        verdict=group_account(store, row["name"]).tally,
        state=state_of(store, home, row)[0],
        created=row["created"],
        runs=(sum(entry.runs[0] for entry in members), sum(entry.runs[1] for entry in members)),
        page=_page(home, row["name"], folder),
        members=tuple(members),
    )


def _trend(answer: StudyAnswer, spec: StudySpec) -> Trend | None:
    """The complete trials' means along a line, else best to worst; None where they can't be compared, or fewer than two are there."""
    measure = study_measure(spec)
    shown = [t for t in ranked(answer.trials, measure) if math.isfinite(t.mean)]
    if len(shown) < 2 or answer.decision.objection == OTHER_PICTURES:
        return None
    along = line_of(spec, shown)
    if along:
        shown.sort(key=lambda trial: along[trial.number])
    how = f"along {spec.variable_names[0]}" if along else "from best to worst"
    marked = next((i for i, trial in enumerate(shown) if trial.number == answer.decision.trial), None)
    return Trend(tuple(trial.mean for trial in shown), marked, f"validation {measure.label} {how}")


def _page(home: Home, name: str, folder: Path) -> str:
    """Where a page lies at its usual place, seen from a folder; empty where none does."""
    path = home.report(name)
    return quote(os.fsencode(os.path.relpath(path, folder))) if path.is_file() else ""
