"""One selected trial, long tables and crowds of points, in a real browser, where there is one."""

import csv
import json
from dataclasses import replace
from pathlib import Path

from depth_loss_sweep.api import Report
from depth_loss_sweep.reports.analysis import Analysis
from depth_loss_sweep.reports.comparison_page import render_comparison
from depth_loss_sweep.reports.page import render, write_document
from depth_loss_sweep.reports.page_data import FORMATS
from depth_loss_sweep.reports.trial_tables import run_table
from tests.reports import test_browser
from tests.reports.test_browser import open_page, until

pytestmark = test_browser.pytestmark
browser = test_browser.browser

ALIVE = "document.querySelectorAll('.grid:not(.alive)').length === 0"
POINT = """(name, number) => {
  const el = document.getElementById(name);
  const { xaxis, yaxis } = el._fullLayout;
  const trace = el.data[1];
  const box = el.getBoundingClientRect();
  return [box.left + xaxis._offset + xaxis.d2p(trace.x[number]), box.top + yaxis._offset + yaxis.d2p(trace.y[number])];
}"""
ROW = "#study-1-trials tr.selected td:first-child"


def test_one_trial_is_selected_everywhere(browser, study, tmp_path):
    """A click on a point opens its card, marks its row and its points; arrow keys go on, Escape closes, the address opens it anew."""
    record = replace(study(trials=5, panels=1), resolved='[study]\nname = "own"\n')
    path = write_document(render([record]), tmp_path / "report.html")
    page, said, asked = open_page(browser, path, viewport={"width": 1440, "height": 900})
    until(page, ALIVE)
    page.evaluate("scrollTo({ top: 0, behavior: 'instant' })")
    page.mouse.click(*page.evaluate(f"({POINT})('study-1-hero-means', 3)"))
    until(page, "location.hash === '#trial=3'")
    assert page.inner_text("aside.trial h2") == "trial 3" and page.inner_text(ROW) == "3"
    card = page.inner_text("aside.trial")
    assert "sweep start ssim-vs-edge.toml --name ssim-vs-edge-trial-3" in card and "w = 0.675" in card
    assert page.locator("aside.trial .main-svg").count() and page.locator("aside.trial tbody tr").count() == 3
    means = "document.getElementById('study-1-hero-means').data[1]"
    until(page, f"{means}.selectedpoints?.join() === '3'")
    order = page.locator("#study-1-trials tbody:not(.space) tr td:first-child").all_inner_texts()
    page.keyboard.press("ArrowRight")
    after = order[order.index("3") + 1] if order[-1] != "3" else "3"
    assert page.evaluate("location.hash") == f"#trial={after}"
    page.click(f"#study-1-runs tr[data-trial='{order[0]}']")
    assert page.inner_text("aside.trial h2") == f"trial {order[0]}"
    page.reload()
    until(page, "!!document.querySelector('aside.trial h2')")
    assert page.inner_text("aside.trial h2") == f"trial {order[0]}"
    page.keyboard.press("Escape")
    assert page.locator("aside.trial").is_hidden() and page.evaluate("location.hash") == ""
    page.evaluate("location.hash = '#trial=99'")  # there is none
    assert page.locator("aside.trial").is_hidden() and said == [] and asked == []
    page.close()


def test_every_row_of_a_trial_selects_it(browser, study, tmp_path):
    """In the standings, the contrasts and the tables of what broke, by a click or Enter; a contents link leaves it so."""
    path = write_document(render([study(trials=5, seeds=5, diverged=(3,))]), tmp_path / "report.html")
    page, said, _ = open_page(browser, path, viewport={"width": 1440, "height": 900})
    until(page, ALIVE)
    rows = page.locator("tr[data-trial]:not(.grid tr)")
    for place in (".standings", "#study-1-contrasts", "#study-1-stability"):
        assert page.locator(f"{place} tr[data-trial]").count() > 0
    for i in range(rows.count()):
        rows.nth(i).focus()
        page.keyboard.press("Enter")
        trial = rows.nth(i).get_attribute("data-trial")
        assert page.inner_text("aside.trial h2") == f"trial {trial}" and "selected" in rows.nth(i).get_attribute(
            "class"
        )
        assert page.inner_text(ROW) == trial
    page.click("#study-1-contrasts tbody tr >> nth=0")
    chosen = page.evaluate("Store.selected.trial")
    page.click("nav a[href='#study-1-runs']")
    until(page, f"location.hash === '#trial={chosen}'")
    until(page, "document.getElementById('study-1-runs').getBoundingClientRect().top < innerHeight")
    assert page.locator("aside.trial").is_visible() and said == []
    page.close()


