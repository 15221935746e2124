"""Prepare manifests from sound files. Each file is decoded once; files that cannot be used are listed with the reason.

The functions differ in how they find the audio. All take the same `checks`: `min_seconds`, the shortest length in
seconds; `mel`, the log-Mel for the statistics; `seed`; `workers`, the number of processes; `part` (i, n), which takes
only every n-th recording from the i-th on, for `merge`; and `shards`, the hours of each shard into which the sound is
copied (None: no shards). Beside the manifest `name.parquet` they write `name.stats.json` and, if anything was left out,
`name.rejects.jsonl`. An interrupted preparation resumes when it runs again.
"""

from __future__ import annotations

import dataclasses
import json
import math
import os
import re
import shutil
import sys
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import jax
import numpy as np
import pyarrow as pa

from sfjax import audio, audio_io, overwrite
from sfjax.data import corpora, decode, manifest, scan
from sfjax.data import shards as sharded
from sfjax.data.manifest import pc
from sfjax.data.scan import Job, Reject
from sfjax.errors import UserError

MEL_FILES, MEL_SECONDS = 200, 10  # files, and seconds of each, for the log-Mel statistics, at most


class Summary(NamedTuple):
    """The result of a preparation; `rejects` is None if every file was good, `mixed` counts multichannel files.

    `notes` compare a published corpus with its published numbers; `reasons` count the rejected files by reason.
    """

    dest: Path
    stats: Path
    rejects: Path | None
    files: int
    hours: float
    speakers: int
    rejected: int
    mixed: int
    notes: tuple[str, ...]
    reasons: tuple[str, ...]


# Sources of audio


def folder(
    src: str | os.PathLike,
    dest: str | os.PathLike,
    *,
    speaker_from: str,
    split: str | None,
    valid_share: float,
    kind: str | None,
    **checks: Any,
) -> Summary:
    """Prepare every sound file below `src`.

    `speaker_from` is 'parent' (name of the file's folder), 'none', or a regular expression whose one group finds the
    speaker in the path below `src`. Rows get the given `split`; without one, a share `valid_share` of the speakers (of
    the files, if no speaker is known) is held out as 'valid' by `seed` and the rest is 'train'. Raises `UserError` if
    no file can be used.
    """
    jobs, rejects = scan.folder(src, speaker_from=speaker_from, kind=kind)
    jobs = scan.split(jobs, split=split, valid_share=valid_share, seed=checks["seed"])
    return _prepare(jobs, rejects, dest, src, **checks)


def pairs(
    clean: str | os.PathLike,
    noisy: str | os.PathLike,
    dest: str | os.PathLike,
    *,
    speaker_from: str,
    split: str | None,
    valid_share: float,
    kind: str | None,
    **checks: Any,
) -> Summary:
    """Prepare clean recordings with noisy ones that have the same path without suffix below `clean` and `noisy`.

    Both must have the same sample rate and length. Speakers are found in the path below `clean`; the other arguments
    and errors are as in `folder`.
    """
    jobs, rejects = scan.pairs(clean, noisy, speaker_from=speaker_from, kind=kind)
    jobs = scan.split(jobs, split=split, valid_share=valid_share, seed=checks["seed"])
    return _prepare(jobs, rejects, dest, clean, **checks)


def jsonl(
    src: str | os.PathLike,
    dest: str | os.PathLike,
    *,
    where: Mapping[str, Collection[str]],
    least: Mapping[str, float],
    **checks: Any,
) -> Summary:
    """Prepare the utterances of a list with one JSON object per line, as NeMo and others write it.

    The keys are `path` or `audio_filepath` (relative to the list's folder, or absolute), `offset` and `duration` in
    seconds, `speaker` or `spk`, `text`, `split`, `kind` and `set`; other keys are dropped. A line is used only if, for
    each key of `where`, its value is one of the allowed values and, for each key of `least`, its number is not below
    the limit. Raises `UserError` if no line can be used.
    """
    jobs, rejects = scan.lines(src, where=where, least=least)
    return _prepare(jobs, rejects, dest, src, **checks)


