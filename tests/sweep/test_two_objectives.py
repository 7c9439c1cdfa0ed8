"""Studies of two objectives: told, stored and read by both, decided by the first, equal however often they are killed."""

import json
import math
import os
import signal
from wsgiref.util import setup_testing_defaults

import optuna
import pytest

from depth_loss_sweep.errors import SpecError
from depth_loss_sweep.objective import Objective
from depth_loss_sweep.objectives import StudyObjective
from depth_loss_sweep.paths import CONFIRMED
from depth_loss_sweep.projection import Projection, Suggester
from depth_loss_sweep.samplers import SAMPLERS
from depth_loss_sweep.spec_file import load_spec, parse_spec
from depth_loss_sweep.store import Store

from .conftest import LEFT_ALONE

BOTH = ("val_rmse", "val_delta1")
GIVEN = ("--set", f"study.objective={json.dumps(BOTH)}")
COLUMNS = tuple(StudyObjective.named(name, 2).column for name in BOTH)
LINE = '[search]\nw = [0.1, 0.9]\n[weights]\nl1 = "w"\n'
PRUNED = ("--set", "search.pruner=median", "--set", "search.warmup_epochs=1", "--set", "search.startup_trials=1",
          "--set", "search.parallel=1", "--set", "train.epochs=6")  # fmt: skip


def loaded(lab, name: str) -> optuna.Study:
    return optuna.load_study(study_name=name, storage=f"sqlite:///{lab.home.database}")


@pytest.mark.parametrize(
    ("objective", "said"),
    [
        (["val_rmse"], "expected a metric, such as"),
        (["val_rmse", "val_mae", "val_log10"], "expected a metric, such as"),
        (["val_rmse", 3], "expected a metric, such as"),
        (["val_rmse", "val_boundry_f1"], "did you mean 'val_boundary_f1'?"),
        (["val_rmse", "val_rmse"], "names val_rmse twice"),
        (["val_rmse", "combined"], "is not comparable, so it makes no front"),
    ],
)
def test_what_cannot_be_two_objectives_is_refused(objective: list, said: str) -> None:
    """In one line that says what to do."""
    with pytest.raises(SpecError) as refused:
        parse_spec(LINE, {"study.name": "s", "study.objective": objective})
    assert said in str(refused.value) and "\n" not in str(refused.value)


def test_a_sampler_of_one_objective_is_refused_two() -> None:
    """CMA-ES goes by one number; every other sampler takes both."""
    for name, sampler in SAMPLERS.items():
        search = {"search.sampler": name, "study.objective": [*BOTH]}
        if sampler.takes_two:
            assert load_spec("lambda-search", search).objective.name == BOTH[0]
            continue
        with pytest.raises(SpecError, match="goes by one objective, and"):
            load_spec("lambda-search", search)
    assert [name for name, sampler in SAMPLERS.items() if not sampler.takes_two] == ["cmaes"]


def test_both_objectives_are_told_stored_and_read(lab) -> None:
    """Each trial has both values, as its runs make them; Optuna has both directions, and the front that follows from them."""
    assert lab.run("start", lab.spec(), "--workers", "0", *GIVEN) == 0
    spec = parse_spec(lab.LINE, {"study.objective": [*BOTH]})
    trials, runs = lab.store.trials("line"), lab.store.runs("line")
    for trial in trials:
        for key, objective in zip(("value", "second_value"), spec.objectives, strict=True):
            of_trial = [run["run"] for run in runs if run["trial"] == trial["number"]]
            ends = [objective.value_of_run(lab.store.curve(run, objective.column, 3), "learnt") for run in of_trial]
            assert trial[key] == pytest.approx(sum(ends) / len(ends))
    study = loaded(lab, "line")
    assert [d.name for d in study.directions] == ["MINIMIZE", "MAXIMIZE"]
    assert [t.values for t in study.trials] == [[t["value"], t["second_value"]] for t in trials]
    assert study.metric_names == [*BOTH] and study.user_attrs["objective"] == [*BOTH]
    assert study.best_trials


