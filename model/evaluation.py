"""A network's numbers on a set of pictures: every term and metric, in eval mode, without augmentation, batch by batch."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from depth_loss_sweep.data.tensors import Pictures
from depth_loss_sweep.model.backend import autocast, memory_format
from depth_loss_sweep.model.losses import CombinedLoss
from depth_loss_sweep.model.metrics import NONE, MeanAccumulator, MetricAccumulator, per_image_metrics
from depth_loss_sweep.model.recorded import Recorded
from depth_loss_sweep.model.runtime import Runtime
from depth_loss_sweep.model.settings import OwnMetric, RunSettings

Value = TypeVar("Value")


@dataclass(frozen=True)
class Evaluation:
    """What `evaluate` found, as numbers."""

    means: dict[str, float]
    """Over images: "term_<name>" for every term unweighted, "total" their weighted sum, "metric_<name>" for every metric."""
    per_image: dict[str, np.ndarray]
    """(N,) terms and metrics by the same names; NaN where undefined, infinity where the prediction is not finite."""
    prediction_spread: float
    """Median over images of the prediction's standard deviation over valid pixels, in metres."""
    truth_spread: float
    kept: Tensor
    """(K, 1, H, W): the predictions that `evaluate` was asked to keep."""

    @property
    def spreads(self) -> dict[str, float]:
        """Both spreads as an epoch's record has them."""
        return {"spread_prediction": self.prediction_spread, "spread_truth": self.truth_spread}

    @property
    def is_finite(self) -> bool:
        """Whether every prediction at a valid pixel is finite (and its square, in float32)."""
        return not np.isinf(self.per_image["metric_rmse"]).any()


def combined_loss(settings: RunSettings) -> CombinedLoss:
    """The loss that a run's settings ask for."""
    options = settings.loss.model_dump(exclude={"ssim_data_range"})
    return CombinedLoss(settings.weights, data_range=settings.ssim_data_range, **options)


def as_input(images: Tensor) -> Tensor:
    """uint8 pictures as the network sees them: float in [0, 1]."""
    return images.float().div_(255)


def forward(network: nn.Module, images: Tensor, runtime: Runtime) -> Tensor:
    """Depth (B, 1, H, W) in metres, float32, from images (B, 3, H, W) in [0, 1], in the runtime's arithmetic."""
    with autocast(runtime):
        prediction: Tensor = network(images.contiguous(memory_format=memory_format(runtime)))
    return prediction.float()


@torch.no_grad()
def predict(network: nn.Module, images: Tensor, runtime: Runtime) -> Tensor:
    """As `forward`, from uint8 pictures, in eval mode, without gradients."""
    network.eval()
    return forward(network, as_input(images), runtime)


class Evaluator:
    """Computes every term and metric of a network on pictures; on a CUDA card its kernels are recorded and replayed."""

    def __init__(
        self,
        network: nn.Module,
        loss: CombinedLoss,
        runtime: Runtime,
        further_metrics: Sequence[str] = (),
        own_metrics: Mapping[str, OwnMetric] = NONE,
        may_record: bool = True,
    ) -> None:
        """Without `may_record`, kernels are queued anew each time: the user's own code may wait for the device."""
        self.network, self.loss, self.runtime = network, loss, runtime
        self.metrics = (further_metrics, own_metrics)
        self._judge = Recorded(self._values) if runtime.kind == "cuda" and may_record else self._values
        self._names: tuple[str, ...] = ()

    @torch.no_grad()
    def __call__(self, pictures: Pictures, batch_size: int, keep: Sequence[int] = ()) -> Evaluation:
        """Evaluate on each picture; the device is waited for once all are queued.

        `keep` are the numbers of the pictures, in rising order, whose predictions are wanted.
        """
        metrics, others = MetricAccumulator(*self.metrics), MeanAccumulator()
        kept: list[Tensor] = []
        for start, batch in zip(range(0, len(pictures), batch_size), pictures.batches(batch_size), strict=True):
            prediction, rows = self._judge(batch.images, batch.depth, batch.mask)
            values = dict(zip(self._names, rows, strict=True))
            metrics.add_values(
                {name: values.pop(f"metric_{name}") for name in metrics.names if f"metric_{name}" in values}
            )
            metrics.add_pixels(values.pop("pixels"))
            others.add_values(values)
            kept.append(prediction[[number - start for number in keep if 0 <= number - start < len(prediction)]])
        medians = {
            name: others.per_image()[f"spread_{name}"].cpu().nanmedian().item() for name in ("prediction", "truth")
        }
        means = {name: mean for name, mean in others.result().items() if name.startswith("term_")}
        means["total"] = sum(
            weight * means[f"term_{name}"] for name, weight in self.loss.weighting.effective().items() if weight
        )
        terms = {name: values for name, values in others.per_image().items() if name.startswith("term_")}
        per_image = terms | _named("metric_", metrics.per_image())
        return Evaluation(
            means=means | _named("metric_", metrics.result()),
            per_image={name: values.cpu().numpy() for name, values in per_image.items()},
            prediction_spread=medians["prediction"],
            truth_spread=medians["truth"],
            kept=torch.cat(kept),
        )

    def _values(self, images: Tensor, depth: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """A batch's predictions, and a row (B,) of each of `_names`."""
        prediction = predict(self.network, images, self.runtime)
        values = {
            **_named("metric_", per_image_metrics(prediction, depth, mask, *self.metrics)),
            "pixels": mask.sum(dim=(1, 2, 3)),
            **_named("term_", self.loss.per_image(prediction, depth, mask, as_input(images))),
            "spread_prediction": _spread(prediction, mask),
            "spread_truth": _spread(depth, mask),
        }
        self._names = tuple(values)
        return prediction, torch.stack([value.float() for value in values.values()])


def _named(prefix: str, values: Mapping[str, Value]) -> dict[str, Value]:
    """The same with prefixed names: "silog" is a term and a metric."""
    return {f"{prefix}{name}": value for name, value in values.items()}


def _spread(depth: Tensor, mask: Tensor) -> Tensor:
    """Standard deviation of each map over its valid pixels, (B,); NaN where there are none."""
    count = mask.sum(dim=(1, 2, 3), keepdim=True)
    mean = torch.where(mask, depth, 0.0).sum(dim=(1, 2, 3), keepdim=True) / count
    variance = torch.where(mask, (depth - mean).square(), 0.0).sum(dim=(1, 2, 3), keepdim=True) / count
    return variance.sqrt().flatten()
