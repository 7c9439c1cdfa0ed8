"""`sweep paper`: the whole paper as one group of studies, which share identical runs, stop and go on as one.

Which studies there are follows from what was trained (`reports.paper.members`), so a group goes on by asking again: the first
member that isn't finished as it is asked for is started or grown, until all are. Of the group itself only what was asked for is
stored.
"""

import json
import math
import subprocess
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from pathlib import Path
from typing import Any

from sqlalchemy import select

from depth_loss_sweep.confirmation import confirm_after, is_confirmed
from depth_loss_sweep.copies import Place, take_runs
from depth_loss_sweep.data.prepare import Prepared, prepare_training
from depth_loss_sweep.data.settings import DataSettings, DataSummary
from depth_loss_sweep.errors import SpecError, StudyError, SweepError
from depth_loss_sweep.forecast import Forecast, free_bytes, is_large, most_candidates
from depth_loss_sweep.growth import grown_hash
from depth_loss_sweep.lease import state_of
from depth_loss_sweep.model.runtime import Runtime, resolve_runtime
from depth_loss_sweep.model.settings import RunSettings
from depth_loss_sweep.paths import Home, check_name
from depth_loss_sweep.reports.evidence import Member
from depth_loss_sweep.reports.findings import Account, account
from depth_loss_sweep.reports.findings_text import Made, paper_text
from depth_loss_sweep.reports.paper import BY_PICTURE, CLAIMS, members
from depth_loss_sweep.reports.paper_page import render_paper
from depth_loss_sweep.reports.records import StudyRecord
from depth_loss_sweep.results import study_numbers
from depth_loss_sweep.session import Session, SessionResult
from depth_loss_sweep.spec import StudySpec
from depth_loss_sweep.spec_file import load_spec, overrides_json, stored_overrides, stored_spec
from depth_loss_sweep.status import status as study_status
from depth_loss_sweep.store import Store
from depth_loss_sweep.study import Planner
from depth_loss_sweep.study import start as start_study
from depth_loss_sweep.tables import RUN
from depth_loss_sweep.validation import nearest
from depth_loss_sweep.words import counted, duration, size

SCALES: Mapping[str, Mapping[str, Any]] = {
    "small": {"data.image_size": 64, "model.width": 16, "data.train_images": 300},
    "full": {},
}
"""What differs from the paper, laid over every member: small is for two CPU cores, full is the paper's own, for a GPU."""

OF_MEMBERS = ("study", "search", "weights")
"""The sections of a spec in which members differ from each other."""

MOVING = ("data.source", "train.keep")
"""What may change of a group that was begun: no result does."""


Ended = dict[str, tuple[str, int]]
"""What a session has worked on: member -> as what it was asked for, and how many of its runs failed."""


@dataclass(frozen=True)
class Group:
    """What is asked for: a scale of the paper, for some of its claims or all, with what else differs."""

    name: str
    scale: str
    only: tuple[str, ...] = ()
    overrides: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_name(self.name)
        if self.scale not in SCALES:
            raise SpecError(f"--scale {self.scale!r}: expected one of {', '.join(SCALES)}")
        for claim in self.only:
            if claim not in CLAIMS:
                raise SpecError(f"--only {claim!r}{nearest(claim, CLAIMS)}: expected one of {', '.join(CLAIMS)}")
        for key in self.overrides:
            if key.partition(".")[0] in OF_MEMBERS:
                raise SpecError(
                    f"--set {key}: the studies of the paper differ in it; to change one of them, sweep start its preset"
                )

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> "Group":
        """A group as it was stored."""
        return cls(row["name"], row["scale"], tuple(json.loads(row["only"])), stored_overrides(row["overrides"]))

    def study(self, member: Member) -> str:
        """The name of a member's study."""
        return f"{self.name}-{member.key}"

    def spec(self, member: Member, seeds: Sequence[int]) -> tuple[StudySpec, dict[str, Any]]:
        """A member's spec, and what is laid over its preset."""
        own = {key: _exact(value) for key, value in member.overrides.items()}
        study = {"study.name": self.study(member), "study.seeds": list(seeds)}
        overrides = {**SCALES[self.scale], **self.overrides, **own, **study}
        spec = load_spec(member.preset, overrides)
        if spec.code:  # what a stored group names would be read anew, and be anything by then
            raise SpecError(
                f"{spec.code[0].shown} is code of your own, and the paper is trained without any: start a study of its own with it"
            )
        if member.size == 1:
            return spec, overrides
        overrides["data.image_size"] = [side * member.size for side in spec.data.image_size]
        return load_spec(member.preset, overrides), overrides


