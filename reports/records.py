"""A study as plain tables: all that a report knows. Whoever stores studies fills them in; NaN is missing."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from depth_loss_sweep.reports.confirmation import ConfirmationRecord
from depth_loss_sweep.reports.cost import RunCost, RunSpan
from depth_loss_sweep.reports.errors import ReportError
from depth_loss_sweep.reports.instability import Rules
from depth_loss_sweep.reports.measures import Measure
from depth_loss_sweep.reports.race import Finals
from depth_loss_sweep.reports.scenes import PictureValues
from depth_loss_sweep.reports.stages import STAGES, race_seeds

KINDS = ("point", "line", "grid", "points", "simplex")

TRIAL_COLUMNS = ("number", "state", "value")
RUN_COLUMNS = (
    "run",
    "trial",
    "seed",
    "state",
    "outcome",
    "reason",
    "epochs",
    "attempts",
    "seconds",
    "device",
    "images_per_second",
    "mixed",
)
EPOCH_COLUMNS = ("run", "epoch", "split", "total")


@dataclass(frozen=True)
class Panels:
    """A run's predictions on a fixed handful of k validation images of H x W pixels; depths are metres."""

    keys: tuple[str, ...]
    image: np.ndarray  # uint8 (k, H, W, 3), RGB
    truth: np.ndarray  # float32 (k, H, W)
    mask: np.ndarray  # bool (k, H, W), true where the truth is valid
    prediction: np.ndarray  # float32 (k, H, W)


@dataclass(frozen=True)
class StudyRecord:
    """One study, finished or not.

    `trials` has `number, state, value`, then `var_<variable>` and `weight_<term>`; `runs` has RUN_COLUMNS, one
    row a (trial, run), and `break_epoch, break_step, break_term` of runs that became non-finite; `epochs` has `run, epoch,
    split, total`, then `term_<name>`, `metric_<name>`, `grad_norm_median`, `grad_norm_max`, `share_<term>`, `spread_prediction`,
    `spread_truth` and what else is known of an epoch. `baselines` is split -> predictor ->
    column of a term or metric -> number. A table without rows may lack its columns; otherwise a missing column is a
    `ReportError`.

    `measures` says what the columns of terms and metrics and `total` mean, `objective_column` which of them the objective
    is, `second_column` the second one, where there are two; `outcomes` how a run can end and whether training itself broke then (a
    trivial run trained, but learnt nothing), by `rules`; `predictors` how the trivial predictors are called. What they do not name
    is called as the tables call it. `looks` are how often the study was looked at, each time with more seeds; `finals` are the race
    of a search's best, begun or not, where the spec asks for one. `pictures` are the validation pictures' scenes, and of finished
    runs what each picture amounts to in what trials are ranked by, over the `window` epochs that make a run's value; `images` the
    same of other columns, where they were asked for. `spec_text` is the spec as it was written, `resolved` the whole of it, every default
    filled in: a spec that asks for the same study again. `costs` are what its runs took, `confirming_costs` those that confirm it;
    `spans` when it trained its own; `planned` is how many trials the spec asks for.
    """

    name: str
    spec_text: str
    spec: Mapping[str, Any]
    version: str
    command: str
    created: str
    environment: Mapping[str, Any]
    data: Mapping[str, Any]
    baselines: Mapping[str, Mapping[str, Mapping[str, float]]]
    objective: str
    objective_column: str
    variables: tuple[str, ...]
    kind: str
    trials: pd.DataFrame
    runs: pd.DataFrame
    epochs: pd.DataFrame
    measures: Mapping[str, Measure] = field(default_factory=dict)
    outcomes: Mapping[str, bool] = field(default_factory=dict)
    rules: Rules = field(default_factory=Rules)
    predictors: Mapping[str, str] = field(default_factory=dict)
    panels: Mapping[str, Panels] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    looks: int = 1
    pictures: PictureValues | None = None
    finals: Finals | None = None
    confirmation: ConfirmationRecord | None = None
    images: Mapping[str, PictureValues] = field(default_factory=dict)
    resolved: str = ""
    costs: tuple[RunCost, ...] = ()
    confirming_costs: tuple[RunCost, ...] = ()
    second_column: str = ""
    spans: tuple[RunSpan, ...] = ()
    planned: int = 0

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ReportError(f"study {self.name!r} has the kind {self.kind!r}; expected one of {', '.join(KINDS)}")
        for table, columns in (("trials", TRIAL_COLUMNS), ("runs", RUN_COLUMNS), ("epochs", EPOCH_COLUMNS)):
            object.__setattr__(self, table, _checked(getattr(self, table), table, columns, self.name))

    @cached_property
    def terms(self) -> tuple[str, ...]:
        """The loss's terms, in the order of the `weight_` columns."""
        return tuple(c.removeprefix("weight_") for c in self.trials.columns if c.startswith("weight_"))

    @cached_property
    def seeds(self) -> tuple[int, ...]:
        """The seeds every trial is to be trained under: the spec's, of a race its first stage's, else all that runs were started with."""
        given = self.spec.get("study", {}).get("seeds") or sorted(set(self.runs["seed"].dropna().astype(int)))
        return self.all_seeds[: self.stages[0]] if self.stages else tuple(int(seed) for seed in given)

    @property
    def is_search(self) -> bool:
        """Whether a sampler drew the points."""
        usual = "random" if self.kind == "simplex" else "grid"
        return bool((self.spec.get("search") or {}).get("sampler", usual) != "grid")

    @property
    def stages(self) -> tuple[int, ...]:
        """After how many seeds each the study's own trials are raced; empty where they aren't (a search's best are, beside it)."""
        search = self.spec.get("search") or {}
        return tuple(search.get("stages", STAGES)) if search.get("race") and not self.is_search else ()

    @property
    def all_seeds(self) -> tuple[int, ...]:
        """The seeds under which a raced trial may be trained, in their order; empty where none is raced."""
        return race_seeds(self.spec["study"]["seeds"], self.stages[-1]) if self.stages else ()

    @property
    def broken_outcomes(self) -> tuple[str, ...]:
        """The outcomes in which training itself broke."""
        return tuple(name for name, broke in self.outcomes.items() if broke)

    @property
    def window(self) -> int:
        """How many last epochs make a run's final value: 1 for `value = "last"`, else k."""
        value = self.spec.get("study", {}).get("value", "last")
        return value if isinstance(value, int) else 1


def _checked(table: pd.DataFrame, name: str, columns: tuple[str, ...], study: str) -> pd.DataFrame:
    missing = [c for c in columns if c not in table.columns]
    if missing and len(table):
        raise ReportError(
            f"study {study!r}: the table of {name} lacks {', '.join(missing)}; expected {', '.join(columns)}"
        )
    return table.reindex(columns=[*table.columns, *missing]) if missing else table
