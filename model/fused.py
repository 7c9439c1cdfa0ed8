"""Convolution, bias and ReLU in one cuDNN kernel, for half precision on CUDA, where a pass over the map costs what a convolution does."""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

ALIGNED = 8
"""Channels that tensor cores want of an input."""


def convolve_relu(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """ReLU of the 3×3 convolution of x (B, C, H, W) by weight (O, C, 3, 3) and bias (O,); bfloat16, as large as x."""
    x, weight, bias = x.bfloat16(), weight.bfloat16(), bias.bfloat16()
    if missing := -x.shape[1] % ALIGNED:
        x, weight = (functional.pad(given, (0, 0, 0, 0, 0, missing)) for given in (x, weight))
    x, weight = (given.contiguous(memory_format=torch.channels_last) for given in (x, weight))
    out: Tensor = _ConvolveReLU.apply(x, weight, bias)
    return out


class _ConvolveReLU(torch.autograd.Function):
    """torch has the forward kernel without a gradient; the gradient is that of ReLU, then that of the convolution."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        out = torch.cudnn_convolution_relu(x, weight, bias, (1, 1), (1, 1), (1, 1), 1)
        ctx.save_for_backward(x, weight, out)
        return out

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor, Tensor]:
        x, weight, out = ctx.saved_tensors
        gradient = torch.ops.aten.threshold_backward(gradient, out, 0)
        of_x, of_weight, _ = torch.ops.aten.convolution_backward(
            gradient, x, weight, None, (1, 1), (1, 1), (1, 1), False, (0, 0), 1, (ctx.needs_input_grad[0], True, False)
        )
        # The sum over pixels as a product with ones: tensor cores add twice as fast as torch's own sum.
        rows = gradient.permute(0, 2, 3, 1).reshape(-1, gradient.shape[1])
        return of_x, of_weight, (rows.new_ones(1, len(rows)) @ rows)[0]
