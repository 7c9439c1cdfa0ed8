"""How near a sweep on this CPU comes to what its cores can multiply, and our loop beside the same loop written plainly."""

import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any, Literal

import torch
from torch.nn import functional

from depth_loss_sweep.data.prepare import prepare
from depth_loss_sweep.data.settings import DataSettings
from depth_loss_sweep.model.backend import this_machine
from depth_loss_sweep.model.evaluation import as_input
from depth_loss_sweep.model.losses import CombinedLoss
from depth_loss_sweep.model.runtime import Runtime
from depth_loss_sweep.model.settings import LossSettings, ModelSettings, RunSettings, TrainSettings
from depth_loss_sweep.model.training import Training
from depth_loss_sweep.spec_file import load_spec
from depth_loss_sweep.words import counted
from tests.benchmarks.flops import DEPTH_RANGE, executed, make_unet, nominal
from tests.benchmarks.machine import Aside, cores, flags, matmul_rate

ROOT = Path(__file__).resolve().parents[2]
WIDTH, BATCH, RUNS = 16, 24, 4
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
WEIGHTS = {"silog": 0.45, "ssim": 0.45, "edge": 0.05, "l1": 0.05}
SPEC = """
[study]
name = "cpu"
seeds = [0]
[data]
image_size = {size}
rooms = 350
views = 1
test_fraction = 0.0
train_images = {train}
val_images = {val}
[model]
width = {width}
batch_norm = false
head = "linear"
[train]
epochs = 1
batch_size = {batch}
precision = "{precision}"
eval_images = {eval}
[search]
w = [0.0, 0.3, 0.6, 0.9]
[weights]
silog = "0.9 - w"
ssim = "w"
edge = 0.05
l1 = 0.05
"""


def sweep(size: int, images: int, rounds: int, home: Path, precision: str = "fp32") -> dict[str, float]:
    """Real sweeps of four runs of an epoch, a worker a core, each against the machine's matrix products right before and after.

    Training counts 3 forward passes an image, evaluation 1; by the arithmetic really executed, and by the plain formulation.
    Medians of the sweeps.
    """
    spec, val, chosen = home / f"spec{size}-{precision}.toml", images // 6, images // 4
    parts = {"size": size, "train": images, "val": val, "eval": chosen, "width": WIDTH, "batch": BATCH}
    spec.write_text(SPEC.format(precision=precision, **parts))
    dtype = DTYPES[precision]
    prepare(load_spec(str(spec)).data, home / "cache")  # rendering them is not what is measured
    work = {"executed": executed(WIDTH, size), "nominal": nominal(WIDTH, size)}
    found: dict[str, list[float]] = {}
    limits = [matmul_rate(cores(), dtype)]
    for number in range(rounds):
        seconds, speed, wall = _sweep_once(spec, home, f"cpu{size}-{precision}-{number}", seed=number)
        limits.append(matmul_rate(cores(), dtype))
        limit = statistics.mean(limits[-2:])
        row = {f"{precision} matrix products on all cores (GFLOP/s)": limit, "images/s a worker": speed}
        for name, (step, forward) in work.items():
            gflop = RUNS * (images * step + (val + chosen) * forward)
            row |= {
                f"training steps, {name} (share of matrix products)": speed * step * cores() / limit,
                f"epochs with evaluation, {name} (share of matrix products)": gflop / seconds * cores() / limit,
            }
        row["not spent in epochs (s of the study's wall time)"] = wall - seconds / cores()
        for name, value in row.items():
            found.setdefault(name, []).append(value)
    return {name: statistics.median(values) for name, values in found.items()}


def _sweep_once(spec: Path, home: Path, name: str, seed: int) -> tuple[float, float, float]:
    """The epochs' seconds, summed; their median images/s; and the command's wall seconds."""
    command = [sys.executable, "-m", "depth_loss_sweep", "start", str(spec), "--home", str(home), "--name", name]
    command += ["--set", f"study.seeds=[{seed}]"]
    begun = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True, cwd=home)
    wall = time.perf_counter() - begun
    query = """SELECT seconds, images_per_second FROM sweep_epoch WHERE split = 'val' AND run IN
        (SELECT run FROM sweep_trial_run WHERE study = ?)"""
    with closing(sqlite3.connect(home / "sweep.db")) as connection:
        rows = connection.execute(query, (name,)).fetchall()
    assert len(rows) == RUNS
    return sum(row[0] for row in rows), statistics.median(row[1] for row in rows), wall


