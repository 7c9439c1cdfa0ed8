"""What a page says before anything is opened."""

import re
from dataclasses import replace

import pytest

from depth_loss_sweep.reports.analysis import Analysis
from depth_loss_sweep.reports.confirmation import WINNER, ConfirmationRecord, FreshRun
from depth_loss_sweep.reports.contrasts import EQUAL_WEIGHTS
from depth_loss_sweep.reports.overview import Step, overview
from depth_loss_sweep.reports.page import reach_of, render
from depth_loss_sweep.reports.references import Candidate
from tests.reports.test_page import STATES, without_plotly

WORDS = 60


def rows(record):
    """Row name -> its cells' texts by column, with ordinary spaces."""
    found = overview(Analysis(record))
    columns = (*found.columns, "share")
    cells = {
        row.name: (*(c.text for c in row.levels), row.gain, row.share.replace("\u00a0", " ")) for row in found.rows
    }
    return {name: dict(zip(columns, texts, strict=True)) for name, texts in cells.items()}


def points(study, **options):
    """Table 2, equal weights, L1 alone and the edge term alone, in this order of RMSE."""
    values = {(t, s): 0.5 + 0.05 * t + 0.002 * ((t + s) % 3) for t in range(4) for s in range(5)}
    return study("points", trials=4, seeds=5, values=values, baseline=2.0, **options)


def test_the_winner_stands_beside_what_everybody_knows(study):
    """Each with its level, and by how much the winner is better: paired, in metres and per cent, with an interval."""
    found = rows(points(study))
    winner, *others = found
    assert winner == "trial 0, recommended, the paper's Table 2"
    assert others == ["equal weights", "L1 alone", "training mean map"]
    assert (
        found["equal weights"]["RMSE (m)"] == "0.5524" and found["equal weights"]["gain of trial 0"] == "0.051\u00a0m"
    )
    told = re.fullmatch(r"(\S+) % \((\S+) to (\S+) %\)", found["equal weights"]["share"])
    share, low, high = map(float, told.groups())
    assert low < share < high and share == pytest.approx(100 * (1 - 0.5016 / 0.5524), abs=0.1)
    assert found["training mean map"]["share"] == "72 %" and found[winner]["gain of trial 0"] == "–"
    assert {"delta1", "boundary_f1"} <= {*found[winner]}


def test_an_interval_as_good_as_none_is_told_by_its_bound(study):
    """Not "−4192": beyond 1000 % nothing is said but that, in the table and wherever intervals are drawn."""
    record = study("points", trials=4, diverged=(1,), values={(1, 0): 0.7, (1, 1): 0.9}, baseline=2.0)
    assert re.fullmatch(r"\S+ % \(< −1000 to \d+ %\)", rows(record)["equal weights"]["share"])
    assert reach_of(Analysis(study(diverged=(8, 9)))) < 1


def test_what_the_study_did_not_train_is_named_in_a_line(study):
    """On a line without equal weights or L1 alone: no rows of dashes but a line with the command; its end is in Table 2's place."""
    values = {(t, s): 0.5 + 0.05 * t + 0.002 * ((t + s) % 3) for t in range(3) for s in range(5)}
    record = study(trials=3, seeds=5, values=values, baseline=2.0)
    found = overview(Analysis(record))
    assert [row.about for row in found.rows[1:]] == ["w = 0.45", "looks at no picture"]
    assert "neighbour" in found.rows[1].name and [row.trial for row in found.rows] == [0, 1, None]
    assert found.missing == Step("Not measured: equal weights, L1 alone.", "sweep confirm ssim-vs-edge")
    assert "test not measured" in found.caption
    assert overview(Analysis(points(study))).missing is None
    unfinished = overview(Analysis(study(trials=3, finished=7))).missing
    assert unfinished.text.startswith("Not measured: ") and unfinished.command == ""


@pytest.mark.parametrize("options", [{"seeds": 1}, {"kind": "point", "trials": 1}, {"diverged": (6, 8)}])
def test_the_weights_stand_on_every_first_screen(study, options):
    """Of an anecdote, a single trial and an undecided study, too: paler, for they are no advice."""
    analysis = Analysis(study(**options))
    page = without_plotly(render([analysis.record]))
    assert analysis.decision.state in ("anecdote", "single", "undecided") and 'class="recipe pale"' in page


