"""The terms that a study names: against independent references, worked by hand, and where losses usually break."""

import math

import numpy as np
import pytest
import torch
from scipy import ndimage
from skimage.measure import block_reduce
from skimage.metrics import structural_similarity

from depth_loss_sweep.model.alignment import (
    ms_gradient_per_image,
    ranking_per_image,
    ssi_mae_per_image,
    ssi_trimmed_per_image,
)
from depth_loss_sweep.model.draws import places
from depth_loss_sweep.model.errors import ModelError
from depth_loss_sweep.model.identity import run_identity
from depth_loss_sweep.model.losses import CombinedLoss, Maps, per_image_terms, term_function
from depth_loss_sweep.model.multiscale_ssim import EXPONENTS, ms_ssim_per_image
from depth_loss_sweep.model.names import FURTHER_TERMS, TERMS
from depth_loss_sweep.model.pixel_errors import berhu_per_image, huber_per_image, log_offset_per_image
from depth_loss_sweep.model.runtime import Runtime
from depth_loss_sweep.model.settings import LossSettings, ModelSettings, RunSettings, TrainSettings
from depth_loss_sweep.model.surfaces import (
    log_gradient_per_image,
    normals_per_image,
    virtual_normal_per_image,
)
from depth_loss_sweep.model.training import train

from .test_losses import make_batch
from .test_training import bits, complete, stop_after

CPU = Runtime("cpu")
SAMPLED = ("virtual_normal", "ranking")
"""They look at drawn pixels alone."""


def values_of(term, pred, target, mask, **options):
    """The term of each image, (B,)."""
    return per_image_terms(pred, target, mask, data_range=10.0, terms=[term], **options)[term]


def check(found, reference, *maps):
    """What was found is the reference of each image, which gets its maps as float64 arrays (H, W)."""
    arrays = [m[:, 0].numpy().astype(bool if m.dtype == torch.bool else np.float64) for m in maps]
    expected = [reference(*(array[i] for array in arrays)) for i in range(len(arrays[0]))]
    assert found.tolist() == pytest.approx(expected, rel=2e-5, abs=1e-5)


# -- by other names -------------------------------------------------------------------------------------------------


def test_a_term_by_another_name_goes_by_options_of_its_own():
    """The same term twice, each with its options, beside what [loss] says for all."""
    pred, target, mask, image = make_batch()
    own = {
        "sharp": {"function": "berhu", "options": {"berhu_share": 0.05}},
        "usual": {"function": "berhu"},
        "smooth": {"function": "edge", "options": {"edge": "smoothness"}},
    }
    loss = CombinedLoss({"sharp": 1.0, "usual": 1.0}, data_range=10.0, berhu_share=0.4, own=own)
    found = loss.per_image(pred, target, mask, image)
    for name, share in (("sharp", 0.05), ("usual", 0.4)):
        assert torch.equal(found[name], values_of("berhu", pred, target, mask, berhu_share=share))
    assert torch.equal(found["smooth"], found["smoothness"])
    assert not torch.equal(found["sharp"], found["usual"])
    del own["smooth"]
    _, terms = CombinedLoss({"sharp": 1.0}, data_range=10.0, own=own)(pred, target, mask)  # which needs no picture
    assert {"sharp", "usual", "edge"} <= terms.keys()


def test_a_table_that_says_nothing_new_is_no_other_run():
    """[terms.berhu] of the built-in berhu is berhu; options count where they stand, and only where they are not the default."""

    def identity(weights=("berhu",), **loss):
        settings = RunSettings(
            model=ModelSettings(), train=TrainSettings(), loss=loss, weights=dict.fromkeys(weights, 1.0), seed=0
        )
        return run_identity(settings, CPU, "data")

    table = {"function": "berhu"}
    plain, share = identity(), {"options": {"berhu_share": 0.3}}
    assert identity(own={"berhu": table | {"label": "B"}}) == plain
    assert identity(own={"berhu": table | {"options": {"berhu_share": 0.2}}}) == plain
    assert identity(own={"berhu": table}, berhu_share=0.3) == identity(berhu_share=0.3) != plain
    assert len({plain, identity(own={"berhu": table | share}), identity(own={"berhu": {"function": "l2"}})}) == 3
    other = identity(("b",), own={"b": table})
    assert identity(("b",), own={"b": table | {"options": {"berhu_share": 0.2}}}) == other != plain
    assert identity(("b",), own={"b": table | share}) == identity(("b",), own={"b": table}, berhu_share=0.3) != other
    assert identity(("b",), own={"b": table | share}) == identity(("b",), own={"b": table | share}, berhu_share=0.4)


