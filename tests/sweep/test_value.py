"""What a run is worth, and what its pictures say of other scenes, from training to the answer."""

import json
import statistics

import pytest
from sqlalchemy import delete, select, update

from depth_loss_sweep.answer import picture_values
from depth_loss_sweep.reports.analysis import Analysis
from depth_loss_sweep.results import effective_text, study_record
from depth_loss_sweep.spec_file import stored_spec
from depth_loss_sweep.tables import PER_IMAGE, RUN


@pytest.fixture
def answered(lab):
    """A finished study of two trials, three seeds and nine validation scenes, whose spec names no value."""
    spec = lab.spec(rooms="60", width="1", epochs="2", seeds="[0, 1, 2]", w="[0.0, 0.6]")
    assert lab.run("start", spec, "--workers", "0") == 0
    lab.make_learnt()
    with lab.store.begin() as connection:  # so small a network predicts an almost constant map
        connection.execute(update(RUN).values(outcome="learnt"))
    lab.given = spec
    return lab


def printed(lab, capsys, *command: str) -> dict:
    capsys.readouterr()
    assert lab.run(*command) == 0
    return json.loads(capsys.readouterr().out)


def test_a_run_is_worth_its_last_two_epochs_and_scenes_are_measured(answered, capsys) -> None:
    """Trials are told the mean of both; every picture of both is stored, and best, export and the record say one bound."""
    store = answered.store
    curves = [
        [store.curve(row["run"], "metric_rmse", 2) for row in store.runs("line") if row["trial"] == t] for t in (0, 1)
    ]
    told = [trial["value"] for trial in store.trials("line")]
    assert told == [pytest.approx(statistics.fmean(map(statistics.fmean, runs))) for runs in curves]
    with store.engine.connect() as connection:
        assert set(connection.scalars(select(PER_IMAGE.c.epoch))) == {1, 2}
    record = study_record(store, answered.home, "line")
    decision = Analysis(record).decision
    assert (decision.scenes, decision.pictures, len(set(record.pictures.scenes))) == (9, 18, 9)
    assert decision.bound_scenes >= decision.bound and not decision.scenes_missing
    assert printed(answered, capsys, "best", "line", "--json")["bound_scenes"] == pytest.approx(decision.bound_scenes)
    exported = printed(answered, capsys, "export", "line", "--format", "json")["decision"]
    assert exported["bound_scenes"] == pytest.approx(decision.bound_scenes)
    assert answered.run("best", "line") == 0 and "leave more open" in capsys.readouterr().out


def test_runs_that_lack_an_epochs_pictures_leave_scenes_unmeasured(answered, capsys) -> None:
    """As runs of before: the bound of seeds stays, and it is said that scenes weren't measured."""
    with answered.store.begin() as connection:
        connection.execute(delete(PER_IMAGE).where(PER_IMAGE.c.epoch == 1))
    best = printed(answered, capsys, "best", "line", "--json")
    assert best["bound"] is not None and best["bound_scenes"] is None
    assert answered.run("best", "line") == 0 and "Scenes not measured" in capsys.readouterr().out
    spec = stored_spec(answered.store.require("line"), "here")
    assert picture_values(answered.store, spec).values == {}


def test_a_default_that_was_meant_stays_with_the_study(answered) -> None:
    """The same text again is the same study, and a larger one grows; its row says which value was meant."""
    store = answered.store
    assert json.loads(store.require("line")["overrides"]) == {"study.value": 2}
    text = effective_text(store.require("line"))
    assert "or by default" in text and "study.value = 2" in text
    attempts = {row["run"]: row["attempts"] for row in store.runs("line")}
    assert answered.run("start", answered.given, "--workers", "0") == 0
    assert {row["run"]: row["attempts"] for row in store.runs("line")} == attempts
    assert answered.run("start", answered.given, "--workers", "0", "--seeds", "4") == 0
    assert stored_spec(store.require("line"), "here").study.value == 2
    assert answered.run("start", answered.given, "--workers", "0", "--seeds", "4", "--set", 'study.value="last"') == 2


def test_a_run_of_one_epoch_is_worth_that_one(lab) -> None:
    """There is no other, and its pictures are whole."""
    assert lab.run("start", lab.spec(epochs="1", w="[0.3]", seeds="[0]"), "--workers", "0") == 0
    (run,), (trial,) = lab.store.runs("line"), lab.store.trials("line")
    assert [trial["value"]] == lab.store.curve(run["run"], "metric_rmse", 1)
    spec = stored_spec(lab.store.require("line"), "here")
    assert spec.study.value == 2 and picture_values(lab.store, spec).values.keys() == {run["run"]}
