"""A session: one process at work on a study. Where it works, with what, by which right, and who is told."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from operator import itemgetter
from typing import TYPE_CHECKING, Any, Protocol

from depth_loss_sweep.database import storage_url
from depth_loss_sweep.executors import Executor
from depth_loss_sweep.lease import Lease
from depth_loss_sweep.outage import Outage
from depth_loss_sweep.paths import Home
from depth_loss_sweep.store import Store

if TYPE_CHECKING:
    from depth_loss_sweep.coordinator import Coordinator
    from depth_loss_sweep.model.runtime import Machine
    from depth_loss_sweep.runs import Run, Trial


OF_EPOCH = ("learning_rate", "grad_norm_median", "grad_norm_p95", "grad_norm_max", "images_per_second", "seconds")
"""What a record has beside the numbers of its splits."""


class Display(Protocol):
    """Whoever shows progress (see `sweep.display`)."""

    def preparing(self, done: int, total: int) -> None:
        """Pictures are being put into the cache."""

    def update(self, coordinator: "Coordinator") -> None:
        """The coordinator's state may have changed."""

    def note(self, text: str) -> None:
        """One line worth reading."""


@dataclass(frozen=True)
class Record:
    """An epoch of a run, for whoever logs it elsewhere."""

    study: str
    trial: int
    seed: int
    run: str
    epoch: int
    params: Mapping[str, Any]
    """What was swept, at this trial."""
    weights: Mapping[str, float]
    values: Mapping[str, float]
    """Every number of it by name: val_rmse, train_rmse, val_term_ssim, learning_rate, grad_norm_median, ..."""

    @property
    def name(self) -> str:
        """What tells its run from the others of the study."""
        return f"trial {self.trial}, seed {self.seed}"


@dataclass(frozen=True)
class SessionResult:
    """How a session ended."""

    finished: bool
    failed_runs: int


@dataclass
class Session:
    """What one process works on a study with. Nothing here changes results, but for `device` when the study is started."""

    home: Home
    storage: str | None
    workers: int | None
    device: str
    executor: Executor
    command: str
    display: Display
    should_stop: Callable[[], bool]
    on_record: Callable[["Record"], None] | None = None
    """Told of every epoch, once it is stored."""
    store: Store = field(init=False)
    leases: list[Lease] = field(init=False, default_factory=list)
    """What is held, each taken while those before it are: a group, then its study that is worked on."""
    said: set[str] = field(init=False, default_factory=set)

    def open(self, create: bool = False) -> Store:
        """Open the database, once, if it is sound; `create` makes it, and the home folder, where there is none."""
        if hasattr(self, "store"):
            return self.store
        if create:
            storage_url(self.home, self.storage)  # refuses what no URL can name, before a folder is made
            self.home.create()
        outage = Outage(self.should_stop, self.display.note)
        self.store = Store.open(self.home, self.storage, create=create, outage=outage)
        self.store.require_sound()
        return self.store

    def take(self, study: str) -> None:
        """Take the lease of a study, or of a group; a wait for another's is said once, and ends if told to stop."""
        self.leases.append(Lease.take(self.store, study, self.home.create().lock(study), self._wait))

    def release(self, forget: bool = False) -> None:
        """Give back what was taken last; with `forget`, as if it had never been taken."""
        self.leases.pop().release(forget)

    @property
    def lease(self) -> Lease:
        """The lease of the study that is worked on."""
        return self.leases[-1]

    def renew(self) -> None:
        """Say that we are alive, for all that is held."""
        for lease in self.leases:
            lease.renew()

    def note_once(self, text: str) -> None:
        """One line worth reading, the first time."""
        if text not in self.said:
            self.display.note(text)
            self.said.add(text)

    def tell(self, run: "Run", rows: Sequence[Mapping[str, Any]], trial: "Trial") -> None:
        """Hand an epoch, its rows as they are stored, to whoever logs it elsewhere."""
        if self.on_record is None:
            return
        found = {
            f"{row['split']}_{name.removeprefix('metric_')}": value
            for row in rows
            for name, value in row.items()
            if name == "total" or name.startswith(("term_", "metric_"))
        }
        found |= {name: rows[0][name] for name in OF_EPOCH}
        values = {key: float(value) for key, value in found.items() if value is not None}
        seed, epoch = run.settings.seed, int(rows[0]["epoch"])
        about = (self.lease.study, trial.number, seed, run.key, epoch, dict(trial.params), dict(trial.weights))
        self.on_record(Record(*about, values))

    def tell_whole(self, runs: Sequence["Run"], trial: "Trial") -> None:
        """Hand on all epochs of runs that another study has trained, once, as if they were trained here."""
        for run in runs if self.on_record else ():
            epochs = () if run.furthest else self.store.run_epochs(run.key, run.epoch)
            run.furthest = run.epoch
            for _, rows in groupby(epochs, key=itemgetter("epoch")):
                self.tell(run, [*rows], trial)

    def _wait(self, why: str) -> None:
        self.note_once(why)
        if self.should_stop():
            raise KeyboardInterrupt

    def _waiting(self, why: str) -> None:
        if why:
            self.note_once(why)
        self.keep_alive()

    def is_to_stop(self) -> bool:
        """Whether the work is to end; asked at every step, so that one epoch may take longer than the lease's grace time."""
        self.renew()
        return self.should_stop()

    def keep_alive(self) -> None:
        """Keep the lease alive in a long wait; raise KeyboardInterrupt if told to stop."""
        if self.is_to_stop():
            raise KeyboardInterrupt

    def show_preparing(self, done: int, total: int) -> None:
        """Progress of preparing pictures, which can take long: shown, interruptible, and with the lease kept alive."""
        self.display.preparing(done, total)
        self.keep_alive()

    def machine(self, device: str) -> "Machine":
        """What torch finds where runs are trained; the wait for its import is interruptible, and keeps the lease alive."""
        return self.executor.machine(device, self._waiting)