def test_a_point_of_several_studies_selects_its_trial(browser, study, tmp_path):
    """On the common axis, too, where it is of the second study: its card opens, and there alone it is marked."""
    path = write_document(render_comparison([study(trials=3), study(trials=3, name="b")]), tmp_path / "report.html")
    page, said, _ = open_page(browser, path, viewport={"width": 1440, "height": 900})
    overlay = "document.getElementById('comparison-overlay')"
    page.evaluate(f"{overlay}.emit('plotly_click', {{points: [{{data: {overlay}.data[2], customdata: 1}}]}})")
    until(page, "location.hash === '#trial=1&study=study-2'")
    assert page.inner_text("aside.trial h2") == "b, trial 1"
    until(page, f"{overlay}.data.filter((t) => t.selectedpoints).map((t) => t.name + t.selectedpoints).join() === 'b1'")
    assert said == []
    page.close()


def test_a_range_of_parallel_lines_filters_the_trials(browser, study, tmp_path):
    """A drag along an axis fades the lines outside, keeps the others' rows and selects nothing; a double click brings all back."""
    record = study("simplex", trials=12, epochs=2)
    path = write_document(render([record]), tmp_path / "report.html")
    page, said, _ = open_page(browser, path, viewport={"width": 1440, "height": 900})
    until(page, ALIVE)
    lines = "document.getElementById('study-1-objective-parallel')"
    page.locator("#study-1-objective-parallel").scroll_into_view_if_needed()
    place = f"""([x, y]) => {{
      const {{ xaxis, yaxis }} = {lines}._fullLayout;
      const box = {lines}.getBoundingClientRect();
      return [box.left + xaxis._offset + xaxis.d2p(x), box.top + yaxis._offset + yaxis.d2p(y)];
    }}"""
    page.mouse.move(*page.evaluate(place, [2, 1.05]))
    page.mouse.down()
    page.mouse.move(*page.evaluate(place, [2, 0.5]), steps=3)
    page.mouse.up()
    edge = record.trials["weight_edge"]
    kept = {*record.trials["number"][edge > (edge.min() + edge.max()) / 2]}
    count = "document.querySelector('#study-1-trials output').textContent"
    until(page, f"{count} === '{len(kept)} of 12 rows'")
    bright = f"{lines}.data.filter((t) => t.opacity > 0.1).flatMap((t) => t.customdata).filter((n) => n !== null)"
    assert {*page.evaluate(bright)} == kept and page.evaluate("Store.selected") is None
    page.mouse.dblclick(*page.evaluate(place, [2, 0.5]))
    until(page, f"{count} === ''")
    assert said == []
    page.close()


def test_a_page_in_a_notebooks_frame_works(browser, study, tmp_path):
    """A click opens a card, Escape closes it, and a contents link unfolds its section and goes there instead of loading the notebook."""
    shown = Report(write_document(render([study(trials=3, epochs=2)]), tmp_path / "report.html"))
    notebook = tmp_path / "notebook.html"
    notebook.write_text(f"<!doctype html><h1>Notebook</h1>{shown._repr_html_()}", encoding="utf-8")
    page = browser.new_page(viewport={"width": 1440, "height": 900})
    page.set_default_timeout(0)
    said = []
    page.on("pageerror", lambda error: said.append(str(error)))
    page.goto(notebook.as_uri())
    (frame,) = page.main_frame.child_frames
    until(frame, ALIVE)
    frame.click("#study-1-runs tr[data-trial='1'] >> nth=0")
    assert frame.locator("aside.trial").is_visible() and frame.inner_text("aside.trial h2") == "trial 1"
    page.keyboard.press("Escape")
    assert frame.locator("aside.trial").is_hidden()
    frame.click("#study-1-origin > h2 > button")
    assert frame.locator("#study-1-origin.folded").count() == 1
    frame.evaluate("scrollTo({ top: 0, behavior: 'instant' })")
    frame.click("nav a[href='#study-1-origin']")
    until(frame, "document.getElementById('study-1-origin')?.getBoundingClientRect().top < innerHeight")
    assert frame.locator("#study-1-origin.folded").count() == 0 and frame.url == "about:srcdoc" and said == []
    page.close()


