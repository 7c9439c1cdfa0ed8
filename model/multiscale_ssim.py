"""SSIM at several resolutions: the term "ms_ssim". Shapes, units, and what holds of every term, as in `model.losses`."""

import numpy as np
import torch
from torch import Tensor

from depth_loss_sweep.model.losses import SSIM_WINDOW, PerImage, masked_mean, ssim_maps

EXPONENTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
"""Of the resolutions, from the finest (Wang et al. 2003, sec. 3.2)."""

LEAST_SIMILARITY = 1e-4
"""A resolution's similarity counts as this at least: below 0 it has no power, and at 0 the power's gradient is infinite."""


def ms_ssim_per_image(pred: Tensor, target: Tensor, mask: Tensor, data_range: float) -> PerImage:
    """1 - MS-SSIM: the product of contrast and structure at each resolution, and of luminance at the coarsest (Wang et al. 2003).

    Each resolution has half of the one before, means of 2×2 pixels; a pixel is valid where at least two of its four are, and
    is the mean of those. Windows, constants and which windows count are those of `ssim_loss`. Where five resolutions don't fit a window
    of 11 (sides below 176), there are as many as do; one at which an image has no window is left out of it. The exponents
    are scaled to sum to 1 over what is left, so that the value stays on one scale. (B,). ModelError as of `ssim_loss`.
    """
    levels = min(len(EXPONENTS), max(1, (min(pred.shape[-2:]) // SSIM_WINDOW).bit_length()))
    logs, exponents = [], []
    counted = torch.zeros_like(mask[:, 0, 0, 0])
    for level, exponent in enumerate(EXPONENTS[:levels]):
        if level:
            pred, target, mask = _halved(pred, target, mask)
        luminance, structure, counts = ssim_maps(pred, target, mask, data_range)
        similarity, any_window = masked_mean(luminance * structure if level == levels - 1 else structure, counts)
        logs.append(torch.where(any_window, similarity.clamp_min(LEAST_SIMILARITY).log(), 0.0))
        exponents.append(torch.where(any_window, exponent, 0.0))
        counted = counted | any_window
    powers = torch.stack(exponents)
    powers = powers / powers.sum(dim=0).clamp_min(EXPONENTS[0])
    return PerImage(torch.where(counted, 1.0 - (powers * torch.stack(logs)).sum(dim=0).exp(), 0.0), counted)


def _halved(pred: Tensor, target: Tensor, mask: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The maps at half of their resolution, and where they are valid; an odd side loses its last row or column."""
    height, width = (side // 2 * 2 for side in mask.shape[-2:])
    corners = [np.s_[..., y:height:2, x:width:2] for y in (0, 1) for x in (0, 1)]
    valid = torch.stack([mask[corner] for corner in corners]).sum(dim=0)
    known = [torch.where(mask, depth.float(), 0.0) for depth in (pred, target)]
    pred, target = (torch.stack([depth[c] for c in corners]).sum(dim=0) / valid.clamp_min(1) for depth in known)
    return pred, target, valid >= 2
