"""A file of the user's own with all that it imports of its own: found without importing any, and kept by what it holds."""

import ast
import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from depth_loss_sweep.errors import CodeError
from depth_loss_sweep.registry import nearest

MOST_FILES, MOST_BYTES = 500, 10_000_000
"""A closure beyond these is no network and its helpers."""


_DEFINES = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
_ANYTHING = {"*", "globals", "vars", "exec", "setattr", "__getattr__"}
"""Names by which a file may have any other."""


@dataclass(frozen=True)
class Code:
    """A file with all files of its own that it imports: their bytes by their paths below one folder, with slashes."""

    files: Mapping[str, bytes]

    @cached_property
    def digest(self) -> str:
        """SHA-256 of names and bytes."""
        digest = hashlib.sha256()
        for path, content in sorted(self.files.items()):
            digest.update(f"{len(path.encode())} {path} {len(content)} ".encode() + content)
        return digest.hexdigest()

    def find(self, parts: tuple[str, ...]) -> str | None:
        """The file of a module by the parts of its dotted name."""
        stem = "/".join(parts)
        return next((path for path in (f"{stem}/__init__.py", f"{stem}.py") if path in self.files), None)

    def holds(self, parts: tuple[str, ...]) -> bool:
        """Whether it has a module or a folder of that name."""
        return self.find(parts) is not None or any(path.startswith("/".join(parts) + "/") for path in self.files)

    def require(self, file: str, name: str) -> None:
        """`CodeError` where one of its files has no such name, as far as can be told without running it."""
        tree = ast.parse(self.files[file])
        bound: set[str] = set()
        for node in ast.walk(tree):
            if isinstance(node, ast.Name):
                bound.add(node.id)
            elif isinstance(node, _DEFINES):
                bound.add(node.name)
            elif isinstance(node, ast.alias):
                bound.add((node.asname or node.name).partition(".")[0])
        if name in bound or bound & _ANYTHING:
            return
        public = [node.name for node in tree.body if isinstance(node, _DEFINES) and not node.name.startswith("_")]
        near = nearest(name, public)
        raise CodeError(f"{file} has no {name!r}{near}; it has {', '.join(public[:8]) or 'nothing to call'}")

    @cached_property
    def imported(self) -> frozenset[str]:
        """The first names of what it imports from elsewhere."""
        names = {
            parts[0]
            for path, content in self.files.items()
            for level, parts in _imports(content, path)
            if not level and not self.holds(parts[:1])
        }
        return frozenset(names)


def read_code(path: Path) -> tuple[Code, str]:
    """A file's code, and the file's path in it. `CodeError` in a line where it can't be read, or is no Python.

    Names are looked up below the folder of the file, or, where that is a package, below the folder that holds the package.
    """
    root = path.parent
    while (root / "__init__.py").is_file() and root != root.parent:
        root = root.parent
    files: dict[str, bytes] = {}
    entry = path.relative_to(root).as_posix()
    pending = [entry, *_packages(root, entry)]
    while pending:
        relative = pending.pop()
        if relative in files:
            continue
        files[relative] = _read(root / relative)
        if len(files) > MOST_FILES or sum(map(len, files.values())) > MOST_BYTES:
            raise CodeError(
                f"{path} imports more than {MOST_FILES} files or {MOST_BYTES // 1_000_000} MB of its own: expected a network or a "
                f"loss with its helpers; install what is larger as a package, and name it as package.module:NAME"
            )
        for level, parts in _imports(files[relative], root / relative):
            pending += _files_of(root, relative, level, parts)
    return Code(files), entry


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except (OSError, ValueError) as error:
        raise CodeError(f"the file {path} cannot be read: {getattr(error, 'strerror', None) or error}") from error


def _imports(content: bytes, path: Path | str) -> Iterator[tuple[int, tuple[str, ...]]]:
    """What a file imports, wherever in it: how many dots stand before, and the parts of the name."""
    try:
        tree = ast.parse(content, str(path))
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        line = f", line {error.lineno}" if isinstance(error, SyntaxError) and error.lineno else ""
        reason = error.msg if isinstance(error, SyntaxError) else str(error) or type(error).__name__
        raise CodeError(f"{path}{line}: {reason}; expected a Python file") from error
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((0, tuple(alias.name.split("."))) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            module = tuple(node.module.split(".")) if node.module else ()
            names = [(*module, alias.name) for alias in node.names if alias.name != "*"]
            yield from ((node.level, parts) for parts in [module, *names] if parts)


def _files_of(root: Path, importer: str, level: int, parts: tuple[str, ...]) -> list[str]:
    """The files of its own that are run where a file imports that name; none where it is of another place."""
    folder = importer.split("/")[:-1]
    if level > len(folder) + 1:
        return []
    base = tuple(folder[: len(folder) - level + 1]) if level else ()
    found = []
    for count in range(1, len(parts) + 1):
        stem = "/".join(base + parts[:count])
        file = next((f for f in (f"{stem}/__init__.py", f"{stem}.py") if (root / f).is_file()), None)
        if file:
            found += [file, *_packages(root, file)]
        elif not (root / stem).is_dir():
            break
    return found


def _packages(root: Path, file: str) -> list[str]:
    """The __init__.py of each package on the way to a file."""
    parts = file.split("/")[:-1]
    ways = ("/".join([*parts[: i + 1], "__init__.py"]) for i in range(len(parts)))
    return [way for way in ways if (root / way).is_file()]


# Its copy --------------------------------------------------------------------------------------------------------


def keep(code: Code, folder: Path) -> None:
    """Put a copy below a folder, called by its digest, where it isn't there yet; whole or not at all."""
    # Spec and help are read where there are no file locks, too, which these need.
    from depth_loss_sweep.files import prepare_whole, sync_folder

    place = folder / code.digest
    if place.is_dir():
        return
    for path, content in code.files.items():
        target = folder / f".{code.digest}" / path
        target.parent.mkdir(parents=True, exist_ok=True)
        prepare_whole(target, lambda stream, content=content: stream.write(content)).replace(target)  # type: ignore[misc]
    try:
        (folder / f".{code.digest}").rename(place)
    except OSError:
        if not place.is_dir():  # else another put it there
            raise
    sync_folder(folder)


def kept(digest: str, folder: Path) -> Code:
    """The copy of that digest. `CodeError` where it is missing, or another than it was."""
    place = folder / digest
    paths = sorted(path for path in place.rglob("*.py") if path.is_file()) if place.is_dir() else []
    if not paths:
        raise CodeError(f"the copy of the code is missing: expected it in {place}; put it back, or start another study")
    if len(paths) > MOST_FILES or sum(path.stat().st_size for path in paths) > MOST_BYTES:
        raise CodeError(f"the code in {place} is larger than any that is kept there: restore the copy")
    code = Code({path.relative_to(place).as_posix(): _read(path) for path in paths})
    if code.digest != digest:
        raise CodeError(
            f"the code in {place} was changed: its sha256 is {code.digest[:12]}..., expected {digest[:12]}...; put back what was there, "
            f"or start another study with the new code"
        )
    return code
