"""Charts as static SVG, for what is printed or read without a script: the same charts that plotly draws in a page.

Points and lines with error bars, bars, dashed references and bands, which is all that our charts along one axis are made of;
of two variables a heat map's cells, of three weights their triangle (svg_maps.py).
Text and lines take the colour of the text around them.
"""

import html
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from depth_loss_sweep.reports.charts import MEAN, Chart
from depth_loss_sweep.reports.measures import short
from depth_loss_sweep.reports.svg_elements import LETTER, SIZE, SYMBOLS, line, picture, stroke, tag, text
from depth_loss_sweep.reports.svg_maps import KEY, cells, colour, colour_key, keyed, triangle_svg

LEAST = 16.0
"""Units from one name on an axis to the next."""


@dataclass(frozen=True)
class Scale:
    """Where numbers stand along one side of a picture: `low` at `start`, `high` at `end`; of decades by their logarithm."""

    low: float
    high: float
    start: float
    end: float
    is_log: bool = False

    def __call__(self, value: float) -> float:
        """A number's place, in units of the picture."""
        where = math.log10(value) if self.is_log else value
        return self.start + (self.end - self.start) * (where - self.low) / ((self.high - self.low) or 1.0)

    def ticks(self, most: int = 6) -> dict[float, str]:
        """Round numbers along it: value -> its text."""
        if self.is_log:
            return {10.0**p: f"1e{p}" for p in range(math.ceil(self.low), math.floor(self.high) + 1)}
        step = _round_step((self.high - self.low) / most)
        first = math.ceil(self.low / step - 1e-9)
        return {n * step: short(n * step) for n in range(first, math.floor(self.high / step + 1e-9) + 1)}


def chart_svg(chart: Chart, title: str, width: float = 760, height: float = 440) -> Markup:
    """A chart as an inline SVG picture of so many units, called by its `title` where it isn't seen."""
    if "ternary" in chart.layout:
        return triangle_svg(chart, title, width, height)
    legend, marked = _legend(chart, width), keyed(chart)
    names = _tick_texts(chart)
    beside = LETTER * SIZE * max(map(len, _tick_texts(chart, "yaxis")), default=0)
    slot = (width - 90) / max(1, len(names))
    is_slanted = any(LETTER * SIZE * len(name) > slot for name in names)
    below = 56.0 + (LETTER * SIZE * 0.5 * max(map(len, names)) if is_slanted else 0.0)
    x = _scale(chart, "xaxis", max(70.0, 40 + beside), width - (KEY if marked else 20))
    above = [a["yshift"] for a in chart.layout.get("annotations") or () if a.get("yanchor") == "bottom" and a["y"] == 1]
    y = _scale(chart, "yaxis", height - below, 26 + legend.height + 1.2 * max(above, default=0))
    area = (x.start, y.end, x.end, y.start)
    parts = [
        legend.drawn,
        *_grid(chart, y, area),
        *_shapes(chart, x, area),
        *_places(chart, x, area, is_slanted),
        *cells(chart, x, y),
        *_bars(chart, x, y),
        *(part for trace in _scatters(chart) for part in _scatter(trace, x, y, area)),
        *_labels(chart, y, area),
        text(width / 2 + 25, height - 8, chart.layout["xaxis"]["title"]["text"], anchor="middle"),
        text(16, (area[1] + area[3]) / 2, chart.layout["yaxis"]["title"]["text"], "middle", turned=-90),
    ]
    parts += colour_key(marked, width - KEY + 12, area[1], area[3]) if marked else []
    return picture(width, height, title, parts)


def sparkline(
    values: Sequence[float], marked: int | None, title: str, width: float = 120, height: float = 28
) -> Markup:
    """Numbers from left to right as a small line, one of them `marked` by a dot; what isn't finite is left out."""
    known = {i: value for i, value in enumerate(values) if math.isfinite(value)}
    if not known:
        return Markup("")
    x = Scale(0, max(1, len(values) - 1), 4, width - 4)
    y = Scale(min(known.values()), max(known.values()), height - 4, 4)
    points = " ".join(f"{x(i):.1f},{y(value):.1f}" for i, value in known.items())
    parts = [tag("polyline", points=points, fill="none", stroke=MEAN, stroke_width=1.5)]
    shown = [marked] if marked in known else [*known] if len(known) == 1 else []
    parts += [tag("circle", cx=x(i), cy=y(known[i]), r=3, fill=MEAN) for i in shown if i is not None]
    return picture(width, height, title, parts)


# Scales


def _scale(chart: Chart, axis: str, start: float, end: float) -> Scale:
    layout = chart.layout[axis]
    is_log = layout.get("type") == "log"
    if layout.get("range"):
        low, high = layout["range"]
        return Scale(low, high, start, end, is_log)
    values = [v for v in _values(chart, axis) if math.isfinite(v) and (v > 0 or not is_log)] or [0.0, 1.0]
    places = [math.log10(v) for v in values] if is_log else values
    low, high = min(places), max(places)
    pad = 0.06 * (high - low) or 0.05 * abs(high) or 0.5
    stands_on_zero = axis == "yaxis" and any(t["type"] == "bar" for t in chart.data)
    return Scale(0.0 if stands_on_zero else low - pad, high + pad, start, end, is_log)


