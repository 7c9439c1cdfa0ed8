"""The section about how a search went: what its trials were worth one after the other, and which were trained at the same time."""

import math
from collections.abc import Sequence
from itertools import accumulate

from depth_loss_sweep.reports.analysis import Analysis
from depth_loss_sweep.reports.charts import (
    MEAN,
    OUTCOME_COLOURS,
    POINT,
    Chart,
    add_baselines,
    add_legend,
    add_scatter,
    clean,
    new_chart,
    reach,
    rounded,
)
from depth_loss_sweep.reports.layout import Figure, Section
from depth_loss_sweep.reports.series import named_baselines
from depth_loss_sweep.reports.trials import SeedValue, TrialResult
from depth_loss_sweep.words import counted

Bar = tuple[float, float, int, TrialResult, SeedValue]
"""A run in the timeline: from, to, in which row, and what it is."""

CLOCKS = {"hours": 3600.0, "minutes": 60.0, "s": 1.0}
"""Units of the timeline, the largest of which it lasts three."""


def search(analysis: Analysis) -> Section | None:
    """How a search went; None where nothing was searched."""
    shown = (_history(analysis), _timeline(analysis)) if analysis.record.is_search else ()
    figures = tuple(figure for figure in shown if figure)
    lead = "Trials in the order in which the sampler asked for them, each knowing those that were told by then."
    return Section("search", "How the search went", lead, figures) if figures else None


def _history(analysis: Analysis) -> Figure | None:
    measure = analysis.ranking
    complete = [t for t in analysis.trials if t.is_complete and math.isfinite(t.mean)]
    if len(complete) < 2:
        return None
    pick = max if measure.higher_is_better else min
    chart = new_chart(320, "trial number", f"validation {measure.axis}")
    _add_trials(chart, "mean over seeds", complete, [t.mean for t in complete], "circle", MEAN)
    pruned = [(t, _last(analysis, t)) for t in analysis.trials if t.state == "pruned"]
    known = [(t, value) for t, value in pruned if math.isfinite(value)]
    if known:
        trials, values = zip(*known, strict=True)
        _add_trials(chart, "pruned: where its first seed was stopped", trials, values, "circle-open", POINT)
    best = [*accumulate((t.mean for t in complete), pick)]
    line = {"shape": "hv", "width": 2, "color": OUTCOME_COLOURS["learnt"]}
    add_scatter(
        chart,
        x=[t.number for t in complete],
        y=rounded(best),
        mode="lines",
        name="best so far",
        line=line,
        hovertemplate="best until trial %{x}: %{y:.4r}<extra></extra>",
    )
    shown = [value for trace in chart.data for value in trace["y"] if value is not None]
    span = [-0.5, analysis.trials[-1].number + 0.5]
    add_baselines(chart, named_baselines(analysis, measure, "val"), span, reach(shown))
    add_legend(chart)
    note = f"The best so far is of {counted(len(complete), 'complete trial')}; chosen by these numbers, it looks better than it is."
    return Figure("history", f"Validation {measure.label}, trial by trial", note, chart)


def _last(analysis: Analysis, trial: TrialResult) -> float:
    """The last epoch's value of a pruned trial's first seed."""
    finals = analysis.final_values(analysis.ranking.column)
    return next((finals[s.run] for s in trial.seeds if s.run in finals), math.nan)


def _add_trials(
    chart: Chart, name: str, trials: Sequence[TrialResult], values: Sequence[float], symbol: str, colour: str
) -> None:
    add_scatter(
        chart,
        x=[t.number for t in trials],
        y=rounded(values),
        mode="markers",
        name=name,
        marker={"symbol": symbol, "size": 7, "color": colour},
        text=[clean(f"trial {t.number}: {t.label}") for t in trials],
        customdata=[t.number for t in trials],
        hovertemplate="%{text}: %{y:.4r}<extra></extra>",
    )


def _timeline(analysis: Analysis) -> Figure | None:
    """Runs as bars over time, each in the first row that is free: as many rows as were trained at the same time."""
    # Of trials that share a run, the first one trained it.
    of_run = {s.run: (t, s) for t in reversed(analysis.trials) for s in t.seeds}
    spans = sorted(
        (s for s in analysis.record.spans if s.run in of_run and s.end > s.begin), key=lambda s: (s.begin, s.run)
    )
    if len(spans) < 2:
        return None
    begin, end = spans[0].begin, max(s.end for s in spans)
    unit, clock = next((u, c) for u, c in CLOCKS.items() if end - begin >= 3 * c or c == 1)
    free: list[float] = []
    by_outcome: dict[str, list[Bar]] = {}
    for span in spans:
        row = next((i for i, until in enumerate(free) if until <= span.begin), len(free))
        free[row : row + 1] = [span.end]
        trial, seed = of_run[span.run]
        bar = ((span.begin - begin) / clock, (span.end - begin) / clock, row + 1, trial, seed)
        by_outcome.setdefault(analysis.endings[span.run], []).append(bar)
    chart = new_chart(120 + 24 * max(3, len(free)), f"time since the first run began ({unit})", "runs at a time")
    for outcome, bars in by_outcome.items():
        _add_bars(chart, outcome, bars, unit)
    chart.layout["yaxis"] |= {"range": [len(free) + 0.6, 0.4], "dtick": max(1, len(free) // 8), "showgrid": False}
    add_legend(chart)
    busy = sum(s.end - s.begin for s in spans) / (len(free) * (end - begin))
    note = f"A bar a run. Of {counted(len(free), 'row')}, {100 * busy:.0f} % of the time is filled."
    return Figure("timeline", "What was trained when", note, chart)


def _add_bars(chart: Chart, outcome: str, bars: Sequence[Bar], unit: str) -> None:
    said = [f"{t.label}, seed {s.seed}: {end - begin:.3g} {unit}" for begin, end, _, t, s in bars]
    add_scatter(
        chart,
        x=[place for begin, end, *_ in bars for place in (*rounded([begin, end]), None)],
        y=[place for _, _, row, *_ in bars for place in (row, row, None)],
        mode="lines",
        name=clean(outcome).replace("_", "-"),
        line={"width": 12, "color": OUTCOME_COLOURS.get(outcome, POINT)},
        text=[text for each in said for text in (clean(each), clean(each), None)],
        customdata=[number for *_, trial, _ in bars for number in (trial.number, trial.number, None)],
        hovertemplate="%{text}<extra></extra>",
    )
