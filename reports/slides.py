"""A study or a group as a talk: question, method, each finding or claim with its picture and verdict, what to use.

from depth_loss_sweep.reports.slides import render_slides, study_slides
write_document(render_slides(record.name, study_slides(Analysis(record))), Path("slides.html"))

Its sentences are those of the page (`summary`, `wording`, `findings`), its pictures the page's figures as static SVG.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from depth_loss_sweep.reports import breakage_figures, figures, summary
from depth_loss_sweep.reports.analysis import Analysis
from depth_loss_sweep.reports.axes import axes, main_axis
from depth_loss_sweep.reports.charts import Chart
from depth_loss_sweep.reports.claims import LOOKS
from depth_loss_sweep.reports.contrasts import Reference
from depth_loss_sweep.reports.evidence import Evidence
from depth_loss_sweep.reports.exhibits import EXHIBITS
from depth_loss_sweep.reports.findings import PAPER, VERDICTS_MEAN, Account
from depth_loss_sweep.reports.hero import hero, thinned
from depth_loss_sweep.reports.measures import short
from depth_loss_sweep.reports.overview import next_step, space
from depth_loss_sweep.reports.page import NamedWeight, document, named_weights, reach_of
from depth_loss_sweep.reports.paper_page import Drawing, Row, claim_row, drawn
from depth_loss_sweep.reports.records import StudyRecord
from depth_loss_sweep.reports.series import break_rates, epoch_curves, measure_series, named_baselines, outcome_counts
from depth_loss_sweep.reports.svg import chart_svg
from depth_loss_sweep.reports.wording import Tone, amount, is_advice, is_recommended, verdict
from depth_loss_sweep.words import counted

MOST = 7
"""So many rows or weights stand on a slide; how many more there are is said."""

OF_TRAINING = ("H1", "H6")
"""The claims about how training goes; the others are about pictures that weren't trained on."""

HEIGHT = 500
"""Of a picture that is 760 wide."""

LONG, FULL, LINE = 400, 800, 40
"""Letters from which on a slide's text is set smaller, and smaller still; and as many as an interval's drawing takes the room of."""


@dataclass(frozen=True)
class Picture:
    """A figure and what it shows."""

    drawn: Markup
    caption: str


@dataclass(frozen=True)
class Interval:
    """A number with its interval, in words and drawn."""

    words: str
    text: str
    drawn: Drawing | None


@dataclass(frozen=True)
class Slide:
    """One slide; `kicker` stands above its title, `note` at its foot. `claim` has its verdict, `claims` are a table of theirs."""

    title: str
    kicker: str = ""
    text: tuple[str, ...] = ()
    tone: Tone = "plain"
    facts: tuple[tuple[str, str], ...] = ()
    weights: tuple[NamedWeight, ...] = ()
    intervals: tuple[Interval, ...] = ()
    picture: Picture | None = None
    claim: Row | None = None
    claims: tuple[Row, ...] = ()
    shows_verdicts: bool = True
    note: str = ""
    command: str = ""
    is_cover: bool = False

    @property
    def is_split(self) -> bool:
        """Whether words stand beside what they are seen in: a picture, or else intervals."""
        return self.picture is not None or bool(self.intervals and self.text)

    @property
    def density(self) -> str:
        """How much text there is, as the name of a style."""
        letters = sum(map(len, self.text)) + sum(len(i.words) + len(i.text) + LINE for i in self.intervals)
        letters += sum(len(words) + len(text) for words, text in self.facts)
        letters *= 2 if self.is_split else 1
        return "full" if letters > FULL else "long" if letters > LONG else ""


def render_slides(name: str, slides: Sequence[Slide]) -> str:
    """One self-contained HTML deck; without its script the slides stand one below the other."""
    return document(
        "slides.html.j2", name, styles=("slides.css",), scripts=("templates/slides.js",), name=name, slides=slides
    )


# A study


def study_slides(analysis: Analysis) -> tuple[Slide, ...]:
    """The talk of a study, finished or not."""
    answer = summary.answer(analysis)
    found = (
        Slide(
            finding.question,
            "Finding",
            (finding.text,),
            finding.tone,
            intervals=INTERVALS.get(finding.question, lambda _: ())(analysis),
            picture=_picture(analysis, finding.question),
        )
        for finding in answer.findings
    )
    return (_cover(analysis, answer), _question(analysis), _method(analysis, answer), *found, _use(analysis, answer))


def _cover(analysis: Analysis, answer: summary.Answer) -> Slide:
    record = analysis.record
    description = str((record.spec.get("study") or {}).get("description") or "")
    kicker = f"Loss-weight study{f' · {record.created[:10]}' if record.created else ''}"
    return Slide(record.name, kicker, tuple(filter(None, (description, answer.progress))), is_cover=True)


