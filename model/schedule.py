"""What a run does when: the order of its pictures, its learning rate, its random streams. Pure functions of a few numbers."""

import hashlib
import math

import torch

from depth_loss_sweep.model.settings import TrainSettings


def stream_seed(*parts: int) -> int:
    """A seed for one use of randomness, from (seed, epoch), (seed, epoch, step) or (seed, 0, copy); unrelated for related parts."""
    return int.from_bytes(hashlib.blake2b(repr(parts).encode(), digest_size=8).digest()) >> 1


def steps_per_epoch(count: int, batch_size: int) -> int:
    """The whole number of full batches nearest to the number of pictures."""
    return max(1, (2 * count + batch_size) // (2 * batch_size))


def epoch_order(count: int, batch_size: int, seed: int, epoch: int, copies: int = 0) -> torch.Tensor:
    """The epoch's order, epochs counted from 1, as (steps, batch_size) numbers of pictures.

    With `copies` of each picture, number n is picture n % count, the original where n < count. An epoch stays as long: it
    is the next `count` numbers of a pass, and a pass, `copies` + 1 epochs, takes every original and every copy once.

    Only full batches, so that every step weighs the same and has one shape: where the last is at least half full,
    it is filled from the start of the epoch's order, else left out (another few each epoch).
    """
    passes, part = divmod(epoch - 1, copies + 1)
    generator = torch.Generator().manual_seed(stream_seed(seed, passes + 1))
    order = torch.randperm(count * (copies + 1), generator=generator)[part * count :][:count]
    steps = steps_per_epoch(count, batch_size)
    return order.repeat(2)[: steps * batch_size].view(steps, batch_size)


def fixed_draw(count: int, limit: int) -> torch.Tensor:
    """The training pictures that are evaluated after each epoch: the same for every run on the same data."""
    return torch.randperm(count, generator=torch.Generator().manual_seed(0))[:limit]


def learning_rate(train: TrainSettings, step: int, steps: int) -> float:
    """The rate of a step, counted from 0 through all epochs of `steps` each; the cosine ends at 0 with the last."""
    if train.schedule == "constant":
        return train.learning_rate
    return train.learning_rate * 0.5 * (1 + math.cos(math.pi * step / (train.epochs * steps)))
