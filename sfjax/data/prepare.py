"""From sound files to a manifest: every file is decoded once, what cannot be trained on is listed with its reason.

`folder`, `pairs` and `jsonl` differ in how they find the audio. Beside the manifest `name.parquet` they write
`name.stats.json` and, if anything was left out, `name.rejects.jsonl`. Nothing is resampled and nothing copied.
"""

from __future__ import annotations

import concurrent.futures
import functools
import json
import math
import multiprocessing
import os
import re
import signal
import sys
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from tqdm import tqdm

from sfjax import audio
from sfjax.data import manifest
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


class Job(NamedTuple):
    """One utterance to check: `offset` and `duration` in seconds (to the end when None), and what else is known."""

    path: str
    noisy: str | None
    offset: float
    duration: float | None
    columns: dict[str, str | None]


class Reject(NamedTuple):
    path: str
    reason: str


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
) -> Summary:
    """Prepares every sound file below `src`.

    `speaker_from` is 'parent' (name of the file's folder), 'none', or a regular expression whose one group finds the
    speaker in the path below `src`. Rows get the given `split`; without one, the `valid_share` of the speakers (of the
    files, where no speaker is known) is held out as 'valid' by `seed` and the rest is 'train'. `UserError` if nothing
    can be used.
    """
    found = [(path, None) for path in _sound_files(src)]
    jobs, rejects = _named(found, src, speaker_from=speaker_from, kind=kind)
    jobs = _split(jobs, split=split, valid_share=valid_share, seed=seed)
    return _prepare(jobs, rejects, dest, src, min_seconds=min_seconds, mel=mel, seed=seed, workers=workers)


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
) -> Summary:
    """Prepares clean recordings with their noisy ones: the same path without suffix below `clean` and below `noisy`.

    The two must have one sample rate and one length. Speakers are found in the path below `clean`; the other
    arguments and errors are those of `folder`.
    """
    mine, twice = _by_stem(clean)
    other, twice_noisy = _by_stem(noisy)
    alone = [Reject(mine[stem], f"no file {stem}.* in {noisy}") for stem in sorted(mine.keys() - other.keys())]
    alone += [Reject(other[stem], f"no file {stem}.* in {clean}") for stem in sorted(other.keys() - mine.keys())]
    found = [(mine[stem], other[stem]) for stem in sorted(mine.keys() & other.keys())]
    jobs, rejects = _named(found, clean, speaker_from=speaker_from, kind=kind)
    rejects = twice + twice_noisy + alone + rejects
    jobs = _split(jobs, split=split, valid_share=valid_share, seed=seed)
    return _prepare(jobs, rejects, dest, clean, min_seconds=min_seconds, mel=mel, seed=seed, workers=workers)


def jsonl(
    src: str | os.PathLike,
    dest: str | os.PathLike,
    *,
    where: Mapping[str, Collection[str]],
    min_seconds: float,
    mel: audio.MelSpec,
    seed: int,
    workers: int,
) -> Summary:
    """Prepares the utterances of a list with one JSON object a line, as NeMo and others write it.

    Read are `path` or `audio_filepath` (relative to the list's folder, or absolute), `offset` and `duration` in
    seconds, `speaker` or `spk`, `text`, `split`, `kind` and `set`; other keys are dropped. Only lines whose value of
    each key of `where` is among the allowed ones are looked at. `UserError` if nothing can be used.
    """
    if not Path(src).is_file():
        raise UserError(f"{src}: expected a file with one JSON object a line, found no such file; check the path")
    jobs, rejects = [], []
    seen: dict[str, Counter] = {key: Counter() for key in where}
    with open(src, "rb") as lines:
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            try:
                entry = _entry(line)
                for key in where:
                    seen[key][str(entry.get(key))] += 1
                if all(str(entry.get(key)) in allowed for key, allowed in where.items()):
                    jobs.append(_job(entry, os.path.dirname(os.path.abspath(src))))
            except ValueError as error:
                rejects.append(Reject(os.path.abspath(src), f"line {number}: {error}"))
    if not jobs and not rejects and where:
        asked = ", ".join(f"{key} in {sorted(allowed)}" for key, allowed in where.items())
        have = ", ".join(f"{key}: {[name for name, _ in counts.most_common(10)]}" for key, counts in seen.items())
        raise UserError(f"{src}: no line has {asked}; the lines have {have}")
    return _prepare(jobs, rejects, dest, src, min_seconds=min_seconds, mel=mel, seed=seed, workers=workers)


