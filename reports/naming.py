"""How a trial is called: by its reference point, its weights, and the swept fields that are no weights."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from depth_loss_sweep.reports.measures import NO_BREAK, short
from depth_loss_sweep.reports.references import POINT
from depth_loss_sweep.usercode import shown

EMPTY = "none"


def swept_fields(params: Mapping[str, Any]) -> dict[str, Any]:
    """The fields among the swept variables, such as train.learning_rate."""
    return {name: value for name, value in params.items() if "." in name}


def beside_weights(params: Mapping[str, Any]) -> dict[str, Any]:
    """The swept variables that do not speak through the weights: a reference point's name, and fields (dotted names)."""
    return {name: value for name, value in params.items() if "." in name or (name == POINT and isinstance(value, str))}


def is_number(value: object) -> bool:
    """Whether a swept value is a number; true and false are none."""
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def written(value: object) -> str:
    """A swept value as a spec has it: 0.3, true, a text without its quotes, code without its digest."""
    if isinstance(value, bool):
        return str(value).lower()
    return short(float(value)) if isinstance(value, (int, float)) else shown(str(value))


def list_text(values: Sequence[float | str]) -> str:
    """A list's numbers or plain words as one text, such as "flip_h+flip_v": Optuna and our tables know scalars only."""
    return "+".join(map(_part, values)) or EMPTY


def _part(value: float | str) -> str:
    """A word that reads as a number is quoted."""
    return json.dumps(value) if isinstance(value, str) and not isinstance(_number_or_word(value), str) else str(value)


def text_list(text: str) -> list[float | str]:
    """What `list_text` wrote."""
    return [] if text == EMPTY else [_number_or_word(part) for part in text.split("+")]


def _number_or_word(text: str) -> float | str:
    if text.startswith('"'):
        return str(json.loads(text))
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            pass
    return text


def affine(constant: str, coefficients: Mapping[str, str]) -> str:
    """A weight as a spec has it, from its constant and its variables' coefficients: "0.9 − w", "0.5 w", "0.05"."""
    parts = {name: float(c) for name, c in coefficients.items()}
    text = short(float(constant)) if float(constant) or not parts else ""
    for name, factor in parts.items():
        size = name if abs(factor) == 1 else f"{short(abs(factor))}{NO_BREAK}{name}"
        sign = ("−" if factor < 0 else "") if not text else (" − " if factor < 0 else " + ")
        text += f"{sign}{size}"
    return text


def weights_label(weights: Mapping[str, float], names: Mapping[str, str]) -> str:
    """Weights in one line by their terms' names, such as "SILog 0.55 · SSIM 0.45"; zero weights are left out."""
    return " · ".join(f"{names[term]}{NO_BREAK}{w:.3g}" for term, w in weights.items() if w > 0) or "no weights"


def recipe(weights: Mapping[str, float], params: Mapping[str, Any], names: Mapping[str, str]) -> str:
    """All that a trial is made of, for a page: "equal: SILog 1 · SSIM 1 with train.learning_rate = 0.001".

    `names` are those of the terms.
    """
    named = {name: written(value) for name, value in beside_weights(params).items()}
    point = f"{named.pop(POINT)}: " if POINT in named else ""
    fields = ", ".join(f"{name} = {value}" for name, value in named.items())
    return f"{point}{weights_label(weights, names)}{' with ' if fields else ''}{fields}"


def spec_recipe(weights: Mapping[str, float], params: Mapping[str, Any]) -> str:
    """The same for a terminal, by the names that a spec has: "equal: silog 1, ssim 1, train.learning_rate 0.001"."""
    named = {name: written(value) for name, value in beside_weights(params).items()}
    point = f"{named.pop(POINT)}: " if POINT in named else ""
    used = {term: f"{weight:.4g}" for term, weight in weights.items() if weight}
    return point + ", ".join(f"{name} {value}" for name, value in (used | named).items())
