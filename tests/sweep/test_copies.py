"""`sweep copy` and `sweep delete`: numbers to another database, to text and back; nothing that is shared is lost."""

import json
import sqlite3
from contextlib import closing
from pathlib import Path

import optuna
import pytest

from depth_loss_sweep.copies import study_rows
from depth_loss_sweep.lease import Lease
from depth_loss_sweep.paths import CONFIRMED, RACED
from depth_loss_sweep.results import study_numbers
from depth_loss_sweep.status import status
from depth_loss_sweep.store import Store

NOT_COPIED = ("origin", "attempts", "home")


@pytest.fixture(scope="module")
def trained(new_lab):
    """A home with one small finished study."""
    lab = new_lab()
    assert lab.run("start", lab.spec(w="[0.0, 0.3]"), "--workers", "0") == 0
    return lab


def numbers(store: Store, name: str = "line") -> dict:
    """All rows of a study but for where they were copied from."""
    rows = study_rows(store, name)
    rows["sweep_study"] = [{k: v for k, v in row.items() if k != "updated"} for row in rows["sweep_study"]]
    rows["sweep_run"] = [{k: v for k, v in row.items() if k not in NOT_COPIED} for row in rows["sweep_run"]]
    return rows


def test_home_to_text_and_back_is_the_same_study(trained, new_lab, capsys) -> None:
    """A folder of text holds every number to its last bit, and no pixels; what is read from it is the study."""
    text, other = trained.folder / "text", new_lab()
    assert trained.run("copy", "line", "--to", str(text)) == 0
    assert {path.suffix for path in text.iterdir()} == {".csv"}
    assert other.run("copy", "line", "--from", str(text)) == 0
    assert numbers(other.store) == numbers(trained.store)
    assert other.run("copy", "line", "--to", str(other.folder / "again")) == 0
    for path in text.iterdir():
        again = (other.folder / "again" / path.name).read_text()
        if path.name == "sweep_run.csv":  # it says where the runs came from now
            assert str(text) in again
        else:
            assert again == path.read_text()


def test_a_copy_is_a_study_to_every_reader(trained, new_lab, capsys) -> None:
    """Report, best, doctor and Optuna read a copied study; its page says that it was copied."""
    target = new_lab()
    assert target.run("copy", "line", "--from", str(trained.home.root)) == 0
    assert target.run("report", "line") == 0
    assert "but copied" in target.home.report("line").read_text(encoding="utf-8")
    assert target.run("best", "line") == 0
    assert target.run("doctor") == 0
    assert len(optuna.load_study(study_name="line", storage=target.store.url).trials) == 2


def test_what_was_copied_is_taken_up_instead_of_trained(trained, new_lab) -> None:
    """A study that asks for the same runs takes them, whoever trained them, and trains only what is missing."""
    target = new_lab()
    assert target.run("copy", "line", "--from", str(trained.home.root)) == 0
    with target.store.begin() as connection:  # as if it had been trained on another machine
        for row in target.store.runs("line"):
            foreign = json.dumps(json.loads(row["environment"]) | {"model": "another CPU"}, sort_keys=True)
            key = row["run"][::-1]
            for table in ("sweep_run", "sweep_epoch", "sweep_per_image", "sweep_trial_run"):
                connection.exec_driver_sql(f"UPDATE {table} SET run = ? WHERE run = ?", (key, row["run"]))
            connection.exec_driver_sql("UPDATE sweep_run SET environment = ? WHERE run = ?", (foreign, key))
    copied = {row["run"] for row in target.store.runs("line")}
    spec = target.spec(w="[0.0, 0.3, 0.6]")
    assert target.run("start", spec, "--name", "larger", "--workers", "0") == 0
    runs = target.store.runs("larger")
    assert [row["run"] in copied for row in runs] == [True] * 4 + [False] * 2
    assert [row["mixed"] for row in runs] == [True] * 4 + [False] * 2
    assert [trial["value"] for trial in target.store.trials("larger")[:2]] == [
        trial["value"] for trial in trained.store.trials("line")
    ]


