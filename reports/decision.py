"""What a study's numbers allow to be said: one decision, for the page, `sweep best`, `status`, `start` and export.

It needs trials with their values and numpy, but neither pandas nor a database. How it says it is `reports.wording`'s.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

import numpy as np

from depth_loss_sweep.reports import comparisons
from depth_loss_sweep.reports.comparisons import LEVEL, Fit
from depth_loss_sweep.reports.intervals import known, proportion_interval, t_interval
from depth_loss_sweep.reports.measures import Measure
from depth_loss_sweep.reports.rule import Design, judge
from depth_loss_sweep.reports.scenes import Effects, PictureValues, scene_effects, scene_fit, standard_error, widened
from depth_loss_sweep.reports.stages import LEAST_SEEDS, Race
from depth_loss_sweep.reports.trials import TrialResult

State = Literal[
    "incomparable",
    "unfinished",
    "diverged",
    "not_learnt",
    "single",
    "anecdote",
    "use",
    "equivalent",
    "undecided",
]
Choice = Literal["", "only", "least mean", "smoothed", "simplest"]

MARGIN = 0.02
MOST_LOG = 700.0  # beyond, a share is more than a float holds
COMBINED, OTHER_PICTURES = "the combined loss is not comparable", "the trials differ in their data"


@dataclass(frozen=True)
class Question:
    """What is asked of trials: by which measure, beside which trivial predictors, and of which design.

    `line` is trial -> place where one numeric variable is swept; `objection` says why nothing can be compared. `margin` is
    what makes no difference: a share of the measure, or, of fractions and of what can be 0 or less, in its unit. `looks`
    are how often the study was looked at, each time with more seeds: they share the level. `pictures` judge, where it is
    known how many. Of a race, `stages` are after how many of its `seeds`, in their order, it is decided.
    `is_first_of_two` says that there is a second objective, which `reports.front` takes up and nothing here minds.
    """

    measure: Measure
    baselines: Mapping[str, float] = field(default_factory=dict)
    line: Mapping[int, float] = field(default_factory=dict)
    objection: str = ""
    is_search: bool = False
    is_unfinished: bool = False
    margin: float = MARGIN
    looks: int = 1
    pictures: int | None = None
    stages: tuple[int, ...] = ()
    seeds: tuple[int, ...] = ()
    is_first_of_two: bool = False

    @property
    def level(self) -> float:
        """Of every statement; the stages of a race share it."""
        return LEVEL / self.looks / max(1, len(self.stages))


@dataclass(frozen=True)
class Breaks:
    """How many of a trial's finished runs broke, and the exact 95 % interval of the probability."""

    trial: int
    broken: int
    runs: int
    low: float
    high: float


@dataclass(frozen=True)
class Contrast:
    """By how much a trial is worse than the one that is named, with an interval that holds for all pairs at once.

    With one over scenes, too, where they are measured.
    """

    trial: int
    difference: float
    low: float
    high: float
    low_scenes: float | None = None
    high_scenes: float | None = None

    @property
    def is_worse(self) -> bool:
        """Whether it is shown to be worse."""
        return self.low > 0


