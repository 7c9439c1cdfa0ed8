"""Trials and runs of a study at work, as its coordinator sees them; what is known of them for good stands in the tables."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from depth_loss_sweep.data.settings import DataSettings
from depth_loss_sweep.errors import StudyError
from depth_loss_sweep.model.settings import RunSettings
from depth_loss_sweep.objectives import StudyObjective
from depth_loss_sweep.queries import NewRun
from depth_loss_sweep.store import Store


@dataclass(frozen=True)
class TrialPlan:
    """What a trial's runs are made of, and their keys."""

    data: DataSettings
    fingerprint: str
    runs: tuple[tuple[RunSettings, NewRun], ...]


class Planner(Protocol):
    """Turns a point of the space into runs (see `sweep.study.Planner`)."""

    @property
    def judges_test(self) -> bool:
        """Whether finished runs are judged on the test pictures, too."""

    def __call__(self, point: Mapping[str, Any]) -> TrialPlan:
        """The plan of a trial at that point."""

    def check(self, plan: TrialPlan) -> None:
        """Raise `DataError` where the plan's pictures are no longer whole."""


@dataclass(eq=False)  # each is itself alone, and is looked for among thousands at every record
class Run:
    """A run as the coordinator sees it."""

    key: str
    settings: RunSettings
    plan: TrialPlan
    new: NewRun
    state: str = "waiting"  # waiting | queued (with an executor) | running | finished | failed | dropped
    lacks_test: bool = False  # its row is finished, and stays so: only the test pictures are still to be judged
    outcome: str | None = None
    deaths: int = 0  # since it last got further
    furthest: int = 0
    memory_retries: int = 0
    avoid: list[str] = field(default_factory=list)
    """The machines that are not fit to train it."""
    wait_polls: int = 0
    curve: list[float] = field(default_factory=list)
    epoch: int = 0
    seconds: float = 0.0
    images_per_second: float = 0.0  # summed over epochs

    @property
    def epochs(self) -> int:
        """How many epochs it is to be trained."""
        return self.settings.train.epochs

    @property
    def ended(self) -> bool:
        """Whether nothing more will come of it."""
        return self.state in ("finished", "failed", "dropped")


@dataclass
class Trial:
    """A trial that was asked and not yet told, or told."""

    number: int
    params: dict[str, Any]
    weights: dict[str, float]
    epochs: int
    asked: str
    runs: list[Run]
    state: str = "running"
    value: float | None = None
    second_value: float | None = None
    n: int = 0
    """How many runs it was asked with; of a told one, `runs` aren't taken up again."""
    known: tuple[float, ...] = ()
    """What its seeds are worth as the tables have it, where that is asked for."""

    @property
    def finished(self) -> list[Run]:
        """Its runs that have a result."""
        return [run for run in self.runs if run.state == "finished"]

    def value_so_far(self, objective: StudyObjective) -> float:
        """Its value once it is told, before that by the runs that are finished; NaN where there is none."""
        if self.state != "running":
            return math.nan if self.value is None else self.value
        values = self.values(objective)
        return objective.value_of_trial(values) if values else math.nan

    def values(self, objective: StudyObjective) -> tuple[float, ...]:
        """What its finished runs are worth, in the order of its seeds."""
        return tuple(objective.value_of_run(run.curve, run.outcome) for run in self.finished) or self.known


def settle(trial: Trial, objectives: Sequence[StudyObjective], store: Store) -> None:
    """Give a trial, all of whose runs have ended, its state and its values.

    One whose first seed was cut short has those of its last epoch, one that was halved those of the seeds it had.
    """
    if trial.state == "running":
        has_failed = any(run.state == "failed" for run in trial.runs)
        trial.state, trial.value = ("failed", None) if has_failed else ("complete", trial.value_so_far(objectives[0]))
    is_cut = trial.state == "pruned" and any(run.state != "finished" or run.epochs > trial.epochs for run in trial.runs)
    for second in objectives[1:] if trial.state != "failed" else ():
        curves = [store.curve(run.key, second.column, trial.epochs) for run in trial.runs]
        if is_cut:
            trial.second_value = curves[0][-1]
        else:
            values = [second.value_of_run(curve, run.outcome) for curve, run in zip(curves, trial.runs, strict=True)]
            trial.second_value = second.value_of_trial(values)


def best_of(trials: Iterable[Trial], objective: StudyObjective) -> Trial | None:
    """The trial with the best finite value so far; None where there is none."""
    sign = -1 if objective.direction == "maximize" else 1
    finite = [trial for trial in trials if math.isfinite(trial.value_so_far(objective))]
    return min(finite, key=lambda trial: sign * trial.value_so_far(objective), default=None)


def with_known(plan: TrialPlan, study: str, store: Store) -> TrialPlan:
    """The plan with finished runs that the study had before, or that were copied here, in place of those that would be trained.

    By identity alone; trained in another environment, they may differ from ours in the last bits, and are marked.
    """
    runs = []
    for settings, new in plan.runs:
        known = store.known_run(study, new, settings.train.epochs)
        if known and known["environment"] != new.environment:
            store.update_run(known["run"], mixed=True)
        runs.append((settings, replace(new, run=known["run"]) if known else new))
    return replace(plan, runs=tuple(runs))


def check_identity(study: str, trial: int, plan: TrialPlan, runs: Mapping[int, Mapping[str, Any]]) -> None:
    """Refuse to go on with runs that this version, or these pictures, would train otherwise than they were begun."""
    for _, new in plan.runs:
        if new.seed in runs and runs[new.seed]["identity"] != new.identity:
            raise StudyError(
                f"trial {trial} of {study!r} was begun by a version of sweep, or on pictures, that give other numbers: resume "
                f"with that version and data, or start the study anew with --name"
            )
