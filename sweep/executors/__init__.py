"""Where runs are trained: one small interface, and a registry whose implementations are imported when chosen.

An executor is handed requests and gives back events; it knows nothing of studies, databases or Optuna.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from typing import TYPE_CHECKING, Annotated, Any, Literal, Protocol

from pydantic import Field, TypeAdapter, ValidationError

from depth_loss_sweep import __version__
from depth_loss_sweep.errors import SweepError
from depth_loss_sweep.registry import Entry, nearest

if TYPE_CHECKING:
    from depth_loss_sweep.model.runtime import (
        Machine,  # settings come with it, and the first worker is started before they are needed
    )
    from depth_loss_sweep.paths import Home


@dataclass(frozen=True)
class RunRequest:
    """All a stateless worker needs to train one run; picklable, and JSON-able field by field."""

    run: str
    folder: str
    settings: dict[str, Any]  # RunSettings
    data: dict[str, Any]  # DataSettings
    cache: str
    weights: str
    fingerprint: str
    runtime: dict[str, Any]
    begin_from: str | None = None  # the folder of the same run, shorter: a longer one goes on from its checkpoint
    judge_test: bool = False  # the finished run on the test pictures, too
    code: str = ""  # where the copies of the user's own code lie that the settings name; whoever asks trusts it
    label: str = ""  # what whoever looks at the machines calls it by
    avoid: tuple[str, ...] = ()  # nodes whose disk or installation has failed it


AUTO: Literal["auto"] = "auto"
Workers = int | Literal["auto"] | None
"""How many runs are trained at once: so many; as many as turn out to pay on a card; or, None, as many as are right as a rule."""

UNFIT = {
    "disk": "the disk failed a run",
    "data": "a run cannot read its pictures",
    "device": "a run does not find its device",
    "installation": "a run does not find this version of sweep",
}
"""The kinds of failure that every run on the machine would suffer, in words."""


@dataclass(frozen=True)
class Event:
    """What became of a run.

    queued: it waits for a machine that is shared. begun: a worker has it, payload["host"] and ["environment"], which is
    `environment_key` there. epoch: payload is an epoch record. note: payload["text"]; one that is about no run names none.
    finished: payload is the result, with payload["per_image"]: split -> keys and scenes of its pictures, and values by measure
    (`store.image_rows`), and payload["test"]: its means on the test pictures, None where they weren't to be judged, or there are
    none. stopped: it was cancelled. busy: another process trains it. died: its worker vanished, payload["reason"]. preempted: it
    had to make room, or its time on the machine was over, payload["reason"]; lost: the machine itself went, payload["node"].
    Neither is the run's fault: submitted again, it goes on from its checkpoint. failed: payload["reason"] and ["traceback"];
    payload["kind"] is "memory", "error" or one of `UNFIT`; payload["node"] is where, if it can be trained elsewhere.
    """

    run: str
    kind: Literal[
        "queued", "begun", "epoch", "note", "finished", "stopped", "busy", "died", "preempted", "lost", "failed"
    ]
    payload: dict[str, Any] = field(default_factory=dict)

    @property
    def ends(self) -> bool:
        """Whether the run's worker is free again."""
        return self.kind not in ("queued", "begun", "epoch", "note")

    @property
    def is_of_memory(self) -> bool:
        """Whether the run found no memory."""
        return self.kind == "failed" and self.payload["kind"] == "memory"

    @property
    def is_fault(self) -> bool:
        """Whether the run ended without a result though nobody stopped it."""
        return self.kind in ("died", "preempted", "lost", "failed")


class Executor(Protocol):
    """Trains runs somewhere. Made before a study is opened, so that what takes long to start can start meanwhile.

    It is made with the home folder and its options as keyword arguments.
    """

    def open(self, workers: int | None, device: str, should_stop: Callable[[], bool]) -> int:
        """Set how many runs may be trained at once (None: as many as are right for the device), and return it.

        0 is this process, which asks `should_stop` at every step.
        """

    def describe(self) -> str:
        """How many workers it was opened for, in words, and what limits them."""

    def machine(self, device: str, on_wait: Callable[[str], None]) -> "Machine":
        """What torch finds where runs are trained, cards only where `device` may be one.

        While it waits, it calls `on_wait` with what it waits for, if that is worth a word. Where workers are on many machines,
        this is one of them; each says by `begun` what it is.
        """

    def free(self) -> int:
        """How many more runs can be submitted now."""

    def submit(self, request: RunRequest) -> None:
        """Begin to train a run, or follow it where it is under way already; only while `free()` is positive."""

    def poll(self, timeout: float) -> list[Event]:
        """Events since the last call, waiting up to `timeout` seconds for the first."""

    def cancel(self, run: str) -> None:
        """Stop a run at its next step; its checkpoint stays. It may say no more."""

    def detach(self) -> str:
        """Let go of all runs. Those that can go on by themselves do; says so in a line, empty where none does."""

    def close(self) -> None:
        """End all workers at once; what they had finished is in their checkpoints."""


