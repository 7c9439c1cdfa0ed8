"""Several studies side by side: what may be compared, on which axis, and how their specs differ."""

import json
from dataclasses import replace

import pytest

from depth_loss_sweep.reports.analysis import Analysis
from depth_loss_sweep.reports.comparison_page import comparison, render_comparison
from depth_loss_sweep.reports.errors import ReportError
from depth_loss_sweep.reports.summary import answer

RESOLVED = '[study]\nname = "{}"\n[train]\nepochs = {}\naugment = {}\n[weights]\nssim = "w"\nedge = "{}"\n'


@pytest.fixture
def two(study):
    """Two lines over w whose weights go otherwise."""
    first = replace(study(), resolved=RESOLVED.format("a", 10, "[]", "0.9 - w"))
    second = study(name="other", trials=7, seeds=5)
    return first, replace(second, resolved=RESOLVED.format("b", 20, '["flip_h"]', "0.5 - w"))


def side_by_side(*records):
    return comparison([Analysis(record) for record in records])


def test_each_decision_is_that_of_the_studys_own_page(two):
    """The same sentences stand beside each other, then each study's own page below; the same records give the same bytes."""
    page = render_comparison(two)
    above = page[: page.index('id="study-1"')]
    for record in two:
        assert answer(Analysis(record)).headline in above and record.name in above
    assert 'id="study-2-trials"' in page and page == render_comparison(two)


def test_a_common_variable_is_the_axis(two):
    """Each study is one trace of its means, its named trial ringed; what w means is said to differ."""
    found = side_by_side(*two)
    named = [trace for trace in found.figure.chart.data if trace.get("name")]
    assert [trace["name"] for trace in named] == ["ssim-vs-edge", "other"]
    assert named[1]["x"] == [0.0, 0.15, 0.3, 0.45, 0.6, 0.75, 0.9]
    marks = [(trace.get("marker", {}).get("symbol"), trace["x"]) for trace in found.figure.chart.data]
    rings = [x for symbol, x in marks if symbol == "circle-open"]
    decided = [Analysis(record) for record in two]
    assert rings == [[analysis.line[analysis.decision.trial]] for analysis in decided]
    assert "several recipes" in found.caution


def test_without_one_trials_stand_by_their_rank(study):
    """Best to worst, within each study; that points above each other have nothing in common is said."""
    found = side_by_side(study(), study("points", trials=4, name="points"))
    named = [trace for trace in found.figure.chart.data if trace.get("name")]
    assert named[1]["x"] == [1.0, 2.0, 3.0, 4.0] and named[1]["y"] == sorted(named[1]["y"])
    assert "rank" in found.figure.title and "nothing in common" in found.caution


def test_only_what_differs_is_listed(two):
    """A row a key, whole specs compared, their names left out."""
    found = side_by_side(*two)
    rows = {row[0].text: [cell.text for cell in row[1:]] for row in found.differences.rows}
    assert rows == {
        "train.epochs": ["10", "20"],
        "train.augment": ["[]", '["flip_h"]'],
        "weights.edge": ["0.9 - w", "0.5 - w"],
    }
    assert found.same == 1 and found.differences.columns == ("key", "ssim-vs-edge", "other")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda r: replace(r, data={**r.data, "identity": "another split"}), "of other pictures"),
        (lambda r: replace(r, data={**r.data, "fingerprint": "0" * 32}), "of other pictures"),
        (lambda r: replace(r, data={**r.data, "image_size": [128, 128]}), "at 128 × 128"),
        (lambda r: replace(r, objective="val_mae", objective_column="metric_mae"), "val_rmse and val_mae"),
        (lambda r: replace(r, spec={**r.spec, "study": {**r.spec["study"], "value": 3}}), "the last 3 epochs"),
        (lambda r: replace(r, variables=("data.image_size",), trials=r.trials.rename(columns={"var_w": "var_data.image_size"})),
         "differ in their data"),
    ],
)  # fmt: skip
def test_what_is_not_comparable_is_refused(study, change, words):
    """Other pictures, another split or size of them, another objective: one line, and no page."""
    with pytest.raises(ReportError, match=words) as refused:
        render_comparison([study(), change(study(name="other"))])
    assert "report each by itself" in str(refused.value) and "\n" not in str(refused.value)


def test_the_combined_loss_is_never_the_axis(study):
    """Studies whose objective it is are held side by side by RMSE, which is said."""
    found = side_by_side(study(objective="combined"), study(objective="combined", name="other"))
    assert (
        found.figure.chart.layout["yaxis"]["title"]["text"] == "validation RMSE (m)"
        and "isn't comparable" in found.lead
    )


def test_unfinished_studies_are_shown_as_far_as_they_are(study):
    """One without any number has its sentence, and none has a figure where there is nothing to draw."""
    empty = study(name="empty", finished=0)
    assert side_by_side(empty, study(name="too", finished=0)).figure is None
    assert "No trial has finished yet" in render_comparison([empty, study()])


def test_hostile_names_and_values_are_text(two):
    """Markup, quotes, emoji and right-to-left text, in names and in what a spec holds."""
    name = "<script>alert('x')</script>\"&🌟שלום"
    hostile = replace(two[0], name=name, resolved=f"[study]\nnote = {json.dumps(name)}\n")
    page = render_comparison([hostile, two[1]])
    assert page.count("<script") == render_comparison(two).count("<script") and name not in page
    assert "&lt;script&gt;alert" in page
