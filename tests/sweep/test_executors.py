"""What an executor says of itself, and what can be set of it."""

import json
import signal
from contextlib import closing
from pathlib import Path

import pytest
from pydantic import Field

from depth_loss_sweep.coordinator import Coordinator
from depth_loss_sweep.cores import usable_cores
from depth_loss_sweep.errors import SweepError
from depth_loss_sweep.executors import EXECUTORS, Event, RunRequest, make_executor, this_version
from depth_loss_sweep.executors.cards import next_card, shared_cards
from depth_loss_sweep.executors.inline import InlineExecutor
from depth_loss_sweep.executors.job import REQUEST, Attempt, decoded
from depth_loss_sweep.executors.local import LocalExecutor
from depth_loss_sweep.executors.ray_worker import look
from depth_loss_sweep.model import identity
from depth_loss_sweep.paths import SLURM, Home
from depth_loss_sweep.registry import Entry
from depth_loss_sweep.session import Session
from depth_loss_sweep.spec_file import load_spec
from depth_loss_sweep.store import Store, epoch_rows
from depth_loss_sweep.study import start
from tests.benchmarks.studies import InstantExecutor, Silent, grid_spec, search_spec


@pytest.mark.parametrize("workers", [0, 1])
def test_an_unknown_option_is_refused(workers) -> None:
    """In one line, before any worker is started."""
    with pytest.raises(SweepError, match=r"the option 'adress' is unknown to the executor 'local': it has none"):
        make_executor("local", workers, {"adress": "auto"})


@pytest.mark.parametrize("name", ["slurm", "ray"])
def test_no_worker_elsewhere_is_refused(lab, capsys, name: str) -> None:
    """0 is this process, and a cluster's jobs and actors are elsewhere: one line, before anything is asked of the cluster."""
    assert lab.run("start", "demo", "--executor", name, "--workers", "0") == 2
    assert "0 workers train in this process" in capsys.readouterr().err
    assert not lab.home.database.exists()


def test_known_options_are_named_and_passed_on(monkeypatch) -> None:
    """An executor's line in the registry lists what can be set of it."""
    where = Entry(code="types:SimpleNamespace", options={"address": (str, Field("auto", description="where it is"))})
    monkeypatch.setitem(EXECUTORS, "elsewhere", where)
    assert make_executor("elsewhere", 3, {"address": "there"}, Home(Path("home"))).address == "there"
    assert make_executor("elsewhere", 3).address == "auto"
    with pytest.raises(SweepError, match="expected one of address"):
        make_executor("elsewhere", 3, {"adress": "there"})


def test_an_executor_knows_how_many_workers_are_right(monkeypatch) -> None:
    """One a core on the CPU, one on an accelerator, as many as were asked for; none is this process."""
    monkeypatch.setattr(LocalExecutor, "_start", lambda self: None)
    local, cores = LocalExecutor(), usable_cores().count
    found = [local.open(*asked, lambda: False) for asked in ((None, "cpu"), (None, "cuda:0"), (3, "cuda:0"))]
    assert found == [cores, 1, 3] and local.describe().startswith("3 workers")
    assert InlineExecutor().open(None, "cpu", lambda: False) == 0


def test_workers_are_spread_over_the_cards() -> None:
    """All that torch sees, by the names that the surroundings give them; one that was asked for by number is the only one."""
    assert shared_cards("cuda", 3) == ("0", "1", "2") and shared_cards("cuda", 2, "7, GPU-a,9") == ("7", "GPU-a")
    assert shared_cards("cuda", 1) == shared_cards("cuda:1", 4) == shared_cards("cpu", 0) == ()
    assert next_card(("a", "b", "c"), ["a", "", "b", "a"]) == "c" and next_card(("a", "b"), ["b", "a"]) == "a"


WITNESS = """
import os
from pathlib import Path

def witness(pred, target, mask):
    Path({folder!r}, os.environ.get("CUDA_VISIBLE_DEVICES", "none")).touch()
    return ((pred - target).abs() * mask).sum((1, 2, 3)) / mask.sum((1, 2, 3))
"""


def test_each_worker_is_shown_its_own_card(lab) -> None:
    """By CUDA's own variable, set in the worker before it starts CUDA; what it trains sees nothing else."""

    class TwoCards(LocalExecutor):
        def open(self, *asked) -> int:
            workers = super().open(*asked)
            self.cards = ("3", "5")
            return workers

    seen = lab.folder / "seen"
    seen.mkdir()
    (lab.folder / "witness.py").write_text(WITNESS.format(folder=str(seen)))
    spec = load_spec(lab.spec(lab.LINE + '[metrics.witness]\nfunction = "witness.py:witness"\n', epochs="1"))
    with closing(TwoCards()) as executor:
        session = Session(lab.home, None, 2, "cpu", executor, "test", Silent(), lambda: False)
        assert start(spec, {}, session).finished
        assert executor.describe().startswith("2 workers") and executor.describe().endswith("on 2 of 2 cards")
    assert {path.name for path in seen.iterdir()} >= {"3", "5"}


