"""How a study grows: what of a spec may change once the study exists, and what becomes of the trials that are there.

A grid grows in choices, seeds and epochs; a search, whose sampler was told of its trials, in trials only. Its best may be others
then: the study that races them follows, finds what it has trained already, and counts one more look at the level.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from depth_loss_sweep.errors import StudyError
from depth_loss_sweep.paths import CONFIRMED
from depth_loss_sweep.reports.stages import LEAST_SEEDS
from depth_loss_sweep.space import Choices, plain
from depth_loss_sweep.spec import StudySpec
from depth_loss_sweep.spec_file import kept_overrides, stored_spec
from depth_loss_sweep.store import Store
from depth_loss_sweep.words import counted

PLACES = ("source", "rgb_root", "depth_root", "val_list", "test_list", "options")
"""The keys of [data] that say where pictures lie: what they hold is known by its content."""

GROWS = {
    "study": ("name", "description", "seeds", "margin", "confirm"),
    "train": ("epochs", "keep"),
    "data": PLACES,
    "search": ("trials", "points"),
}
"""What may grow, or changes no result."""

LAST_SAID = {"data": PLACES, "train": ("keep",), "study": ("description", "margin", "confirm")}
"""Of that, what holds as it was said last, and makes no other study."""


def fixed_part(spec: StudySpec) -> dict[str, Any]:
    """The part of the spec that a study keeps for life."""
    fixed = spec.as_dict()
    for section, keys in GROWS.items():
        for key in keys:
            fixed[section].pop(key, None)
    if not spec.is_search:
        fixed["variables"] = [{"name": v["name"]} for v in fixed["variables"]]
        if spec.search.pruner == "none":
            fixed["search"].pop("parallel")  # nothing is suggested or pruned: it changes no result
    return fixed


def fixed_hash(spec: StudySpec) -> str:
    """Equal for two specs where one is the other, grown."""
    return _digest(fixed_part(spec))


def grown_hash(spec: StudySpec) -> str:
    """Equal for two specs that ask for exactly the same study."""
    whole = spec.as_dict()
    grown = {"seeds": whole["study"]["seeds"], "epochs": whole["train"]["epochs"], "trials": whole["search"]["trials"]}
    return _digest([fixed_part(spec), grown, whole["variables"]])


def as_begun(spec: StudySpec, stored: StudySpec) -> StudySpec:
    """The spec given for a study that exists: a value that it doesn't name is what the study was begun with."""
    if "value" in spec.study.model_fields_set:
        return spec
    return replace(spec, study=spec.study.model_copy(update={"value": stored.study.value}))


def said_anew(spec: StudySpec, stored: StudySpec) -> dict[str, Any]:
    """What the spec given for a study that exists says otherwise than the stored one, of what holds as it was said last."""
    named = [(section, key) for section, keys in LAST_SAID.items() for key in keys]
    new, old = ([getattr(getattr(each, section), key) for section, key in named] for each in (spec, stored))
    pairs = zip(named, new, old, strict=True)
    return {f"{section}.{key}": now for (section, key), now, before in pairs if now != before}


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def require_growth(old: StudySpec, new: StudySpec) -> None:
    """Raise `StudyError`, naming the keys that differ, where the new spec is neither the study's own nor that, grown."""
    changed = _changes(fixed_part(old), fixed_part(new))
    if changed:
        raise StudyError(
            f"the study {new.name!r} exists with another spec ({'; '.join(changed[:6])}): give this one a name of its own "
            f"with --name, or go on with the old one: sweep resume {new.name}"
        )
    shrunk = _shrinkage(old, new)
    if shrunk:
        raise StudyError(
            f"the study {new.name!r} exists and {shrunk}: a study only grows; use --name for another, "
            f"or: sweep resume {new.name}"
        )


def require_unconfirmed(old: StudySpec, new: StudySpec, store: Store) -> None:
    """Raise `StudyError` where the study would be chosen, too, by seeds that confirm it."""
    companion = store.companion(new.name, CONFIRMED)
    confirming = stored_spec(companion, store.shown_url).study.seeds if companion else ()
    if both := sorted({*new.study.seeds} & {*confirming} - {*old.study.seeds}):
        raise StudyError(
            f"the study {new.name!r} is confirmed under the seeds {both}: a seed that confirms may not choose, too, so add others"
        )


