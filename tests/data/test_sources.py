"""Opening a source by its name, and what the pairs and DIODE sources accept and refuse."""

import os
import re
from pathlib import Path
from unicodedata import normalize

import cv2
import numpy as np
import pytest

from depth_loss_sweep.data.check import check_source
from depth_loss_sweep.data.errors import DataError
from depth_loss_sweep.data.prepare import prepare
from depth_loss_sweep.data.settings import DataSettings
from depth_loss_sweep.data.sources import Item, open_source

from .conftest import write_diode, write_pair


def test_sources_open_by_name(pairs):
    """`rooms` and `pairs:PATH` open as what they are called."""
    assert open_source(DataSettings(source="rooms")).name == "rooms"
    assert open_source(DataSettings(source=f"pairs:{pairs}")).name == "pairs"


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("cityscapes:/x", "unknown data source 'cityscapes:/x'; expected rooms, diode:PATH, pairs:PATH, tum:PATH,"),
        ("pairs", "lacks its folder; expected pairs:PATH"),
        ("rooms:/x", "takes no path"),
        ("diode:/no/such/folder", "/no/such/folder does not exist"),
    ],
)
def test_wrong_sources_say_what_is_expected(source, message):
    """A source that can't be opened is refused with what was given and what was expected."""
    with pytest.raises(DataError, match=re.escape(message)):
        open_source(DataSettings(source=source))


def test_empty_folder_is_refused(tmp_path):
    """A folder without pictures is an error that shows the expected layout."""
    for kind in ("pairs", "diode"):
        with pytest.raises(DataError, match=r"holds no .*pictures"):
            open_source(DataSettings(source=f"{kind}:{tmp_path}"))


# Pairs


def test_pairs_load_metres(pairs, ramp):
    """Depth is read in metres and 0 stays invalid; the scene is the folder."""
    source = open_source(DataSettings(source=f"pairs:{pairs}"))
    item = source.items()[0]
    image, depth = source.load(item)
    assert item == Item("scene_0/000", "scene_0", None)
    assert image.shape == (24, 32, 3) and image.dtype == np.uint8
    np.testing.assert_allclose(depth, ramp, atol=6e-4)


def test_pairs_are_rgb(tmp_path, ramp):
    """A red picture comes out red, not blue."""
    write_pair(tmp_path, "a/x", ramp)
    cv2.imwrite(str(tmp_path / "a/x.png"), np.full((24, 32, 3), (0, 0, 200), np.uint8))
    source = open_source(DataSettings(source=f"pairs:{tmp_path}"))
    assert source.load(source.items()[0])[0][0, 0].tolist() == [200, 0, 0]


def test_pairs_scale_and_invalid_value(tmp_path, ramp):
    """Another unit and another invalid value are settings."""
    write_pair(tmp_path, "a/x", ramp)
    raw = np.full((24, 32), 512, np.uint16)
    raw[0] = 65535
    cv2.imwrite(str(tmp_path / "a/x_depth.png"), raw)
    source = open_source(DataSettings(source=f"pairs:{tmp_path}", depth_scale=1 / 256, invalid_value=65535))
    depth = source.load(source.items()[0])[1]
    assert depth[1:].min() == depth[1:].max() == 2.0 and not depth[0].any()


def test_pairs_scenes_keep_their_name_across_split_folders(tmp_path, ramp):
    """train/kitchen and test/kitchen are one scene in two folders."""
    for folder in ("train", "test"):
        write_pair(tmp_path, f"{folder}/kitchen/1", ramp)
    items = open_source(DataSettings(source=f"pairs:{tmp_path}")).items()
    assert [(item.scene, item.folder) for item in items] == [("kitchen", "test"), ("kitchen", "train")]


