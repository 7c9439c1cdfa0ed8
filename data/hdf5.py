"""Pictures in HDF5: `h5:PATH`, a folder of files of one picture each or one file of many, and `nyu-mat:FILE`.

A dataset is found by its name or its shape, or named by `data.rgb_field` and `data.depth_field`. Depth of fractions is metres.
"""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from depth_loss_sweep.data.depth import (
    DECODER_VERSION,
    DepthCoding,
    as_map,
    checked_pair,
    dataset_of,
    library,
    own_datasets,
    require_size,
)
from depth_loss_sweep.data.errors import DAMAGE, BadFileError, DataError, reading
from depth_loss_sweep.data.file_pairs import folder_of
from depth_loss_sweep.data.settings import DataSettings
from depth_loss_sweep.data.sources import Item, file_digest, list_files, part_called, refuse_faults

SUFFIXES = (".h5", ".hdf5")
SPLITS = "splits.mat"
"""NYU's official split, where it lies beside the labelled set: the numbers of the training and of the test pictures, from 1."""

MOST_SPLITS_BYTES = 1 << 20
MOST_PICTURES = 1 << 22
NO_SCENES = (
    "nothing in it says which pictures show one scene: each counts as a scene of its own, so that a split is by picture"
)


class Hdf5Source:
    """A folder of files, each with a picture (3, H, W) or (H, W, 3) and its depth (H, W), in [train|val|test/]SCENE/; or one file
    with N of both, whose datasets `scene` and `split` say of each picture what it belongs to.
    """

    name = "h5"
    is_transposed = False
    """Whether width comes before height, as MATLAB writes it."""

    def __init__(self, place: Path, settings: DataSettings) -> None:
        self._settings, self._coding = settings, DepthCoding.of(settings)
        self.faults, self.notes = list[str](), list[str]()
        self._places: dict[str, tuple[Path, int | None]] = {}
        self._items: list[Item] = []
        self._names: tuple[str, str] = ("", "")
        if place.is_dir():
            self._list_folder(place)
        else:
            self._list_file(place)

    def _list_folder(self, root: Path) -> None:
        listing = list_files(root)
        self.faults, self.notes = listing.faults, listing.notes
        for path in listing.files:
            if path.suffix.lower() in SUFFIXES:
                relative = path.relative_to(root)
                folder = folder_of(relative)
                scene = "/".join(part for part in relative.parts[:-1] if part != folder) or "."
                self._add(Item(relative.as_posix(), scene, folder), path, None)
        if not self._items:
            refuse_faults(self)
            raise DataError(f"{root} holds no HDF5 files; expected [train|val|test/]SCENE/NAME.h5 below it")

    def _list_file(self, path: Path) -> None:
        with _opened(path) as file:
            pictures, depths = self._datasets(file, path, 4)
            self._names, count = (pictures.name, depths.name), pictures.shape[0]
            if not 0 < count <= MOST_PICTURES or depths.shape[0] != count:
                raise BadFileError(
                    path,
                    f"claims to hold {count} pictures and {depths.shape[0]} depth maps; expected as many of both, 1 to {MOST_PICTURES}",
                )
            scenes, names = _texts(file, "scene", count), _texts(file, "split", count)
        parts = [_part(name, path) for name in names] if names else self._official(path, count)
        if not scenes:
            self.notes.append(NO_SCENES)
        for index in range(count):
            key = f"{index:07d}"
            self._add(Item(key, scenes[index] if scenes else key, parts[index] if parts else None), path, index)

    def _add(self, item: Item, path: Path, index: int | None) -> None:
        self._items.append(item)
        self._places[item.key] = (path, index)

    def _official(self, path: Path, count: int) -> Sequence[str | None] | None:
        """The part of each picture by a file beside this one."""
        return None

    def _datasets(self, file: Any, path: Path, axes: int) -> tuple[Any, Any]:
        """Those of the pictures, of so many axes, and of the depth, of one less."""
        rgb, depth = self._settings.rgb_field, self._settings.depth_field
        return (
            dataset_of(file, path, "rgb", rgb, lambda each: each.dtype == np.uint8 and _is_rgb(each.shape, axes)),
            dataset_of(file, path, "depth", depth, lambda each: len(each.shape) == axes - 1),
        )

    def items(self) -> Sequence[Item]:
        """One item for each picture."""
        return sorted(self._items, key=lambda item: item.key)

    def load(self, item: Item) -> tuple[np.ndarray, np.ndarray]:
        """RGB (H, W, 3) uint8 and depth (H, W) float32 metres, 0 = invalid. DataError names the bad file."""
        path, index = self._places[item.key]
        with _opened(path) as file:
            # A file of many holds thousands of datasets: they are looked through once.
            found = self._datasets(file, path, 3) if index is None else tuple(file[name] for name in self._names)
            image, raw = (_read(dataset, path, index) for dataset in found)
        image = image.transpose(1, 2, 0) if image.shape[0] == 3 and image.shape[2] != 3 else image
        raw = as_map(raw, path)
        if self.is_transposed:
            image, raw = image.transpose(1, 0, 2), raw.T
        depth = self._coding.metres(raw, path)
        return checked_pair(np.ascontiguousarray(image), np.ascontiguousarray(depth), item.key, path)

    def content(self, item: Item, digest: Callable[[Path], str] = file_digest) -> str:
        """The file's digest, the picture's place in it, and how it is read. Raises DataError if it is missing."""
        path, index = self._places[item.key]
        how = f"{self.name}:{DECODER_VERSION}:{self._settings.rgb_field!r}:{self._coding.stated}"
        return f"{how}:{digest(path)}:{index}"


