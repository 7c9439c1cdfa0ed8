"""The metrics against independent references, one image at a time in float64 NumPy, and by hand."""

import math

import numpy as np
import pytest
import torch

from depth_loss_sweep.model.metrics import (
    MeanAccumulator,
    MetricAccumulator,
    boundary_f1,
    depth_metrics,
    evaluate_metrics,
    per_image_metrics,
)
from depth_loss_sweep.model.names import EXTRA_METRICS, FURTHER_METRICS, METRICS

torch.set_num_threads(1)


def make_batch(images=4, height=20, width=24, holes=0.2, seed=0):
    """Prediction, truth (NaN in its holes) and mask."""
    rng = np.random.default_rng(seed)
    target = rng.uniform(0.5, 9.0, (images, 1, height, width))
    pred = target * np.exp(rng.normal(0.1, 0.3, target.shape))
    mask = rng.uniform(size=target.shape) >= holes
    target = np.where(mask, target, np.nan)
    return torch.tensor(pred).float(), torch.tensor(target).float(), torch.tensor(mask)


def full(depth):
    """A batch of one image from rows of numbers, and a mask that is all true."""
    depth = torch.tensor(depth, dtype=torch.float32)[None, None]
    return depth, torch.ones_like(depth, dtype=torch.bool)


def reference_metrics(pred, target):
    """Formulas of the DIODE development kit, and the others as their papers write them, over valid pixels."""
    ratio = np.maximum(target / pred, pred / target)
    g = np.log(target) - np.log(pred)
    return {
        "mae": np.mean(np.abs(pred - target)),
        "rmse": np.sqrt(np.mean((pred - target) ** 2)),
        "abs_rel": np.mean(np.abs(pred - target) / target),
        "sq_rel": np.mean((pred - target) ** 2 / target),
        "log10": np.mean(np.abs(np.log10(pred) - np.log10(target))),
        "rmse_log": np.sqrt(np.mean(g**2)),
        "silog": 100 * np.sqrt(np.mean(g**2) - np.mean(g) ** 2),
        "delta1": np.mean(ratio < 1.25),
        "delta2": np.mean(ratio < 1.25**2),
        "delta3": np.mean(ratio < 1.25**3),
    }


def valid_pixels(pred, target, mask):
    """Each image's valid pixels as float64 arrays."""
    for image in range(len(pred)):
        chosen = mask[image]
        yield pred[image][chosen].double().numpy(), target[image][chosen].double().numpy()


def test_metrics_equal_the_formulas_of_the_diode_development_kit():
    """Per image over valid pixels, then averaged over images."""
    batch = make_batch()
    rows = [reference_metrics(*pixels) for pixels in valid_pixels(*batch)]
    found = depth_metrics(*batch)
    assert set(found) == set(METRICS)
    for name in METRICS:
        assert found[name].item() == pytest.approx(np.mean([row[name] for row in rows]), rel=1e-5), name


def test_metrics_by_hand():
    """Two pixels, one right and one twice too far."""
    target, mask = full([[2.0, 2.0]])
    found = {name: value.item() for name, value in depth_metrics(full([[2.0, 4.0]])[0], target, mask).items()}
    log2 = math.log(2)
    expected = {
        "rmse": math.sqrt(2),
        "mae": 1.0,
        "abs_rel": 0.5,
        "sq_rel": 1.0,
        "rmse_log": log2 / math.sqrt(2),
        "log10": math.log10(2) / 2,
        "silog": 100 * log2 / 2,
        "delta1": 0.5,
        "delta2": 0.5,
        "delta3": 0.5,
    }
    assert found == pytest.approx(expected, rel=1e-5)


def test_a_perfect_prediction_has_no_error():
    """Errors are 0, accuracies and the boundary score 1."""
    _, target, mask = make_batch()
    found = evaluate_metrics(torch.nan_to_num(target, nan=1.0), target, mask)
    for name, value in found.items():
        perfect = 1.0 if name.startswith(("delta", "boundary")) else 0.0
        assert value == pytest.approx(perfect, abs=1e-5), name


