"""The part of a picture that validation and test are judged by, as the field's benchmarks have agreed on it."""

from typing import Literal

import numpy as np

Crop = Literal["none", "garg", "eigen", "eigen_nyu"]

REGIONS: dict[Crop, tuple[float, float, float, float]] = {
    "garg": (0.40810811, 0.99189189, 0.03594771, 0.96405229),
    "eigen": (0.3324324, 0.91351351, 0.0359477, 0.96405229),
    "eigen_nyu": (45 / 480, 471 / 480, 41 / 640, 601 / 640),
}
"""Shares of a picture's height (from, to) and width (from, to): for KITTI those of Garg et al. 2016 and of Eigen et al. 2014, and what
Eigen et al. leave of NYU's 640×480, which Kinect's frame doesn't cover; the numbers are those of the evaluations of BTS and Monodepth."""


def crop_mask(crop: Crop, height: int, width: int) -> np.ndarray | None:
    """(H, W) bool: true inside the crop; None where there is none. Fractions of a pixel are cut off, as those evaluations do."""
    if crop == "none":
        return None
    top, bottom, left, right = REGIONS[crop]
    inside = np.zeros((height, width), bool)
    inside[int(top * height) : int(bottom * height), int(left * width) : int(right * width)] = True
    return inside
