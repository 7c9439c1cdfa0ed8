"""One coordinator a study: locks, leases, fencing."""

import multiprocessing
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import pytest
from sqlalchemy import delete, insert, select, update

from depth_loss_sweep import lease as leases
from depth_loss_sweep.errors import LeaseLostError, StudyHeldError
from depth_loss_sweep.lease import GRACE_S, RENEW_S, Lease, holder
from depth_loss_sweep.paths import Home
from depth_loss_sweep.store import Store
from depth_loss_sweep.tables import LEASE, STUDY

HOLD = """
import sys
from pathlib import Path
from depth_loss_sweep.lease import Lease
from depth_loss_sweep.paths import Home
from depth_loss_sweep.store import Store
home = Home(Path(sys.argv[1]))
lease = Lease.take(Store.open(home, create=True), "s", home.lock("s"))
print("held", flush=True)
sys.stdin.read()
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
    with _holding(home) as process:
        yield process


@contextmanager
def _holding(home: Home):
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen([sys.executable, "-c", HOLD, str(home.root)], **pipes) as process:
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def test_a_second_coordinator_is_refused_naming_the_first(home: Home, store: Store, other: subprocess.Popen) -> None:
    """Host and pid of the holder are in the message."""
    with pytest.raises(StudyHeldError, match=f"pid {other.pid} on "):
        Lease.take(store, "s", home.lock("s"))
    assert f"pid {other.pid}" in holder(store, "s", home.lock("s"))


def test_a_stopped_holder_is_not_displaced_and_a_killed_one_is_at_once(home: Home, store: Store, other) -> None:
    """SIGSTOP keeps the lease; SIGKILL frees it without any waiting."""
    os.kill(other.pid, signal.SIGSTOP)
    with pytest.raises(StudyHeldError):
        Lease.take(store, "s", home.lock("s"))
    other.kill()
    other.wait()
    assert holder(store, "s", home.lock("s")) is None
    lease = Lease.take(store, "s", home.lock("s"))
    assert lease.token == 2
    lease.release()


def test_a_coordinator_that_slept_through_a_takeover_writes_nothing(home: Home, store: Store) -> None:
    """Every commit checks the token inside its transaction."""
    lease = Lease.take(store, "s", home.lock("s"))
    thief = Store.open(home)
    with thief.begin() as connection:
        connection.execute(update(LEASE).values(token=LEASE.c.token + 1, host="elsewhere", place="elsewhere"))
    row = dict.fromkeys([c.name for c in STUDY.columns if c.name != "updated"], "x")
    with pytest.raises(LeaseLostError, match="taken over"):
        store.save_study(row)
    assert thief.studies() == []
    lease.release()
    assert thief.rows(select(LEASE))[0]["token"] == 2


def leave_lease(store: Store, **columns: object) -> None:
    """The only lease, as another coordinator leaves it."""
    row = {"study": "s", "token": 1, "host": "elsewhere", "pid": 7, "place": "elsewhere", **columns}
    with store.begin() as connection:
        connection.execute(delete(LEASE))
        connection.execute(insert(LEASE).values(**row))


def never(why: str) -> None:
    """There is nothing to wait for."""
    pytest.fail(f"waited: {why}")


def test_a_holder_on_another_host_that_was_seen_lately_is_not_displaced(home: Home, store: Store) -> None:
    """It is named at once, without waiting for its next sign of life."""
    for age in (0, GRACE_S / 2, -GRACE_S / 2):
        leave_lease(store, renewed=time.time() - age)
        with pytest.raises(StudyHeldError, match="on elsewhere"):
            Lease.take(store, "s", home.lock("s"), never)


@pytest.mark.parametrize("ahead", [-3600, -2 * GRACE_S, 2 * GRACE_S, 30 * 86400])
def test_whatever_the_clocks_say_a_live_holder_elsewhere_is_not_displaced(
    home: Home, store: Store, ahead: float
) -> None:
    """One whose clock is wrong is watched, and refused with its next renewal."""
    leave_lease(store, renewed=time.time() + ahead)

    def renew(why: str) -> None:
        with store.begin() as connection:
            connection.execute(update(LEASE).values(renewed=LEASE.c.renewed + RENEW_S))

    with pytest.raises(StudyHeldError, match="on elsewhere"):
        Lease.take(store, "s", home.lock("s"), renew)
    assert store.rows(select(LEASE))[0]["token"] == 1


@pytest.mark.parametrize("ahead", [-3600, 30 * 86400])
def test_a_holder_elsewhere_that_falls_silent_is_taken_over(
    home: Home, store: Store, ahead: float, monkeypatch
) -> None:
    """After the grace time by our own clock, whatever its own clock said; it is told how long that is."""
    monkeypatch.setattr(leases, "GRACE_S", 0.2)
    leave_lease(store, renewed=time.time() + ahead)
    said: set[str] = set()
    lease = Lease.take(store, "s", home.lock("s"), said.add)
    assert lease.token == 2 and abs(time.time() - store.rows(select(LEASE))[0]["renewed"]) < 3600
    assert len(said) == 1 and "pid 7 on elsewhere" in min(said)
    lease.release()


@pytest.mark.parametrize("fields", [3, 4])
def test_a_lease_of_an_earlier_boot_is_taken_over_at_once(home: Home, store: Store, fields: int) -> None:
    """Power was lost, and the clock came up wrong: nothing of that boot is at work. Earlier versions kept three fields."""
    Lease.take(store, "s", home.lock("s")).release()
    _, _, inode, machine = store.rows(select(LEASE))[0]["place"].split(":")
    place = ":".join(["an earlier boot", "1", inode, machine][:fields])
    for age in (1, -30 * 86400):
        leave_lease(store, host=socket.gethostname(), place=place, renewed=time.time() - age)
        assert holder(store, "s", home.lock("s")) is None
        Lease.take(store, "s", home.lock("s"), never).release()


def test_another_host_is_no_earlier_boot_of_this_one(home: Home, store: Store) -> None:
    """Neither by its name, nor by a copied machine's id, nor by a file of the same number alone."""
    Lease.take(store, "s", home.lock("s")).release()
    here = socket.gethostname()
    _, device, inode, machine = store.rows(select(LEASE))[0]["place"].split(":")
    for host, *place in (
        ("elsewhere", device, inode, machine),
        (here, device, inode, "another machine"),
        (here, device, "7", machine),
    ):
        leave_lease(store, host=host, place=":".join(["another boot", *place]), renewed=time.time())
        with pytest.raises(StudyHeldError, match=f"on {host}"):
            Lease.take(store, "s", home.lock("s"), never)


