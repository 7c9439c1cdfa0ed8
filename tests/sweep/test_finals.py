"""Searches whose best are raced: under seeds that the search never saw, beside it, before the winner is confirmed."""

import io
import json
import os
import signal
from contextlib import closing

import pytest
from rich.console import Console
from sqlalchemy import update

from depth_loss_sweep.api import Study
from depth_loss_sweep.display import ProgressDisplay
from depth_loss_sweep.errors import SpecError, StudyError
from depth_loss_sweep.executors import make_executor
from depth_loss_sweep.paths import CONFIRMED, RACED
from depth_loss_sweep.reports.stages import STAGES
from depth_loss_sweep.session import Session
from depth_loss_sweep.spec_file import load_spec, parse_spec
from depth_loss_sweep.study import start
from depth_loss_sweep.tables import STUDY

from .conftest import KILLED_UNDER, KILLS, Lab
from .test_race import raced_through

"""Of each number of workers."""

SEARCH = """
[study]
name = "search"
seeds = [0]
confirm = 2
margin = 0.00001
[data]
image_size = 16
rooms = 12
[model]
width = 2
[train]
epochs = 4
batch_size = 8
schedule = "constant"
[search]
sampler = "random"
trials = 7
parallel = 3
race = true
stages = [3, 4, 5]
"train.learning_rate" = { low = 5e-3, high = 4e-2, log = true }
[weights]
silog = 0.5
ssim = 0.5
"""
STUDIES = ("search", "search" + RACED, "search" + CONFIRMED)


def shown(lab: Lab, capsys, *arguments: str) -> dict:
    """What a command prints as JSON, but for what it took: that differs from one time to the next."""
    capsys.readouterr()
    assert lab.run(*arguments, "--json") == 0
    return {key: value for key, value in json.loads(capsys.readouterr().out).items() if key != "cost"}


def begun(lab: Lab, workers: str = "0") -> str:
    """Begin the search, kill it at its first epoch, and make it one in which something is learnt; returns its spec."""
    spec = lab.spec(SEARCH)
    process = lab.spawn("start", spec, "--workers", workers)
    lab.wait_for_epochs(1, process)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    lab.make_learnt("search")
    return spec


@pytest.fixture(scope="module")
def raced(new_lab) -> Lab:
    """A home with a search whose best were raced and whose winner was confirmed."""
    lab = new_lab()
    begun(lab)
    assert lab.run("resume", "search", "--workers", "0") == 0
    return lab


def test_a_search_says_what_would_decide_until_its_best_were_raced(lab, capsys) -> None:
    """What it takes is said before; where nothing was learnt there is nothing to race; nothing is confirmed before."""
    spec, console = begun(lab), Console(file=io.StringIO(), width=1000)
    with closing(make_executor("local", 0)) as executor, ProgressDisplay(console) as show:
        session = Session(lab.home, None, 0, "auto", executor, "", show, lambda: False)
        assert start(load_spec(spec), {}, session).finished  # the search alone
    said = console.file.getvalue()
    assert "search: racing its best takes 15 to 25 runs more (5 trials, 3 to 5 fresh seeds)" in said
    before = shown(lab, capsys, "best", "search")
    assert before["state"] == "undecided" and before["headline"].startswith("Undecided until its best are raced")
    assert before["race"]["began"] == 5 and before["kept"] == before["race"]["alive"] and before["bound"] is None
    assert lab.run("confirm", "search", "--workers", "0") == 2
    assert "to be raced before the winner is confirmed: sweep resume search" in capsys.readouterr().err
    with lab.store.begin() as connection:
        connection.execute(update(STUDY).values(baselines=json.dumps({"val": {"median": {"metric_rmse": 0.0}}})))
    assert lab.run("resume", "search", "--workers", "0") == 0
    assert "search: there is nothing to race" in capsys.readouterr().err
    assert [row["name"] for row in lab.store.studies()] == ["search"]


def test_the_race_decides_and_its_winner_is_confirmed(raced, capsys) -> None:
    """One voice, by the search's numbers of trials; seeds from 20,000, which neither the search nor confirming uses."""
    best = shown(raced, capsys, "best", "search")
    assert best["is_confirmed"] and not best["is_search"] and best["race"]["next_seeds"] is None
    seeds = {ending: {row["seed"] for row in raced.store.runs("search" + ending)} for ending in ("", RACED, CONFIRMED)}
    assert seeds[""] == {0} and seeds[CONFIRMED] == {10_000, 10_001} and min(seeds[RACED]) == 20_000
    assert {*best["seeds"]} <= seeds[RACED] and best["bound"] is not None
    of_search = {row["trial"] for row in raced.store.runs("search")}
    assert {best["trial"], *best["kept"], *best["compared"]} <= of_search and len(best["compared"]) == 5
    assert set(best["left"].values()) == {"not among the best that were raced"} and len(best["left"]) == 2
    status = shown(raced, capsys, "status", "search")
    assert status["decision"] == {key: best[key] for key in ("state", "trial", "kept", "bound")}
    assert status["headline"] == best["headline"] and "raced: stage" in best["headline"]
    confirmed = best["confirmation"]
    winner = next(row for row in confirmed["rows"] if "winner" in row["candidate"]["roles"])
    assert confirmed["state"] == "finished" and winner["candidate"]["trial"] == best["trial"]
    assert confirmed["is_current"] and confirmed["part"] == "test"


