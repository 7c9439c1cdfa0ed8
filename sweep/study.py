"""Starting, resuming and growing a study: from a validated spec to a coordinator at work.

torch is imported by the executor's workers meanwhile, and here only to compute what isn't known of pictures yet.
"""

import hashlib
import json
import math
import platform
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from functools import partial
from importlib.metadata import version as installed
from typing import Any

from depth_loss_sweep import __version__
from depth_loss_sweep.coordinator import Coordinator, Display
from depth_loss_sweep.cores import usable_cores
from depth_loss_sweep.data.prepare import Prepared, open_prepared, prepare_training, sparse, without_depth
from depth_loss_sweep.data.settings import DataSettings, DataSummary
from depth_loss_sweep.database import storage_url
from depth_loss_sweep.errors import StudyError
from depth_loss_sweep.executors import Executor
from depth_loss_sweep.forecast import foresee, require_room
from depth_loss_sweep.lease import Lease
from depth_loss_sweep.model.baselines import evaluate_baselines
from depth_loss_sweep.model.identity import run_identity
from depth_loss_sweep.model.runtime import Machine, Runtime, environment_key, resolve_runtime
from depth_loss_sweep.paths import Home, expanded
from depth_loss_sweep.projection import Projection
from depth_loss_sweep.runs import TrialPlan
from depth_loss_sweep.space import Choices, plain
from depth_loss_sweep.spec import StudySpec, overrides_json, stored_overrides, stored_spec
from depth_loss_sweep.store import NewRun, Store, now
from depth_loss_sweep.words import counted


@dataclass(frozen=True)
class Begin:
    """How a study is to be worked on: nothing here changes its results, but for `device` when it is first started."""

    home: Home
    storage: str | None
    workers: int | None
    device: str
    executor: Executor
    command: str


@dataclass(frozen=True)
class End:
    """How the work ended."""

    finished: bool
    failed_runs: int


class Planner:
    """Turns points into runs: prepares each data setting once, and gives every run its key."""

    def __init__(
        self,
        spec: StudySpec,
        home: Home,
        runtime: Runtime,
        machine: Callable[[], Machine],
        on_progress: Callable[[int, int], None],
    ) -> None:
        self.spec, self.home, self.runtime, self.machine, self.on_progress = spec, home, runtime, machine, on_progress
        self._prepared: dict[DataSettings, Prepared] = {}

    def prepared(self, settings: DataSettings) -> Prepared:
        """The data, built into the cache where it is not there yet."""
        if settings not in self._prepared:
            self._prepared[settings] = prepare_training(settings, self.home.cache, self.on_progress)
        return self._prepared[settings]

    def check(self, plan: TrialPlan) -> None:
        """Open the plan's pictures anew: raises `DataError` where they are no longer whole."""
        open_prepared(plan.data, self.home.cache, plan.fingerprint)

    def __call__(self, point: Mapping[str, Any]) -> TrialPlan:
        """The runs of a point, seed by seed."""
        data, runs = self.spec.settings_at(point)
        prepared = self.prepared(data)
        planned = []
        for settings in runs:
            identity = run_identity(settings, self.runtime, prepared.identity)
            environment = json.dumps(environment_key(self.runtime, settings.train, self.machine()), sort_keys=True)
            key = run_key(identity, environment, settings.train.epochs)
            planned.append((settings, NewRun(key, identity, environment, settings.model_dump_json(), settings.seed)))
        return TrialPlan(prepared.settings, prepared.dataset.fingerprint, tuple(planned))


def start(
    spec: StudySpec, overrides: Mapping[str, Any], begin: Begin, show: Display, should_stop: Callable[[], bool]
) -> End:
    """Start a study; one of the same spec is resumed, one of a larger spec grown, one of another spec refused."""
    storage_url(begin.home, begin.storage)  # refuses what no URL can name, before a folder is made
    store = Store.open(begin.home.create(), begin.storage, create=True)
    store.require_sound()
    lease = Lease.take(store, spec.name, begin.home.lock(spec.name), _patience(show, should_stop))
    row = None
    try:
        row = store.study(spec.name)
        if row is None:
            on_progress, machine = _watched(show, lease, should_stop), _machine(begin, begin.device, lease, should_stop)
            row = _create(spec, overrides, begin, store, on_progress, show.note, machine)
        else:
            runtime = _admit(spec, row, store, begin)
            # The stored hash may be of a version that knew fewer keys, so the stored spec is hashed as it is read today.
            if spec.grown_hash != stored_spec(row, store.shown_url).grown_hash:
                # Refused, where the study's device or its pictures are not here, before anything is changed.
                resolve_runtime(runtime.device, spec.train, _machine(begin, runtime.device, lease, should_stop)())
                prepared = prepare_training(spec.data, begin.home.cache, _watched(show, lease, should_stop))
                _check_data(prepared, spec.name, store.decoded(row, "data", DataSummary))
                _grow(spec, overrides, store)
                show.note(f"study {spec.name} grows: what is done is kept, only what is missing is trained")
            row = store.require(spec.name)
        return _conduct(spec, row, begin, store, lease, show, should_stop)
    finally:
        lease.release(forget=row is None)


