"""Layouts of the field, and lists: which files are a pair, of which scene and part, in which unit."""

import os
import re
from pathlib import Path

import cv2
import numpy as np
import pytest

from depth_loss_sweep.data.check import check_source
from depth_loss_sweep.data.errors import DataError
from depth_loss_sweep.data.guess import suggestion
from depth_loss_sweep.data.layouts import associate
from depth_loss_sweep.data.prepare import prepare
from depth_loss_sweep.data.settings import DataSettings
from depth_loss_sweep.data.sources import Item, Source, open_source, refuse_faults

from .conftest import write_pair


def write_picture(path: Path, size: tuple[int, int] = (12, 16)) -> None:
    """A grey picture of (height, width)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.full((*size, 3), 90, np.uint8))


def write_depth(path: Path, number: int = 1000, size: tuple[int, int] = (12, 16)) -> None:
    """A 16-bit depth map that holds one number."""
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.full(size, number, np.uint16))


def opened(source: str, **settings: object) -> Source:
    return open_source(DataSettings.model_validate({"source": source, **settings}))


def depth_of(source: Source) -> set[float]:
    """All metres in all of its depth maps."""
    return {round(float(value), 5) for item in source.items() for value in np.unique(source.load(item)[1])}


def read_all(source: Source) -> None:
    """What a study does before it trains: nothing that can't be looked at is passed over."""
    refuse_faults(source)
    for item in source.items():
        source.load(item)


# TUM -------------------------------------------------------------------------------------------------------------


def write_tum(root: Path, times: dict[str, str], listed: bool) -> None:
    """A sequence of TUM's: the times of pictures and of their depth."""
    for rgb, depth in times.items():
        write_picture(root / "rgb" / f"{rgb}.png")
        write_depth(root / "depth" / f"{depth}.png", 5000)
    if listed:
        lines = [f"{rgb} rgb/{rgb}.png {depth} depth/{depth}.png\n" for rgb, depth in times.items()]
        (root / "associations.txt").write_text("# rgb, depth\n" + "".join(lines))


@pytest.mark.parametrize("listed", [True, False])
def test_tum_sequences_are_scenes(tmp_path, listed):
    """By associations.txt or by times, 5000 a metre; one sequence opens by itself, too."""
    write_tum(tmp_path / "desk", {"1.000000": "1.010000", "2.000000": "1.990000"}, listed)
    write_tum(tmp_path / "room", {"5.500000": "5.500000"}, listed)
    source = opened(f"tum:{tmp_path}")
    assert [*source.items()] == [
        Item("desk/rgb/1.000000.png", "desk"),
        Item("desk/rgb/2.000000.png", "desk"),
        Item("room/rgb/5.500000.png", "room"),
    ]
    assert depth_of(source) == {1.0}
    assert [item.key for item in opened(f"tum:{tmp_path / 'room'}").items()] == ["rgb/5.500000.png"]


def test_tum_pictures_without_depth_are_said(tmp_path):
    """What was taken more than 0.02 s from any depth is left out."""
    write_tum(tmp_path, {"1.000000": "1.010000", "3.000000": "3.050000"}, listed=False)
    source = opened(f"tum:{tmp_path}")
    assert [item.key for item in source.items()] == ["rgb/1.000000.png"]
    assert source.notes == ["1 picture is left out, since no depth was taken within 0.02 s"]


def test_association_takes_the_closest_first():
    """Each file once, as TUM's associate.py does, whatever the order."""
    pictures = [Path(f"rgb/{time}.png") for time in ("1.015", "1.000", "9.0")]
    depths = [Path(f"depth/{time}.png") for time in ("1.012", "1.030")]
    assert associate(pictures, depths) == [(Path("rgb/1.015.png"), Path("depth/1.012.png"))]
    assert associate(pictures[:2], [Path("depth/1.012.png"), Path("depth/0.99.png")]) == [
        (Path("rgb/1.000.png"), Path("depth/0.99.png")),
        (Path("rgb/1.015.png"), Path("depth/1.012.png")),
    ]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("1.0 rgb/1.0.png", "line 1 of .*associations.txt is '1.0 rgb/1.0.png'; expected SECONDS rgb/FILE"),
        ("1.0 rgb/1.0.png 1.0 depth/9.png", r"depth/9\.png is missing"),
        ("1.0 rgb/1.0.png 1.0 /etc/passwd", "/etc/passwd is none of the kinds of depth files"),
    ],
)
def test_bad_associations_are_named(tmp_path, line, message):
    """A line that is none, and a file that is not there or no depth."""
    write_tum(tmp_path, {"1.0": "1.0"}, listed=True)
    (tmp_path / "associations.txt").write_text(line + "\n")
    with pytest.raises(DataError, match=message):
        source = opened(f"tum:{tmp_path}")
        source.load(source.items()[0])