def _entry(line: bytes) -> dict[str, Any]:
    try:
        entry = json.loads(line)
    except ValueError as error:
        raise ValueError(f"not JSON ({error})") from None
    if not isinstance(entry, dict):
        raise ValueError(f"wanted a JSON object, found {type(entry).__name__}")
    return entry


def _job(entry: dict[str, Any], root: str) -> Job:
    def first(*keys: str) -> str | None:
        value = next((entry[key] for key in keys if entry.get(key) is not None), None)
        return None if value is None else str(value)

    path = first("path", "audio_filepath")
    if not path:
        raise ValueError("wanted 'path' or 'audio_filepath', found neither")
    times = {}
    for key, least in (("offset", 0.0), ("duration", math.ulp(0.0))):
        value = entry.get(key)
        if value is not None and not (type(value) in (int, float) and least <= value < math.inf):
            raise ValueError(f"{key} wants seconds, found {value!r}")
        times[key] = None if value is None else float(value)
    columns = {"speaker": first("speaker", "spk")} | {key: first(key) for key in ("text", "split", "kind")}
    if first("set"):
        columns["set"] = first("set")
    return Job(os.path.normpath(os.path.join(root, path)), None, times["offset"] or 0.0, times["duration"], columns)


def _sound_files(root: str | os.PathLike) -> list[str]:
    """Absolute paths of the sound files below a folder, through links to folders, sorted."""
    if not Path(root).is_dir():
        raise UserError(f"{root}: expected a folder with sound files, found no such folder; check the path")
    found, been = [], set()
    for place, folders, names in os.walk(os.path.abspath(root), followlinks=True):
        if os.path.realpath(place) in been:  # a link back to a folder above
            folders.clear()
            continue
        been.add(os.path.realpath(place))
        folders.sort()  # so that of two links to one folder the same is taken everywhere
        found += [os.path.join(place, name) for name in names if name.lower().endswith(audio.SUFFIXES)]
    if not found:
        raise UserError(f"{root}: expected {', '.join(audio.SUFFIXES)} files in this folder or below, found none")
    return sorted(found)


def _by_stem(root: str | os.PathLike) -> tuple[dict[str, str], list[Reject]]:
    """Sound files by their path below `root` without suffix, and those whose stem is taken already."""
    found: dict[str, str] = {}
    rejects = []
    for path in _sound_files(root):
        stem = os.path.splitext(os.path.relpath(path, root))[0]
        if stem in found:
            rejects.append(Reject(path, f"{os.path.basename(found[stem])} has the same name; keep one of them"))
        else:
            found[stem] = path
    return found, rejects


def _named(
    found: Sequence[tuple[str, str | None]], root: str | os.PathLike, *, speaker_from: str, kind: str | None
) -> tuple[list[Job], list[Reject]]:
    speaker = _speaker_finder(speaker_from)
    jobs, rejects = [], []
    for path, noisy in found:
        try:
            name = speaker(path, os.path.relpath(path, root))
            jobs.append(Job(path, noisy, 0.0, None, {"speaker": name, "kind": kind}))
        except LookupError as error:
            rejects.append(Reject(path, str(error)))
    return jobs, rejects


def _speaker_finder(source: str) -> Callable[[str, str], str | None]:
    if source == "none":
        return lambda path, below: None
    if source == "parent":
        return lambda path, below: os.path.basename(os.path.dirname(path))
    try:
        pattern = re.compile(source)
    except re.error as error:
        raise UserError(f"speaker {source!r} is no regular expression ({error}); or give 'parent' or 'none'") from None
    if pattern.groups != 1:
        raise UserError(f"speaker {source!r} wants one group in parentheses, has {pattern.groups}; mark the speaker")

    def find(path: str, below: str) -> str:
        match = pattern.search(Path(below).as_posix())
        if not (match and match[1]):
            raise LookupError(f"no speaker found by {source!r}")
        return match[1]

    return find


