"""The sources of pictures by name. To add one is to write its module and to add its line. Neither torch nor OpenCV here."""

from dataclasses import dataclass

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


def expected_sources() -> str:
    """How sources are written, for an error: "rooms, diode:PATH or pairs:PATH"."""
    *others, last = (f"{name}:PATH" if entry.takes_path else name for name, entry in SOURCES.items())
    return f"{', '.join(others)} or {last}"
