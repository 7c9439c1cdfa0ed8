"""Is the answer of a search true whose best five are raced? Made-up searches of known truth: forty points, the best five by noisy
numbers, raced under fresh seeds; and by how much the search's own numbers flatter its first.
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

STUDIES, QUICK_STUDIES, WHOLE = 4000, 200, 20
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
    """How often a cell's answer is wrong, and by how much the numbers flatter: the search's own, and those of the race."""
    rng = np.random.default_rng([zlib.crc32(cell.name.encode()), attempt])
    levels, rows = SURFACES[cell.surface], np.arange(studies)
    means = (levels[:, None] + _noise(rng, cell, studies, POINTS, cell.seeds)).mean(axis=2)
    best = np.sort(np.argsort(means, axis=1)[:, :MOST_FINALISTS], axis=1)
    ahead = means.argmin(axis=1)
    y = levels[best][:, :, None] + _noise(rng, cell, studies, MOST_FINALISTS, STAGES[-1])
    raced = raced_studies(y, drops=True, places=None)
    named = best[rows, raced["named"]]
    fresh = np.array([y[i, raced["named"][i], : raced["seeds"][i]].mean() for i in rows])
    said = [_said(y[i], best[i]) for i in range(min(whole, studies))]
    same = [
        (decision.trial, decision.state == "use") == (named[i], raced["use"][i])
        and math.isclose(decision.bound or 0, math.expm1(raced["bound"][i]), rel_tol=1e-6, abs_tol=1e-9)
        for i, decision in enumerate(said)
    ]
    regret = levels[named] - levels[best].min(axis=1)
    return {
        "use": float(raced["use"].mean()),
        "bound wrong": float((regret > raced["bound"] + 1e-9).mean()),
        "disagreeing": float(len(same) - sum(same)),
        "runs of the race": float(raced["runs"].mean()),
        "the search's first, worse than the best of 40 by (%)": 100 * float(levels[ahead].mean()),
        "the race's, worse than the best of 40 by (%)": 100 * float(levels[named].mean()),
        "the search's first looks better than it is by (%)": 100 * float((levels[ahead] - means[rows, ahead]).mean()),
        "the race's looks better than it is by (%)": 100 * float((levels[named] - fresh).mean()),
    }


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
    rates = [(cell, cell.name.partition(": ")[2], of) for cell, of in found]
    barred = {
        f"use where all are equal (bar {BAR})": {
            name: of["use"] for cell, name, of in rates if cell.surface == "equal"
        },
        f"bound wrong (bar {BAR})": {name: of["bound wrong"] for _, name, of in rates},
        "disagreeing (bar 0)": {"all": sum(of["disagreeing"] for *_, of in rates)},
    }
    others = [key for key in rates[0][2] if key not in ("bound wrong", "disagreeing")]
    return barred | {key: {name: of[key] for _, name, of in rates} for key in others}
