"""What an answer cost: sums over runs, and how they are said."""

import pytest

from depth_loss_sweep.reports.analysis import Analysis
from depth_loss_sweep.reports.cost import Cost, RunCost, StudyCost, total
from depth_loss_sweep.reports.page import render


def test_a_run_counts_once_however_often_it_is_shown():
    """Two trials and two studies with one run: its seconds once, and it is own where any of them trained it."""
    runs = [RunCost("a", 10.0, is_own=False), RunCost("b", 5.0), RunCost("a", 10.0), RunCost("c", 2.0, True, False)]
    assert total(runs) == total(reversed(runs)) == Cost(15.0, 2.0, 3, 1)


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0.34, "0.34 CPU-seconds"),
        (42, "42 CPU-seconds"),
        (600, "10 CPU-minutes"),
        (7560, "2.1 CPU-hours"),
        (450_000, "125 CPU-hours"),
        (7_200_000, "2,000 CPU-hours"),
    ],
)
def test_time_is_said_in_the_unit_that_fits(seconds, said):
    """Two digits, and never a power of ten."""
    assert Cost(seconds, 0.0, 1, 0).text == f"{said} for 1 run"


def test_cpu_and_gpu_and_what_was_trained_elsewhere_are_told_apart():
    """Each kind by itself, and of how many runs another study or place had the work; confirming apart."""
    found = Cost(7200.0, 120.0, 62, 12)
    assert found.text == "2 CPU-hours and 2 GPU-minutes for 62 runs, 12 of them taken over, each by its own clock"
    assert (
        total([RunCost("a", 60.0), RunCost("b", 1.0, is_ended=False)]).text
        == "61 CPU-seconds for 2 runs, 1 of them not through"
    )
    both = StudyCost.of([RunCost("a", 60.0)], [RunCost("b", 30.0)])
    assert both.text == "60 CPU-seconds for 1 run; confirming it: 30 CPU-seconds for 1 run"
    numbers = both.as_dict()
    assert numbers["cpu_seconds"] == 60.0 and numbers["confirming"]["cpu_seconds"] == 30.0
    assert StudyCost.of([]).text == "" and StudyCost.of([]).as_dict()["confirming"] is None


def test_the_page_says_what_the_answer_cost(study):
    """Beside the answer, and in what made it; a study that trained nothing says nothing."""
    record = study(trials=4)
    said = Analysis(record).cost.text
    assert said.endswith("CPU-minutes for 12 runs")
    page = render([record])
    assert page.count(said) == 2 and "What did it cost?" in page
    assert "What did it cost?" not in render([study(trials=2, finished=0)])
