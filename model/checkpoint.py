"""Checkpoints that survive being killed: what a run needs to go on exactly, in one file, without pickle.

    checkpoint.npz            the model, the optimiser's state and one JSON blob with all records so far
    checkpoint.previous.npz   the one before, in case the newer one is damaged; goes once the run is finished
    *.damaged.npz             what could not be read, moved aside
    lock                      flock-ed by the one process that trains in this folder

Every file is written beside its place, synced and renamed, so a reader sees the old one or the new one. The
same format, without the optimiser, is the portable model file.
"""

import contextlib
import io
import json
import math
import os
import shutil
import zipfile
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import numpy as np

from depth_loss_sweep.data.errors import DAMAGE
from depth_loss_sweep.files import lock, prepare_whole, sync_folder, writing
from depth_loss_sweep.model.errors import ModelError, RunLockedError
from depth_loss_sweep.model.settings import Keep

FORMAT = 1
META = "meta.json"
CHECKPOINT = "checkpoint.npz"
PREVIOUS = "checkpoint.previous.npz"
DAMAGED = ".damaged.npz"
LOCK = "lock"

Arrays = dict[str, np.ndarray]
Note = Callable[[str], None]


class DamagedFileError(ModelError):
    """A checkpoint, result or model file cannot be read as one."""


@dataclass(frozen=True)
class Checkpoint:
    """The state of a run after `epoch` epochs.

    `model` and `optimizer` hold arrays by name (the optimiser's are "<parameter number>/<state name>"; empty in a
    portable model file); `records` holds one JSON-able record an epoch, oldest first.
    """

    identity: str
    settings: dict[str, Any]
    epoch: int
    records: list[dict[str, Any]]
    model: Arrays
    optimizer: Arrays = field(default_factory=dict)
    weighting: Arrays = field(default_factory=dict)
    """What the weighting of the terms has learnt or carries; nothing for fixed weights."""
    per_image: Arrays = field(default_factory=dict)
    """Every validation picture's terms and metrics after the last epochs, by "<epoch>/<name>"."""
    about: dict[str, Any] = field(default_factory=dict)
    """Whatever else is good to know: runtime, environments."""


# ---- one file ---------------------------------------------------------------------------------------------------


