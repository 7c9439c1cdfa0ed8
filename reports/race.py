"""A race replayed from its trials: which stages are decided, who was dropped, and what is to be trained next.

It is a pure function of the trials: whoever asks, in whatever order runs ended, however often the study was killed, it says
the same. Rules and words of a race are in `reports.stages`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from depth_loss_sweep.reports import decision
from depth_loss_sweep.reports.contrasts import ranked
from depth_loss_sweep.reports.decision import Contrast, Decision, Question, contrasts_with, decided_by, left_out
from depth_loss_sweep.reports.measures import Measure
from depth_loss_sweep.reports.rule import is_over
from depth_loss_sweep.reports.scenes import PictureValues
from depth_loss_sweep.reports.stages import Dropped, Race
from depth_loss_sweep.reports.trials import FAILED, TOLD, TrialResult


def decide(trials: Sequence[TrialResult], question: Question, pictures: PictureValues | None = None) -> Decision:
    """What a study's numbers allow to be said; of a race, what the last stage says of which all runs are stored.

    A trial with a failed run leaves at the first stage that asks for that run; what earlier stages said stands.
    """
    if not question.stages:
        return decision.decide(trials, question, pictures)
    racing = order = sorted(trials, key=lambda t: t.number)
    first = [_under(t, _seeds(question, 1)) for t in racing]
    left = left_out(first)
    began = tuple(t.number for t in first if left.get(t.number, "unfinished") == "unfinished")
    if not racing or "unfinished" in left.values():
        said = decision.decide(first, question, pictures, among=len(began))
        return replace(said, race=Race(0, len(question.stages), 0, len(began), began, (), question.stages[0]))
    stages: list[Decision] = []
    dropped: list[Dropped] = []
    is_over_for_good = all(t.state in TOLD for t in order)  # before that none of a race is told
    for stage, seeds in enumerate(question.stages, start=1):
        runners = [_under(t, _seeds(question, stage)) for t in racing]
        waiting = {n for n, why in left_out(runners).items() if why == "unfinished"}
        if waiting and (not is_over_for_good or len(waiting) == len(runners)):
            break
        # A race that is over may have dropped by an earlier version's rule what today's would keep.
        dropped += [Dropped(n, stage - 1, question.stages[stage - 2]) for n in sorted(waiting)]
        runners, racing = ([t for t in these if t.number not in waiting] for these in (runners, racing))
        said = decision.decide(runners, question, pictures, stages[-1] if stages else None, len(began))
        stages.append(said)
        staying = said.compared if said.trial is None else said.kept
        dropped += [Dropped(n, stage, seeds) for n in said.compared if n not in staying]
        racing = [t for t in racing if t.number in staying]
        if _ends(said):
            break
    done = len(stages)
    goes_on = done < len(question.stages) and not _ends(stages[-1])
    race = Race(
        stage=done,
        stages=len(question.stages),
        seeds=question.stages[done - 1],
        began=len(began),
        alive=tuple(t.number for t in racing),
        dropped=tuple(dropped),
        next_seeds=question.stages[done] if goes_on else None,
    )
    return _with_dropped(stages, {t.number: t for t in order}, question, pictures, race)


# The race of a search's best

MOST_FINALISTS = 5
"""So many of a search's best are trained under fresh seeds."""


@dataclass(frozen=True)
class Finals:
    """The race of a search's best, begun or not: the `trials` with the search's numbers and the race's values, the `seeds` and
    `stages` of the race. `looks` are how often it was looked at, each time with other trials: they share the level.
    """

    trials: tuple[TrialResult, ...]
    seeds: tuple[int, ...]
    stages: tuple[int, ...]
    looks: int = 1
    pictures: PictureValues | None = None


