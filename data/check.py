"""A look at data before training on it: counts, depth statistics, every bad file by name, and a contact sheet."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean

import cv2
import numpy as np

from depth_loss_sweep.data.cache import Progress
from depth_loss_sweep.data.errors import BadFileError, DataError, MissingFileError
from depth_loss_sweep.data.guess import suggesting, suggestion
from depth_loss_sweep.data.png import encode_png, is_our_png
from depth_loss_sweep.data.resize import DepthResize, resize_depth, resize_image
from depth_loss_sweep.data.settings import DataSettings
from depth_loss_sweep.data.sources import Item, names_of, open_source
from depth_loss_sweep.data.split import PARTS, Part, Split, split_items
from depth_loss_sweep.data.truth import (
    SWITCHED,
    Look,
    candidates,
    choose_resize,
    lacking,
    look_at,
    loses,
    refusal,
    untrainable,
    usable_of,
)
from depth_loss_sweep.files import write_whole
from depth_loss_sweep.usercode import shown

PERCENTILES = (1, 5, 25, 50, 75, 95, 99)
SAMPLE_PER_PICTURE = 4096
"""Percentiles come from about so many evenly spaced pixels of each picture; all other numbers from every pixel."""

TILE_HEIGHT = 160
LABEL_HEIGHT = 18
PREVIEW = "preview"
"""The title that a contact sheet carries."""


@dataclass(frozen=True)
class AtTrainingSize:
    """What training sees at `image_size`, (height, width): fractions are of all pixels."""

    image_size: tuple[int, int]
    depth_resize: DepthResize
    valid_fraction: float
    usable_fraction: float
    """Valid and within the depth range."""
    ssim_windows: float
    """Windows of SSIM that count, on average over the pictures."""


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
    at_training_size: AtTrainingSize | None
    """None where no picture can be loaded."""
    parts: dict[str, int]
    """Pictures that the settings would train, validate and test on; empty if they can't be split."""
    split_error: str | None
    bad: tuple[tuple[str, str], ...]
    """Key and reason of every picture that can't be loaded."""
    bad_by_kind: dict[str, tuple[str, ...]]
    """The keys of these, by what is wrong with them, in words without names."""
    refusals: tuple[str, ...]
    """Why a study would not start, beside bad pictures."""
    notes: tuple[str, ...]
    """What is worth knowing before it starts."""

    @property
    def ok(self) -> bool:
        """True if a study on this source would start."""
        return not self.bad and not self.refusals


