"""Where training breaks: by seed, by trial and, on a line, from where on. Numbers from trials alone.

The runs of one seed share its shuffling and its start: a seed is a cluster, and counts as one try.
"""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy import special

from depth_loss_sweep.reports.intervals import CONFIDENCE, proportion_interval
from depth_loss_sweep.reports.trials import TrialResult

LEVEL = 1 - CONFIDENCE
Side = Literal["from", "up to"]


@dataclass(frozen=True)
class Threshold:
    """From where on a line (or up to where) training breaks: for the median seed, between `low` and `high`.

    `low` is None where it may be before the line begins, `high` where it may be beyond its end; both are in the order of a
    walk towards breaking. `confidence` is the interval's, `p` that of breaking having nothing to do with the place.
    """

    side: Side
    low: float | None
    high: float | None
    confidence: float
    p: float


@dataclass(frozen=True)
class Breakage:
    """How runs ended; a run counts once, however many trials show it.

    `kinds` are the outcomes of broken runs alone, `trials` those with a broken run, `seeds` how many runs of each seed broke,
    and of how many. `probability` is the exact 95 % interval of a seed's probability to break anywhere.
    """

    counts: Counter[str]
    kinds: Counter[str]
    finished: int
    broken: int
    trials: tuple[TrialResult, ...]
    seeds: dict[int, tuple[int, int]]
    probability: tuple[float, float]
    threshold: Threshold | None

    @property
    def broken_seeds(self) -> tuple[int, ...]:
        """The seeds under which a run broke."""
        return tuple(seed for seed, (broken, _) in self.seeds.items() if broken)


def breakage(trials: Sequence[TrialResult], line: Mapping[int, float]) -> Breakage:
    """Count outcomes over all finished runs; `line` is trial -> place where the study sweeps one variable, else empty."""
    runs = {s.run: (t.number, s) for t in reversed(trials) for s in t.seeds}
    ended = [(number, s) for number, s in runs.values() if s.broke is not None]
    seeds = {
        seed: (sum(s.broke is True for s in own), len(own))
        for seed in sorted({s.seed for _, s in ended})
        if (own := [s for _, s in ended if s.seed == seed])
    }
    broken_seeds = sum(broken > 0 for broken, _ in seeds.values())
    along: dict[int, list[tuple[float, bool]]] = {}
    for number, s in ended:
        if number in line:
            along.setdefault(s.seed, []).append((line[number], s.broke is True))
    return Breakage(
        counts=Counter(s.outcome for _, s in runs.values()),
        kinds=Counter(s.outcome for _, s in ended if s.broke),
        finished=len(ended),
        broken=sum(s.broke is True for _, s in ended),
        trials=tuple(t for t in trials if t.broken),
        seeds=seeds,
        probability=proportion_interval(broken_seeds, len(seeds)) if seeds else (math.nan, math.nan),
        threshold=threshold([sorted(own) for own in along.values()]) if broken_seeds > 1 else None,
    )


def threshold(seeds: Sequence[Sequence[tuple[float, bool]]]) -> Threshold | None:
    """From where on training breaks, by each seed's runs in order of place: (place, whether it broke).

    None unless breaking goes with the place: by the exact test of rank sums within seeds (Wilcoxon 1945, van Elteren 1960), which
    leaves each seed its own number of broken runs. The interval is the sign test's for the median of the seeds' onsets.
    """
    rising = _rank_sum_p([[broke for _, broke in own] for own in seeds])
    falling = _rank_sum_p([[broke for _, broke in reversed(own)] for own in seeds])
    p = min(1.0, 2 * min(rising, falling))
    if p >= LEVEL:
        return None
    side: Side = "from" if rising < falling else "up to"
    walks = [own if side == "from" else own[::-1] for own in seeds]
    onsets = sorted(
        (_onset(own) for own in walks), key=lambda o: (o[1] is None, _along(o[1], side), _along(o[0], side))
    )
    inside, confidence = _sign_interval(len(onsets))
    return Threshold(side, onsets[inside][0], onsets[-1 - inside][1], confidence, p)


def _along(place: float | None, side: Side) -> float:
    """A place as a distance in the direction of breaking; the line's beginning comes first."""
    return -math.inf if place is None else place if side == "from" else -place


def _rank_sum_p(seeds: Sequence[Sequence[bool]]) -> float:
    """P of at least such a sum of broken runs' places within seeds, were the broken ones of each seed anywhere in it."""
    law, total = np.ones(1), 0
    for broke in seeds:
        law = np.convolve(law, _rank_sum_law(len(broke), sum(broke)))
        total += sum(rank for rank, is_broken in enumerate(broke) if is_broken)
    return float(law[total:].sum())


def _rank_sum_law(n: int, k: int) -> np.ndarray:
    """The law of the sum of k different ranks of 0 to n - 1, by the sum."""
    most = sum(range(n - k, n))
    ways = np.zeros((k + 1, most + 1))
    ways[0, 0] = 1.0
    for rank in range(n):
        for size in range(min(k, rank + 1), 0, -1):
            ways[size, rank:] += ways[size - 1, : most + 1 - rank]
    return ways[k] / ways[k].sum()


def _onset(walk: Sequence[tuple[float, bool]]) -> tuple[float | None, float | None]:
    """The last unbroken and the first broken place of one seed, with the fewest runs on the wrong side; the later of equals."""
    wrong = [
        sum(broke for _, broke in walk[:cut]) + sum(not broke for _, broke in walk[cut:])
        for cut in range(len(walk) + 1)
    ]
    cut = max(range(len(wrong)), key=lambda c: (-wrong[c], c))
    return walk[cut - 1][0] if cut else None, walk[cut][0] if cut < len(walk) else None


def _sign_interval(n: int) -> tuple[int, float]:
    """How many of n ordered values lie outside, on each side, of an interval of their median, and its confidence."""
    outside = 0
    while outside + 1 < (n + 1) // 2 and 2 * special.bdtr(outside + 1, n, 0.5) <= LEVEL:
        outside += 1
    return outside, float(1 - 2 * special.bdtr(outside, n, 0.5))
