"""Progress on stderr: a live view on a terminal, plain lines elsewhere. Results never come here; they go to stdout."""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import TracebackType

from rich.console import Console, ConsoleOptions, RenderResult
from rich.live import Live
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from depth_loss_sweep.coordinator import Coordinator
from depth_loss_sweep.measures import saying
from depth_loss_sweep.pace import seconds_left
from depth_loss_sweep.runs import Run
from depth_loss_sweep.words import counted, duration, shortened

PLAIN_LINE_EVERY_S = 30.0
SHORTEST_BAR, LONGEST_BAR = 8, 40
PADDING = 3  # of a row's three columns


@dataclass(frozen=True)
class Row:
    """Something that goes on: what, how far, and a word on that. Without a total the bar only says that it goes on."""

    what: str
    done: int
    total: int | None
    text: str = ""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """On one line, its bar as long as there is room; where there is none for a bar, without it."""
        room = options.max_width - len(self.what) - len(self.text) - PADDING
        if room < SHORTEST_BAR:
            yield Text(f"{self.what} {self.text}".rstrip())
            return
        grid = Table.grid(padding=(0, 1, 0, 0))
        pulse = self.total is None
        bar = ProgressBar(self.total, self.done, width=min(LONGEST_BAR, room), pulse=pulse)
        grid.add_row(Text(self.what, no_wrap=True), bar, Text(self.text, no_wrap=True))
        yield grid


@dataclass(frozen=True)
class View:
    """What a live display shows: a study and its parts in words, and rows of what goes on."""

    name: str
    trials: Row
    parts: tuple[str, ...]
    rows: tuple[Row, ...]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """The study first, so that a low terminal cuts runs and not what matters."""
        room = max(SHORTEST_BAR, options.max_width - len(self.trials.text) - PADDING - SHORTEST_BAR)
        yield Row(shortened(self.name, room), self.trials.done, self.trials.total, self.trials.text)
        yield from (Text(line) for line in flowed(self.parts, options.max_width))
        yield from self.rows


def flowed(parts: Sequence[str], width: int) -> list[str]:
    """Parts of a sentence on as few lines as hold them; a part that is longer than a line has lines of its own."""
    lines: list[str] = []
    for part in parts:
        if lines and len(lines[-1]) + 2 + len(part) < width:
            lines[-1] += f"; {part}"
        else:
            lines.append(part)
    return lines


class ProgressDisplay:
    """Shows a coordinator at work. Use as a context manager."""

    def __init__(self, console: Console | None = None, placed: Callable[[str], str] = str) -> None:
        """`placed` is what notes are made of before they are shown, such as advice with the place behind its commands."""
        self.console = console or Console(stderr=True)
        self.view = Live(console=self.console, refresh_per_second=4) if self.console.is_terminal else None
        self.placed, self.last_line = placed, 0.0
        self.looking_since: float | None = None
        self.last_state: tuple[int, int, bool, int] = (-1, 0, False, -1)
        self.is_preparing = False

    def __enter__(self) -> "ProgressDisplay":
        if self.view:
            self.view.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.view:
            if self.is_preparing:  # looked through, and nothing was to be decoded
                self.view.update("")
            self.view.stop()

    def note(self, text: str) -> None:
        """One line worth reading."""
        self.console.print(Text(self.placed(text)), soft_wrap=True)

    def preparing(self, done: int, total: int, verb: str = "preparing") -> None:
        """Pictures are being decoded and resized into the cache, or looked at; as `data.cache.Progress` says."""
        if not total:
            self.looking_since = self.looking_since or time.monotonic()  # most often soon done, and not worth a line
            if self.view or time.monotonic() - self.looking_since > PLAIN_LINE_EVERY_S:
                self._prepare("looking through pictures", done, None)
        elif not done:
            self._prepare("waiting for another process that prepares these pictures", done, None)
        else:
            self._prepare(f"{verb} pictures", done, total)

    def _prepare(self, what: str, done: int, total: int | None) -> None:
        """A row, or a line now and then."""
        text = f"{done} of {total}" if total else f"{done} so far" if done else ""
        if self.view:
            self.is_preparing = done != total
            self.view.update(Row(what, done, total, text) if self.is_preparing else "")
        elif done == total or time.monotonic() - self.last_line > PLAIN_LINE_EVERY_S:  # the first line comes at once
            self.last_line = time.monotonic()
            self.note(f"{what}: {text}" if text else what)

    def update(self, coordinator: Coordinator) -> None:
        """Draw the coordinator's state."""
        self.is_preparing = False
        trials = f"{coordinator.told} of {counted(coordinator.spec.trial_count, 'trial')}"
        if self.view:
            row = Row("", coordinator.told, coordinator.spec.trial_count, trials)
            say = saying(coordinator.spec)
            rows = tuple(_row(say, number, run) for number, run in coordinator.training.values())
            self.view.update(View(coordinator.spec.name, row, _parts(coordinator), rows))
        else:
            self._say(coordinator, trials)

    def _say(self, coordinator: Coordinator, trials: str) -> None:
        """A line at each told trial and decided stage, when the time left is known first, and each half minute while epochs go by."""
        epochs = sum(run.epoch for _, run in coordinator.training.values())
        stage = coordinator.race.stage if coordinator.race else 0
        state = (coordinator.told, stage, seconds_left(coordinator) is not None, epochs)
        waited = time.monotonic() - self.last_line > PLAIN_LINE_EVERY_S
        if state[:3] == self.last_state[:3] and not (waited and state != self.last_state):
            return
        self.last_line, self.last_state = time.monotonic(), state
        self.note(f"{coordinator.spec.name}: {'; '.join([f'{trials} done', *_parts(coordinator)])}")


