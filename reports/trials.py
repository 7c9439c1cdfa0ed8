"""From runs to trials: final values, what a trial amounts to over its seeds, and how it is called."""

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from depth_loss_sweep.reports import measures
from depth_loss_sweep.reports.advice import ranking_of
from depth_loss_sweep.reports.intervals import Interval, t_interval
from depth_loss_sweep.reports.measures import BROKEN, Measure
from depth_loss_sweep.reports.naming import recipe, written
from depth_loss_sweep.reports.records import StudyRecord


@dataclass(frozen=True)
class SeedValue:
    """One run's final value: NaN while it is missing, the worst infinity where the run went non-finite."""

    run: str
    seed: int
    value: float
    outcome: str  # one of OUTCOMES, "failed", or the run's state while it has none
    is_finished: bool = True


@dataclass(frozen=True)
class TrialResult:
    """A trial over its seeds, for one measure.

    With a diverged seed its mean is infinite: survivors are never averaged alone.
    """

    number: int
    label: str
    weights: Mapping[str, float]
    params: Mapping[str, Any]  # the swept values
    state: str
    expected: int
    seeds: tuple[SeedValue, ...]

    @cached_property
    def interval(self) -> Interval:
        """Mean and 95 % t-interval over the seeds that have a value so far."""
        return t_interval(self.values)

    @property
    def values(self) -> tuple[float, ...]:
        """The final values of the seeds that have one so far."""
        return tuple(s.value for s in self.seeds if not math.isnan(s.value))

    @property
    def mean(self) -> float:
        """The mean over the seeds that have a value so far."""
        return self.interval.mean

    @property
    def complete(self) -> bool:
        """Whether every seed the study asks for has a value: only then is a trial compared."""
        return self.state not in ("pruned", "failed") and self.interval.n >= max(self.expected, 1)

    @property
    def outcomes(self) -> Counter[str]:
        """How many runs ended how."""
        return Counter(s.outcome for s in self.seeds)

    @property
    def broken(self) -> int:
        """How many runs ended flat, spiking or non-finite."""
        return sum(self.outcomes[name] for name in BROKEN)

    @property
    def finished(self) -> int:
        """How many runs have an outcome."""
        return sum(n for name, n in self.outcomes.items() if name in (*BROKEN, "learnt", "trivial"))


def objective_measure(record: StudyRecord) -> Measure:
    """What the study minimises (or maximises)."""
    return measures.objective_measure(record.objective)


def ranking_measure(record: StudyRecord) -> Measure:
    """What trials are ranked by: the objective, or RMSE in place of the incomparable combined loss."""
    return ranking_of(record.objective)


def is_unfinished(record: StudyRecord) -> bool:
    """Whether trials are still to come, as far as the record knows."""
    states = record.trials["state"]
    return not len(states) or not states.isin(["complete", "pruned", "failed"]).all()


def final_values(record: StudyRecord, column: str, split: str = "val") -> dict[str, float]:
    """Run -> the mean of a column over its last `record.window` epochs, for the runs that have any."""
    if column not in record.epochs.columns:
        return {}
    numbers = pd.to_numeric(record.epochs[column], errors="coerce").to_numpy(dtype=float)
    # A plain mean: it keeps a NaN, where pandas' own would skip it.
    return {
        run: float(numbers[rows[0]] if len(rows) == 1 else np.mean(numbers[rows]))
        for run, rows in _last_rows(record, split).items()
    }


def _last_rows(record: StudyRecord, split: str) -> dict[str, list[int]]:
    """Run -> where in `record.epochs` its last `record.window` epochs stand."""
    key = (_last_rows, split)
    if key not in record.remembered:
        epochs = record.epochs.reset_index(drop=True)
        rows = epochs[epochs["split"] == split].sort_values("epoch")
        found: dict[str, list[int]] = {}
        for place, run in zip(rows.index, rows["run"], strict=True):
            found.setdefault(str(run), []).append(int(place))
        record.remembered[key] = {run: places[-record.window :] for run, places in found.items()}
    known: dict[str, list[int]] = record.remembered[key]
    return known


