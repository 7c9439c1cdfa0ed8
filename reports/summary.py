"""The answer in words: which weights to use, how sure that is, where training breaks. Numbers come from `analysis`."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from depth_loss_sweep.reports.analysis import Analysis
from depth_loss_sweep.reports.intervals import proportion_interval
from depth_loss_sweep.reports.measures import percent, short
from depth_loss_sweep.reports.records import StudyRecord
from depth_loss_sweep.reports.statistics import Breakage
from depth_loss_sweep.reports.wording import Tone, headline, level, reasons


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
        Finding("Which weights?", _which(analysis), "plain" if named else "warn"),
        Finding("How sure is that?", " ".join(reasons(decision, measure)), "good" if decision.is_settled else "warn"),
        Finding(
            "Where does training break?",
            _breaks(analysis, analysis.breakage),
            "warn" if analysis.breakage.broken else "good",
        ),
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
        parts.append(f"Unfinished: {done} of {asked} runs so far, so all of this may still change.")
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
    question = "Do the networks beat the trivial predictors?"
    measure, decision, named = analysis.ranking, analysis.decision, analysis.named
    baselines = analysis.baselines(measure)
    if not baselines:
        return Finding(question, "Unknown: the trivial predictors were not evaluated for this measure.", "warn")
    best = min(baselines, key=lambda name: measure.cost(baselines[name]))
    name = f"the {analysis.record.predictors.get(best, best)} ({measure.write(baselines[best])})"
    if decision.state == "unfinished":
        return Finding(question, f"Too early to say. The best of them is {name}, on the validation split.", "plain")
    if decision.state == "diverged":
        return Finding(question, f"No. Every finished run went non-finite; {name} stays ahead.", "bad")
    if decision.state == "not_learnt":
        return Finding(
            question,
            f"No. On the validation split, {name} does better than every trial without looking at the image.",
            "bad",
        )
    if named is None or decision.mean is None:
        return Finding(question, f"The best of them is {name}, on the validation split.", "plain")
    gain = abs(decision.mean - baselines[best]) / abs(baselines[best]) if baselines[best] else math.nan
    beating, compared = decision.beating or 0, len(decision.compared)
    text = f"{_count(beating, compared)}. Trial {named.number} ({named.label}) is {percent(gain)} better than {name}."
    return Finding(question, text, "good" if beating == compared else "warn")


def _count(part: int, whole: int) -> str:
    if whole == 1:
        return "The only finished trial does"
    return f"{'All' if part == whole else f'{part} of'} {whole} finished trials do"


def _which(analysis: Analysis) -> str:
    """The named trial and its level; that there is none stands in the headline, with its reasons."""
    named = analysis.named
    if named is None:
        return ""
    recipe = analysis.recipe(named.weights, named.params)
    return f"Trial {named.number}: {recipe}. {level(analysis.decision, analysis.ranking)}".strip()


# Where training breaks


def _breaks(analysis: Analysis, broken: Breakage) -> str:
    if not broken.finished:
        return ""
    low, high = broken.probability
    kinds = {name: name.replace("_", "-") for name in analysis.record.broken_outcomes}
    if not broken.broken:
        per_trial = _per_trial_bound(broken, len(analysis.record.seeds))
        return (
            f"Nowhere that was tried: none of {broken.finished} finished runs ended {_either([*kinds.values()])}. "
            f"That still allows a probability of up to {percent(high)}{per_trial}.{_trivial(broken)}"
        )
    counts = ", ".join(f"{broken.counts[name]} {said}" for name, said in kinds.items() if broken.counts[name])
    text = f"{broken.broken} of {broken.finished} finished runs broke ({counts}; 95 % interval {percent(low)} to {percent(high)}). "
    return f"{text}{_where(analysis, broken)}{_trivial(broken)}"


def _either(names: Sequence[str]) -> str:
    return " or ".join(filter(None, (", ".join(names[:-1]), *names[-1:])))


def _per_trial_bound(broken: Breakage, seeds: int) -> str:
    if seeds < 1 or broken.finished <= seeds:
        return ""
    return f" over all, and up to {percent(proportion_interval(0, seeds)[1])} at any one point ({seeds} runs each)"


def _where(analysis: Analysis, broken: Breakage) -> str:
    if broken.onset:
        side, value = broken.onset
        onward = "upward" if side == "from" else ""
        start = f"{side.capitalize()} {analysis.record.variables[0]} = {short(value)} {onward}".strip()
        places = analysis.line
        inside = [
            t for t in broken.trials if (places[t.number] >= value if side == "from" else places[t.number] <= value)
        ]
        runs = f"{sum(t.broken for t in inside)} of {sum(t.finished for t in inside)} runs there"
        return f"{start}, every trial has a broken run ({runs})."
    return f"It happens at {_listed([f'{t.label} ({t.broken} of {t.finished})' for t in broken.trials])}."


def _listed(names: Sequence[str], most: int = 5) -> str:
    more = f" and {len(names) - most} more trials" if len(names) > most else ""
    return "; ".join(names[:most]) + more


def _trivial(broken: Breakage) -> str:
    count = broken.counts["trivial"]
    return f" {count} ended trivial: no better than the training median." if count else ""


# What to keep in mind


def _caveats(analysis: Analysis) -> tuple[str, ...]:
    record = analysis.record
    size = record.data.get("image_size")
    pixels = f"{size[0]} × {size[1]} pixels" if isinstance(size, (list, tuple)) and len(size) == 2 else "its resolution"
    head, epochs = _kept(record, "model", "head"), _kept(record, "train", "epochs")
    budget = f", {epochs} epochs" if epochs else ""
    caveats = [f"Weights hold for what they were found at: {pixels}, depth in metres, {head or 'this'} head{budget}."]
    caveats.append(
        "Terms do not keep their size across resolutions: the same weight means something else at another size."
    )
    if 1 < len(record.seeds) < 10:
        caveats.append("A t-interval from few seeds is too narrow where some runs collapse: read it as a lower bound.")
    caveats.append("Intervals are of seeds: how other pictures would change the answer is not in them.")
    shared = record.data.get("scenes_shared_with_train")
    if isinstance(shared, dict) and shared.get("val"):
        caveats.append(f"{shared['val']} validation scenes are also trained on, so every validation number flatters.")
    if analysis.objective.is_comparable and any(math.isinf(t.mean) for t in analysis.trials):
        caveats.append("In the decision, a run that went non-finite counts as the training-median predictor.")
    return (*caveats, *record.notes)


def _kept(record: StudyRecord, section: str, field: str) -> Any:
    """A setting that all trials share; None where it is swept."""
    return None if f"{section}.{field}" in record.variables else (record.spec.get(section) or {}).get(field)


def objective_sentence(analysis: Analysis) -> str:
    """What is optimised, in words."""
    record = analysis.record
    measure = analysis.objective
    if not measure.is_comparable:
        return "The objective is the combined loss; trials are shown in the order of validation RMSE instead."
    goal = "more is better" if measure.higher_is_better else "less is better"
    last = "the last epoch" if record.window == 1 else f"the last {record.window} epochs"
    return f"The objective is the validation {measure.label} of {last}, which does not know the weights; {goal}."
