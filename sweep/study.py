"""Starting, resuming and growing a study: from a validated spec to a coordinator at work.

torch is imported by the executor's workers meanwhile, and here only to compute what isn't known of pictures yet.
"""

import json
import math
import platform
from collections.abc import Mapping
from dataclasses import asdict
from functools import cached_property
from importlib.metadata import version as installed
from itertools import combinations
from typing import Any

from depth_loss_sweep import __version__
from depth_loss_sweep.answer import reader_of
from depth_loss_sweep.coordinator import Coordinator
from depth_loss_sweep.data.prepare import Prepared, open_prepared, prepare_training, sparse, without_depth
from depth_loss_sweep.data.settings import DataSettings, DataSummary
from depth_loss_sweep.dry_run import require_sound
from depth_loss_sweep.environments import moved
from depth_loss_sweep.errors import StudyError
from depth_loss_sweep.forecast import foresee, is_large, require_room
from depth_loss_sweep.growth import (
    as_begun,
    fixed_hash,
    grow,
    grown_hash,
    require_growth,
    require_unconfirmed,
    said_anew,
    try_failures_again,
)
from depth_loss_sweep.model.baselines import evaluate_baselines
from depth_loss_sweep.model.identity import run_identity, run_key
from depth_loss_sweep.model.runtime import Machine, Runtime, environment_key, resolve_runtime
from depth_loss_sweep.model.settings import RunSettings
from depth_loss_sweep.networks import require_networks, settled, settled_overrides, try_networks
from depth_loss_sweep.objectives import StudyObjective
from depth_loss_sweep.paths import expanded
from depth_loss_sweep.queries import NewRun
from depth_loss_sweep.reports.quotes import read_before
from depth_loss_sweep.runs import TrialPlan
from depth_loss_sweep.samplers import require_sampler
from depth_loss_sweep.session import Session, SessionResult
from depth_loss_sweep.spec import StudySpec
from depth_loss_sweep.spec_file import kept_overrides, overrides_json, stored_overrides, stored_spec
from depth_loss_sweep.store import Store, now
from depth_loss_sweep.trust import adopt, require_trusted


class Planner:
    """Turns points into runs: prepares each data setting once, and gives every run its key."""

    def __init__(
        self,
        spec: StudySpec,
        session: Session,
        runtime: Runtime,
        prepared: dict[DataSettings, Prepared] | None = None,
    ) -> None:
        """`prepared` is what is known of data already, and what is found out is added to it."""
        self.spec, self.session, self.runtime = spec, session, runtime
        self._prepared = {} if prepared is None else prepared

    def prepared(self, settings: DataSettings) -> Prepared:
        """The data, built into the cache where it is not there yet."""
        if settings not in self._prepared:
            self._prepared[settings] = prepare_training(settings, self.session.home.cache, self.session.show_preparing)
        return self._prepared[settings]

    @cached_property
    def judges_test(self) -> bool:
        """Whether finished runs are judged on test pictures, too: where the study confirms another, and there are any."""
        return bool(self.spec.is_confirming and self.prepared(self.spec.data).keys("test"))

    def check(self, plan: TrialPlan) -> None:
        """Open the plan's pictures anew: raises `DataError` where they are no longer whole."""
        open_prepared(plan.data, self.session.home.cache, plan.fingerprint)

    def __call__(self, point: Mapping[str, Any]) -> TrialPlan:
        """The runs of a point, seed by seed."""
        data, runs = self.spec.settings_at(point)
        prepared = self.prepared(data)
        machine = self.session.machine(self.runtime.device)
        planned = []
        for settings in runs:
            identity = run_identity(settings, self.runtime, prepared.identity)
            environment = _environment(self.runtime, settings, machine)
            key = run_key(identity, environment, settings.train.epochs)
            planned.append((settings, NewRun(key, identity, environment, settings.model_dump_json(), settings.seed)))
        return TrialPlan(prepared.settings, prepared.dataset.fingerprint, tuple(planned))


def start(spec: StudySpec, overrides: Mapping[str, Any], session: Session, group: str | None = None) -> SessionResult:
    """Start a study, where it is said as a part of a group.

    One of the same spec is resumed, one of a larger spec grown, one of another spec refused.
    """
    store = session.open(create=True)
    spec = settled(spec, session.home)
    overrides = settled_overrides(spec, overrides)
    if store.group(spec.name):
        raise StudyError(f"{spec.name!r} is a group of studies here: call the study otherwise, with --name")
    row = None
    session.take(spec.name)
    try:
        row = store.study(spec.name)
        if row is None:
            row = _create(spec, overrides, session, group)
        else:
            if group and row["group"] != group:
                raise StudyError(
                    f"the study {spec.name!r} exists and is no part of the group {group!r}: call the group otherwise, with --name"
                )
            spec = as_begun(spec, stored_spec(row, store.shown_url))
            _grow(spec, overrides, row, session)
            row = store.require(spec.name)
        return conduct(spec, row, session)
    finally:
        session.release(forget=row is None)


