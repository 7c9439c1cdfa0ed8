"""A saved model at work: on photographs, and judged on a source of pictures."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from sweep.cli import run

from .conftest import Lab


@pytest.fixture(scope="module")
def lab(new_lab) -> Lab:
    """A home with a saved model of a small study."""
    lab = new_lab()
    assert lab.run("start", lab.spec(seeds="[0]", epochs="1", w="[0.3]"), "--workers", "0") == 0
    assert lab.run("best", "line", "--checkpoint", str(lab.folder / "m.npz")) == 0
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
