"""What ends a verb early, without being a mistake in the program."""

from __future__ import annotations

import sys


class UserError(Exception):
    """A mistake in the input, not in the program: one line that says what was wanted, what came and what to do.

    The command line prints it without a traceback and exits with code 2.
    """


class Preempted(Exception):
    """The machine wants its place back (SIGTERM): all is saved, and the same command goes on.

    The command line exits with code 75, at which a launch script puts its job into the queue again.
    """


def complain(line: str) -> int:
    """Says what went wrong in one line on standard error, as the command line does; its exit code, 2."""
    print(f"sfjax: {' '.join(line.split())}", file=sys.stderr)
    return 2
