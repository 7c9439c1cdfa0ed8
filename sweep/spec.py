"""The study's spec: the one place that reads TOML, presets and --set. A preset is nothing but such a file."""

import difflib
import json
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import cached_property
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from depth_loss_sweep.data.settings import DataSettings
from depth_loss_sweep.errors import SpecError
from depth_loss_sweep.model.names import TERMS
from depth_loss_sweep.model.settings import LossSettings, ModelSettings, RunSettings, TrainSettings
from depth_loss_sweep.objectives import COMBINED, OBJECTIVES, StudyObjective
from depth_loss_sweep.paths import check_name, expanded
from depth_loss_sweep.reports.references import EQUAL_TERMS, LACKING, POINT, REFERENCES
from depth_loss_sweep.space import (
    MAX_CELLS,
    Affine,
    Choices,
    Interval,
    Scalar,
    Variable,
    cell_count,
    cells,
    grid_range,
    parse_affine,
    plain,
)

SAMPLERS = ("grid", "random", "tpe")
SECTION_SETTINGS: dict[str, type[BaseModel]] = {
    "data": DataSettings,
    "model": ModelSettings,
    "train": TrainSettings,
    "loss": LossSettings,
}
# No part of what a run is known by: trials that differ by one of these would share their runs.
OF_THE_STUDY = ("train.precision", "train.threads", "train.deterministic", "train.keep")
SECTIONS = ("study", *SECTION_SETTINGS, "search", "weights")
Section = TypeVar("Section", bound=BaseModel)


class StudySection(BaseModel):
    """`[study]`: what it is called, what Optuna minimises, under which seeds every trial is trained."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(description="what the study is called; by default as its file")
    description: str = Field("", description="a line on what it is for: `sweep presets` and the report show it")
    objective: str = Field(
        "val_rmse", description="what is minimised: val_ and a metric, or combined, for a grid that only records it"
    )
    seeds: tuple[int, ...] = Field(
        (0, 1, 2), min_length=1, max_length=1000, description="every trial is trained once under each of them"
    )
    value: Literal["last"] | int = Field(
        "last", description="a run's final value: its last epoch's, or, for a number k, the mean of its last k epochs"
    )

    @field_validator("seeds")
    @classmethod
    def _distinct(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        if len(set(value)) != len(value) or any(not 0 <= seed < 2**31 for seed in value):
            raise ValueError("expected different whole numbers from 0 to 2147483647")
        return value

    @field_validator("value")
    @classmethod
    def _positive(cls, value: int | str) -> int | str:
        if isinstance(value, int) and value < 1:
            raise ValueError('expected "last" or a number of epochs of at least 1')
        return value


class SearchSection(BaseModel):
    """`[search]`: how the space is walked. Its other keys are the swept variables."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    sampler: Literal["grid", "random", "tpe"] = Field(
        "grid", description="every cell of the swept values, or points that are drawn: at random, or by Optuna's TPE"
    )
    parallel: int = Field(4, ge=1, le=10_000, description="trial n is asked when n - parallel + 1 trials were told")
    trials: int | None = Field(None, ge=1, le=1_000_000, description="how many points are drawn; a grid has its cells")
    simplex: tuple[str, ...] = Field(
        (), description="terms whose weights are drawn so that they sum to 1, without [weights]"
    )
    points: tuple[str, ...] = Field((), description="reference points, swept by their names, without [weights]")
    terms: tuple[str, ...] = Field(
        EQUAL_TERMS, min_length=1, description='the terms that the point "equal" weighs by 1'
    )
    seed: int = Field(0, ge=0, description="of the sampler; a run's seeds are in [study]")
    pruner: Literal["none", "median", "percentile"] = Field(
        "none",
        description="stops a trial whose first seed does worse than half (or `percentile`) of the trials before it",
    )
    percentile: float = Field(50.0, gt=0, lt=100, description="percentile pruner: keep trials up to this percentile")
    warmup_epochs: int = Field(3, ge=0, description="no trial is pruned before it finished so many epochs")
    startup_trials: int = Field(5, ge=1, description="no trial is pruned before so many were told")


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

    @property
    def name(self) -> str:
        """The study's name."""
        return self.study.name

    @property
    def objective(self) -> StudyObjective:
        """What trials are told by."""
        return StudyObjective.named(self.study.objective, self.study.value)

    @property
    def trial_count(self) -> int:
        """How many trials the study has."""
        return cell_count(self.variables) if self.search.sampler == "grid" else self.search.trials or 0

    @property
    def variable_names(self) -> tuple[str, ...]:
        """Names of Optuna's parameters, in order."""
        return self.search.simplex or tuple(v.name for v in self.variables)

    @property
    def kind(self) -> str:
        """point, line, grid, points or simplex: how the report draws the space."""
        if self.search.simplex or self.search.points:
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
        return {term: float(values.get(term, 0)) for term in TERMS}

    def _weights_at(self, point: Mapping[str, Any]) -> dict[str, Decimal]:
        if self.search.points:
            given = REFERENCES[point[POINT]].weights_with(self.search.terms)
            return {term: Decimal(str(weight)) for term, weight in given.items()}
        if self.search.simplex:
            return {term: Decimal(str(point[term])) for term in self.search.simplex}
        return {term: weight.value(point) for term, weight in self.weights.items()}

    def settings_at(self, point: Mapping[str, Any]) -> tuple[DataSettings, list[RunSettings]]:
        """What a trial's runs are made of: data settings, and run settings seed by seed."""
        parts = self.sections_at(point)
        weights = self.weights_at(point)
        runs = [
            RunSettings(
                model=parts["model"],
                train=parts["train"],
                loss=parts["loss"],
                weights=weights,
                seed=seed,
                depth_range=parts["data"].depth_range,
            )
            for seed in self.study.seeds
        ]
        return parts["data"], runs

    def sections_at(self, point: Mapping[str, Any]) -> dict[str, Any]:
        """The settings of every section at a point, validated."""
        sections = {name: getattr(self, name).model_dump() for name in SECTION_SETTINGS}
        if self.search.points and POINT in point:
            sections["loss"].update(REFERENCES[point[POINT]].loss)
        for name, value in point.items():
            section, _, field = name.partition(".")
            if field:
                sections[section][field] = value
        return {name: _validated(kind, sections[name], name) for name, kind in SECTION_SETTINGS.items()}

    def as_dict(self) -> dict[str, Any]:
        """The whole spec with every default filled in, as JSON-able values."""
        sections = {
            name: getattr(self, name).model_dump(mode="json") for name in ("study", *SECTION_SETTINGS, "search")
        }
        sections["variables"] = [_variable_dict(v) for v in self.variables]
        sections["weights"] = {
            term: [str(w.constant), {n: str(c) for n, c in w.coefficients}] for term, w in self.weights.items()
        }
        return sections


