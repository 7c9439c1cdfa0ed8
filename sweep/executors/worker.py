"""A worker: trains the runs that arrive on its pipe, one after the other.

It is forked, or run as `python -m depth_loss_sweep.executors.worker FD PARENT`; see `local`. It ends when the pipe closes,
and on Linux with its parent (PR_SET_PDEATHSIG), so that none outlives a SIGKILL.

It is sent requests for runs, "cancel" while one is under way, a pair of "card" and the one it is to have, and a pair of "machine"
and a device; it answers by `Event`s, by a `Room` after each epoch on a card, and by a pair of the device and the `Machine` it is on.
"""

import ctypes
import errno
import json
import os
import signal
import socket
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import lru_cache
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from depth_loss_sweep import usercode
from depth_loss_sweep.errors import CodeError, SweepError
from depth_loss_sweep.executors import Event, RunRequest
from depth_loss_sweep.executors.cards import show_only
from depth_loss_sweep.executors.packing import Room

PR_SET_PDEATHSIG = 1
IN_THE_WAY = {errno.EEXIST, errno.ENOTDIR, errno.EISDIR}
"""Faults of a run's own folder; whatever else a file suffers, the next run would suffer, too."""


def train_run(request: RunRequest, should_stop: Callable[[], bool]) -> Iterator[Event]:
    """Train one run and tell what happens, every fault included; never raises for what a run can suffer."""
    from depth_loss_sweep.data.errors import DataError
    from depth_loss_sweep.model.errors import ModelError, RunLockedError

    try:
        yield from _events(request, should_stop)
    except RunLockedError:
        yield Event(request.run, "busy")
    except DataError as error:
        yield Event(request.run, "failed", {"kind": "data", "reason": str(error)})
    except (ModelError, CodeError) as error:
        yield Event(request.run, "failed", {"kind": "error", "reason": str(error)})
    except SweepError:
        raise  # of the coordinator, which asks `should_stop` where runs are trained in its process
    except OSError as error:
        kind = "error" if error.errno in IN_THE_WAY else "disk"
        reason = f"{error.strerror or error}: {error.filename or request.folder}"
        yield Event(request.run, "failed", {"kind": kind, "reason": reason, "traceback": traceback.format_exc()})
    except (MemoryError, RuntimeError) as error:
        out_of_memory = (
            isinstance(error, MemoryError) or "out of memory" in str(error) or "can't allocate" in str(error)
        )
        kind, reason = "memory" if out_of_memory else "error", f"{type(error).__name__}: {error}".splitlines()[0]
        yield Event(request.run, "failed", {"kind": kind, "reason": reason, "traceback": traceback.format_exc()})
    except (Exception, SystemExit) as error:  # of ours, or a network that ends the program: the study goes on
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        yield Event(request.run, "failed", {"kind": "error", "reason": reason, "traceback": traceback.format_exc()})


def _events(request: RunRequest, should_stop: Callable[[], bool]) -> Iterator[Event]:
    from depth_loss_sweep.model.backend import this_machine
    from depth_loss_sweep.model.checkpoint import adopt_checkpoint
    from depth_loss_sweep.model.errors import ModelError
    from depth_loss_sweep.model.runtime import Runtime, environment_key, resolve_runtime
    from depth_loss_sweep.model.settings import RunSettings
    from depth_loss_sweep.model.training import train

    if request.begin_from:
        adopt_checkpoint(Path(request.begin_from), Path(request.folder))

    settings = RunSettings.model_validate(request.settings)
    usercode.allow(settings.code, Path(request.code))
    runtime, machine = Runtime(**request.runtime), this_machine(request.runtime["device"])
    try:
        resolve_runtime(runtime.device, settings.train, machine)
    except ModelError as error:
        yield Event(request.run, "failed", {"kind": "device", "reason": str(error)})
        return
    environment = environment_key(runtime, settings.train, machine, settings.model, settings.code)
    yield Event(request.run, "begun", {"host": socket.gethostname(), "environment": environment})
    prepared = _prepared(json.dumps(request.data, sort_keys=True), request.cache, request.fingerprint)
    notes: list[str] = []
    training = train(
        settings,
        prepared,
        Path(request.folder),
        runtime,
        should_stop=should_stop,
        on_note=notes.append,
        judge_test=request.judge_test,
        weights=Path(request.weights),
    )
    while True:
        try:
            record = next(training)
        except StopIteration as end:
            result = end.value
            break
        finally:
            for note in notes:
                yield Event(request.run, "note", {"text": note})
            notes.clear()
        yield Event(request.run, "epoch", record.as_dict())
    if result is None:
        yield Event(request.run, "stopped")
    else:
        ended = {"outcome": result.outcome, "reason": result.reason, "host": socket.gethostname()}
        per_image, test = {"val": _pictures(prepared, "val", result) | {"before": result.before}}, None
        if result.test:
            per_image["test"], test = _pictures(prepared, "test", result.test), result.test.means
        yield Event(request.run, "finished", {**ended, "per_image": per_image, "test": test})


def _pictures(prepared: Any, part: str, judged: Any) -> dict[str, Any]:
    scenes = tuple(prepared.dataset.scenes[index] for index in prepared.split.part(part))
    return {"keys": judged.keys, "scenes": scenes, "values": judged.per_image}


@lru_cache(maxsize=4)
def _prepared(data: str, cache: str, fingerprint: str) -> Any:
    """The data of a study, opened once a worker."""
    from depth_loss_sweep.data.prepare import open_prepared
    from depth_loss_sweep.data.settings import DataSettings

    return open_prepared(DataSettings.model_validate(json.loads(data)), Path(cache), fingerprint)


def die_with_parent(parent: int) -> None:
    """Ask Linux to kill this process when its parent dies; elsewhere the closing pipe has to do."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it died before we asked
            os._exit(1)


def serve(pipe: Connection) -> None:
    """Train what arrives until the pipe closes."""

    def cancelled() -> bool:
        # The only message that can come during a run is its cancellation; a closed pipe raises EOFError and ends us.
        return pipe.poll(0) and pipe.recv() == "cancel"

    while True:
        request = pipe.recv()
        if isinstance(request, dict):
            for event in train_run(RunRequest(**request), cancelled):
                pipe.send(event)
                if event.kind == "epoch" and (room := _room(request["runtime"]["device"])):
                    pipe.send(room)
        elif isinstance(request, tuple) and request[0] == "card":
            show_only(request[1])
        elif isinstance(request, tuple):
            from depth_loss_sweep.model.backend import this_machine

            pipe.send((request[1], this_machine(request[1])))


def _room(device: str) -> Room | None:
    """What is free on the card that a run is trained on, where it is on one."""
    if not device.startswith("cuda"):
        return None
    import torch

    return Room(*torch.cuda.mem_get_info(device))


def work(pipe: Connection, parent: int) -> None:
    """Be a worker until the pipe closes or the process `parent`, which started this one, ends; never returns."""
    # Ctrl-C reaches the whole process group; ending is the coordinator's decision.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    die_with_parent(parent)
    with suppress(OSError):  # where there is no error stream
        os.dup2(2, 1)  # what the user's code prints is no result of the command that started us
    try:
        import depth_loss_sweep.model.training  # noqa: F401  torch is imported while the worker waits for its first run

        serve(pipe)
    except (EOFError, BrokenPipeError, ConnectionResetError):
        os._exit(0)
    except BaseException:
        traceback.print_exc()
    sys.stderr.flush()
    os._exit(1)


def main() -> None:
    """Entry point of a worker that is a program of its own."""
    work(Connection(int(sys.argv[1])), int(sys.argv[2]))


if __name__ == "__main__":
    main()