def trial_results(record: StudyRecord, what: Measure | None = None, split: str = "val") -> tuple[TrialResult, ...]:
    """Every trial with its seeds' final values of a measure (the objective by default), in trial order."""
    what = what or objective_measure(record)
    key = (trial_results, what.column, split)
    if key not in record.remembered:
        values = final_values(record, what.column, split)
        record.remembered[key] = tuple(
            replace(trial, seeds=tuple(_seed_value(seed, values, what) for seed in trial.seeds))
            for trial in _trials_without_values(record)
        )
    found: tuple[TrialResult, ...] = record.remembered[key]
    return found


def _trials_without_values(record: StudyRecord) -> tuple[TrialResult, ...]:
    """Every trial as no measure changes it; its seeds have no value yet."""
    key = (_trials_without_values,)
    if key not in record.remembered:
        seeds: dict[int, list[SeedValue]] = {}
        for row in record.runs.sort_values("seed").to_dict("records"):
            seeds.setdefault(int(row["trial"]), []).append(_seed(row))
        record.remembered[key] = tuple(
            TrialResult(
                number=int(row["number"]),
                label=trial_label(record, row),
                weights=_weights(record, row),
                params=_params(record, row),
                state=str(row["state"]),
                expected=len(record.seeds),
                seeds=tuple(seeds.get(int(row["number"]), ())),
            )
            for row in record.trials.sort_values("number").to_dict("records")
        )
    found: tuple[TrialResult, ...] = record.remembered[key]
    return found


def _weights(record: StudyRecord, row: Mapping) -> dict[str, float]:
    return {term: float(row[f"weight_{term}"]) for term in record.terms}


def _seed(row: Mapping) -> SeedValue:
    outcome, state = row["outcome"], str(row["state"])
    known = isinstance(outcome, str) and outcome and state == "finished"
    return SeedValue(str(row["run"]), int(row["seed"]), math.nan, str(outcome) if known else state, state == "finished")


def _seed_value(seed: SeedValue, values: Mapping[str, float], what: Measure) -> SeedValue:
    value = values.get(seed.run, math.nan) if seed.is_finished else math.nan
    # Whatever the last number was, a run that went non-finite is the worst there is.
    if seed.outcome == "non_finite" or math.isinf(value):
        value = what.worst
    return SeedValue(seed.run, seed.seed, value, seed.outcome, seed.is_finished)


def _params(record: StudyRecord, row: Mapping) -> dict[str, Any]:
    return {name: row[f"var_{name}"] for name in record.variables if f"var_{name}" in row}


def trial_label(record: StudyRecord, row: Mapping) -> str:
    """How a trial is called: on a line or grid by its swept variables, else by all that it is made of."""
    params = _params(record, row)
    if record.kind in ("line", "grid") and len(params) == len(record.variables):
        return ", ".join(f"{name} = {written(value)}" for name, value in params.items())
    return recipe(_weights(record, row), params)


def line_values(record: StudyRecord) -> dict[int, float]:
    """Trial -> the value of a line's variable; empty where the study is no line, or its values are no numbers."""
    column = f"var_{record.variables[0]}" if record.kind == "line" and record.variables else ""
    if column not in record.trials.columns or not pd.api.types.is_numeric_dtype(record.trials[column]):
        return {}
    return {int(n): float(v) for n, v in zip(record.trials["number"], record.trials[column], strict=True)}


def used_terms(record: StudyRecord) -> tuple[str, ...]:
    """The terms that any trial of the study weights."""
    return tuple(t for t in record.terms if (pd.to_numeric(record.trials[f"weight_{t}"]) > 0).any())


def varying_terms(record: StudyRecord) -> tuple[str, ...]:
    """The terms whose weight differs between trials."""
    return tuple(t for t in record.terms if record.trials[f"weight_{t}"].nunique() > 1)


def normalised(weights: Mapping[str, float], terms: tuple[str, ...]) -> np.ndarray:
    """The weights of some terms, scaled to sum to 1: Adam ignores a loss's overall scale. Shape (terms,)."""
    array = np.array([weights.get(t, 0.0) for t in terms], dtype=float)
    total = array.sum()
    return array / total if total > 0 else array


def is_equal(weights: Mapping[str, float], terms: tuple[str, ...]) -> bool:
    """Whether all of these terms weigh the same."""
    share = normalised(weights, terms)
    return len(terms) > 1 and bool(np.allclose(share, 1 / len(terms), atol=1e-6))
