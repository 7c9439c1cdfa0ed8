"""What a study's answer cost, wherever it is told: the runs that it asked for, whoever trained them, and what came of them."""

import json

import pytest
from sqlalchemy import update

from depth_loss_sweep.costs import run_costs, run_spans, study_cost
from depth_loss_sweep.tables import RUN

from .conftest import Lab

TWO = {"epochs": "1", "seeds": "[0]", "w": "[0.3, 0.6]"}
PRUNED = ("--set", "search.pruner=median", "--set", "search.warmup_epochs=1", "--set", "search.startup_trials=1",
          "--set", "search.parallel=1", "--set", "train.epochs=6")  # fmt: skip


def shown(lab: Lab, capsys, *arguments: str) -> dict:
    """What a command prints as JSON."""
    capsys.readouterr()
    assert lab.run(*arguments) == 0
    return json.loads(capsys.readouterr().out)


def test_every_command_tells_the_same_cost(lab, capsys) -> None:
    """status, best and export in the same words and numbers, and the page; the seconds of its runs on one thread of a CPU."""
    assert lab.run("start", lab.spec(**TWO), "--workers", "0") == 0
    lab.make_learnt()
    exported = shown(lab, capsys, "export", "line", "--format", "json")
    cost = exported["cost"]
    assert cost == shown(lab, capsys, "status", "line", "--json")["cost"]
    assert cost == shown(lab, capsys, "best", "line", "--json")["cost"]
    assert cost["cpu_seconds"] == pytest.approx(sum(run["seconds"] for run in exported["runs"]))
    assert (cost["gpu_seconds"], cost["runs"], cost["elsewhere"], cost["confirming"]) == (0, 2, 0, None)
    for command, told in (("best", f"Cost: {cost['said']}.\n"), ("status", f"  cost      {cost['said']}\n")):
        assert lab.run(command, "line") == 0
        assert told in f"{capsys.readouterr().out}\n"
    assert lab.run("report", "line") == 0
    assert cost["said"] in lab.home.report("line").read_text(encoding="utf-8")


def test_runs_of_another_study_are_counted_and_named(lab) -> None:
    """What is shared was trained once, and cost what it cost; what was copied was trained elsewhere, too."""
    assert lab.run("start", lab.spec(**TWO), "--workers", "0") == 0
    assert lab.run("start", lab.spec(**{**TWO, "w": "[0.0, 0.3, 0.6]"}), "--name", "more", "--workers", "0") == 0
    first, more = (study_cost(lab.store, name).finding for name in ("line", "more"))
    assert (first.elsewhere, more.runs, more.elsewhere) == (0, 3, 2) and more.cpu_seconds > first.cpu_seconds
    assert [len(run_spans(lab.store, name)) for name in ("line", "more")] == [2, 1]
    with lab.store.begin() as connection:
        connection.execute(update(RUN).values(origin="there"))
    assert study_cost(lab.store, "line").finding.elsewhere == 2 and run_spans(lab.store, "line") == ()


def test_when_runs_were_trained(lab) -> None:
    """From its start to its end; a run that was stopped and resumed counts from its end back, so long as it was trained."""
    assert lab.run("start", lab.spec(**TWO), "--workers", "0") == 0
    stamps = {"started": "2026-01-01T10:00:00+00:00", "finished": "2026-01-01T11:00:00+00:00"}
    for run, seconds in zip((cost.run for cost in run_costs(lab.store, "line")), (3590.0, 600.0), strict=True):
        with lab.store.begin() as connection:
            connection.execute(update(RUN).where(RUN.c.run == run).values(seconds=seconds, **stamps))
    assert [span.end - span.begin for span in run_spans(lab.store, "line")] == [3600.0, 600.0]


def test_threads_and_cards_count_for_what_they_are(lab) -> None:
    """A CPU's seconds times its threads; a card's as they are."""
    assert lab.run("start", lab.spec(**TWO), "--workers", "0") == 0
    keys = [cost.run for cost in run_costs(lab.store, "line")]
    environments = ({"device": "cpu", "threads": 4}, {"device": "cuda", "model": "NVIDIA H100"})
    with lab.store.begin() as connection:
        for run, environment in zip(keys, environments, strict=True):
            columns = {"seconds": 10.0, "environment": json.dumps(environment)}
            connection.execute(update(RUN).where(RUN.c.run == run).values(**columns))
    found = study_cost(lab.store, "line").finding
    assert (found.cpu_seconds, found.gpu_seconds) == (40.0, 10.0)
    assert found.text == "40 CPU-seconds and 10 GPU-seconds for 2 runs, each by its own clock"


def test_a_run_that_was_dropped_cost_what_it_was_trained(lab) -> None:
    """Of a pruned trial, the epochs up to there; a run that never began isn't counted."""
    assert lab.run("start", lab.spec(), *PRUNED, "--workers", "0") == 0
    dropped = {row["run"] for row in lab.store.runs("line") if row["state"] == "dropped"}
    trained = {row["run"] for row in lab.store.epochs("line")}
    costs = run_costs(lab.store, "line")
    assert {cost.run for cost in costs} == trained and dropped & trained and dropped - trained
    assert all(cost.seconds > 0 for cost in costs)
