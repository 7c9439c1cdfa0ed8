"""The one place that reads TOML, presets, --set and --seeds, and a stored study's spec. A preset is nothing but such a file."""

import json
import re
import tomllib
from collections.abc import Mapping, Sequence
from copy import deepcopy
from decimal import Decimal
from importlib.resources import files
from os.path import relpath
from pathlib import Path
from typing import Any

from pydantic import BaseModel, TypeAdapter

from depth_loss_sweep.data.errors import DataError
from depth_loss_sweep.data.registry import own_source, source_entry
from depth_loss_sweep.data.settings import DataSettings
from depth_loss_sweep.errors import CodeError, SpecError
from depth_loss_sweep.model.names import EXTRA_METRICS, METRICS, TERMS
from depth_loss_sweep.model.settings import OwnMetric, OwnTerm
from depth_loss_sweep.paths import absolute_code, absolute_source, absolute_weights, expanded
from depth_loss_sweep.reports.naming import list_text
from depth_loss_sweep.reports.references import POINT, Candidate
from depth_loss_sweep.space import Choices, Interval, Variable, grid_range, parse_affine
from depth_loss_sweep.spec import (
    SECTION_SETTINGS,
    SearchSection,
    StudySection,
    StudySpec,
    holds_list,
    holds_table,
    holds_whole,
)
from depth_loss_sweep.spec_check import check_spec, check_weight
from depth_loss_sweep.usercode import Reference, allow, resolve
from depth_loss_sweep.validation import nearest, validated

# No part of what a run is known by, so that trials that differ by one of these would share their runs; or settled at start.
OF_THE_STUDY = ("train.precision", "train.threads", "train.deterministic", "train.keep", "model.pretrained")
SHORT_NUMBER = r"[+-]?(\d+\.|\.\d+)([eE][+-]?\d+)?"
"""A number as people write it and TOML does not: .001, 2."""

OWN_KINDS: dict[str, type[OwnTerm | OwnMetric]] = {"terms": OwnTerm, "metrics": OwnMetric}
"""The sections that name the user's own by tables of their own."""

SECTIONS = ("study", *SECTION_SETTINGS, *OWN_KINDS, "search", "weights")
OWN_NAME = re.compile("[a-z][a-z0-9_]{0,39}")
CODE_KEY = re.compile(r"(search\.)?model\.network|(terms|metrics)\.\w+\.function")
"""The keys that name code of the user's own, data.source apart."""

PLACE = "@"
"""Before a key among a study's overrides: where the code lies that the key names, seen from the spec's folder. It changes nothing."""


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
            f"no preset is called {given!r}{nearest(given, preset_names())}; "
            f"expected one of {', '.join(preset_names())}, or a TOML file"
        )
    try:
        return path.read_text(encoding="utf-8-sig")  # editors put a mark in front
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8 text: save it as UTF-8"
        raise SpecError(f"the spec {given} cannot be read: {reason}") from error


def load_spec(given: str, overrides: Mapping[str, Any] | None = None, text: str | None = None) -> StudySpec:
    """Read a preset or file, lay the overrides (dotted key to value) over it and validate the whole.

    Where a `text` is given, nothing is read, and what is called `given` is that.
    """
    text, overrides = read_text(given) if text is None else text, overrides or {}
    spec = parse_spec(text, overrides, given)
    _check_data(spec.data)
    found = _resolved(spec, given)
    return spec if found == spec.code_keys else parse_spec(text, {**overrides, **found}, given)


def _resolved(spec: StudySpec, given: str) -> dict[str, Any]:
    """The keys that name code of the user's own, each with its digest; paths are relative to the folder of what is `given`."""
    folder = expanded(given).parent

    def resolved(key: str, value: Any) -> Any:
        if isinstance(value, list):
            return [resolved(key, each) for each in value]
        try:
            return resolve(value, folder)
        except CodeError as error:
            raise CodeError(f"{given}: {key}: {error}") from error

    return {key: resolved(key, value) for key, value in spec.code_keys.items()}


