"""Killed at random instants, again and again, a study ends as one left alone: value by value, epoch by epoch.

`make stress` kills 50 times; `make test` runs a short form. The instants come from a seed, what they hit does not.
"""

import os
import random
import signal
from pathlib import Path

import pytest

KILLS = int(os.environ.get("SWEEP_STRESS_KILLS", "4"))
VICTIMS = ("coordinator", "worker", "both", "coordinator", "both", "terminated")


def _kill(lab, process, victim: str, chance: random.Random) -> None:
    """SIGKILL to the coordinator, to one of its workers or who forks them, or to all; or SIGTERM to the coordinator."""
    if victim == "worker":
        below = lab.descendants(process)
        if below:
            os.kill(chance.choice(below), signal.SIGKILL)
    elif victim == "both":
        os.killpg(process.pid, signal.SIGKILL)
    else:
        process.send_signal(signal.SIGTERM if victim == "terminated" else signal.SIGKILL)


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="needs /proc to find workers")
def test_killed_again_and_again_a_study_ends_as_one_left_alone(new_lab, capsys) -> None:
    """Kills to coordinator, workers and both; every finished study equals the undisturbed one, bit for bit."""
    alone = new_lab()
    settings = {"epochs": "30"}
    assert alone.run("start", alone.spec(**settings), "--workers", "0") == 0
    expected = alone.numbers("line")
    chance, kills, studies, differences = random.Random(0), 0, 0, 0
    while kills < KILLS or studies == 0:
        other = new_lab()
        spec = other.spec(**settings)
        while True:
            process = other.spawn("start", spec, "--workers", "2")
            while process.poll() is None and kills < KILLS:
                try:
                    process.wait(chance.uniform(0.3, 9.0))
                except Exception as error:  # still at work: subprocess.TimeoutExpired
                    assert type(error).__name__ == "TimeoutExpired"
                    _kill(other, process, chance.choice(VICTIMS), chance)
                    kills += 1
            _, errors = process.communicate()
            assert "Traceback" not in errors, errors
            assert process.returncode in (0, 130, -signal.SIGKILL, -signal.SIGTERM), errors
            if process.returncode == 0:
                break
        studies += 1
        differences += other.numbers("line") != expected
    with capsys.disabled():
        print(f"\n{kills} kills, {studies} studies, {differences} differences")  # noqa: T201  what make stress is for
    assert differences == 0
