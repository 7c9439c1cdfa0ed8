"""sweep paper: the whole paper as one group of studies."""

from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from depth_loss_sweep.cli.options import (
    BudgetOption,
    Crew,
    DataOption,
    DeviceOption,
    ExecutorOption,
    ExecutorOptions,
    HomeOption,
    SetOption,
    StorageOption,
    WorkersOption,
)
from depth_loss_sweep.cli.work import Stopper, print_group_end, work_on
from depth_loss_sweep.outputs import check_outputs
from depth_loss_sweep.paths import Home, absolute_source

if TYPE_CHECKING:
    from depth_loss_sweep.session import Session, SessionResult
    from depth_loss_sweep.store import Store


def paper(
    only: Annotated[
        list[str] | None, typer.Option("--only", help="What this claim of the paper needs: H1, H2, ... Repeatable.")
    ] = None,
    scale: Annotated[
        str,
        typer.Option(
            "--scale", help="small (64x64, width 16, 300 training pictures) or full (the paper's, for a GPU)."
        ),
    ] = "small",
    data: DataOption = None,
    set_: SetOption = None,
    name: Annotated[str | None, typer.Option("--name", help="Call the group so; default: paper-SCALE.")] = None,
    from_: Annotated[
        str | None,
        typer.Option(
            "--from", help="Take finished runs up from here: a folder of text (docs/paper), a home, a database."
        ),
    ] = None,
    slides: Annotated[
        bool, typer.Option("--slides", help="In the end write its talk, as sweep report NAME --slides does.")
    ] = False,
    workers: WorkersOption = None,
    device: DeviceOption = "auto",
    executor_: ExecutorOption = "local",
    option: ExecutorOptions = None,
    budget: BudgetOption = None,
    home: HomeOption = None,
    storage: StorageOption = None,
) -> int:
    """Train what the paper's claims need, as one group of studies; the same command goes on where it stopped.

    Runs that studies share are trained once. Identical runs that were trained elsewhere are taken up from a copy, and marked.
    """
    crew = Crew.chosen(executor_, option, workers)
    with Stopper(budget) as stop, closing(crew.at(Home.choose(home))) as executor:
        from depth_loss_sweep.copies import Place
        from depth_loss_sweep.paper import Group, start
        from depth_loss_sweep.spec_file import parse_overrides

        overrides = parse_overrides(set_)
        if data is not None:
            overrides["data.source"] = data
        if isinstance(overrides.get("data.source"), str):
            overrides["data.source"] = absolute_source(overrides["data.source"])
        claims = tuple(dict.fromkeys(claim[:1].upper() + claim[1:].lower() for claim in only or ()))  # h1B is H1b
        group = Group(name or f"paper-{scale}", scale, claims, overrides)
        if slides:
            _check_slides(Home.choose(home), group.name)
        copies = Place.named(from_, Home.choose(home)) if from_ is not None else None

        def work(session: "Session") -> "SessionResult":
            return start(group, copies, session)

        def end(store: "Store", place: Home, name: str, where: str) -> None:
            print_group_end(store, place, name, where)
            if slides:
                print(_write_slides(store, place, name))

        return work_on(group.name, work, end, stop, executor, crew, device, home, storage)


def _check_slides(place: Home, name: str) -> None:
    """Refuse, before hours of training, a deck that would replace what is none of ours."""
    from depth_loss_sweep.reports.page import is_report

    check_outputs([place.slides(name)], is_report, [place.root])


def _write_slides(store: "Store", place: Home, name: str) -> Path:
    """The group's deck at its usual place; where that is."""
    from depth_loss_sweep.pages import Page

    page = Page(store, place, (name,), is_slides=True)
    _check_slides(place, name)
    page.write(page.usual_place)
    return page.usual_place
