"""Databases that fail and come back: a session waits, does everything once, and can be stopped meanwhile."""

import os
import random
import signal
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import optuna
import pytest
from sqlalchemy import func, select, text

from depth_loss_sweep import outage as outages
from depth_loss_sweep.errors import StorageError, StudyHeldError
from depth_loss_sweep.lease import Lease, holder
from depth_loss_sweep.outage import Outage
from depth_loss_sweep.paths import Home
from depth_loss_sweep.projection import Projection
from depth_loss_sweep.queries import NewRun
from depth_loss_sweep.spec_file import load_spec
from depth_loss_sweep.store import Store
from depth_loss_sweep.tables import EPOCH
from tests.sweep.postgresql import PASSWORD, Network, Server, opened

OUTAGE_S = float(os.environ.get("SWEEP_STRESS_OUTAGE_S", "1"))
IS_STRESS = "SWEEP_STRESS_OUTAGE_S" in os.environ
CUTS, EPOCHS = (20, "300") if IS_STRESS else (2, "40")
"""`make stress` has longer outages, more cuts, and a study that lasts long enough for all of it."""


class Session:
    """A store as a session has it, its lease taken, and what the user is told."""

    def __init__(self, home: Home, storage: str | None = None, study: str = "s") -> None:
        self.notes: list[str] = []
        self.is_stopped = False
        self.store = Store.open(home, storage, create=True, outage=Outage(lambda: self.is_stopped, self.notes.append))
        self.lease = Lease.take(self.store, study, home.lock(study))

    def ask(self, run: str = "r", number: int = 0) -> None:
        """Ask for a trial with a run."""
        trial = {"number": number, "params": {}, "drawn": {}, "weights": {}, "epochs": 1, "asked": "2026-01-02"}
        self.store.ask_trials("s", [(trial, [NewRun(run, "i", "e", "{}", 0)])])

    def count(self, run: str = "r") -> None:
        """What must be done once, for every time it is done shows."""
        self.store.update_run(run, attempts=text("attempts + 1"))

    def close(self) -> None:
        """Give the study back, and let go of the database."""
        self.lease.release(forget=True)
        self.store.engine.dispose()


@pytest.fixture
def network(server: Server) -> Iterator[Network]:
    with closing(Network(server.port)) as network:
        yield network


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "home").create()


@pytest.fixture
def database(server: Server) -> str:
    return server.create()


@pytest.fixture
def session(home: Home, server: Server, network: Network, database: str) -> Iterator[Session]:
    with closing(Session(home, server.url(database, network.port))) as session:
        session.ask()
        yield session
        session.store.outage.is_given_up = True  # however the network was left


def attempts(session: Session) -> int:
    return session.store.run("r")["attempts"]


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_commit_whose_answer_is_lost_is_made_once(session: Session, network: Network, when: str) -> None:
    """It is asked back whether the server has it: it is neither lost nor done twice."""
    for done in range(1, 6):
        network.cut = when
        session.count()
        assert (attempts(session), network.cuts) == (done, done)
    assert session.notes == []  # over before it is worth a line


def test_connections_that_are_ended_and_a_crash_are_waited_for(session: Session, server: Server, database: str) -> None:
    """An administrator ends all connections, then the server crashes and restarts: the same process goes on."""
    assert server.terminate(database) >= 1
    session.count()
    server.stop()
    starter = threading.Timer(1.0, server.start)
    starter.start()
    session.count()
    starter.join()
    assert attempts(session) == 2


def test_a_silent_network_is_noticed_and_left_behind(session: Session, network: Network, monkeypatch) -> None:
    """What was begun before all was swallowed is given up, holds no locks, and is done once when the network is back."""
    monkeypatch.setattr(outages, "ANSWER_S", 1.0)
    monkeypatch.setattr(outages, "SAID_S", 0.5)
    begun = threading.Event()

    def count_slowly(connection) -> None:
        connection.execute(text("UPDATE sweep_run SET attempts = attempts + 1"))
        if not begun.is_set():
            begun.set()
            network.is_swallowing = True

            def heal() -> None:
                network.is_swallowing = False

            threading.Timer(3.0, heal).start()

    session.store.write(count_slowly)
    assert attempts(session) == 1
    assert [note.split(":")[0].split(" after")[0] for note in session.notes] == [
        "the database does not answer; waiting until it can (Ctrl-C stops)",
        "the database is back",
    ]


