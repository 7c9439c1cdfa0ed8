"""A look at data before training on it: counts, depth statistics, every bad file by name, and a contact sheet."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np

from data.cache import Progress, resize_depth, resize_image, write_atomically
from data.errors import DataError
from data.settings import DataSettings
from data.sources import Item, open_source
from data.split import split_dataset

PERCENTILES = (1, 5, 25, 50, 75, 95, 99)
SAMPLE_PER_PICTURE = 4096
"""Percentiles come from about so many evenly spaced pixels of each picture; all other numbers from every pixel."""

TILE_HEIGHT = 160
LABEL_HEIGHT = 18


@dataclass(frozen=True)
class CheckReport:
    """What a source holds. Depths are metres; fractions are of all pixels, out of range: of the valid ones."""

    source: str
    pictures: int
    scenes: int
    folders: dict[str, int]
    """Pictures in train/, val/, test/, and in none of them ("")."""
    sizes: dict[str, int]
    """Pictures of each size, as "HEIGHTxWIDTH"."""
    valid_fraction: float
    out_of_range_fraction: float
    depth_min: float | None
    depth_max: float | None
    depth_percentiles: dict[str, float]
    parts: dict[str, int]
    """Pictures that the settings would train, validate and test on; empty if they can't be split."""
    split_error: str | None
    bad: tuple[tuple[str, str], ...]
    """Key and reason of every picture that can't be loaded."""

    @property
    def ok(self) -> bool:
        """True if every picture loads, depth is there and the split works."""
        return not self.bad and self.split_error is None and self.depth_max is not None


