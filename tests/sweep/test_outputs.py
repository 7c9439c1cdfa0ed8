"""Outputs: no command destroys what it did not make, or reads; each can be given again, and goes where it is told."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from depth_loss_sweep import study_figures
from depth_loss_sweep.cli import run
from depth_loss_sweep.paths import expanded

from .conftest import Lab

FOREIGN = b"two years of somebody's work"


@pytest.fixture(scope="module")
def study(new_lab) -> Lab:
    """A home with a finished study and its model."""
    lab = new_lab()
    assert lab.run("start", lab.spec(epochs="1", seeds="[0]", w="[0.3]"), "--workers", "0") == 0
    assert lab.run("best", "line", "--checkpoint", str(lab.folder / "model.npz"), "--trial", "0") == 0
    return lab


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    """A photograph in a folder of its own."""
    path = tmp_path / "photos" / "kitchen.png"
    path.parent.mkdir()
    cv2.imwrite(str(path), np.random.default_rng(0).integers(0, 255, (20, 30, 3), np.uint8))
    return path


@pytest.fixture
def commands(study: Lab, photo: Path) -> dict[str, Callable[..., list[str]]]:
    """Every command that writes files: its arguments for an output, and for a home where it takes one."""
    home = ["--home", str(study.home.root)]
    model = str(study.folder / "model.npz")
    rooms = ["--set", "rooms=3", "--set", "image_size=16"]
    return {
        "report": lambda path: ["report", "line", *home, "-o", path],
        "csv": lambda path: ["export", "line", *home, "-o", path],
        "json": lambda path: ["export", "line", *home, "--format", "json", "-o", path],
        "parquet": lambda path: ["export", "line", *home, "--format", "parquet", "-o", path],
        "best": lambda path: ["best", "line", *home, "--checkpoint", path, "--trial", "0"],
        "preview": lambda path: ["data", "preview", "rooms", *rooms, "-o", path],
        "predict": lambda path: ["predict", model, str(photo), "-o", path],
    }


FILES = ("report", "csv", "json", "best", "preview")
USUAL = {
    "report": "line-report.html",
    "csv": "line-runs.csv",
    "json": "line-export.json",
    "best": "line-model.npz",
    "preview": "preview.png",
    "parquet": "runs.parquet",
    "predict": "kitchen_depth.png",
}


def refused(arguments: list[str], capsys, *words: str) -> None:
    """The command ends with exit 2 and one line that holds these words."""
    capsys.readouterr()
    assert run(arguments) == 2
    captured = capsys.readouterr()
    lines = [line for line in captured.err.splitlines() if not line.startswith("downloading")]
    assert captured.out == "" and len(lines) == 1, captured
    for word in words:
        assert word in captured.err


@pytest.mark.parametrize("name", USUAL)
def test_what_we_made_is_replaced_and_nothing_else(commands, name: str, tmp_path: Path, capsys) -> None:
    """A command can be given again; a file of somebody else's is kept, unless --force is given."""
    target = tmp_path / "out" / USUAL[name]
    arguments = commands[name](str(target.parent) + "/")  # the folder is made
    assert run(arguments) == 0 and run(arguments) == 0
    target.write_bytes(FOREIGN)
    refused(arguments, capsys, str(target), "--force")
    assert target.read_bytes() == FOREIGN
    assert run([*arguments, "--force"]) == 0
    assert target.read_bytes() != FOREIGN


@pytest.mark.parametrize("name", USUAL)
def test_another_kind_of_output_is_kept(commands, name: str, tmp_path: Path, capsys) -> None:
    """Each kind of output is replaced by its own kind only."""
    other = {"report": "csv", "preview": "predict", "best": "report"}.get(name, "preview")
    assert run(commands[other](str(tmp_path / "other") + "/")) == 0
    made = (tmp_path / "other" / USUAL[other]).read_bytes()
    target = tmp_path / "out" / USUAL[name]
    target.parent.mkdir()
    target.write_bytes(made)
    refused(commands[name](str(target.parent)), capsys, str(target))
    assert target.read_bytes() == made


