"""Random flips, brightness and contrast of a batch, on its device: image and depth together, decided by a seed alone.

The changes are drawn anew for each batch (`augment`), or once for each copy by which a set is enlarged (`augment_copies`).
"""

from collections.abc import Collection

import torch

from depth_loss_sweep.data.errors import DataError

KINDS = ("flip_h", "flip_v", "brightness", "contrast")
LUMA = (0.299, 0.587, 0.114)
"""Weights of red, green and blue in brightness (ITU-R BT.601)."""


def augment(
    images: torch.Tensor,
    depth: torch.Tensor,
    mask: torch.Tensor,
    kinds: Collection[str],
    brightness: float,
    contrast: float,
    seed: int,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Augments images (B, 3, H, W) in [0, 1], depth (B, 1, H, W) and mask (B, 1, H, W); returns new ones.

    Each picture is flipped with probability a half (`flip_h` left to right, `flip_v` upside down). `brightness`
    multiplies it by a factor from [1 - brightness, 1 + brightness], `contrast` scales its distance from its mean grey
    likewise; then it is clamped to [0, 1]. The same seed gives the same choices on every device, and adding a kind
    doesn't change the choices of another. Raises DataError for an unknown kind.
    """
    unknown = sorted(set(kinds) - set(KINDS))
    if unknown:
        raise DataError(f"unknown augmentation {unknown[0]!r}; expected {', '.join(KINDS)}")
    if not kinds:
        return images, depth, mask
    return _changed(images, depth, mask, kinds, brightness, contrast, draw_changes(len(images), seed))


def augment_copies(
    images: torch.Tensor,
    depth: torch.Tensor,
    mask: torch.Tensor,
    kinds: Collection[str],
    brightness: float,
    contrast: float,
    draws: torch.Tensor,
    is_copy: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """As `augment` by the draws that these copies were made with, (KINDS, B) of `draw_changes`; others stay as they are.

    `is_copy` (B,) bool says which of the pictures are copies; the rest are originals, returned to the bit.
    """
    chosen = is_copy.to(images.device).view(-1, 1, 1, 1)
    changed = _changed(images, depth, mask, kinds, brightness, contrast, draws)
    images, depth, mask = (torch.where(chosen, *pair) for pair in zip(changed, (images, depth, mask), strict=True))
    return images, depth, mask


def draw_changes(count: int, seed: int) -> torch.Tensor:
    """By what so many pictures are changed: (KINDS, count), uniform in [0, 1)."""
    # Drawn on the CPU: generators differ between devices.
    return torch.rand((len(KINDS), count), generator=torch.Generator().manual_seed(seed))


def _changed(
    images: torch.Tensor,
    depth: torch.Tensor,
    mask: torch.Tensor,
    kinds: Collection[str],
    brightness: float,
    contrast: float,
    draws: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    draws = draws.to(images.device)
    for row, kind, axis in ((0, "flip_h", -1), (1, "flip_v", -2)):
        if kind in kinds:
            chosen = (draws[row] < 0.5).view(-1, 1, 1, 1)
            images, depth, mask = (torch.where(chosen, x.flip(axis), x) for x in (images, depth, mask))
    if "brightness" in kinds:
        images = images * _factor(draws[2], brightness).to(images.dtype)
    if "contrast" in kinds:
        images = _contrast(images, _factor(draws[3], contrast).to(images.dtype))
    return images.clamp(0, 1), depth, mask


def _factor(draw: torch.Tensor, strength: float) -> torch.Tensor:
    return (1 + strength * (2 * draw - 1)).view(-1, 1, 1, 1)


def _contrast(images: torch.Tensor, factor: torch.Tensor) -> torch.Tensor:
    luma = images.new_tensor(LUMA).view(1, 3, 1, 1)
    mean = (images * luma).sum(1, keepdim=True).mean((2, 3), keepdim=True)
    return mean + (images - mean) * factor
