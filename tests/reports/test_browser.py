"""The page in a real browser, where there is one; on CI there has to be one."""

import importlib
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from depth_loss_sweep.reports.findings_text import Made
from depth_loss_sweep.reports.page import render, write_document
from depth_loss_sweep.reports.paper_page import render_paper
from tests.reports.test_paper import World, trained

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not (CHROMIUM or os.environ.get("CI")), reason="no chromium to open the page with"),
]


def needed(module):
    """A package without which a test is skipped; on CI it fails."""
    return importlib.import_module(module) if os.environ.get("CI") else pytest.importorskip(module)


@pytest.fixture(scope="module")
def browser():
    """A headless browser for all tests of this file."""
    assert CHROMIUM, "no chromium to open the page with"
    playwright = needed("playwright.sync_api")
    with playwright.sync_playwright() as driver:
        opened = driver.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS, timeout=0)
        yield opened
        opened.close()


def until(page, condition):
    """Wait until something holds in a page or frame, which may be reloading itself at the moment.

    Asked from here each time: what `wait_for_function` evaluates again within the page, the page's own policy may forbid.
    """
    while True:
        try:
            if page.evaluate(condition):
                return
        except Exception as error:  # playwright need not be there, so that its own error has no name here
            if "navigat" not in str(error) and "of null" not in str(error):
                raise  # nor is a page that is read anew whole at once
        page.wait_for_timeout(50)


def open_page(browser, path, **options):
    """The page with what it said and asked for meanwhile; printing makes it draw every figure."""
    page = browser.new_page(**options)
    page.set_default_timeout(0)  # how long a busy machine takes says nothing; the suite's own limit ends what hangs
    said, asked = [], []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    page.goto(path.as_uri())
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    until(page, "document.querySelectorAll('.chart:not(:has(.main-svg))').length === 0")
    return page, said, [url for url in asked if not url.startswith(("data:", "blob:")) and url != path.as_uri()]


@pytest.mark.parametrize("options", [{"diverged": (4,), "trials": 5, "panels": 2}, {"kind": "simplex", "trials": 6}])
def test_every_figure_is_drawn_offline_without_an_error(browser, study, tmp_path, options):
    """No console message, no request to anywhere, marks in every figure, and a phone needs no sideways scrolling."""
    path = write_document(render([study(name="<b>&", **options)]), tmp_path / "report.html")
    page, said, asked = open_page(browser, path, viewport={"width": 400, "height": 800}, color_scheme="dark")
    assert said == [] and asked == []
    assert page.evaluate(
        "[...document.querySelectorAll('.chart')].every(c => c.querySelector('.trace, .point, .js-line'))"
    )
    assert page.evaluate("document.documentElement.scrollWidth") <= 400
    assert page.inner_text("h1") == "<b>&"
    page.close()


@pytest.mark.parametrize("kind", ["line", "grid", "simplex", "points"])
def test_the_answer_is_one_screen(browser, study, tmp_path, kind):
    """Whatever the study, all that stands before the first fold is seen at once on a desk, its figures drawn."""
    path = write_document(render([study(kind, trials=4)]), tmp_path / "report.html")
    page, said, _ = open_page(browser, path, viewport={"width": 1440, "height": 900})
    page.reload()
    until(page, "document.querySelector('.hero .main-svg')")
    until(page, "document.querySelector('.grounds').getBoundingClientRect().bottom <= 900")
    ends = page.evaluate(
        "['.hero > figure:first-child', '.glance'].map(e => document.querySelector(e).getBoundingClientRect().bottom)"
    )
    assert ends[0] == pytest.approx(ends[1], abs=1) and ends[1] > 750  # the figure leaves no hole beside the table
    assert (
        page.evaluate("(([e]) => e.clientHeight - e._fullLayout.height)(document.querySelectorAll('.hero .chart'))")
        == 0
    )
    assert said == []
    page.close()


def test_a_line_is_switched_to_differences(browser, study, tmp_path):
    """The axis says what they are differences to; trivial predictors, which have none, go, and come back."""
    path = write_document(render([study(trials=4)]), tmp_path / "report.html")
    page, said, _ = open_page(browser, path)
    page.select_option("#study-1-hero select", "differences")
    until(page, "document.querySelector('#study-1-hero-means .ytitle').textContent.startsWith('worse than w = ')")
    assert page.locator("#study-1-hero-means .annotation").count() == 0
    page.select_option("#study-1-hero select", "values")
    until(page, "document.querySelectorAll('#study-1-hero-means .annotation').length === 2")
    assert said == []
    page.close()


