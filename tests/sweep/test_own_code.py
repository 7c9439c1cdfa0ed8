"""A user's own network, losses and pictures: swept, killed, resumed, reported, predicted, evaluated; and run for nobody else."""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from depth_loss_sweep.model.checkpoint import CHECKPOINT
from depth_loss_sweep.model.size import NONE, checkpoint_bytes, own_arrays
from depth_loss_sweep.results import study_numbers
from depth_loss_sweep.spec_file import load_placed, load_spec
from depth_loss_sweep.trust import trust

from .conftest import Lab

FILES = {
    "layers.py": """
from pathlib import Path
import os
from torch import nn

if os.environ.get("IMPORTED"):
    Path(os.environ["IMPORTED"]).touch()


def conv(inputs, outputs):
    return nn.Sequential(nn.Conv2d(inputs, outputs, 3, padding=1), nn.ReLU())
""",
    "nets.py": """
from torch import nn
from layers import conv


class Net(nn.Module):
    def __init__(self, width, dropout):
        super().__init__()
        self.body = nn.Sequential(conv(3, width), nn.Dropout2d(dropout), conv(width, width), nn.Conv2d(width, 1, 1))
        self.unused = nn.Linear(2, 2)

    def forward(self, x):
        return self.body(x)


def build(*, depth_range, image_size, width=4, dropout=0.1):
    import losses  # found where it is needed, too

    return Net(width, dropout)
""",
    "losses.py": """
import torch


def berhu(pred, target, mask, image, share=0.2):
    error = torch.where(mask, (pred - target).abs(), 0.0)
    turn = share * error.amax((1, 2, 3), keepdim=True).detach().clamp_min(1e-6)
    value = torch.where(error <= turn, error, (error**2 + turn**2) / (2 * turn))
    return (value * mask).sum((1, 2, 3)) / mask.sum((1, 2, 3))


def within(pred, target, mask, far=0.5):
    return (((pred - target).abs() < far) & mask).sum((1, 2, 3)) / mask.sum((1, 2, 3))
""",
    "pics.py": """
import numpy as np
import layers


class Picture:
    def __init__(self, number):
        self.key, self.scene, self.number = f"{number:03}", f"scene {number // 2}", number

    @property
    def rgb(self):
        return np.random.default_rng(self.number).integers(0, 255, (20, 24, 3), dtype=np.uint8)

    @property
    def depth(self):
        return 1 + self.rgb[..., 0] / 60


class Pictures:
    def __init__(self, count=30):
        self.count = count

    def __len__(self):
        return self.count

    def __getitem__(self, number):
        return Picture(number)
""",
    "spec.toml": """
[study]
name = "mine"
seeds = [0, 1]
objective = "val_within"
[data]
source = "pics.py:Pictures"
image_size = 16
options = { count = 24 }
[model]
network = "nets.py:build"
options = { dropout = 0.2 }
[train]
epochs = 3
batch_size = 8
[terms.berhu]
function = "losses.py:berhu"
unit = "m"
options = { share = 0.3 }
[metrics.within]
function = "losses.py:within"
better = "higher"
[search]
w = { from = 0.0, to = 1.0, step = 0.5 }
[weights]
berhu = "w"
silog = "1 - w"
""",
}


@pytest.fixture(autouse=True, scope="module")
def trusted_by(tmp_path_factory: pytest.TempPathFactory):
    """A list of trusted code for these tests alone."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SWEEP_TRUST", str(tmp_path_factory.mktemp("me") / "trusted"))
        yield patch


@pytest.fixture(scope="module")
def study(new_lab: Callable[[], Lab]) -> Lab:
    """A study of somebody's own files, whole, trained in this process."""
    lab = new_lab()
    for name, text in FILES.items():
        (lab.folder / name).write_text(text)
    assert lab.run("start", str(lab.folder / "spec.toml"), "--workers", "0") == 0
    return lab


