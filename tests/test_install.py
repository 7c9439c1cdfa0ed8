"""The install that README shows for who has no make: a wheel in an environment of its own."""

import os
import re
import shutil
import site
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PARTS = ("data", "model", "reports", "sweep")
SMALL = (
    *("--set", "data.rooms=12", "--set", "data.image_size=16", "--set", "model.width=2"),
    *("--set", "train.epochs=1", "--set", "search.w=[0.3]", "--seeds", "1", "--workers", "0"),
)


def readme_lines() -> list[str]:
    """README's commands for an install without make."""
    blocks = re.findall(r"```\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    return next(block for block in blocks if "pip wheel" in block).splitlines()


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files of the repository that an install takes, elsewhere."""
    folder = tmp_path_factory.mktemp("checkout")
    for name in PARTS:
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder / name)
    return folder


def _check_wheel(checkout: Path) -> None:
    """The wheel holds every file of the folders, below one name."""
    [wheel] = checkout.rglob("depth_loss_sweep-*.whl")
    inside = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    below = {name: "depth_loss_sweep" if name == "sweep" else f"depth_loss_sweep/{name}" for name in PARTS}
    expected = {
        f"{below[name]}/{path.relative_to(checkout / name)}"
        for name in PARTS
        for path in (checkout / name).rglob("*")
        if path.is_file()
    }
    assert inside == expected


@pytest.mark.slow
def test_the_wheel_works_as_readme_says(checkout: Path) -> None:
    """README's lines, one by one, end with a finished study; nothing of the checkout is needed any more.

    Dependencies are those of this environment, so that nothing is fetched.
    """
    packages = [path for path in (*site.getsitepackages(), *sys.path) if path.endswith("site-packages")]
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "SWEEP_", "PIP_"))}
    environment |= {
        "PIP_NO_BUILD_ISOLATION": "false",
        "PIP_NO_DEPS": "1",
        "PIP_NO_INDEX": "1",
        "SWEEP_HOME": str(checkout / "home"),
    }
    *lines, start = readme_lines()
    for line in lines:
        command = line.replace("python3", sys.executable, 1)
        done = subprocess.run(["bash", "-c", command], cwd=checkout, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, f"{line}: {done.stderr}"
        if "pip wheel" in line:
            _check_wheel(checkout)
        if "-m venv" in line:
            target = next((checkout / "sweep-env").glob("lib/python*/site-packages"))
            (target / "dependencies.pth").write_text("\n".join(packages))
    for name in PARTS:
        shutil.rmtree(checkout / name)
    done = subprocess.run(
        [*start.split(), *SMALL], cwd=checkout, env=environment, capture_output=True, text=True, errors="replace"
    )
    assert done.returncode == 0, done.stderr
    report = subprocess.run(
        [start.split()[0], "report", "demo"], cwd=checkout, env=environment, capture_output=True, text=True
    )
    assert Path(report.stdout.strip()).is_file(), report.stderr
