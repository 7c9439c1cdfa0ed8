"""Depth files of every kind: the metres they hold, and one line for what is none."""

import io
import re
import sys
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from depth_loss_sweep.data.depth import DepthCoding, read_depth
from depth_loss_sweep.data.errors import DataError
from depth_loss_sweep.data.guess import suggestion
from depth_loss_sweep.data.prepare import prepare
from depth_loss_sweep.data.settings import DataSettings
from depth_loss_sweep.data.sources import open_source

from .conftest import write_pair


def _png(path: Path, numbers: np.ndarray) -> None:
    cv2.imwrite(str(path), numbers)


def _pgm(path: Path, numbers: np.ndarray) -> None:
    height, width = numbers.shape
    path.write_bytes(b"P5\n# by a camera\n%d %d\n65535\n" % (width, height) + numbers.astype(">u2").tobytes())


def _pfm(path: Path, numbers: np.ndarray, scale: float = -1.0) -> None:
    kind = "<f4" if scale < 0 else ">f4"
    height, width = numbers.shape
    path.write_bytes(f"Pf\n{width} {height}\n{scale}\n".encode() + numbers[::-1].astype(kind).tobytes())


def _tiff(path: Path, numbers: np.ndarray) -> None:
    Image.fromarray(numbers).save(path, "TIFF", compression="tiff_deflate")


def _exr(path: Path, numbers: np.ndarray) -> None:
    openexr = pytest.importorskip("OpenEXR", reason="OpenEXR is an extra")
    header = {"compression": openexr.ZIP_COMPRESSION, "type": openexr.scanlineimage}
    openexr.File(header, {"V": numbers, "A": np.ones_like(numbers)}).write(str(path))


def _hdf5(path: Path, numbers: np.ndarray) -> None:
    h5py = pytest.importorskip("h5py", reason="h5py is an extra")
    with h5py.File(path, "w") as file:
        file["dataset"] = numbers


WHOLE: dict[str, Callable[[Path, np.ndarray], None]] = {"x.png": _png, "x.pgm": _pgm, "x.npy": np.save, "x.tif": _tiff}
FRACTIONS: dict[str, Callable[[Path, np.ndarray], None]] = {
    "x.npy": np.save,
    "x.tiff": _tiff,
    "x.exr": _exr,
    "x.pfm": _pfm,
    "x.h5": _hdf5,
}


@pytest.mark.parametrize("name", WHOLE)
def test_whole_numbers_count_in_the_layouts_unit(tmp_path, name):
    """Millimetres or 1/5000 m, unless the settings say otherwise; 0 and the invalid value are no depth."""
    numbers = np.array([[0, 1000, 2000], [5000, 60000, 65535]], np.uint16)
    WHOLE[name](tmp_path / name, numbers)
    coding = DepthCoding(unit=1 / 5000, invalid=65535)
    np.testing.assert_allclose(read_depth(tmp_path / name, coding), [[0, 0.2, 0.4], [1, 12, 0]], rtol=1e-6)
    centimetres = DepthCoding(unit=1 / 5000, scale=0.01)
    np.testing.assert_allclose(read_depth(tmp_path / name, centimetres), numbers * 0.01, rtol=1e-6)


@pytest.mark.parametrize("name", FRACTIONS)
def test_fractions_are_metres(tmp_path, name):
    """What is not finite or not above 0 is no depth; a scale counts where it is given."""
    numbers = np.array([[1.5, np.nan, -1], [np.inf, 0, 1e10]], np.float32)
    FRACTIONS[name](tmp_path / name, numbers)
    np.testing.assert_array_equal(read_depth(tmp_path / name, DepthCoding()), np.float32([[1.5, 0, 0], [0, 0, 1e10]]))
    assert read_depth(tmp_path / name, DepthCoding(scale=0.01))[0, 0] == pytest.approx(0.015)


