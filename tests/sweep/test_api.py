"""Studies from Python: the same as on the command line, by name."""

import shlex
import subprocess
import sys
from decimal import Decimal
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional

import depth_loss_sweep as dls
from depth_loss_sweep.cli import run
from depth_loss_sweep.errors import OutputError, SpecError, StorageError, StudyError
from depth_loss_sweep.model.predict import load_model
from depth_loss_sweep.session import Record
from depth_loss_sweep.snippets import loss_snippet
from tests.sweep.conftest import Lab

LINE = {
    "data": {"source": "rooms", "rooms": 12, "image_size": 16},
    "model": {"width": 2},
    "train": {"epochs": 2, "batch_size": 8, "learning_rate": 1e-3},
    "weights": {"ssim": "w", "silog": "0.9 - w", "berhu": 0.1},
    "loss": {"berhu_share": 0.3},
    "search": {"w": dls.grid(0, 0.6, 0.3)},
    "seeds": 2,
}


@pytest.fixture(scope="module")
def lab(tmp_path_factory) -> Lab:
    return Lab(tmp_path_factory.mktemp("api"), tmp_path_factory.getbasetemp() / "api-cache")


@pytest.fixture(scope="module")
def study(lab) -> dls.Study:
    """A study of Python's, finished, as if it had learnt something; its records in `study.seen`, each stored when it was handed over."""
    seen: list[Record] = []

    def see(record: Record) -> None:
        seen.append(record)
        assert record.epoch <= lab.store.run(record.run)["epochs"]

    study = dls.Study("line", home=lab.home.root, **LINE)
    study.check().run(workers=0, on_record=see)
    lab.make_learnt()
    study.seen = seen
    return study


def test_a_study_is_the_command_lines(lab, study, tmp_path, capsys) -> None:
    """One begun here is found there under the same spec, and one of there is opened by its name."""
    text = f"""
[data]
rooms = 12
image_size = 16
[model]
width = 2
[train]
epochs = 2
batch_size = 8
learning_rate = 0.001
[loss]
berhu_share = 0.3
[search]
w = [0, 0.3, 0.6]
[weights]
ssim = "w"
silog = "0.9 - w"
berhu = 0.1
[study]
name = "{study.name}"
seeds = [0, 1]
"""
    (tmp_path / "line.toml").write_text(text)
    before = lab.numbers("line")
    assert run(["start", str(tmp_path / "line.toml"), "--workers", "0", "--home", str(lab.home.root)]) == 0
    assert lab.numbers("line") == before
    again = dls.Study("line", home=lab.home.root)
    assert again.spec.as_dict() == study.spec.as_dict() and again.run(workers=0).trials.equals(study.trials)
    assert study.spec.cells[1] == {"w": 0.3} and dls.grid(0, 1, np.float32(0.5))["step"] == Decimal("0.5")


def test_its_stored_command_runs_and_names_its_home(lab, study) -> None:
    """Anywhere, as printed: it goes on with the study, which is through."""
    program, *arguments = shlex.split(lab.store.require("line")["command"])
    assert program == "python"
    done = subprocess.run([sys.executable, *arguments], capture_output=True, text=True, cwd="/")
    assert done.returncode == 0 and lab.home.root.name in arguments[-1], done.stderr


def test_its_answer_and_numbers(lab, study, capsys) -> None:
    """What `best` says there: the weights, the loss, the network; frames of trials, runs and epochs; Optuna's study."""
    assert run(["best", "line", "--home", str(lab.home.root)]) == 0
    said = capsys.readouterr().out
    best = study.best
    assert best.headline in said and f"trial {best.trial}" in said and best.verdict in said
    assert best.weights == study.spec.settings_at(best.params)[1][0].weights
    assert len(study.trials) == 3 and len(study.runs) == 6 and len(study.epochs) == 24
    assert study.optuna.trials[best.trial].value == study.trials["value"][best.trial]
    assert len(study.seen) == 12 and {(r.trial, r.seed, r.epoch) for r in study.seen} == {
        (t, s, e) for t in range(3) for s in range(2) for e in (1, 2)
    }
    record = study.seen[0]
    epoch = study.epochs[(study.epochs["run"] == record.run) & (study.epochs["split"] == "val")].iloc[0]
    assert record.values["val_rmse"] == epoch["metric_rmse"] and record.values["val_term_ssim"] == epoch["term_ssim"]
    assert record.name == "trial 0, seed 0" and record.weights["silog"] == 0.9