def parquet(
    src: Sequence[str | os.PathLike],
    dest: str | os.PathLike,
    **checks: Any,
) -> Summary:
    """Prepare the rows of Parquet files that Hugging Face's `datasets` wrote, or of folders of such files.

    Training then reads the sound from these files, where each read loads a row group; `shards` are faster.
    `scan.parquet` says how text, speaker and split are found. Raises `UserError` if no row can be used, or if `dest` is
    itself a file with recordings.
    """
    dest = manifest_path(dest)
    jobs, rejects = scan.parquet(src, dest)
    return _prepare(jobs, rejects, dest, ", ".join(map(str, src)), **checks)


def lhotse(
    src: str | os.PathLike,
    dest: str | os.PathLike,
    **checks: Any,
) -> Summary:
    """Prepare the cuts of a lhotse list (see `scan.lhotse`). Raises `UserError` if no cut can be used."""
    jobs, rejects = scan.lhotse(src)
    return _prepare(jobs, rejects, dest, src, **checks)


def corpus(
    name: str,
    src: str | os.PathLike,
    dest: str | os.PathLike,
    *,
    sets: Collection[str],
    places: Mapping[str, Path | None] = MappingProxyType({}),
    part: tuple[int, int],
    **checks: Any,
) -> Summary:
    """Prepare the `sets` (empty: all) of a published corpus in its own layout; `name` is a module of `corpora`.

    `places` are further paths for the `find` of the corpus. When all parts are together, the summary's `notes` compare
    the recordings with the published numbers. Raises `UserError` if the folder has another layout, or if no recording
    can be used.
    """
    published, dest, (number, count) = corpora.load(name), manifest_path(dest), part
    if unknown := set(sets) - set(published.sets):
        raise UserError(f"{name} has no set {min(unknown)!r}; choose from {', '.join(published.sets)}")
    jobs, rejects, seen = [], [], 0
    for job_or_reject in published.find(Path(os.path.abspath(src)), **places):
        if isinstance(job_or_reject, Reject):
            rejects.append(job_or_reject)
        elif not sets or job_or_reject.columns["set"] in sets:
            if seen % count == number:  # there may be millions, so only the jobs of this part stay in memory
                jobs.append(job_or_reject)
            seen += 1
    rejects = rejects if number == 0 else []
    options = _Checks(**checks)
    return _decode(jobs, rejects, dest, src, options=options, rates=published.rates, corpus=name, complete=count == 1)


def generated(rows: list[dict[str, Any]], dest: str | os.PathLike, *, mel: audio.MelSpec, seed: int) -> Summary:
    """Write the manifest of rows that `sfjax.data.mixtures`, `rooms` or `degraded` generated."""
    dest = manifest_path(dest)
    rows = [moved(row, dest.parent) for row in rows]
    return _write(manifest.build(dest, rows), [], dest, 0, mel=mel, seed=seed)


def protocol(
    rows: list[dict[str, Any]], rejects: list[Reject], dest: str | os.PathLike, *, mel: audio.MelSpec, seed: int
) -> Summary:
    """Write a test list of `sfjax.data.tts_lists`. Raises `UserError` if it has no rows."""
    dest = manifest_path(dest)
    if not rows:
        write_rejects(rejects, dest)
        raise UserError(f"{dest}: none of {len(rejects)} utterances fits; {rejects[0].path}: {rejects[0].reason}")
    test_list = manifest.build(dest, [moved(row, dest.parent) for row in rows])
    return _write(test_list, rejects, dest, 0, mel=mel, seed=seed)


def subset(found: manifest.Manifest, dest: str | os.PathLike, *, mel: audio.MelSpec, seed: int) -> Summary:
    """Write a subset of a manifest that `sfjax.data.subset` drew."""
    return _write(found, [], manifest_path(dest), 0, mel=mel, seed=seed)


