"""Whose code may run: what this user started, or allowed by its digest, and nothing else.

The list is the user's own, outside of every home and database, so that neither can bring it along.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from shlex import quote

import typer
from pydantic import ValidationError

from depth_loss_sweep import usercode
from depth_loss_sweep.closure import keep
from depth_loss_sweep.errors import CodeError
from depth_loss_sweep.files import lock_in_turn, write_whole
from depth_loss_sweep.model.checkpoint import read_checkpoint
from depth_loss_sweep.model.errors import ModelError
from depth_loss_sweep.model.settings import RunSettings
from depth_loss_sweep.spec import StudySpec
from depth_loss_sweep.usercode import Reference


def trusted_file() -> Path:
    """The list: SWEEP_TRUST, else a file in the user's folder for settings."""
    given = os.environ.get("SWEEP_TRUST")
    return Path(given).expanduser() if given else Path(typer.get_app_dir("depth-loss-sweep")) / "trusted"


def trusted() -> dict[str, str]:
    """Digest -> what it is of, as the list has it."""
    try:
        lines = trusted_file().read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError) as error:
        raise CodeError(f"the list of trusted code {trusted_file()} cannot be read: {error}") from error
    found = (line.partition(" ") for line in lines if line and not line.startswith("#"))
    return {digest: what.strip() for digest, _, what in found}


def trust(whats: dict[str, str]) -> None:
    """Add digests to the list, each with what it is of."""
    if whats.keys() <= trusted().keys():
        return
    path = trusted_file()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with lock_in_turn(path.with_name(f"{path.name}.lock")):
            lines = [f"{digest} {what}\n" for digest, what in (trusted() | whats).items()]
            write_whole(path, "".join(["# Code that sweep may run: its sha256, and what it is of.\n", *lines]).encode())
    except OSError as error:
        raise CodeError(
            f"the list of trusted code {path} cannot be written: {error.strerror or error}; set SWEEP_TRUST to a file of yours"
        ) from error


def adopt(references: Sequence[Reference], folder: Path) -> None:
    """Keep a copy of code that its user starts, trust it, and let it run here."""
    if not references:
        return
    for reference in references:
        if reference.is_file:
            code = usercode.known(reference.digest)
            if code is None:  # named by its digest alone, as in a stored study: nobody has started what is there
                raise CodeError(f"the file of {reference.shown} was not read: start the study from its spec")
            folder.mkdir(parents=True, exist_ok=True)
            keep(code, folder)
    trust({reference.key: reference.shown for reference in references})
    usercode.allow(map(str, references), folder)


def require_trusted(spec: StudySpec, folder: Path) -> None:
    """Let the code of a stored study run here; `CodeError` where it is not trusted, missing or changed."""
    _require(spec.code, f"the study {spec.name!r}", spec.name)
    usercode.allow(map(str, spec.code), folder)


def model_code(path: Path) -> tuple[str, ...]:
    """The references to code that a model file names; what it brings of it is known then, and allowed to nobody."""
    checkpoint = read_checkpoint(path)
    try:
        references = RunSettings(**checkpoint.settings).code
        usercode.learn(checkpoint.about.get("code", {}))
    except (ValidationError, TypeError, AttributeError, UnicodeError):
        return ()  # loading it says what is wrong with it
    return references


def require_trusted_model(path: Path) -> None:
    """Let the code of a model file run here; `CodeError` where it is not trusted, or missing."""
    try:
        texts = model_code(path)
    except (OSError, ModelError):
        return
    references = [reference for reference in map(Reference.parse, texts) if reference]
    _require(references, f"the model {path}", str(path))
    usercode.allow(texts)


def _require(references: Sequence[Reference], whose: str, shown: str) -> None:
    """`CodeError` that says how to look at code, and how to allow it, where one of these is not trusted."""
    allowed = trusted() if references else {}
    strange = [reference for reference in references if reference.key not in allowed]
    if strange:
        names = ", ".join(dict.fromkeys(reference.shown for reference in strange))
        digests = " ".join(dict.fromkeys(reference.key for reference in strange))
        raise CodeError(
            f"{whose} runs code that you did not start: {names}; look at it with: sweep trust --show {quote(shown)}, and allow it with: "
            f"sweep trust {digests}"
        )
