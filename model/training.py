"""One training: `train` yields a record an epoch, checkpoints each before it says so, and goes on exactly where it was.

    for record in train(settings, prepared, Path("runs/a1/a1b2..."), Runtime("cpu")):
        print(record.epoch, record.splits["val"]["metric_rmse"])

It knows nothing of Optuna, SQLite or the command line. Nothing random is carried from step to step: batch order and
augmentation come from (seed, epoch, step), or from (seed, copy) where copies enlarge the training set, so that a killed
run and an undisturbed one give the same bits.
"""

import logging
import math
import statistics
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from depth_loss_sweep.data.augment import augment, augment_copies, draw_changes
from depth_loss_sweep.data.prepare import Prepared
from depth_loss_sweep.data.tensors import Pictures
from depth_loss_sweep.model.backend import apply_runtime, memory_format, this_machine
from depth_loss_sweep.model.baselines import median_baseline
from depth_loss_sweep.model.checkpoint import Checkpoint, CheckpointWriter, Note, load_checkpoint, lock_folder
from depth_loss_sweep.model.evaluation import Evaluation, Evaluator, as_input, combined_loss, forward
from depth_loss_sweep.model.gradients import agreement, norm_shares, term_gradients
from depth_loss_sweep.model.identity import run_identity
from depth_loss_sweep.model.network import DepthNetwork
from depth_loss_sweep.model.optimizer import Adam
from depth_loss_sweep.model.outcomes import (
    PANELS,
    EpochRecord,
    Panels,
    RunResult,
    SplitResult,
    judge,
    load_result,
    write_result,
)
from depth_loss_sweep.model.recorded import Recorded
from depth_loss_sweep.model.runtime import Runtime, environment_key
from depth_loss_sweep.model.schedule import epoch_order, fixed_draw, learning_rate, steps_per_epoch, stream_seed
from depth_loss_sweep.model.settings import RunSettings
from depth_loss_sweep.model.weights import weights_file
from depth_loss_sweep.usercode import sources

logger = logging.getLogger(__name__)

LEARNED = "weighting/"
"""Before the moments of what the weighting learns, in a checkpoint."""


def never() -> bool:
    """The default `should_stop`: go on."""
    return False


def train(
    settings: RunSettings,
    data: Prepared,
    folder: Path,
    runtime: Runtime,
    should_stop: Callable[[], bool] = never,
    on_note: Note = logger.warning,
    judge_test: bool = False,
    weights: Path | None = None,
) -> Generator[EpochRecord, None, RunResult | None]:
    """Train a run in `folder`, yielding one record an epoch; return its result, or None if it was told to stop.

    Records already in the checkpoint come first, so taking them in must be idempotent; a new one is yielded as soon as
    its checkpoint is on disk, which may be a few steps into the next epoch. `should_stop` is asked after every step; the
    epoch under way is then given up. After a non-finite epoch training ends with that outcome. `on_note` is told in a
    line of checkpoints that were damaged. With `judge_test` the result has the test pictures', too, of the last epoch's network.
    `weights` is the folder that holds what `settings.model.pretrained` names (see `model.weights`).

    Raises RunLockedError if another process trains there, ModelError if the folder belongs to another run, OSError if
    the disk fails.
    """
    identity, epochs = run_identity(settings, runtime, data.identity), settings.train.epochs
    with lock_folder(folder), CheckpointWriter(folder) as writer:
        checkpoint = load_checkpoint(folder, identity, on_note)
        known = [EpochRecord(**record) for record in checkpoint.records[:epochs]] if checkpoint else []
        yield from known
        if known and (len(known) == epochs or known[-1].break_):
            result = load_result(folder, on_note)
            if result and result.epochs == len(known) and not judge_test:
                return result
        is_shorter = checkpoint is not None and checkpoint.epoch > epochs
        training = Training(settings, data, runtime, None if checkpoint and not is_shorter else weights)
        if checkpoint and not is_shorter:
            training.restore(checkpoint)
        # Where a run of a constant rate is longer than asked for, its files are left alone and the epochs asked for are
        # trained again, for the result after them.
        yielded = len(known)
        while training.epoch < epochs and not training.is_broken:
            for _ in training.epoch_steps():
                if writer.is_done and yielded < training.epoch:
                    writer.wait()
                    yield training.records[yielded]
                    yielded += 1
                if should_stop():
                    writer.wait()
                    yield from training.records[yielded:]
                    return None
            if training.epoch > len(known):
                writer.submit(training.checkpoint(identity))
                yield from training.records[yielded:-1]
                yielded = max(yielded, training.epoch - 1)
        writer.wait()
        yield from training.records[yielded:]
        result = training.result()
        if not is_shorter:
            write_result(folder, result)
        return replace(result, test=training.judge_test()) if judge_test else result


