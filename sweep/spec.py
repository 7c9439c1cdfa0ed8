"""A study's spec, validated: its sections, and what follows from them. It is read by `sweep.spec_file`."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from decimal import Decimal
from functools import cached_property
from itertools import count, islice, takewhile
from pathlib import Path
from typing import Any, Literal, get_origin

from pydantic import BaseModel, Field, field_validator

from depth_loss_sweep.data.registry import own_source
from depth_loss_sweep.data.settings import DataSettings, Settings
from depth_loss_sweep.errors import SpecError
from depth_loss_sweep.model.names import FURTHER_METRICS, terms_with
from depth_loss_sweep.model.settings import LossSettings, ModelSettings, OwnMetric, RunSettings, TrainSettings
from depth_loss_sweep.objectives import StudyObjective
from depth_loss_sweep.reports.naming import text_list
from depth_loss_sweep.reports.references import EQUAL_TERMS, POINT, REFERENCES, Candidate
from depth_loss_sweep.reports.stages import LEAST_SEEDS, STAGES, race_seeds
from depth_loss_sweep.space import Affine, Choices, Variable, cell_count, cells, plain
from depth_loss_sweep.usercode import Reference, resolve
from depth_loss_sweep.validation import validated

CANDIDATE = "candidate"
"""The variable of a study that stands beside another."""

SECTION_SETTINGS: dict[str, type[BaseModel]] = {
    "data": DataSettings,
    "model": ModelSettings,
    "train": TrainSettings,
    "loss": LossSettings,
}

MOST_SEEDS = 1000


class StudySection(Settings):
    """`[study]`: what it is called, what Optuna minimises, under which seeds every trial is trained."""

    name: str = Field(description="what the study is called; by default as its file")
    description: str = Field("", description="a line on what it is for: `sweep presets` and the report show it")
    objective: str | tuple[str, str] = Field(
        "val_rmse",
        description="what is minimised: val_ and a metric, or combined, for a grid that only records it; or a list of two metrics: "
        "the first decides, both make a front",
    )
    metrics: tuple[str, ...] = Field(
        (),
        description="metrics that are measured beside the usual ones; one that is the objective needs no naming. There are: "
        + ", ".join(FURTHER_METRICS),
    )
    seeds: tuple[int, ...] = Field(
        (0, 1, 2), min_length=1, max_length=MOST_SEEDS, description="every trial is trained once under each of them"
    )
    value: Literal["last"] | int = Field(
        2, description="a run's final value: the mean of its last k epochs, or its last epoch's alone (\"last\")"
    )
    margin: float = Field(
        0.02,
        gt=0,
        le=1,
        description="what makes no difference: a share of the objective; of a fraction, as delta1 is one, in its unit",
    )

    confirm: int = Field(
        0,
        ge=0,
        le=1000,
        description="so many fresh seeds confirm the winner once all is trained, on test; 0: when asked (sweep confirm)",
    )

    @property
    def objectives(self) -> tuple[str, ...]:
        """The name of the objective, or of both."""
        return (self.objective,) if isinstance(self.objective, str) else self.objective

    @field_validator("objective", mode="before")
    @classmethod
    def _one_or_two(cls, value: Any) -> Any:
        is_pair = isinstance(value, list | tuple) and len(value) == 2 and all(isinstance(name, str) for name in value)
        if not is_pair and not isinstance(value, str):
            raise ValueError('expected a metric, such as "val_rmse", or two, such as ["val_rmse", "val_boundary_f1"]')
        return value

    @field_validator("seeds")
    @classmethod
    def _distinct(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        if len(set(value)) != len(value) or any(not 0 <= seed < 2**31 for seed in value):
            raise ValueError("expected different whole numbers from 0 to 2147483647")
        return value

    @field_validator("value", mode="before")
    @classmethod
    def _last_or_positive(cls, value: Any) -> Any:
        if value != "last" and (isinstance(value, str) or (isinstance(value, int | float) and value < 1)):
            raise ValueError('expected "last" or a number of epochs of at least 1')
        return value

    @field_validator("confirm")
    @classmethod
    def _none_or_some(cls, value: int) -> int:
        if value == 1:
            raise ValueError("expected 0, or at least 2 fresh seeds: one alone has no interval")
        return value


class SearchSection(Settings):
    """`[search]`: how the space is walked. Its other keys are the swept variables."""

    sampler: Literal["grid", "random", "qmc", "tpe", "cmaes", "gp", "nsga2"] = Field(
        "grid",
        description="every cell of the swept values, or points that are drawn: at random, evenly (qmc), or by one of Optuna's "
        "TPE, Gaussian process (gp), CMA-ES and NSGA-II",
    )
    parallel: int = Field(4, ge=1, le=10_000, description="trial n is asked when n - parallel + 1 trials were told")
    trials: int | None = Field(None, ge=1, le=1_000_000, description="how many points are drawn; a grid has its cells")
    simplex: tuple[str, ...] = Field(
        (), description="terms whose weights are drawn so that they sum to 1, without [weights]"
    )
    race: bool = Field(
        False,
        description="train a grid's trials under more and more seeds, and drop those that can't be best; of a search, its best "
        "five, once it is through, under seeds that it never saw",
    )
    stages: tuple[int, ...] = Field(
        STAGES,
        min_length=1,
        max_length=20,
        description="a race's stages: after how many seeds it is decided; study.seeds first, then the next whole numbers; of a "
        "search, whole numbers from 20,000 on",
    )
    points: tuple[str, ...] = Field((), description="reference points, swept by their names, without [weights]")
    terms: tuple[str, ...] = Field(
        EQUAL_TERMS, min_length=1, description='the terms that the point "equal" weighs by 1'
    )
    seed: int = Field(0, ge=0, description="of the sampler; a run's seeds are in [study]")
    pruner: Literal["none", "median", "percentile", "halving"] = Field(
        "none",
        description="stops a trial whose first seed does worse than half (or `percentile`) of the trials before it; halving, for "
        "searches: whose mean over 1, 3, 9, ... of study.seeds isn't among the best third",
    )
    percentile: float = Field(50.0, gt=0, lt=100, description="percentile pruner: keep trials up to this percentile")
    reduction_factor: int = Field(
        3, ge=2, le=100, description="halving: one in so many trials goes on, to so many times as many seeds"
    )
    warmup_epochs: int = Field(3, ge=0, description="no trial is pruned before it finished so many epochs")
    startup_trials: int = Field(5, ge=1, description="no trial is pruned before so many were told")

    @field_validator("stages")
    @classmethod
    def _rising(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        if list(value) != sorted({*value}) or value[0] < LEAST_SEEDS or value[-1] > MOST_SEEDS:
            raise ValueError(
                f"expected rising whole numbers from {LEAST_SEEDS} to {MOST_SEEDS}, such as {list(STAGES)}"
            )
        return value


@dataclass(frozen=True)
class StudySpec:
    """A whole study, validated. Lower layers never see it: they get `DataSettings` and `RunSettings`."""

    study: StudySection
    data: DataSettings
    model: ModelSettings
    train: TrainSettings
    loss: LossSettings
    search: SearchSection
    variables: tuple[Variable, ...]
    weights: Mapping[str, Affine]
    text: str
    own_metrics: Mapping[str, OwnMetric] = field(default_factory=dict)
    """The metrics of the user's own, `[metrics]`; the terms, `[terms]`, are the loss's."""
    candidates: tuple[Candidate, ...] = ()
    """Of a study beside another, which races its best or confirms its winner: what is trained, in place of weights by variables."""

    @property
    def name(self) -> str:
        """The study's name."""
        return self.study.name

    @cached_property
    def named_terms(self) -> tuple[str, ...]:
        """The terms that any of its trials may weigh."""
        points = [REFERENCES[name].weights_with(self.search.terms) for name in self.search.points]
        given = [self.weights, self.search.simplex, *points, *(c.weights for c in self.candidates)]
        return tuple(dict.fromkeys(term for terms in given for term in terms))

    @cached_property
    def terms(self) -> tuple[str, ...]:
        """The terms that each of its runs computes: those of every run, and what it names beside."""
        return terms_with([*self.named_terms, *self.loss.own])

    @cached_property
    def metrics(self) -> tuple[str, ...]:
        """The metrics that its runs are judged by beside the usual ones."""
        asked = (*self.study.metrics, *(name.removeprefix("val_") for name in self.study.objectives))
        return tuple(metric for metric in FURTHER_METRICS if metric in asked and metric not in self.own_metrics)

    @cached_property
    def objectives(self) -> tuple[StudyObjective, ...]:
        """What trials are told by: one, or two."""
        return tuple(StudyObjective.named(n, self.study.value, self.own_metrics) for n in self.study.objectives)

    @cached_property
    def code_keys(self) -> dict[str, Any]:
        """The keys of the spec that name code of the user's own, with what they name."""
        named: dict[str, Any] = {"model.network": self.model.network} if self.model.is_own else {}
        named |= {f"terms.{name}.function": t.function for name, t in self.loss.own.items() if t.built_in is None}
        named |= {f"metrics.{name}.function": metric.function for name, metric in self.own_metrics.items()}
        named |= {"data.source": self.data.source} if self.source_code else {}
        swept = (v for v in self.variables if v.name == "model.network" and isinstance(v, Choices))
        return named | {f"search.{variable.name}": [plain(value) for value in variable.values] for variable in swept}

    @cached_property
    def code(self) -> tuple[Reference, ...]:
        """The user's own code that it names, each once."""
        texts = (text for value in self.code_keys.values() for text in (value if isinstance(value, list) else [value]))
        return tuple(dict.fromkeys(filter(None, map(Reference.parse, texts))))

    @property
    def source_code(self) -> tuple[Reference, ...]:
        """The user's own code that its pictures come from; empty where that is none."""
        own = own_source(self.data.source)
        return (own,) if own else ()

    @property
    def objective(self) -> StudyObjective:
        """What decides, prunes and ends a race: the first of them."""
        return self.objectives[0]

    @property
    def trial_count(self) -> int:
        """How many trials the study has."""
        return self.search.trials or 0 if self.is_search else cell_count(self.variables)

    @property
    def is_search(self) -> bool:
        """Whether a sampler draws the points."""
        return self.search.sampler != "grid"

    @property
    def races_best(self) -> bool:
        """Whether a search's best are raced, once it is through, by a study beside it."""
        return self.search.race and self.is_search

    @property
    def is_confirming(self) -> bool:
        """Whether the study confirms another."""
        return bool(self.candidates) and not self.search.race

    @property
    def stages(self) -> tuple[int, ...]:
        """After how many seeds each the study's own trials are raced; empty where they aren't."""
        return () if self.is_search or not self.search.race else self.search.stages

    @property
    def seeds(self) -> tuple[int, ...]:
        """The seeds under which every trial is trained; of a race, its first stage's."""
        return self.all_seeds[: self.stages[0]] if self.stages else self.study.seeds

    @cached_property
    def all_seeds(self) -> tuple[int, ...]:
        """The seeds under which a trial may be trained, in their order."""
        return race_seeds(self.study.seeds, self.stages[-1]) if self.stages else self.study.seeds

    @property
    def is_halving(self) -> bool:
        """Whether trials are trained under more seeds only as long as they are among the best."""
        return self.search.pruner == "halving"

    @property
    def rungs(self) -> tuple[int, ...]:
        """After how many seeds each it is asked whether a trial goes on, and under how many it ends: at first under one, if halved."""
        first, most = 1 if self.is_halving else len(self.seeds), len(self.seeds)
        powers = (first * self.search.reduction_factor**step for step in count())
        return (*takewhile(lambda seeds: seeds < most, powers), most)

    def fresh_seeds(self, first: int, number: int) -> tuple[int, ...]:
        """So many seeds from the first on, without those under which a trial may be trained."""
        return tuple(islice((seed for seed in count(first) if seed not in self.all_seeds), number))

    @property
    def variable_names(self) -> tuple[str, ...]:
        """Names of Optuna's parameters, in order."""
        return self.search.simplex or tuple(v.name for v in self.variables)

    @property
    def kind(self) -> str:
        """point, line, grid, points or simplex: how the report draws the space."""
        if self.search.simplex or self.search.points or self.candidates:
            return "simplex" if self.search.simplex else "points"
        return ("point", "line")[len(self.variables)] if len(self.variables) < 2 else "grid"

    @cached_property
    def cells(self) -> tuple[dict[str, Any], ...]:
        """A grid's points as plain values, trial by trial."""
        return tuple({k: plain(v) for k, v in cell.items()} for cell in cells(self.variables))

    def weights_at(self, point: Mapping[str, Any]) -> dict[str, float]:
        """The weight of every term at a point; refuses negative ones and all zero."""
        values = self._weights_at(point)
        for term, value in values.items():
            if value < 0:
                raise SpecError(f"the weight of {term} is {value} at {_point(point)}: weights must not be negative")
        if not any(values.values()):
            raise SpecError(f"the weights sum to nothing at {_point(point)}: at least one must be positive")
        return {term: float(values.get(term, 0)) for term in self.terms}

    def beside(
        self, name: str, seeds: Sequence[int], candidates: Sequence[Candidate], is_raced: bool = False
    ) -> "StudySpec":
        """The study of that name that trains candidates under these seeds, or races them by the same stages; all else as here."""
        drawn: dict[str, Any] = {
            "sampler": "grid",
            "trials": None,
            "simplex": (),
            "points": (),
            "terms": EQUAL_TERMS,
            "pruner": "none",
            "race": is_raced,
            "stages": self.search.stages if is_raced else STAGES,
        }
        return replace(
            self,
            study=self.study.model_copy(update={"name": name, "seeds": tuple(seeds), "confirm": 0}),
            search=self.search.model_copy(update=drawn),
            variables=(Choices(CANDIDATE, tuple(c.name for c in candidates)),),
            weights={},
            candidates=tuple(candidates),
        )

    def at(self, source: str) -> "StudySpec":
        """The same study, its pictures lying elsewhere."""
        return replace(self, data=self.data.model_copy(update={"source": resolve(source, Path())}))

    def _candidate(self, point: Mapping[str, Any]) -> Candidate:
        return next(c for c in self.candidates if c.name == point[CANDIDATE])

    def _weights_at(self, point: Mapping[str, Any]) -> dict[str, Decimal]:
        if self.candidates:
            return {term: Decimal(str(weight)) for term, weight in self._candidate(point).weights.items()}
        if self.search.points:
            given = REFERENCES[point[POINT]].weights_with(self.search.terms)
            return {term: Decimal(str(weight)) for term, weight in given.items()}
        if self.search.simplex:
            return {term: Decimal(str(point[term])) for term in self.search.simplex}
        return {term: weight.value(point) for term, weight in self.weights.items()}

    def settings_at(self, point: Mapping[str, Any]) -> tuple[DataSettings, list[RunSettings]]:
        """What a trial's runs are made of: data settings, and run settings seed by seed, of a race for all of its stages."""
        parts = self.sections_at(point)
        weights = self.weights_at(point)
        runs = [
            RunSettings(
                model=parts["model"],
                train=parts["train"],
                loss=parts["loss"],
                weights=weights,
                metrics=self.metrics,
                own_metrics=dict(self.own_metrics),
                seed=seed,
                depth_range=parts["data"].depth_range,
            )
            for seed in self.all_seeds
        ]
        return parts["data"], runs

    def sections_at(self, point: Mapping[str, Any]) -> dict[str, Any]:
        """The settings of every section at a point, validated."""
        sections = {name: getattr(self, name).model_dump() for name in SECTION_SETTINGS}
        if self.search.points and POINT in point:
            sections["loss"].update(REFERENCES[point[POINT]].loss)
        for name, value in (self._candidate(point).fields if self.candidates and point else point).items():
            section, _, field = name.partition(".")
            field, _, key = field.partition(".")
            if section == "terms":
                own = sections["loss"]["own"][field]
                own["options"] = own.get("options", {}) | {key.removeprefix("options."): value}
            elif key:
                sections[section][field] = sections[section][field] | {key: value}
            elif field:
                is_list = isinstance(value, str) and holds_list(section, field)
                sections[section][field] = text_list(value) if is_list else value
        return {name: validated(kind, sections[name], name, stored=True) for name, kind in SECTION_SETTINGS.items()}

    def as_dict(self) -> dict[str, Any]:
        """The whole spec with every default filled in, as JSON-able values."""
        sections = {
            name: getattr(self, name).model_dump(mode="json") for name in ("study", *SECTION_SETTINGS, "search")
        }
        sections["variables"] = [_variable_dict(v) for v in self.variables]
        sections["weights"] = {
            term: [str(w.constant), {n: str(c) for n, c in w.coefficients}] for term, w in self.weights.items()
        }
        if self.own_metrics:
            sections["metrics"] = {name: metric.model_dump(mode="json") for name, metric in self.own_metrics.items()}
        if self.candidates:
            sections["candidates"] = [asdict(candidate) for candidate in self.candidates]
        return sections


def holds_list(section: str, field: str) -> bool:
    """Whether a field holds a list, as train.augment does; each of its choices is one, too, and known by its text."""
    return get_origin(SECTION_SETTINGS[section].model_fields[field].annotation) is tuple


def holds_whole(section: str, field: str) -> bool:
    """Whether a field holds a whole number, as model.width does; of an interval only those are drawn."""
    return SECTION_SETTINGS[section].model_fields[field].annotation is int


def holds_table(section: str, field: str) -> bool:
    """Whether a field holds a table, as model.options does; its keys are swept, each by itself."""
    fields = SECTION_SETTINGS[section].model_fields
    return field in fields and get_origin(fields[field].annotation) is dict


def _point(point: Mapping[str, Any]) -> str:
    return ", ".join(f"{k} = {v}" for k, v in point.items()) or "the only point"


def _variable_dict(variable: Variable) -> dict[str, Any]:
    if isinstance(variable, Choices):
        return {"name": variable.name, "values": [plain(v) for v in variable.values]}
    return {"name": variable.name, "low": float(variable.low), "high": float(variable.high), "log": variable.log}