# KITTI and ScanNet -----------------------------------------------------------------------------------------------


def test_kitti_drives_are_scenes(tmp_path):
    """Both cameras of a drive are one scene; train/ and val/ are those of the depth; what has no depth is left out."""
    for drive, part in (("2011_09_26_drive_0001_sync", "train"), ("2011_09_26_drive_0002_sync", "val")):
        for camera in ("image_02", "image_03"):
            write_picture(tmp_path / "raw" / "2011_09_26" / drive / camera / "data" / "0000000005.png")
            write_depth(tmp_path / part / drive / "proj_depth" / "groundtruth" / camera / "0000000005.png", 2560)
        write_picture(tmp_path / "raw" / "2011_09_26" / drive / "image_02" / "data" / "0000000000.jpg")
    source = opened(f"kitti:{tmp_path}")
    assert {(item.scene, item.folder) for item in source.items()} == {
        ("2011_09_26_drive_0001_sync", "train"),
        ("2011_09_26_drive_0002_sync", "val"),
    }
    assert len(source.items()) == 4 and depth_of(source) == {10.0}
    assert source.notes[0].startswith("2 pictures are left out, since there is no depth (raw/2011_09_26/")


def test_kitti_depth_without_its_picture_is_bad(tmp_path):
    """Half a download is not passed over."""
    write_depth(tmp_path / "train" / "a_drive" / "proj_depth" / "groundtruth" / "image_02" / "0000000005.png")
    source = opened(f"kitti:{tmp_path}")
    with pytest.raises(DataError, match=r"image_02/0000000005\.png has no picture"):
        source.load(source.items()[0])


def write_scannet(root: Path) -> None:
    for scan in ("scene0000_00", "scene0000_01", "scene0001_00"):
        write_picture(root / scan / "color" / "0.jpg", (48, 64))
        write_depth(root / scan / "depth" / "0.png", 2000)


def test_scannet_spaces_are_scenes(tmp_path):
    """Scans of one space are one scene; picture and depth differ in size; its own lists split it where they are there."""
    write_scannet(tmp_path)
    source = opened(f"scannet:{tmp_path}")
    assert [(item.scene, item.folder) for item in source.items()] == [
        ("scene0000", None),
        ("scene0000", None),
        ("scene0001", None),
    ]
    image, depth = source.load(source.items()[0])
    assert image.shape == (48, 64, 3) and depth.shape == (12, 16) and depth_of(source) == {2.0}
    (tmp_path / "scannetv2_train.txt").write_text("scene0000_00\nscene0000_01\n")
    (tmp_path / "scannetv2_val.txt").write_text("scene0001_00\n")
    assert [item.folder for item in opened(f"scannet:{tmp_path}").items()] == ["train", "train", "val"]


def test_sizes_that_differ_are_said(tmp_path):
    """The check counts pictures by their size, and says that depth has another."""
    write_scannet(tmp_path)
    checked = check_source(
        DataSettings.model_validate({"source": f"scannet:{tmp_path}", "split": "random", "image_size": 16})
    )
    assert checked.sizes == {"48x64": 3} and checked.ok
    assert "depth differs in size from its picture (3 of 12x16): each is resized to 16x16 by itself" in checked.notes


# Lists -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def rooms(tmp_path: Path) -> Path:
    """Four scenes of one picture each, as BTS calls them."""
    for scene in "abcd":
        write_picture(tmp_path / "nyu" / scene / "rgb_00000.jpg")
        write_depth(tmp_path / "nyu" / scene / "sync_depth_00000.png", 1500)
    return tmp_path / "nyu"


def pair(scene: str, before: str = "") -> tuple[str, str]:
    return f"{before}{scene}/rgb_00000.jpg", f"{before}{scene}/sync_depth_00000.png"


