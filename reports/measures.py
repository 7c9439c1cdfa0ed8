"""What is measured: names, units and directions of terms and metrics, and how a number is written.

Reports import nothing of the network's code, so this table repeats the names they share.
"""

import math
from dataclasses import dataclass

NO_UNIT = "no unit"
NO_BREAK = "\u00a0"  # between a number and its unit

TERM_LABELS = {"silog": "SILog", "ssim": "SSIM", "edge": "edge", "l1": "L1", "smoothness": "smoothness"}
BASELINE_LABELS = {"median": "training median", "mean_map": "training mean map"}
OUTCOMES = ("learnt", "trivial", "flat", "spiking", "non_finite")
# Outcomes in which training itself broke. A trivial run trained, but learnt nothing.
BROKEN = ("flat", "spiking", "non_finite")
HIGHER_IS_BETTER = frozenset({"delta1", "delta2", "delta3", "delta1_scaled", "boundary_f1"})

_TERMS = {
    "silog": ("SILog term", NO_UNIT, "Eq. 5: variance-like error of log depth"),
    "ssim": ("SSIM term, 1 − SSIM", NO_UNIT, "Eq. 2: structural dissimilarity"),
    "edge": ("edge term", "m/px", "Eq. 9: difference of depth gradients"),
    "l1": ("L1 term", "m", "Eq. 1: mean absolute error"),
    "smoothness": ("smoothness term", "m/px", "Eq. 4: image-aware depth gradient"),
}
_METRICS = {
    "rmse": ("RMSE", "m", "root mean square error, per image"),
    "mae": ("MAE", "m", "mean absolute error"),
    "abs_rel": ("AbsRel", NO_UNIT, "absolute error over depth"),
    "sq_rel": ("SqRel", "m", "squared error over depth"),
    "rmse_log": ("RMSE log", "ln", "root mean square error of natural log depth"),
    "log10": ("log10", "log₁₀", "mean absolute error of log10 depth"),
    "silog": ("SILog metric", "100 ln", "100 x standard deviation of log error"),
    "delta1": ("δ < 1.25", "fraction", "pixels within a factor of 1.25; more is better"),
    "delta2": ("δ < 1.25²", "fraction", "pixels within a factor of 1.5625; more is better"),
    "delta3": ("δ < 1.25³", "fraction", "pixels within a factor of 1.953; more is better"),
    "rmse_pooled": ("RMSE, pooled", "m", "over all pixels of the split at once"),
    "rmse_scaled": ("RMSE, median-scaled", "m", "after matching each image's median depth"),
    "abs_rel_scaled": ("AbsRel, median-scaled", NO_UNIT, "after matching each image's median depth"),
    "delta1_scaled": ("δ < 1.25, median-scaled", "fraction", "after matching medians; more is better"),
    "boundary_f1": ("boundary F1", "fraction", "agreement of depth edges; more is better"),
    "rmse_near": ("RMSE, near", "m", "pixels whose true depth is near"),
    "rmse_mid": ("RMSE, middle", "m", "pixels whose true depth is in the middle"),
    "rmse_far": ("RMSE, far", "m", "pixels whose true depth is far"),
}


@dataclass(frozen=True)
class Measure:
    """One column of the table of epochs: its label, its unit and which way is better."""

    column: str
    label: str
    unit: str
    note: str = ""
    higher_is_better: bool = False

    @property
    def key(self) -> str:
        """The name without `term_` or `metric_`: how the trivial predictors' table calls it."""
        return self.column.removeprefix("term_").removeprefix("metric_")

    @property
    def axis(self) -> str:
        """An axis title: label and unit."""
        return f"{self.label} ({self.unit})"

    @property
    def worst(self) -> float:
        """The worst infinity: what a run that went non-finite counts as."""
        return -math.inf if self.higher_is_better else math.inf

    def write(self, value: float) -> str:
        """A value with its unit, such as "0.5213 m"."""
        return quantity(value, self.unit)


def measure(column: str) -> Measure:
    """The measure of a column of the table of epochs; an unknown one is called by its name."""
    if column == "total":
        return Measure(column, "combined loss", "weighted sum", "its meaning changes with the weights: not comparable")
    kind, _, name = column.partition("_")
    known = (_TERMS if kind == "term" else _METRICS).get(name, (name.replace("_", " "), NO_UNIT, ""))
    return Measure(column, *known, higher_is_better=kind == "metric" and name in HIGHER_IS_BETTER)


def objective_measure(objective: str) -> Measure:
    """What a study minimises (or maximises): "val_rmse" is the column metric_rmse, "combined" is total."""
    return measure("total" if objective == "combined" else f"metric_{objective.removeprefix('val_')}")


def term_label(term: str) -> str:
    """A term's short name in prose."""
    return TERM_LABELS.get(term, term)


def number(value: float) -> str:
    """A number with four significant digits; "–" where it is missing, "diverged" where it is infinite."""
    if value is None or math.isnan(value):
        return "–"
    if math.isinf(value):
        return "diverged"
    if abs(value) >= 10000:
        return f"{value:,.0f}"
    return "0" if value == 0 else f"{value:#.4g}".rstrip(".")


def rough(value: float, unit: str = "") -> str:
    """An uncertainty with its unit: two significant digits are all that it deserves."""
    if not math.isfinite(value):
        return number(value)
    digits = f"{value:.2g}" if abs(value) >= 1e-4 or value == 0 else f"{value:.1e}"
    return f"{digits}{NO_BREAK}{unit}" if unit in ("m", "m/px", "s") else digits


def percent(value: float) -> str:
    """A fraction as per cent."""
    return f"{100 * value:.0f}{NO_BREAK}%"


def short(value: float) -> str:
    """A weight or a swept value as a person would write it: 0.3, not 0.3000."""
    return f"{value:.4g}" if math.isfinite(value) else number(value)


def quantity(value: float, unit: str) -> str:
    """A number and its unit; units that are no units are left out."""
    suffix = unit if unit in ("m", "m/px", "s") else ""
    return f"{number(value)}{NO_BREAK}{suffix}".strip() if math.isfinite(value) else number(value)
