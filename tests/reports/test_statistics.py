import json
import math
from dataclasses import replace

import pytest

from depth_loss_sweep.reports.analysis import Analysis
from depth_loss_sweep.reports.statistics import optimism


def values_of(*trials):
    """Final RMSE by (trial, seed) from a list a trial."""
    return {(t, s): v for t, seeds in enumerate(trials) for s, v in enumerate(seeds)}


def test_a_clear_winner_is_recommended(study):
    """No other trial is within one standard error, so the best mean wins."""
    record = study(trials=3, seeds=3, values=values_of([0.60, 0.61, 0.62], [0.50, 0.51, 0.52], [0.70, 0.71, 0.72]))
    advice = Analysis(record).recommendation
    assert (advice.status, advice.trial, advice.best, advice.tied) == ("recommended", 1, 1, (1,))
    assert advice.mean == pytest.approx(0.51)
    assert advice.standard_error == pytest.approx(0.01 / math.sqrt(3))
    assert advice.seeds == 3 and advice.beats_baselines is True
    assert advice.weights == {"silog": 0.05, "ssim": 0.45, "edge": 0.45, "l1": 0.05, "smoothness": 0.0}


def test_within_one_standard_error_the_fewest_terms_win(study):
    """Trial 1 is the best, but trial 0 is within its error and needs no edge term."""
    record = study(trials=3, seeds=3, values=values_of([0.515, 0.515, 0.515], [0.48, 0.51, 0.54], [0.7, 0.7, 0.7]))
    advice = Analysis(record).recommendation
    assert advice.best == 1 and advice.trial == 0 and advice.tied == (0, 1)
    assert "2 trials are within one standard error" in advice.reason and "trial 1" in advice.reason


def test_among_as_many_terms_the_most_equal_weights_win(study):
    """w = 0.3 of [0.05, 0.6, 0.3, 0.05] is closer to equal weights than w = 0.15, and nothing else tells them apart."""
    record = study(
        trials=7, seeds=2, values={(t, s): 0.5 + 0.1 * s if t in (1, 2) else 0.9 for t in range(7) for s in (0, 1)}
    )
    advice = Analysis(record).recommendation
    assert advice.tied == (1, 2) and advice.best == 1 and advice.trial == 2


def test_one_seed_gives_an_order_but_no_error(study):
    """Nothing can be called a tie, and the reason says that it is an anecdote."""
    record = study(trials=2, seeds=1, values=values_of([0.5], [0.500001]))
    advice = Analysis(record).recommendation
    assert advice.trial == 0 and advice.tied == (0,) and math.isnan(advice.standard_error)
    assert "anecdote" in advice.reason


def test_survivors_of_a_diverged_trial_do_not_win(study):
    """Trial 1 has the two best seeds of all, and one that went non-finite."""
    record = study(trials=2, seeds=3, diverged=(1,), values=values_of([0.6, 0.6, 0.61], [0.3, 0.3, 0.3]))
    assert Analysis(record).recommendation.trial == 0


def test_nothing_is_recommended_where_every_trial_diverged(study):
    """The reason says why, and no number is made up."""
    advice = Analysis(study(trials=2, diverged=(0, 1))).recommendation
    assert advice.status == "diverged" and advice.trial is None and math.isnan(advice.mean)


def test_the_combined_loss_is_refused(study):
    """Its minimum along the weights is arithmetic, so there is no recommendation."""
    advice = Analysis(study(objective="combined")).recommendation
    assert advice.status == "incomparable" and advice.trial is None and advice.weights == {}
    assert "val_rmse" in advice.reason


def test_more_is_better_for_delta1(study):
    """The lowest RMSE has the highest delta1, and wins either way."""
    record = study(trials=3, objective="val_delta1", values=values_of([0.6] * 3, [0.7] * 3, [0.5] * 3))
    advice = Analysis(record).recommendation
    assert advice.trial == 2 and advice.beats_baselines is True and advice.mean == pytest.approx(0.95 - 0.6 * 0.5)


def test_only_finished_trials_are_compared(study):
    """A trial with a seed still to come may look good, and is left out."""
    record = study(trials=3, seeds=2, finished=3, values=values_of([0.6, 0.61], [0.1, 0.1], [0.5, 0.5]))
    advice = Analysis(record).recommendation
    assert advice.trial == 0 and advice.compared == 1 and advice.missing == 2
    assert Analysis(study(finished=0)).recommendation.status == "unfinished"


def test_a_recommendation_can_be_written_as_json(study):
    """Missing numbers become null."""
    assert json.loads(json.dumps(Analysis(study(finished=0)).recommendation.as_dict(), allow_nan=False))["mean"] is None
    assert Analysis(study()).recommendation.as_dict()["tied"] == list(Analysis(study()).recommendation.tied)


def test_networks_that_do_not_beat_the_trivial_predictors_are_told_apart(study):
    """Beating the median is not enough: the mean map is better, and it counts."""
    record = study(trials=2, baseline=1.0, values=values_of([0.95] * 3, [0.85] * 3))
    advice = Analysis(record).recommendation
    assert (advice.beating, advice.compared, advice.nothing_learnt) == (1, 2, False)
    assert advice.beats_baselines is True and advice.verdict == "recommended"
    lost = Analysis(study(baseline=0.4)).recommendation
    assert lost.beats_baselines is False and lost.nothing_learnt and lost.verdict == "ahead, but no advice"
    assert Analysis(replace(record, baselines={})).recommendation.beats_baselines is None


