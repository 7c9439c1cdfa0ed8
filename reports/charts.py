"""What charts are made of: plotly figures, which here are plain dictionaries. A page has hundreds of choices, and plotly's
own classes would take seconds to build them (the tests hold the result against those classes).

A point's trial is its customdata, and a trace of a single one has {"trial": number} as its meta: the page's script goes by these.
Colours read on white and on black; the page's script sets text and grid colours to its theme. No trace type needs
WebGL, which the page's security policy would not let run.
"""

import html
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import cycle, pairwise
from typing import Any

import numpy as np

from depth_loss_sweep.reports.axes import Axis
from depth_loss_sweep.reports.measures import WRITTEN_UNITS, short

FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"
POINT, MEAN, TRAIN = "#8c96a8", "#4f6bed", "#e0812f"
BASELINES = ("#a9802a", "#2f9483")
# From low to high; all of middling lightness.
SCALE = ((79, 107, 237), (35, 160, 194), (61, 168, 102), (220, 162, 42), (224, 83, 63))
COLORSCALE = [[i / 4, f"rgb({r},{g},{b})"] for i, (r, g, b) in enumerate(SCALE)]
# Okabe and Ito 2008, told apart by colour-blind people, too; beside each stands a symbol of its own.
OUTCOME_COLOURS = {
    "learnt": "#009e73",
    "median_only": "#56b4e9",
    "trivial": "#e69f00",
    "flat": "#cc79a7",
    "spiking": "#0072b2",
    "non_finite": "#d55e00",
    "failed": "#7d8593",
    "unfinished": "#b9bfca",
}
OUTCOME_SYMBOLS = {
    "learnt": "circle",
    "median_only": "circle-open",
    "trivial": "square",
    "flat": "diamond",
    "spiking": "triangle-up",
    "non_finite": "x",
    "failed": "cross",
    "unfinished": "circle-dot",
}
CROSS = {"symbol": "x", "size": 9, "color": OUTCOME_COLOURS["non_finite"]}
DIVERGED = "a seed went non-finite, so the trial counts as infinite<extra></extra>"
TERMS = ("#4f6bed", "#e0812f", "#3da47a", "#b565c9", "#8c96a8", "#c2a23c", "#23a0c2", "#d9504e")
TICK_GAP = 0.095  # of the axis
LONG_TITLE = 40  # letters; a longer one of an axis of names is broken before its bracket
ERROR_BAR = {"thickness": 1.5, "width": 4}
LETTER, LINE = 7, 18  # pixels of a digit's width and of a line's height, at a figure's size of letters
BESIDE_TICKS = 19  # pixels beside what they are called: ticks, and gaps on both sides
MOST_LETTERS = 7
STRIP = 36  # pixels above a figure that has marks on its upper edge


@dataclass(frozen=True)
class Chart:
    """A figure (plotly's data and layout), and what changes in it for each other choice of a menu.

    `choices` is name -> {"data": [changed keys, trace by trace], "layout": changed keys}.
    """

    data: list[dict[str, Any]]
    layout: dict[str, Any]
    choices: Mapping[str, dict[str, Any]] = field(default_factory=dict)

    @property
    def height(self) -> int:
        """Pixels."""
        return int(self.layout["height"])

    def chosen(self, choice: str) -> "Chart":
        """What is drawn under one choice of the menu, as a chart without a menu."""
        changed = self.choices[choice]
        data = [trace | changes for trace, changes in zip(self.data, changed["data"], strict=True)]
        return Chart(data, self.layout | changed["layout"])


def with_choices(charts: Mapping[str, Chart]) -> Chart:
    """One chart out of several with the same traces: the first is drawn, the others kept as differences from it."""
    first = next(iter(charts.values()))
    changes = {name: _difference(first, chart) for name, chart in charts.items()}
    return Chart(first.data, first.layout, changes if len(charts) > 1 else {})