@pytest.mark.parametrize("scale", [-1.0, 1.0, -0.003922, 255.0])
def test_a_pfm_says_its_byte_order(tmp_path, scale):
    """Negative is low byte first; the lowest row comes first; how large the scale is changes no metre."""
    numbers = np.array([[1.5, 2.5, np.inf], [4.25, -1, 1e3]], np.float32)
    _pfm(tmp_path / "x.pfm", numbers, scale)
    np.testing.assert_array_equal(read_depth(tmp_path / "x.pfm", DepthCoding()), [[1.5, 2.5, 0], [4.25, 0, 1000]])


def test_a_depth_called_png_is_one(tmp_path):
    """Another kind under that name is refused, since nothing else tells who is wrong."""
    _pfm(tmp_path / "x.png", np.ones((2, 3), np.float32))
    with pytest.raises(DataError, match=r"x\.png is no PNG, as its name says"):
        read_depth(tmp_path / "x.png", DepthCoding())


def test_eight_bits_need_their_range(tmp_path):
    """255 stands for the metres that are given; without them, the file is refused with the key that says them."""
    _png(tmp_path / "x.png", np.array([[0, 51], [102, 255]], np.uint8))
    np.testing.assert_allclose(read_depth(tmp_path / "x.png", DepthCoding(at_255=10)), [[0, 2], [4, 10]], rtol=1e-6)
    with pytest.raises(DataError, match=r"x\.png has 8 bits .*data\.depth_at_255"):
        read_depth(tmp_path / "x.png", DepthCoding())


def test_the_depth_channel_is_chosen_by_its_name(tmp_path):
    """Z comes before V, a layer's name before it or not; a file of other channels is refused with their names."""
    openexr = pytest.importorskip("OpenEXR", reason="OpenEXR is an extra")
    layers = {"Noise.U": np.zeros((2, 3), np.float32), "View.Depth.Z": np.full((2, 3), 4, np.float32)}
    openexr.File({"type": openexr.scanlineimage}, layers).write(str(tmp_path / "x.exr"))
    assert (read_depth(tmp_path / "x.exr", DepthCoding()) == 4).all()
    layers = {"U": np.zeros((2, 3), np.float32), "W": np.ones((2, 3), np.float32)}
    openexr.File({"type": openexr.scanlineimage}, layers).write(str(tmp_path / "u.exr"))
    with pytest.raises(DataError, match=r"u\.exr has the channels U, W, none that is surely depth; name one"):
        read_depth(tmp_path / "u.exr", DepthCoding())
    assert (read_depth(tmp_path / "u.exr", DepthCoding(dataset="W")) == 1).all()
    with pytest.raises(DataError, match=r"u\.exr has the channels U, W, no channel 'Z'"):
        read_depth(tmp_path / "u.exr", DepthCoding(dataset="Z"))


@pytest.mark.parametrize(
    "others",
    [
        ["Normal.X", "Normal.Y", "Normal.Z", "Depth.V"],
        ["Camera.Normal.X", "Camera.Normal.Y", "Camera.Normal.Z", "View.Depth.Z"],
        ["R", "G", "B", "depth"],
        ["Mist.Z", "View.Depth.Z"],
        ["X", "Y", "Z", "V"],
    ],
)
def test_no_other_layer_is_taken_for_depth(tmp_path, others: list[str]):
    """What is called depth comes before any letter, and a vector's Z is none."""
    openexr = pytest.importorskip("OpenEXR", reason="OpenEXR is an extra")
    layers = {name: np.full((2, 3), 3 if name == others[-1] else 0.7, np.float32) for name in others}
    openexr.File({"type": openexr.scanlineimage}, layers).write(str(tmp_path / "x.exr"))
    assert (read_depth(tmp_path / "x.exr", DepthCoding()) == 3).all()


def test_two_channels_that_may_be_depth_are_asked_about(tmp_path):
    """Neither is taken by the alphabet."""
    openexr = pytest.importorskip("OpenEXR", reason="OpenEXR is an extra")
    layers = {f"{name}.Depth.Z": np.full((2, 3), 2, np.float32) for name in ("Left", "Right")}
    openexr.File({"type": openexr.scanlineimage}, layers).write(str(tmp_path / "x.exr"))
    with pytest.raises(DataError, match=r"several that may be depth; name one with data\.depth_field"):
        read_depth(tmp_path / "x.exr", DepthCoding())