def _values(chart: Chart, axis: str) -> Iterable[float]:
    """All numbers that an axis has to hold."""
    letter = axis[0]
    stacked: dict[float, float] = {}
    for trace in chart.data:
        if letter == "y" and trace.get("yaxis") == "y2":
            continue
        values, errors = _numbers(trace[letter]), trace.get(f"error_{letter}") or {}
        if trace["type"] == "bar" and letter == "y":
            for place, value in zip(trace["x"], values, strict=True):
                stacked[place] = stacked.get(place, 0.0) + (value if math.isfinite(value) else 0.0)
            continue
        above = _numbers(errors.get("array") or [0.0] * len(values))
        below = _numbers(errors.get("arrayminus") or above)
        yield from values
        for value, up, down in zip(values, above, below, strict=True):
            yield from (value + (up if math.isfinite(up) else 0), value - (down if math.isfinite(down) else 0))
        if trace["type"] == "bar" and letter == "x":
            half = trace.get("width", 0.8) / 2
            yield from (end for value in values for end in (value - half, value + half))
    yield from stacked.values()


def _numbers(values: Iterable[Any]) -> list[float]:
    return [math.nan if value is None else float(value) for value in values]


def _round_step(step: float) -> float:
    """The next of 1, 2, 5 times a power of ten."""
    power = 10.0 ** math.floor(math.log10(step)) if step > 0 else 1.0
    return next(power * factor for factor in (1, 2, 5, 10) if power * factor >= step * (1 - 1e-9))


# Axes


def _grid(chart: Chart, y: Scale, area: tuple[float, ...]) -> list[Markup]:
    parts = []
    step = chart.layout["yaxis"].get("dtick")
    ticks, texts = y.ticks(), _tick_texts(chart, "yaxis")
    if texts:
        ticks = dict(zip(chart.layout["yaxis"]["tickvals"], texts, strict=True))
    elif step and not y.is_log:
        ticks = {n * step: short(n * step) for n in range(math.ceil(y.low / step), math.floor(y.high / step) + 1)}
    for value, said in ticks.items():
        parts += [line(area[0], y(value), area[2], y(value), opacity=0.13)]
        parts += [text(area[0] - 8, y(value) + 4.5, said, "end")]
    return [*parts, line(area[0], area[3], area[2], area[3], opacity=0.5)]


def _tick_texts(chart: Chart, axis: str = "xaxis") -> list[str]:
    return [html.unescape(text) for text in chart.layout[axis].get("ticktext") or []]


def _places(chart: Chart, x: Scale, area: tuple[float, ...], is_slanted: bool) -> list[Markup]:
    """The horizontal axis's ticks."""
    given, texts, step = chart.layout["xaxis"].get("tickvals"), _tick_texts(chart), chart.layout["xaxis"].get("dtick")
    step_of_names = math.ceil(LEAST * len(texts) / (area[2] - area[0])) or 1  # those that have room
    ticks = dict(list(zip(given, texts, strict=True))[::step_of_names]) if given else x.ticks(8)
    if step and not given:
        ticks = {n * step: short(n * step) for n in range(math.ceil(x.low / step), math.floor(x.high / step) + 1)}
    parts = []
    for value, said in ticks.items():
        parts.append(line(x(value), area[3], x(value), area[3] + 4, opacity=0.5))
        if is_slanted:
            parts.append(text(x(value) + 3, area[3] + 16, said, "end", turned=-30))
        else:
            parts.append(text(x(value), area[3] + 19, said, "middle"))
    return parts


def _shapes(chart: Chart, x: Scale, area: tuple[float, ...]) -> list[Markup]:
    """Bands and upright lines over the whole height."""
    parts = []
    for shape in chart.layout.get("shapes") or ():
        left, right = sorted((x(shape["x0"]), x(shape["x1"])))
        if shape["type"] == "rect":
            box = {"x": left, "y": area[1], "width": right - left, "height": area[3] - area[1]}
            parts.append(tag("rect", **box, fill=shape["fillcolor"], opacity=shape["opacity"]))
        else:
            parts.append(line(left, area[1], right, area[3], **stroke(shape["line"])))
    return parts


def _labels(chart: Chart, y: Scale, area: tuple[float, ...]) -> list[Markup]:
    """What stands beside the references: inside the picture, at one of its ends."""
    parts = []
    for label in chart.layout.get("annotations") or ():
        is_left = label["xanchor"] == "left"
        at_edge = area[1] if label["y"] == 1 else area[3]
        place = at_edge if label.get("yref") == "paper" else y(label["y"])
        where = area[0] + 8 if is_left else area[2] - 8
        height = place - label.get("yshift", 0) * 1.2 + (-2 if label.get("yanchor") == "bottom" else 4)
        colour = label["font"]["color"]
        parts.append(text(where, height, label["text"], "start" if is_left else "end", fill=colour))
    return parts


