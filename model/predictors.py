"""The trivial predictors at work: fitted to the training pictures, judged as a network is. Numbers: `model.baselines`."""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from depth_loss_sweep.data.prepare import Part, Prepared
from depth_loss_sweep.data.tensors import Batch, Pictures
from depth_loss_sweep.model.errors import ModelError
from depth_loss_sweep.model.losses import per_image_terms
from depth_loss_sweep.model.metrics import NONE, MeanAccumulator, MetricAccumulator
from depth_loss_sweep.model.names import BASELINES, terms_with
from depth_loss_sweep.model.schedule import fixed_draw
from depth_loss_sweep.model.settings import LossSettings, OwnMetric

BATCH_IMAGES = 32


@dataclass(frozen=True)
class Baselines:
    """Two predictions made without looking at the picture, in metres."""

    median: float
    """The median of all valid training pixels."""
    mean_map: Tensor
    """(1, 1, H, W): the geometric mean of each pixel's valid training depths; the median where there are none."""

    def prediction(self, name: str) -> Tensor:
        """The prediction called `name` (one of `BASELINES`) as (1, 1, H, W); ModelError for any other name."""
        if name == "median":
            return torch.full_like(self.mean_map, self.median)
        if name == "mean_map":
            return self.mean_map
        raise ModelError(f"unknown baseline {name!r}; the baselines are {', '.join(BASELINES)}")


def fit_baselines(batches: Callable[[], Iterable[Batch]]) -> Baselines:
    """Fit both to training pictures, gone through three times, a batch in memory; ModelError if no pixel is valid.

    The median is exact; that of an even number of pixels is the lower middle one.
    """

    def depths() -> Iterator[tuple[np.ndarray, np.ndarray]]:
        return ((batch.depth.cpu().numpy(), batch.mask.cpu().numpy()) for batch in batches())

    median = _median(lambda: (depth[valid] for depth, valid in depths()))
    total, count = np.zeros(()), np.zeros((), np.int64)
    for depth, valid in depths():
        total = total + np.log(depth, where=valid, out=np.zeros(depth.shape)).sum(axis=0)
        count = count + valid.sum(axis=0)
    mean_log = np.divide(total, count, out=np.full(total.shape, math.log(median)), where=count > 0)
    return Baselines(median, torch.from_numpy(np.exp(mean_log).astype(np.float32))[None])


def _median(values: Callable[[], Iterable[np.ndarray]]) -> float:
    """The lower median of positive float32 values that need not fit into memory; they are gone through twice.

    Positive floats are ordered as their bits are: count the upper halves of the bits, then the lower halves of those
    values that share the median's upper half.
    """
    upper = sum((_counts(_bits(found) >> 16) for found in values()), np.zeros(1 << 16, np.int64))
    if not upper.any():
        raise ModelError("the training images hold no valid depth; check the source with `sweep data check`")
    rank = (int(upper.sum()) - 1) // 2
    high = int(np.searchsorted(np.cumsum(upper), rank, side="right"))
    bits = (_bits(found) for found in values())
    lower = sum((_counts(found[found >> 16 == high] & 0xFFFF) for found in bits), np.zeros(1 << 16, np.int64))
    low = int(np.searchsorted(np.cumsum(lower), rank - int(upper[:high].sum()), side="right"))
    return float(np.uint32(high << 16 | low).view(np.float32))


def _bits(values: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(values, np.float32).view(np.uint32)


def _counts(halves: np.ndarray) -> np.ndarray:
    return np.bincount(halves, minlength=1 << 16)


def fit_to(prepared: Prepared) -> tuple[Baselines, float]:
    """The baselines of a dataset's training part, and the validation rmse of the median in metres."""
    fitted = fit_baselines(lambda: prepared.pictures("train").batches(BATCH_IMAGES))
    metrics = MetricAccumulator()
    for batch in prepared.pictures("val").batches(BATCH_IMAGES):
        metrics.add(fitted.prediction("median").expand_as(batch.depth), batch.depth, batch.mask)
    return fitted, metrics.result()["rmse"]


def judge_baselines(
    prepared: Prepared,
    part: Part,
    baselines: Baselines,
    loss: LossSettings,
    train_images: int | None,
    terms: Sequence[str] = (),
    metrics: Sequence[str] = (),
    own_metrics: Mapping[str, OwnMetric] = NONE,
) -> dict[str, dict[str, float]]:
    """Terms and metrics of each on a part's pictures; on train over the draw of `train_images` that a run is evaluated on.

    `terms` and `metrics` are the further ones; the user's own terms are in the loss's settings.
    """
    data_range = loss.ssim_data_range or prepared.depth_range[1]
    pictures = prepared.pictures(part)
    if part == "train" and train_images is not None:
        pictures = pictures.subset(fixed_draw(len(pictures), train_images))
    judged = (pictures, loss, data_range, terms_with([*terms, *loss.own]), metrics, own_metrics)
    return {name: _evaluate(baselines.prediction(name), *judged) for name in BASELINES}


@torch.no_grad()
def _evaluate(
    prediction: Tensor,
    pictures: Pictures,
    loss: LossSettings,
    data_range: float,
    terms: Sequence[str],
    further_metrics: Sequence[str],
    own_metrics: Mapping[str, OwnMetric],
) -> dict[str, float]:
    """Terms and metrics of one prediction (1, 1, H, W) for every picture of a part."""
    metrics, means = MetricAccumulator(further_metrics, own_metrics), MeanAccumulator()
    options = {"data_range": data_range, "terms": terms, **loss.model_dump(exclude={"ssim_data_range"})}
    for batch in pictures.batches(BATCH_IMAGES):
        pred = prediction.expand_as(batch.depth)
        images = batch.images.float() / 255
        means.add_values(per_image_terms(pred, batch.depth, batch.mask, images, **options))
        metrics.add(pred, batch.depth, batch.mask)
    term_means = means.result()
    return {
        **{f"term_{name}": term_means.get(name, math.nan) for name in terms},
        **{f"metric_{name}": mean for name, mean in metrics.result().items()},
    }
