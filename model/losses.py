"""The terms of the combined loss, each masked, per image, finite in value and gradient; and their weighted sum (Eq. 6).

Shapes and units: `pred` and `target` are depth in metres, (B, 1, H, W) float; `mask` is (B, 1, H, W) bool, true where the
depth is valid; `image` is (B, 3, H, W) float in [0, 1]. Every term is computed per image over its valid pixels, then
averaged over the images that have any; it is 0 if none has. An image counts for a term if it holds at least one thing that
the term averages: a valid pixel, for `ssim` a valid window, for `edge` a pair of valid neighbours.

A non-finite prediction at a valid pixel makes the loss non-finite on purpose: training has to notice. What stands at invalid
pixels, in prediction or truth, never matters. Equations are numbered as in the paper this tool reproduces.

Nothing here waits for the device, and no shape depends on the mask.
"""

import math
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Any, NamedTuple

import torch
from pydantic import ValidationError
from torch import Tensor, nn
from torch.nn import functional

from depth_loss_sweep.model.errors import ModelError
from depth_loss_sweep.model.names import ALL_TERMS, WEIGHTINGS, terms_with
from depth_loss_sweep.model.own import called, term_values
from depth_loss_sweep.model.settings import EdgeForm, LossSettings, SILogForm
from depth_loss_sweep.model.weighting import Weighting

# Logarithms never see a depth below this, in metres. A prediction below it gets no gradient from SILog.
MIN_DEPTH = 1e-3

SSIM_WINDOW = 11
SSIM_SIGMA = 1.5
SSIM_K1 = 0.01
SSIM_K2 = 0.03
# A window counts if its centre is valid and at least this share of its weight; the hair below absorbs rounding.
SSIM_MIN_WEIGHT = 0.5 - 1e-6
# Windows are summed in blocks of so many: a whole row's matrix is nearly all zeros where the picture is large.
BAND_BLOCK = 64


class PerImage(NamedTuple):
    """One value an image, and whether that image has anything the value could be computed on; both are (B,)."""

    value: Tensor
    counts: Tensor

    def mean(self) -> Tensor:
        """Average over the images that count, 0 if none does: a scalar that gradients pass through."""
        total = torch.where(self.counts, self.value, 0.0).sum()
        return total / self.counts.sum().clamp_min(1)

    def or_nan(self) -> Tensor:
        """(B,), NaN where the value is undefined; a non-finite value is infinity, so that nobody skips it as undefined."""
        known = torch.nan_to_num(self.value, nan=math.inf, posinf=math.inf, neginf=math.inf)
        return torch.where(self.counts, known, math.nan)


