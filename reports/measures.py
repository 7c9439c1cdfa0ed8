"""What is measured, as a record tells it: a column's label, unit and direction; and how a number is written."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

NO_UNIT = "no unit"
NO_BREAK = "\u00a0"  # between a number and its unit
SURE = f"95{NO_BREAK}%"
"""How sure every interval and bound is, whatever it takes to keep that: those of several, or looked at again, are wider."""
WRITTEN_UNITS = ("m", "m/px", "s")  # beside a number in prose; the others stand on axes and in heads of tables


@dataclass(frozen=True)
class Measure:
    """One column of the table of epochs: its label, its unit and which way is better; `short` is a term's name in prose."""

    column: str
    label: str
    unit: str
    note: str = ""
    higher_is_better: bool = False
    short: str = ""

    @property
    def axis(self) -> str:
        """An axis title: label and unit."""
        return f"{self.label} ({self.unit})"

    @property
    def is_comparable(self) -> bool:
        """Whether its values at different weights may be compared: not those of the combined loss, which is made of them."""
        return self.column != "total"

    @property
    def worst(self) -> float:
        """The worst infinity: what a run that went non-finite counts as."""
        return -math.inf if self.higher_is_better else math.inf

    def cost(self, value: float) -> float:
        """A value as something of which less is better."""
        return -value if self.higher_is_better else value

    def write(self, value: float) -> str:
        """A value with its unit, such as "0.5213 m"."""
        return quantity(value, self.unit)


def measure_of(column: str, measures: Mapping[str, Measure]) -> Measure:
    """A column's measure; one that is not among these is called by its name."""
    known = measures.get(column)
    return known or Measure(column, column.partition("_")[2].replace("_", " ") or column, NO_UNIT)


def predictor_values(table: Mapping[str, Mapping[str, Any]], measure: Measure) -> dict[str, float]:
    """Trivial predictor -> its value of a measure; those that do not have it are left out."""
    values = {name: numbers.get(measure.column) for name, numbers in table.items()}
    return {name: float(v) for name, v in values.items() if isinstance(v, (int, float)) and math.isfinite(v)}


def number(value: float) -> str:
    """A number with four significant digits; "–" where it is missing, "diverged" where it is infinite."""
    if value is None or math.isnan(value):
        return "–"
    if math.isinf(value):
        return "diverged"
    if abs(value) >= 10000:
        return f"{value:,.0f}"
    return "0" if value == 0 else f"{value:#.4g}".rstrip(".")


def rough(value: float, unit: str = "") -> str:
    """An uncertainty with its unit: two significant digits are all that it deserves."""
    if not math.isfinite(value):
        return number(value)
    digits = f"{value:z.2g}" if abs(value) >= 1e-4 or value == 0 else f"{value:.1e}"
    return f"{digits}{NO_BREAK}{unit}" if unit in WRITTEN_UNITS else digits


def percent(value: float) -> str:
    """A fraction as per cent."""
    return f"{100 * value:.0f}{NO_BREAK}%"


def short(value: float) -> str:
    """A weight or a swept value as a person would write it: 0.3, not 0.3000."""
    return f"{value:z.4g}" if math.isfinite(value) else number(value)


def quantity(value: float, unit: str) -> str:
    """A number and its unit; units that are no units are left out."""
    suffix = unit if unit in WRITTEN_UNITS else ""
    return f"{number(value)}{NO_BREAK}{suffix}".strip() if math.isfinite(value) else number(value)
