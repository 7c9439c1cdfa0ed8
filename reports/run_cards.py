"""What the page shows of a selected trial: weights, seeds, curves over epochs, and what trains it again.

`study_cards` is all trials' at once, as columns that the page's script takes a trial's from.
"""

import json
import math
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from depth_loss_sweep.reports import wording
from depth_loss_sweep.reports.analysis import Analysis
from depth_loss_sweep.reports.charts import MEAN, POINT, TRAIN, clean, epoch_ticks, new_chart, term_colours
from depth_loss_sweep.reports.naming import beside_weights, text_list, written
from depth_loss_sweep.reports.references import FIXED
from depth_loss_sweep.reports.references import POINT as NAMED
from depth_loss_sweep.reports.trials import TrialResult

HEIGHT = 190
"""Pixels of a card's figure."""


def study_cards(analysis: Analysis) -> dict[str, Any]:
    """Of each trial what it is, of each run how it ended, and over epochs what the card's charts draw, run by run."""
    record, trials = analysis.record, analysis.trials
    runs = [(t, s) for t in trials for s in t.seeds]
    names, colours = analysis.term_names, term_colours(analysis.term_names)
    swept = tuple(beside_weights(trials[0].params)) if trials else ()
    drawn = _Drawn(record.epochs, [s.run for _, s in runs])
    return {
        "name": record.name,
        "is_drawn": record.is_search,
        "value": f"val {analysis.ranking.axis}",
        "trials": {
            "number": [t.number for t in trials],
            "label": [t.label for t in trials],
            "state": [t.state for t in trials],
            "verdict": [_verdict(t, analysis) for t in trials],
            "again": [again(analysis, t) for t in trials],
        },
        "terms": [
            {"name": names[t], "colour": colours[t], "weights": [float(f"{trial.weights[t]:.6g}") for trial in trials]}
            for t in analysis.terms
        ],
        "settings": {name: [written(t.params[name]) for t in trials] for name in swept},
        "runs": {
            "trial": [t.number for t, _ in runs],
            "seed": [s.seed for _, s in runs],
            "run": [s.run[:12] for _, s in runs],
            "outcome": [analysis.endings[s.run].replace("_", "-") for _, s in runs],
            "final": np.array([s.value for _, s in runs], dtype=float),
        },
        "epochs": drawn.epochs,
        "charts": _charts(analysis, drawn),
    }


def _verdict(trial: TrialResult, analysis: Analysis) -> str:
    return wording.verdict(analysis.decision) if trial.number == analysis.decision.trial else ""


class _Drawn:
    """A study's table of epochs as one array a column: run by run, epoch by epoch, NaN where there is none."""

    def __init__(self, epochs: pd.DataFrame, runs: Sequence[str]) -> None:
        self._table = epochs.reset_index(drop=True)
        self.epochs = [int(e) for e in sorted(epochs["epoch"].dropna().unique())]
        row = {run: i for i, run in enumerate(dict.fromkeys(runs))}
        place = {epoch: i for i, epoch in enumerate(self.epochs)}
        self._shape = (len(row), len(self.epochs))
        self._rows = [row[run] for run in runs]  # trials that come out alike share their runs
        at_run = self._table["run"].map(row)
        at_epoch = self._table["epoch"].map(place)
        self._at = {
            split: (
                own.index.to_numpy(),
                at_run[own.index].astype(int).to_numpy(),
                at_epoch[own.index].astype(int).to_numpy(),
            )
            for split in ("train", "val")
            for own in (self._table[(self._table["split"] == split) & at_run.notna()],)
        }

    def values(self, column: str, split: str = "val") -> np.ndarray | None:
        """A column's; None where no run has any."""
        if column not in self._table.columns:
            return None
        rows, runs, epochs = self._at[split]
        found = np.full(self._shape, np.nan)
        found[runs, epochs] = pd.to_numeric(self._table[column], errors="coerce").to_numpy(dtype=float)[rows]
        found[~np.isfinite(found)] = np.nan
        return found[self._rows].ravel() if np.isfinite(found).any() else None


