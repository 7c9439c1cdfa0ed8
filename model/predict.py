"""A trained model at work: load it, predict depth for pictures of any size, evaluate it on a dataset.

The file is a run's checkpoint, or the portable model file that `save_model` makes of one.
"""

import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import torch
from pydantic import ValidationError

from depth_loss_sweep.data.photos import check_photo, read_photo
from depth_loss_sweep.data.png import encode_png, is_our_png
from depth_loss_sweep.data.prepare import Part, Prepared
from depth_loss_sweep.data.resize import resize_image
from depth_loss_sweep.data.settings import DataSettings
from depth_loss_sweep.files import naming, write_whole
from depth_loss_sweep.model.backend import apply_runtime, memory_format, this_machine
from depth_loss_sweep.model.checkpoint import (
    Arrays,
    Checkpoint,
    DamagedFileError,
    newest_checkpoint,
    read_checkpoint,
    write_checkpoint,
)
from depth_loss_sweep.model.errors import MissingPackageError, ModelError
from depth_loss_sweep.model.evaluation import Evaluator, combined_loss, predict
from depth_loss_sweep.model.network import DepthNetwork
from depth_loss_sweep.model.runtime import Runtime, resolve_runtime
from depth_loss_sweep.model.settings import RunSettings, TrainSettings

UNITS = (1000, 256, 100, 10, 1)
"""What a metre may be in a depth PNG: millimetres up to 65.535 m, KITTI's units up to 255 m, then centimetres, ..."""

LARGEST = np.iinfo(np.uint16).max
FARTHEST = float(LARGEST)
"""Metres: what the coarsest units reach."""

DEPTH_TITLE, COLOUR_TITLE = "predicted depth", "predicted depth in colour"


@dataclass(frozen=True)
class TrainedModel:
    """A network as it was trained, on its device and in eval mode."""

    network: DepthNetwork
    settings: RunSettings
    runtime: Runtime
    image_size: tuple[int, int]
    """(height, width) in pixels that it was trained at, and works best at."""
    epoch: int
    weighting: Arrays
    """What the weighting of the terms had learnt; nothing for fixed weights."""


def load_model(path: Path, device: str = "cpu") -> TrainedModel:
    """Load a checkpoint or portable model file onto a device.

    Raises ModelError in one line if there is no such file, it is damaged, or its parts don't fit together.
    """
    checkpoint = _read(path)
    try:
        settings = RunSettings(**checkpoint.settings)
        image_size = DataSettings(image_size=checkpoint.about["image_size"]).image_size
        if not settings.model.is_own:
            with torch.device("meta"):  # a few bytes can claim a network that takes all memory
                expected = DepthNetwork(settings.model, settings.depth_range).arrays()
            if {name: tuple(t.shape) for name, t in expected.items()} != {
                n: a.shape for n, a in checkpoint.model.items()
            }:
                raise ValueError("the arrays are not those of its network")
        network = DepthNetwork(settings.model, settings.depth_range, image_size)
        network.load_arrays(checkpoint.model)
    except MissingPackageError as error:
        raise MissingPackageError(f"the model file {path}: {error}") from error
    except (ModelError, ValidationError, LookupError, RuntimeError, TypeError, ValueError) as error:
        raise DamagedFileError(
            f"the model file {path} doesn't fit together ({type(error).__name__}); give the checkpoint of a run"
        ) from error
    runtime = _runtime(device, settings.train, str(checkpoint.about.get("runtime", {}).get("precision")))
    placed = network.eval().to(runtime.device).to(memory_format=memory_format(runtime))  # type: ignore[call-overload]
    return TrainedModel(placed, settings, runtime, image_size, checkpoint.epoch, checkpoint.weighting)


