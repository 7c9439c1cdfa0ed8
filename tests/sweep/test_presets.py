"""Every preset of the paper against what the paper says, by name; the facts are written here, not read back from the presets."""

from pathlib import Path
from typing import Any

import pytest
from torch import nn

from depth_loss_sweep.data.settings import DataSettings
from depth_loss_sweep.model.network import DepthNetwork
from depth_loss_sweep.model.settings import LossSettings, ModelSettings, TrainSettings
from depth_loss_sweep.spec_file import load_spec, parse_spec, preset_names

README = Path(__file__).parent.parent.parent / "README.md"
OURS = {"demo", "lambda-search"}

TABLE_1 = {"data.image_size": (256, 256), "train.learning_rate": 2e-4, "train.epochs": 10, "train.batch_size": 24}
NOT_SAID = {  # ours, where the paper says nothing
    "train.optimizer": "adam",
    "train.schedule": "constant",
    "train.precision": "fp32",
    "model.head": "linear",
}
PAPER = {
    **TABLE_1,
    **NOT_SAID,
    "model.network": "unet",
    "model.width": 64,  # 3.3: 512 filters in the bottleneck, which has 8 times as many
    "model.batch_norm": False,
    "train.augment": (),
    "train.augment_copies": 0,
    "loss.edge": "gradient",  # Eq. 9, which Eq. 6 uses
    "loss.silog_form": "plain",  # Eq. 7
    "loss.silog_alpha": 0.85,  # not said
}
KINDS = ("brightness", "contrast", "flip_h", "flip_v")  # 3.3

EQ_11 = [(w, s, 0.05, 0.05) for w, s in zip(
    (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9),
    (0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1, 0.0),
    strict=True,
)]  # fmt: skip
"""(SSIM, SILog, edge, L1): w SSIM + (0.9 - w) SILog + 0.05 edge + 0.05 L1."""
EQ_12 = [(s, 0.0, w, 0.05) for w, s in zip(
    (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9),
    (0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1, 0.0),
    strict=True,
)]  # fmt: skip
"""(0.9 - w) SSIM + w edge + 0.05 L1, and SILog 0."""
NEIGHBOURS = [(0.6, 0.0, 0.3, 0.05), (0.5, 0.0, 0.4, 0.05), (0.45, 0.0, 0.45, 0.05), (0.4, 0.0, 0.5, 0.05),
              (0.3, 0.0, 0.6, 0.05)]  # fmt: skip
TABLE_2 = (0.55, 0.0, 0.45, 0.05)
DOSE = [(0.55, 0.0, w, 0.05) for w in (0.0, 0.15, 0.3, 0.45, 0.6, 0.75, 0.9, 1.05, 1.2, 1.35, 1.5)]
SILOG = (0.0, 0.9, 0.05, 0.05)
"""Eq. 11 at w = 0."""

WEIGHTS = {
    "silog-vs-ssim": EQ_11,
    "ssim-vs-edge": EQ_12,
    "table-2": [TABLE_2],
    "table-2-neighbours": NEIGHBOURS,
    "batch-norm": [TABLE_2] * 2,
    "augmentation": [TABLE_2] * 2,
    "augmentation-enlarged": [TABLE_2],
    "edge-instability": DOSE,
    "edge-instability-smoothness": DOSE,
    "edge-instability-bounded": DOSE,
    "edge-instability-smoothness-bounded": DOSE,
    "silog-forms": [SILOG] * 3,
    "silog-forms-rooted": [SILOG] * 3,
}
ALPHAS = [{"loss.silog_alpha": 0.5}, {}, {"loss.silog_alpha": 1.0}]
ROOTED = {"loss.silog_form": "rooted"}
DIFFERS: dict[str, list[dict[str, Any]]] = {
    "batch-norm": [{}, {"model.batch_norm": True}],
    "augmentation": [{}, {"train.augment": KINDS}],
    "augmentation-enlarged": [{"train.augment": KINDS, "train.augment_copies": 4}],
    "edge-instability-smoothness": [{"loss.edge": "smoothness"}] * 11,  # Eq. 4
    "edge-instability-bounded": [{"model.head": "log_sigmoid"}] * 11,
    "edge-instability-smoothness-bounded": [{"loss.edge": "smoothness", "model.head": "log_sigmoid"}] * 11,
    "silog-forms": ALPHAS,
    "silog-forms-rooted": [{**ROOTED, **alpha} for alpha in ALPHAS],
}
"""What a trial has otherwise than `PAPER`."""

