"""Pages for everybody, in a real browser, where there is one: by keyboard, as tables, folded on a phone, on paper, by axe's rules."""

import re

import pytest

from depth_loss_sweep.reports.analysis import Analysis
from depth_loss_sweep.reports.comparison_page import render_comparison
from depth_loss_sweep.reports.findings_text import Made
from depth_loss_sweep.reports.index_page import Entry, Trend, render_index
from depth_loss_sweep.reports.page import render, write_document
from depth_loss_sweep.reports.paper_page import render_paper
from depth_loss_sweep.reports.slides import render_slides, study_slides
from tests.reports import test_browser
from tests.reports.conftest import make_study
from tests.reports.test_browser import needed, open_page, until
from tests.reports.test_paper import World, trained

pytestmark = test_browser.pytestmark
browser = test_browser.browser

SMALL = {"trials": 3, "epochs": 3, "diverged": (2,)}
PHONE = {"width": 390, "height": 844}


def index():
    """An index of a study and of a group that has it."""
    own = Entry(
        "one",
        "Use it",
        "finished",
        "2026-05-04",
        (3, 3),
        (9, 9),
        (64, 64),
        Trend((1.0, 0.5), 1, "RMSE along w"),
        "one.html",
    )
    return render_index([own, Entry("group", "Of 2 claims", "running", "2026-05-05", members=(own,))])


def paper(path):
    """The page of a group that was trained to its end."""
    write_document(render_paper("paper-small", trained(World(onset=0.5))[0], (), Made()), path)


KINDS = {
    "report": lambda path: write_document(render([make_study(panels=2, **SMALL)]), path),
    "comparison": lambda path: write_document(
        render_comparison([make_study(**SMALL), make_study(name="b", **SMALL)]), path
    ),
    "paper": paper,
    "index": lambda path: write_document(index(), path),
    "slides": lambda path: write_document(render_slides("a", study_slides(Analysis(make_study(**SMALL)))), path),
}


@pytest.mark.parametrize("kind", KINDS)
def test_axe_finds_nothing_serious(browser, tmp_path, kind):
    """No serious or critical issue by axe-core's rules, light or dark, all that folds unfolded."""
    axe = needed("axe_playwright_python.sync_playwright").Axe()
    KINDS[kind](tmp_path / "page.html")
    page = browser.new_page(viewport={"width": 1440, "height": 900})
    page.set_default_timeout(0)
    page.goto((tmp_path / "page.html").as_uri())
    page.evaluate("document.querySelectorAll('details').forEach((each) => (each.open = true))")
    everything = {"resultTypes": ["violations"]}
    for scheme, options in {"light": everything, "dark": everything | {"runOnly": ["color-contrast"]}}.items():
        page.emulate_media(color_scheme=scheme)
        found = axe.run(page, {"exclude": [".main-svg"]}, options).response[
            "violations"
        ]  # thousands of paths, all alike
        assert [(v["id"], v["nodes"][0]["html"]) for v in found if v["impact"] in ("serious", "critical")] == []
    page.close()


def test_the_keyboard_reaches_every_point(browser, study, tmp_path):
    """Arrow keys go through all points of a figure, each of which is told; Escape lets go, Enter picks."""
    path = write_document(render([study(trials=3, epochs=2)]), tmp_path / "report.html")
    page, said, _ = open_page(browser, path)
    chart = "#study-1-hero-means"
    page.evaluate(
        f"document.querySelector('{chart}').on('plotly_click', (e) => (window.picked = e.points[0].pointNumber))"
    )
    page.focus(chart)
    told = []
    for _ in range(9 + 3 + 4):  # a point a seed, a mean a trial, two ends of each trivial predictor
        page.keyboard.press("ArrowRight")
        told.append(page.text_content(f"{chart} + .unseen"))
        assert page.locator(f"{chart} .hoverlayer .hovertext").count() == 1
    assert sum("seed " in text for text in told) == 9 and sum(text.startswith("mean") for text in told) == 3
    assert len(set(told)) == len(told)
    page.keyboard.press("Home")
    page.keyboard.press("ArrowDown")
    assert page.text_content(f"{chart} + .unseen").startswith("mean")
    page.keyboard.press("Enter")
    assert page.evaluate("window.picked") == 0
    card, focused = page.locator("aside.trial"), "document.activeElement.matches('{}')"
    assert card.is_visible() and page.evaluate(focused.format("aside.trial"))
    page.keyboard.press("Escape")
    assert not card.is_visible() and page.evaluate(focused.format(chart))
    page.keyboard.press("End")
    assert page.locator(f"{chart} .hoverlayer .hovertext").count() == 1
    page.evaluate("location.hash = '#trial=1'")
    card.wait_for()
    page.keyboard.press("Escape")
    assert page.locator(f"{chart} .hoverlayer .hovertext").count() == 0 and card.is_visible()
    page.keyboard.press("Escape")
    assert not card.is_visible() and said == []
    page.close()


def test_a_pointer_reaches_marks_rings_and_their_words(browser, study, tmp_path):
    """The toolbar covers no mark; the ring gives its trial to a click; digits are few, with their unit."""
    path = write_document(render([study(trials=4, epochs=2, diverged=(3,))]), tmp_path / "report.html")
    page, said, _ = open_page(browser, path, viewport={"width": 1440, "height": 900})
    chart = "#study-1-hero-means"
    page.hover(chart)
    cross = page.locator(f"{chart} path.point").last.bounding_box()
    bar = page.locator(f"{chart} .modebar").bounding_box()
    assert bar["y"] + bar["height"] <= cross["y"]
    assert (
        page.evaluate(f"getComputedStyle(document.querySelector('{chart} .modebar-group')).backgroundColor")
        == "rgba(0, 0, 0, 0)"
    )
    hover = f"Plotly.Fx.hover(document.querySelector('{chart}'), [{{ curveNumber: 1, pointNumber: 0 }}])"
    told = f"document.querySelector('{chart} .hovertext')?.textContent ?? ''"
    until(page, f"({hover}, /^trial .: mean 0[.].... m ± 0[.]0?.. .95 %., 3 seeds$/.test({told}))")
    ring = page.locator(f"{chart} path.point[d^='M10,0A10,10']").bounding_box()
    page.mouse.click(ring["x"] + ring["width"] / 2, ring["y"] + 3)
    page.wait_for_selector("aside.trial")
    assert said == []
    page.close()


