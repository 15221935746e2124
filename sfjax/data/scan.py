"""Which utterances there are to prepare: sound files of a folder, pairs of two folders, lines of lists, Parquet rows.

Each way returns the jobs to check and what is rejected already, from names alone: no sound is decoded here.
"""

from __future__ import annotations

import gzip
import json
import math
import os
import re
import zlib
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from sfjax import container
from sfjax.errors import UserError

TEXT = ("text", "sentence", "transcription", "transcript", "normalized_text")  # columns of Parquet files, best first
SPEAKER = ("speaker_id", "speaker", "client_id")
SPLITS = {
    **dict.fromkeys(("train", "training"), "train"), **dict.fromkeys(("validation", "valid", "val", "dev"), "valid"),
    **dict.fromkeys(("test", "testing", "eval", "evaluation"), "test"),
}  # fmt: skip


class Job(NamedTuple):
    """One utterance to check: `offset` and `duration` in seconds (to the end when None), and what else is known.

    `alike` are its file and others that must have the same rate and length, by what to call them. A file of column
    'noise' that is not among them may have any length, for it is repeated.
    """

    path: str
    alike: dict[str, str] | None
    offset: float
    duration: float | None
    columns: dict[str, Any]


class Reject(NamedTuple):
    """A file that is left out, and why."""

    path: str
    reason: str


def pair(clean: str, noisy: str, columns: dict[str, Any]) -> Job:
    """A clean recording with the noisy one of the same utterance."""
    return Job(clean, {"clean": clean, "noisy": noisy}, 0.0, None, columns | {"noisy": noisy})


def folder(src: str | os.PathLike, *, speaker_from: str, kind: str | None) -> tuple[list[Job], list[Reject]]:
    """Every sound file below `src`; `speaker_from` as in `prepare.folder`."""
    return _named([(path, None) for path in _sound_files(src)], src, speaker_from=speaker_from, kind=kind)


def pairs(
    clean: str | os.PathLike, noisy: str | os.PathLike, *, speaker_from: str, kind: str | None
) -> tuple[list[Job], list[Reject]]:
    """The files below `clean` with those of the same path, but for the suffix, below `noisy`."""
    mine, twice = _by_stem(clean)
    other, twice_noisy = _by_stem(noisy)
    alone = [Reject(mine[stem], f"no file {stem}.* in {noisy}") for stem in sorted(mine.keys() - other.keys())]
    alone += [Reject(other[stem], f"no file {stem}.* in {clean}") for stem in sorted(other.keys() - mine.keys())]
    found = [(mine[stem], other[stem]) for stem in sorted(mine.keys() & other.keys())]
    jobs, rejects = _named(found, clean, speaker_from=speaker_from, kind=kind)
    return jobs, twice + twice_noisy + alone + rejects


def lines(
    src: str | os.PathLike, *, where: Mapping[str, Collection[str]], least: Mapping[str, float]
) -> tuple[list[Job], list[Reject]]:
    """The lines of a JSON Lines file that pass two filters, as jobs, and the lines that cannot be read, as rejects.

    `where` maps a key to the values you accept, `least` maps a key to the smallest number you accept; a value that is
    not a number does not pass. `prepare.jsonl` lists the keys of a line.
    """
    if not Path(src).is_file():
        raise UserError(f"{src}: expected a file with one JSON object a line, found no such file; check the path")
    jobs, rejects = [], []
    seen: dict[str, Counter] = {key: Counter() for key in where}
    with open(src, "rb") as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            try:
                entry = _entry(line)
                for key in where:
                    seen[key][str(entry.get(key))] += 1
                enough = all(_number(entry.get(key)) >= limit for key, limit in least.items())
                if enough and all(str(entry.get(key)) in allowed for key, allowed in where.items()):
                    jobs.append(_job(entry, os.path.dirname(os.path.abspath(src))))
            except ValueError as error:
                rejects.append(Reject(os.path.abspath(src), f"line {number}: {error}"))
    if not jobs and not rejects and (where or least):
        asked = ", ".join(
            [f"{key} in {sorted(allowed)}" for key, allowed in where.items()]
            + [f"{key} of at least {limit:g}" for key, limit in least.items()]
        )
        have = ", ".join(f"{key}: {[name for name, _ in counts.most_common(10)]}" for key, counts in seen.items())
        raise UserError(f"{src}: no line has {asked}" + (f"; the lines have {have}" if have else ""))
    return jobs, rejects


