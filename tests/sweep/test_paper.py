"""`sweep paper`: a group of studies that share runs, stop and go on as one, and are copied and deleted as one."""

import json
import os
import signal
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import cv2
import numpy as np
import pytest
from sqlalchemy import select, update

from depth_loss_sweep import paper
from depth_loss_sweep.display import ProgressDisplay
from depth_loss_sweep.executors import make_executor
from depth_loss_sweep.lease import Lease
from depth_loss_sweep.paths import CONFIRMED
from depth_loss_sweep.reports.evidence import Member
from depth_loss_sweep.reports.paper import CLAIMS
from depth_loss_sweep.results import run_frame, study_numbers
from depth_loss_sweep.session import Session
from depth_loss_sweep.tables import RUN, TRIAL

from .conftest import Lab
from .test_copies import stand_beside
from .test_growth import elsewhere

PLAN = '''
from depth_loss_sweep import paper
from depth_loss_sweep.reports.evidence import Member

LINE = Member("line", "ssim-vs-edge", {"search.w": [0.0, 0.3]}, (0, 1), ("H1", "H3"), most=3)
SHARED = Member("shared", "ssim-vs-edge", {"search.w": [0.3, 0.6]}, (0,), ("H3",))
LARGE = Member("large", "table-2", {"train.epochs": 1}, (0,), ("H4",), size=2)

def plan(records, only=()):
    """Two lines that share a run, a larger picture, and one more seed of the first line once all of that is there."""
    found = {key: len(record.runs) for key, record in records.items()}
    grown = found.get("large") == 1 and found.get("line", 0) >= 4
    line = Member(**{**vars(LINE), "seeds": (0, 1, 2)}) if grown else LINE
    return tuple(member for member in (line, SHARED, LARGE) if not only or {*only} & {*member.claims})

paper.members = plan
'''
TINY = [
    *(
        "--set",
        "data.image_size=16",
        "--set",
        "data.rooms=12",
        "--set",
        "data.train_images=8",
        "--set",
        "model.width=1",
    ),
    *("--set", "train.epochs=2", "--set", "train.batch_size=4", "--set", "train.eval_images=4"),
]
GROUP = "paper-small"
STUDIES = [f"{GROUP}-line", f"{GROUP}-shared", f"{GROUP}-large"]


@pytest.fixture(autouse=True)
def plan(monkeypatch: pytest.MonkeyPatch) -> None:
    """The paper as three tiny studies."""
    monkeypatch.setattr(paper, "members", paper.members)  # what the plan replaces comes back afterwards
    exec(PLAN, {})


def train(lab: Lab, *arguments: str) -> int:
    """`sweep paper` at a tiny size, in this process."""
    return lab.run("paper", *TINY, "--workers", "0", *arguments)


