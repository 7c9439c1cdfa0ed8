"""How large a network and the files of its runs are, from their settings alone. No torch here."""

from depth_loss_sweep.model.names import EXTRA_METRICS, METRICS, TERMS
from depth_loss_sweep.model.outcomes import PANELS
from depth_loss_sweep.model.settings import ModelSettings

NUMBER_BYTES = 4
COPIES = 3
"""A checkpoint holds each parameter and Adam's two moments of it."""

ARRAY_BYTES = 300
"""What an array costs in a file beside its numbers: its header and its two entries in the archive."""

RECORD_BYTES = 2_000
"""What an epoch adds to a checkpoint's records."""

KEY_BYTES = 4 * 32


def parameter_count(settings: ModelSettings) -> int:
    """How many numbers are trained: those of `model.unet.UNet` of these settings."""
    scales = 2 if settings.batch_norm else 1  # scale and shift of batch norm, or a bias
    blocks = sum(9 * inputs * outputs + scales * outputs for inputs, outputs in _convolutions(settings.width))
    return blocks + settings.width + 1


def checkpoint_bytes(settings: ModelSettings, epochs: int) -> int:
    """About how large a run's checkpoint is after so many epochs."""
    convolutions = _convolutions(settings.width)
    averages = sum(2 * outputs for _, outputs in convolutions) if settings.batch_norm else 0
    parameters = len(convolutions) * (3 if settings.batch_norm else 2) + 2
    arrays = parameters * (COPIES + 1) + (3 * len(convolutions) if settings.batch_norm else 0)
    numbers = COPIES * parameter_count(settings) + averages
    return NUMBER_BYTES * numbers + ARRAY_BYTES * arrays + RECORD_BYTES * epochs


def result_bytes(image_size: tuple[int, int], val_images: int) -> int:
    """About how large a run's result is: panels of picture, truth, mask and prediction, and each validation picture's numbers."""
    panels = min(PANELS, val_images) * image_size[0] * image_size[1] * (3 + 4 + 1 + 4)
    columns = len(TERMS) + len(METRICS) + len(EXTRA_METRICS)
    return panels + val_images * (columns * NUMBER_BYTES + KEY_BYTES) + ARRAY_BYTES * (columns + 6)


def _convolutions(width: int) -> list[tuple[int, int]]:
    """Channels in and out of each 3x3 convolution: two a block, of the encoder and then of the decoder."""
    widths = [width * factor for factor in (1, 2, 4, 8)]
    encoder = zip([3, *widths[:-1]], widths, strict=True)
    decoder = ((below + skip, skip) for below, skip in zip(widths[:0:-1], widths[-2::-1], strict=True))
    return [pair for inputs, outputs in (*encoder, *decoder) for pair in ((inputs, outputs), (outputs, outputs))]
