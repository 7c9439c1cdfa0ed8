"""The losses against independent references in float64 NumPy and scikit-image, and where losses usually break."""

import numpy as np
import pytest
import torch
from skimage.metrics import structural_similarity
from torch import Tensor

from depth_loss_sweep.model.errors import ModelError
from depth_loss_sweep.model.losses import (
    CombinedLoss,
    edge_loss,
    l1_loss,
    per_image_terms,
    silog_loss,
    smoothness_loss,
    ssim_loss,
)
from depth_loss_sweep.model.names import TERMS

torch.set_num_threads(1)

FOUR_WEIGHTS = {"silog": 0.4, "ssim": 0.3, "edge": 0.2, "l1": 0.1}
WEIGHTS = {**FOUR_WEIGHTS, "smoothness": 0.05}


def make_batch(holes: float = 0.2, images: int = 3, height: int = 24, width: int = 32, seed: int = 0):
    """Prediction, truth (NaN in its holes), mask and image, random but smooth enough to have structure."""
    rng = np.random.default_rng(seed)
    slope = np.linspace(0.5, 6.0, width) + np.linspace(0, 2, height)[:, None]
    target = slope + rng.uniform(0, 1, (images, 1, height, width))
    pred = np.maximum(target + rng.normal(0, 0.4, target.shape), 0.05)
    mask = rng.uniform(size=target.shape) >= holes
    image = rng.uniform(size=(images, 3, height, width))
    target = np.where(mask, target, np.nan)
    as_float = (torch.tensor(array, dtype=torch.float32) for array in (pred, target, image))
    pred, target, image = as_float
    return pred, target, torch.tensor(mask), image


def over_images(function, *maps: Tensor) -> float:
    """A reference averaged over images; it gets one image's maps as float64 arrays (H, W) or (3, H, W)."""
    arrays = [m.numpy().astype(bool if m.dtype == torch.bool else np.float64) for m in maps]
    return float(np.mean([function(*(a[i].squeeze() for a in arrays)) for i in range(len(arrays[0]))]))


def reference_l1(pred, target, mask):
    """Mean |d - d̂|."""
    return np.abs(target[mask] - pred[mask]).mean()


def reference_silog(pred, target, mask, alpha=0.85):
    """Mean g² - α (mean g)², written as the paper has it."""
    g = np.log(target[mask]) - np.log(np.maximum(pred[mask], 1e-3))
    return (g**2).mean() - alpha * g.mean() ** 2


def reference_edge(pred, target, mask):
    """Pair by pair, in loops."""
    total = 0.0
    for step in ((0, 1), (1, 0)):
        differences = []
        for row in range(mask.shape[0] - step[0]):
            for column in range(mask.shape[1] - step[1]):
                here, there = (row, column), (row + step[0], column + step[1])
                if mask[here] and mask[there]:
                    differences.append(abs((target[there] - target[here]) - (pred[there] - pred[here])))
        total += np.mean(differences)
    return total


def reference_smoothness(pred, image):
    """Eq. 4 with means for sums; the image is (3, H, W)."""
    total = 0.0
    for axis in (0, 1):
        steepness = np.sqrt((np.diff(image, axis=axis + 1) ** 2).sum(axis=0))
        total += (np.abs(np.diff(pred, axis=axis)) * np.exp(-steepness)).mean()
    return total


def reference_masked_ssim(pred, target, mask, data_range=10.0):
    """1 - SSIM window by window, weighted by the 2-D Gaussian over the valid pixels of each."""
    offsets = np.arange(-5, 6)
    kernel = np.exp(-(offsets[:, None] ** 2 + offsets**2) / (2 * 1.5**2))
    kernel /= kernel.sum()
    c1, c2 = (0.01 * data_range) ** 2, (0.03 * data_range) ** 2
    values = []
    for row in range(5, mask.shape[0] - 5):
        for column in range(5, mask.shape[1] - 5):
            window = np.s_[row - 5 : row + 6, column - 5 : column + 6]
            valid = mask[window]
            share = kernel[valid].sum()
            if not mask[row, column] or share < 0.5:
                continue
            weight = kernel[valid] / share
            x, y = pred[window][valid], target[window][valid]
            mx, my = weight @ x, weight @ y
            vx, vy = weight @ (x - mx) ** 2, weight @ (y - my) ** 2
            cov = weight @ ((x - mx) * (y - my))
            values.append((2 * mx * my + c1) * (2 * cov + c2) / ((mx**2 + my**2 + c1) * (vx + vy + c2)))
    return 1 - np.mean(values)


