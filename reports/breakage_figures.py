"""Draw how runs ended and how training broke: outcomes, gradient norms, probabilities, a broken run beside an unbroken one."""

import math
from collections.abc import Sequence

from depth_loss_sweep.reports.charts import (
    OUTCOME_COLOURS,
    OUTCOME_SYMBOLS,
    POINT,
    Chart,
    add_bar,
    add_diverged,
    add_legend,
    add_scatter,
    bar_width,
    clean,
    new_chart,
    place_names,
    rounded,
)
from depth_loss_sweep.reports.series import Axis, GradientPoint, OutcomeCounts

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
                hovertemplate=f"%{{y}} {name.replace('_', '-')}<extra></extra>",
            )
    add_legend(chart)
    most = max((sum(at_place) for at_place in zip(*counts.counts.values(), strict=True)), default=1)
    chart.layout["yaxis"]["dtick"] = max(1, round(most / 5))
    place_names(chart, counts.axis)
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
            hovertemplate="%{text}: %{y}<extra></extra>",
        )
    add_diverged(chart, [p.x for p in points if not math.isfinite(p.norm)])
    exponents = [math.log10(p.norm) for p in finite] or [0.0]
    # Whole powers of ten: a log axis within one of them would have no tick.
    decades = [math.floor(min(exponents)), math.ceil(max(exponents) + 1e-9)]
    chart.layout["yaxis"] |= {"type": "log", "exponentformat": "power", "dtick": 1, "range": decades}
    place_names(chart, axis)
    return chart
