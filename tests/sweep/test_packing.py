"""How many runs share a card: as many as its memory has room for, and as bring more epochs a second."""

from contextlib import closing
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from depth_loss_sweep.errors import SweepError
from depth_loss_sweep.executors import Event, fixed, make_executor, parse_workers
from depth_loss_sweep.executors.local import LocalExecutor
from depth_loss_sweep.executors.packing import GAIN, ROOM, Packing, Room
from tests.sweep.clusters import request_of

GB = 2**30


def packed(speeds: list[float], need: float, total: float = 80.0, cards: int = 1) -> tuple[Packing, list[str]]:
    """What comes of cards on which n runs train speeds[n - 1] epochs a second together, each in so many GB."""
    packing, said, clock = Packing(cards), [], 0.0
    for _ in range(1000):
        running = packing.size
        if packing.a_card * need > total:
            said.append(packing.out_of_memory())
            continue
        free = int((total - packing.a_card * need) * GB)
        for run in range(running):
            clock += 1 / (cards * speeds[min(packing.a_card, len(speeds)) - 1])
            said.append(packing.epoch(f"run {run}", clock, Room(free, int(total * GB)), running))
            if packing.size != running:
                break
        if packing.is_settled:
            break
    return packing, [line for line in said if line]


@pytest.mark.parametrize("cards", [1, 2])
def test_a_card_gets_runs_as_long_as_each_brings_something(cards: int) -> None:
    """Two are half as fast again as one, a third brings nothing: two it is, and the lines say why."""
    packing, said = packed([1.0, 1.5, 1.52], need=2, cards=cards)
    assert packing.a_card == 2 and packing.size == 2 * cards
    assert said == [
        "tries 2 runs on each card at once",
        "tries 3 runs on each card at once; 2 are 1.50 times as fast as 1",
        "2 on each card at once from now on: 3 make it 1.01 times as fast",
    ]


def test_one_that_fills_a_card_stays_alone() -> None:
    """A second run that slows the first down by as much as it does itself goes again."""
    packing, said = packed([1.0, 1.0], need=2)
    assert packing.a_card == 1 and said[-1].startswith("1 on each card at once from now on")


def test_memory_ends_it() -> None:
    """A run is not begun where what is free is no more than what one takes up; one that found no room leaves one fewer."""
    packing, said = packed([1.0, 2.0, 3.0], need=35)
    assert packing.a_card == 2 and said[-1] == "2 on each card at once from now on: its memory has no room for more"
    packing, said = packed([1.0, 2.0, 3.0], need=30)
    assert packing.a_card == 2
    three = Packing(a_card=3)
    assert three.out_of_memory() and three.a_card == 2 and three.is_settled
    assert not Packing().out_of_memory()


@given(
    st.lists(st.floats(0.2, 2.0), min_size=1, max_size=8).map(
        lambda steps: [sum(steps[: n + 1]) for n in range(len(steps))]
    ),
    st.floats(0.5, 60.0),
)
def test_it_ends_where_it_is_worth_it_and_fits(speeds: list[float], need: float) -> None:
    """Whatever the card: it settles, within its memory, and no step up to there brought less than it had to."""
    packing, _ = packed(speeds, need)
    assert packing.is_settled and packing.a_card * need <= 80
    at = [speeds[min(n, len(speeds)) - 1] for n in range(1, packing.a_card + 2)]
    assert all(after >= GAIN * before * 0.999 for before, after in pairwise(at[:-1]))
    assert at[-1] < GAIN * at[-2] * 1.001 or 80 - packing.a_card * need < ROOM * need * 1.001


def test_what_is_left_of_a_study_says_nothing() -> None:
    """While fewer runs are under way than there may be, nothing is concluded; nor from what the first epochs take."""
    packing = Packing(a_card=2, rates=[1.0])
    for clock in range(100):
        assert not packing.epoch("last", float(clock), Room(60 * GB, 80 * GB), 1)
    assert not packing.is_settled and packing.a_card == 2


FULL = """
import os

def full(pred, target, mask):
    try:
        os.unlink({mark!r})
    except FileNotFoundError:
        pass
    else:
        raise RuntimeError("CUDA out of memory")
    return ((pred - target).abs() * mask).sum((1, 2, 3)) / mask.sum((1, 2, 3))
"""


def test_a_run_that_finds_no_memory_leaves_one_fewer(lab) -> None:
    """There is one run at once from then on, and the worker that is left over ends, with its part of the card."""
    (lab.folder / "full.py").write_text(FULL.format(mark=str(lab.folder / "mark")))
    request = request_of(lab, lab.spec(lab.LINE + '[metrics.full]\nfunction = "full.py:full"\n', epochs="2"))
    (lab.folder / "mark").touch()
    with closing(make_executor("local", "auto")) as executor:
        assert isinstance(executor, LocalExecutor)
        executor.open(2, "cpu", lambda: False)
        executor.packing = Packing(a_card=2)  # as for a card
        for name in ("a", "b"):
            executor.submit(replace(request, run=name, folder=f"{request.folder}-{name}"))
        said: list[Event] = []
        while sum(event.ends for event in said) < 2:
            said += executor.poll(1.0)
        assert sorted(event.kind for event in said if event.ends) == ["failed", "finished"]
        assert [e.payload["text"] for e in said if not e.run] == [
            "1 on each card at once from now on: its memory has no room for more"
        ]
        assert executor.size == executor.free() == len(executor.workers) == 1


def test_the_command_line_takes_a_number_or_auto(lab) -> None:
    """Anything else is one line; on a CPU auto is a worker a core, as by default."""
    assert parse_workers("auto") == "auto" and parse_workers("3") == 3 and parse_workers(None) is None
    assert fixed("auto") is None and fixed(0) == 0
    with pytest.raises(
        SweepError, match="--workers many: expected a number of runs at once, 0 for this process, or auto"
    ):
        parse_workers("many")
    with closing(make_executor("local", None)) as usual, closing(make_executor("local", "auto")) as auto:
        assert usual.open(None, "cpu", lambda: False) == auto.open(None, "cpu", lambda: False)
    assert lab.run("start", lab.spec(name='"other"'), "--workers", "-1") == 2