# -- agreement with references --------------------------------------------------------------------------------------


@pytest.mark.parametrize("holes", [0.0, 0.3])
def test_l1_is_the_mean_absolute_error_of_valid_pixels(holes):
    """L1 equals its reference, with and without holes."""
    pred, target, mask, _ = make_batch(holes)
    assert l1_loss(pred, target, mask).item() == pytest.approx(over_images(reference_l1, pred, target, mask), abs=1e-5)


@pytest.mark.parametrize("alpha", [0.0, 0.85, 1.0])
def test_silog_equals_its_formula(alpha):
    """SILog equals mean g² - α (mean g)² for several α."""
    pred, target, mask, _ = make_batch()
    expected = over_images(lambda *maps: reference_silog(*maps, alpha), pred, target, mask)
    assert silog_loss(pred, target, mask, alpha).item() == pytest.approx(expected, abs=1e-5)


def test_rooted_silog_is_ten_times_the_root_per_image():
    """The rooted form is 10·√ of each image's plain value."""
    pred, target, mask, _ = make_batch()
    expected = over_images(lambda *maps: 10 * np.sqrt(reference_silog(*maps)), pred, target, mask)
    assert silog_loss(pred, target, mask, form="rooted").item() == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("holes", [0.0, 0.3])
def test_edge_loss_equals_its_formula(holes):
    """The edge loss counts exactly the pairs of valid neighbours."""
    pred, target, mask, _ = make_batch(holes)
    expected = over_images(reference_edge, pred, target, mask)
    assert edge_loss(pred, target, mask).item() == pytest.approx(expected, abs=1e-5)


def test_smoothness_equals_its_formula():
    """Smoothness is damped by the image gradient, normed over channels."""
    pred, _, _, image = make_batch()
    expected = over_images(reference_smoothness, pred, image)
    assert smoothness_loss(pred, image).item() == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("data_range", [1.0, 10.0, 80.0])
@pytest.mark.parametrize("offset", [0.0, 50.0])
def test_ssim_equals_scikit_image_where_all_is_valid(data_range, offset):
    """With a full mask, 1 - SSIM is scikit-image's, also where depth is large against its spread."""
    pred, target, mask, _ = make_batch(holes=0.0)
    pred, target = pred + offset, target + offset

    def reference(x, y):
        return 1 - structural_similarity(
            x, y, data_range=data_range, gaussian_weights=True, sigma=1.5, use_sample_covariance=False
        )

    expected = over_images(reference, pred, target)
    assert ssim_loss(pred, target, mask, data_range).item() == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("holes", [0.2, 0.45])
def test_ssim_with_holes_equals_a_window_by_window_reference(holes):
    """Windows use their valid pixels, and count if their centre and half of their weight is valid."""
    pred, target, mask, _ = make_batch(holes, images=2)
    mask[0, 0, :12, :14] = False
    expected = over_images(reference_masked_ssim, pred, target, mask)
    assert ssim_loss(pred, target, mask, 10.0).item() == pytest.approx(expected, abs=1e-5)


# -- cases worked by hand -------------------------------------------------------------------------------------------


def test_a_constant_error_by_hand():
    """A prediction 1 m off everywhere: L1 is 1, the gradient term 0."""
    target = torch.full((2, 1, 16, 16), 3.0)
    mask = torch.ones_like(target, dtype=torch.bool)
    assert l1_loss(target + 1, target, mask).item() == pytest.approx(1.0)
    assert edge_loss(target + 1, target, mask).item() == 0.0


