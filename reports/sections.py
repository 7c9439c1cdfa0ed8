"""Which figures a study's page shows, in which order, with which words. Figures come from `figures`, numbers from `series`."""

import math
from collections.abc import Mapping, Sequence

from depth_loss_sweep.reports import breakage_figures, figures, search_sections, weight_sections
from depth_loss_sweep.reports.analysis import Analysis
from depth_loss_sweep.reports.axes import Axis, axes, main_axis
from depth_loss_sweep.reports.charts import Chart, with_choices
from depth_loss_sweep.reports.hero import called, replica, seeds_note
from depth_loss_sweep.reports.layout import Figure, NamedTable, Section
from depth_loss_sweep.reports.measures import Measure
from depth_loss_sweep.reports.series import (
    UNFINISHED,
    EndedRun,
    beside_curves,
    break_rates,
    contributions,
    epoch_curves,
    gradient_points,
    gradient_shares,
    measure_series,
    named_baselines,
    outcome_counts,
)
from depth_loss_sweep.reports.summary import threshold_sentence
from depth_loss_sweep.reports.tables import broken_table, front_table, number_table, rate_table
from depth_loss_sweep.reports.trials import FAILED, TrialResult
from depth_loss_sweep.reports.wording import front_headline, is_recommended, left_out, verdict

MAX_CURVES = 40  # trials drawn over epochs; the page says so when there are more
MAX_GRID, MAX_GRID_SEEDS = 40, 12  # trials and seeds, each run of which has a mark; of more, runs are counted
# Shown at once; the other metrics are a click away.
PRINCIPAL = (
    "metric_rmse",
    "metric_abs_rel",
    "metric_delta1",
    "metric_silog",
    "metric_rmse_scaled",
    "metric_boundary_f1",
)
COMBINED_WARNING = (
    "Not comparable along this axis. Each point is measured by another loss: the weights that are minimised are the "
    "weights that are plotted. The lowest attainable combined loss is concave along a line of weights, so it is "
    "lowest at an end whatever the data. Read it as a replica of the paper's Fig. 1 and 2, never as a ranking."
)


def study_sections(analysis: Analysis, anchor: str) -> tuple[Section, ...]:
    """All sections of a study that have something to show, below its hero; none before the first epoch."""
    if analysis.record.trials.empty or analysis.record.epochs.empty:
        return ()
    every, axis = axes(analysis), main_axis(analysis)
    over_epochs = [
        _epochs(analysis, every),
        weight_sections.weightings(analysis),
        weight_sections.gradients(analysis),
        _stability(analysis, axis),
    ]
    last: tuple[Section | None, ...] = ()  # what isn't to be read as a ranking
    search = search_sections.search(analysis)
    if len(analysis.record.trials) == 1:  # against the weights there is nothing to draw but a dot
        sections: list[Section | None] = [_numbers(analysis)]
    elif len(every) > 1:
        sections = [
            _objective(analysis, every),
            _front(analysis),
            weight_sections.importance(analysis),
            search,
            _several_measures(analysis, every),
        ]
    else:
        sections = [
            _front(analysis),
            weight_sections.importance(analysis),
            search,
            _terms(analysis, axis),
            _metrics(analysis, axis),
            _other_metrics(analysis, axis),
        ]
        last = (_combined(analysis, axis),)
    return tuple(s.anchored(anchor) for s in (*sections, *over_epochs, *last) if s and not s.is_empty)


# A single trial


def _numbers(analysis: Analysis) -> Section:
    lead = (
        f"The only trial, {analysis.trials[0].label}: final values on the validation split, over its seeds, beside those of the "
        "trivial predictors."
    )
    table = NamedTable("", "", number_table(analysis, _choice(analysis)))
    return Section("numbers", "Every number of the trial", lead, (), tables=(table,))


# The objective, where several variables were swept


def _objective(analysis: Analysis, every: Sequence[Axis]) -> Section | None:
    measure, decision = analysis.ranking, analysis.decision
    if not any(t.interval.n for t in analysis.trials):
        return None
    means = {t.number: t.mean for t in analysis.ranked}
    shown = [
        Figure(
            anchor=f"axis-{i}",
            title=f"Validation {measure.label} against {axis.title}",
            note="",
            chart=figures.measure_chart(
                measure_series(analysis, measure, axis),
                height=280,
                marked=decision.trial,
                verdict=verdict(decision),
                is_recommended=is_recommended(decision),
                colours=means,
            ),
        )
        for i, axis in enumerate(every)
    ]
    if sum(map(math.isfinite, means.values())) > 1:
        chart = figures.parallel_chart(every, measure, means, decision.trial)
        note = f"One line a trial, coloured by its value: blue is better.{called('Thick', decision)}"
        note += " A drag along an axis keeps a range of it, here and in the table of trials; a double click, all."
        shown.append(Figure("parallel", "All weights at once", note, chart, wide=True))
    title = f"Validation {measure.label} against each variable"
    lead = f"{seeds_note(analysis)}{called('Ringed', decision)} Means are coloured, blue is better."
    return Section("objective", title, lead, tuple(shown), toggles_baselines=True)