def save_model(source: Path, target: Path, epochs: int | None = None) -> None:
    """Make a portable model file of a run's folder (or of one checkpoint): the same without what only training needs.

    Raises ModelError if no checkpoint can be read there, or not one after `epochs` epochs; OSError if `target` cannot be
    written; atomic.
    """
    checkpoint = newest_checkpoint(source) if source.is_dir() else _read(source)
    if checkpoint is None:
        raise ModelError(f"the run folder {source} holds no readable checkpoint")
    if epochs is not None and checkpoint.epoch != epochs:
        raise ModelError(f"the newest readable checkpoint in {source} is of epoch {checkpoint.epoch}, not {epochs}")
    with naming(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        write_checkpoint(target, replace(checkpoint, optimizer={}, per_image={}))


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


class Predicted(NamedTuple):
    """What was written for one photograph."""

    photo: Path
    depth: Path
    colour: Path
    units: int
    """How many units of the depth PNG a metre is."""
    missing: float
    """Share of the pixels without depth, 0 in the PNG: where the prediction is not finite, not positive, or beyond 65 km."""


def prediction_paths(photos: Sequence[Path], folder: Path) -> list[tuple[Path, Path]]:
    """Where each photograph's depth goes, and its coloured twin.

    Raises ModelError where two would be one file, also on a disk that does not tell case or Unicode spellings apart.
    """
    first: dict[str, Path] = {}
    for photo in photos:
        name = unicodedata.normalize("NFC", photo.stem).casefold()
        other = first.setdefault(name, photo)
        if other is not photo:
            raise ModelError(
                f"{other} and {photo} would both become {photo.stem}_depth.png; predict them into two folders"
            )
    return [(folder / f"{photo.stem}_depth.png", folder / f"{photo.stem}_depth_colour.png") for photo in photos]


def is_prediction(path: Path) -> bool:
    """Whether a file is one that `predict_images` wrote."""
    return is_our_png(path, DEPTH_TITLE, COLOUR_TITLE)


def predict_images(checkpoint: Path, photos: Sequence[Path], output: Path, device: str = "cpu") -> Iterator[Predicted]:
    """Predict the depth of photographs, yielding what is written: NAME_depth.png and NAME_depth_colour.png each.

    The first is 16-bit, in millimetres where the model's depth range ends below 65.535 m, else in coarser units, the same
    for all pictures; a picture whose depth does not fit gets still coarser ones. The second is for looking: near is red,
    far is blue. Raises ModelError for a bad model file or two pictures of one name, DataError for a bad picture (before
    anything is predicted, if that can be told without decoding it), OSError if `output` cannot be written.
    """
    targets = prediction_paths(photos, output)
    model = load_model(checkpoint, device)
    for photo in photos:
        check_photo(photo)
    output.mkdir(parents=True, exist_ok=True)
    usual = _units(model.settings.depth_range[1])
    for photo, (depth_path, colour_path) in zip(photos, targets, strict=True):
        depth = predict_depth(model, read_photo(photo))
        depth[~((depth > 0) & (depth <= FARTHEST))] = 0
        units = min(usual, _units(float(depth.max())))
        stored = (depth * units).round().astype(np.uint16)
        write_whole(depth_path, encode_png(stored, DEPTH_TITLE, depth_scale=f"1/{units}", invalid_value="0"))
        write_whole(colour_path, encode_png(_coloured(depth), COLOUR_TITLE))
        yield Predicted(photo, depth_path, colour_path, units, float((stored == 0).mean()))


def _units(farthest: float) -> int:
    """The finest units, as so many a metre, in which 16 bits reach that far: millimetres if they do."""
    return next((units for units in UNITS if farthest * units <= LARGEST), UNITS[-1])


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
    loss = combined_loss(settings)
    loss.weighting.load_state_dict({name: torch.from_numpy(array) for name, array in model.weighting.items()})
    loss.to(model.runtime.device)
    evaluate = Evaluator(
        model.network, loss, model.runtime, settings.metrics, settings.own_metrics, may_record=not settings.code
    )
    found = evaluate(pictures, settings.train.batch_size)
    return {"images": len(pictures), "epoch": model.epoch, **found.means}


def _runtime(device: str, train: TrainSettings, trained_in: str) -> Runtime:
    """On that device, in the precision that the model was trained in where there is hardware for it."""
    machine = this_machine(device)
    runtime = resolve_runtime(device, train.model_copy(update={"precision": "fp32"}), machine)
    return replace(runtime, precision="bf16") if trained_in == "bf16" and runtime.has_bf16(machine) else runtime


def _read(path: Path) -> Checkpoint:
    try:
        return read_checkpoint(path)
    except OSError as error:
        raise ModelError(
            f"the model file {path} cannot be read ({error.strerror}); expected a checkpoint .npz"
        ) from error


def _coloured(depth: np.ndarray) -> np.ndarray:
    """A depth map as a BGR picture, over the range of its own depths but for the outermost hundredths; black is no depth."""
    known = depth > 0
    low, high = np.percentile(depth[known], (1, 99)) if known.any() else (0.0, 1.0)
    nearness = ((high - depth) / max(high - low, 1e-6)).clip(0, 1)
    coloured = np.asarray(cv2.applyColorMap((255 * nearness).astype(np.uint8), cv2.COLORMAP_TURBO))
    coloured[~known] = 0
    return coloured
