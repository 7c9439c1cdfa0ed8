"""Depth files of the kinds that people have, as metres: PNG, PGM, PFM, NumPy, TIFF, OpenEXR and HDF5.

A file is told by its content, whatever its suffix; but one that is called PNG has to be one. A size that it claims is checked
before memory is taken for it, and nothing in it is ever run. h5py and OpenEXR are imported when a file needs them.
"""

import contextlib
import io
import os
import re
import warnings
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import cv2
import numpy as np
from PIL import Image, UnidentifiedImageError

from depth_loss_sweep.data.errors import DAMAGE, BadFileError, DataError
from depth_loss_sweep.data.pictures import JPEG_START, PNG_SIGNATURE, decode_picture, read_bytes, read_rgb, size_fault
from depth_loss_sweep.data.settings import DataSettings

DECODER_VERSION = 2
"""Raise it when the same files would give other metres; `data.pairs` has its own for PNG."""

ADVICE = "replace it, or move it away with its picture"
TIFF_MODES = ("F", "I", "I;16", "I;16L", "I;16B", "L")
PGM_HEADER = re.compile(rb"P5(?:\s|#[^\n]*\n)+(\d{1,9})(?:\s|#[^\n]*\n)+(\d{1,9})(?:\s|#[^\n]*\n)+(\d{1,5})\s")
PFM_HEADER = re.compile(rb"P[fF]\s+(\d{1,9})\s+(\d{1,9})\s+([-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d{1,3})?)\s")
DEPTH_CHANNELS = ("Z", "V", "Y", "R")
"""Last letters of an OpenEXR file's channels that may hold depth, the likeliest first: Z by its specification, V as Blender has it."""

CALLED = {"rgb": ("rgb", "image", "color", "colour"), "depth": ("depth",)}
"""What is in the names of datasets that hold pictures and depth."""

SAME_VIEW = 0.02
"""A picture and its depth may differ in size, since each is resized, but in their aspect ratio by so much at most."""


@dataclass(frozen=True)
class DepthCoding:
    """What the numbers of depth files mean."""

    unit: float = 0.001
    """Metres that 1 stands for in files of whole numbers, by the layout; in files of fractions it stands for a metre."""
    scale: float | None = None
    """Metres that 1 stands for in any file, where the settings say so."""
    at_255: float | None = None
    """Metres that 255 stands for in files of 8 bits."""
    invalid: int = 0
    dataset: str | None = None
    """Which dataset of an HDF5 file or channel of an OpenEXR file is read, where it holds several."""

    @classmethod
    def of(cls, settings: DataSettings) -> "DepthCoding":
        """The coding that settings say, or leave to the layout."""
        return cls(
            unit=settings.unit or cls.unit,
            scale=settings.depth_scale,
            at_255=settings.depth_at_255,
            invalid=settings.invalid_value,
            dataset=settings.depth_field,
        )

    @property
    def png(self) -> str:
        """What determines the metres of a PNG; what 255 stands for, of 8 bits, is named where it is said."""
        of_16_bits = f"{self.unit if self.scale is None else self.scale!r}:{self.invalid}"
        return of_16_bits if self.at_255 is None else f"{of_16_bits}:{self.at_255!r}"

    @property
    def stated(self) -> str:
        """What determines the metres of any file."""
        return ":".join(map(repr, (self.unit, self.scale, self.at_255, self.invalid, self.dataset)))

    def metres(self, raw: np.ndarray, path: Path) -> np.ndarray:
        """The numbers of a depth file (H, W) as float32 metres, 0 = invalid: what is not finite, not above 0, or `invalid`."""
        if raw.dtype.kind not in "fiu":
            raise BadFileError(path, f"holds {raw.dtype}; depth is whole numbers or fractions")
        scale = self.unit if self.scale is None else self.scale
        if raw.dtype.itemsize == 1:
            if self.at_255 is None:
                raise BadFileError(
                    path,
                    "has 8 bits and 1 channel(s); depth is a PNG of 16 bits and 1 channel: convert it, or say how many metres its "
                    "255 stands for, with data.depth_at_255",
                )
            scale = self.at_255 / 255
        elif raw.dtype.kind == "f":
            scale = 1.0 if self.scale is None else self.scale
        with np.errstate(over="ignore", invalid="ignore"):  # what is beyond float32 is infinite
            depth = raw.astype(np.float32) * np.float32(scale)
        depth[(raw == self.invalid) | ~np.isfinite(depth) | (depth <= 0)] = 0
        return depth