# Two objectives


def _front(analysis: Analysis) -> Section | None:
    """The front of both objectives; none of a study of one."""
    front, measures = analysis.front, analysis.objectives
    if front is None or not front.members:
        return None
    of = " and ".join(m.label for m in measures)
    chart = figures.front_chart(front, measures, {t.number: t.label for t in analysis.trials})
    note = "Crosses: 95 % t-intervals of either mean, each by itself. Joined: the trials that no other beats in both."
    excluded = (
        " Who is left out is shown to be worse in both than one of the front: in 95 % of studies, that is said of no trial that truly "
        "is on it."
    )
    lead = f"{front_headline(front, measures)}.{excluded if len(front.candidates) < len(front.trials) else ''}"
    lead += " The knee bulges farthest beyond the line through the front's ends." if front.knee is not None else ""
    shown = (Figure("plane", f"Validation {of}", note, chart, wide=True),)
    tables = (NamedTable("The trials that may be on it", " ".join(left_out(front)), front_table(analysis, front)),)
    return Section("front", f"The front of {of}", lead, shown, tables=tables)


# Everything else against the weights


def _combined(analysis: Analysis, axis: Axis) -> Section | None:
    combined = replica(analysis)
    if combined is None:
        return None
    parts = contributions(analysis, axis)
    made_of = Figure(
        anchor="parts",
        title="What the validation loss is made of",
        note="Weight × unweighted term: how much of the curve is the weights themselves rather than better depth.",
        chart=figures.shares_chart(parts, "weighted term (weighted sum)", analysis.term_names),
    )
    shown = (combined, made_of) if parts.x else (combined,)
    return Section("combined", "Combined loss: a replica, not a ranking", "", shown, warning=COMBINED_WARNING)


def _terms(analysis: Analysis, axis: Axis) -> Section:
    shown = _small(analysis, analysis.measured_terms, axis)
    lead = (
        "Each loss term without its weight, on the validation split. A term usually falls where its own weight is "
        "large; whether depth gets better is what the metrics say."
    )
    return Section("terms", f"Each unweighted term against {_said(axis)}", lead, shown, toggles_baselines=True)


def _said(axis: Axis) -> str:
    """An axis in a heading: a field of the spec by its dotted name, weights and named points as the weight that they are."""
    return axis.title if "." in axis.title.split("(")[0] else "the weight"


def _metrics(analysis: Analysis, axis: Axis) -> Section:
    principal = [m for m in analysis.measured_metrics if m.column in PRINCIPAL and m != analysis.ranking]
    lead = "On the validation split, for final epochs. If all of them agree, so can you."
    shown = _small(analysis, principal, axis)
    return Section("metrics", f"Metrics against {_said(axis)}", lead, shown, toggles_baselines=True)


def _other_metrics(analysis: Analysis, axis: Axis) -> Section | None:
    """What the overview leaves out: one figure, switched by the section's menu."""
    rest = [m for m in analysis.measured_metrics if m.column not in PRINCIPAL and m != analysis.ranking]
    series = {m.column: measure_series(analysis, m, axis) for m in rest}
    charts = {column: figures.measure_chart(s, height=300) for column, s in series.items() if s.seed_y}
    if not charts:
        return None
    menu = _menu([m for m in rest if m.column in charts])
    figure = Figure(
        "figure",
        f"Final validation values against {axis.title.partition(' (')[0]}",
        "",
        with_choices(charts),
        wide=True,
    )
    return Section("other-metrics", "Any other metric", "", (figure,), menu=menu, toggles_baselines=True)


def _small(analysis: Analysis, measures: Sequence[Measure], axis: Axis) -> tuple[Figure, ...]:
    """A small figure for each measure that any finished run has a value of."""
    series = [measure_series(analysis, m, axis) for m in measures]
    return tuple(
        Figure(s.measure.column, s.measure.label, s.measure.note, figures.measure_chart(s)) for s in series if s.seed_y
    )


