"""What came of the paper's claims, in words: the same for a group's page and for its text. No sentence says more than its test."""

import json
import math
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from depth_loss_sweep.reports.claims import LOOKS, ONCE, Estimate, Pairs, Test
from depth_loss_sweep.reports.compared import crossing, levels
from depth_loss_sweep.reports.comparisons import LEVEL, POWER
from depth_loss_sweep.reports.cost import total
from depth_loss_sweep.reports.evidence import Evidence
from depth_loss_sweep.reports.experiments import MARGIN
from depth_loss_sweep.reports.measures import NO_BREAK
from depth_loss_sweep.reports.paper import Claim, Judged, Statement, asked, evidence_of, judge
from depth_loss_sweep.reports.power import MOST, is_excluded, scenes_needed, seeds_needed, supposed
from depth_loss_sweep.reports.records import StudyRecord
from depth_loss_sweep.words import counted

PAPER = "“Analysing the impact of loss functions on the accuracy of monocular depth estimation” (R. S. Kushwaha)"
VERDICTS_MEAN = (
    "Supported: the interval lies wholly in what the claim says. Contradicted: wholly in what contradicts it. Undecided: neither, "
    "which supports nothing."
)
GAINS_MEAN = "A gain is by which share of the other's the named one's value is less: −10 % is 10 % worse (of boundary F1: how much more)."


@dataclass(frozen=True)
class Effect:
    """A statement with its numbers; `of` is what was counted: seeds or scenes, `crossed` of how many of them the pair was trained
    on several machines."""

    statement: Statement
    estimate: Estimate
    test: Test
    of: str = "seeds"
    crossed: int = 0

    @property
    def words(self) -> str:
        """What it is of."""
        return self.statement.words

    @property
    def size(self) -> str:
        """With its unit."""
        return written(self.estimate.effect, self.statement.unit)

    @property
    def contradicts(self) -> bool:
        """Whether it contradicts its claim by itself, at its own share of the level."""
        return 2 * self.test.p_against <= self.estimate.level

    @property
    def count(self) -> str:
        """Of how many seeds (or scenes) it is, and of how many of them its pairs compare machines, too."""
        n = self.estimate.n
        across = (
            ""
            if not self.crossed
            else ", each across machines"
            if self.crossed >= n
            else f", {self.crossed} across machines"
        )
        return f"{n} {self.of}{across}"

    @property
    def interval(self) -> str:
        """Its two ends with their level."""
        low, high = self.estimate.low, self.estimate.high
        sure = f"{100 * (1 - self.estimate.level):.4g}{NO_BREAK}%"
        if self.statement.unit in ("share", "difference", "R²") and not (math.isfinite(low) and math.isfinite(high)):
            return f"no interval at {sure}"
        return f"{_between(low, high, self.statement.unit)}, {sure} interval"

    @property
    def text(self) -> str:
        """All of it; a number that nothing was drawn for stands alone."""
        return f"{self.size} ({self.interval}, {self.count})" if self.estimate.n else self.size


