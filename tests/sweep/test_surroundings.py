"""What a command finds around it: other folders, other encodings, strangers' modules, systems that lack something."""

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from sqlalchemy import select

from depth_loss_sweep.cli import run
from depth_loss_sweep.growth import fixed_hash
from depth_loss_sweep.model.backend import this_machine
from depth_loss_sweep.paths import absolute_source
from depth_loss_sweep.spec_file import load_spec, overrides_json, stored_overrides
from depth_loss_sweep.tables import LEASE

from .conftest import LINE

LATIN = os.fsdecode(b"b\xe4der")
BYTES = os.fsdecode(b"\xff")
SMALL = ("--set", "train.epochs=1", "--set", "search.w=[0.3]", "--seeds", "1", "--workers", "0")


def write_pairs(folder: Path) -> Path:
    """Six scenes of two small pictures with depth."""
    draw = np.random.default_rng(0)
    for scene in range(6):
        (folder / f"scene_{scene}").mkdir(parents=True)
        for number in range(2):
            photo, depth = draw.integers(0, 255, (16, 16, 3)).astype(np.uint8), draw.integers(500, 5000, (16, 16))
            for name, pixels in ((f"{number}.png", photo), (f"{number}_depth.png", depth.astype(np.uint16))):
                (folder / f"scene_{scene}" / name).write_bytes(cv2.imencode(".png", pixels)[1].tobytes())
    return folder


def command(*arguments: str, **environment: str) -> subprocess.CompletedProcess:
    """A `sweep` of its own, as the installed script runs it, and as a terminal does: what is in the background ignores SIGINT."""
    code = (
        "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler); "
        "sys.argv[0] = 'sweep'; from depth_loss_sweep.__main__ import main; main()"
    )
    variables = {**os.environ, **environment}
    return subprocess.run([sys.executable, "-P", "-c", code, *arguments], env=variables, capture_output=True)


def one_line(done: subprocess.CompletedProcess) -> str:
    """What a refused command says."""
    lines = done.stderr.decode(errors="replace").splitlines()
    assert done.returncode == 2 and len(lines) == 1, done.stderr
    return lines[0]


# Folders


@pytest.mark.parametrize(
    ("arguments", "variables", "place"),
    [
        (["--home=~/a"], {}, "a/sweep.db"),
        ([], {"SWEEP_HOME": "~/b"}, "b/sweep.db"),
        (["--storage=~/c.db"], {}, "c.db"),
        ([], {"SWEEP_STORAGE": "~/d.db"}, "d.db"),
    ],
)
def test_a_tilde_is_the_home_folder(arguments, variables, place, tmp_path: Path, monkeypatch, capsys) -> None:
    """Shells leave it alone in --home=~/x and .env files do; no folder called ~ is made."""
    for name, value in {"HOME": str(tmp_path), **variables}.items():
        monkeypatch.setenv(name, value)
    assert run(["list", *arguments]) == 2
    assert f"no database at {tmp_path / place}:" in capsys.readouterr().err


def test_a_relative_source_is_looked_for_beside_the_spec(tmp_path: Path, monkeypatch) -> None:
    """First there, as who moves a folder of specs and pictures expects, then in the working folder; other sources stay."""
    (tmp_path / "work" / "pics").mkdir(parents=True)
    (tmp_path / "specs").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    assert absolute_source("pairs:pics", tmp_path / "specs") == f"pairs:{tmp_path}/work/pics"
    (tmp_path / "specs" / "pics").mkdir()
    assert absolute_source("pairs:pics", Path("../specs")) == f"pairs:{tmp_path}/work/../specs/pics"
    assert absolute_source("pairs:pics") == f"pairs:{tmp_path}/work/pics"
    assert absolute_source("pairs:/pics", tmp_path / "specs") == "pairs:/pics"
    assert absolute_source("rooms", tmp_path) == "rooms"


