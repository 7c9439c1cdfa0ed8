import math
from dataclasses import replace

import numpy as np
import pytest

from depth_loss_sweep.reports.analysis import Analysis
from depth_loss_sweep.reports.axes import axes, main_axis
from depth_loss_sweep.reports.breakage_figures import outcomes_chart
from depth_loss_sweep.reports.figures import measure_chart
from depth_loss_sweep.reports.measures import Measure
from depth_loss_sweep.reports.series import contributions, epoch_curves, gradient_points, measure_series, outcome_counts

RMSE = Measure("metric_rmse", "RMSE", "m")
TOTAL = Measure("total", "combined loss", "weighted sum")


def test_a_series_keeps_every_seed_and_says_how_many_made_each_mean(study):
    """Points, means, half widths and n belong together."""
    analysis = Analysis(study(trials=3, seeds=4))
    series = measure_series(analysis, RMSE, main_axis(analysis))
    assert len(series.seed_y) == 12 and series.counts == [4, 4, 4]
    assert series.mean_x == [0.0, 0.45, 0.9]
    assert series.mean_y[0] == pytest.approx(np.mean(series.seed_y[:4]))
    assert all(h > 0 for h in series.half_widths)
    assert series.baselines == {"training median": 0.71, "training mean map": pytest.approx(0.639)}


def test_a_diverged_trial_keeps_its_points_but_has_no_mean(study):
    """Its place is marked instead."""
    analysis = Analysis(study(trials=3, diverged=(2,)))
    series = measure_series(analysis, RMSE, main_axis(analysis))
    assert [*series.diverged.values()] == [0.9] and series.mean_x == [0.0, 0.45] and len(series.seed_y) == 8


def test_the_combined_loss_has_no_trivial_predictors(study):
    """They would be weighed differently at every point."""
    analysis = Analysis(study(trials=2))
    assert all(math.isnan(v) for v in measure_series(analysis, TOTAL, main_axis(analysis)).baselines.values())


@pytest.mark.parametrize(("kind", "count"), [("line", 1), ("grid", 2), ("simplex", 4), ("point", 1)])
def test_every_kind_of_space_has_its_axes(study, kind, count):
    """A line has one, a grid one a variable, a simplex one a weight, a point the trial's name."""
    record = study(kind, trials=1 if kind == "point" else 6)
    places = axes(Analysis(record))
    assert len(places) == count
    assert bool(places[0].names) == (kind == "point")


def test_values_that_are_no_numbers_stand_in_a_row(study):
    """Swept names keep the order of the trials."""
    record = study(trials=3)
    record.trials["var_w"] = ["plain", "rooted", "plain"]
    axis = main_axis(Analysis(record))
    assert axis.names == ("plain", "rooted") and list(axis.positions.values()) == [0.0, 1.0, 0.0]


def test_a_mean_curve_ends_where_its_first_seed_does(study):
    """After a seed stops, the others are not averaged alone."""
    record = study(trials=2, seeds=2, epochs=6, diverged=(1,))
    analysis = Analysis(record)
    whole, cut = epoch_curves(record.epochs, analysis.trials, RMSE, main_axis(analysis), "val")
    assert whole.epochs == [1, 2, 3, 4, 5, 6] and np.isfinite(whole.mean).all()
    assert np.isfinite(cut.mean).tolist() == [True, True, False, False, False, False]
    assert np.isfinite(cut.seeds[0]).all()


def test_outcomes_are_counted_with_what_is_unfinished(study):
    """Every run of a trial stands in exactly one part of its bar."""
    analysis = Analysis(study(trials=3, seeds=2, finished=3, diverged=(0,)))
    counts = outcome_counts(analysis, main_axis(analysis)).counts
    assert counts["learnt"] == [1, 1, 0] and counts["non_finite"] == [1, 0, 0] and counts["unfinished"] == [0, 1, 2]


