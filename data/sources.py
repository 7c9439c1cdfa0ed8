"""Where pictures come from: the small interface every source has, and the registry that opens one by its name.

A source is written `rooms`, `diode:PATH` or `pairs:PATH`; its implementation is imported only when chosen.
"""

import hashlib
import importlib
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np

from data.errors import DataError
from data.settings import DataSettings

FOLDERS = ("train", "val", "test")
DIGEST_CHUNK = 1 << 20


@dataclass(frozen=True)
class Item:
    """One picture with depth. Keys are unique; their sorted order is the order of the dataset."""

    key: str
    scene: str
    folder: str | None = None
    """"train", "val" or "test" where the files say so."""


def file_digest(path: Path) -> str:
    """BLAKE2b of a file's bytes, as hex. Raises DataError naming a file that can't be read."""
    digest = hashlib.blake2b(digest_size=16)
    try:
        with path.open("rb") as file:
            while chunk := file.read(DIGEST_CHUNK):
                digest.update(chunk)
    except FileNotFoundError:
        raise DataError(f"{path} is missing") from None
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from None
    return digest.hexdigest()


class Source(Protocol):
    """What the cache and the check need to know of a source."""

    name: str

    def items(self) -> Sequence[Item]:
        """All pictures, sorted by key. Raises DataError if there are none."""
        ...

    def load(self, item: Item) -> tuple[np.ndarray, np.ndarray]:
        """RGB as (H, W, 3) uint8 and depth as (H, W) float32 metres, 0 = invalid. DataError names a bad file."""
        ...

    def content(self, item: Item, digest: Callable[[Path], str] = file_digest) -> str:
        """What determines `load`'s answer, whatever the paths: digests of the files and how they are decoded."""
        ...


class _Kind(NamedTuple):
    """One line of the registry: where a source is implemented, and whether it reads a folder."""

    module: str
    factory: str
    takes_path: bool


SOURCES: dict[str, _Kind] = {
    "rooms": _Kind("data.rooms", "RoomsSource", takes_path=False),
    "diode": _Kind("data.diode", "DiodeSource", takes_path=True),
    "pairs": _Kind("data.pairs", "PairsSource", takes_path=True),
}


def open_source(settings: DataSettings) -> Source:
    """The source that `settings.source` names. Raises DataError for an unknown source or a missing folder."""
    name, _, path = settings.source.partition(":")
    kind = SOURCES.get(name)
    if kind is None:
        raise DataError(f"unknown data source {settings.source!r}; expected rooms, diode:PATH or pairs:PATH")
    if kind.takes_path and not path:
        raise DataError(f"data source {settings.source!r} lacks its folder; expected {name}:PATH")
    if not kind.takes_path and path:
        raise DataError(f"data source {settings.source!r} takes no path; expected {name}")
    factory = getattr(importlib.import_module(kind.module), kind.factory)
    source: Source = factory(_folder(path), settings) if kind.takes_path else factory(settings)
    return source


def _folder(path: str) -> Path:
    folder = Path(path).expanduser()
    if not folder.is_dir():
        what = "is a file, not a folder" if folder.exists() else "does not exist"
        raise DataError(f"the data folder {folder} {what}; give the folder that holds the pictures")
    return folder


def list_files(root: Path) -> Iterator[Path]:
    """All visible files under a folder, in sorted order; linked folders are followed, each real folder once."""
    seen: set[Path] = set()
    for parent, folders, names in os.walk(root, followlinks=True):
        here = Path(parent).resolve()
        if here in seen:
            folders.clear()
            continue
        seen.add(here)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield from (Path(parent, name) for name in sorted(names) if not name.startswith("."))
