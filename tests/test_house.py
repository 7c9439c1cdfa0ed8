"""The house itself: imports run one way, light commands stay light, a stranger's `model.py` is named."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("data", "model", "reports", "sweep")
MAY_IMPORT = {"data": set(), "model": {"data"}, "reports": set(), "sweep": {"data", "model", "reports"}}


def modules() -> dict[str, Path]:
    """Every module of ours by its dotted name."""
    found = {}
    for package in PACKAGES:
        for path in (ROOT / package).rglob("*.py"):
            parts = path.relative_to(ROOT).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imports(path: Path, top_level_only: bool = False) -> set[str]:
    """The dotted names a module imports."""
    found = set()
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in tree.body if top_level_only else ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def test_packages_import_only_what_they_may() -> None:
    """data and reports import nothing of ours, model imports data, sweep imports all."""
    for name, path in modules().items():
        package = name.partition(".")[0]
        ours = {target.partition(".")[0] for target in imports(path)} & set(PACKAGES)
        assert ours <= MAY_IMPORT[package] | {package}, f"{name} imports {ours}"


def test_there_are_no_import_cycles() -> None:
    """Inside the packages, too, imports run one way."""
    known = modules()
    graph = {
        name: {t for t in imports(path, top_level_only=True) if t in known and t != name}
        for name, path in known.items()
    }
    graph = {name: {t for t in targets if t not in PACKAGES} for name, targets in graph.items()}
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


def python(code: str, **kwargs) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, **kwargs)


@pytest.mark.parametrize("arguments", [["--help"], ["start", "--help"], ["presets"], ["spec"], ["list"], ["status"]])
def test_light_commands_do_not_import_torch(arguments: list[str], tmp_path: Path) -> None:
    """Help, presets, spec, list and status answer at once."""
    code = f"import sys; from sweep.cli import run; code = run({[*arguments]!r}); sys.exit(3 if 'torch' in sys.modules else 0)"
    found = python(code, cwd=ROOT, env={"SWEEP_HOME": str(tmp_path), "PATH": "/usr/bin", "PYTHONPATH": str(ROOT)})
    assert found.returncode == 0, found.stderr


def test_a_coordinator_does_not_import_torch(tmp_path: Path) -> None:
    """Only workers train: a study on known pictures is opened, and goes on, while the first of them imports torch."""
    study = '["start", "demo", "--workers", "1", "--set", "train.epochs=1", "--set", "data.image_size=16", "--set", "search.w=[0.3]"]'
    code = f"import sys; from sweep.cli import run; code = run([*{study}, *sys.argv[1:]]); print(code, 'torch' in sys.modules)"
    environment = {"SWEEP_HOME": str(tmp_path), "PATH": "/usr/bin", "PYTHONPATH": str(ROOT)}
    for name, known in (("first", False), ("second", True)):
        command = [sys.executable, "-c", code, "--name", name, "--seeds", "1" if known else "2"]
        done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=environment)
        assert done.stdout.splitlines()[-1] == f"0 {not known}", done.stderr


def test_a_stranger_of_the_same_name_is_named(tmp_path: Path) -> None:
    """A model.py in the working folder that hides ours is reported with its path, not as a puzzling ImportError."""
    (tmp_path / "model.py").write_text("")
    code = f"import sys; sys.path[:0] = [{str(tmp_path)!r}, {str(ROOT)!r}]; import sweep"
    found = python(code, cwd=tmp_path)
    assert found.returncode != 0
    assert str(tmp_path / "model.py") in found.stderr.splitlines()[-1]


def test_every_module_says_what_it_is_for() -> None:
    """Each module opens with a docstring, and CONTRIBUTING names each."""
    tree = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    for name, path in modules().items():
        assert ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))), name
        assert path.name == "__init__.py" or re.search(rf"\b{re.escape(path.name)}\b", tree), (
            f"CONTRIBUTING lacks {name}"
        )
