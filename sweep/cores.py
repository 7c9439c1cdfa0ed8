"""How many cores this process may use: its CPU affinity, and the CPU quota of the container it is in."""

import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from depth_loss_sweep.words import counted

GROUPS = Path("/sys/fs/cgroup")
MEMBERSHIP = Path("/proc/self/cgroup")
# By controller, where its tree is mounted: cgroup v2 (alone, or beside v1), and v1.
TREES = {"": (".", "unified"), "cpu": ("cpu", "cpu,cpuacct")}


@dataclass(frozen=True)
class Cores:
    """How many there are to use, and which quota made them fewer."""

    count: int
    quota: str = ""

    def workers(self, count: int | None = None) -> str:
        """So many workers, by default one a core, in words."""
        words = counted(count or self.count, "worker")
        return f"{words} ({self.quota})" if self.quota and count in (None, self.count) else words


def usable_cores(groups: Path = GROUPS, membership: Path = MEMBERSHIP) -> Cores:
    """The cores that this process may run on, or as many as its quota is worth, rounded down; at least one."""
    here = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
    quotas = [(quota, folder) for folder in _folders(groups, membership) if (quota := _quota(folder)) is not None]
    least, folder = min(quotas, default=(float(here), groups))
    if least >= here:
        return Cores(here)
    return Cores(max(1, int(least)), f"{folder} allows {least:g} of {here} cores")


def _folders(groups: Path, membership: Path) -> Iterator[Path]:
    """This process's groups and all above them, to the root of the mount: in a container only that may be its own."""
    try:
        lines = membership.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError:
        lines = []
    within = {name: path for line in lines for _, names, path in [line.split(":", 2)] for name in names.split(",")}
    for controller, mounts in TREES.items():
        for mount in (groups / name for name in mounts):
            folder = mount / within.get(controller, "/").lstrip("/")
            yield from (each for each in (folder, *folder.parents) if each.is_relative_to(mount))


def _quota(folder: Path) -> float | None:
    """The quota of one group, in cores; None where it has none."""
    try:
        if (folder / "cpu.max").exists():
            quota, period = (folder / "cpu.max").read_text(encoding="ascii").split()
        else:
            quota, period = (
                (folder / f"cpu.cfs_{what}_us").read_text(encoding="ascii") for what in ("quota", "period")
            )
        cores = float(quota) / float(period)
    except (OSError, ValueError, ZeroDivisionError):  # "max", or a file that is not there
        return None
    return cores if cores > 0 else None