def merge(parts: list[Path], dest: str | os.PathLike, *, mel: audio.MelSpec, seed: int) -> Summary:
    """Join the manifests and rejects of several parts, which must be in the folder of `dest`."""
    dest = manifest_path(dest)
    if dest in map(manifest_path, parts):
        raise UserError(f"{dest}: the merged manifest is one of its parts; give it another name")
    rows = manifest.join(dest, [manifest.read(part, split=None) for part in parts])
    rejects, mixed, corpus_names = [], 0, set()
    for part in map(manifest_path, parts):
        path = _beside(part, "rejects.jsonl")
        rejects += _read_rejects(path, dest.parent) if path.exists() else []
        mixed_files, corpus_name = _read_stats(_beside(part, "stats.json"))
        mixed += mixed_files
        corpus_names.add(corpus_name)
    corpus_name = corpus_names.pop() if len(corpus_names) == 1 else None
    return _write(rows, rejects, dest, mixed, mel=mel, seed=seed, corpus=corpus_name, complete=True)


def _read_rejects(path: Path, folder: Path) -> list[Reject]:
    """Read a list of rejects, whose paths are relative to `folder`."""
    try:
        entries = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        return [Reject(os.path.join(folder, entry["path"]), str(entry["reason"])) for entry in entries]
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise UserError(
            f"{path}: expected a list of rejects, got something else ({error!r}); prepare it again"
        ) from None


def _read_stats(path: Path) -> tuple[int, str | None]:
    """Read from the statistics beside a manifest how many files have several channels, and the name of the corpus."""
    try:
        stats = json.loads(path.read_text(encoding="utf-8"))
        mixed, name = stats["mixed"], stats.get("corpus")
        if type(mixed) is not int or mixed < 0 or not (name is None or name in corpora.names()):
            raise ValueError(f"mixed is {mixed!r}, corpus is {name!r}")
    except OSError as error:
        raise UserError(f"{path}: expected the statistics of a part ({error.strerror}); prepare it again") from None
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise UserError(f"{path}: expected the statistics of a part ({error!r}); prepare it again") from None
    return mixed, name


# Shared steps


@dataclasses.dataclass(frozen=True)
class _Checks:
    """The options of all sources of audio, without `part`."""

    min_seconds: float
    mel: audio.MelSpec
    seed: int
    workers: int
    shards: float | None = None


def _prepare(
    jobs: list[Job],
    rejects: list[Reject],
    dest: str | os.PathLike,
    src: str | os.PathLike,
    *,
    part: tuple[int, int],
    **checks: Any,
) -> Summary:
    number, count = part
    rejects = rejects if number == 0 else []  # every part finds the rejects of the scan; only the first lists them
    return _decode(jobs[number::count], rejects, manifest_path(dest), src, options=_Checks(**checks))


def _decode(
    jobs: list[Job],
    rejects: list[Reject],
    dest: Path,
    src: str | os.PathLike,
    *,
    options: _Checks,
    rates: Collection[int] = (),
    corpus: str | None = None,
    complete: bool = True,
) -> Summary:
    """Decode the jobs and write the good ones; `corpus` is the name of their published corpus, if any."""
    unfinished = dest.with_name(f".{dest.stem}.unfinished")
    parts, mixed = [], 0
    chunks = decode.chunks(jobs, unfinished, min_seconds=options.min_seconds, rates=rates, workers=options.workers)
    for good, results in chunks:
        crops = [result for result in results if isinstance(result, decode.Crop)]
        rejects += [result for result in results if isinstance(result, Reject)]
        mixed += sum(crop.channels > 1 for crop in crops)
        if chunk_rows := [_job_row(job, crop, dest.parent) for job, crop in zip(good, crops, strict=True)]:
            parts.append(manifest.build(dest, chunk_rows))
    if mixed:
        count = sum(map(len, parts))
        print(f"{mixed} of {count} files have several channels: they are read as their average", file=sys.stderr)
    if not parts:
        write_rejects(rejects, dest)
        first = f"; the first, {rejects[0].path}: {rejects[0].reason}" if rejects else ""
        raise UserError(f"{src}: expected sound that can be used, found none, {len(rejects)} rejected{first}")
    rows, mel, seed = manifest.join(dest, parts), options.mel, options.seed
    if options.shards is not None:
        rows = sharded.write(rows, dest, rate=mel.sample_rate, hours=options.shards, workers=options.workers)
    summary = _write(rows, rejects, dest, mixed, mel=mel, seed=seed, corpus=corpus, complete=complete)
    shutil.rmtree(unfinished, ignore_errors=True)
    return summary


