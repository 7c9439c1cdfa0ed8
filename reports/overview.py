"""A study's page at a glance: what was swept, the winner beside what everybody knows, and what would decide more."""

import math
import re
import statistics
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from depth_loss_sweep.reports.analysis import Analysis
from depth_loss_sweep.reports.confirmation import Confirmed, candidates
from depth_loss_sweep.reports.contrasts import EQUAL_WEIGHTS, TABLE_2, known_as, paired
from depth_loss_sweep.reports.measures import NO_BREAK, SURE, Measure, predictor_values, rough, short
from depth_loss_sweep.reports.naming import affine, is_number, swept_fields, written
from depth_loss_sweep.reports.records import StudyRecord
from depth_loss_sweep.reports.references import PAPER, POINT
from depth_loss_sweep.reports.stages import LEAST_SEEDS
from depth_loss_sweep.reports.tables import Cell, numeric
from depth_loss_sweep.reports.trials import TrialResult
from depth_loss_sweep.reports.wording import MOST_PERCENT, amount, verdict
from depth_loss_sweep.words import counted

BESIDE = ("metric_rmse", "metric_delta1", "metric_boundary_f1")
"""What the table has beside the number that decides."""

FEW = 6  # values of a variable that are named one by one


@dataclass(frozen=True)
class Standing:
    """A row of the table: what it is known as, what it is made of or why it has no numbers, its levels, and what the winner gains on
    it: with its unit, and as a share or with its interval; which `trial` it is of.
    """

    name: str
    about: str
    levels: tuple[Cell, ...]
    gain: str = "–"
    share: str = ""
    trial: int | None = field(default=None, kw_only=True)


@dataclass(frozen=True)
class Step:
    """What would decide more, and the command for it; empty where only a person can say."""

    text: str
    command: str = ""


@dataclass(frozen=True)
class Overview:
    """All that stands beside the answer before anything is opened: `columns` are the heads of levels and gain, `missing` names what has
    no row, and what would measure it, `reading` says how the table is read.
    """

    space: str
    caption: str
    columns: tuple[str, ...]
    rows: tuple[Standing, ...]
    missing: Step | None
    reading: str
    step: Step | None


def overview(analysis: Analysis) -> Overview:
    """A study at a glance, whatever state it is in."""
    table = _Table(analysis)
    shown = (table.caption, table.columns, table.rows(), table.missing(), table.reading)
    return Overview(space(analysis), *shown, next_step(analysis))


# What was swept


def space(analysis: Analysis) -> str:
    """How weights follow from what was swept, and over which values: "SSIM = w, SILog = 0.9 − w; w: 10 values from 0 to 0.9"."""
    record, names = analysis.record, analysis.term_names
    if record.kind == "simplex":
        return f"{' + '.join(names[t] for t in analysis.varying_terms)} = 1"
    given: Mapping[str, Any] = record.spec.get("weights") or {}
    weights = [f"{names.get(t, t)} = {affine(c, by)}" for t, (c, by) in given.items() if float(c) or by]
    swept = [
        _values(analysis, name) for name in record.variables if len(record.trials) and f"var_{name}" in record.trials
    ]
    return "; ".join(filter(None, (", ".join(weights), *swept)))


def _values(analysis: Analysis, variable: str) -> str:
    values = [*dict.fromkeys(analysis.record.trials[f"var_{variable}"])]
    name = "weights" if variable == POINT else variable
    if all(map(is_number, values)):
        values.sort()
        if len(values) > FEW:
            return f"{name}: {len(values)} values from {short(values[0])} to {short(values[-1])}"
    more = f" and {len(values) - FEW} more" if len(values) > FEW else ""
    return f"{name}: {', '.join(map(written, values[:FEW]))}{more}"


# The winner, and what everybody knows


@dataclass(frozen=True)
class _Gain:
    """What the winner gains on something: in the measure's unit, and as a share where that can be said; `low` and `high` are
    the interval of the share, or else of the gain itself, NaN where there is none.
    """

    mean: float
    share: float | None = None
    low: float = math.nan
    high: float = math.nan


