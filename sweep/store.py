"""The truth of every study: our own tables (sweep_*), beside Optuna's in one database. SQLite at HOME/sweep.db, or a URL.

Workers never come here. Only the coordinator that holds a study's lease writes that study's rows; reading is free.
"""

import fcntl
import json
import os
import re
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import quote

from sqlalchemy import (
    Boolean,
    Column,
    Connection,
    Engine,
    Float,
    Index,
    Integer,
    MetaData,
    Result,
    String,
    Table,
    Text,
    create_engine,
    delete,
    event,
    func,
    insert,
    inspect,
    select,
    text,
    update,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, DatabaseError, IntegrityError, NoSuchModuleError, ProgrammingError

from model.names import EXTRA_METRICS, METRICS, TERMS
from sweep.errors import SpecError, StorageError, StudyError, hide_password
from sweep.paths import Home, check_name

SCHEMA_VERSION = 1
NETWORK_FILESYSTEMS = ("nfs", "cifs", "smb", "fuse.sshfs", "lustre", "gpfs", "beegfs", "ceph", "9p", "afs")
BUSY_TIMEOUT_S = 60

METADATA = MetaData()
VERSION = Table("sweep_version", METADATA, Column("version", Integer, primary_key=True))
STUDY = Table(
    "sweep_study",
    METADATA,
    Column("name", String(100), primary_key=True),
    Column("optuna_name", String(120), nullable=False),
    Column("state", String(20), nullable=False),  # running | interrupted | finished
    Column("spec_text", Text, nullable=False),
    Column("overrides", Text, nullable=False),
    Column("fixed_hash", String(64), nullable=False),
    Column("grown_hash", String(64), nullable=False),
    Column("version", String(40), nullable=False),
    Column("command", Text, nullable=False),
    Column("environment", Text, nullable=False),
    Column("runtime", Text, nullable=False),
    Column("data", Text, nullable=False),
    Column("baselines", Text, nullable=False),
    Column("created", String(40), nullable=False),
    Column("updated", String(40), nullable=False),
)
TRIAL = Table(
    "sweep_trial",
    METADATA,
    Column("study", String(100), primary_key=True),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("state", String(20), nullable=False),  # running | complete | pruned | failed
    Column("value", Float),
    Column("params", Text, nullable=False),
    Column("drawn", Text, nullable=False),  # what the sampler drew to get the params
    Column("weights", Text, nullable=False),
    Column("epochs", Integer, nullable=False),
    Column("asked", String(40), nullable=False),
    Column("told", String(40)),
)
RUN = Table(
    "sweep_run",
    METADATA,
    Column("run", String(64), primary_key=True),
    Column("identity", String(64), nullable=False, index=True),
    Column("environment", Text, nullable=False),
    Column("settings", Text, nullable=False),
    Column("state", String(20), nullable=False),  # waiting | running | finished | failed
    Column("outcome", String(20)),
    Column("reason", Text),
    Column("attempts", Integer, nullable=False, default=0),
    Column("epochs", Integer, nullable=False, default=0),
    Column("seconds", Float),
    Column("images_per_second", Float),
    Column("device", String(200)),
    Column("host", String(200)),
    Column("mixed", Boolean, nullable=False, default=False),
    Column("details", Text),
    Column("started", String(40)),
    Column("finished", String(40)),
)
TRIAL_RUN = Table(
    "sweep_trial_run",
    METADATA,
    Column("study", String(100), primary_key=True),
    Column("trial", Integer, primary_key=True, autoincrement=False),
    Column("seed", Integer, primary_key=True, autoincrement=False),
    Column("run", String(64), nullable=False, index=True),
)
NUMBERS = (
    "total",
    *(f"term_{term}" for term in TERMS),
    *(f"metric_{metric}" for metric in (*METRICS, *EXTRA_METRICS)),
    *(f"weight_{term}" for term in TERMS),
    *(f"share_{term}" for term in TERMS),
    "learning_rate",
    "grad_norm_median",
    "grad_norm_p95",
    "grad_norm_max",
    "images_per_second",
    "seconds",
)
EPOCH = Table(
    "sweep_epoch",
    METADATA,
    Column("run", String(64), primary_key=True),
    Column("epoch", Integer, primary_key=True, autoincrement=False),
    Column("split", String(10), primary_key=True),
    *(Column(name, Float) for name in NUMBERS),
    Column("non_finite_steps", Integer),
)
LEASE = Table(
    "sweep_lease",
    METADATA,
    Column("study", String(100), primary_key=True),
    Column("token", Integer, nullable=False),
    Column("host", String(200), nullable=False),
    Column("pid", Integer, nullable=False),
    Column("place", Text, nullable=False),  # boot and lock file: where an flock speaks for the holder
    Column("renewed", Float, nullable=False),
)
Index("ix_sweep_trial_state", TRIAL.c.study, TRIAL.c.state)

STATES = {
    TRIAL: ("running", "complete", "pruned", "failed"),
    RUN: ("waiting", "running", "finished", "failed", "dropped"),
}


def _python_types() -> dict[str, set[type]]:
    """What Python makes of each column. SQLite stores whatever it is given, and a damaged page gives it anything."""
    kinds: dict[type, set[type]] = {Integer: {int}, Boolean: {bool}, Float: {float, int}, String: {str}}
    types: dict[str, set[type]] = {}
    for column in (c for table in (STUDY, TRIAL, RUN, TRIAL_RUN, EPOCH, LEASE) for c in table.columns):
        fitting = next(found for kind, found in kinds.items() if isinstance(column.type, kind))
        types.setdefault(column.name, set()).update(fitting, {type(None)} if column.nullable else ())
    return types


PYTHON_TYPES = _python_types()
Scalars = dict[str, bool | int | float | str]
OBJECTS: dict[str, Any] = {"params": Scalars, "drawn": Scalars, "weights": dict[str, float]}


@cache
def _adapter(kind: Any) -> Any:
    from pydantic import TypeAdapter  # `sweep list` can do without

    return TypeAdapter(kind)


def _migrate_1(connection: Connection) -> None:
    METADATA.create_all(connection)


# Migration i brings a database from version i to version i + 1.
MIGRATIONS: list[Callable[[Connection], None]] = [_migrate_1]


def now() -> str:
    """The time as stored: ISO 8601, UTC, seconds."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def storage_url(home: Home, storage: str | None) -> str:
    """The SQLAlchemy URL of `--storage` (a URL or an SQLite file), by default the home folder's file."""
    if storage is None or "://" not in storage:
        path = home.database if storage is None else Path(storage).absolute()
        if any(sign in str(path) for sign in "?#%"):
            raise StorageError(
                f"the database {path} cannot be named in a URL: its path holds '?', '#' or '%'; "
                f"choose another place with --home or --storage"
            )
        return f"sqlite:///{path}"
    return re.sub(r"^postgres(ql)?://", "postgresql+psycopg://", storage)


def on_network_disk(path: Path) -> bool:
    """Whether a file lies on a disk shared by hosts, where SQLite's WAL does not work (Linux; elsewhere: no)."""
    mounts = Path("/proc/mounts")
    if not mounts.exists():
        return False
    entries = [line.split() for line in mounts.read_text(encoding="utf-8", errors="replace").splitlines()]
    holding = [e for e in entries if len(e) > 2 and path.resolve().is_relative_to(e[1].replace("\\040", " "))]
    return bool(holding) and max(holding, key=lambda e: len(e[1]))[2].startswith(NETWORK_FILESYSTEMS)


def configure(engine: Engine, wal: bool = True) -> None:
    """SQLite as we want it: WAL (never across hosts), a busy timeout, a commit that survives a killed process.

    With `wal` the file is brought to WAL; it stays in it, so who only reads need not write that into its header.
    """
    if engine.dialect.name != "sqlite":
        return

    @event.listens_for(engine, "connect")
    def _pragmas(connection: sqlite3.Connection, _record: Any) -> None:
        cursor = connection.cursor()
        cursor.execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT_S * 1000}")
        if wal:
            cursor.execute("PRAGMA journal_mode = WAL")
        if cursor.execute("PRAGMA journal_mode").fetchone() == ("wal",):
            cursor.execute("PRAGMA synchronous = NORMAL")
        cursor.close()