def saved(page, button):
    """What a button saves."""
    with page.expect_download() as found:
        page.click(button)
    return found.value.suggested_filename, Path(found.value.path()).read_text(encoding="utf-8")


def test_a_long_table_is_filtered_sorted_and_saved(browser, study, tmp_path):
    """Few of its rows are in the page, whichever are seen; what is saved is what the filter leaves, every column of it."""
    record = study(trials=200, seeds=2, epochs=2, diverged=(3,))
    path = write_document(render([record]), tmp_path / "report.html")
    page = browser.new_page(viewport={"width": 1440, "height": 900})
    page.set_default_timeout(0)
    page.goto(path.as_uri())
    until(page, ALIVE)
    runs = "#study-1-runs .grid"
    assert page.locator(f"{runs} tbody tr").count() < 60
    table = run_table(Analysis(record))
    shown = page.evaluate(
        f"[...document.querySelectorAll('{runs} tbody:not(.space) tr')].map(r => [...r.cells].map(c => c.textContent))"
    )
    assert shown == [[cell.text for cell in row] for row in table.rows[: len(shown)]]
    page.evaluate(f"document.querySelector('{runs} .scroll').scrollTop = 1e6")
    until(page, f"document.querySelector('{runs} tbody:not(.space) tr:last-child td').textContent === '199'")
    page.fill(f"{runs} input[type=search]", "learnt rmse<0.51 seed=1")
    values = Analysis(record).final_values("metric_rmse")
    kept = [
        r
        for r in record.runs.to_dict("records")
        if r["outcome"] == "learnt" and r["seed"] == 1 and values[r["run"]] < 0.51
    ]
    assert page.inner_text(f"{runs} output") == f"{len(kept)} of 400 rows" and len(kept) > 5
    page.click(f"{runs} th:nth-child(5) button")
    name, text = saved(page, f"{runs} button:text-is('CSV')")
    rows = list(csv.DictReader(text.splitlines()))
    assert name == "ssim-vs-edge-runs.csv" and [float(r["val RMSE (m)"]) for r in rows] == sorted(
        values[r["run"]] for r in kept
    )
    assert "val delta1 (no unit)" in rows[0] or any(key.startswith("val delta1") for key in rows[0])
    name, text = saved(page, f"{runs} button:text-is('JSON')")
    assert [row["trial"] for row in json.loads(text)] == [int(r["trial"]) for r in rows]
    page.click(f"{runs} .columns summary")
    page.check(f"{runs} .columns label:has-text('val delta1') input >> nth=0")
    assert page.locator(f"{runs} th").count() == len(table.columns) + 1
    page.close()


def test_a_comparison_says_which_column_it_takes(browser, study, tmp_path):
    """Whole names before words, shown columns before hidden ones, spaces as one likes; what no column is called is said."""
    path = write_document(render([study(trials=10)]), tmp_path / "report.html")
    page = browser.new_page(viewport={"width": 1440, "height": 900})
    page.set_default_timeout(0)
    page.goto(path.as_uri())
    until(page, ALIVE)

    def asked(table, text):
        page.fill(f"#study-1-{table} input[type=search]", text)
        return page.inner_text(f"#study-1-{table} .grid output"), page.inner_text(f"#study-1-{table} .controls small")

    assert asked("trials", "w<0.5") == ("5 of 10 rows", "w: column “w”")
    assert asked("trials", "w = 0.3")[0] == "1 of 10 rows"
    assert asked("runs", "edge < 0.25") == ("9 of 30 rows", "edge: column “edge”, which is hidden")
    assert asked("runs", "rmse < 9 seed=1") == ("10 of 30 rows", "rmse: column “val RMSE (m)”; seed: column “seed”")
    assert asked("runs", "edge <")[0] == "30 of 30 rows"
    assert asked("runs", "foo<3") == ("0 of 30 rows", "no column is called “foo”")
    hints = [page.get_attribute(f"#study-1-{t} input[type=search]", "placeholder") for t in ("trials", "runs")]
    assert hints[0] == "filter, such as learnt w < 0.5" and hints[1].startswith("filter, such as learnt rmse < 0.5")
    page.close()