@dataclass(frozen=True)
class Told:
    """A claim's verdict in words, the effects that it rests on, and those that are shown beside it and decide nothing."""

    judged: Judged
    effects: tuple[Effect, ...]
    beside: tuple[Effect, ...]
    reason: str
    """Why it is undecided, or can't be tested; empty where it is decided."""
    cost: str
    """What its studies took; those that claims share count for each."""
    levels: tuple[str, ...] = ()
    """What was compared, in the measure's own unit."""
    notes: tuple[str, ...] = ()
    """What else there is to say of its runs."""
    crossed: tuple[int, int] | None = None
    """How many pairs of seeds, of how many, are of runs of several environments; None where nothing is compared by pairs."""

    @property
    def claim(self) -> Claim:
        """What was judged."""
        return self.judged.claim

    @property
    def verdict(self) -> str:
        """In a word or two: what is open is so far undecided."""
        finding = self.judged.finding
        if not finding.is_open:
            return finding.verdict
        return "undecided so far" if finding.test else "not measured yet"

    @property
    def grounds(self) -> tuple[Effect, ...]:
        """The effects that the verdict rests on; all of them where there is none. What supports a claim does so together."""
        side = {"supported": "for", "contradicted": "against"}.get(self.verdict)
        found = tuple(e for e in self.effects if side is None or e.statement.speaks in (side, "either"))
        return tuple(e for e in found if e.contradicts) or found if side == "against" else found

    @property
    def others(self) -> tuple[Effect, ...]:
        """The effects of its other statements: what a verdict does not rest on belongs to the answer, too."""
        return tuple(e for e in self.effects if e not in self.grounds)

    @property
    def principal(self) -> Effect | None:
        """The effect by which it was decided, or that keeps it from being supported; None before anything is measured."""
        if self.verdict == "contradicted":
            return min(self.grounds, key=lambda e: e.test.p_against, default=None)
        needed = [e for e in self.grounds if e.statement.speaks != "against"]
        return max(needed, key=lambda e: e.test.p_for, default=None)

    def sentence(self, where: str) -> str:
        """Verdict, grounds and reason; `where` is the scale at which it holds."""
        head = f"{self.verdict[0].upper()}{self.verdict[1:]} {where}".strip()
        shown = "; ".join(f"{e.words}{',' * (', ' in e.words)} is {e.text}" for e in self.grounds)
        return " ".join(filter(None, (f"{head}: {shown}." if shown else f"{head}.", self.reason, self.mixed)))

    @property
    def mixed(self) -> str:
        """That its runs were trained in several environments, in which, and whether they are compared across; empty where it was one."""
        found = self.judged.environments
        if len(found) < 2:
            return ""
        where = f"Trained in {len(found)} environments: {'; '.join(map(environment, found))}"
        if self.crossed is None:
            return f"{where}."
        crossed, of = self.crossed
        if not crossed:
            return f"{where}; each seed's pair in one of them."
        return f"{where}; {crossed} of {of} pairs compare one with another, so that its effect holds what differs between them."


PAPERS: Mapping[str, Any] = {"side": "256×256", "width": 64, "epochs": 10, "batch": 24}
"""Table 1 and 3.3; the width follows from the bottleneck of 512 filters."""


@dataclass(frozen=True)
class Scale:
    """At which size a group was trained, beside the paper's."""

    side: str
    width: int
    epochs: int
    batch: int
    source: str

    @property
    def words(self) -> str:
        """Such as "at 64×64, width 16"; what else differs from the paper is named."""
        others = {"epochs": counted(self.epochs, "epoch"), "batch": f"batch {self.batch}"}
        differing = [text for name, text in others.items() if getattr(self, name) != PAPERS[name]]
        return ", ".join([f"at {self.side}", f"width {self.width}", *differing])

    @property
    def warning(self) -> str:
        """That it isn't the paper's setting, and how the paper's differs; empty where it is, as far as the paper tells it."""
        is_diode = self.source.startswith("diode")
        if is_diode and self.words == f"at {PAPERS['side']}, width {PAPERS['width']}":
            return ""
        pictures = (
            ""
            if is_diode
            else f", and pictures of another source ({self.source.partition(':')[0] or 'unknown'}), not of its DIODE"
        )
        paper = f"{PAPERS['side']}, width {PAPERS['width']}, {PAPERS['epochs']} epochs, batch {PAPERS['batch']}"
        return (
            f"{self.words[0].upper()}{self.words[1:]}: not the paper's setting ({paper}){pictures}. Each verdict here is of this "
            "setting alone, never to be quoted as one on the paper's own."
        )


@dataclass(frozen=True, eq=False)
class Account:
    """What a group of studies says of the paper's claims."""

    name: str
    evidence: Evidence
    told: tuple[Told, ...]
    missing: tuple[str, ...] = ()
    """The members that are asked for by now and not trained to their end."""

    @property
    def records(self) -> Mapping[str, StudyRecord]:
        """Of its studies, by their members' keys."""
        return {key: analysis.record for key, analysis in self.evidence.analyses.items()}

    @cached_property
    def scale(self) -> Scale | None:
        """That of most of its studies; None before the first."""
        found = Counter(map(_scale, self.records.values()))
        return found.most_common(1)[0][0] if found else None

    @property
    def where(self) -> str:
        """The scale in words, for each verdict; empty before the first study."""
        return self.scale.words if self.scale else ""

    @property
    def warning(self) -> str:
        """That this isn't the paper's setting; empty where it is, or nothing was trained yet."""
        return self.scale.warning if self.scale else ""

    @property
    def tally(self) -> str:
        """How many claims came out in which way, and at which scale: "3 supported, 9 not measured yet, at 64×64, width 16"."""
        counts = Counter(told.verdict for told in self.told)
        said = ", ".join(f"{count} {word}" for word, count in counts.most_common())
        return f"Of {len(self.told)} claims: {said}{f', {self.where}' if self.where else ''}"

    @cached_property
    def environments(self) -> tuple[str, ...]:
        """Where its runs were trained, in words."""
        return tuple(environment(key) for key in sorted(frozenset().union(*self.evidence.environments.values())))

    @cached_property
    def cost(self) -> str:
        """What all of its runs took, those that studies share counted once."""
        return cost(self.records.values())


