"""Pictures of the user's own: `FILE.py:NAME`, called with the options of `[data.options]`, is a sequence of pictures with depth.

Each has `key` and `scene` (texts), `rgb` ((H, W, 3) uint8) and `depth` ((h, w) float, metres, 0 where there is none), and perhaps
`split` (train, val or test): as attributes, which may be properties that read what they give only then, or as keys of a mapping.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from depth_loss_sweep.data.errors import DataError
from depth_loss_sweep.data.settings import DataSettings
from depth_loss_sweep.data.sources import FOLDERS, Item, file_digest, part_called
from depth_loss_sweep.usercode import as_guest, explain, load, option_fault, shown

LONGEST_TEXT = 500


class OwnSource:
    """The pictures that the user's own code gives, held to what is asked of any source."""

    def __init__(self, settings: DataSettings) -> None:
        self.name, self.faults, self.notes = shown(settings.source), list[str](), list[str]()
        make = load(settings.source)
        if fault := option_fault(make, settings.options, ()):
            raise DataError(f"{self.name}: {fault}")
        try:
            with as_guest():
                pictures = make(**settings.options)
                self._pictures: dict[str, tuple[Item, Any, int]] = {}
                for number in range(len(pictures)):
                    item = self._item(pictures[number], number)
                    if item.key in self._pictures:
                        raise DataError(f"{self.name} has the key {item.key!r} twice; expected one picture a key")
                    self._pictures[item.key] = (item, pictures, number)
        except DataError:
            raise
        except (Exception, SystemExit) as error:
            raise DataError(
                f"{self.name} failed: {explain(error)}; expected a sequence of pictures with depth"
            ) from error
        if not self._pictures:
            raise DataError(f"{self.name} holds no pictures; see its options in [data.options]")

    def _item(self, picture: Any, number: int) -> Item:
        key, scene, split = (_part(picture, name, None) for name in ("key", "scene", "split"))
        for name, value in (("key", key), ("scene", scene)):
            if not isinstance(value, str) or not 0 < len(value) <= LONGEST_TEXT or not value.isprintable():
                raise DataError(f"picture {number} of {self.name} has the {name} {value!r:.60}; expected a text")
        folder = part_called(split) if isinstance(split, str) else None
        if split is not None and folder is None:
            raise DataError(
                f"picture {key!r} of {self.name} has the split {split!r:.60}; expected {', '.join(FOLDERS)}"
            )
        return Item(key, scene, folder)

    def items(self) -> Sequence[Item]:
        """All pictures, by key."""
        return [self._pictures[key][0] for key in sorted(self._pictures)]

    def load(self, item: Item) -> tuple[np.ndarray, np.ndarray]:
        """RGB (H, W, 3) uint8 and depth (h, w) float32 metres, 0 = invalid. DataError names a picture that isn't so."""
        _, pictures, number = self._pictures[item.key]
        try:
            with as_guest():
                picture = pictures[number]
                rgb, depth = (np.asarray(_part(picture, name)) for name in ("rgb", "depth"))
        except (Exception, SystemExit) as error:
            raise DataError(f"picture {item.key!r} of {self.name} cannot be read: {explain(error)}") from error
        if rgb.ndim != 3 or rgb.shape[2] != 3 or rgb.dtype != np.uint8 or not rgb.size:
            raise DataError(self._other(item, "rgb", rgb, "(height, width, 3) uint8"))
        if depth.ndim != 2 or depth.dtype.kind != "f" or not depth.size:
            raise DataError(self._other(item, "depth", depth, "(height, width) float, in metres"))
        depth = np.nan_to_num(depth.astype(np.float32), nan=0.0, posinf=0.0, neginf=0.0)
        return np.ascontiguousarray(rgb), np.where(depth > 0, depth, np.float32(0))

    def _other(self, item: Item, what: str, array: np.ndarray, expected: str) -> str:
        return f"picture {item.key!r} of {self.name} has {what} {array.dtype} {array.shape}; expected {expected}"

    def content(self, item: Item, digest: Callable[[Path], str] = file_digest) -> str:
        """The digest of the picture and of its depth, as `load` has them."""
        found = hashlib.blake2b(digest_size=16)
        for array in self.load(item):
            found.update(f"{array.shape}".encode() + np.ascontiguousarray(array).tobytes())
        return f"own:{found.hexdigest()}"


def _part(picture: Any, name: str, *default: Any) -> Any:
    if isinstance(picture, Mapping):
        return picture.get(name, *default) if default else picture[name]
    return getattr(picture, name, *default)
