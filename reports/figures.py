"""Draw the small records of `reports.series` as plotly figures, which here are plain dictionaries: a page has hundreds of
choices, and plotly's own classes would take seconds to build them (the tests hold the result against those classes).

Colours read on white and on black; the page's script sets text and grid colours to its theme. No trace type needs
WebGL, which the page's security policy would not let run.
"""

import html
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import cycle, pairwise
from typing import Any

import numpy as np

from depth_loss_sweep.reports.measures import Measure, short
from depth_loss_sweep.reports.series import (
    Axis,
    Curve,
    GradientPoint,
    MeasureSeries,
    OutcomeCounts,
    Shares,
)

FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"
POINT, MEAN, TRAIN = "#8c96a8", "#4f6bed", "#e0812f"
BASELINES = ("#a9802a", "#2f9483")
# From low to high; all of middling lightness.
SCALE = ((79, 107, 237), (35, 160, 194), (61, 168, 102), (220, 162, 42), (224, 83, 63))
COLORSCALE = [[i / 4, f"rgb({r},{g},{b})"] for i, (r, g, b) in enumerate(SCALE)]
OUTCOME_COLOURS = {
    "learnt": "#3da47a",
    "trivial": "#c2a23c",
    "flat": "#8f7ae0",
    "spiking": "#e0812f",
    "non_finite": "#d9504e",
    "failed": "#7d8593",
    "unfinished": "#b9bfca",
}
OUTCOME_SYMBOLS = {"learnt": "circle", "trivial": "square", "flat": "diamond", "spiking": "triangle-up"}
TERMS = ("#4f6bed", "#e0812f", "#3da47a", "#b565c9", "#8c96a8", "#c2a23c", "#23a0c2", "#d9504e")
_BAR = {"thickness": 1.5, "width": 4}
MAX_SEED_CURVES = 90


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

    def to_json(self) -> str:
        """For the page's script; safe inside a script element."""
        content = {"data": self.data, "layout": self.layout, "choices": self.choices}
        text = json.dumps(content, separators=(",", ":"), allow_nan=False)
        return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


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


def clean(text: object) -> str:
    """A name as plain text for plotly, which would read a little HTML in it."""
    return html.escape(str(text), quote=False)


def rounded(values: Sequence[float]) -> list[float | None]:
    """Five significant digits, which is more than a screen shows, and None for what is not finite."""
    return [float(f"{v:.5g}") if math.isfinite(v) else None for v in values]


def term_colours(terms: Iterable[str]) -> dict[str, str]:
    """A colour for each of a study's terms, by their order."""
    return dict(zip(terms, cycle(TERMS), strict=False))


def colour_at(place: float) -> str:
    """The colour scale's colour at a place from 0 to 1."""
    stops = np.linspace(0, 1, len(SCALE))
    r, g, b = (round(float(np.interp(place, stops, channel))) for channel in zip(*SCALE, strict=True))
    return f"rgb({r},{g},{b})"


def _chart(height: int, x_title: str, y_title: str, **layout: Any) -> Chart:
    axis = {"zeroline": False, "automargin": True, "ticks": "outside", "ticklen": 4, "showline": True}
    base = {
        "height": height,
        "margin": {"l": 56, "r": 14, "t": 20, "b": 48},
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "font": {"family": FONT, "size": 12},
        "hovermode": "closest",
        "showlegend": False,
        "xaxis": {**axis, "title": {"text": clean(x_title), "standoff": 10}, "showgrid": False, "nticks": 8},
        "yaxis": {**axis, "title": {"text": clean(y_title), "standoff": 8}, "showgrid": True, "nticks": 6},
    }
    return Chart([], base | layout)


def _add_legend(chart: Chart) -> None:
    chart.layout["showlegend"] = True
    chart.layout["legend"] = {"orientation": "h", "y": 1.04, "yanchor": "bottom", "x": 0, "traceorder": "normal"}


