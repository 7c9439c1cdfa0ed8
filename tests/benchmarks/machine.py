"""The machine a benchmark ran on: its name, the commit, and the rates that everything is held against."""

import multiprocessing
import os
import platform
import statistics
import subprocess
import time
from collections.abc import Callable
from datetime import UTC, datetime
from multiprocessing.connection import Connection
from typing import Any

import torch

from depth_loss_sweep.model.backend import this_machine

MATRIX = 2048


def about() -> str:
    """One line: date, commit, CPU or GPU, cores, torch."""
    commit = _git("rev-parse", "--short", "HEAD") + (
        " and uncommitted changes" if _git("status", "--porcelain") else ""
    )
    machine = this_machine("auto")
    device = machine.cards[0] if machine.cards else machine.cpu
    date = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    return f"{date}, commit {commit}, {device}, {cores()} cores, torch {torch.__version__}, Python {platform.python_version()}"


def _git(*arguments: str) -> str:
    return subprocess.run(["git", *arguments], capture_output=True, text=True).stdout.strip()


def cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def seconds_of(work: Callable[[], object], rounds: int) -> list[float]:
    """Wall seconds of each of so many calls, after one that isn't counted."""
    work()
    found = []
    for _ in range(rounds):
        begun = time.perf_counter()
        work()
        found.append(time.perf_counter() - begun)
    return found


def matmul_rate(threads: int, dtype: torch.dtype = torch.float32, rounds: int = 15) -> float:
    """GFLOP/s of the CPU's matrix products with so many threads, in float32 or bfloat16: the median of several."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        left, right, out = (torch.randn(MATRIX, MATRIX).to(dtype) for _ in range(3))
        seconds = statistics.median(seconds_of(lambda: torch.mm(left, right, out=out), rounds))
    finally:
        torch.set_num_threads(before)
    return 2 * MATRIX**3 / seconds / 1e9


def flags() -> str:
    """The CPU's instructions that decide how fast it multiplies, as torch sees them."""
    known = torch.cpu.get_capabilities()
    names = ("avx2", "fma3", "avx512_f", "avx512_bf16", "avx512_fp16", "amx_tile", "amx_bf16")
    return ", ".join(name for name in names if known.get(name)) or "none of those asked for"


def gpu_bf16_rate(rounds: int = 30) -> float:
    """TFLOP/s of bfloat16 matrix products on the GPU: the median of several."""
    left, right = (torch.randn(8192, 8192, device="cuda", dtype=torch.bfloat16) for _ in range(2))

    def work() -> None:
        torch.mm(left, right)
        torch.cuda.synchronize()

    return 2 * 8192**3 / statistics.median(seconds_of(work, rounds)) / 1e12


class Aside:
    """What `make(*arguments)` returns, called in a process of its own: torch's and the C library's settings are a process's.

    The process is on this one's cores, and idle while nobody calls.
    """

    def __init__(self, make: Callable[..., Callable[..., Any]], *arguments: Any) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, make, arguments), daemon=True)
        self._process.start()
        theirs.close()

    def __call__(self, *arguments: Any) -> Any:
        """Call it there and wait; EOFError if it failed, which has said so on stderr."""
        self._pipe.send(arguments)
        return self._pipe.recv()


def _serve(pipe: Connection, make: Callable[..., Callable[..., Any]], arguments: tuple[Any, ...]) -> None:
    action = make(*arguments)
    while True:
        try:
            call = pipe.recv()
        except EOFError:
            return
        pipe.send(action(*call))
