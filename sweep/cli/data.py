"""Pictures before training: sweep data check, preview and fetch."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from depth_loss_sweep.cli.exit_codes import BAD_REQUEST, DONE
from depth_loss_sweep.cli.options import ForceOption, SetOption
from depth_loss_sweep.cli.printing import plain, print_json
from depth_loss_sweep.data.registry import source_forms
from depth_loss_sweep.errors import SpecError
from depth_loss_sweep.outputs import check_outputs, file_at, folder_at
from depth_loss_sweep.paths import absolute_source
from depth_loss_sweep.words import counted


def _data_settings(source: str, set_: list[str] | None) -> Any:
    """Data settings from a source and --set key=value (the [data] section's keys)."""
    from depth_loss_sweep.spec_file import parse_data_settings, parse_overrides

    return parse_data_settings(absolute_source(source), parse_overrides(set_))


def check(
    source: Annotated[str, typer.Argument(help=f"{source_forms()}.")],
    set_: SetOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
) -> int:
    """Count pictures, scenes, valid pixels and depths, as they are and as training sees them, and name each bad file.

    Exits as `sweep start` would with the same settings: 2 where it would refuse the data.
    """
    from depth_loss_sweep.data.check import check_source
    from depth_loss_sweep.display import ProgressDisplay

    with ProgressDisplay() as show:
        checked = check_source(
            _data_settings(source, set_), lambda done, total: show.preparing(done, total, "checking")
        )
    if as_json:
        print_json(asdict(checked))
    else:
        print("\n".join(_check_lines(checked)))
    return DONE if checked.ok else BAD_REQUEST


def _check_lines(checked: Any) -> list[str]:
    """What `sweep data check` prints; what is wrong comes last, so that it is not scrolled away."""
    numbers = {"folders": checked.folders, "sizes": checked.sizes, "split": checked.parts}
    texts = {
        key: ", ".join(f"{n} {name or 'in no split folder'}" for name, n in part.items())
        for key, part in numbers.items()
    }
    lines = [
        f"source     {checked.source}",
        f"pictures   {checked.pictures} of {counted(checked.scenes, 'scene')} ({texts['folders']})",
        f"sizes      {texts['sizes'] or 'none'}",
        f"split      {checked.split_error or texts['split']}",
    ]
    if checked.at_training_size:
        beyond = f"{checked.out_of_range_fraction:.1%} of these beyond the depth range"
        lines.append(f"valid      {checked.valid_fraction:.1%} of all pixels; {beyond}")
    if checked.depth_max is not None:
        spread = ", ".join(f"{name[1:]} %: {value:.2f}" for name, value in checked.depth_percentiles.items())
        lines.append(f"depth      {checked.depth_min:.2f} to {checked.depth_max:.2f} m ({spread})")
    if checked.at_training_size:
        lines.append(f"training   {_training_text(checked.at_training_size)}")
    lines.append(f"bad files  {len(checked.bad) or 'none'}")
    lines += [f"  {_kind_text(checked, kind, keys)}" for kind, keys in checked.bad_by_kind.items()]
    lines += [f"note       {text}" for text in checked.notes]
    return [plain(line) for line in lines + [f"refused    {text}" for text in checked.refusals]]


def _training_text(seen: Any) -> str:
    height, width = seen.image_size
    return (
        f"at {height}x{width} (depth_resize {seen.depth_resize}) {seen.valid_fraction:.1%} of all pixels are valid, "
        f"{seen.usable_fraction:.1%} within the depth range; {seen.ssim_windows:.0f} windows a picture count for SSIM"
    )


def _kind_text(checked: Any, kind: str, keys: Sequence[str]) -> str:
    """One bad file by its name, many of a kind by the first few (all: --json)."""
    from depth_loss_sweep.data.sources import names_of

    if len(keys) == 1:
        return str(dict(checked.bad)[keys[0]])
    return f"{len(keys)} times: {kind} ({names_of(keys)})"


def preview_(
    source: Annotated[str, typer.Argument(help=f"{source_forms()}.")],
    output: Annotated[str, typer.Option("--output", "-o", help="The PNG to write, or a folder.")] = "preview.png",
    force: ForceOption = False,
    count: Annotated[int, typer.Option("--count", min=1, max=200, help="How many pictures.")] = 12,
    set_: SetOption = None,
) -> None:
    """Write a contact sheet: pictures beside their depth."""
    from depth_loss_sweep.data.check import is_preview, preview

    settings, path = _data_settings(source, set_), file_at(output, "preview.png")
    pictures = settings.source.partition(":")[2]
    check_outputs([path], is_preview, [Path(pictures)] if pictures else [], force)
    print(preview(settings, path, count))


def fetch(
    dataset: Annotated[str, typer.Argument(help="diode.")],
    output: Annotated[str, typer.Option("--output", "-o", help="Folder to put it in.")] = "diode",
    url: Annotated[str | None, typer.Option("--url", help="A mirror of val.tar.gz.")] = None,
    md5: Annotated[str | None, typer.Option("--md5", help="The mirror's MD5, where it holds another archive.")] = None,
) -> None:
    """Download the DIODE validation set (2.6 GB): resumed when broken off, verified, unpacked safely."""
    from depth_loss_sweep.data.fetch import DIODE_MD5, DIODE_URL, fetch_diode
    from depth_loss_sweep.display import transfer_bar

    if dataset != "diode":
        raise SpecError(f"the dataset {dataset!r} is unknown; expected diode")
    folder = folder_at(output)
    with transfer_bar() as advance:
        path = fetch_diode(folder, url or DIODE_URL, md5 or DIODE_MD5, advance)
    print(f"diode:{path}")