def test_an_image_without_valid_pixels_is_left_out():
    """It is NaN itself, and changes no mean; with nothing valid at all, the means are NaN."""
    pred, target, mask = make_batch()
    hollow = mask.clone()
    hollow[1] = False
    rest = [0, 2, 3]
    assert all(values[1].isnan() for values in per_image_metrics(pred, target, hollow).values())
    assert evaluate_metrics(pred, target, hollow) == pytest.approx(
        evaluate_metrics(pred[rest], target[rest], mask[rest]), rel=1e-6
    )
    assert all(math.isnan(v) for v in evaluate_metrics(pred, target, torch.zeros_like(mask)).values())


def test_predictions_in_holes_do_not_matter():
    """NaN and infinity where the truth is invalid change nothing."""
    pred, target, mask = make_batch()
    before = evaluate_metrics(pred, target, mask)
    pred[~mask] = math.nan
    assert evaluate_metrics(pred, target, mask) == before


def test_non_positive_predictions_are_judged_as_a_millimetre():
    """Logarithms and ratios stay finite; differences see the prediction as it is."""
    target, mask = full([[2.0, 2.0]])
    found = depth_metrics(full([[-1.0, -1.0]])[0], target, mask)
    assert found["rmse"].item() == pytest.approx(3.0)
    assert found["rmse_log"].item() == pytest.approx(math.log(2000), rel=1e-5)
    assert found["delta3"].item() == 0


@pytest.mark.parametrize("broken", [math.nan, math.inf])
def test_a_non_finite_prediction_is_an_infinite_error(broken):
    """One broken pixel is never averaged away as undefined."""
    pred, target, mask = make_batch(holes=0.0)
    pred[1, 0, 3, 4] = broken
    found = evaluate_metrics(pred, target, mask)
    for name in ("rmse", "mae", "abs_rel", "sq_rel", "rmse_log", "log10", "silog", "rmse_pooled", "rmse_scaled"):
        assert found[name] == math.inf, name
    assert 0 < found["delta1"] < 1


def test_pooled_rmse_weighs_pixels_not_images():
    """Over two batches of unequal images it equals the root over all valid pixels at once."""
    pred, target, mask = make_batch()
    mask[0, 0, 2:] = False
    accumulator = MetricAccumulator()
    accumulator.add(pred[:1], target[:1], mask[:1])
    accumulator.add(pred[1:], target[1:], mask[1:])
    expected = (pred - target)[mask].double().square().mean().sqrt().item()
    assert accumulator.result()["rmse_pooled"] == pytest.approx(expected, rel=1e-5)


def test_batches_do_not_change_the_means():
    """All metrics over several batches equal those over one; names come in their fixed order."""
    batch = make_batch(images=5)
    accumulator = MetricAccumulator()
    for part in (slice(0, 2), slice(2, 5)):
        accumulator.add(*(maps[part] for maps in batch))
    assert tuple(accumulator.result()) == (*METRICS, *EXTRA_METRICS)
    assert accumulator.result() == pytest.approx(evaluate_metrics(*batch), rel=1e-6)
    assert len(accumulator.per_image()["rmse"]) == 5


def test_an_empty_accumulator_knows_nothing():
    """Before anything is added all metrics are NaN."""
    assert all(math.isnan(value) for value in MetricAccumulator().result().values())
    assert MeanAccumulator().result() == {}


def test_median_scaling_forgives_a_wrong_scale():
    """A prediction right up to its scale is perfect once scaled, per image."""
    _, target, mask = make_batch()
    pred = torch.nan_to_num(target, nan=77.0) * torch.tensor([0.2, 0.5, 2.0, 7.0]).view(-1, 1, 1, 1)
    found = evaluate_metrics(pred, target, mask)
    assert found["rmse_scaled"] == pytest.approx(0, abs=1e-5)
    assert found["abs_rel_scaled"] == pytest.approx(0, abs=1e-5)
    assert found["delta1_scaled"] == 1.0
    assert found["delta1"] < 0.1


def test_median_scaling_equals_its_reference():
    """The scale is the ratio of the lower medians over valid pixels."""
    batch = make_batch()
    expected = []
    for pred, target in valid_pixels(*batch):
        middle = (len(pred) - 1) // 2
        scaled = pred * np.sort(target)[middle] / np.sort(pred)[middle]
        expected.append(np.sqrt(np.mean((scaled - target) ** 2)))
    assert per_image_metrics(*batch)["rmse_scaled"].numpy() == pytest.approx(np.array(expected), rel=1e-5)


