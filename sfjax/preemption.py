"""On SIGINT or SIGTERM, finish the step, save, and exit."""

from __future__ import annotations

import contextlib
import os
import signal

import jax
from jax.experimental import multihost_utils

from sfjax.errors import Preempted

MESSAGE = b"\nfinishing this step and saving; press Ctrl-C again to stop now\n"


class Interrupt(contextlib.AbstractContextManager):
    """Turn the first SIGINT or SIGTERM into a request to exit after the step; a second one ends immediately.

    Several processes all exit after the same step: JAX itself watches for SIGTERM and agrees on the step.
    """

    def __enter__(self):
        self.received, self.several = None, jax.process_count() > 1
        try:
            watched = (signal.SIGINT,) if self.several else (signal.SIGINT, signal.SIGTERM)
            self.before = {number: signal.signal(number, self._request) for number in watched}
        except ValueError:  # not the main thread: a notebook or a test handles signals itself
            self.before = {}
        return self

    def _request(self, number, _):
        self.received = number
        os.write(2, MESSAGE)  # safe in a signal handler, unlike print
        signal.signal(number, self.before[number])

    def asked(self, done: int) -> bool:
        """Whether to exit after step `done`."""
        if self.several and multihost_utils.reached_preemption_sync_point(done):
            self.received = signal.SIGTERM
        return self.received is not None

    def end(self) -> None:
        """Raise `Preempted` or `KeyboardInterrupt` if a signal came. Call it after saving."""
        if self.received == signal.SIGTERM:
            raise Preempted
        if self.received is not None:
            raise KeyboardInterrupt

    def __exit__(self, *_):
        for number, handler in self.before.items():
            signal.signal(number, handler)
