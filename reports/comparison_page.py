"""The page of several studies side by side: what each decides, their trials on one axis, how their specs differ; then each one's own.

from depth_loss_sweep.reports.comparison_page import render_comparison
write_document(render_comparison(records), Path("comparison.html"))

Nothing here tests a difference between studies: that is what one study with all of the weights is for.
"""

import json
import math
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import cycle
from typing import Any

from depth_loss_sweep.reports.analysis import Analysis
from depth_loss_sweep.reports.axes import Axis, axes
from depth_loss_sweep.reports.charts import (
    ERROR_BAR,
    Chart,
    add_baselines,
    add_legend,
    add_scatter,
    clean,
    ends,
    new_chart,
    place_ticks,
    reach,
    rounded,
)
from depth_loss_sweep.reports.decision import OTHER_PICTURES
from depth_loss_sweep.reports.errors import ReportError
from depth_loss_sweep.reports.layout import Figure
from depth_loss_sweep.reports.page import document, study_pages
from depth_loss_sweep.reports.records import StudyRecord
from depth_loss_sweep.reports.series import named_baselines
from depth_loss_sweep.reports.summary import pictures
from depth_loss_sweep.reports.tables import Cell, Table
from depth_loss_sweep.reports.trials import TrialResult

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
SYMBOLS = ("circle", "square", "diamond", "triangle-up", "x")
"""A study's colour (Okabe and Ito 2008) and mark; which of both a study has differs for the first thirty."""

NAME = "study.name"
"""The key that differs between any two studies."""


@dataclass(frozen=True)
class Comparison:
    """What stands above the studies' own pages; `caution` says what their common axis hides, `same` is how many keys are equal."""

    figure: Figure | None
    lead: str
    caution: str
    differences: Table
    same: int


def render_comparison(records: Sequence[StudyRecord]) -> str:
    """One self-contained HTML page of two or more studies; a `ReportError` where their numbers can't be held side by side."""
    analyses = [Analysis(record) for record in records]
    check_comparable(analyses)
    title = ", ".join(record.name for record in records)
    return document("comparison.html.j2", title, pages=study_pages(analyses), comparison=comparison(analyses))


def check_comparable(analyses: Sequence[Analysis]) -> None:
    """Raise `ReportError` where studies were judged by other pictures or another objective, or one of them has several of either."""
    first, alone = analyses[0], "report each by itself"
    for analysis in analyses:
        if analysis.decision.objection == OTHER_PICTURES:
            raise ReportError(
                f"the study {analysis.record.name!r} can't be compared with others: its own trials differ in their data; {alone}"
            )
    for other in analyses[1:]:
        both = f"the studies {first.record.name!r} and {other.record.name!r} can't be compared:"
        if _objective(first) != _objective(other):
            raise ReportError(f"{both} their objectives are {_objective(first)} and {_objective(other)}; {alone}")
        if _pictures(first) != _pictures(other):
            said = " and ".join(pictures(each.record) for each in (first, other))
            raise ReportError(f"{both} they are of other pictures, or of another split of them ({said}); {alone}")


def _objective(analysis: Analysis) -> str:
    window = analysis.record.window
    return analysis.record.objective + (f" of the last {window} epochs" if window > 1 else "")


def _pictures(analysis: Analysis) -> tuple[object, ...]:
    """By what pictures with their size, depth range and split are known."""
    return tuple(analysis.record.data.get(key) for key in ("identity", "fingerprint", "image_size"))


def comparison(analyses: Sequence[Analysis]) -> Comparison:
    """Comparable studies side by side, finished or not."""
    measure = analyses[0].ranking
    places = common_places(analyses)
    specs = [flat_spec(analysis.record) for analysis in analyses]
    keys = [key for key in dict.fromkeys(key for spec in specs for key in spec) if key != NAME]
    differing = [key for key in keys if len({spec.get(key) for spec in specs}) > 1]
    title = f"Validation {measure.label} against {places.title}"
    note = (
        "Means with 95 % t-intervals of each study's own seeds. Ringed: the trial that a study's decision names. Dashed: the "
        "trivial predictors, which are the same for all."
    )
    chart = overlay_chart(analyses, places)
    return Comparison(
        figure=Figure("comparison-overlay", title, note, chart, wide=True) if chart.data else None,
        lead=_lead(analyses),
        caution=_caution(specs, places),
        differences=_difference_table(analyses, specs, differing),
        same=len(keys) - len(differing),
    )


def _lead(analyses: Sequence[Analysis]) -> str:
    words = f"{len(analyses)} studies, judged on the same pictures by the same measure"
    if not analyses[0].objective.is_comparable:
        words += "; their objective is the combined loss, which isn't comparable, so it is RMSE that is shown"
    return f"{words}. Each decision is of its own study: no difference between studies is tested. To claim one, train them as one study."


# On one axis


