"""Small real studies: rooms of 16 x 16 pixels, a network of width 2, seconds a study."""

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import cv2
import numpy as np
import pytest
from sqlalchemy import update

from depth_loss_sweep.cli import run
from depth_loss_sweep.paths import Home
from depth_loss_sweep.results import epoch_frame, run_frame, trial_frame
from depth_loss_sweep.store import Store
from depth_loss_sweep.tables import STUDY

if TYPE_CHECKING:
    from tests.sweep.postgresql import Server

ROOT = Path(__file__).parent.parent.parent

IS_STRESS = "SWEEP_RACE_KILLS" in os.environ
KILLS = int(os.environ.get("SWEEP_RACE_KILLS", "1"))
"""How often a search or race is killed, for each number of workers."""
KILLED_UNDER = ("0", "1", "3") if IS_STRESS else ("1", "3")
"""Workers of what is killed, beside one that is left alone with none."""
LEFT_ALONE = ("0", "1", "3") if IS_STRESS else ("0", "3")
"""Workers of searches that are left alone, beside one that is killed, goes on with 2 and ends with 1."""
LINE = """
[study]
name = "line"
seeds = [0, 1]
[data]
source = "rooms"
image_size = 16
rooms = 12
[model]
width = 2
[train]
epochs = 3
batch_size = 8
learning_rate = 1e-3
schedule = "constant"
[search]
w = { from = 0.0, to = 0.6, step = 0.3 }
[weights]
silog = "0.9 - w"
ssim = "w"
l1 = 0.1
"""
SEARCH = """
[study]
name = "search"
seeds = [0, 1]
[data]
image_size = 16
rooms = 12
[model]
width = 2
[train]
epochs = 2
batch_size = 8
[search]
sampler = "tpe"
trials = 14
parallel = 3
simplex = ["silog", "ssim", "l1"]
"""
NOT_NUMBERS = ("seconds", "images_per_second", "attempts", "details", "mixed", "origin")


class Lab:
    """A home folder with specs, and ways to work in it."""

    LINE, SEARCH = LINE, SEARCH

    def __init__(self, folder: Path, shared_cache: Path) -> None:
        self.folder = folder
        self.home = Home(folder / "home").create()
        shared_cache.mkdir(exist_ok=True)
        self.home.cache.symlink_to(shared_cache)

    def spec(self, text: str = LINE, **replacements: str) -> str:
        """Write a spec, some of its lines replaced, and return its path."""
        for key, value in replacements.items():
            lines = [f"{key} = {value}" if line.startswith(f"{key} =") else line for line in text.splitlines()]
            text = "\n".join(lines)
        path = self.folder / "spec.toml"
        path.write_text(text)
        return str(path)

    def run(self, *arguments: str) -> int:
        """One command line in this process, in this home."""
        return run([*arguments, "--home", str(self.home.root)])

    def spawn(self, *arguments: str, before: Sequence[str] = (), **kwargs) -> subprocess.Popen:
        """One command line in a process group of its own, in this home; Ctrl-C ends it, even where these tests run in the background.

        `before` is a command that is given ours.
        """
        if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as a shell's "&" leaves it, and a child inherits it
            signal.signal(signal.SIGINT, signal.default_int_handler)
        command = [*before, sys.executable, "-m", "depth_loss_sweep", *arguments, "--home", str(self.home.root)]
        return subprocess.Popen(
            command, cwd=self.folder, start_new_session=True, stderr=subprocess.PIPE, stdout=subprocess.PIPE,
            text=True, **kwargs,
        )  # fmt: skip

    @property
    def store(self) -> Store:
        """The home's database."""
        return Store.open(self.home)

    def make_learnt(self, name: str = "line") -> None:
        """As if a study's trivial predictors were far worse, so that its tiny networks beat them."""
        trivial = json.dumps({"val": {"median": {"metric_rmse": 99.0}}})
        with self.store.begin() as connection:
            connection.execute(update(STUDY).where(STUDY.c.name == name).values(baselines=trivial))

    def numbers(self, name: str, store: Store | None = None) -> tuple[str, str, str]:
        """All numbers of a study that must not depend on luck: trials, runs, epochs, as text to the last bit."""
        store = store or self.store
        frames = [trial_frame(store, name), run_frame(store, name), epoch_frame(store, name)]
        kept = [frame.drop(columns=[c for c in NOT_NUMBERS if c in frame]) for frame in frames]
        texts = tuple(frame.to_csv(index=False, float_format="%.17g") for frame in kept)
        return texts[0], texts[1], texts[2]

    def descendants(self, process: subprocess.Popen) -> list[int]:
        """The processes that a coordinator started, and those that these started: its workers come last."""
        below = [process.pid]
        for pid in below:
            try:
                below += map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())
            except FileNotFoundError:
                pass
        return below[1:]

    def wait_for(self, condition: Callable[[], bool]) -> None:
        """Wait until something holds. How long that takes says nothing on a busy machine; pytest's own limit ends what hangs."""
        while not condition():
            time.sleep(0.05)

    def wait_for_epochs(self, rows: int, process: subprocess.Popen) -> None:
        """Wait until the database holds so many epoch rows, or the process has ended."""
        self.wait_for(lambda: self.epochs_done() >= rows or process.poll() is not None)

    def wait_for_each(self, runs: int, process: subprocess.Popen) -> None:
        """Wait until so many runs have ended another epoch each, or the process has ended."""
        before = self.epochs_by_run()
        self.wait_for(lambda: len(self.epochs_by_run().items() - before.items()) >= runs or process.poll() is not None)

    def epochs_done(self) -> int:
        """How many epoch rows the database holds."""
        return sum(self.epochs_by_run().values())

    def epochs_by_run(self) -> dict[str, int]:
        """How many it holds of each run; read from outside, without our code."""
        if not self.home.database.exists():
            return {}
        with closing(sqlite3.connect(f"file:{self.home.database}?mode=ro", uri=True)) as connection:
            try:
                return dict(connection.execute("SELECT run, count(*) FROM sweep_epoch GROUP BY run"))
            except sqlite3.OperationalError:  # not made yet, or being made
                return {}


@pytest.fixture(scope="session")
def shared_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Rendered once for all tests."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="session")
def new_lab(tmp_path_factory: pytest.TempPathFactory, shared_cache: Path) -> Callable[[], Lab]:
    """Makes fresh homes."""
    return lambda: Lab(tmp_path_factory.mktemp("lab"), shared_cache)


@pytest.fixture(scope="session")
def server() -> Iterator["Server"]:
    """A server of PostgreSQL with password authentication."""
    from tests.sweep.postgresql import Server

    with TemporaryDirectory() as folder:  # pytest's own are closed to all but us, and the server may be another user's
        server = Server(Path(folder))
        yield server
        server.stop()


@pytest.fixture
def lab(new_lab: Callable[[], Lab]) -> Lab:
    """A fresh home."""
    return new_lab()


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    """Five scenes of two small pictures with depth."""
    random = np.random.default_rng(0)
    for scene in range(5):
        folder = tmp_path / "pairs" / f"scene_{scene}"
        folder.mkdir(parents=True)
        for number in range(2):
            cv2.imwrite(str(folder / f"{number}.png"), random.integers(0, 255, (24, 32, 3), dtype=np.uint8))
            cv2.imwrite(str(folder / f"{number}_depth.png"), random.integers(500, 5000, (24, 32)).astype(np.uint16))
    return tmp_path / "pairs"