def _several_measures(analysis: Analysis, every: Sequence[Axis]) -> Section:
    """With several axes: one figure an axis, switched between measures by the section's menu."""
    measure, total = analysis.ranking, analysis.measure("total")
    measures = [m for m in _choice(analysis) if m not in (measure, total)] + [total]
    means = {t.number: t.mean for t in analysis.ranked}
    series = {m.column: measure_series(analysis, m, every[0]) for m in measures}
    shown = []
    for i, axis in enumerate(every):
        charts = {c: figures.measure_chart(s.along(axis), height=280, colours=means) for c, s in series.items()}
        if any(s.seed_y for s in series.values()):
            shown.append(Figure(f"axis-{i}", f"against {axis.title}", "", with_choices(charts)))
    lead = (
        f"Final validation values. Means are coloured by the validation {measure.label}: blue is better, red is worse."
    )
    title = "Each term and metric against each weight"
    return Section("measures", title, lead, tuple(shown), menu=_menu(measures), toggles_baselines=True)


def _choice(analysis: Analysis) -> list[Measure]:
    """The measures of a menu: what decides first, then the combined loss, terms and metrics."""
    decisive = (analysis.ranking, analysis.measure("total"))
    return list(dict.fromkeys((*decisive, *analysis.measured_terms, *analysis.measured_metrics)))


def _menu(measures: Sequence[Measure]) -> tuple[tuple[str, str], ...]:
    suffix = " – not comparable between weights"
    return tuple((m.column, m.axis + ("" if m.is_comparable else suffix)) for m in measures)


# Over epochs


def _epochs(analysis: Analysis, every: Sequence[Axis]) -> Section | None:
    if analysis.record.epochs["epoch"].nunique() < 2:  # dots, which stand against the weights already
        return None
    axis, drawn = _epoch_axis(analysis, every), _drawn(analysis)
    charts: dict[str, dict[str, Chart]] = {"train": {}, "val": {}}
    every_row = analysis.record.epochs
    rows = every_row[every_row["run"].isin({s.run for t in drawn for s in t.seeds})]
    for measure in _choice(analysis):
        groups = {split: epoch_curves(rows, drawn, measure, axis, split) for split in charts}
        for split, chart in _epoch_charts(analysis, measure, axis, groups).items():
            charts[split][measure.column] = chart
    names = {"train": "Training images, in evaluation mode", "val": "Validation images"}
    shown = tuple(
        Figure(split, names[split], "", with_choices(by_measure)) for split, by_measure in charts.items() if by_measure
    )
    if not shown:
        return None
    count = len(analysis.record.trials)
    note = "" if len(drawn) == count else f" Drawn are the {len(drawn)} best of {count} trials."
    lead = (
        "Thick: the mean over seeds, as far as all of them go. Faint: each seed. Both figures share one vertical "
        f"range, so the distance between them is the generalisation gap.{note}"
    )
    return Section(
        "epochs", "Loss and metrics over epochs", lead, shown, menu=_menu(_choice(analysis)), toggles_baselines=True
    )


def _epoch_charts(analysis: Analysis, measure: Measure, axis: Axis, groups: Mapping[str, Sequence]) -> dict[str, Chart]:
    lines = {split: named_baselines(analysis, measure, split) for split in groups}
    y_range = figures.curve_range(list(groups.values()), [v for values in lines.values() for v in values.values()])
    return {
        split: figures.curves_chart(curves, measure, lines[split], axis, y_range)
        for split, curves in groups.items()
        if curves
    }


def _epoch_axis(analysis: Analysis, every: Sequence[Axis]) -> Axis:
    """Curves are coloured by the swept variable; by the trial's value where there are several."""
    if len(every) == 1:
        return every[0]
    measure = analysis.ranking
    finite = {t.number: t.mean for t in analysis.trials if math.isfinite(t.mean)}
    worst = (min if measure.higher_is_better else max)(finite.values(), default=0.0)
    return Axis(f"final {measure.axis}", {t.number: finite.get(t.number, worst) for t in analysis.trials})


def _drawn(analysis: Analysis) -> list[TrialResult]:
    """The trials whose curves are drawn, in trial order: the best, then those that are not complete."""
    best = [t.number for t in analysis.ranked]
    rest = [t.number for t in analysis.trials if not t.is_complete]
    kept = {*[*best, *rest][:MAX_CURVES]}
    return [t for t in analysis.trials if t.number in kept]


# How training went


def _stability(analysis: Analysis, axis: Axis) -> Section | None:
    shown = [] if len(analysis.record.trials) == 1 else _breaking(analysis, axis)
    lead = "Runs that end badly are results, too: they stay in every figure and every mean."
    figures_, tables = (*shown, *_beside(analysis)), _break_tables(analysis)
    return Section("stability", "Where training breaks", lead, figures_, tables=tables) if figures_ or tables else None


