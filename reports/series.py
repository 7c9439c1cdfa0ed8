"""The small records that figures are drawn from: points, means, curves, counts. Nothing here knows how they look."""

import math
import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import pandas as pd

from depth_loss_sweep.reports.analysis import Analysis
from depth_loss_sweep.reports.axes import Axis
from depth_loss_sweep.reports.breakage import Threshold
from depth_loss_sweep.reports.contrasts import paired
from depth_loss_sweep.reports.decision import Contrast
from depth_loss_sweep.reports.instability import Proportion
from depth_loss_sweep.reports.measures import Measure
from depth_loss_sweep.reports.references import FIXED
from depth_loss_sweep.reports.trials import FAILED, LEARNT, MEDIAN_ONLY, SeedValue, TrialResult

UNFINISHED = "unfinished"


@dataclass(frozen=True)
class MeasureSeries:
    """One measure against one axis: every seed, the mean with its interval, the trivial predictors."""

    measure: Measure
    split: str
    axis: Axis
    seed_y: list[float]
    seed_names: list[str]
    seeds: list[int]  # of each point
    seed_trials: list[int]
    mean_y: list[float]
    half_widths: list[float]  # of the 95 % t-interval; NaN for one seed
    counts: list[int]  # seeds of each mean
    trials: list[int]
    without_mean: list[int]  # trials with a diverged seed
    baselines: dict[str, float]  # label -> value

    def along(self, axis: Axis) -> "MeasureSeries":
        """The same values against another axis."""
        return replace(self, axis=axis)

    @cached_property
    def seed_x(self) -> list[float]:
        """Where each point stands."""
        return [self.axis.positions[trial] for trial in self.seed_trials]

    @cached_property
    def mean_x(self) -> list[float]:
        """Where each mean stands."""
        return [self.axis.positions[trial] for trial in self.trials]

    @property
    def diverged(self) -> dict[int, float]:
        """Trial without a finite mean -> its place."""
        return {trial: self.axis.positions[trial] for trial in self.without_mean}


@dataclass(frozen=True)
class Differences:
    """How trials stand to the one that is named, the `reference`: their seeds' differences, paired, and the decision's contrasts.

    More is worse, in `unit`; `below` and `above` are how far the intervals reach, which hold for all trials at once.
    """

    reference: str
    unit: str
    seed_x: list[float]
    seed_y: list[float]
    seed_names: list[str]
    seeds: list[int]
    seed_trials: list[int]
    x: list[float]
    mean: list[float]
    below: list[float]
    above: list[float]
    trials: list[int]


@dataclass(frozen=True)
class Curve:
    """One trial over epochs: each seed's values, and their mean as far as every seed goes and is finite."""

    trial: int
    label: str
    position: float
    epochs: list[int]
    mean: list[float]
    seeds: list[list[float]]


@dataclass(frozen=True)
class OutcomeCounts:
    """Runs by outcome at each position of an axis."""

    axis: Axis
    x: list[float]
    trials: list[int]
    counts: dict[str, list[int]]


@dataclass(frozen=True)
class EndedRun:
    """How one run ended, and what is said of it."""

    x: float
    trial: int
    seed: int
    outcome: str
    name: str


@dataclass(frozen=True)
class GradientPoint:
    """The largest gradient norm of one run; infinite where it was not finite."""

    x: float
    trial: int
    norm: float
    outcome: str
    name: str


@dataclass(frozen=True)
class BreakRates:
    """How often training broke at each position, as lists by the way it broke ("broken": in any), and from where on."""

    axis: Axis
    x: list[float]
    trials: list[int]
    rates: dict[str, list[Proportion]]
    threshold: Threshold | None


@dataclass(frozen=True)
class RunCurve:
    """One run over epochs: its gradient norms and what trials are ranked by, on validation; `onset` is where it broke, if known."""

    label: str
    outcome: str
    epochs: list[int]
    norm_median: list[float]
    norm_max: list[float]
    values: list[float]
    is_broken: bool
    onset: int | None


