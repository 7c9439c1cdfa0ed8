"""A study's or group's tables as a folder of text that a repository can hold: one CSV a table, every number to its last bit.

What is read goes through a database in memory, so that the text of an older version goes through its migrations. The largest
tables of a group are compressed.
"""

import csv
import gzip
import io
import os
import shutil
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from sqlalchemy import Boolean, Column, Float, Integer, MetaData, String, Table, inspect
from sqlalchemy.exc import ArgumentError, IntegrityError

from depth_loss_sweep.errors import StorageError, StudyError
from depth_loss_sweep.spec_file import stored_spec
from depth_loss_sweep.store import Store
from depth_loss_sweep.tables import (
    EPOCH,
    GROUP,
    PER_IMAGE,
    PICTURES,
    RUN,
    SCHEMA_VERSION,
    STUDY,
    STUDY_RUN,
    TEST_READING,
    TRIAL,
    TRIAL_RUN,
)

Rows = dict[str, list[dict[str, Any]]]
"""Table -> its rows of one study."""

VERSION_FILE = "sweep_version.csv"
TABLES = (
    *(STUDY.name, TRIAL.name, TRIAL_RUN.name, RUN.name, EPOCH.name),
    *(PICTURES.name, PER_IMAGE.name, TEST_READING.name, STUDY_RUN.name, GROUP.name),
)
WHERE_THERE = (STUDY_RUN.name, GROUP.name)
"""Tables that are only written where they hold something."""
COMPRESSED = (EPOCH.name, PER_IMAGE.name)
"""Tables of a group that are written as .csv.gz."""
SINGLE = ":f4"
"""How a column's head ends there whose numbers were computed in float32: nine digits say all, where float64 needs seventeen."""

csv.field_size_limit(1 << 30)  # the measures of many pictures are one field


def write_text(rows: Rows, name: str, folder: Path) -> None:
    """Write one CSV a table into a new folder, or in place of an earlier copy of the same study or group; atomic."""
    is_group = GROUP.name in rows
    rows = _of_values(rows) if is_group else rows
    _check_replaceable(folder, name)
    folder.parent.mkdir(parents=True, exist_ok=True)
    building, earlier = (folder.with_name(f".{folder.name}.{os.getpid()}.{what}") for what in ("tmp", "old"))
    building.mkdir()
    try:
        _write_csv(building / VERSION_FILE, [{"version": SCHEMA_VERSION}])
        for table, content in rows.items():
            if not content and table in WHERE_THERE:
                continue
            ending = ".csv.gz" if is_group and table in COMPRESSED else ".csv"
            _write_csv(building / f"{table}{ending}", content)
        if folder.exists():
            folder.rename(earlier)
        building.rename(folder)
        shutil.rmtree(earlier, ignore_errors=True)
    except BaseException:
        if earlier.exists() and not folder.exists():
            earlier.rename(folder)
        raise
    finally:
        shutil.rmtree(building, ignore_errors=True)


def _of_values(rows: Rows) -> Rows:
    """The rows, of pictures only those after the epochs that make a run's value: nobody looks at others, and they are many."""
    window = max((stored_spec(row, row["name"]).objective.window for row in rows[STUDY.name]), default=1)
    first = {row["run"]: row["epochs"] - window + 1 for row in rows[RUN.name]}
    return {**rows, PER_IMAGE.name: [row for row in rows[PER_IMAGE.name] if row["epoch"] >= first[row["run"]]]}


def _check_replaceable(folder: Path, name: str) -> None:
    """Refuse a folder that holds anything but an earlier copy of the same study or group."""
    if not folder.exists() or not any(folder.iterdir()):
        return
    known = {VERSION_FILE, *(f"{table}.csv" for table in TABLES), *(f"{table}.csv.gz" for table in COMPRESSED)}
    strange = sorted(path.name for path in folder.iterdir() if path.name not in known)
    files = (path for path in (folder / f"{kind.name}.csv" for kind in (GROUP, STUDY)) if path.is_file())
    earlier = _csv_rows(first) if (first := next(files, None)) else []
    if strange or [row["name"] for row in earlier if not row.get("parent")] != [name]:
        what = f"holds {strange[0]!r}" if strange else "is not a copy of that study"
        raise StudyError(f"the folder {folder} {what}: name a new folder for the copy, or empty that one")


