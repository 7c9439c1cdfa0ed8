"""The command line: parses, calls, prints. The only place that turns errors into one line and an exit code.

Exit codes: 0 done; 1 done, but some runs failed; 2 the request or its input was bad; 130 interrupted, resumable.
Results go to stdout, everything else to stderr. What takes long to import is imported inside the command that needs it.
"""

import codecs
import json
import math
import os
import shlex
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict
from io import TextIOWrapper
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from depth_loss_sweep import __version__
from depth_loss_sweep.data.errors import DataError
from depth_loss_sweep.errors import SpecError, StudyError, SweepError, hide_password
from depth_loss_sweep.executors import Executor, check_executor, make_executor
from depth_loss_sweep.outputs import check_outputs, file_at, folder_at
from depth_loss_sweep.paths import Home, absolute_source, expanded
from depth_loss_sweep.reports.naming import beside_weights, spec_recipe, written
from depth_loss_sweep.words import counted, parse_budget

if TYPE_CHECKING:
    from depth_loss_sweep.session import Session, SessionResult
    from depth_loss_sweep.store import Store

LISTED = 5
"""How many diverged or failed runs `sweep status` lists."""

MILLIMETRES = 1000
"""How many units of a depth PNG a metre usually is."""

SAME_COMMAND = "the same command goes on where this one stopped"
DONE, SOME_FAILED, BAD_REQUEST, INTERRUPTED = 0, 1, 2, 130


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

HomeOption = Annotated[Path | None, typer.Option("--home", help="Home folder; default: $SWEEP_HOME, else ./runs.")]
StorageOption = Annotated[
    str | None,
    typer.Option("--storage", help="Database URL or SQLite file; default: HOME/sweep.db. [env: SWEEP_STORAGE]"),
]
WorkersOption = Annotated[
    int | None,
    typer.Option(
        "--workers", min=0, help="Worker processes; 0: train in this process. Default: one a core; one on a GPU."
    ),
]
ForceOption = Annotated[
    bool, typer.Option("--force", help="Replace what is there, even where this program did not make it.")
]
BudgetOption = Annotated[
    str | None,
    typer.Option("--budget", help="Stop after so long, such as 90m, 2h or 1h30m; sweep resume goes on from there."),
]
SetOption = Annotated[list[str] | None, typer.Option("--set", help="Override a key: section.key=value. Repeatable.")]


def main() -> None:
    """Entry point: one line and an exit code for what a user can mend; a programming error keeps its traceback."""
    codecs.register_error("sweep", _written)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="sweep")
    sys.exit(run(sys.argv[1:]))


def _written(error: UnicodeError) -> tuple[bytes, int]:
    """What a stream's encoding lacks: a path comes out as it is on disk, whatever its encoding, another letter as \\xe9."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    letter = error.object[error.start]
    is_of_a_path = "\udc80" <= letter <= "\udcff"
    return letter.encode("ascii", "surrogateescape" if is_of_a_path else "backslashreplace"), error.start + 1


def run(arguments: list[str]) -> int:
    """Run one command line; returns the exit code."""
    if arguments in ([], ["data"]):
        arguments = [*arguments, "--help"]
    try:
        result = app(args=arguments, standalone_mode=False, prog_name="sweep")
    except typer.TyperException as error:
        return _refuse(error.format_message())
    except ModuleNotFoundError as error:
        if error.name != "fcntl":
            raise
        return _refuse(f"sweep needs file locks, which {sys.platform} lacks: use Linux, macOS or WSL")
    except (typer.Abort, KeyboardInterrupt):
        print(f"sweep: interrupted; {SAME_COMMAND}", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:  # the reader of our output went away, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return DONE
    except (SweepError, DataError) as error:
        return _refuse(str(error))
    except OSError as error:  # a file or folder that cannot be read or written is the user's to mend
        return _refuse(
            f"{error.filename or 'a file'}: {error.strerror or error}; choose another place, or make room there"
        )
    except Exception as error:
        if _is_expected(error):
            return _refuse(str(error))
        raise
    return result if isinstance(result, int) else DONE


def _is_expected(error: Exception) -> bool:
    """Whether the model or reports package raised an error made for users; asked without importing them."""
    return any(base.__name__ in ("ModelError", "ReportError") for base in type(error).__mro__)


def _refuse(message: str) -> int:
    print("sweep: " + _plain(hide_password(" ".join(message.split()))), file=sys.stderr)
    return BAD_REQUEST


def _plain(text: str) -> str:
    """A text in which nothing, such as a file's name, can steer the terminal: what is not printable is shown as \\x1b."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "backslashreplace").decode() for c in text)


