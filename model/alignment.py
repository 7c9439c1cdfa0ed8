"""Terms and metrics to which a map's scale, its shift, or all but its order doesn't matter.

Shapes, units, and what holds of every term, as in `model.losses`. Options are keys of a spec's `[loss]`.
"""

import math

import torch
from torch import Tensor
from torch.nn import functional

from depth_loss_sweep.model.draws import draw
from depth_loss_sweep.model.losses import MIN_DEPTH, PerImage, log_depth, masked_mean
from depth_loss_sweep.model.metrics import delta_of, lower_median

# Free of shift and scale -----------------------------------------------------------------------------------------


def ssi_mae_per_image(pred: Tensor, target: Tensor, mask: Tensor) -> PerImage:
    """Mean |r| / 2, r the difference of both maps, each less its median and over its mean absolute deviation from that. (B,).

    Scale- and shift-invariant MAE (Ranftl et al. 2020, Eq. 5 and 6). Theirs is of inverse depth; this is of depth. A mean
    deviation counts as 1 mm at least: a flat prediction has no scale.
    """
    return masked_mean(0.5 * _residuals(pred, target, mask).abs(), mask)


def ssi_trimmed_per_image(pred: Tensor, target: Tensor, mask: Tensor, trim: float = 0.2) -> PerImage:
    """`ssi_mae` without the `trim` largest residuals of an image, still over all of its pixels (Ranftl et al. 2020, Eq. 7). (B,)."""
    sizes = _residuals(pred, target, mask).abs()
    valid = mask.sum(dim=(1, 2, 3)).view(-1, 1, 1, 1)
    kept = (valid * (1.0 - trim)).floor()
    ordered = torch.where(mask, sizes, torch.inf).detach().flatten(1).sort(dim=1).values
    last = ordered.gather(1, (kept.flatten(1).long() - 1).clamp_min(0)).view(-1, 1, 1, 1)
    # As a weight a pixel, in place of a sum of sorted values: those as large as the last one that is kept share its places.
    below, equal = mask & (sizes < last), mask & (sizes == last)
    share = (kept - below.sum(dim=(1, 2, 3), keepdim=True)) / equal.sum(dim=(1, 2, 3), keepdim=True).clamp_min(1)
    weight = torch.where(below, 1.0, torch.where(equal, share, 0.0))
    # Not finite, it is the largest: it isn't trimmed away, since training has to notice.
    broken = mask & ~sizes.isfinite()
    return masked_mean(torch.where(broken, sizes, 0.5 * weight * torch.where(weight > 0, sizes, 0.0)), mask)


def ms_gradient_per_image(pred: Tensor, target: Tensor, mask: Tensor, scales: int = 4) -> PerImage:
    """Σk Σ |∇x rₖ| + |∇y rₖ| / pixels, r as of `ssi_mae` at every 2ᵏ-th pixel, k from 0 (Ranftl et al. 2020, Eq. 11). (B,).

    Forward differences of pairs with both pixels valid, over the valid pixels of that resolution, as in the authors' code
    (theirs over those of the whole batch).
    """
    whole = _residuals(pred, target, mask)
    value, counts = torch.zeros_like(whole[:, 0, 0, 0]), torch.zeros_like(mask[:, 0, 0, 0])
    for step in (2**scale for scale in range(scales)):
        rest, valid = whole[..., ::step, ::step], mask[..., ::step, ::step]
        pixels = valid.sum(dim=(1, 2, 3)).clamp_min(1)
        for dim in (-1, -2):
            length = rest.shape[dim] - 1
            pairs = valid.narrow(dim, 0, length) & valid.narrow(dim, 1, length)
            value = value + torch.where(pairs, rest.diff(dim=dim).abs(), 0.0).sum(dim=(1, 2, 3)) / pixels
            counts = counts | pairs.any(dim=3).any(dim=2).any(dim=1)
    return PerImage(value, counts)


def _residuals(pred: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    """Prediction less truth, each free of its shift and scale, (B, 1, H, W); 0 where nothing is valid."""
    return torch.where(mask, _normalised(pred, mask) - _normalised(target, mask), 0.0)


def _normalised(depth: Tensor, mask: Tensor) -> Tensor:
    """(d - median) / mean |d - median| over valid pixels (Ranftl et al. 2020, Eq. 5 and 6); gradients go through both."""
    depth = torch.where(mask, depth.float(), 0.0)
    median = lower_median(depth.detach(), mask).nan_to_num().view(-1, 1, 1, 1)
    # The median as a mean of the pixels that have its value: the gradient is the same on every device.
    at_median = mask & (depth == median)
    shift = masked_mean(depth, at_median).value.view(-1, 1, 1, 1)
    moved = torch.where(mask, depth - shift, 0.0)
    return moved / masked_mean(moved.abs(), mask).value.clamp_min(MIN_DEPTH).view(-1, 1, 1, 1)


# Order alone -----------------------------------------------------------------------------------------------------


def ranking_per_image(pred: Tensor, target: Tensor, mask: Tensor, threshold: float = 0.03) -> PerImage:
    """Mean over pairs of pixels of ln(1 + exp(±(ẑ₁ - ẑ₂))), by which is farther, and of (ẑ₁ - ẑ₂)² where they are as far. (B,).

    Ranking loss (Chen et al. 2016); as far are depths within a ratio of 1 + `threshold` (Xian et al. 2020, τ = 0.03). It has no
    least value: pairs in the right order are pulled farther apart. Their ẑ has no unit; ours is log depth, natural, of 1 mm at
    least. Pairs are drawn as the triplets of `virtual_normal` are, once for each size of picture, and every pixel is in one.
    """
    count = pred.shape[-2] * pred.shape[-1] // 2
    logs = (draw(log_depth(torch.where(mask, depth, 1.0)), 2, count) for depth in (pred, target))
    farther, true_farther = (log[..., 0] - log[..., 1] for log in logs)
    is_ordered = true_farther.abs() >= math.log1p(threshold)
    value = torch.where(is_ordered, functional.softplus(-true_farther.sign() * farther), farther.square())
    return masked_mean(value.unsqueeze(1), draw(mask, 2, count).all(dim=3).unsqueeze(1))


# Metrics ---------------------------------------------------------------------------------------------------------


def aligned_metrics(pred: Tensor, target: Tensor, mask: Tensor) -> dict[str, Tensor]:
    """AbsRel and δ < 1.25 of s·d̂ + t, at least 1 mm, with each image's least-squares s and t, {name: (B,)}.

    As relative depth is judged (Ranftl et al. 2020, Eq. 4, on inverse depth; on depth as in LeReS, Yin et al. 2021). A flat
    prediction has s = 0.
    """
    found, truth = (torch.where(mask, depth.float(), 1.0) for depth in (pred, target))
    middle, true_middle = (masked_mean(depth, mask).value.view(-1, 1, 1, 1) for depth in (found, truth))
    off = found - middle
    spread, together = (masked_mean(off * other, mask).value.view(-1, 1, 1, 1) for other in (off, truth - true_middle))
    scale = torch.where(spread > MIN_DEPTH**2, together / spread, 0.0)
    # A prediction that isn't finite stays so, and is judged as infinitely wrong.
    aligned = torch.where(middle.isfinite(), scale * off + true_middle, torch.inf).clamp_min(MIN_DEPTH)
    return {
        "abs_rel_aligned": masked_mean((aligned - truth).abs() / truth, mask).or_nan(),
        "delta1_aligned": delta_of(aligned, truth, mask, 1),
    }