def _place(chart: Chart, axis: Axis) -> None:
    """Write names on the horizontal axis where places are no numbers."""
    if axis.names:
        ticks = {"tickvals": list(range(len(axis.names))), "ticktext": [clean(name) for name in axis.names]}
        chart.layout["xaxis"] |= {**ticks, "range": [-0.6, len(axis.names) - 0.4]}


def _scatter(chart: Chart, **trace: Any) -> None:
    chart.data.append({"type": "scatter", **trace})


def _bar(chart: Chart, **trace: Any) -> None:
    chart.data.append({"type": "bar", **trace})


def _span(axis: Axis) -> list[float]:
    """The two ends of a line across the whole axis."""
    if axis.names:
        return [-0.6, len(axis.names) - 0.4]
    places = list(axis.positions.values())
    pad = 0.04 * (max(places) - min(places)) or 0.5
    return [min(places) - pad, max(places) + pad]


def _add_baselines(chart: Chart, baselines: Mapping[str, float], span: list[float], side: str = "left") -> None:
    """Dashed lines, named at one end: the upper one above itself, others below, so that close ones stay readable."""
    labels = []
    highest = max((v for v in baselines.values() if math.isfinite(v)), default=math.nan)
    for (label, value), colour in zip(baselines.items(), cycle(BASELINES), strict=False):
        _scatter(
            chart,
            x=span,
            y=rounded([value, value]),
            mode="lines",
            line={"color": colour, "width": 1.6, "dash": "dash"},
            hovertemplate=f"{clean(label)}: %{{y}}<extra></extra>",
            meta="baseline",
            showlegend=False,
        )
        if math.isfinite(value):
            place = {
                "xref": "paper",
                "x": 0.01 if side == "left" else 0.99,
                "xanchor": side,
                "y": value,
                "yshift": 8 if value == highest else -8,
            }
            text = {"text": f"{clean(label)} {short(value)}", "font": {"size": 10.5, "color": colour}}
            labels.append({"name": "baseline", "showarrow": False, **place, **text})
    chart.layout["annotations"] = labels


def _add_diverged(chart: Chart, x: Sequence[float]) -> None:
    """A mark on the figure's upper edge for each trial that has no finite mean."""
    _scatter(
        chart,
        x=x,
        y=[1.0] * len(x),
        yaxis="y2",
        mode="markers",
        marker={"symbol": "x", "size": 9, "color": OUTCOME_COLOURS["non_finite"]},
        cliponaxis=False,
        hovertemplate="a seed went non-finite, so the trial counts as infinite<extra></extra>",
        showlegend=False,
    )
    hidden = {"overlaying": "y", "range": [0, 1], "visible": False, "fixedrange": True}
    chart.layout["yaxis2"] = hidden


# Measures against weights


def measure_chart(
    series: MeasureSeries,
    height: int = 250,
    marked: int | None = None,
    verdict: str = "",
    colours: Mapping[int, float] | None = None,
) -> Chart:
    """Seeds as points, means with 95 % t-intervals, trivial predictors as lines.

    The trial `marked` is ringed and called by its `verdict`, and `colours` gives means a value to be coloured by.
    """
    chart = _chart(height, series.axis.title, series.measure.axis)
    _add_seeds(chart, series)
    _add_means(chart, series, colours)
    _add_baselines(chart, series.baselines, _span(series.axis))
    _add_diverged(chart, series.diverged_x)
    if marked in series.trials:
        _add_ring(chart, series, series.trials.index(marked), verdict)
    _place(chart, series.axis)
    return chart


def _add_seeds(chart: Chart, series: MeasureSeries) -> None:
    _scatter(
        chart,
        x=series.seed_x,
        y=rounded(series.seed_y),
        mode="markers",
        marker={"color": POINT, "size": 6, "opacity": 0.65},
        text=[clean(name) for name in series.seed_names],
        hovertemplate="%{text}: %{y}<extra></extra>",
    )


