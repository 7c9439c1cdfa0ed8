"""The rule by which a study gives advice, in one place: for the page, `sweep best`, `sweep status` and `sweep start`.

It needs a few plain numbers a trial, and neither numpy nor pandas: ten thousand trials are judged in an instant.
"""

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

from depth_loss_sweep.reports.measures import Measure

Status = Literal["recommended", "ahead", "incomparable", "unfinished", "diverged"]
VERDICTS = {"recommended": "recommended", "ahead": "ahead, but no advice"}
Tone = Literal["good", "warn", "bad", "plain"]
NOTHING_LEARNT = "Nothing was learnt: no trial beats the trivial predictors"
COMBINED, OTHER_PICTURES = "the combined loss is not comparable", "the trials differ in their data"


@dataclass(frozen=True)
class Contender:
    """A trial of which every seed has its final value; infinite where the run went non-finite."""

    number: int
    values: tuple[float, ...]

    @cached_property
    def mean(self) -> float:
        """The mean over the seeds; infinite with a diverged one: survivors are never averaged alone."""
        return statistics.fmean(self.values)

    @property
    def standard_error(self) -> float:
        """Of the mean; NaN for one seed."""
        n = len(self.values)
        if n < 2 or not math.isfinite(self.mean):
            return math.nan
        return math.sqrt(math.fsum((v - self.mean) ** 2 for v in self.values) / (n - 1) / n)


@dataclass(frozen=True)
class Advice:
    """What may be said of a study. `trial` is None where none is ahead; `objection` says why none can be.

    It is recommended where it beats the trivial predictors, as far as these are known, and else only ahead.

    `tied` are all trials within one standard error of `best`, the trial with the best mean; `trial` is the simplest of
    them. `beating` trials of `compared` beat every trivial predictor; None where no predictor is known.
    """

    status: Status
    trial: int | None = None
    best: int | None = None
    tied: tuple[int, ...] = ()
    seeds: int = 0
    compared: int = 0
    beating: int | None = None
    beats_baselines: bool | None = None
    unfinished: bool = False
    objection: str = ""

    @property
    def nothing_learnt(self) -> bool:
        """Whether no network is better than a predictor that does not look at the image."""
        return self.compared > 0 and self.beating == 0

    @property
    def verdict(self) -> str:
        """What `trial` is called wherever it is named; empty where there is none."""
        return VERDICTS.get(self.status, "")

    def headline(self, name: str) -> tuple[str, Tone]:
        """The answer in one line, its trial called `name`."""
        if self.status == "unfinished":
            return "No trial has finished yet", "plain"
        if self.nothing_learnt:
            return NOTHING_LEARNT, "bad"
        if self.status == "incomparable":
            return f"No recommendation: {self.objection}", "warn"
        if self.status == "diverged":
            return "No recommendation: every trial diverged", "bad"
        if self.seeds < 2:
            return f"Ahead, from a single seed: {name}", "warn"
        if self.unfinished:
            return f"So far: {name}", "warn"
        if self.compared == 1:
            return f"Only one trial: {name}", "plain"
        if len(self.tied) == self.compared:
            return f"No difference that this study can show; the simplest are {name}", "warn"
        return f"Use {name}", "good"


def advise(
    contenders: Sequence[Contender],
    measure: Measure,
    baselines: Mapping[str, float],
    weights_of: Callable[[Sequence[int]], Mapping[int, Mapping[str, float]]],
    objection: str,
    unfinished: bool,
) -> Advice:
    """Judge trials by the one-standard-error rule (Breiman et al. 1984).

    Trials within one standard error of the best mean are "no difference", and among them the simplest is taken (see
    `simplicity`). `baselines` are the trivial predictors' values of the same measure; `weights_of` gives trials' weights.
    """
    finite = [c for c in contenders if math.isfinite(c.mean)]
    beating = sum(bool(beats(c.mean, baselines, measure)) for c in finite) if baselines else None
    about: dict[str, Any] = {"compared": len(contenders), "beating": beating, "unfinished": unfinished}
    if objection:
        return Advice("incomparable", objection=objection, **about)
    if not finite:
        return Advice("diverged" if contenders else "unfinished", **about)
    best = min(finite, key=lambda c: (cost(c.mean, measure), c.number))
    tied = _within_one_error(finite, best, measure)
    weights = weights_of([c.number for c in tied])
    chosen = min(tied, key=lambda c: simplicity(weights[c.number], c.number))
    is_better = beats(chosen.mean, baselines, measure)
    return Advice(
        "ahead" if is_better is False else "recommended",
        trial=chosen.number,
        best=best.number,
        tied=tuple(c.number for c in tied),
        seeds=len(chosen.values),
        beats_baselines=is_better,
        **about,
    )


def objection_to(objective: Measure, variables: Sequence[str]) -> str:
    """Why a study's trials cannot be compared at all, in a few words; empty where they can."""
    if not objective.is_comparable:
        return COMBINED
    return OTHER_PICTURES if any(name.startswith("data.") for name in variables) else ""


def ranking_of(objective: Measure, rmse: Measure) -> Measure:
    """What trials are ranked by: the objective, or RMSE in place of the incomparable combined loss."""
    return objective if objective.is_comparable else rmse


def cost(value: float, measure: Measure) -> float:
    """A value as something of which less is better."""
    return -value if measure.higher_is_better else value


def _within_one_error(finite: Sequence[Contender], best: Contender, measure: Measure) -> list[Contender]:
    """The trials whose mean is within one standard error (the best's own) of the best; it alone if unknown."""
    error = best.standard_error
    limit = cost(best.mean, measure) + error
    return [c for c in finite if c is best or cost(c.mean, measure) <= limit]


def simplicity(weights: Mapping[str, float], number: int) -> tuple[int, float, int]:
    """How simple a trial is, least first: non-zero terms, distance from equal weights, trial number."""
    used = [w for w in weights.values() if w > 0]
    # Among as many terms, the distance from equal shares grows with the sum of the shares' squares.
    return len(used), round(math.fsum(w * w for w in used) / sum(used) ** 2, 12) if used else 0.0, number


# The trivial predictors


def predictor_values(table: Mapping[str, Mapping[str, Any]], measure: Measure) -> dict[str, float]:
    """Trivial predictor -> its value of a measure; those that do not have it are left out."""
    values = {name: numbers.get(measure.column) for name, numbers in table.items()}
    return {name: float(v) for name, v in values.items() if isinstance(v, (int, float)) and math.isfinite(v)}


def best_baseline(baselines: Mapping[str, float], measure: Measure) -> tuple[str, float] | None:
    """The better of the trivial predictors and its value."""
    return min(baselines.items(), key=lambda item: cost(item[1], measure)) if baselines else None


def beats(value: float, baselines: Mapping[str, float], measure: Measure) -> bool | None:
    """Whether a value is better than every trivial predictor's; None where none is known."""
    best = best_baseline(baselines, measure)
    return None if best is None else cost(value, measure) < cost(best[1], measure)
