"""What a page's script draws from, as one JSON: its figures, its tables and its runs, each column of numbers or texts once.

A long list is a column: it stands in one deflated string, by its bytes, so that what several figures and tables show is there once; in
its place is {"column": i}. templates/store.js reads what is written here.

    {"columns": [{"type": "f4", "length": 3000, "at": 0}, ...], "packed": base64 of the deflated columns, one after the other,
     "figures": {anchor: {"data", "layout", "choices"}}, "tables": {anchor: {"columns", "rows"}}, "studies": {anchor: ...}}

Numbers are u1, u2, u4 (whole, none missing), f4 (five significant digits, which is more than a screen shows) or f8 (exact), NaN where
one is missing, low bytes first, and all first bytes before all second ones, which deflates better; texts are a JSON list.
"""

import base64
import json
import zlib
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
from markupsafe import Markup

from depth_loss_sweep.reports.charts import roomy
from depth_loss_sweep.reports.layout import Figure
from depth_loss_sweep.reports.measures import number, rough, short
from depth_loss_sweep.reports.tables import Cell, Table

LONG = 16
"""Lists of fewer elements stand where they are."""

DEFLATE = 6
"""zlib's level; 9 takes three times as long for a hundredth less."""

SPARE_BITS = 6
"""Of a float's 23 bits those that five significant digits don't need."""

WHOLE = {"u1": 1 << 8, "u2": 1 << 16, "u4": 1 << 32}
EXACT: dict[str, "np.dtype[Any]"] = {
    "f8": np.dtype("<f8"),
    "f4": np.dtype("<f4"),
    "u1": np.dtype("u1"),
    "u2": np.dtype("<u2"),
    "u4": np.dtype("<u4"),
}


def _integer(value: float) -> str:
    return str(int(value)) if np.isfinite(value) else number(value)


FORMATS: dict[str, Callable[[float], str]] = {"integer": _integer, "number": number, "short": short, "rough": rough}
"""How a column of numbers may be written: templates/store.js writes them alike."""


