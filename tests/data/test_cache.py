"""The memory-mapped cache: identity, two builders, killed builders, damage."""

import fcntl
import json
import multiprocessing
import os
import shutil
import signal
import time
from pathlib import Path

import cv2
import numpy as np
import pytest

from depth_loss_sweep.data.cache import (
    build_cache,
    cache_lock,
    open_cache,
    remembered,
    verify_cache,
)
from depth_loss_sweep.data.errors import DataError
from depth_loss_sweep.data.resize import resize_depth, resize_image
from depth_loss_sweep.data.settings import DataSettings
from depth_loss_sweep.data.sources import open_source
from depth_loss_sweep.files import write_whole

SPAWN = multiprocessing.get_context("spawn")


def build(settings: DataSettings, cache_root: Path, **more):
    """Opens the source that the settings name, and its cache."""
    return build_cache(open_source(settings), settings, cache_root, **more)


# Building and identity


def test_cache_holds_what_the_source_gives(pairs, settings_of, tmp_path):
    """Images and depth are the resized pictures, in order of their keys; progress counts them."""
    seen = []
    dataset = build(settings_of(pairs), tmp_path / "cache", on_progress=lambda *counts: seen.append(counts))
    source = open_source(settings_of(pairs))
    assert seen == [(done, 12) for done in range(1, 13)]
    assert list(dataset.keys) == sorted(dataset.keys) and len(dataset) == 12
    assert dataset.scenes[:3] == ("scene_0", "scene_0", "scene_1")
    for index, item in enumerate(source.items()):
        image, depth = source.load(item)
        np.testing.assert_array_equal(dataset.images[index], resize_image(image, (16, 16)))
        np.testing.assert_array_equal(dataset.depth[index], resize_depth(depth, (16, 16)))
    verify_cache(dataset.folder)


def test_cache_is_found_again_wherever_the_pictures_lie(pairs, settings_of, tmp_path):
    """The fingerprint doesn't contain the path: a copy elsewhere uses the same cache."""
    first = build(settings_of(pairs), tmp_path / "cache")
    copy = shutil.copytree(pairs, tmp_path / "elsewhere" / "copy")
    built = []
    again = build(settings_of(copy), tmp_path / "cache", on_progress=lambda *counts: built.append(counts))
    assert again.folder == first.folder and not built


def test_changed_pictures_make_another_cache(pairs, settings_of, tmp_path):
    """Content, scale, size and scene all count; the file's time alone doesn't."""
    first = build(settings_of(pairs), tmp_path / "cache")
    os.utime(pairs / "scene_0/000.png")
    assert build(settings_of(pairs), tmp_path / "cache").folder == first.folder
    others = [
        build(settings_of(pairs, image_size=24), tmp_path / "cache"),
        build(settings_of(pairs, depth_scale=0.002), tmp_path / "cache"),
    ]
    cv2.imwrite(str(pairs / "scene_0/000.png"), np.zeros((24, 32, 3), np.uint8))
    others.append(build(settings_of(pairs), tmp_path / "cache"))
    (pairs / "scene_5").rename(pairs / "scene_9")
    others.append(build(settings_of(pairs), tmp_path / "cache"))
    assert len({first.folder, *(other.folder for other in others)}) == 5


def test_unchanged_files_are_not_read_again(pairs, settings_of, tmp_path, monkeypatch):
    """A second start takes the files' digests from memory, and a lost memory does no harm."""
    first = build(settings_of(pairs), tmp_path / "cache")
    with monkeypatch.context() as patch:
        patch.setattr("depth_loss_sweep.data.cache.file_digest", lambda path: pytest.fail(f"{path} was read"))
        assert build(settings_of(pairs), tmp_path / "cache").fingerprint == first.fingerprint
    for damage in ("", "[1]", '{"a": 3}', "{"):
        (tmp_path / "cache" / "digests.json").write_text(damage)
        assert build(settings_of(pairs), tmp_path / "cache").fingerprint == first.fingerprint


