"""`sweep report` in all its forms, of real studies."""

import re
from pathlib import Path

import pytest

from depth_loss_sweep import pages
from depth_loss_sweep.pages import Page
from depth_loss_sweep.reports.page import is_report


@pytest.fixture(scope="module")
def three(new_lab):
    """Two finished lines over the same rooms, and one over others."""
    lab = new_lab()
    for name, more in (
        ("line", ()),
        ("longer", ("--set", "train.epochs=4")),
        ("larger", ("--set", "data.image_size=24")),
    ):
        assert lab.run("start", lab.spec(seeds="[0]"), "--name", name, "--workers", "0", *more) == 0
    return lab


def test_a_home_has_an_index(three, capsys):
    """Every study by its verdict, with a link to its page where one lies, from wherever the index lies."""
    assert three.run("report", "line") == three.run("report", "--all") == 0
    assert capsys.readouterr().out.splitlines()[-1] == str(three.home.index)
    page = three.home.index.read_text()
    assert [page.count(f"<bdi>{name}</bdi>") for name in ("line", "longer", "larger")] == [1, 1, 1]
    assert re.findall(r'<a href="([^"]*)">', page) == ["studies/line/report.html"]
    assert "3 trials" in page and "24 × 24" in page and "Nothing was learnt" in page
    assert three.run("report", "--all", "-o", str(three.folder / "my pages") + "/") == 0
    (link,) = re.findall(r'<a href="([^"]*)">', (three.folder / "my pages" / "index.html").read_text())
    assert (three.folder / "my pages" / link).resolve() == three.home.report("line")


def test_studies_are_shown_side_by_side(three, capsys):
    """In a page of its own, beside each one's: their decisions and the keys of their specs that differ; the same bytes each time."""
    alone = three.home.report("line")
    assert three.run("report", "line") == 0
    before = alone.read_bytes()
    assert three.run("report", "line", "longer") == 0
    path = Path(capsys.readouterr().out.splitlines()[-1])
    assert path == three.home.comparison("line") and alone.read_bytes() == before
    page = path.read_text()
    differing = page[
        page.index('id="comparison-specs"') : page.index("</section>", page.index('id="comparison-specs"'))
    ]
    assert "train.epochs" in differing and differing.count("<tr>") == 2
    assert three.run("report", "line", "longer") == 0 and path.read_text() == page


def test_other_pictures_are_refused_side_by_side(three, capsys):
    """One line, exit 2, and no file."""
    path = three.folder / "other.html"
    assert three.run("report", "line", "larger", "-o", str(path)) == 2
    assert "of other pictures" in capsys.readouterr().err and not path.exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "or --all"),
        (["line", "--all"], "or --all"),
        (["line", "longer", "--slides"], "--slides is for one study or group"),
        (["--all", "--slides"], "--slides is for one study or group"),
        (["nobody", "--slides"], "no study is called 'nobody'"),
    ],
)
def test_what_no_page_is_of_is_refused(three, capsys, arguments, words):
    """In one line."""
    assert three.run("report", *arguments) == 2
    assert words in capsys.readouterr().err


def test_a_study_has_slides(three, capsys):
    """Beside its page, of which they take nothing away; `sweep delete` takes all of its pages."""
    assert three.run("report", "longer", "--slides") == three.run("report", "longer", "line") == 0
    slides = three.home.slides("longer")
    assert is_report(slides) and slides.read_text().count('<section class="slide') >= 6
    first = slides.read_bytes()
    assert three.run("report", "longer", "--slides") == 0 and slides.read_bytes() == first
    assert three.run("start", three.spec(seeds="[0]"), "--name", "short-lived", "--workers", "0") == 0
    assert three.run("report", "short-lived", "--slides") == three.run("report", "short-lived", "line") == 0
    assert three.run("delete", "short-lived", "--yes") == 0
    assert not any(path.exists() for path in three.home.pages("short-lived"))


def followed(lab, *names):
    """A page of these studies, at its usual place."""
    page = Page(lab.store, lab.home, names)
    return page, page.usual_place


def test_a_page_follows_a_study_until_it_ends(lab, monkeypatch):
    """It reloads itself meanwhile, and in the end is what a page is that follows nothing, to the byte."""
    monkeypatch.setattr(pages, "LOOK_S", 0.1)
    process = lab.spawn("start", lab.spec(epochs="12"), "--workers", "1")
    lab.wait_for_epochs(1, process)
    page, path = followed(lab, "line")
    seen = []
    page.follow(path, lambda: seen.append(path.read_text()))
    process.communicate()
    assert len(seen) == 1 and 'id="live"' in seen[0] and "Following <b>line</b>" in seen[0]
    assert path.read_text() == Page(lab.store, lab.home, ("line",)).render(path) and 'id="live"' not in path.read_text()


def test_what_is_interrupted_is_said_to_be(lab, monkeypatch):
    """Whoever trained was killed: the page has no timer any more, and names the command that goes on."""
    monkeypatch.setattr(pages, "LOOK_S", 0.1)
    process = lab.spawn("start", lab.spec(epochs="500"), "--workers", "0")
    lab.wait_for_epochs(1, process)
    page, path = followed(lab, "line")

    def end() -> None:
        process.kill()
        process.communicate()

    page.follow(path, end)
    text = path.read_text()
    assert "is no longer followed" in text and "sweep resume line" in text and "Following" not in text
    assert is_report(path)


def test_ctrl_c_leaves_a_page_that_says_so(lab):
    """`--watch` ends with 130, and the page that it leaves reloads itself no more."""
    process = lab.spawn("start", lab.spec(epochs="20000"), "--workers", "0")
    lab.wait_for_epochs(1, process)
    watcher = lab.spawn("report", "line", "--watch")
    assert watcher.stdout is not None
    assert watcher.stdout.readline().strip() == str(lab.home.report("line"))
    assert "Following <b>line</b>" in lab.home.report("line").read_text()
    watcher.send_signal(2)
    assert "interrupted" in watcher.communicate()[1] and watcher.returncode == 130
    text = lab.home.report("line").read_text()
    assert "is no longer followed" in text and "sweep report line --watch" in text
    process.kill()
    process.communicate()


def test_nothing_is_followed_where_nobody_is_at_work(three, capsys):
    """The page is written once, and that is said."""
    assert three.run("report", "line", "--watch") == 0
    captured = capsys.readouterr()
    assert captured.out.strip() == str(three.home.report("line")) and "nothing to follow" in captured.err
    assert 'id="live"' not in three.home.report("line").read_text()
