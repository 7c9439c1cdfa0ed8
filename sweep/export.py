"""All numbers of a study as CSV, JSON or Parquet. JSON holds everything; non-finite numbers become null there."""

import json
import math
import sys
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pandas as pd

from depth_loss_sweep.answer import study_decision, study_front, study_headline, study_question
from depth_loss_sweep.costs import study_cost
from depth_loss_sweep.errors import SpecError, StorageError, StudyError
from depth_loss_sweep.files import write_whole
from depth_loss_sweep.instability import study_instability
from depth_loss_sweep.outputs import check_outputs, file_at, folder_at
from depth_loss_sweep.paths import CONFIRMED, RACED
from depth_loss_sweep.reports import records
from depth_loss_sweep.reports.instability import Instability
from depth_loss_sweep.reports.records import TRIAL_COLUMNS
from depth_loss_sweep.results import epoch_frame, run_frame, trial_frame
from depth_loss_sweep.spec_file import stored_spec
from depth_loss_sweep.store import Store
from depth_loss_sweep.tables import EPOCH

BESIDE = {"raced": RACED, "confirmed": CONFIRMED}
"""Tables of the studies that stand beside a study, each by the ending of its name."""

TABLES = ("trials", "runs", "epochs", *BESIDE)
FORMATS = ("csv", "json", "parquet")
COLUMNS = ({*TRIAL_COLUMNS}, {*records.RUN_COLUMNS}, {"run", "epoch", "split", "total", "learning_rate"})
OTHERS = {*EPOCH.columns.keys(), "second_value", "details", "origin", "environment", "final_epoch", "onset_epoch"}
PREFIXES = (
    "weight_",
    "break_",
    "metric_",
    "var_",
    "term_",
    "share_",
    "spread_",
    "cosine_",
    "similarity_",
    "train_",
    "val_",
    "test_",
)
"""By which each of the tables is known: it has all columns of one set, and one that begins so."""

LONGEST_HEADER = 1 << 16


def write_export(
    store: Store,
    name: str,
    format_: str,
    table: str,
    output: str | None,
    kept: Sequence[Path] = (),
    force: bool = False,
) -> list[Path]:
    """Write a study's tables; CSV and JSON to stdout unless `output` names a file or folder, Parquet into a folder.

    Returns the files written. `kept` and `force` are those of `check_outputs`.
    """
    if format_ not in FORMATS:
        raise SpecError(f"--format {format_!r}: expected one of {', '.join(FORMATS)}")
    if table not in TABLES:
        raise SpecError(f"--table {table!r}: expected one of {', '.join(TABLES)}")
    if format_ == "parquet" and find_spec("pyarrow") is None:
        raise SpecError("--format parquet needs pyarrow: pip install 'depth-loss-sweep[parquet]'")
    row = store.require(name)
    paths = _paths(name, format_, table, output)
    check_outputs(paths.values(), is_export, kept, force)
    trials, epochs = trial_frame(store, name), epoch_frame(store, name)
    asked, _ = study_question(store, row, stored_spec(row, store.shown_url))
    found = study_instability(store, name, asked)
    runs = _with_finals(_with_points(_with_onsets(run_frame(store, name), found), trials), epochs)
    frames = {"trials": trials, "runs": runs, "epochs": epochs}
    frames |= {key: _fresh(store, name + ending) for key, ending in BESIDE.items() if store.companion(name, ending)}
    if table not in frames:
        why = {
            "raced": f"has no race of its best yet: sweep resume {name}, where it is a search with search.race = true",
            "confirmed": f"isn't confirmed: sweep confirm {name}",
        }
        raise StudyError(f"the study {name!r} {why[table]}")
    head: dict[str, Any] = {"study": name}
    if format_ == "json":
        head |= {
            "decision": _decision(store, row),
            "cost": study_cost(store, name).as_dict(),
            "instability": found.as_dict(),
        }
    if not paths:
        sys.stdout.write(_text(head, frames, format_, table))
    for key, path in ((key, path) for key, path in paths.items() if key in frames):
        parquet = format_ == "parquet"
        _write(path, frames[key].to_parquet() if parquet else _text(head, frames, format_, table).encode())
    return [path for key, path in paths.items() if key in frames]


def _fresh(store: Store, name: str) -> pd.DataFrame:
    """One row a run under a fresh seed: what it was trained at, how it ended, and the numbers of its last epoch, those on test, too."""
    epochs = epoch_frame(store, name, ("train", "val", "test"))
    runs = _with_points(run_frame(store, name), trial_frame(store, name))
    return _with_finals(runs, epochs, [split for split in ("train", "val", "test") if split in set(epochs["split"])])


