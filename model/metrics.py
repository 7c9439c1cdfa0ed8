"""How a prediction is judged: the usual depth metrics, per image over valid pixels, then averaged over images.

mae, rmse, abs_rel, log10 and delta1 to delta3 are the formulas of the DIODE development kit (github.com/diode-dataset/diode-devkit,
metrics.py: its `log_mae` is our `log10`), sq_rel and rmse_log (natural logarithm; the kit's `log_rmse` has base 10) those of Eigen
et al. 2014, silog that of the KITTI depth benchmark, ×100.

Shapes and units: `pred` and `target` are depth in metres, (B, 1, H, W) float; `mask` is (B, 1, H, W) bool. A value is NaN where it is
undefined (no valid pixel, no truth in a depth band, no true boundary), and infinity where the prediction is non-finite, so that a
broken prediction is never skipped as if it were undefined. Logarithms and ratios see predictions of at least 1 mm.

Beside them, in every evaluation:
- rmse_pooled: over all valid pixels of all images at once.
- rmse_scaled, abs_rel_scaled, delta1_scaled: after each prediction (at least 1 mm) is multiplied by median(truth) / median(prediction)
  of its valid pixels; the median of an even number is the lower middle one.
- boundary_f1: agreement of occlusion boundaries. A boundary is a valid pixel whose right or lower valid neighbour is nearer or
  farther by more than a ratio of 1.05, 1.1, 1.2 (`BOUNDARY_RATIOS`); the F1 scores of the three are averaged over those at which
  the truth has a boundary. A boundary is found if the other map has one within 1 pixel, diagonals included. Holes: a pair with an
  invalid pixel is no boundary, and boundaries within 1 pixel of a hole are not counted, since their match may lie in it; they
  still serve as matches for others. Scale doesn't matter. The idea is Depth Pro's (Bochkovskii et al. 2024).
- rmse_near, rmse_mid, rmse_far: over truth below 2 m, from 2 to below 4 m, and from 4 m (`DEPTH_BANDS`).

Where a study names them:
- irmse: of inverse depth in 1/km, as in the KITTI depth benchmark (Uhrig et al. 2017).
- abs_rel_aligned, delta1_aligned: in `model.alignment`; normal_angle: in `model.surfaces`.
"""

import math
from collections.abc import Iterable, Mapping
from functools import cache

import torch
from torch import Tensor
from torch.nn import functional

from depth_loss_sweep.model.losses import MIN_DEPTH, log_depth, masked_mean
from depth_loss_sweep.model.names import ALL_METRICS, METRICS, POOLED, metrics_with
from depth_loss_sweep.model.own import metric_values
from depth_loss_sweep.model.settings import OwnMetric
from depth_loss_sweep.registry import load

DELTA_BASE = 1.25
BOUNDARY_RATIOS = (1.05, 1.1, 1.2)
BOUNDARY_TOLERANCE = 1  # pixels
DEPTH_BANDS = {"rmse_near": (0.0, 2.0), "rmse_mid": (2.0, 4.0), "rmse_far": (4.0, math.inf)}  # metres of truth


def depth_metrics(pred: Tensor, target: Tensor, mask: Tensor) -> dict[str, Tensor]:
    """Return {name: scalar tensor} for `METRICS`: the mean over the images that have valid pixels, NaN if none has."""
    return {name: torch.nanmean(values) for name, values in _compute([*METRICS], pred, target, mask).items()}


def evaluate_metrics(pred: Tensor, target: Tensor, mask: Tensor, further: Iterable[str] = ()) -> dict[str, float]:
    """Return {name: number} for `METRICS`, `EXTRA_METRICS` and `further` ones over a batch; `MetricAccumulator` takes several."""
    accumulator = MetricAccumulator(further)
    accumulator.add(pred, target, mask)
    return accumulator.result()


NONE: Mapping[str, OwnMetric] = {}


@torch.no_grad()
def per_image_metrics(
    pred: Tensor, target: Tensor, mask: Tensor, further: Iterable[str] = (), own: Mapping[str, OwnMetric] = NONE
) -> dict[str, Tensor]:
    """Return {name: (B,)} for `METRICS`, those of `EXTRA_METRICS` that an image has (all but rmse_pooled), and `further` ones.

    `own` are those of the user's own, by name; one is computed in place of a further one of its name.
    """
    return _compute(metrics_with([*further, *own]), pred, target, mask, own)


def _compute(
    names: Iterable[str], pred: Tensor, target: Tensor, mask: Tensor, own: Mapping[str, OwnMetric] = NONE
) -> dict[str, Tensor]:
    """These metrics of each image, {name: (B,)}; what makes several is called once."""
    codes = {name: "" if name in own else ALL_METRICS[name].code for name in names}
    values: dict[str, Tensor] = {}
    for code in dict.fromkeys(code for code in codes.values() if code):
        values |= _function(code)(pred, target, mask)
    values |= {name: metric_values(metric, pred, target, mask) for name, metric in own.items()}
    return {name: values[name] for name in codes if name in values}


