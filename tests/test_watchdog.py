"""A process whose step hangs ends with the code of a preempted run; long pauses and long steps do not end it."""

import os
import signal
import subprocess
import sys
import textwrap

import pytest

from sfjax.errors import PREEMPTED


def run(body: str) -> subprocess.CompletedProcess:
    """Run steps under a watchdog of half a second in a process of its own."""
    program = f"""
import time
from sfjax.watchdog import Watchdog
with Watchdog(0.5) as watchdog:
    for _ in range(3):
        watchdog.step()
{textwrap.indent(textwrap.dedent(body), "    ")}
print("finished")
"""
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)


def test_a_hanging_step_ends_the_process_and_shows_where_it_waits():
    result = run("def wait_for_a_peer():\n    time.sleep(30)\nwait_for_a_peer()")
    assert result.returncode == PREEMPTED and "finished" not in result.stdout
    assert "hangs" in result.stderr and "wait_for_a_peer" in result.stderr


@pytest.mark.parametrize(
    "body",
    [
        "with watchdog.pause():\n    time.sleep(1.5)",
        "watchdog.seconds.extend([0.1] * 50)\ntime.sleep(1.2)",  # below 20 times the median
    ],
)
def test_pauses_and_steps_that_are_long_by_nature_do_not_end_it(body):
    assert run(body).stdout == "finished\n"


def test_zero_watches_nothing_and_a_finished_run_is_not_watched():
    program = "import time; from sfjax.watchdog import Watchdog\n"
    program += "with Watchdog(0.0) as watchdog: watchdog.step(); time.sleep(1)\n"
    program += "with Watchdog(0.3) as watchdog: watchdog.step()\ntime.sleep(1)\nprint('finished')"
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, text=True).stdout == "finished\n"


@pytest.mark.slow
def test_a_run_whose_data_worker_hangs_ends_and_resumes(toy_config, flags, shell, tmp_path):
    config = toy_config("pretrain", **{"run.workers": 1, "run.valid_batches": 0, "run.hang": 5.0, "run.save": 5})
    config.optim.updates = 100_000
    process = shell("train", *flags(config, "pretrain"), f"--workdir={tmp_path}")
    try:
        for line in process.stderr:
            if line.startswith("step 20/"):
                break
        children = subprocess.run(["pgrep", "-P", str(process.pid)], capture_output=True, text=True).stdout.split()
        for child in children:
            os.kill(int(child), signal.SIGSTOP)
        process.wait(timeout=120)
    finally:
        process.kill()
    for child in children:  # they hold its standard error open
        os.kill(int(child), signal.SIGKILL)
    said = process.stderr.read()
    assert process.returncode == PREEMPTED and "hangs" in said
    again = shell("train", *flags(config, "pretrain"), f"--workdir={tmp_path}", "--config.run.stop=30")
    assert "resumed at step" in again.communicate(timeout=300)[1]
