"""Draw the small records of `reports.series`: measures against weights, several variables at once, curves over epochs."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from depth_loss_sweep.reports.axes import Axis
from depth_loss_sweep.reports.charts import (
    COLORSCALE,
    ERROR_BAR,
    MEAN,
    OUTCOME_COLOURS,
    POINT,
    TRAIN,
    Chart,
    add_bar,
    add_baselines,
    add_diverged,
    add_legend,
    add_scatter,
    bar_width,
    clean,
    colour_at,
    ends,
    epoch_ticks,
    hover,
    new_chart,
    place_ticks,
    reach,
    rounded,
    seed_lines,
    spaced,
    term_colours,
)
from depth_loss_sweep.reports.front import Front, FrontTrial
from depth_loss_sweep.reports.importance import Share
from depth_loss_sweep.reports.measures import Measure, short
from depth_loss_sweep.reports.series import Agreement, Curve, MeasureSeries, Shares
from depth_loss_sweep.words import counted

MAX_SEED_CURVES = 90
MAX_JOINED = 60  # trials through which each seed is a line
SHADES = 24  # of parallel coordinates; the lines of one are a single trace

# Measures against weights


def measure_chart(
    series: MeasureSeries,
    height: int = 250,
    marked: int | None = None,
    verdict: str = "",
    is_recommended: bool = False,
    colours: Mapping[int, float] | None = None,
) -> Chart:
    """Seeds as points, means with 95 % t-intervals, trivial predictors as lines.

    The trial `marked` is ringed and called by its `verdict`, in green where it `is_recommended`. `colours` gives
    means a value to be coloured by.
    """
    chart = new_chart(height, series.axis.title, series.measure.axis)
    is_joined = not colours and not series.axis.names and len(series.trials) <= MAX_JOINED
    _add_seeds(chart, series, is_joined)
    _add_means(chart, series, colours)
    add_baselines(chart, series.baselines, ends(series.axis), reach(_heights(series)))
    add_diverged(chart, series.diverged)
    if marked in series.trials:
        _add_ring(
            chart, series, series.trials.index(marked), verdict, OUTCOME_COLOURS["learnt"] if is_recommended else POINT
        )
    place_ticks(chart, series.axis)
    return chart


def _heights(series: MeasureSeries) -> list[float]:
    """All that is drawn of a series: its seeds, and the ends of its means' intervals."""
    ends_ = [m + s * h for m, h in zip(series.mean_y, series.half_widths, strict=True) for s in (-1, 1)]
    return [*series.seed_y, *ends_]


def _add_seeds(chart: Chart, series: MeasureSeries, is_joined: bool) -> None:
    points: dict[str, Any] = {"x": series.seed_x, "y": rounded(series.seed_y), "mode": "markers"}
    points |= {"text": [clean(name) for name in series.seed_names], "customdata": series.seed_trials}
    if is_joined:
        lines = seed_lines(series.seed_x, series.seed_y, series.seed_names, series.seeds, series.seed_trials)
        points |= {**lines, "mode": "lines+markers", "line": {"color": POINT, "width": 0.7}}
    add_scatter(
        chart,
        **points,
        marker={"color": POINT, "size": 5, "opacity": 0.65},
        hovertemplate=hover("%{text}: ", series.measure.unit),
    )


def _add_means(chart: Chart, series: MeasureSeries, colours: Mapping[int, float] | None) -> None:
    marker: dict[str, Any] = {"color": MEAN, "size": 8, "symbol": "diamond"}
    if colours:
        shade = [colours.get(t, math.nan) for t in series.trials]
        marker |= {"color": rounded(shade), "colorscale": COLORSCALE, "showscale": False}
    order = [*range(len(series.mean_x))]
    if not colours:  # they are joined from left to right
        order.sort(key=series.mean_x.__getitem__)
    halves = [series.half_widths[i] for i in order]
    marker["color"] = [marker["color"][i] for i in order] if colours else MEAN
    add_scatter(
        chart,
        x=[series.mean_x[i] for i in order],
        y=rounded([series.mean_y[i] for i in order]),
        error_y={
            "array": rounded(halves),
            **ERROR_BAR,
            "color": POINT if colours else MEAN,
        },
        mode="markers" if colours or series.axis.names else "lines+markers",
        line={"color": MEAN, "width": 1.5},
        marker=marker,
        customdata=[series.trials[i] for i in order],
        text=[counted(series.counts[i], "seed") for i in order],
        hovertemplate=hover("trial %{customdata}: mean ", series.measure.unit, halves, ", %{text}"),
    )