def test_bad_picture_leaves_nothing_half_written(pairs, settings_of, tmp_path):
    """A build that meets a bad picture names it and leaves no folder behind."""
    (pairs / "scene_3/001.png").write_bytes(b"no picture")
    with pytest.raises(DataError, match=r"scene_3/001\.png is neither PNG, JPEG, WebP nor PPM"):
        build(settings_of(pairs), tmp_path / "cache")
    assert not [path for path in (tmp_path / "cache").iterdir() if path.is_dir()]


def test_unwritable_cache_is_one_line(pairs, settings_of, tmp_path):
    """A cache folder that is a file is an error that names it."""
    (tmp_path / "cache").write_text("")
    with pytest.raises(DataError, match=r"the cache in .* cannot be written"):
        build(settings_of(pairs), tmp_path / "cache")


# Several processes


def _build(settings: DataSettings, cache_root: Path, log: Path, pause: float) -> None:
    def report(done: int, total: int) -> None:
        if done and total:  # else it waits, or looks through files
            with log.open("a") as file:
                file.write(f"{os.getpid()}\n")
            time.sleep(pause)

    build(settings, cache_root, on_progress=report)


def _start(settings: DataSettings, tmp_path: Path, pause: float = 0.03) -> multiprocessing.process.BaseProcess:
    process = SPAWN.Process(target=_build, args=(settings, tmp_path / "cache", tmp_path / "log", pause))
    process.start()
    return process


def test_second_builder_waits_for_the_first(pairs, settings_of, tmp_path):
    """Two builders at once: one builds, the other uses its work."""
    processes = [_start(settings_of(pairs), tmp_path) for _ in range(2)]
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0]
    lines = (tmp_path / "log").read_text().split()
    assert len(lines) == 12 and len(set(lines)) == 1
    verify_cache(build(settings_of(pairs), tmp_path / "cache").folder)


def test_killed_build_is_cleaned_up_by_the_next(pairs, settings_of, tmp_path):
    """SIGKILL in the middle leaves no cache; the next build removes the rest and completes."""
    process = _start(settings_of(pairs), tmp_path, pause=3600)
    while not (tmp_path / "log").exists():
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    leftovers = [path for path in (tmp_path / "cache").iterdir() if path.is_dir()]
    assert len(leftovers) == 1 and ".building-" in leftovers[0].name
    dataset = build(settings_of(pairs), tmp_path / "cache")
    assert [path for path in (tmp_path / "cache").iterdir() if path.is_dir()] == [dataset.folder]
    verify_cache(dataset.folder)


def test_waiting_for_another_builder_can_be_stopped(pairs, settings_of, tmp_path):
    """A builder that waits says so, (0, total), and ends when what it calls raises; so it renews a lease meanwhile."""
    folder = build(settings_of(pairs), tmp_path / "cache").folder
    shutil.rmtree(folder)
    heard = []

    def stop_at_third(*counts: int) -> None:
        heard.append(counts)
        if len(heard) == 3:
            raise KeyboardInterrupt

    with cache_lock(folder).open("w") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(KeyboardInterrupt):
            build(settings_of(pairs), tmp_path / "cache", on_progress=stop_at_third)
    assert heard == [(0, 12)] * 3
    assert build(settings_of(pairs), tmp_path / "cache").folder == folder


def test_looking_through_files_can_be_stopped(pairs, settings_of, tmp_path, monkeypatch):
    """Hashing the files and verifying the cache say that they are alive; what was hashed before a stop is remembered."""
    monkeypatch.setattr("depth_loss_sweep.data.cache.PULSE_S", 0.0)
    heard = []
    build(settings_of(pairs), tmp_path / "first", on_progress=lambda *counts: heard.append(counts))
    assert heard[:12] == [(done, 0) for done in range(1, 13)]
    assert heard[12:24] == [(done, 12) for done in range(1, 13)] and set(heard[24:]) == {(0, 0)}

    def stop_at_fifth(done: int, _: int) -> None:
        if done == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build(settings_of(pairs), tmp_path / "cache", on_progress=stop_at_fifth)
    assert len(json.loads((tmp_path / "cache" / "digests.json").read_text())) == 10