@pytest.fixture
def stranger(study: Lab, new_lab: Callable[[], Lab], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Lab:
    """The study's home as it came to somebody else, and a file that comes to be where the code is imported."""
    lab = new_lab()
    shutil.rmtree(lab.home.root)
    shutil.copytree(study.home.root, lab.home.root, symlinks=True)
    monkeypatch.setenv("SWEEP_TRUST", str(tmp_path / "theirs" / "trusted"))
    monkeypatch.setenv("IMPORTED", str(tmp_path / "imported"))
    return lab


def test_a_study_is_of_the_code_and_keeps_a_copy(study: Lab) -> None:
    """Objective, term and network are the user's; the page's measures say whose; packages stand in the environment."""
    spec = load_spec(str(study.folder / "spec.toml"))
    kept = {folder.name: {file.name for file in folder.iterdir()} for folder in study.home.code.iterdir()}
    assert {reference.digest for reference in spec.code} == kept.keys()
    assert {"nets.py", "layers.py", "losses.py"} in kept.values() and {"losses.py"} in kept.values()
    record = study_numbers(study.store, "mine")
    assert record.objective_column == "metric_within" and record.measures["metric_within"].higher_is_better
    assert record.measures["term_berhu"].unit == "m" and "losses.py:berhu" in record.measures["term_berhu"].note
    assert {"metric_within", "term_berhu"} <= {*record.epochs.columns}
    assert record.epochs["term_berhu"].notna().all()


@pytest.mark.slow
def test_killed_edited_and_resumed_it_is_the_same(study: Lab, new_lab: Callable[[], Lab]) -> None:
    """A study killed in the middle, its files changed and gone, goes on with its copy to the same last bit."""
    lab = new_lab()
    for name, text in FILES.items():
        (lab.folder / name).write_text(text)
    process = lab.spawn("start", "spec.toml", "--workers", "2")
    lab.wait_for_epochs(6, process)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    (lab.folder / "nets.py").write_text(FILES["nets.py"].replace("x)", "x) * 2"))
    (lab.folder / "losses.py").unlink()
    assert lab.run("resume", "mine", "--workers", "1") == 0
    assert lab.numbers("mine") == study.numbers("mine")


def test_an_edited_file_is_another_study(study: Lab, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """Started again with another network of the same name, it is refused, and what differs is named."""
    for name, text in FILES.items():
        (tmp_path / name).write_text(text.replace("nn.ReLU()", "nn.SiLU()"))
    assert study.run("start", str(tmp_path / "spec.toml"), "--workers", "0") == 2
    error = capsys.readouterr().err
    assert "exists with another spec (model.network" in error and len(error.splitlines()) == 1


def test_a_comment_in_options_is_no_other_study(study: Lab, tmp_path: Path) -> None:
    """Options at their defaults, and files moved elsewhere, ask for the same runs."""
    for name, text in FILES.items():
        (tmp_path / name).write_text(text.replace("{ dropout = 0.2 }", "{ dropout = 0.2, width = 4 }"))
    before = len(list(study.home.root.glob("runs/*/*")))
    arguments = ["--workers", "0", "--name", "again", "--set", "study.seeds=[0]"]
    assert study.run("start", str(tmp_path / "spec.toml"), *arguments) == 0
    assert len(list(study.home.root.glob("runs/*/*"))) == before


def test_what_a_run_weighs_is_known_of_ones_own_network(study: Lab) -> None:
    """The dry run has built it, so that the next start tells how large a checkpoint is, within a quarter; never built, nothing."""
    spec = load_spec(str(study.folder / "spec.toml"))
    own = own_arrays(spec.model, spec.data.image_size, study.home.known)
    val_images = json.loads(study.store.require("mine")["data"])["images"]["val"]
    said = checkpoint_bytes(spec.model, spec.train.epochs, val_images, own)
    files = [*study.home.root.glob(f"runs/*/*/{CHECKPOINT}")]
    assert len(files) == 6 and all(file.stat().st_size == pytest.approx(said, rel=1 / 4) for file in files)
    assert own_arrays(spec.model, (32, 32), study.home.known) == NONE


def test_code_in_set_lies_in_the_working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As its pictures do: what lies beside the spec is what the spec names. Where it lies is no part of the study."""
    for folder in ("specs", "work"):
        (tmp_path / folder).mkdir()
        for name, text in FILES.items():
            (tmp_path / folder / name).write_text(f"{text}\n# of {folder}\n")
    monkeypatch.chdir(tmp_path / "work")
    given = {
        "data.source": "pics.py:Pictures",
        "search.model.network": ["nets.py:build", "nets.py:Net"],
        "terms.berhu.function": "losses.py:berhu",
        "metrics.within": {"function": "losses.py:within", "better": "higher"},
    }
    spec, overrides = load_placed("../specs/spec.toml", given)
    own = load_spec(str(tmp_path / "work" / "spec.toml"), given).code_keys
    besides = load_spec("../specs/spec.toml").code_keys
    assert spec.code_keys == own | {"model.network": besides["model.network"]}
    monkeypatch.chdir(tmp_path)
    assert load_spec("specs/spec.toml", overrides).code_keys == spec.code_keys


def test_reports_need_neither_trust_nor_code(stranger: Lab, tmp_path: Path) -> None:
    """status, report, export, best and help import neither torch nor anything of the user's."""
    commands = [
        ["status", "mine"],
        ["report", "mine"],
        ["export", "mine", "--format", "csv"],
        ["best", "mine"],
        ["status", "--help"],
    ]
    code = (
        "import sys; from depth_loss_sweep.cli import run\n"
        f"for command in {commands!r}:\n"
        "    try: run(command)\n"
        "    except SystemExit: pass\n"
        "print([name for name in sys.modules if name == 'torch' or name.startswith('_sweep_code')])"
    )
    found = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env={**os.environ, "SWEEP_HOME": str(stranger.home.root)},
    )
    assert found.stdout.splitlines()[-1] == "[]", found.stderr
    assert stranger.home.report("mine").stat().st_size > 100_000
    assert not (tmp_path / "imported").exists()


def test_a_stranger_runs_no_code_until_told(stranger: Lab, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Resume, predict and evaluate refuse in one line that says how to look and how to allow; then they work."""
    model, photo = tmp_path / "model.npz", tmp_path / "photo.png"
    cv2.imwrite(str(photo), np.random.default_rng(0).integers(0, 255, (30, 40, 3), dtype=np.uint8))
    assert stranger.run("best", "mine", "--trial", "1", "--checkpoint", str(model)) == 0
    refused = (
        ["resume", "mine", "--workers", "0"],
        ["predict", str(model), str(photo), "--output", str(tmp_path / "depth")],
        ["evaluate", str(model), "--data", "rooms", "--set", "data.rooms=12", "--home", str(stranger.home.root)],
    )
    run = lambda arguments: stranger.run(*arguments) if arguments[0] == "resume" else cli(arguments)  # noqa: E731
    digests: set[str] = set()
    for command in refused:
        capsys.readouterr()
        assert run(command) == 2
        error = capsys.readouterr().err.splitlines()
        assert "code that you did not start: nets.py:build" in error[-1] and "sweep trust --show" in error[-1]
        digests |= {*error[-1].rpartition("sweep trust ")[2].split()}
    assert not (tmp_path / "imported").exists() and not (tmp_path / "depth").exists()
    for shown in ("mine", str(model)):
        assert stranger.run("trust", "--show", shown) == 0
        assert "def build(*, depth_range, image_size" in capsys.readouterr().out
    assert cli(["trust", *digests]) == 0
    for command in refused:
        assert run(command) == 0
    assert (tmp_path / "depth" / "photo_depth.png").exists()
    assert "within" in capsys.readouterr().out


def test_a_study_opened_by_name_in_python_uses_its_code(study: Lab, stranger: Lab) -> None:
    """Another process than the one that began it checks it, and computes its loss, by the copy that is trusted."""
    code = (
        "import sys, torch, depth_loss_sweep as dls\n"
        "from types import SimpleNamespace\n"
        "from depth_loss_sweep.api import Best\n"
        "study = dls.Study('mine', home=sys.argv[1])\n"
        "named = SimpleNamespace(params={'w': 0.5})  # whatever it learnt\n"
        "loss = Best(study, SimpleNamespace(named=named)).loss()\n"
        "depth = torch.rand(1, 1, 16, 16) + 1\n"
        "total, terms = loss(depth + 0.1, depth, depth > 0, torch.rand(1, 3, 16, 16))\n"
        "study.check(device='cpu')\n"
        "print('berhu', total.item() > 0)\n"
    )
    command = [sys.executable, "-c", code, str(stranger.home.root)]
    refused = subprocess.run(command, capture_output=True, text=True)
    assert "runs code that you did not start" in refused.stderr.splitlines()[-1]
    trust({reference.key: reference.shown for reference in load_spec(str(study.folder / "spec.toml")).code})
    found = subprocess.run(command, capture_output=True, text=True)
    assert found.stdout.splitlines()[-1:] == ["berhu True"], found.stderr


def test_changed_copies_and_models_are_refused(
    stranger: Lab, study: Lab, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What is allowed is what was looked at: not another file in its place, nor one that was put beside it."""
    spec = load_spec(str(study.folder / "spec.toml"))
    assert cli(["trust", *(reference.key for reference in spec.code)]) == 0
    copy = stranger.home.code / spec.code[0].digest
    for path, text in ((copy / "layers.py", "import os\n"), (copy / "extra.py", "")):
        kept = path.read_bytes() if path.exists() else None
        path.write_text(text)
        capsys.readouterr()
        assert stranger.run("resume", "mine", "--workers", "0") == 2
        assert "was changed: its sha256 is" in capsys.readouterr().err.splitlines()[-1]
        path.unlink() if kept is None else path.write_bytes(kept)
    (copy / "__pycache__").mkdir()
    (copy / "__pycache__" / f"nets.{sys.implementation.cache_tag}.pyc").write_bytes(b"never read")
    assert stranger.run("resume", "mine", "--workers", "0") == 0
    shutil.rmtree(copy)
    assert stranger.run("resume", "mine", "--workers", "0") == 2
    assert "the copy of the code is missing" in capsys.readouterr().err.splitlines()[-1]


def test_a_fault_is_named_before_the_study_exists(
    lab: Lab, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The dry run's first fault is the one line, and nothing is left of the study; code that kills its process, too."""
    for name, text in FILES.items():
        (lab.folder / name).write_text(text)
    (lab.folder / "losses.py").write_text(
        FILES["losses.py"].replace("(value * mask).sum((1, 2, 3))", "(value * mask).sum()")
    )
    spec = str(lab.folder / "spec.toml")
    assert lab.run("start", spec, "--workers", "0") == 2
    assert "terms.berhu (losses.py:berhu)" in capsys.readouterr().err.splitlines()[-1]
    (lab.folder / "losses.py").write_text(FILES["losses.py"])
    (lab.folder / "nets.py").write_text("import os\ndef build(**_):\n    os._exit(7)\n")
    assert lab.run("start", spec, "--workers", "0") == 2
    assert "the dry run of your code ended with exit status 7" in capsys.readouterr().err.splitlines()[-1]
    monkeypatch.setenv("PGPASSWORD", "s3cret")
    (lab.folder / "nets.py").write_text(
        "import os\ndef build(**_):\n    os._exit(8 if 'PGPASSWORD' in os.environ else 9)\n"
    )
    assert lab.run("start", spec, "--workers", "0") == 2
    assert "ended with exit status 9" in capsys.readouterr().err.splitlines()[-1]
    assert not lab.store.studies()


NOISY = """
import os, sys

print("imported")
assert not {{"SWEEP_STORAGE", "PGPASSWORD"}} & os.environ.keys()

{0}
"""
"""A file that speaks, and looks for what is secret; {0} is the rest of it."""


def test_pictures_print_no_result_see_no_secret_and_end_no_command(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What they print goes to the other stream; sys.exit is a fault of theirs in a line, wherever it is called."""
    monkeypatch.setenv("PGPASSWORD", "s3cret")
    monkeypatch.setenv("SWEEP_STORAGE", "sqlite:///nowhere.db")
    secret = '        assert not {"SWEEP_STORAGE", "PGPASSWORD"} & os.environ.keys()\n'
    pics = (
        FILES["pics.py"]
        .replace("import layers\n", "")
        .replace("    def rgb(self):\n", f"    def rgb(self):\n        print('read')\n{secret}")
    )
    for name, text in (
        ("pics.py", pics),
        ("at_once.py", pics.replace("        self.count = count", "        sys.exit(7)")),
        ("later.py", pics.replace("        print('read')", "        sys.exit(7)")),
    ):
        (tmp_path / name).write_text(NOISY.format(text))
        code = cli(["data", "check", f"{tmp_path / name}:Pictures", "--json", "--set", "data.image_size=16"])
        out, error = capsys.readouterr()
        assert "imported" in error and "imported" not in out and os.environ["PGPASSWORD"] == "s3cret"
        if name == "pics.py":
            assert code == 0 and json.loads(out)["pictures"] == 30 and "read" in error
        else:
            assert code == 2 and "SystemExit: 7 (" in (error if name == "at_once.py" else out)


@pytest.mark.parametrize("workers", ["0", "1"])
def test_a_term_that_ends_the_program_fails_its_run(lab: Lab, capfd: pytest.CaptureFixture[str], workers: str) -> None:
    """At a step that no dry run comes to: its reason is told, and nothing that it printed is a result."""
    stop = "    print('a step')\n    calls.append(0)\n    sys.exit(7) if len(calls) > 60 else None\n    error ="
    term = FILES["losses.py"].replace("    error =", stop)
    (lab.folder / "losses.py").write_text(f"import sys\ncalls = []\n{term}")
    own = '[terms.mine]\nfunction = "losses.py:berhu"\n'
    spec = lab.spec(lab.LINE.replace("l1 = 0.1", "mine = 0.1") + own, epochs="40", seeds="[0]", w="[0.3]")
    assert lab.run("start", spec, "--workers", workers) == 1
    out, _ = capfd.readouterr()
    [row] = lab.store.runs("line")
    assert row["state"] == "failed" and "ends the program: SystemExit: 7 (losses.py, line" in row["reason"]
    assert "a step" not in out


@pytest.mark.slow
def test_each_network_option_and_size_that_is_swept_is_tried(lab: Lab, capsys: pytest.CaptureFixture[str]) -> None:
    """Not the first of all combinations: each once, before the study exists, and again before it grows by another."""
    net = "def {0}(*, depth_range, image_size, dropout=0.1):\n    assert {1}, '{0} fails'\n    return Net(4, dropout)\n"
    kinds = {"sound": "True", "small": "image_size[0] < 24", "dry": "dropout < 0.5", "broken": "False"}
    made = "".join(net.format(name, condition) for name, condition in kinds.items())
    for name, text in FILES.items():
        (lab.folder / name).write_text(text + made * (name == "nets.py"))
    swept = {
        "terms.berhu.options.share": [0.1, 0.3],
        "model.options.dropout": [0.0, 0.6],
        "data.image_size": [16, 24],
    }

    def start(*networks: str, **more: list) -> tuple[int, str]:
        given = {"w": [0.5], "model.network": [f"{lab.folder}/nets.py:{name}" for name in networks], **more}
        asked = [f"--set=search.{key}={json.dumps(value)}" for key, value in given.items()]
        few = ["--set=train.epochs=1", "--seeds", "1", "--workers", "0", *asked]
        return lab.run("start", str(lab.folder / "spec.toml"), *few), capsys.readouterr().err.splitlines()[-1]

    code, error = start(*kinds, **swept)
    assert code == 2 and all(f"{name} fails" in error for name in ("dry", "small", "broken")), error
    assert "sound" not in error and not lab.store.studies()
    assert start("sound")[0] == 0
    code, error = start("sound", "broken")
    assert code == 2 and "broken fails" in error and len(lab.store.trials("mine")) == 1


def test_the_dry_run_leaves_nothing_that_training_takes_up(new_lab: Callable[[], Lab]) -> None:
    """Where the pictures are met for the first time, a metric of one's own changes no number of the study."""
    found = []
    for own in ("", '[metrics.within]\nfunction = "losses.py:within"\nbetter = "higher"\n'):
        lab = new_lab()
        lab.home.cache.unlink()  # one of its own, in which nothing is remembered
        (lab.folder / "losses.py").write_text(FILES["losses.py"])
        spec = lab.spec(lab.LINE + own, epochs="1", seeds="[0]", w="[0.3]", rooms="4")
        assert lab.run("start", spec, "--workers", "0") == 0
        trivial = lab.store.decoded(lab.store.require("line"), "baselines")["val"]["median"]["metric_rmse"]
        found.append((trivial, lab.store.trials("line")[0]["value"]))
    assert found[0] == found[1]


def test_another_version_of_a_package_has_its_own_trivial_predictors(new_lab: Callable[[], Lab]) -> None:
    """What a metric imports from elsewhere determines the numbers of the predictors beside it, too."""
    lab, found = new_lab(), []
    elsewhere = lab.folder / "elsewhere"
    elsewhere.mkdir()
    (lab.folder / "losses.py").write_text(
        "import loose\ndef far(pred, target, mask):\n    return loose.FACTOR * (pred * mask).amax((1, 2, 3))\n"
    )
    own = '[metrics.far]\nfunction = "losses.py:far"\nbetter = "higher"\n'
    spec = lab.spec(lab.LINE + own, epochs="1", seeds="[0]", w="[0.3]")
    for factor in (1, 100):
        (elsewhere / "loose.py").write_text(f"FACTOR = {factor}\n")
        named, path = f"by-{factor}", {**os.environ, "PYTHONPATH": str(elsewhere)}
        _, errors = lab.spawn("start", spec, "--workers", "0", "--name", named, env=path).communicate()
        assert "taken over" not in errors, errors
        trivial = lab.store.decoded(lab.store.require(named), "baselines")
        found.append(trivial["val"]["median"]["metric_far"])
    assert found[1] == pytest.approx(100 * found[0])


def test_the_paper_is_trained_without_code_of_ones_own(lab: Lab, capsys: pytest.CaptureFixture[str]) -> None:
    """A group names no code, so that a stored one of a stranger's has none to run."""
    (lab.folder / "pics.py").write_text(FILES["pics.py"])
    for option in (["--data", f"{lab.folder / 'pics.py'}:Pictures"], ["--set", "data.source=numpy.random:default_rng"]):
        assert lab.run("paper", "--scale", "small", *option) == 2
        assert "is code of your own" in capsys.readouterr().err


def cli(arguments: list[str]) -> int:
    from depth_loss_sweep.cli import run

    return run(arguments)
