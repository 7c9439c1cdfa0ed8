"""The page's data as its script reads it, unpacked here by another hand."""

import base64
import json
import re
import zlib
from dataclasses import replace

import numpy as np
import pytest

from depth_loss_sweep.reports.analysis import Analysis
from depth_loss_sweep.reports.page import render
from depth_loss_sweep.reports.page_data import PageData
from depth_loss_sweep.reports.run_cards import study_cards
from depth_loss_sweep.reports.tables import Cell, Table, between, numeric
from depth_loss_sweep.reports.trial_tables import run_table


def whole(text):
    """The page's JSON with every column in its place."""
    data = json.loads(text)
    packed = zlib.decompress(base64.b64decode(data["packed"]))

    def column(place):
        about = data["columns"][place]
        if about["type"] == "text":
            return json.loads(packed[about["at"] : about["at"] + about["bytes"]])
        width, length = int(about["type"][1:]), about["length"]
        planes = np.frombuffer(packed, "u1", width * length, about["at"]).reshape(width, length)
        return np.ascontiguousarray(planes.T).view(f"<{about['type']}").ravel().tolist()

    def filled(tree):
        if isinstance(tree, list):
            return [filled(each) for each in tree]
        if not isinstance(tree, dict):
            return tree
        return column(tree["column"]) if set(tree) == {"column"} else {k: filled(v) for k, v in tree.items()}

    return {key: filled(data[key]) for key in ("figures", "tables", "studies")}, data


def in_page(page):
    """The same of a page."""
    return whole(re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL).group(1))


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        ([*range(40)], "u1"),
        ([70_000, *range(40)], "u4"),
        ([0.1 * i for i in range(40)], "f8"),
        ([*np.linspace(-1, 1, 40), np.nan, np.inf, -np.inf], "f8"),
        ([1e300, 1e-300, *range(20)], "f8"),
        (["<b>&", "עברית 🙂", '"', *"abcdefghijklmnop"], "text"),
    ],
)
def test_columns_come_back_to_the_last_bit(values, kind):
    """Each in the smallest type that holds it."""
    data = PageData()
    data.add_study("study-1", {"numbers": data.column(values, is_exact=True)})
    found, raw = whole(str(data.json))
    assert raw["columns"][0]["type"] == kind
    np.testing.assert_array_equal(found["studies"]["study-1"]["numbers"], values)


def test_figures_keep_five_digits():
    """A number written with five digits is the same number when it is read so."""
    values = [float(f"{v:.5g}") for v in np.exp(np.random.default_rng(0).normal(0, 8, 4000))]
    data = PageData()
    data.add_study("study-1", {"numbers": values})
    found, raw = whole(str(data.json))
    assert raw["columns"][0]["type"] == "f4" and len(raw["packed"]) < 4000 * 5
    assert [float(f"{v:.5g}") for v in found["studies"]["study-1"]["numbers"]] == values


def test_what_two_figures_show_is_there_once(study):
    """Twenty-four measures against one weight: places, seeds and names are a column each."""
    page = render([study(trials=20)])
    found, raw = in_page(page)
    x = [figure["data"][0]["x"] for anchor, figure in found["figures"].items() if "-terms-" in anchor]
    assert len({str(each) for each in x}) == 1 and len(x) == 5
    places = {(c["type"], c["at"]) for c in raw["columns"]}
    assert len(places) == len(raw["columns"])
    stored = [
        json.loads(page.split('id="data">')[1].split("</script>")[0])["figures"][a]["data"][0]
        for a in found["figures"]
        if "-terms-" in a
    ]
    assert len({json.dumps([each["x"], each["text"], each["customdata"]]) for each in stored}) == 1


def test_the_same_study_gives_the_same_bytes(study):
    """Whatever was rendered before."""
    first, second = (render([study(trials=20, panels=1)]) for _ in range(2))
    assert first == second


