"""How a study grows: what is kept whatever the machine, what may change, and what is refused."""

import json

import pytest
import torch

from depth_loss_sweep import study
from depth_loss_sweep.model import runtime
from depth_loss_sweep.results import study_numbers
from depth_loss_sweep.spec_file import stored_spec
from depth_loss_sweep.status import status

from .conftest import Lab
from .test_confirmation import QUICK as CONFIRMABLE
from .test_confirmation import begin, shown

QUICK = {"epochs": "1", "w": "[0.0, 0.6]"}


def elsewhere(monkeypatch) -> None:
    """From here on, as if this were a machine with another torch."""
    key = runtime.environment_key
    for module in (runtime, study):
        monkeypatch.setattr(module, "environment_key", lambda *given: key(*given) | {"torch": "another"})


def trained(lab: Lab) -> dict[tuple[int, int], tuple]:
    """Which run each trial has under each seed, how often that was begun, and how it ended."""
    return {
        (row["trial"], row["seed"]): (row["run"], row["attempts"], row["state"], row["finished"])
        for row in lab.store.runs("line")
    }


def fail(lab: Lab) -> None:
    """As if the first trial's first run had failed by an error."""
    with lab.store.begin() as connection:
        where = "(SELECT run FROM sweep_trial_run WHERE trial = 0 AND seed = 0)"
        connection.exec_driver_sql(f"UPDATE sweep_run SET state = 'failed', epochs = 0 WHERE run = {where}")
        connection.exec_driver_sql("UPDATE sweep_trial SET state = 'failed', value = NULL WHERE number = 0")


@pytest.mark.parametrize("change", ["failure", "seed", "weight"])
def test_on_another_machine_only_what_is_missing_is_trained(lab, monkeypatch, capsys, change: str) -> None:
    """A failure tried again, or a study grown: what it has finished is kept and marked, once; a study of its own shares none of that."""
    assert lab.run("start", lab.spec(**QUICK), "--workers", "0") == 0
    before = trained(lab)
    elsewhere(monkeypatch)
    if change == "failure":
        fail(lab)
    larger = {"seed": {"seeds": "[0, 1, 2]"}, "weight": {"w": "[0.0, 0.3, 0.6]"}}.get(change, {})
    capsys.readouterr()
    assert lab.run("start", lab.spec(**QUICK | larger), "--workers", "0") == 0
    missing = {"failure": 1, "seed": 2, "weight": 2}[change]
    said = capsys.readouterr().err
    assert f"; {missing} to train" in said and "note: study line goes on in " in said
    assert said.count("torch another") == 1 and f"torch {torch.__version__}" in said
    after = trained(lab)
    assert len(after) == (4 if change == "failure" else 6)
    assert {*before.values()} - {*after.values()} == ({before[0, 0]} if change == "failure" else set())
    assert len({*after.values()} - {*before.values()}) == missing
    assert all(row["mixed"] for row in lab.store.runs("line") if row["run"] in {run for run, *_ in before.values()})
    told = f"Trained in 2 environments ({len(after) - missing} runs in "
    assert [note.partition(told)[1] for note in study_numbers(lab.store, "line").notes if "may differ" in note] == [
        told
    ]
    assert lab.run("status", "line") == 0 and told in capsys.readouterr().out
    assert lab.run("start", lab.spec(**QUICK), "--name", "other", "--workers", "0") == 0
    assert "note: study" not in capsys.readouterr().err and status(lab.store, lab.home, "other")["environments"] is None
    kept = {run for run, *_ in before.values()}
    assert not kept & {row["run"] for row in lab.store.runs("other")}


def test_a_study_that_exists_is_confirmed_where_its_spec_says_so_now(lab, capsys) -> None:
    """[study] confirm that is added to a finished study counts, and the next resume knows it."""
    begin(lab)
    asking = ("start", lab.spec(**CONFIRMABLE), "--set", "study.confirm=2", "--workers", "0")
    capsys.readouterr()
    assert lab.run(*asking) == 0
    assert "under 2 fresh seeds" in capsys.readouterr().out
    assert stored_spec(lab.store.require("line"), "").study.confirm == 2


def test_a_resume_with_nothing_to_do_leaves_a_study_finished_wherever_it_ends(lab, monkeypatch) -> None:
    """So seeds that are added afterwards make the second look that they are, as after a kill that left it running."""
    assert lab.run("start", lab.spec(epochs="1", w="[0.3]", seeds="[0, 1, 2]"), "--workers", "0") == 0
    with monkeypatch.context() as patch:
        patch.setattr(study.Coordinator, "drive", killed)
        with pytest.raises(SystemExit):
            lab.run("resume", "line", "--workers", "0")
    assert lab.store.require("line")["state"] == "finished"
    lab.store.update_study("line", state="running")  # as earlier versions left it
    assert lab.run("start", lab.spec(epochs="1", w="[0.3]", seeds="[0, 1, 2, 3]"), "--workers", "0") == 0
    assert lab.store.require("line")["looks"] == 2


def killed(_: study.Coordinator) -> bool:
    """A session that ends here."""
    raise SystemExit


@pytest.mark.parametrize("pruner", ["none", "median"])
def test_the_order_of_a_searchs_seeds_stays(lab, capsys, pruner: str) -> None:
    """Another order of them is refused in a line that names the first one, and the search goes on as it was."""
    spec = lab.spec(lab.SEARCH.replace("trials = 14", f'trials = 2\npruner = "{pruner}"'), epochs="1")
    assert lab.run("start", spec, "--workers", "0") == 0
    before = lab.store.require("search")
    capsys.readouterr()
    assert lab.run("start", spec, "--seeds", "1,0", "--set", "search.trials=3", "--workers", "0") == 2
    error = capsys.readouterr().err
    assert len(error.splitlines()) == 1 and "the seeds [0, 1], in this order" in error
    assert lab.store.require("search") == before
    assert lab.run("start", spec, "--set", "search.trials=3", "--workers", "0") == 0


def test_a_grid_takes_its_seeds_in_any_order(lab) -> None:
    """No result of it depends on that: what is done is found done."""
    assert lab.run("start", lab.spec(**QUICK), "--workers", "0") == 0
    before = trained(lab)
    assert lab.run("start", lab.spec(**QUICK | {"seeds": "[1, 0]"}), "--workers", "0") == 0
    assert trained(lab) == before


def test_a_seed_that_confirms_cannot_choose(lab, capsys) -> None:
    """It is refused before anything is changed; where an earlier version took it, nothing is confirmed any more."""
    begin(lab)
    assert lab.run("confirm", "line", "--seeds", "2", "--workers", "0") == 0
    confirmed = lab.store.require("line")
    capsys.readouterr()
    assert lab.run("start", lab.spec(**CONFIRMABLE), "--seeds", "0,1,2,10000", "--workers", "0") == 2
    error = capsys.readouterr().err
    assert len(error.splitlines()) == 1 and "confirmed under the seeds [10000]" in error
    assert lab.store.require("line") == confirmed
    assert shown(lab, capsys, "status", "line")["confirmation"]["is_current"]
    seeds = json.loads(confirmed["overrides"]) | {"study.seeds": [0, 1, 2, 10_000]}
    lab.store.update_study("line", overrides=json.dumps(seeds))
    assert not shown(lab, capsys, "status", "line")["confirmation"]["is_current"]
