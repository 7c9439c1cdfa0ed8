"""Many workers at once, a record a second each, through the coordinator's own loop into SQLite and PostgreSQL.

The workers are made up, and nothing else is: measured is how late a record is stored, and which share of a core that takes.
"""

import heapq
import math
import tempfile
import time
from contextlib import closing
from pathlib import Path

import numpy as np

from depth_loss_sweep.executors import Event, RunRequest
from depth_loss_sweep.paths import Home
from depth_loss_sweep.session import Record, Session
from depth_loss_sweep.study import start
from tests.benchmarks.studies import InstantExecutor, Silent, grid_spec, made_up, warm_up
from tests.sweep.postgresql import Server

SEEDS = 20
WORKERS, QUICK_WORKERS = (1_000, 2_000, 4_000), (40,)
SECONDS, QUICK_SECONDS = 60.0, 3.0
SETTLING_S = 5.0
"""From when all workers have a run until it is measured."""
EPOCHS = 10_000
"""So many that no run ends meanwhile."""


class PacedExecutor(InstantExecutor):
    """Workers that give a record a second each."""

    def __init__(self, slots: int) -> None:
        super().__init__(slots)
        self.random = np.random.default_rng(0)
        self.next: list[tuple[float, int, int, RunRequest]] = []
        """When each run's next record is due, which epoch that is."""
        self.due: dict[tuple[str, int], float] = {}
        """When those that were handed over were due."""
        self.cpu = 0.0
        """What making them up has taken."""

    def free(self) -> int:
        """A run a worker."""
        return self.slots - len(self.next)

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
                self.due[request.run, epoch] = due
                events.append(Event(request.run, "epoch", made_up(request.settings, epoch)))
            self.cpu += time.thread_time() - begun
            if not events:
                time.sleep(0.01)
        return events


class Watch:
    """Stops the session once it was watched for long enough."""

    def __init__(self, executor: PacedExecutor, seconds: float) -> None:
        self.executor, self.seconds = executor, seconds
        self.created, self.full, self.begun = time.monotonic(), math.inf, math.inf
        self.lags: list[float] = []

    def stored(self, record: Record) -> None:
        """A record was stored."""
        lag = time.monotonic() - self.executor.due.pop((record.run, record.epoch))
        if self.begun < math.inf:
            self.lags.append(lag)

    def is_over(self) -> bool:
        """Asked by the coordinator whenever it goes round."""
        now = time.monotonic()
        if self.executor.free() == 0:
            self.full = min(self.full, now)
        if self.begun == math.inf and now >= self.full + SETTLING_S:
            self.begun, self.cpu = now, self._cpu()
        return now >= self.begun + self.seconds

    def _cpu(self) -> float:
        return time.process_time() - self.executor.cpu

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


def take_in(root: Path, storage: str | None, workers: int, seconds: float) -> dict[str, float]:
    """So many workers at work on one study for so long."""
    spec = grid_spec(math.ceil(workers / SEEDS), seeds=SEEDS, epochs=EPOCHS, parallel=math.ceil(workers / SEEDS))
    with closing(PacedExecutor(workers)) as executor:
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
            for workers in QUICK_WORKERS if quick else WORKERS:
                for name, storage in (("SQLite", None), ("PostgreSQL", server.url(server.create()))):
                    home = root / f"{name}{workers}"
                    title = f"{workers:,} workers, a record a second each, {name}"
                    found[title] = take_in(home, storage, workers, QUICK_SECONDS if quick else SECONDS)
        finally:
            server.stop()
    return found
