"""A cluster of Ray on this machine: each node is a program of its own, whose processes know by a variable whose they are."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from tests.sweep.postgresql import free_port

STARTED = "Ray runtime started"
HEAD = """
import sys, time, ray._private.utils
from ray._private.node import Node
from ray.cluster_utils import Cluster
Node.start_api_server = ray._private.utils.write_ray_address = lambda *_, **__: None
name, port, folder, cpus = sys.argv[1:]
about = {"gcs_server_port": int(port), "temp_dir": folder, "node_name": name, "num_cpus": int(cpus), "no_monitor": True}
Cluster(True, head_node_args={**about, "object_store_memory": 80000000, "include_log_monitor": False})
print("Ray runtime started", flush=True)
while True:
    time.sleep(60)
"""
"""`ray start --head` without servers for dashboards and remote clients, and without a word to whoever looks for a cluster here."""
MARK = "SWEEP_TEST_NODE"
WORKER = b"ray::Worker"
"""How Ray calls a process that is an actor of ours."""


class Cluster:
    """Nodes by name, with so many cores each; the first is the head."""

    def __init__(self, folder: Path, head: str, cpus: int = 1) -> None:
        """`folder` has a short path: it holds sockets."""
        self.folder, port = folder, free_port()
        self.address, self.nodes = f"127.0.0.1:{port}", dict[str, subprocess.Popen[bytes]]()
        self._start(head, sys.executable, "-c", HEAD, head, str(port), str(folder), str(cpus))

    def start(self, name: str, cpus: int = 1, before: Sequence[str] = (), **environment: str) -> None:
        """Start a node; `before` is a command that is given Ray's."""
        ray = [str(Path(sys.executable).with_name("ray")), "start", "--block", f"--address={self.address}"]
        about = [f"--node-name={name}", f"--num-cpus={cpus}", "--object-store-memory=80000000"]
        self._start(name, *before, *ray, *about, "--include-log-monitor=false", **environment)

    def _start(self, name: str, *command: str, **environment: str) -> None:
        marked = {**os.environ, **environment, MARK: self._mark(name), "PYTHONUNBUFFERED": "1"}
        while name not in self.nodes:
            with (self.folder / f"{name}.log").open("wb") as log:
                process = subprocess.Popen(command, env=marked, stdout=log, stderr=log, start_new_session=True, cwd="/")
            while STARTED not in self.log(name) and process.poll() is None:
                time.sleep(0.2)
            if process.poll() is None:
                self.nodes[name] = process
            elif "timed out during startup" not in self.log(name):  # after 30 s, which on a busy machine may not do
                raise AssertionError(self.log(name))

    def _mark(self, name: str) -> str:
        return f"{self.address}/{name}"

    def log(self, name: str) -> str:
        """What `ray start` has said."""
        return (self.folder / f"{name}.log").read_text()

    def wait(self, condition: Callable[[], bool]) -> None:
        """Wait until something holds; pytest's own limit ends what hangs."""
        while not condition():
            time.sleep(0.2)

    def processes(self, name: str) -> list[int]:
        """All that runs on a node."""
        mark, found = f"{MARK}={self._mark(name)}\0".encode(), []
        for place in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                if mark in (place / "environ").read_bytes():
                    found.append(int(place.name))
        return found

    def workers(self, *names: str) -> list[int]:
        """The processes on these nodes, or on all, that are actors of ours."""
        found = []
        for process in (process for name in names or self.nodes for process in self.processes(name)):
            with suppress(OSError):
                if Path(f"/proc/{process}/cmdline").read_bytes().startswith(WORKER):
                    found.append(process)
        return found

    def kill(self, name: str) -> None:
        """SIGKILL a node and all that runs on it, as when its power fails."""
        while processes := self.processes(name):
            for process in processes:
                with suppress(ProcessLookupError):
                    os.kill(process, signal.SIGKILL)
            self.nodes[name].wait()
        del self.nodes[name]

    def close(self) -> None:
        """End all nodes, the head last."""
        for name in reversed(list(self.nodes)):
            self.kill(name)
