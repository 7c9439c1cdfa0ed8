"""Study records in, one HTML file out: it opens offline, asks nobody for anything, and runs only its own script.

from depth_loss_sweep.reports.page import render, write_document
write_document(render([record]), Path("report.html"))
"""

import base64
import hashlib
import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment, FunctionLoader, StrictUndefined
from markupsafe import Markup

from depth_loss_sweep.files import write_whole
from depth_loss_sweep.reports import summary, wording
from depth_loss_sweep.reports.analysis import Analysis
from depth_loss_sweep.reports.charts import term_colours
from depth_loss_sweep.reports.confirmation import Confirmed
from depth_loss_sweep.reports.contrasts import reach_of_ends
from depth_loss_sweep.reports.hero import hero, still
from depth_loss_sweep.reports.layout import Section
from depth_loss_sweep.reports.measures import WRITTEN_UNITS, number, rough, short
from depth_loss_sweep.reports.overview import Overview, overview
from depth_loss_sweep.reports.page_data import PageData
from depth_loss_sweep.reports.quotes import broken_cell, cost_to_find
from depth_loss_sweep.reports.records import StudyRecord
from depth_loss_sweep.reports.run_cards import study_cards
from depth_loss_sweep.reports.samples import Samples, metres, sample_panels
from depth_loss_sweep.reports.sections import study_sections
from depth_loss_sweep.reports.slider import Slider, slider
from depth_loss_sweep.reports.tables import Cell, Table, between, numeric
from depth_loss_sweep.reports.trial_tables import raced_table, run_table, trial_table
from depth_loss_sweep.words import counted

MARK = "· Depth Loss Sweep</title>".encode()
"""How the title of every page ends."""

LONGEST_HEAD = 1 << 20
"""Within so many bytes; it names all studies of the page."""

SCRIPTS = (
    "vendor/plotly-cartesian.min.js",
    "templates/store.js",
    "templates/fold.js",
    "templates/crowds.js",
    "templates/brush.js",
    "templates/figures.js",
    "templates/reading.js",
    "templates/tables.js",
    "templates/trial.js",
    "templates/slider.js",
    "templates/contents.js",
)
"""What runs in a page, in this order: plotly.js, whose version is that of the classes which check our figures, and our own, a job each."""

STYLES = ("page.css", "slider.css", "reading.css")
"""What pages look like."""


@dataclass(frozen=True)
class NamedWeight:
    """A term's weight as the recipe shows it."""

    name: str
    weight: float
    colour: str


@dataclass(frozen=True)
class StudyPage:
    """All that the template shows of one study."""

    anchor: str
    analysis: Analysis
    answer: summary.Answer
    recipe: tuple[NamedWeight, ...]
    is_advice: bool
    objective: str
    overview: Overview
    hero: Section | None
    still: Markup
    sections: tuple[Section, ...]
    reach: float
    samples: Samples | None
    slider: Slider | None
    trials: Table
    standings: str
    runs: Table
    baselines: Table
    raced: Table | None
    confirmed: Table | None
    counts: dict[str, int]
    cards: dict[str, Any] | None


def render(records: Sequence[StudyRecord]) -> str:
    """One self-contained HTML page for one or more studies, finished or not."""
    return document(
        "page.html.j2",
        ", ".join(record.name for record in records) or "no study",
        pages=study_pages([Analysis(record) for record in records]),
    )


def study_pages(analyses: Sequence[Analysis]) -> list[StudyPage]:
    """What the template shows of each study."""
    return [_study_page(analysis, f"study-{i}") for i, analysis in enumerate(analyses, 1)]


def document(
    template: str,
    title: str,
    *,
    styles: Sequence[str] = STYLES,
    scripts: Sequence[str] = SCRIPTS,
    **content: Any,
) -> str:
    """A self-contained HTML document of one of our templates, in these styles, with these scripts and no other."""
    texts = [_script(path) for path in scripts]
    opening = _script("templates/opening.js") if scripts == SCRIPTS else ""
    found: str = (
        _templates()
        .get_template(template)
        .render(
            title=title,
            style=Markup("\n".join(map(_template, styles))),
            scripts=[Markup(text) for text in texts],
            opening=Markup(opening),
            policy=_policy(*texts, *filter(None, [opening])),
            data=PageData(),
            **content,
        )
    )
    return found


