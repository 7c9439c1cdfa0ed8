"""The figure that a page opens with, by the kind of study."""

import pytest

from depth_loss_sweep.reports.analysis import Analysis
from depth_loss_sweep.reports.axes import axes
from depth_loss_sweep.reports.charts import OUTCOME_COLOURS, add_baselines, new_chart
from depth_loss_sweep.reports.hero import hero, still


def shown(record):
    """The hero's chart."""
    figure, *_ = hero(Analysis(record), "study-1").figures
    return figure.chart


def apart(trials=3, seeds=5, **options):
    """Options of a study whose trials differ clearly, 0 the best."""
    values = {(t, s): 0.5 + 0.05 * t + 0.002 * ((t + s) % 3) for t in range(trials) for s in range(seeds)}
    return {"trials": trials, "seeds": seeds, "values": values, "baseline": 2.0, **options}


def test_a_line_joins_each_seed_from_left_to_right(study):
    """One thin line a seed, with a gap after it; means stand on a line of their own."""
    seeds, means, *_ = shown(study(**apart())).data
    assert seeds["x"] == [0.0, 0.45, 0.9, None] * 5 and seeds["mode"] == "lines+markers"
    assert means["x"] == [0.0, 0.45, 0.9]


def test_a_line_can_be_seen_as_differences_to_the_named_trial(study):
    """In per cent, paired by seed; intervals are the decision's, the named trial stands at 0 and no trivial predictor is drawn."""
    record = study(**apart())
    analysis = Analysis(record)
    chart = shown(record).chosen("differences")
    seeds, means, *others = chart.data
    contrasts = {c.trial: c for c in analysis.decision.contrasts}
    assert analysis.decision.trial == 0 and means["y"][0] == 0.0
    for i in (1, 2):
        assert means["y"][i] == pytest.approx(100 * contrasts[i].difference, rel=1e-4)
        low = means["y"][i] - means["error_y"]["arrayminus"][i]
        assert low == pytest.approx(100 * contrasts[i].low, rel=1e-3, abs=1e-3)
    own, other = (
        record.epochs[record.epochs["run"] == run]["metric_rmse"].iloc[-1] for run in record.runs["run"][[0, 5]]
    )
    assert seeds["y"][1] == pytest.approx(100 * (other / own - 1), rel=1e-3)
    assert {v for t in others if t.get("meta") == "baseline" for v in t["y"]} == {None}
    assert chart.layout["yaxis"]["title"]["text"] == "worse than w = 0 by (%)" and chart.layout["annotations"] == []


def test_an_interval_as_good_as_none_squeezes_no_other(study):
    """Where runs broke, few seeds are left: the axis is that of the others, the longer bars end in an arrow with their number."""
    record = study(diverged=(8, 9))
    chart = shown(record).chosen("differences")
    (low, high), means = chart.layout["yaxis"]["range"], chart.data[1]
    seeds = [y for y in chart.data[0]["y"] if y is not None]
    tops = [m + up for m, up in zip(means["y"], means["error_y"]["array"], strict=True) if up is not None]
    assert max(tops) > 9000 and low < min(seeds) < max(seeds) < high < 200
    told = [(label["x"], label["text"]) for label in chart.layout["annotations"] if label["y"] == 1]
    assert told == [(0.8, "&gt; 1000\u00a0% →"), (0.9, "&gt; 1000\u00a0% →")]


def test_a_study_that_decides_nothing_has_no_differences(study):
    """One seed: no contrasts, so no menu."""
    assert hero(Analysis(study(seeds=1)), "s").menu == () and not shown(study(seeds=1)).choices


def test_two_variables_are_a_heat_map_with_the_tried_points_as_dots(study):
    """A cell for each pair of values; what was not tried has no colour, what was a dot."""
    record = study("grid", trials=6)
    heat, dots, ring = shown(record).data
    values = {(t.params["w"], t.params["train.learning_rate"]): t.mean for t in Analysis(record).trials}
    assert heat["type"] == "heatmap" and len(heat["z"]) == 2 and len(heat["z"][0]) == 6
    filled = [v for row in heat["z"] for v in row if v is not None]
    assert sorted(filled) == pytest.approx(sorted(values.values()), rel=1e-4)
    assert len(dots["x"]) == 6 and len(ring["x"]) == 1


def test_a_simplex_of_three_is_a_triangle(study):
    """Trials stand by their three weights and are coloured by rank, the best first; nothing is interpolated."""
    record = study("simplex", trials=8)
    record.trials["weight_l1"] = record.trials["var_l1"] = 0.0
    chart = shown(record)
    trials, _ = chart.data
    assert {t["type"] for t in chart.data} == {"scatterternary"} and "xaxis" not in chart.layout
    best = Analysis(record).ranked[0].number
    order = [text.split(":")[0] for text in trials["text"]]
    assert trials["marker"]["color"][order.index(f"trial {best}")] == 1
    assert trials["a"] == pytest.approx(
        record.trials["weight_silog"][[int(n.split()[1]) for n in order]].tolist(), rel=1e-4
    )


