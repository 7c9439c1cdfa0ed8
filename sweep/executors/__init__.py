"""Where runs are trained: one small interface, and a registry whose implementations are imported when chosen.

An executor is handed requests and gives back events; it knows nothing of studies, databases or Optuna.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import TYPE_CHECKING, Any, Literal, Protocol

from depth_loss_sweep.errors import SweepError
from depth_loss_sweep.registry import Entry

if TYPE_CHECKING:
    from depth_loss_sweep.model.runtime import (
        Machine,  # settings come with it, and the first worker is started before they are needed
    )


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


@dataclass(frozen=True)
class Event:
    """What became of a run.

    epoch: payload is an epoch record. note: payload["text"]. finished: payload is the result, with payload["per_image"]:
    split -> keys and scenes of its pictures, and values by measure (`store.image_rows`), and payload["test"]: its means on
    the test pictures, None where they weren't to be judged, or there are none. stopped: it was cancelled. busy: another
    process trains it. died: its worker vanished, payload["reason"]. failed: payload["reason"] and ["traceback"];
    payload["kind"] is "memory", "disk", "data" or "error": disk and data would fail every run.
    """

    run: str
    kind: Literal["epoch", "note", "finished", "stopped", "busy", "died", "failed"]
    payload: dict[str, Any] = field(default_factory=dict)


class Executor(Protocol):
    """Trains runs somewhere. Made before a study is opened, so that what takes long to start can start meanwhile."""

    def open(self, workers: int | None, device: str, should_stop: Callable[[], bool]) -> int:
        """Set how many runs may be trained at once (None: as many as are right for the device), and return it.

        0 is this process, which asks `should_stop` at every step.
        """

    def describe(self) -> str:
        """How many workers it was opened for, in words, and what limits them."""

    def machine(self, device: str, on_wait: Callable[[], None]) -> "Machine":
        """What torch finds where runs are trained, cards only where `device` may be one; calls `on_wait` while it waits."""

    def free(self) -> int:
        """How many more runs can be submitted now."""

    def submit(self, request: RunRequest) -> None:
        """Begin to train a run; only while `free()` is positive."""

    def poll(self, timeout: float) -> list[Event]:
        """Events since the last call, waiting up to `timeout` seconds for the first."""

    def cancel(self, run: str) -> None:
        """Stop a run at its next step; its checkpoint stays."""

    def close(self) -> None:
        """End all workers at once; what they had finished is in their checkpoints."""


EXECUTORS: dict[str, Entry] = {
    "inline": Entry(code="depth_loss_sweep.executors.inline:InlineExecutor"),
    "local": Entry(code="depth_loss_sweep.executors.local:LocalExecutor"),
}
"""The code is an `Executor`; the options are keyword arguments that it is made with."""


def check_executor(name: str, options: Mapping[str, str] | None = None) -> None:
    """Raise `SweepError` for a name that is no executor's, or an option that it does not have, before anything else is done."""
    import_module("fcntl")  # what all locks are made of; where there is none, no worker is started
    if name not in EXECUTORS:
        raise SweepError(f"the executor {name!r} is unknown: expected one of {', '.join(sorted(EXECUTORS))}")
    known = EXECUTORS[name].options
    for option in options or {}:
        if option not in known:
            expected = f"expected one of {', '.join(known)}" if known else "it has none"
            raise SweepError(f"the option {option!r} is unknown to the executor {name!r}: {expected}")


def make_executor(name: str, workers: int | None, options: Mapping[str, str] | None = None) -> Executor:
    """The executor of that name; `local` with no workers (0, not None) trains in this process."""
    check_executor(name, options)
    kind: type[Executor] = EXECUTORS["inline" if name == "local" and workers == 0 else name].load()
    return kind(**(options or {}))