def test_files_come_along_where_they_are_asked_for(trained, new_lab, capsys) -> None:
    """With --files the model can be saved from the copy alone; without, from where it was trained, or one line says where that is."""
    bare, whole = new_lab(), new_lab()
    for lab, more in ((bare, []), (whole, ["--files"])):
        assert trained.run("copy", "line", "--to", str(lab.home.database), *more) == 0
    assert bare.run("best", "line", "--checkpoint", str(bare.folder / "m.npz"), "--trial", "0") == 0
    home, away = trained.home.root, trained.home.root.with_name("away")
    home.rename(away)
    try:
        capsys.readouterr()
        assert bare.run("best", "line", "--checkpoint", str(bare.folder / "n.npz"), "--trial", "0") == 2
        assert str(home) in capsys.readouterr().err
        assert whole.run("best", "line", "--checkpoint", str(whole.folder / "m.npz"), "--trial", "0") == 0
    finally:
        away.rename(home)
    assert numbers(whole.store) == numbers(trained.store)


def test_a_copy_never_replaces_what_is_there(trained, new_lab, capsys) -> None:
    """Another study of that name, a folder with something else in it: refused in one line, nothing changed."""
    target = new_lab()
    assert target.run("start", target.spec(seeds="[0]", epochs="1", w="[0.0]"), "--workers", "0") == 0
    capsys.readouterr()
    assert target.run("copy", "line", "--from", str(trained.home.root)) == 2
    assert "--name" in capsys.readouterr().err
    assert target.run("copy", "line", "--from", str(trained.home.root), "--name", "twin") == 0
    assert {row["name"] for row in target.store.studies()} == {"line", "twin"}
    diary = target.folder / "diary"
    diary.mkdir()
    (diary / "monday.txt").write_text("dear diary")
    assert trained.run("copy", "line", "--to", str(diary)) == 2
    assert "monday.txt" in capsys.readouterr().err
    assert [path.name for path in diary.iterdir()] == ["monday.txt"]


def test_a_copy_that_was_killed_is_finished_by_the_same_command(trained, new_lab, monkeypatch) -> None:
    """Between its rows and what Optuna reads: the same command makes that, and again changes nothing."""
    target, copy = new_lab(), ("copy", "line", "--from", str(trained.home.root), "--files")

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as killed:
        killed.setattr("depth_loss_sweep.copies.Projection.reconcile", interrupt)
        assert target.run(*copy) == 130
    for _ in range(2):
        assert target.run(*copy) == 0
        assert len(optuna.load_study(study_name="line", storage=target.store.url).trials) == 2
    assert numbers(target.store) == numbers(trained.store)


def test_what_a_database_gives_back_otherwise_is_not_copied(trained, new_lab, capsys) -> None:
    """A database that changes a number on its way in is found out, and is left as it was."""
    target = new_lab()
    with Store.open(target.home, create=True).begin() as connection:
        change = "UPDATE sweep_epoch SET total = total + 1e-9 WHERE run = NEW.run AND epoch = NEW.epoch AND split = NEW.split"
        connection.exec_driver_sql(f"CREATE TRIGGER t AFTER INSERT ON sweep_epoch BEGIN {change}; END")
    assert trained.run("copy", "line", "--to", str(target.home.database)) == 2
    said = capsys.readouterr().err
    assert "gives back another row of sweep_epoch" in said and said.count("\n") == 1
    assert target.store.studies() == [] and target.store.own_runs("line") == ([], [])


@pytest.mark.parametrize(
    ("file", "content", "said"),
    [
        ("sweep_version.csv", "version\n99\n", "schema 99"),
        ("sweep_version.csv", None, "missing"),
        ("sweep_trial.csv", "study,number,state\nline,one,complete\n", "none of its columns"),
        ("sweep_trial.csv", "study,number,state\nline,1,complete\n", "lacks a column"),
        ("sweep_epoch.csv", "run,epoch,split,total\nr,1,val,much\n", "none of its columns"),
        ("sweep_run.csv", b"\xff\xfe", "cannot be read"),
    ],
)
def test_damaged_text_is_named(trained, new_lab, capsys, file: str, content: str | bytes | None, said: str) -> None:
    """A folder of text that is no copy is refused in one line, and nothing is taken from it."""
    text, target = trained.folder / f"damaged-{file}-{said[:5]}", new_lab()
    assert trained.run("copy", "line", "--to", str(text)) == 0
    path = text / file
    path.unlink() if content is None else path.write_bytes(content if isinstance(content, bytes) else content.encode())
    capsys.readouterr()
    assert target.run("copy", "line", "--from", str(text)) == 2
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1
    assert not target.home.database.exists()