def write_arrays(path: Path, meta: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> None:
    """Write named arrays and a JSON blob to one .npz: to a temporary file, synced, then renamed to `path`.

    Raises OSError (disk full, read-only, ...), leaving what was at `path` before.
    """
    _write_beside(path, meta, arrays).replace(path)
    sync_folder(path.parent)


def read_arrays(path: Path) -> tuple[dict[str, Any], Arrays]:
    """Read what `write_arrays` wrote, every byte checked by its CRC; nothing in the file is executed.

    Raises FileNotFoundError if there is none, OSError if the disk fails, and DamagedFileError naming the file if
    it is not what was written.
    """
    content = path.read_bytes()  # first of all, so that what fails from here on is damage, not the disk
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            meta = json.loads(_member(archive, META))
            written = meta["format"]
            arrays = {name: _array(_member(archive, f"{name}.npy")) for name in meta["arrays"]}
    except MemoryError:
        raise  # ours, not the file's: no array is larger than the bytes it is read from
    except DAMAGE as error:
        raise DamagedFileError(
            f"the file {path} is damaged or no checkpoint ({type(error).__name__}); "
            f"expected an .npz written by this program: restore it, or move it away to start anew"
        ) from error
    if written != FORMAT:
        raise ModelError(f"the file {path} has format {written!r}, expected {FORMAT}; use the version that wrote it")
    return meta, arrays


def _write_beside(path: Path, meta: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> Path:
    """Write and sync what is to take the place of `path`."""
    blob = json.dumps({**meta, "format": FORMAT, "arrays": list(arrays)})

    def write(stream: IO[bytes]) -> None:
        with zipfile.ZipFile(stream, "w", zipfile.ZIP_STORED) as archive:
            archive.writestr(META, blob)
            for name, array in arrays.items():
                with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                    np.lib.format.write_array(member, np.asarray(array, order="C"), allow_pickle=False)

    return prepare_whole(path, write)


def _member(archive: zipfile.ZipFile, name: str) -> bytes:
    info = archive.getinfo(name)
    if info.compress_type != zipfile.ZIP_STORED:
        raise ValueError("compressed: its size could explode, and we never compress")
    return archive.read(info)


def _array(content: bytes) -> np.ndarray:
    stream = io.BytesIO(content)
    if np.lib.format.read_magic(stream) != (1, 0):
        raise ValueError("not the array format that is written here")
    shape, is_fortran, dtype = np.lib.format.read_array_header_1_0(stream)
    values = memoryview(content)[stream.tell() :]
    if dtype.hasobject or math.prod(shape) * dtype.itemsize != len(values):
        raise ValueError("its bytes are not those that the array's shape asks for")
    if not values:
        return np.empty(shape, dtype)
    return np.frombuffer(values, dtype).reshape(shape, order="F" if is_fortran else "C").copy(order="K")


# ---- a checkpoint -----------------------------------------------------------------------------------------------


def write_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Write one checkpoint file, atomically. Raises OSError."""
    write_arrays(path, *_parts(checkpoint))


def read_checkpoint(path: Path) -> Checkpoint:
    """Read one checkpoint file or portable model file.

    Raises FileNotFoundError, OSError, or DamagedFileError naming the file.
    """
    meta, arrays = read_arrays(path)
    try:
        checkpoint = Checkpoint(
            identity=str(meta["identity"]),
            settings=dict(meta["settings"]),
            epoch=int(meta["epoch"]),
            records=[dict(record) for record in meta["records"]],
            model=_with_prefix(arrays, "model/"),
            optimizer=_with_prefix(arrays, "optimizer/"),
            weighting=_with_prefix(arrays, "weighting/"),
            per_image=_with_prefix(arrays, "per_image/"),
            about=dict(meta["about"]),
        )
        if len(checkpoint.records) != checkpoint.epoch or not checkpoint.model:
            raise ValueError("records and epochs differ in number, or there is no model")
    except (LookupError, ValueError, TypeError) as error:
        raise DamagedFileError(f"the file {path} is no checkpoint: {error!s}; give the checkpoint of a run") from error
    return checkpoint


def is_model_file(path: Path) -> bool:
    """Whether a file is a portable model file, as `model.predict.save_model` writes it; a run's checkpoint is none."""
    try:
        with zipfile.ZipFile(path) as archive:
            meta = json.loads(_member(archive, META))
        return "identity" in meta and not any(name.startswith("optimizer/") for name in meta["arrays"])
    except DAMAGE:
        return False


def save_checkpoint(folder: Path, checkpoint: Checkpoint) -> None:
    """Make `checkpoint` the newest of a run's folder and keep the one before. Raises OSError, changing nothing.

    Killed at any instant, it leaves the newest or the one before in place.
    """
    newest = folder / CHECKPOINT
    temporary = _write_beside(newest, *_parts(checkpoint))
    with contextlib.suppress(FileNotFoundError):
        newest.replace(folder / PREVIOUS)
    temporary.replace(newest)
    sync_folder(folder)


class CheckpointWriter:
    """Saves a run's checkpoints beside its training: one at a time, in order. A context manager: it leaves none half done.

    What a kill can cost is the same as if training waited: until `is_done`, the epoch of the checkpoint doesn't count.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
        self._writing: Future[None] | None = None

    def __enter__(self) -> "CheckpointWriter":
        return self

    def __exit__(self, *_: object) -> None:
        self._thread.shutdown()

    def submit(self, checkpoint: Checkpoint) -> None:
        """Begin to save, once the one before is saved. Its arrays must not change meanwhile. Raises OSError as `wait`."""
        self.wait()
        self._writing = self._thread.submit(save_checkpoint, self.folder, checkpoint)

    @property
    def is_done(self) -> bool:
        """Whether nothing is being written."""
        return self._writing is None or self._writing.done()

    def wait(self) -> None:
        """Wait for the checkpoint under way. Raises OSError where it could not be written."""
        writing, self._writing = self._writing, None
        if writing is not None:
            writing.result()


def load_checkpoint(folder: Path, identity: str, on_note: Note) -> Checkpoint | None:
    """The newest readable checkpoint of a run's folder, or None to start from the beginning.

    A damaged file is moved aside (never rotated over a good one) and `on_note` is told in one line. To be called
    with the folder locked. Raises ModelError if the checkpoint belongs to another run, OSError if the disk fails.
    """
    for path in (folder / CHECKPOINT, folder / PREVIOUS):
        try:
            checkpoint = read_checkpoint(path)
        except FileNotFoundError:
            continue
        except DamagedFileError as error:
            aside = path.with_suffix(DAMAGED)
            path.replace(aside)
            on_note(f"{error.__cause__ or error} in {path}: damaged, moved to {aside.name}; going on from what is left")
            continue
        if checkpoint.identity != identity:
            raise ModelError(
                f"the checkpoint {path} belongs to run {checkpoint.identity[:12]}, expected {identity[:12]}; "
                f"remove the folder, or use another home folder"
            )
        return checkpoint
    return None


def newest_checkpoint(folder: Path) -> Checkpoint | None:
    """The newest readable checkpoint of a run's folder, which may be in training; None if there is none."""
    for path in (folder / CHECKPOINT, folder / PREVIOUS):
        with contextlib.suppress(FileNotFoundError, DamagedFileError):
            return read_checkpoint(path)
    return None


def _parts(checkpoint: Checkpoint) -> tuple[dict[str, Any], Arrays]:
    meta = {name: getattr(checkpoint, name) for name in ("identity", "settings", "epoch", "records", "about")}
    parts = ("model", "optimizer", "weighting", "per_image")
    return meta, {f"{part}/{name}": array for part in parts for name, array in getattr(checkpoint, part).items()}


def _with_prefix(arrays: Arrays, prefix: str) -> Arrays:
    return {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}


# ---- the folder -------------------------------------------------------------------------------------------------


def adopt_checkpoint(source: Path, folder: Path) -> None:
    """Begin a run's folder with the checkpoint of another, if it has none; nothing happens where the other has none.

    For a run that extends a shorter one: `load_checkpoint` refuses it where the identities differ. Raises OSError, and RunLockedError where
    another process is at work in the folder.
    """
    if (folder / CHECKPOINT).exists() or not (source / CHECKPOINT).exists():
        return
    with (
        lock_folder(folder),
        writing(folder / CHECKPOINT) as target,
        (source / CHECKPOINT).open("rb") as original,
    ):
        shutil.copyfileobj(original, target)


def free_finished(folder: Path, keep: Keep) -> None:
    """Remove the checkpoints that a finished run needs no more: the one before, and with `keep` "none" the last one, too.

    Where another process is at work in the folder, or there is none, nothing happens. Raises OSError.
    """
    if not folder.is_dir():
        return
    with contextlib.suppress(RunLockedError), lock_folder(folder):
        for name in (PREVIOUS, CHECKPOINT) if keep == "none" else (PREVIOUS,):
            (folder / name).unlink(missing_ok=True)


@contextlib.contextmanager
def lock_folder(folder: Path) -> Iterator[None]:
    """Hold a run's folder for one writer; make it if needed. The kernel frees the lock when the holder dies.

    Raises RunLockedError naming the folder if another process (or another training in this one) holds it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with lock(folder / LOCK) as file:
        if file is None:
            holder = (folder / LOCK).read_text(errors="replace").strip() or "another process"
            raise RunLockedError(f"the run folder {folder} is held by {holder}; wait for it to end, or stop it")
        file.truncate(0)
        file.write(f"process {os.getpid()}")
        file.flush()
        yield
