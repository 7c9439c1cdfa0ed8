"""A saved model at work: on photographs, and judged on a source of pictures."""

import json
import os
from pathlib import Path

import cv2
import numpy as np
import pytest

from depth_loss_sweep.cli import run

from .conftest import Lab


@pytest.fixture(scope="module")
def lab(new_lab) -> Lab:
    """A home with a saved model of a small study."""
    lab = new_lab()
    assert lab.run("start", lab.spec(seeds="[0]", epochs="1", w="[0.3]"), "--workers", "0") == 0
    assert lab.run("best", "line", "--checkpoint", str(lab.folder / "m.npz"), "--trial", "0") == 0
    return lab


def test_photographs_of_a_folder(lab, capsys, tmp_path: Path) -> None:
    """predict takes a folder, also as the place of its results; it can be given again, and says what it left out."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for name in ("a.jpg", "b.png"):
        cv2.imwrite(str(folder / name), np.full((20, 30, 3), 90, np.uint8))
    (folder / "notes.txt").write_text("hello")
    for left_out in ("left out 1 file (", "left out 5 files ("):
        capsys.readouterr()
        assert run(["predict", str(lab.folder / "m.npz"), str(folder), "--output", str(folder)]) == 0
        captured = capsys.readouterr()
        assert [Path(line).name for line in captured.out.splitlines()] == [
            f"{name}_{ending}.png" for name in "ab" for ending in ("depth", "depth_colour")
        ]
        assert left_out in captured.err and len(captured.err.splitlines()) == 1


GUEST = """
import os
from torch import nn


class Net(nn.Conv2d):
    def forward(self, x):
        print("a step")
        assert "PGPASSWORD" not in os.environ
        return super().forward(x)


def build(*, depth_range, image_size):
    return Net(3, 1, 1)
"""


def test_a_network_of_ones_own_prints_no_result_and_sees_no_secret(new_lab, capsys, monkeypatch, pairs: Path) -> None:
    """Not while it trains in the command's own process, nor where it is judged or predicts."""
    monkeypatch.setenv("PGPASSWORD", "s3cret")
    lab = new_lab()
    monkeypatch.setenv("SWEEP_TRUST", str(lab.folder / "trusted"))
    (lab.folder / "nets.py").write_text(GUEST)
    spec = lab.spec(lab.LINE.replace("width = 2", 'network = "nets.py:build"'), seeds="[0]", epochs="1", w="[0.3]")
    model, photo = str(lab.folder / "m.npz"), lab.folder / "a.png"
    cv2.imwrite(str(photo), np.full((20, 30, 3), 90, np.uint8))
    assert lab.run("start", spec, "--workers", "0") == 0
    assert lab.run("best", "line", "--checkpoint", model, "--trial", "0") == 0
    capsys.readouterr()
    assert lab.run("evaluate", model, "--data", f"pairs:{pairs}", "--part", "all", "--json") == 0
    said = capsys.readouterr()
    assert json.loads(said.out)["images"] == 10 and "a step" in said.err
    assert run(["predict", model, str(photo), "--output", str(lab.folder / "out")]) == 0
    said = capsys.readouterr()
    assert len(said.out.splitlines()) == 2 and "a step" in said.err and os.environ["PGPASSWORD"] == "s3cret"


def test_evaluates_every_picture_of_a_source(lab, capsys, pairs: Path, tmp_path: Path) -> None:
    """--part all ignores the split; the table has units; the trivial predictors are fitted to what would be trained on."""
    evaluate = ("evaluate", str(lab.folder / "m.npz"), "--data", f"pairs:{pairs}", "--part")
    capsys.readouterr()
    found = {}
    for part in ("train", "val", "test", "all"):
        assert lab.run(*evaluate, part, "--json") == 0
        found[part] = json.loads(capsys.readouterr().out)
    counts = {part: each["images"] for part, each in found.items()}
    assert counts["all"] == 10 == counts["train"] + counts["val"] + counts["test"]
    for name in ("model", "median", "mean_map"):
        parts = sum(counts[part] * found[part][name]["mae"] for part in ("train", "val", "test")) / 10
        assert found["all"][name]["mae"] == pytest.approx(parts, rel=1e-5)
    assert f"the {counts['train']} training pictures" in found["all"]["note"] and found["val"]["note"] is None

    assert lab.run(*evaluate, "all") == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    units = {row[0]: row[1] for row in rows[1:-1]}
    assert (units["rmse"], units["abs_rel"], units["delta1"]) == ("m", "-", "%")
    table = {row[0]: row[2:] for row in rows[1:-1]}
    assert float(table["delta1"][0]) == pytest.approx(100 * found["all"]["model"]["delta1"], abs=1e-3)


def test_evaluates_a_source_that_nothing_can_be_fitted_to(lab, capsys, pairs: Path, tmp_path: Path) -> None:
    """One scene is too little for a split: the model is judged on all of it, and the predictors are left open."""
    (tmp_path / "one").mkdir()
    (pairs / "scene_0").rename(tmp_path / "one" / "scene")
    evaluate = ("evaluate", str(lab.folder / "m.npz"), "--data", f"pairs:{tmp_path / 'one'}", "--part", "all")
    capsys.readouterr()
    assert lab.run(*evaluate) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].split()[0] == "rmse" and lines[1].split()[-2:] == ["-", "-"]
    assert "could not be fitted" in lines[-1] and "1 scene" in lines[-1]
    assert lab.run(*evaluate, "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["median"] is None and found["mean_map"] is None and found["model"]["rmse"] > 0
