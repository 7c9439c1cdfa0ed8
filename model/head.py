"""The head: what makes metres of a network's last channel, and back."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from depth_loss_sweep.model.errors import ModelError
from depth_loss_sweep.model.settings import HeadKind


@dataclass(frozen=True)
class Head:
    """linear, none: x; softplus: log(1 + eˣ); log_sigmoid: d_min·(d_max/d_min)^sigmoid(x), which stays within the depth range."""

    kind: HeadKind
    depth_range: tuple[float, float]
    """(d_min, d_max) in metres."""

    def __post_init__(self) -> None:
        d_min, d_max = self.depth_range
        if not 0 < d_min < d_max < math.inf:
            raise ModelError(f"depth_range is [{d_min}, {d_max}]; expected 0 < d_min < d_max, in metres")

    def to_depth(self, x: Tensor) -> Tensor:
        """Metres, of any shape."""
        if self.kind in ("linear", "none"):
            return x
        if self.kind == "softplus":
            return functional.softplus(x)
        d_min, d_max = self.depth_range
        return d_min * torch.exp(math.log(d_max / d_min) * torch.sigmoid(x))

    def from_depth(self, depth: float) -> float:
        """What means `depth` metres: the inverse of `to_depth`. ModelError unless it lies within the depth range."""
        d_min, d_max = self.depth_range
        if not d_min <= depth <= d_max:
            raise ModelError(f"the median depth is {depth} m; expected it within [{d_min}, {d_max}] m")
        if self.kind in ("linear", "none"):
            return depth
        if self.kind == "softplus":
            return depth + math.log(-math.expm1(-depth))
        # Not closer to the ends than this, where the sigmoid hardly learns.
        share = min(max(math.log(depth / d_min) / math.log(d_max / d_min), 0.02), 0.98)
        return math.log(share / (1 - share))
