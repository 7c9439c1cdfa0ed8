"""The decoded, resized pictures as memory-mapped arrays: built once, shared by every run and process.

A cache lies at CACHE_ROOT/FINGERPRINT-HEIGHTxWIDTH-vVERSION/ (or ...WIDTH-any-vVERSION/, see `resize_depth`) and holds
images.npy, depth.npy and index.json. The
fingerprint is a hash of keys, scenes, folders and contents, so a cache is found again wherever the pictures lie, and
a changed picture makes another cache. It is built in a folder beside its place, under an flock, and renamed when
complete: readers see all of it or nothing.
"""

import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from depth_loss_sweep.data.errors import DAMAGE, DataError, reading
from depth_loss_sweep.data.resize import DepthResize, resize_depth, resize_image
from depth_loss_sweep.data.settings import DataSettings
from depth_loss_sweep.data.sources import DIGEST_CHUNK, Item, Source, file_digest
from depth_loss_sweep.files import lock_in_turn, sync_folder, write_whole
from depth_loss_sweep.words import counted

PREPROCESSING_VERSION = 1
"""Raise it when the same files would give other arrays."""

ARRAYS = ("images.npy", "depth.npy")

PULSE_S = 0.5
"""How often a caller hears of work that has no picture to count, so that it can stop it, or say that it is alive."""

Progress = Callable[[int, int], None]
"""Called with (done, total). (0, total): another process decodes them, and is waited for; (n, 0): n looked through so far."""


@dataclass(frozen=True)
class DepthDataset:
    """An open cache. `images` is (N, H, W, 3) uint8 RGB, `depth` (N, H, W) float32 metres with 0 = invalid."""

    folder: Path
    fingerprint: str
    source: str
    keys: tuple[str, ...]
    scenes: tuple[str, ...]
    folders: tuple[str | None, ...]
    images: np.ndarray
    depth: np.ndarray

    def __len__(self) -> int:
        return len(self.keys)


# Identity --------------------------------------------------------------------------------------------------------


def fingerprint_of(items: Sequence[Item], contents: Sequence[str]) -> str:
    """A hash of what the pictures are, as 32 hex digits; the same wherever their folder lies."""
    digest = hashlib.blake2b(digest_size=16)
    for item, content in zip(items, contents, strict=True):
        digest.update(json.dumps([item.key, item.scene, item.folder, content]).encode() + b"\n")
    return digest.hexdigest()


def cache_folder(cache_root: Path, fingerprint: str, image_size: tuple[int, int], how: DepthResize = "area") -> Path:
    """Where the cache of these pictures at this size lies, by how depth is resized, whether it exists or not."""
    any_ = "-any" if how == "any" else ""  # "area" was there before there was a choice
    return cache_root / f"{fingerprint}-{image_size[0]}x{image_size[1]}{any_}-v{PREPROCESSING_VERSION}"


def depth_resize(settings: DataSettings) -> DepthResize:
    """How depth is resized by settings for which that was chosen; what was left open is "area"."""
    return "any" if settings.depth_resize == "any" else "area"


class FileDigests:
    """Digests of files, remembered in CACHE_ROOT/digests.json so that unchanged files aren't read again.

    A file counts as unchanged while its absolute path, size, and times of change are. The memory may be lost or
    damaged at any time: then files are simply read.
    """

    def __init__(self, cache_root: Path) -> None:
        self._file = cache_root / "digests.json"
        self._known = self._read()
        self._added: dict[str, list[Any]] = {}

    def __call__(self, path: Path) -> str:
        """The digest of one file. Raises DataError if it can't be read."""
        with reading(path):
            status = path.stat()
        name, state = str(path.resolve()), [status.st_size, status.st_mtime_ns, status.st_ctime_ns]
        known = self._known.get(name)
        if known is not None and known[:3] == state:
            return str(known[3])
        digest = file_digest(path)
        self._known[name] = self._added[name] = [*state, digest]
        return digest

    def save(self) -> None:
        """Adds what was learnt to the file, keeping what others added meanwhile."""
        if not self._added:
            return
        with lock_in_turn(self._file.with_suffix(".lock")):
            write_whole(self._file, json.dumps(self._read() | self._added).encode())
        self._added = {}

    def _read(self) -> dict[str, list[Any]]:
        try:
            known = json.loads(self._file.read_bytes())
        except (OSError, ValueError):
            return {}
        if not isinstance(known, dict):
            return {}
        return {name: entry for name, entry in known.items() if isinstance(entry, list) and len(entry) == 4}


def remembered(path: Path, compute: Callable[[], Any]) -> Any:
    """What `compute` gives (JSON-able), from `path` where it was kept before; lost or damaged, it is computed again."""
    try:
        kept = json.loads(path.read_bytes())
        if kept["digest"] == _digest_of(kept["value"]):
            return kept["value"]
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        pass
    value = compute()
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, json.dumps({"digest": _digest_of(value), "value": value}).encode())
    return value


def _digest_of(value: Any) -> str:
    return hashlib.blake2b(json.dumps(value, sort_keys=True).encode(), digest_size=16).hexdigest()


