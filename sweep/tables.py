"""The tables of a home, as the sum of its migrations.

What a migration made is written down in it, once, and stays as it is: a fresh database goes through all of them, an old one
through those it lacks, and both end with the same tables. To change a table, add a migration at the end of `MIGRATIONS`.
Terms and metrics are columns under any name: those that `sweep_epoch` lacks are added when the first record has them.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

from sqlalchemy import (
    Boolean,
    Column,
    Connection,
    Float,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    inspect,
    text,
)
from sqlalchemy.schema import CreateColumn

Columns = tuple[partial[Column], ...]


def _column(name: str, kind: object, **options: object) -> partial[Column]:
    """A column to be made wherever it is needed: SQLAlchemy's own belong to one table."""
    return partial(Column, name, kind, **options)  # type: ignore[arg-type]


def _key(name: str, kind: object) -> partial[Column]:
    return _column(name, kind, primary_key=True, autoincrement=False)


def _known(name: str, kind: object, **options: object) -> partial[Column]:
    return _column(name, kind, nullable=False, **options)


@dataclass(frozen=True)
class Migration:
    """One step of the schema: the tables it makes, the columns it adds to older ones, and what it changes in rows."""

    tables: dict[str, Columns] = field(default_factory=dict)
    columns: dict[str, Columns] = field(default_factory=dict)
    indices: tuple[tuple[str, str, tuple[str, ...]], ...] = ()
    """(name, table, columns) each."""
    rows: Callable[[Connection], None] | None = None

    def __call__(self, connection: Connection) -> None:
        """Bring a database one version further."""
        made = MetaData()
        for name, columns in self.tables.items():
            Table(name, made, *(column() for column in columns))
        for name, table, indexed in self.indices:
            Index(name, *(made.tables[table].c[column] for column in indexed))
        made.create_all(connection)
        for table, added in self.columns.items():
            for column in added:
                add_column(connection, table, column())
        if self.rows:
            self.rows(connection)


def add_column(connection: Connection, table: str, column: Column) -> None:
    """Add a column to a table that exists."""
    Table(table, MetaData(), column)  # a column is written down as a part of some table
    quoted = connection.dialect.identifier_preparer.quote(table)
    connection.execute(
        text(f"ALTER TABLE {quoted} ADD COLUMN {CreateColumn(column).compile(dialect=connection.dialect)}")
    )


def _newest_takes_the_name(connection: Connection) -> None:
    """Optuna's study NAME is the newest projection: version 1 called it NAME@2, NAME@3, ... once a study had grown."""
    grown = connection.execute(text("SELECT name, optuna_name FROM sweep_study WHERE optuna_name <> name")).all()
    for name, newest in grown:
        if optuna_names(connection, name):
            rename_projection(connection, name, f"{name}@1")
            rename_projection(connection, newest, name)
        connection.execute(text("UPDATE sweep_study SET optuna_name = name WHERE name = :name"), {"name": name})


def _second_rows(connection: Connection) -> None:
    _newest_takes_the_name(connection)
    links = (
        "INSERT INTO sweep_study_run (study, run, taken_over) SELECT DISTINCT study, run, false FROM sweep_trial_run"
    )
    connection.execute(text(links))


_TERMS_1 = ("silog", "ssim", "edge", "l1", "smoothness")
_METRICS_1 = (
    *("rmse", "mae", "abs_rel", "sq_rel", "rmse_log", "log10", "silog", "delta1", "delta2", "delta3"),
    *(
        "rmse_pooled",
        "rmse_scaled",
        "abs_rel_scaled",
        "delta1_scaled",
        "boundary_f1",
        "rmse_near",
        "rmse_mid",
        "rmse_far",
    ),
)
_NUMBERS_1 = (
    "total",
    *(f"term_{term}" for term in _TERMS_1),
    *(f"metric_{metric}" for metric in _METRICS_1),
    *(f"{what}_{term}" for what in ("weight", "share") for term in _TERMS_1),
    *("learning_rate", "grad_norm_median", "grad_norm_p95", "grad_norm_max", "images_per_second", "seconds"),
)

