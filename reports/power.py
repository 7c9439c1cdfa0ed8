"""From how many seeds, or scenes, on a claim would be shown: by their noise and the very test that judges it, never by its effect.

A claim that holds is supposed to hold just so: where equals satisfy it, they are equal; where it is of a gain, the gain is the
margin. What is observed so far is chance's part, too, and isn't taken.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from scipy import special

from depth_loss_sweep.reports.claims import Pairs, Test, bound
from depth_loss_sweep.reports.comparisons import POWER

MOST = 500
"""Seeds; beyond, nobody will train them."""

DRAWS = 600
"""Of made-up studies: the number of seeds is then right within a tenth."""

ONE_ERROR = 0.32
"""The two-sided level of an interval of about a standard error to each side, of which a bootstrap has draws enough."""


def supposed(statement: Pairs, margin: float) -> float | None:
    """The gain at which a statement is supposed to hold, as gains have it; None where it is of something else."""
    if statement.low <= 0:
        return -bound(-margin, statement.is_relative) if statement.low == 0 else 0.0
    return None


def is_excluded(statement: Pairs, gain: float, level: float) -> bool:
    """Whether a gain, as gains have it, lies outside the interval of a statement's mean at a two-sided level."""
    sides = (replace(statement, low=-math.inf, high=gain), replace(statement, low=gain, high=math.inf))
    return any(float(side.p(statement.gains)) <= level / 2 for side in sides)


def seeds_needed(statements: Sequence[Pairs], margin: float, level: float, power: float = POWER) -> int | None:
    """From how many seeds on all of these are shown together at a two-sided level, with this power; None beyond `MOST`.

    Noise is normal, with the spread and the correlation of the measured gains. By Student's power function it would be far too
    few: it knows neither of Hall's t, which asks for more seeds at these levels, nor of several statements.
    """
    truths = [supposed(statement, margin) or 0.0 for statement in statements]
    mixing = _mixing([statement.gains for statement in statements])

    def is_enough(n: int) -> bool:
        # The first seeds are the same for any n.
        noise = np.random.default_rng(0).standard_normal((n, DRAWS, mixing.shape[1]))
        shown = np.ones(DRAWS, dtype=bool)
        for statement, truth, row in zip(statements, truths, mixing, strict=True):
            shown &= statement.p(truth + (noise @ row).T) < level / 2
            if shown.mean() < power:
                return False
        return True

    return _least(is_enough, MOST)


def _mixing(gains: Sequence[np.ndarray]) -> np.ndarray:
    """What makes gains like these of independent noise: (statements, sources); independent ones where seeds aren't the same."""
    if len({len(row) for row in gains}) > 1:
        return np.diag([row.std(ddof=1) for row in gains])
    rest = np.array([row - row.mean() for row in gains]) / math.sqrt(len(gains[0]) - 1)
    return np.asarray(np.linalg.qr(rest.T, mode="r")).T


def scenes_needed(gap: Test, margin: float, level: float, power: float = POWER) -> int | None:
    """From how many scenes on a gap of 0 is shown to be within the margin, about; None beyond a million, or where there is but one.

    By the bootstrap's spread, which falls with the root of the number of scenes, and Student's t. Each of the margin's two sides is
    missed in half of what the power leaves.
    """
    if gap.n < 2:
        return None
    low, high = gap.interval(ONE_ERROR)
    spread = (high - low) / 2 / -float(special.stdtrit(gap.n - 1, ONE_ERROR / 2)) * math.sqrt(gap.n)
    others = float(special.ndtri((1 + power) / 2))
    return _least(
        lambda n: (float(special.stdtrit(n - 1, 1 - level / 2)) + others) * spread <= margin * math.sqrt(n), 1_000_000
    )


def _least(is_enough: Callable[[int], bool], most: int) -> int | None:
    """The least number from 2 on that is enough."""
    low, high = 1, 2
    while not is_enough(high):
        if high == most:
            return None
        low, high = high, min(2 * high, most)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if is_enough(middle) else (middle, high)
    return high
