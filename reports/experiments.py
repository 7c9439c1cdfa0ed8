"""What is trained for each claim of the paper, and the tests that judge it.

Rules were fixed before any of this was trained. Where several arms were trained, the one that a rule names decides; the others are
shown beside it.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from depth_loss_sweep.reports import claims, comparisons, dose
from depth_loss_sweep.reports.claims import LOOKS, ONCE, Looks, Test
from depth_loss_sweep.reports.comparisons import LEVEL
from depth_loss_sweep.reports.confirmation import EQUAL_WEIGHTS, WINNER
from depth_loss_sweep.reports.evidence import COMBINED, F1, RMSE, Arm, Evidence, Member, required
from depth_loss_sweep.reports.references import PAPER

MARGIN = 0.02
FIGURE = (0, 1, 2, 3, 4)
"""The seeds under which a whole figure of the paper is trained."""

CHOOSING = tuple(range(10))
"""The seeds by which a weight of Eq. 12 is chosen; it is judged on others."""

FRESH = 12
BROKEN_BEYOND, ONSET_WITHIN, CALM = 0.5, (0.35, 0.75), (0.6, 0.75)
MIDDLE = (0.45, *CALM)
RATES = (1e-4, 2e-4, 5e-4, 1e-3, 2e-3)
RATE_SEEDS = (0, 1, 2)
PAPER_RATE, PAPER_PICTURES = 2e-4, 30
LONG = 40
ENDS = (0.0, 0.9)


def _at_looks(test: Callable[[int], Test | None]) -> Looks:
    """A paired claim's tests, as far as their seeds are trained."""
    found: list[Test] = []
    for n in LOOKS:
        looked = test(n)
        if looked is None:
            break
        found.append(looked)
    return Looks(tuple(found))


def _once(test: Test | None) -> Looks:
    return Looks((test,) if test else (), ONCE)


def _all(tests: Sequence[Test | None]) -> Test | None:
    """That all of these hold; None where one isn't measured yet."""
    known = [test for test in tests if test]
    return claims.all_of(known) if known and len(known) == len(tests) else None


def _first(n: int, start: int = 0) -> tuple[int, ...]:
    return tuple(range(start, start + n))


# H1: SILog against SSIM

SSIM_ARM, SILOG_ARM = Arm("eq-11-ends", {"w": 0.9}), Arm("eq-11-ends", {"w": 0.0})


def eq_11(_: Evidence, n: int) -> tuple[Member, ...]:
    """The whole of Eq. 11, its ends, and these with the bounded head."""
    ends = {"search.w": [*ENDS]}
    return (
        Member("eq-11", "silog-vs-ssim", {}, FIGURE, ("H1", "H1b", "H10", "H11")),
        Member("eq-11-ends", "silog-vs-ssim", ends, _first(n), ("H1", "H1b"), most=LOOKS[-1]),
        Member(
            "eq-11-ends-bounded",
            "silog-vs-ssim",
            {**ends, "model.head": "log_sigmoid"},
            FIGURE,
            ("H1", "H1b"),
            is_beside=True,
        ),
    )


def more_ssim(split: str) -> Callable[[Evidence], Looks]:
    """SSIM .9 against SILog .9 in RMSE on a split."""
    return lambda e: _at_looks(lambda n: e.paired(claims.difference, SSIM_ARM, SILOG_ARM, _first(n), split=split))


# H2: SILog beside the best of Eq. 12


def chosen(evidence: Evidence) -> float | None:
    """The weight of Eq. 12 that is least by the smoother over the seeds that choose."""
    values = evidence.line("eq-12", CHOOSING)
    if values is None:
        return None
    found = comparisons.fit(np.log(values)[None], np.ones((1, *values.shape), dtype=bool))
    places = evidence.places("eq-12")
    return float(places[int(np.argmin(comparisons.smoothed(found, places)[0]))])


