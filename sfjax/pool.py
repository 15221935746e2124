"""A pool of scoring processes that outlives any of them.

The C code of PESQ can end the process it runs in, and holds the interpreter's lock while it runs. So each item is
scored in a worker process that holds nothing else: if it dies, that item is reported and the others go on. Workers are
spawned, because a process with JAX's threads must not fork. They import this module, so it does not import JAX.
"""

import contextlib
import math
import multiprocessing
import multiprocessing.connection
import signal
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from sfjax.errors import UserError
from sfjax.metrics import Unscorable


def outcomes(
    jobs: Iterable[tuple], work: Callable[..., dict[str, float]], workers: int
) -> Iterator[tuple[int, dict[str, float] | str]]:
    """The number of each job with its scores, or with the reason why it has none, as they arrive."""
    waiting = enumerate(jobs)
    busy: dict[Any, _Worker] = {}  # by pipe
    try:
        while True:
            while len(busy) < workers and (following := next(waiting, None)):
                worker = _Worker(work, *following)
                busy[worker.pipe] = worker
            if not busy:
                return
            for pipe in multiprocessing.connection.wait(list(busy)):
                worker = busy[pipe]
                try:
                    outcome = worker.pipe.recv()
                except (EOFError, OSError):
                    yield worker.number, _epitaph(worker)
                    busy.pop(pipe).stop()
                    continue
                if worker.started:
                    yield worker.number, outcome
                    if (following := next(waiting, None)) is None:
                        busy.pop(pipe).stop()
                        continue
                    worker.number, worker.job = following
                worker.started = True
                worker.send()
    finally:
        for worker in busy.values():
            worker.stop()


class _Worker:
    """A process with at most one job, so that its death is the death of that job and of no other."""

    def __init__(self, work: Callable[..., dict[str, float]], number: int, job: tuple):
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=_serve, args=(theirs, work), daemon=True)
        self.process.start()
        theirs.close()  # else the end of the process would not end the pipe
        self.number, self.job, self.started = number, job, False

    def send(self) -> None:
        with contextlib.suppress(OSError):  # a process that died is noticed when its answer is read
            self.pipe.send(self.job)

    def stop(self) -> None:
        self.pipe.close()
        self.process.terminate()
        self.process.join()


def _epitaph(worker: _Worker) -> str:
    worker.process.join()
    code = worker.process.exitcode or 0
    if not worker.started:
        raise UserError(
            f"the scoring processes cannot start (exit code {code}); a script must call this under "
            'if __name__ == "__main__"'
        )
    return f"the scorer crashed ({signal.Signals(-code).name if code < 0 else f'exit code {code}'})"


def _serve(pipe: multiprocessing.connection.Connection, work: Callable[..., dict[str, float]]) -> None:
    """The life of a worker: says that it has started, then answers each job, until the pipe is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent hears Ctrl-C and ends the workers
    with contextlib.suppress(EOFError, OSError):
        pipe.send(None)
        while True:
            pipe.send(_attempt(work, pipe.recv()))


def _attempt(work: Callable[..., dict[str, float]], job: tuple) -> dict[str, float] | str:
    try:
        scores = work(*job)
    except (Unscorable, UserError) as error:
        return " ".join(str(error).split())
    except Exception as error:  # one odd recording must not cost the scores of all the others
        return " ".join(f"{type(error).__name__}: {error}".split())
    odd = [f"{name} is {value}" for name, value in scores.items() if not math.isfinite(value)]
    return ", ".join(odd) or {name: float(value) for name, value in scores.items()}