@dataclass(frozen=True)
class NewRun:
    """One run of a trial as it is asked for: its keys and what it is made of."""

    run: str
    identity: str
    environment: str
    settings: str
    seed: int


class Store:
    """Reads and writes our tables. One object a process; its engine is safe to share with the lease's listener."""

    def __init__(self, engine: Engine, url: str, is_on_network_disk: bool = False) -> None:
        self.engine = engine
        self.url = url
        self.is_on_network_disk = is_on_network_disk

    @classmethod
    def open(cls, home: Home, storage: str | None = None, create: bool = False) -> "Store":
        """Open the database (making it only where `create`), bring it to our schema, or raise `StorageError`."""
        url = storage_url(home, storage)
        try:
            if (
                not url.startswith("sqlite") and url.count("@") > 1
            ):  # taken for the host's, a piece of it would be shown
                raise ValueError("an @ in a user's name or password must be written %40")
            parsed = make_url(url)
            if parsed.drivername.startswith("sqlite"):
                file = Path(str(parsed.database))
                _check_file(file, create)
                if file.exists() and not os.access(file.parent, os.W_OK):
                    # WAL needs a writable folder even to read, unless nothing is left in it to be read.
                    whole = not Path(f"{file}-wal").exists()
                    parsed = make_url(f"sqlite:///file:{quote(str(file))}?mode=ro&immutable={int(whole)}&uri=true")
            engine = create_engine(parsed, hide_parameters=True)
        except (ArgumentError, NoSuchModuleError, ModuleNotFoundError, ValueError) as error:
            reason = hide_password(str(error)).splitlines()[0]
            raise StorageError(f"the database {hide_password(url)} cannot be used: {reason}") from None
        is_file = engine.dialect.name == "sqlite"
        path = str(engine.url.database)
        store = cls(engine, url, is_file and on_network_disk(Path(path)))
        configure(engine, wal=create and is_file and not path.startswith("file:") and not store.is_on_network_disk)
        with store.errors():
            store._migrate(create)
        return store

    @property
    def shown_url(self) -> str:
        """The database's URL without its password."""
        return hide_password(self.url)

    @contextmanager
    def errors(self) -> Iterator[None]:
        """Turn what a database can suffer from (damage, a full disk, no permission) into one line naming it."""
        try:
            yield
        except DatabaseError as error:
            if error.statement is not None and isinstance(error, (IntegrityError, ProgrammingError)):
                raise  # a fault of ours; without a statement, the URL asks for something that there is not
            reason = hide_password(str(error.orig)).splitlines()[0]
            raise StorageError(f"the database {self.shown_url} cannot be used: {reason}") from None
        except UnicodeDecodeError:  # SQLite quotes a damaged page in its message
            raise self.damaged("its text is not UTF-8") from None

    def damaged(self, what: str) -> StorageError:
        """The error that names this database as damaged."""
        return StorageError(
            f"the database {self.shown_url} is damaged ({what}): put a copy of it in its place, or move it away"
        )

    def require_sound(self) -> None:
        """Raise `StorageError` where the file is damaged: nothing is written to such a file."""
        found = self.integrity()
        if found != "ok":
            raise self.damaged(" ".join(found.split())[:200])

    def _migrate(self, create: bool) -> None:
        with self.engine.connect() as connection:
            version = self._version(connection)
        if version == SCHEMA_VERSION:
            return
        if version == 0 and not create:
            raise StorageError(
                f"the database {self.shown_url} holds no studies: start one first (sweep start demo), "
                f"name another with --home or --storage, or, if it is a copy, copy its -wal file, too"
            )
        with self.alone(), self.engine.begin() as connection:
            for step in MIGRATIONS[self._version(connection) :]:  # asked again: another process may have been first
                step(connection)
            connection.execute(delete(VERSION))
            connection.execute(insert(VERSION).values(version=SCHEMA_VERSION))

    def _version(self, connection: Connection) -> int:
        """The schema's version, 0 where there is none of our tables; refuses one that is newer, or none at all."""
        if not inspect(connection).has_table(VERSION.name):
            return 0
        version = connection.scalar(select(func.max(VERSION.c.version))) or 0
        if not isinstance(version, int) or version < 0:
            raise self.damaged(f"its schema is called {version!r:.40}")
        if version > SCHEMA_VERSION:
            raise StorageError(
                f"the database {self.shown_url} has schema {version}, this version knows up to "
                f"{SCHEMA_VERSION}: use the newer version of sweep that made it"
            )
        return version

    @contextmanager
    def alone(self) -> Iterator[None]:
        """One process at a time makes or migrates tables, ours or Optuna's."""
        if self.engine.dialect.name == "sqlite":
            with Path(f"{self.engine.url.database}.lock").open("w") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                yield
        elif self.engine.dialect.name == "postgresql":
            with self.engine.connect() as connection:  # the lock ends with the connection's transaction
                connection.execute(text("SELECT pg_advisory_xact_lock(83267)"))
                yield
        else:
            yield

    # Reading

    def rows(self, query: Any) -> list[dict[str, Any]]:
        """All rows of a query as dicts; `StorageError` where a value is not of its column's type."""
        with self.errors(), self.engine.connect() as connection:
            return self.fetched(connection.execute(query))

    def fetched(self, result: Result[Any]) -> list[dict[str, Any]]:
        """As `rows`, within a transaction."""
        names = tuple(result.keys())
        try:
            rows = [tuple(row) for row in result]
        except (ValueError, TypeError, OverflowError) as error:
            raise self.damaged(" ".join(str(error).split())) from error
        for name, column in zip(names, zip(*rows, strict=True), strict=False):
            wrong = set(map(type, column)) - PYTHON_TYPES.get(name, set(map(type, column)))
            if wrong:
                raise self.damaged(f"the column {name} holds a {wrong.pop().__name__}")
        return [dict(zip(names, row, strict=True)) for row in rows]

    def decoded(self, row: Mapping[str, Any], column: str, kind: Any = dict[str, Any]) -> Any:
        """The JSON of a row's column, which must be a `kind`; `StorageError` where it is something else."""
        try:
            return _adapter(kind).validate_python(json.loads(row[column]))
        except (ValueError, RecursionError) as error:
            raise self.damaged(f"the column {column} cannot be read") from error

    def _check_states(self, table: Table, rows: Iterable[Mapping[str, Any]]) -> None:
        unknown = {row["state"] for row in rows} - {*STATES[table]}
        if unknown:
            raise self.damaged(f"{table.name} has the state {unknown.pop()!r:.40}")

    def studies(self) -> list[dict[str, Any]]:
        """One dict a study: name, state, numbers of trials by state."""
        counts: dict[str, dict[str, int]] = {}
        query = select(TRIAL.c.study, TRIAL.c.state, func.count().label("n")).group_by(TRIAL.c.study, TRIAL.c.state)
        for row in self.rows(query):
            counts.setdefault(row["study"], {})[row["state"]] = row["n"]
        rows = self.rows(select(STUDY).order_by(STUDY.c.created))
        return [{**self._named(row), "trials": counts.get(row["name"], {})} for row in rows]

    def _named(self, row: dict[str, Any]) -> dict[str, Any]:
        """A study's row, its name fit to be part of a path."""
        try:
            check_name(row["name"])
        except SpecError as error:
            raise self.damaged(str(error)) from error
        return row

    def study(self, name: str) -> dict[str, Any] | None:
        """The study's row, or None."""
        found = self.rows(select(STUDY).where(STUDY.c.name == name))
        return found[0] if found else None

    def require(self, name: str) -> dict[str, Any]:
        """The study's row; a `StudyError` that lists what there is where it does not exist."""
        found = self.study(name)
        if found is None:
            known = [row["name"] for row in self.rows(select(STUDY.c.name).order_by(STUDY.c.name).limit(20))]
            there = f"there are {', '.join(known)}" if known else "there are none yet; begin with: sweep start demo"
            raise StudyError(f"no study is called {name!r} in {self.shown_url}; {there}")
        return found

    def trials(self, name: str) -> list[dict[str, Any]]:
        """The study's trials in order, params and weights as dicts."""
        rows = self.rows(select(TRIAL).where(TRIAL.c.study == name).order_by(TRIAL.c.number))
        self._check_states(TRIAL, rows)
        if [row["number"] for row in rows] != list(range(len(rows))):
            raise self.damaged(f"trials of {name} are missing")
        for column, kind in OBJECTS.items():
            # All at once: ten thousand small validations take ten times as long.
            whole = {column: f"[{','.join(row[column] for row in rows)}]"}
            values = self.decoded(whole, column, list[kind])  # type: ignore[valid-type]
            if len(values) != len(rows):
                raise self.damaged(f"the column {column} cannot be read")
            for row, value in zip(rows, values, strict=True):
                row[column] = value
        return rows

    def runs(self, name: str) -> list[dict[str, Any]]:
        """The study's runs in trial and seed order, with `trial`, `seed` and all columns of sweep_run."""
        query = (
            select(TRIAL_RUN.c.trial, TRIAL_RUN.c.seed, RUN)
            .join(RUN, RUN.c.run == TRIAL_RUN.c.run)
            .where(TRIAL_RUN.c.study == name)
            .order_by(TRIAL_RUN.c.trial, TRIAL_RUN.c.seed)
        )
        rows = self.rows(query)
        self._check_states(RUN, rows)
        return rows

    def shorter_run(self, new: NewRun, epochs: int) -> str | None:
        """The longest-trained run of the same identity and environment with fewer epochs; a longer one goes on from it."""
        same = (RUN.c.identity == new.identity) & (RUN.c.environment == new.environment)
        fewer = (RUN.c.run != new.run) & (RUN.c.epochs > 0) & (RUN.c.epochs < epochs) & ~RUN.c.mixed
        found = self.rows(select(RUN.c.run).where(same & fewer).order_by(RUN.c.epochs.desc()).limit(1))
        return str(found[0]["run"]) if found else None

    def run(self, run: str) -> dict[str, Any] | None:
        """One run's row, or None."""
        found = self.rows(select(RUN).where(RUN.c.run == run))
        return found[0] if found else None

    def trial_run(self, name: str, trial: int, seed: int) -> str:
        """The key of a trial's run under a seed."""
        where = (TRIAL_RUN.c.study == name) & (TRIAL_RUN.c.trial == trial) & (TRIAL_RUN.c.seed == seed)
        return str(self.rows(select(TRIAL_RUN.c.run).where(where))[0]["run"])

    def epochs(self, name: str) -> list[dict[str, Any]]:
        """All epoch rows of the study's runs, each run once and no further than the study asks for."""
        runs = (
            select(TRIAL_RUN.c.run, func.max(TRIAL.c.epochs).label("limit"))
            .join(TRIAL, (TRIAL.c.study == TRIAL_RUN.c.study) & (TRIAL.c.number == TRIAL_RUN.c.trial))
            .where(TRIAL_RUN.c.study == name)
            .group_by(TRIAL_RUN.c.run)
            .subquery()
        )
        query = (
            select(EPOCH)
            .join(runs, (runs.c.run == EPOCH.c.run) & (EPOCH.c.epoch <= runs.c.limit))
            .order_by(EPOCH.c.run, EPOCH.c.epoch, EPOCH.c.split)
        )
        return self.rows(query)

    def curve(self, run: str, column: str, epochs: int) -> list[float]:
        """A run's validation curve of one column, epoch by epoch; NaN where the database holds none."""
        query = (
            select(EPOCH.c[column])
            .where(EPOCH.c.run == run, EPOCH.c.split == "val", EPOCH.c.epoch <= epochs)
            .order_by(EPOCH.c.epoch)
        )
        return [float("nan") if row[column] is None else row[column] for row in self.rows(query)]

    # Writing; each method is one transaction

    @contextmanager
    def begin(self) -> Iterator[Connection]:
        """One transaction, its errors in one line."""
        with self.errors(), self.engine.begin() as connection:
            yield connection

    def save_study(self, row: Mapping[str, Any]) -> None:
        """Add a study."""
        with self.begin() as connection:
            connection.execute(insert(STUDY).values(**row, updated=now()))

    def update_study(self, name: str, **columns: Any) -> None:
        """Change columns of a study's row."""
        with self.begin() as connection:
            connection.execute(update(STUDY).where(STUDY.c.name == name).values(**columns, updated=now()))

    def regrow_study(self, name: str, **columns: Any) -> None:
        """Change a study's spec and forget its trials (never its runs): they are asked anew and find their runs done."""
        with self.begin() as connection:
            connection.execute(delete(TRIAL_RUN).where(TRIAL_RUN.c.study == name))
            connection.execute(delete(TRIAL).where(TRIAL.c.study == name))
            connection.execute(update(STUDY).where(STUDY.c.name == name).values(**columns, updated=now()))

    def ask_trial(self, study: str, trial: Mapping[str, Any], runs: Sequence[NewRun]) -> None:
        """Record a trial (number, params, drawn, weights, epochs, asked) with its runs; existing runs are shared."""
        texts = {k: json.dumps(trial[k]) for k in ("params", "drawn", "weights")}
        fresh = {"state": "waiting", "attempts": 0, "epochs": 0, "mixed": False}
        new = [{**{k: getattr(r, k) for k in ("run", "identity", "environment", "settings")}, **fresh} for r in runs]
        with self.begin() as connection:
            connection.execute(insert(TRIAL).values(study=study, state="running", **{**trial, **texts}))
            self._insert_new(connection, RUN, new)
            links = [{"study": study, "trial": trial["number"], "seed": r.seed, "run": r.run} for r in runs]
            connection.execute(insert(TRIAL_RUN), links)

    def tell_trial(self, study: str, number: int, **columns: Any) -> None:
        """Record a trial's end: its state, value and how many epochs count."""
        with self.begin() as connection:
            where = (TRIAL.c.study == study) & (TRIAL.c.number == number)
            connection.execute(update(TRIAL).where(where).values(told=now(), **columns))

    def update_run(self, run: str, **columns: Any) -> None:
        """Change columns of a run's row."""
        with self.begin() as connection:
            connection.execute(update(RUN).where(RUN.c.run == run).values(**columns))

    def drop_run(self, run: str, study: str, reason: str) -> None:
        """Give a run up, unless it is finished or another study waits for it."""
        awaited = (
            select(TRIAL_RUN.c.run)
            .join(TRIAL, (TRIAL.c.study == TRIAL_RUN.c.study) & (TRIAL.c.number == TRIAL_RUN.c.trial))
            .where(TRIAL_RUN.c.run == run, TRIAL.c.study != study, TRIAL.c.state == "running")
        )
        with self.begin() as connection:
            where = (RUN.c.run == run) & (RUN.c.state != "finished") & ~awaited.exists()
            connection.execute(update(RUN).where(where).values(state="dropped", reason=reason))

    def failed_trials(self, name: str) -> int:
        """How many of the study's trials failed."""
        where = (TRIAL.c.study == name) & (TRIAL.c.state == "failed")
        return int(self.rows(select(func.count().label("n")).where(where))[0]["n"])

    def add_epochs(self, run: str, rows: Iterable[Mapping[str, Any]]) -> None:
        """Take epoch rows in; those that are there already stay as they are, so that receiving twice is harmless."""
        with self.begin() as connection:
            self._insert_new(connection, EPOCH, [{**row, "run": run} for row in rows])
            last = select(func.max(EPOCH.c.epoch)).where(EPOCH.c.run == run).scalar_subquery()
            connection.execute(update(RUN).where(RUN.c.run == run).values(epochs=last))

    def _insert_new(self, connection: Connection, table: Table, rows: list[dict[str, Any]]) -> None:
        if not rows:
            return
        dialect = postgresql if self.engine.dialect.name == "postgresql" else sqlite
        connection.execute(dialect.insert(table).on_conflict_do_nothing(), rows)

    def integrity(self) -> str:
        """ "ok", or what SQLite's own check found."""
        if self.engine.dialect.name != "sqlite":
            return "ok"
        with self.errors(), self.engine.connect() as connection:
            return str(connection.scalar(text("PRAGMA quick_check")))


