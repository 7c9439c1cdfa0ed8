"""How large a network and the files of its runs are, from their settings alone; without torch for the built-in ones."""

import hashlib
import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from depth_loss_sweep.data.cache import remembered
from depth_loss_sweep.model.names import metrics_with, network_entry, terms_with
from depth_loss_sweep.model.outcomes import PANELS
from depth_loss_sweep.model.settings import ModelSettings
from depth_loss_sweep.registry import load

NUMBER_BYTES = 4
COPIES = 3
"""A checkpoint holds each parameter and Adam's two moments of it."""

ARRAY_BYTES = 300
"""What an array costs in a file beside its numbers: its header and its two entries in the archive."""

RECORD_BYTES = 2_000
"""What an epoch adds to a checkpoint's records."""

KEY_BYTES = 4 * 32

IMAGE_EPOCHS = 2
"""Of how many last epochs each picture's numbers are kept."""

BF16_SIZE = 512
"""Channels of the first block times pixels a side: from here on bfloat16 is faster on CPUs that have it."""


@dataclass(frozen=True)
class Arrays:
    """How many numbers the arrays of a network hold, array by array."""

    trained: tuple[int, ...]
    """The parameters."""
    others: tuple[int, ...] = ()
    """What else a checkpoint keeps, such as running averages."""


NONE = Arrays(())


def parameter_count(settings: ModelSettings) -> int:
    """How many numbers of the network are trained."""
    return sum(_arrays(settings).trained)


def checkpoint_bytes(settings: ModelSettings, epochs: int, val_images: int, own: Arrays = NONE) -> int:
    """About how large a run's checkpoint is after so many epochs; `own` are the arrays of a network of the user's own."""
    arrays = own if settings.is_own else _arrays(settings)
    numbers = COPIES * sum(arrays.trained) + sum(arrays.others)
    count = (COPIES + 1) * len(arrays.trained) + len(arrays.others)
    held = NUMBER_BYTES * numbers + ARRAY_BYTES * count
    return held + RECORD_BYTES * epochs + min(epochs, IMAGE_EPOCHS) * _image_bytes(val_images)


def _arrays(settings: ModelSettings) -> Arrays:
    """As the network's registry line says without torch, else as the network is when it is built without memory."""
    code = network_entry(settings.network).arrays
    if code:
        said: Arrays = load(code)(settings)
        return said
    from depth_loss_sweep.model.network import shapes_of

    trained, others = shapes_of(settings)
    return Arrays(tuple(map(math.prod, trained)), tuple(map(math.prod, others)))


def own_arrays(
    settings: ModelSettings, image_size: tuple[int, int], known: Path, build: Callable[[], Any] | None = None
) -> Arrays:
    """Those of a network of the user's own, as its dry run found them; none where it was never built here.

    Its code isn't run to say so. `known` is the folder in which they are kept, `build` gives `model.network.shapes_in` of it.
    """
    key = json.dumps([settings.model_dump(mode="json"), image_size], sort_keys=True)
    path = known / f"{hashlib.sha256(key.encode()).hexdigest()[:32]}.json"
    try:
        trained, others = remembered(path, build or _never_built)
    except KeyError:
        return NONE
    return Arrays(tuple(map(math.prod, trained)), tuple(map(math.prod, others)))


def _never_built() -> Any:
    raise KeyError


def unet_arrays(settings: ModelSettings) -> Arrays:
    """Those of `model.unet.UNet`: weights and biases, or weights and batch norm's scales, shifts, averages and counter."""
    trained, others = [], []
    for inputs, outputs in _convolutions(settings.width):
        trained += [9 * inputs * outputs, *([outputs] * (2 if settings.batch_norm else 1))]
        others += [outputs, outputs, 1] if settings.batch_norm else []
    return Arrays((*trained, settings.width, 1), tuple(others))


def gains_from_bf16(settings: ModelSettings, image_size: tuple[int, int]) -> bool:
    """Whether a CPU with instructions for bfloat16 trains this faster by them, as far as was measured; below, casts eat the gain.

    Measured on AMX, one thread, fp32 / bf16: .95 (16x16, width 2), 1.0 (16x16, width 8), 1.1 (32x32, width 8), 1.4 (64x64, width 8),
    1.5 (32x32, width 16), 2.0 (64x64, width 16), 2.3 (128x128, width 16), 3.3 (64x64, width 64).
    """
    return settings.network == "unet" and settings.width * math.sqrt(math.prod(image_size)) >= BF16_SIZE


def result_bytes(image_size: tuple[int, int], val_images: int) -> int:
    """About how large a run's result is: panels of picture, truth, mask and prediction, and each validation picture's numbers."""
    panels = min(PANELS, val_images) * image_size[0] * image_size[1] * (3 + 4 + 1 + 4)
    return panels + val_images * KEY_BYTES + IMAGE_EPOCHS * _image_bytes(val_images) + ARRAY_BYTES * 6


def _image_bytes(val_images: int) -> int:
    """Each validation picture's terms and metrics after an epoch; the further ones are few."""
    return len((*terms_with(), *metrics_with())) * (NUMBER_BYTES * val_images + ARRAY_BYTES)


def _convolutions(width: int) -> list[tuple[int, int]]:
    """Channels in and out of each 3x3 convolution: two a block, of the encoder and then of the decoder."""
    widths = [width * factor for factor in (1, 2, 4, 8)]
    encoder = zip([3, *widths[:-1]], widths, strict=True)
    decoder = ((below + skip, skip) for below, skip in zip(widths[:0:-1], widths[-2::-1], strict=True))
    return [pair for inputs, outputs in (*encoder, *decoder) for pair in ((inputs, outputs), (outputs, outputs))]
