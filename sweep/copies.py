"""`sweep copy`: a study's numbers from one database to another, or to a folder of text that a repository can hold.

What is copied is what the tables say: spec, trials, runs, epochs and per-image metrics; never pixels. A folder of text holds one
CSV a table; it is read by way of a database in memory, so that the text of an older version goes through its migrations. A group
is copied as a whole, with what was asked for; its largest tables are compressed as text.
"""

import csv
import gzip
import io
import os
import shutil
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from sqlalchemy import (
    Boolean,
    Column,
    Connection,
    Float,
    Integer,
    MetaData,
    Select,
    String,
    Table,
    delete,
    insert,
    inspect,
    select,
    update,
)
from sqlalchemy.exc import ArgumentError, IntegrityError

from depth_loss_sweep.answer import reader_of
from depth_loss_sweep.errors import StorageError, StudyError, hide_password
from depth_loss_sweep.lease import Lease
from depth_loss_sweep.paths import COMPANIONS, Home, check_name, expanded
from depth_loss_sweep.projection import Projection
from depth_loss_sweep.results import kept_images
from depth_loss_sweep.spec_file import overrides_json, stored_overrides, stored_spec
from depth_loss_sweep.store import Store, image_rows, now
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
    *(PICTURES.name, PER_IMAGE.name, TEST_READING.name, GROUP.name),
)
COMPRESSED = (EPOCH.name, PER_IMAGE.name)
"""Tables of a group that are written as .csv.gz."""
SINGLE = ":f4"
"""How a column's head ends there whose numbers were computed in float32: nine digits say all, where float64 needs seventeen."""

UNTOUCHED = ("lock", ".tmp")
"""Endings of files in a run's folder that belong to whoever is at work there."""

csv.field_size_limit(1 << 30)  # the measures of many pictures are one field


@dataclass(frozen=True)
class Place:
    """Where a study is copied from or to: a database, or a folder of text."""

    home: Home
    storage: str | None
    text: Path | None = None

    @classmethod
    def named(cls, given: str) -> "Place":
        """A database's URL; an SQLite file (FILE.db); a home folder; else a folder of text."""
        if "://" in given:
            return cls(Home.choose(None), given)
        path = expanded(given).absolute()
        if path.suffix in (".db", ".sqlite", ".sqlite3") or path.is_file():
            return cls(Home(path.parent), str(path))
        home = Home(path)
        return cls(home, None) if home.database.exists() else cls(home, None, path)

    @property
    def shown(self) -> str:
        """How it is called in messages."""
        return hide_password(str(self.text or self.storage or self.home.database))


@dataclass(frozen=True)
class Copy:
    """What was copied, in numbers."""

    trials: int
    runs: int
    files: int


def copy_study(name: str, source: Place, target: Place, new_name: str | None = None, with_files: bool = False) -> Copy:
    """Copy the numbers of a study or group, with `with_files` its runs' checkpoints and predictions, too.

    A run that the target has finished stays as it is there. Raises StudyError where the study is not in the source, or is
    in the target already; StorageError where one of them cannot be used. All or nothing in the tables.
    """
    if with_files and (target.text or source.text or "://" in f"{source.storage}{target.storage}"):
        raise StudyError("--files copies between home folders: name an SQLite file or a home folder, not text or a URL")
    copied = check_name(new_name or name)
    tables = _renamed(_source_rows(name, source), name, copied)
    files = 0
    if target.text:
        _write_text(tables, copied, target.text)
    else:
        with _leased(copied, tables, target) as store:
            if with_files:  # first, so that a copy that was killed can be made again
                files = sum(_copy_files(source.home, target.home, row["run"]) for row in tables[RUN.name])
            _write(tables, store, origin=source.shown)
    own = {row["name"] for row in tables[STUDY.name] if not row["parent"]}
    trials = [row for row in tables[TRIAL.name] if row["study"] in own]
    return Copy(len(trials), len(tables[RUN.name]), files)


def take_runs(source: Place, store: Store, group: str) -> list[dict[str, Any]]:
    """Take up every finished run of a source, for a group of studies to find; returns their rows.

    No study is copied. A study that asks for a run of that identity takes it, wherever it was trained.
    """
    there = _opened(source)
    rows = _study_rows(there, [row["name"] for row in there.studies()])
    finished = {row["run"]: row for row in rows[RUN.name] if row["state"] == "finished"}
    kept = {
        name: [row for row in rows[name] if row["run"] in finished] for name in (RUN.name, EPOCH.name, PER_IMAGE.name)
    }
    asked = [{"study": group, "run": run, "taken_over": False} for run in finished]
    with _with_measures(store, rows).begin() as connection:
        _insert_numbers({**rows, **kept}, store, connection, source.shown)
        store.insert_new(connection, STUDY_RUN, asked)
    return [*finished.values()]