def _exact(value: Any) -> Any:
    """A value as TOML would be read, with decimals for floats."""
    if isinstance(value, list | tuple):
        return [_exact(part) for part in value]
    return Decimal(str(value)) if isinstance(value, float) else value


def start(group: Group, copies: Place | None, session: Session) -> SessionResult:
    """Start a group, or go on with it; `copies` is where finished runs are taken up from before.

    Raises `StudyError` where the group was begun with other settings, and `StudyHeldError` where somebody is at work on it.
    """
    for member in members({}, group.only):
        group.spec(member, member.seeds)  # what is wrong is said before anything is made
    store = session.open(create=True)
    group = _as_begun(group, store)
    session.take(group.name)
    asked_for = {"scale": group.scale, "only": json.dumps(group.only), "overrides": overrides_json(group.overrides)}
    try:
        records = group_records(store, group.name)
        if asked := _next(group, members(records, group.only), Ended(), store):
            _require_same_pictures(group, asked.spec, session)
        store.save_group(group.name, state="running", **asked_for)
        if copies:
            session.display.note(_taken_up(take_runs(copies, store, group.name), copies))
        return _work(group, records, session)
    except SweepError:
        if not store.group_studies(group.name):  # refused at once, it leaves nothing
            store.delete_study(group.name)
            store.delete_group(group.name)
        raise
    finally:
        session.release(forget=store.group(group.name) is None)


def resume(name: str, data: str | None, session: Session) -> SessionResult:
    """Go on exactly with what was asked for; `data` is where the same pictures lie now."""
    row = session.open().group(name)
    if row is None:
        raise StudyError(f"no group is called {name!r}: begin with: sweep paper --name {name}")
    group = Group.of(row)
    return start(replace(group, overrides={**group.overrides, "data.source": data}) if data else group, None, session)


def _as_begun(group: Group, store: Store) -> Group:
    """The group with the pictures that it was begun with, where none are named; `StudyError` where it was begun otherwise."""
    if store.study(group.name):
        raise StudyError(f"{group.name!r} is a study here: call the group otherwise, with --name")
    row = store.group(group.name)
    if row is None or not store.group_studies(group.name):
        return group
    before = Group.of(row)
    old, new = ({"scale": each.scale, **_fixed(each.overrides)} for each in (before, group))
    if changed := [key for key in sorted({*old, *new}) if old.get(key) != new.get(key)]:
        said = ", ".join(f"{key}: {old.get(key, 'not set')} -> {new.get(key, 'not set')}" for key in changed)
        raise StudyError(
            f"the group {group.name!r} was begun with other settings ({said}): give this one a name of its own with --name, or go "
            f"on with the old one: sweep resume {group.name}"
        )
    moving = {key: value for key, value in before.overrides.items() if key in MOVING}
    return replace(group, overrides={**moving, **group.overrides})


def _require_same_pictures(group: Group, spec: StudySpec, session: Session) -> None:
    """Raise `StudyError` where a group's next study would be of other pictures than its first."""
    for name in session.store.group_studies(group.name)[:1]:
        first = session.store.decoded(session.store.require(name), "data", DataSummary)
        pictures = prepare_training(spec.data, session.home.cache, session.show_preparing)
        if pictures.dataset.fingerprint != first["fingerprint"]:
            raise StudyError(
                f"the group {group.name!r} was begun on other pictures ({first['source']}) than {pictures.settings.source}: say "
                f"where they lie now, with --data, or give this group a name of its own, with --name"
            )


