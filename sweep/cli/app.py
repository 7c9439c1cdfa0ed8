"""The commands, in the order in which --help names them."""

from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from depth_loss_sweep import __version__
from depth_loss_sweep.cli.data import check, fetch, preview_
from depth_loss_sweep.cli.models import evaluate, predict
from depth_loss_sweep.cli.paper import paper
from depth_loss_sweep.cli.report import report
from depth_loss_sweep.cli.results import best, export
from depth_loss_sweep.cli.specs import presets, spec
from depth_loss_sweep.cli.studies import copy, delete, doctor, list_, status
from depth_loss_sweep.cli.trust import trust
from depth_loss_sweep.cli.weights import convert
from depth_loss_sweep.cli.work import confirm, resume, start


class _Commands(TyperGroup):
    """All commands; what interrupts one is left to `run`, where typer would end in silence."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            raise typer.Abort from None


app = typer.Typer(
    name="sweep",
    cls=_Commands,
    help="Find the loss weights of a depth network: start a study, resume it, open its report.",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)
data_app = typer.Typer(help="Look at pictures before training on them, or fetch some.")
app.add_typer(data_app, name="data")
weights_app = typer.Typer(help="Weights that networks begin with.")
app.add_typer(weights_app, name="weights")


@weights_app.callback()
def _weights() -> None:
    """Weights that networks begin with."""  # so that one command alone is a command


COMMANDS = (
    *(start, resume, paper, status, list_, presets, spec, trust, doctor, copy, delete),
    *(report, export, best, confirm, evaluate, predict),
)
for group, commands in ((app, COMMANDS), (data_app, (check, preview_, fetch)), (weights_app, (convert,))):
    for command in commands:
        group.command(command.__name__.rstrip("_"))(command)


def _version(wanted: bool) -> None:
    if wanted:
        print(f"sweep {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass
