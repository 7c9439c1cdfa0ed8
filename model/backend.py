"""Runtimes put to work with torch: what a process sets before it computes, and what torch finds on a machine."""

import ctypes
import os
import platform
from contextlib import AbstractContextManager
from functools import cache
from pathlib import Path
from typing import Any

import torch

from depth_loss_sweep.model.runtime import Machine, Runtime
from depth_loss_sweep.model.settings import TrainSettings

# Of glibc's malloc.h.
M_TRIM_THRESHOLD = -1
M_MMAP_MAX = -4


# Measured to change the bits of a training (the last one: by its documentation, on Intel's CPUs). ATEN_CPU_CAPABILITY is seen in
# `capability`; NumPy's BLAS (OPENBLAS_CORETYPE) makes no number of a run.
INSTRUCTION_VARIABLES = ("ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA", "MKL_CBWR", "MKL_ENABLE_INSTRUCTIONS")


@cache
def this_machine(device: str) -> Machine:
    """This machine as torch finds it, for work on a device.

    Unless that is "cpu", CUDA is started where there is a card, and the process must not fork any more.
    """
    cards = range(torch.cuda.device_count() if device != "cpu" and torch.cuda.is_available() else 0)
    return Machine(
        torch=str(torch.__version__),
        cpu=_cpu_model(),
        capability=torch.backends.cpu.get_cpu_capability(),
        cards=tuple(torch.cuda.get_device_name(card) for card in cards),
        cuda=torch.version.cuda,
        cudnn=torch.backends.cudnn.version(),
        fast_bf16=bool(cards) and torch.cuda.is_bf16_supported(including_emulation=False),
        mps=torch.backends.mps.is_available(),
        cpu_bf16=_cpu_has_bf16(),
        instructions=tuple((name, os.environ[name]) for name in INSTRUCTION_VARIABLES if os.environ.get(name)),
    )


def _cpu_has_bf16() -> bool:
    """Whether torch's libraries compute in bfloat16 by instructions of this CPU, as far as they are let to."""
    narrowed = os.environ.get("ONEDNN_MAX_CPU_ISA") or os.environ.get("DNNL_MAX_CPU_ISA") or "ALL"
    is_let = any(name in narrowed.upper() for name in ("ALL", "DEFAULT", "BF16", "FP16", "AMX", "AVX10"))
    is_vectorised = torch.backends.cpu.get_cpu_capability().startswith("AVX512")
    return is_let and is_vectorised and bool(torch.cpu.get_capabilities().get("avx512_bf16"))


def memory_format(runtime: Runtime) -> torch.memory_format:
    """The runtime's memory format as torch names it."""
    return torch.channels_last if runtime.memory_format == "channels_last" else torch.contiguous_format


def autocast(runtime: Runtime) -> AbstractContextManager[Any]:
    """A context in which convolutions run in bfloat16, where that is the runtime's precision."""
    return torch.autocast(runtime.kind, torch.bfloat16, enabled=runtime.precision == "bf16", cache_enabled=False)


def apply_runtime(runtime: Runtime, train: TrainSettings) -> None:
    """Set what is global in a process: CPU threads, deterministic algorithms, full float32, how freed memory is kept.

    A worker and a training in the caller's process both come through here, so that both give the same bits. The
    settings stay; `train` sets them again at each epoch, in case another user of the process has changed them.
    """
    torch.set_num_threads(train.threads)
    # What a user's own module may have set, by importing it: a worker trains other runs after it.
    torch.set_default_dtype(torch.float32)
    torch.set_flush_denormal(False)
    torch.backends.mkldnn.set_flags(True)
    if runtime.kind != "cuda":
        _keep_freed_memory()
        return  # CPU kernels are deterministic for a given number of threads
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read when cuBLAS starts
    torch.use_deterministic_algorithms(train.deterministic)
    # We read none, and it costs 400 kernels a step.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    torch.backends.cudnn.benchmark = not train.deterministic
    torch.backends.cuda.matmul.fp32_precision = "ieee"  # fp32 means fp32; bf16 is the fast choice
    torch.backends.cudnn.conv.fp32_precision = "ieee"  # type: ignore[attr-defined]


@cache
def _keep_freed_memory() -> None:
    """Ask glibc to keep what is freed, from the first call on, where it is the C library (others have no mallopt).

    By itself it gives every map of more than 32 MiB, and much of what is smaller, back to the system and gets it again, page
    by page and zeroed: a tenth of a step at 128×128 and a quarter at 256×256 (width 16, batch 24).
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(M_MMAP_MAX, 0)
        mallopt(M_TRIM_THRESHOLD, -1)


def _cpu_model() -> str:
    """The CPU's name: kernels are chosen by it. `platform.processor()` says only x86_64 on some systems."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or platform.machine())
