"""Terms and a metric of the surfaces that depth describes: their slopes, and which way they face.

Shapes, units, and what holds of every term, as in `model.losses`. Options are keys of a spec's `[loss]`.
"""

import math
from functools import lru_cache

import torch
from torch import Tensor

from depth_loss_sweep.model.draws import draw
from depth_loss_sweep.model.losses import PerImage, masked_mean
from depth_loss_sweep.model.names import FIELD_OF_VIEW

SAMPLED_SHARE = 0.15
"""Triplets a pixel that `virtual_normal` samples, as its authors' code does."""

LEAST_ANGLE, MOST_ANGLE = 30.0, 120.0
"""Degrees between which two angles of a triplet lie, else it counts as a line (Yin et al. 2019, restriction R1)."""

LEAST_SQUARE = 1e-12
"""Added to a squared length: points that coincide have no normal, and must not have an infinite gradient."""


# Slopes and normals as the image has them ------------------------------------------------------------------------


def log_gradient_per_image(pred: Tensor, target: Tensor, mask: Tensor, alpha: float = 0.5) -> PerImage:
    """Mean ln(|∇x d - ∇x d̂| + α) + ln(|∇y d - ∇y d̂| + α) - 2 ln α, Sobel's ∇ (l_grad of Hu et al. 2019, sec. 3.2, and train.py). (B,).

    A pixel counts if its whole 3×3 window is valid; they pad with zeros and know no mask, and don't take 2 ln α away (see
    `log_offset_per_image`).
    """
    # ∇d - ∇d̂ = ∇(d - d̂)
    slopes, counts = _sobel(torch.where(mask, target.float() - pred.float(), 0.0), mask)
    return masked_mean((slopes.abs() / alpha).log1p().sum(dim=1, keepdim=True), counts)


def normals_per_image(pred: Tensor, target: Tensor, mask: Tensor) -> PerImage:
    """Mean 1 - ⟨n, n̂⟩ / |n||n̂|, n = (-∇x d, -∇y d, 1) of Sobel's ∇ (l_normal of Hu et al. 2019, sec. 3.2, as in their train.py). (B,).

    A pixel counts if its whole 3×3 window is valid.
    """
    found, counts = _sobel(torch.where(mask, pred.float(), 0.0), mask)
    true, _ = _sobel(torch.where(mask, target.float(), 0.0), mask)
    # 1 - cosine, from unit vectors' difference: no digits are lost where both agree.
    difference = _unit(_facing(found)) - _unit(_facing(true))
    return masked_mean(0.5 * difference.square().sum(dim=1, keepdim=True), counts)


