"""What training, storage and reports agree on by name: terms, metrics, weightings, networks, outcomes. No torch here.

A registry's line says how a thing is called in a report and where its code is, which is imported when it is needed. To add a
term, a metric, a weighting or a network is to write its module and to add its line.

`TERMS`, `METRICS` and `EXTRA_METRICS` are computed in every run; further terms and metrics where a study names them, so that they
cost nothing, and take no column, anywhere else.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any, Literal

from pydantic import Field

from depth_loss_sweep.model.errors import MissingPackageError
from depth_loss_sweep.registry import Entry, nearest
from depth_loss_sweep.usercode import Reference

NO_UNIT = "no unit"
FIELD_OF_VIEW = 60.0
"""Degrees across a picture of the camera that is assumed: pictures come without theirs."""


@dataclass(frozen=True, kw_only=True)
class Term(Entry):
    """A term of the combined loss. Its code takes prediction, truth, mask and the values of its keys, and returns a `PerImage`.

    One that `sees_image` takes `model.losses.Maps` and the loss's settings instead.
    """

    label: str
    """In a figure's axis or a table's head."""
    short: str
    """In prose."""
    unit: str
    note: str = ""
    sees_image: bool = False
    """Whether it may look at the picture, not at depth alone."""
    needs_image: bool = False
    """Whether it does so whatever the settings."""
    settings: tuple[str, ...] = ()
    """The keys of [loss] that it goes by beside its options."""

    @property
    def keys(self) -> tuple[str, ...]:
        """All keys of [loss] that it goes by."""
        return (*self.settings, *self.options)


@dataclass(frozen=True, kw_only=True)
class Metric(Entry):
    """A metric. Its code takes prediction, truth and mask, and returns {name: (B,)} of this and perhaps other metrics."""

    label: str
    unit: str
    note: str = ""
    higher_is_better: bool = False


# The terms that every run computes (Eq. 6), in the paper's order λ1..λ4, then the edge-aware smoothness (Eq. 4).
TERMS: dict[str, Term] = {
    "silog": Term(
        label="SILog term",
        short="SILog",
        unit=NO_UNIT,
        note="Eq. 5: variance-like error of log depth",
        code="depth_loss_sweep.model.losses:silog_per_image",
        settings=("silog_alpha", "silog_form"),
    ),
    "ssim": Term(
        label="SSIM term, 1 − SSIM",
        short="SSIM",
        unit=NO_UNIT,
        note="Eq. 2: structural dissimilarity",
        code="depth_loss_sweep.model.losses:ssim_per_image",
        settings=("ssim_data_range",),
    ),
    "edge": Term(
        label="edge term",
        short="edge",
        unit="m/px",
        note="Eq. 9: difference of depth gradients",
        code="depth_loss_sweep.model.losses:edge_term",
        sees_image=True,
        settings=("edge",),
    ),
    "l1": Term(
        label="L1 term",
        short="L1",
        unit="m",
        note="Eq. 1: mean absolute error",
        code="depth_loss_sweep.model.losses:l1_per_image",
    ),
    "smoothness": Term(
        label="smoothness term",
        short="smoothness",
        unit="m/px",
        note="Eq. 4: image-aware depth gradient",
        sees_image=True,
        needs_image=True,
        code="depth_loss_sweep.model.losses:smoothness_term",
    ),
}


def _number(default: float, description: str, *, above: float = 0.0, below: float | None = None) -> tuple[type, Any]:
    """An option that is a number within bounds."""
    return float, Field(default, gt=above, lt=below, allow_inf_nan=False, description=description)


_PIXELS = "depth_loss_sweep.model.pixel_errors"
_SURFACES = "depth_loss_sweep.model.surfaces"
_ALIGNED = "depth_loss_sweep.model.alignment"

# Terms that a run computes where its study names them, at whatever weight.
FURTHER_TERMS: dict[str, Term] = {
    "l2": Term(
        label="L2 term", short="L2", unit="m²", note="mean square error, no root", code=f"{_PIXELS}:l2_per_image"
    ),
    "huber": Term(
        label="Huber term",
        short="Huber",
        unit="m²",
        note="Huber 1964: half the square, and straight beyond huber_delta",
        code=f"{_PIXELS}:huber_per_image",
        options={"huber_delta": _number(1.0, "term huber: the error, in metres, from which it grows in proportion")},
    ),
    "berhu": Term(
        label="berHu term",
        short="berHu",
        unit="m",
        note="Laina et al. 2016: L1, and a parabola beyond a share of the largest error",
        code=f"{_PIXELS}:berhu_per_image",
        options={
            "berhu_share": _number(0.2, "term berhu: the share of an image's largest error that it turns at", below=1)
        },
    ),
    "log_l1": Term(
        label="log L1 term",
        short="log L1",
        unit="ln",
        note="mean absolute error of natural log depth",
        code=f"{_PIXELS}:log_l1_per_image",
    ),
    "log_offset": Term(
        label="log-offset term",
        short="log-offset",
        unit="ln",
        note="Hu et al. 2019: ln(1 + error / 0.5 m)",
        code=f"{_PIXELS}:log_offset_per_image",
        options={
            "log_offset_alpha": _number(0.5, "term log_offset: metres added to the error before its logarithm is taken")
        },
    ),
    "log_gradient": Term(
        label="log-gradient term",
        short="log-gradient",
        unit="ln",
        note="Hu et al. 2019: ln(1 + difference of Sobel gradients / 0.5), both axes",
        code=f"{_SURFACES}:log_gradient_per_image",
        options={"log_gradient_alpha": _number(0.5, "term log_gradient: what is added before the logarithm is taken")},
    ),
    "normals": Term(
        label="normals term",
        short="normals",
        unit=NO_UNIT,
        note="Hu et al. 2019: 1 − cosine between surface normals",
        code=f"{_SURFACES}:normals_per_image",
    ),
    "virtual_normal": Term(
        label="virtual normal term",
        short="virtual normal",
        unit=NO_UNIT,
        note="Yin et al. 2019: difference of the normals of planes through three far points",
        code=f"{_SURFACES}:virtual_normal_per_image",
        options={
            "virtual_normal_fov": _number(
                FIELD_OF_VIEW, "term virtual_normal: the camera's field of view across the picture, degrees", below=180
            ),
            "virtual_normal_distance": _number(0.6, "term virtual_normal: how far apart its points are, metres"),
        },
    ),
    "ssi_mae": Term(
        label="SSI MAE term",
        short="SSI MAE",
        unit=NO_UNIT,
        note="Ranftl et al. 2020: absolute error after each map's own shift and scale are removed",
        code=f"{_ALIGNED}:ssi_mae_per_image",
    ),
    "ssi_trimmed": Term(
        label="SSI trimmed term",
        short="SSI trimmed",
        unit=NO_UNIT,
        note="Ranftl et al. 2020: the same without the largest errors",
        code=f"{_ALIGNED}:ssi_trimmed_per_image",
        options={"ssi_trim": _number(0.2, "term ssi_trimmed: the share of the pixels that is left out", below=1)},
    ),
    "ms_gradient": Term(
        label="multi-scale gradient term",
        short="multi-scale gradient",
        unit=NO_UNIT,
        note="Ranftl et al. 2020: gradients of that error at several resolutions",
        code=f"{_ALIGNED}:ms_gradient_per_image",
        options={
            "ms_gradient_scales": (
                int,
                Field(
                    4, ge=1, le=8, description="term ms_gradient: at so many resolutions, each half of the one before"
                ),
            )
        },
    ),
    "ranking": Term(
        label="ranking term",
        short="ranking",
        unit=NO_UNIT,
        note="Chen et al. 2016: whether pairs of pixels are ordered as in the truth",
        code=f"{_ALIGNED}:ranking_per_image",
        options={
            "ranking_threshold": _number(
                0.03, "term ranking: depths that differ by less than this share count as equal"
            )
        },
    ),
    "ms_ssim": Term(
        label="MS-SSIM term, 1 − MS-SSIM",
        short="MS-SSIM",
        unit=NO_UNIT,
        note="Wang et al. 2003: SSIM at up to five resolutions",
        code="depth_loss_sweep.model.multiscale_ssim:ms_ssim_per_image",
        settings=("ssim_data_range",),
    ),
}

ALL_TERMS: dict[str, Term] = TERMS | FURTHER_TERMS


def terms_with(named: Iterable[str] = ()) -> tuple[str, ...]:
    """The terms that are computed where these are named: `TERMS`, the further ones among them, and a study's own."""
    return (*TERMS, *_further(FURTHER_TERMS, {*named} - TERMS.keys()))


