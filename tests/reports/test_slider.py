import base64
import json
from dataclasses import replace

import cv2
import numpy as np
import pytest

from depth_loss_sweep.reports.analysis import Analysis
from depth_loss_sweep.reports.page import render, study_pages
from depth_loss_sweep.reports.slider import LEVELS, MIDDLE, MOST_WEIGHTS, panel_runs, slider


def metres(found, png):
    """The depths that a map of the slider holds."""
    levels = cv2.imdecode(np.frombuffer(base64.b64decode(png), np.uint8), cv2.IMREAD_UNCHANGED).astype(float)
    low, high = found.content["low"], found.content["high"]
    return np.where(levels == 0, np.nan, low + (levels - 1) / LEVELS * (high - low))


def test_maps_are_metres(study):
    """Each map is the run's own prediction within half a step, the truth's holes are missing, and its RMSE is that of the floats."""
    record = study(trials=4, panels=2)
    found = slider(Analysis(record))
    step = (found.content["high"] - found.content["low"]) / LEVELS
    for run, maps in found.content["runs"].items():
        own = record.panels[run]
        for at, (png, rmse) in enumerate(maps):
            inside = own.prediction[at].clip(found.content["low"], found.content["high"])
            assert np.abs(metres(found, png) - inside).max() <= 0.51 * step
            errors = (own.prediction[at] - own.truth[at])[own.mask[at]]
            assert rmse == pytest.approx(float(np.sqrt(np.mean(errors.astype(float) ** 2))), rel=1e-3)
    truth = metres(found, found.content["pictures"][0]["truth"])
    assert (np.isnan(truth) == ~record.panels[run].mask[0]).all()


def test_a_line_goes_along_w_and_the_middle_seed_comes_first(study):
    """In w's order whatever the numbers are; by default each trial's middle seed, a collapsed one counted."""
    values = {(0, 0): 0.5, (0, 1): 0.3, (0, 2): 0.9, (1, 0): 0.2, (1, 1): 0.1, (1, 2): 0.3}
    found = slider(Analysis(study(trials=2, panels=1, values=values)))
    assert [(s.trial, s.tick) for s in found.stops] == [(0, "0"), (1, "0.9")]
    assert [s.runs[MIDDLE].seed for s in found.stops] == [0, 0]
    assert list(found.views) == [MIDDLE, "0", "1", "2"] and list(found.stops[0].runs) == [MIDDLE, "0", "1", "2"]
    assert found.title == "Predictions along w"


def test_elsewhere_it_goes_by_rank(study):
    """The best first, numbered by rank; of many trials at most twelve, the first, the last and the named one among them."""
    record = study("simplex", trials=30, panels=1)
    found = slider(Analysis(record))
    ranked = [t.number for t in Analysis(record).ranked]
    shown = [s.trial for s in found.stops]
    assert len(shown) == MOST_WEIGHTS and shown[0] == ranked[0] and shown[-1] == ranked[-1]
    assert shown == [n for n in ranked if n in shown] and found.stops[0].tick == "#1"
    assert Analysis(record).decision.trial in shown and "12 of 30" in found.lead


def test_the_same_pictures_have_one_scale(study):
    """Colours of errors are the same in the slider and beside it, and so is how metres are written."""
    (page,) = study_pages([Analysis(study(trials=6, panels=2))])
    samples, along = page.samples, page.slider
    assert (samples.near, samples.far, samples.error) == along.scale and samples.error_bar == along.error_bar
    text = render([study(trials=6, panels=2)])
    assert text.count(f"<span>too far, +{along.error:.2f}\u00a0m</span>") == 2


def test_the_page_stays_small(study):
    """Twelve weights with six pictures and many seeds: the middle seed alone, all pictures; with three seeds, fewer pictures of each."""
    many = slider(Analysis(study(trials=12, seeds=8, panels=6)))
    assert list(many.views) == [MIDDLE] and len(many.pictures) == 6
    few = slider(Analysis(study(trials=12, seeds=3, panels=6)))
    assert len(few.views) == 4 and len(few.pictures) == 2
    assert all(len(found.json) < 500_000 for found in (many, few))  # of noise, which no real prediction is


def test_callers_load_what_is_shown(study):
    """Panels of the runs that it names make the same page; a record without any has no slider."""
    record = study(trials=14, panels=2)
    wanted = panel_runs(Analysis(replace(record, panels={})))
    assert render([replace(record, panels={run: record.panels[run] for run in wanted})]) == render([record])
    assert len(wanted) < len(record.panels)
    assert slider(Analysis(study(trials=3))) is None and slider(Analysis(study(trials=1, panels=1))) is None


def test_what_is_not_finite_is_missing(study):
    """A diverged run is there, grey, without a number."""
    record = study(trials=2, seeds=1, panels=1)
    run, own = next(iter(record.panels.items()))
    broken = {**record.panels, run: replace(own, prediction=np.full_like(own.prediction, np.nan))}
    found = slider(Analysis(replace(record, panels=broken)))
    png, rmse = found.content["runs"][run][0]
    assert np.isnan(metres(found, png)).all() and rmse is None
    assert json.loads(str(found.json)) == found.content


def test_predictions_of_several_sizes_have_no_slider(study):
    """Where the pictures' size is swept, no pixel of one trial's prediction is that of another's truth."""
    record, smaller = (study(trials=2, panels=1, size=size) for size in (64, 48))
    mixed = record.panels | {run: smaller.panels[run] for run in record.runs["run"][3:]}
    assert slider(Analysis(record)) and slider(Analysis(smaller))
    assert slider(Analysis(replace(record, panels=mixed))) is None
