"""A depth network: a body chosen by name (`model.names.NETWORKS`), and a head that makes metres of its one channel.

A body is a module made from the model's settings. It takes images (B, 3, H, W) in [0, 1] and returns (B, 1, H, W) float32, and has
`start_at(value)`, which sets its last bias so that the untrained body returns about that value everywhere.
"""

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, nn

from depth_loss_sweep.model.head import Head
from depth_loss_sweep.model.names import NETWORKS
from depth_loss_sweep.model.settings import ModelSettings


def shapes_of(settings: ModelSettings) -> tuple[list[tuple[int, ...]], list[tuple[int, ...]]]:
    """The shapes of a body's parameters, and of what else a checkpoint holds of it; takes no memory for them."""
    with torch.device("meta"):
        body = NETWORKS[settings.network].load()(settings)
    trained = {name for name, _ in body.named_parameters()}
    shapes = {name: tuple(array.shape) for name, array in body.state_dict().items()}
    return [s for n, s in shapes.items() if n in trained], [s for n, s in shapes.items() if n not in trained]


class DepthNetwork(nn.Module):
    """Depth in metres, (B, 1, H, W) float32, from images (B, 3, H, W) in [0, 1]."""

    def __init__(self, settings: ModelSettings, depth_range: tuple[float, float]) -> None:
        """Build the network with fresh weights from torch's random state; `depth_range` is (d_min, d_max) in metres."""
        super().__init__()
        self.head = Head(settings.head, (float(depth_range[0]), float(depth_range[1])))
        self.body: nn.Module = NETWORKS[settings.network].load()(settings)

    def forward(self, images: Tensor) -> Tensor:
        """Predict; in float32 also under autocast: half precision would round depth to 0.4 %."""
        raw = self.body(images)
        with torch.autocast(raw.device.type, enabled=False):
            return self.head.to_depth(raw)

    def start_at(self, median_m: float) -> None:
        """Have the untrained network predict about `median_m` metres everywhere. ModelError unless the depth range holds it."""
        self.body.start_at(self.head.from_depth(median_m))  # type: ignore[operator]

    def arrays(self) -> dict[str, Tensor]:
        """What a checkpoint holds: the body's parameters and buffers by name. The head has none."""
        return self.body.state_dict()

    def load_arrays(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Take up what `arrays` was. RuntimeError where names or shapes are others."""
        self.body.load_state_dict({name: torch.from_numpy(array) for name, array in arrays.items()})
