"""What each sampler finds for its cost, on made-up surfaces over the simplex, beside Optuna's own loop.

A trial's value is the surface's there, times noise as the mean of three seeds has it. The regret is how much worse than the surface's
least the trial of the best value truly is, in per cent. Optuna's loop asks one at a time under one sampler; ours asks four at once.
"""

import statistics
from collections.abc import Callable, Mapping

import numpy as np
import optuna

from depth_loss_sweep.projection import EDGE, Suggester, simplex_point
from depth_loss_sweep.samplers import SAMPLERS
from depth_loss_sweep.spec_file import load_spec

TERMS = ("silog", "ssim", "edge", "l1")
TRIALS, LOOKS = 40, (10, 20, 40)
STUDIES, SLOW_STUDIES, QUICK_STUDIES = 20, 3, 1
SLOW = ("gp",)  # half a second a trial
NOISE = 0.01

Point = Mapping[str, float]


def bowl(point: Point) -> float:
    """Least at weights of which none is nothing."""
    target = (0.6, 0.2, 0.1, 0.1)
    return sum((point[term] - best) ** 2 for term, best in zip(TERMS, target, strict=True))


def ridge(point: Point) -> float:
    """A narrow valley that falls slowly towards its end, at SSIM 1/3 and SILog 2/3."""
    return 3 * (point["silog"] - 2 * point["ssim"]) ** 2 + 0.1 * (point["edge"] + point["l1"])


def corner(point: Point) -> float:
    """Least where SILog alone is trained."""
    return 0.3 * (1 - point["silog"])


def ours(sampler: str, seed: int, value: Callable[[int, Point], float], parallel: int = 4) -> list[Point]:
    """The points of a search of ours: trial n is asked when n - parallel + 1 were told."""
    search = {"sampler": sampler, "seed": seed, "trials": TRIALS, "parallel": parallel}
    suggester = Suggester(load_spec("lambda-search", {f"search.{key}": value for key, value in search.items()}))
    points: list[Point] = []
    for number in range(TRIALS):
        points.append(suggester.ask()[0])
        if (told := number - parallel + 1) >= 0:
            suggester.tell(told, "complete", value(told, points[told]), 1)
    return points


def optunas(sampler: str, seed: int, value: Callable[[int, Point], float]) -> list[Point]:
    """The points of Optuna's own loop over the same uniforms."""
    points: list[Point] = []

    def objective(trial: optuna.Trial) -> float:
        points.append(simplex_point({f"u_{term}": trial.suggest_float(f"u_{term}", EDGE, 1 - EDGE) for term in TERMS}))
        return value(trial.number, points[-1])

    optuna.create_study(sampler=SAMPLERS[sampler].make(seed, 0)).optimize(objective, n_trials=TRIALS)
    return points


def regrets(
    points: list[Point], surface: Callable[[Point], float], value: Callable[[int, Point], float]
) -> list[float]:
    """In per cent, after so many trials as there are looks."""
    values = [value(number, point) for number, point in enumerate(points)]
    return [100 * surface(points[int(np.argmin(values[:count]))]) for count in LOOKS]


def measure(quick: bool) -> dict[str, dict[str, str]]:
    """A table a surface: median regret of each sampler after 10, 20 and 40 trials, ours and Optuna's own loop's."""
    found: dict[str, dict[str, str]] = {}
    for surface in (bowl, ridge, corner):
        rows: dict[str, str] = {}
        for sampler in SAMPLERS:
            studies = QUICK_STUDIES if quick else SLOW_STUDIES if sampler in SLOW else STUDIES
            by_loop: dict[str, list[list[float]]] = {"ours": [], "Optuna's": []}
            for seed in range(studies):
                noise = np.random.default_rng(seed).normal(0, NOISE, TRIALS)

                def value(number: int, point: Point, noise: np.ndarray = noise) -> float:
                    return float((1 + surface(point)) * (1 + noise[number]))  # noqa: B023

                for loop, points in (("ours", ours(sampler, seed, value)), ("Optuna's", optunas(sampler, seed, value))):
                    by_loop[loop].append(regrets(points, surface, value))
            rows[f"{sampler} ({studies})"] = "; ".join(
                f"{loop} {', '.join(f'{statistics.median(column):.2f}' for column in zip(*found_, strict=True))}"
                for loop, found_ in by_loop.items()
            )
        found[f"{surface.__name__}: median regret in % after {LOOKS} trials (of so many studies)"] = rows
    return found
