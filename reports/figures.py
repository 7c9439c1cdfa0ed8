"""Draw the small records of `reports.series` with plotly. Colours read on white and on black; the page's script sets
text and grid colours to its theme. No trace type needs WebGL, which the page's security policy would not let run.
"""

import html
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import plotly.graph_objects as go
from plotly.colors import sample_colorscale

from reports.measures import Measure, short, term_label
from reports.series import BAR_OUTCOMES, Axis, Curve, GradientPoint, MeasureSeries, OutcomeCounts, Shares

FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"
POINT, MEAN, TRAIN = "#8c96a8", "#4f6bed", "#e0812f"
BASELINES = ("#9a7b2f", "#3c9a8b")
SCALE = [[0.0, "#4f6bed"], [0.25, "#23a0c2"], [0.5, "#3da866"], [0.75, "#dca22a"], [1.0, "#e0533f"]]
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
TERM_COLOURS = {"silog": "#4f6bed", "ssim": "#e0812f", "edge": "#3da47a", "l1": "#b565c9", "smoothness": "#8c96a8"}
MAX_SEED_CURVES = 90


@dataclass(frozen=True)
class Chart:
    """A figure, and what changes in it for each other choice of a menu (measure name -> changed traces and layout)."""

    figure: go.Figure
    height: int
    choices: Mapping[str, dict[str, Any]] = field(default_factory=dict)

    def to_json(self) -> str:
        """For the page's script; safe inside a script element."""
        figure = json.loads(self.figure.to_json())
        text = json.dumps({**figure, "choices": self.choices}, separators=(",", ":"), allow_nan=False)
        return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def with_choices(charts: Mapping[str, Chart]) -> Chart:
    """One chart out of several alike, the first of them drawn; the others are kept as differences from it."""
    first = next(iter(charts.values()))
    base = json.loads(first.figure.to_json())
    changes = {name: _difference(base, json.loads(chart.figure.to_json())) for name, chart in charts.items()}
    return Chart(first.figure, first.height, changes if len(charts) > 1 else {})


def _difference(base: dict, other: dict) -> dict[str, Any]:
    traces = [
        {key: value for key, value in trace.items() if before.get(key) != value}
        for before, trace in zip(base["data"], other["data"], strict=True)
    ]
    layout = {key: value for key, value in other["layout"].items() if base["layout"].get(key) != value}
    return {"data": traces, "layout": layout}


# Shared parts


def clean(text: object) -> str:
    """A name as plain text for plotly, which would read a little HTML in it."""
    return html.escape(str(text), quote=False)


def rounded(values: Sequence[float]) -> list[float | None]:
    """Five significant digits, which is more than a screen shows, and None for what is not finite."""
    return [float(f"{v:.5g}") if math.isfinite(v) else None for v in values]


def _figure(height: int, x_title: str, y_title: str, **layout: Any) -> go.Figure:
    figure = go.Figure()
    axis = {"zeroline": False, "automargin": True, "ticks": "outside", "ticklen": 4, "showline": True}
    figure.update_layout(
        template="none",
        height=height,
        margin={"l": 56, "r": 14, "t": 14, "b": 48},
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        font={"family": FONT, "size": 12},
        hovermode="closest",
        showlegend=False,
        xaxis={**axis, "title": {"text": clean(x_title), "standoff": 10}, "showgrid": False},
        yaxis={**axis, "title": {"text": clean(y_title), "standoff": 8}, "showgrid": True, "nticks": 6},
    )
    figure.update_layout(**layout)
    return figure


def _place(figure: go.Figure, axis: Axis) -> None:
    """Give the horizontal axis its type; names keep the order of the trials."""
    if not axis.numeric:
        names = list(dict.fromkeys(clean(v) for v in axis.positions.values()))
        figure.update_xaxes(type="category", categoryorder="array", categoryarray=names)


def _at(values: Sequence[float | str]) -> list[float | str]:
    return [clean(v) if isinstance(v, str) else v for v in values]


def _span(axis: Axis) -> list[float | str]:
    """The two ends of a line across the whole axis."""
    values = list(axis.positions.values())
    if not axis.numeric:
        return [clean(values[0]), clean(values[-1])]
    numbers = [float(v) for v in values]
    pad = 0.04 * (max(numbers) - min(numbers)) or 0.5
    return [min(numbers) - pad, max(numbers) + pad]


