"""The database of a home: which file or URL it is, how it is opened, migrated and read, and what it can suffer from.

SQLite at HOME/sweep.db, or any URL of SQLAlchemy's. What is asked of the tables stands in `sweep.store`.
"""

import json
import os
import re
import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from functools import cache, wraps
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, Protocol, Self, TypeVar
from urllib.parse import quote
from weakref import finalize

from sqlalchemy import (
    ColumnElement,
    Connection,
    Double,
    Engine,
    Result,
    StaticPool,
    cast,
    create_engine,
    delete,
    event,
    func,
    insert,
    inspect,
    literal,
    select,
    text,
)
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, DatabaseError, IntegrityError, NoSuchModuleError, ProgrammingError

from depth_loss_sweep.errors import StorageError, hide_password
from depth_loss_sweep.files import lock_in_turn
from depth_loss_sweep.outage import Outage, keepalive
from depth_loss_sweep.paths import Home, expanded, is_text
from depth_loss_sweep.tables import MIGRATIONS, SCHEMA_VERSION, VERSION, python_types

NETWORK_FILESYSTEMS = ("nfs", "cifs", "smb", "fuse.sshfs", "lustre", "gpfs", "beegfs", "ceph", "9p", "afs")
BUSY_TIMEOUT_S = 60
PASSWORDS = "; passwords are read from ~/.pgpass, the file that PGPASSFILE names, or the URL in SWEEP_STORAGE"

_Arguments = ParamSpec("_Arguments")
_Result = TypeVar("_Result")


@cache
def _adapter(kind: Any) -> Any:
    from pydantic import TypeAdapter  # `sweep list` can do without

    return TypeAdapter(kind)