def test_a_constant_ratio_by_hand():
    """A prediction twice too far everywhere: SILog is (1 - α)·ln²2, and 0 for α = 1 despite rounding."""
    _, target, mask, _ = make_batch()
    log2 = np.log(2.0)
    assert silog_loss(2 * target, target, mask).item() == pytest.approx(0.15 * log2**2, abs=1e-6)
    assert 0 <= silog_loss(2 * target, target, mask, alpha=1.0).item() < 1e-10


def test_an_edge_by_hand():
    """A truth that steps by 2 m between two columns of four, seen flat: 2 m on a third of the horizontal pairs."""
    target = torch.tensor([1.0, 1.0, 3.0, 3.0]).expand(1, 1, 4, 4)
    mask = torch.ones_like(target, dtype=torch.bool)
    assert edge_loss(torch.ones_like(target), target, mask).item() == pytest.approx(2 / 3)


def test_smoothness_by_hand():
    """A ramp of 1 m a pixel under a plain image costs 1, and less across an image edge."""
    pred = torch.arange(4.0).expand(1, 1, 4, 4)
    plain = torch.zeros(1, 3, 4, 4)
    striped = plain.clone()
    striped[..., 1::2] = 1.0
    assert smoothness_loss(pred, plain).item() == pytest.approx(1.0)
    assert smoothness_loss(pred, striped).item() == pytest.approx(np.exp(-np.sqrt(3)))


def test_silog_sees_predictions_of_a_millimetre_at_least():
    """A negative prediction costs as much as one of 1 mm."""
    target = torch.ones(1, 1, 4, 4)
    mask = torch.ones_like(target, dtype=torch.bool)
    assert silog_loss(-target, target, mask) == silog_loss(torch.full_like(target, 1e-3), target, mask)


def test_every_term_averages_images_not_pixels():
    """An image with few valid pixels weighs as much as a full one."""
    target = torch.ones(2, 1, 16, 16)
    pred = torch.stack((target[0] + 1, target[1] + 3))
    mask = torch.ones_like(target, dtype=torch.bool)
    mask[1, 0, 1:] = False
    assert l1_loss(pred, target, mask).item() == pytest.approx(2.0)


def test_images_without_valid_pixels_are_left_out_of_the_average():
    """An empty image changes no masked term."""
    pred, target, mask, _ = make_batch()
    empty = torch.zeros_like(mask[:1])
    padded = (
        torch.cat((pred, pred[:1])),
        torch.cat((target, target[:1])),
        torch.cat((mask, empty)),
    )
    for loss in (l1_loss, silog_loss, edge_loss, lambda *maps: ssim_loss(*maps, 10.0)):
        assert loss(*padded).item() == pytest.approx(loss(pred, target, mask).item(), rel=1e-6)


# -- finite everywhere ----------------------------------------------------------------------------------------------


def tricky_cases() -> dict[str, tuple[Tensor, Tensor, Tensor]]:
    """Predictions, truths and masks that give other implementations NaN."""
    pred, target, mask, _ = make_batch(images=2)
    whole = torch.nan_to_num(target, nan=2.0)
    one = torch.zeros_like(mask)
    one[:, :, 7, 9] = True
    mixed = mask.clone()
    mixed[0] = False
    return {
        "perfect": (whole.clone(), target, mask),
        "perfect and constant": (torch.full_like(pred, 2.5), torch.full_like(pred, 2.5), mask),
        "empty mask": (pred, target, torch.zeros_like(mask)),
        "one image empty": (pred, target, mixed),
        "one valid pixel": (pred, torch.nan_to_num(target, nan=2.0), one),
        "constant ratio": (whole * 1.7, target, mask),
        "nearly perfect": (whole * (1 + 1e-7), target, mask),
        "zero prediction": (torch.zeros_like(pred), target, mask),
        "negative prediction": (-pred, target, mask),
        "far away": (pred * 1e4, target, mask),
        "non-finite in the holes": (torch.where(mask, pred, torch.nan), target, mask),
    }


