"""Random flips, brightness and contrast of a batch, on its device: image and depth together, decided by a seed alone."""

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
    draws = _draws(len(images), seed, images.device)
    for row, kind, axis in ((0, "flip_h", -1), (1, "flip_v", -2)):
        if kind in kinds:
            chosen = (draws[row] < 0.5).view(-1, 1, 1, 1)
            images, depth, mask = (torch.where(chosen, x.flip(axis), x) for x in (images, depth, mask))
    if "brightness" in kinds:
        images = images * _factor(draws[2], brightness).to(images.dtype)
    if "contrast" in kinds:
        images = _contrast(images, _factor(draws[3], contrast).to(images.dtype))
    return images.clamp(0, 1), depth, mask


def _draws(count: int, seed: int, device: torch.device) -> torch.Tensor:
    # Drawn on the CPU: generators differ between devices.
    generator = torch.Generator().manual_seed(seed)
    return torch.rand((len(KINDS), count), generator=generator).to(device)


def _factor(draw: torch.Tensor, strength: float) -> torch.Tensor:
    return (1 + strength * (2 * draw - 1)).view(-1, 1, 1, 1)


def _contrast(images: torch.Tensor, factor: torch.Tensor) -> torch.Tensor:
    luma = images.new_tensor(LUMA).view(1, 3, 1, 1)
    mean = (images * luma).sum(1, keepdim=True).mean((2, 3), keepdim=True)
    return mean + (images - mean) * factor
