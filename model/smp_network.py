"""smp:NAME: a network of segmentation-models-pytorch, such as smp:Unet or smp:FPN. Needs the extra `smp`."""

import inspect
from collections.abc import Mapping
from importlib import import_module
from typing import Any

import torch
from torch import Tensor, nn

from depth_loss_sweep.model.errors import ModelError
from depth_loss_sweep.model.settings import ModelSettings
from depth_loss_sweep.model.timm_network import FAULTS, load_timm, normalisation, padded
from depth_loss_sweep.registry import nearest

RESERVED = {"encoder_weights", "in_channels", "classes", "activation", "aux_params"}
"""What the package's builder is told by us, or would have it fetch weights."""

PUBLISHED = "imagenet"
"""What the package calls the weights of its encoders that are taken."""


OF_TIMM = "tu-"
"""How the names of encoders begin that the package takes from timm."""


def smp_network(settings: ModelSettings) -> nn.Module:
    """The network that the settings name, with fresh weights. ModelError, in one line, where there is none."""
    kind, options = _architecture(settings), dict(settings.options)
    known = [key for key in inspect.signature(kind.__init__).parameters if key not in {"self", "kwargs", *RESERVED}]
    for key in options:
        if key not in known:
            raise ModelError(
                f"unknown option model.options.{key}{nearest(key, known)}; {settings.network} knows {', '.join(known)}"
            )
    if settings.decoder_channels:
        # Some take one number, of all blocks.
        channels = settings.decoder_channels
        options["decoder_channels"] = channels if len(channels) > 1 else channels[0]
    network = type(kind.__name__, (_DepthOf, kind), {})
    try:
        built: nn.Module = network(encoder_weights=None, in_channels=3, classes=1, **options)
    except FAULTS as error:
        said = " ".join(str(error).split())[:200]
        raise ModelError(
            f"{settings.network} cannot be built ({type(error).__name__}: {said}): see model.options"
        ) from error
    return built


def fetch(settings: ModelSettings) -> dict[str, Tensor]:
    """The published weights of a network's encoder. Raises what its download raises."""
    return published(settings, PUBLISHED)


def published(settings: ModelSettings, weights: str | None = None) -> dict[str, Tensor]:
    """The arrays of a network's encoder, as the package names them: fresh ones, or those published."""
    smp, kind = _package(), _architecture(settings)
    options = {"encoder_name": inspect.signature(kind.__init__).parameters["encoder_name"].default, **settings.options}
    found: dict[str, Tensor] = smp.encoders.get_encoder(options["encoder_name"], weights=weights).state_dict()
    return found


class _DepthOf(nn.Module):
    """In front of an architecture's class: images in [0, 1] in, normalised and padded for it; float32 of their size out."""

    mean: Tensor
    std: Tensor
    encoder: nn.Module
    segmentation_head: nn.Sequential

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        name = str(options.get("encoder_name", ""))
        for key, values in normalisation(name.removeprefix(OF_TIMM) if name.startswith(OF_TIMM) else None).items():
            self.register_buffer(key, values, persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """(B, 1, H, W) float32."""
        height, width = images.shape[-2:]
        multiple = int(getattr(self.encoder, "output_stride", 32))
        raw: Tensor = super().forward(padded((images - self.mean) / self.std, max(multiple, 32)))
        return raw.float()[..., :height, :width]

    def start_at(self, value: float) -> None:
        """Set the last bias so that the untrained network returns about `value` everywhere."""
        last = next(layer for layer in self.segmentation_head if isinstance(layer, nn.Conv2d))
        with torch.no_grad():
            last.weight.mul_(0.1)
        nn.init.constant_(last.bias, value)  # type: ignore[arg-type]

    def load_pretrained(self, tensors: Mapping[str, Tensor]) -> None:
        """Have the encoder begin with these weights, named as the package has them. RuntimeError where they are another's."""
        self.encoder.load_state_dict(dict(tensors))


def _package() -> Any:
    load_timm()  # which it imports
    return import_module("segmentation_models_pytorch")


def _architecture(settings: ModelSettings) -> type[nn.Module]:
    """The class that is named, its encoder known to be one of the package's own or of timm's list."""
    smp, name = _package(), settings.network.partition(":")[2]
    kinds: dict[str, type[nn.Module]] = {kind.__name__: kind for kind in smp.MODEL_ARCHITECTURES_MAPPING.values()}
    if name not in kinds:
        raise ModelError(f"smp knows no network {name!r}{nearest(name, kinds)}; expected {', '.join(kinds)}")
    encoder = settings.options.get("encoder_name", "resnet34")
    if not isinstance(encoder, str):
        raise ModelError(f"model.options.encoder_name is {encoder!r}: expected a text, such as 'resnet34'")
    names = smp.encoders.get_encoder_names()
    if encoder not in names and not (
        encoder.startswith(OF_TIMM) and load_timm().is_model(encoder.removeprefix(OF_TIMM))
    ):
        raise ModelError(
            f"model.options.encoder_name is {encoder!r}{nearest(encoder, names)}: expected one of smp.encoders.get_encoder_names(), "
            f"or tu- and a name that timm knows"
        )
    return kinds[name]