class PageData:
    """Takes in what a page shows while it is rendered, and is then written into it."""

    def __init__(self) -> None:
        self._columns: list[dict[str, Any]] = []
        self._places: dict[tuple[str, bytes], int] = {}
        self._packed = bytearray()
        self._figures: dict[str, Any] = {}
        self._tables: dict[str, Any] = {}
        self._studies: dict[str, Any] = {}

    def add_figure(self, figure: Figure) -> str:
        """A figure's chart by its anchor; the empty text, for templates."""
        chart = figure.chart
        content = {"data": chart.data, "layout": roomy(chart), "choices": chart.choices}
        self._figures[figure.anchor] = self._without_lists(content)
        return ""

    def add_table(self, anchor: str, table: Table) -> str:
        """A table by its anchor; the empty text, for templates."""
        cells = zip(*table.rows, strict=True) if table.rows else ([] for _ in table.columns)
        columns = [self._table_column(name, column) for name, column in zip(table.columns, cells, strict=True)]
        columns += [self._further_column(name, values) for name, values in table.further.items()]
        self._tables[anchor] = {"rows": len(table.rows), "columns": columns}
        return ""

    def add_study(self, anchor: str, content: Any) -> str:
        """What is known of a study's trials and runs, by its anchor; the empty text, for templates."""
        self._studies[anchor] = self._without_lists(content)
        return ""

    @property
    def is_empty(self) -> bool:
        """Whether nothing was taken in."""
        return not (self._figures or self._tables or self._studies)

    @property
    def json(self) -> Markup:
        """All of it, safe inside a script element; the same content gives the same bytes."""
        content = {
            "columns": self._columns,
            "packed": base64.b64encode(zlib.compress(bytes(self._packed), DEFLATE)).decode(),
            "figures": self._figures,
            "tables": self._tables,
            "studies": self._studies,
        }
        text = json.dumps(content, separators=(",", ":"), allow_nan=False)
        return Markup(text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026"))

    def column(self, values: Sequence[Any] | np.ndarray, is_exact: bool = False) -> Any:
        """A flat list as its column's place; a short one, or one of anything else than numbers or texts, as it is."""
        if len(values) < LONG and not any(isinstance(v, float) and np.isinf(v) for v in values):
            return [self._without_lists(v) for v in values]
        if is_text(values):
            return self._place(
                "text", json.dumps([*values], ensure_ascii=False).encode(errors="backslashreplace"), len(values)
            )
        try:
            numbers = np.asarray(values, dtype=float)
        except (TypeError, ValueError):
            return [self._without_lists(each) for each in values]
        if numbers.ndim != 1:
            return [self._without_lists(each) for each in values]
        kind = _kind(numbers, is_exact)
        array = np.ascontiguousarray(_rounded(numbers) if kind == "f4" else numbers.astype(EXACT[kind]))
        planes = array.view("u1").reshape(len(array), array.itemsize).T
        return self._place(kind, planes.tobytes(), len(values))

    def _place(self, kind: str, content: bytes, length: int) -> dict[str, int]:
        place = self._places.get((kind, content))
        if place is None:
            place = self._places[kind, content] = len(self._columns)
            size = {"bytes": len(content)} if kind == "text" else {}
            self._columns.append({"type": kind, "length": length, "at": len(self._packed), **size})
            self._packed += content
        return {"column": place}

    def _without_lists(self, tree: Any) -> Any:
        if isinstance(tree, dict):
            return {key: self._without_lists(value) for key, value in tree.items()}
        if isinstance(tree, list | tuple | np.ndarray):
            return self.column(tree)
        return None if isinstance(tree, float) and np.isnan(tree) else tree

    def _table_column(self, name: str, cells: Sequence[Cell]) -> dict[str, Any]:
        """A column by its values and how they are written; by its texts, and what they are sorted by, where that is no such way."""
        texts, sorts, kinds = [c.text for c in cells], [c.sort for c in cells], [c.kind for c in cells]
        said: dict[str, Any] = {"name": name, "kind": kinds[0] if len({*kinds}) == 1 else self.column(kinds)}
        if cells and cells[0].values:
            parts = {part: [c.values[part] for c in cells if c.values] for part in cells[0].values}
            said["saved"] = {part: self.column(values, is_exact=True) for part, values in parts.items()}
        if not any(isinstance(s, str) and s for s in sorts):
            values = [float("nan") if s == "" else float(s) for s in sorts]
            for form, write in FORMATS.items():
                if all(write(value) == text for value, text in zip(values, texts, strict=True)):
                    return {**said, "format": form, "values": self.column(values, is_exact=True)}
            return {**said, "values": self.column(texts), "sort": self.column(values, is_exact=True)}
        return {**said, "values": self.column(texts)} | ({} if texts == sorts else {"sort": self.column(sorts)})

    def _further_column(self, name: str, values: Sequence[Any]) -> dict[str, Any]:
        """A column behind the menu: texts, or numbers, written short where that loses nothing, as of weights and settings."""
        if is_text(values):
            return {"name": name, "kind": "", "hidden": True, "values": self.column(values)}
        form = "short" if all(np.isfinite(v) and float(short(v)) == v for v in values) else "number"
        exact = self.column(values, is_exact=True)
        return {"name": name, "kind": "number", "hidden": True, "format": form, "values": exact}


def is_text(values: Iterable[Any]) -> bool:
    """Whether the first of these that is there is a text."""
    return isinstance(next((v for v in values if v is not None), None), str)


def _kind(numbers: np.ndarray, is_exact: bool) -> str:
    """The smallest type that holds these."""
    with np.errstate(invalid="ignore"):
        if np.isfinite(numbers).all() and (numbers >= 0).all() and (numbers == np.trunc(numbers)).all():
            fitting = [kind for kind, end in WHOLE.items() if numbers.max() < end]
            if fitting:
                return fitting[0]
        sizes = np.abs(numbers[np.isfinite(numbers) & (numbers != 0)])
    is_float = not sizes.size or (sizes.max() < 1e38 and sizes.min() > 1e-37)
    return "f4" if is_float and not is_exact else "f8"


def _rounded(numbers: np.ndarray) -> np.ndarray:
    """As floats, without the bits that five significant digits don't need."""
    bits = numbers.astype("<f4").view("<u4")
    half = np.uint32(1 << (SPARE_BITS - 1))
    kept = (bits + half) & np.uint32(~((1 << SPARE_BITS) - 1) & 0xFFFFFFFF)
    return np.where(np.isfinite(numbers), kept, bits).astype("<u4").view("<f4")
