"""Time and memory as a study grows: trials, seeds, pictures, workers. The slope on a log-log plot says how it grows (1: linear)."""

import json
import math
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from plotly.subplots import make_subplots

from depth_loss_sweep.data.cache import PREPROCESSING_VERSION, _ArrayFile, open_cache
from depth_loss_sweep.data.prepare import Prepared
from depth_loss_sweep.data.settings import DataSettings
from depth_loss_sweep.data.split import Split
from depth_loss_sweep.files import write_whole
from depth_loss_sweep.model.runtime import Runtime
from depth_loss_sweep.model.training import Training
from tests.benchmarks.cpu import ROOT, run_settings
from tests.benchmarks.studies import conduct, grid_spec, search_spec, warm_up

TRIALS, QUICK_TRIALS = (10, 100, 1_000, 10_000), (10, 40)
PICTURES, QUICK_PICTURES = (300, 2_500, 25_000), (300, 600)
REPORT_TRIALS = 1_000
Rows = dict[int, dict[str, float]]


def command(*arguments: str, home: Path) -> dict[str, float]:
    """Wall seconds and peak memory of one `sweep` command."""
    begun = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", "depth_loss_sweep", *arguments, "--home", str(home)],
        stdout=subprocess.DEVNULL,
        cwd=home,
    )
    peak = 0.0
    while process.poll() is None:  # rusage would count this process's own memory, from before the exec
        peak = max(peak, _memory(process.pid, "VmHWM"))
        time.sleep(0.005)
    assert process.returncode == 0, arguments
    return {"s": time.perf_counter() - begun, "MiB": peak}


