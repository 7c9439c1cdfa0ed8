"""Study records in, one HTML file out: it opens offline, asks nobody for anything, and runs only its own script.

from depth_loss_sweep.reports.page import render, write_document
write_document(render([record]), Path("report.html"))
"""

import base64
import hashlib
import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import pandas as pd
from jinja2 import Environment, FunctionLoader, StrictUndefined
from markupsafe import Markup

from depth_loss_sweep.files import write_whole
from depth_loss_sweep.reports import summary, wording
from depth_loss_sweep.reports.analysis import Analysis
from depth_loss_sweep.reports.charts import term_colours
from depth_loss_sweep.reports.confirmation import Confirmed
from depth_loss_sweep.reports.contrasts import Reference
from depth_loss_sweep.reports.decision import Decision
from depth_loss_sweep.reports.hero import hero, still
from depth_loss_sweep.reports.layout import Section
from depth_loss_sweep.reports.measures import WRITTEN_UNITS, number, rough, short
from depth_loss_sweep.reports.naming import beside_weights, is_number, written
from depth_loss_sweep.reports.overview import Overview, overview
from depth_loss_sweep.reports.page_data import PageData
from depth_loss_sweep.reports.quotes import broken_cell, cost_to_find
from depth_loss_sweep.reports.records import StudyRecord
from depth_loss_sweep.reports.run_cards import study_cards
from depth_loss_sweep.reports.samples import Samples, sample_panels
from depth_loss_sweep.reports.sections import study_sections
from depth_loss_sweep.reports.slider import Slider, slider
from depth_loss_sweep.reports.tables import Cell, Table, between, numeric
from depth_loss_sweep.reports.trials import TrialResult
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
    objective: str
    overview: Overview
    hero: Section | None
    still: Markup
    sections: tuple[Section, ...]
    reach: float
    samples: Samples | None
    slider: Slider | None
    trials: Table
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
    texts = [asset(path) for path in scripts]
    found: str = (
        _templates()
        .get_template(template)
        .render(
            title=title,
            style=Markup("\n".join(map(_template, styles))),
            scripts=[Markup(text) for text in texts],
            policy=_policy(*texts),
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
        "rough": rough,
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
    opening = hero(analysis, anchor)
    return StudyPage(
        anchor=anchor,
        analysis=analysis,
        answer=summary.answer(analysis),
        recipe=named_weights(analysis),
        objective=summary.objective_sentence(analysis),
        overview=overview(analysis),
        hero=opening,
        still=still(analysis, opening) if opening else Markup(""),
        sections=study_sections(analysis, anchor),
        reach=_reach(analysis.references),
        samples=sample_panels(analysis),
        slider=slider(analysis),
        trials=trial_table(analysis),
        runs=run_table(analysis),
        baselines=baseline_table(analysis),
        raced=raced_table(analysis),
        confirmed=confirmed_table(analysis),
        counts=_counts(analysis),
        cards=None if analysis.record.epochs.empty else study_cards(analysis),
    )


def named_weights(analysis: Analysis) -> tuple[NamedWeight, ...]:
    """The weights to use; none where the decision doesn't go so far."""
    named, names, colours = analysis.named, analysis.term_names, term_colours(analysis.term_names)
    if named is None or analysis.decision.state not in ("use", "equivalent"):
        return ()
    return tuple(NamedWeight(names[t], weight, colours[t]) for t, weight in named.weights.items() if weight > 0)


def _reach(references: Sequence[Reference]) -> float:
    """The largest distance from zero that the contrasts' little interval drawings have to show."""
    ends = [abs(v) for r in references for v in (r.contrast.low, r.contrast.high)]
    return max(ends, default=1.0) or 1.0


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


def trial_table(analysis: Analysis) -> Table:
    """Every trial: what it is made of, mean over its seeds, standard error, interval, outcomes, best first."""
    return _trial_table(analysis, analysis.trials)


def raced_table(analysis: Analysis) -> Table | None:
    """The same of a search's best under the fresh seeds of their race; None where none is begun."""
    finals = analysis.record.finals
    return _trial_table(analysis, finals.trials) if finals and any(t.seeds for t in finals.trials) else None


def _trial_table(analysis: Analysis, results: Sequence[TrialResult]) -> Table:
    measure = analysis.ranking
    sign = -1 if measure.higher_is_better else 1
    order = sorted(results, key=lambda t: (not t.is_complete, sign * t.mean if not math.isnan(t.mean) else math.inf))
    terms, swept = analysis.terms, tuple(beside_weights(results[0].params)) if results else ()
    value_columns = (f"mean {measure.axis}", "± s.e.", "95 % interval", "n", "outcomes", "state")
    rows = (_trial_cells(t, terms, swept, _verdict(t, analysis.decision), analysis.endings) for t in order)
    return Table(("trial", "verdict", *swept, *(analysis.term_names[t] for t in terms), *value_columns), tuple(rows))


def _trial_cells(
    trial: TrialResult, terms: Sequence[str], swept: Sequence[str], verdict: Cell, endings: Mapping[str, str]
) -> tuple[Cell, ...]:
    interval = trial.interval
    outcomes = ", ".join(
        f"{n} {name.replace('_', '-')}"
        for name, n in Counter(endings.get(s.run, s.outcome) for s in trial.seeds).most_common()
    )
    return (
        numeric(trial.number, str(trial.number)),
        verdict,
        *(_swept(trial.params[name]) for name in swept),
        *(numeric(trial.weights[t], short(trial.weights[t])) for t in terms),
        numeric(interval.mean),
        numeric(interval.standard_error, rough(interval.standard_error)),
        between(interval.low, interval.high),
        numeric(interval.n, f"{interval.n} of {max(trial.expected, interval.n)}"),
        Cell(outcomes or "–", trial.broken),
        Cell(trial.state, trial.state),
    )


def _swept(value: Any) -> Cell:
    """A swept value that is no weight."""
    return numeric(float(value), written(value)) if is_number(value) else Cell(written(value), written(value))


def _verdict(trial: TrialResult, decision: Decision) -> Cell:
    if trial.number == decision.trial:
        return Cell(wording.verdict(decision), 0, "good" if decision.state == "use" else "quiet")
    if trial.number not in decision.compared:
        return Cell("not compared", 4, "quiet")
    if any(c.is_worse for c in decision.contrasts if c.trial == trial.number):
        return Cell("worse", 3)
    if any(d.trial == trial.number for d in (decision.race.dropped if decision.race else ())):
        return Cell("dropped", 2, "quiet")
    return Cell("may be best", 1) if trial.number in decision.kept else Cell("", 2, "quiet")


RUN_COLUMNS = (
    "trial",
    "seed",
    "state",
    "outcome",
    "epochs",
    "attempts",
    "seconds",
    "images/s",
    "device",
    "reason",
    "run",
)


def run_table(analysis: Analysis) -> Table:
    """Every run: how it ended and what it took."""
    measure, record = analysis.ranking, analysis.record
    finals = analysis.final_values(measure.column)
    columns = (*RUN_COLUMNS[:4], f"val {measure.axis}", *RUN_COLUMNS[4:])
    rows = record.runs.sort_values(["trial", "seed"]).to_dict("records") if len(record.runs) else []
    told = [
        {**row, "outcome": analysis.endings[str(row["run"])]} if row["state"] == "finished" else row for row in rows
    ]
    runs = [str(row["run"]) for row in rows]
    further = {}
    for other in (*analysis.measured_terms, *analysis.measured_metrics):
        if other != measure:
            values = analysis.final_values(other.column)
            further[f"val {other.axis}"] = [values.get(run, math.nan) for run in runs]
    return Table(columns, tuple(_run_cells(row, finals.get(str(row["run"]), math.nan)) for row in told), further)


def _run_cells(row: Mapping[Any, Any], final: float) -> tuple[Cell, ...]:
    text = {key: _text(row[key]) for key in ("state", "outcome", "device", "reason", "run")}
    device = text["device"] + (" (mixed)" if _is_true(row["mixed"]) else "")
    outcome = text["outcome"] if text["state"] == "finished" else text["state"]
    return (
        *(numeric(_float(row[key]), _integer(row[key])) for key in ("trial", "seed")),
        Cell(text["state"], text["state"]),
        Cell(text["outcome"].replace("_", "-"), text["outcome"], f"outcome {outcome}"),
        numeric(final),
        *(numeric(_float(row[key]), _integer(row[key])) for key in ("epochs", "attempts")),
        *(numeric(_float(row[key])) for key in ("seconds", "images_per_second")),
        Cell(device, device),
        Cell(text["reason"], text["reason"], "long"),
        Cell(text["run"][:12], text["run"], "code"),
    )


def _is_true(value: object) -> bool:
    return isinstance(value, bool | int) and bool(value) if not pd.isna(value) else False  # type: ignore[call-overload]


def _text(value: Any) -> str:
    return "" if value is None or (isinstance(value, float) and math.isnan(value)) else str(value)


def _float(value: Any) -> float:
    return math.nan if value is None else float(value)


def _integer(value: Any) -> str:
    return "–" if math.isnan(_float(value)) else str(int(value))


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
    return Table((*columns, "cost to find"), tuple(rows))


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
