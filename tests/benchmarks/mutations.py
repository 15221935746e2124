"""Run sfjax on thousands of mutated inputs, and list tracebacks, hangs and lost files.

    python tests/benchmarks/mutations.py --count 2000 --seed 0 -o mutations.json
    python tests/benchmarks/mutations.py --only 1234 5678

Every input has a seed, and `--only SEED` repeats it, with its words and its traceback. Commands run by the function of
the command line, in a worker process that starts again after a crash. The outcomes are

    result     the command worked
    refused    one line of error, exit code 2 (a UserError for the functions of Python)
    traceback  any other error, or any other exit code
    crash      the process ended
    hang       more than 10 s of processor time, or 2 minutes in all, twice: the first time may compile programs
    lost       a file that was there has changed or is gone, or a file of the result is not whole

The script ends with code 1 if there is any of the last four. `--quick` takes only inputs that compile no program.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import dataclasses
import hashlib
import io
import json
import multiprocessing
import os
import re
import shutil
import signal
import sys
import tempfile
import traceback
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mutated
import report

OUTCOMES = ("result", "refused", "traceback", "crash", "hang", "lost")
BAD = OUTCOMES[2:]
PROCESSOR_SECONDS, SECONDS = 10.0, 120.0  # of an input; above, it hangs
MEMORY = 12 * 2**30  # bytes of address space
APART = 10**6  # the inputs of a run have the seeds SEED × APART + 0, 1, 2, …


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What became of an input; `words` describe how it was run, `detail` is the line or the traceback."""

    seed: int
    kind: str
    outcome: str
    words: str
    detail: str


class Hang(BaseException):
    """The input took too long; no `except Exception` stops it."""


# Run one input


def attempt(seed: int, stock: Path, *, kinds: tuple[str, ...], quick: bool, keep: bool = False) -> Outcome:
    """Run the input of a seed in a folder of its own, which is removed unless `keep`; a hang is tried once more."""
    outcome = _attempt(seed, stock, kinds, quick, keep)
    return _attempt(seed, stock, kinds, quick, keep) if outcome.outcome == "hang" else outcome


def _attempt(seed, stock, kinds, quick, keep):
    home, box = os.getcwd(), Path(tempfile.mkdtemp(prefix="mutated-"))
    os.chdir(box)
    try:
        case = mutated.make(seed, box, stock, kinds=kinds, quick=quick)
        before = digests(box)
        outcome, detail = run(case)
        if outcome in ("result", "refused") and (loss := losses(box, before, case, outcome)):
            outcome, detail = "lost", f"{loss}\n{detail}"
    finally:
        os.chdir(home)
        if keep:
            print(f"its folder is {box}")
        else:
            shutil.rmtree(box, ignore_errors=True)
    words = f"sfjax {' '.join(map(repr, case.run))}" if isinstance(case.run, list) else repr(case.run)
    return Outcome(seed, case.kind, outcome, words[:1000], detail)


