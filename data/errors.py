"""What can be wrong with data: one base class, so that a caller can catch all of it."""

import contextlib
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path

from depth_loss_sweep.errors import SweepError

DAMAGE = (
    zipfile.BadZipFile,
    zlib.error,
    tokenize.TokenError,
    struct.error,
    SyntaxError,
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    EOFError,
    OSError,
    RuntimeError,
    NotImplementedError,
    OverflowError,
    MemoryError,
    Warning,
)
"""All that zipfile, json and NumPy's header parser raise on bytes that are not what they expect."""


class DataError(SweepError):
    """Bad input data. The message is one line: what was given, what was expected, what to do."""


@contextlib.contextmanager
def reading(path: Path) -> Iterator[None]:
    """An OSError in here is a file that is missing or can't be read, and becomes a BadFileError of its name."""
    try:
        yield
    except FileNotFoundError:
        raise MissingFileError(path, "is missing") from None
    except OSError as error:
        raise BadFileError(path, f"cannot be read: {error.strerror}") from None


class BadFileError(DataError):
    """What is wrong with one file. Its `kind` is the message without names: the same for all files with this fault."""

    def __init__(self, path: Path, kind: str, name: str | None = None) -> None:
        """Take what is wrong in words that follow the file's path; NAME in them stands for `name`."""
        super().__init__(f"{path} {kind if name is None else kind.replace('NAME', name)}")
        self.kind = kind


class MissingFileError(BadFileError):
    """A picture, or what goes with it, isn't where its source expects it: the source may be another's."""
