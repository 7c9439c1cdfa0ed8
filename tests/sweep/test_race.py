"""Raced studies: stage by stage, dropped and told, and equal however often they are killed."""

import io
import json
import os
import signal
from contextlib import closing
from functools import partial

import optuna
import pytest
from rich.console import Console

from depth_loss_sweep.display import ProgressDisplay
from depth_loss_sweep.errors import SpecError
from depth_loss_sweep.executors import make_executor
from depth_loss_sweep.export import study_decision
from depth_loss_sweep.session import Session
from depth_loss_sweep.spec_file import load_spec, parse_spec, stored_spec
from depth_loss_sweep.study import start

from .conftest import KILLED_UNDER, KILLS

"""Of each number of workers."""

RACE = """
[study]
name = "line"
margin = 0.00001
[data]
image_size = 16
rooms = 12
[model]
width = 2
[train]
epochs = 4
batch_size = 8
schedule = "constant"
[search]
race = true
stages = [3, 4, 5]
"train.learning_rate" = [1e-5, 1e-2, 1.2e-2]
[weights]
silog = 0.5
ssim = 0.5
"""


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ('pruner = "median"', "search.race drops trials itself: remove search.pruner"),
        ('"data.image_size" = [16, 32]', "trials on different data cannot be compared"),
        ("stages = [3, 3]", "search.stages"),
        ("stages = [2, 5]", "from 3 to 1000"),
    ],
)
def test_what_cannot_be_raced_is_refused(lines: str, said: str) -> None:
    """In one line that says what to do."""
    with pytest.raises(SpecError) as refused:
        parse_spec(f"[search]\nrace = true\n{lines}\n[weights]\nl1 = 1\n", {"study.name": "s"})
    assert said in str(refused.value) and "\n" not in str(refused.value)


def test_stages_are_a_races_and_have_room_for_the_seeds() -> None:
    """Stages without a race would be ignored in silence, and so would seeds beyond the last stage."""
    grid = '[search]\nstages = [3, 4]\nw = [0.1, 0.9]\n[weights]\nl1 = "w"\n'
    with pytest.raises(SpecError, match="are those of a race"):
        parse_spec(grid, {"study.name": "s"})
    with pytest.raises(SpecError, match="5 seeds, and the race's last stage 4"):
        parse_spec(grid, {"study.name": "s", "search.race": True, "study.seeds": [0, 1, 2, 3, 4]})
    spec = parse_spec(grid, {"study.name": "s", "search.race": True, "study.seeds": [7, 1]})
    assert (spec.seeds, spec.all_seeds) == ((7, 1, 8), (7, 1, 8, 9))


def begun(lab, workers: str) -> str:
    """Begin a race, kill it at its first epoch, and make it one in which something is learnt; returns its spec."""
    spec = lab.spec(RACE)
    process = lab.spawn("start", spec, "--workers", workers)
    lab.wait_for_epochs(1, process)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    lab.make_learnt()
    return spec


def told(lab) -> list[tuple[str, dict]]:
    """A race's trials as Optuna has them."""
    study = optuna.load_study(study_name="line", storage=f"sqlite:///{lab.home.database}")
    return [(t.state.name, t.user_attrs) for t in study.trials]


def test_a_race_drops_and_goes_on(lab, capsys) -> None:
    """The least and the most runs are said first, then the stages; Optuna is told all trials in order, with their seeds."""
    spec = begun(lab, "0")
    capsys.readouterr()
    assert lab.run("start", spec, "--workers", "0") == 0
    out, err = capsys.readouterr()
    assert "line: at least 9 and at most 15 runs (3 trials, raced under 3 to 5 seeds)" in err
    assert "stage 1 of 3: 3 seeds" in err and "stage 2 of 3: 4 seeds, 2 of 3 weights left" in err
    assert "no val_rmse yet" not in err.partition("stage 2 of 3")[2] and "so far" not in err.splitlines()[-1]
    assert "raced: stage 3 of 3, 5 seeds, 2 of 3 weights left" in out
    assert told(lab) == [
        ("COMPLETE", {"weights": t[1]["weights"], "n": n}) for t, n in zip(told(lab), (3, 5, 5), strict=True)
    ]
    assert lab.run("best", "line", "--json") == 0
    best = json.loads(capsys.readouterr().out)
    assert best["race"]["dropped"] == [{"trial": 0, "stage": 1, "seeds": 3}] and best["kept"] == [1, 2]
    store = lab.store
    decision, *_ = study_decision(store, store.require("line"), stored_spec(store.require("line"), ""))
    assert json.loads(json.dumps(decision.as_dict()))["race"] == best["race"]
    capsys.readouterr()
    for change in ("study.seeds=[0,1,2,3]", "study.margin=0.1", "search.race=false"):
        assert lab.run("start", spec, "--set", change) == 2
        assert len(capsys.readouterr().err.splitlines()) == 1
    assert lab.run("report", "line") == 0


def test_a_race_says_who_is_ahead_before_it_ends(lab, capsys) -> None:
    """Over the seeds that are trained, of the weights left, to the end of a stage and beyond; status as for any study."""
    spec = begun(lab, "0")
    rows_of_a_stage = 2 * 4 * 9  # both splits, of each epoch of each run
    for rows, said in ((10, "so far, over 1 seed;"), (rows_of_a_stage + 10, "2 of 3 weights left; lowest val_rmse")):
        console = Console(file=io.StringIO(), width=1000)
        with closing(make_executor("local", 0)) as executor, EachLine(console) as show:
            stop = partial(lambda most: lab.epochs_done() >= most, rows)
            session = Session(lab.home, None, 0, "auto", executor, "", show, stop)
            assert not start(load_spec(spec), {}, session).finished
        last = console.file.getvalue().splitlines()[-1]
        assert said in last and "so far, over" in last
    assert lab.run("status", "line") == 0
    assert "answer    So far: " in capsys.readouterr().out


class EachLine(ProgressDisplay):
    """A line at each turn of the coordinator."""

    def update(self, coordinator) -> None:
        """Forget what was said last."""
        self.last_state = (-1, 0, False, -1)
        super().update(coordinator)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_a_race_that_is_killed_ends_as_one_left_alone(new_lab) -> None:
    """SIGKILL again and again, under one worker and three: trials, runs, epochs and the answer are the same."""
    alone = new_lab()
    begun(alone, "0")
    assert alone.run("resume", "line", "--workers", "0") == 0
    for workers in KILLED_UNDER:
        kills = 0
        while kills < KILLS:  # a busy machine trains more between two kills, so that one race may have room for fewer
            other = new_lab()
            kills += raced_through(other, begun(other, workers), workers, KILLS - kills)
            assert other.numbers("line") == alone.numbers("line")
            assert told(other) == told(alone)


def raced_through(lab, spec: str, workers: str, most: int) -> int:
    """Run a race to its end, killing it at most so often; returns how often it was killed."""
    kills = 0
    while True:
        process = lab.spawn("start", spec, "--workers", workers)
        if kills < most:
            lab.wait_for_epochs(lab.epochs_done() + 1 + kills % 3, process)
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                kills += 1
        _, errors = process.communicate()
        assert process.returncode in (0, -signal.SIGKILL) and "Traceback" not in errors, errors
        if process.returncode == 0:
            return kills
