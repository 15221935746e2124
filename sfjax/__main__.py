"""The command line: parses a verb and runs it, and tells in one line what ends it early."""

from __future__ import annotations

import logging
import os
import sys
from pathlib import Path

import absl.logging

from sfjax.errors import Preempted, UserError, complain
from sfjax.verbs import CONFIGURED, VERBS
from sfjax.verbs.verb import parser

PREEMPTED = 75  # EX_TEMPFAIL: launch scripts queue the job again

PAGES = Path("/sys/kernel/mm/transparent_hugepage/enabled")


def command() -> None:
    """The console script: `main`, in a process whose memory comes in huge pages where Linux leaves that to programs.

    A training step on a CPU spends a quarter of its time on page faults otherwise. glibc reads the setting when a
    process starts, so the process starts again, once; a GLIBC_TUNABLES of the user's own is left as it is.
    """
    if "GLIBC_TUNABLES" not in os.environ and PAGES.exists() and "[madvise]" in PAGES.read_text():
        os.environ["GLIBC_TUNABLES"] = "glibc.malloc.hugetlb=1"
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])
    sys.exit(main())


def main(argv: list[str] | None = None) -> int:
    """Runs one verb; 0 if all went well, 2 for what the user can put right, 75 on SIGTERM, 130 if interrupted,
    141 if nobody reads what it writes."""
    _quiet()
    try:
        arguments, rest = parser(VERBS).parse_known_args(argv)
        if rest and arguments.verb not in CONFIGURED:
            raise UserError(f"unrecognized arguments: {' '.join(rest)}; see `sfjax {arguments.verb} --help`")
        arguments.overrides = rest
        return arguments.run(arguments) or 0
    except UserError as error:
        return complain(str(error))
    except OSError as error:
        name = f"{error.filename}: " if error.filename else ""
        return complain(f"{name}{error.strerror or error}; free space, mend permissions or choose another place")
    except Preempted:
        complain("ended by SIGTERM; what was finished is kept, the same command goes on")
        return PREEMPTED
    except KeyboardInterrupt:
        complain("interrupted; what was finished is kept, the same command goes on or starts again")
        return 130


def _quiet() -> None:
    """Drops what orbax and TensorStore print, with tracebacks, of errors that they raise as well, and grain at exit."""
    for logger in (absl.logging.get_absl_logger(), logging.getLogger("asyncio")):
        logger.addFilter(_is_not_of_orbax)
    sys.unraisablehook = _unraisable
    sys.warnoptions.append("ignore:resource_tracker")  # grain leaves shared memory to that process, which frees it


def _is_not_of_orbax(record) -> bool:
    return not {"orbax", "asyncio"} & {*Path(record.pathname).parts}


def _unraisable(found, before=sys.unraisablehook) -> None:
    if str(found.exc_value) != "Event loop is closed":
        before(found)


if __name__ == "__main__":
    command()
