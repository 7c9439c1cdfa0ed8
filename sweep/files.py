"""How a file is written whole and how a lock file is held: the one place for both. Imports nothing of ours, and every
folder may import it.

The kernel frees a lock when its holder dies, so what a killed process leaves is a file that nobody holds.
"""

import contextlib
import fcntl
import os
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

LOOK_S = 0.25
"""How often a lock that another process holds is tried again."""


@contextlib.contextmanager
def naming(path: Path) -> Iterator[None]:
    """An OSError in here tells of this file, not of the temporary one beside it, and never of none (as a full disk does)."""
    try:
        yield
    except OSError as error:
        if error.errno is not None:
            error.filename, error.filename2 = str(path), None
        raise


def temporary_of(path: Path) -> Path:
    """Where a file is written before it takes its place. Its name is fixed: a killed writer leaves one, and the next takes it."""
    return path.with_name(f".{path.name}.tmp")


@contextlib.contextmanager
def writing(path: Path) -> Iterator[IO[bytes]]:
    """A stream whose content becomes the file when the block ends well; until then what was there stays. Raises OSError.

    Synced and then renamed, so that a reader, or a power cut, sees the old file or the new one. Of several writers one writes
    at a time.
    """
    with naming(path), _alone(temporary_of(path)) as stream, _removed_if_it_fails(temporary_of(path)):
        yield stream
        _sync(stream)
        temporary_of(path).replace(path)


def write_whole(path: Path, content: bytes) -> None:
    """Write a whole file or nothing (see `writing`)."""
    with writing(path) as stream:
        stream.write(content)


def prepare_whole(path: Path, write: Callable[[IO[bytes]], None]) -> Path:
    """Write and sync what is to take a file's place, and leave it beside it for the caller, its folder's only writer, to rename.

    Its name is this host's: on a shared disk without locks, a writer elsewhere that was taken for lost tears nothing.
    """
    temporary = temporary_of(path.with_name(f"{path.name}.{socket.gethostname()}"))
    with naming(path), _alone(temporary) as stream, _removed_if_it_fails(temporary):
        write(stream)
        _sync(stream)
    return temporary


def _sync(stream: IO[bytes]) -> None:
    stream.flush()
    os.fsync(stream.fileno())


@contextlib.contextmanager
def _removed_if_it_fails(temporary: Path) -> Iterator[None]:
    try:
        yield
    except BaseException:
        temporary.unlink(missing_ok=True)  # on a full disk, the half of a file is what there is to free
        raise


@contextlib.contextmanager
def _alone(temporary: Path) -> Iterator[IO[bytes]]:
    """The temporary file, open and empty, for one writer at a time."""
    while True:
        with open(temporary, "r+b", opener=_make) as stream:
            with contextlib.suppress(OSError):  # a disk without locks, where two writers at once are not kept apart
                fcntl.flock(stream, fcntl.LOCK_EX)
            if is_at(stream, temporary):  # else the one before has renamed or removed it while we waited
                stream.truncate(0)
                yield stream
                return


def _make(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_CREAT, 0o666)


def is_at(stream: IO[bytes] | IO[str], path: Path) -> bool:
    """Whether the file that is open is still the one that others find under its name."""
    try:
        return os.path.samestat(os.fstat(stream.fileno()), path.stat())
    except FileNotFoundError:
        return False


def sync_folder(folder: Path) -> None:
    """Make renames in a folder durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def lock(path: Path) -> Iterator[IO[str] | None]:
    """Hold a lock file, made if needed, open to be read and written at its end; None where another process holds it."""
    with path.open("a+") as file:
        yield file if lock_at_once(file) else None


@contextlib.contextmanager
def lock_in_turn(path: Path, on_wait: Callable[[], None] | None = None) -> Iterator[None]:
    """Hold a lock file, made if needed, once it is free; calls `on_wait` again and again until then."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        if on_wait is None:
            fcntl.flock(file, fcntl.LOCK_EX)
        else:
            while not lock_at_once(file):
                on_wait()
                time.sleep(LOOK_S)
        yield


def lock_at_once(file: IO[str], shared: bool = False) -> bool:
    """Lock an open file, for one holder or shared by several; whether that could be done at once."""
    try:
        fcntl.flock(file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def is_locked(path: Path) -> bool:
    """Whether a live process of this host holds a lock file; makes none where there is none."""
    try:
        with path.open() as file:
            return not lock_at_once(file, shared=True)
    except OSError:
        return False
