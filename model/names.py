"""What training, storage and reports agree on by name: terms, metrics, weightings, networks, outcomes. No torch here.

A registry's line says how a thing is called in a report and where its code is, which is imported when it is needed. To add a
term, a metric, a weighting or a network is to write its module and to add its line.
"""

from dataclasses import dataclass
from typing import Any

from pydantic import Field

from depth_loss_sweep.registry import Entry

NO_UNIT = "no unit"


@dataclass(frozen=True, kw_only=True)
class Term(Entry):
    """A term of the combined loss. Its code takes `model.losses.Maps` and the loss's settings and returns a `PerImage`."""

    label: str
    """In a figure's axis or a table's head."""
    short: str
    """In prose."""
    unit: str
    note: str = ""
    needs_image: bool = False
    """Whether it looks at the picture, not at depth alone."""


@dataclass(frozen=True, kw_only=True)
class Metric(Entry):
    """A metric. Its code takes prediction, truth and mask, and returns {name: (B,)} of this and perhaps other metrics."""

    label: str
    unit: str
    note: str = ""
    higher_is_better: bool = False


# The terms of the combined loss (Eq. 6), in the paper's order λ1..λ4, then the optional edge-aware smoothness (Eq. 4).
TERMS: dict[str, Term] = {
    "silog": Term(
        label="SILog term",
        short="SILog",
        unit=NO_UNIT,
        note="Eq. 5: variance-like error of log depth",
        code="depth_loss_sweep.model.losses:silog_term",
    ),
    "ssim": Term(
        label="SSIM term, 1 − SSIM",
        short="SSIM",
        unit=NO_UNIT,
        note="Eq. 2: structural dissimilarity",
        code="depth_loss_sweep.model.losses:ssim_term",
    ),
    "edge": Term(
        label="edge term",
        short="edge",
        unit="m/px",
        note="Eq. 9: difference of depth gradients",
        code="depth_loss_sweep.model.losses:edge_term",
    ),
    "l1": Term(
        label="L1 term",
        short="L1",
        unit="m",
        note="Eq. 1: mean absolute error",
        code="depth_loss_sweep.model.losses:l1_term",
    ),
    "smoothness": Term(
        label="smoothness term",
        short="smoothness",
        unit="m/px",
        note="Eq. 4: image-aware depth gradient",
        needs_image=True,
        code="depth_loss_sweep.model.losses:smoothness_term",
    ),
}

_BASIC = "depth_loss_sweep.model.metrics:basic_metrics"
_SCALED = "depth_loss_sweep.model.metrics:scaled_metrics"
_BANDS = "depth_loss_sweep.model.metrics:metrics_by_depth"

# What `model.metrics.depth_metrics` returns, per image and then averaged.
METRICS: dict[str, Metric] = {
    "rmse": Metric(label="RMSE", unit="m", note="root mean square error, per image", code=_BASIC),
    "mae": Metric(label="MAE", unit="m", note="mean absolute error", code=_BASIC),
    "abs_rel": Metric(label="AbsRel", unit=NO_UNIT, note="absolute error over depth", code=_BASIC),
    "sq_rel": Metric(label="SqRel", unit="m", note="squared error over depth", code=_BASIC),
    "rmse_log": Metric(label="RMSE log", unit="ln", note="root mean square error of natural log depth", code=_BASIC),
    "log10": Metric(label="log10", unit="log₁₀", note="mean absolute error of log10 depth", code=_BASIC),
    "silog": Metric(label="SILog metric", unit="100 ln", note="100 x standard deviation of log error", code=_BASIC),
    "delta1": Metric(
        label="δ < 1.25",
        unit="fraction",
        note="pixels within a factor of 1.25; more is better",
        higher_is_better=True,
        code=_BASIC,
    ),
    "delta2": Metric(
        label="δ < 1.25²",
        unit="fraction",
        note="pixels within a factor of 1.5625; more is better",
        higher_is_better=True,
        code=_BASIC,
    ),
    "delta3": Metric(
        label="δ < 1.25³",
        unit="fraction",
        note="pixels within a factor of 1.953; more is better",
        higher_is_better=True,
        code=_BASIC,
    ),
}

POOLED = "rmse_pooled"
"""The one metric that no single image has."""

