"""`sweep delete`: the rows of a study or group, its projections in Optuna and its files; never a run that another study shares.

Of each study the rows go first, in one transaction. Which run folders, and of a group which studies, are to follow is written down
before: killed in between, the same command finishes the work.
"""

import json
import shutil
from collections.abc import Collection, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from depth_loss_sweep.errors import SlurmAwayError, StudyError, StudyHeldError
from depth_loss_sweep.executors.slurm_commands import comment_of, ending, names_of
from depth_loss_sweep.files import write_whole
from depth_loss_sweep.lease import Lease
from depth_loss_sweep.model.checkpoint import lock_folder
from depth_loss_sweep.model.errors import RunLockedError
from depth_loss_sweep.paths import COMPANIONS, SLURM, Home, parent_name
from depth_loss_sweep.projection import forget
from depth_loss_sweep.store import Store
from depth_loss_sweep.words import counted


@dataclass(frozen=True)
class Extent:
    """What a study or group consists of: how much would be deleted, and how many runs stay since other studies share them.

    Trials are its own; runs are those of the studies beside it, too.
    """

    studies: int
    trials: int
    runs: tuple[str, ...]
    shared: tuple[str, ...]
    bytes: int


def extent(store: Store, home: Home, name: str) -> Extent:
    """What deleting a study or group would take away; `StudyError` where there is none of that name."""
    if _is_group(store, home, name):
        studies = _group_studies(store, home, name)
        return _extent(store, home, studies, beside=(name,))
    if not _list(home, name).exists():
        store.require(name)
    return _extent(store, home, (name,))


def _extent(store: Store, home: Home, studies: Sequence[str], beside: Sequence[str] = ()) -> Extent:
    """Of these studies and those that stand beside them; `beside` is what asks for runs, and is no study."""
    names = [*studies, *(name for each in studies for name in _companions(store, home, each)), *beside]
    own, shared = store.own_runs(*names)
    runs = tuple({*own, *(run for each in names for run in _unfinished(home, each))})
    own_database = store.beside(home)
    folders = [*map(home.study, names), *(home.run(run) for run in runs if not _has(own_database, run))]
    trials = sum(len(store.trials(each)) for each in studies)
    return Extent(len(studies), trials, runs, tuple(shared), sum(map(_size, folders)))


def _is_group(store: Store, home: Home, name: str) -> bool:
    """Whether that is a group, or one whose deletion was killed."""
    return store.group(name) is not None or _studies_list(home, name).exists()


def _group_studies(store: Store, home: Home, name: str) -> list[str]:
    """A group's studies, those too whose deletion was killed."""
    return list(dict.fromkeys((*store.group_studies(name), *_read(_studies_list(home, name)))))


def _companions(store: Store, home: Home, name: str) -> list[str]:
    """The studies beside this one, those too of which a deletion has left files."""
    names = [name + ending for ending in COMPANIONS] if name == parent_name(name) else []
    return [each for each in names if store.study(each) or _list(home, each).exists()]


def delete_study(store: Store, home: Home, name: str) -> Extent:
    """Delete a study or group, its runs that no other study shares, and their files.

    `StudyHeldError` where any part of it is worked on: all are held before the first goes.
    """
    whole = extent(store, home, name)  # refuses a name that is none before a lock is made for it
    is_group, own_database, gone = _is_group(store, home, name), store.beside(home), set[str]()
    with ExitStack() as held:
        parts = []
        for each in _parts(store, home, name):
            held.callback(_let_go, Lease.take(store, each, home.lock(each)), gone)
            parts.append(each)
        _require_no_jobs(home, name, whole.runs)
        if is_group:
            write_whole(_studies_list(home, name), json.dumps(_group_studies(store, home, name)).encode())
        for each in reversed(parts):  # what stands beside a study before it, and a group last
            if is_group and each == name:
                _delete_group(store, home, name)
            else:
                _delete(store, own_database, home, each)
            gone.add(each)
    return whole


def _parts(store: Store, home: Home, name: str) -> Iterator[str]:
    """A study or group, then what goes with it: looked for once whoever asks has gone on, and so holds that name."""
    yield name
    find = _group_studies if _is_group(store, home, name) else _companions
    for each in find(store, home, name):
        yield from _parts(store, home, each)


def _let_go(lease: Lease, gone: Collection[str]) -> None:
    lease.release(forget=lease.study in gone)


def _delete(store: Store, own_database: Store | None, home: Home, name: str) -> None:
    """Delete a study, beside which there is none any more; what is left of it, where its deletion was killed."""
    whole = _extent(store, home, (name,))
    runs = whole.runs + whole.shared
    write_whole(_list(home, name), json.dumps(runs).encode())
    forget(store, name)
    store.delete_study(name)
    for run in runs:  # shared by a study that is deleted at the same time, it is nobody's now
        _remove(store, own_database, home, run)
    for path in (*home.pages(name), _list(home, name)):  # whatever else lies there is not ours
        path.unlink(missing_ok=True)


def _delete_group(store: Store, home: Home, name: str) -> None:
    """Delete a group that has no studies any more."""
    store.delete_study(name)  # what it asked for, which is no study's any more
    store.delete_group(name)
    for path in (*home.pages(name), _studies_list(home, name)):
        path.unlink(missing_ok=True)


def _require_no_jobs(home: Home, name: str, runs: Sequence[str]) -> None:
    """Raise `StudyHeldError` where Slurm has jobs of these runs, which go on though no session is there."""
    asked = [comment_of(home.root, run) for run in runs if (home.run(run) / SLURM).is_dir()]
    try:
        jobs = names_of(asked) if asked else []
    except SlurmAwayError as error:
        raise StudyError(f"Slurm does not say whether it has jobs of {name!r} ({error}): try again later") from None
    if jobs:
        raise StudyHeldError(
            f"Slurm has {counted(len(jobs), 'job')} of {name!r}, queued or at work: end what is there ({ending(jobs)}), and delete it then"
        )


def _studies_list(home: Home, group: str) -> Path:
    return home.study(group) / "deleting-studies.json"


def _list(home: Home, name: str) -> Path:
    return home.study(name) / "deleting.json"


def _unfinished(home: Home, name: str) -> list[str]:
    """The runs whose folders a deletion that was killed has left."""
    return _read(_list(home, name))


def _read(names: Path) -> list[str]:
    try:
        return [str(name) for name in json.loads(names.read_bytes())]
    except (OSError, ValueError, TypeError):
        return []


def _remove(store: Store, own_database: Store | None, home: Home, run: str) -> None:
    """Remove a run's folder, unless another study has begun the same run meanwhile, or has it in the home's own database."""
    folder = home.run(run)
    if not folder.is_dir():
        return
    try:
        with lock_folder(folder):
            if not _has(store, run) and not _has(own_database, run):
                shutil.rmtree(folder)
    except RunLockedError:
        pass  # somebody trains it: it is theirs now


def _has(store: Store | None, run: str) -> bool:
    return store is not None and store.run(run) is not None


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