def _add_means(chart: Chart, series: MeasureSeries, colours: Mapping[int, float] | None) -> None:
    marker: dict[str, Any] = {"color": MEAN, "size": 8, "symbol": "diamond"}
    if colours:
        shade = [colours.get(t, math.nan) for t in series.trials]
        marker |= {"color": rounded(shade), "colorscale": COLORSCALE, "showscale": False}
    order = sorted(range(len(series.mean_x)), key=series.mean_x.__getitem__)
    marker["color"] = [marker["color"][i] for i in order] if colours else MEAN
    _scatter(
        chart,
        x=[series.mean_x[i] for i in order],
        y=rounded([series.mean_y[i] for i in order]),
        error_y={"array": rounded([series.half_widths[i] for i in order]), **_BAR, "color": POINT if colours else MEAN},
        mode="markers" if colours or series.axis.names else "lines+markers",
        line={"color": MEAN, "width": 1.5},
        marker=marker,
        customdata=[[series.counts[i], series.trials[i]] for i in order],
        hovertemplate="trial %{customdata[1]}: mean %{y}, n = %{customdata[0]}<extra></extra>",
    )


def _add_ring(chart: Chart, series: MeasureSeries, index: int, verdict: str) -> None:
    _scatter(
        chart,
        x=[series.mean_x[index]],
        y=rounded([series.mean_y[index]]),
        mode="markers",
        marker={"symbol": "circle-open", "size": 20, "color": OUTCOME_COLOURS["learnt"], "line": {"width": 2.5}},
        hovertemplate=f"{verdict}<extra></extra>",
    )


def combined_chart(train: MeasureSeries, val: MeasureSeries, height: int = 320) -> Chart:
    """The paper's Fig. 1 and 2: final combined loss on train and val. What it shows is not comparable along the axis."""
    chart = _chart(height, val.axis.title, val.measure.axis)
    for series, colour, symbol in ((train, TRAIN, "circle"), (val, MEAN, "diamond")):
        _scatter(
            chart,
            x=series.mean_x,
            y=rounded(series.mean_y),
            error_y={"array": rounded(series.half_widths), **_BAR},
            mode="markers" if series.axis.names else "lines+markers",
            name=series.split,
            line={"color": colour, "width": 1.8},
            marker={"color": colour, "size": 8, "symbol": symbol},
            hovertemplate=f"{series.split}: %{{y}}<extra></extra>",
        )
    _add_diverged(chart, val.diverged_x)
    _add_legend(chart)
    _place(chart, val.axis)
    return chart


def shares_chart(shares: Shares, y_title: str, names: Mapping[str, str], height: int = 320) -> Chart:
    """Stacked bars, one colour a term; `names` are those of all terms of the study."""
    colours = term_colours(names)
    chart = _chart(height, shares.axis.title, y_title, barmode="stack")
    for term, values in shares.parts.items():
        _bar(
            chart,
            x=shares.x,
            y=rounded(values),
            name=names[term],
            marker={"color": colours[term], "line": {"width": 0}},
            width=_bar_width(shares.x),
            hovertemplate=f"{clean(names[term])}: %{{y}}<extra></extra>",
        )
    _add_legend(chart)
    _place(chart, shares.axis)
    return chart


def _bar_width(x: Sequence[float]) -> float:
    numbers = sorted(set(x))
    gaps = [b - a for a, b in pairwise(numbers)]
    return 0.72 * min(gaps) if gaps else 0.3


# Several variables


