"""RGB pictures beside their depth, one folder a scene: `pairs:PATH`.

    PATH/[train|val|test/]SCENE/NAME.jpg         (or .jpeg, .png, .webp, .ppm)
    PATH/[train|val|test/]SCENE/NAME_depth.png   (16-bit, one channel; millimetres and 0 = invalid by default)

or NAME_depth.npy, .tiff, .exr, .pgm, .pfm or .h5 (`data.depth`), in metres where it holds fractions.

The scene is the folder below train/, val/ or test/, so a scene may reappear in another of these. Pictures count as
they are stored: an orientation tag in them is ignored, because their depth has none.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from unicodedata import normalize

import numpy as np

from depth_loss_sweep.data import depth
from depth_loss_sweep.data.depth import DepthCoding, load_pair
from depth_loss_sweep.data.errors import DataError, MissingFileError
from depth_loss_sweep.data.pictures import is_depth_png
from depth_loss_sweep.data.registry import DEPTHS, PICTURES
from depth_loss_sweep.data.settings import DataSettings
from depth_loss_sweep.data.sources import FOLDERS, Item, file_digest, list_files, names_of, refuse_faults
from depth_loss_sweep.words import counted

FIRST = (".jpg", ".jpeg", ".png")
"""How pictures end that come before others of their name."""

DEPTH_STEM = "_depth"
DEPTH_ENDING = f"{DEPTH_STEM}.png"
MASK_ENDING = "_depth_mask.npy"
SAVE_AS = "save it as NAME_depth.png, a PNG of 16 bits and 1 channel"
DECODER_VERSION = 1


@dataclass
class _Files:
    """The files of one name: to be usable, one picture and one depth map."""

    pictures: list[Path] = field(default_factory=list)
    depth: Path | None = None
    others: list[Path] = field(default_factory=list)
    """What is called as a depth map is, but is no PNG."""

    def settle(self) -> list[Path]:
        """Take the depth from the only file of another kind where there is no PNG; return those that are left beside one."""
        readable = [path for path in self.others if path.suffix.lower() in DEPTHS]
        if self.depth:
            return readable
        if len(readable) == 1:
            self.depth = readable[0]
        return []

    def choose(self) -> list[Path]:
        """Take a JPEG or PNG as the picture where there is one; return the WebP and PPM files that are left beside it."""
        first = [path for path in self.pictures if path.suffix.lower() in FIRST]
        beside = [path for path in self.pictures if path not in first] if first else []
        self.pictures = first or self.pictures
        return beside

    def fault(self) -> str:
        """What is wrong with the first of them, where they are not a pair."""
        if not self.pictures:
            return "has no picture beside it; expected NAME.jpg or NAME.png"
        if len(self.pictures) > 1:
            other = f"shares its name with NAME{self.pictures[1].suffix}"
            if self.depth:
                return f"{other}, and NAME_depth{self.depth.suffix} can be the depth of one only; rename the other, or move it away"
            return f"{other}, and there is no NAME_depth.png; if one of the two is the depth, {SAVE_AS}"
        if len(self.others) > 1:
            one, two, *_ = (f"NAME_depth{path.suffix}" for path in self.others)
            return f"has {one} and {two} beside it, and one of them can be its depth; move the other away"
        if self.others:
            return f"has NAME_depth{self.others[0].suffix} beside it, which is not read; {SAVE_AS}"
        if is_depth_png(self.pictures[0]):
            return "looks like depth (a PNG of 16 bits and 1 channel), but is not called X_depth.png beside a picture X.jpg"
        return "has no depth beside it; expected NAME_depth.png"


class PairsSource:
    """The pairs below a folder. A picture without depth, or depth without a picture, is an error when loaded."""

    name = "pairs"

    def __init__(self, root: Path, settings: DataSettings) -> None:
        self._coding, listing = DepthCoding.of(settings), list_files(root)
        self._files = _find(root, listing.files)
        left_over = [path for files in self._files.values() for path in files.settle()]
        beside = [path for files in self._files.values() for path in files.choose()]
        alone = self._without_depth()
        depths = {files.depth for files in self._files.values()}
        listing.files = [path for path in listing.files if path not in depths and path not in left_over]
        listing.note_unread(root, PICTURES)
        self.faults, self.notes = listing.faults, listing.notes
        for paths, what, why in (
            (left_over, "depth file", "there is a NAME_depth.png"),
            (beside, "picture", "there is a JPEG or PNG of that name"),
            (alone, "picture", "no depth lies beside"),
        ):
            if paths:
                names = names_of([path.relative_to(root).as_posix() for path in paths])
                self.notes.append(f"{counted(len(paths), what, 'is', 'are')} not read, since {why} ({names})")
        if masks := [path for path in listing.files if path.name.endswith(MASK_ENDING)]:
            self.faults.append(
                f"{masks[0]} says where depth is valid, which pairs do not read: use diode:PATH, or move it away"
            )
        if not self._files:
            refuse_faults(self)
            there = "; ".join(["", *self.notes])
            raise DataError(f"{root} holds no pictures; expected SCENE/NAME.jpg beside SCENE/NAME{DEPTH_ENDING}{there}")

    def _without_depth(self) -> list[Path]:
        """Leave out what lies about among JPEGs and PNGs, such as a preview: pictures of other kinds that no depth goes with."""
        kinds = {name: {path.suffix.lower() for path in files.pictures} for name, files in self._files.items()}
        if not any(each & {*FIRST} for each in kinds.values()):
            return []
        names = [
            n
            for n, f in self._files.items()
            if kinds[n] and not kinds[n] & {*FIRST} and f.depth is None and not f.others
        ]
        return [path for name in names for path in self._files.pop(name).pictures]

    def items(self) -> Sequence[Item]:
        """One item for each name, whether or not both of its files are there."""
        return [_item(key) for key in sorted(self._files)]

    def load(self, item: Item) -> tuple[np.ndarray, np.ndarray]:
        """RGB (H, W, 3) uint8 and depth (h, w) float32 metres, 0 = invalid. DataError names the bad file."""
        return load_pair(*self._pair(item), self._coding)

    def content(self, item: Item, digest: Callable[[Path], str] = file_digest) -> str:
        """Digests of both files, and how depth is read. Raises DataError if one is missing."""
        picture, depth_file = self._pair(item)
        is_png = depth_file.suffix.lower() == ".png"
        how = f"{DECODER_VERSION}:{self._coding.png}" if is_png else f"{depth.DECODER_VERSION}:{self._coding.stated}"
        return f"pairs:{how}:{digest(picture)}:{digest(depth_file)}"

    def _pair(self, item: Item) -> tuple[Path, Path]:
        files = self._files[item.key]
        if len(files.pictures) == 1 and files.depth:
            return files.pictures[0], files.depth
        first = next(path for path in (*files.pictures, files.depth, *files.others) if path)
        raise MissingFileError(first, files.fault(), item.key.rpartition("/")[2])


def _find(root: Path, paths: Sequence[Path]) -> dict[str, _Files]:
    """Every name, as its path below the root without suffix, with its files."""
    found: dict[str, _Files] = {}
    others: dict[str, list[Path]] = {}
    for path in paths:
        key = path.relative_to(root).as_posix()
        stem = key[: -len(path.suffix)] if path.suffix else key
        if path.name.lower().endswith(DEPTH_ENDING):
            found.setdefault(key[: -len(DEPTH_ENDING)], _Files()).depth = path
        elif path.suffix.lower() in PICTURES:
            found.setdefault(stem, _Files()).pictures.append(path)
        elif stem.lower().endswith(DEPTH_STEM):
            others.setdefault(stem[: -len(DEPTH_STEM)], []).append(path)
    for key in found.keys() & others.keys():
        found[key].others = others[key]
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