def _check_file(path: Path, create: bool) -> None:
    """Refuse, in words, an SQLite file that is missing or is something else, before SQLite touches it."""
    if not path.exists():
        if not create:
            raise StorageError(
                f"there is no database at {path}: start a study first (sweep start demo), or name its --home"
            )
        return
    try:
        with path.open("rb") as file:
            head = file.read(16)
    except OSError as error:
        raise StorageError(f"the database {path} cannot be read: {error.strerror}") from error
    if head and head != b"SQLite format 3\0":
        raise StorageError(f"the file {path} is not an SQLite database: move it away, or name another with --storage")


def epoch_rows(record: Mapping[str, Any]) -> list[dict[str, Any]]:
    """An epoch record of `model.training` as rows of sweep_epoch, one a split. Non-finite numbers stay what they are."""
    common = {
        "epoch": record["epoch"],
        **{f"weight_{term}": record["weights"].get(term) for term in TERMS},
        **{f"share_{term}": record["gradient_share"].get(term) for term in TERMS},
        **{
            k: record[k]
            for k in ("learning_rate", "grad_norm_median", "grad_norm_p95", "grad_norm_max", "non_finite_steps")
        },
        **{k: record[k] for k in ("images_per_second", "seconds")},
    }
    return [
        {
            **common,
            "split": split,
            **{k: values.get(k) for k in NUMBERS if k == "total" or k.startswith(("term_", "metric_"))},
        }
        for split, values in record["splits"].items()
    ]