def _question(analysis: Analysis) -> Slide:
    measure = analysis.ranking
    least = "highest" if measure.higher_is_better else "lowest"
    what = "loss weights give" if analysis.varying_terms else "settings give"
    terms = ", ".join(analysis.term_names[term] for term in analysis.terms)
    predictors = ", ".join(analysis.record.predictors.get(name, name) for name in analysis.baselines(measure))
    facts = (("Terms of the loss", terms), ("Swept", space(analysis)), ("Trivial predictors", predictors))
    title = f"Which {what} the {least} validation {measure.label}?"
    text = (summary.objective_sentence(analysis),)
    return Slide(title, "Question", text, facts=tuple((words, said) for words, said in facts if said))


def _method(analysis: Analysis, answer: summary.Answer) -> Slide:
    record = analysis.record
    model = (("network", "{}"), ("width", "width {}"), ("head", "{} head"))
    train = (("epochs", "{} epochs"), ("batch_size", "batch {}"), ("learning_rate", "learning rate {}"))
    margin = amount(analysis.decision.margin, analysis.decision, analysis.ranking)
    finished = int((record.runs["state"] == "finished").sum())
    facts = (
        ("Pictures", summary.pictures(record)),
        ("Network", _settings(record, "model", model)),
        ("Training", _settings(record, "train", train)),
        (
            "Trained",
            f"{counted(len(record.trials), 'trial')} under {counted(len(record.seeds), 'seed')}: {counted(finished, 'run')}",
        ),
        ("Compared", f"paired by seed on the validation pictures; {margin} make no difference"),
    )
    return Slide(
        "How it was done", "Method", facts=tuple((k, v) for k, v in facts if v), note=" ".join(answer.caveats[:2])
    )


def _settings(record: StudyRecord, section: str, fields: Sequence[tuple[str, str]]) -> str:
    """Settings of a section in words; those that the spec doesn't have are left out."""
    given: Mapping[str, Any] = record.spec.get(section) or {}
    said = []
    for name, words in fields:
        if f"{section}.{name}" in record.variables:
            said.append(f"{name.replace('_', ' ')} swept")
        elif name in given:
            value = given[name]
            said.append(words.format(short(value) if isinstance(value, float) else value))
    return ", ".join(said)


def _use(analysis: Analysis, answer: summary.Answer) -> Slide:
    step = next_step(analysis)
    return Slide(
        answer.headline,
        "What to use",
        (*answer.caveats[:1], *((step.text,) if step else ())),
        answer.tone,
        weights=named_weights(analysis) if is_advice(analysis.decision) else (),
        command=step.command if step else f"sweep best {analysis.record.name}",
    )


# A study's pictures


def _picture(analysis: Analysis, question: str) -> Picture | None:
    """What a question's answer is seen in; None where there is nothing to draw."""
    if question not in PICTURES or analysis.record.trials.empty or analysis.record.epochs.empty:
        return None
    drawn = PICTURES[question](analysis)
    if drawn is None:
        return None
    chart, caption = drawn
    return Picture(chart_svg(chart, question, height=HEIGHT), caption)


def _against_weights(analysis: Analysis) -> tuple[Chart, str] | None:
    decision = analysis.decision
    if len(axes(analysis)) > 1:
        section = hero(analysis, "")
        return (thinned(section.figures[0].chart, analysis), section.figures[0].note) if section else None
    series = measure_series(analysis, analysis.ranking, main_axis(analysis))
    if not series.seed_y:
        return None
    called = verdict(decision)
    chart = figures.measure_chart(
        series, marked=decision.trial, verdict=called, is_recommended=is_recommended(decision)
    )
    ringed = f" Ringed: {called}." if called else ""
    return chart, f"Grey: each seed. Diamonds: means with 95 % t-intervals. Dashed: trivial predictors.{ringed}"


def _over_epochs(analysis: Analysis) -> tuple[Chart, str] | None:
    measure, axis = analysis.ranking, main_axis(analysis)
    shown = analysis.ranked[:MOST]
    curves = epoch_curves(analysis.record.epochs, shown, measure, axis, "val")
    if not curves:
        return None
    baselines = named_baselines(analysis, measure, "val")
    y_range = figures.curve_range([curves], [*baselines.values()])
    best = "every trial" if len(shown) == len(analysis.trials) else f"the {len(shown)} best trials"
    caption = f"Validation {measure.label} over epochs, {best}. Thick: means over seeds. Dashed: trivial predictors."
    return figures.curves_chart(curves, measure, baselines, axis, y_range), caption


def _breaking(analysis: Analysis) -> tuple[Chart, str] | None:
    axis = main_axis(analysis)
    if analysis.breakage.broken:
        return breakage_figures.rates_chart(
            break_rates(analysis, axis)
        ), "Shares of runs that broke, with exact 95 % intervals."
    counts = outcome_counts(analysis, axis)
    return (breakage_figures.outcomes_chart(counts), "How runs ended.") if counts.x else None


PICTURES: Mapping[str, Callable[[Analysis], tuple[Chart, str] | None]] = {
    summary.BASELINES: _over_epochs,
    summary.WEIGHTS: _against_weights,
    summary.BREAKS: _breaking,
}


