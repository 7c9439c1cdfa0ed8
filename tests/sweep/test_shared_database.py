"""Studies of several homes in one database on a server: who writes, where files lie, what is kept secret, what is copied."""

import os
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from depth_loss_sweep.cli import run
from depth_loss_sweep.copies import study_rows
from depth_loss_sweep.errors import StorageError, StudyHeldError
from depth_loss_sweep.lease import Lease
from depth_loss_sweep.paths import Home
from depth_loss_sweep.queries import NewRun
from depth_loss_sweep.store import Store
from tests.sweep.conftest import Lab
from tests.sweep.postgresql import PASSWORD, Server, opened
from tests.sweep.test_copies import numbers

RACES, RACERS = 100, 3
SPECS = {"first": "[0, 1]", "second": "[2, 3]", "third": "[0, 1]", "fourth": "[2, 3]"}
"""Studies and their seeds: each has the runs of another, too, trained at the same time in another home."""


@dataclass
class Shared:
    """A database of four finished studies, and all that was seen of those who were at work on them."""

    url: str
    labs: dict[str, Lab]
    codes: dict[str, int] = field(default_factory=dict)
    said: str = ""
    seen: bytes = b""
    """Command lines of all processes, and what their workers know by their environment."""
    watched: set[str] = field(default_factory=set)
    """The studies whose workers were seen."""


@pytest.fixture(scope="module")
def shared(new_lab, server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shared]:
    """Four coordinators at work on four studies at once; two have the password from a passfile, two from their environment."""
    database = server.create()
    passfile = server.passfile(tmp_path_factory.mktemp("secret") / "pgpass", database)
    made = Shared(server.url(database, password=""), {name: new_lab() for name in SPECS})
    secrets = ({"PGPASSFILE": str(passfile), "SWEEP_STORAGE": made.url}, {"SWEEP_STORAGE": server.url(database)})
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("PGPASSFILE", str(passfile))
        processes = {
            name: lab.spawn(
                *("start", lab.spec(seeds=SPECS[name]), "--name", name, "--workers", "1"),
                env={**os.environ, **secrets[number % 2]},
            )
            for number, (name, lab) in enumerate(made.labs.items())
        }
        while any(process.poll() is None for process in processes.values()):
            for name, process in processes.items():
                workers = made.labs[name].descendants(process)
                made.seen += b"".join(_read(pid, "cmdline") for pid in (process.pid, *workers))
                made.seen += b"".join(_read(pid, "environ") for pid in workers)
                made.watched |= {name} if workers else set()
            time.sleep(0.5)
        for name, process in processes.items():
            made.codes[name] = process.returncode
            made.said += "".join(process.communicate())
        yield made


def _read(pid: int, what: str) -> bytes:
    try:
        return Path(f"/proc/{pid}/{what}").read_bytes()
    except OSError:  # it has ended
        return b""


@pytest.mark.slow
def test_four_coordinators_share_a_database(shared: Shared, new_lab) -> None:
    """At work at once on studies that ask for the same runs, each ends as it does alone with a file of its own."""
    assert shared.codes == dict.fromkeys(SPECS, 0), shared.said
    alone = new_lab()
    for name in ("first", "second"):
        assert alone.run("start", alone.spec(seeds=SPECS[name]), "--name", name, "--workers", "0") == 0
    with opened(Home(alone.folder / "other"), shared.url) as store:
        for name, twin in (("first", "third"), ("second", "fourth")):
            assert alone.numbers(name, store) == alone.numbers(name) == alone.numbers(twin, store)


@pytest.mark.slow
def test_no_password_is_anywhere(shared: Shared) -> None:
    """Not in what ps shows, not in what workers are told, not in files of the homes, not in what was printed or is stored."""
    assert shared.watched
    assert b"forkserver" in shared.seen
    files = [path for lab in shared.labs.values() for path in lab.folder.rglob("*") if path.is_file()]
    assert files
    everything = shared.seen + shared.said.encode() + b"".join(path.read_bytes() for path in files)
    with opened(Home(files[0].parent), shared.url) as store:
        everything += str(study_rows(store, *SPECS)).encode()
    assert PASSWORD.encode() not in everything


