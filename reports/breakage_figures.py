"""Draw how runs ended and how training broke: outcomes, gradient norms, probabilities, a broken run beside an unbroken one."""

import math
from collections.abc import Mapping, Sequence

from depth_loss_sweep.reports.axes import Axis
from depth_loss_sweep.reports.breakage import Threshold
from depth_loss_sweep.reports.charts import (
    ERROR_BAR,
    OUTCOME_COLOURS,
    OUTCOME_SYMBOLS,
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
    ends,
    epoch_ticks,
    new_chart,
    place_ticks,
    reach,
    rounded,
)
from depth_loss_sweep.reports.measures import Measure
from depth_loss_sweep.reports.series import BreakRates, EndedRun, GradientPoint, OutcomeCounts, RunCurve

# How runs ended


def outcomes_chart(counts: OutcomeCounts, height: int = 300) -> Chart:
    """Runs by outcome, stacked."""
    chart = new_chart(height, counts.axis.title, "runs (count)", barmode="stack")
    for name, runs in counts.counts.items():
        if any(runs):
            add_bar(
                chart,
                x=counts.x,
                y=runs,
                name=name.replace("_", "-"),
                marker={"color": OUTCOME_COLOURS.get(name, POINT), "line": {"width": 0}},
                width=bar_width(counts.x),
                customdata=counts.trials,
                hovertemplate=f"%{{y}} {name.replace('_', '-')}<extra></extra>",
            )
    add_legend(chart)
    most = max((sum(at_place) for at_place in zip(*counts.counts.values(), strict=True)), default=1)
    chart.layout["yaxis"]["dtick"] = max(1, round(most / 5))
    place_ticks(chart, counts.axis)
    return chart


def grid_chart(runs: Sequence[EndedRun], axis: Axis) -> Chart:
    """A mark for each run, by its seed and weights: how it ended, by colour and symbol."""
    seeds = sorted({run.seed for run in runs})
    chart = new_chart(140 + 26 * max(3, len(seeds)), axis.title, "seed")
    found = {run.outcome for run in runs}
    for outcome in (name for name in dict.fromkeys((*OUTCOME_COLOURS, *sorted(found))) if name in found):
        own = [run for run in runs if run.outcome == outcome]
        add_scatter(
            chart,
            x=[run.x for run in own],
            y=[seeds.index(run.seed) for run in own],
            mode="markers",
            name=clean(outcome).replace("_", "-"),
            marker={
                "color": OUTCOME_COLOURS.get(outcome, POINT),
                "symbol": OUTCOME_SYMBOLS.get(outcome, "hexagon"),
                "size": 12,
            },
            text=[clean(run.name) for run in own],
            customdata=[run.trial for run in own],
            hovertemplate="%{text}<extra></extra>",
        )
    add_legend(chart)
    names = tuple(map(str, seeds))
    place_ticks(chart, Axis("seed", {i: float(i) for i in range(len(seeds))}, names), "yaxis")
    place_ticks(chart, axis)
    return chart


def gradient_chart(points: Sequence[GradientPoint], axis: Axis, height: int = 300) -> Chart:
    """The largest gradient norm of every run on a log axis; runs without a finite one stand at the upper edge."""
    chart = new_chart(height, axis.title, "gradient norm (no unit)")
    finite = [p for p in points if math.isfinite(p.norm) and p.norm > 0]
    for outcome in dict.fromkeys(p.outcome for p in finite):
        shown = [p for p in finite if p.outcome == outcome]
        colour = OUTCOME_COLOURS.get(outcome, OUTCOME_COLOURS["unfinished"])
        add_scatter(
            chart,
            x=[p.x for p in shown],
            y=rounded([p.norm for p in shown]),
            mode="markers",
            name=clean(outcome).replace("_", "-"),
            marker={"color": colour, "size": 9, "symbol": OUTCOME_SYMBOLS.get(outcome, "x"), "opacity": 0.85},
            text=[clean(p.name) for p in shown],
            customdata=[p.trial for p in shown],
            hovertemplate="%{text}: %{y:.3r}<extra></extra>",
        )
    add_diverged(chart, {p.trial: p.x for p in points if not math.isfinite(p.norm)})
    _use_decades(chart, [p.norm for p in finite])
    place_ticks(chart, axis)
    return chart


def _use_decades(chart: Chart, values: Sequence[float]) -> None:
    """A logarithmic vertical axis over whole powers of ten: within one of them it would have no tick."""
    exponents = [math.log10(value) for value in values] or [0.0]
    decades = [math.floor(min(exponents)), math.ceil(max(exponents) + 1e-9)]
    chart.layout["yaxis"] |= {"type": "log", "exponentformat": "power", "dtick": 1, "range": decades}


# How likely breaking is