# -- agreement with references --------------------------------------------------------------------------------------

POINTWISE = {
    "l2": lambda e, _: e**2,
    "huber": lambda e, _: np.where(abs(e) <= 1, e**2 / 2, abs(e) - 0.5),
    "berhu": lambda e, _: np.where(abs(e) <= (c := 0.2 * abs(e).max()), abs(e), (e**2 + c**2) / (2 * c)),
    "log_l1": lambda _, ratio: abs(np.log(ratio)),
    "log_offset": lambda e, _: np.log(abs(e) + 0.5) - np.log(0.5),
}


@pytest.mark.parametrize("term", POINTWISE)
@pytest.mark.parametrize("holes", [0.0, 0.3])
def test_terms_of_single_pixels_equal_their_formulas(term, holes):
    """Over the valid pixels of each image."""
    pred, target, mask, _ = make_batch(holes)

    def reference(pred, target, mask):
        return POINTWISE[term](target[mask] - pred[mask], pred[mask] / target[mask]).mean()

    check(values_of(term, pred, target, mask), reference, pred, target, mask)


def sobel(depth):
    """SciPy's Sobel gradients where the whole window lies inside."""
    return (ndimage.sobel(depth, axis=axis)[1:-1, 1:-1] for axis in (1, 0))


def whole_windows(mask):
    """Where a 3×3 window has no hole."""
    return ndimage.minimum_filter(mask.astype(np.uint8), 3, mode="constant")[1:-1, 1:-1] > 0


def test_sobel_terms_equal_their_formulas():
    """The log-gradient and the normals term, against SciPy's Sobel filter; windows with a hole don't count."""
    pred, target, mask, _ = make_batch(0.05)

    def log_gradient(pred, target, mask):
        gaps = [abs(a - b)[whole_windows(mask)] for a, b in zip(sobel(pred), sobel(np.nan_to_num(target)), strict=True)]
        return sum(np.log(gap + 0.5).mean() - np.log(0.5) for gap in gaps)

    def normals(pred, target, mask):
        (px, py), (tx, ty) = (np.stack([*sobel(np.nan_to_num(d))])[:, whole_windows(mask)] for d in (pred, target))
        return (1 - (px * tx + py * ty + 1) / np.sqrt((px**2 + py**2 + 1) * (tx**2 + ty**2 + 1))).mean()

    check(log_gradient_per_image(pred, target, mask).value, log_gradient, pred, target, mask)
    check(normals_per_image(pred, target, mask).value, normals, pred, target, mask)


