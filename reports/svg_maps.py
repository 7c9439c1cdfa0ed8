"""What static pictures have of two variables and more: a heat map's cells, a triangle, and the key of their colours."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from markupsafe import Markup

from depth_loss_sweep.reports.charts import COLORSCALE, POINT, Chart, colour_at
from depth_loss_sweep.reports.measures import short
from depth_loss_sweep.reports.svg_elements import SIZE, SYMBOLS, line, picture, tag, text

SHADES = 24
"""Of a colour scale; what shares one is a single path."""

KEY = 84.0
"""Units beside a picture for the key of its colours."""

Corner = tuple[float, float]


def keyed(chart: Chart) -> Mapping[str, Any] | None:
    """What has a key of colours: a heat map, or marks; None where nothing has."""
    found = [trace if trace["type"] == "heatmap" else trace.get("marker") or {} for trace in chart.data]
    return next((each for each in found if each.get("colorbar")), None)


def colour(trace: Mapping[str, Any], index: int) -> str:
    """A point's colour; numbers go along the colour scale."""
    marker = trace.get("marker") or {}
    given = marker.get("color") or (trace.get("line") or {}).get("color") or POINT
    return given if isinstance(given, str) else _shade(given[index], marker)


def _ends(marker: Mapping[str, Any]) -> tuple[float, float]:
    """Between which numbers the colours of marks, or of a heat map, go."""
    rows = marker["z"] if "z" in marker else [marker["color"]]
    known = [v for row in rows for v in row if v is not None] or [0.0]
    return marker.get("cmin", min(known)), marker.get("cmax", max(known))


def _shade(value: float | None, marker: Mapping[str, Any]) -> str:
    if value is None:
        return POINT
    low, high = _ends(marker)
    place = round(SHADES * (value - low) / ((high - low) or 1)) / SHADES
    is_turned = marker.get("colorscale", COLORSCALE)[0][1] == COLORSCALE[-1][1]
    return colour_at(1 - place if is_turned else place)


def colour_key(marker: Mapping[str, Any], left: float, top: float, bottom: float) -> Iterable[Markup]:
    """A bar of the colours with what they stand for."""
    (low, high), bar = _ends(marker), marker["colorbar"]
    step = (bottom - top) / SHADES
    for i in range(SHADES):
        fill = _shade(low + (high - low) * (i + 0.5) / SHADES, {**marker, "cmin": low, "cmax": high})
        yield tag("rect", x=left, y=bottom - (i + 1) * step, width=10.0, height=step + 0.3, fill=fill)
    named = zip(bar.get("tickvals") or (low, high), bar.get("ticktext") or (short(low), short(high)), strict=True)
    for value, said in named:
        yield text(left + 15, bottom + (top - bottom) * (value - low) / ((high - low) or 1) + 4, said)
    if title := (bar.get("title") or {}).get("text"):
        yield text(left + 30, (top + bottom) / 2, title, "middle", turned=90)


def cells(chart: Chart, x: Callable[[float], float], y: Callable[[float], float]) -> Iterable[Markup]:
    """A heat map's cells, a path for each shade."""
    for heat in (trace for trace in chart.data if trace["type"] == "heatmap"):
        shades: dict[str, list[str]] = {}
        width, height = abs(x(1) - x(0)), abs(y(1) - y(0))
        gap = min(2.0, 0.1 * width, 0.1 * height)
        for up, row in zip(heat["y"], heat["z"], strict=True):
            for across, value in zip(heat["x"], row, strict=True):
                if value is not None:
                    corner = f"M{x(across - 0.5) + gap / 2:.1f},{y(up + 0.5) + gap / 2:.1f}"
                    box = f"{corner}h{width - gap:.1f}v{height - gap:.1f}h{gap - width:.1f}z"
                    shades.setdefault(_shade(value, heat), []).append(box)
        yield from (tag("path", d="".join(boxes), fill=fill) for fill, boxes in shades.items())


def triangle_svg(chart: Chart, title: str, width: float, height: float) -> Markup:
    """Trials on the triangle of three weights, as an inline SVG picture."""
    side = min(width - KEY - 120, (height - 70) / math.sin(math.pi / 3))
    left, bottom = (width - KEY - side) / 2, height - 34
    corners = (
        (left + side / 2, bottom - side * math.sin(math.pi / 3)),
        (left, bottom),
        (left + side, bottom),
    )
    parts = [*_sides(corners), *_names(chart, corners)]
    for trace in chart.data:
        marker = trace["marker"]
        draw = SYMBOLS.get(marker.get("symbol", "circle"), SYMBOLS["circle"])
        for i, weights in enumerate(zip(*(trace[key] for key in "abc"), strict=True)):
            parts.append(draw(*_within(weights, corners), marker["size"] / 2, colour(trace, i), 1.0))
    if marked := keyed(chart):
        parts += colour_key(marked, width - KEY + 12, corners[0][1], bottom)
    return picture(width, height, title, parts)


def _within(weights: Sequence[float], corners: Sequence[Corner]) -> Corner:
    whole = sum(weights) or 1.0
    x, y = (sum(w * corner[i] for w, corner in zip(weights, corners, strict=True)) / whole for i in (0, 1))
    return x, y


def _sides(corners: Sequence[Corner]) -> Iterable[Markup]:
    """The triangle, and lines where a weight is a fifth, two fifths, ..."""
    for i in range(3):
        for fifths in range(5):
            ends = []
            for other in (i + 1, i + 2):
                weights = [0.0, 0.0, 0.0]
                weights[i], weights[other % 3] = fifths / 5, 1 - fifths / 5
                ends.append(_within(weights, corners))
            yield line(*ends[0], *ends[1], opacity=0.15 if fifths else 0.5)


def _names(chart: Chart, corners: Sequence[Corner]) -> Iterable[Markup]:
    for key, (x, y) in zip(("aaxis", "baxis", "caxis"), corners, strict=True):
        below = -10 if key == "aaxis" else SIZE + 6
        yield text(x, y + below, chart.layout["ternary"][key]["title"]["text"], "middle")
