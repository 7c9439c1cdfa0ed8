"""`sweep evaluate` and `sweep predict`: a saved model on a source of pictures, and on photographs."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from data.prepare import PARTS, prepare
from model.baselines import evaluate_baselines
from model.predict import (
    Predicted,
    evaluate_checkpoint,
    is_prediction,
    load_model,
    predict_images,
    prediction_paths,
)
from model.settings import LossSettings
from sweep.display import ProgressDisplay
from sweep.errors import SpecError
from sweep.outputs import check_outputs
from sweep.paths import Home
from sweep.spec import parse_data_settings


def evaluate_source(
    checkpoint: Path, source: str, overrides: Mapping[str, Any], part: str, home: Home
) -> dict[str, Any]:
    """Metrics of the model, the training median and the training mean map on one part of a source.

    Size and depth range are those the model was trained at, unless overridden.
    """
    if part not in PARTS:
        raise SpecError(f"--part {part!r}: expected one of {', '.join(PARTS)}")
    model_file = load_model(checkpoint)
    trained = {"image_size": list(model_file.image_size), "depth_range": list(model_file.settings.depth_range)}
    settings = parse_data_settings(source, trained | {k.removeprefix("data."): v for k, v in overrides.items()})
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


def predict_photos(checkpoint: Path, photos: Sequence[Path], folder: Path, force: bool) -> Iterator[Predicted]:
    """As `predict_images`, once it is sure that nothing is destroyed: neither photographs nor their measured depth."""
    measured = [
        path for photo in photos for path, _ in prediction_paths([photo], photo.parent) if not is_prediction(path)
    ]
    outputs = [path for pair in prediction_paths(photos, folder) for path in pair]
    check_outputs(outputs, is_prediction, [checkpoint, *photos, *measured], force)
    return predict_images(checkpoint, photos, folder)