_function = cache(load)


CHUNK = 1024
"""Images whose values are kept in one tensor: a small tensor a batch would pin the memory that its large ones lay in."""


class MeanAccumulator:
    """Means over the images of several batches; values stay on their device until `result`, so adding never waits."""

    def __init__(self) -> None:
        self._names: tuple[str, ...] = ()
        self._chunks: list[Tensor] = []
        self._last = CHUNK  # how much of the last chunk is filled

    def add_values(self, values: Mapping[str, Tensor]) -> None:
        """Take {name: (B,)}; NaN is an undefined value. Every batch has the same names."""
        self._names = tuple(values)
        rows = torch.stack(tuple(value.float() for value in values.values()))
        while rows.shape[1]:
            if self._last == CHUNK:
                self._chunks.append(rows.new_empty(len(rows), CHUNK))
                self._last = 0
            part = rows[:, : CHUNK - self._last]
            self._chunks[-1][:, self._last : self._last + part.shape[1]] = part
            self._last += part.shape[1]
            rows = rows[:, part.shape[1] :]

    def per_image(self) -> dict[str, Tensor]:
        """Return {name: (N,)}: all values so far, in the order they were added."""
        if not self._chunks:
            return {}
        rows = torch.cat([*self._chunks[:-1], self._chunks[-1][:, : self._last]], dim=1)
        return dict(zip(self._names, rows, strict=True))

    def result(self) -> dict[str, float]:
        """Return {name: mean over the images where it is defined}, NaN where there is none."""
        means = {name: torch.nanmean(values) for name, values in self.per_image().items()}
        numbers = torch.stack(tuple(means.values())).tolist() if means else []
        return dict(zip(means, numbers, strict=True))


class MetricAccumulator(MeanAccumulator):
    """`METRICS`, `EXTRA_METRICS`, `further` and `own` ones over batches, the pooled rmse included; all are NaN before one is added."""

    def __init__(self, further: Iterable[str] = (), own: Mapping[str, OwnMetric] = NONE) -> None:
        super().__init__()
        self.names, self.own = metrics_with([*further, *own]), own
        self._valid_pixels = MeanAccumulator()

    def add(self, pred: Tensor, target: Tensor, mask: Tensor) -> None:
        """Take one batch of (B, 1, H, W) maps."""
        self.add_values(per_image_metrics(pred, target, mask, self.names, self.own))
        self.add_pixels(mask.sum(dim=(1, 2, 3)))

    def add_pixels(self, pixels: Tensor) -> None:
        """Take the numbers of valid pixels, (B,), of a batch whose metrics are added by themselves."""
        self._valid_pixels.add_values({"pixels": pixels})

    def result(self) -> dict[str, float]:
        """Return {name: number} in the order of `METRICS`, `EXTRA_METRICS` and the further ones."""
        found = super().result()
        if found:
            found[POOLED] = self._pooled_rmse()
        return {name: found.get(name, math.nan) for name in self.names}

    def _pooled_rmse(self) -> float:
        pixels = self._valid_pixels.per_image()["pixels"]
        squares = torch.where(pixels > 0, self.per_image()["rmse"].square() * pixels, 0.0)
        return (squares.sum() / pixels.sum()).sqrt().item()


def boundary_metrics(pred: Tensor, target: Tensor, mask: Tensor) -> dict[str, Tensor]:
    """The boundary F1 score of each image, {name: (B,)}."""
    return {"boundary_f1": boundary_f1(pred, target, mask)}


def metrics_by_depth(pred: Tensor, target: Tensor, mask: Tensor) -> dict[str, Tensor]:
    """RMSE of each image over the truth of each of `DEPTH_BANDS`, {name: (B,)}."""
    error = (pred.float() - target.float()).square()
    bands = {name: mask & (target >= near) & (target < far) for name, (near, far) in DEPTH_BANDS.items()}
    return {name: _mean(error, band).sqrt() for name, band in bands.items()}


