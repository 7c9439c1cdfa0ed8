"""The front of two objectives: worked by hand, on trials in any state, and how often it errs on made-up studies."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest

from depth_loss_sweep.reports.analysis import Analysis
from depth_loss_sweep.reports.front import (
    NOT_LEARNT,
    Front,
    Objective,
    dominators,
    knees,
    on_front,
    pareto_front,
    resampled,
)
from depth_loss_sweep.reports.measures import Measure
from depth_loss_sweep.reports.page import render
from depth_loss_sweep.reports.trials import SeedValue, TrialResult
from tests.benchmarks.front import Cell, simulate

RMSE = Measure("metric_rmse", "RMSE", "m")
F1 = Measure("metric_boundary_f1", "boundary F1", "fraction", higher_is_better=True)
CURVE = ((0.50, 0.10), (0.52, 0.40), (0.60, 0.50), (0.70, 0.30), (0.62, 0.05))
"""RMSE and boundary F1 of five trials: the first three are on the front, the second is its knee."""
SPREAD = 0.001


def trials(values: dict[tuple[int, int], float], seeds: int = 4, states: dict[int, str] | None = None) -> list:
    """Trials from the values of (trial, seed); a seed without one has NaN."""
    numbers = sorted({trial for trial, _ in values})
    return [
        TrialResult(
            number=n,
            label=f"w = {n}",
            weights={"ssim": 1.0},
            params={},
            state=(states or {}).get(n, "complete"),
            expected=seeds,
            seeds=tuple(
                SeedValue(f"{n}-{s}", s, values.get((n, s), math.nan), "learnt", True, False) for s in range(seeds)
            ),
        )
        for n in numbers
    ]


def made_up(seeds: int = 4, **changes: float) -> tuple[dict, dict]:
    """Values of both objectives about `CURVE`, seeds a little apart."""
    rng = np.random.default_rng(0)
    shape = (len(CURVE), seeds)
    noise = SPREAD * rng.standard_normal((2, *shape))
    return tuple({(t, s): CURVE[t][i] + noise[i, t, s] for t, s in np.ndindex(*shape)} for i in (0, 1))


def front_of(first: dict, second: dict, baselines: tuple[dict, dict] = ({}, {}), **kwargs) -> Front:
    both = zip((RMSE, F1), (first, second), baselines, strict=True)
    return pareto_front([Objective(measure, trials(values, **kwargs), known) for measure, values, known in both])


def test_a_point_that_another_beats_in_both_is_not_on_the_front() -> None:
    """Nor one that another equals in one and beats in the other; of equal points one is on it."""
    costs = np.array([[1, 5], [2, 3], [2, 4], [3, 3], [4, 1], [4, 1], [9, 0.5], [9, 9]], dtype=float)
    assert on_front(costs).tolist() == [True, True, False, False, True, False, True, False]
    assert on_front(costs[None, ::-1])[0].sum() == 4


@pytest.mark.parametrize(
    ("points", "knee"),
    [
        ([(0, 10), (1, 4), (2, 3), (4, 0)], 1),  # scaled (0, 1), (.25, .4), (.5, .3), (1, 0): bulges .35 and .2
        ([(0, 10), (3, 9), (4, 0)], -1),  # beyond the line on the other side
        ([(0, 4), (2, 2), (4, 0)], -1),  # on the line
        ([(0, 1), (1, 0)], -1),
        ([(0, 0)], -1),
    ],
)
def test_the_knee_bulges_farthest_beyond_the_line_through_the_ends(points, knee) -> None:
    """On axes scaled by the front's range; a front of two ends, or one that doesn't bulge, has none."""
    costs = np.array([*points, (50.0, 50.0)], dtype=float)
    assert knees(costs[None], on_front(costs)[None]).tolist() == [knee]


def test_the_front_is_of_means_over_common_seeds() -> None:
    """Best by the first objective first, with intervals; the knee is named, and what is shown to be worse in both, by whom."""
    front = front_of(*made_up())
    assert [t.trial for t in front.trials] == [0, 1, 2, 4, 3]
    assert [t.trial for t in front.members] == [0, 1, 2] == [t.trial for t in front.candidates]
    assert {t.trial: t.dominated_by for t in front.trials if not t.is_on_front} == {3: 1, 4: 0}
    assert front.knee == 1 and front.seeds == (0, 1, 2, 3)
    knee = front.members[1]
    assert knee.means == pytest.approx(CURVE[1], abs=0.003)
    assert all(low < mean < high for low, mean, high in zip(knee.lows, knee.means, knee.highs, strict=True))
    assert (knee.front_share, knee.knee_share) == (1.0, 1.0)
    assert json.loads(json.dumps(front.as_dict(), allow_nan=False))["knee"] == 1


def test_from_too_few_seeds_nobody_is_shown_to_be_dominated() -> None:
    """Two seeds make a front of means, and nothing is said of how sure it is."""
    front = front_of(*made_up(seeds=2), seeds=2)
    assert [t.trial for t in front.members] == [0, 1, 2] and len(front.candidates) == 5
    assert {t.front_share for t in front.trials} == {None}


def test_a_seed_that_a_trial_lacks_in_either_objective_is_left_out_for_all() -> None:
    """Paired means are over the seeds that all have; a trial without most of its values leaves first."""
    first, second = made_up()
    del second[1, 3]
    assert front_of(first, second).seeds == (0, 1, 2)
    for seed in (0, 1, 2):
        del second[1, seed]
    front = front_of(first, second | {(1, 0): 0.4})
    assert front.left == {1: "not measured"} and front.seeds == (0, 1, 2, 3)


def test_who_is_not_compared_is_not_on_the_front() -> None:
    """Pruned and failed trials; and one that a trivial predictor equals or beats in both has learnt nothing."""
    first, second = made_up()
    front = front_of(
        first, second, ({"median": 0.61, "other": 0.2}, {"median": 0.2}), states={0: "pruned", 2: "failed"}
    )
    assert front.left == {0: "pruned", 2: "failed", 4: NOT_LEARNT}
    assert [t.trial for t in front.members] == [1]
    nothing = front_of(first, second, ({"median": 0.1}, {"median": 0.9}))
    assert nothing.members == () and set(nothing.left.values()) == {NOT_LEARNT}
    assert front_of({}, {}) == Front()


def test_a_run_without_a_finite_value_counts_as_the_training_median() -> None:
    """As in the decision: survivors are never averaged alone, and the trial stays where it can be seen."""
    first, second = made_up()
    front = front_of(first | {(1, 0): math.inf}, second | {(1, 0): -math.inf}, ({"median": 0.7}, {"median": 0.0}))
    mean = next(t for t in front.trials if t.trial == 1).means
    assert mean == pytest.approx((0.52 + 0.18 / 4, 0.3), abs=0.003)
    everywhere = front_of(dict.fromkeys(first, math.inf), second)
    assert everywhere.members == ()


def test_resampled_seeds_are_the_same_for_all_trials() -> None:
    """What all trials share does not shake the front, however large it is."""
    first, second = made_up()
    shift = {s: 0.1 * s for s in range(4)}
    shifted = front_of({k: v + shift[k[1]] for k, v in first.items()}, {k: v - shift[k[1]] for k, v in second.items()})
    assert [(t.trial, t.front_share) for t in shifted.trials] == [(0, 1.0), (1, 1.0), (2, 1.0), (4, 0.0), (3, 0.0)]


def test_ten_thousand_trials_are_resampled() -> None:
    """Whoever is worse in both under every seed is left out beforehand, so that many trials cost little."""
    rng = np.random.default_rng(0)
    costs = rng.uniform(size=(2, 10_000, 1)) + 0.001 * rng.standard_normal((2, 10_000, 3))
    on_it, knee = resampled(costs)
    assert on_it.shape == (10_000,) and 0.9 < knee.sum() <= 1.0


@pytest.mark.parametrize(
    "cell",
    [
        Cell("all on it", "normal", 8, 5),
        Cell("flat in one", "normal", 8, 5),
        Cell("flat in one", "last wide", 8, 3),
        Cell("behind by 0.5", "t3", 8, 12),
    ],
    ids=lambda cell: cell.name,
)
def test_in_95_percent_of_studies_no_trial_of_the_true_front_is_called_dominated(cell: Cell) -> None:
    """Simulated where it is hardest: nearly equal in one objective and far apart in the other, spread unequal, few seeds."""
    studies = 300
    assert simulate(cell, studies)["false"] <= 0.05 + 2 * math.sqrt(0.05 * 0.95 / studies)


def test_a_trial_far_behind_in_both_is_found() -> None:
    """A rule that never said anything would keep its error, too."""
    assert simulate(Cell("behind by 3", "normal", 8, 5), 100)["found"] > 0.9


def test_several_studies_at_once_are_judged_as_one_by_one() -> None:
    """The arrays are of many studies, which do not touch each other."""
    rng = np.random.default_rng(1)
    costs = rng.standard_normal((2, 6, 5, 1)) + 0.05 * rng.standard_normal((2, 6, 5, 5))
    together = dominators(costs)
    assert (together >= 0).any()
    assert [row.tolist() for row in together] == [dominators(costs[:, [i]])[0].tolist() for i in range(6)]


def test_the_page_draws_the_front_and_says_what_decides(study) -> None:
    """A figure, a table and a sentence; the headline is of the first objective, and says so. A study of one has none of it."""
    record = replace(study(), second_column="metric_boundary_f1")
    page = render([record])
    front = Analysis(record).front
    assert front is not None and front.members
    assert "The front of RMSE and boundary_f1" in page and "; by RMSE alone" in page
    assert "It alone decides; beside it, the validation boundary_f1 is an objective, too (more is better)." in page
    assert "The trials that may be on it" in page
    assert "by RMSE alone" not in render([study()]) and Analysis(study()).front is None


def test_trials_on_different_data_have_no_front(study) -> None:
    """What cannot be compared by one objective cannot be by two."""
    record = study("grid", trials=4)
    table = record.trials.rename(columns={"var_train.learning_rate": "var_data.image_size"})
    odd = replace(record, trials=table, variables=("w", "data.image_size"), second_column="metric_boundary_f1")
    assert Analysis(odd).front is None and "The front of" not in render([odd])
