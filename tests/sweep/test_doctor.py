"""A home with every kind of damage at once: each is told in a line, and what is safe to mend is mended."""

import fcntl
import json
import os
import shutil
import time
from pathlib import Path

import pytest
from sqlalchemy import insert, select

from depth_loss_sweep import doctor
from depth_loss_sweep import lease as leases
from depth_loss_sweep.data.cache import cache_lock
from depth_loss_sweep.lease import Lease
from depth_loss_sweep.tables import LEASE


def flip(path: Path) -> None:
    """One bit in the middle."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0x10
    path.write_bytes(data)


@pytest.fixture
def sick(lab):
    """A finished study's home, with a cache of its own."""
    assert lab.run("start", lab.spec(epochs="1", w="[0.0, 0.3, 0.6]"), "--workers", "0") == 0
    shared = lab.home.cache.resolve()
    lab.home.cache.unlink()
    shutil.copytree(shared, lab.home.cache)
    return lab


def look(lab, capsys, *options: str) -> tuple[int, list[str]]:
    """The exit code of `sweep doctor`, and its lines."""
    capsys.readouterr()
    code = lab.run("doctor", *options)
    captured = capsys.readouterr()
    assert not captured.err
    return code, captured.out.splitlines()


def lines_with(lines: list[str], level: str, *words: str) -> list[str]:
    """The lines of a level that hold all these words."""
    return [line for line in lines if line.startswith(level) and all(word in line for word in words)]


def lease(lab, **columns) -> None:
    """A lease row, as another coordinator leaves it."""
    row = {"token": 3, "host": "elsewhere", "pid": 7, "place": "another machine", "renewed": time.time() - 9999}
    with lab.store.begin() as connection:
        connection.execute(insert(LEASE).values(**row | columns))


def test_a_sound_home_is_sound(sick, capsys) -> None:
    """Nothing is broken, nothing is to be mended, and looking changes no file."""
    before = {path: path.stat().st_mtime_ns for path in sick.home.root.rglob("*") if "sweep.db" not in path.name}
    code, lines = look(sick, capsys)
    assert code == 0 and {line.split()[0] for line in lines} == {"ok"}, lines
    assert (
        lines_with(lines, "ok", "6 runs") and lines_with(lines, "ok", "GiB free") and lines_with(lines, "ok", "torch")
    )
    assert before == {
        path: path.stat().st_mtime_ns for path in sick.home.root.rglob("*") if "sweep.db" not in path.name
    }


def make_sick(lab) -> None:
    """Every kind of damage at once."""
    store, home = lab.store, lab.home
    folders = [home.run(row["run"]) for row in store.runs("line")]
    shutil.rmtree(folders[0])
    flip(folders[1] / "checkpoint.npz")
    (folders[2] / "result.npz").unlink()
    flip(folders[3] / "result.npz")
    shutil.copy(folders[4] / "checkpoint.npz", folders[4] / "checkpoint.previous.npz")
    for row, states in ((4, "waiting"), (5, "running")):
        store.update_run(folders[row].name, state=states)
        flip(folders[row] / "checkpoint.npz")
    (folders[4] / ".checkpoint.npz.tmp").write_bytes(b"half")
    (home.study("line") / ".report.html.tmp").write_bytes(b"half")
    (home.root / "runs" / "ee" / ("e" * 32)).mkdir(parents=True)
    (home.study("stranger")).mkdir()
    lease(lab, study="gone")
    lease(lab, study="../odd")
    caches = sorted(path for path in home.cache.iterdir() if path.name.endswith("-v1"))
    empty = home.cache / f"{'0' * 32}-16x16-v1"
    empty.mkdir()
    (home.cache / f".{empty.name}.building-77").mkdir()
    for name in (".digests.json.77", ".digests.json.tmp"):
        (home.cache / name).write_text("{")
        os.utime(home.cache / name, (0, 0))
    flip(caches[0] / "depth.npy")


def test_every_damage_is_told_at_once(sick, capsys) -> None:
    """No damage hides another, and each line says what to do."""
    make_sick(sick)
    code, lines = look(sick, capsys)
    assert code == 1
    for level, *words in (
        ("broken", "1 run finished, and the folder is missing", "another --home"),
        ("broken", "1 run finished, and the checkpoint (the model) is damaged"),
        ("broken", "1 run finished, and result.npz (a report's pictures) is missing"),
        ("broken", "1 run finished, and result.npz (a report's pictures) is damaged"),
        ("note", "1 run unfinished", "from the other"),
        ("warning", "1 run unfinished", "starts over"),
        ("note", "1 run folder of no study", "--repair"),
        ("note", "studies/stranger"),
        ("note", "lease of gone", "--repair"),
        ("note", "lease of ../odd", "--repair"),
        ("broken", "depth.npy fails its checksum"),
        ("broken", "index.json is missing"),
        ("note", "5 temporary files or folders of killed processes", "--repair"),
    ):
        assert len(lines_with(lines, level, *words)) == 1, (level, words, lines)


