"""Trials and runs of a study at work, as its coordinator sees them; what is known of them for good stands in the tables."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from depth_loss_sweep.data.settings import DataSettings
from depth_loss_sweep.model.settings import RunSettings
from depth_loss_sweep.store import NewRun


@dataclass(frozen=True)
class TrialPlan:
    """What a trial's runs are made of, and their keys."""

    data: DataSettings
    fingerprint: str
    runs: tuple[tuple[RunSettings, NewRun], ...]


class Planner(Protocol):
    """Turns a point of the space into runs (see `sweep.study.Planner`)."""

    def __call__(self, point: Mapping[str, Any]) -> TrialPlan:
        """The plan of a trial at that point."""

    def check(self, plan: TrialPlan) -> None:
        """Raise `DataError` where the plan's pictures are no longer whole."""


@dataclass
class Run:
    """A run as the coordinator sees it."""

    key: str
    settings: RunSettings
    plan: TrialPlan
    new: NewRun
    state: str = "waiting"  # waiting | running | finished | failed | dropped
    outcome: str | None = None
    deaths: int = 0  # since it last got further
    furthest: int = 0
    memory_retries: int = 0
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
