"""A trained model at work: load it, predict depth for pictures of any size, evaluate it on a dataset.

The file is a run's checkpoint, or the portable model file that `save_model` makes of one.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from pydantic import ValidationError

from data.cache import resize_image, write_atomically
from data.errors import naming
from data.pictures import read_rgb
from data.prepare import Part, Prepared
from data.settings import DataSettings
from model.backend import apply_runtime, memory_format
from model.checkpoint import Checkpoint, DamagedFileError, newest_checkpoint, read_checkpoint, write_checkpoint
from model.errors import ModelError
from model.evaluation import combined_loss, evaluate, predict
from model.runtime import Runtime, resolve_runtime
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
    checkpoint = _read(path)
    try:
        settings = RunSettings(**checkpoint.settings)
        image_size = DataSettings(image_size=checkpoint.about["image_size"]).image_size
        with torch.device("meta"):  # a few bytes can claim a network that takes all memory
            expected = UNet(settings.model, settings.depth_range).state_dict()
        if {name: tuple(t.shape) for name, t in expected.items()} != {n: a.shape for n, a in checkpoint.model.items()}:
            raise ValueError("the arrays are not those of its network")
        network = UNet(settings.model, settings.depth_range)
        network.load_state_dict({name: torch.from_numpy(array) for name, array in checkpoint.model.items()})
    except (ModelError, ValidationError, LookupError, RuntimeError, TypeError, ValueError) as error:
        raise DamagedFileError(
            f"the model file {path} doesn't fit together ({type(error).__name__}); give the checkpoint of a run"
        ) from error
    runtime = resolve_runtime(device, settings.train)
    placed = network.eval().to(runtime.device).to(memory_format=memory_format(runtime))  # type: ignore[call-overload]
    return TrainedModel(placed, settings, runtime, image_size, checkpoint.epoch)


def save_model(source: Path, target: Path, epochs: int | None = None) -> None:
    """Make a portable model file of a run's folder (or of one checkpoint): the same without the optimiser's state.

    Raises ModelError if no checkpoint can be read there, or not one after `epochs` epochs; OSError if `target` cannot be
    written; atomic.
    """
    checkpoint = newest_checkpoint(source) if source.is_dir() else _read(source)
    if checkpoint is None:
        raise ModelError(f"the run folder {source} holds no readable checkpoint")
    if epochs is not None and checkpoint.epoch != epochs:
        raise ModelError(f"the newest readable checkpoint in {source} is of epoch {checkpoint.epoch}, not {epochs}")
    with naming(target):
        write_checkpoint(target, replace(checkpoint, optimizer={}))


def predict_depth(model: TrainedModel, image: np.ndarray) -> np.ndarray:
    """Depth in metres, (H, W) float32, of an RGB picture (H, W, 3) uint8 of any size.

    The picture is resized to the size the model was trained at, and its depth back to the picture's (bilinear).
    """
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
        raise ModelError(f"the picture is {image.dtype} {image.shape}; expected uint8 (height, width, 3) RGB")
    resized = np.ascontiguousarray(resize_image(image, model.image_size).transpose(2, 0, 1))
    tensor = torch.from_numpy(resized).unsqueeze(0).to(model.runtime.device)
    depth = predict(model.network, tensor, model.runtime)[0, 0].cpu().numpy()
    height, width = image.shape[:2]
    return np.asarray(cv2.resize(depth, (width, height), interpolation=cv2.INTER_LINEAR), np.float32)


def predict_images(checkpoint: Path, images: Sequence[Path], output: Path, device: str = "cpu") -> Iterator[Path]:
    """Predict the depth of picture files, yielding what is written: NAME_depth.png and NAME_depth_colour.png each.

    The first is 16-bit in millimetres (at most 65.535 m), the second is for looking: near is red, far is blue.
    Raises ModelError for a bad model file or two pictures of one name, DataError for a bad picture, OSError if
    `output` cannot be written.
    """
    twice = [name for name, count in Counter(path.stem for path in images).items() if count > 1]
    if twice:
        raise ModelError(f"two pictures are called {twice[0]!r}, and one would overwrite the other; predict them apart")
    model = load_model(checkpoint, device)
    output.mkdir(parents=True, exist_ok=True)
    for path in images:
        depth = predict_depth(model, read_rgb(path))
        millimetres = np.nan_to_num(depth * 1000, nan=0.0).clip(0, 65535).round().astype(np.uint16)
        for ending, picture in (("depth", millimetres), ("depth_colour", _coloured(depth))):
            target = output / f"{path.stem}_{ending}.png"
            write_atomically(target, cv2.imencode(".png", picture)[1].tobytes())
            yield target


def evaluate_checkpoint(path: Path, data: Prepared, part: Part, device: str = "cpu") -> dict[str, Any]:
    """Every term and metric of a model on a part of a dataset, averaged over images; JSON-able.

    Beside them "images" (their number) and "epoch". Raises ModelError for a bad file or a part without pictures.
    """
    model = load_model(path, device)
    settings = model.settings
    pictures = data.pictures(part, model.runtime.device)
    if not len(pictures):
        raise ModelError(
            f"the data {data.settings.source} has no {part} pictures; choose another part, or another split"
        )
    apply_runtime(model.runtime, settings.train)
    loss = combined_loss(settings).to(model.runtime.device)
    found = evaluate(model.network, loss, settings.weights, pictures, settings.train.batch_size, model.runtime)
    return {"images": len(pictures), "epoch": model.epoch, **found.means}


def _read(path: Path) -> Checkpoint:
    try:
        return read_checkpoint(path)
    except OSError as error:
        raise ModelError(
            f"the model file {path} cannot be read ({error.strerror}); expected a checkpoint .npz"
        ) from error


def _coloured(depth: np.ndarray) -> np.ndarray:
    """A depth map as a BGR picture, over the range of its own depths but for the outermost hundredths."""
    low, high = np.nanpercentile(depth, (1, 99)) if np.isfinite(depth).all() else (0.0, 1.0)
    nearness = np.nan_to_num((high - depth) / max(high - low, 1e-6), nan=0.0).clip(0, 1)
    return np.asarray(cv2.applyColorMap((255 * nearness).astype(np.uint8), cv2.COLORMAP_TURBO))
