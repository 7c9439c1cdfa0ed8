"""A depth network: a body chosen by name (`model.names.NETWORKS`), and a head that makes metres of its one channel.

A body is a module made from the model's settings. It takes images (B, 3, H, W) in [0, 1] and returns (B, 1, H, W) float32. It has
`start_at(value)`, which sets its last bias so that the untrained body returns about that value everywhere, and
`load_pretrained(tensors)`, which has it begin with the weights of a file.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from depth_loss_sweep.model.errors import ModelError
from depth_loss_sweep.model.head import Head
from depth_loss_sweep.model.names import network_entry, require_package
from depth_loss_sweep.model.own import build_network
from depth_loss_sweep.model.settings import ModelSettings
from depth_loss_sweep.registry import nearest


def shapes_of(settings: ModelSettings) -> tuple[list[tuple[int, ...]], list[tuple[int, ...]]]:
    """The shapes of a network's trained parameters, and of what else a checkpoint holds of it; takes no memory for them."""
    with torch.device("meta"):
        return shapes_in(DepthNetwork(settings, (0.1, 10.0)))


def shapes_in(network: "DepthNetwork") -> tuple[list[tuple[int, ...]], list[tuple[int, ...]]]:
    """`shapes_of` a network that is built."""
    trained = {name for name, parameter in network.body.named_parameters() if parameter.requires_grad}
    shapes = {name: tuple(array.shape) for name, array in network.arrays().items()}
    return [s for n, s in shapes.items() if n in trained], [s for n, s in shapes.items() if n not in trained]


def try_network(settings: ModelSettings, image_size: tuple[int, int], weights: Path | None) -> None:
    """Raise ModelError, in one line, where a network cannot be built, doesn't take such pictures, or begin with these weights."""
    network = DepthNetwork(settings, (0.1, 10.0)).eval()
    size = "x".join(map(str, image_size))
    try:
        with torch.no_grad():
            found = network(torch.zeros(1, 3, *image_size)).shape[-2:]
    except Exception as error:  # whatever a stranger's code raises
        said = " ".join(str(error).split())[:200]
        raise ModelError(
            f"{settings.network} does not take pictures of {size} ({type(error).__name__}: {said}): choose another "
            f"data.image_size, or another network"
        ) from error
    if tuple(found) != image_size:
        raise ModelError(f"{settings.network} makes {'x'.join(map(str, found))} of pictures of {size}: choose another")
    if weights is not None:
        network.load_pretrained(weights)


class DepthNetwork(nn.Module):
    """Depth in metres, (B, 1, H, W) float32, from images (B, 3, H, W) in [0, 1]."""

    def __init__(
        self, settings: ModelSettings, depth_range: tuple[float, float], image_size: tuple[int, int] = (256, 256)
    ) -> None:
        """Build the network with fresh weights from torch's random state; `depth_range` is (d_min, d_max) in metres.

        `image_size`, (height, width) in pixels, is told to networks that ask for it.
        """
        super().__init__()
        require_package(settings.network)
        ends = (float(depth_range[0]), float(depth_range[1]))
        self.head = Head(settings.head, ends)
        self.body: nn.Module = (
            build_network(settings, ends, image_size)
            if settings.is_own
            else network_entry(settings.network).load()(settings)
        )
        self.settings = settings
        names = [name for name, _ in self.body.named_parameters()]
        _require_known("model.freeze", settings.freeze, names)
        _require_known("model.learning_rate_scale", settings.learning_rate_scale, names)
        for name, parameter in self.body.named_parameters():
            if _longest(name, settings.freeze):
                parameter.requires_grad_(False)
        if not self.trained():
            raise ModelError(f"model.freeze is {list(settings.freeze)}: nothing is left to train")

    def forward(self, images: Tensor) -> Tensor:
        """Predict; in float32 also under autocast: half precision would round depth to 0.4 %."""
        raw = self.body(images)
        with torch.autocast(raw.device.type, enabled=False):
            return self.head.to_depth(raw)

    def train(self, mode: bool = True) -> "DepthNetwork":
        """As any module; the running averages of what is frozen stay as they are, too."""
        super().train(mode)
        for name, module in self.body.named_modules() if mode and self.settings.freeze else ():
            if _longest(name, self.settings.freeze):
                module.eval()
        return self

    def trained(self) -> dict[str, Tensor]:
        """The parameters that are trained, by name."""
        return {name: parameter for name, parameter in self.body.named_parameters() if parameter.requires_grad}

    def rate_scales(self) -> list[float]:
        """The factor of the learning rate of each of them."""
        scales = self.settings.learning_rate_scale
        return [scales.get(_longest(name, scales), 1.0) for name in self.trained()]

    def start_at(self, median_m: float) -> None:
        """Have the untrained network predict about `median_m` metres everywhere, unless its body predicts metres by itself.

        One of the user's own that has no `start_at` starts where it will. ModelError unless the depth range holds the median.
        """
        start = self.head.from_depth(median_m)
        if self.head.kind != "none" and not (self.settings.is_own and not hasattr(self.body, "start_at")):
            self.body.start_at(start)  # type: ignore[operator]

    def load_pretrained(self, weights: Path) -> None:
        """Begin with the weights of a safetensors file. ModelError, in one line, where they are another network's."""
        tensors = load_file(weights)
        try:
            if hasattr(self.body, "load_pretrained"):
                self.body.load_pretrained(tensors)  # type: ignore[operator]
            else:
                self.body.load_state_dict(tensors)
        except (RuntimeError, ModelError) as error:
            said = " ".join(str(error).split())[:300]
            raise ModelError(f"the pretrained weights are not those of {self.settings.network}: {said}") from error

    def arrays(self) -> dict[str, Tensor]:
        """What a checkpoint holds: the body's parameters and buffers by name. The head has none."""
        return self.body.state_dict()

    def load_arrays(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Take up what `arrays` was. RuntimeError where names or shapes are others."""
        self.body.load_state_dict({name: torch.from_numpy(array) for name, array in arrays.items()})


def _longest(name: str, beginnings: Iterable[str]) -> str:
    """The longest of these with which a dotted name begins, part by part; empty where it is none."""
    found = (given for given in beginnings if f"{name}.".startswith(f"{given.rstrip('.')}."))
    return max(found, key=len, default="")


def _require_known(key: str, beginnings: Iterable[str], names: Iterable[str]) -> None:
    """Raise ModelError where a parameter's name begins with none of these."""
    known: dict[str, Any] = {}
    for name in names:
        parts = name.split(".")
        known |= dict.fromkeys(".".join(parts[:end]) for end in range(1, len(parts) + 1))
    for given in beginnings:
        if given.rstrip(".") not in known:
            tops = dict.fromkeys(name.partition(".")[0] for name in known)
            raise ModelError(
                f"{key} has {given!r}{nearest(given, known)}: no parameter's name begins so; they begin with {', '.join(tops)}"
            )