@dataclass(frozen=True)
class Decision:
    """What may be said of a study; `trial` is None where nothing may be named.

    `kept` may be best; whoever is outside isn't shown to be worse than `trial`: that takes a contrast. `bound` is by how much
    `trial` may be worse than the best tried (95 %), among unbroken runs; it, `margin`, `detectable` and contrasts are shares
    of the measure where `is_relative`, else in its unit. `bound_scenes` counts scenes as a sample, too, and so does whatever
    else is called so; `holds_beyond` says whether what is said of these pictures is then said of others. `seeds` are those
    common to the `compared`, `seeds_left` those that some of them have no value under; `left` says who wasn't compared, and
    why. `mean`, `low`, `high` are of the unbroken runs of `trial` under them. `detectable` is what the noise lets be seen,
    and `seeds_needed` from how many seeds on that is the margin. `scenes` judge in `pictures`, unless `scenes_missing` says
    why nothing is known of them; `error_seeds` and `error_scenes` are the standard errors of the level by either. Of a race it
    is what its last stage says; `compared` are all that began. `is_confirmed` is a search's that its best decide under fresh seeds;
    one that `is_search` with a `race` waits for the race of its best, which stands there so far. `is_first_of_two`: it is by
    the first of two objectives alone.
    """

    state: State
    trial: int | None = None
    kept: tuple[int, ...] = ()
    bound: float | None = None
    bound_scenes: float | None = None
    is_settled: bool = False
    so_far: bool = False
    choice: Choice = ""
    margin: float = MARGIN
    is_relative: bool = True
    is_search: bool = False
    is_confirmed: bool = False
    objection: str = ""
    compared: tuple[int, ...] = ()
    left: dict[int, str] = field(default_factory=dict)
    seeds: tuple[int, ...] = ()
    seeds_left: tuple[int, ...] = ()
    beating: int | None = None
    mean: float | None = None
    low: float | None = None
    high: float | None = None
    pictures: int | None = None
    scenes: int | None = None
    scenes_missing: str = ""
    holds_beyond: bool = False
    low_scenes: float | None = None
    high_scenes: float | None = None
    error_seeds: float | None = None
    error_scenes: float | None = None
    gate: str = ""
    gate_p: float | None = None
    gate_level: float | None = None
    is_pilot: bool = False
    looks: int = 1
    detectable: float | None = None
    seeds_needed: int | None = None
    broken: tuple[Breaks, ...] = ()
    contrasts: tuple[Contrast, ...] = ()
    race: Race | None = None
    is_first_of_two: bool = False

    def worse(self, value: float, than: float, measure: Measure) -> float:
        """By how much a value is worse than another, as contrasts say it: a share, or in the measure's unit."""
        if not self.is_relative:
            return measure.cost(value) - measure.cost(than)
        return (than / value if measure.higher_is_better else value / than) - 1

    def as_dict(self) -> dict[str, Any]:
        """JSON-able."""
        return {**asdict(self), "left": {str(n): why for n, why in self.left.items()}}

    def breaks_of(self, trial: int | None) -> Breaks | None:
        """How often a trial broke; None of one that has no finished run."""
        return next((b for b in self.broken if b.trial == trial), None)


@dataclass(frozen=True, eq=False)
class _Table:
    """The trials that are compared under the seeds they share: values as measured and as compared, (trials, seeds).

    `effects` are what scenes do to them, or why that isn't known.
    """

    trials: Sequence[TrialResult]
    seeds: tuple[int, ...]
    seeds_left: tuple[int, ...]
    raw: np.ndarray
    y: np.ndarray
    unbroken: np.ndarray
    is_relative: bool
    effects: Effects | str

    @property
    def numbers(self) -> tuple[int, ...]:
        return tuple(t.number for t in self.trials)

    def told(self, difference: float) -> float:
        """A difference as it is said: a share, or in the measure's unit."""
        if not self.is_relative:
            return difference
        return math.expm1(difference) if difference < MOST_LOG else math.inf


def objection_to(objective: Measure, variables: Sequence[str]) -> str:
    """Why a study's trials cannot be compared at all, in a few words; empty where they can."""
    if not objective.is_comparable:
        return COMBINED
    return OTHER_PICTURES if any(name.startswith("data.") for name in variables) else ""


def ranking_of(objective: Measure, rmse: Measure) -> Measure:
    """What trials are ranked by: the objective, or RMSE in place of the incomparable combined loss."""
    return objective if objective.is_comparable else rmse


