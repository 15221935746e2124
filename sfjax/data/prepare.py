"""From sound files to a manifest: every file is decoded once, what cannot be trained on is listed with its reason.

The ways in differ in how they find the audio. All take the same `checks`: seconds that a recording has to have at
least (`min_seconds`), the log-Mel of the statistics (`mel`), a `seed`, a number of processes (`workers`); of a `part`
(i, n) only every n-th recording from the i-th on, which `merge` joins; and `shards` of so many hours, into which the
sound is copied. Beside the manifest `name.parquet` they write `name.stats.json` and, if anything was left out,
`name.rejects.jsonl`. What was interrupted goes on where it was.
"""

from __future__ import annotations

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

from sfjax import audio
from sfjax.data import corpora, decode, manifest, scan
from sfjax.data import shards as sharded
from sfjax.data.manifest import pc
from sfjax.data.scan import Job, Reject
from sfjax.errors import UserError

MEL_FILES, MEL_SECONDS = 200, 10  # what the log-Mel statistics are taken over, at most


class Summary(NamedTuple):
    """What was prepared; `rejects` is None when every file was good, `mixed` counts files with several channels.

    `notes` say how a published corpus differs from what was published, `reasons` how many files were rejected for what.
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


# The ways in


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
    """Prepares every sound file below `src`.

    `speaker_from` is 'parent' (name of the file's folder), 'none', or a regular expression whose one group finds the
    speaker in the path below `src`. Rows get the given `split`; without one, the `valid_share` of the speakers (of the
    files, where no speaker is known) is held out as 'valid' by `seed` and the rest is 'train'. `UserError` if nothing
    can be used.
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
    """Prepares clean recordings with their noisy ones: the same path without suffix below `clean` and below `noisy`.

    The two must have one sample rate and one length. Speakers are found in the path below `clean`; the other
    arguments and errors are those of `folder`.
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
    """Prepares the utterances of a list with one JSON object a line, as NeMo and others write it.

    Read are `path` or `audio_filepath` (relative to the list's folder, or absolute), `offset` and `duration` in
    seconds, `speaker` or `spk`, `text`, `split`, `kind` and `set`; other keys are dropped. Only lines whose value of
    each key of `where` is among the allowed ones, and whose number of each key of `least` is not below the limit, are
    looked at. `UserError` if nothing can be used.
    """
    jobs, rejects = scan.lines(src, where=where, least=least)
    return _prepare(jobs, rejects, dest, src, **checks)


def parquet(
    src: Sequence[str | os.PathLike],
    dest: str | os.PathLike,
    **checks: Any,
) -> Summary:
    """Prepares the rows of Parquet files as Hugging Face's `datasets` writes them, or of folders of such files.

    Sound is read from the files themselves, where each read costs a row group; `shards` are quicker. Text, speaker and
    split are found as `scan.parquet` says. `UserError` if nothing can be used, or if `dest` is itself a file of sound.
    """
    dest = named(dest)
    jobs, rejects = scan.parquet(src, dest)
    return _prepare(jobs, rejects, dest, ", ".join(map(str, src)), **checks)


def lhotse(
    src: str | os.PathLike,
    dest: str | os.PathLike,
    **checks: Any,
) -> Summary:
    """Prepares the cuts of a list that lhotse wrote, as `scan.lhotse` reads it. `UserError` if none can be used."""
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
    """Prepares the `sets` (all of them when empty) of a published corpus in its own layout; `corpora` has their names.

    `places` are those that its `find` takes besides. The summary's `notes` compare what was found with what was
    published, once all parts are together. `UserError` if the folder is laid out in another way, or if nothing can be
    used.
    """
    which, dest, (number, count) = corpora.named(name), named(dest), part
    if unknown := set(sets) - set(which.sets):
        raise UserError(f"{name} has no set {min(unknown)!r}; choose from {', '.join(which.sets)}")
    jobs, rejects, seen = [], [], 0
    for one in which.find(Path(os.path.abspath(src)), **places):
        if isinstance(one, Reject):
            rejects.append(one)
        elif not sets or one.columns["set"] in sets:
            if seen % count == number:  # of millions only this part's are kept
                jobs.append(one)
            seen += 1
    rejects = rejects if number == 0 else []
    return _checked(jobs, rejects, dest, src, which.rates, corpus=name, whole=count == 1, **checks)


def generated(rows: list[dict[str, Any]], dest: str | os.PathLike, *, mel: audio.MelSpec, seed: int) -> Summary:
    """Writes the manifest of rows that `sfjax.data.mixtures`, `rooms` or `degraded` generated."""
    dest = named(dest)
    rows = [moved(row, dest.parent) for row in rows]
    return _write(manifest.build(dest, rows), [], dest, 0, mel=mel, seed=seed)


def protocol(
    rows: list[dict[str, Any]], rejects: list[Reject], dest: str | os.PathLike, *, mel: audio.MelSpec, seed: int
) -> Summary:
    """Writes the list of a test, as `sfjax.data.protocol` makes it; `UserError` if it has no rows."""
    dest = named(dest)
    if not rows:
        write_rejects(rejects, dest)
        raise UserError(f"{dest}: none of {len(rejects)} utterances fits; {rejects[0].path}: {rejects[0].reason}")
    found = manifest.build(dest, [moved(row, dest.parent) for row in rows])
    return _write(found, rejects, dest, 0, mel=mel, seed=seed)


def subset(found: manifest.Manifest, dest: str | os.PathLike, *, mel: audio.MelSpec, seed: int) -> Summary:
    """Writes a part of a manifest, as `sfjax.data.subset` draws it."""
    return _write(found, [], named(dest), 0, mel=mel, seed=seed)


def merge(parts: list[Path], dest: str | os.PathLike, *, mel: audio.MelSpec, seed: int) -> Summary:
    """Joins the manifests of several parts, which lie beside `dest`, with their rejects."""
    dest = named(dest)
    if dest in map(named, parts):
        raise UserError(f"{dest}: the merged manifest is one of its parts; give it another name")
    found = manifest.joined(dest, [manifest.read(part, split=None) for part in parts])
    rejects, mixed, names = [], 0, set()
    for part in map(named, parts):
        path = _beside(part, "rejects.jsonl")
        for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else ():
            entry = json.loads(line)
            rejects.append(Reject(os.path.join(dest.parent, entry["path"]), entry["reason"]))
        stats = json.loads(_beside(part, "stats.json").read_text())
        mixed += stats["mixed"]
        names.add(stats.get("corpus"))
    name = names.pop() if len(names) == 1 else None
    return _write(found, rejects, dest, mixed, mel=mel, seed=seed, corpus=name, whole=True)


# What they share


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
    rejects = rejects if number == 0 else []  # those of names alone, which every part finds
    return _checked(jobs[number::count], rejects, named(dest), src, (), **checks)


def _checked(
    jobs: list[Job],
    rejects: list[Reject],
    dest: Path,
    src: str | os.PathLike,
    rates: Collection[int],
    *,
    min_seconds: float,
    mel: audio.MelSpec,
    seed: int,
    workers: int,
    shards: float | None = None,
    corpus: str | None = None,
    whole: bool = True,
) -> Summary:
    """Decodes the jobs and writes those that are good; `corpus` is what published corpus they are of, if any."""
    kept = dest.with_name(f".{dest.stem}.unfinished")
    parts, mixed = [], 0
    for good, found in decode.chunks(jobs, kept, min_seconds=min_seconds, rates=rates, workers=workers):
        crops = [one for one in found if isinstance(one, decode.Crop)]
        rejects += [one for one in found if isinstance(one, Reject)]
        mixed += sum(crop.channels > 1 for crop in crops)
        if rows := [_row(job, crop, dest.parent) for job, crop in zip(good, crops, strict=True)]:
            parts.append(manifest.build(dest, rows))
    if mixed:
        count = sum(map(len, parts))
        print(f"{mixed} of {count} files have several channels: they are read as their average", file=sys.stderr)
    if not parts:
        write_rejects(rejects, dest)
        first = f"; the first, {rejects[0].path}: {rejects[0].reason}" if rejects else ""
        raise UserError(f"{src}: expected sound that can be used, found none, {len(rejects)} rejected{first}")
    whole_manifest = manifest.joined(dest, parts)
    if shards is not None:
        whole_manifest = sharded.write(whole_manifest, dest, rate=mel.sample_rate, hours=shards, workers=workers)
    done = _write(whole_manifest, rejects, dest, mixed, mel=mel, seed=seed, corpus=corpus, whole=whole)
    shutil.rmtree(kept, ignore_errors=True)
    return done


def _row(job: Job, crop: decode.Crop, place: Path) -> dict[str, Any]:
    row = {"path": job.path, "start": crop.start, "frames": crop.frames, "rate": crop.rate}
    return moved(row | job.columns, place)


def moved(row: dict[str, Any], place: Path) -> dict[str, Any]:
    """A row with its files as `portable` names them."""
    move = lambda path: portable(os.path.abspath(path), place)
    row = row | {name: move(row[name]) for name in manifest.FILES if row.get(name)}
    return row | ({"sources": list(map(move, row["sources"]))} if row.get("sources") else {})


def relocated(found: manifest.Manifest, place: Path) -> manifest.Manifest:
    """A manifest whose paths start at `place`, with its files as `portable` names them."""
    if Path(found.folder) == place:
        return found
    move = lambda path: path and portable(os.path.abspath(os.path.join(found.folder, path)), place)
    table = found.table
    for name in (name for name in found.columns if name in manifest.FILES | {"sources"}):
        column = table.column(name)
        lists = pa.types.is_list(column.type)
        values = [value and list(map(move, value)) if lists else move(value) for value in column.to_pylist()]
        table = table.set_column(table.column_names.index(name), name, pa.array(values, column.type))
    return manifest.Manifest(str(place), table)


def named(name: str | os.PathLike) -> Path:
    """The absolute path of a manifest that is to be written; `UserError` for another suffix."""
    dest = Path(os.path.abspath(name))
    if dest.suffix != ".parquet":
        raise UserError(f"{dest}: the manifest wants a name that ends in .parquet")
    return dest


def _write(
    found: manifest.Manifest,
    rejects: list[Reject],
    dest: Path,
    mixed: int,
    *,
    mel: audio.MelSpec,
    seed: int,
    corpus: str | None = None,
    whole: bool = True,
) -> Summary:
    """Writes a manifest with its statistics and rejects; a `whole` corpus is compared with what is published."""
    rejects_path = write_rejects(rejects, dest)
    stats = _statistics(found) | {"rejected": len(rejects), "mixed": mixed}
    if corpus:
        stats["corpus"] = corpus
    stats["log_mel"] = _mel_statistics(found, mel=mel, seed=seed)
    stats_path = _beside(dest, "stats.json")
    with manifest.replacing(stats_path) as part:
        part.write_text(json.dumps(stats, indent=2) + "\n", encoding="utf-8")
        manifest.write(dest, found)  # inside: if it fails, the statistics of an earlier manifest stay with it
    notes = corpora.compared(corpora.named(corpus), found) if corpus and whole else []
    hours, speakers = stats["hours"], stats["speakers"]
    return Summary(
        dest,
        stats_path,
        rejects_path,
        len(found),
        hours,
        speakers,
        len(rejects),
        mixed,
        tuple(notes),
        _reasons(rejects),
    )


def _reasons(rejects):
    """How many files were rejected for each reason, numbers and names in it aside, with the first of them."""
    kinds: dict[str, list[Reject]] = {}
    for one in rejects:
        kinds.setdefault(re.sub(r"\S*\d\S*|'[^']*'", "…", one.reason), []).append(one)
    ordered = sorted(kinds.values(), key=len, reverse=True)
    return tuple(f"rejected {len(ones)}, as {ones[0].path}: {ones[0].reason}" for ones in ordered)


def _beside(dest, suffix):
    return dest.with_name(f"{dest.stem}.{suffix}")


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
    splits = pc.fill_null(found.table.column("split").cast(pa.string()), "every")
    table = pa.table({"split": splits, "hours": found.seconds / 3600})
    by_split = table.group_by("split").aggregate([("hours", "sum")]).sort_by("split").to_pylist()
    rates, counts = np.unique(found.rates, return_counts=True)
    return {
        "files": len(found),
        "hours": found.seconds.sum() / 3600,
        "speakers": len(found.speakers),
        "rates": {str(rate): int(count) for rate, count in zip(rates, counts, strict=True)},
        "hours_by_split": {one["split"]: one["hours_sum"] for one in by_split},
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
