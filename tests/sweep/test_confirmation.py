"""`sweep confirm`: the winner under fresh seeds, beside what it is held against, on the test pictures."""

import json
import os
import re
import signal
import sqlite3
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from sqlalchemy import func, select, update

from depth_loss_sweep.api import Study
from depth_loss_sweep.errors import SpecError, StudyError
from depth_loss_sweep.model.checkpoint import CHECKPOINT
from depth_loss_sweep.results import epoch_frame
from depth_loss_sweep.spec_file import parse_spec
from depth_loss_sweep.tables import PER_IMAGE, RUN, STUDY, TRIAL_RUN

from .conftest import Lab

QUICK = {"rooms": "20", "width": "1", "epochs": "1", "seeds": "[0, 1, 2]", "w": "[0.3, 0.6]"}
CONFIRMED = "line+confirmed"
FAR_WORSE = {"val": {"median": {"metric_rmse": 99.0}}}
ASKED = {"trial 0", "trial 1", "equal", "silog", "ssim", "l1", "bts", "depth-anything-v2-metric"}


def begin(lab: Lab, **replacements: str) -> Lab:
    """Train a small study whose networks count as learnt."""
    assert lab.run("start", lab.spec(**{**QUICK, **replacements}), "--workers", "0") == 0
    return made_learnt(lab)


def made_learnt(lab: Lab) -> Lab:
    """As if no run had ended flat, and all had beaten the trivial predictors."""
    lab.make_learnt()
    with lab.store.begin() as connection:
        connection.execute(update(RUN).where(RUN.c.outcome.is_not(None)).values(outcome="learnt"))
    return lab


def shown(lab: Lab, capsys, *arguments: str) -> dict:
    """What a command prints as JSON."""
    capsys.readouterr()
    assert lab.run(*arguments, "--json") == 0
    return json.loads(capsys.readouterr().out)


@pytest.fixture(scope="module")
def confirmed(new_lab) -> Lab:
    """A home with a study that was confirmed under two fresh seeds."""
    lab = begin(new_lab())
    assert lab.run("confirm", "line", "--seeds", "2", "--workers", "0") == 0
    return made_learnt(lab)


def test_the_winner_is_held_against_equal_weights_single_terms_and_reference_points(confirmed, capsys) -> None:
    """Fresh seeds from 10,000, the test pictures' numbers, each weighting once; the winner alone is quoted."""
    found = shown(confirmed, capsys, "confirm", "line")
    assert found["state"] == "finished" and found["part"] == "test" and found["images"] > 0
    names = {row["candidate"]["name"] for row in found["rows"]}
    assert names <= ASKED and ASKED - names <= {"trial 0", "trial 1"}
    winner = next(row for row in found["rows"] if "winner" in row["candidate"]["roles"])
    assert found["quoted"] == winner["candidate"]["name"] and winner["gain"]["pairs"] == 2
    assert winner["low"] < winner["mean"] < winner["high"]
    equal = next(row for row in found["rows"] if row["candidate"]["name"] == "equal")
    assert equal["gain"] is None and equal["candidate"]["weights"] == {"silog": 1, "ssim": 1, "l1": 1}
    assert winner["gain"]["mean"] == pytest.approx(equal["mean"] - winner["mean"])
    with confirmed.store.engine.connect() as connection:
        seeds = connection.scalars(select(TRIAL_RUN.c.seed).where(TRIAL_RUN.c.study == CONFIRMED).distinct()).all()
        judged = connection.scalar(select(func.count()).select_from(PER_IMAGE).where(PER_IMAGE.c.split == "test"))
    assert sorted(seeds) == [10_000, 10_001] and judged


