"""One training: `train` yields a record an epoch, checkpoints each before it says so, and goes on exactly where it was.

    for record in train(settings, prepared, Path("runs/a1/a1b2..."), resolve_runtime("cpu", settings.train)):
        print(record.epoch, record.splits["val"]["metric_rmse"])

It knows nothing of Optuna, SQLite or the command line. Nothing random is carried from step to step: batch order and
augmentation come from (seed, epoch, step), so that a killed run and an undisturbed one give the same bits.
"""

import hashlib
import json
import logging
import math
import statistics
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from data.augment import augment
from data.prepare import Batch, Prepared
from model.baselines import fit_baselines
from model.checkpoint import Checkpoint, Note, load_checkpoint, lock_folder, save_checkpoint
from model.evaluation import Evaluation, as_input, combined_loss, evaluate, forward, predict, ssim_data_range, take
from model.metrics import depth_metrics
from model.names import TERMS
from model.outcomes import EpochRecord, Panels, RunResult, judge, load_result, write_result
from model.runtime import Runtime, apply_runtime, environment_key, resolve_runtime
from model.settings import RunSettings
from model.unet import UNet

__all__ = [
    "EpochRecord",
    "RunResult",
    "Runtime",
    "environment_key",
    "load_result",
    "resolve_runtime",
    "run_identity",
    "train",
]

TRAINING_VERSION = 2
"""Raised when the same settings give other numbers than before; part of every run's identity."""

PANELS = 6
"""How many validation pictures are kept with their prediction."""

logger = logging.getLogger("model.training")


def never() -> bool:
    """The default `should_stop`: go on."""
    return False


