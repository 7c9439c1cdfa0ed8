"""RGB pictures beside 16-bit depth PNGs, one folder a scene: `pairs:PATH`.

    PATH/[train|val|test/]SCENE/NAME.jpg         (or .jpeg, .png)
    PATH/[train|val|test/]SCENE/NAME_depth.png   (16-bit, one channel; millimetres and 0 = invalid by default)

The scene is the folder below train/, val/ or test/, so a scene may reappear in another of these. Pictures count as
they are stored: an orientation tag in them is ignored, because their depth has none.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from unicodedata import normalize

import numpy as np

from depth_loss_sweep.data.errors import BadFileError, DataError
from depth_loss_sweep.data.pictures import is_depth_png, read_depth_png, read_rgb
from depth_loss_sweep.data.settings import DataSettings
from depth_loss_sweep.data.sources import FOLDERS, Item, file_digest, list_files, refuse_faults

SUFFIXES = (".jpg", ".jpeg", ".png")
DEPTH_STEM = "_depth"
DEPTH_ENDING = f"{DEPTH_STEM}.png"
SAVE_AS = "save it as NAME_depth.png, a PNG of 16 bits and 1 channel"
DECODER_VERSION = 1


@dataclass
class _Files:
    """The files of one name: to be usable, one picture and one depth map."""

    pictures: list[Path] = field(default_factory=list)
    depth: Path | None = None
    unread: Path | None = None
    """What is called as a depth map is, but of another kind."""

    def fault(self) -> str:
        """What is wrong with the first of them, where they are not a pair."""
        if not self.pictures:
            return "has no picture beside it; expected NAME.jpg or NAME.png"
        if len(self.pictures) > 1:
            other = f"shares its name with NAME{self.pictures[1].suffix}"
            if self.depth:
                return f"{other}, and NAME_depth.png can be the depth of one only; rename the other, or move it away"
            return f"{other}, and there is no NAME_depth.png; if one of the two is the depth, {SAVE_AS}"
        if self.unread:
            return f"has NAME_depth{self.unread.suffix} beside it, which is not read; {SAVE_AS}"
        if is_depth_png(self.pictures[0]):
            return "looks like depth (a PNG of 16 bits and 1 channel), but is not called X_depth.png beside a picture X.jpg"
        return "has no depth beside it; expected NAME_depth.png"


class PairsSource:
    """The pairs below a folder. A picture without depth, or depth without a picture, is an error when loaded."""

    name = "pairs"

    def __init__(self, root: Path, settings: DataSettings) -> None:
        self._settings, listing = settings, list_files(root)
        listing.note_unread(root, SUFFIXES)
        self.faults, self.notes = listing.faults, listing.notes
        self._files = _find(root, listing.files)
        if not self._files:
            refuse_faults(self)
            there = "; ".join(["", *self.notes])
            raise DataError(f"{root} holds no pictures; expected SCENE/NAME.jpg beside SCENE/NAME{DEPTH_ENDING}{there}")

    def items(self) -> Sequence[Item]:
        """One item for each name, whether or not both of its files are there."""
        return [_item(key) for key in sorted(self._files)]

    def load(self, item: Item) -> tuple[np.ndarray, np.ndarray]:
        """RGB (H, W, 3) uint8 and depth (H, W) float32 metres, 0 = invalid. DataError names the bad file."""
        picture, depth_file = self._pair(item)
        image, raw = read_rgb(picture), read_depth_png(depth_file)
        if raw.shape != image.shape[:2]:
            raise BadFileError(
                depth_file,
                f"is {raw.shape[1]}x{raw.shape[0]}, but its picture NAME{picture.suffix} is "
                f"{image.shape[1]}x{image.shape[0]}; both must be of one size",
                _name(item),
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
        files = self._files[item.key]
        if len(files.pictures) == 1 and files.depth:
            return files.pictures[0], files.depth
        first = next(path for path in (*files.pictures, files.depth) if path)
        raise BadFileError(first, files.fault(), _name(item))


def _name(item: Item) -> str:
    return item.key.rpartition("/")[2]


def _find(root: Path, paths: Sequence[Path]) -> dict[str, _Files]:
    """Every name, as its path below the root without suffix, with its files."""
    found: dict[str, _Files] = {}
    unread: dict[str, Path] = {}
    for path in paths:
        key = path.relative_to(root).as_posix()
        stem = key[: -len(path.suffix)] if path.suffix else key
        if path.name.lower().endswith(DEPTH_ENDING):
            found.setdefault(key[: -len(DEPTH_ENDING)], _Files()).depth = path
        elif path.suffix.lower() in SUFFIXES:
            found.setdefault(stem, _Files()).pictures.append(path)
        elif stem.lower().endswith(DEPTH_STEM):
            unread[stem[: -len(DEPTH_STEM)]] = path
    for key in found.keys() & unread.keys():
        found[key].unread = unread[key]
    return _united(found)


def _united(found: dict[str, _Files]) -> dict[str, _Files]:
    """Depth joins the picture of its name in another Unicode spelling, as disks of macOS and Linux differ; it has no other."""
    lone = {normalize("NFC", key): files for key, files in found.items() if files.pictures and files.depth is None}
    for key, files in list(found.items()):
        if not files.pictures and (respelled := lone.pop(normalize("NFC", key), None)):
            respelled.depth = files.depth
            del found[key]
    return found


def _item(key: str) -> Item:
    *parents, _ = key.split("/")
    folder = parents.pop(0) if parents and parents[0] in FOLDERS else None
    return Item(key, "/".join(parents) or ".", folder)