def silog_added(evidence: Evidence, n: int) -> tuple[Member, ...]:
    """The best weight of Eq. 12 without SILog and with a little, on seeds that did not choose it; and SILog's forms."""
    found = (_eq_12(), *_silog_forms())
    best = chosen(evidence)
    if best is None:
        return found
    sweep = {"search.w": [best], "search.s": [0.0, 0.05], "weights.silog": "s"}
    seeds = _first(n, len(CHOOSING))
    return (*found, Member("eq-12-silog", "ssim-vs-edge", sweep, seeds, ("H2",), most=LOOKS[-1]))


def _silog_forms() -> tuple[Member, ...]:
    return (
        Member("silog-forms", "silog-forms", {}, FIGURE, ("H2",), is_beside=True),
        Member("silog-forms-rooted", "silog-forms-rooted", {}, FIGURE, ("H2",), is_beside=True),
    )


def silog_not_critical(evidence: Evidence) -> Looks:
    """SILog 0 is within the margin of SILog .05."""
    without, with_it = Arm("eq-12-silog", {"s": 0.0}), Arm("eq-12-silog", {"s": 0.05})
    return _at_looks(
        lambda n: evidence.paired(
            claims.equivalence, without, with_it, _first(n, len(CHOOSING)), margin=MARGIN, side="worse"
        )
    )


# H3: SSIM against edge


def _eq_12() -> Member:
    return Member("eq-12", "ssim-vs-edge", {}, CHOOSING, ("H2", "H3", "H4", "H5", "H10", "H11"), confirm=FRESH)


def line_again(_: Evidence, n: int) -> tuple[Member, ...]:
    """Eq. 12 under other seeds than those that choose."""
    again = Member("eq-12-again", "ssim-vs-edge", {}, _first(n, len(CHOOSING)), ("H3",), most=LOOKS[-1])
    return (_eq_12(), again)


def chosen_between(evidence: Evidence) -> float | None:
    """The weight between the ends of Eq. 12 that is least by the smoother over the seeds that choose."""
    values = evidence.line("eq-12", CHOOSING)
    if values is None:
        return None
    places = evidence.places("eq-12")
    return float(places[claims.interior(values, places, is_relative=True)])


def trade_off(evidence: Evidence) -> Looks:
    """A weight between the ends of Eq. 12 beats both."""
    between = chosen_between(evidence)
    if between is None:
        return Looks(())
    index = int(np.argmin(np.abs(evidence.places("eq-12") - between)))

    def look(n: int) -> Test | None:
        values = evidence.line("eq-12-again", _first(n, len(CHOOSING)))
        return None if values is None else claims.trade_off(index, values, MARGIN, is_relative=True)

    return _at_looks(look)


# H4: the dose

FAMILY = 10
"""The paper's claims; ours are a family of their own."""

MIDDLE_SEEDS = dose.calm_seeds(LEVEL / FAMILY)
"""At the doses around .5: so many seeds without a break show, at the level of the family's first step, that less than 10 % break."""


def doses(_: Evidence, _n: int) -> tuple[Member, ...]:
    """The dose of the edge term, longer at the two calm doses; its other forms; Eq. 12."""
    kinds = ("edge-instability-bounded", "edge-instability-smoothness", "edge-instability-smoothness-bounded")
    return (
        Member("edge-instability", "edge-instability", {}, _first(FRESH), ("H4",)),
        Member("edge-instability-middle", "edge-instability", {"search.w": [*MIDDLE]}, _first(MIDDLE_SEEDS), ("H4",)),
        *(Member(kind, kind, {}, FIGURE, ("H4",), is_beside=True) for kind in kinds),
        _eq_12(),
    )


def instability(evidence: Evidence) -> Looks:
    """Where along the dose training breaks."""
    seeds = {"edge-instability": _first(FRESH), "edge-instability-middle": _first(MIDDLE_SEEDS)}
    found = evidence.breaks(seeds) if all(evidence.is_there(key, own) for key, own in seeds.items()) else None
    return _once(dose.instability(found, BROKEN_BEYOND, ONSET_WITHIN, CALM) if found else None)


# H5: Table 2 under fresh seeds


