"""Is the answer true? The rule of `reports.rule` on made-up studies of known truth, beside the bars that it has to keep.

python -m tests.benchmarks.answer --studies 400 --weights 10 --seeds 3 5 10: a part of the grid. Cells that were simulated
already are taken from build/benchmarks/answer.jsonl, so that a run that was stopped goes on.
"""

import argparse
import json
import math
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from itertools import product
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from depth_loss_sweep.reports import decide
from depth_loss_sweep.reports.comparisons import LEVEL
from depth_loss_sweep.reports.measures import Measure
from depth_loss_sweep.reports.records import StudyRecord
from depth_loss_sweep.reports.rule import Design, judge
from tests.benchmarks import machine

STORE = Path(__file__).parents[2] / "build" / "benchmarks" / "answer.jsonl"
SD = 0.03  # of a run, relative, as on real pictures
JUMP, COLLAPSING = 0.5, 0.25  # what a broken run loses, in logs, and how often one breaks
MARGIN = 0.02
STUDIES, QUICK_STUDIES, AGAIN = 2000, 60, 20_000
WHOLE = 50  # records a cell in which `decide` must say the same
BATCH = 250

WEIGHTS, SEEDS, CORRELATIONS = (5, 10, 20), (3, 5, 10, 20), (0.0, 0.5, 0.9)
NOISES = ("normal", "t3", "spread", "last wide", "collapse", "last collapse")
CURVES = ("equal", "start 2%", "third 2%", "start 5%", "third 10%", "V 10%", "dip 3%", "dip 4%", "W", "step", "cliff")
UNEQUAL, COLLAPSES = ("spread", "last wide"), ("collapse", "last collapse")


@dataclass(frozen=True)
class Cell:
    """One kind of study: its truth, its noise, its size; on a line, or as points without an order."""

    curve: str
    noise: str
    correlation: float
    weights: int
    seeds: int
    is_line: bool = True

    @property
    def name(self) -> str:
        """A cell in words."""
        place = "line" if self.is_line else "points"
        return f"{self.curve}, {self.noise}, correlation {self.correlation:g}, {self.weights} x {self.seeds}, {place}"


def cells(
    weights: Iterable[int] = WEIGHTS,
    seeds: Iterable[int] = SEEDS,
    correlations: Iterable[float] = CORRELATIONS,
    noises: Iterable[str] = NOISES,
    curves: Iterable[str] = CURVES,
) -> list[Cell]:
    """The grid; points without an order are simulated where they could differ: equal, and with a dip."""
    grid = [Cell(c, n, r, k, s) for c, n, r, k, s in product(curves, noises, correlations, weights, seeds)]
    return grid + [Cell(**{**asdict(c), "is_line": False}) for c in grid if c.curve in ("equal", "dip 4%")]


