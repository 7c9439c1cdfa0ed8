"""What a study takes, said before it trains: how many runs, of which some are done, and how much disk."""

import json
import math
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from depth_loss_sweep.coordinator import Coordinator
from depth_loss_sweep.data.prepare import Prepared
from depth_loss_sweep.errors import StorageError
from depth_loss_sweep.model.size import NONE, checkpoint_bytes, gains_from_bf16, own_arrays, result_bytes
from depth_loss_sweep.paths import Home, parent_name
from depth_loss_sweep.reports.race import MOST_FINALISTS
from depth_loss_sweep.reports.references import allowed_references
from depth_loss_sweep.space import Choices, cells, plain
from depth_loss_sweep.spec import StudySpec
from depth_loss_sweep.words import counted, size

IN_FLIGHT = 3
"""A run in training has its newest checkpoint, the one before, and one that is being written."""


@dataclass(frozen=True)
class Forecast:
    """A study's runs and their files, as far as they are known before training."""

    spec: StudySpec
    home: Home
    runs: int
    most: int
    """Of a race, how many runs it takes where every trial goes on to the last stage."""
    done: int
    taken_over: int
    """Of those that are done, by other studies."""
    workers: int
    val_images: int
    cache_bytes: int
    free_bytes: float

    @property
    def left(self) -> int:
        """How many runs are to be trained."""
        return self.runs - self.done

    @cached_property
    def checkpoints(self) -> list[int]:
        """The size of a run's checkpoint, of each kind of network that is swept."""
        return _checkpoints(self.spec, self.val_images, self.home)

    def disk_bytes(self, keep: str) -> float:
        """About how much more there will be on the disk at most, with so much of finished runs kept."""
        results = [result_bytes(parts["data"].image_size, self.val_images) for parts in variants(self.spec)]
        kept = self.checkpoints if keep == "last" else [0]
        left = self.most - self.done
        finished = left * (sum(results) / len(results) + sum(kept) / len(kept))
        return finished + min(self.workers or 1, left) * IN_FLIGHT * max(self.checkpoints)

    def lines(self) -> list[str]:
        """What is said before training; nothing where nothing is left to train."""
        if self.most == self.done:
            return []
        name, keep = self.spec.name, self.spec.train.keep
        others = f" ({self.taken_over} taken over from other studies)" if self.taken_over else ""
        done = f", {self.done} done already{others}" if self.done else ""
        with_ = counted(self.workers, "worker") if self.workers else "this process"
        more = self.disk_bytes(keep)
        lines = [
            f"{name}: {self._runs()}{done}; {self.left} to train{' first' * bool(self.spec.stages)} with {with_}",
            f"{name}: takes about {size(more)} of disk ({self._each(keep)}), beside {size(self.cache_bytes)} of pictures; "
            f"{size(self.free_bytes)} are free",
        ]
        if more > self.free_bytes:
            less = f", or start it with --set train.keep=none (about {size(self.disk_bytes('none'))})"
            lines.append(
                f"warning: {name} takes more disk than is free: make room{less if keep == 'last' else ''}; a full disk "
                f"stops the study, and then it goes on with: sweep resume {parent_name(name)}"
            )
        if self.spec.races_best:
            best, stages = min(MOST_FINALISTS, self.spec.trial_count), self.spec.search.stages
            lines.append(
                f"{name}: racing its best takes {best * stages[0]} to {counted(best * stages[-1], 'run')} more "
                f"({counted(best, 'trial')}, {stages[0]} to {counted(stages[-1], 'fresh seed')})"
            )
        if fresh := self.spec.study.confirm:
            most = most_candidates(self.spec)
            lines.append(
                f"{name}: confirming its winner takes up to {counted(most * fresh, 'run')} more ({most} weightings x {fresh} fresh seeds)"
            )
        return lines

    def _runs(self) -> str:
        """How many runs there are; of a race, at least and at most."""
        trials, stages = counted(self.spec.trial_count, "trial"), self.spec.stages
        if not stages:
            most = "at most " * (self.spec.search.pruner != "none")
            return f"{most}{counted(self.runs, 'run')} ({trials} x {counted(len(self.spec.seeds), 'seed')})"
        raced = f"{trials}, raced under {stages[0]} to {counted(stages[-1], 'seed')}"
        return f"at least {self.runs} and at most {counted(self.most, 'run')} ({raced})"

    def _each(self, keep: str) -> str:
        each = " to ".join(size(count) for count in sorted({min(self.checkpoints), max(self.checkpoints)}))
        return f"a checkpoint of {each} a run" if keep == "last" else f"a checkpoint of {each} while a run is trained"


