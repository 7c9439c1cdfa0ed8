"""Pixels drawn for terms that compare some with others: the same ones for the same size of picture, on every device.

Drawn anew at each step, they would make an epoch's value depend on luck, and random state would have to survive a kill.
"""

from functools import lru_cache
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional


def draw(maps: Tensor, group: int, count: int) -> Tensor:
    """(..., count, group): the pixels of `places` in maps (..., H, W)."""
    taken: Tensor = _Draw.apply(maps.flatten(-2), *_draw(*maps.shape[-2:], group * count, maps.device))
    return taken.unflatten(-1, (count, group))


def places(height: int, width: int, group: int, count: int) -> Tensor:
    """(count, group) places of pixels in a flat picture, at random by a generator that the size seeds, none twice."""
    return _draw(height, width, group * count, torch.device("cpu"))[0].view(count, group)


class _Draw(torch.autograd.Function):
    """Pixels at some places, none twice. The gradient looks up each pixel's place, too: adding up by places is slow, and on CUDA
    nothing that a graph could record."""

    @staticmethod
    def forward(context: Any, maps: Tensor, order: Tensor, rank: Tensor) -> Tensor:
        context.save_for_backward(rank)
        return maps[..., order]

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        (rank,) = context.saved_tensors
        return functional.pad(gradient, (0, 1))[..., rank], None, None


@lru_cache(maxsize=32)
def _draw(height: int, width: int, count: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """So many places (count,) in a flat picture, and each pixel's number among them (H * W,), `count` where it is in none."""
    with torch.inference_mode(False), torch.no_grad():
        order = torch.randperm(height * width, generator=torch.Generator().manual_seed(height << 32 | width))
        rank = torch.empty_like(order)
        rank[order] = torch.arange(len(order))
        return order[:count].to(device), rank.clamp_max(count).to(device)
