"""What machines do to a study: full disks, read-only homes, lost folders, damaged checkpoints, clocks set back."""

import errno
import json
import os
import resource
import shutil
import signal
import subprocess
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from depth_loss_sweep import database
from depth_loss_sweep import lease as leases
from depth_loss_sweep.data.cache import cache_folder
from depth_loss_sweep.errors import StorageError
from depth_loss_sweep.model import checkpoint
from depth_loss_sweep.model.runtime import Runtime
from depth_loss_sweep.samplers import SAMPLERS

LONG = {"epochs": "60", "w": "[0.0]"}
"""Two runs that are long enough to be killed in their midst."""


@pytest.fixture(scope="module")
def reference(new_lab):
    """The numbers of an undisturbed study."""
    alone = new_lab()
    assert alone.run("start", alone.spec(epochs="8"), "--workers", "0") == 0
    return alone.numbers("line")


@pytest.fixture(scope="module")
def long_reference(new_lab):
    """The same of long runs."""
    alone = new_lab()
    assert alone.run("start", alone.spec(**LONG), "--workers", "0") == 0
    return alone.numbers("line")


def test_a_sampler_whose_package_is_missing_is_refused_before_anything_is_made(lab, capsys, monkeypatch) -> None:
    """One line says which package, and the study can be started once it is there."""
    spec = lab.spec(lab.SEARCH, sampler='"cmaes"', trials="2", epochs="1")
    with monkeypatch.context() as patch:
        patch.setitem(SAMPLERS, "cmaes", replace(SAMPLERS["cmaes"], package="not_installed_here"))
        assert lab.run("start", spec, "--workers", "0") == 2
        assert "needs the package not_installed_here: pip install" in capsys.readouterr().err
        assert not lab.store.studies()
    assert lab.run("start", spec, "--workers", "0") == 0


def mount(folder: Path, *options: str) -> None:
    """A small disk of its own, or a skip where that is not allowed."""
    done = subprocess.run(["mount", *options, str(folder)], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"cannot mount a small disk here: {done.stderr.strip()}")


@pytest.fixture
def small_disk(lab):
    """The home on a tmpfs of 1 MiB."""
    lab.home.cache.unlink()
    mount(lab.home.root, "-t", "tmpfs", "-o", "size=1m", "tmpfs")
    yield lab.home.root
    subprocess.run(["umount", "-l", str(lab.home.root)], check=True)


def kill_in_mid_run(lab) -> None:
    """Start the study, and kill everything in the midst of its first run."""
    process = lab.spawn("start", lab.spec(**LONG), "--workers", "1")
    lab.wait_for_epochs(20, process)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()


@pytest.mark.slow
def test_a_full_disk_stops_the_study_and_room_lets_it_go_on(lab, small_disk, reference, capsys) -> None:
    """ENOSPC for real: one line, exit 2, nothing corrupt; with room again, the same numbers as ever."""
    assert lab.run("start", lab.spec(epochs="8"), "--workers", "0") == 2
    errors = capsys.readouterr().err
    assert "Traceback" not in errors
    assert "sweep: " in errors.splitlines()[-1]
    mount(small_disk, "-o", "remount,size=100m")
    assert lab.run("start", lab.spec(epochs="8"), "--workers", "0") == 0
    assert lab.store.integrity() == "ok"
    assert lab.numbers("line") == reference


@pytest.mark.slow
def test_a_file_size_limit_is_a_full_disk_too(lab, reference) -> None:
    """Workers that cannot write their checkpoint stop the study, naming the disk; it resumes without the limit."""

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (9_000, resource.RLIM_INFINITY))

    lab.run("start", lab.spec(epochs="1"), "--workers", "0", "--name", "other")  # so that the database exists
    process = lab.spawn("start", lab.spec(epochs="8"), "--workers", "1", preexec_fn=limit)
    _, errors = process.communicate()
    assert process.returncode == 2, errors
    assert "Traceback" not in errors
    assert lab.run("start", lab.spec(epochs="8"), "--workers", "0") == 0
    assert lab.numbers("line") == reference


