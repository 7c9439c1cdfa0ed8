"""Charts without a script: what plotly would draw of them, as SVG."""

import math
from xml.etree import ElementTree

import pytest

from depth_loss_sweep.reports import breakage_figures, figures
from depth_loss_sweep.reports.analysis import Analysis
from depth_loss_sweep.reports.axes import Axis, main_axis
from depth_loss_sweep.reports.charts import OUTCOME_COLOURS, Chart, add_scatter, colour_at, new_chart
from depth_loss_sweep.reports.hero_figures import Mark, heat_chart, ternary_chart
from depth_loss_sweep.reports.measures import Measure
from depth_loss_sweep.reports.series import (
    break_rates,
    contributions,
    epoch_curves,
    gradient_points,
    measure_series,
    named_baselines,
    outcome_counts,
)
from depth_loss_sweep.reports.svg import chart_svg, sparkline

SVG = "{http://www.w3.org/2000/svg}"


def parsed(picture: str) -> ElementTree.Element:
    """A picture as an XML reader sees it."""
    return ElementTree.fromstring(str(picture).replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" ', 1))


def charts(analysis: Analysis) -> dict[str, Chart]:
    """One of each kind that stands along one axis."""
    axis, measure = main_axis(analysis), analysis.ranking
    curves = epoch_curves(analysis.record.epochs, analysis.trials, measure, axis, "val")
    baselines = named_baselines(analysis, measure, "val")
    return {
        "measure": figures.measure_chart(measure_series(analysis, measure, axis), marked=analysis.decision.trial),
        "outcomes": breakage_figures.outcomes_chart(outcome_counts(analysis, axis)),
        "rates": breakage_figures.rates_chart(break_rates(analysis, axis)),
        "norms": breakage_figures.gradient_chart(gradient_points(analysis, axis), axis),
        "parts": figures.shares_chart(contributions(analysis, axis), "weighted term", analysis.term_names),
        "curves": figures.curves_chart(curves, measure, baselines, axis, None),
    }


@pytest.mark.parametrize(
    "options", [{}, {"diverged": (4, 7)}, {"kind": "points", "trials": 4}, {"kind": "grid"}, {"trials": 2, "seeds": 1}]
)
def test_every_chart_is_a_picture(study, options):
    """Well-formed, called by its title, with marks in it, and nothing outside of it."""
    for name, chart in charts(Analysis(study(**options))).items():
        picture = parsed(chart_svg(chart, f"{name} <&>"))
        assert picture.get("aria-label") == f"{name} <&>"
        width, height = map(float, picture.get("viewBox").split()[2:])
        marks = [mark for kind in ("circle", "polygon", "polyline", "rect") for mark in picture.iter(f"{SVG}{kind}")]
        crosses = [line for line in picture.iter(f"{SVG}line") if line.get("stroke") != "currentColor"]
        assert marks or crosses, name
        for mark in picture.iter(f"{SVG}circle"):
            assert 0 <= float(mark.get("cx")) <= width and 0 <= float(mark.get("cy")) <= height, name
        assert "nan" not in ElementTree.tostring(picture, encoding="unicode").lower(), name


def test_numbers_stand_in_their_order(study):
    """A larger value stands higher, and a trial with a diverged seed is a cross on the upper edge."""
    chart = new_chart(300, "w", "RMSE (m)")
    marks = {"mode": "markers", "marker": {"color": "#111", "symbol": "circle"}}
    add_scatter(chart, x=[0, 1, 2, 3], y=[1.0, 3.0, None, 2.0], **marks)
    drawn = [(float(c.get("cx")), float(c.get("cy"))) for c in parsed(chart_svg(chart, "t")).iter(f"{SVG}circle")]
    assert [x for x, _ in drawn] == sorted(x for x, _ in drawn) and len(drawn) == 3
    assert drawn[1][1] < drawn[2][1] < drawn[0][1]
    whole, broken = (charts(Analysis(study(diverged=d)))["measure"] for d in ((), (4,)))
    crosses = [chart_svg(chart, "t").count(f'stroke="{OUTCOME_COLOURS["non_finite"]}"') for chart in (whole, broken)]
    assert crosses == [0, 2]


@pytest.mark.parametrize("higher", [False, True])
def test_a_heat_map_has_a_cell_for_each_pair_that_was_tried(higher):
    """Coloured along the page's scale, the best in its first colour, with a key and the names of both axes."""
    axes = Axis("w", {0: 0.0, 1: 1.0, 2: 0.0}), Axis("rate", {0: 1e-4, 1: 1e-4, 2: 1e-3})
    measure = Measure("metric_x", "x", "m", higher_is_better=higher)
    chart = heat_chart(*axes, measure, {0: 1.0, 1: 2.0, 2: 3.0}, [], Mark(0, "ahead", False))
    picture = parsed(chart_svg(chart, "t"))
    boxes = {path.get("fill"): path.get("d").count("M") for path in picture.iter(f"{SVG}path")}
    assert sum(boxes.values()) == 3 and {colour_at(0), colour_at(1)} < {*boxes}
    left = {path.get("fill"): float(path.get("d")[1:].split(",")[0]) for path in picture.iter(f"{SVG}path")}
    assert left[colour_at(1 if higher else 0)] == min(left.values())
    assert {"0.0001", "0.001", "x (m)", "3"} <= {text.text for text in picture.iter(f"{SVG}text")}


def test_a_triangle_has_each_trial_at_its_weights():
    """A trial of one term alone stands in that term's corner, an equal one in the middle; the corners have names."""
    weights = [(1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0), (1 / 3, 1 / 3, 1 / 3)]
    every = [Axis(f"weight of {name}", {n: w[i] for n, w in enumerate(weights)}) for i, name in enumerate("abc")]
    picture = parsed(chart_svg(ternary_chart(every, {n: n + 1 for n in range(4)}, [], Mark(None, "", False)), "t"))
    a, b, c, middle = ((float(m.get("cx")), float(m.get("cy"))) for m in picture.iter(f"{SVG}circle"))
    assert b[0] < a[0] < c[0] and a[1] < middle[1] < b[1] == c[1]
    assert middle == pytest.approx([sum(p[i] for p in (a, b, c)) / 3 for i in (0, 1)], abs=0.02)
    assert {"a", "b", "c", "best", "worst"} == {text.text for text in picture.iter(f"{SVG}text")}


def test_hostile_names_are_text():
    """Markup in the name of a point, an axis or a trace, which plotly takes escaped, is text."""
    name = "<script>alert('x')</script> & \"q\" 🌟 שלום"
    chart = new_chart(300, name, name)
    add_scatter(chart, x=[0], y=[1.0], mode="markers", marker={"color": "#111"}, name="&lt;b&gt;")
    chart.layout["showlegend"] = True
    chart.layout["xaxis"] |= {"tickvals": [0], "ticktext": ["&lt;i&gt;"]}
    picture = parsed(chart_svg(chart, name))
    texts = [text.text for text in picture.iter(f"{SVG}text")]
    assert {name, "<b>", "<i>"} <= {*texts} and picture.get("aria-label") == name
    assert not list(picture.iter(f"{SVG}script"))


def test_a_small_line_marks_what_is_named():
    """One dot, where it is; a value that isn't finite is left out, and without any there is no picture."""
    picture = parsed(sparkline([3.0, 1.0, math.inf, 2.0], 1, "means"))
    (line,), (dot,) = picture.iter(f"{SVG}polyline"), picture.iter(f"{SVG}circle")
    assert len(line.get("points").split()) == 3
    assert line.get("points").split()[1] == f"{float(dot.get('cx')):.1f},{float(dot.get('cy')):.1f}"
    assert sparkline([math.nan], None, "means") == ""