def _further(registry: Mapping[str, Entry], asked: set[str]) -> tuple[str, ...]:
    """Those of a registry in its order, then the user's own by name."""
    return (*(name for name in registry if name in asked), *sorted(asked - registry.keys()))


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

# Metrics that a run is judged by where its study names them.
FURTHER_METRICS: dict[str, Metric] = {
    "abs_rel_aligned": Metric(
        label="AbsRel, aligned",
        unit=NO_UNIT,
        note="after each prediction's best scale and shift",
        code=f"{_ALIGNED}:aligned_metrics",
    ),
    "delta1_aligned": Metric(
        label="δ < 1.25, aligned",
        unit="fraction",
        note="after each prediction's best scale and shift; more is better",
        higher_is_better=True,
        code=f"{_ALIGNED}:aligned_metrics",
    ),
    "irmse": Metric(
        label="iRMSE",
        unit="1/km",
        note="root mean square error of inverse depth",
        code="depth_loss_sweep.model.metrics:inverse_metrics",
    ),
    "normal_angle": Metric(
        label="normal angle",
        unit="°",
        note=f"mean angle between surface normals, a camera of {FIELD_OF_VIEW:g}° assumed",
        code=f"{_SURFACES}:normal_metrics",
    ),
}

ALL_METRICS: dict[str, Metric] = METRICS | EXTRA_METRICS | FURTHER_METRICS


