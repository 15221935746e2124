"""Parse the command line, run a command, and print an error as one line."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import sys
from pathlib import Path

import absl.logging

from sfjax import compilation_cache
from sfjax.cli import CONFIGURED, VERBS
from sfjax.cli.verb import CLOSED, parser
from sfjax.errors import PREEMPTED, Preempted, UserError, complain

PAGES = Path("/sys/kernel/mm/transparent_hugepage/enabled")


def command() -> None:
    """Run `main` as the console script, with huge memory pages where Linux lets a program choose them.

    Without them, a training step on a CPU spends a quarter of its time on page faults. glibc reads the setting when a
    process starts, so the process restarts itself once. If the user has set GLIBC_TUNABLES, nothing changes.
    """
    if "GLIBC_TUNABLES" not in os.environ and PAGES.exists() and "[madvise]" in PAGES.read_text():
        os.environ["GLIBC_TUNABLES"] = "glibc.malloc.hugetlb=1"
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])
    sys.exit(main())


def main(argv: list[str] | None = None) -> int:
    """Run one command and return its exit code.

    The code is 0 for success, 2 for an error that the user can correct, 75 after SIGTERM, 130 after Ctrl-C, and 141 if
    the reader of standard output has closed it.
    """
    _quiet()
    if sys.stderr is None:  # closed with 2>&-; print(file=None) would write to standard output
        sys.stderr = open(os.devnull, "w")  # noqa: SIM115 (it stays open)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # names of files need not be UTF-8
    try:
        try:
            return _run(argv)
        finally:
            if sys.stdout is not None:
                sys.stdout.flush()  # here an error is a message; at the end of the process it is a traceback
    except UserError as error:
        return complain(str(error))
    except BrokenPipeError:
        _discard_output()
        return CLOSED
    except OSError as error:
        _discard_output()
        name = f"{os.fsdecode(error.filename)}: " if error.filename else ""
        return complain(f"{name}{error.strerror or error}; free space, change permissions or choose another place")
    except MemoryError as error:
        return complain(f"out of memory ({error}); give smaller numbers or shorter files")
    except (RuntimeError, AssertionError):
        if _has_platform():
            raise
        return complain(
            f"JAX_PLATFORMS={os.environ['JAX_PLATFORMS']}: JAX finds no such platform on this machine; unset the "
            "variable, set it to cpu, or install JAX for it (pip install 'jax[cuda12]' or 'jax[tpu]')"
        )
    except Preempted:
        complain("ended by SIGTERM; finished work is saved; run the same command again to resume")
        return PREEMPTED
    except KeyboardInterrupt:
        complain("interrupted; finished work is saved; run the same command again to resume or restart")
        return 130


def _run(argv: list[str] | None) -> int:
    arguments, rest = parser(VERBS).parse_known_args(argv)
    if rest and arguments.verb not in CONFIGURED:
        reason = f"; only {' and '.join(CONFIGURED)} take a config" if rest[0].startswith("--config") else ""
        raise UserError(f"unrecognized arguments: {' '.join(rest)}{reason}; see `sfjax {arguments.verb} --help`")
    arguments.overrides, arguments.main = rest, main  # quickstart runs other commands
    if arguments.cache:
        compilation_cache.enable()
    return arguments.run(arguments) or 0


def _has_platform() -> bool:
    """Return whether JAX has the platform that the user has chosen; its errors have no class or text in common."""
    import jax

    try:
        return "JAX_PLATFORMS" not in os.environ or bool(jax.devices())
    except (RuntimeError, AssertionError):
        return False


def _discard_output() -> None:
    """Send what standard output still buffers to nowhere: Python writes it when it ends, and would fail again."""
    with contextlib.suppress(OSError, AttributeError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _quiet() -> None:
    """Silence orbax and TensorStore, which print tracebacks of errors that they also raise, and grain at exit."""
    for logger in (absl.logging.get_absl_logger(), logging.getLogger("asyncio")):
        logger.addFilter(_is_not_from_orbax)
    sys.unraisablehook = _unraisable
    sys.warnoptions.append("ignore:resource_tracker")  # that process frees the shared memory that grain leaves


def _is_not_from_orbax(record) -> bool:
    return not {"orbax", "asyncio"} & {*Path(record.pathname).parts}


def _unraisable(error, default_hook=sys.unraisablehook) -> None:
    if str(error.exc_value) != "Event loop is closed":
        default_hook(error)


if __name__ == "__main__":
    command()
