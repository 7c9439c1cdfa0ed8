"""What was confirmed, as a table or as JSON: what sweep confirm prints."""

from typing import TYPE_CHECKING

from depth_loss_sweep.cli.printing import print_json
from depth_loss_sweep.reports.measures import Measure, number, rough

if TYPE_CHECKING:
    from depth_loss_sweep.reports.confirmation import Confirmation, Confirmed
    from depth_loss_sweep.reports.cost import Cost
    from depth_loss_sweep.store import Store


def print_confirmation(store: "Store", name: str, as_json: bool) -> None:
    """Print a study's confirmation: every candidate's level, gain and breaks, and which is quoted."""
    from depth_loss_sweep.answer import study_decision, study_headline, study_measure
    from depth_loss_sweep.costs import study_cost
    from depth_loss_sweep.reports.quotes import quote, remarks
    from depth_loss_sweep.spec_file import stored_spec

    row = store.require(name)
    spec = stored_spec(row, store.shown_url)
    answer, measure = study_decision(store, row, spec), study_measure(spec)
    if answer.confirmation is None:
        return
    said, cost = quote(answer.confirmation, measure), study_cost(store, name)
    headline = study_headline(answer.decision, answer.named, spec)
    if as_json:
        told = {"study": name, "headline": headline, "confirmed": said, "cost": cost.as_dict()}
        print_json({**told, **answer.confirmation.as_dict()})
        return
    lines = [headline, *table(answer.confirmation, measure, cost.finding), said, *remarks(answer.confirmation)]
    print("\n".join([*lines, *([f"Cost: {cost.text}."] if cost.text else [])]))


def table(confirmation: "Confirmation", measure: Measure, finding: "Cost") -> list[str]:
    """A line a candidate, with what `finding` those of the study cost; the one that is quoted is marked."""
    unit = f" ({measure.unit})" if measure.unit == "m" else ""
    head = (
        "",
        "candidate",
        "n",
        f"{confirmation.part} {measure.label}{unit}",
        "95 %",
        f"gain over equal{unit}",
        "95 %",
        "%",
        "broke",
        "cost to find",
        "weights",
    )
    rows = [head, *(_cells(row, row.candidate.name == confirmation.quoted, finding) for row in confirmation.rows)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def _cells(row: "Confirmed", is_quoted: bool, finding: "Cost") -> tuple[str, ...]:
    from depth_loss_sweep.reports.quotes import as_in_specs, broken_cell, cost_to_find

    roles = ", ".join(role for role in row.candidate.roles if role != row.candidate.name)
    name = f"{row.candidate.name} ({roles})" if roles else row.candidate.name
    gain = row.gain
    return (
        "*" if is_quoted else "",
        name,
        str(row.runs),
        "-" if row.mean is None else number(row.mean),
        _interval(row.low, row.high),
        rough(gain.mean) if gain else "-",
        _interval(gain.low, gain.high, rough) if gain else "-",
        f"{100 * gain.share:.2g}" if gain and gain.share is not None else "-",
        broken_cell(row),
        cost_to_find(row.candidate, finding),
        as_in_specs(row.candidate),
    )


def _interval(low: float | None, high: float | None, write=number) -> str:  # type: ignore[no-untyped-def]
    return "-" if low is None or high is None else f"{write(low)} to {write(high)}"
