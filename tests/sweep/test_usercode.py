"""The user's own code: found without being imported, known by its content, imported only where it is allowed."""

import random
import sys
import textwrap
from pathlib import Path

import pytest

import depth_loss_sweep as dls
from depth_loss_sweep import usercode
from depth_loss_sweep.closure import keep, read_code
from depth_loss_sweep.errors import CodeError, SweepError
from depth_loss_sweep.growth import fixed_hash, grown_hash
from depth_loss_sweep.spec_file import kept_overrides, load_placed, load_spec, parse_override, stored_spec
from depth_loss_sweep.spec_text import resolved_text
from depth_loss_sweep.usercode import Reference, allow, known, load, resolve, shown

from .test_own_code import FILES


def write(folder: Path, **files: str) -> Path:
    """Python files by name, "__" for a folder."""
    for name, text in files.items():
        path = folder / f"{name.replace('__', '/')}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text))
    return folder


def test_a_file_comes_with_what_it_imports_and_nothing_else(tmp_path: Path) -> None:
    """Absolute, relative, late and submodule imports of its own are followed; others only named."""
    write(
        tmp_path,
        nets="import torch, blocks.conv as c\nfrom helpers import one\ndef build():\n    from late import two\n",
        helpers="from blocks import attention\none = 1\n",
        late="import json\ntwo = 2\n",
        unused="",
        blocks__conv="from .norm import norm\n",
        blocks__norm="norm = 0\n",
        blocks__attention="",
        blocks__unused="",
    )
    (tmp_path / "blocks" / "__init__.py").write_text("import timm\n")
    code, entry = read_code(tmp_path / "nets.py")
    expected = {"nets.py", "helpers.py", "late.py", "blocks/__init__.py", "blocks/conv.py", "blocks/norm.py"}
    assert (entry, {*code.files}) == ("nets.py", expected | {"blocks/attention.py"})
    assert code.imported == {"torch", "json", "timm"}


def test_a_file_of_a_package_is_found_from_above_it(tmp_path: Path) -> None:
    """Where the file's folder is a package, its own name and relative imports work as they do when it is installed."""
    write(tmp_path, mine__nets="from mine.a import x\nfrom .b import y\ndef build(): return x + y\n", mine__a="x = 1")
    write(tmp_path, mine__b="from . import a\ny = a.x + 1")
    (tmp_path / "mine" / "__init__.py").write_text("")
    text = resolve("mine/nets.py:build", tmp_path)
    allow([text])
    assert load(text)() == 3 and shown(text) == "mine/nets.py:build"


def test_names_of_two_studies_do_not_meet(tmp_path: Path) -> None:
    """Two folders have a losses.py and a model.py each, which are neither each other's nor ours, nor on the path."""
    found = []
    for number in (1, 2):
        folder = write(tmp_path / str(number), nets="import model\nfrom losses import n\ndef f(): return n, model.n")
        write(folder, losses=f"n = {number}", model=f"n = {10 * number}\nimport depth_loss_sweep.model\n")
        text = resolve("nets.py:f", folder)
        allow([text])
        found.append(load(text)())
    assert found == [(1, 10), (2, 20)]
    assert not {"nets", "losses", "model"} & sys.modules.keys()


def test_the_copy_runs_whatever_becomes_of_the_files(tmp_path: Path) -> None:
    """What was read is what is imported, from memory or from the copy, and never a compiled file beside it."""
    write(tmp_path, nets="from a import x\ndef f(): return x", a="x = 1")
    text = resolve("nets.py:f", tmp_path)
    reference = Reference.parse(text)
    assert reference
    keep(known(reference.digest), tmp_path / "code")
    write(tmp_path, a="x = 2")
    allow([text], tmp_path / "code")
    assert load(text)() == 1
    assert resolve("nets.py:f", tmp_path) != text
    assert resolve("nets.py:f", write(tmp_path, a="x = 1")) == text


def test_only_what_is_allowed_is_imported(tmp_path: Path) -> None:
    """Not by a reference alone, with or without a digest, nor by the module's name; nor a name that a module only borrows."""
    text = resolve("a.py:f", write(tmp_path, a="raise SystemExit\ndef f(): pass"))
    reference = Reference.parse(text)
    assert reference
    for each in (text, "a.py:f", f"b.py:f@{'0' * 64}", "os:system", "json:loads"):
        with pytest.raises(CodeError, match="not imported"):
            load(each)
    with pytest.raises(ModuleNotFoundError):
        __import__(f"{usercode.PREFIX}{reference.digest}.a")
    with pytest.raises(CodeError, match="no installed package"):
        allow(["os:system"])
    allow(["pydantic:sys"])
    with pytest.raises(CodeError, match=r"has no 'sys'|no function or class"):
        load("pydantic:sys")


