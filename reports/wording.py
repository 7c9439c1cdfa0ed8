"""A decision in words: the page, `sweep best`, `status`, `start` and export say the same. A sentence never says more than the
decision's state allows.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Literal

from depth_loss_sweep.reports.decision import COMBINED, OTHER_PICTURES, Decision
from depth_loss_sweep.reports.front import NOT_LEARNT, Front, FrontTrial
from depth_loss_sweep.reports.measures import NO_BREAK, SURE, Measure, percent, rough
from depth_loss_sweep.reports.stages import LEAST_SEEDS, Dropped
from depth_loss_sweep.words import counted

Tone = Literal["good", "warn", "bad", "plain"]
NOTHING_LEARNT = "Nothing was learnt: no trial beats the trivial predictors"
VERDICTS = {
    "single": "the only one",
    "anecdote": "ahead, an anecdote",
    "use": "recommended",
    "equivalent": "the simplest of equals",
    "undecided": "ahead, undecided",
}
AHEAD = "ahead"
"""What the trial is called that would be used, where that is no recommendation."""
STANDINGS = {
    "may be best": "a test against the best mean doesn't exclude it",
    "worse than {0}, may be best": "an interval for all pairs shows it to be worse than trial {0}, the test against the best mean "
    "doesn't exclude it",
    "shown not the best": "the test against the best mean excludes it, but no interval for all pairs shows it to be worse than trial {0}",
    "every run broke": "no more is known of it",
    "dropped": "by the race, before its end",
    "not raced": "not among the best that are raced",
    "worse than {0}": "an interval for all pairs shows it",
    "not compared": "why stands under “What this rests on”",
}
"""What trials beside the named one ({0}) are called, and what that means; those come first that may be best."""
OBJECTIONS = {
    OTHER_PICTURES: "The trials differ in their data, so their metrics are of other pixels and say nothing about which weights "
    "are better. Read each setting of the data apart, or give each a study of its own.",
    COMBINED: "The objective is the combined loss, whose meaning changes with the weights: its minimum says nothing "
    "about which weights are better. Choose a validation metric, such as val_rmse, as the objective; trained "
    "runs are used again.",
}
MOST_NAMED = 8
MOST_MARGINS = 10  # from the best, beyond which no trial is recommended
MOST_PERCENT = 1000  # beyond, an interval is as good as none


def verdict(decision: Decision) -> str:
    """What the named trial is called wherever it is named; empty where there is none."""
    if decision.state == "use" and not is_recommended(decision):
        return AHEAD
    return VERDICTS.get(decision.state, "") if decision.trial is not None else ""


def is_recommended(decision: Decision) -> bool:
    """Whether the weights that would be used are a recommendation: not where any that was compared may be best, nor where they
    may be far from the best; that they are within the margin of it is enough.
    """
    is_near = decision.bound is not None and decision.bound <= MOST_MARGINS * decision.margin
    is_chosen = decision.is_settled or (is_near and len(decision.kept) < len(decision.compared))
    return decision.state == "use" and is_chosen


def standing(trial: int, decision: Decision) -> str:
    """What another trial than the named one is called, one of `STANDINGS`; empty where none is named."""
    if trial not in decision.compared:
        return "not compared"
    if decision.trial is None:
        return ""
    may_be_best = trial in decision.kept
    if any(c.is_worse for c in decision.contrasts if c.trial == trial):
        return "worse than {0}, may be best" if may_be_best else "worse than {0}"
    if may_be_best:
        return "may be best"
    if decision.race and any(d.trial == trial for d in decision.race.dropped):
        return "dropped"
    if decision.race and decision.is_search:
        return "not raced"
    breaks = decision.breaks_of(trial)
    return "every run broke" if breaks and breaks.broken == breaks.runs else "shown not the best"


def standings_mean(decision: Decision, trials: Sequence[int]) -> str:
    """What the words mean by which these trials are called; that there are none where no trial is named."""
    if decision.trial is None:
        return "No trial may be named, so none has a verdict."
    said = {standing(trial, decision) for trial in trials if trial != decision.trial}
    told = [f"{word}: {meaning}" for word, meaning in STANDINGS.items() if word in said]
    text = "; ".join(told).format(decision.trial)
    return f"{text[0].upper()}{text[1:]}." if text else ""


def is_advice(decision: Decision) -> bool:
    """Whether the named weights may be taken as they are: recommended, or the simplest of equals."""
    return is_recommended(decision) or decision.state == "equivalent"


def headline(decision: Decision, name: str, measure: Measure) -> tuple[str, Tone]:
    """The answer in one line, its trial called `name`."""
    text, tone = _headline(decision, name, measure)
    text += _raced(decision) + _by_first(decision, measure)
    so_far = decision.so_far and decision.state != "incomparable"
    return (f"So far: {text[0].lower()}{text[1:]}", "bad" if tone == "bad" else "warn") if so_far else (text, tone)


def _headline(decision: Decision, name: str, measure: Measure) -> tuple[str, Tone]:
    within, broke = _within(decision, measure), _broke(decision)
    match decision.state:
        case "unfinished":
            return "No trial has finished yet", "plain"
        case "incomparable":
            return f"No recommendation: {decision.objection}", "warn"
        case "diverged":
            return "No recommendation: every compared run went non-finite", "bad"
        case "not_learnt":
            return NOTHING_LEARNT, "bad"
        case "single":
            return f"Only one trial{' counts' if decision.left else ''}: {name}{broke}", "plain"
        case "anecdote":
            seeds = counted(len(decision.seeds), "common seed")
            return f"An anecdote, from {seeds}: {name} is ahead{broke}", "warn"
        case "use":
            is_one = decision.is_settled or len(decision.kept) < 2
            count = len(decision.kept)
            any_may = count == len(decision.compared)
            many = f", though any of all {count} may be best" if any_may else f", one of {count} that may be best"
            others = "" if is_one else many
            if not is_recommended(decision):
                return f"{name} is ahead{others}: {within}{broke}", "warn"
            return f"Use {name}{others}: {within}{broke}", "good" if decision.is_settled and not broke else "plain"
        case "equivalent":
            margin = amount(decision.margin, decision, measure)
            runners, trials = len(decision.compared) - len(_dropped_before(decision)), _trials_compared(decision)
            who = f"All {runners} {trials}" if runners == len(decision.compared) else f"The {runners} {trials} left"
            equal = f"{who} are within {margin} of the best ({_here(decision)})"
            return f"{equal}; the simplest is {name}{broke}", "plain"
    if decision.is_search:
        searched = "a search can't confirm what it found in its own numbers"
        until = " until its best are raced under fresh seeds" if decision.race else f": {searched}"
        return f"Undecided{until}; {name} is ahead{broke}", "warn"
    if decision.is_settled:
        return f"Undecided which is best; {name} is {within}{broke}", "plain"
    may_be_best = f"{len(decision.kept)} of {len(decision.compared)} {_trials_compared(decision)} may be best"
    return f"Undecided: {may_be_best}; {name} is ahead{broke}", "warn"


def _raced(decision: Decision) -> str:
    """How far a race went; empty where none is raced, or no stage is decided yet."""
    race = decision.race
    if race is None or not race.stage:
        return ""
    left = f"{len(race.alive)} of {race.began} weights left"
    return f"; raced: stage {race.stage} of {race.stages}, {counted(race.seeds, 'seed')}, {left}"


def _by_first(decision: Decision, measure: Measure) -> str:
    """That of two objectives the first alone decides; empty where nothing is said of any."""
    is_said = decision.is_first_of_two and decision.state not in ("incomparable", "unfinished", "diverged")
    return f"; by {measure.label} alone" if is_said else ""


def _dropped_before(decision: Decision) -> list[Dropped]:
    """Whom a race dropped before its last stage."""
    return [d for d in decision.race.dropped if d.stage < decision.race.stage] if decision.race else []


ROUNDED: Mapping[str, Callable[[float], float]] = {
    "outwards": lambda value: math.copysign(math.ceil(abs(value)), value),
    "nearest": round,
    "down": math.floor,
    "up": math.ceil,
}
"""To whole numbers: a bound outwards, so that it isn't understated, an interval's ends down and up, an estimate to the nearest."""


def amount(value: float, decision: Decision, measure: Measure, rounded: str = "outwards") -> str:
    """A difference as it is said, to two digits: per cent, or in the measure's unit; `rounded` is one of `ROUNDED`."""
    number = 100 * value if decision.is_relative else value
    if number:
        step = 10.0 ** (math.floor(math.log10(abs(number))) - 1)
        number = ROUNDED[rounded](round(number / step, 6)) * step
    size, sign = abs(number), "−" if number < 0 else ""
    if not decision.is_relative:
        return f"{sign}{rough(size, measure.unit)}"
    if size > MOST_PERCENT:
        return f"{'<' if sign else '>'}{NO_BREAK}{sign}{MOST_PERCENT}{NO_BREAK}%"
    return f"{sign}{f'{size:.0f}' if size >= 100 else f'{size:.3g}'}{NO_BREAK}%"


