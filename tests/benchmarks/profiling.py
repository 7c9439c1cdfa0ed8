"""Where a run's time goes: torch's profiler over training steps and an evaluation on one CPU thread."""

import tempfile
from pathlib import Path

import torch
from torch.profiler import ProfilerActivity, profile

from depth_loss_sweep.data.prepare import prepare
from depth_loss_sweep.data.settings import DataSettings
from depth_loss_sweep.model.runtime import Runtime
from depth_loss_sweep.model.training import Training
from tests.benchmarks.cpu import run_settings

ROWS = 14


def measure(quick: bool) -> dict[str, str]:
    """The operators that take most, for an epoch of training with its evaluations, 64x64, width 16, batch 24."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        data = DataSettings(source="rooms", rooms=20 if quick else 100, views=2, image_size=64)
        training = Training(run_settings(), prepare(data, Path(folder)), Runtime("cpu"))
        for _ in training.epoch_steps():  # warm
            pass
        with profile(activities=[ProfilerActivity.CPU]) as found:
            for _ in training.epoch_steps():
                pass
    averages = sorted(found.key_averages(), key=lambda row: row.self_cpu_time_total, reverse=True)
    total = sum(row.self_cpu_time_total for row in averages)
    lines = [f"| {row.key} | {row.self_cpu_time_total / total:.1%} | {row.count} |" for row in averages[:ROWS]]
    head = ["| An epoch with its evaluations, 64x64, width 16 | share of CPU time | calls |", "|---|---|---|"]
    return {"profile": "\n".join([*head, *lines, ""])}
