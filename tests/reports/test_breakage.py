import numpy as np
import pytest

from depth_loss_sweep.reports.analysis import Analysis
from depth_loss_sweep.reports.breakage import breakage, threshold
from depth_loss_sweep.reports.trials import SeedValue, TrialResult


def broken_at(*seeds):
    """Each seed's runs along w = 0, 1, 2, ...: "x" broke."""
    return [[(float(w), c == "x") for w, c in enumerate(runs)] for runs in seeds]


def test_a_threshold_has_an_interval_over_seeds():
    """Five seeds break from 3, 4 or 5 on; min to max holds the median with 1 - 2 / 2^5."""
    found = threshold(broken_at("...xxxxx", "....xxxx", "....xxxx", "....xxxx", ".....xxx"))
    assert (found.side, found.low, found.high) == ("from", 2.0, 5.0)
    assert found.confidence == pytest.approx(1 - 2 / 32) and found.p < 1e-4


def test_a_threshold_at_the_other_end_goes_down():
    """Breaking up to a place is the same, walked the other way."""
    found = threshold(broken_at("xxx.....", "xx......", "xxxx...."))
    assert (found.side, found.low, found.high) == ("up to", 4.0, 1.0)


def test_a_seed_that_doesn_t_break_leaves_the_interval_open():
    """Its onset may be beyond the end of the line."""
    found = threshold(broken_at("....xxxx", "...xxxxx", "........"))
    assert found.low == 2.0 and found.high is None


def test_two_of_three_broken_runs_in_a_row_are_no_threshold():
    """The exact test by hand: one broken run at the end in each of two seeds of five has p = 2 / 25 > 0.05."""
    assert threshold(broken_at("....x", "....x")) is None
    found = threshold(broken_at("....x", "....x", "....x"))
    assert found is not None and found.p == pytest.approx(2 / 125)


def test_breaking_by_chance_names_a_threshold_in_one_study_of_twenty():
    """Whatever a seed's own probability to break is: seeds are clusters."""
    rng, named = np.random.default_rng(0), 0
    for _ in range(1500):
        p = rng.choice([0.05, 0.25, 0.8], size=(4, 1))
        named += threshold([[(w, bool(x)) for w, x in enumerate(own)] for own in rng.random((4, 10)) < p]) is not None
    assert named / 1500 < 0.055


def test_seeds_count_once(study):
    """Two trials of five broke under the same seed: one seed of three, and one seed names no threshold."""
    found = Analysis(study(trials=5, diverged=(3, 4))).breakage
    assert (found.broken, found.finished, found.kinds["non_finite"]) == (2, 15, 2)
    assert found.seeds == {0: (0, 5), 1: (0, 5), 2: (2, 5)} and found.broken_seeds == (2,)
    assert found.probability[1] == pytest.approx(0.906, abs=1e-3)
    assert [t.number for t in found.trials] == [3, 4] and found.threshold is None


def test_runs_count_once_and_a_spared_spike_is_not_broken():
    """A run that two trials show is one; a spiking run that learnt all the same is counted, but not as broken."""
    shared = SeedValue("a", 0, 1.0, "spiking", broke=False)
    trials = [
        TrialResult(n, "", {}, {}, "complete", 2, (shared, SeedValue(f"b{n}", 1, 1.0, "flat", broke=True)))
        for n in (0, 1)
    ]
    found = breakage(trials, {})
    assert (found.finished, found.broken) == (3, 2) and found.counts == {"spiking": 1, "flat": 2}
    assert found.kinds == {"flat": 2} and found.seeds == {0: (0, 1), 1: (2, 2)}
