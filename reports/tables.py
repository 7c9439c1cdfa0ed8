"""What tables of the page are made of, and those of how training broke."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from depth_loss_sweep.reports.analysis import Analysis
from depth_loss_sweep.reports.front import Front, FrontTrial
from depth_loss_sweep.reports.instability import BreakRate, BrokenRun, Proportion
from depth_loss_sweep.reports.measures import NO_BREAK, Measure, number, percent, rough, short

UNKNOWN = "not measured"


@dataclass(frozen=True)
class Cell:
    """A table's cell: its text, what it is sorted by, and how it is set.

    Saved is a number's or text's own value, or, of a text that holds several, `values`: what stands behind the column's name -> value.
    """

    text: str
    sort: float | str
    kind: str = ""
    values: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Table:
    """A sortable table; `further` are columns of numbers or texts that a menu can add, `of` says which trial each row is of where no
    column does.
    """

    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    further: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    of: Sequence[int | None] = ()

    @property
    def trials(self) -> Sequence[int | None]:
        """The trial that each row is of; None where it is of none."""
        if "trial" not in self.columns:
            return self.of or [None] * len(self.rows)
        column = self.columns.index("trial")
        return [int(row[column].sort) if row[column].sort != "" else None for row in self.rows]


def numeric(value: float, text: str | None = None) -> Cell:
    """A number's cell; missing numbers sort last whichever way they are written."""
    known = value is not None and not math.isnan(value)
    return Cell(_signed(number(value) if text is None else text), float(value) if known else "", "number")


def between(low: float | None, high: float | None, write: Callable[[float], str] = number) -> Cell:
    """An interval's cell; empty where it has no ends."""
    if low is None or high is None or not math.isfinite(low):
        return Cell("–", "", "number", {" low": math.nan, " high": math.nan})
    return Cell(_signed(f"{write(low)} to {write(high)}"), low, "number", {" low": low, " high": high})


def _signed(text: str) -> str:
    return text.replace("-", "−")


def number_table(analysis: Analysis, measures: Sequence[Measure]) -> Table:
    """The first trial's final validation values, a measure a row, beside those of the trivial predictors."""
    predictors = analysis.record.predictors
    columns = ("measure", "mean", "± s.e.", "95 % interval", "n", *predictors.values())
    return Table(columns, tuple(_number_cells(analysis, m) for m in measures if analysis.results(m)[0].values))


def _number_cells(analysis: Analysis, measure: Measure) -> tuple[Cell, ...]:
    interval = analysis.results(measure)[0].interval
    trivial = analysis.baselines(measure) if measure.is_comparable else {}
    return (
        Cell(measure.axis, measure.axis),
        numeric(interval.mean),
        numeric(interval.standard_error, rough(interval.standard_error)),
        between(interval.low, interval.high),
        numeric(interval.n, str(interval.n)),
        *(numeric(trivial.get(name, math.nan)) for name in analysis.record.predictors),
    )


def front_table(analysis: Analysis, front: Front) -> Table:
    """The trials that may be on the front, those that are first: both values, and how often resampled seeds put them there."""
    labels = {t.number: t.label for t in analysis.trials}
    heads = [
        head
        for measure in analysis.objectives
        for head in (f"mean {measure.axis}", f"95 % interval of {measure.label}")
    ]
    columns = ("trial", "weights", "", *heads, "on the front (%)", "knee (%)")
    order = sorted(front.candidates, key=lambda t: not t.is_on_front)
    return Table(columns, tuple(_front_cells(t, labels[t.trial], t.trial == front.knee) for t in order))


def _front_cells(trial: FrontTrial, label: str, is_knee: bool) -> tuple[Cell, ...]:
    place = (0, "knee") if is_knee else (1, "on the front") if trial.is_on_front else (2, "may be on it")
    levels = zip(trial.means, trial.lows, trial.highs, strict=True)
    shares = (math.nan if share is None else 100 * share for share in (trial.front_share, trial.knee_share))
    return (
        numeric(trial.trial, str(trial.trial)),
        Cell(label, label, "wrap"),
        Cell(place[1], place[0], "quiet" if place[0] else ""),
        *(cell for mean, low, high in levels for cell in (numeric(mean), between(low, high))),
        *(numeric(share, "–" if math.isnan(share) else f"{share:.0f}") for share in shares),
    )


def broken_table(analysis: Analysis) -> Table:
    """Every broken run: how it broke, when, and which term that was or which one led."""
    labels = {t.number: t.label for t in analysis.trials}
    columns = (
        "trial",
        "weights",
        "seed",
        "broke",
        "onset epoch",
        "step",
        "first not finite",
        "largest share of the gradient",
    )
    return Table(columns, tuple(_broken_cells(run, labels[run.trial], analysis) for run in analysis.instability.runs))


def _broken_cells(run: BrokenRun, label: str, analysis: Analysis) -> tuple[Cell, ...]:
    term = analysis.term_names.get(run.term, run.term) if run.term else "–"
    leading, share = "–", math.nan
    if run.leading_term is not None and run.leading_share is not None:
        share = run.leading_share
        leading = f"{analysis.term_names.get(run.leading_term, run.leading_term)} {percent(run.leading_share)}"
    return (
        numeric(run.trial, str(run.trial)),
        Cell(label, label, "wrap"),
        numeric(run.seed, str(run.seed)),
        Cell(run.kind.replace("_", "-"), run.kind, f"outcome {run.kind}"),
        numeric(math.nan, UNKNOWN) if run.epoch is None else numeric(run.epoch, str(run.epoch)),
        numeric(math.nan) if run.step is None else numeric(run.step, str(run.step)),
        Cell(term, run.term or ""),
        Cell(leading, "" if math.isnan(share) else share, "", {"": run.leading_term or "", " share": share}),
    )


def rate_table(analysis: Analysis) -> Table:
    """The trials under which a run broke: how many, in which way, and when."""
    kinds = analysis.broken_kinds
    trials = {t.number: t for t in analysis.trials}
    heads = ("broke", *(kind.replace("_", "-") for kind in kinds))
    columns = ("trial", "weights", *heads, "median onset epoch", "first to last", "onsets measured")
    rows = (r for r in analysis.instability.rates if r.broken.count)
    return Table(columns, tuple(_rate_cells(rate, trials[rate.trial].label, kinds) for rate in rows))


def _rate_cells(rate: BreakRate, label: str, kinds: tuple[str, ...]) -> tuple[Cell, ...]:
    onsets = rate.onsets
    measured = onsets.measured if onsets else 0
    return (
        numeric(rate.trial, str(rate.trial)),
        Cell(label, label, "wrap"),
        *(_proportion(each) for each in (rate.broken, *(rate.kinds[kind] for kind in kinds))),
        numeric(onsets.median, short(onsets.median)) if onsets else numeric(math.nan),
        Cell(f"{onsets.first} to {onsets.last}", onsets.first, "number", {" first": onsets.first, " last": onsets.last})
        if onsets
        else Cell("–", "", "number", {" first": math.nan, " last": math.nan}),
        Cell(f"{measured} of {rate.broken.count}", measured, "number", {"": measured, " of": rate.broken.count}),
    )


def _proportion(found: Proportion) -> Cell:
    interval = f"{100 * found.low:.0f} to {100 * found.high:.0f}{NO_BREAK}%"
    values = {"": found.count, " of": found.n, " low": found.low, " high": found.high}
    return Cell(f"{found.count} of {found.n} ({interval})", found.count / found.n, "number", values)
