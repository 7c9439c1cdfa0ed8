"""When real runs broke, in the page, `status --json` and exports alike."""

import csv
import io
import json

import pytest
from sqlalchemy import text

from depth_loss_sweep.model.outcomes import FLAT_RATIO
from depth_loss_sweep.reports.analysis import Analysis
from depth_loss_sweep.results import epoch_frame, study_record
from depth_loss_sweep.status import status


@pytest.fixture(scope="module")
def broken(new_lab):
    """A study whose networks don't move from their start (flat) at one rate, and burst (non-finite) at the other."""
    lab = new_lab()
    rates = lab.LINE.replace("w = { from = 0.0, to = 0.6, step = 0.3 }", '"train.learning_rate" = [1e-9, 1e6]')
    weights = rates.replace('"0.9 - w"', "0.6").replace('"w"', "0.3")
    assert lab.run("start", lab.spec(weights, epochs="2"), "--workers", "0") == 0
    return lab


def test_flat_runs_broke_from_the_start_and_burst_ones_where_they_burst(broken) -> None:
    """By the numbers that training stored: the page and `status --json` have the same."""
    found = Analysis(study_record(broken.store, broken.home, "line")).instability
    assert [(r.trial, r.seed, r.kind, r.epoch) for r in found.runs] == [
        (0, 0, "flat", 1),
        (0, 1, "flat", 1),
        (1, 0, "non_finite", 1),
        (1, 1, "non_finite", 1),
    ]
    assert all(run.step == 2 and run.term in ("silog", "ssim", "l1") for run in found.runs[2:])
    assert [(rate.broken.count, rate.kinds["flat"].count) for rate in found.rates] == [(2, 2), (2, 0)]
    told = status(broken.store, broken.home, "line")["instability"]
    assert told == json.loads(json.dumps(told)) == found.as_dict()


def test_the_last_epoch_s_spread_is_what_the_outcome_was_judged_by(broken) -> None:
    """The stored numbers and the outcome follow one rule."""
    last = epoch_frame(broken.store, "line", ("val",)).groupby("run").last()
    is_flat = last["spread_prediction"] < FLAT_RATIO * last["spread_truth"]
    outcomes = {row["run"]: row["outcome"] for row in broken.store.runs("line")}
    assert {run: outcomes[run] == "flat" for run in outcomes} == is_flat.to_dict()


def test_exports_have_the_onset(broken, capsys) -> None:
    """A column of the table of runs, and in JSON all that is measured; `export` knows its own file again."""
    assert broken.run("export", "line") == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert [(row["outcome"], row["onset_epoch"], row["break_epoch"]) for row in rows] == [
        ("flat", "1", ""),
        ("flat", "1", ""),
        ("non_finite", "1", "1"),
        ("non_finite", "1", "1"),
    ]
    assert broken.run("export", "line", "--format", "json") == 0
    told = json.loads(capsys.readouterr().out)["instability"]
    assert told == status(broken.store, broken.home, "line")["instability"]
    for table in ("runs", "epochs"):
        where = str(broken.folder / f"{table}.csv")
        for _ in range(2):
            assert broken.run("export", "line", "--table", table, "--output", where) == 0


def test_the_page_says_when_each_run_broke(broken) -> None:
    """With what it was: the tables stand where breaking is told of."""
    assert broken.run("report", "line") == 0
    page = broken.home.report("line").read_text(encoding="utf-8")
    assert "When each run broke" in page and "They broke in epoch 1." in page and "not measured</td>" not in page


def test_what_an_older_version_did_not_keep_is_not_measured(broken, new_lab) -> None:
    """Without the spread of every epoch nobody knows when a run became flat; how many did is known all the same."""
    lab = new_lab()
    assert broken.run("copy", "line", "--to", str(lab.home.database)) == 0
    with lab.store.begin() as connection:
        connection.execute(text("ALTER TABLE sweep_epoch DROP COLUMN spread_prediction"))
    found = status(lab.store, lab.home, "line")["instability"]
    assert [run["epoch"] for run in found["runs"]] == [None, None, 1, 1]
    assert found["rates"][0]["onsets"] is None and found["rates"][0]["broken"]["count"] == 2
    assert lab.run("report", "line") == 0
    assert "not measured</td>" in lab.home.report("line").read_text(encoding="utf-8")
