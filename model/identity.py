"""What a run is known by: the hash of everything that determines its numbers. No torch here."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from depth_loss_sweep.data.settings import Settings
from depth_loss_sweep.model.names import ALL_TERMS, NETWORKS, WEIGHTINGS, network_entry
from depth_loss_sweep.model.runtime import Runtime
from depth_loss_sweep.model.settings import LossSettings, ModelSettings, OwnMetric, OwnTerm, RunSettings
from depth_loss_sweep.registry import options_of
from depth_loss_sweep.usercode import options_stated

TRAINING_VERSION = 2
"""Raised when the same settings give other numbers than before; part of every run's identity."""

CAME_LATER = ("network", "pretrained", "freeze", "learning_rate_scale", "decoder_channels", "options")
"""Keys of [model] that runs were known without."""


def run_identity(settings: RunSettings, runtime: Runtime, data_identity: str) -> str:
    """The hash (sha256, hex) of what determines a run's numbers; `environment_key` says the rest.

    Without the number of epochs where the rate is constant: a longer run then extends a shorter one.
    """
    train = settings.train.model_dump(exclude={"threads", "deterministic", "precision", "keep"})
    if settings.train.schedule == "constant":
        del train["epochs"]
    if not settings.train.augment_copies:
        del train["augment_copies"]  # it came later
    # A further term that the study doesn't name is neither computed nor named here; one that it names is both, even at weight 0.
    own = {name: term for name, term in settings.loss.own.items() if not _says_nothing(name, settings.loss)}
    terms = {term: ALL_TERMS[term] for term in settings.weights if term not in own}
    in_use = options_of(terms, {"": WEIGHTINGS[settings.loss.weighting]})
    parts: dict[str, Any] = {
        "version": TRAINING_VERSION,
        "data": data_identity,
        "model": _network(settings.model),
        "train": train,
        "loss": _stated(settings.loss, options_of(ALL_TERMS, WEIGHTINGS), in_use)
        | {"ssim_data_range": settings.ssim_data_range},
        "weights": settings.weights,
        "seed": settings.seed,
        "depth_range": settings.depth_range,
        "precision": runtime.precision,
        "memory_format": runtime.memory_format,
    }
    if settings.metrics:
        parts["metrics"] = settings.metrics
    parts["loss"].pop("own", None)
    if own:
        parts["loss"]["own"] = {name: _own_term(name, settings.loss) for name in own}
    if settings.own_metrics:
        parts["own_metrics"] = {name: _own(metric) for name, metric in settings.own_metrics.items()}
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def run_key(identity: str, environment: str, epochs: int) -> str:
    """The name of a run and of its folder. An identity may leave the epochs out, a result may not: it depends on them."""
    return hashlib.sha256(f"{identity}|{environment}|{epochs}".encode()).hexdigest()[:32]


def _says_nothing(name: str, loss: LossSettings) -> bool:
    """Whether a table of `[terms]` names a built-in term as it is called anyway, and changes nothing of it."""
    return loss.built_in(name) == name and loss.as_seen_by(name) == loss


def _own_term(name: str, loss: LossSettings) -> dict[str, Any]:
    """What determines a term of `[terms]`; of a built-in one by another name the options that it goes by, wherever they stand."""
    term = loss.own[name]
    if term.built_in is None:
        return _own(term)
    seen, fields = loss.as_seen_by(name), type(loss).model_fields
    options = {key: getattr(seen, key) for key in term.built_in.keys}
    return {"function": term.function, "options": {k: v for k, v in options.items() if v != fields[k].default}}


def _own(own: OwnTerm | OwnMetric) -> dict[str, Any]:
    """What determines a term or metric of the user's own: neither its label nor its unit."""
    found = {"function": own.function, "options": options_stated(own.function, own.options)}
    # By which infinity a broken prediction is the worst; lower, the default, goes without saying.
    return found | ({"better": own.better} if isinstance(own, OwnMetric) and own.better != "lower" else {})


def _network(settings: ModelSettings) -> dict[str, Any]:
    """What determines a network, without the keys that only others have; what came later goes without saying by default."""
    entry = network_entry(settings.network)
    stated = _stated(settings, options_of(NETWORKS), entry.options)
    others = {key for line in NETWORKS.values() for key in line.own_keys} - {*entry.own_keys}
    fields = type(settings).model_fields
    unsaid = others | {key for key in CAME_LATER if getattr(settings, key) == fields[key].default}
    found = {key: value for key, value in stated.items() if key not in unsaid}
    if settings.is_own:
        found["options"] = options_stated(settings.network, settings.options)
    return found


def _stated(settings: Settings, options: Mapping[str, Any], in_use: Mapping[str, Any]) -> dict[str, Any]:
    """Settings without the registries' options that are not in use or have their default: they may have come later."""
    fields = type(settings).model_fields
    left_out = {key for key in options if key not in in_use or getattr(settings, key) == fields[key].default}
    return settings.model_dump(exclude=left_out)
