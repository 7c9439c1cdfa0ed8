"""Reading picture files strictly: OpenCV fills up a truncated file with grey and says so on stderr only."""

import struct
import zlib
from pathlib import Path

import cv2
import numpy as np

from data.errors import DataError

cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)  # what is wrong, our errors say

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
JPEG_START, JPEG_SCAN, JPEG_END = b"\xff\xd8", b"\xff\xda", b"\xff\xd9"
JPEG_FRAMES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}
JPEG_BARE = {0x00, 0x01, *range(0xD0, 0xD9), 0xFF}  # no segment follows these
MOST_PIXELS = 1 << 28
"""A header is believed up to this size; a few bytes can claim so many pixels that decoding them takes all memory."""


def read_rgb(path: Path) -> np.ndarray:
    """A JPEG or PNG as (H, W, 3) uint8 RGB, as stored: an orientation tag is ignored. DataError for a bad file."""
    picture = _decode(path, cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
    return cv2.cvtColor(picture, cv2.COLOR_BGR2RGB)


def read_depth_png(path: Path) -> np.ndarray:
    """A 16-bit PNG of one channel as (H, W) uint16. DataError for a bad file or another kind of picture."""
    picture = _decode(path, cv2.IMREAD_UNCHANGED)
    if picture.dtype != np.uint16 or picture.ndim != 2:
        channels = 1 if picture.ndim == 2 else picture.shape[2]
        bits = 8 * picture.dtype.itemsize
        raise DataError(f"{path} has {bits} bits and {channels} channel(s); depth is a PNG of 16 bits and 1 channel")
    return picture


def _decode(path: Path, flags: int) -> np.ndarray:
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise DataError(f"{path} is missing") from None
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from None
    fault = _fault(data)
    if fault is None:
        try:
            picture = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
        except cv2.error:
            picture = None
        if picture is not None:
            return picture
        fault = "cannot be decoded"
    raise DataError(f"{path} {fault}; replace it, or remove it together with its pair")


def _fault(data: bytes) -> str | None:
    if not data:
        return "is empty"
    if data.startswith(PNG_SIGNATURE):
        return _png_fault(data)
    if data.startswith(JPEG_START):
        # Marker bytes can't occur within a scan, but whole pictures can within the header (thumbnails): hence
        # the end is looked for behind the last scan's start.
        scan = data.rfind(JPEG_SCAN)
        return _size_fault(*_jpeg_size(data)) if scan >= 0 and data.find(JPEG_END, scan) >= 0 else "is a truncated JPEG"
    return "is neither PNG nor JPEG"


def _size_fault(height: int, width: int) -> str | None:
    return f"claims to have {width}x{height} pixels" if not 0 < height * width <= MOST_PIXELS else None


def _jpeg_size(data: bytes) -> tuple[int, int]:
    """Height and width of a JPEG's first frame (ITU T.81, section B.2.2); zeros where it has none."""
    place = len(JPEG_START)
    while (place := data.find(b"\xff", place)) >= 0 and place + 9 <= len(data):
        marker, length, height, width = struct.unpack_from(">xBHxHH", data, place)
        if marker in JPEG_FRAMES:
            return height, width
        place += 1 if marker in JPEG_BARE else 2 + length
    return 0, 0


def _png_fault(data: bytes) -> str | None:
    """Walks a PNG's chunks (length, type, data, CRC; PNG specification, section 5) up to IEND."""
    place = len(PNG_SIGNATURE)
    if data[place + 4 : place + 8] != b"IHDR" or len(data) < place + 16:
        return "is a damaged PNG (it has no header)"
    width, height = struct.unpack_from(">II", data, place + 8)
    while place + 12 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, place)
        end = place + 12 + length
        if end > len(data):
            break
        if zlib.crc32(data[place + 4 : end - 4]) != struct.unpack_from(">I", data, end - 4)[0]:
            return "is a damaged PNG (a checksum is wrong)"
        if kind == b"IEND":
            return _size_fault(height, width)
        place = end
    return "is a truncated PNG"
