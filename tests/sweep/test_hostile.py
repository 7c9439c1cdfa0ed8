"""Secrets stay secret, and names stay names: passwords in database URLs; studies and pictures called like scripts."""

import os
import re
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from sqlalchemy import text

from depth_loss_sweep.cli import run
from depth_loss_sweep.errors import hide_password

from .conftest import Lab

SECRET = re.compile("s3cret|cr3t|t0p")
URLS = (
    "postgresql://u:s3cret@127.0.0.1:1/x",
    "postgres://u:s3cret@127.0.0.1:1/x?connect_timeout=1",
    "postgresql://u:s3cret%40t0p%2F@127.0.0.1:1/x",
    "postgresql://u:cr3t@t0p@127.0.0.1:1/x",
    "postgresql://u:cr3t@t0p/cr3t@127.0.0.1:1/x",
    "postgresql://u:cr3t:t0p@127.0.0.1:1/x",
    "postgresql://u:s3cret t0p@127.0.0.1:1/x",
    "postgresql://u:cr3t@t0p:s3cret@127.0.0.1/x",
    "postgresql://:s3cret@127.0.0.1:1/x",
    "postgresql://127.0.0.1:1/x?user=u&password=s3cret",
    "postgresql://u:s3cret@127.0.0.1:1/x?nosuch=1",
    "postgresql://u:s3cret@127.0.0.1:port/x",
    "postgresql://u:s3cret@[127.0.0.1:1/x",
    "mysql://u:s3cret@127.0.0.1:1/x",
    "nosuch://u:s3cret@127.0.0.1:1/x",
    "sqlite://u:s3cret@127.0.0.1/x",
)
MARKUP = "<script>alert(1)<"
NAMES = (
    f"{MARKUP}/script>",  # a folder and a file: together they close the tag
    "quotes'\"&",
    "two\nlines",
    "\x1b[31mred",
    os.fsdecode(b"\xff\xfe"),
    "'; DROP TABLE sweep_study; --",
)


@pytest.mark.parametrize("url", URLS)
@pytest.mark.parametrize("command", [["start", "demo"], ["status"], ["report", "line"]])
def test_a_password_is_never_shown(url: str, command: list[str], tmp_path: Path, monkeypatch, capfd) -> None:
    """In any spelling: one line without it, before that, of an option, that others see it; and nothing of it in the home."""
    home = ["--home", str(tmp_path / "home")]
    assert run([*command, *home, "--storage", url]) == 2
    monkeypatch.setenv("SWEEP_STORAGE", url)
    assert run([*command, *home]) == 2
    captured = capfd.readouterr()
    assert not SECRET.search(captured.out + captured.err)
    warned, *refused = captured.err.splitlines()
    assert "ps lists a command's arguments" in warned and len(refused) == 2, captured.err
    assert not any(SECRET.search(path.read_text(errors="replace")) for path in tmp_path.rglob("*") if path.is_file())


