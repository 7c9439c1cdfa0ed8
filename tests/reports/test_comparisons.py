import math

import numpy as np
import pytest
from scipy import special, stats

from depth_loss_sweep.reports import comparisons
from depth_loss_sweep.reports.comparisons import (
    blocked_f,
    break_shares,
    contrasts,
    detectable,
    differences,
    drops,
    dunnett,
    fit,
    gate,
    kept,
    regret_bound,
    seeds_needed,
    smoothed,
    trend_t2,
    tukey,
)


def made_up(seed=0, studies=1, weights=5, seeds=6, slope=0.0):
    """Values of (studies, weights, seeds): a slope in w, a shift of each seed, noise of 2 %."""
    rng = np.random.default_rng(seed)
    y = slope * np.linspace(0, 1, weights)[None, :, None] + 0.05 * rng.standard_normal((studies, 1, seeds))
    return y + 0.02 * rng.standard_normal((studies, weights, seeds))


def whole(y):
    """The fit of a study in which nothing broke."""
    return fit(y, np.ones(y.shape, dtype=bool))


def test_quantiles_are_those_of_the_tables():
    """Dunnett's for one comparison is Student's t, for many scipy's; Tukey's is the studentized range's."""
    assert dunnett(1, 8) == pytest.approx(stats.t.ppf(0.95, 8), rel=2e-3)
    assert dunnett(9, 10_000) == pytest.approx(2.42, abs=5e-3)  # Hochberg, Tamhane 1987, table 4, rho = 1/2
    assert tukey(10, 18) == pytest.approx(stats.studentized_range.ppf(0.95, 10, 18) / math.sqrt(2), rel=2e-3)


def test_dunnett_agrees_with_scipy():
    """The quantile is where scipy's one-sided p of independent groups is 0.05."""
    rng = np.random.default_rng(3)
    control, *others = rng.standard_normal((4, 6))
    found = stats.dunnett(*others, control=control, alternative="greater", random_state=rng)
    p = 1 - (1 - 0.05)
    limit = found.confidence_interval(1 - p).low
    error = math.sqrt(np.mean([np.var(g, ddof=1) for g in (control, *others)]) * 2 / 6)
    half = [g.mean() - control.mean() - low for g, low in zip(others, limit, strict=True)]
    assert half == pytest.approx([dunnett(3, 20) * error] * 3, rel=0.02)


def test_two_weights_are_a_paired_t():
    """Nothing but seed by seed differences counts."""
    y = made_up(weights=2)
    expected = stats.ttest_rel(y[0, 1], y[0, 0]).pvalue
    assert gate(y, None).name == "paired t" and gate(y, None).p[0] == pytest.approx(expected)
    d = y[0, 1] - y[0, 0]
    half = stats.t.ppf(0.95, 5) * d.std(ddof=1) / math.sqrt(6)
    assert differences(whole(y), np.array([0])).half[0, 1] == pytest.approx(half, rel=2e-3)


def test_the_blocked_f_of_even_spread_is_the_two_way_table_s():
    """With as many seeds as make epsilon 1, it is the F of a two-way table worked by hand."""
    y = np.array([[[1.0, 2.0, 4.0], [2.0, 3.0, 5.5], [4.0, 4.5, 7.0]]])
    means, rest = y[0].mean(axis=1), y[0] - y[0].mean(axis=1, keepdims=True) - y[0].mean(axis=0) + y.mean()
    f = 3 * ((means - means.mean()) ** 2).sum() / 2 / ((rest**2).sum() / 4)
    covariance = np.cov(y[0])
    centre = np.eye(3) - 1 / 3
    c = centre @ covariance @ centre
    epsilon = np.trace(c) ** 2 / (2 * (c**2).sum())
    epsilon = min(1, (3 * 2 * epsilon - 2) / (2 * (2 - 2 * epsilon)))
    assert blocked_f(y)[0] == pytest.approx(stats.f.sf(f, 2 * epsilon, 4 * epsilon))


def test_hotelling_s_t2_is_worked_by_hand():
    """Three weights have two contrasts, (-1, 0, 1)/√2 and (1, -2, 1)/√6, and T² is n m' S^-1 m."""
    y = made_up(weights=3, seeds=7, slope=0.02)
    c = np.stack([(y[0, 2] - y[0, 0]) / math.sqrt(2), (y[0, 0] - 2 * y[0, 1] + y[0, 2]) / math.sqrt(6)])
    m = c.mean(axis=1)
    t2 = 7 * m @ np.linalg.inv(np.cov(c)) @ m
    expected = stats.f.sf(t2 * 5 / (2 * 6), 2, 5)
    assert trend_t2(y, np.array([0.0, 0.5, 1.0]))[0] == pytest.approx(expected)