def _write_csv(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Every number to its last bit; what is missing is empty."""
    rows = list(rows)
    used = {key: None for row in rows for key, value in row.items() if value is not None}
    is_packed = path.suffix == ".gz"
    heads = {key: key + SINGLE if is_packed and _is_single([row.get(key) for row in rows]) else key for key in used}
    file = io.StringIO(newline="")
    writer = csv.DictWriter(file, list(used), lineterminator="\n", extrasaction="ignore", quoting=csv.QUOTE_NONNUMERIC)
    writer.writerow(heads)
    writer.writerows({k: _written(v, heads.get(k, k)) for k, v in row.items()} for row in rows)
    content = file.getvalue().encode("utf-8")
    # Without the time of day, so that the same numbers are the same file.
    path.write_bytes(gzip.compress(content, mtime=0) if is_packed else content)


def _is_single(column: Sequence[Any]) -> bool:
    """Whether a column holds nothing but numbers of float32."""
    there = [value for value in column if value is not None]
    if not all(isinstance(value, float) for value in there):
        return False
    numbers = np.array(there)
    with np.errstate(over="ignore"):
        return np.array_equal(numbers.astype(np.float32).astype(float), numbers, equal_nan=True)


def _written(value: Any, head: str) -> Any:
    if head.endswith(SINGLE) and value is not None:
        return float(str(np.float32(value)))
    return int(value) if isinstance(value, bool) else value


def _csv_rows(path: Path) -> list[dict[str, str]]:
    packed = path.with_name(path.name + ".gz")
    try:
        content = gzip.decompress(packed.read_bytes()) if packed.is_file() else path.read_bytes()
        rows = list(csv.DictReader(io.StringIO(content.decode("utf-8"), newline="")))
        for head in [head for head in (rows[0] if rows else ()) if head and head.endswith(SINGLE)]:
            for row in rows:
                text = row.pop(head)
                row[head.removesuffix(SINGLE)] = str(float(np.float32(text))) if text else text
        return rows
    except FileNotFoundError:
        raise StorageError(
            f"{path} is missing: expected a folder that `sweep copy NAME --to FOLDER` has written"
        ) from None
    except (OSError, EOFError, zlib.error, csv.Error, ValueError) as error:
        raise StorageError(f"{path} cannot be read ({error}): expected a table as CSV") from None


def read_text(folder: Path) -> Store:
    """A folder of text as a store in memory, brought to today's schema."""
    if not folder.is_dir():
        raise StorageError(f"{folder} does not exist: expected a database, a home folder, or a folder of text")
    rows = _csv_rows(folder / VERSION_FILE)
    version = int(rows[0]["version"]) if len(rows) == 1 and str(rows[0].get("version")).isdigit() else 0
    if not 1 <= version <= SCHEMA_VERSION:
        raise StorageError(
            f"{folder / VERSION_FILE} says schema {version}, this version knows 1 to {SCHEMA_VERSION}: use the version that made it"
        )
    store = Store.in_memory(str(folder), version)
    tables = inspect(store.engine).get_table_names()
    needed = [name for name in TABLES if name in tables and name not in WHERE_THERE]
    content = {name: _csv_rows(folder / f"{name}.csv") for name in needed}
    content |= {name: _csv_rows(path) for name in WHERE_THERE if (path := folder / f"{name}.csv").is_file()}
    store.add_measures({name for row in content[EPOCH.name][:1] for name in row})
    there = MetaData()
    there.reflect(store.engine)
    with store.begin() as connection:
        for name in content:
            rows = [_typed_row(folder, there.tables[name], row) for row in content[name]]
            try:
                store.insert_new(connection, there.tables[name], rows)
            except IntegrityError as error:
                raise StorageError(f"{folder / name}.csv lacks a column that it needs ({error.orig})") from None
    store.migrate()
    return store


def _typed_row(folder: Path, table: Table, row: Mapping[str, str | None]) -> dict[str, Any]:
    try:
        return {name: _typed(table.c[name], value) for name, value in row.items()}
    except (ValueError, LookupError, TypeError, ArgumentError) as error:
        raise StorageError(f"{folder / table.name}.csv holds what none of its columns does: {error}") from None


def _typed(column: Column, value: str | None) -> Any:
    if value is None:
        raise ValueError("a row is cut short")
    if value == "" and column.nullable:
        return None
    kinds: dict[type, Callable[[str], Any]] = {
        Boolean: lambda text: bool(int(text)),
        Integer: int,
        Float: float,
        String: str,
    }
    return next(read for kind, read in kinds.items() if isinstance(column.type, kind))(value)
