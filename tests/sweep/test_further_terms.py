"""Terms and metrics that a study names: from its TOML to page and export, and out of the way of every other study."""

import json
import math

import pytest
import torch

from depth_loss_sweep.model.losses import per_image_terms
from depth_loss_sweep.model.names import FURTHER_METRICS, FURTHER_TERMS, metrics_with, terms_with
from depth_loss_sweep.results import study_numbers

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


TWICE = f"""{SPEC.partition("[loss]")[0].replace("robust", "twice").replace("epochs = 2", "epochs = 1")}
[terms.sharp]
function = "berhu"
options = {{ berhu_share = 0.1 }}
[terms.free]
function = "silog"
label = "free of scale"
[search]
"terms.free.options.silog_alpha" = [1.0]
[weights]
sharp = 0.5
free = 0.25
"""


def test_a_built_in_term_by_another_name_is_swept_and_printed(lab, capsys) -> None:
    """With a label, a unit and options of its own; no code of anybody's is tried, and the printed loss is the study's."""
    assert lab.run("start", lab.spec(TWICE), "--workers", "0") == 0
    assert "your own code" not in capsys.readouterr().err
    record = study_numbers(lab.store, "twice")
    sharp, free = (record.measures[f"term_{name}"] for name in ("sharp", "free"))
    assert (sharp.unit, free.label) == ("m", "free of scale term") and sharp.note.startswith(
        "berhu with berhu_share 0.1"
    )
    assert record.epochs[["term_sharp", "term_free"]].notna().all(axis=None)
    assert lab.run("best", "twice", "--python", "--trial", "0") == 0
    names: dict = {}
    exec(capsys.readouterr().out, names)
    image, target = torch.rand(2, 3, 16, 16), torch.rand(2, 1, 16, 16) + 1
    maps = (target.flip(0), target, target > 1.2)
    berhu = per_image_terms(*maps, data_range=10.0, terms=["berhu"], berhu_share=0.1)["berhu"].mean()
    silog = per_image_terms(*maps, data_range=10.0, silog_alpha=1.0)["silog"].mean()
    assert names["training_loss"](*maps, image).item() == pytest.approx((0.5 * berhu + 0.25 * silog).item(), rel=1e-6)


@pytest.mark.parametrize(
    ("before", "after", "words"),
    [
        ('"berhu"', '"berhuu"', "a built-in term (did you mean 'berhu'?)"),
        ("berhu_share = 0.1", "share = 0.1", "'berhu' has no option 'share' (did you mean 'berhu_share'?); it has berhu_share"),
        ("berhu_share = 0.1", "berhu_share = 2", "terms.sharp.options is {'berhu_share': 2}: berhu_share: input should be less"),
        ("berhu_share = 0.1", 'berhu_share = "x"', "berhu_share: expected a number, not a text"),
        ("[1.0]", "[1.5]", "terms.free.options is {'silog_alpha': 1.5}: silog_alpha: input should be less than or equal to 1"),
        ("options.silog_alpha", "options.silog_beta", "'silog' has no option 'silog_beta'"),
        ('"silog"', '"l1"', "'l1' has no option 'silog_alpha'; it has none"),
    ],
)  # fmt: skip
def test_wrong_options_of_a_term_are_one_line(lab, capsys, before, after, words) -> None:
    """Given and swept; the nearest one is named."""
    assert before in TWICE
    assert lab.run("start", lab.spec(TWICE.replace(before, after))) == 2
    error = capsys.readouterr().err
    assert words in error and len(error.splitlines()) == 1