def cost(records: Iterable[StudyRecord]) -> str:
    """What the runs of these studies took, each run once; empty where none was trained."""
    return total(run for record in records for run in (*record.costs, *record.confirming_costs)).text


def account(name: str, records: Mapping[str, StudyRecord], only: Collection[str] = ()) -> Account:
    """What the studies of a group say, by their members' keys, finished or not; `only` is for which claims, by default all."""
    evidence = evidence_of(records)
    told = tuple(_told(judged, evidence, only) for judged in judge(evidence, only))
    missing = tuple(member.key for member in asked(evidence, only) if not evidence.has(member))
    return Account(name, evidence, told, missing)


def _told(judged: Judged, evidence: Evidence, only: Collection[str]) -> Told:
    beside = (
        Effect(
            Statement(b.words, b.unit),
            Estimate(b.test.effect, b.test.low, b.test.high, b.test.n, LEVEL),
            b.test,
            crossed=b.crossed,
        )
        for b in judged.beside
    )
    keys = (member.key for member in judged.claim.members(evidence, LOOKS[0]))
    own = cost(evidence.analyses[key].record for key in dict.fromkeys(keys) if key in evidence.analyses)
    looked = judged.looks.tests if judged.looks else ()
    most = looked[-1].n if looked else LOOKS[0]
    compared = judged.claim.compared(evidence) if looked else ()
    crossed = max((crossing(evidence, each, most) for each in compared if len(each.arms) > 1), default=None)
    return Told(
        judged,
        _effects(judged, crossed[0] if crossed else 0),
        tuple(beside),
        _reason(judged, evidence, only),
        own,
        tuple(filter(None, (levels(evidence, each, most) for each in compared))),
        judged.claim.notes(evidence),
        crossed,
    )


def _effects(judged: Judged, crossed: int) -> tuple[Effect, ...]:
    claim, finding = judged.claim, judged.finding
    if finding.test is None:
        return ()
    rows = list(zip(finding.estimates, finding.test.leaves, strict=True))
    found = []
    for i, statement in enumerate(claim.statements):
        estimate, test = rows[i]
        if statement.sums_up == "least":
            estimate, test = min(rows[i:], key=lambda row: row[0].low)
        elif statement.sums_up == "largest":
            estimate, test = max(rows[i:], key=lambda row: row[0].high)
        found.append(Effect(statement, estimate, test, "scenes" if claim.number == "H7" else "seeds", crossed))
    return tuple(found)


# Why there is no verdict


def _reason(judged: Judged, evidence: Evidence, only: Collection[str]) -> str:
    finding = judged.finding
    if finding.verdict == "not testable here":
        return "No line's ends are shown to differ in RMSE on validation, so there is no ranking to survive."
    if finding.verdict != "undecided":
        return ""
    if finding.test is None:
        return _missing(judged.claim, evidence, only)
    again = ""
    if finding.is_open and judged.looks is not None:
        again = f"It is looked at again after {LOOKS[len(judged.looks.tests)]} seeds."
    return " ".join(filter(None, (again, _needed(judged))))


def _missing(claim: Claim, evidence: Evidence, only: Collection[str]) -> str:
    """What isn't there yet."""
    if only and claim.number not in only:
        return "It was not asked for."
    members = claim.members(evidence, LOOKS[0])
    done = sum(evidence.is_there(member.key, member.seeds) for member in members)
    if done < len(members):
        asked = f"{len(members)} {'study' if len(members) == 1 else 'studies'}"
        return f"Of {asked} asked for, {done or 'none'} {'is' if done == 1 else 'are'} trained."
    if claim.number == "H5":
        has_winner = evidence.analyses["eq-12"].decision.trial is not None
        return "Nothing is confirmed yet." if has_winner else "Nothing is confirmed: Eq. 12 has no winner."
    return "What each validation picture amounts to was not kept." if claim.number == "H7" else ""


