"""How many workers there are by default: as many as the process may really use."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from depth_loss_sweep.cores import Cores, usable_cores

ALL = usable_cores(Path("/nowhere"), Path("/nowhere")).count


@pytest.fixture
def groups(tmp_path: Path) -> Path:
    """An empty tree of control groups, and this process's place in it."""
    (tmp_path / "membership").write_text("4:cpu,cpuacct:/docker/a\n1:name=systemd:/x\n0::/pod/a\n")
    (tmp_path / "groups").mkdir()
    return tmp_path / "groups"


def limit(groups: Path, folder: str, quota: str, period: str = "100000", v1: bool = False) -> None:
    """A quota on one group."""
    (groups / folder).mkdir(parents=True, exist_ok=True)
    if v1:
        (groups / folder / "cpu.cfs_quota_us").write_text(f"{quota}\n")
        (groups / folder / "cpu.cfs_period_us").write_text(f"{period}\n")
    else:
        (groups / folder / "cpu.max").write_text(f"{quota} {period}\n")


def found(groups: Path) -> Cores:
    """What counts in that tree."""
    return usable_cores(groups, groups.parent / "membership")


def test_without_a_quota_every_core_counts(groups: Path) -> None:
    """Neither a missing file, nor "max", nor -1 makes them fewer."""
    assert found(groups) == Cores(ALL)
    limit(groups, ".", "max")
    limit(groups, "pod/a", "max")
    limit(groups, "cpu/docker/a", "-1", v1=True)
    assert found(groups) == Cores(ALL)


@pytest.mark.parametrize("folder", [".", "pod", "pod/a", "unified", "unified/pod/a"])
def test_a_quota_of_any_group_above_counts(groups: Path, folder: str) -> None:
    """Its own, one above, or the root of what a container sees."""
    limit(groups, folder, "50000")
    assert found(groups).count == 1 and str(groups) in found(groups).quota


@pytest.mark.parametrize("folder", ["cpu", "cpu/docker/a", "cpu,cpuacct/docker"])
def test_a_quota_of_the_first_version_counts(groups: Path, folder: str) -> None:
    """As containers of older systems have it."""
    limit(groups, folder, "50000", v1=True)
    assert found(groups).count == 1


def test_the_least_quota_counts_rounded_down(groups: Path, monkeypatch) -> None:
    """With 2.9 cores of 8, two workers keep busy."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    monkeypatch.setattr(sys, "platform", "linux")
    limit(groups, ".", "600000")
    limit(groups, "pod", "290000")
    assert found(groups) == Cores(2, f"{groups / 'pod'} allows 2.9 of 8 cores")
    assert found(groups).workers() == f"2 workers ({groups / 'pod'} allows 2.9 of 8 cores)"
    assert found(groups).workers(1) == "1 worker"


def test_a_group_of_somebody_else_does_not_count(groups: Path) -> None:
    """Only where this process is."""
    limit(groups, "pod/b", "50000")
    assert found(groups) == Cores(ALL)


@pytest.mark.skipif(ALL < 2, reason="one core cannot be made fewer")
def test_doctor_says_how_many_workers_there_would_be(lab) -> None:
    """In a container with one of the machine's cores: one worker, and why."""
    inside = (
        "mount -t tmpfs none /sys/fs/cgroup && echo '100000 100000' >/sys/fs/cgroup/cpu.max && "
        f"exec {sys.executable} -m depth_loss_sweep doctor --home {lab.home.root}"
    )
    done = subprocess.run(["unshare", "-m", "sh", "-c", inside], capture_output=True, text=True)
    if "versions" not in done.stdout:
        pytest.skip(f"cannot mount here: {done.stderr.strip()}")
    assert f"1 worker (/sys/fs/cgroup allows 1 of {ALL} cores)" in done.stdout
