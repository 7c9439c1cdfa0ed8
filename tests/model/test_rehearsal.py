"""The dry run of a user's own code: what is sound passes, and each fault is named in a line."""

from pathlib import Path

import pytest

from depth_loss_sweep.model.rehearsal import rehearse
from depth_loss_sweep.model.runtime import Runtime
from depth_loss_sweep.model.settings import LossSettings, ModelSettings, OwnMetric, OwnTerm
from depth_loss_sweep.usercode import allow, resolve

HEAD = "import random\nimport numpy as np\nimport torch\nfrom torch import nn\n"
GOOD_NET = """
class Net(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, width, 3, padding=1), nn.Dropout(0.2), nn.ReLU(), nn.Conv2d(width, 1, 1))
        self.unused = nn.Linear(2, 2)

    def forward(self, x):
        return self.body(x)

def build(*, depth_range, image_size, width=2):
    return Net(width)
"""
# What a naive author writes: it divides by nothing where the mask is empty, and that is all right.
GOOD_TERM = """
def term(pred, target, mask, image, power=1.0):
    return ((pred - target).abs().pow(power) * mask).sum((1, 2, 3)) / mask.sum((1, 2, 3))
"""
GOOD_METRIC = """
def metric(pred, target, mask):
    return ((pred - target).abs() * mask).sum((1, 2, 3)) / mask.sum((1, 2, 3))
"""


@pytest.fixture
def faults(tmp_path: Path, make_settings, make_pictures):
    """Rehearses one file's `build`, `term` or `metric` on pictures of that size."""

    def find(kind: str, text: str, options: dict | None = None, size: int = 16) -> list[str]:
        (tmp_path / "mine.py").write_text(HEAD + text)
        code = resolve(f"mine.py:{kind}", tmp_path)
        allow([code])
        settings = make_settings()
        if kind == "build":
            settings = settings.model_copy(update={"model": ModelSettings(network=code, options=options or {})})
        elif kind == "term":
            loss = LossSettings(own={"mine": OwnTerm(function=code, options=options or {})})
            settings = settings.model_copy(update={"loss": loss, "weights": settings.weights | {"mine": 1.0}})
        else:
            settings = settings.model_copy(update={"own_metrics": {"mine": OwnMetric(function=code)}})
        return rehearse(settings, make_pictures(size=size), Runtime("cpu"))

    return find


@pytest.mark.parametrize(("kind", "text"), [("build", GOOD_NET), ("term", GOOD_TERM), ("metric", GOOD_METRIC)])
def test_what_is_sound_passes(faults, kind: str, text: str) -> None:
    """Dropout, parameters without gradient and a naive mean over an empty mask are no faults."""
    assert faults(kind, text) == []


def test_pictures_without_depth_are_passed_over(tmp_path: Path, make_settings, make_pictures) -> None:
    """The first of a study's pictures may hold none, which says nothing of the code."""
    (tmp_path / "mine.py").write_text(HEAD + GOOD_METRIC)
    code = resolve("mine.py:metric", tmp_path)
    allow([code])
    settings = make_settings().model_copy(update={"own_metrics": {"mine": OwnMetric(function=code)}})
    pictures = make_pictures()
    pictures.dataset.depth[:3] = 0
    assert rehearse(settings, pictures, Runtime("cpu")) == []


TERMS = {
    "returns a scalar": "def term(pred, target, mask, image):\n    return (pred - target).abs().mean()",
    "returns a float": "def term(pred, target, mask, image):\n    return 1.0",
    "a tensor of shape (2, 1)": "def term(pred, target, mask, image):\n    return (pred - target).abs().mean((2, 3))",
    "has no option 'powr' (did you mean 'power'?)": GOOD_TERM,
    "its option 'power' has no default": GOOD_TERM.replace("=1.0", ""),
    "changes with the truth where the mask says": "def term(pred, target, mask, image):\n"
    "    return (pred - target).abs().mean((1, 2, 3))",
    "changes with the other image of the batch": GOOD_TERM.replace("/ mask.sum((1, 2, 3))", "/ mask.sum()"),
    "gives a gradient of NaN or infinity for a perfect prediction": "def term(pred, target, mask, image):\n"
    "    return (((pred - target) ** 2 * mask).sum((1, 2, 3)) / mask.sum((1, 2, 3))).sqrt()",
    "gives no gradient: it is computed apart": GOOD_TERM.replace("(pred -", "(pred.detach() -"),
    "is inf where the mask is empty": GOOD_TERM.replace("((pred", "(1e-3 + (pred", 1).replace("* mask)", ")").replace(
        "(1e-3 + (pred - target).abs().pow(power) )", "torch.where(mask, (pred - target).abs(), 0.0)"
    ).replace(".sum((1, 2, 3)) / mask", ".add(1e-3).sum((1, 2, 3)) / mask"),
    "is not deterministic": GOOD_TERM.replace(".abs()", ".abs().mul(random.random())"),
    "fails: IndexError: index 5": GOOD_TERM.replace("pred - target", "pred[5] - target"),
    "mine.py:term cannot be imported: NameError": "def term(): pass\nnothing_of_the_sort",
    "mine.py has no 'term'; it has": "def other(): pass\nglobals()['more'] = other",
    "mine.py:term cannot be imported: SystemExit": "def term(): pass\nraise SystemExit(3)",
}  # fmt: skip


