"""The schema: frozen migrations, old homes, terms and metrics under any name."""

import hashlib
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest
from sqlalchemy import create_engine, func, insert, inspect, select, text

from depth_loss_sweep.database import Database
from depth_loss_sweep.paths import Home
from depth_loss_sweep.store import Store, epoch_rows
from depth_loss_sweep.tables import METADATA, MIGRATIONS, SCHEMA_VERSION, TRIAL_RUN

ROOT = Path(__file__).parent.parent.parent

FROZEN = (
    "4bbffda78b67feb4",
    "d132bde256548b19",
    "26191ca1e27e6f1b",
    "da2a0a5f0e5202ee",
    "ad6f4d937c48abb7",
    "013adc55f6cae867",
)


def definitions(database: Database) -> str:
    """All of our tables and their indices as the database itself says they are."""
    found = inspect(database.engine)
    lines = []
    for table in found.get_table_names():
        keys = found.get_pk_constraint(table)["constrained_columns"]
        if table.startswith("sweep_"):
            lines += [
                f"{table}.{c['name']} {c['type']} {c['nullable']} {c['name'] in keys}" for c in found.get_columns(table)
            ]
            lines += [f"{table} has {i['name']} on {i['column_names']}" for i in found.get_indexes(table)]
    return "\n".join(sorted(lines))


@pytest.mark.parametrize("version", range(1, SCHEMA_VERSION + 1))
def test_a_migration_never_changes_once_it_is_out(version: int) -> None:
    """A home made by any version of the schema stays readable: what that version made is written down for good."""
    found = definitions(Database.in_memory("memory", version))
    assert hashlib.sha256(found.encode()).hexdigest()[:16] == FROZEN[version - 1], (
        "add a migration instead of changing one that is out"
    )


def test_fresh_databases_have_the_tables_that_are_asked_for() -> None:
    """All migrations together make what the code reads and writes, column by column."""
    database = Database.in_memory("memory")
    for name, table in METADATA.tables.items():
        there = {column["name"] for column in inspect(database.engine).get_columns(name)}
        assert there == set(table.columns.keys()), name


def test_every_step_leads_to_the_same_tables() -> None:
    """A database that waited at an old version and one made today end alike."""
    old = Database.in_memory("memory", 1)
    with old.engine.begin() as connection:
        for migration in MIGRATIONS[1:]:
            migration(connection)
    assert definitions(old) == definitions(Database.in_memory("memory"))


def test_a_second_migration_works_on_a_fresh_home(tmp_path: Path) -> None:
    """What a later migration adds is not there already when it comes, and opening again changes nothing."""
    home = Home(tmp_path).create()
    before = definitions(Store.open(home, create=True))
    assert definitions(Store.open(home, create=True)) == before


def test_terms_and_metrics_have_any_name(tmp_path: Path) -> None:
    """A metric or term that a home has never met gets its column with the first record, beside old rows without it."""
    store = Store.open(Home(tmp_path).create(), create=True)
    numbers = {"learning_rate": 1e-3, "grad_norm_median": 1.0, "grad_norm_p95": 1.0, "grad_norm_max": 1.0}
    numbers |= {"non_finite_steps": 0, "images_per_second": 1.0, "seconds": 1.0}

    def record(epoch: int, term: str, metric: str) -> dict:
        values = {"total": 0.5, f"term_{term}": 0.25, f"metric_{metric}": float(epoch)}
        return {"epoch": epoch, "splits": {"val": values}, "weights": {term: 1.0}, "gradient_share": {}, **numbers}

    store.add_epochs(epoch_rows("r", record(1, "l1", "rmse")))
    assert all(map(math.isnan, store.curve("r", "metric_bumps per m²", 2)))
    store.add_epochs(epoch_rows("r", record(2, "my term", "bumps per m²")))
    again = Store.open(Home(tmp_path))
    assert again.curve("r", "metric_bumps per m²", 2)[1] == 2.0
    assert math.isnan(again.curve("r", "metric_bumps per m²", 2)[0])
    assert again.curve("r", "metric_rmse", 2)[0] == 1.0


def test_two_writers_meet_a_new_metric_at_once(tmp_path: Path) -> None:
    """Both processes that bring it find its column, whoever makes it."""
    one, two = (Store.open(Home(tmp_path).create(), create=True) for _ in range(2))
    assert one.epoch_table is not two.epoch_table  # both have looked before either adds
    for store, run in ((one, "a"), (two, "b")):
        store.add_epochs([{"run": run, "epoch": 1, "split": "val", "metric_new": 3.0}])
        assert store.curve(run, "metric_new", 1) == [3.0]


def test_an_old_home_that_cannot_be_written_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A home of an older version on a read-only disk is read from a copy in memory, and stays as it is."""
    path = tmp_path / "sweep.db"
    engine = create_engine(f"sqlite:///{path}")
    with engine.begin() as connection:
        MIGRATIONS[0](connection)
        connection.execute(text("INSERT INTO sweep_version VALUES (1)"))
        connection.execute(text("INSERT INTO sweep_run (run, identity, environment, settings, state, attempts, epochs, mixed) "
                                "VALUES ('r', 'i', 'e', '{}', 'finished', 1, 2, 0)"))  # fmt: skip
    engine.dispose()
    before = path.read_bytes()
    monkeypatch.setattr(os, "access", lambda *_: False)  # as for a user without rights; root has them all
    found = Store.open(Home(tmp_path)).run("r")
    assert found["origin"] is None and found["epochs"] == 2
    assert path.read_bytes() == before


KILLED = """
import os, sys
from depth_loss_sweep import tables
from depth_loss_sweep.paths import Home
from depth_loss_sweep.store import Store
from pathlib import Path
old = tables.MIGRATIONS[1]
dies = tables.Migration(old.tables, old.columns, rows=lambda connection: os._exit(9))
import depth_loss_sweep.database
depth_loss_sweep.database.MIGRATIONS = (tables.MIGRATIONS[0], dies)
Store.open(Home(Path(sys.argv[1])), create=True)
"""


def test_a_migration_that_was_killed_happens_again_as_a_whole(tmp_path: Path) -> None:
    """Killed between the tables and the version's number, the next command finds the database as it was."""
    home = Home(tmp_path).create()
    killed = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path)])
    assert killed.returncode == 9
    assert Store.open(home, create=True).version == SCHEMA_VERSION


def test_a_snapshot_does_not_see_what_comes_later(tmp_path: Path) -> None:
    """What is read together belongs together, whoever writes meanwhile."""
    reader, writer = (Store.open(Home(tmp_path).create(), create=True) for _ in range(2))
    count = select(func.count()).select_from(TRIAL_RUN)
    with reader.snapshot() as connection:
        before = connection.scalar(count)
        with writer.begin() as other:
            other.execute(insert(TRIAL_RUN).values(study="s", trial=0, seed=0, run="r"))
        assert connection.scalar(count) == before == 0
    assert reader.rows(count)[0]["count_1"] == 1