def _within(decision: Decision, measure: Measure) -> str:
    """How far from the best the named trial may be."""
    if decision.bound is None:
        return "the trials differ, but not known is how far from the best it may be"
    bound, where = decision.bound, _here(decision)
    if decision.holds_beyond and decision.bound_scenes is not None:
        bound, where = decision.bound_scenes, f"{SURE}, on other scenes, too"
    return f"{_at_most(bound, decision, measure)} ({where})"


def _at_most(bound: float, decision: Decision, measure: Measure) -> str:
    best = f"the best {_fresh(decision) or 'tried'}"
    return f"within {amount(bound, decision, measure)} of {best}" if bound else best


def _trials_compared(decision: Decision) -> str:
    return f"{_fresh(decision)} trials".lstrip()


def _fresh(decision: Decision) -> str:
    """What a search's best had to go through to be compared; empty of any other study."""
    if not decision.is_confirmed:
        return ""
    return "raced" if decision.race else "confirmed"


def _here(decision: Decision) -> str:
    """How sure a number is that is of these pictures alone."""
    where = "this one picture" if decision.pictures == 1 else f"these {decision.pictures or 'validation'} pictures"
    return f"{SURE}, on {where}"


def _broke(decision: Decision) -> str:
    """How often the named trial broke, and that bounds leave that out; empty where it never did."""
    breaks = decision.breaks_of(decision.trial)
    if breaks is None or not breaks.broken:
        return ""
    if decision.bound is None:
        return f"; {breaks.broken} of its {counted(breaks.runs, 'run')} broke"
    return f"; that is of unbroken runs: {breaks.broken} of its {breaks.runs} broke"


