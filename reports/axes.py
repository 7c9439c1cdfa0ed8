"""What trials are drawn against: where each stands on an axis, and which axes a study has."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import pandas as pd

from depth_loss_sweep.reports.analysis import Analysis
from depth_loss_sweep.reports.measures import short
from depth_loss_sweep.reports.naming import written
from depth_loss_sweep.reports.records import StudyRecord
from depth_loss_sweep.reports.references import EQUAL, POINT

DECADES = 10  # an axis is logarithmic where half of its values lie below such a part of the largest


@dataclass(frozen=True)
class Axis:
    """Where trials stand on a horizontal axis: trial number -> value; `names` of values 0, 1, ... that are no numbers.

    Along decades values stand by their logarithm, and zero one decade below `least`, the smallest value above it.
    """

    title: str
    values: Mapping[int, float]
    names: tuple[str, ...] = ()
    least: float | None = None

    def place(self, value: float) -> float:
        """Where a value stands."""
        if self.least is None:
            return value
        return math.log10(value if value > 0 else self.least / 10)

    @cached_property
    def positions(self) -> dict[int, float]:
        """Trial number -> where it stands."""
        return {number: self.place(value) for number, value in self.values.items()}

    @cached_property
    def ticks(self) -> dict[float, str]:
        """Place -> what stands there: each value that was chosen; of values that were drawn the decades, or none."""
        if self.names:
            return {float(place): name for place, name in enumerate(self.names)}
        shown = sorted({*self.values.values()})
        if any(float(short(value)) != value for value in shown):  # chosen values are short
            ends = (math.floor(self.place(shown[0])), math.ceil(self.place(shown[-1])))
            shown = [] if self.least is None else [10.0**power for power in range(ends[0], ends[1] + 1)]
        return {self.place(value): short(value) for value in shown}


def axes(analysis: Analysis) -> tuple[Axis, ...]:
    """The axes a measure is drawn against: the swept variables, named points among them, or each weight of a simplex.

    A variable of one value is no axis beside those that vary.
    """
    record = analysis.record
    if record.kind == "simplex":
        titles = {f"weight_{t}": f"weight of {analysis.term_names[t]}" for t in analysis.varying_terms}
    else:
        fixed = {v["name"] for v in record.spec.get("variables", ()) if len(v.get("values", "..")) == 1}
        shown = [v for v in record.variables if v not in fixed] or record.variables
        titles = {f"var_{v}": _variable_title(analysis, v) for v in shown if f"var_{v}" in record.trials}
        if not titles:
            return (trial_axis(record),)
    return tuple(_column_axis(record, column, title) for column, title in titles.items())


def main_axis(analysis: Analysis) -> Axis:
    """One axis for figures that need a single one: the only one there is, else the trial's number."""
    every = axes(analysis)
    return every[0] if len(every) == 1 else _number_axis(analysis.record)


def trial_axis(record: StudyRecord) -> Axis:
    """Trials by name, for a study that sweeps nothing."""
    numbers = [int(n) for n in record.trials["number"]]
    places = {n: float(i) for i, n in enumerate(numbers)}
    return Axis("weights", places, tuple(f"trial {n}" for n in numbers))


def _number_axis(record: StudyRecord) -> Axis:
    numbers = [int(n) for n in record.trials["number"]]
    return Axis("trial number", {n: float(n) for n in numbers})


def _variable_title(analysis: Analysis, name: str) -> str:
    if analysis.record.kind == "points" and name == POINT:
        equal = next((t.weights for t in analysis.trials if t.params[POINT] == EQUAL), None)
        return "reference point" + (f" ({analysis.recipe(equal, {POINT: EQUAL})})" if equal else "")
    return f"{name} (weight)" if "." not in name else name


def _column_axis(record: StudyRecord, column: str, title: str) -> Axis:
    values = record.trials[column]
    numeric = pd.api.types.is_numeric_dtype(values) and not pd.api.types.is_bool_dtype(values)
    numbers = [int(n) for n in record.trials["number"]]
    if numeric:
        places = dict(zip(numbers, map(float, values), strict=True))
        return Axis(title, places, least=_least(record, column.removeprefix("var_"), sorted({*places.values()})))
    names = tuple(dict.fromkeys(written(v) for v in values))
    return Axis(title, {n: float(names.index(written(v))) for n, v in zip(numbers, values, strict=True)}, names)


def _least(record: StudyRecord, variable: str, values: Sequence[float]) -> float | None:
    """The smallest positive of a swept variable's values (sorted, each once) where they go over decades, else None.

    What is drawn goes over decades where the spec says so; chosen values do where a linear axis would crowd half of them.
    """
    positive = [v for v in values if v > 0]
    if record.kind == "simplex" or len(positive) < 3 or values[0] < 0:
        return None
    drawn = next((v for v in record.spec.get("variables", ()) if v["name"] == variable and "low" in v), None)
    is_log = drawn["log"] if drawn else positive[(len(positive) - 1) // 2] * DECADES <= positive[-1]
    return positive[0] if is_log else None
