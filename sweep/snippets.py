"""What a study found, as Python for somebody's own training loop."""

from depth_loss_sweep.errors import StudyError
from depth_loss_sweep.model.settings import LossSettings
from depth_loss_sweep.reports.naming import spec_recipe
from depth_loss_sweep.spec_file import stored_spec
from depth_loss_sweep.store import Store
from depth_loss_sweep.usercode import Reference

TEXT = '''# {about}
{imports}

{loss}
def training_loss(depth, target, mask, image):
    """The total: depth and target are metres (B, 1, H, W), mask is true where target holds, image is (B, 3, H, W) in [0, 1]."""
    return {total}
'''


def loss_snippet(store: Store, name: str, trial: int) -> str:
    """The loss of a trial, as a text that runs in a plain PyTorch loop."""
    row = store.require(name)
    spec, asked = stored_spec(row, store.shown_url), {t["number"]: t for t in store.trials(name)}
    settings = spec.settings_at(asked[trial]["params"])[1][0]
    if settings.loss.weighting != "fixed":
        raise StudyError(
            f"the loss of trial {trial} of {name!r} is weighted by a rule while it trains ({settings.loss.weighting}): its weights are no "
            f"numbers to be printed"
        )
    given = {term: weight for term, weight in settings.weights.items() if weight}
    tables = {term: table for term, table in settings.loss.own.items() if term in given}
    own = {term: table for term, table in tables.items() if table.built_in is None}
    weights = {term: weight for term, weight in given.items() if term not in own}
    defaults = LossSettings()
    options = {"data_range": settings.ssim_data_range} | {
        key: value
        for key, value in settings.loss.model_dump(exclude={"own", "ssim_data_range"}).items()
        if value != getattr(defaults, key)
    }
    if renamed := {term: table for term, table in tables.items() if table.built_in}:
        options["own"] = {
            term: table.model_dump(mode="json", include={"function", "options"}) for term, table in renamed.items()
        }
    loss, total, imports = "", [], []
    if weights:
        shown = ", ".join(f"{key}={value!r}" for key, value in options.items())
        loss, total = f"loss = CombinedLoss({weights}, {shown})\n\n", ["loss(depth, target, mask, image)[0]"]
    for term, made in own.items():
        reference = Reference.parse(made.function)
        assert reference is not None
        imports.append(f"from {_module(reference)} import {reference.name}{f' as {term}' * (term != reference.name)}")
        options_of_own = "".join(f", {key}={value!r}" for key, value in made.options.items())
        total.append(f"{given[term]!r} * own_loss({term}, depth, target, mask, image{options_of_own})")
    ours = ", ".join(["CombinedLoss"] * bool(weights) + ["own_loss"] * bool(own))
    return TEXT.format(
        about=f"trial {trial} of the study {name}: {spec_recipe(given, asked[trial]['params'])}",
        imports="\n".join([f"from depth_loss_sweep import {ours}", *imports]),
        loss=loss,
        total=" + ".join(total),
    )


def _module(reference: Reference) -> str:
    """What it is imported by: a file of a package by that package's path."""
    path = reference.module.removesuffix("/__init__.py").removesuffix(".py")
    return path.replace("/", ".") if reference.is_file else reference.module
