"""What a race saves, and whether it stays true: raced made-up studies beside a grid that drops nothing, and choosing by the
smoother beside plain means.

python -m tests.benchmarks.race --studies 400: a line a cell. Cells that were simulated already are taken from
build/benchmarks/race.jsonl, so that a run that was stopped goes on.
"""

import argparse
import math
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from depth_loss_sweep.reports import comparisons, decide
from depth_loss_sweep.reports.comparisons import LEVEL
from depth_loss_sweep.reports.decision import Decision
from depth_loss_sweep.reports.rule import Design, is_over, judge, scores
from depth_loss_sweep.reports.stages import STAGES
from tests.benchmarks.answer import MARGIN, in_order, record, run

STORE = Path(__file__).parents[2] / "build" / "benchmarks" / "race.jsonl"
SD, MEASURED = 0.031, 0.86  # of a run, relative, and how much of its variance a seed shares: as on real pictures
STUDIES, QUICK_STUDIES, WHOLE = 400, 24, 4
W = np.linspace(0, 0.9, 10)
NYU = {
    "NYU l1 paper": (1.099, 1.100, 1.098, 1.101, 1.104, 1.109, 1.107, 1.119, 1.125, 1.132),
    "NYU l2 paper": (1.123, 1.121, 1.128, 1.129, 1.132, 1.131, 1.139, 1.147, 1.143, 1.164),
    "NYU l1 bn": (1.076, 1.080, 1.087, 1.095, 1.105, 1.111, 1.121, 1.141, 1.167, 1.176),
    "NYU l2 bn": (1.058, 1.055, 1.060, 1.067, 1.087, 1.085, 1.085, 1.099, 1.112, 1.144),
}
MILD = {
    "mid 5%": 0.05 * ((W - 0.45) / 0.45) ** 2,
    "third 10%": 0.10 * ((W - 0.3) / 0.6) ** 2,
    "start 5%": 0.05 * W / 0.9,
    "start 10%": 0.10 * W / 0.9,
    "plateau 10%": 0.10 * np.clip((W - 0.45) / 0.45, 0, 1),
    "V 10%": 0.10 * np.abs(W - 0.6) / 0.6,
    **{name: np.polyval(np.polyfit(W, np.log(level), 2), W) for name, level in NYU.items()},
}
ROUGH = {
    "dip 4%": 0.04 * (np.arange(10) != 3),
    "W": 0.03 * np.abs(np.cos(2 * np.pi * W / 0.9)),
    "step": 0.04 * (W > 0.45),
    "cliff": np.where(W < 0.7, 0.03 * (0.7 - W), 0.15),
    "saw": 0.02 * (np.arange(10) % 2) + 0.02 * W / 0.9,
}
CURVES = {name: level - level.min() for name, level in {"equal": 0 * W, **MILD, **ROUGH}.items()}
DIAL = (2, 3, 4, 5, 7, 10, 14, 20, 28, 40, 60, 80, 120, 160)
CLOSE, SURE = 0.01, 0.95  # a choice is to be so close to the best, with such a probability
UNEQUAL = ("t3", "spread", "best wide")
BARS = {MEASURED: {"race": 0.85, "choice": 0.85}, 0.0: {"race": 0.80, "choice": 0.45}}


@dataclass(frozen=True)
class Cell:
    """One kind of study: its curve and its noise; raced, or only chosen from."""

    what: str  # race | choice
    curve: str
    correlation: float
    noise: str = "normal"

    @property
    def name(self) -> str:
        """A cell in words."""
        return f"{self.what}: {self.curve}, {self.noise}, correlation {self.correlation:g}"

    @property
    def best(self) -> int:
        """The best weight; of equals the last, which spreads widest where spread is unequal."""
        return len(W) - 1 - int(np.argmin(CURVES[self.curve][::-1]))

    @property
    def spread(self) -> np.ndarray:
        """Of each weight's noise, relative to the usual."""
        wide = np.where(np.arange(len(W)) == self.best, 3.0, 1.0)
        return {"spread": np.linspace(1, 3, len(W)), "best wide": wide}.get(self.noise, np.ones(len(W)))


def cells() -> list[Cell]:
    """Equal weights can be raced; there is nothing to choose from them."""
    kinds = [("race", curve) for curve in CURVES] + [("choice", curve) for curve in CURVES if curve != "equal"]
    usual = [Cell(what, curve, correlation) for correlation in BARS for what, curve in kinds]
    return usual + [Cell("race", curve, r, noise) for curve, r, noise in product(("equal", "start 5%"), BARS, UNEQUAL)]


