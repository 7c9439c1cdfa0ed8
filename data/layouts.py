"""Layouts of the field: `tum:PATH`, `kitti:PATH` and `scannet:PATH`.

A scene is what a split must not cut: TUM's sequence, KITTI's drive (both cameras), ScanNet's space (all scans of it).
"""

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from depth_loss_sweep.data.errors import DataError, reading
from depth_loss_sweep.data.file_pairs import FilePair, FilePairs, Found, folder_of, match_files
from depth_loss_sweep.data.registry import PICTURES
from depth_loss_sweep.data.settings import DataSettings
from depth_loss_sweep.data.sources import Item, list_files, names_of
from depth_loss_sweep.words import counted

APART_S = 0.02
"""A picture and a depth map were taken together if they are no further apart (TUM's associate.py)."""

OFFICIAL = "scannetv2_{}.txt"
"""ScanNet's own lists of the scans that train, validate and test."""


class TumSource(FilePairs):
    """TUM RGB-D, and ICL-NUIM in its layout: one sequence, or a folder of sequences, each the scene of its pictures.

        [SEQUENCE/]rgb/SECONDS.png and depth/SECONDS.png, 16-bit, 5000 a metre
        [SEQUENCE/]associations.txt: lines of SECONDS, picture, SECONDS, depth

    Without associations.txt, pictures and depth are associated by their times. Source: Sturm et al., A Benchmark for the
    Evaluation of RGB-D SLAM Systems, 2012.
    """

    name = "tum"

    def __init__(self, root: Path, settings: DataSettings) -> None:
        listing = list_files(root)
        taken: dict[Path, dict[str, list[Path]]] = {}
        for path in listing.files:
            if path.parent.name in ("rgb", "depth") and path.parent != root and path.suffix.lower() in PICTURES:
                taken.setdefault(path.parent.parent, {}).setdefault(path.parent.name, []).append(path)
        lists = {path.parent: path for path in listing.files if re.fullmatch(r"assoc\w*\.txt", path.name)}
        pairs, notes, alone = list[FilePair](), list[str](), 0
        for sequence, files in taken.items():
            pictures, depths = files.get("rgb", []), files.get("depth", [])
            is_listed = sequence in lists
            found = _listed(lists[sequence]) if is_listed else associate(pictures, depths)
            alone += 0 if is_listed else len(pictures) - len(found)
            for picture, depth in found:
                pairs.append(_pair(root, picture, depth, sequence.relative_to(root).as_posix()))
        if alone:
            notes.append(
                f"{counted(alone, 'picture', 'is', 'are')} left out, since no depth was taken within {APART_S} s"
            )
        expected = f"{root} holds no sequence of TUM RGB-D; expected rgb/ and depth/ in it, or in the folders below it"
        super().__init__(Found(pairs, expected, listing.faults, [*listing.notes, *notes]), settings)


def associate(pictures: Sequence[Path], depths: Sequence[Path]) -> list[tuple[Path, Path]]:
    """Pairs of files whose names are seconds no further apart than APART_S, the closest first, each file once."""
    of_picture, of_depth = sorted(_times(pictures)), sorted(_times(depths))
    candidates, start = [], 0
    for seconds, picture in of_picture:
        while start < len(of_depth) and of_depth[start][0] < seconds - APART_S:
            start += 1
        for other, depth in of_depth[start:]:
            if other > seconds + APART_S:
                break
            candidates.append((abs(other - seconds), picture, depth))
    chosen: dict[Path, Path] = {}
    used = set[Path]()
    for _, picture, depth in sorted(candidates):
        if picture not in chosen and depth not in used:
            chosen[picture] = depth
            used.add(depth)
    return sorted(chosen.items())


def _times(files: Iterable[Path]) -> list[tuple[float, Path]]:
    try:
        return [(float(path.stem), path) for path in files]
    except ValueError:
        bad = next(path for path in files if not re.fullmatch(r"\d+(\.\d+)?", path.stem))
        raise DataError(f"{bad} is not called by its time in seconds; expected that, or an associations.txt") from None


def _listed(path: Path) -> list[tuple[Path, Path]]:
    """Picture and depth of each line of an associations.txt, in which either may come first."""
    with reading(path):
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    found = []
    for number, line in enumerate(lines, start=1):
        words = line.split()
        if not words or line.startswith("#"):
            continue
        if len(words) != 4:
            raise DataError(f"line {number} of {path} is {line[:80]!r}; expected SECONDS rgb/FILE SECONDS depth/FILE")
        first, second = path.parent / words[1], path.parent / words[3]
        found.append((second, first) if Path(words[1]).parts[:1] == ("depth",) else (first, second))
    return found


