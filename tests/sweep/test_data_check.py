"""`sweep data check` at the command line: it exits as `sweep start` would, for whatever the data is."""

import json
import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from depth_loss_sweep.cli import run
from depth_loss_sweep.spec_file import stored_overrides

from .conftest import Lab


def write_pictures(
    root: Path, scenes: int = 4, keep: float = 1.0, metres: tuple[float, float] = (1, 5), unit: float = 0.001
) -> Path:
    """One picture a scene, of which a share of the pixels holds depth."""
    draw = np.random.default_rng(0)
    for scene in range(scenes):
        folder = root / f"scene_{scene}"
        folder.mkdir(parents=True)
        depth = np.where(draw.random((48, 64)) < keep, draw.uniform(*metres, (48, 64)) / unit, 0)
        cv2.imwrite(str(folder / "x.png"), draw.integers(0, 255, (48, 64, 3), dtype=np.uint8))
        cv2.imwrite(str(folder / "x_depth.png"), depth.astype(np.uint16))
    return root


def _beyond(root: Path) -> None:
    write_pictures(root / "train")
    write_pictures(root / "val", scenes=1, metres=(20, 21))


def _dangling(root: Path) -> None:
    (write_pictures(root) / "scene_9").symlink_to("/no/such/disk")


def _cut(root: Path) -> None:
    path = write_pictures(root) / "scene_2" / "x.png"
    path.write_bytes(path.read_bytes()[:200])


CASES = {
    "dense": (write_pictures, (), 0, ""),
    "sparse": (lambda root: write_pictures(root, keep=0.1), (), 0, ""),
    "sparse, by area": (lambda root: write_pictures(root, keep=0.1), ("depth_resize=area",), 2, "depth_resize=any"),
    "LiDAR": (
        lambda root: write_pictures(root, keep=0.1, metres=(5, 80), unit=1 / 256),
        ("depth_scale=1/256", "depth_resize=any", "depth_range=[0.1, 80.0]"),
        0,
        "",
    ),
    "another unit": (lambda root: write_pictures(root, metres=(50, 80), unit=1 / 256), (), 2, "data.depth_scale"),
    "its inverse": (write_pictures, ("depth_scale=256",), 2, '"1/256"'),
    "validation beyond the range": (_beyond, (), 2, "validation"),
    "a few scenes": (lambda root: write_pictures(root, scenes=2), (), 2, 'data.split = "random"'),
    "test alone": (lambda root: write_pictures(root / "test"), (), 2, "expected train/"),
    "a disk that is not mounted": (_dangling, (), 2, "/no/such/disk"),
    "a cut picture": (_cut, (), 2, "scene_2/x.png is a truncated PNG"),
    "no pictures": (Path.mkdir, (), 2, "holds no pictures"),
}


@pytest.mark.parametrize("name", CASES)
def test_check_exits_as_start_would(lab: Lab, tmp_path: Path, capsys, name: str) -> None:
    """What start refuses, check refuses by the same settings and words; what passes the one passes the other."""
    make, given, code, message = CASES[name]
    make(tmp_path / "p")
    settings = [part for each in given for part in ("--set", f"data.{each}")]
    spec = lab.spec(epochs="1", seeds="[0]", w="[0.3]")
    assert lab.run("start", spec, "--data", f"pairs:{tmp_path / 'p'}", "--workers", "0", *settings) == code
    refused = capsys.readouterr()
    assert message in refused.err and (code == 0 or refused.out == "")
    assert run(["data", "check", f"pairs:{tmp_path / 'p'}", "--set", "image_size=16", *settings]) == code
    assert message in "".join(capsys.readouterr())


def test_like_faults_are_one_line(tmp_path: Path, capsys) -> None:
    """A folder of bad files is not scrolled away: their number and the first three; JSON has them all."""
    source = f"pairs:{write_pictures(tmp_path / 'p', scenes=9)}"
    for path in (tmp_path / "p").rglob("*_depth.png"):
        path.unlink()
    assert run(["data", "check", source]) == 2
    (line,) = [line for line in capsys.readouterr().out.splitlines() if "no depth" in line]
    assert line == "  9 times: has no depth beside it; expected NAME_depth.png (scene_0/x, scene_1/x, scene_2/x, ...)"
    assert run(["data", "check", source, "--json"]) == 2
    found = json.loads(capsys.readouterr().out)
    assert len(found["bad"]) == 9 and len(found["bad_by_kind"]["has no depth beside it; expected NAME_depth.png"]) == 9