# Marks


def _scatters(chart: Chart) -> list[Mapping[str, Any]]:
    return [trace for trace in chart.data if trace["type"] == "scatter"]


def _scatter(trace: Mapping[str, Any], x: Scale, y: Scale, area: tuple[float, ...]) -> list[Markup]:
    if trace.get("yaxis") == "y2":  # marks on the upper edge
        y = Scale(0.0, 1.0, area[3], area[1])
    points = list(zip(_numbers(trace["x"]), _numbers(trace["y"]), strict=True))
    opacity = trace.get("opacity", 1)
    parts = []
    mode = trace.get("mode", "lines")
    if "lines" in mode:
        parts += [
            tag("polyline", points=run, fill="none", opacity=opacity, **stroke(trace["line"]))
            for run in _runs(points, x, y)
        ]
    parts += _error_bars(trace, points, x, y)
    if "markers" in mode:
        parts += _markers(trace, points, x, y)
    return parts


def _runs(points: Sequence[tuple[float, float]], x: Scale, y: Scale) -> list[str]:
    """A line's pieces between gaps."""
    runs: list[list[str]] = [[]]
    for place, value in points:
        if not _is_shown(place, value, y):
            runs.append([])
            continue
        runs[-1].append(f"{x(place):.1f},{y(value):.1f}")
    return [" ".join(run) for run in runs if len(run) > 1]


def _is_shown(place: float, value: float, y: Scale) -> bool:
    return math.isfinite(place) and math.isfinite(value) and (value > 0 or not y.is_log)


def _error_bars(
    trace: Mapping[str, Any], points: Sequence[tuple[float, float]], x: Scale, y: Scale
) -> Iterable[Markup]:
    errors = trace.get("error_y")
    if not errors:
        return
    above = _numbers(errors["array"])
    below = _numbers(errors.get("arrayminus") or errors["array"])
    shade = errors.get("color") or colour(trace, 0)
    for (place, value), up, down in zip(points, above, below, strict=True):
        if math.isfinite(value + up + down):
            top, bottom = y(value + up), y(value - down)
            yield line(x(place), top, x(place), bottom, stroke=shade, stroke_width=1.5)
            for end in (top, bottom):
                yield line(x(place) - 4, end, x(place) + 4, end, stroke=shade, stroke_width=1.5)


def _markers(trace: Mapping[str, Any], points: Sequence[tuple[float, float]], x: Scale, y: Scale) -> Iterable[Markup]:
    marker = trace.get("marker") or {}
    draw = SYMBOLS.get(marker.get("symbol", "circle"), SYMBOLS["circle"])
    for i, (place, value) in enumerate(points):
        if _is_shown(place, value, y):
            yield draw(x(place), y(value), marker.get("size", 6) / 2, colour(trace, i), marker.get("opacity", 1))


def _bars(chart: Chart, x: Scale, y: Scale) -> Iterable[Markup]:
    """Bars, each trace on top of those before it."""
    tops: dict[float, float] = {}
    for trace in chart.data:
        if trace["type"] != "bar":
            continue
        for place, value in zip(_numbers(trace["x"]), _numbers(trace["y"]), strict=True):
            low = tops.get(place, 0.0)
            high = tops[place] = low + (value if math.isfinite(value) else 0.0)
            half = trace.get("width", 0.8) / 2
            box = {"x": x(place - half), "y": y(high), "width": x(place + half) - x(place - half)}
            yield tag("rect", **box, height=y(low) - y(high), fill=colour(trace, 0))


# The legend


@dataclass(frozen=True)
class _Legend:
    drawn: Markup
    height: float


def _legend(chart: Chart, width: float) -> _Legend:
    """The traces' names above the picture, in as many lines as they take."""
    if not chart.layout.get("showlegend"):
        return _Legend(Markup(""), 0.0)
    named = [t for t in chart.data if t.get("name") and t.get("showlegend", True)]
    parts, left, row = [], 70.0, 0
    for trace in named:
        name = html.unescape(trace["name"])
        needed = LETTER * SIZE * len(name) + 36
        if left + needed > width and left > 70:
            left, row = 70.0, row + 1
        height = 18.0 + 20 * row
        symbol = (trace.get("marker") or {}).get("symbol", "circle")
        if trace["type"] == "bar":
            parts.append(tag("rect", x=left, y=height - 10, width=11, height=11, fill=colour(trace, 0)))
        elif "markers" in trace.get("mode", ""):
            parts.append(SYMBOLS.get(symbol, SYMBOLS["circle"])(left + 6, height - 4.5, 4.5, colour(trace, 0), 1))
        else:
            parts.append(line(left, height - 4.5, left + 13, height - 4.5, **stroke(trace["line"])))
        parts.append(text(left + 18, height, name, "start"))
        left += needed
    return _Legend(Markup("").join(parts), 20.0 * (row + 1) if named else 0.0)