def test_a_lease_that_came_to_nothing_leaves_nothing(home: Home, store: Store) -> None:
    """No lease, no lock file, no folder; what else lies in the folder stays, and so does the token of a study."""
    Lease.take(store, "s", home.lock("s")).release(forget=True)
    assert store.rows(select(LEASE)) == [] and not home.study("s").exists()
    Lease.take(store, "s", home.lock("s")).release()
    home.report("s").touch()
    Lease.take(store, "s", home.lock("s")).release(forget=True)
    assert store.rows(select(LEASE))[0]["token"] == 2 and list(home.study("s").iterdir()) == [home.report("s")]


def _race(root: Path, all_there, all_answered, results) -> None:
    home = Home(root)
    store = Store.open(home)
    all_there.wait()
    try:
        lease = Lease.take(store, "s", home.lock("s"))
    except StudyHeldError:
        results.put("refused")
        all_answered.wait()
        return
    results.put("held")
    all_answered.wait()  # the slower one may try for the first time only now
    lease.release()


@pytest.mark.slow
def test_of_two_racing_coordinators_exactly_one_wins(home: Home, store: Store) -> None:
    """However close the two start, fifty times, one holds the study and the other is refused."""
    context = multiprocessing.get_context("fork")
    for _ in range(50):
        results, *barriers = context.Queue(), context.Barrier(2), context.Barrier(2)
        racers = [context.Process(target=_race, args=(home.root, *barriers, results)) for _ in range(2)]
        for racer in racers:
            racer.start()
        assert sorted(results.get() for _ in racers) == ["held", "refused"]
        for racer in racers:
            racer.join()


def test_a_lock_file_of_the_same_path_elsewhere_is_another(home: Home, store: Store, other: subprocess.Popen) -> None:
    """Two containers of one machine see one path, but not one file: a live holder there is not displaced at once."""
    lock = home.lock("s")
    lock.rename(lock.with_name("theirs"))
    with pytest.raises(StudyHeldError, match=f"pid {other.pid} on "):
        Lease.take(store, "s", lock)


def test_a_home_that_was_moved_is_taken_over_at_once(tmp_path: Path) -> None:
    """The lock file is known by itself, not by its path: a dead holder's study goes on under the new path."""
    old = Home(tmp_path / "old").create()
    with _holding(old):
        pass
    old.root.rename(tmp_path / "new")
    new = Home(tmp_path / "new")
    store = Store.open(new)
    assert holder(store, "s", new.lock("s")) is None
    Lease.take(store, "s", new.lock("s")).release()


def test_a_look_at_a_study_never_refuses_its_start(home: Home, store: Store) -> None:
    """`sweep status` locks the file for an instant; a start at that instant waits for it."""
    stop = threading.Event()

    def look() -> None:
        while not stop.is_set():
            holder(store, "s", home.lock("s"))

    Lease.take(store, "s", home.lock("s")).release()
    thread = threading.Thread(target=look)
    thread.start()
    try:
        for _ in range(100):
            Lease.take(store, "s", home.lock("s")).release()
    finally:
        stop.set()
        thread.join()