def test_a_stop_ends_the_wait_for_a_silent_database(session: Session, network: Network) -> None:
    """Ctrl-C is heard while a question is unanswered, and while a connection is; nothing is asked any more then."""
    network.is_swallowing = True

    def stop() -> None:
        session.is_stopped = True

    threading.Timer(0.5, stop).start()
    begun = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        session.count()
    assert time.monotonic() - begun < outages.ANSWER_S
    begun = time.monotonic()
    session.lease.release()
    assert time.monotonic() - begun < outages.ANSWER_S


def test_optuna_hears_of_a_trial_once(session: Session, network: Network, home: Home) -> None:
    """A cut while a trial is added to Optuna's study, before the commit or after it, neither loses nor doubles it."""
    spec = load_spec("demo")
    projection = Projection(session.store, spec, session.lease.guard)
    for number in range(4):
        network.cut = ("before", "after")[number % 2]
        cell = dict(spec.cells[number % len(spec.cells)])
        ours = {"number": number, "params": cell, "weights": {}, "n": 1, "asked": "2026-01-02T03:04:05+00:00"}
        projection.add({**ours, "state": "complete", "value": 1.0, "epochs": 1})
    assert [trial.number for trial in projection.study.get_trials()] == [0, 1, 2, 3]
    assert network.cuts == 4
    projection.close()


def test_hosts_of_different_clocks_displace_nobody(
    session: Session, server: Server, database: str, tmp_path: Path, monkeypatch
) -> None:
    """A lease is as old as the server's clock says: a host whose own is off by five minutes sees who is at work."""
    elsewhere = Home(tmp_path / "elsewhere").create()
    monkeypatch.setattr(time, "time", lambda real=time.time: real() + 300)
    with opened(elsewhere, server.url(database)) as store:
        assert holder(store, "s", elsewhere.lock("s")) == f"pid {os.getpid()} on {os.uname().nodename}"
        with pytest.raises(StudyHeldError, match="stop it there"):
            Lease.take(store, "s", elsewhere.lock("s"))


def test_a_command_that_only_reads_does_not_wait(home: Home, network: Network, server: Server, database: str) -> None:
    """Where no session is at work, a server that is away is an error at once."""
    with opened(home, server.url(database), create=True):
        network.close()
        with pytest.raises(StorageError, match="cannot be used"):
            Store.open(home, server.url(database, network.port))


@contextmanager
def locked(path: Path) -> Iterator[None]:
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield
        other.execute("ROLLBACK")


def test_a_locked_file_is_waited_for(home: Home, monkeypatch) -> None:
    """Where another program keeps SQLite's file locked, a line says so, and the work goes on afterwards."""
    monkeypatch.setattr(outages, "SAID_S", 0.2)
    session = Session(home)
    session.ask()
    done = threading.Thread(target=session.count)
    with locked(home.database):
        done.start()
        while not session.notes:
            time.sleep(0.05)
    done.join()
    assert attempts(session) == 1
    assert "is locked; waiting until it can (Ctrl-C stops)" in session.notes[0]
    assert session.notes[1].startswith("the database is back after")
    session.close()


def test_what_sqlite3_itself_objects_to_is_one_line(home: Home) -> None:
    """A text that is not UTF-8 comes without a code of SQLite's; it is said, and not waited for."""
    session = Session(home)
    with pytest.raises(StorageError, match="decode to UTF-8"):
        session.store.rows(text("SELECT CAST(x'ff' AS TEXT) AS name"))
    session.close()


def test_an_interrupted_wait_is_the_last(home: Home, monkeypatch) -> None:
    """Ctrl-C in Python, where nobody is asked for a stop: giving the study back does not wait again."""
    session = Session(home)
    session.ask()

    def interrupt(_seconds: float) -> None:
        raise KeyboardInterrupt

    with locked(home.database):
        with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
            patched.setattr(outages.time, "sleep", interrupt)
            session.count()
        done = threading.Thread(target=session.lease.release, daemon=True)
        done.start()
        done.join(30)
        assert not done.is_alive()
    session.store.engine.dispose()


def test_a_stop_ends_the_wait_for_a_lock(home: Home) -> None:
    """Whoever waits for a locked file can be stopped, and gives the study back without a further wait."""
    session = Session(home)
    session.ask()
    session.is_stopped = True
    with locked(home.database), pytest.raises(KeyboardInterrupt):
        session.count()
    session.close()
    assert holder(Store.open(home), "s", home.lock("s")) is None