def test_options_at_their_defaults_go_unsaid(tmp_path: Path) -> None:
    """As the file says them, which isn't imported for that."""
    write(
        tmp_path,
        a="raise SystemExit\ndef f(x, a=1, *, b=(1, 2), c=None, d=len('x')): pass\nclass F:\n def __init__(self, a=3): 0",
    )
    function, kind = resolve("a.py:f", tmp_path), resolve("a.py:F", tmp_path)
    options = {"a": 1, "b": (1, 2), "c": 3, "d": 1}
    assert usercode.options_stated(function, options) == {"c": 3, "d": 1}
    assert usercode.options_stated(kind, {"a": 3, "z": 0}) == {"z": 0}
    assert usercode.options_stated(function, {"a": True}) == {"a": True}


@pytest.mark.parametrize(
    "text",
    [
        "def f(x, p=1.0): 0\ndef f(x, p=2.0): 0",
        "from functools import partial\ndef f(x, p=1.0): 0\nf = partial(f, p=2.0)",
        "from mine import changed\n@changed\ndef f(x, p=1.0): 0",
        "def f(x, p=1.0): 0\nif True:\n from mine import f",
    ],
)
def test_defaults_that_only_running_tells_are_none(tmp_path: Path, text: str) -> None:
    """A name that is given twice, or decorated: all options are stated then."""
    reference = resolve("a.py:f", write(tmp_path, a=text, mine="changed = f = print"))
    assert usercode.options_stated(reference, {"p": 1.0}) == {"p": 1.0}


def test_versions_are_those_of_imported_packages(tmp_path: Path) -> None:
    """By distribution; neither torch, which is known otherwise, nor Python's own, nor files."""
    text = resolve(
        "a.py:f", write(tmp_path, a="import torch, os, cv2, b\nfrom scipy import stats\ndef f(): pass", b="")
    )
    assert {*usercode.versions([text])} & {"scipy", "torch", "opencv-python", "opencv-python-headless"} >= {"scipy"}
    assert "torch" not in usercode.versions([text])


def test_what_can_be_edited_where_it_lies_counts_by_its_content(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A module and a package that are found by PYTHONPATH, which no distribution owns."""
    write(tmp_path / "path", loose_module="a = 1", loose_package__part="b = 1")
    (tmp_path / "path" / "loose_package" / "__init__.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path / "path")
    folder = write(tmp_path / "mine", a="import loose_module, loose_package, not_there\ndef f(): pass")
    text = resolve("a.py:f", folder)
    before = usercode.versions([text])
    assert {*before} == {"loose_module", "loose_package"} and before == usercode.versions([text])
    write(tmp_path / "path", loose_package__part="b = 2")
    after = usercode.versions([text])
    assert after["loose_module"] == before["loose_module"] and after["loose_package"] != before["loose_package"]


def test_networks_and_options_of_terms_are_swept(desk: Path) -> None:
    """A swept network gets its digest, too, and an option of a term is one more variable; an unknown term's is refused."""
    spec = FILES["spec.toml"].replace("options = { dropout = 0.2 }", "")
    swept = '[search]\nmodel.network = ["unet", "nets.py:build"]\nterms.berhu.options.share = [0.1, 0.3]'
    (desk / "spec.toml").write_text(spec.replace("[search]", swept))
    study = load_spec(str(desk / "spec.toml"))
    runs = [study.settings_at(cell)[1][0] for cell in study.cells]
    assert {shown(run.model.network) for run in runs} == {"unet", "nets.py:build"}
    assert all(len(run.code) == 2 + run.model.is_own for run in runs)
    assert {run.loss.own["berhu"].options["share"] for run in runs} == {0.1, 0.3}
    (desk / "spec.toml").write_text(spec.replace("[search]", swept.replace("terms.berhu", "terms.other")))
    with pytest.raises(SweepError, match=r"terms\.other\.options\.share names no field"):
        load_spec(str(desk / "spec.toml"))


def test_a_digest_asks_for_that_code_alone(desk: Path) -> None:
    """A spec that names code with its digest is refused where the file is another, or isn't there."""
    (desk / "spec.toml").write_text(FILES["spec.toml"])
    pinned = load_spec(str(desk / "spec.toml")).model.network
    overrides = {"model.network": pinned}
    assert load_spec(str(desk / "spec.toml"), overrides).model.network == pinned
    (desk / "layers.py").write_text("")
    with pytest.raises(CodeError, match="is other code than"):
        load_spec(str(desk / "spec.toml"), overrides)
    (desk / "nets.py").unlink()
    with pytest.raises(CodeError, match="there is no file"):
        load_spec(str(desk / "spec.toml"), overrides)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("net.py:build", "model.network: there is no file {desk}/specs/net.py (did you mean 'nets'?)"),
        ("layers.py:conv", "no file {desk}/specs/layers.py; expected a Python file, its path counted from {desk}/specs; the one at "
         "{desk}/layers.py is another"),
        ("../nowhere/x.py:f", "there is no file {desk}/nowhere/x.py; expected"),
        ("nets.py", "model.network is 'nets.py': expected nets.py:NAME"),
        ("nets.py:biuld", "nets.py has no 'biuld' (did you mean 'build'?); it has Net, build"),
        ("nets:build", "no installed package holds 'nets'; expected the module of one that is installed beside this one, or a file, as "
         "nets.py:build"),
        ("torhc.nn:Linear", "no installed package holds 'torhc' (did you mean 'torch'?)"),
    ],
)  # fmt: skip
def test_code_that_is_not_there_is_said_with_where_it_was_looked_for(desk: Path, given: str, words: str) -> None:
    """The key, the whole path, and what may have been meant; before pictures are prepared, and without running anything."""
    (desk / "specs").mkdir()
    (desk / "specs" / "nets.py").write_text(FILES["nets.py"])
    (desk / "specs" / "layers.txt").write_text("")
    (desk / "specs" / "s.toml").write_text(f'[model]\nnetwork = "{given}"\n[weights]\nl1 = 1\n')
    with pytest.raises(SweepError) as caught:
        load_spec("specs/s.toml")
    assert words.format(desk=desk) in str(caught.value) and str(caught.value).startswith("specs/s.toml: ")