def _paths(name: str, format_: str, table: str, output: str | None) -> dict[str, Path]:
    """Each file to write, by its table."""
    if format_ == "parquet":
        folder = folder_at(output if output is not None else f"{name}-export")
        return {key: folder / f"{key}.parquet" for key in TABLES}
    usual = f"{name}-{table}.csv" if format_ == "csv" else f"{name}-export.json"
    return {} if output is None else {table: file_at(output, usual)}


def is_export(path: Path) -> bool:
    """Whether a file is one that `write_export` wrote, told by its columns."""
    try:
        with path.open("rb") as file:
            head = file.readline(LONGEST_HEADER) + file.readline(LONGEST_HEADER)
    except OSError:
        return False
    if head.startswith(b"PAR1"):
        return _are_ours(_parquet_columns(path))
    return head.startswith(b'{\n "study": "') or _are_ours(head.partition(b"\n")[0].decode(errors="replace").split(","))


def _are_ours(columns: Sequence[str]) -> bool:
    """Whether these are the columns of one of our tables, and no other: somebody may have added to a table of ours."""
    table = next((known for known in COLUMNS if known <= set(columns)), None)
    others = [name for name in columns if name not in (table or ()) and not name.startswith(PREFIXES)]
    return table is not None and len(columns) > len(table) and {*others} <= OTHERS


def _parquet_columns(path: Path) -> list[str]:
    from pyarrow.lib import ArrowException
    from pyarrow.parquet import read_schema

    try:
        with path.open("rb") as file:
            return list(read_schema(file).names)
    except (ArrowException, OSError):
        return []


def _decision(store: Store, row: Mapping[str, Any]) -> dict[str, Any]:
    """The answer in one line, as everywhere, and what it rests on."""
    spec = stored_spec(row, store.shown_url)
    answer = study_decision(store, row, spec)
    beside = {"confirmation": answer.confirmation, "front": study_front(store, row, spec, answer)}
    known = {key: found.as_dict() for key, found in beside.items() if found}
    return {"headline": study_headline(answer.decision, answer.named, spec), **answer.decision.as_dict(), **known}


def _text(head: Mapping[str, Any], frames: dict[str, pd.DataFrame], format_: str, table: str) -> str:
    if format_ == "csv":
        return frames[table].to_csv(index=False)
    tables = {key: _records(frame) for key, frame in frames.items()}
    return json.dumps({**head, **tables}, indent=1, allow_nan=False) + "\n"


def _with_onsets(runs: pd.DataFrame, found: Instability) -> pd.DataFrame:
    """The runs with the epoch in which a broken one broke; empty where it did not, or where that was not measured."""
    onsets = {run.run: run.epoch for run in found.runs}
    return runs.assign(onset_epoch=pd.array([onsets.get(run) for run in runs["run"]], dtype="Int64"))


def _with_points(runs: pd.DataFrame, trials: pd.DataFrame) -> pd.DataFrame:
    """The runs with what they were trained at: swept values and weights."""
    columns = [c for prefix in ("var_", "weight_") for c in trials.columns if c.startswith(prefix)]
    return runs.join(trials.set_index("number")[columns], on="trial")


def _with_finals(runs: pd.DataFrame, epochs: pd.DataFrame, splits: Sequence[str] = ("train", "val")) -> pd.DataFrame:
    """The runs with the numbers of their last epoch so far, `final_epoch`: train_metric_rmse, val_metric_rmse, ..."""
    last = epochs.loc[epochs["epoch"] == epochs.groupby("run")["epoch"].transform("max")]
    columns = [c for c in epochs.columns if c == "total" or c.startswith(("term_", "metric_"))]
    whole = runs.join(last.groupby("run")["epoch"].first().astype("Int64").rename("final_epoch"), on="run")
    for split in splits:
        numbers = last.loc[last["split"] == split].set_index("run")[columns]
        whole = whole.join(numbers.add_prefix(f"{split}_"), on="run")
    return whole


def _records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """A table's rows, every number to its last bit; null for what is missing or not finite."""
    return [{str(key): _finite(value) for key, value in row.items()} for row in frame.to_dict("records")]


def _finite(value: Any) -> Any:
    return None if value is pd.NA or (isinstance(value, float) and not math.isfinite(value)) else value


def _write(path: Path, content: bytes) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, content)
    except OSError as error:
        raise StorageError(f"the file {path} cannot be written: {error.strerror}") from error