def test_places_that_are_none_are_refused(trained, tmp_path: Path, capsys) -> None:
    """No place, a study that is not there, files into text: one line each."""
    assert trained.run("copy", "line") == 2
    assert trained.run("copy", "nothing", "--to", str(tmp_path / "x")) == 2
    assert trained.run("copy", "line", "--from", str(tmp_path / "nowhere")) == 2
    assert trained.run("copy", "line", "--to", str(tmp_path / "x"), "--files") == 2
    assert capsys.readouterr().err.count("\n") == 4
    assert not (tmp_path / "x").exists()


def test_deleting_keeps_what_others_share(new_lab, capsys) -> None:
    """A study goes with its own runs, its files and its projections; runs of another study stay whole."""
    lab = new_lab()
    assert lab.run("start", lab.spec(w="[0.0, 0.3]", seeds="[0]"), "--workers", "0") == 0
    assert lab.run("start", lab.spec(w="[0.3, 0.6]", seeds="[0]"), "--name", "other", "--workers", "0") == 0
    before = numbers(lab.store, "other")
    folders = {row["run"]: lab.home.run(row["run"]) for row in lab.store.runs("line")}
    assert lab.run("delete", "line") == 2  # nobody there to ask
    assert "--yes" in capsys.readouterr().err
    assert lab.run("delete", "line", "--yes") == 0
    assert "1 run shared" in capsys.readouterr().out
    assert numbers(lab.store, "other") == before
    shared = {row["run"] for row in lab.store.runs("other")}
    assert {run: folder.exists() for run, folder in folders.items()} == {run: run in shared for run in folders}
    assert not lab.home.study("line").exists()
    assert [s.study_name for s in optuna.get_all_study_summaries(lab.store.url)] == ["other"]
    assert lab.run("start", lab.spec(w="[0.0, 0.3]", seeds="[0]"), "--workers", "0") == 0  # the name is free again
    assert lab.run("doctor") == 0


def test_a_growing_study_keeps_its_runs_while_another_is_deleted(new_lab) -> None:
    """A study that is asked anew, to grow, still owns what it has trained; nobody's deletion takes that away."""
    lab = new_lab()
    assert lab.run("start", lab.spec(w="[0.0, 0.3]", seeds="[0]"), "--workers", "0") == 0
    assert lab.run("start", lab.spec(w="[0.0, 0.3]", seeds="[0]"), "--name", "other", "--workers", "0") == 0
    runs = [row["run"] for row in lab.store.runs("line")]
    lab.store.regrow_study("line", state="interrupted")  # as a growth that was interrupted at once
    assert lab.run("delete", "other", "--yes") == 0
    assert all(lab.store.run(run)["state"] == "finished" and lab.home.run(run).exists() for run in runs)
    assert lab.run("delete", "line", "--yes") == 0
    assert not any(lab.store.run(run) or lab.home.run(run).exists() for run in runs)


def test_a_copy_in_the_midst_of_a_growth_holds_what_no_trial_has_asked_for_again_yet(new_lab) -> None:
    """Whoever takes the copy up trains none of it again; from text to text it is the same."""
    lab, other = new_lab(), new_lab()
    assert lab.run("start", lab.spec(w="[0.0, 0.3]", seeds="[0]"), "--workers", "0") == 0
    lab.store.regrow_study("line", state="interrupted")  # as a growth that was interrupted at once
    trained = {run["run"] for run in study_rows(lab.store, "line")["sweep_run"]}
    texts = [lab.folder / "text", other.folder / "text"]
    assert lab.run("copy", "line", "--to", str(texts[0])) == 0
    assert other.run("copy", "line", "--from", str(texts[0])) == 0
    assert other.run("copy", "line", "--to", str(texts[1])) == 0
    assert texts[0].joinpath("sweep_study_run.csv").read_text() == texts[1].joinpath("sweep_study_run.csv").read_text()
    assert other.run("start", lab.spec(w="[0.0, 0.3]", seeds="[0, 1]"), "--workers", "0") == 0
    runs = other.store.runs("line")
    assert len(runs) == 4 and {run["run"] for run in runs if run["origin"]} == trained and len(trained) == 2


