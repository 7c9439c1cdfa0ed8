"""The paper's figures and tables: what the paper says there, to the letter, and which figures of a group stand beside it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from depth_loss_sweep.reports import breakage_figures, figures
from depth_loss_sweep.reports.analysis import Analysis
from depth_loss_sweep.reports.axes import Axis, main_axis
from depth_loss_sweep.reports.evidence import COMBINED, F1, RMSE, Arm, Evidence
from depth_loss_sweep.reports.experiments import ALL, PAPER_RATE
from depth_loss_sweep.reports.layout import Figure
from depth_loss_sweep.reports.measures import short
from depth_loss_sweep.reports.sections import COMBINED_WARNING
from depth_loss_sweep.reports.series import (
    Curve,
    MeasureSeries,
    contributions,
    epoch_curves,
    measure_series,
    named_baselines,
    outcome_counts,
)
from depth_loss_sweep.words import counted

Figures = tuple[Figure | None, ...]
"""None where what is drawn isn't trained yet."""


@dataclass(frozen=True)
class Exhibit:
    """A figure or table of the paper (or what it says in its text): quotes by their place, the claims that rest on it, and our figures.

    `warning` stands above the figures, `note` says what of the paper's isn't there.
    """

    anchor: str
    title: str
    quotes: Mapping[str, str]
    claims: tuple[str, ...]
    drawn: Callable[[Evidence], Figures] = lambda _: ()
    warning: str = ""
    note: str = ""


# Our figures


def _at_weights(
    e: Evidence, key: str, column: str, title: str, split: str = "val", places: Callable[[Analysis], Axis] = main_axis
) -> Figure | None:
    """A measure at each weight of a member (or other places of its trials), by seeds and as means."""
    analysis = e.analyses.get(key)
    if analysis is None or analysis.record.epochs.empty:
        return None
    series = measure_series(analysis, analysis.measure(column), places(analysis), split)
    if not series.seed_y:
        return None
    note = f"Grey: each seed. Diamonds: means over {_seeds(series)} with 95 % t-intervals. Dashed: trivial predictors."
    return Figure(f"{key}-{column}-{split}", title, note, figures.measure_chart(series, height=320))


def _combined(e: Evidence, key: str, title: str) -> Figure | None:
    """The combined loss at each weight, as the paper plots it."""
    analysis = e.analyses.get(key)
    if analysis is None or analysis.record.epochs.empty:
        return None
    total, axis = analysis.measure(COMBINED), main_axis(analysis)
    train, val = (measure_series(analysis, total, axis, split) for split in ("train", "val"))
    if not train.mean_x and not val.mean_x:
        return None
    note = f"Means over {_seeds(train, val)} with 95 % t-intervals, training pictures in evaluation mode."
    return Figure(f"{key}-combined", title, note, figures.combined_chart(train, val), badge="not comparable")


def _seeds(*series: MeasureSeries) -> str:
    """Over how many seeds means are."""
    counts = [n for each in series for n in each.counts]
    least, most = min(counts, default=0), max(counts, default=0)
    return counted(most, "seed") if least == most else f"{least} to {most} seeds"


def _made_of(e: Evidence, key: str, title: str) -> Figure | None:
    """What the combined loss consists of at each weight."""
    analysis = e.analyses.get(key)
    if analysis is None or analysis.record.epochs.empty:
        return None
    parts = contributions(analysis, main_axis(analysis))
    note = "Weight × unweighted term on validation: how much of the curve is the weights themselves."
    chart = figures.shares_chart(parts, "weighted term (weighted sum)", analysis.term_names)
    return Figure(f"{key}-parts", title, note, chart) if parts.x else None


def _outcomes(e: Evidence, key: str, title: str) -> Figure | None:
    """How the runs of a member ended."""
    analysis = e.analyses.get(key)
    if analysis is None or analysis.record.trials.empty:
        return None
    counts = outcome_counts(analysis, main_axis(analysis))
    note = "Flat and non-finite runs are broken ones, and spiking ones that are no better than the training median."
    return Figure(f"{key}-outcomes", title, note, breakage_figures.outcomes_chart(counts)) if counts.x else None