def _job_row(job: Job, crop: decode.Crop, folder: Path) -> dict[str, Any]:
    row = {"path": job.path, "start": crop.start, "frames": crop.frames, "rate": crop.rate}
    return moved(row | job.columns, folder)


def moved(row: dict[str, Any], place: Path) -> dict[str, Any]:
    """Return a row whose paths are `portable` from the folder `place`."""

    def move(path: str) -> str:
        return portable(os.path.abspath(path), place)

    row = row | {name: move(row[name]) for name in manifest.FILES if row.get(name)}
    return row | ({"sources": list(map(move, row["sources"]))} if row.get("sources") else {})


def relocated(found: manifest.Manifest, place: Path) -> manifest.Manifest:
    """Return a manifest for the folder `place`, whose paths are `portable` from there."""
    if Path(found.folder) == place:
        return found

    def move(path: str | None) -> str | None:
        return path and portable(os.path.abspath(os.path.join(found.folder, path)), place)

    table = found.table
    for name in (name for name in found.columns if name in manifest.FILES | {"sources"}):
        column = table.column(name)
        holds_lists = pa.types.is_list(column.type)
        values = [value and list(map(move, value)) if holds_lists else move(value) for value in column.to_pylist()]
        table = table.set_column(table.column_names.index(name), name, pa.array(values, column.type))
    return manifest.Manifest(str(place), table)


def manifest_path(name: str | os.PathLike) -> Path:
    """Return the absolute path of a manifest to write. Raises `UserError` if the suffix is not .parquet."""
    dest = Path(os.path.abspath(name))
    if dest.suffix != ".parquet":
        raise UserError(f"{dest}: expected a name that ends in .parquet, got {dest.suffix or 'no suffix'}")
    return dest


def _write(
    rows: manifest.Manifest,
    rejects: list[Reject],
    dest: Path,
    mixed: int,
    *,
    mel: audio.MelSpec,
    seed: int,
    corpus: str | None = None,
    complete: bool = True,
) -> Summary:
    """Write a manifest with its statistics and rejects, and compare a `complete` corpus with its published numbers."""
    rejects_path = write_rejects(rejects, dest)
    stats = _statistics(rows) | {"rejected": len(rejects), "mixed": mixed}
    if corpus:
        stats["corpus"] = corpus
    stats["log_mel"] = _mel_statistics(rows, mel=mel, seed=seed)
    stats_path = _beside(dest, "stats.json")
    with manifest.replacing(stats_path) as temporary:
        temporary.write_text(json.dumps(overwrite.FIELD | stats, indent=2) + "\n", encoding="utf-8")
        manifest.write(dest, rows)  # inside: if it fails, an earlier manifest keeps its own statistics
    notes = corpora.compare(corpora.load(corpus), rows) if corpus and complete else []
    hours, speakers = stats["hours"], stats["speakers"]
    return Summary(
        dest,
        stats_path,
        rejects_path,
        len(rows),
        hours,
        speakers,
        len(rejects),
        mixed,
        tuple(notes),
        _counted_reasons(rejects),
    )


def _counted_reasons(rejects):
    """Count the rejects by reason, with an example each; reasons that differ in numbers or names count as one."""
    by_reason: dict[str, list[Reject]] = {}
    for reject in rejects:
        by_reason.setdefault(re.sub(r"\S*\d\S*|'[^']*'", "…", reject.reason), []).append(reject)
    groups = sorted(by_reason.values(), key=len, reverse=True)
    return tuple(f"rejected {len(group)}, as {group[0].path}: {group[0].reason}" for group in groups)


