"""The command line as a user meets it: bad input in one line and exit 2, results on stdout."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from sqlalchemy import text

from depth_loss_sweep.cli import run
from depth_loss_sweep.cli.app import app
from depth_loss_sweep.cli.options import at_place

MODEL = ("--set", "model.width=2", "--set", "train.epochs=1", "--set", "data.image_size=16")


def one_line(capsys, *words: str) -> None:
    """What was printed is one line on stderr with these words in it."""
    captured = capsys.readouterr()
    lines = [line for line in captured.err.splitlines() if not line.startswith("preparing pictures")]
    assert len(lines) == 1, captured.err
    assert lines[0].startswith("sweep: ")
    for word in words:
        assert word in lines[0]


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    """Five scenes of two small pictures with depth."""
    random = np.random.default_rng(0)
    for scene in range(5):
        folder = tmp_path / "pairs" / f"scene_{scene}"
        folder.mkdir(parents=True)
        for number in range(2):
            cv2.imwrite(str(folder / f"{number}.png"), random.integers(0, 255, (24, 32, 3), dtype=np.uint8))
            cv2.imwrite(str(folder / f"{number}_depth.png"), random.integers(500, 5000, (24, 32)).astype(np.uint16))
    return tmp_path / "pairs"


@pytest.mark.parametrize(
    ("advice", "placed"),
    [
        ("first: sweep resume abc-", "first: sweep resume abc- --home h --executor slurm"),
        ("see sweep status a.b., and then", "see sweep status a.b. --home h, and then"),
        ("(sweep confirm a+raced)", "(sweep confirm a+raced --home h --executor slurm)"),
        ("sweep delete a --home h", "sweep delete a --home h"),
        ("a shorter one (sweep copy --name)", "a shorter one (sweep copy --name)"),
    ],
)
def test_advice_is_given_the_place_where_studies_are(advice: str, placed: str) -> None:
    """Behind the whole name of the study, whatever a name may end in, and once."""
    assert at_place(advice, " --home h", " --executor slurm") == placed


def test_a_missing_folder_is_named(lab, capsys) -> None:
    """--data pairs:/nowhere ends in one line and exit 2."""
    assert lab.run("start", "demo", "--data", "pairs:/nowhere/at/all", "--workers", "0") == 2
    one_line(capsys, "/nowhere/at/all")


@pytest.mark.parametrize("command", [("start", "demo", "--workers", "0"), ("status",), ("resume", "demo")])
def test_a_home_that_is_a_file_is_said(tmp_path: Path, capsys, command: tuple[str, ...]) -> None:
    """Whether the command would make the home or look into it."""
    (tmp_path / "home").write_text("mine")
    assert run([*command, "--home", str(tmp_path / "home")]) == 2
    one_line(capsys, str(tmp_path / "home"), "file", "--home")


def test_a_truncated_picture_is_named(lab, capsys, pairs: Path) -> None:
    """A PNG that was cut off is named; nothing is trained on half of it."""
    file = pairs / "scene_1" / "0.png"
    file.write_bytes(file.read_bytes()[:-200])
    assert lab.run("start", "demo", "--data", f"pairs:{pairs}", "--workers", "0", *MODEL) == 2
    one_line(capsys, str(file))


def test_depth_of_another_size_is_named(lab, capsys, pairs: Path) -> None:
    """Picture and depth must have one size."""
    file = pairs / "scene_2" / "1_depth.png"
    cv2.imwrite(str(file), np.full((10, 10), 1000, np.uint16))
    assert lab.run("start", "demo", "--data", f"pairs:{pairs}", "--workers", "0", *MODEL) == 2
    one_line(capsys, str(file))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["start", "demoo"], ["'demoo'", "did you mean 'demo'"]),
        (["start", "demo", "--set", "train.epoch=3"], ["did you mean 'epochs'"]),
        (["start", "demo", "--set", "nonsense"], ["section.key=value"]),
        (["start", "demo", "--seeds", "many"], ["--seeds"]),
        (["start", "demo", "--name", "../../etc"], ["cannot be used"]),
        (["start", "demo", "--device", "cuda:99"], ["cuda:99"]),
        (["start", "demo", "--executor", "nowhere"], ["'nowhere'", "local, ray, slurm"]),
        (["start", "demo", "--option", "partition=gpu"], ["'local'", "it has none"]),
        (["resume", "demo", "--executor", "slurm", "--option", "partion=gpu"], ["did you mean 'partition'"]),
        (["confirm", "demo", "--executor", "slurm", "--option", "gpu"], ["key=value"]),
        (["paper", "--executor", "slurm", "--option", "time=an hour"], ["time=an hour", "2:00:00"]),
        (["start", "lambda-search", "--set", "study.objective=combined"], ["not comparable"]),
        (["start", "demo", "--set", 'weights={ silog = "w" }'], ["section.key"]),
        (["start", "demo", "--set", "weights.silog=w", "--set", "weights.ssim=0", "--set", "weights.edge=0",
          "--set", "weights.l1=0"], ["sum to nothing at w = 0"]),
        (["start", "demo", "--storage", "postgresql://me@127.0.0.1:1/db"], ["127.0.0.1"]),
        (["resume", "nothing"], ["no database"]),
        (["status", "nothing"], ["no database"]),
        (["report", "nothing"], ["no database"]),
        (["presets", "nothing"], ["'nothing'"]),
        (["start", "table-2", "--set", 'search.points=["equal"]'], ["remove [weights]"]),
        (["data", "check", "diode:/nowhere"], ["/nowhere"]),
        (["data", "fetch", "kitti"], ["kitti"]),
        (["predict", "/nowhere.npz", "/nowhere.png", "--output", "/tmp"], ["/nowhere.npz"]),
        (["evaluate", "/nowhere.npz", "--data", "rooms", "--part", "most"], ["--part"]),
        (["start"], ["spec"]),
        (["start", "demo", "--workers", "-1"], ["--workers"]),
        (["start", "demo", "--nonsense"], ["--nonsense"]),
        (["nonsense"], ["nonsense"]),
    ],
)  # fmt: skip
def test_bad_requests_are_one_line_and_exit_2(arguments, words, tmp_path, monkeypatch, capsys) -> None:
    """What was given, what was expected, what to do; no traceback, nothing half-written."""
    monkeypatch.setenv("SWEEP_HOME", str(tmp_path / "home"))
    assert run(arguments) == 2
    captured = capsys.readouterr()
    assert len(captured.err.strip().splitlines()) == 1, captured.err
    for word in words:
        assert word in captured.err
    assert not (tmp_path / "home" / "runs").exists()


def test_a_database_of_a_newer_schema_is_refused(lab, capsys) -> None:
    """Every command refuses a database of the future and leaves it alone."""
    assert lab.run("start", lab.spec(seeds="[0]", epochs="1"), "--workers", "0") == 0
    with lab.store.engine.begin() as connection:
        connection.execute(text("UPDATE sweep_version SET version = 99"))
    capsys.readouterr()
    for command in (["status"], ["list"], ["resume", "line"], ["report", "line"], ["export", "line"]):
        assert lab.run(*command) == 2
        one_line(capsys, "schema 99")


def test_a_finished_study_answers_every_question(lab, capsys, tmp_path: Path) -> None:
    """status, list, export, best, evaluate, predict and report of a small study give what they promise."""
    assert lab.run("start", lab.spec(), "--workers", "0") == 0
    out = capsys.readouterr().out
    assert out.startswith("line: finished. ") and "\nreport: sweep report line" in out

    assert lab.run("status", "line", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["trials"]["complete"] == 3
    assert sum(found["outcomes"].values()) == 6

    assert lab.run("list", "--json") == 0
    assert [row["name"] for row in json.loads(capsys.readouterr().out)] == ["line"]

    assert lab.run("export", "line", "--format", "json") == 0
    tables = json.loads(capsys.readouterr().out)
    assert (len(tables["trials"]), len(tables["runs"]), len(tables["epochs"])) == (3, 6, 36)
    assert lab.run("export", "line", "--format", "csv", "--table", "epochs", "--output", str(tmp_path / "e.csv")) == 0
    assert len((tmp_path / "e.csv").read_text().splitlines()) == 37
    assert lab.run("export", "line", "--format", "parquet", "--output", str(tmp_path / "tables")) == 0
    assert sorted(p.name for p in (tmp_path / "tables").iterdir()) == [
        "epochs.parquet",
        "runs.parquet",
        "trials.parquet",
    ]

    capsys.readouterr()
    model = tmp_path / "model.npz"
    lab.make_learnt()
    assert lab.run("best", "line", "--json", "--checkpoint", str(model)) == 0
    best = json.loads(capsys.readouterr().out)
    assert best["trial"] in (0, 1, 2)
    assert model.exists()

    settings = ("--set", "rooms=12")
    assert lab.run("evaluate", str(model), "--data", "rooms", "--part", "val", "--json", *settings) == 0
    scores = json.loads(capsys.readouterr().out)
    assert set(scores) >= {"model", "median", "mean_map", "images"}
    assert scores["model"]["rmse"] > 0

    picture = tmp_path / "photo.png"
    cv2.imwrite(str(picture), np.full((30, 40, 3), 128, np.uint8))
    assert run(["predict", str(model), str(picture), "--output", str(tmp_path / "out")]) == 0
    depth = cv2.imread(str(tmp_path / "out" / "photo_depth.png"), cv2.IMREAD_UNCHANGED)
    assert depth.dtype == np.uint16
    assert depth.shape == (30, 40)

    capsys.readouterr()
    assert lab.run("report", "line") == 0
    page = Path(capsys.readouterr().out.strip())
    assert "<html" in page.read_text()
    assert lab.run("doctor") == 0


def test_the_model_that_best_saves_is_the_one_that_was_measured(lab, capsys, tmp_path: Path) -> None:
    """Evaluating the saved checkpoint on val gives the recommended trial's own number for its first seed."""
    assert lab.run("start", lab.spec(seeds="[0]"), "--workers", "0", "--set", "study.value=1") == 0
    lab.make_learnt()
    capsys.readouterr()
    assert lab.run("best", "line", "--json", "--checkpoint", str(tmp_path / "m.npz")) == 0
    trial = json.loads(capsys.readouterr().out)["trial"]
    value = lab.store.trials("line")[trial]["value"]
    settings = ("--set", "rooms=12")
    assert lab.run("evaluate", str(tmp_path / "m.npz"), "--data", "rooms", "--part", "val", "--json", *settings) == 0
    assert json.loads(capsys.readouterr().out)["model"]["rmse"] == pytest.approx(value, rel=1e-6)