def test_status_best_page_and_export_say_the_same(confirmed, capsys, tmp_path) -> None:
    """One sentence, from one function, values with their unit; the confirming study itself is not listed."""
    found = shown(confirmed, capsys, "confirm", "line")
    said = found["confirmed"]
    assert "better than equal weights" in said or "no difference from equal weights" in said or "worse" in said
    assert shown(confirmed, capsys, "status", "line")["confirmed"] == said
    assert shown(confirmed, capsys, "best", "line")["confirmation"]["quoted"]
    for command in ("status", "best"):
        assert confirmed.run(command, "line") == 0
        out = capsys.readouterr().out
        assert said in out and re.search(r"trial [01], [a-z ,]+: val_rmse [0-9.]+\xa0m\b", out)
    assert confirmed.run("report", "line") == 0
    page = confirmed.home.report("line").read_text(encoding="utf-8")
    assert "What may be quoted?" in page and "study-1-confirmed" in page
    assert confirmed.run("list") == 0 and CONFIRMED not in capsys.readouterr().out
    assert confirmed.run("export", "line", "--table", "confirmed", "-o", str(tmp_path / "c.csv")) == 0
    rows = (tmp_path / "c.csv").read_text().splitlines()
    assert "test_metric_rmse" in rows[0] and len(rows) == 1 + 2 * len(found["rows"])
    assert not any(row["split"] == "test" for row in shown_export(confirmed, capsys)["epochs"])


def test_readings_of_the_test_pictures_are_counted(confirmed, capsys) -> None:
    """By confirm and evaluate alike, an interrupted or repeated confirmation once; the next reader is told."""
    model = str(confirmed.folder / "m.npz")
    assert confirmed.run("best", "line", "--checkpoint", model, "--force") == 0
    rooms = ("--data", "rooms", "--set", "data.rooms=20", "--set", "data.image_size=16")
    assert shown(confirmed, capsys, "confirm", "line")["read_before"] == 0
    for part, before in (("val", None), ("test", 1), ("all", 2)):
        assert shown(confirmed, capsys, "evaluate", model, *rooms, "--part", part)["read_before"] == before
    assert shown(confirmed, capsys, "confirm", "line")["read_before"] == 0


def test_a_copy_takes_the_confirmation_along_and_delete_removes_it(confirmed, new_lab, capsys) -> None:
    """Under another name, by way of text, with all its numbers; what is deleted is gone whole."""
    target, text = new_lab(), str(confirmed.folder / "text")
    assert confirmed.run("copy", "line", "--to", text) == 0
    assert confirmed.run("copy", "line", "--to", text) == 0
    assert target.run("copy", "line", "--from", text, "--name", "other") == 0
    there, here = (shown(lab, capsys, "confirm", name) for lab, name in ((target, "other"), (confirmed, "line")))
    assert there.pop("cost")["elsewhere"] == here.pop("cost")["runs"]  # where it is copied to, nothing was trained
    assert {**there, "study": "line"} == here
    assert target.run("doctor") == 0
    assert target.run("delete", "other", "--yes") == 0
    assert target.store.studies() == []
    with target.store.engine.connect() as connection:
        assert not connection.scalar(select(func.count()).select_from(RUN))


def test_a_study_grown_by_seeds_keeps_its_confirmation_while_its_winner_stays(confirmed, new_lab, capsys) -> None:
    """With another winner, here that of more epochs, what was confirmed is said to be an earlier one."""
    lab = new_lab()
    assert lab.run("copy", "line", "--from", str(confirmed.home.root)) == 0
    assert lab.run("start", lab.spec(**{**QUICK, "epochs": "2"}), "--workers", "0") == 0
    made_learnt(lab)
    found = shown(lab, capsys, "status", "line")
    assert not found["confirmation"]["is_current"] and found["confirmation"]["quoted"] is None
    assert "earlier winner" in found["confirmed"]
    with lab.store.begin() as connection:  # as if it had been interrupted
        connection.execute(update(STUDY).where(STUDY.c.name == CONFIRMED).values(state="interrupted"))
    capsys.readouterr()
    assert lab.run("resume", "line", "--workers", "0") == 0
    place = f" --home {lab.home.root}\n"
    assert (
        f"what was being confirmed is an earlier winner; for the new one: sweep confirm line{place}"
        in capsys.readouterr().err
    )
    assert lab.run("doctor") == 0
    assert f"study {CONFIRMED}: not finished; go on with: sweep resume line{place}" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["line", CONFIRMED])