DEFAULTS = {
    f"{section}.{name}": value
    for section, kind in (
        ("data", DataSettings),
        ("model", ModelSettings),
        ("train", TrainSettings),
        ("loss", LossSettings),
    )
    for name, value in kind().model_dump().items()
}


def settings_of(name: str) -> list[dict[str, Any]]:
    """All settings of each trial, by their dotted names."""
    spec = load_spec(name)
    parts = [spec.sections_at(cell) for cell in spec.cells]
    return [{f"{s}.{k}": v for s, part in one.items() for k, v in part.model_dump().items()} for one in parts]


def test_every_preset_is_the_papers_or_ours() -> None:
    """None goes unchecked; each is called after its file, is described in a line, and stands in the README."""
    assert {*WEIGHTS} | OURS == {*preset_names()} and {*DIFFERS} < {*WEIGHTS}
    for name in preset_names():
        assert load_spec(name).name == name and load_spec(name).study.description
        assert f"`{name}`" in README.read_text(encoding="utf-8")


@pytest.mark.parametrize("name", WEIGHTS)
def test_the_weights_are_the_papers(name: str) -> None:
    """Of every trial, exactly."""
    spec = load_spec(name)
    weights = [spec.weights_at(cell) for cell in spec.cells]
    assert [tuple(w[term] for term in ("ssim", "silog", "edge", "l1")) for w in weights] == WEIGHTS[name]
    assert {term for w in weights for term, weight in w.items() if weight} <= {"ssim", "silog", "edge", "l1"}


@pytest.mark.parametrize("name", WEIGHTS)
def test_the_settings_are_the_papers(name: str) -> None:
    """Table 1, 3.3 and what the paper leaves open; nothing but what the preset is there for differs from trial to trial."""
    differs = DIFFERS.get(name, [{}] * len(WEIGHTS[name]))
    assert settings_of(name) == [{**DEFAULTS, **PAPER, **own} for own in differs]


@pytest.mark.parametrize("name", sorted(WEIGHTS))
def test_a_run_is_worth_its_last_epoch(name: str) -> None:
    """As Fig. 1 and 2 show what is there after training; enough seeds for an answer, more where a break is looked for."""
    study = load_spec(name).study
    assert (study.value, study.objective) == ("last", "val_rmse")
    assert study.seeds == ((0, 1, 2, 3, 4) if "instability" in name else (0, 1, 2))


def test_our_presets_are_worth_the_mean_of_their_last_two_epochs() -> None:
    """Seeds scatter less in it."""
    assert {load_spec(name).study.value for name in OURS} == {2}


def test_the_network_is_the_papers() -> None:
    """3.3: three encoder blocks with max pooling, a bottleneck of 512 filters, a decoder that gives the size back, a 1x1 head."""
    network = DepthNetwork(load_spec("table-2").model, (0.1, 10.0))
    filters = [m.out_channels for m in network.modules() if isinstance(m, nn.Conv2d)]
    assert max(filters) == 512 and filters[:8] == [64, 64, 128, 128, 256, 256, 512, 512]
    head = [m for m in network.modules() if isinstance(m, nn.Conv2d)][-1]
    assert (head.out_channels, head.kernel_size) == (1, (1, 1))


def test_table_2_is_one_and_the_same_everywhere() -> None:
    """The reference point and the preset weigh alike."""
    point = parse_spec('[study]\nname = "point"\n[search]\npoints = ["paper-table-2"]\n', {})
    assert point.weights_at({"point": "paper-table-2"}) == load_spec("table-2").weights_at({})
