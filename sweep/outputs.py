"""Where a command may write: no output destroys what this program did not make, or what the command reads.

One rule for every command, asked before any work is done. A file that is not there yet is written. One that this program
made, of the kind that is to be written, is replaced, so that a command can be given again. Any other is kept unless
--force is given; and what the command reads is kept even then.
"""

import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from depth_loss_sweep.errors import OutputError
from depth_loss_sweep.paths import expanded

LONGEST_NAME = 240
"""Bytes of a file's name: file systems take 255, and the file is written under a longer name first."""


def file_at(given: str, usual: str) -> Path:
    """The file to write: the path given or, where that is a folder, under its usual name in there."""
    path = _path(given)
    return path / usual if path.is_dir() or given.endswith(os.sep) else path


def folder_at(given: str) -> Path:
    """The folder to write into."""
    path = _path(given)
    if os.path.lexists(path) and not path.is_dir():
        raise OutputError(f"the output {path} is a file, expected a folder; choose another")
    return path


def check_outputs(
    paths: Iterable[Path],
    made_by_us: Callable[[Path], bool],
    inputs: Iterable[Path] = (),
    force: bool = False,
) -> None:
    """Raise `OutputError` where one of the files cannot be written, or must not be.

    `made_by_us` tells an earlier output of the same kind. `inputs` are never overwritten; of a folder among them, nothing
    that it holds is, but for our own earlier outputs.
    """
    read = [path.resolve() for path in inputs if path.exists()]
    numbers, folders = {_number(path) for path in read}, [path for path in read if path.is_dir()]
    for path in paths:
        _check_place(path)
        if os.path.lexists(path):
            _check_replaceable(path, made_by_us, numbers, folders, force)


def _check_replaceable(
    path: Path, made_by_us: Callable[[Path], bool], numbers: set[tuple[int, int]], folders: Sequence[Path], force: bool
) -> None:
    if not path.is_file():
        raise OutputError(f"the output {path} is {'a folder' if path.is_dir() else 'no file'}; choose another")
    if _number(path) in numbers:
        raise OutputError(f"the output {path} is a file that the command reads; choose another")
    if made_by_us(path):
        return
    if any(path.resolve().is_relative_to(folder) for folder in folders):
        raise OutputError(f"the output {path} belongs to what the command reads, and is kept; choose another")
    if not force:
        raise OutputError(
            f"the output {path} is there, and is none that this command made; choose another, or replace it with --force"
        )


def _check_place(path: Path) -> None:
    """Refuse a file whose folder cannot be made or written."""
    if len(os.fsencode(path.name)) > LONGEST_NAME:
        raise OutputError(f"the output {path} has too long a name (at most {LONGEST_NAME} bytes); choose another")
    place = next(parent for parent in path.absolute().parents if os.path.lexists(parent))
    if not place.is_dir():
        raise OutputError(f"the output {path} cannot be written: {place} is no folder; choose another")
    if not os.access(place, os.W_OK | os.X_OK):
        raise OutputError(f"the output {path} cannot be written: the folder {place} is read-only; choose another")


def _path(given: str) -> Path:
    if not given:
        raise OutputError("the output's path is empty; name a file or a folder")
    return expanded(given)


def _number(path: Path) -> tuple[int, int]:
    """By which a file is known, whatever it is called."""
    status = path.stat()
    return status.st_dev, status.st_ino
