import hashlib
import json
import re
import threading
from dataclasses import replace
from importlib.resources import files

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import pytest
from plotly.offline import get_plotlyjs_version

from depth_loss_sweep.reports import wording
from depth_loss_sweep.reports.analysis import Analysis
from depth_loss_sweep.reports.charts import OUTCOME_COLOURS
from depth_loss_sweep.reports.decision import Breaks, Contrast, Decision
from depth_loss_sweep.reports.hero import hero
from depth_loss_sweep.reports.page import baseline_table, render, write_document
from depth_loss_sweep.reports.scenes import PictureValues
from depth_loss_sweep.reports.sections import study_sections
from depth_loss_sweep.reports.trial_tables import run_table, trial_table

STATES = {
    "line": {"diverged": (9,), "panels": 2},
    "simplex": {"kind": "simplex", "trials": 8},
    "grid": {"kind": "grid", "trials": 6},
    "point": {"kind": "point", "trials": 1},
    "points": {"kind": "points", "trials": 4},
    "half-finished": {"finished": 4, "trials": 4},
    "nothing finished": {"finished": 0, "trials": 2},
    "one seed": {"seeds": 1, "trials": 3},
    "one epoch": {"epochs": 1, "trials": 2},
    "all diverged": {"trials": 2, "diverged": (0, 1)},
    "combined": {"objective": "combined", "trials": 3},
    "more is better": {"objective": "val_delta1", "trials": 3},
}


def without_plotly(page):
    """The page without the one big script that is not ours."""
    start = page.index("<script>", page.index("</head>"))
    return page[:start] + page[page.index("</script>", start) :]


def stored(page):
    """The page's data, as its script reads it."""
    return json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', page).group(1))


@pytest.mark.parametrize("state", STATES)
def test_a_page_comes_out_of_every_state_of_a_study(study, state):
    """Every link of the menu leads somewhere, all figures are valid, and plotly is embedded once."""
    page = render([study(**STATES[state])])
    assert page.count("plotly.js (cartesian") == 1
    ids = re.findall(r'id="([^"]+)"', without_plotly(page))
    assert len(ids) == len(set(ids))
    assert set(re.findall(r'href="#([^"]+)"', page)) <= set(ids)
    figures = stored(page)["figures"] if 'id="data"' in page else {}
    assert set(figures) == set(re.findall(r'<div class="chart" id="([^"]+)"', page))
    assert all(figure["data"] for figure in figures.values())


@pytest.mark.parametrize("state", ["line", "simplex", "grid", "point", "points", "combined"])
def test_figures_are_valid_plotly_figures(study, state):
    """They are built as plain dictionaries, so plotly's own classes check them here, every choice included."""
    analysis = Analysis(study(**{**STATES[state], "panels": 0}))
    for section in filter(None, (hero(analysis, "study-1"), *study_sections(analysis, "study-1"))):
        for figure in section.figures:
            checked = go.Figure({"data": figure.chart.data, "layout": figure.chart.layout})
            for axis in ("xaxis", "yaxis"):
                shown = axis in figure.chart.layout and checked.layout[axis].visible is not False
                without = figure.anchor.endswith(("parallel", "hero-replica"))  # names stand for a title
                assert not shown or without or checked.layout[axis].title.text
            for name in list(figure.chart.choices)[:3]:
                chosen = figure.chart.chosen(name)
                assert len(go.Figure({"data": chosen.data, "layout": chosen.layout}).data) == len(figure.chart.data)


def test_the_script_that_draws_is_plotlys_own():
    """As published, by its checksum, and of the version whose classes check the figures above."""
    folder = files("depth_loss_sweep.reports") / "vendor"
    digest, name = (folder / "SHA256SUMS").read_text().split()
    bundle = (folder / name).read_bytes()
    assert hashlib.sha256(bundle).hexdigest() == digest
    assert bundle[:200].decode().splitlines()[1] == f"* plotly.js (cartesian - minified) v{get_plotlyjs_version()}"


def test_a_page_says_what_scenes_leave_open(study):
    """Where pictures are known: levels and contrasts with other scenes, and which of scenes and seeds leaves more open."""
    record = study()
    rng = np.random.default_rng(0)
    values = Analysis(record).final_values("metric_rmse")
    patterns = {run: 1 + 0.1 * rng.standard_normal(18) for run in values}
    pictures = PictureValues(
        tuple(f"room {i // 2}" for i in range(18)),
        {run: value * patterns[run] / patterns[run].mean() for run, value in values.items()},
    )
    page, without = render([replace(record, pictures=pictures)]), render([record])
    assert "leave more open: its level" in page and "by scenes, too" in page and "with other scenes</th>" in page
    assert "Scenes not measured" in without and "with other scenes</th>" not in without