def _changes(old: Any, new: Any, path: str = "") -> list[str]:
    if isinstance(old, dict) and isinstance(new, dict):
        keys = sorted({*old, *new})
        return [line for key in keys for line in _changes(old.get(key), new.get(key), f"{path}.{key}" if path else key)]
    return [] if old == new else [f"{path}: {_short(old)} -> {_short(new)}"]


def _short(value: Any) -> str:
    shown = json.dumps(value)
    return shown if len(shown) <= 60 else shown[:57] + "..."


def _shrinkage(old: StudySpec, new: StudySpec) -> str | None:
    """What the new spec asks less of, or what may not grow in it; None where it is the old one or that, grown."""
    searched = new.is_search
    if searched and (old.study.seeds != new.study.seeds or old.train.epochs != new.train.epochs):
        return (
            f"its search has told its trials to the sampler with the seeds {list(old.study.seeds)}, in this order, and "
            f"{counted(old.train.epochs, 'epoch')} (searches grow in trials only)"
        )
    decided_by = [(s.study.seeds, s.study.margin, s.variables) for s in (old, new)]
    if new.stages and decided_by[0] != decided_by[1]:
        return "its race was decided by other seeds, weights or another margin (a race grows in epochs only)"
    if new.races_best and old.study.margin != new.study.margin:
        return "the race of its best was decided by another margin"
    missing = sorted(set(old.study.seeds) - set(new.study.seeds))
    if missing:
        return f"has the seeds {missing}, which the new spec lacks"
    if new.train.epochs < old.train.epochs:
        return f"has {old.train.epochs} epochs, more than {new.train.epochs}"
    if new.trial_count < old.trial_count:
        return f"has {old.trial_count} trials, more than {new.trial_count}"
    for before, after in zip(old.variables, new.variables, strict=True):
        if isinstance(before, Choices) and isinstance(after, Choices) and not searched:
            gone = {plain(v) for v in before.values} - {plain(v) for v in after.values}
            if gone:
                return f"sweeps {before.name} over {sorted(gone, key=str)} too"
    return None


def grow(spec: StudySpec, stored: StudySpec, overrides: Mapping[str, Any], store: Store) -> None:
    """Take the larger spec on. Told trials are immutable in Optuna, so a grid is projected anew.

    Where an answer could be read and seeds are added to it, that was a look, and the next one shares its level.
    """
    row = store.require(spec.name)
    is_look = was_answered(stored, store) and len(stored.study.seeds) >= LEAST_SEEDS
    more_seeds = {*spec.study.seeds} > {*stored.study.seeds}
    columns: dict[str, Any] = {
        "spec_text": spec.text,
        "overrides": kept_overrides(spec, overrides),
        "grown_hash": grown_hash(spec),
        "state": "running",
    }
    if spec.is_search:
        store.update_study(spec.name, **columns)
    else:
        store.regrow_study(spec.name, **columns, looks=(row["looks"] or 1) + (is_look and more_seeds))


def was_answered(stored: StudySpec, store: Store) -> bool:
    """Whether a study's answer could be read: all of its trials were told, however the last session at work on it ended."""
    return store.told_trials(stored.name) == stored.trial_count


def try_failures_again(spec: StudySpec, store: Store) -> str | None:
    """Ask a grid's trials anew where some failed: what is done is found done, what failed is trained again.

    A search has told its sampler of the failure, and what it asked since rests on that: there a failure stays one. Returns
    what became of the failures in words, None where there are none.
    """
    failed = store.failed_trials(spec.name)
    if not failed:
        return None
    if spec.is_search:
        return f"{counted(failed, 'failed trial', 'stays', 'stay')} failed, since its search went on from there"
    store.regrow_study(spec.name, state="running")
    return f"{counted(failed, 'failed trial', 'is', 'are')} tried again"