def table_2(_: Evidence, _n: int) -> tuple[Member, ...]:
    """Eq. 12 with its winner confirmed beside Table 2; Table 2 by itself, and its neighbours."""
    return (
        _eq_12(),
        Member("table-2", "table-2", {}, FIGURE, ("H5",), is_beside=True),
        Member("table-2-neighbours", "table-2-neighbours", {}, FIGURE, ("H5",), is_beside=True),
    )


def fresh(evidence: Evidence, called: str) -> np.ndarray | None:
    """The values of a confirmed candidate, by its name or role, under the first fresh seeds, on the test pictures if there are any.

    Under no more than were fixed beforehand: who adds seeds until it is decided has looked more often than the level allows.
    """
    analysis = evidence.analyses.get("eq-12")
    record = analysis.record.confirmation if analysis else None
    if analysis is None or record is None or not record.is_current or len(record.seeds) < FRESH:
        return None
    name = next((c.name for c in record.candidates if called in (c.name, *c.roles)), None)
    seeds = sorted(record.seeds)[:FRESH]
    own = sorted((run for run in record.runs if run.candidate == name and run.seed in seeds), key=lambda run: run.seed)
    if name is None or len(own) < FRESH or not all(run.is_finished for run in own):
        return None
    split = "test" if record.test_images else "val"
    instead = record.baselines.get(split, {}).get("median", {}).get(RMSE, math.nan)
    values = [run.test if record.test_images else run.val for run in own]
    return np.array([value if math.isfinite(value) else instead for value in values])


def table_2_is_good(evidence: Evidence) -> Looks:
    """Table 2 is within the margin of the winner, and better than equal weights."""
    winner, equal, table_2 = (fresh(evidence, role) for role in (WINNER, EQUAL_WEIGHTS, PAPER))
    if winner is None or equal is None or table_2 is None:
        return Looks((), ONCE)
    near = claims.non_inferiority(table_2, winner, MARGIN, is_relative=True)
    return _once(claims.all_of([near, claims.difference(table_2, equal, is_relative=True)]))


# H6 and H7: batch norm, and the small validation set

OFF, ON = Arm("batch-norm-off"), Arm("batch-norm-on")
BY_PICTURE = frozenset({"batch-norm-rates"})
"""The members of which a claim wants the terms of every picture."""

PAPER_NORM = Arm("batch-norm-rates", {"model.batch_norm": True, "train.learning_rate": PAPER_RATE})


def norm_rates(_: Evidence, _n: int) -> tuple[Member, ...]:
    """Batch norm and none at five rates."""
    return (
        Member("batch-norm-rates", "batch-norm", {"search.train.learning_rate": [*RATES]}, RATE_SEEDS, ("H6", "H7")),
    )


def best_rates(evidence: Evidence) -> dict[bool, float] | None:
    """The rate of least mean RMSE without batch norm and with it."""
    if not evidence.is_there("batch-norm-rates", RATE_SEEDS):
        return None
    arms = {
        on: [Arm("batch-norm-rates", {"model.batch_norm": on, "train.learning_rate": r}) for r in RATES]
        for on in (False, True)
    }
    means = {on: [float(np.mean(required(evidence.values(arm, RATE_SEEDS)))) for arm in of] for on, of in arms.items()}
    return {on: RATES[int(np.argmin(of))] for on, of in means.items()}


def batch_norm(evidence: Evidence, n: int) -> tuple[Member, ...]:
    """Each with its best rate, on seeds that did not choose it."""
    rates = best_rates(evidence)
    if rates is None:
        return norm_rates(evidence, n)
    seeds = _first(n, len(RATE_SEEDS))
    arms = (
        Member(
            arm.key,
            "table-2",
            {"model.batch_norm": on, "train.learning_rate": rates[on]},
            seeds,
            ("H6",),
            most=LOOKS[-1],
        )
        for arm, on in ((OFF, False), (ON, True))
    )
    return (*norm_rates(evidence, n), *arms)