# What the headline rests on


def reasons(decision: Decision, measure: Measure) -> tuple[str, ...]:
    """Why that is the answer, or why there is none, a sentence each."""
    if decision.state == "incomparable":
        return (OBJECTIONS.get(decision.objection, decision.objection),)
    if decision.state == "unfinished":
        return ("No trial has finished all of its seeds yet.", *left_out(decision))
    if decision.state == "diverged":
        return ("No compared trial has a value.", *left_out(decision))
    if decision.state == "not_learnt":
        return ("Until a trial beats them, differences between weights say nothing about depth.", *left_out(decision))
    parts = (
        _compared(decision),
        _why_fresh(decision),
        _gate(decision),
        _choice(decision, measure),
        _kept(decision),
        _noise(decision, measure),
        _scenes(decision, measure),
    )
    return (*(part for part in parts if part), *_dropped(decision), *left_out(decision), *breaking(decision))


def _compared(decision: Decision) -> str:
    if decision.state == "single":
        return "There is nothing to compare it with."
    seeds = counted(len(decision.seeds), "common seed")
    compared = len(decision.compared) - len(_dropped_before(decision))
    text = f"{counted(compared, 'trial')} {'is' if compared == 1 else 'are'} compared under {seeds}."
    if decision.seeds_left:
        some = len(decision.seeds_left) > 1
        seeds = ", ".join(map(str, decision.seeds_left[:MOST_NAMED])) + (
            " ..." if len(decision.seeds_left) > MOST_NAMED else ""
        )
        text += f" Left out: seed{'s' * some} {seeds}, under which some trial has no value."
    if decision.looks > 1:
        before = counted(decision.looks - 1, "time")
        other = {"raced": "others of the search", "confirmed": "other weights or seeds"}.get(
            _fresh(decision), "fewer seeds"
        )
        text += f" They were read {before} before, with {other}: {decision.looks} looks share the 5{NO_BREAK}%."
    if decision.state == "anecdote":
        text += " Fewer than three tell no difference from luck: add seeds."
    return text


def _why_fresh(decision: Decision) -> str:
    """Why a search's own numbers are no result; empty of any other study."""
    if not decision.is_confirmed:
        return ""
    return "All numbers here are of fresh seeds: by its own, which chose it, a search's best looks better than it is (a winner's curse)."


