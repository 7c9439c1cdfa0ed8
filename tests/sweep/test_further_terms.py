"""Terms and metrics that a study names: from its TOML to page and export, and out of the way of every other study."""

import json
import math

import pytest

from depth_loss_sweep.model.names import FURTHER_METRICS, FURTHER_TERMS, metrics_with, terms_with

from .conftest import Lab

SPEC = """
[study]
name = "robust"
objective = "val_delta1_aligned"
metrics = ["normal_angle"]
seeds = [0]
value = "last"
[data]
source = "rooms"
rooms = 12
image_size = 16
crop = "eigen_nyu"
[model]
width = 1
[train]
epochs = 2
[loss]
berhu_share = 0.3
[search]
w = [0, 0.5, 1]
[weights]
berhu = "w"
silog = "1 - w"
"""
POINTS = f"""{SPEC.partition("[search]")[0].replace("robust", "points")}
[search]
points = ["midas", "hu-2019"]
"""
PLAIN = f"""{SPEC.partition("[search]")[0].replace("robust", "plain").replace("delta1_aligned", "delta1")}
[weights]
l1 = 1
""".replace('metrics = ["normal_angle"]', "")


@pytest.fixture(scope="module")
def named(new_lab) -> Lab:
    """A home with a study of further terms and metrics, one of reference points that weigh them, and one of neither."""
    lab = new_lab()
    for text in (SPEC, POINTS, PLAIN):
        assert lab.run("start", lab.spec(text), "--workers", "0") == 0
    return lab


def exported(lab: Lab, name: str, capsys) -> dict:
    """A study's numbers."""
    capsys.readouterr()
    assert lab.run("export", name, "--format", "json") == 0
    return json.loads(capsys.readouterr().out)


def test_a_further_term_is_swept_and_a_further_metric_judges(named, capsys) -> None:
    """Each epoch has both, where the term weighs nothing, too; trials are told by it."""
    found = exported(named, "robust", capsys)
    rows = [row for row in found["epochs"] if row["split"] == "val"]
    assert len(rows) == 6
    for name in ("term_berhu", "metric_delta1_aligned", "metric_normal_angle", "weight_berhu", "share_berhu"):
        assert all(math.isfinite(row[name]) for row in rows), name
    assert [trial["weight_berhu"] for trial in found["trials"]] == [0, 0.5, 1]
    final = {row["run"]: row["metric_delta1_aligned"] for row in rows if row["epoch"] == 2}
    assert {run["trial"]: final[run["run"]] for run in found["runs"]} == pytest.approx(
        {trial["number"]: trial["value"] for trial in found["trials"]}
    )


def test_the_page_shows_what_the_study_names(named, tmp_path) -> None:
    """The term, by its name and weight, the metrics, and what a reference point was made for."""
    pages = {name: tmp_path / f"{name}.html" for name in ("robust", "points")}
    for name, path in pages.items():
        assert named.run("report", name, "--output", str(path)) == 0
    robust, points = (path.read_text() for path in pages.values())
    assert all(words in robust for words in ('"name":"berHu"', "berHu term", "normal angle", "1.25, aligned"))
    assert "multi-scale gradient" not in robust and "iRMSE" not in robust
    assert "The point midas: made for disparity" in points and "multi-scale gradient" in points and "normals" in points


def test_no_other_study_of_the_home_sees_them(named, capsys, tmp_path) -> None:
    """Neither its export nor its page has a column, a figure or a word of them."""
    found = exported(named, "plain", capsys)
    columns = {key for table in ("trials", "runs", "epochs") for row in found[table] for key in row}
    further = {*FURTHER_TERMS, *FURTHER_METRICS}
    assert not {column for column in columns if column.partition("_")[2] in further}
    assert {f"term_{term}" for term in terms_with()} | {f"metric_{m}" for m in metrics_with()} <= columns
    assert named.run("report", "plain", "--output", str(tmp_path / "page.html")) == 0
    page = (tmp_path / "page.html").read_text()
    assert not any(each.label in page for each in (*FURTHER_TERMS.values(), *FURTHER_METRICS.values()))


def test_a_model_is_judged_by_the_metrics_of_its_study(named, pairs, capsys, tmp_path) -> None:
    """`sweep evaluate` shows them, beside those of the trivial predictors."""
    model = tmp_path / "model.npz"
    assert named.run("best", "robust", "--trial", "1", "--checkpoint", str(model)) == 0
    capsys.readouterr()
    for part in ("val", "all"):
        assert named.run("evaluate", str(model), "--data", f"pairs:{pairs}", "--part", part, "--json") == 0
        found = json.loads(capsys.readouterr().out)
        assert all(0 < found[who]["normal_angle"] < 90 for who in ("model", "median", "mean_map"))
