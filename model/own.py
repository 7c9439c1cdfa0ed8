"""Terms, metrics and networks of the user's own: called as `docs/your-code.md` says, and held to it.

A term or metric takes maps (B, 1, H, W) in float32 and metres, a term the picture (B, 3, H, W) in [0, 1], too, and returns a value an
image, (B,), NaN where an image has nothing to compute it on. A network's `build(*, depth_range, image_size, **options)` returns a
module from pictures to one raw channel, (B, 1, H, W).
"""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from depth_loss_sweep.errors import CodeError
from depth_loss_sweep.model.settings import ModelSettings, OwnMetric, OwnTerm
from depth_loss_sweep.usercode import as_guest, explain, load, shown


def term_values(own: OwnTerm, pred: Tensor, target: Tensor, mask: Tensor, image: Tensor) -> tuple[Tensor, Tensor]:
    """A term's values, and which images count, (B,) both."""
    return called(load(own.function), shown(own.function), (pred, target, mask, image), own.options)


def called(
    term: Callable[..., Any], name: str, maps: tuple[Tensor, Tensor, Tensor, Tensor | None], options: Mapping[str, Any]
) -> tuple[Tensor, Tensor]:
    """The same of any function. Its gradient is 0 where an image doesn't count, whatever NaN's may be."""
    pred, target, mask, image = maps
    seen, counted = pred.float(), list[Tensor]()
    if seen.requires_grad:
        seen = seen.view_as(seen)
        seen.register_hook(lambda gradient: torch.where(counted[-1].view(-1, 1, 1, 1), gradient, 0.0))
    value = _values(name, term, (seen, target, mask, image), options)
    # NaN of a prediction that is not finite is no "nothing to compute": training has to notice.
    counted.append(~value.isnan() | _is_broken(pred, mask))
    return value, counted[-1]


def metric_values(own: OwnMetric, pred: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    """A metric's values, (B,): NaN where there is nothing to compute, the worst infinity where the prediction isn't finite."""
    value = _values(shown(own.function), load(own.function), (pred.float(), target, mask), own.options)
    worst = -torch.inf if own.better == "higher" else torch.inf
    return torch.where(_is_broken(pred, mask), worst, value)


def _is_broken(pred: Tensor, mask: Tensor) -> Tensor:
    """Whether an image's prediction is not finite at a valid pixel, (B,)."""
    return (mask & ~pred.isfinite()).flatten(1).any(dim=1)


def _values(
    name: str, function: Callable[..., Any], maps: tuple[Tensor | None, ...], options: Mapping[str, Any]
) -> Tensor:
    """What a function of the user's gives, (B,)."""
    pred = maps[0]
    assert pred is not None
    try:
        with as_guest():
            value = function(*maps, **options)
    except SystemExit as error:
        raise CodeError(f"{name} ends the program: {explain(error)}") from error
    if not isinstance(value, Tensor) or value.shape != pred.shape[:1]:
        raise CodeError(f"{name} returns {returned(value)}: expected a value an image, ({len(pred)},)")
    return value.float()


def returned(value: Any) -> str:
    """What came back, in words."""
    if not isinstance(value, Tensor):
        return f"a {type(value).__name__}"
    return "a scalar" if value.ndim == 0 else f"a tensor of shape {tuple(value.shape)}"


def build_network(settings: ModelSettings, depth_range: tuple[float, float], image_size: tuple[int, int]) -> nn.Module:
    """The module that `build` makes; its weights come from torch's random state."""
    with as_guest():
        network = load(settings.network)(depth_range=depth_range, image_size=image_size, **settings.options)
    if not isinstance(network, nn.Module):
        raise CodeError(f"{shown(settings.network)} returns {returned(network)}: expected a torch.nn.Module")
    return network
