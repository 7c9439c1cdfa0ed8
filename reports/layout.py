"""What a page is made of: figures under headings, and tables below them."""

from collections.abc import Iterable
from dataclasses import dataclass, replace

from depth_loss_sweep.reports.charts import Chart
from depth_loss_sweep.reports.tables import Table


@dataclass(frozen=True)
class Figure:
    """One chart in its place on the page."""

    anchor: str
    title: str
    note: str
    chart: Chart
    wide: bool = False
    badge: str = ""


@dataclass(frozen=True)
class NamedTable:
    """A table below a section's figures, with its heading and what it says."""

    title: str
    note: str
    table: Table


@dataclass(frozen=True)
class Section:
    """Figures under one heading, and tables below them; `menu` lists what its figures can be switched to."""

    anchor: str
    title: str
    lead: str
    figures: tuple[Figure, ...]
    warning: str = ""
    menu: tuple[tuple[str, str], ...] = ()
    toggles_baselines: bool = False
    tables: tuple[NamedTable, ...] = ()

    @property
    def is_empty(self) -> bool:
        """Whether it has nothing to show, nor to say why not."""
        return not (self.figures or self.tables or self.warning)

    def anchored(self, study: str) -> "Section":
        """The section with its anchors below those of a study."""
        prefix = f"{study}-{self.anchor}"
        return replace(self, anchor=prefix, figures=_below(prefix, self.figures))


def _below(prefix: str, figures: Iterable[Figure]) -> tuple[Figure, ...]:
    return tuple(replace(figure, anchor=f"{prefix}-{figure.anchor}") for figure in figures)
