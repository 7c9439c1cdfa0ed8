"""Every key of a spec with its default, in words: what `sweep spec` prints. A spec itself, ready to be saved and changed."""

import json
import textwrap
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import BaseModel

from depth_loss_sweep.model.names import ALL_TERMS
from depth_loss_sweep.model.settings import OwnMetric, OwnTerm
from depth_loss_sweep.reports.naming import spec_recipe
from depth_loss_sweep.reports.references import EQUAL, LACKING, REFERENCES
from depth_loss_sweep.spec import SECTION_SETTINGS, SearchSection, StudySection

WIDTH = 118
WORDS = {"integer": "whole number", "string": "text", "boolean": "true | false", "object": "table"}
BOUNDS = {"minimum": "from {}", "exclusiveMinimum": "above {}", "maximum": "up to {}", "exclusiveMaximum": "below {}"}
HEAD = (
    "Every key of a spec with its default. Each may be left out; a key without a default stands behind a #. `sweep start FILE` "
    "starts it, `--set section.key=value` changes a key for once."
)
SWEPT = (
    "The other keys of this section are the swept variables, each a range, a list of choices, or (to be drawn) an interval. "
    'A plain name is used in [weights]; a dotted one, such as "train.learning_rate" = [1e-4, 1e-3], sweeps that field, '
    'and "train.augment" = [[], ["flip_h", "brightness"]] one that holds a list: its trials are called none and brightness+flip_h.'
)
WEIGHTS = (
    "λ of each term: a number, or an expression of the swept variables (+, -, * and / by a number). Terms: "
    f"{', '.join(ALL_TERMS)}; one that is left out weighs 0. Not beside search.simplex or search.points."
)
OWN = (
    "Terms and metrics of your own, each in a table of its name, which [weights], study.objective (as val_NAME) and search.simplex "
    "know then; docs/your-code.md says what they are given. They are computed wherever they are named here."
)
EXAMPLE = {"silog": '"0.9 - w"', "ssim": '"w"', "edge": "0.05", "l1": "0.05"}


def spec_reference() -> str:
    """The text: TOML that the parser reads, with an example of swept weights."""
    parts = [*_comment(HEAD), ""]
    sections: dict[str, type[BaseModel]] = {"study": StudySection, **SECTION_SETTINGS, "search": SearchSection}
    for name, kind in sections.items():
        parts += [*(_own() if name == "search" else ()), f"[{name}]", *_keys(kind)]
        parts += [*(_swept() if name == "search" else ()), ""]
    weights = (f"{term} = {weight}" for term, weight in EXAMPLE.items())
    return "\n".join([*parts, "[weights]", *_comment(WEIGHTS), *weights]) + "\n"


def _own() -> Iterator[str]:
    """The tables of terms and metrics of the user's own, as comments: there is none by default."""
    yield from _comment(OWN)
    for table, kind in (("terms", OwnTerm), ("metrics", OwnMetric)):
        yield f"# [{table}.my_{table[:-1]}]"
        for name, about in kind.model_json_schema()["properties"].items():
            given = "..." if "default" not in about else _toml(about["default"])
            yield from _comment(f"{name} = {given}    {about['description']} ({_described(about)})")
    yield ""


def _swept() -> Iterator[str]:
    yield from _points()
    yield from _comment(SWEPT)
    yield "w = { from = 0.0, to = 0.9, step = 0.1 }"
    yield "# w = [0.0, 0.3, 0.9]"
    yield "# w = { low = 0.0, high = 0.9 }    # with log = true: evenly over its orders of magnitude; of a field of whole numbers, those"


def _points() -> Iterator[str]:
    """What search.points may name, and what it may not."""
    yield "# The reference points (sweep them without w and [weights] below):"
    for name, reference in REFERENCES.items():
        weights = "" if name == EQUAL else f"{spec_recipe(reference.weights, {})}; "
        read_in = f" ({reference.read_in})" if reference.read_in else ""
        yield from _comment(f"{name}: {weights}{reference.note}{read_in}", "  ")
    for name, reason in LACKING.items():
        yield from _comment(f"not {name}: {reason}", "  ")


def _keys(kind: type[BaseModel]) -> Iterator[str]:
    """A section's keys, each below what it means and may be."""
    schema = kind.model_json_schema()
    for name, about in schema["properties"].items():
        if name == "own":
            continue  # it has sections of its own
        default = about.get("default")
        meaning = _described(about)
        yield from _comment(f"{about['description']} ({meaning}{'; not set by default' if default is None else ''})")
        yield f"# {name} = ..." if default is None else f"{name} = {_toml(default)}"


def _described(about: Mapping[str, Any]) -> str:
    """A value's type, choices and bounds in words, from its JSON schema."""
    if "anyOf" in about:
        return " or ".join(_described(part) for part in about["anyOf"] if part.get("type") != "null")
    if "enum" in about or "const" in about:
        return " | ".join(map(_toml, about.get("enum", [about.get("const")])))
    if about["type"] == "array":
        parts = about.get("prefixItems")
        return f"[{', '.join(map(_described, parts))}]" if parts else f"list of: {_described(about['items'])}"
    words = WORDS.get(about["type"], about["type"])
    return ", ".join([words, *(text.format(_toml(about[key])) for key, text in BOUNDS.items() if key in about)])


def _toml(value: Any) -> str:
    """A default as TOML has it, which for our kinds of values is as JSON has it."""
    return json.dumps(value, ensure_ascii=False)


def _comment(text: str, indent: str = "") -> list[str]:
    return textwrap.wrap(
        text, WIDTH, initial_indent=f"# {indent}", subsequent_indent=f"# {indent}", break_on_hyphens=False
    )