def _npy(shape: str, kind: str = "<f4", content: bytes = b"\0" * 24) -> bytes:
    header = f"{{'descr': '{kind}', 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header.encode() + content


def _pickled() -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, np.array([{"a": 1}], object), allow_pickle=True)
    return buffer.getvalue()


BAD = {
    "empty": (b"", "is empty"),
    "text": (b"hello", "is none of the kinds of depth files that are read"),
    "JPEG": (cv2.imencode(".jpg", np.ones((4, 4), np.uint8))[1].tobytes(), "is a JPEG, which depth does not survive"),
    "pickle": (_pickled(), "is truncated or damaged"),
    "npy cut": (_npy("(2, 4)"), "is truncated or damaged"),
    "npy that claims all memory": (_npy("(1000000, 1000000)"), "claims to have 1000000x1000000 pixels"),
    "npy of sides that multiply to little": (_npy("(-2, -3)"), "is truncated or damaged"),
    "npy of three axes": (_npy("(1, 2, 3)", content=b"\0" * 24), None),
    "npy of colours": (_npy("(2, 1, 3)"), "holds numbers of shape (2, 1, 3); expected one depth map"),
    "npy of texts": (_npy("(2, 3)", "|S4"), "holds |S4; depth is whole numbers or fractions"),
    "npy of nothing": (_npy("(0, 3)", content=b""), "claims to have"),
    "PGM cut": (b"P5\n4 4\n65535\n" + b"\0" * 31, "is truncated or damaged"),
    "PGM that claims all memory": (b"P5\n999999999 999999999\n65535\n", "claims to have 999999999x999999999 pixels"),
    "PFM cut": (b"Pf\n4 4\n-1\n" + b"\0" * 63, "is truncated or damaged"),
    "PFM with more than it says": (b"Pf\n4 4\n-1\n" + b"\0" * 65, "is truncated or damaged"),
    "PFM of no byte order": (b"Pf\n1 1\n0.0\n" + b"\0" * 4, "is truncated or damaged"),
    "PFM of colours": (b"PF\n1 1\n-1\n" + b"\0" * 12, "is a PFM of 3 channels; depth has one (Pf)"),
    "PFM that claims all memory": (b"Pf\n999999999 999999999\n1\n", "claims to have 999999999x999999999 pixels"),
    "PFM of words": (b"Pf\nfour four\n-1\n" + b"\0" * 64, "is truncated or damaged"),
    "TIFF cut": (b"II*\0" + b"\0" * 20, "is a TIFF of mode unknown, or damaged"),
    "HDF5 cut": (b"\x89HDF\r\n\x1a\n" + b"\0" * 80, "is truncated or damaged"),
    "EXR cut": (b"v/1\x01" + b"\0" * 80, "is truncated or damaged"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_no_depth_is_named(tmp_path, capfd, name):
    """One line with the file, before memory is taken for what it claims, and nothing else is printed."""
    content, message = BAD[name]
    path = tmp_path / "x.depth"
    path.write_bytes(content)
    if message is None:
        assert read_depth(path, DepthCoding()).shape == (2, 3)
        return
    with pytest.raises(DataError, match=re.escape(message)) as caught:
        read_depth(path, DepthCoding())
    assert str(caught.value).startswith(str(path)) and "\n" not in str(caught.value)
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("keep", [0.2, 0.6, 0.99])
def test_a_cut_exr_is_named(tmp_path, capfd, keep):
    """Its library speaks on both streams, of which nothing is left but our line."""
    _exr(tmp_path / "x.exr", np.random.default_rng(0).random((40, 40), np.float32) + 1)
    content = (tmp_path / "x.exr").read_bytes()
    (tmp_path / "x.exr").write_bytes(content[: int(keep * len(content))])
    with pytest.raises(DataError, match=r"x\.exr is truncated or damaged"):
        read_depth(tmp_path / "x.exr", DepthCoding())
    assert capfd.readouterr() == ("", "")


def test_hdf5_speaks_for_itself(tmp_path):
    """Of several datasets the one called depth counts, or the one named; what lies in another file is not read."""
    h5py = pytest.importorskip("h5py", reason="h5py is an extra")
    secret = tmp_path / "secret"
    secret.write_bytes(b"\1" * 24)
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file["depth"], file["other"] = np.full((2, 3), 2.0), np.full((2, 3), 3.0)
        file.create_dataset("elsewhere", (2, 3), "f4", external=[(str(secret), 0, 24)])
    assert (read_depth(tmp_path / "x.h5", DepthCoding()) == 2).all()
    assert (read_depth(tmp_path / "x.h5", DepthCoding(dataset="other")) == 3).all()
    with pytest.raises(DataError, match=r"no dataset 'elsewhere' .*data\.depth_field"):
        read_depth(tmp_path / "x.h5", DepthCoding(dataset="elsewhere"))


@pytest.mark.parametrize(("module", "name", "extra"), [("h5py", "x.h5", "hdf5"), ("OpenEXR", "x.exr", "exr")])
def test_a_library_that_is_missing_is_one_line(tmp_path, monkeypatch, module, name, extra):
    """The line says what to install."""
    FRACTIONS[name](tmp_path / name, np.ones((2, 3), np.float32))
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(DataError, match=rf"{name} is read by {module}, which needs: pip install '.*\[{extra}\]'"):
        read_depth(tmp_path / name, DepthCoding())


# Beside their pictures -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["x.npy", "x.tiff", "x.exr", "x.pfm", "x.h5"])
def test_pairs_read_depth_of_other_kinds(tmp_path, ramp, name):
    """NAME_depth.npy and the like are read as NAME_depth.png is; fractions are metres."""
    write_pair(tmp_path, "scene/1", ramp)
    (tmp_path / "scene" / "1_depth.png").unlink()
    FRACTIONS[name](tmp_path / "scene" / f"1_depth{Path(name).suffix}", ramp)
    source = open_source(DataSettings(source=f"pairs:{tmp_path}"))
    np.testing.assert_array_equal(source.load(source.items()[0])[1], ramp)
    assert not source.notes and not source.faults


def test_a_png_comes_first_and_of_others_there_is_one(tmp_path, ramp):
    """As before, what lies beside a PNG is not read, and is said; two other files are refused."""
    write_pair(tmp_path, "scene/1", ramp)
    np.save(tmp_path / "scene" / "1_depth.npy", ramp + 1)
    source = open_source(DataSettings(source=f"pairs:{tmp_path}"))
    np.testing.assert_allclose(source.load(source.items()[0])[1], ramp, atol=6e-4)
    assert source.notes == ["1 depth file is not read, since there is a NAME_depth.png (scene/1_depth.npy)"]
    (tmp_path / "scene" / "1_depth.png").unlink()
    _tiff(tmp_path / "scene" / "1_depth.tiff", ramp)
    source = open_source(DataSettings(source=f"pairs:{tmp_path}"))
    with pytest.raises(DataError, match=r"has 1_depth\.npy and 1_depth\.tiff beside it"):
        source.load(source.items()[0])


def test_a_jpeg_or_png_comes_before_other_pictures_of_its_name(tmp_path, ramp):
    """A smaller copy for the web changes nothing, and is said."""
    write_pair(tmp_path, "scene/1", ramp)
    Image.fromarray(np.zeros((6, 8, 3), np.uint8)).save(tmp_path / "scene" / "1.webp")
    source = open_source(DataSettings(source=f"pairs:{tmp_path}"))
    assert source.load(source.items()[0])[0].shape == (24, 32, 3)
    assert source.notes == ["1 picture is not read, since there is a JPEG or PNG of that name (scene/1.webp)"]


def test_a_mask_is_not_passed_over(tmp_path, ramp):
    """DIODE's depth without its mask would count where it is none."""
    write_pair(tmp_path, "scene/1", ramp)
    np.save(tmp_path / "scene" / "1_depth_mask.npy", ramp > 0)
    with pytest.raises(DataError, match=r"1_depth_mask\.npy says where depth is valid, .*use diode:PATH"):
        prepare(DataSettings(source=f"pairs:{tmp_path}"), tmp_path / "cache")


def test_the_unit_is_part_of_what_pictures_are(tmp_path, ramp):
    """A scale that equals the layout's unit changes fractions, so it is another dataset; of 16-bit PNG it is the same."""
    write_pair(tmp_path, "scene/1", ramp)
    np.save(tmp_path / "scene" / "2_depth.npy", ramp)
    (tmp_path / "scene" / "2.png").write_bytes((tmp_path / "scene" / "1.png").read_bytes())
    one, other = (open_source(DataSettings(source=f"pairs:{tmp_path}", depth_scale=scale)) for scale in (None, 0.001))
    png, npy = one.items()
    assert one.content(png) == other.content(png) and one.content(npy) != other.content(npy)


def test_sizes_may_differ_in_one_view(tmp_path, ramp, settings_of):
    """Picture and depth are each resized to the size that is trained on."""
    for scene in range(4):
        write_pair(tmp_path / "p", f"scene_{scene}/1", ramp + (ramp > 0) * scene)
        path = tmp_path / "p" / f"scene_{scene}" / "1_depth.png"
        cv2.imwrite(str(path), cv2.imread(str(path), cv2.IMREAD_UNCHANGED)[::2, ::2])
    prepared = prepare(settings_of(tmp_path / "p"), tmp_path / "cache")
    assert prepared.dataset.images.shape == (4, 16, 16, 3) and prepared.dataset.depth.shape == (4, 16, 16)


def test_what_255_stands_for_is_part_of_what_a_png_says(tmp_path):
    """Another range of 8-bit depth is other depth; where it isn't said, a PNG is known by what it was always known by."""
    assert DepthCoding(at_255=10).png != DepthCoding(at_255=80).png != DepthCoding().png == "0.001:0"


def test_a_preview_that_lies_about_is_no_fault(tmp_path, ramp):
    """Among JPEGs and PNGs a WebP without depth is left out, which is said; alone it is a picture that lacks its depth."""
    (tmp_path / "scene").mkdir()
    Image.fromarray(np.zeros((6, 8, 3), np.uint8)).save(tmp_path / "scene" / "preview.webp")
    alone = open_source(DataSettings(source=f"pairs:{tmp_path}"))
    assert [item.key for item in alone.items()] == ["scene/preview"]
    Image.fromarray(np.zeros((6, 8, 3), np.uint8)).save(tmp_path / "scene" / "1.png")
    source = open_source(DataSettings(source=f"pairs:{tmp_path}"))
    assert [item.key for item in source.items()] == ["scene/1"]
    assert source.notes == ["1 picture is not read, since no depth lies beside (scene/preview.webp)"]


def test_webp_and_pfm_are_found_by_their_names(tmp_path, ramp):
    """In a folder of pairs, in a list and by two patterns; and what lies there is guessed."""
    for scene in range(3):
        folder = tmp_path / f"scene_{scene}"
        folder.mkdir()
        Image.fromarray(np.full((24, 32, 3), 10 * scene, np.uint8)).save(folder / "1.webp", lossless=True)
        _pfm(folder / "1_depth.pfm", ramp)
        Image.fromarray(np.full((24, 32, 3), 10 * scene, np.uint8)).save(folder / "2.ppm")
        _pfm(folder / "2_depth.pfm", ramp, 1.0)
    (tmp_path / "all.txt").write_text("".join(f"scene_{n}/2.ppm scene_{n}/2_depth.pfm\n" for n in range(3)))
    patterns = {"rgb_files": "{scene}/1.webp", "depth_files": "{scene}/1_depth.pfm"}
    for settings, count in (
        (DataSettings(source=f"pairs:{tmp_path}"), 6),
        (DataSettings(source=f"list:{tmp_path}/all.txt"), 3),
        (DataSettings.model_validate({"source": f"list:{tmp_path}"} | patterns), 3),
    ):
        source = open_source(settings)
        loaded = [source.load(item) for item in source.items()]
        assert len(loaded) == count and not source.faults
        assert all((image == image[0, 0]).all() and np.array_equal(depth, ramp) for image, depth in loaded)
    assert "use pairs:" in (suggestion(f"diode:{tmp_path}") or "")
