"""Where runs diverged and why others failed: in `sweep status`, in its JSON, and in the exported tables."""

import csv
import io
import json
import math
from itertools import product
from random import Random

import pytest
from sqlalchemy import event, insert, text, update

from depth_loss_sweep.answer import study_decision
from depth_loss_sweep.instability import break_of
from depth_loss_sweep.model.names import TERMS
from depth_loss_sweep.reports.analysis import Analysis
from depth_loss_sweep.reports.naming import spec_recipe
from depth_loss_sweep.reports.wording import headline, verdict
from depth_loss_sweep.results import epoch_frame, study_record, trial_frame
from depth_loss_sweep.spec_file import stored_spec
from depth_loss_sweep.status import status
from depth_loss_sweep.tables import EPOCH, RUN, STUDY, TRIAL, TRIAL_RUN

BREAK = {"epoch": 2, "step": 7, "term": "silog", "grad_norm": math.nan}
POINT = json.dumps({"silog": 0.25, "l1": 0.75, "edge": 0.0})


@pytest.fixture
def study(lab):
    """A finished study of one trial and two runs."""
    assert lab.run("start", lab.spec(epochs="1", w="[0.3]"), "--workers", "0") == 0
    return lab


def add_trials(lab, count: int, outcome=lambda number: {"outcome": "non_finite"}) -> None:
    """Trials 1, 2, ... of a run each, which ended as `outcome(number)` says."""
    common = {"params": "{}", "drawn": "{}", "weights": POINT, "epochs": 1, "asked": "now", "state": "complete"}
    run = {"identity": "i", "environment": "{}", "settings": "{}", "attempts": 1, "epochs": 1, "mixed": False}
    ended = {"state": "finished", "outcome": None, "reason": None, "details": None}
    numbers = range(1, count + 1)
    with lab.store.begin() as connection:
        connection.execute(insert(TRIAL), [{"study": "line", "number": n, **common} for n in numbers])
        connection.execute(insert(RUN), [{**run, **ended, "run": f"{n:032x}", **outcome(n)} for n in numbers])
        links = [{"study": "line", "trial": n, "seed": 0, "run": f"{n:032x}"} for n in numbers]
        connection.execute(insert(TRIAL_RUN), links)


def mixed(number: int) -> dict:
    """Odd runs diverged, even ones failed."""
    if number % 2:
        return {"outcome": "non_finite", "reason": "it broke", "details": json.dumps({"break": BREAK})}
    trace = json.dumps({"traceback": "Traceback\n  ..."})
    return {"state": "failed", "reason": f"out of memory\n\x1b[31m in run {number}", "details": trace}


@pytest.mark.parametrize("objective", ["val_rmse", "val_delta1", "combined"])
@pytest.mark.parametrize("window", ["last", "2"])
def test_status_says_what_the_report_says(lab, objective, window) -> None:
    """Whatever the numbers are, ties, divergence and missing epochs included, both rest on one rule."""
    settings = ("--set", f"study.objective={objective}", "--set", f"study.value={window}")
    assert lab.run("start", lab.spec(epochs="2", w="[0.0, 0.2, 0.4, 0.6]"), "--workers", "0", *settings) == 0
    runs, random, store = lab.store.runs("line"), Random(0), lab.store
    said = set()
    for _ in range(12):
        spread = random.choice([0.001, 0.1])
        with store.begin() as connection:
            for run, epoch in product(runs, (1, 2)):
                value = None if random.random() < 0.02 else 0.8 + random.gauss(0, spread)
                where = (EPOCH.c.run == run["run"]) & (EPOCH.c.epoch == epoch)
                connection.execute(update(EPOCH).where(where).values(metric_rmse=value, metric_delta1=value))
                outcome = "non_finite" if random.random() < 0.03 else "learnt"
                connection.execute(update(RUN).where(RUN.c.run == run["run"]).values(outcome=outcome))
            trivial = {
                "val": {"median": dict.fromkeys(["metric_rmse", "metric_delta1"], random.choice([0.7, 0.8, 0.9]))}
            }
            state = random.choice(["complete", "complete", "running", "pruned"])
            connection.execute(update(STUDY).values(baselines=json.dumps(trivial)))
            connection.execute(update(TRIAL).where(TRIAL.c.number == 3).values(state=state))
        found, analysis = status(store, lab.home, "line"), Analysis(study_record(store, lab.home, "line"))
        named, decision = analysis.named, analysis.decision
        made_of = (named.weights, named.params) if named else ({}, {})
        best = found["best"] or {"trial": None, "verdict": "", "value": None, "weights": {}, "params": {}}
        assert (best["trial"], best["verdict"]) == (decision.trial, verdict(decision))
        assert (best["weights"], best["params"]) == made_of and best["value"] == pytest.approx(decision.mean)
        assert found["headline"] == headline(decision, spec_recipe(*made_of) if named else "", analysis.ranking)[0]
        stored = store.require("line")
        assert study_decision(store, stored, stored_spec(stored, store.shown_url))[0] == decision
        said.add(found["headline"].split(":")[0])
    assert len(said) > 1 or objective == "combined"


