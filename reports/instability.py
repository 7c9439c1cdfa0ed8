"""Instability as a quantity: when each broken run broke, how likely that is at each trial's weights, which runs to lay side by side.

Numbers from trials and from the epochs of their broken runs. Light: no pandas.
"""

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from typing import Any

import numpy as np

from depth_loss_sweep.reports.intervals import proportion_interval
from depth_loss_sweep.reports.trials import SeedValue, TrialResult, normalised

Epoch = Mapping[Any, Any]
"""A validation row of the table of epochs; a number that was not measured is None or NaN, or has no key."""

NON_FINITE, FLAT, SPIKING = "non_finite", "flat", "spiking"


@dataclass(frozen=True)
class Rules:
    """By what a run was judged; NaN where that is not known.

    Flat: predictions vary less than `flat_ratio` times as much as the truth. Spiking: a step's gradient norm is over `spike_ratio`
    times the run's usual one.
    """

    flat_ratio: float = math.nan
    spike_ratio: float = math.nan


@dataclass(frozen=True)
class Break:
    """Where a run became non-finite: epoch and step, from 1; the first term that was not finite, or "gradient" or "prediction"."""

    epoch: int
    step: int
    term: str


@dataclass(frozen=True)
class BrokenRun:
    """One run in which training broke, under the first trial that shows it.

    `epoch` is its onset, from 1; None where that was not measured. `step` and `term` are those of `Break`, known of non-finite
    runs alone. `leading_term` has the largest share of the loss gradient at the end of the onset epoch, `leading_share` (a fraction).
    """

    run: str
    trial: int
    seed: int
    kind: str
    epoch: int | None = None
    step: int | None = None
    term: str | None = None
    leading_term: str | None = None
    leading_share: float | None = None


@dataclass(frozen=True)
class Proportion:
    """`count` of `n`, and the exact 95 % interval of the probability (Clopper, Pearson 1934)."""

    count: int
    n: int
    low: float
    high: float


@dataclass(frozen=True)
class Onsets:
    """Onset epochs over the broken runs of which they are known, `measured` of them."""

    measured: int
    median: float
    first: int
    last: int


@dataclass(frozen=True)
class BreakRate:
    """How often training broke at a trial's weights: in any way, and kind by kind, of the runs that have an outcome.

    Each run has a seed of its own, so that a run is one try. `onsets` is None where none is known.
    """

    trial: int
    broken: Proportion
    kinds: dict[str, Proportion]
    onsets: Onsets | None


@dataclass(frozen=True)
class Instability:
    """Every broken run, and how likely breaking is at each trial that has a run with an outcome; both in trial order."""

    runs: tuple[BrokenRun, ...]
    rates: tuple[BreakRate, ...]

    def as_dict(self) -> dict[str, Any]:
        """JSON-able."""
        return {"runs": [asdict(run) for run in self.runs], "rates": [asdict(rate) for rate in self.rates]}


def instability(
    trials: Sequence[TrialResult],
    kinds: Sequence[str],
    breaks: Mapping[str, Break],
    epochs: Mapping[str, Sequence[Epoch]],
    rules: Rules,
) -> Instability:
    """Measure how training broke. `kinds` are the outcomes of broken runs, `breaks` and `epochs` (in their order) go by run."""
    broken: dict[str, BrokenRun] = {}
    for trial in trials:
        for seed in trial.seeds:
            if seed.broke and seed.run not in broken:
                found = _broken_run(trial.number, seed, breaks.get(seed.run), epochs.get(seed.run, ()), rules)
                broken[seed.run] = found
    return Instability(tuple(broken.values()), tuple(_rate(t, kinds, broken) for t in trials if t.finished))


def _broken_run(trial: int, seed: SeedValue, broke: Break | None, epochs: Sequence[Epoch], rules: Rules) -> BrokenRun:
    if seed.outcome == NON_FINITE:
        where = asdict(broke) if broke else {}
        return BrokenRun(seed.run, trial, seed.seed, seed.outcome, **where)
    is_flat = seed.outcome == FLAT
    onset = flat_onset(epochs, rules.flat_ratio) if is_flat else spike_onset(epochs, rules.spike_ratio)
    term, share = _leading(next((e for e in epochs if e["epoch"] == onset), {}))
    return BrokenRun(seed.run, trial, seed.seed, seed.outcome, onset, leading_term=term, leading_share=share)


