"""What is measured, in words: the registries' terms and metrics, outcomes and the trivial predictors, as records have them.

Light: no torch, no pandas.
"""

from collections.abc import Callable, Mapping

from depth_loss_sweep.model import names
from depth_loss_sweep.model.settings import OwnMetric, OwnTerm
from depth_loss_sweep.reports.measures import Measure, measure_of
from depth_loss_sweep.spec import StudySpec
from depth_loss_sweep.usercode import shown

COMBINED = Measure("total", "combined loss", "weighted sum", "its meaning changes with the weights: not comparable")

BROKEN = ("flat", "spiking", "non_finite")
OUTCOMES = {name: name in BROKEN for name in names.OUTCOMES}
"""How a run can end, and whether training itself broke then. A trivial run trained, but learnt nothing."""

PREDICTORS = {"median": "training median", "mean_map": "training mean map"}
"""How the trivial predictors are called."""


def measures(spec: StudySpec | None = None) -> dict[str, Measure]:
    """All that is known, by the column of the table of epochs; a study's own terms and metrics, too."""
    terms = {f"term_{name}": term for name, term in names.ALL_TERMS.items()}
    metrics = {f"metric_{name}": metric for name, metric in names.ALL_METRICS.items()}
    return {
        COMBINED.column: COMBINED,
        **{column: Measure(column, t.label, t.unit, t.note, short=t.short) for column, t in terms.items()},
        **{column: Measure(column, m.label, m.unit, m.note, m.higher_is_better) for column, m in metrics.items()},
        **(own_measures(spec.loss.own, spec.own_metrics) if spec else {}),
    }


def own_measures(terms: Mapping[str, OwnTerm], metrics: Mapping[str, OwnMetric]) -> dict[str, Measure]:
    """Those of the user's own: each says whose code it is, for a built-in one may have its name; or which built-in one it is."""
    found = {}
    for prefix, own in (("term", terms), ("metric", metrics)):
        for name, each in own.items():
            label, column = each.label or name.replace("_", " "), f"{prefix}_{name}"
            is_higher = isinstance(each, OwnMetric) and each.better == "higher"
            note = f"your own: {shown(each.function)}" + "; more is better" * is_higher
            found[column] = Measure(
                column, f"{label} term" * (prefix == "term") or label, each.unit, note, is_higher, label
            )
    return found | {f"term_{name}": _renamed(name, t, t.built_in) for name, t in terms.items() if t.built_in}


def _renamed(name: str, term: OwnTerm, built_in: names.Term) -> Measure:
    """A built-in term by another name: what it is, with which options."""
    label = term.label or (built_in.short if name == term.function else name.replace("_", " "))
    options = ", ".join(f"{key} {value}" for key, value in term.options.items())
    note = f"{term.function}{f' with {options}' * bool(options)}; {built_in.note}"
    unit = built_in.unit if term.unit == names.NO_UNIT else term.unit
    return Measure(f"term_{name}", f"{label} term", unit, note, short=label)


def measure(column: str, spec: StudySpec | None = None) -> Measure:
    """The measure of a column of the table of epochs; an unknown one is called by its name."""
    return measure_of(column, measures(spec))


def saying(spec: StudySpec) -> Callable[[float], str]:
    """How a value of a study's objective is said: by its name in the spec, with its unit, such as "val_rmse 0.9248 m"."""
    name, write = spec.objective.name, measure(spec.objective.column, spec).write
    return lambda value: f"{name} {write(value)}"