def _ended_runs(analysis: Analysis, axis: Axis) -> tuple[EndedRun, ...]:
    """How runs ended, run by run; a broken one with the epoch in which it broke, where that is known."""
    onsets = {run.run: f", from epoch {run.epoch} on" for run in analysis.instability.runs if run.epoch is not None}
    return tuple(
        EndedRun(
            axis.positions[t.number],
            t.number,
            s.seed,
            analysis.endings[s.run] if s.is_finished or s.outcome == FAILED else UNFINISHED,
            f"{t.label}, seed {s.seed}: {analysis.endings[s.run].replace('_', '-')}{onsets.get(s.run, '')}",
        )
        for t in analysis.trials
        for s in t.seeds
    )


def _breaking(analysis: Analysis, axis: Axis) -> list[Figure]:
    """How runs ended and how steep their gradients were, against the weights."""
    shown = []
    rates = break_rates(analysis, axis)
    if rates.x:
        chart = breakage_figures.rates_chart(rates)
        shown.append(Figure("rates", "How likely breaking is", _rates_note(analysis), chart, wide=len(rates.rates) > 1))
    runs = _ended_runs(analysis, axis)
    if runs:
        is_small = len(analysis.record.trials) <= MAX_GRID and len({run.seed for run in runs}) <= MAX_GRID_SEEDS
        note = (
            f"{'A mark a run. ' * is_small}Learnt: better than every trivial predictor. Median-only: better than the training median, not "
            "than every other. Trivial: not even that. Flat: an almost constant map. Spiking: a step's gradient norm over 100 times the "
            "run's usual."
        )
        counts = outcome_counts(analysis, axis)
        chart = breakage_figures.grid_chart(runs, axis) if is_small else breakage_figures.outcomes_chart(counts)
        shown.append(Figure("outcomes", "How runs ended", note, chart))
    points = gradient_points(analysis, axis)
    if points:
        note = "Every run. The norm grows with the weights themselves; look for jumps by orders of magnitude."
        shown.append(Figure("gradients", "Largest gradient norm", note, breakage_figures.gradient_chart(points, axis)))
    shares = gradient_shares(analysis, axis)
    if shares.x and analysis.varying_terms:
        note = "Each term's share of the loss gradient at the prediction, last epoch, mean over seeds."
        chart = figures.shares_chart(shares, "share of the gradient (fraction)", analysis.term_names)
        shown.append(Figure("shares", "Which term steers the training", note, chart))
    return shown


def _rates_note(analysis: Analysis) -> str:
    text = (
        "Share of the runs that broke, with exact 95 % intervals, each by itself. A run whose gradient spiked counts where it ended no "
        "better than the training median; a trivial run trained, and doesn't count."
    )
    found = analysis.breakage.threshold
    return f"{text} Shaded: {threshold_sentence(analysis.record.variables[0], found)}" if found else text


def _beside(analysis: Analysis) -> tuple[Figure, ...]:
    """The gradient and what trials are ranked by, in a run that broke and its unbroken neighbour."""
    curves, measure = beside_curves(analysis), analysis.ranking
    if not curves:
        return ()
    broken, unbroken = curves
    seed = analysis.beside.broken[1].seed if analysis.beside else None
    how, ended = (run.outcome.replace("_", "-") for run in curves)
    begun = f"onset in epoch {broken.onset} (dashed)" if broken.onset is not None else "its onset was not measured"
    note = (
        f"Red: {broken.label}, {how}, {begun}. Green: {unbroken.label}, {ended}. Both have seed {seed}; of all such pairs of "
        "one seed, these two are the nearest. One pair shows how it looked, not how often."
    )
    lines = named_baselines(analysis, measure, "val")
    return (
        Figure(
            "beside-norms",
            "A run that broke beside one that didn't: gradient norm",
            note,
            breakage_figures.norms_chart(curves),
        ),
        Figure(
            "beside-values",
            f"The same two: validation {measure.label}",
            "A curve ends where its number is no longer finite.",
            breakage_figures.values_chart(curves, measure, lines),
        ),
    )


def _break_tables(analysis: Analysis) -> tuple[NamedTable, ...]:
    """Every broken run, and the weights under which they broke; none where nothing broke."""
    if not analysis.instability.runs:
        return ()
    onset = (
        "Onset is the epoch of the first loss, gradient or prediction that was not finite (non-finite), of the first step that spiked "
        "(spiking), or from which on validation predictions stayed flat (flat). Which term was not finite first is known of non-finite "
        "runs; of the others, which had the largest share of the gradient at that epoch's end."
    )
    rates = "Under which weights runs broke, how many with exact 95 % intervals, and in which epochs; medians and ranges are over seeds."
    return (
        NamedTable("When each run broke", onset, broken_table(analysis)),
        NamedTable("How often, by weight", rates, rate_table(analysis)),
    )