def test_four_weights_are_shown_two_at_a_time(study):
    """A menu of the six pairs, in the same colours."""
    found = hero(Analysis(study("simplex", trials=8)), "study-1")
    chart = found.figures[0].chart
    assert len(found.menu) == len(chart.choices) == 6
    name, label = found.menu[-1]
    titles = [chart.chosen(name).layout[axis]["title"]["text"] for axis in ("xaxis", "yaxis")]
    assert label == "edge and L1" and titles == ["weight of edge", "weight of L1"]


@pytest.mark.parametrize("kind", ["grid", "simplex", "triangle"])
def test_a_trial_that_diverged_is_a_cross_where_it_stands(study, kind):
    """It was tried, and has neither colour nor rank: on a heat map, over two weights of four, and on a triangle; on paper, too."""
    record = study("simplex" if kind == "triangle" else kind, trials=8, diverged=(2, 5))
    if kind == "triangle":
        record.trials["weight_l1"] = record.trials["var_l1"] = 0.0
    analysis = Analysis(record)
    figure, *_ = (found := hero(analysis, "s")).figures
    (crosses,) = (t for t in figure.chart.data if t.get("marker", {}).get("symbol") == "x")
    assert crosses["customdata"] == [2, 5] and "A red cross: a seed went non-finite" in figure.note
    every = axes(analysis)
    if kind == "triangle":
        assert crosses["a"] == pytest.approx([every[0].values[n] for n in (2, 5)], rel=1e-4)
    elif kind == "simplex":
        (crosses,) = (t for t in figure.chart.chosen("0-2").data if t.get("marker", {}).get("symbol") == "x")
        for key, axis in zip("xy", every[::2], strict=False):
            assert crosses[key] == pytest.approx([axis.values[n] for n in (2, 5)], rel=1e-4)
    else:  # a grid's values stand side by side
        for key, axis in zip("xy", every, strict=True):
            assert crosses[key] == [sorted({*axis.values.values()}).index(axis.values[n]) for n in (2, 5)]
    strokes = still(analysis, found).count(OUTCOME_COLOURS["non_finite"])
    assert strokes == 2 * 2


def test_the_name_of_a_far_predictor_stands_above_the_marks_of_diverged_runs(study):
    """In a strip of its own, one name above the other, where the toolbar isn't."""
    layout = shown(study(diverged=(8, 9), baseline=3.0)).layout
    labels = layout["annotations"]
    assert [(a["y"], a["yanchor"], a["xanchor"]) for a in labels] == [(1, "bottom", "left")] * 2
    assert labels[0]["yshift"] + 12 < labels[1]["yshift"] + 1 < layout["margin"]["t"] - 12


@pytest.mark.parametrize("kind", ["line", "grid"])
def test_the_static_picture_of_many_trials_is_thinned(study, kind):
    """It has some of them, the named one's ring among its marks, and says how many."""
    analysis = Analysis(study(kind, trials=210, epochs=1))
    drawn = still(analysis, hero(analysis, "s"))
    assert "one in 3 of 210 trials" in drawn and drawn.count('fill="none" stroke="#') >= 1
    assert 60 < drawn.count("<circle") < 300


@pytest.mark.parametrize("options", [{"kind": "point", "trials": 1}, {"finished": 0}])
def test_what_has_nothing_to_compare_has_no_hero(study, options):
    """A single trial has numbers, an unbegun study nothing."""
    assert hero(Analysis(study(**options)), "study-1") is None


@pytest.mark.parametrize("values", [(0.6, 0.6), (0.6, 0.601), (0.9, 0.6), (0.9, 0.95), (0.1, 0.6), (0.1, 0.9)])
def test_labels_of_trivial_predictors_stand_apart(values):
    """Equal, nearly equal, both or one of them off the figure: no two labels within a line's height of each other."""
    chart = new_chart(290, "w", "RMSE")
    add_baselines(chart, dict(zip(("median", "mean map"), values, strict=True)), [0, 1], (0.4, 0.7))
    pixels = 290 - 68
    places = []
    for label in chart.layout["annotations"]:
        share = label["y"] if label.get("yref") == "paper" else (label["y"] - 0.4) / 0.3
        places.append(pixels * share + label["yshift"])
    assert len(places) == 2 and abs(places[0] - places[1]) >= 12
