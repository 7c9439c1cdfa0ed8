"""All numbers of a study as CSV, JSON or Parquet. JSON holds everything; non-finite numbers become null there."""

import json
import math
import os
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pandas as pd

from sweep.errors import SpecError, StorageError
from sweep.results import epoch_frame, run_frame, trial_frame
from sweep.status import BREAK, break_of
from sweep.store import Store

TABLES = ("trials", "runs", "epochs")
FORMATS = ("csv", "json", "parquet")


def write_export(store: Store, name: str, format_: str, table: str, output: Path | None) -> None:
    """Write a study's tables; CSV and JSON to stdout unless `output` names a file, Parquet into the folder `output`."""
    if format_ not in FORMATS:
        raise SpecError(f"--format {format_!r}: expected one of {', '.join(FORMATS)}")
    if table not in TABLES:
        raise SpecError(f"--table {table!r}: expected one of {', '.join(TABLES)}")
    store.require(name)
    trials, epochs = trial_frame(store, name), epoch_frame(store, name)
    runs = _with_finals(_with_points(_with_breaks(run_frame(store, name)), trials), epochs)
    frames = {"trials": trials, "runs": runs, "epochs": epochs}
    if format_ == "parquet":
        _write_parquet(frames, output or Path(f"{name}-export"))
    elif format_ == "csv":
        _write_text(frames[table].to_csv(index=False), output)
    else:
        tables = {key: _records(frame) for key, frame in frames.items()}
        _write_text(json.dumps({"study": name, **tables}, indent=1, allow_nan=False) + "\n", output)


def _with_breaks(runs: pd.DataFrame) -> pd.DataFrame:
    """The runs with where they became non-finite, in columns of its own; empty where they did not."""
    found = pd.DataFrame(
        [break_of(details) or {} for details in runs["details"]], index=runs.index, columns=list(BREAK)
    )
    return runs.join(found.astype(BREAK).add_prefix("break_"))


def _with_points(runs: pd.DataFrame, trials: pd.DataFrame) -> pd.DataFrame:
    """The runs with what they were trained at: swept values and weights."""
    columns = [c for prefix in ("var_", "weight_") for c in trials.columns if c.startswith(prefix)]
    return runs.join(trials.set_index("number")[columns], on="trial")


def _with_finals(runs: pd.DataFrame, epochs: pd.DataFrame) -> pd.DataFrame:
    """The runs with the numbers of their last epoch so far, `final_epoch`: train_metric_rmse, val_metric_rmse, ..."""
    last = epochs.loc[epochs["epoch"] == epochs.groupby("run")["epoch"].transform("max")]
    columns = [c for c in epochs.columns if c == "total" or c.startswith(("term_", "metric_"))]
    found = runs.join(last.groupby("run")["epoch"].first().astype("Int64").rename("final_epoch"), on="run")
    for split in ("train", "val"):
        numbers = last.loc[last["split"] == split].set_index("run")[columns]
        found = found.join(numbers.add_prefix(f"{split}_"), on="run")
    return found


def _records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """A table's rows, every number to its last bit; null for what is missing or not finite."""
    return [{str(key): _finite(value) for key, value in row.items()} for row in frame.to_dict("records")]


def _finite(value: Any) -> Any:
    return None if value is pd.NA or (isinstance(value, float) and not math.isfinite(value)) else value


def _write_text(text: str, output: Path | None) -> None:
    if output is None:
        sys.stdout.write(text)
        return
    _replace(output, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def _write_parquet(frames: dict[str, pd.DataFrame], folder: Path) -> None:
    if find_spec("pyarrow") is None:
        raise SpecError("--format parquet needs pyarrow: pip install 'depth-loss-sweep[parquet]'")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(f"the folder {folder} cannot be made: {error.strerror}") from error
    for key, frame in frames.items():
        _replace(folder / f"{key}.parquet", frame.to_parquet)
        print(folder / f"{key}.parquet")


def _replace(path: Path, write: Any) -> None:
    """Write beside, then rename: nothing half-written is ever seen."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        write(temporary)
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise StorageError(f"the file {path} cannot be written: {error.strerror}") from error