def test_error_by_depth_range_splits_the_truth_at_two_and_four_metres():
    """Each band sees its own pixels; a band without truth is NaN, and leaves the image out."""
    target, mask = full([[1.0, 2.0, 3.9, 4.0], [1.9, 2.0, 3.0, 8.0]])
    pred = target + torch.tensor([[1.0, 2.0, 2.0, 3.0], [1.0, 2.0, 2.0, 3.0]])
    found = evaluate_metrics(pred, target, mask)
    assert [found[name] for name in ("rmse_near", "rmse_mid", "rmse_far")] == pytest.approx([1, 2, 3])
    assert math.isnan(evaluate_metrics(pred, target, target < 4)["rmse_far"])


# -- where a study names them ---------------------------------------------------------------------------------------


def of_images(name, pred, target, mask):
    """A further metric of each image."""
    return per_image_metrics(pred, target, mask, [name])[name]


def test_aligned_metrics_equal_least_squares():
    """After NumPy's straight line through each image's valid pixels; any scale and shift of the prediction are as good."""
    batch = make_batch()
    errors, shares = [], []
    for pred, target in valid_pixels(*batch):
        aligned = np.maximum(np.polyval(np.polyfit(pred, target, 1), pred), 1e-3)
        errors.append(np.mean(abs(aligned - target) / target))
        shares.append(np.mean(np.maximum(aligned / target, target / aligned) < 1.25))
    assert of_images("abs_rel_aligned", *batch).tolist() == pytest.approx(errors, rel=1e-4)
    assert of_images("delta1_aligned", *batch).tolist() == pytest.approx(shares, abs=1e-6)
    pred, target, mask = batch
    moved = of_images("abs_rel_aligned", 3 * pred + 2, target, mask)
    assert moved.tolist() == pytest.approx(errors, rel=1e-4)


def test_aligned_metrics_by_hand():
    """1, 2, 3 m seen as 1, 2, 6 m: s = 5/14, t = 13/14 gives 18/14, 23/14, 43/14; a flat prediction becomes the mean."""
    (target, mask), (pred, _) = full([[1.0, 2.0, 3.0]]), full([[1.0, 2.0, 6.0]])
    expected = (4 / 14 + 5 / 14 / 2 + 1 / 14 / 3) / 3
    assert of_images("abs_rel_aligned", pred, target, mask).item() == pytest.approx(expected, rel=1e-5)
    assert of_images("delta1_aligned", pred, target, mask).item() == pytest.approx(2 / 3)
    flat = torch.full_like(target, 5.0)
    assert of_images("abs_rel_aligned", flat, target, mask).item() == pytest.approx((1 + 0 + 1 / 3) / 3)


def test_irmse_by_hand():
    """2 and 4 m seen as 2 and 5 m: 0 and 50 per kilometre."""
    (target, mask), (pred, _) = full([[2.0, 4.0]]), full([[2.0, 5.0]])
    assert of_images("irmse", pred, target, mask).item() == pytest.approx(50 / math.sqrt(2))


@pytest.mark.parametrize("degrees", [0.01, 10.0, 60.0])
def test_normal_angle_by_hand(degrees):
    """A wall that leans by so many degrees, seen straight: z = 3 / (1 - r·tan) along a ray r."""
    ray = (torch.arange(32.0) + 0.5 - 16) / (16 / math.tan(math.radians(30)))
    leaning = (3 / (1 - ray * math.tan(math.radians(degrees)))).expand(1, 1, 24, 32).clone()
    straight = torch.full_like(leaning, 2.0)
    mask = leaning > 0  # a wall that leans far is behind the camera at its end
    found = of_images("normal_angle", straight, torch.where(mask, leaning, math.nan), mask).item()
    assert found == pytest.approx(degrees, rel=1e-2)


