"""What is lost on the way from a recording to its Mel and back: vocoders side by side, and Griffin-Lim without weights.

    python tests/benchmarks/vocoders.py --manifest voices.parquet --split valid --vocoder RUN -o vocoders.json

Each recording's own log-Mel is made into a wave and held against the recording: wide-band PESQ, ESTOI and a distance
of spectra, means with half their 95 % intervals over recordings. The distance is that of Parallel WaveGAN (Yamamoto et
al., arXiv 1910.11480, equations 4 to 6), spectral convergence plus the mean absolute difference of logarithms,
averaged over three resolutions, here with Hann windows of 512, 1024 and 2048 samples that advance by a quarter.
`cpu_ms` is the processor time, in milliseconds over all cores, for a second of sound: the median of three times 4 s.
"""

import argparse
import functools
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import report
import scipy.signal
from jaxtyping import Array, Float, Int

from sfjax import audio, evaluation, metrics
from sfjax.configs import default
from sfjax.data import manifest
from sfjax.evaluation import compare_runs
from sfjax.inference import auxiliary
from sfjax.vocoder.griffin_lim import griffin_lim

SPEC = audio.MelSpec(**default.get_config("tiny").mel)
ITERATIONS = (8, 32, 100)  # of Griffin-Lim
RESOLUTIONS = (512, 1024, 2048)  # samples of a window
FLOOR = 1e-7  # of power, for waves in [-1, 1]: logarithms of less say nothing
SECONDS = 4  # of the Mel that speed is measured on


def scores(
    reference: Float[np.ndarray, " samples"], estimate: Float[np.ndarray, " samples"], rate: int
) -> dict[str, float]:
    """What a wave made from a Mel is held against the recording by."""
    return {
        "pesq_wb": metrics.pesq_wb(reference, estimate, rate),
        "estoi": metrics.estoi(reference, estimate, rate),
        "stft": stft_distance(reference, estimate),
    }


def stft_distance(reference: Float[np.ndarray, " samples"], estimate: Float[np.ndarray, " samples"]) -> float:
    """Spectral convergence plus the mean absolute difference of log magnitudes, averaged over three resolutions."""
    found = []
    for size in RESOLUTIONS:
        transform = scipy.signal.ShortTimeFFT(scipy.signal.get_window("hann", size), size // 4, fs=1)
        power = (np.abs(transform.stft(wav)) ** 2 for wav in (reference, estimate))
        one, other = (np.sqrt(np.maximum(values, FLOOR)) for values in power)
        convergence = np.linalg.norm(one - other) / np.linalg.norm(one)
        found.append(convergence + np.mean(np.abs(np.log(one / other))))
    return float(np.mean(found))


class Maker(NamedTuple):
    """A way from Mels to waves, with lengths in frames, and how many parameters it has."""

    name: str
    parameters: int
    make: Callable[[Float[Array, "batch frames mels"], Int[Array, " batch"]], Float[Array, "batch samples"]]


def makers(runs: list[str]) -> list[Maker]:
    """Griffin-Lim at each of `ITERATIONS`, then the vocoders of some runs."""
    found = []
    for iterations in ITERATIONS:
        make = functools.partial(_griffin_lim, iterations=iterations)
        found.append(Maker(f"Griffin-Lim, {iterations} iterations", 0, jax.jit(make)))
    for run in runs:
        vocoder = auxiliary.load_vocoder(run, SPEC)
        count = sum(leaf.size for leaf in jax.tree.leaves(vocoder.params))
        make = jax.jit(functools.partial(_vocoded, network=vocoder.network, mean=vocoder.mean, std=vocoder.std))
        found.append(Maker(run, count, functools.partial(make, vocoder.params)))
    return found


def _griffin_lim(mel, counts, *, iterations):
    return griffin_lim(mel, SPEC, iterations=iterations, lengths=counts * SPEC.hop)


def _vocoded(params, mel, counts, *, network, mean, std):
    return network.apply({"params": params}, (mel * SPEC.std + SPEC.mean - mean) / std, counts)


def chosen(found: manifest.Manifest, count: int) -> list[dict[str, Any]]:
    """At most `count` rows, always the same of them."""
    return [found.row(int(i)) for i in np.sort(np.random.default_rng(0).permutation(len(found))[:count])]


def made(maker: Maker, rows: list[dict[str, Any]]) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """Names, recordings and what is made of their Mels."""
    log_mel = jax.jit(audio.log_mel, static_argnums=1)
    for row in rows:
        wav, _ = audio.read(row["path"], start=row["start"], frames=row["frames"], rate=SPEC.sample_rate)
        padded = np.pad(wav, (0, -len(wav) % SPEC.sample_rate))[None]  # whole seconds: few programs
        mel = log_mel(padded, SPEC, np.array([len(wav)], np.int32))
        wave = maker.make(mel, np.array([SPEC.num_frames(len(wav))], np.int32))
        yield Path(row["path"]).stem, wav, np.asarray(wave)[0, : len(wav)]


def cpu_ms(maker: Maker) -> float:
    """Processor time for a second of sound, in milliseconds."""
    frames = SECONDS * SPEC.sample_rate // SPEC.hop
    mel = np.random.default_rng(0).standard_normal((1, frames, SPEC.bands)).astype(np.float32)
    spent = []
    for _ in range(4):
        began = time.process_time()
        jax.block_until_ready(maker.make(mel, np.array([frames], np.int32)))
        spent.append(time.process_time() - began)
    return 1000 * statistics.median(spent[1:]) / SECONDS


def measured(maker: Maker, rows: list[dict[str, Any]], workers: int) -> dict[str, Any]:
    """One line of the table; `±` is half the 95 % interval."""
    found = evaluation.score_arrays(
        made(maker, rows), rate=SPEC.sample_rate, workers=workers, progress=False, scorer=scores
    )
    if not found.rows:
        sys.exit(f"nothing was scored: {found.failed}")
    line = {"vocoder": maker.name, "parameters": maker.parameters, "cpu_ms": cpu_ms(maker)}
    for name, (low, high) in found.interval.items():
        line |= {name: found.mean[name], f"± {name}": (high - low) / 2}
    return line | {"scored": len(found.rows), "failed": len(found.failed)}


def main(argv: list[str] | None = None) -> None:
    """Scores every vocoder, prints and writes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--manifest", type=Path, required=True, help="recordings")
    parser.add_argument("--split", help="default: all rows")
    parser.add_argument("--vocoder", nargs="+", default=[], metavar="RUN", help="runs, or published HiFi-GANs")
    parser.add_argument("--items", type=int, default=40, help="recordings, always the same of them")
    parser.add_argument("--workers", type=int, default=report.cores(), help="processes that score")
    parser.add_argument("-o", "--output", type=Path, metavar="FILE.json")
    given = parser.parse_args(argv)
    facts = report.machine()
    print(report.heading(facts))
    rows = chosen(manifest.read(given.manifest, split=given.split), given.items)
    lines = [measured(maker, rows, given.workers) for maker in makers(given.vocoder)]
    print(compare_runs.table(lines))
    report.write(given.output, {"machine": facts, "recordings": len(rows), "rows": lines})


if __name__ == "__main__":
    main()
