"""The sources of pictures by name. To add one is to write its module and to add its line. Neither torch nor OpenCV here."""

from dataclasses import dataclass

from depth_loss_sweep.data.errors import DataError
from depth_loss_sweep.registry import Entry


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


def source_entry(source: str) -> SourceEntry:
    """The line of a source as a spec writes it. Raises DataError where it is none, lacks its folder, or has one too many."""
    name, _, path = source.partition(":")
    entry = SOURCES.get(name)
    if entry is None:
        *others, last = (f"{known}:PATH" if line.takes_path else known for known, line in SOURCES.items())
        raise DataError(f"unknown data source {source!r}; expected {', '.join(others)} or {last}")
    if entry.takes_path and not path:
        raise DataError(f"data source {source!r} lacks its folder; expected {name}:PATH")
    if not entry.takes_path and path:
        raise DataError(f"data source {source!r} takes no path; expected {name}")
    return entry
