"""Charts as static SVG, for what is printed or read without a script: the same charts that plotly draws in a page.

Points and lines with error bars, bars, dashed references and bands, which is all that our charts along one axis are made of.
Text and lines take the colour of the text around them.
"""

import html
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup, escape

from depth_loss_sweep.reports.charts import MEAN, POINT, Chart, colour_at
from depth_loss_sweep.reports.measures import short

LETTER = 0.56
"""How wide a letter is, in parts of its size, on average."""

SIZE = 13.0
"""Of letters, in units of the picture."""

DASHES = {"dash": "7 5", "dot": "2 4"}


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
    legend = _legend(chart, width)
    names = _tick_texts(chart)
    slot = (width - 90) / max(1, len(names))
    is_slanted = any(LETTER * SIZE * len(name) > slot for name in names)
    below = 56.0 + (LETTER * SIZE * 0.5 * max(map(len, names)) if is_slanted else 0.0)
    x = _scale(chart, "xaxis", 70, width - 20)
    y = _scale(chart, "yaxis", height - below, 26 + legend.height)
    area = (x.start, y.end, x.end, y.start)
    parts = [
        legend.drawn,
        *_grid(chart, y, area),
        *_shapes(chart, x, area),
        *_places(chart, x, area, is_slanted),
        *_bars(chart, x, y),
        *(part for trace in _scatters(chart) for part in _scatter(trace, x, y, area)),
        *_labels(chart, y, area),
        _text(width / 2 + 25, height - 8, chart.layout["xaxis"]["title"]["text"], anchor="middle"),
        _text(16, (area[1] + area[3]) / 2, chart.layout["yaxis"]["title"]["text"], "middle", turned=-90),
    ]
    return _picture(width, height, title, parts)


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
    parts = [_tag("polyline", points=points, fill="none", stroke=MEAN, stroke_width=1.5)]
    shown = [marked] if marked in known else [*known] if len(known) == 1 else []
    parts += [_tag("circle", cx=x(i), cy=y(known[i]), r=3, fill=MEAN) for i in shown if i is not None]
    return _picture(width, height, title, parts)


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
    ticks = y.ticks()
    if step and not y.is_log:
        ticks = {n * step: short(n * step) for n in range(math.ceil(y.low / step), math.floor(y.high / step) + 1)}
    for value, text in ticks.items():
        parts += [_line(area[0], y(value), area[2], y(value), opacity=0.13)]
        parts += [_text(area[0] - 8, y(value) + 4.5, text, "end")]
    return [*parts, _line(area[0], area[3], area[2], area[3], opacity=0.5)]


def _tick_texts(chart: Chart) -> list[str]:
    return [html.unescape(text) for text in chart.layout["xaxis"].get("ticktext") or []]


def _places(chart: Chart, x: Scale, area: tuple[float, ...], is_slanted: bool) -> list[Markup]:
    """The horizontal axis's ticks."""
    given, texts, step = chart.layout["xaxis"].get("tickvals"), _tick_texts(chart), chart.layout["xaxis"].get("dtick")
    ticks = dict(zip(given, texts, strict=True)) if given else x.ticks(8)
    if step and not given:
        ticks = {n * step: short(n * step) for n in range(math.ceil(x.low / step), math.floor(x.high / step) + 1)}
    parts = []
    for value, text in ticks.items():
        parts.append(_line(x(value), area[3], x(value), area[3] + 4, opacity=0.5))
        if is_slanted:
            parts.append(_text(x(value) + 3, area[3] + 16, text, "end", turned=-30))
        else:
            parts.append(_text(x(value), area[3] + 19, text, "middle"))
    return parts


def _shapes(chart: Chart, x: Scale, area: tuple[float, ...]) -> list[Markup]:
    """Bands and upright lines over the whole height."""
    parts = []
    for shape in chart.layout.get("shapes") or ():
        left, right = sorted((x(shape["x0"]), x(shape["x1"])))
        if shape["type"] == "rect":
            box = {"x": left, "y": area[1], "width": right - left, "height": area[3] - area[1]}
            parts.append(_tag("rect", **box, fill=shape["fillcolor"], opacity=shape["opacity"]))
        else:
            parts.append(_line(left, area[1], right, area[3], **_stroke(shape["line"])))
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
        parts.append(_text(where, height, label["text"], "start" if is_left else "end", fill=colour))
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
            _tag("polyline", points=run, fill="none", opacity=opacity, **_stroke(trace["line"]))
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
    colour = errors.get("color") or _colour(trace, 0)
    for (place, value), up, down in zip(points, above, below, strict=True):
        if math.isfinite(value + up + down):
            top, bottom = y(value + up), y(value - down)
            yield _line(x(place), top, x(place), bottom, stroke=colour, stroke_width=1.5)
            for end in (top, bottom):
                yield _line(x(place) - 4, end, x(place) + 4, end, stroke=colour, stroke_width=1.5)


def _markers(trace: Mapping[str, Any], points: Sequence[tuple[float, float]], x: Scale, y: Scale) -> Iterable[Markup]:
    marker = trace.get("marker") or {}
    draw = SYMBOLS.get(marker.get("symbol", "circle"), SYMBOLS["circle"])
    for i, (place, value) in enumerate(points):
        if _is_shown(place, value, y):
            colour = _colour(trace, i)
            yield draw(x(place), y(value), marker.get("size", 6) / 2, colour, marker.get("opacity", 1))


