"""Where on a dose training begins to break, by hand and on made-up seeds."""

import math

import numpy as np
import pytest

from depth_loss_sweep.reports.dose import Onset, calm_seeds, exceeds, instability, onset
from depth_loss_sweep.reports.experiments import FAMILY

DOSES = (0.0, 0.15, 0.3, 0.45, 0.6, 0.75, 0.9)


def breaking(*seeds: str) -> Onset:
    """Each seed's runs along the dose: "x" broke, "-" isn't there."""
    table = [[math.nan if c == "-" else float(c == "x") for c in runs] for runs in seeds]
    return Onset(DOSES[: len(seeds[0])], np.array(table))


def test_runs_become_a_table():
    """In any order; a seed may lack a dose."""
    found = onset([0.5, 0.0, 0.0], [7, 7, 3], [True, False, False])
    assert found.places == (0.0, 0.5) and found.broken.tolist() == [0, 1] and found.runs.tolist() == [2, 1]


def test_thirty_six_calm_seeds_show_a_probability_below_a_tenth():
    """0.9^36 = 0.0225 < 0.025 < 0.9^35, and Holm's first step of ten takes 57: 0.9^57 = 0.00246 < 0.0025 < 0.9^56."""
    assert (calm_seeds(), calm_seeds(0.05 / FAMILY)) == (36, 57)
    assert breaking(*["....xxx"] * 36).p_after(0.35) == pytest.approx(0.9**36)


def test_the_onset_lies_between_the_last_calm_and_the_first_broken_dose():
    """All seeds break from .6 on: between .45 and .6, by 36 seeds; twenty can't show the lower end."""
    found = breaking(*["....xxx"] * 36)
    assert found.interval() == (0.45, 0.6) and 0.45 < found.place < 0.6
    assert breaking(*["....xxx"] * 20).interval() == (-math.inf, 0.6)


def test_without_a_break_the_onset_is_beyond_the_line():
    """By enough seeds; with all runs broken it is before it begins."""
    assert breaking(*["......."] * 36).interval() == (0.9, math.inf)
    assert breaking(*["......."] * 36).place == math.inf
    assert breaking(*["xxxxxxx"] * 36).interval() == (-math.inf, 0.0)
    assert breaking(*["xxxxxxx"] * 36).place == -math.inf


def test_the_point_is_where_the_rising_share_is_a_tenth():
    """Shares of 0, 0 and 1/5 at .3, .45 and .6: halfway between the last two."""
    assert breaking("....x", ".....", ".....", ".....", ".....").place == pytest.approx(0.525)


def test_a_seed_without_a_dose_counts_by_its_next_run():
    """P(broken) is no less there: calm at .45 tells of .3, broken at .3 of .45."""
    some = breaking(*["....x.."] * 20, *["---.x--"] * 16)
    assert some.p_after(0.3) == pytest.approx(0.9**36) and some.interval()[0] == 0.45
    broken = breaking(*["...xx-."] * 10, *["...xx-x"] * 10)
    assert broken.p_before(0.75) == breaking(*["...xxx."] * 10, *["...xxxx"] * 10).p_before(0.75)


@pytest.mark.parametrize("law", ["steep", "own onsets", "an eighth"])
def test_the_onset_is_covered_whatever_the_seeds_share(law):
    """In 19 of 20 studies at least, whether a seed's runs break one by one or all from its own onset on."""
    random, doses, held = np.random.default_rng(0), np.array(DOSES), 0
    for _ in range(300):
        even = random.random((36, len(doses)))
        first = last = 0.7 - (math.log(9) / 12 if law == "steep" else 0.15 * 1.2816)
        table = even < 1 / (1 + np.exp(-12 * (doses - 0.7)))
        if law == "own onsets":
            table = doses >= random.normal(0.7, 0.15, size=(36, 1))
        if law == "an eighth":
            first, last, table = 0.45, 0.6, (doses > 0.5) & (even < 0.125)
        low, high = Onset(DOSES, table.astype(float)).interval()
        held += low <= last and high >= first
    assert held / 300 >= 0.95