@pytest.mark.slow
def test_a_colleague_is_given_the_checkpoint_or_told_where_it_lies(shared: Shared, new_lab, capsys) -> None:
    """From a home of one's own, a model is saved from the home where it was trained, or that home is named, with its host."""
    mine = new_lab()
    asked = ("best", "first", "--storage", shared.url, "--trial", "0", "--checkpoint")
    assert mine.run(*asked, str(mine.folder / "model.npz")) == 0
    assert (mine.folder / "model.npz").stat().st_size > 0
    assert mine.run("report", "first", "--storage", shared.url) == 0
    assert "are not shown" not in mine.home.report("first").read_text(encoding="utf-8")
    homes = {lab.home.root for lab in shared.labs.values()}
    try:
        for home in homes:
            home.rename(home.with_name("away"))
        capsys.readouterr()
        assert mine.run(*asked, str(mine.folder / "again.npz")) == 2
    finally:
        for home in homes:
            home.with_name("away").rename(home)
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert any(f"on {os.uname().nodename} in the home {home}" in said for home in homes), said
    assert not (mine.folder / "again.npz").exists()


@pytest.mark.slow
def test_from_a_server_to_a_file_and_back_is_the_same_study(shared: Shared, server: Server, new_lab, capsys) -> None:
    """Copied into a home, with the files of its runs, and from there to another database: every number is the same."""
    mine, back = new_lab(), server.url(server.create())
    assert mine.run("copy", "first", "--from", shared.url, "--files") == 0
    assert "the files of 6 runs; read back, all is the same" in capsys.readouterr().out
    assert mine.run("copy", "first", "--to", back) == 0
    printed = capsys.readouterr()
    assert PASSWORD not in printed.out + printed.err
    assert "whoever is on this machine reads the password" in printed.err
    with opened(mine.home, shared.url) as one, opened(mine.home, back) as other:
        assert numbers(one, "first") == numbers(mine.store, "first") == numbers(other, "first")
        assert mine.numbers("first", other) == mine.numbers("first") == mine.numbers("first", one)
    assert mine.run("best", "first", "--trial", "0", "--checkpoint", str(mine.folder / "model.npz")) == 0
    assert mine.run("doctor") == 0


def test_of_many_who_want_a_study_one_gets_it(server: Server, tmp_path: Path) -> None:
    """A hundred races, half for a study that nobody has had yet, half for one that was given back: one winner each."""
    url = server.url(server.create())
    homes = [Home(tmp_path / str(number)).create() for number in range(RACERS)]
    stores = [Store.open(home, url, create=True) for home in homes]
    gate = threading.Barrier(RACERS)

    def race(racer: int, study: str) -> bool:
        gate.wait()
        try:
            lease = Lease.take(stores[racer], study, homes[racer].lock(study))
        except StudyHeldError:
            gate.wait()
            return False
        gate.wait()  # all have tried
        lease.release()
        return True

    with ThreadPoolExecutor(RACERS) as pool:
        for number in range(RACES):
            won = list(pool.map(race, range(RACERS), [f"study{number // 2}"] * RACERS))
            assert won.count(True) == 1, number
    for store in stores:
        store.engine.dispose()


def test_a_password_among_the_arguments_is_warned_of(server: Server, tmp_path: Path, capsys) -> None:
    """It is taken, and a line says who else reads it and where it is kept instead; the line doesn't repeat it."""
    url = server.url(server.create())
    with opened(Home(tmp_path), url, create=True):
        pass
    assert run(["list", "--storage", url, "--home", str(tmp_path)]) == 0
    said = capsys.readouterr().err
    assert "SWEEP_STORAGE" in said and "PGPASSFILE" in said and said.count("\n") == 1
    assert PASSWORD not in said
    assert run(["list", "--storage", server.url(server.create(), password=""), "--home", str(tmp_path)]) == 2
    said = capsys.readouterr().err
    assert "no password supplied" in said and "PGPASSFILE" in said and said.count("\n") == 1
    assert run(["list", "--storage", str(tmp_path / "none.db"), "--home", str(tmp_path)]) == 2
    assert "PGPASSFILE" not in capsys.readouterr().err


def test_what_a_file_takes_and_a_server_does_not(server: Server, tmp_path: Path) -> None:
    """A zero byte in what a fault says of itself is stored as a mark; a name too long for a column is refused in one line."""
    with opened(Home(tmp_path), server.url(server.create()), create=True) as store:
        trial = {"number": 0, "params": {}, "drawn": {}, "weights": {}, "epochs": 1, "asked": "2026-01-02"}
        store.ask_trials("s", [(trial, [NewRun("r", "i", "e", "{}", 0)])])
        store.update_run("r", reason="a\0b")
        assert store.run("r")["reason"] == "a\ufffdb"
        with pytest.raises(StorageError, match="shorter names"):
            store.add_measures({"similarity_" + "a" * 30 + "_" + "b" * 30})
        store.add_measures({"similarity_" + "a" * 25 + "_" + "b" * 25})
