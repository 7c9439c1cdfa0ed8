"""What a step by each weighting costs beside one of fixed weights, in turns: on one CPU thread, and on a CUDA card if there is one."""

import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch

from depth_loss_sweep.data.prepare import Prepared, prepare
from depth_loss_sweep.model.names import WEIGHTINGS
from depth_loss_sweep.model.runtime import Runtime
from depth_loss_sweep.model.settings import LossSettings
from depth_loss_sweep.model.training import Training
from tests.benchmarks.cpu import BATCH, WIDTH, run_settings, small_rooms

SIZE = 64
WARM_UP = 4
"""Steps before the first that is measured; a CUDA card records its graph at the third."""


def measure(quick: bool) -> dict[str, dict[str, float]]:
    """A step's time by fixed weights, and the ratio of each other weighting to it."""
    kinds = ("cpu", "cuda") if torch.cuda.is_available() else ("cpu",)
    with tempfile.TemporaryDirectory() as folder:
        prepared = prepare(small_rooms(SIZE), Path(folder))
        return {
            f"A step by each weighting, {kind}, fp32, {SIZE}x{SIZE}, width {WIDTH}, batch {BATCH}": _beside(
                prepared, kind, 4 if quick else 20
            )
            for kind in kinds
        }


def _beside(prepared: Prepared, kind: str, rounds: int) -> dict[str, float]:
    steps = {name: _step(prepared, kind, weighting=name) for name in WEIGHTINGS}
    steps["upgrad by parameters"] = _step(prepared, kind, weighting="upgrad", upgrad_by="parameters")
    clock = time.process_time if kind == "cpu" else time.perf_counter  # what other processes do isn't counted
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for number in range(WARM_UP + rounds):
        for name, step in steps.items():
            begun = clock()
            step(number)
            seconds[name].append(clock() - begun)
    fixed = seconds["fixed"][WARM_UP:]
    ratios = {
        f"{name} / fixed": statistics.median(a / b for a, b in zip(seconds[name][WARM_UP:], fixed, strict=True))
        for name in steps
        if name != "fixed"
    }
    return {"fixed (ms a step)": statistics.median(fixed) * 1e3, **ratios}


def _step(prepared: Prepared, kind: str, **loss: str) -> Callable[[int], None]:
    torch.set_num_threads(1)
    settings = run_settings().model_copy(update={"loss": LossSettings(**loss)})
    training = Training(settings, prepared, Runtime(kind, "fp32"))
    training.network.train()
    device = training.train_part.rows.device

    def step(number: int) -> None:
        chosen = torch.randperm(len(training.train_part), generator=torch.Generator().manual_seed(number))[:BATCH]
        training.loss.weighting.begin_step(0.0, number)
        training._step(chosen.to(device), 2e-4, number)
        if kind == "cuda":
            torch.cuda.synchronize()

    return step
