from dataclasses import replace

import pytest

from depth_loss_sweep.reports.analysis import Analysis
from depth_loss_sweep.reports.summary import answer
from depth_loss_sweep.reports.wording import amount, headline, is_advice, verdict, warning


def plain(text):
    """The text with ordinary spaces."""
    return text.replace("\u00a0", " ")


def finding(record, start):
    """The answer to the question that starts so."""
    return next(plain(f.text) for f in answer(Analysis(record)).findings if f.question.startswith(start))


def test_the_summary_first_says_whether_anything_was_learnt(study):
    """Where no trial beats the trivial predictors, that is the headline, and weights are no advice."""
    summary = answer(Analysis(study(baseline=0.4)))
    assert summary.headline.startswith("Nothing was learnt") and summary.tone == "bad"
    assert summary.findings[0].question.startswith("Do the networks beat")
    assert summary.findings[0].text.startswith("No.") and "0.3600 m" in plain(summary.findings[0].text)
    assert not any(f.question.startswith("Which") for f in summary.findings)
    assert "say nothing about depth" in finding(study(baseline=0.4), "How sure")


def test_a_winner_is_named_with_its_level_and_what_it_rests_on(study):
    """The page answers which weights, how sure, and where training breaks."""
    record = study(trials=3, values={(t, s): 0.4 + 0.1 * t + 0.01 * s for t in range(3) for s in range(3)})
    summary = answer(Analysis(record))
    assert plain(summary.headline).startswith("Use SILog 0.05 · SSIM 0.9 · L1 0.05: the best tried (95 %")
    assert summary.tone == "good"
    which, sure = finding(record, "Which"), finding(record, "How sure")
    assert "RMSE is 0.4100 m on the validation split, 95 % interval 0.3852 m to 0.4348 m" in which
    assert "flatter it: confirm it with fresh seeds" in which
    assert "3 trials are compared under 3 common seeds" in sure and "a pilot" in sure
    where = finding(record, "Where")
    assert (
        "none of 9 finished runs" in where
        and "From 3 seeds, that still allows a seed to break" in where
        and "71 %" in where
    )
    assert "ended flat, non-finite or spiking and no better than the training median" in where


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (0.01148, {"nearest": "1.1 %", "down": "1.1 %", "up": "1.2 %", "outwards": "1.2 %"}),
        (-0.0101, {"nearest": "−1 %", "down": "−1.1 %", "up": "−1 %", "outwards": "−1.1 %"}),
        (0.0, {"nearest": "0 %", "down": "0 %", "up": "0 %", "outwards": "0 %"}),
        (12.0, {"nearest": "> 1000 %", "outwards": "> 1000 %"}),
        (-12.0, {"nearest": "< −1000 %", "outwards": "< −1000 %"}),
    ],
)
def test_a_bound_is_rounded_outwards_and_an_estimate_to_the_nearest(study, value, said):
    """An interval's ends go away from each other: a least difference isn't overstated."""
    analysis = Analysis(study(trials=3))
    relative = replace(analysis.decision, is_relative=True)
    assert {how: plain(amount(value, relative, analysis.ranking, how)) for how in said} == said


def test_one_of_several_that_may_be_best_is_called_so(study):
    """All that is known is that they differ: the headline doesn't say more, whatever the bound."""
    values = {(t, s): 0.4 + 0.04 * t + 0.02 * ((5 * t + 3 * s) % 4) for t in range(6) for s in range(3)}
    analysis = Analysis(study(trials=6, values=values))
    assert analysis.decision.state == "use" and not analysis.decision.is_settled
    assert f"one of {len(analysis.decision.kept)} that may be best: within" in plain(answer(analysis).headline)
    every = replace(analysis.decision, kept=analysis.decision.compared)
    assert "w = 0 is ahead, though any of all 6 may be best: within" in headline(every, "w = 0", analysis.ranking)[0]