def test_a_study_that_learnt_nothing_says_so_everywhere(lab, capsys, tmp_path: Path) -> None:
    """start, status, best and the page have one answer; a model can be had all the same by its trial, with a warning."""
    assert lab.run("start", lab.spec(epochs="1", seeds="[0]", w="[0.3]"), "--workers", "0") == 0
    headline = "Nothing was learnt: no trial beats the trivial predictors"
    out = capsys.readouterr().out.splitlines()
    assert out[0] == f"line: finished. {headline}" and out[1].startswith("report: ")
    assert lab.run("status", "line") == 0
    assert f"  answer    {headline}\n" in capsys.readouterr().out
    model = tmp_path / "m.npz"
    assert lab.run("best", "line", "--checkpoint", str(model)) == 2 and not model.exists()
    said = capsys.readouterr()
    assert said.out == "" and headline in said.err and "--trial" in said.err
    assert lab.run("best", "line", "--checkpoint", str(model), "--trial", "0") == 0 and model.exists()
    assert "sweep: nothing was learnt, so the model that was saved is no recommendation" in capsys.readouterr().err
    assert lab.run("best", "line", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["headline"], found["state"], found["trial"], found["kept"]) == (headline, "not_learnt", None, [])
    assert lab.run("report", "line") == 0
    page = lab.home.report("line").read_text()
    assert headline in page and "recommended" not in page


