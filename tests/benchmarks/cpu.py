"""How near a sweep on this CPU comes to what its cores can multiply, and our loop beside the same loop written plainly."""

import os
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import closing
from pathlib import Path

import torch
from torch.nn import functional

from data.prepare import Prepared, prepare
from data.settings import DataSettings
from model.evaluation import as_input
from model.losses import CombinedLoss
from model.runtime import Runtime
from model.settings import LossSettings, ModelSettings, RunSettings, TrainSettings
from model.training import _Training
from sweep.spec import load_spec
from tests.benchmarks.flops import DEPTH_RANGE, executed, make_unet, nominal
from tests.benchmarks.machine import cores, sgemm_rate

ROOT = Path(__file__).resolve().parents[2]
WIDTH, BATCH, TRAIN_IMAGES, VAL_IMAGES, EVAL_IMAGES = 16, 24, 288, 48, 64
WEIGHTS = {"silog": 0.45, "ssim": 0.45, "edge": 0.05, "l1": 0.05}
SPEC = """
[study]
name = "cpu"
seeds = [0, 1]
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
epochs = {epochs}
batch_size = {batch}
eval_images = {eval}
[search]
w = [0.0, 0.3, 0.6]
[weights]
silog = "0.9 - w"
ssim = "w"
edge = 0.05
l1 = 0.05
"""


def sweep(size: int, epochs: int, home: Path) -> dict[str, float]:
    """A real sweep of six runs, a worker a core, against the machine's sgemm rate on all cores.

    Training counts 3 forward passes an image, evaluation 1; by the arithmetic really executed, and by the plain formulation.
    """
    spec = home / f"spec{size}.toml"
    spec.write_text(
        SPEC.format(
            size=size, train=TRAIN_IMAGES, val=VAL_IMAGES, eval=EVAL_IMAGES, width=WIDTH, batch=BATCH, epochs=epochs
        )
    )
    prepare(load_spec(str(spec)).data, home / "cache")  # rendering them is not what is measured
    command = [sys.executable, "-m", "sweep.cli", "start", str(spec), "--home", str(home), "--name", f"cpu{size}"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    limits = [sgemm_rate(cores())]
    begun = time.perf_counter()
    subprocess.run(command, check=True, env=environment, capture_output=True, cwd=home)
    wall = time.perf_counter() - begun
    limits.append(sgemm_rate(cores()))
    rows = f"""SELECT seconds, images_per_second FROM sweep_epoch WHERE split = 'val' AND run IN
        (SELECT run FROM sweep_trial_run WHERE study = 'cpu{size}')"""
    with closing(sqlite3.connect(home / "sweep.db")) as connection:
        found = connection.execute(rows).fetchall()
    seconds = sum(row[0] for row in found)
    limit = statistics.mean(limits)
    result = {"sgemm on all cores (GFLOP/s)": limit, "images/s a worker": statistics.median(row[1] for row in found)}
    for name, (step, forward) in {"executed": executed(WIDTH, size), "nominal": nominal(WIDTH, size)}.items():
        gflop = len(found) * (TRAIN_IMAGES * step + (VAL_IMAGES + EVAL_IMAGES) * forward)
        rate = gflop / seconds * cores()
        trained = statistics.median(row[1] for row in found) * step * cores()
        result |= {
            f"training steps, {name} (share of sgemm)": trained / limit,
            f"epochs with evaluation, {name} (share of sgemm)": rate / limit,
            f"whole study from the command on, {name} (share of sgemm)": gflop / wall / limit,
        }
    result["not spent in epochs (share of the study's wall time)"] = 1 - seconds / cores() / wall
    return result


def loop(size: int, rounds: int, cache: Path) -> dict[str, float]:
    """Our training step beside the same network, loss and optimiser in a plain loop, stepped in turn on one thread."""
    torch.set_num_threads(1)
    data = DataSettings(source="rooms", rooms=40, views=2, image_size=(size, size))
    prepared = prepare(data, cache)
    ours, plain = _our_step(prepared), _plain_step(prepared)
    seconds: dict[str, list[float]] = {"ours": [], "plain": []}
    for number in range(rounds + 2):
        for name, step in (("ours", ours), ("plain", plain)):
            begun = time.perf_counter()
            step(number)
            if number >= 2:
                seconds[name].append(time.perf_counter() - begun)
    medians = {name: statistics.median(found) for name, found in seconds.items()}
    return {
        "ours (ms a step)": medians["ours"] * 1e3,
        "plain loop (ms a step)": medians["plain"] * 1e3,
        "plain / ours": statistics.median(p / o for o, p in zip(seconds["ours"], seconds["plain"], strict=True)),
    }


def run_settings(width: int = WIDTH, batch: int = BATCH, epochs: int = 1, seed: int = 0) -> RunSettings:
    """Settings of the paper's kind of run."""
    train = TrainSettings(epochs=epochs, batch_size=batch, schedule="constant")
    model = ModelSettings(width=width, head="linear")
    return RunSettings(model=model, train=train, loss=LossSettings(), weights=WEIGHTS, seed=seed)


def _our_step(prepared: Prepared):
    training = _Training(run_settings(), prepared, Runtime("cpu"))
    training.network.train()

    def step(number: int) -> None:
        chosen = torch.randperm(len(training.train_part), generator=torch.Generator().manual_seed(number))[:BATCH]
        training._step(chosen, 2e-4, number)

    return step


def _plain_step(prepared: Prepared):
    """As one would write it: the U-Net's plain formulation, channels last, torch.optim, pictures in memory."""
    net, loss = make_unet(WIDTH), CombinedLoss(WEIGHTS, data_range=DEPTH_RANGE[1])
    optimizer = torch.optim.Adam(net.parameters(), lr=2e-4, fused=True)
    whole = prepared.tensors("train")

    def forward(images: torch.Tensor) -> torch.Tensor:
        skips, x = [], images * 2 - 1
        for block in net.encoder:
            x = block(functional.max_pool2d(x, 2) if skips else x)
            skips.append(x)
        for block, skip in zip(net.decoder, skips[-2::-1], strict=True):
            x = torch.cat((functional.interpolate(x, scale_factor=2.0, mode="nearest"), skip), dim=1)
            for layer in block:
                x = torch.nn.Conv2d.forward(layer, x) if isinstance(layer, torch.nn.Conv2d) else layer(x)
        return net.head(x)

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


def measure(quick: bool) -> dict[str, dict[str, float]]:
    """All of it."""
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        for size, epochs, rounds in ((64, 3, 24), (128, 2, 12)):
            epochs, rounds = (1, 4) if quick else (epochs, rounds)
            found[f"A step of ours beside a plain loop, {size}x{size}"] = loop(size, rounds, home / "cache")
            found[f"A sweep of six runs, {size}x{size}, width {WIDTH}, batch {BATCH}"] = sweep(size, epochs, home)
    return found