def load_pair(picture: Path, depth_file: Path, coding: DepthCoding) -> tuple[np.ndarray, np.ndarray]:
    """RGB (H, W, 3) uint8 and depth (h, w) float32 metres, 0 = invalid, of one view. DataError names the bad file."""
    return checked_pair(read_rgb(picture), read_depth(depth_file, coding), picture.name, depth_file)


def checked_pair(image: np.ndarray, depth: np.ndarray, name: str, path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Both, unless their aspect ratios say that they show different views; `path` is the depth's, `name` the picture's."""
    (height, width), (rows, columns) = image.shape[:2], depth.shape
    if abs(height * columns / (width * rows) - 1) > SAME_VIEW:
        raise BadFileError(
            path,
            f"is {columns}x{rows}, but its picture NAME is {width}x{height}; both must show the same view, in one aspect ratio",
            name,
        )
    return image, depth


def read_depth(path: Path, coding: DepthCoding) -> np.ndarray:
    """A depth file as (H, W) float32 metres, 0 = invalid. DataError names a bad file."""
    return coding.metres(decode_depth(read_bytes(path), path, coding.dataset), path)


def decode_depth(data: bytes, path: Path, dataset: str | None = None) -> np.ndarray:
    """The numbers (H, W) that a depth file holds, given its bytes. DataError, by the path, where they are none."""
    by_content = (decode for start, decode in DECODERS.items() if data.startswith(start))
    decode = _png if path.suffix.lower() == ".png" else next(by_content, None)
    if decode is None:
        what = "is empty" if not data else "is none of the kinds of depth files that are read"
        raise BadFileError(path, f"{what} (PNG, PGM, PFM, NPY, TIFF, OpenEXR, HDF5); {ADVICE}")
    try:
        with warnings.catch_warnings():  # what is wrong, our errors say
            warnings.simplefilter("ignore")
            raw = decode(data, path, dataset)
    except (*DAMAGE, cv2.error, Image.DecompressionBombError):
        raise BadFileError(path, f"is truncated or damaged; {ADVICE}") from None
    return as_map(raw, path)


def as_map(raw: np.ndarray, path: Path) -> np.ndarray:
    """One depth map (H, W), of axes that are 1 freed. DataError for another shape."""
    flat = raw[..., 0] if raw.ndim == 3 and raw.shape[2] == 1 else raw[0] if raw.ndim == 3 and len(raw) == 1 else raw
    if flat.ndim != 2 or not flat.size:
        raise BadFileError(
            path, f"holds numbers of shape {raw.shape}; expected one depth map, of shape (height, width)"
        )
    return flat


def library(module: str, extra: str, path: Path) -> ModuleType:
    """A library that few need. DataError with what to install where it isn't there."""
    try:
        return import_module(module)
    except ImportError:
        raise DataError(f"{path} is read by {module}, which needs: pip install 'depth-loss-sweep[{extra}]'") from None


def require_size(shape: tuple[int, ...], path: Path) -> None:
    """Raise DataError where a header claims a size that no picture has, before memory is taken for it."""
    sides = [side for side in shape if side != 1] or [1]
    if fault := size_fault(sides[0], int(np.prod(sides[1:], dtype=object))):
        raise BadFileError(path, f"{fault}; {ADVICE}")


# One function a kind of file: bytes in, numbers out. What they raise of DAMAGE is a damaged file ------------------


def _jpeg(_: bytes, path: Path, __: str | None) -> np.ndarray:
    raise BadFileError(
        path, "is a JPEG, which depth does not survive; expected depth as a PNG of 16 bits and 1 channel"
    )


def _png(data: bytes, path: Path, _: str | None) -> np.ndarray:
    if data.startswith(JPEG_START):
        _jpeg(data, path, _)
    if data and not data.startswith(PNG_SIGNATURE):
        raise BadFileError(path, f"is no PNG, as its name says; {ADVICE}")
    raw = decode_picture(path, cv2.IMREAD_UNCHANGED, data=data)
    if raw.ndim != 2:
        raise BadFileError(
            path,
            f"has {8 * raw.dtype.itemsize} bits and {raw.shape[2]} channel(s); depth is a PNG of 16 bits and 1 channel: convert it",
        )
    return raw


def _npy(data: bytes, path: Path, _: str | None) -> np.ndarray:
    """A .npy file, read by its header (NumPy Enhancement Proposal 1), never by pickle."""
    file = io.BytesIO(data)
    read_header = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }[np.lib.format.read_magic(file)]
    shape, is_fortran, kind = read_header(file)
    require_size(shape, path)
    if kind.hasobject or kind.itemsize * int(np.prod(shape, dtype=object)) != len(data) - file.tell():
        raise ValueError
    return np.frombuffer(data, kind, offset=file.tell()).reshape(shape, order="F" if is_fortran else "C")


