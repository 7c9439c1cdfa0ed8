"""The trivial predictors every result stands beside: a network that doesn't beat them has learnt nothing from the pictures."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from data.prepare import PARTS, Batch, Part, Prepared
from model.errors import ModelError
from model.losses import log_depth, per_image_terms
from model.metrics import MeanAccumulator, MetricAccumulator
from model.names import BASELINES, EXTRA_METRICS, METRICS, TERMS
from model.settings import LossSettings

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


def fit_baselines(depth: Tensor, mask: Tensor) -> Baselines:
    """Fit both to training depth (N, 1, H, W) in metres and its mask (bool); ModelError if no pixel is valid.

    The median of an even number of pixels is the lower middle one.
    """
    valid = depth[mask]
    if not len(valid):
        raise ModelError("the training images hold no valid depth; check the source with `sweep data check`")
    median = valid.median().item()
    count = mask.sum(dim=0, keepdim=True)
    mean_log = torch.where(mask, log_depth(depth), 0.0).sum(dim=0, keepdim=True) / count.clamp_min(1)
    return Baselines(median, torch.where(count > 0, mean_log.exp(), median))


def evaluate_baselines(prepared: Prepared, loss: LossSettings) -> dict[str, dict[str, dict[str, float]]]:
    """Return {part: {baseline: {"term_<name>" and "metric_<name>": number}}}, all parts, fitted on train; JSON-able.

    Computed as a network's numbers are: per image, then averaged. All are NaN for a part without pictures.
    """
    train = prepared.tensors("train")
    baselines = fit_baselines(train.depth, train.mask)
    return {part: _evaluate_part(prepared, part, baselines, loss) for part in PARTS}


def _evaluate_part(
    prepared: Prepared, part: Part, baselines: Baselines, loss: LossSettings
) -> dict[str, dict[str, float]]:
    data_range = loss.ssim_data_range or prepared.depth_range[1]
    batch = prepared.tensors(part)
    return {name: _evaluate(baselines.prediction(name), batch, loss, data_range) for name in BASELINES}


@torch.no_grad()
def _evaluate(prediction: Tensor, part: Batch, loss: LossSettings, data_range: float) -> dict[str, float]:
    """Terms and metrics of one prediction (1, 1, H, W) for every picture of a part."""
    metrics, terms = MetricAccumulator(), MeanAccumulator()
    for start in range(0, len(part.images), BATCH_IMAGES):
        chosen = slice(start, start + BATCH_IMAGES)
        depth, mask = part.depth[chosen], part.mask[chosen]
        pred = prediction.expand_as(depth)
        found = per_image_terms(
            pred,
            depth,
            mask,
            part.images[chosen].float() / 255,
            data_range=data_range,
            silog_alpha=loss.silog_alpha,
            silog_form=loss.silog_form,
            edge=loss.edge,
        )
        terms.add_values(found)
        metrics.add(pred, depth, mask)
    term_means, metric_means = terms.result(), metrics.result()
    return {
        **{f"term_{name}": term_means.get(name, math.nan) for name in TERMS},
        **{f"metric_{name}": metric_means[name] for name in (*METRICS, *EXTRA_METRICS)},
    }
