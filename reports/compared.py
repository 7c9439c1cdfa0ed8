"""What each claim of the paper compares, in the measure's own unit, and on which machines: beside its effect, which is a share."""

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from depth_loss_sweep.reports import claims, dose
from depth_loss_sweep.reports import experiments as x
from depth_loss_sweep.reports.analysis import Analysis
from depth_loss_sweep.reports.claims import Test
from depth_loss_sweep.reports.confirmation import EQUAL_WEIGHTS, WINNER
from depth_loss_sweep.reports.evidence import COMBINED, F1, RMSE, Arm, Beside, Evidence, median
from depth_loss_sweep.reports.intervals import proportion_interval
from depth_loss_sweep.reports.measures import short
from depth_loss_sweep.reports.naming import weights_label
from depth_loss_sweep.reports.quotes import remarks
from depth_loss_sweep.reports.references import PAPER


@dataclass(frozen=True)
class Compared:
    """Arms that are compared seed by seed, by what they are called, in one measure."""

    arms: Mapping[str, Arm]
    column: str = RMSE
    split: str = "val"


Comparisons = Callable[[Evidence], tuple[Compared, ...]]
Notes = Callable[[Evidence], tuple[str, ...]]


# In words


def levels(evidence: Evidence, compared: Compared, most: int) -> str:
    """The means of some arms over the seeds that they share, `most` of them, beside the trivial predictors'; empty without runs."""
    seeds = _shared(evidence, compared, most)
    found = {
        words: evidence.values(arm, seeds, compared.column, compared.split) for words, arm in compared.arms.items()
    }
    if not seeds or any(values is None for values in found.values()):
        return ""
    first = evidence.analyses[next(iter(compared.arms.values())).key]
    measure = first.measure(compared.column)
    said = [
        f"{words}: {measure.write(float(np.mean(x.required(values))))}{_broken(evidence, compared.arms[words], seeds)}"
        for words, values in found.items()
    ]
    trivial = first.baselines(measure, compared.split) if compared.column == RMSE else {}
    said += [f"{first.record.predictors.get(name, name)}: {measure.write(value)}" for name, value in trivial.items()]
    return f"{measure.label} on {_pictures(first, compared.split)} ({len(seeds)} seeds): {'; '.join(said)}"


def crossing(evidence: Evidence, compared: Compared, most: int) -> tuple[int, int]:
    """How many seeds' runs, of how many, were trained in more than one environment: what differs between those is in their effect."""
    seeds = _shared(evidence, compared, most)
    return evidence.crossed(compared.arms.values(), seeds), len(seeds)


def _shared(evidence: Evidence, compared: Compared, most: int) -> tuple[int, ...]:
    ended = [
        {s.seed for s in trial.seeds if s.broke is not None} if (trial := evidence.trial(arm)) else set()
        for arm in compared.arms.values()
    ]
    return tuple(sorted(set.intersection(*ended)))[:most]


def _pictures(analysis: Analysis, split: str) -> str:
    """Which pictures a split's values are of: of the training pictures some are evaluated, the same ones at every epoch."""
    if split != "train":
        return "validation"
    evaluated = (analysis.record.spec.get("train") or {}).get("eval_images")
    return f"{evaluated} of the training pictures" if evaluated else "the training pictures"


def _broken(evidence: Evidence, arm: Arm, seeds: tuple[int, ...]) -> str:
    trial = evidence.trial(arm)
    broken = sum(s.broke is True for s in trial.seeds if s.seed in seeds) if trial else 0
    return f" ({broken} broke)" if broken else ""


# What each claim compares


def ssim_and_silog(split: str) -> Comparisons:
    """H1 and H1b."""
    arms = {"SSIM .9": x.SSIM_ARM, "SILog .9": x.SILOG_ARM}
    return lambda _: (Compared(arms, split=split),)


def silog_added(evidence: Evidence) -> tuple[Compared, ...]:
    """H2: beside the weight of Eq. 12 that was chosen."""
    best = x.chosen(evidence)
    if best is None:
        return ()
    beside = f"beside SSIM {short(0.9 - best)}, edge {short(best)}, L1 0.05"
    arms = {f"{beside}, SILog {short(s)}": Arm("eq-12-silog", {"s": s}) for s in (0.0, 0.05)}
    return (Compared(arms),)


def ends_and_between(evidence: Evidence) -> tuple[Compared, ...]:
    """H3: the chosen weight and both ends."""
    found = x.chosen_between(evidence)
    if found is None:
        return ()
    places = {f"w = {short(found)}, chosen": found, "w = 0": 0.0, "w = 0.9": 0.9}
    return (Compared({words: Arm("eq-12-again", {"w": w}) for words, w in places.items()}),)