def resume(name: str, data: str | None, begin: Begin, show: Display, should_stop: Callable[[], bool]) -> End:
    """Go on exactly where a study stopped; `data` is where the same pictures lie now."""
    store = Store.open(begin.home, begin.storage)
    store.require_sound()
    spec = stored_spec(store.require(name), store.shown_url)
    if data is not None:
        spec = replace(spec, data=spec.data.model_copy(update={"source": data}))
    _check_place(spec)
    lease = Lease.take(store, name, begin.home.create().lock(name), _patience(show, should_stop))
    try:
        return _conduct(spec, store.require(name), begin, store, lease, show, should_stop)
    finally:
        lease.release()


def _check_place(spec: StudySpec) -> None:
    """Raise `StudyError` where the folder of the study's pictures is not there."""
    kind, _, path = spec.data.source.partition(":")
    if path and not expanded(path).exists():
        raise StudyError(
            f"the pictures of study {spec.name!r} are not at {expanded(path).absolute()}: say where they lie now, with "
            f"--data {kind}:PATH"
        )


def _patience(show: Display, should_stop: Callable[[], bool]) -> Callable[[str], None]:
    """What a wait for another's lease calls: says once what is waited for, and ends it if told to stop."""
    said: set[str] = set()

    def on_wait(why: str) -> None:
        if why not in said:
            show.note(why)
            said.add(why)
        if should_stop():
            raise KeyboardInterrupt

    return on_wait


def _watched(show: Display, lease: Lease, should_stop: Callable[[], bool]) -> Callable[[int, int], None]:
    """Progress of preparing pictures, which can take long: shown, interruptible, and with the lease kept alive."""

    def on_progress(done: int, total: int) -> None:
        show.preparing(done, total)
        _stay(lease, should_stop)

    return on_progress


def _machine(begin: Begin, device: str, lease: Lease, should_stop: Callable[[], bool]) -> Callable[[], Machine]:
    """What torch finds where runs are trained; the wait for its import is interruptible, and keeps the lease alive."""
    return partial(begin.executor.machine, device, partial(_stay, lease, should_stop))


def _stay(lease: Lease, should_stop: Callable[[], bool]) -> None:
    """Keep the lease alive; raise KeyboardInterrupt if told to stop."""
    lease.renew()
    if should_stop():
        raise KeyboardInterrupt


def _create(
    spec: StudySpec,
    overrides: Mapping[str, Any],
    begin: Begin,
    store: Store,
    on_progress: Callable[[int, int], None],
    note: Callable[[str], None],
    machine: Callable[[], Machine],
) -> dict[str, Any]:
    """Prepare the data, resolve what depends on the machine once, and write the study's row."""
    require_room(spec, begin.home)
    if begin.device not in ("auto", "cpu"):  # refused before pictures are prepared, which can take long
        resolve_runtime(begin.device, spec.train, machine())
    prepared = prepare_training(spec.data, begin.home.cache, on_progress)
    summary = prepared.summary()
    for text in (*prepared.notes, without_depth(summary), sparse(summary)):
        if text:
            note(f"note: {text}")
    data = json.dumps(summary)
    baselines = evaluate_baselines(prepared, spec.loss, spec.train.eval_images)
    if _is_undefined(spec, baselines):
        note(
            f"note: {spec.objective.name} is not defined on any of these validation pictures, so no trial will have a value to "
            f"be compared by: choose another study.objective"
        )
    runtime = resolve_runtime(begin.device, spec.train, machine())  # last of all: it waits for torch to be imported
    row = {
        "name": spec.name,
        "optuna_name": spec.name,
        "state": "running",
        "spec_text": spec.text,
        "overrides": overrides_json(overrides),
        "fixed_hash": spec.fixed_hash,
        "grown_hash": spec.grown_hash,
        "version": __version__,
        "command": begin.command,
        "environment": json.dumps(_environment(runtime, spec, machine())),
        "runtime": json.dumps(asdict(runtime)),
        "data": data,
        "baselines": json.dumps(baselines),
        "created": now(),
    }
    store.save_study(row)
    return row


