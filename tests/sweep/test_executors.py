"""What an executor says of itself, and what can be set of it."""

from pathlib import Path

import pytest
from pydantic import Field

from depth_loss_sweep.cores import usable_cores
from depth_loss_sweep.errors import SweepError
from depth_loss_sweep.executors import EXECUTORS, Event, make_executor
from depth_loss_sweep.executors.inline import InlineExecutor
from depth_loss_sweep.executors.local import LocalExecutor
from depth_loss_sweep.paths import Home
from depth_loss_sweep.registry import Entry
from depth_loss_sweep.session import Session
from depth_loss_sweep.study import start
from tests.benchmarks.studies import InstantExecutor, Silent, grid_spec, search_spec


@pytest.mark.parametrize("workers", [0, 1])
def test_an_unknown_option_is_refused(workers) -> None:
    """In one line, before any worker is started."""
    with pytest.raises(SweepError, match=r"the option 'adress' is unknown to the executor 'local': it has none"):
        make_executor("local", workers, {"adress": "auto"})


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
