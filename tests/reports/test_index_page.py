"""The index of a home."""

import re

from depth_loss_sweep.reports.index_page import Entry, Trend, render_index

TREND = Trend((3.0, 1.0, 2.0), 1, "validation RMSE along w")


def entry(name: str, created: str = "2026-05-04T10:20:30+00:00", **options) -> Entry:
    """A finished study."""
    return Entry(name, f"Use {name}", "finished", created, (10, 10), (28, 30), (64, 96), **options)


def text_of(page: str) -> str:
    """What a reader sees."""
    return " ".join(re.sub(r"<[^>]+>", " ", page.partition("<body>")[2]).split())


def test_studies_stand_by_date_each_with_what_is_known():
    """The latest first; verdict, state, numbers, size and date, and a link where a page lies."""
    pages = [entry("old", "2025-01-01T00:00:00+00:00", trend=TREND), entry("new", page="studies/new/report.html")]
    page = render_index(pages)
    assert page.index("Use new") < page.index("Use old")
    for said in ("10 trials", "28 of 30 runs", "64 × 96", "2025-01-01", "finished"):
        assert said in text_of(page)
    assert '<a href="studies/new/report.html">' in page and page.count("<a href") == 1
    assert page.count("<svg") == 1 and page == render_index(pages[::-1])


def test_a_group_holds_its_studies():
    """They are folded below it, and counted."""
    group = entry("group", members=(entry("first"), entry("second", "2026-06-01T00:00:00+00:00")))
    page = render_index([group, entry("alone")])
    folded = page[page.index("<details>") : page.index("</details>")]
    assert "Use first" in folded and "Use second" in folded and "Use alone" not in folded
    assert folded.index("Use second") < folded.index("Use first")
    assert "3 studies" in text_of(page) and "2 studies" in text_of(page)


def test_it_runs_no_script_and_asks_nobody():
    """Its policy lets none run; an empty home is said to be."""
    page = render_index([])
    assert "<script" not in page and "script-src ;" in page and "sweep start demo" in page


def test_hostile_names_are_text():
    """As they are written."""
    name = "<script>alert('x')</script>\"&🌟שלום"
    page = render_index([entry(name, trend=Trend((1.0, 2.0), None, name), members=(entry(name),))])
    assert "<script" not in page and page.count("&lt;script&gt;") >= 4
