"""Whether depth is there to learn from: at which size, how resized, and what is said where it isn't."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from depth_loss_sweep.data.errors import DataError
from depth_loss_sweep.data.prepare import open_prepared, prepare, prepare_training, without_depth
from depth_loss_sweep.data.settings import DataSettings
from depth_loss_sweep.data.truth import ssim_windows
from depth_loss_sweep.model.losses import SSIM_MIN_WEIGHT, SSIM_WINDOW, _gaussian_filter, ssim_per_image

from .conftest import write_pair


def sparse(shape: tuple[int, int] = (48, 64), keep: float = 0.05, seed: int = 0) -> np.ndarray:
    """Depth from 2 to 6 m at a few pixels, as projected LiDAR has it."""
    rng = np.random.default_rng(seed)
    return np.where(rng.random(shape) < keep, rng.uniform(2, 6, shape), 0)


def write_scenes(root, depth_of, scenes=6, folder=""):
    """One picture a scene, with the depth that `depth_of(scene)` gives."""
    for scene in range(scenes):
        write_pair(root, f"{folder}s{scene}/x", depth_of(scene))
    return root


# SSIM's windows


@given(st.integers(0, 2**32 - 1), st.floats(0, 1), st.tuples(st.integers(11, 40), st.integers(11, 40)))
def test_windows_are_counted_as_the_loss_counts_them(seed, keep, shape):
    """The number of windows is the loss's own, for any mask; and none counts exactly where the term says nothing."""
    mask = np.random.default_rng(seed).random(shape) < keep
    given_mask = torch.from_numpy(mask)[None, None]
    radius = SSIM_WINDOW // 2
    weight = _gaussian_filter(given_mask.float())
    counted = given_mask[..., radius:-radius, radius:-radius] & (weight >= SSIM_MIN_WEIGHT)
    assert ssim_windows(mask) == int(counted.sum())
    ones = torch.ones(1, 1, *shape)
    assert bool(ssim_windows(mask)) == bool(ssim_per_image(ones, ones, given_mask, 10.0).counts)


# Resizing sparse depth


def test_sparse_depth_is_kept_on_request(tmp_path, settings_of):
    """By "any" a cell with one valid pixel trains, in a cache of its own beside that of "area"."""
    write_scenes(tmp_path / "p", lambda scene: sparse(keep=0.3, seed=scene))
    area = prepare(settings_of(tmp_path / "p"), tmp_path / "cache")
    kept = prepare(settings_of(tmp_path / "p", depth_resize="any"), tmp_path / "cache")
    assert kept.dataset.folder.name == area.dataset.folder.name.replace("16x16", "16x16-any")
    assert kept.dataset.fingerprint == area.dataset.fingerprint and kept.identity != area.identity
    assert (kept.dataset.depth > 0).mean() > 0.9 > 0.3 > (area.dataset.depth > 0).mean()
    again = open_prepared(kept.settings, tmp_path / "cache", kept.dataset.fingerprint)
    assert np.array_equal(again.dataset.depth, kept.dataset.depth)
    assert kept.summary()["depth_resize"] == "any"


@pytest.mark.parametrize("said", [{}, {"depth_resize": "area"}])
def test_area_keeps_the_identity_it_always_had(tmp_path, said):
    """Said or left open, "area" finds the caches and runs of before there was a choice."""
    prepared = prepare(DataSettings(image_size=16, rooms=4, views=1, **said), tmp_path)
    assert prepared.identity == "331f0626664e3af0133ab39d22d5cc5e2bc3d4086df8dae898b75eccd8a79e2d"
    assert prepared.dataset.folder.name == "b79b5bae1f0f5d2982204015b39907bf-16x16-v1"


def test_depth_that_area_would_lose_whole_is_kept(tmp_path, settings_of):
    """Where "area" leaves nothing to train on, the default is "any", and says so."""
    write_scenes(tmp_path / "p", lambda scene: sparse(seed=scene))
    prepared = prepare_training(settings_of(tmp_path / "p"), tmp_path / "cache")
    assert prepared.settings.depth_resize == "any" and prepared.dataset.depth.any()
    assert any('resized by "any"' in note for note in prepared.notes)
    assert prepared.identity == prepare(prepared.settings, tmp_path / "cache").identity


