"""Start-up of worker processes: what every process that this package spawns does first."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from multiprocessing.process import BaseProcess

PERIOD = 1.0  # seconds between two comparisons of the parent's process id


def initialize(*_: object) -> None:
    """Ignore Ctrl-C, which the parent handles, and end this process when its parent ends, however it ends.

    A worker otherwise waits for work for ever after `kill -9` of its parent. A thread watches the parent: the death
    signal of Linux (PR_SET_PDEATHSIG) also comes when only the thread ends that started this process. The arguments,
    which some pools give their initializer, are ignored.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if (parent := multiprocessing.parent_process()) is not None:
        threading.Thread(target=_exit_after, args=(parent,), name="parent watch", daemon=True).start()


def _exit_after(parent: BaseProcess) -> None:
    parent_id = os.getppid()
    while parent.is_alive() and os.getppid() == parent_id:
        parent.join(PERIOD)
    os._exit(1)  # the main thread may be blocked in C code
