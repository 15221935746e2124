"""Kills a training run (−9) at random moments, starts it again each time, and compares its end with a run left alone.

    python tests/benchmarks/kills.py --kills 20 -o kills.json

A toy is trained on generated speech, saving every few steps. Of every three kills one falls while the program starts,
one while it trains and one inside a save, as soon as a half-written checkpoint is there. Every start must go on
without help, and the parameters, moments and averages at the end must be those of the run left alone bit for bit.
"""

import argparse
import collections
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import jax
import material
import numpy as np
import report

from sfjax import checkpoint

MOMENTS = ("starting", "training", "saving")
PATIENCE = 300  # seconds after which a run is said to hang


def command(corpus: Path, workdir: Path, updates: int) -> list[str]:
    """The training; small, but with workers, buckets, validation and checkpoints that overlap its steps."""
    return [
        sys.executable,
        "-m",
        "sfjax",
        "train",
        "--config=configs/pretrain.py:tiny",
        f"--workdir={workdir}",
        f"--config.data.train={corpus}",
        "--config.data.seconds=4",
        "--config.data.buckets=(0.5,1.0)",
        "--config.model.width=32",
        "--config.model.layers=2",
        "--config.model.ffn=64",
        "--config.model.unroll=1",
        "--config.model.attention_block=0",
        f"--config.optim.updates={updates}",
        "--config.optim.warmup=10",
        "--config.run.workers=1",
        "--config.run.save=20",
        "--config.run.log=10",
        "--config.run.validate=50",
        "--config.run.valid_batches=1",
        "--config.run.pictures=0",
        "--config.optim.peak=1e-3",
    ]


def start(words: list[str], cache: Path) -> subprocess.Popen:
    """The run as a group of processes of its own; programs are compiled once for all its starts."""
    environment = os.environ | {
        "JAX_COMPILATION_CACHE_DIR": str(cache),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    }
    return subprocess.Popen(words, env=environment, stderr=subprocess.PIPE, start_new_session=True, text=True)


def reached(workdir: Path, moment: str, running: subprocess.Popen, rng: random.Random) -> bool:
    """Waits for a moment of a run; False if it ended before."""
    steps = workdir / "metrics.jsonl"
    before = steps.read_bytes() if steps.exists() else b""
    began, least = time.time(), rng.uniform(0.0, 4.0)
    while running.poll() is None and time.time() - began < PATIENCE:
        if moment == "starting" and time.time() - began >= least:
            return True
        half = moment == "saving" and any((workdir / "checkpoints").glob("*orbax-checkpoint-tmp*"))
        if half and steps.exists() and len(steps.read_bytes()) != len(before):
            time.sleep(rng.uniform(0.0, 0.02))
            return True
        if moment == "training" and steps.exists() and len(steps.read_bytes()) > len(before):
            time.sleep(rng.uniform(0.0, 3.0))
            return True
        time.sleep(0.002)
    return False


def kill(running: subprocess.Popen) -> None:
    """Ends the run and its workers at once."""
    os.killpg(running.pid, signal.SIGKILL)
    running.communicate()


def finish(running: subprocess.Popen) -> None:
    """Waits for the end of a run, which must be a good one."""
    said = running.communicate(timeout=PATIENCE)[1]
    if running.returncode:
        sys.exit(f"a start ended with exit code {running.returncode}: {said[-2000:]}")


def state(workdir: Path, step: int) -> dict[str, Any]:
    """What a run saved at a step: its parameters and averages, and the digests of all else, by path."""
    digests = json.loads((workdir / "checkpoints" / str(step) / "digests" / "metadata").read_text())
    trees = {name: checkpoint.params(workdir, ema=name == "ema", step=step)[0] for name in ("params", "ema")}
    arrays = {jax.tree_util.keystr(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(trees)}
    return digests | arrays


def main(argv: list[str] | None = None) -> None:
    """Trains both, prints and writes; exit code 1 if their ends differ."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--updates", type=int, default=4000, help="steps of the run; it must outlive the kills")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("-o", "--output", type=Path, metavar="FILE.json")
    given = parser.parse_args(argv)
    facts, rng = report.machine(), random.Random(given.seed)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        corpus, _ = material.corpus(folder / "corpus", count=8, seconds=(0.5, 1.2))
        alone, killed, cache = folder / "alone", folder / "killed", folder / "cache"
        finish(start(command(corpus, alone, given.updates), cache))
        done, halves = collections.Counter(), 0
        while done.total() < given.kills:
            moment = MOMENTS[done.total() % len(MOMENTS)]
            running = start(command(corpus, killed, given.updates), cache)
            if not reached(killed, moment, running, rng):
                finish(running)  # says so if it failed
                sys.exit(f"the run ended after {done.total()} kills; give more --updates")
            kill(running)
            halves += any((killed / "checkpoints").glob("*orbax-checkpoint-tmp*"))
            done[moment] += 1
            saved = max((int(p.name) for p in (killed / "checkpoints").glob("*") if p.name.isdigit()), default=0)
            print(f"kill {done.total()}/{given.kills} while {moment}, step {saved} was saved", flush=True)
        finish(start(command(corpus, killed, given.updates), cache))
        one, two = (state(workdir, given.updates) for workdir in (alone, killed))
        different = [name for name in one if not np.array_equal(one[name], two[name])]
    equal = one.keys() == two.keys() and not different
    print(report.heading(facts))
    kinds = ", ".join(f"{count} while {moment}" for moment, count in done.items())
    end = "those of the run left alone, bit for bit" if equal else f"not the same: {', '.join(different[:5])}"
    print(
        f"{given.kills} kills ({kinds}; {halves} left half a checkpoint): the {len(one)} parts of step {given.updates}"
    )
    print(f"are {end}")
    found = {"kills": given.kills, "moments": dict(done), "half_written": halves, "parts": len(one), "equal": equal}
    report.write(given.output, {"machine": facts, "updates": given.updates} | found)
    sys.exit(0 if equal else 1)


if __name__ == "__main__":
    main()