class _Table:
    """The rows and columns of a study's table of standings: on the pictures of its confirmation where it has one, and on validation."""

    def __init__(self, analysis: Analysis) -> None:
        confirmation = analysis.confirmation
        self.analysis = analysis
        self.quoted = confirmation if confirmation and confirmation.quoted_row else None
        self.winner = analysis.named or next(iter(analysis.ranked if not analysis.decision.objection else ()), None)
        metrics = [m for column in BESIDE for m in analysis.measured_metrics if m.column == column]
        self.measures = [*dict.fromkeys((analysis.ranking, *metrics))]

    @property
    def caption(self) -> str:
        """On which pictures the numbers were measured."""
        if self.quoted is None:
            return "On validation pictures; test not measured"
        part = "test pictures" if self.quoted.part == "test" else "validation pictures; test not measured"
        return f"First under {self.quoted.seeds} fresh seeds on {part}, then of the study on validation"

    @property
    def columns(self) -> tuple[str, ...]:
        """The heads of the cells."""
        measure = self.analysis.ranking
        unit = f" ({measure.unit})" if measure.unit == "m" else ""
        level = (f"{measure.label}, {'test' if self.quoted.part == 'test' else 'fresh'}{unit}",) if self.quoted else ()
        gain = f"gain of trial {self.winner.number}" if self.winner else "gain"
        return (*level, *(f"{m.label}{' (m)' if m.unit == 'm' else ''}" for m in self.measures), gain)

    @property
    def reading(self) -> str:
        """How the table is read."""
        each = "each by itself" if self.quoted else "for all trials at once"
        return (
            f"Levels are means of unbroken runs. The gain is by how much the first row is better, paired by seed, with its {SURE} "
            f"interval, {each}; on a trivial predictor it is the difference of the levels."
        )

    def rows(self) -> tuple[Standing, ...]:
        """The winner, equal weights, Table 2 or what else the winner is held against, L1 alone, and the mean map: those with numbers."""
        return tuple(row for row in (self._row_of_winner(), *self._by_role.values(), self._row_of_predictor()) if row)

    def missing(self) -> Step | None:
        """What has no row, by name, and the command that trains it, where one does; None where all is there, or stands beside nothing."""
        named = [role for role, row in self._by_role.items() if row is None]
        if self.winner is None or not named:
            return None
        analysis, text = self.analysis, f"Not measured: {', '.join(named)}."
        if analysis.is_unfinished or self.quoted:
            return Step(text)
        would = candidates(
            analysis.trials, analysis.decision, analysis.ranking, is_scale_free=False, rule=analysis.rule
        )
        known = {each for candidate in would for each in (candidate.name, *candidate.roles)}
        is_trained = all({*self._roles()[role]} & known for role in named)
        return Step(text, f"sweep confirm {analysis.record.name}" if is_trained else "")

    @cached_property
    def _by_role(self) -> dict[str, Standing | None]:
        return {role: self._row(role, *ids) for role, ids in self._roles().items()}

    def _roles(self) -> dict[str, tuple[str, ...]]:
        """What is asked for by name, but for what the winner is itself: role -> what a confirmation calls it."""
        own = self._known_as(self.winner) if self.winner else []
        alone = self.analysis.term_names.get("l1")
        asked = {EQUAL_WEIGHTS: (EQUAL_WEIGHTS,), TABLE_2: (PAPER,)} | (
            {f"{alone} alone": ("l1 alone", "l1")} if alone else {}
        )
        return {role: ids for role, ids in asked.items() if role not in own}

    def _known_as(self, trial: TrialResult) -> list[str]:
        return known_as(trial, self.analysis.terms, self.analysis.term_names, self.analysis.rule)

    def _row_of_winner(self) -> Standing | None:
        winner = self.winner
        if winner is None:
            return None
        said = verdict(self.analysis.decision) if self.analysis.named else "best mean"
        name = ", ".join((f"trial {winner.number}", said, *self._known_as(winner)))
        confirmed = self.quoted.quoted_row if self.quoted else None
        return Standing(name, _made_of(winner), self._levels(winner, confirmed), trial=winner.number)

    def _row(self, role: str, *ids: str) -> Standing | None:
        trial = next((t for t in self._alike() if role in self._known_as(t)), None)
        rows = self.quoted.rows if self.quoted else ()
        confirmed = next((r for r in rows if {*ids} & {r.candidate.name, *r.candidate.roles}), None)
        if role == TABLE_2 and trial is None and confirmed is None and (other := self._reference()):
            role, trial = other
        if trial is None and confirmed is None:
            return None
        about = _made_of(trial) if trial else ""
        gain = self._gain(trial, confirmed)
        return Standing(
            role, about, self._levels(trial, confirmed), *self._told(gain), trial=trial.number if trial else None
        )

    def _alike(self) -> list[TrialResult]:
        """The other trials, best first; those before others that share all of the winner's swept fields."""
        fields = _fields(self.winner)
        return sorted((t for t in self.analysis.ranked if t is not self.winner), key=lambda t: _fields(t) != fields)

    def _reference(self) -> tuple[str, TrialResult] | None:
        """What the winner is held against besides, such as the end of a line."""
        trials = {t.number: t for t in self.analysis.trials}
        for reference in self.analysis.references:
            trial = trials[reference.contrast.trial]
            if not {*self._known_as(trial)} & {*self._roles()}:
                return reference.role, trial
        return None

    def _row_of_predictor(self) -> Standing | None:
        analysis, measure = self.analysis, self.analysis.ranking
        values = analysis.baselines(measure)
        name = min(values, key=lambda n: (n != "mean_map", measure.cost(values[n])), default=None)
        if name is None:
            return None
        quoted = self.quoted.quoted_row if self.quoted else None
        part = self.quoted.part if self.quoted else "val"
        theirs = predictor_values(analysis.record.baselines.get(part) or {}, measure).get(name, math.nan)
        ours = quoted.mean if quoted else self._level(measure, self.winner)
        gain = None
        if ours is not None and math.isfinite(ours) and math.isfinite(theirs):
            share = -analysis.decision.worse(ours, theirs, measure) if analysis.decision.is_relative else None
            gain = _Gain(measure.cost(theirs) - measure.cost(ours), share)
        levels = [numeric(theirs)] if self.quoted else []
        levels += [numeric(analysis.baselines(m).get(name, math.nan)) for m in self.measures]
        return Standing(
            analysis.record.predictors.get(name, name), "looks at no picture", tuple(levels), *self._told(gain)
        )

    def _levels(self, trial: TrialResult | None, confirmed: Confirmed | None) -> tuple[Cell, ...]:
        fresh = confirmed.mean if confirmed else None
        levels = [numeric(math.nan if fresh is None else fresh)] if self.quoted else []
        return (*levels, *(numeric(self._level(m, trial)) for m in self.measures))

    def _level(self, measure: Measure, trial: TrialResult | None) -> float:
        """The mean of a trial's unbroken runs on validation; NaN where there is none."""
        own = next((t for t in self.analysis.results(measure) if trial and t.number == trial.number), None)
        values = [s.value for s in own.seeds if s.broke is False and math.isfinite(s.value)] if own else []
        return statistics.fmean(values) if values else math.nan

    def _gain(self, trial: TrialResult | None, confirmed: Confirmed | None) -> _Gain | None:
        """What the winner gains on a trial: under fresh seeds where it was confirmed, else in the study, as the decision has it."""
        decision, measure = self.analysis.decision, self.analysis.ranking
        if self.quoted:
            found = confirmed.behind if confirmed else None
            if found is None:
                return None
            if found.share is None or found.share_low is None or found.share_high is None:
                return _Gain(found.mean, None, found.low, found.high)
            return _Gain(found.mean, found.share, found.share_low, found.share_high)
        contrast = next((c for c in decision.contrasts if trial and c.trial == trial.number), None)
        if trial is None or contrast is None or self.winner is None:
            return None
        pairs = paired(trial, self.winner, decision.seeds)
        mean = statistics.fmean(measure.cost(s.value) - measure.cost(own) for s, own in pairs) if pairs else math.nan
        ends = (
            (contrast.low, contrast.high) if not decision.is_search else (math.nan, math.nan)
        )  # its own numbers judge no search
        if not decision.is_relative:
            return _Gain(mean, None, *ends)
        # A contrast is a share of the winner's value, a gain one of the other's.
        share, low, high = (worse / (1 + worse) for worse in (contrast.difference, *ends))
        return _Gain(mean, share, low, high)

    def _told(self, gain: _Gain | None) -> tuple[str, ...]:
        """A gain with its unit, and its share with the interval."""
        if gain is None:
            return ()
        write, unit = (_two, "") if gain.share is None else (_percent, f"{NO_BREAK}%")
        share = "" if gain.share is None else f"{_percent(gain.share)}{unit}"
        if math.isfinite(gain.low) and math.isfinite(gain.high):
            share += f" ({write(gain.low)} to {write(gain.high)}{unit})"
        return rough(gain.mean, self.analysis.ranking.unit).replace("-", "−"), share.strip()


