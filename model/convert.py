"""Files of weights as people have them, made into safetensors that a network begins with: names and arrays, no code."""

import pickle
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from depth_loss_sweep.model.errors import ModelError
from depth_loss_sweep.model.names import network_entry, require_package
from depth_loss_sweep.model.settings import ModelSettings
from depth_loss_sweep.registry import load

NESTED = ("state_dict", "model", "model_state_dict", "state_dict_ema")
"""Where training scripts keep the weights, beside other things."""


def converted(path: Path, network: str | None) -> tuple[bytes, int]:
    """A file's weights as safetensors, and how many arrays they are; of a network, under the names that it publishes its own by.

    Arrays that are called otherwise are taken in order, where all of their shapes agree. ModelError, in one line, where the file is
    none of weights, or of another network.
    """
    arrays = _read(path)
    if network is not None:
        arrays = _named_as(_published(network), arrays, path, network)
    return save({name: tensor.contiguous().clone() for name, tensor in arrays.items()}), len(arrays)


def _read(path: Path) -> dict[str, Tensor]:
    try:
        if path.suffix == ".safetensors":
            return dict(load_file(path))
        found = torch.load(path, map_location="cpu", weights_only=True)  # refuses what would run code
    except FileNotFoundError:
        raise ModelError(
            f"the weights file {path} is not there: expected one by torch.save, or a safetensors file"
        ) from None
    except (
        pickle.UnpicklingError,
        SafetensorError,
        RuntimeError,
        EOFError,
        ValueError,
        zipfile.BadZipFile,
        OSError,
    ) as error:
        is_code = isinstance(error, pickle.UnpicklingError)  # torch explains at length how to run it
        said = "more than arrays" if is_code else " ".join(str(error).split())[:120]
        raise ModelError(
            f"the weights file {path} cannot be read ({type(error).__name__}: {said}): expected weights by torch.save(), without code"
        ) from error
    for key in NESTED:
        if isinstance(found, Mapping) and isinstance(found.get(key), Mapping):
            found = found[key]
    arrays = (
        {str(name): value for name, value in found.items() if isinstance(value, Tensor)}
        if isinstance(found, Mapping)
        else {}
    )
    if not arrays:
        raise ModelError(f"the weights file {path} holds no arrays by name: expected a state_dict, by torch.save()")
    is_parallel = all(name.startswith("module.") for name in arrays)
    return {name.removeprefix("module.") if is_parallel else name: value for name, value in arrays.items()}


def _published(network: str) -> Mapping[str, Any]:
    """The shapes of a network's published weights, by name."""
    try:
        entry = network_entry(network)
        if not entry.published:
            raise ValueError("expected timm:NAME or smp:NAME, or none, to keep the names as they are")
    except ValueError as error:
        raise ModelError(f"--network {network!r}: {error}") from None
    require_package(network)
    with torch.device("meta"):
        found: Mapping[str, Any] = load(entry.published)(ModelSettings(network=network))
    return {name: tuple(array.shape) for name, array in found.items()}


def _named_as(wanted: Mapping[str, Any], arrays: dict[str, Tensor], path: Path, network: str) -> dict[str, Tensor]:
    if all(name in arrays and tuple(arrays[name].shape) == shape for name, shape in wanted.items()):
        return {name: arrays[name] for name in wanted}
    in_order = [tuple(array.shape) for array in arrays.values()]
    if in_order == list(wanted.values()):
        return dict(zip(wanted, arrays.values(), strict=True))
    name, shape = next(((n, s) for (n, s), own in zip(wanted.items(), in_order, strict=False) if s != own), ("", ()))
    where = (
        f"first at {name}, which is {list(shape)}"
        if name
        else f"{len(wanted)} arrays, and the file has {len(in_order)}"
    )
    raise ModelError(
        f"the weights file {path} is not of {network}: neither names nor, in order, shapes agree ({where})"
    )
