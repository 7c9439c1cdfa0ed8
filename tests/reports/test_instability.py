"""When each broken run broke, how likely that is, and which two runs stand beside each other."""

import math
from dataclasses import replace

import numpy as np
import pytest

from depth_loss_sweep.reports.analysis import Analysis
from depth_loss_sweep.reports.axes import main_axis
from depth_loss_sweep.reports.instability import flat_onset, nearest_pair, spike_onset
from depth_loss_sweep.reports.sections import study_sections
from depth_loss_sweep.reports.series import beside_curves, break_rates
from depth_loss_sweep.reports.summary import answer
from depth_loss_sweep.reports.tables import broken_table, rate_table
from depth_loss_sweep.reports.trials import SeedValue, TrialResult


def spreads(*predictions):
    """Epochs whose predictions vary so much, in metres, where the truth varies by 1 m."""
    return [{"epoch": e, "spread_prediction": p, "spread_truth": 1.0} for e, p in enumerate(predictions, 1)]


@pytest.mark.parametrize(
    ("predictions", "onset"),
    [
        ((0.5, 0.01, 0.01), 2),
        ((0.01, 0.5, 0.01), 3),
        ((0.01, 0.02), 1),
        ((0.01, 0.5), None),
        ((0.5, None, 0.01), None),
        ((None, 0.5, 0.01), 3),
        ((math.nan, 0.01), None),
        ((0.05, 0.0499), 2),
        ((), None),
    ],
)
def test_a_flat_run_broke_where_it_began_to_stay_flat(predictions, onset):
    """The first epoch of the last stretch of flat ones; none where an epoch before it was not measured."""
    assert flat_onset(spreads(*predictions), 0.05) == onset


def test_runs_of_versions_that_kept_no_spread_have_no_onset():
    """What was not measured is not guessed, nor is what no rule is known for."""
    assert flat_onset([{"epoch": 1, "grad_norm_max": 1.0}], 0.05) is None
    assert flat_onset(spreads(0.0), math.nan) is None and spike_onset([{"epoch": 1}], 100.0) is None


def test_a_spiking_run_broke_in_its_first_epoch_over_the_ratio():
    """Against the median of the epochs' medians, 2 here: 200 is not over 100 times that, 201 is, and what comes later counts no more."""
    medians, largest = (1.0, 2.0, 9.0, 2.0), (200.0, 201.0, 9e9, 3.0)
    epochs = [
        {"epoch": e, "grad_norm_median": m, "grad_norm_max": x}
        for e, (m, x) in enumerate(zip(medians, largest, strict=True), 1)
    ]
    assert spike_onset(epochs, 100.0) == 2
    assert spike_onset(epochs[3:], 100.0) is None


@pytest.fixture
def broken(study):
    """Five trials of four seeds; at w = 0.9 three of four broke: flat from epoch 6 on, spiking in epoch 4, non-finite."""
    record = study(trials=5, seeds=4, diverged=(4,))
    runs, epochs = record.runs, record.epochs
    for seed, kind in ((0, "flat"), (1, "spiking")):
        run = runs.loc[(runs["trial"] == 4) & (runs["seed"] == seed), "run"].item()
        runs.loc[runs["run"] == run, "outcome"] = kind
        of_run = epochs["run"] == run
        if kind == "flat":
            epochs.loc[of_run & (epochs["epoch"] >= 6), "spread_prediction"] = 0.001
        else:
            epochs.loc[of_run, "metric_rmse"] = (
                0.9  # a spike after which the network beats the training median broke nothing
            )
            epochs.loc[of_run & (epochs["epoch"] == 4), "grad_norm_max"] = 1e4
    return record


def test_every_broken_run_has_a_kind_an_onset_and_what_is_known_of_the_term(broken):
    """The term that was not finite first is known of non-finite runs, of others the one that led the gradient."""
    runs = Analysis(broken).instability.runs
    assert [(r.trial, r.seed, r.kind, r.epoch) for r in runs] == [
        (4, 0, "flat", 6),
        (4, 1, "spiking", 4),
        (4, 3, "non_finite", 5),
    ]
    assert [(r.step, r.term) for r in runs] == [(None, None), (None, None), (3, "edge")]
    assert [r.leading_term for r in runs] == ["edge", "edge", None] and runs[0].leading_share == pytest.approx(0.9)


