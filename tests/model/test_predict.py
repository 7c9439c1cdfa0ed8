import cv2
import numpy as np
import pytest
import torch

from data.errors import DataError
from model.checkpoint import CHECKPOINT, PREVIOUS
from model.errors import ModelError
from model.predict import evaluate_checkpoint, load_model, predict_depth, predict_images, save_model
from model.runtime import Runtime
from model.training import train


@pytest.fixture(scope="module")
def run(pictures, tmp_path_factory):
    """A finished run: its folder, last record and result."""
    from model.settings import LossSettings, ModelSettings, RunSettings, TrainSettings

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
    assert found == pytest.approx(record.splits["val"], nan_ok=True)


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
    paths = list(predict_images(folder / CHECKPOINT, [photo], tmp_path / "depth"))
    assert [path.name for path in paths] == ["kitchen_depth.png", "kitchen_depth_colour.png"]
    depth = cv2.imread(str(paths[0]), cv2.IMREAD_UNCHANGED)
    assert depth.shape == (30, 44) and depth.dtype == np.uint16
    expected = predict_depth(load_model(folder / CHECKPOINT), cv2.imread(str(photo))[..., ::-1])
    np.testing.assert_allclose(depth / 1000, expected, atol=6e-4)
    assert cv2.imread(str(paths[1])).shape == (30, 44, 3)
    assert sorted(path.name for path in (tmp_path / "depth").iterdir()) == sorted(path.name for path in paths)


def test_refuses_two_pictures_of_one_name(run, photo, tmp_path):
    """A prediction never overwrites another of the same call."""
    with pytest.raises(ModelError, match="two pictures are called 'kitchen'"):
        list(predict_images(run[0] / CHECKPOINT, [photo, tmp_path / "elsewhere" / "kitchen.jpg"], tmp_path / "depth"))


def test_a_truncated_picture_is_named(run, photo, tmp_path):
    """A bad picture file gives one line that names it."""
    photo.write_bytes(photo.read_bytes()[:200])
    with pytest.raises(DataError, match=r"kitchen\.png"):
        list(predict_images(run[0] / CHECKPOINT, [photo], tmp_path / "depth"))


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
