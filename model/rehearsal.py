"""A dry run of the user's own code on two pictures, before a study exists: each fault in a line.

What is asked of terms, metrics and networks stands in `docs/your-code.md`. The last of it is a rehearsal by the training itself: three
steps, the same three again, and two, a restored checkpoint and one.
"""

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from depth_loss_sweep.data.prepare import Prepared, with_split
from depth_loss_sweep.data.split import Split
from depth_loss_sweep.errors import CodeError, SweepError
from depth_loss_sweep.model.backend import apply_runtime
from depth_loss_sweep.model.checkpoint import Checkpoint
from depth_loss_sweep.model.evaluation import as_input
from depth_loss_sweep.model.network import DepthNetwork
from depth_loss_sweep.model.own import returned
from depth_loss_sweep.model.runtime import Runtime
from depth_loss_sweep.model.settings import OwnMetric, OwnTerm, RunSettings
from depth_loss_sweep.model.training import Training
from depth_loss_sweep.usercode import explain, load, option_fault, shown

TERM_GIVEN = ("pred", "target", "mask", "image")
NETWORK_GIVEN = ("depth_range", "image_size")
STEPS = 3
TOLERANCE = 1e-4
"""By so much of itself a value may change with what else is in the batch: sums go in another order there."""

OTHER_SIDES = (32, 14)
"""What sides are multiples of in most networks that are particular about them."""


def rehearse(settings: RunSettings, prepared: Prepared, runtime: Runtime, weights: Path | None = None) -> list[str]:
    """What is wrong with the code that a run's settings name, a line each; empty where nothing is.

    `weights` is the folder that holds what the network begins with.
    """
    apply_runtime(runtime, settings.train)
    two = _two_of(prepared)
    batch = two.pictures("train", runtime.device).take(slice(0, 2))
    maps = (as_input(batch.images), batch.depth, batch.mask)
    faults: list[str] = []
    if settings.model.is_own:
        faults += _faults(shown(settings.model.network), lambda: _of_network(settings, *maps[:1], runtime))
    for name, term in settings.loss.own.items():
        if term.built_in:
            continue
        faults += _faults(f"terms.{name} ({shown(term.function)})", lambda term=term: _of_term(term, *maps))  # type: ignore[misc]
    for name, metric in settings.own_metrics.items():
        faults += _faults(
            f"metrics.{name} ({shown(metric.function)})",
            lambda metric=metric: _of_metric(metric, *maps[1:]),  # type: ignore[misc]
        )
    return faults or [
        *_faults("in a rehearsal of three steps, the run", lambda: _rehearsal(settings, two, runtime, weights))
    ]


def _two_of(prepared: Prepared) -> Prepared:
    """The first two pictures of the training part that hold depth (one, twice, where there is one) to train on and to be judged by."""
    low, high = prepared.depth_range
    depth, train = prepared.dataset.depth, prepared.split.train
    some = itertools.islice((i for i in train if ((depth[i] >= low) & (depth[i] <= high)).any()), 2)
    first = np.resize([*some] or train[:1], 2)
    return with_split(prepared.dataset, Split(first, first, np.empty(0, np.int64)), prepared.settings)


def _faults(what: str, look: Callable[[], Iterator[str]]) -> Iterator[str]:
    """The faults that are found, each with what has it; what is raised on the way is one, and the last."""
    try:
        for fault in look():
            yield f"{what} {fault}"
    except SweepError as error:
        yield str(error) if what in str(error) else f"{what}: {error}"
    except (Exception, SystemExit) as error:
        yield f"{what} fails: {explain(error)}"


# ---- terms and metrics ------------------------------------------------------------------------------------------


def _of_term(term: OwnTerm, image: Tensor, depth: Tensor, mask: Tensor) -> Iterator[str]:
    function = load(term.function)
    if fault := option_fault(function, term.options, TERM_GIVEN):
        yield f"cannot be called: {fault}"
        return

    def values(pred: Tensor, target: Tensor, mask: Tensor) -> Any:
        return function(pred, target, mask, image, **term.options)

    mask, target, pred = _with_holes(mask), _filled(depth, mask), _guess(depth, mask)
    found = values(pred, target, mask)
    if fault := _shape_fault(found, 2):
        yield fault
        return
    yield from _value_faults(values, found, pred, target, mask)
    for case, guess, seen, may_be_flat in (
        ("", pred, mask, False),
        (" for a perfect prediction", target.clone(), mask, True),
        (" where one pixel is valid", pred, _one_pixel(mask), True),
    ):
        guess = guess.detach().clone().requires_grad_()
        value = values(guess, target, seen)
        if fault := _shape_fault(value, 2):
            yield f"{fault}{case}"
            continue
        if not value.requires_grad:
            yield f"gives no gradient{case}: it is computed apart from the prediction"
            continue
        known = torch.where(value.isnan(), 0.0, value)
        gradient = torch.autograd.grad(known.sum(), guess, allow_unused=True)[0]
        if gradient is None or (not may_be_flat and not gradient.any()):
            yield f"gives no gradient{case}: it does not depend on the prediction"
        elif not gradient[~value.isnan()].isfinite().all():
            yield f"gives a gradient of NaN or infinity{case}; expected finite ones, such as 0 where it has a kink"
        elif value.isinf().any() or (not case and value.isnan().any()):
            yield f"is {value.detach().tolist()}{case}; expected finite values"