def parallel_chart(
    axes: Sequence[Axis], measure: Measure, means: Mapping[int, float], marked: int | None, height: int = 380
) -> Chart:
    """Parallel coordinates: one line a trial through its weights to its value, coloured by the value, best on top."""
    numbers = [n for n in means if math.isfinite(means[n])]
    numbers.sort(key=lambda n: means[n], reverse=not measure.higher_is_better)
    columns = [(a.title, a.positions) for a in axes if not a.names] + [(measure.axis, means)]
    chart = _chart(height, "", "position between each axis's ends")
    lanes = [_lane(values, numbers) for _, values in columns]
    for number in numbers:
        heights = [lane[number] for lane in lanes]
        shade = heights[-1] if not measure.higher_is_better else 1 - heights[-1]
        _scatter(
            chart,
            x=list(range(len(columns))),
            y=rounded(heights),
            mode="lines+markers",
            marker={"size": 4},
            line={"color": colour_at(shade), "width": 3.5 if number == marked else 1.4},
            opacity=1.0 if number == marked else 0.7,
            text=[short(float(values[number])) for _, values in columns],
            hovertemplate=f"trial {number}: %{{text}}<extra></extra>",
        )
    _label_lanes(chart, columns, numbers)
    return chart


def _lane(values: Mapping[int, Any], numbers: Sequence[int]) -> dict[int, float]:
    known = [float(values[n]) for n in numbers]
    low, high = min(known), max(known)
    return {n: (float(values[n]) - low) / ((high - low) or 1) for n in numbers}


def _label_lanes(chart: Chart, columns: Sequence[tuple[str, Mapping]], numbers: Sequence[int]) -> None:
    chart.layout.update(shapes=[], annotations=[])
    for place, (_, values) in enumerate(columns):
        known = [float(values[n]) for n in numbers]
        line = {"type": "line", "x0": place, "x1": place, "y0": 0, "y1": 1, "line": {"color": POINT, "width": 1}}
        chart.layout["shapes"].append(line)
        for y, value, anchor in ((1.03, max(known), "bottom"), (-0.03, min(known), "top")):
            label = {"x": place, "y": y, "text": short(value), "showarrow": False, "yanchor": anchor}
            chart.layout["annotations"].append(label)
    names = [clean(title).replace("weight of ", "").replace(" (", "<br>(") for title, _ in columns]
    ticks = {"tickvals": list(range(len(columns))), "ticktext": names, "showline": False, "ticks": ""}
    chart.layout["xaxis"] |= {**ticks, "range": [-0.3, len(columns) - 0.7]}
    chart.layout["yaxis"] |= {"visible": False, "range": [-0.14, 1.14]}


# Over epochs


def curves_chart(
    curves: Sequence[Curve], measure: Measure, baselines: Mapping[str, float], axis: Axis, y_range: Any
) -> Chart:
    """One measure over epochs: a line a trial, coloured by its weight, its seeds faint behind it."""
    height = 340
    chart = _chart(height, "epoch", measure.axis)
    colours = _curve_colours(curves)
    epochs = curves[0].epochs
    faint = sum(len(c.seeds) for c in curves) <= MAX_SEED_CURVES
    for curve, colour in zip(curves, colours, strict=True):
        if faint:
            _add_seed_curves(chart, curve, colour)
    for curve, colour in zip(curves, colours, strict=True):
        _scatter(
            chart,
            x=curve.epochs,
            y=rounded(curve.mean),
            mode="lines" if len(epochs) > 1 else "markers",
            name=clean(curve.label),
            line={"color": colour, "width": 2.2},
            marker={"color": colour},
            hovertemplate="epoch %{x}: %{y}<extra>" + clean(curve.label) + "</extra>",
        )
    _add_baselines(chart, baselines, [epochs[0], epochs[-1]], side="right")
    _add_colour_key(chart, curves, axis)
    chart.layout["yaxis"]["range"] = y_range
    chart.layout["xaxis"] |= {"tick0": 0, "dtick": max(1, math.ceil(len(epochs) / 8))}
    return chart


def _curve_colours(curves: Sequence[Curve]) -> list[str]:
    places = [c.position for c in curves]
    low, high = min(places), max(places)
    return [colour_at((place - low) / ((high - low) or 1)) for place in places]


def _add_seed_curves(chart: Chart, curve: Curve, colour: str) -> None:
    x, y = [], []
    for seed in curve.seeds:  # one trace for all seeds: a gap after each
        x += [*curve.epochs, None]
        y += [*rounded(seed), None]
    line = {"color": colour, "width": 1}
    _scatter(chart, x=x, y=y, mode="lines", line=line, opacity=0.32, hoverinfo="skip", showlegend=False)


