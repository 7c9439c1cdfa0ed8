"""The crops that benchmarks judge by: which pixels they leave, and where they count."""

import numpy as np
import pytest
import torch

from depth_loss_sweep.data.crop import crop_mask
from depth_loss_sweep.data.prepare import prepare


@pytest.mark.parametrize(
    ("crop", "size", "inside"),
    [
        ("garg", (375, 1242), np.s_[153:371, 44:1197]),
        ("eigen", (375, 1242), np.s_[124:342, 44:1197]),
        ("eigen_nyu", (480, 640), np.s_[45:471, 41:601]),
        ("eigen_nyu", (240, 320), np.s_[22:235, 20:300]),
    ],
)
def test_crops_are_those_of_the_benchmarks(crop, size, inside):
    """To the pixel, at KITTI's and NYU's own sizes; and in proportion at others."""
    expected = np.zeros(size, bool)
    expected[inside] = True
    assert np.array_equal(crop_mask(crop, *size), expected)


def test_without_a_crop_all_counts():
    """Nothing is masked, so nothing is computed."""
    assert crop_mask("none", 4, 4) is None


def test_validation_and_test_are_judged_inside_and_training_sees_all(pairs, settings_of, tmp_path):
    """Masks of val and test lose what lies outside, those of train nothing; the data has another identity, and says so."""
    whole, cropped = (prepare(settings_of(pairs, crop=crop), tmp_path / "cache") for crop in ("none", "garg"))
    inside = torch.from_numpy(crop_mask("garg", 16, 16))
    assert torch.equal(cropped.tensors("train").mask, whole.tensors("train").mask)
    for part in ("val", "test"):
        assert torch.equal(cropped.tensors(part).mask, whole.tensors(part).mask & inside)
        assert torch.equal(cropped.tensors(part).depth, whole.tensors(part).depth)
    assert cropped.identity != whole.identity
    assert cropped.summary()["depth_percentiles"]["train"] == whole.summary()["depth_percentiles"]["train"]
    depth = cropped.tensors("val").depth[cropped.tensors("val").mask]
    assert cropped.summary()["depth_percentiles"]["val"]["p50"] == pytest.approx(np.percentile(depth, 50))
