"""Pictures that a list names, or that are called by a pattern: `list:FILE` and `list:FOLDER`.

A list has a line a picture: `RGB DEPTH [FOCAL] [SPLIT]`, or, with commas or tabs, RGB,DEPTH and further columns that a head may name
(rgb or image, depth, split, scene). The lists of BTS, AdaBins, NeWCRFs and DenseDepth are such. A line whose depth is None is left out.

Paths lie below `data.rgb_root` and `data.depth_root`, where one begins with a slash, too. The first folders of a path are dropped as
far as is needed to find the files there, since a list is seldom read where it was written. A scene is the folder of its pictures,
KITTI's drive where its name is in the path, or what the list says.
"""

import csv
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from os.path import commonpath
from pathlib import Path, PurePosixPath
from typing import Any

from depth_loss_sweep.data.errors import DataError, reading
from depth_loss_sweep.data.file_pairs import FilePair, FilePairs, Found, match_files
from depth_loss_sweep.data.settings import DataSettings
from depth_loss_sweep.data.sources import Item, list_files, part_called
from depth_loss_sweep.words import counted

HEADS = {
    "rgb": r"(rgb|image|img|picture|colou?r)([ _]?(path|file|name))?s?",
    "depth": r"depth([ _]?(path|file|map|name))?s?",
    "split": r"split|part|set",
    "scene": r"scene([ _]?(id|name))?",
}
DRIVE = re.compile(r"\d{4}_\d\d_\d\d_drive_\d{4}_(sync|extract)")
MOST_BYTES = 1 << 28
"""A list of a million pictures is half as large."""

TRIED, MOST_DROPPED = 100, 16
"""By so many lines it is found out how many folders of their paths are to be dropped, and so many at most."""


@dataclass(frozen=True)
class Line:
    """One line of a list."""

    rgb: str
    depth: str
    split: str | None
    scene: str | None


class ListSource(FilePairs):
    """The pictures of a list, or of a folder by two patterns."""

    name = "list"

    def __init__(self, place: Path, settings: DataSettings) -> None:
        super().__init__((_by_patterns if place.is_dir() else _by_lines)(place, settings), settings)


def _by_patterns(root: Path, settings: Any) -> Found:
    rgb, depth = settings.rgb_files, settings.depth_files
    if not rgb or not depth:
        raise DataError(
            f"{root} is a folder: give the list in it, or how its files are called, such as "
            'data.rgb_files = "{scene}/Image{name}.png" and data.depth_files = "{scene}/Depth{name}.exr"'
        )
    listing = list_files(root)
    matched = match_files(root, listing.files, rgb, depth)

    def pair(fields: Mapping[str, str], picture: Path | None, depth_file: Path | None, fault: str = "") -> FilePair:
        key = (picture or depth_file or root).relative_to(root)
        scene = fields.get("scene") or key.parent.as_posix()
        return FilePair(Item(key.as_posix(), scene, fields.get("split")), picture, depth_file, fault)

    pairs = [pair(fields, picture, depth_file) for picture, depth_file, fields in matched.pairs]
    no_depth, no_picture = f"has no depth; expected one called {depth}", f"has no picture; expected one called {rgb}"
    pairs += [pair(fields, path, None, no_depth) for path, fields in matched.lone_pictures.items()]
    pairs += [pair(fields, None, path, no_picture) for path, fields in matched.lone_depths.items()]
    expected = f"{root} holds no file that is called as {rgb} or {depth}"
    return Found(pairs, expected, [*listing.faults, *matched.faults], listing.notes)


def _by_lines(place: Path, settings: Any) -> Found:
    folder, lists = place.parent, {"val": settings.val_list, "test": settings.test_list}
    lines = [*read_list(place, "train" if any(lists.values()) else None)]
    for part, other in lists.items():
        lines += read_list(_below(folder, other), part) if other else ()
    kept = [line for line in lines if "None" not in (line.rgb, line.depth)]
    pictures = Placing.of(_below(folder, settings.rgb_root), [line.rgb for line in kept])
    depths = Placing.of(_below(folder, settings.depth_root), [line.depth for line in kept])
    placed = [pictures.relative(line.rgb) for line in kept]
    shared = commonpath([path.parent for path in placed]) if placed else ""  # which may be this machine's only
    pairs = []
    for line, path in zip(kept, placed, strict=True):
        key = path.relative_to(shared)
        item = Item(key.as_posix(), line.scene or drive_of(path) or key.parent.as_posix(), line.split)
        pairs.append(FilePair(item, pictures.path(line.rgb), depths.path(line.depth)))
    left_out = len(lines) - len(kept)
    notes = [f"{counted(left_out, 'line', 'is', 'are')} left out, with None for depth"] if left_out else []
    notes += [f"{what}: {each.note()}" for what, each in (("pictures", pictures), ("depth", depths)) if each.dropped]
    return Found(pairs, f"{place} names no pictures; expected lines of RGB DEPTH", (), notes)