def _colour(trace: Mapping[str, Any], index: int) -> str:
    """A point's colour; numbers go along the colour scale."""
    given = (trace.get("marker") or {}).get("color") or (trace.get("line") or {}).get("color") or POINT
    if isinstance(given, str):
        return given
    known = [v for v in given if v is not None]
    if given[index] is None:
        return POINT
    return colour_at((given[index] - min(known)) / ((max(known) - min(known)) or 1))


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
            yield _tag("rect", **box, height=y(low) - y(high), fill=_colour(trace, 0))


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
    parts, left, line = [], 70.0, 0
    for trace in named:
        text = html.unescape(trace["name"])
        needed = LETTER * SIZE * len(text) + 36
        if left + needed > width and left > 70:
            left, line = 70.0, line + 1
        height = 18.0 + 20 * line
        symbol = (trace.get("marker") or {}).get("symbol", "circle")
        if trace["type"] == "bar":
            parts.append(_tag("rect", x=left, y=height - 10, width=11, height=11, fill=_colour(trace, 0)))
        elif "markers" in trace.get("mode", ""):
            parts.append(SYMBOLS.get(symbol, SYMBOLS["circle"])(left + 6, height - 4.5, 4.5, _colour(trace, 0), 1))
        else:
            parts.append(_line(left, height - 4.5, left + 13, height - 4.5, **_stroke(trace["line"])))
        parts.append(_text(left + 18, height, text, "start"))
        left += needed
    return _Legend(Markup("").join(parts), 20.0 * (line + 1) if named else 0.0)


# Elements


def _picture(width: float, height: float, title: str, parts: Iterable[Markup]) -> Markup:
    head = Markup('<svg class="picture" viewBox="0 0 {} {}" role="img" aria-label="{}">').format(
        _short(width), _short(height), title
    )
    return head + Markup("").join(parts) + Markup("</svg>")


def _tag(name: str, **attributes: Any) -> Markup:
    text = Markup("").join(
        Markup(' {}="{}"').format(key.replace("_", "-"), value if isinstance(value, str) else _short(value))
        for key, value in attributes.items()
    )
    return Markup("<{}{}/>").format(Markup(name), text)


def _short(value: float) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".")


def _line(x1: float, y1: float, x2: float, y2: float, **attributes: Any) -> Markup:
    return _tag("line", x1=x1, y1=y1, x2=x2, y2=y2, **{"stroke": "currentColor", **attributes})


def _stroke(line: Mapping[str, Any]) -> dict[str, Any]:
    dash = DASHES.get(line.get("dash", ""))
    return {"stroke": line["color"], "stroke_width": line.get("width", 1.5)} | (
        {"stroke_dasharray": dash} if dash else {}
    )


def _text(
    x: float, y: float, text: str, anchor: str = "start", turned: float = 0, fill: str = "currentColor"
) -> Markup:
    """A text that plotly takes, in which markup is escaped already."""
    place = f' transform="rotate({turned:g} {x:.1f} {y:.1f})"' if turned else ""
    return Markup('<text x="{}" y="{}" font-size="{}" text-anchor="{}" fill="{}"{}>{}</text>').format(
        _short(x), _short(y), _short(SIZE), anchor, fill, Markup(place), escape(html.unescape(text))
    )


Symbol = Callable[[float, float, float, str, float], Markup]
"""Draws a mark: its place, half of its size, its colour and opacity."""


def _circle(x: float, y: float, r: float, colour: str, opacity: float) -> Markup:
    return _tag("circle", cx=x, cy=y, r=r, fill=colour, opacity=opacity)


def _ring(x: float, y: float, r: float, colour: str, opacity: float) -> Markup:
    return _tag("circle", cx=x, cy=y, r=r, fill="none", stroke=colour, stroke_width=2.5, opacity=opacity)


def _polygon(*corners: tuple[float, float]) -> Symbol:
    def draw(x: float, y: float, r: float, colour: str, opacity: float) -> Markup:
        points = " ".join(f"{x + r * dx:.1f},{y + r * dy:.1f}" for dx, dy in corners)
        return _tag("polygon", points=points, fill=colour, opacity=opacity)

    return draw


def _cross(x: float, y: float, r: float, colour: str, opacity: float) -> Markup:
    stroke = {"stroke": colour, "stroke_width": 2.2, "opacity": opacity}
    return _line(x - r, y - r, x + r, y + r, **stroke) + _line(x - r, y + r, x + r, y - r, **stroke)


SYMBOLS: Mapping[str, Symbol] = {
    "circle": _circle,
    "circle-open": _ring,
    "square": _polygon((-0.9, -0.9), (0.9, -0.9), (0.9, 0.9), (-0.9, 0.9)),
    "diamond": _polygon((0, -1.25), (1.25, 0), (0, 1.25), (-1.25, 0)),
    "triangle-up": _polygon((0, -1.2), (1.1, 0.8), (-1.1, 0.8)),
    "x": _cross,
}
