"""--budget: a study stops in time, as Ctrl-C stops it, and goes on later."""

import signal

import pytest

from depth_loss_sweep.errors import SpecError
from depth_loss_sweep.status import status
from depth_loss_sweep.words import parse_budget


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("45s", 45), ("90m", 5400), ("2h", 7200), ("1h30m", 5400), ("1d2h3m4s", 93784), (" 2H ", 7200)],
)
def test_a_budget_is_read(text: str, seconds: int) -> None:
    """Days, hours, minutes and seconds, from the largest to the smallest."""
    assert parse_budget(text) == seconds


@pytest.mark.parametrize(
    "text", ["", "soon", "0", "0m", "-2h", "2 hours", "30m1h", "1.5h", "h", "1h1h", "9" * 400, "\u0663m"]
)
def test_what_is_no_budget_is_refused_at_once(lab, text: str, capsys) -> None:
    """In one line, with exit 2, before anything is made."""
    assert lab.run("start", lab.spec(), "--budget", text) == 2
    errors = capsys.readouterr().err
    assert len(errors.splitlines()) == 1 and "such as 90m, 2h or 1h30m" in errors
    assert not lab.home.database.exists()


def test_a_number_without_a_unit_is_refused() -> None:
    """It could be minutes or hours: what was probably meant is named."""
    with pytest.raises(SpecError, match=r"--budget '90' \(did you mean 90m\?\)"):
        parse_budget("90")


@pytest.mark.parametrize("workers", ["0", "2"])
def test_a_study_stops_when_its_budget_is_spent(lab, new_lab, workers: str) -> None:
    """Exit 130 with the reason and how to go on; resumed without a budget, it ends with the numbers of one left alone."""
    alone = new_lab()
    assert alone.run("start", alone.spec(epochs="30", w="[0.0]"), "--workers", "0") == 0
    process = lab.spawn(
        "start", lab.spec(epochs="30", w="[0.0]"), "--workers", workers, "--name", "line", "--budget", "1s"
    )
    _, errors = process.communicate()
    assert process.returncode == 130, errors
    last = errors.splitlines()[-1]
    assert "the budget of 1s is spent" in last and "Traceback" not in errors
    assert f"sweep resume line --home {lab.home.root}" in last or "the same command goes on" in last
    assert lab.run("start", lab.spec(epochs="30", w="[0.0]"), "--workers", "0", "--budget", "9h") == 0
    assert lab.numbers("line") == alone.numbers("line")
    assert lab.store.require("line")["grown_hash"] == alone.store.require("line")["grown_hash"]


def test_resume_has_a_budget_too(lab) -> None:
    """It counts anew from the command's start; an interrupt before its end is called one."""
    process = lab.spawn("start", lab.spec(epochs="100000"), "--workers", "1", "--budget", "9h")
    lab.wait_for_epochs(2, process)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate()
    assert process.returncode == 130 and errors.splitlines()[-1].startswith("interrupted; go on with"), errors
    process = lab.spawn("resume", "line", "--workers", "1", "--budget", "1s")
    _, errors = process.communicate()
    assert process.returncode == 130 and "the budget of 1s is spent" in errors.splitlines()[-1], errors
    assert status(lab.store, lab.home, "line")["state"] == "interrupted"
