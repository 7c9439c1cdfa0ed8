"""What is said while pictures are prepared and runs are trained: on a terminal of any width, and in a log."""

import fcntl
import io
import re
import signal

import pytest
from rich.console import Console

from depth_loss_sweep import display
from depth_loss_sweep.data.cache import cache_lock
from depth_loss_sweep.display import ProgressDisplay, Row, View
from depth_loss_sweep.executors import make_executor
from depth_loss_sweep.pace import Pace
from depth_loss_sweep.session import Session
from depth_loss_sweep.spec_file import load_spec
from depth_loss_sweep.study import start
from depth_loss_sweep.words import counted, duration, shortened, size


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


CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
NAME = "a-study-whose-name-is-as-long-as-a-name-may-be-" + 53 * "x"


def drawn(view: View | Row, width: int) -> list[str]:
    """The lines of a view on a terminal of that width."""
    console = Console(file=io.StringIO(), force_terminal=True, width=width, color_system=None)
    console.print(view)
    return [line.rstrip() for line in CONTROL.sub("", console.file.getvalue()).splitlines()]


@pytest.mark.parametrize("width", [60, 80, 120])
@pytest.mark.parametrize("name", ["demo", NAME])
def test_a_view_is_whole_at_any_width(width: int, name: str) -> None:
    """Trials, runs, best and time left stand there with no word cut; a long name loses its middle, nothing else."""
    parts = (
        "12 of 30 runs done, 2 training",
        "8 of 30 runs were taken over from other studies",
        "lowest val_abs_rel_scaled 1.098 at train.learning_rate 0.0002, model.width 64, silog 0.25, ssim 0.25, edge 0.25",
        "about 3 h 05 min left",
    )
    row = Row("  trial 4321 seed 2147483647", 3, 1000, "3 of 1000 epochs, val_abs_rel_scaled 1.234")
    lines = drawn(View(name, Row("", 3, 10, "3 of 10 trials"), parts, (row, row)), width)
    assert max(map(len, lines)) <= width
    text = " ".join(" ".join(lines).replace(";", "").split())
    for part in ("3 of 10 trials", *parts, row.text):
        assert part in text, lines
    assert lines[0].startswith(name if len(name) < 20 else "a-study-whose")
    assert lines[0].split()[0].endswith(name[-4:])


@pytest.mark.parametrize("width", [60, 80])
def test_a_study_at_work_is_drawn(lab, width: int) -> None:
    """From a real study: every frame fits, and the last one says that all is done."""
    console = Console(file=io.StringIO(), force_terminal=True, width=width, color_system=None)

    class EachFrame(ProgressDisplay):
        def update(self, coordinator) -> None:
            super().update(coordinator)
            self.view.refresh()

    executor = make_executor("local", 0)
    with EachFrame(console) as show:
        session = Session(lab.home, None, 0, "auto", executor, "", show, lambda: False)
        assert start(load_spec(lab.spec()), {}, session).finished
    executor.close()
    lines = CONTROL.sub("", console.file.getvalue()).replace("\r", "\n").splitlines()
    frames = [line.rstrip() for line in lines if not line.startswith("line: ")]  # a note is the terminal's to wrap
    assert max(map(len, frames)) <= width
    text = "\n".join(frames)
    for words in ("0 of 3 trials", "1 of 6 runs done, 1 training", "time left not known yet", "s left", "no val_rmse yet",
                  "trial 1 seed 1", "2 of 3 epochs, val_rmse "):  # fmt: skip
        assert words in text
    assert "3 of 3 trials" in text
    assert re.search(r"6 of 6 runs done; lowest val_rmse [0-9.]+\xa0m at w 0", text)
    assert "looking" not in text.rsplit("3 of 3 trials", 1)[1]


def test_the_pace_is_of_what_was_trained_here(monkeypatch) -> None:
    """Epochs read from a checkpoint come at once and count for nothing; the last runs go on one after the other."""
    now = [0.0]
    monkeypatch.setattr("depth_loss_sweep.pace.time.monotonic", lambda: now[0])
    pace = Pace()
    pace.begin("a")
    for _ in range(7):
        now[0] += 0.01
        pace.epoch("a", trained=10.0)
    assert pace.left(10, 1, 2) is None
    now[0] += 12
    pace.epoch("a", trained=10.0)
    assert pace.left(epochs=10, longest=1, workers=2) == pytest.approx(60)
    assert pace.left(epochs=10, longest=8, workers=5) == pytest.approx(96)
    assert pace.left(epochs=0, longest=0, workers=0) == 0


def test_quantities_are_said_in_words() -> None:
    """In the right number, in a unit that fits, in plain signs."""
    assert [counted(n, "run") for n in (0, 1, 2)] == ["0 runs", "1 run", "2 runs"]
    assert [duration(s) for s in (0.6, 89, 90, 5_300, 5_400, 86_400, 400_000)] == [
        *("1 s", "89 s", "2 min", "88 min", "1 h 30 min", "24 h 00 min", "4 d 15 h"),
    ]
    assert [size(n) for n in (0, 1_500, 999_999, 94_800_000, 1.7e9, 25e12)] == [
        *("0.0 kB", "1.5 kB", "1000 kB", "95 MB", "1.7 GB", "25 TB"),
    ]
    assert [shortened("abcdefgh", n) for n in (8, 7, 4, 1)] == ["abcdefgh", "ab...gh", "a...", "."]


def test_the_start_of_a_worker_is_no_pace(monkeypatch) -> None:
    """The first epochs take a worker's start, too: they tell how long it takes only as long as nothing else does."""
    now = [0.0]
    monkeypatch.setattr("depth_loss_sweep.pace.time.monotonic", lambda: now[0])
    pace = Pace()
    for run in "ab":
        pace.begin(run)
    now[0] += 30
    pace.epoch("a", trained=5.0)
    assert pace.left(epochs=10, longest=1, workers=2) == pytest.approx(150)
    pace.begin("c")
    now[0] += 6
    pace.epoch("a", trained=5.0)
    pace.epoch("b", trained=5.0)
    pace.epoch("c", trained=5.0)
    assert pace.left(epochs=10, longest=1, workers=2) == pytest.approx(30)
