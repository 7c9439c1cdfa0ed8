import math
from dataclasses import replace

import numpy as np
import pytest

from depth_loss_sweep.reports import comparisons
from depth_loss_sweep.reports.decision import Question
from depth_loss_sweep.reports.decision import decide as decide_trials
from depth_loss_sweep.reports.measures import Measure
from depth_loss_sweep.reports.scenes import PictureValues, scene_effects, scene_fit
from depth_loss_sweep.reports.trials import SeedValue, TrialResult
from depth_loss_sweep.reports.wording import headline, level, reasons

RMSE = Measure("metric_rmse", "RMSE", "m")
DELTA1 = Measure("metric_delta1", "delta1", "fraction", higher_is_better=True)
BASELINES = {"median": 3.0}


def pictured(means, seeds=5, scenes=12, views=2, *, by_scene=0.02, by_seed=0.01, seed=0):
    """Trials around means, a level of its own each scene, and what scenes and seeds do to each trial; with their pictures."""
    rng = np.random.default_rng(seed)
    count = len(means)
    effects = by_seed * rng.standard_normal((count, seeds, 1)) + by_scene * rng.standard_normal((count, 1, scenes))
    numbers = np.asarray(means)[:, None, None] * np.exp(0.3 * rng.standard_normal((1, 1, scenes))) * (1 + effects)
    return trials_of(np.repeat(numbers, views, axis=2), tuple(f"room {s}" for s in range(scenes) for _ in range(views)))


def trials_of(numbers, scenes):
    """Trials of (trials, seeds, pictures), each run worth the mean over the pictures where it is defined."""
    trials = [
        TrialResult(
            number=t,
            label="",
            weights={"silog": 1.0, "ssim": 0.5 + t},
            params={},
            state="complete",
            expected=len(of_trial),
            seeds=tuple(
                SeedValue(f"{t}-{s}", s, float(np.nanmean(of_run)), "learnt", broke=False)
                for s, of_run in enumerate(of_trial)
            ),
        )
        for t, of_trial in enumerate(numbers)
    ]
    values = {f"{t}-{s}": numbers[t, s] for t in range(len(numbers)) for s in range(numbers.shape[1])}
    return trials, PictureValues(scenes, values)


def asked(measure=RMSE, **about):
    return Question(measure, BASELINES if measure is RMSE else {}, pictures=24, **about)


def decided(trials, pictures, **about):
    return decide_trials(trials, asked(**about), pictures)


def test_without_an_effect_of_scenes_the_bound_is_that_of_seeds():
    """Scenes that move all trials alike change no difference; with effects of their own, they widen every bound."""
    calm, moved = (decided(*pictured([1.0, 1.01, 1.2], by_scene=by_scene)) for by_scene in (0.0, 0.05))
    assert calm.bound_scenes == pytest.approx(calm.bound, abs=1e-6)
    assert moved.bound_scenes > 2 * moved.bound and moved.scenes == 12 and moved.pictures == 24
    for contrast in moved.contrasts:
        assert contrast.low_scenes < contrast.low < contrast.high < contrast.high_scenes
    assert moved.low_scenes < moved.low < moved.high < moved.high_scenes


def test_scenes_count_and_not_their_pictures():
    """Ten views of a room instead of one tell nothing of other rooms."""
    one, ten = (decided(*pictured([1.0, 1.01, 1.02], views=views)) for views in (1, 10))
    assert one.bound_scenes == pytest.approx(ten.bound_scenes) and one.error_scenes == pytest.approx(ten.error_scenes)


def test_neither_the_order_of_pictures_nor_the_direction_of_the_measure_matters():
    """Pictures are told apart by their scenes alone, and 1 - delta1 decides as delta1 does."""
    trials, pictures = pictured([0.5, 0.52, 0.55], by_scene=0.05)
    order = np.random.default_rng(0).permutation(len(pictures.scenes))
    mixed = PictureValues(
        tuple(pictures.scenes[i] for i in order), {run: own[order] for run, own in pictures.values.items()}
    )
    assert decided(trials, mixed).bound_scenes == pytest.approx(decided(trials, pictures).bound_scenes)
    turned = (
        [replace(t, seeds=tuple(s._replace(value=1 - s.value) for s in t.seeds)) for t in trials],
        PictureValues(pictures.scenes, {run: 1 - own for run, own in pictures.values.items()}),
    )
    up, down = (
        decided(*of, measure=replace(DELTA1, higher_is_better=is_up))
        for of, is_up in ((turned, True), ((trials, pictures), False))
    )
    assert up.bound_scenes == pytest.approx(down.bound_scenes) and up.error_scenes == pytest.approx(down.error_scenes)


