"""Who may write: one coordinator a study. On one host an flock says so, across hosts a lease row with a growing token.

The lock file names its holder. flock is freed by SIGKILL at once and kept through SIGSTOP, so a live or stopped holder
on this host is refused and named, never displaced, and a dead one never blocks. A lease of an earlier boot of this
machine is dead, too. One from elsewhere is alive if it was renewed within `GRACE_S`; where its clock says otherwise (silent
for longer, or in the future), it is watched for so long by our own clock, and taken over if nobody renews it, whatever the
clocks of the two hosts say; a server's clock is used by all. Then the token grows, and every commit, ours and Optuna's, renews
the lease inside its transaction if the token is still there: a coordinator that slept through a takeover writes nothing, and one
whose commit was cut off sees by the lease whether it was made.
"""

import contextlib
import os
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from sqlalchemy import ColumnElement, Connection, Delete, Engine, Update, case, delete, event, insert, select, update
from sqlalchemy.exc import IntegrityError

from depth_loss_sweep.database import clock, on_network_disk
from depth_loss_sweep.errors import LeaseLostError, StorageError, StudyHeldError
from depth_loss_sweep.files import is_at, is_locked, lock_at_once
from depth_loss_sweep.paths import Home
from depth_loss_sweep.store import Store
from depth_loss_sweep.tables import LEASE

GRACE_S = 120.0
RENEW_S = 10.0
LOOKS, LOOK_S = 200, 0.05
TICK = 1e-6
WATCH_S = 0.5
"""How often a lease from elsewhere is looked at while it is watched."""

_JUST_TAKEN = "the study {!r} was taken by another coordinator just now: wait for it, or try again"


@dataclass
class Lease:
    """The right to write one study, from `take` to `release`."""

    store: Store
    study: str
    token: int
    lock: IO[str]
    renewed: float
    """When it was renewed last, by our own steady clock."""
    mark: float | None = None
    """What the transaction that began last has made of the lease, if it came as far as that."""

    @classmethod
    def take(
        cls, store: Store, study: str, lock_file: Path, on_wait: Callable[[str], None] = lambda _: None
    ) -> "Lease":
        """Lock the study here and lease it in the database; `StudyHeldError` names a live holder.

        `on_wait` is called with the reason again and again while a lease from elsewhere is watched.
        """
        lock = _lock(study, lock_file)
        try:
            token = _lease(store, study, lock_file, on_wait)
        except BaseException:
            lock.close()
            raise
        lease = cls(store, study, token, lock, time.monotonic())
        lease.guard(store.engine)
        store.witness = store.witness or lease
        return lease

    def guard(self, engine: Engine) -> None:
        """Renew the lease inside every transaction of this engine, just before it commits."""
        event.listen(engine, "commit", self._check)

    def _check(self, connection: Connection) -> None:
        # The row's lock holds a takeover off until our commit is through. Each mark is another, even if the clock stands still.
        now = clock(self.store.engine)
        later = case((now > LEASE.c.renewed, now), else_=LEASE.c.renewed + TICK)
        self.mark = connection.scalar(
            update(LEASE).where(self._mine()).values(renewed=later).returning(LEASE.c.renewed)
        )
        self.renewed = time.monotonic()
        if self.mark is None:
            raise LeaseLostError(
                f"the study {self.study!r} was taken over by another coordinator; this one stops and writes nothing more"
            )

    def renew(self) -> None:
        """Say that we are alive, at most every `RENEW_S` seconds; `LeaseLostError` where the study was taken over."""
        if time.monotonic() - self.renewed >= RENEW_S:
            self.store.write(lambda _: None)

    def begin(self) -> None:
        """A transaction begins."""
        self.mark = None

    def is_committed(self) -> bool:
        """Whether the transaction that began last is in the database: then the lease is as it made it."""
        marked = select(LEASE.c.renewed).where(self._mine(), LEASE.c.renewed == self.mark)
        return self.mark is not None and bool(self.store.rows(marked))

    def _given_back(self, forget: bool) -> Delete | Update:
        if forget and self.token == 1:  # a later token would start over, and an earlier holder might have it
            return delete(LEASE).where(self._mine())
        return update(LEASE).where(self._mine()).values(renewed=0.0)

    def _mine(self) -> ColumnElement[bool]:
        return (LEASE.c.study == self.study) & (LEASE.c.token == self.token)

    def release(self, forget: bool = False) -> None:
        """Give the study back; harmless where it was already lost. With `forget`, as if it had never been taken."""
        if event.contains(self.store.engine, "commit", self._check):
            event.remove(self.store.engine, "commit", self._check)
        if self.store.witness is self:
            self.store.witness = None
        try:
            if self.store.outage and self.store.outage.is_given_up:
                return  # it is seen by the lock file that nobody is here
            self.store.write(lambda connection: connection.execute(self._given_back(forget)))
            if forget:
                _remove(Path(self.lock.name))
        finally:
            self.lock.close()


