"""Photographs as people have them, read as they are seen: upright, in any format, told by content and not by suffix.

Unlike training pictures, whose depth lies as they are stored. JPEG and PNG go through the decoder of training pictures;
the rest, and what that decoder would show otherwise (transparency, CMYK), through Pillow.
"""

import contextlib
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from depth_loss_sweep.data.errors import DAMAGE, DataError
from depth_loss_sweep.data.pictures import MOST_PIXELS, check_picture, decode_picture, size_fault
from depth_loss_sweep.data.png import is_our_png

Image.MAX_IMAGE_PIXELS = MOST_PIXELS // 2  # Pillow refuses twice as many; its own limit is below what phones take

FORMATS = ("JPEG", "PNG", "WEBP", "TIFF", "BMP", "GIF", "AVIF", "JPEG2000", "PPM")
HEIF_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
DEPTH_ENDINGS = ("_depth", "_depth_colour")
"""What a picture's name goes on with in the names of its depth, measured or predicted."""

ADVICE = "replace it, or leave it out"
WHITE = (255, 255, 255, 255)
REDUCED = 254  # TIFF 6.0, section 8, NewSubfileType: the first picture of a camera's raw file is its thumbnail


def find_photos(given: Iterable[Path]) -> tuple[list[Path], list[Path]]:
    """The files given and, of each folder given, the photographs in it; beside them the files of folders left out.

    Left out are what is no picture, what this program made, and depth that lies beside its picture. Each is listed once.
    """
    photos, left_out = [], []
    for path in given:
        inside = _visible_files(path) if path.is_dir() else []
        chosen = _photos_among(inside) if path.is_dir() else [path]
        if not chosen:
            raise DataError(f"the folder {path} holds no photographs; give pictures, or a folder of them")
        photos += chosen
        left_out += [file for file in inside if file not in set(chosen)]
    return list(dict.fromkeys(photos)), left_out


def read_photo(path: Path) -> np.ndarray:
    """A photograph as (H, W, 3) uint8 RGB, upright; what is transparent is white. DataError for a bad file."""
    with _opened(path) as picture:
        if _as_training_pictures(picture):
            return cv2.cvtColor(decode_picture(path, cv2.IMREAD_COLOR, ADVICE), cv2.COLOR_BGR2RGB)
        return np.asarray(_flat(ImageOps.exif_transpose(picture)))


def check_photo(path: Path) -> None:
    """Raise DataError where a file is no photograph, or damaged as far as can be told without decoding it."""
    with _opened(path) as picture:
        if picture.format in ("JPEG", "MPO", "PNG"):
            check_picture(path, ADVICE)


def _as_training_pictures(picture: Image.Image) -> bool:
    is_plain = picture.mode != "CMYK" and not picture.has_transparency_data
    return is_plain and picture.format in ("JPEG", "MPO", "PNG")


def _flat(picture: Image.Image) -> Image.Image:
    """The picture in RGB of 8 bits, on white."""
    if picture.mode.startswith("I;16"):
        picture = Image.fromarray((np.asarray(picture) >> 8).astype(np.uint8))
    if picture.mode in ("I", "F"):
        raise ValueError("32 bits a pixel are no photograph's")
    if not picture.has_transparency_data:
        return picture.convert("RGB")
    cut_out = picture.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", cut_out.size, WHITE), cut_out).convert("RGB")


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    """A picture file, its header read. What Pillow raises on a damaged one, now or when it is decoded, is a DataError."""
    try:
        with warnings.catch_warnings():  # what is wrong, our errors say
            warnings.simplefilter("ignore")
            with _identified(path) as picture:
                if fault := size_fault(picture.height, picture.width) or _thumbnail_fault(picture):
                    raise DataError(f"{path} {fault}; {ADVICE}")
                yield picture
    except FileNotFoundError:
        raise DataError(f"{path} is missing") from None
    except Image.DecompressionBombError:
        raise DataError(f"{path} claims to have more than {MOST_PIXELS} pixels; {ADVICE}") from None
    except UnidentifiedImageError:
        raise DataError(f"{path} {'is empty' if not path.stat().st_size else 'is no picture'}; {ADVICE}") from None
    except DAMAGE as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else "it is damaged or of a rare kind"
        raise DataError(f"{path} cannot be read: {reason}; {ADVICE}") from None


def _thumbnail_fault(picture: Image.Image) -> str | None:
    is_reduced = picture.format == "TIFF" and picture.tag_v2.get(REDUCED, 0) & 1  # type: ignore[attr-defined]
    return "begins with a thumbnail, as cameras' raw files do: convert it" if is_reduced else None


def _identified(path: Path) -> Image.Image:
    try:
        return Image.open(path, formats=FORMATS)
    except UnidentifiedImageError:
        if not _is_heif(path):
            raise
    try:
        from pillow_heif import register_heif_opener
    except ImportError:
        raise DataError(f"{path} is a HEIC picture, which needs: pip install 'depth-loss-sweep[heic]'") from None
    register_heif_opener()
    return Image.open(path, formats=["HEIF"])


def _is_heif(path: Path) -> bool:
    """Whether a file is an ISO media file of a HEIF brand (ISO/IEC 23008-12, section 10)."""
    with path.open("rb") as file:
        start = file.read(12)
    return start[4:8] == b"ftyp" and start[8:] in HEIF_BRANDS


# Folders ---------------------------------------------------------------------------------------------------------


def _visible_files(folder: Path) -> list[Path]:
    try:
        return sorted(path for path in folder.iterdir() if path.is_file() and not path.name.startswith("."))
    except OSError as error:
        raise DataError(f"the folder {folder} cannot be read: {error.strerror}") from None


def _photos_among(files: list[Path]) -> list[Path]:
    names = {path.stem for path in files}
    return [path for path in files if not _is_depth(path, names) and _is_picture(path) and not is_our_png(path)]


def _is_depth(path: Path, names: set[str]) -> bool:
    return any(path.stem.removesuffix(ending) in names - {path.stem} for ending in DEPTH_ENDINGS)


def _is_picture(path: Path) -> bool:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            Image.open(path, formats=FORMATS).close()
    except UnidentifiedImageError:
        return _is_heif(path)
    except (*DAMAGE, Image.DecompressionBombError):
        return True  # a picture, if a bad one: it is named when it is read
    return True
