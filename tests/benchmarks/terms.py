"""What each term costs a step, value and gradient by the prediction: on one CPU thread, and on a CUDA card if there is one."""

import statistics
import time

import torch

from depth_loss_sweep.model.losses import Maps, term_function
from depth_loss_sweep.model.names import ALL_TERMS
from depth_loss_sweep.model.settings import LossSettings
from tests.benchmarks.cpu import BATCH

SIZES = (64, 256)


def measure(quick: bool) -> dict[str, dict[str, float]]:
    """Milliseconds a term and size, of a batch with a fifth of its depth missing."""
    kinds = ("cpu", "cuda") if torch.cuda.is_available() else ("cpu",)
    rounds = 2 if quick else 15
    return {
        f"A term's value and gradient, ms, {kind}, fp32, {size}x{size}, batch {BATCH}": _of_terms(kind, size, rounds)
        for kind in kinds
        for size in SIZES
    }


def _of_terms(kind: str, size: int, rounds: int) -> dict[str, float]:
    torch.set_num_threads(1)
    clock = time.process_time if kind == "cpu" else time.perf_counter  # what other processes do isn't counted
    maps, settings = _maps(kind, size), LossSettings(ssim_data_range=10.0)
    functions = {name: term_function(name) for name in ALL_TERMS}
    seconds: dict[str, list[float]] = {name: [] for name in functions}
    for number in range(1 + rounds):
        for name, function in functions.items():
            begun = clock()
            torch.autograd.grad(function(maps, settings).mean(), maps.pred)
            if kind == "cuda":
                torch.cuda.synchronize()
            if number:  # the first one builds what is kept
                seconds[name].append(clock() - begun)
    return {name: statistics.median(found) * 1e3 for name, found in seconds.items()}


def _maps(kind: str, size: int) -> Maps:
    """Slopes of 1 to 6 m with noise, and predictions that are .4 m off."""
    generator = torch.Generator().manual_seed(0)
    shape = (BATCH, 1, size, size)
    target = torch.linspace(1, 5, size) + torch.rand(shape, generator=generator)
    pred = (target + 0.4 * torch.randn(shape, generator=generator)).clamp_min(0.05)
    mask, image = torch.rand(shape, generator=generator) > 0.2, torch.rand((BATCH, 3, size, size), generator=generator)
    pred, target, mask, image = (each.to(kind) for each in (pred, target, mask, image))
    return Maps(pred.requires_grad_(), target, mask, image)