@pytest.mark.parametrize("case", tricky_cases())
@pytest.mark.parametrize("form", ["plain", "rooted"])
@pytest.mark.parametrize("alpha", [0.85, 1.0])
def test_values_and_gradients_are_finite(case, form, alpha):
    """Every term's value and gradient is finite where losses in the wild give NaN."""
    pred, target, mask = tricky_cases()[case]
    pred = pred.clone().requires_grad_()
    loss = CombinedLoss(WEIGHTS, data_range=10.0, silog_alpha=alpha, silog_form=form)
    _, terms = loss(pred, target, mask, torch.zeros(2, 3, *pred.shape[-2:]))
    for term in [*TERMS][:4]:  # smoothness knows no mask
        (gradient,) = torch.autograd.grad(terms[term], pred, retain_graph=True)
        assert torch.isfinite(terms[term]), term
        assert torch.isfinite(gradient).all(), term
        assert (gradient[~mask] == 0).all(), term


@pytest.mark.parametrize("form", ["plain", "rooted"])
def test_a_perfect_prediction_costs_nothing(form):
    """All four terms of a perfect prediction are 0."""
    _, target, mask, _ = make_batch()
    pred = torch.nan_to_num(target, nan=1.0)
    _, terms = CombinedLoss(FOUR_WEIGHTS, data_range=10.0, silog_form=form)(pred, target, mask)
    assert [terms[term].item() for term in [*TERMS][:4]] == pytest.approx([0, 0, 0, 0], abs=1e-6)


def test_nothing_valid_costs_nothing():
    """All four terms of an empty mask are 0, and so is the total."""
    pred, target, mask, _ = make_batch()
    total, terms = CombinedLoss(FOUR_WEIGHTS, data_range=10.0)(pred, target, torch.zeros_like(mask))
    assert total.item() == 0
    assert all(value.item() == 0 for value in terms.values())


def test_a_broken_prediction_breaks_the_loss():
    """A NaN at a valid pixel is not averaged away."""
    pred, target, mask, image = make_batch(holes=0.0)
    pred[0, 0, 12, 12] = torch.nan
    for form in ("plain", "rooted"):
        _, terms = CombinedLoss(WEIGHTS, data_range=10.0, silog_form=form)(pred, target, mask, image)
        assert all(value.isnan() for value in terms.values())


@pytest.mark.parametrize("term", TERMS)
@pytest.mark.parametrize("form", ["plain", "rooted"])
def test_gradients_agree_with_finite_differences(term, form):
    """A step along the gradient changes the loss as the gradient says."""
    pred, target, mask, image = make_batch(images=1, height=16, width=16)
    loss = CombinedLoss({term: 1.0}, data_range=10.0, silog_form=form)
    pred.requires_grad_()
    (gradient,) = torch.autograd.grad(loss(pred, target, mask, image)[0], pred)
    with torch.no_grad():
        step = 1e-3 * gradient / gradient.norm()
        change = loss(pred + step, target, mask, image)[0] - loss(pred - step, target, mask, image)[0]
    assert change.item() == pytest.approx(2e-3 * gradient.norm().item(), rel=2e-2)


def test_gradients_after_an_evaluation_in_inference_mode():
    """Evaluating in inference mode first doesn't spoil the cached SSIM window for training."""
    pred, target, mask, _ = make_batch(holes=0.0, height=18, width=19)
    with torch.inference_mode():
        ssim_loss(pred, target, mask, 10.0)
    ssim_loss(pred.requires_grad_(), target, mask, 10.0).backward()
    assert torch.isfinite(pred.grad).all()


def test_losses_are_float32_under_autocast():
    """Autocast to bfloat16 changes no term."""
    pred, target, mask, image = make_batch()
    loss = CombinedLoss(WEIGHTS, data_range=10.0)
    plain, terms = loss(pred, target, mask, image)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        cast, cast_terms = loss(pred, target, mask, image)
    assert cast_terms == terms
    assert cast.dtype == torch.float32
    assert cast.item() == plain.item()


def test_ssim_refuses_maps_smaller_than_its_window():
    """A map of 8x16 has no window; the error says what is needed."""
    depth = torch.ones(1, 1, 8, 16)
    with pytest.raises(ModelError, match="8x16; expected at least 11"):
        ssim_loss(depth, depth, depth > 0, 10.0)


# -- the combined loss ----------------------------------------------------------------------------------------------


