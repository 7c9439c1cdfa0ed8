"""Who may write: one coordinator a study. On one host an flock says so, across hosts a lease row with a growing token.

The lock file names its holder. flock is freed by SIGKILL at once and kept through SIGSTOP, so a live or stopped holder
on this host is refused and named, never displaced, and a dead one never blocks. Across hosts a lease that was not
renewed for `GRACE_S` is taken over; the token grows, and every commit, ours and Optuna's, checks it inside its
transaction: a coordinator that slept through a takeover writes nothing.
"""

import fcntl
import os
import socket
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from sqlalchemy import ColumnElement, Connection, Engine, Select, event, insert, select, update
from sqlalchemy.exc import IntegrityError

from sweep.errors import LeaseLostError, StorageError, StudyHeldError
from sweep.paths import Home
from sweep.store import Store
from sweep.tables import LEASE

GRACE_S = 120.0
RENEW_S = 10.0
LOOKS, LOOK_S = 4, 0.05
_JUST_TAKEN = "the study {!r} was taken by another coordinator just now: wait for it, or try again"


@dataclass
class Claim:
    """The right to write one study, from `take` to `release`."""

    store: Store
    study: str
    token: int
    lock: IO[str]
    renewed: float

    @classmethod
    def take(cls, store: Store, study: str, lock_file: Path) -> "Claim":
        """Lock the study here and lease it in the database; `StudyHeldError` names a live holder."""
        lock = _lock(study, lock_file)
        try:
            token = _lease(store, study, _place(lock_file))
        except BaseException:
            lock.close()
            raise
        claim = cls(store, study, token, lock, time.time())
        claim.guard(store.engine)
        return claim

    def guard(self, engine: Engine) -> None:
        """Check the token inside every transaction of this engine, just before it commits."""
        event.listen(engine, "commit", self._check)

    @property
    def _token(self) -> Select[Any]:
        # A share lock holds a takeover off until our commit is through; SQLite's write lock does so by itself.
        return select(LEASE.c.token).where(LEASE.c.study == self.study).with_for_update(read=True)

    def _check(self, connection: Connection) -> None:
        if connection.scalar(self._token) != self.token:
            raise LeaseLostError(
                f"the study {self.study!r} was taken over by another coordinator; this one stops and writes nothing more"
            )

    def renew(self) -> None:
        """Say that we are alive, at most every `RENEW_S` seconds; `LeaseLostError` where the study was taken over."""
        if time.time() - self.renewed >= RENEW_S or time.time() < self.renewed:
            with self.store.begin() as connection:
                connection.execute(update(LEASE).where(self._mine()).values(renewed=time.time()))
            self.renewed = time.time()

    def _mine(self) -> ColumnElement[bool]:
        return (LEASE.c.study == self.study) & (LEASE.c.token == self.token)

    def release(self) -> None:
        """Give the study back; harmless where it was already lost."""
        if event.contains(self.store.engine, "commit", self._check):
            event.remove(self.store.engine, "commit", self._check)
        try:
            with self.store.begin() as connection:
                connection.execute(update(LEASE).where(self._mine()).values(renewed=0.0))
        finally:
            self.lock.close()


def holder(store: Store, study: str, lock_file: Path) -> str | None:
    """Who is at work on a study ("pid 12 on host"), or None; for status, changes nothing."""
    rows = store.rows(select(LEASE).where(LEASE.c.study == study))
    if not rows:
        return None
    if rows[0]["place"] == _place(lock_file):
        return f"pid {rows[0]['pid']} on {rows[0]['host']}" if is_locked(lock_file) else None
    alive = time.time() - rows[0]["renewed"] < GRACE_S
    return f"pid {rows[0]['pid']} on {rows[0]['host']}" if alive else None


def state_of(store: Store, home: Home, row: Mapping[str, Any]) -> tuple[str, str | None]:
    """running, interrupted or finished; and who is at work on it ("pid 12 on host"), if anyone."""
    worker = holder(store, row["name"], home.lock(row["name"]))
    return ("running" if worker else "interrupted" if row["state"] == "running" else row["state"]), worker


def is_locked(lock_file: Path) -> bool:
    """Whether a live process of this host holds a lock file; makes none where there is none."""
    try:
        with lock_file.open() as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def _lock(study: str, lock_file: Path) -> IO[str]:
    try:
        lock_file.parent.mkdir(parents=True, exist_ok=True)
        lock = lock_file.open("a+")
    except OSError as error:
        raise StorageError(f"the lock file {lock_file} cannot be written: {error.strerror}") from error
    if not _locked(lock):
        lock.seek(0)
        who = lock.read().strip() or "another process on this host"
        lock.close()
        raise StudyHeldError(
            f"the study {study!r} is being worked on by {who}: wait for it, or stop that process and resume"
        ) from None
    lock.truncate(0)
    lock.write(f"pid {os.getpid()} on {socket.gethostname()}")
    lock.flush()
    return lock


def _locked(lock: IO[str]) -> bool:
    """Lock a study's file; tried a few times, since `sweep status` looks by locking it for an instant."""
    for attempt in range(LOOKS):
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            if attempt < LOOKS - 1:
                time.sleep(LOOK_S)
    return False


def _place(lock_file: Path) -> str:
    """Where the lock file speaks for its holder: this boot of this machine, and this very file.

    By its inode: containers on one machine have files of one path, and a home that was moved has another path.
    """
    boot = Path("/proc/sys/kernel/random/boot_id")
    machine = boot.read_text().strip() if boot.exists() else socket.gethostname()
    try:
        found = lock_file.stat()
    except FileNotFoundError:
        return machine
    return f"{machine}:{found.st_dev}:{found.st_ino}"


def _lease(store: Store, study: str, place: str) -> int:
    """Take the lease row over, or refuse where a coordinator elsewhere renewed it within the grace time."""
    mine = {"host": socket.gethostname(), "pid": os.getpid(), "place": place, "renewed": time.time()}
    with store.begin() as connection:
        rows = store.fetched(connection.execute(select(LEASE).where(LEASE.c.study == study)))
        if not rows:
            try:
                connection.execute(insert(LEASE).values(study=study, token=1, **mine))
            except IntegrityError:
                raise StudyHeldError(_JUST_TAKEN.format(study)) from None
            return 1
        row = rows[0]
        # A clock set back makes `renewed` lie in the future; then age is unknown and the holder gets the benefit.
        age = time.time() - row["renewed"]
        if row["place"] != place and age < GRACE_S:
            raise StudyHeldError(
                f"the study {study!r} is being worked on by pid {row['pid']} on {row['host']} (seen {max(age, 0):.0f} s ago): "
                f"stop it there, or try again once it was silent for {GRACE_S:.0f} s"
            )
        token = int(row["token"]) + 1
        taken = connection.execute(
            update(LEASE).where((LEASE.c.study == study) & (LEASE.c.token == row["token"])).values(token=token, **mine)
        )
        if taken.rowcount != 1:
            raise StudyHeldError(_JUST_TAKEN.format(study))
        return token
