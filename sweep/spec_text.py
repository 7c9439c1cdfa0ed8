"""A stored study's whole spec as TOML, ready to be saved and started."""

import json
import re
from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any

from depth_loss_sweep.spec import StudySpec
from depth_loss_sweep.spec_file import (
    OWN_KINDS,
    PLACE,
    SECTIONS,
    code_in,
    lay_all_over,
    read_tree,
    split_search,
    stored_overrides,
    stored_spec,
)
from depth_loss_sweep.usercode import Reference


def resolved_text(row: Mapping[str, Any], database: str) -> str:
    """A stored study's whole spec as TOML with every default filled in: started, it asks for exactly the same study.

    Swept values and weights stand as they were given, since their digits count. Empty for a study beside another: no spec asks
    for one.
    """
    if row.get("parent"):
        return ""
    spec, tree = stored_spec(row, database), read_tree(row["spec_text"], row["name"])
    overrides = stored_overrides(row["overrides"])
    places = {key: overrides.get(PLACE + key) or code_in(tree, key) for key in spec.code_keys}
    named = {key: _where_named(places[key], code) for key, code in spec.code_keys.items()}
    lay_all_over(tree, overrides)
    whole: dict[str, Any] = {
        section: _own_tables(spec, section) or getattr(spec, section).model_dump(mode="json", exclude={"own"})
        for section in SECTIONS[:-1]
        if section not in OWN_KINDS or _own_tables(spec, section)
    }
    whole["search"] |= split_search(tree.get("search", {}))[1]
    lay_all_over(whole, named)
    lines = []
    for section, content in whole.items():
        lines += [f"[{section}]", *(f"{_toml_key(k)} = {_toml(v)}" for k, v in content.items() if v is not None), ""]
    if weights := tree.get("weights"):
        lines += [
            "[weights]",
            *(f"{term} = {_toml(w) if isinstance(w, str) else w}" for term, w in weights.items()),
            "",
        ]
    return "\n".join(lines)


def _where_named(given: Any, code: Any) -> Any:
    """Code by its digest, at the place where the spec has it: beside the same files it is found again, in folders, too."""
    if isinstance(code, list):
        is_same = isinstance(given, list) and len(given) == len(code)
        return [_where_named(*pair) for pair in zip(given if is_same else code, code, strict=True)]
    found, place = Reference.parse(code), Reference.parse(given) if isinstance(given, str) else None
    if not found or not place or found.name != place.name or Path(found.module).name != Path(place.module).name:
        return code  # no code of the user's own
    return str(Reference(place.module, place.name, found.digest))


def _own_tables(spec: StudySpec, section: str) -> dict[str, Any]:
    own = {"terms": spec.loss.own, "metrics": spec.own_metrics}.get(section, {})
    return {name: {k: v for k, v in each.model_dump(mode="json").items() if v != ""} for name, each in own.items()}


def _toml_key(name: str) -> str:
    return name if re.fullmatch(r"\w+", name, re.ASCII) else _toml(name)


def _toml(value: Any) -> str:
    """A value as TOML has it; a decimal stays a decimal, so that it is no whole number when it is read again."""
    if isinstance(value, Mapping):
        return f"{{ {', '.join(f'{_toml_key(k)} = {_toml(v)}' for k, v in value.items())} }}"
    if isinstance(value, list):
        return f"[{', '.join(map(_toml, value))}]"
    if isinstance(value, Decimal):
        return str(value) if re.search("[.E]", str(value)) else f"{value}.0"
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
