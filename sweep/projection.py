"""The Optuna side of a study: suggestions, and a projection that `optuna.load_study` and optuna-dashboard can read.

Suggestions come from an in-memory replica of the trials that were told and asked, under a sampler seeded by (study
seed, trial number): what trial n is depends on the spec and on trials 0 .. n - parallel, never on who asked or when.
"""

import math
import warnings
from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from itertools import count
from typing import Any, Literal

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.exceptions import ExperimentalWarning, StorageInternalError
from optuna.storages import RDBStorage
from optuna.trial import TrialState, create_trial
from sqlalchemy import Engine
from sqlalchemy.exc import DatabaseError

from depth_loss_sweep.database import Database, configure
from depth_loss_sweep.errors import StorageError, hide_password
from depth_loss_sweep.outage import keepalive
from depth_loss_sweep.samplers import SAMPLERS, Sampler
from depth_loss_sweep.space import Choices, plain
from depth_loss_sweep.spec import StudySpec
from depth_loss_sweep.tables import optuna_names

optuna.logging.set_verbosity(optuna.logging.WARNING)
EDGE = 1e-6  # the simplex's u lie in (EDGE, 1 - EDGE)
TOLD = ("number", "state", "value", "second_value", "epochs")
"""What is told of a trial that has ended, as its row has it; `second_value` where there are two objectives."""

Values = tuple[float | None, ...]


def distributions(spec: StudySpec) -> dict[str, BaseDistribution]:
    """The study's parameters as Optuna knows them."""
    if spec.search.simplex:
        return {term: FloatDistribution(0.0, 1.0) for term in spec.search.simplex}
    parameters: dict[str, BaseDistribution] = {}
    for variable in spec.variables:
        if isinstance(variable, Choices):
            parameters[variable.name] = CategoricalDistribution([plain(v) for v in variable.values])
        elif variable.is_whole:
            parameters[variable.name] = IntDistribution(int(variable.low), int(variable.high), log=variable.log)
        else:
            parameters[variable.name] = FloatDistribution(float(variable.low), float(variable.high), log=variable.log)
    return parameters


def grid_distributions(spec: StudySpec) -> dict[str, BaseDistribution]:
    """As `distributions`, but numeric choices as a float range, which plots and importances understand."""
    parameters = distributions(spec)
    for variable in spec.variables:
        values = [plain(v) for v in variable.values] if isinstance(variable, Choices) else []
        if values and all(isinstance(v, (int, float)) and not isinstance(v, bool) for v in values) and len(values) > 1:
            parameters[variable.name] = FloatDistribution(float(min(values)), float(max(values)))
    return parameters


