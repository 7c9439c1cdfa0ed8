"""Pictures and depth maps at the size that is trained on: what is invalid in a depth map never mixes with what is valid."""

from typing import Literal

import cv2
import numpy as np

DepthResize = Literal["area", "any"]
"""How a pixel of the smaller depth map comes from the pixels it covers: see `resize_depth`."""

LEAST_VALID_AREA = 0.5
"""For "area": a resized depth pixel is valid if at least this share of the area it covers was."""


def resize_image(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """A (H, W, 3) uint8 picture at `size` = (height, width): area average, bilinear where a side grows.

    The aspect ratio is not kept: a 4:3 picture becomes as square as `size` is.
    """
    if image.shape[:2] == size:
        return image
    return cv2.resize(image, size[::-1], interpolation=cv2.INTER_AREA if _shrinks(image, size) else cv2.INTER_LINEAR)


def resize_depth(depth: np.ndarray, size: tuple[int, int], how: DepthResize = "area") -> np.ndarray:
    """A (H, W) float32 depth map at `size` = (height, width), 0 = invalid, invalid pixels never mixed in.

    "area": a pixel becomes the mean of the valid depth in the area it covers, and is invalid if less than half of that
    area is valid; where a side grows, the nearest pixel is taken. "any", for sparse depth: a pixel becomes the lower
    median of the valid pixels whose centres it covers, a depth that was measured, and is invalid only if there are none;
    along a side that grows, the nearest pixel is taken.
    """
    if depth.shape == size:
        return depth
    return _median_of_valid(depth, size) if how == "any" else _mean_of_area(depth, size)


def _mean_of_area(depth: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    if not _shrinks(depth, size):
        return cv2.resize(depth, size[::-1], interpolation=cv2.INTER_NEAREST)
    valid = (depth > 0).astype(np.float32)
    area = cv2.resize(valid, size[::-1], interpolation=cv2.INTER_AREA)
    total = cv2.resize(depth * valid, size[::-1], interpolation=cv2.INTER_AREA)
    enough = area >= LEAST_VALID_AREA - 1e-5  # float sums of a half are a hair off it
    return np.divide(total, area, out=np.zeros_like(total), where=enough)


def _shrinks(array: np.ndarray, size: tuple[int, int]) -> bool:
    # OpenCV averages over areas only if both sides shrink.
    return array.shape[0] >= size[0] and array.shape[1] >= size[1]


def _median_of_valid(depth: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Sorts all valid pixels at once, by cell and then by depth: positive floats are ordered as their bits are."""
    height, width = (max(sides) for sides in zip(depth.shape, size, strict=True))
    if (height, width) != depth.shape:
        depth = cv2.resize(depth, (width, height), interpolation=cv2.INTER_NEAREST)
    rows, columns = np.nonzero(depth > 0)
    cells = _cells(height, size[0])[rows] * size[1] + _cells(width, size[1])[columns]
    bits = np.ascontiguousarray(depth[rows, columns], np.float32).view(np.uint32)
    keys = np.sort(cells.astype(np.uint64) << np.uint64(32) | bits)
    counts = np.bincount(cells, minlength=size[0] * size[1])
    middle = np.cumsum(counts) - counts + (counts - 1) // 2
    small = np.zeros(counts.shape, np.uint32)
    small[counts > 0] = keys[middle[counts > 0]].astype(np.uint32)  # the lower half of a key is its depth
    return small.view(np.float32).reshape(size)


def _cells(source: int, target: int) -> np.ndarray:
    """The cell of each of `source` pixels in a row, were it cut into `target` cells: the one that holds its centre."""
    return (2 * np.arange(source) + 1) * target // (2 * source)
