"""Runs on a CUDA card: one of the full-size network against the card's own bfloat16 matrix products, and small ones side by side."""

import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch

from depth_loss_sweep.data.prepare import prepare
from depth_loss_sweep.data.settings import DataSettings
from depth_loss_sweep.model.backend import this_machine
from depth_loss_sweep.model.runtime import resolve_runtime
from depth_loss_sweep.model.training import train
from depth_loss_sweep.spec_file import load_spec
from depth_loss_sweep.words import counted
from tests.benchmarks.cpu import run_settings
from tests.benchmarks.flops import executed, nominal
from tests.benchmarks.machine import gpu_bf16_rate

SIZE, WIDTH, TRAIN_IMAGES = 256, 64, 288
PAPER_RUNS = 60
SMALL_RUNS, SMALL_EPOCHS = 8, 30
SMALL = """
[study]
name = "small"
seeds = [0, 1, 2, 3, 4, 5, 6, 7]
[data]
image_size = 64
rooms = 200
views = 2
train_images = 288
[model]
width = 16
[train]
epochs = {epochs}
[weights]
silog = 0.45
ssim = 0.45
l1 = 0.1
"""


def measure(quick: bool) -> dict[str, dict[str, float]]:
    """Both; nothing where there is no CUDA card."""
    if not torch.cuda.is_available():
        return {}
    return _full_size(2 if quick else 10) | _side_by_side(2 if quick else SMALL_EPOCHS)


def _full_size(epochs: int) -> dict[str, dict[str, float]]:
    """One run as the paper's, validation and checkpoints included."""
    with tempfile.TemporaryDirectory() as folder:
        data = DataSettings(source="rooms", rooms=200, views=2, image_size=SIZE, train_images=TRAIN_IMAGES)
        prepared = prepare(data, Path(folder) / "cache")
        limit, wall = gpu_bf16_rate(), {}
        for name in ("first run (s)", "a run (s)"):
            settings = run_settings(width=WIDTH, epochs=epochs)
            runtime = resolve_runtime("cuda", settings.train, this_machine("cuda"))
            begun = time.perf_counter()
            records = list(train(settings, prepared, Path(folder) / name, runtime))
            wall[name] = time.perf_counter() - begun
    evaluated = len(prepared.split.val) + settings.train.eval_images
    shares = {}
    for name, (step, forward) in {"executed": executed(WIDTH, SIZE), "nominal": nominal(WIDTH, SIZE)}.items():
        tflop = (TRAIN_IMAGES * step + evaluated * forward) / 1e3
        epoch = statistics.median(record.seconds for record in records)
        shares[f"steps, {name} (share of bf16 matrix products)"] = (
            statistics.median(record.images_per_second for record in records) * step / 1e3 / limit
        )
        shares[f"an epoch, evaluation included, {name} (share)"] = tflop / epoch / limit
        shares[f"whole run, {name} (share)"] = epochs * tflop / wall["a run (s)"] / limit
    found = {
        "bf16 matrix products (TFLOP/s)": limit,
        **wall,
        **shares,
        "the paper's 60 runs (s)": PAPER_RUNS * wall["a run (s)"],
    }
    return {f"A run of {epochs} epochs, {SIZE}x{SIZE}, width {WIDTH}, {runtime.precision}": found}


def _side_by_side(epochs: int) -> dict[str, dict[str, float]]:
    """Wall seconds of a study of eight small runs, by how many workers share the card."""
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        spec = Path(folder) / "small.toml"
        spec.write_text(SMALL.format(epochs=epochs))
        prepare(load_spec(str(spec)).data, Path(folder) / "cache")  # rendering them is not what is measured
        for workers in (1, 2, 4):
            command = [
                sys.executable,
                "-m",
                "depth_loss_sweep",
                "start",
                str(spec),
                "--home",
                folder,
                "--device",
                "cuda",
            ]
            command += [
                "--workers",
                str(workers),
                "--name",
                f"by{workers}",
                "--set",
                f"train.learning_rate={workers}e-4",
            ]
            begun = time.perf_counter()
            subprocess.run(command, check=True, capture_output=True)
            found[f"{counted(workers, 'worker')} (s)"] = time.perf_counter() - begun
    return {f"A study of {SMALL_RUNS} runs of {epochs} epochs, 64x64, width 16, on one card": found}
