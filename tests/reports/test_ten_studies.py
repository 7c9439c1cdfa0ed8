"""Ten made-up studies of known truth: the decision, the sentence of best and status, and the page say the same, and no more."""

import html
import math
import re
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import pytest

from depth_loss_sweep.reports import decide
from depth_loss_sweep.reports.analysis import Analysis
from depth_loss_sweep.reports.naming import spec_recipe
from depth_loss_sweep.reports.page import render
from depth_loss_sweep.reports.records import StudyRecord
from depth_loss_sweep.reports.summary import answer
from depth_loss_sweep.reports.wording import amount, headline, level, reasons, warning

from .conftest import make_study


def made_up(
    levels: tuple[float, ...], seeds: int, sd: float = 0.01, kind: str = "line", objective: str = "val_rmse"
) -> StudyRecord:
    """A finished study whose trials have these levels of RMSE; a relative noise of `sd`, and three times as much that seeds share."""
    rng = np.random.default_rng(0)
    noise = np.exp(3 * sd * rng.standard_normal((1, seeds)) + sd * rng.standard_normal((len(levels), seeds)))
    values = {at: float(value) for at, value in np.ndenumerate(np.array(levels)[:, None] * noise)}
    return make_study(kind, len(levels), seeds, values=values, objective=objective)


def half_broken() -> StudyRecord:
    """Every trial's runs end flat under three of six seeds."""
    record = made_up((0.5, 0.5, 0.52, 0.55), 6)
    record.runs.loc[record.runs["seed"] < 3, "outcome"] = "flat"
    return record


def all_diverged() -> StudyRecord:
    """No run has a value."""
    return make_study(trials=3, seeds=1, diverged=(0, 1, 2))


def shared_runs() -> StudyRecord:
    """The last trial shows the first one's runs."""
    record = made_up((0.5, 0.6, 0.7, 0.5), 5)
    first, last = (record.runs["trial"] == trial for trial in (0, 3))
    record.runs.loc[last, "run"] = record.runs.loc[first, "run"].to_numpy()
    return record


def undefined_in_some_runs() -> StudyRecord:
    """The metric is NaN in one run of the second trial, and in most runs of the last."""
    record = made_up((0.5, 0.6, 0.7), 5)
    of = record.runs["trial"] * 10 + record.runs["seed"]
    runs = record.runs.loc[of.isin([12, 20, 21, 22]), "run"]
    record.epochs.loc[record.epochs["run"].isin(runs), "metric_rmse"] = math.nan
    return record


def more_is_better() -> StudyRecord:
    """By a fraction, which is compared in its unit."""
    record = made_up((0.5, 0.6, 0.62), 6, objective="val_delta1")
    delta1 = replace(record.measures["metric_delta1"], unit="fraction")
    return replace(record, measures={**record.measures, "metric_delta1": delta1})


@dataclass(frozen=True)
class Known:
    """A study, what its numbers allow, and a part of a sentence that has to be said."""

    study: Callable[[], StudyRecord]
    state: str
    trial: int | None
    said: str


TEN = {
    "all equal": Known(lambda: made_up((0.5,) * 5, 12, sd=0.002), "equivalent", 0, "doesn't make them equal"),
    "a clear winner": Known(lambda: made_up((0.6, 0.5, 0.6, 0.65), 8), "use", 1, "the best tried (95 %, on these 100 pictures)"),
    "half broken": Known(half_broken, "use", 0, "that is of unbroken runs: 3 of its 6 broke"),
    "one seed": Known(lambda: made_up((0.5, 0.6, 0.7), 1), "anecdote", 0, "Fewer than three tell no difference from luck"),
    "all diverged": Known(all_diverged, "diverged", None, "every compared run went non-finite"),
    "all trivial": Known(lambda: made_up((0.8, 0.85, 0.9), 4), "not_learnt", None, "say nothing about depth"),
    "shared runs": Known(shared_runs, "use", 0, "Not compared: trial 3 (the same runs as trial 0)."),
    "swept rate": Known(lambda: made_up((0.5, 0.6, 0.52, 0.7), 5, kind="grid"), "use", 0, "with train.learning_rate = 0.0001"),
    "NaN in some runs": Known(undefined_in_some_runs, "use", 0, "Not compared: trial 2 (not measured)."),
    "more is better": Known(more_is_better, "use", 0, "compared trials do, by their means. Trial 0 (w = 0) is 0.083 better"),
}  # fmt: skip
ADVICE = re.compile(r"\bUse |recommended|best tried")