def test_what_cannot_be_confirmed_is_refused_in_a_line(lab, capsys, name: str) -> None:
    """A study that has learnt nothing, and a confirmation itself: exit code 2, and nothing is made."""
    assert lab.run("start", lab.spec(**{**QUICK, "w": "[0.3]", "seeds": "[0]"}), "--workers", "0") == 0
    capsys.readouterr()
    assert lab.run("confirm", name, "--workers", "0") == 2
    assert len(capsys.readouterr().err.splitlines()) == 1
    assert [row["name"] for row in lab.store.studies()] == ["line"]


@pytest.mark.parametrize("kind", ["grid", "race", "search"])
def test_an_unfinished_study_is_refused(lab, capsys, monkeypatch, kind: str) -> None:
    """Grid, race or search: another winner may come, and the test pictures would be read for each; a line says how to go on."""
    more = {"race": "race = true\nstages = [3, 4]", "search": 'sampler = "random"\ntrials = 2'}.get(kind, "")
    swept = {"w": "{ low = 0.3, high = 0.6 }"} if kind == "search" else {}
    spec = lab.spec(lab.LINE.replace("[search]", f"[search]\n{more}"), **{**QUICK, **swept})
    monkeypatch.setattr(
        "depth_loss_sweep.cli.work.time", SimpleNamespace(monotonic=lambda: 1e9 * (lab.epochs_done() > 6))
    )
    assert lab.run("start", spec, "--workers", "0", "--budget", "2h") == 130
    made_learnt(lab)
    capsys.readouterr()
    assert lab.run("confirm", "line", "--seeds", "2", "--workers", "0") == 2
    error = capsys.readouterr().err
    assert "'line' is unfinished" in error and error.endswith(f": sweep resume line --home {lab.home.root}\n")
    assert [row["name"] for row in lab.store.studies()] == ["line"]


def test_failed_confirming_runs_are_told_by_the_studys_own_name(lab, capsys, monkeypatch) -> None:
    """As the closing line says, where and why; from Python, confirm raises as run does."""
    begin(lab)

    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("out of luck")

    with monkeypatch.context() as patch:
        patch.setattr("depth_loss_sweep.model.training.train", fail)
        assert lab.run("confirm", "line", "--seeds", "2", "--workers", "0") == 1
        assert "14 runs failed; see: sweep status line" in capsys.readouterr().err
        with pytest.raises(StudyError, match=r"14 runs of 'line' failed by an error: see .*'line\+confirmed'"):
            Study("line", home=lab.home.root).confirm(workers=0)
    capsys.readouterr()
    assert lab.run("status", "line") == 0
    out = capsys.readouterr().out
    assert re.search(r"  failed    line\+confirmed trial 0 seed 10000 \(.*\): .*out of luck\n", out), out
    assert "... and 9 more (all: --json)" in out
    (beside,) = shown(lab, capsys, "status", "line")["beside"]
    assert beside["name"] == CONFIRMED and beside["runs"] == {"failed": 14} and len(beside["failed"]) == 14


def test_what_is_confirmed_is_said_before_it_begins(lab, capsys) -> None:
    """Who, beside how many, and that one seed chose it; nothing where all is trained."""
    begin(lab, seeds="[0]")
    for errors in (
        r"line: trial [01] \(.*\) and [67] others are trained under 2 fresh seeds; it was chosen under 1 seed, an ane",
        "",
    ):
        capsys.readouterr()
        assert lab.run("confirm", "line", "--seeds", "2", "--workers", "0") == 0
        said = capsys.readouterr().err
        assert re.search(errors, said) if errors else not said
        made_learnt(lab)


@pytest.mark.parametrize("command", [("confirm", "line", "--seeds", "2"), ("resume", "line")])
def test_a_killed_confirmation_ends_as_one_left_alone(confirmed, new_lab, command: tuple[str, ...]) -> None:
    """SIGKILL in the midst of it, then the same command: bit for bit the numbers of an undisturbed one, those on test, too."""
    lab = new_lab()
    process = lab.spawn("start", asking_to_confirm(lab), "--workers", "1")
    process.communicate()
    with (
        closing(sqlite3.connect(lab.home.database)) as connection,
        connection,
    ):  # nothing of ours stays open here meanwhile
        connection.execute("UPDATE sweep_study SET baselines = ?", [json.dumps(FAR_WORSE)])
        connection.execute("UPDATE sweep_run SET outcome = 'learnt'")
    before = lab.epochs_done()
    process = lab.spawn(*command, "--workers", "1")
    lab.wait_for_epochs(before + 5, process)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    assert lab.run(*command, "--workers", "0") == 0
    assert numbers_on_test(lab) == numbers_on_test(confirmed)


