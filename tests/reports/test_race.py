import math
from dataclasses import replace

import numpy as np
import pytest

from depth_loss_sweep.reports.race import Finals, decide, decide_by_finals, finalists
from depth_loss_sweep.reports.stages import Dropped, race_seeds
from depth_loss_sweep.reports.wording import headline, level, reasons
from tests.benchmarks import finals
from tests.benchmarks.race import BARS, Cell, cells, simulate, summary
from tests.reports.test_decision import RMSE, asked, made_up, noisy

STAGES = (3, 5, 8)
VALUES = noisy([0.6, 0.5, 0.5, 0.7, 0.71], 8, sd=0.012, seed=5)


def raced(trials, **about):
    """A race of three stages under the seeds 0 to 7."""
    return decide(trials, asked(stages=STAGES, seeds=tuple(range(8)), **about))


def under(values, seeds):
    """Trials of which each is trained under its first so many seeds."""
    return [
        replace(trial, seeds=trial.seeds[:n], state="running") for trial, n in zip(made_up(values), seeds, strict=True)
    ]


def said_of(decision):
    return headline(decision, "X", RMSE)[0]


def test_a_stage_drops_whom_the_best_excludes():
    """The rest goes on; who was dropped stands with the numbers of its stage, and words say how far the race is."""
    first = raced(under(VALUES, [3] * 5), is_unfinished=True)
    race = first.race
    assert (race.stage, race.seeds, race.began, race.next_seeds) == (1, 3, 5, 5)
    assert race.alive == first.kept == (1, 2)
    assert race.dropped == tuple(Dropped(n, 1, 3) for n in (0, 3, 4))
    assert first.state == "use" and first.gate_level == pytest.approx(0.05 / 3)
    assert "; raced: stage 1 of 3, 3 seeds, 2 of 5 weights left" in said_of(first)
    second = raced(under(VALUES, [3, 5, 5, 3, 3]), is_unfinished=True)
    assert second.race.stage == 2 and second.compared == (0, 1, 2, 3, 4)
    assert second.race.dropped[:3] == race.dropped
    assert [c.trial for c in second.contrasts] == [n for n in range(5) if n != second.trial]
    assert all(c.difference > 0.1 for c in second.contrasts if c.trial in (0, 3, 4))
    assert (
        "Dropped after 3 seeds: trials 0, 3, 4 (shown not to be the best); the numbers of that stage stand."
        in reasons(second, RMSE)
    )


def test_a_stage_is_decided_only_when_all_its_runs_are_stored():
    """Runs that came early change nothing, in whatever order they came."""
    whole = raced(under(VALUES, [3] * 5))
    for seeds in ([3, 5, 3, 3, 3], [3, 4, 4, 3, 3], [3, 3, 5, 3, 3]):
        assert raced(under(VALUES, seeds)) == whole
    early = raced(under(VALUES, [3, 3, 2, 3, 3]), is_unfinished=True)
    assert (early.race.stage, early.race.next_seeds, early.race.alive) == (0, 3, (0, 1, 2, 3, 4))
    assert early.so_far and early.left == {2: "unfinished"} and "raced" not in said_of(early)


def test_a_race_that_is_over_stays_so_whoever_it_dropped():
    """An earlier version's rule dropped a weight that today's keeps: it isn't asked for again, and stands with its stage's numbers."""
    short = [replace(t, seeds=t.seeds[:n]) for t, n in zip(made_up(VALUES), (3, 8, 3, 3, 3), strict=True)]
    end = raced(short)
    assert Dropped(2, 1, 3) in end.race.dropped and end.race.alive == (1,) and end.race.next_seeds is None
    assert end.trial == 1 and {c.trial for c in end.contrasts} == {0, 2, 3, 4}
    going_on = raced([replace(t, state="running") for t in short])
    assert going_on.race.next_seeds == 5 and going_on.race.alive == (1, 2)


def test_what_is_trained_beyond_a_stage_that_ended_the_race_is_not_looked_at():
    """The race that went on to the end equals the one whose weights were all trained to the end."""
    trials, needed = made_up(VALUES), [3] * 5
    while (decision := raced(under(VALUES, needed))).race.next_seeds:
        needed = [decision.race.next_seeds if n in decision.race.alive else needed[n] for n in range(5)]
    assert sum(needed) < 40
    assert decision == raced(trials)