def test_the_gate_fits_the_design():
    """On a line with five seeds the trend counts, too; what knows less is a pilot."""
    y = made_up(weights=6)
    places = np.linspace(0, 1, 6)
    both = gate(y, places)
    assert (
        both.p[0] == pytest.approx(min(trend_t2(y, places)[0] / 0.6, blocked_f(y, True)[0] / 0.4, 1))
        and not both.is_pilot
    )
    assert gate(y, None).is_pilot and gate(y[:, :, :4], places).is_pilot


@pytest.mark.parametrize("test", [blocked_f, lambda y: trend_t2(y, np.linspace(0, 1, 8))])
def test_equal_weights_are_rejected_at_the_level(test):
    """p of no difference at all is uniform."""
    p = test(made_up(1, studies=4000, weights=8))
    assert (p < 0.05).mean() == pytest.approx(0.05, abs=0.012)


def test_caution_stands_one_wide_weight():
    """Equal weights of which one spreads three times as wide: Huynh and Feldt's p is too small, the cautious one isn't."""
    rng = np.random.default_rng(4)
    y = rng.standard_normal((4000, 10, 5)) * np.where(np.arange(10) == 9, 3, 1)[None, :, None]
    assert (blocked_f(y) < 0.02).mean() > 0.035 > (blocked_f(y, is_cautious=True) < 0.02).mean()


def test_values_without_spread_have_an_answer():
    """Equal ones are equal, and different ones differ."""
    same, other = np.full((1, 4, 5), 0.3), np.full((1, 4, 5), 0.3) + np.arange(4)[None, :, None]
    assert blocked_f(same)[0] == 1 and blocked_f(other)[0] == 0
    assert gate(same, np.arange(4.0)).p[0] == 1 and gate(other, np.arange(4.0)).p[0] == 0
    assert gate(same[:, :2], None).p[0] == 1 and gate(other[:, :2], None).p[0] == 0
    assert kept(whole(other))[0].tolist() == [True, False, False, False]
    assert regret_bound(whole(same), np.array([0]))[0] == 0


def test_the_fit_of_a_whole_table_is_its_means():
    """The residual is what weights and seeds leave, with (weights - 1)(seeds - 1) degrees of freedom."""
    y = made_up(weights=4, seeds=5)
    found = whole(y)
    rest = y[0] - y[0].mean(axis=1, keepdims=True) - y[0].mean(axis=0) + y.mean()
    assert found.means[0] == pytest.approx(y[0].mean(axis=1)) and found.df[0] == 12
    assert found.sd[0] == pytest.approx(math.sqrt((rest**2).sum() / 12))


def test_a_broken_run_doesn_t_shift_its_weight_s_mean():
    """A hard seed that broke one weight alone isn't to that weight's advantage: least squares, by hand."""
    y = made_up(weights=4, seeds=5)
    unbroken = np.ones(y.shape, dtype=bool)
    unbroken[0, 1, 2] = unbroken[0, 3, 0] = unbroken[0, 3, 1] = False
    w, s = np.nonzero(unbroken[0])
    design = np.zeros((len(w), 9))
    design[np.arange(len(w)), w] = design[np.arange(len(w)), 4 + s] = 1
    solved, *_ = np.linalg.lstsq(design, y[0][w, s], rcond=None)
    rest = y[0][w, s] - design @ solved
    found = fit(y, unbroken)
    assert found.means[0] - found.means[0, 0] == pytest.approx(solved[:4] - solved[0])
    assert found.df[0] == len(w) - 8 and found.sd[0] == pytest.approx(math.sqrt((rest**2).sum() / (len(w) - 8)))


def test_a_weight_that_always_breaks_has_no_level():
    """It isn't kept, and no bound speaks of it."""
    y, unbroken = made_up(weights=4), np.ones((1, 4, 6), dtype=bool)
    unbroken[0, 3] = False
    found = fit(y, unbroken)
    assert math.isnan(found.means[0, 3]) and not kept(found)[0, 3]
    assert regret_bound(found, np.array([0]))[0] == pytest.approx(regret_bound(whole(y[:, :3]), np.array([0]))[0])


def test_the_best_is_kept_and_the_bound_holds():
    """Both fail in one study of twenty at most, with equal spread and with three times the spread at one end."""
    y = made_up(5, studies=3000, weights=6, slope=0.03)
    for wide in (1.0, 3.0):
        y[:, 5] = 0.03 + wide * (y[:, 5] - 0.03)
        found = whole(y)
        lead = found.means.argmin(axis=1)
        truth = 0.03 * np.linspace(0, 1, 6)
        assert (~kept(found)[:, 0]).mean() < 0.05
        assert (regret_bound(found, lead) < truth[lead]).mean() < 0.05