def test_status_names_what_diverged_and_what_failed(study, capsys) -> None:
    """The first five of each with weights and place or reason, how many more, and nothing that steers a terminal."""
    add_trials(study, 14, mixed)
    capsys.readouterr()
    assert study.run("status", "line") == 0
    out = capsys.readouterr().out
    first = "trial 1 seed 0 (silog 0.25, l1 0.75): epoch 2, step 7: silog is not finite, gradient norm nan"
    assert f"  diverged  {first}\n            trial 3 seed 0" in out
    assert "  failed    trial 2 seed 0 (silog 0.25, l1 0.75): out of memory \\x1b[31m in run 2\n" in out
    assert out.count("            ... and 2 more (all: --json)\n") == 2
    assert "trial 9 " in out and "trial 11 " not in out


def test_the_json_lists_all_of_them(study, capsys) -> None:
    """Complete and structured; a number that JSON has no word for is null."""
    add_trials(study, 14, mixed)
    capsys.readouterr()
    assert study.run("status", "line", "--json") == 0
    found = json.loads(capsys.readouterr().out, parse_constant=lambda word: pytest.fail(f"{word} is no JSON"))
    assert [run["trial"] for run in found["diverged"]] == [1, 3, 5, 7, 9, 11, 13]
    assert [run["trial"] for run in found["failed"]] == [2, 4, 6, 8, 10, 12, 14]
    expected = {
        "trial": 1,
        "seed": 0,
        "params": {},
        "weights": json.loads(POINT),
        "run": f"{1:032x}",
        "reason": "it broke",
    }
    assert found["diverged"][0] == expected | {"epoch": 2, "step": 7, "term": "silog", "grad_norm": None}
    assert found["failed"][0]["traceback"].startswith("Traceback")


@pytest.mark.parametrize(
    "details",
    [None, "", "{", "[]", "7", '"break"', "{}", '{"break": null}', '{"break": {"epoch": 1}}', "[" * 100_000,
     '{"break": {"epoch": "x", "step": 1, "term": "l1", "grad_norm": 1}}',
     '{"break": {"epoch": Infinity, "step": 1, "term": "l1", "grad_norm": 1}}',
     '{"break": {"epoch": 1e300, "step": 1, "term": "l1", "grad_norm": 1}}',
     '{"traceback": 3}'],
)  # fmt: skip
def test_details_that_cannot_be_read_do_no_harm(study, details, capsys) -> None:
    """Older versions kept none, and a database can be damaged: then the reason stands alone."""
    add_trials(study, 1, lambda _: {"outcome": "non_finite", "reason": "it broke", "details": details})
    assert break_of(details) is None
    capsys.readouterr()
    assert study.run("status", "line") == 0
    assert "trial 1 seed 0 (silog 0.25, l1 0.75): it broke\n" in capsys.readouterr().out
    assert study.run("export", "line") == 0
    assert list(csv.DictReader(io.StringIO(capsys.readouterr().out)))[-1]["break_epoch"] == ""


def test_a_missing_gradient_norm_is_nan() -> None:
    """What is known is told all the same."""
    found = break_of(json.dumps({"break": BREAK | {"grad_norm": None}}))
    assert found["epoch"] == 2 and math.isnan(found["grad_norm"])


def test_exported_runs_say_where_they_broke(study, capsys, tmp_path) -> None:
    """Four columns, whole numbers as such, empty where a run did not break; in Parquet, too."""
    import pandas as pd

    add_trials(study, 2, mixed)
    capsys.readouterr()
    assert study.run("export", "line") == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    columns = [f"break_{part}" for part in ("epoch", "step", "term", "grad_norm")]
    assert [[row[c] for c in columns] for row in rows] == [[""] * 4, [""] * 4, ["2", "7", "silog", ""], [""] * 4]
    assert study.run("export", "line", "--format", "parquet", "--output", str(tmp_path / "t")) == 0
    assert pd.read_parquet(tmp_path / "t" / "runs.parquet")["break_step"].tolist()[2] == 7


def test_an_exported_run_is_whole(lab, capsys) -> None:
    """One table is enough: a run's row has the trial's swept values and weights, and all numbers of its last epoch."""
    assert lab.run("start", lab.spec(epochs="2", seeds="[3]"), "--workers", "0") == 0
    capsys.readouterr()
    tables = {}
    for name in ("runs", "epochs"):
        assert lab.run("export", "line", "--table", name) == 0
        tables[name] = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert [run["var_w"] for run in tables["runs"]] == ["0.0", "0.3", "0.6"]
    assert [run["weight_silog"] for run in tables["runs"]] == ["0.9", "0.6", "0.3"]
    for run, split in product(tables["runs"], ("train", "val")):
        (last,) = (e for e in tables["epochs"] if (e["run"], e["split"], e["epoch"]) == (run["run"], split, "2"))
        numbers = {k: v for k, v in last.items() if k == "total" or k.startswith(("term_", "metric_"))}
        assert run["final_epoch"] == "2"
        assert {k.removeprefix(f"{split}_"): v for k, v in run.items() if k.startswith(f"{split}_")} == numbers
    assert lab.run("export", "line", "--format", "json") == 0
    assert list(json.loads(capsys.readouterr().out)["runs"][0]) == list(tables["runs"][0])


