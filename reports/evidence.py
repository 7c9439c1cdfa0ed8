"""What a group of studies has shown so far: arms and their runs, seed by seed, as claims ask for them."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from depth_loss_sweep.reports import dose
from depth_loss_sweep.reports.analysis import Analysis
from depth_loss_sweep.reports.claims import Test
from depth_loss_sweep.reports.trials import SeedValue, TrialResult

RMSE, F1, COMBINED = "metric_rmse", "metric_boundary_f1", "total"


@dataclass(frozen=True)
class Member:
    """A study of the group: a preset with what differs, under which seeds, and for which claims."""

    key: str
    """The study is called GROUP-KEY, such as paper-small-eq-12."""
    preset: str
    overrides: Mapping[str, Any]
    """As --set has them: {"search.w": [0, 0.9]}."""
    seeds: tuple[int, ...]
    claims: tuple[str, ...]
    confirm: int = 0
    """So many fresh seeds confirm its winner."""
    size: int = 1
    """Its pictures have so many times the side of the group's."""
    most: int = 0
    """So many seeds at most, where looks to come may ask for more."""
    is_beside: bool = False
    """It is shown beside its claims and decides nothing, so that no look waits for it."""


@dataclass(frozen=True)
class Beside:
    """A test that is shown beside a claim and decides nothing; `crossed` of its pairs were trained on several machines."""

    words: str
    test: Test
    unit: str = "share"
    crossed: int = 0


@dataclass(frozen=True)
class Arm:
    """One configuration: a member, and where in the space that it sweeps."""

    key: str
    point: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Evidence:
    """What was trained so far: member -> its analysis."""

    analyses: Mapping[str, Analysis]

    def is_there(self, key: str, seeds: Sequence[int]) -> bool:
        """Whether a member is trained whole under these seeds."""
        analysis = self.analyses.get(key)
        return (
            analysis is not None
            and bool(analysis.trials)
            and all({*seeds} <= {s.seed for s in trial.seeds if s.broke is not None} for trial in analysis.trials)
        )

    def has(self, member: Member) -> bool:
        """Whether a member is trained as it is asked for, its winner confirmed where there is one to confirm."""
        if not self.is_there(member.key, member.seeds):
            return False
        analysis = self.analyses[member.key]
        if not member.confirm or analysis.decision.trial is None:
            return True
        found = analysis.confirmation
        return found is not None and found.state == "finished" and found.seeds >= member.confirm

    def trial(self, arm: Arm) -> TrialResult | None:
        """The trial of an arm."""
        found = self.analyses.get(arm.key)
        return next((t for t in found.trials if _is_at(t.params, arm.point)), None) if found else None

    def values(self, arm: Arm, seeds: Sequence[int], column: str = RMSE, split: str = "val") -> np.ndarray | None:
        """An arm's final values under these seeds; None where a run hasn't ended, or has no number.

        A run that isn't finite counts as the training-median predictor, boundary F1 of a broken one as 0.
        """
        trial, analysis = self.trial(arm), self.analyses.get(arm.key)
        if trial is None or analysis is None:
            return None
        results = analysis.results(analysis.measure(column), split)
        by_seed = {s.seed: s for t in results if t.number == trial.number for s in t.seeds if s.broke is not None}
        if not {*seeds} <= {*by_seed}:
            return None
        instead = median(analysis, trial, column, split)
        values = np.array([_counted(by_seed[seed], column, instead) for seed in seeds])
        return values if np.isfinite(values).all() else None

    def line(self, key: str, seeds: Sequence[int], column: str = RMSE, split: str = "val") -> np.ndarray | None:
        """The final values of all trials of a line, in its order: (weights, seeds); None while it has not all of them.

        A study that grows asks for its trials anew.
        """
        analysis = self.analyses.get(key)
        if analysis is None or len(analysis.trials) < analysis.record.planned or not self.is_there(key, seeds):
            return None
        rows = [self.values(Arm(key, t.params), seeds, column, split) for t in self.along(key)]
        return np.array(rows) if all(row is not None for row in rows) else None

    def along(self, key: str) -> list[TrialResult]:
        """The trials of a line in its order."""
        analysis = self.analyses[key]
        return sorted(analysis.trials, key=lambda t: analysis.line[t.number])

    def places(self, key: str) -> np.ndarray:
        """Where they stand."""
        analysis = self.analyses[key]
        return np.array(sorted(analysis.line.values()))

    def paired(
        self,
        test: Callable[..., Test],
        a: Arm,
        b: Arm,
        seeds: Sequence[int],
        column: str = RMSE,
        split: str = "val",
        **about: Any,
    ) -> Test | None:
        """A test of two arms under the same seeds; None where one isn't there."""
        found = [self.values(arm, seeds, column, split) for arm in (a, b)]
        if any(values is None for values in found):
            return None
        return test(*found, is_relative=column != F1, higher_is_better=column == F1, **about)

    def breaks(self, seeds: Mapping[str, Sequence[int]]) -> dose.Onset | None:
        """Where along a dose training breaks, by the ended runs of some members under these seeds of each."""
        runs = {
            (s.seed, analysis.line[t.number]): s.broke
            for key, own in seeds.items()
            if (analysis := self.analyses.get(key))
            for t in analysis.trials
            for s in t.seeds
            if s.broke is not None and s.seed in own
        }
        if not runs:
            return None
        return dose.onset([w for _, w in runs], [seed for seed, _ in runs], [bool(broke) for broke in runs.values()])

    def environments_of(self, arm: Arm) -> dict[int, str]:
        """Seed -> where that run of an arm was trained."""
        trial = self.trial(arm)
        if trial is None:
            return {}
        runs = self.analyses[arm.key].record.runs
        own = runs[runs["trial"] == trial.number]
        return dict(zip(own["seed"].astype(int), own.get("environment", own["run"]).astype(str), strict=True))

    def crossed(self, arms: Iterable[Arm], seeds: Sequence[int]) -> int:
        """Under how many of these seeds arms were trained in more than one environment: what differs between those is in their effect."""
        found = [self.environments_of(arm) for arm in arms]
        return sum(len({by_seed.get(seed) for by_seed in found}) > 1 for seed in seeds)

    @cached_property
    def environments(self) -> Mapping[str, frozenset[str]]:
        """Member -> where its runs were trained."""
        return {
            key: frozenset(str(e) for e in analysis.record.runs.get("environment", ()) if isinstance(e, str))
            for key, analysis in self.analyses.items()
        }


def _is_at(params: Mapping[str, Any], point: Mapping[str, Any]) -> bool:
    return all(
        math.isclose(params[k], v, abs_tol=1e-9) if isinstance(v, float) else params[k] == v for k, v in point.items()
    )


def median(analysis: Analysis, trial: TrialResult, column: str, split: str) -> float:
    """The training-median predictor's value; of the combined loss that of its terms, weighed as the trial weighs them."""
    known = (analysis.record.baselines.get(split) or {}).get("median") or {}
    if column != COMBINED:
        return known.get(column, math.nan)
    return math.fsum(weight * known.get(f"term_{term}", math.nan) for term, weight in trial.weights.items() if weight)


def _counted(seed: SeedValue, column: str, median: float) -> float:
    if column == F1:
        return 0.0 if seed.broke or not math.isfinite(seed.value) else seed.value
    return seed.value if math.isfinite(seed.value) else median


def required(values: np.ndarray | None) -> np.ndarray:
    """Values of an arm that is known to be trained."""
    if values is None:
        raise ValueError("a member that is trained lacks values")
    return values
