"""Choices that are lists themselves, such as train.augment's: from the spec through Optuna and the page to growth."""

import json

import optuna
import pandas as pd
import pytest

from depth_loss_sweep.errors import SpecError
from depth_loss_sweep.growth import grown_hash
from depth_loss_sweep.objective import Objective
from depth_loss_sweep.reports.naming import list_text, text_list
from depth_loss_sweep.spec_file import load_spec, parse_override, parse_spec

from .conftest import LINE, Lab
from .test_confirmation import made_learnt, shown

AUGMENT = 'search.train.augment=[[], ["flip_h", "brightness"]]'
CALLED = ["none", "brightness+flip_h"]


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ([], "none"),
        (["flip_h"], "flip_h"),
        ([240, 320], "240+320"),
        ([0.1, 10.0], "0.1+10.0"),
        (["0", "3.weight"], '"0"+3.weight'),
    ],
)
def test_a_list_comes_back_from_its_text(values: list, text: str) -> None:
    """Empty, of words, of whole numbers and of others, of words that look like numbers."""
    assert list_text(values) == text and text_list(text) == values


@pytest.mark.parametrize(
    ("override", "field", "called", "meant"),
    [
        (AUGMENT, "augment", CALLED, [(), ("brightness", "flip_h")]),
        ("search.train.augment=[[]]", "augment", ["none"], [()]),
        ("search.data.image_size=[[16, 32], [32, 32]]", "image_size", ["16+32", "32+32"], [(16, 32), (32, 32)]),
        ("search.data.image_size=[16, 32]", "image_size", [16, 32], [(16, 16), (32, 32)]),
    ],
)
def test_each_choice_is_a_trial_with_that_list(override: str, field: str, called: list, meant: list) -> None:
    """A trial is called by its list's text, and trained with the list; a field's own short forms are swept as ever."""
    spec = load_spec("table-2", dict([parse_override(override)]))
    assert [next(iter(cell.values())) for cell in spec.cells] == called
    sections = [spec.sections_at(cell) for cell in spec.cells]
    assert [getattr(parts["data" if field == "image_size" else "train"], field) for parts in sections] == meant


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ('search.train.augment=[[], ["flip"]]', "train.augment is 'flip': input should be 'flip_h'"),
        ('search.train.augment=[["flip_h", "flip_h"]]', "an augmentation is named twice"),
        ('search.train.augment=[["flip_h", "flip_v"], ["flip_v", "flip_h"]]', "names a choice twice"),
        ('search.train.augment=["flip_h"]', "holds 'flip_h': expected a list of lists"),
        ("search.data.image_size=[[16, 32], 32]", "holds 32: expected a list of lists"),
        ('search.data.image_size=[["16", 32]]', "expected a number, not a text"),
        ("search.model.batch_norm=[[true]]", r"holds \[True\]: expected numbers, texts or true/false"),
        ("search.w=[[0.1]]", r"holds \[0.1\]: expected numbers, texts or true/false"),
    ],
)
def test_a_wrong_choice_is_refused_in_one_line(override: str, words: str) -> None:
    """By the field's own rules, each choice once, and lists only where the field holds one."""
    with pytest.raises(SpecError, match=words) as caught:
        load_spec("table-2", dict([parse_override(override)]))
    assert "\n" not in str(caught.value)


def test_the_order_within_a_choice_means_nothing() -> None:
    """The same augmentations in another order are the same study."""
    turned = 'search.train.augment=[[], ["brightness", "flip_h"]]'
    specs = [load_spec("table-2", dict([parse_override(override)])) for override in (AUGMENT, turned)]
    assert grown_hash(specs[0]) == grown_hash(specs[1])


@pytest.fixture(scope="module")
def augmented(new_lab) -> Lab:
    """A home with a study of two lists under three seeds, whose networks count as learnt."""
    lab = new_lab()
    spec = lab.spec(rooms="20", width="1", epochs="1", seeds="[0, 1, 2]", w="[0.3]")
    assert lab.run("start", spec, "--workers", "0", "--set", AUGMENT, "--name", "lists") == 0
    lab.make_learnt("lists")
    return made_learnt(lab)