def norms(evidence: Evidence) -> tuple[Compared, ...]:
    """H6: each with its rate."""
    rates = x.best_rates(evidence)
    if rates is None:
        return ()
    ends = (x.RATES[0], x.RATES[-1])
    named = {on: f"at rate {short(r)}{' (the last that was tried)' if r in ends else ''}" for on, r in rates.items()}
    arms = {f"with batch norm {named[True]}": x.ON, f"without {named[False]}": x.OFF}
    return (Compared(arms, COMBINED, "train"), Compared(arms))


def small_set(_: Evidence) -> tuple[Compared, ...]:
    """H7: one arm, on both splits."""
    arms = {"Table 2 with batch norm at the paper's rate": x.PAPER_NORM}
    return (Compared(arms, COMBINED), Compared(arms, COMBINED, "train"))


def augmented(_evidence: Evidence) -> tuple[Compared, ...]:
    """H8."""
    none, _drawn, enlarged = x.augmented("10")
    arms = {"the enlarged set": enlarged, "without augmentation": none}
    return (Compared(arms), Compared(arms, split="train"))


def edge_weights(_: Evidence) -> tuple[Compared, ...]:
    """H9."""
    arms = {f"edge {short(w)}": Arm("edge-45", {"w": w}) for w in (0.45, 0.0)}
    return (Compared(arms, F1), Compared(arms))


def both_lines(evidence: Evidence) -> tuple[Compared, ...]:
    """H10: where Eq. 12's combined loss is least, and where RMSE is most."""
    combined, rmse = (evidence.line("eq-12", x.FIGURE, column) for column in (COMBINED, RMSE))
    if combined is None or rmse is None:
        return ()
    places = evidence.places("eq-12")
    least, most = (float(places[i]) for i in (np.argmin(combined.mean(axis=1)), np.argmax(rmse.mean(axis=1))))
    if least == most:
        named = {f"w = {short(least)}, of the least combined loss, and worst": least}
    else:
        named = {f"w = {short(least)}, of the least combined loss": least, f"w = {short(most)}, the worst": most}
    return (Compared({words: Arm("eq-12", {"w": w}) for words, w in named.items()}),)


def conditions(evidence: Evidence) -> tuple[Compared, ...]:
    """H11: the ends of each line that differ, under each condition."""
    return tuple(
        Compared({f"{words}: w = {short(arm.point['w'])}": arm for arm in arms})
        for words, arms in x.ends_under_conditions(x.decided(evidence) or {})
    )


# What else there is to say

OTHER_DOSES = {
    "Eq. 9, bounded head": ("edge-instability-bounded",),
    "Eq. 4, linear head": ("edge-instability-smoothness",),
    "Eq. 4, bounded head": ("edge-instability-smoothness-bounded",),
}
"""The dose of H4 in forms that decide nothing: with the edge term of Eq. 4, which Eq. 6 does not use; under a head that stays in range."""
OWN_LINE = "Eq. 12's own line"
MORE_BEYOND, ONSET = "odds ratio to break above .5 against below", "edge weight from which on 10 % of seeds break"


def outcomes(evidence: Evidence) -> tuple[str, ...]:
    """H4: how runs ended, form by form; a run may look no better than the mean map without having broken as the rule has it."""
    forms = {
        "Eq. 9, linear head": ("edge-instability", "edge-instability-middle"),
        **OTHER_DOSES,
        OWN_LINE: ("eq-12", "eq-12-again"),
    }
    return tuple(filter(None, (_ends(evidence, words, keys) for words, keys in forms.items())))


def silog_forms(evidence: Evidence) -> tuple[str, ...]:
    """H2: what SILog's α and form make of depth where SILog weighs most."""
    said = []
    for key, form in {"silog-forms": "plain, as in the paper", "silog-forms-rooted": "rooted"}.items():
        analysis = evidence.analyses.get(key)
        if analysis is None or not evidence.is_there(key, x.FIGURE):
            continue
        measure = analysis.measure(RMSE)
        means = {
            trial.params["loss.silog_alpha"]: evidence.values(Arm(key, trial.params), x.FIGURE)
            for trial in analysis.trials
        }
        told = (f"α {short(a)}: {measure.write(float(np.mean(x.required(v))))}" for a, v in sorted(means.items()))
        said.append(
            f"SILog .9 (Eq. 11 at w = 0), {form}: RMSE on validation ({len(x.FIGURE)} seeds): {'; '.join(told)}"
        )
    return tuple(said)


