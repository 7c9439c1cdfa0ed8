import json
import math
from dataclasses import replace

import numpy as np
import pytest

from depth_loss_sweep.reports import decide
from depth_loss_sweep.reports.analysis import Analysis
from depth_loss_sweep.reports.decision import Question
from depth_loss_sweep.reports.decision import decide as decide_trials
from depth_loss_sweep.reports.measures import Measure
from depth_loss_sweep.reports.trials import SeedValue, TrialResult

RMSE = Measure("metric_rmse", "RMSE", "m")
DELTA1 = Measure("metric_delta1", "delta1", "fraction", higher_is_better=True)
BASELINES = {"median": 0.9, "mean_map": 0.8}


def made_up(values, weights=None, broke=()):
    """Trials from values (trials, seeds); `broke` are those (trial, seed) of which training broke, finite or not."""
    values = np.asarray(values, dtype=float)
    return [
        TrialResult(
            number=t,
            label=f"w = {t}",
            weights=(weights or {}).get(t, {"silog": 1.0, "ssim": 0.5}),
            params={},
            state="complete",
            expected=values.shape[1],
            seeds=tuple(
                SeedValue(f"{t}-{s}", s, value, "learnt", broke=(t, s) in broke or math.isinf(value))
                for s, value in enumerate(row)
            ),
        )
        for t, row in enumerate(values)
    ]


def noisy(means, seeds=5, sd=0.01, shared=0.03, seed=0):
    """Values around means: a relative noise, most of it shared by a seed's runs."""
    rng = np.random.default_rng(seed)
    shifts = shared * rng.standard_normal((1, seeds)) + sd * rng.standard_normal((len(means), seeds))
    return np.asarray(means)[:, None] * np.exp(shifts)


def asked(measure=RMSE, baselines=None, line=True, **about):
    """A question about ten trials of a line at most."""
    places = {n: n / 10 for n in range(10)} if line else {}
    return Question(measure, BASELINES if baselines is None else baselines, places, **about)


def state_of(values, **about):
    return decide_trials(made_up(values), asked(**about)).state


def test_a_clear_winner_is_to_be_used():
    """The gate rejects equality, and the named trial is within a margin of the best."""
    decision = decide_trials(made_up(noisy([0.6, 0.5, 0.6, 0.7], 8)), asked())
    assert (decision.state, decision.trial, decision.kept) == ("use", 1, (1,))
    assert decision.bound == 0 and decision.is_settled and decision.bound_scenes is None
    assert decision.mean == pytest.approx(0.5, rel=0.1) and decision.low < decision.mean < decision.high
    assert all(c.is_worse and c.difference > 0.15 for c in decision.contrasts)


def test_a_bound_beyond_the_margin_is_used_and_not_settled():
    """The gate rejects, yet the neighbours may be better."""
    decision = decide_trials(made_up(noisy([0.5, 0.505, 0.7, 0.7])), asked())
    assert decision.state == "use" and len(decision.kept) == 2
    assert 0.02 < decision.bound < 0.2 and not decision.is_settled


def test_equal_weights_with_little_noise_are_equivalent_and_the_simplest_is_named():
    """Every bound is within the margin; fewest terms, then the lowest number."""
    values = noisy([0.5] * 4, 12, sd=0.002, seed=2)
    weights = {0: {"silog": 1.0, "ssim": 1.0}, 1: {"silog": 1.0, "ssim": 1.0}, 2: {"l1": 1.0}, 3: {"l1": 2.0}}
    decision = decide_trials(made_up(values, weights), asked())
    assert (decision.state, decision.trial, decision.choice) == ("equivalent", 2, "simplest")
    assert decision.bound <= 0.02 and decision.is_settled


def test_equal_weights_with_noise_are_undecided_and_say_what_could_be_seen():
    """The smallest difference and the seeds needed follow from the noise, not from the differences that were seen."""
    values = noisy([0.5] * 4, sd=0.03, seed=1)
    decision, other = (decide_trials(made_up(v), asked()) for v in (values, values * [[1.001], [1.0], [1.0], [1.0]]))
    assert decision.state == "undecided" and decision.trial in decision.kept
    assert decision.detectable > 0.02 and decision.seeds_needed > 5
    assert (decision.detectable, decision.seeds_needed) == (pytest.approx(other.detectable), other.seeds_needed)


def test_in_use_the_simplest_that_is_certified_replaces_the_choice():
    """Trial 2 needs one term and is within the margin; trial 1 has a slightly better mean."""
    values = noisy([0.7, 0.5, 0.5001, 0.7], 12, sd=0.001)
    decision = decide_trials(made_up(values, {2: {"l1": 1.0}}), asked())
    assert (decision.state, decision.trial, decision.choice) == ("use", 2, "simplest")