@pytest.mark.parametrize("said", TERMS)
def test_faults_of_terms_are_named(faults, said: str) -> None:
    """Each in one line that says whose it is."""
    found = faults("term", TERMS[said], {"powr": 2.0} if "powr" in said else None)
    assert found and said in found[0] and "mine.py" in found[0] and "\n" not in found[0], found


NETWORKS = {
    "has no option 'widht' (did you mean 'width'?)": GOOD_NET,
    "does not take pictures of 16x16": GOOD_NET.replace(
        "return self.body(x)", "return self.body(x.unflatten(2, (-1, 32)).flatten(2, 3))"
    ),
    "it takes 32x32": GOOD_NET.replace("return self.body(x)", "assert x.shape[-1] % 32 == 0\n        return self.body(x)"),
    "expected (2, 1, 16, 16)": GOOD_NET.replace("return self.body(x)", "return self.body(x)[:, 0]"),
    "returns NaN or infinity before": GOOD_NET.replace("return self.body(x)", "return self.body(x) / 0"),
    "depends on none of its parameters": GOOD_NET.replace(
        "return self.body(x)", "return self.body(x) * 0 + x[:, :1].requires_grad_()"
    ),
    "gives no gradient: nothing in it is trained": GOOD_NET.replace("return self.body(x)", "return self.body(x).detach()"),
    "in eval mode it gives other values": GOOD_NET.replace("nn.Dropout(0.2)", "nn.Identity()").replace(
        "self.body(x)", "nn.functional.dropout(self.body(x), 0.1)"
    ),
    "is not deterministic: two trainings": GOOD_NET.replace(
        "return self.body(x)", "return self.body(x) * (1 + random.random() * self.training)"
    ),
    "does not go on where it stopped": GOOD_NET.replace(
        "super().__init__()", "super().__init__()\n        self.steps = 0"
    ).replace("return self.body(x)", "self.steps += self.training\n        return self.body(x) * (1 + self.steps)"),
    "expected a torch.nn.Module": "def build(**_):\n    return 3",
    "becomes non-finite": GOOD_NET.replace(
        "return self.body(x)", "return self.body(x) * (1 if self.training else float('nan'))"
    ),
}  # fmt: skip


@pytest.mark.parametrize("said", NETWORKS)
def test_faults_of_networks_are_named(faults, said: str) -> None:
    """Each in one line that says whose it is."""
    found = faults("build", NETWORKS[said], {"widht": 3} if "widht" in said else None)
    assert found and said in found[0] and "\n" not in found[0], found


def test_randomness_of_numpy_in_a_network_is_found(faults) -> None:
    """Where a generator of its own begins anew with each network, only the resumed run differs."""
    text = GOOD_NET.replace(
        "super().__init__()", "super().__init__()\n        self.random = np.random.default_rng(0)"
    ).replace("return self.body(x)", "return self.body(x) * (1 + self.random.random() * self.training)")
    (found,) = faults("build", text)
    assert "does not go on where it stopped" in found


def test_faults_of_metrics_are_named(faults) -> None:
    """A metric is held to what a term is, but for gradients."""
    assert "returns a scalar" in faults("metric", "def metric(pred, target, mask):\n    return pred.mean()")[0]
    assert "changes with the truth" in faults("metric", GOOD_METRIC.replace("* mask", ""))[0]
    assert (
        "expected a value an image: a float"
        in faults("metric", "def metric(pred, target, mask):\n    return mask.sum((1, 2, 3))")[0]
    )
