from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from depth_loss_sweep.data.errors import DataError
from depth_loss_sweep.model.checkpoint import CHECKPOINT, PREVIOUS, is_model_file, newest_checkpoint, write_checkpoint
from depth_loss_sweep.model.errors import ModelError
from depth_loss_sweep.model.predict import evaluate_checkpoint, load_model, predict_depth, predict_images, save_model
from depth_loss_sweep.model.runtime import Runtime
from depth_loss_sweep.model.training import train


@pytest.fixture(scope="module")
def run(pictures, tmp_path_factory):
    """A finished run: its folder, last record and result."""
    from depth_loss_sweep.model.settings import LossSettings, ModelSettings, RunSettings, TrainSettings

    settings = RunSettings(
        model=ModelSettings(width=4, batch_norm=True),
        train=TrainSettings(epochs=2, batch_size=4, learning_rate=1e-2),
        loss=LossSettings(),
        weights={"silog": 0.5, "l1": 0.5},
        seed=0,
    )
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("run")
    training = train(settings, pictures, folder, Runtime("cpu"))
    records = []
    while True:
        try:
            records.append(next(training))
        except StopIteration as end:
            return folder, records[-1], end.value


@pytest.fixture
def photo(tmp_path):
    """A picture file of another size than the model was trained at."""
    path = tmp_path / "kitchen.png"
    picture = np.random.default_rng(0).integers(0, 256, (30, 44, 3), np.uint8)
    cv2.imwrite(str(path), picture)
    return path


def test_a_checkpoint_predicts_as_its_run_did(run, pictures):
    """The loaded model gives the predictions that were kept with the result."""
    folder, _, result = run
    model = load_model(folder / CHECKPOINT)
    assert model.image_size == (16, 16) and model.epoch == 2
    for image, prediction in zip(result.panels.image, result.panels.prediction, strict=True):
        np.testing.assert_allclose(predict_depth(model, image), prediction, rtol=1e-5)


def test_a_checkpoint_evaluates_as_its_run_did(run, pictures):
    """Evaluated on the same pictures, the model has the numbers of its run's last record."""
    folder, record, _ = run
    found = evaluate_checkpoint(folder / CHECKPOINT, pictures, "val")
    assert found.pop("images") == 7 and found.pop("epoch") == 2
    told = {name: value for name, value in record.splits["val"].items() if not name.startswith("spread_")}
    assert found == pytest.approx(told, nan_ok=True)


def test_the_portable_model_is_small_and_the_same(run, pictures, tmp_path):
    """Saved without the optimiser's state, the model is less than half the size and predicts the same."""
    folder, _, result = run
    save_model(folder, tmp_path / "best.npz")
    assert (tmp_path / "best.npz").stat().st_size < (folder / CHECKPOINT).stat().st_size / 2
    image = result.panels.image[0]
    one, other = (load_model(path) for path in (folder / CHECKPOINT, tmp_path / "best.npz"))
    np.testing.assert_array_equal(predict_depth(one, image), predict_depth(other, image))


def test_saves_from_what_is_readable(run, tmp_path):
    """With the newest checkpoint gone the one before is saved; with none at all there is one line."""
    folder, _, _ = run
    other = tmp_path / "other"
    other.mkdir()
    (other / PREVIOUS).write_bytes((folder / PREVIOUS).read_bytes())
    save_model(other, tmp_path / "best.npz")
    assert load_model(tmp_path / "best.npz").epoch == 1
    (other / PREVIOUS).unlink()
    with pytest.raises(ModelError, match="holds no readable checkpoint"):
        save_model(other, tmp_path / "best.npz")


def test_predicts_picture_files_at_their_own_size(run, photo, tmp_path):
    """Each picture becomes a 16-bit PNG in millimetres of its own size, and a coloured one."""
    folder, _, _ = run
    [found] = predict_images(folder / CHECKPOINT, [photo], tmp_path / "depth")
    paths = [found.depth, found.colour]
    assert [path.name for path in paths] == ["kitchen_depth.png", "kitchen_depth_colour.png"]
    depth = cv2.imread(str(paths[0]), cv2.IMREAD_UNCHANGED)
    assert depth.shape == (30, 44) and depth.dtype == np.uint16
    expected = predict_depth(load_model(folder / CHECKPOINT), cv2.imread(str(photo))[..., ::-1])
    np.testing.assert_allclose(depth / 1000, expected, atol=6e-4)
    assert cv2.imread(str(paths[1])).shape == (30, 44, 3)
    assert sorted(path.name for path in (tmp_path / "depth").iterdir()) == sorted(path.name for path in paths)


