"""Reading picture files strictly: OpenCV fills up a truncated file with grey and says so on stderr only."""

import re
import struct
import zlib
from pathlib import Path

import cv2
import numpy as np

from depth_loss_sweep.data.errors import BadFileError, reading

cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)  # what is wrong, our errors say

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
JPEG_START, JPEG_END, JPEG_SCAN = b"\xff\xd8", 0xD9, 0xDA
JPEG_FRAMES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}
JPEG_LEAST = 0xC0
"""Markers below are reserved."""
JPEG_MARKER = re.compile(rb"\xff[^\x00\x01\xd0-\xd7\xff]")
"""The next marker that isn't a stuffed byte, a restart or a fill byte: within a scan, that is what ends it."""
RIFF, WEBP = b"RIFF", b"WEBP"
ANIMATED = 0x02
"""The flag of an extended WebP file (VP8X) that holds several pictures."""

PPM_START = b"P6"
PPM_HEADER = re.compile(rb"P6(?:\s|#[^\n]*\n)+(\d{1,9})(?:\s|#[^\n]*\n)+(\d{1,9})(?:\s|#[^\n]*\n)+(\d{1,5})\s")
OTHERS = {
    b"GIF8": "GIF",
    b"BM": "BMP",
    b"II*\0": "TIFF",
    b"MM\0*": "TIFF",
    b"v/1\x01": "OpenEXR",
    b"P3": "PPM of digits",
}
EXPECTED = "neither PNG, JPEG, WebP nor PPM"
HEIC = (b"ftyphei", b"ftyphev", b"ftypmif", b"ftypmsf", b"ftypavi")
MOST_PIXELS = 1 << 28
"""A header is believed up to this size; a few bytes can claim so many pixels that decoding them takes all memory."""

ADVICE = "replace it by a whole PNG or JPEG, or move it away with its pair"


def read_rgb(path: Path, data: bytes | None = None) -> np.ndarray:
    """A JPEG, PNG, WebP or PPM as (H, W, 3) uint8 RGB, as stored: an orientation tag is ignored. DataError for a bad file.

    `data` are its bytes where they are known; the path then says what they are called.
    """
    picture = decode_picture(path, cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION, data=data)
    return cv2.cvtColor(picture, cv2.COLOR_BGR2RGB)


def is_depth_png(path: Path) -> bool:
    """Whether a file is a PNG of 16 bits and one channel, by its header (PNG specification, section 11.2.2). DataError if unreadable."""
    with reading(path), path.open("rb") as file:
        header = file.read(26)
    return header.startswith(PNG_SIGNATURE) and header[24:26] == b"\x10\x00"


def decode_picture(path: Path, flags: int, advice: str = ADVICE, data: bytes | None = None) -> np.ndarray:
    """A JPEG, PNG, WebP or PPM, decoded by OpenCV with these flags. DataError, with the advice, for a bad file."""
    data = check_picture(path, advice, data)
    try:
        picture = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error:
        picture = None
    if picture is None:
        raise BadFileError(path, f"cannot be decoded; {advice}")
    return picture


def check_picture(path: Path, advice: str = ADVICE, data: bytes | None = None) -> bytes:
    """The bytes of a picture file that is whole, as far as can be told without decoding it; DataError for another."""
    data = read_bytes(path) if data is None else data
    fault = _fault(data)
    if fault is not None:
        raise BadFileError(path, f"{fault}; {advice}")
    return data


def read_bytes(path: Path) -> bytes:
    """What a file holds. DataError if it can't be read."""
    with reading(path):
        return path.read_bytes()


def _fault(data: bytes) -> str | None:
    if not data:
        return "is empty"
    if data.startswith(PNG_SIGNATURE):
        return _png_fault(data)
    if data.startswith(JPEG_START):
        return _jpeg_fault(data)
    if data.startswith(RIFF) and data[8:12] == WEBP:
        return _webp_fault(data)
    if data.startswith(PPM_START):
        return _ppm_fault(data)
    other = next((name for start, name in OTHERS.items() if data.startswith(start)), None)
    other = "HEIC or AVIF" if data[4:12].startswith(HEIC) else other
    return f"is {other}, {EXPECTED}" if other else f"is {EXPECTED}"


def size_fault(height: int, width: int) -> str | None:
    """What is wrong with a picture's size, if anything is."""
    return f"claims to have {width}x{height} pixels" if not 0 < height * width <= MOST_PIXELS else None


def _jpeg_fault(data: bytes) -> str | None:
    """Walks a JPEG's markers up to its end of image (ITU T.81, annex B); what follows, such as a video, is not looked at.

    Segments, and thumbnails in them, are stepped over; within a scan, stuffed bytes and restarts are no markers.
    """
    place, size, scanned = len(JPEG_START), None, False
    while found := JPEG_MARKER.search(data, place):
        marker, place = data[found.end() - 1], found.end()
        if marker == JPEG_END:
            return size_fault(*size) if size and scanned else "is a damaged JPEG (it holds no picture)"
        if marker == JPEG_START[1] or place + 2 > len(data):
            break  # the next picture begins: this one has no end
        (length,) = struct.unpack_from(">H", data, place)
        if marker < JPEG_LEAST or length < 2:
            return "is a damaged JPEG (it has an unknown marker)"
        if marker in JPEG_FRAMES and place + 7 <= len(data):
            size = struct.unpack_from(">HH", data, place + 3)
        scanned, place = scanned or marker == JPEG_SCAN, place + length
    return "is a truncated JPEG"


def _webp_fault(data: bytes) -> str | None:
    """Walks a WebP's chunks (type, length, data; RFC 9649, section 2) to its end. Its pixels have no checksum."""
    end, place, size = 8 + int.from_bytes(data[4:8], "little"), 12, None
    if end > len(data):
        return "is a truncated WebP"
    while place + 8 <= end:
        kind, length = struct.unpack_from("<4sI", data, place)
        body, place = data[place + 8 : place + 18], place + 8 + length + length % 2
        if kind == b"VP8X" and body[:1] and body[0] & ANIMATED:
            return "is a WebP of several pictures"
        if kind in (b"VP8 ", b"VP8L") and place <= end + 1:  # some leave the last byte of filling out
            size = _webp_size(kind, body)
    return size_fault(*size) if size and end <= place <= end + 1 else "is a damaged WebP"


def _webp_size(kind: bytes, body: bytes) -> tuple[int, int] | None:
    """Height and width by the first bytes of a WebP's picture: lossy (RFC 6386, section 9.1) or lossless (RFC 9649, section 3)."""
    if kind == b"VP8 " and body[3:6] == b"\x9d\x01\x2a" and len(body) == 10:
        width, height = struct.unpack_from("<HH", body, 6)
        return height & 0x3FFF, width & 0x3FFF
    if kind == b"VP8L" and body[:1] == b"\x2f" and len(body) >= 5:
        bits = int.from_bytes(body[1:5], "little")
        return (bits >> 14 & 0x3FFF) + 1, (bits & 0x3FFF) + 1
    return None


def _ppm_fault(data: bytes) -> str | None:
    """A binary PPM (P6) of 8 bits, with as many bytes as it says (Netpbm's specification)."""
    header = PPM_HEADER.match(data)
    if header is None:
        return "is a damaged PPM (it has no header)"
    width, height, most = map(int, header.groups())
    if most != 255:
        return f"is a PPM whose greatest value is {most}, and 255 is expected"
    fault = size_fault(height, width)
    return fault or ("is a truncated PPM" if len(data) < header.end() + 3 * height * width else None)


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
            return size_fault(height, width)
        place = end
    return "is a truncated PNG"