def _contrasts(analysis: Analysis) -> tuple[Interval, ...]:
    """By how much the references are worse than the trial that is named."""
    shown = analysis.references[:MOST]
    reach = 1.1 * reach_of(analysis, MOST)
    return tuple(_contrast(reference, analysis, reach) for reference in shown)


def _contrast(reference: Reference, analysis: Analysis, reach: float) -> Interval:
    """A reference's contrast, drawn on an axis from minus to plus `reach`; what goes beyond stops there, at an arrow."""
    contrast = reference.contrast
    difference, low, high = (
        amount(value, analysis.decision, analysis.ranking, rounded)
        for value, rounded in ((contrast.difference, "nearest"), (contrast.low, "down"), (contrast.high, "up"))
    )
    words = f"{reference.role} ({reference.label})"
    bar = drawn((contrast.low, contrast.high, contrast.difference), (-reach, reach), (0.0,))
    return Interval(words, f"worse by {difference} ({low} to {high})", bar)


INTERVALS: Mapping[str, Callable[[Analysis], tuple[Interval, ...]]] = {summary.SURE_OF: _contrasts}


# A group


def paper_slides(account: Account) -> tuple[Slide, ...]:
    """The talk of the paper's claims, as far as they are measured."""
    rows = {told.claim.number: claim_row(told) for told in account.told}
    return (
        Slide(
            account.name,
            "A paper, trained again",
            (f"What came of the claims of {PAPER}.", account.warning),
            is_cover=True,
        ),
        *_overview(account, rows, shows_verdicts=False),
        _group_method(account),
        *_overview(account, rows, shows_verdicts=True),
        *(_claim(account, row) for row in rows.values() if row.effects),
        _group_use(account),
    )


def _overview(account: Account, rows: Mapping[str, Row], shows_verdicts: bool) -> list[Slide]:
    """The claims, the paper's and ours apart, with what came of them or without."""
    own = tuple(row for row in rows.values() if not row.told.claim.is_ours)
    ours = tuple(row for row in rows.values() if row.told.claim.is_ours)
    kicker, note = ("Verdicts", account.warning) if shows_verdicts else ("Question", "")
    titles = (
        ("What came of the paper's claims", "What came of ours")
        if shows_verdicts
        else ("Do the paper's claims hold?", "What the paper doesn't ask")
    )
    return [
        Slide(title, kicker, claims=part, shows_verdicts=shows_verdicts, note=note)
        for title, part in zip(titles, (own, ours), strict=True)
        if part
    ]


def _group_method(account: Account) -> Slide:
    looks = ", ".join(map(str, LOOKS[:-1])) + f" and {LOOKS[-1]}"
    first = next(iter(account.records.values()), None)
    facts = (
        ("Scale", account.where),
        ("Pictures", summary.pictures(first) if first else ""),
        ("Seeds", f"paired, looked at after {looks}; looks and claims share the error"),
        ("Trained in", "; ".join(account.environments)),
        ("Took", account.cost),
    )
    return Slide(
        "Each claim was tested by a rule that was fixed before its group was trained",
        "Method",
        facts=tuple((words, said) for words, said in facts if said),
        note=VERDICTS_MEAN,
    )


def _claim(account: Account, row: Row) -> Slide:
    claim = row.told.claim
    intervals = tuple(
        Interval(effect.words, f"{effect.size} ({effect.interval}, {effect.count})", drawn)
        for effect, drawn in row.effects
    )
    reasons = tuple(filter(None, (row.told.reason, row.told.mixed)))
    return Slide(
        claim.words,
        f"{claim.number} · {claim.place}",
        reasons,
        claim=row,
        intervals=intervals,
        picture=_exhibit(account.evidence, claim.number),
        note=f"{account.where[:1].upper()}{account.where[1:]}. {claim.rule}",
    )


def _exhibit(evidence: Evidence, number: str) -> Picture | None:
    """The first figure beside a claim on the group's page that is comparable and of the pictures that the claim is about."""
    others = "-val" if number in OF_TRAINING else "-train"
    exhibit = next(each for each in EXHIBITS if number in each.claims)
    for figure in exhibit.drawn(evidence):
        if figure and not figure.badge and not figure.anchor.endswith(others):
            return Picture(chart_svg(figure.chart, figure.title, height=HEIGHT), f"{figure.title}. {figure.note}")
    return None


def _group_use(account: Account) -> Slide:
    """What the group's studies recommend, in the words of each one's decision."""
    analyses = account.evidence.analyses
    said = [
        (key, summary.answer(analysis).headline)
        for key, analysis in analyses.items()
        if is_advice(analysis.decision) and analysis.varying_terms
    ]
    more = f" {len(said) - MOST} more studies recommend weights." if len(said) > MOST else ""
    text = () if said else ("No study of this group recommends weights so far.",)
    return Slide(
        "What its studies recommend",
        "What to use",
        text,
        facts=tuple(said[:MOST]),
        note=f"{account.warning}{more}".strip(),
    )
