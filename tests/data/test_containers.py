"""Pictures in HDF5 and Parquet files: which are there, of which scene and part, and what they hold."""

import re
import sys
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from scipy.io import savemat

from depth_loss_sweep.data.errors import DataError
from depth_loss_sweep.data.prepare import prepare
from depth_loss_sweep.data.settings import DataSettings
from depth_loss_sweep.data.sources import Source, open_source

h5py = pytest.importorskip("h5py", reason="h5py is an extra")
pyarrow = pytest.importorskip("pyarrow", reason="pyarrow is an extra")
parquet = pytest.importorskip("pyarrow.parquet", reason="pyarrow is an extra")

HEIGHT, WIDTH = 12, 16


def opened(source: str, **settings: object) -> Source:
    return open_source(DataSettings.model_validate({"source": source, **settings}))


def picture(number: int) -> np.ndarray:
    """A picture (H, W, 3) that tells rows, columns and channels apart."""
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    return np.stack([rows, columns, np.full_like(rows, number)], axis=2).astype(np.uint8)


def depth(number: int) -> np.ndarray:
    """A depth map (H, W) in metres, whose first column is invalid."""
    return ((picture(number)[..., 1] > 0) * (1 + number + picture(number)[..., 0] / 100)).astype(np.float32)


# HDF5 ------------------------------------------------------------------------------------------------------------


def write_nyu(path: Path, count: int = 6, scenes: bool = True) -> None:
    """The labelled set as MATLAB writes it: width before height, names of scenes as references to texts of UTF-16."""
    with h5py.File(path, "w") as file:
        file["images"] = np.stack([picture(i).transpose(2, 1, 0) for i in range(count)])
        file["depths"] = file["rawDepths"] = np.stack([depth(i).T for i in range(count)])
        if scenes:
            names = [np.array([*f"kitchen_{i // 2:04d}".encode()], np.uint16)[:, None] for i in range(count)]
            references = [file.create_dataset(f"#refs#/{i}", data=name).ref for i, name in enumerate(names)]
            file.create_dataset("scenes", data=np.array([references], h5py.ref_dtype))


def test_nyu_is_read_as_matlab_writes_it(tmp_path):
    """Upright, by the dataset `depths` and not the raw one, in metres, with the names of its scenes."""
    write_nyu(tmp_path / "nyu.mat")
    source = opened(f"nyu-mat:{tmp_path / 'nyu.mat'}")
    assert [item.scene for item in source.items()] == [f"kitchen_{i // 2:04d}" for i in range(6)]
    for number, item in enumerate(source.items()):
        image, metres = source.load(item)
        np.testing.assert_array_equal(image, picture(number))
        np.testing.assert_array_equal(metres, depth(number))
    assert len({source.content(item) for item in source.items()}) == 6 and not source.notes


def test_nyu_is_split_officially(tmp_path):
    """By splits.mat where it lies beside; one of another set is refused."""
    write_nyu(tmp_path / "nyu.mat")
    savemat(tmp_path / "splits.mat", {"trainNdxs": np.array([[1], [2], [3], [4]]), "testNdxs": np.array([[5], [6]])})
    source = opened(f"nyu-mat:{tmp_path / 'nyu.mat'}")
    assert [item.folder for item in source.items()] == [*["train"] * 4, *["test"] * 2]
    savemat(tmp_path / "splits.mat", {"trainNdxs": np.array([[1449]]), "testNdxs": np.array([[1]])})
    with pytest.raises(DataError, match=r"splits\.mat is no split of 6 pictures"):
        opened(f"nyu-mat:{tmp_path / 'nyu.mat'}")


def test_pictures_without_scenes_are_scenes(tmp_path):
    """Which is said, since pictures of one room may then train and judge."""
    write_nyu(tmp_path / "nyu.mat", scenes=False)
    source = opened(f"nyu-mat:{tmp_path / 'nyu.mat'}")
    assert len({item.scene for item in source.items()}) == 6
    assert "each counts as a scene of its own" in source.notes[0]


