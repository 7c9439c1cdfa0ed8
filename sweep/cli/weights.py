"""Weights that networks begin with: sweep weights convert."""

from pathlib import Path
from typing import Annotated

import typer

from depth_loss_sweep.cli.options import ForceOption
from depth_loss_sweep.outputs import check_outputs, file_at


def convert(
    file: Annotated[Path, typer.Argument(help="Weights by torch.save(), as a state_dict; or a safetensors file.")],
    network: Annotated[
        str | None,
        typer.Option("--network", help="Name them as this network does: timm:NAME or smp:NAME. Default: as they are."),
    ] = None,
    output: Annotated[
        str | None, typer.Option("--output", "-o", help="File or folder; default: beside the working folder's files.")
    ] = None,
    force: ForceOption = False,
) -> None:
    """Make a safetensors file of weights, for model.pretrained = "file:PATH". Nothing that a file holds is run."""
    from depth_loss_sweep.files import naming, write_whole
    from depth_loss_sweep.model.convert import converted

    target = file_at(output or ".", f"{file.stem}.safetensors")
    check_outputs([target], _is_ours, [file], force)
    content, count = converted(file, network)
    with naming(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        write_whole(target, content)
    print(f"{target}: {count} arrays, {len(content) / 1e6:.1f} MB")


def _is_ours(_path: Path) -> bool:
    """Nobody can tell who made a safetensors file, so none is replaced unasked."""
    return False