@pytest.mark.parametrize("ending", [RACED, CONFIRMED])
def test_what_stands_beside_a_study_is_asked_for_by_the_studys_name(raced, capsys, ending: str) -> None:
    """In one line, that can be pasted; its numbers can be looked at under its own name, too."""
    name, end = "search" + ending, f" search --home {raced.home.root}\n"
    for verb, *more in (
        ("report",),
        ("report", "--slides"),
        ("report", "search"),
        ("best",),
        ("copy", "--to", str(raced.folder / "beside.db")),
        ("copy", "--to", str(raced.folder / "beside.db"), "--name", "other"),
        ("resume", "--workers", "0"),
        ("confirm", "--workers", "0"),
    ):
        capsys.readouterr()
        assert raced.run(verb, name, *more) == 2, (verb, more)
        out, error = capsys.readouterr()
        assert not out and error.startswith(f"sweep: {name!r} stands beside the study 'search'"), (verb, error)
        assert error.endswith(f": sweep {verb}{end}"), error
    assert not (raced.folder / "beside.db").exists()
    for command in (("status", name), ("export", name)):
        assert raced.run(*command) == 0
    for made in (lambda study: study.best, Study.report, Study.run, Study.confirm):
        with pytest.raises(StudyError, match="stands beside the study 'search'"):
            made(Study(name, home=raced.home.root))


def test_the_page_and_the_export_show_the_race(raced, capsys, tmp_path) -> None:
    """A table of the best under fresh seeds, and why the search's own numbers are no result; the race is not listed by itself."""
    assert raced.run("report", "search") == 0
    page = raced.home.report("search").read_text(encoding="utf-8")
    assert "study-1-raced" in page and "winner's curse" in page.replace("&#39;", "'")
    assert raced.run("export", "search", "--table", "raced", "-o", str(tmp_path / "r.csv")) == 0
    rows = (tmp_path / "r.csv").read_text().splitlines()
    assert len(rows) == 1 + len(raced.store.runs("search" + RACED)) and "test_" not in rows[0]
    capsys.readouterr()
    assert raced.run("list") == 0 and RACED not in capsys.readouterr().out
    assert raced.run("export", "search", "--format", "json") == 0
    exported = json.loads(capsys.readouterr().out)
    assert exported["decision"]["headline"] == shown(raced, capsys, "best", "search")["headline"]


def test_a_copy_takes_the_race_along_and_delete_removes_it(raced, new_lab, capsys) -> None:
    """Under another name, by way of text, with the same answer; what is deleted is gone whole."""
    target, text = new_lab(), str(raced.folder / "text")
    assert raced.run("copy", "search", "--to", text) == 0
    assert target.run("copy", "search", "--from", text, "--name", "other") == 0
    there, here = shown(target, capsys, "best", "other"), shown(raced, capsys, "best", "search")
    assert there == here and target.run("doctor") == 0
    assert target.run("delete", "other", "--yes") == 0
    assert target.store.studies() == []


def test_a_search_that_grows_races_its_new_best(raced, new_lab, capsys) -> None:
    """What was raced before is found done; the look before shares the level, and that is said."""
    lab = new_lab()
    assert lab.run("copy", "search", "--from", str(raced.home.root)) == 0
    before = {row["run"]: row["finished"] for row in lab.store.runs("search" + RACED)}
    old = shown(lab, capsys, "best", "search")
    assert lab.run("start", lab.spec(SEARCH, trials="12"), "--workers", "0") == 0
    new, after = (
        shown(lab, capsys, "best", "search"),
        {r["run"]: r["finished"] for r in lab.store.runs("search" + RACED)},
    )
    assert {*new["compared"]} != {*old["compared"]} and {*new["compared"]} & {*old["compared"]}
    assert new["looks"] == 2 and new["gate_level"] == pytest.approx(old["gate_level"] / 2)
    assert {*before} & {*after} and all(after[run] == before[run] for run in {*before} & {*after})
    assert lab.run("best", "search") == 0
    assert "with others of the search: 2 looks share the 5" in capsys.readouterr().out
    assert lab.run("start", lab.spec(SEARCH, trials="12", margin="0.1"), "--workers", "0") == 2
    assert "decided by another margin" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_a_raced_search_ends_the_same_whatever_is_killed(new_lab, capsys) -> None:
    """Search, race and confirmation under one worker and three, killed again and again: the same numbers and answer."""
    alone = new_lab()
    begun(alone)
    assert alone.run("resume", "search", "--workers", "0") == 0
    answer = shown(alone, capsys, "best", "search")
    for workers in KILLED_UNDER:
        kills = 0
        while kills < KILLS:  # a busy machine trains more between two kills, so that one search may have room for fewer
            other = new_lab()
            spec = begun(other, workers)
            kills += raced_through(other, spec, workers, KILLS - kills)
            assert [other.numbers(name) for name in STUDIES] == [alone.numbers(name) for name in STUDIES]
            assert shown(other, capsys, "best", "search") == answer


def test_a_raced_search_needs_room_for_the_names_beside_it() -> None:
    """Refused before anything is trained, not when the race begins; and so is a study that is to be confirmed."""
    text = SEARCH.replace('name = "search"', f'name = "{"s" * 95}"')
    unraced = {"search.race": False, "search.stages": list(STAGES)}
    for changes in ({}, unraced):
        with pytest.raises(SpecError, match="too long for a search that ends in a race, or a study that is confirmed"):
            parse_spec(text, changes)
    assert parse_spec(text, unraced, stored=True).study.confirm == 2
    assert parse_spec(text, {**unraced, "study.confirm": 0}).is_search
