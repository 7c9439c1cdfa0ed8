"""What can go wrong, as one tree. The library raises; only `sweep.cli` prints one line and sets the exit code.

SweepError
├── SpecError           the study's spec, a preset's name or a --set is wrong
├── StudyError          the named study does not exist, or cannot go on as asked
│   └── StudyHeldError  another coordinator holds it
├── StorageError        the database or the home folder cannot be used
└── LeaseLostError      another coordinator has taken the study over: stop before writing
"""


class SweepError(Exception):
    """Base of all errors a user can mend. The message is one line: what was given, what was expected, what to do."""


class SpecError(SweepError):
    """The spec, a preset's name or an override is wrong."""


class StudyError(SweepError):
    """The named study does not exist, or cannot go on as asked."""


class StudyHeldError(StudyError):
    """Another coordinator is at work on the study."""


class StorageError(SweepError):
    """The database or the home folder cannot be used."""


class LeaseLostError(SweepError):
    """Another coordinator has taken the study over; this one must not write any more."""