def l1_loss(pred: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    """Mean absolute error, in metres: mean |d - d̂| (Eq. 1, 10). Scalar."""
    return l1_per_image(pred, target, mask).mean()


def silog_loss(pred: Tensor, target: Tensor, mask: Tensor, alpha: float = 0.85, form: SILogForm = "plain") -> Tensor:
    """Scale-invariant log error: mean g² - alpha·(mean g)², g = log d - log d̂, natural, d̂ at least 1 mm (Eq. 5, 7).

    `form="rooted"` is 10·√ of that, as depth toolboxes have it (BTS, Lee et al. 2019), rooted per image: it changes what
    the term's weight means. Scalar.
    """
    return silog_per_image(pred, target, mask, alpha, form).mean()


def ssim_loss(pred: Tensor, target: Tensor, mask: Tensor, data_range: float) -> Tensor:
    """1 - SSIM (Eq. 2, 3, 8; Wang et al. 2004), from Gaussian windows that lie inside the image. Scalar.

    Window 11, σ 1.5, K1 0.01, K2 0.03; `data_range` in metres. Moments are taken over a window's valid pixels (normalised
    convolution); a window counts if its centre is valid and at least half of its weight is. With a full mask it equals
    scikit-image's structural_similarity(gaussian_weights=True, use_sample_covariance=False). ModelError if the maps are
    smaller than a window.
    """
    return ssim_per_image(pred, target, mask, data_range).mean()


def edge_loss(pred: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    """Mean |∇x d - ∇x d̂| + mean |∇y d - ∇y d̂|, forward differences of pairs with both pixels valid, metres (Eq. 9). Scalar."""
    return edge_per_image(pred, target, mask).mean()


def smoothness_loss(pred: Tensor, image: Tensor) -> Tensor:
    """Edge-aware smoothness: mean |∂x d̂|·exp(-‖∂x I‖) + the same in y, ‖·‖ Euclidean over channels (Eq. 4). Scalar.

    The paper sums over pixels; this averages, so that the value doesn't grow with the picture. It knows no mask.
    """
    return smoothness_per_image(pred, image).mean()


def own_loss(
    term: Callable[..., Tensor],
    pred: Tensor,
    target: Tensor,
    mask: Tensor,
    image: Tensor | None = None,
    /,
    **options: Any,
) -> Tensor:
    """A term of your own, (B,) with NaN where an image has nothing to compute, as it is trained: those images count neither here
    nor in the gradient. Scalar."""
    return PerImage(*called(term, getattr(term, "__name__", "the term"), (pred, target, mask, image), options)).mean()


def l1_per_image(pred: Tensor, target: Tensor, mask: Tensor) -> PerImage:
    """`l1_loss` of each image."""
    return masked_mean((target.float() - pred.float()).abs(), mask)


def silog_per_image(
    pred: Tensor, target: Tensor, mask: Tensor, alpha: float = 0.85, form: SILogForm = "plain"
) -> PerImage:
    """`silog_loss` of each image."""
    ratio = torch.where(mask, log_depth(target) - log_depth(torch.where(mask, pred, 1.0)), 0.0)
    mean, counts = masked_mean(ratio, mask)
    # mean g² - α·(mean g)², written so that rounding can't make it negative: at α = 1 it would be, in float32.
    variance, _ = masked_mean((ratio - mean.view(-1, 1, 1, 1)).square(), mask)
    value = variance + (1.0 - alpha) * mean.square()
    return PerImage(10.0 * _safe_sqrt(value) if form == "rooted" else value, counts)


def ssim_per_image(pred: Tensor, target: Tensor, mask: Tensor, data_range: float) -> PerImage:
    """`ssim_loss` of each image."""
    luminance, structure, counts = ssim_maps(pred, target, mask, data_range)
    return masked_mean(1.0 - luminance * structure, counts)


def ssim_maps(pred: Tensor, target: Tensor, mask: Tensor, data_range: float) -> tuple[Tensor, Tensor, Tensor]:
    """SSIM's luminance, its contrast and structure, and whether they count, window by window: (B, 1, H - 10, W - 10) each."""
    if min(pred.shape[-2:]) < SSIM_WINDOW:
        raise ModelError(
            f"ssim: the depth maps are {pred.shape[-2]}x{pred.shape[-1]}; expected at least {SSIM_WINDOW} pixels a side"
        )
    with torch.autocast(pred.device.type, enabled=False):
        x, offset_x = _centred(pred, mask)
        y, offset_y = _centred(target, mask)
        weight, mean_y = _gaussian_filter(torch.stack((mask.float(), y))).unbind()
        mean_x, mean_squares, mean_xy = _gaussian_filter(torch.stack((x, x * x + y * y, x * y))).unbind()
        scale = 1.0 / weight.clamp_min(SSIM_MIN_WEIGHT)
        mean_x, mean_y = mean_x * scale, mean_y * scale
        # Both variances together: SSIM needs no more, and it saves a map. Rounding must not make them negative.
        variances = (mean_squares * scale - mean_x * mean_x - mean_y * mean_y).clamp_min(0.0)
        covariance = mean_xy * scale - mean_x * mean_y
        mean_x, mean_y = mean_x + offset_x, mean_y + offset_y
        c1, c2 = (SSIM_K1 * data_range) ** 2, (SSIM_K2 * data_range) ** 2
        luminance = (2.0 * mean_x * mean_y + c1) / (mean_x * mean_x + mean_y * mean_y + c1)
        structure = (2.0 * covariance + c2) / (variances + c2)
        radius = SSIM_WINDOW // 2
        counts = mask[..., radius:-radius, radius:-radius] & (weight >= SSIM_MIN_WEIGHT)
        return luminance, structure, counts


def edge_per_image(pred: Tensor, target: Tensor, mask: Tensor) -> PerImage:
    """`edge_loss` of each image; a direction without a valid pair adds nothing."""
    # ∇d - ∇d̂ = ∇(d - d̂): one difference map instead of two.
    error = torch.where(mask, target.float() - pred.float(), 0.0)
    along_x, any_x = masked_mean(error.diff(dim=-1).abs(), mask[..., 1:] & mask[..., :-1])
    along_y, any_y = masked_mean(error.diff(dim=-2).abs(), mask[..., 1:, :] & mask[..., :-1, :])
    return PerImage(along_x + along_y, any_x | any_y)


def smoothness_per_image(pred: Tensor, image: Tensor) -> PerImage:
    """`smoothness_loss` of each image; every image counts."""
    # The image is data: no gradient goes through the norm, which has none at 0.
    pred, image = pred.float(), image.detach().float()
    value = torch.zeros(pred.shape[0], device=pred.device)
    for dim in (-1, -2):
        norm = image.diff(dim=dim).square().sum(dim=1, keepdim=True).sqrt()
        value = value + (pred.diff(dim=dim).abs() * norm.neg().exp()).mean(dim=(1, 2, 3))
    return PerImage(value, torch.ones_like(value, dtype=torch.bool))


def masked_mean(values: Tensor, mask: Tensor) -> PerImage:
    """Mean of (B, 1, H, W) over the true pixels of each image, in float32; a value of 0 where there are none."""
    # where, not a product: 0 · NaN is NaN, and so is its gradient.
    total = torch.where(mask, values, 0.0).sum(dim=(1, 2, 3))
    count = mask.sum(dim=(1, 2, 3))
    return PerImage(total / count.clamp_min(1), count > 0)


def log_depth(depth: Tensor) -> Tensor:
    """Natural logarithm of a depth in metres, of `MIN_DEPTH` at least; any shape."""
    return depth.float().clamp_min(MIN_DEPTH).log()


@dataclass(frozen=True)
class Maps:
    """What a term may look at; shapes and units as on top of this module."""

    pred: Tensor
    target: Tensor
    mask: Tensor
    image: Tensor | None = None


def edge_term(maps: Maps, loss: LossSettings) -> PerImage:
    """The term "edge": Eq. 9, or with `edge = "smoothness"` Eq. 4, which has the same name in the paper."""
    if loss.edge == "gradient":
        return edge_per_image(maps.pred, maps.target, maps.mask)
    if maps.image is None:
        raise ModelError('edge = "smoothness" was given no image; expected (B, 3, H, W) in [0, 1]')
    return smoothness_term(maps, loss)


def smoothness_term(maps: Maps, loss: LossSettings) -> PerImage:
    """The term "smoothness"."""
    assert maps.image is not None
    return smoothness_per_image(maps.pred, maps.image)


@cache
def term_function(term: str) -> Callable[[Maps, LossSettings], PerImage]:
    """A term of the registry's, as it is called on maps under settings."""
    entry = ALL_TERMS[term]
    function = entry.load()
    if entry.sees_image:
        return function
    return lambda maps, loss: function(maps.pred, maps.target, maps.mask, *(getattr(loss, key) for key in entry.keys))


def _compute(term: str, maps: Maps, loss: LossSettings) -> PerImage:
    """A term of the registry's, or of the user's own."""
    if built_in := loss.built_in(term):
        return term_function(built_in)(maps, loss.as_seen_by(term))
    assert maps.image is not None
    return PerImage(*term_values(loss.own[term], maps.pred, maps.target, maps.mask, maps.image))


class CombinedLoss(nn.Module):
    """The total of the weighted terms, by default Σ λi·Li (Eq. 6), and every term beside it.

    `TERMS` and the further terms that are named are computed whatever their weights; one with weight 0 adds no gradient.
    """

    def __init__(
        self,
        weights: Mapping[str, float],
        *,
        data_range: float,
        silog_alpha: float = 0.85,
        silog_form: SILogForm = "plain",
        edge: EdgeForm = "gradient",
        **options: Any,
    ) -> None:
        """Take the weights by term (absent means 0), `data_range` in metres for SSIM, and the forms of the terms.

        `edge="smoothness"` makes the term "edge" Eq. 4 in place of Eq. 9; `options` are other keys of a spec's `[loss]`, such as
        the weighting. ModelError for an unknown term, a negative or non-finite weight, weights that sum to nothing, or a data
        range that isn't positive.
        """
        super().__init__()
        if not 0 < data_range < math.inf:
            raise ModelError(f"data_range is {data_range}; expected a positive number of metres")
        given = {"silog_alpha": silog_alpha, "silog_form": silog_form, "edge": edge, **options}
        try:
            self.settings = LossSettings.model_validate({"ssim_data_range": data_range, **given})
        except ValidationError as error:
            fault = error.errors(include_url=False)[0]
            raise ModelError(f"{'.'.join(map(str, fault['loc']))} is {fault['input']!r}: {fault['msg']}") from error
        _check_weights(weights, self.settings.own)
        self.weighting: Weighting = WEIGHTINGS[self.settings.weighting].load()(
            {**dict.fromkeys(self.settings.own, 0.0), **weights}, self.settings
        )

    def forward(
        self, pred: Tensor, target: Tensor, mask: Tensor, image: Tensor | None = None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the weighted total and {term: unweighted value}, all scalars that gradients pass through.

        The dictionary holds every one of `TERMS`, in order, then the further terms that were given a weight, save those that
        need an image where `image` is None. ModelError if one of those is weighted, or an edge term is a smoothness.
        """
        terms = self.terms(pred, target, mask, image)
        return self.weighting(terms, pred), terms

    def terms(self, pred: Tensor, target: Tensor, mask: Tensor, image: Tensor | None = None) -> dict[str, Tensor]:
        """The dictionary of `forward` alone; the weighting isn't asked."""
        followed = self.weighting.followed
        for term in followed:
            if image is None and self._needs_image(term):
                raise ModelError(f"a weight on {term} was given no image; expected (B, 3, H, W) in [0, 1]")
        maps = Maps(pred, target, mask, image)
        return {term: value.mean() for term, value in self._terms(maps, followed).items()}

    def per_image(self, pred: Tensor, target: Tensor, mask: Tensor, image: Tensor | None = None) -> dict[str, Tensor]:
        """Return {term: (B,) unweighted values}, for evaluation; the keys are those of `forward`.

        NaN where an image has nothing to compute a term on, infinity where the prediction is non-finite.
        """
        maps = Maps(pred, target, mask, image)
        return {term: value.or_nan() for term, value in self._terms(maps, frozenset(self.weighting.given)).items()}

    def _terms(self, maps: Maps, followed: frozenset[str]) -> dict[str, PerImage]:
        """Every term; autograd follows only the named ones, since one of weight 0 would get a gradient of 0 at full price."""
        computed: dict[str, PerImage] = {}
        for term in self.weighting.given:
            if maps.image is None and self._needs_image(term):
                continue
            with torch.set_grad_enabled(torch.is_grad_enabled() and term in followed):
                computed[term] = _compute(term, maps, self.settings)
        return computed

    def _needs_image(self, term: str) -> bool:
        built_in = self.settings.built_in(term)
        return built_in is None or ALL_TERMS[built_in].needs_image


def per_image_terms(
    pred: Tensor,
    target: Tensor,
    mask: Tensor,
    image: Tensor | None = None,
    *,
    data_range: float,
    silog_alpha: float = 0.85,
    silog_form: SILogForm = "plain",
    edge: EdgeForm = "gradient",
    terms: Iterable[str] = (),
    **options: Any,
) -> dict[str, Tensor]:
    """`CombinedLoss.per_image` without weights: {term: (B,)}, NaN where undefined, infinity where non-finite.

    Of every one of `TERMS`, and of the further `terms` that are named.
    """
    # The terms don't know their weights; any will do.
    loss = CombinedLoss(
        dict.fromkeys(terms_with(terms), 1.0),
        data_range=data_range,
        silog_alpha=silog_alpha,
        silog_form=silog_form,
        edge=edge,
        **options,
    )
    return loss.per_image(pred, target, mask, image)


def _check_weights(weights: Mapping[str, float], own: Collection[str]) -> None:
    """ModelError where weights by term are of no use."""
    for term, weight in weights.items():
        if term not in ALL_TERMS and term not in own:
            raise ModelError(f"unknown loss term {term!r}; the terms are {', '.join([*ALL_TERMS, *own])}")
        if not 0 <= weight < math.inf:
            raise ModelError(f"the weight of {term} is {weight}; weights are finite and not negative")
    if not sum(weights.values()) > 0:
        raise ModelError("the loss weights sum to nothing; at least one must be positive")


def _centred(depth: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Valid depth less its mean in the image (0 elsewhere), and that mean, (B, 1, 1, 1), as a constant.

    Variances of the raw depth lose their digits in float32 where the depth is large against its spread.
    """
    depth = depth.float()
    offset = masked_mean(depth.detach(), mask).value.view(-1, 1, 1, 1)
    return torch.where(mask, depth - offset, 0.0), offset


def _safe_sqrt(value: Tensor) -> Tensor:
    """Square root whose gradient at 0 is 0, not infinite; NaN stays NaN."""
    nothing = value <= 1e-16
    return torch.where(nothing, 0.0, torch.where(nothing, 1.0, value).sqrt())


def _gaussian_filter(maps: Tensor) -> Tensor:
    """Gaussian windows over (..., H, W), those inside only: (..., H - 10, W - 10)."""
    filtered: Tensor = _GaussianFilter.apply(maps)
    return filtered


class _GaussianFilter(torch.autograd.Function):
    """Products with banded matrices along both axes, the band in blocks. The gradient is the same filter: it is symmetric.

    A depthwise convolution is as quick on a CPU, but on CUDA cuDNN computes it in TF32 by default, and three digits are too
    few for a variance.
    """

    @staticmethod
    def forward(_: Any, maps: Tensor) -> Tensor:
        return _filter(maps)

    @staticmethod
    def backward(_: Any, gradient: Tensor) -> Tensor:
        # Outside the windows there is nothing: the filter's transpose sees zeros there.
        return _filter(functional.pad(gradient, [SSIM_WINDOW - 1] * 4))


def _filter(maps: Tensor) -> Tensor:
    height, width = (side - SSIM_WINDOW + 1 for side in maps.shape[-2:])
    columns = torch.cat([maps[..., seen] @ matrix for seen, matrix in _band(width, maps.device)], dim=-1)
    return torch.cat([matrix.T @ columns[..., seen, :] for seen, matrix in _band(height, maps.device)], dim=-2)


def _band(count: int, device: torch.device) -> Iterator[tuple[slice, Tensor]]:
    """So many windows, a block at a time: the pixels that they see, and the part of the banded matrix that isn't zero."""
    matrix = _window_matrix(BAND_BLOCK, device)
    for start in range(0, count, BAND_BLOCK):
        windows = min(BAND_BLOCK, count - start)
        seen = windows + SSIM_WINDOW - 1
        yield slice(start, start + seen), matrix[:seen, :windows]


@lru_cache(maxsize=16)
def _window_matrix(windows: int, device: torch.device) -> Tensor:
    """(windows + 10, windows): column i holds the window that starts at pixel i."""
    # Built outside inference mode even if the first caller is in it: training needs the cached matrix, too.
    with torch.inference_mode(False), torch.no_grad():
        distance = torch.arange(SSIM_WINDOW, dtype=torch.float64) - SSIM_WINDOW // 2
        window = torch.exp(-(distance**2) / (2 * SSIM_SIGMA**2))
        matrix = torch.zeros(windows + SSIM_WINDOW - 1, windows, dtype=torch.float64)
        for start in range(windows):
            matrix[start : start + SSIM_WINDOW, start] = window / window.sum()
        return matrix.float().to(device)
