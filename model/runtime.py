"""On what and how a run computes: device, precision, memory format, threads, determinism. Resolved once, then stored."""

import ctypes
import os
import platform
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

import torch

from model.errors import ModelError
from model.settings import TrainSettings

# Of glibc's malloc.h.
M_TRIM_THRESHOLD = -1
M_MMAP_MAX = -4


@dataclass(frozen=True)
class Runtime:
    """Where and in which arithmetic a run is trained. Both change bits, so resume uses the stored one."""

    device: str
    precision: Literal["fp32", "bf16"] = "fp32"
    memory_format: Literal["channels_last", "contiguous"] = "channels_last"

    @property
    def torch_memory_format(self) -> torch.memory_format:
        """The memory format as torch names it."""
        return torch.channels_last if self.memory_format == "channels_last" else torch.contiguous_format

    def autocast(self) -> AbstractContextManager[Any]:
        """A context in which convolutions run in bfloat16, where that is the precision."""
        kind = torch.device(self.device).type
        return torch.autocast(kind, torch.bfloat16, enabled=self.precision == "bf16", cache_enabled=False)

    def as_dict(self) -> dict[str, str]:
        """The three fields, JSON-able; `Runtime(**it)` is the way back."""
        return asdict(self)


def resolve_runtime(device: str, train: TrainSettings) -> Runtime:
    """Choose device ("auto", "cpu", "cuda", "cuda:N" or "mps"), precision and memory format for a study.

    bf16 is taken by itself only on CUDA cards with hardware for it (on CPUs without it, it is 15 times slower);
    channels_last wherever convolutions have a kernel for it. Raises ModelError if the device is not there.
    """
    chosen = _choose_device(device)
    kind = torch.device(chosen).type
    precision: Literal["fp32", "bf16"] = "fp32"
    if train.precision == "bf16" or (train.precision == "auto" and _is_fast_in_bf16(kind)):
        precision = "bf16"
    return Runtime(chosen, precision, "contiguous" if kind == "mps" else "channels_last")


def apply_runtime(runtime: Runtime, train: TrainSettings) -> None:
    """Set what is global in a process: CPU threads, deterministic algorithms, full float32, how freed memory is kept.

    A worker and a training in the caller's process both come through here, so that both give the same bits. The
    settings stay; `train` sets them again at each epoch, in case another user of the process has changed them.
    """
    torch.set_num_threads(train.threads)
    if torch.device(runtime.device).type != "cuda":
        _keep_freed_memory()
        return  # CPU kernels are deterministic for a given number of threads
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read when CUDA starts
    torch.use_deterministic_algorithms(train.deterministic)
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


def environment_key(runtime: Runtime, train: TrainSettings) -> dict[str, Any]:
    """What may change bits though the run's identity is the same: device model, threads, versions, determinism."""
    key = {
        "device": torch.device(runtime.device).type,
        "torch": torch.__version__,
        "deterministic": train.deterministic,
    }
    if key["device"] == "cuda":
        name = torch.cuda.get_device_name(runtime.device)
        return key | {"model": name, "cuda": torch.version.cuda, "cudnn": torch.backends.cudnn.version()}
    capability = torch.backends.cpu.get_cpu_capability()
    return key | {"model": _cpu_model(), "capability": capability, "threads": train.threads}


def _choose_device(device: str) -> str:
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    kind, _, number = device.partition(":")
    if kind not in ("cpu", "cuda", "mps") or (number and not (kind == "cuda" and number.isdigit())):
        raise ModelError(f"the device {device!r} is unknown; expected auto, cpu, cuda, cuda:N or mps")
    if kind == "cuda" and int(number or 0) >= torch.cuda.device_count():
        count = torch.cuda.device_count()
        raise ModelError(f"the device {device!r} is not there: torch sees {count} CUDA devices; use --device cpu")
    if kind == "mps" and not torch.backends.mps.is_available():
        raise ModelError("the device 'mps' is not there: torch sees no Apple GPU; use --device cpu")
    return device


def _is_fast_in_bf16(kind: str) -> bool:
    return kind == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)


def _cpu_model() -> str:
    """The CPU's name: kernels are chosen by it. `platform.processor()` says only x86_64 on some systems."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or platform.machine())