def outputs(dest: str | os.PathLike) -> list[Path]:
    """List the files that a preparation may replace for the manifest `dest`."""
    path = manifest_path(dest)
    shards = path.with_name(f"{path.stem}.shards")
    strange = [file for file in sorted(shards.glob("*")) if not re.fullmatch(sharded.NAME, file.name)]
    return [path, _beside(path, "stats.json"), _beside(path, "rejects.jsonl"), *strange]


def generated_sounds(dest: str | os.PathLike) -> list[Path]:
    """List the sound files in the folder that `sfjax.data.rooms` and `degraded` fill for the manifest `dest`."""
    return [file for file, reason in audio_io.walk(manifest_path(dest).with_suffix("")) if reason == ""]


def _beside(dest, suffix):
    return dest.with_name(f"{dest.stem}.{suffix}")


def portable(path: str, place: Path) -> str:
    """Return a path relative to a manifest's folder if it lies below, so that both can move together; else absolute."""
    relative = os.path.relpath(path, place)
    return path if relative.startswith(os.pardir) else Path(relative).as_posix()


def write_rejects(rejects: list[Reject], dest: Path) -> Path | None:
    """Write the list of rejects beside a manifest; without rejects, remove the list of an earlier run."""
    path = _beside(dest, "rejects.jsonl")
    if not rejects:
        path.unlink(missing_ok=True)
        return None
    with (
        manifest.replacing(path) as temporary,
        open(temporary, "w", encoding="utf-8", errors="backslashreplace") as out,
    ):
        for reject in rejects:
            entry = {"path": portable(reject.path, dest.parent), "reason": reject.reason}
            out.write(json.dumps(entry, ensure_ascii=False) + "\n")
    return path


def _statistics(rows: manifest.Manifest) -> dict[str, Any]:
    splits = pc.fill_null(rows.table.column("split").cast(pa.string()), "every")
    table = pa.table({"split": splits, "hours": rows.seconds / 3600})
    by_split = table.group_by("split").aggregate([("hours", "sum")]).sort_by("split").to_pylist()
    rates, counts = np.unique(rows.rates, return_counts=True)
    return {
        "files": len(rows),
        "hours": rows.seconds.sum() / 3600,
        "speakers": len(rows.speakers),
        "rates": {str(rate): int(count) for rate, count in zip(rates, counts, strict=True)},
        "hours_by_split": {group["split"]: group["hours_sum"] for group in by_split},
    }


def _mel_statistics(rows: manifest.Manifest, *, mel: audio.MelSpec, seed: int) -> dict[str, int | float]:
    """Return mean and standard deviation of the natural log-Mel before normalisation, over the starts of some files."""
    sample = np.sort(np.random.default_rng(seed).permutation(len(rows))[:MEL_FILES])
    log_mel = jax.jit(audio.log_mel, static_argnums=1)
    count, total, total_squares = 0, 0.0, 0.0
    for row in map(rows.row, sample.tolist()):
        wav, _ = audio.read(
            row["path"],
            start=row["start"],
            frames=min(row["frames"], MEL_SECONDS * row["rate"]),
            rate=mel.sample_rate,
        )
        padded = np.zeros((1, MEL_SECONDS * mel.sample_rate), np.float32)  # the same shape for all: one compilation
        padded[0, : len(wav)] = wav
        frames = np.asarray(log_mel(padded, mel, np.array([len(wav)])), np.float64)[0, : mel.num_frames(len(wav))]
        values = frames * mel.std + mel.mean
        count += values.size
        total += values.sum()
        total_squares += (values**2).sum()
    mean = total / count
    return {"files": len(sample), "mean": mean, "std": math.sqrt(max(0.0, total_squares / count - mean**2))}
