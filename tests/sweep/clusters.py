"""What tests on clusters share: runs that last as long as a test needs, and a look for who knows a secret."""

import os
import secrets
from pathlib import Path

from depth_loss_sweep.executors import RunRequest
from depth_loss_sweep.session import Session
from depth_loss_sweep.spec_file import load_placed
from depth_loss_sweep.study import start
from tests.benchmarks.studies import InstantExecutor, Silent
from tests.sweep.conftest import Lab

SECRET = f"s3cret-{secrets.token_hex(8)}"
"""No worker is told; of this process alone, since other tests beside it have one, too."""
SLOW = """
import time
from pathlib import Path

calls = 0

def slow(pred, target, mask):
    global calls
    calls += 1
    end = time.monotonic() + 0.3 * 1.05**calls
    while time.monotonic() < end and Path({hold!r}).exists():
        time.sleep(0.1)
    return ((pred - target).abs() * mask).sum((1, 2, 3)) / mask.sum((1, 2, 3))
"""
"""A metric, twice an epoch, that waits while a file is there: less than a second at first, a minute in the end."""


def slow_spec(lab: Lab, to: float = 0.6, epochs: int = 52) -> str:
    """The line under one seed: before `hurry`, no run ends in a quarter of an hour, and the first epochs take a second each."""
    (lab.folder / "hold").touch()
    (lab.folder / "slow.py").write_text(SLOW.format(hold=str(lab.folder / "hold")))
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
