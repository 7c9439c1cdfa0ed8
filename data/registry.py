"""Things chosen by name: a registry's line says where the code is, which is imported when it is chosen; and the sources' lines.

Imports nothing of ours, nor torch, nor OpenCV.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any


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


def options_of(registry: Mapping[str, Entry]) -> dict[str, tuple[Any, Any]]:
    """The options of all entries of a registry, by key."""
    return {key: option for entry in registry.values() for key, option in entry.options.items()}


@dataclass(frozen=True, kw_only=True)
class SourceEntry(Entry):
    """A source of pictures. Its code takes its folder, if it has one, and the data's settings, and is a `data.sources.Source`."""

    takes_path: bool = True
    has_unit: bool = False
    """Whether `depth_scale` and `invalid_value` say what its depth files mean."""


SOURCES: dict[str, SourceEntry] = {
    "rooms": SourceEntry(code="depth_loss_sweep.data.rooms.source:RoomsSource", takes_path=False),
    "diode": SourceEntry(code="depth_loss_sweep.data.diode:DiodeSource"),
    "pairs": SourceEntry(code="depth_loss_sweep.data.pairs:PairsSource", has_unit=True),
}


def expected_sources() -> str:
    """How sources are written, for an error: "rooms, diode:PATH or pairs:PATH"."""
    *others, last = (f"{name}:PATH" if entry.takes_path else name for name, entry in SOURCES.items())
    return f"{', '.join(others)} or {last}"