def _number(value: Any) -> float:
    return float(value) if isinstance(value, int | float) else -math.inf


def parquet(src: Sequence[str | os.PathLike], dest: Path) -> tuple[list[Job], list[Reject]]:
    """The rows of Parquet files and of those below folders, `dest` apart, each a path `FILE#N` of `container`.

    Text and speaker are those of the first column of `TEXT` and of `SPEAKER` that a row has; its `name` is that of the
    file that its sound was. The split is that of a column `split`, or of the file as Hugging Face names it, as in
    `train-00000-of-00012.parquet` or `train/0000.parquet`, in the words of `SPLITS`; as it was it is `set`.
    """
    files: dict[str, None] = {}
    for source in map(Path, src):
        if not source.exists():
            raise UserError(f"{source}: expected a Parquet file or a folder of some, found nothing; check the path")
        inside = sorted(source.rglob("*.parquet")) if source.is_dir() else [source]
        files |= dict.fromkeys(os.path.abspath(path) for path in inside if path.is_file())
    if dest.is_file() and not isinstance(_rows(str(dest)), Reject):
        raise UserError(f"{dest}: holds recordings, which the manifest would overwrite; name the manifest last")
    files.pop(str(dest), None)
    if not files:
        raise UserError(f"{', '.join(map(str, src))}: expected *.parquet files in this folder or below, found none")
    jobs, rejects = [], []
    for file in files:
        found = _rows(file)
        if isinstance(found, Reject):
            rejects.append(found)
        else:
            jobs += found
    return jobs, rejects


def lhotse(src: str | os.PathLike) -> tuple[list[Job], list[Reject]]:
    """The cuts of one channel of a file that lhotse's cuts of JSON lines hold, maybe compressed by gzip.

    Paths start where the program does, as lhotse has them. Text is that of a cut's only supervision, the speaker that
    of all of them, `name` the cut's id.
    """
    jobs, rejects = [], []
    try:
        with (gzip.open if Path(src).suffix == ".gz" else open)(src, "rb") as file:
            for number, line in enumerate(file, 1):
                try:
                    jobs += [_cut(_entry(line))] if line.strip() else []
                except ValueError as error:
                    rejects.append(Reject(os.path.abspath(src), f"line {number}: {error}"))
    except (OSError, EOFError, zlib.error) as error:
        why = getattr(error, "strerror", None) or error
        raise UserError(f"{src}: expected lhotse's cuts, one JSON object a line ({why}); check the path") from None
    return jobs, rejects


def split(jobs: list[Job], *, split: str | None, valid_share: float, seed: int) -> list[Job]:
    """The jobs with their split: `split`, or 'valid' for a share of the speakers and 'train' for the rest."""
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


def _rows(file: str) -> list[Job] | Reject:
    try:
        with pq.ParquetFile(file) as source:
            sound = container.column(source.schema_arrow)
            wanted = [name for name in (*TEXT, *SPEAKER, "split") if name in source.schema_arrow.names]
            table = source.read([*wanted, f"{sound}.path"])
    except (pa.ArrowException, OSError, LookupError) as error:
        return Reject(file, str(error.args[0] if error.args else error).splitlines()[0])
    names = re.sub(r"-\d+-of-\d+$", "", Path(file).stem), Path(file).parent.name
    place = next(filter(_split, names), names[0])
    jobs = []
    for number, row in enumerate(table.to_pylist()):
        whole = _first(row, "split") or place
        columns = {
            "speaker": _first(row, *SPEAKER), "text": _first(row, *TEXT), "kind": None, "set": whole,
            "split": _split(whole) or _first(row, "split"), "name": (row[sound] or {}).get("path"),
        }  # fmt: skip
        jobs.append(Job(f"{file}#{number}", None, 0.0, None, columns))
    return jobs