def boundary_f1(pred: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    """Return (B,): the boundary F1 score described on top of this module, NaN where the truth has no boundary that counts."""
    counted = mask & ~_widened(~mask)
    truth = _boundaries(target, mask)
    found = _boundaries(pred, mask)
    recall, true_total = _share(truth & counted, _widened(found))
    precision, _ = _share(found & counted, _widened(truth))
    f1 = 2 * precision * recall / (precision + recall).clamp_min(1e-12)
    return torch.nanmean(torch.where(true_total > 0, f1, math.nan), dim=1)


def basic_metrics(pred: Tensor, target: Tensor, mask: Tensor) -> dict[str, Tensor]:
    """`METRICS` of each image, {name: (B,)}."""
    truth = torch.where(mask, target.float(), 1.0).clamp_min(MIN_DEPTH)
    error = (pred.float() - truth).abs()
    log_error = log_depth(pred) - truth.log()
    log_mean = _mean(log_error, mask)
    spread = (log_error - log_mean.view(-1, 1, 1, 1)).square()
    found = {
        "rmse": _mean(error.square(), mask).sqrt(),
        "mae": _mean(error, mask),
        "abs_rel": _mean(error / truth, mask),
        "sq_rel": _mean(error.square() / truth, mask),
        "rmse_log": _mean(log_error.square(), mask).sqrt(),
        "log10": _mean(log_error.abs(), mask) / math.log(10),
        # √(E[g²] - E[g]²) as the standard deviation it is: the difference loses its digits in float32.
        "silog": 100.0 * _mean(spread, mask).sqrt(),
    }
    for power in (1, 2, 3):
        found[f"delta{power}"] = delta_of(pred, truth, mask, power)
    return found


def scaled_metrics(pred: Tensor, target: Tensor, mask: Tensor) -> dict[str, Tensor]:
    """The median-scaled metrics of each image, {name: (B,)}."""
    pred = pred.float().clamp_min(MIN_DEPTH)
    truth = torch.where(mask, target.float(), 1.0)
    scale = lower_median(truth, mask) / lower_median(pred, mask)
    pred = pred * torch.where(mask.any(dim=(1, 2, 3)), scale, 1.0).view(-1, 1, 1, 1)
    error = (pred - truth).abs()
    return {
        "rmse_scaled": _mean(error.square(), mask).sqrt(),
        "abs_rel_scaled": _mean(error / truth, mask),
        "delta1_scaled": delta_of(pred, truth, mask, 1),
    }


def inverse_metrics(pred: Tensor, target: Tensor, mask: Tensor) -> dict[str, Tensor]:
    """The root mean square error of inverse depth of each image, per kilometre, {name: (B,)}."""
    truth = torch.where(mask, target.float(), 1.0).clamp_min(MIN_DEPTH)
    error = 1000.0 / pred.float().clamp_min(MIN_DEPTH) - 1000.0 / truth
    return {"irmse": _mean(error.square(), mask).sqrt()}


def delta_of(pred: Tensor, truth: Tensor, mask: Tensor, power: int) -> Tensor:
    """Share of the valid pixels that are off by a ratio below 1.25 to the `power`, (B,)."""
    pred = pred.float().clamp_min(MIN_DEPTH)
    return _mean((torch.maximum(pred / truth, truth / pred) < DELTA_BASE**power).float(), mask)


def _mean(values: Tensor, mask: Tensor) -> Tensor:
    """Mean over each image's valid pixels, (B,); NaN without any, infinity where it is non-finite."""
    return masked_mean(values, mask).or_nan()


def lower_median(depth: Tensor, mask: Tensor) -> Tensor:
    """Lower median over each image's valid pixels, (B,)."""
    flat, valid = depth.flatten(1), mask.flatten(1)
    if depth.device.type == "cpu":
        return torch.where(valid, flat, math.nan).nanmedian(dim=1).values
    # CUDA refuses a median by row where determinism is asked for; on a CPU sorting takes four times as long.
    ordered = torch.where(valid, flat, math.inf).sort(dim=1).values
    middle = (valid.sum(dim=1, keepdim=True) - 1).clamp_min(0) // 2
    return ordered.gather(1, middle).squeeze(1)


def _boundaries(depth: Tensor, mask: Tensor) -> Tensor:
    """(B, 3, H, W) bool: where depth jumps by more than each of `BOUNDARY_RATIOS` to the right or lower valid neighbour."""
    logs = log_depth(torch.where(mask, depth, 1.0))
    right = torch.where(mask[..., 1:] & mask[..., :-1], logs.diff(dim=-1).abs(), 0.0)
    below = torch.where(mask[..., 1:, :] & mask[..., :-1, :], logs.diff(dim=-2).abs(), 0.0)
    jump = torch.maximum(functional.pad(right, (0, 1, 0, 0)), functional.pad(below, (0, 0, 0, 1)))
    return torch.cat([jump > math.log(ratio) for ratio in BOUNDARY_RATIOS], dim=1)


def _widened(marked: Tensor) -> Tensor:
    """Pixels within `BOUNDARY_TOLERANCE` of a marked one, diagonals included; (B, K, H, W) bool."""
    # Row by row, then column by column, on views; max-pooling does the same thirty times slower on a CPU.
    for dim in (2, 3):
        wide = marked.clone()
        length = marked.shape[dim]
        for step in range(1, BOUNDARY_TOLERANCE + 1):
            wide.narrow(dim, step, length - step).logical_or_(marked.narrow(dim, 0, length - step))
            wide.narrow(dim, 0, length - step).logical_or_(marked.narrow(dim, step, length - step))
        marked = wide
    return marked


def _share(of: Tensor, within: Tensor) -> tuple[Tensor, Tensor]:
    """Which share of the pixels `of` lies `within`, and how many there are; both (B, K)."""
    total = of.sum(dim=(2, 3))
    return (of & within).sum(dim=(2, 3)) / total.clamp_min(1), total