def _split(jobs: list[Job], *, split: str | None, valid_share: float, seed: int) -> list[Job]:
    if not 0 <= valid_share < 1:
        raise UserError(f"the share held out for valid wants to be from 0 to below 1, got {valid_share}")
    if split is not None and valid_share:
        raise UserError(f"every row is to be {split!r} and a share of {valid_share} to be 'valid'; give one of the two")

    def unit(job: Job) -> str:
        return job.columns["speaker"] or job.path

    names = sorted({unit(job) for job in jobs})
    held = set()
    if valid_share and names:
        count = max(1, round(valid_share * len(names)))
        if count >= len(names):
            raise UserError(f"{valid_share} of {len(names)} speakers for 'valid' leaves none to train on; take less")
        held = {names[i] for i in np.random.default_rng(seed).permutation(len(names))[:count]}

    def name(job: Job) -> str:
        return split or ("valid" if unit(job) in held else "train")

    return [job._replace(columns=job.columns | {"split": name(job)}) for job in jobs]


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
) -> Summary:
    dest = Path(os.path.abspath(dest))
    if dest.suffix != ".parquet":
        raise UserError(f"{dest}: the manifest wants a name that ends in .parquet")
    rows, mixed = [], 0
    for job, found in zip(jobs, _decoded(jobs, min_seconds=min_seconds, workers=workers), strict=True):
        if isinstance(found, Reject):
            rejects.append(found)
            continue
        mixed += found.channels > 1
        row = {"path": _portable(job.path, dest.parent)} | found._asdict() | job.columns
        del row["channels"]
        rows.append(row | ({"noisy": _portable(job.noisy, dest.parent)} if job.noisy else {}))
    if mixed:
        print(f"{mixed} of {len(rows)} files have several channels: they are read as their average", file=sys.stderr)
    rejects_path = _write_rejects(rejects, dest)
    if not rows:
        first = f"; the first, {rejects[0].path}: {rejects[0].reason}" if rejects else ""
        raise UserError(f"{src}: expected sound that can be used, found none, {len(rejects)} rejected{first}")
    stats = _statistics(rows) | {"rejected": len(rejects), "mixed": mixed}
    stats["log_mel"] = _mel_statistics(rows, dest.parent, mel=mel, seed=seed)
    stats_path = dest.with_name(f"{dest.stem}.stats.json")
    with manifest.replacing(stats_path) as part:
        part.write_text(json.dumps(stats, indent=2) + "\n", encoding="utf-8")
        manifest.write(dest, rows)  # inside: if it fails, the statistics of an earlier manifest stay with it
    return Summary(dest, stats_path, rejects_path, len(rows), stats["hours"], stats["speakers"], len(rejects), mixed)


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


def _portable(path: str, place: Path) -> str:
    """Relative where the file lies below the manifest's folder, so that the two can move together; else absolute."""
    relative = os.path.relpath(path, place)
    return path if relative.startswith(os.pardir) else Path(relative).as_posix()


def _write_rejects(rejects: list[Reject], dest: Path) -> Path | None:
    path = dest.with_name(f"{dest.stem}.rejects.jsonl")
    if not rejects:
        path.unlink(missing_ok=True)  # of an earlier run
        return None
    with manifest.replacing(path) as part, open(part, "w", encoding="utf-8") as out:
        for reject in rejects:
            entry = {"path": _portable(reject.path, dest.parent), "reason": reject.reason}
            out.write(json.dumps(entry, ensure_ascii=False) + "\n")
    return path


def _statistics(rows: list[dict[str, Any]]) -> dict[str, Any]:
    seconds: Counter = Counter()
    for row in rows:
        seconds[row["split"] or "every"] += row["frames"] / row["rate"]
    return {
        "files": len(rows),
        "hours": sum(seconds.values()) / 3600,
        "speakers": len({row["speaker"] for row in rows} - {None}),
        "rates": {str(rate): count for rate, count in sorted(Counter(row["rate"] for row in rows).items())},
        "hours_by_split": {name: total / 3600 for name, total in sorted(seconds.items())},
    }


def _mel_statistics(
    rows: list[dict[str, Any]], place: Path, *, mel: audio.MelSpec, seed: int
) -> dict[str, int | float]:
    """Mean and standard deviation of the natural log-Mel before its normalisation, over the starts of some files."""
    chosen = np.sort(np.random.default_rng(seed).permutation(len(rows))[:MEL_FILES])
    log_mel = jax.jit(audio.log_mel, static_argnums=1)
    count, total, square = 0, 0.0, 0.0
    for row in (rows[i] for i in chosen):
        wav, _ = audio.read(
            os.path.join(place, row["path"]),
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
