"""`sweep copy`: a study's numbers from one database to another, or to a folder of text (`sweep.copied_text`), and back.

What is copied is what the tables say: spec, trials, runs, epochs and per-image metrics; never pixels. What a database was given is
read back before it is committed. A group is copied as a whole, with what was asked for.
"""

import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Select, Table, delete, insert, select, update

from depth_loss_sweep.answer import reader_of
from depth_loss_sweep.copied_text import Rows, read_text, write_text
from depth_loss_sweep.errors import StorageError, StudyError, hide_password
from depth_loss_sweep.lease import Lease
from depth_loss_sweep.paths import COMPANIONS, Home, check_name, check_parent, expanded
from depth_loss_sweep.projection import Projection
from depth_loss_sweep.results import kept_images
from depth_loss_sweep.retention import folder_of
from depth_loss_sweep.spec_file import overrides_json, stored_overrides, stored_spec
from depth_loss_sweep.store import Store, image_rows, now
from depth_loss_sweep.tables import (
    EPOCH,
    GROUP,
    PER_IMAGE,
    PICTURES,
    RUN,
    STUDY,
    STUDY_RUN,
    TEST_READING,
    TRIAL,
    TRIAL_RUN,
)

UNTOUCHED = ("lock", ".tmp")
"""Endings of files in a run's folder that belong to whoever is at work there."""


