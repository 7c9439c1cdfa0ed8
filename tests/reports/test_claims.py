"""Claims judged: tests worked by hand, families simulated."""

import math

import numpy as np
import pytest
from scipy import stats

from depth_loss_sweep.reports import claims
from depth_loss_sweep.reports.claims import ONCE, Looks, all_of, difference, equivalence, family, holm, non_inferiority
from depth_loss_sweep.reports.experiments import FAMILY

GAPS = np.array([1.0, 2.0, 3.0, 4.0, 5.0])  # mean 3, standard error √(2.5 / 5), no skewness


def of(p_for: float, p_against: float = 1.0) -> claims.Test:
    """A test with these p, and an interval that doesn't matter."""
    return claims.Test(p_for, p_against, 0.0, lambda _: (0.0, 0.0), 5)


def gains(gaps: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Values of a and b, less is better, by which a gains so much in logs."""
    return np.ones(len(gaps)), np.exp(gaps)


def test_a_difference_by_hand():
    """t = 3 / 0.707 = 4.243 with 4 degrees of freedom; the interval is 3 ± 2.776 · 0.707."""
    found = difference(np.zeros(5), GAPS, is_relative=False)
    assert (found.p_for, found.p_against) == pytest.approx((0.00662, 0.99338), abs=1e-5)
    assert (found.effect, found.low, found.high, found.n) == pytest.approx((3, 1.0368, 4.9632, 5), abs=1e-3)
    assert found.p == 2 * found.p_for


def test_a_difference_of_a_positive_measure_is_a_share():
    """a is 1 - 1 / 1.02 of b less, as the mean of logs has it; turned round, 2 % of it worse, as higher is better takes it, too."""
    a, b = gains(math.log(1.02) + 0.01 * (GAPS - 3))
    assert difference(a, b, is_relative=True).effect == pytest.approx(1 - 1 / 1.02)
    assert difference(b, a, is_relative=True).effect == pytest.approx(-0.02)
    assert difference(a, b, is_relative=True, higher_is_better=True).effect == pytest.approx(-0.02)
    with pytest.raises(ValueError, match="positive"):
        difference(-a, b, is_relative=True)
    with pytest.raises(ValueError, match="same length"):
        difference(a, b[1:], is_relative=True)
    with pytest.raises(ValueError, match="finite"):
        difference(a, np.full(5, math.inf), is_relative=True)


def test_equivalence_is_two_tests_against_the_margin():
    """Gains of mean 0 and standard error 0.707 within ±2: both tests have t = 2 / 0.707; against them nothing speaks."""
    found = equivalence(np.zeros(5), GAPS - 3, 2.0, is_relative=False)
    assert found.p_for == pytest.approx(stats.t.sf(2 / math.sqrt(0.5), 4)) and found.p_against > 0.9
    apart = equivalence(np.zeros(5), GAPS + 3, 2.0, is_relative=False)
    assert apart.p_against == pytest.approx(stats.t.sf(4 / math.sqrt(0.5), 4))
    better_is_no_objection = equivalence(np.zeros(5), GAPS + 3, 2.0, is_relative=False, side="worse")
    assert better_is_no_objection.p_against > 0.99 and better_is_no_objection.p_for > 0.99
    assert non_inferiority(np.zeros(5), GAPS + 3, 2.0, is_relative=False).p_for < 0.001
    assert non_inferiority(np.zeros(5), GAPS - 9, 2.0, is_relative=False).p_against < 0.01


def test_skewed_gains_are_judged_by_the_more_cautious_t():
    """One large gain of five: Student's t sees less in it than Hall's, and the interval reaches as far as both."""
    gaps = np.array([0.0, 0.1, 0.2, 0.3, 4.0])
    found = difference(np.zeros(5), gaps, is_relative=False)
    student = stats.ttest_1samp(gaps, 0, alternative="greater").pvalue
    assert found.p_for == pytest.approx(student)
    turned = difference(np.zeros(5), 4 - gaps, is_relative=False)
    assert turned.p_for > 2 * stats.ttest_1samp(4 - gaps, 0, alternative="greater").pvalue
    assert found.high > gaps.mean() + 2.776 * stats.sem(gaps)


def test_what_trains_alike_is_equivalent_and_not_different():
    """The same runs twice: no spread, no gain."""
    values = np.linspace(1, 2, 5)
    same = difference(values, values, is_relative=True)
    assert (same.p_for, same.p_against, same.low, same.high) == (1, 1, 0, 0)
    assert equivalence(values, values, 0.02, is_relative=True).p_for == 0
    assert difference(values, 2 * values, is_relative=True).p_for == 0


def test_one_pair_says_nothing():
    """Nor does none."""
    for n in (0, 1):
        found = difference(np.ones(n), np.full(n, 2.0), is_relative=True)
        assert found.p == 1 and found.n == n and (found.low, found.high) == (-math.inf, 1)


def test_all_of_several_tests():
    """The weakest carries it; one that is contradicted has a share of the level."""
    found = all_of([of(0.01, 0.9), of(0.04, 0.02)])
    assert (found.p_for, found.p_against) == (0.04, 0.04)
    rows = all_of([difference(np.zeros(5), GAPS, is_relative=False)] * 2)
    supported, undecided = (rows.estimates(0.05, is_supported)[0] for is_supported in (True, False))
    assert supported.low == pytest.approx(1.0368, abs=1e-3)  # each at the whole level
    assert undecided.low == rows.parts[0].interval(0.025)[0]


def test_all_of_nested_parts_by_hand():
    """The inner pair: for .04, against 2 · .03. Both: for .04, against 2 · .06; an undecided one's rows have a half and two quarters."""
    a, b, c = of(0.01, 0.9), of(0.02, 0.03), of(0.04, 0.5)
    found = all_of([a, all_of([b, c])])
    assert (found.p_for, found.p_against) == pytest.approx((0.04, 0.12)) and found.leaves == (a, b, c)
    assert [row.level for row in found.estimates(0.04, is_supported=False)] == [0.02, 0.01, 0.01]
    assert [row.level for row in found.estimates(0.04, is_supported=True)] == [0.04] * 3


def test_a_weight_between_the_ends_is_chosen_by_hand():
    """Of 3, 2, 1, 2 and 0, without noise, the third is least but for the end; of a falling line it is the last but one."""
    line = np.array([3.0, 2.0, 1.0, 2.0, 0.0])[:, None] + np.array([0.0, 0.1, -0.1])
    assert claims.interior(line, np.arange(5.0), is_relative=False) == 2
    assert claims.interior(np.exp(line[::-1]), np.arange(5.0), is_relative=True) == 2
    assert claims.interior(np.linspace(5, 1, 5)[:, None] + np.zeros(3), np.arange(5.0), is_relative=False) == 3


def test_a_trade_off_by_hand():
    """Gains of so many standard errors; of Student's t with 4 degrees of freedom 2.83 is passed in .02371, 3.54 in .01206, 4.24 in .00662.

    | weight | values        | over the first end   | over the last end             |
    |--------|---------------|----------------------|-------------------------------|
    | 1      | −1, …, −5     | mean 3, 4.24 errors  | 1, 3, …, 9: mean 5, 3.54      |
    | 2      | −2, −1, …, 2  | mean 0               | 2 each                        |
    """
    zero = np.zeros(5)
    found = claims.trade_off(1, np.array([zero, -GAPS, GAPS - 3, GAPS - 1]), 1.0, is_relative=False)
    assert found.p_for == pytest.approx(0.01206, abs=1e-5) and found.effect == 5
    assert [leaf.effect for leaf in found.leaves] == [3, 5, 3, 0]
    assert found.p_against == 1  # twice .97629: weight 1 gains more than 1 over both
    # Gains over the nearer, first end of mean 0 and 1, 4.24 and 2.83 errors below a margin of 3: twice the larger p.
    flat = claims.trade_off(1, np.array([zero, 3 - GAPS, 2 - GAPS, zero + 9]), 3.0, is_relative=False)
    assert (flat.p_for, flat.p_against) == pytest.approx((0.5, 2 * 0.02371), abs=2e-5)
    assert [leaf.effect for leaf in flat.leaves] == [0, 9, 0, 1]


def test_misranking_by_hand():
    """The mean of 1, 1, 4, 1, 1 is least. Weight 0 is better by 1, …, 5 (p .00662); weight 2 is as much worse, which has a half of it."""
    combined = np.array([[2.0] * 5, [1.0, 1.0, 4.0, 1.0, 1.0], [1.7] * 5])
    found = claims.misranking(combined, np.array([0 * GAPS, GAPS, 2 * GAPS]), is_relative=False)
    assert [leaf.effect for leaf in found.leaves] == [3, -3]
    assert (found.p_for, found.p_against) == pytest.approx((1 - 0.00662, 2 * 0.00662), abs=1e-5)


def test_a_weight_between_the_ends_must_beat_both():
    """A dip of 5 %, in the middle, is found on ten seeds and shown on ten others; without one, less than 2 % is to be gained."""
    random = np.random.default_rng(1)
    noise = 0.01 * random.standard_normal((5, 20))
    dip = np.exp(noise - 0.05 * np.array([0, 0, 1, 0, 0])[:, None])
    chosen = claims.interior(dip[:, :10], np.arange(5.0), is_relative=True)
    found = claims.trade_off(chosen, dip[:, 10:], 0.02, is_relative=True)
    assert chosen == 2 and found.p_for < 0.001 and found.p_against > 0.99
    assert len(found.parts) == 2 + 3 and found.effect == pytest.approx(0.05, abs=0.01)
    flat = claims.trade_off(chosen, np.exp(noise[:, 10:]), 0.02, is_relative=True)
    assert flat.p_for > 0.05 and flat.p_against < 0.01
    one_end = claims.trade_off(chosen, np.exp(noise + 0.02 * np.arange(5)[:, None]), 0.02, is_relative=True)
    assert one_end.p_for > 0.99 and one_end.p_against < 0.01


def test_holm_by_hand():
    """.01 · 3, then .02 · 2, then no less than that; a claim that isn't measured counts."""
    assert holm({"c": 0.03, "a": 0.01, "b": 0.02}) == pytest.approx({"c": 0.04, "a": 0.03, "b": 0.04})
    assert holm({"a": 0.01, "b": 0.03}, size=4) == pytest.approx({"a": 0.04, "b": 0.09})


def test_looks_share_the_level():
    """Twice the smaller p, over the look's share, and the least of them."""
    assert Looks((of(0.001),)).p == pytest.approx(0.01)
    assert Looks((of(0.001), of(0.3, 0.0003))).p == pytest.approx(0.002)
    assert Looks((of(0.02),), ONCE).p == pytest.approx(0.04) and Looks(()).p == 1
    with pytest.raises(ValueError, match="1 looks were fixed"):
        Looks((of(0.02), of(0.01)), ONCE)


def test_a_family_by_hand():
    """Supported and contradicted at their steps; what Holm doesn't decide is open while looks are left."""
    found = family(
        {
            "clear": Looks((of(0.0001),)),
            "false": Looks((of(0.9, 0.004),), ONCE),
            "next look": Looks((of(0.01),)),
            "last look": Looks((of(0.2), of(0.1), of(0.03))),
            "no look": Looks(()),
            "elsewhere": None,
        },
        size=5,
    )
    verdicts = {name: finding.verdict for name, finding in found.items()}
    assert verdicts == {
        "clear": "supported",
        "false": "contradicted",
        "next look": "undecided",
        "last look": "undecided",
        "no look": "undecided",
        "elsewhere": "not testable here",
    }
    assert [name for name, finding in found.items() if finding.is_open] == ["next look", "no look"]
    assert found["clear"].level == pytest.approx(0.05 * 0.2 / 5) and found["clear"].adjusted == pytest.approx(0.005)
    assert found["false"].level == pytest.approx(0.05 / 4)
    assert found["next look"].level == pytest.approx(0.05 * 0.2 / 3)
    assert found["last look"].level == pytest.approx(0.05 * 0.5 / 3)


def test_not_rejecting_is_never_support():
    """No effect is shown by its interval within the margin; as small an effect under much noise is undecided."""
    random = np.random.default_rng(2)
    quiet, loud = (gains(sd * random.standard_normal(20)) for sd in (0.005, 0.1))
    tests = {
        "equal": equivalence(*quiet, 0.02, is_relative=True),
        "better": difference(*quiet, is_relative=True),
        "unknown": equivalence(*loud, 0.02, is_relative=True),
    }
    found = family({name: Looks((test,), ONCE) for name, test in tests.items()}, size=3)
    assert [finding.verdict for finding in found.values()] == ["supported", "undecided", "undecided"]


def test_intervals_say_what_verdicts_say():
    """In made-up families of four kinds of claims: supported just where the shown intervals lie in what is claimed, and so on."""
    random, seen = np.random.default_rng(3), set()
    low, high = -0.02, 1 - 1 / 1.02
    for _ in range(150):
        made = {}
        for i in range(9):
            effect, sd = random.choice([0, 0.01, 0.02, -0.02, 0.04, -0.04]), random.choice([0.005, 0.02])
            a, b = gains(effect + sd * (random.gamma(2, size=20) / math.sqrt(2) - math.sqrt(2)))
            kind = ("difference", "equivalence", "non-inferiority", "both")[i % 4]
            looks = []
            for n in claims.LOOKS[: random.integers(1, 4)]:
                better = difference(a[:n], b[:n], is_relative=True)
                no_worse = non_inferiority(a[:n], b[:n], 0.02, is_relative=True)
                looks.append(
                    {
                        "difference": better,
                        "equivalence": equivalence(a[:n], b[:n], 0.02, is_relative=True),
                        "non-inferiority": no_worse,
                        "both": all_of([better, no_worse]),
                    }[kind]
                )
            made[f"{kind} {i}"] = Looks(tuple(looks))
        for name, finding in family(made, size=9).items():
            rows, kind = finding.estimates, name.rpartition(" ")[0]
            bounds = {"difference": [0.0], "non-inferiority": [low], "both": [0.0, low]}.get(kind)
            if bounds is None:
                says = all(low < row.low and row.high < high for row in rows)
                denies = any(row.low > high or row.high < low for row in rows)
            else:
                says = all(row.low > bound for row, bound in zip(rows, bounds, strict=True))
                denies = any(row.high < bound for row, bound in zip(rows, bounds, strict=True))
            seen.add((kind, finding.verdict))
            assert (finding.verdict == "supported") == says, (name, finding)
            assert (finding.verdict == "contradicted") == (denies and not says), (name, finding)
    assert len(seen) == 12


@pytest.mark.parametrize("law", ["normal", "skewed", "at the margin"])
def test_a_family_errs_in_at_most_one_study_of_twenty(law):
    """Ten claims with three looks each, no effect at all or one of exactly 2 %, either way; tests/benchmarks/claims.py has many more."""
    random, false = np.random.default_rng(4), 0
    for _ in range(300):
        shape = (FAMILY, 20)
        noise = random.standard_normal(shape) if law != "skewed" else (random.gamma(4, size=shape) - 4) / 2
        made = {}
        for i, gaps in enumerate(0.02 * noise):
            a, b = gains(gaps + (random.choice([-1, 1]) * math.log(1.02) if law == "at the margin" else 0))
            of_n = [
                equivalence(a[:n], b[:n], 0.02, is_relative=True)
                if law == "at the margin"
                else difference(a[:n], b[:n], is_relative=True)
                for n in claims.LOOKS
            ]
            made[str(i)] = Looks(tuple(of_n))
        false += any(finding.verdict != "undecided" for finding in family(made, FAMILY).values())
    assert false / 300 <= 0.06


def test_a_small_set_explains_a_gap_within_its_chance():
    """Sixty scenes with a mean of 1: no gap to a training mean of 1, one that no thirty pictures explain to one of 0.5."""
    random = np.random.default_rng(5)
    scenes = np.repeat(np.arange(60), random.integers(1, 6, size=60)).astype(str)
    values = np.exp(0.02 * random.standard_normal(len(scenes)))
    values /= values.mean()
    equal = claims.validation_gap(values, scenes, 1.0, 30, 0.02)
    assert equal.effect == pytest.approx(0, abs=1e-12) and equal.p_for < 0.001 and equal.p_against > 0.3
    apart = claims.validation_gap(values, scenes, 0.5, 30, 0.02)
    assert apart.effect == pytest.approx(1) and apart.p_against < 0.001 and apart.p_for > 0.99
    whole, few = equal.parts
    assert few.high - few.low > 2 * (whole.high - whole.low)
    assert claims.validation_gap(values, scenes, 1.0, 30, 0.02).low == equal.low  # the same draws


def test_pictures_of_one_scene_say_nothing_of_others():
    """However many they are; of eight scenes of one picture each, t's interval is widened by what each hides: by 8 / 7."""
    assert claims.validation_gap(np.linspace(1, 2, 40), ["room"] * 40, 1.0, 30, 0.02).p == 1
    values = np.array([1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0])
    found = claims.validation_gap(values, [*"abcdefgh"], 4.5, 8, 0.02, draws=20_000)
    half = 8 / 7 * stats.t.ppf(0.975, 7) * stats.sem(values) / 4.5
    assert (found.low, found.high) == pytest.approx((-half, half), rel=0.06)


def test_a_cut_scene_gives_any_of_its_pictures():
    """Two scenes of three pictures, two drawn: means of any two of one scene, twice as far off as half of all is hidden."""
    values, scenes = np.array([1.0, 2.0, 4.0, 10.0, 20.0, 40.0]), [*"aaabbb"]
    few = claims.validation_gap(values, scenes, 1.0, 2, 0.02).parts[1]
    mean = 77 / 6
    assert few.interval(0.3) == pytest.approx((mean + 2 * (1.5 - mean) - 1, mean + 2 * (30 - mean) - 1))


def test_one_network_reproduces_a_curve():
    """R² by hand: half of the variance is left in one seed, nothing in the others; all but nothing is above 0.99."""
    weights = np.stack([np.linspace(0, 1, 5), np.linspace(1, 0, 5)], axis=1)
    terms = np.array([[1.0, 3.0], [2.0, 3.0], [1.0, 2.0], [1.0, 4.0]])
    lines = terms @ weights.T
    off = 1e-3 * np.array([[1, -1, 0, 1, -1], [-1, 1, 1, -1, 0], [0, 1, -1, 0, 2], [1, 0, 0, -1, 1]])
    found = claims.arithmetic(lines + off, terms, weights)
    assert found.effect > 0.999 and found.p_for < 0.01 and found.n == 4
    shares = [((row) ** 2).sum() / ((c - c.mean()) ** 2).sum() for row, c in zip(off, lines + off, strict=True)]
    assert 1 - found.effect == pytest.approx(stats.gmean(shares), rel=1e-6)
    bent = lines + 0.5 * np.abs(off / 1e-3)
    assert claims.arithmetic(bent, terms, weights).p_against < 0.01


def test_a_loss_that_prefers_the_worst_misranks():
    """Its argmin is worse than every other weight; where another is worse still, that speaks against it."""
    random = np.random.default_rng(6)
    combined = np.array([3.0, 2.0, 1.0])[:, None] + np.zeros((3, 10))
    rmse = np.array([1.0, 1.1, 1.3])[:, None] * np.exp(0.01 * random.standard_normal((3, 10)))
    assert claims.misranking(combined, rmse, is_relative=True).p_for < 1e-6
    found = claims.misranking(combined, rmse[::-1], is_relative=True)
    assert found.p_for > 0.99 and found.p_against < 1e-6 and len(found.parts) == 2