@pytest.mark.parametrize(("environment", "told"), [({}, "1 skipped"), ({"CI": "true"}, "1 error")])
def test_without_a_browser_ci_fails(tmp_path, environment, told):
    """Elsewhere what needs one is skipped."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", "switched_to_differences"]
    bare = {key: value for key, value in os.environ.items() if key != "CI"} | {"PATH": str(tmp_path)} | environment
    assert told in subprocess.run([*command, __file__], env=bare, capture_output=True, text=True).stdout


def test_menus_tables_and_switches_work(browser, study, tmp_path):
    """Another measure is drawn, the trivial predictors go away, a heading sorts."""
    path = write_document(render([study(trials=3)]), tmp_path / "report.html")
    page, said, _ = open_page(browser, path)
    title = "#study-1-epochs-val .ytitle"
    assert page.text_content(title) == "RMSE (m)"
    page.select_option("#study-1-epochs select", "term_l1")
    until(page, "document.querySelector('#study-1-epochs-val .ytitle').textContent === 'L1 term (m)'")
    assert page.locator("#study-1-hero .annotation").count() == 2
    page.uncheck("#study-1-hero input")
    until(page, "document.querySelectorAll('#study-1-hero .annotation').length === 0")
    page.click("#study-1-trials th:first-child button")
    assert page.locator("#study-1-trials tbody tr td:first-child").all_inner_texts() == ["0", "1", "2"]
    page.click("#study-1-trials th:first-child button")
    assert page.locator("#study-1-trials tbody tr td:first-child").all_inner_texts() == ["2", "1", "0"]
    assert said == []
    page.close()


def test_no_control_leads_out_of_the_page(browser, study, tmp_path):
    """Every button, link, switch and menu is used: nothing is asked for, no other page opens, no button sends a figure away."""
    record = replace(study(trials=3, panels=1, epochs=3), resolved="[study]\n")
    path = write_document(render([record]), tmp_path / "report.html")
    page, said, asked = open_page(browser, path)
    opened = []
    page.on("popup", lambda other: opened.append(other.url))
    tools = page.evaluate("[...new Set([...document.querySelectorAll('.modebar-btn')].map(b => b.dataset.title))]")
    assert tools and not any("Share" in name or "cloud" in name.lower() for name in tools)
    used = page.evaluate(
        """() => {
          const controls = [...document.querySelectorAll("a, button, summary, input, select, .modebar-btn, [tabindex]")];
          for (const each of controls) each.dispatchEvent(new MouseEvent("click", { bubbles: true, cancelable: true, view: window }));
          for (const menu of document.querySelectorAll("select"))
            for (const option of menu.options) { menu.value = option.value; menu.dispatchEvent(new Event("change")); }
          return controls.length;
        }"""
    )
    until(page, "document.querySelectorAll('.chart:not(:has(.main-svg))').length === 0")
    outside = [url for url in page.evaluate("[...document.querySelectorAll('a')].map(a => a.href)") if "#" not in url]
    assert used > 50 and said == [] and asked == [] and opened == []
    assert all(url.startswith(("data:", "blob:")) for url in outside) and page.url.split("#")[0] == path.as_uri()
    assert page.locator("[class*=plotly-cloud]").count() == 0
    page.close()


def test_the_whole_spec_is_saved_from_the_page(browser, study, tmp_path):
    """A link in the page saves it, letter by letter, and it is shown below the link."""
    resolved = '[study]\nname = "α & <b>"\nseeds = [0]\n'
    record = replace(study("point", trials=1, name="own"), resolved=resolved)
    page, said, asked = open_page(browser, write_document(render([record]), tmp_path / "report.html"))
    with page.expect_download() as saved:
        page.click("#study-1-origin a[download]")
    assert saved.value.suggested_filename == "own.toml"
    assert Path(saved.value.path()).read_text(encoding="utf-8") == resolved
    assert page.text_content("#study-1-origin details:first-of-type pre") == resolved and said == [] and asked == []
    page.close()


def test_a_switch_keeps_what_was_zoomed_into(browser, study, tmp_path):
    """The trivial predictors go, the range that a reader chose stays; another measure has its own heights."""
    path = write_document(render([study(trials=3)]), tmp_path / "report.html")
    page, said, _ = open_page(browser, path)
    shown = "document.getElementById('study-1-hero-means')._fullLayout"
    zoomed = {"xaxis.range": [0.1, 0.4], "yaxis.range": [0.5, 0.6]}
    page.evaluate("zoomed => Plotly.relayout('study-1-hero-means', zoomed)", zoomed)
    page.uncheck("#study-1-hero input")
    until(page, "document.querySelectorAll('#study-1-hero .annotation').length === 0")
    assert page.evaluate(f"[{shown}.xaxis.range, {shown}.yaxis.range]") == [[0.1, 0.4], [0.5, 0.6]]
    curves = "document.getElementById('study-1-epochs-val')._fullLayout"
    page.evaluate("Plotly.relayout('study-1-epochs-val', {'xaxis.range': [2, 4], 'yaxis.range': [0.5, 0.6]})")
    page.select_option("#study-1-epochs select", "term_silog")
    until(page, "document.querySelector('#study-1-epochs-val .ytitle').textContent.startsWith('SILog')")
    assert page.evaluate(f"{curves}.xaxis.range") == [2, 4] and page.evaluate(f"{curves}.yaxis.range[1]") < 0.3
    assert said == []
    page.close()


@pytest.fixture(scope="module")
def paper_page(tmp_path_factory):
    """The page of a group of studies that was trained to its end."""
    records, _ = trained(World(onset=0.5))
    return write_document(
        render_paper("paper-small", records, (), Made()), tmp_path_factory.mktemp("paper") / "report.html"
    )


@pytest.mark.parametrize("width", [1440, 390])
def test_the_papers_page_opens(browser, paper_page, width):
    """On a desk and on a phone: no console message, no request, no sideways scrolling, links that the keyboard follows."""
    page, said, asked = open_page(browser, paper_page, viewport={"width": width, "height": 900}, color_scheme="dark")
    assert said == [] and asked == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.focus("a[href='#claim-H4']")
    page.keyboard.press("Enter")
    assert page.evaluate("location.hash") == "#claim-H4"
    page.close()