def _add_baselines(figure: go.Figure, baselines: Mapping[str, float], span: list[float | str]) -> None:
    """Dashed lines named on the figure; the labels take turns at the ends so that close lines stay readable."""
    order = sorted(baselines.items(), key=lambda item: item[1])
    for index, (label, value) in enumerate(order):
        name = f"{label} {short(value)}"
        above = index == len(order) - 1
        figure.add_scatter(
            x=span,
            y=rounded([value, value]),
            mode="lines+text" if len(span) == 2 else "lines",
            text=["", name] if index % 2 else [name, ""],
            textposition=f"{'top' if above else 'bottom'} {'left' if index % 2 else 'right'}",
            textfont={"size": 10.5},
            line={"color": BASELINES[list(baselines).index(label) % 2], "width": 1.6, "dash": "dash"},
            hovertemplate=f"{clean(label)}: %{{y}}<extra></extra>",
            meta="baseline",
            cliponaxis=False,
        )


def _add_diverged(figure: go.Figure, x: Sequence[float | str]) -> None:
    """A mark on the figure's upper edge for each trial that has no finite mean."""
    figure.add_scatter(
        x=_at(x),
        y=[0.97] * len(x),
        yaxis="y2",
        mode="markers",
        marker={"symbol": "x", "size": 9, "color": OUTCOME_COLOURS["non_finite"]},
        hovertemplate="%{x}: a seed went non-finite, so the trial counts as infinite<extra></extra>",
    )
    hidden = {"overlaying": "y", "range": [0, 1], "visible": False, "fixedrange": True}
    figure.update_layout(yaxis2=hidden)


# Measures against weights


def measure_chart(
    series: MeasureSeries,
    height: int = 250,
    band: tuple[float, float] | None = None,
    marked: int | None = None,
    colours: Mapping[int, float] | None = None,
) -> Chart:
    """Seeds as points, means with 95 % t-intervals, trivial predictors as lines.

    `band` is shaded (one standard error from the best), the trial `marked` is ringed (the recommended one), and
    `colours` gives means a value to be coloured by.
    """
    figure = _figure(height, series.axis.title, series.measure.axis)
    _add_seeds(figure, series)
    _add_means(figure, series, colours)
    _add_baselines(figure, series.baselines, _span(series.axis))
    _add_diverged(figure, series.diverged_x)
    if band:
        figure.add_hrect(y0=band[0], y1=band[1], fillcolor=MEAN, opacity=0.13, line_width=0, layer="below")
    if marked in series.trials:
        _add_ring(figure, series, series.trials.index(marked))
    _place(figure, series.axis)
    return Chart(figure, height)


def _add_seeds(figure: go.Figure, series: MeasureSeries) -> None:
    figure.add_scatter(
        x=_at(series.seed_x),
        y=rounded(series.seed_y),
        mode="markers",
        marker={"color": POINT, "size": 6, "opacity": 0.65},
        text=[clean(name) for name in series.seed_names],
        hovertemplate="%{text}: %{y}<extra></extra>",
    )


def _add_means(figure: go.Figure, series: MeasureSeries, colours: Mapping[int, float] | None) -> None:
    marker: dict[str, Any] = {"color": MEAN, "size": 8, "symbol": "diamond"}
    if colours:
        shade = [colours.get(t, math.nan) for t in series.trials]
        marker |= {"color": rounded(shade), "colorscale": SCALE, "showscale": False}
    order = sorted(range(len(series.mean_x)), key=lambda i: (isinstance(series.mean_x[i], str), series.mean_x[i]))
    order = order if series.axis.numeric else list(range(len(series.mean_x)))
    marker["color"] = [marker["color"][i] for i in order] if colours else MEAN
    figure.add_scatter(
        x=_at([series.mean_x[i] for i in order]),
        y=rounded([series.mean_y[i] for i in order]),
        error_y={"array": rounded([series.half_widths[i] for i in order]), "thickness": 1.5, "width": 4, "color": MEAN},
        mode="markers" if colours or not series.axis.numeric else "lines+markers",
        line={"color": MEAN, "width": 1.5},
        marker=marker,
        customdata=[[series.counts[i], series.trials[i]] for i in order],
        hovertemplate="trial %{customdata[1]}: mean %{y}, n = %{customdata[0]}<extra></extra>",
    )


def _add_ring(figure: go.Figure, series: MeasureSeries, index: int) -> None:
    figure.add_scatter(
        x=_at([series.mean_x[index]]),
        y=rounded([series.mean_y[index]]),
        mode="markers",
        marker={"symbol": "circle-open", "size": 20, "color": OUTCOME_COLOURS["learnt"], "line": {"width": 2.5}},
        hovertemplate="recommended<extra></extra>",
    )


