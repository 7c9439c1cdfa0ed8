"""What can be wrong with data: one base class, so that a caller can catch all of it."""

import struct
import tokenize
import zipfile
import zlib

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


class DataError(Exception):
    """Bad input data. The message is one line: what was given, what was expected, what to do."""