def batch_norm_changes_nothing(evidence: Evidence) -> Looks:
    """Training loss and RMSE on validation are within the margin."""

    def look(n: int) -> Test | None:
        seeds = _first(n, len(RATE_SEEDS))
        measures = ((COMBINED, "train"), (RMSE, "val"))
        return _all([evidence.paired(claims.equivalence, ON, OFF, seeds, *m, margin=MARGIN) for m in measures])

    return _at_looks(look)


def small_set(evidence: Evidence) -> Looks:
    """The combined loss on validation, by scenes, against that of training."""
    analysis, trial = evidence.analyses.get("batch-norm-rates"), evidence.trial(PAPER_NORM)
    training = evidence.values(PAPER_NORM, RATE_SEEDS, COMBINED, "train")
    if analysis is None or trial is None or training is None:
        return Looks((), ONCE)
    found = analysis.record.images
    terms = {term: weight for term, weight in trial.weights.items() if weight}
    runs = [s.run for s in trial.seeds if s.seed in RATE_SEEDS]
    if any(f"term_{t}" not in found or r not in found[f"term_{t}"].values for t in terms for r in runs):
        return Looks((), ONCE)
    # The combined loss of each picture, and its mean over the runs.
    of_runs = np.array([[w * found[f"term_{t}"].values[run] for t, w in terms.items()] for run in runs])
    loss = of_runs.sum(axis=1).mean(axis=0)
    scenes = next(iter(found.values())).scenes
    known = np.isfinite(loss)
    return _once(
        claims.validation_gap(
            loss[known],
            [s for s, k in zip(scenes, known, strict=True) if k],
            float(training.mean()),
            PAPER_PICTURES,
            MARGIN,
        )
    )


# H8: augmentation

ALL = "brightness+contrast+flip_h+flip_v"


def augmented(key: str) -> tuple[Arm, Arm, Arm]:
    """None, all drawn at each step, and the enlarged set."""
    return (
        Arm(f"augmentation-{key}", {"train.augment": "none"}),
        Arm(f"augmentation-{key}", {"train.augment": ALL}),
        Arm(f"enlarged-{key}"),
    )


def augmentation(_: Evidence, n: int) -> tuple[Member, ...]:
    """None and all at each step, and the enlarged set, at 10 and at 40 epochs."""
    longer = {"train.epochs": LONG}
    return (
        Member("augmentation-10", "augmentation", {}, _first(n), ("H8",), most=LOOKS[-1]),
        Member("enlarged-10", "augmentation-enlarged", {}, _first(n), ("H8",), most=LOOKS[-1]),
        Member("augmentation-40", "augmentation", longer, FIGURE, ("H8",), is_beside=True),
        Member("enlarged-40", "augmentation-enlarged", longer, FIGURE, ("H8",), is_beside=True),
    )


def _generalises(evidence: Evidence, arm: Arm, none: Arm, seeds: Sequence[int]) -> Test | None:
    """Less RMSE on validation, and less of it beyond that of the training pictures."""
    found = [evidence.values(a, seeds, split=split) for split in ("val", "train") for a in (arm, none)]
    known = [values for values in found if values is not None]
    if len(known) < len(found):
        return None
    a, b, train, train_without = known
    gain = claims.difference(a, b, is_relative=True)
    return claims.all_of([gain, claims.difference(a / train, b / train_without, is_relative=True)])


def augmentation_generalises(evidence: Evidence) -> Looks:
    """The enlarged set against none, at 10 epochs."""
    none, _, enlarged = augmented("10")
    return _at_looks(lambda n: _generalises(evidence, enlarged, none, _first(n)))


# H9: edges


def edges(_: Evidence, n: int) -> tuple[Member, ...]:
    """Eq. 12 without the edge term and with .45 of it."""
    return (Member("edge-45", "ssim-vs-edge", {"search.w": [0.0, 0.45]}, _first(n), ("H9",), most=LOOKS[-1]),)


def sharper(evidence: Evidence) -> Looks:
    """Edges are better, and RMSE no worse."""
    none, high = Arm("edge-45", {"w": 0.0}), Arm("edge-45", {"w": 0.45})

    def look(n: int) -> Test | None:
        sharper = evidence.paired(claims.difference, high, none, _first(n), F1)
        no_worse = evidence.paired(claims.non_inferiority, high, none, _first(n), margin=MARGIN)
        return _all([sharper, no_worse])

    return _at_looks(look)


