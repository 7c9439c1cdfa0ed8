"""From settings to pictures: open or build the cache, split it, hand out a part's pictures in batches on the device.

prepared = prepare(DataSettings(source="rooms", image_size=64), Path("runs/cache"))
for batch in prepared.pictures("train", device="cpu").batches(24): ...

torch comes with the first pictures that are taken: a coordinator, which takes none once they are known, does without.
"""

import hashlib
import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np

from data.cache import PREPROCESSING_VERSION, DepthDataset, Progress, build_cache, cache_folder, open_cache
from data.errors import DataError
from data.settings import DataSettings
from data.sources import open_source
from data.split import Split, split_dataset

if TYPE_CHECKING:
    from data.tensors import Batch, Pictures

Part = Literal["train", "val", "test"]
PARTS: tuple[Part, ...] = get_args(Part)
PERCENTILES = (1, 5, 25, 50, 75, 95, 99)
PERCENTILE_SAMPLE = 2_000_000
"""Depth percentiles of larger parts come from about so many evenly spaced pixels."""


@dataclass(frozen=True, eq=False)
class Prepared:
    """A dataset with its split and depth range: all that training needs to know of data. Equal to itself alone."""

    dataset: DepthDataset
    split: Split
    depth_range: tuple[float, float]
    settings: DataSettings
    identity: str
    """A hash of everything that determines the tensors: content, size, preprocessing, split and depth range."""

    def pictures(self, part: Part, device: str = "cpu") -> "Pictures":
        """A part's pictures, to be taken in batches on the device."""
        from data.tensors import Pictures

        stored = (self.dataset.images, self.dataset.depth)
        return Pictures.load(*stored, self.split.part(part), self.depth_range, device)

    def tensors(self, part: Part, device: str = "cpu", limit: int | None = None) -> "Batch":
        """A whole part, or its first `limit` pictures, as tensors; an empty part gives tensors of length 0."""
        return self.pictures(part, device).take(slice(limit))

    def keys(self, part: Part) -> tuple[str, ...]:
        """The keys of a part's pictures, in the order of `tensors`."""
        return tuple(self.dataset.keys[index] for index in self.split.part(part))

    def summary(self) -> dict[str, Any]:
        """What the data is, JSON-able: identity, counts, valid and out-of-range fractions, depth percentiles."""
        scenes = {part: {self.dataset.scenes[i] for i in self.split.part(part)} for part in PARTS}
        statistics = {part: _depth_statistics(self, part) for part in PARTS}
        counts = sum((Counter(entry["counts"]) for entry in statistics.values()), Counter())
        return {
            "source": self.settings.source,
            "fingerprint": self.dataset.fingerprint,
            "identity": self.identity,
            "image_size": list(self.settings.image_size),
            "depth_range": list(self.depth_range),
            "split": self.settings.split,
            "split_seed": self.settings.split_seed,
            "images": {part: len(self.split.part(part)) for part in PARTS},
            "scenes": {part: len(names) for part, names in scenes.items()},
            "scenes_shared_with_train": {part: len(scenes["train"] & scenes[part]) for part in ("val", "test")},
            "valid_fraction": counts["valid"] / max(1, counts["pixels"]),
            "out_of_range_fraction": counts["outside"] / max(1, counts["valid"]),
            "depth_percentiles": {part: entry["percentiles"] for part, entry in statistics.items()},
        }


def _depth_statistics(prepared: Prepared, part: Part) -> dict[str, Any]:
    """Pixel counts of a part, and percentiles of its depth within the range (empty if there is none)."""
    indices = prepared.split.part(part)
    low, high = prepared.depth_range
    pixels = len(indices) * int(np.prod(prepared.dataset.depth.shape[1:]))
    stride = max(1, pixels // PERCENTILE_SAMPLE)
    counts, samples = Counter(pixels=pixels), [np.empty(0, np.float32)]
    for index in indices:  # one picture at a time: a large dataset needn't fit into memory
        depth = prepared.dataset.depth[index].ravel()
        within = (depth >= low) & (depth <= high)
        valid = int(np.count_nonzero(depth > 0))
        counts.update(valid=valid, outside=valid - int(np.count_nonzero(within)))
        samples.append(depth[within][::stride])
    sample = np.concatenate(samples)
    values = np.percentile(sample, PERCENTILES) if sample.size else ()
    percentiles = {f"p{p}": float(value) for p, value in zip(PERCENTILES, values, strict=False)}
    return {"counts": counts, "percentiles": percentiles}


def prepare(settings: DataSettings, cache_root: Path, on_progress: Progress | None = None) -> Prepared:
    """Opens the source, builds the cache if it isn't there (`on_progress(done, total)`), and splits it.

    Raises DataError for a bad source, a bad picture, a damaged cache or too few scenes.
    """
    return _split(build_cache(open_source(settings), settings, cache_root, on_progress), settings)


def open_prepared(settings: DataSettings, cache_root: Path, fingerprint: str) -> Prepared:
    """Opens a cache that `prepare` built, without touching the source: what a worker does.

    Raises DataError if the cache is missing or damaged.
    """
    folder = cache_folder(cache_root, fingerprint, settings.image_size)
    if not folder.is_dir():
        raise DataError(f"the cache {folder} is missing; `sweep start` or `sweep resume` builds it")
    return _split(open_cache(folder), settings)


def _split(dataset: DepthDataset, settings: DataSettings) -> Prepared:
    split = split_dataset(dataset.scenes, dataset.folders, settings)
    parts = {
        "fingerprint": dataset.fingerprint,
        "image_size": list(settings.image_size),
        "preprocessing": PREPROCESSING_VERSION,
        "split": {part: split.part(part).tolist() for part in PARTS},
        "depth_range": list(settings.depth_range),
    }
    identity = hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
    return Prepared(dataset, split, settings.depth_range, settings, identity)
