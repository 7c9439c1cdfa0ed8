"""Whether depth is there to learn from and to be judged by: what a picture's depth map holds, as it is and at training size.

A part of the data without a single valid pixel within the depth range is refused, with the setting that would help; so is it
by `sweep data check`, from the same numbers.
"""

import hashlib
import itertools
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from depth_loss_sweep.data.cache import PREPROCESSING_VERSION, remembered
from depth_loss_sweep.data.resize import DepthResize, resize_depth
from depth_loss_sweep.data.settings import DataSettings
from depth_loss_sweep.data.sources import Item, Source
from depth_loss_sweep.data.split import PARTS, Part, Split
from depth_loss_sweep.words import counted

NOTABLE_LOSS = 0.1
"""Resizing that loses more than this share of the valid pixels is spoken of."""

SSIM_WINDOW, SSIM_SIGMA, SSIM_LEAST_WEIGHT = 11, 1.5, 0.5 - 1e-6
"""The rule by which the training loss counts SSIM's windows (`ssim_loss`): the centre and half of the weight are valid."""

SWITCHED = 'depth is resized by "any", since "area" leaves no valid depth (data.depth_resize)'
"""Said where the settings left the choice open."""

CALLED: dict[Part, str] = {"train": "training", "val": "validation", "test": "test"}


@dataclass(frozen=True)
class Seen:
    """What training sees of a picture's depth: shares of the pixels, and the number of SSIM's windows."""

    valid: float
    within: float
    windows: int


@dataclass(frozen=True)
class Look:
    """What one depth map holds: numbers of pixels at its full size, metres, and what resizing makes of it."""

    pixels: int
    valid: int
    within: int
    low: float
    high: float
    seen: Mapping[DepthResize, Seen]
    """By the ways of resizing that were tried."""

    def at_size(self, how: DepthResize) -> Seen:
        """What training sees; where only another way was tried, since it loses little, what that leaves."""
        return self.seen.get(how) or next(iter(self.seen.values()))


def candidates(settings: DataSettings) -> tuple[DepthResize, ...]:
    """The ways of resizing that the settings leave open, the preferred one first."""
    return ("area", "any") if settings.depth_resize == "auto" else (settings.depth_resize,)


def look_at(depth: np.ndarray, settings: DataSettings) -> Look:
    """Looks at a depth map (H, W) in metres. Another way of resizing is tried only where the one before loses much."""
    values = depth[depth > 0]
    share, seen = values.size / depth.size, dict[DepthResize, Seen]()
    for how in candidates(settings):
        before = next(iter(seen.values()), None)
        if before is None or not before.within or loses(share, before.valid):
            seen[how] = see(depth, settings, how)
    low, high = (float(values.min()), float(values.max())) if values.size else (np.inf, 0.0)
    return Look(depth.size, values.size, _count_within(values, settings), low, high, seen)


def see(depth: np.ndarray, settings: DataSettings, how: DepthResize) -> Seen:
    """What training sees of a depth map (H, W) in metres."""
    small = resize_depth(depth, settings.image_size, how)
    within = (small >= settings.depth_range[0]) & (small <= settings.depth_range[1])
    return Seen(float(np.mean(small > 0)), float(np.mean(within)), ssim_windows(within))


def loses(before: float, after: float) -> bool:
    """Whether resizing loses so much of the valid share of pixels that it is spoken of."""
    return after < (1 - NOTABLE_LOSS) * before


def _count_within(depth: np.ndarray, settings: DataSettings) -> int:
    low, high = settings.depth_range
    return int(np.count_nonzero((depth >= low) & (depth <= high)))


def ssim_windows(mask: np.ndarray) -> int:
    """How many of SSIM's windows count in a mask (H, W) of valid pixels."""
    radius = SSIM_WINDOW // 2
    inside = np.s_[radius:-radius, radius:-radius]
    weight = cv2.GaussianBlur(mask.astype(np.float32), (SSIM_WINDOW, SSIM_WINDOW), SSIM_SIGMA)
    return int(np.count_nonzero(mask[inside] & (weight[inside] >= SSIM_LEAST_WEIGHT)))


# Which way of resizing leaves something --------------------------------------------------------------------------

Usable = Mapping[Part, DepthResize | None]
"""For each part that holds pictures, the first candidate that leaves it any valid depth within the range, if one does."""