def _sobel(depth: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Sobel's gradients (B, 2, H - 2, W - 2) along x and y, eight times the slope of a ramp, and where all they see is valid."""
    whole = mask[..., :-2, :] & mask[..., 1:-1, :] & mask[..., 2:, :]
    whole = whole[..., :-2] & whole[..., 1:-1] & whole[..., 2:]
    # By slices: a convolution would be computed in TF32 on CUDA.
    down = depth[..., :-2, :] + 2.0 * depth[..., 1:-1, :] + depth[..., 2:, :]
    along = depth[..., :-2] + 2.0 * depth[..., 1:-1] + depth[..., 2:]
    return torch.cat((down[..., 2:] - down[..., :-2], along[..., 2:, :] - along[..., :-2, :]), dim=1), whole


def _facing(slopes: Tensor) -> Tensor:
    """(B, 3, H, W): the normals, not of unit length, of surfaces with these slopes (B, 2, H, W)."""
    return torch.cat((-slopes, torch.ones_like(slopes[:, :1])), dim=1)


def _unit(vectors: Tensor) -> Tensor:
    """Vectors (B, 3, ...) at unit length; shorter where there is hardly any length, with a finite gradient."""
    return vectors / (vectors.square().sum(dim=1, keepdim=True) + LEAST_SQUARE).sqrt()


# Normals as a camera would see them ------------------------------------------------------------------------------


def virtual_normal_per_image(
    pred: Tensor, target: Tensor, mask: Tensor, field_of_view: float = FIELD_OF_VIEW, distance: float = 0.6
) -> PerImage:
    """Mean |n - n̂|₁ of the unit normals of planes through triplets of far points (L_VN of Yin et al. 2019, sec. 3.2). (B,).

    Points are seen by a camera in the picture's middle with that field of view, in degrees, across it. A triplet counts if its three
    pixels are valid and its true points are no line (R1: two of its angles are from 30° to 120°) and `distance` metres apart (R2).

    Triplets are drawn once for each size of picture, by a generator that the size seeds, and no pixel is in two: the same pictures
    have the same value in every epoch, and no random state has to survive a kill. The authors draw anew at each step, and leave out
    the quarter of the triplets that are best.
    """
    height, width = pred.shape[-2:]
    count = int(SAMPLED_SHARE * height * width)
    rays = draw(_rays(height, width, field_of_view, pred.device), 3, count)
    depths = (draw(torch.where(mask, depth.float(), 1.0), 3, count) for depth in (pred, target))
    found, true = (depth * rays for depth in depths)
    counts = draw(mask, 3, count).all(dim=3).squeeze(1) & _is_triangle(true, distance)
    difference = (_plane(found) - _plane(true)).abs().sum(dim=1)
    return masked_mean(difference[:, None, None], counts[:, None, None])


def normal_metrics(pred: Tensor, target: Tensor, mask: Tensor) -> dict[str, Tensor]:
    """The mean angle of each image between the normals of predicted and true surface, degrees, {name: (B,)}.

    As on NYU (Eigen & Fergus 2015, who have true normals); here both come from depth: across the differences of a pixel's
    neighbours left and right, above and below, seen by a camera of `FIELD_OF_VIEW`. A pixel counts where all five are valid.
    """
    counts = mask[..., 1:-1, 1:-1] & mask[..., 1:-1, :-2] & mask[..., 1:-1, 2:]
    counts = counts & mask[..., :-2, 1:-1] & mask[..., 2:, 1:-1]
    rays = _rays(pred.shape[-2], pred.shape[-1], FIELD_OF_VIEW, pred.device)
    found, true = (_normals(torch.where(mask, depth.float(), 1.0) * rays) for depth in (pred, target))
    across, along = torch.linalg.cross(found, true, dim=1).norm(dim=1), (found * true).sum(dim=1)
    angle = torch.atan2(across, along).unsqueeze(1)  # an arc cosine loses half of its digits near 0
    return {"normal_angle": masked_mean(torch.rad2deg(angle), counts).or_nan()}


def _normals(points: Tensor) -> Tensor:
    """(B, 3, H - 2, W - 2): normals, not of unit length, of a surface of points (B, 3, H, W)."""
    across = points[..., 1:-1, 2:] - points[..., 1:-1, :-2]
    down = points[..., 2:, 1:-1] - points[..., :-2, 1:-1]
    # At unit length first: the product of two hairs is nothing in float32.
    return torch.linalg.cross(_unit(across), _unit(down), dim=1)


def _plane(points: Tensor) -> Tensor:
    """(B, 3, T): unit normals of the planes through triplets of points (B, 3, T, 3)."""
    first, second, third = points.unbind(dim=3)
    return _unit(torch.linalg.cross(second - first, third - first, dim=1))


def _is_triangle(points: Tensor, distance: float) -> Tensor:
    """(B, T): whether triplets of points (B, 3, T, 3) are so far apart, and are no line."""
    first, second, third = points.unbind(dim=3)
    sides = [second - first, third - second, first - third]
    lengths = [side.norm(dim=1) for side in sides]
    far = torch.stack([length > distance for length in lengths]).all(dim=0)
    low, high = (math.cos(math.radians(angle)) for angle in (MOST_ANGLE, LEAST_ANGLE))
    for one, other in ((2, 0), (0, 1)):  # the angles at the first and at the second point
        cosine = -(sides[one] * sides[other]).sum(dim=1) / (lengths[one] * lengths[other]).clamp_min(LEAST_SQUARE)
        far = far & (cosine >= low) & (cosine <= high)
    return far


@lru_cache(maxsize=16)
def _rays(height: int, width: int, field_of_view: float, device: torch.device) -> Tensor:
    """(3, H, W): what depth 1 is at each pixel, as a point in the camera's frame; x to the right, y down."""
    with torch.inference_mode(False), torch.no_grad():
        focal = 0.5 * width / math.tan(math.radians(0.5 * field_of_view))
        x, y = ((torch.arange(side) + 0.5 - 0.5 * side) / focal for side in (width, height))
        y, x = torch.meshgrid(y, x, indexing="ij")
        return torch.stack((x, y, torch.ones_like(x))).float().to(device)
