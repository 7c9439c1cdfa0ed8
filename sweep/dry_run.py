"""A dry run of the user's own code before a study exists, in a process of its own: whatever it does, it does not do it here.

The process is `python -m depth_loss_sweep.dry_run PARENT`, which reads what to try from its input and writes the faults to its output.
"""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from depth_loss_sweep import usercode
from depth_loss_sweep.data.prepare import Prepared
from depth_loss_sweep.data.settings import DataSettings
from depth_loss_sweep.errors import CodeError
from depth_loss_sweep.executors.local import environment
from depth_loss_sweep.executors.worker import die_with_parent
from depth_loss_sweep.model.names import OWN_NETWORK, network_entry
from depth_loss_sweep.model.runtime import Runtime
from depth_loss_sweep.model.settings import RunSettings
from depth_loss_sweep.model.size import own_arrays
from depth_loss_sweep.paths import Home
from depth_loss_sweep.space import Choices, plain
from depth_loss_sweep.spec import StudySpec

LOOK_S = 0.5
NETWORK, SIZE = "model.network", "data.image_size"


def require_sound(
    spec: StudySpec,
    prepared: Callable[[DataSettings], Prepared],
    runtime: Runtime,
    home: Home,
    wait: Callable[[], None],
) -> None:
    """`CodeError` with the first fault of the code that a study names; `wait` is called now and then, and may raise."""
    tried: list[dict[str, Any]] = []
    for point in points(spec):
        parts = spec.sections_at(point)
        data = spec.data.model_copy(update={"image_size": parts["data"].image_size})
        settings = RunSettings(
            **{name: parts[name] for name in ("model", "train", "loss")},
            weights=dict.fromkeys([*spec.named_terms, *spec.loss.own], 1.0),
            metrics=spec.metrics,
            own_metrics=dict(spec.own_metrics),
            seed=spec.seeds[0],
            depth_range=parts["data"].depth_range,
        ).model_dump(mode="json")
        known = prepared(data)
        found = {
            "settings": settings,
            "data": known.settings.model_dump(mode="json"),
            "fingerprint": known.dataset.fingerprint,
        }
        if found not in tried:
            tried.append(found)
    request = {"tried": tried, **home.shared, "known": str(home.known), "runtime": runtime.as_dict()}
    faults = _faults(json.dumps(request), wait)
    if faults:
        more = f" (and {len(faults) - 1} more: {'; '.join(faults[1:4])})" if len(faults) > 1 else ""
        raise CodeError(faults[0] + more)


def points(spec: StudySpec) -> Iterator[Mapping[str, Any]]:
    """Where the code is tried: each network at the first value of all that is swept of it, and there each other value by itself.

    Whatever there is to sweep, a fault of one value shows beside the first of the others; what no code of the user's sees is left out.
    """
    if spec.candidates:
        yield from spec.cells
        return
    fields = [v for v in spec.variables if v.name.startswith(("model.", "terms.")) or v.name == SIZE]
    swept = {
        v.name: [plain(each) for each in (v.values if isinstance(v, Choices) else (v.high, v.low))] for v in fields
    }
    networks = swept.pop(NETWORK, [spec.model.network])
    for network in networks:
        first = {NETWORK: network, **{name: values[0] for name, values in swept.items()}}
        yield first
        for name, values in swept.items():
            # A term sees no network, so one is enough; options of a built-in one are none of the user's code.
            is_seen = network == networks[0] if name.startswith("terms.") else network_entry(network) is OWN_NETWORK
            if is_seen:
                yield from ({**first, name: value} for value in values[1:])


def _faults(request: str, wait: Callable[[], None]) -> list[str]:
    command = [sys.executable, "-P", "-m", "depth_loss_sweep.dry_run", str(os.getpid())]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment())
    given: bytes | None = request.encode()
    try:
        while True:
            with suppress(subprocess.TimeoutExpired):
                output, _ = process.communicate(given, timeout=LOOK_S)
                break
            given = None
            wait()
    finally:
        process.kill()
        process.wait()
    try:
        return list(json.loads(output))
    except ValueError:
        code = process.returncode
        how = f"signal {-code}" if code < 0 else f"exit status {code}"
        raise CodeError(f"the dry run of your code ended with {how}; what it said stands above") from None


def main() -> None:
    """Entry point. What the user's code prints goes to the error stream; the faults alone are the output."""
    output = os.dup(1)
    os.dup2(2, 1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; ending is the parent's decision
    die_with_parent(int(sys.argv[1]))
    from depth_loss_sweep.data.prepare import open_prepared
    from depth_loss_sweep.model.backend import this_machine
    from depth_loss_sweep.model.network import DepthNetwork, shapes_in
    from depth_loss_sweep.model.rehearsal import rehearse

    request = json.load(sys.stdin)
    runtime = Runtime(**request["runtime"])
    if runtime.kind == "cuda" and not this_machine(runtime.device).cards:  # which the machines have that will train
        runtime = Runtime("cpu")
    faults: list[str] = []
    for each in request["tried"]:
        data, settings = DataSettings.model_validate(each["data"]), RunSettings.model_validate(each["settings"])
        prepared = open_prepared(data, Path(request["cache"]), each["fingerprint"])
        usercode.allow(settings.code, Path(request["code"]))
        found = rehearse(settings, prepared, runtime, Path(request["weights"]))
        faults += [fault for fault in found if fault not in faults]
        if settings.model.is_own and not faults:
            size = data.image_size
            built = partial(DepthNetwork, settings.model, settings.depth_range, size)
            own_arrays(settings.model, size, Path(request["known"]), lambda build=built: shapes_in(build()))  # type: ignore[misc]
    with os.fdopen(output, "w") as stream:
        json.dump(faults, stream)


if __name__ == "__main__":
    main()
