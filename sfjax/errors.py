"""Exceptions that end a command with a message instead of a traceback."""

from __future__ import annotations

import contextlib
import sys

PREEMPTED = 75  # exit code after which a launch script starts a run again


class UserError(Exception):
    """A mistake in the input, not in the program: one line with what was expected, what was found and what to do.

    The command line prints it without a traceback and exits with code 2. Notebooks show it as one line, too.
    """

    def _render_traceback_(self) -> list[str]:
        return [f"sfjax: {self}"]  # what IPython prints for this class of error


class Preempted(Exception):
    """The machine ends the run (SIGTERM); all is saved, and the same command resumes it.

    The command line exits with code `PREEMPTED`.
    """


def complain(line: str) -> int:
    """Print an error as one line on standard error, as the command line does; return the exit code, 2."""
    with contextlib.suppress(OSError):  # standard error may be a closed pipe
        print(f"sfjax: {' '.join(line.split())}", file=sys.stderr, flush=True)
    return 2
