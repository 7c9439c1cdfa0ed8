"""How much each weight matters in a search: shares, their intervals, what can't be told, and how the page says it."""

from dataclasses import replace

import numpy as np
import pytest

from depth_loss_sweep.reports.analysis import Analysis
from depth_loss_sweep.reports.importance import importance_of, of_variables, of_weights, shares_of
from depth_loss_sweep.reports.page import render
from depth_loss_sweep.reports.sections import study_sections
from tests.benchmarks.importance import drawn, flat, judged, noise_of, ratio, space, values

TERMS = ("silog", "ssim", "edge", "l1")


@pytest.fixture
def weights():
    """Forty random points of the simplex, a column a term."""
    table = np.random.default_rng(1).dirichlet(np.ones(4), 40)
    return dict(zip(TERMS, table.T, strict=True))


def log_ratio(weights, one="silog", other="ssim"):
    """Of two weights, as far as they are told apart."""
    return np.log(np.maximum(weights[one], 0.01) / np.maximum(weights[other], 0.01))


def test_what_goes_by_one_ratio_is_its_terms_alone(weights):
    """A square of SILog against SSIM: these two matter, together they explain all, and of edge and L1 it can't be told."""
    y = 0.1 * log_ratio(weights)[:, None] ** 2 + 0.001 * np.random.default_rng(2).standard_normal((40, 3))
    found = importance_of(of_weights(weights), y)
    assert found.explained == pytest.approx(1, abs=0.001) and found.trials == 40
    assert [s.name for s in found.shares if s.is_shown] == ["silog", "ssim"]
    shares = {s.name: s.share for s in found.shares}
    assert shares["silog"] > 0.5 and shares["ssim"] > 0.5 and shares["edge"] < 0.01 and shares["l1"] < 0.01
    assert all(s.low <= s.share <= s.high and s.p == pytest.approx(0.004) for s in found.shares if s.is_shown)


def test_shares_do_not_depend_on_what_ratios_are_taken_to(weights):
    """In another order of the terms another one is what the others are divided by, and twice the weights are the same weights."""
    y = log_ratio(weights) + 0.3 * weights["l1"] + 0.1 * np.random.default_rng(3).standard_normal(40)
    given = shares_of(of_weights(weights), y)
    turned = shares_of(of_weights({term: 2 * weights[term] for term in reversed(TERMS)}), y)
    assert turned == pytest.approx(given)


def test_a_share_is_what_leaving_a_variable_out_costs():
    """Two independent variables, the second with twice the first's effect: of the variance a fifth and four fifths."""
    random = np.random.default_rng(4)
    one, other = np.exp(random.uniform(-3, 3, 5000)), random.uniform(0, 1, 5000)
    y = np.log(one) / 6 + 2 * other
    found = shares_of(of_variables({"rate": one, "alpha": other}, {"rate"}), y)
    assert found == pytest.approx({"rate": 0.2, "alpha": 0.8}, abs=0.02)


def test_the_smallest_weights_count_as_a_hundredth(weights):
    """Nothing, and a billionth, are the same: no weight weighs more in its logarithm than all others."""
    none, tiny = ({**weights, "edge": np.where(weights["edge"] < 0.1, least, weights["edge"])} for least in (0, 1e-9))
    y = log_ratio(weights)
    assert shares_of(of_weights(none), y) == pytest.approx(shares_of(of_weights(tiny), y), abs=1e-6)


def test_noise_names_a_weight_in_few_searches():
    """At 5 %, of a hundred searches in which nothing matters more than ten name something in one such test of a hundred."""
    wrong = [judged(_searched(flat, seed), flat, False)["names one wrongly"] for seed in range(100)]
    assert sum(wrong) <= 10


def test_terms_beside_a_ratio_that_matters_are_not_named_and_intervals_hold():
    """By SILog against SSIM alone, forty trials: edge and L1 in few searches, the two in most, with their shares."""
    told = [judged(_searched(ratio, seed), ratio, True) for seed in range(60)]
    mean = {what: np.mean([each[what] for each in told]) for what in told[0]}
    assert mean["names one wrongly"] <= 0.15 and mean["names those that matter"] > 0.8
    assert mean["intervals hold"] > 0.85


