"""Latency, speed and quality of a causal model: how far a stream is behind, whether a core keeps up, what it scores.

    python tests/benchmarks/enhance_valid.py --data DIR -o pairs
    taskset -c 0 python tests/benchmarks/live.py MODEL --against sfjax://enhance --pairs pairs -o live.json

MODEL is a run or an exported folder. The first table has the time of each block on one core: wall time, which counts
for live sound, and CPU time, which other work on the machine does not change so much. The second one has the scores of
recordings of pairs/valid.parquet: noisy, by MODEL, and by models that see the whole recording. A stream gives what
MODEL gives for the whole recording, if it fits into one chunk; `difference` is the largest one of all samples.
"""

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import enhance_valid
import numpy as np
import report

from sfjax import audio, evaluation, inference
from sfjax.data import manifest
from sfjax.evaluation import compare_runs
from sfjax.inference.stream import Stream

SCORES = ("pesq_wb", "estoi", "si_sdr")
WARM = 10  # blocks before the times count


def times(stream: Stream, seconds: float) -> list[dict[str, Any]]:
    """The time of the blocks of a stream of noise, in milliseconds, and the time of all over their length."""
    count = round(seconds * stream.rate / stream.samples) + WARM
    noise = (0.1 * np.random.default_rng(0).standard_normal((count, stream.samples))).astype(np.float32)
    wall, processor = [], []
    for block in noise:
        began = time.perf_counter(), time.process_time()
        stream.push(block)
        wall.append(time.perf_counter() - began[0])
        processor.append(time.process_time() - began[1])
    block_ms = 1000 * stream.samples / stream.rate
    rows = []
    for name, spent in (("wall", wall), ("CPU", processor)):
        ms = 1000 * np.array(spent[WARM:])
        middle, most, worst = np.quantile(ms, (0.5, 0.95, 1.0)).tolist()
        factor = float(ms.mean() / block_ms)
        rows.append({"time": name, "median ms": middle, "95 % ms": most, "worst ms": worst, "real_time_factor": factor})
    return rows


def streamed(stream: Stream, wave: np.ndarray) -> np.ndarray:
    """A whole recording, block by block."""
    pieces = [stream.push(wave[first : first + stream.samples]) for first in range(0, len(wave), stream.samples)]
    return np.concatenate([*pieces, stream.flush()])


def scores(path: Path, name: str, model: inference.Model, system: str, workers: int) -> dict[str, Any]:
    """A line of the second table."""
    found = evaluation.evaluate(path, model, system=system, split=None, seed=0, workers=workers, progress=False)
    if not found.rows:
        sys.exit(f"nothing was scored: {found.failed}")
    return {"system": name, **{score: found.mean[score] for score in SCORES}, "scored": len(found.rows)}


def main(argv: list[str] | None = None) -> None:
    """Measures, scores, prints and writes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="causal model")
    parser.add_argument("--against", nargs="*", default=[], metavar="MODEL", help="models to compare the scores with")
    parser.add_argument("--seconds", type=float, default=20.0, help="length of the noise for the times")
    parser.add_argument("--rate", type=int, help="sample rate for the times")
    report.pairs_flags(parser)
    parser.add_argument("-o", "--output", type=Path, metavar="FILE.json")
    given = parser.parse_args(argv)
    facts, model = report.machine(), inference.load(given.model)
    print(report.heading(facts))
    if report.cores() > 1 and hasattr(os, "sched_setaffinity"):
        print("more than one core: start it with taskset -c 0 for figures of one core")
    stream = model.stream(given.rate)
    latency = {name: 1000 * samples / stream.rate for name, samples in stream.latency._asdict().items()}
    print(f"{stream}; {latency} ms; blocks of {1000 * stream.samples / stream.rate:g} ms")
    blocks = times(stream, given.seconds)
    print(compare_runs.table(blocks), flush=True)
    chosen = enhance_valid.chosen(given.pairs / "valid.parquet", given.items)
    difference = 0.0
    for row in chosen[:3]:
        noisy = audio.read(row["noisy"], rate=model.spec.sample_rate)[0]
        noisy = noisy[: int(model.chunk_seconds(model.enhancing()) * model.spec.sample_rate)]
        whole = model.enhance(noisy, model.spec.sample_rate)
        difference = max(difference, float(np.abs(streamed(model.stream(), noisy) - whole).max()))
    with tempfile.TemporaryDirectory() as folder:
        few = Path(folder, "few.parquet")
        manifest.write(few, chosen)
        rows = [scores(few, "noisy", model, "noisy", given.workers)]
        for name in (given.model, *given.against):
            rows.append(scores(few, name, inference.load(name), "model", given.workers))
    print(f"difference of a stream from the whole recording: {difference:.1e}")
    print(compare_runs.table(rows))
    found = {"machine": facts, "latency_ms": latency, "blocks": blocks, "difference": difference, "rows": rows}
    report.write(given.output, found)


if __name__ == "__main__":
    main()
