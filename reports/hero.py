"""The one figure that a study's page opens with: what decides, against what was swept, drawn as the kind of study asks.

A line or named points: seeds and means. Two variables: a heat map. A simplex of three terms: its triangle. More: each pair of variables
by the trials' ranks. A single trial has numbers and no figure.
"""

import math
from collections.abc import Collection, Mapping, Sequence
from itertools import combinations
from typing import Any

from markupsafe import Markup

from depth_loss_sweep.reports import figures, hero_figures
from depth_loss_sweep.reports.analysis import Analysis
from depth_loss_sweep.reports.axes import Axis, axes, main_axis
from depth_loss_sweep.reports.charts import Chart, with_choices
from depth_loss_sweep.reports.decision import Decision
from depth_loss_sweep.reports.layout import Figure, Section
from depth_loss_sweep.reports.series import differences, measure_series
from depth_loss_sweep.reports.svg import chart_svg
from depth_loss_sweep.reports.wording import is_recommended, verdict
from depth_loss_sweep.words import counted

VALUES, DIFFERENCES = "values", "differences"

MOST_STILL = 100
"""Of more trials a static picture has every so manyth: it would be larger than all their numbers."""

SMALL = 140
"""Pixels of the paper's figure beside the hero."""


def hero(analysis: Analysis, anchor: str) -> Section | None:
    """The figure as a section with its menu, and the paper's in small where it has one axis, too; None where there is nothing to draw."""
    if len(analysis.record.trials) < 2 or not any(t.interval.n for t in analysis.trials):
        return None
    every = axes(analysis)
    section = _against_one(analysis, every[0]) if len(every) == 1 else _against_several(analysis, every)
    return section and section.anchored(anchor)


def still(analysis: Analysis, section: Section) -> Markup:
    """The figure as a static picture, for paper and for whoever has no script, and how much of it that is."""
    figure, trials = section.figures[0], len(analysis.record.trials)
    drawn = chart_svg(thinned(figure.chart, analysis), figure.title, width=560, height=330)
    step = _step(trials)
    return (
        drawn + Markup('<p class="muted">Marks: one in {} of {:,} trials.</p>').format(step, trials)
        if step > 1
        else drawn
    )


def thinned(chart: Chart, analysis: Analysis) -> Chart:
    """A chart with so many of its trials that a static picture stays small, the named one among them."""
    places = axes(analysis)[0].positions
    order = sorted(places, key=places.__getitem__)
    kept = {None, analysis.decision.trial, *order[:: _step(len(order))]}
    return Chart([_kept(trace, kept) for trace in chart.data], chart.layout)


def _step(trials: int) -> int:
    """Odd, so that of what alternates between two values both are shown."""
    return math.ceil(trials / MOST_STILL) // 2 * 2 + 1


def _kept(trace: Mapping[str, Any], kept: Collection[int | None]) -> dict[str, Any]:
    """A trace with the points of some trials; of what has no trials, such as cells, with all."""
    trials = trace.get("customdata")
    if trials is None:
        return {**trace}
    shown = [i for i, trial in enumerate(trials) if trial in kept]

    def cut(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: each if key == "colorscale" else cut(each) for key, each in value.items()}
        return [value[i] for i in shown] if isinstance(value, list) and len(value) == len(trials) else value

    return {key: cut(value) for key, value in trace.items()}


def replica(analysis: Analysis, is_small: bool = False) -> Figure | None:
    """The paper's Fig. 1 and 2: the final combined loss, which is not comparable; None where no run has it, or no axis is alone."""
    total, axis = analysis.measure("total"), main_axis(analysis)
    train, val = (measure_series(analysis, total, axis, split) for split in ("train", "val"))
    if len(axes(analysis)) > 1 or (not val.mean_x and not train.mean_x):
        return None
    chart = figures.combined_chart(train, val, SMALL if is_small else 320)
    if is_small:
        chart.layout["yaxis"] |= {"title": {"text": total.unit, "standoff": 8}, "nticks": 3}
        if axis.names:  # they take the room of a title
            chart.layout["xaxis"]["title"]["text"] = ""
        return Figure("replica", "Combined loss, as the paper plots it", "", chart, badge="not comparable")
    title = "Final combined loss, as in the paper's Fig. 1 and 2"
    note = "Means over seeds with 95 % t-intervals, training images re-evaluated without augmentation."
    return Figure("replica", title, note, chart, badge="not comparable")


