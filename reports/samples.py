"""Sample predictions as small images in the page: photo, true depth, and what the best and the worst trial made of it."""

import base64
import math
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from depth_loss_sweep.reports.analysis import Analysis
from depth_loss_sweep.reports.measures import NO_BREAK
from depth_loss_sweep.reports.records import Panels
from depth_loss_sweep.reports.trials import SeedValue, TrialResult

LARGEST_SIDE = 112  # pixels; larger panels are shrunk, so that a page stays small
LARGEST_LOSSLESS = 96  # pixels; larger maps are stored as WebP, a fifth of the size
MISSING = (128, 128, 128)  # grey: no truth, or no finite prediction
# Too near is blue, too far red: ColorBrewer's RdBu (Brewer 2003), RGB.
_BLUE, _WHITE, _RED = (33, 102, 172), (247, 247, 247), (178, 24, 43)


@dataclass(frozen=True)
class Prediction:
    """One prediction on one image: data URIs, and its RMSE over valid pixels in metres (NaN if it has no finite one)."""

    depth: str
    error: str
    rmse: float


@dataclass(frozen=True)
class SampleRow:
    """One image and its predictions, in the order of `Samples.shown`."""

    key: str
    photo: str
    truth: str
    predictions: tuple[Prediction, ...]


@dataclass(frozen=True)
class ShownRun:
    """The run whose predictions fill a pair of columns."""

    role: str
    trial: int
    label: str
    seed: int


@dataclass(frozen=True)
class Samples:
    """All rows, with the two colour bars they share: depth from `near` to `far` and error within `error`, metres."""

    shown: tuple[ShownRun, ...]
    rows: tuple[SampleRow, ...]
    near: float
    far: float
    error: float
    depth_bar: str
    error_bar: str


def panel_runs(analysis: Analysis) -> tuple[str, ...]:
    """The runs whose panels a report shows: of the best finished trial a typical seed, of the worst one that broke, if any did.

    None if no trial has finished all of its seeds.
    """
    return tuple(seed.run for _, _, seed in _chosen(analysis, None))


def sample_panels(analysis: Analysis, scale: tuple[float, float, float] | None = None) -> Samples | None:
    """The panels of the best and the worst trial that have any; None where there is nothing to show.

    Colours are those of `scale` (`limits`), where the page shows the same pictures by it elsewhere.
    """
    stored = analysis.record.panels
    chosen = _chosen(analysis, set(stored))
    if not chosen:
        return None
    panels = [stored[seed.run] for _, _, seed in chosen]
    first = panels[0]
    keys = [k for k in first.keys if all(k in p.keys for p in panels)]
    near, far, error = scale or limits(panels)
    return Samples(
        shown=tuple(ShownRun(role, t.number, t.label, s.seed) for role, t, s in chosen),
        rows=tuple(_row(key, panels, (near, far), error) for key in keys),
        near=near,
        far=far,
        error=error,
        depth_bar=depth_bar(near, far),
        error_bar=error_bar(error),
    )


def _chosen(analysis: Analysis, available: set[str] | None) -> list[tuple[str, TrialResult, SeedValue]]:
    order = [t for t in analysis.ranked if with_values(t, available)]
    shown = [("best", order[0], _middle)] if order else []
    if len(order) > 1:
        shown.append(("worst", order[-1], _broken_or_middle))
    cost = analysis.ranking.cost
    return [
        (role, trial, pick(sorted(with_values(trial, available), key=lambda s: cost(s.value))))
        for role, trial, pick in shown
    ]


def with_values(trial: TrialResult, available: set[str] | None) -> list[SeedValue]:
    """A trial's seeds that have a final value, infinite ones too; of them those whose runs are available, where that is asked."""
    return [s for s in trial.seeds if not math.isnan(s.value) and (available is None or s.run in available)]


