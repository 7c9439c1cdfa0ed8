"""A race: weights are trained under more and more seeds, stage by stage, and those that can't be best are dropped.

A stage is the weights alive under the first n seeds, decided once all of its runs are stored. The level is shared evenly by
the stages, and comparisons stay those of all weights that began: the best is dropped in 5 % of races at most.
What a stage says is `reports.decision`'s, and `reports.race` replays them. Light: neither numpy nor pandas.

A search's trials are not raced, for the search chose its points by their numbers: the best by these owe part of it to luck (the
winner's curse), and under the same seeds they would go on owing it. Its best five are raced anew, under seeds that it never saw.
"""

from collections.abc import Sequence
from dataclasses import dataclass

STAGES = (3, 5, 8, 12, 20)
"""After how many seeds a race is decided, unless it is said otherwise."""

LEAST_SEEDS = 3
"""With fewer in common, no difference is told from luck."""

FINALS_SEED = 20_000
"""The race of a search's best counts its seeds from here: beyond those that confirm, from 10,000 on, at most a thousand."""


@dataclass(frozen=True)
class Dropped:
    """A trial that a stage excluded from the best; its numbers stay those of that stage, under so many seeds."""

    trial: int
    stage: int
    seeds: int


@dataclass(frozen=True)
class Race:
    """Where a race stands: `stage` of `stages`, under so many `seeds`, was decided last (0 where none was yet).

    `alive` may still be best, of the `began`; they are to be trained under `next_seeds` seeds each, None where it is over.
    """

    stage: int
    stages: int
    seeds: int
    began: int
    alive: tuple[int, ...]
    dropped: tuple[Dropped, ...] = ()
    next_seeds: int | None = None


def race_seeds(seeds: Sequence[int], most: int) -> tuple[int, ...]:
    """The first `most` seeds of a race: those given, then the next whole numbers."""
    following = range(max(seeds) + 1, max(seeds) + 1 + most)
    return (*seeds, *following)[:most]