class NyuMatSource(Hdf5Source):
    """NYU Depth V2's labelled set, nyu_depth_v2_labeled.mat (v7.3, which is HDF5): images (N, 3, W, H), depths (N, W, H), scenes.

    The official split counts where splits.mat lies beside it. Source: Silberman et al., Indoor Segmentation and Support Inference
    from RGBD Images, 2012.
    """

    name = "nyu-mat"
    is_transposed = True

    def __init__(self, place: Path, settings: DataSettings) -> None:
        names = {"rgb_field": settings.rgb_field or "images", "depth_field": settings.depth_field or "depths"}
        super().__init__(place, settings.model_copy(update=names))

    def _official(self, path: Path, count: int) -> Sequence[str | None] | None:
        splits = path.with_name(SPLITS)
        if not splits.is_file():
            return None
        from scipy.io import loadmat

        parts: list[str | None] = [None] * count
        try:
            if splits.stat().st_size > MOST_SPLITS_BYTES:
                raise ValueError
            numbers = loadmat(splits, variable_names=["trainNdxs", "testNdxs"])
            for part in ("train", "test"):
                for number in numbers[f"{part}Ndxs"].ravel():
                    parts[int(number) - 1] = part
        except DAMAGE:
            raise BadFileError(splits, f"is no split of {count} pictures; replace it, or move it away") from None
        return parts


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """An HDF5 file, open to be read. What h5py raises on a damaged one is a DataError."""
    h5py = library("h5py", "hdf5", path)
    with reading(path), path.open("rb"):
        pass  # h5py says of a missing file that it is damaged
    try:
        with h5py.File(path, "r") as file:
            yield file
    except DAMAGE:
        raise BadFileError(path, "is damaged, or no HDF5 file (as MATLAB saves with -v7.3); replace it") from None


def _read(dataset: Any, path: Path, index: int | None) -> np.ndarray:
    """A dataset, or one of the many pictures in it."""
    shape = dataset.shape if index is None else dataset.shape[1:]
    require_size(tuple(side for side in shape if side != 3), path)
    return np.asarray(dataset[()] if index is None else dataset[index])


def _is_rgb(shape: Sequence[int], axes: int) -> bool:
    return len(shape) == axes and 3 in (shape[-3], shape[-1])


def _part(name: str, path: Path) -> str | None:
    """The part that a file's split names. BadFileError for a word that is none: its pictures would go anywhere."""
    part = part_called(name)
    if name and part is None:
        raise BadFileError(path, f"has {name!r} in its split; expected train, val or test")
    return part


def _texts(file: Any, what: str, count: int) -> list[str] | None:
    """The texts of a dataset called `what`, or that in the plural: as texts, or as MATLAB keeps them, by references."""
    own = own_datasets(file)
    dataset = own.get(what, own.get(f"{what}s"))
    if dataset is None or dataset.size != count:
        return None
    values = dataset[()].ravel()
    if all(isinstance(value, bytes) for value in values):
        return [value.decode() for value in values]
    if dataset.dtype.kind in "iu":
        return [str(value) for value in values]
    return ["".join(map(chr, file[value][()].ravel())) for value in values]