@dataclass(frozen=True)
class Places:
    """One axis for trials of several studies: its title, each study's trials by their place, and whether it is of ranks."""

    title: str
    axis: Axis
    of: tuple[Mapping[int, float], ...]
    is_rank: bool


def common_places(analyses: Sequence[Analysis]) -> Places:
    """The variable that all studies sweep, by its name, where it is one and numeric; else each study's trials by their rank."""
    every = [axes(analysis) for analysis in analyses]
    lines = [found[0] for found in every if len(found) == 1 and not found[0].names]
    if len(lines) == len(analyses) and len({line.title for line in lines}) == 1:
        least = min((line.least for line in lines if line.least is not None), default=None)
        values = sorted({value for line in lines for value in line.values.values()})
        axis = Axis(lines[0].title, dict(enumerate(values)), least=least)
        return Places(axis.title, axis, tuple(replace(line, least=least).positions for line in lines), False)
    ranks = tuple({t.number: float(i) for i, t in enumerate(_finite(analysis), 1)} for analysis in analyses)
    most = max(map(len, ranks))
    axis = Axis("rank within its study (1 is best)", {i: float(i) for i in range(1, most + 1)})
    return Places("rank", axis, ranks, True)


def _finite(analysis: Analysis) -> list[TrialResult]:
    return [trial for trial in analysis.ranked if math.isfinite(trial.mean)]


def overlay_chart(analyses: Sequence[Analysis], places: Places) -> Chart:
    """Every study's means with their intervals, a colour and a mark each."""
    measure = analyses[0].ranking
    chart = new_chart(400, places.axis.title, f"validation {measure.axis}")
    heights: list[float] = []
    each = zip(analyses, places.of, cycle(COLOURS), cycle(SYMBOLS), strict=False)
    for i, (analysis, of_study, colour, symbol) in enumerate(each, 1):
        shown = sorted((t for t in _finite(analysis) if t.number in of_study), key=lambda t: of_study[t.number])
        heights += [value for trial in shown for value in trial.values if math.isfinite(value)]
        if shown:
            _add_study(chart, analysis, f"study-{i}", shown, of_study, {"color": colour, "symbol": symbol})
    if chart.data:
        add_baselines(chart, named_baselines(analyses[0], measure, "val"), ends(places.axis), reach(heights))
    add_legend(chart)
    place_ticks(chart, places.axis)
    return chart


def _add_study(
    chart: Chart,
    analysis: Analysis,
    anchor: str,
    shown: Sequence[TrialResult],
    places: Mapping[int, float],
    mark: Mapping[str, str],
) -> None:
    x, name, colour = [places[t.number] for t in shown], clean(analysis.record.name), mark["color"]
    add_scatter(
        chart,
        x=x,
        y=rounded([t.mean for t in shown]),
        error_y={"array": rounded([t.interval.half_width for t in shown]), **ERROR_BAR, "color": colour},
        mode="lines+markers",
        name=name,
        line={"color": colour, "width": 1.6},
        marker={**mark, "size": 8},
        customdata=[t.number for t in shown],
        meta={"study": anchor},
        text=[clean(f"trial {t.number}: {t.label}") for t in shown],
        hovertemplate="%{text}: mean %{y}<extra>" + name + "</extra>",
    )
    for trial in shown:
        if trial.number == analysis.decision.trial:
            add_scatter(
                chart,
                x=[places[trial.number]],
                y=rounded([trial.mean]),
                mode="markers",
                marker={"symbol": "circle-open", "size": 20, "color": colour, "line": {"width": 2.5}},
                hoverinfo="skip",
                showlegend=False,
            )


def _caution(specs: Sequence[Mapping[str, str]], places: Places) -> str:
    if places.is_rank:
        return "They sweep no common variable, so that trials stand by their rank: points above each other have nothing in common."
    weights = {tuple(sorted((k, v) for k, v in spec.items() if k.startswith("weights."))) for spec in specs}
    if len(weights) > 1:
        return (
            "The weights that go with this variable differ between the studies, so that one place on the axis is several recipes: see "
            "the table below."
        )
    return ""


# How their specs differ


def flat_spec(record: StudyRecord) -> dict[str, str]:
    """A study's whole spec by dotted keys, as text: every default filled in."""
    try:
        tree: Mapping[str, Any] = tomllib.loads(record.resolved) if record.resolved else record.spec
    except tomllib.TOMLDecodeError:
        tree = record.spec
    return dict(_leaves(tree))


def _leaves(tree: Mapping[str, Any], above: str = "") -> Iterable[tuple[str, str]]:
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{above}{key}.")
        else:
            yield f"{above}{key}", value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _difference_table(analyses: Sequence[Analysis], specs: Sequence[Mapping[str, str]], keys: Sequence[str]) -> Table:
    rows = (
        (Cell(key, key, "code"), *(Cell(spec.get(key, "–"), spec.get(key, ""), "wrap") for spec in specs))
        for key in keys
    )
    return Table(("key", *(analysis.record.name for analysis in analyses)), tuple(rows))
