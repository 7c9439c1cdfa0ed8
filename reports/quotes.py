"""A confirmation in words: what may be quoted, the same for page, command line and export."""

from collections.abc import Callable

from depth_loss_sweep.reports.confirmation import Candidate, Confirmation, Confirmed, Gain
from depth_loss_sweep.reports.cost import Cost
from depth_loss_sweep.reports.measures import NO_BREAK, SURE, Measure, rough
from depth_loss_sweep.reports.naming import spec_recipe
from depth_loss_sweep.words import counted

Named = Callable[[Candidate], str]
"""What a candidate is called: all that it is made of."""


def as_in_specs(candidate: Candidate) -> str:
    """What a candidate is made of, in the words of a spec."""
    return spec_recipe(candidate.weights, candidate.fields)


PARTS = {"test": "test", "val": "validation"}


def quote(confirmation: Confirmation, measure: Measure, named: Named = as_in_specs) -> str:
    """The result in one sentence, or why there is none yet."""
    if not confirmation.is_current:
        return "What was confirmed is an earlier winner, or was trained otherwise: confirm it anew"
    if confirmation.state == "unfinished":
        return f"Being confirmed: {confirmation.runs_done} of {counted(confirmation.runs, 'run')} done"
    row = confirmation.quoted_row
    if row is None:
        return "Confirmed, and nothing can be named"
    if row.mean is None and row.broken:
        return (
            f"Confirmed: {named(row.candidate)} broke in {row.broken} of {counted(row.runs, 'run')} {on(confirmation)}"
        )
    return f"Confirmed: {named(row.candidate)} has {level(row, measure)} {on(confirmation)}{_gain(row, measure)}{broke(row)}"


def level(row: Confirmed, measure: Measure) -> str:
    """A candidate's level with its interval."""
    if row.mean is None:
        return f"no {measure.label}"
    text = f"{measure.label} {measure.write(row.mean)}"
    if row.low is None or row.high is None:
        return text
    text += f" ({SURE}: {measure.write(row.low)} to {measure.write(row.high)}"
    if row.low_scenes is None or row.high_scenes is None:
        return f"{text})"
    return f"{text}; on other scenes {measure.write(row.low_scenes)} to {measure.write(row.high_scenes)})"


def on(confirmation: Confirmation) -> str:
    """Under how many seeds, and on which pictures."""
    seeds = counted(confirmation.seeds, "fresh seed")
    pictures = counted(confirmation.images, f"{PARTS[confirmation.part]} picture")
    return f"under {seeds} on these {pictures}{'' if confirmation.part == 'test' else ', test not measured'}"


def _gain(row: Confirmed, measure: Measure) -> str:
    if row.gain is None:
        return ""
    if row.gain.low == row.gain.high == 0:
        return "; under every seed its numbers are those of equal weights"
    if not row.gain.is_shown:
        return f"; no difference from equal weights is shown (gain {gain(row.gain, measure)})"
    told = row.gain if row.gain.mean > 0 else row.gain.turned
    return f"; {'better' if row.gain.mean > 0 else 'worse'} than equal weights by {gain(told, measure)}"


def gain(told: Gain, measure: Measure) -> str:
    """A gain with its interval, in the measure's unit and, where it can be, in per cent."""
    low, high = (rough(value, measure.unit) for value in (told.low, told.high))
    text = f"{rough(told.mean, measure.unit)}, {SURE}: {low} to {high}"
    if told.share is not None and told.share_low is not None and told.share_high is not None:
        mean, low, high = (f"{100 * share:z.2g}" for share in (told.share, told.share_low, told.share_high))
        text += f"; {mean}{NO_BREAK}%, {low} to {high}{NO_BREAK}%"
    if told.low_scenes is not None and told.high_scenes is not None:
        text += f"; on other scenes {rough(told.low_scenes, measure.unit)} to {rough(told.high_scenes, measure.unit)}"
    return text.replace("-", "−")


def broke(row: Confirmed) -> str:
    """How often it broke, with the interval of the probability; empty where it never did."""
    if not row.broken:
        return ""
    low, high = (f"{100 * p:.0f}" for p in (row.broken_low, row.broken_high))
    return f"; {row.broken} of {counted(row.runs, 'run')} broke (probability {low} to {high}{NO_BREAK}%), and levels are of unbroken runs"


def broken_cell(row: Confirmed) -> str:
    """The same as a table has it."""
    of = f"{row.broken} of {row.runs}"
    return f"{of} ({100 * row.broken_low:.0f} to {100 * row.broken_high:.0f} %)" if row.broken else of


def cost_to_find(candidate: Candidate, finding: Cost) -> str:
    """What a study cost that found a candidate, as a table has it; nobody had to look for one that isn't of its trials."""
    return "–" if candidate.trial is None else finding.spent


def remarks(confirmation: Confirmation) -> tuple[str, ...]:
    """What is to be known beside the result, a sentence each."""
    found = []
    if confirmation.read_before:
        found.append(f"{read_before(confirmation.read_before).capitalize()}.")
    if confirmation.looks > 1:
        found.append(
            f"It was looked at {confirmation.looks} times, each time with other seeds or weights, so intervals share their level."
        )
    if confirmation.decision is not None:
        found.append(
            "It was chosen among a search's best by these runs' validation pictures: intervals hold for all of them at once."
        )
    return tuple(found)


def read_before(times: int) -> str:
    """That test pictures are read once more."""
    return f"the test pictures were read {counted(times, 'time')} before"