def simulate(cell: Cell, studies: int, attempt: int = 0, whole: int = WHOLE) -> dict[str, float]:
    """What a cell takes, and how often it is wrong."""
    rng = np.random.default_rng([zlib.crc32(cell.name.encode()), attempt])
    levels, seeds = CURVES[cell.curve], (STAGES if cell.what == "race" else DIAL)[-1]
    draw = lambda s: rng.standard_t(3, s) / math.sqrt(3) if cell.noise == "t3" else rng.standard_normal(s)  # noqa: E731
    shared = math.sqrt(cell.correlation) * draw((studies, 1, seeds))
    own = math.sqrt(1 - cell.correlation) * cell.spread[None, :, None] * draw((studies, len(W), seeds))
    y = levels[None, :, None] + SD * (shared + own)
    if cell.what == "choice":
        plain, smooth = (_needed(y, levels, is_smooth) for is_smooth in (False, True))
        return {"plain runs": plain, "smoother runs": smooth, "ratio": smooth / plain}
    raced, grid = raced_studies(y, drops=True), raced_studies(y, drops=False)
    return {
        "runs": float(raced["runs"].mean()),
        "grid runs": float(grid["runs"].mean()),
        "ratio": float(raced["runs"].mean() / grid["runs"].mean()),
        "settled": float(raced["settled"].mean()),
        "grid settled": float(grid["settled"].mean()),
        "use": float(raced["use"].mean()),
        "best dropped": float((~raced["alive"][:, cell.best]).mean()),
        "bound wrong": float((levels[raced["named"]] > raced["bound"] + 1e-9).mean()),
        "more than 1 % off": float((levels[raced["named"]] > CLOSE).mean()),
        "disagreeing": float(sum(_disagrees(y[i], {k: v[i] for k, v in raced.items()}) for i in range(whole))),
    }


def raced_studies(y: np.ndarray, drops: bool, places: np.ndarray | None = W) -> dict[str, np.ndarray]:
    """Race studies (studies, weights, seeds) at their places on a line, or nowhere; without dropping, a grid that is looked at
    after the same stages.
    """
    studies, weights, _ = y.shape
    level, order = LEVEL / len(STAGES), np.arange(weights)
    design = Design(places, order, math.log1p(MARGIN), level, among=weights, stages=len(STAGES))
    alive, goes_on = np.ones((studies, weights), dtype=bool), np.ones(studies, dtype=bool)
    end = {
        "runs": np.zeros(studies, dtype=int),
        "seeds": np.zeros(studies, dtype=int),
        "named": np.zeros(studies, dtype=int),
        "bound": np.full(studies, math.inf),
        "use": np.zeros(studies, dtype=bool),
        "settled": np.zeros(studies, dtype=bool),
        "equivalent": np.zeros(studies, dtype=bool),
    }
    for before, seeds in zip((0, *STAGES), STAGES, strict=False):
        for runners in np.unique(alive[goes_on], axis=0):
            rows, own = np.flatnonzero(goes_on & (alive == runners).all(axis=1)), np.flatnonzero(runners)
            part = y[np.ix_(rows, own, range(seeds))]
            here = replace(design, places=None if places is None else places[own], simplicity=design.simplicity[own])
            every = np.ones(part.shape, dtype=bool)
            judged = judge(part, every, every[:, :, 0], here, end["use"][rows])
            is_settled, is_alone = judged.bound <= design.margin, judged.kept.sum(axis=1) < 2
            end["runs"][rows] += len(own) * (seeds - before)
            end["seeds"][rows] = seeds
            end["named"][rows], end["bound"][rows] = own[judged.named], judged.bound
            end["use"][rows], end["equivalent"][rows] = judged.rejects, judged.all_within
            end["settled"][rows] = (judged.rejects & is_settled) | judged.all_within
            goes_on[rows] = ~is_over(judged.rejects, judged.all_within, is_settled, is_alone)
            if drops:
                alive[np.ix_(rows, own)] = judged.kept
    return {**end, "alive": alive}


def _disagrees(y: np.ndarray, raced: dict[str, Any]) -> bool:
    """Whether `decide`, asked of whole records again and again for what to train next, races otherwise."""
    said, trained = _raced_by_records(y)
    state = "use" if raced["use"] else "equivalent" if raced["equivalent"] else "undecided"
    same = (said.state, said.trial, trained) == (state, raced["named"], raced["runs"])
    bound = math.expm1(raced["bound"])
    return not (same and math.isclose(said.bound or 0, bound, rel_tol=1e-6, abs_tol=1e-9))