# Damage


def test_a_failed_write_leaves_nothing_and_names_the_file(tmp_path, monkeypatch):
    """Neither the half of a file, nor an error that tells of none."""
    monkeypatch.setattr("os.fsync", lambda _: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(OSError, match="No space left") as caught:
        write_whole(tmp_path / "p.png", b"picture")
    assert caught.value.filename == str(tmp_path / "p.png") and not list(tmp_path.iterdir())


@pytest.mark.parametrize("change", ["blake2b", "files", "bytes", "another"])
def test_the_full_check_reads_two_arrays_and_no_other_file(pairs, settings_of, tmp_path, change):
    """An index without checksums is damaged, and a file that it lists beside the arrays is never opened."""
    folder = build(settings_of(pairs), tmp_path / "cache").folder
    index = json.loads((folder / "index.json").read_text())
    if change == "another":
        index["files"]["../../../dev/stdin"] = {"bytes": 0}
    elif change == "files":
        index["files"]["depth.npy"] = "none"
    else:
        del index["files"]["images.npy"][change]
    (folder / "index.json").write_text(json.dumps(index))
    if change == "another":
        verify_cache(folder)
    else:
        with pytest.raises(DataError, match=rf"index\.json lacks .*delete the folder {folder.name}"):
            verify_cache(folder)


@pytest.mark.parametrize("name", ["images.npy", "depth.npy", "index.json"])
def test_damaged_files_are_named_and_kept(pairs, settings_of, tmp_path, name):
    """A truncated or missing cache file is named with what to do, and not overwritten."""
    folder = build(settings_of(pairs), tmp_path / "cache").folder
    path = folder / name
    path.write_bytes(path.read_bytes()[:-100])
    kept = path.read_bytes()
    with pytest.raises(DataError, match=f"{name} .*delete the folder {folder.name}"):
        build(settings_of(pairs), tmp_path / "cache")
    assert path.read_bytes() == kept
    path.unlink()
    with pytest.raises(DataError, match=f"{name} is missing"):
        open_cache(folder)


def test_flipped_bits_fail_the_full_check(pairs, settings_of, tmp_path):
    """A flipped byte passes the quick look at sizes, and fails the checksum."""
    folder = build(settings_of(pairs), tmp_path / "cache").folder
    path = folder / "depth.npy"
    data = bytearray(path.read_bytes())
    data[-5] ^= 1
    path.write_bytes(bytes(data))
    open_cache(folder)
    with pytest.raises(DataError, match=r"depth\.npy fails its checksum"):
        verify_cache(folder)


def test_index_of_another_array_is_refused(pairs, settings_of, tmp_path):
    """An index that tells of other shapes than the arrays have is found out on opening."""
    folder = build(settings_of(pairs), tmp_path / "cache").folder
    index = json.loads((folder / "index.json").read_text())
    index["items"].pop()
    (folder / "index.json").write_text(json.dumps(index))
    with pytest.raises(DataError, match=r"images\.npy holds uint8 \(12, 16, 16, 3\) instead of"):
        open_cache(folder)


@pytest.mark.parametrize("damage", [None, b"", b"[]", b'{"digest": "x", "value": 1}', b"\xff\x00", b"[" * 100_000])
def test_what_was_computed_is_remembered_or_computed_again(tmp_path, damage):
    """Kept numbers are taken from the file; a lost or damaged file costs only the time to compute them again."""
    path, calls = tmp_path / "known" / "x.json", []

    def compute():
        calls.append(1)
        return {"value": 0.1 + 0.2, "nothing": float("nan")}

    first = remembered(path, compute)
    assert str(remembered(path, compute)) == str(first) and len(calls) == 1
    if damage is not None:
        path.write_bytes(damage)
        assert str(remembered(path, compute)) == str(first) and len(calls) == 2
        assert str(remembered(path, compute)) == str(first) and len(calls) == 2