def test_one_or_two_seeds_are_an_anecdote():
    """All may be best, and no bound is made up."""
    decision = decide_trials(made_up(noisy([0.6, 0.5], 2)), asked())
    assert (decision.state, decision.trial, decision.kept, decision.bound) == ("anecdote", 1, (0, 1), None)
    assert state_of([[0.6], [0.5]]) == "anecdote"


def test_one_trial_has_a_level_only():
    """Nothing to compare it with, so that there is no bound."""
    decision = decide_trials(made_up([[0.5, 0.51, 0.52]]), asked())
    assert (decision.state, decision.trial, decision.bound) == ("single", 0, None)
    assert decision.mean == pytest.approx(0.51) and decision.contrasts == ()


def test_states_without_a_trial():
    """Combined losses, no complete trial, divergence everywhere, nothing learnt: no trial is named."""
    inf = math.inf
    assert state_of([[0.5] * 3] * 2, objection="the combined loss is not comparable") == "incomparable"
    assert decide_trials([], asked()).state == "unfinished"
    assert state_of([[inf] * 3] * 2) == "diverged"
    lost = decide_trials(made_up([[0.85] * 3, [0.95] * 3]), asked())
    assert (lost.state, lost.trial, lost.beating, lost.kept) == ("not_learnt", None, 0, ())
    assert state_of([[0.85] * 3] * 2, baselines={}) == "equivalent"


def test_a_search_is_undecided_about_its_own_numbers():
    """Its points were chosen by the numbers that would judge them."""
    decision = decide_trials(made_up(noisy([0.6, 0.5, 0.6], 8)), asked(line=False, is_search=True))
    assert (decision.state, decision.trial, decision.bound) == ("undecided", 1, None) and decision.is_search


def test_pruned_failed_and_unfinished_trials_leave_first_by_name():
    """The rest is judged, so far."""
    trials = made_up(noisy([0.6, 0.5, 0.4, 0.3, 0.2], 5))
    trials[2] = replace(trials[2], state="pruned")
    trials[3] = replace(trials[3], state="failed")
    trials[4] = replace(trials[4], state="running", seeds=trials[4].seeds[:2])
    decision = decide_trials(trials, asked(is_unfinished=True))
    assert decision.left == {2: "pruned", 3: "failed", 4: "unfinished"} and decision.compared == (0, 1)
    assert decision.state == "use" and decision.trial == 1 and decision.so_far
    assert decide_trials(trials[2:], asked(is_unfinished=True)).state == "unfinished"


def test_runs_count_once_however_many_trials_show_them():
    """A trial that shows another's runs tells nothing new, and leaves."""
    trials = made_up(noisy([0.6, 0.5, 0.7], 5))
    twin = replace(trials[1], number=7)
    assert decide_trials([*trials, twin], asked()).left == {7: "the same runs as trial 1"}
    alone, twice = decide_trials(trials, asked()), decide_trials([*trials, twin], asked())
    assert (alone.trial, alone.bound, alone.gate_p) == (twice.trial, twice.bound, twice.gate_p)


def test_a_seed_that_a_trial_lacks_is_nobody_s():
    """A metric that is not defined in one run leaves the other seeds; a trial without most of its values leaves."""
    values = noisy([0.6, 0.5, 0.7], 6)
    values[2, 1] = math.nan
    decision = decide_trials(made_up(values), asked())
    assert (
        (decision.seeds, decision.seeds_left) == ((0, 2, 3, 4, 5), (1,))
        and decision.state == "use"
        and decision.trial == 1
    )
    values[2, :4] = math.nan
    assert decide_trials(made_up(values), asked()).left == {2: "not measured"}


def test_a_run_that_went_non_finite_counts_as_the_training_median():
    """Equality is judged with it, levels and bounds without it, and how often that happened stands beside them."""
    values = noisy([0.5, 0.501, 0.6, 0.7], 6, sd=0.001)
    values[0, 3] = math.inf
    decision = decide_trials(made_up(values), asked())
    as_median = np.where(np.isinf(values), BASELINES["median"], values)
    judged = decide_trials(made_up(as_median, broke={(0, 3)}), asked())
    assert (decision.gate_p, decision.bound, decision.trial) == (judged.gate_p, judged.bound, judged.trial)
    first = decision.breaks_of(0)
    assert (first.broken, first.runs) == (1, 6) and first.high == pytest.approx(0.641, abs=1e-3)
    assert decision.trial == 1, "as good, and it didn't break"


