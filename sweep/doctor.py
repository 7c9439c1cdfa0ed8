"""`sweep doctor`: is a home folder sound? Looks at everything, changes nothing unless asked to repair."""

import contextlib
import platform
import re
import shutil
import socket
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

from sqlalchemy import delete, select, update

from depth_loss_sweep import __version__
from depth_loss_sweep.cores import usable_cores
from depth_loss_sweep.data.errors import DataError
from depth_loss_sweep.errors import SpecError, StorageError, SweepError
from depth_loss_sweep.files import is_locked
from depth_loss_sweep.files import lock as held
from depth_loss_sweep.lease import GRACE_S, as_seen, holder, watch
from depth_loss_sweep.paths import Home, parent_name
from depth_loss_sweep.retention import folder_of, kept, out_of_reach
from depth_loss_sweep.store import Store
from depth_loss_sweep.tables import GROUP, LEASE, RUN, STUDY, TRIAL_RUN
from depth_loss_sweep.words import counted

LOW_DISK_BYTES = 1 << 30
MOST = 5
"""So many findings of one kind are told one by one."""

OLD_S = 3600.0
"""A temporary file that no lock speaks for is left over once it is so old."""

CACHE = re.compile(r"[0-9a-f]{32}-\d+x\d+(-any)?-v\d+")
KEPT = "the numbers are kept in the database; put a copy in its place, or train the same spec in another --home"

Level = Literal["ok", "note", "warning", "broken", "mended"]


@dataclass(frozen=True)
class Finding:
    """One line of the examination."""

    level: Level
    text: str


def examine(home: Home, storage: str | None, repair: bool) -> Iterator[Finding]:
    """Everything worth knowing about a home folder, as it is found. No damage keeps the rest from being looked at."""
    names = ("torch", "optuna", "sqlalchemy", "numpy")
    packages = ", ".join(["python " + platform.python_version(), *(f"{name} {version(name)}" for name in names)])
    yield Finding("ok", f"versions: sweep {__version__}, {packages}")
    yield Finding("ok", f"cores: {usable_cores().workers()} by default on the CPU")
    yield from _disk(home)
    store = None
    try:
        store = Store.open(home, storage)
    except StorageError as error:
        yield Finding("broken", str(error))
    examination = _Examination(home, store, shared=storage is not None, repair=repair)
    for section in (_integrity, _studies, _leases, _runs, _orphans, _study_folders) if store else ():
        yield from _shortened(_guarded(section, examination))
    for section in (_caches, _leftovers):
        yield from _shortened(_guarded(section, examination))


@dataclass(frozen=True)
class _Examination:
    """What is examined, and how."""

    home: Home
    store: Store | None
    shared: bool
    """Whether the database may hold runs of other homes, too."""
    repair: bool

    def rows(self, query: Any) -> list[dict[str, Any]]:
        """The rows of a query; for the sections that are only asked where there is a database."""
        assert self.store is not None
        return self.store.rows(query)

    def holder(self, study: str) -> str | None:
        """Who is at work on a study; nobody where its name could not be a study's."""
        assert self.store is not None
        try:
            return holder(self.store, study, self.home.lock(study))
        except SpecError:
            return None

    def obstacle(self) -> str | None:
        """Why nothing may be removed now that a study at work could need."""
        if self.store is None:
            return "not while the database cannot be read"
        here = [path.parent.name for path in self.home.root.glob("studies/*/lock") if is_locked(path)]
        there = [row["study"] for row in self.rows(select(LEASE.c.study)) if self.holder(row["study"])]
        return f"not while {sorted([*here, *there])[0]} is running" if here or there else None

    def short(self, path: Path) -> str:
        """A path as it is called inside the home folder."""
        return str(path.relative_to(self.home.root))


def _guarded(section: Callable[[_Examination], Iterable[Finding]], examination: _Examination) -> Iterator[Finding]:
    try:
        yield from section(examination)
    except (SweepError, OSError) as error:
        yield Finding("broken", str(error))


def _shortened(findings: Iterable[Finding]) -> Iterator[Finding]:
    """The first few of each level, and how many more there are."""
    counts: Counter[Level] = Counter()
    for finding in findings:
        counts[finding.level] += 1
        if counts[finding.level] <= MOST:
            yield finding
    yield from (
        Finding(level, f"... and {count - MOST} more like these") for level, count in counts.items() if count > MOST
    )