def _gate(decision: Decision) -> str:
    if decision.is_search and decision.race:
        best = f"{_trials(decision.race.alive)} {'are' if len(decision.race.alive) > 1 else 'is'}"
        return f"The points were chosen by the numbers that would judge them, so {best} raced under fresh seeds, and that decides."
    if decision.gate_p is None or decision.gate_level is None:
        return ""
    pilot = ", a pilot" if decision.is_pilot else ""
    found = f"({decision.gate}{pilot}: p {_p(decision.gate_p)} at a level of {decision.gate_level:.2g})"
    if decision.is_search:
        return "The points were chosen by the numbers that would judge them: train the best five under fresh seeds."
    if decision.state == "use":
        return f"That all are equal is rejected {found}."
    return f"That all are equal is not rejected {found}, which doesn't make them equal."


def _p(p: float) -> str:
    return "below 0.001" if p < 0.001 else f"{p:.2g}"


def _choice(decision: Decision, measure: Measure) -> str:
    margin = amount(decision.margin, decision, measure)
    return {
        "simplest": f"It is the simplest (fewest non-zero terms, then the first) of those that are within {margin} of the best.",
        "smoothed": "It is where the smoothed curve of unbroken runs, and of what breaking costs, is best; the bound isn't smoothed.",
        "least mean": "It has the best mean.",
    }.get(decision.choice, "")


def _kept(decision: Decision) -> str:
    if decision.gate_p is None or not decision.kept:
        return ""
    if len(decision.kept) == len(decision.compared):
        return "Each of them may be best."
    named = ", ".join(map(str, decision.kept[:MOST_NAMED]))
    more = f" and {len(decision.kept) - MOST_NAMED} more" if len(decision.kept) > MOST_NAMED else ""
    return f"May be best ({SURE}): trial{'s' * (len(decision.kept) > 1)} {named}{more}."


def _noise(decision: Decision, measure: Measure) -> str:
    if decision.state != "undecided" or decision.detectable is None:
        return ""
    seen, margin = (amount(value, decision, measure) for value in (decision.detectable, decision.margin))
    needed = f"about {decision.seeds_needed} seeds" if decision.seeds_needed else "more than a thousand seeds"
    text = (
        f"By its noise, this study sees a difference of {seen} between two trials with a probability of 80{NO_BREAK}%"
    )
    return f"{text}; one of {margin} takes {needed}."


def _scenes(decision: Decision, measure: Measure) -> str:
    """What is said of other scenes, and whether these or the seeds leave more open."""
    if decision.scenes_missing:
        return f"Scenes not measured ({decision.scenes_missing}), so nothing is said of other pictures."
    if decision.scenes is None or decision.error_scenes is None:
        return ""
    beyond = ""
    is_said = decision.holds_beyond and decision.state != "equivalent"  # by the headline
    if decision.bound_scenes is not None and not is_said:
        beyond = f"On other scenes, too, it is {_at_most(decision.bound_scenes, decision, measure)} ({SURE}). "
    errors = f"its level's standard error is {rough(decision.error_scenes, measure.unit)} by {decision.scenes} scenes"
    if decision.error_seeds is None:
        return f"{beyond}{errors[0].upper()}{errors[1:]}."
    more = "Scenes" if decision.error_scenes > decision.error_seeds else "Seeds"
    runs = "the seeds of its unbroken runs"
    return f"{beyond}{more} leave more open: {errors}, {rough(decision.error_seeds, measure.unit)} by {runs}."


def _dropped(decision: Decision) -> tuple[str, ...]:
    """Whom a race dropped, stage by stage, and why."""
    by_stage: dict[tuple[int, str], list[int]] = {}
    for dropped in decision.race.dropped if decision.race else ():
        breaks = decision.breaks_of(dropped.trial)
        has_broken = breaks is not None and breaks.broken == breaks.runs
        why = "every run broke" if has_broken else "shown not to be the best"
        by_stage.setdefault((dropped.seeds, why), []).append(dropped.trial)
    return tuple(
        f"Dropped after {seeds} seeds: {_trials(numbers)} ({why}); the numbers of that stage stand."
        for (seeds, why), numbers in by_stage.items()
    )


