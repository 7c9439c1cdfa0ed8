"""Which pictures train, validate and test: as the folders say, by scene, or at random.

Pictures of one scene look alike, so a split by scene is the honest one; `random` is there because papers do it.
The order in which scenes are drawn comes from hashes of their names: no library's random stream can change it.
"""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from depth_loss_sweep.data.errors import DataError
from depth_loss_sweep.data.settings import DataSettings
from depth_loss_sweep.data.sources import Item
from depth_loss_sweep.words import counted

Part = Literal["train", "val", "test"]
PARTS: tuple[Part, ...] = get_args(Part)


@dataclass(frozen=True)
class Split:
    """Sorted int64 indices into the dataset; no index is in two of them."""

    train: np.ndarray
    val: np.ndarray
    test: np.ndarray

    def part(self, name: str) -> np.ndarray:
        """The indices of "train", "val" or "test". Raises DataError for any other name."""
        if name not in PARTS:
            raise DataError(f"unknown part {name!r} of the data; expected train, val or test")
        indices: np.ndarray = getattr(self, name)
        return indices


def split_dataset(scenes: Sequence[str], folders: Sequence[str | None], settings: DataSettings) -> Split:
    """Splits pictures, given the scene and the folder ("train", "val", "test" or None) of each, in dataset order.

    `auto` follows the folders if they hold a train/, or nothing but test/, and else goes by scene; `scene` pools
    everything; `folders` carves a missing val from train by scene and leaves a missing test empty; `random` ignores
    scenes. Where all pictures lie in test/, the other parts are empty.
    `train_images` and `val_images` keep that many at most, drawn by `split_seed`; more are always a superset of fewer.
    Raises DataError if there are too few scenes or pictures.
    """
    mode = settings.split
    if mode == "auto":
        mode = "folders" if "train" in folders or set(folders) == {"test"} else "scene"
    if mode == "folders":
        parts = _by_folder(scenes, folders, settings)
    elif mode == "scene":
        parts = _by_group(list(scenes), "scene", settings)
    else:
        parts = _by_group([str(index) for index in range(len(scenes))], "picture", settings)
    train = _draw(parts["train"], settings.train_images, settings.split_seed, "train")
    val = _draw(parts["val"], settings.val_images, settings.split_seed, "val")
    return Split(_indices(train), _indices(val), _indices(parts["test"]))


def pooled(items: Sequence[Item], settings: DataSettings) -> list[str]:
    """What is said where pictures lie in val/ or test/, and no train/ has them kept apart."""
    named = {item.folder for item in items} - {None}
    if settings.split != "auto" or not named or "train" in named or {item.folder for item in items} == {"test"}:
        return []
    return [
        f"{' and '.join(f'{name}/' for name in PARTS if name in named)} beside no train/: all pictures are split by scene, these too; "
        "call the folder of the others train to keep them apart"
    ]


def _by_folder(scenes: Sequence[str], folders: Sequence[str | None], settings: DataSettings) -> dict[Part, list[int]]:
    parts: dict[Part, list[int]] = {name: [i for i, folder in enumerate(folders) if folder == name] for name in PARTS}
    if len(parts["test"]) == len(folders):
        return parts
    if not parts["train"]:
        raise DataError('split = "folders", but the source has no train/ folder; use data.split = "scene"')
    outside = [i for i, folder in enumerate(folders) if folder is None]
    if outside:
        raise DataError(
            f"{counted(len(outside), 'picture', 'lies', 'lie')} beside train/, val/ and test/, the first in {scenes[outside[0]]}; "
            'move all into these, or use data.split = "scene"'
        )
    if not parts["val"]:
        names = _shuffled({scenes[i] for i in parts["train"]}, settings.split_seed, "val")
        if len(names) < 2:
            raise DataError(
                'the source has no val/ folder and 1 training scene; 2 are needed to carve one, or use data.split = "random"'
            )
        chosen = set(names[: _count(settings.val_fraction, len(names))])
        parts["val"] = [i for i in parts["train"] if scenes[i] in chosen]
        parts["train"] = [i for i in parts["train"] if scenes[i] not in chosen]
    return parts


def _by_group(groups: Sequence[str], what: str, settings: DataSettings) -> dict[Part, list[int]]:
    names = _shuffled(set(groups), settings.split_seed, "split")
    tests = _count(settings.test_fraction, len(names)) if settings.test_fraction else 0
    vals = _count(settings.val_fraction, len(names))
    if len(names) < 1 + vals + tests:
        needed = 2 + bool(settings.test_fraction)
        instead = '; give more, or use data.split = "random"' if what == "scene" else ""
        raise DataError(
            f"the source has {counted(len(names), what)}; a split by {what}s needs {needed} at least, "
            f"with val_fraction = {settings.val_fraction} and test_fraction = {settings.test_fraction}{instead}"
        )
    test, val = set(names[:tests]), set(names[tests : tests + vals])
    parts: dict[Part, list[int]] = {"train": [], "val": [], "test": []}
    for index, group in enumerate(groups):
        parts["test" if group in test else "val" if group in val else "train"].append(index)
    return parts


def _count(fraction: float, total: int) -> int:
    return max(1, round(fraction * total))


def _shuffled(names: Iterable[str], seed: int, purpose: str) -> list[str]:
    return sorted(
        names,
        key=lambda name: (hashlib.blake2b(f"{seed}/{purpose}/{name}".encode(errors="surrogateescape")).digest(), name),
    )


def _draw(indices: list[int], limit: int | None, seed: int, purpose: str) -> list[int]:
    if limit is None or limit >= len(indices):
        return indices
    return [int(name) for name in _shuffled((str(i) for i in indices), seed, f"draw-{purpose}")[:limit]]


def split_items(items: Sequence[Item], settings: DataSettings) -> Split:
    """Splits pictures by what is known of them before any is opened; see `split_dataset`."""
    return split_dataset([item.scene for item in items], [item.folder for item in items], settings)


def _indices(values: list[int]) -> np.ndarray:
    return np.array(sorted(values), dtype=np.int64)
