"""A study record analysed, once: figures, sentences, tables and the command line take from it what they need.

Nothing is drawn, written or read here. What is asked for is computed at the first time, and kept.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any

import numpy as np
import pandas as pd

from depth_loss_sweep.reports import breakage, confirmation, contrasts, instability, naming, race
from depth_loss_sweep.reports.breakage import Breakage
from depth_loss_sweep.reports.confirmation import Confirmation
from depth_loss_sweep.reports.contrasts import Pairing, Reference
from depth_loss_sweep.reports.cost import StudyCost
from depth_loss_sweep.reports.decision import MARGIN, Decision, Question, compared_values, objection_to, ranking_of
from depth_loss_sweep.reports.front import Front, Objective, pareto_front
from depth_loss_sweep.reports.importance import Importance, importance_of, of_variables, of_weights
from depth_loss_sweep.reports.instability import Beside, Break, Instability
from depth_loss_sweep.reports.measures import Measure, measure_of, predictor_values
from depth_loss_sweep.reports.naming import is_number
from depth_loss_sweep.reports.records import StudyRecord
from depth_loss_sweep.reports.references import FIXED, WEIGHTING
from depth_loss_sweep.reports.scenes import val_pictures
from depth_loss_sweep.reports.trials import LEARNT, MEDIAN_ONLY, SeedValue, TrialResult, has_broken


@dataclass(frozen=True, eq=False)
class Analysis:
    """All that follows from a study's record, finished or not."""

    record: StudyRecord

    # Measures, and how terms and weights are called

    def measure(self, column: str) -> Measure:
        """The measure of a column of the table of epochs; an unknown one is called by its name."""
        return measure_of(column, self.record.measures)

    @cached_property
    def term_names(self) -> dict[str, str]:
        """Term -> its short name in prose, for all terms of the record."""
        return {term: self.measure(f"term_{term}").short or term for term in self.record.terms}

    def recipe(self, weights: Mapping[str, float], params: Mapping[str, Any]) -> str:
        """All that a trial is made of, in one line."""
        return naming.recipe(weights, params, self.term_names)

    @cached_property
    def objective(self) -> Measure:
        """What the study minimises (or maximises)."""
        return self.measure(self.record.objective_column)

    @cached_property
    def ranking(self) -> Measure:
        """What trials are ranked by: the objective, or RMSE in place of the incomparable combined loss."""
        return ranking_of(self.objective, self.measure("metric_rmse"))

    @cached_property
    def measured_terms(self) -> tuple[Measure, ...]:
        """The terms that any epoch has a finite value of on validation."""
        return self._measured("term_")

    @cached_property
    def measured_metrics(self) -> tuple[Measure, ...]:
        """The metrics that any epoch has a finite value of on validation."""
        return self._measured("metric_")

    def _measured(self, prefix: str) -> tuple[Measure, ...]:
        rows = self.record.epochs[self.record.epochs["split"] == "val"]
        columns = [c for c in rows.columns if c.startswith(prefix)]
        return tuple(self.measure(c) for c in columns if np.isfinite(pd.to_numeric(rows[c], errors="coerce")).any())

    def baselines(self, measure: Measure, split: str = "val") -> dict[str, float]:
        """Trivial predictor -> its value of a measure on a split; those that do not have it are left out."""
        return predictor_values(self.record.baselines.get(split) or {}, measure)

    # Trials and their values

    @cached_property
    def trials(self) -> tuple[TrialResult, ...]:
        """Every trial with its seeds' values of what trials are ranked by, in trial order."""
        return self.results(self.ranking)

    def results(self, measure: Measure, split: str = "val") -> tuple[TrialResult, ...]:
        """Every trial with its seeds' final values of a measure, in trial order."""
        return self._results(measure, split)

    @cached_property
    def _results(self) -> Callable[[Measure, str], tuple[TrialResult, ...]]:
        return cache(self._compute_results)

    def _compute_results(self, measure: Measure, split: str) -> tuple[TrialResult, ...]:
        values = self.final_values(measure.column, split)
        return tuple(
            TrialResult(t.number, t.label, t.weights, t.params, t.state, t.expected, seeds)
            for t in self._trials_without_values
            for seeds in [tuple([_valued(seed, values, measure) for seed in t.seeds])]
        )

    def final_values(self, column: str, split: str = "val") -> dict[str, float]:
        """Run -> the mean of a column over its last `record.window` epochs, for the runs that have any."""
        if column not in self.record.epochs.columns:
            return {}
        numbers = pd.to_numeric(self.record.epochs[column], errors="coerce").to_numpy(dtype=float)
        # A plain mean: it keeps a NaN, where pandas' own would skip it.
        return {
            run: float(numbers[rows[0]] if len(rows) == 1 else np.mean(numbers[rows]))
            for run, rows in self._last_rows(split).items()
        }

    @cached_property
    def _last_rows(self) -> Callable[[str], dict[str, list[int]]]:
        return cache(self._find_last_rows)

    def _find_last_rows(self, split: str) -> dict[str, list[int]]:
        """Run -> where in the table of epochs its last `record.window` epochs of a split stand."""
        epochs = self.record.epochs.reset_index(drop=True)
        rows = epochs[epochs["split"] == split].sort_values("epoch")
        places: dict[str, list[int]] = {}
        for place, run in zip(rows.index, rows["run"], strict=True):
            places.setdefault(str(run), []).append(int(place))
        return {run: of_run[-self.record.window :] for run, of_run in places.items()}

    @cached_property
    def run_names(self) -> Mapping[tuple[int, int], str]:
        """(trial, seed) -> what that run is called where it is drawn; a run that trials share is each one's."""
        return {(t.number, s.seed): f"{t.label}, seed {s.seed}, run {s.run[:8]}" for t in self.trials for s in t.seeds}

    @cached_property
    def _trials_without_values(self) -> tuple[TrialResult, ...]:
        """Every trial as no measure changes it; its seeds have no value yet."""
        seeds: dict[int, list[SeedValue]] = {}
        values, measure = self.final_values(self.ranking.column), self.ranking
        median = self.baselines(measure).get("median")
        for row in self.record.runs.sort_values("seed").to_dict("records"):
            seed, value = _seed(row), values.get(str(row["run"]), math.nan)
            broke = has_broken(seed.outcome, value, self.record.outcomes, median, measure.higher_is_better)
            seeds.setdefault(int(row["trial"]), []).append(seed._replace(broke=broke))
        return tuple(
            TrialResult(
                number=int(row["number"]),
                label=self._label(row),
                weights=self._weights(row),
                params=self._params(row),
                state=str(row["state"]),
                expected=len(self.record.seeds),
                seeds=tuple(seeds.get(int(row["number"]), ())),
            )
            for row in self.record.trials.sort_values("number").to_dict("records")
        )

    def _label(self, row: Mapping) -> str:
        """How a trial is called: on a line or grid by its swept variables, else by all that it is made of."""
        params = self._params(row)
        if self.record.kind in ("line", "grid") and len(params) == len(self.record.variables):
            return ", ".join(f"{name} = {naming.written(value)}" for name, value in params.items())
        return self.recipe(self._weights(row), params)

    def _weights(self, row: Mapping) -> dict[str, float]:
        return {term: float(row[f"weight_{term}"]) for term in self.record.terms}

    def _params(self, row: Mapping) -> dict[str, Any]:
        return {name: row[f"var_{name}"] for name in self.record.variables if f"var_{name}" in row}

    @cached_property
    def is_unfinished(self) -> bool:
        """Whether trials are still to come, as far as the record knows."""
        states = self.record.trials["state"]
        return len(states) < max(1, self.record.planned) or not states.isin(["complete", "pruned", "failed"]).all()

    # Where trials stand in the space that was swept

    @cached_property
    def line(self) -> dict[int, float]:
        """Trial -> the value of a line's variable; empty where the study is no line, or its values are no numbers."""
        trials, variables = self.record.trials, self.record.variables
        column = f"var_{variables[0]}" if self.record.kind == "line" and variables else ""
        if column not in trials.columns or not pd.api.types.is_numeric_dtype(trials[column]):
            return {}
        return {int(n): float(v) for n, v in zip(trials["number"], trials[column], strict=True)}

    @cached_property
    def terms(self) -> tuple[str, ...]:
        """The terms that any trial of the study weights."""
        weights = self.record.trials
        return tuple(t for t in self.record.terms if (pd.to_numeric(weights[f"weight_{t}"]) > 0).any())

    @cached_property
    def varying_terms(self) -> tuple[str, ...]:
        """The terms whose weight differs between trials."""
        return tuple(t for t in self.record.terms if self.record.trials[f"weight_{t}"].nunique() > 1)

    @cached_property
    def rule(self) -> str:
        """By which rule the weights of trials go that have none of their own."""
        return str((self.record.spec.get("loss") or {}).get("weighting", FIXED))

    def weighting(self, trial: TrialResult) -> str:
        """By which rule a trial's weights went."""
        return str(trial.params.get(WEIGHTING, self.rule))

    # What may be said

    @cached_property
    def decision(self) -> Decision:
        """What the study's numbers allow to be said; of a search, those of its best under fresh seeds."""
        own = race.decide(self.trials, self._question, self.record.pictures)
        own = race.decide_by_finals(own, self._question, self.record.finals)
        return confirmation.confirmed_decision(own, self.confirmation)

    @cached_property
    def importance(self) -> Importance | None:
        """How much of what a search varies matters; None where nothing was searched, or no trial may be named."""
        if not self._question.is_search or self.decision.trial is None:
            return None
        compared, values = compared_values(self.trials, self._question)
        if self.record.kind == "simplex":
            weights = {term: np.array([t.weights[term] for t in compared]) for term in self.terms}
            return importance_of(of_weights(weights), values)
        varied = {name: [t.params[name] for t in compared] for name in self.record.variables}
        unnumbered = [name for name, own in varied.items() if not all(map(is_number, own))]
        if unnumbered:
            return Importance(len(compared), missing=f"{unnumbered[0]} is swept by what is no number")
        drawn = self.record.spec.get("variables", ())
        logarithmic = {variable["name"] for variable in drawn if variable.get("log")}
        return importance_of(of_variables({name: np.array(own) for name, own in varied.items()}, logarithmic), values)

    @cached_property
    def cost(self) -> StudyCost:
        """What the answer cost, and what confirming it did."""
        return StudyCost.of(self.record.costs, self.record.confirming_costs)

    @cached_property
    def confirmation(self) -> Confirmation | None:
        """What the confirming runs allow to be quoted; None where there are none."""
        record = self.record.confirmation
        return confirmation.confirm(record, self.ranking, self._question.margin) if record else None

    @cached_property
    def _question(self) -> Question:
        study = self.record.spec.get("study") or {}
        return Question(
            measure=self.ranking,
            baselines=self.baselines(self.ranking),
            line=self.line,
            objection=objection_to(self.objective, self.record.variables),
            is_search=self.record.is_search,
            is_unfinished=self.is_unfinished,
            margin=study.get("margin", MARGIN),
            looks=self.record.looks,
            pictures=val_pictures(self.record.data),
            stages=self.record.stages,
            seeds=self.record.all_seeds,
            is_first_of_two=bool(self.record.second_column),
        )

    @cached_property
    def objectives(self) -> tuple[Measure, ...]:
        """What trials are told by: what they are ranked by, and the second objective, where there is one."""
        second = self.record.second_column
        return (self.ranking, self.measure(second)) if second else (self.ranking,)

    @cached_property
    def front(self) -> Front | None:
        """The front of both objectives; None where there is one, or trials can't be compared."""
        if len(self.objectives) < 2 or self._question.objection:
            return None
        both = [Objective(m, self.results(m), self.baselines(m)) for m in self.objectives]
        return pareto_front(both, self._question.level)

    @cached_property
    def ranked(self) -> Sequence[TrialResult]:
        """The complete trials, best mean first; diverged ones last."""
        return contrasts.ranked(self.trials, self.ranking)

    @cached_property
    def named(self) -> TrialResult | None:
        """The trial that the decision names."""
        return next((t for t in self.trials if t.number == self.decision.trial), None)

    @cached_property
    def references(self) -> tuple[Reference, ...]:
        """What the named trial is held against, with contrasts that hold for all pairs of trials at once."""
        if self.named is None:
            return ()
        by_trial = {c.trial: c for c in self.decision.contrasts}
        compared = [t for t in self.ranked if t.number in self.decision.compared]
        found = contrasts.references(
            compared, self.named.number, self.terms, self.term_names, self.record.kind == "points", self.line, self.rule
        )
        return tuple(Reference(role, t.label, by_trial[t.number]) for role, t in found if t.number in by_trial)

    @cached_property
    def pairing(self) -> Pairing:
        """What the seeds share across trials."""
        return contrasts.pairing(self.trials)

    @cached_property
    def breakage(self) -> Breakage:
        """How runs ended, and where training breaks."""
        return breakage.breakage(self.trials, self.line)

    @cached_property
    def instability(self) -> Instability:
        """When each broken run broke, and how likely that is at each trial's weights."""
        record, rows = self.record, self.record.epochs
        broken = {s.run for t in self.trials for s in t.seeds if s.broke}
        own = rows[(rows["split"] == "val") & rows["run"].isin(broken)].sort_values("epoch")
        epochs = {str(run): of_run.to_dict("records") for run, of_run in own.groupby("run")}
        return instability.instability(self.trials, record.broken_outcomes, _breaks(record.runs), epochs, record.rules)

    @cached_property
    def endings(self) -> dict[str, str]:
        """Run -> how it ended, as the page tells it.

        A run that is better than the training median alone has an outcome of its own, `MEDIAN_ONLY`: learnt is who beats every
        trivial predictor, and nobody where the decision says that nothing was learnt.
        """
        measure = self.ranking
        least = min(map(measure.cost, self.baselines(measure).values()), default=math.inf)
        nothing = self.decision.state == "not_learnt"
        return {
            s.run: MEDIAN_ONLY if s.outcome == LEARNT and (nothing or measure.cost(s.value) >= least) else s.outcome
            for t in self.trials
            for s in t.seeds
        }

    @property
    def broken_kinds(self) -> tuple[str, ...]:
        """The ways in which any run of the study broke, in the record's order."""
        return tuple(kind for kind in self.record.broken_outcomes if self.breakage.kinds[kind])

    @cached_property
    def beside(self) -> Beside | None:
        """A run that broke and the nearest one of its seed that did not; None where there is no such pair."""
        return instability.nearest_pair(self.trials, self.line, self.terms)


def _breaks(runs: pd.DataFrame) -> dict[str, Break]:
    """Run -> where it became non-finite, where that is known."""
    known = runs.dropna(subset="break_epoch") if "break_epoch" in runs.columns else runs.iloc[:0]
    return {
        str(row["run"]): Break(int(row["break_epoch"]), int(row["break_step"]), str(row["break_term"]))
        for row in known.to_dict("records")
    }


def _seed(row: Mapping) -> SeedValue:
    state, is_finished = str(row["state"]), row["state"] == "finished"
    outcome = row["outcome"] if is_finished and isinstance(row["outcome"], str) and row["outcome"] else state
    return SeedValue(str(row["run"]), int(row["seed"]), math.nan, outcome, is_finished)


def _valued(seed: SeedValue, values: Mapping[str, float], measure: Measure) -> SeedValue:
    value = values.get(seed.run, math.nan) if seed.is_finished else math.nan
    # Whatever the last number was, a run that went non-finite is the worst there is.
    if seed.outcome == "non_finite" or math.isinf(value):
        value = measure.worst
    return SeedValue(seed.run, seed.seed, value, seed.outcome, seed.is_finished, seed.broke)
