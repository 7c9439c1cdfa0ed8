"""A trained model at work: load it, predict depth for pictures of any size, evaluate it on a dataset.

The file is a run's checkpoint, or the portable model file that `save_model` makes of one.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from pydantic import ValidationError

from data.cache import resize_image
from data.prepare import Part, Prepared
from model.checkpoint import DamagedFileError, read_checkpoint, write_checkpoint
from model.errors import ModelError
from model.evaluation import combined_loss, evaluate, predict
from model.runtime import Runtime, apply_runtime, resolve_runtime
from model.settings import RunSettings
from model.unet import UNet


@dataclass(frozen=True)
class TrainedModel:
    """A network as it was trained, on its device and in eval mode."""

    network: UNet
    settings: RunSettings
    runtime: Runtime
    image_size: tuple[int, int]
    """(height, width) in pixels that it was trained at, and works best at."""
    epoch: int


def load_model(path: Path, device: str = "cpu") -> TrainedModel:
    """Load a checkpoint or portable model file onto a device.

    Raises ModelError in one line if there is no such file, it is damaged, or its parts don't fit together.
    """
    try:
        checkpoint = read_checkpoint(path)
    except OSError as error:
        raise ModelError(
            f"the model file {path} cannot be read ({error.strerror}); expected a checkpoint .npz"
        ) from error
    try:
        settings = RunSettings(**checkpoint.settings)
        height, width = checkpoint.about["image_size"]
        network = UNet(settings.model, settings.depth_range)
        network.load_state_dict({name: torch.from_numpy(array) for name, array in checkpoint.model.items()})
    except (ValidationError, LookupError, RuntimeError, TypeError, ValueError) as error:
        raise DamagedFileError(
            f"the model file {path} doesn't fit together ({type(error).__name__}); give the checkpoint of a run"
        ) from error
    runtime = resolve_runtime(device, settings.train)
    placed = network.eval().to(runtime.device).to(memory_format=runtime.torch_memory_format)  # type: ignore[call-overload]
    return TrainedModel(placed, settings, runtime, (int(height), int(width)), checkpoint.epoch)


def save_model(checkpoint: Path, target: Path) -> None:
    """Make a portable model file of a checkpoint: the same without the optimiser's state; atomic.

    Raises ModelError if the checkpoint cannot be read, OSError if `target` cannot be written.
    """
    write_checkpoint(target, replace(read_checkpoint(checkpoint), optimizer={}))


def predict_images(model: TrainedModel, images: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Depth in metres, (H, W) float32 each, of RGB pictures (H, W, 3) uint8 of any size.

    Each is resized to the size the model was trained at, and its depth back to the picture's (bilinear).
    """
    return [_predict_image(model, image) for image in images]


def evaluate_checkpoint(path: Path, data: Prepared, part: Part, device: str = "cpu") -> dict[str, Any]:
    """Every term and metric of a model on a part of a dataset, averaged over images; JSON-able.

    Beside them "images" (their number) and "epoch". Raises ModelError for a bad file or a part without pictures.
    """
    model = load_model(path, device)
    settings = model.settings
    pictures = data.tensors(part, model.runtime.device)
    if not len(pictures.images):
        raise ModelError(
            f"the data {data.settings.source} has no {part} pictures; choose another part, or another split"
        )
    apply_runtime(model.runtime, settings.train)
    loss = combined_loss(settings).to(model.runtime.device)
    found = evaluate(model.network, loss, settings.weights, pictures, settings.train.batch_size, model.runtime)
    return {"images": len(pictures.images), "epoch": model.epoch, **found.means}


def _predict_image(model: TrainedModel, image: np.ndarray) -> np.ndarray:
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
        raise ModelError(f"the picture is {image.dtype} {image.shape}; expected uint8 (height, width, 3) RGB")
    resized = np.ascontiguousarray(resize_image(image, model.image_size).transpose(2, 0, 1))
    tensor = torch.from_numpy(resized).unsqueeze(0).to(model.runtime.device)
    depth = predict(model.network, tensor, model.runtime)[0, 0].cpu().numpy()
    height, width = image.shape[:2]
    return np.asarray(cv2.resize(depth, (width, height), interpolation=cv2.INTER_LINEAR), np.float32)
