"""Terms that look at one pixel at a time: functions of the error e = d - d̂, averaged over each image's valid pixels.

Shapes, units, and what holds of every term, as in `model.losses`. Options are keys of a spec's `[loss]`.
"""

import torch
from torch import Tensor

from depth_loss_sweep.model.losses import PerImage, log_depth, masked_mean


def l2_per_image(pred: Tensor, target: Tensor, mask: Tensor) -> PerImage:
    """Mean e², m²: the usual loss of regression (Laina et al. 2016, sec. 3.2, call it L2). (B,)."""
    return masked_mean(_error(pred, target, mask).square(), mask)


def huber_per_image(pred: Tensor, target: Tensor, mask: Tensor, delta: float = 1.0) -> PerImage:
    """Mean of e²/2 where |e| ≤ δ, else δ·(|e| - δ/2), m² (Huber 1964; δ in metres). (B,)."""
    size = _error(pred, target, mask).abs()
    # With s = min(|e|, δ) both branches are s·(|e| - s/2): nothing is squared where it could overflow.
    inner = size.clamp_max(delta)
    return masked_mean(inner * (size - 0.5 * inner), mask)


def berhu_per_image(pred: Tensor, target: Tensor, mask: Tensor, share: float = 0.2) -> PerImage:
    """Mean of |e| where |e| ≤ c, else (e² + c²) / 2c, metres; c = `share` · max |e| (Laina et al. 2016, sec. 3.2). (B,).

    The paper takes the largest error of the batch; this takes each image's, so that no image's value depends on the others. No
    gradient goes through c.
    """
    size = _error(pred, target, mask).abs()
    turn = (share * size.detach().amax(dim=(1, 2, 3), keepdim=True)).clamp_min(torch.finfo(size.dtype).eps)
    return masked_mean(torch.where(size <= turn, size, (size.square() + turn.square()) / (2.0 * turn)), mask)


def log_l1_per_image(pred: Tensor, target: Tensor, mask: Tensor) -> PerImage:
    """Mean |log d - log d̂|, natural, d̂ at least 1 mm: the metric log10 as a loss, but for the logarithm's base. (B,)."""
    return masked_mean((log_depth(target) - log_depth(torch.where(mask, pred, 1.0))).abs(), mask)


def log_offset_per_image(pred: Tensor, target: Tensor, mask: Tensor, alpha: float = 0.5) -> PerImage:
    """Mean ln(|e| + α) - ln α, α in metres (l_depth of Hu et al. 2019, sec. 3.2). (B,).

    They don't take ln α away. It changes no gradient, and without it a term would be below 0, which rules that weigh by its size, or
    by how fast it falls, make no sense of.
    """
    return masked_mean((_error(pred, target, mask).abs() / alpha).log1p(), mask)


def _error(pred: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    """Truth less prediction, float32, 0 where nothing is valid."""
    return torch.where(mask, target.float() - pred.float(), 0.0)