def _below(folder: Path, path: str | None) -> Path:
    """A path that settings give, which counts from a list's folder where it is relative."""
    given = Path(path or ".")
    return folder / (given.expanduser() if given.parts[:1] == ("~",) else given)


def drive_of(path: PurePosixPath) -> str | None:
    """KITTI's drive by a picture's path: two cameras saw it, in a folder each."""
    return next((part for part in path.parts if DRIVE.fullmatch(part)), None)


# Paths -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Placing:
    """Where the paths of a list lie: below a root without their first folders, or, with a slash before, as they stand."""

    root: Path
    dropped: int = 0
    as_they_stand: bool = False
    example: str = ""

    @classmethod
    def of(cls, root: Path, texts: Sequence[str]) -> "Placing":
        """The placing that finds most of the first paths and, of several, drops the fewest folders."""
        tried = texts[:TRIED]
        deepest = min(MOST_DROPPED, max((len(_parts(text)) for text in tried), default=1))
        below = [cls(root, dropped, example=next(iter(tried), "")) for dropped in range(deepest)]
        candidates = [below[0], cls(root, as_they_stand=True), *below[1:]]  # of those that find as many, the first
        return max(candidates, key=lambda each: sum(_is_file(each.path(text)) for text in tried))

    def relative(self, text: str) -> PurePosixPath:
        """A path as it lies below the root."""
        parts = _parts(text)
        return PurePosixPath(*parts[min(self.dropped, len(parts) - 1) :])

    def path(self, text: str) -> Path:
        """Where a path leads."""
        return Path(text) if self.as_they_stand and text.startswith("/") else self.root / self.relative(text)

    def note(self) -> str:
        """What is said where folders are dropped."""
        folders = "/".join(_parts(self.example)[: self.dropped])
        return f"paths are taken below {self.root} without their first folders ({folders}/)"


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # a name that is too long
        return False


def _parts(text: str) -> Sequence[str]:
    return [part for part in text.replace("\\", "/").split("/") if part not in ("", ".")] or ["."]


# Lines -----------------------------------------------------------------------------------------------------------


def read_list(path: Path, part: str | None = None) -> Iterator[Line]:
    """The lines of a list, those without a split of their own in this part. DataError names a line that is none."""
    with reading(path):
        data = path.read_bytes() if path.stat().st_size <= MOST_BYTES else b"\0"
    if b"\0" in data:
        raise DataError(f"{path} is no list; expected a text file of lines RGB DEPTH [FOCAL] [SPLIT], or a CSV file")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise DataError(f"{path} is not UTF-8 text; save it as UTF-8") from None
    rows = [(number, cells) for number, cells in enumerate(_rows(text, path), start=1) if cells and cells[0][:1] != "#"]
    columns = _head(rows[0][1]) if rows else None
    for number, cells in rows[1:] if columns else rows:
        yield _line(cells, columns, f"line {number} of {path}", part)


def _rows(text: str, path: Path) -> Iterator[list[str]]:
    """The cells of each line; a file has commas or tabs between them, or else spaces."""
    lines = text.splitlines()
    first = next((line for line in lines if line.strip() and line[:1] != "#"), "")
    if "," not in first and "\t" not in first:
        yield from (line.split() for line in lines)
        return
    try:
        for cells in csv.reader(lines, delimiter="\t" if "\t" in first else ",", strict=True):
            yield [cell.strip() for cell in cells] if any(cells) else []
    except csv.Error as error:
        raise DataError(f"{path} is no CSV file ({error}); expected lines of RGB,DEPTH") from None


def _head(cells: Sequence[str]) -> Mapping[str, int] | None:
    """The columns by a head's names; None where the first line is no head."""
    columns = {
        what: number
        for number, cell in reversed([*enumerate(cells)])
        for what, name in HEADS.items()
        if re.fullmatch(name, cell.lower())
    }
    return columns if {"rgb", "depth"} <= columns.keys() else None


def _line(cells: Sequence[str], columns: Mapping[str, int] | None, place: str, part: str | None) -> Line:
    if columns is not None:
        values = {what: cells[number] for what, number in columns.items() if number < len(cells) and cells[number]}
        others = list[str]()
    else:
        values = dict(zip(("rgb", "depth"), filter(None, cells[:2]), strict=False))
        others = [cell for cell in cells[2:] if cell and not _is_number(cell)]
    split = values.get("split") or (others[0] if others else None)
    if not {"rgb", "depth"} <= values.keys() or len(others) > 1 or (split and not part_called(split)):
        raise DataError(
            f"{place} is {' '.join(cells)[:100]!r}; expected RGB DEPTH [FOCAL] [train|val|test], paths with spaces in a CSV file"
        )
    return Line(values["rgb"], values["depth"], part_called(split) if split else part, values.get("scene"))


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