def test_a_race_drops_by_each_weight_s_own_spread():
    """Three seeds of five weights, worked by hand: Grubbs' variance of each, Welch's degrees of freedom, the leader's pooled."""
    y = np.array([[[0.0, 0.0, 0.0], [1.0, 2.0, 3.0], [2.0, 2.0, 5.0], [3.0, 1.0, 2.0], [6.0, 0.0, 3.0]]])
    found = fit(y, np.ones(y.shape, dtype=bool), stages=5)
    rest = y[0] - y[0].mean(axis=1, keepdims=True) - y[0].mean(axis=0) + y[0].mean()
    pooled = (rest**2).sum() / 8
    own = np.maximum((5 * (rest**2).sum(axis=1) / 2 - pooled) / 3, 0)
    df = (own + pooled) ** 2 / (own**2 / 2 + pooled**2 / 8)
    by_own = stats.t.isf(5 * 0.01 / 4, df) * np.sqrt((own + pooled) / 3)
    by_pool = dunnett(4, 8, 0.01) * math.sqrt(pooled * 2 / 3)
    assert drops(found, np.array([0]), 0.01).half[0, 1:] == pytest.approx(np.maximum(by_own, by_pool)[1:])
    few = fit(y[:, :3], np.ones((1, 3, 3), dtype=bool), stages=5)
    assert drops(few, np.array([0])).half == pytest.approx(differences(few, np.array([0])).half)


def test_a_race_keeps_the_best_though_it_alone_spreads_wide():
    """Of ten equal weights one with three times the spread leaves one stage of three seeds in at most a tenth of races, at the
    level of all five stages together; a weight that is far behind leaves at once.
    """
    y = made_up(6, studies=2000, weights=10, seeds=3)
    y[:, 5] *= 3
    y[:, 9] += 0.3
    found = fit(y, np.ones(y.shape, dtype=bool), stages=5)
    stay = kept(found, 0.01)
    assert (~stay[:, 5]).mean() < 0.1
    assert (~stay[:, 9]).mean() > 0.9


def test_contrasts_are_wider_than_comparisons_with_the_best():
    """They hold for all pairs, both ways, so that their zero may be chosen."""
    found = whole(made_up(weights=5))
    one, all_pairs = differences(found, np.array([2])), contrasts(found, np.array([2]))
    assert all_pairs.mean == pytest.approx(one.mean) and one.half[0, 2] == all_pairs.half[0, 2] == 0
    assert (np.delete(all_pairs.half[0], 2) > np.delete(one.half[0], 2)).all()


def test_smoothing_finds_the_valley_that_noise_hides():
    """The smoothed curve is nearer to the truth than the means; noiseless means are left alone."""
    places, rng = np.linspace(0, 0.9, 10), np.random.default_rng(2)
    truth = 0.2 * (places - 0.5) ** 2
    y = truth[None, :, None] + 0.02 * rng.standard_normal((300, 10, 5))
    found = whole(y)
    curve = smoothed(found, places)
    assert ((curve - truth) ** 2).mean() < 0.7 * ((found.means - truth) ** 2).mean()
    exact = whole(np.repeat(truth[None, :, None], 5, axis=2))
    assert smoothed(exact, places)[0] == pytest.approx(truth)


def test_smoothing_doesn_t_know_the_unit_or_the_order():
    """Twice the values give twice the curve, and the order of the weights is nothing."""
    y, places = made_up(weights=7, slope=0.05), np.array([0.0, 0.1, 0.2, 0.4, 0.5, 0.7, 0.9])
    curve, order = smoothed(whole(y), places), np.array([3, 0, 6, 1, 5, 2, 4])
    assert smoothed(whole(2 * y), places) == pytest.approx(2 * curve)
    assert smoothed(whole(y[:, order]), places[order]) == pytest.approx(curve[:, order])


def test_break_shares_rise_or_fall():
    """One direction, whichever is likelier; as counted where both ends break; nothing where nothing broke."""
    runs = np.full(4, 4.0)
    assert break_shares(np.array([0, 1, 0, 4]), runs) == pytest.approx([0.1, 0.2, 0.2, 0.9])
    assert break_shares(np.array([4, 0, 1, 0]), runs) == pytest.approx([0.9, 0.2, 0.2, 0.1])
    assert break_shares(np.array([2, 0, 0, 2]), runs) == pytest.approx([0.5, 0.1, 0.1, 0.5])
    assert break_shares(np.zeros(4, dtype=int), runs).tolist() == [0, 0, 0, 0]


def test_what_can_be_seen_follows_from_the_noise_alone():
    """Two weights: the one-sided t's quantile and 80 % power, in standard errors of the difference."""
    expected = (stats.t.ppf(0.95, 9) + special.ndtri(0.8)) * 0.02 * math.sqrt(2 / 10)
    assert detectable(0.02, 2, 10) == pytest.approx(expected, rel=2e-3)
    needed = seeds_needed(0.02, 10, 0.02)
    assert needed is not None and detectable(0.02, 10, needed) <= 0.02 < detectable(0.02, 10, needed - 1)
    assert seeds_needed(1.0, 10, 0.001) is None and comparisons.detectable(0.02, 1, 5) == math.inf
