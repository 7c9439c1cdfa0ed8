"""The slider of predictions in a real browser, where there is one."""

from dataclasses import replace

import numpy as np
import pytest

from depth_loss_sweep.reports.page import render, write_document
from tests.reports import test_browser
from tests.reports.test_browser_pages import until

pytestmark = test_browser.pytestmark
browser = test_browser.browser

SHOWN = "document.querySelector('#study-1-slider input').getAttribute('aria-valuetext')"
COLOUR = """([map, x, y]) => {
  const copy = new OffscreenCanvas(64, 64).getContext("2d", { willReadFrequently: true });
  copy.drawImage(document.querySelector(`canvas[data-map=${map}]`), 0, 0);
  return [...copy.getImageData(x, y, 1, 1).data.slice(0, 3)];
}"""


@pytest.fixture
def page(browser, study, tmp_path):
    """A study of three weights, the last of which predicts 1 m too far everywhere, and what the page said and asked for."""
    record = study(trials=3, epochs=2, panels=2)
    last = [run for run, trial in zip(record.runs["run"], record.runs["trial"], strict=True) if trial == 2]
    moved = {
        run: replace(own, prediction=own.truth + np.float32(1)) for run, own in record.panels.items() if run in last
    }
    path = write_document(render([replace(record, panels=record.panels | moved)]), tmp_path / "report.html")
    opened = browser.new_page(viewport={"width": 1000, "height": 800}, reduced_motion="no-preference")
    opened.set_default_timeout(0)
    said = []
    opened.on("console", lambda message: said.append(message.text))
    opened.on("pageerror", lambda error: said.append(str(error)))
    opened.goto(path.as_uri())
    opened.locator("#study-1-slider").scroll_into_view_if_needed()
    until(opened, SHOWN)
    yield opened
    assert said == []
    opened.close()


def test_keys_move_along_the_weights(page):
    """It opens at the named trial; an arrow key shows the next one, its error in the colour of 1 m too far, and reads 1 m there."""
    assert page.evaluate(SHOWN).startswith("trial 1, w = 0.45")
    page.focus("#study-1-slider input")
    page.keyboard.press("ArrowRight")
    until(page, f"{SHOWN}.startsWith('trial 2, w = 0.9')")
    assert page.evaluate(SHOWN).endswith("RMSE 1.00 m")
    red, green, blue = page.evaluate(COLOUR, ["error", 5, 60])
    assert red > green and red > blue
    assert page.evaluate(COLOUR, ["error", 32, 12]) == [128, 128, 128]  # a hole of the truth
    page.focus("#study-1-slider canvas[tabindex]")
    for key in ("ArrowRight", "ArrowDown"):
        page.keyboard.press(key)
    until(page, "document.querySelector('.slider .here').textContent.includes('1.00 m too far')")


def test_the_pointer_reads_and_menus_choose(page):
    """Under the pointer stands the prediction; seeds and pictures are switched; a bar goes to its trial; a trial's card has its maps."""
    page.hover("#study-1-slider canvas[data-map=truth]")
    until(page, "document.querySelector('.slider .here').textContent.startsWith('Here: truth')")
    page.select_option("#study-1-slider select[name=view]", "2")
    until(page, f"{SHOWN}.includes('seed 2')")
    before = page.get_attribute("#study-1-slider .photo", "src")
    page.select_option("#study-1-slider select[name=picture]", "1")
    until(page, f"document.querySelector('#study-1-slider .photo').src !== '{before}'")
    page.click("[data-stop='2']")
    until(page, f"{SHOWN}.startsWith('trial 2')")
    assert page.evaluate("location.hash") == "#trial=2"
    page.focus("#study-1-slider input")
    page.keyboard.press("ArrowLeft")
    until(page, "location.hash === '#trial=1'")
    page.evaluate("document.activeElement.blur()")
    page.evaluate("location.hash = '#trial=0'")
    until(page, f"{SHOWN}.startsWith('trial 0')")
    until(page, "document.querySelectorAll('aside.trial .maps figure').length === 4")
    until(page, "document.querySelectorAll('aside.trial .maps small')[2].textContent.startsWith('w = 0, seed 2')")
    page.keyboard.press("ArrowRight")
    until(page, "document.querySelectorAll('aside.trial .maps small')[2]?.textContent.startsWith('w = 0.9, seed 2')")


def test_it_plays_unless_motion_is_unwelcome(page):
    """Playing goes on by itself, and stops; who asks for less motion isn't offered it."""
    page.click(".slider .play")
    until(page, f"{SHOWN}.startsWith('trial 2')")
    until(page, f"{SHOWN}.startsWith('trial 0')")
    page.click(".slider .play")
    assert page.get_attribute(".slider .play", "aria-pressed") == "false"
    page.emulate_media(reduced_motion="reduce")
    assert not page.locator(".slider .play").is_visible()
