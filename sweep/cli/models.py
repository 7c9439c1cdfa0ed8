"""A saved model at work: sweep evaluate and sweep predict."""

import math
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from depth_loss_sweep.cli.options import ForceOption, HomeOption, SetOption, StorageOption
from depth_loss_sweep.cli.printing import plain, print_json
from depth_loss_sweep.data.registry import source_forms
from depth_loss_sweep.outputs import folder_at
from depth_loss_sweep.paths import Home, absolute_source, chosen_storage, expanded
from depth_loss_sweep.words import counted

MILLIMETRES = 1000
"""How many units of a depth PNG a metre usually is."""


def evaluate(
    checkpoint: Annotated[
        Path, typer.Argument(help="A model saved by sweep best --checkpoint, or a run's checkpoint.")
    ],
    data: Annotated[str, typer.Option("--data", help=f"Source: {source_forms()}.")],
    set_: SetOption = None,
    part: Annotated[str, typer.Option("--part", help="train, val, test or all.")] = "test",
    as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
    home: HomeOption = None,
    storage: StorageOption = None,
) -> None:
    """A model's metrics on a source, beside the trivial predictors' (training median and training mean map).

    --part all judges every picture of the source, whatever the split.

    On the pictures it was trained with, give the study's split settings (--set split=...), or it is judged on what it saw.
    """
    from depth_loss_sweep.inference import evaluate_source
    from depth_loss_sweep.spec_file import parse_overrides

    overrides = parse_overrides(set_)
    evaluation = evaluate_source(
        expanded(checkpoint),
        absolute_source(data),
        overrides,
        part,
        Home.choose(home).create(),
        chosen_storage(storage),
    )
    if as_json:
        print_json(evaluation)
    else:
        print("\n".join(_evaluation_lines(evaluation)))


def _evaluation_lines(evaluation: Mapping[str, Any]) -> list[str]:
    """A line a metric with its unit; fractions in per cent. What could not be had is "-"."""
    from depth_loss_sweep.reports.quotes import read_before

    columns = ("model", "median", "mean_map")
    images = counted(evaluation["images"], "image")
    lines = [f"{'metric':16}{'unit':8}" + "".join(f"{c:>12}" for c in columns) + f"   ({images}, {evaluation['part']})"]
    for metric in evaluation["model"]:
        unit = _unit(metric, evaluation.get("units", {}))
        cells = (_cell((evaluation[c] or {}).get(metric), 100 if unit == "%" else 1) for c in columns)
        lines.append(f"{metric:16}{unit:8}" + "".join(f"{cell:>12}" for cell in cells))
    notes = [evaluation["note"], read_before(evaluation["read_before"]) if evaluation["read_before"] else None]
    return lines + [note for note in notes if note]


def _unit(metric: str, own: Mapping[str, str]) -> str:
    """A metric's unit in ASCII, as a table's cell; `own` are those of the user's own."""
    from depth_loss_sweep.measures import measure
    from depth_loss_sweep.reports.measures import NO_UNIT

    unit = own.get(metric) or measure(f"metric_{metric}").unit
    return {NO_UNIT: "-", "fraction": "%", "log₁₀": "log10"}.get(unit, unit)


def _cell(value: float | None, factor: int) -> str:
    return "-" if value is None or math.isnan(value) else f"{factor * value:.4f}"


def predict(
    checkpoint: Annotated[
        Path, typer.Argument(help="A model saved by sweep best --checkpoint, or a run's checkpoint.")
    ],
    images: Annotated[
        list[Path], typer.Argument(help="Photographs (JPEG, PNG, WebP, TIFF, HEIC, ...), or folders of them.")
    ],
    output: Annotated[
        str, typer.Option("--output", "-o", help="Folder for NAME_depth.png (16-bit) and NAME_depth_colour.png.")
    ],
    force: ForceOption = False,
) -> None:
    """Depth of photographs, upright as they are seen: a 16-bit PNG each, and a coloured one to look at.

    The 16-bit PNG is in millimetres, 0 is no depth; for a model whose range ends beyond 65.535 m all are in 1/256 m, or coarser.

    A unit that is no millimetre is said, and stands in each PNG as its text "depth_scale".

    Of a folder, the photographs in it are predicted, and not those in folders below.
    """
    from depth_loss_sweep.data.photos import find_photos
    from depth_loss_sweep.inference import predict_photos

    photos, left_out = find_photos([expanded(path) for path in images])
    units = MILLIMETRES
    for prediction in predict_photos(expanded(checkpoint), photos, folder_at(output), force):
        print(f"{prediction.depth}\n{prediction.colour}")
        name = plain(prediction.depth.name)
        if prediction.units != units:
            units = prediction.units
            unit = "millimetres" if units == MILLIMETRES else f"units of 1/{units} m"
            print(f"sweep: from {name} on, depth PNGs are in {unit}", file=sys.stderr)
        if prediction.missing:
            print(f"sweep: {name}: {prediction.missing:.1%} of the pixels have no depth", file=sys.stderr)
    if left_out:
        print(f"sweep: {_left_out(left_out)}", file=sys.stderr)


def _left_out(files: Sequence[Path]) -> str:
    names = plain(", ".join(path.name for path in files[:3])) + (", ..." if len(files) > 3 else "")
    return f"left out {counted(len(files), 'file')} (no photograph, or a depth map): {names}"
