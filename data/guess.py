"""What lies at a path whose source does not fit: which source to use instead."""

import contextlib
import re
from collections.abc import Iterator, Sequence
from itertools import islice
from os.path import commonpath
from pathlib import Path, PurePosixPath

from depth_loss_sweep.data.errors import DataError
from depth_loss_sweep.data.registry import DEPTHS, PICTURES, SOURCES, ending
from depth_loss_sweep.data.sources import list_files

PICTURE = re.compile(f"(?i)[^/]{ending(PICTURES)}")
DEPTH = re.compile(f"(?i)[^/]{ending(DEPTHS)}")
PICTURES_END, DEPTH_END = re.compile(f"(?i){ending(PICTURES)}"), re.compile(f"(?i)_depth{ending(DEPTHS)}")


@contextlib.contextmanager
def suggesting(source: str, at: type[DataError] = DataError) -> Iterator[None]:
    """Such an error in here goes on to say which source to use, where the path looks like that of another."""
    try:
        yield
    except at as error:
        if hint := suggestion(source):
            raise DataError(f"{error}; {hint}") from None
        raise


def suggestion(source: str) -> str | None:
    """What lies at a source's path, and how it is opened; None where it is what its name says, or nothing that is known.

    A path without a source's name before it is looked at, too.
    """
    kind, _, given = source.partition(":")
    path = given if kind in SOURCES or (given and "/" not in kind) else source
    if not path:
        return None
    place = Path(path).expanduser() if path.startswith("~/") else Path(path)
    files = _files_at(place)
    patterns = _patterns(files)
    for name, entry in SOURCES.items():
        found = [next((file for file in files if re.search(trace, file)), None) for trace in entry.traces]
        if not found or None in found or (name == "list" and not _is_list(place, str(found[0]))):
            continue
        if (name == "pairs" and not _is_beside(files)) or (
            name == "h5" and patterns
        ):  # the trace is of depth elsewhere
            continue
        takes_file = entry.path == "file" or name == "list"
        if name == kind and (not takes_file or place.is_file()):
            return None
        opened = place / str(found[0]) if takes_file and place.is_dir() else place
        return f"this looks like {entry.title}: use {name}:{opened}"
    if patterns:
        given = " ".join(
            f"--set 'data.{key}={pattern}'" for key, pattern in zip(("rgb_files", "depth_files"), patterns, strict=True)
        )
        return f"this looks like pictures and depth by two names: use list:{place} {given}"
    return None


def _files_at(place: Path) -> Sequence[str]:
    """The files at a path, by their paths below it."""
    try:
        if place.is_dir():
            return [path.relative_to(place).as_posix() for path in list_files(place).files]
        return [place.name] if place.is_file() else []
    except (OSError, ValueError):
        return []


def _is_list(place: Path, name: str) -> bool:
    """Whether the first lines of a text file name pictures, and depth beside each."""
    try:
        with (place / name if place.is_dir() else place).open(encoding="utf-8") as file:
            lines = [line for line in islice(file, 10) if line.strip()]
    except (OSError, ValueError):
        return False
    words = [
        [word for word in re.split(r"[,\s]+", line) if DEPTH.search(word) or PICTURE.search(word)] for line in lines
    ]
    return any(len(found) > 1 for found in words)


def _is_beside(files: Sequence[str]) -> bool:
    """Whether depth lies beside a picture that is called as it is."""
    pictures = {PICTURES_END.sub("", file) for file in files if PICTURE.search(file)}
    return any(DEPTH_END.sub("", file) in pictures for file in files if DEPTH_END.search(file))


def _patterns(files: Sequence[str]) -> tuple[str, str] | None:
    """How pictures and depth are called, where they agree in a number, and what is depth is called so."""
    depths = [file for file in files if DEPTH.search(file) and "depth" in file.lower()]
    pictures = [file for file in files if PICTURE.search(file) and "depth" not in file.lower()]
    for depth in depths[:1]:
        numbers = re.findall(r"\d+", PurePosixPath(depth).stem)
        for picture in pictures:
            if numbers and numbers[-1] in re.findall(r"\d+", PurePosixPath(picture).stem)[-1:]:
                folder = commonpath([picture, depth])
                return _pattern(picture, folder, numbers[-1]), _pattern(depth, folder, numbers[-1])
    return None


def _pattern(file: str, folder: str, number: str) -> str:
    """A file's path with its number as {name}, in a folder as {scene}."""
    head, _, tail = file[len(folder) :].lstrip("/").rpartition(number)
    return f"{'{scene}/' if folder else ''}{head}{{name}}{tail}"
