"""RGB pictures beside 16-bit depth PNGs, one folder a scene: `pairs:PATH`.

    PATH/[train|val|test/]SCENE/NAME.jpg         (or .jpeg, .png)
    PATH/[train|val|test/]SCENE/NAME_depth.png   (16-bit, one channel; millimetres and 0 = invalid by default)

The scene is the folder below train/, val/ or test/, so a scene may reappear in another of these. Pictures count as
they are stored: an orientation tag in them is ignored, because their depth has none.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from data.errors import DataError
from data.pictures import read_depth_png, read_rgb
from data.settings import DataSettings
from data.sources import FOLDERS, Item, file_digest, list_files

SUFFIXES = (".jpg", ".jpeg", ".png")
DEPTH_ENDING = "_depth.png"
DECODER_VERSION = 1


class PairsSource:
    """The pairs below a folder. A picture without depth, or depth without a picture, is an error when loaded."""

    name = "pairs"

    def __init__(self, root: Path, settings: DataSettings) -> None:
        self._root, self._settings = root, settings
        self._files = _find(root)
        if not self._files:
            raise DataError(f"{root} holds no pictures; expected SCENE/NAME.jpg beside SCENE/NAME{DEPTH_ENDING}")

    def items(self) -> Sequence[Item]:
        """One item for each name, whether or not both of its files are there."""
        return [_item(key) for key in sorted(self._files)]

    def load(self, item: Item) -> tuple[np.ndarray, np.ndarray]:
        """RGB (H, W, 3) uint8 and depth (H, W) float32 metres, 0 = invalid. DataError names the bad file."""
        picture, depth_file = self._pair(item)
        image, raw = read_rgb(picture), read_depth_png(depth_file)
        if raw.shape != image.shape[:2]:
            raise DataError(
                f"{depth_file} is {raw.shape[1]}x{raw.shape[0]}, but its picture {picture.name} is "
                f"{image.shape[1]}x{image.shape[0]}; both must be of one size"
            )
        depth = raw.astype(np.float32) * np.float32(self._settings.depth_scale)
        depth[raw == self._settings.invalid_value] = 0
        return image, depth

    def content(self, item: Item, digest: Callable[[Path], str] = file_digest) -> str:
        """Digests of both files, and how depth is read. Raises DataError if one is missing."""
        picture, depth = self._pair(item)
        how = f"{self._settings.depth_scale!r}:{self._settings.invalid_value}"
        return f"pairs:{DECODER_VERSION}:{how}:{digest(picture)}:{digest(depth)}"

    def _pair(self, item: Item) -> tuple[Path, Path]:
        pictures, depth = self._files[item.key]
        if not pictures:
            raise DataError(f"{depth} has no picture beside it; expected {_name(item)}.jpg or {_name(item)}.png")
        if len(pictures) > 1:
            raise DataError(f"{pictures[0]} and {pictures[1].name} share one depth map; keep one of them")
        if depth is None:
            raise DataError(f"{pictures[0]} has no depth beside it; expected {_name(item)}{DEPTH_ENDING}")
        return pictures[0], depth


def _name(item: Item) -> str:
    return item.key.rpartition("/")[2]


def _find(root: Path) -> dict[str, tuple[list[Path], Path | None]]:
    """Every name, as its path below the root without suffix, with its pictures and its depth file."""
    found: dict[str, tuple[list[Path], Path | None]] = {}
    for path in list_files(root):
        if path.suffix.lower() not in SUFFIXES:
            continue
        key = path.relative_to(root).as_posix()
        if path.name.lower().endswith(DEPTH_ENDING):
            key = key[: -len(DEPTH_ENDING)]
            found[key] = (found.get(key, ([], None))[0], path)
        else:
            key = key[: -len(path.suffix)]
            found.setdefault(key, ([], None))[0].append(path)
    return found


def _item(key: str) -> Item:
    *parents, _ = key.split("/")
    folder = parents.pop(0) if parents and parents[0] in FOLDERS else None
    return Item(key, "/".join(parents) or ".", folder)
