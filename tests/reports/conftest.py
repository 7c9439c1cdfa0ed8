"""Plausible made-up studies: `study(...)` builds one, in any state a real one can be in."""

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

from depth_loss_sweep.reports.cost import RunCost
from depth_loss_sweep.reports.instability import Rules
from depth_loss_sweep.reports.measures import Measure
from depth_loss_sweep.reports.records import Panels, StudyRecord

TERMS = ("silog", "ssim", "edge", "l1", "smoothness")
METRICS = ("rmse", "mae", "abs_rel", "sq_rel", "rmse_log", "log10", "silog", "delta1", "delta2", "delta3")
EXTRA = (
    "rmse_pooled",
    "rmse_scaled",
    "abs_rel_scaled",
    "delta1_scaled",
    "boundary_f1",
    "rmse_near",
    "rmse_mid",
    "rmse_far",
)
# Size of a term or metric relative to RMSE, so that the made-up numbers look like depth.
SCALES = {"silog": 0.09, "ssim": 0.28, "edge": 0.06, "l1": 0.8, "smoothness": 0.03, "abs_rel": 0.3, "rmse_log": 0.4}
FRACTIONS = {"delta1": 0.95, "delta2": 1.1, "delta3": 1.15, "delta1_scaled": 1.0, "boundary_f1": 0.6}

SHORT = {"silog": "SILog", "ssim": "SSIM", "edge": "edge", "l1": "L1", "smoothness": "smoothness"}
MEASURES = {
    each.column: each
    for each in (
        Measure("total", "combined loss", "weighted sum"),
        *(Measure(f"term_{t}", f"{SHORT[t]} term", "m" if t == "l1" else "no unit", short=SHORT[t]) for t in TERMS),
        *(Measure(f"metric_{m}", m, "no unit", higher_is_better=m in FRACTIONS) for m in (*METRICS, *EXTRA)),
        Measure("metric_rmse", "RMSE", "m"),
    )
}


@pytest.fixture
def study() -> Callable[..., StudyRecord]:
    """A function that builds a made-up study; see `make_study`."""
    return make_study


