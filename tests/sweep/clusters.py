"""What tests on clusters share: runs that last as long as a test needs, and a look for who knows a secret."""

import os
from pathlib import Path

from depth_loss_sweep.executors import RunRequest
from depth_loss_sweep.session import Session
from depth_loss_sweep.spec_file import load_placed
from depth_loss_sweep.study import start
from tests.benchmarks.studies import InstantExecutor, Silent
from tests.sweep.conftest import Lab

SECRET = "s3cret-that-no-worker-is-told"
SLOW = """
import time
from pathlib import Path

def slow(pred, target, mask):
    time.sleep({seconds} if Path({hold!r}).exists() else 0.0)
    return ((pred - target).abs() * mask).sum((1, 2, 3)) / mask.sum((1, 2, 3))
"""
"""A metric, twice an epoch: it waits so many seconds while a file is there, which takes nothing of a busy machine's time."""


def slow_spec(lab: Lab, epochs: int, seconds: float, to: float = 0.6) -> str:
    """The line under one seed, an epoch twice so many seconds at least: no run ends in a minute or two before `hurry`."""
    (lab.folder / "hold").touch()
    (lab.folder / "slow.py").write_text(SLOW.format(hold=str(lab.folder / "hold"), seconds=seconds))
    text = lab.LINE + '[metrics.slow]\nfunction = "slow.py:slow"\n'
    return lab.spec(text, seeds="[0]", epochs=str(epochs), w=f"{{ from = 0.0, to = {to}, step = 0.3 }}")


def hurry(lab: Lab) -> None:
    """Let the runs of `slow_spec` go as fast as they can."""
    (lab.folder / "hold").unlink()


def request_of(lab: Lab, spec: str) -> RunRequest:
    """The first run that a study asks for."""
    asked: list[RunRequest] = []
    executor = InstantExecutor(1)
    executor.submit = asked.append  # type: ignore[method-assign]
    study, overrides = load_placed(spec, {})
    start(study, overrides, Session(lab.home, None, 1, "cpu", executor, "test", Silent(), lambda: bool(asked)))
    return asked[0]


def holders_of(secret: str, told: int, *folders: Path) -> list[str]:
    """Who else than the process that was told a secret knows it: other processes' arguments and environments, and files."""
    found = []
    for place in Path("/proc").glob("[0-9]*"):
        if int(place.name) in (told, os.getpid()):
            continue
        for file in ("environ", "cmdline"):
            try:
                if secret.encode() in (place / file).read_bytes():
                    found.append(str(place / file))
            except OSError:  # it has ended
                continue
    for path in (path for folder in folders for path in folder.rglob("*") if path.is_file()):
        if secret.encode() in path.read_bytes():
            found.append(str(path))
    return found