def decide(
    trials: Sequence[TrialResult],
    question: Question,
    pictures: PictureValues | None = None,
    before: Decision | None = None,
    among: int = 0,
) -> Decision:
    """The first of the states that fits; see DESIGN, "What may be compared".

    Of a stage of a race (see `reports.race`), `before` is what the stage before it said, `among` how many trials began.

    Pruned, failed and unfinished trials leave first, and one that shows another's runs; the rest is compared under the seeds
    that all of them have. A run without a finite value counts as the training-median predictor. `pictures` are the numbers
    that the runs' values are means of.
    """
    measure = question.measure
    order = sorted(trials, key=lambda t: t.number)
    left = left_out(order)
    compared = [t for t in order if t.number not in left]
    about: dict[str, Any] = {
        "left": left,
        "compared": tuple(t.number for t in compared),
        "margin": question.margin,
        "is_search": question.is_search,
        "is_first_of_two": question.is_first_of_two,
        "so_far": question.is_unfinished and bool(compared),
        "pictures": question.pictures,
        "broken": tuple(_breaks(t) for t in order if t.finished),
    }
    if question.objection:
        return Decision("incomparable", objection=question.objection, **about)
    if not compared:
        return Decision("unfinished", **about)
    if all(math.isinf(value) for t in compared for value in t.values):
        return Decision("diverged", **about)
    table = _table(compared, question, pictures)
    means = np.nanmean(table.raw, axis=1)
    is_better = _beat(means, question)
    about |= {"seeds": table.seeds, "seeds_left": table.seeds_left, "is_relative": table.is_relative}
    about["beating"] = int(is_better.sum()) if question.baselines else None
    if not is_better.any():
        return Decision("not_learnt", **about)
    if len(compared) == 1:
        return Decision("single", compared[0].number, table.numbers, choice="only", **about, **_level(table, 0))
    if len(table.seeds) < LEAST_SEEDS or not table.unbroken.any():
        ahead = int(np.where(is_better, measure.cost(means), np.inf).argmin())
        state: State = "anecdote" if len(table.seeds) < LEAST_SEEDS else "undecided"
        return Decision(
            state, table.numbers[ahead], table.numbers, choice="least mean", **about, **_level(table, ahead)
        )
    rejection = before if before and before.state == "use" else None
    return _compare(table, question, is_better, about, rejection, among)


def left_out(order: Sequence[TrialResult]) -> dict[int, str]:
    """Trial -> why it isn't compared; trials in the order of their numbers."""
    left: dict[int, str] = {}
    shown: dict[tuple[str, ...], int] = {}
    for trial in order:
        runs = tuple(sorted(s.run for s in trial.seeds if s.is_finished))
        if trial.state in ("pruned", "failed"):
            left[trial.number] = trial.state
        elif len(runs) < max(trial.expected, 1):
            left[trial.number] = "unfinished"
        elif 2 * len(trial.values) < len(runs):
            left[trial.number] = "not measured"
        elif shown.setdefault(runs, trial.number) != trial.number:
            left[trial.number] = f"the same runs as trial {shown[runs]}"
    return left


def decided_by(own: Decision, best: Decision, why: str) -> Decision:
    """A search's decision, as its best decide it under fresh seeds; `why` says of all others that they aren't compared."""
    left = {n: why for n in own.compared if n not in best.compared}
    return replace(best, left={**own.left, **left, **best.left}, so_far=own.so_far, is_confirmed=True)


def _breaks(trial: TrialResult) -> Breaks:
    return Breaks(trial.number, trial.broken, trial.finished, *proportion_interval(trial.broken, trial.finished))


def compared_values(trials: Sequence[TrialResult], question: Question) -> tuple[list[TrialResult], np.ndarray]:
    """The trials that are compared, and their values under the seeds that all of them have, (trials, seeds), as they are compared.

    Less is better: the log of a positive measure, a fraction as it is. None where they share no seed, or all diverged.
    """
    order = sorted(trials, key=lambda t: t.number)
    left = left_out(order)
    compared = [t for t in order if t.number not in left]
    if all(math.isinf(value) for t in compared for value in t.values):
        return [], np.empty((0, 0))
    table = _table(compared, question, None)
    return (compared, table.y) if table.seeds else ([], np.empty((0, 0)))