def _fixed(overrides: Mapping[str, Any]) -> dict[str, str]:
    return {key: str(value) for key, value in overrides.items() if key not in MOVING}


def _taken_up(runs: Sequence[Mapping[str, Any]], copies: Place) -> str:
    """How many runs were taken up, and where they were trained."""
    places = Counter(_place(json.loads(run["environment"])) for run in runs)
    where = "; ".join(f"{counted(count, 'run')} of {place}" for place, count in places.most_common())
    return f"{counted(len(runs), 'finished run')} of {copies.shown} can be taken up" + (f" ({where})" if where else "")


def _place(environment: Mapping[str, Any]) -> str:
    return ", ".join(f"{environment[key]}" for key in ("model", "device") if key in environment) + (
        f", torch {environment['torch']}" if "torch" in environment else ""
    )


def _work(group: Group, records: dict[str, StudyRecord], session: Session) -> SessionResult:
    """Train whatever is asked for and isn't there, study by study, until nothing is, or told to stop."""
    _stay_on_device(group, session)
    ended = Ended()
    prepared: dict[DataSettings, Prepared] = {}
    has_stopped = False
    plan = members(records, group.only)
    while not has_stopped and (asked := _next(group, plan, ended, session.store)):
        forecast = _foresee(group, plan, session, prepared)
        for line in forecast.lines(group.name, brief=bool(ended)):
            session.display.note(line)
        session.display.note(f"{group.name}: now {asked.spec.name}, for {', '.join(asked.member.claims)}")
        end = _train(group, asked, session)
        has_stopped = not end.finished or session.should_stop()
        if end.finished:
            ended[asked.member.key] = (asked.known_by, end.failed_runs)
        records[asked.member.key] = _record(session.store, asked.spec.name, asked.member.key)
        plan = members(records, group.only)
    is_finished = _next(group, plan, ended, session.store) is None
    session.store.save_group(group.name, state="finished" if is_finished else "interrupted")
    return SessionResult(is_finished, sum(failed for _, failed in ended.values()))


@dataclass(frozen=True)
class Asked:
    """A member as it is asked for, its study as it is to be."""

    member: Member
    spec: StudySpec
    overrides: Mapping[str, Any]

    @classmethod
    def of(cls, group: Group, member: Member, store: Store) -> "Asked":
        """A study only grows: seeds that it has stay, in their order."""
        row = store.study(group.study(member))
        before = stored_spec(row, store.shown_url).study.seeds if row else ()
        return cls(member, *group.spec(member, tuple(dict.fromkeys((*before, *member.seeds)))))

    @property
    def known_by(self) -> str:
        """Equal where the same is asked for."""
        return f"{grown_hash(self.spec)} {self.member.confirm}"

    def is_trained(self, group: Group, store: Store) -> bool:
        """Whether the study is there as it is asked for, none of its trials failed."""
        row = store.study(self.spec.name)
        if row is None or row["group"] != group.name or row["state"] != "finished":
            return False
        is_same = grown_hash(stored_spec(row, store.shown_url)) == grown_hash(self.spec)
        return is_same and not store.failed_trials(self.spec.name)

    def is_done(self, group: Group, store: Store) -> bool:
        """Whether nothing is left to be trained, to confirm its winner neither."""
        if not self.is_trained(group, store):
            return False
        return not self.member.confirm or is_confirmed(store, self.spec.name, self.member.confirm)


def _next(group: Group, plan: Sequence[Member], ended: Ended, store: Store) -> Asked | None:
    """The first member that isn't there as it is asked for, and wasn't worked on as such in this session."""
    for member in plan:
        asked = Asked.of(group, member, store)
        if member.key in ended and ended[member.key][0] == asked.known_by:
            continue
        if not asked.is_done(group, store):
            return asked
    return None