def test_a_read_only_home_is_refused(lab, capsys) -> None:
    """start says so in one line and exits 2; status and list still read what is there."""
    lab.run("start", lab.spec(epochs="1", seeds="[0]"), "--workers", "0")
    mount(lab.home.root, "--bind", str(lab.home.root))
    try:
        mount(lab.home.root, "-o", "remount,ro,bind")
        capsys.readouterr()
        assert lab.run("start", lab.spec(epochs="1"), "--workers", "0") == 2
        errors = capsys.readouterr().err
        assert len(errors.splitlines()) == 1
        assert "read-only" in errors
        assert lab.run("status", "line") == 0
        assert lab.run("list") == 0
    finally:
        subprocess.run(["umount", "-l", str(lab.home.root)], check=True)


def test_lost_checkpoints_cost_only_time(lab, long_reference) -> None:
    """With the folder of checkpoints removed, unfinished runs start over and end the same."""
    kill_in_mid_run(lab)
    shutil.rmtree(lab.home.root / "runs")
    assert lab.run("resume", "line", "--workers", "0") == 0
    assert lab.numbers("line") == long_reference


@pytest.mark.parametrize("both", [False, True])
def test_a_damaged_checkpoint_falls_back_and_says_so(lab, long_reference, both: bool, capsys) -> None:
    """A flipped bit sends the run back to the checkpoint before, or to its start; the numbers stay the same."""
    kill_in_mid_run(lab)
    # Killed between two renames, a run has no newest checkpoint but the one before.
    found = sorted((lab.home.root / "runs").rglob("checkpoint*.npz"))
    assert found
    for path in found if both else found[:1]:
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 0x10
        path.write_bytes(data)
    capsys.readouterr()
    assert lab.run("resume", "line", "--workers", "0") == 0
    assert "damaged" in capsys.readouterr().err
    assert lab.numbers("line") == long_reference


def test_a_clock_set_back_does_not_stop_a_study(lab, reference, monkeypatch) -> None:
    """The lease is renewed all the same when the clock jumps back an hour in mid-study."""
    begun = time.monotonic()

    class Clock:
        @staticmethod
        def time() -> float:
            return time.time() - (3600 if time.monotonic() - begun > 0.5 else 0)

    monkeypatch.setattr(database, "time", Clock)  # whose clock a lease in SQLite goes by
    monkeypatch.setattr(leases, "RENEW_S", 0.0)
    assert lab.run("start", lab.spec(epochs="8"), "--workers", "0") == 0
    assert lab.numbers("line") == reference


def test_moved_pictures_are_found_again_and_changed_ones_refused(lab, tmp_path, capsys) -> None:
    """resume --data NEWPATH goes on where the content is equal, and refuses where it is not."""
    import cv2
    import numpy as np

    draw = np.random.default_rng(0)
    for scene in range(6):
        folder = tmp_path / "old" / f"scene_{scene}"
        folder.mkdir(parents=True)
        for number in range(2):
            cv2.imwrite(str(folder / f"{number}.png"), draw.integers(0, 255, (16, 16, 3), dtype=np.uint8))
            cv2.imwrite(str(folder / f"{number}_depth.png"), draw.integers(500, 5000, (16, 16)).astype(np.uint16))
    assert lab.run("start", lab.spec(seeds="[0]"), "--data", f"pairs:{tmp_path / 'old'}", "--workers", "0") == 0
    (tmp_path / "old").rename(tmp_path / "new")
    capsys.readouterr()
    assert lab.run("resume", "line", "--workers", "0") == 2
    assert str(tmp_path / "old") in capsys.readouterr().err
    assert lab.run("resume", "line", "--workers", "0", "--data", f"pairs:{tmp_path / 'new'}") == 0
    cv2.imwrite(str(tmp_path / "new" / "scene_0" / "0.png"), np.zeros((16, 16, 3), np.uint8))
    capsys.readouterr()
    assert lab.run("resume", "line", "--workers", "0", "--data", f"pairs:{tmp_path / 'new'}") == 2
    assert "changed" in capsys.readouterr().err