def _disk(home: Home) -> Iterator[Finding]:
    if not home.root.is_dir():
        yield Finding("broken", f"the home folder {home.root} does not exist")
        return
    free = shutil.disk_usage(home.root).free
    yield Finding("ok" if free > LOW_DISK_BYTES else "warning", f"home: {home.root}, {free / 2**30:.1f} GiB free")


# The database


def _integrity(examination: _Examination) -> Iterator[Finding]:
    assert examination.store is not None
    verdict = " ".join(examination.store.integrity().split())
    yield Finding("ok", "database: sound") if verdict == "ok" else Finding("broken", f"database: {verdict[:200]}")


def _studies(examination: _Examination) -> Iterator[Finding]:
    for row in examination.rows(select(STUDY.c.name, STUDY.c.state)):
        name, who = row["name"], examination.holder(row["name"])
        if who:
            yield Finding("ok", f"study {name}: running ({who})")
        elif row["state"] != "finished":
            yield Finding("note", f"study {name}: not finished; go on with: sweep resume {parent_name(name)}")
        else:
            yield Finding("ok", f"study {name}: finished")


def _leases(examination: _Examination) -> Iterator[Finding]:
    """Leases that nobody holds, or that no study has. A study gets its row once its pictures are prepared."""
    known = _study_names(examination)
    yield from _leases_of_the_future(examination)
    for row in examination.rows(select(LEASE)):
        study, who, age = row["study"], examination.holder(row["study"]), time.time() - row["renewed"]
        if who and age < -GRACE_S:
            continue  # told already
        if who and study not in known:
            yield Finding("ok", f"study {study}: being begun ({who})")
        elif not who and study not in known:
            if (
                row["renewed"] > 0 or examination.repair
            ):  # given back, it only keeps the count of a study that was deleted
                yield _lease_of_none(examination, row)
        elif not who and row["renewed"] > 0:
            yield Finding(
                "note",
                f"lease of study {study}: not given back by pid {row['pid']} on {row['host']}, silent for {age:.0f} s; "
                f"who starts or resumes the study takes it over",
            )


def _leases_of_the_future(examination: _Examination) -> Iterator[Finding]:
    """Leases that a wrong clock renewed; on repair those that nobody renews any more are given back."""
    assert examination.store is not None
    rows = [
        row
        for row in examination.rows(select(LEASE))
        if time.time() - row["renewed"] < -GRACE_S and examination.holder(row["study"])
    ]
    for row in rows:
        yield Finding(
            "warning",
            f"lease of study {row['study']}: renewed {row['renewed'] - time.time():.0f} s in the future by pid {row['pid']} on "
            f"{row['host']}; set the clocks; "
            + (f"watched for {GRACE_S:.0f} s" if examination.repair else "--repair gives it back if nobody renews it"),
        )
    for lease in watch(examination.store, rows) if examination.repair else ():
        with examination.store.begin() as connection:
            connection.execute(update(LEASE).where(as_seen(lease)).values(renewed=0.0))
        yield Finding(
            "mended", f"gave back the lease of study {lease['study']}, which nobody renewed for {GRACE_S:.0f} s"
        )


def _lease_of_none(examination: _Examination, row: dict[str, Any]) -> Finding:
    assert examination.store is not None
    if not examination.repair:
        return Finding(
            "note", f"lease of {row['study']}, which is no study here and held by nobody: --repair removes it"
        )
    with examination.store.begin() as connection:
        connection.execute(delete(LEASE).where(as_seen(row)))
    return Finding("mended", f"removed the lease of {row['study']}, which is no study here")


def _study_names(examination: _Examination) -> set[str]:
    """Of studies and groups: each has a folder and a lease."""
    return {row["name"] for kind in (STUDY, GROUP) for row in examination.rows(select(kind.c.name))}


def _study_folders(examination: _Examination) -> Iterator[Finding]:
    """Never removed, since a lock file must stay what it is, and since another database may know the study."""
    folders = [path for path in sorted(examination.home.root.glob("studies/*")) if path.is_dir()]
    known = _study_names(examination)
    strange = [path for path in folders if path.name not in known and not is_locked(path / "lock")]
    if strange:
        yield Finding(
            "note",
            f"{counted(len(strange), 'folder', 'belongs', 'belong')} to no study of this database, first: {examination.short(strange[0])}; "
            f"of a start that failed, or of another database: harmless",
        )


