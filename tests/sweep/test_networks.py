"""Studies of other people's networks: swept options, weights to begin with, and what a start fetches, once."""

import hashlib
import http.server
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch
from safetensors.torch import save

from depth_loss_sweep.errors import SpecError
from depth_loss_sweep.model.settings import ModelSettings
from depth_loss_sweep.model.timm_network import published
from depth_loss_sweep.model.weights import keep_weights, remember_fetched
from depth_loss_sweep.results import trial_frame
from depth_loss_sweep.spec_file import parse_spec
from depth_loss_sweep.spec_text import resolved_text

SPEC = """
[study]
name = "others"
seeds = [0]
[data]
image_size = 16
rooms = 12
[model]
network = "timm:test_resnet"
decoder_channels = [4, 4, 4, 4, 4]
pretrained = "file:weights/mine.safetensors"
learning_rate_scale = { encoder = 0.1 }
[train]
epochs = 1
batch_size = 8
[search]
model.options.dropout = [0, 0.5]
[weights]
l1 = 1
"""


@pytest.fixture
def weights(lab) -> Path:
    """A file beside the spec."""
    torch.manual_seed(3)
    path = lab.folder / "weights" / "mine.safetensors"
    path.parent.mkdir()
    path.write_bytes(save(published(ModelSettings(network="timm:test_resnet"))))
    return path


def test_a_study_keeps_the_weights_it_begins_with(lab, weights, tmp_path, capsys, monkeypatch) -> None:
    """By content, in its home: the file may go, and a model that was saved needs neither; without them nothing is trained."""
    monkeypatch.chdir(tmp_path)
    digest = hashlib.sha256(weights.read_bytes()).hexdigest()
    assert lab.run("start", lab.spec(SPEC), "--workers", "0") == 0
    trials = trial_frame(lab.store, "others")
    assert [float(value) for value in trials["var_model.options.dropout"]] == [0, 0.5] and trials[
        "value"
    ].nunique() == 2
    assert lab.run("start", lab.spec(SPEC), "--workers", "0") == 0  # the same study
    kept = lab.home.weights / f"{digest}.safetensors"
    assert kept.read_bytes() == weights.read_bytes()
    text = resolved_text(lab.store.require("others"), "")
    assert f'pretrained = "sha256:{digest}"' in text and parse_spec(text, {}).model.learning_rate_scale == {
        "encoder": 0.1
    }
    weights.unlink()
    kept.unlink()
    assert lab.run("resume", "others", "--workers", "0") == 0  # nothing is left to train
    model = str(lab.folder / "m.npz")
    assert lab.run("best", "others", "--trial", "1", "--checkpoint", model) == 0
    assert lab.run("evaluate", model, "--data", "rooms", "--set", "rooms=12") == 0
    capsys.readouterr()
    (lab.folder / "again.toml").write_text(text)
    assert lab.run("start", str(lab.folder / "again.toml"), "--seeds", "2", "--workers", "0") == 2
    said = capsys.readouterr().err
    assert "are not in" in said and len(said.splitlines()) == 1


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ('model.pretrained="file:gone.safetensors"', "cannot be read"),
        ("model.pretrained=7", "pretrained"),
        ("model.network=unet", "no options"),
        ("model.network=timm:test_resnett", "did you mean 'test_resnet'"),
        ("model.options.drop_rat=1", "did you mean 'drop_rate'"),
        ("model.options=3", "options"),
        ("model.optins.dropout=0", "did you mean 'options'"),
        ('model.freeze=["decode"]', "did you mean 'decoder'"),
        ("model.network=tim:resnet18", "did you mean 'timm'"),
    ],
)
def test_what_does_not_fit_is_said_before_a_study_is_there(lab, weights, capsys, lines, said) -> None:
    """In one line, and nothing is written of it."""
    assert lab.run("start", lab.spec(SPEC), "--workers", "0", "--set", lines) == 2
    printed = capsys.readouterr().err
    assert said in printed and len(printed.splitlines()) == 1
    assert not lab.home.database.exists() or not lab.store.studies()


@pytest.mark.parametrize(
    "swept", ["model.pretrained = [true, false]", 'model.options = ["a"]', "model.options.a.b = [1]"]
)
def test_what_cannot_be_swept_is_refused(swept) -> None:
    """Pretrained weights are settled once, at start; a table is swept key by key."""
    with pytest.raises(SpecError):
        parse_spec(SPEC.replace("model.options.dropout = [0, 0.5]", swept), {})


def test_networks_that_begin_with_other_published_weights_are_not_swept(lab, capsys) -> None:
    """A study has one file of them: which have others is said in a line, and what to do instead."""
    for number, network in enumerate(("timm:test_resnet", "timm:test_vit")):
        remember_fetched(
            lab.home.weights, network, keep_weights(save({"a": torch.full((1,), number)}), lab.home.weights)
        )
    text = SPEC.replace('"file:weights/mine.safetensors"', "true")
    spec = lab.spec(
        text.replace("model.options.dropout = [0, 0.5]", 'model.network = ["timm:test_resnet", "timm:test_vit"]')
    )
    assert lab.run("start", spec, "--workers", "0") == 2
    said = capsys.readouterr().err
    assert "swept (timm:test_resnet and timm:test_vit) have published weights of their own" in said
    assert len(said.splitlines()) == 1 and not lab.store.studies()


class _Hub(http.server.BaseHTTPRequestHandler):
    """The part of a model hub that serves one file, and counts who asks for it."""

    content, asked, is_open = b"", 0, True

    def do_HEAD(self) -> None:
        self.send(b"")

    def do_GET(self) -> None:
        type(self).asked += 1
        self.send(self.content)

    def send(self, body: bytes) -> None:
        is_there = self.is_open and self.path.endswith("/model.safetensors")
        self.send_response(200 if is_there else 404)
        for name, value in (("ETag", '"1"'), ("X-Repo-Commit", "0" * 40), ("Content-Length", str(len(self.content)))):
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body if is_there else b"")

    def log_message(self, *_: object) -> None:
        pass


@pytest.mark.slow
def test_published_weights_are_fetched_once(lab) -> None:
    """At the first start; the second does without the network, and so does all else."""
    torch.manual_seed(5)
    _Hub.content = save(published(ModelSettings(network="timm:test_resnet.r160_in1k")))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    spec = SPEC.replace('"file:weights/mine.safetensors"', "true").replace("test_resnet", "test_resnet.r160_in1k")
    where = {**os.environ, "HF_ENDPOINT": f"http://127.0.0.1:{server.server_port}", "HF_HUB_DISABLE_XET": "1"}

    def start(name: str) -> subprocess.CompletedProcess:
        cache = {"HF_HOME": str(lab.folder / "hub")}
        command = ["start", lab.spec(spec), "--workers", "0", "--name", name, "--home", str(lab.home.root)]
        return subprocess.run(
            [sys.executable, "-m", "depth_loss_sweep", *command], env=where | cache, capture_output=True, text=True
        )

    first = start("first")
    asked, _Hub.is_open = _Hub.asked, False
    assert first.returncode == 0 and asked, first.stderr
    shutil.rmtree(lab.folder / "hub")
    second = start("second")
    server.shutdown()
    server.server_close()
    assert second.returncode == 0 and _Hub.asked == asked, second.stderr
    assert [path.stem for path in lab.home.weights.glob("*.safetensors")] == [hashlib.sha256(_Hub.content).hexdigest()]
    assert trial_frame(lab.store, "first")["value"].tolist() == trial_frame(lab.store, "second")["value"].tolist()