# ---- the loop ---------------------------------------------------------------------------------------------------


class Training:
    """A network on its way through the epochs, with its data on the device."""

    def __init__(self, settings: RunSettings, data: Prepared, runtime: Runtime, weights: Path | None = None) -> None:
        """`weights` holds what the network begins with; None where it is restored."""
        apply_runtime(runtime, settings.train)
        self.settings, self.runtime, self.data = settings, runtime, data
        machine = this_machine(runtime.device)
        self.environments = [environment_key(runtime, settings.train, machine, settings.model, settings.code)]
        self.records: list[EpochRecord] = []
        self.train_part = data.pictures("train", runtime.device)
        self.val_part = data.pictures("val", runtime.device)
        chosen = fixed_draw(len(self.train_part), settings.train.eval_images)
        self.eval_part = self.train_part.subset(chosen.to(self.train_part.rows.device))
        self.batch_size = min(settings.train.batch_size, len(self.train_part))
        self.steps = steps_per_epoch(len(self.train_part), self.batch_size)
        self.copies = self._draw_copies()
        self.panels = sorted({round(i * (len(self.val_part) - 1) / (PANELS - 1)) for i in range(PANELS)})
        median, self.median_rmse = median_baseline(data)
        self.network = _build_network(settings, median, runtime, data.settings.image_size, weights)
        self.loss = combined_loss(settings).to(runtime.device)
        self.optimizer = Adam(self.network.trained().values(), settings.train, self.network.rate_scales())
        self.loss.weighting.begin(self.optimizer.parameters)
        # Apart: weight decay, clipping and the gradient norm are the network's.
        self.weighting_optimizer = Adam(self.loss.parameters(), settings.train.model_copy(update={"weight_decay": 0.0}))
        self.draws_at_random = settings.model.network != "unet" or bool(settings.code)
        """Whether the network may drop some of its work, or a term draw, by torch's own generator."""
        self.validated: Evaluation | None = None
        self.per_image: dict[int, dict[str, np.ndarray]] = {}  # of the last two epochs: a value may be their mean
        is_recorded = runtime.kind == "cuda" and not settings.code
        self._evaluator = Evaluator(
            self.network, self.loss, runtime, settings.metrics, settings.own_metrics, is_recorded
        )
        self._descend = Recorded(self._gradients) if is_recorded else self._gradients

    @property
    def epoch(self) -> int:
        """How many epochs are done."""
        return len(self.records)

    @property
    def is_broken(self) -> bool:
        """Whether the last epoch became non-finite."""
        return bool(self.records) and self.records[-1].break_ is not None

    def epoch_steps(self) -> Iterator[None]:
        """Train and evaluate one more epoch and add its record; yields after every step but asks for nothing."""
        apply_runtime(self.runtime, self.settings.train)
        start, away = time.perf_counter(), 0.0
        epoch = self.epoch + 1
        copies = self.settings.train.augment_copies
        order = epoch_order(len(self.train_part), self.batch_size, self.settings.seed, epoch, copies)
        order = order.to(self.train_part.rows.device, non_blocking=True)
        table = torch.empty(len(order), 2 + len(self.settings.weights), device=self.runtime.device)
        self.network.train()
        self.loss.weighting.begin_epoch()
        for step, chosen in enumerate(order):  # nothing in here waits for the device
            done = (epoch - 1) * self.steps + step
            rate = learning_rate(self.settings.train, done, self.steps)
            seed = stream_seed(self.settings.seed, epoch, step)
            self.loss.weighting.begin_step(done / (self.settings.train.epochs * self.steps), seed)
            table[step] = self._step(chosen, rate, seed)
            left = time.perf_counter()
            yield
            away += time.perf_counter() - left
        steps = _Steps(
            tuple(self.settings.weights), table.tolist()
        )  # the one wait for the device in an epoch's training
        trained = time.perf_counter() - start - away
        on_train = self._evaluate(self.eval_part, range(self.batch_size))
        self.validated = self._evaluate(self.val_part, self.panels)
        found = {"train": on_train, "val": self.validated}
        gradients, weights = self._term_gradients(on_train.kept), self.loss.weighting.effective()
        record = EpochRecord(
            epoch=epoch,
            splits={name: evaluation.means | evaluation.spreads for name, evaluation in found.items()},
            learning_rate=learning_rate(self.settings.train, (epoch - 1) * self.steps, self.steps),
            weights=weights,
            gradient_share=norm_shares(gradients, weights),
            agreement=agreement(gradients, weights),
            images_per_second=len(table) * self.batch_size / trained,
            seconds=time.perf_counter() - start - away,
            break_=self._find_break(steps, found),
            **steps.norms(),
        )
        self.loss.weighting.end_epoch(steps.term_means())
        self.records.append(record)
        self.per_image = {e: found for e, found in self.per_image.items() if e == epoch - 1} | {
            epoch: self.validated.per_image
        }

    def _step(self, chosen: Tensor, rate: float, seed: int) -> Tensor:
        """One update; returns its total, gradient norm and terms, on the device."""
        inputs = self._augmented(chosen, seed)
        if self.draws_at_random:
            torch.manual_seed(seed)
        (row,) = self._descend(*inputs)
        self.optimizer.step(rate)
        self.weighting_optimizer.step(rate * self.loss.weighting.rate_factor)
        return row

    def _augmented(self, chosen: Tensor, seed: int) -> tuple[Tensor, Tensor, Tensor]:
        """Images, depth and mask of these numbers of `epoch_order`: changed anew, or as each copy is for good."""
        settings, count = self.settings.train, len(self.train_part)
        changes = (settings.augment, settings.brightness, settings.contrast)
        if self.copies is None:
            batch = self.train_part.take(chosen)
            return augment(as_input(batch.images), batch.depth, batch.mask, *changes, seed)
        batch = self.train_part.take(chosen % count)
        draws, is_copy = self.copies[:, chosen], chosen >= count
        return augment_copies(as_input(batch.images), batch.depth, batch.mask, *changes, draws, is_copy)

    def _draw_copies(self) -> Tensor | None:
        """By what each number of `epoch_order` is changed (those of originals go unused); None without copies."""
        count, copies = len(self.train_part), self.settings.train.augment_copies
        if not copies:
            return None
        drawn = [draw_changes(count, stream_seed(self.settings.seed, 0, copy)) for copy in range(copies + 1)]
        return torch.cat(drawn, 1).to(self.train_part.rows.device)

    def _gradients(self, images: Tensor, depth: Tensor, mask: Tensor) -> tuple[Tensor]:
        """Leave the gradients of a batch, clipped; return its total, gradient norm and terms as a row."""
        total, terms = self.loss(forward(self.network, images, self.runtime), depth, mask, images)
        self.optimizer.zero_grad()
        self.weighting_optimizer.zero_grad()
        total.backward()
        norm = torch.nn.utils.get_total_norm(self.optimizer.gradients)
        if self.settings.train.clip_norm is not None:
            torch.nn.utils.clip_grads_with_norm_(self.optimizer.parameters, self.settings.train.clip_norm, norm)
        return (torch.stack([total.detach(), norm, *(value.detach() for value in terms.values())]),)

    # ---- looking at it ------------------------------------------------------------------------------------------

    def _evaluate(self, part: Pictures, keep: Sequence[int]) -> Evaluation:
        return self._evaluator(part, self.settings.train.batch_size, keep)

    def _find_break(self, steps: "_Steps", evaluations: dict[str, Evaluation]) -> dict[str, Any] | None:
        """Where the epoch became non-finite, or None."""
        found = steps.find_break(self.settings.weights)
        if found is None and not all(evaluation.is_finite for evaluation in evaluations.values()):
            # The last update itself ruined the network: no later step was there to notice.
            return {"step": len(steps.rows), "term": "prediction", "grad_norm": steps.rows[-1][1]}
        return found

    def _term_gradients(self, prediction: Tensor) -> dict[str, Tensor]:
        """Each weighted term's gradient by the prediction (B, 1, H, W) of the draw's first pictures, flat."""
        batch = self.eval_part.take(slice(len(prediction)))
        prediction = prediction.detach().requires_grad_()
        terms = self.loss.terms(prediction, batch.depth, batch.mask, as_input(batch.images))
        weighted = [name for name in terms if name in self.loss.weighting.followed]
        gradients = term_gradients([terms[name] for name in weighted], [prediction])
        return dict(zip(weighted, gradients, strict=True))

    # ---- its state ----------------------------------------------------------------------------------------------

    def checkpoint(self, identity: str) -> Checkpoint:
        """All that `restore` needs, as it is now: nothing in it changes when training goes on."""
        learned = self.weighting_optimizer.state_dict().items()
        moments = self.optimizer.state_dict() | {f"{LEARNED}{place}": value for place, value in learned}
        return Checkpoint(
            identity=identity,
            settings=self.settings.model_dump(mode="json"),
            epoch=self.epoch,
            records=[record.as_dict() for record in self.records],
            model={name: _array(value) for name, value in self.network.arrays().items()},
            optimizer={place: _array(value) for place, value in moments.items()},
            weighting={name: _array(value) for name, value in self.loss.weighting.state_dict().items()},
            per_image={f"{e}/{name}": a for e, found in self.per_image.items() for name, a in found.items()},
            about={
                "runtime": self.runtime.as_dict(),
                "environments": self.environments,
                "image_size": list(self.data.settings.image_size),
                **({"code": sources(self.settings.code)} if self.settings.code else {}),
            },
        )

    def restore(self, checkpoint: Checkpoint) -> None:
        """Go on from a checkpoint, bit for bit."""
        self.records = [EpochRecord(**record) for record in checkpoint.records]
        before = list(checkpoint.about["environments"])
        self.environments = before if self.environments[0] in before else before + self.environments
        self.network.load_arrays(checkpoint.model)
        moments = {place: torch.from_numpy(array) for place, array in checkpoint.optimizer.items()}
        self.optimizer.load_state_dict(moments)
        self.weighting_optimizer.load_state_dict(
            {p.removeprefix(LEARNED): a for p, a in moments.items() if p.startswith(LEARNED)}
        )
        self.loss.weighting.load_state_dict({name: torch.from_numpy(a) for name, a in checkpoint.weighting.items()})
        for place, numbers in checkpoint.per_image.items():
            epoch, _, name = place.partition("/")
            self.per_image.setdefault(int(epoch), {})[name] = numbers

    def result(self) -> RunResult:
        """Judge the finished run on every validation picture."""
        found = self.validated or self._evaluate(self.val_part, self.panels)
        outcome, reason = judge(self.records, found.prediction_spread, found.truth_spread, self.median_rmse)
        keys = self.data.keys("val")
        panels, before = self._panels(keys, found.kept), self.per_image.get(self.epoch - 1, {})
        return RunResult(outcome, reason, self.epoch, keys, found.per_image, panels, before)

    def judge_test(self) -> SplitResult | None:
        """Every term and metric on the test pictures; None where there are none."""
        keys = self.data.keys("test")
        if not keys:
            return None
        found = self._evaluate(self.data.pictures("test", self.runtime.device), ())
        return SplitResult(keys, found.means, found.per_image)

    def _panels(self, keys: tuple[str, ...], prediction: Tensor) -> Panels:
        batch = self.val_part.take(torch.tensor(self.panels, device=self.val_part.rows.device))
        return Panels(
            keys=tuple(keys[index] for index in self.panels),
            image=_array(batch.images.permute(0, 2, 3, 1)),
            truth=_array(batch.depth[:, 0]),
            mask=_array(batch.mask[:, 0]),
            prediction=_array(prediction[:, 0]),
        )