LISTS = {
    "BTS": "/a/rgb_00000.jpg /a/sync_depth_00000.png 518.8579\n/b/rgb_00000.jpg /b/sync_depth_00000.png 518.8579\n",
    "plain": "# rgb depth\n\na/rgb_00000.jpg a/sync_depth_00000.png\nb/rgb_00000.jpg b/sync_depth_00000.png\n",
    "None": "a/rgb_00000.jpg a/sync_depth_00000.png 1\nb/rgb_00000.jpg b/sync_depth_00000.png 1\nc/rgb_00000.jpg None 1\n",
    "csv": "data/nyu/a/rgb_00000.jpg,data/nyu/a/sync_depth_00000.png\ndata/nyu/b/rgb_00000.jpg,data/nyu/b/sync_depth_00000.png\n",
    "head": "depth,id,image_path\na/sync_depth_00000.png,7,a/rgb_00000.jpg\nb/sync_depth_00000.png,8,b/rgb_00000.jpg\n",
    "tabs": "a/rgb_00000.jpg\ta/sync_depth_00000.png\nb/rgb_00000.jpg\tb/sync_depth_00000.png\n",
    "another machine": "/home/x/nyu/a/rgb_00000.jpg /home/x/nyu/a/sync_depth_00000.png\n"
    "/home/x/nyu/b/rgb_00000.jpg /home/x/nyu/b/sync_depth_00000.png\n",
}


@pytest.mark.parametrize("name", LISTS)
def test_lists_as_people_write_them(rooms, name):
    """Slashes before, folders of another place, a focal length, a head, commas or tabs: the same pictures in the same scenes."""
    (rooms / "train.txt").write_text(LISTS[name])
    source = opened(f"list:{rooms / 'train.txt'}")
    assert [*source.items()] == [Item("a/rgb_00000.jpg", "a"), Item("b/rgb_00000.jpg", "b")]
    assert depth_of(source) == {1.5} and not source.faults
    contents = [source.content(item) for item in source.items()]
    (rooms / "train.txt").write_text(LISTS["plain"])
    plain = opened(f"list:{rooms / 'train.txt'}")
    assert contents == [plain.content(item) for item in plain.items()]


def test_lists_say_what_they_leave_out_and_drop(rooms):
    """Lines without depth, lines that come twice, and folders that are not here."""
    line = " ".join(pair("a", "/else/where/"))
    (rooms / "l.txt").write_text(f"{line} 1\n{line} 1\n{' '.join(pair('b', '/else/where/'))}\nx.jpg None 1\n")
    assert opened(f"list:{rooms / 'l.txt'}").notes == [
        "1 line is left out, with None for depth",
        f"pictures: paths are taken below {rooms} without their first folders (else/where/)",
        f"depth: paths are taken below {rooms} without their first folders (else/where/)",
        "1 pair is listed more than once, and taken once",
    ]


def test_lists_may_lie_elsewhere(rooms, tmp_path):
    """Roots say where pictures and depth are, from the list's folder on; absolute paths hold as they stand."""
    (tmp_path / "lists").mkdir()
    (tmp_path / "lists" / "l.txt").write_text("a/rgb_00000.jpg a/sync_depth_00000.png\n")
    assert depth_of(opened(f"list:{tmp_path / 'lists' / 'l.txt'}", rgb_root="../nyu", depth_root=str(rooms))) == {1.5}
    (tmp_path / "lists" / "l.txt").write_text(" ".join(f"{rooms}/{path}" for path in pair("a")) + "\n")
    assert depth_of(opened(f"list:{tmp_path / 'lists' / 'l.txt'}")) == {1.5}


def test_lists_split(rooms):
    """By a word in the line, by a column, or by lists for validation and test."""
    (rooms / "l.txt").write_text(f"{' '.join(pair('a'))} 518.8 train\n{' '.join(pair('b'))} val\n")
    assert [item.folder for item in opened(f"list:{rooms / 'l.txt'}").items()] == ["train", "val"]
    (rooms / "l.csv").write_text(
        f"rgb,depth,scene,split\n{','.join(pair('a'))},x,validation\n{','.join(pair('b'))},,test\n"
    )
    assert [(i.scene, i.folder) for i in opened(f"list:{rooms / 'l.csv'}").items()] == [("x", "val"), ("b", "test")]
    for name, scenes in (("train", "ab"), ("val", "c"), ("test", "d")):
        (rooms / f"{name}.txt").write_text("".join(f"{' '.join(pair(scene))}\n" for scene in scenes))
    source = opened(f"list:{rooms / 'train.txt'}", val_list="val.txt", test_list="test.txt")
    assert [item.folder for item in source.items()] == ["train", "train", "val", "test"]