def _train(group: Group, asked: Asked, session: Session) -> SessionResult:
    """Train a member's study, and confirm its winner where that is asked for."""
    name, end = asked.spec.name, SessionResult(True, 0)
    if not asked.is_trained(group, session.store):
        end = start_study(asked.spec, asked.overrides, session, group.name)
    if not asked.member.confirm:
        return end
    return confirm_after(name, asked.spec.data.source, session, end, asked.member.confirm)


def _stay_on_device(group: Group, session: Session) -> None:
    """Train what comes where what is there was begun, unless a device is named: pairs are compared within an environment."""
    store = session.store
    names = store.group_studies(group.name)
    if names and session.device == "auto":
        session.device = store.decoded(store.require(names[0]), "runtime", Runtime).device


def group_records(store: Store, name: str) -> dict[str, StudyRecord]:
    """The records of a group's studies, finished or not, by the keys of their members."""
    keys = {study: study.removeprefix(f"{name}-") for study in store.group_studies(name)}
    return {key: _record(store, study, key) for study, key in keys.items()}


def _record(store: Store, study: str, key: str) -> StudyRecord:
    return study_numbers(store, study, has_terms=key in BY_PICTURE)


# What it takes


@dataclass(frozen=True)
class GroupForecast:
    """What a group takes, as far as its studies are known by now; runs that they share count once."""

    studies: tuple[Forecast, ...]
    seconds: float | None
    """By the pace of the runs that were trained here; None before the first."""

    def lines(self, name: str, brief: bool) -> list[str]:
        """What is said before a study is trained; `brief`: once all of it was said."""
        runs, done = (sum(getattr(study, what) for study in self.studies) for what in ("runs", "done"))
        more = sum(study.most - study.runs for study in self.studies)
        time = f"about {duration(self.seconds)}" if self.seconds is not None else "how long that takes isn't known yet"
        first = f"{name}: {counted(runs, 'run')} in {counted(len(self.studies), 'study', plural='studies')}, {done} done already; "
        first += f"{runs - done} to train, {time}"
        if brief:
            return [first]
        looks = [f"{name}: looks to come and confirming may ask for up to {counted(more, 'run')} more"] if more else []
        return [first, *looks, *self._disk(name)]

    def _disk(self, name: str) -> list[str]:
        needed = {keep: sum(study.disk_bytes(keep) for study in self.studies) for keep in ("last", "none")}
        kept, free = self.studies[0].spec.train.keep, self.studies[0].free_bytes
        line = f"{name}: takes up to about {size(needed[kept])} of disk beside its pictures; {size(free)} are free"
        if needed[kept] <= free:
            return [line]
        less = f", or give --set train.keep=none (about {size(needed['none'])})" if kept == "last" else ""
        return [line, f"warning: {name} takes more disk than is free: make room{less}"]


def _foresee(
    group: Group, asked: Sequence[Member], session: Session, prepared: dict[DataSettings, Prepared]
) -> GroupForecast:
    """The forecast of these members, all of them grids."""
    store, studies = session.store, []
    elsewhere, copies = store.finished_elsewhere(group.name, judged_on_test=False)
    costs: dict[str, float] = {}
    seen: set[str] = set()
    for member in asked:
        spec = Asked.of(group, member, store).spec
        row, machine = store.study(spec.name), session.machine(session.device)
        runtime = resolve_runtime(session.device, spec.train, machine, is_large(spec))
        planner = Planner(spec, session, store.decoded(row, "runtime", Runtime) if row else runtime, prepared)
        workers = session.executor.open(session.workers, runtime.device, session.is_to_stop)
        plans = [planner(cell) for cell in spec.cells]
        runs = {new.run: (new, s, plan) for plan in plans for s, new in plan.runs if new.run not in seen}
        known = copies.keys() | store.finished_of(spec.name)
        done = [new for new, s, _ in runs.values() if new.run in elsewhere or (new.identity, s.train.epochs) in known]
        taken = {new.run for new in done} - elsewhere.keys()
        costs |= {run: _cost(s, plan.data) for run, (_, s, plan) in runs.items() if run not in taken}
        seen |= runs.keys()
        more = len(spec.cells) * max(0, member.most - len(spec.seeds)) + member.confirm * most_candidates(spec)
        studies.append(
            Forecast(
                spec=spec,
                home=session.home,
                runs=len(runs),
                most=len(runs) + more,
                done=len(done),
                taken_over=0,
                workers=workers,
                val_images=len(planner.prepared(spec.data).keys("val")),
                cache_bytes=0,
                free_bytes=free_bytes(session.home),
            )
        )
    return GroupForecast(tuple(studies), seconds_left(costs, _trained(store), max(1, studies[0].workers)))


