"""What an answer cost: CPU- and GPU-time of the runs that a study asked for, and apart from them of those that confirm it."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

from depth_loss_sweep.words import counted

UNITS = ((5400.0, 3600.0, "hours"), (90.0, 60.0, "minutes"), (0.0, 1.0, "seconds"))
"""From so many seconds on, so many of them make one of these."""


@dataclass(frozen=True)
class RunCost:
    """What a run's training and evaluation took: seconds on a graphics card, or, on a CPU, times its threads.

    `is_own` is whether the study that asks for it trained it, here; another one may have before, or it was copied. `is_ended` is
    false of one that is to go on.
    """

    run: str
    seconds: float
    is_gpu: bool = False
    is_own: bool = True
    is_ended: bool = True


@dataclass(frozen=True)
class RunSpan:
    """When a run was trained: from and to, in seconds of any one clock."""

    run: str
    begin: float
    end: float


@dataclass(frozen=True)
class Cost:
    """The sum over runs.

    `elsewhere` is how many of them were trained by another study, or in another place, `begun` how many are to go on.
    """

    cpu_seconds: float
    gpu_seconds: float
    runs: int
    elsewhere: int
    begun: int = 0

    @property
    def spent(self) -> str:
        """Such as "2.1 CPU-hours"; empty where nothing was trained."""
        kinds = {"CPU": self.cpu_seconds, "GPU": self.gpu_seconds}
        return " and ".join(_written(seconds, kind) for kind, seconds in kinds.items() if seconds)

    @property
    def text(self) -> str:
        """Such as "2.1 CPU-hours for 62 runs, 12 of them taken over"; empty where nothing was trained.

        How many runs shared a card at a time isn't known, so what is said of one is each run's own time.
        """
        if not self.spent:
            return ""
        begun = f", {self.begun} of them not through" if self.begun else ""
        elsewhere = f", {self.elsewhere} of them taken over" if self.elsewhere else ""
        own_time = ", each by its own clock" if self.gpu_seconds and self.runs > 1 else ""
        return f"{self.spent} for {counted(self.runs, 'run')}{begun}{elsewhere}{own_time}"


@dataclass(frozen=True)
class StudyCost:
    """What a study's answer cost: all runs that it asked for, and those that confirm it, None where there are none.

    What was lost to kills, the start of workers and their waiting are not in it. Runs that share a card count their own seconds each.
    """

    finding: Cost
    confirming: Cost | None = None

    @classmethod
    def of(cls, runs: Iterable[RunCost], confirming: Iterable[RunCost] = ()) -> "StudyCost":
        """Of a study's runs, and of those that confirm it."""
        confirmed = total(confirming)
        return cls(total(runs), confirmed if confirmed.runs else None)

    @property
    def text(self) -> str:
        """Both in words; empty where nothing was trained."""
        confirming = f"; confirming it: {self.confirming.text}" if self.confirming and self.confirming.text else ""
        return f"{self.finding.text}{confirming}" if self.finding.text else ""

    def as_dict(self) -> dict[str, Any]:
        """JSON-able: the numbers of finding it, those of `confirming` it, and both in words (`said`)."""
        return {"said": self.text, **asdict(self.finding), "confirming": self.confirming and asdict(self.confirming)}


def total(runs: Iterable[RunCost]) -> Cost:
    """The cost of runs, each once, however many trials or studies show it."""
    each = {run.run: run for run in sorted(runs, key=lambda run: run.is_own)}.values()  # of several, whoever trained it
    cpu, gpu = (sum(run.seconds for run in each if run.is_gpu == is_gpu) for is_gpu in (False, True))
    return Cost(cpu, gpu, len(each), sum(not run.is_own for run in each), sum(not run.is_ended for run in each))


def _written(seconds: float, kind: str) -> str:
    _, one, name = next(unit for unit in UNITS if seconds >= unit[0])
    count = seconds / one
    return f"{count:,.0f} {kind}-{name}" if count >= 99.5 else f"{count:.2g} {kind}-{name}"