def _troubles(server: Server, network: Network, database: str, chance: random.Random) -> Iterator[str]:
    """All that befalls a database, one after the other, each over when the next is asked for."""
    for number in range(1, CUTS + 1):
        network.cut = chance.choice(("before", "after"))
        yield f"commit {number} cut {network.cut} it is made"
    network.cut = ""
    network.sever()
    yield "all connections cut"
    server.terminate(database)
    yield "all backends terminated"
    server.stop()
    server.start()
    yield "restarted in the midst of all"
    server.stop()
    time.sleep(OUTAGE_S)
    server.start()
    yield f"away for {OUTAGE_S:g} s"
    network.is_swallowing = True
    time.sleep(OUTAGE_S)
    network.is_swallowing = False
    if OUTAGE_S < outages.ANSWER_S:
        network.sever()  # what was swallowed is lost, and this is noticed at once
    yield f"silent for {OUTAGE_S:g} s"


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_study_on_a_failing_server_equals_one_on_a_file(
    new_lab, server: Server, network: Network, database: str, capsys
) -> None:
    """One process goes through cut commits, ended connections, crashes, an outage and a silence, and ends as on a file."""
    local, remote = new_lab(), new_lab()
    spec = {"epochs": EPOCHS}
    assert local.run("start", local.spec(**spec), "--workers", "1") == 0
    environment = {**os.environ, "SWEEP_STORAGE": server.url(database, network.port)}
    process = remote.spawn("start", remote.spec(**spec), "--workers", "1", env=environment)
    with opened(remote.home, server.url(database), create=True) as watched:
        epochs, befell = select(func.count()).select_from(EPOCH), []
        remote.wait_for(lambda: watched.rows(epochs)[0]["count_1"] > 0 or process.poll() is not None)
        for trouble in _troubles(server, network, database, random.Random(0)):
            begun = time.monotonic()
            watched.engine.dispose()  # its own connection may be gone
            before = watched.rows(epochs)[0]["count_1"]
            remote.wait_for(lambda: watched.rows(epochs)[0]["count_1"] > before or process.poll() is not None)  # noqa: B023
            if process.poll() is not None:
                break
            befell.append(f"{trouble}: goes on after {time.monotonic() - begun:.1f} s")
    network.cut, network.is_swallowing = "", False
    output, errors = process.communicate()
    assert process.returncode == 0, errors
    assert network.cuts > 0
    with capsys.disabled():
        if IS_STRESS:
            print("\n" + "\n".join([*befell, f"{network.cuts} commits cut", errors]))  # noqa: T201  what make stress is for
    with opened(remote.home, server.url(database)) as store:
        assert remote.numbers("line", store) == local.numbers("line")
        assert PASSWORD not in f"{output}{errors}{store.require('line')}"
        values = [trial["value"] for trial in store.trials("line")]
    optunas = optuna.storages.RDBStorage(server.url(database))
    assert [trial.value for trial in optuna.load_study(study_name="line", storage=optunas).trials] == values
    optunas.remove_session()
    optunas.engine.dispose()


@pytest.mark.slow
def test_ctrl_c_ends_a_session_whose_database_is_silent(
    lab, server: Server, network: Network, database: str, capsys
) -> None:
    """It is not waited for: the session ends as an interrupted one, and says how to go on."""
    environment = {**os.environ, "SWEEP_STORAGE": server.url(database, network.port)}
    process = lab.spawn("start", lab.spec(epochs="5000"), "--workers", "1", env=environment)
    with opened(lab.home, server.url(database), create=True) as watched:
        epochs = select(func.count()).select_from(EPOCH)
        lab.wait_for(lambda: watched.rows(epochs)[0]["count_1"] > 0 or process.poll() is not None)
    network.is_swallowing = True
    time.sleep(OUTAGE_S)
    process.send_signal(signal.SIGINT)
    begun = time.monotonic()
    _, errors = process.communicate()
    with capsys.disabled():
        if IS_STRESS:
            print(f"\nCtrl-C in a silence of {OUTAGE_S:g} s: over after {time.monotonic() - begun:.2f} s")  # noqa: T201
    assert process.returncode == 130
    assert "the same command goes on" in errors or "go on with: sweep resume line" in errors, errors
    assert "Traceback" not in errors
