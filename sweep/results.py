"""What a study amounts to, read from its tables: records for the report, plain rows for export and status. Never torch."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from depth_loss_sweep.answer import BASELINES, fresh_numbers, picture_values
from depth_loss_sweep.costs import confirming_costs, finding_costs, run_spans
from depth_loss_sweep.data.cache import cache_folder, open_cache
from depth_loss_sweep.data.errors import DataError
from depth_loss_sweep.data.settings import DataSummary
from depth_loss_sweep.environments import told_of
from depth_loss_sweep.errors import StudyError
from depth_loss_sweep.instability import BREAK, RULES, break_of
from depth_loss_sweep.measures import OUTCOMES, PREDICTORS, measures
from depth_loss_sweep.model.errors import ModelError
from depth_loss_sweep.model.names import TERMS
from depth_loss_sweep.model.outcomes import RESULT, load_result
from depth_loss_sweep.paths import Home, chosen_storage
from depth_loss_sweep.reports import records
from depth_loss_sweep.reports.analysis import Analysis
from depth_loss_sweep.reports.records import TRIAL_COLUMNS, Panels, StudyRecord
from depth_loss_sweep.reports.references import REFERENCES
from depth_loss_sweep.reports.scenes import PictureValues
from depth_loss_sweep.reports.slider import panel_runs
from depth_loss_sweep.retention import folder_of, out_of_reach
from depth_loss_sweep.spec import StudySpec
from depth_loss_sweep.spec_file import PLACE, stored_overrides, stored_spec
from depth_loss_sweep.spec_text import resolved_text
from depth_loss_sweep.store import Store
from depth_loss_sweep.tables import EPOCH
from depth_loss_sweep.words import counted

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

RUN_COLUMNS = (*records.RUN_COLUMNS, "details", "origin", "environment")
"""What a report needs to know of a run, and what else an export has.

`environment` is the key of where it was trained, as JSON: pairs of runs are of one environment where it is the same text."""


def study_record(store: Store, home: Home, name: str) -> StudyRecord:
    """Everything the report is made of."""
    return _with_panels(study_numbers(store, name), store, home)


def study_figures(name: str, home: Path | None = None, storage: str | None = None) -> dict[str, "Figure"]:
    """Every figure of a study's page by its name, as plotly's own objects: for a notebook."""
    from depth_loss_sweep.reports.plotly_figures import plotly_figures

    place = Home.choose(home)
    return plotly_figures(study_numbers(Store.open(place, chosen_storage(storage)), name))


def study_numbers(store: Store, name: str, has_terms: bool = False) -> StudyRecord:
    """The same without sample predictions, of the database alone; with the terms of every picture where `has_terms`."""
    row = store.require(name)
    spec = stored_spec(row, store.shown_url)
    trials, runs = trial_frame(store, name), run_frame(store, name)
    finals, confirmation = fresh_numbers(store, row, spec)
    return StudyRecord(
        name=name,
        spec_text=effective_text(row),
        resolved=resolved_text(row, store.shown_url),
        spec=spec.as_dict(),
        version=row["version"],
        command=row["command"],
        created=row["created"],
        environment=store.decoded(row, "environment"),
        data=store.decoded(row, "data", DataSummary),
        baselines=store.decoded(row, "baselines", BASELINES),
        objective=spec.objective.name,
        objective_column=spec.objective.column,
        second_column=next((each.column for each in spec.objectives[1:]), ""),
        variables=spec.variable_names,
        kind=spec.kind,
        trials=trials,
        runs=runs,
        epochs=epoch_frame(store, name),
        measures=measures(spec),
        outcomes=OUTCOMES,
        rules=RULES,
        predictors=PREDICTORS,
        notes=_notes(row, spec, trials, runs, told_of(store, name)),
        pictures=picture_values(store, spec),
        images=_term_images(store, spec) if has_terms else {},
        looks=row["looks"] or 1,
        finals=finals,
        confirmation=confirmation,
        costs=finding_costs(store, name),
        confirming_costs=confirming_costs(store, name),
        spans=run_spans(store, name),
        planned=spec.trial_count,
    )


def _term_images(store: Store, spec: StudySpec) -> dict[str, PictureValues]:
    columns = [f"term_{term}" for term in spec.terms]
    found = {column: picture_values(store, spec, column=column) for column in columns}
    return {column: values for column, values in found.items() if values}


def effective_text(row: Mapping[str, Any]) -> str:
    """A study's spec as it was written, with what the command line laid over it."""
    overrides = stored_overrides(row["overrides"])
    lines = [f"# {key} = {value}" for key, value in overrides.items() if not key.startswith(PLACE)]
    head = f"# given on the command line{', or by default' * ('study.value' in overrides)}:"
    return row["spec_text"] + (f"\n{head}\n" + "\n".join(lines) + "\n" if lines else "")


def trial_frame(store: Store, name: str) -> pd.DataFrame:
    """One row a trial: number, state, value, second_value where there are two objectives, var_<name>, weight_<term>."""
    rows = []
    for trial in store.trials(name):
        row = {key: trial[key] for key in TRIAL_COLUMNS}
        row |= {} if trial["second_value"] is None else {"second_value": trial["second_value"]}
        row |= {f"var_{key}": value for key, value in trial["params"].items()}
        row |= {
            f"weight_{term}": trial["weights"].get(term, 0.0) for term in {**dict.fromkeys(TERMS), **trial["weights"]}
        }
        rows.append(row)
    frame = pd.DataFrame(rows, columns=None if rows else [*TRIAL_COLUMNS, *(f"weight_{t}" for t in TERMS)])
    frame["value"] = frame["value"].astype(float)
    return frame