def foresee(coordinator: Coordinator, prepared: Prepared, workers: int) -> Forecast:
    """The forecast of a study that was taken up where it stands."""
    spec = coordinator.spec
    files = [prepared.dataset.images, prepared.dataset.depth]
    ahead = [origin for origins in coordinator.ahead.values() for origin in origins]
    return Forecast(
        spec=spec,
        home=coordinator.session.home,
        runs=coordinator.run_count,
        most=coordinator.most_runs,
        done=coordinator.runs_done + len(ahead),
        taken_over=coordinator.taken_over + ahead.count(True),
        workers=workers,
        val_images=len(prepared.keys("val")),
        cache_bytes=sum(array.nbytes for array in files),
        free_bytes=free_bytes(coordinator.session.home),
    )


def most_candidates(spec: StudySpec) -> int:
    """How many weightings a study's confirmation trains at most, as far as is known before the study is trained."""
    terms = spec.named_terms
    trials = MOST_FINALISTS if spec.is_search and not spec.races_best else 2
    references = {json.dumps([r.weights, r.loss], sort_keys=True) for r in allowed_references(terms)}
    return trials + (len(terms) > 1) + len(terms) + len(references)


def require_room(spec: StudySpec, home: Home) -> None:
    """Raise `StorageError` where not even one run fits on the disk."""
    one = max(_checkpoints(spec, 0, home))
    needed, free = min(IN_FLIGHT, spec.train.epochs) * one, free_bytes(home)
    if free < needed:
        raise StorageError(
            f"the disk of {home.root} has {size(free)} free, and one run alone needs {size(needed)} for its checkpoints: "
            f"make room, or choose another --home"
        )


def _checkpoints(spec: StudySpec, val_images: int, home: Home) -> list[int]:
    """The size of each kind of network's; one of the user's own is as large as its dry run found it, at the first size of pictures."""
    kinds = variants(spec)
    size = kinds[0]["data"].image_size
    models = [(parts["model"], parts["train"].epochs) for parts in kinds]
    own = [own_arrays(model, size, home.known) if model.is_own else NONE for model, _ in models]
    return [
        checkpoint_bytes(model, epochs, val_images, each) for (model, epochs), each in zip(models, own, strict=True)
    ]


def free_bytes(home: Home) -> float:
    """How much room there is on a home's disk."""
    usage = shutil.disk_usage(home.root)
    return usage.free if usage.total else math.inf  # some network disks tell nothing


def is_large(spec: StudySpec) -> bool:
    """Whether every kind of network and picture that is swept gains by bfloat16 on a CPU that has it."""
    return all(gains_from_bf16(parts["model"], parts["data"].image_size) for parts in variants(spec))


def variants(spec: StudySpec, of: tuple[str, ...] = ("model.", "data.image_size")) -> list[Mapping[str, Any]]:
    """The settings of each kind of network and picture that is swept; of an interval, its larger end.

    `of` is how the names begin of the variables that are gone through.
    """
    if spec.candidates:
        return [spec.sections_at(cell) for cell in spec.cells]
    fields = [v for v in spec.variables if v.name.startswith(of)]
    choices = [v if isinstance(v, Choices) else Choices(v.name, (v.high,)) for v in fields]
    return [spec.sections_at({name: plain(value) for name, value in cell.items()}) for cell in cells(choices)]
