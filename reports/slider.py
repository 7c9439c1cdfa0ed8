"""A picture's prediction along the sweep: what the runs of each weight made of it, one after the other.

Depth goes into the page as 8-bit PNGs on one scale; the page's script colours them, and subtracts the truth.
"""

import base64
import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from markupsafe import Markup

from depth_loss_sweep.reports import samples
from depth_loss_sweep.reports.analysis import Analysis
from depth_loss_sweep.reports.charts import OUTCOME_COLOURS, POINT
from depth_loss_sweep.reports.measures import short
from depth_loss_sweep.reports.records import Panels
from depth_loss_sweep.reports.trials import SeedValue, TrialResult

MOST_WEIGHTS = 12
PIXELS = 300_000  # of all maps together, half a byte each: a page stays small enough to be sent by mail
SIDE = 64  # pixels; by maps of this side it is told whether every seed has room
LEAST_PICTURES = 2  # where fewer have room under every seed, all are shown under the middle one alone
LEVELS = 254  # of depth; level 0 is missing
MIDDLE = "middle"


@dataclass(frozen=True)
class Stop:
    """A trial at which the slider stops: what stands below it, and its run by view (the middle seed, or each)."""

    trial: int
    tick: str
    label: str
    runs: dict[str, SeedValue]


@dataclass(frozen=True)
class Slider:
    """All that the page's script needs; depth goes from `low` to `high` metres, colours from `near` to `far` and within `error`."""

    title: str
    lead: str
    stops: tuple[Stop, ...]
    first: int
    views: dict[str, str]
    pictures: tuple[str, ...]
    near: float
    far: float
    error: float
    depth_bar: str
    error_bar: str
    content: dict[str, Any]

    @property
    def scale(self) -> tuple[float, float, float]:
        """The limits of its colours, in metres."""
        return self.near, self.far, self.error

    @property
    def json(self) -> Markup:
        """The pictures for the page's script, safe inside a script element."""
        text = json.dumps(self.content, separators=(",", ":"), allow_nan=False)
        return Markup(text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026"))


def panel_runs(analysis: Analysis) -> tuple[str, ...]:
    """The runs whose panels a report shows, here and as samples: load these into the record's `panels`."""
    shown = (seed.run for stop in _stops(analysis, None) for seed in stop.runs.values())
    return tuple(dict.fromkeys((*samples.panel_runs(analysis), *shown)))


def slider(analysis: Analysis) -> Slider | None:
    """The slider of a study; None where fewer than two trials have predictions of one picture, or they are of several sizes."""
    stored = analysis.record.panels
    stops = _stops(analysis, {*stored})
    used = {seed.run: stored[seed.run] for stop in stops for seed in stop.runs.values()}
    panels = [*used.values()]
    keys = [key for key in panels[0].keys if all(key in p.keys for p in panels)] if len(stops) > 1 else []
    # A prediction is held against the one truth of its picture, pixel by pixel.
    sizes = {p.truth.shape[1:] for p in panels}
    if not keys or len(sizes) > 1:
        return None
    keys = keys[: max(1, min(len(keys), _room(len(used))))] if len(stops[0].runs) > 1 else keys
    low, high = _span(panels, analysis.record.data.get("depth_range"))
    near, far, error = samples.limits(panels)
    side = math.isqrt(PIXELS // (len(used) * len(keys)))
    named = analysis.decision.trial
    along = f"along {analysis.record.variables[0]}" if analysis.line else "by rank, the best first"
    return Slider(
        title=f"Predictions {along}",
        lead=_lead(analysis, len(stops), (high - low) / LEVELS),
        stops=stops,
        first=next((i for i, stop in enumerate(stops) if stop.trial == named), 0),
        views={MIDDLE: "each trial's middle one"} | {v: f"seed {v}" for v in _views(stops) if v != MIDDLE},
        pictures=tuple(keys),
        near=near,
        far=far,
        error=error,
        depth_bar=samples.depth_bar(near, far),
        error_bar=samples.error_bar(error),
        content={
            "low": low,
            "high": high,
            "near": near,
            "far": far,
            "error": error,
            "pictures": [_picture(panels[0], key, (low, high), side) for key in keys],
            "stops": [{"trial": s.trial, "label": s.label, "runs": {v: _told(r, analysis) for v, r in s.runs.items()}} for s in stops],
            "runs": {run: [_map(own, key, (low, high), side) for key in keys] for run, own in used.items()},
        },
    )  # fmt: skip


def _lead(analysis: Analysis, shown: int, step: float) -> str:
    count = sum(bool(samples.with_values(t, None)) for t in analysis.trials)
    some = f" Shown are {shown} of {count} trials, evenly spread." if shown < count else ""
    return (
        f"The same validation pictures in every trial; of each first its middle seed by {analysis.ranking.label}, broken ones counted. "
        f"Depth in steps of {step:.2g} m. Grey: no truth, or no finite prediction.{some}"
    )


# Which trials and runs


def _stops(analysis: Analysis, available: set[str] | None) -> tuple[Stop, ...]:
    """The trials in the slider's order, of each the runs of which there are predictions, by view."""
    trials = [t for t in analysis.ranked if samples.with_values(t, available)]
    ranks = {t.number: i for i, t in enumerate(trials, 1)}
    line = analysis.line
    if line:
        trials.sort(key=lambda t: line[t.number])
    trials = _spread(trials, analysis.decision.trial)
    seeds = sorted({s.seed for t in trials for s in samples.with_values(t, available)})
    every = len(seeds) > 1 and _room(len(trials) * len(seeds)) >= LEAST_PICTURES
    found = []
    for trial in trials:
        own = samples.with_values(trial, available)
        runs = {MIDDLE: _middle(own, analysis)} | ({str(s.seed): s for s in own} if every else {})
        tick = short(line[trial.number]) if line else f"#{ranks[trial.number]}"
        found.append(Stop(trial.number, tick, trial.label, runs))
    return tuple(found)


def _room(maps: int) -> int:
    """How many pictures there is room for with so many maps of each."""
    return PIXELS // (max(1, maps) * SIDE * SIDE)


def _spread(trials: Sequence[TrialResult], named: int | None) -> list[TrialResult]:
    """At most so many of them, from the first to the last, the named one among them."""
    if len(trials) <= MOST_WEIGHTS:
        return list(trials)
    places = {round(i * (len(trials) - 1) / (MOST_WEIGHTS - 1)) for i in range(MOST_WEIGHTS)}
    own = next((i for i, t in enumerate(trials) if t.number == named), None)
    if own is not None and own not in places:
        places = places - {min(places - {0, len(trials) - 1}, key=lambda place: abs(place - own))} | {own}
    return [trials[place] for place in sorted(places)]


def _middle(seeds: Sequence[SeedValue], analysis: Analysis) -> SeedValue:
    order = sorted(seeds, key=lambda s: analysis.ranking.cost(s.value))
    return order[(len(order) - 1) // 2]


def _views(stops: Iterable[Stop]) -> list[str]:
    return sorted({view for stop in stops for view in stop.runs}, key=lambda view: (view != MIDDLE, len(view), view))


def _told(seed: SeedValue, analysis: Analysis) -> dict[str, Any]:
    ending = analysis.endings[seed.run]
    return {
        "run": seed.run,
        "seed": seed.seed,
        "outcome": ending.replace("_", "-"),
        "colour": OUTCOME_COLOURS.get(ending, POINT),
    }


# Pictures


def _span(panels: Sequence[Panels], depth_range: Sequence[float] | None) -> tuple[float, float]:
    """From which depth to which the maps tell apart: all of the truth, and a quarter as much beyond it, as far as depth goes."""
    truth = np.concatenate([p.truth[p.mask] for p in panels]).astype(float)
    least, most = (float(truth.min()), float(truth.max())) if truth.size else (0.0, 1.0)
    beyond = 0.25 * (most - least) or 0.25
    floor, ceiling = depth_range or (0.0, math.inf)
    return max(floor, least - beyond), min(max(ceiling, most), most + beyond)


def _picture(panels: Panels, key: str, span: tuple[float, float], side: int) -> dict[str, str]:
    at = panels.keys.index(key)
    truth = np.where(panels.mask[at], panels.truth[at], np.nan)
    return {"photo": samples.photo(panels.image[at]), "truth": _png(truth, span, side)}


def _map(panels: Panels, key: str, span: tuple[float, float], side: int) -> list[str | float | None]:
    at = panels.keys.index(key)
    predicted = panels.prediction[at].astype(float)
    rmse = samples.rmse(predicted, panels.truth[at], panels.mask[at])
    return [_png(predicted, span, side), float(f"{rmse:.4g}") if math.isfinite(rmse) else None]


def _png(depth: np.ndarray, span: tuple[float, float], side: int) -> str:
    """Depth in metres as an 8-bit PNG, no larger than so many pixels: 0 is missing, 1 the nearest, 255 the farthest, base64."""
    low, high = span
    known = np.isfinite(depth)
    place = np.clip((np.where(known, depth, low) - low) / (high - low), 0, 1)
    levels = np.where(known, 1 + np.rint(LEVELS * place), 0).astype(np.uint8)
    scale = min(1.0, side / max(levels.shape))
    drawn = cv2.resize(levels, None, fx=scale, fy=scale, interpolation=cv2.INTER_NEAREST)
    _, encoded = cv2.imencode(".png", drawn, [cv2.IMWRITE_PNG_COMPRESSION, 9])
    return base64.b64encode(encoded.tobytes()).decode()