def test_breaking_more_often_beyond_a_dose_by_hand():
    """One run of two broke in each of four seeds, three times the higher one: 5 of 16 ways; odds of 3 to 1."""
    found = exceeds(breaking(".x", ".x", ".x", "x.", "xx", ".."), 0.1)
    assert (found.p_for, found.p_against) == pytest.approx((5 / 16, 15 / 16))
    assert found.effect == pytest.approx(3)
    # Exact ends of odds from 3 of 4 tries (Clopper, Pearson): .1941 and .9937 as odds.
    assert found.interval(0.05) == pytest.approx((0.1941 / 0.8059, 0.99369 / 0.00631), rel=2e-3)


def test_seeds_of_which_all_or_no_runs_broke_say_nothing():
    """Nor are odds known where only one number was possible."""
    found = exceeds(breaking("xx", ".."), 0.1)
    assert found.p == 1 and math.isnan(found.effect) and (found.low, found.high) == (0, math.inf)
    all_beyond = exceeds(breaking(*[".x"] * 6), 0.1)
    assert all_beyond.p_for == pytest.approx(1 / 64) and all_beyond.effect == all_beyond.high == math.inf
    assert exceeds(breaking(*["x."] * 6), 0.1).effect == 0
    many = exceeds(breaking(*["....xxx"] * 400, ".......", "x...xx."), 0.5)
    assert many.p_for < 1e-300 and many.low > 100 and math.isfinite(many.effect)


def test_breaking_anywhere_is_seen_beyond_a_dose_in_one_study_of_twenty():
    """Seeds break with probabilities of their own, and wherever: at most .025 on each side."""
    random, seen = np.random.default_rng(1), np.zeros(2)
    for _ in range(600):
        p = random.choice([0.05, 0.3, 0.9], size=(12, 1))
        found = exceeds(Onset(DOSES, (random.random((12, len(DOSES))) < p).astype(float)), 0.5)
        seen += (found.p_for < 0.025, found.p_against < 0.025)
    assert (seen / 600 <= 0.03).all()


def unstable(*seeds: str):
    """The paper's claim, on a dose."""
    return instability(breaking(*seeds), beyond=0.5, within=(0.35, 0.75), calm=(0.6, 0.75))


def test_instability_is_supported_by_an_onset_within_its_doses():
    """All of 36 seeds break from .6 on; from .3 on it is too early, from .9 on nothing speaks for it."""
    assert unstable(*["....xxx"] * 36).p < 0.05 and unstable(*["....xxx"] * 36).p_for < 0.025
    assert unstable(*["..xxxxx"] * 36).p == 1
    late = unstable(*["......x"] * 36)
    assert late.p_for == 1 and late.p_against == pytest.approx(0.9**36)


def test_instability_is_contradicted_by_calm_seeds():
    """None of 36 broke at .6 or .75, an upper bound of 9.7 %; 35 aren't enough, nor does one count that lacks one of the doses."""
    found = unstable(*["......."] * 36)
    assert found.p_against < 0.025 and found.parts[2].high == pytest.approx(0.0974, abs=1e-4)
    assert unstable(*["......."] * 35).p > 0.05
    assert unstable(*["......."] * 35, "....-..").p > 0.05
    assert unstable(*["......."] * 35, "....x..").p > 0.05


def test_intervals_say_what_the_p_say():
    """At any level: the onset's ends lie within the doses, the odds beyond 1, the calm doses' probability below a tenth."""
    random, said = np.random.default_rng(2), set()
    for _ in range(200):
        p = random.choice([0.0, 0.05, 0.3]) * (np.array(DOSES) < 0.5) + random.choice([0.0, 0.1, 0.9]) * (
            np.array(DOSES) > 0.5
        )
        table = (random.random((60, len(DOSES))) < p).astype(float)
        found = instability(Onset(DOSES, table), beyond=0.5, within=(0.35, 0.75), calm=(0.6, 0.75))
        for level in (0.05, 0.05 / FAMILY):
            odds, first, calm = found.estimates(level, True)
            says = odds.low > 1 and first.low >= 0.35 and first.high <= 0.75
            assert (found.p_for < level / 2) == says and (found.p_against < level / 2) == (calm.high < 0.1)
            said.add((says, calm.high < 0.1))
    assert len(said) == 3