def run_identity(settings: RunSettings, runtime: Runtime, data_identity: str) -> str:
    """The hash (sha256, hex) of what determines a run's numbers; `environment_key` says the rest.

    Without the number of epochs where the rate is constant: a longer run then extends a shorter one.
    """
    train = settings.train.model_dump(exclude={"threads", "deterministic", "precision"})
    if settings.train.schedule == "constant":
        del train["epochs"]
    parts = {
        "version": TRAINING_VERSION,
        "data": data_identity,
        "model": settings.model.model_dump(),
        "train": train,
        "loss": settings.loss.model_dump() | {"ssim_data_range": ssim_data_range(settings)},
        "weights": settings.weights,
        "seed": settings.seed,
        "depth_range": settings.depth_range,
        "precision": runtime.precision,
        "memory_format": runtime.memory_format,
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def train(
    settings: RunSettings,
    data: Prepared,
    folder: Path,
    runtime: Runtime,
    should_stop: Callable[[], bool] = never,
    on_note: Note = logger.warning,
) -> Generator[EpochRecord, None, RunResult | None]:
    """Train a run in `folder`, yielding one record an epoch; return its result, or None if it was told to stop.

    Records already in the checkpoint come first, so taking them in must be idempotent; a new one is yielded when its
    checkpoint is on disk. `should_stop` is asked after every step; the epoch under way is then given up. After a
    non-finite epoch training ends with that outcome. `on_note` is told in a line of checkpoints that were damaged.

    Raises RunLockedError if another process trains there, ModelError if the folder belongs to another run, OSError if
    the disk fails.
    """
    identity, epochs = run_identity(settings, runtime, data.identity), settings.train.epochs
    with lock_folder(folder):
        checkpoint = load_checkpoint(folder, identity, on_note)
        known = [EpochRecord(**record) for record in checkpoint.records[:epochs]] if checkpoint else []
        yield from known
        if known and (len(known) == epochs or known[-1].break_):
            result = load_result(folder, on_note)
            if result and result.epochs == len(known):
                return result
        training = _Training(settings, data, runtime)
        is_shorter = checkpoint is not None and checkpoint.epoch > epochs
        if checkpoint and not is_shorter:
            training.restore(checkpoint)
        # Where a run of a constant rate is longer than asked for, its files are left alone and the epochs asked for are
        # trained again, for the result after them.
        while training.epoch < epochs and not training.is_broken:
            record = training.advance(should_stop)
            if record is None:
                return None
            if record.epoch > len(known):
                save_checkpoint(folder, training.checkpoint(identity))
                yield record
        result = training.result()
        if not is_shorter:
            write_result(folder, result)
        return result


# ---- the loop ---------------------------------------------------------------------------------------------------


class _Training:
    """A network on its way through the epochs, with its data on the device."""

    def __init__(self, settings: RunSettings, data: Prepared, runtime: Runtime) -> None:
        apply_runtime(runtime, settings.train)
        self.settings, self.runtime, self.data = settings, runtime, data
        self.environments = [environment_key(runtime, settings.train)]
        self.records: list[EpochRecord] = []
        self.train_part = data.tensors("train", runtime.device)
        self.val_part = data.tensors("val", runtime.device)
        chosen = _fixed_draw(len(self.train_part.images), settings.train.eval_images)
        self.eval_part = take(self.train_part, chosen.to(runtime.device))
        self.median = fit_baselines(self.train_part.depth, self.train_part.mask).median
        self.network = _build_network(settings, self.median, runtime)
        self.optimizer = _build_optimizer(self.network, settings)
        self.loss = combined_loss(settings).to(runtime.device)

    @property
    def epoch(self) -> int:
        """How many epochs are done."""
        return len(self.records)

    @property
    def is_broken(self) -> bool:
        """Whether the last epoch became non-finite."""
        return bool(self.records) and self.records[-1].break_ is not None

    def advance(self, should_stop: Callable[[], bool]) -> EpochRecord | None:
        """Train and evaluate one more epoch; None if told to stop on the way."""
        apply_runtime(self.runtime, self.settings.train)
        start = time.perf_counter()
        epoch = self.epoch + 1
        table = self._train_epoch(epoch, should_stop)
        if table is None:
            return None
        steps = _Steps(table.tolist())  # the one wait for the device in an epoch's training
        trained = time.perf_counter() - start
        found = {"train": self._evaluate(self.eval_part), "val": self._evaluate(self.val_part)}
        record = EpochRecord(
            epoch=epoch,
            splits={name: evaluation.means for name, evaluation in found.items()},
            learning_rate=self._learning_rate((epoch - 1) * len(table)),
            weights=self.settings.weights,
            gradient_share=self._gradient_share(),
            images_per_second=len(table) * self.batch_size / trained,
            seconds=time.perf_counter() - start,
            break_=self._find_break(steps, found),
            **steps.norms(),
        )
        self.records.append(record)
        return record

    @property
    def batch_size(self) -> int:
        """As asked for, or all there is."""
        return min(self.settings.train.batch_size, len(self.train_part.images))

    def _train_epoch(self, epoch: int, should_stop: Callable[[], bool]) -> torch.Tensor | None:
        """All steps of an epoch; a row a step: total, gradient norm, terms. Nothing here waits for the device."""
        order = _batches(len(self.train_part.images), self.batch_size, stream_seed(self.settings.seed, epoch))
        order = order.to(self.runtime.device, non_blocking=True)
        table = torch.empty(len(order), 2 + len(TERMS), device=self.runtime.device)
        self.network.train()
        for step, chosen in enumerate(order):
            for group in self.optimizer.param_groups:
                group["lr"] = self._learning_rate((epoch - 1) * len(order) + step)
            table[step] = self._step(chosen, stream_seed(self.settings.seed, epoch, step))
            if should_stop():
                return None
        return table

    def _step(self, chosen: torch.Tensor, seed: int) -> torch.Tensor:
        settings = self.settings.train
        batch = take(self.train_part, chosen)
        images, depth, mask = augment(
            as_input(batch.images),
            batch.depth,
            batch.mask,
            settings.augment,
            settings.brightness,
            settings.contrast,
            seed,
        )
        total, terms = self.loss(forward(self.network, images, self.runtime), depth, mask, images)
        self.optimizer.zero_grad(set_to_none=True)
        total.backward()
        gradients = [parameter.grad for parameter in self.network.parameters() if parameter.grad is not None]
        norm = torch.nn.utils.get_total_norm(gradients)
        if settings.clip_norm is not None:
            torch.nn.utils.clip_grads_with_norm_(self.network.parameters(), settings.clip_norm, norm)
        self.optimizer.step()
        return torch.stack([total.detach(), norm, *(terms[name].detach() for name in TERMS)])

    def _learning_rate(self, step: int) -> float:
        """The rate of a step, counted from 0 through all epochs; the cosine reaches 0 where the last epoch ends."""
        train = self.settings.train
        if train.schedule == "constant":
            return train.learning_rate
        steps = train.epochs * _steps_per_epoch(len(self.train_part.images), self.batch_size)
        return train.learning_rate * 0.5 * (1 + math.cos(math.pi * step / steps))

    # ---- looking at it ------------------------------------------------------------------------------------------

    def _evaluate(self, part: Batch) -> Evaluation:
        batch_size = self.settings.train.batch_size
        return evaluate(self.network, self.loss, self.settings.weights, part, batch_size, self.runtime)

    def _find_break(self, steps: "_Steps", evaluations: dict[str, Evaluation]) -> dict[str, Any] | None:
        """Where the epoch became non-finite, or None."""
        found = steps.find_break(self.settings.weights)
        if found is None and not all(evaluation.is_finite for evaluation in evaluations.values()):
            # The last update itself ruined the network: no later step was there to notice.
            return {"step": len(steps.rows), "term": "prediction", "grad_norm": steps.rows[-1][1]}
        return found

    def _gradient_share(self) -> dict[str, float]:
        """Each weighted term's share of the gradient norms by the prediction, on the first pictures of the draw."""
        batch = Batch(*(tensor[: self.batch_size] for tensor in vars(self.eval_part).values()))
        images = as_input(batch.images)
        prediction = predict(self.network, batch.images, self.runtime).requires_grad_()
        _, terms = self.loss(prediction, batch.depth, batch.mask, images)
        norms = torch.zeros(len(TERMS), device=prediction.device)
        for place, name in enumerate(TERMS):
            if weight := self.settings.weights[name]:
                (gradient,) = torch.autograd.grad(terms[name], prediction, retain_graph=True)
                norms[place] = weight * gradient.norm()
        return dict(zip(TERMS, (norms / norms.sum()).tolist(), strict=True))

    # ---- its state ----------------------------------------------------------------------------------------------

    def checkpoint(self, identity: str) -> Checkpoint:
        """All that `restore` needs."""
        state = self.optimizer.state_dict()["state"]
        return Checkpoint(
            identity=identity,
            settings=self.settings.model_dump(mode="json"),
            epoch=self.epoch,
            records=[record.as_dict() for record in self.records],
            model={name: _array(value) for name, value in self.network.state_dict().items()},
            optimizer={f"{i}/{name}": _array(value) for i, values in state.items() for name, value in values.items()},
            about={
                "runtime": self.runtime.as_dict(),
                "environments": self.environments,
                "image_size": list(self.data.settings.image_size),
            },
        )

    def restore(self, checkpoint: Checkpoint) -> None:
        """Go on from a checkpoint, bit for bit."""
        self.records = [EpochRecord(**record) for record in checkpoint.records]
        before = list(checkpoint.about["environments"])
        self.environments = before if self.environments[0] in before else before + self.environments
        self.network.load_state_dict({name: torch.from_numpy(array) for name, array in checkpoint.model.items()})
        parameters = list(self.network.parameters())
        state: dict[int, dict[str, torch.Tensor]] = {}
        for place, array in checkpoint.optimizer.items():
            number, _, name = place.partition("/")
            value, parameter = torch.from_numpy(array), parameters[int(number)]
            # In the parameter's memory format: the fused optimiser walks both in the order of memory.
            laid_out = torch.empty_like(parameter, requires_grad=False).copy_(value) if value.dim() else value
            state.setdefault(int(number), {})[name] = laid_out
        self.optimizer.load_state_dict(self.optimizer.state_dict() | {"state": state})

    def result(self) -> RunResult:
        """Evaluate the finished run on every validation picture and judge it."""
        found = self._evaluate(self.val_part)
        outcome, reason = judge(self.records, found.prediction_spread, found.truth_spread, self._median_rmse())
        keys = self.data.keys("val")
        return RunResult(outcome, reason, self.epoch, keys, found.per_image, self._panels(keys))

    def _median_rmse(self) -> float:
        """Validation rmse of the training-median predictor."""
        part = self.val_part
        return float(depth_metrics(torch.full_like(part.depth, self.median), part.depth, part.mask)["rmse"])

    def _panels(self, keys: tuple[str, ...]) -> Panels:
        chosen = np.unique(np.linspace(0, len(keys) - 1, PANELS).round().astype(int))
        batch = take(self.val_part, torch.from_numpy(chosen).to(self.runtime.device))
        prediction = predict(self.network, batch.images, self.runtime)
        return Panels(
            keys=tuple(keys[index] for index in chosen),
            image=_array(batch.images.permute(0, 2, 3, 1)),
            truth=_array(batch.depth[:, 0]),
            mask=_array(batch.mask[:, 0]),
            prediction=_array(prediction[:, 0]),
        )


@dataclass(frozen=True)
class _Steps:
    """An epoch's training as numbers: a row a step of total, gradient norm and the unweighted terms."""

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

    def find_break(self, weights: dict[str, float]) -> dict[str, Any] | None:
        """The first step whose loss or gradient isn't finite, and the first weighted term that isn't."""
        for step, (total, norm, *values) in enumerate(self.rows, start=1):
            if math.isfinite(total) and math.isfinite(norm):
                continue
            broken = [name for name, value in zip(TERMS, values, strict=True) if not math.isfinite(value)]
            broken.sort(key=lambda name: not weights[name])  # those that count come first
            return {"step": step, "term": broken[0] if broken else "gradient", "grad_norm": norm}
        return None


# ---- what it is made of -----------------------------------------------------------------------------------------


def stream_seed(*parts: int) -> int:
    """A seed for one use of randomness, from (seed, epoch) or (seed, epoch, step); unrelated for related parts."""
    return int.from_bytes(hashlib.blake2b(repr(parts).encode(), digest_size=8).digest()) >> 1


def _steps_per_epoch(count: int, batch_size: int) -> int:
    """The whole number of full batches nearest to the number of images."""
    return max(1, (2 * count + batch_size) // (2 * batch_size))


def _batches(count: int, batch_size: int, seed: int) -> torch.Tensor:
    """The epoch's order as (steps, batch_size) indices.

    Only full batches, so that every step weighs the same and has one shape: where the last is at least half full,
    it is filled from the start of the order, else left out (another few each epoch).
    """
    order = torch.randperm(count, generator=torch.Generator().manual_seed(seed))
    steps = _steps_per_epoch(count, batch_size)
    return order.repeat(2)[: steps * batch_size].view(steps, batch_size)


def _fixed_draw(count: int, limit: int) -> torch.Tensor:
    """The training images that are evaluated after each epoch: the same for every run on the same data."""
    return torch.randperm(count, generator=torch.Generator().manual_seed(0))[:limit]


def _build_network(settings: RunSettings, median: float, runtime: Runtime) -> UNet:
    """The network at its start; drawn on the CPU, so that it is the same on every device."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        network = UNet(settings.model, settings.depth_range)
    network.init_head_bias(median)
    return network.to(runtime.device).to(memory_format=runtime.torch_memory_format)  # type: ignore[call-overload]


def _build_optimizer(network: UNet, settings: RunSettings) -> torch.optim.Optimizer:
    train = settings.train
    kind = torch.optim.AdamW if train.optimizer == "adamw" else torch.optim.Adam
    # Fused is 1.6 to 4 times faster than the other two forms, on one CPU thread too.
    return kind(
        network.parameters(),
        lr=train.learning_rate,
        betas=(train.beta1, train.beta2),
        weight_decay=train.weight_decay,
        fused=True,
    )


def _array(tensor: torch.Tensor) -> np.ndarray:
    return tensor.detach().cpu().contiguous().numpy()
