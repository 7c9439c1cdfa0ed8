"""What a training says of itself: one record an epoch, one result a run, and how a run ended. No torch here."""

import math
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from depth_loss_sweep.model.checkpoint import DamagedFileError, Note, read_arrays, write_arrays

RESULT = "result.npz"
PANELS = 6
"""How many validation pictures are kept with their prediction."""

BEFORE = "before/"
PANEL_ARRAYS = ("image", "truth", "mask", "prediction")

FLAT_RATIO = 0.05
"""Flat: the median per-image standard deviation of the prediction is under this share of the truth's."""

SPIKE_RATIO = 100.0
"""Spiking: a step's gradient norm above so many times the run's median (of the epochs' medians)."""


@dataclass(frozen=True)
class EpochRecord:
    """All there is to say about one epoch; JSON-able, NaN where a number is undefined.

    `splits` holds "train" and "val": "term_<name>" for every term, unweighted, "total" for their weighted sum, and
    "metric_<name>" for every metric; both in eval mode and without augmentation, train on a fixed draw of its images.
    "spread_prediction" and "spread_truth" are medians over images of the standard deviation within an image, in metres.
    """

    epoch: int
    """From 1."""
    splits: dict[str, dict[str, float]]
    learning_rate: float
    """At the epoch's first step."""
    weights: dict[str, float]
    gradient_share: dict[str, float]
    """A term's share of the sum of the terms' gradient norms, by the prediction, on one fixed batch."""
    grad_norm_median: float
    grad_norm_p95: float
    grad_norm_max: float
    non_finite_steps: int
    """Steps with a non-finite loss or gradient; the norms above are those of the others."""
    images_per_second: float
    """Of the training steps alone."""
    seconds: float
    """Training and evaluation of the epoch."""
    agreement: dict[str, float] = field(default_factory=dict)
    """Of each two weighted terms' gradients by the prediction on that batch: "cosine_<a>_<b>" and "similarity_<a>_<b>", of their sizes."""
    break_: dict[str, Any] | None = None
    """Where it became non-finite: {"step": from 1, "term": its name, "gradient" or "prediction", "grad_norm"}."""

    def as_dict(self) -> dict[str, Any]:
        """The fields by name; `EpochRecord(**it)` is the way back."""
        return asdict(self)


@dataclass(frozen=True)
class Panels:
    """A handful of validation pictures: image (K, H, W, 3) uint8; truth, prediction (K, H, W) metres; mask bool."""

    keys: tuple[str, ...]
    image: np.ndarray
    truth: np.ndarray
    mask: np.ndarray
    prediction: np.ndarray


@dataclass(frozen=True)
class SplitResult:
    """What a finished run amounts to on the test pictures: means as an epoch's splits have them, and picture by picture."""

    keys: tuple[str, ...]
    means: dict[str, float]
    per_image: dict[str, np.ndarray]


@dataclass(frozen=True)
class RunResult:
    """How a run ended after `epochs` epochs, with every validation picture's metrics and terms, and panels."""

    outcome: str
    reason: str
    epochs: int
    keys: tuple[str, ...]
    """Of the validation pictures, in the order of `per_image`."""
    per_image: dict[str, np.ndarray]
    """(N,) by "term_<name>" or "metric_<name>"; NaN where undefined, infinity where not finite."""
    panels: Panels
    before: dict[str, np.ndarray] = field(default_factory=dict)
    """The same after the last epoch but one; nothing where there was none, or an older version didn't keep it."""
    test: SplitResult | None = None
    """Where the test pictures were to be judged, and there are any."""