@dataclass(frozen=True)
class Agreement:
    """How far the terms' gradients agree in each trial, against what trials are ranked by; means over pairs of terms, and seeds."""

    trials: list[int]
    labels: list[str]
    values: list[float]
    similarity: list[float]
    cosine: list[float]


@dataclass(frozen=True)
class Shares:
    """Parts of a whole at each position, one list a term."""

    axis: Axis
    x: list[float]
    trials: list[int]
    parts: dict[str, list[float]]


# Measures against weights


def measure_series(analysis: Analysis, measure: Measure, axis: Axis, split: str = "val") -> MeasureSeries:
    """Final values of one measure on one split, seed by seed and as means; a trial with a diverged seed has no mean."""
    results = analysis.results(measure, split)
    points = [(t, s) for t in results for s in t.seeds if math.isfinite(s.value)]
    intervals = [(t, t.interval) for t in results]
    means = [(t, found) for t, found in intervals if math.isfinite(found.mean)]
    names = analysis.run_names
    return MeasureSeries(
        measure=measure,
        split=split,
        axis=axis,
        seed_y=[s.value for _, s in points],
        seed_names=[names[t.number, s.seed] for t, s in points],
        seeds=[s.seed for _, s in points],
        seed_trials=[t.number for t, _ in points],
        mean_y=[found.mean for _, found in means],
        half_widths=[found.half_width for _, found in means],
        counts=[found.n for _, found in means],
        trials=[t.number for t, _ in means],
        without_mean=[t.number for t, found in intervals if math.isinf(found.mean)],
        baselines=named_baselines(analysis, measure, split),
    )


def differences(analysis: Analysis, axis: Axis) -> Differences | None:
    """Every compared trial against the named one, which stands at 0; None where the decision has no contrasts."""
    decision, measure, named = analysis.decision, analysis.ranking, analysis.named
    if named is None or not decision.contrasts:
        return None
    scale = 100.0 if decision.is_relative else 1.0
    contrasts = {c.trial: c for c in decision.contrasts}
    shown = sorted(
        (t for t in analysis.trials if t.number in {named.number, *contrasts}), key=lambda t: axis.positions[t.number]
    )
    points = [
        (t, s, decision.worse(s.value, own, measure)) for t in shown for s, own in paired(t, named, decision.seeds)
    ]
    ends = [contrasts.get(t.number, Contrast(t.number, 0.0, math.nan, math.nan)) for t in shown]
    return Differences(
        reference=named.label,
        unit="%" if decision.is_relative else measure.unit,
        seed_x=[axis.positions[t.number] for t, _, _ in points],
        seed_y=[scale * worse for _, _, worse in points],
        seed_names=[f"{t.label}, seed {s.seed}" for t, s, _ in points],
        seeds=[s.seed for _, s, _ in points],
        seed_trials=[t.number for t, _, _ in points],
        x=[axis.positions[t.number] for t in shown],
        mean=[scale * c.difference for c in ends],
        below=[scale * (c.difference - c.low) for c in ends],
        above=[scale * (c.high - c.difference) for c in ends],
        trials=[t.number for t in shown],
    )


def named_baselines(analysis: Analysis, measure: Measure, split: str) -> dict[str, float]:
    """Every trivial predictor by its label; NaN where it has no value, or none that could be compared."""
    labels = analysis.record.predictors
    values = analysis.baselines(measure, split) if measure.is_comparable else {}
    return dict.fromkeys(labels.values(), math.nan) | {labels.get(name, name): v for name, v in values.items()}


# Over epochs


def epoch_curves(
    epochs: pd.DataFrame, trials: Sequence[TrialResult], measure: Measure, axis: Axis, split: str
) -> tuple[Curve, ...]:
    """The trials' curves of one measure on one split, in the order of the axis, from a record's table of epochs."""
    rows = epochs[epochs["split"] == split]
    if measure.column not in rows.columns or rows.empty:
        return ()
    numbers = rows.assign(value=pd.to_numeric(rows[measure.column], errors="coerce"))
    numbers = numbers.drop_duplicates(["run", "epoch"], keep="last")
    table = numbers.set_index(["run", "epoch"])["value"].unstack()
    values = dict(zip(map(str, table.index), table.to_numpy(dtype=float), strict=True))
    numbered = [int(e) for e in table.columns]
    curves = [_curve(t, values, numbered, axis) for t in trials]
    return tuple(sorted((c for c in curves if c.seeds), key=lambda c: c.position))