def test_pairs_of_two_spellings_are_one(tmp_path, ramp):
    """A disk of macOS writes é as e and an accent: picture and depth pair up, under the picture's name."""
    write_pair(tmp_path, "salle_é/vue_é", ramp)
    write_pair(tmp_path, "salle_é/vue_à", ramp)
    depth = tmp_path / "salle_é" / "vue_é_depth.png"
    depth.rename(depth.with_name(normalize("NFD", depth.name)))
    source = open_source(DataSettings(source=f"pairs:{tmp_path}"))
    assert [item.key for item in source.items()] == ["salle_é/vue_à", "salle_é/vue_é"]
    assert all((source.load(item)[1] > 0).any() for item in source.items())
    picture = tmp_path / "salle_é" / "vue_é.png"
    picture.with_name(normalize("NFD", picture.name)).write_bytes(picture.read_bytes())
    assert len(open_source(DataSettings(source=f"pairs:{tmp_path}")).items()) == 3


def test_pairs_follow_links_once(pairs, tmp_path):
    """Linked scene folders count; a link in a circle doesn't hang, and a folder met twice is said to count once."""
    (pairs / "scene_0" / "circle").symlink_to(pairs)
    (pairs / "scene_5").rename(tmp_path / "elsewhere")
    for name in ("scene_5", "scene_6"):
        (pairs / name).symlink_to(tmp_path / "elsewhere")
    source = open_source(DataSettings(source=f"pairs:{pairs}"))
    assert len(source.items()) == 12 and not source.faults
    assert [note.partition(",")[0] for note in source.notes] == [
        f"{pairs}/scene_0/circle is {pairs} once more",
        f"{pairs}/scene_6 is {pairs}/scene_5 once more",
    ]


BROKEN = {
    "scene_9": (lambda path: path.symlink_to("/no/such/disk/scene_9"), "a link to /no/such/disk/scene_9, which is not"),
    "scene_0/5.png": (lambda path: path.symlink_to("gone.png"), "a link to gone.png, which is not there"),
    "circle": (lambda path: path.symlink_to("circle"), "a link to circle, which cannot be followed"),
    "pipe.png": (os.mkfifo, "is neither a file nor a folder"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_what_leads_nowhere_is_a_fault(pairs, settings_of, tmp_path, name):
    """A link to a disk that is not mounted would leave a scene out in silence; so nothing is trained until it is mended."""
    make, message = BROKEN[name]
    make(pairs / name)
    source = open_source(settings_of(pairs))
    assert [f"{pairs}/{name} is" in fault and message in fault for fault in source.faults] == [True]
    report = check_source(settings_of(pairs))
    assert not report.ok and message in report.refusals[0] and report.pictures == 12
    with pytest.raises(DataError, match=re.escape(message)):
        prepare(settings_of(pairs), tmp_path / "cache")


def test_hidden_and_system_folders_are_no_data(pairs):
    """What begins with a dot, and a disk's lost+found, are passed by whatever is in them."""
    for name in (".cache", "lost+found"):
        (pairs / name).mkdir()
        (pairs / name / "gone.png").symlink_to("gone")
    source = open_source(DataSettings(source=f"pairs:{pairs}"))
    assert len(source.items()) == 12 and not source.faults and not source.notes


def test_files_that_nobody_reads_are_said(pairs, tmp_path):
    """Pictures in other formats are counted by kind; a folder of nothing else is refused with what it holds."""
    for name in ("a.heic", "b.HEIC", "notes.txt", "README"):
        (pairs / name).touch()
    notes = open_source(DataSettings(source=f"pairs:{pairs}")).notes
    assert notes == ["not read: 2 .heic (a.heic, b.HEIC)", "not read: 1 .txt (notes.txt)"]
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "nyu.mat").touch()
    with pytest.raises(DataError, match=r"holds no pictures; .*; not read: 1 \.mat \(nyu\.mat\)"):
        open_source(DataSettings(source=f"pairs:{tmp_path / 'other'}"))


def _save_depth_npz(folder: Path) -> None:
    (folder / "1_depth.png").unlink()
    np.savez(folder / "1_depth.npz", np.ones((24, 32), np.float32))


def _lay_out_as_densedepth(folder: Path) -> None:
    (folder / "1_depth.png").unlink()
    cv2.imwrite(str(folder / "1.jpg"), np.ones((24, 32, 3), np.uint8))
    cv2.imwrite(str(folder / "1.png"), np.ones((24, 32), np.uint8))


def _call_depth_otherwise(folder: Path) -> None:
    (folder / "1.png").unlink()
    (folder / "1_depth.png").rename(folder / "1.png")


LAYOUTS = {
    "npz": (_save_depth_npz, "1.png has 1_depth.npz beside it, which is not read; save it as 1_depth.png"),
    "DenseDepth": (_lay_out_as_densedepth, "if one of the two is the depth, save it as 1_depth.png, a PNG of 16 bits"),
    "depth by another name": (_call_depth_otherwise, "1.png looks like depth (a PNG of 16 bits and 1 channel)"),
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_other_layouts_are_told_what_to_do(tmp_path, ramp, name):
    """Depth in another shape is recognised, and nobody is told to remove it."""
    change, message = LAYOUTS[name]
    write_pair(tmp_path, "scene/1", ramp)
    change(tmp_path / "scene")
    source = open_source(DataSettings(source=f"pairs:{tmp_path}"))
    with pytest.raises(DataError, match=re.escape(message)) as caught:
        source.load(source.items()[0])
    assert not re.search("remove|delete|keep one", str(caught.value))


def _truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-20])