@dataclass
class _Tally:
    """What was found in the pictures seen so far."""

    settings: DataSettings
    looks: dict[Item, Look] = field(default_factory=dict)
    bad: list[tuple[str, str]] = field(default_factory=list)
    kinds: dict[str, list[str]] = field(default_factory=dict)
    sizes: Counter[str] = field(default_factory=Counter)
    depth_sizes: Counter[str] = field(default_factory=Counter)
    """Of depth that differs in size from its picture."""
    samples: list[np.ndarray] = field(default_factory=list)
    is_misplaced: bool = False
    """Whether a file isn't where the source expects it."""

    def add(self, item: Item, image: np.ndarray, depth: np.ndarray) -> None:
        values = depth[depth > 0]
        self.sizes[f"{image.shape[0]}x{image.shape[1]}"] += 1
        if depth.shape != image.shape[:2]:
            self.depth_sizes[f"{depth.shape[0]}x{depth.shape[1]}"] += 1
        self.looks[item] = look_at(depth, self.settings)
        self.samples.append(values[:: max(1, values.size // SAMPLE_PER_PICTURE)])

    def add_bad(self, item: Item, error: DataError) -> None:
        self.bad.append((item.key, str(error)))
        self.is_misplaced |= isinstance(error, MissingFileError)
        self.kinds.setdefault(error.kind if isinstance(error, BadFileError) else str(error), []).append(item.key)

    def total(self, count: Callable[[Look], int]) -> int:
        return sum(map(count, self.looks.values()))

    def percentiles(self) -> dict[str, float]:
        sample = np.concatenate([*self.samples, np.empty(0, np.float32)])
        values = np.percentile(sample, PERCENTILES) if sample.size else ()
        return {f"p{p}": float(value) for p, value in zip(PERCENTILES, values, strict=False)}


def check_source(settings: DataSettings, on_progress: Progress | None = None) -> CheckReport:
    """Loads every picture of a source, looks at its depth at full and at training size; goes on past bad ones.

    `on_progress(done, total)` is called after each picture. Raises DataError only if the source can't be opened.
    """
    with suggesting(settings.source):
        source = open_source(settings)
    items, tally = source.items(), _Tally(settings)
    for done, item in enumerate(items, start=1):
        try:
            tally.add(item, *source.load(item))
        except DataError as error:
            tally.add_bad(item, error)
        if on_progress is not None:
            on_progress(done, len(items))
    pixels, valid = tally.total(lambda look: look.pixels), tally.total(lambda look: look.valid)
    split = _try_split(items, settings)
    looks = {} if isinstance(split, str) else _looks_of_parts(split, items, tally.looks)
    usable = usable_of(looks, settings)
    how = choose_resize(settings, usable)
    refusals = [split] if isinstance(split, str) else [*filter(None, [untrainable(split, settings)])]
    refusals = refusals or [refusal(part, looks[part], settings, how) for part in lacking(usable, how)]
    return CheckReport(
        source=shown(settings.source),
        pictures=len(items),
        scenes=len({item.scene for item in items}),
        folders=dict(Counter(item.folder or "" for item in items)),
        sizes=dict(tally.sizes),
        valid_fraction=valid / max(1, pixels),
        out_of_range_fraction=(valid - tally.total(lambda look: look.within)) / max(1, valid),
        depth_min=min(look.low for look in tally.looks.values()) if valid else None,
        depth_max=max(look.high for look in tally.looks.values()) if valid else None,
        depth_percentiles=tally.percentiles(),
        at_training_size=_at_training_size(tally, how),
        parts={} if isinstance(split, str) else {part: len(split.part(part)) for part in PARTS},
        split_error=split if isinstance(split, str) else None,
        bad=tuple(tally.bad),
        bad_by_kind={kind: tuple(keys) for kind, keys in tally.kinds.items()},
        refusals=(*source.faults, *refusals),
        notes=(*source.notes, *_notes(tally, how), *_hints(tally)),
    )


def _try_split(items: Sequence[Item], settings: DataSettings) -> Split | str:
    """The split, or why there is none."""
    try:
        return split_items(items, settings)
    except DataError as error:
        return str(error)


def _looks_of_parts(split: Split, items: Sequence[Item], looks: Mapping[Item, Look]) -> dict[Part, list[Look]]:
    """What was seen of each part's pictures, as far as they could be loaded."""
    parts = {part: [items[index] for index in split.part(part)] for part in PARTS}
    return {part: [looks[item] for item in found if item in looks] for part, found in parts.items()}


def _at_training_size(tally: _Tally, how: DepthResize) -> AtTrainingSize | None:
    if not tally.looks:
        return None
    seen = [look.at_size(how) for look in tally.looks.values()]
    return AtTrainingSize(
        image_size=tally.settings.image_size,
        depth_resize=how,
        valid_fraction=fmean(each.valid for each in seen),
        usable_fraction=fmean(each.within for each in seen),
        ssim_windows=fmean(each.windows for each in seen),
    )


def _notes(tally: _Tally, how: DepthResize) -> list[str]:
    """What is worth knowing, though a study would start with it."""
    if not tally.looks:
        return []
    size = "x".join(map(str, tally.settings.image_size))
    seen = [look.at_size(how) for look in tally.looks.values()]

    def count(what: str, which: Callable[[Look], bool]) -> list[str]:
        keys = [item.key for item, look in tally.looks.items() if which(look)]
        return [f"{len(keys)} of {len(seen)} pictures {what} ({names_of(keys)})"] if keys else []

    notes = [SWITCHED] if how != candidates(tally.settings)[0] else []
    if tally.depth_sizes:
        found = ", ".join(f"{count} of {shape}" for shape, count in tally.depth_sizes.items())
        notes.append(f"depth differs in size from its picture ({found}): each is resized to {size} by itself")
    notes += count("hold no valid depth at all", lambda look: not look.valid)
    notes += count(
        "hold depth beyond the depth range only (data.depth_range)", lambda look: bool(look.valid) and not look.within
    )
    notes += count("hold some depth beyond the depth range", lambda look: 0 < look.within < look.valid)
    notes += count(f"lose all of it at {size}", lambda look: bool(look.within) and not look.at_size(how).within)
    notes += count(
        f"have no window for SSIM at {size} (of its 11x11 pixels, half must be valid): the term says nothing of them",
        lambda look: bool(look.at_size(how).within) and not look.at_size(how).windows,
    )
    before = fmean(look.valid / look.pixels for look in tally.looks.values())
    if how == "area" and loses(before, after := fmean(each.valid for each in seen)):
        notes.append(
            f"resizing to {size} loses {1 - after / before:.0%} of the valid depth; for sparse depth: --set data.depth_resize=any"
        )
    return notes


def _hints(tally: _Tally) -> list[str]:
    """What a source whose files aren't where it expects them looks like, where that is another."""
    hint = suggestion(tally.settings.source) if tally.is_misplaced else None
    return [hint] if hint else []


# The contact sheet -----------------------------------------------------------------------------------------------


def preview(settings: DataSettings, output: Path, count: int = 12) -> Path:
    """Writes a PNG of `count` pictures, evenly spaced over the source, each beside its depth and under its scene.

    Pictures are shown as training sees them, at `settings.image_size`. Depth runs from blue (far) to red (near) on
    one scale for the sheet; black is invalid. Raises DataError for a bad picture or an output that can't be written.
    """
    if count < 1:
        raise DataError(f"a preview of {count} pictures was asked for; expected at least 1")
    with suggesting(settings.source):
        source = open_source(settings)
    items = source.items()
    chosen = [items[i] for i in np.unique(np.linspace(0, len(items) - 1, min(count, len(items))).astype(int))]
    loaded = [source.load(item) for item in chosen]
    images = [resize_image(image, settings.image_size) for image, _ in loaded]
    looks = [look_at(depth, settings) for _, depth in loaded]
    how = choose_resize(settings, usable_of({"train": looks}, settings))
    depths = [resize_depth(depth, settings.image_size, how) for _, depth in loaded]
    low, high = _scale(depths)
    tiles = [_tile(*parts, low, high) for parts in zip(chosen, images, depths, strict=True)]
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        write_whole(output, encode_png(_grid(tiles), PREVIEW))
    except OSError as error:
        raise DataError(f"the preview {output} cannot be written: {error.strerror}") from None
    return output


def is_preview(path: Path) -> bool:
    """Whether a file is a contact sheet that `preview` wrote."""
    return is_our_png(path, PREVIEW)


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