def _point(point: Mapping[str, Any]) -> str:
    return ", ".join(f"{k} = {v}" for k, v in point.items()) or "the only point"


def _variable_dict(variable: Variable) -> dict[str, Any]:
    if isinstance(variable, Choices):
        return {"name": variable.name, "values": [plain(v) for v in variable.values]}
    return {"name": variable.name, "low": float(variable.low), "high": float(variable.high), "log": variable.log}


# Reading


def preset_names() -> list[str]:
    """The names of the built-in presets."""
    return sorted(
        p.name.removesuffix(".toml")
        for p in (files("depth_loss_sweep") / "presets").iterdir()
        if p.name.endswith(".toml")
    )


def read_text(given: str) -> str:
    """The TOML text of a preset's name or of a file."""
    path = expanded(given)
    if given in preset_names():
        return (files("depth_loss_sweep") / "presets" / f"{given}.toml").read_text(encoding="utf-8")
    if path.suffix != ".toml" and not path.is_file():
        raise SpecError(
            f"no preset is called {given!r}{_nearest(given, preset_names())}; "
            f"expected one of {', '.join(preset_names())}, or a TOML file"
        )
    try:
        return path.read_text(encoding="utf-8-sig")  # editors put a mark in front
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8 text: save it as UTF-8"
        raise SpecError(f"the spec {given} cannot be read: {reason}") from error


def load_spec(given: str, overrides: Mapping[str, Any] | None = None) -> StudySpec:
    """Read a preset or file, lay the overrides (dotted key to value) over it and validate the whole."""
    spec = parse_spec(read_text(given), overrides or {}, given)
    _check_unit(spec.data)
    return spec


def _check_unit(data: DataSettings) -> None:
    """Refuse the inverse of a depth PNG's unit; not of stored specs, for earlier versions let it pass."""
    if data.depth_scale > 1:
        raise SpecError(
            f"data.depth_scale is {data.depth_scale:g}: expected metres a unit, at most 1; a PNG of {data.depth_scale:.6g} units a "
            f'metre has "1/{data.depth_scale:.6g}"'
        )