class Suggester:
    """Asks trial after trial, in order. Rebuilt from our tables on resume, it goes on as if it had never stopped."""

    def __init__(self, spec: StudySpec) -> None:
        self.spec = spec
        self.sampler = SAMPLERS.get(spec.search.sampler)  # a grid has none
        self.replica = optuna.create_study(directions=_directions(spec))
        self.asked = 0
        self.pending: list[tuple[int, str, Values, int]] = []
        # On the simplex the sampler draws independent uniforms, one a term; elsewhere the parameters themselves.
        uniform: BaseDistribution = FloatDistribution(EDGE, 1 - EDGE)
        terms = spec.search.simplex
        self.drawn = {f"u_{term}": uniform for term in terms} if terms else distributions(spec)

    def ask(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """The next trial's parameters, and what the sampler drew to get them (for `restore`)."""
        number, self.asked = self.asked, self.asked + 1
        if self.sampler is None:
            return dict(self.spec.cells[number]), {}
        self._look(number, self.sampler)
        with warnings.catch_warnings():
            warnings.filterwarnings(
                "ignore", "Clip non-finite values"
            )  # infinity is a result here, as bad as the worst seen
            drawn = self.replica.ask(self.drawn).params
        return (simplex_point(drawn) if self.spec.search.simplex else dict(drawn)), drawn

    def restore(self, drawn: Mapping[str, Any]) -> None:
        """Take a trial up that was asked before: the next in order, once all before it that have ended were told.

        A sampler that keeps notes draws again, so that it makes them again; what it drew then stands.
        """
        number, self.asked = self.asked, self.asked + 1
        if self.sampler is None:
            return
        if self.sampler.keeps_notes:
            self._look(number, self.sampler)
            self.replica.enqueue_trial(dict(drawn))
            trial = self.replica.ask()
            trial.relative_params  # noqa: B018  (Optuna draws them when they are first read)
            for name, distribution in self.drawn.items():
                trial._suggest(name, distribution)
        else:
            self.replica.add_trial(create_trial(state=TrialState.RUNNING, params=dict(drawn), distributions=self.drawn))

    def tell(
        self, number: int, state: str, value: float | None, epochs: int, second_value: float | None = None
    ) -> None:
        """Let later suggestions know how a trial ended; trials are told in order."""
        if self.sampler is None:
            return
        objectives, values = self.spec.objectives, (value, second_value)[: len(self.spec.objectives)]
        if state == "pruned" and not (self.sampler.knows_pruned and len(objectives) == 1):
            state = "complete"
            values = tuple(v if _is_known(v) else o.worst for v, o in zip(values, objectives, strict=True))
        self.pending.append((number, state, values, epochs))

    def _look(self, number: int, sampler: Sampler) -> None:
        """Let the replica know what trial n may, and give it that trial's sampler."""
        # However many were told by now (a study that grew has told all), trial n knows of trials 0 .. n - parallel.
        while self.pending and self.pending[0][0] <= number - self.spec.search.parallel:
            _tell(self.replica, *self.pending.pop(0))
        self.replica.sampler = sampler.make(self.spec.search.seed, number)


def _directions(spec: StudySpec) -> list[Literal["minimize", "maximize"]]:
    """One an objective, as Optuna calls it."""
    return [objective.direction for objective in spec.objectives]


def _is_known(value: float | None) -> bool:
    return value is not None and not math.isnan(value)


def _ending(state: str, values: Values, epochs: int) -> dict[str, Any]:
    """How a trial ended, in Optuna's words. Infinity is a value; a pruned trial counts with its last reported one, and with none
    where there are two objectives: what is reported is of the first.
    """
    if state == "complete" and None not in values:
        return {"state": TrialState.COMPLETE, "values": list(values)}
    if state == "pruned":
        known = _is_known(values[0])
        return {
            "state": TrialState.PRUNED,
            "values": list(values) if known and len(values) == 1 else None,
            "intermediate_values": {epochs: values[0] if known else math.nan},
        }
    return {"state": TrialState.FAIL}


def _tell(study: optuna.Study, number: int, state: str, values: Values, epochs: int) -> None:
    """Tell the end of a trial that was asked in this study."""
    ending = _ending(state, values, epochs)
    if state == "pruned":
        trial_id = study._storage.get_trial_id_from_study_id_trial_number(study._study_id, number)
        study._storage.set_trial_intermediate_value(trial_id, epochs, ending["intermediate_values"][epochs])
        study.tell(number, state=TrialState.PRUNED)
    else:
        study.tell(number, ending.get("values"), state=ending["state"])


@contextmanager
def _database_errors(url: str) -> Iterator[None]:
    """What the database suffers under Optuna's hands, in one line as under ours."""
    try:
        yield
    except (StorageInternalError, DatabaseError) as error:
        cause = error.__cause__ or error
        reason = str(getattr(cause, "orig", None) or cause).splitlines()[0]
        raise StorageError(f"the database {hide_password(url)} cannot be used: {hide_password(reason)}") from error


def simplex_point(uniforms: Mapping[str, float]) -> dict[str, float]:
    """λ_i = ln u_i / Σ ln u: independent uniforms become a uniform point of the simplex (exponential spacings)."""
    logs = {name.removeprefix("u_"): math.log(u) for name, u in uniforms.items()}
    total = sum(logs.values())
    return {name: value / total for name, value in logs.items()}


@contextmanager
def _readable(url: str) -> Iterator[None]:
    """Optuna's tables as Optuna reads them; what it trips over, and another version's tables, in one line."""
    try:
        yield
    except (LookupError, TypeError, ValueError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        raise StorageError(f"Optuna's tables in the database {hide_password(url)} cannot be read: {reason}") from error


def forget(store: Database, name: str) -> None:
    """Delete every projection of a study: NAME, and NAME@1, NAME@2, ... of before it grew."""
    with store.begin() as connection:
        names = optuna_names(connection, name)
    if not names:
        return
    url = store.engine.url.render_as_string(hide_password=False)
    with _database_errors(url), _readable(url):
        storage = RDBStorage(url, engine_kwargs=_engine_options(store))
        configure(storage.engine, wal=False)
        for each in names:
            optuna.delete_study(study_name=each, storage=storage)
        storage.remove_session()
        storage.engine.dispose()


def _engine_options(store: Database) -> dict[str, Any]:
    return {"hide_parameters": True, "connect_args": keepalive(store.engine.url)}


class Projection:
    """Our trials, as they end, written into an Optuna study of the same database. It may lag; `reconcile` catches up."""

    def __init__(self, store: Database, spec: StudySpec, guard: Callable[[Engine], None] | None = None) -> None:
        self.url = store.engine.url.render_as_string(hide_password=False)
        self.store, self.spec, self.guard = store, spec, guard
        self.distributions = grid_distributions(spec) if spec.search.sampler == "grid" else distributions(spec)
        store.until_back(self._open)

    def _open(self) -> None:
        store, spec = self.store, self.spec
        with _database_errors(self.url), _readable(self.url):
            with store.alone():  # Optuna makes its tables without a lock of its own
                self.storage = RDBStorage(self.url, engine_kwargs=_engine_options(store))
            configure(self.storage.engine, wal=not store.is_on_network_disk)
            if store.outage:
                store.outage.watch(self.storage.engine)
            self.storage.engine.dispose()  # so that every connection from here on has our settings
            if self.guard:
                self.guard(self.storage.engine)
            self.study = optuna.create_study(
                storage=self.storage, study_name=spec.name, directions=_directions(spec), load_if_exists=True
            )
            if "objective" not in self.study.user_attrs:
                self._name_objectives()
                self.study.set_user_attr("objective", spec.study.objective)
                self.study.set_user_attr("sweep", spec.name)

    def _name_objectives(self) -> None:
        """Have Optuna's plots call two objectives by their names."""
        if len(self.spec.objectives) > 1:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ExperimentalWarning)
                self.study.set_metric_names(list(self.spec.study.objectives))

    def reconcile(self, trials: list[dict[str, Any]]) -> None:
        """Add the told trials that Optuna has not heard of. Ours is the truth; nothing is told twice."""
        told = [trial for trial in trials if trial["state"] != "running"]
        known = bisect_left(range(len(told)), True, key=lambda number: not self._has(number))
        for ours in told[known:]:
            self.add(ours)

    def _has(self, number: int) -> bool:
        """Whether Optuna has a trial of that number; its own count of trials reads them all."""
        return self.store.until_back(lambda: self._finds(number), self.storage.engine)

    def _finds(self, number: int) -> bool:
        with _database_errors(self.url), _readable(self.url):
            try:
                self.storage.get_trial_id_from_study_id_trial_number(self.study._study_id, number)
            except KeyError:
                return False
            return True

    def add(self, ours: Mapping[str, Any]) -> None:
        """Add a trial as it ended (TOLD, params, weights, asked, n).

        Trials are told in order, so Optuna gives it our number; one that is under way is in our tables alone.
        """
        values = (ours["value"], ours.get("second_value"))[: len(self.spec.objectives)]
        seeds = {"n": ours["n"]} if self.spec.stages or self.spec.is_halving else {}  # where trials differ in it
        fitting = {
            name: float(value) if isinstance(self.distributions[name], FloatDistribution) else value
            for name, value in ours["params"].items()
        }
        trial = create_trial(
            params=fitting,
            distributions=self.distributions,
            user_attrs={"weights": dict(ours["weights"]), **seeds},  # few: each costs two statements
            **_ending(ours["state"], values, ours["epochs"]),
        )
        trial.datetime_start = (
            datetime.fromisoformat(ours["asked"]).astimezone().replace(tzinfo=None)
        )  # as Optuna has it
        tries = count()

        def tell() -> None:
            if next(tries) and self._finds(ours["number"]):
                return  # its answer was lost, and nothing but the answer
            with _database_errors(self.url), _readable(self.url):
                self.study.add_trial(trial)

        self.store.until_back(tell, self.storage.engine)

    def close(self) -> None:
        """Let go of the database."""
        self.storage.remove_session()
        self.storage.engine.dispose()
