"""Small sources on disk, made anew for each test."""

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from depth_loss_sweep.data.settings import DataSettings

torch.set_num_threads(1)


def write_pair(root: Path, name: str, depth: np.ndarray, picture_suffix: str = ".png") -> None:
    """One picture whose colours follow its depth, beside the depth in millimetres."""
    file = root / name
    file.parent.mkdir(parents=True, exist_ok=True)
    image = np.repeat((depth * 20 % 256).astype(np.uint8)[..., None], 3, axis=2)
    cv2.imwrite(str(file.with_suffix(picture_suffix)), image)
    cv2.imwrite(f"{file}_depth.png", (depth * 1000).round().astype(np.uint16))


@pytest.fixture
def ramp() -> np.ndarray:
    """A 24x32 depth map from 1 to 4 m whose two left columns are invalid."""
    depth = np.tile(np.linspace(1, 4, 32, dtype=np.float32), (24, 1))
    depth[:, :2] = 0
    return depth


@pytest.fixture
def pairs(tmp_path: Path, ramp: np.ndarray) -> Path:
    """Six scenes of two pictures each, without split folders."""
    root = tmp_path / "pairs"
    for scene in range(6):
        for picture in range(2):
            write_pair(root, f"scene_{scene}/{picture:03d}", ramp + (ramp > 0) * (scene + picture / 2) / 2)
    return root


@pytest.fixture
def settings_of() -> Callable[..., DataSettings]:
    """Settings of a pairs source at 16x16, with changes."""

    def make(root: Path, **changes: object) -> DataSettings:
        return DataSettings.model_validate({"source": f"pairs:{root}", "image_size": 16, **changes})

    return make


def write_diode(root: Path, name: str, shape: tuple[int, int] = (12, 16)) -> None:
    """One picture in DIODE's file types: depth (H, W, 1), mask (H, W), the upper half invalid."""
    file = root / name
    file.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(f"{file}.png", np.full((*shape, 3), 90, np.uint8))
    mask = np.zeros(shape, np.float32)
    mask[shape[0] // 2 :] = 1
    np.save(f"{file}_depth.npy", np.full((*shape, 1), 2.5, np.float32))
    np.save(f"{file}_depth_mask.npy", mask)
