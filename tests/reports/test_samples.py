import base64
import math
from dataclasses import replace

import cv2
import numpy as np
import pytest

from depth_loss_sweep.reports.analysis import Analysis
from depth_loss_sweep.reports.samples import panel_runs, sample_panels


def decoded(uri):
    """A data URI's image, BGR."""
    return cv2.imdecode(np.frombuffer(base64.b64decode(uri.partition(",")[2]), np.uint8), cv2.IMREAD_COLOR)


def test_the_best_and_the_worst_trial_are_shown(study):
    """One run each; of a diverged trial the run that diverged."""
    record = study(trials=4, panels=2, diverged=(3,))
    samples = sample_panels(Analysis(record))
    assert [s.role for s in samples.shown] == ["best", "worst"]
    assert samples.shown[1].trial == 3 and samples.shown[1].seed == 2
    assert len(samples.rows) == 2 and len(samples.rows[0].predictions) == 2
    assert decoded(samples.rows[0].truth).shape == (64, 64, 3)


def test_the_best_trial_is_shown_by_a_typical_seed(study):
    """Its first seed collapsed and still the trial is best by its mean: the middle one of the others is shown."""
    values = {
        (0, 0): 0.69,
        (0, 1): 0.3,
        (0, 2): 0.34,
        (0, 3): 0.32,
        **{(1, seed): 0.6 + 0.01 * seed for seed in range(4)},
    }
    record = study(trials=2, seeds=4, panels=1, values=values)
    record.runs.loc[(record.runs["trial"] == 0) & (record.runs["seed"] == 0), "outcome"] = "flat"
    best, worst = sample_panels(Analysis(record)).shown
    assert (best.trial, best.seed) == (0, 3) and (worst.trial, worst.seed) == (1, 1)
    record.runs.loc[(record.runs["trial"] == 1) & (record.runs["seed"] == 0), "outcome"] = "flat"
    assert sample_panels(Analysis(record)).shown[1].seed == 0


def test_callers_can_ask_which_panels_to_load(study):
    """The runs named are those that are shown."""
    record = study(trials=3, panels=1)
    runs = panel_runs(Analysis(replace(record, panels={})))
    assert len(runs) == 2
    only = replace(record, panels={run: record.panels[run] for run in runs})
    assert [s.trial for s in sample_panels(Analysis(only)).shown] == [
        s.trial for s in sample_panels(Analysis(record)).shown
    ]
    assert panel_runs(Analysis(study(finished=0))) == ()


def test_error_colours_and_numbers_worked_by_hand(study):
    """A prediction 1 m too far everywhere has an RMSE of 1 m and is red; invalid truth is grey."""
    record = study(trials=1, seeds=1, panels=1)
    run, panels = next(iter(record.panels.items()))
    samples = sample_panels(Analysis(replace(record, panels={run: replace(panels, prediction=panels.truth + 1)})))
    prediction = samples.rows[0].predictions[0]
    assert prediction.rmse == pytest.approx(1.0, abs=1e-6) and samples.error == pytest.approx(1.0, abs=1e-5)
    error, mask = decoded(prediction.error), panels.mask[0]
    assert (error[mask] == (43, 24, 178)).all() and (error[~mask] == 128).all()
    assert len(samples.shown) == 1


def test_a_prediction_without_finite_numbers_is_grey(study):
    """A diverged network predicts NaN; the page still renders."""
    record = study(trials=1, seeds=1, panels=1)
    run, panels = next(iter(record.panels.items()))
    broken = replace(panels, prediction=np.full_like(panels.prediction, np.nan))
    prediction = sample_panels(Analysis(replace(record, panels={run: broken}))).rows[0].predictions[0]
    assert math.isnan(prediction.rmse) and (decoded(prediction.depth) == 128).all()


def test_large_panels_are_shrunk(study):
    """A page must stay small enough to be sent by mail."""
    record = study(trials=1, seeds=1, panels=1, size=256)
    row = sample_panels(Analysis(record)).rows[0]
    assert decoded(row.truth).shape == (112, 112, 3) and decoded(row.photo).shape == (112, 112, 3)


def test_without_panels_there_is_nothing_to_show(study):
    """No section is better than an empty one."""
    assert sample_panels(Analysis(study(trials=2))) is None
