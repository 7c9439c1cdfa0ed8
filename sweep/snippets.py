"""What a study found, as Python for somebody's own training loop."""

from depth_loss_sweep.errors import StudyError
from depth_loss_sweep.model.settings import LossSettings
from depth_loss_sweep.reports.naming import spec_recipe
from depth_loss_sweep.spec_file import stored_spec
from depth_loss_sweep.store import Store
from depth_loss_sweep.usercode import Reference

TEXT = '''# {about}
from depth_loss_sweep import CombinedLoss
{imports}
loss = CombinedLoss({weights}, {options})


def training_loss(depth, target, mask, image):
    """The total: depth and target are metres (B, 1, H, W), mask is true where target holds, image is (B, 3, H, W) in [0, 1]."""
    total, _terms = loss(depth, target, mask, image)
    return total{own}
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
    if not weights:
        raise StudyError(
            f"the loss of trial {trial} of {name!r} is made of your own terms alone: call them as they are"
        )
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
    calls, imports = [], []
    for term, made in own.items():
        reference = Reference.parse(made.function)
        assert reference is not None
        module = reference.module.rpartition("/")[2].removesuffix(".py")
        imports.append(f"from {module} import {reference.name}{f' as {term}' * (term != reference.name)}")
        options_of_own = "".join(f", {key}={value!r}" for key, value in made.options.items())
        calls.append(f" + {given[term]!r} * {term}(depth, target, mask, image{options_of_own}).nanmean()")
    return TEXT.format(
        about=f"trial {trial} of the study {name}: {spec_recipe(given, asked[trial]['params'])}",
        imports="".join(f"{line}\n" for line in imports),
        weights=weights,
        options=", ".join(f"{key}={value!r}" for key, value in options.items()),
        own="".join(calls),
    )
