import json
import math
import os
import random
import resource
import signal
import subprocess
import sys
import textwrap
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from depth_loss_sweep.model.checkpoint import (
    CHECKPOINT,
    PREVIOUS,
    Checkpoint,
    CheckpointWriter,
    DamagedFileError,
    load_checkpoint,
    lock_folder,
    newest_checkpoint,
    read_arrays,
    read_checkpoint,
    save_checkpoint,
    write_arrays,
    write_checkpoint,
)
from depth_loss_sweep.model.errors import ModelError, RunLockedError


def make_checkpoint(epoch: int = 1) -> Checkpoint:
    """A small checkpoint after so many epochs."""
    values = np.random.default_rng(epoch).normal(size=(4, 3, 3)).astype(np.float32)
    return Checkpoint(
        identity="a" * 64,
        settings={"seed": 0, "weights": {"l1": 0.1}},
        epoch=epoch,
        records=[{"epoch": number + 1, "rmse": math.nan, "rate": 0.1} for number in range(epoch)],
        model={"encoder.0.weight": values, "steps": np.array(epoch)},
        optimizer={"0/exp_avg": values / 3, "0/step": np.array(7.0, np.float32)},
        about={"image_size": [16, 16]},
    )


def same(left: Checkpoint, right: Checkpoint) -> bool:
    """Equal in every bit; NaN equals NaN."""
    parts = [[json.dumps([c.identity, c.settings, c.epoch, c.records, c.about]) for c in (left, right)]]
    parts += [
        [[(name, a.dtype, a.shape, a.tobytes()) for name, a in arrays.items()] for arrays in pair]
        for pair in ((left.model, right.model), (left.optimizer, right.optimizer))
    ]
    return all(one == other for one, other in parts)


def no_note(text: str) -> None:
    """For what must not be told of."""
    raise AssertionError(f"unexpected note: {text}")


def flip_bit(path: Path, place: int) -> None:
    """Damage a file as little as can be."""
    content = bytearray(path.read_bytes())
    content[place % len(content)] ^= 1 << place % 8
    path.write_bytes(content)


def test_comes_back_as_it_was(tmp_path):
    """What is read is what was written, in every bit, numbers of any shape and NaN included."""
    save_checkpoint(tmp_path, make_checkpoint())
    assert same(load_checkpoint(tmp_path, "a" * 64, no_note), make_checkpoint())


def test_keeps_the_one_before(tmp_path):
    """Two are kept: the newest and the one before."""
    for epoch in (1, 2, 3):
        save_checkpoint(tmp_path, make_checkpoint(epoch))
    assert read_checkpoint(tmp_path / CHECKPOINT).epoch == 3
    assert read_checkpoint(tmp_path / PREVIOUS).epoch == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == [CHECKPOINT, PREVIOUS]


def test_an_empty_folder_has_none(tmp_path):
    """A run that never finished an epoch starts from the beginning, without a word."""
    assert load_checkpoint(tmp_path, "a" * 64, no_note) is None
    assert newest_checkpoint(tmp_path) is None


def test_a_kill_between_the_renames_costs_nothing(tmp_path):
    """Killed when the old file was moved and the new one wasn't, the old one is found."""
    save_checkpoint(tmp_path, make_checkpoint(1))
    (tmp_path / CHECKPOINT).rename(tmp_path / PREVIOUS)
    assert load_checkpoint(tmp_path, "a" * 64, no_note).epoch == 1


