"""How often a trial of the true front is called dominated, and how often one that is dominated is found: made-up studies.

Beside the rule stands what it is not: the share of resampled seeds, by which a trial would be called dominated where another is
better in both in 95 % of resamplings. Cells that were simulated already are taken from build/benchmarks/front.jsonl.
"""

import math
import zlib
from dataclasses import dataclass
from itertools import product

import numpy as np

from depth_loss_sweep.reports.front import dominators, on_front, resampled
from tests.benchmarks.answer import STORE as ANSWERS
from tests.benchmarks.answer import in_order, run

STORE = ANSWERS.with_name("front.jsonl")
STUDIES, QUICK_STUDIES = 2000, 40
BAR = 0.05
FRONTS = ("all on it", "flat in one", "behind by 0.5", "behind by 3")
NOISES = ("normal", "correlated", "t3", "last wide", "half wide")
TRIALS, SEEDS = (4, 8, 20), (3, 5, 12)
SHARED = 0.5  # of a run's variance, by its seed


@dataclass(frozen=True)
class Cell:
    """One kind of study: where its trials truly stand, their noise, its size."""

    front: str
    noise: str
    trials: int
    seeds: int

    @property
    def name(self) -> str:
        """A cell in words."""
        return f"{self.front}, {self.noise}, {self.trials} x {self.seeds}"


def truth(cell: Cell) -> np.ndarray:
    """Costs in standard deviations of a run, (2, trials)."""
    place = np.linspace(0, 1, cell.trials)
    if cell.front == "flat in one":  # a hair apart in the first, far in the second: an error in the first is enough
        return np.stack([1e-6 * place, 20 * (1 - place)])
    curve = np.stack([place, (1 - place) ** 2])
    if cell.front == "all on it":
        return 2 * curve
    behind = float(cell.front.removeprefix("behind by "))
    # Every other trial stands behind the one before it.
    return 2 * curve[:, np.arange(cell.trials) // 2 * 2] + behind * (np.arange(cell.trials) % 2)


def noise(cell: Cell, studies: int, rng: np.random.Generator) -> np.ndarray:
    """Of unit variance, (2, studies, trials, seeds); a seed shifts all trials of a study alike."""
    shape = (2, studies, cell.trials, cell.seeds)
    own = rng.standard_t(3, shape) / math.sqrt(3) if cell.noise == "t3" else rng.standard_normal(shape)
    if cell.noise == "correlated":  # a run that is worse in one is better in the other
        own[1] = -0.9 * own[0] + math.sqrt(1 - 0.9**2) * own[1]
    if cell.noise == "last wide":
        own[:, :, -1] *= 3
    if cell.noise == "half wide":
        own[:, :, ::2] *= 3
    shared = rng.standard_normal((2, studies, 1, cell.seeds))
    return math.sqrt(SHARED) * shared + math.sqrt(1 - SHARED) * own


def simulate(cell: Cell, studies: int, attempt: int = 0, _whole: int = 0) -> dict[str, float]:
    """How often any trial of the true front is called dominated, and which share of the others is found."""
    rng = np.random.default_rng([zlib.crc32(cell.name.encode()), attempt])
    levels = truth(cell)
    members = on_front(levels.T)
    costs = levels[:, None, :, None] + noise(cell, studies, rng)
    called = dominators(costs) >= 0
    found = {"false": float(called[:, members].any(axis=1).mean())}
    if not members.all():
        found["found"] = float(called[:, ~members].mean())
    return found


def resampling_errs(cell: Cell, studies: int) -> float:
    """How often any trial of the true front is on it in fewer than 5 % of resamplings of the seeds."""
    rng = np.random.default_rng(zlib.crc32(cell.name.encode()))
    levels = truth(cell)
    members = on_front(levels.T)
    costs = levels[:, None, :, None] + noise(cell, studies, rng)
    return float(np.mean([(resampled(costs[:, i])[0][members] < BAR).any() for i in range(studies)]))


def measure(quick: bool) -> dict[str, dict[str, float]]:
    """The worst cells, those above the bar, power, and what resampling alone would have claimed falsely."""
    studies = QUICK_STUDIES if quick else STUDIES
    grid = [Cell(*parts) for parts in product(FRONTS, NOISES, TRIALS, SEEDS)]
    chosen = grid[:: len(grid) // 8] if quick else grid
    found = dict(in_order(chosen, run(chosen, studies, None if quick else STORE, simulate=simulate)))
    most = BAR + 2 * math.sqrt(BAR * (1 - BAR) / studies)
    worst = sorted(found.items(), key=lambda row: -row[1]["false"])
    alone = [Cell("all on it", "normal", 8, seeds) for seeds in SEEDS]
    return {
        f"a trial of the true front called dominated: worst cells, bar {BAR:g}": {
            cell.name: rates["false"] for cell, rates in worst[:5]
        },
        "above the bar": {c.name: r["false"] for c, r in found.items() if r["false"] > most} or {"none": 0.0},
        "dominated trials found, normal noise": {
            c.name: r["found"] for c, r in found.items() if "found" in r and c.noise == "normal"
        },
        "the same error by resampled seeds alone": {c.name: resampling_errs(c, studies // 10) for c in alone},
    }