def _difference(base: Chart, other: Chart) -> dict[str, Any]:
    traces = [
        {key: value for key, value in trace.items() if before.get(key) != value}
        for before, trace in zip(base.data, other.data, strict=True)
    ]
    return {"data": traces, "layout": {k: v for k, v in other.layout.items() if base.layout.get(k) != v}}


# Shared parts


@lru_cache(maxsize=1 << 14)  # every figure calls its points alike
def clean(text: object) -> str:
    """A name as plain text for plotly, which would read a little HTML in it."""
    return html.escape(str(text), quote=False)


def rounded(values: Sequence[float]) -> list[float | None]:
    """Five significant digits, which is more than a screen shows, and None for what is not finite."""
    array = np.asarray(values, dtype=float)
    with np.errstate(divide="ignore", invalid="ignore"):
        powers = np.nan_to_num(4 - np.floor(np.log10(np.abs(array))), posinf=0.0, neginf=0.0)
    # A quotient of two whole numbers is the float nearest to that decimal, so it is written as short as it is.
    up, down = 10.0 ** np.clip(powers, 0, 300), 10.0 ** np.clip(-powers, 0, 300)
    shown = np.round(array * up / down) / up * down
    return [v if math.isfinite(v) else None for v in shown.tolist()]


def term_colours(terms: Iterable[str]) -> dict[str, str]:
    """A colour for each of a study's terms, by their order."""
    return dict(zip(terms, cycle(TERMS), strict=False))


def colour_at(place: float) -> str:
    """The colour scale's colour at a place from 0 to 1."""
    stops = np.linspace(0, 1, len(SCALE))
    r, g, b = (round(float(np.interp(place, stops, channel))) for channel in zip(*SCALE, strict=True))
    return f"rgb({r},{g},{b})"


def new_chart(height: int, x_title: str, y_title: str, **layout: Any) -> Chart:
    """An empty chart of so many pixels with its axes; `layout` is what else plotly's layout is to have."""
    axis = {"zeroline": False, "automargin": True, "ticks": "outside", "ticklen": 4, "showline": True}
    base = {
        "height": height,
        "margin": {"l": 56, "r": 14, "t": 20, "b": 40},
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "font": {"family": FONT, "size": 12},
        "hovermode": "closest",
        "showlegend": False,
        "xaxis": {**axis, "title": {"text": clean(x_title), "standoff": 10}, "showgrid": False, "nticks": 8},
        "yaxis": {**axis, "title": {"text": clean(y_title), "standoff": 8}, "showgrid": True, "nticks": 6},
    }
    return Chart([], base | layout)


def roomy(chart: Chart) -> dict[str, Any]:
    """The layout with room for what stands beside the axes, as plotly would measure it: that takes as long as the figure itself."""
    if "yaxis" not in chart.layout:
        return chart.layout
    x, y, margin = (chart.layout[key] for key in ("xaxis", "yaxis", "margin"))
    beside = BESIDE_TICKS + LETTER * max(map(len, _tick_texts(chart, y)), default=0) + _height(y)
    below = BESIDE_TICKS + LINE + _height(x)
    return {**chart.layout, "margin": margin | {"l": max(margin["l"], math.ceil(beside)), "b": max(margin["b"], below)}}


def _height(axis: Mapping[str, Any]) -> int:
    """Of an axis's title, in pixels."""
    title = axis["title"]["text"]
    return LINE * (1 + title.count("<br>")) if title else 0


def _tick_texts(chart: Chart, axis: Mapping[str, Any]) -> list[str]:
    """What stands, or may stand, beside an axis."""
    if "ticktext" in axis:
        return [html.unescape(text) for text in axis["ticktext"]]
    if axis.get("type") == "log":
        return ["0.001"]
    values = {v for v in axis.get("range") or _heights(chart) if v is not None}
    if any(isinstance(v, str) for v in values):
        return [*map(str, values)]
    low, high = min(values, default=0.0), max(values, default=1.0)
    digits = max(0, -math.floor(math.log10((high - low) / axis.get("nticks", 6) or 1.0)))
    return [f"{value:.{min(digits, 4)}f}".replace("-", "−")[-MOST_LETTERS:] for value in (low, high)]