def find_usable(
    source: Source,
    items: Sequence[Item],
    split: Split,
    settings: DataSettings,
    fingerprint: str,
    cache_root: Path,
    on_look: Callable[[int], None],
) -> Usable:
    """Looks at pictures until each part has shown some; `on_look` hears of each one. Remembered beside the cache."""

    def scan() -> dict[Part, DepthResize | None]:
        looked = itertools.count(1)

        def looks(part: Part) -> Iterable[Look]:
            for index in split.part(part):
                on_look(next(looked))
                yield look_at(source.load(items[index])[1], settings)

        return {part: _first_usable(looks(part), settings) for part in PARTS if len(split.part(part))}

    what = [fingerprint, PREPROCESSING_VERSION, settings.image_size, settings.depth_range, settings.depth_resize]
    key = json.dumps(["usable", *what, {part: split.part(part).tolist() for part in PARTS}])
    name = hashlib.sha256(key.encode()).hexdigest()[:32]
    found: Usable = remembered(cache_root / "known" / f"{name}.json", scan)
    return found


def usable_of(looks: Mapping[Part, Sequence[Look]], settings: DataSettings) -> Usable:
    """The same of pictures that were all looked at."""
    return {part: _first_usable(found, settings) for part, found in looks.items() if found}


def _first_usable(looks: Iterable[Look], settings: DataSettings) -> DepthResize | None:
    preferred, *others = candidates(settings)
    left: set[DepthResize] = set()
    for each in looks:
        left |= {how for how, seen in each.seen.items() if seen.within}
        if preferred in left:
            return preferred
    return next((how for how in others if how in left), None)


def choose_resize(settings: DataSettings, usable: Usable) -> DepthResize:
    """How depth is resized. "auto" is "area", but where that leaves the training or the validation pictures nothing.

    Without either, the test pictures decide.
    """
    if settings.depth_resize != "auto":
        return settings.depth_resize
    deciding: list[Part] = [part for part in PARTS[:2] if part in usable] or list(usable)
    return "any" if any(usable[part] == "any" for part in deciding) else "area"


# What is refused -------------------------------------------------------------------------------------------------


def untrainable(split: Split, settings: DataSettings) -> str | None:
    """What is said of a source without anything to train on, whatever its pictures hold."""
    if len(split.train):
        return None
    return (
        f"{settings.source} holds {counted(len(split.test), 'test picture')} (its only folder is test/) and none to train on; "
        'expected train/ beside it. Models are judged on them by `sweep evaluate`; data.split = "scene" would train on some'
    )


def lacking(usable: Usable, how: DepthResize) -> Sequence[Part]:
    """The parts that hold pictures, but no depth to be used."""
    return [part for part, found in usable.items() if found is None or (how == "area" and found == "any")]


def refusal(part: Part, looks: Sequence[Look], settings: DataSettings, how: DepthResize) -> str:
    """Why a part without any usable depth is refused: what is there, what is expected, which key to set."""
    pictures = f"the {len(looks)} {CALLED[part]} pictures" if len(looks) > 1 else f"the only {CALLED[part]} picture"
    others = "" if part == "train" or settings.split == "random" else ', or draw others with data.split = "random"'
    unit = (
        f", set data.depth_scale where the unit is another ({settings.unit:.6g} m of whole numbers)"
        if settings.unit is not None
        else ""
    )
    low, high = settings.depth_range
    if not any(look.valid for look in looks):
        value = (
            f", set data.invalid_value where another says so (it is {settings.invalid_value})"
            if settings.unit is not None
            else ""
        )
        return f"no pixel of {pictures} holds valid depth; expected some: put them right{value}{others}"
    if not any(look.within for look in looks):
        least, most = min(look.low for look in looks), max(look.high for look in looks)
        return (
            f"all depth of {pictures} ({least:.4g} to {most:.4g} m) lies beyond data.depth_range = [{low:g}, {high:g}]; "
            f"widen it{unit}{others}"
        )
    valid = sum(look.valid for look in looks) / sum(look.pixels for look in looks)
    size = "x".join(map(str, settings.image_size))
    if how == "any":
        return f"at {size} no depth of {pictures} lies within data.depth_range = [{low:g}, {high:g}]; widen it{others}"
    return (
        f'data.depth_resize = "area" leaves {pictures} no valid depth at {size}, of {valid:.1%} at full size: it keeps a pixel '
        f"only where half of its area is valid; for sparse depth: --set data.depth_resize=any"
    )
