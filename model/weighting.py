"""How the terms' weights go over a training: a registry's line in `model.names.WEIGHTINGS` names each; "fixed" is the default.

A weighting sees the unweighted terms of a step and makes their total. What it learns are its parameters, stepped by an Adam
like the run's own; what it carries from step to step are its buffers. Both are in the checkpoint (`state_dict`), so that a
killed run goes on with the same bits. Those that look at gradients are in `model.gradients`.

The run's weights λ stay what they are: they say which terms take part, and how much each counts before the rule has its say.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from depth_loss_sweep.model.names import terms_with
from depth_loss_sweep.model.schedule import stream_seed
from depth_loss_sweep.model.settings import LossSettings


class Weighting(nn.Module):
    """Base of all weightings; made from the run's weights, one for each term that it computes (0 where absent), and its settings."""

    rate_factor = 1.0
    """The learning rate of its parameters, times the network's."""

    def __init__(self, weights: Mapping[str, float], settings: LossSettings) -> None:
        super().__init__()
        self.given = {term: float(weights.get(term, 0.0)) for term in terms_with(weights)}

    @property
    def followed(self) -> frozenset[str]:
        """The terms that gradients go through; the others are computed without."""
        return frozenset(term for term, weight in self.given.items() if weight > 0)

    def begin(self, parameters: Sequence[Tensor]) -> None:
        """Be told the network's parameters that are trained, before the first step."""

    def begin_epoch(self) -> None:
        """Be told that an epoch begins."""

    def begin_step(self, progress: float, seed: int) -> None:
        """Be told before a step how much of the training is done, from 0 to 1, and the seed of what is random in it."""

    def end_epoch(self, means: Mapping[str, float]) -> None:
        """Be told the unweighted terms of the epoch that ends, each the mean over its steps."""

    def forward(self, terms: Mapping[str, Tensor], prediction: Tensor) -> Tensor:
        """The total, a scalar, of unweighted terms by name, in the order of `given`; those that need an image may be missing.

        `prediction` (B, 1, H, W) is what the terms were computed from.
        """
        raise NotImplementedError

    def effective(self) -> dict[str, float]:
        """The weights by term, for the record of an epoch: the mean over its steps so far."""
        raise NotImplementedError


class FixedWeighting(Weighting):
    """The weighted sum Σ λi·Li (Eq. 6); its weights are a buffer, so that other weights need no recompilation."""

    weights: Tensor

    def __init__(self, weights: Mapping[str, float], settings: LossSettings) -> None:
        super().__init__(weights, settings)
        # Known from the run's settings: not a state of its own.
        self.register_buffer("weights", torch.tensor(list(self.given.values())), persistent=False)

    def forward(self, terms: Mapping[str, Tensor], prediction: Tensor) -> Tensor:
        """Σ λi·Li."""
        weights = self.weights
        if len(terms) < len(self.given):
            weights = weights[[place for place, term in enumerate(self.given) if term in terms]]
        # A sum of products: autocast would take a matrix product to half precision.
        return (torch.stack(tuple(terms.values())) * weights).sum()

    def effective(self) -> dict[str, float]:
        """The weights that were given."""
        return self.given


class VaryingWeighting(Weighting):
    """Base of those whose weights are others from step to step: Σ wi·Li over the K terms that take part, those with λ > 0."""

    base: Tensor
    summed: Tensor
    steps: Tensor

    def __init__(self, weights: Mapping[str, float], settings: LossSettings) -> None:
        super().__init__(weights, settings)
        self.taking_part = tuple(term for term in self.given if term in self.followed)
        self.register_buffer("base", torch.tensor([self.given[term] for term in self.taking_part]), persistent=False)
        self.register_buffer("summed", torch.zeros(len(self.taking_part)))
        self.register_buffer("steps", torch.zeros(()))

    def weights(self, values: Sequence[Tensor], prediction: Tensor) -> Tensor:
        """The weights (K,) of a step from its K unweighted terms, in the order of `taking_part`."""
        raise NotImplementedError

    def begin_epoch(self) -> None:
        """Begin the mean of the weights anew."""
        self.summed.zero_()
        self.steps.zero_()

    def forward(self, terms: Mapping[str, Tensor], prediction: Tensor) -> Tensor:
        """Σ wi·Li."""
        values = self.values(terms)
        return self.weighted(values, self.weights(values, prediction))

    def values(self, terms: Mapping[str, Tensor]) -> list[Tensor]:
        """The terms that take part."""
        return [terms[term] for term in self.taking_part]

    def weighted(self, values: Sequence[Tensor], weights: Tensor) -> Tensor:
        """Σ wi·Li; the weights count in the epoch's mean."""
        self.summed += weights.detach()
        self.steps += 1
        return (torch.stack(tuple(values)) * weights).sum()

    def effective(self) -> dict[str, float]:
        """The mean over the epoch's steps so far; before the first, λ."""
        if not self.steps:
            return self.given
        return dict.fromkeys(self.given, 0.0) | dict(
            zip(self.taking_part, (self.summed / self.steps).tolist(), strict=True)
        )