def test_what_may_be_far_from_the_best_is_ahead_and_not_recommended(study):
    """Where any may be best, or the bound is over ten margins, word, tone and the warning beside a saved model are of who is ahead."""
    near = replace(Analysis(study()).decision, state="use", trial=1, kept=(1, 2), bound=0.19, is_settled=False)
    assert (verdict(near), warning(near), is_advice(near)) == ("recommended", "", True)
    for found in (replace(near, bound=0.21), replace(near, bound=None), replace(near, kept=near.compared)):
        said, tone = headline(found, "w = 1", Analysis(study()).ranking)
        assert (verdict(found), tone, is_advice(found)) == ("ahead", "warn", False)
        assert said.startswith("w = 1 is ahead") and warning(found).startswith("trial 1 is ahead")
    assert verdict(replace(near, kept=near.compared, bound=0.01, is_settled=True)) == "recommended"


def test_where_training_breaks_is_said_in_words(study):
    """By trial and by seed; a threshold with its interval, and none from one seed."""
    one = finding(study(trials=5, diverged=(3, 4)), "Where")
    assert "It happened at w = 0.675 (1 of 3); w = 0.9 (1 of 3); under seed 2 (2 of 5)" in one
    assert "One seed alone tells no threshold from chance" in one
    record = study(trials=5, seeds=4)
    record.runs.loc[record.runs["trial"] >= 3, "outcome"] = "flat"
    assert "From between w = 0.45 and 0.675 upward, training breaks under at least half of the seeds" in finding(
        record, "Where"
    )


@pytest.mark.parametrize(
    ("options", "headline"),
    [
        ({"finished": 0}, "No trial has finished yet"),
        ({"finished": 13, "seeds": 5}, "So far: "),
        ({"objective": "combined"}, "No recommendation: the combined loss is not comparable"),
        ({"seeds": 1}, "An anecdote, from 1 common seed: "),
        ({"kind": "point", "trials": 1}, "Only one trial: "),
        ({"seeds": 1, "trials": 2, "diverged": (0, 1)}, "No recommendation: every compared run went non-finite"),
        ({"baseline": 0.4}, "Nothing was learnt"),
        ({"kind": "simplex"}, "Undecided: a search"),
        (
            {"trials": 2, "values": {(t, s): 0.5 + s / 90 for t in (0, 1) for s in (0, 1, 2)}},
            "All 2 trials are within 2\u00a0% of the best",
        ),
    ],
)
def test_headlines_fit_the_state_of_the_study(study, options, headline):
    """No state of a study gets a headline that it does not deserve."""
    assert answer(Analysis(study(**options))).headline.startswith(headline)


def test_an_unfinished_study_says_so(study):
    """Finished ones do not mention it; errors and pruned trials are counted."""
    assert answer(Analysis(study(finished=13))).progress.startswith("Unfinished: 13 of 30 runs")
    assert answer(Analysis(study())).progress == ""
    record = study(trials=2)
    record.trials.loc[0, "state"] = "pruned"
    record.runs.loc[5, "state"] = "failed"
    assert answer(Analysis(record)).progress == (
        "1 run failed on an error, which is not a result; a study of another name trains only what failed. "
        "1 trial was pruned early and is not compared."
    )


def test_notes_and_leaking_scenes_are_among_the_caveats(study):
    """What limits the answer stands under it."""
    record = study()
    data = {**record.data, "scenes_shared_with_train": {"val": 3, "test": 0}}
    caveats = answer(Analysis(replace(record, notes=("runs of mixed environment",), data=data))).caveats
    assert "runs of mixed environment" in caveats
    assert any(c.startswith("3 validation scenes are also trained on") for c in caveats)


def test_trials_on_other_pictures_are_not_recommended_for_the_right_reason(study):
    """A study that sweeps its data is refused advice because of that, not because of a combined loss."""
    record = study("grid", trials=2, baseline=1.0)
    names = {"var_train.learning_rate": "var_data.train_images"}
    record = replace(record, trials=record.trials.rename(columns=names), variables=("w", "data.train_images"))
    assert answer(Analysis(record)).headline == "No recommendation: the trials differ in their data"


def test_the_headline_names_a_swept_field(study):
    """What is recommended can be trained again: the rate belongs to it."""
    record = study(
        "grid", trials=2, baseline=1.0, values={(t, s): 0.4 + 0.1 * t + 0.01 * s for t in (0, 1) for s in (0, 1, 2)}
    )
    expected = "Use SILog 0.05 · SSIM 0.9 · L1 0.05 with train.learning_rate = 0.0001: the best tried"
    assert plain(answer(Analysis(record)).headline).startswith(expected)
