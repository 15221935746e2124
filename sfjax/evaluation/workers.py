"""A pool of scoring processes that survives the crash of any of them.

The C code of PESQ can end the process it runs in, and it holds the interpreter's lock while it runs. So each worker
process has one item at a time: if it crashes, only that item fails. Workers are spawned, because a process with JAX's
threads must not fork. They import this module, so it does not import JAX.
"""

import contextlib
import math
import multiprocessing
import multiprocessing.connection
import signal
from collections.abc import Callable, Generator, Iterable
from typing import Any

from sfjax import worker_process
from sfjax.errors import UserError
from sfjax.metrics import Unscorable


def outcomes(
    jobs: Iterable[tuple], work: Callable[..., dict[str, Any]], workers: int
) -> Generator[tuple[int, dict[str, Any] | str], None, None]:
    """Yield the number of each job with its scores, or with the reason of its failure, in the order of arrival."""
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
                    yield worker.number, _crash_reason(worker)
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
    """A process with at most one job, so that its crash costs that job only."""

    def __init__(self, work: Callable[..., dict[str, Any]], number: int, job: tuple):
        context = multiprocessing.get_context("spawn")
        self.pipe, child_pipe = context.Pipe()
        self.process = context.Process(target=_serve, args=(child_pipe, work), daemon=True)
        self.process.start()
        child_pipe.close()  # otherwise the pipe would stay open after the process ends
        self.number, self.job, self.started = number, job, False

    def send(self) -> None:
        with contextlib.suppress(OSError):  # a crash is noticed when the answer is read
            self.pipe.send(self.job)

    def stop(self) -> None:
        self.pipe.close()
        self.process.terminate()
        self.process.join()


def _crash_reason(worker: _Worker) -> str:
    worker.process.join()
    code = worker.process.exitcode or 0
    if not worker.started:
        raise UserError(
            f"the scoring processes cannot start (exit code {code}); a script must call this under "
            'if __name__ == "__main__"'
        )
    return f"the scorer crashed ({signal.Signals(-code).name if code < 0 else f'exit code {code}'})"


def _serve(pipe: multiprocessing.connection.Connection, work: Callable[..., dict[str, Any]]) -> None:
    """Run a worker: report that it has started, then answer each job until the pipe is closed."""
    worker_process.initialize()
    with contextlib.suppress(EOFError, OSError):
        pipe.send(None)
        while True:
            pipe.send(_attempt(work, pipe.recv()))


def _attempt(work: Callable[..., dict[str, Any]], job: tuple) -> dict[str, Any] | str:
    try:
        scores = work(*job)
    except (Unscorable, UserError) as error:
        return " ".join(str(error).split())
    except Exception as error:  # an error in one recording must not cost the scores of the others
        return " ".join(f"{type(error).__name__}: {error}".split())
    texts = {name: value for name, value in scores.items() if isinstance(value, str)}
    numbers = {name: float(value) for name, value in scores.items() if name not in texts}
    not_finite = [f"{name} is {value}" for name, value in numbers.items() if not math.isfinite(value)]
    return ", ".join(not_finite) or numbers | texts
