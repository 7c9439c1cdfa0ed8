import math
from dataclasses import replace

import pytest

from depth_loss_sweep.reports.analysis import Analysis


def values_of(*trials):
    """Final RMSE by (trial, seed) from a list a trial."""
    return {(t, s): v for t, seeds in enumerate(trials) for s, v in enumerate(seeds)}


def test_silog_the_term_is_not_silog_the_metric(study):
    """Both are called silog; the trivial predictors' values stand by column."""
    record = replace(study(trials=1), baselines={"val": {"median": {"metric_silog": 30.0, "term_silog": 0.1}}})
    analysis = Analysis(record)
    assert analysis.baselines(analysis.measure("metric_silog")) == {"median": 30.0}
    assert analysis.baselines(analysis.measure("term_silog")) == {"median": 0.1}
    assert analysis.baselines(analysis.ranking) == {}


def test_references_are_held_against_the_named_trial(study):
    """The ends of the line, its neighbours and the best mean; each once, with the decision's contrast."""
    record = study(
        trials=4,
        seeds=5,
        values={(t, s): [0.7, 0.5, 0.6, 0.65][t] + 0.002 * s * (t + 1) for t in range(4) for s in range(5)},
    )
    analysis = Analysis(record)
    roles = {r.contrast.trial: r.role for r in analysis.references}
    assert analysis.named is not None and analysis.named.number == 1
    assert roles == {0: "start of the line, neighbour", 2: "neighbour", 3: "end of the line"}
    assert {r.contrast for r in analysis.references} <= {*analysis.decision.contrasts}


def test_nothing_is_held_against_an_anecdote(study):
    """Two seeds have no contrast that could be told from luck."""
    assert Analysis(study(seeds=2)).references == ()


def test_a_simplex_is_held_against_equal_weights_table_2_and_single_terms(study):
    """Fixed points of a search are recognised by their weights."""
    record = study("simplex", trials=5)
    points = [(1, 1, 1, 1), (0, 0.55, 0.45, 0.05), (0, 0, 0, 1), (0.5, 0.2, 0.2, 0.1), (0.2, 0.5, 0.2, 0.1)]
    for number, point in enumerate(points):
        for term, weight in zip(("silog", "ssim", "edge", "l1"), point, strict=True):
            record.trials.loc[number, f"weight_{term}"] = weight / sum(point)
    analysis = Analysis(record)
    roles = {r.contrast.trial: r.role for r in analysis.references} | {analysis.decision.trial: "best"}
    expected = {0: "equal weights", 1: "the paper's Table 2", 2: "L1 alone"}
    assert all(roles[n] == "best" or name in roles[n] for n, name in expected.items())


def test_pairing_is_worth_more_the_more_seeds_share(study):
    """Seeds that shift all trials alike make pairing priceless; that is written as infinity."""
    shifted = study(trials=2, values=values_of([0.5, 0.6, 0.7], [0.6, 0.7, 0.8]))
    shared = Analysis(shifted).pairing
    assert shared.correlation == pytest.approx(1.0) and shared.worth > 1e6
    assert (shared.seeds, shared.trials) == (3, 2)
    assert math.isnan(Analysis(study(seeds=1)).pairing.correlation)


def test_named_points_are_held_against_each_other_by_name(study):
    """In a study over reference points every other point is a reference."""
    analysis = Analysis(study("points", trials=4, baseline=1.0))
    names = {"paper-table-2", "equal", "l1", "edge"} - {analysis.named.params["point"]}
    assert all(any(name in r.role for r in analysis.references) for name in names)