def _as_text(text: str) -> str:
    """A text that every file and database can hold: bytes of a path that are no UTF-8 are shown as \\xe4."""
    return os.fsencode(text).decode("utf-8", "backslashreplace")


def _print_json(value: Any) -> None:
    print(json.dumps(_finite(value), indent=2, default=str, allow_nan=False))


def _finite(value: Any) -> Any:
    """The value with None for each number that JSON has no word for."""
    if isinstance(value, Mapping):
        return {key: _finite(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _storage(given: str | None) -> str | None:
    return given or os.environ.get("SWEEP_STORAGE")


def _open(place: Home, storage: str | None) -> "Store":
    from depth_loss_sweep.store import Store

    return Store.open(place, _storage(storage))


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


# Studies


class Stopper:
    """The first Ctrl-C or SIGTERM asks for a stop, and so does the end of the budget; a second signal insists."""

    def __init__(self, budget: str | None = None) -> None:
        self.asked, self.budget = False, budget
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
            raise KeyboardInterrupt
        self.asked = True


@app.command()
def start(
    spec: Annotated[str, typer.Argument(help="A preset's name (sweep presets) or a TOML file.")],
    data: Annotated[str | None, typer.Option("--data", help="Source: rooms, diode:PATH or pairs:PATH.")] = None,
    set_: SetOption = None,
    seeds: Annotated[str | None, typer.Option("--seeds", help="How many (5), or which (0,1,2).")] = None,
    name: Annotated[str | None, typer.Option("--name", help="Call the study so; default: the spec's name.")] = None,
    workers: WorkersOption = None,
    device: Annotated[str, typer.Option("--device", help="auto, cpu, cuda, cuda:N or mps.")] = "auto",
    executor_: Annotated[str, typer.Option("--executor", help="Where runs are trained: local.")] = "local",
    budget: BudgetOption = None,
    home: HomeOption = None,
    storage: StorageOption = None,
) -> int:
    """Start a study; one that exists with the same spec is resumed, with a larger spec grown."""
    check_executor(executor_)
    # The handlers first, for an interrupt is lost in some libraries' imports; then workers, which import torch meanwhile.
    with Stopper(budget) as stop, closing(make_executor(executor_, workers)) as executor:
        from depth_loss_sweep.spec import load_spec, override_seeds, parse_override

        overrides: dict[str, Any] = dict(parse_override(text) for text in set_ or [])
        if data is not None:
            overrides["data.source"] = data
        if seeds is not None:
            overrides["study.seeds"] = list(override_seeds(seeds))
        if name is not None:
            overrides["study.name"] = name
        if isinstance(overrides.get("data.source"), str):
            overrides["data.source"] = absolute_source(overrides["data.source"])
        study = load_spec(spec, overrides)
        source = absolute_source(study.data.source, Path(spec).parent)
        if source != study.data.source:  # kept with the study, so that it can be resumed from anywhere
            overrides["data.source"] = source
            study = load_spec(spec, overrides)

        def work(session: "Session") -> "SessionResult":
            from depth_loss_sweep.study import start as start_study

            return start_study(study, overrides, session)

        return _work(study.name, work, stop, executor, workers, device, home, storage)


@app.command()
def resume(
    name: Annotated[str, typer.Argument(help="The study's name (sweep list).")],
    data: Annotated[str | None, typer.Option("--data", help="Where the same pictures lie now.")] = None,
    workers: WorkersOption = None,
    executor_: Annotated[str, typer.Option("--executor", help="Where runs are trained: local.")] = "local",
    budget: BudgetOption = None,
    home: HomeOption = None,
    storage: StorageOption = None,
) -> int:
    """Go on exactly where a study stopped; nothing that would change its results can be set."""
    check_executor(executor_)
    moved = absolute_source(data) if data is not None else None
    with Stopper(budget) as stop, closing(make_executor(executor_, workers)) as executor:
        _open(Home.choose(home), storage).require(name)

        def work(session: "Session") -> "SessionResult":
            from depth_loss_sweep.study import resume as resume_study

            return resume_study(name, moved, session)

        return _work(name, work, stop, executor, workers, "auto", home, storage)


def _work(
    name: str,
    work: "Callable[[Session], SessionResult]",
    stop: Stopper,
    executor: Executor,
    workers: int | None,
    device: str,
    home: Path | None,
    storage: str | None,
) -> int:
    """Work on a study under a progress display, let go of its workers, print how it ended."""
    place = Home.choose(home)
    with closing(executor):
        from depth_loss_sweep.display import ProgressDisplay
        from depth_loss_sweep.session import Session

        command = _as_text(shlex.join(["sweep", *map(hide_password, sys.argv[1:])]))
        try:
            with ProgressDisplay() as show:
                end = work(Session(place, _storage(storage), workers, device, executor, command, show, stop))
        except KeyboardInterrupt:  # in the midst of what comes before training
            if not stop.is_spent:
                raise
            print(f"sweep: the budget of {stop.budget} is spent; {SAME_COMMAND}", file=sys.stderr)
            return INTERRUPTED
    where = f" --home {shlex.quote(str(home))}" if home else ""
    where += f" --storage {shlex.quote(hide_password(storage))}" if storage else ""
    if not end.finished:
        why = f"the budget of {stop.budget} is spent" if stop.is_spent else "interrupted"
        print(f"{why}; go on with: sweep resume {name}{where}", file=sys.stderr)
        return INTERRUPTED
    _print_end(place, storage, name, where)
    if end.failed_runs:
        print(f"sweep: {counted(end.failed_runs, 'run')} failed; see: sweep status {name}{where}", file=sys.stderr)
    return SOME_FAILED if end.failed_runs else DONE


def _print_end(place: Home, storage: str | None, name: str, where: str) -> None:
    from depth_loss_sweep.status import status as study_status

    found = study_status(_open(place, storage), place, name, LISTED)
    print(f"{name}: finished. {found['headline']}")
    if found["best"]:
        print(_trial_ahead(found))
    print(f"report: sweep report {name}{where}")


def _trial_ahead(found: Mapping[str, Any]) -> str:
    """The trial that is ahead, called as the report calls it, with all that it is made of."""
    best = found["best"]
    made_of = spec_recipe(best["weights"], best["params"])
    return f"trial {best['trial']}, {best['verdict']}: {found['objective']} {best['value']:.4g} ({made_of})"


@app.command()
def status(
    name: Annotated[str | None, typer.Argument(help="A study; default: all.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
    home: HomeOption = None,
    storage: StorageOption = None,
) -> None:
    """Where a study stands: trials, runs, outcomes, the answer so far, and what diverged or failed."""
    from depth_loss_sweep.status import status as study_status

    place = Home.choose(home)
    store = _open(place, storage)
    names = [name] if name else [row["name"] for row in store.studies()]
    found = [study_status(store, place, each, None if as_json else LISTED) for each in names]
    if as_json:
        _print_json(found[0] if name else found)
    elif not found:
        print("no studies yet; begin with: sweep start demo")
    else:
        print("\n\n".join(_status_text(each) for each in found))


def _status_text(found: Mapping[str, Any]) -> str:
    trials = found["trials"]
    begun = _counted(found["state"], {s: trials[s] for s in ("running", "pruned", "failed")})
    lines = [
        f"{found['name']}: {found['state']}" + (f" ({found['held_by']})" if found["held_by"] else ""),
        f"  trials    {trials['complete']} of {trials['total']} complete" + (f", {begun}" if begun else ""),
        f"  runs      {_counted(found['state'], found['runs']) or 'none yet'}",
        f"  outcomes  {_counted(found['state'], found['outcomes']) or 'none yet'}",
        f"  answer    {found['headline']}",
    ]
    if found["best"]:
        lines.append(f"            {_trial_ahead(found)}")
    lines += _listed("diverged", found["diverged"], _break_text, found["outcomes"].get("non_finite", 0))
    lines += _listed(
        "failed", found["failed"], lambda run: run["reason"] or "no reason is known", found["runs"].get("failed", 0)
    )
    return "\n".join(lines)


def _counted(state: str, counts: Mapping[str, int]) -> str:
    """How many there are of what, such as "3 complete, 1 running"; with nobody at work, what was begun is not running."""
    words = {} if state == "running" else {"running": "begun"}
    return ", ".join(f"{n} {words.get(kind, kind)}" for kind, n in sorted(counts.items()) if n)


def _listed(what: str, runs: Sequence[Mapping[str, Any]], say: Callable[[Any], str], count: int) -> list[str]:
    """A line a run, and how many more there are of its kind."""
    made_of = [spec_recipe(run["weights"], run["params"]) for run in runs]
    lines = [f"trial {r['trial']} seed {r['seed']} ({what}): {say(r)}" for r, what in zip(runs, made_of, strict=True)]
    if runs and count > len(runs):
        lines.append(f"... and {count - len(runs)} more (all: --json)")
    return [f"  {what if not i else '':8}  {_plain(' '.join(line.split()))}" for i, line in enumerate(lines)]


def _break_text(run: Mapping[str, Any]) -> str:
    if run["epoch"] is None:  # of a version that did not keep it
        return run["reason"] or "where is not known"
    return (
        f"epoch {run['epoch']}, step {run['step']}: {run['term']} is not finite, gradient norm {run['grad_norm']:.3g}"
    )


@app.command(name="list")
def list_(
    as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
    home: HomeOption = None,
    storage: StorageOption = None,
) -> None:
    """All studies, a line each."""
    from depth_loss_sweep.lease import state_of

    place = Home.choose(home)
    store = _open(place, storage)
    rows = [
        {
            "name": r["name"],
            "state": state_of(store, place, r)[0],
            "trials": r["trials"],
            "created": r["created"],
            "updated": r["updated"],
        }
        for r in store.studies()
    ]
    if as_json:
        _print_json(rows)
        return
    if not rows:
        print("no studies yet; begin with: sweep start demo")
    width = max((len(row["name"]) for row in rows), default=0)
    for row in rows:
        counts = _counted(row["state"], row["trials"]) or "no trials yet"
        print(f"{row['name']:{width}}  {row['state']:11}  {row['created'][:16].replace('T', ' ')} UTC  {counts}")


@app.command()
def presets(name: Annotated[str | None, typer.Argument(help="Print this preset's TOML.")] = None) -> None:
    """The built-in specs; with a name, its text, ready to be saved and changed."""
    from depth_loss_sweep.spec import load_spec, preset_names, read_text

    if name is not None:
        if name not in preset_names():
            raise SpecError(f"no preset is called {name!r}; expected one of {', '.join(preset_names())}")
        print(read_text(name), end="")
        return
    for each in preset_names():
        spec = load_spec(each)
        runs = f"{counted(spec.trial_count, 'trial')} x {counted(len(spec.study.seeds), 'seed')}"
        print(f"{each:18} {spec.study.description} ({runs})")


@app.command()
def spec() -> None:
    """Every key of a spec with its default, its meaning and its choices: a spec, ready to be saved and changed."""
    from depth_loss_sweep.keys import spec_reference

    print(spec_reference(), end="")


@app.command()
def doctor(
    repair: Annotated[bool, typer.Option("--repair", help="Mend what is safe to mend.")] = False,
    home: HomeOption = None,
    storage: StorageOption = None,
) -> int:
    """Check a home folder: database, leases, runs, caches, leftovers, disk space, versions."""
    from depth_loss_sweep.doctor import examine

    code = DONE
    for finding in examine(Home.choose(home), _storage(storage), repair):
        print(f"{finding.level:7} {_plain(finding.text)}", flush=True)  # at once: a large home takes its time
        code = SOME_FAILED if finding.level == "broken" else code
    return code


@app.command()
def copy(
    name: Annotated[str, typer.Argument(help="The study.")],
    to: Annotated[
        str | None,
        typer.Option(
            "--to",
            help="FILE.db, a home folder, a database URL, or a folder of text (a CSV a table). Default: this home.",
        ),
    ] = None,
    source: Annotated[str | None, typer.Option("--from", help="The same, to copy from. Default: this home.")] = None,
    new_name: Annotated[str | None, typer.Option("--name", help="Call the copy so.")] = None,
    files_: Annotated[bool, typer.Option("--files", help="Its runs' checkpoints and predictions, too.")] = False,
    home: HomeOption = None,
    storage: StorageOption = None,
) -> None:
    """Copy a study's numbers to another database, or to text that a repository can hold, and back.

    What was copied is taken up by start and resume instead of trained again, and marked where it was trained elsewhere.
    """
    from depth_loss_sweep.copies import Place, copy_study

    if to is None and source is None:
        raise SpecError(
            "say where the copy is to go (--to) or to come from (--from): FILE.db, a home folder, a URL or a folder"
        )
    here = Place(Home.choose(home), _storage(storage))
    target = Place.named(to) if to else here
    done = copy_study(name, Place.named(source) if source else here, target, new_name, files_)
    files = f", the files of {counted(done.files, 'run')}" if files_ else ""
    print(
        f"copied {new_name or name} to {target.shown}: {counted(done.trials, 'trial')}, {counted(done.runs, 'run')}{files}"
    )


@app.command()
def delete(
    name: Annotated[str, typer.Argument(help="The study.")],
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    home: HomeOption = None,
    storage: StorageOption = None,
) -> int:
    """Delete a study with its report and its runs; runs that other studies share stay."""
    from depth_loss_sweep.deletion import delete_study, extent

    place = Home.choose(home)
    store = _open(place, storage)
    found = extent(store, place, name)
    stays = f"; {counted(len(found.shared), 'run')} shared with other studies stay" if found.shared else ""
    what = f"{counted(found.trials, 'trial')}, {counted(len(found.runs), 'run')}, {found.bytes / 1e6:.1f} MB{stays}"
    if not yes:
        if not sys.stdin.isatty():
            raise SpecError(f"deleting {name} ({what}) needs a yes: say --yes")
        if not typer.confirm(f"delete {name}: {what}?", err=True):
            return DONE
    delete_study(store, place, name)
    print(f"deleted {name}: {what}")
    return DONE


# Results


@app.command()
def report(
    names: Annotated[list[str], typer.Argument(help="One or more studies.")],
    output: Annotated[
        str | None, typer.Option("--output", "-o", help="File or folder; default: HOME/studies/NAME/report.html.")
    ] = None,
    force: ForceOption = False,
    open_: Annotated[bool, typer.Option("--open", help="Open it in the browser.")] = False,
    watch: Annotated[
        bool, typer.Option("--watch", help="Write it again every 30 s until the studies have ended.")
    ] = False,
    home: HomeOption = None,
    storage: StorageOption = None,
) -> None:
    """Write one self-contained HTML file: which weights to use, how sure that is, where training breaks."""
    from depth_loss_sweep.reports.page import is_report, write_report
    from depth_loss_sweep.results import study_record

    place = Home.choose(home)
    store = _open(place, storage)
    for name in names:
        store.require(name)
    path = place.report(names[0]) if output is None else file_at(output, f"{names[0]}-report.html")
    check_outputs([path], is_report, _kept(store, place), force)
    write_report([study_record(store, place, name) for name in names], path)
    print(path)
    if open_:
        typer.launch(path.absolute().as_uri())
    while watch and _any_running(store, place, names):
        time.sleep(30)
        write_report([study_record(store, place, name) for name in names], path)


def _kept(store: "Store", place: Home) -> list[Path]:
    """What no output may overwrite: what lies in the home, and the database where --storage put it."""
    database = store.engine.url.database if store.engine.dialect.name == "sqlite" else None
    return [place.root, *(Path(f"{database}{ending}") for ending in ("", "-wal", "-shm") if database)]


def _any_running(store: "Store", place: Home, names: list[str]) -> bool:
    from depth_loss_sweep.lease import holder

    return any(holder(store, name, place.lock(name)) for name in names)


@app.command()
def export(
    name: Annotated[str, typer.Argument(help="The study.")],
    format_: Annotated[str, typer.Option("--format", help="csv, json or parquet.")] = "csv",
    table: Annotated[str, typer.Option("--table", help="runs, epochs or trials (json holds all).")] = "runs",
    output: Annotated[
        str | None, typer.Option("--output", "-o", help="File or folder (csv, json), folder (parquet).")
    ] = None,
    force: ForceOption = False,
    home: HomeOption = None,
    storage: StorageOption = None,
) -> None:
    """All numbers of a study: its trials, runs and epochs.

    A row of runs is whole: swept values (var_), weights (weight_), how it ended, and the numbers of its last epoch (final_epoch).
    """
    from depth_loss_sweep.export import write_export

    place = Home.choose(home)
    store = _open(place, storage)
    written = write_export(store, name, format_, table, output, _kept(store, place), force)
    if format_ == "parquet":
        print("\n".join(map(str, written)))


@app.command()
def best(
    name: Annotated[str, typer.Argument(help="The study.")],
    checkpoint: Annotated[
        str | None,
        typer.Option("--checkpoint", help="Save the model of the trial that is ahead in this file or folder."),
    ] = None,
    trial: Annotated[
        int | None, typer.Option("--trial", min=0, help="Save this trial's model instead; with --checkpoint.")
    ] = None,
    force: ForceOption = False,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
    home: HomeOption = None,
    storage: StorageOption = None,
) -> None:
    """The answer: whether anything was learnt, which weights to use, and how sure that is, as the report has it."""
    from depth_loss_sweep.model.checkpoint import is_model_file
    from depth_loss_sweep.reports.analysis import Analysis
    from depth_loss_sweep.results import need_finished, study_record

    place = Home.choose(home)
    store = _open(place, storage)
    store.require(name)
    target = None if checkpoint is None else file_at(checkpoint, f"{name}-model.npz")
    if target is not None:
        check_outputs([target], is_model_file, _kept(store, place), force)
    record = study_record(store, place, name)
    need_finished(record)
    _check_trial(name, trial, len(record.trials), target)
    found = Analysis(record).recommendation
    headline, _ = found.headline(spec_recipe(found.weights, found.params))
    if as_json:
        _print_json({"headline": headline, "verdict": found.verdict, **found.as_dict()})
    else:
        print("\n".join([headline, *_recommendation_lines(found), found.reason]))
    if target is not None:
        chosen = found.trial if trial is None else trial
        if chosen is None:
            raise StudyError(f"no weights can be recommended from {name!r}: {found.reason} Or choose with --trial N")
        _save_checkpoint(store, place, name, chosen, target)
        if found.nothing_learnt or (chosen == found.trial and found.status == "ahead"):
            lost = "nothing was learnt: no trial beats" if found.nothing_learnt else f"trial {chosen} does not beat"
            print(f"sweep: {lost} the trivial predictors, so the model that was saved is no advice", file=sys.stderr)


def _check_trial(name: str, trial: int | None, count: int, target: Path | None) -> None:
    if trial is not None and target is None:
        raise StudyError(f"--trial {trial} says whose model --checkpoint saves: give that, too")
    if trial is not None and trial >= count:
        raise StudyError(f"--trial {trial}: the study {name!r} has the trials 0 to {count - 1}")


def _recommendation_lines(found: Any) -> list[str]:
    """The trial that is ahead, and all that it is made of, one a line."""
    if found.trial is None:
        return []
    named = {name: written(value) for name, value in beside_weights(found.params).items()}
    parts = named | {term: f"{weight:.6g}" for term, weight in found.weights.items() if weight}
    width = max(10, *map(len, parts))
    head = f"trial {found.trial}, {found.verdict}: {found.objective} {found.mean:.4g}"
    return [head, *(f"{name:{width}} {value}" for name, value in parts.items())]


def _save_checkpoint(store: "Store", place: Home, name: str, trial: int, target: Path) -> None:
    """Save the model of a trial's first seed whose checkpoint is whole, without optimiser state."""
    from depth_loss_sweep.model.errors import ModelError
    from depth_loss_sweep.model.predict import save_model
    from depth_loss_sweep.retention import kept

    lost, setting = [], ""
    for row in store.runs(name):
        if row["trial"] != trial or row["state"] != "finished":
            continue
        if kept(store, row) == "none":
            lost.append("none was kept: train.keep is 'none'")
            setting = " with --set train.keep=last"
            continue
        try:
            save_model(place.run(row["run"]), target, row["epochs"])
        except ModelError as error:
            lost.append(str(error))
            continue
        print(f"saved {target} (seed {row['seed']} of trial {trial})", file=sys.stderr)
        return
    raise StudyError(
        f"trial {trial} of {name!r} has no whole checkpoint to save ({lost[0] if lost else 'no run is finished'}): "
        f"train it again, by the same spec{setting} in another --home"
    )


@app.command()
def evaluate(
    checkpoint: Annotated[
        Path, typer.Argument(help="A model saved by sweep best --checkpoint, or a run's checkpoint.")
    ],
    data: Annotated[str, typer.Option("--data", help="Source: rooms, diode:PATH or pairs:PATH.")],
    set_: SetOption = None,
    part: Annotated[str, typer.Option("--part", help="train, val, test or all.")] = "test",
    as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
    home: HomeOption = None,
) -> None:
    """A model's metrics on a source, beside the trivial predictors' (training median and training mean map).

    --part all judges every picture of the source, whatever the split.

    On the pictures it was trained with, give the study's split settings (--set split=...), or it is judged on what it saw.
    """
    from depth_loss_sweep.inference import evaluate_source
    from depth_loss_sweep.spec import parse_override

    overrides = dict(parse_override(text) for text in set_ or [])
    found = evaluate_source(expanded(checkpoint), absolute_source(data), overrides, part, Home.choose(home).create())
    if as_json:
        _print_json(found)
    else:
        print("\n".join(_evaluation_lines(found)))


def _evaluation_lines(found: Mapping[str, Any]) -> list[str]:
    """A line a metric with its unit; fractions in per cent. What could not be had is "-"."""
    columns = ("model", "median", "mean_map")
    images = "1 image" if found["images"] == 1 else f"{found['images']} images"
    lines = [f"{'metric':16}{'unit':8}" + "".join(f"{c:>12}" for c in columns) + f"   ({images}, {found['part']})"]
    for metric in found["model"]:
        unit = _unit(metric)
        cells = (_cell((found[c] or {}).get(metric), 100 if unit == "%" else 1) for c in columns)
        lines.append(f"{metric:16}{unit:8}" + "".join(f"{cell:>12}" for cell in cells))
    return lines + ([found["note"]] if found["note"] else [])


def _unit(metric: str) -> str:
    """A metric's unit in ASCII, as a table's cell."""
    from depth_loss_sweep.measures import measure
    from depth_loss_sweep.reports.measures import NO_UNIT

    unit = measure(f"metric_{metric}").unit
    return {NO_UNIT: "none", "fraction": "%", "log₁₀": "log10"}.get(unit, unit)


def _cell(value: float | None, factor: int) -> str:
    return "-" if value is None or math.isnan(value) else f"{factor * value:.4f}"


@app.command()
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
    for found in predict_photos(expanded(checkpoint), photos, folder_at(output), force):
        print(f"{found.depth}\n{found.colour}")
        name = _plain(found.depth.name)
        if found.units != units:
            units = found.units
            unit = "millimetres" if units == MILLIMETRES else f"units of 1/{units} m"
            print(f"sweep: from {name} on, depth PNGs are in {unit}", file=sys.stderr)
        if found.missing:
            print(f"sweep: {name}: {found.missing:.1%} of the pixels have no depth", file=sys.stderr)
    if left_out:
        print(f"sweep: {_left_out(left_out)}", file=sys.stderr)


def _left_out(files: Sequence[Path]) -> str:
    names = _plain(", ".join(path.name for path in files[:3])) + (", ..." if len(files) > 3 else "")
    return f"left out {len(files)} {'file' if len(files) == 1 else 'files'} (no photograph, or a depth map): {names}"


# Data


def _data_settings(source: str, set_: list[str] | None) -> Any:
    """Data settings from a source and --set key=value (the [data] section's keys)."""
    from depth_loss_sweep.spec import parse_data_settings, parse_override

    return parse_data_settings(absolute_source(source), dict(parse_override(text) for text in set_ or []))


@data_app.command("check")
def data_check(
    source: Annotated[str, typer.Argument(help="rooms, diode:PATH or pairs:PATH.")],
    set_: SetOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
) -> int:
    """Count pictures, scenes, valid pixels and depths, as they are and as training sees them, and name each bad file.

    Exits as `sweep start` would with the same settings: 2 where it would refuse the data.
    """
    from depth_loss_sweep.data.check import check_source
    from depth_loss_sweep.display import ProgressDisplay

    with ProgressDisplay() as show:
        found = check_source(_data_settings(source, set_), lambda done, total: show.preparing(done, total, "checking"))
    if as_json:
        _print_json(asdict(found))
    else:
        print("\n".join(_check_lines(found)))
    return DONE if found.ok else BAD_REQUEST


def _check_lines(found: Any) -> list[str]:
    """What `sweep data check` prints; what is wrong comes last, so that it is not scrolled away."""
    counted = {"folders": found.folders, "sizes": found.sizes, "split": found.parts}
    texts = {
        key: ", ".join(f"{n} {name or 'in no split folder'}" for name, n in part.items())
        for key, part in counted.items()
    }
    lines = [
        f"source     {found.source}",
        f"pictures   {found.pictures} of {found.scenes} scenes ({texts['folders']})",
        f"sizes      {texts['sizes'] or 'none'}",
        f"split      {found.split_error or texts['split']}",
    ]
    if found.at_training_size:
        beyond = f"{found.out_of_range_fraction:.1%} of these beyond the depth range"
        lines.append(f"valid      {found.valid_fraction:.1%} of all pixels; {beyond}")
    if found.depth_max is not None:
        spread = ", ".join(f"{name[1:]} %: {value:.2f}" for name, value in found.depth_percentiles.items())
        lines.append(f"depth      {found.depth_min:.2f} to {found.depth_max:.2f} m ({spread})")
    if found.at_training_size:
        lines.append(f"training   {_training_text(found.at_training_size)}")
    lines.append(f"bad files  {len(found.bad) or 'none'}")
    lines += [f"  {_kind_text(found, kind, keys)}" for kind, keys in found.bad_by_kind.items()]
    lines += [f"note       {text}" for text in found.notes]
    return [_plain(line) for line in lines + [f"refused    {text}" for text in found.refusals]]


def _training_text(seen: Any) -> str:
    height, width = seen.image_size
    return (
        f"at {height}x{width} (depth_resize {seen.depth_resize}) {seen.valid_fraction:.1%} of all pixels are valid, "
        f"{seen.usable_fraction:.1%} within the depth range; {seen.ssim_windows:.0f} windows a picture count for SSIM"
    )


def _kind_text(found: Any, kind: str, keys: Sequence[str]) -> str:
    """One bad file by its name, many of a kind by the first few (all: --json)."""
    from depth_loss_sweep.data.sources import names_of

    if len(keys) == 1:
        return str(dict(found.bad)[keys[0]])
    return f"{len(keys)} times: {kind} ({names_of(keys)})"


@data_app.command("preview")
def data_preview(
    source: Annotated[str, typer.Argument(help="rooms, diode:PATH or pairs:PATH.")],
    output: Annotated[str, typer.Option("--output", "-o", help="The PNG to write, or a folder.")] = "preview.png",
    force: ForceOption = False,
    count: Annotated[int, typer.Option("--count", min=1, max=200, help="How many pictures.")] = 12,
    set_: SetOption = None,
) -> None:
    """Write a contact sheet: pictures beside their depth."""
    from depth_loss_sweep.data.check import is_preview, preview

    settings, path = _data_settings(source, set_), file_at(output, "preview.png")
    folder = settings.source.partition(":")[2]
    check_outputs([path], is_preview, [Path(folder)] if folder else [], force)
    print(preview(settings, path, count))


@data_app.command("fetch")
def data_fetch(
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


if __name__ == "__main__":
    main()