def _memory(pid: int | str, what: str) -> float:
    """A figure of /proc/PID/status in MiB; 0 for a process that has ended."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith(what)), 0.0)


def by_trials(root: Path, counts: Sequence[int]) -> Rows:
    """A study of so many trials: to fill, and to open again by each command that people wait for."""
    found: Rows = {}
    for count in counts:
        home = root / f"trials{count}"
        spec = grid_spec(count)
        _, seconds = conduct(spec, home)
        path = home / "growth.toml"
        path.write_text(spec.text)
        row = {"to fill (s)": seconds, "ms a trial": seconds / count * 1e3}
        for name in (("status", "growth"), ("list",), ("start", str(path)), ("resume", "growth")):
            taken = command(*name, home=home)
            row |= {f"{name[0]} (s)": taken["s"], f"{name[0]} (MiB)": taken["MiB"]}
        if count <= REPORT_TRIALS:
            taken = command("report", "growth", home=home)
            row |= {"report (s)": taken["s"], "report (MiB)": taken["MiB"]}
        found[count] = row
    return found


def by_search(root: Path, counts: Sequence[int]) -> Rows:
    """The same for TPE, whose own time grows with what it has seen."""
    found = {}
    for count in counts:
        spec = search_spec(count)
        _, seconds = conduct(spec, root / f"search{count}")
        found[count] = {"to fill (s)": seconds, "ms a trial": seconds / count * 1e3}
    return found


def by_seeds(root: Path, counts: Sequence[int]) -> Rows:
    """Ten trials of so many seeds."""
    found = {}
    for count in counts:
        _, seconds = conduct(grid_spec(10, seeds=count), root / f"seeds{count}")
        found[count] = {"to fill (s)": seconds, "ms a run": seconds / count / 10 * 1e3}
    return found


def by_workers(root: Path, counts: Sequence[int]) -> Rows:
    """A grid of 200 trials by so many workers at once."""
    found = {}
    for count in counts:
        _, seconds = conduct(grid_spec(200), root / f"workers{count}", slots=count)
        found[count] = {"to fill (s)": seconds, "ms a trial": seconds / 200 * 1e3}
    return found


def by_pictures(root: Path, counts: Sequence[int]) -> Rows:
    """So many pictures of 64x64: to open them, to go through them once, and what memory of its own that takes."""
    found = {}
    for count in counts:
        folder = make_cache(root / "cache" / f"pictures{count}", count)
        code = [sys.executable, "-m", "tests.benchmarks.growth", str(folder)]
        done = subprocess.run(code, cwd=ROOT, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        found[count] = json.loads(done.stdout) | {"pictures (MiB)": count * 64 * 64 * 7 / 2**20}
    return found


def go_through(folder: Path) -> dict[str, float]:
    """Open a cache, begin a run on it and train an epoch, in this process."""
    begun, before = time.perf_counter(), _memory("self", "RssAnon")
    data = open_cache(folder)
    rows = np.arange(len(data))
    split = Split(rows[len(rows) // 10 :], rows[: len(rows) // 10], rows[:0])
    prepared = Prepared(data, split, (0.1, 10.0), DataSettings(image_size=64), f"growth{len(data)}")
    training = Training(run_settings(width=1), prepared, Runtime("cpu"))
    opened, begun = time.perf_counter() - begun, time.perf_counter()
    for _ in training.epoch_steps():
        pass
    return {
        "to open (s)": opened,
        "an epoch (s)": time.perf_counter() - begun,
        "memory of its own (MiB)": _memory("self", "RssAnon") - before,
    }


def make_cache(folder: Path, count: int) -> Path:
    """A cache of so many random pictures, without a source."""
    folder.mkdir(parents=True)
    random = np.random.default_rng(0)
    shapes = {"images.npy": ((64, 64, 3), np.dtype(np.uint8)), "depth.npy": ((64, 64), np.dtype(np.float32))}
    files = {}
    for name, (shape, dtype) in shapes.items():
        with _ArrayFile(folder / name, (count, *shape), dtype) as file:
            for _ in range(count):
                file.append((1 + 5 * random.random(shape, np.float32)).astype(dtype))
        files[name] = file.record
    items = [{"key": f"{i:06}", "scene": f"{i // 10:05}", "folder": None} for i in range(count)]
    index = {"version": PREPROCESSING_VERSION, "fingerprint": f"{count:032}", "source": "rooms", "image_size": [64, 64]}
    write_whole(folder / "index.json", json.dumps(index | {"items": items, "files": files}).encode())
    return folder


def slopes(rows: Rows) -> dict[str, float]:
    """How each quantity grew from the last size but one to the last: the slope of log against log, 1 where it is linear."""
    *_, (small, before), (large, after) = rows.items()
    ratio = math.log(large / small)
    return {key: math.log(after[key] / before[key]) / ratio for key in after if before.get(key, 0) > 0 < after[key]}


def measure(quick: bool) -> dict[str, Rows]:
    """All of it: a table a question."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        warm_up(root / "warm")
        return {
            "Growth with trials (grid)": by_trials(root, QUICK_TRIALS if quick else TRIALS),
            "Growth with trials (TPE)": by_search(root, QUICK_TRIALS if quick else TRIALS[:3]),
            "Growth with seeds": by_seeds(root, (1, 2) if quick else (1, 4, 16, 64)),
            "Growth with workers": by_workers(root, (1, 2) if quick else (1, 4, 16, 64)),
            "Growth with pictures": by_pictures(root, QUICK_PICTURES if quick else PICTURES),
        }


def plot(tables: dict[str, Rows], target: Path) -> None:
    """All growth on one page: a panel a question, each quantity against size, both axes logarithmic."""
    titles = [title.replace("Growth with ", "Number of ") for title in tables]
    figure = make_subplots(math.ceil(len(tables) / 2), 2, subplot_titles=titles, horizontal_spacing=0.25)
    for place, rows in enumerate(tables.values()):
        where, legend = {"row": place // 2 + 1, "col": place % 2 + 1}, f"legend{place + 1}"
        for key in dict.fromkeys(key for row in rows.values() for key in row):
            known = {size: row[key] for size, row in rows.items() if key in row}
            figure.add_scatter(x=list(known), y=list(known.values()), name=key, legend=legend, **where)
        axis_x, axis_y = (next(select(**where)) for select in (figure.select_xaxes, figure.select_yaxes))
        figure.update_layout({legend: {"x": axis_x.domain[1] + 0.01, "y": axis_y.domain[1], "yanchor": "top"}})
    figure.update_xaxes(type="log")
    figure.update_yaxes(type="log")
    figure.update_layout(template="plotly_white", width=1200, height=1000)
    target.parent.mkdir(parents=True, exist_ok=True)
    figure.write_html(target)


if __name__ == "__main__":
    print(json.dumps(go_through(Path(sys.argv[1]))))
