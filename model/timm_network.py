"""timm:NAME: an encoder of timm, and a U-Net's decoder on its maps. Needs the extra `timm`."""

import importlib
import inspect
import logging
import math
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from depth_loss_sweep.model.errors import ModelError
from depth_loss_sweep.model.settings import ModelSettings
from depth_loss_sweep.registry import nearest

WIDEST, NARROWEST = 256, 16
"""Channels of the decoder's deepest block, and of its last, at the picture's own size."""

DROPOUT = "dropout"
"""The one option that is the decoder's; all others are the encoder's."""

RESERVED = {
    *("pretrained", "pretrained_cfg", "pretrained_cfg_overlay", "checkpoint_path", "cache_dir", "features_only"),
    *("out_indices", "in_chans", "num_classes", "scriptable", "exportable", "no_jit", "img_size", "dynamic_img_size"),
}
"""What timm's builder is told by us, or would have it read files and fetch weights."""

FAULTS = (AssertionError, AttributeError, LookupError, NotImplementedError, RuntimeError, TypeError, ValueError)
"""What builders raise where a name, an option or a size is none that they take."""


@cache
def load_timm() -> Any:
    """The package, beside whatever torch there is.

    timm needs torchvision, whose Python dies at import where its operators cannot be loaded, as those that were built for CUDA
    can't beside a CPU's torch. Nobody calls them here: it is enough that the two that it mentions are declared.
    """
    found = find_spec("torchvision")
    for library in Path(str(found.origin)).parent.glob("_C*") if found else ():
        with suppress(OSError):
            torch.ops.load_library(library)
    if not hasattr(torch.ops.torchvision, "nms"):
        declared = torch.library.Library("torchvision", "DEF")
        for operator in ("nms", "qnms"):
            declared.define(f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        _DECLARED.append(declared)
    # It warns of what a file holds beside an encoder's weights, and is silent about what it lacks: `load_pretrained` looks itself.
    logging.getLogger("timm").setLevel(logging.ERROR)
    return importlib.import_module("timm")


_DECLARED: list[Any] = []
"""Declarations last as long as the object that made them."""


def padded(images: Tensor, multiple: int) -> Tensor:
    """The images, their last rows and columns repeated until both sides are divisible by `multiple`."""
    height, width = images.shape[-2:]
    below, right = -height % multiple, -width % multiple
    return functional.pad(images, (0, right, 0, below), mode="replicate") if below or right else images


def normalisation(name: str | None) -> dict[str, Tensor]:
    """Mean and standard deviation (1, 3, 1, 1) that a timm network's published weights want of images; ImageNet's by default."""
    published = load_timm().get_pretrained_cfg(name) if name else None
    usual = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
    return {
        key: torch.tensor(getattr(published, key, None) or values, dtype=torch.float32).view(1, 3, 1, 1)
        for key, values in usual.items()
    }


class TimmNetwork(nn.Module):
    """Images in [0, 1] are normalised as the encoder's published weights want it, and padded to what its strides divide."""

    mean: Tensor
    std: Tensor

    def __init__(self, settings: ModelSettings) -> None:
        """Build it with fresh weights from torch's random state. ModelError, in one line, where timm can't."""
        super().__init__()
        self.name = settings.network.partition(":")[2]
        self.encoder_options = {key: value for key, value in settings.options.items() if key != DROPOUT}
        self.encoder = _encoder(self.name, self.encoder_options)
        maps: Any = self.encoder.feature_info
        channels, strides = list(maps.channels()), list(maps.reduction())
        self.is_channels_last = getattr(self.encoder, "output_fmt", "NCHW") == "NHWC"  # some, as HRNet, say nothing
        """How the maps lie, as timm says: their shapes don't tell where a side is as long as there are channels."""
        self.multiple = max(strides)
        self.decoder = _Decoder(settings, channels, strides)
        self.head = nn.Conv2d(self.decoder.width, 1, kernel_size=1)
        _initialise(self.decoder, self.head)
        for key, values in normalisation(self.name).items():
            self.register_buffer(key, values, persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """(B, 1, H, W) float32 from images (B, 3, H, W) in [0, 1]; float32 also under autocast."""
        height, width = images.shape[-2:]
        pictures = padded((images - self.mean) / self.std, self.multiple)
        found = self.encoder(pictures)
        maps = [each.permute(0, 3, 1, 2) for each in found] if self.is_channels_last else found
        decoded = self.decoder(maps, pictures.shape[-2:])
        with torch.autocast(images.device.type, enabled=False):
            raw: Tensor = self.head(decoded.float())
        return raw[..., :height, :width]

    def start_at(self, value: float) -> None:
        """Set the last bias so that the untrained network returns about `value` everywhere."""
        nn.init.constant_(self.head.bias, value)  # type: ignore[arg-type]

    def load_pretrained(self, tensors: Mapping[str, Tensor]) -> None:
        """Have the encoder begin with these weights, named as timm publishes them. ModelError where they are another's."""
        encoder = _encoder(self.name, self.encoder_options, tensors)
        by_shape: dict[torch.Size, list[Tensor]] = {}
        for tensor in tensors.values():
            by_shape.setdefault(tensor.shape, []).append(tensor)
        # timm takes what fits by name and is silent about the rest.
        own = encoder.state_dict()
        missing = [
            name
            for name, value in own.items()
            if value.is_floating_point()
            and not any(torch.equal(value, given.to(value.dtype)) for given in by_shape.get(value.shape, ()))
        ]
        if missing:
            raise ModelError(
                f"{len(missing)} of the {len(own)} arrays of timm:{self.name} are not in the file, {missing[0]} the first of them"
            )
        self.encoder.load_state_dict(own)


class _Decoder(nn.Module):
    """Doubles the deepest map's size again and again (nearest neighbour) beside the encoder's map of that size, where it has one.

    A block is two 3×3 convolutions with batch norm and ReLU.
    """

    def __init__(self, settings: ModelSettings, channels: Sequence[int], strides: Sequence[int]) -> None:
        super().__init__()
        self.deepest = max(strides)
        steps = math.ceil(math.log2(self.deepest))
        widths = settings.decoder_channels or [min(WIDEST, NARROWEST << i) for i in reversed(range(steps))]
        if len(widths) != steps:
            raise ModelError(
                f"model.decoder_channels is {list(widths)}: {settings.network} goes down {steps} times, so expected {steps} numbers"
            )
        self.levels = [round(math.log2(self.deepest / stride)) for stride in strides]
        """How many doublings each of the encoder's maps is above the deepest."""
        if any(stride << level != self.deepest for stride, level in zip(strides, self.levels, strict=True)):
            raise ModelError(
                f"{settings.network} has maps at the strides {list(strides)}: expected halves of {self.deepest}; choose another"
            )
        at = [
            sum(c for c, level in zip(channels, self.levels, strict=True) if level == step) for step in range(steps + 1)
        ]
        inputs = [below + skip for below, skip in zip([at[0], *widths], at[1:], strict=False)]
        self.blocks = nn.ModuleList(_block(i, o) for i, o in zip(inputs, widths, strict=True))
        self.width = widths[-1] if widths else at[0]
        self.dropout = nn.Dropout2d(_share(settings.options.get(DROPOUT, 0.0)))

    def forward(self, maps: Sequence[Tensor], size: Sequence[int]) -> Tensor:
        """(B, width, H, W) of that size from the encoder's maps."""
        x = torch.cat(self._at(maps, 0), 1)
        for step, block in enumerate(self.blocks, start=1):
            larger = [min(side, (side << step) // self.deepest) for side in size]
            x = block(torch.cat([functional.interpolate(x, size=larger, mode="nearest"), *self._at(maps, step)], 1))
        decoded: Tensor = self.dropout(x)
        return decoded

    def _at(self, maps: Sequence[Tensor], step: int) -> list[Tensor]:
        return [found for found, level in zip(maps, self.levels, strict=True) if level == step]


def fetch(settings: ModelSettings) -> dict[str, Tensor]:
    """The weights that timm names as a network's, from where they are published. Raises what its download raises."""
    return published(settings, is_fetched=True)


def published(settings: ModelSettings, is_fetched: bool = False) -> dict[str, Tensor]:
    """The arrays of the whole network, as timm publishes them: fresh ones, or fetched."""
    timm, name = load_timm(), settings.network.partition(":")[2]
    _require_known(timm, name)
    found: dict[str, Tensor] = timm.create_model(name, pretrained=is_fetched).state_dict()
    return found


def _encoder(name: str, options: Mapping[str, Any], tensors: Mapping[str, Tensor] | None = None) -> nn.Module:
    """The encoder as timm builds it, with fresh weights or with these."""
    timm = load_timm()
    _require_known(timm, name)
    if refused := sorted(RESERVED & options.keys()):
        raise ModelError(f"model.options.{refused[0]} is not to be set: expected what timm:{name} itself is made of")
    given: dict[str, Any] = dict(options)
    if tensors is not None:
        given |= {"pretrained": True, "pretrained_cfg_overlay": {"state_dict": dict(tensors), "label_offset": 0}}
    try:
        try:  # those of a fixed size, such as ViT, take any size that their patches divide, if they are told
            encoder = timm.create_model(name, features_only=True, dynamic_img_size=True, **given)
        except TypeError:
            encoder = timm.create_model(name, features_only=True, **given)
    except FAULTS as error:
        raise ModelError(_said(timm, name, options, error)) from error
    assert isinstance(encoder, nn.Module)
    return encoder


def _require_known(timm: Any, name: str) -> None:
    """Raise ModelError unless the name is in timm's own list: it would look elsewhere, and fetch, for some others."""
    if not timm.is_model(name):
        raise ModelError(f"timm knows no network {name!r}{nearest(name, timm.list_models())}: see timm.list_models()")


def _said(timm: Any, name: str, options: Mapping[str, Any], error: Exception) -> str:
    """Why a network cannot be built: an option that it doesn't know, or what timm says."""
    with suppress(*FAULTS), torch.device("meta"):
        known = [key for key in inspect.signature(type(timm.create_model(name)).__init__).parameters if key != "self"]
        known = [DROPOUT, *(key for key in known if key not in RESERVED and key != "kwargs")]
        unknown = next((key for key in options if key not in known), None)
        if unknown is not None and "argument" in str(error):
            return (
                f"unknown option model.options.{unknown}{nearest(unknown, known)}; timm:{name} knows {', '.join(known)}"
            )
    return f"timm cannot build {name!r} ({type(error).__name__}: {' '.join(str(error).split())[:200]}): choose another"


def _share(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1:
        raise ModelError(f"model.options.{DROPOUT} is {value!r}: expected a share of the channels, from 0 to below 1")
    return float(value)


def _block(inputs: int, outputs: int) -> nn.Sequential:
    """Two 3×3 convolutions with batch norm and ReLU."""
    layers: list[nn.Module] = []
    for channels in (inputs, outputs):
        layers += [nn.Conv2d(channels, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()]
    return nn.Sequential(*layers)


def _initialise(decoder: nn.Module, head: nn.Conv2d) -> None:
    """He normal; the head a tenth of that, so that training starts near its bias."""
    for module in (*decoder.modules(), head):
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
    with torch.no_grad():
        head.weight.mul_(0.1)