def test_a_rejection_stays_and_one_survivor_without_one_is_never_used():
    """A drop is no rejection: the first stage's gate is not asked again of those that are left."""
    end = raced(made_up(VALUES))
    assert end.state == "use" and end.race.stage > 1 and end.gate_p < end.gate_level
    # Two seeds without any spread are far below a third that breaks: the gate, asked of all runs, doesn't see through that.
    values = np.array([[0.5, 0.5001, 0.4999], [0.6, 0.6001, 0.5999]])
    broke = [(1, 0), (1, 1), (1, 2)]
    values[1] = (0.4, 0.7, 0.5)
    alone = decide(made_up(values, broke=broke), asked(stages=(3, 5), seeds=tuple(range(5))))
    assert (alone.state, alone.kept, alone.race.next_seeds) == ("undecided", (0,), None)


def test_a_race_ends_where_nothing_can_be_won():
    """Nothing learnt, every run diverged, one weight: more seeds are not asked for."""
    for values in ([[0.95] * 3] * 2, [[math.inf] * 3] * 2, [[0.5, 0.51, 0.52]]):
        decision = raced(made_up(values))
        assert (decision.race.stage, decision.race.next_seeds) == (1, None)


def test_a_failed_run_leaves_at_its_stage():
    """What the stages before said stands; the trial is named among those that are not compared."""
    trials = under(VALUES, [3, 5, 5, 3, 3])
    last = trials[2].seeds[-1]
    failed = last._replace(outcome="failed", is_finished=False, value=math.nan, broke=None)
    trials[2] = replace(trials[2], seeds=(*trials[2].seeds[:-1], failed), state="failed")
    decision = raced(trials)
    assert decision.left == {2: "failed"} and decision.race.dropped[0] == Dropped(0, 1, 3)
    assert decision.trial == 1 and 2 not in decision.compared and decision.race.next_seeds is None


def test_trials_that_show_the_same_runs_race_once():
    """The second is named, and asks for no more runs."""
    trials = under(VALUES, [3] * 5)
    trials.append(replace(trials[1], number=5))
    decision = raced(trials)
    assert decision.left == {5: "the same runs as trial 1"} and 5 not in decision.race.alive
    assert decision.race.began == 5


def test_trials_left_without_a_difference_are_equivalent_among_themselves():
    """Whoever was dropped is not said to be within the margin."""
    values = noisy([0.5, 0.5, 0.5, 0.53], 8, sd=0.004, shared=0.02, seed=3)
    decision = raced(made_up(values), margin=0.02)
    assert decision.state in ("use", "equivalent") and decision.is_settled


# A search, whose best are raced

SEARCHED = made_up(noisy(np.linspace(0.5, 0.6, 8), 3))
SEARCH = asked(line=False, is_search=True)
FRESH = tuple(range(20_000, 20_008))


def raced_best(values, best):
    """The best of the search in a race in which they have these values."""
    trials = [replace(t, number=n) for t, n in zip(made_up(values), best, strict=True)]
    return Finals(tuple(replace(t, seeds=_fresh(t)) for t in trials), FRESH, STAGES)


def _fresh(trial):
    return tuple(value._replace(seed=20_000 + value.seed) for value in trial.seeds)


def test_a_search_waits_for_the_race_of_its_best():
    """Undecided whatever its own numbers say, and nothing is claimed by them but who is ahead."""
    own = decide(SEARCHED, SEARCH)
    best = finalists(SEARCHED, own, RMSE)
    assert [t.number for t in best] == [own.trial, *(n for n in range(5) if n != own.trial)]
    waiting = Finals(tuple(replace(t, seeds=(), state="running") for t in best), FRESH, STAGES)
    decision = decide_by_finals(own, SEARCH, waiting)
    assert (decision.state, decision.trial, decision.kept, decision.bound) == (
        "undecided",
        own.trial,
        (0, 1, 2, 3, 4),
        None,
    )
    assert not decision.contrasts and decision.race.next_seeds == 3
    assert said_of(decision) == "Undecided until its best are raced under fresh seeds; X is ahead"
    assert any("so trials 0, 1, 2, 3, 4 are raced under fresh seeds" in said for said in reasons(decision, RMSE))
    assert "those of the race will count" in level(decision, RMSE)
    under_way = raced_best(VALUES[:, :3], range(5))
    decision = decide_by_finals(own, SEARCH, under_way)
    assert decision.state == "undecided" and decision.kept == decision.race.alive != (0, 1, 2, 3, 4)
    assert "raced: stage 1 of 3, 3 seeds" in said_of(decision)


