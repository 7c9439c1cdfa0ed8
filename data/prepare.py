"""From settings to pictures: open or build the cache, split it, hand out a part's pictures in batches on the device.

prepared = prepare(DataSettings(source="rooms", image_size=64), Path("runs/cache"))
for batch in prepared.pictures("train", device="cpu").batches(24): ...

torch comes with the first pictures that are taken: a coordinator, which takes none once they are known, does without.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from depth_loss_sweep.data.cache import (
    PREPROCESSING_VERSION,
    DepthDataset,
    Progress,
    Pulse,
    build_cache,
    cache_folder,
    depth_resize,
    fingerprint_source,
    open_cache,
)
from depth_loss_sweep.data.crop import crop_mask
from depth_loss_sweep.data.errors import DataError, MissingFileError
from depth_loss_sweep.data.guess import suggesting
from depth_loss_sweep.data.settings import DataSettings
from depth_loss_sweep.data.sources import Item, Source, open_source, refuse_faults
from depth_loss_sweep.data.split import PARTS, Part, Split, pooled, split_dataset, split_items
from depth_loss_sweep.data.truth import (
    CALLED,
    SWITCHED,
    candidates,
    choose_resize,
    find_usable,
    lacking,
    look_at,
    refusal,
    untrainable,
)
from depth_loss_sweep.usercode import shown

if TYPE_CHECKING:
    from depth_loss_sweep.data.tensors import Batch, Pictures

PERCENTILES = (1, 5, 25, 50, 75, 95, 99)
SPARSE = 0.05
"""Of depth that is valid in fewer than so many of its pixels, a study says so when it is started."""

PERCENTILE_SAMPLE = 2_000_000
"""Depth percentiles of larger parts come from about so many evenly spaced pixels."""


@dataclass(frozen=True, eq=False)
class Prepared:
    """A dataset with its split and depth range: all that training needs to know of data. Equal to itself alone."""

    dataset: DepthDataset
    split: Split
    depth_range: tuple[float, float]
    settings: DataSettings
    """With the way of resizing depth that was chosen, where it was left open."""
    identity: str
    """A hash of everything that determines the tensors: content, size, preprocessing, split, depth range and crop."""
    notes: tuple[str, ...] = ()
    """What is worth knowing of how it was prepared, a line each."""

    def pictures(self, part: Part, device: str = "cpu") -> "Pictures":
        """A part's pictures, to be taken in batches on the device."""
        from depth_loss_sweep.data.tensors import Pictures

        stored = (self.dataset.images, self.dataset.depth)
        return Pictures.load(*stored, self.split.part(part), self.depth_range, device, self.inside(part))

    def inside(self, part: Part) -> np.ndarray | None:
        """(H, W) bool: the pixels whose truth counts in a part's pictures; None where all do, as they do in training."""
        height, width = self.dataset.depth.shape[1:]
        return None if part == "train" else crop_mask(self.settings.crop, height, width)

    def tensors(self, part: Part, device: str = "cpu", limit: int | None = None) -> "Batch":
        """A whole part, or its first `limit` pictures, as tensors; an empty part gives tensors of length 0."""
        return self.pictures(part, device).take(slice(limit))

    def keys(self, part: Part) -> tuple[str, ...]:
        """The keys of a part's pictures, in the order of `tensors`."""
        return tuple(self.dataset.keys[index] for index in self.split.part(part))

    @property
    def test_fingerprint(self) -> str:
        """What the test pictures are known by, at any size, so that readings of them can be counted."""
        parts = [self.dataset.fingerprint, *sorted(self.keys("test"))]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()

    def summary(self) -> dict[str, Any]:
        """What the data is, JSON-able: identity, counts, valid and out-of-range fractions, depth percentiles."""
        scenes = {part: {self.dataset.scenes[i] for i in self.split.part(part)} for part in PARTS}
        statistics = {part: _depth_statistics(self, part) for part in PARTS}
        counts = sum((Counter(entry["counts"]) for entry in statistics.values()), Counter())
        return {
            "source": shown(self.settings.source),
            "fingerprint": self.dataset.fingerprint,
            "identity": self.identity,
            "image_size": list(self.settings.image_size),
            "depth_resize": depth_resize(self.settings),
            "depth_range": list(self.depth_range),
            "split": self.settings.split,
            "split_seed": self.settings.split_seed,
            "images": {part: len(self.split.part(part)) for part in PARTS},
            "scenes": {part: len(names) for part, names in scenes.items()},
            "scenes_shared_with_train": {part: len(scenes["train"] & scenes[part]) for part in ("val", "test")},
            "images_without_depth": {part: entry["without"] for part, entry in statistics.items()},
            "valid_fraction": counts["valid"] / max(1, counts["pixels"]),
            "out_of_range_fraction": counts["outside"] / max(1, counts["valid"]),
            "depth_percentiles": {part: entry["percentiles"] for part, entry in statistics.items()},
        }


