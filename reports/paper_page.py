"""The page of a group of studies: the paper's claims with what came of them, then each of the paper's figures with what was trained.

from depth_loss_sweep.reports.paper_page import render_paper
page = render_paper("paper-small", records, (), Made(command="sweep paper"))
"""

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

from depth_loss_sweep.reports.claims import LOOKS
from depth_loss_sweep.reports.comparisons import LEVEL
from depth_loss_sweep.reports.dose import ONSET
from depth_loss_sweep.reports.evidence import Evidence, Member
from depth_loss_sweep.reports.exhibits import EXHIBITS, Exhibit
from depth_loss_sweep.reports.experiments import MARGIN, ONSET_WITHIN
from depth_loss_sweep.reports.findings import (
    GAINS_MEAN,
    PAPER,
    VERDICTS_MEAN,
    Account,
    Effect,
    Told,
    account,
    environment,
    pictures,
)
from depth_loss_sweep.reports.findings_text import Made
from depth_loss_sweep.reports.layout import Figure
from depth_loss_sweep.reports.measures import short
from depth_loss_sweep.reports.page import Cell, Table, confirmed_table, document
from depth_loss_sweep.reports.records import StudyRecord

MARKS = {
    "supported": "✓",
    "contradicted": "✕",
    "undecided": "?",
    "undecided so far": "…",
    "not measured yet": "·",
    "not testable here": "–",
}
"""What a verdict looks like, beside its word and its colour."""

ARROWS = {"left": "M6 4L1 9L6 14", "right": "M174 4L179 9L174 14"}
"""The end of an interval that lies beyond its drawing, in units of that."""


@dataclass(frozen=True)
class Drawing:
    """An interval drawn small: places from 0 (left) to 1 of its ends and its effect, and of the marks that it is held against."""

    low: float
    high: float
    effect: float
    marks: tuple[float, ...]
    arrows: tuple[str, ...]
    """Paths at the ends that lie beyond."""


@dataclass(frozen=True)
class Row:
    """A claim as the page shows it: its sign, the name of its colour, and its effects drawn."""

    told: Told
    mark: str
    kind: str
    effects: tuple[tuple[Effect, Drawing | None], ...]
    principal: tuple[Effect, Drawing | None] | None


@dataclass(frozen=True)
class Part:
    """One of the paper's figures or tables with its claims, our figures and the studies behind them."""

    exhibit: Exhibit
    rows: tuple[Row, ...]
    figures: tuple[Figure, ...]
    studies: Table
    confirmed: Table | None


def render_paper(name: str, records: Mapping[str, StudyRecord], only: Collection[str], made: Made) -> str:
    """One self-contained HTML page of a group, finished or not, from its studies' records by their members' keys."""
    found = account(name, records, only)
    rows = {told.claim.number: claim_row(told) for told in found.told}
    parts = tuple(_part(exhibit, rows, found.evidence) for exhibit in EXHIBITS)
    return document(
        "paper.html.j2",
        name,
        account=found,
        made=made,
        parts=parts,
        rows=[row for row in rows.values() if not row.told.claim.is_ours],
        ours=[row for row in rows.values() if row.told.claim.is_ours],
        studies=_all_studies(found),
        pictures=pictures(found),
        versions=sorted({record.version for record in records.values() if record.version}),
        is_unfinished=any(t.judged.finding.is_open and (not only or t.claim.number in only) for t in found.told),
        level=LEVEL,
        margin=MARGIN,
        paper=PAPER,
        verdicts_mean=VERDICTS_MEAN,
        gains_mean=GAINS_MEAN,
    )


# Claims


def claim_row(told: Told) -> Row:
    """A claim as it is shown."""
    effects = tuple((effect, _drawing(effect)) for effect in told.effects)
    principal = next((pair for pair in effects if pair[0] is told.principal), None)
    kind = told.verdict.split()[0] if told.verdict != "not testable here" else "untestable"
    return Row(told, MARKS[told.verdict], kind, effects, principal)


