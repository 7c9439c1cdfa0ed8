"""For people who drive `study.optimize` themselves: a spec as an Optuna objective. Writes none of our tables.

study = optuna.create_study()
study.optimize(Objective(load_spec("lambda-search"), home=Path("runs")), n_trials=20)
study.best_trial.user_attrs["weights"]  # λ by term, whatever it is that Optuna draws

A spec of two objectives gives a trial two values: optuna.create_study(directions=["minimize", "maximize"]).
"""

import json
from pathlib import Path
from typing import Any

import optuna

from depth_loss_sweep.data.prepare import Prepared, prepare_training
from depth_loss_sweep.forecast import is_large
from depth_loss_sweep.model.backend import this_machine
from depth_loss_sweep.model.identity import run_identity, run_key
from depth_loss_sweep.model.runtime import environment_key, resolve_runtime
from depth_loss_sweep.model.settings import RunSettings
from depth_loss_sweep.model.training import train
from depth_loss_sweep.networks import settled
from depth_loss_sweep.paths import Home
from depth_loss_sweep.projection import EDGE, distributions, simplex_point
from depth_loss_sweep.spec import StudySpec
from depth_loss_sweep.trust import adopt


class Objective:
    """Train a trial's runs seed by seed in this process and return the mean of the objective over them, or of both.

    Runs that are in the home folder already are not trained again. A trial is worth what `sweep.objectives` says. Each
    trial carries its λ by term as the user attribute `weights`, as the trials of `sweep start` do.
    """

    def __init__(self, spec: StudySpec, home: Path | None = None, device: str = "auto") -> None:
        self.home = Home.choose(home).create()
        adopt(spec.code, self.home.code)
        self.spec = settled(spec, self.home)
        self._machine = this_machine(device)
        self.runtime = resolve_runtime(device, spec.train, self._machine, is_large(spec))

    def __call__(self, trial: optuna.Trial) -> float | tuple[float, ...]:
        """The objective's value at the trial's point; of two objectives, both."""
        data, runs = self.spec.settings_at(self._point(trial))
        trial.set_user_attr("weights", runs[0].weights)
        prepared = prepare_training(data, self.home.cache)
        seeds = len(self.spec.seeds)  # nobody drops trials here: a race is its first stage
        trained = [self._train(settings, prepared) for settings in runs[:seeds]]
        by_objective = zip(self.spec.objectives, zip(*trained, strict=True), strict=True)
        values = tuple(objective.value_of_trial(of_runs) for objective, of_runs in by_objective)
        return values if len(values) > 1 else values[0]

    def _point(self, trial: optuna.Trial) -> dict[str, Any]:
        if self.spec.search.simplex:
            return simplex_point(
                {f"u_{t}": trial.suggest_float(f"u_{t}", EDGE, 1 - EDGE) for t in self.spec.search.simplex}
            )
        return {name: trial._suggest(name, distribution) for name, distribution in distributions(self.spec).items()}

    def _train(self, settings: RunSettings, prepared: Prepared) -> list[float]:
        """The run's value by each objective."""
        identity = run_identity(settings, self.runtime, prepared.identity)
        key = environment_key(self.runtime, settings.train, self._machine, settings.model, settings.code)
        # The identity has the epochs, but where a longer run goes on from a shorter one.
        folder = self.home.run(f"objective-{run_key(identity, json.dumps(key, sort_keys=True), 0)[:22]}")
        training = train(settings, prepared, folder, self.runtime, weights=self.home.weights)
        epochs = []
        while True:
            try:
                epochs.append(next(training).splits["val"])
            except StopIteration as end:
                result = end.value
                break
        return [o.value_of_run([epoch[o.column] for epoch in epochs], result.outcome) for o in self.spec.objectives]
