"""Progress on stderr: live bars on a terminal, plain lines elsewhere. Results never come here; they go to stdout."""

import math
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType

from rich.console import Console
from rich.live import Live
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.text import Text

from sweep.coordinator import Coordinator, Run

PLAIN_LINE_EVERY_S = 30.0


def duration(seconds: float) -> str:
    """Seconds as people say them: "45 s", "12 min", "3 h 05 min"."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60:02d} min"


class ProgressDisplay:
    """Shows a coordinator at work. Use as a context manager."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console(stderr=True)
        self.live = self.console.is_terminal
        self.bars = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[info]}"),
            console=self.console,
        )
        self.view = Live(self.bars, console=self.console, refresh_per_second=4) if self.live else None
        self.tasks: dict[str, TaskID] = {}
        self.pace: deque[tuple[float, int]] = deque(maxlen=200)
        self.last_line = 0.0
        self.looking_since: float | None = None
        self.last_state: tuple[int, int] = (-1, -1)

    def __enter__(self) -> "ProgressDisplay":
        if self.view:
            self.view.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.view:
            if "data" in self.tasks:  # looked through, and nothing was to be decoded
                self.bars.remove_task(self.tasks.pop("data"))
            self.view.stop()

    def note(self, text: str) -> None:
        """One line worth reading."""
        self.console.print(Text(text), soft_wrap=True)

    def preparing(self, done: int, total: int, verb: str = "preparing") -> None:
        """Pictures are being decoded and resized into the cache, or looked at; as `data.cache.Progress` says."""
        if not total:
            self.looking_since = self.looking_since or time.monotonic()  # most often soon done, and not worth a line
            if self.live or time.monotonic() - self.looking_since > PLAIN_LINE_EVERY_S:
                self._prepare("looking through pictures", done, None)
        elif not done:
            self._prepare("waiting for another process that prepares these pictures", done, None)
        else:
            self._prepare(f"{verb} pictures", done, total)

    def _prepare(self, what: str, done: int, total: int | None) -> None:
        """A bar, or a line now and then; without a total, the bar only says that something happens."""
        if self.live:
            if "data" not in self.tasks:
                self.tasks["data"] = self.bars.add_task(what, total=total, info="")
            self.bars.update(self.tasks["data"], description=what, completed=done, total=total)
            if done == total:
                self.bars.remove_task(self.tasks.pop("data"))
        elif done == total or time.monotonic() - self.last_line > PLAIN_LINE_EVERY_S:  # the first line comes at once
            self.last_line = time.monotonic()
            self.note(what + (f": {done} of {total}" if total else f": {done} so far" if done else ""))

    def update(self, coordinator: Coordinator) -> None:
        """Draw the coordinator's state."""
        done, total = self._epochs(coordinator)
        if not self.pace or self.pace[-1][1] != done:
            self.pace.append((time.monotonic(), done))
        info = f"{self._best(coordinator)}{self._left(done, total)}"
        if self.live:
            self._draw(coordinator, info)
        else:
            self._say(coordinator, done, info)

    def _epochs(self, coordinator: Coordinator) -> tuple[int, int]:
        """Epochs known to be done, and epochs in the whole study."""
        spec = coordinator.spec
        a_trial = spec.train.epochs * len(spec.study.seeds)
        current = sum(
            run.epochs if run.ended else run.epoch for t in coordinator.trials[coordinator.told :] for run in t.runs
        )
        return coordinator.told * a_trial + current, spec.trial_count * a_trial

    def _best(self, coordinator: Coordinator) -> str:
        best = coordinator.best
        if best is None or best.value is None:
            return ""
        where = ", ".join(f"{name} {_number(value)}" for name, value in best.params.items())
        word = "highest" if coordinator.spec.direction == "maximize" else "lowest"  # which is best is said at the end
        return f"{word} {coordinator.spec.study.objective} {best.value:.4g}{f' at {where}' if where else ''}"

    def _left(self, done: int, total: int) -> str:
        if len(self.pace) < 3 or done >= total:
            return ""
        (begun, first), (latest, last) = self.pace[0], self.pace[-1]
        rate = (last - first) / (latest - begun) if latest > begun else 0.0
        return f", about {duration((total - done) / rate)} left" if rate > 0 else ""

    def _draw(self, coordinator: Coordinator, info: str) -> None:
        wanted: dict[str, tuple[str, int, int, str]] = {
            "study": (f"{coordinator.spec.name}: trials", coordinator.told, coordinator.spec.trial_count, info)
        }
        for trial in coordinator.trials[coordinator.told :]:
            for run in trial.runs:
                if run.state == "running":
                    name = f"  trial {trial.number} seed {run.settings.seed}"
                    wanted[run.key] = (name, run.epoch, run.epochs, _latest(run, coordinator.spec.study.objective))
        for key in set(self.tasks) - set(wanted):
            self.bars.remove_task(self.tasks.pop(key))
        for key, (name, done, total, text) in wanted.items():
            if key not in self.tasks:
                self.tasks[key] = self.bars.add_task(name, total=total, info=text)
            self.bars.update(self.tasks[key], completed=done, info=text)

    def _say(self, coordinator: Coordinator, done: int, info: str) -> None:
        """A line whenever a trial was told, and else every half minute while epochs go by."""
        state = (coordinator.told, done)
        waited = time.monotonic() - self.last_line > PLAIN_LINE_EVERY_S
        if state[0] == self.last_state[0] and not (waited and state != self.last_state):
            return
        self.last_line, self.last_state = time.monotonic(), state
        running = sum(run.state == "running" for run in coordinator.runs.values())
        trials = f"{coordinator.told} of {coordinator.spec.trial_count} trials done, {running} runs training"
        self.note(f"{coordinator.spec.name}: {trials}{'; ' if info else ''}{info.removeprefix(', ')}")


def _latest(run: Run, objective: str) -> str:
    return f"epochs, {objective} {run.curve[-1]:.4g}" if run.curve and math.isfinite(run.curve[-1]) else "epochs"


def _number(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


@contextmanager
def transfer_bar() -> Iterator[Callable[[int, int], None]]:
    """A bar of bytes on stderr; yields `advance(done, total)`, total 0 where it is unknown."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as bars:
        task = bars.add_task("downloading", total=None)
        yield lambda done, total: bars.update(task, completed=done, total=total or None)