def test_a_model_that_is_undecided_is_saved_with_a_warning(lab, capsys, tmp_path: Path) -> None:
    """One seed is an anecdote, and so is the model that it names; best, status, export and JSON say the same of it."""
    assert lab.run("start", lab.spec(seeds="[0]"), "--workers", "0") == 0
    lab.make_learnt()
    capsys.readouterr()
    assert lab.run("best", "line", "--json", "--checkpoint", str(tmp_path / "m.npz")) == 0
    said = capsys.readouterr()
    found = json.loads(said.out)
    assert found["state"] == "anecdote" and found["bound"] is None and found["kept"] == [0, 1, 2]
    assert f"trial {found['trial']} is an anecdote, so the model that was saved is no recommendation" in said.err
    assert lab.run("status", "line", "--json") == 0
    status = json.loads(capsys.readouterr().out)
    assert status["decision"] == {key: found[key] for key in ("state", "trial", "kept", "bound")}
    assert lab.run("export", "line", "--format", "json") == 0
    exported = json.loads(capsys.readouterr().out)["decision"]
    assert exported["headline"] == status["headline"] == found["headline"]
    assert {key: exported[key] for key in status["decision"]} == status["decision"]


def test_the_margin_may_change_and_trains_nothing(lab, capsys) -> None:
    """What makes no difference is a matter of opinion: a study goes on with another margin, and remembers it."""
    spec = lab.spec(epochs="1", seeds="[0]", w="[0.3]")
    assert lab.run("start", spec, "--workers", "0") == 0
    runs = lab.store.runs("line")
    assert lab.run("start", spec, "--workers", "0", "--set", "study.margin=0.05") == 0
    assert lab.run("resume", "line", "--workers", "0") == 0 and lab.store.runs("line") == runs
    capsys.readouterr()
    assert lab.run("best", "line", "--json") == 0
    assert json.loads(capsys.readouterr().out)["margin"] == 0.05


