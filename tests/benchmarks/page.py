"""How heavy is a study's page? Size, writing and opening, on made-up studies, beside Optuna's own plots of the same trials.

It opens pages in Chromium; where there is none, only what needs no browser is measured.
"""

import contextlib
import shutil
import tempfile
import time
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

import optuna
from optuna.visualization import plot_contour, plot_optimization_history, plot_parallel_coordinate, plot_slice

from depth_loss_sweep.reports.analysis import Analysis
from depth_loss_sweep.reports.page import render, write_document
from depth_loss_sweep.reports.records import StudyRecord
from tests.reports.conftest import make_study

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
BUNDLE = "vendor/plotly-cartesian.min.js"
ROUNDS = 3


def measure(quick: bool) -> dict[str, dict[str, float]]:
    """Of a small study and of large ones: a table each."""
    large = 100 if quick else 1000
    studies = {
        "A line of 10 trials, 3 seeds, 10 epochs, 6 panels of 256 pixels": make_study(panels=6, size=256),
        f"A line of {large:,} trials, 3 seeds, 10 epochs": make_study(trials=large),
        f"A simplex of {large:,} trials, 3 seeds, 10 epochs": make_study("simplex", trials=large),
    }
    with tempfile.TemporaryDirectory() as folder, _browser() as browser:
        return {title: _page(record, Path(folder), browser) for title, record in studies.items()}


def _page(record: StudyRecord, folder: Path, browser: Any) -> dict[str, float]:
    start = time.process_time()
    path = write_document(render([record]), folder / "report.html")
    found: dict[str, float] = {"writing it (CPU s)": time.process_time() - start}
    found["size (MB)"] = path.stat().st_size / 1e6
    if browser:
        found |= _opening(browser, path, folder)
    return found | _optuna(record)


def _opening(browser: Any, path: Path, folder: Path) -> dict[str, float]:
    """From the address to the first figure that is drawn, and what the page is then made of; the best of a few rounds."""
    alone = folder / "bundle.html"
    alone.write_text(f"<!doctype html><script>{(files('depth_loss_sweep.reports') / BUNDLE).read_text()}</script>")
    bundle = min(_seconds(browser, alone, "true")[0] for _ in range(ROUNDS))
    opened = [_seconds(browser, path, "!!document.querySelector('.hero .main-svg')") for _ in range(ROUNDS)]
    seconds, page = min(opened, key=lambda found: found[0])
    page.wait_for_function("() => document.querySelectorAll('.grid:not(.alive)').length === 0")
    count = "document.querySelectorAll('*').length"
    found = {"interactive (s)": seconds, "interactive / the script alone": seconds / bundle}
    found["DOM nodes, loaded"] = page.evaluate(count)
    sort = "() => { const t = performance.now(); document.querySelector('#study-1-runs th button').click();"
    found["sorting the runs (s)"] = (
        page.evaluate(f"{sort} document.body.offsetHeight; return performance.now() - t; }}") / 1e3
    )
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    page.wait_for_function("() => document.querySelectorAll('.chart:not(:has(.main-svg))').length === 0")
    found["DOM nodes, all drawn"] = page.evaluate(count)
    for _, each in opened:
        each.close()
    return found


def _seconds(browser: Any, path: Path, until: str) -> tuple[float, Any]:
    page = browser.new_page(viewport={"width": 1440, "height": 900})
    page.set_default_timeout(0)
    start = time.perf_counter()
    page.goto(path.as_uri())
    page.wait_for_function(f"() => {until}")
    return time.perf_counter() - start, page


def _optuna(record: StudyRecord) -> dict[str, float]:
    """Optuna's history, slices and parallel coordinates of the same trials, and its contour where there are few."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study()
    for trial in Analysis(record).trials:
        params = {name: float(value) for name, value in trial.params.items()}
        ranges = {name: optuna.distributions.FloatDistribution(0.0, 1.0) for name in params}
        study.add_trial(optuna.create_trial(params=params, distributions=ranges, value=trial.mean))
    start = time.process_time()
    plots = [plot_optimization_history, plot_slice, plot_parallel_coordinate]
    plots += [plot_contour] if len(study.trials) <= 100 and len(record.variables) > 1 else []
    pages = [plot(study).to_html(include_plotlyjs=i == 0) for i, plot in enumerate(plots)]
    taken = time.process_time() - start
    return {f"Optuna's {len(plots)} plots (MB)": sum(map(len, pages)) / 1e6, "Optuna's plots (CPU s)": taken}


@contextlib.contextmanager
def _browser() -> Iterator[Any]:
    if CHROMIUM is None:
        yield None
        return
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        opened = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"], timeout=0)
        yield opened
        opened.close()