def cache_lock(folder: Path) -> Path:
    """The file whose flock the builder of a cache holds."""
    return folder.with_name(f"{folder.name}.lock")


class Pulse:
    """Calls `on_progress(n, 0)` now and then; the first time only once something has taken its time."""

    def __init__(self, on_progress: Progress | None) -> None:
        self._on_progress, self._last = on_progress, time.monotonic()

    def __call__(self, done: int = 0) -> None:
        """To be called often."""
        if self._on_progress is not None and time.monotonic() - self._last >= PULSE_S:
            self._on_progress(done, 0)
            self._last = time.monotonic()


# Building --------------------------------------------------------------------------------------------------------


def build_cache(
    source: Source,
    settings: DataSettings,
    cache_root: Path,
    on_progress: Progress | None = None,
    fingerprint: str | None = None,
) -> DepthDataset:
    """Opens the cache of a source's pictures, building it first if it isn't there. `fingerprint` is theirs, where known.

    `on_progress` is called after each picture decoded, and now and then else; what it raises ends the work. Two builders
    at once: the second waits for the first and uses its work. Raises DataError for the first bad picture, and for a
    damaged cache (which is left alone).
    """
    items = source.items()
    try:
        fingerprint = fingerprint or fingerprint_source(source, items, cache_root, on_progress)
        folder = cache_folder(cache_root, fingerprint, settings.image_size, depth_resize(settings))
        if not folder.is_dir():
            with lock_in_turn(cache_lock(folder), lambda: on_progress(0, len(items)) if on_progress else None):
                if not folder.is_dir():  # another builder may have finished while we waited
                    _require_room(cache_root, len(items), settings.image_size)
                    _build(folder, fingerprint, source, items, settings, on_progress)
    except OSError as error:
        raise _unwritable(cache_root, error) from error
    verify_cache(folder, on_progress)  # training on a flipped bit would give every study here other numbers, in silence
    return open_cache(folder)


def _require_room(cache_root: Path, count: int, size: tuple[int, int]) -> None:
    """Raise `DataError` where the arrays will not fit on the disk: decoding can take long."""
    needed, usage = count * size[0] * size[1] * (3 + 4), shutil.disk_usage(cache_root)
    if usage.total and usage.free < needed:  # some network disks tell nothing
        raise DataError(
            f"the cache in {cache_root} needs {needed / 1e6:,.0f} MB for {counted(count, 'picture')} of {size[0]}x{size[1]}, and "
            f"{usage.free / 1e6:,.0f} MB are free; make room, or choose a smaller data.image_size or another --home"
        )


def fingerprint_source(
    source: Source, items: Sequence[Item], cache_root: Path, on_progress: Progress | None = None
) -> str:
    """The fingerprint of a source's pictures, whose files are read as far as they aren't known. DataError for a bad one."""
    try:
        cache_root.mkdir(parents=True, exist_ok=True)
        digests, contents, pulse = FileDigests(cache_root), list[str](), Pulse(on_progress)
        try:
            for item in items:
                contents.append(source.content(item, digests))
                pulse(len(contents))
            return fingerprint_of(items, contents)
        finally:  # stopped, too: the files that were read are not read again
            digests.save()
    except OSError as error:
        raise _unwritable(cache_root, error) from error


def _unwritable(cache_root: Path, error: OSError) -> DataError:
    return DataError(f"the cache in {cache_root} cannot be written: {error.strerror or error}")


def _build(
    folder: Path,
    fingerprint: str,
    source: Source,
    items: Sequence[Item],
    settings: DataSettings,
    on_progress: Progress | None,
) -> None:
    """Writes the cache into a folder of its own and renames it. The caller holds the lock of `folder`."""
    for leftover in folder.parent.glob(f".{folder.name}.building-*"):
        shutil.rmtree(leftover)  # of a builder that was killed: a live one would hold the lock
    building = folder.with_name(f".{folder.name}.building-{os.getpid()}")
    building.mkdir()
    try:
        files = _write_arrays(building, source, items, settings, on_progress)
        index = {
            "version": PREPROCESSING_VERSION,
            "fingerprint": fingerprint,
            "source": source.name,
            "image_size": list(settings.image_size),
            "items": [asdict(item) for item in items],
            "files": files,
        }
        write_whole(building / "index.json", json.dumps(index).encode())
        sync_folder(building)
        building.rename(folder)
        sync_folder(folder.parent)
    finally:
        shutil.rmtree(building, ignore_errors=True)


def _write_arrays(
    building: Path, source: Source, items: Sequence[Item], settings: DataSettings, on_progress: Progress | None
) -> dict[str, dict[str, Any]]:
    """Writes images.npy and depth.npy; returns their sizes and checksums for the index."""
    count, size = len(items), settings.image_size
    with (
        _ArrayFile(building / "images.npy", (count, *size, 3), np.dtype(np.uint8)) as images,
        _ArrayFile(building / "depth.npy", (count, *size), np.dtype(np.float32)) as depths,
    ):
        for done, item in enumerate(items, start=1):
            image, depth = source.load(item)
            images.append(resize_image(image, size))
            depths.append(resize_depth(depth, size, depth_resize(settings)))
            if on_progress is not None:
                on_progress(done, count)
    return {"images.npy": images.record, "depth.npy": depths.record}


