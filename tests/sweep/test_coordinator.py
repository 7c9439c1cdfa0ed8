"""Studies at work: order, kills, growth, failures. Real training, real processes, real files."""

import json
import os
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from itertools import count
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import optuna
import pytest
from sqlalchemy import select

from depth_loss_sweep.answer import study_question
from depth_loss_sweep.lease import holder
from depth_loss_sweep.model.checkpoint import lock_folder
from depth_loss_sweep.results import study_record
from depth_loss_sweep.samplers import SAMPLERS
from depth_loss_sweep.spec_file import stored_spec
from depth_loss_sweep.status import status
from depth_loss_sweep.tables import TRIAL

from .conftest import IS_STRESS, LEFT_ALONE

ROOT = Path(__file__).parent.parent.parent
KILLED_AT = (4, 12, 20, 28, 36)[:: 1 if IS_STRESS else 2]
"""Rows of epochs, of 18 trials' 72, after which a search is killed: five times in `make stress`."""


def test_the_number_of_workers_changes_nothing(new_lab) -> None:
    """0, 1 and 3 workers give the same trials, runs and epochs, to the last bit."""
    found = []
    for workers in ("0", "1", "3"):
        other = new_lab()
        assert other.run("start", other.spec(), "--workers", workers) == 0
        found.append(other.numbers("line"))
    assert found[0] == found[1] == found[2]


@pytest.mark.slow
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_search_gives_the_same_trials_for_any_number_of_workers_and_kills(new_lab, sampler: str) -> None:
    """What trial n is depends on the spec, not on which run ends first, nor on who was killed: in `make stress`, five times."""
    found, settings = [], {"sampler": f'"{sampler}"', "trials": "18", "seeds": "[0]"}
    for workers in LEFT_ALONE:
        other = new_lab()
        assert other.run("start", other.spec(other.SEARCH, **settings), "--workers", workers) == 0
        found.append(other.numbers("search"))
    killed = new_lab()
    spec = killed.spec(killed.SEARCH, **settings)
    for rows in KILLED_AT:
        process = killed.spawn("start", spec, "--workers", "2")
        killed.wait_for_epochs(rows, process)
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        assert process.returncode == -signal.SIGKILL
    assert killed.run("resume", "search", "--workers", "1") == 0
    expected = killed.numbers("search")
    assert all(numbers == expected for numbers in found)


def test_a_killed_study_ends_as_one_left_alone(lab, new_lab) -> None:
    """SIGKILL to the coordinator in mid-run, then resume: bit for bit the numbers of an undisturbed study."""
    alone = new_lab()
    assert alone.run("start", alone.spec(), "--workers", "0") == 0
    for rows in (2, 8, 14):
        process = lab.spawn("resume", "line") if lab.epochs_done() else lab.spawn("start", lab.spec(), "--workers", "2")
        lab.wait_for_epochs(rows, process)
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
    assert lab.run("resume", "line", "--workers", "1") == 0
    assert lab.numbers("line") == alone.numbers("line")


def test_workers_do_not_outlive_a_killed_coordinator(lab) -> None:
    """SIGKILL to the coordinator alone takes its workers with it, and frees the study at once."""
    process = lab.spawn("start", lab.spec(epochs="200"), "--workers", "2")
    lab.wait_for(
        lambda: len(lab.descendants(process)) == 3 or process.poll() is not None
    )  # workers, and who forked them
    lab.wait_for_epochs(1, process)
    below = lab.descendants(process)
    process.kill()
    process.communicate()
    assert len(below) == 3
    lab.wait_for(lambda: not any(_alive(child) for child in below))
    assert holder(lab.store, "line", lab.home.lock("line")) is None


def test_a_signal_to_the_whole_group_interrupts_a_study(lab) -> None:
    """As `timeout` and service managers send it: workers are gone at once, the study says how it goes on, exit 130."""
    process = lab.spawn("start", lab.spec(epochs="200"), "--workers", "3")
    lab.wait_for_epochs(1, process)
    os.killpg(process.pid, signal.SIGTERM)
    _, errors = process.communicate()
    assert process.returncode == 130, errors
    assert errors.splitlines()[-1].startswith("interrupted; go on with: sweep resume line")


