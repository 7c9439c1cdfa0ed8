"""What is measured, in words: the registries' terms and metrics, outcomes and the trivial predictors, as records have them.

Light: no torch, no pandas.
"""

from depth_loss_sweep.model import names
from depth_loss_sweep.reports.measures import Measure, measure_of

COMBINED = Measure("total", "combined loss", "weighted sum", "its meaning changes with the weights: not comparable")

BROKEN = ("flat", "spiking", "non_finite")
OUTCOMES = {name: name in BROKEN for name in names.OUTCOMES}
"""How a run can end, and whether training itself broke then. A trivial run trained, but learnt nothing."""

PREDICTORS = {"median": "training median", "mean_map": "training mean map"}
"""How the trivial predictors are called."""


def measures() -> dict[str, Measure]:
    """All that is known, by the column of the table of epochs."""
    terms = {f"term_{name}": term for name, term in names.ALL_TERMS.items()}
    metrics = {f"metric_{name}": metric for name, metric in names.ALL_METRICS.items()}
    return {
        COMBINED.column: COMBINED,
        **{column: Measure(column, t.label, t.unit, t.note, short=t.short) for column, t in terms.items()},
        **{column: Measure(column, m.label, m.unit, m.note, m.higher_is_better) for column, m in metrics.items()},
    }


def measure(column: str) -> Measure:
    """The measure of a column of the table of epochs; an unknown one is called by its name."""
    return measure_of(column, measures())