def flat_onset(epochs: Sequence[Epoch], ratio: float) -> int | None:
    """The first epoch from which on predictions stayed flat on validation, to the last one.

    None where the last epoch was not flat, or one that may have been the first was not measured.
    """
    onset = None
    for epoch in reversed(epochs):
        prediction, truth = (_number(epoch, f"spread_{name}") for name in ("prediction", "truth"))
        if math.isnan(prediction) or math.isnan(truth):
            return None
        if not prediction < ratio * truth:
            break
        onset = int(epoch["epoch"])
    return onset


def spike_onset(epochs: Sequence[Epoch], ratio: float) -> int | None:
    """The first epoch with a step whose gradient norm is over `ratio` times the median of the epochs' medians; None without one."""
    medians = [m for epoch in epochs if math.isfinite(m := _number(epoch, "grad_norm_median"))]
    if not medians:
        return None
    limit = ratio * statistics.median(medians)
    return next((int(epoch["epoch"]) for epoch in epochs if _number(epoch, "grad_norm_max") > limit), None)


def _leading(epoch: Epoch) -> tuple[str | None, float | None]:
    shares = {name.removeprefix("share_"): _number(epoch, name) for name in epoch if name.startswith("share_")}
    term = max(shares, key=lambda name: (shares[name] > 0, shares[name]), default=None)
    return (term, shares[term]) if term is not None and shares[term] > 0 else (None, None)


def _number(epoch: Epoch, name: str) -> float:
    value = epoch.get(name)
    return math.nan if value is None else float(value)


def _rate(trial: TrialResult, kinds: Sequence[str], broken: Mapping[str, BrokenRun]) -> BreakRate:
    own = [broken[seed.run] for seed in trial.seeds if seed.broke]
    known = sorted(run.epoch for run in own if run.epoch is not None)
    return BreakRate(
        trial=trial.number,
        broken=_proportion(len(own), trial.finished),
        kinds={kind: _proportion(sum(run.kind == kind for run in own), trial.finished) for kind in kinds},
        onsets=Onsets(len(known), float(statistics.median(known)), known[0], known[-1]) if known else None,
    )


@cache
def _proportion(count: int, n: int) -> Proportion:
    return Proportion(count, n, *proportion_interval(count, n))


# A run that broke beside one that did not


@dataclass(frozen=True)
class Beside:
    """A run that broke, and the unbroken one of the same seed at the nearest weights: each by its trial and run."""

    broken: tuple[TrialResult, SeedValue]
    unbroken: tuple[TrialResult, SeedValue]


def nearest_pair(trials: Sequence[TrialResult], line: Mapping[int, float], terms: tuple[str, ...]) -> Beside | None:
    """The two runs of one seed, one broken and one not, whose weights are nearest to each other; of equals the first.

    Near is meant on the line (trial -> place) where the study has one, else in weights scaled to sum to 1. None where no seed has both.
    """
    runs = [(t, s) for t in trials for s in t.seeds]
    best: tuple[float, Beside] | None = None
    for seed in sorted({s.seed for _, s in runs}):
        broken, unbroken = ([(t, s) for t, s in runs if s.seed == seed and s.broke is broke] for broke in (True, False))
        there = np.array([_place(t, line, terms) for t, _ in unbroken])
        for run in broken if unbroken else ():
            distances = np.linalg.norm(there - _place(run[0], line, terms), axis=1).round(9)  # 0.3 - 0.2 is 0.2 - 0.1
            nearest = int(distances.argmin())
            if best is None or (distances[nearest], run[0].number) < (best[0], best[1].broken[0].number):
                best = float(distances[nearest]), Beside(run, unbroken[nearest])
    return best[1] if best else None


def _place(trial: TrialResult, line: Mapping[int, float], terms: tuple[str, ...]) -> np.ndarray:
    return np.array([line[trial.number]]) if line else normalised(trial.weights, terms)
