"""Everything that isn't training: what a trial costs the coordinator, and how long until a second study trains."""

import sqlite3
import subprocess
import sys
import tempfile
import time
from contextlib import closing
from datetime import datetime
from pathlib import Path
from typing import Any

from depth_loss_sweep.model.checkpoint import LOCK
from depth_loss_sweep.projection import Suggester
from depth_loss_sweep.spec import StudySpec
from tests.benchmarks.studies import conduct, grid_spec, search_spec, warm_up


def trial_cost(spec: StudySpec, root: Path) -> dict[str, float]:
    """Wall milliseconds a trial of a study whose runs are over at once, the sampler's apart."""
    sampled = 0.0
    ask = Suggester.ask

    def timed(self: Suggester) -> Any:
        nonlocal sampled
        begun = time.perf_counter()
        try:
            return ask(self)
        finally:
            sampled += time.perf_counter() - begun

    Suggester.ask = timed  # type: ignore[method-assign]
    try:
        end, wall = conduct(spec, root)
    finally:
        Suggester.ask = ask  # type: ignore[method-assign]
    assert end.finished and not end.failed_runs
    return {
        "all but training and sampler (ms a trial)": (wall - sampled) / spec.trial_count * 1e3,
        "sampler (ms a trial)": sampled / spec.trial_count * 1e3,
    }


DEMO = ("demo", "--set", "train.epochs={epochs}", "--workers", "2")


def demo_study(home: Path, name: str, epochs: int, weights: str) -> dict[str, float]:
    """The demo with longer runs and more weights: wall seconds, and how much of the workers' time was no epoch."""
    arguments = [part.format(epochs=epochs) for part in DEMO]
    arguments += ["--set", f"search.w={weights}", "--name", name, "--home", str(home)]
    database = home / "sweep.db"
    begun = time.time()
    process = subprocess.Popen(
        [sys.executable, "-m", "depth_loss_sweep", "start", *arguments],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd=home,
    )
    code = process.wait()
    wall = time.time() - begun
    assert code == 0
    # A training takes its run's folder just before its first epoch.
    taken = [path.stat().st_mtime for path in home.glob(f"runs/*/*/{LOCK}")]
    first = min(moment for moment in taken if moment >= begun) - begun
    rows = """SELECT sum(sweep_epoch.seconds), sweep_run.finished FROM sweep_epoch JOIN sweep_run USING (run)
        WHERE split = 'val' AND run IN (SELECT run FROM sweep_trial_run WHERE study = ?) GROUP BY run"""
    with closing(sqlite3.connect(database)) as connection:
        found = connection.execute(rows, (name,)).fetchall()
    runs = [seconds for seconds, _ in found]
    *_, before, last = sorted(datetime.fromisoformat(finished) for _, finished in found)
    idle = (last - before).total_seconds()  # the worker that found no run any more, beside the one with the last
    return {
        "runs": len(runs),
        "a run (s)": sum(runs) / len(runs),
        "command to first training (s)": first,
        "study (s)": wall,
        "not training (share of the workers' time)": 1 - sum(runs) / 2 / wall,
        "... with no run left for one of them (share)": idle / 2 / wall,
        "... all else (share)": 1 - (sum(runs) + idle) / 2 / wall,
    }


def measure(quick: bool) -> dict[str, dict[str, float]]:
    """All of it."""
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        warm_up(root / "warm")
        trials = 20 if quick else 200
        found[f"A trial of one run, grid of {trials}"] = trial_cost(grid_spec(trials), root / "grid")
        found[f"A trial of one run, TPE of {trials}"] = trial_cost(search_spec(trials), root / "search")
        home = root / "demo"
        home.mkdir()
        demo_study(home, "first", 1, "[0.45]")
        weights, epochs = (
            ("[0.0, 0.9]", 1) if quick else ("{ from = 0.0, to = 0.9, step = 0.05 }", 9)
        )  # 57 runs, about the paper's number
        found["A second study on the same pictures"] = demo_study(home, "second", epochs, weights)
    return found
