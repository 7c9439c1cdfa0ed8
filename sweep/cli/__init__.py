"""The command line: parses, calls, prints. The only place that turns errors into one line and an exit code.

Exit codes: 0 done; 1 done, but some runs failed; 2 the request or its input was bad; 130 interrupted, resumable.
Results go to stdout, everything else to stderr. What takes long to import is imported inside the command that needs it.
"""

import codecs
import os
import sys
from io import TextIOWrapper

import typer

from depth_loss_sweep.cli.app import app
from depth_loss_sweep.cli.exit_codes import BAD_REQUEST, DONE, INTERRUPTED
from depth_loss_sweep.cli.options import at_place, place_in
from depth_loss_sweep.cli.printing import plain
from depth_loss_sweep.cli.work import SAME_COMMAND
from depth_loss_sweep.errors import SweepError, hide_password


def main() -> None:
    """Entry point: one line and an exit code for what a user can mend; a programming error keeps its traceback."""
    codecs.register_error("sweep", _written)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="sweep")
    sys.exit(run(sys.argv[1:]))


def _written(error: UnicodeError) -> tuple[bytes, int]:
    """What a stream's encoding lacks: a path comes out as it is on disk, whatever its encoding, another letter as \\xe9."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    letter = error.object[error.start]
    is_of_a_path = "\udc80" <= letter <= "\udcff"
    return letter.encode("ascii", "surrogateescape" if is_of_a_path else "backslashreplace"), error.start + 1


def run(arguments: list[str]) -> int:
    """Run one command line; returns the exit code."""
    if arguments in ([], ["data"]):
        arguments = [*arguments, "--help"]
    try:
        result = app(args=arguments, standalone_mode=False, prog_name="sweep")
    except typer.TyperException as error:
        return _refuse(error.format_message())
    except ModuleNotFoundError as error:
        if error.name != "fcntl":
            raise
        return _refuse(f"sweep needs file locks, which {sys.platform} lacks: use Linux, macOS or WSL")
    except (typer.Abort, KeyboardInterrupt):
        print(f"sweep: interrupted; {SAME_COMMAND}", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:  # the reader of our output went away, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return DONE
    except SweepError as error:
        return _refuse(at_place(str(error), *place_in(arguments)))
    except OSError as error:  # a file or folder that cannot be read or written is the user's to mend
        return _refuse(
            f"{error.filename or 'a file'}: {error.strerror or error}; choose another place, or make room there"
        )
    return result if isinstance(result, int) else DONE


def _refuse(message: str) -> int:
    print("sweep: " + plain(hide_password(" ".join(message.split()))), file=sys.stderr)
    return BAD_REQUEST