def called(mark: str, decision: Decision) -> str:
    """What the marked trial is called, as a sentence after others; empty where none is named."""
    return f" {mark}: {verdict(decision)}." if verdict(decision) else ""


def seeds_note(analysis: Analysis) -> str:
    """What is drawn of seeds and means."""
    counts = [t.interval.n for t in analysis.trials if t.interval.n]
    least, most = min(counts, default=1), max(counts, default=1)
    n = counted(most, "seed") if least == most else f"{least} to {most} seeds"
    seeds = f"Grey: each seed. Diamonds: means with 95 % t-intervals ({n})." if most > 1 else "Diamonds: one run each."
    text = f"{seeds} Dashed: trivial predictors."
    if _diverged(analysis):
        text += " A red cross at the top: a seed went non-finite, so the trial counts as infinite."
    return text


# A line, or named points


def _against_one(analysis: Analysis, axis: Axis) -> Section:
    measure, decision = analysis.ranking, analysis.decision
    series = measure_series(analysis, measure, axis)
    chart = figures.measure_chart(
        series,
        height=hero_figures.HEIGHT,
        marked=decision.trial,
        verdict=verdict(decision),
        is_recommended=is_recommended(decision),
    )
    note = seeds_note(analysis) + called("Ringed", decision)
    menu: tuple[tuple[str, str], ...] = ()
    if found := differences(analysis, axis):
        chart = with_choices({VALUES: chart, DIFFERENCES: hero_figures.as_differences(chart, found)})
        menu = ((VALUES, f"validation {measure.label}"), (DIFFERENCES, f"difference to {found.reference}"))
        note += " As differences, seeds are paired, and intervals hold for all trials at once (95 %)."
    against = axis.title.partition(" (")[0]
    figure = Figure("means", f"Validation {measure.label} against {against}", note, chart)
    combined = replica(analysis, is_small=True)
    return Section("hero", "", "", (figure, *filter(None, (combined,))), menu=menu, toggles_baselines=True)


# Two variables and more


def _against_several(analysis: Analysis, every: Sequence[Axis]) -> Section | None:
    measure, decision = analysis.ranking, analysis.decision
    means = {t.number: t.mean for t in analysis.ranked if math.isfinite(t.mean)}
    if not means:
        return None
    ranks, diverged = _ranks(means, measure.higher_is_better), _diverged(analysis)
    mark = hero_figures.Mark(decision.trial, verdict(decision), is_recommended(decision))
    title = f"Validation {measure.label}"
    menu: tuple[tuple[str, str], ...] = ()
    if len(every) == 2:
        chart = hero_figures.heat_chart(every[0], every[1], measure, means, diverged, mark)
        title += f" over {every[0].title} and {every[1].title}"
        note = "Colour: means over seeds, blue is better. Dots: what was tried."
    elif analysis.record.kind == "simplex" and len(every) == 3:
        chart = hero_figures.ternary_chart(every, ranks, diverged, mark)
        title += " over the simplex"
        note = "A dot a trial, coloured by its rank: blue is best. A corner is a term alone."
    else:
        pairs = {f"{i}-{j}": (every[i], every[j]) for i, j in combinations(range(len(every)), 2)}
        chart = with_choices(
            {name: hero_figures.pair_chart(*pair, ranks, diverged, mark) for name, pair in pairs.items()}
        )
        menu = tuple(
            (name, " and ".join(axis.title.removeprefix("weight of ") for axis in (a, b)))
            for name, (a, b) in pairs.items()
        )
        title += ", two weights at a time" if analysis.record.kind == "simplex" else ", two variables at a time"
        note = "A dot a trial, coloured by its rank: blue is best."
    if diverged:
        note += " A red cross: a seed went non-finite, so the trial counts as infinite."
    figure = Figure("means", title, note + called("Ringed", decision), chart)
    return Section("hero", "", "", (figure,), menu=menu)


def _diverged(analysis: Analysis) -> list[int]:
    return [t.number for t in analysis.trials if math.isinf(t.mean)]


def _ranks(means: Mapping[int, float], higher_is_better: bool) -> dict[int, int]:
    """Trial -> its rank by its mean, 1 the best; equals share one."""
    order = sorted({*means.values()}, reverse=higher_is_better)
    rank = {value: i for i, value in enumerate(order, 1)}
    return {number: rank[value] for number, value in means.items()}