def test_area_on_request_says_what_it_lost(tmp_path, settings_of):
    """The error names the cause and the key, before any picture is prepared."""
    write_scenes(tmp_path / "p", lambda scene: sparse(seed=scene))
    with pytest.raises(DataError, match=r"leaves the 4 training pictures no valid depth at 16x16, of \d.\d% .*=any"):
        prepare_training(settings_of(tmp_path / "p", depth_resize="area"), tmp_path / "cache")
    assert not list((tmp_path / "cache").glob("*-v1"))


# What is refused


@pytest.mark.parametrize(("part", "called"), [("val", "validation"), ("test", "test")])
def test_a_part_beyond_the_range_is_refused(tmp_path, settings_of, part, called):
    """It could not judge anything: what is there, and which keys would help, before any picture is prepared."""
    for folder in ("train", "val", "test"):
        far = 20.0 if folder == part else 2.0
        write_scenes(tmp_path / "p", lambda _, far=far: np.full((24, 32), far), scenes=2, folder=f"{folder}/")
    settings = settings_of(tmp_path / "p")
    with pytest.raises(DataError, match=rf"all depth of the 2 {called} pictures \(20 to 20 m\) lies beyond") as caught:
        prepare_training(settings, tmp_path / "cache")
    assert all(key in str(caught.value) for key in ("data.depth_range", "data.depth_scale", 'data.split = "random"'))
    assert not list((tmp_path / "cache").glob("*-v1"))
    assert len(prepare(settings, tmp_path / "cache").split.part(part)) == 2


def test_training_pictures_without_depth_are_refused(tmp_path, settings_of):
    """Nothing valid at all is another cause than a range, and has another key."""
    write_scenes(tmp_path / "p", lambda _: np.zeros((24, 32)))
    with pytest.raises(DataError, match=r"no pixel of the 4 training pictures holds valid depth.*data.invalid_value"):
        prepare_training(settings_of(tmp_path / "p"), tmp_path / "cache")


def test_single_pictures_without_depth_are_counted(tmp_path, settings_of):
    """They train nothing, but a study may have some."""
    write_scenes(tmp_path / "p", lambda scene: np.full((24, 32), 0 if scene == 0 else 2.0), folder="train/")
    prepared = prepare_training(settings_of(tmp_path / "p", val_fraction=0.4), tmp_path / "cache")
    summary = prepared.summary()
    assert sum(summary["images_without_depth"].values()) == 1
    assert "1 of " in without_depth(summary) and "hold no valid depth" in without_depth(summary)
    write_pair(tmp_path / "p", "train/s0/x", np.full((24, 32), 2.0))
    assert without_depth(prepare_training(settings_of(tmp_path / "p"), tmp_path / "cache").summary()) is None


def test_test_pictures_alone_are_judged_but_not_trained_on(tmp_path, settings_of):
    """A source whose only folder is test/ is all test; training on it is refused before anything is read."""
    write_scenes(tmp_path / "p", lambda _: np.full((24, 32), 2.0), folder="test/")
    settings = settings_of(tmp_path / "p")
    assert len(prepare(settings, tmp_path / "judged").split.test) == 6
    with pytest.raises(DataError, match=r"holds 6 test pictures .* and none to train on; expected train/"):
        prepare_training(settings, tmp_path / "cache")
    assert not (tmp_path / "cache").exists()


def test_what_was_seen_of_the_truth_is_remembered(tmp_path, settings_of, monkeypatch):
    """The next start decodes no picture to find out again."""
    write_scenes(tmp_path / "p", lambda _: np.full((24, 32), 2.0))
    first = prepare_training(settings_of(tmp_path / "p"), tmp_path / "cache")
    monkeypatch.setattr("depth_loss_sweep.data.pictures.cv2.imdecode", lambda *_: pytest.fail("a picture was decoded"))
    assert prepare_training(settings_of(tmp_path / "p"), tmp_path / "cache").identity == first.identity