def test_one_file_holds_many(tmp_path):
    """Datasets are found by their shape and name, or named; texts say scene and part; whole numbers are millimetres."""
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file["color_images"] = np.stack([picture(i) for i in range(3)])
        file["depth_mm"] = np.stack([(1000 * depth(i)).round().astype(np.uint16) for i in range(3)])
        file["labels"] = np.zeros((3, HEIGHT, WIDTH), np.uint16)
        file["scene"], file["split"] = ["a", "a", "b"], ["train", "validation", "test"]
    source = opened(f"h5:{tmp_path / 'x.h5'}")
    assert [(item.scene, item.folder) for item in source.items()] == [("a", "train"), ("a", "val"), ("b", "test")]
    image, metres = source.load(source.items()[2])
    np.testing.assert_array_equal(image, picture(2))
    np.testing.assert_allclose(metres, depth(2), atol=6e-4)
    named = opened(f"h5:{tmp_path / 'x.h5'}", depth_field="labels")
    assert not named.load(named.items()[0])[1].any()
    with pytest.raises(DataError, match=r"no dataset 'scene' that can be the depth .*data\.depth_field"):
        opened(f"h5:{tmp_path / 'x.h5'}", depth_field="scene")
    with h5py.File(tmp_path / "x.h5", "a") as file:
        del file["split"]
        file["split"] = ["trn", "val", "test"]
    with pytest.raises(DataError, match=r"x\.h5 has 'trn' in its split; expected train, val or test"):
        opened(f"h5:{tmp_path / 'x.h5'}")