def _add_ring(chart: Chart, series: MeasureSeries, index: int, verdict: str, colour: str) -> None:
    add_scatter(
        chart,
        x=[series.mean_x[index]],
        y=rounded([series.mean_y[index]]),
        mode="markers",
        customdata=[series.trials[index]],
        meta="ring",
        marker={"symbol": "circle-open", "size": 20, "color": colour, "line": {"width": 2.5}},
        hovertemplate=f"{verdict}<extra></extra>",
    )


def combined_chart(train: MeasureSeries, val: MeasureSeries, height: int = 320) -> Chart:
    """The paper's Fig. 1 and 2: final combined loss on train and val. What it shows is not comparable along the axis."""
    chart = new_chart(height, val.axis.title, val.measure.axis)
    for series, colour, symbol in ((train, TRAIN, "circle"), (val, MEAN, "diamond")):
        add_scatter(
            chart,
            x=series.mean_x,
            y=rounded(series.mean_y),
            error_y={"array": rounded(series.half_widths), **ERROR_BAR},
            mode="markers" if series.axis.names else "lines+markers",
            name=series.split,
            customdata=series.trials,
            line={"color": colour, "width": 1.8},
            marker={"color": colour, "size": 8, "symbol": symbol},
            hovertemplate=hover(f"{series.split}: ", val.measure.unit, series.half_widths),
        )
    add_diverged(chart, val.diverged)
    add_legend(chart)
    place_ticks(chart, val.axis)
    return chart


def shares_chart(shares: Shares, y_title: str, names: Mapping[str, str], height: int = 320) -> Chart:
    """Stacked bars, one colour a term; `names` are those of all terms of the study."""
    colours = term_colours(names)
    chart = new_chart(height, shares.axis.title, y_title, barmode="stack")
    for term, values in shares.parts.items():
        add_bar(
            chart,
            x=shares.x,
            y=rounded(values),
            name=names[term],
            marker={"color": colours[term], "line": {"width": 0}},
            width=bar_width(shares.x),
            customdata=shares.trials,
            hovertemplate=f"{clean(names[term])}: %{{y:.3r}}<extra></extra>",
        )
    add_legend(chart)
    place_ticks(chart, shares.axis)
    return chart


# Several variables


def parallel_chart(
    axes: Sequence[Axis], measure: Measure, means: Mapping[int, float], marked: int | None, height: int = 380
) -> Chart:
    """Parallel coordinates: one line a trial through its weights to its value, coloured by the value, best on top."""
    numbers = [n for n in means if math.isfinite(means[n])]
    numbers.sort(key=lambda n: means[n], reverse=not measure.higher_is_better)
    columns = [(a.title, a.positions, a.values) for a in axes if not a.names] + [(measure.axis, means, means)]
    chart = new_chart(height, "", "position between each axis's ends")
    lanes = [_lane(places, numbers) for _, places, _ in columns]
    shades: dict[int, list[int]] = {}
    for number in numbers:  # worst first
        shades.setdefault(round(SHADES * lanes[-1][number]), []).append(number)
    worst_first = sorted(shades, reverse=not measure.higher_is_better)
    bundles = [(shade / SHADES, [n for n in shades[shade] if n != marked], 1.4, 0.7) for shade in worst_first]
    bundles += [(lanes[-1][n], [n], 3.5, 1.0) for n in numbers if n == marked]
    for shade, drawn, width, opacity in bundles:
        add_scatter(
            chart,
            x=[*range(len(columns)), None] * len(drawn),
            y=[y for n in drawn for y in (*rounded([lane[n] for lane in lanes]), None)],
            mode="lines",
            line={"color": colour_at(1 - shade if measure.higher_is_better else shade), "width": width},
            opacity=opacity,
            text=[text for n in drawn for text in (*(short(float(values[n])) for _, _, values in columns), None)],
            customdata=[trial for n in drawn for trial in (*[n] * len(columns), None)],
            hovertemplate="trial %{customdata}: %{text}<extra></extra>",
        )
    _label_lanes(chart, columns, numbers)
    return chart


def _lane(values: Mapping[int, Any], numbers: Sequence[int]) -> dict[int, float]:
    known = [float(values[n]) for n in numbers]
    low, high = min(known), max(known)
    return {n: (float(values[n]) - low) / ((high - low) or 1) for n in numbers}