def test_a_kitti_list_keeps_drives_whole(tmp_path):
    """The two cameras of a drive are one scene in a list, too."""
    drive = "2011_09_26/2011_09_26_drive_0009_sync"
    for camera in ("image_02", "image_03"):
        write_picture(tmp_path / drive / camera / "data" / "0.png")
        write_depth(tmp_path / drive / "proj_depth" / camera / "0.png")
    lines = [f"{drive}/{c}/data/0.png {drive}/proj_depth/{c}/0.png 721.5\n" for c in ("image_02", "image_03")]
    (tmp_path / "eigen.txt").write_text("".join(lines))
    assert {item.scene for item in opened(f"list:{tmp_path / 'eigen.txt'}").items()} == {"2011_09_26_drive_0009_sync"}


BAD_LISTS = {
    "one word": ("a/rgb_00000.jpg\n", "line 1 of .*l.txt is 'a/rgb_00000.jpg'; expected RGB DEPTH"),
    "an unknown part": ("a.jpg a.png 5 holdout\n", "line 1 of .*expected RGB DEPTH .FOCAL. .train.val.test."),
    "a path with spaces": ("my room/a.jpg my room/a.png\n", "paths with spaces in a CSV file"),
    "a picture": (b"\x89PNG\r\n\x1a\n\0\0", "is no list; expected a text file"),
    "another encoding": ("zimmer_\xfc/a.jpg a.png\n".encode("latin-1"), "is not UTF-8 text"),
    "nothing": ("\n\n", "names no pictures; expected lines of RGB DEPTH"),
    "a quote that is open": ('"a,b\nc,d\n', "is no CSV file"),
    "only None": ("a.jpg None\n", "names no pictures; .*1 line is left out"),
    "two depths": (
        f"{' '.join(pair('a'))}\na/rgb_00000.jpg b/sync_depth_00000.png\n",
        "a/rgb_00000.jpg is listed with .*a/sync_depth_00000.png and with .*keep one of the two",
    ),
    "two parts": (
        f"{' '.join(pair('a'))} train\n{' '.join(pair('a'))} test\n",
        "a/rgb_00000.jpg is listed for train and for test",
    ),
    "a file that is not there": ("gone.jpg gone.png\n", r"gone\.jpg is missing"),
    "a name that is too long": (f"{'x' * 5000}.jpg y.png\n", "cannot be read"),
}


@pytest.mark.parametrize("name", BAD_LISTS)
def test_bad_lists_are_named(rooms, name):
    """One line that says where, what was expected, and what to do."""
    content, message = BAD_LISTS[name]
    (rooms / "l.txt").write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(DataError, match=message) as caught:
        read_all(opened(f"list:{rooms / 'l.txt'}"))
    assert "\n" not in str(caught.value)


# Patterns --------------------------------------------------------------------------------------------------------


def test_patterns_pair_what_agrees(tmp_path):
    """Names in braces are the same for both; {scene} and {split} are what they say, and * is anything."""
    for part, scene in (("train", "a"), ("train", "b"), ("val", "c")):
        for camera in "01":
            write_picture(tmp_path / part / scene / f"cam{camera}" / "final" / "frame.0007.jpg")
            write_depth(tmp_path / part / scene / f"cam{camera}_geometry" / "frame.0007.depth.png")
    rgb, depth = (
        "{split}/{scene}/cam{cam}/*/frame.{name}.jpg",
        "{split}/{scene}/cam{cam}_geometry/frame.{name}.depth.png",
    )
    source = opened(f"list:{tmp_path}", rgb_files=rgb, depth_files=depth)
    assert [(item.scene, item.folder) for item in source.items()] == [
        *[("a", "train")] * 2,
        *[("b", "train")] * 2,
        *[("c", "val")] * 2,
    ]
    assert depth_of(source) == {1.0}


