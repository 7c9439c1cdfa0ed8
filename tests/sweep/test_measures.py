from pathlib import Path

from depth_loss_sweep.measures import BROKEN, OUTCOMES, PREDICTORS, measure, measures
from depth_loss_sweep.model.names import ALL_METRICS, ALL_TERMS, BASELINES, FURTHER_METRICS, TERMS, Metric, Term


def test_every_term_and_metric_is_described() -> None:
    """Each has a label of its own and a unit; terms have a short name; and more is better where the metric says so."""
    columns = ["total", *(f"term_{t}" for t in ALL_TERMS), *(f"metric_{m}" for m in ALL_METRICS)]
    assert [*measures()] == columns and all(what.unit and what.note for what in measures().values())
    assert len({what.label for what in measures().values()}) == len(columns)
    assert all(measure(f"term_{t}").short for t in ALL_TERMS)
    assert measure("metric_delta1").higher_is_better and not measure("metric_rmse").higher_is_better


TERMS_PAGE = Path(__file__).parent.parent.parent / "docs" / "terms.md"


def row(name: str, entry: Term | Metric, where: str) -> str:
    """A line of the table: name, label, unit, what it is, and its options with their defaults."""
    options = ", ".join(f"`{key}` {field.default:g}" for key, (_, field) in entry.options.items())
    return f"| `{name}` | {entry.label} | {entry.unit} | {entry.note} | {options} | {where} |"


def test_the_documentation_lists_every_term_and_metric() -> None:
    """docs/terms.md is what the registries say, line by line."""
    always, named = "every run", "where it is named"
    terms = [row(name, term, always if name in TERMS else named) for name, term in ALL_TERMS.items()]
    metrics = [row(name, metric, named if name in FURTHER_METRICS else always) for name, metric in ALL_METRICS.items()]
    written = [line for line in TERMS_PAGE.read_text(encoding="utf-8").splitlines() if line.startswith("| `")]
    assert written == terms + metrics


def test_a_term_that_joins_the_registry_is_described(monkeypatch) -> None:
    """Its line is all it takes."""
    monkeypatch.setitem(ALL_TERMS, "chamfer", Term(label="chamfer term", short="chamfer", unit="m", code=""))
    assert (measure("term_chamfer").label, measure("term_chamfer").short) == ("chamfer term", "chamfer")


def test_outcomes_and_predictors_are_those_of_the_model() -> None:
    """A trivial run trained, so it is not broken; each trivial predictor has a name for readers."""
    assert {*BROKEN} < {*OUTCOMES} and not OUTCOMES["trivial"] and not OUTCOMES["learnt"]
    assert [*PREDICTORS] == [*BASELINES]


def test_an_unknown_column_is_called_by_its_name() -> None:
    """As in a study of another version."""
    assert (measure("metric_odd_one").label, measure("metric_odd_one").unit) == ("odd one", "no unit")
