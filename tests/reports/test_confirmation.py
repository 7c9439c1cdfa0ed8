"""What confirming runs allow to be quoted: levels, paired gains, breaks; each weighting once."""

import math
from dataclasses import replace

import numpy as np
import pytest

from depth_loss_sweep.reports.confirmation import (
    EQUAL_WEIGHTS,
    WINNER,
    ConfirmationRecord,
    FreshRun,
    candidates,
    confirm,
)
from depth_loss_sweep.reports.decision import Decision
from depth_loss_sweep.reports.measures import Measure
from depth_loss_sweep.reports.quotes import gain, quote
from depth_loss_sweep.reports.references import Candidate
from depth_loss_sweep.reports.scenes import PictureValues
from depth_loss_sweep.reports.trials import SeedValue, TrialResult

RMSE = Measure("metric_rmse", "RMSE", "m")
OWN, EQUAL = (
    Candidate("trial 0", (WINNER,), {"l1": 1.0}, trial=0),
    Candidate("equal", (EQUAL_WEIGHTS,), {"l1": 1.0, "ssim": 1.0}),
)


def record(own: list[float], equal: list[float], **more) -> ConfirmationRecord:
    """Two candidates' test values by seed; NaN where a run broke."""
    runs = tuple(
        FreshRun(c.name, 10_000 + i, f"{c.name}{i}", "flat" if math.isnan(v) else "learnt", True, v, v)
        for c, values in ((OWN, own), (EQUAL, equal))
        for i, v in enumerate(values)
    )
    seeds = tuple(range(10_000, 10_000 + len(own)))
    return ConfirmationRecord((OWN, EQUAL), seeds, runs, test_images=4, outcomes={"flat": True}, **more)


def test_a_gain_is_paired_by_seed_in_metres_and_per_cent() -> None:
    """Twice as good under every seed is 50 %, surely, whatever the seeds themselves do."""
    row = confirm(record([1.0, 2.0, 3.0], [2.0, 4.0, 6.0]), RMSE, 0.02).quoted_row
    assert row is not None and row.gain is not None
    assert row.gain.mean == pytest.approx(2.0) and row.mean == pytest.approx(2.0)
    assert row.gain.share == row.gain.share_low == row.gain.share_high == pytest.approx(0.5)


def test_what_changes_nothing_is_said_to_be_equal_weights_and_no_zero_has_a_sign() -> None:
    """As a rule that never has to step in; a share that rounds to zero from below is 0."""
    assert quote(confirm(record([1.0, 2.0], [1.0, 2.0]), RMSE, 0.02), RMSE, str).count("those of equal weights") == 1
    row = confirm(record([1.0, 2.0, 3.0], [1.0, 2.0, 3.0]), RMSE, 0.02).quoted_row
    assert row is not None and row.gain is not None and "−" not in gain(row.gain, RMSE)


def test_under_collapse_there_are_two_numbers() -> None:
    """The level of unbroken runs, and how many broke; pairs with a broken run are left out of the gain."""
    found = confirm(record([1.0, math.nan, 1.2, 1.1], [1.5, 1.4, math.nan, 1.3]), RMSE, 0.02)
    row = found.quoted_row
    assert row is not None and (row.broken, row.runs) == (1, 4) and row.mean == pytest.approx(1.1)
    assert row.gain is not None and row.gain.pairs == 2 and 0 < row.broken_low < row.broken_high < 1
    assert "1 of 4 runs broke" in quote(found, RMSE, lambda c: c.name)


def test_nothing_is_quoted_of_an_earlier_winner_or_before_the_end() -> None:
    """Only what is whole, and of today's winner, is a result."""
    earlier = confirm(record([1.0, 1.1], [1.2, 1.3], is_current=False), RMSE, 0.02)
    assert earlier.quoted is None and "earlier winner" in quote(earlier, RMSE, str)
    whole = record([1.0, 1.1], [1.2, 1.3])
    half = confirm(ConfirmationRecord(whole.candidates, whole.seeds, whole.runs[:3]), RMSE, 0.02)
    assert half.quoted is None and "3 of 4 runs" in quote(half, RMSE, str)


def test_what_trains_alike_is_confirmed_once() -> None:
    """Adam ignores a loss's scale: a winner of equal weights is the equal weights, where nothing minds the scale."""
    seeds = (SeedValue("r", 0, 1.0, "learnt", True, False),)
    trial = TrialResult(0, "", {"silog": 0.5, "l1": 0.5, "ssim": 0.0}, {}, "complete", 1, seeds)
    decision = Decision("single", 0, (0,), compared=(0,))
    names = [c.name for c in candidates([trial], decision, RMSE, is_scale_free=True)]
    assert names == ["trial 0", "silog", "l1", "bts", "depth-anything-v2-metric"]
    assert "equal" in [c.name for c in candidates([trial], decision, RMSE, is_scale_free=False)]


def test_a_rule_is_held_against_weights_that_no_rule_changes() -> None:
    """A winner that is equal weights under a rule is confirmed by it; equal weights and single terms beside it are fixed ones."""
    seeds = (SeedValue("r", 0, 1.0, "learnt", True, False),)
    params = {"point": "equal", "loss.weighting": "rlw"}
    trial = TrialResult(0, "", {"silog": 1.0, "l1": 1.0}, params, "complete", 1, seeds)
    found = candidates([trial], Decision("single", 0, (0,), compared=(0,)), RMSE, is_scale_free=True)
    whole = replace(trial, params={"point": "equal"})  # the rule is the study's, and no trial's own
    beside = candidates([whole], Decision("single", 0, (0,), compared=(0,)), RMSE, is_scale_free=True, rule="rlw")
    for rules in ({c.name: c.fields["loss.weighting"] for c in each} for each in (found, beside)):
        assert rules.pop("trial 0") == "rlw" and "equal" in rules and {*rules.values()} == {"fixed"}


def test_scenes_that_differ_widen_the_interval_and_few_tell_nothing() -> None:
    """By seeds without spread and ten scenes of 0 or 2, it is the scenes' own t-interval; below eight scenes there is none."""
    kept = {f"{c.name}{i}": np.array([0.0, 2.0] * 5) for c in (OWN, EQUAL) for i in range(3)}
    found = {
        count: confirm(record([1.0] * 3, [1.0] * 3, pictures=PictureValues(scenes, kept)), RMSE, 0.02).rows[0]
        for count, scenes in ((10, tuple("abcdefghij")), (2, tuple("ab" * 5)))
    }
    row = found[10]
    # The deviations of MacKinnon and White: a tenth, by the share that is left, and one degree of freedom.
    half = 2.262157 * math.sqrt(10 * (0.1 / 0.9) ** 2 * 10 / 9)
    assert (row.low_scenes, row.high_scenes) == (pytest.approx(1 - half), pytest.approx(1 + half))
    assert row.low == row.high == 1.0 and row.gain is not None and row.gain.low_scenes == row.gain.high_scenes == 0.0
    assert found[2].low_scenes is None and found[2].gain is not None and found[2].gain.high_scenes is None