def test_a_real_command_keeps_a_password_to_itself(tmp_path: Path) -> None:
    """As a process of its own, with its real standard streams."""
    environment = {**os.environ, "SWEEP_STORAGE": URLS[0]}
    command = [sys.executable, "-m", "depth_loss_sweep", "list"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (2, "", 1)
    assert not SECRET.search(done.stderr)


@pytest.mark.parametrize("url", [u for u in URLS if " " not in u])
def test_a_password_is_hidden_wherever_its_url_stands(url: str) -> None:
    """In the midst of a text, the rest of which stays."""
    shown = hide_password(f"before {url} after")
    assert shown.startswith("before ") and shown.endswith(" after")
    assert not SECRET.search(shown)


def test_neither_database_nor_report_hold_a_password(lab: Lab, monkeypatch, capfd) -> None:
    """The command that began a study is kept without the password that it was given."""
    monkeypatch.setattr(sys, "argv", ["sweep", "start", "line", *(part for url in URLS for part in ("--storage", url))])
    assert lab.run("start", lab.spec(epochs="1", seeds="[0]", w="[0.3]"), "--workers", "0") == 0
    assert lab.run("report", "line") == 0
    assert "--storage" in lab.store.require("line")["command"]
    kept = [path for path in lab.home.root.rglob("*") if path.is_file()]
    assert len(kept) > 3
    assert not any(re.search(rb"s3cret|cr3t|t0p", path.read_bytes()) for path in kept if path.suffix != ".npz")


@pytest.mark.parametrize("name", [*NAMES, "../up", "/root", "a/b", "..", "", "a..b", "x" * 101, "-x", "a\n"])
def test_a_study_cannot_be_called_so(lab: Lab, name: str, capsys) -> None:
    """Names that could leave the home folder, or mean something to a page or a terminal, are refused in one line."""
    assert lab.run("start", "demo", f"--name={name}") == 2
    for command in ("status", "report", "export", "resume", "best"):
        assert lab.run(command, "--", name) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 6
    assert all(line.startswith("sweep: ") and line.isprintable() for line in lines)
    assert not (lab.home.root / "studies").exists()


def test_pictures_may_be_called_anything(lab: Lab, tmp_path: Path, capsys) -> None:
    """They become neither script in a report nor a path outside the home, and every command copes with them."""
    draw = np.random.default_rng(0)
    for name in NAMES:
        for number in range(3):
            file = tmp_path / "pairs" / f"{number}{name}{number}"  # one of the names holds a folder
            photo, depth = draw.integers(0, 255, (16, 16, 3)).astype(np.uint8), draw.integers(500, 5000, (16, 16))
            file.parent.mkdir(parents=True, exist_ok=True)
            for ending, pixels in (("", photo), ("_depth", depth.astype(np.uint16))):
                Path(f"{file}{ending}.png").write_bytes(cv2.imencode(".png", pixels)[1].tobytes())
    source = f"pairs:{tmp_path / 'pairs'}"
    before = set(tmp_path.rglob("*"))
    assert run(["data", "check", source]) == 0
    assert run(["data", "preview", source, "--output", str(lab.home.root / "p.png")]) == 0
    spec = lab.spec(epochs="1", seeds="[0]", w="[0.3]")
    settings = ("--set", "data.split=random", "--set", "data.val_fraction=0.7")
    assert lab.run("start", spec, "--data", source, "--workers", "0", *settings) == 0
    assert lab.run("report", "line") == 0
    page = (lab.home.root / "studies" / "line" / "report.html").read_text(encoding="utf-8")
    assert "<script>alert" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert lab.run("export", "line", "--format", "json") == 0
    assert set(tmp_path.rglob("*")) == before
    assert {p.name for p in lab.folder.iterdir()} == {"home", "spec.toml"}
    capsys.readouterr()
    for bad in (tmp_path / "pairs").rglob("*_depth.png"):
        bad.write_bytes(b"no picture")
    assert run(["data", "check", source]) == 2
    assert run(["data", "preview", source, "--output", str(lab.home.root / "p.png")]) == 2
    assert "\x1b" not in "".join(capsys.readouterr())


@pytest.mark.parametrize("name", ["q?x", "a#b", "c%41"])
def test_a_home_that_a_url_cannot_name_is_refused(tmp_path: Path, name: str, capsys) -> None:
    """A database must not end up beside the home because its path reads like a query."""
    assert run(["start", "demo", "--home", str(tmp_path / name)]) == 2
    assert "cannot be named" in capsys.readouterr().err
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_a_run_of_the_database_cannot_name_a_folder_outside(lab: Lab, capsys) -> None:
    """A key that is none of ours is damage: nothing is trained or read under it."""
    assert lab.run("start", lab.spec(epochs="1", seeds="[0]", w="[0.3]"), "--workers", "0") == 0
    with lab.store.begin() as connection:
        for table in ("sweep_run", "sweep_trial_run", "sweep_epoch"):
            connection.execute(text(f"UPDATE {table} SET run = '../../../evil'"))
    capsys.readouterr()
    assert lab.run("report", "line") == 2
    assert lab.run("best", "line", "--checkpoint", str(lab.folder / "model.npz")) == 2
    with lab.store.begin() as connection:
        connection.execute(text("UPDATE sweep_trial SET state = 'running', value = NULL, told = NULL"))
        connection.execute(text("UPDATE sweep_run SET state = 'waiting'"))
    assert lab.run("resume", "line") == 2
    refusals = [line for line in capsys.readouterr().err.splitlines() if line.startswith("sweep: ")]
    assert len(refusals) == 3 and not (lab.folder.parent.parent / "evil").exists()
