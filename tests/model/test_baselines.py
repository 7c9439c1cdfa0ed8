"""The trivial predictors: fitted on training depth alone, judged as a network is."""

import json
import math
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from depth_loss_sweep.data.tensors import Batch
from depth_loss_sweep.model.baselines import evaluate_baselines
from depth_loss_sweep.model.errors import ModelError
from depth_loss_sweep.model.losses import per_image_terms
from depth_loss_sweep.model.metrics import evaluate_metrics
from depth_loss_sweep.model.names import BASELINES, EXTRA_METRICS, METRICS, TERMS
from depth_loss_sweep.model.predictors import fit_baselines
from depth_loss_sweep.model.settings import LossSettings

torch.set_num_threads(1)


def make_part(images, seed):
    """Random pictures whose depth grows to the right, with holes."""
    rng = np.random.default_rng(seed)
    depth = np.linspace(1, 6, 16) * rng.uniform(0.7, 1.4, (images, 1, 16, 16))
    return Batch(
        images=torch.tensor(rng.integers(0, 256, (images, 3, 16, 16)), dtype=torch.uint8),
        depth=torch.tensor(depth, dtype=torch.float32),
        mask=torch.tensor(rng.uniform(size=depth.shape) > 0.2),
    )


class FakePrepared(SimpleNamespace):
    """What evaluate_baselines needs of prepared data; in no cache, so nothing is remembered."""

    depth_range = (0.1, 10.0)
    identity = "fake"
    dataset = SimpleNamespace(folder=Path("nowhere"))

    __hash__ = object.__hash__  # equal to itself alone, as Prepared is
    __eq__ = object.__eq__

    def pictures(self, part):
        """A whole part."""
        return FakePictures(self.parts[part])


class FakePictures:
    """A part in memory."""

    def __init__(self, whole):
        self.whole = whole

    def __len__(self):
        return len(self.whole.images)

    def batches(self, size):
        """All of it, `size` pictures at a time."""
        for start in range(0, len(self), size):
            yield Batch(**{name: tensor[start : start + size] for name, tensor in vars(self.whole).items()})


def fit(*parts):
    """The baselines of parts that come as batches."""
    return fit_baselines(lambda: parts)


def of_depth(depth, mask):
    """A batch of which only the depth matters."""
    return Batch(torch.zeros(len(depth), 3, *depth.shape[-2:], dtype=torch.uint8), depth, mask)


@pytest.fixture
def prepared():
    """40 training pictures (more than one batch), 5 to validate, none to test."""
    return FakePrepared(parts={"train": make_part(40, 1), "val": make_part(5, 2), "test": make_part(0, 3)})


def test_the_median_is_that_of_valid_training_pixels():
    """Invalid pixels, however deep, don't count."""
    depth = torch.tensor([[[[1.0, 2.0]]], [[[3.0, 100.0]]]])
    mask = depth < 50
    assert fit(of_depth(depth, mask)).median == 2.0


@pytest.mark.parametrize("images", [1, 2, 40])
def test_the_median_is_exact_over_any_number_of_batches(images):
    """Streamed over batches it is the lower median of all pixels at once, to the last bit."""
    part = make_part(images, images)
    batches = list(FakePictures(part).batches(3))
    assert fit(*batches).median == part.depth[part.mask].median().item()


def test_the_mean_map_is_geometric_over_valid_depth():
    """1 m and 4 m make 2 m; one valid depth stands alone; none gives the median."""
    depth = torch.tensor([[[[1.0, 5.0, 9.0]]], [[[4.0, 0.0, 0.0]]]])
    mask = torch.tensor([[[[True, True, False]]], [[[True, False, False]]]])
    baselines = fit(of_depth(depth, mask))
    assert baselines.median == 4.0
    assert baselines.mean_map.flatten().tolist() == pytest.approx([2.0, 5.0, 4.0])


def test_training_images_without_depth_are_refused():
    """There is nothing to fit."""
    depth = torch.zeros(2, 1, 8, 8)
    with pytest.raises(ModelError, match="no valid depth"):
        fit(of_depth(depth, depth > 0))


def test_predictions_go_by_name():
    """Both are maps of the same shape; another name is refused."""
    part = make_part(3, 0)
    baselines = fit(part)
    assert {baselines.prediction(name).shape for name in BASELINES} == {(1, 1, 16, 16)}
    with pytest.raises(ModelError, match="unknown baseline 'mode'"):
        baselines.prediction("mode")


def test_every_part_has_every_term_and_metric(prepared):
    """The numbers are complete, named as a run's are, and can be stored as JSON."""
    found = evaluate_baselines(prepared, LossSettings())
    assert set(found) == {"train", "val", "test"}
    names = {f"term_{name}" for name in TERMS} | {f"metric_{name}" for name in (*METRICS, *EXTRA_METRICS)}
    for part in found.values():
        assert set(part) == set(BASELINES)
        assert all(set(numbers) == names for numbers in part.values())
    assert json.loads(json.dumps(found))["val"] == found["val"]


def test_the_numbers_are_those_of_a_network_that_predicts_the_same(prepared):
    """Terms and metrics of the mean map equal those computed directly, over all batches."""
    found = evaluate_baselines(prepared, LossSettings())["train"]["mean_map"]
    part = prepared.parts["train"]
    pred = fit(part).mean_map.expand_as(part.depth)
    metrics = evaluate_metrics(pred, part.depth, part.mask)
    terms = per_image_terms(pred, part.depth, part.mask, part.images / 255, data_range=10.0)
    assert {name: found[f"metric_{name}"] for name in metrics} == pytest.approx(metrics, rel=1e-5, nan_ok=True)
    for name, values in terms.items():
        assert found[f"term_{name}"] == pytest.approx(values.nanmean().item(), rel=1e-5)


def test_the_mean_map_beats_the_median_where_depth_has_a_layout(prepared):
    """On pictures that share their layout the map knows more than one number."""
    val = evaluate_baselines(prepared, LossSettings())["val"]
    assert val["mean_map"]["metric_rmse"] < val["median"]["metric_rmse"]


def test_a_part_without_pictures_has_no_numbers(prepared):
    """All are NaN, so that nobody takes them for zero error."""
    test = evaluate_baselines(prepared, LossSettings())["test"]
    assert all(math.isnan(number) for numbers in test.values() for number in numbers.values())


def test_the_loss_settings_reach_the_terms(prepared):
    """SSIM's data range and the rooted SILog change the baselines as they change a run."""
    plain = evaluate_baselines(prepared, LossSettings())["val"]["median"]
    other = evaluate_baselines(prepared, LossSettings(ssim_data_range=1.0, silog_form="rooted"))["val"]["median"]
    assert other["term_ssim"] > plain["term_ssim"]
    assert other["term_silog"] > plain["term_silog"]
    assert other["metric_rmse"] == plain["metric_rmse"]