# Reading


def _source_rows(name: str, source: Place) -> Rows:
    store = _opened(source)
    group = store.group(name)
    if not group:
        store.require(name)
    rows = study_rows(store, *(store.group_studies(name) if group else [name]))
    rows |= {GROUP.name: [group]} if group else {}
    there = {row["run"] for row in rows[PER_IMAGE.name]}
    for run in (row for row in rows[RUN.name] if row["state"] == "finished" and row["run"] not in there):
        lists, values = image_rows(run["run"], run["epochs"], kept_images(store, source.home, run, rows[STUDY.name][0]))
        rows[PICTURES.name] += [row for row in lists if row not in rows[PICTURES.name]]
        rows[PER_IMAGE.name] += values
    return rows


def _opened(source: Place) -> Store:
    return _read_text(source.text) if source.text else Store.open(source.home, source.storage)


def study_rows(store: Store, *names: str) -> Rows:
    """Every row of these studies and of those that stand beside them, as they stand at one instant."""
    return _study_rows(store, [name + ending for name in names for ending in ("", *COMPANIONS)])


def _study_rows(store: Store, names: Sequence[str]) -> Rows:
    runs = select(TRIAL_RUN.c.run).where(TRIAL_RUN.c.study.in_(names))
    epoch = store.epoch_table
    pictures = select(PER_IMAGE.c.pictures).where(PER_IMAGE.c.run.in_(runs))
    queries: dict[Table, Any] = {
        STUDY: STUDY.c.name.in_(names),
        TRIAL: TRIAL.c.study.in_(names),
        TRIAL_RUN: TRIAL_RUN.c.study.in_(names),
        RUN: RUN.c.run.in_(runs),
        epoch: epoch.c.run.in_(runs),
        PICTURES: PICTURES.c.pictures.in_(pictures),
        PER_IMAGE: PER_IMAGE.c.run.in_(runs),
        TEST_READING: TEST_READING.c.pictures.in_(_test_pictures(store, names)),
    }
    with store.snapshot() as connection:
        return {
            table.name: store.fetched(
                connection.execute(select(table).where(of_study).order_by(*table.primary_key.columns))
            )
            for table, of_study in queries.items()
        }


def _test_pictures(store: Store, names: Sequence[str]) -> Select[Any]:
    """The test pictures that were read to confirm studies: all readings of them are copied, so that they stay counted."""
    readers = [reader_of(row) for name in names if (row := store.study(name)) and row["parent"]]
    return select(TEST_READING.c.pictures).where(TEST_READING.c.reader.in_(readers))


def _renamed(rows: Rows, before: str, after: str) -> Rows:
    """The rows under the new name of a study or group, with which all its names begin; nobody is at work on a copy."""
    groups = rows.get(GROUP.name, [])
    new = {row["name"]: after + row["name"].removeprefix(before) for row in rows[STUDY.name]}
    studies = [_renamed_study(study, new, after if groups else None) for study in rows[STUDY.name]]
    linked = {
        table: [row | {"study": new[row["study"]]} for row in rows[table]] for table in (TRIAL.name, TRIAL_RUN.name)
    }
    renamed = {GROUP.name: [row | {"name": after, "state": _left(row)} for row in groups]} if groups else {}
    return {**rows, STUDY.name: studies, **linked, **renamed}


def _left(row: Mapping[str, Any]) -> str:
    return "finished" if row["state"] == "finished" else "interrupted"


def _renamed_study(study: dict[str, Any], new: Mapping[str, str], group: str | None) -> dict[str, Any]:
    name, parent = new[study["name"]], study["parent"] and new[study["parent"]]
    is_same = name == study["name"] or parent is not None
    overrides = stored_overrides(study["overrides"]) | ({} if is_same else {"study.name": name})
    columns = {"name": name, "optuna_name": name, "state": _left(study), "overrides": overrides_json(overrides)}
    return {**study, **columns, "parent": parent, "group": group}


# A database


