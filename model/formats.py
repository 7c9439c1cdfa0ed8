"""Models as others read them: safetensors (arrays by name) and ONNX (the network with its head, metres out)."""

import json
import warnings
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from depth_loss_sweep.files import naming, write_whole
from depth_loss_sweep.model.checkpoint import is_model_file
from depth_loss_sweep.model.errors import MissingPackageError, ModelError
from depth_loss_sweep.model.predict import TrainedModel, load_model, save_model

OURS = "depth-loss-sweep"
FARTHEST_APART = 1e-3
"""By how large a share of the depth range a model and its ONNX file may differ."""


def is_formatted(path: Path) -> bool:
    """Whether a file is a model that we wrote, in any format."""
    if path.suffix == ".safetensors":
        try:
            with safe_open(path, "np") as file:
                return OURS in (file.metadata() or {})
        except (OSError, SafetensorError):
            return False
    return OURS.encode() in path.read_bytes()[:4096] if path.suffix == ".onnx" else is_model_file(path)


def save_formatted(folder: Path, target: Path, epochs: int, allow: Callable[[Path], None]) -> None:
    """Save a run's model as .safetensors, .onnx, or else as a portable model file; atomic.

    `allow` is asked before a model is built that may be of the user's own code. ModelError where there is no whole checkpoint after so
    many epochs, or a package is missing; OSError if `target` cannot be written.
    """
    if target.suffix not in (".safetensors", ".onnx"):
        save_model(folder, target, epochs)
        return
    with TemporaryDirectory() as place:
        portable = Path(place) / "model.npz"
        save_model(folder, portable, epochs)
        allow(portable)
        model = load_model(portable)
        content = _safetensors(model) if target.suffix == ".safetensors" else _onnx(model, Path(place) / "model.onnx")
    with naming(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        write_whole(target, content)


def _safetensors(model: TrainedModel) -> bytes:
    """The network's arrays, and what is to be known of them as text."""
    settings = model.settings
    about = {
        OURS: settings.model.network,
        "model": settings.model.model_dump_json(),
        "depth_range": json.dumps(settings.depth_range),
        "image_size": json.dumps(model.image_size),
        "weights": json.dumps(settings.weights),
    }
    return save({name: np.ascontiguousarray(t.cpu().numpy()) for name, t in model.network.arrays().items()}, about)


def _onnx(model: TrainedModel, path: Path) -> bytes:
    """The network as ONNX: "image" (B, 3, H, W) in [0, 1] in, "depth" (B, 1, H, W) in metres out; seen to give the same numbers."""
    for package in ("onnx", "onnxscript", "onnxruntime"):
        if find_spec(package) is None:
            raise MissingPackageError(f"ONNX needs {package}: pip install 'depth-loss-sweep[onnx]'")
    import onnx
    import onnxruntime

    network = model.network.float().to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    images = torch.rand(2, 3, *model.image_size, generator=torch.Generator().manual_seed(0))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the exporter's own making
            torch.onnx.export(
                network, (images,), str(path), input_names=["image"], output_names=["depth"],
                dynamic_shapes=({0: torch.export.Dim("batch")},), dynamo=True, external_data=False, verbose=False,
            )  # fmt: skip
    except (torch.onnx.OnnxExporterError, RuntimeError) as error:
        said = " ".join(str(error).split())[:200]
        raise ModelError(
            f"{model.settings.model.network} cannot be written as ONNX ({said}): save it as .safetensors"
        ) from error
    made: Any = onnx.load(path)
    made.producer_name = OURS
    onnx.checker.check_model(made)
    content: bytes = made.SerializeToString()
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    found = session.run(None, {"image": images[:1].numpy()})[0]
    with torch.no_grad():
        apart = float(np.abs(found - network(images[:1]).numpy()).max())
    low, high = model.settings.depth_range
    if not apart <= FARTHEST_APART * (high - low):
        raise ModelError(f"the ONNX file differs from the model by {apart:.3g} m: save it as .safetensors")
    return content
