"""In which environments a study's runs were trained, told wherever there are several. Light: imports neither torch nor pandas."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping
from itertools import chain
from typing import Any

from sqlalchemy import Table, select

from depth_loss_sweep.store import Store
from depth_loss_sweep.tables import RUN, STUDY_RUN, TRIAL_RUN
from depth_loss_sweep.words import counted

OF_THE_SPEC = ("threads", "deterministic")
"""What is in a run's environment because its spec says so."""

SAID = ("model", "torch")
"""What is always said of one, beside that in which it differs from others."""

BITS = "their numbers may differ in the last bits"


def trained_in(store: Store, name: str, of: Table = TRIAL_RUN) -> Counter[str]:
    """How many of a study's runs, as far as they were begun, are of each environment (its key, as JSON)."""
    of_study = select(of.c.run).where(of.c.study == name)
    begun = (
        select(RUN.c.environment).where(RUN.c.run.in_(of_study), RUN.c.epochs > 0).order_by(RUN.c.started, RUN.c.run)
    )
    return Counter(row["environment"] for row in store.rows(begun))


def told_of(store: Store, name: str) -> str | None:
    """That a study's runs were trained in several environments, and in which, or in others than they were asked for; None where not."""
    found = trained_in(store, name)
    places = Counter[str]()
    for key, place in _places(store, found).items():
        places[place] += found[key]
    if len(places) > 1:
        where = "; ".join(f"{counted(count, 'run')} in {place}" for place, count in places.items())
        return f"Trained in {len(places)} environments ({where}): {BITS}."
    of_study = select(TRIAL_RUN.c.run).where(TRIAL_RUN.c.study == name)
    mixed = len(store.rows(select(RUN.c.run).where(RUN.c.run.in_(of_study), RUN.c.mixed)))
    if not mixed:
        return None
    was = counted(mixed, "run", "was", "were")
    return f"{was} trained, or continued, on another machine or with other versions than they were asked for: {BITS}."


def moved(store: Store, name: str, here: Callable[[], str]) -> str | None:
    """That a study goes on in another environment than runs that it ever had were trained in; None where it doesn't."""
    before = trained_in(store, name, STUDY_RUN)
    if not before:
        return None  # and nobody waits for torch to say what is here
    now = here()
    places = _places(store, [*before, now])
    others = dict.fromkeys(place for place in places.values() if place != places[now])
    if not others:
        return None
    return f"note: study {name} goes on in {places[now]}, and has runs that were trained in {'; '.join(others)}: {BITS}"


def _places(store: Store, keys: Iterable[str]) -> dict[str, str]:
    """What is said of each environment: what differs among those that have it at all, as only one swept network has a package."""
    parts = {key: _parts(store.decoded({"environment": key}, "environment")) for key in keys}
    values = defaultdict[str, set[str]](set)
    for name, value in chain.from_iterable(each.items() for each in parts.values()):
        values[name].add(value)
    said = [name for name, found in values.items() if len(found) > 1 or name in SAID]
    words = {
        name: "" if name == "model" else f"{name} " for name in sorted(said, key=lambda name: (name != "model", name))
    }
    return {
        key: ", ".join(f"{word}{each[name]}" for name, word in words.items() if name in each) or "an unknown one"
        for key, each in parts.items()
    }


def _parts(environment: Mapping[str, Any]) -> dict[str, str]:
    packages = environment.get("packages")
    parts = {"instructions": "as built", **environment, **(packages if isinstance(packages, dict) else {})}
    return {name: str(value) for name, value in parts.items() if name not in (*OF_THE_SPEC, "packages")}