def metrics_with(named: Iterable[str] = ()) -> tuple[str, ...]:
    """The metrics that are computed where these are named: `METRICS`, `EXTRA_METRICS`, further ones and a study's own."""
    return (*METRICS, *EXTRA_METRICS, *_further(FURTHER_METRICS, {*named} - METRICS.keys() - EXTRA_METRICS.keys()))


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
    "upgrad": Weighting(
        code="depth_loss_sweep.model.gradients:UPGradWeighting",
        options={
            "upgrad_by": (
                Literal["prediction", "parameters"],
                Field(
                    "prediction",
                    description="weighting upgrad: whose gradients count; parameters as in its paper, a pass through the network a term",
                ),
            )
        },
    ),
}


@dataclass(frozen=True, kw_only=True)
class Network(Entry):
    """A network. Its code takes the model's settings and returns the module that `model.network` puts a head on.

    The module maps (B, 3, H, W) to one raw channel, `start_at(raw)` has the untrained one give about that everywhere, and
    `load_pretrained(tensors)` has it begin with weights from a file.
    """

    package: str = ""
    """What it is made by, which is an extra of ours, too; which of its networks stands behind a colon."""
    beside: tuple[str, ...] = ()
    """Other packages that it takes parts from, whose versions count, too."""
    own_keys: tuple[str, ...] = ()
    """The keys of [model] that it alone has, or shares with few: of the others they determine nothing."""
    published: str = ""
    """The code that says how published weights are named and shaped."""
    fetch: str = ""
    """The code that gets published weights; where there is none, there are none."""
    arrays: str = ""
    """The code that says without torch how large its arrays are (see `model.size`); where there is none, it is built to see."""


NETWORKS: dict[str, Network] = {
    "unet": Network(
        code="depth_loss_sweep.model.unet:UNet",
        arrays="depth_loss_sweep.model.size:unet_arrays",
        own_keys=("width", "batch_norm"),
    ),
    "timm": Network(
        code="depth_loss_sweep.model.timm_network:TimmNetwork",
        package="timm",
        own_keys=("decoder_channels", "options"),
        published="depth_loss_sweep.model.timm_network:published",
        fetch="depth_loss_sweep.model.timm_network:fetch",
    ),
    "smp": Network(
        code="depth_loss_sweep.model.smp_network:smp_network",
        package="segmentation_models_pytorch",
        beside=("timm",),
        own_keys=("decoder_channels", "options"),
        published="depth_loss_sweep.model.smp_network:published",
        fetch="depth_loss_sweep.model.smp_network:fetch",
    ),
}


OWN_NETWORK = Network(code="depth_loss_sweep.model.own:build_network", own_keys=("options",))
"""The line of every network of a user's own."""


def network_forms() -> str:
    """The networks as a spec writes them, in words."""
    return ", ".join([*(f"{name}:NAME" if entry.package else name for name, entry in NETWORKS.items()), "FILE.py:NAME"])


def network_entry(network: str) -> Network:
    """The line of a network as a spec writes it. ValueError where it is none, lacks its name, or has one too many."""
    kind, _, name = network.partition(":")
    entry = NETWORKS.get(kind)
    if entry is None and Reference.parse(network):
        return OWN_NETWORK
    if entry is None and network.endswith(".py"):
        raise ValueError(f"expected {network}:NAME, with the name of what builds the network")
    if entry is None:
        raise ValueError(f"unknown network{nearest(kind, NETWORKS)}; expected {network_forms()}")
    if bool(name) is not bool(entry.package):
        expected = f"{kind}:NAME, such as timm:resnet18 or smp:Unet" if entry.package else kind
        raise ValueError(f"expected {expected}")
    return entry


def require_package(network: str) -> None:
    """Raise MissingPackageError where a network needs a package that is not installed."""
    package, extra = network_entry(network).package, network.partition(":")[0]
    if package and find_spec(package) is None:
        raise MissingPackageError(f"network {network!r} needs {package}: pip install 'depth-loss-sweep[{extra}]'")


# How a run can end as a result. `failed` (our error or the machine's) is not among them.
OUTCOMES = ("learnt", "trivial", "flat", "spiking", "non_finite")

# The trivial predictors every result stands beside.
BASELINES = ("median", "mean_map")