def test_an_early_interrupt_says_so(lab) -> None:
    """Ctrl-C while torch is still being imported: exit 130 and a word, and the same command goes on."""
    spec = lab.spec(epochs="60", seeds="[0]", w="[0.3]")
    process = lab.spawn("start", spec, "--workers", "1")
    lab.wait_for(lambda: bool(lab.descendants(process)))
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate()
    assert process.returncode == 130, errors
    assert "interrupted" in errors.splitlines()[-1] and "Traceback" not in errors
    assert lab.run("start", spec, "--workers", "1") == 0


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_a_killed_worker_costs_only_its_epoch(lab, new_lab) -> None:
    """Its run goes on from its checkpoint in a new worker; the numbers stay the same."""
    alone = new_lab()
    assert alone.run("start", alone.spec(epochs="12"), "--workers", "0") == 0
    process = lab.spawn("start", lab.spec(epochs="12"), "--workers", "1")
    lab.wait_for_epochs(6, process)
    os.kill(lab.descendants(process)[-1], signal.SIGKILL)
    _, errors = process.communicate()
    assert process.returncode == 0, errors
    assert "goes on from its checkpoint" in errors
    assert lab.numbers("line") == alone.numbers("line")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_study_exits_130_and_says_how_to_go_on(lab, number) -> None:
    """Ctrl-C and SIGTERM finish nothing half and leave a study that resumes."""
    process = lab.spawn("start", lab.spec(epochs="500"), "--workers", "2")
    lab.wait_for_epochs(1, process)
    os.killpg(process.pid, number)
    _, errors = process.communicate()
    assert process.returncode == 130, errors
    assert f"sweep resume line --home {lab.home.root}" in errors
    assert "Traceback" not in errors
    assert status(lab.store, lab.home, "line")["state"] == "interrupted"


def test_a_second_coordinator_is_refused(lab, capsys) -> None:
    """start and resume of a study at work name the holder and exit 2."""
    process = lab.spawn("start", lab.spec(epochs="500"), "--workers", "1")
    try:
        lab.wait_for_epochs(1, process)
        assert lab.run("resume", "line") == 2
        assert f"pid {process.pid}" in capsys.readouterr().err
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def test_starting_again_trains_nothing_again(lab) -> None:
    """`start` of a study that exists with the same spec resumes it; a finished one is done at once."""
    assert lab.run("start", lab.spec(), "--workers", "0") == 0
    before = _attempts(lab)
    assert lab.run("start", lab.spec(), "--workers", "0") == 0
    assert _attempts(lab) == before == [1] * 6


def _attempts(lab) -> list[int]:
    return [row["attempts"] for row in lab.store.runs("line")]


def test_a_study_grows_knowingly(lab, new_lab) -> None:
    """More seeds, weights and epochs train only what is missing, and end as if asked for at once."""
    larger = {"seeds": "[0, 1, 2]", "w": "{ from = 0.0, to = 0.9, step = 0.3 }", "epochs": "5"}
    at_once = new_lab()
    assert at_once.run("start", at_once.spec(**larger), "--workers", "0") == 0
    assert lab.run("start", lab.spec(), "--workers", "0") == 0
    for keys in (["seeds"], ["seeds", "w"], ["seeds", "w", "epochs"]):
        assert lab.run("start", lab.spec(**{k: larger[k] for k in keys}), "--workers", "0") == 0
    assert lab.numbers("line") == at_once.numbers("line")
    assert {s.study_name for s in optuna.get_all_study_summaries(lab.store.url)} == {
        "line",
        "line@1",
        "line@2",
        "line@3",
    }
    grown = optuna.load_study(study_name="line", storage=lab.store.url)
    assert [t.value for t in grown.trials] == [row["value"] for row in lab.store.trials("line")]
    attempts = {row["run"]: row["attempts"] for row in lab.store.runs("line")}
    assert sorted(attempts.values()) == [1] * 12