def test_silog_the_term_is_not_silog_the_metric(study):
    """Both are called silog; the trivial predictors' values stand by column."""
    record = replace(study(trials=1), baselines={"val": {"median": {"metric_silog": 30.0, "term_silog": 0.1}}})
    analysis = Analysis(record)
    assert analysis.baselines(analysis.measure("metric_silog")) == {"median": 30.0}
    assert analysis.baselines(analysis.measure("term_silog")) == {"median": 0.1}
    assert analysis.baselines(analysis.ranking) == {}


def test_picking_the_best_flatters_by_a_known_amount(study):
    """Ten equal points, a seed sd of 2.6 % and three seeds: the best looks 2.3 % better than it is."""
    spread = 0.026 * math.sqrt(1.5)  # three values 1 - x, 1, 1 + x have the sd x; here all trials alike
    x = spread / math.sqrt(1.5)
    record = study(trials=10, values={(t, s): 1 + x * (s - 1) for t in range(10) for s in range(3)})
    assert optimism(Analysis(record).trials, 10) == pytest.approx(0.0231, abs=2e-4)


def test_contrasts_are_paired_by_seed_and_worked_by_hand(study):
    """Differences 0.1, 0.2, 0.3 seed by seed: mean 0.2, and an interval of +-4.303 * 0.1 / sqrt(3)."""
    record = study(trials=3, values=values_of([0.6, 0.8, 1.0], [0.5, 0.6, 0.7], [0.9, 0.9, 0.9]))
    analysis = Analysis(record)
    best, contrasts = analysis.best, analysis.contrasts
    assert best is not None and best.number == 1
    start = next(c for c in contrasts if c.trial == 0)
    assert start.role == "start of the line, neighbour"
    assert start.advantage.mean == pytest.approx(0.2)
    assert start.advantage.half_width == pytest.approx(4.302653 * 0.1 / math.sqrt(3), abs=1e-6)
    assert start.advantage.n == 3


def test_a_diverged_reference_has_no_difference(study):
    """It is listed, and said to have diverged."""
    contrasts = Analysis(study(trials=4, diverged=(3,))).contrasts
    end = next(c for c in contrasts if c.trial == 3)
    assert end.diverged and "end of the line" in end.role


def test_a_simplex_is_held_against_equal_weights_table_2_and_single_terms(study):
    """Fixed points of a search are recognised by their weights."""
    record = study("simplex", trials=5)
    points = [(1, 1, 1, 1), (0, 0.55, 0.45, 0.05), (0, 0, 0, 1), (0.5, 0.2, 0.2, 0.1), (0.2, 0.5, 0.2, 0.1)]
    for number, point in enumerate(points):
        for term, weight in zip(("silog", "ssim", "edge", "l1"), point, strict=True):
            record.trials.loc[number, f"weight_{term}"] = weight / sum(point)
    analysis = Analysis(record)
    best, contrasts = analysis.best, analysis.contrasts
    roles = {c.trial: c.role for c in contrasts} | {best.number: "best"}
    expected = {0: "equal weights", 1: "the paper's Table 2", 2: "L1 alone"}
    assert all(roles[n] == "best" or name in roles[n] for n, name in expected.items())


def test_pairing_is_worth_more_the_more_seeds_share(study):
    """Seeds that shift all trials alike make pairing priceless; that is written as infinity."""
    shifted = study(trials=2, values=values_of([0.5, 0.6, 0.7], [0.6, 0.7, 0.8]))
    shared = Analysis(shifted).pairing
    assert shared.correlation == pytest.approx(1.0) and shared.worth > 1e6
    assert (shared.seeds, shared.trials) == (3, 2)
    assert math.isnan(Analysis(study(seeds=1)).pairing.correlation)


def test_breakage_says_from_where_on_training_breaks(study):
    """The last two of five points have a broken run each."""
    breakage = Analysis(study(trials=5, seeds=2, diverged=(3, 4))).breakage
    assert breakage.onset == ("from", 0.675)
    assert (breakage.broken, breakage.finished, breakage.counts["non_finite"]) == (2, 10, 2)
    assert [t.number for t in breakage.trials] == [3, 4]


def test_breakage_in_the_middle_has_no_onset(study):
    """A hole in the line is named by its trials, not by a threshold."""
    breakage = Analysis(study(trials=5, diverged=(2,))).breakage
    assert breakage.onset is None and [t.number for t in breakage.trials] == [2]
    assert Analysis(study(trials=3, diverged=(0,))).breakage.onset == ("up to", 0.0)


def test_named_points_are_held_against_each_other_by_name(study):
    """In a study over reference points every other point is a reference."""
    analysis = Analysis(study("points", trials=4, baseline=1.0))
    names = {"paper-table-2", "equal", "l1", "edge"} - {analysis.best.params["point"]}
    assert all(any(name in c.role for c in analysis.contrasts) for name in names)
