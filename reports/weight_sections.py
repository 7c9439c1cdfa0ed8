"""The sections that are about the weights themselves: how much each matters, what rules make of them, how far their gradients agree."""

from collections.abc import Mapping, Sequence

from depth_loss_sweep.reports import figures
from depth_loss_sweep.reports.analysis import Analysis
from depth_loss_sweep.reports.axes import main_axis
from depth_loss_sweep.reports.comparisons import LEVEL
from depth_loss_sweep.reports.importance import Importance, Share
from depth_loss_sweep.reports.intervals import rank_correlation, rank_interval
from depth_loss_sweep.reports.layout import Figure, NamedTable, Section
from depth_loss_sweep.reports.measures import Measure, percent, rough
from depth_loss_sweep.reports.references import FIXED
from depth_loss_sweep.reports.series import Agreement, gradient_agreement, weight_curves
from depth_loss_sweep.reports.tables import Cell, Table, numeric

MAX_RULED = 12  # trials whose effective weights are drawn
LEAST_AGREEMENTS = 8  # trials under which nothing is seen in how gradients agree

# How much each matters


def importance(analysis: Analysis) -> Section | None:
    """How much each weight matters in a search, or that it can't be told."""
    found, title = analysis.importance, "Which weight matters"
    if found is None:
        return None
    if found.missing:
        return Section("importance", title, "", (), warning=f"Which weight matters can't be told: {found.missing}.")
    names = {share.name: analysis.term_names.get(share.name, share.name) for share in found.shares}
    chart = figures.importance_chart(found.shares, names)
    note = "With 95 % intervals; grey: not shown to matter."
    figure = Figure("shares", f"Share of the variance of {_outcome(analysis)}", note, chart, wide=True)
    table = NamedTable("", "", _importance_table(found.shares, names))
    return Section("importance", title, _importance_lead(analysis, found, names), (figure,), tables=(table,))


def _outcome(analysis: Analysis) -> str:
    label = analysis.ranking.label
    return f"log {label}" if analysis.decision.is_relative else label


def _importance_lead(analysis: Analysis, found: Importance, names: Mapping[str, str]) -> str:
    varied = "what each term weighs beside the others, whose ratios stay: weights that sum to 1 have none apart"
    if analysis.record.kind != "simplex":
        varied = "each of what was varied, all else as it is"
    explained = percent(found.explained or 0.0)
    return (
        f"{_matters(found.shares, names)} A share is how much of the variance over {found.trials} trials of this search goes with "
        f"{varied}. Shares overlap; all together come to {explained}, by a quadratic, and the rest is noise or bends otherwise. "
        "Elsewhere than where the search drew its trials, other weights may matter."
    )


def _matters(shares: Sequence[Share], names: Mapping[str, str]) -> str:
    shown = [_amount(s, names[s.name]) for s in sorted(shares, key=lambda s: -s.share) if s.is_shown]
    open_ = [names[s.name] for s in shares if not s.is_shown]
    said = f"Shown to matter: {', '.join(shown)}." if shown else "No weight is shown to matter."
    return f"{said} Of {', '.join(open_)} it can't be told." if open_ else said


def _amount(share: Share, name: str) -> str:
    ends = _interval(share)
    return f"{name} ({percent(share.share)}; {ends})" if share.is_narrow else f"{name} (how much can't be told: {ends})"


def _interval(share: Share) -> str:
    return f"{100 * share.low:.0f} to {percent(share.high)}"


def _importance_table(shares: Sequence[Share], names: Mapping[str, str]) -> Table:
    columns = ("varied", "share of the variance", "95 % interval", "p", "")
    return Table(columns, tuple(_importance_cells(share, names[share.name]) for share in shares))


def _importance_cells(share: Share, name: str) -> tuple[Cell, ...]:
    verdict = "matters" if share.is_narrow else "matters; how much can't be told"
    return (
        Cell(name, name),
        numeric(share.share, percent(share.share)),
        Cell(_interval(share), share.low, "number"),
        numeric(share.p, rough(share.p)),
        Cell(verdict, 0) if share.is_shown else Cell("can't be told", 1, "quiet"),
    )


# Weights that go by a rule


def weightings(analysis: Analysis) -> Section | None:
    """The effective weights of the trials whose weights weren't fixed."""
    ruled = [t for t in analysis.ranked if analysis.weighting(t) != FIXED]
    ruled += [t for t in analysis.trials if analysis.weighting(t) != FIXED and not t.is_complete]
    axis = main_axis(analysis)
    drawn = sorted(ruled[:MAX_RULED], key=lambda t: t.number)
    shown = [
        Figure(str(trial.number), trial.label, "", figures.weights_chart(curves, analysis.term_names))
        for trial, curves in ((t, weight_curves(analysis, t, axis)) for t in drawn)
        if curves
    ]
    if not shown:
        return None
    lead = (
        "Under these trials' rules the weights change while a run trains. Each point is the mean over an epoch's steps; "
        "thick: the mean over seeds. Adam ignores a common factor, so look at how the terms stand to each other."
    )
    lead += f" Drawn are {MAX_RULED} of {len(ruled)} trials, the best." if len(ruled) > MAX_RULED else ""
    return Section("weightings", "Weights that a rule sets", lead, tuple(shown))


# How far the terms' gradients agree

HOW = {"similarity": "equally hard", "cosine": "in the same direction"}


def gradients(analysis: Analysis) -> Section | None:
    """How far the terms' gradients agree against the outcome, where there are trials enough to see anything."""
    found, measure = gradient_agreement(analysis), analysis.ranking
    if len(found.trials) < LEAST_AGREEMENTS:
        return None
    drawn = {
        "similarity": ("Magnitude similarity", found.similarity, "1: all weighted terms pull equally hard"),
        "cosine": ("Cosine", found.cosine, "below 0: the terms pull against each other"),
    }
    shown = tuple(
        Figure(
            anchor,
            f"{name} of the terms' gradients",
            f"{note}. Rank correlation with the outcome: {_correlation(places, found.values)}.",
            figures.agreement_chart(places, found, f"{name.lower()} (mean over pairs)", measure),
        )
        for anchor, (name, places, note) in drawn.items()
    )
    lead = (
        f"{_predicts(found, measure)} Intervals hold for both at once (95 %). By the prediction, on one fixed batch, last epochs, "
        "means over pairs of terms and over seeds. What goes along with good weights here need not make them good."
    )
    return Section("agreement", "How far the terms' gradients agree", lead, shown)


def _correlation(places: Sequence[float], values: Sequence[float]) -> str:
    """With an interval that holds for both kinds of agreement at once."""
    found = rank_correlation(places, values)
    low, high = rank_interval(found, len(places), 1 - LEVEL / len(HOW))
    return f"{found:.2f} over {len(places)} trials ({low:.2f} to {high:.2f})".replace("-", "−")


def _predicts(found: Agreement, measure: Measure) -> str:
    """Whether either kind of agreement predicts good weights, in a sentence."""
    goods = [-measure.cost(value) for value in found.values]
    shown, open_ = [], []
    for kind, how in HOW.items():
        places = getattr(found, kind)
        low, high = rank_interval(rank_correlation(places, goods), len(places), 1 - LEVEL / len(HOW))
        if low > 0 or high < 0:
            shown.append(f"the more {how} the terms pull, the {'better' if low > 0 else 'worse'}")
        else:
            open_.append(how)
    parts = [*shown, *([f"whether it helps that they pull {' or '.join(open_)} can't be told"] if open_ else [])]
    return f"Does that predict a good validation {measure.label} here? {'; '.join(parts).capitalize()}."