@pytest.mark.parametrize("damage", ["truncated", "flipped", "empty"])
def test_falls_back_to_the_one_before(tmp_path, damage):
    """A damaged checkpoint is moved aside and named; training goes on from the one before, and it stays safe."""
    for epoch in (1, 2):
        save_checkpoint(tmp_path, make_checkpoint(epoch))
    path = tmp_path / CHECKPOINT
    if damage == "flipped":
        flip_bit(path, path.stat().st_size // 2)
    else:
        os.truncate(path, 0 if damage == "empty" else path.stat().st_size - 100)
    notes = []
    assert load_checkpoint(tmp_path, "a" * 64, notes.append).epoch == 1
    assert len(notes) == 1 and CHECKPOINT in notes[0] and "\n" not in notes[0]
    assert (tmp_path / "checkpoint.damaged.npz").exists() and (tmp_path / PREVIOUS).exists()
    save_checkpoint(tmp_path, make_checkpoint(2))
    assert read_checkpoint(tmp_path / PREVIOUS).epoch == 1


def test_starts_again_where_both_are_damaged(tmp_path):
    """With nothing left to read the run starts from the beginning, saying so."""
    for epoch in (1, 2):
        save_checkpoint(tmp_path, make_checkpoint(epoch))
    for name in (CHECKPOINT, PREVIOUS):
        (tmp_path / name).write_bytes(b"not an npz")
    notes = []
    assert load_checkpoint(tmp_path, "a" * 64, notes.append) is None
    assert len(notes) == 2
    assert len(list(tmp_path.glob("*.damaged.npz"))) == 2


def test_a_lack_of_memory_is_no_damage(tmp_path, monkeypatch):
    """A good checkpoint is not moved aside because this process could not hold it."""
    save_checkpoint(tmp_path, make_checkpoint())

    def exhausted(*_, **__):
        raise MemoryError

    monkeypatch.setattr(np, "frombuffer", exhausted)
    with pytest.raises(MemoryError):
        load_checkpoint(tmp_path, "a" * 64, no_note)
    monkeypatch.undo()
    assert load_checkpoint(tmp_path, "a" * 64, no_note).epoch == 1


def test_refuses_the_checkpoint_of_another_run(tmp_path):
    """A run never goes on from, or overwrites, the checkpoint of a run with other settings."""
    save_checkpoint(tmp_path, make_checkpoint())
    with pytest.raises(ModelError, match="belongs to run aaaaaaaaaaaa, expected bbbbbbbbbbbb"):
        load_checkpoint(tmp_path, "b" * 64, no_note)


def test_no_malformed_file_gets_through(tmp_path):
    """Whatever bits flip or bytes go missing, the file reads as it was or is called damaged: nothing else."""
    path = tmp_path / "fuzzed.npz"
    write_checkpoint(path, make_checkpoint())
    original = path.read_bytes()
    chance, damaged = random.Random(0), 0
    for _ in range(400):
        content = bytearray(original)
        for _ in range(chance.choice([1, 1, 8])):
            content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
        if chance.random() < 0.3:
            del content[chance.randrange(len(content)) :]
        path.write_bytes(content)
        try:
            assert same(read_checkpoint(path), make_checkpoint())
        except DamagedFileError as error:
            damaged += 1
            assert str(path) in str(error) and "\n" not in str(error)
    assert damaged > 300


def test_executes_nothing(tmp_path):
    """An array of pickled objects is refused unread."""
    path = tmp_path / "hostile.npz"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("meta.json", json.dumps({"arrays": ["model/x"], "format": 1}))
        with archive.open("model/x.npy", "w") as member:
            np.lib.format.write_array(member, np.array([print], dtype=object), allow_pickle=True)
    with pytest.raises(DamagedFileError):
        read_arrays(path)


def test_nothing_explodes(tmp_path):
    """A compressed file, or an array said to be huge, is refused before memory is taken."""
    path = tmp_path / "bomb.npz"
    np.savez_compressed(path, **{"model/x": np.zeros(1_000_000)})
    with pytest.raises(DamagedFileError):
        read_arrays(path)
    header = b"\x93NUMPY\x01\x00" + (118).to_bytes(2, "little")
    shape = f"{{'descr': '<f8', 'fortran_order': False, 'shape': ({2**50},), }}".ljust(117) + "\n"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("meta.json", json.dumps({"arrays": ["model/x"], "format": 1}))
        archive.writestr("model/x.npy", header + shape.encode())
    with pytest.raises(DamagedFileError):
        read_arrays(path)


def test_a_file_of_another_format_is_named(tmp_path):
    """A file of a later version is not called damaged: the message says which format was found."""
    path = tmp_path / "later.npz"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("meta.json", json.dumps({"arrays": [], "format": 2}))
    with pytest.raises(ModelError, match="has format 2, expected 1"):
        read_arrays(path)


def test_an_npz_that_is_no_checkpoint_is_refused(tmp_path):
    """Another .npz of ours, such as a result, can't pass for a checkpoint."""
    write_arrays(tmp_path / "result.npz", {"outcome": "learnt"}, {"keys": np.zeros(3)})
    with pytest.raises(DamagedFileError, match="is no checkpoint"):
        read_checkpoint(tmp_path / "result.npz")


def test_a_full_disk_leaves_what_was_there(tmp_path):
    """When the disk is full the write fails, nothing half is left, and the last checkpoint is still good."""
    save_checkpoint(tmp_path, make_checkpoint(1))
    big = replace(make_checkpoint(2), model={"weight": np.zeros(1_000_000)})
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        with pytest.raises(OSError):
            save_checkpoint(tmp_path, big)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert [path.name for path in tmp_path.iterdir()] == [CHECKPOINT]
    assert load_checkpoint(tmp_path, "a" * 64, no_note).epoch == 1


def test_two_writers_never_share_a_folder(tmp_path):
    """The second writer is refused by name of the first, and let in when that is done."""
    with lock_folder(tmp_path / "run"):
        second = lock_folder(tmp_path / "run")
        with pytest.raises(RunLockedError, match=f"is held by process {os.getpid()}"):
            second.__enter__()
    with lock_folder(tmp_path / "run"):
        pass


def test_a_killed_writer_frees_its_folder(tmp_path):
    """SIGKILL leaves no stale lock."""
    script = f"""
        import sys, time
        from pathlib import Path
        from depth_loss_sweep.model.checkpoint import lock_folder
        with lock_folder(Path({str(tmp_path)!r})):
            print("held", flush=True)
            time.sleep(60)
    """
    command = [sys.executable, "-c", textwrap.dedent(script)]
    root = Path(__file__).resolve().parents[2]
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=root) as process:
        assert process.stdout is not None and process.stdout.readline() == b"held\n"
        with pytest.raises(RunLockedError, match=f"process {process.pid}"), lock_folder(tmp_path):
            pass
        process.send_signal(signal.SIGKILL)
        process.wait()
    with lock_folder(tmp_path):
        pass


def test_checkpoints_are_written_beside_the_training_in_order(tmp_path):
    """When the writer is done with one, it is the newest on disk and the one before is kept."""
    with CheckpointWriter(tmp_path) as writer:
        assert writer.is_done
        for epoch in (1, 2, 3):
            writer.submit(make_checkpoint(epoch))
        writer.wait()
        assert writer.is_done
        assert same(read_checkpoint(tmp_path / CHECKPOINT), make_checkpoint(3))
        writer.submit(make_checkpoint(4))
    assert same(read_checkpoint(tmp_path / CHECKPOINT), make_checkpoint(4))
    assert same(read_checkpoint(tmp_path / PREVIOUS), make_checkpoint(3))


def test_a_checkpoint_that_cannot_be_written_is_told(tmp_path):
    """The disk's error reaches the training with the next wait, and only once."""
    with CheckpointWriter(tmp_path / "missing") as writer:
        writer.submit(make_checkpoint())
        with pytest.raises(FileNotFoundError):
            writer.wait()
        writer.wait()