def make_study(
    kind: str = "line",
    trials: int = 10,
    seeds: int = 3,
    epochs: int = 10,
    *,
    name: str = "ssim-vs-edge",
    objective: str = "val_rmse",
    finished: int | None = None,
    diverged: tuple[int, ...] = (),
    baseline: float = 0.71,
    panels: int = 0,
    size: int = 64,
    values: dict[tuple[int, int], float] | None = None,
) -> StudyRecord:
    """A made-up study: `finished` of its runs are done, `diverged` trials have a non-finite run.

    `values` sets the final RMSE of (trial, seed); `panels` is how many images each shown run has.
    """
    rng = np.random.default_rng(4)
    table, variables = _trials(kind, trials, rng)
    runs, rows = [], []
    limit = trials * seeds if finished is None else finished
    effects = rng.normal(0, 0.012, seeds)
    for trial in range(trials):
        for seed in range(seeds):
            index = trial * seeds + seed
            run = f"{index:04x}{trial:02x}{seed:02x}" + "ab" * 12
            state = "finished" if index < limit else "running" if index == limit else "waiting"
            broken = trial in diverged and seed == seeds - 1 and state == "finished"
            done = epochs if state == "finished" and not broken else max(1, epochs // 2) if state != "waiting" else 0
            final = (values or {}).get(
                (trial, seed), _final(table, trial, trials) + effects[seed] + rng.normal(0, 0.006)
            )
            weights = table.loc[trial, [f"weight_{t}" for t in TERMS]].to_numpy(dtype=float)
            rows += _epochs(run, done, epochs, final, weights, rng, broken)
            runs.append(_run(run, trial, seed, state, done, broken, final, baseline, rng))
    states = [r["state"] for r in runs]
    for trial in range(trials):
        part = states[trial * seeds : (trial + 1) * seeds]
        table.loc[trial, "state"] = "complete" if all(s == "finished" for s in part) else "running"
    frame = pd.DataFrame(runs)
    shown = [r["run"] for r in runs if r["state"] == "finished"] if panels else []
    return StudyRecord(
        name=name,
        spec_text=f'[study]\nname = "{name}"\nobjective = "{objective}"\nseeds = {list(range(seeds))}\n\n[weights]\nssim = "w"\n',
        spec={
            "study": {
                "name": name,
                "seeds": list(range(seeds)),
                "value": "last",
                "description": "Eq. 12: SSIM against edges",
            },
            "model": {"head": "linear", "width": 16},
            "train": {"epochs": epochs},
        },
        version="0.1.0",
        command=f"sweep start {name} --data pairs:/data/nyu",
        created="2026-05-04T10:20:30+00:00",
        environment={"python": "3.11.9", "torch": "2.13.0", "device": "cpu", "threads": 1, "deterministic": True},
        data={
            "source": "pairs:/data/nyu",
            "fingerprint": "9f" * 16,
            "image_size": [size, size],
            "depth_range": [0.1, 10.0],
            "images": {"train": 300, "val": 100, "test": 0},
            "scenes": {"train": 40, "val": 9, "test": 0},
            "valid_fraction": 0.8732,
            "out_of_range_fraction": 0.0012,
            "depth_percentiles": {
                "train": {"p1": 0.71, "p50": 2.31, "p99": 7.9},
                "val": {"p1": 0.8, "p50": 2.4, "p99": 7.1},
            },
        },
        baselines={s: {"median": _baseline(baseline), "mean_map": _baseline(baseline * 0.9)} for s in ("train", "val")},
        objective=objective,
        objective_column="total" if objective == "combined" else objective.replace("val_", "metric_"),
        variables=variables,
        kind=kind,
        trials=table,
        runs=frame,
        epochs=pd.DataFrame(rows),
        measures=MEASURES,
        outcomes={"learnt": False, "trivial": False, "flat": True, "spiking": True, "non_finite": True},
        rules=Rules(flat_ratio=0.05, spike_ratio=100.0),
        predictors={"median": "training median", "mean_map": "training mean map"},
        panels={run: _panels(panels, size, i) for i, run in enumerate(shown)},
        costs=tuple(RunCost(r["run"], r["seconds"]) for r in runs if r["state"] == "finished"),
    )


def _trials(kind: str, count: int, rng: np.random.Generator) -> tuple[pd.DataFrame, tuple[str, ...]]:
    table = pd.DataFrame({"number": np.arange(count), "state": "complete", "value": np.nan})
    if kind == "simplex":
        weights = rng.dirichlet(np.ones(4), count)
        names: tuple[str, ...] = TERMS[:4]
        for term, column in zip(names, weights.T, strict=True):
            table[f"var_{term}"] = table[f"weight_{term}"] = column
        return table.assign(weight_smoothness=0.0), names
    if kind == "points":
        points = {
            "paper-table-2": (0, 0.55, 0.45, 0.05),
            "equal": (1, 1, 1, 1),
            "l1": (0, 0, 0, 1),
            "edge": (0, 0, 1, 0),
        }
        table["var_point"] = list(points)[:count]
        weights = np.array([(*points[p], 0) for p in table["var_point"]], dtype=float)
        return table.assign(**{f"weight_{t}": w for t, w in zip(TERMS, weights.T, strict=True)}), ("point",)
    w = np.round(np.linspace(0, 0.9, count), 3) if count > 1 else np.array([0.3])
    rate = np.array([1e-4, 1e-3])[np.arange(count) % 2]
    names = {"line": ("w",), "grid": ("w", "train.learning_rate"), "point": ()}[kind]
    if "w" in names:
        table["var_w"] = w
    if len(names) > 1:
        table["var_train.learning_rate"] = rate
    weights = {"silog": 0.05, "ssim": np.round(0.9 - w, 3), "edge": w, "l1": 0.05, "smoothness": 0.0}
    return table.assign(**{f"weight_{t}": weights[t] for t in TERMS}), names


def _final(table: pd.DataFrame, trial: int, count: int) -> float:
    return (
        0.5 + 0.35 * (float(table.loc[trial, "weight_edge"]) - 0.25) ** 2 + 0.02 * float(table.loc[trial, "weight_l1"])
    )


def _baseline(rmse: float) -> dict[str, float]:
    metrics = {f"metric_{name}": value for name, value in _metrics(rmse).items()}
    return {**metrics, **{f"term_{t}": SCALES[t] * rmse * 1.2 for t in TERMS}}


def _metrics(rmse: float) -> dict[str, float]:
    errors = {
        m: rmse * SCALES.get(m, 1.0) * (11 if m == "silog" else 1) for m in (*METRICS, *EXTRA) if m not in FRACTIONS
    }
    return errors | {m: float(np.clip(top - rmse * 0.6, 0, 1)) for m, top in FRACTIONS.items()}


def _epochs(
    run: str, done: int, planned: int, final: float, weights: np.ndarray, rng: np.random.Generator, broken: bool
) -> list[dict]:
    rows = []
    for epoch in range(1, done + 1):
        rmse = final + 0.4 * (np.exp(-4 * epoch / planned) - np.exp(-4)) + rng.normal(0, 0.004) * (epoch < planned)
        lost = broken and epoch == done
        for split, gap in (("train", 0.9), ("val", 1.0)):
            value = np.nan if lost else rmse * gap
            terms = {f"term_{t}": value * SCALES[t] for t in TERMS}
            total = float(np.dot(weights, [terms[f"term_{t}"] for t in TERMS]))
            share = weights / weights.sum()
            rows.append(
                {"run": run, "epoch": epoch, "split": split, "total": total, **terms}
                | {f"metric_{m}": v for m, v in _metrics(value).items()}
                | {f"share_{t}": s for t, s in zip(TERMS, share, strict=True)}
                | {"learning_rate": 2e-4, "grad_norm_median": 0.4, "grad_norm_p95": 1.1, "non_finite_steps": int(lost)}
                | {"spread_prediction": value * 0.6, "spread_truth": 0.8}
                | {"grad_norm_max": np.inf if lost else float(np.exp(rng.normal(0.5, 0.4))), "images_per_second": 410.0}
            )
    return rows


def _run(
    run: str,
    trial: int,
    seed: int,
    state: str,
    done: int,
    broken: bool,
    final: float,
    baseline: float,
    rng: np.random.Generator,
) -> dict:
    outcome = "non_finite" if broken else "trivial" if final >= baseline else "learnt"
    known = state == "finished"
    return {
        "run": run,
        "trial": trial,
        "seed": seed,
        "state": state,
        "outcome": outcome if known else None,
        "reason": f"epoch {done}, step 3: the edge term is not finite"
        if broken
        else f"val RMSE {final:.3f} m"
        if known
        else None,
        "epochs": done,
        "attempts": 1,
        "seconds": 12.5 + rng.random() if known else np.nan,
        "device": "cpu",
        "images_per_second": 410.0 if known else np.nan,
        "mixed": False,
        "break_epoch": done if broken else None,
        "break_step": 3 if broken else None,
        "break_term": "edge" if broken else None,
    }


def _panels(count: int, size: int, index: int) -> Panels:
    rng = np.random.default_rng(index)
    y, x = np.mgrid[0:size, 0:size] / size
    scenes = np.random.default_rng(1).uniform(1, 3, count)
    truth = np.stack([s + 3 * (1 - y) * np.abs(np.sin(3 * s * x)) + (x > 0.6) * (y > 0.5) * -0.6 for s in scenes])
    mask = np.broadcast_to((x - 0.5) ** 2 + (y - 0.2) ** 2 > 0.01, truth.shape).copy()
    shade = 255 * (1 - truth / truth.max())
    image = np.stack([shade, shade * 0.9 + 20 * x, shade * 0.7 + 40 * y], axis=-1).clip(0, 255).astype(np.uint8)
    prediction = truth + (0.1 + 0.02 * index) * np.sin(9 * x + index) + rng.normal(0, 0.05, truth.shape)
    keys = tuple(f"scene_{i:02d}/frame_{i * 7:05d}" for i in range(count))
    return Panels(keys, image, truth.astype(np.float32), mask, prediction.astype(np.float32))