def holder(store: Store, study: str, lock_file: Path) -> str | None:
    """Who is at work on a study ("pid 12 on host"), or None; for status, changes nothing."""
    row = _row(store, study)
    if row is None or _is_over(row, lock_file):
        return None
    alive = is_locked(lock_file) if _is_of_this_file(row, lock_file) else _age(store, row) < GRACE_S
    return _who(row) if alive else None


def state_of(store: Store, home: Home, row: Mapping[str, Any]) -> tuple[str, str | None]:
    """running, interrupted or finished; and who is at work on it ("pid 12 on host"), if anyone."""
    worker = holder(store, row["name"], home.lock(row["name"]))
    return ("running" if worker else "interrupted" if row["state"] == "running" else row["state"]), worker


def watch(
    store: Store, rows: Sequence[Mapping[str, Any]], on_wait: Callable[[], None] = lambda: None
) -> list[Mapping[str, Any]]:
    """Watch leases for the grace time, by our own clock: those that nobody renewed, gave back or took meanwhile."""
    end = time.monotonic() + GRACE_S
    while rows and time.monotonic() < end:
        on_wait()
        time.sleep(WATCH_S)
        rows = [row for row in rows if _row(store, row["study"]) == row]
    return list(rows)


def as_seen(row: Mapping[str, Any]) -> ColumnElement[bool]:
    """The lease, as long as it is what it was when it was read."""
    return (LEASE.c.study == row["study"]) & (LEASE.c.token == row["token"]) & (LEASE.c.renewed == row["renewed"])


# The lock file


def _lock(study: str, lock_file: Path) -> IO[str]:
    try:
        lock = _locked(lock_file)
    except OSError as error:
        raise StorageError(f"the lock file {lock_file} cannot be written: {error.strerror}") from error
    if lock is None:
        raise StudyHeldError(
            f"{study!r} is being worked on by {_named_in(lock_file)}: wait for it, or stop that process and resume"
        )
    lock.truncate(0)
    lock.write(f"pid {os.getpid()} on {socket.gethostname()}")
    lock.flush()
    return lock


def _locked(lock_file: Path) -> IO[str] | None:
    """Lock a study's file, or None where a coordinator holds it; waits for `sweep status`, which shares it for an instant."""
    for _ in range(LOOKS):
        lock_file.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileNotFoundError):  # its folder was removed just now, by a start that was refused
            lock = lock_file.open("a+", encoding="utf-8")
            if lock_at_once(lock) and is_at(lock, lock_file):
                return lock
            is_held = not lock_at_once(lock, shared=True)
            lock.close()
            if is_held:
                return None
        time.sleep(LOOK_S)
    return None


def _named_in(lock_file: Path) -> str:
    try:
        return lock_file.read_text(encoding="utf-8", errors="replace").strip() or "another process on this host"
    except OSError:
        return "another process on this host"


def _remove(lock_file: Path) -> None:
    """Remove a lock file that we hold, and its folder if nothing else is in it."""
    lock_file.unlink(missing_ok=True)
    with contextlib.suppress(OSError):
        lock_file.parent.rmdir()


# The lease


