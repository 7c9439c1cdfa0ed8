"""What can be wrong with a report's input.

ReportError
"""


class ReportError(Exception):
    """A study record that cannot be reported. One line: what was given, what was expected, what to do."""
