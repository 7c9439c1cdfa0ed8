"""Draw what a study's page opens with, where it is no plain figure of a measure: differences, a heat map, a triangle, pairs."""

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from depth_loss_sweep.reports.axes import Axis
from depth_loss_sweep.reports.charts import (
    COLORSCALE,
    CROSS,
    DIVERGED,
    ERROR_BAR,
    MEAN,
    OUTCOME_COLOURS,
    POINT,
    Chart,
    add_scatter,
    clean,
    new_chart,
    place_ticks,
    rounded,
    seed_lines,
)
from depth_loss_sweep.reports.contrasts import reach_of_ends
from depth_loss_sweep.reports.measures import NO_BREAK, Measure, number, rough, short
from depth_loss_sweep.reports.series import Differences
from depth_loss_sweep.reports.wording import MOST_PERCENT

HEIGHT = 290
"""Pixels of the figure that the page opens with, at least: on a desk it fills the first screen."""

RING = "circle-open"
"""The marker of the named trial."""

MOST_TOLD = 12  # bars that are cut have an arrow and their number beside them; of more, it is said how many they are
DRAWN = 2  # a heat map has at most so many cells for each that was tried


@dataclass(frozen=True)
class Mark:
    """The trial that is ringed, what it is called, and whether it is recommended (a green ring, else a grey one)."""

    trial: int | None
    verdict: str
    is_recommended: bool

    @property
    def colour(self) -> str:
        """The ring's."""
        return OUTCOME_COLOURS["learnt"] if self.is_recommended else POINT


def as_differences(chart: Chart, found: Differences) -> Chart:
    """A measure's chart with its seeds and means as differences to the named trial, and without what has none."""
    seeds, means, *others = chart.data
    # The ring stands on the named trial, so at 0.
    hidden = [{**t, "y": [0.0 if t.get("marker", {}).get("symbol") == RING else None] * len(t["y"])} for t in others]
    lines = seed_lines(found.seed_x, found.seed_y, found.seed_names, found.seeds, found.seed_trials)
    data = [
        {**seeds, **lines, "hovertemplate": f"%{{text}}: %{{y:.3r}} {clean(found.unit)}<extra></extra>"},
        {
            **means,
            "x": found.x,
            "y": rounded(found.mean),
            "error_y": {**ERROR_BAR, "color": means["marker"]["color"], "symmetric": False}
            | {"array": rounded(found.above), "arrayminus": rounded(found.below)},
            "customdata": found.trials,
            "text": [_told_of(mean, *both, found.unit) for mean, both in zip(found.mean, _ends(found), strict=True)],
            "hovertemplate": "trial %{customdata}: %{text}<extra></extra>",
        },
        *hidden,
    ]
    title = {"text": f"worse than {clean(found.reference)} by ({clean(found.unit)})", "standoff": 8}
    zero = {"type": "line", "xref": "paper", "x0": 0, "x1": 1, "y0": 0, "y1": 0, "line": {"color": POINT, "width": 1}}
    low, high = _seen(found)
    y = {**chart.layout["yaxis"], "title": title, "range": rounded([low, high])}
    return Chart(data, {**chart.layout, "yaxis": y, "annotations": _cut(found, low, high), "shapes": [zero]})


def _ends(found: Differences) -> list[tuple[float, float]]:
    return [(m - below, m + above) for m, below, above in zip(found.mean, found.below, found.above, strict=True)]


def _seen(found: Differences) -> tuple[float, float]:
    """The heights between which all seeds lie, and the intervals but for those that tell as good as nothing."""
    ends = [end for both in _ends(found) for end in both]
    reach = reach_of_ends(ends, MOST_PERCENT if found.unit == "%" else math.inf)
    values = [*found.seed_y, *(end for end in ends if abs(end) <= reach)]
    pad = 0.06 * (max(values) - min(values)) or 0.1
    return min(values) - pad, max(values) + pad


