"""A disk that is full while a command writes one file: the file is named, and nothing half-written stays."""

import subprocess
from pathlib import Path

import cv2
import numpy as np
import pytest

from depth_loss_sweep.cli import run


@pytest.fixture
def full(tmp_path: Path):
    """A disk of its own without any room, or a skip where that is not allowed."""
    folder = tmp_path / "full"
    folder.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(folder)], capture_output=True, text=True
    )
    if done.returncode:
        pytest.skip(f"cannot mount a small disk here: {done.stderr.strip()}")
    with pytest.raises(OSError, match="No space left"), (folder / "filler").open("wb", buffering=0) as file:
        while True:
            file.write(b"x" * 4096)
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def test_what_does_not_fit_is_named(lab, full: Path, tmp_path: Path, capsys) -> None:
    """predict, preview, report, best --checkpoint and export: one line with the file's name, exit 2, no leftovers."""
    assert lab.run("start", lab.spec(epochs="1", seeds="[0]", w="[0.3]"), "--workers", "0") == 0
    picture = tmp_path / "photo.png"
    cv2.imwrite(str(picture), np.full((30, 40, 3), 128, np.uint8))
    model = next((lab.home.root / "runs").rglob("checkpoint.npz"))
    at_home = ("--home", str(lab.home.root))
    for target, arguments in (
        ("photo_depth.png", ["predict", str(model), str(picture), "--output", str(full)]),
        ("p.png", ["data", "preview", "rooms", "--set", "rooms=3", "--output", str(full / "p.png")]),
        ("report.html", ["report", "line", "--output", str(full / "report.html"), *at_home]),
        ("best.npz", ["best", "line", "--checkpoint", str(full / "best.npz"), "--trial", "0", *at_home]),
        ("runs.csv", ["export", "line", "--output", str(full / "runs.csv"), *at_home]),
    ):
        capsys.readouterr()
        assert run(arguments) == 2, arguments
        errors = capsys.readouterr().err.splitlines()
        assert len(errors) == 1 and str(full / target) in errors[0] and "No space left" in errors[0], errors
        assert [path.name for path in full.iterdir()] == ["filler"]