def test_saved_tables_hold_values(browser, study, tmp_path):
    """Whole ids and numbers, the data's own words, both ends of an interval, and what every run is made of."""
    record = study(trials=4, diverged=(3,))
    path = write_document(render([record]), tmp_path / "report.html")
    page = browser.new_page(viewport={"width": 1440, "height": 900})
    page.set_default_timeout(0)
    page.goto(path.as_uri())
    until(page, ALIVE)
    rows = json.loads(saved(page, "#study-1-runs button:text-is('JSON')")[1])
    assert [row["run"] for row in rows] == [*record.runs["run"]]
    assert rows[-1]["outcome"] == "non_finite" and rows[-1]["w"] == 0.9 and rows[3]["edge"] == 0.3
    finals = Analysis(record).final_values("metric_delta1")
    assert [row["val delta1 (no unit)"] for row in rows[:-1]] == [finals[row["run"]] for row in rows[:-1]]
    trials = list(csv.DictReader(saved(page, "#study-1-trials button:text-is('CSV')")[1].splitlines()))
    of = {t.number: t for t in Analysis(record).trials}
    for row in trials[:3]:
        interval = of[int(row["trial"])].interval
        assert [float(row[f"95 % interval {end}"]) for end in ("low", "high")] == [interval.low, interval.high]
        assert (row["n"], row["n of"], row["outcomes learnt"], row["outcomes non_finite"]) == ("3", "3", "3", "0")
    page.close()


def test_no_column_stands_beyond_the_edge_of_a_desk(browser, study, tmp_path):
    """At 1440 pixels all columns of trials and runs are seen, each as wide as what it says."""
    path = write_document(render([study(trials=10, diverged=(3,))]), tmp_path / "report.html")
    page = browser.new_page(viewport={"width": 1440, "height": 900})
    page.set_default_timeout(0)
    page.goto(path.as_uri())
    until(page, ALIVE)
    for table in ("trials", "runs"):
        box = f"document.querySelector('#study-1-{table} .scroll')"
        assert page.evaluate(f"{box}.scrollWidth <= {box}.clientWidth")
        cut = f"[...{box}.querySelectorAll('td:not(.long)')].filter((c) => c.scrollWidth > c.clientWidth + 1).length"
        assert page.evaluate(cut) == 0
    page.close()


def test_numbers_are_written_as_python_writes_them(browser, study, tmp_path):
    """Digits, zeros, powers of ten, what is missing and what is infinite."""
    path = write_document(render([study(trials=2, epochs=1)]), tmp_path / "report.html")
    page = browser.new_page()
    page.goto(path.as_uri())
    values = [s * m * 10.0**p for s in (1, -1) for p in range(-7, 8) for m in (1, 1.2345, 9.9996, 5.05)] + [
        0.0,
        3.0,
        12.0,
    ]
    for name, write in FORMATS.items():
        if name != "integer":
            assert page.evaluate(f"values => values.map(Store.formats.{name})", values) == [write(v) for v in values]
        assert page.evaluate(f"[null, Infinity].map(Store.formats.{name})") == ["–", "diverged"]
    page.close()


def test_a_crowd_of_points_is_few_nodes_that_answer(browser, study, tmp_path):
    """Every figure of 450 trials is drawn by few nodes; a point of it is found by the pointer, and stays where it is zoomed."""
    path = write_document(render([study(trials=450, seeds=2, epochs=2)]), tmp_path / "report.html")
    page, said, _ = open_page(browser, path, viewport={"width": 1440, "height": 900})
    until(page, ALIVE)
    assert page.evaluate("document.querySelectorAll('*').length") < 12_000
    hero = "document.getElementById('study-1-hero-means')"
    page.evaluate(f"Plotly.relayout({hero}, {{'xaxis.range': [0.2, 0.3]}})")
    page.evaluate("scrollTo({ top: 0, behavior: 'instant' })")
    page.mouse.click(*page.evaluate(f"({POINT})('study-1-hero-means', 120)"))
    until(page, "location.hash.startsWith('#trial=')")
    chosen = int(page.evaluate("location.hash").removeprefix("#trial="))
    assert abs(chosen - 120) <= 3 and page.evaluate(f"{hero}._fullLayout.xaxis.range") == [0.2, 0.3]
    assert said == []
    page.close()