def test_a_run_without_finite_gradient_is_kept_as_infinite(study):
    """It must not vanish from the figure that is about it."""
    analysis = Analysis(study(trials=2, diverged=(1,)))
    points = gradient_points(analysis, main_axis(analysis))
    assert len(points) == 6
    assert [p.outcome for p in points if math.isinf(p.norm)] == ["non_finite"]


def test_contributions_add_up_to_the_combined_loss(study):
    """Weight times term, summed over terms, is what was minimised."""
    analysis = Analysis(study(trials=3))
    parts = contributions(analysis, main_axis(analysis)).parts
    totals = measure_series(analysis, TOTAL, main_axis(analysis)).mean_y
    assert np.sum(list(parts.values()), axis=0) == pytest.approx(totals)


def test_only_measures_with_values_are_shown(study):
    """A column without a finite number is no measure of this study."""
    record = study(trials=1)
    record.epochs["metric_rmse_far"] = np.nan
    assert "metric_rmse_far" not in [m.column for m in Analysis(record).measured_metrics]


def over(record, values):
    """The study, its line being of these values."""
    return replace(record, trials=record.trials.assign(var_w=values))


def test_weights_over_decades_stand_at_equal_distances(study):
    """From 0 to 100 in powers of ten: a decade a step, zero one decade below the rest, ticks at what was tried, wide bars."""
    record = over(study(trials=6), [0.0, 0.01, 0.1, 1.0, 10.0, 100.0])
    (axis,) = axes(Analysis(record))
    assert [*axis.positions.values()] == pytest.approx([-3, -2, -1, 0, 1, 2])
    assert [*axis.ticks.values()] == ["0", "0.01", "0.1", "1", "10", "100"]
    chart = outcomes_chart(outcome_counts(Analysis(record), axis))
    assert chart.data[0]["width"] > 0.5 and chart.layout["xaxis"]["ticktext"] == [*axis.ticks.values()]


def test_ticks_stand_where_something_was_tried(study):
    """At the chosen values, as many as have room; a drawn weight keeps round numbers, and what was drawn over decades those."""
    uneven = over(study(trials=5), [0.0, 0.01, 0.3, 0.31, 0.9])
    chart = measure_chart(measure_series(Analysis(uneven), RMSE, main_axis(Analysis(uneven))))
    assert chart.layout["xaxis"]["ticktext"] == ["0", "0.3", "0.9"]
    drawn = over(study(trials=4), [0.123456, 0.31234567, 0.4567891, 0.8912345])
    (axis,) = axes(Analysis(drawn))
    assert axis.ticks == {} and axis.least is None
    wide = over(study(trials=4), [0.00123456, 0.0234567, 0.4567891, 0.8912345])
    wide = replace(wide, spec={**wide.spec, "variables": [{"name": "w", "low": 0.001, "high": 1.0, "log": True}]})
    (axis,) = axes(Analysis(wide))
    assert axis.ticks == {-3.0: "0.001", -2.0: "0.01", -1.0: "0.1", 0.0: "1"}


def test_a_variable_of_one_value_is_no_axis(study) -> None:
    """Rules over one named point are drawn along the rules, not over a map of two variables; a point alone is its own axis."""
    record = study(kind="points", trials=3)
    rules = record.trials.assign(**{"var_point": "equal", "var_loss.weighting": ["fixed", "rlw", "dwa"]})
    variables = [{"name": "point", "values": ["equal"]}, {"name": "loss.weighting", "values": ["fixed", "rlw", "dwa"]}]
    names = tuple(v["name"] for v in variables)
    swept = replace(record, trials=rules, variables=names, spec={**record.spec, "variables": variables})
    (axis,) = axes(Analysis(swept))
    assert axis.names == ("fixed", "rlw", "dwa")
    assert main_axis(Analysis(swept)) == axis
    alone = replace(swept, variables=names[:1], spec={**record.spec, "variables": variables[:1]})
    assert [a.names for a in axes(Analysis(alone))] == [("equal",)]
