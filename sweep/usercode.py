"""The user's own code: what `FILE.py:NAME` and `package.module:NAME` name, known by its content and imported only where allowed.

A file comes with all files that it imports, found without importing any (`Code`); what is run is this copy, wherever the files lie
and whatever becomes of them. Its modules are imported below a name made of its digest, so that neither we nor two studies in one
process get in each other's way, and find each other by the names that they have for each other.

Nothing is imported that was not allowed in this process (`allow`): a spec, a database or a model file only names code.
"""

import ast
import builtins
import hashlib
import inspect
import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, redirect_stdout, suppress
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.metadata import PackageNotFoundError, packages_distributions, version
from importlib.util import find_spec, spec_from_loader
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Any

from depth_loss_sweep.closure import Code, kept, read_code
from depth_loss_sweep.errors import CodeError
from depth_loss_sweep.registry import nearest

PREFIX = "_sweep_code_"
LONGEST = 1000
"""Letters of a reference."""

ALIKE = 0.75
"""How much of a package's or file's name has to be so for it to have been meant: there are many."""

OF_THE_HOUSE = {"torch", "numpy", "depth-loss-sweep"}
"""Distributions whose versions are known otherwise, or are ours."""

SECRETS = ("SWEEP_STORAGE", "PGPASSWORD")
"""What workers, which never open a database, and the user's code needn't know."""

_FORM = re.compile(
    r"(?P<module>[^\x00-\x1f\x7f]+\.py|[^\W\d]\w*(?:\.[^\W\d]\w*)*):(?P<name>[^\W\d]\w*)(?:@(?P<digest>[0-9a-f]{64}))?"
)


@dataclass(frozen=True)
class Reference:
    """Code by its name: an object of a file, or of a module of an installed package."""

    module: str
    """A file's path, or a dotted name."""
    name: str
    digest: str = ""
    """Of a file: which `Code` it is of, once that is known."""

    @classmethod
    def parse(cls, text: str) -> "Reference | None":
        """What a text names; None where it has another form."""
        match = _FORM.fullmatch(text) if len(text) <= LONGEST else None
        found = match and cls(match["module"], match["name"], match["digest"] or "")
        return None if not found or (found.digest and not found.is_file) else found

    @property
    def is_file(self) -> bool:
        """Whether it is of a file, not of an installed package."""
        return self.module.endswith(".py")

    @property
    def key(self) -> str:
        """By what it is allowed: the digest of a file's code; an installed object's is that of its name."""
        return self.digest if self.is_file else hashlib.sha256(f"{self.module}:{self.name}".encode()).hexdigest()

    @property
    def shown(self) -> str:
        """As a user writes it."""
        return f"{self.module}:{self.name}"

    def __str__(self) -> str:
        return f"{self.shown}@{self.digest}" if self.digest else self.shown


def shown(text: str) -> str:
    """A reference without its digest; any other text as it is."""
    reference = Reference.parse(text)
    return reference.shown if reference else text


@contextmanager
def as_guest() -> Iterator[None]:
    """Where code of the user's runs among ours: what it prints is no result, and it sees no secret of ours."""
    hidden = {name: os.environ.pop(name) for name in SECRETS if name in os.environ}
    try:
        with redirect_stdout(sys.stderr):
            yield
    finally:
        os.environ.update(hidden)


# Allowed, and imported -------------------------------------------------------------------------------------------


_known: dict[str, Code] = {}
_places: dict[str, Path] = {}
_allowed: set[str] = set()


def resolve(text: str, folder: Path) -> str:
    """A reference with the digest of its code; paths are relative to that folder. `CodeError` where there is no such code.

    One that has a digest asks for that code and no other. Any other text is given back. Nothing is imported.
    """
    reference = Reference.parse(text)
    if reference is None:
        return text
    if not reference.is_file:
        _require_installed(reference)
        return text
    path = _file(reference.module, folder)
    code, entry = read_code(path)
    if reference.digest not in ("", code.digest):
        raise CodeError(
            f"{path} is other code than {reference.shown!r} asks for: its sha256 is {code.digest[:12]}..., expected "
            f"{reference.digest[:12]}...; remove @ and what follows to start a study with what is there"
        )
    code.require(entry, reference.name)
    _known[code.digest], _places[code.digest] = code, path.parents[entry.count("/")]
    return str(Reference(entry, reference.name, code.digest))