def resume(name: str, data: str | None, session: Session) -> SessionResult:
    """Go on exactly where a study stopped; `data` is where the same pictures lie now."""
    store = session.open()
    spec = stored_spec(store.require_own(name, "resume"), store.shown_url)
    if data is not None:
        spec = spec.at(data)
        adopt(spec.source_code, session.home.code)  # as a study that is started: whoever names it here means it
    check_place(spec)
    session.take(name)
    try:
        return conduct(spec, store.require(name), session)
    finally:
        session.release()


def check_place(spec: StudySpec) -> None:
    """Raise `StudyError` where the folder of the study's pictures is not there."""
    kind, _, path = spec.data.source.partition(":")
    if path and not spec.source_code and not expanded(path).exists():
        raise StudyError(
            f"the pictures of study {spec.name!r} are not at {expanded(path).absolute()}: say where they lie now, with "
            f"--data {kind}:PATH"
        )


def examine(spec: StudySpec, session: Session) -> Prepared:
    """Prepare the data, and try what a study is made of before it exists; raises what is wrong, in one line."""
    device = session.device
    require_sampler(spec.search.sampler)
    try_networks(spec, session.home)
    require_room(spec, session.home)
    adopt(spec.code, session.home.code)
    if device not in ("auto", "cpu"):  # refused before pictures are prepared, which can take long
        resolve_runtime(device, spec.train, session.machine(device))
    prepared = prepare_training(spec.data, session.home.cache, session.show_preparing)
    summary = prepared.summary()
    for text in (*prepared.notes, without_depth(summary), sparse(summary)):
        if text:
            session.display.note(f"note: {text}")
    if spec.code:
        _try_code(spec, prepared, resolve_runtime(device, spec.train, session.machine(device), is_large(spec)), session)
    return prepared


def _try_code(spec: StudySpec, prepared: Prepared, runtime: Runtime, session: Session) -> None:
    """Try the user's own code on two of the pictures that it is swept with; raises what is wrong, in one line."""
    session.note_once("your own code is tried on two pictures first")
    known = Planner(spec, session, runtime, {spec.data: prepared}).prepared
    require_sound(spec, known, runtime, session.home, session.keep_alive)


def _create(spec: StudySpec, overrides: Mapping[str, Any], session: Session, group: str | None) -> dict[str, Any]:
    """Examine all that the study is made of, resolve what depends on the machine once, and write the study's row."""
    session.store.check_measures(f"similarity_{one}_{other}" for one, other in combinations(spec.terms, 2))
    prepared, device = examine(spec, session), session.device
    data = json.dumps(prepared.summary())
    baselines = evaluate_baselines(
        prepared, spec.loss, spec.train.eval_images, spec.terms, spec.metrics, spec.own_metrics
    )
    for objective in (each for each in spec.objectives if _is_undefined(spec, each, baselines)):
        session.display.note(
            f"note: {objective.name} is not defined on any of these validation pictures, so no trial will have a value to "
            f"be compared by: choose another study.objective"
        )
    machine = session.machine(device)  # last of all: it waits for torch to be imported
    runtime = resolve_runtime(device, spec.train, machine, is_large(spec))
    row = {
        "name": spec.name,
        "optuna_name": spec.name,
        "state": "running",
        "spec_text": spec.text,
        "overrides": kept_overrides(spec, overrides),
        "fixed_hash": fixed_hash(spec),
        "grown_hash": grown_hash(spec),
        "version": __version__,
        "command": session.command,
        "environment": json.dumps(_system() | json.loads(_environment(runtime, spec, machine)) | asdict(runtime)),
        "runtime": json.dumps(asdict(runtime)),
        "data": data,
        "baselines": json.dumps(baselines),
        "created": now(),
        "group": group,
    }
    session.store.save_study(row)
    return row


def _is_undefined(
    spec: StudySpec, objective: StudyObjective, baselines: Mapping[str, Mapping[str, Mapping[str, float]]]
) -> bool:
    """Whether an objective is NaN whatever is predicted, as far as that is known of pictures before training."""
    has_swept_data = any(name.startswith("data.") for name in spec.variable_names)
    trivial = baselines["val"].values()
    return not has_swept_data and all(math.isnan(values.get(objective.column, 0.0)) for values in trivial)


def _grow(spec: StudySpec, overrides: Mapping[str, Any], row: Mapping[str, Any], session: Session) -> None:
    """Grow a study that exists if the spec is larger; refused, where it cannot be, before anything is changed."""
    store, stored = session.store, stored_spec(row, session.store.shown_url)
    require_growth(stored, spec)
    require_unconfirmed(stored, spec, store)
    adopt(spec.code, session.home.code)
    device = store.decoded(row, "runtime", Runtime).device
    if session.device not in ("auto", device, device.split(":")[0]):
        raise StudyError(
            f"the study {spec.name!r} was begun on {device}, not {session.device}: go on there, or use --name for another"
        )
    # The stored hash may be of a version that knew fewer keys, so the stored spec is hashed as it is read today.
    if grown_hash(spec) == grown_hash(stored):
        return
    try_networks(spec, session.home)
    resolve_runtime(device, spec.train, session.machine(device))
    prepared = prepare_training(spec.data, session.home.cache, session.show_preparing)
    _check_data(prepared, spec.name, store.decoded(row, "data", DataSummary))
    if spec.code:
        _try_code(spec, prepared, store.decoded(row, "runtime", Runtime), session)
    grow(spec, stored, overrides, store)
    session.display.note(f"study {spec.name} grows: what is done is kept, only what is missing is trained")


