"""How much memory an hour-long recording takes, how long that lasts, and whether its chunks are what they are alone.

    python tests/benchmarks/memory.py --size small -o memory.json
    python tests/benchmarks/memory.py --model runs/enhance --solver midpoint --steps 4 -o memory.json

A generated 60-minute FLAC file is enhanced by `sfjax enhance` in a process of its own, whose peak resident memory is
measured (aim: below 2 GB); then its first 30 s as a file of their own, which should give the same samples (aim: an
SI-SDR of 40 dB). One Euler step is taken by default: evaluations follow one another in the same memory, so their
number changes the time (a loop of several steps holds some 0.1 GiB more than one step, however many they are).
Guidance doubles the batch of the network and does change the memory. Without `--model` the network is one after a
single update; memory and time do not ask what it learnt. Peaks of the same run differ by some 0.1 GiB.

The peak is Linux's count for the process (VmHWM), asked every 50 ms. What `getrusage` says of a child will not do: it
begins with the peak of the process that started it.
"""

import argparse
import shlex
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import material
import numpy as np
import report
import soundfile

from sfjax.evaluation import compare_runs
from sfjax.metrics import si_sdr

AIM_BYTES, AIM_DECIBELS = 2e9, 40.0
PIECE = 20.0  # seconds that are generated and then repeated


def long_recording(path: Path, seconds: float) -> None:
    """Writes a FLAC file of one noisy piece over and over, each time at another gain, one piece in memory."""
    piece = material.voice(min(PIECE, seconds), 0) + material.noise(min(PIECE, seconds), 0)
    left, rng = round(seconds * material.RATE), np.random.default_rng(0)
    with soundfile.SoundFile(path, "w", material.RATE, channels=1, subtype="PCM_16") as file:
        while left > 0:
            file.write((piece[:left] * rng.uniform(0.2, 1.0)).astype(np.float32))
            left -= len(piece)


def beginning(source: Path, target: Path, seconds: float) -> None:
    """Writes the first `seconds` of a file as a file."""
    wav, rate = soundfile.read(source, frames=round(seconds * material.RATE), dtype="int16")
    soundfile.write(target, wav, rate)


def fresh_run(folder: Path, size: str, overrides: list[str]) -> Path:
    """A run folder with the parameters after one update on a little generated speech."""
    speech, noise = material.corpus(folder / "corpus", count=2, seconds=(1.0, 1.0))
    command = [
        "train",
        f"--config=configs/enhance.py:{size}",
        f"--workdir={folder / 'run'}",
        f"--config.data.train={speech}",
        f"--config.mix.noise={noise}",
        "--config.optim.updates=1",
        "--config.data.seconds=2",
        "--config.data.buckets=(1.0,)",
        "--config.run.workers=0",
        "--config.run.valid_batches=0",
        *overrides,
    ]
    sfjax(*command)
    return folder / "run"


def sfjax(*words: object) -> tuple[float, int]:
    """Runs a verb in a process of its own; its seconds and the bytes of its peak resident memory."""
    command = [sys.executable, "-m", "sfjax", *map(str, words)]
    print(f"$ sfjax {shlex.join(command[3:])}", flush=True)
    began, peak = time.perf_counter(), 0
    with subprocess.Popen(command) as process:
        while process.poll() is None:
            peak = max(peak, _high_water(process.pid))
            time.sleep(0.05)
    if process.returncode:
        sys.exit(f"sfjax {words[0]} ended with exit code {process.returncode}")
    return time.perf_counter() - began, peak


def _high_water(process: int) -> int:
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    found = [line.split()[1] for line in lines if line.startswith("VmHWM")]  # none when it has just ended
    return 1024 * int(found[0]) if found else 0


def agreement(long: Path, short: Path, seconds: float) -> float:
    """The SI-SDR in dB of the first `seconds` of one enhanced file against the same of another."""
    samples = round(seconds * material.RATE)
    one, other = (soundfile.read(path, frames=samples, dtype="float32")[0] for path in (long, short))
    return float(si_sdr(one, other))


def flags(argv: list[str] | None) -> argparse.Namespace:
    """The command line; `--quick` shrinks the recording and the network."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, help="workdir of a run; without it one of --size is made")
    parser.add_argument("--size", default="small")
    parser.add_argument("--minutes", type=float, default=60.0, help="of the long recording")
    parser.add_argument("--first", type=float, default=30.0, help="seconds that are enhanced alone as well")
    parser.add_argument("--solver", default="euler")
    parser.add_argument("--steps", type=int, default=1)
    parser.add_argument("--guidance", type=float, default=0.5)
    parser.add_argument("--overlap", type=float, default=2.0, help="seconds by which the run's chunks overlap")
    parser.add_argument("--quick", action="store_true", help="12 s and a toy network; the figures mean little")
    parser.add_argument("-o", "--output", type=Path, metavar="FILE.json")
    found = parser.parse_args(argv)
    if found.quick:
        found.size, found.minutes, found.first, found.overlap = "tiny", 0.2, 7.0, 1.0
    return found


def measure(given: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Everything that is reported, but the machine."""
    toy = ["--config.model.width=32", "--config.model.layers=2", "--config.model.unroll=1"]
    toy += ["--config.infer.seconds=4.0", "--config.infer.overlap=1.0"]
    run = given.model or fresh_run(folder, given.size, toy if given.quick else [])
    long, short, out = folder / "long.flac", folder / "short.flac", folder / "enhanced"
    long_recording(long, 60 * given.minutes)
    beginning(long, short, given.first)
    found: dict[str, Any] = {"model": str(given.model or f"fresh {given.size}")}
    options = ("--solver", given.solver, "--steps", given.steps, "--guidance", given.guidance)
    for name, path in (("long", long), ("short", short)):
        spent, peak = sfjax("enhance", path, "-o", out, "--model", run, *options)
        seconds = soundfile.info(path).duration
        found[name] = {
            "audio_seconds": seconds,
            "seconds": spent,
            "real_time_factor": spent / seconds,
            "peak_gib": peak / 2**30,
        }
    compared = given.first - given.overlap
    found["compared_seconds"] = [0.0, compared]
    found["si_sdr_db"] = agreement(out / long.name, out / short.name, compared)
    found["met"] = {
        "memory": found["long"]["peak_gib"] * 2**30 < AIM_BYTES,
        "si_sdr": found["si_sdr_db"] >= AIM_DECIBELS,
    }
    return found


def main(argv: list[str] | None = None) -> None:
    """Measures, prints and writes."""
    given, facts = flags(argv), report.machine()
    with tempfile.TemporaryDirectory() as folder:
        found = measure(given, Path(folder))
    options = {name: getattr(given, name) for name in ("solver", "steps", "guidance", "quick")}
    print(report.heading(facts | options))
    print(compare_runs.table([{"recording": name, **found[name]} for name in ("long", "short")]))
    print(
        f"SI-SDR of the two over 0 to {found['compared_seconds'][1]:g} s: {found['si_sdr_db']:.1f} dB; behind that "
        "the long recording is faded into its next chunk"
    )
    for name, aim in (("memory", "below 2 GB"), ("si_sdr", "40 dB")):
        print(f"aim for {name}, {aim}: {'met' if found['met'][name] else 'missed'}")
    report.write(given.output, {"machine": facts, "options": options, **found})


if __name__ == "__main__":
    main()