def run(case: mutated.Case) -> tuple[str, str]:
    """Run a case; return its outcome and the line or traceback that it ended with."""
    from sfjax.__main__ import main
    from sfjax.errors import UserError
    from sfjax.metrics import Unscorable

    with streams(case.stdin) as output, limits(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            if not isinstance(case.run, list):
                case.run()
                return "result", ""
            code = main(case.run)
        except (UserError, Unscorable) as error:
            return ("refused", str(error)) if not isinstance(case.run, list) else ("traceback", traceback.format_exc())
        except Hang:
            return "hang", traceback.format_exc()
        except SystemExit as error:
            code = error.code
        except BaseException:
            return "traceback", traceback.format_exc()
    written = output.getvalue().decode("utf-8", "replace")
    if "Traceback (most recent call last)" in written or code not in (0, 2):
        return "traceback", f"exit code {code}\n{written}"
    complaints = [line for line in written.splitlines() if line.startswith("sfjax: ")]
    if code == 2 and not complaints:
        return "traceback", f"exit code 2 without a line of error\n{written}"
    return ("refused", complaints[-1]) if code else ("result", "")


@contextlib.contextmanager
def streams(stdin: bytes) -> Iterator[io.BytesIO]:
    """Replace the standard streams; yield what is written to standard error."""
    before, error = (sys.stdin, sys.stdout, sys.stderr), io.BytesIO()
    sys.stdin = io.TextIOWrapper(io.BytesIO(stdin), encoding="utf-8")
    sys.stdout = io.TextIOWrapper(io.BytesIO(), encoding="utf-8", errors="backslashreplace")
    sys.stderr = io.TextIOWrapper(error, encoding="utf-8", errors="backslashreplace", write_through=True)
    ours = sys.stdin, sys.stdout, sys.stderr  # kept until the end: a stream that is dropped closes its bytes
    try:
        yield error
    finally:
        sys.stdin, sys.stdout, sys.stderr = before
        ours[2].detach()


@contextlib.contextmanager
def limits() -> Iterator[None]:
    """Raise `Hang` in the block when it takes too long."""

    def expire(number, frame):
        raise Hang

    timers = {signal.SIGPROF: (signal.ITIMER_PROF, PROCESSOR_SECONDS), signal.SIGALRM: (signal.ITIMER_REAL, SECONDS)}
    handlers = {number: signal.signal(number, expire) for number in timers}
    try:
        for timer, seconds in timers.values():
            signal.setitimer(timer, seconds)
        yield
    finally:
        for timer, _ in timers.values():
            signal.setitimer(timer, 0)
        for number, handler in handlers.items():
            signal.signal(number, handler)


def digests(box: Path) -> dict[str, str]:
    """Return the digest of every file below a folder; of a link, its target."""
    paths = [path for path in sorted(box.rglob("*")) if path.is_symlink() or path.is_file()]
    return {
        str(path.relative_to(box)): os.readlink(path)
        if path.is_symlink()
        else hashlib.sha1(path.read_bytes()).hexdigest()
        for path in paths
    }


def losses(box: Path, before: dict[str, str], case: mutated.Case, outcome: str) -> str:
    """Return which files an input changed, removed or left unfinished; empty if none."""
    after = digests(box)
    changed = [f"{name!r} is gone" for name in before if name not in after]
    changed += [f"{name!r} has changed" for name in before if name in after and after[name] != before[name]]
    for name in after.keys() - before.keys():
        if re.search(r"\.part$|\.old$|orbax-checkpoint-tmp", name):
            changed.append(f"{name!r} was left behind")
        elif outcome == "refused" and name in case.outputs:
            changed.append(f"{name!r} was written by a refused command")
        elif reason := unfinished(box / name):
            changed.append(f"{name!r} is not whole ({reason})")
    return ", ".join(changed)


def unfinished(path: Path) -> str:
    """Return why a new file cannot be read to its end, or an empty string."""
    import pyarrow.parquet as pq

    from sfjax import audio, audio_io

    try:
        if path.suffix == ".parquet":
            pq.read_table(path)
        elif path.suffix == ".json":
            json.loads(path.read_text(encoding="utf-8"))
        elif path.suffix in audio_io.CONTAINERS and path.parent.name != "in":
            sum(map(len, audio.blocks(path, rate=16_000, seconds=10.0)))
        return ""
    except Exception as error:
        return str(error)


# Run all inputs


def serve(pipe: Any, stock: Path, kinds: tuple[str, ...], quick: bool) -> None:
    """Run inputs in this process: answer each seed from the pipe with its outcome, until the pipe is closed."""
    prepare_process()
    with open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), 1)  # libraries in C write there
        os.dup2(nowhere.fileno(), 2)
    with contextlib.suppress(EOFError, KeyboardInterrupt):
        while True:
            seed = pipe.recv()
            try:
                pipe.send(attempt(seed, stock, kinds=kinds, quick=quick))
            except Exception:  # of this script
                pipe.send(traceback.format_exc())


def prepare_process() -> None:
    """Make programs compile fast, keep them, and limit the memory of the process, so that the machine stays alive."""
    import resource

    import jax

    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))

    jax.config.update("jax_disable_most_optimizations", True)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)