def test_exported_json_is_exact(study, capsys) -> None:
    """Every number comes back to its last bit, however small or large, and what is not finite as null."""
    values = [1.1e-17, 1 / 3, 5e-324, 1.7976931348623157e308, math.inf, 123456789.12345679]
    add_trials(study, len(values))
    with study.store.begin() as connection:
        for number, value in enumerate(values, 1):
            connection.execute(
                text("UPDATE sweep_trial SET value = :value WHERE number = :number"),
                {"value": value, "number": number},
            )
    capsys.readouterr()
    assert study.run("export", "line", "--format", "json") == 0
    found = json.loads(capsys.readouterr().out, parse_constant=lambda word: pytest.fail(f"{word} is no JSON"))
    assert [t["value"] for t in found["trials"][1:]] == [v if math.isfinite(v) else None for v in values]
    frames = {"trials": trial_frame(study.store, "line"), "epochs": epoch_frame(study.store, "line")}
    for key, frame in frames.items():
        for row, kept in zip(frame.to_dict("records"), found[key], strict=True):
            assert list(row) == list(kept)
            assert all(kept[c] == v or (kept[c] is None and not math.isfinite(v)) for c, v in row.items())
    assert set(found["trials"][0]) >= {f"weight_{term}" for term in TERMS}


def test_ten_thousand_trials_are_counted_by_the_database(study) -> None:
    """Status asks no more questions when every one of ten thousand runs diverged, and lists no more than it is to."""
    questions: list[str] = []
    store = study.store
    event.listen(store.engine, "before_cursor_execute", lambda *about: questions.append(about[2]))
    status(store, study.home, "line", 5)
    few = questions.copy()
    add_trials(study, 10_000, lambda _: {"outcome": "non_finite", "details": json.dumps({"break": BREAK})})
    questions.clear()
    found = status(store, study.home, "line", 5)
    assert len(questions) <= len(few) + 1 and len(found["diverged"]) == 5
    assert len(status(store, study.home, "line")["diverged"]) == 10_000


def test_evaluating_a_diverged_model_gives_valid_json(study, capsys, tmp_path) -> None:
    """A network of NaN has no metrics, and JSON no word for that but null."""
    from dataclasses import replace

    import numpy as np

    from depth_loss_sweep.model.checkpoint import read_checkpoint, write_checkpoint

    path = study.home.run(study.store.runs("line")[0]["run"]) / "checkpoint.npz"
    whole = read_checkpoint(path)
    broken = {name: np.full_like(array, np.nan) for name, array in whole.model.items()}
    write_checkpoint(tmp_path / "nan.npz", replace(whole, model=broken))
    capsys.readouterr()
    data = ("--data", "rooms", "--part", "val", "--set", "rooms=12")
    assert study.run("evaluate", str(tmp_path / "nan.npz"), *data, "--json") == 0
    found = json.loads(capsys.readouterr().out, parse_constant=lambda word: pytest.fail(f"{word} is no JSON"))
    assert found["model"]["rmse"] is None and found["median"]["rmse"] > 0


@pytest.mark.parametrize("how", ["missing", "damaged", "unreadable"])
def test_a_report_says_which_pictures_are_lost(study, how, capsys) -> None:
    """A result that was lost after the study's end is named in the notes, with what to do; the page is made without it."""
    [shown, *_] = study_record(study.store, study.home, "line").panels
    path = study.home.run(shown) / "result.npz"
    if how == "damaged":
        path.write_bytes(path.read_bytes()[:-100])
    else:
        path.unlink()
    if how == "unreadable":
        path.mkdir()
    record = study_record(study.store, study.home, "line")
    notes = [note for note in record.notes if str(path) in note]
    assert len(notes) == 1 and {"unreadable": "cannot be read"}.get(how, how) in notes[0] and "--home" in notes[0]
    assert shown not in record.panels
    capsys.readouterr()
    assert study.run("report", "line") == 0
    assert "are not shown" in study.home.report("line").read_text()


def test_what_was_stopped_between_two_trials_is_so_far(lab) -> None:
    """A trial that was not asked for yet may still win: status and page say so, though all that there are have ended."""
    assert lab.run("start", lab.spec(epochs="1", seeds="[0, 1, 2]"), "--workers", "0") == 0
    lab.make_learnt()
    with lab.store.begin() as connection:
        for table, column in ((TRIAL_RUN, TRIAL_RUN.c.trial), (TRIAL, TRIAL.c.number)):
            connection.execute(table.delete().where(column == 2))
        connection.execute(update(STUDY).values(state="interrupted"))
    assert Analysis(study_record(lab.store, lab.home, "line")).decision.so_far
    assert status(lab.store, lab.home, "line")["headline"].startswith("So far: ")