@dataclass(frozen=True)
class Place:
    """Where a study is copied from or to: a database, or a folder of text."""

    home: Home
    storage: str | None
    text: Path | None = None

    @classmethod
    def named(cls, given: str, home: Home) -> "Place":
        """A database's URL, used from that home; an SQLite file (FILE.db); a home folder; else a folder of text."""
        if "://" in given:
            return cls(home, given)
        path = expanded(given).absolute()
        if path.suffix in (".db", ".sqlite", ".sqlite3") or path.is_file():
            return cls(Home(path.parent), str(path))
        home = Home(path)
        return cls(home, None) if home.database.exists() else cls(home, None, path)

    @property
    def is_home(self) -> bool:
        """Whether its runs' files lie beside it."""
        return self.text is None and "://" not in str(self.storage)

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

    A run that the target has finished stays as it is there. Raises StudyError where the study is not in the source, or another
    of its name is in the target; StorageError where one of them cannot be used, or the target gives back other numbers than it
    was given. All or nothing in the tables; a copy that was killed is finished by the same one.
    """
    if with_files and (source.text or not target.is_home):
        raise StudyError("--files copies into a home folder: name an SQLite file or a home folder, not text or a URL")
    copied = check_name(new_name) if new_name else name
    tables = _renamed(_source_rows(name, source), name, copied)
    files = 0
    if target.text:
        write_text(tables, copied, target.text)
    else:
        names = [*dict.fromkeys((copied, *(row["name"] for row in tables[STUDY.name] if not row["parent"])))]
        with _leased(names, target) as store:
            is_there = _is_there(tables, store)
            if not is_there:
                _require_free(names, store, target)
            if with_files:  # first, so that a copy that was killed can be made again
                files = sum(_copy_files(source.home, target.home, row) for row in tables[RUN.name])
            if not is_there:
                _write(tables, store, origin=source.shown)
            _project(tables, store)
    own = {row["name"] for row in tables[STUDY.name] if not row["parent"]}
    trials = [row for row in tables[TRIAL.name] if row["study"] in own]
    return Copy(len(trials), len(tables[RUN.name]), files)


def take_runs(source: Place, store: Store, group: str) -> list[dict[str, Any]]:
    """Take up every finished run of a source, for a group of studies to find; returns their rows.

    No study is copied. A study that asks for a run of that identity takes it, wherever it was trained.
    """
    there = _opened(source)
    rows = _study_rows(there, [row["name"] for row in (*there.studies(), *there.groups())])
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
        store.require_own(name, "copy")
    rows = study_rows(store, *([name, *store.group_studies(name)] if group else [name]))
    rows |= {GROUP.name: [group]} if group else {}
    for row in rows[RUN.name] if source.is_home else ():
        if row["home"] is None and source.home.run(row["run"]).is_dir():  # finished by an earlier version
            row["home"] = str(source.home.root)
    there = {row["run"] for row in rows[PER_IMAGE.name]}
    for run in (row for row in rows[RUN.name] if row["state"] == "finished" and row["run"] not in there):
        lists, values = image_rows(run["run"], run["epochs"], kept_images(store, source.home, run, rows[STUDY.name][0]))
        rows[PICTURES.name] += [row for row in lists if row not in rows[PICTURES.name]]
        rows[PER_IMAGE.name] += values
    return rows


def _opened(source: Place) -> Store:
    return read_text(source.text) if source.text else Store.open(source.home, source.storage)


def study_rows(store: Store, *names: str) -> Rows:
    """Every row of these studies and groups and of what stands beside them, as they stand at one instant."""
    return _study_rows(store, [name + ending for name in names for ending in ("", *COMPANIONS)])


def _study_rows(store: Store, names: Sequence[str]) -> Rows:
    with store.snapshot() as connection:
        return _rows(store, connection, names)


def _rows(store: Store, connection: Connection, names: Sequence[str]) -> Rows:
    """Every row of the studies and groups of these names, as a transaction sees them.

    Of what a study has asked for only the finished runs that none of its trials has: one that grows asks for its trials anew.
    """
    linked = select(TRIAL_RUN.c.run).where(TRIAL_RUN.c.study.in_(names))
    finished = select(RUN.c.run).where(RUN.c.state == "finished")
    others = STUDY_RUN.c.study.in_(names) & STUDY_RUN.c.run.in_(finished) & STUDY_RUN.c.run.not_in(linked)
    runs = linked.union(select(STUDY_RUN.c.run).where(others))
    epoch = store.epoch_table
    pictures = select(PER_IMAGE.c.pictures).where(PER_IMAGE.c.run.in_(runs))
    queries: dict[Table, Any] = {
        STUDY: STUDY.c.name.in_(names),
        TRIAL: TRIAL.c.study.in_(names),
        TRIAL_RUN: TRIAL_RUN.c.study.in_(names),
        STUDY_RUN: others,
        RUN: RUN.c.run.in_(runs),
        epoch: epoch.c.run.in_(runs),
        PICTURES: PICTURES.c.pictures.in_(pictures),
        PER_IMAGE: PER_IMAGE.c.run.in_(runs),
        TEST_READING: TEST_READING.c.pictures.in_(_test_pictures(store, names)),
    }
    found = {t: store.fetched(connection.execute(select(t).where(of_study))) for t, of_study in queries.items()}
    # By their keys, letter by letter: a server sorts as its language does.
    return {table.name: sorted(rows, key=partial(_key, table)) for table, rows in found.items()}


def _key(table: Table, row: Mapping[str, Any]) -> tuple[Any, ...]:
    """What tells a row from the others of its table."""
    return tuple(row[column.name] for column in table.primary_key.columns)


def _test_pictures(store: Store, names: Sequence[str]) -> Select[Any]:
    """The test pictures that were read to confirm studies: all readings of them are copied, so that they stay counted."""
    readers = [reader_of(row) for name in names if (row := store.study(name)) and row["parent"]]
    return select(TEST_READING.c.pictures).where(TEST_READING.c.reader.in_(readers))


def _renamed(rows: Rows, before: str, after: str) -> Rows:
    """The rows under the new name of a study or group, with which all its names begin; nobody is at work on a copy."""
    groups = rows.get(GROUP.name, [])
    new = {row["name"]: after + row["name"].removeprefix(before) for row in (*rows[STUDY.name], *groups)}
    studies = [_renamed_study(study, new, after if groups else None) for study in rows[STUDY.name]]
    linked = {
        table: [row | {"study": new[row["study"]]} for row in rows[table]]
        for table in (TRIAL.name, TRIAL_RUN.name, STUDY_RUN.name)
    }
    renamed = {GROUP.name: [row | {"name": after, "state": _left(row)} for row in groups]} if groups else {}
    return {**rows, STUDY.name: studies, **linked, **renamed}


def _left(row: Mapping[str, Any]) -> str:
    return "finished" if row["state"] == "finished" else "interrupted"


def _renamed_study(study: dict[str, Any], new: Mapping[str, str], group: str | None) -> dict[str, Any]:
    name, parent = new[study["name"]], study["parent"] and check_parent(new[study["parent"]])
    is_same = name == study["name"] or parent is not None
    overrides = stored_overrides(study["overrides"]) | ({} if is_same else {"study.name": name})
    columns = {"name": name, "optuna_name": name, "state": _left(study), "overrides": overrides_json(overrides)}
    return {**study, **columns, "parent": parent, "group": group}


# A database


@contextmanager
def _leased(names: Sequence[str], target: Place) -> Iterator[Store]:
    """The target's database, for as long as nobody else may begin studies, or a group, of those names there."""
    store = Store.open(target.home.create(), target.storage, create=True)
    store.require_sound()
    with ExitStack() as leases:
        for each in names:
            leases.callback(Lease.take(store, each, target.home.lock(each)).release)
        yield store


def _is_there(rows: Rows, store: Store) -> bool:
    """Whether the database has these studies, each as it is given: a copy may have been killed before it was through."""
    there = _study_rows(store, _names(rows))

    def known(rows: Rows) -> list[dict[tuple[Any, ...], Any]]:
        return [{_key(t, row): _as_given(t, row) for row in rows[t.name]} for t in (STUDY, TRIAL, TRIAL_RUN)]

    return bool(rows[STUDY.name]) and known(there) == known(rows)


def _names(rows: Rows) -> list[str]:
    return [row["name"] for row in (*rows[STUDY.name], *rows.get(GROUP.name, ()))]


def _require_free(names: Sequence[str], store: Store, target: Place) -> None:
    for each in names:
        if kind := "study" if store.study(each) else "group" if store.group(each) else None:
            raise StudyError(f"the {kind} {each!r} is in {target.shown} already: copy under another name, with --name")