def test_a_run_trained_here_under_a_key_of_elsewhere_is_marked(trained, new_lab, capsys) -> None:
    """A copy of a study that was asked on another machine and trained on this one is of mixed environment."""
    lab = new_lab()
    assert lab.run("copy", "line", "--from", str(trained.home.root)) == 0
    with lab.store.begin() as connection:
        connection.exec_driver_sql(
            "UPDATE sweep_run SET state = 'waiting', environment = '{}', started = NULL, origin = NULL"
        )
        connection.exec_driver_sql("UPDATE sweep_trial SET state = 'running', value = NULL, told = NULL")
        connection.exec_driver_sql("UPDATE sweep_study SET state = 'interrupted'")
    assert lab.run("resume", "line", "--workers", "0") == 0
    assert [row["mixed"] for row in lab.store.runs("line")] == [True] * 4
    told = [note for note in study_numbers(lab.store, "line").notes if "may differ" in note]
    assert told == [status(lab.store, lab.home, "line")["environments"]] and told[0].startswith("4 runs were trained")
    assert lab.run("best", "line") == 0 and told[0] in capsys.readouterr().out.splitlines()


def test_a_deletion_that_was_killed_is_finished_by_the_same_command(new_lab) -> None:
    """Killed after the rows were gone, the folders that are left are still known."""
    lab = new_lab()
    assert lab.run("start", lab.spec(w="[0.0]", seeds="[0]"), "--workers", "0") == 0
    runs = [row["run"] for row in lab.store.runs("line")]
    (lab.home.study("line") / "deleting.json").write_text(json.dumps(runs))
    lab.store.delete_study("line")
    assert lab.home.run(runs[0]).exists()
    assert lab.run("delete", "line", "--yes") == 0
    assert not lab.home.run(runs[0]).exists()
    assert lab.run("delete", "line", "--yes") == 2


def test_a_study_at_work_is_not_deleted(new_lab, capsys) -> None:
    """Its holder is named, and it goes on."""
    lab = new_lab()
    process = lab.spawn("start", lab.spec(epochs="500"), "--workers", "1")
    try:
        lab.wait_for_epochs(1, process)
        assert lab.run("delete", "line", "--yes") == 2
        assert f"pid {process.pid}" in capsys.readouterr().err
        assert lab.store.study("line") is not None
    finally:
        process.kill()
        process.communicate()


def stand_beside(store: Store, name: str, ending: str) -> str:
    """Make a study that stands beside one, without trials yet; returns its name."""
    row = {key: value for key, value in store.require(name).items() if key != "updated"}
    store.save_study({**row, "name": name + ending, "optuna_name": name + ending, "parent": name})
    return name + ending


def test_a_study_is_deleted_only_where_nobody_is_at_work_beside_it(new_lab, capsys) -> None:
    """While its winner is being confirmed, the race of its best stays, too; then all goes at once."""
    lab = new_lab()
    assert lab.run("start", lab.spec(w="[0.0]", seeds="[0]", epochs="1"), "--workers", "0") == 0
    names = ["line", *(stand_beside(lab.store, "line", ending) for ending in (RACED, CONFIRMED))]
    before = [lab.store.study(name) for name in names]
    lease = Lease.take(lab.store, names[-1], lab.home.lock(names[-1]))
    capsys.readouterr()
    assert lab.run("delete", "line", "--yes") == 2
    assert f"{names[-1]!r} is being worked on by pid" in capsys.readouterr().err
    lease.release()
    assert [lab.store.study(name) for name in names] == before
    assert lab.run("delete", "line", "--yes") == 0
    assert not lab.store.studies() and not any(lab.home.study(name).exists() for name in names)


def test_deleting_in_another_database_keeps_the_runs_of_the_homes_own(new_lab, capsys) -> None:
    """Two databases that are used from one home share the folders of equal runs; one without studies of ours has none."""
    lab = new_lab()
    other = ("--storage", str(lab.folder / "other.db"))
    with closing(sqlite3.connect(lab.home.database)) as connection:
        connection.execute("CREATE TABLE somebody_elses (id INTEGER)")
    for weights, name in (("[0.0, 0.3]", "line"), ("[0.3]", "small")):
        spec = lab.spec(w=weights, seeds="[0]", epochs="1")
        assert lab.run("start", spec, "--workers", "0", "--name", name, *other) == 0
    assert lab.run("delete", "small", "--yes", *other) == 0
    folders = {row["trial"]: lab.home.run(row["run"]) for row in Store.open(lab.home, other[1]).runs("line")}
    assert lab.run("start", lab.spec(w="[0.3]", seeds="[0]", epochs="1"), "--workers", "0") == 0
    assert lab.run("delete", "line", "--yes", *other) == 0
    assert not folders[0].exists() and folders[1].exists()
    assert lab.run("best", "line", "--trial", "0", "--checkpoint", str(lab.folder / "model.npz")) == 0
    assert lab.run("delete", "line", "--yes") == 0
    assert not folders[1].exists()
