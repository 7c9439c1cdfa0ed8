"""How results are printed: as JSON, and as text in which nothing can steer the terminal."""

import json
import math
import os
from collections.abc import Mapping
from typing import Any

from depth_loss_sweep.reports.naming import spec_recipe


def plain(text: str) -> str:
    """A text in which nothing, such as a file's name, can steer the terminal: what is not printable is shown as \\x1b."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "backslashreplace").decode() for c in text)


def as_text(text: str) -> str:
    """A text that every file and database can hold: bytes of a path that are no UTF-8 are shown as \\xe4."""
    return os.fsencode(text).decode("utf-8", "backslashreplace")


def print_json(value: Any) -> None:
    """A value as JSON that every reader takes."""
    print(json.dumps(_finite(value), indent=2, default=str, allow_nan=False))


def _finite(value: Any) -> Any:
    """The value with None for each number that JSON has no word for."""
    if isinstance(value, Mapping):
        return {key: _finite(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def trial_ahead(study: Mapping[str, Any]) -> str:
    """The trial that is ahead, called as the report calls it, with all that it is made of."""
    best = study["best"]
    made_of = spec_recipe(best["weights"], best["params"])
    value = f": {best['said']}" if best["said"] else ""
    return f"trial {best['trial']}, {best['verdict']}{value} ({made_of})"