def _write(rows: Rows, store: Store, origin: str) -> None:
    links = {(row["study"], row["run"]): None for table in (TRIAL_RUN, STUDY_RUN) for row in rows[table.name]}
    asked = [{"study": study, "run": run, "taken_over": False} for study, run in links]
    with _with_measures(store, rows).begin() as connection:
        new = _insert_numbers(rows, store, connection, origin)
        for table in (GROUP, STUDY, TRIAL, TRIAL_RUN):
            if rows.get(table.name):
                connection.execute(insert(table), [_of(table, row) for row in rows[table.name]])
        store.insert_new(connection, STUDY_RUN, asked)
        _verify(rows, new, store, connection)


def _project(rows: Rows, store: Store) -> None:
    """Bring the studies' projections to where they stand."""
    for study in rows[STUDY.name]:
        projection = Projection(store, stored_spec(study, store.shown_url))
        projection.reconcile(store.trials(study["name"]))
        projection.close()


def _with_measures(store: Store, rows: Rows) -> Store:
    """The store with room for all terms and metrics of the rows."""
    store.add_measures({name for row in rows[EPOCH.name] for name, value in row.items() if value is not None})
    return store


def _verify(rows: Rows, new: set[str], store: Store, connection: Connection) -> None:
    """Raise `StorageError`, so that nothing is committed, unless the database gives back what it was given.

    Of runs that were there before, it is only asked that nothing is missing.
    """
    there = _rows(store, connection, _names(rows))
    for table in (STUDY, TRIAL, TRIAL_RUN, RUN, store.epoch_table, PER_IMAGE):
        found = {_key(table, row): row for row in there[table.name]}
        for row in rows[table.name]:
            back, is_ours = found.get(_key(table, row)), row.get("run") in new or table in (STUDY, TRIAL, TRIAL_RUN)
            if back is None or (is_ours and _as_given(table, row) != _as_given(table, back)):
                which = ", ".join(f"{column.name} {row[column.name]}" for column in table.primary_key.columns)
                raise StorageError(
                    f"the database {store.shown_url} gives back another row of {table.name} than it was given ({which}), so nothing "
                    f"was copied: try another database"
                )


def _as_given(table: Table, row: Mapping[str, Any]) -> dict[str, Any]:
    """A row as every database has it: SQLite keeps no NaN."""
    return {
        name: None if value != value else value
        for name, value in _of(table, row).items()
        if table is not RUN or name not in ("origin", "state")  # which a copy has of its own
    }


def _insert_numbers(rows: Rows, store: Store, connection: Connection, origin: str) -> set[str]:
    """Insert runs with all that is measured of them; returns the keys of those that weren't there before."""
    new = _insert_runs(store, connection, rows[RUN.name], f"{origin}, copied {now()}")
    # A run of one key has the same numbers wherever it was trained, so what is there already may stay.
    for table in (store.epoch_table, PICTURES, PER_IMAGE, TEST_READING):
        store.insert_new(connection, table, [_of(table, row) for row in rows[table.name]])
    for row in (row for row in rows[RUN.name] if row["run"] not in new):
        fewer = (RUN.c.run == row["run"]) & (RUN.c.epochs < row["epochs"])
        connection.execute(update(RUN).where(fewer).values(epochs=row["epochs"]))
    return new


def _of(table: Table, row: Mapping[str, Any]) -> dict[str, Any]:
    return {column.name: row.get(column.name) for column in table.columns}


def _insert_runs(store: Store, connection: Connection, runs: list[dict[str, Any]], origin: str) -> set[str]:
    """Insert the runs that are not here, or are here and not finished, though they are there; returns their keys."""
    here = {row["run"]: row["state"] for row in store.fetched(connection.execute(select(RUN.c.run, RUN.c.state)))}
    new = [r for r in runs if r["run"] not in here or (r["state"] == "finished" and here[r["run"]] != "finished")]
    for row in new:
        is_ended = row["state"] in ("finished", "failed", "dropped")
        columns = {"origin": row["origin"] or origin} if is_ended else {"state": "waiting"}
        for table in (store.epoch_table, PER_IMAGE, RUN):  # what another session had begun of it goes
            connection.execute(delete(table).where(table.c.run == row["run"]))
        connection.execute(insert(RUN).values(**{**row, **columns}))
    return {row["run"] for row in new}


def _copy_files(source: Home, target: Home, row: dict[str, Any]) -> bool:
    """Copy a run's folder, as far as it can be reached, where the target has none; whether anything was copied."""
    folder, copy = folder_of(source, row), target.run(row["run"])
    if not copy.exists() and not folder.is_dir():
        return False
    row["home"] = str(target.root)
    if copy.exists():
        return False
    building = copy.with_name(f".{copy.name}.{os.getpid()}.tmp")
    copy.parent.mkdir(parents=True, exist_ok=True)
    try:
        shutil.copytree(folder, building, ignore=lambda _, names: [n for n in names if n.endswith(UNTOUCHED)])
        building.rename(copy)
    finally:
        shutil.rmtree(building, ignore_errors=True)
    return True
