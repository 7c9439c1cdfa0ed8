"""Suggestions and Optuna's side: what trial n is depends on what was told before it was asked, on nothing else."""

import math
from pathlib import Path
from typing import get_args

import optuna
import pytest

from depth_loss_sweep.paths import Home
from depth_loss_sweep.projection import EDGE, Projection, Suggester, simplex_point
from depth_loss_sweep.samplers import SAMPLERS
from depth_loss_sweep.spec import SearchSection
from depth_loss_sweep.spec_file import load_spec
from depth_loss_sweep.store import Store

TRIALS = 18
TERMS = ("silog", "ssim", "edge", "l1")
ENDS = ("failed", "complete", "complete", "diverged", "pruned", "pruned without a value")


def bowl(point: dict) -> float:
    return sum((value - target) ** 2 for value, target in zip(point.values(), (0.6, 0.2, 0.1, 0.1), strict=True))


def drive(
    sampler: str, restart_at: set[int], ended_as: tuple[str, ...] = ("complete",), parallel: int = 3
) -> list[dict]:
    """Ask and tell in the designed order, building the suggester anew before some trials; trials end as said, in turn."""
    search = {"trials": TRIALS, "parallel": parallel, "sampler": sampler}
    spec = load_spec("lambda-search", {f"search.{key}": value for key, value in search.items()})
    suggester, log = Suggester(spec), []

    def tell(number: int) -> None:
        how = ended_as[number % len(ended_as)]
        values = {"failed": None, "diverged": math.inf, "pruned without a value": math.nan}
        state = "complete" if how == "diverged" else how.partition(" ")[0]
        suggester.tell(number, state, values.get(how, log[number]["value"]), 1)

    told = 0
    for number in range(TRIALS):
        if number in restart_at:
            suggester = Suggester(spec)
            for i, earlier in enumerate(log):
                suggester.restore(earlier["drawn"])
                if i < told:
                    tell(i)
        params, drawn = suggester.ask()
        log.append({"params": params, "drawn": drawn, "value": bowl(params)})
        if number - told + 1 == parallel:
            tell(told)
            told += 1
    return log


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_suggestions_survive_any_number_of_restarts(sampler: str) -> None:
    """A suggester rebuilt from stored trials goes on bit for bit, whatever its sampler notes and however trials end."""
    undisturbed = drive(sampler, set(), ENDS)
    assert drive(sampler, {1, 4, 5, 11, 14, TRIALS - 1}, ENDS) == undisturbed
    points = {tuple(entry["params"].values()) for entry in undisturbed}
    assert len(points) == TRIALS or sampler == "nsga2"  # whose children may be as a parent is


@pytest.mark.parametrize("sampler", [name for name in SAMPLERS if name != "gp"])
def test_a_search_one_by_one_is_optunas_own_loop(sampler: str) -> None:
    """Where a trial is asked once all before it were told, its point is the one that Optuna's own loop draws."""
    study, found = optuna.create_study(), []

    def objective(trial: optuna.Trial) -> float:
        uniforms = {f"u_{term}": trial.suggest_float(f"u_{term}", EDGE, 1 - EDGE) for term in TERMS}
        found.append(simplex_point(uniforms))
        return bowl(found[-1])

    for number in range(TRIALS):
        study.sampler = SAMPLERS[sampler].make(0, number)
        study.optimize(objective, n_trials=1)
    assert [entry["params"] for entry in drive(sampler, set(), parallel=1)] == found


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("log", [False, True])
def test_of_a_field_of_whole_numbers_only_those_are_drawn(sampler: str, log: bool) -> None:
    """From an interval, by every sampler, and the same ones where it goes on from what was stored."""
    search = {"sampler": sampler, "trials": TRIALS, "train.learning_rate": {"low": 1, "high": 2}}
    search |= {"model.width": {"low": 2, "high": 6, "log": log}}
    spec = load_spec("table-2", {f"search.{key}": value for key, value in search.items()})
    alone, again, drawn = Suggester(spec), Suggester(spec), []
    for number in range(6):
        params, to_store = alone.ask()
        drawn.append(params["model.width"])
        alone.tell(number, "complete", float(drawn[-1]), 1)
        again.restore(to_store)
        again.tell(number, "complete", float(drawn[-1]), 1)
        assert spec.settings_at(params)[1][0].model.width == drawn[-1]
    assert all(isinstance(width, int) and 2 <= width <= 6 for width in drawn) and len({*drawn}) > 1
    assert again.ask() == alone.ask()


def test_points_of_a_sequence_do_not_depend_on_how_many_are_asked_at_once() -> None:
    """Quasi-random points are those of one sequence, whatever was told when."""
    assert drive("qmc", set(), parallel=1) == drive("qmc", set(), ("failed",), parallel=5)


def test_every_sampler_can_be_named() -> None:
    """What a spec accepts is a grid, and what the registry has."""
    assert set(get_args(SearchSection.model_fields["sampler"].annotation)) == {"grid", *SAMPLERS}


def test_simplex_points_are_weights_that_sum_to_one() -> None:
    """Whatever the sampler draws, the weights are positive and sum to 1."""
    for entry in drive("tpe", set()):
        assert sum(entry["params"].values()) == pytest.approx(1.0)
        assert min(entry["params"].values()) > 0
    assert simplex_point({"u_a": 0.5, "u_b": 0.5}) == {"a": 0.5, "b": 0.5}


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.open(Home(tmp_path).create(), create=True)


def row(number: int, state: str = "running", value: float | None = None) -> dict:
    return {
        "number": number,
        "params": {"w": number / 10},
        "weights": {"ssim": 1.0},
        "state": state,
        "value": value,
        "epochs": 3,
        "asked": "2026-01-02T03:04:05+00:00",
    }


def test_optuna_reads_the_projection(store: Store) -> None:
    """`optuna.load_study` sees our trials as they ended under our numbers: params, weights, values, infinity included."""
    projection = Projection(store, load_spec("silog-vs-ssim", {"study.name": "s"}))
    projection.reconcile([row(0, "complete", 0.5), row(1, "complete", float("inf")), row(2, "failed"), row(3)])
    projection.close()
    study = optuna.load_study(study_name="s", storage=store.url)
    assert [t.state.name for t in study.trials] == ["COMPLETE", "COMPLETE", "FAIL"]
    assert [t.values for t in study.trials] == [[0.5], [float("inf")], None]
    assert study.trials[1].params == {"w": 0.1}
    assert study.best_trial.user_attrs["weights"] == {"ssim": 1.0}
    assert study.best_trial.duration.total_seconds() > 0


def test_reconciling_catches_up_and_tells_nothing_twice(store: Store) -> None:
    """A coordinator that died between our commit and Optuna's leaves nothing behind that resume cannot mend."""
    projection = Projection(store, load_spec("silog-vs-ssim", {"study.name": "s"}))
    projection.reconcile([row(0)])
    for _ in range(2):
        projection.reconcile([row(0, "complete", 0.5), row(1, "pruned", 0.7), row(2)])
    trials = projection.study.get_trials()
    assert [t.state.name for t in trials] == ["COMPLETE", "PRUNED"]
    assert (trials[1].value, trials[1].last_step) == (0.7, 3)
    projection.close()