EXECUTORS: dict[str, Entry] = {
    "inline": Entry(code="depth_loss_sweep.executors.inline:InlineExecutor"),
    "local": Entry(code="depth_loss_sweep.executors.local:LocalExecutor"),
    "ray": Entry(
        code="depth_loss_sweep.executors.ray:RayExecutor",
        options={
            "address": (
                str,
                Field(None, description="where the cluster is: HOST:PORT; default: $RAY_ADDRESS, else this machine's"),
            ),
            "cpus": (float, Field(1.0, ge=0, description="the cores of a worker")),
            "gpus": (
                float,
                Field(None, ge=0, description="the GPUs of a worker, such as 1 or .25; default: 1 on CUDA"),
            ),
            "memory": (
                str,
                Field(None, pattern=r"^\d+(\.\d+)?[KMGT]?$", description="the memory of a worker, such as 8G"),
            ),
            "accelerator": (str, Field(None, description="the model of the GPUs, as Ray calls it, such as A100")),
        },
    ),
    "slurm": Entry(
        code="depth_loss_sweep.executors.slurm:SlurmExecutor",
        options={
            "partition": (str, Field(None, description="the partition of its jobs")),
            "account": (str, Field(None, description="the account that pays for them")),
            "qos": (str, Field(None, description="their quality of service")),
            "time": (str, Field(None, pattern=r"[\d:-]+", description="their time limit, such as 30, 2:00:00 or 1-0")),
            "gpus": (str, Field(None, description="the GPUs of a job: 1, or with a model, a100:1")),
            "cpus": (int, Field(None, ge=1, description="the cores of a job; default: train.threads")),
            "memory": (str, Field(None, description="the memory of a job, such as 8G")),
            "constraint": (str, Field(None, description="features of the nodes, such as one model of GPU")),
            "exclude": (str, Field(None, description="nodes that aren't used")),
            "patience": (
                int,
                Field(70, ge=1, description="seconds that a shared disk may take to show what a job has written"),
            ),
            "grace": (int, Field(60, ge=1, description="seconds before the time limit at which a run saves its work")),
            "python": (str, Field(None, description="the nodes' Python that has sweep; default: this one's path")),
            "setup": (str, Field("", description="lines of a shell before it, such as 'module load cuda'")),
            "arguments": (str, Field("", description="further arguments of sbatch, as in a shell")),
        },
    ),
}
"""The code is an `Executor`; the options are keyword arguments that it is made with. They are the session's, no part of a study."""
CHOSEN = tuple(name for name in EXECUTORS if name != "inline")
"""Those that are chosen by name; inline is local without workers."""


def this_version() -> str:
    """What has to be the same where runs are trained: our version, and that of the numbers, which changes oftener."""
    from depth_loss_sweep.model.identity import TRAINING_VERSION

    return f"{__version__} (training {TRAINING_VERSION})"


def other_version(node: str, there: str, ours: str) -> str:
    """Why a node can't be used that has another version of sweep."""
    return f"{node} has sweep {there}, the coordinator has {ours}: install the same on both"


def parse_options(texts: Sequence[str]) -> dict[str, str]:
    """What `--option` was given, by key; `SweepError` for what is no key=value."""
    options: dict[str, str] = {}
    for text in texts:
        key, sign, value = text.partition("=")
        if not (key and sign):
            raise SweepError(f"--option {text!r}: expected key=value, such as partition=gpu")
        options[key] = value
    return options


def check_executor(name: str, options: Mapping[str, str] | None = None) -> dict[str, Any]:
    """The options as an executor takes them, defaults included.

    Raises `SweepError` for a name that is no executor's, or an option that it does not have, before anything else is done.
    """
    import_module("fcntl")  # what all locks are made of; where there is none, no worker is started
    if name not in EXECUTORS:
        raise SweepError(f"the executor {name!r} is unknown: expected one of {', '.join(CHOSEN)}")
    known = EXECUTORS[name].options
    for option in options or {}:
        if option not in known:
            expected = f"expected one of {', '.join(known)}" if known else "it has none"
            hint = nearest(option, known)
            raise SweepError(f"the option {option!r} is unknown to the executor {name!r}{hint}: {expected}")
    return {key: _typed(key, kind, field, options or {}) for key, (kind, field) in known.items()}


def _typed(key: str, kind: Any, field: Any, options: Mapping[str, str]) -> Any:
    if key not in options:
        return field.default
    try:
        return TypeAdapter(Annotated[kind, field]).validate_python(options[key])
    except ValidationError as error:
        said = error.errors(include_url=False)[0]["msg"]
        raise SweepError(f"--option {key}={options[key]}: {said[0].lower()}{said[1:]} ({field.description})") from error


def make_executor(
    name: str, workers: Workers, options: Mapping[str, str] | None = None, home: "Home | None" = None
) -> Executor:
    """The executor of that name for a home folder; `local` with no workers (0, not None) trains in this process.

    Raises `SweepError` for any other without.
    """
    taken = check_executor(name, options)
    if workers == 0 and name not in ("local", "inline"):
        raise SweepError(
            f"0 workers train in this process, and {name!r} trains elsewhere: give at least 1, or leave it out"
        )
    if name == "local" and workers == AUTO:
        taken["packs"] = True
    if name == "ray":
        taken["workers"] = fixed(
            workers
        )  # asked what machine it is before it is opened, it waits only where they were asked for
    kind: type[Executor] = EXECUTORS["inline" if name == "local" and workers == 0 else name].load()
    return kind(home=home, **taken)  # type: ignore[call-arg]


def parse_workers(text: str | None) -> Workers:
    """What `--workers` was given; `SweepError` for what is neither a number nor "auto"."""
    if text is None or text == AUTO:
        return text
    if not text.isdecimal():
        raise SweepError(f"--workers {text}: expected a number of runs at once, 0 for this process, or auto")
    return int(text)


def fixed(workers: Workers) -> int | None:
    """The number that was asked for, if one was."""
    return None if workers == AUTO else workers
