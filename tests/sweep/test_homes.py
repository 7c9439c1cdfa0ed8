"""A home that an older version made: it opens, reports, exports, resumes and grows, and its numbers are what they were."""

import json
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import optuna
import pytest

from depth_loss_sweep.copies import study_rows
from depth_loss_sweep.spec_file import stored_spec

OLD = Path(__file__).parent / "homes" / "version-1.sql"
"""Made by the last version of schema 1: `finished` (grown once), `searched`, and `interrupted` in its second trial."""

SPEC = """
[study]
name = "finished"
seeds = [0, 1]
[data]
source = "rooms"
rooms = 12
views = 1
image_size = 16
[model]
width = 2
[train]
epochs = 2
batch_size = 8
schedule = "constant"
[search]
w = { from = 0.0, to = 0.9, step = 0.9 }
[weights]
silog = "0.9 - w"
ssim = "w"
edge = 0.05
l1 = 0.05
"""


@pytest.fixture
def old(lab):
    """The old home's numbers in a fresh folder; its files were lost."""
    with closing(sqlite3.connect(lab.home.database)) as connection:
        connection.executescript(OLD.read_text(encoding="utf-8"))
    return lab


def stored(table: str, **where: str) -> list[dict]:
    """Rows of the old home as SQLite itself reads them."""
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.executescript(OLD.read_text(encoding="utf-8"))
        connection.row_factory = sqlite3.Row
        conditions = " AND ".join(f"{key} = ?" for key in where) or "1"
        return [
            dict(row) for row in connection.execute(f"SELECT * FROM {table} WHERE {conditions}", tuple(where.values()))
        ]


@pytest.mark.parametrize("name", ["finished", "searched", "interrupted"])
def test_every_number_of_an_old_home_is_what_it_was(old, name: str) -> None:
    """Opening brings the tables up to date and touches no number."""
    rows = study_rows(old.store, name)
    trials = stored("sweep_trial", study=name)
    younger = {"second_value": None}  # a column that it lacks
    assert rows["sweep_trial"] == [row | younger for row in sorted(trials, key=lambda row: row["number"])]
    runs = {row["run"] for row in stored("sweep_trial_run", study=name)}
    epochs = [row for row in stored("sweep_epoch") if row["run"] in runs]
    assert rows["sweep_epoch"] == sorted(epochs, key=lambda row: (row["run"], row["epoch"], row["split"]))
    assert [row["name"] for row in old.store.studies()] == ["finished", "searched", "interrupted"]


@pytest.mark.parametrize("name", ["finished", "searched", "interrupted"])
def test_an_old_home_answers_every_command_that_reads(old, name: str, capsys) -> None:
    """list, status, best, export and report of an old study work."""
    for command in (
        ["list"],
        ["status", name],
        ["status", name, "--json"],
        ["best", name],
        ["export", name, "--format", "json"],
    ):
        assert old.run(*command) == 0, command
    exported = json.loads(capsys.readouterr().out.rpartition('{\n "study"')[2].join(['{\n "study"', ""]))
    assert exported["epochs"][0]["metric_rmse"] is not None
    assert old.run("report", name) == 0
    assert "plotly" in old.home.report(name).read_text(encoding="utf-8")


def test_optuna_finds_the_grown_study_under_its_name(old) -> None:
    """Version 1 called the newest projection NAME@2; it is NAME now, and the one before is NAME@1."""
    url = old.store.url
    values = {row["number"]: row["value"] for row in stored("sweep_trial", study="finished")}
    grown = optuna.load_study(study_name="finished", storage=url)
    assert {trial.number: trial.value for trial in grown.trials} == values
    before = optuna.load_study(study_name="finished@1", storage=url)
    assert len(before.trials) == 2 and before.trials[0].value != values[0]


def test_an_old_study_is_worth_its_last_epochs(old, tmp_path: Path) -> None:
    """A stored text that names no value means what it meant then; the same text again is that study, with no number touched."""
    spec = tmp_path / "spec.toml"
    spec.write_text(SPEC)
    before = study_rows(old.store, "finished")
    assert stored_spec(old.store.require("finished"), "here").study.value == "last"
    assert old.run("start", str(spec), "--workers", "0") == 0
    assert (
        old.run("start", str(spec), "--workers", "0", "--set", "study.value=2") == 2
    )  # asked for by name, it is another
    after = study_rows(old.store, "finished")
    changing = {"updated"}
    assert [{**row, **dict.fromkeys(changing)} for row in after.pop("sweep_study")] == [
        {**row, **dict.fromkeys(changing)} for row in before.pop("sweep_study")
    ]
    assert after == before


@pytest.mark.slow
def test_an_old_study_grows_and_trains_only_what_is_missing(old, tmp_path: Path) -> None:
    """The same spec again is not growth; one more seed is, and what was trained before is taken as it is."""
    spec = tmp_path / "spec.toml"
    spec.write_text(SPEC)
    before = {row["run"]: row["attempts"] for row in old.store.runs("finished")}
    assert old.run("start", str(spec), "--workers", "0") == 0
    assert {row["run"]: row["attempts"] for row in old.store.runs("finished")} == before
    environment = json.loads(old.store.runs("finished")[0]["environment"])
    assert old.run("start", str(spec), "--workers", "0", "--seeds", "3") == 0
    runs = old.store.runs("finished")
    assert [row["state"] for row in runs] == ["finished"] * 6
    if json.loads(runs[-1]["environment"]) == environment:  # elsewhere all are trained anew, beside the old ones
        assert {row["run"]: row["attempts"] for row in runs if row["run"] in before} == before
        assert sum(row["run"] not in before for row in runs) == 2
    assert stored_spec(old.store.require("finished"), "here").study.value == "last"
    values = {row["number"]: row["value"] for row in old.store.trials("finished")}
    for number, value in values.items():
        last = [old.store.curve(row["run"], "metric_rmse", 2)[-1] for row in runs if row["trial"] == number]
        assert value == pytest.approx(sum(last) / 3)


@pytest.mark.slow
def test_an_interrupted_old_study_is_resumed(old) -> None:
    """Its told trial stays, the rest is trained here, from the start where the checkpoints were lost."""
    told = old.store.trials("interrupted")[0]
    assert old.run("resume", "interrupted", "--workers", "0") == 0
    trials = old.store.trials("interrupted")
    assert trials[0] == told
    assert [trial["state"] for trial in trials] == ["complete", "complete"]


def test_an_old_home_is_copied_with_its_per_image_numbers(lab, capsys) -> None:
    """What older versions kept in a run's folder alone is part of the copy."""
    assert lab.run("start", lab.spec(w="[0.3]", seeds="[0]"), "--workers", "0") == 0
    with lab.store.begin() as connection:
        connection.exec_driver_sql("DELETE FROM sweep_per_image")  # as before there was the table
        connection.exec_driver_sql("DELETE FROM sweep_pictures")
    copy = lab.folder / "copy"
    assert lab.run("copy", "line", "--to", str(copy)) == 0
    lines = (copy / "sweep_per_image.csv").read_text().splitlines()
    assert any('"metric_rmse"' in line for line in lines)
    shutil.rmtree(copy)