def write_document(content: str, path: Path) -> Path:
    """Write a page to a file, atomically: a reader sees the old page or the new one. Returns the path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, content.encode("utf-8", errors="backslashreplace"))
    return path


def is_report(path: Path) -> bool:
    """Whether a file is a page of ours, in this version or an earlier one."""
    try:
        with path.open("rb") as stream:
            return MARK in stream.read(LONGEST_HEAD)
    except OSError:
        return False


def asset(path: str) -> str:
    """One of the files that pages are made of."""
    return (files("depth_loss_sweep.reports") / path).read_text(encoding="utf-8")


def _script(path: str) -> str:
    """A script as pages have it: of our own without indentation and lines of comment, which are a seventh of them."""
    return asset(path) if path.startswith("vendor/") else re.sub(r"(?m)^ *(//.*\n)?", "", asset(path))


def _template(name: str) -> str:
    return asset(f"templates/{name}")


@cache
def _templates() -> Environment:
    environment = Environment(
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        loader=FunctionLoader(_template),
    )
    own: dict[str, Any] = {
        "number": number,
        "counted": counted,
        "short": short,
        "metres": metres,
        "readable": readable,
        "sentence": sentence,
        "download": download,
    }
    environment.filters |= own
    environment.globals["amount"] = wording.amount
    environment.tests["finite"] = math.isfinite
    return environment


def script_source(script: str) -> str:
    """A script as a content security policy names it."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"


def _policy(*scripts: str) -> str:
    """A content security policy that runs these scripts and no other, and lets nothing be fetched.

    Styles must stay open: plotly writes its own.
    """
    allowed = " ".join(map(script_source, scripts))
    return (
        f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'; img-src data: blob:; "
        "base-uri 'none'; form-action 'none'"
    )


def _study_page(analysis: Analysis, anchor: str) -> StudyPage:
    opening, along = hero(analysis, anchor), slider(analysis)
    return StudyPage(
        anchor=anchor,
        analysis=analysis,
        answer=summary.answer(analysis),
        recipe=named_weights(analysis),
        is_advice=wording.is_advice(analysis.decision),
        objective=summary.objective_sentence(analysis),
        overview=overview(analysis),
        hero=opening,
        still=still(analysis, opening) if opening else Markup(""),
        sections=study_sections(analysis, anchor),
        reach=reach_of(analysis),
        samples=sample_panels(analysis, along.scale if along else None),
        slider=along,
        trials=trial_table(analysis),
        standings=wording.standings_mean(analysis.decision, [t.number for t in analysis.trials]),
        runs=run_table(analysis),
        baselines=baseline_table(analysis),
        raced=raced_table(analysis),
        confirmed=confirmed_table(analysis),
        counts=_counts(analysis),
        cards=None if analysis.record.epochs.empty else study_cards(analysis),
    )


def named_weights(analysis: Analysis) -> tuple[NamedWeight, ...]:
    """The weights of the named trial; none where the decision names none."""
    named, names, colours = analysis.named, analysis.term_names, term_colours(analysis.term_names)
    if named is None:
        return ()
    return tuple(NamedWeight(names[t], weight, colours[t]) for t, weight in named.weights.items() if weight > 0)


def reach_of(analysis: Analysis, most: int | None = None) -> float:
    """How far from zero the little drawings of the first `most` references' intervals go; one that tells nothing goes beyond."""
    ends = [end for r in analysis.references[:most] for end in (r.contrast.low, r.contrast.high)]
    return reach_of_ends(ends, wording.MOST_PERCENT / 100 if analysis.decision.is_relative else math.inf)


