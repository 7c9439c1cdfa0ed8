"""Weights that a rule sets on the page, and how gradients agree against the outcome: each only where there is something to see."""

from dataclasses import replace

import numpy as np
import pytest

from depth_loss_sweep.reports.analysis import Analysis
from depth_loss_sweep.reports.axes import main_axis
from depth_loss_sweep.reports.figures import weights_chart
from depth_loss_sweep.reports.intervals import rank_correlation, rank_interval
from depth_loss_sweep.reports.page import render
from depth_loss_sweep.reports.sections import study_sections
from depth_loss_sweep.reports.series import contributions, gradient_agreement, weight_curves


def anchors(record):
    """The sections of a study's page."""
    return [section.anchor for section in study_sections(Analysis(record), "study-1")]


@pytest.fixture
def ruled(study):
    """Equal weights as they are and under a rule that halves SILog's weight from epoch to epoch, four epochs."""
    record = study(kind="points", trials=2, epochs=4)
    trials = record.trials.drop(columns="var_point").assign(**{"var_loss.weighting": ["fixed", "rlw"]})
    terms = ("silog", "ssim", "edge", "l1")
    trials = trials.assign(**{f"weight_{term}": 1.0 for term in terms})
    by_run = record.runs.set_index("run")["trial"]
    epochs = record.epochs.assign(**{f"weight_{term}": 1.0 for term in terms})
    under_rule = epochs["run"].map(by_run) == 1
    epochs.loc[under_rule, "weight_silog"] = 0.5 ** epochs.loc[under_rule, "epoch"]
    return replace(record, kind="grid", variables=("loss.weighting",), trials=trials, epochs=epochs)


def test_effective_weights_are_drawn_for_the_trials_under_a_rule(ruled):
    """One figure for the rule, none for fixed weights, a line a term; the section is there only where a rule is."""
    (section,) = [s for s in study_sections(Analysis(ruled), "study-1") if s.anchor == "study-1-weightings"]
    assert [f.anchor for f in section.figures] == ["study-1-weightings-1"]
    analysis = Analysis(ruled)
    curves = weight_curves(analysis, analysis.trials[1], main_axis(analysis))
    assert curves["silog"].mean == pytest.approx([0.5, 0.25, 0.125, 0.0625]) and curves["l1"].mean == [1.0] * 4
    chart = weights_chart(curves, analysis.term_names)
    assert [trace["name"] for trace in chart.data if "name" in trace] == ["SILog", "SSIM", "edge", "L1"]
    assert "Weights that a rule sets" in render([ruled])
    assert "study-1-weightings" not in anchors(replace(ruled, trials=ruled.trials.drop(columns="var_loss.weighting")))


def test_a_whole_study_can_be_under_a_rule(ruled):
    """Where the rule isn't swept, the spec says which it is."""
    trials = ruled.trials.drop(columns="var_loss.weighting")
    assert "study-1-weightings" in anchors(
        replace(ruled, trials=trials, spec={**ruled.spec, "loss": {"weighting": "rlw"}})
    )


def test_what_the_loss_is_made_of_goes_by_effective_weights(ruled):
    """Under a rule a term contributes what its last effective weight makes of it; under fixed weights, what was given."""
    analysis = Analysis(ruled)
    parts = contributions(analysis, main_axis(analysis)).parts["silog"]
    terms = [t.mean for t in analysis.results(analysis.measure("term_silog"))]
    assert parts == pytest.approx([terms[0], 0.0625 * terms[1]])


def test_how_gradients_agree_is_drawn_against_the_outcome_of_many_trials(study):
    """Means over pairs, a point a trial; nothing below eight trials, or where versions before recorded none."""
    record = study(trials=10)
    values = record.epochs["metric_rmse"].to_numpy()
    pairs = {
        "similarity_silog_l1": values / 2,
        "similarity_ssim_l1": values,
        "cosine_silog_l1": -values,
        "cosine_ssim_l1": np.nan,
    }
    known = replace(record, epochs=record.epochs.assign(**pairs))
    found = gradient_agreement(Analysis(known))
    assert found.similarity == pytest.approx([0.75 * v for v in found.values]) and len(found.trials) == 10
    assert found.cosine == pytest.approx([-v for v in found.values])
    assert "Rank correlation with the outcome: −1.00 over 10 trials" in render([known])
    assert "study-1-agreement" in anchors(known) and "study-1-agreement" not in anchors(record)
    few = study(trials=7)
    assert "study-1-agreement" not in anchors(
        replace(few, epochs=few.epochs.assign(similarity_a_b=0.5, cosine_a_b=0.1))
    )


def test_rank_correlation_worked_by_hand():
    """Ranks 1, 2.5, 2.5, 4 against 1, 2, 3, 4; a constant has none."""
    ranks = np.array([1, 2.5, 2.5, 4])
    expected = np.corrcoef(ranks, [1, 2, 3, 4])[0, 1]
    assert rank_correlation([0.1, 5, 5, 900], [-4, -3, -2, 0]) == pytest.approx(expected)
    assert rank_correlation([1, 2, 3], [30, 20, 10]) == pytest.approx(-1)
    assert np.isnan(rank_correlation([1, 1, 1], [1, 2, 3]))


def test_rank_interval_worked_by_hand():
    """r = 0.5 of 28: z = 0.5493 ± 1.96 · √(1.125 / 25); a perfect correlation keeps an interval; a constant has none."""
    assert rank_interval(0.5, 28) == pytest.approx((0.1328, 0.7465), abs=1e-3)
    low, high = rank_interval(-1.0, 10)
    assert -1 < low < high < -0.9
    assert all(np.isnan(rank_interval(r, n)).all() for r, n in ((np.nan, 20), (0.5, 3)))


def test_whether_agreement_predicts_good_weights_is_said(study):
    """By both kinds, in which direction; of what doesn't go along with the outcome it can't be told."""
    record = study(trials=12)
    rmse, noise = record.epochs["metric_rmse"], record.epochs["run"].map(lambda run: int(run[:4], 16) * 37 % 11)
    said = render([replace(record, epochs=record.epochs.assign(similarity_silog_l1=-rmse, cosine_silog_l1=rmse))])
    assert (
        "The more equally hard the terms pull, the better; the more in the same direction the terms pull, the worse."
        in said
    )
    said = render([replace(record, epochs=record.epochs.assign(similarity_silog_l1=-rmse, cosine_silog_l1=noise))])
    assert "the better; whether it helps that they pull in the same direction can&#39;t be told." in said
    higher = study(trials=12, objective="val_delta1")
    delta = higher.epochs["metric_delta1"]
    both = higher.epochs.assign(similarity_silog_l1=delta, cosine_silog_l1=delta)
    assert "equally hard the terms pull, the better" in render([replace(higher, epochs=both)])
