"""A page that follows a study, as text; in a browser it is tested beside the others."""

import re
from datetime import UTC, datetime

from depth_loss_sweep.reports.index_page import render_index
from depth_loss_sweep.reports.live import following, stopped
from depth_loss_sweep.reports.page import is_report, render, script_source

NOON = datetime(2026, 5, 4, 12, tzinfo=UTC)


def test_what_follows_is_added_and_nothing_else_changes(study):
    """Its script is allowed by the policy, its note says when; without both it is the page that follows nothing."""
    page = render([study(trials=2)])
    live = following(page, "demo", "sweep report demo --watch", NOON)
    (note,) = re.findall(r"<aside id=\"live\".*?</style>\n<script>.*?</script>\n", live, flags=re.S)
    script = note.partition("<script>")[2].removesuffix("</script>\n")
    assert live.count(script_source(script)) == 1
    assert live.replace(note, "").replace(f"{script_source(script)} ", "") == page
    assert "2026-05-04 12:00:00 UTC" in note and "sweep report demo --watch" in note
    assert 'id="live"' not in page and "setInterval" not in page.rpartition("<script>")[2]


def test_a_page_without_scripts_follows_too():
    """The index has none of its own."""
    live = following(render_index([]), "all studies", "sweep report --all --watch", NOON)
    assert re.search(r"script-src 'sha256-[^']+' ;", live) and live.count("<script>") == 1


def test_a_page_that_is_no_longer_followed_says_so(study, tmp_path):
    """It has no timer, and says what goes on; names are text; it is ours, so that it may be written again."""
    page = stopped(render([study(trials=2)]), "<b>", "sweep resume <b>", NOON)
    assert "no longer followed" in page and "sweep resume &lt;b&gt;" in page and "data-reload" in page
    assert page.count("<script>") == render([study(trials=2)]).count("<script>")
    path = tmp_path / "report.html"
    path.write_text(page)
    assert is_report(path)
