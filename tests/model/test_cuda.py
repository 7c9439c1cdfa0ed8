"""What only a CUDA card can show; elsewhere these are skipped."""

import copy
import tempfile
from itertools import islice
from pathlib import Path

import pytest
import torch
from torch.nn import functional

from depth_loss_sweep.data.prepare import prepare
from depth_loss_sweep.data.settings import DataSettings
from depth_loss_sweep.model import recorded
from depth_loss_sweep.model.backend import this_machine
from depth_loss_sweep.model.fused import convolve_relu
from depth_loss_sweep.model.losses import per_image_terms
from depth_loss_sweep.model.names import ALL_TERMS, FURTHER_METRICS, WEIGHTINGS
from depth_loss_sweep.model.runtime import resolve_runtime
from depth_loss_sweep.model.settings import LossSettings, ModelSettings, RunSettings, TrainSettings
from depth_loss_sweep.model.training import train
from depth_loss_sweep.model.unet import UNet

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA card")


def run(batch_norm=False, precision="bf16", clip_norm=1.0, weighting="fixed", **changes):
    return RunSettings(
        model=ModelSettings(width=8, batch_norm=batch_norm),
        train=TrainSettings(
            epochs=3, batch_size=8, precision=precision, clip_norm=clip_norm, augment=("flip_h",), **changes
        ),
        loss=LossSettings(ssim_data_range=10.0, weighting=weighting),
        weights={"silog": 0.3, "ssim": 0.3, "edge": 0.2, "l1": 0.2, "smoothness": 0.0},
        seed=0,
        depth_range=(0.1, 10.0),
    )


@pytest.fixture(scope="module")
def rooms():
    with tempfile.TemporaryDirectory() as folder:
        yield prepare(DataSettings(source="rooms", rooms=20, views=2, image_size=32), Path(folder))


def numbers(records):
    rows = [record.as_dict() for record in records]
    return [{key: row[key] for key in row if key not in ("seconds", "images_per_second")} for row in rows]


def trained(settings, rooms, folder, stop=None):
    runtime = resolve_runtime("cuda", settings.train, this_machine("cuda"))
    training = train(settings, rooms, folder, runtime)
    records = numbers(islice(training, stop))
    training.close()
    return records


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("batch_norm", [False, True])
def test_a_recorded_training_has_the_bits_of_one_that_is_not(rooms, tmp_path, monkeypatch, batch_norm, precision):
    """Recording the kernels of a step and replaying them changes no number."""
    settings = run(batch_norm, precision)
    replayed = trained(settings, rooms, tmp_path / "replayed")
    monkeypatch.setattr(recorded, "WARM_UP", 10**9)
    assert replayed == trained(settings, rooms, tmp_path / "plain")
    assert len(replayed) == 3


@pytest.mark.parametrize("weighting", [name for name in WEIGHTINGS if name != "fixed"])
def test_a_weighting_is_recorded_and_goes_on_with_the_same_bits(rooms, tmp_path, monkeypatch, weighting):
    """Replayed, stopped after an epoch and gone on, or never recorded: weights that go by a rule are the same."""
    settings = run(weighting=weighting, precision="fp32")
    replayed = trained(settings, rooms, tmp_path / "replayed")
    assert trained(settings, rooms, tmp_path / "parts", stop=1) == replayed[:1]
    assert trained(settings, rooms, tmp_path / "parts") == replayed
    monkeypatch.setattr(recorded, "WARM_UP", 10**9)
    assert replayed == trained(settings, rooms, tmp_path / "plain")


def test_every_further_term_and_metric_is_recorded_and_goes_on_with_the_same_bits(rooms, tmp_path, monkeypatch):
    """Medians, sorted residuals and drawn pixels included; and their values are those of a CPU."""
    weights = dict.fromkeys(ALL_TERMS, 0.1)
    settings = run(precision="fp32").model_copy(update={"weights": weights, "metrics": tuple(FURTHER_METRICS)})
    replayed = trained(settings, rooms, tmp_path / "replayed")
    assert trained(settings, rooms, tmp_path / "parts", stop=1) == replayed[:1]
    assert trained(settings, rooms, tmp_path / "parts") == replayed
    monkeypatch.setattr(recorded, "WARM_UP", 10**9)
    assert replayed == trained(settings, rooms, tmp_path / "plain")
    batch = rooms.tensors("val")
    maps = (batch.depth * 1.1 + 0.2, batch.depth, batch.mask, batch.images / 255)
    here = per_image_terms(*maps, data_range=10.0, terms=ALL_TERMS)
    there = per_image_terms(*(each.cuda() for each in maps), data_range=10.0, terms=ALL_TERMS)
    for term, values in here.items():
        assert torch.allclose(there[term].cpu(), values, rtol=1e-4, atol=1e-5, equal_nan=True), term


@pytest.mark.parametrize("copies", [0, 2])
def test_a_stopped_training_goes_on_with_the_same_bits(rooms, tmp_path, copies):
    """A run that stopped after its first epoch and is resumed by another process's recording ends where the other did."""
    settings = run(augment_copies=copies)
    whole = trained(settings, rooms, tmp_path / "whole")
    assert trained(settings, rooms, tmp_path / "parts", stop=1) == whole[:1]
    assert trained(settings, rooms, tmp_path / "parts") == whole


@pytest.mark.parametrize("channels", [3, 16])
def test_the_fused_convolution_is_a_convolution_with_relu(channels):
    """Values and gradients agree with torch's own in float32, within what bfloat16 can hold."""
    torch.manual_seed(0)
    x, weight, bias = torch.randn(4, channels, 32, 32), torch.randn(16, channels, 3, 3) / 10, torch.randn(16) / 10
    given = [tensor.cuda().requires_grad_() for tensor in (x, weight, bias)]
    plain = [tensor.double().requires_grad_() for tensor in (x, weight, bias)]
    ours, theirs = convolve_relu(*given), functional.conv2d(*plain, padding=1).relu()
    torch.testing.assert_close(ours.detach().double().cpu(), theirs.detach(), rtol=2e-2, atol=2e-2)
    ours.float().square().sum().backward()
    theirs.square().sum().backward()
    for own, other in zip(given, plain, strict=True):
        error = (own.grad.double().cpu() - other.grad).norm() / other.grad.norm()
        assert error < 0.01


def test_the_network_computes_the_same_on_a_card_and_on_a_cpu():
    """In float32 a card's depth and gradients are the CPU's, but for rounding."""
    torch.manual_seed(0)
    network = UNet(ModelSettings(width=8, batch_norm=False))
    images = torch.rand(2, 3, 32, 32)
    on_card = copy.deepcopy(network).cuda()
    torch.backends.cuda.matmul.fp32_precision = "ieee"
    torch.backends.cudnn.conv.fp32_precision = "ieee"
    there, here = on_card(images.cuda()), network(images)
    torch.testing.assert_close(there.cpu(), here, rtol=1e-4, atol=1e-5)
    there.square().mean().backward()
    here.square().mean().backward()
    for own, other in zip(on_card.parameters(), network.parameters(), strict=True):
        torch.testing.assert_close(own.grad.cpu(), other.grad, rtol=1e-3, atol=1e-5)
