"""A run of the full-size network on a CUDA card, against the card's own bfloat16 matrix products."""

import tempfile
import time
from pathlib import Path

import torch

from depth_loss_sweep.data.prepare import prepare
from depth_loss_sweep.data.settings import DataSettings
from depth_loss_sweep.model.backend import this_machine
from depth_loss_sweep.model.runtime import resolve_runtime
from depth_loss_sweep.model.training import train
from tests.benchmarks.cpu import run_settings
from tests.benchmarks.flops import executed, nominal
from tests.benchmarks.machine import gpu_bf16_rate

SIZE, WIDTH, TRAIN_IMAGES = 256, 64, 288
PAPER_RUNS = 60


def measure(quick: bool) -> dict[str, dict[str, float]]:
    """One run as the paper's, validation and checkpoints included; nothing where there is no CUDA card."""
    if not torch.cuda.is_available():
        return {}
    epochs = 2 if quick else 10
    with tempfile.TemporaryDirectory() as folder:
        data = DataSettings(source="rooms", rooms=200, views=2, image_size=SIZE, train_images=TRAIN_IMAGES)
        prepared = prepare(data, Path(folder) / "cache")
        limit, wall = gpu_bf16_rate(), {}
        for name in ("first run (s)", "a run (s)"):
            settings = run_settings(width=WIDTH, epochs=epochs)
            runtime = resolve_runtime("cuda", settings.train, this_machine("cuda"))
            begun = time.perf_counter()
            for _ in train(settings, prepared, Path(folder) / name, runtime):
                pass
            wall[name] = time.perf_counter() - begun
    evaluated = len(prepared.split.val) + settings.train.eval_images
    shares = {}
    for name, (step, forward) in {"executed": executed(WIDTH, SIZE), "nominal": nominal(WIDTH, SIZE)}.items():
        tflop = epochs * (TRAIN_IMAGES * step + evaluated * forward) / 1e3
        shares[f"whole run, {name} (share of bf16 matrix products)"] = tflop / wall["a run (s)"] / limit
    found = {
        "bf16 matrix products (TFLOP/s)": limit,
        **wall,
        **shares,
        "the paper's 60 runs (s)": PAPER_RUNS * wall["a run (s)"],
    }
    return {f"A run of {epochs} epochs, {SIZE}x{SIZE}, width {WIDTH}, {runtime.precision}": found}
