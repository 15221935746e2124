"""End a process whose training hangs, so that its launcher starts it again from the last checkpoint."""

from __future__ import annotations

import collections
import contextlib
import faulthandler
import os
import statistics
import sys
import threading
import time
from collections.abc import Iterator

from sfjax.errors import PREEMPTED

RATIO = 20.0  # times the median duration of a step
STEPS = 50  # that the median is of


class Watchdog(contextlib.AbstractContextManager):
    """Watch the steps of a run, and end the process if one takes too long.

    That is more than `hang` seconds and more than `RATIO` times the median of the last steps; `hang` 0 means never. A
    process that waits for a dead device or for a process that hangs cannot end alone, and its heartbeat continues.
    The exit code is the one of a preempted run, and the stacks of all threads are printed.
    """

    def __init__(self, hang: float):
        self.hang, self.seconds = hang, collections.deque[float](maxlen=STEPS)
        self._began: float | None = None  # when the present step began; None: nothing is watched
        self._left = threading.Event()

    def __enter__(self) -> Watchdog:
        if self.hang > 0:
            threading.Thread(target=self._watch, name="watchdog", daemon=True).start()
        return self

    def __exit__(self, *_) -> None:
        self._left.set()

    def step(self) -> None:
        """Note that a step has ended, and that the next one begins."""
        now = time.monotonic()
        if self._began is not None:
            self.seconds.append(now - self._began)
        self._began = now

    @contextlib.contextmanager
    def pause(self, when: bool = True) -> Iterator[None]:
        """Do not watch this block, which may take any time, such as compiling or validation; `when` it is true."""
        if when:
            self._began = None
        yield
        if when:
            self._began = time.monotonic()

    def _limit(self) -> float:
        return max(self.hang, RATIO * statistics.median(self.seconds)) if self.seconds else self.hang

    def _watch(self) -> None:
        while not self._left.wait(min(5.0, self.hang / 4)):
            began = self._began
            if began is not None and (seconds := time.monotonic() - began) > self._limit():
                print(
                    f"sfjax: the step has taken {seconds:.0f} s, the limit is {self._limit():.0f} s; a device, another "
                    "process or a data worker hangs. This process ends; start the run again to resume",
                    file=sys.stderr,
                    flush=True,
                )
                faulthandler.dump_traceback(2)  # file descriptor of standard error
                os._exit(PREEMPTED)
