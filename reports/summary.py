"""The answer in words: which weights to use, how sure that is, where training breaks. Numbers come from `analysis`."""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from depth_loss_sweep.reports.analysis import Analysis
from depth_loss_sweep.reports.breakage import Breakage, Threshold
from depth_loss_sweep.reports.measures import SURE, percent, rough, short
from depth_loss_sweep.reports.quotes import quote, remarks
from depth_loss_sweep.reports.records import StudyRecord
from depth_loss_sweep.reports.wording import Tone, front_headline, headline, level, reasons
from depth_loss_sweep.words import counted

BASELINES = "Do the networks beat the trivial predictors?"
WEIGHTS = "Which weights?"
QUOTED = "What may be quoted?"
SURE_OF = "How sure is that?"
BOTH = "And by both objectives?"
BREAKS = "Where does training break?"
"""The questions of the summary, in their order."""


@dataclass(frozen=True)
class Finding:
    """One question of the summary and its answer."""

    question: str
    text: str
    tone: Tone


@dataclass(frozen=True)
class Answer:
    """The summary: a headline, what it rests on question by question, and what to keep in mind."""

    headline: str
    tone: Tone
    progress: str
    findings: tuple[Finding, ...]
    caveats: tuple[str, ...]


def answer(analysis: Analysis) -> Answer:
    """Sum a study up, whatever state it is in. Whether networks beat the trivial predictors comes first."""
    decision, measure, named = analysis.decision, analysis.ranking, analysis.named
    said, tone = headline(decision, analysis.recipe(named.weights, named.params) if named else "", measure)
    findings = (
        _against_baselines(analysis),
        Finding(WEIGHTS, _which(analysis), "plain" if named else "warn"),
        _confirmed(analysis),
        Finding(SURE_OF, " ".join(reasons(decision, measure)), "good" if decision.is_settled else "warn"),
        Finding(BOTH, _by_both(analysis), "plain"),
        Finding(
            BREAKS,
            _breaks(analysis, analysis.breakage),
            "warn" if analysis.breakage.broken else "good",
        ),
        Finding("What did it cost?", _cost(analysis), "plain"),
    )
    asked = [f for f in findings if f.text]
    return Answer(said, tone, _progress(analysis), tuple(asked), _caveats(analysis))


def _progress(analysis: Analysis) -> str:
    """What is still missing or went wrong, in words; empty where every trial is done."""
    record = analysis.record
    states, runs = record.trials["state"], record.runs["state"]
    done, failed, pruned = (
        int((runs == "finished").sum()),
        int((runs == "failed").sum()),
        int((states == "pruned").sum()),
    )
    parts = []
    if analysis.is_unfinished:
        asked = max(len(runs), len(states) * len(record.seeds))
        parts.append(f"Unfinished: {done} of {counted(asked, 'run')} so far, so all of this may still change.")
    if failed:
        which = "run failed" if failed == 1 else "runs failed"
        parts.append(
            f"{failed} {which} on an error, which is not a result; a study of another name trains only what failed."
        )
    if pruned:
        which = "trial was pruned early and is" if pruned == 1 else "trials were pruned early and are"
        parts.append(f"{pruned} {which} not compared.")
    return " ".join(parts)


# Do the networks learn anything?


def _against_baselines(analysis: Analysis) -> Finding:
    question = BASELINES
    measure, decision, named = analysis.ranking, analysis.decision, analysis.named
    baselines = analysis.baselines(measure)
    if not baselines:
        return Finding(question, "Unknown: the trivial predictors were not evaluated for this measure.", "warn")
    best = min(baselines, key=lambda name: measure.cost(baselines[name]))
    name = f"the {analysis.record.predictors.get(best, best)} ({measure.write(baselines[best])})"
    if decision.state == "unfinished":
        return Finding(question, f"Too early to say. The best of them is {name}, on the validation split.", "plain")
    if decision.state == "diverged":
        return Finding(question, f"No. Every compared run went non-finite; {name} stays ahead.", "bad")
    if decision.state == "not_learnt":
        return Finding(
            question,
            f"No. On the validation split, {name} does better than every compared trial without looking at the image.",
            "bad",
        )
    if named is None or decision.mean is None:
        return Finding(question, f"The best of them is {name}, on the validation split.", "plain")
    beating, compared = decision.beating or 0, len(decision.compared)
    gain = abs(decision.mean - baselines[best])
    told = percent(gain / abs(baselines[best])) if decision.is_relative else rough(gain, measure.unit)
    breaks = decision.breaks_of(named.number)
    unbroken = ", over its unbroken runs," if breaks and breaks.broken else ""
    text = (
        f"{_beating(beating, compared)}. Trial {named.number} ({named.label}) is{unbroken} {told} better than {name}."
    )
    return Finding(question, text, "good" if beating == compared else "warn")


