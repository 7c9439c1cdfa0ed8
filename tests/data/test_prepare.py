"""From settings to tensors: masks, identity, the summary, and opening by fingerprint."""

import json
import os
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from depth_loss_sweep.data.errors import DataError
from depth_loss_sweep.data.prepare import open_prepared, prepare
from depth_loss_sweep.data.settings import DataSettings
from depth_loss_sweep.data.sources import open_source

from .conftest import write_pair


def test_tensors_of_a_part(pairs, settings_of, tmp_path):
    """Images are channels first, depth has one channel, the mask is where depth is valid."""
    prepared = prepare(settings_of(pairs), tmp_path / "cache")
    batch = prepared.tensors("train")
    count = len(prepared.split.train)
    assert batch.images.shape == (count, 3, 16, 16) and batch.images.dtype == torch.uint8
    assert batch.depth.shape == batch.mask.shape == (count, 1, 16, 16)
    assert batch.depth.dtype == torch.float32 and batch.mask.dtype == torch.bool
    assert torch.equal(batch.mask, batch.depth > 0) and not batch.mask.all()
    index = prepared.split.train[1]
    assert np.array_equal(batch.images[1].permute(1, 2, 0).numpy(), prepared.dataset.images[index])
    assert prepared.keys("train")[1] == prepared.dataset.keys[index]
    assert len(prepared.tensors("train", limit=2).images) == 2
    with pytest.raises(DataError, match="unknown part 'tset'"):
        prepared.tensors("tset")


def test_pictures_are_taken_in_batches(pairs, settings_of, tmp_path):
    """By number, all in order, or of a subset: the same pictures as the whole part at once."""
    pictures = prepare(settings_of(pairs), tmp_path / "cache").pictures("train")
    whole = pictures.take(slice(None))
    batches = list(pictures.batches(2))
    assert [len(batch.images) for batch in batches][:-1] == [2] * (len(batches) - 1)
    chosen = torch.tensor([2, 0])
    for name, tensor in vars(whole).items():
        assert torch.equal(torch.cat([getattr(batch, name) for batch in batches]), tensor)
        assert torch.equal(getattr(pictures.take(chosen), name), tensor[chosen])
        assert torch.equal(getattr(pictures.subset(chosen).take(torch.tensor([1])), name), tensor[:1])


def test_pictures_on_a_cpu_are_left_on_disk(pairs, settings_of, tmp_path):
    """Workers share one copy of the pictures in the page cache, however many there are."""
    prepared = prepare(settings_of(pairs), tmp_path / "cache")
    pictures = prepared.pictures("train")
    assert pictures.images is prepared.dataset.images and isinstance(pictures.images, np.memmap)


def test_empty_part_gives_empty_tensors(pairs, settings_of, tmp_path):
    """Without a test split its tensors have length 0."""
    prepared = prepare(settings_of(pairs, test_fraction=0), tmp_path / "cache")
    assert prepared.tensors("test").images.shape == (0, 3, 16, 16)
    assert prepared.summary()["depth_percentiles"]["test"] == {}


def test_truth_out_of_range_is_masked_and_counted(tmp_path, settings_of):
    """Depth beyond the range is masked in the batch, kept in the cache, and counted."""
    depth = np.full((16, 16), 2.0)
    depth[:4], depth[4:6], depth[6:8] = 0, 12.0, 0.05
    for scene in range(3):
        write_pair(tmp_path / "p", f"s{scene}/x", depth)
    prepared = prepare(settings_of(tmp_path / "p"), tmp_path / "cache")
    mask = prepared.tensors("train").mask[0, 0]
    assert mask[8:].all() and not mask[:8].any()
    assert prepared.dataset.depth.max() == pytest.approx(12.0)
    summary = prepared.summary()
    assert summary["valid_fraction"] == pytest.approx(12 / 16)
    assert summary["out_of_range_fraction"] == pytest.approx(4 / 12)
    assert summary["depth_percentiles"]["train"]["p50"] == pytest.approx(2.0)


