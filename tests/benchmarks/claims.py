"""Are the paper's claims judged at the error that is stated? `reports.claims` and `reports.dose` on made-up seeds of known truth.

python -m tests.benchmarks.claims --studies 500 --truths "all equal": a part of the grid. A family of ten claims is tested as studies
are: paired claims at 5, 10 and 20 seeds while they are open, the others once. A verdict is false where the truth doesn't have it.
"""

import argparse
import math
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np

from depth_loss_sweep.reports import claims
from depth_loss_sweep.reports.claims import LOOKS, ONCE, Looks, Verdict
from depth_loss_sweep.reports.dose import Onset, calm_seeds, instability
from depth_loss_sweep.reports.experiments import FAMILY, MARGIN, MIDDLE_SEEDS
from tests.benchmarks.answer import STORE as ANSWERS
from tests.benchmarks.answer import in_order, run

STORE = ANSWERS.with_name("claims.jsonl")
SIZE, BAR = FAMILY, 0.06
STUDIES, QUICK_STUDIES, AGAIN = 5000, 40, 40_000
PART = 5  # of the studies where pictures are drawn, which takes most of the time
DRAWS = 1999  # of pictures, in a study
NOISES = ("normal", "t3", "skewed runs", "skewed differences")
SPREADS = (0.01, 0.03)  # of a paired difference, relative
TRUTHS = ("all equal", "equivalent", "at the margin", "half differ")
PAPERS = ("paper, all equal", "paper, at the margin")  # its own kinds of claims
DOSES = tuple(round(0.15 * i, 2) for i in range(11))
EXPONENTIAL = "exponential differences"  # beyond the bar: what a skewness of 2 does


@dataclass(frozen=True)
class Cell:
    """A family of claims: its truth, its noise, and how far paired differences spread."""

    truth: str
    noise: str
    sd: float

    @property
    def name(self) -> str:
        """A cell in words."""
        return f"{self.truth}, {self.noise}, {self.sd:.0%}"


@dataclass(frozen=True)
class MadeUp:
    """A claim of known truth: its test after so many seeds, the verdicts that are false, the effect of its (first) interval."""

    test: Callable[[int], claims.Test]
    false: tuple[Verdict, ...] = ("supported", "contradicted")
    effect: float = math.nan
    looks: tuple[int, ...] = LOOKS
    shares: tuple[float, ...] = claims.SHARES


def cells(truths: Sequence[str], noises: Sequence[str] = NOISES) -> list[Cell]:
    """The grid."""
    return [Cell(*parts) for parts in product(truths, noises, SPREADS)]


# Made-up claims


def noise(kind: str, shape: tuple[int, ...], random: np.random.Generator) -> np.ndarray:
    """Of a paired difference, with mean 0 and a standard deviation of 1."""
    if kind == "normal":
        return random.standard_normal(shape)
    if kind == "t3":
        return random.standard_t(3, shape) / math.sqrt(3)
    if kind == "skewed runs":  # of both, so that their difference isn't
        return (random.exponential(size=shape) - random.exponential(size=shape)) / math.sqrt(2)
    if kind == "skewed differences":  # a skewness of 1
        return (random.gamma(4, size=shape) - 4) / 2
    return random.exponential(size=shape) - 1