@pytest.mark.parametrize("name", USUAL)
def test_a_folder_takes_the_file_under_its_usual_name(commands, name: str, tmp_path: Path, monkeypatch) -> None:
    """-o . puts it here."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    assert run(commands[name](".")) == 0
    assert (tmp_path / "here" / USUAL[name]).is_file()
    assert not [path.name for path in (tmp_path / "here").iterdir() if path.name.startswith(".")]


@pytest.mark.parametrize("name", USUAL)
def test_outputs_in_the_home_folder_of_the_user(commands, name: str, tmp_path: Path, monkeypatch) -> None:
    """~ is the user's home folder in --output=~/x, too, which no shell resolves."""
    (tmp_path / "me").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "me"))
    assert run(commands[name]("~/")) == 0
    assert (tmp_path / "me" / USUAL[name]).is_file()


def test_a_tilde_without_a_user_is_a_name() -> None:
    """~ and what begins with it and names no user is left alone."""
    assert expanded("~no such user/x") == Path("~no such user/x")
    assert expanded("~") == Path.home() and expanded("a~") == Path("a~")


@pytest.mark.parametrize("name", USUAL)
def test_what_cannot_be_written_is_refused_before_any_work(commands, name: str, tmp_path: Path, capsys) -> None:
    """An empty path, one below a file, a folder in a file's place, a device: one line each, and nothing is made."""
    (tmp_path / "file").write_bytes(FOREIGN)
    (tmp_path / "taken" / USUAL[name]).mkdir(parents=True)
    os.mkfifo(tmp_path / "device")
    before = sorted(tmp_path.rglob("*"))
    refused(commands[name](""), capsys, "empty")
    refused(commands[name](str(tmp_path / "file" / "x")), capsys, str(tmp_path / "file"))
    refused(commands[name](str(tmp_path / "taken")), capsys, "folder")
    refused(commands[name](str(tmp_path / "device")), capsys, str(tmp_path / "device"))
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("name", FILES)
def test_a_name_that_is_too_long_is_refused(commands, name: str, tmp_path: Path, capsys) -> None:
    """What no file system takes is said before any work."""
    refused(commands[name](str(tmp_path / ("x" * 250))), capsys, "too long")


@pytest.mark.parametrize("name", USUAL)
def test_a_read_only_folder_is_refused_before_any_work(commands, name: str, tmp_path: Path, capsys) -> None:
    """A disk that is mounted read-only is named."""
    folder = tmp_path / "disk"
    folder.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "ro", "tmpfs", str(folder)], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"cannot mount a disk here: {done.stderr.strip()}")
    try:
        refused(commands[name](str(folder)), capsys, str(folder), "read-only")
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.mark.slow
@pytest.mark.parametrize("name", USUAL)
def test_outputs_may_be_called_anything(commands, name: str, tmp_path: Path) -> None:
    """A folder whose name is not UTF-8 takes every output; as a process of its own, with its real standard streams."""
    folder = os.fsencode(tmp_path) + b"/caf\xe9/"
    command = [sys.executable, "-m", "depth_loss_sweep", *commands[name](os.fsdecode(folder))]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True)
    assert done.returncode == 0, done.stderr
    assert os.path.isfile(folder + os.fsencode(USUAL[name]))  # noqa: PTH113


def test_a_home_is_never_written_over(commands, study: Lab, tmp_path: Path, capsys) -> None:
    """The database, runs and caches that a study is read from stay even with --force."""
    checkpoint = next((study.home.root / "runs").rglob("checkpoint.npz"))
    cached = next(study.home.cache.rglob("depth.npy"))
    (tmp_path / "link.html").symlink_to(study.home.database)
    for name in ("report", "csv", "json", "best"):
        for target in (study.home.database, checkpoint, study.home.lock("line"), tmp_path / "link.html"):
            before = target.read_bytes()
            refused([*commands[name](str(target)), "--force"], capsys, str(target))
            assert target.read_bytes() == before
    assert cached.is_file()


