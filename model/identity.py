"""What a run is known by: the hash of everything that determines its numbers. No torch here."""

import hashlib
import json

from depth_loss_sweep.model.runtime import Runtime
from depth_loss_sweep.model.settings import RunSettings

TRAINING_VERSION = 2
"""Raised when the same settings give other numbers than before; part of every run's identity."""


def run_identity(settings: RunSettings, runtime: Runtime, data_identity: str) -> str:
    """The hash (sha256, hex) of what determines a run's numbers; `environment_key` says the rest.

    Without the number of epochs where the rate is constant: a longer run then extends a shorter one.
    """
    train = settings.train.model_dump(exclude={"threads", "deterministic", "precision", "keep"})
    if settings.train.schedule == "constant":
        del train["epochs"]
    parts = {
        "version": TRAINING_VERSION,
        "data": data_identity,
        "model": settings.model.model_dump(),
        "train": train,
        "loss": settings.loss.model_dump() | {"ssim_data_range": settings.ssim_data_range},
        "weights": settings.weights,
        "seed": settings.seed,
        "depth_range": settings.depth_range,
        "precision": runtime.precision,
        "memory_format": runtime.memory_format,
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