def _add_colour_key(chart: Chart, curves: Sequence[Curve], axis: Axis) -> None:
    """A colour bar where weights are numbers; a legend of names otherwise."""
    if axis.names:
        _add_legend(chart)
        return
    numbers = [c.position for c in curves]
    bar = {"title": {"text": clean(axis.title), "side": "right"}, "thickness": 10, "outlinewidth": 0, "len": 0.95}
    marker = {"color": [min(numbers)], "cmin": min(numbers), "cmax": max(numbers), "colorscale": COLORSCALE}
    if min(numbers) < max(numbers):
        marker |= {"showscale": True, "colorbar": bar}
    _scatter(chart, x=[None], y=[None], mode="markers", marker=marker, hoverinfo="skip", showlegend=False)


def curve_range(groups: Sequence[Sequence[Curve]], baselines: Sequence[float]) -> list[float] | None:
    """One vertical range for several figures of curves, so that train and val can be compared by eye."""
    values = [v for curves in groups for c in curves for seed in c.seeds for v in seed if math.isfinite(v)]
    values += [b for b in baselines if math.isfinite(b)]
    if not values:
        return None
    pad = 0.06 * (max(values) - min(values)) or 0.1
    return [float(f"{min(values) - pad:.5g}"), float(f"{max(values) + pad:.5g}")]


# How runs ended


def outcomes_chart(counts: OutcomeCounts, height: int = 300) -> Chart:
    """Runs by outcome, stacked."""
    chart = _chart(height, counts.axis.title, "runs (count)", barmode="stack")
    for name, runs in counts.counts.items():
        if any(runs):
            _bar(
                chart,
                x=counts.x,
                y=runs,
                name=name.replace("_", "-"),
                marker={"color": OUTCOME_COLOURS.get(name, POINT), "line": {"width": 0}},
                width=_bar_width(counts.x),
                hovertemplate=f"%{{y}} {name.replace('_', '-')}<extra></extra>",
            )
    _add_legend(chart)
    most = max((sum(at_place) for at_place in zip(*counts.counts.values(), strict=True)), default=1)
    chart.layout["yaxis"]["dtick"] = max(1, round(most / 5))
    _place(chart, counts.axis)
    return chart


def gradient_chart(points: Sequence[GradientPoint], axis: Axis, height: int = 300) -> Chart:
    """The largest gradient norm of every run on a log axis; runs without a finite one stand at the upper edge."""
    chart = _chart(height, axis.title, "gradient norm (no unit)")
    finite = [p for p in points if math.isfinite(p.norm) and p.norm > 0]
    for outcome in dict.fromkeys(p.outcome for p in finite):
        shown = [p for p in finite if p.outcome == outcome]
        colour = OUTCOME_COLOURS.get(outcome, OUTCOME_COLOURS["unfinished"])
        _scatter(
            chart,
            x=[p.x for p in shown],
            y=rounded([p.norm for p in shown]),
            mode="markers",
            name=clean(outcome).replace("_", "-"),
            marker={"color": colour, "size": 9, "symbol": OUTCOME_SYMBOLS.get(outcome, "x"), "opacity": 0.85},
            text=[clean(p.name) for p in shown],
            hovertemplate="%{text}: %{y}<extra></extra>",
        )
    _add_diverged(chart, [p.x for p in points if not math.isfinite(p.norm)])
    exponents = [math.log10(p.norm) for p in finite] or [0.0]
    # Whole powers of ten: a log axis within one of them would have no tick.
    decades = [math.floor(min(exponents)), math.ceil(max(exponents) + 1e-9)]
    chart.layout["yaxis"] |= {"type": "log", "exponentformat": "power", "dtick": 1, "range": decades}
    _place(chart, axis)
    return chart
