"""`sweep doctor`: is a home folder sound? Looks at everything, changes nothing unless asked to repair."""

import fcntl
import shutil
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Literal

from sqlalchemy import select

from data.errors import DataError
from sweep.claims import holder
from sweep.errors import StorageError
from sweep.paths import Home
from sweep.store import RUN, STUDY, TRIAL_RUN, Store

LOW_DISK_BYTES = 1 << 30


@dataclass(frozen=True)
class Finding:
    """One line of the examination."""

    level: Literal["ok", "note", "warning", "broken", "mended"]
    text: str


def examine(home: Home, storage: str | None, repair: bool) -> list[Finding]:
    """Everything worth knowing about a home folder, most important last."""
    packages = ", ".join(f"{name} {version(name)}" for name in ("torch", "optuna", "sqlalchemy", "numpy"))
    findings = [Finding("ok", f"versions: {packages}"), *_disk(home)]
    findings += _caches(home, repair)
    try:
        store = Store.open(home, storage)
        findings += [_integrity(store), *_studies(store, home), *_orphans(store, home, repair)]
    except StorageError as error:
        findings.append(Finding("broken", str(error)))
    return findings


def _disk(home: Home) -> list[Finding]:
    if not home.root.is_dir():
        return [Finding("broken", f"the home folder {home.root} does not exist")]
    free = shutil.disk_usage(home.root).free
    level: Literal["ok", "warning"] = "ok" if free > LOW_DISK_BYTES else "warning"
    return [Finding(level, f"home: {home.root}, {free / 2**30:.1f} GiB free")]


def _integrity(store: Store) -> Finding:
    found = store.integrity()
    return Finding("ok", "database: sound") if found == "ok" else Finding("broken", f"database: {found}")


def _studies(store: Store, home: Home) -> list[Finding]:
    findings = []
    for row in store.rows(select(STUDY.c.name, STUDY.c.state)):
        who = holder(store, row["name"], home.lock(row["name"]))
        if who:
            findings.append(Finding("ok", f"study {row['name']}: running ({who})"))
        elif row["state"] != "finished":
            findings.append(
                Finding("note", f"study {row['name']}: not finished; go on with: sweep resume {row['name']}")
            )
        else:
            findings.append(Finding("ok", f"study {row['name']}: finished"))
    return findings


def _orphans(store: Store, home: Home, repair: bool) -> list[Finding]:
    """Run folders that no study here knows: of another database, of `Objective`, or left over.

    Only those without a checkpoint are removed on repair: the others hold somebody's training.
    """
    known = {row["run"] for row in store.rows(select(TRIAL_RUN.c.run))} | {
        r["run"] for r in store.rows(select(RUN.c.run))
    }
    orphans = [path for path in sorted(home.root.glob("runs/??/*")) if path.is_dir() and path.name not in known]
    empty = [path for path in orphans if not list(path.glob("checkpoint*"))]
    findings = []
    if len(orphans) > len(empty):
        findings.append(Finding("note", f"{len(orphans) - len(empty)} run folders belong to no study of this database"))
    if empty and repair:
        findings.append(
            Finding("mended", f"removed {sum(map(_remove_unlocked, empty))} run folders without a checkpoint")
        )
    elif empty:
        findings.append(Finding("note", f"{len(empty)} run folders are left over, without a checkpoint: --repair"))
    return findings


def _remove_unlocked(folder: Path) -> bool:
    with (folder / "lock").open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        shutil.rmtree(folder)
    return True


def _caches(home: Home, repair: bool) -> list[Finding]:
    """Verify every cache's checksums; a damaged one is named, and removed on repair (it is built again when needed)."""
    from data.cache import verify_cache

    findings = []
    for folder in sorted(path.parent for path in home.cache.glob("*/index.json")):
        try:
            verify_cache(folder)
            findings.append(Finding("ok", f"cache {folder.name}: sound"))
        except DataError as error:
            if repair:
                shutil.rmtree(folder)
            findings.append(Finding("mended" if repair else "broken", str(error) + (" (removed)" if repair else "")))
    return findings
