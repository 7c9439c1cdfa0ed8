"""All numbers of a study as CSV, JSON or Parquet. JSON holds everything; non-finite numbers become null there."""

import json
import os
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pandas as pd

from sweep.errors import SpecError, StorageError
from sweep.results import epoch_frame, run_frame, trial_frame
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
    frames = {"trials": trial_frame(store, name), "runs": run_frame(store, name), "epochs": epoch_frame(store, name)}
    if format_ == "parquet":
        _write_parquet(frames, output or Path(f"{name}-export"))
    elif format_ == "csv":
        _write_text(frames[table].to_csv(index=False), output)
    else:
        tables = {
            key: json.loads(frame.to_json(orient="records", double_precision=15)) for key, frame in frames.items()
        }
        _write_text(json.dumps({"study": name, **tables}, indent=1) + "\n", output)


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