def _cut(found: Differences, low: float, high: float) -> list[dict[str, Any]]:
    """An arrow with its number at the edge for each interval that goes on beyond it, or how many do."""
    places = [(x, *ends) for x, ends in zip(found.x, _ends(found), strict=True)]
    cut = [(x, 0, "bottom", f"← {_said(end, found.unit)}") for x, end, _ in places if end < low]
    cut += [(x, 1, "top", f"{_said(end, found.unit)} →") for x, _, end in places if end > high]
    look: dict[str, Any] = {"yref": "paper", "showarrow": False, "font": {"size": 10.5, "color": MEAN}}
    if len(cut) > MOST_TOLD:
        said = {"x": 0.99, "xref": "paper", "xanchor": "right", "y": 1, "yanchor": "top"}
        return [{**look, **said, "text": f"{len(cut)} ends of intervals lie beyond"}]
    # The text is turned, so that its arrow points up or down and bars side by side keep their numbers.
    look |= {"textangle": -90, "xanchor": "right", "xshift": -3}
    return [{"x": x, "y": edge, "yanchor": anchor, **look, "text": text} for x, edge, anchor, text in cut]


def _told_of(mean: float, low: float, high: float, unit: str) -> str:
    between = f", {_said(low, unit)} to {_said(high, unit)} (95 %, all trials at once)" if math.isfinite(low) else ""
    return f"worse by {_said(mean, unit)}{between}"


def _said(end: float, unit: str) -> str:
    """An interval's end with its unit."""
    if unit != "%":
        return rough(end, unit)
    size = f"> {MOST_PERCENT}" if end > MOST_PERCENT else f"{end:.0f}" if abs(end) >= 10 else f"{end:.2g}"
    return clean(size.replace("-", "−")) + f"{NO_BREAK}%"


def heat_chart(
    x: Axis, y: Axis, measure: Measure, means: Mapping[int, float], diverged: Collection[int], mark: Mark
) -> Chart:
    """Means over two variables: a cell each where they were chosen from a grid, else dots alone; every dot was tried, every cross, too."""
    is_grid = len({*x.values.values()}) * len({*y.values.values()}) <= DRAWN * len(x.values)
    x, y = (_evenly(x), _evenly(y)) if is_grid else (x, y)
    chart = new_chart(HEIGHT, x.title, y.title)
    bar = {"title": {"text": clean(measure.axis), "side": "right"}, "thickness": 10, "outlinewidth": 0}
    scale = COLORSCALE if not measure.higher_is_better else _reversed(COLORSCALE)
    colours: dict[str, Any] = {"color": POINT, "size": 5}
    if is_grid:
        _add_cells(chart, x, y, means, {"colorscale": scale, "colorbar": bar})
    else:
        colours = {"color": rounded([*means.values()]), "colorscale": scale, "showscale": True, "colorbar": bar}
        colours |= {"size": 11}
    _add_dots(chart, x, y, {n: f"{measure.axis} {number(value)}" for n, value in means.items()}, colours)
    _add_crosses(chart, x, y, diverged)
    _add_ring(chart, x, y, mark, "#ffffff" if is_grid else mark.colour)
    place_ticks(chart, x)
    place_ticks(chart, y, "yaxis")
    return chart


def _add_cells(chart: Chart, x: Axis, y: Axis, means: Mapping[int, float], colours: Mapping[str, Any]) -> None:
    columns, rows = len(x.names), len(y.names)
    cells = {(x.values[n], y.values[n]): value for n, value in means.items()}
    z = [rounded([cells.get((float(i), float(j)), math.nan) for i in range(columns)]) for j in range(rows)]
    heat = {"type": "heatmap", "z": z, "x": [*range(columns)], "y": [*range(rows)], "hoverinfo": "skip"}
    chart.data.append({**heat, "xgap": 2, "ygap": 2, **colours})


def _evenly(axis: Axis) -> Axis:
    """The axis with its values side by side, each by its name."""
    if axis.names:
        return axis
    values = sorted({*axis.values.values()})
    places = {n: float(values.index(value)) for n, value in axis.values.items()}
    return Axis(axis.title, places, tuple(map(short, values)))


def _reversed(scale: Sequence[Sequence[Any]]) -> list[list[Any]]:
    return [[1 - place, colour] for place, colour in reversed(scale)]


def pair_chart(x: Axis, y: Axis, ranks: Mapping[int, int], diverged: Collection[int], mark: Mark) -> Chart:
    """Trials over two of several variables, coloured by rank (1 is best)."""
    chart = new_chart(HEIGHT, x.title, y.title)
    _add_dots(chart, x, y, _told(ranks), _by_rank(ranks))
    _add_crosses(chart, x, y, diverged)
    _add_ring(chart, x, y, mark, mark.colour)
    place_ticks(chart, x)
    place_ticks(chart, y, "yaxis")
    return chart