def test_the_front_is_on_page_and_command_line_alike(lab, capsys) -> None:
    """`best`, `status`, `start`, export and page say the same of both objectives; the decision is of the first."""
    lab.run("start", lab.spec(), "--workers", "0", *GIVEN)
    lab.make_learnt()
    capsys.readouterr()
    assert lab.run("start", lab.spec(), "--workers", "0", *GIVEN, "--seeds", "3") == 0
    said = capsys.readouterr().out
    assert lab.run("best", "line", "--json") == 0
    best = json.loads(capsys.readouterr().out)
    front = best["front"]
    assert best["objective"] == BOTH[0] and best["is_first_of_two"] and "; by RMSE alone" in best["headline"]
    assert front["seeds"] == [0, 1, 2] and len(front["trials"]) == 3
    members = [trial for trial in front["trials"] if trial["is_on_front"]]
    assert members and all(len(trial["means"]) == 2 and trial["lows"][0] is not None for trial in members)
    assert lab.run("status", "line", "--json") == 0
    status = json.loads(capsys.readouterr().out)
    assert status["objective"] == BOTH[0]
    assert [t["trial"] for t in status["front"]["trials"]] == [t["trial"] for t in front["trials"]]
    assert f"{len(members)} of 3 trials" in status["front_headline"] and status["front_headline"] in said
    assert lab.run("status", "line") == 0
    assert status["front_headline"] in capsys.readouterr().out
    assert lab.run("best", "line") == 0
    lines = capsys.readouterr().out.splitlines()
    assert f"{status['front_headline']}." in lines
    assert sum(line.startswith("trial ") and "RMSE" in line and "δ" in line for line in lines) == len(members)
    assert lab.run("export", "line", "--format", "json") == 0
    exported = json.loads(capsys.readouterr().out)
    assert exported["decision"]["front"]["seeds"] == [0, 1, 2]
    assert all(trial["second_value"] is not None for trial in exported["trials"])
    assert lab.run("report", "line") == 0
    page = lab.home.report("line").read_text(encoding="utf-8")
    assert "The front of RMSE and" in page and "; by RMSE alone" in page


def test_the_dashboard_opens_a_study_of_two_objectives(lab) -> None:
    """Its server answers for the study, with both values of each trial."""
    dashboard = pytest.importorskip("optuna_dashboard")
    assert lab.run("start", lab.spec(epochs="1"), "--workers", "0", *GIVEN) == 0
    serve = dashboard.wsgi(f"sqlite:///{lab.home.database}")
    number = loaded(lab, "line")._study_id
    environ: dict = {"PATH_INFO": f"/api/studies/{number}"}
    setup_testing_defaults(environ)
    status = []
    told = json.loads(b"".join(serve(environ, lambda *about: status.append(about[0]))))
    assert status == ["200 OK"]
    assert [len(trial["values"]) for trial in told["trials"]] == [2, 2, 2]


def test_objectives_are_a_studys_own(lab, capsys) -> None:
    """A study of one does not become a study of two: its trials were told by what it had."""
    assert lab.run("start", lab.spec(epochs="1"), "--workers", "0") == 0
    assert lab.run("start", lab.spec(epochs="1"), "--workers", "0", *GIVEN) == 2
    errors = capsys.readouterr().err.splitlines()
    assert "study.objective" in errors[-1] and "--name" in errors[-1]
    assert [trial["second_value"] for trial in lab.store.trials("line")] == [None] * 3
    assert lab.run("start", lab.spec(epochs="1"), "--workers", "0", *GIVEN, "--name", "both") == 0
    assert [run["attempts"] for run in lab.store.runs("both")] == [1] * 6  # the runs are the same


def test_a_study_of_two_grows_and_is_copied(lab) -> None:
    """More seeds are trained and both values told anew; a copy, as text and back, has both."""
    assert lab.run("start", lab.spec(epochs="1"), "--workers", "0", *GIVEN) == 0
    before = loaded(lab, "line").trials[0].values
    assert lab.run("start", lab.spec(epochs="1"), "--workers", "0", *GIVEN, "--seeds", "3") == 0
    grown = [t.values for t in loaded(lab, "line").trials]
    assert grown == [[t["value"], t["second_value"]] for t in lab.store.trials("line")]
    assert loaded(lab, "line@1").trials[0].values == before != grown[0]
    text = lab.folder / "text"
    assert lab.run("copy", "line", "--to", str(text)) == 0
    assert lab.run("copy", "line", "--from", str(text), "--name", "again") == 0
    assert [t.values for t in loaded(lab, "again").trials] == grown
    assert lab.run("delete", "again", "--yes") == 0