def spawn(lab: Lab, *arguments: str) -> subprocess.Popen:
    """The same in a process group of its own, with a worker."""
    code = f"{PLAN}\nimport sys\nfrom depth_loss_sweep.cli import main\nmain()"
    command = [sys.executable, "-c", code, "paper", *TINY, "--workers", "1", *arguments, "--home", str(lab.home.root)]
    return subprocess.Popen(
        command, cwd=lab.folder, start_new_session=True, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


def shown(lab: Lab, capsys, *arguments: str) -> dict:
    """What a command prints as JSON."""
    capsys.readouterr()
    assert lab.run(*arguments, "--json") == 0
    return json.loads(capsys.readouterr().out)


@pytest.fixture(scope="module")
def trained(new_lab) -> Lab:
    """A home with the whole group."""
    lab, before = new_lab(), paper.members
    exec(PLAN, {})
    assert train(lab) == 0
    paper.members = before
    return lab


def test_members_are_studies_that_share_runs_and_grow_by_what_was_found(trained) -> None:
    """Each is called GROUP-KEY and has what differs; a run that two ask for is one; a later look adds a seed."""
    store = trained.store
    assert {*store.group_studies(GROUP)} == {*STUDIES} and store.group(GROUP)["state"] == "finished"
    records = {name: study_numbers(store, name) for name in STUDIES}
    line, shared, large = records.values()
    assert {*line.runs["seed"]} == {0, 1, 2} and line.looks == 1  # two seeds are no answer that was looked at
    assert len({*line.runs["run"]} & {*shared.runs["run"]}) == 1
    assert large.spec["data"]["image_size"] == [32, 32] and large.spec["train"]["epochs"] == 1
    assert line.spec["data"]["image_size"] == [16, 16] and line.spec["model"]["width"] == 1


def test_a_finished_group_is_finished_at_once(trained, capsys) -> None:
    """Nothing is trained twice, whatever command goes on."""
    attempts = [row["attempts"] for name in STUDIES for row in trained.store.runs(name)]
    assert train(trained) == 0 and trained.run("resume", GROUP, "--workers", "0") == 0
    assert "to train" not in capsys.readouterr().err
    assert [row["attempts"] for name in STUDIES for row in trained.store.runs(name)] == attempts


def test_what_it_takes_is_said_before(lab, capsys) -> None:
    """Runs that are known by now, shared ones once, and what looks may add; the time once runs were trained here."""
    assert train(lab) == 0
    error = capsys.readouterr().err
    assert "paper-small: 6 runs in 3 studies, 0 done already; 6 to train, how long that takes isn't known yet" in error
    assert "up to 2 runs more" in error and "of disk beside its pictures" in error
    assert "paper-small: 6 runs in 3 studies, 4 done already; 2 to train, about" in error


def test_only_some_claims(lab, capsys) -> None:
    """--only trains what those need, resume goes on with those, and all comes with the plain command."""
    assert train(lab, "--only", "H4") == 0
    assert lab.store.group_studies(GROUP) == [STUDIES[2]]
    assert lab.run("resume", GROUP, "--workers", "0") == 0
    assert shown(lab, capsys, "status", GROUP)["only"] == ["H4"]
    assert train(lab) == 0
    assert {*lab.store.group_studies(GROUP)} == {*STUDIES}


def test_a_killed_group_ends_as_one_left_alone(trained, new_lab) -> None:
    """SIGKILL in two places, then resume: bit for bit the numbers of an undisturbed one."""
    lab = new_lab()
    for rows in (3, 10):
        process = spawn(lab)
        lab.wait_for_epochs(rows, process)
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
    assert lab.run("resume", GROUP, "--workers", "0") == 0
    assert [lab.numbers(name) for name in STUDIES] == [trained.numbers(name) for name in STUDIES]


def test_a_budget_stops_it_resumably(lab, capsys) -> None:
    """Exit code 130, as with a study."""
    assert train(lab, "--budget", "1s", "--set", "train.epochs=5000") == 130
    assert "the budget of 1s is spent" in capsys.readouterr().err


def test_a_signal_stops_it_resumably(lab, capsys) -> None:
    """Exit code 130, and one line says how to go on; the group is said to be interrupted."""
    process = spawn(lab, "--set", "train.epochs=5000")
    lab.wait_for_epochs(1, process)
    process.send_signal(signal.SIGINT)
    _, error = process.communicate()
    assert process.returncode == 130 and f"go on with: sweep resume {GROUP}" in error
    assert lab.run("list") == 0
    line = next(line for line in capsys.readouterr().out.splitlines() if line.startswith(GROUP))
    assert "interrupted" in line and "1 study" in line


def test_two_sessions_at_once_are_refused_in_a_line(lab, capsys) -> None:
    """The one at work is named, and goes on; delete is refused, too."""
    process = spawn(lab, "--set", "train.epochs=5000")
    try:
        lab.wait_for_epochs(1, process)
        for command in (["resume", GROUP, "--workers", "0"], ["delete", GROUP, "--yes"]):
            capsys.readouterr()
            assert lab.run(*command) == 2
            error = capsys.readouterr().err
            assert len(error.splitlines()) == 1 and f"pid {process.pid}" in error
        assert shown(lab, capsys, "status", GROUP)["state"] == "running"
    finally:
        process.kill()
        process.communicate()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--only", "H99"], "expected one of H1"),
        (["--scale", "medium"], "expected one of small, full"),
        (["--set", "search.w=[0.1]"], "differ in it"),
        (["--set", "data.image_size=7"], "divisible by 8"),
        (["--data", "pairs:/nowhere"], "/nowhere"),
        (["--name", "../x"], "cannot be used"),
        (["--from", "/nowhere"], "/nowhere"),
    ],
)
def test_what_is_wrong_is_refused_in_a_line(lab, capsys, arguments: list[str], said: str) -> None:
    """Exit code 2, and nothing is made."""
    assert train(lab, *arguments) == 2
    error = capsys.readouterr().err
    assert said in error.splitlines()[-1]
    assert not lab.home.database.exists() or lab.store.studies() == lab.store.groups() == []


