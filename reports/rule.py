"""The rule by which weights are chosen from arrays, many studies at once: `reports.decision` asks it of one, benchmarks of
thousands.
"""

from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from depth_loss_sweep.reports import comparisons
from depth_loss_sweep.reports.comparisons import Fit, Gate

LEAST_LOSS = 10  # margins that a broken run costs at least
Flags = TypeVar("Flags", bool, np.ndarray)


@dataclass(frozen=True)
class Design:
    """What is known before the numbers: the weights' places on a line (None where there is none), how simple each is
    (ranks, the simplest first), the margin and level, and whether a search chose the weights by the numbers. Of a race,
    `among` are how many weights began, and the `level` is one of so many `stages`.
    """

    places: np.ndarray | None
    simplicity: np.ndarray
    margin: float
    level: float
    is_search: bool = False
    among: int = 0
    stages: int = 1


@dataclass(frozen=True)
class Judgement:
    """Of every study: whether equality is rejected, else whether all weights are within the margin; who may be best
    (studies, weights); the weight that is named, by how much it may be worse than the best, and whether it was chosen as the
    simplest.
    """

    gate: Gate
    fit: Fit
    rejects: np.ndarray
    all_within: np.ndarray
    kept: np.ndarray
    named: np.ndarray
    bound: np.ndarray
    is_simplest: np.ndarray


def judge(
    y: np.ndarray,
    unbroken: np.ndarray,
    nameable: np.ndarray,
    design: Design,
    rejected: np.ndarray | None = None,
) -> Judgement:
    """Judge values of (studies, weights, seeds), less is better, of at least two weights and three seeds.

    `nameable` (studies, weights) are those that beat the trivial predictors, `rejected` (studies,) where an earlier stage of a
    race rejected equality, which stays. The gate is asked of all runs, levels of the unbroken ones.
    """
    found, level = comparisons.fit(y, unbroken, design.among, design.stages), design.level
    gate = comparisons.gate(y, design.places)
    kept = comparisons.kept(found, level)
    rejects = np.zeros(len(y), dtype=bool) if design.is_search else gate.p < level
    if rejected is not None:
        rejects = rejects | rejected
    all_within = ~rejects & _all_within(found, design.margin, level, ~rejects & (not design.is_search))
    score, allowed = scores(found, design), kept & nameable
    some = allowed.any(axis=1, keepdims=True)
    choice = np.where(allowed | ~some, score, np.inf).argmin(axis=1)
    simplest = _simplest(found, choice, allowed, design, rejects | all_within)
    named = np.where(rejects | all_within, simplest, choice)
    bound = comparisons.regret_bound(found, named, level)
    return Judgement(gate, found, rejects, all_within, kept, named, bound, (named != choice) | all_within)


def is_over(rejects: Flags, all_within: Flags, is_settled: Flags, is_alone: Flags) -> Flags:
    """Whether a race ends after a stage: with an answer within the margin, or with one weight left, which nothing can follow."""
    return (rejects & is_settled) | all_within | is_alone


def scores(found: Fit, design: Design) -> np.ndarray:
    """What is least where training does best, (studies, weights); infinite without an unbroken run.

    On a line it has two parts, each as smooth as it seems: the level of unbroken runs, and the probability to break times
    what a broken run loses. Elsewhere it is the plain mean of all runs.
    """
    measured = found.counts > 0
    if design.places is None:
        return np.where(measured, found.y.mean(axis=2), np.inf)
    score = comparisons.smoothed(found, design.places).copy()
    order, broken = np.argsort(design.places), ~found.unbroken
    runs = np.full(len(order), float(found.y.shape[2]))
    for study in np.flatnonzero(broken.any(axis=(1, 2)) & measured.any(axis=1)):
        values, broke = found.y[study], broken[study]
        loss = max(LEAST_LOSS * design.margin, float(values[broke].mean() - values[~broke].mean()))
        score[study, order] += loss * comparisons.break_shares(broke.sum(axis=1)[order], runs)
    return np.where(measured, score, np.inf)


def _all_within(found: Fit, margin: float, level: float, asked: np.ndarray) -> np.ndarray:
    """Whether every weight is within the margin of the best; whoever has no unbroken run isn't known to be."""
    within = asked & (found.counts > 0).all(axis=1)
    # The worst mean first: where it is too far off, the other ten thousand needn't be asked.
    for of in np.argsort(found.means, axis=1)[:, ::-1].T:
        if not within.any():
            break
        within = within & (comparisons.regret_bound(found, of, level) <= margin)
    return within


def _simplest(found: Fit, choice: np.ndarray, allowed: np.ndarray, design: Design, asked: np.ndarray) -> np.ndarray:
    """The simplest allowed weight that is certified and broke no more often than the choice; that one where there is none."""
    rows, broken = np.arange(len(choice)), (~found.unbroken).sum(axis=2)
    most = broken[rows, choice]
    # A bound is no less than what the weight that is ahead makes it: most of ten thousand needn't be asked for theirs.
    to_ahead = comparisons.differences(found, comparisons.ahead(found), design.level)
    with np.errstate(invalid="ignore"):
        allowed = allowed & (to_ahead.mean + to_ahead.half <= design.margin)
    named, is_open = choice.copy(), asked.copy()
    for weight in np.argsort(design.simplicity, kind="stable"):
        if not is_open.any():
            break
        is_open &= choice != weight  # it is as simple as can be had
        fits = is_open & allowed[:, weight] & (broken[:, weight] <= most)
        if fits.any():
            bound = comparisons.regret_bound(found, np.full(len(choice), weight), design.level)
            fits &= bound <= design.margin
            named[fits], is_open[fits] = weight, False
    return named
