"""How the terms' weights go over a training: a registry's line in `model.names.WEIGHTINGS` names each; "fixed" is the default.

A weighting sees the unweighted terms of a step and makes their total. What it learns are its parameters, stepped by the run's
optimiser; what it carries from step to step are its buffers. Both are in the checkpoint (`state_dict`), so that a killed run
goes on with the same bits.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from depth_loss_sweep.model.names import TERMS
from depth_loss_sweep.model.settings import LossSettings


class Weighting(nn.Module):
    """Base of all weightings; made from the run's weights, one for each of `TERMS` (0 where absent), and its loss settings."""

    def __init__(self, weights: Mapping[str, float], settings: LossSettings) -> None:
        super().__init__()
        self.given = {term: float(weights.get(term, 0.0)) for term in TERMS}

    @property
    def followed(self) -> frozenset[str]:
        """The terms that gradients go through; the others are computed without."""
        return frozenset(term for term, weight in self.given.items() if weight > 0)

    def begin_step(self, progress: float) -> None:
        """Be told how much of the training is done before a step, from 0 to 1."""

    def forward(self, terms: Mapping[str, Tensor]) -> Tensor:
        """The total, a scalar, of unweighted terms by name, in the order of `TERMS`; those that need an image may be missing."""
        raise NotImplementedError

    def effective(self) -> dict[str, float]:
        """The weights by term as they are now, for the record of an epoch."""
        raise NotImplementedError


class FixedWeighting(Weighting):
    """The weighted sum Σ λi·Li (Eq. 6); its weights are a buffer, so that other weights need no recompilation."""

    weights: Tensor

    def __init__(self, weights: Mapping[str, float], settings: LossSettings) -> None:
        super().__init__(weights, settings)
        # Known from the run's settings: not a state of its own.
        self.register_buffer("weights", torch.tensor(list(self.given.values())), persistent=False)

    def forward(self, terms: Mapping[str, Tensor]) -> Tensor:
        """Σ λi·Li."""
        weights = self.weights
        if len(terms) < len(TERMS):
            weights = weights[[place for place, term in enumerate(TERMS) if term in terms]]
        # A sum of products: autocast would take a matrix product to half precision.
        return (torch.stack(tuple(terms.values())) * weights).sum()

    def effective(self) -> dict[str, float]:
        """The weights that were given."""
        return self.given