def test_a_study_without_any_row_has_a_page(study):
    """A study that was only just created."""
    empty = replace(
        study(trials=1), trials=pd.DataFrame(), runs=pd.DataFrame(), epochs=pd.DataFrame(), baselines={}, data={}
    )
    page = render([empty])
    assert "No trial has finished yet" in page


def test_hostile_names_are_text(study):
    """A name with markup is shown, not run: in the page, in figures, in tables."""
    name = "<script>alert(1)</script>\"'&<img src=x onerror=alert(2)>"
    record = study("point", trials=1, name=name, panels=1)
    record.runs["device"] = record.runs["reason"] = name
    run = next(iter(record.panels))
    panels = {run: replace(record.panels[run], keys=(name,))}
    record = replace(record, environment={name: name}, command=name, notes=(name,), panels=panels)
    page = without_plotly(render([record, study(trials=2, name=name)]))
    assert "<script>alert" not in page and "<img src=x" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page


@pytest.mark.parametrize(("epochs", "most"), [(1, 0), (4, 2)])
def test_one_trial_has_a_table_instead_of_dots(study, epochs, most):
    """Every measure with its interval beside the trivial predictors; figures only where something goes over epochs."""
    sections = study_sections(Analysis(study("point", trials=1, epochs=epochs)), "study-1")
    assert sum(len(s.figures) for s in sections) == most
    table = sections[0].tables[0].table
    assert table.columns[-2:] == ("training median", "training mean map")
    rows = {row[0].text: row for row in table.rows}
    assert len(rows) > 20 and rows["RMSE (m)"][-2].text == "0.7100" and rows["RMSE (m)"][4].text == "3"
    assert rows["combined loss (weighted sum)"][-2].text == "–"


def test_a_ring_is_green_only_where_weights_are_recommended(study):
    """The simplest of equals and whoever is ahead are ringed in grey; the note says what the ring means."""
    for spread, state in ((0.1, "use"), (0.0, "equivalent")):
        values = {(t, s): 0.5 + spread * t + 0.0003 * ((t + s) % 3) for t in range(3) for s in range(5)}
        analysis = Analysis(study(trials=3, seeds=5, values=values))
        figure, *_ = hero(analysis, "study-1").figures
        (ring,) = [t for t in figure.chart.data if t.get("marker", {}).get("symbol") == "circle-open"]
        assert analysis.decision.state == state and wording.verdict(analysis.decision) in figure.note
        assert (ring["marker"]["color"] == OUTCOME_COLOURS["learnt"]) == (state == "use")
        assert ring["y"] == [pytest.approx(analysis.named.mean, rel=1e-4)]


def test_a_far_predictor_is_an_arrow_and_squeezes_nothing(study):
    """Points of 0.5 to 0.7 beside a predictor of 7: its number stands at the edge, and what is drawn ends near the points."""
    for objective in ("val_rmse", "val_delta1"):
        analysis = Analysis(study(baseline=7.0, trials=5, objective=objective))
        *_, epochs, _, _ = study_sections(analysis, "study-1")
        chart = hero(analysis, "study-1").figures[0].chart
        lines = [trace["y"] for trace in chart.data if trace.get("meta") == "baseline"]
        assert lines and all(y == [None, None] for y in lines)
        arrow = "↑" if objective == "val_rmse" else "↓"
        assert all(label["text"].startswith(f"{arrow} training") for label in chart.layout["annotations"])
        assert epochs.figures[0].chart.layout["yaxis"]["range"][1] < 2
    near = hero(Analysis(study(trials=5)), "study-1").figures[0].chart
    assert [label["text"] for label in near.layout["annotations"]] == [
        "training median 0.71",
        "training mean map 0.639",
    ]


def test_hostile_values_of_a_variable_are_text_in_figures(study):
    """Plotly reads a little HTML in names, so they are escaped once more."""
    record = study(trials=2)
    record.trials["var_w"] = ["<a href='//evil'>x</a>", "b"]
    page = render([record])
    assert "<a href='//evil'" not in page
    hero_ = stored(page)["figures"]["study-1-hero-means"]
    assert "&lt;a href" in hero_["layout"]["xaxis"]["ticktext"][0]


def test_the_page_asks_nobody_for_anything(study):
    """No address is loaded, and a strict policy lets no other script run."""
    page = without_plotly(render([study(trials=2, panels=1)]))
    assert not re.search(r'(?:src|href)="(?!data:|#)', page)
    policy = re.search(r'Content-Security-Policy" content="([^"]+)"', page).group(1).replace("&#39;", "'")
    assert policy.startswith("default-src 'none'; script-src 'sha256-") and "unsafe-eval" not in policy
    assert "unsafe-inline" not in policy.partition("style-src")[0]