@pytest.mark.parametrize("is_in_spec", [True, False])
def test_a_study_of_a_relative_source_resumes_from_anywhere(lab, tmp_path: Path, monkeypatch, is_in_spec: bool) -> None:
    """Whether the spec names it or --set does; the spec is the same study as before."""
    write_pairs(lab.folder / "pics")
    spec = lab.spec(LINE.replace('"rooms"', '"pairs:pics"').replace("rooms = 12", "")) if is_in_spec else lab.spec()
    monkeypatch.chdir(lab.folder)
    given = () if is_in_spec else ("--set", "data.source=pairs:pics", "--set", "data.rooms=200")
    assert lab.run("start", spec, *SMALL, *given) == 0
    stored = lab.store.require("line")
    assert json.loads(stored["data"])["source"] == f"pairs:{lab.folder / 'pics'}"
    again = {**stored_overrides(stored["overrides"]), "data.source": "pairs:pics"}
    assert fixed_hash(load_spec(spec, again)) == stored["fixed_hash"]
    monkeypatch.chdir(tmp_path)
    assert lab.run("resume", "line", "--workers", "0") == 0


def test_a_study_whose_pictures_are_elsewhere_says_where_it_looked(lab, tmp_path: Path, monkeypatch, capsys) -> None:
    """As one that was begun before relative folders were made whole: the folder is named, and what to do."""
    pairs = write_pairs(tmp_path / "pics")
    assert lab.run("start", lab.spec(), *SMALL, "--data", f"pairs:{pairs}") == 0
    overrides = stored_overrides(lab.store.require("line")["overrides"]) | {"data.source": "pairs:pics"}
    lab.store.update_study("line", overrides=overrides_json(overrides))
    monkeypatch.chdir(lab.folder)
    capsys.readouterr()
    assert lab.run("resume", "line", "--workers", "0") == 2
    assert f"not at {lab.folder / 'pics'}: say where they lie now, with --data pairs:PATH" in capsys.readouterr().err
    assert lab.run("resume", "line", "--workers", "0", "--data", f"pairs:{pairs}") == 0
    assert lab.run("resume", "line", "--workers", "0") == 0


@pytest.mark.parametrize("refused", [("--data", "pairs:/nowhere"), ("--device", "cuda:99")])
def test_a_start_that_is_refused_leaves_neither_folder_nor_lease(lab, refused: tuple[str, str]) -> None:
    """The study might never have been asked for; and it can be begun as if nothing had been."""
    assert lab.run("start", lab.spec(), *SMALL, *refused) == 2
    assert not lab.home.study("line").exists() and lab.store.rows(select(LEASE)) == []
    assert lab.run("start", lab.spec(), *SMALL) == 0


# Encodings


def test_a_spec_may_begin_with_a_byte_order_mark(tmp_path: Path, capsys) -> None:
    """As some editors save it; UTF-16 is refused in a line that says what to do."""
    (tmp_path / "marked.toml").write_text(LINE, encoding="utf-8-sig")
    (tmp_path / "plain.toml").write_text(LINE, encoding="utf-8")
    marked, plain = (load_spec(str(tmp_path / f"{name}.toml")) for name in ("marked", "plain"))
    assert marked == plain
    (tmp_path / "wide.toml").write_text(LINE, encoding="utf-16")
    assert run(["start", str(tmp_path / "wide.toml")]) == 2
    assert "not UTF-8 text: save it as UTF-8" in capsys.readouterr().err


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_a_stream_may_lack_letters(tmp_path: Path, encoding: str) -> None:
    """What its encoding lacks is shown as a number, and a path's bytes as they are; nothing fails of being said."""
    output, environment = tmp_path / f"é水{LATIN}.png", {"PYTHONIOENCODING": encoding}
    done = command(
        "data", "preview", f"pairs:{write_pairs(tmp_path / 'pairs')}", "--output", str(output), **environment
    )
    assert output.exists() and b"b\xe4der" in done.stdout, done.stderr
    assert b"\\u6c34" in done.stdout or encoding == "utf-8"
    one_line(command("list", "--home", str(tmp_path / "hé水"), **environment))
    assert command("start", "--help", **environment).returncode == 0


def test_a_study_ends_well_where_its_home_cannot_be_said(lab, tmp_path: Path) -> None:
    """On an ASCII terminal, under a home folder of other letters."""
    done = command("start", lab.spec(), *SMALL, "--home", str(tmp_path / "hé水"), PYTHONIOENCODING="ascii")
    assert done.returncode == 0 and b"report: sweep report line --home " in done.stdout, done.stderr