def test_a_name_that_only_running_tells_is_let_pass(desk: Path) -> None:
    """One that another file's star, or globals(), may bring is found out by the dry run."""
    for number, text in enumerate(
        ("from layers import *\n", "globals()['build'] = print\n", "from layers import conv as build\n")
    ):
        (desk / f"any{number}.py").write_text(text)
        assert resolve(f"any{number}.py:build", desk).startswith(f"any{number}.py:build@")


def test_a_downloaded_spec_finds_the_same_code_in_its_folders(desk: Path) -> None:
    """What a page offers names code by folder and digest: beside the same files it is the same study, beside others refused."""
    (desk / "nets" / "deep").mkdir(parents=True)
    for name in ("nets.py", "layers.py", "losses.py"):
        (desk / "nets" / "deep" / name).write_text(f"{(desk / name).read_text()}# deep")
    (desk / "specs").mkdir()
    text = (
        FILES["spec.toml"].replace('"nets.py:build"', '"../nets/deep/nets.py:build"').replace('"losses', '"../losses')
    )
    swept = '[search]\n"model.network" = ["unet", "../nets/deep/nets.py:build", "../nets.py:build"]'
    text = text.replace("options = { dropout = 0.2 }", "").replace("[search]", swept)
    (desk / "specs" / "mine.toml").write_text(text.replace("pics.py", "../pics.py"))
    spec = load_spec(str(desk / "specs" / "mine.toml"))
    row = {"name": "mine", "spec_text": spec.text, "overrides": kept_overrides(spec, {})}
    (desk / "specs" / "again.toml").write_text(resolved_text(row, "sweep.db"))
    again = load_spec(str(desk / "specs" / "again.toml"))
    assert (fixed_hash(again), grown_hash(again)) == (fixed_hash(spec), grown_hash(spec)) and again.code == spec.code
    study = dls.Study(
        "mine",
        data={"source": "pics.py:Pictures", "options": {"count": 3}},
        terms={"berhu": "nets/deep/losses.py:berhu"},
        weights={"berhu": 1},
        search={"model.network": ["unet", "nets/deep/nets.py:build"]},
    )
    row = {"name": "mine", "spec_text": study.spec.text, "overrides": kept_overrides(study.spec, study.overrides)}
    (desk / "python.toml").write_text(resolved_text(row, "sweep.db"))
    assert fixed_hash(load_spec("python.toml")) == fixed_hash(study.spec)
    for given, folder in (("specs/mine.toml", desk / "specs"), ("table-2", desk)):  # --set, from the working folder
        overrides = dict(
            map(parse_override, ("terms.x.function=nets/deep/losses.py:berhu", "data.source=pics.py:Pictures"))
        )
        spec, placed = load_placed(given, {**overrides, "weights.x": 1})
        row = {"name": spec.name, "spec_text": spec.text, "overrides": kept_overrides(spec, placed)}
        assert fixed_hash(stored_spec(row, "sweep.db")) == fixed_hash(spec)
        (folder / "set.toml").write_text(resolved_text(row, "sweep.db"))
        assert fixed_hash(load_spec(str(folder / "set.toml"))) == fixed_hash(spec)
    (desk / "nets" / "deep" / "layers.py").write_text("")
    with pytest.raises(CodeError, match="is other code than"):
        load_spec(str(desk / "specs" / "again.toml"))


