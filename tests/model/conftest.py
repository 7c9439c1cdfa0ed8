"""Pictures that a tiny network learns in seconds: the nearer a point, the brighter it is."""

from pathlib import Path

import numpy as np
import pytest
import torch

from depth_loss_sweep.data.cache import DepthDataset
from depth_loss_sweep.data.prepare import Prepared
from depth_loss_sweep.data.settings import DataSettings
from depth_loss_sweep.data.split import Split
from depth_loss_sweep.model.settings import LossSettings, ModelSettings, RunSettings, TrainSettings


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)


def make_pictures(train: int = 20, val: int = 7, size: int = 16) -> Prepared:
    """Smooth random depth from 1 to 5 m with a few holes, seen as brightness with noise."""
    random = np.random.default_rng(0)
    count = train + val
    coarse = torch.from_numpy(random.uniform(1, 5, (count, 1, 4, 4)).astype(np.float32))
    depth = torch.nn.functional.interpolate(coarse, size, mode="bilinear")[:, 0].numpy()
    noise = random.normal(0, 4, (count, size, size, 3))
    images = np.clip(250 - 45 * depth[..., None] + noise, 0, 255).astype(np.uint8)
    depth[random.random(depth.shape) < 0.05] = 0
    names = tuple(f"picture_{number:02}" for number in range(count))
    dataset = DepthDataset(Path("nowhere"), "0" * 32, "fake", names, names, (None,) * count, images, depth)
    indices = np.arange(count)
    split = Split(indices[:train], indices[train:], indices[:0])
    settings = DataSettings(source="rooms", image_size=size)
    return Prepared(dataset, split, settings.depth_range, settings, identity=f"fake-{train}-{val}-{size}")


@pytest.fixture(name="make_pictures", scope="session")
def _make_pictures():
    return make_pictures


@pytest.fixture(scope="session")
def pictures() -> Prepared:
    """20 training and 7 validation pictures of 16x16."""
    return make_pictures()


@pytest.fixture
def make_settings():
    """Settings of a tiny run; keyword arguments go to the section that knows them."""

    def make(weights: dict[str, float] | None = None, seed: int = 0, **changes) -> RunSettings:
        defaults = {"epochs": 3, "batch_size": 8, "learning_rate": 2e-3, "eval_images": 10, "width": 4}
        chosen = defaults | changes
        sections = {
            name: kind(**{key: value for key, value in chosen.items() if key in kind.model_fields})
            for name, kind in (("model", ModelSettings), ("train", TrainSettings), ("loss", LossSettings))
        }
        assert chosen.keys() <= {key for section in sections.values() for key in type(section).model_fields}
        weights = weights or {"silog": 0.4, "ssim": 0.3, "edge": 0.1, "l1": 0.2}
        return RunSettings(weights=weights, seed=seed, **sections)

    return make
