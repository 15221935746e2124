"""From sound files to a manifest: every file is decoded once, what cannot be trained on is listed with its reason.

`folder`, `pairs` and `jsonl` differ in how they find the audio; many tasks can each prepare a part of it, which
`merge` joins. Beside the manifest `name.parquet` they write
`name.stats.json` and, if anything was left out, `name.rejects.jsonl`. Nothing is resampled and nothing copied.
"""

from __future__ import annotations

import concurrent.futures
import functools
import json
import math
import multiprocessing
import os
import signal
import sys
from collections.abc import Collection, Iterator, Mapping
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from tqdm import tqdm

from sfjax import audio
from sfjax.data import manifest, scan
from sfjax.data.scan import Job, Reject
from sfjax.errors import UserError

SILENCE = 1e-4  # peak of a file that is called silent: -80 dBFS, three steps of 16 bits, which dither reaches alone
ROUNDING = 0.01  # seconds a stated duration may pass the end of its file: lists round to two or three decimals
MEL_FILES, MEL_SECONDS = 200, 10  # what the log-Mel statistics are taken over, at most


class Summary(NamedTuple):
    """What was prepared; `rejects` is None when every file was good, `mixed` counts files with several channels."""

    dest: Path
    stats: Path
    rejects: Path | None
    files: int
    hours: float
    speakers: int
    rejected: int
    mixed: int


class Crop(NamedTuple):
    """An utterance that was decoded, in its file's own samples."""

    start: int
    frames: int
    rate: int
    channels: int


# The three ways in


def folder(
    src: str | os.PathLike,
    dest: str | os.PathLike,
    *,
    speaker_from: str,
    split: str | None,
    valid_share: float,
    kind: str | None,
    min_seconds: float,
    mel: audio.MelSpec,
    seed: int,
    workers: int,
    part: tuple[int, int],
) -> Summary:
    """Prepares every sound file below `src`.

    `speaker_from` is 'parent' (name of the file's folder), 'none', or a regular expression whose one group finds the
    speaker in the path below `src`. Rows get the given `split`; without one, the `valid_share` of the speakers (of the
    files, where no speaker is known) is held out as 'valid' by `seed` and the rest is 'train'. Of `part` (i, n) only
    every n-th file from the i-th on is prepared; `merge` joins the parts. `UserError` if nothing can be used.
    """
    jobs, rejects = scan.folder(src, speaker_from=speaker_from, kind=kind)
    jobs = scan.split(jobs, split=split, valid_share=valid_share, seed=seed)
    return _prepare(jobs, rejects, dest, src, min_seconds=min_seconds, mel=mel, seed=seed, workers=workers, part=part)


def pairs(
    clean: str | os.PathLike,
    noisy: str | os.PathLike,
    dest: str | os.PathLike,
    *,
    speaker_from: str,
    split: str | None,
    valid_share: float,
    kind: str | None,
    min_seconds: float,
    mel: audio.MelSpec,
    seed: int,
    workers: int,
    part: tuple[int, int],
) -> Summary:
    """Prepares clean recordings with their noisy ones: the same path without suffix below `clean` and below `noisy`.

    The two must have one sample rate and one length. Speakers are found in the path below `clean`; the other
    arguments and errors are those of `folder`.
    """
    jobs, rejects = scan.pairs(clean, noisy, speaker_from=speaker_from, kind=kind)
    jobs = scan.split(jobs, split=split, valid_share=valid_share, seed=seed)
    return _prepare(jobs, rejects, dest, clean, min_seconds=min_seconds, mel=mel, seed=seed, workers=workers, part=part)


def jsonl(
    src: str | os.PathLike,
    dest: str | os.PathLike,
    *,
    where: Mapping[str, Collection[str]],
    min_seconds: float,
    mel: audio.MelSpec,
    seed: int,
    workers: int,
    part: tuple[int, int],
) -> Summary:
    """Prepares the utterances of a list with one JSON object a line, as NeMo and others write it.

    Read are `path` or `audio_filepath` (relative to the list's folder, or absolute), `offset` and `duration` in
    seconds, `speaker` or `spk`, `text`, `split`, `kind` and `set`; other keys are dropped. Only lines whose value of
    each key of `where` is among the allowed ones are looked at. `UserError` if nothing can be used.
    """
    jobs, rejects = scan.lines(src, where=where)
    return _prepare(jobs, rejects, dest, src, min_seconds=min_seconds, mel=mel, seed=seed, workers=workers, part=part)


def mixtures(rows: list[dict[str, Any]], dest: str | os.PathLike, *, mel: audio.MelSpec, seed: int) -> Summary:
    """Writes a list of mixtures, as `sfjax.data.mixtures` makes it."""
    dest = named(dest)
    moved = lambda path: portable(os.path.abspath(path), dest.parent)
    for row in rows:
        row |= {"path": moved(row["path"]), "sources": list(map(moved, row["sources"]))}
        row |= {"noise": moved(row["noise"])} if row.get("noise") else {}
    return _write(manifest.build(dest, rows), [], dest, 0, mel=mel, seed=seed)


def merge(parts: list[Path], dest: str | os.PathLike, *, mel: audio.MelSpec, seed: int) -> Summary:
    """Joins the manifests of several parts, which lie beside `dest`, with their rejects."""
    dest = named(dest)
    if dest in map(named, parts):
        raise UserError(f"{dest}: the merged manifest is one of its parts; give it another name")
    found = manifest.joined(dest, [manifest.read(part, split=None) for part in parts])
    rejects, mixed = [], 0
    for part in map(named, parts):
        path = _beside(part, "rejects.jsonl")
        for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else ():
            entry = json.loads(line)
            rejects.append(Reject(os.path.join(dest.parent, entry["path"]), entry["reason"]))
        mixed += json.loads(_beside(part, "stats.json").read_text())["mixed"]
    return _write(found, rejects, dest, mixed, mel=mel, seed=seed)


# What they share


def _prepare(
    jobs: list[Job],
    rejects: list[Reject],
    dest: str | os.PathLike,
    src: str | os.PathLike,
    *,
    min_seconds: float,
    mel: audio.MelSpec,
    seed: int,
    workers: int,
    part: tuple[int, int],
) -> Summary:
    dest, (number, count) = named(dest), part
    jobs = jobs[number::count]
    rejects = rejects if number == 0 else []  # those of names alone, which every part finds
    rows, mixed = [], 0
    for job, found in zip(jobs, _decoded(jobs, min_seconds=min_seconds, workers=workers), strict=True):
        if isinstance(found, Reject):
            rejects.append(found)
            continue
        mixed += found.channels > 1
        row = {"path": portable(job.path, dest.parent)} | found._asdict() | job.columns
        del row["channels"]
        rows.append(row | ({"noisy": portable(job.noisy, dest.parent)} if job.noisy else {}))
    if mixed:
        print(f"{mixed} of {len(rows)} files have several channels: they are read as their average", file=sys.stderr)
    if not rows:
        write_rejects(rejects, dest)
        first = f"; the first, {rejects[0].path}: {rejects[0].reason}" if rejects else ""
        raise UserError(f"{src}: expected sound that can be used, found none, {len(rejects)} rejected{first}")
    return _write(manifest.build(dest, rows), rejects, dest, mixed, mel=mel, seed=seed)


def named(name: str | os.PathLike) -> Path:
    """The absolute path of a manifest that is to be written; `UserError` for another suffix."""
    dest = Path(os.path.abspath(name))
    if dest.suffix != ".parquet":
        raise UserError(f"{dest}: the manifest wants a name that ends in .parquet")
    return dest


def _write(
    found: manifest.Manifest, rejects: list[Reject], dest: Path, mixed: int, *, mel: audio.MelSpec, seed: int
) -> Summary:
    """Writes a manifest with its statistics and rejects."""
    rejects_path = write_rejects(rejects, dest)
    stats = _statistics(found) | {"rejected": len(rejects), "mixed": mixed}
    stats["log_mel"] = _mel_statistics(found, mel=mel, seed=seed)
    stats_path = _beside(dest, "stats.json")
    with manifest.replacing(stats_path) as part:
        part.write_text(json.dumps(stats, indent=2) + "\n", encoding="utf-8")
        manifest.write(dest, found)  # inside: if it fails, the statistics of an earlier manifest stay with it
    return Summary(dest, stats_path, rejects_path, len(found), stats["hours"], stats["speakers"], len(rejects), mixed)


def _beside(dest, suffix):
    return dest.with_name(f"{dest.stem}.{suffix}")


def _decoded(jobs: list[Job], *, min_seconds: float, workers: int) -> Iterator[Crop | Reject]:
    if workers < 1:
        raise UserError(f"preparing wants at least one worker, got {workers}")
    check = functools.partial(_check, min_seconds=min_seconds)
    progress = functools.partial(tqdm, total=len(jobs), desc="decoding", unit="file", mininterval=1.0, file=sys.stderr)
    if workers == 1 or len(jobs) < 2:
        yield from progress(map(check, jobs))
        return
    # spawn: forking a process that has started JAX may deadlock
    pool = concurrent.futures.ProcessPoolExecutor(
        min(workers, len(jobs)), multiprocessing.get_context("spawn"), _leave_interrupts_to_the_parent
    )
    try:
        yield from progress(pool.map(check, jobs, chunksize=max(1, min(64, len(jobs) // (8 * workers)))))
    except BrokenProcessPool:
        raise UserError("a worker died while decoding: out of memory, or a file that crashes; try one worker") from None
    finally:
        pool.shutdown(cancel_futures=True)


def _leave_interrupts_to_the_parent() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _check(job: Job, *, min_seconds: float) -> Crop | Reject:
    try:
        crop = _crop(job.path, job.offset, job.duration, min_seconds)
    except UserError as error:
        return Reject(job.path, str(error).removeprefix(f"{job.path}: "))
    if job.noisy is None:
        return crop
    try:
        noisy = _crop(job.noisy, job.offset, job.duration, min_seconds)
    except UserError as error:
        return Reject(job.noisy, str(error).removeprefix(f"{job.noisy}: "))
    for name, mine, other in (("rate", crop.rate, noisy.rate), ("length", crop.frames, noisy.frames)):
        if mine != other:
            return Reject(job.path, f"clean and noisy differ in {name}: {mine} and {other}; align them")
    return crop._replace(channels=max(crop.channels, noisy.channels))


def _crop(path: str, offset: float, duration: float | None, min_seconds: float) -> Crop:
    info = audio.probe(path)
    start = round(offset * info.rate)
    left = info.frames - start
    frames = left if duration is None else max(1, round(duration * info.rate))
    if 0 < left < frames <= left + ROUNDING * info.rate:
        frames = left
    if left < frames or (start and left <= 0):
        end = "its end" if duration is None else f"{offset + duration:.3f} s"
        raise UserError(f"wanted {offset:.3f} s to {end}, the file has {info.frames / info.rate:.3f} s")
    wav, rate = audio.read(path, start=start, frames=frames or None)
    if len(wav) < min_seconds * rate:
        raise UserError(f"{len(wav) / rate:.3f} s long, wanted at least {min_seconds} s")
    if np.abs(wav).max() <= SILENCE:
        raise UserError("silent")
    return Crop(start, len(wav), rate, info.channels)


def portable(path: str, place: Path) -> str:
    """Relative where the file lies below the manifest's folder, so that the two can move together; else absolute."""
    relative = os.path.relpath(path, place)
    return path if relative.startswith(os.pardir) else Path(relative).as_posix()


def write_rejects(rejects: list[Reject], dest: Path) -> Path | None:
    """Lists beside a manifest what was left out of it; an earlier list goes if nothing was."""
    path = _beside(dest, "rejects.jsonl")
    if not rejects:
        path.unlink(missing_ok=True)  # of an earlier run
        return None
    with manifest.replacing(path) as part, open(part, "w", encoding="utf-8") as out:
        for reject in rejects:
            entry = {"path": portable(reject.path, dest.parent), "reason": reject.reason}
            out.write(json.dumps(entry, ensure_ascii=False) + "\n")
    return path


def _statistics(found: manifest.Manifest) -> dict[str, Any]:
    splits = np.array([name or "every" for name in found.table.column("split").to_pylist()])
    rates, counts = np.unique(found.rates, return_counts=True)
    return {
        "files": len(found),
        "hours": found.seconds.sum() / 3600,
        "speakers": len(found.speakers),
        "rates": {str(rate): int(count) for rate, count in zip(rates, counts, strict=True)},
        "hours_by_split": {str(name): found.seconds[splits == name].sum() / 3600 for name in np.unique(splits)},
    }


def _mel_statistics(found: manifest.Manifest, *, mel: audio.MelSpec, seed: int) -> dict[str, int | float]:
    """Mean and standard deviation of the natural log-Mel before its normalisation, over the starts of some files."""
    chosen = np.sort(np.random.default_rng(seed).permutation(len(found))[:MEL_FILES])
    log_mel = jax.jit(audio.log_mel, static_argnums=1)
    count, total, square = 0, 0.0, 0.0
    for row in map(found.row, chosen.tolist()):
        wav, _ = audio.read(
            row["path"],
            start=row["start"],
            frames=min(row["frames"], MEL_SECONDS * row["rate"]),
            rate=mel.sample_rate,
        )
        padded = np.zeros((1, MEL_SECONDS * mel.sample_rate), np.float32)  # one shape, so one compilation
        padded[0, : len(wav)] = wav
        frames = np.asarray(log_mel(padded, mel, np.array([len(wav)])), np.float64)[0, : mel.frames(len(wav))]
        values = frames * mel.std + mel.mean
        count, total, square = count + values.size, total + values.sum(), square + (values**2).sum()
    mean = total / count
    return {"files": len(chosen), "mean": mean, "std": math.sqrt(max(0.0, square / count - mean**2))}