def test_epochs_of_runs_taken_over_are_handed_on(lab, study) -> None:
    """In order, once, and as they were handed over when they were trained."""
    seen: list[Record] = []
    settings = {**LINE, "search": {"w": [0.3, 0.45]}, "seeds": 1}
    again = dls.Study("again", home=lab.home.root, **settings).run(workers=0, on_record=seen.append)
    again.run(workers=0, on_record=seen.append)
    assert [(record.study, record.trial, record.epoch) for record in seen] == [
        ("again", trial, epoch) for trial in (0, 1) for epoch in (1, 2)
    ]
    before = [record.values for record in study.seen if (record.trial, record.seed) == (1, 0)]
    assert [record.values for record in seen[:2]] == before and seen[0].params == {"w": 0.3}


def test_it_shows_in_a_notebook(study, lab, tmp_path) -> None:
    """The answer over a small table, and the page in a frame."""
    shown = study._repr_html_()
    assert study.best.headline in shown and "<th>var_w</th>" in shown and "weight_edge" not in shown
    report = study.report(tmp_path / "page.html")
    assert Path(report).read_text().startswith("<!doctype html>") and "<iframe srcdoc=" in report._repr_html_()
    (tmp_path / "mine.html").write_text("mine")
    with pytest.raises(OutputError):
        study.report(tmp_path / "mine.html")
    assert "not begun" in dls.Study("other", home=lab.home.root, **LINE)._repr_html_()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"weights": {"silgo": 1}}, "silog"),
        ({"search": {"w": [1, 2], "v": [1]}}, "v"),
        ({"train": {"epochs": 0}}, "train.epochs"),
        ({"train": {"epoch": 1}}, "did you mean 'epochs'"),
        ({"terms": {"mine": {"function": print}}}, "FILE.py:NAME"),
        ({"terms": {"mine": print}}, "print is an object: write it into a file"),
        ({"terms": {"mine": 3}}, "terms.mine.function is 3"),
        ({"terms": {"mine": "berhuu"}}, "did you mean 'berhu'"),
        ({"network": "timm"}, "timm:NAME"),
        ({"seeds": 0}, "seeds"),
        ({"objective": "val_rms"}, "did you mean"),
    ],
)
def test_what_is_no_spec_is_refused_as_on_the_command_line(lab, changes, said) -> None:
    """In one line, when the study is made."""
    with pytest.raises(SpecError) as error:
        dls.Study("wrong", home=lab.home.root, **{**LINE, **changes})
    assert said in str(error.value) and "\n" not in str(error.value)


def test_what_notebooks_hold_is_taken(lab, tmp_path) -> None:
    """Numbers of NumPy's, paths, and a database that isn't there yet."""
    storage = f"sqlite:///{tmp_path / 'none.db'}"
    given = {**LINE, "data": Path("rooms"), "seeds": np.int64(3)}
    study = dls.Study("other", home=lab.home.root, storage=storage, **given)
    assert study.spec.seeds == (0, 1, 2) and study.spec.data.source == "rooms"
    assert dls.Study("other", home=lab.home.root, **{**given, "seeds": np.arange(2)}).spec.seeds == (0, 1)
    assert "not begun" in study._repr_html_() and not (tmp_path / "none.db").exists()


def test_the_database_is_the_environments(lab, study, tmp_path, monkeypatch) -> None:
    """As of every command: a study is found where SWEEP_STORAGE says, unless another is given; its command leaves that unsaid."""
    monkeypatch.setenv("SWEEP_STORAGE", str(lab.home.database))
    found = dls.Study("line", home=tmp_path)
    assert found.is_stored and found.trials.equals(study.trials) and dls.study_figures("line", home=tmp_path)
    assert not dls.Study("line", home=tmp_path, storage=str(tmp_path / "other.db"), **LINE)._is_begun
    assert not (tmp_path / "sweep.db").exists()


