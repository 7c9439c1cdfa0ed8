"""Whether a trial is worth going on with: the median and percentile rules, and halving by seeds, as pure functions of values."""

import math
from collections.abc import Sequence

import numpy as np

from depth_loss_sweep.spec import StudySpec


def pruned_at(spec: StudySpec, curve: Sequence[float], told: Sequence[Sequence[float]]) -> int | None:
    """The first epoch (from 1) at which `should_prune` holds, or None."""
    return next((e for e in range(1, len(curve) + 1) if should_prune(spec, curve[:e], told)), None)


def should_prune(spec: StudySpec, curve: Sequence[float], told: Sequence[Sequence[float]]) -> bool:
    """Whether the trial's best value so far is worse than the told trials' percentile at the same epoch.

    The rule of Google Vizier's median stopping (Golovin et al., KDD 2017, sec. 3.2.1) and Optuna's PercentilePruner:
    `curve` and each of `told` hold the objective epoch by epoch. Trials that ended before this epoch have no say.
    """
    epoch = len(curve)
    rivals = [values[epoch - 1] for values in told if len(values) >= epoch]
    if epoch <= spec.search.warmup_epochs or len(told) < spec.search.startup_trials or not rivals:
        return False
    if epoch >= spec.train.epochs:
        return False  # it is finished anyway
    sign = -1.0 if spec.objective.direction == "maximize" else 1.0
    own = [sign * value for value in curve if math.isfinite(value)]
    share = 50.0 if spec.search.pruner == "median" else spec.search.percentile
    finite = [sign * value if math.isfinite(value) else math.inf for value in rivals]
    return not own or min(own) > float(np.percentile(finite, share))


def goes_on(spec: StudySpec, values: Sequence[float], told: Sequence[Sequence[float]]) -> bool:
    """Whether a halved trial is among the best of those that got as far as it, itself counted.

    Asynchronous successive halving (ASHA: Li et al., MLSys 2020, Algorithm 2) with numbers of seeds in place of epochs, and, as
    in Optuna's SuccessiveHalvingPruner, without suspended trials: of fewer than the reduction factor the best one goes on.
    `values` and each of `told` hold what a trial's seeds are worth, in the same order. Trials that ended before have no say.
    """
    objective, rung = spec.objective, len(values)
    if len(told) < spec.search.startup_trials:
        return True
    sign = -1.0 if objective.direction == "maximize" else 1.0
    own = sign * objective.value_of_trial(values)
    rivals = [sign * objective.value_of_trial(of[:rung]) for of in told if len(of) >= rung]
    return sum(rival < own for rival in rivals) < max(1, (len(rivals) + 1) // spec.search.reduction_factor)