def rates_chart(found: BreakRates, height: int = 300) -> Chart:
    """Shares of runs that broke with exact 95 % intervals, way by way; where a threshold is shown, a band from its low to its high."""
    chart = new_chart(height, found.axis.title, "probability to break (fraction)")
    step = 0.14 * bar_width(found.x)
    for place, (kind, rates) in enumerate(found.rates.items()):
        aside = step * (place - (len(found.rates) - 1) / 2)  # so that intervals stand beside each other
        shares = [rate.count / rate.n for rate in rates]
        colour = OUTCOME_COLOURS.get(kind, POINT)
        add_scatter(
            chart,
            x=[x + aside for x in found.x],
            y=rounded(shares),
            error_y={
                "array": rounded([rate.high - share for rate, share in zip(rates, shares, strict=True)]),
                "arrayminus": rounded([share - rate.low for rate, share in zip(rates, shares, strict=True)]),
                **ERROR_BAR,
                "color": colour,
            },
            mode="markers",
            name="broke, in any way" if kind == "broken" else kind.replace("_", "-"),
            marker={
                "color": colour,
                "size": 8,
                "symbol": OUTCOME_SYMBOLS.get(kind, "circle"),
            },
            text=[f"{rate.count} of {rate.n}, {100 * rate.low:.0f} to {100 * rate.high:.0f} %" for rate in rates],
            customdata=found.trials,
            hovertemplate="%{text}<extra></extra>",
        )
    add_legend(chart)
    chart.layout["yaxis"] |= {"range": [-0.03, 1.03]}
    if found.threshold:
        _add_band(chart, found.threshold, found.axis)
    place_ticks(chart, found.axis)
    return chart


def _add_band(chart: Chart, threshold: Threshold, axis: Axis) -> None:
    """Where the median seed begins to break; an open end of the interval is the axis's end."""
    span = ends(axis)
    begin, end = span if threshold.side == "from" else span[::-1]
    low = begin if threshold.low is None else axis.place(threshold.low)
    high = end if threshold.high is None else axis.place(threshold.high)
    fill = {"fillcolor": TRAIN, "opacity": 0.16, "line": {"width": 0}, "layer": "below"}
    chart.layout["shapes"] = [{"type": "rect", "yref": "paper", "x0": low, "x1": high, "y0": 0, "y1": 1, **fill}]
    chart.layout["xaxis"]["range"] = span


# A run that broke beside one that did not


def norms_chart(curves: Sequence[RunCurve], height: int = 300) -> Chart:
    """Gradient norms over epochs, on a log axis: each run's largest as a line, its median dotted."""
    chart = new_chart(height, "epoch", "gradient norm (no unit)")
    shown: list[float] = []
    for curve in curves:
        for what, values, dash in (("largest", curve.norm_max, "solid"), ("median", curve.norm_median, "dot")):
            positive = [value if value > 0 else math.nan for value in values]  # a log axis has no place for 0
            shown += [value for value in positive if math.isfinite(value)]
            _add_run(chart, curve, positive, f"{_ending(curve)}, {what}", dash)
    _use_decades(chart, shown)
    _finish_beside(chart, curves)
    return chart


def values_chart(
    curves: Sequence[RunCurve], measure: Measure, baselines: Mapping[str, float], height: int = 300
) -> Chart:
    """A measure over epochs, and the trivial predictors."""
    chart = new_chart(height, "epoch", f"validation {measure.axis}")
    for curve in curves:
        _add_run(chart, curve, curve.values, _ending(curve), "solid")
    last = max(epoch for curve in curves for epoch in curve.epochs)
    values = [value for curve in curves for value in curve.values]
    add_baselines(chart, baselines, [1, last], reach(values), side="right")
    _finish_beside(chart, curves)
    return chart


def _ending(curve: RunCurve) -> str:
    return "broke" if curve.is_broken else "unbroken"


def _add_run(chart: Chart, curve: RunCurve, values: Sequence[float], name: str, dash: str) -> None:
    broke, unbroken = OUTCOME_COLOURS["non_finite"], OUTCOME_COLOURS["learnt"]
    colour = broke if curve.is_broken else unbroken
    add_scatter(
        chart,
        x=curve.epochs,
        y=rounded(values),
        mode="lines+markers",
        name=clean(name),
        line={"color": colour, "width": 1.8, "dash": dash},
        marker={"color": colour, "size": 5},
        hovertemplate=f"epoch %{{x}}: %{{y}}<extra>{clean(name)}</extra>",
    )


def _finish_beside(chart: Chart, curves: Sequence[RunCurve]) -> None:
    """A legend, whole epochs, and a line where the broken run broke."""
    add_legend(chart)
    last = max(epoch for curve in curves for epoch in curve.epochs)
    chart.layout["xaxis"] |= {**epoch_ticks(last), "range": [0.7, last + 0.3]}
    line = {"color": OUTCOME_COLOURS["non_finite"], "width": 1.2, "dash": "dash"}
    chart.layout["shapes"] = [
        {"type": "line", "yref": "paper", "x0": curve.onset, "x1": curve.onset, "y0": 0, "y1": 1, "line": line}
        for curve in curves
        if curve.onset is not None
    ]