def normalised(depth):
    """Less the lower median, over the mean absolute deviation from it."""
    moved = depth - np.sort(depth)[(depth.size - 1) // 2]
    return moved / abs(moved).mean()


def test_ssi_terms_equal_their_formulas():
    """MAE and trimmed MAE of maps that are each normalised by median and mean deviation."""
    pred, target, mask, _ = make_batch(0.3)

    def gaps(pred, target, mask):
        return np.sort(abs(normalised(pred[mask]) - normalised(target[mask])))

    check(values_of("ssi_mae", pred, target, mask), lambda *maps: gaps(*maps).mean() / 2, pred, target, mask)

    def trimmed(*maps, trim=0.2):
        found = gaps(*maps)
        return found[: int((1 - trim) * found.size)].sum() / (2 * found.size)

    check(values_of("ssi_trimmed", pred, target, mask), trimmed, pred, target, mask)


@pytest.mark.parametrize("scales", [1, 4])
def test_the_multi_scale_gradient_equals_its_formula(scales):
    """Pair by pair, at every pixel, every second, every fourth, ..."""
    pred, target, mask, _ = make_batch(0.2)

    def reference(pred, target, mask):
        rest = np.full(mask.shape, np.nan)
        rest[mask] = normalised(pred[mask]) - normalised(target[mask])
        coarse = [rest[:: 2**k, :: 2**k] for k in range(scales)]
        sums = [sum(np.nansum(abs(np.diff(r, axis=axis))) for axis in (0, 1)) for r in coarse]
        return sum(total / np.isfinite(r).sum() for total, r in zip(sums, coarse, strict=True))

    check(ms_gradient_per_image(pred, target, mask, scales).value, reference, pred, target, mask)


def test_ranking_equals_its_formula():
    """Pair by pair: the logistic loss of their order, or the square where they are as far."""
    pred, target, mask, _ = make_batch(0.1)
    pairs = places(*pred.shape[-2:], 2, pred[0, 0].numel() // 2)
    assert pairs.flatten().sort().values.tolist() == [*range(24 * 32)]

    def reference(pred, target, mask):
        losses = []
        for i, j in pairs.tolist():
            if mask.flat[i] and mask.flat[j]:
                gap, ratio = np.log(pred.flat[i] / pred.flat[j]), target.flat[i] / target.flat[j]
                order = 1 if ratio >= 1.03 else -1 if 1 / ratio >= 1.03 else 0
                losses.append(np.log1p(np.exp(-order * gap)) if order else gap**2)
        return np.mean(losses)

    check(values_of("ranking", pred, target, mask), reference, pred, target, mask)


def test_virtual_normals_equal_their_formula():
    """Triplet by triplet, in a pinhole camera's frame."""
    pred, target, mask, _ = make_batch(0.1)
    height, width = pred.shape[-2:]
    triplets = places(height, width, 3, int(0.15 * height * width))
    focal = width / 2 / math.tan(math.radians(30))

    def point(depth, place):
        y, x = divmod(place, width)
        return depth.flat[place] * np.array([(x + 0.5 - width / 2) / focal, (y + 0.5 - height / 2) / focal, 1])

    def angle(at, one, other):
        a, b = one - at, other - at
        return np.degrees(np.arccos(a @ b / np.linalg.norm(a) / np.linalg.norm(b)))

    def normal(a, b, c):
        across = np.cross(b - a, c - a)
        return across / np.linalg.norm(across)

    def reference(pred, target, mask):
        losses = []
        for corners in triplets.tolist():
            a, b, c = (point(target, place) for place in corners)
            far = min(np.linalg.norm(one - other) for one, other in ((a, b), (b, c), (c, a))) > 0.6
            if mask.flat[corners].all() and far and 30 <= angle(a, b, c) <= 120 and 30 <= angle(b, a, c) <= 120:
                losses.append(abs(normal(a, b, c) - normal(*(point(pred, place) for place in corners))).sum())
        return np.mean(losses)

    check(virtual_normal_per_image(pred, target, mask).value, reference, pred, target, mask)


@pytest.mark.parametrize(("height", "width", "levels"), [(176, 180, 5), (50, 64, 3), (16, 16, 1)])
def test_ms_ssim_equals_its_formula(height, width, levels):
    """Against scikit-image's SSIM maps, of which SciPy's filter takes the luminance; as many levels as fit a window."""
    pred, target, mask, _ = make_batch(0.0, 2, height, width)

    def blurred(depth):
        return ndimage.gaussian_filter(depth, 1.5, truncate=3.5)[5:-5, 5:-5]

    def reference(pred, target):
        total, powers = 0.0, np.array(EXPONENTS[:levels]) / sum(EXPONENTS[:levels])
        for level, power in enumerate(powers):
            found = structural_similarity(
                pred, target, data_range=10, gaussian_weights=True, sigma=1.5, use_sample_covariance=False, full=True
            )[1][5:-5, 5:-5]
            x, y = blurred(pred), blurred(target)
            luminance = (2 * x * y + 0.01) / (x**2 + y**2 + 0.01)
            total += power * np.log((found if level == levels - 1 else found / luminance).mean())
            pred, target = (
                block_reduce(d[: d.shape[0] // 2 * 2, : d.shape[1] // 2 * 2], 2, np.mean) for d in (pred, target)
            )
        return 1 - np.exp(total)

    check(ms_ssim_per_image(pred, target, mask, 10.0).value, reference, pred, target)


# -- cases worked by hand -------------------------------------------------------------------------------------------


def row(*depths):
    """One image of one row, and its mask."""
    depth = torch.tensor(depths).view(1, 1, 1, -1)
    return depth, torch.ones_like(depth, dtype=torch.bool)


def test_errors_by_hand():
    """Errors of 0, 0.5 and 2 m: Huber's is straight beyond its δ, berHu's a parabola beyond a fifth of the largest."""
    (target, mask), (pred, _) = row(2.0, 2.0, 2.0), row(2.0, 2.5, 4.0)
    expected = {
        "l2": (0.25 + 4) / 3,
        "huber": (0.125 + 1.5) / 3,
        "berhu": ((0.25 + 0.16) / 0.8 + (4 + 0.16) / 0.8) / 3,
        "log_l1": (math.log(1.25) + math.log(2)) / 3,
        "log_offset": (math.log(2) + math.log(5)) / 3,
    }
    assert {term: values_of_small(term, pred, target, mask) for term in expected} == pytest.approx(expected)
    assert huber_per_image(pred, target, mask, delta=0.25).value.item() == pytest.approx(0.25 * (0.375 + 1.875) / 3)
    assert berhu_per_image(pred, target, mask, share=0.5).value.item() == pytest.approx((0.5 + (4 + 1) / 2) / 3)
    assert log_offset_per_image(pred, target, mask, alpha=1.0).value.item() == pytest.approx(math.log(1.5 * 3) / 3)


def values_of_small(term, pred, target, mask):
    """The term's value on maps that are too small for SSIM."""
    return term_function(term)(Maps(pred, target, mask), LossSettings()).value.item()


def ramp(slope, height=16, width=16):
    """A truth of 3 m, and a prediction that rises to the right by so many metres a pixel."""
    target = torch.full((1, 1, height, width), 3.0)
    return target + slope * torch.arange(float(width)), target, torch.ones_like(target, dtype=torch.bool)


def test_a_ramp_by_hand():
    """Sobel sees eight times the slope: ln(8·0.25 + 0.5) - ln 0.5, and 1 - 1/√(1 + 2²)."""
    maps = ramp(0.25)
    assert log_gradient_per_image(*maps).value.item() == pytest.approx(math.log(5), rel=1e-5)
    assert normals_per_image(*maps).value.item() == pytest.approx(1 - 1 / math.sqrt(5), rel=1e-5)


def test_scale_and_shift_by_hand():
    """Truth 1, 2, 3 m; prediction 1, 2, 5 m: (-0.75, 0, 2.25) less (-1.5, 0, 1.5), halved; trimming a third leaves two."""
    (target, mask), (pred, _) = row(1.0, 2.0, 3.0), row(1.0, 2.0, 5.0)
    assert ssi_mae_per_image(pred, target, mask).value.item() == pytest.approx((0.75 + 0.75) / 2 / 3)
    assert ssi_trimmed_per_image(pred, target, mask, trim=0.3).value.item() == pytest.approx(0.75 / 2 / 3)
    assert ms_gradient_per_image(pred, target, mask, scales=1).value.item() == pytest.approx((0.75 + 0.75) / 3)
    assert ms_gradient_per_image(pred, target, mask, scales=2).value.item() == pytest.approx(0.5 + 0.0 / 2)


def test_ranking_by_hand():
    """Two pixels of truth 1 and 2 m, predicted the other way round, cost ln(1 + 2); as far, ln² 2."""
    (target, mask), (pred, _) = row(1.0, 2.0), row(2.0, 1.0)
    assert ranking_per_image(pred, target, mask).value.item() == pytest.approx(math.log(3))
    assert ranking_per_image(pred, torch.ones_like(pred), mask).value.item() == pytest.approx(math.log(2) ** 2)
    assert ranking_per_image(pred, target, mask, threshold=1.5).value.item() == pytest.approx(math.log(2) ** 2)


def test_virtual_normals_by_hand():
    """A wall that is farther away is the same wall; one that leans by the angle a differs by sin a + 1 - cos a."""
    pred, target, mask = ramp(0.0, 48, 48)
    assert virtual_normal_per_image(pred + 2, target, mask).value.item() == pytest.approx(0.0, abs=1e-5)
    # z = 3 + x·tan 30° in the camera's frame: along a ray (x/z = r), z = 3 / (1 - r·tan 30°).
    ray = (torch.arange(48.0) + 0.5 - 24) / (24 / math.tan(math.radians(30)))
    leaning = (3 / (1 - ray * math.tan(math.radians(30)))).expand_as(target)
    expected = math.sin(math.radians(30)) + 1 - math.cos(math.radians(30))
    assert virtual_normal_per_image(leaning, target, mask).value.item() == pytest.approx(expected, rel=1e-4)


def test_ms_ssim_by_hand():
    """Flat maps of 2 and 4 m: there is no structure to differ, and luminance counts at the coarsest level alone."""
    target = torch.full((1, 1, 176, 176), 4.0)
    luminance = (2 * 8 + 0.01) / (4 + 16 + 0.01)
    found = ms_ssim_per_image(target / 2, target, target > 0, 10.0).value.item()
    assert found == pytest.approx(1 - luminance ** (0.1333 / sum(EXPONENTS)), rel=1e-4)


def test_shift_and_scale_do_not_matter_where_a_term_says_so():
    """A prediction times 3 plus 1 m, or 3 times as far, is as good."""
    pred, target, mask, _ = make_batch()
    for term in ("ssi_mae", "ssi_trimmed", "ms_gradient"):
        assert torch.allclose(
            values_of(term, 3 * pred + 1, target, mask), values_of(term, pred, target, mask), rtol=1e-4
        )
    assert torch.allclose(values_of("ranking", 3 * pred, target, mask), values_of("ranking", pred, target, mask))


# -- what holds of every term ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("term", FURTHER_TERMS)
def test_values_and_gradients_are_finite_where_losses_usually_break(term):
    """A perfect prediction, no valid pixel, one valid pixel, flat maps, a constant ratio, predictions at and below 0."""
    pred, target, mask, _ = make_batch()
    whole, none, one = torch.ones_like(mask), torch.zeros_like(mask), torch.zeros_like(mask)
    target = torch.nan_to_num(target, nan=3.0)
    one[..., 10, 12] = True
    flat = torch.full_like(target, 2.0)
    cases = {
        "perfect": (target, target, mask),
        "empty": (pred, target, none),
        "one pixel": (pred, target, one),
        "flat": (flat, target, mask),
        "both flat": (flat, flat + 1, whole),
        "ratio": (2 * target, target, mask),
        "zero": (0 * pred, target, mask),
        "negative": (-pred, target, mask),
        "huge": (1e6 * pred, target, mask),
    }
    loss = CombinedLoss({term: 1.0}, data_range=10.0)
    for name, (given, truth, valid) in cases.items():
        leaf = given.clone().requires_grad_()
        total, terms = loss(leaf, truth, valid)
        (gradient,) = torch.autograd.grad(total, leaf)
        assert total.isfinite() and gradient.isfinite().all() and terms[term].item() >= 0, name
        if name == "empty" or (name == "perfect" and term != "ranking"):  # ranking pulls pairs apart for ever
            assert terms[term].item() == pytest.approx(0.0, abs=2e-6) and gradient.abs().max() < 1e-3, name


@pytest.mark.parametrize("term", [term for term in FURTHER_TERMS if term != "berhu"])
def test_gradients_agree_with_finite_differences(term):
    """A step along the gradient changes the loss as the gradient says."""
    pred, target, mask, _ = make_batch(images=1, height=24, width=24)
    loss = CombinedLoss({term: 1.0}, data_range=10.0)
    pred.requires_grad_()
    (gradient,) = torch.autograd.grad(loss(pred, target, mask)[0], pred)
    with torch.no_grad():
        step = 2e-3 * gradient / gradient.norm()
        change = loss(pred + step, target, mask)[0] - loss(pred - step, target, mask)[0]
    assert change.item() == pytest.approx(4e-3 * gradient.norm().item(), rel=3e-2)


def test_the_gradient_of_berhu_takes_its_turn_for_a_constant():
    """The sign of the error, steeper by |e| / c beyond c, over the valid pixels; as its authors step."""
    pred, target, mask, _ = make_batch(images=1)
    leaf = pred.requires_grad_()
    (gradient,) = torch.autograd.grad(berhu_per_image(leaf, target, mask).mean(), leaf)
    error = (pred.detach() - target)[mask]
    turn = 0.2 * error.abs().max()
    assert torch.allclose(gradient[mask], error.sign() * (error.abs() / turn).clamp_min(1.0) / mask.sum(), rtol=1e-5)


@pytest.mark.parametrize("term", FURTHER_TERMS)
def test_neither_holes_nor_other_images_matter(term):
    """What stands where nothing is valid changes no bit of value and gradient; an image has its value in any batch."""
    pred, target, mask, _ = make_batch()
    loss = CombinedLoss({term: 1.0}, data_range=10.0)
    found = []
    for filling in (1.0, math.nan, math.inf):
        given = torch.where(mask, pred, filling).requires_grad_()
        terms = loss.terms(given, torch.where(mask, target, filling), mask)
        found.append((terms[term].item(), torch.autograd.grad(terms[term], given)[0]))
        assert found[-1][0] == found[0][0] and torch.equal(found[-1][1], found[0][1])
        assert not found[-1][1][~mask].any()
    alone = torch.cat([values_of(term, pred[[i]], target[[i]], mask[[i]]) for i in range(3)])
    assert torch.allclose(values_of(term, pred, target, mask), alone, rtol=1e-6, atol=0)
    hollow = mask.clone()
    hollow[1] = False
    assert values_of(term, pred, target, hollow).isnan().tolist() == [False, True, False]


@pytest.mark.parametrize("term", FURTHER_TERMS)
def test_a_prediction_that_is_not_finite_shows(term):
    """One pixel makes the image's value infinite, or all do where a term looks at drawn pixels."""
    pred, target, mask, _ = make_batch(0.0)
    for broken in (math.nan, math.inf):
        ruined = pred.clone()
        ruined[1, :, slice(None) if term in SAMPLED else 12, slice(None) if term in SAMPLED else 12] = broken
        found = values_of(term, ruined, target, mask)
        assert found[1] == math.inf and found[[0, 2]].isfinite().all()


@pytest.mark.parametrize("term", FURTHER_TERMS)
def test_terms_are_float32_under_autocast_and_the_same_again(term):
    """Autocast to bfloat16 changes no bit, and neither does asking twice; a prediction in bfloat16 is taken as it is."""
    pred, target, mask, _ = make_batch()
    loss = CombinedLoss({term: 1.0}, data_range=10.0)
    plain = loss.terms(pred, target, mask)[term]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        cast = loss.terms(pred, target, mask)[term]
    assert cast.dtype == torch.float32 and cast.item() == plain.item() == loss.terms(pred, target, mask)[term].item()
    half = pred.bfloat16()
    assert loss.terms(half, target, mask)[term].item() == loss.terms(half.float(), target, mask)[term].item()


def test_ms_ssim_refuses_maps_smaller_than_its_window():
    """As SSIM does."""
    depth = torch.ones(1, 1, 8, 16)
    with pytest.raises(ModelError, match="8x16; expected at least 11"):
        ms_ssim_per_image(depth, depth, depth > 0, 10.0)


# -- where they are computed ----------------------------------------------------------------------------------------


def test_a_further_term_is_computed_where_it_is_named():
    """At weight 0, too; the others go without, and the total weighs what is there."""
    pred, target, mask, image = make_batch()
    plain, terms = CombinedLoss({"l1": 0.5}, data_range=10.0)(pred, target, mask, image)
    assert [*terms] == [*TERMS]
    named, terms = CombinedLoss({"l1": 0.5, "berhu": 0.0}, data_range=10.0)(pred, target, mask, image)
    assert [*terms] == [*TERMS, "berhu"] and torch.equal(plain, named)
    total, terms = CombinedLoss({"l2": 2.0, "l1": 0.5, "berhu": 1.0}, data_range=10.0)(pred, target, mask, image)
    assert [*terms] == [*TERMS, "l2", "berhu"]
    assert total.item() == pytest.approx((2 * terms["l2"] + 0.5 * terms["l1"] + terms["berhu"]).item())


def test_identity_names_a_further_term_and_its_options_where_the_study_does(make_settings):
    """Named, even at weight 0, it is another run, since more is measured of it; unnamed, none of its options matters."""
    plain = make_settings({"l1": 1.0})
    assert run_identity(plain, CPU, "d") == run_identity(make_settings({"l1": 1.0}, huber_delta=0.3), CPU, "d")
    others = [
        make_settings({"l1": 1.0, "huber": 0.0}),
        make_settings({"l1": 1.0, "huber": 0.0}, huber_delta=0.3),
        make_settings({"l1": 1.0, "huber": 0.1}),
        make_settings({"l1": 1.0, "berhu": 0.1}),
        plain.model_copy(update={"metrics": ("irmse",)}),
    ]
    assert len({run_identity(settings, CPU, "d") for settings in (plain, *others)}) == 1 + len(others)


def test_stopped_and_resumed_a_run_of_every_term_ends_with_the_same_bits(pictures, make_settings, tmp_path):
    """Drawn pairs and triplets included: nothing is carried that a checkpoint would have to hold."""
    settings = make_settings(dict.fromkeys((*TERMS, *FURTHER_TERMS), 0.1))
    records, result = complete(train(settings, pictures, tmp_path / "whole", CPU))
    complete(train(settings, pictures, tmp_path / "cut", CPU, should_stop=stop_after(4)))
    again = complete(train(settings, pictures, tmp_path / "cut", CPU))
    assert bits(*again, tmp_path / "cut") == bits(records, result, tmp_path / "whole")
    assert all(math.isfinite(records[-1].splits["val"][f"term_{term}"]) for term in FURTHER_TERMS)
    assert sum(records[-1].gradient_share.values()) == pytest.approx(1.0)