def _pgm(data: bytes, path: Path, _: str | None) -> np.ndarray:
    """A binary PGM (P5): 16 bits, high byte first, where its greatest value is above 255 (Netpbm's specification)."""
    header = PGM_HEADER.match(data)
    if header is None:
        raise ValueError
    width, height, most = map(int, header.groups())
    require_size((height, width), path)
    kind = np.dtype(">u2" if most > 255 else "u1")
    if height * width * kind.itemsize > len(data) - header.end():
        raise ValueError
    return np.frombuffer(data, kind, height * width, header.end()).reshape(height, width).astype(kind.newbyteorder("="))


def _pfm(data: bytes, path: Path, _: str | None) -> np.ndarray:
    """A PFM of one channel: float32, the lowest row first, low byte first where its scale is negative.

    How large the scale is counts for nothing, as in most readers. Source: Debevec, PFM Portable FloatMap Image Format.
    """
    header = PFM_HEADER.match(data)
    if header is None:
        raise ValueError
    width, height, scale = int(header[1]), int(header[2]), float(header[3])
    require_size((height, width), path)
    if data.startswith(b"PF"):
        raise BadFileError(path, "is a PFM of 3 channels; depth has one (Pf)")
    if not scale or height * width * 4 != len(data) - header.end():
        raise ValueError
    kind = "<f4" if scale < 0 else ">f4"
    return np.frombuffer(data, kind, offset=header.end()).reshape(height, width)[::-1].astype(np.float32)


def _tiff(data: bytes, path: Path, _: str | None) -> np.ndarray:
    """Looked at by Pillow and decoded by OpenCV, which alone is silent where pixels are damaged."""
    try:
        with Image.open(io.BytesIO(data), formats=["TIFF"]) as picture:
            mode, size = picture.mode, (picture.height, picture.width)
    except UnidentifiedImageError:
        mode, size = "unknown", (1, 1)
    require_size(size, path)
    if mode not in TIFF_MODES:
        raise BadFileError(path, f"is a TIFF of mode {mode}, or damaged; depth has one channel, of 16 or 32 bits")
    raw = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if raw is None:
        raise ValueError
    return raw


def _exr(_: bytes, path: Path, given: str | None) -> np.ndarray:
    """The depth channel of an OpenEXR file: the given one, its only one, or the likeliest of several."""
    if not path.is_file():
        raise BadFileError(
            path, "is OpenEXR, which is read from files of its own alone; store the depth as PNG, TIFF or NPY"
        )
    openexr = library("OpenEXR", "exr", path)
    with _silent(), openexr.File(str(path), header_only=True) as file:
        (left, top), (right, bottom) = file.header()["dataWindow"]
        require_size((int(bottom) - int(top) + 1, int(right) - int(left) + 1), path)
    with _silent(), openexr.File(str(path), separate_channels=True) as file:
        channels = {name: channel.pixels for name, channel in file.channels().items()}
    likely = [given] if given else [*channels] if len(channels) == 1 else _likely_depth(channels)
    if len(likely) == 1 and likely[0] in channels:
        return np.asarray(channels[likely[0]])
    wanted = (
        f"no channel {given!r}" if given else "several that may be depth" if likely else "none that is surely depth"
    )
    raise BadFileError(
        path, f"has the channels {', '.join(sorted(channels))}, {wanted}; name one with data.depth_field"
    )