def _raced_by_records(y: np.ndarray) -> tuple[Decision, int]:
    """The end of a race that is run as a coordinator runs it, and how many runs it took."""
    full = record(np.exp(y), np.zeros(y.shape, dtype=bool), is_line=True)
    full = replace(full, spec={"study": {"seeds": [*range(STAGES[0])]}, "search": {"race": True, "stages": [*STAGES]}})
    seeds = np.full(len(y), STAGES[0])
    while True:
        trained = full.runs["seed"].to_numpy() < seeds[full.runs["trial"]]
        runs = full.runs[trained].reset_index(drop=True)
        said = decide(replace(full, runs=runs, epochs=full.epochs[trained].reset_index(drop=True)))
        race = said.race
        if race is None or race.next_seeds is None:
            return said, int(trained.sum())
        seeds[list(race.alive)] = race.next_seeds


def _needed(y: np.ndarray, levels: np.ndarray, is_smooth: bool) -> float:
    """How many runs a choice takes to be close to the best as often as it should; between two dials in logs."""
    design = Design(W if is_smooth else None, np.arange(len(W)), math.log1p(MARGIN), LEVEL)
    before: tuple[float, float] | None = None
    for seeds in DIAL:
        part = y[:, :, :seeds]
        found = comparisons.fit(part, np.ones(part.shape, dtype=bool))
        share = float((levels[scores(found, design).argmin(axis=1)] <= CLOSE).mean())
        runs = float(len(W) * seeds)
        if share >= SURE:
            if before is None:
                return runs
            fewer, lower = before
            return fewer * (runs / fewer) ** ((SURE - lower) / (share - lower))
        before = runs, share
    return float(len(W) * DIAL[-1])


def measure(quick: bool) -> dict[str, Any]:
    """All cells with their bars; in small, a few that keep nothing."""
    if quick:
        chosen = [cell for cell in cells() if cell.curve in ("start 5%", "dip 4%")]
        return summary(in_order(chosen, run(chosen, QUICK_STUDIES, whole=1, simulate=simulate)))
    return summary(in_order(cells(), run(cells(), STUDIES, STORE, whole=WHOLE, simulate=simulate)))


def summary(found: Sequence[tuple[Cell, dict[str, float]]]) -> dict[str, Any]:
    """Means over curves beside the bars, the worst cells, and every curve's numbers."""
    tables: dict[str, Any] = {"mean ratios of runs, and bars": {}}
    for correlation, bars in BARS.items():
        for what, bar in bars.items():
            normal = [(c, r) for c, r in found if c.noise == "normal" and c.curve != "equal"]
            of = {c.curve: r for c, r in normal if (c.what, c.correlation) == (what, correlation)}
            for kind, names in (("mild", MILD), ("rough", ROUGH), ("all", CURVES)):
                ratios = [rates["ratio"] for name, rates in of.items() if name in names]
                is_barred = kind == ("all" if what == "race" else "mild")
                title = f"{what}, correlation {correlation:g}, {kind} curves{f' (bar {bar:g})' * is_barred}"
                tables["mean ratios of runs, and bars"][title] = float(np.mean(ratios)) if ratios else math.nan
    for what in ("best dropped", "bound wrong", "disagreeing"):
        for is_normal in (True, False):
            rows = [(r[what], c.name) for c, r in found if what in r and (c.noise == "normal") is is_normal]
            if rows:
                bar = 0 if what == "disagreeing" else 0.05 if is_normal else 0.09
                noise = "normal noise" if is_normal else "t3 or unequal spread"
                tables[f"{what}: the worst cell of {noise}, bar {bar}"] = {max(rows)[1]: max(rows)[0]}
    for what, shown in (
        ("race", ("ratio", "settled", "grid settled", "use", "more than 1 % off")),
        ("choice", ("ratio",)),
    ):
        for key in shown:
            tables[f"{what}: {key}"] = {c.name.partition(": ")[2]: rates[key] for c, rates in found if c.what == what}
    return tables


def main() -> None:
    """A line a cell."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--studies", type=int, default=STUDIES)
    parser.add_argument("--whole", type=int, default=WHOLE, help="records a cell that `decide` is asked of, too")
    given = parser.parse_args()
    found = []
    for cell, rates in run(cells(), given.studies, STORE, whole=given.whole, simulate=simulate):
        print(f"{cell.name} | " + " ".join(f"{key} {rate:.3f}" for key, rate in rates.items()), flush=True)
        found.append((cell, rates))
    for title, rows in summary(found).items():
        print(title, *(f"  {name}: {value:.3f}" for name, value in rows.items()), sep="\n")


if __name__ == "__main__":
    main()