def test_an_undefined_picture_is_left_out_of_its_scene():
    """As it is of the run's value: the means agree, so that scenes are measured."""
    _, pictures = pictured([1.0, 1.1, 1.2], by_scene=0.05)
    numbers = np.array([[pictures.values[f"{t}-{s}"] for s in range(5)] for t in range(3)])
    numbers[:, :, 3] = math.nan
    decision = decided(*trials_of(numbers, pictures.scenes))
    assert decision.bound_scenes is not None and not decision.scenes_missing


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda p: None, "weren't kept"),
        (lambda p: replace(p, values={k: v for k, v in p.values.items() if k != "1-2"}), "weren't kept"),
        (lambda p: replace(p, scenes=tuple(f"room {i % 7}" for i in range(len(p.scenes)))), "fewer than 8"),
        (lambda p: replace(p, values={k: 1.5 * v for k, v in p.values.items()}), "isn't the mean"),
    ],
)
def test_unknown_scenes_are_said_to_be_not_measured(change, why):
    """Too few scenes, missing numbers, or a measure that isn't made of them: nothing is said of other pictures."""
    trials, pictures = pictured([1.0, 1.01, 1.2])
    decision = decided(trials, change(pictures))
    assert decision.bound_scenes is None and why in decision.scenes_missing and not decision.holds_beyond
    assert decision.bound == decided(trials, pictures).bound
    said = headline(decision, "X", RMSE)[0]
    assert "on these 24 pictures" in said and any("Scenes not measured" in r for r in reasons(decision, RMSE))


def test_a_run_that_broke_needs_no_pictures():
    """Bounds are of unbroken runs."""
    trials, pictures = pictured([1.0, 1.01, 1.2], seeds=6)
    seeds = (trials[1].seeds[0]._replace(value=math.inf, broke=True, outcome="non_finite"), *trials[1].seeds[1:])
    trials[1] = replace(trials[1], seeds=seeds)
    values = {run: own for run, own in pictures.values.items() if run != "1-0"}
    assert decided(trials, replace(pictures, values=values)).bound_scenes is not None


def test_the_sentence_ends_on_these_pictures_unless_scenes_agree():
    """What holds for other scenes, too, is told with their bound; what doesn't is told of these pictures, with both bounds."""
    agreed = decided(*pictured([1.0, 1.3, 1.3], by_scene=0.01))
    assert agreed.state == "use" and agreed.holds_beyond and agreed.bound_scenes <= agreed.margin
    assert "on other scenes, too" in headline(agreed, "X", RMSE)[0] and "pictures" not in headline(agreed, "X", RMSE)[0]
    torn = decided(*pictured([1.0, 1.06, 1.06, 1.06], 8, scenes=8, by_scene=0.3, by_seed=0.003))
    said = headline(torn, "X", RMSE)[0]
    assert torn.state == "use" and torn.is_settled and not torn.holds_beyond
    assert said.endswith("on these 24 pictures)") and any("On other scenes, too" in r for r in reasons(torn, RMSE))


@pytest.mark.parametrize(("by_scene", "by_seed", "word"), [(0.3, 0.001, "Scenes"), (0.0, 0.3, "Seeds")])
def test_it_is_said_whether_seeds_or_scenes_leave_more_open(by_scene, by_seed, word):
    """By the standard errors of the named trial's level, in its unit."""
    trials, pictures = pictured([1.0, 1.0, 1.0], scenes=400, by_scene=by_scene, by_seed=by_seed)
    equal = PictureValues(
        pictures.scenes, {k: v - v.mean() + t for k, v in pictures.values.items() for t in [v.mean()]}
    )
    decision = decided(trials, equal)
    text = next(r for r in reasons(decision, RMSE) if "standard error" in r)
    if word == "Scenes":  # the scenes' own levels, which all trials share, are in it
        assert decision.error_scenes > decision.error_seeds
    assert ("Scenes leave more open" in text) == (decision.error_scenes > decision.error_seeds)
    assert "by scenes, too" in level(decision, RMSE)


def test_one_trial_has_a_level_over_scenes():
    """Nothing is compared, and its level is as uncertain all the same."""
    decision = decided(*pictured([1.0]))
    assert decision.state == "single" and decision.bound_scenes is None
    assert decision.error_scenes > 0 and decision.low_scenes < decision.low


@pytest.mark.parametrize("scenes", [8, 37])
def test_the_bound_holds_for_other_scenes_and_seeds(scenes):
    """Of 300 studies of five equal trials, each held against one: at most one in twenty shows any of them too good."""
    rng = np.random.default_rng(scenes)
    wrong, studies = 0, 300
    for _ in range(studies):
        noise = 0.03 * rng.standard_normal((5, 4, 1)) + 0.1 * rng.standard_normal((5, 1, scenes))
        numbers = np.exp(0.3 * rng.standard_normal((1, 1, scenes))) * (1 + noise)
        values, unbroken = numbers.mean(axis=2), np.ones((5, 4), dtype=bool)
        _, pictures = trials_of(numbers, tuple(map(str, range(scenes))))
        runs = [[f"{t}-{s}" for s in range(4)] for t in range(5)]
        effects = scene_effects(pictures, runs, values, unbroken)
        over = scene_fit(effects.relative, unbroken)
        found, best = comparisons.fit(np.log(values)[None], unbroken[None]), np.array([0])
        d = comparisons.differences(found, best)
        half = np.hypot(d.half, comparisons.differences(over, best).half)
        wrong += bool((d.mean < -half).any())
        if wrong == 1:  # and the seeds alone would be wrong far more often
            assert (half > d.half)[0, 1:].all()
    assert wrong / studies <= 0.05 + 2 * math.sqrt(0.05 * 0.95 / studies)


def test_ten_thousand_trials_with_their_pictures_are_decided():
    """In one piece, and with a bound over scenes."""
    trials, pictures = pictured([0.5] * 10_000, 3, scenes=10, by_scene=1e-4)
    assert decided(trials, pictures).bound_scenes is not None