def test_a_name_that_is_nothing_yet_is_said(lab) -> None:
    """Neither a study in the home nor a preset; and a preset is one, with changes laid over it."""
    with pytest.raises(SpecError, match="no preset"):
        dls.Study("nothing", home=lab.home.root)
    assert dls.Study("mine", spec="table-2", seeds=[7], home=lab.home.root).spec.seeds == (7,)
    assert dls.Study("demo", home=lab.home.root).spec.name == "demo"
    with pytest.raises((StudyError, StorageError), match=r"other|no database"):
        dls.Study("other", home=lab.home.root, **LINE).trials  # noqa: B018


def test_the_printed_loss_runs_in_a_plain_training_loop(lab, study, capsys) -> None:
    """It is the study's own loss: weights, forms and options, to the last bit; and a network learns by it."""
    assert run(["best", "line", "--python", "--trial", "1", "--home", str(lab.home.root)]) == 0
    text = capsys.readouterr().out
    names: dict = {}
    exec(text, names)
    torch.manual_seed(0)
    image, target = torch.rand(4, 3, 16, 16), torch.rand(4, 1, 16, 16) * 4 + 1
    mask, network = target > 1.2, torch.nn.Conv2d(3, 1, 3, padding=1)
    own = dls.Study("line", home=lab.home.root)
    expected, _ = _loss_of(own, 1)(network(image), target, mask, image)
    optimizer = torch.optim.Adam(network.parameters(), 0.05)
    losses = []
    for _ in range(20):
        loss = names["training_loss"](network(image), target, mask, image)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[0] == expected.item() and losses[-1] < 0.8 * losses[0]
    assert "berhu_share=0.3" in text and study.best.python.startswith("# trial ")


def test_the_printed_loss_has_your_own_terms_as_they_are_trained(lab, tmp_path, monkeypatch) -> None:
    """By their package's path, alone or beside others: where an image has no depth it counts neither in value nor gradient."""
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "__init__.py").touch()
    (tmp_path / "mine" / "scale.py").write_text("SCALE = 2.0")
    (tmp_path / "mine" / "losses.py").write_text(
        "from .scale import SCALE\n"
        "def scaled(pred, target, mask, image, by=1.0):\n"
        "    error = (pred - target).abs() * mask * SCALE * by\n"
        "    return error.flatten(1).sum(1) / mask.flatten(1).sum(1)\n"
    )
    table = {"function": str(tmp_path / "mine" / "losses.py") + ":scaled", "options": {"by": 0.5}}
    given = {"weights": {"scaled": 0.7, "berhu": "w"}, "terms": {"scaled": table}, "search": {"w": [0.0, 0.3]}}
    train = {**LINE["train"], "epochs": 1}
    study = dls.Study("own", home=lab.home.root, **{**LINE, **given, "train": train, "seeds": 1}).run(workers=0)
    monkeypatch.syspath_prepend(tmp_path)
    image, target = torch.rand(3, 3, 16, 16), torch.rand(3, 1, 16, 16) * 4 + 1
    some = (target > 1.2) & (torch.arange(3) > 0).view(3, 1, 1, 1)
    for trial, mask in ((0, some), (0, torch.zeros_like(some)), (1, some)):
        names: dict = {}
        exec(loss_snippet(lab.store, "own", trial), names)
        found, expected = (torch.full_like(target, 2.0, requires_grad=True) for _ in range(2))
        losses = (
            names["training_loss"](found, target, mask, image),
            _loss_of(study, trial)(expected, target, mask, image)[0],
        )
        [loss.backward() for loss in losses]
        assert losses[0].item() == pytest.approx(losses[1].item()) and torch.allclose(found.grad, expected.grad)
        assert losses[0].isfinite() and (found.grad != 0).any() == mask.any()


def _loss_of(study: dls.Study, trial: int) -> dls.CombinedLoss:
    from depth_loss_sweep.model.evaluation import combined_loss

    return combined_loss(study.spec.settings_at({"w": study.trials["var_w"][trial]})[1][0])


