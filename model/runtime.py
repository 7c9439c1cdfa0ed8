"""On what and in which arithmetic a run computes. Resolved once, then stored. No torch here: see `model.backend`."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Literal

from depth_loss_sweep.model.errors import ModelError
from depth_loss_sweep.model.names import network_entry
from depth_loss_sweep.model.settings import ModelSettings, TrainSettings
from depth_loss_sweep.usercode import versions


@dataclass(frozen=True)
class Machine:
    """What torch finds on a machine where runs are trained; `model.backend.this_machine` looks."""

    torch: str
    cpu: str
    capability: str
    """The widest vector instructions that torch uses there."""
    cards: tuple[str, ...]
    """The models of its CUDA cards; none where nobody asked for them."""
    cuda: str | None
    cudnn: int | None
    fast_bf16: bool
    """Whether its cards have hardware for bfloat16."""
    mps: bool
    cpu_bf16: bool = False
    """Whether its CPU has instructions for bfloat16 (AVX512-BF16, AMX), and torch uses them."""
    instructions: tuple[tuple[str, str], ...] = ()
    """The environment variables there that change which instructions torch's libraries use; most often none is set."""


@dataclass(frozen=True)
class Runtime:
    """Where and in which arithmetic a run is trained. Both change bits, so resume uses the stored one."""

    device: str
    precision: Literal["fp32", "bf16"] = "fp32"
    memory_format: Literal["channels_last", "contiguous"] = "channels_last"

    @property
    def kind(self) -> str:
        """The device without its number: "cpu", "cuda" or "mps"."""
        return self.device.partition(":")[0]

    def has_bf16(self, machine: Machine) -> bool:
        """Whether the device has hardware for bfloat16 there (MPS: as far as is known); emulated, a CPU is 15 times slower."""
        return {"cuda": machine.fast_bf16, "cpu": machine.cpu_bf16, "mps": machine.mps}[self.kind]

    def as_dict(self) -> dict[str, str]:
        """The three fields, JSON-able; `Runtime(**it)` is the way back."""
        return asdict(self)


def resolve_runtime(device: str, train: TrainSettings, machine: Machine, is_large: bool = True) -> Runtime:
    """Choose device ("auto", "cpu", "cuda", "cuda:N" or "mps"), precision and memory format for a study.

    bf16 is taken by itself only where there is hardware for it, and on a CPU only for networks and pictures that are large
    enough to gain by it (see `model.size.gains_from_bf16`); channels_last wherever convolutions have a kernel for it.
    `machine` is where it will be trained.
    Raises ModelError if the device is not there.
    """
    runtime = Runtime(_choose_device(device, machine))
    is_fast = runtime.kind != "mps" and runtime.has_bf16(machine) and (is_large or runtime.kind == "cuda")
    return Runtime(
        runtime.device,
        "bf16" if train.precision == "bf16" or (train.precision == "auto" and is_fast) else "fp32",
        "contiguous" if runtime.kind == "mps" else "channels_last",
    )


def environment_key(
    runtime: Runtime,
    train: TrainSettings,
    machine: Machine,
    model: ModelSettings | None = None,
    code: Sequence[str] = (),
) -> dict[str, Any]:
    """What may change bits though the run's identity is the same: device model, threads, versions, determinism.

    `code` are references to the user's own, of which the packages count that it imports.
    """
    key = _key(runtime, train, machine)
    entry = network_entry(model.network) if model is not None else None
    made_by = (entry.package, *entry.beside) if entry and entry.package else ()
    packages = versions(code)
    return key | {package: _version(package) for package in made_by} | ({"packages": packages} if packages else {})


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _key(runtime: Runtime, train: TrainSettings, machine: Machine) -> dict[str, Any]:
    key = {"device": runtime.kind, "torch": machine.torch, "deterministic": train.deterministic}
    if runtime.kind == "cuda":
        name = machine.cards[int(runtime.device.partition(":")[2] or 0)]
        return key | {"model": name, "cuda": machine.cuda, "cudnn": machine.cudnn}
    key |= {"model": machine.cpu, "capability": machine.capability, "threads": train.threads}
    return key | ({"instructions": dict(machine.instructions)} if machine.instructions else {})


def _choose_device(device: str, machine: Machine) -> str:
    if device == "auto":
        return "cuda" if machine.cards else "mps" if machine.mps else "cpu"
    kind, _, number = device.partition(":")
    if kind not in ("cpu", "cuda", "mps") or (number and not (kind == "cuda" and number.isdigit())):
        raise ModelError(f"the device {device!r} is unknown; expected auto, cpu, cuda, cuda:N or mps")
    if kind == "cuda" and int(number or 0) >= len(machine.cards):
        count = len(machine.cards)
        raise ModelError(f"the device {device!r} is not there: torch sees {count} CUDA devices; use --device cpu")
    if kind == "mps" and not machine.mps:
        raise ModelError("the device 'mps' is not there: torch sees no Apple GPU; use --device cpu")
    return device
