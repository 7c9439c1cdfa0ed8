"""Splits: by folder, by scene, at random; too few scenes; limits."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from depth_loss_sweep.data.errors import DataError
from depth_loss_sweep.data.settings import DataSettings
from depth_loss_sweep.data.sources import Item
from depth_loss_sweep.data.split import Split, pooled, split_dataset


def scenes_of(split: Split, scenes: list[str]) -> dict[str, set[str]]:
    """The scenes of each part."""
    return {part: {scenes[i] for i in split.part(part)} for part in ("train", "val", "test")}


def names(count: int, each: int = 1) -> list[str]:
    """Scene names, each so many times."""
    return [f"scene_{i}" for i in range(count) for _ in range(each)]


@given(st.integers(3, 60), st.integers(1, 5), st.integers(0, 3), st.sampled_from(["scene", "random"]))
def test_splits_are_complete_and_disjoint(count, each, seed, mode):
    """Every picture is in exactly one part, none of which is empty."""
    scenes = names(count, each)
    split = split_dataset(scenes, [None] * len(scenes), DataSettings(split=mode, split_seed=seed))
    everything = np.concatenate([split.train, split.val, split.test])
    assert sorted(everything) == list(range(len(scenes)))
    assert min(len(split.train), len(split.val), len(split.test)) >= 1
    if mode == "scene":
        parts = scenes_of(split, scenes)
        assert not parts["train"] & parts["val"] and not (parts["train"] | parts["val"]) & parts["test"]


def test_fractions_are_of_the_scenes():
    """20 scenes at 15 % each: 14, 3 and 3."""
    scenes = names(20, 3)
    split = split_dataset(scenes, [None] * 60, DataSettings(split="scene"))
    assert {part: len(found) for part, found in scenes_of(split, scenes).items()} == {"train": 14, "val": 3, "test": 3}


def test_the_seed_decides():
    """The same seed gives the same split, another one another."""
    scenes = names(40)
    splits = [split_dataset(scenes, [None] * 40, DataSettings(split_seed=seed)) for seed in (0, 0, 1)]
    assert np.array_equal(splits[0].val, splits[1].val)
    assert not np.array_equal(splits[0].val, splits[2].val)


@pytest.mark.parametrize(("count", "fraction"), [(2, 0.15), (1, 0.15), (1, 0.0)])
def test_too_few_scenes_say_how_many(count, fraction):
    """Too few scenes for a validation and a test split is an error with both numbers."""
    with pytest.raises(DataError, match=f"has {count} scenes?; a split by scenes needs {2 + (fraction > 0)}"):
        split_dataset(names(count, 9), [None] * 9 * count, DataSettings(test_fraction=fraction))


def test_no_test_split_on_request():
    """test_fraction = 0 leaves the test part empty."""
    assert len(split_dataset(names(2), [None] * 2, DataSettings(test_fraction=0)).test) == 0


def test_auto_follows_folders_that_hold_a_train():
    """With train/ and test/ the test folder is the test part, and val is carved from train by scene."""
    scenes = [*names(10, 2), "t1", "t2"]
    folders = ["train"] * 20 + ["test"] * 2
    split = split_dataset(scenes, folders, DataSettings(val_fraction=0.2))
    parts = scenes_of(split, scenes)
    assert split.test.tolist() == [20, 21]
    assert len(parts["val"]) == 2 and not parts["val"] & parts["train"]
    assert len(split.train) == 16


def test_auto_goes_by_scene_without_a_train():
    """val/ alone is no split: everything is pooled."""
    split = split_dataset(names(10), ["val"] * 10, DataSettings())
    assert (len(split.train), len(split.val), len(split.test)) == (6, 2, 2)


@pytest.mark.parametrize("mode", ["auto", "folders"])
def test_test_pictures_alone_are_all_test(mode):
    """Where the only folder is test/, nothing is carved from it; a split by scene on request pools them."""
    split = split_dataset(names(6), ["test"] * 6, DataSettings(split=mode))
    assert (len(split.train), len(split.val), len(split.test)) == (0, 0, 6)
    assert len(split_dataset(names(6), ["test"] * 6, DataSettings(split="scene")).train) == 4


def test_folders_are_taken_as_they_are():
    """Three folders, three parts; a missing test stays empty."""
    settings = DataSettings(split="folders")
    split = split_dataset(["a", "b", "c"], ["test", "train", "val"], settings)
    assert (split.test.tolist(), split.train.tolist(), split.val.tolist()) == ([0], [1], [2])
    assert len(split_dataset(["b", "c"], ["train", "val"], settings).test) == 0


@pytest.mark.parametrize(
    ("scenes", "folders", "message"),
    [
        (["a", "b"], ["val", "test"], "has no train/ folder"),
        (["a", "b"], ["train", None], "1 picture lies beside train/"),
        (["a", "a"], ["train", "train"], "no val/ folder and 1 training scene"),
    ],
)
def test_folders_that_are_no_split(scenes, folders, message):
    """split = "folders" needs a train/, everything in a folder, and scenes to carve val from."""
    with pytest.raises(DataError, match=message):
        split_dataset(scenes, folders, DataSettings(split="folders"))


def test_limits_draw_nested_subsets():
    """Fewer training images are a subset of more; the other parts stay as they are."""
    scenes = names(50, 2)

    def split(**limits):
        return split_dataset(scenes, [None] * 100, DataSettings(**limits))

    full, twenty, ten = split(), split(train_images=20), split(train_images=10, val_images=3)
    assert set(ten.train) < set(twenty.train) < set(full.train)
    assert (len(ten.train), len(ten.val)) == (10, 3) and set(ten.val) < set(full.val)
    assert np.array_equal(ten.test, full.test)
    assert len(split(train_images=1000).train) == len(full.train)


def test_official_test_pictures_that_are_pooled_are_told():
    """Where no folder is called train, test/ is no part of its own, which nobody should have to find out."""
    items = [Item(f"{i}", f"scene_{i}", "test" if i > 7 else None) for i in range(10)]
    assert "test/ beside no train/: all pictures are split by scene" in pooled(items, DataSettings())[0]
    for quiet in (items[:8], items[8:], [replace(item, folder=item.folder or "train") for item in items]):
        assert pooled(quiet, DataSettings()) == []
    assert pooled(items, DataSettings(split="scene")) == []