@contextmanager
def _leased(name: str, rows: Rows, target: Place) -> Iterator[Store]:
    """The target's database, for as long as nobody else may begin studies, or a group, of those names there."""
    store = Store.open(target.home.create(), target.storage, create=True)
    store.require_sound()
    with ExitStack() as leases:
        for each in dict.fromkeys((name, *(row["name"] for row in rows[STUDY.name] if not row["parent"]))):
            leases.callback(Lease.take(store, each, target.home.lock(each)).release)
            if kind := "study" if store.study(each) else "group" if store.group(each) else None:
                raise StudyError(
                    f"the {kind} {each!r} is in {target.shown} already: copy under another name, with --name"
                )
        yield store


def _write(rows: Rows, store: Store, origin: str) -> None:
    links = {(row["study"], row["run"]): None for row in rows[TRIAL_RUN.name]}
    asked = [{"study": study, "run": run, "taken_over": False} for study, run in links]
    with _with_measures(store, rows).begin() as connection:
        _insert_numbers(rows, store, connection, origin)
        for table in (GROUP, STUDY, TRIAL, TRIAL_RUN):
            if rows.get(table.name):
                connection.execute(insert(table), [_of(table, row) for row in rows[table.name]])
        store.insert_new(connection, STUDY_RUN, asked)
    for study in rows[STUDY.name]:
        projection = Projection(store, stored_spec(study, store.shown_url))
        projection.reconcile(store.trials(study["name"]))
        projection.close()


def _with_measures(store: Store, rows: Rows) -> Store:
    """The store with room for all terms and metrics of the rows."""
    store.add_measures({name for row in rows[EPOCH.name] for name, value in row.items() if value is not None})
    return store


def _insert_numbers(rows: Rows, store: Store, connection: Connection, origin: str) -> None:
    """Insert runs with all that is measured of them."""
    new = _insert_runs(store, connection, rows[RUN.name], f"{origin}, copied {now()}")
    # A run of one key has the same numbers wherever it was trained, so what is there already may stay.
    for table in (store.epoch_table, PICTURES, PER_IMAGE, TEST_READING):
        store.insert_new(connection, table, [_of(table, row) for row in rows[table.name]])
    for row in (row for row in rows[RUN.name] if row["run"] not in new):
        fewer = (RUN.c.run == row["run"]) & (RUN.c.epochs < row["epochs"])
        connection.execute(update(RUN).where(fewer).values(epochs=row["epochs"]))


def _of(table: Table, row: Mapping[str, Any]) -> dict[str, Any]:
    return {column.name: row.get(column.name) for column in table.columns}


def _insert_runs(store: Store, connection: Connection, runs: list[dict[str, Any]], origin: str) -> set[str]:
    """Insert the runs that are not here, or are here and not finished, though they are there; returns their keys."""
    here = {row["run"]: row["state"] for row in store.fetched(connection.execute(select(RUN.c.run, RUN.c.state)))}
    new = [r for r in runs if r["run"] not in here or (r["state"] == "finished" and here[r["run"]] != "finished")]
    for row in new:
        is_ended = row["state"] in ("finished", "failed", "dropped")
        columns = {"origin": row["origin"] or origin} if is_ended else {"state": "waiting"}
        connection.execute(delete(RUN).where(RUN.c.run == row["run"]))
        connection.execute(insert(RUN).values(**{**row, **columns}))
    return {row["run"] for row in new}


def _copy_files(source: Home, target: Home, run: str) -> bool:
    """Copy a run's folder where the target has none; whether anything was copied."""
    folder, copy = source.run(run), target.run(run)
    if copy.exists() or not folder.is_dir():
        return False
    building = copy.with_name(f".{copy.name}.{os.getpid()}.tmp")
    copy.parent.mkdir(parents=True, exist_ok=True)
    try:
        shutil.copytree(folder, building, ignore=lambda _, names: [n for n in names if n.endswith(UNTOUCHED)])
        building.rename(copy)
    finally:
        shutil.rmtree(building, ignore_errors=True)
    return True


# A folder of text


def _write_text(rows: Rows, name: str, folder: Path) -> None:
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


def _read_text(folder: Path) -> Store:
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
    content = {name: _csv_rows(folder / f"{name}.csv") for name in TABLES if name in tables and name != GROUP.name}
    if (folder / f"{GROUP.name}.csv").is_file():
        content[GROUP.name] = _csv_rows(folder / f"{GROUP.name}.csv")
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
