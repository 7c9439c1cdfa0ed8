"""Settings validated, with what is wrong said in one line."""

from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from depth_loss_sweep.errors import SpecError
from depth_loss_sweep.registry import nearest

Section = TypeVar("Section", bound=BaseModel)


def validated(kind: type[Section], content: Any, section: str, stored: bool = False) -> Section:
    """A section's settings; `SpecError` names the key, what was given, and what was expected.

    Of a `stored` study a text for a number is taken, as earlier versions did.
    """
    try:
        return kind.model_validate(content, context={"stored": stored})
    except ValidationError as error:
        raise SpecError(_explain(error, kind, section)) from error


def _explain(error: ValidationError, kind: type[BaseModel], section: str) -> str:
    first = error.errors(include_url=False)[0]
    key = ".".join(
        [section, *(str(part) for part in first["loc"] if isinstance(part, str) and not part.startswith("literal"))]
    ).replace("loss.own.", "terms.")
    if first["type"] == "extra_forbidden":
        known = [name for name in kind.model_fields if name != "own"]
        return f"unknown key {key}{nearest(str(first['loc'][-1]), known)}; [{section}] knows {', '.join(known)}"
    message = first["msg"].removeprefix("Value error, ").replace("a valid tuple", "a list, such as [...]")
    shown = repr(first["input"])
    return f"{key} is {shown if len(shown) < 80 else shown[:77] + '...'}: {message[0].lower()}{message[1:]}"