def test_the_total_is_the_weighted_sum_of_the_terms():
    """Terms come unweighted, in the paper's order, and the total weighs them."""
    pred, target, mask, image = make_batch()
    total, terms = CombinedLoss(WEIGHTS, data_range=10.0)(pred, target, mask, image)
    assert [*terms] == [*TERMS]
    assert total.item() == pytest.approx(sum(WEIGHTS[term] * terms[term].item() for term in TERMS), rel=1e-6)


def test_without_an_image_only_smoothness_is_missing():
    """The other four terms need no image."""
    pred, target, mask, image = make_batch()
    weights = {"l1": 0.5, "ssim": 0.5}
    total, terms = CombinedLoss(weights, data_range=10.0)(pred, target, mask)
    assert [*terms] == [*TERMS][:4]
    assert total == CombinedLoss(weights, data_range=10.0)(pred, target, mask, image)[0]


def test_a_smoothness_weight_asks_for_the_image():
    """Smoothness is never left out of a total it should be in."""
    pred, target, mask, _ = make_batch()
    loss = CombinedLoss({"l1": 1.0, "smoothness": 0.1}, data_range=10.0)
    with pytest.raises(ModelError, match="weight on smoothness was given no image"):
        loss(pred, target, mask)


def test_the_edge_term_can_be_the_smoothness_of_equation_four():
    """With edge="smoothness" the term is Eq. 4, and asks for the image it needs."""
    pred, target, mask, image = make_batch()
    loss = CombinedLoss({"edge": 1.0}, data_range=10.0, edge="smoothness")
    assert loss(pred, target, mask, image)[0].item() == pytest.approx(smoothness_loss(pred, image).item())
    with pytest.raises(ModelError, match="no image"):
        loss(pred, target, mask)


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ({}, "sum to nothing"),
        ({"l1": 0.0, "ssim": 0.0}, "sum to nothing"),
        ({"l1": -0.1, "ssim": 1.0}, "weight of l1 is -0.1"),
        ({"l1": float("nan")}, "weight of l1 is nan"),
        ({"l1": float("inf")}, "weight of l1 is inf"),
        ({"l3": 1.0}, "unknown loss term 'l3'"),
    ],
)
def test_useless_weights_are_refused(weights, message):
    """Negative, non-finite, unknown and missing weights are named."""
    with pytest.raises(ModelError, match=message):
        CombinedLoss(weights, data_range=10.0)


def test_a_useless_data_range_is_refused():
    """SSIM's data range must be positive."""
    with pytest.raises(ModelError, match="data_range is 0"):
        CombinedLoss({"l1": 1.0}, data_range=0)


def test_terms_per_image_average_to_the_training_terms():
    """Per-image values average to the terms, and are NaN exactly where an image has nothing valid."""
    pred, target, mask, image = make_batch()
    mask[1] = False
    found = per_image_terms(pred, target, mask, image, data_range=10.0)
    _, terms = CombinedLoss(WEIGHTS, data_range=10.0)(pred, target, mask, image)
    assert [*found] == [*TERMS]
    for term in [*TERMS][:4]:
        assert found[term].isnan().tolist() == [False, True, False]
        assert found[term].nanmean().item() == pytest.approx(terms[term].item(), rel=1e-5)
    assert found["smoothness"].mean().item() == pytest.approx(terms["smoothness"].item(), rel=1e-5)


def test_a_broken_prediction_is_infinite_per_image_not_undefined():
    """A NaN prediction is an infinite error of its own image, and of no other."""
    pred, target, mask, image = make_batch(holes=0.0)
    pred[2] = torch.nan
    found = per_image_terms(pred, target, mask, image, data_range=10.0)
    for values in found.values():
        assert values.isinf().tolist() == [False, False, True]


@pytest.mark.parametrize(
    "option", [{"silog_alpha": 2.0}, {"edge": "sobel"}, {"weighting": "none"}, {"silog_alfa": 0.5}]
)
def test_an_option_that_is_none_is_refused_in_one_line(option):
    """As all our errors: which option it is, and what was given."""
    with pytest.raises(ModelError, match=f"{next(iter(option))} is .*") as caught:
        CombinedLoss({"l1": 1.0}, data_range=10.0, **option)
    assert "\n" not in str(caught.value)
