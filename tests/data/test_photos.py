"""Photographs as people have them: read upright in any format, or refused in one line."""

import io
import subprocess
import sys
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from depth_loss_sweep.data.errors import DataError
from depth_loss_sweep.data.photos import check_photo, find_photos, read_photo
from depth_loss_sweep.data.pictures import read_rgb
from depth_loss_sweep.data.png import encode_png, is_our_png

ORIENTATION = 0x0112
LOSSLESS = ("PNG", "TIFF", "BMP", "WEBP", "PPM", "JPEG2000")
LOSSY = ("JPEG", "AVIF", "GIF")


@pytest.fixture(scope="module")
def seen() -> np.ndarray:
    """A smooth picture, 32 high and 48 wide, no two corners of which are alike."""
    corners = np.array([[[250, 20, 20], [20, 250, 20]], [[20, 20, 250], [240, 240, 60]]], np.uint8)
    return cv2.resize(corners, (48, 32), interpolation=cv2.INTER_LINEAR)


def written(path: Path, picture: Image.Image, kind: str, **options) -> Path:
    picture.save(path, kind, **options)
    return path


def stored(seen: np.ndarray, orientation: int) -> tuple[Image.Image, Image.Exif]:
    """The picture as a camera stores it, with the tag that tells how to turn it."""
    turns = {
        2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180, 4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_90, 7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }  # fmt: skip
    picture, tag = Image.fromarray(seen), Image.Exif()
    tag[ORIENTATION] = orientation
    return (picture.transpose(turns[orientation]) if orientation in turns else picture), tag


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP"])
def test_a_tagged_photograph_is_read_as_it_is_seen(seen, tmp_path: Path, kind: str, orientation: int) -> None:
    """Whichever way the camera was held, in every format that carries the tag."""
    picture, tag = stored(seen, orientation)
    path = written(tmp_path / "photo", picture, kind, exif=tag, quality=95)
    np.testing.assert_allclose(read_photo(path), seen, atol=25)


@pytest.mark.parametrize("kind", [*LOSSLESS, *LOSSY])
def test_a_format_is_told_by_its_content(seen, tmp_path: Path, kind: str) -> None:
    """A wrong suffix, or none, doesn't matter."""
    options = {"lossless": True} if kind == "WEBP" else {}
    path = written(tmp_path / "photo.txt", Image.fromarray(seen), kind, **options)
    check_photo(path)
    np.testing.assert_allclose(read_photo(path), seen, atol=0 if kind in LOSSLESS else 40)


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_plain_pictures_are_those_of_training(seen, tmp_path: Path, kind: str, mode: str) -> None:
    """JPEG and PNG without a tag have the same bits as the same file has as a training picture."""
    path = written(tmp_path / "photo", Image.fromarray(seen).convert(mode), kind)
    np.testing.assert_array_equal(read_photo(path), read_rgb(path))


def test_sixteen_bits_become_eight(seen, tmp_path: Path) -> None:
    """16-bit PNG and TIFF, in colour and in grey, lose the lower bits and nothing else."""
    wide = seen.astype(np.uint16) * 257
    cv2.imwrite(str(tmp_path / "colour.png"), wide[..., ::-1])
    cv2.imwrite(str(tmp_path / "colour.tiff"), wide[..., ::-1])
    cv2.imwrite(str(tmp_path / "grey.png"), wide[..., 0])
    cv2.imwrite(str(tmp_path / "grey.tiff"), wide[..., 0])
    for suffix in ("png", "tiff"):
        np.testing.assert_allclose(read_photo(tmp_path / f"colour.{suffix}"), seen, atol=1)
        grey = np.repeat(seen[..., :1], 3, axis=2)
        np.testing.assert_allclose(read_photo(tmp_path / f"grey.{suffix}"), grey, atol=1)


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "TIFF"])
def test_what_is_transparent_is_white(seen, tmp_path: Path, kind: str) -> None:
    """A cut-out is seen on white, whatever colour hides beneath."""
    cut_out = np.dstack([seen, np.full(seen.shape[:2], 255, np.uint8)])
    cut_out[:, :20, 3] = 0
    path = written(tmp_path / "photo", Image.fromarray(cut_out), kind, **({"lossless": True} if kind == "WEBP" else {}))
    found = read_photo(path)
    assert (found[:, :20] == 255).all()
    np.testing.assert_array_equal(found[:, 20:], seen[:, 20:])


def test_palette_and_cmyk_keep_their_colours(seen, tmp_path: Path) -> None:
    """Few colours, with and without a transparent one, and the four of printers."""
    picture = Image.fromarray(seen)
    palette = picture.quantize(64)
    for name, path in {
        "palette": written(tmp_path / "1", palette, "PNG"),
        "transparent": written(tmp_path / "2", palette, "PNG", transparency=255),
        "cmyk": written(tmp_path / "3", picture.convert("CMYK"), "JPEG", quality=95),
    }.items():
        assert np.abs(read_photo(path).astype(int) - seen).mean() < 12, name


