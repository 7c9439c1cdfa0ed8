"""The terms' gradients by the prediction: how far they agree, and the weightings that go by them.

By the prediction they cost a pass through the losses each; every term reaches the parameters through the prediction alone. By the
network's parameters, as their papers have them, they cost a pass through the network each.
"""

from collections.abc import Mapping, Sequence
from itertools import combinations

import torch
from torch import Tensor, nn

from depth_loss_sweep.model.settings import LossSettings
from depth_loss_sweep.model.weighting import VaryingWeighting, shares

RIDGE = 1e-9
"""Added to the cosines' diagonal: gradients that are the same, or opposite, leave no weights undetermined."""


def term_gradients(values: Sequence[Tensor], by: Sequence[Tensor]) -> Tensor:
    """(K, numbers): the gradient of each of K terms by tensors that they were computed from; the graph is kept."""
    found = [torch.autograd.grad(value, by, retain_graph=True, materialize_grads=True) for value in values]
    return torch.stack([torch.cat([part.flatten() for part in parts]) for parts in found])


def norm_shares(gradients: Mapping[str, Tensor], weights: Mapping[str, float]) -> dict[str, float]:
    """Each term's share of the sum of weighted gradients' norms; `gradients` are flat, by term, of those that are weighted.

    `weights` are those of all terms that the run computes.
    """
    norms = torch.stack([weights[term] * gradient.norm() for term, gradient in gradients.items()])
    return dict.fromkeys(weights, 0.0) | dict(zip(gradients, (norms / norms.sum()).tolist(), strict=True))


def agreement(gradients: Mapping[str, Tensor], weights: Mapping[str, float]) -> dict[str, float]:
    """How far each two weighted gradients agree: "cosine_<a>_<b>", below 0 in conflict, and "similarity_<a>_<b>" of their sizes.

    `gradients` are flat, by term. Magnitude similarity is 2|a||b| / (|a|² + |b|²), 1 where both are as large (Yu et al. 2020, Def. 3).
    NaN where both are nothing, the cosine where one is.
    """
    rows = torch.stack([weights[term] * gradient for term, gradient in gradients.items()])
    products = (rows @ rows.T).double().cpu()
    squares = products.diag()
    lengths = (squares * squares[:, None]).sqrt()
    cosines, similarities = products / lengths, 2 * lengths / (squares + squares[:, None])
    found = {}
    for (i, one), (j, other) in combinations(enumerate(gradients), 2):
        found[f"cosine_{one}_{other}"] = cosines[i, j].item()
        found[f"similarity_{one}_{other}"] = similarities[i, j].item()
    return found


class GradNormWeighting(VaryingWeighting):
    """Learned weights under which every term pulls as hard as its rate of learning asks (GradNorm; Chen et al. 2018, Alg. 1).

    Weights are λi·K·softmax(s)i, which keeps their shares' sum at K, as the paper's rescaling does, and none below 0. s descends
    on Σ |Gi - mean(G)·ri^α|, Gi the norm of the weighted term's gradient, ri its loss over its first one, over the mean of
    these. It rests where the Gi stand in these proportions, so λ cancels but for the start.
    """

    first: Tensor

    def __init__(self, weights: Mapping[str, float], settings: LossSettings) -> None:
        super().__init__(weights, settings)
        self.alpha: float = settings.gradnorm_alpha  # type: ignore[attr-defined]  # of the registry's line
        self.rate_factor = settings.gradnorm_rate  # type: ignore[attr-defined]
        self.log_shares = nn.Parameter(torch.zeros(len(self.taking_part)))
        self.register_buffer("first", torch.zeros(len(self.taking_part)))

    def forward(self, terms: Mapping[str, Tensor], prediction: Tensor) -> Tensor:
        """Σ wi·Li; its gradient by s is that of the distance from the proportions."""
        values = self.values(terms)
        weights = self.base * shares(self.log_shares)
        norms = weights * term_gradients(values, [prediction]).norm(dim=1)
        with torch.no_grad():
            now = torch.stack(values)
            self.first.copy_(torch.where(self.first > 0, self.first, now))
            rates = torch.where(
                self.first > 0, now / self.first, 1.0
            )  # a term may have had nothing to be computed from yet
            aims = norms.mean() * (rates / rates.mean().clamp_min(torch.finfo(rates.dtype).tiny)) ** self.alpha
        distance = (norms - aims).abs().sum()
        return self.weighted(values, weights.detach()) + (distance - distance.detach())


class UPGradWeighting(VaryingWeighting):
    """Weights under which a step raises no term, to first order (UPGrad; Quinton & Rey 2024, sec. 3.1). λ where none conflict.

    The terms' gradients are those by the prediction, or, as in the paper, by the network's parameters.
    """

    def __init__(self, weights: Mapping[str, float], settings: LossSettings) -> None:
        super().__init__(weights, settings)
        self.by: str = settings.upgrad_by  # type: ignore[attr-defined]  # of the registry's line
        self.parameters_by: Sequence[Tensor] = ()

    def begin(self, parameters: Sequence[Tensor]) -> None:
        """Be told whose gradients count."""
        self.parameters_by = parameters

    def weights(self, values: Sequence[Tensor], prediction: Tensor) -> Tensor:
        """By the Gramian of the terms' gradients."""
        place = (
            "cpu" if prediction.device.type == "mps" else prediction.device
        )  # the one that knows no double precision
        by = [prediction] if self.by == "prediction" else self.parameters_by
        gradients = term_gradients(values, by).to(place, torch.float64)
        return unconflicting(gradients @ gradients.T, self.base.to(gradients)).to(self.base)


def unconflicting(gramian: Tensor, preference: Tensor) -> Tensor:
    """Σi argmin vᵀGv over v ≥ λi·ei: each weighted gradient, projected onto those that conflict with none, summed.

    `gramian` is (K, K), `preference` λ (K,), both in double precision. The minimum is at the stationary point of one of the 2^K
    sets of free coordinates: all are solved at once, exactly, and nothing waits for the device.
    """
    count = len(preference)
    norms = gramian.diag().sqrt().clamp_min(torch.finfo(gramian.dtype).tiny ** 0.5)
    same = torch.eye(count, dtype=gramian.dtype, device=gramian.device)
    # By cosines: the cone doesn't know how long a gradient is, and terms of other units differ by orders of magnitude.
    cosines = gramian / (norms * norms[:, None]) * (1 - same) + (1 + RIDGE) * same
    least = torch.diag(preference * norms)
    places = torch.arange(count, device=gramian.device)
    sets = torch.arange(2**count, device=gramian.device)
    free = (sets[:, None] >> places & 1).to(gramian.dtype)[:, :, None]
    beyond = _solve(free * cosines * free.mT + (1 - free) * same, -free * (cosines @ least))
    points = least + beyond
    values = (points * (cosines @ points)).sum(dim=1)
    chosen = values.masked_fill(~(beyond >= 0).all(dim=1), torch.inf).argmin(dim=0)
    return points[chosen, :, places].sum(dim=0) / norms


def _solve(matrices: Tensor, right: Tensor) -> Tensor:
    """Solve positive definite systems (S, K, K) for (S, K, R), by elimination in order: torch's own waits for the device."""
    count = matrices.shape[-1]
    table = torch.cat((matrices, right), dim=2)
    for pivot in range(count):
        row = table[:, pivot : pivot + 1] / table[:, pivot : pivot + 1, pivot : pivot + 1]
        factors = table[:, :, pivot : pivot + 1].clone()
        factors[:, pivot] -= 1  # so that the pivot's row becomes `row`
        table = table - factors * row
    return table[:, :, count:]