def loop(size: int, rounds: int, cache: Path) -> dict[str, float]:
    """Our training step beside the same network, loss and optimiser in a plain loop, stepped in turn on one thread."""
    prepare(small_rooms(size), cache)
    steps = {"ours": Aside(_our_step, size, cache), "plain": Aside(_plain_step, size, cache)}
    if this_machine("cpu").cpu_bf16:
        steps["bf16"] = Aside(_our_step, size, cache, "bf16")
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for number in range(rounds + 2):
        for name, step in steps.items():
            begun = time.perf_counter()
            step(number)
            if number >= 2:
                seconds[name].append(time.perf_counter() - begun)
    medians = {name: statistics.median(found) for name, found in seconds.items()}
    figures = {
        "ours (ms a step)": medians["ours"] * 1e3,
        "plain loop (ms a step)": medians["plain"] * 1e3,
        "plain / ours": _ratio(seconds["plain"], seconds["ours"]),
    }
    if "bf16" in steps:
        figures |= {
            "ours in bf16 (ms a step)": medians["bf16"] * 1e3,
            "ours in fp32 / in bf16": _ratio(seconds["ours"], seconds["bf16"]),
        }
    return figures


def _ratio(above: list[float], below: list[float]) -> float:
    """The median of the ratios of calls that took their turns."""
    return statistics.median(a / b for a, b in zip(above, below, strict=True))


def small_rooms(size: int) -> DataSettings:
    """A few pictures, quickly rendered."""
    return DataSettings(source="rooms", rooms=40, views=2, image_size=size)


def run_settings(width: int = WIDTH, batch: int = BATCH, epochs: int = 1, seed: int = 0) -> RunSettings:
    """Settings of the paper's kind of run."""
    train = TrainSettings(epochs=epochs, batch_size=batch, schedule="constant")
    model = ModelSettings(width=width, head="linear")
    return RunSettings(model=model, train=train, loss=LossSettings(), weights=WEIGHTS, seed=seed)


def _our_step(size: int, cache: Path, precision: Literal["fp32", "bf16"] = "fp32") -> Callable[[int], None]:
    torch.set_num_threads(1)
    prepared = prepare(small_rooms(size), cache)
    training = Training(run_settings(), prepared, Runtime("cpu", precision))
    training.network.train()

    def step(number: int) -> None:
        chosen = torch.randperm(len(training.train_part), generator=torch.Generator().manual_seed(number))[:BATCH]
        training._step(chosen, 2e-4, number)

    return step


def _plain_step(size: int, cache: Path) -> Callable[[int], None]:
    """As one would write it: the U-Net's plain formulation, channels last, torch.optim, pictures in memory."""
    torch.set_num_threads(1)
    prepared = prepare(small_rooms(size), cache)
    net, loss = make_unet(WIDTH), CombinedLoss(WEIGHTS, data_range=DEPTH_RANGE[1])
    optimizer = torch.optim.Adam(net.parameters(), lr=2e-4, fused=True)
    whole = prepared.tensors("train")

    def forward(images: torch.Tensor) -> torch.Tensor:
        skips, x = [], images * 2 - 1
        for block in net.body.encoder:
            x = block(functional.max_pool2d(x, 2) if skips else x)
            skips.append(x)
        for block, skip in zip(net.body.decoder, skips[-2::-1], strict=True):
            x = torch.cat((functional.interpolate(x, scale_factor=2.0, mode="nearest"), skip), dim=1)
            for layer in block:
                x = torch.nn.Conv2d.forward(layer, x) if isinstance(layer, torch.nn.Conv2d) else layer(x)
        return net.body.head(x)

    def step(number: int) -> None:
        chosen = torch.randperm(len(whole.images), generator=torch.Generator().manual_seed(number))[:BATCH]
        images, depth, mask = as_input(whole.images[chosen]), whole.depth[chosen], whole.mask[chosen]
        total, _ = loss(forward(images.contiguous(memory_format=torch.channels_last)), depth, mask, images)
        optimizer.zero_grad()
        total.backward()
        torch.nn.utils.get_total_norm([p.grad for p in net.parameters()])
        optimizer.step()
        total.item()

    return step


def measure(quick: bool) -> dict[str, dict[str, Any]]:
    """All of it, in float32 and, where the CPU has instructions for it, in bfloat16."""
    precisions = ("fp32", "bf16") if this_machine("cpu").cpu_bf16 else ("fp32",)
    rates = {
        f"{name} matrix products, {counted(threads, 'core')} (GFLOP/s)": matmul_rate(threads, DTYPES[name])
        for name in precisions
        for threads in sorted({1, cores()})
    }
    found: dict[str, dict[str, Any]] = {"The machine": {"instructions": flags(), **rates}}
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        for size, images, rounds in ((64, 288, 5), (128, 144, 5), (256, 48, 2)):
            images, rounds = (48, 1) if quick else (images, rounds)
            found[f"A step of ours beside a plain loop, {size}x{size}"] = loop(size, 4 * rounds, home / "cache")
            for precision in precisions:
                title = f"Sweeps of {RUNS} runs in {precision}, {size}x{size}, width {WIDTH}, batch {BATCH}"
                found[title] = sweep(size, images, rounds, home, precision)
    return found
