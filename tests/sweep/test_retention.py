"""What stays of finished runs' checkpoints: `[train] keep`."""

import json
import os
import shutil
import signal
from pathlib import Path

import pytest

from depth_loss_sweep import coordinator
from depth_loss_sweep.growth import fixed_hash, fixed_part, grown_hash
from depth_loss_sweep.model.checkpoint import CHECKPOINT, PREVIOUS, read_checkpoint
from depth_loss_sweep.model.identity import run_identity
from depth_loss_sweep.model.outcomes import RESULT, load_result
from depth_loss_sweep.model.runtime import Runtime
from depth_loss_sweep.model.settings import LossSettings, ModelSettings, RunSettings, TrainSettings
from depth_loss_sweep.spec_file import parse_spec

NONE = ("--set", "train.keep=none")


def files(lab, name: str = "line") -> list[list[str]]:
    """What lies in the folder of each run of a study."""
    folders = [lab.home.run(row["run"]) for row in lab.store.runs(name)]
    return [sorted(path.name for path in folder.glob("*.npz")) for folder in folders]


@pytest.fixture(scope="module")
def reference(new_lab):
    """The numbers of a study that keeps its last checkpoints."""
    alone = new_lab()
    assert alone.run("start", alone.spec(), "--workers", "0") == 0
    return alone.numbers("line")


def test_a_finished_run_keeps_one_checkpoint(lab, reference) -> None:
    """The last one, whole, with what a longer run goes on from; the one before is gone, the result is there."""
    assert lab.run("start", lab.spec(), "--workers", "1") == 0
    assert files(lab) == [[CHECKPOINT, RESULT]] * 6
    newest = read_checkpoint(lab.home.run(lab.store.runs("line")[0]["run"]) / CHECKPOINT)
    assert newest.epoch == 3 and newest.optimizer


@pytest.mark.parametrize("workers", ["0", "2"])
def test_none_keeps_the_result_and_changes_no_number(lab, reference, workers: str, capsys) -> None:
    """Without any checkpoint the numbers, the report's pictures and a second start are as ever; doctor finds it sound."""
    assert lab.run("start", lab.spec(), "--workers", workers, *NONE) == 0
    assert files(lab) == [[RESULT]] * 6
    assert lab.numbers("line") == reference
    assert lab.run("start", lab.spec(), "--workers", "0", *NONE) == 0
    assert [row["attempts"] for row in lab.store.runs("line")] == [1] * 6
    assert load_result(lab.home.run(lab.store.runs("line")[0]["run"]), pytest.fail) is not None
    assert lab.run("report", "line") == 0
    capsys.readouterr()
    assert lab.run("doctor") == 0
    assert "6 runs, all files sound" in capsys.readouterr().out


def test_a_model_that_was_not_kept_is_said(lab, tmp_path: Path, capsys) -> None:
    """best --checkpoint says in one line why there is none, and what to do."""
    assert lab.run("start", lab.spec(w="[0.3]"), "--workers", "0", *NONE) == 0
    capsys.readouterr()
    assert lab.run("best", "line", "--checkpoint", str(tmp_path / "m.npz"), "--trial", "0") == 2
    errors = capsys.readouterr().err.splitlines()
    assert len(errors) == 1 and "train.keep is 'none'" in errors[0] and "--set train.keep=last" in errors[0]
    assert not (tmp_path / "m.npz").exists()


def test_without_checkpoints_a_study_grows_from_the_start(lab, new_lab, capsys) -> None:
    """More epochs are trained from the first one on, which is said once; the numbers are those of asking at once."""
    at_once = new_lab()
    assert at_once.run("start", at_once.spec(epochs="5"), "--workers", "0") == 0
    assert lab.run("start", lab.spec(), "--workers", "0", *NONE) == 0
    capsys.readouterr()
    assert lab.run("start", lab.spec(epochs="5"), "--workers", "0", *NONE) == 0
    assert capsys.readouterr().err.count("trained again from the start") == 1
    assert lab.numbers("line") == at_once.numbers("line")


def test_keep_may_change_when_a_study_is_started_again(lab) -> None:
    """It is no other study: what ends from then on is kept as asked last, after a plain resume, too."""
    process = lab.spawn("start", lab.spec(epochs="16"), "--workers", "1")
    lab.wait_for_epochs(2 * 18, process)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    ended = sum(row["state"] == "finished" for row in lab.store.runs("line"))
    process = lab.spawn("start", lab.spec(epochs="16"), "--workers", "1", *NONE)
    lab.wait_for_epochs(2 * 40, process)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    assert lab.run("resume", "line", "--workers", "0") == 0
    assert files(lab) == [[CHECKPOINT, RESULT]] * ended + [[RESULT]] * (6 - ended)
    assert lab.store.require("line")["optuna_name"] == "line"