def constant_model(run, path: Path, depth: float, farthest: float) -> Path:
    """A model file whose network says one depth everywhere, trained up to so many metres."""
    checkpoint = newest_checkpoint(run[0])
    model = checkpoint.model | {
        "head.weight": np.zeros_like(checkpoint.model["head.weight"]),
        "head.bias": np.full_like(checkpoint.model["head.bias"], depth),
    }
    head = {"model": checkpoint.settings["model"] | {"head": "linear"}}
    settings = checkpoint.settings | head | {"depth_range": [0.1, farthest]}
    write_checkpoint(path, replace(checkpoint, model=model, settings=settings, optimizer={}))
    return path


@pytest.mark.parametrize(
    ("depth", "farthest", "units"),
    [
        (65.5, 10, 1000),
        (65.5, 65.535, 1000),
        (2, 80, 256),
        (78.9, 80, 256),
        (300, 80, 100),
        (70, 10, 256),
        (6e4, 80, 1),
    ],
)
def test_no_depth_is_cut_off(run, photo, tmp_path, depth, farthest, units):
    """In millimetres where they reach as far as the model's range and the picture's depth, else in a stated coarser unit."""
    model = constant_model(run, tmp_path / "model.npz", depth, farthest)
    [found] = predict_images(model, [photo], tmp_path / "out")
    stored = cv2.imread(str(found.depth), cv2.IMREAD_UNCHANGED)
    assert found.units == units and found.missing == 0
    np.testing.assert_allclose(stored / units, depth, atol=0.51 / units)
    with Image.open(found.depth) as picture:
        assert picture.info["depth_scale"] == f"1/{units}"


@pytest.mark.parametrize("depth", [-1.0, 0.0, np.nan, np.inf, 1e6])
def test_what_is_no_depth_is_counted(run, photo, tmp_path, depth):
    """A prediction that no depth can be becomes 0, and its share of the pixels is told."""
    model = constant_model(run, tmp_path / "model.npz", depth, 10)
    [found] = predict_images(model, [photo], tmp_path / "out")
    assert found.missing == 1 and not cv2.imread(str(found.depth), cv2.IMREAD_UNCHANGED).any()
    assert not cv2.imread(str(found.colour)).any()


@pytest.mark.parametrize("other", ["kitchen.jpg", "KITCHEN.png", "elsewhere/kitchen.png", "kitche\u0301n.png"])
def test_refuses_two_pictures_of_one_name(run, photo, tmp_path, other):
    """A prediction never overwrites another of the same call, on a disk that ignores case or spelling, either."""
    photo = photo.with_name("kitch\u00e9n.png") if "\u0301" in other else photo
    with pytest.raises(ModelError, match=r"would both become .*_depth\.png"):
        list(predict_images(run[0] / CHECKPOINT, [photo, tmp_path / other], tmp_path / "depth"))
    assert not (tmp_path / "depth").exists()


def test_a_bad_picture_is_named_before_the_first_is_predicted(run, photo, tmp_path):
    """Of many pictures the last is truncated: nothing is written."""
    other = tmp_path / "other.png"
    other.write_bytes(photo.read_bytes()[:200])
    with pytest.raises(DataError, match=r"other\.png is a truncated PNG"):
        list(predict_images(run[0] / CHECKPOINT, [photo, other], tmp_path / "depth"))
    assert not (tmp_path / "depth").exists()


def test_a_model_file_is_told_from_a_checkpoint(run, tmp_path):
    """Only what was saved to be kept is one: a run's checkpoint can be trained on, and a result is none."""
    save_model(run[0], tmp_path / "model.npz")
    assert is_model_file(tmp_path / "model.npz")
    (tmp_path / "text.npz").write_bytes(b"hello")
    for path in (run[0] / CHECKPOINT, run[0] / "result.npz", tmp_path / "text.npz", tmp_path / "none.npz"):
        assert not is_model_file(path)


@pytest.mark.parametrize("kind", ["missing", "folder", "garbage", "result"])
def test_what_is_no_model_is_named(run, tmp_path, kind):
    """A missing file, a folder, rubbish or another of our files gives one line that names it."""
    paths = {
        "missing": tmp_path / "nowhere.npz",
        "folder": tmp_path,
        "garbage": tmp_path / "rubbish.npz",
        "result": run[0] / "result.npz",
    }
    paths["garbage"].write_bytes(b"rubbish")
    with pytest.raises(ModelError) as caught:
        load_model(paths[kind])
    assert str(paths[kind]) in str(caught.value) and "\n" not in str(caught.value)


def test_an_empty_part_is_refused(run, pictures):
    """There is nothing to say about a part without pictures."""
    with pytest.raises(ModelError, match="has no test pictures"):
        evaluate_checkpoint(run[0] / CHECKPOINT, pictures, "test")


def test_refuses_what_is_no_picture(run):
    """Grey or float arrays are refused with what was given and expected."""
    model = load_model(run[0] / CHECKPOINT)
    with pytest.raises(ModelError, match=r"float64 \(8, 8\); expected uint8"):
        predict_depth(model, np.zeros((8, 8)))