def test_a_swept_field_is_named_wherever_a_trial_is(lab, capsys) -> None:
    """A sweep over the learning rate is answered with a rate: by status, as by start, and by best."""
    text = lab.LINE.replace("w = { from = 0.0, to = 0.6, step = 0.3 }", '"train.learning_rate" = [0.001, 0.02]')
    text = text.replace('"0.9 - w"', "0.9").replace('ssim = "w"', "ssim = 0")
    assert lab.run("start", lab.spec(text, epochs="1", seeds="[0]"), "--workers", "0") == 0
    lab.make_learnt()
    capsys.readouterr()
    for command in ("status", "best"):
        assert lab.run(command, "line") == 0
        assert "train.learning_rate 0.0" in capsys.readouterr().out
    assert lab.run("best", "line", "--json") == 0
    assert json.loads(capsys.readouterr().out)["params"]["train.learning_rate"] in (0.001, 0.02)


def test_a_study_over_reference_points_grows_and_is_read_by_name(lab, capsys) -> None:
    """Points are trials called by name and weights, in status, best, export and report; one more point trains that alone."""
    rows = [
        line for line in lab.LINE.splitlines() if not line.startswith(("w =", "silog =", "ssim =", "l1 =", "[weights]"))
    ]
    spec = lab.spec("\n".join([*rows, 'points = ["equal", "bts"]']), epochs="1", seeds="[0]")
    assert lab.run("start", spec, "--workers", "0") == 0
    more = ("--set", 'search.points=["equal", "bts", "l1"]')
    before = lab.store.runs("line")
    assert lab.run("start", spec, "--workers", "0", *more) == 0
    assert lab.store.runs("line")[:2] == before
    assert [trial["params"] for trial in lab.store.trials("line")] == [{"point": p} for p in ("equal", "bts", "l1")]
    lab.make_learnt()
    capsys.readouterr()
    assert lab.run("status", "line") == 0 and lab.run("best", "line") == 0
    out = capsys.readouterr().out
    assert any(f"({name})" in out for name in ("equal: silog 1, ssim 1, edge 1, l1 1", "bts: silog 1", "l1: l1 1"))
    assert "\npoint      " in out
    assert lab.run("report", "line") == 0
    page = lab.home.report("line").read_text()
    assert (
        "equal: SILog\u00a01 · SSIM\u00a01 · edge\u00a01 · L1\u00a01" in page
        and "The point bts: SILog alone, rooted" in page
    )


