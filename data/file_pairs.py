"""Pictures and depth in files of their own, wherever a layout puts them: what list:, tum:, kitti: and scannet: come to."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from depth_loss_sweep.data.depth import DECODER_VERSION, DepthCoding, load_pair
from depth_loss_sweep.data.errors import DataError, MissingFileError
from depth_loss_sweep.data.settings import DataSettings
from depth_loss_sweep.data.sources import FOLDERS, Item, file_digest, refuse_faults
from depth_loss_sweep.words import counted

TOKEN = re.compile(r"(\{\w*\}|\*\*/|\*|[{}])")


@dataclass(frozen=True)
class FilePair:
    """One picture with its depth; where one of the two is missing, `fault` says so of the other."""

    item: Item
    picture: Path | None
    depth: Path | None
    fault: str = ""


@dataclass(frozen=True)
class Found:
    """What a layout finds at a path."""

    pairs: Sequence[FilePair]
    expected: str
    """What is said where there is none."""
    faults: Sequence[str] = ()
    notes: Sequence[str] = ()


class FilePairs:
    """A source of such pairs. What is missing, damaged or of another view is an error when it is loaded."""

    name: str

    def __init__(self, found: Found, settings: DataSettings) -> None:
        self._coding, self._pairs = DepthCoding.of(settings), dict[str, FilePair]()
        self.faults, self.notes, repeated = [*found.faults], [*found.notes], 0
        for pair in found.pairs:
            first = self._pairs.setdefault(pair.item.key, pair)
            repeated += first is not pair and first == pair
            if first != pair:
                self.faults.append(f"{pair.picture} {_difference(first, pair)}; keep one of the two")
        if repeated:
            self.notes.append(f"{counted(repeated, 'pair', 'is', 'are')} listed more than once, and taken once")
        if not self._pairs:
            refuse_faults(self)
            raise DataError("; ".join([found.expected, *self.notes]))

    def items(self) -> Sequence[Item]:
        """One item for each picture, and for each depth map without one."""
        return [self._pairs[key].item for key in sorted(self._pairs)]

    def load(self, item: Item) -> tuple[np.ndarray, np.ndarray]:
        """RGB (H, W, 3) uint8 and depth (h, w) float32 metres, 0 = invalid. DataError names the bad file."""
        return load_pair(*self._files(item), self._coding)

    def content(self, item: Item, digest: Callable[[Path], str] = file_digest) -> str:
        """Digests of both files, and how depth is read. Raises DataError if one is missing."""
        picture, depth = self._files(item)
        return f"files:{DECODER_VERSION}:{self._coding.stated}:{digest(picture)}:{digest(depth)}"

    def _files(self, item: Item) -> tuple[Path, Path]:
        pair = self._pairs[item.key]
        if pair.picture and pair.depth:
            return pair.picture, pair.depth
        raise MissingFileError(pair.picture or pair.depth or Path(item.key), pair.fault)


def _difference(one: FilePair, other: FilePair) -> str:
    """In what two pairs of one picture differ."""
    if one.item.folder != other.item.folder:
        return f"is listed for {one.item.folder} and for {other.item.folder}"
    return f"is listed with {one.depth} and with {other.depth}"


# Patterns --------------------------------------------------------------------------------------------------------


Fields = Mapping[str, str]
"""What stands in a file's name where its pattern has names in braces."""


@dataclass(frozen=True)
class Matched:
    """Files that two patterns match. Those of a pair agree in all fields that both patterns have."""

    pairs: Sequence[tuple[Path, Path, Fields]]
    """Picture, depth, and the fields of both."""
    lone_pictures: Mapping[Path, Fields]
    lone_depths: Mapping[Path, Fields]
    faults: Sequence[str]


def match_files(root: Path, files: Sequence[Path], rgb: str, depth: str) -> Matched:
    """Pairs up the files below a folder that are called as two patterns say; see `pattern`. What both match is depth.

    DataError for a bad pattern.
    """
    of_rgb, of_depth, faults = pattern(rgb), pattern(depth), list[str]()
    common = sorted(of_rgb.groupindex.keys() & of_depth.groupindex.keys())
    if not common:
        raise DataError(f"the patterns {rgb!r} and {depth!r} have nothing in common; expected both to hold {{name}}")

    def matches(files: Iterable[Path], called: re.Pattern[str]) -> dict[tuple[str, ...], tuple[Path, Fields]]:
        found: dict[tuple[str, ...], tuple[Path, Fields]] = {}
        for path in files:
            if match := called.fullmatch(path.relative_to(root).as_posix()):
                fields = match.groupdict()
                first, _ = found.setdefault(tuple(fields[name] for name in common), (path, fields))
                if first is not path:
                    faults.append(
                        f"{path} and {first} agree in {', '.join(common)}; expected a pattern that tells them apart"
                    )
        return found

    depths = matches(files, of_depth)
    taken = {path for path, _ in depths.values()}
    pictures = matches((path for path in files if path not in taken), of_rgb)
    return Matched(
        pairs=[
            (pictures[key][0], depths[key][0], {**depths[key][1], **pictures[key][1]})
            for key in pictures
            if key in depths
        ],
        lone_pictures=dict(pictures[key] for key in pictures.keys() - depths.keys()),
        lone_depths=dict(depths[key] for key in depths.keys() - pictures.keys()),
        faults=faults,
    )


def pattern(text: str) -> re.Pattern[str]:
    """A pattern of file names: {scene} is anything, folders too, {split} one of train, val and test, another name in braces and *
    anything within a file's or folder's name, and **/ any folders or none. A name that comes twice is the same text twice.
    """
    parts, names = [], set[str]()
    for token in TOKEN.split(text):
        name = token[1:-1]
        if token == "**/":
            parts.append("(?:.*/)?")
        elif token == "*":
            parts.append("[^/]*")
        elif not TOKEN.fullmatch(token):
            parts.append(re.escape(token))
        elif not name.isidentifier():
            raise DataError(
                f"the pattern {text!r} has a {token!r} that names nothing; expected such as {{scene}}/{{name}}.png"
            )
        else:
            kind = {"scene": ".+", "split": "|".join(FOLDERS)}.get(name, "[^/]+")
            parts.append(f"(?P={name})" if name in names else f"(?P<{name}>{kind})")
            names.add(name)
    return re.compile("".join(parts))


def folder_of(relative: Path) -> str | None:
    """ "train", "val" or "test" where a folder on the way to a file is called so."""
    return next((part for part in relative.parts[:-1] if part in FOLDERS), None)
