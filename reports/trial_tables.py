"""The tables of a study's trials and of its runs: all that is known of each, part of it behind a menu of columns."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from depth_loss_sweep.reports import wording
from depth_loss_sweep.reports.analysis import Analysis
from depth_loss_sweep.reports.decision import Decision
from depth_loss_sweep.reports.measures import rough, short
from depth_loss_sweep.reports.naming import is_number, written
from depth_loss_sweep.reports.tables import Cell, Table, between, numeric
from depth_loss_sweep.reports.trials import TrialResult

# Trials


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
    terms, swept = analysis.terms, _swept(results)
    told = [Counter(analysis.endings.get(s.run, s.outcome) for s in t.seeds) for t in order]
    endings = sorted({ending for counts in told for ending in counts})
    rows = []
    for trial, counts in zip(order, told, strict=True):
        interval, cells = trial.interval, (_setting(trial.params[name]) for name in swept)
        said = ", ".join(f"{n} {name.replace('_', '-')}" for name, n in counts.most_common())
        asked = max(trial.expected, interval.n)
        rows.append((
            numeric(trial.number, str(trial.number)),
            _verdict(trial, analysis.decision),
            *cells,
            *(numeric(trial.weights[t], short(trial.weights[t])) for t in terms),
            numeric(interval.mean),
            numeric(interval.standard_error, rough(interval.standard_error)),
            between(interval.low, interval.high),
            Cell(f"{interval.n} of {asked}", interval.n, "number", {"": interval.n, " of": asked}),
            Cell(said or "–", trial.broken, "", {f" {ending}": counts[ending] for ending in endings}),
            Cell(trial.state, trial.state),
        ))  # fmt: skip
    value_columns = (f"mean {measure.axis}", "± s.e.", "95 % interval", "n", "outcomes", "state")
    return Table(("trial", "verdict", *swept, *(analysis.term_names[t] for t in terms), *value_columns), tuple(rows))


def _swept(results: Sequence[TrialResult]) -> tuple[str, ...]:
    """The swept variables, but for those that are a weight themselves, as on a simplex."""
    names = results[0].params if results else {}
    return tuple(n for n in names if not all(n in t.weights and t.weights[n] == t.params[n] for t in results))


def _setting(value: Any) -> Cell:
    """A swept value."""
    return numeric(float(value), written(value)) if is_number(value) else Cell(written(value), written(value))


def _verdict(trial: TrialResult, decision: Decision) -> Cell:
    if trial.number == decision.trial:
        return Cell(wording.verdict(decision), 0, "good" if wording.is_recommended(decision) else "quiet")
    said = wording.standing(trial.number, decision)
    if not said:
        return Cell("", len(wording.STANDINGS), "quiet")
    is_plain = "best" in said or "worse" in said
    return Cell(said.format(decision.trial), 1 + [*wording.STANDINGS].index(said), "" if is_plain else "quiet")


# Runs

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
    """Every run: how it ended and what it took; behind the menu what it is made of, and each measure."""
    measure, record = analysis.ranking, analysis.record
    finals = analysis.final_values(measure.column)
    columns = (*RUN_COLUMNS[:4], f"val {measure.axis}", *RUN_COLUMNS[4:])
    rows = record.runs.sort_values(["trial", "seed"]).to_dict("records") if len(record.runs) else []
    runs = [str(row["run"]) for row in rows]
    trials = {t.number: t for t in analysis.trials}
    own = [trials[int(row["trial"])] for row in rows]
    further: dict[str, Sequence[Any]] = {
        name: _values([t.params[name] for t in own]) for name in _swept(analysis.trials)
    }
    further |= {analysis.term_names[t]: [trial.weights[t] for trial in own] for t in analysis.terms}
    for other in (*analysis.measured_terms, *analysis.measured_metrics):
        if other != measure:
            values = analysis.final_values(other.column)
            further[f"val {other.axis}"] = [values.get(run, math.nan) for run in runs]
    cells = (_run_cells(row, finals.get(run, math.nan), analysis.endings) for row, run in zip(rows, runs, strict=True))
    return Table(columns, tuple(cells), further)


def _values(values: Sequence[Any]) -> Sequence[Any]:
    """Swept values as a column: numbers, or texts where any is none."""
    return [float(v) for v in values] if all(map(is_number, values)) else [written(v) for v in values]


def _run_cells(row: Mapping[Any, Any], final: float, endings: Mapping[str, str]) -> tuple[Cell, ...]:
    text = {key: _text(row[key]) for key in ("state", "outcome", "device", "reason", "run")}
    device = text["device"] + (" (mixed)" if _is_true(row["mixed"]) else "")
    is_finished = text["state"] == "finished"
    told = endings[text["run"]] if is_finished else text["outcome"]
    return (
        *(numeric(_float(row[key]), _integer(row[key])) for key in ("trial", "seed")),
        Cell(text["state"], text["state"]),
        Cell(
            told.replace("_", "-"),
            told,
            f"outcome {told if is_finished else text['state']}",
            {"": text["outcome"], " told": told},
        ),
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