def _cost(run: RunSettings, data: DataSettings) -> float:
    """What a run costs beside others of its group: their networks and numbers of pictures are alike."""
    return run.train.epochs * math.prod(data.image_size)


def _trained(store: Store) -> dict[str, float]:
    """The seconds that each finished run took which was trained here."""
    query = select(RUN.c.run, RUN.c.seconds).where(RUN.c.state == "finished", RUN.c.origin.is_(None))
    return {row["run"]: row["seconds"] for row in store.rows(query) if row["seconds"]}


def seconds_left(costs: Mapping[str, float], trained: Mapping[str, float], workers: int) -> float | None:
    """How long runs of these costs still take, by the seconds of those that are trained; None where there are none."""
    known = [run for run in costs if run in trained]
    if not known:
        return None
    pace = sum(trained[run] for run in known) / sum(costs[run] for run in known)
    return pace * sum(cost for run, cost in costs.items() if run not in trained) / workers


# Where it stands


def status(store: Store, home: Home, name: str, most: int | None = None) -> dict[str, Any]:
    """A group's state, JSON-able: its studies as `sweep.status` has them, and what is asked for and not trained yet."""
    group, row = _stored(store, name), store.group(name) or {}
    state, worker = state_of(store, home, row)
    records = group_records(store, name)
    asked = [Asked.of(group, member, store) for member in members(records, group.only)]
    found = account(name, records, group.only)
    return {
        "name": name,
        "state": state,
        "held_by": worker,
        "scale": group.scale,
        "only": list(group.only),
        "studies": [study_status(store, home, study, most) for study in store.group_studies(name)],
        "left": [
            {"name": each.spec.name, "claims": list(each.member.claims)}
            for each in asked
            if not each.is_done(group, store)
        ],
        "claims": [
            {
                "number": told.claim.number,
                "words": told.claim.words,
                "verdict": told.verdict,
                "said": told.sentence(found.where),
            }
            for told in found.told
        ],
        "warning": found.warning,
        "created": row["created"],
        "updated": row["updated"],
    }


# What came of it


def group_account(store: Store, name: str) -> Account:
    """What came of a group's claims; `StudyError` where there is no such group."""
    group = _stored(store, name)
    return account(name, group_records(store, name), group.only)


def group_page(store: Store, name: str) -> str:
    """A group's page."""
    group = _stored(store, name)
    return render_paper(name, group_records(store, name), group.only, _made(group))


def findings_text(store: Store, name: str) -> str:
    """A group's findings as Markdown."""
    return paper_text(group_account(store, name), _made(_stored(store, name)))


def _stored(store: Store, name: str) -> Group:
    row = store.group(name)
    if row is None:
        raise StudyError(f"no group is called {name!r}")
    return Group.of(row)


def _made(group: Group) -> Made:
    """The command without where things lie on this machine, and the commit of a checkout."""
    overrides = {**group.overrides}
    kind, _, place = str(overrides.pop("data.source", "rooms")).partition(":")
    source = f"{kind}:PATH" if place else kind
    settings = [f"--set {key}={value}" for key, value in overrides.items()]
    return Made(" ".join([f"sweep paper --scale {group.scale} --data {source}", *settings]), _commit())


def _commit() -> str:
    """The commit of the checkout that this runs from; nothing where it is none, or git isn't there."""
    command = ["git", "-C", str(Path(__file__).resolve().parent), "rev-parse", "--short", "HEAD"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return ""
    return done.stdout.strip()