def test_a_group_keeps_its_settings(trained, capsys) -> None:
    """Other settings are refused with what differs, a study's name is none for a group, nor a group's for a study."""
    assert train(trained, "--set", "train.batch_size=2") == 2
    assert "train.batch_size: 4 -> 2" in capsys.readouterr().err
    assert train(trained, "--name", STUDIES[0]) == 2
    assert "is a study here" in capsys.readouterr().err
    assert trained.run("start", trained.spec(), "--name", GROUP, "--workers", "0") == 2
    assert "is a group of studies here" in capsys.readouterr().err


def test_a_group_keeps_its_pictures(lab, capsys, tmp_path) -> None:
    """Those that it was begun with are taken where none are named; others are refused before anything is trained."""
    for name, value in (("here", 3000), ("there", 4000)):
        for number in range(8):
            folder = tmp_path / name / f"scene_{number}"
            folder.mkdir(parents=True)
            picture = np.random.default_rng(number).integers(0, 255, (16, 16, 3), dtype=np.uint8)
            cv2.imwrite(str(folder / "0.png"), picture)
            cv2.imwrite(str(folder / "0_depth.png"), np.full((16, 16), value + number, np.uint16))
    assert train(lab, "--only", "H4", "--data", f"pairs:{tmp_path / 'here'}") == 0
    assert train(lab, "--data", f"pairs:{tmp_path / 'there'}") == 2
    assert "was begun on other pictures" in capsys.readouterr().err.splitlines()[-1]
    assert lab.store.group_studies(GROUP) == [STUDIES[2]]
    assert train(lab) == 0
    assert {study_numbers(lab.store, name).data["source"] for name in STUDIES} == {f"pairs:{tmp_path / 'here'}"}


def test_status_and_list_know_groups(trained, capsys) -> None:
    """A group stands as one block, its members below it; each is an ordinary study beside that."""
    found = shown(trained, capsys, "status", GROUP)
    assert found["state"] == "finished" and {study["name"] for study in found["studies"]} == {*STUDIES}
    assert found["left"] == [] and found["scale"] == "small"
    assert trained.run("status", GROUP) == 0
    lines = capsys.readouterr().out.splitlines()
    assert {line.split()[0] for line in lines[1:4]} == {*STUDIES}
    assert "not the paper's setting" in lines[4] and [line.split()[0] for line in lines[5:]] == [
        f"{n}:" for n in CLAIMS
    ]
    assert {claim["number"] for claim in found["claims"]} == {*CLAIMS}
    assert trained.run("list") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith(GROUP) and {line.split()[0] for line in lines[1:]} == {*STUDIES}
    assert [row["group"] for row in shown_rows(trained, capsys)] == [GROUP] * 3
    assert trained.run("status", STUDIES[0]) == 0 and trained.run("report", STUDIES[0]) == 0


def shown_rows(lab: Lab, capsys) -> list[dict]:
    capsys.readouterr()
    assert lab.run("list", "--json") == 0
    return json.loads(capsys.readouterr().out)


