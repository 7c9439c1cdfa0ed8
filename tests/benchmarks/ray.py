"""Many slots of Ray: how busy they are kept, and how late their records are, through the coordinator's own loop into SQLite.

The workers sleep in place of training, or give a record a second; the cluster, its actors and their streams are real.
"""

import tempfile
import time
from collections.abc import Iterator
from contextlib import closing
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np

from depth_loss_sweep.executors import Event
from depth_loss_sweep.executors.ray import RayExecutor
from depth_loss_sweep.executors.ray_worker import Worker, node_id
from depth_loss_sweep.paths import Home
from depth_loss_sweep.session import Record, Session
from depth_loss_sweep.study import start
from tests.benchmarks.made_up import MADE_UP, made_up
from tests.benchmarks.records import WRITTEN, take_in
from tests.benchmarks.studies import Silent, grid_spec, warm_up
from tests.sweep.ray import Cluster

ROOT = Path(__file__).parents[2]
SLOTS, QUICK_SLOTS = 64, 4
ROUNDS, RUN_S, RUN_EPOCHS = 4, 10.0, 10
WORKERS, QUICK_WORKERS = (300, 1_000), (20,)
HOSTED = 25
"""So many of a thousand workers share an actor: a process each would take more memory than one machine has."""
SECONDS, QUICK_SECONDS = 60.0, 3.0


class Sleeper(Worker):
    """A worker whose every epoch takes the same time."""

    def arrive(self) -> str:
        """Without torch."""
        return node_id()

    def machine(self, device: str) -> Any:
        """What torch finds, asked of one worker alone."""
        from depth_loss_sweep.model.backend import this_machine

        return this_machine(device)

    def train(self, call: int, request: dict[str, Any]) -> Iterator[Event]:
        """Sleep."""
        for epoch in range(1, RUN_EPOCHS + 1):
            time.sleep(RUN_S / RUN_EPOCHS)
            yield Event(request["run"], "epoch", made_up(request["settings"], epoch))
        yield Event(request["run"], "finished", dict(MADE_UP))


class Paced(Sleeper):
    """A worker that gives a record a second."""

    def train(self, call: int, request: dict[str, Any]) -> Iterator[Event]:
        """The records of many are spread over a second."""
        due = time.monotonic() + np.random.default_rng(call).random()
        for epoch in count(1):
            time.sleep(max(0.0, due - time.monotonic()))
            if call in self.cancelled:
                return
            yield Event(request["run"], "epoch", made_up(request["settings"], epoch) | {WRITTEN: time.monotonic()})
            due += 1.0


class SleepingExecutor(RayExecutor):
    """With workers that sleep."""

    worker = Sleeper


class SharingExecutor(RayExecutor):
    """With actors that are many workers each."""

    worker = Paced
    cpu = 0.0

    def __init__(self, home: Home, address: str, workers: int) -> None:
        super().__init__(home, address)
        self.wanted = workers

    @property
    def is_full(self) -> bool:
        """Whether all workers are at work."""
        return self.free() == 0 and not self.queue

    def _hire(self, avoid: tuple[str, ...]) -> None:
        if len(self.slots) % HOSTED == 0:
            self.threads = HOSTED + 1
            super()._hire(avoid)
        else:
            before = self.slots[-1]
            self.slots.append(type(before)(before.actor, before.need, before.actor.arrive.remote()))


def cluster_of(folder: Path, slots: int) -> Cluster:
    """A head that trains nothing, and a node that says it has so many cores."""
    cluster = Cluster(folder, "head", cpus=0)
    cluster.start("node", cpus=slots, PYTHONPATH=str(ROOT))
    return cluster


def busy(home: Home, address: str, slots: int) -> dict[str, float]:
    """How busy slots are kept by a study of runs that all take the same time."""
    spec = grid_spec(slots * ROUNDS // 4, seeds=4, epochs=RUN_EPOCHS, parallel=slots)
    ends: list[float] = []
    starts: dict[str, float] = {}

    def heard(record: Record) -> None:
        starts.setdefault(record.run, time.monotonic())
        if record.epoch == RUN_EPOCHS:
            ends.append(time.monotonic())

    begun, spent = time.monotonic(), time.process_time()
    with closing(SleepingExecutor(home, address=address)) as executor:
        session = Session(home, None, None, "cpu", executor, "benchmark", Silent(), lambda: False, heard)
        assert start(spec, {}, session).finished
        session.store.engine.dispose()
    spent = time.process_time() - spent
    first = sorted(starts.values())[:slots][-1] - RUN_S / RUN_EPOCHS
    after = [end for end in ends if end > first]
    # From when the last slot has begun its first run: what was slept since, of what there was time for until the last run ended.
    slept = sum(min(RUN_S, end - first) for end in after)
    return {
        "until all slots are at work (s)": first - begun,
        "runs": len(ends),
        "a run (s)": RUN_S,
        "efficiency": slept / (slots * (max(ends) - first)),
        "coordinator, all in all (CPU s)": spent,
    }


def measure(quick: bool) -> dict[str, dict[str, float]]:
    """Both."""
    found = {}
    with tempfile.TemporaryDirectory(prefix="ray") as folder:
        root = Path(folder)
        warm_up(root / "warm")
        slots = QUICK_SLOTS if quick else SLOTS
        cluster = cluster_of(root, slots)
        try:
            found[f"{slots} slots, runs that sleep"] = busy(Home(root / "busy"), cluster.address, slots)
            for workers in QUICK_WORKERS if quick else WORKERS:
                title = f"{workers:,} workers, a record a second each, {HOSTED} an actor, SQLite"
                seconds = QUICK_SECONDS if quick else SECONDS
                home = root / f"many{workers}"
                executor = SharingExecutor(Home(home), cluster.address, workers)
                found[title] = take_in(home, None, workers, seconds, executor)
        finally:
            cluster.close()
    return found
