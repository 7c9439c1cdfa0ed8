"""How far a study at work is: its trials and runs in hand, and what they amount to, for its coordinator and whoever shows it."""

from depth_loss_sweep.pace import Pace
from depth_loss_sweep.reports.stages import Race
from depth_loss_sweep.runs import Run, Trial, best_of
from depth_loss_sweep.spec import StudySpec


class Progress:
    """What is asked, trained and told so far."""

    def __init__(self, spec: StudySpec) -> None:
        self.spec = spec
        self.trials: list[Trial] = []
        self.runs: dict[str, Run] = {}
        self.told, self.asked_runs, self.told_runs = 0, 0, 0
        self.race: Race | None = None
        self.earlier_failures = 0
        self.pace = Pace()
        self.taken_over = 0
        """Runs that other studies had finished before ours asked for them."""
        self.ahead: dict[int, list[bool]] = {}
        """The finished runs of trials to come, as far as they are known: each one, whether another study has it."""

    @property
    def failed_runs(self) -> int:
        """Runs that ended by an error, not as a result, and made their trial fail."""
        return self.earlier_failures + sum(run.state == "failed" for run in self.runs.values())

    @property
    def run_count(self) -> int:
        """How many runs the study has: of a race, as far as it goes by now; of one that prunes, at most."""
        return self.asked_runs + self.above + (self.spec.trial_count - len(self.trials)) * len(self.spec.seeds)

    @property
    def above(self) -> int:
        """How many more runs the trials under way may ask for where they are halved."""
        climbing = self.trials[self.told :] if self.spec.is_halving else ()
        return sum(len(self.spec.seeds) - trial.n for trial in climbing if trial.state == "running")

    @property
    def most_runs(self) -> int:
        """How many runs the study has at most."""
        if self.race is None or self.race.next_seeds is None:
            return self.run_count
        alive = [self.trials[number].n for number in self.race.alive] or [len(self.spec.seeds)] * self.spec.trial_count
        return self.run_count + sum(self.spec.stages[-1] - n for n in alive)

    @property
    def runs_done(self) -> int:
        """How many of them need no more training; those that trials share count for each."""
        ended = sum(run.ended for trial in self.trials[self.told :] for run in trial.runs)
        return self.told_runs + ended

    @property
    def training(self) -> dict[str, tuple[int, Run]]:
        """The runs that are being trained, each with the first trial that waits for it."""
        at_work: dict[str, tuple[int, Run]] = {}
        for trial in self.trials[self.told :]:
            for run in trial.runs:
                if run.state == "running":
                    at_work.setdefault(run.key, (trial.number, run))
        return at_work

    @property
    def queued(self) -> int:
        """How many runs wait where machines are shared, for one that begins them."""
        return len({run.key for trial in self.trials[self.told :] for run in trial.runs if run.state == "queued"})

    @property
    def best(self) -> Trial | None:
        """The best trial so far: of those told; of a race, of the weights left, by the runs that are finished."""
        left = self.race.alive if self.race else ()
        asked = [t for t in self.trials if (t.number in left or not left) and (self.race or t.state == "complete")]
        return best_of(asked, self.spec.objective)

    @property
    def is_racing(self) -> bool:
        """Whether a race may still ask for runs; until it is over, no trial of it is told."""
        return self.race is not None and self.race.next_seeds is not None

    def told_before(self, trial: Trial) -> list[Trial]:
        """The trials with a value that were told when this one was asked: what judges it depends on nothing else."""
        told = self.trials[: max(0, trial.number - self.spec.search.parallel + 1)]
        return [t for t in told if t.state in ("complete", "pruned")]
