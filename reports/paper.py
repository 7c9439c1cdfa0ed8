"""The paper's claims as code: each with its rule, what is trained for it, and what came out. Study records in, findings out.

What rules say of noise, looks and families is `reports.claims`'s, where training breaks along a dose `reports.dose`'s. Of a group of
studies nothing is stored but its studies: what is to be trained next follows from what has been, so that going on is asking again.
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from typing import Literal

from depth_loss_sweep.reports import compared
from depth_loss_sweep.reports import experiments as x
from depth_loss_sweep.reports.analysis import Analysis
from depth_loss_sweep.reports.claims import LOOKS, Finding, Looks, family
from depth_loss_sweep.reports.compared import Comparisons, Notes
from depth_loss_sweep.reports.evidence import Beside, Evidence, Member
from depth_loss_sweep.reports.experiments import BY_PICTURE
from depth_loss_sweep.reports.records import StudyRecord

__all__ = ["BY_PICTURE", "CLAIMS", "Claim", "Judged", "Member", "examine", "members"]


@dataclass(frozen=True)
class Statement:
    """One of a claim's statements: what its effect is of, and in which unit.

    It speaks for the claim, against it, or as it turns out. `sums_up` says which of all estimates that are left it is of: that of the
    least lower end, or of the largest upper one, as the rule has it.
    """

    words: str
    unit: str = "share"
    speaks: Literal["for", "against", "either"] = "either"
    sums_up: Literal["least", "largest"] | None = None


@dataclass(frozen=True)
class Claim:
    """A claim, the rule by which it is judged, what is trained for it, and its tests.

    `statements` name the tests' estimates, in their order. `members` takes how many seeds are asked for by its looks so far; `looks`
    are its tests, None where it can't be tested here; `compared` are its arms, `notes` what else there is to say of its runs.
    """

    number: str
    words: str
    place: str
    rule: str
    statements: tuple[Statement, ...]
    members: Callable[["Evidence", int], tuple[Member, ...]]
    looks: Callable[["Evidence"], Looks | None]
    beside: Callable[["Evidence"], tuple[Beside, ...]] = lambda _: ()
    compared: Comparisons = lambda _: ()
    notes: Notes = lambda _: ()
    is_ours: bool = False


_LOOKED = "Paired by seed, looked at after 5, 10 and 20 seeds."

CLAIMS: Mapping[str, Claim] = {
    claim.number: claim
    for claim in (
        Claim(
            "H1",
            "Training performance is better with more SSIM than SILog.",
            "Fig. 1, conclusion",
            f"Eq. 11, SSIM .9 against SILog .9, linear head: RMSE on a fixed draw of the training pictures (train.eval_images, 64; eval "
            f"mode) is less; contradicted where it is more. {_LOOKED}",
            (Statement("gain of SSIM .9 over SILog .9 in RMSE of the training pictures"),),
            x.eq_11,
            x.more_ssim("train"),
            compared.more_ssim_beside("train"),
            compared.ssim_and_silog("train"),
        ),
        Claim(
            "H1b",
            "So is depth on pictures that were not trained on.",
            "Fig. 1, conclusion; the paper shows training performance alone",
            f"The same on validation pictures; contradicted where it is more. {_LOOKED}",
            (Statement("gain of SSIM .9 over SILog .9 in RMSE on validation"),),
            x.eq_11,
            x.more_ssim("val"),
            compared.more_ssim_beside("val"),
            compared.ssim_and_silog("val"),
        ),
        Claim(
            "H2",
            "SILog is not critical indoors.",
            "4.1, conclusion",
            "Eq. 12 at its best weight (least by the smoother on seeds 0 to 9): SILog 0 within 2 % of SILog .05 in RMSE; contradicted "
            f"where it is worse by more. {_LOOKED}",
            (Statement("gain of SILog 0 over SILog .05 in RMSE"),),
            x.silog_added,
            x.silog_not_critical,
            compared=compared.silog_added,
            notes=compared.silog_forms,
        ),
        Claim(
            "H3",
            "SSIM and edge trade off: some of both is better than either end.",
            "Fig. 2 (implied)",
            "Eq. 12: the weight between the ends that is least by the smoother on seeds 0 to 9 beats both ends on others; contradicted "
            f"where every weight between them gains less than 2 % over an end. {_LOOKED}",
            (
                Statement("gain of the chosen weight over w = 0 in RMSE", speaks="for"),
                Statement("gain of the chosen weight over w = .9 in RMSE", speaks="for"),
                Statement(
                    "gain of the weight between that may gain most, over the end where it gains less",
                    speaks="against",
                    sums_up="largest",
                ),
            ),
            x.line_again,
            x.trade_off,
            compared=compared.ends_and_between,
        ),
        Claim(
            "H4",
            "Training becomes unstable if the edge weight goes beyond .5.",
            "after Eq. 12",
            "SSIM .55, L1 .05, edge from 0 to 1.5 (a dose of ours; Eq. 9, linear head): runs break (end non-finite, flat, or spiking and "
            "no better than the training median) more often above .5 than below, and the onset (10 % of seeds break) lies in .35 to .75; "
            f"contradicted where less than 10 % break at .6 and .75. Twelve seeds; {x.MIDDLE_SEEDS} at .45, .6 and .75: as many as can "
            "show that at this table's level.",
            (
                Statement(compared.MORE_BEYOND, "odds", "for"),
                Statement(compared.ONSET, "weight", "for"),
                Statement("share of seeds that break at edge .6 or .75", "probability", "against"),
            ),
            x.doses,
            x.instability,
            compared.doses_beside,
            notes=compared.outcomes,
        ),
        Claim(
            "H5",
            "Table 2 (SSIM .55, edge .45, L1 .05) is a good choice.",
            "Table 2",
            "Twelve fresh seeds, test pictures, RMSE: at most 2 % worse than the confirmed winner of Eq. 12, and better than equal "
            "weights; contradicted where it is worse by more than that, or worse than equal weights.",
            (
                Statement("gain of Table 2 over the winner in RMSE"),
                Statement("gain of Table 2 over equal weights in RMSE"),
            ),
            x.table_2,
            x.table_2_is_good,
            compared.table_2_beside,
            notes=compared.confirmed,
        ),
        Claim(
            "H6",
            "Performance remains similar with batch norm.",
            "4.2, Fig. 5",
            "Table 2's weights, each with the best of five rates (chosen on seeds 0 to 2): the training loss (combined, of a fixed draw of "
            "the training pictures, eval mode) and RMSE on validation are "
            f"within 2 % of each other; contradicted where one is further apart. {_LOOKED}",
            (
                Statement("gain by batch norm in training loss"),
                Statement("gain by batch norm in RMSE on validation"),
            ),
            x.batch_norm,
            x.batch_norm_changes_nothing,
            compared.batch_norm_beside,
            compared.norms,
        ),
        Claim(
            "H7",
            "High validation loss comes from the small validation set.",
            "4.2, Fig. 5",
            "Table 2's weights with batch norm, the paper's rate: the combined loss on validation against that of a fixed draw of "
            "training pictures (train.eval_images, 64), which is taken as it is, scenes drawn anew. Supported: over all validation "
            "pictures within 2 %. Contradicted: 30 pictures, ours for the paper's n, leave no doubt that there is a gap.",
            (
                Statement("validation loss beyond that of training over all pictures", speaks="for"),
                Statement("validation loss beyond that of training as 30 pictures have it", speaks="against"),
            ),
            x.norm_rates,
            x.small_set,
            compared.small_set_beside,
            compared.small_set,
        ),
        Claim(
            "H8",
            "Augmentation enhances generalisation.",
            "4.3, Fig. 6, conclusion",
            "Table 2's weights, 10 epochs, equal steps (as many as without, so that each original is seen twice, beside its copies): with "
            "the enlarged set (the original and 4 copies) RMSE on validation is less than without, and so is its ratio to that of the "
            f"training pictures; contradicted where either is more. {_LOOKED}",
            (
                Statement("gain by augmentation in RMSE on validation"),
                Statement("gain by augmentation in its ratio to that of the training pictures"),
            ),
            x.augmentation,
            x.augmentation_generalises,
            compared.augmentation_beside,
            compared.augmented,
        ),
        Claim(
            "H9",
            "A high edge weight captures edges.",
            "conclusion",
            "Eq. 12, edge .45 against 0: boundary F1 is higher, and RMSE at most 2 % worse; contradicted where F1 is lower, or RMSE worse "
            f"by more. A broken run has an F1 of 0. {_LOOKED}",
            (
                Statement("gain by edge .45 in boundary F1", "difference"),
                Statement("gain by edge .45 in RMSE"),
            ),
            x.edges,
            x.sharper,
            compared=compared.edge_weights,
        ),
        Claim(
            "H10",
            "The combined loss misranks weights.",
            "ours, of Fig. 1 and 2",
            "One fixed network gives the curve of the combined loss on both lines (R² above .99), and on Eq. 12 the weight of the least "
            "combined loss is the worst in RMSE; contradicted where an R² is less, or another weight is worse still.",
            (
                Statement("R² of one network's curve on Eq. 11", "R²"),
                Statement("R² of one network's curve on Eq. 12", "R²"),
                Statement(
                    "gain in RMSE over the weight of the least combined loss, where it may be least",
                    sums_up="least",
                ),
            ),
            x.lines,
            x.misranks,
            compared=compared.both_lines,
            is_ours=True,
        ),
        Claim(
            "H11",
            "The ranking survives another rate, budget and resolution.",
            "ours",
            "Each line whose ends differ in RMSE on validation: so they do, in the same direction, at half and twice the rate, four times "
            "the epochs and twice the side; contradicted where they differ the other way under one of them. Five seeds.",
            (Statement("gain of the better end in RMSE, under the condition where it may be least", sums_up="least"),),
            x.conditions,
            x.survives,
            compared.conditions_beside,
            compared.conditions,
            is_ours=True,
        ),
    )
}


@dataclass(frozen=True)
class Judged:
    """A claim with what came out; `tests` are all its looks so far, `environments` where its runs were trained."""

    claim: Claim
    finding: Finding
    looks: Looks | None
    beside: tuple[Beside, ...]
    environments: tuple[str, ...]


def examine(records: Mapping[str, StudyRecord], only: Collection[str] = ()) -> tuple[Judged, ...]:
    """What came of every claim, from the records of the group's studies by their members' keys; `only` as for `members`."""
    return judge(evidence_of(records), only)


def judge(evidence: Evidence, only: Collection[str] = ()) -> tuple[Judged, ...]:
    """The same of evidence."""
    looks, _ = _progress(evidence, _chosen(only))
    findings = _findings(looks)
    return tuple(
        Judged(claim, findings[number], looks[number], claim.beside(evidence), _environments(evidence, claim))
        for number, claim in CLAIMS.items()
    )


def members(records: Mapping[str, StudyRecord], only: Collection[str] = ()) -> tuple[Member, ...]:
    """All that is to be trained, as far as it is known from what has been, claim by claim.

    `records` are those of the members that exist, finished or not, by their keys; `only` is for which claims, by default all.
    """
    return asked(evidence_of(records), only)


def asked(evidence: Evidence, only: Collection[str] = ()) -> tuple[Member, ...]:
    """The same by evidence."""
    chosen = _chosen(only)
    _, seeds = _progress(evidence, chosen)
    found: dict[str, Member] = {}
    for number, claim in chosen.items():
        for member in claim.members(evidence, seeds[number]):
            before = found.setdefault(member.key, member)
            if len(member.seeds) > len(before.seeds):
                found[member.key] = member
    order = {number: i for i, number in enumerate(CLAIMS)}
    return tuple(sorted(found.values(), key=lambda member: order[member.claims[0]]))


def _chosen(only: Collection[str]) -> dict[str, Claim]:
    return {number: claim for number, claim in CLAIMS.items() if not only or number in only}


def evidence_of(records: Mapping[str, StudyRecord]) -> Evidence:
    """What the records of a group's studies amount to, by their members' keys."""
    return Evidence({key: Analysis(record) for key, record in records.items()})


def _progress(evidence: Evidence, chosen: Mapping[str, Claim]) -> tuple[dict[str, Looks | None], dict[str, int]]:
    """All claims' looks, and how many seeds each chosen one asks for.

    What all claims have come to stands, whichever are chosen now; from there on the chosen ones go alone.
    """
    every = {number: claim.looks(evidence) for number, claim in CLAIMS.items()}
    seen = {number: _cut(looks, 1) for number, looks in every.items()}
    asked = dict.fromkeys(CLAIMS, LOOKS[0])
    _go_on(evidence, CLAIMS, every, seen, asked)
    if len(chosen) < len(CLAIMS):
        _go_on(evidence, chosen, every, seen, asked)
    return seen, {number: asked[number] for number in chosen}


def _go_on(
    evidence: Evidence,
    chosen: Mapping[str, Claim],
    every: Mapping[str, Looks | None],
    seen: dict[str, Looks | None],
    asked: dict[str, int],
) -> None:
    """Takes the chosen claims' looks in `seen`, and the seeds that are `asked` for, as far as what is trained allows.

    Claims go from look to look together: who is open is asked when all of them had theirs, so that what is trained doesn't depend on
    the order in which it was. A look beyond that, which other studies' seeds would allow, isn't taken. What decides nothing holds up
    nobody.
    """
    for n in LOOKS[1:]:
        round_ = [m for number, claim in chosen.items() for m in claim.members(evidence, min(asked[number], n))]
        if not all(evidence.has(member) for member in round_ if not member.is_beside):
            break
        findings = _findings(seen)
        for number in chosen:
            if findings[number].is_open and asked[number] < n:
                asked[number] = n
                seen[number] = _cut(every[number], LOOKS.index(n) + 1)


def _cut(looks: Looks | None, count: int) -> Looks | None:
    return replace(looks, tests=looks.tests[:count]) if looks else None


def _findings(looks: Mapping[str, Looks | None]) -> dict[str, Finding]:
    """The paper's claims are one family, ours another."""
    families = [{n: looks[n] for n, claim in CLAIMS.items() if claim.is_ours is is_ours} for is_ours in (False, True)]
    return {number: finding for each in families for number, finding in family(each, len(each)).items()}


def _environments(evidence: Evidence, claim: Claim) -> tuple[str, ...]:
    keys = {key for key in evidence.analyses for m in claim.members(evidence, LOOKS[-1]) if m.key == key}
    return tuple(sorted(frozenset().union(*(evidence.environments[key] for key in keys))))