def test_what_stays_aside_is_said_at_the_start(lab: Lab, tmp_path: Path, capsys) -> None:
    """Pictures without depth, files of other kinds, a folder met twice: notes, each a line, before training."""
    root = write_pictures(tmp_path / "p", scenes=6)
    cv2.imwrite(str(root / "scene_1" / "x_depth.png"), np.zeros((48, 64), np.uint16))
    (root / "scene_2" / "y.heic").touch()
    (root / "twice").symlink_to(root / "scene_3")
    spec = lab.spec(epochs="1", seeds="[0]", w="[0.3]")
    assert lab.run("start", spec, "--data", f"pairs:{root}", "--workers", "0") == 0
    notes = [line for line in capsys.readouterr().err.splitlines() if line.startswith("note: ")]
    assert len(notes) == 3 and "1 .heic" in notes[1] and "pictures hold no valid depth" in notes[2]


def test_a_path_without_a_source_is_told_one(tmp_path: Path, capsys) -> None:
    """As a source that expects something else is; one line that can be followed."""
    source = f"pairs:{write_pictures(tmp_path / 'p')}"
    for given in (str(tmp_path / "p"), f"nyu:{tmp_path / 'p'}", f"kitti:{tmp_path / 'p'}"):
        assert run(["data", "check", given]) == 2
        refused = capsys.readouterr().err
        assert (
            refused.endswith(f"this looks like pictures beside their depth: use {source}\n")
            and refused.count("\n") == 1
        )
    assert run(["data", "check", source, "--set", "image_size=16"]) == 0


def test_a_study_of_a_list_goes_on_where_its_files_are_moved(lab: Lab, tmp_path: Path, capsys) -> None:
    """List and depth lie apart; both are moved, and the same pictures are known by what they hold."""
    root = write_pictures(tmp_path / "p")
    names = [f"scene_{number}/x.png" for number in range(4)]
    for name in names:
        (tmp_path / "depth" / name).parent.mkdir(parents=True)
        (root / name.replace(".png", "_depth.png")).rename(tmp_path / "depth" / name)
    (root / "all.txt").write_text("".join(f"{name} {name}\n" for name in names))
    spec = lab.spec(epochs="1", seeds="[0]", w="[0.3]")

    def start(source: Path, depth: Path) -> int:
        given = ["--data", f"list:{source}", "--set", f"data.depth_root={depth}"]
        return lab.run("start", spec, *given, "--workers", "0")

    assert start(root / "all.txt", tmp_path / "depth") == 0
    (tmp_path / "depth").rename(tmp_path / "truth")
    root.rename(tmp_path / "moved")
    capsys.readouterr()
    assert start(tmp_path / "moved" / "all.txt", tmp_path / "truth") == 0
    assert lab.run("resume", "line", "--workers", "0") == 0
    stored = stored_overrides(lab.store.require("line")["overrides"])
    assert stored["data.depth_root"] == str(tmp_path / "truth")
    assert stored["data.source"] == f"list:{tmp_path / 'moved' / 'all.txt'}"


def test_a_folder_that_may_not_be_read_is_named(tmp_path: Path) -> None:
    """Its pictures would be left out in silence."""
    locked = write_pictures(tmp_path / "p") / "scene_1"
    locked.chmod(0)
    command = [sys.executable, "-m", "depth_loss_sweep", "data", "check", f"pairs:{tmp_path / 'p'}"]
    if os.geteuid() == 0:  # root reads everything, unless that right is taken away
        setpriv = shutil.which("setpriv") or pytest.skip("there is no setpriv to take root's right away")
        command = [setpriv, "--bounding-set", "-dac_override,-dac_read_search", *command]
    done = subprocess.run(command, capture_output=True, text=True)
    locked.chmod(stat.S_IRWXU)
    if done.stderr.startswith("setpriv"):
        pytest.skip(f"root's right cannot be taken away here: {done.stderr}")
    assert done.returncode == 2, done.stderr
    assert f"refused    the folder {locked} cannot be read (Permission denied)" in done.stdout