class _ArrayFile:
    """A .npy file written row by row and hashed on the way.

    Not a writable memory map: on a full disk that ends the process with SIGBUS instead of raising an error.
    """

    def __init__(self, path: Path, shape: tuple[int, ...], dtype: np.dtype) -> None:
        self._path, self._shape, self._dtype = path, shape, dtype
        self._digest = hashlib.blake2b(digest_size=16)
        self.record: dict[str, Any] = {}

    def __enter__(self) -> "_ArrayFile":
        self._file = self._path.open("wb")
        header = {"descr": np.lib.format.dtype_to_descr(self._dtype), "fortran_order": False, "shape": self._shape}
        np.lib.format.write_array_header_1_0(self._file, header)
        return self

    def append(self, row: np.ndarray) -> None:
        """Adds one row of the array's first axis."""
        if row.shape != self._shape[1:]:
            raise ValueError(f"a row of shape {row.shape} does not fit into {self._path.name} of {self._shape}")
        data = np.ascontiguousarray(row, dtype=self._dtype).tobytes()
        self._digest.update(data)
        self._file.write(data)

    def __exit__(self, kind: type[BaseException] | None, _: BaseException | None, __: TracebackType | None) -> None:
        with self._file:
            if kind is None:
                self._file.flush()
                os.fsync(self._file.fileno())
                self.record = {"bytes": self._file.tell(), "blake2b": self._digest.hexdigest()}


# Opening ---------------------------------------------------------------------------------------------------------


def open_cache(folder: Path) -> DepthDataset:
    """Opens a cache without touching its source; sizes and shapes are checked, checksums are not.

    Raises DataError naming a missing or damaged file; nothing is ever overwritten.
    """
    index = _read_index(folder)
    try:
        items = [Item(**item) for item in index["items"]]
        size = tuple(index["image_size"])
        fingerprint, source = str(index["fingerprint"]), str(index["source"])
        expected_bytes = {name: index["files"][name]["bytes"] for name in ARRAYS}
    except (KeyError, TypeError):
        raise _damaged(folder / "index.json", "lacks entries") from None
    images = _open_array(folder / "images.npy", expected_bytes["images.npy"], (len(items), *size, 3), np.uint8)
    depth = _open_array(folder / "depth.npy", expected_bytes["depth.npy"], (len(items), *size), np.float32)
    keys, scenes = tuple(item.key for item in items), tuple(item.scene for item in items)
    folders = tuple(item.folder for item in items)
    return DepthDataset(folder, fingerprint, source, keys, scenes, folders, images, depth)


def verify_cache(folder: Path, on_progress: Progress | None = None) -> None:
    """Reads a cache in full and compares its checksums, `on_progress(0, 0)` now and then.

    Raises DataError naming the damaged file. Whatever else the index lists is not looked at.
    """
    open_cache(folder)
    pulse = Pulse(on_progress)
    try:
        expected = {name: _read_index(folder)["files"][name]["blake2b"] for name in ARRAYS}
    except (LookupError, TypeError):
        raise _damaged(folder / "index.json", "lacks checksums") from None
    for name in ARRAYS:
        if _array_digest(folder / name, pulse) != expected[name]:
            raise _damaged(folder / name, "fails its checksum")


def _array_digest(path: Path, pulse: Pulse) -> str:
    """The checksum of an array file's numbers."""
    digest = hashlib.blake2b(digest_size=16)
    try:
        with path.open("rb") as file:
            np.lib.format.read_magic(file)
            np.lib.format.read_array_header_1_0(file)
            while chunk := file.read(DIGEST_CHUNK):
                digest.update(chunk)
                pulse()
    except (OSError, ValueError):
        raise _damaged(path, "cannot be read") from None
    return digest.hexdigest()


def _read_index(folder: Path) -> dict[str, Any]:
    path = folder / "index.json"
    try:
        index = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise _damaged(path, "is missing") from None
    except (OSError, ValueError, RecursionError):
        raise _damaged(path, "cannot be read") from None
    if not isinstance(index, dict):
        raise _damaged(path, "is no index")
    return index


def _open_array(path: Path, expected_bytes: int, shape: tuple[int, ...], dtype: type) -> np.ndarray:
    try:
        actual = path.stat().st_size
        if actual != expected_bytes:
            raise _damaged(path, f"has {actual} bytes instead of {expected_bytes}")
        array = np.lib.format.open_memmap(path, mode="r")
    except FileNotFoundError:
        raise _damaged(path, "is missing") from None
    except DAMAGE:
        raise _damaged(path, "is no array file") from None
    if array.shape != shape or array.dtype != dtype:
        raise _damaged(path, f"holds {array.dtype} {array.shape} instead of {np.dtype(dtype)} {shape}")
    return array


def _damaged(path: Path, what: str) -> DataError:
    return DataError(f"the cache file {path} {what}; delete the folder {path.parent.name} to have it built anew")