@pytest.mark.parametrize(
    ("rgb", "depth", "message"),
    [
        (None, "{name}.png", "is a folder: give the list in it, or how its files are called"),
        ("{a}.jpg", "{b}.png", "have nothing in common"),
        ("{}.jpg", "{name}.png", "has a '{}' that names nothing"),
        ("{name}.jpg", "depth_{name}.png", "holds no file that is called as"),
        ("{scene}/rgb_{name}.*", "{scene}/depth_{name}.*", r"a/rgb_00000\.jpg has no depth; expected one called"),
        ("*/rgb_{name}.*", "*/sync_depth_{name}.*", "agree in name; expected a pattern that tells them apart"),
    ],
)
def test_bad_patterns_are_named(rooms, rgb, depth, message):
    """What is wrong with them, or which file has no other."""
    with pytest.raises(DataError, match=message):
        read_all(opened(f"list:{rooms}", rgb_files=rgb, depth_files=depth))


# Guesses ---------------------------------------------------------------------------------------------------------


def _npy_pairs(root: Path) -> None:
    write_picture(root / "a" / "0.jpg")
    np.save(root / "a" / "0_depth.npy", np.ones((12, 16), np.float32))


def _list_in_a_folder(root: Path) -> None:
    write_picture(root / "a.jpg")
    write_depth(root / "b.png")
    (root / "files.csv").write_text("a.jpg,b.png\n")


def _two_names(root: Path) -> None:
    write_picture(root / "kitchen" / "left" / "rgb0012.png")
    write_depth(root / "kitchen" / "depth" / "z0012.png")


def _touched(*names: str) -> object:
    def make(root: Path) -> None:
        for name in names:
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).touch()

    return make


HYPERSIM = (
    "preview/frame.0000.tonemap.jpg",
    "geometry_hdf5/frame.0000.depth_meters.hdf5",
    "geometry_hdf5/frame.0000.position.hdf5",
)
TARTANAIR = tuple(
    f"P001/{path}"
    for s in ("left", "right")
    for path in (f"image_{s}/000000_{s}.png", f"depth_{s}/000000_{s}_depth.npy")
)
GUESSES = {
    "TUM": (lambda root: write_tum(root / "desk", {"1.0": "1.0"}, listed=True), "TUM RGB-D: use tum:{root}"),
    "ScanNet": (write_scannet, "ScanNet: use scannet:{root}"),
    "KITTI": (_touched("val/d/proj_depth/groundtruth/image_02/01.png"), "KITTI: use kitti:{root}"),
    "DIODE": (_touched("val/indoors/0_depth_mask.npy"), "DIODE: use diode:{root}"),
    "NYU": (_touched("nyu.mat"), "NYU Depth V2's labelled set: use nyu-mat:{root}/nyu.mat"),
    "HDF5": (_touched("train/a/1.h5"), "HDF5: use h5:{root}"),
    "Parquet": (_touched("data/train-0.parquet"), "Parquet: use parquet:{root}"),
    "a list": (_list_in_a_folder, "a list of pictures: use list:{root}/files.csv"),
    "pairs": (_npy_pairs, "pictures beside their depth: use pairs:{root}"),
    "two names": (
        _two_names,
        "two names: use list:{root} --set 'data.rgb_files={{scene}}/left/rgb{{name}}.png' "
        "--set 'data.depth_files={{scene}}/depth/z{{name}}.png'",
    ),
    "TartanAir": (
        _touched(*TARTANAIR),
        "two names: use list:{root} --set 'data.rgb_files={{scene}}/image_left/{{name}}_left.png' "
        "--set 'data.depth_files={{scene}}/depth_left/{{name}}_left_depth.npy'",
    ),
    "Hypersim": (
        _touched(*(f"ai_001/images/cam_{name}" for name in HYPERSIM)),
        "two names: use list:{root} --set 'data.rgb_files={{scene}}/cam_preview/frame.{{name}}.tonemap.jpg' "
        "--set 'data.depth_files={{scene}}/cam_geometry_hdf5/frame.{{name}}.depth_meters.hdf5'",
    ),
}


@pytest.mark.parametrize("kind", ["diode", "pairs", ""])
@pytest.mark.parametrize("name", GUESSES)
def test_a_layout_is_recognised(tmp_path, name, kind):
    """Whatever source was named for it, or none; what is named rightly needs no word."""
    make, message = GUESSES[name]
    make(tmp_path)
    found = suggestion(f"{kind}:{tmp_path}" if kind else str(tmp_path))
    if kind == name.lower():
        assert found is None
    else:
        assert found is not None and found.endswith(message.format(root=tmp_path))