def _curve(trial: TrialResult, by_run: Mapping[str, np.ndarray], epochs: list[int], axis: Axis) -> Curve:
    seeds = [by_run[s.run] for s in trial.seeds if s.run in by_run]
    values = np.where(np.isfinite(seeds), seeds, np.nan) if seeds else np.empty((0, len(epochs)))
    # A plain mean: one missing seed makes it NaN, so that survivors are never averaged alone.
    mean = values.mean(axis=0).tolist() if seeds else []
    return Curve(trial.number, trial.label, axis.positions[trial.number], epochs, mean, values.tolist())


def weight_curves(analysis: Analysis, trial: TrialResult, axis: Axis) -> dict[str, Curve]:
    """Term -> its effective weight over a trial's epochs, of the terms that take part; nothing where none were recorded."""
    found = {
        term: epoch_curves(analysis.record.epochs, [trial], analysis.measure(f"weight_{term}"), axis, "val")
        for term, weight in trial.weights.items()
        if weight
    }
    return {term: curves[0] for term, curves in found.items() if curves}


# How runs ended


def outcome_counts(analysis: Analysis, axis: Axis) -> OutcomeCounts:
    """Runs of each trial by outcome, failed ones too; those still waiting or running count as unfinished."""
    started = [t for t in analysis.trials if t.seeds]
    told = [Counter(analysis.endings[s.run] for s in t.seeds) for t in started]
    names = dict.fromkeys((LEARNT, MEDIAN_ONLY, *analysis.record.outcomes, FAILED))
    counts = {name: [of_trial[name] for of_trial in told] for name in names}
    ended = [sum(runs) for runs in zip(*counts.values(), strict=True)]
    counts[UNFINISHED] = [len(t.seeds) - n for t, n in zip(started, ended, strict=True)]
    return OutcomeCounts(axis, [axis.positions[t.number] for t in started], [t.number for t in started], counts)


def gradient_points(analysis: Analysis, axis: Axis) -> tuple[GradientPoint, ...]:
    """The largest gradient norm of each run over all of its epochs."""
    epochs = analysis.record.epochs
    if "grad_norm_max" not in epochs.columns:
        return ()
    largest = pd.to_numeric(epochs["grad_norm_max"], errors="coerce").groupby(epochs["run"]).max()
    norms = {str(run): float(norm) for run, norm in largest.items()}
    return tuple(
        GradientPoint(
            axis.positions[t.number],
            t.number,
            _norm(s.outcome, norms[s.run]),
            analysis.endings[s.run],
            f"{t.label}, seed {s.seed}",
        )
        for t in analysis.trials
        for s in t.seeds
        if s.run in norms and (s.outcome == "non_finite" or not math.isnan(norms[s.run]))
    )


def _norm(outcome: str, norm: float) -> float:
    return math.inf if math.isnan(norm) and outcome == "non_finite" else norm


def break_rates(analysis: Analysis, axis: Axis) -> BreakRates:
    """How often training broke at each position: in any way, and in each way that occurred where there are several."""
    found, kinds = analysis.instability.rates, analysis.broken_kinds
    rates = {"broken": [rate.broken for rate in found]} if len(kinds) != 1 else {}
    rates |= {kind: [rate.kinds[kind] for rate in found] for kind in kinds}
    trials = [rate.trial for rate in found]
    return BreakRates(axis, [axis.positions[t] for t in trials], trials, rates, analysis.breakage.threshold)


def beside_curves(analysis: Analysis) -> tuple[RunCurve, ...]:
    """The broken run and its unbroken neighbour over epochs, in that order; none where there is no such pair."""
    pair = analysis.beside
    if pair is None:
        return ()
    onsets = {run.run: run.epoch for run in analysis.instability.runs}
    return tuple(
        _run_curve(analysis, trial, seed, onsets.get(seed.run)) for trial, seed in (pair.broken, pair.unbroken)
    )