def _over_epochs(e: Evidence, anchor: str, arms: Mapping[str, Arm], column: str = COMBINED) -> Figures:
    """A measure of some arms over epochs, on the training and on the validation pictures, with one vertical range."""
    known = {words: arm for words, arm in arms.items() if e.trial(arm)}
    if not known:
        return (None,)
    curves = {split: _curves(e, known, column, split) for split in ("train", "val")}
    analysis = e.analyses[next(iter(known.values())).key]
    measure, axis = analysis.measure(column), Axis("", {}, tuple(known))
    lines = {split: named_baselines(analysis, measure, split) for split in curves}
    y_range = figures.curve_range([*curves.values()], [v for of in lines.values() for v in of.values()])
    titles = {"train": "training pictures, in evaluation mode", "val": "validation pictures"}
    note = "Thick: the mean over seeds. Faint: each seed. Both figures share one vertical range."
    return tuple(
        Figure(
            f"{anchor}-{split}",
            f"{measure.label[0].upper()}{measure.label[1:]} over epochs: {titles[split]}",
            note,
            figures.curves_chart(of_split, measure, lines[split], axis, y_range),
        )
        for split, of_split in curves.items()
        if of_split
    )


def _curves(e: Evidence, arms: Mapping[str, Arm], column: str, split: str) -> tuple[Curve, ...]:
    found = []
    for place, (words, arm) in enumerate(arms.items()):
        analysis, trial = e.analyses[arm.key], e.trial(arm)
        if trial is not None:
            axis = Axis("", {trial.number: float(place)})
            own = epoch_curves(analysis.record.epochs, [trial], analysis.measure(column), axis, split)
            found += [replace(curve, label=words) for curve in own]
    return tuple(found)


def _fig_1(e: Evidence) -> Figures:
    return (
        _combined(e, "eq-11", "Final combined loss against w on Eq. 11, as in Fig. 1"),
        _at_weights(e, "eq-11", RMSE, "RMSE of the training pictures against w", "train"),
        _at_weights(e, "eq-11", RMSE, "RMSE on validation against w"),
    )


def _fig_2(e: Evidence) -> Figures:
    return (
        _combined(e, "eq-12", "Final combined loss against w on Eq. 12, as in Fig. 2"),
        _at_weights(e, "eq-12", RMSE, "RMSE on validation against w"),
        _made_of(e, "eq-12", "What that combined loss is made of"),
    )


def _dose(e: Evidence) -> Figures:
    forms = {"": "Eq. 9, linear head", "-middle": "the same, more seeds at three doses"}
    return (
        *(
            _outcomes(e, f"edge-instability{key}", f"How runs ended at each edge weight: {words}")
            for key, words in forms.items()
        ),
        _at_weights(e, "edge-instability", RMSE, "RMSE on validation against the edge weight"),
    )


def _table_2(e: Evidence) -> Figures:
    return _over_epochs(e, "fig-3", {"Table 2": Arm("table-2")})


def _norm(e: Evidence) -> Figures:
    arms = {
        words: Arm("batch-norm-rates", {"model.batch_norm": on, "train.learning_rate": PAPER_RATE})
        for words, on in (("without batch norm", False), ("with batch norm", True))
    }
    return (
        *_over_epochs(e, "fig-5", arms),
        _at_weights(e, "batch-norm-rates", RMSE, "RMSE on validation by rate", places=_by_rate),
    )


def _by_rate(analysis: Analysis) -> Axis:
    """Without batch norm and with it, each by its rates."""
    order = sorted(analysis.trials, key=lambda t: (t.params["model.batch_norm"], t.params["train.learning_rate"]))
    words = {False: "without", True: "with"}
    names = (f"{words[bool(t.params['model.batch_norm'])]}, {short(t.params['train.learning_rate'])}" for t in order)
    return Axis("batch norm, learning rate", {t.number: float(i) for i, t in enumerate(order)}, tuple(names))