@dataclass(frozen=True)
class _Place:
    """Where an flock speaks for a lease's holder: in this boot of this machine, on this very file.

    By its inode: containers on one machine have files of one path, and a home that was moved has another path.
    """

    boot: str
    device: str = ""
    inode: str = ""
    machine: str = ""

    @classmethod
    def here(cls, lock_file: Path) -> "_Place":
        """Of a lock file as it is now; without device and inode where there is none."""
        boot = _read("/proc/sys/kernel/random/boot_id") or socket.gethostname()
        try:
            status = lock_file.stat()
        except FileNotFoundError:
            return cls(boot, machine=_read("/etc/machine-id"))
        return cls(boot, str(status.st_dev), str(status.st_ino), _read("/etc/machine-id"))

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> "_Place":
        """Of a lease; earlier versions wrote no machine."""
        return cls(*row["place"].split(":", 3))

    def __str__(self) -> str:
        return f"{self.boot}:{self.device}:{self.inode}:{self.machine}"


def _read(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        return ""


def _is_of_this_file(row: Mapping[str, Any], lock_file: Path) -> bool:
    """Whether the lock file speaks for the lease's holder."""
    here, there = _Place.here(lock_file), _Place.of(row)
    return bool(here.inode) and (here.boot, here.device, here.inode) == (there.boot, there.device, there.inode)


def _is_over(row: Mapping[str, Any], lock_file: Path) -> bool:
    """Whether a lease was given back, or its holder ended with an earlier boot of this machine.

    Copied machines may share an id, and a lock file on a network disk is seen by all of them. A device's number may
    change from boot to boot.
    """
    if row["renewed"] == 0:
        return True
    here, there = _Place.here(lock_file), _Place.of(row)
    is_this_machine = row["host"] == socket.gethostname() and there.machine in ("", here.machine)
    is_this_disk = here.inode != "" and there.inode == here.inode and not on_network_disk(lock_file)
    return there.boot != here.boot and is_this_machine and is_this_disk


def _row(store: Store, study: str) -> dict[str, Any] | None:
    rows = store.rows(select(LEASE).where(LEASE.c.study == study))
    return rows[0] if rows else None


def _who(row: Mapping[str, Any]) -> str:
    return f"pid {row['pid']} on {row['host']}"


def _age(store: Store, row: Mapping[str, Any]) -> float:
    """Seconds since a lease was renewed; negative where one of two clocks is wrong."""
    return store.clock() - float(row["renewed"])


def _lease(store: Store, study: str, lock_file: Path, on_wait: Callable[[str], None]) -> int:
    """Take the lease over from nobody, or from a holder that is known to be dead. Called with the lock file held."""
    row = _row(store, study)
    if row is not None and not _is_over(row, lock_file) and not _is_of_this_file(row, lock_file):
        _check_silent(store, row, on_wait)
    mine = {
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "place": str(_Place.here(lock_file)),
        "renewed": clock(store.engine),
    }

    def take(connection: Connection) -> int:
        if row is None:
            try:
                connection.execute(insert(LEASE).values(study=study, token=1, **mine))
            except IntegrityError:
                raise StudyHeldError(_JUST_TAKEN.format(study)) from None
            return 1
        token = int(row["token"]) + 1
        if connection.execute(update(LEASE).where(as_seen(row)).values(token=token, **mine)).rowcount != 1:
            raise StudyHeldError(_JUST_TAKEN.format(study))
        return token

    return store.write(take)


def _check_silent(store: Store, row: Mapping[str, Any], on_wait: Callable[[str], None]) -> None:
    """Raise `StudyHeldError` for a holder elsewhere, unless nobody renews its lease for the grace time."""
    study, age = row["study"], _age(store, row)
    held = f"{study!r} is being worked on by {_who(row)}"
    if abs(age) < GRACE_S:
        raise StudyHeldError(
            f"{held} (seen {max(age, 0):.0f} s ago): stop it there, or try again once it was silent for {GRACE_S:.0f} s"
        )
    when = f"{age:.0f} s ago" if age > 0 else f"{-age:.0f} s in the future"
    why = f"the study {study!r} is leased by {_who(row)}, renewed {when}: taken over if that is silent for {GRACE_S:.0f} s"
    if not watch(store, [row], lambda: on_wait(why)):
        raise StudyHeldError(f"{held} (seen just now): stop it there, or wait for it")