def _heights(chart: Chart) -> Iterator[float | None]:
    for trace in chart.data:
        if trace.get("yaxis") != "y2":
            yield from trace.get("y") or ()


def add_legend(chart: Chart) -> None:
    """A legend above the chart, in the order of the traces."""
    chart.layout["showlegend"] = True
    chart.layout["legend"] = {"orientation": "h", "y": 1.04, "yanchor": "bottom", "x": 0, "traceorder": "normal"}


def place_ticks(chart: Chart, axis: Axis, key: str = "xaxis") -> None:
    """Ticks on an axis where trials stand, as many as have room; names, which have to be told apart, all of them."""
    if axis.names:
        title = chart.layout[key]["title"]
        if len(title["text"]) > LONG_TITLE:
            title["text"] = title["text"].replace(" (", "<br>(", 1)
        chart.layout[key]["range"] = [-0.6, len(axis.names) - 0.4]
    if axis.least is not None:
        chart.layout[key]["title"]["text"] += ", log scale"
    shown = axis.ticks if axis.names else spaced(axis.ticks)
    if shown:
        chart.layout[key] |= {"tickvals": list(shown), "ticktext": [clean(text) for text in shown.values()]}


def spaced(ticks: Mapping[float, str]) -> dict[float, str]:
    """Ticks that stand far enough apart to be read, the first and the last among them."""
    kept = dict(list(ticks.items())[:1])
    if len(ticks) > 1:
        first, last = min(ticks), max(ticks)
        gap = TICK_GAP * (last - first)
        for place, text in ticks.items():
            if place - max(kept) >= gap and (last - place >= gap or place == last):
                kept[place] = text
        kept[last] = ticks[last]
    return kept


def seed_lines(
    x: Sequence[float], y: Sequence[float], names: Sequence[str], seeds: Sequence[int], trials: Sequence[int]
) -> dict[str, list]:
    """Points as one trace that joins those of a seed from left to right, with a gap after each seed."""
    found: dict[str, list] = {"x": [], "y": [], "text": [], "customdata": []}
    for seed in dict.fromkeys(seeds):
        own = sorted((i for i, other in enumerate(seeds) if other == seed), key=lambda i: x[i])
        found["x"] += [*(x[i] for i in own), None]
        found["y"] += [*rounded([y[i] for i in own]), None]
        found["text"] += [*(clean(names[i]) for i in own), None]
        found["customdata"] += [*(trials[i] for i in own), None]
    return found


def hover(before: str, unit: str, half_widths: Sequence[float] = (), after: str = "") -> str | list[str]:
    """What is said of a figure's points: their heights in four digits with the unit, and half of their intervals in two.

    By plotly's templates, so that a page has each number once; a list of them where some points have no interval.
    """
    value = f"{before}%{{y:.4r}}" + (f" {clean(unit)}" if unit in WRITTEN_UNITS else "")
    told = {
        True: f"{value} ± %{{error_y.array:.2r}} (95 %){after}<extra></extra>",
        False: f"{value}{after}<extra></extra>",
    }
    kinds = [math.isfinite(half) for half in half_widths]
    return told[any(kinds)] if len({*kinds}) < 2 else [told[kind] for kind in kinds]


def add_scatter(chart: Chart, **trace: Any) -> None:
    """One more trace of points or lines."""
    chart.data.append({"type": "scatter", **trace})


def add_bar(chart: Chart, **trace: Any) -> None:
    """One more trace of bars."""
    chart.data.append({"type": "bar", **trace})


def ends(axis: Axis) -> list[float]:
    """The two ends of a line across the whole axis."""
    if axis.names:
        return [-0.6, len(axis.names) - 0.4]
    places = list(axis.positions.values())
    pad = 0.04 * (max(places) - min(places)) or 0.5
    return [min(places) - pad, max(places) + pad]