GOOD = {
    "network": "nets.py:build",
    "term": "losses.py:berhu",
    "metric": "losses.py:within",
    "source": "pics.py:Pictures",
}
BAD_NAMES = (
    *("", ":", "a", "nets.py", "nets.py:", ":build", "nets.py:build:x", "nets.py:1x", "nets.py:a.b", "nets.py:build()"),
    *("nets.py:build@", f"nets.py:build@{'0' * 63}", f"nets.py:build@{'0' * 64}", "none.py:build", "/etc/passwd:root"),
    *("../../etc/passwd.py:f", "/dev/zero.py:f", "\0.py:f", "nets.py\n:build", "é.py:f", "~nobody/x.py:f", "nets.pyc:build"),
    *("os:system", "os.path:join", "builtins:eval", "subprocess:run", "nowhere.at.all:f", "torch.nn:Linear@" + "0" * 64),
    *(".:f", "..x:f", "nets:build", "folder.py:f", "broken.py:f", "binary.py:f", "deep.py:f", "many.py:f", "x" * 5000 + ".py:f"),
)  # fmt: skip
OPTIONS = (
    "3",
    "[]",
    '"x"',
    "{ a = { b = 1 } }",
    "{ a = [[1]] }",
    "{ a = 2020-01-01 }",
    "{ 'é\\\\n' = 1 }",
    "{ a = nan }",
    "{ a = [] }",
)
NAMES = ("l1", "Berhu", "a-b", "é", "x" * 41, "1a", '""', "term_x", "_a", "a b", "silog")


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The files of a user, some of them broken, all of which would tell that they are imported."""
    monkeypatch.setenv("SWEEP_TRUST", str(tmp_path / "trusted"))
    monkeypatch.chdir(tmp_path)
    for name, text in FILES.items():
        (tmp_path / name).write_text("open('imported', 'w')\n" * name.endswith(".py") + text)
    (tmp_path / "folder.py").mkdir()
    write(
        tmp_path,
        broken="def f(:\n",
        deep="(" * 5000 + ")" * 5000,
        many="import " + ", ".join(f"m{n}" for n in range(600)),
    )
    write(tmp_path, **{f"m{number}": "" for number in range(600)})
    (tmp_path / "binary.py").write_bytes(bytes(range(256)))
    return tmp_path


def cases() -> list[tuple[str, str, str]]:
    """What stands in the spec, and what is put in its place; seeded."""
    found = [
        (kind, f'"{good}"', f"'{bad}'")
        for kind, good in GOOD.items()
        for bad in BAD_NAMES
        if "\n" not in bad and "\0" not in bad
    ]
    found += [
        ("options", line, f"options = {o}")
        for line in ("options = { dropout = 0.2 }", "options = { share = 0.3 }")
        for o in OPTIONS
    ]
    found += [("name", "[terms.berhu]", f"[terms.{name}]") for name in NAMES]
    found += [("name", "[metrics.within]", f"[metrics.{name}]") for name in NAMES]
    whole, chance = FILES["spec.toml"], random.Random(0)
    for _ in range(130):
        start = chance.randrange(whole.index("[data]"), len(whole) - 12)
        found.append(
            ("bytes", whole[start : start + 12], "".join(chance.choices("\"'[]{}=:.@\n\\ aé0", k=chance.randrange(12))))
        )
    return found


def test_malformed_references_options_and_names_are_one_line(desk: Path) -> None:
    """Every case is read, or refused in a line; nothing of the user's is imported, and none of it is trusted."""
    tried = cases()
    assert len(tried) >= 300
    for kind, before, after in tried:
        assert before in FILES["spec.toml"]
        (desk / "spec.toml").write_text(FILES["spec.toml"].replace(before, after, 1))
        try:
            spec = load_spec(str(desk / "spec.toml"))
        except SweepError as error:
            assert 0 < len(str(error)) < 2500, (kind, after)
        else:
            assert all(reference.digest or not reference.is_file for reference in spec.code), (kind, after)
    for number, bad in enumerate(("nets.py\n:build", "\0.py:f")):
        with pytest.raises(SweepError):
            load_spec(str(desk / "nets.toml") if number else "demo", {"model.network": bad})
    assert not (desk / "imported").exists() and not (desk / "trusted").exists()
    assert not [name for name in sys.modules if name.startswith(usercode.PREFIX) and "imported" in name]