class Counted(InstantExecutor):
    """Says how many runs were in hand at most."""

    most = last = 0

    def poll(self, timeout: float) -> list[Event]:
        """All that was submitted, once no more is: on a busy machine runs are handed out in several goes."""
        in_hand = self.slots - self.free()
        self.most = max(self.most, in_hand)
        is_more, self.last = in_hand > self.last, in_hand
        return [] if is_more else super().poll(timeout)


@pytest.mark.parametrize(("spec", "most"), [(grid_spec(10, seeds=8), 64), (search_spec(10, seeds=2), 8)])
def test_workers_are_kept_busy_where_that_changes_no_result(spec, most: int, tmp_path: Path) -> None:
    """A grid is asked ahead of search.parallel as far as there are workers; what a search asks depends on what was told."""
    executor = Counted(64)
    session = Session(Home(tmp_path), None, 64, "cpu", executor, "test", Silent(), lambda: False)
    assert start(spec, {}, session).finished
    assert executor.most == most


class Beaten(InstantExecutor):
    """Each of its workers dies, once another study has finished the run."""

    store: Store

    def submit(self, request: RunRequest) -> None:
        """Queued, finished elsewhere, and lost."""
        (Path(request.folder) / SLURM).mkdir(parents=True)
        super().submit(request)
        self.events.insert(0, Event(request.run, "queued"))
        for event in self.events[1:]:
            if event.kind == "epoch":
                self.store.add_epochs(epoch_rows(event.run, event.payload))
            else:
                self.store.finish_run(event.run, request.settings["train"]["epochs"], **event.payload)
        self.events[1:] = [Event(request.run, "died", {"reason": "its job ended"})]

    def free(self) -> int:
        """One at a time."""
        return int(not self.events)

    def poll(self, timeout: float) -> list[Event]:
        """One after the other."""
        return [self.events.pop(0)] if self.events else []


class Counting(Silent):
    """Remembers how many runs were queued and trained."""

    def __init__(self) -> None:
        self.seen: set[tuple[int, int]] = set()

    def update(self, coordinator: Coordinator) -> None:
        """Now."""
        self.seen.add((coordinator.queued, len(coordinator.training)))


def test_a_run_that_others_finish_meanwhile_is_taken_up(tmp_path: Path) -> None:
    """Whatever then becomes of the worker that was to train it is nobody's failure, and its job finds nothing to do.

    Until a worker begins it, it is queued, and not trained.
    """
    executor, display = Beaten(), Counting()
    session = Session(Home(tmp_path), None, 1, "cpu", executor, "test", display, lambda: False)
    executor.store = session.open(create=True)
    assert start(grid_spec(2), {}, session).finished
    runs = executor.store.runs("growth")
    assert [(run["state"], run["attempts"]) for run in runs] == [("finished", 1)] * 2
    assert (1, 0) in display.seen
    assert not any((session.home.run(run["run"]) / SLURM).exists() for run in runs)


def test_a_node_that_trains_other_numbers_is_another_version(tmp_path: Path, monkeypatch) -> None:
    """The version of the package stays what it is between two checkouts; both are asked of a node of Ray, and of a job of Slurm."""
    token, ours = tmp_path / "token", this_version()
    token.write_text("token")
    assert look("n1", ours, str(token)) == ""
    monkeypatch.setattr(identity, "TRAINING_VERSION", identity.TRAINING_VERSION + 1)
    assert f"n1 has sweep {this_version()}, the coordinator has {ours}" in look("n1", ours, str(token))
    (tmp_path / REQUEST).write_text(json.dumps({"version": ours}))
    for name in ("SLURM_JOB_ID", "SLURMD_NODENAME"):
        monkeypatch.setenv(name, "1")
    before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGUSR1)]
    Attempt(tmp_path).train()
    for number, handler in zip((signal.SIGTERM, signal.SIGUSR1), before, strict=True):
        signal.signal(number, handler)
    kind, said = decoded((tmp_path / "1.0.jsonl").read_bytes().splitlines()[-1])
    assert (kind, said["kind"]) == ("failed", "installation") and this_version() in said["reason"]
