"""What can be wrong with a model: one base class, so that a caller can catch all of it."""

from depth_loss_sweep.errors import SweepError


class ModelError(SweepError):
    """A request the model code cannot serve. One line: what was given, what was expected, what to do."""


class MissingPackageError(ModelError):
    """What was chosen needs a package that is not installed."""


class RunLockedError(ModelError):
    """Another process trains in the run's folder."""