def test_a_shared_run_is_kept_for_the_study_that_wants_it(lab) -> None:
    """Whichever finishes it: a study that keeps none takes nothing from one that keeps the last."""
    assert lab.run("start", lab.spec(w="[0.0]"), "--workers", "0", "--name", "wants") == 0
    assert lab.run("start", lab.spec(), "--workers", "0", *NONE) == 0
    assert files(lab) == [[CHECKPOINT, RESULT]] * 2 + [[RESULT]] * 4
    process = lab.spawn("start", lab.spec(epochs="20"), "--workers", "1", "--name", "first")
    lab.wait_for_epochs(2 * 8 + 36, process)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    assert lab.run("start", lab.spec(epochs="20"), "--workers", "0", "--name", "second", *NONE) == 0
    asked = {row["run"] for row in lab.store.runs("first")}
    kept = [CHECKPOINT in names for names in files(lab, "second")]
    assert kept == [row["run"] in asked for row in lab.store.runs("second")]


@pytest.mark.parametrize("keep", ["last", "none"])
def test_a_coordinator_killed_before_it_freed_a_run(lab, reference, keep: str, monkeypatch) -> None:
    """A run counts in the tables first: what a kill leaves of its checkpoints goes with the next resume."""

    class Killed(BaseException):
        pass

    def kill(*_: object) -> None:
        raise Killed

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(coordinator, "free_finished", kill)
        lab.run("start", lab.spec(), "--workers", "0", "--set", f"train.keep={keep}")
    assert files(lab)[0] == [CHECKPOINT, PREVIOUS, RESULT]
    assert lab.run("resume", "line", "--workers", "0") == 0
    assert files(lab) == [[CHECKPOINT, RESULT] if keep == "last" else [RESULT]] * 6
    assert lab.numbers("line") == reference
    assert [row["attempts"] for row in lab.store.runs("line")] == [1] * 6


def test_runs_of_earlier_versions_are_read(lab, capsys) -> None:
    """A home whose stored settings know nothing of `keep` is resumed, shared and examined as ever."""
    assert lab.run("start", lab.spec(), "--workers", "0") == 0
    for row in lab.store.runs("line"):
        settings = json.loads(row["settings"])
        del settings["train"]["keep"]
        lab.store.update_run(row["run"], settings=json.dumps(settings))
    assert lab.run("start", lab.spec(), "--workers", "0", "--name", "twin", *NONE) == 0
    assert files(lab) == [[CHECKPOINT, RESULT]] * 6
    assert [row["attempts"] for row in lab.store.runs("twin")] == [1] * 6
    shutil.rmtree(lab.home.run(lab.store.runs("line")[0]["run"]))
    capsys.readouterr()
    assert lab.run("doctor") == 1
    assert "finished, and the folder is missing" in capsys.readouterr().out


def test_keep_is_no_part_of_what_a_run_or_study_is(lab) -> None:
    """Runs of before `keep` are still known by the same hashes, and a study is the same whatever it keeps."""
    known = {
        "cosine": "0ef290d9dc6a58b5094c900cc196d8d969da7ea08a0d255b4c26d31836a976ed",
        "constant": "453f9512043706cfbc98b76db935c1553740d82e63fe467471cbd2eb37035dbf",
    }
    for schedule, identity in known.items():
        for keep in ("last", "none"):
            run = RunSettings(
                model=ModelSettings(),
                train=TrainSettings(schedule=schedule, keep=keep),
                loss=LossSettings(),
                weights={"silog": 0.5, "l1": 0.5},
                seed=0,
            )
            assert run_identity(run, Runtime("cpu"), "data") == identity
    last, none = (parse_spec(Path(lab.spec()).read_text(), {"train.keep": keep}) for keep in ("last", "none"))
    assert (fixed_hash(last), grown_hash(last)) == (fixed_hash(none), grown_hash(none))
    assert "keep" not in fixed_part(last)["train"]


def test_keep_cannot_be_swept(lab, capsys) -> None:
    """Trials that differ by it alone would be one and the same."""
    assert lab.run("start", lab.spec(), "--set", 'search.train={keep=["last","none"]}') == 2
    assert "cannot be swept" in capsys.readouterr().err