def test_a_folder_holds_one_a_file(tmp_path):
    """As the sparse-to-dense NYU set: channels first, a folder a scene, train/ and val/ as they are called."""
    for name in ("train/kitchen/00001.h5", "train/bath/00001.h5", "val/official/00001.h5"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        with h5py.File(tmp_path / name, "w") as file:
            file["rgb"], file["depth"] = picture(1).transpose(2, 0, 1), depth(1)
    source = opened(f"h5:{tmp_path}")
    assert [(item.scene, item.folder) for item in source.items()] == [
        ("bath", "train"),
        ("kitchen", "train"),
        ("official", "val"),
    ]
    image, metres = source.load(source.items()[0])
    np.testing.assert_array_equal(image, picture(1))
    np.testing.assert_array_equal(metres, depth(1))


def _cut(path: Path) -> None:
    write_nyu(path)
    path.write_bytes(path.read_bytes()[:3000])


def _without_depth(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file["images"] = np.zeros((2, 3, 8, 8), np.uint8)


def _of_another_size(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file["images"], file["depths"] = np.zeros((2, 3, 8, 8), np.uint8), np.ones((2, 8, 4), np.float32)


def _without_end(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file.create_dataset("images", (2**40, 3, 8, 8), np.uint8, chunks=(1, 3, 8, 8))
        file.create_dataset("depths", (2**40, 8, 8), np.float32, chunks=(1, 8, 8))


def _too_large(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file.create_dataset("images", (2, 3, 2**20, 2**20), np.uint8, chunks=(1, 3, 64, 64))
        file.create_dataset("depths", (2, 2**20, 2**20), np.float32, chunks=(1, 64, 64))


BAD = {
    "cut": (_cut, "is damaged, or no HDF5 file"),
    "text": (lambda path: path.write_text("MATLAB 5.0"), r"is damaged, or no HDF5 file \(as MATLAB saves with -v7.3\)"),
    "no depth": (_without_depth, r"holds no dataset 'depths' that can be the depth \(it holds images uint8"),
    "another view": (_of_another_size, "both must show the same view"),
    "pictures without end": (_without_end, "claims to hold 1099511627776 pictures"),
    "a picture without end": (_too_large, "claims to have 1048576x1048576 pixels"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_hdf5_files_are_named(tmp_path, capfd, name):
    """One line, before memory is taken for what they claim."""
    make, message = BAD[name]
    make(tmp_path / "x.mat")
    with pytest.raises(DataError, match=message) as caught:
        source = opened(f"nyu-mat:{tmp_path / 'x.mat'}")
        source.load(source.items()[0])
    assert str(tmp_path / "x.mat") in str(caught.value) and "\n" not in str(caught.value)
    assert capfd.readouterr().err == ""


# Parquet ---------------------------------------------------------------------------------------------------------


def png(array: np.ndarray) -> bytes:
    return cv2.imencode(".png", array)[1].tobytes()


def rows(*numbers: int) -> SimpleNamespace:
    """Pictures and 16-bit depth, as files' bytes."""
    return SimpleNamespace(
        image=[png(picture(n)[..., ::-1]) for n in numbers],
        depth=[png((1000 * depth(n)).round().astype(np.uint16)) for n in numbers],
    )


def write_rows(path: Path, names: list[str], size: int = 2, **columns: list[object]) -> None:
    """A shard as Hugging Face writes one: structs of bytes and path, in row groups of a size."""
    content = rows(*range(len(names)))
    path.parent.mkdir(parents=True, exist_ok=True)
    structs = {
        "image": [{"bytes": data, "path": name} for data, name in zip(content.image, names, strict=True)],
        "depth_map": [{"bytes": data, "path": None} for data in content.depth],
    }
    parquet.write_table(pyarrow.table({**structs, **columns}), path, row_group_size=size)


def test_parquet_rows_are_pictures(tmp_path):
    """In any order, over row groups; a picture's folder is its scene, a file's name its part."""
    write_rows(
        tmp_path / "data" / "train-00000-of-00001.parquet", ["a/0.jpg", "a/1.jpg", "b/0.jpg", "c/0.jpg", "c/1.jpg"]
    )
    write_rows(tmp_path / "data" / "validation-00000-of-00001.parquet", ["d/0.jpg"])
    source = opened(f"parquet:{tmp_path}")
    assert [(item.scene, item.folder) for item in source.items()] == [
        *(("a", "train"), ("a", "train"), ("b", "train"), ("c", "train"), ("c", "train")),
        ("d", "val"),
    ]
    for number in (4, 0, 3):
        image, metres = source.load(source.items()[number])
        np.testing.assert_array_equal(image, picture(number))
        np.testing.assert_allclose(metres, depth(number), atol=6e-4)
    assert len({source.content(item) for item in source.items()}) == 6 and not source.notes


def test_parquet_without_scenes_or_split(tmp_path):
    """A lone train file is a dataset without a split; rows of which nothing is known are scenes, which is said."""
    write_rows(tmp_path / "train-00000-of-00001.parquet", ["0.jpg", "1.jpg", "2.jpg"])
    source = opened(f"parquet:{tmp_path}")
    assert [item.folder for item in source.items()] == [None] * 3 and len({item.scene for item in source.items()}) == 3
    assert "each counts as a scene of its own" in source.notes[0]
    write_rows(tmp_path / "train-00000-of-00001.parquet", ["0.jpg", "1.jpg"], scene=["kitchen", "bath"])
    assert [item.scene for item in opened(f"parquet:{tmp_path}").items()] == ["kitchen", "bath"]


def test_parquet_columns_may_be_called_otherwise(tmp_path):
    """Plain bytes in columns that are named; without a name, the columns are listed."""
    content = rows(0, 1)
    parquet.write_table(pyarrow.table({"left": content.image, "z": content.depth}), tmp_path / "x.parquet")
    source = opened(f"parquet:{tmp_path / 'x.parquet'}", rgb_field="left", depth_field="z")
    np.testing.assert_array_equal(source.load(source.items()[1])[0], picture(1))
    with pytest.raises(
        DataError, match=re.escape("has no column for rgb (it has left, z); name it with data.rgb_field")
    ):
        opened(f"parquet:{tmp_path / 'x.parquet'}")


def test_bad_rows_are_named(tmp_path):
    """A row without bytes and one with damaged ones, by file and number; the others load."""
    content = rows(0, 1, 2)
    images = [content.image[0], None, content.image[2][:60]]
    parquet.write_table(pyarrow.table({"image": images, "depth": content.depth}), tmp_path / "x.parquet")
    source = opened(f"parquet:{tmp_path}")
    source.load(source.items()[0])
    for number, message in ((1, "row 1 of group 0, is empty"), (2, "row 2 of group 0, is a truncated PNG")):
        with pytest.raises(DataError, match=rf"x\.parquet, {message}"):
            source.load(source.items()[number])


@pytest.mark.parametrize("content", [b"", b"PAR1 no", b"PAR1" + b"\0" * 50 + b"PAR1"])
def test_bad_parquet_files_are_named(tmp_path, content):
    """Whatever they are."""
    (tmp_path / "x.parquet").write_bytes(content)
    with pytest.raises(DataError, match=r"x\.parquet is damaged, or no Parquet file"):
        opened(f"parquet:{tmp_path}")


# Both ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "module", "extra"), [("nyu-mat", "h5py", "hdf5"), ("parquet", "pyarrow", "parquet")])
def test_a_library_that_is_missing_is_one_line(tmp_path, monkeypatch, kind, module, extra):
    """The line says what to install."""
    (tmp_path / "x").touch()
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(DataError, match=rf"x is read by {module}, which needs: pip install '.*\[{extra}\]'"):
        opened(f"{kind}:{tmp_path / 'x'}")


def test_what_they_hold_is_prepared(tmp_path):
    """From the file to the cache, and again by its content."""
    write_nyu(tmp_path / "nyu.mat")
    settings = DataSettings.model_validate({"source": f"nyu-mat:{tmp_path / 'nyu.mat'}", "image_size": 16})
    first = prepare(settings, tmp_path / "cache")
    (tmp_path / "nyu.mat").rename(tmp_path / "moved.mat")
    moved = settings.model_copy(update={"source": f"nyu-mat:{tmp_path / 'moved.mat'}"})
    assert prepare(moved, tmp_path / "cache").identity == first.identity