def _beating(part: int, whole: int) -> str:
    if whole == 1:
        return "The only trial that counts does"
    return f"{'All' if part == whole else f'{part} of'} {whole} compared trials do, by their means"


def _which(analysis: Analysis) -> str:
    """The named trial and its level; that there is none stands in the headline, with its reasons."""
    named = analysis.named
    if named is None:
        return ""
    recipe = analysis.recipe(named.weights, named.params)
    is_quoted = bool(analysis.confirmation and analysis.confirmation.quoted)
    return f"Trial {named.number}: {recipe}. {level(analysis.decision, analysis.ranking, is_quoted)}".strip()


def _confirmed(analysis: Analysis) -> Finding:
    """What may be quoted; no finding where nothing was confirmed."""
    confirmation = analysis.confirmation
    if confirmation is None:
        return Finding(QUOTED, "", "plain")
    said = quote(confirmation, analysis.ranking, lambda c: analysis.recipe(c.weights, c.fields))
    text = " ".join([f"{said}.", *remarks(confirmation)])
    return Finding(QUOTED, text, "good" if confirmation.quoted else "warn")


def _by_both(analysis: Analysis) -> str:
    """Who is on the front; empty where there is none to be on."""
    return f"{front_headline(analysis.front, analysis.objectives)}." if analysis.front else ""


# Where training breaks


SPIKING = "spiking and no better than the training median"
"""A spike after which a run still beats that predictor broke nothing."""


def _breaks(analysis: Analysis, broken: Breakage) -> str:
    if not broken.finished:
        return ""
    low, high = broken.probability
    seeds = counted(len(broken.seeds), "seed")
    kinds = {name: name.replace("_", "-") for name in analysis.record.broken_outcomes}
    if not broken.broken:
        none = f"none of {broken.finished} finished runs" if broken.finished > 1 else "no run (1 finished)"
        ended = [*(said for name, said in kinds.items() if name != "spiking"), *[SPIKING] * ("spiking" in kinds)]
        return (
            f"Nowhere that was tried: {none} ended {_either(ended)}. From {seeds}, that "
            f"still allows a seed to break with a probability of up to {percent(high)} (at {SURE}).{_trivial(broken)}"
        )
    counts = ", ".join(f"{broken.kinds[name]} {said}" for name, said in kinds.items() if broken.kinds[name])
    return (
        f"{broken.broken} of {counted(broken.finished, 'finished run')} broke ({counts}), under {len(broken.broken_seeds)} of {seeds} (a "
        f"seed's probability: {percent(low)} to {percent(high)}, at {SURE}). {_where(analysis, broken)}{_trivial(broken)}"
    )


def _either(names: Sequence[str]) -> str:
    return " or ".join(filter(None, (", ".join(names[:-1]), *names[-1:])))


def _where(analysis: Analysis, broken: Breakage) -> str:
    by_trial = _listed([f"{t.label} ({t.broken} of {t.finished})" for t in broken.trials], "trial")
    by_seed = _listed([f"seed {seed} ({k} of {n})" for seed, (k, n) in broken.seeds.items() if k], "seed")
    text = f"It happened at {by_trial}; under {by_seed}.{_onsets(analysis)}"
    if not analysis.line:
        return text
    if broken.threshold:
        return f"{text} {threshold_sentence(analysis.record.variables[0], broken.threshold)}"
    alone = len(broken.broken_seeds) == 1
    return f"{text} {'One seed alone tells' if alone else 'That tells'} no threshold from chance."


def threshold_sentence(variable: str, found: Threshold) -> str:
    """From where on, with its interval; an end that no seed reached is left open."""
    low = f"{variable} = {short(found.low)}" if found.low is not None else "the line's first point"
    high = f"{short(found.high)}" if found.high is not None else "beyond its last point"
    beyond = {"from": "upward", "up to": "downward"}[found.side]
    sure = f"{percent(found.confidence)} interval"
    return f"From between {low} and {high} {beyond}, training breaks under at least half of the seeds ({sure})."