def test_pruning_goes_by_the_first(lab, new_lab) -> None:
    """The same trials are pruned as by the first alone; Optuna reads of them what was reported, and of the second nothing."""
    alone = new_lab()
    assert alone.run("start", alone.spec(), "--workers", "0", *PRUNED) == 0
    assert lab.run("start", lab.spec(), "--workers", "0", *PRUNED, *GIVEN) == 0
    kept = ("number", "state", "value", "epochs")
    one, two = ([{k: t[k] for k in kept} for t in each.store.trials("line")] for each in (alone, lab))
    assert one == two and "pruned" in {trial["state"] for trial in two}
    for trial, ours in zip(loaded(lab, "line").trials, lab.store.trials("line"), strict=True):
        if ours["state"] == "pruned":
            first = lab.store.trial_run("line", trial.number, 0)
            assert trial.state.name == "PRUNED" and trial.values is None
            assert trial.intermediate_values == {ours["epochs"]: ours["value"]}
            assert ours["second_value"] == lab.store.curve(first, COLUMNS[1], ours["epochs"])[-1]


def test_an_objective_that_is_undefined_is_told_as_the_worst(lab, capsys) -> None:
    """Where nothing is far, the second objective has no value: it is said at once, and Optuna gets infinity."""
    objectives = 'study.objective=["val_rmse","val_rmse_far"]'
    limits = ("--set", "data.depth_range=[0.1, 3.5]", "--set", objectives)
    assert lab.run("start", lab.spec(epochs="1", seeds="[0]", w="[0.3]"), "--workers", "0", *limits) == 0
    assert "val_rmse_far is not defined on any of these validation pictures" in capsys.readouterr().err
    trial = lab.store.trials("line")[0]
    assert math.isfinite(trial["value"]) and trial["second_value"] == math.inf
    assert loaded(lab, "line").trials[0].values == [trial["value"], math.inf]
    assert lab.run("best", "line") == 0
    assert lab.run("report", "line") == 0


def test_a_failed_trial_has_neither_value(lab) -> None:
    """What Optuna is told of a failure is that it failed."""
    projection = Projection(
        Store.open(lab.home, create=True), parse_spec(LINE, {"study.name": "s", "study.objective": [*BOTH]})
    )
    ended = {"params": {"w": 0.1}, "weights": {"l1": 0.1}, "epochs": 3, "asked": "2026-01-02T03:04:05+00:00", "n": 1}
    projection.reconcile(
        [
            {"number": 0, "state": "failed", "value": None, "second_value": None, **ended},
            {"number": 1, "state": "complete", "value": math.inf, "second_value": -math.inf, **ended},
            {"number": 2, "state": "pruned", "value": math.nan, "second_value": math.nan, **ended},
        ]
    )
    projection.close()
    assert [(t.state.name, t.values) for t in loaded(lab, "s").trials] == [
        ("FAIL", None),
        ("COMPLETE", [math.inf, -math.inf]),
        ("PRUNED", None),
    ]


ENDS = ("failed", "complete", "complete", "diverged", "pruned", "pruned without a value")


def suggested(sampler: str, restart_at: set[int], count: int = 30, parallel: int = 3) -> list[dict]:
    """Ask and tell two objectives in the designed order, building the suggester anew before some trials."""
    search = {
        "search.trials": count,
        "search.parallel": parallel,
        "search.sampler": sampler,
        "study.objective": [*BOTH],
    }
    spec = load_spec("lambda-search", search)
    suggester, log = Suggester(spec), []

    def tell(number: int) -> None:
        how = ENDS[number % len(ENDS)]
        point = log[number]["params"]
        values = {"failed": (None, None), "diverged": (math.inf, -math.inf), "pruned without a value": (math.nan,) * 2}
        value, second = values.get(how, (point["silog"] ** 2 + 0.1 * point["edge"], 1 - point["ssim"] ** 2))
        suggester.tell(number, "complete" if how == "diverged" else how.partition(" ")[0], value, 1, second)

    for number in range(count):
        if number in restart_at:
            suggester = Suggester(spec)
            for i, earlier in enumerate(log):
                suggester.restore(earlier["drawn"])
                if i <= number - parallel:
                    tell(i)
        params, drawn = suggester.ask()
        log.append({"params": params, "drawn": drawn})
        if number - parallel + 1 >= 0:
            tell(number - parallel + 1)
    return log


@pytest.mark.parametrize("sampler", [name for name, each in SAMPLERS.items() if each.takes_two])
def test_suggestions_by_two_objectives_survive_restarts(sampler: str) -> None:
    """A suggester that is rebuilt goes on bit for bit, however trials ended; infinity and what was pruned among them."""
    count = 18 if sampler == "gp" else 30  # from the tenth on each of its trials takes a second
    assert suggested(sampler, {1, 4, 5, 12, 13, 17, 29}, count) == suggested(sampler, set(), count)