def parse_spec(text: str, overrides: Mapping[str, Any], given: str = "the spec") -> StudySpec:
    """Validate a spec's text with overrides laid over it; any fault is a `SpecError` of one line."""
    try:
        tree = tomllib.loads(text, parse_float=Decimal)
    except (tomllib.TOMLDecodeError, RecursionError, ArithmeticError, ValueError) as error:
        raise SpecError(f"{given} is not valid TOML: {' '.join(str(error).split())}") from error
    try:
        for key, value in overrides.items():
            _lay_over(tree, key, value)
        return _build(tree, text, given)
    except SpecError as error:
        raise SpecError(f"{given}: {error}") from error


def parse_override(text: str) -> tuple[str, Any]:
    """Split `key=value`; the value is read as TOML, and as plain text where it is none."""
    key, sign, value = text.partition("=")
    if not sign or not key.strip():
        raise SpecError(f"--set {text!r}: expected section.key=value, such as train.epochs=20")
    try:
        return _key(key), tomllib.loads(f"value = {value}", parse_float=Decimal)["value"]
    except (tomllib.TOMLDecodeError, RecursionError, ArithmeticError):
        return _key(key), value.strip()


def _key(text: str) -> str:
    return text.strip().replace('"', "").replace("'", "")


def _lay_over(tree: dict[str, Any], key: str, value: Any) -> None:
    section, _, field = key.partition(".")
    if section not in SECTIONS or not field:
        near = "" if section in SECTIONS else _nearest(section, SECTIONS)
        raise SpecError(f"the key {key!r} is unknown{near}; expected section.key, such as train.epochs")
    content = tree.setdefault(section, {})
    if not isinstance(content, dict):
        raise SpecError(f"[{section}] must be a table")
    content[field] = value


def _build(tree: dict[str, Any], text: str, given: str) -> StudySpec:
    for name, content in tree.items():
        if name not in SECTIONS:
            raise SpecError(f"unknown section [{name}]{_nearest(name, SECTIONS)}; expected {', '.join(SECTIONS)}")
        if not isinstance(content, dict):
            raise SpecError(f"[{name}] must be a table, got {content!r}")
    study = {"name": Path(given).stem, **_floats(tree.get("study", {}))}
    settings, swept = _split_search(tree.get("search", {}))
    search = _validated(SearchSection, _floats(settings), "search")
    points = (Choices(POINT, search.points),) if search.points else ()
    sections: dict[str, Any] = {
        name: _validated(kind, _floats(tree.get(name, {})), name) for name, kind in SECTION_SETTINGS.items()
    }
    spec = StudySpec(
        study=_validated(StudySection, study, "study"),
        search=search,
        variables=points + tuple(_variable(name, value) for name, value in swept.items()),
        weights={term: parse_affine(_weight(term, value)) for term, value in tree.get("weights", {}).items()},
        text=text,
        **sections,
    )
    check(spec)
    return spec


def _weight(term: str, value: Any) -> Any:
    if term not in TERMS:
        raise SpecError(f"[weights] has an unknown term {term!r}{_nearest(term, TERMS)}; expected {', '.join(TERMS)}")
    if isinstance(value, bool) or not isinstance(value, (int, str, Decimal)):
        raise SpecError(f"weights.{term} is {value!r}: expected a number or an expression such as '0.9 - w'")
    return value


def _floats(value: Any) -> Any:
    """Decimals as floats, all the way down: only weights and swept values need to be exact."""
    if isinstance(value, Decimal):
        return float(value)
    if isinstance(value, dict):
        return {k: _floats(v) for k, v in value.items()}
    return [_floats(v) for v in value] if isinstance(value, list) else value


def _validated(kind: type[Section], content: Any, section: str) -> Section:
    try:
        return kind.model_validate(content)
    except ValidationError as error:
        raise SpecError(_explain(error, kind, section)) from error


def _explain(error: ValidationError, kind: type[BaseModel], section: str) -> str:
    first = error.errors(include_url=False)[0]
    key = ".".join(
        [section, *(str(part) for part in first["loc"] if isinstance(part, str) and not part.startswith("literal"))]
    )
    if first["type"] == "extra_forbidden":
        known = list(kind.model_fields)
        return f"unknown key {key}{_nearest(str(first['loc'][-1]), known)}; [{section}] knows {', '.join(known)}"
    message = first["msg"].removeprefix("Value error, ").replace("a valid tuple", "a list, such as [...]")
    shown = repr(first["input"])
    return f"{key} is {shown if len(shown) < 80 else shown[:77] + '...'}: {message[0].lower()}{message[1:]}"