def load_placed(given: str, overrides: Mapping[str, Any], text: str | None = None) -> tuple[StudySpec, dict[str, Any]]:
    """As `load_spec`, the places that are named no longer depending on the working folder: a study goes on from anywhere.

    A path in the overrides is one from the working folder; one in a file lies beside the file, if it is there. Also returns the
    overrides that give this spec.
    """
    source, weights = overrides.get("data.source"), overrides.get("model.pretrained")
    placed = {key: _placed_code(key, value) for key, value in overrides.items()}
    placed |= {"data.source": absolute_source(source)} if isinstance(source, str) else {}
    placed |= {"model.pretrained": absolute_weights(weights)} if isinstance(weights, str) else {}
    spec, folder = load_spec(given, placed, text), Path(given).parent
    found = {"data.source": absolute_source(spec.data.source, folder)}
    if isinstance(spec.model.pretrained, str):
        found["model.pretrained"] = absolute_weights(spec.model.pretrained, folder)
    moved = {key: place for key, place in found.items() if place != _field(spec, key)}
    spec = load_spec(given, placed | moved, text) if moved else spec
    return spec, placed | moved | _code_places(spec, overrides, expanded(given).parent)


def _code_places(spec: StudySpec, overrides: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Where code of the user's own lies that overrides name by paths from the working folder, seen from the spec's folder."""
    tree: dict[str, Any] = {}
    lay_all_over(tree, overrides)
    named = {key: code_in(tree, key) for key in spec.code_keys}
    return {PLACE + key: _seen_from(folder, value) for key, value in named.items() if value}


def _seen_from(folder: Path, value: Any) -> Any:
    if isinstance(value, list):
        return [_seen_from(folder, each) for each in value]
    reference = Reference.parse(value) if isinstance(value, str) else None
    if not reference or not reference.is_file or expanded(reference.module).is_absolute():
        return value
    return f"{Path(relpath(reference.module, folder)).as_posix()}:{reference.name}"


def code_in(tree: Mapping[str, Any], key: str) -> Any:
    """What a spec's tree has for a key that names code of the user's own; nothing where it has none."""
    if key.startswith("search."):
        return split_search(tree.get("search", {}))[1].get(key.removeprefix("search."))
    for part in key.split("."):
        tree = tree.get(part, {}) if isinstance(tree, Mapping) else {}
    return tree


def _placed_code(key: str, value: Any) -> Any:
    """An override, its files of the user's own code by their places, in tables and lists, too."""
    if isinstance(value, Mapping):
        return {name: _placed_code(f"{key}.{name}", each) for name, each in value.items()}
    if isinstance(value, list):
        return [_placed_code(key, each) for each in value]
    return absolute_code(value) if isinstance(value, str) and CODE_KEY.fullmatch(key) else value


def _field(spec: StudySpec, key: str) -> Any:
    section, _, field = key.partition(".")
    return getattr(getattr(spec, section), field)


def _check_data(data: DataSettings) -> None:
    """Refuse what is no source, and the inverse of a depth PNG's unit; that not of stored specs: earlier versions let it pass."""
    try:
        source_entry(data.source)
    except DataError:
        from depth_loss_sweep.data.guess import suggesting  # with NumPy, which a spec does without

        with suggesting(data.source):
            raise
    if data.depth_scale is not None and data.depth_scale > 1:
        raise SpecError(
            f"data.depth_scale is {data.depth_scale:g}: expected metres a unit, at most 1; a PNG of {data.depth_scale:.6g} units a "
            f'metre has "1/{data.depth_scale:.6g}"'
        )


def parse_spec(text: str, overrides: Mapping[str, Any], given: str = "the spec", stored: bool = False) -> StudySpec:
    """Validate a spec's text with overrides laid over it; any fault is a `SpecError` of one line.

    Of a `stored` study, what earlier versions let pass is let pass.
    """
    tree = read_tree(text, given)
    try:
        lay_all_over(tree, overrides)
        return _build(tree, text, given, stored)
    except SpecError as error:
        raise SpecError(f"{given}: {error}") from error


def read_tree(text: str, given: str) -> dict[str, Any]:
    """A TOML text as nested tables, decimals exact; `given` is what it is called where it is none."""
    try:
        return tomllib.loads(text, parse_float=Decimal)
    except (tomllib.TOMLDecodeError, RecursionError, ArithmeticError, ValueError) as error:
        raise SpecError(f"{given} is not valid TOML: {' '.join(str(error).split())}") from error


def parse_overrides(texts: Sequence[str] | None) -> dict[str, Any]:
    """What `--set` was given, by key, the last value of each; `SpecError` for what is no key=value."""
    return dict(map(parse_override, texts or ()))


def parse_override(text: str) -> tuple[str, Any]:
    """Split `key=value`; the value is read as TOML, and as plain text where it is none."""
    key, sign, value = text.partition("=")
    if not sign or not key.strip() or key.strip().startswith(PLACE):
        raise SpecError(f"--set {text!r}: expected section.key=value, such as train.epochs=20")
    try:
        return _key(key), tomllib.loads(f"value = {value}", parse_float=Decimal)["value"]
    except (tomllib.TOMLDecodeError, RecursionError, ArithmeticError):
        value = value.strip()
        return _key(key), Decimal(value) if re.fullmatch(SHORT_NUMBER, value) else value


def _key(text: str) -> str:
    return text.strip().replace('"', "").replace("'", "")


def lay_all_over(tree: dict[str, Any], overrides: Mapping[str, Any]) -> None:
    """Put overrides, dotted key to value, into a spec's tables."""
    for key, value in overrides.items():
        if not key.startswith(PLACE):
            _lay_over(tree, key, value)


def _lay_over(tree: dict[str, Any], key: str, value: Any) -> None:
    section, _, field = key.partition(".")
    if section not in SECTIONS or not field:
        near = "" if section in SECTIONS else nearest(section, SECTIONS)
        raise SpecError(f"the key {key!r} is unknown{near}; expected section.key, such as train.epochs")
    *tables, last = field.split(".") if section in (*SECTION_SETTINGS, *OWN_KINDS) else [field]
    content: Any = tree
    for table in (section, *tables):
        content = content.setdefault(table, {})
        if not isinstance(content, dict):
            raise SpecError(f"[{'.'.join([section, *tables])}] must be a table")
    content[last] = deepcopy(value)  # further keys may be laid into it


def _build(tree: dict[str, Any], text: str, given: str, stored: bool) -> StudySpec:
    for name, content in tree.items():
        if name not in SECTIONS:
            raise SpecError(f"unknown section [{name}]{nearest(name, SECTIONS)}; expected {', '.join(SECTIONS)}")
        if not isinstance(content, dict):
            raise SpecError(f"[{name}] must be a table, got {content!r}")
    before = {"value": "last"} if stored else {}  # what it meant, unnamed, before today's default
    study = {"name": Path(given).stem, **before, **_floats(tree.get("study", {}))}
    settings, swept = split_search(tree.get("search", {}))
    search = validated(SearchSection, _floats(settings), "search", stored)
    points = (Choices(POINT, search.points),) if search.points else ()
    own = {section: _own(tree, section) for section in OWN_KINDS}
    if "own" in tree.get("loss", {}):
        raise SpecError("unknown key loss.own; terms of your own are in [terms.NAME]")
    sections: dict[str, Any] = {
        name: validated(kind, _floats(tree.get(name, {})), name, stored) for name, kind in SECTION_SETTINGS.items()
    }
    if own["terms"]:
        sections["loss"] = sections["loss"].model_copy(update={"own": own["terms"]})
    spec = StudySpec(
        study=validated(StudySection, study, "study", stored),
        search=search,
        variables=points + tuple(_variable(name, value, sections) for name, value in swept.items()),
        weights={
            term: parse_affine(check_weight(term, value, own["terms"]))
            for term, value in tree.get("weights", {}).items()
        },
        text=text,
        own_metrics=own["metrics"],
        **sections,
    )
    check_spec(spec, stored)
    return spec


def _own(tree: Mapping[str, Any], section: str) -> dict[str, Any]:
    """The terms or metrics of the user's own, by name."""
    usual: Mapping[str, Any] = TERMS if section == "terms" else METRICS | EXTRA_METRICS
    found = {}
    for name, content in sorted(tree.get(section, {}).items()):
        if not isinstance(content, dict):
            raise SpecError(
                f"{section}.{name} is {_floats(content)!r}: expected a table [{section}.{name}] with a function"
            )
        if not OWN_NAME.fullmatch(name) or name in usual:
            what = "one that every run has is called so" if name in usual else "a name has a-z, 0-9 and _, at most 40"
            raise SpecError(f"[{section}.{name}]: {what}; call yours otherwise, such as [{section}.my_{section[:-1]}]")
        found[name] = validated(OWN_KINDS[section], _floats(content), f"{section}.{name}")
    return found


def _floats(value: Any) -> Any:
    """Decimals as floats, all the way down: only weights and swept values need to be exact."""
    if isinstance(value, Decimal):
        return float(value)
    if isinstance(value, dict):
        return {k: _floats(v) for k, v in value.items()}
    return [_floats(v) for v in value] if isinstance(value, list) else value


def split_search(section: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Settings of the search, and the swept variables (unquoted dotted keys arrive as nested tables)."""
    of_own = (
        {"terms"} if isinstance(section.get("terms"), dict) else set()
    )  # terms.NAME.options.KEY, not what "equal" weighs
    settings = {k: v for k, v in section.items() if k in SearchSection.model_fields.keys() - of_own}
    swept: dict[str, Any] = {}
    for name, value in section.items():
        if name in settings:
            continue
        if isinstance(value, dict) and not {"from", "low"} & set(value) and name in SECTION_SETTINGS:
            swept.update(_nested(name, value))
        elif isinstance(value, dict) and name == "terms":
            swept.update(_flat(name, value))
        else:
            swept[name] = value
    return settings, swept


def _flat(name: str, value: Any) -> dict[str, Any]:
    """The swept options of terms of the user's own, whose unquoted keys arrive as tables in tables."""
    if not isinstance(value, dict) or {"from", "low"} & set(value):
        return {name: value}
    return {key: inner for part, each in value.items() for key, inner in _flat(f"{name}.{part}", each).items()}


def _nested(name: str, section: Mapping[str, Any]) -> dict[str, Any]:
    """The swept fields of a section by their dotted names; those of a field that holds a table, by one more part."""
    found: dict[str, Any] = {}
    for field, value in section.items():
        is_table = isinstance(value, dict) and holds_table(name, field) and not {"from", "low"} & set(value)
        found.update({f"{name}.{field}.{k}": v for k, v in value.items()} if is_table else {f"{name}.{field}": value})
    return found


def _variable(name: str, value: Any, sections: Mapping[str, Any]) -> Variable:
    expected = "expected { from, to, step }, { low, high } or a list of choices"
    if not all(part.isidentifier() for part in name.split(".")):
        raise SpecError(f"search.{name}: a variable's name has letters, digits and _ only")
    section, _, field = name.partition(".")
    table, _, key = field.partition(".")
    if key and section in SECTION_SETTINGS and holds_table(section, table):
        field = table
    is_own = section == "terms" and table in sections["loss"].own and re.fullmatch(r"options\.\w+", key)
    if (
        field
        and not is_own
        and (section not in SECTION_SETTINGS or field not in SECTION_SETTINGS[section].model_fields)
    ):
        known = [f"{s}.{f}" for s, kind in SECTION_SETTINGS.items() for f in kind.model_fields]
        raise SpecError(f"search.{name} names no field{nearest(name, known)}; expected one such as train.learning_rate")
    if name in OF_THE_STUDY:
        raise SpecError(
            f"search.{name} cannot be swept, it is the whole study's: start a study for each, with --set {name}=..."
        )
    if field and not is_own and not key and holds_table(section, field):
        raise SpecError(f"search.{name} sweeps a whole table: sweep one of its keys, as search.{name}.KEY")
    if isinstance(value, list) and value:
        is_of_lists = (
            field and not is_own and holds_list(section, field) and any(isinstance(item, list | str) for item in value)
        )
        return _choices(name, _list_texts(section, field, value, sections[section]) if is_of_lists else value)
    if isinstance(value, dict) and set(value) == {"from", "to", "step"}:
        return grid_range(name, *(_number(name, value[k]) for k in ("from", "to", "step")))
    if isinstance(value, dict) and {"low", "high"} <= set(value) <= {"low", "high", "log"}:
        low, high = _number(name, value["low"]), _number(name, value["high"])
        if not low < high or (value.get("log") and low <= 0):
            raise SpecError(f"search.{name} runs from {low} to {high}: expected low < high, and low > 0 with log")
        is_whole = bool(field) and not is_own and not key and holds_whole(section, field)
        return Interval(name, low, high, bool(value.get("log", False)), is_whole)
    if not field and not isinstance(value, (list, dict)):
        keys = list(SearchSection.model_fields)
        raise SpecError(
            f"unknown key search.{name}{nearest(name, keys)}; a swept variable is a table or a list: {expected}"
        )
    raise SpecError(f"search.{name} is {_floats(value)!r}: {expected}")


def _list_texts(section: str, field: str, value: list[Any], settings: BaseModel) -> list[str]:
    """The choices of a field that holds a list, each by the text of what the section makes of it."""
    for item in value:
        if not isinstance(item, list):
            raise SpecError(
                f"search.{section}.{field} holds {_floats(item)!r}: expected a list of lists, since {section}.{field} holds a "
                f"list, and each choice is one"
            )
    kept = settings.model_dump()
    found = [validated(type(settings), kept | {field: _floats(item)}, section) for item in value]
    return [list_text(getattr(one, field)) for one in found]


def _choices(name: str, value: list[Any]) -> Choices:
    for item in value:
        if not isinstance(item, (Decimal, int, str, bool)):
            raise SpecError(f"search.{name} holds {_floats(item)!r}: expected numbers, texts or true/false")
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


def overrides_json(overrides: Mapping[str, Any]) -> str:
    """Overrides as JSON that keeps decimals exact."""
    return json.dumps(overrides, default=lambda value: {"decimal": str(value)}, sort_keys=True)


def kept_overrides(spec: StudySpec, overrides: Mapping[str, Any]) -> str:
    """What is laid over a new study's text for good, as `overrides_json`: the value's default, too, where the text names none."""
    stored = parse_spec(spec.text, {"study.name": spec.name, **overrides}, stored=True)
    value = {} if stored.study.value == spec.study.value else {"study.value": spec.study.value}
    return overrides_json({**overrides, **value, **spec.code_keys})


def stored_overrides(text: str) -> dict[str, Any]:
    """What `overrides_json` wrote; `SpecError` where it is something else."""
    try:
        overrides = _decimals(json.loads(text))
    except (ValueError, TypeError, RecursionError, ArithmeticError):
        overrides = None
    if not isinstance(overrides, dict):
        raise SpecError("the stored --set values cannot be read")
    return overrides


def stored_spec(row: Mapping[str, Any], database: str) -> StudySpec:
    """The spec of a study's row; `SpecError` naming study and database where it cannot be read."""
    given = f"the spec of study {row['name']} in {database}"
    try:
        overrides = stored_overrides(row["overrides"])
    except SpecError as error:
        raise SpecError(f"{given}: {error}") from error
    if not row.get("parent"):
        return parse_spec(row["spec_text"], overrides | {"study.name": row["name"]}, given, stored=True)
    spec = parse_spec(row["spec_text"], overrides | {"study.name": row["parent"]}, given, stored=True)
    return spec.beside(row["name"], spec.study.seeds, _candidates(row["candidates"], given), spec.search.race)


def _candidates(text: str, given: str) -> list[Candidate]:
    """What a study beside another trains, as its row has it."""
    try:
        return TypeAdapter(list[Candidate]).validate_json(text)
    except ValueError:
        raise SpecError(f"{given}: what it trains cannot be read") from None


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
    tree: dict[str, Any] = {"data": {"source": source}}
    lay_all_over(tree, {f"data.{key.removeprefix('data.')}": value for key, value in overrides.items()})
    settings = validated(DataSettings, _floats(tree["data"]), "data")
    _check_data(settings)
    if not own_source(settings.source):
        return settings
    settings = settings.model_copy(update={"source": resolve(settings.source, Path())})
    allow([settings.source])  # whoever names it on the command line means it
    return settings