def reach(values: Iterable[float]) -> tuple[float, float]:
    """How far from a figure's own values a line may lie and still be drawn: so far that they keep a third of the axis."""
    known = [v for v in values if math.isfinite(v)]
    low, high = min(known, default=0.0), max(known, default=0.0)
    return (low - (high - low), high + (high - low)) if low < high else (-math.inf, math.inf)


def add_baselines(
    chart: Chart, baselines: Mapping[str, float], span: list[float], within: Sequence[float], side: str = "left"
) -> None:
    """Dashed lines, named at one end: the upper one above itself, others below, so that close ones stay readable.

    What lies outside of `within` would squeeze everything else: it is an arrow at the figure's edge, with its number.
    """
    low, high = within
    labels: list[dict[str, Any]] = []
    drawn = {label: value for label, value in baselines.items() if low <= value <= high}
    is_free = not any(value > high for value in baselines.values())  # above the highest line stands no arrow's label
    highest = max(drawn, key=lambda label: drawn[label], default="") if is_free else ""
    beyond = {"↑": 0, "↓": 0}
    for (label, value), colour in zip(baselines.items(), cycle(BASELINES), strict=False):
        is_drawn = label in drawn
        add_scatter(
            chart,
            x=span,
            y=rounded([value if is_drawn else math.nan] * 2),
            mode="lines",
            line={"color": colour, "width": 1.6, "dash": "dash"},
            hovertemplate=f"{clean(label)}: %{{y:.4r}}<extra></extra>",
            meta="baseline",
            showlegend=False,
        )
        text = f"{clean(label)} {short(value)}"
        place: dict[str, Any] = {"y": value, "yshift": 8 if label == highest else -8}
        if not is_drawn:
            arrow, sign = ("↑", -1) if value > high else ("↓", 1)
            text = f"{arrow} {text}"
            shift = (
                8 if drawn and arrow == "↑" else sign * (8 + 14 * beyond[arrow])
            )  # above the edge, clear of lines at it
            place = {"yref": "paper", "y": 1 if arrow == "↑" else 0, "yshift": shift}
            beyond[arrow] += 1
        end = side if is_drawn or not drawn else {"left": "right", "right": "left"}[side]  # clear of the lines' names
        if math.isfinite(value):
            place |= {"xref": "paper", "x": 0.01 if end == "left" else 0.99, "xanchor": end}
            label_ = {"text": text, "font": {"size": 10.5, "color": colour}}
            labels.append({"name": "baseline", "showarrow": False, **place, **label_})
    chart.layout["annotations"] = labels


def add_diverged(chart: Chart, places: Mapping[int, float]) -> None:
    """A mark on the figure's upper edge for each trial that has no finite mean, at its place."""
    add_scatter(
        chart,
        x=[*places.values()],
        y=[1.0] * len(places),
        customdata=[*places],
        yaxis="y2",
        mode="markers",
        marker={**CROSS},
        cliponaxis=False,
        hovertemplate=DIVERGED,
        showlegend=False,
    )
    if places:  # above them is room for the toolbar, and at the other end for what lies off the figure
        chart.layout["margin"] = {**chart.layout["margin"], "t": STRIP}
        off = [
            label for label in chart.layout.get("annotations", ()) if label.get("yref") == "paper" and label["y"] == 1
        ]
        for i, label in enumerate(off):
            label |= {"x": 0.01, "xanchor": "left", "yanchor": "bottom", "yshift": 5 + 14 * i}
    hidden = {"overlaying": "y", "range": [0, 1], "visible": False, "fixedrange": True}
    chart.layout["yaxis2"] = hidden


def epoch_ticks(last: int) -> dict[str, int]:
    """Of an axis of epochs up to `last`: whole ones, and few."""
    return {"tick0": 0, "dtick": max(1, math.ceil(last / 8))}


def bar_width(x: Sequence[float]) -> float:
    """How wide bars at these places are: no thinner than can be seen, though neighbours may then touch."""
    numbers = sorted(set(x))
    gaps = [b - a for a, b in pairwise(numbers)]
    return max(0.72 * min(gaps), (numbers[-1] - numbers[0]) / 80) if gaps else 0.3