def test_a_figure_is_there_as_a_table(browser, study, tmp_path):
    """Its points with their axes' names; another measure of the menu changes it."""
    path = write_document(render([study(trials=3, epochs=2)]), tmp_path / "report.html")
    page, said, _ = open_page(browser, path)
    figure = "figure:has(#study-1-other-metrics-figure)"
    page.click(f"{figure} .tabled")
    table = f"{figure} .as-table"
    heads = page.locator(f"{table} th").all_text_contents()
    assert heads[:2] == ["what", "w (weight)"] and heads[-1] == "interval"
    before = page.text_content(table)
    assert page.locator(f"{table} tbody tr").count() == 9 + 3 + 4
    page.select_option("#study-1-other-metrics select", "metric_delta3")
    page.wait_for_timeout(0)
    assert page.text_content(table) != before and "delta3" in page.text_content(f"{table} thead")
    page.click(f"{figure} .tabled")
    assert not page.locator(table).is_visible() and said == []
    page.close()


def test_a_phone_gets_the_answer_and_headings(browser, study, tmp_path):
    """Under 8,000 pixels high; a heading unfolds its section, and so does an address that names it or what is in it."""
    path = write_document(render([study(panels=2, diverged=(4,))]), tmp_path / "report.html")
    page = browser.new_page(viewport=PHONE)
    page.set_default_timeout(0)
    page.goto(path.as_uri())
    assert page.evaluate("document.documentElement.scrollHeight") < 8000
    runs = page.locator("#study-1-runs table")
    assert not runs.is_visible()
    page.click("#study-1-runs h2 button")
    assert runs.is_visible() and page.get_attribute("#study-1-runs h2 button", "aria-expanded") == "true"
    page.evaluate("location.hash = '#study-1-trials'")
    page.wait_for_selector("#study-1-trials table")
    page.goto(path.as_uri() + "#study-1-stability-outcomes")
    page.reload()
    page.wait_for_selector("#study-1-stability-outcomes .main-svg")
    page.close()


HANDOUTS = {"ten": {"panels": 3, "diverged": (8, 9)}, "hundreds": {"trials": 200, "epochs": 3, "diverged": (4,)}}


@pytest.mark.parametrize(("size", "scheme"), [("ten", "dark"), ("hundreds", "light")])
def test_paper_takes_eight_pages(browser, study, tmp_path, size, scheme):
    """Printed, the page of a study is a handout, light whatever its reader's theme, with nothing cut off but rows, which it says."""
    path = write_document(render([study(**HANDOUTS[size])]), tmp_path / "report.html")
    page, said, _ = open_page(browser, path, viewport={"width": 1440, "height": 900}, color_scheme=scheme)
    until(page, "document.querySelectorAll('.grid:not(.alive)').length === 0")
    printed = page.pdf(format="A4")
    assert len(re.findall(rb"/Type /Page\b", printed)) <= 8
    page.emulate_media(media="print", color_scheme=scheme)
    page.set_viewport_size({"width": 710, "height": 1000})  # of A4
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    shown = "[...document.querySelectorAll('figure:has(> .chart) .main-svg, .scroll > table')].filter(e => e.checkVisibility())"
    beyond = "e => e.getBoundingClientRect().right > e.closest('.card').getBoundingClientRect().right + 1"
    assert page.evaluate(f"{shown}.length") > 12 and page.evaluate(f"{shown}.filter({beyond}).length") == 0
    assert page.locator(".hero .still .picture").is_visible() and not page.locator("#study-1-hero-means").is_visible()
    style = "getComputedStyle(document.{}).{}"
    assert page.evaluate(style.format("documentElement", "getPropertyValue('--surface')")) == "#ffffff"
    coloured = [".recipe span", ".key i", ".findings dt"] if size == "ten" else [".findings dt"]
    for part in coloured:
        assert page.evaluate(style.format(f"querySelector('{part}')", "printColorAdjust")) == "exact"
    assert page.locator("#study-1-trials tbody tr:visible").count() == (10 if size == "ten" else 25)
    cut = page.evaluate("getComputedStyle(document.querySelector('#study-1-trials .grid'), '::after').content")
    assert cut == ('""' if size == "ten" else '"The first 25 of 200 rows."') and said == []
    page.close()


@pytest.mark.parametrize("kind", ["line", "grid", "simplex"])
def test_the_answer_needs_no_script(browser, study, tmp_path, kind):
    """Without JavaScript the first screen has its sentence, its table and a static picture of its figure; no empty frame is left."""
    path = write_document(render([study(kind, trials=4, epochs=2)]), tmp_path / "report.html")
    context = browser.new_context(java_script_enabled=False, viewport={"width": 1440, "height": 900})
    page = context.new_page()
    page.goto(path.as_uri())
    assert page.locator(".hero .picture circle:visible, .hero .picture polygon:visible").count() >= 4
    assert page.locator(".verdict h2").is_visible() and page.locator(".standings tbody tr").count() == 3
    assert page.get_by_text("Not measured: equal weights, L1 alone.").is_visible()
    assert page.locator("figure:visible:not(:has(img, .picture))").count() == 0
    context.close()