def _middle(seeds: Sequence[SeedValue]) -> SeedValue:
    """Of seeds from best to worst, the middle one of those that did not break: neither a lucky nor a collapsed one."""
    unbroken = [s for s in seeds if not s.broke] or seeds
    return unbroken[(len(unbroken) - 1) // 2]


def _broken_or_middle(seeds: Sequence[SeedValue]) -> SeedValue:
    """The worst of those that broke; where none did, the middle one."""
    return next((s for s in reversed(seeds) if s.broke), _middle(seeds))


def limits(panels: Sequence[Panels]) -> tuple[float, float, float]:
    """Shared colour limits: the 2nd and 98th percentile of true depth, the 98th of the absolute error, in metres."""
    truth = np.concatenate([p.truth[p.mask] for p in panels]).astype(float)
    errors = np.concatenate([np.abs(p.prediction[p.mask] - p.truth[p.mask]) for p in panels]).astype(float)
    errors = errors[np.isfinite(errors)]
    near, far = np.percentile(truth, (2, 98)) if truth.size else (0.0, 1.0)
    error = float(np.percentile(errors, 98)) if errors.size else 1.0
    return float(near), float(max(far, near + 1e-3)), max(error, 1e-3)


def _row(key: str, panels: Sequence[Panels], depths: tuple[float, float], error: float) -> SampleRow:
    first, at = panels[0], panels[0].keys.index(key)
    truth = np.where(first.mask[at], first.truth[at], np.nan)
    return SampleRow(
        key=key,
        photo=photo(first.image[at]),
        truth=_map(_depth_colours(truth, *depths)),
        predictions=tuple(_prediction(p, p.keys.index(key), depths, error) for p in panels),
    )


def _prediction(panels: Panels, at: int, depths: tuple[float, float], error: float) -> Prediction:
    predicted, mask = panels.prediction[at].astype(float), panels.mask[at]
    difference = np.where(mask, predicted - panels.truth[at], np.nan)
    found = rmse(predicted, panels.truth[at], mask)
    return Prediction(_map(_depth_colours(predicted, *depths)), _map(_error_colours(difference, error)), found)


def rmse(predicted: np.ndarray, truth: np.ndarray, mask: np.ndarray) -> float:
    """Of one picture over its valid pixels, metres; NaN where there are none, or not all are finite."""
    known = (predicted - truth)[mask]
    return float(np.sqrt(np.mean(known**2))) if known.size and np.isfinite(known).all() else math.nan


# Colours and encoding


def metres(value: float) -> str:
    """A depth or an error of pictures, as the page's script writes it, too."""
    return f"{value:.2f}{NO_BREAK}m" if math.isfinite(value) else "–"


def depth_bar(near: float, far: float) -> str:
    """The colours of depth from `near` to `far`, in a row."""
    return _map(_depth_colours(np.linspace(near, far, 256)[None], near, far))


def error_bar(error: float) -> str:
    """The colours of errors from too near to too far, in a row."""
    return _map(_error_colours(np.linspace(-error, error, 256)[None], error))


def _depth_colours(depth: np.ndarray, near: float, far: float) -> np.ndarray:
    """Depth in metres, (H, W), NaN for missing, as uint8 BGR: dark is far."""
    known = np.isfinite(depth)
    place = np.clip((far - np.where(known, depth, far)) / (far - near), 0, 1)
    colours = cv2.applyColorMap((place * 255).astype(np.uint8), cv2.COLORMAP_VIRIDIS)
    return np.where(known[..., None], colours, np.array(MISSING, dtype=np.uint8))


def _error_colours(error: np.ndarray, limit: float) -> np.ndarray:
    """Signed error in metres, (H, W), NaN for missing, as uint8 BGR: blue too near, white right, red too far."""
    known = np.isfinite(error)
    place = np.clip(np.where(known, error, 0.0) / limit, -1, 1)
    stops = np.array([_BLUE, _WHITE, _RED], dtype=float)[:, ::-1]
    colours = np.stack([np.interp(place, (-1, 0, 1), stops[:, c]) for c in range(3)], axis=-1)
    return np.where(known[..., None], colours, MISSING).astype(np.uint8)


def _shrunk(image: np.ndarray, interpolation: int) -> np.ndarray:
    scale = LARGEST_SIDE / max(image.shape[:2])
    if scale >= 1 or image.shape[0] == 1:  # a colour bar is a single row
        return image
    return cv2.resize(image, None, fx=scale, fy=scale, interpolation=interpolation)


def _map(bgr: np.ndarray) -> str:
    """A colour-mapped image as a data URI; nearest pixels, so that colours keep their meaning when it is shrunk."""
    image = _shrunk(bgr, cv2.INTER_NEAREST)
    if max(image.shape[0], image.shape[1] * (image.shape[0] > 1)) > LARGEST_LOSSLESS:
        return _uri(image, ".webp", [cv2.IMWRITE_WEBP_QUALITY, 86], "image/webp")
    return _uri(image, ".png", [cv2.IMWRITE_PNG_COMPRESSION, 9], "image/png")


def photo(rgb: np.ndarray) -> str:
    """A photo as a data URI, shrunk where it is large."""
    bgr = np.ascontiguousarray(rgb[..., ::-1])
    return _uri(_shrunk(bgr, cv2.INTER_AREA), ".jpg", [cv2.IMWRITE_JPEG_QUALITY, 90], "image/jpeg")


def _uri(image: np.ndarray, extension: str, options: list[int], kind: str) -> str:
    _, encoded = cv2.imencode(extension, image, options)
    return f"data:{kind};base64,{base64.b64encode(encoded.tobytes()).decode()}"
