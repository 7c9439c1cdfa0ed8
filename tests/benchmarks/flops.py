"""How much arithmetic a run of our U-Net is: counted on the network itself, and by the plain formulation."""

import torch
from torch.utils.flop_counter import FlopCounterMode

from depth_loss_sweep.model.losses import CombinedLoss
from depth_loss_sweep.model.network import DepthNetwork
from depth_loss_sweep.model.settings import ModelSettings
from depth_loss_sweep.model.unet import _UpConv

DEPTH_RANGE = (0.1, 10.0)
TAPS_PLAIN, TAPS_FOLDED = 9, 4
"""Products a pixel and pair of channels: of a 3×3 kernel over upsampled pixels, and of `_UpConv`."""


def make_unet(width: int, batch_norm: bool = False) -> DepthNetwork:
    """A network as a run has it."""
    torch.manual_seed(0)
    net = DepthNetwork(ModelSettings(width=width, batch_norm=batch_norm, head="linear"), DEPTH_RANGE)
    net.start_at(2.0)
    return net.to(memory_format=torch.channels_last)  # type: ignore[call-overload,no-any-return]


def executed(width: int, size: int) -> tuple[float, float]:
    """GFLOP an image that are really computed: of a training step (loss included), and of a forward pass."""
    net, loss = make_unet(width), CombinedLoss({"l1": 1.0}, data_range=10.0)
    images, depth = torch.rand(1, 3, size, size), torch.rand(1, 1, size, size) + 1
    with FlopCounterMode(display=False) as counter:
        loss(net(images), depth, depth > 0, images)[0].backward()
    with FlopCounterMode(display=False) as forward, torch.no_grad():
        net(images)
    return counter.get_total_flops() / 1e9, forward.get_total_flops() / 1e9


def nominal(width: int, size: int) -> tuple[float, float]:
    """The same by the plain formulation: upsample, concatenate, convolve."""
    step, forward = executed(width, size)
    saved, side = 0.0, size // 4
    for block in make_unet(width).body.decoder:
        first = block[0]
        assert isinstance(first, _UpConv)
        below = first.in_channels - first.out_channels
        saved += 2 * (TAPS_PLAIN - TAPS_FOLDED) * below * first.out_channels * side * side / 1e9
        side *= 2
    return step + 3 * saved, forward + saved
