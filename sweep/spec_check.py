"""Whether a spec's sections fit together, and what it asks can be compared."""

from collections.abc import Collection, Mapping, Sequence
from decimal import Decimal
from typing import Any

from depth_loss_sweep.errors import SpecError
from depth_loss_sweep.model.names import ALL_TERMS, FURTHER_METRICS, WEIGHTINGS
from depth_loss_sweep.model.settings import LossSettings
from depth_loss_sweep.objectives import COMBINED, OBJECTIVES
from depth_loss_sweep.paths import check_name, check_parent
from depth_loss_sweep.reports.references import EQUAL_TERMS, LACKING, REFERENCES, WEIGHTING
from depth_loss_sweep.reports.stages import STAGES
from depth_loss_sweep.samplers import SAMPLERS
from depth_loss_sweep.space import MAX_CELLS, Choices, Interval, Scalar, Variable, cell_count, cells, plain
from depth_loss_sweep.spec import StudySpec
from depth_loss_sweep.validation import nearest

BETWEEN = Decimal("0.3819")
"""Where in an interval its numbers are tried: at none that ends would make whole."""


def check_spec(spec: StudySpec, stored: bool = False) -> None:
    """Raise `SpecError` where the sections do not fit together, or the study asks what cannot be compared.

    Of a `stored` study, what earlier versions let pass is let pass.
    """
    check_name(spec.name)
    if spec.races_best or (spec.study.confirm and not stored):
        check_parent(spec.name)
    _check_objectives(spec)
    for metric in spec.study.metrics:
        further = [*FURTHER_METRICS, *spec.own_metrics]
        if metric not in further:
            raise SpecError(
                f"study.metrics has {metric!r}{nearest(metric, further)}; beside the usual metrics, which every run is "
                f"judged by, there are {', '.join(further)}"
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
    _check_weighting(spec)
    _check_race(spec)
    _check_halving(spec)
    if spec.search.sampler == "grid":
        _check_grid(spec)
    else:
        _check_search(spec)


def _check_objectives(spec: StudySpec) -> None:
    """Known ones, and of two neither twice nor the combined loss, by which nothing can be on a front."""
    known = [*OBJECTIVES, *(f"val_{metric}" for metric in spec.own_metrics)]
    for name in spec.study.objectives:
        if name not in known:
            raise SpecError(
                f"study.objective is {name!r}{nearest(name, known)}; "
                f"expected val_ and a metric, such as val_rmse, or combined for a grid"
            )
    if len({*spec.study.objectives}) < len(spec.objectives):
        raise SpecError(f"study.objective names {spec.objective.name} twice: give it once, or another beside it")
    if len(spec.objectives) > 1 and COMBINED in spec.study.objectives:
        raise SpecError(
            "study.objective has 'combined' beside another: the combined loss at different weights is not comparable, so it "
            "makes no front; give two metrics, such as val_rmse and val_boundary_f1"
        )


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
                f"search.points has an unknown point {name!r}{nearest(name, REFERENCES)}; expected {', '.join(REFERENCES)}"
            )
    for term in terms:
        check_weight(term, 0, spec.loss.own)
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
        check_weight(term, 0, spec.loss.own)
    if len(set(terms)) != len(terms) or len(terms) < 2:
        raise SpecError(f"search.simplex is {list(terms)}: expected at least two different terms")
    if spec.weights or any("." not in v.name for v in spec.variables):
        raise SpecError("search.simplex gives the weights: remove [weights] and other weight variables")
    if spec.search.sampler == "grid":
        raise SpecError("search.simplex needs a sampler that draws, such as sampler = 'tpe', with trials = N")


def _check_variables(spec: StudySpec) -> None:
    known = {v.name for v in spec.variables}
    used = {name for weight in spec.weights.values() for name in weight.names}
    for name in sorted(used - known):
        raise SpecError(f"a weight uses {name!r}{nearest(name, known)}, which [search] does not sweep")
    for variable in spec.variables[1:] if spec.search.points else spec.variables:
        if "." not in variable.name and variable.name not in used:
            raise SpecError(f"search.{variable.name} is swept but no weight uses it (fields are swept by dotted names)")
        if variable.name in used and not _is_numeric(variable):
            raise SpecError(f"search.{variable.name} is used in a weight, so its values must be numbers")


def _check_weighting(spec: StudySpec) -> None:
    """Weights aren't swept under a rule that leaves nothing of them."""
    swept = ["simplex"] * bool(spec.search.simplex) + [
        v.name for v in spec.variables if "." not in v.name and _varies(v)
    ]
    rules = {spec.sections_at(cell)["loss"].weighting for cell in _field_cells(spec, WEIGHTING)}
    for rule in sorted(rule for rule in rules if swept and WEIGHTINGS[rule].cancels_weights):
        raise SpecError(
            f"{WEIGHTING} {rule!r} sets the weights itself, whatever they are given as, and search.{swept[0]} sweeps them: "
            f'remove one of the two (search.points = ["equal"] leaves all to the rule)'
        )


