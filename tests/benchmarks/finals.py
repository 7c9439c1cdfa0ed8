"""Is the answer of a search true whose best five are raced? Made-up searches of known truth: forty points, the best five by noisy
numbers, raced under fresh seeds; beside that, what it would say if the race went on under the seeds that chose them.
"""

import math
import zlib
from dataclasses import dataclass
from itertools import product

import numpy as np

from depth_loss_sweep.reports.decision import Decision, Question
from depth_loss_sweep.reports.measures import Measure
from depth_loss_sweep.reports.race import MOST_FINALISTS, Finals, decide_by_finals
from depth_loss_sweep.reports.stages import FINALS_SEED, STAGES
from depth_loss_sweep.reports.trials import SeedValue, TrialResult
from tests.benchmarks.answer import MARGIN, in_order, run
from tests.benchmarks.race import MEASURED, SD, STORE, raced_studies

STUDIES, QUICK_STUDIES, WHOLE = 10_000, 200, 20
POINTS, BAR = 40, 0.05
SURFACES = {
    "equal": np.zeros(POINTS),
    "bowl 10%": 0.10 * np.linspace(0, 1, POINTS) ** 2,
    "one best by 2%": 0.02 * (np.arange(POINTS) != 7),
    "five best by 2%": 0.02 * (np.arange(POINTS) % 8 != 0),
}
RMSE = Measure("metric_rmse", "RMSE", "m")


@dataclass(frozen=True)
class Cell:
    """One kind of search: the levels of its points in logs, under how many seeds it trains each, what runs of a seed share."""

    surface: str
    seeds: int
    correlation: float

    @property
    def name(self) -> str:
        """A cell in words."""
        return f"finals: {self.surface}, {self.seeds} seeds, correlation {self.correlation:g}"


def cells() -> list[Cell]:
    """Searches under one seed and under three, whose runs share as much as on real pictures, or nothing."""
    return [Cell(*parts) for parts in product(SURFACES, (1, 3), (MEASURED, 0.0))]


def simulate(cell: Cell, studies: int, attempt: int = 0, whole: int = WHOLE) -> dict[str, float]:
    """How often a cell's answer is wrong, under fresh seeds and under those that the search saw; and what it finds."""
    rng = np.random.default_rng([zlib.crc32(cell.name.encode()), attempt])
    levels, rows = SURFACES[cell.surface], np.arange(studies)
    searched = levels[:, None] + _noise(rng, cell, studies, POINTS, cell.seeds)
    means = searched.mean(axis=2)
    best = np.sort(np.argsort(means, axis=1)[:, :MOST_FINALISTS], axis=1)
    ahead = means.argmin(axis=1)
    fresh = levels[best][:, :, None] + _noise(rng, cell, studies, MOST_FINALISTS, STAGES[-1])
    seen = np.concatenate([searched[rows[:, None], best], fresh[:, :, cell.seeds :]], axis=2)
    rates = {
        "runs of the race": float(raced_studies(fresh, drops=True, places=None)["runs"].mean()),
        "flattering (%)": 100 * float((levels[ahead] - means[rows, ahead]).mean()),
        "search's first, off by (%)": 100 * float(levels[ahead].mean()),
    }
    for kind, y in (("", fresh), (", seen seeds", seen)):
        raced = raced_studies(y, drops=True, places=None)
        own = levels[best] - levels[best].min(axis=1, keepdims=True)
        regret = own[rows, raced["named"]]
        rates |= {
            f"use{kind}": float(raced["use"].mean()),
            f"bound wrong{kind}": float((regret > raced["bound"] + 1e-9).mean()),
            f"race's, off by (%){kind}": 100 * float(levels[best[rows, raced["named"]]].mean()),
        }
        if not kind:
            said = [_said(y[i], best[i]) for i in range(min(whole, studies))]
            same = [
                (d.trial, d.state == "use") == (best[i, raced["named"][i]], raced["use"][i])
                and math.isclose(d.bound or 0, math.expm1(raced["bound"][i]), rel_tol=1e-6, abs_tol=1e-9)
                for i, d in enumerate(said)
            ]
            rates["disagreeing"] = float(len(same) - sum(same))
    return rates


def _noise(rng: np.random.Generator, cell: Cell, studies: int, points: int, seeds: int) -> np.ndarray:
    shared = math.sqrt(cell.correlation) * rng.standard_normal((studies, 1, seeds))
    return SD * (shared + math.sqrt(1 - cell.correlation) * rng.standard_normal((studies, points, seeds)))


def _said(y: np.ndarray, best: np.ndarray) -> Decision:
    """What `decide_by_finals` says of a search whose best have these values in their race, (finalists, seeds)."""
    seeds = tuple(FINALS_SEED + seed for seed in range(y.shape[1]))
    trials = tuple(
        TrialResult(
            number=int(number),
            label="",
            weights={"ssim": 1.0},
            params={},
            state="complete",
            expected=1,
            seeds=tuple(
                SeedValue(f"{number}-{s}", s, v, "learnt", broke=False) for s, v in zip(seeds, of, strict=True)
            ),
        )
        for number, of in zip(best, np.exp(y), strict=True)
    )
    own = Decision("undecided", int(best[0]), is_search=True, compared=tuple(range(POINTS)))
    question = Question(RMSE, {"median": 99.0}, is_search=True, margin=MARGIN)
    return decide_by_finals(own, question, Finals(trials, seeds, STAGES))


def measure(quick: bool) -> dict[str, dict[str, float]]:
    """Each rate, search by search; those that have a bar first."""
    store = None if quick else STORE.with_name("finals.jsonl")
    found = in_order(cells(), run(cells(), QUICK_STUDIES if quick else STUDIES, store, whole=WHOLE, simulate=simulate))
    barred = {
        f"use where all are equal (bar {BAR})": {c.name: r["use"] for c, r in found if c.surface == "equal"},
        f"bound wrong (bar {BAR})": {c.name: r["bound wrong"] for c, r in found},
        "disagreeing (bar 0)": {"all": sum(r["disagreeing"] for _, r in found)},
    }
    return barred | {key: {c.name: r[key] for c, r in found} for key in found[0][1]}