def test_a_table_is_numbers_where_they_are_written_by_rule_and_texts_elsewhere(study):
    """How a number is written is named, so that the script writes it alike; "diverged" is an infinity."""
    data = PageData()
    rows = [
        (numeric(0.5123), numeric(3, "3"), Cell("3 of 4", 3, "number")),
        (numeric(np.inf), numeric(4, "4"), Cell("", "", "number")),
    ]
    data.add_table("t", Table(("mean", "n", "broke"), tuple(rows), {"further": [0.1, np.nan]}))
    found, _ = whole(str(data.json))
    mean, n, broke, further = found["tables"]["t"]["columns"]
    assert (mean["format"], n["format"], "format" in broke) == ("number", "integer", False)
    assert mean["values"] == [0.5123, np.inf] and broke["values"] == ["3 of 4", ""] and further["hidden"]


def test_saved_are_values_and_not_how_they_are_shown(study):
    """Both ends of an interval, further columns to the last bit, what is missing as missing."""
    data = PageData()
    rows = [(between(1 / 3, 2 / 3), numeric(1.0)), (between(None, None), numeric(2.0))]
    data.add_table("t", Table(("95 %", "mean"), tuple(rows), {"further": [1 / 3, np.nan], "head": ["a", "b"]}))
    interval, mean, further, head = whole(str(data.json))[0]["tables"]["t"]["columns"]
    assert interval["saved"] == {" low": [1 / 3, None], " high": [2 / 3, None]} and "saved" not in mean
    assert further["values"] == [1 / 3, None] and further["format"] == "number"
    assert head["values"] == ["a", "b"] and "format" not in head and head["hidden"]


def test_a_page_of_thousands_of_runs_is_light_and_says_its_answer_without_a_script(study):
    """Few rows stand in the page; the table's further columns and each run's epochs are in its data."""
    record = study(trials=400, epochs=3)
    page = render([record])
    body = page[: page.index('id="data"')]
    assert body.count("<tr>") < 150 and "1170 more rows need JavaScript" in body
    assert "<h2>" in body and " is ahead, one of " in body
    found, _ = in_page(page)
    runs = found["tables"]["study-1-runs-table"]
    assert (
        runs["rows"] == 1200
        and len(run_table(Analysis(record)).further) == len([c for c in runs["columns"] if c.get("hidden")]) > 20
    )
    card = found["studies"]["study-1"]
    assert len(card["charts"][0]["lines"][0]["values"]) == 1200 * 3
    rows = record.epochs[(record.epochs["split"] == "val") & (record.epochs["run"] == record.runs["run"][7])]
    np.testing.assert_allclose(card["charts"][0]["lines"][0]["values"][21:24], rows["metric_rmse"], rtol=1e-5)


def test_a_card_has_what_the_study_recorded(study):
    """Effective weights only where a rule sets them; without a whole spec nothing that trains a trial again."""
    record = study(trials=3)
    cards = study_cards(Analysis(record))
    assert [chart["title"] for chart in cards["charts"]] == [
        "RMSE over epochs",
        "Unweighted terms, validation",
        "Gradient norm",
    ]
    assert cards["trials"]["again"] == ["", "", ""]
    ruled = replace(record, spec={**record.spec, "loss": {"weighting": "uncertainty"}})
    ruled.epochs["weight_ssim"] = 0.5
    assert study_cards(Analysis(ruled))["charts"][-1]["title"] == "Effective weights"


def test_trials_that_share_runs_have_their_curves_each(study):
    """Two points of the same weights are two trials of one set of runs: both cards draw it, and so does the trial between them."""
    record = study(trials=3, seeds=1)
    first, between = record.runs["run"][0], record.runs["run"][1]
    record.runs.loc[2, "run"] = first
    charts = study_cards(Analysis(record))["charts"]
    curves = charts[0]["lines"][0]["values"].reshape(3, -1)
    val = record.epochs[record.epochs["split"] == "val"].set_index("run")["metric_rmse"]
    for curve, run in zip(curves, (first, between, first), strict=True):
        np.testing.assert_array_equal(curve, val[run])