def test_heic_is_read(seen, tmp_path: Path) -> None:
    """What phones write, with the optional package."""
    pillow_heif = pytest.importorskip("pillow_heif")
    pillow_heif.from_pillow(Image.fromarray(seen)).save(str(tmp_path / "photo"), quality=95)
    np.testing.assert_allclose(read_photo(tmp_path / "photo"), seen, atol=30)


def test_heic_without_its_package_says_what_to_install(tmp_path: Path) -> None:
    """In one line; as a process of its own, in which the package cannot be imported."""
    (tmp_path / "photo.jpg").write_bytes(b"\0\0\0\x18ftypheic" + b"\0" * 40)
    code = "import sys; sys.modules['pillow_heif'] = None; from depth_loss_sweep.data.photos import read_photo; from pathlib import Path\n"
    code += f"try: read_photo(Path({str(tmp_path / 'photo.jpg')!r}))\nexcept Exception as e: print(type(e).__name__, e)"
    found = subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[2], capture_output=True, text=True)
    assert found.stdout.startswith("DataError ") and "pip install 'depth-loss-sweep[heic]'" in found.stdout, (
        found.stderr
    )


def png_of(width: int, height: int) -> bytes:
    """A PNG that claims so many pixels and holds none."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return len(content).to_bytes(4) + kind + content + zlib.crc32(kind + content).to_bytes(4)

    header = width.to_bytes(4) + height.to_bytes(4) + bytes([8, 2, 0, 0, 0])
    pixels = zlib.compress(b"\0")
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def test_bad_files_are_one_line_each(seen, tmp_path: Path) -> None:
    """Missing, empty, no picture, a folder, a bomb, a raw file's thumbnail: named, with what is wrong."""
    bomb = io.BytesIO()
    Image.fromarray(seen).save(bomb, "BMP")
    thumbnail = io.BytesIO()
    Image.fromarray(seen).save(thumbnail, "TIFF", tiffinfo={254: 1})
    for content, words in (
        (None, "missing"),
        (b"", "empty"),
        (b"hello", "no picture"),
        (png_of(60_000, 60_000), "pixels"),
        (bomb.getvalue()[:18] + (50_000).to_bytes(4, "little") * 2 + bomb.getvalue()[26:], "pixels"),
        (thumbnail.getvalue(), "thumbnail"),
    ):
        path = tmp_path / "two\nwords.jpg"
        if content is not None:
            path.write_bytes(content)
        for read in (check_photo, read_photo):
            with pytest.raises(DataError, match=words) as caught:
                read(path)
            assert str(path) in str(caught.value)
    with pytest.raises(DataError, match="directory"):
        read_photo(tmp_path)


@pytest.mark.parametrize("kind", [*LOSSLESS, *LOSSY])
def test_a_truncated_photograph_is_refused(seen, tmp_path: Path, kind: str) -> None:
    """Nothing is predicted from half a picture."""
    path = written(tmp_path / "photo", Image.fromarray(seen), kind)
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])
    with pytest.raises(DataError, match="photo"):
        read_photo(path)


def test_a_folder_gives_its_photographs(seen, tmp_path: Path) -> None:
    """All pictures in it, by content; not depth, measured or predicted, not other files, not folders below, not hidden ones."""
    picture = Image.fromarray(seen)
    for name in ("b.jpg", "a.txt", ".hidden.jpg", "only_depth.png"):
        written(tmp_path / name, picture, "JPEG")
    cv2.imwrite(str(tmp_path / "b_depth.png"), np.ones((32, 48), np.uint16))
    (tmp_path / "elsewhere_depth_colour.png").write_bytes(encode_png(seen, "predicted depth in colour"))
    (tmp_path / "README").write_text("hello")
    (tmp_path / "below").mkdir()
    written(tmp_path / "below" / "c.jpg", picture, "JPEG")
    photos, left_out = find_photos([tmp_path, tmp_path / "b.jpg", tmp_path / "README"])
    assert [path.name for path in photos] == ["a.txt", "b.jpg", "only_depth.png", "README"]
    assert [path.name for path in left_out] == ["README", "b_depth.png", "elsewhere_depth_colour.png"]
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="holds no photographs"):
        find_photos([tmp_path / "empty"])


def test_a_png_says_what_it_is(seen, tmp_path: Path) -> None:
    """Its texts are read back, its pixels are untouched, and any reader takes it."""
    path = tmp_path / "x.png"
    path.write_bytes(encode_png(seen, "preview", depth_scale="1/256"))
    np.testing.assert_array_equal(cv2.imread(str(path)), seen)
    assert is_our_png(path) and is_our_png(path, "preview") and not is_our_png(path, "predicted depth")
    check_photo(path)
    with Image.open(path) as picture:
        assert picture.info["depth_scale"] == "1/256"
    cv2.imwrite(str(path), seen)
    assert not is_our_png(path) and not is_our_png(tmp_path / "none.png")
