"""Does `bound_scenes` hold for new scenes and seeds? Made-up studies of known truth, and how often seeds alone are wrong there.

Each weight has an effect of its own on each scene, so that another draw of scenes would order the weights otherwise. Cells that were
simulated already are taken from build/benchmarks/scenes.jsonl, so that a run that was stopped goes on.
"""

import math
import zlib
from dataclasses import dataclass
from itertools import product

import numpy as np

from depth_loss_sweep.reports import comparisons
from depth_loss_sweep.reports.rule import Design, judge
from depth_loss_sweep.reports.scenes import PictureValues, scene_effects, scene_fit
from tests.benchmarks.answer import MARGIN, SD, in_order, run, truth
from tests.benchmarks.answer import STORE as ANSWERS

STORE = ANSWERS.with_name("scenes.jsonl")
STUDIES, QUICK_STUDIES = 2000, 40
BAR = 0.05
SCENES, SEEDS, WEIGHTS = (8, 37), (3, 5, 20), (2, 10)
CURVES, EFFECTS = ("equal", "dip 4%", "V 10%"), ("none", "small", "large", "along w", "skewed", "last wide")
LEVELS, RUN = 0.3, 0.05  # spread of scenes' levels, and of a scene in one run
SIZES = {"none": 0.0, "small": 0.03}


@dataclass(frozen=True)
class Cell:
    """One kind of study: its truth, what scenes do to weights, its size."""

    curve: str
    effect: str
    scenes: int
    seeds: int
    weights: int

    @property
    def name(self) -> str:
        """A cell in words."""
        return f"{self.curve}, effects {self.effect}, {self.scenes} scenes, {self.weights} x {self.seeds}"


def effects(cell: Cell, rng: np.random.Generator) -> np.ndarray:
    """What scenes do to weights, relative to their level: (weights, scenes), of mean 0 over all scenes there are."""
    shape = (cell.weights, cell.scenes)
    size = SIZES.get(cell.effect, 0.15)
    if cell.effect == "along w":
        slope = np.linspace(-1, 1, cell.weights)[:, None] * rng.standard_normal((1, cell.scenes))
        return size * (slope + 0.3 * rng.standard_normal(shape))
    if cell.effect == "skewed":  # exponential: of skewness 2
        return size * (rng.standard_exponential(shape) - 1)
    found = size * rng.standard_normal(shape)
    if cell.effect == "last wide":
        found[-1] *= 3
    return found


def simulate(cell: Cell, studies: int, attempt: int = 0, _whole: int = 0) -> dict[str, float]:
    """How often the named weight's bound, by seeds and over scenes, is wrong; and how often any weight's would be."""
    rng = np.random.default_rng([zlib.crc32(cell.name.encode()), attempt])
    levels = truth(cell.curve, cell.weights)
    best, shape = int(levels.argmin()), (cell.weights, cell.seeds)
    design = Design(np.linspace(0, 0.9, cell.weights), np.arange(cell.weights), math.log1p(MARGIN), BAR)
    unbroken = np.ones(shape, dtype=bool)
    wrong = {"by seeds": 0, "over scenes": 0, "any over scenes": 0}
    bounds = []
    for _ in range(studies):
        by_seed = SD * math.sqrt(0.5) * (rng.standard_normal((1, cell.seeds)) + rng.standard_normal(shape))
        moved = 1 + effects(cell, rng)[:, None, :] + RUN * rng.standard_normal((*shape, cell.scenes))
        of_scene = (
            np.exp(levels[:, None, None] + by_seed[:, :, None] + LEVELS * rng.standard_normal(cell.scenes)) * moved
        )
        views = rng.integers(1, 5, cell.scenes)
        numbers = np.repeat(of_scene, views, axis=2)
        values = numbers.mean(axis=2)
        runs = [[f"{k}-{s}" for s in range(cell.seeds)] for k in range(cell.weights)]
        pictures = PictureValues(
            tuple(np.repeat(np.arange(cell.scenes).astype(str), views)),
            {runs[k][s]: numbers[k, s] for k, s in np.ndindex(*shape)},
        )
        over = scene_fit(scene_effects(pictures, runs, values, unbroken).relative, unbroken)  # type: ignore[union-attr]
        judged = judge(np.log(values)[None], unbroken[None], np.ones((1, cell.weights), dtype=bool), design)
        beyond = comparisons.regret_bound(judged.fit, judged.named, BAR, over)[0]
        regret = levels[judged.named[0]] - levels[best] - 1e-9
        d, s = (comparisons.differences(fit, np.array([best])) for fit in (judged.fit, over))
        wrong["by seeds"] += regret > judged.bound[0]
        wrong["over scenes"] += regret > beyond
        wrong["any over scenes"] += bool(
            (d.mean[0] - levels + levels[best] < -np.hypot(d.half, s.half)[0] - 1e-9).any()
        )
        bounds.append(beyond)
    return {**{what: float(count) / studies for what, count in wrong.items()}, "median bound": float(np.median(bounds))}


def measure(quick: bool) -> dict[str, dict[str, float]]:
    """Every cell's rates; what is above the bar by more than two standard errors stands apart."""
    studies = QUICK_STUDIES if quick else STUDIES
    grid = [Cell(*parts) for parts in product(CURVES, EFFECTS, SCENES, SEEDS, WEIGHTS)]
    chosen = grid[:: len(grid) // 8] if quick else grid
    found = dict(in_order(chosen, run(chosen, studies, None if quick else STORE, simulate=simulate)))
    most = BAR + 2 * math.sqrt(BAR * (1 - BAR) / studies)
    tables = {
        f"{what}: worst cells, bar {BAR:g}": {
            cell.name: rates[what] for cell, rates in sorted(found.items(), key=lambda row: -row[1][what])[:5]
        }
        for what in ("by seeds", "over scenes", "any over scenes")
    }
    above = {
        f"{c.name}: {k}": r[k] for c, r in found.items() for k in ("over scenes", "any over scenes") if r[k] > most
    }
    return {**tables, "above the bar": above or {"none": 0.0}}
