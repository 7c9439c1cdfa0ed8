"""Sizes told before anything is trained, against the real thing."""

import pytest

from depth_loss_sweep.model.checkpoint import CHECKPOINT
from depth_loss_sweep.model.network import DepthNetwork
from depth_loss_sweep.model.outcomes import RESULT
from depth_loss_sweep.model.runtime import Runtime
from depth_loss_sweep.model.settings import ModelSettings
from depth_loss_sweep.model.size import checkpoint_bytes, gains_from_bf16, parameter_count, result_bytes
from depth_loss_sweep.model.training import train


@pytest.mark.parametrize("batch_norm", [False, True])
@pytest.mark.parametrize("width", [1, 8, 64])
def test_parameters_are_counted_as_torch_counts_them(width: int, batch_norm: bool) -> None:
    """To the last one."""
    settings = ModelSettings(width=width, batch_norm=batch_norm)
    assert parameter_count(settings) == sum(p.numel() for p in DepthNetwork(settings, (0.1, 10.0)).parameters())


@pytest.mark.parametrize("batch_norm", [False, True])
@pytest.mark.parametrize("width", [2, 12])
def test_files_are_about_as_large_as_was_said(make_pictures, make_settings, tmp_path, width, batch_norm) -> None:
    """Checkpoint and result of a real run, within an eighth."""
    pictures, settings = make_pictures(), make_settings(width=width, batch_norm=batch_norm)
    for _ in train(settings, pictures, tmp_path, Runtime("cpu")):
        pass
    said = checkpoint_bytes(settings.model, 3, 7)
    assert (tmp_path / CHECKPOINT).stat().st_size == pytest.approx(said, rel=1 / 8)
    said = result_bytes((16, 16), 7)
    assert (tmp_path / RESULT).stat().st_size == pytest.approx(said, rel=1 / 8)


@pytest.mark.parametrize(
    ("width", "side", "gains"), [(2, 16, False), (8, 32, False), (16, 32, True), (8, 64, True), (64, 256, True)]
)
def test_small_networks_gain_nothing_from_half_precision(width, side, gains):
    """On a CPU with instructions for it: measured, and decided by the channels and the side."""
    assert gains_from_bf16(ModelSettings(width=width), (side, side)) is gains