def _searched(surface, seed):
    """What is found of a random search of forty trials."""
    random = np.random.default_rng(seed)
    points = drawn(40, random)
    return importance_of(space(points), values(surface, points, noise_of(40, random)))


def test_too_few_trials_and_equal_values_tell_nothing(weights):
    """Twenty for four terms, thirty for five; one value for all has no variance."""
    few = {term: column[:19] for term, column in weights.items()}
    assert importance_of(of_weights(few), np.ones((19, 1))).missing == "19 trials can be compared, and it takes 20"
    assert importance_of(of_weights(weights), np.ones((40, 2))).missing == "all trials have the same value"
    five = {**weights, "smoothness": weights["l1"]}
    assert importance_of(of_weights({t: c[:29] for t, c in five.items()}), np.ones((29, 1))).missing.endswith("30")


def test_the_same_numbers_give_the_same_answer(weights):
    """Nothing of it is drawn anew."""
    y = np.random.default_rng(5).standard_normal((40, 3))
    assert importance_of(of_weights(weights), y) == importance_of(of_weights(weights), y)


# On the page


@pytest.fixture
def search(study):
    """A search of thirty trials, whose RMSE goes by L1's weight and SILog's, and beats the trivial predictors."""
    record = study("simplex", trials=30)
    shares = record.trials[[f"weight_{term}" for term in TERMS]]
    values_ = {
        (int(n), s): 0.5 + 0.05 * row["weight_l1"] - 0.03 * row["weight_silog"] + 0.001 * ((7 * n + s) % 5)
        for n, row in shares.iterrows()
        for s in range(3)
    }
    return study("simplex", trials=30, values=values_)


def test_a_search_says_which_weight_matters(search):
    """In a sentence, a figure and a table, by the terms' names; as numbers for JSON."""
    analysis = Analysis(search)
    (section,) = [s for s in study_sections(analysis, "study-1") if s.anchor == "study-1-importance"]
    assert section.lead.startswith("Shown to matter: L1") and "weights that sum to 1 have none apart" in section.lead
    assert len(section.figures[0].chart.data[0]["x"]) == 4
    rows = {row[0].text: row[-1].text for row in section.tables[0].table.rows}
    assert rows["L1"].startswith("matters") and set(rows) == {"SILog", "SSIM", "edge", "L1"}
    assert "Which weight matters" in render([search])
    assert analysis.importance.as_dict()["shares"][3]["is_shown"]


def test_a_short_search_says_that_it_cannot_be_told(study):
    """With the number of trials that it takes."""
    assert "Which weight matters can&#39;t be told: 8 trials can be compared, and it takes 20." in render(
        [study("simplex", trials=8)]
    )


def test_of_ranges_each_variable_is_asked_for_itself(study):
    """A search over a range by decades beside another; one that is swept by names has no logarithm."""
    noise = np.random.default_rng(6).normal(0, 0.001, (24, 3))
    values_ = {(t, s): 0.5 + 0.01 * (t % 2) + noise[t, s] for t in range(24) for s in range(3)}
    record = study("grid", trials=24, values=values_)
    drawn_ = [
        {"name": "w", "low": 0.0, "high": 0.9, "log": False},
        {"name": "train.learning_rate", "low": 1e-4, "high": 1e-3, "log": True},
    ]
    searched = replace(record, spec={**record.spec, "search": {"sampler": "random"}, "variables": drawn_})
    found = Analysis(searched).importance
    assert [s.name for s in found.shares if s.is_shown] == ["train.learning_rate"]
    assert Analysis(record).importance is None, "a grid asks for no importance"
    named = searched.trials.assign(**{"var_train.learning_rate": "fast"})
    assert "is no number" in Analysis(replace(searched, trials=named)).importance.missing


def test_a_search_of_one_trial_has_an_answer_all_the_same(study):
    """Nothing varies yet; that is said as of any short search."""
    assert Analysis(study("simplex", trials=1)).importance.missing.startswith("1 trial can be compared")