def finalists(trials: Sequence[TrialResult], own: Decision, measure: Measure) -> tuple[TrialResult, ...]:
    """A search's best by its `own` decision: the named trial, then the best means; none where nothing is named.

    They differ in what was trained, for whoever shows another's runs isn't compared.
    """
    compared = {*own.compared} - {own.trial}
    named = [t for t in trials if t.number == own.trial]
    return (*named, *(t for t in ranked(trials, measure) if named and t.number in compared))[:MOST_FINALISTS]


def decide_by_finals(own: Decision, question: Question, finals: Finals | None) -> Decision:
    """A search's decision, as the race of its best says it once it is through, and undecided before; else its `own`.

    `question` is what is asked of the search's trials.
    """
    if finals is None or own.trial is None:
        return own
    asked = replace(question, stages=finals.stages, seeds=finals.seeds, looks=finals.looks, line={}, is_search=False)
    raced = decide(finals.trials, asked, finals.pictures)
    if raced.race and raced.race.next_seeds is not None:
        claims: dict[str, Any] = {"kept": raced.race.alive, "contrasts": (), "gate_p": None, "detectable": None}
        return replace(own, state="undecided", race=raced.race, **claims)
    return decided_by(own, raced, "not among the best that were raced")


# Stages


def _seeds(question: Question, stage: int) -> tuple[int, ...]:
    return question.seeds[: question.stages[stage - 1]]


def _under(trial: TrialResult, seeds: Sequence[int]) -> TrialResult:
    """A trial as a stage under these seeds sees it."""
    failed = {s.seed for s in trial.seeds if s.outcome == FAILED}
    state = FAILED if failed & {*seeds} else "running" if failed else trial.state
    return replace(trial, seeds=tuple(s for s in trial.seeds if s.seed in seeds), expected=len(seeds), state=state)


def _ends(said: Decision) -> bool:
    """Whether a race ends with that stage; where nothing was learnt, there is no best to race for."""
    if said.trial is None or said.state == "single":
        return True
    return is_over(said.state == "use", said.state == "equivalent", said.is_settled, len(said.kept) < 2)


def _with_dropped(
    stages: Sequence[Decision],
    trials: Mapping[int, TrialResult],
    question: Question,
    pictures: PictureValues | None,
    race: Race,
) -> Decision:
    """What the last stage says; trials that were dropped before it stand with the numbers of their stage."""
    last = stages[-1]
    left = {number: why for said in stages for number, why in said.left.items()}
    broken = {of_trial.trial: of_trial for said in stages for of_trial in said.broken}
    contrasts, beating = [*last.contrasts], last.beating
    for stage, said in enumerate(stages[:-1], start=1):
        gone = {d.trial for d in race.dropped if d.stage == stage}
        if not gone or last.trial is None:
            continue
        compared = [_under(trials[n], _seeds(question, stage)) for n in said.compared]
        of_stage, is_better = contrasts_with(compared, last.trial, question, pictures, race.began)
        contrasts += [contrast for contrast in of_stage if contrast.trial in gone]
        beating = None if beating is None else beating + sum(is_better[n] for n in gone)
    beyond = _beyond(last, contrasts[len(last.contrasts) :])
    return replace(
        last,
        bound_scenes=beyond,
        holds_beyond=beyond is not None
        and (beyond <= last.margin or (last.state == "use" and any((c.low_scenes or 0) > 0 for c in contrasts))),
        left=left,
        compared=tuple(n for n in stages[0].compared if n not in left),
        broken=tuple(broken[n] for n in sorted(broken)),
        beating=beating,
        contrasts=tuple(sorted(contrasts, key=lambda c: c.trial)),
        race=race,
    )


def _beyond(last: Decision, gone: Sequence[Contrast]) -> float | None:
    """The bound over other scenes, on which a trial that was dropped before may be better, too."""
    lows = [contrast.low_scenes for contrast in gone]
    if last.bound_scenes is None or None in lows:
        return None
    known = [low for low in lows if low is not None]
    return max([last.bound_scenes, *((1 / (1 + low) - 1 if last.is_relative else -low) for low in known)])