def _table(compared: Sequence[TrialResult], question: Question, pictures: PictureValues | None) -> _Table:
    """Less is better in `y`: the log of a positive measure, a fraction as it is."""
    by_seed = [{s.seed: s for s in t.seeds if not math.isnan(s.value)} for t in compared]
    common = sorted(set.intersection(*map(set, by_seed)))
    every = sorted({seed for own in by_seed for seed in own})
    # With no seed in common there is nothing to pair; each trial then keeps its own, for its level.
    seeds = common or every
    values = np.array([[own[s].value if s in own else math.nan for s in seeds] for own in by_seed])
    broke = np.array(
        [[s not in own or own[s].broke is True or math.isinf(own[s].value) for s in seeds] for own in by_seed]
    )
    raw = np.where(np.isinf(values), instead_of_infinite(values, question.measure, question.baselines), values)
    is_relative = question.measure.unit != "fraction" and float(np.nanmin(raw)) > 0
    y = np.log(raw) if is_relative else raw
    signed = -y if question.measure.higher_is_better else y
    left = tuple(s for s in every if s not in common)
    runs = [[own[s].run if s in own else "" for s in seeds] for own in by_seed]
    effects = scene_effects(pictures, runs, raw, ~broke)
    return _Table(compared, tuple(common), left, raw, signed, ~broke, is_relative, effects)


def instead_of_infinite(values: np.ndarray, measure: Measure, baselines: Mapping[str, float]) -> float:
    """What a run without a finite value counts as: the training-median predictor, or the worst value where that is unknown."""
    finite = values[np.isfinite(values)]
    worst = float(finite.min() if measure.higher_is_better else finite.max())
    return baselines.get("median", worst)


def _beat(means: np.ndarray, question: Question) -> np.ndarray:
    """Which means are better than every trivial predictor; all of them where none is known."""
    known = list(question.baselines.values())
    if not known:
        return np.ones(len(means), dtype=bool)
    return means > max(known) if question.measure.higher_is_better else means < min(known)


def _level(table: _Table, row: int) -> dict[str, Any]:
    """The level of a trial's unbroken runs, with its own t-interval, and with what scenes add to it."""
    unbroken = table.unbroken[row]
    interval = t_interval(table.raw[row][unbroken])
    level: dict[str, Any] = {key: known(getattr(interval, key)) for key in ("mean", "low", "high")}
    level["error_seeds"] = known(interval.standard_error)
    if isinstance(table.effects, str):
        return {**level, "scenes_missing": table.effects}
    level["scenes"] = table.effects.raw.shape[2]
    if unbroken.any():
        effects = table.effects.raw[row][unbroken]
        level["error_scenes"] = standard_error(effects)
        level["low_scenes"], level["high_scenes"] = widened(interval, effects)
    return level


# Three seeds and two trials or more


