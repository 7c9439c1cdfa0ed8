"""DIODE in its own layout: `diode:PATH`, where PATH is the folder that holds train/ and val/, or one of these.

    [train|val/]indoors|outdoor/scene_SSSSS/scan_AAAAA/NAME.png
    .../NAME_depth.npy        (H, W, 1) float32 metres
    .../NAME_depth_mask.npy   (H, W), 1 = valid

The files are listed from the folder: a part of the dataset works like all of it. Source: Vasiljevic et al., DIODE: A
Dense Indoor and Outdoor DEpth Dataset, 2019.
"""

import io
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from depth_loss_sweep.data.errors import DAMAGE, BadFileError, DataError, reading
from depth_loss_sweep.data.pictures import read_rgb
from depth_loss_sweep.data.settings import DataSettings
from depth_loss_sweep.data.sources import FOLDERS, Item, file_digest, list_files, refuse_faults

PARTS = ("indoors", "outdoor")
READ = (".png", ".npy")
DECODER_VERSION = 1


class DiodeSource:
    """The pictures below a folder, filtered by `settings.scenes`.

    val/ counts as a split only beside a train/: validation pictures alone are pooled, and split by scene.
    """

    name = "diode"

    def __init__(self, root: Path, settings: DataSettings) -> None:
        self._paths: dict[str, Path] = {}
        listing = list_files(root)
        listing.note_unread(root, READ)
        self.faults, self.notes = listing.faults, listing.notes
        paths = {path.relative_to(root): path for path in listing.files if path.suffix.lower() == ".png"}
        folders = {path.parts[0] for path in paths} & set(FOLDERS)
        self._split = "train" in folders
        for relative, path in paths.items():
            if settings.scenes == "all" or _part(relative) == settings.scenes:
                self._paths[self._key(relative)] = path
        if not self._paths:
            refuse_faults(self)
            what = "" if settings.scenes == "all" else f"{settings.scenes} "
            raise DataError(
                f"{root} holds no {what}pictures of DIODE; expected val/indoors/scene_*/scan_*/*.png below it"
            )

    def _key(self, relative: Path) -> str:
        # Without a train/, PATH and PATH/val are the same dataset and must give the same keys.
        parts = relative.parts if self._split or relative.parts[0] not in FOLDERS else relative.parts[1:]
        return Path(*parts).with_suffix("").as_posix()

    def items(self) -> Sequence[Item]:
        """One item for each picture. The scene is DIODE's: its scans show the same place."""
        return [self._item(key) for key in sorted(self._paths)]

    def _item(self, key: str) -> Item:
        parts = key.split("/")
        scene = next((part for part in parts if part.startswith("scene_")), "/".join(parts[:-1]) or ".")
        return Item(key, scene, parts[0] if self._split and parts[0] in FOLDERS else None)

    def load(self, item: Item) -> tuple[np.ndarray, np.ndarray]:
        """RGB (H, W, 3) uint8 and depth (H, W) float32 metres, 0 = invalid. DataError names the bad file."""
        picture, depth_file, mask_file = self._trio(item)
        image = read_rgb(picture)
        depth, mask = _read_map(depth_file, image.shape[:2]), _read_map(mask_file, image.shape[:2])
        valid = (mask > 0.5) & np.isfinite(depth) & (depth > 0)
        return image, np.where(valid, depth, 0).astype(np.float32)

    def content(self, item: Item, digest: Callable[[Path], str] = file_digest) -> str:
        """Digests of the three files. Raises DataError if one is missing."""
        return ":".join([f"diode:{DECODER_VERSION}", *(digest(path) for path in self._trio(item))])

    def _trio(self, item: Item) -> tuple[Path, Path, Path]:
        picture = self._paths[item.key]
        return (
            picture,
            picture.with_name(f"{picture.stem}_depth.npy"),
            picture.with_name(f"{picture.stem}_depth_mask.npy"),
        )


def _part(path: Path) -> str | None:
    """ "indoors" or "outdoor": a folder's name, or, where PATH lies below these, a word of the file's."""
    words = [*path.parts[:-1], *path.stem.split("_")]
    return next((part for part in PARTS if part in words), None)


def _read_map(path: Path, shape: tuple[int, ...]) -> np.ndarray:
    """A depth map or mask of shape (H, W) or (H, W, 1) as (H, W)."""
    with reading(path):
        data = path.read_bytes()
    try:
        array = np.lib.format.read_array(io.BytesIO(data), allow_pickle=False)
    except DAMAGE:
        raise BadFileError(path, "is truncated or no array file; replace it") from None
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[..., 0]
    if array.shape != shape or array.dtype.kind not in "fiub":
        raise BadFileError(path, f"holds {array.dtype} {array.shape}; expected numbers of the picture's shape {shape}")
    return array