@dataclass(frozen=True)
class _Steps:
    """An epoch's training as numbers: a row a step of total, gradient norm and the unweighted terms."""

    terms: tuple[str, ...]
    rows: list[list[float]]

    def norms(self) -> dict[str, Any]:
        """Median, 95th percentile and maximum of the finite steps' gradient norms; the number of the others."""
        finite = [row[1] for row in self.rows if math.isfinite(row[0]) and math.isfinite(row[1])]
        p95 = float(np.percentile(finite, 95)) if finite else math.nan
        return {
            "grad_norm_median": statistics.median(finite) if finite else math.nan,
            "grad_norm_p95": p95,
            "grad_norm_max": max(finite, default=math.nan),
            "non_finite_steps": len(self.rows) - len(finite),
        }

    def term_means(self) -> dict[str, float]:
        """Each unweighted term's mean over the steps."""
        _, _, *columns = zip(*self.rows, strict=True)
        return {name: statistics.fmean(values) for name, values in zip(self.terms, columns, strict=True)}

    def find_break(self, weights: dict[str, float]) -> dict[str, Any] | None:
        """The first step whose loss or gradient isn't finite, and the first weighted term that isn't."""
        for step, (total, norm, *values) in enumerate(self.rows, start=1):
            if math.isfinite(total) and math.isfinite(norm):
                continue
            broken = [name for name, value in zip(self.terms, values, strict=True) if not math.isfinite(value)]
            broken.sort(key=lambda name: not weights[name])  # those that count come first
            return {"step": step, "term": broken[0] if broken else "gradient", "grad_norm": norm}
        return None


# ---- what it is made of -----------------------------------------------------------------------------------------


def _build_network(
    settings: RunSettings, median: float, runtime: Runtime, image_size: tuple[int, int], weights: Path | None
) -> DepthNetwork:
    """The network at its start; drawn on the CPU, so that it is the same on every device."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        network = DepthNetwork(settings.model, settings.depth_range, image_size)
    network.start_at(median)
    if weights is not None and isinstance(settings.model.pretrained, str):
        network.load_pretrained(weights_file(weights, settings.model.pretrained))
    return network.to(runtime.device).to(memory_format=memory_format(runtime))  # type: ignore[call-overload]


def _array(tensor: Tensor) -> np.ndarray:
    """A copy of its own, so that it stays what it is while training goes on; laid out as it lies, which is quickest."""
    here = tensor.detach().cpu().numpy()
    return here if tensor.device.type != "cpu" else np.array(here)
