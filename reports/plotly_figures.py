"""A study's figures outside of its page: as plotly's own objects, and as files that plotly reads.

from depth_loss_sweep.reports.plotly_figures import plotly_figures
plotly_figures(record)["hero-means"].show()
"""

import json
from pathlib import Path
from typing import TYPE_CHECKING

from depth_loss_sweep.reports.analysis import Analysis
from depth_loss_sweep.reports.charts import Chart
from depth_loss_sweep.reports.hero import hero
from depth_loss_sweep.reports.records import StudyRecord
from depth_loss_sweep.reports.sections import study_sections

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

OURS = {"meta": "Depth Loss Sweep"}
"""In the layout of every figure that is written to a file; it is how the file begins."""


def plotly_figures(record: StudyRecord) -> dict[str, "Figure"]:
    """Every figure of a study's page by its name, for a notebook; of one with a menu, each choice by itself."""
    from plotly.graph_objects import Figure

    return {name: Figure({"data": chart.data, "layout": chart.layout}) for name, chart in _charts(record).items()}


def figure_files(record: StudyRecord) -> dict[str, str]:
    """The same as files for `plotly.io.read_json`: each file's name and text."""
    return {
        f"{record.name}-{name}.json": json.dumps({"layout": OURS | chart.layout, "data": chart.data}, allow_nan=False)
        for name, chart in _charts(record).items()
    }


def is_figure(path: Path) -> bool:
    """Whether a file holds a figure of ours."""
    begin = json.dumps({"layout": OURS}).rstrip("}").encode()
    try:
        with path.open("rb") as stream:
            return stream.read(len(begin)) == begin
    except OSError:
        return False


def _charts(record: StudyRecord) -> dict[str, Chart]:
    found: dict[str, Chart] = {}
    analysis = Analysis(record)
    for section in (hero(analysis, record.name), *study_sections(analysis, record.name)):
        for figure in section.figures if section else ():
            name = figure.anchor.removeprefix(f"{record.name}-")
            chosen = {f"{name}-{choice}": figure.chart.chosen(choice) for choice in figure.chart.choices}
            found |= chosen or {name: figure.chart}
    return found