def _augmented(e: Evidence) -> Figures:
    arms = {
        "none": Arm("augmentation-10", {"train.augment": "none"}),
        "drawn anew at each step": Arm("augmentation-10", {"train.augment": ALL}),
        "the enlarged set": Arm("enlarged-10"),
    }
    return _over_epochs(e, "fig-6", arms, RMSE)


def _edges(e: Evidence) -> Figures:
    return (_at_weights(e, "eq-12", F1, "Boundary F1 on validation against w on Eq. 12"),)


# The paper's words

_TOLD_INDOORS = (
    "The dataset used in this study was an indoor dataset and it was expected that SILog loss would not be critical in depth "
    "prediction performance. This hypothesis is verified in our study as we got better training performance when SSIM loss was given "
    "higher weight than SILog loss."
)

EXHIBITS = (
    Exhibit(
        "fig-1",
        "Fig. 1: SSIM against SILog",
        {
            "its caption": "Combined loss after training is concluded L_combined against w",
            "4.1": "Tuning SILog and SSIM loss weights: Training and validation losses are analysed for different weight w of SILog and "
            "SSIM loss.",
            "4.1, after it": "Based on previous result, SILog loss function doesn't help in improving the minimizing the loss.",
            "conclusion": _TOLD_INDOORS,
        },
        ("H1", "H1b"),
        _fig_1,
        COMBINED_WARNING,
    ),
    Exhibit(
        "fig-2",
        "Fig. 2: SSIM against edge, without SILog",
        {
            "its caption": "Combined loss after training is concluded L_combined against w",
            "4.1": "Therefore, SILog loss is assigned zero weight for this experiment. Training and validation losses are now analysed for "
            "different weight w of SSIM and Edge depth loss.",
        },
        ("H2", "H3"),
        _fig_2,
        COMBINED_WARNING,
    ),
    Exhibit(
        "unstable",
        "After Eq. 12: training becomes unstable",
        {"4.1": "It was observed that training becomes unstable if edge weights are increased beyond 0.5."},
        ("H4",),
        _dose,
    ),
    Exhibit(
        "table-2",
        "Table 2, with Fig. 3 and 4",
        {
            "Table 2": "Table of Loss Functions and Corresponding Data: SSIM 0.55, Edge 0.45, SILog 0.0, L1 0.05",
            "Fig. 3": "Loss vs Epochs for combined loss function",
            "Fig. 4": "RGB image, ground truth depth map and predicted depth map for test data using model trained using weights given in "
            "table 2",
            "conclusion": "It also captures the depth but it is still far from being a reliable and accurate prediction model.",
        },
        ("H5",),
        _table_2,
        note="Fig. 4 shows pictures. This page is made of numbers alone; the report of the study table-2 shows samples.",
    ),
    Exhibit(
        "fig-5",
        "Fig. 5: batch norm",
        {
            "its caption": "Training and Validation loss Loss with batch normalization",
            "4.2": "Training performance remained similar after using batch normalization. 5 High loss in validation set can be attributed "
            "to smaller dataset used for validation.",
        },
        ("H6", "H7"),
        _norm,
        note="The combined losses in these figures have the same weights, so that they can be compared.",
    ),
    Exhibit(
        "fig-6",
        "Fig. 6: augmentation",
        {
            "its caption": "Training and validation loss with data augmentation enabled.",
            "4.3": "I added data augmentation by incorporating flipped, modified contrast and brightness images in the training dataset "
            "and plotted the training and validation loss curves in Fig. 6",
            "conclusion": "an effective data augmentation strategy that enhances the generalization capabilities of the model",
        },
        ("H8",),
        _augmented,
    ),
    Exhibit(
        "edges",
        "Conclusion: edges",
        {
            "conclusion": "A high weight is chosen for edge depth loss and as a result, current implementation of this model is able to "
            "capture edge information reasonably well."
        },
        ("H9",),
        _edges,
    ),
    Exhibit("ours", "Ours: what the paper doesn't ask", {}, ("H10", "H11")),
)
"""In the paper's order. Its figures themselves aren't at hand, only its text."""
