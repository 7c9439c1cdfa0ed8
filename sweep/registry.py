"""Things chosen by name: a registry's line says where the code is, which is imported when it is chosen.

Imports nothing of ours, and every folder may import it.
"""

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any


def nearest(word: str, known: Iterable[str], alike: float = 0.5) -> str:
    """The known word that may have been meant, as a question; empty where none is like it, by a share of their letters."""
    likely = difflib.get_close_matches(word, list(known), n=1, cutoff=alike)
    return f" (did you mean {likely[0]!r}?)" if likely else ""


def load(code: str) -> Any:
    """Import what a "module:name" names."""
    module, _, name = code.partition(":")
    return getattr(import_module(module), name)


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One line of a registry."""

    code: str
    """Where it is implemented, as "module:name"."""
    options: Mapping[str, tuple[Any, Any]] = field(default_factory=dict)
    """Keys of its own in its section of a spec: name -> type and pydantic's `Field`, default and description included."""

    def load(self) -> Any:
        """Import what `code` names."""
        return load(self.code)


def options_of(*registries: Mapping[str, Entry]) -> dict[str, tuple[Any, Any]]:
    """The options of all entries of some registries, by key; each key is one entry's."""
    options: dict[str, tuple[Any, Any]] = {}
    for entry in (entry for registry in registries for entry in registry.values()):
        if twice := options.keys() & entry.options.keys():
            raise ValueError(f"two entries of a registry have the option {', '.join(twice)}")
        options |= entry.options
    return options