def _environment(runtime: Runtime, of: StudySpec | RunSettings, machine: Machine) -> str:
    """The key of where something is trained, as a run's row has it."""
    code = [*map(str, of.code)]
    return json.dumps(environment_key(runtime, of.train, machine, of.model, code), sort_keys=True)


def _system() -> dict[str, str]:
    packages = {
        name: installed(name) for name in ("torch", "optuna", "numpy", "sqlalchemy", "opencv-python") if _has(name)
    }
    return {"python": platform.python_version(), "platform": platform.platform(), **packages}


def _has(name: str) -> bool:
    try:
        installed(name)
    except ModuleNotFoundError:
        return False
    return True


def conduct(spec: StudySpec, row: Mapping[str, Any], session: Session) -> SessionResult:
    """Check that the data is the study's, then drive the study to its end or to the first stop."""
    store, show, executor = session.store, session.display, session.executor
    require_trusted(spec, session.home.code)
    runtime = store.decoded(row, "runtime", Runtime)
    planner = Planner(spec, session, runtime)
    has_more = row["state"] != "finished" or store.failed_trials(spec.name) > 0  # to train, as far as is known yet
    if has_more:
        require_sampler(spec.search.sampler)
        require_networks(spec, session.home)
    if has_more and runtime.device != "cpu":
        # Refused in words, before pictures, where the study's device is not here.
        resolve_runtime(runtime.device, spec.train, session.machine(runtime.device))
    # After it was asked what machine this is: it knows by then how many cards there are.
    workers = executor.open(session.workers, runtime.device, session.is_to_stop)
    if has_more and runtime.precision == "bf16":
        show.note(_said_of_bf16(spec, runtime, session.machine(runtime.device)))
    prepared = planner.prepared(spec.data)
    _check_data(prepared, row["name"], store.decoded(row, "data", DataSummary))
    if planner.judges_test:
        _read_test(row, prepared, session)
    if workers and has_more:
        show.note(f"study {spec.name}: {executor.describe()}")
    _remember(spec, row, store)
    if failures := try_failures_again(spec, store):
        show.note(f"study {spec.name}: {failures}")
        row = store.require(spec.name)
    coordinator = Coordinator(spec, session, planner, asdict(runtime))
    try:
        coordinator.restore()
        if coordinator.told < spec.trial_count:  # where all is done, a kill from here on leaves the study finished
            store.update_study(spec.name, state="running")
            if note := moved(store, spec.name, lambda: _environment(runtime, spec, session.machine(runtime.device))):
                show.note(note)
        for line in foresee(coordinator, prepared, workers).lines():
            show.note(line)
        finished = coordinator.drive()
        if finished and row["state"] != "finished":
            coordinator.open_projection()  # with nothing left to do, a killed coordinator's may still lag behind
        store.update_study(spec.name, state="finished" if finished else "interrupted")
    finally:
        coordinator.close()
    return SessionResult(finished, coordinator.failed_runs)


def _read_test(row: Mapping[str, Any], prepared: Prepared, session: Session) -> None:
    """Count that the test pictures are read, before any of them is."""
    times = session.store.read_test(prepared.test_fingerprint, reader_of(row), f"sweep confirm {row['parent']}")
    if times:
        session.display.note(f"note: {read_before(times)}")


def _said_of_bf16(spec: StudySpec, runtime: Runtime, machine: Machine) -> str:
    """That a study trains in half precision, and whether it is at home here."""
    if runtime.has_bf16(machine):
        return f"study {spec.name} trains in bf16, for which there is hardware here (train.precision = 'fp32' for full precision)"
    return (
        f"warning: study {spec.name} trains in bf16, for which there is no hardware here: a run takes about 15 times as long as in "
        f"fp32; go on where there is some, or start another with --name and --set train.precision=fp32"
    )


def _remember(spec: StudySpec, row: Mapping[str, Any], store: Store) -> None:
    """Keep what may be said anew of a study that exists, as where its pictures lie now, so that the next resume knows."""
    if changed := said_anew(spec, stored_spec(row, store.shown_url)):
        store.update_study(spec.name, overrides=overrides_json(stored_overrides(row["overrides"]) | changed))


def _check_data(prepared: Prepared, name: str, stored: DataSummary) -> None:
    if prepared.identity != stored["identity"]:
        what = "pictures" if prepared.dataset.fingerprint != stored["fingerprint"] else "split or preparation"
        raise StudyError(
            f"the {what} of study {name!r} changed: it was begun on {stored['source']} with fingerprint "
            f"{stored['fingerprint'][:12]}, this is {prepared.dataset.fingerprint[:12]}: restore them, or use --name for another study"
        )
