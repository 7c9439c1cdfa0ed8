import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from depth_loss_sweep.reports.analysis import Analysis
from depth_loss_sweep.reports.charts import term_colours
from depth_loss_sweep.reports.errors import ReportError
from depth_loss_sweep.reports.measures import Measure
from depth_loss_sweep.reports.naming import recipe, spec_recipe, weights_label
from depth_loss_sweep.reports.trials import is_equal, normalised

NAMES = {"silog": "SILog", "edge": "edge", "l1": "L1"}


def test_a_trial_is_the_mean_of_its_seeds_last_epochs(study):
    """The value is the last epoch's, never the best epoch's."""
    record = study(trials=2, seeds=2, values={(0, 0): 0.5, (0, 1): 0.7})
    first = Analysis(record).trials[0]
    last = record.epochs[(record.epochs["split"] == "val") & (record.epochs["epoch"] == 10)]["metric_rmse"].tolist()
    assert [s.value for s in first.seeds] == pytest.approx(last[:2])
    assert first.mean == pytest.approx(0.6, abs=1e-9)
    assert first.is_complete and first.label == "w = 0"


def test_a_study_may_average_its_last_epochs(study):
    """With `value = 2` the final value is the mean of the last two epochs."""
    record = study(trials=1, seeds=1)
    record = replace(record, spec={"study": {**record.spec["study"], "value": 2}})
    rows = record.epochs[record.epochs["split"] == "val"]["metric_rmse"].to_numpy()
    assert list(Analysis(record).final_values("metric_rmse").values()) == pytest.approx([rows[-2:].mean()])


def test_a_diverged_seed_makes_the_trial_infinite(study):
    """Two good seeds do not make up for a non-finite one, whatever was recorded last."""
    record = study(trials=2, seeds=3, diverged=(1,))
    good, bad = Analysis(record).trials
    assert math.isinf(bad.mean) and bad.mean > 0 and bad.is_complete and bad.broken == 1
    assert math.isfinite(good.mean)


def test_a_diverged_seed_is_the_lowest_where_more_is_better(study):
    """Where a metric is better the higher it is, the worst infinity is negative."""
    record = study(trials=1, objective="val_delta1", diverged=(0,))
    assert Analysis(record).trials[0].mean == -math.inf


def test_a_half_finished_trial_is_not_complete(study):
    """Seeds that have not finished have no value yet, although they have epochs."""
    record = study(trials=2, seeds=3, finished=4)
    first, second = Analysis(record).trials
    assert first.is_complete and not second.is_complete
    assert second.interval.n == 1 and sorted(s.outcome for s in second.seeds)[-2:] == ["running", "waiting"]


def test_a_pruned_trial_is_not_complete(study):
    """Pruned trials saw fewer epochs, so they are not compared."""
    record = study(trials=2)
    record.trials.loc[0, "state"] = "pruned"
    assert not Analysis(record).trials[0].is_complete


def test_a_record_without_epochs_has_no_values(study):
    """Tables without rows need no columns."""
    record = replace(study(trials=1), epochs=pd.DataFrame(), runs=pd.DataFrame())
    assert Analysis(record).final_values("metric_rmse") == {}
    assert Analysis(record).trials[0].seeds == ()


def test_a_table_that_lacks_a_column_is_refused(study):
    """The error names the study, the table and the column."""
    record = study(trials=1)
    with pytest.raises(ReportError, match=r"'ssim-vs-edge'.*runs lacks outcome"):
        replace(record, runs=record.runs.drop(columns="outcome"))


def test_trials_are_ranked_by_the_objective_and_by_rmse_where_it_is_the_combined_loss(study):
    """The record says which column the objective is."""
    combined, rated = (
        Analysis(study(trials=1, objective="combined")),
        Analysis(study(trials=1, objective="val_abs_rel")),
    )
    assert (combined.objective.column, combined.ranking.column) == ("total", "metric_rmse")
    assert rated.objective.column == rated.ranking.column == "metric_abs_rel"


def test_what_a_record_does_not_name_is_called_as_its_tables_call_it(study):
    """A term or metric that nobody described has its column's name, no unit, and less of it is better."""
    record = study(trials=2)
    record.trials["weight_berhu"] = record.epochs["metric_odd_one"] = 0.5
    analysis = Analysis(record)
    odd = analysis.measure("metric_odd_one")
    assert (odd.label, odd.unit, odd.higher_is_better) == ("odd one", "no unit", False)
    assert odd in analysis.measured_metrics and "berhu\u00a00.5" in analysis.recipe({"berhu": 0.5}, {})


def test_a_new_term_needs_nothing_but_its_record(study):
    """Name, unit and note come with the record, and it has a colour of its own."""
    record = study(trials=2)
    record.trials["weight_berhu"] = record.epochs["term_berhu"] = 0.5
    berhu = Measure("term_berhu", "berHu term", "m", "reverse Huber", short="berHu")
    analysis = Analysis(replace(record, measures={**record.measures, berhu.column: berhu}))
    assert analysis.term_names["berhu"] == "berHu" and berhu in analysis.measured_terms
    assert len({*term_colours(analysis.term_names).values()}) == 6


def test_what_was_computed_is_kept(study):
    """Figures, tables and sentences ask for the same trials many times over."""
    analysis = Analysis(study(trials=2))
    assert analysis.results(analysis.ranking) is analysis.trials
    assert analysis.results(analysis.measure("metric_mae"), "train") is analysis.results(
        analysis.measure("metric_mae"), "train"
    )


def test_weights_are_compared_up_to_scale():
    """Adam ignores a loss's scale, so 2 and 2 are as equal as 0.5 and 0.5."""
    assert normalised({"silog": 2.0, "l1": 6.0}, ("silog", "l1")) == pytest.approx(np.array([0.25, 0.75]))
    assert is_equal({"silog": 2.0, "l1": 2.0}, ("silog", "l1"))
    assert not is_equal({"silog": 2.0, "l1": 2.1}, ("silog", "l1"))
    assert weights_label({"silog": 0.55, "edge": 0.0, "l1": 0.05}, NAMES) == "SILog\u00a00.55 · L1\u00a00.05"


def test_a_swept_field_is_named_beside_the_weights():
    """Whoever reads a trial's name can train it again: its point, its weights, and the fields that differ between trials."""
    weights, params = (
        {"silog": 1.0, "l1": 1.0},
        {"point": "equal", "train.learning_rate": 0.001, "model.batch_norm": True},
    )
    assert recipe(weights, params, NAMES).replace("\u00a0", " ") == (
        "equal: SILog 1 · L1 1 with train.learning_rate = 0.001, model.batch_norm = true"
    )
    assert spec_recipe(weights, params) == "equal: silog 1, l1 1, train.learning_rate 0.001, model.batch_norm true"
    assert spec_recipe(weights, {"w": 0.3, "point": 0.5}) == "silog 1, l1 1"
