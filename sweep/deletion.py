"""`sweep delete`: a study's rows, its projections in Optuna and its files; never a run that another study shares.

The rows go first, in one transaction. Which run folders are to follow is written down before: killed in between, the same
command finishes the work.
"""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

from depth_loss_sweep.files import write_whole
from depth_loss_sweep.lease import Lease
from depth_loss_sweep.model.checkpoint import lock_folder
from depth_loss_sweep.model.errors import RunLockedError
from depth_loss_sweep.paths import CONFIRMED, Home
from depth_loss_sweep.projection import forget
from depth_loss_sweep.store import Store


@dataclass(frozen=True)
class Extent:
    """What a study consists of: how much would be deleted, and how many runs stay since other studies share them.

    Its trials are its own; runs are those that confirm it, too.
    """

    trials: int
    runs: tuple[str, ...]
    shared: tuple[str, ...]
    bytes: int


def extent(store: Store, home: Home, name: str) -> Extent:
    """What deleting a study would take away; `StudyError` where there is none of that name."""
    if not _list(home, name).exists():
        store.require(name)
    of_it = (name, name + CONFIRMED) if _is_confirmed(store, home, name) else (name,)
    own, shared = store.own_runs(*of_it)
    runs = tuple({*own, *(run for each in of_it for run in _unfinished(home, each))})
    folders = [*map(home.study, of_it), *(home.run(run) for run in runs)]
    return Extent(len(store.trials(name)), runs, tuple(shared), sum(map(_size, folders)))


def _is_confirmed(store: Store, home: Home, name: str) -> bool:
    """Whether there is a study that confirms this one, or files that its deletion has left."""
    if name.endswith(CONFIRMED):
        return False
    return store.confirming(name) is not None or _list(home, name + CONFIRMED).exists()


def delete_study(store: Store, home: Home, name: str) -> Extent:
    """Delete a study, its runs that no other study shares, and their files. `StudyHeldError` while it is worked on."""
    whole = extent(store, home, name)  # refuses a name that is none before a lock is made for it
    if _is_confirmed(store, home, name):
        delete_study(store, home, name + CONFIRMED)
    lease, is_gone = Lease.take(store, name, home.lock(name)), False
    try:
        gone = extent(store, home, name)
        write_whole(_list(home, name), json.dumps(gone.runs + gone.shared).encode())
        forget(store, name)
        store.delete_study(name)
        for run in gone.runs + gone.shared:  # shared by a study that is deleted at the same time, it is nobody's now
            _remove(store, home, run)
        for path in (home.report(name), _list(home, name)):  # whatever else lies there is not ours
            path.unlink(missing_ok=True)
        is_gone = True
    finally:
        lease.release(forget=is_gone)
    return whole


def _list(home: Home, name: str) -> Path:
    return home.study(name) / "deleting.json"


def _unfinished(home: Home, name: str) -> list[str]:
    """The runs whose folders a deletion that was killed has left."""
    try:
        return [str(run) for run in json.loads(_list(home, name).read_bytes())]
    except (OSError, ValueError, TypeError):
        return []


def _remove(store: Store, home: Home, run: str) -> None:
    """Remove a run's folder, unless another study has begun the same run meanwhile."""
    folder = home.run(run)
    if not folder.is_dir():
        return
    try:
        with lock_folder(folder):
            if store.run(run) is None:
                shutil.rmtree(folder)
    except RunLockedError:
        pass  # somebody trains it: it is theirs now


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