def test_the_race_of_its_best_decides_a_search():
    """By the search's numbers of trials; its own values, which chose them, are not quoted."""
    own = decide(SEARCHED, SEARCH)
    won = raced_best(noisy([0.6, 0.6, 0.5, 0.6, 0.6], 8), (0, 1, 2, 3, 4))
    decision = decide_by_finals(own, SEARCH, won)
    assert (decision.state, decision.trial, decision.kept) == ("use", 2, (2,)) and decision.is_confirmed
    assert decision.seeds == FRESH[:3] and decision.mean == pytest.approx(np.mean(won.trials[2].values[:3]))
    assert decision.left == dict.fromkeys((5, 6, 7), "not among the best that were raced")
    assert "of the best raced" in said_of(decision) or "X: the best raced" in said_of(decision)
    assert any("winner's curse" in said for said in reasons(decision, RMSE))
    assert not any("winner's curse" in said for said in reasons(raced(made_up(VALUES)), RMSE))
    again = decide_by_finals(own, SEARCH, replace(won, looks=2))
    assert (
        again.gate_level == pytest.approx(decision.gate_level / 2)
        and "with others of the search" in reasons(again, RMSE)[0]
    )


def test_a_newcomer_among_the_best_opens_the_race_again():
    """A search that has grown is undecided until whoever wasn't raced has been."""
    own = decide(SEARCHED, SEARCH)
    won = raced_best(noisy([0.6, 0.6, 0.5, 0.6, 0.6], 8), (0, 1, 2, 3, 4))
    newcomer = replace(won.trials[0], number=7, seeds=(), state="running")
    decision = decide_by_finals(own, SEARCH, replace(won, trials=(*won.trials[:4], newcomer)))
    assert decision.state == "undecided" and decision.race.stage == 0 and 7 in decision.kept
    nothing = decide(made_up([[0.95] * 3] * 2), SEARCH)
    assert decide_by_finals(nothing, SEARCH, Finals((), FRESH, STAGES)) is nothing and not finalists(
        SEARCHED, nothing, RMSE
    )


@pytest.mark.parametrize("correlation", [0.86, 0.0])
def test_the_answer_of_a_raced_search_holds_its_error(correlation):
    """Where all points are equal nothing is to be used in 95 % of searches; the search's own numbers flatter, those of the race hardly."""
    rates = finals.simulate(finals.Cell("equal", 3, correlation), 300, whole=5)
    assert rates["use"] < 0.07 and rates["bound wrong"] < 0.07 and rates["disagreeing"] == 0
    flattering = [rates[f"the {whose} looks better than it is by (%)"] for whose in ("search's first", "race's")]
    assert flattering[0] > 1 and flattering[1] < flattering[0] / 2


def test_seeds_of_a_race_go_on_after_those_given():
    """In their order, then the next whole numbers."""
    assert race_seeds((0, 1, 2), 5) == (0, 1, 2, 3, 4)
    assert race_seeds((7, 3), 4) == (7, 3, 8, 9)
    assert race_seeds((0, 1, 2, 3), 3) == (0, 1, 2)


@pytest.mark.parametrize("curve", ["start 5%", "dip 4%"])
def test_the_simulated_race_is_the_one_that_decides(curve):
    """What the benchmark races as arrays, `decide` says of whole records, asked what to train next."""
    cell = Cell("race", curve, 0.86)
    rates = simulate(cell, 12, whole=2)
    assert rates["disagreeing"] == 0 and rates["best dropped"] == 0 and rates["ratio"] < 1
    assert len({c.name for c in cells()}) == len(cells())
    assert (
        f"race, correlation 0.86, all curves (bar {BARS[0.86]['race']})"
        in summary([(cell, rates)])["mean ratios of runs, and bars"]
    )