def test_further_metrics_are_computed_where_they_are_named():
    """Perfect predictions have no error, images without truth no value, and holes and broken predictions are told apart."""
    pred, target, mask = make_batch()
    mask[0, 0, 4:9, 4:9] = True  # normals need whole neighbourhoods
    target[0, 0, 4:9, 4:9] = 3.0
    perfect = torch.nan_to_num(target, nan=1.0)
    expected = {"abs_rel_aligned": 0.0, "delta1_aligned": 1.0, "irmse": 0.0, "normal_angle": 0.0}
    found = evaluate_metrics(perfect, target, mask, FURTHER_METRICS)
    assert {name: found[name] for name in FURTHER_METRICS} == pytest.approx(expected, abs=1e-3)
    assert tuple(found) == (*METRICS, *EXTRA_METRICS, *FURTHER_METRICS)
    before = per_image_metrics(pred, target, mask, FURTHER_METRICS)
    hollow, ruined = pred.masked_fill(~mask, math.nan), pred.clone()
    ruined[0] = math.nan
    for name in FURTHER_METRICS:
        assert torch.equal(of_images(name, hollow, target, mask), before[name])
        assert of_images(name, pred, target, mask & False).isnan().all()
        broken = of_images(name, ruined, target, mask)
        assert broken[0] in (math.inf, 0.0) and torch.equal(broken[1:], before[name][1:])


# -- boundaries -----------------------------------------------------------------------------------------------------


def step_map(column, near=1.0, far=3.0, size=16):
    """A map that jumps from near to far at a column."""
    depth = torch.full((1, 1, size, size), near)
    depth[..., column:] = far
    return depth


EVERYWHERE = torch.ones(1, 1, 16, 16, dtype=torch.bool)


@pytest.mark.parametrize(("shift", "score"), [(0, 1.0), (1, 1.0), (-1, 1.0), (2, 0.0), (-3, 0.0)])
def test_boundaries_match_within_a_pixel(shift, score):
    """A boundary one pixel off is found; two pixels off it is missed."""
    assert boundary_f1(step_map(8 + shift), step_map(8), EVERYWHERE).item() == pytest.approx(score)


def test_boundaries_do_not_depend_on_scale():
    """Ratios count, not metres."""
    assert boundary_f1(0.1 * step_map(8), step_map(8), EVERYWHERE).item() == 1.0


def test_a_flat_prediction_has_no_boundaries():
    """It scores 0 where the truth has some, and is undefined where the truth has none either."""
    flat = torch.full((1, 1, 16, 16), 2.0)
    assert boundary_f1(flat, step_map(8), EVERYWHERE).item() == 0.0
    assert boundary_f1(step_map(8), flat, EVERYWHERE).isnan().all()


def test_a_weak_boundary_counts_at_the_low_ratios_only():
    """A truth that jumps by 1.25 has boundaries at all three ratios; seen as a jump of 1.15 they're found at two."""
    truth, weak = step_map(8, 2.0, 2.5), step_map(8, 2.0, 2.3)
    assert boundary_f1(truth, truth, EVERYWHERE).item() == 1.0
    assert boundary_f1(weak, truth, EVERYWHERE).item() == pytest.approx(2 / 3)
    assert boundary_f1(truth, weak, EVERYWHERE).item() == 1.0


def test_precision_and_recall_by_hand():
    """The true boundary and one that isn't there: precision a half, recall 1, F1 two thirds."""
    doubled = step_map(8)
    doubled[..., 12:] = 9.0
    assert boundary_f1(doubled, step_map(8), EVERYWHERE).item() == pytest.approx(2 / 3)


def test_horizontal_and_vertical_boundaries_count_alike():
    """A transposed scene scores the same."""
    pred, truth = step_map(9), step_map(8)
    pred[..., 13:] = 9.0
    turned = boundary_f1(pred.mT, truth.mT, EVERYWHERE)
    assert turned.item() == boundary_f1(pred, truth, EVERYWHERE).item()


def test_boundaries_beside_holes_are_not_counted():
    """A predicted boundary whose match may lie in a hole is no mistake."""
    mask = EVERYWHERE.clone()
    mask[..., 11:13] = False
    pred = step_map(8)
    pred[..., 10:] = 9.0  # between columns 9 and 10, beside the hole at 11; counted at column 9
    assert boundary_f1(pred, step_map(8), mask).item() == pytest.approx(2 / 3)
    mask[..., 10] = False
    assert boundary_f1(pred, step_map(8), mask).item() == 1.0
