"""Reading picture files strictly: whole ones with anything behind them, and no part of one."""

import os
import struct

import cv2
import numpy as np
import pytest
from PIL import Image

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
    ("start", "name"),
    [(b"GIF89a", "GIF"), (b"\0\0\0\x18ftypheic", "HEIC"), (b"BM", "BMP"), (b"P3\n1 1", "PPM of digits")],
)
def test_other_kinds_of_pictures_are_called_by_name(tmp_path, start, name):
    """Whatever the suffix says, the message says what the file is."""
    (tmp_path / "x.jpg").write_bytes(start + os.urandom(40))
    with pytest.raises(
        DataError, match=f"is {name}.* neither PNG, JPEG, WebP nor PPM; replace it by a whole PNG or JPEG"
    ):
        read_rgb(tmp_path / "x.jpg")


# WebP and PPM ----------------------------------------------------------------------------------------------------


def saved(path, numbers, **options):
    """A picture as Pillow writes it, and its bytes."""
    Image.fromarray(numbers).save(path, **options)
    return path.read_bytes()


def colours(height=13, width=17):
    """A picture of noise, in which every channel, row and column differs."""
    return np.random.default_rng(0).integers(0, 255, (height, width, 3), dtype=np.uint8)


@pytest.mark.parametrize("name", ["x.webp", "x.ppm", "x.jpg"])
def test_webp_and_ppm_are_read_as_they_were_written(tmp_path, name):
    """Told by content: channels, rows and columns stand where they stood."""
    kind = "WEBP" if name == "x.webp" else "PPM"
    saved(tmp_path / name, colours(), format=kind, **({"lossless": True} if kind == "WEBP" else {}))
    np.testing.assert_array_equal(read_rgb(tmp_path / name), colours())


def test_a_lossy_webp_and_one_with_transparency_are_read(tmp_path):
    """As their own reader shows them; what is transparent has the colour that is stored."""
    saved(tmp_path / "x.webp", colours(), quality=95)
    assert np.abs(read_rgb(tmp_path / "x.webp").astype(int) - np.asarray(Image.open(tmp_path / "x.webp"))).max() <= 3
    clear = np.dstack([colours(), np.full((13, 17), 100, np.uint8)])
    saved(tmp_path / "y.webp", clear, lossless=True, exact=True)
    np.testing.assert_array_equal(read_rgb(tmp_path / "y.webp"), colours())


def test_a_ppm_may_have_comments(tmp_path):
    """Anywhere in its head, as some programs write them."""
    (tmp_path / "x.ppm").write_bytes(b"P6 # of a camera\n17\n# high\n13 255\n" + colours().tobytes())
    np.testing.assert_array_equal(read_rgb(tmp_path / "x.ppm"), colours())


def test_bad_webp_and_ppm_are_one_line(tmp_path):
    """Cut anywhere, claiming too much, of several pictures or more bits: what is wrong, and what to do."""
    webp = saved(tmp_path / "x", colours(), format="WEBP", lossless=True)
    several = tmp_path / "several"
    frames = [Image.fromarray(colours() // 2 + number) for number in (0, 120)]
    frames[0].save(several, format="WEBP", save_all=True, append_images=frames[1:])
    pixels = colours().tobytes()
    bad = [
        (several.read_bytes(), "is a WebP of several pictures"),
        (webp[:4] + b"\xff\xff\xff\x7f" + webp[8:], "is a truncated WebP"),
        (webp[:4] + (12).to_bytes(4, "little") + webp[8:], "is a damaged WebP"),
        (webp[:12] + b"VP9 " + webp[16:], "is a damaged WebP"),
        (webp[:21] + b"\xff\xff\xff\xff" + webp[25:], "cannot be decoded"),
        (b"RIFF\x04\0\0\0WEBP", "is a damaged WebP"),
        (b"P6\n17 13\n65535\n" + pixels * 2, "is a PPM whose greatest value is 65535, and 255 is expected"),
        (b"P6\n17 13 255\n" + pixels[:-1], "is a truncated PPM"),
        (b"P6\n999999999 999999999 255\n" + pixels, "claims to have 999999999x999999999 pixels"),
        (b"P6\n17 -13 255\n" + pixels, "is a damaged PPM (it has no header)"),
        *((webp[:length], "") for length in range(0, len(webp), 23)),
    ]
    for content, words in bad:
        (tmp_path / "x.png").write_bytes(content)
        with pytest.raises(DataError) as caught:
            read_rgb(tmp_path / "x.png")
        assert words in str(caught.value) and "replace it by a whole PNG or JPEG" in str(caught.value)