def _of_metric(metric: OwnMetric, depth: Tensor, mask: Tensor) -> Iterator[str]:
    function = load(metric.function)
    if fault := option_fault(function, metric.options, TERM_GIVEN[:3]):
        yield f"cannot be called: {fault}"
        return

    @torch.no_grad()
    def values(pred: Tensor, target: Tensor, mask: Tensor) -> Any:
        return function(pred, target, mask, **metric.options)

    mask, target, pred = _with_holes(mask), _filled(depth, mask), _guess(depth, mask)
    found = values(pred, target, mask)
    if fault := _shape_fault(found, 2):
        yield fault
        return
    if found.isinf().any():
        yield f"is {found.tolist()}; expected finite values, or NaN where there is nothing to compute"
    yield from _value_faults(values, found, pred, target, mask)
    if fault := _shape_fault(values(pred, target, _one_pixel(mask)), 2):
        yield f"{fault} where one pixel is valid"


def _value_faults(
    values: Callable[[Tensor, Tensor, Tensor], Any], found: Tensor, pred: Tensor, target: Tensor, mask: Tensor
) -> Iterator[str]:
    """What a term and a metric have in common."""
    if not _same(values(pred, target, mask), found):
        yield "is not deterministic: it gives other values for the same maps"
        return
    for other in (0.0, 1000.0):
        if not _same(values(pred, torch.where(mask, target, other), mask), found):
            yield "changes with the truth where the mask says that there is none; expected it to look at valid pixels only"
            break
    fewer = mask & (torch.arange(mask.shape[-1], device=mask.device) % 2 == 0)
    elsewhere = [
        torch.cat([one[:1], other[1:]]) for one, other in ((pred, pred * 1.5), (target, target), (mask, fewer))
    ]
    if not _same(values(*elsewhere)[:1], found[:1], TOLERANCE):
        yield "changes with the other image of the batch; expected a value an image, of that image alone"
    nothing = torch.cat([mask[:1], torch.zeros_like(mask[1:])])
    beside = values(pred, target, nothing)
    if fault := _shape_fault(beside, 2):
        yield f"{fault} where a mask is empty"
    elif beside[1].isinf():
        yield f"is {beside[1].item()} where the mask is empty; expected NaN: there is nothing to compute"


def _shape_fault(value: Any, images: int) -> str | None:
    if isinstance(value, Tensor) and value.shape == (images,) and value.is_floating_point():
        return None
    kind = f" of {value.dtype}" if isinstance(value, Tensor) and not value.is_floating_point() else ""
    return f"returns {returned(value)}{kind}; expected a value an image: a float tensor of shape ({images},)"


def _same(one: Tensor, other: Tensor, tolerance: float = 0.0) -> bool:
    return torch.allclose(one.detach(), other.detach(), rtol=tolerance, atol=tolerance**2, equal_nan=True)


