"""What becomes of studies: sweep status, list, doctor, copy and delete."""

import sys
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from depth_loss_sweep.cli.exit_codes import DONE, SOME_FAILED
from depth_loss_sweep.cli.options import (
    HomeOption,
    StorageOption,
    at_place,
    no_secret,
    open_store,
    where_options,
)
from depth_loss_sweep.cli.printing import plain, print_json, trial_ahead
from depth_loss_sweep.errors import SpecError
from depth_loss_sweep.paths import Home, chosen_storage
from depth_loss_sweep.reports.naming import spec_recipe
from depth_loss_sweep.words import counted

if TYPE_CHECKING:
    from depth_loss_sweep.store import Store

LISTED = 5
"""How many diverged or failed runs `sweep status` lists."""


def status(
    name: Annotated[str | None, typer.Argument(help="A study or group; default: all.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
    home: HomeOption = None,
    storage: StorageOption = None,
) -> None:
    """Where a study or group stands: trials, runs, outcomes, the answer so far, and what diverged or failed."""
    from depth_loss_sweep.status import status as study_status

    place = Home.choose(home)
    store = open_store(place, storage)
    if name and store.group(name):
        _print_group(store, place, name, as_json)
        return
    names = [name] if name else [row["name"] for row in store.studies() if not row["parent"]]
    studies = [study_status(store, place, each, None if as_json else LISTED) for each in names]
    if as_json:
        print_json(studies[0] if name else studies)
    elif not studies:
        print("no studies yet; begin with: sweep start demo")
    else:
        print("\n\n".join(_status_text(each) for each in studies))


def _print_group(store: "Store", place: Home, name: str, as_json: bool) -> None:
    from depth_loss_sweep.paper import status as group_status

    group = group_status(store, place, name, None if as_json else 0)
    if as_json:
        print_json(group)
        return
    asked = f"scale {group['scale']}, {', '.join(group['only']) or 'all claims'}"
    print(f"{name}: {group['state']}" + (f" ({group['held_by']})" if group["held_by"] else "") + f"; {asked}")
    states = {study["name"]: study for study in group["studies"]}
    width = max(map(len, [*states, *(each["name"] for each in group["left"])]), default=0)
    for study in states.values():
        trials = study["trials"]
        runs = _counted(study["state"], study["runs"]) or "no runs yet"
        counts = f"{trials['complete']} of {counted(trials['total'], 'trial')}, {runs}"
        counts += "".join(f", {n} failed of {e['name']}" for e in study["beside"] if (n := e["runs"].get("failed", 0)))
        print(f"  {study['name']:{width}}  {study['state']:11}  {counts}; {study['headline']}")
    for each in group["left"]:
        if each["name"] not in states or states[each["name"]]["state"] == "finished":
            what = "to grow" if each["name"] in states else "to come"
            print(f"  {each['name']:{width}}  {what:11}  for {', '.join(each['claims'])}")
    if group["warning"]:
        print(group["warning"])
    for claim in group["claims"]:
        print(f"  {claim['number']}: {claim['said']}")


def _status_text(study: Mapping[str, Any]) -> str:
    trials = study["trials"]
    begun = _counted(study["state"], {s: trials[s] for s in ("running", "pruned", "failed")})
    lines = [
        f"{study['name']}: {study['state']}" + (f" ({study['held_by']})" if study["held_by"] else ""),
        f"  trials    {trials['complete']} of {trials['total']} complete" + (f", {begun}" if begun else ""),
        f"  runs      {_counted(study['state'], study['runs']) or 'none yet'}",
        f"  outcomes  {_counted(study['state'], study['outcomes']) or 'none yet'}",
        f"  answer    {study['headline']}",
    ]
    if study["best"]:
        lines.append(f"            {trial_ahead(study)}")
    if study["confirmed"]:
        lines.append(f"            {study['confirmed']}")
    if study["front_headline"]:
        lines.append(f"            {study['front_headline']}")
    if study["environments"]:
        lines.append(f"  note      {study['environments']}")
    if study["cost"]["said"]:
        lines.append(f"  cost      {study['cost']['said']}")
    lines += _listed("diverged", study["diverged"], _break_text, study["outcomes"].get("non_finite", 0))
    for each in (study, *study["beside"]):
        of = "" if each is study else f"{each['name']} "
        lines += _listed("failed", each["failed"], _reason_text, each["runs"].get("failed", 0), of)
    return "\n".join(lines)


def _counted(state: str, counts: Mapping[str, int]) -> str:
    """How many there are of what, such as "3 complete, 1 running"; with nobody at work, what was begun is not running."""
    words = {} if state == "running" else {"running": "begun"}
    return ", ".join(f"{n} {words.get(kind, kind)}" for kind, n in sorted(counts.items()) if n)


def _listed(
    what: str, runs: Sequence[Mapping[str, Any]], say: Callable[[Any], str], count: int, of: str = ""
) -> list[str]:
    """A line a run, and how many more there are of its kind; `of` is which study they are of, where that needs saying."""
    made_of = [spec_recipe(run["weights"], run["params"]) for run in runs]
    lines = [
        f"{of}trial {r['trial']} seed {r['seed']} ({what}): {say(r)}" for r, what in zip(runs, made_of, strict=True)
    ]
    if runs and count > len(runs):
        lines.append(f"... and {count - len(runs)} more (all: --json)")
    return [f"  {what if not i else '':8}  {plain(' '.join(line.split()))}" for i, line in enumerate(lines)]


def _reason_text(run: Mapping[str, Any]) -> str:
    return run["reason"] or "no reason is known"


def _break_text(run: Mapping[str, Any]) -> str:
    if run["epoch"] is None:  # of a version that did not keep it
        return run["reason"] or "where is not known"
    return (
        f"epoch {run['epoch']}, step {run['step']}: {run['term']} is not finite, gradient norm {run['grad_norm']:.3g}"
    )


def list_(
    as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
    home: HomeOption = None,
    storage: StorageOption = None,
) -> None:
    """All studies, a line each; those of a group stand below it."""
    from depth_loss_sweep.lease import state_of

    place = Home.choose(home)
    store = open_store(place, storage)
    rows = [
        {
            "name": r["name"],
            "group": r["group"],
            "state": state_of(store, place, r)[0],
            "trials": r["trials"],
            "created": r["created"],
            "updated": r["updated"],
        }
        for r in store.studies()
        if not r["parent"]
    ]
    if as_json:
        print_json(rows)
        return
    if not rows:
        print("no studies yet; begin with: sweep start demo")
    groups = {row["name"]: row for row in store.groups()}
    lines = [
        _line(row["name"], row, _counted(row["state"], row["trials"]) or "no trials yet")
        for row in rows
        if row["group"] not in groups
    ]
    for name, group in groups.items():
        parts = [row for row in rows if row["group"] == name]
        head = {**group, "state": state_of(store, place, group)[0]}
        lines.append(_line(name, head, counted(len(parts), "study", plural="studies")))
        lines += [
            _line(f"  {row['name']}", row, _counted(row["state"], row["trials"]) or "no trials yet") for row in parts
        ]
    width = max((len(name) for name, _ in lines), default=0)
    for name, about in lines:
        print(f"{name:{width}}  {about}")


def _line(name: str, row: Mapping[str, Any], what: str) -> tuple[str, str]:
    return name, f"{row['state']:11}  {row['created'][:16].replace('T', ' ')} UTC  {what}"


def doctor(
    repair: Annotated[bool, typer.Option("--repair", help="Mend what is safe to mend.")] = False,
    home: HomeOption = None,
    storage: StorageOption = None,
) -> int:
    """Check a home folder: database, leases, runs, caches, leftovers, disk space, versions."""
    from depth_loss_sweep.doctor import examine

    code, where = DONE, where_options(home, storage)
    for finding in examine(Home.choose(home), chosen_storage(storage), repair):
        told = plain(at_place(finding.text, where))
        print(f"{finding.level:7} {told}", flush=True)  # at once: a large home takes its time
        code = SOME_FAILED if finding.level == "broken" else code
    return code


def copy(
    name: Annotated[str, typer.Argument(help="The study or group.")],
    to: Annotated[
        str | None,
        typer.Option(
            "--to",
            help="FILE.db, a home folder, a database URL, or a folder of text (a CSV a table). Default: this home.",
            callback=no_secret,
        ),
    ] = None,
    source: Annotated[
        str | None, typer.Option("--from", help="The same, to copy from. Default: this home.", callback=no_secret)
    ] = None,
    new_name: Annotated[str | None, typer.Option("--name", help="Call the copy so.")] = None,
    files_: Annotated[bool, typer.Option("--files", help="Its runs' checkpoints and predictions, too.")] = False,
    home: HomeOption = None,
    storage: StorageOption = None,
) -> None:
    """Copy the numbers of a study or group to another database, or to text that a repository can hold, and back.

    What was copied is taken up by start and resume instead of trained again, and marked where it was trained elsewhere.
    """
    from depth_loss_sweep.copies import Place, copy_study

    if to is None and source is None:
        raise SpecError(
            "say where the copy is to go (--to) or to come from (--from): FILE.db, a home folder, a URL or a folder"
        )
    here = Place(Home.choose(home), chosen_storage(storage))
    target = Place.named(to, here.home) if to else here
    done = copy_study(name, Place.named(source, here.home) if source else here, target, new_name, files_)
    files = f", the files of {counted(done.files, 'run')}" if files_ else ""
    what = f"{counted(done.trials, 'trial')}, {counted(done.runs, 'run')}{files}"
    verified = "" if target.text else "; read back, all is the same"
    print(f"copied {new_name or name} to {target.shown}: {what}{verified}")


def delete(
    name: Annotated[str, typer.Argument(help="The study or group.")],
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    home: HomeOption = None,
    storage: StorageOption = None,
) -> int:
    """Delete a study or group with its report and its runs; runs that other studies share stay."""
    from depth_loss_sweep.deletion import delete_study, extent

    place = Home.choose(home)
    store = open_store(place, storage)
    extent_ = extent(store, place, name)
    stays = f"; {counted(len(extent_.shared), 'run')} shared with other studies stay" if extent_.shared else ""
    studies = f"{counted(extent_.studies, 'study', plural='studies')}, " if store.group(name) else ""
    what = f"{studies}{counted(extent_.trials, 'trial')}, {counted(len(extent_.runs), 'run')}, {extent_.bytes / 1e6:.1f} MB{stays}"
    if not yes:
        if not sys.stdin.isatty():
            raise SpecError(f"deleting {name} ({what}) needs a yes: say --yes")
        if not typer.confirm(f"delete {name}: {what}?", err=True):
            return DONE
    delete_study(store, place, name)
    print(f"deleted {name}: {what}")
    return DONE
