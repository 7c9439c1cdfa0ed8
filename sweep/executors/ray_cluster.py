"""A cluster of Ray as it is seen from a session: how it is found, which nodes it has, and which of them can be used.

A node is used once a task on it has read a token that we wrote to the home folder, and left a word there that we read. So it needs no
more than Ray, our version of sweep, and that folder on a disk that it shares with us.
"""

import math
import os
import secrets
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import chdir, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

from depth_loss_sweep.errors import SweepError, hide_password
from depth_loss_sweep.executors import this_version
from depth_loss_sweep.executors.ray_worker import answer, look
from depth_loss_sweep.words import counted

CONNECT_S = 10.0
NODES_EVERY_S = 2.0
SILENT_S = 60.0
"""How long a node may take to answer before the study begins without it."""
QUIET = {"RAY_DEDUP_LOGS_SKIP_REGEX": ".", "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0"}
"""What Ray reads when it is imported: what raylets say isn't printed among results, and no folder is packed up and sent to nodes."""
BYTES = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}

Need = Mapping[str, float]
"""What a worker takes up, as Ray counts it: CPU, GPU, memory, and whatever else nodes may have."""


def memory_bytes(text: str) -> float:
    """A size such as 8G."""
    number = text.rstrip("KMGT")
    return float(number) * BYTES[text[len(number) :]]


def import_ray() -> ModuleType:
    """Ray, or what to do where it isn't installed."""
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    try:
        import ray
    except ImportError:
        raise SweepError("--executor ray needs Ray: pip install 'depth-loss-sweep[ray]'") from None
    return ray


def connect(address: str | None) -> tuple[ModuleType, str, bool]:
    """Ray, connected to a cluster that is there, where that is, and whether it is for us to part from it."""
    ray = import_ray()
    if any(hide_password(word) != word for word in sys.argv):
        raise SweepError(
            "--executor ray: Ray lists the commands of its jobs, and with this one the password in it: give the URL in SWEEP_STORAGE, "
            "or leave the password out and keep it in ~/.pgpass, or the file that PGPASSFILE names"
        )
    where = address or os.environ.get("RAY_ADDRESS") or "auto"
    if ray.is_initialized():
        return ray, ray.get_runtime_context().gcs_address, False
    how = (
        "start one with: ray start --head (and on each further machine: ray start --address=HOST:6379); then name it with "
        "--option address=HOST:6379"
    )
    if "://" in where:
        raise SweepError(
            f"--option address={where}: expected HOST:PORT; the coordinator runs on a machine of the cluster"
        )
    host, colon, port = where.rpartition(":")
    if where != "auto" and not (colon and port.isdigit()):
        raise SweepError(f"--option address={where}: expected HOST:PORT, such as 10.0.0.1:6379, or auto")
    try:
        if where != "auto":  # by itself Ray tries for minutes, and says so
            socket.create_connection((host.strip("[]"), int(port)), CONNECT_S).close()
        with _as_it_was(), chdir("/"):  # for Ray would put our working folder on the path of all workers
            ray.init(address=where, log_to_driver=False, logging_level="error")
    except (OSError, ConnectionError) as error:
        said = "" if where == "auto" else f" at {where} ({getattr(error, 'strerror', None) or error})"
        raise SweepError(f"no cluster of Ray answers{said}: {how}") from None
    except (RuntimeError, ValueError) as error:
        line = " ".join(str(error).split())
        raise SweepError(
            f"Ray's cluster {where} can't be joined ({line}): the coordinator runs on one of its machines, with the same Ray and Python; "
            f"ray start --address=HOST:PORT --num-cpus=0 makes this one of them, on which nothing is trained"
        ) from None
    return ray, ray.get_runtime_context().gcs_address, True