@pytest.mark.parametrize("command", ["start", "resume"])
def test_a_budget_may_end_while_confirming(confirmed, lab, capsys, monkeypatch, command: str) -> None:
    """Exit 130 with the reason and how to go on; resume then goes on with what was being confirmed, as if undisturbed."""
    spec = asking_to_confirm(lab)
    assert lab.run("start", spec, "--workers", "0") == 0
    made_learnt(lab)
    enough = lab.epochs_done() + 8
    monkeypatch.setattr(
        "depth_loss_sweep.cli.work.time", SimpleNamespace(monotonic=lambda: 1e9 * (lab.epochs_done() >= enough))
    )
    capsys.readouterr()
    assert lab.run(command, spec if command == "start" else "line", "--workers", "0", "--budget", "2h") == 130
    out, errors = capsys.readouterr()
    assert errors.splitlines()[-1].startswith("the budget of 2h is spent; go on with: sweep resume line --home ")
    assert not out
    assert shown(lab, capsys, "status", "line")["confirmed"].startswith("Being confirmed: ")
    assert lab.run("resume", "line", "--workers", "0") == 0
    assert "under 2 fresh seeds" in capsys.readouterr().out
    assert numbers_on_test(lab) == numbers_on_test(confirmed)


def asking_to_confirm(lab: Lab, **replacements: str) -> str:
    """The small study's spec, confirming its winner by itself."""
    return lab.spec(lab.LINE.replace('name = "line"', 'name = "line"\nconfirm = 2'), **{**QUICK, **replacements})


@pytest.mark.parametrize("gone", ["none", "by hand"])
def test_a_finished_run_without_a_checkpoint_is_trained_again_for_test(confirmed, new_lab, capsys, gone: str) -> None:
    """Another study's, under the fresh seeds: that is said, its own numbers stay, and those on test are as ever."""
    lab = begin(new_lab())
    other = lab.spec(**{**QUICK, "seeds": "[10_000, 10_001]"})
    keep = "none" if gone == "none" else "last"
    assert lab.run("start", other, "--name", "other", "--set", f"train.keep={keep}", "--workers", "0") == 0
    for folder in (lab.home.run(row["run"]) for row in lab.store.runs("other") if gone == "by hand"):
        (folder / CHECKPOINT).unlink()
    made_learnt(lab)
    before = lab.numbers("other")
    capsys.readouterr()
    assert lab.run("confirm", "line", "--seeds", "2", "--workers", "0") == 0
    errors = capsys.readouterr().err
    assert errors.count("no checkpoint was kept: they are trained again for the test pictures") == 1
    assert "done already" not in errors
    assert lab.numbers("other") == before and numbers_on_test(lab) == numbers_on_test(confirmed)


def numbers_on_test(lab: Lab) -> str:
    """The confirming runs' numbers on the test pictures, to the last bit."""
    frame = epoch_frame(lab.store, CONFIRMED, ("test",))
    numbers = frame[[c for c in frame if c == "run" or c.startswith(("metric_", "term_"))]]
    return numbers.sort_values("run").to_csv(index=False, float_format="%.17g")


def test_start_confirms_by_itself_where_the_spec_says_so(lab, capsys) -> None:
    """[study] confirm = 2, with what it takes said before; without a trial to name that is said, and nothing else is done."""
    assert lab.run("start", asking_to_confirm(lab, seeds="[0]"), "--workers", "0") == 0
    error = capsys.readouterr().err
    assert "16 runs more (8 weightings x 2 fresh seeds)" in error and "nothing to confirm" in error
    made_learnt(lab)
    assert lab.run("resume", "line", "--workers", "0") == 0
    assert "under 2 fresh seeds" in capsys.readouterr().out