def _flip_byte(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0xFF
    path.write_bytes(bytes(data))


DAMAGES = {
    "truncated depth": (lambda p: _truncate(p / "1_depth.png"), "1_depth.png is a truncated PNG"),
    "truncated picture": (lambda p: _truncate(p / "1.png"), "1.png is a truncated PNG"),
    "damaged depth": (lambda p: _flip_byte(p / "1_depth.png"), "1_depth.png is a damaged PNG"),
    "empty": (lambda p: (p / "1.png").write_bytes(b""), "1.png is empty"),
    "text": (lambda p: (p / "1.png").write_text("hello"), "1.png is neither PNG, JPEG, WebP nor PPM"),
    "no depth": (lambda p: (p / "1_depth.png").unlink(), "has no depth beside it; expected 1_depth.png"),
    "no picture": (lambda p: (p / "1.png").unlink(), "has no picture beside it"),
    "two pictures": (
        lambda p: (p / "1.jpg").write_bytes(b"x"),
        "shares its name with 1.png, and 1_depth.png can be the depth of one only",
    ),
    "8 bits": (
        lambda p: cv2.imwrite(str(p / "1_depth.png"), np.ones((24, 32), np.uint8)),
        "1_depth.png has 8 bits and 1 channel(s); depth is a PNG of 16 bits",
    ),
    "3 channels": (
        lambda p: cv2.imwrite(str(p / "1_depth.png"), np.ones((24, 32, 3), np.uint16)),
        "has 16 bits and 3 channel(s)",
    ),
    "another view": (
        lambda p: cv2.imwrite(str(p / "1_depth.png"), np.ones((12, 12), np.uint16)),
        "1_depth.png is 12x12, but its picture 1.png is 32x24; both must show the same view",
    ),
    "a lossy depth": (
        lambda p: (p / "1_depth.png").write_bytes(cv2.imencode(".jpg", np.ones((24, 32), np.uint8))[1].tobytes()),
        "1_depth.png is a JPEG, which depth does not survive",
    ),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_bad_pairs_are_named(tmp_path, ramp, capfd, name):
    """Every kind of bad file raises a DataError that names it, and nothing else is printed."""
    damage, message = DAMAGES[name]
    write_pair(tmp_path, "scene/1", ramp)
    damage(tmp_path / "scene")
    source = open_source(DataSettings(source=f"pairs:{tmp_path}"))
    with pytest.raises(DataError, match=re.escape(message)) as caught:
        source.load(source.items()[0])
    assert str(tmp_path / "scene") in str(caught.value)
    assert "\n" not in str(caught.value)
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("keep", [0.3, 0.6, 0.9, 0.99])
def test_truncated_jpegs_are_found_out(tmp_path, keep):
    """OpenCV fills up a truncated JPEG without a word; we refuse it."""
    image = np.random.default_rng(0).integers(0, 255, (24, 32, 3)).astype(np.uint8)
    write_pair(tmp_path, "a/x", np.ones((24, 32)))
    (tmp_path / "a/x.png").unlink()
    whole = cv2.imencode(".jpg", image)[1].tobytes()
    (tmp_path / "a/x.jpg").write_bytes(whole)
    source = open_source(DataSettings(source=f"pairs:{tmp_path}"))
    assert source.load(source.items()[0])[0].shape == (24, 32, 3)
    (tmp_path / "a/x.jpg").write_bytes(whole[: int(keep * len(whole))])
    with pytest.raises(DataError, match=r"x\.jpg is a truncated JPEG"):
        source.load(source.items()[0])


# DIODE

NAME = "indoors/scene_00019/scan_00183/00019_00183_indoors_150_000"


def test_diode_reads_its_layout(tmp_path):
    """Depth of shape (H, W, 1) is flattened and the mask applied."""
    write_diode(tmp_path, f"val/{NAME}")
    source = open_source(DataSettings(source=f"diode:{tmp_path}"))
    (item,) = source.items()
    image, depth = source.load(item)
    assert item == Item(NAME, "scene_00019", None)
    assert image.shape == (12, 16, 3) and depth.shape == (12, 16) and depth.dtype == np.float32
    assert not depth[:6].any() and (depth[6:] == 2.5).all()


def test_diode_is_the_same_from_its_root_and_from_val(tmp_path):
    """PATH may be the root or val/: the same pictures get the same keys."""
    write_diode(tmp_path, f"val/{NAME}")
    sources = [open_source(DataSettings(source=f"diode:{path}")) for path in (tmp_path, tmp_path / "val")]
    assert sources[0].items() == sources[1].items()


def test_diode_split_folders_count_only_beside_train(tmp_path):
    """val/ alone is no split; with train/ it is."""
    write_diode(tmp_path, f"val/{NAME}")
    write_diode(tmp_path, "train/outdoor/scene_00001/scan_00001/00001_00001_outdoor_000_000")
    items = open_source(DataSettings(source=f"diode:{tmp_path}")).items()
    assert [item.folder for item in items] == ["train", "val"]


def test_diode_parts(tmp_path):
    """`scenes` picks indoors or outdoor; a part that isn't there is an error."""
    write_diode(tmp_path, f"val/{NAME}")
    assert len(open_source(DataSettings(source=f"diode:{tmp_path}", scenes="indoors")).items()) == 1
    deep = tmp_path / "val" / "indoors"
    assert len(open_source(DataSettings(source=f"diode:{deep}", scenes="indoors")).items()) == 1
    with pytest.raises(DataError, match="holds no outdoor pictures"):
        open_source(DataSettings(source=f"diode:{tmp_path}", scenes="outdoor"))


def test_diode_masks_what_is_no_number(tmp_path):
    """NaN, infinite and negative depth is invalid whatever the mask says."""
    write_diode(tmp_path, f"val/{NAME}")
    depth = np.full((12, 16, 1), 2.5, np.float32)
    depth[11, :3, 0] = (np.nan, np.inf, -1)
    np.save(tmp_path / f"val/{NAME}_depth.npy", depth)
    source = open_source(DataSettings(source=f"diode:{tmp_path}"))
    assert source.load(source.items()[0])[1][11, :4].tolist() == [0, 0, 0, 2.5]


@pytest.mark.parametrize("file", ["_depth.npy", "_depth_mask.npy"])
def test_bad_diode_files_are_named(tmp_path, file):
    """Missing, truncated, pickled and wrongly shaped arrays are refused by name."""
    write_diode(tmp_path, f"val/{NAME}")
    path = tmp_path / f"val/{NAME}{file}"
    source = open_source(DataSettings(source=f"diode:{tmp_path}"))
    whole = path.read_bytes()

    def refused(message: str) -> None:
        with pytest.raises(DataError, match=message) as caught:
            source.load(source.items()[0])
        assert str(path) in str(caught.value)

    path.write_bytes(whole[:-8])
    refused("truncated or no array file")
    np.save(path, np.array([{}], dtype=object), allow_pickle=True)
    refused("truncated or no array file")
    np.save(path, np.ones((3, 4), np.float32))
    refused("expected numbers of the picture's shape")
    path.unlink()
    refused("is missing")