def _compare(
    table: _Table,
    question: Question,
    is_better: np.ndarray,
    about: dict[str, Any],
    rejection: Decision | None,
    among: int,
) -> Decision:
    level, places = question.level, _places(table, question)
    margin = math.log1p(question.margin) if table.is_relative else question.margin
    design = Design(
        places, _simplicity(table.trials), margin, level, question.is_search, among, max(1, len(question.stages))
    )
    judged = judge(table.y[None], table.unbroken[None], is_better[None], design, np.array([rejection is not None]))
    row, bound, sd = int(judged.named[0]), float(judged.bound[0]), float(judged.fit.sd[0])
    weights = max(int((judged.fit.counts > 0).sum()), among)
    gate: dict[str, Any] = {
        "gate": judged.gate.name,
        "gate_p": float(judged.gate.p[0]),
        "is_pilot": judged.gate.is_pilot,
        "looks": question.looks,
    }
    if rejection and gate["gate_p"] >= level:  # it stays, and is shown as it was
        gate = {key: getattr(rejection, key) for key in gate}
    state: State = "use" if judged.rejects[0] else "equivalent" if judged.all_within[0] else "undecided"
    choice: Choice = "simplest" if judged.is_simplest[0] else "least mean" if places is None else "smoothed"
    scenes, beyond = _over_scenes(table, among), None
    if scenes and not question.is_search:
        beyond = float(comparisons.regret_bound(judged.fit, judged.named, level, scenes)[0])
    against = _contrasts(table, judged.fit, row, level, scenes)
    return Decision(
        state,
        table.numbers[row],
        tuple(n for n, may_be_best in zip(table.numbers, judged.kept[0], strict=True) if may_be_best),
        bound=None if question.is_search else known(table.told(bound)),
        bound_scenes=None if beyond is None else known(table.told(beyond)),
        is_settled=not question.is_search and bound <= margin,
        holds_beyond=beyond is not None
        and (beyond <= margin or (state == "use" and any((c.low_scenes or 0) > 0 for c in against))),
        choice=choice,
        gate_level=level,
        detectable=known(table.told(comparisons.detectable(sd, weights, len(table.seeds), level))),
        seeds_needed=comparisons.seeds_needed(sd, weights, margin, level)
        if math.isfinite(sd) and weights > 1
        else None,
        contrasts=against,
        **gate,
        **about,
        **_level(table, row),
    )


def _simplicity(trials: Sequence[TrialResult]) -> np.ndarray:
    """The trials' ranks: fewest non-zero terms first, then the lowest number."""
    order = sorted(range(len(trials)), key=lambda row: (sum(w > 0 for w in trials[row].weights.values()), row))
    return np.argsort(order)


def _places(table: _Table, question: Question) -> np.ndarray | None:
    """The trials' places on a line of at least three; None where there is none."""
    places = [question.line.get(n, math.nan) for n in table.numbers]
    return np.array(places) if np.isfinite(places).all() and len({*places}) >= 3 else None


def _over_scenes(table: _Table, among: int) -> Fit | None:
    """The trials over scenes, as their fit has them over seeds; `among` as many as began."""
    if isinstance(table.effects, str):
        return None
    return scene_fit(table.effects.relative if table.is_relative else table.effects.raw, table.unbroken, among)


def _contrasts(table: _Table, found: Fit, row: int, level: float, scenes: Fit | None) -> tuple[Contrast, ...]:
    """Every other trial against the named one."""
    against = comparisons.contrasts(found, np.array([row]), level)
    mean, half = against.mean[0], against.half[0]
    over = np.full(len(mean), np.nan)
    if scenes:
        over = np.hypot(half, comparisons.contrasts(scenes, np.array([row]), level).half[0])
    return tuple(
        Contrast(
            n,
            *(table.told(end) for end in (mean[i], mean[i] - half[i], mean[i] + half[i])),
            *(known(table.told(end)) for end in (mean[i] - over[i], mean[i] + over[i])),
        )
        for i, n in enumerate(table.numbers)
        if i != row and math.isfinite(table.told(mean[i] + half[i]))
    )


def contrasts_with(
    compared: Sequence[TrialResult], named: int, question: Question, pictures: PictureValues | None, among: int
) -> tuple[tuple[Contrast, ...], dict[int, bool]]:
    """How compared trials stand to one of them, which a later stage of their race names; and whether each beats the trivial
    predictors.
    """
    table = _table(compared, question, pictures)
    found = comparisons.fit(table.y[None], table.unbroken[None], among)
    is_better = _beat(np.nanmean(table.raw, axis=1), question)
    contrasts = _contrasts(table, found, table.numbers.index(named), question.level, _over_scenes(table, among))
    return contrasts, dict(zip(table.numbers, map(bool, is_better), strict=True))