@pytest.mark.parametrize("name", TEN)
def test_decision_sentence_and_page_agree(name: str) -> None:
    """In state and number, and to the letter but for what a trial is called."""
    known, record = TEN[name], TEN[name].study()
    analysis = Analysis(record)
    decision, measure, named = analysis.decision, analysis.ranking, analysis.named
    assert decide(record) == decision
    assert (decision.state, decision.trial, named and named.number) == (known.state, known.trial, known.trial)
    page = html.unescape(render([record]))
    summary = answer(analysis)
    said = " ".join([summary.headline, *(f.text for f in summary.findings)])
    assert known.said in said.replace("\u00a0", " ")
    assert summary.headline in page and all(reason in page for reason in reasons(decision, measure))
    recipe, of_spec = (f(named.weights, named.params) if named else "" for f in (analysis.recipe, spec_recipe))
    assert headline(decision, recipe, measure)[0] == summary.headline
    assert headline(decision, of_spec, measure)[0].replace(of_spec, "X") == summary.headline.replace(recipe, "X")
    if named is None:
        assert not level(decision, measure) and decision.mean is decision.bound is None
        return
    unbroken = [s.value for s in named.seeds if s.seed in decision.seeds and not s.broke]
    assert decision.mean == pytest.approx(np.mean(unbroken))
    assert (
        f"{measure.label} is {measure.write(decision.mean)}" in level(decision, measure)
        and level(decision, measure) in page
    )
    if decision.state == "use" and decision.bound:
        assert f"within {amount(decision.bound, decision, measure)} of the best tried" in summary.headline


@pytest.mark.parametrize("name", TEN)
def test_no_sentence_says_more_than_the_state_allows(name: str) -> None:
    """Advice comes from a rejected gate alone, and green with a bound within the margin and no broken run; each number has its doubt."""
    analysis = Analysis(TEN[name].study())
    decision, summary = analysis.decision, answer(analysis)
    said = " ".join([summary.headline, *(f.text for f in summary.findings)])
    assert bool(ADVICE.search(said)) == (decision.state == "use")
    breaks = decision.breaks_of(decision.trial)
    is_whole = decision.state == "use" and decision.is_settled and not (breaks and breaks.broken)
    assert (summary.tone == "good") == is_whole
    assert bool(warning(decision)) == (decision.state in ("anecdote", "undecided"))
    chosen = decision.state in ("use", "anecdote")
    assert ("which flatter it" in said) == chosen
    if decision.gate_p is not None:
        assert ("is rejected" in said) == (decision.state == "use") and "95\u00a0%" in summary.headline
        assert "nothing is said of other pictures" in said and "on other scenes" not in said
    for number in decision.left:
        assert f"trial {number} (" in said or f"trials {number}" in said


def test_an_interval_that_says_nothing_shows_no_powers_of_ten() -> None:
    """Three seeds and a thousand pairs allow anything: that is more than 1000 %, not 1.3e+22 %."""
    analysis = Analysis(made_up((0.5, 0.6), 4))
    said = [amount(value, analysis.decision, analysis.ranking) for value in (1.3e20, 9.99, -0.5)]
    assert said == ["> 1000 %".replace(" ", "\u00a0"), "1000\u00a0%", "−50\u00a0%"]