_FIRST = Migration(
    tables={
        "sweep_version": (_column("version", Integer, primary_key=True),),
        "sweep_study": (
            _key("name", String(100)),
            _known("optuna_name", String(120)),
            _known("state", String(20)),  # running | interrupted | finished
            _known("spec_text", Text),
            _known("overrides", Text),
            _known("fixed_hash", String(64)),
            _known("grown_hash", String(64)),
            _known("version", String(40)),
            _known("command", Text),
            _known("environment", Text),
            _known("runtime", Text),
            _known("data", Text),
            _known("baselines", Text),
            _known("created", String(40)),
            _known("updated", String(40)),
        ),
        "sweep_trial": (
            _key("study", String(100)),
            _key("number", Integer),
            _known("state", String(20)),  # running | complete | pruned | failed
            _column("value", Float),
            _known("params", Text),
            _known("drawn", Text),  # what the sampler drew to get the params
            _known("weights", Text),
            _known("epochs", Integer),
            _known("asked", String(40)),
            _column("told", String(40)),
        ),
        "sweep_run": (
            _key("run", String(64)),
            _known("identity", String(64), index=True),
            _known("environment", Text),
            _known("settings", Text),
            _known("state", String(20)),  # waiting | running | finished | failed | dropped
            _column("outcome", String(20)),
            _column("reason", Text),
            _known("attempts", Integer, default=0),
            _known("epochs", Integer, default=0),
            _column("seconds", Float),
            _column("images_per_second", Float),
            _column("device", String(200)),
            _column("host", String(200)),
            _known("mixed", Boolean, default=False),
            _column("details", Text),
            _column("started", String(40)),
            _column("finished", String(40)),
        ),
        "sweep_trial_run": (
            _key("study", String(100)),
            _key("trial", Integer),
            _key("seed", Integer),
            _known("run", String(64), index=True),
        ),
        "sweep_epoch": (
            _key("run", String(64)),
            _key("epoch", Integer),
            _key("split", String(10)),
            *(_column(name, Float) for name in _NUMBERS_1),
            _column("non_finite_steps", Integer),
        ),
        "sweep_lease": (
            _key("study", String(100)),
            _known("token", Integer),
            _known("host", String(200)),
            _known("pid", Integer),
            _known("place", Text),  # boot and lock file: where an flock speaks for the holder
            _known("renewed", Float),
        ),
    },
    indices=(("ix_sweep_trial_state", "sweep_trial", ("study", "state")),),
)

_SECOND = Migration(
    tables={
        "sweep_study_run": (  # all that a study has ever asked for
            _key("study", String(100)),
            _key("run", String(64)),
            _known("taken_over", Boolean),  # another study had finished it by then
        ),
        "sweep_pictures": (
            _key("pictures", String(64)),  # the hash of the two lists
            _known("keys", Text),
            _known("scenes", Text),
        ),
        "sweep_per_image": (
            _key("run", String(64)),
            _key("epoch", Integer),
            _key("split", String(10)),
            _key("measure", String(100)),
            _known("pictures", String(64)),
            _known("numbers", Text),  # one number a picture, in the order of its list
        ),
    },
    columns={"sweep_run": (_column("origin", Text),)},  # where a run was copied from
    rows=_second_rows,
)

_THIRD = Migration(
    tables={
        "sweep_test_reading": (  # each time that numbers of test pictures were asked for
            _key("pictures", String(64)),  # the fingerprint of the pictures
            _key("reader", String(64)),
            _known("what", Text),
            _known("at", String(40)),
        ),
    },
    columns={
        "sweep_study": (  # of a study that confirms another: its name, what is trained, how often that was looked at
            _column("parent", String(100)),
            _column("candidates", Text),
            _column("looks", Integer),
        ),
    },
)

_FOURTH = Migration(
    tables={
        "sweep_group": (  # studies that are asked for together: what was asked for
            _key("name", String(100)),
            _known("state", String(20)),  # running | interrupted | finished
            _known("scale", String(20)),
            _known("only", Text),
            _known("overrides", Text),
            _known("created", String(40)),
            _known("updated", String(40)),
        ),
    },
    columns={"sweep_study": (_column("group", String(100)),)},
)

_FIFTH = Migration(
    columns={"sweep_trial": (_column("second_value", Float),)},  # by the second objective, where there are two
)

