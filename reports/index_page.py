"""The index of a home: every study and group in a line, its verdict first, with a link to its page where one was written.

from depth_loss_sweep.reports.index_page import Entry, render_index
write_document(render_index([Entry("demo", "Use w = 0.3", "finished", ...)]), Path("index.html"))
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from markupsafe import Markup

from depth_loss_sweep.reports.page import document
from depth_loss_sweep.reports.svg import sparkline


@dataclass(frozen=True)
class Trend:
    """A study's means, in the order of its line or by rank; `marked` is the place of the trial that its decision names."""

    values: tuple[float, ...]
    marked: int | None
    label: str

    @property
    def drawn(self) -> Markup:
        """As a small line."""
        return sparkline(self.values, self.marked, self.label)


@dataclass(frozen=True)
class Entry:
    """A study or group as the index lists it; `members` are a group's studies.

    `trials` and `runs` are how many are done and how many there are; `pixels` height and width of its pictures; `page` is where
    its page lies, seen from the index, empty where none does.
    """

    name: str
    verdict: str
    state: str
    created: str
    trials: tuple[int, int] = (0, 0)
    runs: tuple[int, int] = (0, 0)
    pixels: tuple[int, int] | None = None
    trend: Trend | None = None
    page: str = ""
    members: tuple["Entry", ...] = ()

    @cached_property
    def latest_first(self) -> tuple["Entry", ...]:
        """Its members by date."""
        return by_date(self.members)


def by_date(entries: Sequence[Entry]) -> tuple[Entry, ...]:
    """The latest first; those of the same second by their names."""
    named = sorted(entries, key=lambda entry: entry.name)
    return tuple(sorted(named, key=lambda entry: entry.created, reverse=True))


def render_index(entries: Sequence[Entry]) -> str:
    """One self-contained HTML page of a home's studies and groups; it needs no script."""
    studies = sum(len(entry.members) or 1 for entry in entries)
    return document(
        "index.html.j2",
        "All studies",
        styles=("page.css", "index.css"),
        scripts=(),
        entries=by_date(entries),
        studies=studies,
    )