def test_a_report_of_a_group_is_the_papers_page(trained, capsys) -> None:
    """At the group's own place, with every claim; named beside a study, a group is its studies, here of two sizes of pictures."""
    assert trained.run("report", GROUP) == 0
    path = Path(capsys.readouterr().out.strip())
    assert path == trained.home.report(GROUP)
    page = path.read_text(encoding="utf-8")
    assert all(claim.words in page for claim in CLAIMS.values())
    assert trained.run("report", GROUP, STUDIES[0]) == 2
    assert "can't be compared" in capsys.readouterr().err


def test_a_group_writes_its_talk_in_the_end(trained, capsys) -> None:
    """The deck that `sweep report` writes, its path printed last; what lies there and is no page of ours is kept, before any work."""
    slides = trained.home.slides(GROUP)
    assert trained.run("report", GROUP, "--slides") == 0
    reported = slides.read_bytes()
    slides.unlink()
    capsys.readouterr()
    assert train(trained, "--slides") == 0
    assert capsys.readouterr().out.splitlines()[-1] == str(slides) and slides.read_bytes() == reported
    slides.write_text("mine")
    assert train(trained, "--slides") == 2
    assert "is kept" in capsys.readouterr().err and slides.read_text() == "mine"
    slides.unlink()


def test_findings_are_written_as_markdown(trained, capsys, tmp_path) -> None:
    """Again over themselves, never over another file, and of groups alone."""
    text = tmp_path / "PAPER.md"
    for _ in range(2):
        assert trained.run("report", GROUP, "--text", str(text)) == 0
        assert capsys.readouterr().out.strip() == str(text)
    assert all(claim.words in text.read_text() for claim in CLAIMS.values())
    text.write_text("mine")
    assert trained.run("report", GROUP, "--text", str(text)) == 2 and text.read_text() == "mine"
    assert trained.run("report", STUDIES[0], "--text", str(tmp_path / "other.md")) == 2
    assert "--text is for a group" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["export", "best", "confirm"])
def test_commands_of_one_study_name_a_groups_members(trained, capsys, command: str) -> None:
    """In one line."""
    assert trained.run(command, GROUP) == 2
    error = capsys.readouterr().err
    assert len(error.splitlines()) == 1 and all(name in error for name in STUDIES)


def test_a_group_goes_to_text_and_back(trained, new_lab, capsys) -> None:
    """As a whole, under another name, too; the same numbers are the same files; what it goes on with is found."""
    text, other = trained.folder / "text", new_lab()
    assert trained.run("copy", GROUP, "--to", str(text)) == 0
    assert "5 trials, 8 runs" in capsys.readouterr().out
    before = {path.name: path.read_bytes() for path in text.iterdir()}
    assert trained.run("copy", GROUP, "--to", str(text)) == 0
    assert {path.name: path.read_bytes() for path in text.iterdir()} == before
    assert other.run("copy", GROUP, "--from", str(text)) == 0
    assert [other.numbers(name) for name in STUDIES] == [trained.numbers(name) for name in STUDIES]
    assert other.run("copy", GROUP, "--from", str(text)) == 0  # the same is there: nothing is to be done
    with other.store.begin() as connection:
        connection.execute(update(TRIAL).where(TRIAL.c.study == STUDIES[0]).values(value=9.0))
    assert other.run("copy", GROUP, "--from", str(text)) == 2
    assert f"'{GROUP}' is in" in capsys.readouterr().err
    assert other.run("copy", GROUP, "--from", str(text), "--name", "twin") == 0
    assert {*other.store.group_studies("twin")} == {name.replace(GROUP, "twin") for name in STUDIES}
    for command in (["report", "twin"], ["resume", "twin", "--workers", "0"], ["doctor"]):
        assert other.run(*command) == 0
    assert trained.run("copy", STUDIES[0], "--to", str(other.folder / "one")) == 0
    assert other.run("copy", STUDIES[0], "--from", str(other.folder / "one"), "--name", "alone") == 0
    assert other.store.require("alone")["group"] is None