def _file(module: str, folder: Path) -> Path:
    """Where a file of that name is, seen from the folder. `CodeError` says where it was looked for, and what is there instead."""
    elsewhere = ""
    try:
        path = (folder / Path(module).expanduser()).absolute()
        if ".." in path.parts:
            path = path.parent.resolve() / path.name
        if path.is_file():
            return path
        beside = nearest(path.stem, [file.stem for file in path.parent.glob("*.py")], ALIKE)
        if Path(module).is_file():
            elsewhere = f"; the one at {Path(module).absolute()} is another"
    except (OSError, RuntimeError, ValueError):  # a name that no disk takes, or ~ of nobody
        path, beside = Path(module), ""
    counted = "" if path.is_absolute() and str(path) == module else f", its path counted from {folder.absolute()}"
    raise CodeError(f"there is no file {path}{beside}; expected a Python file{counted}{elsewhere}")


def known(digest: str) -> Code | None:
    """The code of that digest, where this process has read it."""
    return _known.get(digest)


def allow(references: Iterable[str], folder: Path | None = None) -> None:
    """Let the code of these references be imported in this process; copies lie in the folder. `CodeError` where one is missing."""
    for reference in filter(None, map(Reference.parse, references)):
        if reference.is_file and (folder is not None or reference.digest not in _known):
            if folder is None:
                raise CodeError(f"the code of {reference.shown} is not here")
            _known[reference.digest], _places[reference.digest] = (
                kept(reference.digest, folder),
                folder / reference.digest,
            )
        if not reference.is_file:
            _require_installed(reference)
        _allowed.add(reference.key)


def sources(references: Iterable[str]) -> dict[str, dict[str, str]]:
    """Digest -> path -> text of the code of these references, as `learn` takes it."""
    digests = (reference.digest for reference in filter(None, map(Reference.parse, references)))
    return {
        digest: {path: content.decode("latin-1") for path, content in _known[digest].files.items()}
        for digest in digests
        if digest in _known
    }


def learn(found: Mapping[str, Mapping[str, str]]) -> None:
    """Know of code that came with a model file, as `sources` made it; that allows nothing. `CodeError` where it was changed."""
    for digest, files in found.items():
        code = Code({path: text.encode("latin-1") for path, text in files.items()})
        if code.digest != digest:
            raise CodeError(
                f"the code that comes with the model is another than it says ({digest[:12]}): it was changed"
            )
        _known.setdefault(digest, code)


def load(text: str) -> Any:
    """The object that a resolved reference names. `CodeError` where it is not allowed here, can't be imported, or isn't there."""
    reference = Reference.parse(text)
    if reference is None or reference.key not in _allowed:
        raise CodeError(
            f"{shown(text)!r} is code that nothing allowed here, so it is not imported: use the sweep command, or depth_loss_sweep.trust"
        )
    return _loaded(reference)


@cache
def _loaded(reference: Reference) -> Any:
    parts = reference.module.removesuffix(".py").removesuffix("/__init__").split("/")
    module = ".".join([f"{PREFIX}{reference.digest}", *parts]) if reference.is_file else reference.module
    try:
        with as_guest():
            found = vars(import_module(module))
    except (Exception, SystemExit) as error:
        raise CodeError(f"{reference.shown} cannot be imported: {explain(error)}") from error
    if reference.name not in found:
        named = [name for name, value in found.items() if callable(value) and not name.startswith("_")]
        raise CodeError(
            f"{reference.module} has no {reference.name!r}; it has {', '.join(named[:8]) or 'nothing to call'}"
        )
    value = found[reference.name]
    # A module holds whatever it imported, os.system too; of a file, its author chose it.
    home = str(getattr(value, "__module__", None) or "")
    if not callable(value) or not (reference.is_file or home.partition(".")[0] == module.partition(".")[0]):
        raise CodeError(
            f"{reference.shown} is no function or class of that {'file' if reference.is_file else 'package'}"
        )
    return value


