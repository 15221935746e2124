"""Decode each utterance once, in several processes, to find the utterances that cannot be used.

Results are saved on disk chunk by chunk, so that a preparation that was killed can resume.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import functools
import hashlib
import json
import multiprocessing
import sys
from collections.abc import Callable, Collection, Iterable, Iterator
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from tqdm import tqdm

from sfjax import audio, worker_process
from sfjax.data import manifest
from sfjax.data.scan import Job, Reject
from sfjax.errors import UserError

CHUNK = 4096  # utterances between two saves
SILENCE = 1e-4  # largest peak of a silent file: -80 dBFS, three steps of 16 bits, which dither alone can reach
ROUNDING = 0.01  # seconds by which a duration may exceed its file: lists round to two or three decimals


class Crop(NamedTuple):
    """A decoded utterance; start and length in samples of its file."""

    start: int
    frames: int
    rate: int
    channels: int


def chunks(
    jobs: list[Job], kept: Path, *, min_seconds: float, rates: Collection[int], workers: int
) -> Iterator[tuple[list[Job], list[Crop | Reject]]]:
    """Yield, chunk by chunk, the good jobs and the results of all jobs.

    The results hold a crop for each good job, in the same order, and the rejects of all others. If `rates` (Hz) are
    given, files of other rates are rejected. Results are saved in the folder `kept`, and read from there if the same
    jobs were checked before; the caller removes the folder when everything is written.
    """
    if workers < 1:
        raise UserError(f"preparing needs at least one worker, got {workers}")
    check = functools.partial(_check, min_seconds=min_seconds, rates=frozenset(rates))
    with (
        mapping(workers if len(jobs) > 1 else 1) as apply,
        tqdm(total=len(jobs), desc="decoding", unit="file", mininterval=1.0, file=sys.stderr) as progress,
    ):
        for first in range(0, len(jobs), CHUNK):
            chunk = jobs[first : first + CHUNK]
            digest = hashlib.sha256(repr((chunk, min_seconds, sorted(rates))).encode()).hexdigest()
            path = kept / f"{first // CHUNK:06}.json"
            results = _saved_results(path, digest)  # of each job a list: its crop, or all its rejects
            if results:
                progress.update(len(chunk))
            else:
                for result in apply(check, chunk):
                    results.append(result)
                    progress.update()
                if len(jobs) > CHUNK:
                    with manifest.replacing(path) as temporary:
                        temporary.write_text(json.dumps({"digest": digest, "found": results}), encoding="utf-8")
            good = [job for job, result in zip(chunk, results, strict=True) if isinstance(result[0], Crop)]
            yield good, [crop_or_reject for result in results for crop_or_reject in result]


def _saved_results(path: Path, digest: str) -> list[list[Crop | Reject]]:
    """Return the saved results of a chunk, an empty list if there are none or if they are of other jobs."""
    try:
        saved = json.loads(path.read_text(encoding="utf-8"))
        results = saved["found"] if saved["digest"] == digest else []
    except (OSError, ValueError, KeyError, TypeError):  # never written, or not by this program
        return []
    return [[_crop_or_reject(fields) for fields in result] for result in results]


def _crop_or_reject(fields: list) -> Crop | Reject:
    """Restore a result from its fields in JSON; only a reject begins with a string."""
    return Reject(*fields) if isinstance(fields[0], str) else Crop(*fields)


@contextlib.contextmanager
def mapping(workers: int) -> Iterator[Callable[[Callable, list], Iterable[Any]]]:
    """Yield a function like `map`, in the order of the list; with several `workers` it shares the work of processes."""
    if workers == 1:
        yield map
        return
    # spawn, because forking a process that has started JAX may deadlock
    context = multiprocessing.get_context("spawn")
    pool = concurrent.futures.ProcessPoolExecutor(workers, context, worker_process.initialize)
    try:
        yield functools.partial(_pool_map, pool, workers)
    except BrokenProcessPool:
        raise UserError("a worker died: out of memory, or a file that crashes the decoder; try one worker") from None
    finally:
        pool.shutdown(cancel_futures=True)


def _pool_map(pool: concurrent.futures.ProcessPoolExecutor, workers: int, work: Callable, items: list) -> Iterable[Any]:
    return pool.map(work, items, chunksize=max(1, min(64, len(items) // (8 * workers))))


def _check(job: Job, *, min_seconds: float, rates: Collection[int]) -> list[Crop | Reject]:
    """Return the crop of a job, or everything that is wrong with its files."""
    alike = job.alike or {"": job.path}
    noise = [path for path in [job.columns.get("noise")] if path and path not in alike.values()]
    crops, rejects = {}, []
    for path in [*alike.values(), *noise]:
        try:
            span = (0.0, None) if path in noise else (job.offset, job.duration)
            crops[path] = _crop(path, *span, min_seconds)
            if rates and (rate := crops[path].rate) not in rates:
                raise UserError(f"{rate} Hz, expected {' or '.join(map(str, sorted(rates)))} Hz")
        except UserError as error:
            rejects.append(Reject(path, str(error).removeprefix(f"{path}: ")))
    if rejects:
        return rejects
    first_name, first = next(iter(alike)), crops[job.path]
    for name, path in alike.items():
        crop = crops[path]
        for quantity, value, other in (("rate", first.rate, crop.rate), ("length", first.frames, crop.frames)):
            if value != other:
                reason = f"{first_name} and {name} differ in {quantity}: {value} and {other}; align them"
                rejects.append(Reject(job.path, reason))
                break
    return rejects or [first._replace(channels=max(crop.channels for crop in crops.values()))]


def _crop(path: str, offset: float, duration: float | None, min_seconds: float) -> Crop:
    """Decode a crop, `offset` and `duration` in seconds. Raises `UserError` if it cannot be used."""
    info = audio.probe(path)
    start = round(offset * info.rate)
    remaining = info.frames - start
    frames = remaining if duration is None else max(1, round(duration * info.rate))
    if 0 < remaining < frames <= remaining + ROUNDING * info.rate:
        frames = remaining
    if remaining < frames or (start and remaining <= 0):
        end = "its end" if duration is None else f"{offset + duration:.3f} s"
        raise UserError(f"expected {offset:.3f} s to {end}, but the file has {info.frames / info.rate:.3f} s")
    wav, rate = audio.read(path, start=start, frames=frames or None)
    if len(wav) < min_seconds * rate:
        raise UserError(f"{len(wav) / rate:.3f} s long, expected at least {min_seconds} s")
    if np.abs(wav).max() <= SILENCE:
        raise UserError("silent")
    return Crop(start, len(wav), rate, info.channels)
