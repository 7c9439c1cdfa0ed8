"""A part's pictures as tensors, a batch at a time, on the device. What needs torch of a dataset is here alone."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch


@dataclass
class Batch:
    """Pictures on a device: images (N, 3, H, W) uint8, depth (N, 1, H, W) float32 metres, mask (N, 1, H, W) bool.

    The mask is true where depth is valid, within the depth range and inside the crop; elsewhere `depth` means nothing.
    """

    images: torch.Tensor
    depth: torch.Tensor
    mask: torch.Tensor


@dataclass(frozen=True)
class Pictures:
    """A part's pictures, taken in batches: from the device where that is an accelerator with room, else memory-mapped.

    `images` is (M, H, W, 3) uint8 and `depth` (M, H, W) float32, tensors on the device or memory maps; `rows` (N,) int64
    says which of them are the part's, on the device where they are. On a CPU nothing is copied but the batch at hand, so
    the workers of a machine share the pictures, and more of them than memory holds are only slower.
    """

    images: Any
    depth: Any
    rows: torch.Tensor
    depth_range: tuple[float, float]
    device: torch.device
    inside: torch.Tensor | None = None
    """(H, W) bool on the device: the pixels whose truth counts; None where all do."""

    @classmethod
    def load(
        cls,
        images: Any,
        depth: Any,
        rows: np.ndarray,
        depth_range: tuple[float, float],
        device: str,
        inside: np.ndarray | None = None,
    ) -> "Pictures":
        """Those of the given rows (N,), copied to the device where they are to stay there."""
        place, stored = torch.device(device), (images, depth)
        region = None if inside is None else torch.from_numpy(inside).to(place)
        if _has_room(place, len(rows) * sum(array[:1].nbytes for array in stored)):
            images, depth = (torch.from_numpy(array[rows]).to(place) for array in stored)
            return cls(images, depth, torch.arange(len(rows), device=place), depth_range, place, region)
        return cls(images, depth, torch.from_numpy(rows), depth_range, place, region)

    def __len__(self) -> int:
        return len(self.rows)

    def take(self, chosen: torch.Tensor | slice) -> Batch:
        """The pictures of the given numbers, (B,) int64 on the device of `rows`; images lie channels last."""
        rows = self.rows[chosen]
        if isinstance(self.images, torch.Tensor):
            images, depth = self.images[rows], self.depth[rows]
        else:
            images, depth = (torch.from_numpy(a[rows.numpy()]).to(self.device) for a in (self.images, self.depth))
        depth, (low, high) = depth.unsqueeze(1), self.depth_range
        # A depth of 0 is invalid, and below any depth range's lower end.
        mask = (depth >= low) & (depth <= high)
        return Batch(images.permute(0, 3, 1, 2), depth, mask if self.inside is None else mask & self.inside)

    def batches(self, size: int) -> Iterator[Batch]:
        """All pictures in order, `size` at a time."""
        for start in range(0, len(self), size):
            yield self.take(slice(start, start + size))

    def subset(self, chosen: torch.Tensor | slice) -> "Pictures":
        """These pictures alone, by number."""
        return replace(self, rows=self.rows[chosen])


def _has_room(device: torch.device, size: int) -> bool:
    """Whether so many bytes of pictures are kept on a device: not on a CPU, and no more than half of what a GPU has free."""
    if device.type == "cuda":
        return size < torch.cuda.mem_get_info(device)[0] / 2
    return device.type != "cpu"
