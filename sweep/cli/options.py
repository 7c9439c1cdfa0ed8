"""Options that several commands have, and what is made of them."""

import re
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from depth_loss_sweep.data.registry import source_forms
from depth_loss_sweep.errors import hide_password
from depth_loss_sweep.executors import (
    CHOSEN,
    Executor,
    Workers,
    check_executor,
    make_executor,
    parse_options,
    parse_workers,
)
from depth_loss_sweep.paths import Home, chosen_storage

if TYPE_CHECKING:
    from depth_loss_sweep.store import Store


def no_secret(url: str | None) -> str | None:
    """Say, once a command, that a password among its arguments is no secret; the URL is taken as it is."""
    if url is not None and hide_password(url) != url:
        print(
            "sweep: whoever is on this machine reads the password in that URL (ps lists a command's arguments): give the URL in "
            "SWEEP_STORAGE, or leave the password out and keep it in ~/.pgpass, or the file that PGPASSFILE names",
            file=sys.stderr,
        )
    return url


HomeOption = Annotated[Path | None, typer.Option("--home", help="Home folder; default: $SWEEP_HOME, else ./runs.")]
StorageOption = Annotated[
    str | None,
    typer.Option(
        "--storage",
        help="Database URL or SQLite file; default: HOME/sweep.db. [env: SWEEP_STORAGE]",
        callback=no_secret,
    ),
]
WorkersOption = Annotated[
    str | None,
    typer.Option(
        "--workers",
        metavar="N",
        help="Runs at once; 0: train in this process; auto: as many a GPU as pay. Default: one a core; one a GPU.",
    ),
]
ForceOption = Annotated[
    bool, typer.Option("--force", help="Replace what is there, even where this program did not make it.")
]
BudgetOption = Annotated[
    str | None,
    typer.Option("--budget", help="Stop after so long, such as 90m, 2h or 1h30m; sweep resume goes on from there."),
]
DataOption = Annotated[str | None, typer.Option("--data", help=f"Source: {source_forms()}.")]
DeviceOption = Annotated[str, typer.Option("--device", help="auto, cpu, cuda, cuda:N or mps.")]
ExecutorOption = Annotated[
    str,
    typer.Option("--executor", help=f"Where runs are trained: {' or '.join(CHOSEN)}."),
]
ExecutorOptions = Annotated[
    list[str] | None,
    typer.Option("--option", help="Of the executor: key=value, such as partition=gpu. Repeatable; see docs/scale.md."),
]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", help="Override a key: section.key=value. Repeatable; the last value of a key counts."),
]


@dataclass(frozen=True)
class Crew:
    """Who trains a session's runs: an executor by name, its options, how many workers."""

    executor: str
    options: Mapping[str, str]
    workers: Workers

    @classmethod
    def chosen(cls, executor: str, options: Sequence[str] | None, workers: str | None) -> "Crew":
        """As the command line has it; `SweepError` for what is none, before anything else is done."""
        crew = cls(executor, parse_options(options or ()), parse_workers(workers))
        check_executor(executor, crew.options)
        return crew

    def at(self, place: Home) -> Executor:
        """The executor, in a home."""
        return make_executor(self.executor, self.workers, self.options, place)

    @property
    def as_options(self) -> str:
        """What chooses the same executor again, to be put behind a command; the default goes unsaid."""
        executor = [] if self.executor == "local" else [self.executor]
        return _written("--executor", executor) + _written("--option", [f"{k}={v}" for k, v in self.options.items()])


def kept_places(store: "Store", place: Home) -> list[Path]:
    """What no output may overwrite: what lies in the home, and the database where --storage put it."""
    database = store.engine.url.database if store.engine.dialect.name == "sqlite" else None
    return [place.root, *(Path(f"{database}{ending}") for ending in ("", "-wal", "-shm") if database)]


def open_store(place: Home, storage: str | None) -> "Store":
    """The database of a home folder, or the one given in its place."""
    from depth_loss_sweep.store import Store

    return Store.open(place, chosen_storage(storage))


def _written(option: str, values: Sequence[str]) -> str:
    """An option with each of its values, to be put behind a command."""
    return "".join(f" {option} {shlex.quote(value)}" for value in values)


def at_place(advice: str, where: str, crew: str = "") -> str:
    """Advice with options behind each command of a study in it, so that it can be pasted: where studies are, and who trains."""
    command = r"sweep (resume|confirm|status|delete|report|best|copy) [A-Za-z0-9][\w.+-]*+(?! --)"
    return re.sub(command, lambda found: found[0] + where + crew * (found[1] in ("resume", "confirm")), advice)


def place_in(arguments: Sequence[str]) -> tuple[str, str]:
    """The options of a command line that say where studies are, and those that say who trains, as `at_place` takes them."""
    given: dict[str, list[str]] = {"--home": [], "--storage": [], "--executor": [], "--option": []}
    for option, value in zip(arguments, [*arguments[1:], ""], strict=True):
        name, equals, rest = option.partition("=")
        if name in given:
            given[name].append(rest if equals else value)
    home, storage = (given[name][-1] if given[name] else None for name in ("--home", "--storage"))
    crew = "".join(_written(name, given[name]) for name in ("--executor", "--option"))
    return where_options(Path(home) if home else None, storage), crew


def where_options(home: Path | None, storage: str | None) -> str:
    """The options with which a command finds the same studies, to be put behind it."""
    where = f" --home {shlex.quote(str(home))}" if home else ""
    return where + (f" --storage {shlex.quote(hide_password(storage))}" if storage else "")