def test_a_sampler_goes_by_both() -> None:
    """What NSGA-II and TPE draw depends on the second objective, too."""
    for sampler in ("nsga2", "tpe"):
        search = {"search.sampler": sampler, "search.trials": 40, "search.parallel": 1, "study.objective": [*BOTH]}
        drawn = []
        for sign in (1, -1):
            suggester = Suggester(load_spec("lambda-search", search))
            points = []
            for number in range(40):
                points.append(suggester.ask()[0])
                suggester.tell(number, "complete", points[-1]["silog"], 1, sign * points[-1]["ssim"])
            drawn.append(points)
        assert drawn[0][:10] == drawn[1][:10] and drawn[0] != drawn[1]


def test_a_spec_of_two_objectives_is_an_optuna_objective(lab) -> None:
    """For people who drive `study.optimize` themselves: both values, as `sweep start` tells them."""
    spec = parse_spec(lab.LINE, {"study.seeds": [0], "train.epochs": 1, "study.objective": [*BOTH]})
    study = optuna.create_study(directions=["minimize", "maximize"], sampler=optuna.samplers.RandomSampler(seed=0))
    study.optimize(Objective(spec, home=lab.home.root, device="cpu"), n_trials=1)
    assert len(study.trials[0].values) == 2 and all(map(math.isfinite, study.trials[0].values))


@pytest.mark.slow
def test_a_search_by_two_objectives_is_the_same_for_any_number_of_workers_and_kills(new_lab) -> None:
    """Trials, runs and epochs, both values among them, to the last bit; and so is what Optuna reads."""
    found = []
    settings = {"sampler": '"nsga2"', "trials": "18", "seeds": "[0]", "objective": json.dumps(BOTH)}
    text = new_lab().SEARCH.replace("seeds =", "objective = []\nseeds =")
    for workers in LEFT_ALONE:
        other = new_lab()
        assert other.run("start", other.spec(text, **settings), "--workers", workers) == 0
        found.append((other.numbers("search"), [t.values for t in loaded(other, "search").trials]))
    killed = new_lab()
    spec = killed.spec(text, **settings)
    for rows in (4, 20, 36):  # of 18 trials' 72
        process = killed.spawn("start", spec, "--workers", "2")
        killed.wait_for_epochs(rows, process)
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
    assert killed.run("resume", "search", "--workers", "1") == 0
    found.append((killed.numbers("search"), [t.values for t in loaded(killed, "search").trials]))
    assert "second_value" in found[0][0][0]
    assert all(each == found[0] for each in found)


def test_a_race_of_two_objectives_is_decided_by_the_first(lab, capsys) -> None:
    """It drops what it would drop by the first alone, and its front is of the seeds that all trials have."""
    race = ("--set", "search.race=true", "--set", "search.stages=[3,4]", "--seeds", "3")
    answers = []
    for name, given in (("one", ()), ("two", GIVEN)):
        assert lab.run("start", lab.spec(epochs="1"), "--workers", "0", *race, *given, "--name", name) == 0
        lab.make_learnt(name)
        capsys.readouterr()
        assert lab.run("best", name, "--json") == 0
        answers.append(json.loads(capsys.readouterr().out))
    same = ("state", "trial", "kept", "bound", "race")
    assert {key: answers[0][key] for key in same} == {key: answers[1][key] for key in same}
    assert answers[0]["front"] is None and {*answers[1]["front"]["seeds"]} <= {0, 1, 2, 3}


def test_the_winner_by_the_first_is_confirmed_by_it(lab, capsys) -> None:
    """What is quoted is of the first objective; fresh runs are told by both."""
    given = ("--workers", "0", *GIVEN, "--seeds", "3")
    assert lab.run("start", lab.spec(epochs="1", w="[0.0, 0.6]"), *given) == 0
    lab.make_learnt()
    assert lab.run("confirm", "line", "--seeds", "2", "--workers", "0") == 0
    assert "Confirmed: " in capsys.readouterr().out
    confirming = lab.store.companion("line", CONFIRMED)["name"]
    assert all(trial["second_value"] is not None for trial in lab.store.trials(confirming))
    assert len(loaded(lab, confirming).directions) == 2
    assert lab.run("best", "line") == 0
    said = capsys.readouterr().out
    assert "Confirmed: " in said and "on the front of RMSE and" in said
