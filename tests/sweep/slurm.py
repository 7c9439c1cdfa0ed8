"""A cluster of Slurm on this machine: some nodes, a controller, no systemd, no accounting; root is needed."""

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from tests.sweep.postgresql import free_port

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "squeue", "scancel", "scontrol", "sinfo")
CONF = """
ClusterName=sweeptest
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={port}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge/socket,cred_expire=5
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
JobCompType=jobcomp/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SchedulerParameters=sched_interval=2,sched_min_interval=0,bf_interval=2,batch_sched_delay=0
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
KillWait=60
ReturnToService=2
SlurmdTimeout=10
MpiDefault=none
MailProg=/bin/true
SlurmdParameters=config_overrides
"""


def need_slurm() -> None:
    """Install Slurm where root may, and skip the test elsewhere, saying so."""
    if os.geteuid() != 0:
        pytest.skip("a cluster of Slurm of one's own needs root")
    if all(map(shutil.which, PROGRAMS)):
        return
    if shutil.which("apt-get") is None:
        pytest.skip("Slurm is not installed, and there is no apt-get to install it")
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for words in (["update"], ["install", "-y", "--no-install-recommends", "slurm-wlm", "munge"]):
        subprocess.run(["apt-get", "-qq", *words], check=True, env=environment, stdout=subprocess.DEVNULL)


class Cluster:
    """Nodes n1, n2, … of one core each, in the partitions low and, which preempts it, high."""

    def __init__(self, folder: Path, nodes: int) -> None:
        self.folder, self.conf = folder, folder / "slurm.conf"
        self.environment = {"SLURM_CONF": str(self.conf)}
        host, self.names = socket.gethostname().partition(".")[0], [f"n{number}" for number in range(1, nodes + 1)]
        lines = [CONF.format(host=host, port=free_port(), folder=folder)]
        for name in self.names:
            lines.append(
                f"NodeName={name} NodeHostname={host} NodeAddr=127.0.0.1 Port={free_port()} CPUs=1 RealMemory=2000"
            )
        everywhere = f"Nodes=n[1-{nodes}] MaxTime=INFINITE State=UP"
        lines.append(f"PartitionName=low {everywhere} Default=YES PriorityTier=1 PreemptMode=REQUEUE GraceTime=3")
        lines.append(f"PartitionName=high {everywhere} PriorityTier=10 PreemptMode=OFF")
        for part in ("munge", "state", *(f"spool-{name}" for name in self.names)):
            (folder / part).mkdir(parents=True)
        self.conf.write_text("\n".join(lines) + "\n")
        (folder / "cgroup.conf").write_text("CgroupAutomount=no\n")
        key = folder / "munge" / "key"
        key.touch(0o600)
        key.write_bytes(os.urandom(1024))
        parts = {"key-file": "key", "socket": "socket", "pid-file": "pid", "seed-file": "seed", "log-file": "log"}
        self.call("munged", "--force", *(f"--{option}={folder / 'munge' / file}" for option, file in parts.items()))
        self.start_controller()
        for name in self.names:
            self.start(name)
        self.wait(lambda: self.call("sinfo", "-hN", "-plow", "-tidle", "-o%N").split() == self.names)

    def call(self, *command: str) -> str:
        """Run a command of Slurm's; what it prints."""
        done = subprocess.run(
            command, env={**os.environ, **self.environment}, capture_output=True, text=True, check=True, timeout=60
        )
        return done.stdout

    def wait(self, condition: Callable[[], bool]) -> None:
        """Wait until something holds; pytest's own limit ends what hangs."""
        while not condition():
            time.sleep(0.2)

    def start_controller(self) -> None:
        """Start the controller."""
        self.call("slurmctld", "-f", str(self.conf))

    def kill_controller(self) -> None:
        """SIGKILL the controller: nodes and jobs go on, and whoever asks gets no answer."""
        process = self._process("slurmctld.pid")
        os.kill(process, signal.SIGKILL)
        self.wait(lambda: not Path(f"/proc/{process}").exists())

    def start(self, name: str) -> None:
        """Start a node."""
        self.call("slurmd", "-f", str(self.conf), "-N", name)

    def kill(self, name: str) -> None:
        """SIGKILL a node and all that runs on it, as when its power fails: nobody is left to tell the controller."""
        jobs = self.call("squeue", "--noheader", f"--nodelist={name}", "--format=%i").split()
        os.kill(self._process(f"slurmd-{name}.pid"), signal.SIGKILL)
        for mark in (*(f"slurmstepd: [{job}." for job in jobs), f"SLURMD_NODENAME={name}\0"):
            for place in Path("/proc").glob("[0-9]*"):
                with suppress(OSError):
                    if mark.encode() in (place / "cmdline").read_bytes() + (place / "environ").read_bytes():
                        os.kill(int(place.name), signal.SIGKILL)

    def jobs(self, *states: str) -> dict[str, str]:
        """The jobs that are not over, or in these states: number -> comment."""
        chosen = [f"--states={','.join(states)}"] if states else []
        lines = self.call("squeue", "--noheader", *chosen, "--format=%i %k").splitlines()
        return dict(line.split(" ", 1) for line in lines)

    def node_of(self, job: str) -> str:
        """Where a job is at work."""
        return self.call("squeue", "--noheader", f"--jobs={job}", "--format=%N").strip()

    def close(self) -> None:
        """End all jobs, all nodes and the controller, by the ids in their files."""
        with suppress(subprocess.SubprocessError):
            self.call("scancel", "--me")
        ids: list[int] = []
        for file in (*(f"slurmd-{name}.pid" for name in self.names), "slurmctld.pid", "munge/pid"):
            with suppress(OSError, ValueError):  # it is gone
                ids.append(self._process(file))
        for number in (signal.SIGTERM, signal.SIGKILL):  # a node that waits for its controller takes no other
            for process in ids:
                with suppress(ProcessLookupError):
                    os.kill(process, number)
            time.sleep(1)

    def _process(self, file: str) -> int:
        return int((self.folder / file).read_text())