def test_finished_runs_are_taken_up_from_text(trained, new_lab, capsys) -> None:
    """By identity alone; where they were trained is said, and each run's record says in which environment."""
    text, other = trained_elsewhere(trained, new_lab()), new_lab()
    capsys.readouterr()
    assert train(other, "--from", str(text)) == 0
    error = capsys.readouterr().err
    assert "8 finished runs of" in error and "8 runs of another CPU, cpu, torch" in error
    assert "6 runs in 3 studies, 6 done already; 0 to train" in error
    frames = [run_frame(other.store, name) for name in STUDIES]
    assert all("another CPU" in text for frame in frames for text in frame["environment"])
    assert all(frame["mixed"].all() for frame in frames)
    trials = [[lab.store.trials(name) for name in STUDIES] for lab in (other, trained)]
    values = [[trial["value"] for study in each for trial in study] for each in trials]
    assert values[0] == values[1]
    assert other.run("delete", GROUP, "--yes") == 0
    assert other.store.rows(select(RUN.c.run)) == []


def trained_elsewhere(trained: Lab, lab: Lab) -> Path:
    """The group as text, as if it had been trained on another machine."""
    assert lab.run("copy", GROUP, "--from", str(trained.home.root)) == 0
    with lab.store.begin() as connection:
        for row in connection.exec_driver_sql("SELECT run, environment FROM sweep_run").all():
            foreign = json.dumps(json.loads(row.environment) | {"model": "another CPU"}, sort_keys=True)
            for table in ("sweep_run", "sweep_epoch", "sweep_per_image", "sweep_trial_run", "sweep_study_run"):
                connection.exec_driver_sql(f"UPDATE {table} SET run = ? WHERE run = ?", (row.run[::-1], row.run))
            connection.exec_driver_sql("UPDATE sweep_run SET environment = ? WHERE run = ?", (foreign, row.run[::-1]))
    assert lab.run("copy", GROUP, "--to", str(lab.folder / "text")) == 0
    return lab.folder / "text"


def test_a_group_is_deleted_whole(new_lab, capsys) -> None:
    """One line says what goes; runs that another study shares stay; the name is free again."""
    lab = new_lab()
    assert train(lab, "--only", "H3") == 0
    assert lab.run("copy", STUDIES[1], "--from", str(lab.home.root), "--name", "mine") == 0
    capsys.readouterr()
    assert lab.run("delete", GROUP) == 2
    assert "2 studies, 4 trials" in capsys.readouterr().err
    assert lab.run("delete", GROUP, "--yes") == 0
    assert "2 runs shared with other studies stay" in capsys.readouterr().out
    assert [row["name"] for row in lab.store.studies()] == ["mine"] and lab.store.groups() == []
    assert not lab.home.study(GROUP).exists() and not lab.home.study(STUDIES[0]).exists()
    assert lab.run("doctor") == 0 and train(lab, "--only", "H3") == 0


def test_a_group_is_deleted_only_where_nobody_is_at_work_on_a_part_of_it(lab, capsys) -> None:
    """A member that somebody goes on with keeps the whole group, and so does what stands beside one."""
    assert train(lab, "--only", "H3") == 0
    for held in (STUDIES[1], stand_beside(lab.store, STUDIES[0], CONFIRMED)):
        lease = Lease.take(lab.store, held, lab.home.lock(held))
        capsys.readouterr()
        assert lab.run("delete", GROUP, "--yes") == 2
        lease.release()
        assert f"{held!r} is being worked on by pid" in capsys.readouterr().err
        assert {*lab.store.group_studies(GROUP)} == {*STUDIES[:2]}
    assert lab.run("delete", GROUP, "--yes") == 0 and lab.store.studies() == []


def test_a_killed_deletion_of_a_group_is_finished_by_the_same_command(new_lab) -> None:
    """Killed between a study's rows and its files, that study is still found."""
    lab = new_lab()
    assert train(lab, "--only", "H3") == 0
    runs = [row["run"] for row in lab.store.runs(STUDIES[0])]
    (lab.home.study(GROUP) / "deleting-studies.json").write_text(json.dumps(STUDIES[:2]))
    (lab.home.study(STUDIES[0]) / "deleting.json").write_text(json.dumps(runs))
    lab.store.delete_study(STUDIES[0])
    assert lab.run("delete", GROUP, "--yes") == 0
    assert not any(lab.home.run(key).exists() for key in runs) and lab.store.groups() == []
    assert lab.run("delete", GROUP, "--yes") == 2