def _split(name: str) -> str | None:
    """The split that the first word of a name stands for that stands for one."""
    return next((SPLITS[word] for word in re.findall("[a-z]+", name.lower()) if word in SPLITS), None)


def _first(entry: Mapping[str, Any], *keys: str) -> str | None:
    """What is known under the first of the keys that has something."""
    value = next((entry[key] for key in keys if entry.get(key) is not None), None)
    return None if value is None else str(value)


def _cut(entry: dict[str, Any]) -> Job:
    kind, recording = entry.get("type"), entry.get("recording")
    if kind != "MonoCut":
        raise ValueError(f"wanted a MonoCut, found {kind or 'no type'}; only cuts of one channel are read")
    if not recording:
        raise ValueError("wanted a recording, found none, as in a cut of stored features")
    try:
        source = next(one for one in recording["sources"] if entry["channel"] in one["channels"])
        changed = [step["name"] for step in recording.get("transforms") or () if step["name"] != "Resample"]
        said = entry.get("supervisions") or []
        speakers, texts = {_first(one, "speaker") for one in said}, [_first(one, "text") for one in said]
        path = os.path.abspath(source["source"])
    except (KeyError, TypeError, AttributeError, StopIteration) as error:
        raise ValueError(f"wanted a cut as lhotse writes it, found one without or with odd parts ({error!r})") from None
    if source.get("type") != "file":
        raise ValueError(f"wanted a source of type file, found {source.get('type')}; save the sound to files")
    if len(source["channels"]) > 1:
        raise ValueError(f"wanted a file of one channel, found {len(source['channels'])}; write each to a file")
    if changed:
        raise ValueError(f"wanted the file as it is, found it changed by {', '.join(changed)}; save its sound")
    columns = {
        "speaker": speakers.pop() if len(speakers) == 1 else None, "text": texts[0] if len(texts) == 1 else None,
        "split": None, "kind": None, "name": _first(entry, "id"),
    }  # fmt: skip
    return Job(path, None, *_times(entry, "start"), columns)


def _entry(line: bytes) -> dict[str, Any]:
    try:
        entry = json.loads(line)
    except ValueError as error:
        raise ValueError(f"not JSON ({error})") from None
    if not isinstance(entry, dict):
        raise ValueError(f"wanted a JSON object, found {type(entry).__name__}")
    return entry


def _job(entry: dict[str, Any], root: str) -> Job:
    path = _first(entry, "path", "audio_filepath")
    if not path:
        raise ValueError("wanted 'path' or 'audio_filepath', found neither")
    columns = {"speaker": _first(entry, "speaker", "spk")} | {
        key: _first(entry, key) for key in ("text", "split", "kind")
    }
    if entry.get("set"):
        columns["set"] = _first(entry, "set")
    return Job(os.path.normpath(os.path.join(root, path)), None, *_times(entry, "offset"), columns)


def _times(entry: dict[str, Any], start: str) -> tuple[float, float | None]:
    """Where the sound starts and how long it is, in seconds."""
    for key, least in ((start, 0.0), ("duration", math.ulp(0.0))):
        value = entry.get(key)
        if value is not None and not (type(value) in (int, float) and least <= value < math.inf):
            raise ValueError(f"{key} wants seconds, found {value!r}")
    return float(entry.get(start) or 0.0), None if entry.get("duration") is None else float(entry["duration"])


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
        found += [os.path.join(place, name) for name in names if name.lower().endswith(container.SUFFIXES)]
    if not found:
        raise UserError(f"{root}: expected {', '.join(container.SUFFIXES)} files in this folder or below, found none")
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
            columns = {"speaker": speaker(path, os.path.relpath(path, root)), "kind": kind}
            jobs.append(pair(path, noisy, columns) if noisy else Job(path, None, 0.0, None, columns))
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