def outcomes(seeds: range, stock: Path, kinds: tuple[str, ...], quick: bool) -> Iterator[Outcome]:
    """Run inputs in a worker process, which starts again when it crashes or no longer answers."""
    context, worker, pipe = multiprocessing.get_context("spawn"), None, None
    for seed in seeds:
        if worker is None or pipe is None:
            pipe, child = context.Pipe()
            worker = context.Process(target=serve, args=(child, stock, kinds, quick))
            worker.start()
            child.close()
        try:
            pipe.send(seed)
            if pipe.poll(3 * SECONDS):
                outcome = pipe.recv()
                if isinstance(outcome, str):
                    sys.exit(f"seed {seed}: {outcome}")
                yield outcome
                continue
            outcome = "hang"
        except (EOFError, OSError):
            outcome = "crash"
            worker.join(10)
        worker.kill()
        worker.join()
        yield Outcome(seed, "?", outcome, "", f"exit code {worker.exitcode}")
        worker = None
    if worker is not None and pipe is not None:
        pipe.close()
        worker.join(10)
        worker.kill()


def table(counts: dict[str, collections.Counter]) -> str:
    """Return the numbers of inputs by kind and outcome as lines."""
    rows = [["", *OUTCOMES], *([kind, *(str(counts[kind][name]) for name in OUTCOMES)] for kind in sorted(counts))]
    total = sum(counts.values(), collections.Counter())
    rows.append(["all", *(str(total[name]) for name in OUTCOMES)])
    return "\n".join("".join(cell.rjust(11) for cell in row) for row in rows)


def main(argv: list[str] | None = None) -> None:
    """Run the inputs, print and write their outcomes; exit code 1 if one of them is bad."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=2000, help="number of inputs; default: %(default)s")
    parser.add_argument("--seed", type=int, default=0, help="seed of all inputs; default: %(default)s")
    parser.add_argument(
        "--only", type=int, nargs="+", metavar="SEED", help="repeat inputs in this process, and keep their folders"
    )
    parser.add_argument("--kinds", nargs="+", choices=mutated.KINDS, default=list(mutated.KINDS), help="default: all")
    parser.add_argument("--quick", action="store_true", help="only inputs that compile no program")
    parser.add_argument("--here", action="store_true", help="run the inputs in this process")
    parser.add_argument("-o", "--output", type=Path, metavar="FILE.json")
    arguments = parser.parse_args(argv)
    facts, kinds = report.machine(), tuple(arguments.kinds)
    with tempfile.TemporaryDirectory(prefix="stock-") as folder:
        stock = Path(folder)
        mutated.stock_up(stock)
        if arguments.only is not None:
            prepare_process()
            bad = 0
            for seed in arguments.only:
                outcome = attempt(seed, stock, kinds=kinds, quick=arguments.quick, keep=True)
                print(f"{outcome.words}\n{seed}: {outcome.kind}, {outcome.outcome}\n{outcome.detail}\n", flush=True)
                bad += outcome.outcome in BAD
            sys.exit(1 if bad else 0)
        seeds = range(arguments.seed * APART, arguments.seed * APART + arguments.count)
        results = []
        if arguments.here:
            iterator = (attempt(seed, stock, kinds=kinds, quick=arguments.quick) for seed in seeds)
        else:
            iterator = outcomes(seeds, stock, kinds, arguments.quick)
        for outcome in iterator:
            results.append(outcome)
            if len(results) % 100 == 0:
                print(f"{len(results)} of {len(seeds)}", flush=True)
            if outcome.outcome in BAD:
                last = outcome.detail.strip().splitlines()[-1:] or [""]
                print(f"--only {outcome.seed}: {outcome.outcome}, {outcome.kind}: {last[0][:200]}", flush=True)
    counts: dict[str, collections.Counter] = collections.defaultdict(collections.Counter)
    for outcome in results:
        counts[outcome.kind][outcome.outcome] += 1
    print(report.heading(facts), table(counts), sep="\n")
    failures = [dataclasses.asdict(outcome) for outcome in results if outcome.outcome in BAD]
    report.write(arguments.output, {"machine": facts, "seed": arguments.seed, "counts": counts, "failures": failures})
    sys.exit(1 if failures else 0)


if __name__ == "__main__":
    main()