# What fails one run would fail all: the study stops instead of burning through its runs


def own_cache(lab) -> None:
    """Give this home a cache of its own."""
    shared = lab.home.cache.resolve()
    lab.home.cache.unlink()
    shutil.copytree(shared, lab.home.cache)


def cached_depth(lab) -> Path:
    """The cached depth of the study's pictures."""
    data = json.loads(lab.store.require("line")["data"])
    return cache_folder(lab.home.cache, data["fingerprint"], tuple(data["image_size"])) / "depth.npy"


def test_a_flipped_bit_in_the_cache_is_named_before_training(lab, reference, capsys) -> None:
    """Pictures are verified whenever a study is started or resumed: nothing trains on other ones in silence."""
    own_cache(lab)
    assert lab.run("start", lab.spec(epochs="1"), "--workers", "0") == 0
    flip(cached_depth(lab))
    capsys.readouterr()
    assert lab.run("start", lab.spec(epochs="8"), "--workers", "0") == 2
    errors = capsys.readouterr().err
    assert "fails its checksum" in errors.splitlines()[-1]
    shutil.rmtree(cached_depth(lab).parent)
    assert lab.run("start", lab.spec(epochs="8"), "--workers", "0") == 0
    assert lab.numbers("line") == reference


def test_pictures_cut_off_in_mid_study_stop_it(lab, long_reference) -> None:
    """Workers die of it; the study names the file and stops, and goes on once the cache is built anew."""
    own_cache(lab)
    process = lab.spawn("start", lab.spec(**LONG), "--workers", "1")
    lab.wait_for_epochs(4, process)
    file = cached_depth(lab)
    os.truncate(file, 2000)
    _, errors = process.communicate()
    assert process.returncode == 2, errors
    assert str(file) in errors.splitlines()[-1] and "Traceback" not in errors
    assert "failed" not in {row["state"] for row in lab.store.runs("line")}
    shutil.rmtree(file.parent)
    assert lab.run("resume", "line", "--workers", "0") == 0
    assert lab.numbers("line") == long_reference


@pytest.mark.parametrize("number", [errno.ESTALE, errno.EACCES, errno.EIO, errno.ENOENT])
def test_a_failing_disk_stops_the_study(lab, reference, number: int, monkeypatch, capsys) -> None:
    """Whatever the system calls it, a checkpoint that cannot be written fails no run for good."""
    save = checkpoint.save_checkpoint

    def fail(folder: Path, state) -> None:
        if state.epoch == 3:
            raise OSError(number, os.strerror(number), str(folder))
        save(folder, state)

    monkeypatch.setattr(checkpoint, "save_checkpoint", fail)
    assert lab.run("start", lab.spec(epochs="8"), "--workers", "0") == 2
    assert "the disk failed a run" in capsys.readouterr().err
    monkeypatch.undo()
    assert lab.run("resume", "line", "--workers", "0") == 0
    assert lab.numbers("line") == reference


def test_a_failed_run_is_tried_again_by_resume(lab, new_lab, reference, capsys) -> None:
    """Once what was in the way is gone, resume trains what failed, and nothing else."""
    twin = new_lab()
    assert twin.run("start", twin.spec(epochs="8"), "--workers", "0") == 0
    folder = lab.home.run(twin.store.runs("line")[0]["run"])
    folder.parent.mkdir(parents=True)
    folder.write_text("in the way")
    assert lab.run("start", lab.spec(epochs="8"), "--workers", "0") == 1
    assert "1 run failed" in capsys.readouterr().err
    assert lab.run("resume", "line", "--workers", "0") == 1
    folder.unlink()
    assert lab.run("resume", "line", "--workers", "0") == 0
    assert lab.numbers("line") == reference
    assert [row["attempts"] for row in lab.store.runs("line")][1:] == [1] * 5