def _pair(cell: Cell, gain: float, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Values of a and b under 20 seeds, b worse than a by this share."""
    gaps = math.log1p(gain) + cell.sd * noise(cell.noise, (LOOKS[-1],), random)
    return np.ones(LOOKS[-1]), np.exp(gaps)


def _difference(cell: Cell, gain: float, random: np.random.Generator) -> MadeUp:
    a, b = _pair(cell, gain, random)
    false: tuple[Verdict, ...] = ("contradicted",) if gain > 0 else ("supported",) if gain < 0 else MadeUp.false
    return MadeUp(lambda n: claims.difference(a[:n], b[:n], is_relative=True), false, gain)


def _equivalence(cell: Cell, gain: float, random: np.random.Generator) -> MadeUp:
    a, b = _pair(cell, gain, random)
    false: tuple[Verdict, ...] = MadeUp.false if gain else ("contradicted",)
    return MadeUp(lambda n: claims.equivalence(a[:n], b[:n], MARGIN, is_relative=True), false, gain)


def _trade_off(cell: Cell, gain: float, random: np.random.Generator) -> MadeUp:
    """Five weights; the middle one beats both ends by the gain. Ten seeds choose, twenty others test."""
    levels = np.array([0, 0, -math.log1p(gain), 0, 0])
    runs = np.exp(levels[:, None] + cell.sd / math.sqrt(2) * noise(cell.noise, (5, 10 + LOOKS[-1]), random))
    chosen = claims.interior(runs[:, :10], np.arange(5.0), is_relative=True)
    false: tuple[Verdict, ...] = ("contradicted",) if gain else ("supported",)
    if gain and chosen != 2:
        false = MadeUp.false
    own = gain if chosen == 2 else 0.0
    return MadeUp(lambda n: claims.trade_off(chosen, runs[:, 10 : 10 + n], MARGIN, is_relative=True), false, own)


def _instability(is_at_the_margin: bool, random: np.random.Generator) -> MadeUp:
    """A seed breaks with 10 % at any dose; or beyond .74 alone, so that it does at the last calm dose, and the onset is there."""
    seeds = calm_seeds(claims.LEVEL / SIZE)
    table = random.random((seeds, len(DOSES))) < 0.1
    if is_at_the_margin:
        breaks = random.random((seeds, 1)) < 0.1
        table = breaks & (np.array(DOSES) > 0.74)
    found = Onset(DOSES, table.astype(float))
    test = instability(found, beyond=0.5, within=(0.35, 0.75), calm=(0.6, 0.75))
    return MadeUp(lambda _: test, MadeUp.false, looks=(seeds,), shares=ONCE)


def pictures(scenes: int, gap: float, random: np.random.Generator) -> tuple[np.ndarray, list[str]]:
    """Losses of pictures by scene, of unequal numbers and right-skewed; all such scenes have a mean of 1 + gap."""
    sizes = random.integers(1, 8, size=scenes)
    place = np.repeat(np.arange(scenes), sizes)
    spread = 0.3 * random.standard_normal(scenes)[place] + 0.2 * random.standard_normal(len(place))
    return (1 + gap) * np.exp(spread - (0.3**2 + 0.2**2) / 2), [*map(str, place)]


def _gap(gap: float, random: np.random.Generator) -> MadeUp:
    values, scenes = pictures(60, gap, random)
    test = claims.validation_gap(values, scenes, 1.0, 30, MARGIN, DRAWS, int(random.integers(2**32)))
    return MadeUp(lambda _: test, ("supported",) if gap else ("contradicted",), gap, looks=(1,), shares=ONCE)


def _gain_at_no_cost(cell: Cell, f1: float, rmse: float, random: np.random.Generator) -> MadeUp:
    """A gain of boundary F1 and an RMSE at most 2 % worse."""
    ours = 0.5 + f1 + 0.01 * noise(cell.noise, (LOOKS[-1],), random)
    theirs = np.full(LOOKS[-1], 0.5)
    a, b = _pair(cell, rmse, random)
    return MadeUp(
        lambda n: claims.all_of(
            [
                claims.difference(ours[:n], theirs[:n], is_relative=False, higher_is_better=True),
                claims.non_inferiority(a[:n], b[:n], MARGIN, is_relative=True),
            ]
        ),
        MadeUp.false,
        f1,
    )


def made_up(cell: Cell, random: np.random.Generator) -> dict[str, MadeUp]:
    """A family of the paper's size."""
    signs = random.choice([-1, 1], size=SIZE)
    edges = [MARGIN if sign > 0 else 1 / (1 + MARGIN) - 1 for sign in signs]  # the margin's two ends
    if cell.truth == "all equal":
        found = [_difference(cell, 0.0, random) for _ in edges]
    elif cell.truth == "equivalent":
        found = [_equivalence(cell, 0.0, random) for _ in edges]
    elif cell.truth == "at the margin":
        found = [_equivalence(cell, edge, random) for edge in edges]
    elif cell.truth == "half differ":
        found = [_difference(cell, 0.0 if i % 2 else 4 * cell.sd, random) for i in range(SIZE)]
    else:
        is_at = cell.truth == "paper, at the margin"
        gain = [edge if is_at else 0.0 for edge in edges]
        found = [
            _difference(cell, gain[0], random),
            _difference(cell, gain[1], random),
            _equivalence(cell, gain[2], random),
            _trade_off(cell, MARGIN if is_at else 0.0, random),
            _instability(is_at, random),
            _difference(cell, gain[5], random),
            _equivalence(cell, gain[6], random),
            _gap(abs(gain[7]), random),
            _difference(cell, gain[8], random),
            _gain_at_no_cost(cell, 0.02 if is_at else 0.0, 1 / (1 + MARGIN) - 1 if is_at else 0.0, random),
        ]
    return {f"H{i + 1}": claim for i, claim in enumerate(found)}


def judged(family: Mapping[str, MadeUp], size: int = SIZE) -> dict[str, claims.Finding]:
    """The findings when every claim is decided or has had its looks."""
    tests: dict[str, tuple[claims.Test, ...]] = dict.fromkeys(family, ())
    found: dict[str, claims.Finding] = {}
    while not found or any(finding.is_open for finding in found.values()):
        for name, claim in family.items():
            if not found or found[name].is_open:
                tests[name] += (claim.test(claim.looks[len(tests[name])]),)
        looks = {name: Looks(tests[name], family[name].shares) for name in family}
        found = claims.family(looks, size)
    return found


def simulate(cell: Cell, studies: int, attempt: int = 0, _whole: int = 0) -> dict[str, float]:
    """How often a family has a false verdict, how often what is shown misses the effect, and what is decided."""
    random = np.random.default_rng([zlib.crc32(cell.name.encode()), attempt])
    false = decided = shown = missed = 0
    for _ in range(studies):
        family = made_up(cell, random)
        found = judged(family)
        false += any(finding.verdict in family[name].false for name, finding in found.items())
        decided += sum(finding.verdict != "undecided" for finding in found.values())
        for name, finding in found.items():
            if math.isfinite(family[name].effect) and family[name].shares != ONCE:
                shown += 1
                missed += not finding.estimates[0].low <= family[name].effect <= finding.estimates[0].high
    rates = {"false": false / studies, "decided": decided / studies / SIZE}
    return rates | {"interval misses": missed / shown}


# Power and coverage


@dataclass(frozen=True)
class Alone:
    """One claim of a family in which nothing else is decided: the hardest place to be."""

    kind: str
    gain: float
    sd: float

    @property
    def name(self) -> str:
        """A cell in words."""
        return f"{self.kind}, effect {self.gain:.0%}, spread {self.sd:.1%}"


@dataclass(frozen=True)
class Covered:
    """A 95 % interval: of what, of which truth, over how many seeds or scenes."""

    what: str
    truth: str
    n: int

    @property
    def name(self) -> str:
        """A cell in words."""
        return f"{self.what}, {self.truth}, {self.n}"


ALONE = [
    *(Alone("difference", gain, sd) for gain, sd in product((0.01, 0.02, 0.03, 0.05), (0.012, 0.017, 0.024))),
    *(Alone("equivalence", gain, sd) for gain, sd in product((0.0, 0.01), (0.012, 0.017, 0.024))),
]
ONSETS = ("steep", "own onsets", "half from .6 on", "all from .6 on", "an eighth from .6 on", "nowhere")
COVERED = [
    *(Covered("gain", noise, n) for noise, n in product((*NOISES, EXPONENTIAL), LOOKS)),
    *(Covered("gap", "whole set", n) for n in (3, 8, 20, 60)),
    *(Covered("gap", "30 pictures", n) for n in (8, 20, 60)),
    *(Covered("onset", truth, n) for truth, n in product(ONSETS, (calm_seeds(), MIDDLE_SEEDS))),
]


def power(cell: Alone, studies: int, attempt: int = 0, _whole: int = 0) -> dict[str, float]:
    """How often the claim is supported, and how many seeds that or giving up took on average."""
    random = np.random.default_rng([zlib.crc32(cell.name.encode()), attempt])
    make = _difference if cell.kind == "difference" else _equivalence
    found = [judged({"": make(Cell("", "normal", cell.sd), cell.gain, random)})[""] for _ in range(studies)]
    return {
        "supported": sum(f.verdict == "supported" for f in found) / studies,
        "seeds": sum(f.estimates[0].n for f in found) / studies,
    }


def coverage(cell: Covered, studies: int, attempt: int = 0, _whole: int = 0) -> dict[str, float]:
    """How often the interval holds the truth."""
    random = np.random.default_rng([zlib.crc32(cell.name.encode()), attempt])
    return {"coverage": sum(_holds(cell, random) for _ in range(studies)) / studies}


def _holds(cell: Covered, random: np.random.Generator) -> bool:
    if cell.what == "gain":
        gaps = np.exp(0.02 * noise(cell.truth, (cell.n,), random))
        test = claims.difference(np.ones(cell.n), gaps, is_relative=True)
        return test.low <= 0 <= test.high
    if cell.what == "gap":
        values, scenes = pictures(cell.n, 0.0, random)
        found = claims.validation_gap(values, scenes, 1.0, 30, MARGIN, DRAWS, int(random.integers(2**32)))
        part = found.parts[0 if cell.truth == "whole set" else 1]
        return part.low <= 0 <= part.high
    doses, shape = np.array(DOSES), (cell.n, len(DOSES))
    beyond, even = doses > 0.5, random.random(shape)
    first, last = 0.45, 0.6  # between them P(broken) passes 10 %
    table = beyond & (even < 0.5)
    if cell.truth == "steep":
        first = last = 0.7 - math.log(9) / 12
        table = even < 1 / (1 + np.exp(-12 * (doses - 0.7)))
    elif cell.truth == "own onsets":  # a seed that broke breaks from there on
        first = last = 0.7 - 0.15 * 1.2816
        table = doses >= random.normal(0.7, 0.15, size=(cell.n, 1))
    elif cell.truth == "all from .6 on":
        table = np.repeat(beyond[None], cell.n, axis=0)
    elif cell.truth == "an eighth from .6 on":
        table = beyond & (even < 0.125)
    elif cell.truth == "nowhere":
        first = last = math.inf
        table = np.zeros(shape, dtype=bool)
    low, high = Onset(DOSES, table.astype(float)).interval()
    return low <= last and high >= first


# Running


def is_above(rate: float, studies: int) -> bool:
    """Whether a family's error is above its bar by more than two standard errors."""
    return rate > BAR + 2 * math.sqrt(BAR * (1 - BAR) / studies)


def measure(quick: bool) -> dict[str, Any]:
    """False verdicts by truth and noise, coverage and power; a family above the bar is simulated once more."""
    studies, store = (QUICK_STUDIES, None) if quick else (STUDIES, STORE)
    tables: dict[str, Any] = {}
    whole = cells(TRUTHS, (*NOISES, EXPONENTIAL))
    found = []
    for chosen, many in ((whole, studies), (cells(PAPERS), studies // PART)):
        part = in_order(chosen, run(chosen, many, store, simulate=simulate))
        found += part
        barred = {cell: rates["false"] for cell, rates in part if cell.noise in NOISES}
        for what in dict.fromkeys(cell.truth for cell in barred):
            title = f"a false verdict in a family of {SIZE}, {what} (bar {BAR}, {many:,} families each)"
            tables[title] = {cell.name: rate for cell, rate in barred.items() if cell.truth == what}
        over = [cell for cell, rate in barred.items() if is_above(rate, many)]
        if over and not quick:
            again = run(over, AGAIN, store, attempt=1, simulate=simulate)
            still = {cell.name: rates["false"] for cell, rates in again if is_above(rates["false"], AGAIN)}
            tables[f"still above with {AGAIN:,} other families"] = still or {"none": 0}
    tables[f"{EXPONENTIAL}, a skewness of 2: beyond the bar"] = {
        cell.name: rates["false"] for cell, rates in found if cell.noise == EXPONENTIAL
    }
    tables["intervals beside verdicts that miss, at most"] = {
        what: max(rates["interval misses"] for cell, rates in found if cell.noise == what) for what in NOISES
    }
    for what in ("gain", "onset", "gap"):
        chosen, many = [cell for cell in COVERED if cell.what == what], studies // (PART if what == "gap" else 1)
        covered = in_order(chosen, run(chosen, many, store, simulate=coverage))
        title = f"coverage of 95 % intervals: {what} ({many:,} each)"
        tables[title] = {cell.name: rates["coverage"] for cell, rates in covered}
    alone = in_order(ALONE, run(ALONE, studies, store, simulate=power))
    tables["supported, alone among ten"] = {cell.name: rates["supported"] for cell, rates in alone}
    tables["seeds until then"] = {cell.name: rates["seeds"] for cell, rates in alone}
    return tables


def main() -> None:
    """A part of the grid, a line a cell."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--studies", type=int, default=STUDIES)
    parser.add_argument("--truths", nargs="+", default=(*TRUTHS, *PAPERS))
    parser.add_argument("--noises", nargs="+", default=NOISES)
    given = parser.parse_args()
    for cell, rates in run(cells(given.truths, given.noises), given.studies, STORE, simulate=simulate):
        mark = "ABOVE" if is_above(rates["false"], given.studies) else ""
        print(f"{cell.name} | " + " ".join(f"{key} {rate:.3f}" for key, rate in rates.items()), mark, flush=True)


if __name__ == "__main__":
    main()