def test_how_likely_breaking_is_has_exact_intervals_for_each_kind(broken):
    """By Clopper and Pearson: 3 of 4 is 19 to 99 %, 1 of 4 is 1 to 81 %, 0 of 4 up to 60 %; onsets are 4, 5 and 6."""
    *others, last = Analysis(broken).instability.rates
    assert {(rate.broken.count, round(rate.broken.high, 3)) for rate in others} == {(0, 0.602)}
    assert (last.broken.count, last.broken.n) == (3, 4)
    assert (last.broken.low, last.broken.high) == pytest.approx((0.194, 0.994), abs=1e-3)
    assert {(k.count, round(k.low, 3), round(k.high, 3)) for k in last.kinds.values()} == {(1, 0.006, 0.806)}
    onsets = last.onsets
    assert (onsets.measured, onsets.median, onsets.first, onsets.last) == (3, 5.0, 4, 6)
    assert all(rate.onsets is None for rate in others)


def test_runs_of_older_versions_broke_at_an_unknown_time(broken):
    """Their table says so, and no sentence has an epoch in it."""
    runs = broken.runs.drop(columns=["break_epoch", "break_step", "break_term"])
    epochs = broken.epochs.drop(columns=["spread_prediction", "spread_truth", "grad_norm_max"])
    analysis = Analysis(replace(broken, runs=runs, epochs=epochs))
    assert {row[4].text for row in broken_table(analysis).rows} == {"not measured"}
    assert rate_table(analysis).rows[0][-1].text == "0 of 3"
    assert "They broke in" not in " ".join(finding.text for finding in answer(analysis).findings)


def test_the_answer_says_in_which_epochs_runs_broke(broken):
    """And of how many that is known."""
    text = " ".join(finding.text for finding in answer(Analysis(broken)).findings)
    assert "They broke in epochs 4 to 6 (median 5)." in text
    broken.runs["break_epoch"] = np.nan
    text = " ".join(finding.text for finding in answer(Analysis(broken)).findings)
    assert "They broke in epochs 4 to 6 (median 5), as far as it was measured (2 of 3 runs)." in text


def test_the_section_shows_rates_a_pair_and_tables(broken, study):
    """Where nothing broke, the rates alone are left: they say how likely breaking may still be."""

    def stability(record):
        (section,) = (s for s in study_sections(Analysis(record), "s") if s.anchor == "s-stability")
        return {figure.anchor for figure in section.figures}, [t.title for t in section.tables]

    figures, tables = stability(broken)
    assert {"s-stability-rates", "s-stability-beside-norms", "s-stability-beside-values"} <= figures
    assert tables == ["When each run broke", "How often, by weight"]
    figures, tables = stability(study(trials=3))
    assert "s-stability-rates" in figures and "s-stability-beside-norms" not in figures and tables == []


def test_rates_are_drawn_for_the_kinds_that_occurred(broken, study):
    """One kind alone is the same as any; none at all leaves any."""
    names = []
    for record in (broken, study(trials=3, diverged=(2,)), study(trials=3)):
        analysis = Analysis(record)
        names.append(list(break_rates(analysis, main_axis(analysis)).rates))
    assert names == [["broken", "flat", "spiking", "non_finite"], ["non_finite"], ["broken"]]


def trial(number, **seeds):
    """A trial with weights along a line: seed -> whether its run broke."""
    runs = tuple(
        SeedValue(f"{number}-{seed}", int(seed[1:]), 1.0, "flat" if broke else "learnt", broke=broke)
        for seed, broke in seeds.items()
    )
    weights = {"edge": 0.1 * number, "l1": 1 - 0.1 * number}
    return TrialResult(number, f"w = {number}", weights, {}, "complete", len(runs), runs)


@pytest.mark.parametrize("line", [{n: 0.1 * n for n in range(5)}, {}])
def test_a_broken_run_stands_beside_the_nearest_unbroken_one_of_its_seed(line):
    """On a line and by weights alike: never under another seed, however near; of equals the first."""
    trials = [
        trial(0, s0=False, s1=False),
        trial(1, s0=False, s1=True),
        trial(2, s0=True, s1=True),
        trial(3, s0=True, s1=False),
        trial(4, s0=None, s1=True),
    ]
    pair = nearest_pair(trials, line, ("edge", "l1"))
    assert (pair.broken[1].run, pair.unbroken[1].run) == ("1-s1", "0-s1")
    far = [trial(0, s0=False, s1=True), trial(3, s0=True, s1=None)]
    assert nearest_pair(far, line, ("edge", "l1")).broken[1].run == "3-s0"
    assert nearest_pair([trial(0, s0=True, s1=False)], line, ("edge", "l1")) is None


def test_the_two_runs_over_epochs_belong_to_one_seed(broken):
    """The broken one with its onset, its neighbour without."""
    red, green = beside_curves(Analysis(broken))
    assert (red.label, red.is_broken, red.onset) == ("w = 0.9", True, 6)
    assert (green.label, green.is_broken, green.onset) == ("w = 0.675", False, None)
    assert red.epochs == list(range(1, 11)) and np.isfinite(red.norm_max).all()