@contextmanager
def _as_it_was() -> Iterator[None]:
    """Keep the handlers of signals: Ray takes SIGTERM for itself."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@dataclass
class Node:
    """A machine of the cluster."""

    id: str
    name: str
    resources: Need
    token: Path
    """What it is asked to read."""
    question: Any = None
    """The task that looks at it, until it has answered."""
    fault: str | None = None
    """Why it can't be used; empty where it can, None where that isn't known."""
    since: float = field(default_factory=time.monotonic)

    @property
    def is_silent(self) -> bool:
        """Whether it has not answered for long."""
        return self.question is not None and time.monotonic() > self.since + SILENT_S

    @property
    def is_fit(self) -> bool:
        """Whether it can be used."""
        return self.fault == ""

    def slots(self, need: Need) -> int:
        """How many workers it has room for."""
        counts = (math.floor(self.resources.get(name, 0.0) / much + 1e-9) for name, much in need.items() if much)
        return min(counts, default=0)


class Cluster:
    """The nodes that are there now, each looked at once."""

    def __init__(self, ray: ModuleType, folder: Path) -> None:
        """`folder` is where in the home folder tokens lie."""
        self.ray, self.folder = ray, folder
        self.nodes: dict[str, Node] = {}
        self.faults: dict[str, list[str]] = {}
        """What was found wrong and not told yet, each with the nodes of which it is true."""
        self._next = 0.0

    def refresh(self, now: bool = False) -> None:
        """Ask Ray which nodes there are, every now and then; look at those that are new."""
        if not now and time.monotonic() < self._next:
            return
        alive = {each["NodeID"]: each for each in self.ray.nodes() if each["Alive"]}
        for gone in self.nodes.keys() - alive.keys():
            self._forget(self.nodes.pop(gone).token)
        for node, about in alive.items():
            if node not in self.nodes:
                token = self.folder / secrets.token_hex(8)
                self.nodes[node] = Node(node, self._name(about), dict(about["Resources"]), token)
                self._look_at(self.nodes[node])
        for node in self.asked:
            if node.is_silent and node.fault is None:
                node.fault = f"it has not answered for {SILENT_S:.0f} s"
                self.faults.setdefault(node.fault, []).append(node.name)
        self._next = time.monotonic() + NODES_EVERY_S

    def _name(self, about: Mapping[str, Any]) -> str:
        """What a node is called; by its id, too, where another is called so."""
        name = str(about["NodeName"])
        return f"{name}/{about['NodeID'][:6]}" if name in {node.name for node in self.nodes.values()} else name

    def _look_at(self, node: Node) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        node.token.write_text(node.token.name)
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        there = NodeAffinitySchedulingStrategy(node.id, soft=False)
        task = self.ray.remote(look).options(num_cpus=0, max_retries=0, scheduling_strategy=there)
        node.question = task.remote(node.name, this_version(), str(node.token))

    @property
    def asked(self) -> list[Node]:
        """The nodes that have not answered yet."""
        return [node for node in self.nodes.values() if node.question is not None]

    @property
    def is_looking(self) -> bool:
        """Whether any of them still may."""
        return any(not node.is_silent for node in self.asked)

    def judge(self, node: Node) -> None:
        """Take in what was found on a node, once its question is answered."""
        try:
            node.fault = self.ray.get(node.question)
        except self.ray.exceptions.RayError as error:
            said = [line.strip() for line in str(error).splitlines() if line.strip()]
            node.fault = f"sweep can't be used there ({said[-1] if said else type(error).__name__})"
        node.question = None
        if node.fault == "" and not answer(node.token).exists():
            node.fault = f"what it writes to the home folder {self.folder.parent} is not seen here"
        self._forget(node.token)
        if node.fault:
            self.faults.setdefault(node.fault, []).append(node.name)

    def wait(self, seconds: float) -> None:
        """Wait for answers of nodes."""
        questions = {node.question: node for node in self.asked}
        if questions:
            for ready in self.ray.wait(list(questions), num_returns=len(questions), timeout=seconds)[0]:
                self.judge(questions[ready])

    def require_a_fit_node(self) -> None:
        """`SweepError` where no node can be used."""
        self.refresh(now=True)
        if not any(node.is_fit for node in self.nodes.values()):
            faults = [f"{node.name}: {node.fault}" for node in self.nodes.values() if node.fault]
            raise SweepError(
                f"no node of Ray's cluster can be used ({'; '.join(faults) or 'it has none'}): each needs this version of "
                f"sweep, and the home folder on a disk that all share (--home)"
            )

    def slots(self, need: Need) -> int:
        """How many workers there is room for on the nodes that can be used."""
        return sum(node.slots(need) for node in self.nodes.values() if node.is_fit)

    def has(self, resource: str) -> bool:
        """Whether any node that can be used has some of it."""
        return any(node.resources.get(resource) for node in self.nodes.values() if node.is_fit)

    def tell_faults(self) -> list[str]:
        """What was found wrong since this was asked last, a line each."""
        faults, self.faults = self.faults, {}
        return [f"not used of Ray's cluster: {', '.join(names)} ({fault})" for fault, names in faults.items()]

    def close(self) -> None:
        """Wait for nobody's answer any more."""
        for node in self.asked:
            self._forget(node.token)

    def _forget(self, token: Path) -> None:
        for path in (token, answer(token)):
            path.unlink(missing_ok=True)


def said(need: Need) -> str:
    """What a worker is to have, in words."""
    return ", ".join(f"{much:g} {name}" for name, much in need.items() if much) or counted(0, "CPU")
