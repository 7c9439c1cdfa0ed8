"""Slides, side-by-side pages, the index and a page that follows a study, in a real browser, where there is one."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from depth_loss_sweep.reports import live
from depth_loss_sweep.reports.analysis import Analysis
from depth_loss_sweep.reports.comparison_page import render_comparison
from depth_loss_sweep.reports.findings import account
from depth_loss_sweep.reports.index_page import Entry, Trend, render_index
from depth_loss_sweep.reports.page import render, write_document
from depth_loss_sweep.reports.slides import paper_slides, render_slides, study_slides
from tests.reports import test_browser
from tests.reports.test_browser import open_page, until
from tests.reports.test_paper import World, trained

pytestmark = test_browser.pytestmark
browser = test_browser.browser

TOO_MUCH = """[...document.querySelectorAll('.slide, .slide .body, .slide .words')]
  .filter(e => e.scrollHeight > e.clientHeight + 1 || e.scrollWidth > e.clientWidth + 1).map(e => e.closest('.slide').id)"""
SCREEN = {"width": 1280, "height": 720}


@pytest.fixture(scope="module")
def group_deck(tmp_path_factory):
    """The slides of a group that was trained to its end."""
    slides = paper_slides(account("paper-small", trained(World(onset=0.5))[0]))
    return write_document(render_slides("paper-small", slides), tmp_path_factory.mktemp("deck") / "slides.html")


@pytest.fixture
def deck(study, tmp_path):
    """The slides of a study some of whose runs broke."""
    slides = study_slides(Analysis(study(name="<b>&", diverged=(6, 8))))
    return write_document(render_slides("<b>&", slides), tmp_path / "slides.html")


def shown(page):
    """The numbers of the slides that are seen."""
    return page.evaluate(
        "[...document.querySelectorAll('.slide')].filter(s => s.offsetParent !== null).map(s => +s.id)"
    )


def test_keys_turn_the_slides(browser, deck):
    """One at a time, named by the address, from which it opens again; nothing is asked for."""
    page, said, asked = open_page(browser, deck, viewport=SCREEN)
    assert shown(page) == [1] and page.inner_text("h1") == "<b>&"
    last = page.locator(".slide").count()
    for key, now in (
        ("ArrowRight", 2),
        ("PageDown", 3),
        (" ", 4),
        ("ArrowLeft", 3),
        ("PageUp", 2),
        ("End", last),
        ("ArrowRight", last),
    ):
        page.keyboard.press(key)
        assert shown(page) == [now]
    page.click("[data-step='-1']")
    assert shown(page) == [last - 1] and page.evaluate("location.hash") == f"#{last - 1}"
    page.reload()
    assert shown(page) == [last - 1]
    page.evaluate("location.hash = '#3'")
    until(page, "document.querySelector('.here').id === '3'")
    assert said == [] and asked == []
    page.close()


@pytest.mark.parametrize("kind", ["deck", "group_deck"])
def test_slides_hold_what_is_on_them(browser, kind, request):
    """At 1280 x 720 nothing is cut off, without a script all stand one below the other, and paper takes a slide a page."""
    path = request.getfixturevalue(kind)
    context = browser.new_context(viewport=SCREEN, java_script_enabled=False)
    page = context.new_page()
    page.goto(path.as_uri())
    slides = page.locator(".slide").count()
    assert page.evaluate(TOO_MUCH) == []
    assert len(shown(page)) == slides
    assert page.evaluate(
        "[...document.querySelectorAll('.slide')].every(s => Math.abs(s.offsetWidth * 9 - s.offsetHeight * 16) < 20)"
    )
    printed = page.pdf(prefer_css_page_size=True)
    assert printed.count(b"/Type /Page\n") == slides
    context.close()


def test_slides_are_read_on_a_phone(browser, group_deck):
    """Below each other, in letters that can be read, without sideways scrolling."""
    page, said, _ = open_page(browser, group_deck, viewport={"width": 390, "height": 844})
    assert page.evaluate("document.documentElement.scrollWidth") <= 390 and len(shown(page)) > 5
    sizes = "[...document.querySelectorAll('td, dd, li b')].map(e => parseFloat(getComputedStyle(e).fontSize))"
    assert min(page.evaluate(sizes)) >= 10
    assert said == []
    page.close()


@pytest.mark.parametrize("width", [1440, 390])
def test_studies_side_by_side_open(browser, study, tmp_path, width):
    """Both studies are drawn on one axis, nothing is asked for, and a phone needs no sideways scrolling."""
    page_text = render_comparison([study(trials=3, epochs=3), study(trials=4, epochs=3, name="<b>&")])
    path = write_document(page_text, tmp_path / "comparison.html")
    page, said, asked = open_page(browser, path, viewport={"width": width, "height": 900}, color_scheme="dark")
    assert page.locator("#comparison-overlay .legendtext").all_text_contents() == ["ssim-vs-edge", "<b>&"]
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert said == [] and asked == []
    page.close()


def test_the_index_opens_folds_and_prints(browser, tmp_path):
    """It needs no script; a group's studies unfold."""
    trend = Trend((1.0, 0.5, 0.7), 1, "validation RMSE along w")
    own = Entry("<b>&", "Use it", "finished", "2026-05-04", (3, 3), (9, 9), (64, 64), trend)
    path = write_document(
        render_index([own, Entry("group", "Of 2 claims", "running", "2026-05-05", members=(own,))]),
        tmp_path / "index.html",
    )
    context = browser.new_context(viewport={"width": 390, "height": 844}, java_script_enabled=False)
    page = context.new_page()
    page.goto(path.as_uri())
    assert page.locator("bdi").first.inner_text() == "group"
    inner = page.locator("details .entry")
    assert not inner.is_visible()
    page.click("summary")
    assert inner.is_visible() and page.evaluate("document.documentElement.scrollWidth") <= 390
    context.close()


def test_a_page_that_follows_a_study_keeps_the_readers_place(browser, study, tmp_path, monkeypatch):
    """By its timer it reads itself anew, at the same scroll and address, with what was unfolded; then it says that it is stale."""
    monkeypatch.setattr(live, "RELOAD_S", 1)
    path, now = tmp_path / "report.html", datetime.now(UTC)
    text = render([replace(study(trials=2, epochs=3, name="before"), resolved="[study]\n")])
    write_document(live.following(text, "demo", "sweep report demo --watch", now + timedelta(days=1)), path)
    page = browser.new_page(viewport={"width": 1000, "height": 600})
    page.goto(f"{path.as_uri()}#study-1-runs")
    unfold = "document.querySelectorAll('#study-1-origin details').forEach((each) => (each.open = true))"
    place = f"{unfold}, scrollTo({{ top: 1234, behavior: 'instant' }})"
    until(page, f"({place}, scrollY === 1234 && document.querySelector('#live p')?.offsetParent != null)")
    after = text.replace("<h1>before</h1>", "<h1>after</h1>")
    old = now - timedelta(days=1)
    write_document(live.following(after, "demo", "sweep report demo --watch", old), path)
    until(
        page,
        "document.querySelector('h1')?.textContent === 'after' && scrollY === 1234 && location.hash === '#study-1-runs'",
    )
    until(page, "document.querySelector('#study-1-origin details')?.open")
    until(page, "document.querySelector('#live.stale p:last-child')?.innerText.includes('sweep report demo --watch')")
    page.close()