def _field_cells(spec: StudySpec, name: str) -> list[dict[str, Any]]:
    """The values of a swept field as points; where it isn't swept, the point that sets nothing."""
    found = next((v for v in spec.variables if v.name == name), None)
    return [{name: plain(value)} for value in found.values] if isinstance(found, Choices) else [{}]


def _varies(variable: Variable) -> bool:
    return isinstance(variable, Interval) or len(variable.values) > 1


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


def _check_race(spec: StudySpec) -> None:
    """A race drops trials by what they are worth, so that must be comparable, and nobody else may drop any.

    Of a search it is a study of its own, beside the search.
    """
    if not spec.search.race:
        if spec.search.stages != STAGES:
            raise SpecError("search.stages are those of a race: give search.race = true, too, or remove them")
        return
    if spec.is_search:
        return
    if spec.objective.name == COMBINED or any(name.startswith("data.") for name in spec.variable_names):
        what = "the combined loss" if spec.objective.name == COMBINED else "trials on different data"
        raise SpecError(f"search.race drops the worse trials, and {what} cannot be compared: remove search.race")
    if spec.search.pruner != "none":
        raise SpecError(f"search.race drops trials itself: remove search.pruner = {spec.search.pruner!r}")
    if len(spec.study.seeds) > spec.stages[-1]:
        raise SpecError(
            f"study.seeds has {len(spec.study.seeds)} seeds, and the race's last stage {spec.stages[-1]}: give fewer seeds, or "
            f"another search.stages"
        )


def _check_halving(spec: StudySpec) -> None:
    if spec.is_halving and not spec.is_search:
        raise SpecError(
            "search.pruner = 'halving' is for searches: race a grid instead (search.race = true), or choose a sampler that draws"
        )
    if spec.is_halving and len(spec.study.seeds) < 2:
        raise SpecError(
            f"search.pruner = 'halving' judges after 1, {spec.search.reduction_factor}, ... of study.seeds, and there is one: give more"
        )


def _check_search(spec: StudySpec) -> None:
    if spec.objective.name == COMBINED:
        raise SpecError(
            "objective = 'combined' cannot be searched: the combined loss at different weights is not comparable, and its "
            "least value is at weights of zero; search on a validation metric such as val_rmse, or use sampler = 'grid'"
        )
    if spec.search.trials is None:
        raise SpecError(f"sampler = {spec.search.sampler!r} needs search.trials, the number of trials")
    if not spec.search.simplex and not spec.variables:
        raise SpecError("there is nothing to search: give search.simplex or a variable")
    sampler = SAMPLERS[spec.search.sampler]
    if len(spec.objectives) > 1 and not sampler.takes_two:
        raise SpecError(
            f"sampler = {spec.search.sampler!r} goes by one objective, and study.objective has two: give one, or another sampler, "
            f"such as 'nsga2' or 'tpe'"
        )
    least = sampler.least_variables
    if len(spec.variable_names) < least:
        raise SpecError(
            f"sampler = {spec.search.sampler!r} needs at least {least} variables, and one is swept: sweep another, too, or "
            f"choose another sampler, such as 'tpe'"
        )
    if not sampler.draws_choices:
        for variable in spec.variables:
            if isinstance(variable, Choices):
                raise SpecError(
                    f"search.{variable.name} is a list or a range with steps, and sampler = {spec.search.sampler!r} draws from "
                    f"intervals only: expected {{ low, high }}, or another sampler, such as 'tpe'"
                )
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
    if spec.train.minds_scale:
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
    for variable in spec.variables:
        if isinstance(variable, Interval) and "." in variable.name and not variable.is_whole:
            _check_between(spec, variable)


def _check_between(spec: StudySpec, field: Interval) -> None:
    """Of a field that is true or false, say, both ends of an interval can be used, and nothing between them."""
    between = field.low + (field.high - field.low) * BETWEEN
    try:
        spec.sections_at({field.name: plain(between)})
    except SpecError as error:
        raise SpecError(
            f"search.{field.name} is an interval, of which not every number can be used ({error}): give a list"
        ) from error


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
        grid = [Choices(name, tuple(choices)) for name, choices in values.items() if ("." in name) is is_field]
        if cell_count(grid) > MAX_CELLS:
            raise SpecError(f"the spec has {cell_count(grid)} cells to check; at most {MAX_CELLS} are accepted")
        for cell in cells(grid):
            check_at({name: plain(value) for name, value in cell.items()})


def check_weight(term: str, value: Any, own: Collection[str]) -> Any:
    """The weight as it was given; raises `SpecError` where term or value can be none. `own` are the study's own terms."""
    known = [*ALL_TERMS, *own]
    if term not in known:
        raise SpecError(f"[weights] has an unknown term {term!r}{nearest(term, known)}; expected {', '.join(known)}")
    if isinstance(value, bool) or not isinstance(value, (int, str, Decimal)):
        raise SpecError(f"weights.{term} is {value!r}: expected a number or an expression such as '0.9 - w'")
    return value