def _onsets(analysis: Analysis) -> str:
    """In which epochs runs broke, of how many that is known."""
    runs = analysis.instability.runs
    known = sorted(run.epoch for run in runs if run.epoch is not None)
    if not known:
        return ""
    epochs = f"epoch {known[0]}" if known[0] == known[-1] else f"epochs {known[0]} to {known[-1]}"
    median = f" (median {short(statistics.median(known))})" if known[0] != known[-1] else ""
    which = "" if len(known) == len(runs) else f", as far as it was measured ({len(known)} of {len(runs)} runs)"
    return f" They broke in {epochs}{median}{which}."


def _listed(names: Sequence[str], what: str, most: int = 5) -> str:
    more = f" and {counted(len(names) - most, f'more {what}')}" if len(names) > most else ""
    return "; ".join(names[:most]) + more


def _trivial(broken: Breakage) -> str:
    count = broken.counts["trivial"]
    return f" {count} ended trivial: no better than the training median." if count else ""


# What it cost


def _cost(analysis: Analysis) -> str:
    if not analysis.cost.text:
        return ""
    return (
        f"{analysis.cost.text}. That is training and evaluation, without starts of workers and what was lost to kills."
    )


# What to keep in mind


def _caveats(analysis: Analysis) -> tuple[str, ...]:
    record = analysis.record
    size = record.data.get("image_size")
    pixels = f"{size[0]} × {size[1]} pixels" if isinstance(size, (list, tuple)) and len(size) == 2 else "its resolution"
    head, epochs = _kept(record, "model", "head"), _kept(record, "train", "epochs")
    budget = f", {counted(epochs, 'epoch')}" if epochs else ""
    caveats = [f"Weights hold for what they were found at: {pixels}, depth in metres, {head or 'this'} head{budget}."]
    caveats.append(
        "Terms do not keep their size across resolutions: the same weight means something else at another size."
    )
    seeds = len(analysis.decision.seeds if analysis.decision.race else record.seeds)
    if 1 < seeds < 10:
        caveats.append(
            "A t-interval from few seeds is too narrow where some runs collapse: read its width as a lower bound."
        )
    named = " unless it is said that scenes are in them" if analysis.decision.scenes else ""
    caveats.append(f"Intervals are of seeds: how other pictures would change the answer is not in them{named}.")
    shared = record.data.get("scenes_shared_with_train")
    if isinstance(shared, dict) and shared.get("val"):
        caveats.append(f"{shared['val']} validation scenes are also trained on, so every validation number flatters.")
    if analysis.objective.is_comparable and any(math.isinf(t.mean) for t in analysis.trials):
        caveats.append("In the decision, a run that went non-finite counts as the training-median predictor.")
    return (*caveats, *record.notes)


def _kept(record: StudyRecord, section: str, field: str) -> Any:
    """A setting that all trials share; None where it is swept."""
    return None if f"{section}.{field}" in record.variables else (record.spec.get(section) or {}).get(field)


def pictures(record: StudyRecord) -> str:
    """What a study was trained and judged on: its source, how many pictures in each part, and at which size."""
    data = record.data
    parts = ", ".join(f"{count} {part}" for part, count in (data.get("images") or {}).items())
    size = " × ".join(map(str, data.get("image_size") or ()))
    return f"{data.get('source') or 'unknown'}: {', '.join(filter(None, (parts, f'at {size}' * bool(size))))}".rstrip(
        ": "
    )


def objective_sentence(analysis: Analysis) -> str:
    """What is optimised, in words."""
    record = analysis.record
    measure = analysis.objective
    if not measure.is_comparable:
        return "The objective is the combined loss; trials are shown in the order of validation RMSE instead."
    goal = "more is better" if measure.higher_is_better else "less is better"
    last = "the last epoch" if record.window == 1 else f"the last {record.window} epochs"
    text = f"The objective is the validation {measure.label} of {last}, which does not know the weights; {goal}."
    for second in analysis.objectives[1:]:
        goal = "more" if second.higher_is_better else "less"
        text += f" It alone decides; beside it, the validation {second.label} is an objective, too ({goal} is better)."
    return text