def _needed(judged: Judged) -> str:
    """How many seeds, or scenes, would show it, at the level of its last look; empty where that isn't known."""
    test, looks = judged.finding.test, judged.looks
    if test is None or looks is None:
        return ""
    level = judged.finding.level * looks.shares[-1] / looks.shares[len(looks.tests) - 1]
    sure = f"with a probability of {100 * POWER:.0f}{NO_BREAK}%"
    if judged.claim.number == "H7":
        scenes = scenes_needed(test.parts[0], MARGIN, level)
        many = f"about {float(f'{scenes:.2g}'):,.0f}" if scenes else "more than a million"
        gap = f"a gap within {written(MARGIN, 'share')}"
        return f"By the spread of {test.n} scenes, {many} scenes show {gap} {sure} if there is none."
    statements = {each: gain for each in test.pairs if (gain := supposed(each, MARGIN)) is not None}
    if not statements:
        return ""
    shown_level = judged.finding.estimates[0].level
    excluded = {each: gain for each, gain in statements.items() if is_excluded(each, gain, shown_level)}
    if excluded:
        which = "Its interval" if len(judged.finding.estimates) == 1 else "One of its intervals"
        return (
            f"{which} leaves out that {_supposing(excluded)}: more seeds may contradict it, and will hardly support it."
        )
    seeds, given = seeds_needed([*statements], MARGIN, level), test.n if looks.shares == ONCE else LOOKS[-1]
    many = f"more than {MOST}" if seeds is None else f"about {float(f'{seeds:.2g}'):.0f}"
    shown = "it" if len(statements) == len(test.pairs) else "its gains"
    within = (
        f"within the {given} that it is given" if seeds and seeds <= given else f"beyond the {given} that it is given"
    )
    return f"By the noise of {test.n} seeds, {many} seeds show {shown} {sure} if {_supposing(statements)}: {within}."


def _supposing(statements: Mapping[Pairs, float]) -> str:
    """Which gains are supposed."""
    if not any(statements.values()):
        return "there is no difference"
    gains = [
        written(MARGIN if gain else 0.0, "share" if s.is_relative else "difference") for s, gain in statements.items()
    ]
    if len({*gains}) == 1:
        return f"{'each' if len(gains) > 1 else 'the'} gain is {gains[0]}"
    return f"the gains are {' and '.join(gains)}"


# Numbers and places


def written(value: float, unit: str) -> str:
    """An effect with its unit; a dose that lies outside the line is said to."""
    if unit == "weight" and math.isinf(value):
        return "beyond the last dose" if value > 0 else "before the first dose"
    if math.isnan(value):
        return "not known"
    if unit in ("share", "probability"):
        return f"{_digits(100 * value)}{NO_BREAK}%"
    return f"{value:.4f}" if unit == "R²" and value > 0 else _digits(value)


def _between(low: float, high: float, unit: str) -> str:
    first = _digits(100 * low) if unit in ("share", "probability") else written(low, unit)
    return f"{first} to {written(high, unit)}"


def _digits(value: float) -> str:
    if math.isnan(value):
        return "–"
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    return f"{value:.3g}".replace("-", "−")


def environment(key: str) -> str:
    """An environment's key (JSON) in words."""
    try:
        about = json.loads(key)
    except ValueError:
        return key
    if not isinstance(about, dict):
        return key
    named = (about.get("model") or about.get("device"), about.get("capability"))
    torch = f"torch {about['torch']}" if "torch" in about else None
    return ", ".join(str(part) for part in (*named, torch) if part) or key


def _scale(record: StudyRecord) -> Scale:
    data, model, train = (record.spec.get(section) or {} for section in ("data", "model", "train"))
    size = record.data.get("image_size") or data.get("image_size") or 0
    height, width = (size, size) if isinstance(size, int) else size
    return Scale(
        side=f"{height}×{width}",
        width=model.get("width", 0),
        epochs=train.get("epochs", 0),
        batch=train.get("batch_size", 0),
        source=str(record.data.get("source") or data.get("source") or ""),
    )


def pictures(found: Account) -> dict[str, str]:
    """The pictures that were trained on: their source, without where it lies, and fingerprint -> how many in each part."""
    told = {}
    for record in found.records.values():
        data = record.data
        if data.get("source"):
            scenes = data.get("scenes") or {}
            parts = ", ".join(
                f"{n} {part}{f' of {scenes[part]} scenes' if scenes.get(part) else ''}"
                for part, n in (data.get("images") or {}).items()
            )
            print_ = str(data.get("fingerprint") or "")[:12]
            kind, _, place = str(data["source"]).partition(":")
            named = f"{kind}:{Path(place).name}" if place else kind
            told[f"{named}{f', fingerprint {print_}' if print_ else ''}"] = parts
    return told
