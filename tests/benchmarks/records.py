"""Many workers at once, a record a second each, through the coordinator's own loop into SQLite and PostgreSQL.

The workers are made up, and nothing else is: measured is how late a record is stored, and which share of a core that takes. Those
of this process hand their records over; jobs of Slurm write them into a file each, as made-up jobs of a made-up Slurm do here.
"""

import heapq
import json
import math
import multiprocessing
import os
import resource
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np

from depth_loss_sweep.executors import Event, RunRequest
from depth_loss_sweep.executors.job import REQUEST, encoded
from depth_loss_sweep.executors.slurm import SlurmExecutor
from depth_loss_sweep.model.backend import this_machine
from depth_loss_sweep.model.runtime import Machine
from depth_loss_sweep.paths import Home
from depth_loss_sweep.session import Record, Session
from depth_loss_sweep.study import start
from tests.benchmarks.made_up import made_up
from tests.benchmarks.studies import InstantExecutor, Silent, grid_spec, warm_up
from tests.sweep.postgresql import Server

SEEDS = 20
WORKERS, JOBS, QUICK_WORKERS = (1_000, 2_000, 4_000), (1_000,), (40,)
SECONDS, QUICK_SECONDS = 60.0, 3.0
SETTLING_S = 5.0
"""From when all workers have a run until it is measured."""
EPOCHS = 10_000
"""So many that no run ends meanwhile."""
WRITTEN = "learning_rate"
"""Where a record says when it left its worker: nothing here goes by that number."""


class PacedExecutor(InstantExecutor):
    """Workers that give a record a second each."""

    def __init__(self, slots: int) -> None:
        super().__init__(slots)
        self.random = np.random.default_rng(0)
        self.next: list[tuple[float, int, int, RunRequest]] = []
        """When each run's next record is due, which epoch that is."""
        self.cpu = 0.0
        """What making them up has taken."""

    def free(self) -> int:
        """A run a worker."""
        return self.slots - len(self.next)

    @property
    def is_full(self) -> bool:
        """Whether all workers are at work."""
        return self.free() == 0

    def submit(self, request: RunRequest) -> None:
        """It begins now; records of many runs are spread over a second."""
        heapq.heappush(self.next, (time.monotonic() + self.random.random(), len(self.next), 1, request))

    def poll(self, timeout: float) -> list[Event]:
        """What is due by now."""
        end, events = time.monotonic() + timeout, []
        while not events and time.monotonic() < end:
            begun = time.thread_time()
            while self.next and self.next[0][0] <= time.monotonic():
                due, number, epoch, request = self.next[0]
                heapq.heapreplace(self.next, (due + 1.0, number, epoch + 1, request))
                events.append(Event(request.run, "epoch", made_up(request.settings, epoch) | {WRITTEN: due}))
            self.cpu += time.thread_time() - begun
            if not events:
                time.sleep(0.01)
        return events


COMMANDS = {
    "sbatch": """
for each do case "$each" in --comment=*) comment=${{each#*=}};; --chdir=*) folder=${{each#*=}};; esac; done
read number < {folder}/last
number=$((number + 1))
echo $number > {folder}/last
echo "$number|RUNNING|n1|None|$comment" >> {folder}/queue
echo "$number $folder" >> {folder}/begun
echo $number""",
    "squeue": "exec cat {folder}/queue",
    "scancel": "",
}
"""Slurm's, as far as they are needed here: jobs begin at once, and never end."""


class TailedExecutor(SlurmExecutor):
    """Slurm's executor with made-up jobs, each of which writes a record a second into its file."""

    cpu = 0.0

    @property
    def is_full(self) -> bool:
        """Whether all jobs are at work."""
        return self.free() == 0 and all(job.job is not None for job in self.jobs.values())

    def machine(self, device: str, on_wait: Callable[[str], None]) -> Machine:
        """This one."""
        return this_machine(device)


@contextmanager
def made_up_slurm(folder: Path) -> Iterator[None]:
    """Its commands come first on PATH, and its jobs are at work."""
    folder.mkdir()
    for name, text in {"last": "0\n", "queue": "", "begun": ""}.items():
        (folder / name).write_text(text)
    for name, text in COMMANDS.items():
        (folder / name).write_text(f"#!/bin/sh\n{text.format(folder=folder)}\n")
        (folder / name).chmod(0o755)
    jobs = multiprocessing.get_context("spawn").Process(target=write_records, args=(folder,), daemon=True)
    jobs.start()
    try:
        with patch.dict(os.environ, PATH=f"{folder}:{os.environ['PATH']}"):
            yield
    finally:
        jobs.kill()
        jobs.join()