def _with_holes(mask: Tensor) -> Tensor:
    """The mask with a hole, so that there is truth that must not be looked at, and with valid pixels."""
    height, width = mask.shape[-2:]
    mask = mask | (mask.sum(dim=(1, 2, 3), keepdim=True) < 8)  # of a picture with next to no depth, all is taken
    mask = mask.clone()
    mask[..., : height // 4, : width // 4] = False
    return mask


def _one_pixel(mask: Tensor) -> Tensor:
    one = torch.zeros_like(mask)
    one[..., mask.shape[-2] // 2, mask.shape[-1] // 2] = True
    return one


def _filled(depth: Tensor, mask: Tensor) -> Tensor:
    """Truth that is some depth everywhere."""
    return torch.where(mask & (depth > 0), depth, 2.0)


def _guess(depth: Tensor, mask: Tensor) -> Tensor:
    """A prediction that is wrong by up to a fifth, otherwise in each pixel."""
    noise = torch.rand(depth.shape, generator=torch.Generator().manual_seed(0)).to(depth.device)
    return _filled(depth, mask) * (0.8 + 0.4 * noise)


# ---- the network ------------------------------------------------------------------------------------------------


def _of_network(settings: RunSettings, images: Tensor, runtime: Runtime) -> Iterator[str]:
    size = (images.shape[-2], images.shape[-1])
    if fault := option_fault(load(settings.model.network), settings.model.options, NETWORK_GIVEN):
        yield f"cannot be called: {fault}"
        return
    torch.manual_seed(0)
    network = DepthNetwork(settings.model, settings.depth_range, size).to(runtime.device)
    try:
        found = network.body(images)
    except (RuntimeError, ValueError, AssertionError) as error:
        others = [each for each in (_rounded(size, step) for step in OTHER_SIDES) if _takes(settings, runtime, each)]
        instead = " or ".join(f"{height}x{width}" for height, width in others if (height, width) != size)
        remedy = f"; it takes {instead}: set data.image_size" if instead else ""
        yield f"does not take pictures of {size[0]}x{size[1]}: {explain(error)}{remedy}"
        return
    if not isinstance(found, Tensor) or found.shape != (2, 1, *size):
        yield f"returns {returned(found)} of pictures (2, 3, {size[0]}, {size[1]}); expected (2, 1, {size[0]}, {size[1]})"
        return
    if not found.isfinite().all():
        yield "returns NaN or infinity before it is trained"
        return
    if not found.requires_grad:
        yield "gives no gradient: nothing in it is trained"
        return
    found.square().sum().backward()
    gradients = [parameter.grad for parameter in network.parameters() if parameter.grad is not None]
    if not any(gradient.any() for gradient in gradients):
        yield "gives no gradient: what it returns depends on none of its parameters"
    elif not all(gradient.isfinite().all() for gradient in gradients):
        yield "gives a gradient of NaN or infinity"
    network.eval()
    with torch.no_grad():
        if not _same(network.body(images), network.body(images)):
            yield "is not deterministic: in eval mode it gives other values for the same picture"


def _takes(settings: RunSettings, runtime: Runtime, size: tuple[int, int]) -> bool:
    try:
        network = DepthNetwork(settings.model, settings.depth_range, size).to(runtime.device)
        return bool(network.body(torch.zeros(2, 3, *size, device=runtime.device)).shape == (2, 1, *size))
    except (Exception, SystemExit):
        return False


def _rounded(size: tuple[int, int], step: int) -> tuple[int, int]:
    """The nearest sides that a step divides, and that a spec may ask for."""
    step = step if step % 8 == 0 else step * 4
    height, width = (max(step, round(side / step) * step) for side in size)
    return height, width


# ---- by the training itself -------------------------------------------------------------------------------------


def _rehearsal(settings: RunSettings, two: Prepared, runtime: Runtime, begin_with: Path | None) -> Iterator[str]:
    """Steps of one batch each, since there are two pictures."""
    weights = {name: weight or float(name in settings.loss.own) for name, weight in settings.weights.items()}
    train = {"epochs": STEPS, "batch_size": 2, "eval_images": 2, "augment_copies": 0}
    settings = settings.model_copy(
        update={"weights": weights, "train": settings.train.model_copy(update=train), "seed": settings.seed}
    )
    whole = _trained(settings, two, runtime, begin_with)
    if not settings.train.deterministic:
        return  # nobody asked for the same bits
    again = _trained(settings, two, runtime, begin_with)
    if other := _difference(whole, again):
        yield (
            f"is not deterministic: two trainings from the same seed differ ({other}); expected all that is random to come from "
            f"torch's generator, and what is remembered to be in the network's buffers"
        )
        return
    resumed = _trained(settings, two, runtime, begin_with, stop=STEPS - 1)
    if other := _difference(whole, _trained(settings, two, runtime, begin_with, begin=resumed)):
        yield (
            f"does not go on where it stopped: resumed from a checkpoint it differs from one that wasn't stopped ({other}); expected "
            f"all that it remembers to be in parameters and buffers, and all that is random to come from torch's generator"
        )


def _trained(
    settings: RunSettings,
    two: Prepared,
    runtime: Runtime,
    weights: Path | None,
    begin: Checkpoint | None = None,
    stop: int = STEPS,
) -> Checkpoint:
    training = Training(settings, two, runtime, None if begin else weights)
    if begin:
        training.restore(begin)
    while training.epoch < stop and not training.is_broken:
        for _ in training.epoch_steps():
            pass
    if training.is_broken:
        where = training.records[-1].break_ or {}
        raise CodeError(f"it becomes non-finite at step {training.epoch} ({where.get('term')}), on two pictures")
    return training.checkpoint("rehearsal")


def _difference(one: Checkpoint, other: Checkpoint) -> str | None:
    """The first thing that two checkpoints differ in; None where they are the same to the last bit."""
    for kind in ("model", "optimizer", "weighting", "per_image"):
        mine, theirs = getattr(one, kind), getattr(other, kind)
        for name in {**mine, **theirs}:
            if name not in mine or name not in theirs or not np.array_equal(mine[name], theirs[name], equal_nan=True):
                return name.replace("/", " ")
    return None