def _run_curve(analysis: Analysis, trial: TrialResult, seed: SeedValue, onset: int | None) -> RunCurve:
    epochs = analysis.record.epochs
    rows = epochs[(epochs["split"] == "val") & (epochs["run"] == seed.run)].sort_values("epoch")
    columns = ("grad_norm_median", "grad_norm_max", analysis.ranking.column)
    numbers = rows.reindex(columns=[*columns]).apply(pd.to_numeric, errors="coerce")
    norms, largest, values = (numbers[column].tolist() for column in columns)
    numbered = rows["epoch"].astype(int).tolist()
    return RunCurve(trial.label, analysis.endings[seed.run], numbered, norms, largest, values, bool(seed.broke), onset)


# Parts of a whole


def contributions(analysis: Analysis, axis: Axis, split: str = "val") -> Shares:
    """Weight times final unweighted term, a term each: what the combined loss is made of at every position."""
    parts: dict[str, dict[int, float]] = {}
    for term in analysis.terms:
        trials = analysis.results(analysis.measure(f"term_{term}"), split)
        effective = {t.number: t.mean for t in analysis.results(analysis.measure(f"weight_{term}"), split)}
        # A term that is not weighted need not be measured: it contributes nothing either way.
        parts[term] = {
            t.number: (t.weights[term] if analysis.weighting(t) == FIXED else effective[t.number]) * t.mean
            if t.weights[term]
            else 0.0
            for t in trials
        }
    return _shares(axis, parts)


def gradient_shares(analysis: Analysis, axis: Axis) -> Shares:
    """Each term's share of the gradient in the last epoch, averaged over seeds."""
    epochs = analysis.record.epochs
    terms = [t for t in analysis.terms if f"share_{t}" in epochs.columns]
    splits: list[str] = list(epochs["split"].unique()) if terms else []
    parts: dict[str, dict[int, float]] = {}
    for term in terms:
        for split in splits:
            trials = analysis.results(analysis.measure(f"share_{term}"), split)
            parts.setdefault(term, {}).update({t.number: t.mean for t in trials if math.isfinite(t.mean)})
    return _shares(axis, parts)


def gradient_agreement(analysis: Analysis) -> Agreement:
    """The trials of which both a finite value and the last epochs' agreement are known, in trial order."""
    columns = [str(c) for c in analysis.record.epochs.columns]
    similarity, cosine = (_pair_means(analysis, columns, prefix) for prefix in ("similarity_", "cosine_"))
    known = [
        t for t in analysis.trials if t.is_complete and math.isfinite(t.mean) and {*similarity} & {*cosine} & {t.number}
    ]
    return Agreement(
        [t.number for t in known],
        [t.label for t in known],
        [t.mean for t in known],
        [similarity[t.number] for t in known],
        [cosine[t.number] for t in known],
    )


def _pair_means(analysis: Analysis, columns: Sequence[str], prefix: str) -> dict[int, float]:
    """Trial -> the mean over its pairs of terms; a pair that a trial doesn't weigh isn't there."""
    values: dict[int, list[float]] = {}
    for column in (c for c in columns if c.startswith(prefix)):
        for trial in analysis.results(analysis.measure(column)):
            if math.isfinite(trial.mean):
                values.setdefault(trial.number, []).append(trial.mean)
    return {number: statistics.fmean(found) for number, found in values.items()}


def _shares(axis: Axis, parts: Mapping[str, Mapping[int, float]]) -> Shares:
    numbers = [n for n in axis.positions if parts and all(math.isfinite(v.get(n, math.nan)) for v in parts.values())]
    numbers.sort(key=lambda n: axis.positions[n])
    named: dict[str, Sequence[float]] = {t: [values[n] for n in numbers] for t, values in parts.items()}
    return Shares(axis, [axis.positions[n] for n in numbers], numbers, {t: list(v) for t, v in named.items()})
