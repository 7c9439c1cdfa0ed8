"""What a study's networks need before it is started: a package, sides that they take, and the weights that they begin with.

Those are fetched, or copied, into the home once, at start, and known from then on by their content: resume, predict and report
fetch nothing.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from depth_loss_sweep.data.settings import DataSettings
from depth_loss_sweep.errors import SpecError
from depth_loss_sweep.forecast import variants
from depth_loss_sweep.model.errors import ModelError
from depth_loss_sweep.model.names import network_entry, require_package
from depth_loss_sweep.model.settings import FILE, ModelSettings
from depth_loss_sweep.model.weights import (
    fetched_before,
    keep_weights,
    read_weights,
    remember_fetched,
    weights_file,
)
from depth_loss_sweep.paths import Home, expanded
from depth_loss_sweep.registry import load
from depth_loss_sweep.spec import StudySpec

PRETRAINED = "model.pretrained"


def settled(spec: StudySpec, home: Home) -> StudySpec:
    """The same spec, its pretrained weights in the home, and known by their content."""
    given = spec.model.pretrained
    if given is False:
        return spec
    if given is True:
        known_as = _published_of_all(spec, home)
    elif given.startswith(FILE):
        known_as = keep_weights(read_weights(expanded(given.removeprefix(FILE))), home.weights)
    else:
        known_as = given
    weights_file(home.weights, known_as)
    return replace(spec, model=spec.model.model_copy(update={"pretrained": known_as}))


def require_networks(spec: StudySpec, home: Home) -> None:
    """Raise ModelError where what a study trains needs a package, or weights, that are not here."""
    for parts in variants(spec):
        require_package(parts["model"].network)
    settled(spec, home)


def settled_overrides(spec: StudySpec, overrides: Mapping[str, Any]) -> dict[str, Any]:
    """What is laid over a spec's text so that it gives the settled one."""
    known_as = spec.model.pretrained
    return {**overrides, **({PRETRAINED: known_as} if isinstance(known_as, str) else {})}


def try_networks(spec: StudySpec, home: Home) -> None:
    """Raise ModelError where one of the networks cannot be built or does not take the pictures; imports torch only to find out."""
    tried: list[tuple[ModelSettings, DataSettings]] = []
    for parts in variants(spec):
        model: ModelSettings = parts["model"]
        is_plain = not (model.freeze or model.learning_rate_scale or model.pretrained)
        if model.is_own or (model, parts["data"]) in tried or (is_plain and not network_entry(model.network).package):
            continue
        from depth_loss_sweep.model.network import try_network

        known_as = model.pretrained
        weights = weights_file(home.weights, known_as) if isinstance(known_as, str) else None
        try_network(model, parts["data"].image_size, weights)
        tried.append((model, parts["data"]))


def _published_of_all(spec: StudySpec, home: Home) -> str:
    """The published weights that all networks of a study begin with: a study has one file of them, as part of what it is."""
    models = {_encoder_name(parts["model"]): parts["model"] for parts in variants(spec)}
    found: dict[str, str] = {}
    for name, model in models.items():
        found[_published(model, home)] = name
        if len(found) > 1:
            raise SpecError(
                f"{PRETRAINED} is true, and the networks that are swept ({' and '.join(found.values())}) have published weights of their "
                f"own, while a study begins with one file of them: start a study of each, and lay them side by side with sweep report A B"
            )
    return next(iter(found))


def _encoder_name(model: ModelSettings) -> str:
    """What is known by a name of its own as far as published weights go."""
    return f"{model.network} {model.options['encoder_name']}" if "encoder_name" in model.options else model.network


def _published(model: ModelSettings, home: Home) -> str:
    """The published weights of a network's encoder, fetched where they weren't before."""
    entry, network = network_entry(model.network), _encoder_name(model)
    if not entry.fetch:
        raise SpecError(
            f"{PRETRAINED} is true, and of {model.network} no weights are published: expected a file, as {PRETRAINED} = 'file:PATH'"
        )
    if known_as := fetched_before(home.weights, network):
        return known_as
    from safetensors.torch import save

    require_package(model.network)
    try:
        tensors = load(entry.fetch)(model)
    except ModelError:
        raise
    except Exception as error:  # of whatever downloads them
        said = " ".join(str(error).split())[:200]
        raise ModelError(
            f"the published weights of {model.network} cannot be fetched ({type(error).__name__}: {said}): try again, or give a "
            f"file, as {PRETRAINED} = 'file:PATH'"
        ) from error
    known_as = keep_weights(save({name: tensor.contiguous().clone() for name, tensor in tensors.items()}), home.weights)
    remember_fetched(home.weights, network, known_as)
    return known_as
