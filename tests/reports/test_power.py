"""How many seeds and scenes would show a claim, beside the power that its very test has with so many, by brute force."""

import math

import numpy as np
import pytest

from depth_loss_sweep.reports import claims
from depth_loss_sweep.reports.power import MOST, is_excluded, scenes_needed, seeds_needed, supposed

MARGIN, LEVEL = 0.02, 0.05 * 0.5 / 10  # that of the last look, at Holm's first step of ten


def equal(noise, **about):
    """A's values are within 2 % of b's."""
    return claims.equivalence(np.ones_like(noise[0]), np.exp(noise[0]), MARGIN, is_relative=True, **about)


def better(noise):
    """A is less by 2 % of b."""
    return claims.difference(np.full_like(noise[0], 0.98), np.exp(noise[0]), is_relative=True)


def sharper(noise):
    """A fraction gains .02, and another measure is equal, of which it is asked that it be no worse."""
    a, b = 0.5 + MARGIN + noise[0], np.exp(noise[1])
    more = claims.difference(a, np.full_like(a, 0.5), is_relative=False, higher_is_better=True)
    return claims.all_of([more, claims.non_inferiority(np.ones_like(b), b, MARGIN, is_relative=True)])


def both_ends(noise):
    """The middle weight is less than both ends by 2 % of them."""
    values = np.exp(np.array([noise[0], noise[1] * 0 + math.log(0.98), noise[1]]))
    return claims.trade_off(1, values, MARGIN, is_relative=True)


def like(noise, spreads):
    """Noise with just these standard deviations and no correlation, where there are two."""
    rest = np.array(noise) - np.mean(noise, axis=1, keepdims=True)
    rest = np.linalg.qr(rest.T)[0].T * math.sqrt(rest.shape[1] - 1)
    return rest * np.array(spreads)[:, None]


@pytest.mark.parametrize(
    ("test", "spreads"),
    [(equal, (0.0087,)), (equal, (0.02,)), (better, (0.018,)), (sharper, (0.012, 0.012)), (both_ends, (0.02, 0.03))],
)
def test_so_many_seeds_show_it_by_the_test_that_judges_it(test, spreads):
    """A sixth fewer have a power below .8, a sixth more above, of the statements together."""
    random = np.random.default_rng(1)
    measured = test(like(random.standard_normal((len(spreads), 8)), spreads))
    n = seeds_needed(measured.pairs, MARGIN, LEVEL)

    def power(seeds):
        noise = random.standard_normal((400, len(spreads), seeds)) * np.array(spreads)[:, None]
        return np.mean([test(each).p_for < LEVEL / 2 for each in noise])

    assert power(math.floor(n / 1.17)) < 0.8 < power(math.ceil(1.17 * n))


def test_statements_that_share_their_noise_need_fewer_seeds():
    """The same gains twice are shown where one is; two of their own are shown together less often; too much noise is beyond any."""
    noise = np.random.default_rng(2).standard_normal((2, 8))
    one, other = (better(0.03 * row[None]).pairs for row in like(noise, (1, 1)))
    alone, together = seeds_needed(one, MARGIN, LEVEL), seeds_needed((*one, *other), MARGIN, LEVEL)
    assert seeds_needed((*one, *one), MARGIN, LEVEL) == pytest.approx(alone, rel=0.1) and together > 1.1 * alone
    fewer = (
        better(0.03 * like(noise[:, :7], (1, 1))[:1]).pairs[0],
        one[0],
    )  # not of the same seeds: as if on their own
    assert seeds_needed(fewer, MARGIN, LEVEL) == pytest.approx(together, rel=0.1)
    assert seeds_needed(better(noise[:1]).pairs, MARGIN, LEVEL) is None and MOST < 1000
    assert seeds_needed(better(0 * noise[:1]).pairs, MARGIN, LEVEL) == 2


def test_what_is_supposed_is_a_gain_of_the_margin_or_none():
    """Where equals satisfy it, they are equal; a share of explained variance has no such margin."""
    noise = 0.01 * np.random.default_rng(3).standard_normal((2, 8))
    assert [supposed(each, MARGIN) for each in sharper(noise).pairs] == [MARGIN, 0.0]
    assert supposed(better(noise).pairs[0], MARGIN) == pytest.approx(-math.log(0.98))
    weights = np.stack([np.linspace(0, 1, 8), np.linspace(1, 0, 8)], axis=1)
    curves = np.array([[1.0, 3.0], [2.0, 3.0]]) @ weights.T + noise
    (variance,) = claims.arithmetic(curves, np.array([[1.0, 3.0], [2.0, 3.0]]), weights).pairs
    assert supposed(variance, MARGIN) is None


def test_so_many_scenes_show_that_there_is_no_gap():
    """By twenty scenes of a spread of 5 %, of one picture each: as many as show it in .8 of made-up sets."""
    (measured,) = 1 + like(np.random.default_rng(4).standard_normal((1, 20)), (0.05,))
    gap = claims.validation_gap(measured, [*map(str, range(20))], 1.0, 30, MARGIN).parts[0]
    n = scenes_needed(gap, MARGIN, 0.05)
    random, names = np.random.default_rng(5), [*map(str, range(n))]
    shown = [
        claims.validation_gap(1 + 0.05 * random.standard_normal(n), names, 1.0, 30, MARGIN, 499).p_for < 0.025
        for _ in range(150)
    ]
    assert np.mean(shown) == pytest.approx(0.8, abs=0.1)
    assert scenes_needed(claims.validation_gap(measured, ["a"] * 20, 1.0, 30, MARGIN).parts[0], MARGIN, 0.05) is None


@pytest.mark.parametrize("level", [0.05, 0.00125])
@pytest.mark.parametrize("shift", [-0.03, 0.0, 0.03])
def test_a_gain_is_excluded_just_where_the_interval_leaves_it_out(level, shift):
    """On either side, at the interval's own level: what is told beside an interval can't contradict it."""
    values = np.exp(shift + 0.01 * np.random.default_rng(2).standard_normal(12))
    found = claims.difference(np.ones_like(values), values, is_relative=True)
    low, high = (-math.log1p(-end) for end in found.interval(level))
    for gain in (low - 1e-6, low + 1e-6, high - 1e-6, high + 1e-6):
        assert is_excluded(found.pairs[0], gain, level) == (not low <= gain <= high)
