"""The database: schema, idempotent records, damage named in one line."""

import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import text

from depth_loss_sweep.database import storage_url
from depth_loss_sweep.errors import StorageError, StudyError, hide_password
from depth_loss_sweep.model.names import TERMS
from depth_loss_sweep.paths import Home
from depth_loss_sweep.queries import NewRun
from depth_loss_sweep.store import Store, epoch_rows
from depth_loss_sweep.tables import SCHEMA_VERSION


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "home").create()


@pytest.fixture
def store(home: Home) -> Store:
    return Store.open(home, create=True)


def record(epoch: int, rmse: float = 1.0) -> dict:
    values = {"total": 0.5, "metric_rmse": rmse, **{f"term_{term}": 0.1 for term in TERMS}}
    return {
        "epoch": epoch,
        "splits": {"train": values, "val": values},
        "weights": dict.fromkeys(TERMS, 0.25),
        "gradient_share": {},
        "learning_rate": 1e-3,
        "grad_norm_median": 1.0,
        "grad_norm_p95": 2.0,
        "grad_norm_max": float("inf"),
        "non_finite_steps": 0,
        "images_per_second": 100.0,
        "seconds": 1.0,
    }


def ask(store: Store, number: int, run: str = "r") -> None:
    trial = {"number": number, "params": {"w": 0.3}, "drawn": {}, "weights": {"ssim": 1.0}, "epochs": 5}
    trial["asked"] = "2026-01-02T03:04:05+00:00"
    store.ask_trials("s", [(trial, [NewRun(run, "i", "e", "{}", 0)])])


def test_taking_records_in_twice_changes_nothing(store: Store) -> None:
    """Records are taken in by (run, epoch, split): a worker that repeats itself does no harm."""
    ask(store, 0)
    store.add_epochs(epoch_rows("r", record(1, rmse=1.0)))
    store.add_epochs(epoch_rows("r", record(1, rmse=9.0)))
    store.add_epochs(epoch_rows("r", record(2, rmse=0.5)))
    assert store.curve("r", "metric_rmse", 5) == [1.0, 0.5]
    assert len(store.epochs("s")) == 4
    assert store.run("r")["epochs"] == 2


def test_records_of_several_runs_are_taken_in_together(store: Store) -> None:
    """A batch holds records of any runs, also of such as measure different things; each run knows how far it is."""
    ask(store, 0, "r")
    ask(store, 1, "q")
    further = record(1) | {"agreement": {"cosine_ssim_edge": 0.5}}
    store.add_epochs(
        [*epoch_rows("r", record(1, rmse=1.0)), *epoch_rows("q", further), *epoch_rows("r", record(2, rmse=0.5))]
    )
    assert store.curve("r", "metric_rmse", 5) == [1.0, 0.5]
    assert [store.run(run)["epochs"] for run in ("r", "q")] == [2, 1]
    assert {row["run"]: row["cosine_ssim_edge"] for row in store.epochs("s")} == {"r": None, "q": 0.5}


def test_a_run_is_shared_by_trials_that_ask_for_the_same(store: Store) -> None:
    """The second trial that asks for a run finds it and does not reset it."""
    ask(store, 0)
    store.update_run("r", state="finished", outcome="learnt")
    ask(store, 1)
    assert [(row["trial"], row["state"]) for row in store.runs("s")] == [(0, "finished"), (1, "finished")]


def test_infinity_is_stored_as_infinity(store: Store) -> None:
    """A diverged trial's value and a broken gradient norm come back as they were."""
    ask(store, 0)
    store.tell_trial("s", 0, state="complete", value=float("inf"))
    store.add_epochs(epoch_rows("r", record(1)))
    assert store.trials("s")[0]["value"] == float("inf")
    assert store.epochs("s")[0]["grad_norm_max"] == float("inf")


def test_a_newer_schema_is_refused_and_left_alone(home: Home, store: Store) -> None:
    """A database written by a newer version is named, not touched."""
    with store.engine.begin() as connection:
        connection.execute(text(f"UPDATE sweep_version SET version = {SCHEMA_VERSION + 1}"))
    before = home.database.read_bytes()
    with pytest.raises(StorageError, match="newer version"):
        Store.open(home)
    assert home.database.read_bytes() == before


def test_a_file_that_is_no_database_is_refused_and_left_alone(home: Home) -> None:
    """Another file of that name is named, never overwritten."""
    home.database.write_text("my diary")
    with pytest.raises(StorageError, match="not an SQLite database"):
        Store.open(home, create=True)
    assert home.database.read_text() == "my diary"


def test_a_database_opened_twice_keeps_its_log_while_others_read(home: Home) -> None:
    """What looks at the file again drops no lock of SQLite's: whoever closes the database next leaves its log in place."""
    first, second = Store.open(home, create=True), Store.open(home)
    second.save_group("first", state="running", scale="small", only="[]", overrides="{}")
    look = "import sqlite3, sys; c = sqlite3.connect(sys.argv[1]); print(*c.execute(sys.argv[2]).fetchone()); c.close()"
    command = [sys.executable, "-c", look, str(home.database), "SELECT count(*) FROM sweep_group"]
    for count in (1, 2):
        assert int(subprocess.check_output(command)) == count and Path(f"{home.database}-wal").exists()
        second.save_group("second", state="running", scale="small", only="[]", overrides="{}")
    assert len(first.groups()) == 2


def test_reading_never_creates_a_database(home: Home) -> None:
    """status and list of an empty home say so and leave it empty."""
    with pytest.raises(StorageError, match="start a study first"):
        Store.open(home)
    assert not home.database.exists()


def test_an_unknown_study_is_named_with_those_there_are(store: Store) -> None:
    """A wrong name is answered with the right ones."""
    with pytest.raises(StudyError, match="no study is called 'x'"):
        store.require("x")


def test_the_file_is_in_wal_mode(home: Home, store: Store) -> None:
    """Readers do not block the writer."""
    with closing(sqlite3.connect(home.database)) as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)


@pytest.mark.parametrize(
    "url",
    ["postgresql://me:s3cret@host/db", "postgresql+psycopg://me:s3cret@host:5432/db?sslmode=require", "mysql://u:s3cret@h/d",
     "postgresql://host/db?user=me&password=s3cret"],
)  # fmt: skip
def test_passwords_are_never_shown(url: str) -> None:
    """A database URL is shown without its password, wherever that stands."""
    assert "s3cret" not in hide_password(url)
    assert "host" in hide_password(url) or "@h/" in hide_password(url)


def test_storage_may_be_a_file_or_a_url(home: Home, tmp_path: Path) -> None:
    """--storage takes an SQLite file or a URL; PostgreSQL goes through psycopg."""
    assert storage_url(home, None) == f"sqlite:///{home.database}"
    assert storage_url(home, str(tmp_path / "x.db")) == f"sqlite:///{tmp_path / 'x.db'}"
    assert storage_url(home, "postgresql://h/d").startswith("postgresql+psycopg://")


def test_an_unusable_url_is_one_line(home: Home) -> None:
    """A URL of an unknown kind is refused without its password."""
    with pytest.raises(StorageError) as caught:
        Store.open(home, "nosuch://me:s3cret@h/d", create=True)
    assert "s3cret" not in str(caught.value)
    assert "\n" not in str(caught.value)