# Beside them, in every evaluation (see `model.metrics.evaluate_metrics`).
EXTRA_METRICS: dict[str, Metric] = {
    POOLED: Metric(label="RMSE, pooled", unit="m", note="over all pixels of the split at once", code=""),
    "rmse_scaled": Metric(
        label="RMSE, median-scaled", unit="m", note="after matching each image's median depth", code=_SCALED
    ),
    "abs_rel_scaled": Metric(
        label="AbsRel, median-scaled", unit=NO_UNIT, note="after matching each image's median depth", code=_SCALED
    ),
    "delta1_scaled": Metric(
        label="δ < 1.25, median-scaled",
        unit="fraction",
        note="after matching medians; more is better",
        higher_is_better=True,
        code=_SCALED,
    ),
    "boundary_f1": Metric(
        label="boundary F1",
        unit="fraction",
        note="agreement of depth edges; more is better",
        higher_is_better=True,
        code="depth_loss_sweep.model.metrics:boundary_metrics",
    ),
    "rmse_near": Metric(label="RMSE, near", unit="m", note="pixels whose true depth is near", code=_BANDS),
    "rmse_mid": Metric(label="RMSE, middle", unit="m", note="pixels whose true depth is in the middle", code=_BANDS),
    "rmse_far": Metric(label="RMSE, far", unit="m", note="pixels whose true depth is far", code=_BANDS),
}

ALL_METRICS: dict[str, Metric] = METRICS | EXTRA_METRICS


@dataclass(frozen=True, kw_only=True)
class Weighting(Entry):
    """How the terms' weights go over a training. Its code is a `model.weighting.Weighting`."""

    cancels_weights: bool = False
    """Whether the rule leaves nothing of the λ of the terms that take part but where it starts."""


def _rate(default: float, weighting: str, what: str) -> tuple[type, Any]:
    """The option of how fast a weighting learns."""
    description = f"weighting {weighting}: the learning rate, times the network's, of its {what}"
    return float, Field(default, gt=0, allow_inf_nan=False, description=description)


WEIGHTINGS: dict[str, Weighting] = {
    "fixed": Weighting(code="depth_loss_sweep.model.weighting:FixedWeighting"),
    "rlw": Weighting(code="depth_loss_sweep.model.weighting:RandomWeighting"),
    "dwa": Weighting(
        code="depth_loss_sweep.model.weighting:AverageWeighting",
        options={
            "dwa_temperature": (
                float,
                Field(2.0, gt=0, allow_inf_nan=False, description="weighting dwa: larger makes the weights more equal"),
            )
        },
    ),
    "uncertainty": Weighting(
        code="depth_loss_sweep.model.weighting:UncertaintyWeighting",
        cancels_weights=True,
        options={"uncertainty_rate": _rate(1.0, "uncertainty", "log-variances; 1 as in its paper")},
    ),
    "gradnorm": Weighting(
        code="depth_loss_sweep.model.gradients:GradNormWeighting",
        cancels_weights=True,
        options={
            "gradnorm_alpha": (
                float,
                Field(
                    1.5,
                    ge=0,
                    allow_inf_nan=False,
                    description="weighting gradnorm: how much a term that lags is favoured",
                ),
            ),
            "gradnorm_rate": _rate(125.0, "gradnorm", "shares; 125 is its paper's 0.025 at a rate of 2e-4"),
        },
    ),
    "upgrad": Weighting(code="depth_loss_sweep.model.gradients:UPGradWeighting"),
}


@dataclass(frozen=True, kw_only=True)
class Network(Entry):
    """A network. Its code takes the model's settings and returns the module that `model.network` puts a head on."""

    arrays: str = ""
    """The code that says without torch how large its arrays are (see `model.size`); where there is none, it is built to see."""


NETWORKS: dict[str, Network] = {
    "unet": Network(code="depth_loss_sweep.model.unet:UNet", arrays="depth_loss_sweep.model.size:unet_arrays"),
}

# How a run can end as a result. `failed` (our error or the machine's) is not among them.
OUTCOMES = ("learnt", "trivial", "flat", "spiking", "non_finite")

# The trivial predictors every result stands beside.
BASELINES = ("median", "mean_map")
