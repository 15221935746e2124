"""What manifests of millions of rows take: to prepare, to plan an epoch of, to start the loader on.

    python tests/benchmarks/scale.py --rows 250000 1000000 -o scale.json

Rows are utterances of `--seconds`, cut by offset and duration out of `--files` generated recordings of a minute: a
list of JSON lines names them, `sfjax prepare jsonl` decodes every one. Then, each in a process of its own: a manifest
is read and two epochs are planned; the loader starts, and batches are read by `--workers` processes. Memory is
Linux's peak (VmHWM) of the process, and that of the largest worker of the loader. 12 million rows, which is how many
pieces of at most 16 s the 60 thousand hours of Libri-Light make, are extrapolated through the two sizes on a straight
line. A row is a fifth of a second of a WAV here, so decoding is measured by itself too: seconds for an hour of FLAC.
"""

import argparse
import concurrent.futures
import json
import multiprocessing
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import material
import numpy as np
import report
import soundfile

from sfjax.evaluation import compare_runs

TARGET = 12_000_000  # rows
MINUTE = 60.0


def flags(argv: list[str] | None) -> argparse.Namespace:
    """The command line; `--quick` takes few rows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs=2, default=(250_000, 1_000_000), metavar=("FEW", "MANY"))
    parser.add_argument("--files", type=int, default=100, help="recordings that the rows are cut from")
    parser.add_argument("--seconds", type=float, default=0.2, help="of an utterance")
    parser.add_argument("--workers", type=int, default=report.cores(), help="processes that decode, and that load")
    parser.add_argument("--quick", action="store_true", help="200 and 400 rows; the figures mean little")
    parser.add_argument("-o", "--output", type=Path, metavar="FILE.json")
    found = parser.parse_args(argv)
    if found.quick:
        found.rows, found.files = (200, 400), 2
    return found


def recordings(folder: Path, count: int) -> None:
    """Writes minutes of generated speech."""
    wav = np.tile(material.voice(10.0, 0), 6)
    for number in range(count):
        soundfile.write(folder / f"{number}.wav", np.roll(wav, 1000 * number), material.RATE)
    soundfile.write(folder / "whole.flac", wav, material.RATE)


def listed(folder: Path, given: argparse.Namespace, rows: int) -> Path:
    """A list of so many utterances."""
    path = folder / f"{rows}.jsonl"
    with open(path, "w") as file:
        for number in range(rows):
            offset = round(number * 0.05 % (MINUTE - given.seconds), 3)
            row = {"audio_filepath": f"{number % given.files}.wav", "offset": offset, "duration": given.seconds}
            file.write(json.dumps(row | {"speaker": f"s{number % 7439}", "text": "what is said in it"}) + "\n")
    return path


def prepare(folder: Path, given: argparse.Namespace, rows: int) -> dict[str, float]:
    """The verb, whole."""
    from sfjax.__main__ import main as sfjax

    source = listed(folder, given, rows)
    began = time.perf_counter()
    words = ["prepare", "jsonl", source, source.with_suffix(".parquet"), "--min-seconds", "0.1"]
    if sfjax([str(word) for word in (*words, "--workers", given.workers)]):
        sys.exit("the preparation failed")
    size = source.with_suffix(".parquet").stat().st_size
    return {"prepare s": time.perf_counter() - began, "manifest MiB": size / 2**20}


def plan(folder: Path, given: argparse.Namespace, rows: int) -> dict[str, float]:
    """Reads a manifest and plans epochs of it."""
    from sfjax.data import loader, manifest

    began = time.perf_counter()
    found = manifest.read(folder / f"{rows}.parquet", split=None)
    read = time.perf_counter()
    order = loader.Plan((found.seconds,), (1.0,), buckets=(0.1, 1.0), seconds=20.0, multiple=1, seed=0)
    first = order[0]
    planned = time.perf_counter()
    again = order[sum(order.counts)]
    assert len(first[1]) == len(again[1])
    return {"read s": read - began, "plan s": planned - read, "epoch s": time.perf_counter() - planned}


def load(folder: Path, given: argparse.Namespace, rows: int) -> dict[str, float]:
    """Starts the loader and takes batches until each of its workers has given some."""
    from sfjax import audio, tasks
    from sfjax.configs import default
    from sfjax.data import loader
    from sfjax.data.examples import Simulation

    began = time.perf_counter()
    config = default.get_config("tiny")
    task, spec = tasks.make(**config.task), audio.MelSpec(**config.mel)
    simulation = Simulation(config.mix, config.degrade, config.mixture, config.enrolment)
    found = loader.sources(str(folder / f"{rows}.parquet"), task, spec=spec, simulation=simulation, split=None)
    order = loader.Plan((found[0].manifest.seconds,), (1.0,), (1.0,), 10.0, 1, 0)
    reader = loader.Reader(found, order, task, spec, (0, 1))
    batches = loader.batches(reader, first=0, last=1000, workers=given.workers)
    next(batches)
    started = time.perf_counter()
    for _ in range(20):
        next(batches)
    peaks = [_high_water(child.pid) for child in multiprocessing.active_children()]
    return {
        "first batch s": started - began,
        "batch ms": 50 * (time.perf_counter() - started),
        "worker GiB": max(peaks, default=0.0),
    }


def _high_water(process: int | str) -> float:
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith("VmHWM"))) / 2**20


def apart(work: Callable, *given: Any) -> dict[str, float]:
    """What `work` returns in a process of its own, and that process's peak memory."""
    with concurrent.futures.ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(_measured, work, *given).result()


def _measured(work, *given):
    found = work(*given)
    return found | {f"{work.__name__} GiB": _high_water("self")}


def extrapolated(few: dict[str, float], many: dict[str, float]) -> dict[str, float]:
    """Each figure at `TARGET` rows, on the straight line through two sizes."""
    step = (TARGET - many["rows"]) / (many["rows"] - few["rows"])
    return {name: many[name] + step * (many[name] - few[name]) for name in many}


def decoding(folder: Path, times: int = 20) -> float:
    """Seconds that one process takes for an hour of FLAC."""
    from sfjax import audio

    began = time.perf_counter()
    for _ in range(times):
        audio.read(folder / "whole.flac")
    return (time.perf_counter() - began) * 3600 / (MINUTE * times)


def main(argv: list[str] | None = None) -> None:
    """Measures, prints and writes."""
    given, facts = flags(argv), report.machine()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        recordings(folder, given.files)
        rows = []
        for count in given.rows:
            rows.append({"rows": count})
            for work in (prepare, plan, load):
                rows[-1] |= apart(work, folder, given, count)
        hour = decoding(folder)
    rows.append(extrapolated(*rows))
    print(report.heading(facts | {"workers": given.workers, "quick": given.quick}))
    print(compare_runs.table(rows))
    print(f"decoding: {hour:.1f} s of one process for an hour of FLAC")
    report.write(given.output, {"machine": facts, "rows": rows, "decoding_s_per_hour": hour})


if __name__ == "__main__":
    main()