def _label_lanes(chart: Chart, columns: Sequence[tuple[str, Mapping, Mapping]], numbers: Sequence[int]) -> None:
    chart.layout.update(shapes=[], annotations=[])
    for place, (_, _, values) in enumerate(columns):
        known = [float(values[n]) for n in numbers]
        line = {"type": "line", "x0": place, "x1": place, "y0": 0, "y1": 1, "line": {"color": POINT, "width": 1}}
        chart.layout["shapes"].append(line)
        for y, value, anchor in ((1.03, max(known), "bottom"), (-0.03, min(known), "top")):
            label = {"x": place, "y": y, "text": short(value), "showarrow": False, "yanchor": anchor}
            chart.layout["annotations"].append(label)
    names = [clean(title).replace("weight of ", "").replace(" (", "<br>(") for title, _, _ in columns]
    ticks = {"tickvals": list(range(len(columns))), "ticktext": names, "showline": False, "ticks": ""}
    chart.layout["xaxis"] |= {**ticks, "range": [-0.3, len(columns) - 0.7]}
    chart.layout["yaxis"] |= {"visible": False, "range": [-0.14, 1.14]}


# Two objectives


def front_chart(front: Front, measures: Sequence[Measure], labels: Mapping[int, str]) -> Chart:
    """The trials by both objectives with 95 % t-intervals as crosses: the front joined, its knee named, the dominated faint."""
    chart = new_chart(420, *(measure.axis for measure in measures))
    dominated = [t for t in front.trials if t.dominated_by is not None]
    open_ = [t for t in front.candidates if not t.is_on_front]
    _add_front_trials(chart, dominated, labels, "shown to be worse in both", POINT, 0.3)
    _add_front_trials(chart, open_, labels, "may be on the front", POINT, 0.9)
    _add_front_trials(chart, front.members, labels, "on the front", MEAN, 1.0)
    chart.data[-1] |= {"mode": "lines+markers", "line": {"color": MEAN, "width": 1.5}}
    knee = next((t for t in front.members if t.trial == front.knee), None)
    if knee:
        x, y = rounded(knee.means)
        # Towards the better, where no trial stands.
        aside = {"ax": 40 if measures[0].higher_is_better else -40, "ay": -45 if measures[1].higher_is_better else 45}
        text = {"text": f"knee: trial {knee.trial}", "showarrow": True, "arrowhead": 0, "arrowcolor": MEAN}
        chart.layout["annotations"] = [{"x": x, "y": y, **aside, **text}]
    add_legend(chart)
    return chart


def _add_front_trials(
    chart: Chart, trials: Sequence[FrontTrial], labels: Mapping[int, str], name: str, colour: str, opacity: float
) -> None:
    x, y = (rounded([trial.means[i] for trial in trials]) for i in (0, 1))
    wide, high = (
        {"array": rounded([trial.half_widths[i] for trial in trials]), **ERROR_BAR, "color": colour} for i in (0, 1)
    )
    add_scatter(
        chart,
        x=x,
        y=y,
        error_x=wide,
        error_y=high,
        mode="markers",
        name=name,
        marker={"color": colour, "size": 8},
        opacity=opacity,
        text=[f"trial {t.trial} ({clean(labels[t.trial])})" for t in trials],
        customdata=[t.trial for t in trials],
        hovertemplate="%{text}: %{x:.4r}, %{y:.4r}<extra></extra>",
    )


# Over epochs


def curves_chart(
    curves: Sequence[Curve], measure: Measure, baselines: Mapping[str, float], axis: Axis, y_range: Any
) -> Chart:
    """One measure over epochs: a line a trial, coloured by its weight, its seeds faint behind it."""
    height = 340
    chart = new_chart(height, "epoch", measure.axis)
    colours = _curve_colours(curves)
    epochs = curves[0].epochs
    faint = sum(len(c.seeds) for c in curves) <= MAX_SEED_CURVES
    for curve, colour in zip(curves, colours, strict=True):
        if faint:
            _add_seed_curves(chart, curve, colour)
    for curve, colour in zip(curves, colours, strict=True):
        add_scatter(
            chart,
            x=curve.epochs,
            y=rounded(curve.mean),
            mode="lines" if len(epochs) > 1 else "markers",
            name=clean(curve.label),
            meta={"trial": curve.trial},
            line={"color": colour, "width": 2.2},
            marker={"color": colour},
            hovertemplate="epoch %{x}: %{y:.4r}<extra>" + clean(curve.label) + "</extra>",
        )
    add_baselines(chart, baselines, [epochs[0], epochs[-1]], y_range or (-math.inf, math.inf), side="right")
    _add_colour_key(chart, curves, axis)
    chart.layout["yaxis"]["range"] = y_range
    chart.layout["xaxis"] |= epoch_ticks(len(epochs))
    return chart