def _ends(evidence: Evidence, words: str, keys: tuple[str, ...]) -> str:
    """Of the runs above .5 and of those up to .5: how many broke, in which way, and how many are worse than the mean map."""
    sides: dict[str, dict[tuple[float, int], tuple[str, bool | None, bool]]] = {"above .5": {}, "up to .5": {}}
    for key in keys:
        analysis = evidence.analyses.get(key)
        if analysis is None:
            continue
        map_ = analysis.baselines(analysis.measure(RMSE), "val").get("mean_map", math.inf)
        for trial in analysis.trials:
            w = analysis.line[trial.number]
            side = sides["above .5" if w > x.BROKEN_BEYOND else "up to .5"]
            side |= {(w, s.seed): (s.outcome, s.broke, not s.value <= map_) for s in trial.seeds if s.broke is not None}
    if not all(sides.values()):
        return ""
    return f"{words}: {'; '.join(_side(where, list(runs.values())) for where, runs in sides.items())}"


def _side(where: str, runs: list[tuple[str, bool | None, bool]]) -> str:
    kinds = Counter(outcome for outcome, broke, _ in runs if broke)
    ways = ", ".join(f"{n} {kind.replace('_', '-')}" for kind, n in kinds.items())
    how = f" ({ways})" if kinds else ""
    worse = sum(is_worse for _, _, is_worse in runs)
    return f"edge {where}: {kinds.total()} of {len(runs)} runs broke{how}, {worse} end worse than the mean map"


def confirmed(evidence: Evidence) -> tuple[str, ...]:
    """H5: what was confirmed, by its weights, in metres."""
    analysis = evidence.analyses.get("eq-12")
    record = analysis.record.confirmation if analysis else None
    if analysis is None or record is None:
        return ()
    called = {WINNER: "Eq. 12's winner", PAPER: "Table 2", EQUAL_WEIGHTS: "equal weights", "l1": "L1 alone"}
    measure, said = analysis.measure(RMSE), []
    for role, words in called.items():
        values = x.fresh(evidence, role)
        own = next((c for c in record.candidates if role in (c.name, *c.roles)), None)
        if values is not None and own is not None:
            said.append(
                f"{words} ({weights_label(own.weights, analysis.term_names)}): {measure.write(float(values.mean()))}"
            )
    pictures = "test" if record.test_images else "validation"
    noted = remarks(analysis.confirmation) if analysis.confirmation else ()
    return (f"RMSE on {pictures} ({x.FRESH} fresh seeds): {'; '.join(said)}", *noted) if said else ()


# Tests beside those that decide


def more_ssim_beside(split: str) -> Callable[[Evidence], tuple[Beside, ...]]:
    """The same with the bounded head, and by each term."""
    bounded = [replace(arm, key="eq-11-ends-bounded") for arm in (x.SSIM_ARM, x.SILOG_ARM)]
    arms = [x.SSIM_ARM, x.SILOG_ARM]
    return lambda e: _shown(
        _gain(e, "bounded head: gain in RMSE", bounded, x.FIGURE, RMSE, split),
        *(
            _gain(e, f"gain in the {term} term", arms, x.FIGURE, f"term_{term}", split)
            for term in ("silog", "ssim", "edge", "l1")
        ),
    )


def doses_beside(evidence: Evidence) -> tuple[Beside, ...]:
    """H4's other forms along the same dose, and Eq. 12 itself, where the paper saw it."""
    rows = []
    for words, keys in OTHER_DOSES.items():
        found = evidence.breaks(dict.fromkeys(keys, x.FIGURE))
        if found is not None and set(x.CALM) <= {*found.places} and np.nansum(found.table):
            more, onset, _ = dose.instability(found, x.BROKEN_BEYOND, x.ONSET_WITHIN, x.CALM).parts
            rows.append(Beside(f"{words}: {MORE_BEYOND}", more, "odds"))
            rows.append(Beside(f"{words}: {ONSET}", onset, "weight"))
    return (*rows, *_own_line(evidence))


