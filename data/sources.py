"""Where pictures come from: the small interface every source has, and how one is opened by its name (`data.registry.SOURCES`).

A source is written `rooms` or, as `pairs:PATH`, with the folder or file of its pictures; its implementation is imported only
when chosen.
"""

import errno
import hashlib
import os
import stat
from collections.abc import Callable, Container, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np

from depth_loss_sweep.data.errors import DataError, reading
from depth_loss_sweep.data.registry import source_entry
from depth_loss_sweep.data.settings import DataSettings

FOLDERS = ("train", "val", "test")
OTHERWISE_CALLED = {"training": "train", "validation": "val", "valid": "val", "testing": "test"}
DIGEST_CHUNK = 1 << 20

NAMED_KINDS = 5
"""How many kinds of files that are not read are told one by one, the most frequent ones."""
NAMED = 3
"""So many of many names are said."""


@dataclass(frozen=True)
class Item:
    """One picture with depth. Keys are unique; their sorted order is the order of the dataset."""

    key: str
    scene: str
    folder: str | None = None
    """"train", "val" or "test" where the files say so."""


def part_called(name: str) -> str | None:
    """ "train", "val" or "test" by one of the names that these go by; None for any other name."""
    part = OTHERWISE_CALLED.get(name.lower(), name.lower())
    return part if part in FOLDERS else None


def file_digest(path: Path) -> str:
    """BLAKE2b of a file's bytes, as hex. Raises DataError naming a file that can't be read."""
    digest = hashlib.blake2b(digest_size=16)
    with reading(path), path.open("rb") as file:
        while chunk := file.read(DIGEST_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


class Source(Protocol):
    """What the cache and the check need to know of a source."""

    name: str
    faults: list[str]
    """What can't be looked at (unreadable folders, broken links), a line each: nothing is trained until that is mended."""
    notes: list[str]
    """What is left out knowingly, a line each."""

    def items(self) -> Sequence[Item]:
        """All pictures, sorted by key. Raises DataError if there are none."""
        ...

    def load(self, item: Item) -> tuple[np.ndarray, np.ndarray]:
        """RGB as (H, W, 3) uint8 and depth as (h, w) float32 metres, 0 = invalid, of one view. DataError names a bad file.

        Either is resized to the size that is trained on, so that the two sizes may differ.
        """
        ...

    def content(self, item: Item, digest: Callable[[Path], str] = file_digest) -> str:
        """What determines `load`'s answer, whatever the paths: digests of the files and how they are decoded."""
        ...


def open_source(settings: DataSettings) -> Source:
    """The source that `settings.source` names. Raises DataError for an unknown source or a path that leads nowhere."""
    entry, path = source_entry(settings.source), settings.source.partition(":")[2]
    make = entry.load()
    source: Source = make(_place(path, entry.path), settings) if entry.takes_path else make(settings)
    return source


def _place(path: str, expected: str) -> Path:
    """The folder or file that a path leads to."""
    place = Path(path).expanduser()
    called = "folder or file" if expected == "either" else expected
    try:
        mode = place.stat().st_mode
        kind = "folder" if stat.S_ISDIR(mode) else "file" if stat.S_ISREG(mode) else "device"
        if kind == expected or (expected == "either" and kind != "device"):
            return place
        what = f"is a {kind}, not a {called}"
    except (FileNotFoundError, NotADirectoryError):
        what = f"is a link to {place.readlink()}, which is not there" if place.is_symlink() else "does not exist"
    except (OSError, ValueError) as error:
        what = f"cannot be read ({getattr(error, 'strerror', None) or error})"
    raise DataError(f"the data {called} {place} {what}; give the {called} that holds the pictures")


@dataclass
class Listing:
    """What lies below a folder: its visible files, and what can't be looked at or is left out, a line each."""

    files: list[Path] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def note_unread(self, root: Path, read: Container[str]) -> None:
        """Note how many files there are of each kind that nothing here reads, given the suffixes that are read."""
        unread: dict[str, list[Path]] = {}
        for path in self.files:
            if path.suffix and path.suffix.lower() not in read:
                unread.setdefault(path.suffix.lower(), []).append(path)
        most_first = sorted(unread.items(), key=lambda found: (-len(found[1]), found[0]))
        self.notes += [
            f"not read: {len(paths)} {suffix} ({names_of([p.relative_to(root).as_posix() for p in paths])})"
            for suffix, paths in most_first[:NAMED_KINDS]
        ]
        if others := most_first[NAMED_KINDS:]:
            self.notes.append(f"not read: {sum(len(paths) for _, paths in others)} of {len(others)} other kinds")


def list_files(root: Path) -> Listing:
    """Looks through a folder in sorted order; linked folders are followed, each real folder once."""
    listing, seen, pending = Listing(), dict[Path, Path](), [root]
    while pending:
        folder = pending.pop()
        first = seen.setdefault(folder.resolve(), folder)
        if first is not folder:
            listing.notes.append(f"{folder} is {first} once more, by a link: its files count once")
            continue
        try:
            entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
        except OSError as error:
            listing.faults.append(
                f"the folder {folder} cannot be read ({error.strerror}); get the right, or move it away"
            )
            continue
        kinds = [(_kind_of(entry, listing), folder / entry.name) for entry in entries if not _is_systems(entry.name)]
        listing.files += [path for kind, path in kinds if kind == "file"]
        pending += [path for kind, path in reversed(kinds) if kind == "folder"]
    return listing


def _is_systems(name: str) -> bool:
    return name.startswith(".") or name == "lost+found"


def _kind_of(entry: "os.DirEntry[str]", listing: Listing) -> str | None:
    """ "file" or "folder"; of anything else the listing is told."""
    try:
        mode = entry.stat().st_mode if entry.is_symlink() else None
        if entry.is_dir() if mode is None else stat.S_ISDIR(mode):
            return "folder"
        if entry.is_file() if mode is None else stat.S_ISREG(mode):
            return "file"
        listing.faults.append(f"{entry.path} is neither a file nor a folder; move it away")
    except OSError as error:
        listing.faults.append(_broken(entry, error))
    return None


def _broken(entry: "os.DirEntry[str]", error: OSError) -> str:
    if not entry.is_symlink():
        return f"{entry.path} cannot be looked at ({error.strerror}); get the right, or move it away"
    what = "which is not there" if error.errno == errno.ENOENT else f"which cannot be followed ({error.strerror})"
    target = Path(entry.path).readlink()
    return f"{entry.path} is a link to {target}, {what}; mount the disk it leads to, or remove the link"


def refuse_faults(source: Source) -> None:
    """Raises DataError where part of a source can't be looked at: training would go on without it."""
    if source.faults:
        more = f" (and {len(source.faults) - 1} more: sweep data check)" if len(source.faults) > 1 else ""
        raise DataError(source.faults[0] + more)


def names_of(names: Sequence[str]) -> str:
    """The first few of many names."""
    return ", ".join([*names[:NAMED], *(["..."] if len(names) > NAMED else [])])