def test_a_database_elsewhere_is_never_written_over(study: Lab, tmp_path: Path, capsys) -> None:
    """A database that --storage names is what a report is read from, too."""
    database = tmp_path / "studies.db"
    database.write_bytes(study.home.database.read_bytes())
    at = ["--home", str(tmp_path / "home"), "--storage", str(database)]
    refused(["report", "line", *at, "-o", str(database), "--force"], capsys, str(database))
    assert database.read_bytes() == study.home.database.read_bytes()


def test_a_report_of_an_earlier_version_is_replaced(study: Lab) -> None:
    """What an earlier version wrote in a report's usual place needs no --force."""
    study.home.report("line").write_text("<title>line · Depth Loss Sweep</title>", encoding="utf-8")
    assert study.run("report", "line") == 0


def test_measured_depth_is_never_written_over(commands, photo: Path, capsys) -> None:
    """NAME_depth.png beside the photograph is measured depth, in the layout of pairs: kept even with --force."""
    measured = photo.with_name("kitchen_depth.png")
    cv2.imwrite(str(measured), np.full((20, 30), 1234, np.uint16))
    before = measured.read_bytes()
    for force in ([], ["--force"]):
        refused([*commands["predict"](str(photo.parent)), *force], capsys, str(measured))
    assert measured.read_bytes() == before and sorted(photo.parent.iterdir()) == sorted([photo, measured])


def test_photographs_and_model_are_never_written_over(study: Lab, photo: Path, capsys) -> None:
    """Not under any other name of theirs, either."""
    (photo.parent / "out").mkdir()
    (photo.parent / "out" / "kitchen_depth.png").hardlink_to(photo)
    model = str(study.folder / "model.npz")
    refused(["predict", model, str(photo), "-o", str(photo.parent / "out"), "--force"], capsys, "reads")
    (photo.parent / "out" / "kitchen_depth.png").unlink()
    (photo.parent / "out" / "kitchen_depth_colour.png").symlink_to(model)
    refused(["predict", model, str(photo), "-o", str(photo.parent / "out"), "--force"], capsys, "reads")


def test_a_source_is_never_written_over(photo: Path, capsys) -> None:
    """A preview goes nowhere over pictures of its own source."""
    before = photo.read_bytes()
    refused(["data", "preview", f"pairs:{photo.parent}", "-o", str(photo), "--force"], capsys, str(photo))
    assert photo.read_bytes() == before


def test_a_download_goes_over_nothing(tmp_path: Path, capsys) -> None:
    """A file where DIODE's folder, or the val/ in it, is to be: refused before anything is downloaded."""
    (tmp_path / "val").write_bytes(FOREIGN)
    url = ["--url", (tmp_path / "nothing.tar.gz").as_uri()]
    refused(["data", "fetch", "diode", *url, "-o", str(tmp_path)], capsys, str(tmp_path / "val"))
    refused(["data", "fetch", "diode", *url, "-o", str(tmp_path / "val")], capsys, str(tmp_path / "val"))
    assert (tmp_path / "val").read_bytes() == FOREIGN


def test_figures_go_into_a_folder(lab: Lab, tmp_path: Path, capsys) -> None:
    """A file each, written again at will, and no page; a file of somebody else's is kept; a study without any says so."""
    assert lab.run("start", lab.spec(epochs="1", seeds="[0]", w="[0.3, 0.6]"), "--workers", "0") == 0
    arguments = ["report", "line", "--home", str(lab.home.root), "--figures", str(tmp_path / "figures")]
    capsys.readouterr()
    assert run(arguments) == 0 and run(arguments) == 0
    written = {*capsys.readouterr().out.splitlines()}
    target = tmp_path / "figures" / "line-hero-means.json"
    assert written == {str(path) for path in target.parent.iterdir()} and str(target) in written
    assert {*study_figures("line", lab.home.root)} == {Path(p).stem.removeprefix("line-") for p in written}
    assert not lab.home.report("line").exists()
    target.write_bytes(FOREIGN)
    refused(arguments, capsys, str(target), "--force")
    assert lab.run("start", lab.spec(epochs="1", seeds="[0]", w="[0.3]"), "--workers", "0", "--name", "one") == 0
    refused(["report", "one", *arguments[2:]], capsys, "nothing to draw yet of one")