def run_frame(store: Store, name: str) -> pd.DataFrame:
    """One row a run: what it was, how it ended, where it ran, and where it became non-finite (`break_`), empty where it did not."""
    frame = pd.DataFrame(store.runs(name), columns=list(RUN_COLUMNS))
    for column in ("seconds", "images_per_second"):
        frame[column] = frame[column].astype(float)
    breaks = [break_of(details) or {} for details in frame["details"]]
    places = pd.DataFrame(breaks, index=frame.index, columns=list(BREAK))
    return frame.join(places.astype(BREAK).add_prefix("break_"))


def epoch_frame(store: Store, name: str, splits: Sequence[str] = ("train", "val")) -> pd.DataFrame:
    """One row a (run, epoch, split); of the columns that other studies brought into the database, those that this one has values of."""
    columns = store.epoch_table.columns.keys()
    frame = pd.DataFrame(store.epochs(name, splits), columns=columns)
    numbers = [c for c in columns if c not in ("run", "split")]
    frame[numbers] = frame[numbers].astype(float)
    foreign = [c for c in numbers if c not in EPOCH.columns and frame[c].isna().all()]
    return frame.drop(columns=foreign).astype({"epoch": int})


def _with_panels(record: StudyRecord, store: Store, home: Home) -> StudyRecord:
    """The record with the stored predictions that its page shows, and a note of those that are lost.

    A report is made of what is there, and never runs a network.
    """
    panels, lost = {}, {}
    for run in panel_runs(Analysis(record)):
        row = store.run(run) or {"run": run, "home": None}
        try:
            panels[run] = read_panels(folder_of(home, row))
        except ModelError as error:
            away = out_of_reach(home, row)
            lost[run] = ModelError(f"its files lie {away}, out of reach from here") if away else error
    return replace(record, panels=panels, notes=(*record.notes, *_lost_note(lost)))


def _lost_note(lost: Mapping[str, ModelError]) -> tuple[str, ...]:
    for run, error in lost.items():
        others = f", nor of {counted(len(lost) - 1, 'other run')}" if len(lost) > 1 else ""
        note = (
            f"Sample predictions of run {run[:8]} are not shown{others}: {error}. The numbers are not touched by it; to see the "
            "pictures, put a copy of the file in its place, or train the same spec in another --home"
        )
        return (note,)
    return ()


def read_panels(folder: Path) -> Panels:
    """The panels of a finished run's folder; a `ModelError` where its result is missing or damaged."""
    damage: list[str] = []
    try:
        result = load_result(folder, damage.append)
    except OSError as error:
        raise ModelError(f"the file {folder / RESULT} cannot be read ({error.strerror})") from error
    if result is None:
        raise ModelError(f"the file {folder / RESULT} is {'damaged' if damage else 'missing'}")
    return Panels(**vars(result.panels))


def kept_images(
    store: Store, home: Home, run: Mapping[str, Any], study: Mapping[str, Any]
) -> dict[str, dict[str, Any]]:
    """What every validation picture amounts to in a run of a version that kept that in the run's folder alone.

    As `sweep.store.image_rows` takes it; empty where the folder or the study's cache is not here.
    """
    data = store.decoded(study, "data", DataSummary)
    height, width = data["image_size"]
    try:
        cache = open_cache(cache_folder(home.cache, data["fingerprint"], (height, width)))
        result = load_result(home.run(run["run"]), on_note=lambda _: None)
    except (DataError, OSError):
        return {}
    scenes = dict(zip(cache.keys, cache.scenes, strict=True))
    if result is None or not {*result.keys} <= {*scenes}:
        return {}
    images = {"keys": result.keys, "scenes": [scenes[key] for key in result.keys], "values": result.per_image}
    images["before"] = result.before
    return {"val": images}


def _notes(
    row: Mapping[str, Any], spec: StudySpec, trials: pd.DataFrame, runs: pd.DataFrame, environments: str | None
) -> tuple[str, ...]:
    notes = []
    told = int((trials["state"] != "running").sum()) if len(trials) else 0
    if told < spec.trial_count:
        notes.append(
            f"Unfinished: {told} of {counted(spec.trial_count, 'trial')} done. Go on with: sweep resume {row['name']}"
        )
    if environments:
        notes.append(environments)
    origins = sorted({str(origin) for origin in runs["origin"].dropna()})
    if origins:
        copied = counted(int(runs["origin"].notna().sum()), "run", "was", "were")
        notes.append(f"{copied} not trained here, but copied: {'; '.join(origins)}.")
    for reference in (REFERENCES[name] for name in spec.search.points):
        read_in = f" Read in {reference.read_in}." if reference.read_in else ""
        notes.append(f"The point {reference.name}: {reference.note}.{read_in}")
    failed = runs[runs["state"] == "failed"]
    if len(failed):
        how_many = counted(len(failed), "run")
        notes.append(f"{how_many} failed by an error, not as a result; the first: {failed.iloc[0]['reason']}")
    if not spec.train.deterministic:
        notes.append("train.deterministic is off: repeated runs may differ in the last bits.")
    return tuple(notes)


def need_finished(record: StudyRecord) -> None:
    """Raise `StudyError` where no trial is complete yet."""
    if record.trials.empty or not (record.trials["state"] == "complete").any():
        raise StudyError(f"the study {record.name!r} has no complete trial yet: go on with: sweep resume {record.name}")