def test_a_study_that_grows_shows_what_it_has_shown(lab) -> None:
    """All trials that have runs are asked for again at once, so that none of those is lost to its page meanwhile."""
    ahead = ("--workers", "1", "--set", "search.parallel=1")
    assert lab.run("start", lab.spec(seeds="[0]"), *ahead) == 0
    process = lab.spawn("start", lab.spec(w="{ from = 0.0, to = 0.9, step = 0.3 }"), *ahead)
    lab.wait_for_epochs(lab.epochs_done() + 1, process)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    runs = [row for row in lab.store.runs("line") if row["seed"] == 0 and row["state"] == "finished"]
    assert {0, 1, 2} <= {row["trial"] for row in runs}
    assert lab.run("resume", "line", "--workers", "0") == 0


def test_a_study_without_a_name_in_its_spec_is_one_study(lab, capsys) -> None:
    """Called after its file, it is interrupted, resumed, reported and copied under that name, whatever its home is called."""
    path = Path(lab.spec()).rename(lab.folder / "mine.toml")
    path.write_text(path.read_text().replace('name = "line"\n', ""))
    assert lab.run("start", str(path), "--workers", "0") == 0
    assert lab.run("start", str(path), "--workers", "0", "--seeds", "3") == 0
    assert lab.run("status", "mine", "--json") == 0
    assert lab.run("copy", "mine", "--to", str(lab.folder / "sweep.db")) == 0
    assert [row["name"] for row in lab.store.studies()] == ["mine"]
    assert {row["study"] for row in lab.store.rows(select(TRIAL.c.study))} == {"mine"}
    assert {s.study_name for s in optuna.get_all_study_summaries(lab.store.url)} == {"mine", "mine@1"}
    assert [s.study_name for s in optuna.get_all_study_summaries(f"sqlite:///{lab.folder / 'sweep.db'}")] == ["mine"]


def test_seeds_added_after_a_look_share_its_level(lab) -> None:
    """A study that was answered and gets more seeds is looked at again; weights, or seeds before there was an answer, are no look."""
    for change in ({"seeds": "[0, 1]"}, {"seeds": "[0, 1, 2]"}, {"seeds": "[0, 1, 2]", "w": "[0.0, 0.3, 0.6, 0.9]"}):
        assert lab.run("start", lab.spec(epochs="1", **{"w": "[0.0, 0.6]", **change}), "--workers", "0") == 0
    assert (lab.store.require("line")["looks"] or 1) == 1
    grown = lab.spec(epochs="1", seeds="[0, 1, 2, 3]", w="[0.0, 0.3, 0.6, 0.9]")
    assert lab.run("start", grown, "--workers", "0") == 0
    store = lab.store
    row = store.require("line")
    assert row["looks"] == 2 and study_question(store, row, stored_spec(row, ""))[1].level == 0.025
    assert study_record(store, lab.home, "line").looks == 2


def test_growth_that_is_refused_changes_nothing(lab, capsys) -> None:
    """Where the pictures are not here, the study stays as it was, and goes on once they are."""
    pictures = lab.folder / "pictures"
    for scene in range(4):
        (pictures / f"scene{scene}").mkdir(parents=True)
        cv2.imwrite(str(pictures / f"scene{scene}" / "0.png"), np.full((16, 16, 3), 40 * scene, np.uint8))
        cv2.imwrite(str(pictures / f"scene{scene}" / "0_depth.png"), np.full((16, 16), 1000 + scene, np.uint16))
    command = ["start", lab.spec(), "--data", f"pairs:{pictures}", "--workers", "0"]
    assert lab.run(*command) == 0
    before = lab.numbers("line")
    pictures.rename(lab.folder / "away")
    assert lab.run(*command, "--seeds", "3") == 2
    assert lab.numbers("line") == before
    (lab.folder / "away").rename(pictures)
    assert lab.run(*command, "--seeds", "3") == 0


def test_another_spec_or_a_smaller_one_is_refused_with_its_keys(lab, capsys) -> None:
    """A changed setting is never resumed by accident; a study never shrinks."""
    assert lab.run("start", lab.spec(), "--workers", "0") == 0
    before = lab.numbers("line")
    assert lab.run("start", lab.spec(learning_rate="2e-3"), "--workers", "0") == 2
    assert "train.learning_rate: 0.001 -> 0.002" in capsys.readouterr().err
    assert lab.run("start", lab.spec(seeds="[0]"), "--workers", "0") == 2
    assert "only grows" in capsys.readouterr().err
    assert lab.run("start", lab.spec(rooms="13"), "--workers", "0") == 2
    assert "data.rooms" in capsys.readouterr().err
    assert lab.numbers("line") == before