def _own_line(evidence: Evidence) -> list[Beside]:
    """Under all seeds of Eq. 12, those that choose a weight and those that judge it."""
    again = evidence.analyses.get("eq-12-again")
    others = sorted({s.seed for t in again.trials for s in t.seeds} - {*x.CHOOSING}) if again else []
    found = evidence.breaks({"eq-12": x.CHOOSING, "eq-12-again": others})
    if found is None:
        return []
    beyond = found.table[:, np.array(found.places) > x.BROKEN_BEYOND]
    known = np.isfinite(beyond).any(axis=1)
    hits, seeds = int((beyond[known] == 1).any(axis=1).sum()), int(known.sum())
    share = Test(1.0, 1.0, hits / seeds, lambda level: proportion_interval(hits, seeds, 1 - level), seeds)
    words = f"{OWN_LINE}: share of seeds with a run that breaks at an edge weight above .5"
    rows = [Beside(words, share, "probability")]
    if np.nansum(found.table):
        words = f"{OWN_LINE}: {MORE_BEYOND}"
        rows.append(Beside(words, dose.exceeds(found, x.BROKEN_BEYOND), "odds"))
    return rows


def table_2_beside(evidence: Evidence) -> tuple[Beside, ...]:
    """Table 2 against L1 alone, and against its neighbours on Eq. 12."""
    l1, table_2 = x.fresh(evidence, "l1"), x.fresh(evidence, PAPER)
    against_l1 = None
    if l1 is not None and table_2 is not None:
        words = "gain of Table 2 over L1 alone in RMSE"
        against_l1 = Beside(words, claims.difference(table_2, l1, is_relative=True))
    own = Arm("table-2")
    neighbours = (w for w in (0.3, 0.4, 0.5, 0.6))
    return _shown(
        against_l1,
        *(
            _gain(
                evidence,
                f"on validation: gain of Table 2 over its neighbour of edge {short(w)}, SSIM {short(0.9 - w)} in RMSE",
                [own, Arm("table-2-neighbours", {"w": w})],
                x.FIGURE,
            )
            for w in neighbours
        ),
    )


def batch_norm_beside(evidence: Evidence) -> tuple[Beside, ...]:
    """The same at the paper's own rate, under the seeds that chose the rates."""
    rate = x.PAPER_RATE
    arms = [Arm("batch-norm-rates", {"model.batch_norm": on, "train.learning_rate": rate}) for on in (True, False)]
    if not evidence.is_there("batch-norm-rates", x.RATE_SEEDS):
        return ()
    measures = {"training loss": (COMBINED, "train"), "RMSE on validation": (RMSE, "val")}
    return _shown(
        *(
            _gain(evidence, f"at the paper's rate, 2e-4: gain in {words}", arms, x.RATE_SEEDS, *measure)
            for words, measure in measures.items()
        )
    )


def small_set_beside(evidence: Evidence) -> tuple[Beside, ...]:
    """The same of a predictor that learns nothing: by so much validation pictures are harder, whatever was trained."""
    analysis, trial = evidence.analyses.get(x.PAPER_NORM.key), evidence.trial(x.PAPER_NORM)
    if analysis is None or trial is None:
        return ()
    val, train = (median(analysis, trial, COMBINED, split) for split in ("val", "train"))
    gap = val / train - 1 if train else math.nan
    if not math.isfinite(gap):
        return ()
    words = "validation loss beyond that of training, of the training median in every pixel"
    return (Beside(words, Test(1.0, 1.0, gap, lambda _: (math.nan, math.nan), 0)),)


def augmentation_beside(evidence: Evidence) -> tuple[Beside, ...]:
    """Changes drawn at each step, and both at 40 epochs."""
    rows = []
    for epochs in ("10", str(x.LONG)):
        none, drawn, enlarged = x.augmented(epochs)
        arms = {"drawn anew at each step": drawn} | ({"the enlarged set": enlarged} if epochs != "10" else {})
        rows += [
            _gain(evidence, f"{words}, {epochs} epochs: gain in RMSE", [arm, none], x.FIGURE)
            for words, arm in arms.items()
        ]
    return _shown(*rows)


def conditions_beside(evidence: Evidence) -> tuple[Beside, ...]:
    """The same, condition by condition."""
    found = x.ends_under_conditions(x.decided(evidence) or {})
    return _shown(*(_gain(evidence, words, arms, x.FIGURE) for words, arms in found))


def _gain(
    evidence: Evidence, words: str, arms: Sequence[Arm], seeds: Sequence[int], column: str = RMSE, split: str = "val"
) -> Beside | None:
    """By how much the first of two arms is better, in shares."""
    test = evidence.paired(claims.difference, arms[0], arms[1], seeds, column, split)
    return Beside(words, test, crossed=evidence.crossed(arms, seeds)) if test else None


def _shown(*rows: Beside | None) -> tuple[Beside, ...]:
    return tuple(row for row in rows if row)