def test_runs_are_those_of_the_field_set(augmented) -> None:
    """A study with the list in [train] takes the runs over, and a resumed one has nothing to do."""
    spec = augmented.spec(rooms="20", width="1", epochs="1", seeds="[0, 1, 2]", w="[0.3]")
    runs = {run["run"] for run in augmented.store.runs("lists")}
    for number, given in enumerate(("[]", '["flip_h", "brightness"]')):
        set_ = ("--set", f"train.augment={given}")
        assert augmented.run("start", spec, "--workers", "0", *set_, "--name", f"set-{number}") == 0
        assert {run["run"] for run in augmented.store.runs(f"set-{number}")} < runs
    assert augmented.run("resume", "lists", "--workers", "0") == 0
    assert {run["run"] for run in augmented.store.runs("lists")} == runs


def test_optuna_page_and_export_call_it_by_its_text(augmented, capsys, tmp_path) -> None:
    """One text, wherever a trial is called."""
    assert [trial["params"]["train.augment"] for trial in augmented.store.trials("lists")] == CALLED
    projected = optuna.load_study(study_name="lists", storage=f"sqlite:///{augmented.home.database}")
    assert [trial.params["train.augment"] for trial in projected.trials] == CALLED
    assert augmented.run("report", "lists", "--output", str(tmp_path / "page.html")) == 0
    page = (tmp_path / "page.html").read_text()
    assert all(f"train.augment = {text}" in page for text in CALLED)
    capsys.readouterr()
    assert augmented.run("export", "lists", "--format", "json") == 0
    exported = json.loads(capsys.readouterr().out)
    assert {run["var_train.augment"] for run in exported["runs"]} == {*CALLED}
    assert augmented.run("export", "lists", "--format", "parquet", "--output", str(tmp_path / "tables")) == 0
    assert {*pd.read_parquet(tmp_path / "tables" / "runs.parquet")["var_train.augment"]} == {*CALLED}
    assert shown(augmented, capsys, "best", "lists")["params"]["train.augment"] in CALLED


def test_it_grows_by_a_list_and_is_confirmed(augmented, capsys) -> None:
    """The new choice is trained alone; the winner is confirmed with its own list, and so is what it is held against."""
    before = {run["run"] for run in augmented.store.runs("lists")}
    spec = augmented.spec(rooms="20", width="1", epochs="1", seeds="[0, 1, 2]", w="[0.3]")
    grown = AUGMENT.removesuffix("]") + ', ["flip_v"]]'
    assert augmented.run("start", spec, "--workers", "0", "--set", grown, "--name", "lists") == 0
    assert [trial["params"]["train.augment"] for trial in augmented.store.trials("lists")] == [*CALLED, "flip_v"]
    assert before < {run["run"] for run in augmented.store.runs("lists")}
    made_learnt(augmented)
    assert augmented.run("confirm", "lists", "--seeds", "2", "--workers", "0") == 0
    rows = shown(augmented, capsys, "confirm", "lists")["rows"]
    assert {row["candidate"]["fields"]["train.augment"] for row in rows} <= {*CALLED, "flip_v"}


def test_a_search_draws_among_lists(lab) -> None:
    """Under a sampler, and in a study of one's own, a list is a choice as any other."""
    drawn = ('search.train.augment=[[], ["flip_h"]]', "search.sampler=tpe", "search.trials=3", "search.w=[0.3]")
    quick = {"study.seeds": [0], "train.epochs": 1}
    spec = parse_spec(LINE, dict(map(parse_override, drawn)) | quick)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    study.optimize(Objective(spec, home=lab.home.root, device="cpu"), n_trials=2)
    assert {trial.params["train.augment"] for trial in study.trials} <= {"none", "flip_h"}
    settings = [f"--set={override}" for override in drawn]
    assert lab.run("start", lab.spec(seeds="[0]", epochs="1"), "--workers", "0", *settings) == 0
    assert {trial["params"]["train.augment"] for trial in lab.store.trials("line")} <= {"none", "flip_h"}