def ternary_chart(every: Sequence[Axis], ranks: Mapping[int, int], diverged: Collection[int], mark: Mark) -> Chart:
    """Trials on the triangle of three weights, coloured by rank (1 is best)."""
    chart = new_chart(HEIGHT, "", "", margin={"l": 60, "r": 60, "t": 34, "b": 44})
    for key in ("xaxis", "yaxis"):
        del chart.layout[key]
    sides = dict(zip(("aaxis", "baxis", "caxis"), every, strict=True))
    names = {key: clean(axis.title.removeprefix("weight of ")) for key, axis in sides.items()}
    corners = {
        key: {"title": {"text": name}, "ticks": "outside", "ticklen": 3, "tickvals": [0.2, 0.4, 0.6, 0.8]}
        for key, name in names.items()
    }
    chart.layout["ternary"] = {"sum": 1, **corners}
    marker = {**_by_rank(ranks), "line": {"width": 0}}
    trials = {
        "text": [f"trial {n}: {told}" for n, told in _told(ranks).items()],
        "customdata": [*ranks],
        "marker": marker,
    }
    _add_ternary(chart, every, [*ranks], hovertemplate="%{text}<extra></extra>", **trials)
    if diverged:
        _add_ternary(chart, every, [*diverged], customdata=[*diverged], marker=CROSS, hovertemplate=DIVERGED)
    ringed = [n for n in ranks if n == mark.trial]
    ring = {"customdata": ringed, "meta": "ring", "marker": _ring(mark.colour)}
    _add_ternary(chart, every, ringed, hovertemplate=f"{mark.verdict}<extra></extra>", **ring)
    return chart


def _add_ternary(chart: Chart, every: Sequence[Axis], trials: Sequence[int], **trace: Any) -> None:
    places = {key: rounded([axis.values[n] for n in trials]) for key, axis in zip("abc", every, strict=True)}
    chart.data.append({"type": "scatterternary", "mode": "markers", "cliponaxis": False, **places, **trace})


def _by_rank(ranks: Mapping[int, int]) -> dict[str, Any]:
    last = max(ranks.values())
    colours = {"color": [*ranks.values()], "cmin": 1, "cmax": last, "colorscale": COLORSCALE, "showscale": True}
    bar = {"thickness": 10, "outlinewidth": 0, "tickvals": [1, last], "ticktext": ["best", "worst"]}
    return {**colours, "size": 9, "colorbar": bar}


def _told(ranks: Mapping[int, int]) -> dict[int, str]:
    last = max(ranks.values())
    return {n: f"rank {rank} of {last}" for n, rank in ranks.items()}


def _add_dots(chart: Chart, x: Axis, y: Axis, said: Mapping[int, str], marker: Mapping[str, Any]) -> None:
    add_scatter(
        chart,
        x=rounded([x.positions[n] for n in said]),
        y=rounded([y.positions[n] for n in said]),
        mode="markers",
        marker={**marker},
        text=[f"trial {n}: {text}" for n, text in said.items()],
        customdata=[*said],
        hovertemplate="%{text}<extra></extra>",
    )


def _add_crosses(chart: Chart, x: Axis, y: Axis, diverged: Collection[int]) -> None:
    """A cross where a trial stands that has no finite mean, so neither colour nor rank."""
    if not diverged:
        return
    across, up = ([axis.positions[n] for n in diverged] for axis in (x, y))
    add_scatter(
        chart,
        x=rounded(across),
        y=rounded(up),
        mode="markers",
        customdata=[*diverged],
        marker={**CROSS},
        hovertemplate=DIVERGED,
    )


def _add_ring(chart: Chart, x: Axis, y: Axis, mark: Mark, colour: str) -> None:
    across, up = (math.nan if mark.trial is None else axis.positions[mark.trial] for axis in (x, y))
    add_scatter(
        chart,
        x=rounded([across]),
        y=rounded([up]),
        mode="markers",
        customdata=[mark.trial],
        meta="ring",
        marker=_ring(colour),
        hovertemplate=f"{mark.verdict}<extra></extra>",
    )


def _ring(colour: str) -> dict[str, Any]:
    return {"symbol": RING, "size": 20, "color": colour, "line": {"width": 2.5}}