def storage_url(home: Home, storage: str | None) -> str:
    """The SQLAlchemy URL of `--storage` (a URL or an SQLite file), by default the home folder's file."""
    if storage is None or "://" not in storage:
        path = home.database if storage is None else expanded(storage).absolute()
        if any(sign in str(path) for sign in "?#%") or not is_text(str(path)):
            raise StorageError(
                f"the database {path} cannot be named in a URL: its path holds '?', '#', '%' or bytes that are not UTF-8; "
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


class Witness(Protocol):
    """Whoever can say whether a transaction whose answer was lost was committed (see `sweep.lease`)."""

    def begin(self) -> None:
        """A transaction begins."""

    def is_committed(self) -> bool:
        """Whether the transaction that began last is in the database."""


class Database:
    """An open database of our schema. One object a process; its engine is safe to share with the lease's listener."""

    def __init__(self, engine: Engine, url: str, is_on_network_disk: bool = False) -> None:
        self.engine = engine
        self.url = url
        self.is_on_network_disk = is_on_network_disk
        self.outage: Outage | None = None
        self.witness: Witness | None = None

    @classmethod
    def open(cls, home: Home, storage: str | None = None, create: bool = False, outage: Outage | None = None) -> Self:
        """Open the database (making it only where `create`), bring it to our schema, or raise `StorageError`.

        With an `outage`, it is waited for from then on where it is away.
        """
        url = storage_url(home, storage)
        engine = _engine(url, create)
        is_file = engine.dialect.name == "sqlite"
        path = str(engine.url.database)
        database = cls(engine, url, is_file and on_network_disk(Path(path)))
        finalize(database, engine.dispose)  # a server keeps what it is not told to close
        is_read_only = path.startswith("file:")
        configure(engine, wal=create and is_file and not is_read_only and not database.is_on_network_disk)
        with database.errors():
            database._require_studies(create)
            if is_read_only and database.version < SCHEMA_VERSION:
                database._go_on_in_memory()
            database.migrate()
        database.outage = outage
        if outage is not None and not is_read_only:
            outage.watch(database.engine)
            database.engine.dispose()  # so that every connection from here on is watched
        return database

    @classmethod
    def in_memory(cls, name: str, version: int = SCHEMA_VERSION) -> Self:
        """An empty database of some version of our schema that lives no longer than this object; `name` is shown in errors."""
        engine = create_engine("sqlite://", poolclass=StaticPool, hide_parameters=True)
        made = cls(engine, name)
        made.migrate(version)
        return made

    def beside(self, home: Home) -> Self | None:
        """The home's own database, where this is another: its runs lie in the same folders. None where it has no studies."""
        own, here = home.database, Path(str(self.engine.url.database))
        if not own.exists() or (self.engine.dialect.name == "sqlite" and here.exists() and own.samefile(here)):
            return None
        engine = _engine(url := storage_url(home, None), create=False)
        version = type(self)(engine, url).version
        engine.dispose()
        return type(self).open(home) if version else None

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
            hint = PASSWORDS if "password" in reason else ""
            raise StorageError(f"the database {self.shown_url} cannot be used: {reason}{hint}") from None
        except UnicodeDecodeError:  # SQLite quotes a damaged page in its message
            raise self.damaged("its text is not UTF-8") from None

    def damaged(self, what: str) -> StorageError:
        """The error that names this database as damaged."""
        return StorageError(
            f"the database {self.shown_url} is damaged ({what}): put a copy of it in its place, or move it away"
        )

    def require_sound(self) -> None:
        """Raise `StorageError` where the file is damaged: nothing is written to such a file."""
        verdict = self.integrity()
        if verdict != "ok":
            raise self.damaged(" ".join(verdict.split())[:200])

    def integrity(self) -> str:
        """ "ok", or what SQLite's own check found."""
        if self.engine.dialect.name != "sqlite":
            return "ok"
        with self.errors(), self.engine.connect() as connection:
            return str(connection.scalar(text("PRAGMA quick_check")))

    # The schema

    @property
    def version(self) -> int:
        """The schema's version now, 0 where there is none of our tables."""
        with self.errors(), self.engine.connect() as connection:
            return self._version(connection)

    def _require_studies(self, create: bool) -> None:
        if not create and self.version == 0:
            raise StorageError(
                f"the database {self.shown_url} holds no studies: start one first (sweep start demo), "
                f"name another with --home or --storage, or, if it is a copy, copy its -wal file, too"
            )

    def migrate(self, to: int = SCHEMA_VERSION) -> None:
        """Bring the tables to that version of the schema; nothing happens where they are there already."""
        if self.version >= to:
            return
        with self.alone(), self.begin() as connection:
            if self.engine.dialect.name == "sqlite":  # by itself its driver commits each change of a table at once
                connection.exec_driver_sql("BEGIN IMMEDIATE")
            for migration in MIGRATIONS[self._version(connection) : to]:  # asked again: another may have been first
                migration(connection)
            connection.execute(delete(VERSION))
            connection.execute(insert(VERSION).values(version=to))

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

    def _go_on_in_memory(self) -> None:
        """Read a copy from here on: an old database that cannot be written cannot be migrated in its place."""
        copy = create_engine("sqlite://", poolclass=StaticPool, hide_parameters=True)
        with closing(self.engine.raw_connection()) as ours, closing(copy.raw_connection()) as theirs:
            ours.driver_connection.backup(theirs.driver_connection)  # type: ignore[union-attr]
        self.engine = copy

    @contextmanager
    def alone(self) -> Iterator[None]:
        """One process at a time makes or migrates tables, ours or Optuna's."""
        if self.engine.dialect.name == "sqlite" and self.engine.url.database:
            with lock_in_turn(Path(f"{self.engine.url.database}.lock")):
                yield
        elif self.engine.dialect.name == "postgresql":
            with self.engine.connect() as connection:  # the lock ends with the connection's transaction
                connection.execute(text("SELECT pg_advisory_xact_lock(83267)"))
                yield
        else:
            yield

    # Rows

    @contextmanager
    def begin(self) -> Iterator[Connection]:
        """One transaction, its errors in one line."""
        with self.errors(), self.engine.begin() as connection:
            yield connection

    def until_back(self, action: Callable[[], _Result], engine: Engine | None = None) -> _Result:
        """Do what may be done again; a session at work waits for a database that is away."""
        return self.outage.until_back(engine or self.engine, action) if self.outage else action()

    def write(self, work: Callable[[Connection], _Result]) -> _Result:
        """Do work in one transaction, once: where its answer is lost, it is asked whether it was committed."""
        done: list[_Result] = []

        def once() -> _Result:
            if done and self.witness and self.witness.is_committed():
                return done[0]
            done.clear()
            if self.witness:
                self.witness.begin()
            with self.begin() as connection:
                done.append(work(connection))
            return done[0]

        return self.until_back(once)

    @contextmanager
    def snapshot(self) -> Iterator[Connection]:
        """A connection whose queries all see the tables as they stand at one instant."""
        is_file = self.engine.dialect.name == "sqlite"
        engine = self.engine if is_file else self.engine.execution_options(isolation_level="REPEATABLE READ")
        with self.errors(), engine.connect() as connection:
            if is_file:
                connection.exec_driver_sql("BEGIN")
            yield connection

    def rows(self, query: Any) -> list[dict[str, Any]]:
        """All rows of a query as dicts; `StorageError` where a value is not of its column's type."""

        def ask() -> list[dict[str, Any]]:
            with self.errors(), self.engine.connect() as connection:
                return self.fetched(connection.execute(query))

        return self.until_back(ask)

    def clock(self) -> float:
        """The time by the clock that all who use this database share: the server's, or this machine's where there is none."""
        row = (
            self.rows(select(clock(self.engine).label("now")))[0] if self.engine.dialect.name == "postgresql" else None
        )
        return float(row["now"]) if row else time.time()

    def fetched(self, result: Result[Any]) -> list[dict[str, Any]]:
        """As `rows`, within a transaction."""
        names = tuple(result.keys())
        try:
            rows = [tuple(row) for row in result]
        except (ValueError, TypeError, OverflowError) as error:
            raise self.damaged(" ".join(str(error).split())) from error
        for name, column in zip(names, zip(*rows, strict=True), strict=False):
            there = set(map(type, column))
            wrong = there - (python_types(name) or there)
            if wrong:
                raise self.damaged(f"the column {name} holds a {wrong.pop().__name__}")
        return [dict(zip(names, row, strict=True)) for row in rows]

    def decoded(self, row: Mapping[str, Any], column: str, kind: Any = dict[str, Any]) -> Any:
        """The JSON of a row's column, which must be a `kind`; `StorageError` where it is something else."""
        try:
            return _adapter(kind).validate_python(json.loads(row[column]))
        except (ValueError, RecursionError) as error:
            raise self.damaged(f"the column {column} cannot be read") from error


def clock(engine: Engine) -> ColumnElement[float]:
    """Seconds since 1970 by the clock of `Database.clock`, as part of a statement."""
    if engine.dialect.name == "postgresql":
        return cast(func.extract("epoch", func.clock_timestamp()), Double)
    return literal(time.time(), Double)


def transaction(
    method: Callable[Concatenate[Any, Connection, _Arguments], _Result],
) -> Callable[Concatenate[Any, _Arguments], _Result]:
    """Make a method of a database one transaction: whoever calls it leaves the connection out."""

    @wraps(method)
    def committed(self: Database, *args: _Arguments.args, **kwargs: _Arguments.kwargs) -> _Result:
        return self.write(lambda connection: method(self, connection, *args, **kwargs))

    return committed


def _engine(url: str, create: bool) -> Engine:
    try:
        if not url.startswith("sqlite") and url.count("@") > 1:  # taken for the host's, a piece of it would be shown
            raise ValueError("an @ in a user's name or password must be written %40")
        parsed = make_url(url)
        if parsed.drivername.startswith("sqlite"):
            file = Path(str(parsed.database))
            _check_file(file, create)
            if file.exists() and not os.access(file.parent, os.W_OK):
                # WAL needs a writable folder even to read, unless nothing is left in it to be read.
                whole = not Path(f"{file}-wal").exists()
                parsed = make_url(f"sqlite:///file:{quote(str(file))}?mode=ro&immutable={int(whole)}&uri=true")
        return create_engine(parsed, hide_parameters=True, connect_args=keepalive(parsed))
    except (ArgumentError, NoSuchModuleError, ModuleNotFoundError, ValueError) as error:
        reason = hide_password(str(error)).splitlines()[0]
        raise StorageError(f"the database {hide_password(url)} cannot be used: {reason}") from None


def _check_file(path: Path, create: bool) -> None:
    """Refuse, in words, an SQLite file that is missing or is something else, before anything is written to it.

    SQLite itself looks, without its log: a file closed by anybody else drops all locks that SQLite holds on it in this process, and
    whoever closes the database next takes the log away from under us (sqlite.org/howtocorrupt.html, 2.2).
    """
    if not path.exists():
        if not create:
            if path.parent.is_file():
                raise StorageError(
                    f"there is no database at {path}: {path.parent} is a file; name a folder, with --home"
                )
            raise StorageError(
                f"there is no database at {path}: start a study first (sweep start demo), or name its --home"
            )
        return
    try:
        with closing(sqlite3.connect(f"file:{quote(str(path))}?mode=ro&immutable=1", uri=True)) as connection:
            connection.execute("PRAGMA schema_version")
    except sqlite3.DatabaseError as error:
        if error.sqlite_errorcode & 0xFF in (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_IOERR):
            reason = "it is a folder" if path.is_dir() else error
            raise StorageError(f"the database {path} cannot be read: {reason}") from None
        if error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_NOTADB:
            raise StorageError(
                f"the file {path} is not an SQLite database: move it away, or name another with --storage"
            ) from None