def _fields(trial: TrialResult | None) -> dict[str, Any]:
    return swept_fields(trial.params) if trial else {}


def _made_of(trial: TrialResult) -> str:
    broke = f"; {trial.broken} of {counted(trial.finished, 'run')} broke" if trial.broken else ""
    return f"{trial.label}{broke}"


def _two(value: float) -> str:
    """Two significant digits, and no exponent."""
    return (f"{value:.0f}" if abs(value) >= 10 else f"{value:.2g}").replace("-", "−")


def _percent(share: float) -> str:
    """A share as per cent, without the sign; beyond a bound, that it lies beyond."""
    if abs(100 * share) <= MOST_PERCENT:
        return _two(100 * share)
    return f">{NO_BREAK}{MOST_PERCENT}" if share > 0 else f"<{NO_BREAK}−{MOST_PERCENT}"


# What would decide more


def next_step(analysis: Analysis) -> Step | None:
    """What would decide more; None where all is decided, or nothing is known that would."""
    decision, name, confirmation = analysis.decision, analysis.record.name, analysis.confirmation
    confirm = f"sweep confirm {name}"
    if analysis.is_unfinished:
        return Step("It is unfinished. To go on:", f"sweep resume {name}")
    if decision.state == "not_learnt":
        return Step(
            "Train longer, or at another rate: weights tell nothing before a trial beats the trivial predictors."
        )
    if decision.trial is None or (confirmation and confirmation.quoted):
        return None
    if decision.state == "anecdote":
        return _more_seeds(analysis, LEAST_SEEDS + 2, "Five seeds and more tell differences from luck:")
    if decision.state == "undecided" and not decision.is_search and not decision.race:
        needed = decision.seeds_needed or 0
        margin = amount(decision.margin, decision, analysis.ranking)
        return _more_seeds(analysis, needed, f"About {needed} seeds would tell {margin} apart:")
    if confirmation:
        return Step("It is to be confirmed anew, or to the end:", confirm)
    return Step("Fresh seeds and the test pictures make it a result:", confirm)


def _more_seeds(analysis: Analysis, count: int, text: str) -> Step | None:
    """A step to so many seeds, which are the spec's and more; None where they are there already, or others than the first ones."""
    seeds = analysis.record.seeds
    is_counted = seeds == tuple(range(len(seeds)))
    return Step(text, f"{_begun_by(analysis.record)} --seeds {count}") if is_counted and count > len(seeds) else None


def _begun_by(record: StudyRecord) -> str:
    """The command that began the study, but for its seeds; of one that was begun otherwise, that on the spec that its page offers."""
    if not record.command.startswith("sweep start "):
        return f"sweep start {record.name}.toml"
    return re.sub(r" --seeds[ =]\S+", "", record.command)