def test_one_fresh_seed_confirms_nothing() -> None:
    """A level without an interval is no result."""
    with pytest.raises(SpecError, match="at least 2 fresh seeds"):
        parse_spec("[study]\nconfirm = 1\n[weights]\nl1 = 1\n", {"study.name": "s"})


def test_a_search_is_settled_by_its_confirmed_best(lab, capsys) -> None:
    """Undecided in its own numbers; then the five that were confirmed decide, under fresh seeds."""
    text = lab.SEARCH.replace("trials = 14", "trials = 6").replace("rooms = 12", "rooms = 20")
    assert lab.run("start", lab.spec(text, width="1", epochs="1", seeds="[0, 1, 2]"), "--workers", "0") == 0
    lab.make_learnt("search")
    made_learnt(lab)
    before = shown(lab, capsys, "best", "search")
    assert before["state"] == "undecided" and before["is_search"]
    assert lab.run("confirm", "search", "--seeds", "3", "--workers", "0") == 0
    made_learnt(lab)
    after = shown(lab, capsys, "best", "search")
    assert after["is_confirmed"] and not after["is_search"] and len(after["compared"]) == 5
    assert after["seeds"] == [10_000, 10_001, 10_002] and after["bound"] is not None
    quoted = next(r for r in after["confirmation"]["rows"] if r["candidate"]["name"] == after["confirmation"]["quoted"])
    assert quoted["candidate"]["trial"] == after["trial"] and quoted["confidence"] == pytest.approx(0.99)
    assert shown(lab, capsys, "status", "search")["decision"]["state"] == after["state"]


def test_a_raced_study_is_confirmed_as_any_other(lab, capsys) -> None:
    """Under fresh seeds, as many as are asked for, whatever its stages were."""
    text = lab.LINE.replace("[search]", "[search]\nrace = true\nstages = [3, 4]")
    assert lab.run("start", lab.spec(text, **{**QUICK, "seeds": "[0]"}), "--workers", "0") == 0
    made_learnt(lab)
    assert lab.run("confirm", "line", "--seeds", "4", "--workers", "0") == 0
    found = shown(lab, capsys, "confirm", "line")
    assert found["state"] == "finished" and found["seeds"] == 4 and found["is_current"]


def test_without_test_pictures_fresh_seeds_are_judged_on_validation(lab, capsys, tmp_path) -> None:
    """And it is said that test is not measured."""
    random = np.random.default_rng(0)
    for part in ("train", "val"):
        for number in range(4):
            folder = tmp_path / "pairs" / part / f"scene_{part}_{number}"
            folder.mkdir(parents=True)
            cv2.imwrite(str(folder / "0.png"), random.integers(0, 255, (16, 16, 3), dtype=np.uint8))
            cv2.imwrite(str(folder / "0_depth.png"), random.integers(500, 5000, (16, 16)).astype(np.uint16))
    spec = lab.spec(source=f'"pairs:{tmp_path / "pairs"}"', **{**QUICK, "w": "[0.3]", "seeds": "[0]"})
    text = "\n".join(x for x in Path(spec).read_text().splitlines() if not x.startswith("rooms"))
    Path(spec).write_text(text.replace("[data]", '[data]\nsplit = "folders"'))
    assert lab.run("start", spec, "--workers", "0") == 0
    made_learnt(lab)
    assert lab.run("confirm", "line", "--seeds", "2", "--workers", "0") == 0
    made_learnt(lab)
    found = shown(lab, capsys, "confirm", "line")
    assert found["part"] == "val" and found["read_before"] is None and "test not measured" in found["confirmed"]
    with lab.store.begin() as connection:
        one = select(TRIAL_RUN.c.run).where(TRIAL_RUN.c.study == CONFIRMED).limit(1).scalar_subquery()
        connection.execute(update(RUN).where(RUN.c.run == one).values(state="failed"))
    assert shown(lab, capsys, "status", "line")["confirmation"]["state"] == "unfinished", "a failed run isn't a result"


def shown_export(lab: Lab, capsys) -> dict:
    """All of a study's tables."""
    capsys.readouterr()
    assert lab.run("export", "line", "--format", "json") == 0
    return json.loads(capsys.readouterr().out)