# Runs


def _runs(examination: _Examination) -> Iterator[Finding]:
    """The files of finished runs, which nothing makes anew, and the checkpoints of unfinished ones."""
    of_a_study = RUN.c.run.in_(select(TRIAL_RUN.c.run))
    ailing: dict[tuple[Level, str], list[Path]] = {}
    count = 0
    columns = (RUN.c.run, RUN.c.state, RUN.c.host, RUN.c.home, RUN.c.origin, RUN.c.settings)
    for row in examination.rows(select(*columns).where(of_a_study).order_by(RUN.c.run)):
        try:
            folder = examination.home.run(row["run"])
        except StorageError as error:
            yield Finding("broken", str(error))
            continue
        count += 1
        for level, what in _ailments(examination, row, folder):
            ailing.setdefault((level, what), []).append(folder)
    if count and not ailing:
        yield Finding("ok", f"{counted(count, 'run')}, all files sound")
    for (level, what), folders in ailing.items():
        yield Finding(level, f"{counted(len(folders), 'run')} {what} (first: {examination.short(folders[0])})")


def _ailments(examination: _Examination, row: dict[str, Any], folder: Path) -> Iterator[tuple[Level, str]]:
    if row["state"] in ("waiting", "running"):
        yield from _unfinished(folder)
    elif row["state"] != "finished":
        return
    elif folder.is_dir():
        assert examination.store is not None
        yield from _finished(folder, kept(examination.store, row))
    elif row["origin"]:
        yield "note", "were copied here without their files"
    elif folder_of(examination.home, row) != folder:
        yield "note", f"lie in another home ({row['home']})"
    elif examination.shared and (row["host"] != socket.gethostname() or out_of_reach(examination.home, row)):
        yield "note", "finished on other hosts or in other homes, not in this one"
    else:
        yield "broken", f"finished, and the folder is missing: {KEPT}"


def _finished(folder: Path, keep: str) -> Iterator[tuple[Level, str]]:
    from depth_loss_sweep.model.checkpoint import CHECKPOINT

    state = _state_of_checkpoint(folder / CHECKPOINT)
    if state == "damaged" or (state and keep != "none"):
        yield "broken", f"finished, and the checkpoint (the model) is {state}: {KEPT}"
    if state := _state_of_result(folder):
        yield "broken", f"finished, and result.npz (a report's pictures) is {state}: {KEPT}"


def _unfinished(folder: Path) -> Iterator[tuple[Level, str]]:
    from depth_loss_sweep.model.checkpoint import CHECKPOINT, PREVIOUS

    states = [_state_of_checkpoint(folder / name) for name in (CHECKPOINT, PREVIOUS)]
    if "damaged" in states and None in states:
        yield "note", "unfinished, with one of two checkpoints damaged: resume goes on from the other"
    elif "damaged" in states:
        yield "warning", "unfinished, without a checkpoint that is whole: resume starts over"


def _state_of_checkpoint(path: Path) -> str | None:
    """None where the file is whole."""
    from depth_loss_sweep.model.checkpoint import read_checkpoint
    from depth_loss_sweep.model.errors import ModelError

    try:
        read_checkpoint(path)
    except FileNotFoundError:
        return "missing"
    except (OSError, ModelError):
        return "damaged"
    return None


def _state_of_result(folder: Path) -> str | None:
    """None where the file is whole."""
    from depth_loss_sweep.model.errors import ModelError
    from depth_loss_sweep.model.outcomes import load_result

    notes: list[str] = []
    try:
        if load_result(folder, notes.append):
            return None
    except (OSError, ModelError):
        return "damaged"
    return "damaged" if notes else "missing"


def _orphans(examination: _Examination) -> Iterator[Finding]:
    """Run folders that no study here knows: of another database, of `Objective`, or left over.

    Only those in which nothing was kept are removed on repair: the others hold somebody's training.
    """
    folders = [p for p in sorted(examination.home.root.glob("runs/??/*")) if p.is_dir() and not p.name.startswith(".")]
    known = {
        row["run"] for row in examination.rows(select(RUN.c.run))
    }  # asked last: a run has its row before its folder
    orphans = [path for path in folders if path.name not in known]
    empty = [path for path in orphans if all(p.name == "lock" or p.name.endswith(".tmp") for p in path.iterdir())]
    if len(orphans) > len(empty):
        yield Finding(
            "note",
            f"{counted(len(orphans) - len(empty), 'run folder', 'belongs', 'belong')} to no study of this database",
        )
    if empty and examination.repair:
        removed = sum(_remove(path, path / "lock") for path in empty)
        yield Finding("mended", f"removed {removed} of {counted(len(empty), 'empty run folder')} that no study knows")
    elif empty:
        yield Finding("note", f"{counted(len(empty), 'run folder')} of no study, with nothing inside: --repair")


