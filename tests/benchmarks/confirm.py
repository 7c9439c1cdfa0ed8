"""Do confirmed levels and gains hold what their intervals say? `reports.confirmation` on made-up confirming runs of known truth.

Seeds are normal around a level, correlated between weights; a quarter of the runs breaks, or none. The test scenes are a sample as
well: one interval is to cover what these scenes have, the other one what all scenes have that these were drawn from.
"""

import math
import zlib
from dataclasses import dataclass
from itertools import product

import numpy as np

from depth_loss_sweep.reports.confirmation import EQUAL_WEIGHTS, WINNER, ConfirmationRecord, FreshRun, confirm
from depth_loss_sweep.reports.measures import Measure
from depth_loss_sweep.reports.references import Candidate
from depth_loss_sweep.reports.scenes import PictureValues
from tests.benchmarks.answer import STORE as ANSWERS
from tests.benchmarks.answer import in_order, run

STORE = ANSWERS.with_name("confirm.jsonl")
SD, SCENE_SD, INTERACTION_SD = (
    0.03,
    0.25,
    0.03,
)  # relative, as on real pictures: of a run, of a scene, of scene and weights
SCENES, BAR = 37, 0.93
TRUTH = (0.97, 1.0)  # of the winner and of equal weights, on all scenes that there are
STUDIES, QUICK_STUDIES = 4000, 300
RMSE = Measure("metric_rmse", "RMSE", "m")
OUTCOMES = {"learnt": False, "flat": True}
CANDIDATES = (Candidate("w", (WINNER,), {"ssim": 1.0}), Candidate("equal", (EQUAL_WEIGHTS,), {"ssim": 1.0, "l1": 1.0}))


@dataclass(frozen=True)
class Cell:
    """One kind of confirmation: its fresh seeds, how much of a run's variance they share, and how often a run breaks."""

    seeds: int
    correlation: float
    collapsing: float

    @property
    def name(self) -> str:
        """A cell in words."""
        return f"{self.seeds} seeds, correlation {self.correlation:g}, {self.collapsing:.0%} break"


def measure(quick: bool) -> dict[str, dict[str, float]]:
    """Coverage of levels, gains and the probability to break, by seeds, correlation and collapsing runs."""
    cells = [Cell(*parts) for parts in product((3, 5, 12), (0.0, 0.5, 0.9), (0.0, 0.25))]
    found = run(cells, QUICK_STUDIES if quick else STUDIES, None if quick else STORE, simulate=simulate)
    return {cell.name: rates for cell, rates in in_order(cells, found)}


def simulate(cell: Cell, studies: int, attempt: int = 0, _whole: int = 0) -> dict[str, float]:
    """How often each interval of a cell covers the truth."""
    random = np.random.default_rng([zlib.crc32(cell.name.encode()), attempt])
    seeds, correlation, collapsing = cell.seeds, cell.correlation, cell.collapsing
    hits: dict[str, list[bool]] = {}
    for _ in range(studies):
        scenes = 1 + SCENE_SD * random.standard_normal(SCENES)
        pictures = np.array([lv * (scenes + INTERACTION_SD * random.standard_normal(SCENES)) for lv in TRUTH])
        own = pictures.mean(axis=1)
        shared = math.sqrt(correlation) * random.standard_normal(seeds)
        noise = SD * (shared + math.sqrt(1 - correlation) * random.standard_normal((2, seeds)))
        broke = random.random((2, seeds)) < collapsing
        said = confirm(_record(pictures[:, None] + noise[:, :, None], broke), RMSE, 0.02).rows[0]
        claims = [
            ("level", said.low, said.high, own[0]),
            ("level on new scenes", said.low_scenes, said.high_scenes, TRUTH[0]),
            ("P(broken)", said.broken_low, said.broken_high, collapsing),
        ]
        if said.gain is not None:
            claims += [
                ("gain", said.gain.low, said.gain.high, own[1] - own[0]),
                ("gain on new scenes", said.gain.low_scenes, said.gain.high_scenes, TRUTH[1] - TRUTH[0]),
            ]
        for name, low, high, truth in claims:
            if low is not None and high is not None and math.isfinite(low):
                hits.setdefault(name, []).append(low <= truth <= high)
    shares = {f"coverage of the {name}": float(np.mean(of)) for name, of in hits.items()}
    return {**shares, f"least (bar {BAR})": min(shares.values())}


def _record(values: np.ndarray, broke: np.ndarray) -> ConfirmationRecord:
    runs = tuple(
        FreshRun(c.name, s, f"{c.name}{s}", "flat" if broke[i, s] else "learnt", True, v.mean(), v.mean())
        for i, c in enumerate(CANDIDATES)
        for s, v in enumerate(values[i])
    )
    per_image = {f"{c.name}{s}": v for c, of in zip(CANDIDATES, values, strict=True) for s, v in enumerate(of)}
    pictures = PictureValues(tuple(map(str, range(SCENES))), per_image)
    seeds = tuple(range(values.shape[1]))
    return ConfirmationRecord(CANDIDATES, seeds, runs, test_images=SCENES, outcomes=OUTCOMES, pictures=pictures)