class RandomWeighting(VaryingWeighting):
    """Weights drawn anew at each step: λi·K·softmax(z)i, z standard normal (RLW; Lin et al. 2022, sec. 3.1). On average near λ."""

    drawn: Tensor

    def __init__(self, weights: Mapping[str, float], settings: LossSettings) -> None:
        super().__init__(weights, settings)
        self.register_buffer("drawn", torch.ones(len(self.taking_part)), persistent=False)

    def begin_step(self, progress: float, seed: int) -> None:
        """Draw; on the CPU, so that it is the same on every device."""
        generator = torch.Generator().manual_seed(stream_seed(seed, 0))
        self.drawn.copy_(shares(torch.randn(len(self.taking_part), generator=generator)))

    def weights(self, values: Sequence[Tensor], prediction: Tensor) -> Tensor:
        """Those of the last draw."""
        return self.base * self.drawn


class AverageWeighting(VaryingWeighting):
    """Dynamic weight average: λi·K·softmax(r / T)i, ri = Li(t - 1) / Li(t - 2) of the two epochs before (DWA; Liu et al. 2019, Eq. 7).

    A term that falls more slowly than the others counts more. ri is 1 in the first two epochs.
    """

    last: Tensor
    now: Tensor

    def __init__(self, weights: Mapping[str, float], settings: LossSettings) -> None:
        super().__init__(weights, settings)
        self.temperature: float = settings.dwa_temperature  # type: ignore[attr-defined]  # of the registry's line
        self.register_buffer("last", torch.full((len(self.taking_part),), torch.nan))
        self.register_buffer("now", torch.ones(len(self.taking_part)))

    def end_epoch(self, means: Mapping[str, float]) -> None:
        """Take the rates at which the terms fell."""
        latest = torch.tensor([means[term] for term in self.taking_part]).to(self.last)
        ratios = torch.nan_to_num(latest / self.last, nan=1.0)
        self.now.copy_(shares(ratios / self.temperature))
        self.last.copy_(latest)

    def weights(self, values: Sequence[Tensor], prediction: Tensor) -> Tensor:
        """Those of the epoch."""
        return self.base * self.now


class UncertaintyWeighting(VaryingWeighting):
    """Σ exp(-si)·λi·Li + si with learned log-variances si (Kendall, Gal & Cipolla 2018, Eq. 7; the common factor ½ left out).

    si begins at 0. It rests where exp(-si)·λi·Li = 1, so λ cancels but for the start.
    """

    def __init__(self, weights: Mapping[str, float], settings: LossSettings) -> None:
        super().__init__(weights, settings)
        self.rate_factor = settings.uncertainty_rate  # type: ignore[attr-defined]  # of the registry's line
        self.log_variances = nn.Parameter(torch.zeros(len(self.taking_part)))

    def weights(self, values: Sequence[Tensor], prediction: Tensor) -> Tensor:
        """λ over the variances; the gradient of the log-variances passes through."""
        return self.base * (-self.log_variances).exp()

    def forward(self, terms: Mapping[str, Tensor], prediction: Tensor) -> Tensor:
        """Σ exp(-si)·λi·Li + si."""
        return super().forward(terms, prediction) + self.log_variances.sum()


def shares(logits: Tensor) -> Tensor:
    """K·softmax (K,): weights whose mean is 1."""
    return len(logits) * torch.softmax(logits, 0)