@pytest.mark.skipif(torch.cuda.is_available(), reason="a CUDA card is there")
def test_a_study_of_another_device_is_refused_as_it_is(lab, capsys) -> None:
    """Resumed or grown where its device is not, a study keeps all it has."""
    assert lab.run("start", lab.spec(epochs="1"), "--workers", "0") == 0
    lab.store.update_study("line", runtime=json.dumps(Runtime("cuda").as_dict()), state="interrupted")
    before = lab.store.require("line"), lab.numbers("line")
    for command in (["resume", "line"], ["start", lab.spec(epochs="2")]):
        capsys.readouterr()
        assert lab.run(*command, "--workers", "1") == 2
        assert "'cuda' is not there" in capsys.readouterr().err
        assert (lab.store.require("line"), lab.numbers("line")) == before


def test_a_database_error_while_a_run_trains_here_is_the_studys(lab, reference, monkeypatch, capsys) -> None:
    """With --workers 0 the lease is renewed between steps: what that suffers fails no run."""
    calls = iter(range(10_000))
    renew = leases.Lease.renew

    def fail(self) -> None:
        if next(calls) == 20:
            raise StorageError("the database is locked")
        renew(self)

    monkeypatch.setattr(leases.Lease, "renew", fail)
    assert lab.run("start", lab.spec(epochs="8"), "--workers", "0") == 2
    assert "the database is locked" in capsys.readouterr().err
    monkeypatch.undo()
    assert lab.run("resume", "line", "--workers", "0") == 0
    assert lab.numbers("line") == reference


def test_a_model_is_saved_whole_or_not_at_all(lab, tmp_path: Path, capsys) -> None:
    """With the first seed's last checkpoint damaged the next seed's is saved; with none whole, it is said."""
    assert lab.run("start", lab.spec(w="[0.3]"), "--workers", "0") == 0
    first, second = (lab.home.run(row["run"]) / "checkpoint.npz" for row in lab.store.runs("line"))
    flip(first)
    assert lab.run("best", "line", "--checkpoint", str(tmp_path / "model.npz"), "--trial", "0") == 0
    assert "seed 1 of trial 0" in capsys.readouterr().err
    assert checkpoint.read_checkpoint(tmp_path / "model.npz").epoch == 3
    flip(second)
    assert lab.run("best", "line", "--checkpoint", str(tmp_path / "other.npz"), "--trial", "0") == 2
    assert "no whole checkpoint" in capsys.readouterr().err
    assert not (tmp_path / "other.npz").exists()


def flip(path: Path) -> None:
    """One bit in the middle."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0x10
    path.write_bytes(data)


def test_workers_that_cannot_start_are_said_once(lab, tmp_path: Path, monkeypatch, capfd) -> None:
    """Where torch cannot be imported, its own words come first, then one line and exit 2; a later start goes on."""
    (tmp_path / "torch.py").write_text("raise ImportError('libcudart is missing')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    assert lab.run("start", lab.spec(epochs="1"), "--workers", "1") == 2
    errors = capfd.readouterr().err
    assert "libcudart is missing" in errors
    assert errors.splitlines()[-1].startswith("sweep: a worker could not start")
    monkeypatch.undo()
    assert lab.run("start", lab.spec(epochs="1"), "--workers", "1") == 0


def test_deaths_count_from_the_last_progress(lab, long_reference) -> None:
    """A run whose workers, or who forks them, are killed again and again still ends, if it gets further in between."""
    process = lab.spawn("start", lab.spec(**LONG), "--workers", "1")
    for rows, victim in ((4, -1), (24, 0), (48, -1), (72, 0)):
        lab.wait_for_epochs(rows, process)
        os.kill(lab.descendants(process)[victim], signal.SIGKILL)
    _, errors = process.communicate()
    assert process.returncode == 0, errors
    assert lab.numbers("line") == long_reference