def test_a_longer_study_leaves_a_shorter_one_as_it_was(lab) -> None:
    """Runs of other lengths are other runs: a study's outcomes and states do not change when another goes further."""
    assert lab.run("start", lab.spec(epochs="1"), "--workers", "0") == 0
    before = lab.numbers("line")
    assert lab.run("start", lab.spec(epochs="3"), "--workers", "0", "--name", "longer") == 0
    assert lab.numbers("line") == before
    assert {row["epochs"] for row in lab.store.runs("line")} == {1}


PRUNED = ("--set", "search.pruner=median", "--set", "search.warmup_epochs=1", "--set", "search.startup_trials=1",
          "--set", "search.parallel=1", "--set", "train.epochs=6")  # fmt: skip


def test_pruning_does_not_depend_on_what_was_trained_before(lab, new_lab) -> None:
    """A trial whose runs another study finished is pruned at the same epoch as one that is trained."""
    fresh = new_lab()
    assert fresh.run("start", fresh.spec(), "--workers", "0", *PRUNED) == 0
    states = [trial["state"] for trial in fresh.store.trials("line")]
    assert "pruned" in states
    assert lab.run("start", lab.spec(), "--workers", "0", "--set", "train.epochs=6", "--name", "all") == 0
    assert lab.run("start", lab.spec(), "--workers", "0", *PRUNED) == 0
    kept = ("number", "state", "value", "epochs")
    trials = [[{k: t[k] for k in kept} for t in each.store.trials("line")] for each in (fresh, lab)]
    assert trials[0] == trials[1]
    assert {row["state"] for row in fresh.store.runs("line")} <= {"finished", "dropped"}


@pytest.mark.slow
def test_a_search_that_grew_is_the_search_it_would_have_been(lab, new_lab) -> None:
    """Trials added later are asked as if they had been asked for at once."""
    at_once = new_lab()
    assert at_once.run("start", at_once.spec(at_once.SEARCH), "--workers", "0") == 0
    assert lab.run("start", lab.spec(lab.SEARCH, trials="12"), "--workers", "0") == 0
    assert lab.run("start", lab.spec(lab.SEARCH), "--workers", "0") == 0
    assert lab.numbers("search") == at_once.numbers("search")