# H10 and H11, ours


def lines(evidence: Evidence, n: int) -> tuple[Member, ...]:
    """Both lines."""
    return (eq_11(evidence, n)[0], _eq_12())


def misranks(evidence: Evidence) -> Looks:
    """One network gives both curves, and the least combined loss of Eq. 12 is the worst depth."""
    combined, rmse = (evidence.line("eq-12", FIGURE, column) for column in (COMBINED, RMSE))
    if combined is None or rmse is None:
        return Looks((), ONCE)
    worst = claims.misranking(combined, rmse, is_relative=True)
    return _once(_all([*(_reproduced(evidence, key) for key in LINES), worst]))


def _reproduced(evidence: Evidence, key: str) -> Test | None:
    """The curve of combined losses, beside what the network of the line's middle alone gives at its weights."""
    curve = evidence.line(key, FIGURE, COMBINED)
    if curve is None:
        return None
    trials = evidence.along(key)
    middle = Arm(key, trials[len(trials) // 2].params)
    terms = [term for term in trials[0].weights if any(t.weights[term] for t in trials)]
    own = [required(evidence.values(middle, FIGURE, f"term_{term}")) for term in terms]
    weights = np.array([[t.weights[term] for term in terms] for t in trials])
    return claims.arithmetic(curve.T, np.array(own).T, weights)


CONDITIONS: Mapping[str, tuple[str, Mapping[str, Any], int]] = {
    "half-rate": ("half the rate", {"train.learning_rate": PAPER_RATE / 2}, 1),
    "twice-rate": ("twice the rate", {"train.learning_rate": 2 * PAPER_RATE}, 1),
    "four-times": ("four times the epochs", {"train.epochs": LONG}, 1),
    "twice-size": ("twice the side", {}, 2),
}
CALLED = {"eq-11": "Eq. 11", "eq-12": "Eq. 12"}
LINES = {"eq-11": ("silog-vs-ssim", FIGURE), "eq-12": ("ssim-vs-edge", CHOOSING)}


def decided(evidence: Evidence) -> dict[str, Test] | None:
    """The lines whose ends differ in RMSE on validation, by themselves; None where that isn't known of both yet."""
    start, end = ({"w": w} for w in ENDS)
    tests = {
        key: evidence.paired(claims.difference, Arm(key, end), Arm(key, start), seeds)
        for key, (_, seeds) in LINES.items()
    }
    if any(test is None for test in tests.values()):
        return None
    return {key: test for key, test in tests.items() if test and test.p < LEVEL}


def conditions(evidence: Evidence, n: int) -> tuple[Member, ...]:
    """The ends of each line that differ, under other conditions."""
    return lines(evidence, n) + tuple(
        Member(f"{key}-{name}", LINES[key][0], {"search.w": [*ENDS], **overrides}, FIGURE, ("H11",), size=size)
        for key in decided(evidence) or ()
        for name, (_, overrides, size) in CONDITIONS.items()
    )


def survives(evidence: Evidence) -> Looks | None:
    """They differ in the same direction under each; None where no line's ends differ."""
    lines_ = decided(evidence)
    if lines_ == {}:
        return None
    found = ends_under_conditions(lines_ or {})
    return _once(_all([evidence.paired(claims.difference, *arms, FIGURE) for _, arms in found]))


def ends_under_conditions(lines_: Mapping[str, Test]) -> list[tuple[str, tuple[Arm, Arm]]]:
    """The better and the worse end of each line, as they are under the paper's condition, under each of the others."""
    start, end = ({"w": w} for w in ENDS)
    found = []
    for key, test in lines_.items():
        better, worse = (end, start) if test.effect > 0 else (start, end)
        for name, (words, _, _) in CONDITIONS.items():
            arms = Arm(f"{key}-{name}", better), Arm(f"{key}-{name}", worse)
            found.append((f"{CALLED[key]}, {words}", arms))
    return found