def test_summary_is_json(pairs, settings_of, tmp_path):
    """The summary survives JSON and counts pictures and scenes of each part."""
    prepared = prepare(settings_of(pairs), tmp_path / "cache")
    summary = json.loads(json.dumps(prepared.summary()))
    assert summary["images"] == {"train": 8, "val": 2, "test": 2}
    assert summary["scenes"] == {"train": 4, "val": 1, "test": 1}
    assert summary["scenes_shared_with_train"] == {"val": 0, "test": 0}
    assert summary["identity"] == prepared.identity
    assert summary["fingerprint"] == prepared.dataset.fingerprint
    random = prepare(settings_of(pairs, split="random"), tmp_path / "cache").summary()
    assert random["scenes_shared_with_train"]["val"] > 0


def test_identity_follows_what_matters(pairs, settings_of, tmp_path):
    """Paths don't count; size, range, split and content do; settings that change nothing don't."""

    def identity(root: Path = pairs, **changes) -> str:
        return prepare(settings_of(root, **changes), tmp_path / "cache").identity

    same = [identity(), identity(shutil.copytree(pairs, tmp_path / "copy")), identity(train_images=100)]
    assert len(set(same)) == 1
    others = [
        identity(image_size=24),
        identity(depth_range=(0.1, 3.0)),
        identity(split_seed=1),
        identity(train_images=3),
    ]
    cv2.imwrite(str(pairs / "scene_0/000.png"), np.zeros((24, 32, 3), np.uint8))
    assert len({same[0], *others, identity()}) == 6


def test_workers_open_without_the_source(pairs, settings_of, tmp_path):
    """By its fingerprint a cache opens when the pictures are gone; a missing one is an error."""
    prepared = prepare(settings_of(pairs), tmp_path / "cache")
    shutil.rmtree(pairs)
    again = open_prepared(settings_of(pairs), tmp_path / "cache", prepared.dataset.fingerprint)
    assert again.identity == prepared.identity
    assert torch.equal(again.tensors("val").depth, prepared.tensors("val").depth)
    with pytest.raises(DataError, match="is missing"):
        open_prepared(settings_of(pairs), tmp_path / "cache", "0" * 32)


# Real pictures, where they are


def real(name: str) -> Path:
    """A folder of real pictures, or a skip that says how to give it."""
    root = Path(os.environ.get("SWEEP_REAL_DATA", Path(__file__).parents[3] / "shared" / "data"))
    if not (root / name).is_dir():
        pytest.skip(f"no real pictures at {root / name}; set SWEEP_REAL_DATA to the folder that holds {name}/")
    return root / name


def test_real_diode_pair(tmp_path):
    """A true pair of DIODE has the right shape, mask and depth."""
    source = open_source(DataSettings(source=f"diode:{real('diode')}", scenes="indoors"))
    image, depth = source.load(source.items()[0])
    assert image.shape == (768, 1024, 3) and depth.shape == (768, 1024) and depth.dtype == np.float32
    assert source.items()[0].scene == "scene_00019"
    assert 0.5 < depth[depth > 0].min() < depth.max() < 50
    assert 0.5 < (depth > 0).mean() <= 1


def test_real_pairs(tmp_path):
    """Scenes of the NYU subset are split as their folders say, with val carved from the training scenes."""
    for folder, count in (("train", 12), ("test", 4)):
        (tmp_path / "nyu" / folder).mkdir(parents=True)
        for scene in sorted((real("nyu") / folder).iterdir())[:count]:
            (tmp_path / "nyu" / folder / scene.name).symlink_to(scene)
    prepared = prepare(DataSettings(source=f"pairs:{tmp_path / 'nyu'}", image_size=32), tmp_path / "cache")
    summary = prepared.summary()
    assert summary["scenes"] == {"train": 10, "val": 2, "test": 4}
    assert 0.7 < summary["valid_fraction"] < 0.85 and summary["out_of_range_fraction"] < 0.01
    assert 1 < summary["depth_percentiles"]["train"]["p50"] < 5