def combined_chart(train: MeasureSeries, val: MeasureSeries, height: int = 320) -> Chart:
    """The paper's Fig. 1 and 2: final combined loss on train and val. What it shows is not comparable along the axis."""
    figure = _figure(height, val.axis.title, val.measure.axis)
    for series, colour, symbol in ((train, TRAIN, "circle"), (val, MEAN, "diamond")):
        figure.add_scatter(
            x=_at(series.mean_x),
            y=rounded(series.mean_y),
            error_y={"array": rounded(series.half_widths), "thickness": 1.5, "width": 4},
            mode="lines+markers" if series.axis.numeric else "markers",
            name=series.split,
            line={"color": colour, "width": 1.8},
            marker={"color": colour, "size": 8, "symbol": symbol},
            hovertemplate=f"{series.split} %{{x}}: %{{y}}<extra></extra>",
        )
    _add_diverged(figure, val.diverged_x)
    figure.update_traces(showlegend=False, selector={"yaxis": "y2"})
    figure.update_layout(showlegend=True, legend={"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0})
    _place(figure, val.axis)
    return Chart(figure, height)


def shares_chart(shares: Shares, y_title: str, height: int = 320) -> Chart:
    """Stacked bars, one colour a term."""
    figure = _figure(height, shares.axis.title, y_title, barmode="stack")
    for term, values in shares.parts.items():
        figure.add_bar(
            x=_at(shares.x),
            y=rounded(values),
            name=term_label(term),
            marker={"color": TERM_COLOURS.get(term, POINT), "line": {"width": 0}},
            width=_bar_width(shares.x),
            hovertemplate=f"{clean(term_label(term))} at %{{x}}: %{{y}}<extra></extra>",
        )
    figure.update_layout(showlegend=True, legend={"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0})
    _place(figure, shares.axis)
    return Chart(figure, height)


def _bar_width(x: Sequence[float | str]) -> float:
    numbers = sorted({float(v) for v in x if not isinstance(v, str)})
    gaps = [b - a for a, b in pairwise(numbers)]
    return 0.72 * min(gaps) if gaps else 0.3


# Several variables


def parallel_chart(
    axes: Sequence[Axis], what: Measure, means: Mapping[int, float], marked: int | None, height: int = 380
) -> Chart:
    """Parallel coordinates: one line a trial through its weights to its value, coloured by the value, best on top."""
    numbers = [n for n in means if math.isfinite(means[n])]
    numbers.sort(key=lambda n: means[n], reverse=not what.higher_is_better)
    columns = [(a.title, a.positions) for a in axes if a.numeric] + [(what.axis, means)]
    figure = _figure(height, "", "position between each axis's ends")
    lanes = [_lane(values, numbers) for _, values in columns]
    for number in numbers:
        heights = [lane[number] for lane in lanes]
        shade = heights[-1] if not what.higher_is_better else 1 - heights[-1]
        figure.add_scatter(
            x=list(range(len(columns))),
            y=rounded(heights),
            mode="lines+markers",
            marker={"size": 4},
            line={"color": sample_colorscale(SCALE, [shade])[0], "width": 3.5 if number == marked else 1.4},
            opacity=1.0 if number == marked else 0.7,
            text=[short(float(values[number])) for _, values in columns],
            hovertemplate=f"trial {number}: %{{text}}<extra></extra>",
        )
    _label_lanes(figure, columns, numbers)
    return Chart(figure, height)


def _lane(values: Mapping[int, Any], numbers: Sequence[int]) -> dict[int, float]:
    known = [float(values[n]) for n in numbers]
    low, high = min(known), max(known)
    return {n: (float(values[n]) - low) / ((high - low) or 1) for n in numbers}


def _label_lanes(figure: go.Figure, columns: Sequence[tuple[str, Mapping]], numbers: Sequence[int]) -> None:
    for place, (_, values) in enumerate(columns):
        known = [float(values[n]) for n in numbers]
        figure.add_vline(x=place, line={"color": POINT, "width": 1})
        for y, value, anchor in ((1.03, max(known), "bottom"), (-0.03, min(known), "top")):
            figure.add_annotation(x=place, y=y, text=short(value), showarrow=False, yanchor=anchor)
    names = [clean(title).replace("weight of ", "").replace(" (", "<br>(") for title, _ in columns]
    figure.update_xaxes(tickvals=list(range(len(columns))), ticktext=names, showline=False, ticks="")
    figure.update_yaxes(visible=False, range=[-0.14, 1.14])


# Over epochs


def curves_chart(
    curves: Sequence[Curve], what: Measure, baselines: Mapping[str, float], axis: Axis, y_range: Any
) -> Chart:
    """One measure over epochs: a line a trial, coloured by its weight, its seeds faint behind it."""
    height = 340
    figure = _figure(height, "epoch", what.axis)
    colours = _curve_colours(curves, axis)
    epochs = curves[0].epochs
    faint = sum(len(c.seeds) for c in curves) <= MAX_SEED_CURVES
    for curve, colour in zip(curves, colours, strict=True):
        if faint:
            _add_seed_curves(figure, curve, colour)
    for curve, colour in zip(curves, colours, strict=True):
        figure.add_scatter(
            x=curve.epochs,
            y=rounded(curve.mean),
            mode="lines" if len(epochs) > 1 else "markers",
            name=clean(curve.label),
            line={"color": colour, "width": 2.2},
            marker={"color": colour},
            hovertemplate="epoch %{x}: %{y}<extra>" + clean(curve.label) + "</extra>",
        )
    _add_baselines(figure, baselines, [epochs[0], epochs[-1]])
    _add_colour_key(figure, curves, axis)
    figure.update_yaxes(range=y_range)
    figure.update_xaxes(nticks=8, tickformat="d")
    return Chart(figure, height)


def _curve_colours(curves: Sequence[Curve], axis: Axis) -> list[str]:
    if axis.numeric:
        numbers = [float(c.position) for c in curves]
        low, high = min(numbers), max(numbers)
        places = [(n - low) / ((high - low) or 1) for n in numbers]
    else:
        places = [i / max(len(curves) - 1, 1) for i in range(len(curves))]
    return sample_colorscale(SCALE, places)


def _add_seed_curves(figure: go.Figure, curve: Curve, colour: str) -> None:
    x, y = [], []
    for seed in curve.seeds:  # one trace for all seeds: a gap after each
        x += [*curve.epochs, None]
        y += [*rounded(seed), None]
    line = {"color": colour, "width": 1}
    figure.add_scatter(x=x, y=y, mode="lines", line=line, opacity=0.32, hoverinfo="skip", showlegend=False)


def _add_colour_key(figure: go.Figure, curves: Sequence[Curve], axis: Axis) -> None:
    """A colour bar where weights are numbers; a legend of names otherwise."""
    if not axis.numeric:
        figure.update_layout(showlegend=len(curves) > 1, legend={"orientation": "h", "y": 1.02, "yanchor": "bottom"})
        figure.update_traces(showlegend=False, selector={"meta": "baseline"})
        return
    numbers = [float(c.position) for c in curves]
    bar = {"title": {"text": clean(axis.title), "side": "right"}, "thickness": 10, "outlinewidth": 0, "len": 0.95}
    marker = {"color": [min(numbers)], "cmin": min(numbers), "cmax": max(numbers), "colorscale": SCALE}
    if min(numbers) < max(numbers):
        marker |= {"showscale": True, "colorbar": bar}
    figure.add_scatter(x=[None], y=[None], mode="markers", marker=marker, hoverinfo="skip", showlegend=False)


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
    figure = _figure(height, counts.axis.title, "runs (count)", barmode="stack")
    for name in BAR_OUTCOMES:
        if any(counts.counts[name]):
            figure.add_bar(
                x=_at(counts.x),
                y=counts.counts[name],
                name=name.replace("_", "-"),
                marker={"color": OUTCOME_COLOURS[name], "line": {"width": 0}},
                width=_bar_width(counts.x),
                hovertemplate=f"%{{x}}: %{{y}} {name.replace('_', '-')}<extra></extra>",
            )
    figure.update_layout(showlegend=True, legend={"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0})
    figure.update_yaxes(
        dtick=max(1, round(max((sum(c) for c in zip(*counts.counts.values(), strict=True)), default=1) / 5))
    )
    _place(figure, counts.axis)
    return Chart(figure, height)


def gradient_chart(points: Sequence[GradientPoint], axis: Axis, height: int = 300) -> Chart:
    """The largest gradient norm of every run on a log axis; runs without a finite one stand at the upper edge."""
    figure = _figure(height, axis.title, "largest gradient norm (log scale, no unit)")
    finite = [p for p in points if math.isfinite(p.norm) and p.norm > 0]
    for outcome in dict.fromkeys(p.outcome for p in finite):
        shown = [p for p in finite if p.outcome == outcome]
        colour = OUTCOME_COLOURS.get(outcome, OUTCOME_COLOURS["unfinished"])
        figure.add_scatter(
            x=_at([p.x for p in shown]),
            y=rounded([p.norm for p in shown]),
            mode="markers",
            name=clean(outcome).replace("_", "-"),
            marker={"color": colour, "size": 9, "symbol": OUTCOME_SYMBOLS.get(outcome, "x"), "opacity": 0.85},
            text=[clean(p.name) for p in shown],
            hovertemplate="%{text}: %{y}<extra></extra>",
        )
    _add_diverged(figure, [p.x for p in points if not math.isfinite(p.norm)])
    figure.update_yaxes(type="log", exponentformat="power", dtick=1)
    figure.update_layout(yaxis2={"type": "linear"})
    _place(figure, axis)
    return Chart(figure, height)