def test_a_working_folder_with_a_model_py_disturbs_no_worker(lab) -> None:
    """Users keep a model.py where they work; workers find our packages all the same."""
    (lab.folder / "model.py").write_text("raise RuntimeError('a stranger')")
    (lab.folder / "data").mkdir()
    (lab.folder / "data" / "__init__.py").write_text("")
    code = "import sys; from depth_loss_sweep.cli import run; sys.exit(run(sys.argv[1:]))"
    spec = lab.spec(seeds="[0]", epochs="1")
    command = [sys.executable, "-P", "-c", code, "start", spec, "--workers", "1", "--home", str(lab.home.root)]
    done = subprocess.run(command, cwd=lab.folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_two_studies_share_a_run(lab) -> None:
    """The same weights, settings, seed and data are trained once, whatever the study is called."""
    assert lab.run("start", lab.spec(), "--workers", "0") == 0
    assert lab.run("start", lab.spec(), "--workers", "0", "--name", "twin") == 0
    assert [row["attempts"] for row in lab.store.runs("twin")] == [1] * 6


def test_divergence_is_a_result(lab) -> None:
    """A run that goes non-finite is recorded with where and why, its trial is told the worst, and the study goes on."""
    text = lab.spec(learning_rate="1e30", seeds="[0]")
    assert lab.run("start", text, "--workers", "0", "--set", "model.head=linear") == 0
    rows = lab.store.runs("line")
    assert {row["outcome"] for row in rows} == {"non_finite"}
    assert "step" in rows[0]["reason"]
    study = optuna.load_study(study_name="line", storage=lab.store.url)
    assert [t.state.name for t in study.trials] == ["COMPLETE"] * 3
    assert [t.value for t in study.trials] == [float("inf")] * 3


def test_a_failed_run_is_recorded_and_the_study_goes_on(lab, new_lab) -> None:
    """A run whose folder cannot be made is given up: exit 1, the reason kept, the other runs done."""
    twin = new_lab()
    assert twin.run("start", twin.spec(epochs="1"), "--workers", "0") == 0
    folder = lab.home.run(twin.store.runs("line")[0]["run"])  # a run is called after what it is made of, in any home
    folder.parent.mkdir(parents=True)
    folder.write_text("in the way")
    assert lab.run("start", lab.spec(epochs="1"), "--workers", "0") == 1
    rows = lab.store.runs("line")
    assert [row["state"] for row in rows].count("failed") == 1
    assert str(folder) in rows[0]["reason"]
    assert [t["state"] for t in lab.store.trials("line")] == ["failed", "complete", "complete"]
    study = optuna.load_study(study_name="line", storage=lab.store.url)
    assert [t.state.name for t in study.trials] == ["FAIL", "COMPLETE", "COMPLETE"]


def test_optuna_opens_the_file(lab) -> None:
    """The objective, the params and the weights are there for optuna.load_study."""
    assert lab.run("start", lab.spec(), "--workers", "0") == 0
    study = optuna.load_study(study_name="line", storage=f"sqlite:///{lab.home.database}")
    assert [t.params["w"] for t in study.trials] == [0.0, 0.3, 0.6]
    assert study.best_value == min(t["value"] for t in lab.store.trials("line"))


def test_the_database_is_sound_and_records_every_epoch(lab) -> None:
    """One row a (run, epoch, split); per-seed runs; the spec, data and baselines with the study."""
    assert lab.run("start", lab.spec(), "--workers", "0") == 0
    with closing(sqlite3.connect(lab.home.database)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert connection.execute("SELECT count(*) FROM sweep_epoch").fetchone() == (3 * 2 * 3 * 2,)
    row = lab.store.require("line")
    assert json.loads(row["data"])["images"]["train"] > 0
    assert json.loads(row["baselines"])["val"]["median"]["metric_rmse"] > 0


def test_two_studies_begun_at_once_on_a_fresh_home(lab) -> None:
    """Both make the tables, and one waits for the other."""
    spec = lab.spec(epochs="1", seeds="[0]", w="[0.3]")
    begun = [lab.spawn("start", spec, "--workers", "0", "--name", name) for name in ("a", "b", "c")]
    for process in begun:
        _, errors = process.communicate()
        assert process.returncode == 0, errors


def test_a_run_that_another_study_trains_keeps_where_it_broke(lab, monkeypatch) -> None:
    """Whoever waits for it tries it again and again, and changes nothing of what is known of it."""
    spec, broke = lab.spec(epochs="1", w="[0.0]", seeds="[0]"), json.dumps({"break": {"epoch": 1}})
    assert lab.run("start", spec, "--workers", "0") == 0
    (run,) = lab.store.runs("line")
    lab.store.update_run(run["run"], state="running", outcome=None, epochs=0, details=broke)
    asked = count()
    monkeypatch.setattr("depth_loss_sweep.cli.work.time", SimpleNamespace(monotonic=lambda: 1e9 * (next(asked) > 20)))
    with lock_folder(lab.home.run(run["run"])):
        assert lab.run("start", spec, "--name", "other", "--workers", "0", "--budget", "2h") == 130
    after = lab.store.run(run["run"])
    assert after["details"] == broke and after["attempts"] == run["attempts"]


def test_a_run_that_another_study_finished_meanwhile_is_not_begun_again(lab) -> None:
    """Two studies that share runs, at work at once: each run is trained once and stays finished."""
    spec = lab.spec(epochs="30")
    begun = [lab.spawn("start", spec, "--workers", "1", "--name", name) for name in ("a", "b")]
    for process in begun:
        _, errors = process.communicate()
        assert process.returncode == 0, errors
    assert [row["attempts"] for row in lab.store.runs("a")] == [1] * 6
    assert lab.numbers("a")[0] == lab.numbers("b")[0]
