"""What can be wrong with a report's input."""

from depth_loss_sweep.errors import SweepError


class ReportError(SweepError):
    """A study record that cannot be reported. One line: what was given, what was expected, what to do."""