def _is_undefined(spec: StudySpec, baselines: Mapping[str, Mapping[str, Mapping[str, float]]]) -> bool:
    """Whether the objective is NaN whatever is predicted, as far as that is known of pictures before training."""
    has_swept_data = any(name.startswith("data.") for name in spec.variable_names)
    trivial = baselines["val"].values()
    return not has_swept_data and all(math.isnan(values.get(spec.objective.column, 0.0)) for values in trivial)


def run_key(identity: str, environment: str, epochs: int) -> str:
    """The name of a run and of its folder. An identity may leave the epochs out, a result may not: it depends on them."""
    return hashlib.sha256(f"{identity}|{environment}|{epochs}".encode()).hexdigest()[:32]


def _environment(runtime: Runtime, spec: StudySpec, machine: Machine) -> dict[str, Any]:
    packages = {
        name: installed(name) for name in ("torch", "optuna", "numpy", "sqlalchemy", "opencv-python") if _has(name)
    }
    system = {"python": platform.python_version(), "platform": platform.platform(), **packages}
    return {**system, **environment_key(runtime, spec.train, machine), **asdict(runtime)}


def _has(name: str) -> bool:
    try:
        installed(name)
    except ModuleNotFoundError:
        return False
    return True


def _admit(spec: StudySpec, row: Mapping[str, Any], store: Store, begin: Begin) -> Runtime:
    """Refuse a spec that is not the study's own or that spec, grown; name the keys that differ. Return its runtime."""
    stored = stored_spec(row, store.shown_url)
    changed = _changed(stored.fixed(), spec.fixed())
    if changed:
        raise StudyError(
            f"the study {spec.name!r} exists with another spec ({'; '.join(changed[:6])}): give this one a name of its own "
            f"with --name, or go on with the old one: sweep resume {spec.name}"
        )
    shrunk = _shrunk(stored, spec)
    if shrunk:
        raise StudyError(
            f"the study {spec.name!r} exists and {shrunk}: a study only grows; use --name for another, "
            f"or: sweep resume {spec.name}"
        )
    runtime = store.decoded(row, "runtime", Runtime)
    if begin.device not in ("auto", runtime.device, runtime.device.split(":")[0]):
        raise StudyError(
            f"the study {spec.name!r} was begun on {runtime.device}, not {begin.device}: go on there, or use --name for another"
        )
    return runtime


def _changed(old: Any, new: Any, path: str = "") -> list[str]:
    if isinstance(old, dict) and isinstance(new, dict):
        keys = sorted({*old, *new})
        return [line for key in keys for line in _changed(old.get(key), new.get(key), f"{path}.{key}" if path else key)]
    return [] if old == new else [f"{path}: {_short(old)} -> {_short(new)}"]


def _short(value: Any) -> str:
    shown = json.dumps(value)
    return shown if len(shown) <= 60 else shown[:57] + "..."


def _shrunk(old: StudySpec, new: StudySpec) -> str | None:
    """What the new spec asks less of, or what may not grow in it; None where it is the old one or that, grown."""
    searched = new.search.sampler != "grid"
    if searched and (set(old.study.seeds) != set(new.study.seeds) or old.train.epochs != new.train.epochs):
        return "its search has told its trials to the sampler with other seeds or epochs (searches grow in trials only)"
    missing = sorted(set(old.study.seeds) - set(new.study.seeds))
    if missing:
        return f"has the seeds {missing}, which the new spec lacks"
    if new.train.epochs < old.train.epochs:
        return f"has {old.train.epochs} epochs, more than {new.train.epochs}"
    if new.trial_count < old.trial_count:
        return f"has {old.trial_count} trials, more than {new.trial_count}"
    for before, after in zip(old.variables, new.variables, strict=True):
        if isinstance(before, Choices) and isinstance(after, Choices) and not searched:
            gone = {plain(v) for v in before.values} - {plain(v) for v in after.values}
            if gone:
                return f"sweeps {before.name} over {sorted(gone, key=str)} too"
    return None


