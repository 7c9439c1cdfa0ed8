"""What static pictures are made of: SVG's elements, and the marks of points."""

import html
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from markupsafe import Markup, escape

LETTER = 0.56
"""How wide a letter is, in parts of its size, on average."""

SIZE = 13.0
"""Of letters, in units of the picture."""

DASHES = {"dash": "7 5", "dot": "2 4"}


def picture(width: float, height: float, title: str, parts: Iterable[Markup]) -> Markup:
    """A picture of so many units, called by its title where it isn't seen."""
    head = Markup('<svg class="picture" viewBox="0 0 {} {}" role="img" aria-label="{}">').format(
        _short(width), _short(height), title
    )
    return head + Markup("").join(parts) + Markup("</svg>")


def tag(name: str, **attributes: Any) -> Markup:
    """An element without content."""
    written = Markup("").join(
        Markup(' {}="{}"').format(key.replace("_", "-"), value if isinstance(value, str) else _short(value))
        for key, value in attributes.items()
    )
    return Markup("<{}{}/>").format(Markup(name), written)


def _short(value: float) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".")


def line(x1: float, y1: float, x2: float, y2: float, **attributes: Any) -> Markup:
    """A line, in the colour of the text around it where none is given."""
    return tag("line", x1=x1, y1=y1, x2=x2, y2=y2, **{"stroke": "currentColor", **attributes})


def stroke(given: Mapping[str, Any]) -> dict[str, Any]:
    """How plotly's line is drawn."""
    dash = DASHES.get(given.get("dash", ""))
    return {"stroke": given["color"], "stroke_width": given.get("width", 1.5)} | (
        {"stroke_dasharray": dash} if dash else {}
    )


def text(x: float, y: float, said: str, anchor: str = "start", turned: float = 0, fill: str = "currentColor") -> Markup:
    """A text that plotly takes, in which markup is escaped already."""
    place = f' transform="rotate({turned:g} {x:.1f} {y:.1f})"' if turned else ""
    return Markup('<text x="{}" y="{}" font-size="{}" text-anchor="{}" fill="{}"{}>{}</text>').format(
        _short(x), _short(y), _short(SIZE), anchor, fill, Markup(place), escape(html.unescape(said))
    )


Symbol = Callable[[float, float, float, str, float], Markup]
"""Draws a mark: its place, half of its size, its colour and opacity."""


def _circle(x: float, y: float, r: float, colour: str, opacity: float) -> Markup:
    return tag("circle", cx=x, cy=y, r=r, fill=colour, opacity=opacity)


def _ring(x: float, y: float, r: float, colour: str, opacity: float) -> Markup:
    return tag("circle", cx=x, cy=y, r=r, fill="none", stroke=colour, stroke_width=2.5, opacity=opacity)


def _polygon(*corners: tuple[float, float]) -> Symbol:
    def draw(x: float, y: float, r: float, colour: str, opacity: float) -> Markup:
        points = " ".join(f"{x + r * dx:.1f},{y + r * dy:.1f}" for dx, dy in corners)
        return tag("polygon", points=points, fill=colour, opacity=opacity)

    return draw


def _cross(x: float, y: float, r: float, colour: str, opacity: float) -> Markup:
    stroke = {"stroke": colour, "stroke_width": 2.2, "opacity": opacity}
    return line(x - r, y - r, x + r, y + r, **stroke) + line(x - r, y + r, x + r, y - r, **stroke)


SYMBOLS: Mapping[str, Symbol] = {
    "circle": _circle,
    "circle-open": _ring,
    "square": _polygon((-0.9, -0.9), (0.9, -0.9), (0.9, 0.9), (-0.9, 0.9)),
    "diamond": _polygon((0, -1.25), (1.25, 0), (0, 1.25), (-1.25, 0)),
    "triangle-up": _polygon((0, -1.2), (1.1, 0.8), (-1.1, 0.8)),
    "x": _cross,
}
