"""What can be wrong with data: one base class, so that a caller can catch all of it."""


class DataError(Exception):
    """Bad input data. The message is one line: what was given, what was expected, what to do."""
