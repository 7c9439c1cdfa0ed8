"""What runs on the nodes of Ray: a worker, which trains run after run, and a look at whether a node can be used at all.

Ray finds both by their names in the node's own installation. Neither the coordinator's folders nor its environment come along.
"""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from depth_loss_sweep.executors import Event, RunRequest, other_version, this_version
from depth_loss_sweep.usercode import SECRETS

if TYPE_CHECKING:
    from depth_loss_sweep.model.runtime import Machine


class Worker:
    """An actor of Ray: a slot that stays warm. One thread trains, the other hears what is cancelled."""

    def __init__(self) -> None:
        for name in SECRETS:  # as whoever started the node may have had them
            os.environ.pop(name, None)
        self.cancelled: set[int] = set()

    def arrive(self) -> str:
        """Import torch; the id of the node it is on."""
        import depth_loss_sweep.model.training  # noqa: F401

        return node_id()

    def machine(self, device: str) -> "Machine":
        """What torch finds here."""
        from depth_loss_sweep.model.backend import this_machine

        return this_machine(device)

    def train(self, call: int, request: dict[str, Any]) -> Iterator[Event]:
        """Train a run; `call` is what it is cancelled by."""
        from depth_loss_sweep.executors.worker import train_run

        yield from train_run(RunRequest(**request), lambda: call in self.cancelled)

    def cancel(self, call: int) -> None:
        """Have a call of `train` stop at its next step."""
        self.cancelled.add(call)


def node_id() -> str:
    """The node that this process is on, as Ray calls it."""
    import ray

    return str(ray.get_runtime_context().get_node_id())


def look(name: str, version: str, token: str) -> str:
    """Why a node can't be used, empty where it can: it has our version of sweep, reads the token, and leaves a word beside it."""
    if version != this_version():
        return other_version(name, this_version(), version)
    try:
        if Path(token).read_text() == Path(token).name:
            answer(Path(token)).write_text(Path(token).name)
            return ""
    except OSError as error:
        return f"it does not share the home folder {Path(token).parent.parent} ({error.strerror}: {error.filename})"
    return f"its {Path(token).parent.parent} is not the coordinator's"


def answer(token: Path) -> Path:
    """What a node writes once it has read a token."""
    return token.with_suffix(".read")
