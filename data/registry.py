"""The sources of pictures by name, and how the files that they read end. Neither torch nor OpenCV here.

To add a source is to write its module and to add its line.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import Field

from depth_loss_sweep.data.errors import DataError
from depth_loss_sweep.registry import Entry
from depth_loss_sweep.usercode import Reference

PICTURES = (".jpg", ".jpeg", ".png", ".webp", ".ppm")
"""How files of pictures end."""

DEPTHS = (".png", ".pgm", ".pfm", ".npy", ".tif", ".tiff", ".exr", ".h5", ".hdf5")
"""How files of depth end."""


def ending(suffixes: Iterable[str]) -> str:
    """A pattern of the names that end so."""
    return rf"({'|'.join(map(re.escape, suffixes))})$"


@dataclass(frozen=True, kw_only=True)
class SourceEntry(Entry):
    """A source of pictures. Its code takes its path, if it has one, and the data's settings, and is a `data.sources.Source`."""

    title: str
    """What its layout is called."""
    path: Literal["none", "folder", "file", "either"] = "folder"
    """What its path leads to."""
    unit: float | None = None
    """Metres that 1 stands for in its depth files of whole numbers; None where nothing needs to be said of its depth."""
    traces: tuple[str, ...] = ()
    """Patterns of file names below a folder: where each is found, the folder looks like this layout."""

    @property
    def takes_path(self) -> bool:
        """Whether a path follows its name."""
        return self.path != "none"


MILLIMETRES = 0.001


def _text(description: str) -> tuple[Any, Any]:
    return str | None, Field(None, description=description)


# The most telling traces come first.
SOURCES: dict[str, SourceEntry] = {
    "rooms": SourceEntry(title="rendered rooms", code="depth_loss_sweep.data.rooms.source:RoomsSource", path="none"),
    "diode": SourceEntry(
        title="DIODE",
        code="depth_loss_sweep.data.diode:DiodeSource",
        traces=(r"_depth_mask\.npy$",),
    ),
    "pairs": SourceEntry(
        title="pictures beside their depth",
        code="depth_loss_sweep.data.pairs:PairsSource",
        unit=MILLIMETRES,
        traces=(f"_depth{ending(DEPTHS)}",),
    ),
    "tum": SourceEntry(
        title="TUM RGB-D",
        code="depth_loss_sweep.data.layouts:TumSource",
        unit=1 / 5000,
        traces=(r"(^|/)rgb/\d+\.\d+\.png$", r"(^|/)depth/\d+\.\d+\.png$"),
    ),
    "kitti": SourceEntry(
        title="KITTI",
        code="depth_loss_sweep.data.layouts:KittiSource",
        unit=1 / 256,
        traces=(r"proj_depth/groundtruth/image_0[23]/\d+\.png$",),
    ),
    "scannet": SourceEntry(
        title="ScanNet",
        code="depth_loss_sweep.data.layouts:ScanNetSource",
        unit=MILLIMETRES,
        traces=(r"(^|/)color/\d+\.(jpg|png)$", r"(^|/)depth/\d+\.png$"),
    ),
    "nyu-mat": SourceEntry(
        title="NYU Depth V2's labelled set",
        code="depth_loss_sweep.data.hdf5:NyuMatSource",
        path="file",
        unit=MILLIMETRES,
        traces=(r"\.mat$",),
    ),
    "h5": SourceEntry(
        title="HDF5",
        code="depth_loss_sweep.data.hdf5:Hdf5Source",
        path="either",
        unit=MILLIMETRES,
        traces=(r"\.(h5|hdf5)$",),
    ),
    "parquet": SourceEntry(
        title="Parquet",
        code="depth_loss_sweep.data.parquet:ParquetSource",
        path="either",
        unit=MILLIMETRES,
        traces=(r"\.parquet$",),
    ),
    "list": SourceEntry(
        title="a list of pictures",
        code="depth_loss_sweep.data.lists:ListSource",
        path="either",
        unit=MILLIMETRES,
        options={
            "rgb_root": _text("list: the folder that its pictures lie below; that of the list where it isn't said"),
            "depth_root": _text("list: the folder that its depth files lie below; likewise"),
            "val_list": _text("list: another list, whose pictures validate; those of the first then train"),
            "test_list": _text("list: another list, whose pictures test; those of the first then train"),
            "rgb_files": _text(
                'list:FOLDER: how picture files are called below it, such as "{scene}/Image{name}.png"; what stands in braces is '
                "the same for a picture and its depth; {scene} and {split} say what they are called, * is anything"
            ),
            "depth_files": _text('list:FOLDER: how the depth files are called, such as "{scene}/Depth{name}.exr"'),
        },
        traces=(r"\.(csv|txt)$",),
    ),
}


OWN = SourceEntry(title="pictures of your own", code="depth_loss_sweep.data.own:OwnSource", path="none")


def source_forms() -> str:
    """All sources as they are written, in words."""
    forms = (f"{name}:PATH" if line.takes_path else name for name, line in SOURCES.items())
    return f"{', '.join(forms)} or FILE.py:NAME"


def own_source(source: str) -> Reference | None:
    """The user's own code that a source names: of a file, or of a module in a package; None where it is another source."""
    reference = Reference.parse(source)
    is_own = reference and (reference.is_file or "." in reference.module) and source.partition(":")[0] not in SOURCES
    return reference if is_own else None


def source_entry(source: str) -> SourceEntry:
    """The line of a source as a spec writes it. Raises DataError where it is none, lacks its path, or has one too many."""
    name, _, path = source.partition(":")
    if own_source(source):
        return OWN
    entry = SOURCES.get(name)
    if entry is None:
        raise DataError(f"unknown data source {source[:200]!r}; expected {source_forms()}")
    if entry.takes_path and not path:
        what = "path" if entry.path == "either" else entry.path
        raise DataError(f"data source {source!r} lacks its {what}; expected {name}:PATH")
    if not entry.takes_path and path:
        raise DataError(f"data source {source!r} takes no path; expected {name}")
    return entry