def _parts(coordinator: Coordinator) -> tuple[str, ...]:
    """Where a study stands, in words: its runs, what others did of it, the best so far, the time left."""
    done, total = coordinator.runs_done, coordinator.run_count
    at_work, taken = {"training": len(coordinator.training), "queued": coordinator.queued}, coordinator.taken_over
    parts = [f"{done} of {counted(total, 'run')} done" + "".join(f", {n} {what}" for what, n in at_work.items() if n)]
    if taken:
        parts.append(
            f"{taken} of {counted(total, 'run')} {'was' if taken == 1 else 'were'} taken over from other studies"
        )
    return (*parts, *_stage(coordinator), _best(coordinator), *_left(coordinator))


def _stage(coordinator: Coordinator) -> tuple[str, ...]:
    """How far a race is."""
    race = coordinator.race
    if race is None:
        return ()
    if race.next_seeds is None:
        return (f"the race is over after stage {race.stage} of {race.stages}",)
    left = f", {len(race.alive)} of {race.began} weights left" if race.stage else ""
    return (f"stage {race.stage + 1} of {race.stages}: {counted(race.next_seeds, 'seed')}{left}",)


def _best(coordinator: Coordinator) -> str:
    """The lowest or highest value; which weights are best is said at the end."""
    best, objective = coordinator.best, coordinator.spec.objective
    if best is None:
        return f"no {objective.name} yet"
    where = ", ".join(f"{name} {_number(value)}" for name, value in best.params.items())
    word = "highest" if objective.direction == "maximize" else "lowest"
    so_far = f" so far, over {counted(len(best.finished), 'seed')}" if best.state == "running" else ""
    value = saying(coordinator.spec)(best.value_so_far(objective))
    return f"{word} {value}{f' at {where}' if where else ''}{so_far}"


def _left(coordinator: Coordinator) -> tuple[str, ...]:
    """The time left: at most so much where trials may be pruned."""
    if coordinator.told == coordinator.spec.trial_count:
        return ()
    left = seconds_left(coordinator)
    if left is None:
        return ("time left not known yet",)
    about = "about" if coordinator.spec.search.pruner == "none" else "at most"
    stage = " in this stage" if coordinator.race else ""
    return (f"{about} {duration(max(1.0, left))} left{stage}",)


def _row(say: Callable[[float], str], number: int, run: Run) -> Row:
    value = f", {say(run.curve[-1])}" if run.curve and math.isfinite(run.curve[-1]) else ""
    epochs = f"{run.epoch} of {counted(run.epochs, 'epoch')}{value}"
    return Row(f"  trial {number} seed {run.settings.seed}", run.epoch, run.epochs, epochs)


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
