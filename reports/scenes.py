"""Scenes are a sample, as seeds are: what other pictures would change, from every picture's numbers in every run.

Pictures of one scene are not replicates, so a scene is a block, as a seed is one: each weight's numbers are averaged over
seeds, and compared over scenes as they are over seeds. Seeds and scenes err independently of each other, so their half
widths add as squares (the method of variance estimates recovery: Zou, Donner 2008); what differs by seed and scene at once
is in both, which is cautious. Drawing scenes with replacement instead is too bold with few of them: with eight, of unequal
size, the largest of nine such bounds was false in a tenth of made-up studies, this one in a fiftieth.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import special

from depth_loss_sweep.reports.comparisons import Fit
from depth_loss_sweep.reports.intervals import CONFIDENCE, Interval, known

LEAST_SCENES = 8
SAME = 1e-4  # a run's value and the mean over its pictures, but for rounding in float32


@dataclass(frozen=True, eq=False)
class PictureValues:
    """Pictures by their scenes, and run -> one number a picture of what runs are valued by, NaN where it is undefined.

    Of the mean over the epochs that make the run's value; runs of which a number is missing are left out.
    """

    scenes: tuple[str, ...]
    values: Mapping[str, np.ndarray]


def val_pictures(data: Mapping[str, Any]) -> int | None:
    """How many pictures judge, by the summary of a study's data; None where it doesn't say."""
    images = data.get("images")
    count = images.get("val") if isinstance(images, Mapping) else None
    return count if isinstance(count, int) else None


@dataclass(frozen=True, eq=False)
class Effects:
    """By how much each scene moves a run's measure: (trials, seeds, scenes); `relative` to it, and `raw`."""

    raw: np.ndarray
    relative: np.ndarray


def scene_effects(
    pictures: PictureValues | None, runs: Sequence[Sequence[str]], values: np.ndarray, unbroken: np.ndarray
) -> Effects | str:
    """What scenes do to the unbroken runs of trials, whose measured `values` are (trials, seeds); or why that isn't known.

    A run's measure is the mean over the pictures where it is defined, so that a scene counts by its pictures.
    """
    asked = [runs[row][column] for row, column in np.argwhere(unbroken)]
    if pictures is None or not all(run in pictures.values for run in asked):
        return "of some run, the numbers of single pictures weren't kept for all epochs that count"
    names, place = np.unique(pictures.scenes, return_inverse=True)
    if len(names) < LEAST_SCENES:
        return f"there are {len(names)}, and fewer than {LEAST_SCENES} tell nothing of others"
    numbers = np.array([pictures.values[run] for run in asked]).reshape(-1, len(place))
    of_scene = np.eye(len(names))[place]
    known = np.isfinite(numbers)
    sums, counts = np.where(known, numbers, 0.0) @ of_scene, known @ of_scene
    with np.errstate(invalid="ignore", divide="ignore"):
        means = sums.sum(axis=1) / counts.sum(axis=1)
        shares = counts / counts.sum(axis=1, keepdims=True)
        found = sums / counts.sum(axis=1, keepdims=True) - means[:, None] * shares
        # What a scene does to the mean, it hides by its share in it: the cautious correction of MacKinnon, White (1985).
        found /= np.maximum(1 - shares, SAME)
    if not np.allclose(means, values[unbroken], rtol=SAME, atol=0):
        return "the measure isn't the mean over pictures"
    raw = np.zeros((*values.shape, len(names)))
    raw[unbroken] = found
    return Effects(raw, raw / np.where(unbroken, values, 1.0)[:, :, None])


def scene_fit(effects: np.ndarray, unbroken: np.ndarray, among: int = 0) -> Fit:
    """Trials over scenes as `comparisons.fit` has them over seeds, from (trials, seeds, scenes): means are 0, spread counts."""
    n = unbroken.sum(axis=1)
    y = (effects * unbroken[:, :, None]).sum(axis=1) / np.maximum(n, 1)[:, None] * effects.shape[2]
    has_runs = n > 0
    own = y[has_runs]
    rest = own - own.mean(axis=0)
    df = (len(own) - 1) * (y.shape[1] - 1)
    sd = np.sqrt((rest**2).sum() / df) if df else np.nan
    there = np.repeat(has_runs[:, None], y.shape[1], axis=1)
    counts = there.sum(axis=1).astype(float)
    means = np.where(has_runs, 0.0, np.nan)
    return Fit(y[None], there[None], means[None], counts[None], np.array([sd]), np.array([float(df)]), among)


def standard_error(effects: np.ndarray) -> float:
    """Of a mean over runs, by scenes, from what each scene does to each run, (runs, scenes)."""
    of_scene = effects.mean(axis=0)
    scenes = len(of_scene)
    return float(np.sqrt((of_scene**2).sum() * scenes / (scenes - 1)))


def widened(
    interval: Interval, effects: np.ndarray, confidence: float = CONFIDENCE
) -> tuple[float | None, float | None]:
    """A t-interval of runs by their seeds, with their scenes as a sample, too, from the effects (runs, scenes); None of one run."""
    half = float(special.stdtrit(effects.shape[1] - 1, (1 + confidence) / 2)) * standard_error(effects)
    both = math.hypot(interval.half_width, half)
    return known(interval.mean - both), known(interval.mean + both)