def left_out(found: Decision | Front) -> tuple[str, ...]:
    """Who isn't compared, by name."""
    reasons_: dict[str, list[int]] = {}
    for number, why in found.left.items():
        reasons_.setdefault(why, []).append(number)
    named = "; ".join(f"{_trials(numbers)} ({why})" for why, numbers in reasons_.items())
    return (f"Not compared: {named}.",) if named else ()


def _trials(numbers: Sequence[int]) -> str:
    named = ", ".join(map(str, numbers[:MOST_NAMED]))
    more = f" and {len(numbers) - MOST_NAMED} more" if len(numbers) > MOST_NAMED else ""
    return f"trial{'s' * (len(numbers) > 1)} {named}{more}"


def breaking(decision: Decision) -> tuple[str, ...]:
    """How often the named trial broke, and what is left out where others did."""
    breaks = decision.breaks_of(decision.trial)
    if breaks is None or not any(b.broken for b in decision.broken):
        return ()
    low, high = (f"{100 * p:.0f}" for p in (breaks.low, breaks.high))
    return (
        f"{breaks.broken} of its {counted(breaks.runs, 'run')} broke (probability {low} to {high}{NO_BREAK}%, at {SURE}); "
        "levels and bounds are of unbroken runs.",
    )


def level(decision: Decision, measure: Measure, is_quoted: bool = False) -> str:
    """The level of the named trial's unbroken runs; empty where there is none. With `is_quoted` it was confirmed."""
    if decision.mean is None:
        return ""
    text = f"Over its unbroken runs, {measure.label} is {measure.write(decision.mean)} on the validation split"
    if decision.low is not None and decision.high is not None:
        text += f", {SURE} interval {measure.write(decision.low)} to {measure.write(decision.high)}"
        if decision.low_scenes is not None and decision.high_scenes is not None:
            beyond = f"{measure.write(decision.low_scenes)} to {measure.write(decision.high_scenes)}"
            text += f" by seeds, {beyond} by scenes, too"
    flattered = decision.state not in ("single", "equivalent") and len(decision.compared) > 1
    advice = "quote what was confirmed" if is_quoted else "confirm it with fresh seeds"
    if decision.is_search and decision.race:
        advice = "those of the race will count"
    return f"{text}.{f' It was chosen by these numbers, which flatter it: {advice}.' if flattered else ''}"


def warning(decision: Decision) -> str:
    """Why the model of the named trial is no recommendation, in a few words; empty where it is one."""
    said = {
        "anecdote": f"from {counted(len(decision.seeds), 'common seed')}, trial {decision.trial} is an anecdote",
        "undecided": f"it is undecided whether trial {decision.trial} is best",
    }
    if decision.state == "use" and not is_recommended(decision):
        return f"trial {decision.trial} is ahead, and may be far from the best"
    return said.get(decision.state, "")


# Two objectives


def front_headline(front: Front, measures: Sequence[Measure]) -> str:
    """Who is on the front of both objectives, who may be, and where its knee is, in one line."""
    of = " and ".join(measure.label for measure in measures)
    if not front.members:
        nothing = (
            "no trial beats the trivial predictors" if NOT_LEARNT in front.left.values() else "no trial has both yet"
        )
        return f"No front of {of}: {nothing}"
    on_it, is_one = len(front.members), len(front.members) == 1
    text = f"{on_it} of {counted(len(front.trials), 'trial')} {'is' if is_one else 'are'} on the front of {of}"
    text += f", under {counted(len(front.seeds), 'common seed')}"
    if len(front.seeds) < LEAST_SEEDS:
        return f"{text}, too few to say who else may be"
    may_be = len(front.candidates)
    others = f"{may_be} may be, the others are worse in both" if may_be < len(front.trials) else "each may be"
    return f"{text}; {others} ({SURE}); {_knee(front)}"


def front_levels(trial: FrontTrial, measures: Sequence[Measure]) -> str:
    """Both means of a trial with their intervals."""
    parts = []
    for measure, mean, low, high in zip(measures, trial.means, trial.lows, trial.highs, strict=True):
        interval = (
            f" ({SURE}: {measure.write(low)} to {measure.write(high)})" if low is not None and high is not None else ""
        )
        parts.append(f"{measure.label} {measure.write(mean)}{interval}")
    return ", ".join(parts)


def _knee(front: Front) -> str:
    share = next((t.knee_share for t in front.trials if t.trial == front.knee), None)
    if share is None:
        return "it has no knee"
    return f"its knee is trial {front.knee} (in {percent(share)} of resamplings of the seeds)"