@pytest.mark.slow
def test_a_saved_model_loads_without_us(study, lab, tmp_path) -> None:
    """docs/python.md's ten lines read the safetensors file; ONNX gives the same depth for any number of pictures."""
    images = torch.rand(3, 3, 16, 16)
    with torch.no_grad():
        expected = study.best.network()(images)
    weights = study.best.save(tmp_path / "m.safetensors")
    text = (Path(dls.__file__).parent.parent / "docs" / "python.md").read_text(encoding="utf-8")
    recipe = next(part for part in text.split("```python\n")[1:] if "load_file" in part).partition("```")[0]
    names: dict = {}
    exec(recipe.replace('"model.safetensors"', repr(str(weights))), names)
    with torch.no_grad():
        found = names["depth"](images)
    assert torch.allclose(found, expected, atol=1e-5)
    where = ["--home", str(lab.home.root)]
    arguments = ["best", "line", "--onnx", str(tmp_path / "m.onnx"), "--checkpoint", str(tmp_path / "m.npz"), *where]
    assert run(arguments) == 0 and run(arguments) == 0  # its own files are replaced
    import onnxruntime

    session = onnxruntime.InferenceSession(str(tmp_path / "m.onnx"), providers=["CPUExecutionProvider"])
    assert np.abs(session.run(None, {"image": images.numpy()})[0] - expected.numpy()).max() < 1e-4
    assert torch.equal(load_model(tmp_path / "m.npz").network(images), expected)
    assert functional.mse_loss(expected, found) < 1e-9
    assert run(["best", "line", "--onnx", str(tmp_path / "m.pt"), *where]) == 2


def test_tensorboard_takes_every_epoch(lab, tmp_path) -> None:
    """docs/python.md's three lines, as they stand there."""
    text = (Path(dls.__file__).parent.parent / "docs" / "python.md").read_text(encoding="utf-8")
    lines = next(part for part in text.split("```python\n")[1:] if "SummaryWriter" in part).partition("```")[0]
    short = {**LINE, "search": {"w": [0.3]}, "seeds": 1, "train": {**LINE["train"], "epochs": 1}}
    folder = tmp_path / "logs"
    exec(lines.replace('"logs"', repr(str(folder))), {"study": dls.Study("logged", home=lab.home.root, **short)})
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    logged = EventAccumulator(str(folder))
    logged.Reload()
    assert {"val_rmse/trial 0, seed 0", "train_l1/trial 0, seed 0"} & {*logged.Tags()["scalars"]}
    [event] = logged.Scalars("val_rmse/trial 0, seed 0")
    assert event.step == 1 and event.value > 0


@pytest.mark.slow
def test_a_script_needs_no_main_guard_and_its_own_names_stay(tmp_path) -> None:
    """Workers are processes of their own; data/ and model.py beside the script are its own, which its losses may import."""
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "__init__.py").write_text("raise RuntimeError('not ours')")
    (tmp_path / "model.py").write_text("SCALE = 2.0")
    (tmp_path / "losses.py").write_text(
        "from model import SCALE\n"
        "def mine(pred, target, mask, image):\n"
        "    return SCALE * ((pred - target).abs() * mask).flatten(1).sum(1) / mask.flatten(1).sum(1)\n"
    )
    settings = {**LINE, "search": {"w": [0.3, 0.6]}, "weights": {"mine": "w", "l1": 0.1}, "seeds": 1, "loss": {}}
    settings["terms"] = {"mine": "losses.py:mine"}
    settings["search"] = {"w": [0.3, 0.6]}
    (tmp_path / "script.py").write_text(
        "import sys\nimport depth_loss_sweep as dls\n"
        "assert not {'torch', 'pandas', 'optuna'} & sys.modules.keys()\n"
        f"study = dls.Study('script', home='runs', **{settings!r})\n"
        "study.run(workers=2)\n"
        "assert 'torch' not in sys.modules or study.spec.code\n"
        "print(len(study.runs), study.spec.seeds)\n"
    )
    environment = {"PATH": "/usr/bin", "SWEEP_TRUST": str(tmp_path / "trusted"), "HOME": str(tmp_path)}
    done = subprocess.run([sys.executable, "script.py"], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "2 (0,)"