# Pictures


def _caches(examination: _Examination) -> Iterator[Finding]:
    """Verify every cache's checksums; a damaged one is named, and removed on repair (it is built again when needed)."""
    from depth_loss_sweep.data.cache import cache_lock, verify_cache

    for folder in sorted(examination.home.cache.glob("*")):
        if not (folder / "index.json").exists() and not (folder.is_dir() and CACHE.fullmatch(folder.name)):
            continue
        try:
            verify_cache(folder)
            yield Finding("ok", f"cache {folder.name}: sound")
        except DataError as error:
            yield (
                _mend_cache(examination, folder, cache_lock(folder), str(error))
                if examination.repair
                else Finding("broken", str(error))
            )


def _mend_cache(examination: _Examination, folder: Path, lock: Path, damage: str) -> Finding:
    """Remove a damaged cache, unless a study is at work, whose next run would miss it, or a builder has just replaced it."""
    from depth_loss_sweep.data.cache import verify_cache

    if obstacle := examination.obstacle():
        return Finding("broken", f"{damage} ({obstacle})")
    with held(lock) as file:
        if file is None:
            return Finding("broken", f"{damage} (not while another process builds it)")
        with contextlib.suppress(DataError):
            verify_cache(folder)
            return Finding("ok", f"cache {folder.name}: sound, built anew just now")
        shutil.rmtree(folder)
    return Finding("mended", f"{damage} (removed; it is built anew when it is needed)")


# What killed processes leave


def _leftovers(examination: _Examination) -> Iterator[Finding]:
    """Temporary files and folders that no live process writes."""
    dead = [
        (path, lock)
        for path, lock in _temporaries(examination.home)
        if not (is_locked(lock) if lock else _is_young(path))
    ]
    if not dead:
        return
    size = sum(_size(path) for path, _ in dead) / 2**20
    what = f"{counted(len(dead), 'temporary file or folder', plural='temporary files or folders')} of killed processes ({size:.1f} MiB)"
    if examination.repair:
        removed = sum(_remove(path, lock) for path, lock in dead)
        yield Finding("mended", f"removed {removed} of {what}")
    else:
        yield Finding("note", f"{what}, first: {examination.short(dead[0][0])}: --repair removes them")


def _temporaries(home: Home) -> Iterator[tuple[Path, Path | None]]:
    """Each with the file whose flock its writer holds; None where there is no such file."""
    for path in sorted(home.cache.glob(".*.building-*")):
        yield path, path.with_name(path.name[1:].rpartition(".building-")[0] + ".lock")
    for pattern in (".*.[0-9]*", "known/.*.[0-9]*"):  # of earlier versions
        yield from ((path, None) for path in sorted(home.cache.glob(pattern)) if path.suffix[1:].isdigit())
    for path in sorted(home.root.glob("runs/??/*/.*.tmp")):
        yield path, None if path.name.startswith(".adopted.") else path.with_name("lock")
    for pattern in ("studies/*/.*.tmp", "cache/.*.tmp", "cache/known/.*.tmp"):
        yield from ((path, path) for path in sorted(home.root.glob(pattern)))
    yield from ((path, None) for path in sorted(home.root.glob("runs/??/.*.tmp")))  # of a copy


def _is_young(path: Path) -> bool:
    try:
        return time.time() - path.stat().st_mtime < OLD_S
    except FileNotFoundError:
        return True


def _size(path: Path) -> int:
    with contextlib.suppress(OSError):
        return sum(p.stat().st_size for p in path.iterdir()) if path.is_dir() else path.stat().st_size
    return 0


def _remove(path: Path, lock: Path | None) -> bool:
    """Remove a file or folder, unless a live process holds its lock; whether it was removed."""
    with held(lock) if lock else contextlib.nullcontext(path) as holding:
        if holding is None:
            return False
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
        return True
