"""Is a weight that is said to matter one that does, and does its interval hold? `reports.importance` on searches of known truth.

The surfaces and the noise are those of `samplers`, beside two on which weights are known not to matter: all of them, and all but one ratio.
A share's truth is that of a hundred thousand random trials, so its interval is held against it under random points alone: another sampler
draws its trials where it likes, and its shares are of those. The same searches say how often a correlation with nothing is shown.
"""

from collections.abc import Callable
from functools import cache

import numpy as np

from depth_loss_sweep.reports.importance import Importance, Space, importance_of, of_weights, shares_of
from depth_loss_sweep.reports.intervals import rank_correlation, rank_interval
from tests.benchmarks.samplers import NOISE, TERMS, Point, bowl, corner, ours, ridge

STUDIES, SEARCHES, QUICK_STUDIES = 400, 60, 20
SEEDS, TRIALS = 3, (20, 40, 60)
SAMPLERS = ("tpe", "cmaes", "nsga2", "qmc")
MANY = 100_000

Surface = Callable[[Point], float]


def flat(point: Point) -> float:
    """Nothing matters."""
    return 0.0


def ratio(point: Point) -> float:
    """Nothing but how SILog stands to SSIM."""
    return 0.01 * float(np.log(max(point["silog"], 0.01) / max(point["ssim"], 0.01))) ** 2


SURFACES: dict[Surface, tuple[str, ...]] = {
    flat: (),
    ratio: ("silog", "ssim"),
    bowl: TERMS,
    ridge: TERMS,
    corner: TERMS,
}
"""Surface -> the terms that matter on it. More of any term is less of the others: on the last three, all do."""


def drawn(trials: int, random: np.random.Generator) -> list[Point]:
    """Points of a random search."""
    return [dict(zip(TERMS, map(float, row), strict=True)) for row in random.dirichlet(np.ones(len(TERMS)), trials)]


def space(points: list[Point]) -> Space:
    """Where they stand."""
    return of_weights({term: np.array([point[term] for point in points]) for term in TERMS})


def values(surface: Surface, points: list[Point], noise: np.ndarray) -> np.ndarray:
    """What is compared of them, (trials, seeds)."""
    return np.log1p([surface(point) for point in points])[:, None] + noise


def noise_of(trials: int, random: np.random.Generator) -> np.ndarray:
    """That of each seed, so that their mean has what `samplers` has; a part is shared by all trials."""
    own = random.normal(0, NOISE * SEEDS**0.5, (trials, SEEDS))
    return own + random.normal(0, NOISE, (1, SEEDS))


@cache
def truth(surface: Surface) -> dict[str, float]:
    """The shares among random trials without end."""
    random = np.random.default_rng(0)
    points = drawn(MANY, random)
    return shares_of(space(points), values(surface, points, random.normal(0, NOISE, (MANY, 1)))[:, 0])


def searched(sampler: str, surface: Surface, trials: int, seed: int) -> tuple[list[Point], np.ndarray]:
    """The points of a search, and what is compared of them."""
    random = np.random.default_rng([seed, trials])
    noise = noise_of(trials, random)
    if sampler == "random":
        points = drawn(trials, random)
    else:
        points = ours(sampler, seed, lambda n, point: float(np.exp(np.log1p(surface(point)) + noise[n].mean())))
    return points, values(surface, points, noise)


def judged(found: Importance, surface: Surface, is_random: bool) -> dict[str, float]:
    """Whether a weight is named wrongly, how many of those that matter are named, how many intervals hold, how wide they are."""
    matter = SURFACES[surface]
    named = {share.name for share in found.shares if share.is_shown}
    told = {"names one wrongly": float(bool(named - {*matter}))}
    if matter:
        told["names those that matter"] = len(named & {*matter}) / len(matter)
    if is_random:
        told["intervals hold"] = float(
            np.mean([s.low <= max(0.0, truth(surface)[s.name]) <= s.high for s in found.shares])
        )
    return told | {"width": float(np.mean([s.high - s.low for s in found.shares]))}


def correlates(points: list[Point], y: np.ndarray) -> float:
    """Whether a correlation of the outcome with something that goes by the weights is shown."""
    agreement = [point["silog"] / (point["silog"] + point["ssim"]) for point in points]
    low, high = rank_interval(rank_correlation(agreement, y.mean(axis=1).tolist()), len(points))
    return float(low > 0 or high < 0)


def measure(quick: bool) -> dict[str, dict[str, str]]:
    """A row a kind of search; rates and means over made-up ones."""
    cells = [("random", surface, trials) for surface in SURFACES for trials in TRIALS]
    cells += [(sampler, surface, 40) for sampler in SAMPLERS for surface in (flat, ratio)]
    rows = {}
    for sampler, surface, trials in cells:
        count = QUICK_STUDIES if quick else STUDIES if sampler == "random" else SEARCHES
        found: dict[str, list[float]] = {}
        for seed in range(count):
            points, y = searched(sampler, surface, trials, seed)
            told = judged(importance_of(space(points), y), surface, sampler == "random")
            told |= {"correlates": correlates(points, y)} if surface is flat else {}
            for what, value in told.items():
                found.setdefault(what, []).append(value)
        name = f"{surface.__name__}, {sampler}, {trials} trials ({count})"
        rows[name] = ", ".join(f"{what} {np.mean(own):.3f}" for what, own in found.items())
    return {"importance: rates over made-up searches": rows}