def judge(
    records: Sequence[EpochRecord], prediction_spread: float, truth_spread: float, median_rmse: float
) -> tuple[str, str]:
    """The outcome of a run and its reason in one line.

    The spreads are medians over validation images of the standard deviation over valid pixels, in metres;
    `median_rmse` is the validation rmse of the training-median predictor. The first that holds of: non_finite, flat,
    spiking, trivial; else learnt. A spike that ruins learning is a spike.
    """
    last = records[-1]
    if last.break_ is not None:
        return "non_finite", _describe_break(last)
    if prediction_spread < FLAT_RATIO * truth_spread:
        return "flat", (
            f"the prediction's standard deviation is {prediction_spread:.3g} m within an image, the truth's is "
            f"{truth_spread:.3g} m: below {FLAT_RATIO:.0%}"
        )
    rmse = last.splits["val"]["metric_rmse"]
    usual = statistics.median(record.grad_norm_median for record in records)
    worst = max(records, key=lambda record: record.grad_norm_max)
    if worst.grad_norm_max > SPIKE_RATIO * usual:
        return "spiking", (
            f"a gradient norm of {worst.grad_norm_max:.3g} in epoch {worst.epoch}, "
            f"{worst.grad_norm_max / usual if usual else math.inf:.0f} times the run's median"
        )
    if not rmse < median_rmse:  # written so that an undefined number proves nothing learnt
        return "trivial", f"val rmse {rmse:.4g} m is not below the training-median predictor's {median_rmse:.4g} m"
    return "learnt", f"val rmse {rmse:.4g} m, the training-median predictor's {median_rmse:.4g} m"


def _describe_break(record: EpochRecord) -> str:
    assert record.break_ is not None
    step, term, norm = (record.break_[name] for name in ("step", "term", "grad_norm"))
    return f"epoch {record.epoch}, step {step}: {term} is not finite (gradient norm {norm:.3g})"


def write_result(folder: Path, result: RunResult) -> None:
    """Keep a run's result as folder/result.npz: atomic, no pickle. Raises OSError."""
    arrays = {
        "keys": np.array(result.keys, dtype=np.str_),
        "panel_keys": np.array(result.panels.keys, dtype=np.str_),
        **{f"panel_{name}": getattr(result.panels, name) for name in PANEL_ARRAYS},
        **result.per_image,
        **{f"{BEFORE}{name}": values for name, values in result.before.items()},
    }
    meta = {"outcome": result.outcome, "reason": result.reason, "epochs": result.epochs}
    write_arrays(folder / RESULT, meta, arrays)


def load_result(folder: Path, on_note: Note) -> RunResult | None:
    """A run's result, or None if there is none or it is damaged; `on_note` is told of the latter in a line."""
    try:
        return _result(*read_arrays(folder / RESULT))
    except FileNotFoundError:
        return None
    except DamagedFileError as error:
        on_note(str(error))
    except (LookupError, TypeError, ValueError) as error:
        on_note(f"the file {folder / RESULT} is no result ({error!s}); it is made anew")
    return None


def _result(meta: dict[str, Any], arrays: dict[str, np.ndarray]) -> RunResult:
    """The result that was written; raises LookupError, TypeError or ValueError for anything else."""
    panels = Panels(tuple(arrays["panel_keys"].tolist()), *(arrays[f"panel_{name}"] for name in PANEL_ARRAYS))
    keys, shape = tuple(arrays["keys"].tolist()), (len(panels.keys), *panels.truth.shape[1:])
    per_image, before = _numbers(arrays, ""), _numbers(arrays, BEFORE)
    shapes = [panels.truth.shape, panels.mask.shape, panels.prediction.shape, panels.image.shape[:-1]]
    kinds = [a.dtype.kind for a in (panels.image, panels.truth, panels.mask, panels.prediction)]
    if shapes != [shape] * 4 or len(shape) != 3 or 0 in shape[1:] or panels.image.shape[3] != 3 or kinds != [*"ufbf"]:
        raise ValueError("its panels do not fit together")
    if any(
        values.shape != (len(keys),) or values.dtype.kind != "f" for values in (*per_image.values(), *before.values())
    ):
        raise ValueError("its numbers do not fit its pictures")
    if not all(isinstance(text, str) for text in (*keys, *panels.keys, meta["outcome"], meta["reason"])):
        raise TypeError("its texts are none")
    return RunResult(meta["outcome"], meta["reason"], int(meta["epochs"]), keys, per_image, panels, before)


def _numbers(arrays: dict[str, np.ndarray], prefix: str) -> dict[str, np.ndarray]:
    """The terms and metrics among a result's arrays."""
    own = (f"{prefix}term_", f"{prefix}metric_")
    return {name.removeprefix(prefix): values for name, values in arrays.items() if name.startswith(own)}