def truth(curve: str, weights: int) -> np.ndarray:
    """The levels of unbroken runs along w in logs, the best at 0."""
    w = np.linspace(0, 1, weights)
    dip = np.where(np.arange(weights) == weights // 3, 0.0, 1.0)
    levels = {
        "equal": 0 * w,
        "start 2%": 0.02 * w,
        "third 2%": 0.02 * ((w - 1 / 3) * 1.5) ** 2,
        "start 5%": 0.05 * w,
        "third 10%": 0.1 * ((w - 1 / 3) * 1.5) ** 2,
        "V 10%": 0.1 * np.abs(w - 2 / 3) * 1.5,
        "dip 3%": 0.03 * dip,
        "dip 4%": 0.04 * dip,
        "W": 0.03 * np.abs(np.cos(2 * np.pi * w)),
        "step": 0.04 * (w > 0.5),
        "cliff": np.where(w < 0.75, 0.03 * (0.75 - w), 0.15),
    }[curve]
    return levels - levels.min()


def made_up(cell: Cell, studies: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Values in logs and which runs broke, (studies, weights, seeds)."""
    shape = (studies, cell.weights, cell.seeds)
    draw = lambda s: rng.standard_t(3, s) / math.sqrt(3) if cell.noise == "t3" else rng.standard_normal(s)  # noqa: E731
    spread = np.ones(cell.weights)
    if cell.noise == "spread":
        spread = np.linspace(1, 3, cell.weights)
    elif cell.noise == "last wide":
        spread[-1] = 3
    own = math.sqrt(1 - cell.correlation) * spread[None, :, None] * draw(shape)
    y = truth(cell.curve, cell.weights)[None, :, None] + SD * (
        math.sqrt(cell.correlation) * draw((studies, 1, cell.seeds)) + own
    )
    breaking = np.zeros(cell.weights)
    if cell.noise in COLLAPSES:
        breaking[-3 if cell.noise == "last collapse" else 0 :] = COLLAPSING
    broken = rng.random(shape) < breaking[None, :, None]
    return y + JUMP * broken, broken


def simulate(cell: Cell, studies: int, attempt: int = 0, whole: int = WHOLE) -> dict[str, float]:
    """How often the rule is wrong, and how often it decides, in a cell."""
    rng = np.random.default_rng([zlib.crc32(cell.name.encode()), attempt])
    design = Design(
        np.linspace(0, 0.9, cell.weights) if cell.is_line else None, np.arange(cell.weights), math.log1p(MARGIN), LEVEL
    )
    sums: dict[str, float] = {}
    for first in range(0, studies, BATCH):
        y, broken = made_up(cell, min(BATCH, studies - first), rng)
        for key, values in _judged(cell, design, y, broken).items():
            sums[key] = sums.get(key, 0.0) + float(values.sum())
        if not first:
            sums["disagreeing"] = sum(
                _disagrees(cell, design, y[i : i + 1], broken[i : i + 1]) for i in range(min(whole, len(y)))
            )
    return {key: value if key == "disagreeing" else value / studies for key, value in sums.items()}


def _judged(cell: Cell, design: Design, y: np.ndarray, broken: np.ndarray) -> dict[str, np.ndarray]:
    levels, studies = truth(cell.curve, cell.weights), np.arange(len(y))
    found = judge(y, ~broken, np.ones(y.shape[:2], dtype=bool), design)
    best = cell.weights - 1 - int(np.argmin(levels[::-1]))  # the last of equals: where spread and breaking are worst
    regret = levels[found.named]
    bound_wrong = np.isfinite(found.bound) & (regret > found.bound + 1e-9)
    # The rule that this one replaced: a difference is claimed unless all means are within the best one's standard error.
    means, errors = y.mean(axis=2), y.std(axis=2, ddof=1) / math.sqrt(cell.seeds)
    ahead = means.argmin(axis=1)
    claims = (means > (means + errors)[studies, ahead][:, None]).any(axis=1)
    return {
        "use": found.rejects,
        "equivalent": found.all_within,
        "settled": found.bound <= design.margin,
        "bound wrong": bound_wrong,
        "best not kept": ~found.kept[:, best] & ~broken[:, best].all(axis=1),
        "kept": found.kept.sum(axis=1),
        "more than 1 % off": regret > 0.01,
        "claimed before": claims,
    }


def _disagrees(cell: Cell, design: Design, y: np.ndarray, broken: np.ndarray) -> bool:
    """Whether `decide` says another thing of the same study as a whole record."""
    found = judge(y, ~broken, np.ones(y.shape[:2], dtype=bool), design)
    decision = decide(record(np.exp(y[0]), broken[0], cell.is_line))
    state = "use" if found.rejects[0] else "equivalent" if found.all_within[0] else "undecided"
    kept = tuple(int(n) for n in np.flatnonzero(found.kept[0]))
    bound = math.expm1(found.bound[0])
    same_bound = (
        decision.bound is None
        if math.isinf(bound)
        else math.isclose(decision.bound or 0, bound, rel_tol=1e-6, abs_tol=1e-9)
    )
    return (decision.state, decision.trial, decision.kept) != (state, int(found.named[0]), kept) or not same_bound


def record(values: np.ndarray, broken: np.ndarray, is_line: bool) -> StudyRecord:
    """A study's tables with these values, (trials, seeds); the trivial predictors are far off."""
    trials, seeds = values.shape
    runs = [f"{i:032x}" for i in range(trials * seeds)]
    w = np.linspace(0, 0.9, trials)
    about = {
        "number": np.arange(trials),
        "state": "complete",
        "value": np.nan,
        "var_w": w,
        "weight_silog": 1.0,
        "weight_ssim": 1.0,
    }
    return StudyRecord(
        name="made-up",
        spec_text="",
        spec={"study": {"seeds": [*range(seeds)]}},
        version="",
        command="",
        created="",
        environment={},
        data={},
        baselines={"val": {"median": {"metric_rmse": 99.0}}},
        objective="val_rmse",
        objective_column="metric_rmse",
        variables=("w",),
        kind="line" if is_line else "points",
        trials=pd.DataFrame(about),
        runs=pd.DataFrame(
            {
                "run": runs,
                "trial": np.repeat(np.arange(trials), seeds),
                "seed": np.tile(np.arange(seeds), trials),
                "state": "finished",
                "outcome": np.where(broken, "flat", "learnt").ravel(),
                **dict.fromkeys(("reason", "device"), ""),
                **dict.fromkeys(("epochs", "attempts"), 1),
                **dict.fromkeys(("seconds", "images_per_second"), 1.0),
                "mixed": False,
            }
        ),
        epochs=pd.DataFrame({"run": runs, "epoch": 1, "split": "val", "total": 0.0, "metric_rmse": values.ravel()}),
        measures={"metric_rmse": Measure("metric_rmse", "RMSE", "m")},
        outcomes={"learnt": False, "flat": True},
    )


# Bars


def bars(cell: Cell) -> dict[str, float]:
    """What a cell may be at most, by what is measured."""
    kept = {"normal": 0.05, "t3": 0.09, "spread": 0.09, "last wide": 0.09}.get(cell.noise)
    limits = {"bound wrong": 0.05, "disagreeing": 0.0} | ({"best not kept": kept} if kept else {})
    if cell.curve == "equal" and cell.noise != "last collapse":
        small = cell.noise in UNEQUAL and (not cell.is_line or cell.seeds < 5)
        limits["use"] = 0.10 if small else 0.05
    return limits


def above(cell: Cell, rates: Mapping[str, float], studies: int) -> dict[str, tuple[float, float]]:
    """What is above its bar by more than two standard errors: the rate and the bar."""
    return {
        key: (rates[key], bar)
        for key, bar in bars(cell).items()
        if rates[key] > bar + 2 * math.sqrt(bar * (1 - bar) / studies)
    }


# Running


def run(
    chosen: Sequence[Any],
    studies: int,
    store: Path | None = None,
    attempt: int = 0,
    whole: int = WHOLE,
    simulate: Callable[[Any, int, int, int], dict[str, float]] = simulate,
) -> Iterator[tuple[Any, dict[str, float]]]:
    """Simulate cells, one a core at a time, or take what is stored of them for as many studies; as they come to be known."""
    known = {}
    if store is not None and store.exists():
        lines = map(json.loads, store.read_text(encoding="utf-8").splitlines())
        known = {row["cell"]: row["rates"] for row in lines if (row["studies"], row["attempt"]) == (studies, attempt)}
    yield from ((cell, known[cell.name]) for cell in chosen if cell.name in known)
    with ProcessPoolExecutor(machine.cores(), get_context("spawn")) as pool:
        work = {pool.submit(simulate, cell, studies, attempt, whole): cell for cell in chosen if cell.name not in known}
        for done in as_completed(work):
            if store is not None:
                _append(
                    store,
                    {"cell": work[done].name, "studies": studies, "attempt": attempt, "rates": done.result()},
                )
            yield work[done], done.result()


def in_order(
    chosen: Sequence[Any], found: Iterable[tuple[Any, dict[str, float]]]
) -> list[tuple[Any, dict[str, float]]]:
    """What was found of cells, in the order in which they stand."""
    rates = dict(found)
    return [(cell, rates[cell]) for cell in chosen]


def _append(store: Path, row: dict[str, Any]) -> None:
    store.parent.mkdir(parents=True, exist_ok=True)
    with store.open("a", encoding="utf-8") as file:
        file.write(json.dumps(row) + "\n")


def measure(quick: bool) -> dict[str, Any]:
    """The whole grid with its bars; in small, a few cells that keep nothing."""
    if quick:
        chosen = cells(
            weights=(5,), seeds=(3, 5), correlations=(0.5,), noises=("normal", "collapse"), curves=("equal", "dip 4%")
        )
        return summary(in_order(chosen, run(chosen, QUICK_STUDIES)), QUICK_STUDIES)
    return summary(in_order(cells(), run(cells(), STUDIES, STORE)), STUDIES, again=True)


def summary(found: Sequence[tuple[Cell, dict[str, float]]], studies: int, again: bool = False) -> dict[str, Any]:
    """The worst cell of each bar, the cells above theirs (simulated once more where `again`), and power."""
    tables: dict[str, Any] = {}
    for what in ("use", "bound wrong", "best not kept", "disagreeing"):
        barred = [(rates[what] / max(bars(c)[what], 1e-9), c, rates[what]) for c, rates in found if what in bars(c)]
        if barred:
            _, cell, rate = max(barred, key=lambda row: row[0])
            tables[f"{what}: worst of {len(barred)} cells, bar {bars(cell)[what]:g}"] = {cell.name: rate}
    over = {c: o for c, rates in found if (o := above(c, rates, studies))}
    tables["cells above a bar"] = {
        f"{c.name}: {key}": rate for c, o in over.items() for key, (rate, _) in o.items()
    } or {"none": 0}
    if again and over:
        repeated = {c: above(c, rates, AGAIN) for c, rates in run([*over], AGAIN, STORE, attempt=1)}
        still = {f"{c.name}: {key}": rate for c, o in repeated.items() for key, (rate, _) in o.items()}
        tables[f"still above with {AGAIN:,} other studies"] = still or {"none": 0}
    for what in ("use", "settled", "more than 1 % off", "claimed before"):
        rows = {}
        for curve in dict.fromkeys(c.curve for c, _ in found):
            for seeds in dict.fromkeys(c.seeds for c, _ in found):
                rates = [
                    r[what]
                    for c, r in found
                    if (c.curve, c.seeds) == (curve, seeds) and c.is_line and c.noise == "normal"
                ]
                if rates:
                    rows[f"{curve}, {seeds} seeds"] = float(np.mean(rates))
        tables[f"{what}, normal noise on lines"] = rows
    return tables


def main() -> None:
    """A part of the grid, a line a cell."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--studies", type=int, default=STUDIES)
    parser.add_argument("--whole", type=int, default=WHOLE, help="records a cell that `decide` is asked of, too")
    parser.add_argument("--weights", type=int, nargs="+", default=WEIGHTS)
    parser.add_argument("--seeds", type=int, nargs="+", default=SEEDS)
    parser.add_argument("--correlations", type=float, nargs="+", default=CORRELATIONS)
    parser.add_argument("--noises", nargs="+", default=NOISES)
    parser.add_argument("--curves", nargs="+", default=CURVES)
    given = parser.parse_args()
    chosen = cells(given.weights, given.seeds, given.correlations, given.noises, given.curves)
    for cell, rates in run(chosen, given.studies, STORE, whole=given.whole):
        mark = " ".join(f"ABOVE {key}" for key in above(cell, rates, given.studies))
        print(f"{cell.name} | " + " ".join(f"{key} {rate:.3f}" for key, rate in rates.items()), mark, flush=True)


if __name__ == "__main__":
    main()
