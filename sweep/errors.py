"""What can go wrong, as one tree. The library raises; only `sweep.cli` prints one line and sets the exit code.

SweepError
├── SpecError             the study's spec, a preset's name or a --set is wrong
├── StudyError            the named study does not exist, or cannot go on as asked
│   └── StudyHeldError    another coordinator holds it
├── StorageError          the database or the home folder cannot be used
│   └── DatabaseAwayError it is locked, or its server is away: it may be back by itself
├── SlurmAwayError        Slurm does not answer, or takes no more jobs now
├── OutputError           an output cannot be written where it was asked for
├── CodeError             the user's own code is missing, faulty, or not allowed to be imported
├── LeaseLostError        another coordinator has taken the study over: stop before writing
├── DataError             bad input data (data/errors.py)
│   └── BadFileError      what is wrong with one file
│       └── MissingFileError  it is not where its source expects it
├── ModelError            a request that the model code cannot serve (model/errors.py)
│   ├── MissingPackageError  what was chosen needs a package that is not installed
│   ├── RunLockedError    another process trains in the run's folder
│   └── DamagedFileError  a checkpoint or result that is not whole (model/checkpoint.py)
└── ReportError           a study record that cannot be reported (reports/errors.py)

This module imports nothing, so that every folder may import it.
"""

import re


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


class DatabaseAwayError(StorageError):
    """The database is locked, or its server is away: asking again later may help."""


class SlurmAwayError(SweepError):
    """Slurm does not answer, or takes no more jobs now: asking again later may help."""


class OutputError(SweepError):
    """An output cannot be written where it was asked for, or would destroy what is there."""


class CodeError(SweepError):
    """The user's own code is missing, does something other than what is asked of it, or is not allowed to be imported."""


class LeaseLostError(SweepError):
    """Another coordinator has taken the study over; this one must not write any more."""


def hide_password(text: str) -> str:
    """A text fit to be shown: in database URLs, a password and one given as a query parameter are replaced by ***.

    A text that is one URL, or --option=URL, may have anything in its password; within other texts it ends at a space.
    """
    any_ = "." if re.match(r"(--[a-z]+=)?[\w+.-]+://", text) else r"\S"
    shown = re.sub(rf"(?s)(://[^:/@\s]*):{any_}*@", r"\1:***@", text)
    return re.sub(r"(?i)([?&](?:password|passwd|pwd|sslpassword)=)[^&\s]*", r"\1***", shown)
