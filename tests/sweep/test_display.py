"""What is said while pictures are prepared: on a terminal, and in a log."""

import fcntl
import io
import signal

import pytest
from rich.console import Console

from data.cache import cache_lock
from sweep import display
from sweep.display import ProgressDisplay


def shown(terminal: bool, *calls: tuple[int, int]) -> str:
    """What a display prints for these calls of `preparing`."""
    console = Console(file=io.StringIO(), force_terminal=terminal, width=120, color_system=None)
    with ProgressDisplay(console) as show:
        for call in calls:
            show.preparing(*call)
            if show.view:
                show.view.refresh()
    return console.file.getvalue()


@pytest.mark.parametrize("terminal", [False, True])
def test_waiting_is_called_waiting(terminal: bool) -> None:
    """A process that waits for another's pictures doesn't claim to prepare some, and then says what it does."""
    text = shown(terminal, (0, 9), (0, 9), (9, 9))
    assert text.count("waiting for another process that prepares these pictures") == (2 if terminal else 1)
    assert "preparing pictures: 9 of 9" in text or terminal


def test_a_start_that_waits_for_pictures_hears_sigterm(lab, new_lab) -> None:
    """While another process builds the cache, start says that it waits, and ends when it is asked to: exit 130."""
    known = new_lab()
    assert known.run("start", known.spec(epochs="1", seeds="[0]", w="[0.3]"), "--workers", "0") == 0
    name = known.store.decoded(known.store.require("line"), "data")["fingerprint"]
    folder = next(path for path in known.home.cache.glob(f"{name}-16x16-v*") if path.is_dir())
    lab.home.cache.unlink()
    lab.home.cache.mkdir()
    with cache_lock(lab.home.cache / folder.name).open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        process = lab.spawn("start", lab.spec(), "--workers", "0")
        assert process.stderr.readline() == "waiting for another process that prepares these pictures\n"
        process.send_signal(signal.SIGTERM)
        process.communicate()
    assert process.returncode == 130


def test_a_look_through_pictures_is_said_where_it_takes_long(monkeypatch) -> None:
    """In a log not before half a minute; on a terminal at once, without a total, and gone at the end."""
    assert shown(False, (50, 0), (100, 0), (0, 0)) == ""
    monkeypatch.setattr(display, "PLAIN_LINE_EVERY_S", -1.0)
    assert shown(False, (50, 0), (100, 0)).splitlines()[-1] == "looking through pictures: 100 so far"
    assert "looking through pictures" in shown(True, (50, 0))
    assert "preparing pictures" in shown(True, (50, 0), (3, 9))
