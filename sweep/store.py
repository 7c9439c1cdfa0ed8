"""The truth of every study: our own tables (sweep_*), beside Optuna's in one database. SQLite at HOME/sweep.db, or a URL.

Workers never come here. Only the coordinator that holds a study's lease writes that study's rows; reading is free.
"""

import json
import os
import re
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
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
from sqlalchemy.exc import ArgumentError, DatabaseError, NoSuchModuleError, OperationalError

from model.names import EXTRA_METRICS, METRICS, TERMS
from sweep.errors import StorageError, StudyError
from sweep.paths import Home

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
    Column("renewed", Float, nullable=False),
)
Index("ix_sweep_trial_state", TRIAL.c.study, TRIAL.c.state)


def _migrate_1(connection: Connection) -> None:
    METADATA.create_all(connection)


# Migration i brings a database from version i to version i + 1.
MIGRATIONS: list[Callable[[Connection], None]] = [_migrate_1]


def now() -> str:
    """The time as stored: ISO 8601, UTC, seconds."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def hide_password(url: str) -> str:
    """A database URL fit to be shown: its password, and any given as a query parameter, replaced by ***."""
    shown = re.sub(r"(://[^:/@\s]*):[^@\s]*@", r"\1:***@", url)
    return re.sub(r"(?i)([?&](?:password|passwd|pwd|sslpassword)=)[^&\s]*", r"\1***", shown)


def storage_url(home: Home, storage: str | None) -> str:
    """The SQLAlchemy URL of `--storage` (a URL or an SQLite file), by default the home folder's file."""
    if storage is None:
        return f"sqlite:///{home.database}"
    if "://" not in storage:
        return f"sqlite:///{Path(storage).absolute()}"
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
    """SQLite as we want it: WAL (never across hosts), a busy timeout, a commit that survives a killed process."""
    if engine.dialect.name != "sqlite":
        return

    @event.listens_for(engine, "connect")
    def _pragmas(connection: sqlite3.Connection, _record: Any) -> None:
        cursor = connection.cursor()
        cursor.execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT_S * 1000}")
        if wal:
            cursor.execute("PRAGMA journal_mode = WAL")
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

    def __init__(self, engine: Engine, url: str) -> None:
        self.engine = engine
        self.url = url

    @classmethod
    def open(cls, home: Home, storage: str | None = None, create: bool = False) -> "Store":
        """Open the database (making it only where `create`), bring it to our schema, or raise `StorageError`."""
        url = storage_url(home, storage)
        try:
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
        configure(engine, wal=is_file and not path.startswith("file:") and not on_network_disk(Path(path)))
        store = cls(engine, url)
        with store.errors():
            store._migrate()
        return store

    @contextmanager
    def errors(self) -> Iterator[None]:
        """Turn what a database can suffer from (damage, a full disk, no permission) into one line naming it."""
        try:
            yield
        except DatabaseError as error:
            if (
                not isinstance(error, OperationalError)
                and "malformed" not in str(error)
                and "not a database" not in str(error)
            ):
                raise
            reason = hide_password(str(error.orig)).splitlines()[0]
            raise StorageError(f"the database {hide_password(self.url)} cannot be used: {reason}") from None

    def _migrate(self) -> None:
        with self.engine.begin() as connection:
            version = 0
            if inspect(connection).has_table(VERSION.name):
                version = connection.scalar(select(func.max(VERSION.c.version))) or 0
            if version > SCHEMA_VERSION:
                raise StorageError(
                    f"the database {hide_password(self.url)} has schema {version}, this version knows up to "
                    f"{SCHEMA_VERSION}: use the newer version of sweep that made it"
                )
            if version == SCHEMA_VERSION:
                return
            for step in MIGRATIONS[version:]:
                step(connection)
            connection.execute(delete(VERSION))
            connection.execute(insert(VERSION).values(version=SCHEMA_VERSION))

    # Reading

    def rows(self, query: Any) -> list[dict[str, Any]]:
        """All rows of a query as dicts."""
        with self.errors(), self.engine.connect() as connection:
            return [dict(row) for row in connection.execute(query).mappings()]

    def studies(self) -> list[dict[str, Any]]:
        """One dict a study: name, state, numbers of trials by state."""
        counts: dict[str, dict[str, int]] = {}
        query = select(TRIAL.c.study, TRIAL.c.state, func.count().label("n")).group_by(TRIAL.c.study, TRIAL.c.state)
        for row in self.rows(query):
            counts.setdefault(row["study"], {})[row["state"]] = row["n"]
        return [
            {**row, "trials": counts.get(row["name"], {})} for row in self.rows(select(STUDY).order_by(STUDY.c.created))
        ]

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
            raise StudyError(f"no study is called {name!r} in {hide_password(self.url)}; {there}")
        return found

    def trials(self, name: str) -> list[dict[str, Any]]:
        """The study's trials in order, params and weights as dicts."""
        rows = self.rows(select(TRIAL).where(TRIAL.c.study == name).order_by(TRIAL.c.number))
        return [{**row, **{k: json.loads(row[k]) for k in ("params", "drawn", "weights")}} for row in rows]

    def runs(self, name: str) -> list[dict[str, Any]]:
        """The study's runs in trial and seed order, with `trial`, `seed` and all columns of sweep_run."""
        query = (
            select(TRIAL_RUN.c.trial, TRIAL_RUN.c.seed, RUN)
            .join(RUN, RUN.c.run == TRIAL_RUN.c.run)
            .where(TRIAL_RUN.c.study == name)
            .order_by(TRIAL_RUN.c.trial, TRIAL_RUN.c.seed)
        )
        return self.rows(query)

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
        """Record a trial (number, params, drawn, weights, epochs) as asked, with its runs; existing runs are shared."""
        texts = {k: json.dumps(trial[k]) for k in ("params", "drawn", "weights")}
        fresh = {"state": "waiting", "attempts": 0, "epochs": 0, "mixed": False}
        new = [{**{k: getattr(r, k) for k in ("run", "identity", "environment", "settings")}, **fresh} for r in runs]
        with self.begin() as connection:
            connection.execute(insert(TRIAL).values(study=study, state="running", asked=now(), **{**trial, **texts}))
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