@dataclass
class _Tally:
    """Sums over the pictures seen so far."""

    depth_range: tuple[float, float]
    pixels: int = 0
    valid: int = 0
    outside: int = 0
    low: float = float("inf")
    high: float = 0.0
    sizes: Counter[str] = field(default_factory=Counter)
    samples: list[np.ndarray] = field(default_factory=list)

    def add(self, depth: np.ndarray) -> None:
        values = depth[depth > 0]
        self.sizes[f"{depth.shape[0]}x{depth.shape[1]}"] += 1
        self.pixels, self.valid = self.pixels + depth.size, self.valid + values.size
        if values.size:
            within = (values >= self.depth_range[0]) & (values <= self.depth_range[1])
            self.outside += values.size - int(np.count_nonzero(within))
            self.low, self.high = min(self.low, float(values.min())), max(self.high, float(values.max()))
            self.samples.append(values[:: max(1, values.size // SAMPLE_PER_PICTURE)])

    def percentiles(self) -> dict[str, float]:
        if not self.samples:
            return {}
        values = np.percentile(np.concatenate(self.samples), PERCENTILES)
        return {f"p{p}": float(value) for p, value in zip(PERCENTILES, values, strict=True)}


def check_source(settings: DataSettings, on_progress: Progress | None = None) -> CheckReport:
    """Loads every picture of a source at its full size; goes on past bad ones and names them in the report.

    `on_progress(done, total)` is called after each picture. Raises DataError only if the source can't be opened.
    """
    source = open_source(settings)
    items, tally, good, bad = source.items(), _Tally(settings.depth_range), [], []
    for done, item in enumerate(items, start=1):
        try:
            tally.add(source.load(item)[1])
            good.append(item)
        except DataError as error:
            bad.append((item.key, str(error)))
        if on_progress is not None:
            on_progress(done, len(items))
    parts, split_error = _try_split(good, settings)
    return CheckReport(
        source=settings.source,
        pictures=len(items),
        scenes=len({item.scene for item in items}),
        folders=dict(Counter(item.folder or "" for item in items)),
        sizes=dict(tally.sizes),
        valid_fraction=tally.valid / max(1, tally.pixels),
        out_of_range_fraction=tally.outside / max(1, tally.valid),
        depth_min=tally.low if tally.valid else None,
        depth_max=tally.high if tally.valid else None,
        depth_percentiles=tally.percentiles(),
        parts=parts,
        split_error=split_error,
        bad=tuple(bad),
    )


def _try_split(items: Sequence[Item], settings: DataSettings) -> tuple[dict[str, int], str | None]:
    try:
        split = split_dataset([item.scene for item in items], [item.folder for item in items], settings)
    except DataError as error:
        return {}, str(error)
    return {part: len(split.part(part)) for part in ("train", "val", "test")}, None


# The contact sheet -----------------------------------------------------------------------------------------------


def preview(settings: DataSettings, output: Path, count: int = 12) -> Path:
    """Writes a PNG of `count` pictures, evenly spaced over the source, each beside its depth and under its scene.

    Pictures are shown as training sees them, at `settings.image_size`. Depth runs from blue (far) to red (near) on
    one scale for the sheet; black is invalid. Raises DataError for a bad picture or an output that can't be written.
    """
    if count < 1:
        raise DataError(f"a preview of {count} pictures was asked for; expected at least 1")
    source = open_source(settings)
    items = source.items()
    chosen = [items[i] for i in np.unique(np.linspace(0, len(items) - 1, min(count, len(items))).astype(int))]
    loaded = [source.load(item) for item in chosen]
    images = [resize_image(image, settings.image_size) for image, _ in loaded]
    depths = [resize_depth(depth, settings.image_size) for _, depth in loaded]
    low, high = _scale(depths)
    tiles = [_tile(*parts, low, high) for parts in zip(chosen, images, depths, strict=True)]
    encoded = cv2.imencode(".png", _grid(tiles))[1]
    try:
        write_atomically(output, encoded.tobytes())
    except OSError as error:
        raise DataError(f"the preview {output} cannot be written: {error.strerror}") from None
    return output


def _scale(depths: Sequence[np.ndarray]) -> tuple[float, float]:
    valid = np.concatenate([depth[depth > 0] for depth in depths])
    if not valid.size:
        return 0.0, 1.0
    low, high = np.percentile(valid, (1, 99))
    return float(low), float(max(high, low + 1e-6))


def _tile(item: Item, image: np.ndarray, depth: np.ndarray, low: float, high: float) -> np.ndarray:
    """One labelled picture beside its depth, BGR."""
    size = (max(1, round(TILE_HEIGHT * image.shape[1] / image.shape[0])), TILE_HEIGHT)
    nearness = (255 * ((high - np.clip(depth, low, high)) / (high - low))).astype(np.uint8)
    coloured = cv2.applyColorMap(nearness, cv2.COLORMAP_TURBO)
    coloured[depth <= 0] = 0
    halves = [cv2.resize(half, size, interpolation=cv2.INTER_NEAREST) for half in (image[..., ::-1], coloured)]
    tile = np.hstack(halves)
    label = np.full((LABEL_HEIGHT, tile.shape[1], 3), 255, np.uint8)
    median = f"  {np.median(depth[depth > 0]):.1f} m" if (depth > 0).any() else "  no depth"
    scene = item.scene.encode(errors="replace").decode()  # OpenCV crashes on a name that is not UTF-8
    cv2.putText(label, scene + median, (4, 13), cv2.FONT_HERSHEY_SIMPLEX, 0.4, (0, 0, 0), 1, cv2.LINE_AA)
    return cv2.copyMakeBorder(np.vstack([label, tile]), 2, 2, 2, 2, cv2.BORDER_CONSTANT, value=(255, 255, 255))


def _grid(tiles: Sequence[np.ndarray]) -> np.ndarray:
    columns = min(len(tiles), 3 if len(tiles) > 4 else 2)
    blank = np.full_like(tiles[0], 255)
    padded = [*tiles, *[blank] * (-len(tiles) % columns)]
    return np.vstack([np.hstack(padded[start : start + columns]) for start in range(0, len(padded), columns)])
