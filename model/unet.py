"""The network of the paper: a plain U-Net from an RGB image to one channel, which the head makes metres of."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional

from depth_loss_sweep.model.errors import ModelError
from depth_loss_sweep.model.fused import convolve_relu
from depth_loss_sweep.model.settings import ModelSettings

# Three poolings by two: sides must be divisible by this.
SIZE_MULTIPLE = 8


class UNet(nn.Module):
    """Three encoder blocks (width, 2·width, 4·width), a bottleneck of 8·width, three decoder blocks with skips, a 1×1 convolution.

    A block is two 3×3 convolutions with ReLU (batch norm before it, if asked for); max-pooling by two down, nearest-neighbour
    ×2 up (never computed as such: see `_UpConv`). Nearest and bilinear err the same here (NYU, 64×64), and only the gradient
    of nearest is deterministic on CUDA. Images are scaled to [-1, 1] on the way in.
    """

    def __init__(self, settings: ModelSettings) -> None:
        """Build the network with fresh weights (He normal) from torch's random state."""
        super().__init__()
        widths = [settings.width * factor for factor in (1, 2, 4, 8)]
        inputs = [3, *widths[:-1]]
        self.encoder = nn.ModuleList(
            nn.Sequential(*_layers(i, o, settings.batch_norm)) for i, o in zip(inputs, widths, strict=True)
        )
        self.decoder = nn.ModuleList(
            _DecoderBlock(below, skip, settings.batch_norm)
            for below, skip in zip(widths[:0:-1], widths[-2::-1], strict=True)
        )
        self.head = _Head(settings.width, 1, kernel_size=1)
        self._initialise()

    def forward(self, images: Tensor) -> Tensor:
        """Return (B, 1, H, W) float32, which `model.head` makes metres of, from images (B, 3, H, W) in [0, 1].

        float32 also under autocast. ModelError for sides not divisible by 8.
        """
        _check_size(images)
        skips: list[Tensor] = []
        # Zero-centred inputs, as usual: the first layer's gradients then don't all share a sign.
        x = images * 2.0 - 1.0
        for block in self.encoder:
            if skips:
                x = functional.max_pool2d(x, 2)
            x = block(x)
            skips.append(x)
        skips.pop()
        for block in self.decoder:
            x = block(x, skips.pop())
        with torch.autocast(x.device.type, enabled=False):
            raw: Tensor = self.head(x.float())
        return raw

    def start_at(self, value: float) -> None:
        """Set the head's bias so that the untrained network returns about `value` everywhere."""
        nn.init.constant_(self.head.bias, value)  # type: ignore[arg-type]

    def load_pretrained(self, tensors: Mapping[str, Tensor]) -> None:
        """Begin with these weights: those of a network of the same settings. RuntimeError where they are another's."""
        self.load_state_dict(dict(tensors))

    def _initialise(self) -> None:
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        # A tenth of the scale, so that training starts near the head's bias.
        with torch.no_grad():
            self.head.weight.mul_(0.1)


class _Head(nn.Conv2d):
    """1×1 convolution to one channel; on CUDA a matrix product, where cuDNN's kernels for it take a tenth of a step."""

    def forward(self, x: Tensor) -> Tensor:
        """(B, 1, H, W) from (B, C, H, W)."""
        if not x.is_cuda:
            return super().forward(x)
        return functional.linear(x.permute(0, 2, 3, 1), self.weight.flatten(1), self.bias).permute(0, 3, 1, 2)


class _ReLUConv(nn.Conv2d):
    """3×3 convolution with its ReLU; one kernel for both in half precision on CUDA."""

    def forward(self, x: Tensor) -> Tensor:
        """(B, out, H, W) from (B, in, H, W)."""
        if x.is_cuda and self.bias is not None and torch.version.cuda and torch.is_autocast_enabled("cuda"):
            return convolve_relu(x, self.weight, self.bias)
        return functional.relu_(super().forward(x))


class _UpConv(nn.Conv2d):
    """3×3 convolution of cat(nearest ×2 upsampling of `below`, `skip`), without making either, from the same weights.

    A 3×3 kernel over pixels that come in equal 2×2 blocks sees only 2×2 different ones: a transposed convolution by the
    kernel's taps, summed two by two, is the same map in 4 products a pixel where the plain way takes 9. The sum over the
    channels of `skip` is a convolution of its own. The whole network needs 19 % less arithmetic so, and is 1.4 times faster.
    """

    def forward(self, below: Tensor, skip: Tensor) -> Tensor:  # type: ignore[override]
        """(B, out, 2H, 2W) from below (B, C, H, W) and skip (B, in - C, 2H, 2W)."""
        of_below, of_skip = self.weight.split((below.shape[1], skip.shape[1]), dim=1)
        summed = sum(functional.pad(of_below, (x, 1 - x, y, 1 - y)) for x in (0, 1) for y in (0, 1))
        kernel = summed.transpose(0, 1).flip(2, 3)  # type: ignore[union-attr]  # a transposed convolution's is mirrored
        return functional.conv_transpose2d(below, kernel, self.bias, stride=2, padding=1) + functional.conv2d(
            skip, of_skip, padding=1
        )


class _DecoderBlock(nn.Sequential):
    """A block whose first convolution sees the map below, upsampled, beside the encoder's."""

    def __init__(self, below: int, skip: int, batch_norm: bool) -> None:
        super().__init__(*_layers(below + skip, skip, batch_norm, first=_UpConv))

    def forward(self, below: Tensor, skip: Tensor) -> Tensor:  # type: ignore[override]
        """(B, skip, 2H, 2W) from (B, below, H, W) and (B, skip, 2H, 2W)."""
        first, *rest = self
        x: Tensor = first(below, skip)
        for layer in rest:
            x = layer(x)
        return x


def _layers(inputs: int, outputs: int, batch_norm: bool, first: type[nn.Conv2d] = nn.Conv2d) -> list[nn.Module]:
    """Two 3×3 convolutions, the first of a kind of its own if asked for, each with ReLU."""
    layers: list[nn.Module] = []
    for channels, kind in ((inputs, first), (outputs, nn.Conv2d)):
        has_relu = kind is nn.Conv2d and not batch_norm
        # Batch norm subtracts a bias right away.
        layers.append(
            (_ReLUConv if has_relu else kind)(channels, outputs, kernel_size=3, padding=1, bias=not batch_norm)
        )
        if batch_norm:
            layers.append(nn.BatchNorm2d(outputs))
        # Identity, so that a layer's place, which names its weights in checkpoints, is the same either way.
        layers.append(nn.Identity() if has_relu else nn.ReLU(inplace=True))
    return layers


def _check_size(images: Tensor) -> None:
    height, width = images.shape[-2:]
    if height % SIZE_MULTIPLE or width % SIZE_MULTIPLE or not height or not width:
        raise ModelError(
            f"the image is {height}x{width}; expected sides divisible by {SIZE_MULTIPLE}: resize or pad it"
        )