def _charts(analysis: Analysis, drawn: _Drawn) -> list[dict[str, Any]]:
    """The card's charts, each with its lines: a name, a colour, a dash and the values of all runs."""
    measure, names, colours = analysis.ranking, analysis.term_names, term_colours(analysis.term_names)
    curves = {
        "validation": (MEAN, "solid", drawn.values(measure.column)),
        "training": (TRAIN, "dot", drawn.values(measure.column, "train")),
    }
    terms = {names[t]: (colours[t], "solid", drawn.values(f"term_{t}")) for t in analysis.terms}
    norms = {
        "largest": (MEAN, "solid", drawn.values("grad_norm_max")),
        "median": (POINT, "dot", drawn.values("grad_norm_median")),
    }
    is_ruled = any(analysis.weighting(t) != FIXED for t in analysis.trials)
    weights = {names[t]: (colours[t], "solid", drawn.values(f"weight_{t}")) for t in analysis.terms if is_ruled}
    found = [
        _chart(f"{measure.label} over epochs", measure.axis, len(drawn.epochs), curves),
        _chart("Unweighted terms, validation", "term (its own unit)", len(drawn.epochs), terms),
        _chart("Gradient norm", "gradient norm (no unit)", len(drawn.epochs), norms, type="log"),
        _chart("Effective weights", "effective weight", len(drawn.epochs), weights),
    ]
    return [chart for chart in found if chart["lines"]]


def _chart(
    title: str, unit: str, epochs: int, lines: Mapping[str, tuple[str, str, np.ndarray | None]], **axis: str
) -> dict[str, Any]:
    layout = new_chart(HEIGHT, "epoch", unit).layout
    layout["yaxis"] |= {"nticks": 4} | axis
    layout["xaxis"] |= epoch_ticks(epochs)
    shown = [
        {"name": clean(name), "colour": colour, "dash": dash, "values": values}
        for name, (colour, dash, values) in lines.items()
        if values is not None
    ]
    return {"title": title, "layout": layout, "lines": shown}


# What trains a trial again


def again(analysis: Analysis, trial: TrialResult) -> str:
    """What trains one trial again as a study of its own; empty where the page has no whole spec to begin with.

    Of chosen points that is a command, beside the whole spec that the page offers; of drawn ones, which no command chooses, the sections
    that stand there in place of [search] and [weights]. Its runs are those that are there already, where they still are.
    """
    record = analysis.record
    if not record.resolved:
        return ""
    params = {k: _meant(k, v, record.spec) for k, v in trial.params.items()}
    if record.is_search:
        fields = {k: params[k] for k in beside_weights(params)}
        return "\n".join(
            [*_section("search", {"sampler": "grid"} | {k: [v] for k, v in fields.items()}), *_weights(trial)]
        )
    keys = {f"search.{'points' if k == NAMED else _key(k)}": [v] for k, v in params.items() if not _is_missing(v)}
    sets = [f"--set {shlex.quote(f'{key}={json.dumps(value)}')}" for key, value in keys.items()]
    name = shlex.quote(f"{record.name}-trial-{trial.number}")
    return " ".join(["sweep start", shlex.quote(f"{record.name}.toml"), "--name", name, *sets])


def _meant(name: str, value: Any, spec: Mapping[str, Any]) -> Any:
    """A swept value as a spec is given it: of a field that holds a list, the list."""
    section, _, field = name.partition(".")
    if isinstance(value, str) and field and isinstance(spec.get(section, {}).get(field), list | tuple):
        return text_list(value)
    return value.item() if isinstance(value, np.generic) else value


def _weights(trial: TrialResult) -> list[str]:
    return _section("weights", {term: float(weight) for term, weight in trial.weights.items() if weight})


def _section(name: str, values: Mapping[str, Any]) -> list[str]:
    return [f"[{name}]", *(f"{_key(key)} = {json.dumps(value)}" for key, value in values.items())]


def _key(name: str) -> str:
    return json.dumps(name) if "." in name else name


def _is_missing(value: Any) -> bool:
    return isinstance(value, float) and math.isnan(value)
