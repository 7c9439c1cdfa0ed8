"""Reading picture files strictly: whole ones with anything behind them, and no part of one."""

import os
import struct

import cv2
import numpy as np
import pytest

from depth_loss_sweep.data.errors import DataError
from depth_loss_sweep.data.pictures import read_rgb

TRAILERS = {
    "video": b"\0\0\0\x18ftypmp42" + b"....mdat\xff\xda\xff\xc0.." * 50,
    "scan marker": b"\xff\xda",
    "another picture": cv2.imencode(".jpg", np.zeros((8, 8, 3), np.uint8))[1].tobytes(),
    "zeros": bytes(5000),
    "noise": np.random.default_rng(3).integers(0, 256, 20_000, np.uint8).tobytes(),
}
CODINGS = {
    "baseline": [],
    "progressive": [cv2.IMWRITE_JPEG_PROGRESSIVE, 1],
    "restarts": [cv2.IMWRITE_JPEG_RST_INTERVAL, 1],
    "progressive with restarts": [cv2.IMWRITE_JPEG_PROGRESSIVE, 1, cv2.IMWRITE_JPEG_RST_INTERVAL, 2],
}


def jpeg(coding: str = "baseline", height: int = 40) -> bytes:
    """A JPEG of noise, so that its scans hold every kind of byte."""
    image = np.random.default_rng(0).integers(0, 255, (height, 56, 3)).astype(np.uint8)
    return cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 95, *CODINGS[coding]])[1].tobytes()


def with_thumbnail(data: bytes) -> bytes:
    """The picture with a whole JPEG in an APP1 segment, as cameras write it."""
    inner = b"Exif\0\0" + jpeg(height=8)
    return data[:2] + b"\xff\xe1" + struct.pack(">H", len(inner) + 2) + inner + data[2:]


@pytest.mark.parametrize("coding", CODINGS)
@pytest.mark.parametrize("trailer", TRAILERS)
def test_a_jpeg_ends_at_its_end(tmp_path, coding, trailer):
    """A motion photo is a whole JPEG with a video behind it, whatever bytes the video holds."""
    whole = with_thumbnail(jpeg(coding))
    for name, data in (("plain", whole), ("trailed", whole + TRAILERS[trailer])):
        (tmp_path / name).write_bytes(data)
    np.testing.assert_array_equal(read_rgb(tmp_path / "trailed"), read_rgb(tmp_path / "plain"))


@pytest.mark.parametrize("coding", CODINGS)
@pytest.mark.parametrize("thumbnail", [False, True])
def test_no_part_of_a_jpeg_is_whole(tmp_path, coding, thumbnail):
    """Cut anywhere, even behind its thumbnail's end or between two scans, it is refused."""
    whole = with_thumbnail(jpeg(coding)) if thumbnail else jpeg(coding)
    for length in range(2, len(whole) - 1, 97):
        (tmp_path / "x.jpg").write_bytes(whole[:length])
        with pytest.raises(DataError, match=r"x\.jpg is a truncated JPEG"):
            read_rgb(tmp_path / "x.jpg")


def test_a_cut_jpeg_before_another_picture_is_refused(tmp_path):
    """The end of the picture behind it is not its own."""
    (tmp_path / "x.jpg").write_bytes(jpeg()[:-200] + jpeg())
    with pytest.raises(DataError, match=r"x\.jpg is a (truncated|damaged) JPEG"):
        read_rgb(tmp_path / "x.jpg")


def test_fill_bytes_are_no_markers(tmp_path):
    """Any number of FF may stand before a marker."""
    whole = jpeg()
    (tmp_path / "x.jpg").write_bytes(whole[:2] + b"\xff\xff\xff" + whole[2:-2] + b"\xff\xff" + whole[-2:])
    assert read_rgb(tmp_path / "x.jpg").shape == (40, 56, 3)


def test_headers_of_nothing_are_refused(tmp_path):
    """A start and an end with no picture between, a segment shorter than its length, and a frame too large."""
    frame = struct.pack(">BHHB", 8, 60_000, 60_000, 0)
    bad = {
        b"\xff\xd8\xff\xd9": "holds no picture",
        b"\xff\xd8\xff\xe0\x00\x01": "unknown marker",
        b"\xff\xd8\xff\x10\x00\x02\xff\xd9": "unknown marker",
        b"\xff\xd8\xff\xe0\x10": "truncated",
        b"\xff\xd8\xff\xc0\x00\x08" + frame + b"\xff\xda\x00\x02\xff\xd9": "60000x60000",
    }
    for data, message in bad.items():
        (tmp_path / "x.jpg").write_bytes(data)
        with pytest.raises(DataError, match=message):
            read_rgb(tmp_path / "x.jpg")


@pytest.mark.parametrize(
    ("start", "name"), [(b"RIFF....WEBP", "WebP"), (b"\0\0\0\x18ftypheic", "HEIC"), (b"BM", "BMP")]
)
def test_other_kinds_of_pictures_are_called_by_name(tmp_path, start, name):
    """Whatever the suffix says, the message says what the file is."""
    (tmp_path / "x.jpg").write_bytes(start + os.urandom(40))
    with pytest.raises(DataError, match=f"is {name}.* neither PNG nor JPEG; replace it by a whole PNG or JPEG"):
        read_rgb(tmp_path / "x.jpg")