def test_the_simplest_never_breaks_more_often():
    """A single term that breaks under half of the seeds doesn't replace one that never does."""
    values = noisy([0.7, 0.5, 0.5, 0.7], 12, sd=0.001)
    broke = {(2, s) for s in range(6)}
    decision = decide_trials(made_up(values, {2: {"l1": 1.0}}, broke), asked())
    assert decision.state == "use" and decision.trial == 1


def test_flat_runs_alone_have_no_bound():
    """Where every run broke, yet beat the trivial predictors, nothing is certified."""
    values = noisy([0.5, 0.6], 4)
    broke = {(t, s) for t in range(2) for s in range(4)}
    decision = decide_trials(made_up(values, broke=broke), asked())
    assert (decision.state, decision.trial, decision.bound, decision.mean) == ("undecided", 0, None, None)


def test_the_order_of_trials_and_the_unit_change_nothing():
    """Metres or millimetres, forwards or backwards."""
    values = noisy([0.5, 0.51, 0.52, 0.55, 0.6], 6)
    one = decide_trials(made_up(values), asked())
    backwards = decide_trials(made_up(values)[::-1], asked())
    assert backwards == one
    scaled = decide_trials(made_up(1000 * values), asked(baselines={k: 1000 * v for k, v in BASELINES.items()}))
    assert (scaled.state, scaled.trial, scaled.kept) == (one.state, one.trial, one.kept)
    assert (scaled.bound, scaled.gate_p) == (pytest.approx(one.bound), pytest.approx(one.gate_p))


def test_fractions_are_compared_as_they_are_and_more_is_better():
    """1 - delta1 decides as delta1 does, with the margin in its unit."""
    values = noisy([0.6, 0.66, 0.71, 0.5], 8, sd=0.02, shared=0.01)
    up = decide_trials(made_up(values), asked(DELTA1, {"median": 0.2}))
    down = decide_trials(made_up(1 - values), asked(replace(DELTA1, higher_is_better=False), {"median": 0.8}))
    assert (up.state, up.trial, up.kept, up.is_relative) == ("use", 2, down.kept, False)
    assert up.bound == pytest.approx(down.bound) and up.gate_p == pytest.approx(down.gate_p)
    assert up.detectable == pytest.approx(down.detectable)


def test_a_measure_that_can_be_negative_is_compared_in_its_unit():
    """There is no share of nothing."""
    values = noisy([0.6, 0.7, 0.8], 6) - 0.65
    decision = decide_trials(made_up(values), asked(baselines={}))
    assert not decision.is_relative and decision.state == "use" and decision.trial == 0


def test_ten_thousand_trials_are_decided_and_written():
    """Of three seeds each: intervals for all pairs are wider than a float holds, and such contrasts are left out."""
    values = noisy([0.5] * 10_000, 3, sd=0.03)
    decision = decide_trials(made_up(values), asked(line=False))
    assert decision.state == "undecided" and len(decision.kept) > 9000
    assert json.dumps(decision.as_dict(), allow_nan=False)


def test_looks_share_the_level():
    """Who looks twice, with more seeds, has half the level for each look."""
    trials = made_up(noisy([0.5, 0.51, 0.52], 6))
    once, twice = (decide_trials(trials, asked(looks=n)) for n in (1, 2))
    assert (once.gate_level, twice.gate_level) == (0.05, 0.025) and twice.bound > once.bound


def test_a_record_is_decided(study):
    """`decide` takes what reports are made of; JSON carries what it says."""
    decision = decide(study())
    assert decision == Analysis(study()).decision and decision.state in ("use", "undecided")
    told = json.loads(json.dumps(decision.as_dict(), allow_nan=False))
    assert {"state", "trial", "kept", "bound"} <= told.keys() and told["kept"] == list(decision.kept)
    assert decide(study(objective="combined")).state == "incomparable"
    assert decide(study(finished=0)).state == "unfinished" and decide(study(finished=13)).so_far
    assert decide(study(baseline=0.4)).state == "not_learnt" and decide(study(seeds=1)).state == "anecdote"
    assert decide(study("simplex")).is_search and decide(study("point", trials=1)).state == "single"


def test_a_spike_that_ruins_nothing_isn_t_broken(study):
    """A spiking run is broken unless it beats the training median all the same."""
    record = study(trials=2)
    record.runs.loc[[0, 1], "outcome"] = "spiking"
    record.epochs.loc[record.epochs["run"] == record.runs.loc[1, "run"], "metric_rmse"] = 0.8
    trial = Analysis(record).trials[0]
    assert [s.broke for s in trial.seeds] == [False, True, False]
    unknown = replace(record, baselines={})
    assert [s.broke for s in Analysis(unknown).trials[0].seeds] == [True, True, False]
