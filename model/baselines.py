"""The numbers of the trivial predictors every result stands beside: a network that doesn't beat them has learnt nothing.

They are remembered beside the cache; torch comes only with those that aren't known yet.
"""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any

from depth_loss_sweep.data.cache import remembered
from depth_loss_sweep.data.prepare import PARTS, Part, Prepared
from depth_loss_sweep.model.names import metrics_with, terms_with
from depth_loss_sweep.model.settings import LossSettings, OwnMetric
from depth_loss_sweep.usercode import versions

BASELINES_VERSION = 2
"""Raised when the same data and loss settings give other numbers than before, and where what was remembered may be wrong."""


def _fitted(prepared: Prepared) -> dict[str, Any]:
    """The fitted baselines as numbers."""

    def fit() -> dict[str, Any]:
        from depth_loss_sweep.model.predictors import fit_to

        baselines, val_rmse = fit_to(prepared)
        return {"median": baselines.median, "mean_map": baselines.mean_map[0, 0].tolist(), "val_rmse": val_rmse}

    found: dict[str, Any] = _remembered(prepared, "baselines", fit)
    return found


@lru_cache(maxsize=4)
def median_baseline(prepared: Prepared) -> tuple[float, float]:
    """The median of a dataset's valid training pixels, and its rmse on the validation part; both in metres.

    Kept by the process for its next run.
    """
    found = _fitted(prepared)
    return found["median"], found["val_rmse"]


def evaluate_baselines(
    prepared: Prepared,
    loss: LossSettings,
    train_images: int | None = None,
    terms: Sequence[str] = (),
    metrics: Sequence[str] = (),
    own_metrics: Mapping[str, OwnMetric] | None = None,
) -> dict[str, dict[str, dict[str, float]]]:
    """Return {part: {baseline: {"term_<name>" and "metric_<name>": number}}}, all parts, fitted on train; JSON-able.

    Computed as a network's numbers are: per image, then averaged; on train over the draw of `train_images` that a run is
    evaluated on. All are NaN for a part without pictures. `terms` and `metrics` are the further ones that are asked for,
    `own_metrics` the user's own.
    """
    own = own_metrics or {}
    asked: dict[str, Any] = {"terms": terms, "metrics": metrics, "own_metrics": own}
    packages = versions(each.function for each in (*loss.own.values(), *own.values()))

    def evaluate() -> dict[str, dict[str, dict[str, float]]]:
        return {part: _judged(prepared, prepared, part, loss, train_images, **asked) for part in PARTS}

    found: dict[str, dict[str, dict[str, float]]] = _remembered(
        prepared,
        [loss.model_dump(), train_images, prepared.depth_range, [*terms_with(terms)], [*metrics_with(metrics)]]
        + [{name: metric.model_dump() for name, metric in own.items()}] * bool(own)
        + [packages] * bool(packages),
        evaluate,
    )
    return found


def judge_beside(
    fitted: Prepared,
    judged: Prepared,
    part: Part,
    loss: LossSettings,
    metrics: Sequence[str] = (),
    own_metrics: Mapping[str, OwnMetric] | None = None,
) -> dict[str, dict[str, float]]:
    """{baseline: numbers} as of `evaluate_baselines`, on a part of other pictures than the predictors are fitted to."""
    return _judged(fitted, judged, part, loss, None, metrics=metrics, own_metrics=own_metrics or {})


def _judged(
    fitted: Prepared, judged: Prepared, part: Part, loss: LossSettings, train_images: int | None, **asked: Any
) -> dict[str, dict[str, float]]:
    import torch

    from depth_loss_sweep.model.predictors import Baselines, judge_baselines

    known = _fitted(fitted)
    baselines = Baselines(known["median"], torch.tensor(known["mean_map"])[None, None])
    return judge_baselines(judged, part, baselines, loss, train_images, **asked)


def _remembered(prepared: Prepared, what: Any, compute: Callable[[], Any]) -> Any:
    """What was computed of these pictures before, if they lie in a cache."""
    if not prepared.dataset.folder.is_dir():
        return compute()
    key = json.dumps([BASELINES_VERSION, prepared.identity, what], sort_keys=True)
    name = hashlib.sha256(key.encode()).hexdigest()[:32]
    return remembered(prepared.dataset.folder.parent / "known" / f"{name}.json", compute)
