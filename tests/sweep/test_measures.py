from depth_loss_sweep.measures import BROKEN, OUTCOMES, PREDICTORS, measure, measures
from depth_loss_sweep.model.names import ALL_METRICS, BASELINES, TERMS, Term


def test_every_term_and_metric_is_described() -> None:
    """Each has a label of its own and a unit; terms have a short name; and more is better where the metric says so."""
    columns = ["total", *(f"term_{t}" for t in TERMS), *(f"metric_{m}" for m in ALL_METRICS)]
    assert [*measures()] == columns and all(what.unit and what.note for what in measures().values())
    assert len({what.label for what in measures().values()}) == len(columns)
    assert all(measure(f"term_{t}").short for t in TERMS)
    assert measure("metric_delta1").higher_is_better and not measure("metric_rmse").higher_is_better


def test_a_term_that_joins_the_registry_is_described(monkeypatch) -> None:
    """Its line is all it takes."""
    monkeypatch.setitem(TERMS, "berhu", Term(label="berHu term", short="berHu", unit="m", code=""))
    assert (measure("term_berhu").label, measure("term_berhu").short) == ("berHu term", "berHu")


def test_outcomes_and_predictors_are_those_of_the_model() -> None:
    """A trivial run trained, so it is not broken; each trivial predictor has a name for readers."""
    assert {*BROKEN} < {*OUTCOMES} and not OUTCOMES["trivial"] and not OUTCOMES["learnt"]
    assert [*PREDICTORS] == [*BASELINES]


def test_an_unknown_column_is_called_by_its_name() -> None:
    """As in a study of another version."""
    assert (measure("metric_odd_one").label, measure("metric_odd_one").unit) == ("odd one", "no unit")
