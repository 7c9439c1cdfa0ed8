"""Rows of pictures in Parquet files, as Hugging Face's datasets keep them: `parquet:PATH`, a file or a folder of files.

A row holds a picture and its depth as the bytes of files, alone or in a struct {bytes, path}. Its scene is what a column `scene`
says, or the folder of the picture's path. Its part is what the file is called, as in train-00000-of-00002.parquet.
"""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from depth_loss_sweep.data.depth import DECODER_VERSION, DepthCoding, checked_pair, decode_depth, library
from depth_loss_sweep.data.errors import DAMAGE, BadFileError, DataError, reading
from depth_loss_sweep.data.hdf5 import MOST_PICTURES, NO_SCENES
from depth_loss_sweep.data.pictures import read_rgb
from depth_loss_sweep.data.settings import DataSettings
from depth_loss_sweep.data.sources import Item, file_digest, list_files, part_called, refuse_faults

SUFFIX = ".parquet"
RGB_COLUMNS = ("image", "rgb", "picture", "color", "img")
DEPTH_COLUMNS = ("depth_map", "depth", "depths")
SCENE_COLUMNS = ("scene", "scene_id", "scene_name")
MOST_GROUP_BYTES = 1 << 31


class ParquetSource:
    """The rows of all files. One row group is in memory at a time."""

    name = "parquet"

    def __init__(self, place: Path, settings: DataSettings) -> None:
        self._settings, self._coding = settings, DepthCoding.of(settings)
        self.faults, self.notes = list[str](), list[str]()
        paths, root = [place], place.parent
        if place.is_dir():
            listing, root = list_files(place), place
            self.faults, self.notes = listing.faults, listing.notes
            paths = [path for path in listing.files if path.suffix.lower() == SUFFIX]
        if not paths:
            refuse_faults(self)
            raise DataError(f"{place} holds no Parquet files; expected *.parquet in it")
        self._places: dict[str, tuple[Path, int, int]] = {}
        self._items: list[Item] = []
        self._group: tuple[tuple[Path, int] | None, list[Any], list[Any]] = (None, [], [])
        found = {path: part_called(path.name.partition("-")[0].removesuffix(SUFFIX)) for path in paths}
        has_split = set(found.values()) != {"train"}  # which is what a dataset without a split is called
        for path, part in found.items():
            self._list_rows(path, path.relative_to(root).as_posix(), part if has_split else None)
        if not self._items:
            raise DataError(f"{place} holds no rows; expected a picture and its depth in each")
        if any(item.scene == item.key for item in self._items):
            self.notes.append(NO_SCENES)

    def _list_rows(self, path: Path, name: str, part: str | None) -> None:
        with _opened(path) as file:
            if file.metadata.num_rows > MOST_PICTURES:
                raise BadFileError(path, f"claims to hold {file.metadata.num_rows} rows; replace it")
            scenes = self._scenes(file, path)
            for group in range(file.num_row_groups):
                for row in range(file.metadata.row_group(group).num_rows):
                    key = f"{name}/{group:04d}/{row:07d}"
                    scene = next(scenes, None)
                    self._items.append(Item(key, scene or key, part))
                    self._places[key] = (path, group, row)

    def _column(self, file: Any, path: Path, what: str) -> str:
        """The column of the pictures ("rgb") or of their depth ("depth")."""
        given = self._settings.rgb_field if what == "rgb" else self._settings.depth_field
        names = file.schema_arrow.names
        known = RGB_COLUMNS if what == "rgb" else DEPTH_COLUMNS
        found = next((name for name in ((given,) if given else known) if name in names), None)
        if found is None:
            wanted = repr(given) if given else f"for {what}"
            raise BadFileError(
                path, f"has no column {wanted} (it has {', '.join(names)}); name it with data.{what}_field"
            )
        return found

    def _scenes(self, file: Any, path: Path) -> Iterator[str | None]:
        """The scene of each row; None, or too few, where nothing says it."""
        names, rgb = file.schema_arrow.names, self._column(file, path, "rgb")
        if column := next((name for name in SCENE_COLUMNS if name in names), None):
            yield from (None if value is None else str(value) for value in file.read([column])[column].to_pylist())
        elif f"{rgb}.path" in {field.name for field in file.schema_arrow.field(rgb).flatten()}:
            for value in file.read([f"{rgb}.path"])[rgb].to_pylist():
                folder = PurePosixPath((value or {}).get("path") or "").parent.as_posix()
                yield None if folder == "." else folder

    def items(self) -> Sequence[Item]:
        """One item for each row."""
        return sorted(self._items, key=lambda item: item.key)

    def load(self, item: Item) -> tuple[np.ndarray, np.ndarray]:
        """RGB (H, W, 3) uint8 and depth (h, w) float32 metres, 0 = invalid. DataError names the bad row."""
        path, group, row = self._places[item.key]
        pictures, depths = self._rows(path, group)
        where = path.with_name(f"{path.name}, row {row} of group {group},")
        image = read_rgb(where, pictures[row])
        depth = self._coding.metres(decode_depth(depths[row], where, self._coding.dataset), where)
        return checked_pair(image, depth, "in that row", where)

    def _rows(self, path: Path, group: int) -> tuple[list[bytes], list[bytes]]:
        """The pictures and depth files of a row group, kept until another is asked for."""
        if self._group[0] != (path, group):
            with _opened(path) as file:
                if file.metadata.row_group(group).total_byte_size > MOST_GROUP_BYTES:
                    raise BadFileError(path, "has a row group of more than 2 GiB; write it anew in smaller ones")
                columns = [self._column(file, path, what) for what in ("rgb", "depth")]
                table = file.read_row_group(group, columns)
                pictures, depths = ([_bytes(cell) for cell in table[name].to_pylist()] for name in columns)
            self._group = ((path, group), pictures, depths)
        return self._group[1], self._group[2]

    def content(self, item: Item, digest: Callable[[Path], str] = file_digest) -> str:
        """The file's digest, the row's place in it, and how it is read."""
        path, group, row = self._places[item.key]
        how = f"{DECODER_VERSION}:{self._settings.rgb_field!r}:{self._coding.stated}"
        return f"parquet:{how}:{digest(path)}:{group}:{row}"


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """A Parquet file, open to be read. What pyarrow raises on a damaged one is a DataError."""
    pyarrow, parquet = library("pyarrow", "parquet", path), library("pyarrow.parquet", "parquet", path)
    with reading(path), path.open("rb"):
        pass
    try:
        with parquet.ParquetFile(path) as file:
            yield file
    except (*DAMAGE, pyarrow.ArrowException):
        raise BadFileError(path, "is damaged, or no Parquet file; replace it") from None


def _bytes(cell: Any) -> bytes:
    """The file that a cell holds, by itself or in a struct; empty where there is none."""
    content = cell.get("bytes") if isinstance(cell, dict) else cell
    return content if isinstance(content, bytes) else b""
