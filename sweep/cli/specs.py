"""sweep presets and sweep spec: what a study can be made of."""

from typing import Annotated

import typer

from depth_loss_sweep.errors import SpecError
from depth_loss_sweep.registry import nearest
from depth_loss_sweep.words import counted


def presets(name: Annotated[str | None, typer.Argument(help="Print this preset's TOML.")] = None) -> None:
    """The built-in specs; with a name, its text, ready to be saved and changed."""
    from depth_loss_sweep.spec_file import load_spec, preset_names, read_text

    if name is not None:
        if name not in preset_names():
            raise SpecError(
                f"no preset is called {name!r}{nearest(name, preset_names())}; expected one of {', '.join(preset_names())}"
            )
        print(read_text(name), end="")
        return
    width = max(map(len, preset_names()))
    for each in preset_names():
        spec = load_spec(each)
        runs = f"{counted(spec.trial_count, 'trial')} x {counted(len(spec.study.seeds), 'seed')}"
        print(f"{each:{width}} {spec.study.description} ({runs})")


def spec() -> None:
    """Every key of a spec with its default, its meaning and its choices: a spec, ready to be saved and changed."""
    from depth_loss_sweep.keys import spec_reference

    print(spec_reference(), end="")
