"""Numbers of runs that nobody trains; apart from all else, since every worker that makes them up imports it."""

from typing import Any

from depth_loss_sweep.model.names import EXTRA_METRICS, METRICS, TERMS


def made_up(settings: dict[str, Any], epoch: int) -> dict[str, Any]:
    """An epoch record with numbers that depend on weights, seed and epoch."""
    weights = settings["weights"]
    value = 1.0 + 0.3 * (weights["ssim"] - 0.4) ** 2 + 0.02 * settings["seed"] + 0.5 / epoch
    names = ("total", *(f"term_{t}" for t in TERMS), *(f"metric_{m}" for m in (*METRICS, *EXTRA_METRICS)))
    return {
        "epoch": epoch,
        "splits": {split: dict.fromkeys(names, value) for split in ("train", "val")},
        "learning_rate": 1e-3,
        "weights": weights,
        "gradient_share": dict.fromkeys(TERMS, 0.2),
        **dict.fromkeys(("grad_norm_median", "grad_norm_p95", "grad_norm_max"), 1.0),
        "non_finite_steps": 0,
        "images_per_second": 100.0,
        "seconds": 1.0,
        "break_": None,
    }


MADE_UP = {"outcome": "learnt", "reason": "made up", "host": "here", "per_image": {}}
"""How each of them ends."""