_SIXTH = Migration(
    columns={"sweep_run": (_column("home", Text),)},  # of whoever finished it: below it lie its files, on its host
)

MIGRATIONS = (_FIRST, _SECOND, _THIRD, _FOURTH, _FIFTH, _SIXTH)
"""Migration i brings a database from version i to version i + 1."""

SCHEMA_VERSION = len(MIGRATIONS)


def _sum(migrations: tuple[Migration, ...]) -> dict[str, Columns]:
    """Table -> its columns, as all migrations together leave them."""
    columns: dict[str, Columns] = {}
    for migration in migrations:
        for name, added in (*migration.tables.items(), *migration.columns.items()):
            columns[name] = (*columns.get(name, ()), *added)
    return columns


_COLUMNS = _sum(MIGRATIONS)
METADATA = MetaData()
for _name, _parts in _COLUMNS.items():
    Table(_name, METADATA, *(column() for column in _parts))
VERSION, STUDY, TRIAL, RUN, TRIAL_RUN, STUDY_RUN, EPOCH, LEASE, PICTURES, PER_IMAGE, TEST_READING, GROUP = (
    METADATA.tables[f"sweep_{name}"]
    for name in (
        "version",
        "study",
        "trial",
        "run",
        "trial_run",
        "study_run",
        "epoch",
        "lease",
        "pictures",
        "per_image",
        "test_reading",
        "group",
    )
)

OPEN_PREFIXES = ("term_", "metric_", "weight_", "share_", "spread_", "cosine_", "similarity_")
"""Columns of `sweep_epoch` that begin so hold a number each, and there may be any of them."""

STATES = {
    TRIAL: ("running", "complete", "pruned", "failed"),
    RUN: ("waiting", "running", "finished", "failed", "dropped"),
}


def epoch_table(connection: Connection) -> Table:
    """`sweep_epoch` with every column that this database has."""
    columns = [column() for column in _COLUMNS[EPOCH.name]]
    there = {column["name"] for column in inspect(connection).get_columns(EPOCH.name)}
    open_ = sorted(name for name in there - {*EPOCH.columns.keys()} if name.startswith(OPEN_PREFIXES))
    return Table(EPOCH.name, MetaData(), *columns, *(Column(name, Float) for name in open_))


def _python_types() -> dict[str, set[type]]:
    """What Python makes of each column. SQLite stores whatever it is given, and a damaged page gives it anything."""
    kinds: dict[type, set[type]] = {Integer: {int}, Boolean: {bool}, Float: {float, int}, String: {str}}
    types: dict[str, set[type]] = {}
    for column in (c for table in METADATA.tables.values() if table is not VERSION for c in table.columns):
        fitting = next(python for kind, python in kinds.items() if isinstance(column.type, kind))
        types.setdefault(column.name, set()).update(fitting, {type(None)} if column.nullable else ())
    return types


_PYTHON_TYPES = _python_types()


def python_types(column: str) -> set[type] | None:
    """What Python may find in a column of that name; None where that is not known."""
    return _PYTHON_TYPES.get(column) or ({float, int, type(None)} if column.startswith(OPEN_PREFIXES) else None)


def optuna_names(connection: Connection, study: str) -> list[str]:
    """The names of Optuna's studies of a study of ours: NAME, and NAME@1, NAME@2, ... of before it grew."""
    if not inspect(connection).has_table("studies"):
        return []
    ours = re.compile(rf"{re.escape(study)}(@\d+)?")
    names = connection.scalars(text("SELECT study_name FROM studies"))
    return [name for name in names if isinstance(name, str) and ours.fullmatch(name)]


def set_projection_aside(connection: Connection, study: str) -> None:
    """Call Optuna's study NAME, whose told trials are immutable, NAME@1, @2, ...: the next projection takes the name."""
    names = optuna_names(connection, study)
    if study in names:
        taken = [int(number) for name in names if (number := name.removeprefix(f"{study}@")).isdigit()]
        rename_projection(connection, study, f"{study}@{max(taken, default=0) + 1}")


def rename_projection(connection: Connection, old: str, new: str) -> None:
    """Call one of Optuna's studies otherwise; Optuna itself has no way to."""
    connection.execute(text("UPDATE studies SET study_name = :new WHERE study_name = :old"), {"new": new, "old": old})