def test_the_replica_is_labelled_as_not_comparable(study):
    """The paper's figure is there, and nobody can take it for a ranking."""
    page = render([study(trials=3)])
    assert '<span class="badge">not comparable</span>' in page and "Not comparable along this axis." in page


def test_thirty_runs_make_a_page_of_a_few_megabytes(study):
    """Ten trials of three seeds and ten epochs, with samples at full size."""
    assert len(render([study(panels=6, size=256)]).encode()) < 2_700_000


def test_several_studies_share_a_page(study):
    """Each has its own anchors, and plotly is embedded once."""
    page = render([study(trials=2), study("simplex", trials=3, name="lambda-search")])
    assert page.count("plotly.js (cartesian") == 1
    assert 'id="study-1"' in page and 'id="study-2-trials"' in page and "lambda-search" in page


def test_writing_is_atomic(study, tmp_path):
    """The file is whole, and nothing else is left beside it."""
    path = write_document(render([study(trials=1)]), tmp_path / "new" / "report.html")
    assert path.read_text(encoding="utf-8").rstrip().endswith("</html>")
    assert [p.name for p in path.parent.iterdir()] == ["report.html"]


def test_a_failed_write_leaves_the_old_report(study, tmp_path, monkeypatch):
    """And no half-written file."""
    path = write_document(render([study(trials=1)]), tmp_path / "report.html")
    before = path.stat().st_size
    monkeypatch.setattr("os.fsync", lambda _: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        write_document(render([study(trials=2)]), path)
    assert path.stat().st_size == before and len(list(tmp_path.iterdir())) == 1


def test_a_killed_writer_leaves_its_file_to_the_next(study, tmp_path):
    """The temporary file has one name, so that kills leave one; and a failed write names the page, not it."""
    (tmp_path / ".report.html.tmp").write_bytes(b"x" * 10_000_000)
    path = write_document(render([study(trials=1)]), tmp_path / "report.html")
    assert path.read_bytes().startswith(b"<!") and [p.name for p in tmp_path.iterdir()] == ["report.html"]
    with pytest.raises(OSError, match="Is a directory") as caught:
        (tmp_path / "folder").mkdir()
        write_document(render([study(trials=1)]), tmp_path / "folder")
    assert caught.value.filename == str(tmp_path / "folder") and len(list(tmp_path.iterdir())) == 2


def test_two_writers_at_once_leave_a_whole_page(tmp_path):
    """As where `--watch` meets another report: whoever comes second waits, and nobody reads a half."""
    path, seen = tmp_path / "report.html", []
    pages = [f"<html>{c * 200_000}</html>" for c in "abcd"]
    threads = [threading.Thread(target=lambda p=p: [write_document(p, path) for _ in range(30)]) for p in pages]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        if path.exists():
            seen.append(path.read_text())
    for thread in threads:
        thread.join()
    assert len(seen) > 3 and all(page.endswith("</html>") and len(set(page[6:-7])) == 1 for page in seen)
    assert [p.name for p in tmp_path.iterdir()] == ["report.html"]


def test_tables_are_sorted_by_value_not_by_text(study):
    """Cells carry the number they stand for; trials come best first, diverged ones last."""
    record = study(trials=4, diverged=(0,))
    table = trial_table(Analysis(record))
    column = table.columns.index("mean RMSE (m)")
    means = [row[column].sort for row in table.rows]
    assert means == sorted(means) and table.rows[-1][column].text == "diverged"
    assert [row[1].text for row in table.rows].count("recommended") <= 1
    assert [cell.text for cell in run_table(Analysis(record)).rows[2]][:4] == ["0", "2", "finished", "non-finite"]


def test_the_trivial_predictors_have_a_table(study):
    """Every split has its column."""
    table = baseline_table(Analysis(study(trials=1)))
    assert table.columns == ("measure", "predictor", "train", "val")
    assert [c.text for c in table.rows[1]] == ["RMSE (m)", "training median", "0.7100", "0.7100"]


def test_named_points_are_categories_in_their_order(study):
    """No line joins them, the ticks are their names, and the axis says what `equal` weighs."""
    figure, *_ = hero(Analysis(study("points", trials=4)), "study-1").figures
    assert figure.chart.layout["xaxis"]["ticktext"] == ["paper-table-2", "equal", "l1", "edge"]
    assert (
        "equal: SILog\u00a01 · SSIM\u00a01 · edge\u00a01 · L1\u00a01" in figure.chart.layout["xaxis"]["title"]["text"]
    )
    assert all("lines" not in t["mode"] for t in figure.chart.data if t["type"] == "scatter" and t.get("meta") is None)


def test_swept_variables_have_columns_of_their_own(study):
    """A grid over w and the rate: the table of trials says at which each was trained, and a study of points which point.

    Runs have the same, and their weights, behind the menu; of a simplex the variables are the weights.
    """
    analysis = Analysis(study("grid", trials=4))
    assert trial_table(analysis).columns[2:5] == ("w", "train.learning_rate", "SILog")
    further = run_table(analysis).further
    assert [*further][:6] == ["w", "train.learning_rate", "SILog", "SSIM", "edge", "L1"]
    assert further["w"][3:6] == [0.3] * 3 and further["edge"] == further["w"] and further["SSIM"][3] == 0.6
    assert [*run_table(Analysis(study("points", trials=2))).further["point"]] == ["paper-table-2"] * 3 + ["equal"] * 3
    assert "silog" not in run_table(Analysis(study("simplex", trials=2))).further
    table = trial_table(Analysis(study("points", trials=2)))
    assert table.columns[2] == "point" and {row[2].text for row in table.rows} == {"paper-table-2", "equal"}


def test_what_did_not_learn_is_nowhere_recommended(study):
    """Tables, figures and contrasts name no trial where nothing was learnt."""
    page = without_plotly(render([study(baseline=0.4, trials=4)]))
    assert "Nothing was learnt" in page and "ecommended" not in page and "ahead" not in page


def test_no_run_is_green_where_nothing_was_learnt(study):
    """Better than the training median, not than the mean map: every run is told as that, in tables and figures."""
    record = study(
        trials=4,
        baseline=0.7,
        values={(t, s): 0.65 + 0.004 * s - 0.03 * (t == s == 0) for t in range(4) for s in range(3)},
    )
    analysis = Analysis(record)
    assert set(record.runs["outcome"]) == {"learnt"} and analysis.decision.state == "not_learnt"
    stability, combined = study_sections(analysis, "study-1")[-2:]
    assert combined.title.startswith("Combined loss")  # what is no ranking comes last
    names = {
        trace["name"]
        for f in stability.figures
        if f.title in ("How runs ended", "Largest gradient norm")
        for trace in f.chart.data
        if "name" in trace
    }
    assert names == {"median-only"}
    assert {row[3].text for row in run_table(analysis).rows} == {"median-only"}
    outcomes = trial_table(analysis).columns.index("outcomes")
    assert {row[outcomes].text for row in trial_table(analysis).rows} == {"3 median-only"}
    mixed = run_table(Analysis(study(trials=2, seeds=1, values={(0, 0): 0.6, (1, 0): 0.65}))).rows
    assert [row[3].text for row in mixed] == ["learnt", "median-only"]


def test_the_table_of_trials_calls_each_by_what_the_decision_allows(study):
    """One is recommended; whoever may be best is called so, and "worse" takes a contrast."""
    values = {
        (t, s): [0.5, 0.501, 0.6, 0.66][t] + 0.001 * s + 0.002 * ((t + s) % 3) for t in range(4) for s in range(6)
    }
    record = study(trials=4, seeds=6, values=values)
    record.trials.loc[3, "state"] = "pruned"
    said = {row[0].text: row[1].text for row in trial_table(Analysis(record)).rows}
    assert said == {"0": "recommended", "1": "may be best", "2": "worse than 0", "3": "not compared"}
    page = render([record])
    assert "worse than 0: an interval for all pairs shows it" in page and "shown not the best:" not in page


def test_as_many_trials_may_be_best_as_the_headline_counts(study):
    """Each has a word: one that is worse than the named trial and yet may be best has both words."""
    record = study(trials=4, seeds=6, values={(t, s): 0.5 + 0.01 * t + 0.001 * s for t in range(4) for s in range(6)})
    analysis = Analysis(record)
    said = Decision(
        "use",
        0,
        (0, 1),
        0.03,
        compared=(0, 1, 2, 3),
        contrasts=(Contrast(1, 0.1, 0.01, 0.2), Contrast(2, 0.1, -0.1, 0.2)),
    )
    analysis.__dict__["decision"] = replace(said, broken=(Breaks(3, 2, 2, 0.2, 1.0),))
    words = {row[0].text: row[1].text for row in trial_table(analysis).rows}
    assert words == {
        "0": "recommended",
        "1": "worse than 0, may be best",
        "2": "shown not the best",
        "3": "every run broke",
    }
    told = wording.standings_mean(analysis.decision, [0, 1, 2, 3])
    assert told.startswith("Worse than 0, may be best: an interval") and "shown not the best: the test" in told
    spread = Analysis(study(trials=10, diverged=(3,)))
    words = [row[1].text for row in trial_table(spread).rows]
    assert "" not in words and sum("may be best" in word for word in words) + 1 == len(spread.decision.kept)
