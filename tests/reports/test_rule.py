import numpy as np
import pytest

from depth_loss_sweep.reports.rule import Design, judge
from tests.benchmarks.answer import Cell, above, record, simulate, summary


@pytest.mark.parametrize("cell", [Cell("equal", "normal", 0.5, 5, 5), Cell("dip 4%", "last collapse", 0.9, 5, 5)])
def test_the_simulated_rule_is_the_one_that_decides(cell):
    """What the benchmark judges as arrays, `decide` says of whole records; neither cell is above its bars."""
    rates = simulate(cell, 60, whole=8)
    assert rates["disagreeing"] == 0 and above(cell, rates, 60) == {}
    assert any("none" in table for table in summary([(cell, rates)], 60).values())


def test_studies_are_judged_one_by_one():
    """A study is judged alone as it is among others."""
    rng = np.random.default_rng(1)
    y = 0.05 * np.arange(4)[None, :, None] * rng.integers(0, 2, (6, 1, 1)) + 0.01 * rng.standard_normal((6, 4, 5))
    unbroken, nameable = rng.random(y.shape) > 0.1, np.ones(y.shape[:2], dtype=bool)
    design = Design(np.linspace(0, 1, 4), np.array([3, 2, 1, 0]), 0.02, 0.05)
    together = judge(y, unbroken, nameable, design)
    for i in range(6):
        alone = judge(y[i : i + 1], unbroken[i : i + 1], nameable[i : i + 1], design)
        for name in ("rejects", "all_within", "kept", "named", "bound", "is_simplest"):
            assert getattr(alone, name)[0] == pytest.approx(getattr(together, name)[i])


def test_made_up_records_are_whole():
    """Two of six runs broke."""
    broken = np.array([[True, False, False], [False, False, True]])
    assert record(np.ones((2, 3)), broken, True).runs["outcome"].tolist().count("flat") == 2