def test_repair_mends_what_is_safe(sick, capsys) -> None:
    """Leftovers, empty folders, damaged caches and leases of nobody go; what holds somebody's training stays."""
    make_sick(sick)
    kept = sorted(path for path in (sick.home.root / "runs").rglob("*.npz"))
    code, lines = look(sick, capsys, "--repair")
    assert code == 1 and len(lines_with(lines, "mended")) == 6, lines
    assert sorted(path for path in (sick.home.root / "runs").rglob("*.npz")) == kept
    code, lines = look(sick, capsys)
    assert {line.split()[0] for line in lines} == {"ok", "note", "warning", "broken"}
    assert len(lines_with(lines, "broken")) == 4 and not [line for line in lines if "--repair" in line]
    assert [row["study"] for row in sick.store.rows(select(LEASE.c.study))] == ["line"]
    assert sick.run("resume", "line", "--workers", "0") == 0


def test_caches_and_held_files_are_left_alone(sick, capsys) -> None:
    """While a study is at work no cache is removed, and never what a live process holds."""
    make_sick(sick)
    building = next(sick.home.cache.glob(".*.building-77"))
    lease = Lease.take(sick.store, "line", sick.home.lock("line"))
    with cache_lock(building.with_name(building.name[1:].removesuffix(".building-77"))).open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        code, lines = look(sick, capsys, "--repair")
    lease.release()
    assert code == 1 and building.exists()
    assert len(lines_with(lines, "broken", "cache", "not while line is running")) == 2, lines
    assert lines_with(lines, "ok", "study line: running")


def test_many_alike_are_counted(sick, capsys) -> None:
    """Thousands of one kind make a handful of lines."""
    for number in range(1000):
        lease(sick, study=f"gone-{number}")
        (sick.home.root / "runs" / "ee" / f"{number:032x}").mkdir(parents=True)
    for row in sick.store.runs("line"):
        flip(sick.home.run(row["run"]) / "result.npz")
    code, lines = look(sick, capsys)
    assert code == 1 and len(lines) < 25
    assert lines_with(lines, "note", "... and 995 more") and lines_with(lines, "note", "1000 run folders")
    assert lines_with(lines, "broken", "6 runs finished")


def test_a_lease_that_was_not_given_back_is_told(sick, capsys) -> None:
    """The study goes on under whoever takes it; a clock far ahead is a warning."""
    with sick.store.begin() as connection:
        connection.execute(LEASE.delete())
    lease(sick, study="line")
    assert lines_with(look(sick, capsys)[1], "note", "lease of study line", "pid 7 on elsewhere", "takes it over")
    with sick.store.begin() as connection:
        connection.execute(LEASE.update().values(renewed=time.time() + 5000))
    assert lines_with(look(sick, capsys)[1], "warning", "lease of study line", "in the future")


def test_a_lease_that_a_wrong_clock_renewed_is_mended(sick, capsys, monkeypatch) -> None:
    """It is watched, and given back unless somebody renews it; then the study is nobody's."""
    monkeypatch.setattr(leases, "GRACE_S", 0.2)
    monkeypatch.setattr(doctor, "GRACE_S", 0.2)
    with sick.store.begin() as connection:
        connection.execute(LEASE.delete())
    lease(sick, study="line", renewed=time.time() + 5000)
    assert lines_with(look(sick, capsys)[1], "warning", "lease of study line", "in the future by pid 7", "--repair")
    lines = look(sick, capsys, "--repair")[1]
    assert lines_with(lines, "warning", "watched") and lines_with(lines, "mended", "gave back the lease of study line")
    assert {line.split()[0] for line in look(sick, capsys)[1]} == {"ok"}


def test_runs_of_other_hosts_are_not_missed(sick, capsys) -> None:
    """A database that several homes share knows runs whose files lie elsewhere."""
    for row in sick.store.runs("line")[:2]:
        shutil.rmtree(sick.home.run(row["run"]))
        sick.store.update_run(row["run"], host="elsewhere")
    code, lines = look(sick, capsys, "--storage", str(sick.home.database))
    assert code == 0 and lines_with(lines, "note", "2 runs finished on other hosts")


def test_a_lost_database_hides_nothing_else(sick, capsys) -> None:
    """Caches and leftovers are looked at all the same, and no cache is removed then."""
    make_sick(sick)
    sick.home.database.write_bytes(b"no database at all, whatever it was")
    code, lines = look(sick, capsys, "--repair")
    assert code == 1 and lines_with(lines, "broken", "is not an SQLite database")
    assert len(lines_with(lines, "broken", "not while the database cannot be read")) == 2


def test_an_index_names_no_file_outside(sick, capsys) -> None:
    """Only a cache's own two arrays are read, whatever its index lists."""
    path = next(sick.home.cache.glob("*-16x16-v1/index.json"))
    index = json.loads(path.read_text())
    index["files"]["../../dev/stdin"] = {"bytes": 1, "blake2b": "x"}
    path.write_text(json.dumps(index))
    assert look(sick, capsys)[0] == 0
    del index["files"]["images.npy"]["blake2b"]
    path.write_text(json.dumps(index))
    code, lines = look(sick, capsys)
    assert code == 1 and lines_with(lines, "broken", "index.json lacks checksums", "delete the folder")
