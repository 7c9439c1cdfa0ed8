"""The house itself: imports run one way, light commands stay light, all is imported below one name of ours."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
OURS = "depth_loss_sweep"
FOLDERS = {"data": f"{OURS}.data", "model": f"{OURS}.model", "reports": f"{OURS}.reports", "sweep": OURS}
EVERYBODYS = {
    f"{OURS}.{name}" for name in ("errors", "files", "registry", "words", "closure", "usercode")
}  # they import nothing else of ours
MAY_IMPORT = {"data": set(), "model": {"data"}, "reports": set(), "sweep": {"data", "model", "reports"}}


def modules(folder: str) -> dict[str, Path]:
    """Every module of a folder by the name under which it is imported."""
    found = {}
    for path in (ROOT / folder).rglob("*.py"):
        parts = path.relative_to(ROOT / folder).with_suffix("").parts
        found[".".join([FOLDERS[folder], *(parts[:-1] if parts[-1] == "__init__" else parts)])] = path
    return found


HOUSE = {name: path for folder in FOLDERS for name, path in modules(folder).items()}


def imports(path: Path) -> set[str]:
    """The dotted names a module imports, deferred imports included, those for type checking alone not."""
    found: set[str] = set()

    def visit(node: ast.AST) -> None:
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            return
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.update({node.module, *(f"{node.module}.{alias.name}" for alias in node.names)})
        for child in ast.iter_child_nodes(node):
            visit(child)

    visit(ast.parse(path.read_text(encoding="utf-8")))
    return found & HOUSE.keys() | {name for name in found if name.partition(".")[0] != OURS}


@pytest.mark.parametrize("folder", FOLDERS)
def test_folders_import_only_what_they_may(folder: str) -> None:
    """data and reports import nothing of ours, model imports data, sweep imports all; six modules are everybody's."""
    owner = {name: of for of in FOLDERS for name in modules(of)}
    for name, path in modules(folder).items():
        targets = imports(path) & HOUSE.keys() - {*FOLDERS.values(), *EVERYBODYS}
        ours = {owner[target] for target in targets}
        assert ours <= MAY_IMPORT[folder] | {folder}, f"{name} imports {ours}"
    assert all(imports(HOUSE[name]) & HOUSE.keys() <= {OURS} | EVERYBODYS for name in EVERYBODYS)


def test_there_are_no_import_cycles() -> None:
    """Inside the folders, too, imports run one way, those inside functions included."""
    packages = set(FOLDERS.values())
    graph = {name: imports(path) & HOUSE.keys() - packages - {name} for name, path in HOUSE.items()}
    done: set[str] = set()

    def visit(name: str, above: tuple[str, ...]) -> None:
        assert name not in above, f"a cycle: {' -> '.join([*above, name])}"
        if name not in done:
            for target in graph[name]:
                visit(target, (*above, name))
            done.add(name)

    for name in graph:
        visit(name, ())


def test_reports_never_import_torch() -> None:
    """A report can be made where torch is not installed."""
    for path in (ROOT / "reports").rglob("*.py"):
        assert not any(name.split(".")[0] == "torch" for name in imports(path)), path


def test_errors_are_one_tree() -> None:
    """Whoever catches SweepError catches all that a user can mend, and the tree on top of its module names each."""
    tree = HOUSE[f"{OURS}.errors"].read_text(encoding="utf-8")
    nodes = [node for path in HOUSE.values() for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))]
    errors = {n.name: n for n in nodes if isinstance(n, ast.ClassDef) and re.fullmatch("[A-Z].*Error", n.name)}
    for name, node in errors.items():
        assert name == "SweepError" or {ast.unparse(base) for base in node.bases} & errors.keys(), name
        assert re.search(rf"\b{name} ", tree.partition('"""')[2].partition('"""')[0] + " ") or name == "SweepError", (
            name
        )


def python(code: str, **kwargs) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, **kwargs)


@pytest.mark.parametrize("arguments", [["--help"], ["start", "--help"], ["presets"], ["spec"], ["list"], ["status"]])
def test_light_commands_do_not_import_torch(arguments: list[str], tmp_path: Path) -> None:
    """Help, presets, spec, list and status answer at once."""
    code = f"import sys; from depth_loss_sweep.cli import run; code = run({[*arguments]!r}); sys.exit(3 if 'torch' in sys.modules else 0)"
    found = python(code, env={"SWEEP_HOME": str(tmp_path), "PATH": "/usr/bin"})
    assert found.returncode == 0, found.stderr


def test_a_coordinator_does_not_import_torch(tmp_path: Path) -> None:
    """Only workers train: a study on known pictures is opened, and goes on, while the first of them imports torch."""
    study = '["start", "demo", "--workers", "1", "--set", "train.epochs=1", "--set", "data.image_size=16", "--set", "search.w=[0.3]"]'
    code = f"import sys; from depth_loss_sweep.cli import run; code = run([*{study}, *sys.argv[1:]]); print(code, 'torch' in sys.modules)"
    environment = {"SWEEP_HOME": str(tmp_path), "PATH": "/usr/bin"}
    for name, known in (("first", False), ("second", True)):
        command = [sys.executable, "-c", code, "--name", name, "--seeds", "1" if known else "2"]
        done = subprocess.run(command, capture_output=True, text=True, env=environment)
        assert done.stdout.splitlines()[-1] == f"0 {not known}", done.stderr


def test_no_common_name_is_taken(tmp_path: Path) -> None:
    """A script beside data/, model.py and reports.py of its own imports those, and ours below our name."""
    (tmp_path / "data").mkdir()
    for name in ("data/__init__.py", "model.py", "reports.py", "sweep.py"):
        (tmp_path / name).write_text("OWNER = 'me'\n")
    (tmp_path / "script.py").write_text(
        "import data, model, reports, sweep\n"
        "import depth_loss_sweep.data.rooms.source, depth_loss_sweep.reports.page, depth_loss_sweep.study\n"
        "from depth_loss_sweep import CombinedLoss, Objective, depth_metrics\n"
        "assert {m.OWNER for m in (data, model, reports, sweep)} == {'me'}\n"
    )
    found = subprocess.run([sys.executable, "script.py"], cwd=tmp_path, capture_output=True, text=True)
    assert found.returncode == 0, found.stderr


def test_all_of_ours_is_imported_below_one_name() -> None:
    """Nothing is called sweep, data, model or reports, and ours alone brings no torch."""
    light = python("import depth_loss_sweep, sys; print(*sys.modules)").stdout.split()
    assert OURS in light and not {"torch", "optuna", "numpy"} & set(light)
    code = f"import importlib, sys; [importlib.import_module(n) for n in {[*HOUSE]!r} if not n.endswith('__main__')]"
    found = python(code + "; print(*sys.modules)")
    assert found.returncode == 0, found.stderr
    assert not set(FOLDERS) & set(found.stdout.split())


def test_every_module_says_what_it_is_for() -> None:
    """Each module opens with a docstring, and CONTRIBUTING names each."""
    tree = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    for name, path in HOUSE.items():
        assert ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))), name
        assert path.name == "__init__.py" or re.search(rf"\b{re.escape(path.name)}\b", tree), (
            f"CONTRIBUTING lacks {name}"
        )