def _counts(analysis: Analysis) -> dict[str, int]:
    record, runs = analysis.record, analysis.record.runs
    return {
        "trials": len(record.trials),
        "trials_done": int(record.trials["state"].isin(["complete", "pruned"]).sum()),
        "runs": max(len(runs), len(record.trials) * len(record.seeds)),
        "runs_done": int((runs["state"] == "finished").sum()),
        "broken": analysis.breakage.broken,
        "failed": int((runs["state"] == "failed").sum()),
        "pruned": int((record.trials["state"] == "pruned").sum()),
        "seeds": len(record.seeds),
        "most_seeds": max(len(record.seeds), *(len(t.seeds) for t in analysis.trials if record.stages), 0),
    }


# Tables


def baseline_table(analysis: Analysis) -> Table:
    """The trivial predictors on every split, in the measures that matter most."""
    record = analysis.record
    splits = [s for s in ("train", "val", "test") if record.baselines.get(s)]
    wanted = dict.fromkeys((analysis.ranking.column, "metric_rmse", "metric_abs_rel", "metric_delta1", "metric_silog"))
    rows = []
    for measure in map(analysis.measure, wanted):
        for name in sorted({n for s in splits for n in record.baselines[s]}):
            values = [analysis.baselines(measure, s).get(name, math.nan) for s in splits]
            if any(math.isfinite(v) for v in values):
                label = record.predictors.get(name, name)
                rows.append((Cell(measure.axis, measure.axis), Cell(label, label), *(numeric(v) for v in values)))
    return Table(("measure", "predictor", *splits), tuple(rows))


def confirmed_table(analysis: Analysis) -> Table | None:
    """Every candidate under fresh seeds, the quoted one named; None where nothing was confirmed."""
    confirmation, measure = analysis.confirmation, analysis.ranking
    if confirmation is None:
        return None
    value = f"{confirmation.part} {measure.axis}"
    over = f"gain over equal ({measure.unit})" if measure.unit in WRITTEN_UNITS else "gain over equal"
    columns = ("candidate", "", "made of", value, "95 %", over, "95 %", "gain (%)", "broke")
    rows = (_confirmed_cells(row, analysis, row.candidate.name == confirmation.quoted) for row in confirmation.rows)
    of = [row.candidate.trial for row in confirmation.rows]
    return Table((*columns, "cost to find"), tuple(rows), of=of)


def _confirmed_cells(row: Confirmed, analysis: Analysis, is_quoted: bool) -> tuple[Cell, ...]:
    candidate, gain = row.candidate, row.gain
    name = ", ".join(dict.fromkeys((candidate.name, *candidate.roles)))
    cost = cost_to_find(candidate, analysis.cost.finding)
    return (
        Cell(name, name, "wrap"),
        Cell("quoted" if is_quoted else "", 0 if is_quoted else 1, "good" if is_quoted else "quiet"),
        Cell(analysis.recipe(candidate.weights, candidate.fields), "", "wrap"),
        numeric(math.nan if row.mean is None else row.mean),
        between(row.low, row.high),
        numeric(gain.mean if gain else math.nan, rough(gain.mean) if gain else None),
        between(gain.low, gain.high, rough) if gain else between(None, None),
        numeric(100 * gain.share, rough(100 * gain.share)) if gain and gain.share is not None else numeric(math.nan),
        Cell(broken_cell(row), row.broken),
        Cell(cost, cost),
    )


def download(text: str) -> str:
    """A text as the address of a link that saves it: it is in the page, so nothing is fetched."""
    return f"data:application/toml;base64,{base64.b64encode(text.encode(errors='backslashreplace')).decode()}"


def sentence(text: str) -> str:
    """A text as a sentence begins."""
    return text[:1].upper() + text[1:]


def readable(value: Any) -> str:
    """A leaf of the data, environment or spec tables as text."""
    if isinstance(value, float):
        return short(value)
    return value if isinstance(value, str) else json.dumps(value, default=str, ensure_ascii=False)
