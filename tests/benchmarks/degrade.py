"""How fast a loader process degrades speech, and what each degradation and codec costs.

    python tests/benchmarks/degrade.py --seconds 16 -o degrade.json

The first table shows seconds of audio per CPU second for reading, cropping and degrading an example in one process:
reading alone, with noise, and with the chain of configs/restore.py with and without its codecs. The second table shows
each degradation alone, in CPU milliseconds per second of audio, and its cost at its probability. All times are medians
over interleaved rounds. Without the manifests `--speech`, `--noise` and `--rooms` the script generates its sound.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import material
import numpy as np
import report
import soundfile

from sfjax.configs import default, restore
from sfjax.data import degrade, examples, manifest
from sfjax.evaluation import compare_runs

AIM = 1000  # seconds of audio per second that one process should load


def responses(folder: Path, count: int) -> Path:
    """A manifest of `count` decaying noises of 0.3 to 1 s."""
    rows, rng = [], np.random.default_rng(0)
    for number, rt60 in enumerate(np.linspace(0.3, 1.0, count)):
        time_ = np.arange(round(rt60 * material.RATE)) / material.RATE
        wav = 0.05 * rng.standard_normal(len(time_)) * 10 ** (-3 * time_ / rt60)
        wav[0] = 0.9
        soundfile.write(folder / f"room_{number}.flac", wav, material.RATE)
        rows.append({"path": f"room_{number}.flac", "start": 0, "frames": len(wav), "rate": material.RATE})
    manifest.write(folder / "rooms.parquet", rows)
    return folder / "rooms.parquet"


def makers(given: argparse.Namespace) -> dict[str, examples.Maker]:
    """What is timed from file to example, by name."""
    off, chain = default.get_config("tiny"), restore.get_config("tiny")
    for config in (off, chain):
        config.mix.noise, config.mix.babble = str(given.noise), 0.0
    chain.degrade.rooms = str(given.rooms)
    make = lambda config, **changes: examples.degraded(
        split=None, mix=config.mix, degrade=dict(config.degrade) | changes, rate=material.RATE
    )
    return {
        "read": examples.Recorded(False),
        "read, noise": make(off),
        "read, chain of restore.py without codecs": make(chain, codec=0.0),
        "read, chain of restore.py": make(chain),
    }


def stages(given: argparse.Namespace) -> dict[str, tuple[float, Callable[[np.ndarray, np.random.Generator], Any]]]:
    """Each degradation by itself, at its strength in configs/restore.py, with its probability there."""
    section = dict(restore.get_config("tiny").degrade)
    off = section | dict.fromkeys(degrade.PROBABILITIES, 0.0)
    off["rooms"] = manifest.read(given.rooms, split=None)
    found = {}
    for name in degrade.PROBABILITIES:
        chain = degrade.Chain(None, material.RATE, **off | {name: 1.0})
        found[name] = (section[name], lambda wav, rng, chain=chain: chain(wav, None, None, rng))
    for name, share in degrade.weights(section["codecs"]):
        code = lambda wav, rng, name=name: degrade.coded(wav, material.RATE, name, compression=rng.random())
        found[f"codec {name}"] = (section["codec"] * share, code)
    return found


def clocked(run: Callable[[], Any]) -> float:
    """The processor's seconds of a call."""
    began = time.process_time()
    run()
    return time.process_time() - began


def main(argv: list[str] | None = None) -> None:
    """Measures, prints and writes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=16.0, help="of an example")
    parser.add_argument("--examples", type=int, default=100, help="of each way in each round")
    parser.add_argument("--rounds", type=int, default=3)
    for name in ("speech", "noise", "rooms"):
        parser.add_argument(f"--{name}", type=Path, metavar="FILE.parquet")
    parser.add_argument("-o", "--output", type=Path, metavar="FILE.json")
    given, facts = parser.parse_args(argv), report.machine()
    with tempfile.TemporaryDirectory() as folder:
        if not (given.speech and given.noise and given.rooms):
            length = given.seconds
            given.speech, given.noise = material.corpus(Path(folder), count=8, seconds=(length, 1.5 * length))
            given.rooms = responses(Path(folder), 20)
        whole, single = measured(given)
    print(report.heading(facts))
    print(compare_runs.table(whole))
    print(compare_runs.table(single))
    speed = whole[-1]["audio_seconds_per_second"]
    print(f"the chain of restore.py: {speed:.0f} x real time, the aim is {AIM}")
    report.write(given.output, {"machine": facts, "seconds": given.seconds, "whole": whole, "stages": single})


def measured(given: argparse.Namespace) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The rows of both tables."""
    rows, samples = manifest.read(given.speech, split=None), round(given.seconds * material.RATE)
    picked = [rows.row(i % len(rows)) for i in range(given.examples)]
    ways, alone = makers(given), stages(given)
    rng = lambda number: np.random.default_rng([1, number])
    wavs = [examples.Recorded(False)(rows, row, samples, material.RATE, rng(0))["speech"] for row in picked[:20]]
    audio, part = 0.0, sum(map(len, wavs)) / material.RATE
    spent: dict[str, list[float]] = {name: [] for name in (*ways, *alone)}
    for _ in range(given.rounds + 1):  # the first one warms up
        for name, make in ways.items():
            run = lambda make=make: [
                len(make(rows, row, samples, material.RATE, rng(number))["speech"]) for number, row in enumerate(picked)
            ]
            spent[name].append(clocked(run))
        audio = sum(run()) / material.RATE
        for name, (_, stage) in alone.items():
            run = lambda stage=stage: [stage(wav, rng(number)) for number, wav in enumerate(wavs)]
            spent[name].append(clocked(run))
    median = {name: statistics.median(values[1:]) for name, values in spent.items()}
    whole = [{"way": name, "audio_seconds_per_second": audio / median[name]} for name in ways]
    single = []
    for name, (probability, _) in alone.items():
        cost = 1000 * median[name] / part
        single.append({"stage": name, "ms": cost, "probability": probability, "ms_at_probability": cost * probability})
    return whole, single


if __name__ == "__main__":
    main()