def _nearest(word: str, known: Iterable[str]) -> str:
    found = difflib.get_close_matches(word, list(known), n=1, cutoff=0.5)
    return f" (did you mean {found[0]!r}?)" if found else ""


def _split_search(section: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Settings of the search, and the swept variables (unquoted dotted keys arrive as nested tables)."""
    settings = {k: v for k, v in section.items() if k in SearchSection.model_fields}
    swept: dict[str, Any] = {}
    for name, value in section.items():
        if name in settings:
            continue
        if isinstance(value, dict) and not {"from", "low"} & set(value) and name in SECTION_SETTINGS:
            swept.update({f"{name}.{field}": inner for field, inner in value.items()})
        else:
            swept[name] = value
    return settings, swept


def _variable(name: str, value: Any) -> Variable:
    expected = "expected { from, to, step }, { low, high } or a list of choices"
    if not all(part.isidentifier() for part in name.split(".")):
        raise SpecError(f"search.{name}: a variable's name has letters, digits and _ only")
    section, _, field = name.partition(".")
    if field and (section not in SECTION_SETTINGS or field not in SECTION_SETTINGS[section].model_fields):
        known = [f"{s}.{f}" for s, kind in SECTION_SETTINGS.items() for f in kind.model_fields]
        raise SpecError(
            f"search.{name} names no field{_nearest(name, known)}; expected one such as train.learning_rate"
        )
    if name in OF_THE_STUDY:
        raise SpecError(
            f"search.{name} cannot be swept, it is the whole study's: start a study for each, with --set {name}=..."
        )
    if isinstance(value, list) and value:
        return _choices(name, value)
    if isinstance(value, dict) and set(value) == {"from", "to", "step"}:
        return grid_range(name, *(_number(name, value[k]) for k in ("from", "to", "step")))
    if isinstance(value, dict) and {"low", "high"} <= set(value) <= {"low", "high", "log"}:
        low, high = _number(name, value["low"]), _number(name, value["high"])
        if not low < high or (value.get("log") and low <= 0):
            raise SpecError(f"search.{name} runs from {low} to {high}: expected low < high, and low > 0 with log")
        return Interval(name, low, high, bool(value.get("log", False)))
    if not field and not isinstance(value, (list, dict)):
        keys = list(SearchSection.model_fields)
        raise SpecError(
            f"unknown key search.{name}{_nearest(name, keys)}; a swept variable is a table or a list: {expected}"
        )
    raise SpecError(f"search.{name} is {_floats(value)!r}: {expected}")


def _choices(name: str, value: list[Any]) -> Choices:
    for item in value:
        if not isinstance(item, (Decimal, int, str, bool)):
            raise SpecError(f"search.{name} holds {item!r}: expected numbers, texts or true/false")
        if not isinstance(item, (str, bool)):
            _number(name, item)
    if len({(type(v) is bool, v) for v in value}) != len(value):
        raise SpecError(f"search.{name} names a choice twice: {_floats(value)!r}")
    return Choices(name, tuple(value))


def _number(name: str, value: Any) -> Decimal:
    if isinstance(value, bool) or not isinstance(value, (int, Decimal)) or not Decimal(value).is_finite():
        raise SpecError(f"search.{name} holds {value!r}: expected a finite number")
    number = Decimal(value)
    if number and not -30 < number.adjusted() < 10:
        raise SpecError(f"search.{name} holds {str(value)[:40]}: expected 0, or a number from 1e-29 up to 1e10")
    return number


# Checks that span sections


def check(spec: StudySpec) -> None:
    """Raise `SpecError` where the sections do not fit together, or the study asks what cannot be compared."""
    check_name(spec.name)
    if spec.study.objective not in OBJECTIVES:
        raise SpecError(
            f"study.objective is {spec.study.objective!r}{_nearest(spec.study.objective, OBJECTIVES)}; "
            f"expected val_ and a metric, such as val_rmse, or combined for a grid"
        )
    if spec.search.points or spec.search.terms != EQUAL_TERMS:
        _check_references(spec)
    elif spec.search.simplex:
        _check_simplex(spec)
    elif not spec.weights:
        raise SpecError(
            "the spec has no [weights], no search.simplex and no search.points: say which terms are weighted, and how"
        )
    _check_variables(spec)
    if spec.search.sampler == "grid":
        _check_grid(spec)
    else:
        _check_search(spec)


def _check_references(spec: StudySpec) -> None:
    """Known points and terms, each once, and nothing beside them that gives weights."""
    points, terms = spec.search.points, spec.search.terms
    if not points:
        raise SpecError('search.terms says what the point "equal" weighs: give search.points, too, or remove it')
    for name in points:
        if name in LACKING:
            raise SpecError(f"search.points has {name!r}, which cannot be trained here: {LACKING[name]}")
        if name not in REFERENCES:
            raise SpecError(
                f"search.points has an unknown point {name!r}{_nearest(name, REFERENCES)}; expected {', '.join(REFERENCES)}"
            )
    for term in terms:
        _weight(term, 0)
    for key, names in (("points", points), ("terms", terms)):
        if len(set(names)) != len(names):
            raise SpecError(f"search.{key} names one twice: {list(names)}")
    if spec.weights or spec.search.simplex or sum("." not in v.name for v in spec.variables) > 1:
        raise SpecError("search.points gives the weights: remove [weights], search.simplex and other weight variables")
    if spec.search.sampler != "grid":
        raise SpecError(f"search.points is a grid of names: expected sampler = 'grid', got {spec.search.sampler!r}")
    for point, field, value in ((p, *setting) for p in points for setting in REFERENCES[p].loss.items()):
        if f"loss.{field}" in {v.name for v in spec.variables}:
            raise SpecError(f"search.loss.{field} is swept, but the point {point!r} sets it: sweep one of the two")
        given = getattr(spec.loss, field)
        if given not in (value, LossSettings.model_fields[field].default):
            raise SpecError(
                f"loss.{field} is {given!r}, but the point {point!r} is made of {value!r}: remove one of the two"
            )


def _check_simplex(spec: StudySpec) -> None:
    terms = spec.search.simplex
    for term in terms:
        _weight(term, 0)
    if len(set(terms)) != len(terms) or len(terms) < 2:
        raise SpecError(f"search.simplex is {list(terms)}: expected at least two different terms")
    if spec.weights or any("." not in v.name for v in spec.variables):
        raise SpecError("search.simplex gives the weights: remove [weights] and other weight variables")
    if spec.search.sampler == "grid":
        raise SpecError("search.simplex needs a sampler that draws: sampler = 'tpe' or 'random', with trials = N")


def _check_variables(spec: StudySpec) -> None:
    known = {v.name for v in spec.variables}
    used = {name for weight in spec.weights.values() for name in weight.names}
    for name in sorted(used - known):
        raise SpecError(f"a weight uses {name!r}{_nearest(name, known)}, which [search] does not sweep")
    for variable in spec.variables[1:] if spec.search.points else spec.variables:
        if "." not in variable.name and variable.name not in used:
            raise SpecError(f"search.{variable.name} is swept but no weight uses it (fields are swept by dotted names)")
        if variable.name in used and not _is_numeric(variable):
            raise SpecError(f"search.{variable.name} is used in a weight, so its values must be numbers")


def _is_numeric(variable: Variable) -> bool:
    return isinstance(variable, Interval) or all(
        isinstance(v, (int, Decimal)) and not isinstance(v, bool) for v in variable.values
    )


def _check_grid(spec: StudySpec) -> None:
    for variable in spec.variables:
        if isinstance(variable, Interval):
            raise SpecError(f"search.{variable.name} is an interval: a grid needs {{ from, to, step }} or a list")
    if spec.search.trials is not None:
        raise SpecError("search.trials is for samplers that draw; a grid has as many trials as cells")
    if spec.trial_count > MAX_CELLS:
        raise SpecError(f"the grid has {spec.trial_count} cells; at most {MAX_CELLS} are accepted")
    _check_corners(spec)


def _check_search(spec: StudySpec) -> None:
    if spec.study.objective == COMBINED:
        raise SpecError(
            "objective = 'combined' cannot be searched: the combined loss at different weights is not comparable, and its "
            "least value is at weights of zero; search on a validation metric such as val_rmse, or use sampler = 'grid'"
        )
    if spec.search.trials is None:
        raise SpecError(f"sampler = {spec.search.sampler!r} needs search.trials, the number of trials")
    if not spec.search.simplex and not spec.variables:
        raise SpecError("there is nothing to search: give search.simplex or a variable")
    for variable in spec.variables:
        if variable.name.startswith("data.") or variable.name == "train.epochs":
            raise SpecError(
                f"search.{variable.name} cannot be searched, its results are not comparable; use sampler = 'grid'"
            )
    if any("." not in name for name in spec.variable_names) or spec.search.simplex:
        _check_scale_free(spec)
    _check_corners(spec)


def _check_scale_free(spec: StudySpec) -> None:
    """Searched weights live on a plane of constant sum; that is enough only where the optimiser ignores the scale."""
    if spec.train.clip_norm is not None or (spec.train.optimizer == "adam" and spec.train.weight_decay > 0):
        raise SpecError(
            "with train.clip_norm or Adam's coupled weight decay the loss's overall scale matters, so weights of sum 1 do "
            "not cover the space; drop them (or use optimizer = 'adamw'), or sweep a grid"
        )
    sums: dict[str, Decimal] = {}
    for weight in spec.weights.values():
        for name, coefficient in weight.coefficients:
            sums[name] = sums.get(name, Decimal(0)) + coefficient
    if any(sums.values()):
        raise SpecError(
            "searched weights must keep their sum: use search.simplex, or expressions such as 'w' and '0.9 - w'"
        )


def _check_corners(spec: StudySpec) -> None:
    """Affine weights, and their sum, are least at a corner of the box, so checking the corners checks them all."""
    if spec.search.simplex:
        return
    _check_points(spec, {v.name: _ends(v) for v in spec.variables})


def _ends(variable: Variable) -> Sequence[Scalar]:
    if isinstance(variable, Interval):
        return variable.low, variable.high
    if "." in variable.name or not _is_numeric(variable):
        return variable.values
    numbers = [Decimal(value) for value in variable.values]
    return min(numbers), max(numbers)


def _check_points(spec: StudySpec, values: Mapping[str, Sequence[Scalar]]) -> None:
    """Check weights and settings at these values. They depend on different variables, so each has a grid of its own."""
    for is_field, check_at in ((False, spec.weights_at), (True, spec.sections_at)):
        grid = [Choices(name, tuple(found)) for name, found in values.items() if ("." in name) is is_field]
        if cell_count(grid) > MAX_CELLS:
            raise SpecError(f"the spec has {cell_count(grid)} cells to check; at most {MAX_CELLS} are accepted")
        for cell in cells(grid):
            check_at({name: plain(value) for name, value in cell.items()})


def overrides_json(overrides: Mapping[str, Any]) -> str:
    """Overrides as JSON that keeps decimals exact."""
    return json.dumps(overrides, default=lambda value: {"decimal": str(value)}, sort_keys=True)


def stored_overrides(text: str) -> dict[str, Any]:
    """What `overrides_json` wrote; `SpecError` where it is something else."""
    try:
        found = _decimals(json.loads(text))
    except (ValueError, TypeError, RecursionError, ArithmeticError):
        found = None
    if not isinstance(found, dict):
        raise SpecError("the stored --set values cannot be read")
    return found


def stored_spec(row: Mapping[str, Any], database: str) -> StudySpec:
    """The spec of a study's row; `SpecError` naming study and database where it cannot be read."""
    given = f"the spec of study {row['name']} in {database}"
    try:
        overrides = stored_overrides(row["overrides"])
    except SpecError as error:
        raise SpecError(f"{given}: {error}") from error
    return parse_spec(row["spec_text"], overrides | {"study.name": row["name"]}, given)


def _decimals(value: Any) -> Any:
    if isinstance(value, dict):
        return Decimal(value["decimal"]) if set(value) == {"decimal"} else {k: _decimals(v) for k, v in value.items()}
    return [_decimals(v) for v in value] if isinstance(value, list) else value


def override_seeds(text: str) -> Sequence[int]:
    """`--seeds 5` is seeds 0 to 4; `--seeds 3,7` is those two."""
    try:
        numbers = [int(part) for part in text.split(",")]
    except ValueError:
        raise SpecError(f"--seeds {text!r}: expected how many, such as 5, or a list, such as 0,1,2") from None
    if "," in text:
        return numbers
    if not 1 <= numbers[0] <= 1000:
        raise SpecError(f"--seeds {text!r}: expected from 1 to 1000 seeds, or a list, such as 7,8")
    return range(numbers[0])


def parse_data_settings(source: str, overrides: Mapping[str, Any]) -> DataSettings:
    """The [data] section from a source and overrides; keys with or without their "data."."""
    content = {key.removeprefix("data."): _floats(value) for key, value in overrides.items()}
    settings = _validated(DataSettings, {"source": source, **content}, "data")
    _check_unit(settings)
    return settings
