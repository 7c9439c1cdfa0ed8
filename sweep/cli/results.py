"""What a study found: sweep export and best."""

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from depth_loss_sweep.cli.options import ForceOption, HomeOption, StorageOption, kept_places, open_store
from depth_loss_sweep.cli.printing import print_json
from depth_loss_sweep.errors import OutputError, StudyError
from depth_loss_sweep.outputs import check_outputs, file_at
from depth_loss_sweep.paths import Home
from depth_loss_sweep.reports.naming import beside_weights, spec_recipe, written

if TYPE_CHECKING:
    from depth_loss_sweep.reports.analysis import Analysis


def export(
    name: Annotated[str, typer.Argument(help="The study.")],
    format_: Annotated[str, typer.Option("--format", help="csv, json or parquet.")] = "csv",
    table: Annotated[
        str, typer.Option("--table", help="runs, epochs, trials, raced or confirmed (json holds all).")
    ] = "runs",
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
    store = open_store(place, storage)
    written = write_export(store, name, format_, table, output, kept_places(store, place), force)
    if format_ == "parquet":
        print("\n".join(map(str, written)))


def best(
    name: Annotated[str, typer.Argument(help="The study.")],
    checkpoint: Annotated[
        str | None,
        typer.Option(
            "--checkpoint",
            help="Save the model of the trial that is named in this file (.npz, .safetensors) or folder.",
        ),
    ] = None,
    onnx: Annotated[str | None, typer.Option("--onnx", help="Save it as ONNX in this file or folder.")] = None,
    python: Annotated[bool, typer.Option("--python", help="Print the loss as Python for a training loop.")] = False,
    trial: Annotated[int | None, typer.Option("--trial", min=0, help="This trial's model or loss instead.")] = None,
    force: ForceOption = False,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
    home: HomeOption = None,
    storage: StorageOption = None,
) -> None:
    """The answer: whether anything was learnt, which weights to use, and how sure that is, as the report has it."""
    from depth_loss_sweep.environments import told_of
    from depth_loss_sweep.reports.analysis import Analysis
    from depth_loss_sweep.reports.wording import headline, reasons, verdict, warning
    from depth_loss_sweep.results import need_finished, study_record

    place = Home.choose(home)
    store = open_store(place, storage)
    store.require_own(name, "best")
    given = {f"{name}-model.npz": checkpoint, f"{name}-model.onnx": onnx}
    targets = [file_at(path, usual) for usual, path in given.items() if path is not None]
    if onnx is not None and targets[-1].suffix != ".onnx":
        raise OutputError(f"--onnx {onnx}: expected a file called .onnx, or a folder")
    if targets:
        from depth_loss_sweep.model.formats import is_formatted

        check_outputs(targets, is_formatted, kept_places(store, place), force)
    record = study_record(store, place, name)
    need_finished(record)
    _check_trial(name, trial, len(record.trials), python or bool(targets))
    analysis = Analysis(record)
    environments = told_of(store, name)
    decision, named, measure = analysis.decision, analysis.named, analysis.ranking
    said, _ = headline(decision, spec_recipe(named.weights, named.params) if named else "", measure)
    chosen = decision.trial if trial is None else trial
    if (targets or python) and chosen is None:
        raise StudyError(f"no trial of {name!r} can be named: {said}; choose one yourself with --trial N")
    if python and chosen is not None:
        from depth_loss_sweep.snippets import loss_snippet

        print(loss_snippet(store, name, chosen), end="")
    elif as_json:
        made_of = {"weights": named.weights, "params": named.params} if named else {"weights": {}, "params": {}}
        about = {"headline": said, "verdict": verdict(decision), "objective": record.objective, **made_of}
        confirmed, matters, front = (
            found and found.as_dict() for found in (analysis.confirmation, analysis.importance, analysis.front)
        )
        beside = {"confirmation": confirmed, "front": front, "cost": analysis.cost.as_dict(), "importance": matters}
        print_json({**about, **decision.as_dict(), **beside, "environments": environments})
    else:
        of_trial = (
            _named_lines(analysis),
            _unlearnt_lines(analysis),
            reasons(decision, measure),
            _confirmed_lines(analysis),
        )
        parts = (*of_trial, _front_lines(analysis), [environments] if environments else [], _cost_lines(analysis))
        print("\n".join([said, *(line for part in parts for line in part)]))
    if targets and chosen is not None:
        from depth_loss_sweep.saved import save_trial

        for target in targets:
            seed = save_trial(store, place, name, chosen, target)
            print(f"saved {target} (seed {seed} of trial {chosen})", file=sys.stderr)
        if decision.state == "not_learnt":
            print("sweep: nothing was learnt, so the model that was saved is no recommendation", file=sys.stderr)
        elif chosen == decision.trial and warning(decision):
            print(f"sweep: {warning(decision)}, so the model that was saved is no recommendation", file=sys.stderr)


def _check_trial(name: str, trial: int | None, count: int, is_used: bool) -> None:
    if trial is not None and not is_used:
        raise StudyError(
            f"--trial {trial} says whose model --checkpoint or --onnx saves, or whose loss --python prints: give one"
        )
    if trial is not None and trial >= count:
        raise StudyError(f"--trial {trial}: the study {name!r} has the trials 0 to {count - 1}")


def _named_lines(analysis: "Analysis") -> list[str]:
    """The trial that is named, and all that it is made of, one a line."""
    from depth_loss_sweep.reports.wording import verdict

    named, decision = analysis.named, analysis.decision
    if named is None:
        return []
    fields = {name: written(value) for name, value in beside_weights(named.params).items()}
    parts = fields | {term: f"{weight:.6g}" for term, weight in named.weights.items() if weight}
    width = max(10, *map(len, parts))
    value = (
        f": {analysis.record.objective} {analysis.ranking.write(decision.mean)}" if decision.mean is not None else ""
    )
    return [
        f"trial {named.number}, {verdict(decision)}{value}",
        *(f"{name:{width}} {value}" for name, value in parts.items()),
    ]


def _unlearnt_lines(analysis: "Analysis") -> list[str]:
    """What was to be beaten, by how much it was missed, and what to do, where nothing was learnt."""
    from depth_loss_sweep.reports.measures import quantity

    measure, ranked = analysis.ranking, analysis.ranked
    if analysis.decision.state != "not_learnt" or not ranked:
        return []
    known = analysis.baselines(measure)
    predictors = ", ".join(
        f"the {label} {quantity(known[n], measure.unit)}"
        for n, label in analysis.record.predictors.items()
        if n in known
    )
    return [
        f"The best mean {measure.label} is {quantity(ranked[0].mean, measure.unit)}; {predictors}.",
        "Train longer, or at another rate (train.epochs, train.learning_rate), as a study of its own (--name).",
    ]


def _confirmed_lines(analysis: "Analysis") -> list[str]:
    """What was confirmed, where anything was."""
    from depth_loss_sweep.reports.quotes import quote, remarks

    confirmation = analysis.confirmation
    if confirmation is None:
        return []
    return [f"{quote(confirmation, analysis.ranking)}.", *remarks(confirmation)]


def _front_lines(analysis: "Analysis") -> list[str]:
    """The front of two objectives, a trial a line; nothing of a study of one."""
    from depth_loss_sweep.reports.wording import front_headline, front_levels

    front, trials = analysis.front, {t.number: t for t in analysis.trials}
    if front is None:
        return []
    lines = [f"{front_headline(front, analysis.objectives)}."]
    for member in front.members:
        made_of = spec_recipe(trials[member.trial].weights, trials[member.trial].params)
        knee = ", the knee" if member.trial == front.knee else ""
        lines.append(f"trial {member.trial}{knee}: {front_levels(member, analysis.objectives)} ({made_of})")
    return lines


def _cost_lines(analysis: "Analysis") -> list[str]:
    """What the answer cost, where anything was trained."""
    return [f"Cost: {analysis.cost.text}."] if analysis.cost.text else []