def _require_installed(reference: Reference) -> None:
    """`CodeError` where a dotted name is of no installed package; nothing of it is imported."""
    top = reference.module.partition(".")[0]
    if top not in _owners():
        raise CodeError(
            f"{reference.shown!r}: no installed package holds {top!r}{nearest(top, _owners(), ALIKE)}; expected the module of one that is "
            f"installed beside this one, or a file, as {reference.module.replace('.', '/')}.py:{reference.name}"
        )


def defaults(text: str) -> dict[str, Any]:
    """What the options of a reference's function are where they are not given, as far as its file says so in plain values.

    Read from the file, not from the function: identities are made where nothing of the user's is imported.
    """
    reference = Reference.parse(text)
    code = _known.get(reference.digest) if reference else None
    if code is None or reference is None:
        return {}
    tree = ast.parse(code.files[reference.module])
    if list(_bound(tree)).count(reference.name) != 1:  # which of them counts, only running it says
        return {}
    found = next((n for n in tree.body if isinstance(n, _DEFINES) and n.name == reference.name), None)
    if found is None or found.decorator_list:
        return {}
    if isinstance(found, ast.ClassDef):
        found = next((n for n in found.body if isinstance(n, ast.FunctionDef) and n.name == "__init__"), None)
    if found is None:
        return {}
    plain = [*found.args.posonlyargs, *found.args.args]
    pairs = [
        *zip(plain[len(plain) - len(found.args.defaults) :], found.args.defaults, strict=True),
        *((a, d) for a, d in zip(found.args.kwonlyargs, found.args.kw_defaults, strict=True) if d is not None),
    ]
    values: dict[str, Any] = {}
    for argument, default in pairs:
        with suppress(ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
            values[argument.arg] = ast.literal_eval(default)
    return values


_DEFINES = (ast.FunctionDef, ast.ClassDef)


def _bound(tree: ast.Module) -> Iterator[str]:
    """Names that a file gives a meaning anywhere in it, each as often as it does."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load):
            yield node.id
        elif isinstance(node, (*_DEFINES, ast.AsyncFunctionDef)):
            yield node.name
        elif isinstance(node, ast.alias):
            yield (node.asname or node.name).partition(".")[0]


def options_stated(text: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """Options without those that are what they would be anyway."""
    usual = defaults(text)
    return {name: value for name, value in options.items() if name not in usual or not _same(usual[name], value)}


def _same(usual: Any, value: Any) -> bool:
    return bool(usual == value) and isinstance(usual, bool) == isinstance(value, bool)


def versions(references: Iterable[str]) -> dict[str, str]:
    """Distribution -> version of what the code of these references imports from elsewhere; what is ours or torch's is left out.

    A module that can be edited where it lies, by an editable install or by PYTHONPATH, stands there by its name and what it holds.
    """
    tops: set[str] = set()
    for reference in filter(None, map(Reference.parse, references)):
        code = _known.get(reference.digest)
        tops |= code.imported if code else set() if reference.is_file else {reference.module.partition(".")[0]}
    owned = {top: {name.lower() for name in _owners().get(top, ())} for top in tops - sys.stdlib_module_names}
    others = {top: names for top, names in owned.items() if not names & OF_THE_HOUSE}
    found = {top: f"sha256 {_digest(place)[:12]}" for top in others if (place := _editable(top))}
    names = {name for top, names in others.items() if top not in found for name in names}
    return dict(sorted((found | {name: known for name in names if (known := _version(name))}).items()))


def _editable(top: str) -> Path | None:
    """Where a module or package lies that is in no folder of installed packages; it is looked for, not imported."""
    try:
        spec = find_spec(top)
    except (ImportError, ValueError):
        return None
    places = [*(spec.submodule_search_locations or ()), spec.origin or ""] if spec else [""]
    path = Path(places[0])
    return None if {"site-packages", "dist-packages"} & {*path.parts} or not path.is_absolute() else path


def _digest(place: Path) -> str:
    """Of a module's file, or of all Python files of a package."""
    files = [place] if place.is_file() else place.rglob("*.py")
    return Code({file.relative_to(place.parent).as_posix(): file.read_bytes() for file in files}).digest


@cache
def _owners() -> Mapping[str, list[str]]:
    """Top name of a module -> the distributions that have it; looked up once, since that reads every one's list of files."""
    return packages_distributions()


def _version(distribution: str) -> str | None:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return None


class _Finder(MetaPathFinder):
    """Finds the modules of code that is known and allowed, below `PREFIX` and its digest."""

    def find_spec(self, fullname: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        top, *parts = fullname.split(".")
        digest = top.removeprefix(PREFIX)
        if not top.startswith(PREFIX) or digest not in _allowed or digest not in _known:
            return None
        code = _known[digest]
        file = code.find(tuple(parts)) if parts else None
        if file is None and parts and not code.holds(tuple(parts)):
            return None
        is_package = not file or file.endswith("/__init__.py")
        where = str(_places[digest] / (file or "")) if digest in _places else f"<{digest[:12]}>/{file}"
        found = spec_from_loader(fullname, _Loader(code, file, where), origin=where, is_package=is_package)
        if found and file:
            found.has_location = True
        return found


@dataclass(frozen=True)
class _Loader(Loader):
    """Runs a module from the bytes that its digest is of, never from a file or a cache beside one."""

    code: Code
    file: str | None
    where: str

    def get_source(self, _name: str) -> str:
        """For tracebacks."""
        return self.code.files[self.file].decode(errors="replace") if self.file else ""

    def exec_module(self, module: ModuleType) -> None:
        if self.file:
            own = {**vars(builtins), "__import__": _importer(self.code)}
            module.__dict__["__builtins__"] = own
            exec(compile(self.code.files[self.file], self.where, "exec", dont_inherit=True), module.__dict__)


def _importer(code: Code) -> Callable[..., Any]:
    """`__import__` as a module of that code has it: what is of the code's own is found there, before all else."""
    root = f"{PREFIX}{code.digest}"

    def own_import(
        name: str, globals_: Any = None, locals_: Any = None, fromlist: Any = (), level: int = 0
    ) -> ModuleType:
        top = name.partition(".")[0]
        if level or not code.holds((top,)):
            return builtins.__import__(name, globals_, locals_, fromlist, level)
        module = builtins.__import__(f"{root}.{name}", globals_, locals_, fromlist or (), 0)
        return module if fromlist else sys.modules[f"{root}.{top}"]

    return own_import


sys.meta_path.append(_Finder())


# What is said of it ----------------------------------------------------------------------------------------------


def explain(error: BaseException) -> str:
    """What was raised, in a line: its kind, its message, and the last line of the user's own that was at work."""
    message = f"{type(error).__name__}: {error}".strip().removesuffix(":")
    place = _place(error.__traceback__)
    return " ".join(message.split())[:300] + (f" ({place})" if place else "")


def _place(trace: TracebackType | None) -> str:
    found = ""
    while trace:
        if str(trace.tb_frame.f_globals.get("__name__", "")).startswith(PREFIX):
            found = f"{Path(trace.tb_frame.f_code.co_filename).name}, line {trace.tb_lineno}"
        trace = trace.tb_next
    return found


def option_fault(function: Callable[..., Any], options: Mapping[str, Any], given: Iterable[str]) -> str | None:
    """What is wrong with options, in words, by the signature of what takes them beside what it is given; None where nothing is."""
    try:
        parameters = inspect.signature(function).parameters
    except (TypeError, ValueError):
        return None
    taken = [name for name, p in parameters.items() if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    own = [name for name in taken if name not in {*given}]
    takes_all = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    for name in options:
        if name in {*given}:
            return f"the option {name!r} is what it is given anyway: remove it"
        if name not in taken and not takes_all:
            return f"it has no option {name!r}{nearest(name, own)}; it has {', '.join(own) or 'none'}"
    for name in own:
        if parameters[name].default is inspect.Parameter.empty and name not in options:
            return f"its option {name!r} has no default: give it under options"
    return None