def test_the_model_of_any_trial_can_be_saved(lab, capsys, tmp_path: Path) -> None:
    """Where there is no advice, as on the combined loss, --trial chooses; a trial that is not there is named."""
    model = str(tmp_path / "m.npz")
    assert (
        lab.run("start", lab.spec(epochs="1", seeds="[0]"), "--workers", "0", "--set", "study.objective=combined") == 0
    )
    capsys.readouterr()
    for arguments, words in (
        (("--checkpoint", model), ("no trial of 'line' can be named", "--trial")),
        (("--checkpoint", model, "--trial", "7"), ("--trial 7", "0 to 2")),
        (("--trial", "1"), ("--checkpoint",)),
    ):
        assert lab.run("best", "line", *arguments) == 2
        one_line(capsys, *words)
    assert lab.run("best", "line", "--checkpoint", model, "--trial", "1") == 0
    assert "seed 0 of trial 1" in capsys.readouterr().err


def test_list_and_status_agree(lab, capsys) -> None:
    """A study whose coordinator was killed is interrupted in both, and what it had begun is not called running."""
    assert lab.run("start", lab.spec(epochs="1", seeds="[0]"), "--workers", "0") == 0
    with lab.store.begin() as connection:
        connection.execute(text("UPDATE sweep_study SET state = 'running'"))
        connection.execute(text("UPDATE sweep_trial SET state = 'running' WHERE number = 2"))
    capsys.readouterr()
    assert lab.run("list") == 0 and lab.run("status") == 0
    listed, *stood = capsys.readouterr().out.splitlines()
    assert "interrupted" in listed and listed.endswith("2 complete, 1 begun")
    assert stood[0] == "line: interrupted" and stood[1].endswith("2 of 3 complete, 1 begun")
    assert lab.run("list", "--json") == 0 and lab.run("status", "line", "--json") == 0
    decoder, out = json.JSONDecoder(), capsys.readouterr().out
    (row,), end = decoder.raw_decode(out)
    found, _ = decoder.raw_decode(out[end:].lstrip())
    assert row["state"] == found["state"] == "interrupted" and found["trials"] == {"total": 3, **row["trials"]}


def test_data_commands_look_before_training(capsys, pairs: Path, tmp_path: Path) -> None:
    """check counts and names bad files; preview writes a contact sheet."""
    assert run(["data", "check", f"pairs:{pairs}"]) == 0
    out = capsys.readouterr().out
    assert "10 of 5 scenes" in out
    (pairs / "scene_3" / "1_depth.png").write_bytes(b"not a picture")
    assert run(["data", "check", f"pairs:{pairs}"]) == 2
    out = capsys.readouterr().out
    assert "scene_3/1_depth.png" in out
    assert (
        run(["data", "preview", "rooms", "--set", "rooms=3", "--set", "image_size=32", "-o", str(tmp_path / "p.png")])
        == 0
    )
    assert cv2.imread(str(tmp_path / "p.png")) is not None


def test_every_command_and_option_has_help() -> None:
    """Help says what each command and each option is for."""
    commands = [(c.name or c.callback.__name__, c.callback) for c in app.registered_commands]
    for group in app.registered_groups:
        commands += [(c.name, c.callback) for c in group.typer_instance.registered_commands]
    for name, callback in commands:
        assert callback.__doc__, name
        for option, kind in callback.__annotations__.items():
            if option != "return":
                assert kind.__metadata__[0].help, f"{name} {option}"


def test_help_and_version_work(capsys) -> None:
    """--help anywhere, --version, and no arguments at all are answered on stdout with exit 0."""
    for arguments in ([], ["--help"], ["start", "--help"], ["data"], ["data", "fetch", "--help"], ["--version"]):
        assert run(arguments) == 0
        assert capsys.readouterr().out