def test_a_members_winner_is_confirmed_where_that_is_asked_for(lab, capsys, monkeypatch) -> None:
    """Once it has one; then there is nothing left, and the confirmation is of the group, too."""
    member = Member("line", "ssim-vs-edge", {"search.w": [0.0, 0.3]}, (0, 1, 2), ("H3",), confirm=2)
    monkeypatch.setattr(paper, "members", lambda _records, _only=(): (member,))
    assert train(lab) == 0
    assert "nothing to confirm" in capsys.readouterr().err
    lab.make_learnt(STUDIES[0])
    with lab.store.begin() as connection:
        connection.exec_driver_sql("UPDATE sweep_run SET outcome = 'learnt'")
    assert [each["name"] for each in shown(lab, capsys, "status", GROUP)["left"]] == [STUDIES[0]]
    assert lab.run("resume", GROUP, "--workers", "0") == 0
    assert shown(lab, capsys, "status", GROUP)["left"] == []
    assert lab.store.companion(STUDIES[0], CONFIRMED)["group"] == GROUP
    assert lab.run("resume", GROUP, "--workers", "0") == 0
    assert "to train" not in capsys.readouterr().err
    assert lab.run("delete", GROUP, "--yes") == 0 and lab.store.studies() == []


def test_failed_runs_make_exit_code_1_and_are_tried_again(lab, capsys) -> None:
    """Failures end a study as they do without a group; the next command tries them again."""
    assert train(lab, "--only", "H4") == 0
    with lab.store.begin() as connection:
        connection.exec_driver_sql("UPDATE sweep_trial SET state = 'failed', value = NULL")
        connection.exec_driver_sql("UPDATE sweep_run SET state = 'failed', epochs = 0")
    assert lab.run("resume", GROUP, "--workers", "0") == 0
    assert "tried again" in capsys.readouterr().err
    assert lab.store.trials(STUDIES[2])[0]["state"] == "complete"


def test_on_another_machine_a_group_trains_what_failed_and_nothing_else(lab, capsys, monkeypatch) -> None:
    """What its studies have finished is theirs wherever it was trained, in what is said before, too."""
    assert train(lab, "--only", "H3") == 0
    with lab.store.begin() as connection:
        where = f"study = '{STUDIES[0]}' AND trial = 0 AND seed = 1"
        connection.exec_driver_sql(
            f"UPDATE sweep_trial SET state = 'failed' WHERE study = '{STUDIES[0]}' AND number = 0"
        )
        connection.exec_driver_sql(
            f"UPDATE sweep_run SET state = 'failed' WHERE run = (SELECT run FROM sweep_trial_run WHERE {where})"
        )
    before = {row["run"] for name in STUDIES[:2] for row in lab.store.runs(name) if row["state"] == "finished"}
    elsewhere(monkeypatch)
    capsys.readouterr()
    assert lab.run("resume", GROUP, "--workers", "0") == 0
    assert "5 runs in 2 studies, 4 done already; 1 to train" in capsys.readouterr().err
    after = {row["run"] for name in STUDIES[:2] for row in lab.store.runs(name)}
    assert before < after and len(after - before) == 1


def test_a_group_keeps_its_log_while_others_read(lab) -> None:
    """A session goes from study to study, and asks for its database each time; whoever reads meanwhile leaves SQLite's log in place."""
    with closing(make_executor("local", 0)) as executor, ProgressDisplay() as show:
        session = Session(lab.home, None, 0, "cpu", executor, "", show, lambda: False)
    store = session.open(create=True)
    store.save_group("first", state="running", scale="small", only="[]", overrides="{}")
    assert session.open() is store
    log = Path(f"{lab.home.database}-wal")
    assert "first" in lab.spawn("list").communicate()[0]
    store.save_group("second", state="running", scale="small", only="[]", overrides="{}")
    assert log.exists() and {row["name"] for row in lab.store.groups()} == {"first", "second"}
