import math

import numpy as np
import pytest

from depth_loss_sweep.reports.intervals import proportion_interval, seed_correlation, t_interval


def test_t_interval_of_three_values_worked_by_hand():
    """1, 2, 3 have mean 2, standard error 1/sqrt(3) and, with t = 4.303 at two degrees of freedom, +-2.484."""
    interval = t_interval([1.0, 2.0, 3.0])
    assert interval.mean == 2.0
    assert interval.standard_error == pytest.approx(1 / math.sqrt(3))
    assert interval.low == pytest.approx(2 - 4.302653 / math.sqrt(3), abs=1e-5)
    assert interval.half_width == pytest.approx(2.48414, abs=1e-4)
    assert interval.n == 3


def test_one_value_is_an_anecdote_without_interval():
    """A single seed has a mean but neither error nor interval; no seed has nothing."""
    one, none = t_interval([0.5]), t_interval([])
    assert (one.mean, one.n) == (0.5, 1)
    assert math.isnan(one.standard_error) and math.isnan(one.low)
    assert math.isnan(none.mean) and none.n == 0


def test_an_infinite_value_makes_the_mean_infinite():
    """Surviving seeds are not averaged alone."""
    interval = t_interval([0.5, math.inf, 0.6])
    assert math.isinf(interval.mean) and math.isnan(interval.high)


def test_no_failure_in_five_still_allows_half():
    """Clopper and Pearson: 0 of 5 allows up to 1 - 0.025^(1/5) = 52 %, and 5 of 5 is its mirror."""
    low, high = proportion_interval(0, 5)
    assert low == 0.0 and high == pytest.approx(1 - 0.025 ** (1 / 5))
    assert proportion_interval(5, 5) == pytest.approx((1 - high, 1.0))


@pytest.mark.parametrize(
    ("values", "expected"),
    [([[1.0, 2.0, 3.0], [2.0, 3.0, 4.0]], 1.0), ([[1.0, 3.0], [3.0, 1.0]], -1.0), ([[1.0, 3.0], [1.0, 3.0]], 1.0)],
)
def test_seed_correlation_worked_by_hand(values, expected):
    """Seeds that shift every trial alike correlate fully; seeds that shift them against each other, inversely."""
    assert seed_correlation(np.array(values)) == pytest.approx(expected)


@pytest.mark.parametrize("shape", [(1, 3), (3, 1), (0,)])
def test_seed_correlation_needs_two_of_each(shape):
    """One trial or one seed says nothing about what seeds share."""
    assert math.isnan(seed_correlation(np.zeros(shape)))