def _grow(spec: StudySpec, overrides: Mapping[str, Any], store: Store) -> None:
    """Take the larger spec on. Told trials are immutable in Optuna, so a grid is projected anew."""
    columns: dict[str, Any] = {
        "spec_text": spec.text,
        "overrides": overrides_json(overrides),
        "grown_hash": spec.grown_hash,
        "state": "running",
    }
    if spec.search.sampler != "grid":
        store.update_study(spec.name, **columns)
        return
    store.regrow_study(spec.name, **columns)


def _try_failures_again(spec: StudySpec, row: Mapping[str, Any], store: Store, show: Display) -> Mapping[str, Any]:
    """Ask a grid's trials anew where some failed: what is done is found done, what failed is trained again.

    A search has told its sampler of the failure, and what it asked since rests on that: there a failure stays one.
    """
    failed = store.failed_trials(spec.name)
    if not failed:
        return row
    if spec.search.sampler != "grid":
        stay = counted(failed, "failed trial", "stays", "stay")
        show.note(f"study {spec.name}: {stay} failed, since its search went on from there")
        return row
    show.note(f"study {spec.name}: {counted(failed, 'failed trial', 'is', 'are')} tried again")
    store.regrow_study(spec.name, state="running")
    return store.require(spec.name)


def _conduct(
    spec: StudySpec,
    row: Mapping[str, Any],
    begin: Begin,
    store: Store,
    lease: Lease,
    show: Display,
    should_stop: Callable[[], bool],
) -> End:
    """Check that the data is the study's, then drive the study to its end or to the first stop."""
    runtime = store.decoded(row, "runtime", Runtime)
    machine = _machine(begin, runtime.device, lease, should_stop)
    planner = Planner(spec, begin.home, runtime, machine, _watched(show, lease, should_stop))
    workers = default_workers(runtime) if begin.workers is None else begin.workers

    def alive_and_asked_to_stop() -> bool:
        lease.renew()  # asked at every step, so that an epoch may take longer than the lease's grace time
        return should_stop()

    begin.executor.open(workers, alive_and_asked_to_stop)
    if runtime.device != "cpu" and (row["state"] != "finished" or store.failed_trials(spec.name)):
        # There may be something to train: refused in words, before pictures, where the study's device is not here.
        resolve_runtime(runtime.device, spec.train, machine())
    _check_data(planner.prepared(spec.data), row["name"], store.decoded(row, "data", DataSummary))
    if workers and (row["state"] != "finished" or store.failed_trials(spec.name)):
        show.note(f"study {spec.name}: {usable_cores().workers(workers)}")
    _remember(spec, row, store)
    row = _try_failures_again(spec, row, store, show)
    store.update_study(spec.name, state="running")
    project = partial(Projection, store, spec, lease.guard)
    coordinator = Coordinator(
        spec, begin.home, store, lease, project, planner, asdict(runtime), begin.executor, show, should_stop
    )
    try:
        coordinator.restore()
        for line in foresee(coordinator, planner.prepared(spec.data), workers).lines():
            show.note(line)
        finished = coordinator.drive()
        if finished and row["state"] != "finished":
            coordinator.projection  # noqa: B018  with nothing left to do, a killed coordinator's may still lag behind
        store.update_study(spec.name, state="finished" if finished else "interrupted")
    finally:
        coordinator.close()
    return End(finished, coordinator.failed_runs)


def _remember(spec: StudySpec, row: Mapping[str, Any], store: Store) -> None:
    """Keep where the pictures lie now, and what is to stay of checkpoints, so that the next resume knows."""
    stored = stored_spec(row, store.shown_url)
    changed: dict[str, Any] = {}
    if spec.data.source != stored.data.source:
        changed["data.source"] = spec.data.source
    if spec.train.keep != stored.train.keep:
        changed["train.keep"] = spec.train.keep
    if changed:
        store.update_study(spec.name, overrides=overrides_json(stored_overrides(row["overrides"]) | changed))


def _check_data(prepared: Prepared, name: str, stored: DataSummary) -> None:
    if prepared.identity != stored["identity"]:
        what = "pictures" if prepared.dataset.fingerprint != stored["fingerprint"] else "split or preparation"
        raise StudyError(
            f"the {what} of study {name!r} changed: it was begun on {stored['source']} with fingerprint "
            f"{stored['fingerprint'][:12]}, this is {prepared.dataset.fingerprint[:12]}: restore them, or use --name for another study"
        )


def default_workers(runtime: Runtime) -> int:
    """A worker a core on CPU (one thread each is the fastest way through a sweep), one worker on an accelerator."""
    if runtime.device != "cpu":
        return 1
    return usable_cores().count