def _depth_statistics(prepared: Prepared, part: Part) -> dict[str, Any]:
    """Pixel counts of a part inside its crop, percentiles of its depth within the range, and pictures that have none."""
    indices, inside = prepared.split.part(part), prepared.inside(part)
    low, high = prepared.depth_range
    size = int(np.prod(prepared.dataset.depth.shape[1:])) if inside is None else int(inside.sum())
    pixels = len(indices) * size
    stride = max(1, pixels // PERCENTILE_SAMPLE)
    counts, samples, without = Counter(pixels=pixels), [np.empty(0, np.float32)], 0
    for index in indices:  # one picture at a time: a large dataset needn't fit into memory
        depth = prepared.dataset.depth[index].ravel() if inside is None else prepared.dataset.depth[index][inside]
        within = (depth >= low) & (depth <= high)
        valid = int(np.count_nonzero(depth > 0))
        counts.update(valid=valid, outside=valid - int(np.count_nonzero(within)))
        samples.append(depth[within][::stride])
        without += not within.any()
    sample = np.concatenate(samples)
    values = np.percentile(sample, PERCENTILES) if sample.size else ()
    percentiles = {f"p{p}": float(value) for p, value in zip(PERCENTILES, values, strict=False)}
    return {"counts": counts, "percentiles": percentiles, "without": without}


def without_depth(summary: Mapping[str, Any]) -> str | None:
    """What is said of pictures that hold no depth that counts, given `Prepared.summary`; None where all have some."""
    found = {part: number for part, number in summary["images_without_depth"].items() if number}
    if not found:
        return None
    counts = ", ".join(f"{number} of {summary['images'][part]} {CALLED[part]}" for part, number in found.items())
    return (
        f"{counts} pictures hold no valid depth within the depth range: nothing is learnt from these (sweep data check)"
    )


def sparse(summary: Mapping[str, Any]) -> str | None:
    """What is said where training sees next to no depth, given `Prepared.summary`."""
    share, how = summary["valid_fraction"], summary["depth_resize"]
    if share >= SPARSE or how == "any":
        return None
    return (
        f"only {share:.1%} of the pixels hold valid depth at training size, and few of SSIM's windows count: sweep data check says "
        f"whether --set data.depth_resize=any keeps more"
    )


def prepare(settings: DataSettings, cache_root: Path, on_progress: Progress | None = None) -> Prepared:
    """Opens the source, splits it, and builds the cache if it isn't there (`on_progress(done, total)`).

    Raises DataError for a bad source, a bad picture, a damaged cache or too few scenes.
    """
    return _prepare(settings, cache_root, on_progress, to_train=False)


def prepare_training(settings: DataSettings, cache_root: Path, on_progress: Progress | None = None) -> Prepared:
    """`prepare`, but what can't be trained on or judged by is refused before the cache is built.

    Raises DataError where there are no training pictures, and where a part holds no valid depth within the depth range.
    """
    return _prepare(settings, cache_root, on_progress, to_train=True)


def _prepare(settings: DataSettings, cache_root: Path, on_progress: Progress | None, to_train: bool) -> Prepared:
    source, items = _sound_items(settings)
    split = split_items(items, settings)
    if to_train and (reason := untrainable(split, settings)):
        raise DataError(reason)
    dataset, chosen, notes = _cached(source, items, split, settings, cache_root, on_progress, to_train)
    return replace(_split(dataset, chosen), notes=notes)


def prepare_whole(settings: DataSettings, cache_root: Path, on_progress: Progress | None = None) -> Prepared:
    """As `prepare`, with every picture of the source in its test part, whatever the split; there is nothing to train on."""
    source, items = _sound_items(settings)
    none = np.empty(0, np.int64)
    whole = Split(none, none, np.arange(len(items)))
    try:
        split = split_items(items, settings)  # depth is resized as for each of its parts
    except DataError:  # too few scenes
        split = whole
    dataset, chosen, notes = _cached(source, items, split, settings, cache_root, on_progress, to_train=False)
    return replace(with_split(dataset, whole, chosen), notes=notes)


def _sound_items(settings: DataSettings) -> tuple[Source, Sequence[Item]]:
    with suggesting(settings.source):
        source = open_source(settings)
    refuse_faults(source)
    return source, source.items()


def _cached(
    source: Source,
    items: Sequence[Item],
    split: Split,
    settings: DataSettings,
    cache_root: Path,
    on_progress: Progress | None,
    to_train: bool,
) -> tuple[DepthDataset, DataSettings, tuple[str, ...]]:
    """The pictures in a cache, the settings with the way of resizing that was chosen, and what is worth saying of both."""
    with suggesting(settings.source, MissingFileError):  # what is damaged or can't be read is of no other layout
        fingerprint = fingerprint_source(source, items, cache_root, on_progress)
    usable = find_usable(source, items, split, settings, fingerprint, cache_root, Pulse(on_progress))
    how = choose_resize(settings, usable)
    for part in lacking(usable, how) if to_train else ():  # looked at once more, to say why
        looks = [look_at(source.load(items[index])[1], settings) for index in split.part(part)]
        raise DataError(refusal(part, looks, settings, how))
    notes = (*source.notes, *pooled(items, settings), *([SWITCHED] if how != candidates(settings)[0] else []))
    chosen = settings.model_copy(update={"depth_resize": how})
    return build_cache(source, chosen, cache_root, on_progress, fingerprint), chosen, notes


def open_prepared(settings: DataSettings, cache_root: Path, fingerprint: str) -> Prepared:
    """Opens a cache that `prepare` built, by its settings, without touching the source: what a worker does.

    Raises DataError if the cache is missing or damaged.
    """
    folder = cache_folder(cache_root, fingerprint, settings.image_size, depth_resize(settings))
    if not folder.is_dir():
        raise DataError(f"the cache {folder} is missing; `sweep start` or `sweep resume` builds it")
    return _split(open_cache(folder), settings)


def _split(dataset: DepthDataset, settings: DataSettings) -> Prepared:
    return with_split(dataset, split_dataset(dataset.scenes, dataset.folders, settings), settings)


def with_split(dataset: DepthDataset, split: Split, settings: DataSettings) -> Prepared:
    """An open cache divided by a split, whose identity says so: what is remembered of other parts isn't found for these."""
    parts = {
        "fingerprint": dataset.fingerprint,
        "image_size": list(settings.image_size),
        "preprocessing": PREPROCESSING_VERSION,
        "split": {part: split.part(part).tolist() for part in PARTS},
        "depth_range": list(settings.depth_range),
    }
    if depth_resize(settings) == "any":  # "area" was there before there was a choice
        parts["depth_resize"] = "any"
    if settings.crop != "none":  # it came later
        parts["crop"] = settings.crop
    identity = hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
    return Prepared(dataset, split, settings.depth_range, settings, identity)
