"""No worker process outlives its parent, however the parent ends."""

import os
import signal
import subprocess
import sys
import time

import pytest

POOL = """
from sfjax.data import decode
def work(item):
    import time
    time.sleep(300)
if __name__ == "__main__":
    with decode.mapping(2) as apply:
        list(apply(work, [1, 2]))
"""
LOADER = """
import time
from sfjax.data import loader
class Slow:
    def __call__(self, step):
        time.sleep(1000 if step > 1 else 0)
        return {"step": step}
if __name__ == "__main__":
    for batch in loader.batches(Slow(), first=0, last=100, workers=2):
        pass
"""


def children(process):
    """The processes that a process has started, with their own, by id and command line; zombies do not count."""
    running = {}
    for task in os.listdir(f"/proc/{process}/task"):
        with open(f"/proc/{process}/task/{task}/children") as file:
            for child in map(int, file.read().split()):
                running |= {child: command(child)} | children(child)
    return running


def command(process):
    try:
        with open(f"/proc/{process}/cmdline", "rb") as file:
            return file.read()
    except OSError:
        return b""


@pytest.mark.skipif(not os.path.isdir("/proc/self/task"), reason="reads the processes of Linux")
@pytest.mark.parametrize(
    "program", [pytest.param(POOL, id="pool", marks=pytest.mark.slow), pytest.param(LOADER, id="loader")]
)
def test_workers_end_after_a_parent_that_was_killed(tmp_path, program):
    script = tmp_path / "script.py"
    script.write_text(program)
    parent = subprocess.Popen([sys.executable, script], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        deadline, workers = time.monotonic() + 60, {}
        while len(workers) < 2:
            assert time.monotonic() < deadline and parent.poll() is None
            time.sleep(0.2)
            workers = {pid: line for pid, line in children(parent.pid).items() if b"spawn_main" in line}
        time.sleep(2)  # until they work
        workers = {pid: line for pid, line in children(parent.pid).items() if b"spawn_main" in line}
        assert len(workers) >= 2
    finally:
        parent.send_signal(signal.SIGKILL)
        parent.wait()
    deadline = time.monotonic() + 15
    while any(command(pid) == line for pid, line in workers.items()):
        assert time.monotonic() < deadline, "workers still run"
        time.sleep(0.2)
