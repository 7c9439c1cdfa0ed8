from dataclasses import replace

import plotly.graph_objects as go
import pytest

from depth_loss_sweep.reports.analysis import Analysis
from depth_loss_sweep.reports.cost import RunSpan
from depth_loss_sweep.reports.search_sections import search
from depth_loss_sweep.reports.sections import study_sections


@pytest.fixture
def searched(study):
    """A search of four trials, the last of which was pruned after its first seed."""
    record = study(
        "simplex", trials=4, seeds=2, finished=7, values={(n, s): 0.5 - 0.1 * n for n in (0, 1) for s in (0, 1)}
    )
    record.trials.loc[3, "state"] = "pruned"
    return replace(record, spec=dict(record.spec) | {"search": {"sampler": "tpe"}})


def test_the_history_goes_by_trial_and_keeps_the_best(searched):
    """The running minimum of the complete trials' means; a pruned one is apart, and sets no record."""
    chart = search(Analysis(searched)).figures[0].chart
    means, pruned, best = chart.data[:3]
    assert means["x"] == [0, 1, 2] and pruned["x"] == [3] and pruned["name"].startswith("pruned")
    assert best["y"] == [means["y"][0], means["y"][1], min(means["y"])] and best["x"] == means["x"]
    go.Figure(chart.data, chart.layout)


def test_the_timeline_has_a_row_for_each_run_at_a_time(searched):
    """Three runs one after the other beside one long one: two rows, and how full they were, worked by hand."""
    runs = list(searched.runs["run"])
    spans = (RunSpan(runs[0], 0, 60), RunSpan(runs[1], 60, 120), RunSpan(runs[2], 120, 240), RunSpan(runs[3], 0, 120))
    figure = search(Analysis(replace(searched, spans=spans))).figures[1]
    rows = {}
    for trace in figure.chart.data:
        for begin, end, row in zip(trace["x"][::3], trace["x"][1::3], trace["y"][::3], strict=True):
            rows[begin, end] = row
    assert rows == {(0, 1): 1, (0, 2): 2, (1, 2): 1, (2, 4): 1}
    assert "75 %" in figure.note and "minutes" in figure.chart.layout["xaxis"]["title"]["text"]


def test_a_shared_run_is_called_by_the_trial_that_trained_it(searched):
    """A later trial of the same weights trained nothing: its runs stand in the timeline as the first one's."""
    searched.runs.loc[2, "run"] = searched.runs["run"][0]  # trial 1's
    spans = tuple(RunSpan(run, 0, 60) for run in searched.runs["run"][[0, 3]].tolist())
    chart = search(Analysis(replace(searched, spans=spans))).figures[1].chart
    assert sorted({trial for trace in chart.data for trial in trace["customdata"] if trial is not None}) == [0, 1]


def test_a_grid_is_not_searched(study):
    """A line has no such section, whatever is known of its runs."""
    assert search(Analysis(study(trials=3))) is None


def test_each_run_has_its_mark(study):
    """Seeds upwards, weights to the right, an outcome each by colour and symbol; of many trials runs are counted instead."""
    section = {s.anchor: s for s in study_sections(Analysis(study(trials=3, diverged=(2,), baseline=5.0)), "s")}[
        "s-stability"
    ]
    chart = next(f.chart for f in section.figures if f.anchor.endswith("outcomes"))
    (learnt, broken) = chart.data
    assert len(learnt["x"]) == 8 and learnt["marker"]["symbol"] != broken["marker"]["symbol"]
    assert (broken["x"], broken["y"]) == ([0.9], [2]) and broken["text"] == [
        "w = 0.9, seed 2: non-finite, from epoch 5 on"
    ]
    many = {s.anchor: s for s in study_sections(Analysis(study(trials=41, seeds=1, epochs=1)), "s")}["s-stability"]
    assert next(f.chart for f in many.figures if f.anchor.endswith("outcomes")).data[0]["type"] == "bar"


def test_every_metric_is_in_the_overview_or_the_menu(study):
    """Six at once, the others by a menu; what trials are ranked by stands above."""
    analysis = Analysis(study(trials=3, epochs=2))
    sections = {s.anchor: s for s in study_sections(analysis, "s")}
    overview, others = sections["s-metrics"], sections["s-other-metrics"]
    shown = {f.title for f in overview.figures} | {name.partition(" (")[0] for _, name in others.menu}
    assert shown == {m.label for m in analysis.measured_metrics} - {analysis.ranking.label}
    assert len(overview.figures) <= 6 and len(others.figures) == 1
    assert others.figures[0].chart.chosen("metric_delta3").data[0]["y"] != others.figures[0].chart.data[0]["y"]