def weights_chart(curves: Mapping[str, Curve], names: Mapping[str, str]) -> Chart:
    """The effective weights of one trial over epochs: a line a term, the mean over seeds, each seed faint behind it."""
    chart, colours = new_chart(260, "epoch", "effective weight"), term_colours(names)
    for term, curve in curves.items():
        _add_seed_curves(chart, curve, colours[term])
    for term, curve in curves.items():
        add_scatter(
            chart,
            x=curve.epochs,
            y=rounded(curve.mean),
            mode="lines+markers",
            name=clean(names[term]),
            line={"color": colours[term], "width": 2.2},
            marker={"color": colours[term], "size": 5},
            hovertemplate=f"{clean(names[term])}, epoch %{{x}}: %{{y:.4r}}<extra></extra>",
        )
    add_legend(chart)
    chart.layout["xaxis"] |= epoch_ticks(
        max((curve.epochs[-1] for curve in curves.values() if curve.epochs), default=1)
    )
    return chart


def importance_chart(shares: Sequence[Share], names: Mapping[str, str]) -> Chart:
    """Shares of variance with 95 % intervals, side by side; grey are those that aren't shown to be any."""
    chart, places = new_chart(300, "varied", "share of the variance (fraction)"), [*range(len(shares))]
    add_scatter(
        chart,
        x=places,
        y=rounded([s.share for s in shares]),
        error_y={
            "type": "data",
            "symmetric": False,
            "array": rounded([s.high - s.share for s in shares]),
            "arrayminus": rounded([s.share - s.low for s in shares]),
            **ERROR_BAR,
            "color": POINT,
        },
        mode="markers",
        marker={"color": [MEAN if s.is_shown else POINT for s in shares], "size": 10, "symbol": "diamond"},
        text=[clean(names[s.name]) for s in shares],
        hovertemplate="%{text}: %{y:.2f}<extra></extra>",
    )
    place_ticks(chart, Axis("varied", {place: float(place) for place in places}, tuple(names.values())))
    chart.layout["yaxis"]["range"] = [-0.03, 1.03]
    return chart


def agreement_chart(places: Sequence[float], found: Agreement, title: str, measure: Measure) -> Chart:
    """A point a trial: how far its terms' gradients agree, and its final value."""
    chart = new_chart(300, title, measure.axis)
    add_scatter(
        chart,
        x=rounded(places),
        y=rounded(found.values),
        mode="markers",
        marker={"color": MEAN, "size": 8},
        text=[clean(label) for label in found.labels],
        customdata=found.trials,
        hovertemplate="%{text}: %{y:.4r}<extra></extra>",
        showlegend=False,
    )
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
    add_scatter(chart, x=x, y=y, mode="lines", line=line, opacity=0.32, hoverinfo="skip", showlegend=False)


def _add_colour_key(chart: Chart, curves: Sequence[Curve], axis: Axis) -> None:
    """A colour bar where weights are numbers; a legend of names otherwise."""
    if axis.names:
        add_legend(chart)
        return
    numbers = [c.position for c in curves]
    bar = {"title": {"text": clean(axis.title), "side": "right"}, "thickness": 10, "outlinewidth": 0, "len": 0.95}
    marker = {"color": [min(numbers)], "cmin": min(numbers), "cmax": max(numbers), "colorscale": COLORSCALE}
    if ticks := spaced(axis.ticks):
        bar |= {"tickvals": list(ticks), "ticktext": list(ticks.values())}
    if min(numbers) < max(numbers):
        marker |= {"showscale": True, "colorbar": bar}
    add_scatter(chart, x=[None], y=[None], mode="markers", marker=marker, hoverinfo="skip", showlegend=False)


def curve_range(groups: Sequence[Sequence[Curve]], baselines: Sequence[float]) -> list[float] | None:
    """One vertical range for several figures of curves, so that train and val can be compared by eye.

    Trivial predictors that would squeeze the curves are out of it.
    """
    values = [v for curves in groups for c in curves for seed in c.seeds for v in seed if math.isfinite(v)]
    low, high = reach(values)
    values += [b for b in baselines if low <= b <= high]
    if not values:
        return None
    pad = 0.06 * (max(values) - min(values)) or 0.1
    return [float(f"{min(values) - pad:.5g}"), float(f"{max(values) + pad:.5g}")]