def test_a_wrong_source_is_told_the_right_one(tmp_path):
    """Both by the check and by what prepares for training, beside what is wrong."""
    write_tum(tmp_path / "t" / "desk", {"1.0": "1.0", "2.0": "2.0"}, listed=True)
    settings = DataSettings(source=f"pairs:{tmp_path / 't'}", split="random")
    hint = f"this looks like TUM RGB-D: use tum:{tmp_path / 't'}"
    assert hint in check_source(settings).notes
    with pytest.raises(DataError, match=re.escape(hint)):
        prepare(settings, tmp_path / "cache")
    with pytest.raises(DataError, match=rf"holds no depth of KITTI; .*{re.escape(hint)}"):
        check_source(DataSettings(source=f"kitti:{tmp_path / 't'}"))


def test_damage_is_no_sign_of_another_layout(tmp_path):
    """A file that isn't where the source expects it is."""
    root = tmp_path / "pictures"
    write_scannet(root)
    files = {"rgb_files": "{scene}/color/{name}.jpg", "depth_files": "{scene}/depth/{name}.png"}
    settings = DataSettings(source=f"list:{root}", split="random", **files)
    depth, hint = root / "scene0000_00" / "depth" / "0.png", f"this looks like ScanNet: use scannet:{root}"
    depth.write_bytes(b"no")
    with pytest.raises(DataError, match=re.escape(str(depth))) as damaged:
        prepare(settings, tmp_path / "cache")
    assert hint not in str(damaged.value) and hint not in check_source(settings).notes
    depth.unlink()
    with pytest.raises(DataError, match=re.escape(hint)):
        prepare(settings, tmp_path / "cache")
    assert hint in check_source(settings).notes


def test_a_source_without_a_path_is_not_guessed_at(tmp_path, monkeypatch):
    """The working folder is nobody's pictures unless it is named."""
    write_scannet(tmp_path)
    monkeypatch.chdir(tmp_path)
    assert [suggestion(source) for source in ("rooms", "pairs:", "pairs:/no/where", "what")] == [None] * 4
    assert suggestion(".") == "this looks like ScanNet: use scannet:."


def test_sound_pictures_are_not_guessed_at(tmp_path, ramp):
    """Pairs that can be read get no hint, and bad ones none but their own."""
    write_pair(tmp_path, "scene/1", ramp)
    (tmp_path / "scene" / "1_depth.png").write_bytes(b"no")
    assert suggestion(f"pairs:{tmp_path}") is None


# Layouts as they are downloaded, where they are --------------------------------------------------------------------

DOWNLOADED = {
    "bts_nyu": ("list:{}/train_files.txt", {}, 10),
    "densedepth_kaggle": ("list:{}/nyu2_train.csv", {"depth_at_255": 10}, 10),
    "nyu_mat": ("nyu-mat:{}/nyu_depth_v2_labeled.mat", {}, 6),
    "tum": ("tum:{}", {}, 10),
    "kitti": ("kitti:{}", {"depth_range": [0.1, 80]}, 10),
    "kitti_pairs": ("pairs:{}", {"depth_scale": "1/256", "depth_range": [0.1, 80]}, 10),
    "scannet": ("scannet:{}", {}, 10),
    "npy": ("pairs:{}", {}, 10),
    "tiff": ("pairs:{}", {}, 10),
    "blender_exr": ("list:{}", {"rgb_files": "{scene}/Image{name}.png", "depth_files": "{scene}/Depth{name}.exr"}, 10),
    "parquet": ("parquet:{}", {}, 6),
}


@pytest.mark.parametrize("name", DOWNLOADED)
def test_downloaded_layouts_open(name):
    """A study on each would start, with plausible depth."""
    root = Path(os.environ.get("SWEEP_FORMATS", Path(__file__).parents[3] / "shared" / "formats")) / name
    if not root.is_dir():
        pytest.skip(f"no pictures at {root}; set SWEEP_FORMATS to the folder that holds {name}/")
    source, settings, count = DOWNLOADED[name]
    checked = check_source(
        DataSettings.model_validate({"source": source.format(root), "image_size": 64, "split": "random", **settings})
    )
    assert checked.ok and checked.pictures == count and checked.out_of_range_fraction == 0
    assert checked.depth_max is not None and 5 < checked.depth_max < 80