def test_what_was_confirmed_is_told_of_the_test_pictures(study):
    """Levels and gains come from the fresh seeds; what nobody confirmed has none."""
    record = points(study)
    candidates = (
        Candidate("trial 0", (WINNER,), {"ssim": 0.55, "edge": 0.45, "l1": 0.05}, trial=0),
        Candidate("equal", (EQUAL_WEIGHTS,), dict.fromkeys(("silog", "ssim", "edge", "l1"), 1.0)),
    )
    runs = tuple(
        FreshRun(c.name, 10_000 + s, f"{c.name}{s}", "learnt", True, 0.6, level + 0.001 * s)
        for c, level in zip(candidates, (0.6, 0.8), strict=True)
        for s in range(4)
    )
    seeds = tuple(range(10_000, 10_004))
    confirmed = ConfirmationRecord(candidates, seeds, runs, test_images=4, outcomes=record.outcomes)
    record = replace(record, confirmation=confirmed)
    found = rows(record)
    column = "RMSE, test (m)"
    assert [cells[column] for cells in found.values()] == ["0.6015", "0.8015", "–", "–"]
    assert found["equal weights"]["gain of trial 0"] == "0.2\u00a0m" and found["L1 alone"]["gain of trial 0"] == "–"
    assert overview(Analysis(record)).step is None


@pytest.mark.parametrize(
    ("options", "command"),
    [
        ({"finished": 13}, "sweep resume ssim-vs-edge"),
        ({"seeds": 1}, "sweep start ssim-vs-edge --data pairs:/data/nyu --seeds 5"),
        ({"kind": "simplex"}, "sweep confirm ssim-vs-edge"),
        ({"baseline": 0.4}, ""),
        ({"values": {(t, s): 0.5 + s / 90 for t in range(10) for s in range(3)}}, "sweep confirm ssim-vs-edge"),
    ],
)
def test_what_would_decide_more_has_its_command(study, options, command):
    """To go on, to add seeds, to confirm; of what a person has to think about there is a sentence alone."""
    step = overview(Analysis(study(**options))).step
    assert step.command == command and step.text


def test_the_sentence_names_the_seeds_that_would_decide(study):
    """An undecided study asks for as many as its noise takes, in addition to its own."""
    spread = {(t, s): 0.6 + 0.01 * t + 0.06 * ((2 * t + 3 * s) % 5) for t in range(3) for s in range(4)}
    analysis = Analysis(study(trials=3, seeds=4, values=spread, baseline=2.0))
    needed = analysis.decision.seeds_needed
    assert analysis.decision.state == "undecided" and needed > 4
    assert overview(analysis).step.command == f"sweep start ssim-vs-edge --data pairs:/data/nyu --seeds {needed}"


def test_what_w_is_stands_in_the_words_of_the_spec(study):
    """Affine weights, and the values that were tried; a simplex by its sum, named points by their names."""
    record = study()
    weights = {"ssim": ["0.9", {"w": "-1"}], "edge": ["0", {"w": "1"}], "silog": ["0", {}], "l1": ["0.05", {}]}
    record = replace(record, spec={**record.spec, "weights": weights})
    said = "SSIM = 0.9 − w, edge = w, L1 = 0.05; w: 10 values from 0 to 0.9"
    assert overview(Analysis(record)).space == said
    assert overview(Analysis(study("simplex", trials=4))).space == "SILog + SSIM + edge + L1 = 1"
    assert overview(Analysis(study("points", trials=4))).space == "weights: paper-table-2, equal, l1, edge"
    assert "train.learning_rate: 0.0001, 0.001" in overview(Analysis(study("grid", trials=4))).space


@pytest.mark.parametrize("state", STATES)
def test_the_first_screen_has_few_words(study, state):
    """One sentence, and what would decide more: whatever else there is to say is a click away."""
    page = without_plotly(render([study(**STATES[state])]))
    first = page[page.index('class="first"') : page.index('<details class="grounds">')]
    first = re.sub(r"<details.*?</details>|<script.*?</script>", "", first, flags=re.DOTALL)
    prose = re.findall(
        r"<h2>(.*?)</h2>|<p class=\"(?:step|notice|progress)\">(.*?)</p>|<caption>(.*?)</caption>", first
    )
    assert 0 < len(" ".join(map("".join, prose)).split()) <= WORDS
