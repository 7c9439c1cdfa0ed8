"""One coordinator a study: locks, leases, fencing."""

import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from sqlalchemy import select, update

from sweep.claims import GRACE_S, Claim, holder
from sweep.errors import LeaseLostError, StudyHeldError
from sweep.paths import Home
from sweep.store import Store
from sweep.tables import LEASE, STUDY

HOLD = """
import sys, time
from pathlib import Path
from sweep.claims import Claim
from sweep.paths import Home
from sweep.store import Store
home = Home(Path(sys.argv[1]))
claim = Claim.take(Store.open(home, create=True), "s", home.lock("s"))
print("held", flush=True)
time.sleep(60)
"""


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path).create()


@pytest.fixture
def store(home: Home) -> Store:
    return Store.open(home, create=True)


@pytest.fixture
def other(home: Home):
    """Another process that holds the study."""
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(home.root)], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


def test_a_second_coordinator_is_refused_naming_the_first(home: Home, store: Store, other: subprocess.Popen) -> None:
    """Host and pid of the holder are in the message."""
    with pytest.raises(StudyHeldError, match=f"pid {other.pid} on "):
        Claim.take(store, "s", home.lock("s"))
    assert f"pid {other.pid}" in holder(store, "s", home.lock("s"))


def test_a_stopped_holder_is_not_displaced_and_a_killed_one_is_at_once(home: Home, store: Store, other) -> None:
    """SIGSTOP keeps the claim; SIGKILL frees it without any waiting."""
    os.kill(other.pid, signal.SIGSTOP)
    with pytest.raises(StudyHeldError):
        Claim.take(store, "s", home.lock("s"))
    other.kill()
    other.wait()
    assert holder(store, "s", home.lock("s")) is None
    claim = Claim.take(store, "s", home.lock("s"))
    assert claim.token == 2
    claim.release()


def test_a_coordinator_that_slept_through_a_takeover_writes_nothing(home: Home, store: Store) -> None:
    """Every commit checks the token inside its transaction."""
    claim = Claim.take(store, "s", home.lock("s"))
    thief = Store.open(home)
    with thief.begin() as connection:
        connection.execute(update(LEASE).values(token=LEASE.c.token + 1, host="elsewhere", place="elsewhere"))
    row = dict.fromkeys([c.name for c in STUDY.columns if c.name != "updated"], "x")
    with pytest.raises(LeaseLostError, match="taken over"):
        store.save_study(row)
    assert thief.studies() == []
    claim.release()
    assert thief.rows(select(LEASE))[0]["token"] == 2


def test_a_holder_on_another_host_is_taken_over_after_the_grace_time(home: Home, store: Store) -> None:
    """Across hosts only the lease's age counts."""
    Claim.take(store, "s", home.lock("s")).release()
    with store.begin() as connection:
        connection.execute(update(LEASE).values(host="elsewhere", place="elsewhere", renewed=time.time() - GRACE_S / 2))
    with pytest.raises(StudyHeldError, match="on elsewhere"):
        Claim.take(store, "s", home.lock("s"))
    with store.begin() as connection:
        connection.execute(update(LEASE).values(renewed=time.time() - GRACE_S - 1))
    Claim.take(store, "s", home.lock("s")).release()


def test_a_clock_set_back_does_not_displace_a_holder_elsewhere(home: Home, store: Store) -> None:
    """A renewal that lies in the future counts as fresh."""
    Claim.take(store, "s", home.lock("s")).release()
    with store.begin() as connection:
        connection.execute(update(LEASE).values(host="elsewhere", place="elsewhere", renewed=time.time() + 3600))
    with pytest.raises(StudyHeldError):
        Claim.take(store, "s", home.lock("s"))


def _race(root: Path, start: float, results) -> None:
    home = Home(root)
    store = Store.open(home)
    time.sleep(max(0.0, start - time.time()))
    try:
        claim = Claim.take(store, "s", home.lock("s"))
    except StudyHeldError:
        results.put("refused")
        return
    results.put("held")
    time.sleep(0.2)
    claim.release()


@pytest.mark.slow
def test_of_two_racing_coordinators_exactly_one_wins(home: Home, store: Store) -> None:
    """However close the two start, fifty times, one holds the study and the other is refused."""
    context = multiprocessing.get_context("fork")
    for _ in range(50):
        results = context.Queue()
        start = time.time() + 0.15
        racers = [context.Process(target=_race, args=(home.root, start, results)) for _ in range(2)]
        for racer in racers:
            racer.start()
        assert sorted(results.get(timeout=20) for _ in racers) == ["held", "refused"]
        for racer in racers:
            racer.join()


def test_a_lock_file_of_the_same_path_elsewhere_is_another(home: Home, store: Store, other: subprocess.Popen) -> None:
    """Two containers of one machine see one path, but not one file: a live holder there is not displaced at once."""
    lock = home.lock("s")
    lock.rename(lock.with_name("theirs"))
    with pytest.raises(StudyHeldError, match=f"pid {other.pid} on "):
        Claim.take(store, "s", lock)


def test_a_home_that_was_moved_is_taken_over_at_once(tmp_path: Path) -> None:
    """The lock file is known by itself, not by its path: a dead holder's study goes on under the new path."""
    old = Home(tmp_path / "old").create()
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(old.root)], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "held\n"
    process.kill()
    process.wait()
    process.stdout.close()
    old.root.rename(tmp_path / "new")
    new = Home(tmp_path / "new")
    store = Store.open(new)
    assert holder(store, "s", new.lock("s")) is None
    Claim.take(store, "s", new.lock("s")).release()


def test_a_look_at_a_study_never_refuses_its_start(home: Home, store: Store) -> None:
    """`sweep status` locks the file for an instant; a start at that instant waits for it."""
    stop = threading.Event()

    def look() -> None:
        while not stop.is_set():
            holder(store, "s", home.lock("s"))

    Claim.take(store, "s", home.lock("s")).release()
    thread = threading.Thread(target=look)
    thread.start()
    try:
        for _ in range(100):
            Claim.take(store, "s", home.lock("s")).release()
    finally:
        stop.set()
        thread.join()