class KittiSource(FilePairs):
    """KITTI: raw pictures, and the annotated depth maps wherever they lie below the folder.

        .../DRIVE/image_02/data/NUMBER.png (or .jpg), image_03 likewise
        .../[train|val/]DRIVE/proj_depth/groundtruth/image_02/NUMBER.png, 16-bit, 256 a metre, sparse

    Pictures without depth are left out, as there are at the ends of each drive. Sources: Geiger et al., Vision meets Robotics,
    2013; Uhrig et al., Sparsity Invariant CNNs, 2017.
    """

    name = "kitti"

    def __init__(self, root: Path, settings: DataSettings) -> None:
        listing = list_files(root)
        matched = match_files(
            root,
            [path for path in listing.files if path.suffix.lower() in PICTURES],
            "**/{scene}/image_{camera}/data/{number}.*",
            "**/{scene}/proj_depth/groundtruth/image_{camera}/{number}.png",
        )
        pairs = [_pair(root, picture, depth, fields["scene"]) for picture, depth, fields in matched.pairs]
        pairs += [_without_picture(root, path, fields["scene"]) for path, fields in matched.lone_depths.items()]
        notes = _left_out(root, matched.lone_pictures)
        expected = f"{root} holds no depth of KITTI; expected DRIVE/proj_depth/groundtruth/image_02/*.png below it"
        faults = [*listing.faults, *matched.faults]
        super().__init__(Found(pairs, expected, faults, [*listing.notes, *notes]), settings)


class ScanNetSource(FilePairs):
    """ScanNet as its exporter writes it, each frame's picture and depth; their sizes differ.

        .../sceneSSSS_NN/color/NUMBER.jpg
        .../sceneSSSS_NN/depth/NUMBER.png, 16-bit, millimetres

    Split by ScanNet's own lists where these lie in the folder. Source: Dai et al., ScanNet, 2017.
    """

    name = "scannet"

    def __init__(self, root: Path, settings: DataSettings) -> None:
        listing = list_files(root)
        files = [path for path in listing.files if path.suffix.lower() in PICTURES]
        matched = match_files(root, files, "**/{scan}/color/{number}.*", "**/{scan}/depth/{number}.png")
        official = _official(root)
        pairs = []
        for picture, depth, fields in matched.pairs:
            pair = _pair(root, picture, depth, _space(fields["scan"]), official.get(fields["scan"]))
            pairs.append(pair)
        pairs += [_without_picture(root, path, _space(fields["scan"])) for path, fields in matched.lone_depths.items()]
        pairs += [
            FilePair(
                Item(_key(root, path), _space(fields["scan"])), path, None, "has no depth; expected ../depth/NUMBER.png"
            )
            for path, fields in matched.lone_pictures.items()
        ]
        expected = f"{root} holds no frames of ScanNet; expected SCAN/color/*.jpg and SCAN/depth/*.png below it"
        super().__init__(Found(pairs, expected, [*listing.faults, *matched.faults], listing.notes), settings)


def _official(root: Path) -> dict[str, str]:
    """The part that ScanNet's lists give each scan; empty without them."""
    parts: dict[str, str] = {}
    for part in ("train", "val", "test"):
        path = root / OFFICIAL.format(part)
        if path.is_file():
            with reading(path):
                parts |= dict.fromkeys(path.read_text(encoding="utf-8", errors="replace").split(), part)
    return parts


def _space(scan: str) -> str:
    """The space that a scan shows, of which there may be several: scene0000_01 is the second of scene0000."""
    return re.sub(r"(scene\d{4})_\d\d", r"\1", scan)


def _pair(root: Path, picture: Path, depth: Path, scene: str, folder: str | None = None) -> FilePair:
    folders = (folder_of(Path(_key(root, path))) for path in (depth, picture))
    return FilePair(Item(_key(root, picture), scene, folder or next(filter(None, folders), None)), picture, depth)


def _without_picture(root: Path, depth: Path, scene: str) -> FilePair:
    return FilePair(Item(_key(root, depth), scene), None, depth, "has no picture")


def _left_out(root: Path, pictures: Iterable[Path]) -> list[str]:
    names = [_key(root, path) for path in pictures]
    words = counted(len(names), "picture", "is", "are")
    return [f"{words} left out, since there is no depth ({names_of(names)})"] if names else []


def _key(root: Path, path: Path) -> str:
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else path.as_posix()