@contextlib.contextmanager
def _silent() -> Iterator[None]:
    """Nothing is printed in here: OpenEXR says by itself, on both streams, what is wrong with a file, which our errors do."""
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)  # its library writes past Python's
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def _likely_depth(channels: Collection[str]) -> list[str]:
    """The channels that are likeliest depth: what is called so, then by the last letter; layers stand before it ("ViewLayer.Depth.Z").

    X, Y and Z of one layer are a vector, such as a normal.
    """
    ranked: dict[tuple[bool, int], list[str]] = {}
    for name in sorted(channels):
        layer, letter = name[: name.rfind(".") + 1], name.rpartition(".")[2]
        is_called = "depth" in name.lower()
        is_vector = letter in "XYZ" and all(f"{layer}{axis}" in channels for axis in "XYZ")
        if is_called or (letter in DEPTH_CHANNELS and not is_vector):
            place = DEPTH_CHANNELS.index(letter) if letter in DEPTH_CHANNELS else len(DEPTH_CHANNELS)
            ranked.setdefault((not is_called, place), []).append(name)
    return ranked[min(ranked)] if ranked else []


def _hdf5(data: bytes, path: Path, dataset: str | None) -> np.ndarray:
    with library("h5py", "hdf5", path).File(io.BytesIO(data), "r") as file:
        found = dataset_of(
            file, path, "depth", dataset, lambda each: len([side for side in each.shape if side != 1]) == 2
        )
        require_size(found.shape, path)
        return np.asarray(found[()])


def own_datasets(file: Any) -> dict[str, Any]:
    """The datasets of an open HDF5 file by name. Links and data that lie in other files are not followed: it speaks for itself.

    What is called #refs# and the like is MATLAB's own, thousands of little ones.
    """
    names: list[str] = []
    file.visit(lambda name: None if name.startswith("#") else names.append(name))
    found = {name: each for name in names if hasattr(each := file[name], "shape")}
    return {name: each for name, each in found.items() if not each.external and not each.is_virtual}


def dataset_of(file: Any, path: Path, what: str, given: str | None, fits: Callable[[Any], bool]) -> Any:
    """The dataset that is called as given, or the one that fits and alone does so or alone is called like `what`.

    `what` is "rgb" or "depth". DataError where there is none, or where the one that is called so doesn't fit.
    """
    own = own_datasets(file)
    fitting = [name for name, each in own.items() if each.dtype.kind in "fiu" and fits(each)]
    alike = [name for name in fitting if any(word in name.lower() for word in CALLED[what])]
    likely = [given] if given else alike if len(fitting) > 1 else fitting
    if len(likely) == 1 and likely[0] in fitting:
        return own[likely[0]]
    held = ", ".join(f"{name} {each.dtype} {each.shape}" for name, each in [*sorted(own.items())][:8])
    wanted = f"no dataset {given!r} that can be" if given else "no dataset that is beyond doubt"
    raise BadFileError(path, f"holds {wanted} the {what} (it holds {held or 'none'}); name it with data.{what}_field")


DECODERS: dict[bytes, Callable[[bytes, Path, str | None], np.ndarray]] = {
    PNG_SIGNATURE: _png,
    JPEG_START: _jpeg,
    b"\x93NUMPY": _npy,
    b"P5": _pgm,
    b"Pf": _pfm,
    b"PF": _pfm,
    b"II*\0": _tiff,
    b"MM\0*": _tiff,
    b"II+\0": _tiff,  # BigTIFF
    b"MM\0+": _tiff,
    b"v/1\x01": _exr,
    b"\x89HDF\r\n\x1a\n": _hdf5,
}
"""By how a file begins."""