def write_records(folder: Path) -> None:
    """All jobs in one process: each writes a record a second; nothing is synced, since they are elsewhere."""
    random, due = np.random.default_rng(0), list[tuple[float, int, int, Path, dict[str, object]]]()
    with (folder / "begun").open() as begun:
        while True:
            while (line := begun.readline()).endswith("\n"):
                number, _, place = line.strip().partition(" ")
                said, settings = Path(place, f"{number}.0.jsonl"), json.loads(Path(place, REQUEST).read_bytes())
                said.write_text(encoded("arrived", {"node": "n1"}))
                first = time.monotonic() + random.random()
                heapq.heappush(due, (first, int(number), 1, said, settings["request"]["settings"]))
            while due and due[0][0] <= time.monotonic():
                when, job, epoch, said, settings_ = due[0]
                heapq.heapreplace(due, (when + 1.0, job, epoch + 1, said, settings_))
                with said.open("a") as file:
                    file.write(encoded("epoch", made_up(settings_, epoch) | {WRITTEN: time.monotonic()}))
            time.sleep(0.01)


class Watch:
    """Stops the session once it was watched for long enough."""

    def __init__(self, executor: Any, seconds: float) -> None:
        self.executor, self.seconds = executor, seconds
        self.created, self.full, self.begun = time.monotonic(), math.inf, math.inf
        self.lags: list[float] = []

    def stored(self, record: Record) -> None:
        """A record was stored."""
        if self.begun < math.inf:
            self.lags.append(time.monotonic() - record.values[WRITTEN])

    def is_over(self) -> bool:
        """Asked by the coordinator whenever it goes round."""
        now = time.monotonic()
        if self.full == math.inf and self.executor.is_full:
            self.full = now
        if self.begun == math.inf and now >= self.full + SETTLING_S:
            self.begun, self.cpu = now, self._cpu()
        return now >= self.begun + self.seconds

    def _cpu(self) -> float:
        commands = resource.getrusage(resource.RUSAGE_CHILDREN)
        return time.process_time() + commands.ru_utime + commands.ru_stime - self.executor.cpu

    def found(self) -> dict[str, float]:
        """What was seen."""
        wall = time.monotonic() - self.begun
        late = np.array(self.lags)
        return {
            "until all have a run (s)": self.full - self.created,
            "records stored a second": len(late) / wall,
            "lag, median (s)": float(np.median(late)),
            "lag, 99 of 100 within (s)": float(np.percentile(late, 99)),
            "lag, most (s)": float(late.max()),
            "coordinator (share of a core)": (self._cpu() - self.cpu) / wall,
        }


def take_in_tailed(root: Path, storage: str | None, workers: int, seconds: float) -> dict[str, float]:
    """So many jobs of Slurm, likewise."""
    with made_up_slurm(root.with_name(f"{root.name}-slurm")):
        return take_in(root, storage, workers, seconds, TailedExecutor(Home(root), partition="none"))


def take_in(root: Path, storage: str | None, workers: int, seconds: float, executor_: Any = None) -> dict[str, float]:
    """So many workers at work on one study for so long."""
    spec = grid_spec(math.ceil(workers / SEEDS), seeds=SEEDS, epochs=EPOCHS, parallel=math.ceil(workers / SEEDS))
    with closing(executor_ or PacedExecutor(workers)) as executor:
        watch = Watch(executor, seconds)
        session = Session(
            Home(root), storage, workers, "cpu", executor, "benchmark", Silent(), watch.is_over, watch.stored
        )
        start(spec, {}, session)
        found = watch.found()
        session.store.engine.dispose()
        return found


def measure(quick: bool) -> dict[str, dict[str, float]]:
    """Both databases, more and more workers."""
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        warm_up(root / "warm")
        server = Server(root / "server")
        try:
            for way, take, counts in (("workers", take_in, WORKERS), ("jobs of Slurm", take_in_tailed, JOBS)):
                for workers in QUICK_WORKERS if quick else counts:
                    for name, storage in (("SQLite", None), ("PostgreSQL", server.url(server.create()))):
                        home = root / f"{name}{workers}{take.__name__}"
                        title = f"{workers:,} {way}, a record a second each, {name}"
                        found[title] = take(home, storage, workers, QUICK_SECONDS if quick else SECONDS)
        finally:
            server.stop()
    return found
