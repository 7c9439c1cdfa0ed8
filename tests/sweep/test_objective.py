"""What runs and trials are worth, by all codes alike; and a spec driven by `study.optimize`, without the command line."""

import math
from pathlib import Path

import optuna
import pytest
from sqlalchemy import update

from depth_loss_sweep.answer import trial_results
from depth_loss_sweep.measures import measure
from depth_loss_sweep.objective import Objective
from depth_loss_sweep.objectives import StudyObjective
from depth_loss_sweep.reports.analysis import Analysis
from depth_loss_sweep.results import study_record
from depth_loss_sweep.spec_file import parse_spec
from depth_loss_sweep.status import status
from depth_loss_sweep.tables import EPOCH, RUN

FAR = {"study.objective": "val_rmse_far", "study.seeds": [0], "train.epochs": 1, "data.depth_range": [0.1, 3.5]}
"""Nothing is far within 3.5 m, so that the objective is not defined on these pictures."""


@pytest.mark.parametrize("kind", ["simplex", "line"])
def test_the_best_trials_weights_can_be_read(lab, kind) -> None:
    """Whatever Optuna draws, a trial carries its weights by term, and the value is what training made of them."""
    spec = parse_spec(lab.SEARCH if kind == "simplex" else lab.LINE, {"study.seeds": [0], "train.epochs": 1})
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    study.optimize(Objective(spec, home=lab.home.root, device="cpu"), n_trials=2)
    weights = study.best_trial.user_attrs["weights"]
    if kind == "line":
        assert weights == spec.weights_at(study.best_params)
    else:
        assert set(study.best_params) == {"u_silog", "u_ssim", "u_l1"}
        assert sum(weights.values()) == pytest.approx(1) and weights["edge"] == 0
    assert study.best_value > 0
    assert not lab.home.database.exists()


def test_a_run_of_another_environment_is_another_run(lab) -> None:
    """As in a study: what was trained with other threads is not handed over, what was trained alike is."""
    for threads, folders in ((1, 1), (1, 1), (2, 2)):
        text = Path(lab.spec(seeds="[0]", epochs="1", w="[0.3]")).read_text()
        spec = parse_spec(text, {"train.threads": threads})
        optuna.create_study().optimize(Objective(spec, home=lab.home.root, device="cpu"), n_trials=1)
        assert len([*(lab.home.root / "runs").rglob("objective-*")]) == folders


@pytest.mark.parametrize(
    ("curve", "outcome", "worth"),
    [
        ([5.0, 1.0, 3.0], "learnt", 2.0),
        ([3.0], "spiking", 3.0),
        ([5.0, 1.0, 3.0], "non_finite", math.inf),
        ([], "non_finite", math.inf),
        ([1.0, 2.0, math.inf], "learnt", math.inf),
        ([1.0, 2.0, math.nan], "learnt", math.nan),
    ],
)
def test_a_run_is_worth_the_mean_of_its_last_epochs(curve, outcome, worth) -> None:
    """The worst there is where it went non-finite, and nothing where its metric is not defined."""
    assert StudyObjective.named("val_rmse", 2).value_of_run(curve, outcome) == pytest.approx(worth, nan_ok=True)
    turned = StudyObjective.named("val_delta1", 2).value_of_run(curve, outcome)
    assert turned == pytest.approx(-worth if math.isinf(worth) else worth, nan_ok=True)


@pytest.mark.parametrize(("name", "worst"), [("val_rmse", math.inf), ("val_delta1", -math.inf), ("combined", math.inf)])
def test_survivors_are_never_averaged_alone(name, worst) -> None:
    """A trial is worth the mean over its runs, or the worst there is."""
    objective = StudyObjective.named(name, "last")
    assert (objective.name, objective.worst) == (name, worst)
    assert objective.value_of_trial([1.0, 2.0]) == 1.5
    assert objective.value_of_trial([1.0, worst]) == objective.value_of_trial([1.0, math.nan]) == worst


def test_an_objective_without_a_value_is_said_and_told_as_the_worst(lab, capsys) -> None:
    """Where the metric is not defined on the pictures: Optuna gets infinity, and nobody calls the trial diverged."""
    settings = [f"--set={key}={value}" for key, value in FAR.items()]
    assert lab.run("start", lab.spec(w="[0.3]"), "--workers", "0", *settings) == 0
    assert "val_rmse_far is not defined on any of these validation pictures" in capsys.readouterr().err
    assert [trial["value"] for trial in lab.store.trials("line")] == [math.inf]
    assert optuna.load_study(study_name="line", storage=f"sqlite:///{lab.home.database}").trials[0].value == math.inf
    where = status(lab.store, lab.home, "line")
    assert where["best"] is None and "diverged" not in where["headline"] and "non_finite" not in where["outcomes"]
    assert [trial.values for trial in Analysis(study_record(lab.store, lab.home, "line")).trials] == [()]


def test_an_objective_without_a_value_is_infinity_to_a_study_of_ones_own(lab) -> None:
    """`study.optimize` goes on where the metric is not defined: as `sweep start` tells it."""
    study = optuna.create_study()
    study.optimize(Objective(parse_spec(lab.LINE, FAR), home=lab.home.root, device="cpu"), n_trials=1)
    assert [(trial.state.name, trial.value) for trial in study.trials] == [("COMPLETE", math.inf)]


@pytest.mark.parametrize("name", ["val_rmse", "val_delta1"])
def test_what_is_told_is_what_status_and_report_say(lab, name) -> None:
    """Of finite runs, of one whose last number is infinite, of one that went non-finite, and of one without a number."""
    spec = lab.spec(epochs="2", w="[0.0, 0.2, 0.4, 0.6]", seeds="[0]")
    assert lab.run("start", spec, "--workers", "0", "--set", f"study.objective={name}", "--set", "study.value=2") == 0
    objective, column = StudyObjective.named(name, 2), StudyObjective.named(name, 2).column
    runs = [run["run"] for run in lab.store.runs("line")]
    with lab.store.begin() as connection:
        for run, value in ((runs[1], math.inf), (runs[3], None)):
            last = (EPOCH.c.run == run) & (EPOCH.c.epoch == 2) & (EPOCH.c.split == "val")
            connection.execute(update(EPOCH).where(last).values({column: value}))
        connection.execute(update(RUN).where(RUN.c.run == runs[2]).values(outcome="non_finite"))
    told = lab.store.trials("line")[0]["value"]
    expected = [told, objective.worst, objective.worst]
    spec = parse_spec(lab.LINE, {"study.objective": name, "study.value": 2})
    found = [trial.values for trial in trial_results(lab.store, spec, measure(column), None)]
    assert found == [*((pytest.approx(v),) for v in expected), ()]
    pages = [trial.values for trial in Analysis(study_record(lab.store, lab.home, "line")).trials]
    assert pages == [*((pytest.approx(v),) for v in expected), ()]
