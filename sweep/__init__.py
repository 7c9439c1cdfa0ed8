"""Loss-weight sweeps for depth networks: spec, Optuna study, coordinator and command line.

`data`, `model` and `reports` are common names, so an import may find a stranger's module of that name instead of
ours. Importing `sweep` checks, without importing torch, that the three are its own siblings.
"""

import sys
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

try:
    __version__ = version("depth-loss-sweep")
except PackageNotFoundError:  # run from a checkout that was never installed
    __version__ = "0+unknown"

SIBLINGS = ("data", "model", "reports")


class ShadowedPackageError(ImportError):
    """Another `data`, `model` or `reports` stands before ours on the import path."""


def check_siblings() -> None:
    """Raise `ShadowedPackageError`, naming the file, where a sibling package is not the one installed beside `sweep`."""
    home = Path(__file__).resolve().parent.parent
    for name in SIBLINGS:
        found = find_spec(name)
        origin = found.origin if found is not None else None
        if origin is None or Path(origin).resolve() != home / name / "__init__.py":
            where = (
                f"the package {name!r} was found at {origin or 'no file'}, expected {home / name}: "
                f"rename that file, take its folder out of PYTHONPATH, or run sweep from another folder"
            )
            if Path(sys.argv[0]).stem == "sweep":  # the command, which has no other place to say so in a line
                sys.stderr.write(f"sweep: {where}\n")
                sys.exit(2)
            raise ShadowedPackageError(where)


check_siblings()