def test_pictures_may_lie_in_a_folder_that_is_not_utf_8(lab, tmp_path: Path, capsys, monkeypatch) -> None:
    """Study, report and export work; the command is kept with such bytes in words."""
    source = f"pairs:{write_pairs(tmp_path / LATIN)}"
    arguments = ["start", lab.spec(), *SMALL, "--data", source]
    monkeypatch.setattr(sys, "argv", ["sweep", *arguments])
    assert lab.run(*arguments) == 0
    assert r"b\xe4der" in lab.store.require("line")["command"]
    for asked in (["report", "line"], ["export", "line", "--format", "json"], ["resume", "line"], ["doctor"]):
        assert lab.run(*asked) == 0
    (tmp_path / LATIN).rename(tmp_path / "baths")
    assert lab.run("resume", "line", "--data", f"pairs:{tmp_path / 'baths'}") == 0


def test_names_that_are_not_utf_8_are_refused_in_a_line(lab, capsys) -> None:
    """Where a study, a file or an option is called so, in each command."""
    assert lab.run("start", lab.spec(), *SMALL) == 0
    capsys.readouterr()
    for asked in ("start", "resume", "status", "report", "export", "best", "presets"):
        home = [] if asked == "presets" else ["--home", str(lab.home.root)]
        assert run([asked, *home, "--", BYTES]) == 2
    for asked in (
        ["list", "--home", str(lab.folder / BYTES)],
        ["start", "demo", "--home", str(lab.folder / BYTES)],
        ["start", "demo", "--storage", str(lab.folder / BYTES)],
        ["start", "demo", "--device", BYTES],
        ["start", "demo", "--set", f"{BYTES}=1"],
        ["data", "check", BYTES],
        ["predict", "--output", str(lab.folder / "out"), BYTES, "x.png"],
    ):
        assert run(asked) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 14 and all(line.startswith("sweep: ") and line.isprintable() for line in lines)
    assert {path.name for path in lab.folder.iterdir()} == {"home", "spec.toml"}


# Modules and systems


def test_an_interrupt_while_python_imports_is_no_traceback(tmp_path: Path) -> None:
    """Ctrl-C in the first tenth of a second ends the command without a word."""
    (tmp_path / "typer.py").write_text("import os, signal; os.kill(os.getpid(), signal.SIGINT)")
    done = command("list", PYTHONPATH=str(tmp_path))
    assert (done.returncode, done.stdout, done.stderr) == (-signal.SIGINT, b"", b"")


@pytest.mark.parametrize("asked", [["list"], ["status"], ["start", "demo"], ["resume", "demo"], ["report", "demo"]])
def test_a_system_without_file_locks_is_told_so(tmp_path: Path, asked: list[str]) -> None:
    """As Windows: a line that says what would work, and help all the same."""
    (tmp_path / "sitecustomize.py").write_text("import sys; sys.modules['fcntl'] = None")
    environment = {"PYTHONPATH": str(tmp_path), "SWEEP_HOME": str(tmp_path / "home")}
    assert "needs file locks" in one_line(command(*asked, **environment))
    assert not (tmp_path / "home").exists()
    assert command(*asked[:1], "--help", **environment).returncode == 0


def test_half_precision_without_hardware_is_said_before_training(lab, monkeypatch, capsys) -> None:
    """A study of bf16 says that it is one, keeps its precision where it grows, and warns where there is no hardware for it."""
    spec = lab.spec(seeds="[0]", epochs="1")
    machine = this_machine("cpu")
    for has_it, seeds, said in ((True, "1", "there is hardware here"), (False, "2", "no hardware here")):
        elsewhere = replace(machine, cpu_bf16=has_it)
        monkeypatch.setattr("depth_loss_sweep.model.backend.this_machine", lambda _, found=elsewhere: found)
        given = ("--seeds", seeds, "--workers", "0", "--set", "train.precision=bf16")
        assert lab.run("start", spec, *given) == 0
        errors = capsys.readouterr().err
        assert said in errors and errors.index(said) < errors.index("trials done")
    assert json.loads(lab.store.require("line")["runtime"])["precision"] == "bf16"
