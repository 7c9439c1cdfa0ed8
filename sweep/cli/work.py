"""sweep start, resume and confirm: a session at work on a study, stopped by signals or by its budget."""

import math
import shlex
import signal
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from depth_loss_sweep.cli.confirmed import print_confirmation
from depth_loss_sweep.cli.exit_codes import DONE, INTERRUPTED, SOME_FAILED
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
    at_place,
    open_store,
    where_options,
)
from depth_loss_sweep.cli.printing import as_text, trial_ahead
from depth_loss_sweep.errors import hide_password
from depth_loss_sweep.executors import Executor, fixed
from depth_loss_sweep.paths import Home, absolute_source, chosen_storage
from depth_loss_sweep.words import counted, parse_budget

if TYPE_CHECKING:
    from depth_loss_sweep.session import Session, SessionResult
    from depth_loss_sweep.store import Store

SAME_COMMAND = "the same command goes on where this one stopped"


class Stopper:
    """The first Ctrl-C or SIGTERM asks for a stop, and so does the end of the budget; a second signal insists."""

    def __init__(self, budget: str | None = None) -> None:
        self.asked, self.insisted, self.budget = False, False, budget
        self.end = time.monotonic() + parse_budget(budget) if budget is not None else math.inf

    def __call__(self) -> bool:
        """Whether a stop was asked for."""
        return self.asked or self.is_spent

    @property
    def is_spent(self) -> bool:
        """Whether it is the budget, and no signal, that asks for it."""
        return not self.asked and time.monotonic() >= self.end

    def __enter__(self) -> "Stopper":
        self.before = {number: signal.signal(number, self._handle) for number in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self.before.items():
            signal.signal(number, handler)

    def _handle(self, _number: int, _frame: object) -> None:
        if self.asked:
            self.insisted = True
            raise KeyboardInterrupt
        self.asked = True


def start(
    spec: Annotated[str, typer.Argument(help="A preset's name (sweep presets) or a TOML file.")],
    data: DataOption = None,
    set_: SetOption = None,
    seeds: Annotated[str | None, typer.Option("--seeds", help="How many (5), or which (0,1,2).")] = None,
    name: Annotated[str | None, typer.Option("--name", help="Call the study so; default: the spec's name.")] = None,
    workers: WorkersOption = None,
    device: DeviceOption = "auto",
    executor_: ExecutorOption = "local",
    option: ExecutorOptions = None,
    budget: BudgetOption = None,
    home: HomeOption = None,
    storage: StorageOption = None,
) -> int:
    """Start a study; one that exists with the same spec is resumed, with a larger spec grown."""
    crew = Crew.chosen(executor_, option, workers)
    # The handlers first, for an interrupt is lost in some libraries' imports; then workers, which import torch meanwhile.
    with Stopper(budget) as stop, closing(crew.at(Home.choose(home))) as executor:
        from depth_loss_sweep.spec_file import load_placed, override_seeds, parse_overrides

        overrides = parse_overrides(set_)
        if data is not None:
            overrides["data.source"] = data
        if seeds is not None:
            overrides["study.seeds"] = list(override_seeds(seeds))
        if name is not None:
            overrides["study.name"] = name
        study, overrides = load_placed(spec, overrides)

        def work(session: "Session") -> "SessionResult":
            from depth_loss_sweep.confirmation import follow
            from depth_loss_sweep.study import start as start_study

            return follow(study.name, None, session, start_study(study, overrides, session))

        return work_on(study.name, work, print_end, stop, executor, crew, device, home, storage)


def resume(
    name: Annotated[str, typer.Argument(help="The name of a study or group (sweep list).")],
    data: Annotated[str | None, typer.Option("--data", help="Where the same pictures lie now.")] = None,
    workers: WorkersOption = None,
    executor_: ExecutorOption = "local",
    option: ExecutorOptions = None,
    budget: BudgetOption = None,
    home: HomeOption = None,
    storage: StorageOption = None,
) -> int:
    """Go on exactly where a study or group stopped; nothing that would change its results can be set."""
    crew = Crew.chosen(executor_, option, workers)
    moved = absolute_source(data) if data is not None else None
    with Stopper(budget) as stop, closing(crew.at(Home.choose(home))) as executor:
        store = open_store(Home.choose(home), storage)
        is_group = store.group(name) is not None
        if not is_group:
            store.require(name)

        def work(session: "Session") -> "SessionResult":
            from depth_loss_sweep import paper, study
            from depth_loss_sweep.confirmation import follow

            if is_group:
                return paper.resume(name, moved, session)
            return follow(name, moved, session, study.resume(name, moved, session))

        end = print_group_end if is_group else print_end
        return work_on(name, work, end, stop, executor, crew, "auto", home, storage)


def confirm(
    name: Annotated[str, typer.Argument(help="The study's name (sweep list).")],
    seeds: Annotated[
        int | None, typer.Option("--seeds", min=2, max=1000, help="How many fresh seeds; default: as before, else 12.")
    ] = None,
    data: Annotated[str | None, typer.Option("--data", help="Where the same pictures lie now.")] = None,
    workers: WorkersOption = None,
    executor_: ExecutorOption = "local",
    option: ExecutorOptions = None,
    budget: BudgetOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
    home: HomeOption = None,
    storage: StorageOption = None,
) -> int:
    """Train the winner, equal weights, single terms and reference points under fresh seeds, and read the test pictures.

    Only these numbers are fit to be quoted. The same command goes on where it was stopped.
    """
    crew = Crew.chosen(executor_, option, workers)
    moved = absolute_source(data) if data is not None else None
    with Stopper(budget) as stop, closing(crew.at(Home.choose(home))) as executor:
        open_store(Home.choose(home), storage).require(name)

        def work(session: "Session") -> "SessionResult":
            from depth_loss_sweep.confirmation import confirm as confirm_study

            return confirm_study(name, seeds, moved, session)

        def end(store: "Store", _place: Home, name: str, _where: str) -> None:
            print_confirmation(store, name, as_json)

        return work_on(name, work, end, stop, executor, crew, "auto", home, storage, verb="confirm")


def work_on(
    name: str,
    work: "Callable[[Session], SessionResult]",
    end: "Callable[[Store, Home, str, str], None]",
    stop: Stopper,
    executor: Executor,
    crew: Crew,
    device: str,
    home: Path | None,
    storage: str | None,
    verb: str = "resume",
) -> int:
    """Work on a study or group under a progress display, let go of its workers, print how it ended.

    `end` is given the database, the home, the name, and the options that say where they are; `verb` is the command that goes on.
    """
    place, where = Home.choose(home), where_options(home, storage)
    try:
        from depth_loss_sweep.display import ProgressDisplay
        from depth_loss_sweep.session import Session

        command = as_text(shlex.join(["sweep", *map(hide_password, sys.argv[1:])]))
        try:
            with ProgressDisplay(placed=lambda text: at_place(text, where, crew.as_options)) as show:
                session = Session(
                    place, chosen_storage(storage), fixed(crew.workers), device, executor, command, show, stop
                )
                result = work(session)
        except KeyboardInterrupt:  # in the midst of what comes before training
            if not stop.is_spent:
                raise
            print(f"sweep: the budget of {stop.budget} is spent; {SAME_COMMAND}", file=sys.stderr)
            return INTERRUPTED
    finally:
        _let_go(executor, stop)
    if not result.finished:
        why = f"the budget of {stop.budget} is spent" if stop.is_spent else "interrupted"
        print(f"{why}; go on with: sweep {verb} {name}{where}{crew.as_options}", file=sys.stderr)
        return INTERRUPTED
    end(session.store, place, name, where)
    if result.failed_runs:
        print(f"sweep: {counted(result.failed_runs, 'run')} failed; see: sweep status {name}{where}", file=sys.stderr)
    return SOME_FAILED if result.failed_runs else DONE


def _let_go(executor: Executor, stop: Stopper) -> None:
    """Leave what can go on without this process, and say so; a second signal ends that, too."""
    if stop.insisted:
        executor.close()
    elif goes_on := executor.detach():
        print(goes_on, file=sys.stderr)


def print_end(store: "Store", place: Home, name: str, where: str) -> None:
    """How a study ended, in a few lines."""
    from depth_loss_sweep.status import status as study_status

    study = study_status(store, place, name, most=0)
    print(f"{name}: finished. {study['headline']}")
    if study["best"]:
        print(trial_ahead(study))
    if study["confirmed"]:
        print(study["confirmed"])
    if study["front_headline"]:
        print(study["front_headline"])
    print(f"report: sweep report {name}{where}")


def print_group_end(store: "Store", _place: Home, name: str, where: str) -> None:
    """How a group ended, in two lines."""
    names = store.group_studies(name)
    print(f"{name}: finished, {counted(len(names), 'study', plural='studies')}: {', '.join(names)}")
    print(f"report: sweep report {name}{where}")