def _drawing(effect: Effect) -> Drawing | None:
    """An interval on its unit's axis; ends beyond it stop there, at an arrow. None where there is no effect to draw."""
    estimate, unit = effect.estimate, effect.statement.unit
    values = [estimate.low, estimate.high, estimate.effect]
    if any(map(math.isnan, values)):
        return None
    marks: tuple[float, ...] = (0.0, -MARGIN, MARGIN)
    if unit == "odds":
        values, marks = [math.log(v) if v > 0 else -math.inf for v in values], (0.0,)
    left, right = {"weight": (0.0, 1.5), "probability": (0.0, 1.0)}.get(unit) or _around(values, marks)
    if unit == "R²":
        left, right, marks = min(0.98, *filter(math.isfinite, values)), 1.0, (0.99,)
    marks = {"weight": ONSET_WITHIN, "probability": (ONSET,)}.get(unit, marks)
    return drawn(values, (left, right), marks)


def drawn(values: Sequence[float], axis: tuple[float, float], marks: Sequence[float]) -> Drawing:
    """Both ends of an interval and its effect on an axis from its left to its right end, beside marks."""
    left, right = axis
    low, high, middle = (min(1.0, max(0.0, (v - left) / (right - left))) for v in values)
    arrows = tuple(
        ARROWS[side] for side, is_cut in (("left", values[0] < left), ("right", values[1] > right)) if is_cut
    )
    return Drawing(low, high, middle, tuple((m - left) / (right - left) for m in marks), arrows)


def _around(values: Sequence[float], marks: Sequence[float]) -> tuple[float, float]:
    reach = 1.1 * max(abs(v) for v in (*values, *marks) if math.isfinite(v)) or 1.0
    return -reach, reach


# The paper's figures


def _part(exhibit: Exhibit, rows: Mapping[str, Row], evidence: Evidence) -> Part:
    own = tuple(rows[number] for number in exhibit.claims)
    figures = tuple(
        replace(figure, anchor=f"{exhibit.anchor}-{figure.anchor}") for figure in exhibit.drawn(evidence) if figure
    )
    confirmed = evidence.analyses.get("eq-12") if "H5" in exhibit.claims else None
    return Part(exhibit, own, figures, _studies(own, evidence), confirmed_table(confirmed) if confirmed else None)


STUDY_COLUMNS = ("study", "preset", "what differs", "seeds", "runs done", "trained in")


def _studies(rows: Sequence[Row], evidence: Evidence) -> Table:
    """The studies that claims rest on, those to come included."""
    asked = {m.key: m for row in rows for m in row.told.claim.members(evidence, LOOKS[0])}
    return Table(STUDY_COLUMNS, tuple(_study_cells(key, member, evidence) for key, member in asked.items()))


def _all_studies(found: Account) -> Table:
    known = {m.key: m for told in found.told for m in told.claim.members(found.evidence, LOOKS[0])}
    keys = [*(key for key in known if key in found.records), *(key for key in found.records if key not in known)]
    return Table(STUDY_COLUMNS, tuple(_study_cells(key, known.get(key), found.evidence) for key in keys))


def _study_cells(key: str, member: Member | None, evidence: Evidence) -> tuple[Cell, ...]:
    record = evidence.analyses[key].record if key in evidence.analyses else None
    differs = ", ".join(f"{name} = {_said(value)}" for name, value in member.overrides.items()) if member else ""
    if member and member.size != 1:
        differs = f"{differs}, {member.size} times the side"
    planned = len(record.trials) * len(record.seeds) if record else 0
    done = int((record.runs["state"] == "finished").sum()) if record else 0
    seeds = len(record.seeds) if record else 0
    where = "; ".join(map(environment, sorted(evidence.environments.get(key, ()))))
    return (
        Cell(key, key, "wrap"),
        Cell(member.preset if member else "–", member.preset if member else ""),
        Cell(differs or "–", differs, "wrap"),
        Cell(str(seeds) if record else "–", seeds, "number"),
        Cell(f"{done} of {max(planned, done)}" if record else "not trained yet", done, "number"),
        Cell(where or "–", where, "wrap"),
    )


def _said(value: object) -> str:
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_said, value))}]"
    return short(value) if isinstance(value, float) else str(value)
