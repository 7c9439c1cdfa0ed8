"""Searches that are halved by seeds: a trial goes on to more seeds only as long as it is among the best."""

import json

import optuna
import pytest

from depth_loss_sweep.errors import SpecError
from depth_loss_sweep.pruning import goes_on
from depth_loss_sweep.spec_file import parse_spec

from .conftest import KILLED_UNDER, KILLS, Lab
from .test_race import raced_through

"""Of each number of workers."""

HALVED = """
[study]
name = "search"
seeds = [0, 1, 2, 3, 4]
[data]
image_size = 16
rooms = 12
[model]
width = 1
[train]
epochs = 2
batch_size = 8
[search]
sampler = "tpe"
trials = 12
parallel = 3
pruner = "halving"
startup_trials = 2
simplex = ["silog", "ssim", "l1"]
"""


def spec(**overrides):
    """The spec with some keys set."""
    return parse_spec(HALVED, overrides)


def test_the_rungs_are_powers_of_the_reduction_factor() -> None:
    """One seed first, all of them last; any other study asks for all at once."""
    assert spec().rungs == (1, 3, 5)
    assert spec(**{"search.reduction_factor": 2}).rungs == (1, 2, 4, 5)
    assert spec(**{"search.pruner": "none"}).rungs == (5,)


def test_one_in_three_goes_on() -> None:
    """Counted with the trial itself, among those that got as far; of fewer than three the best one, and the first ones all."""
    told = [(0.5, 0.5, 0.5), (0.6,), (0.7, 0.9, 0.8, 0.7, 0.7), (0.8,), (0.9,)]
    assert goes_on(spec(), (0.55,), told) and not goes_on(spec(), (0.65,), told)
    assert goes_on(spec(), (0.4, 0.5, 0.5), told) and not goes_on(spec(), (0.4, 0.7, 0.5), told)
    assert goes_on(spec(), (9.0,), told[:1]), "before startup_trials were told"
    higher = spec(**{"study.objective": "val_delta1"})
    assert goes_on(higher, (0.85,), told) and not goes_on(higher, (0.65,), told)


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        ({"study.seeds": [0]}, "there is one: give more"),
        ({"search.sampler": "grid", "search.trials": 3}, "is for searches"),
    ],
)
def test_what_cannot_be_halved_is_refused(overrides: dict, said: str) -> None:
    """In one line that says what to do."""
    text = (
        HALVED if "study.seeds" in overrides else HALVED.replace('simplex = ["silog", "ssim", "l1"]', "w = [0.1, 0.9]")
    )
    with pytest.raises(SpecError) as refused:
        parse_spec(text + ("" if "study.seeds" in overrides else '[weights]\nl1 = "w"\n'), overrides)
    assert said in str(refused.value) and "\n" not in str(refused.value)


def ends(lab: Lab) -> list[tuple[str, int]]:
    """How each trial ended, and under how many seeds."""
    return [(trial["state"], trial["n"]) for trial in lab.store.trials("search")]


def test_a_halved_search_spends_its_seeds_on_the_best(lab, capsys) -> None:
    """Pruned after one seed or three, complete after all five; no run of the others is asked for; Optuna knows how many."""
    assert lab.run("start", lab.spec(HALVED), "--workers", "0") == 0
    assert "search: at most 60 runs (12 trials x 5 seeds)" in capsys.readouterr().err
    assert {*ends(lab)} <= {("pruned", 1), ("pruned", 3), ("complete", 5)}
    assert ("pruned", 1) in ends(lab) and ("complete", 5) in ends(lab)
    runs = lab.store.runs("search")
    assert len(runs) == sum(n for _, n in ends(lab)) and {run["state"] for run in runs} == {"finished"}
    study = optuna.load_study(study_name="search", storage=lab.store.url)
    assert [(t.state.name.lower(), t.user_attrs["n"]) for t in study.trials] == ends(lab)
    lab.make_learnt("search")
    capsys.readouterr()
    assert lab.run("best", "search", "--json") == 0
    best = json.loads(capsys.readouterr().out)
    assert {best["left"][str(n)] for n, (state, _) in enumerate(ends(lab)) if state == "pruned"} == {"pruned"}


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_halved_search_that_is_killed_ends_as_one_left_alone(new_lab) -> None:
    """Under one worker and three (none, too, in `make stress`), killed again and again: the same trials, runs and epochs."""
    alone = new_lab()
    assert alone.run("start", alone.spec(HALVED), "--workers", "0") == 0
    for workers in KILLED_UNDER:
        kills = 0
        while kills < KILLS:
            other = new_lab()
            kills += raced_through(other, other.spec(HALVED), workers, KILLS - kills)
            assert other.numbers("search") == alone.numbers("search") and ends(other) == ends(alone)
