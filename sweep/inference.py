"""`sweep evaluate` and `sweep predict`: a saved model on a source of pictures, and on photographs."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from uuid import uuid4

from depth_loss_sweep.data.errors import DataError
from depth_loss_sweep.data.prepare import PARTS, Prepared, open_prepared, prepare, prepare_whole
from depth_loss_sweep.display import ProgressDisplay
from depth_loss_sweep.errors import SpecError
from depth_loss_sweep.model.baselines import evaluate_baselines, judge_beside
from depth_loss_sweep.model.names import BASELINES, FURTHER_METRICS
from depth_loss_sweep.model.predict import (
    Predicted,
    evaluate_checkpoint,
    is_prediction,
    load_model,
    predict_images,
    prediction_paths,
)
from depth_loss_sweep.model.settings import LossSettings
from depth_loss_sweep.outputs import check_outputs
from depth_loss_sweep.paths import Home
from depth_loss_sweep.spec_file import parse_data_settings
from depth_loss_sweep.store import Store
from depth_loss_sweep.trust import require_trusted_model
from depth_loss_sweep.usercode import as_guest
from depth_loss_sweep.words import counted

ALL = "all"
"""The part that is every picture of a source."""

DEFAULT_LOSS = LossSettings.model_validate({})


def evaluate_source(
    checkpoint: Path, source: str, overrides: Mapping[str, Any], part: str, home: Home, storage: str | None = None
) -> dict[str, Any]:
    """Metrics of the model, the training median and the training mean map on one part of a source, or on all of it.

    Size and depth range are those the model was trained at, unless overridden. The predictors are None where the source
    has no training pictures to fit them to; "note" says so, or what else is to be known of them. "read_before" is how often the
    test pictures among these were read before, as the home's database counts; None where there are none. "units" are those of the
    metrics of the user's own, where there are any.
    """
    if part not in (*PARTS, ALL):
        raise SpecError(f"--part {part!r}: expected one of {', '.join(PARTS)}, {ALL}")
    require_trusted_model(checkpoint)
    model_file = load_model(checkpoint)
    trained = {"image_size": list(model_file.image_size), "depth_range": list(model_file.settings.depth_range)}
    settings = parse_data_settings(source, trained | {k.removeprefix("data."): v for k, v in overrides.items()})
    with ProgressDisplay() as show:
        prepared = (prepare_whole if part == ALL else prepare)(settings, home.cache, show.preparing)
    judged = "test" if part == ALL else next(name for name in PARTS if name == part)
    images = len(prepared.split.part(judged))
    if not images:
        raise SpecError(f"the source {settings.source} has no {part} pictures: choose another with --part")
    before = _read_test(checkpoint, prepared, part, home, storage)
    with as_guest():
        model = _metrics(evaluate_checkpoint(checkpoint, prepared, judged))
    own = model_file.settings.own_metrics
    asked = {
        "metrics": [metric for metric in FURTHER_METRICS if metric in model and metric not in own],
        "own_metrics": own,
    }
    with as_guest():
        trivial, note = _beside_all(prepared, home, asked) if part == ALL else _beside(prepared, judged, asked)
    units = {"units": {name: metric.unit for name, metric in own.items()}} if own else {}
    return {"part": part, "images": images, "note": note, "read_before": before, **units, "model": model, **trivial}


def _read_test(checkpoint: Path, prepared: Prepared, part: str, home: Home, storage: str | None) -> int | None:
    """Count that test pictures are read, among all of them those of the source's own split; how often they were before."""
    if part == ALL:
        try:
            prepared = open_prepared(prepared.settings, home.cache, prepared.dataset.fingerprint)
        except DataError:  # it cannot be split, so that none are set aside
            return None
    if part not in ("test", ALL) or not prepared.keys("test"):
        return None
    store = Store.open(home, storage, create=True)
    return store.read_test(prepared.test_fingerprint, uuid4().hex, f"sweep evaluate {checkpoint.name}")


Trivial = dict[str, dict[str, float] | None]


def _beside(prepared: Prepared, part: Any, asked: Mapping[str, Any]) -> tuple[Trivial, str | None]:
    if not len(prepared.split.train):
        return _unfitted("the source has no training pictures")
    predictors = evaluate_baselines(prepared, DEFAULT_LOSS, **asked)[part]
    return {name: _metrics(values) for name, values in predictors.items()}, None


def _beside_all(whole: Prepared, home: Home, asked: Mapping[str, Any]) -> tuple[Trivial, str | None]:
    """The predictors on all pictures, fitted to those that the source's own split would train on."""
    try:
        split = open_prepared(whole.settings, home.cache, whole.dataset.fingerprint)
    except DataError as error:
        return _unfitted(str(error))
    count = len(split.split.train)
    if not count:
        return _unfitted("the source has no training pictures")
    predictors = judge_beside(split, whole, "test", DEFAULT_LOSS, **asked)
    note = f"median and mean_map were fitted to the {counted(count, 'training picture')} among all"
    return {name: _metrics(values) for name, values in predictors.items()}, note


def _unfitted(why: str) -> tuple[Trivial, str]:
    return dict.fromkeys(BASELINES), f"median and mean_map could not be fitted: {why}"


def _metrics(values: dict[str, float]) -> dict[str, float]:
    return {key.removeprefix("metric_"): value for key, value in values.items() if key.startswith("metric_")}


def predict_photos(checkpoint: Path, photos: Sequence[Path], folder: Path, force: bool) -> Iterator[Predicted]:
    """As `predict_images`, once it is sure that nothing is destroyed: neither photographs nor their measured depth."""
    measured = [
        path for photo in photos for path, _ in prediction_paths([photo], photo.parent) if not is_prediction(path)
    ]
    outputs = [path for pair in prediction_paths(photos, folder) for path in pair]
    check_outputs(outputs, is_prediction, [checkpoint, *photos, *measured], force)
    require_trusted_model(checkpoint)
    return _as_guest(predict_images(checkpoint, photos, folder))


def _as_guest(predictions: Iterator[Predicted]) -> Iterator[Predicted]:
    while True:
        with as_guest():
            predicted = next(predictions, None)
        if predicted is None:
            return
        yield predicted
