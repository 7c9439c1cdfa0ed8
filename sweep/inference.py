"""`sweep evaluate`: a saved model on a source of pictures, beside the trivial predictors on the same pixels."""

from pathlib import Path
from typing import Any

from data.prepare import PARTS, prepare
from data.settings import DataSettings
from model.baselines import evaluate_baselines
from model.predict import evaluate_checkpoint
from model.settings import LossSettings
from sweep.display import ProgressDisplay
from sweep.errors import SpecError
from sweep.paths import Home


def evaluate_source(checkpoint: Path, settings: DataSettings, part: str, home: Home) -> dict[str, Any]:
    """Metrics of the model, the training median and the training mean map on one part of a source."""
    if part not in PARTS:
        raise SpecError(f"--part {part!r}: expected one of {', '.join(PARTS)}")
    with ProgressDisplay() as show:
        prepared = prepare(settings, home.cache, show.preparing)
    images = len(prepared.split.part(part))
    if not images:
        raise SpecError(f"the source {settings.source} has no {part} pictures: choose another with --part")
    baselines = evaluate_baselines(prepared, LossSettings.model_validate({}))[part]
    trivial = {name: _metrics(values) for name, values in baselines.items()}
    model = _metrics(evaluate_checkpoint(checkpoint, prepared, part))
    return {"part": part, "images": images, "model": model, **trivial}


def _metrics(values: dict[str, float]) -> dict[str, float]:
    return {key.removeprefix("metric_"): value for key, value in values.items() if key.startswith("metric_")}
