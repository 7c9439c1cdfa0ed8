"""The samplers that draw a search's points, by name: which of Optuna's each is, what it can draw, how it is made for a trial.

Optuna is imported when a sampler is made. Each trial has a sampler of its own, seeded by (search.seed, trial number).
"""

import hashlib
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from depth_loss_sweep.errors import SpecError

if TYPE_CHECKING:
    from optuna.samplers import BaseSampler


@dataclass(frozen=True)
class Sampler:
    """One of Optuna's samplers."""

    kind: str
    """Its class in optuna.samplers."""
    options: Mapping[str, Any] = field(default_factory=dict)
    keeps_notes: bool = False
    """Whether it notes in the study what it needs to go on, so that trials alone don't bring it back to where it stood."""
    draws_choices: bool = True
    """Whether it draws from lists, too, or from intervals only."""
    knows_pruned: bool = False
    """Whether it learns from pruned trials; any other, and any with two objectives, is told of them as complete, with the last
    values that were seen."""
    least_variables: int = 1
    takes_two: bool = True
    """Whether it can go by two objectives."""
    package: str | None = None
    """What it needs that is not installed with us, but by the extra of that name."""
    is_sequence: bool = False
    """Whether its points are those of one sequence, which search.seed alone determines."""

    def make(self, seed: int, number: int) -> "BaseSampler":
        """The sampler of the trial of that number in a search of that seed."""
        from optuna import samplers
        from optuna.exceptions import ExperimentalWarning

        options = {
            "seed": int.from_bytes(hashlib.sha256(f"{seed}:{number}".encode()).digest()[:4], "big"),
            **self.options,
        }
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            if self.is_sequence:  # its first point alone is drawn at random
                options |= {"seed": seed, "independent_sampler": samplers.RandomSampler(seed=options["seed"])}
            return getattr(samplers, self.kind)(**options)


POPULATION = 10
"""Of a generation of NSGA-II: searches here have tens of trials, and Optuna's 50 would draw them all at random."""
SAMPLERS: dict[str, Sampler] = {
    "random": Sampler("RandomSampler", knows_pruned=True),
    "tpe": Sampler("TPESampler", {"multivariate": True, "constant_liar": True}, knows_pruned=True),
    "cmaes": Sampler(
        "CmaEsSampler",
        {"warn_independent_sampling": False},
        keeps_notes=True,
        draws_choices=False,
        takes_two=False,
        package="cmaes",
    ),
    "gp": Sampler("GPSampler", {"warn_independent_sampling": False}),
    # Of one variable nothing is left to recombine: it would draw at random.
    "nsga2": Sampler("NSGAIISampler", {"population_size": POPULATION}, keeps_notes=True, least_variables=2),
    "qmc": Sampler(
        "QMCSampler", {"scramble": True, "warn_independent_sampling": False}, keeps_notes=True, is_sequence=True
    ),
}


def require_sampler(name: str) -> None:
    """Raise `SpecError` where a sampler needs a package that is not installed."""
    package = SAMPLERS[name].package if name in SAMPLERS else None
    if package and find_spec(package) is None:
        raise SpecError(
            f"sampler = {name!r} needs the package {package}: pip install 'depth-loss-sweep[{package}]', or choose another"
        )
