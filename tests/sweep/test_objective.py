"""A spec driven by `study.optimize`, without the command line."""

import optuna
import pytest

from depth_loss_sweep.objective import Objective
from depth_loss_sweep.spec import parse_spec


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
