"""SIGINT and SIGTERM: a run is asked to leave, and leaves saved."""

from __future__ import annotations

import contextlib
import signal

import jax
from jax.experimental import multihost_utils

from sfjax.errors import Preempted


class Interrupt(contextlib.AbstractContextManager):
    """Turns the first SIGINT or SIGTERM into a request to leave after the step; a second one ends at once.

    Of several processes all leave after the same step: JAX watches for SIGTERM itself and agrees on one.
    """

    def __enter__(self):
        self.received, self.together = None, jax.process_count() > 1
        try:
            watched = (signal.SIGINT,) if self.together else (signal.SIGINT, signal.SIGTERM)
            self.before = {s: signal.signal(s, self._ask) for s in watched}
        except ValueError:  # not the main thread: a notebook's or a test's own business
            self.before = {}
        return self

    def _ask(self, number, _):
        self.received = number
        signal.signal(number, self.before[number])

    def asked(self, done: int) -> bool:
        """Whether to leave after step `done`."""
        if self.together and multihost_utils.reached_preemption_sync_point(done):
            self.received = signal.SIGTERM
        return self.received is not None

    def end(self) -> None:
        """Raises what the signal stands for, once all is saved."""
        if self.received == signal.SIGTERM:
            raise Preempted
        if self.received is not None:
            raise KeyboardInterrupt

    def __exit__(self, *_):
        for number, handler in self.before.items():
            signal.signal(number, handler)
