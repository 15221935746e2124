"""Find the utterances to prepare: sound files of a folder, pairs of folders, lines of lists, Parquet rows.

Each function returns the jobs to check and the files that it rejects. It looks at names only and decodes no audio.
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

from sfjax import audio_io
from sfjax.errors import UserError

TEXT = (
    "text",
    "sentence",
    "transcription",
    "transcript",
    "normalized_text",
)  # columns of Parquet files, preferred first
LONGEST = 1e9  # seconds, of an offset or a duration
SPEAKER = ("speaker_id", "speaker", "client_id")
SPLITS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("validation", "valid", "val", "dev"), "valid"),
    **dict.fromkeys(("test", "testing", "eval", "evaluation"), "test"),
}


class Job(NamedTuple):
    """One utterance to check: `offset` and `duration` in seconds (None: to the end), and its other manifest columns.

    `alike` is {label: path} of the files that must agree in rate and length, including `path`; error messages print
    the labels. It is None if there is only `path`. A noise file (column 'noise') that is not in `alike` may have any
    length, because it is repeated.
    """

    path: str
    alike: dict[str, str] | None
    offset: float
    duration: float | None
    columns: dict[str, Any]


class Reject(NamedTuple):
    """A file that is left out, and the reason."""

    path: str
    reason: str


def pair(clean: str, noisy: str, columns: dict[str, Any]) -> Job:
    """Return the job of a clean recording and the noisy recording of the same utterance."""
    return Job(clean, {"clean": clean, "noisy": noisy}, 0.0, None, columns | {"noisy": noisy})


def folder(src: str | os.PathLike, *, speaker_from: str, kind: str | None) -> tuple[list[Job], list[Reject]]:
    """Return every sound file below `src`; `speaker_from` as in `prepare.folder`."""
    files, unreadable = _sound_files(src)
    jobs, rejects = _with_speakers([(path, None) for path in files], src, speaker_from=speaker_from, kind=kind)
    return jobs, unreadable + rejects


def pairs(
    clean: str | os.PathLike, noisy: str | os.PathLike, *, speaker_from: str, kind: str | None
) -> tuple[list[Job], list[Reject]]:
    """Pair the files below `clean` with the files below `noisy` that have the same path without suffix."""
    clean_files, clean_duplicates = _by_stem(clean)
    noisy_files, noisy_duplicates = _by_stem(noisy)
    only_clean = sorted(clean_files.keys() - noisy_files.keys())
    only_noisy = sorted(noisy_files.keys() - clean_files.keys())
    unpaired = [Reject(clean_files[stem], f"no file {stem}.* in {noisy}") for stem in only_clean]
    unpaired += [Reject(noisy_files[stem], f"no file {stem}.* in {clean}") for stem in only_noisy]
    paired = [(clean_files[stem], noisy_files[stem]) for stem in sorted(clean_files.keys() & noisy_files.keys())]
    jobs, rejects = _with_speakers(paired, clean, speaker_from=speaker_from, kind=kind)
    return jobs, clean_duplicates + noisy_duplicates + unpaired + rejects


def lines(
    src: str | os.PathLike, *, where: Mapping[str, Collection[str]], least: Mapping[str, float]
) -> tuple[list[Job], list[Reject]]:
    """Return the lines of a JSON Lines file that pass two filters as jobs, and unreadable lines as rejects.

    `where` maps a key to the values you accept, `least` maps a key to the smallest number you accept; a value that is
    not a number does not pass. `prepare.jsonl` lists the keys of a line.
    """
    if not Path(src).is_file():
        raise UserError(f"{src}: expected a file with one JSON object per line, found no such file; check the path")
    jobs, rejects = [], []
    value_counts: dict[str, Counter] = {key: Counter() for key in where}
    with open(src, "rb") as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            try:
                entry = _json_object(line)
                for key in where:
                    value_counts[key][str(entry.get(key))] += 1
                enough = all(_as_number(entry.get(key)) >= limit for key, limit in least.items())
                if enough and all(str(entry.get(key)) in allowed for key, allowed in where.items()):
                    jobs.append(_line_job(entry, os.path.dirname(os.path.abspath(src))))
            except ValueError as error:
                rejects.append(Reject(os.path.abspath(src), f"line {number}: {error}"))
    if not jobs and not rejects and (where or least):
        filters = ", ".join(
            [f"{key} in {sorted(allowed)}" for key, allowed in where.items()]
            + [f"{key} of at least {limit:g}" for key, limit in least.items()]
        )
        values = ", ".join(
            f"{key}: {[value for value, _ in counts.most_common(10)]}" for key, counts in value_counts.items()
        )
        raise UserError(f"{src}: no line has {filters}" + (f"; the lines have {values}" if values else ""))
    return jobs, rejects


def _as_number(value: Any) -> float:
    """Return a number as a float, and −inf for other values, such as `true`, which thus are below every limit."""
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else -math.inf


def _line_job(entry: dict[str, Any], root: str) -> Job:
    path = _first_known(entry, "path", "audio_filepath")
    if not path:
        raise ValueError("expected 'path' or 'audio_filepath', found neither")
    columns = {"speaker": _first_known(entry, "speaker", "spk")} | {
        key: _first_known(entry, key) for key in ("text", "split", "kind")
    }
    if entry.get("set"):
        columns["set"] = _first_known(entry, "set")
    return Job(os.path.normpath(os.path.join(root, path)), None, *_offset_and_duration(entry, "offset"), columns)


def parquet(src: Sequence[str | os.PathLike], dest: Path) -> tuple[list[Job], list[Reject]]:
    """Return the rows of Parquet files, and of Parquet files below folders, as jobs with paths `FILE#N`.

    `dest` itself is not read. Text and speaker come from the first column of `TEXT` and of `SPEAKER` with a value;
    `name` is the name of the original sound file. The split comes from a column `split`, or from the file name in
    Hugging Face's style, such as `train-00000-of-00012.parquet` or `train/0000.parquet`. `SPLITS` maps it to our words;
    the column `set` keeps the original word. `sfjax.audio_io` explains `FILE#N`.
    """
    files: dict[str, None] = {}
    for source in map(Path, src):
        if not source.exists():
            raise UserError(
                f"{source}: expected a Parquet file or a folder of such files, found nothing; check the path"
            )
        paths = sorted(source.rglob("*.parquet")) if source.is_dir() else [source]
        files |= dict.fromkeys(os.path.abspath(path) for path in paths if path.is_file())
    if dest.is_file() and not isinstance(_parquet_jobs(str(dest)), Reject):
        raise UserError(f"{dest}: holds recordings, which the manifest would overwrite; name the manifest last")
    files.pop(str(dest), None)
    if not files:
        raise UserError(f"{', '.join(map(str, src))}: expected *.parquet files in this folder or below, found none")
    jobs, rejects = [], []
    for file in files:
        file_jobs = _parquet_jobs(file)
        if isinstance(file_jobs, Reject):
            rejects.append(file_jobs)
        else:
            jobs += file_jobs
    return jobs, rejects


def _parquet_jobs(file: str) -> list[Job] | Reject:
    """Return a job for each row of a Parquet file, or why the file cannot be used."""
    try:
        with pq.ParquetFile(file) as source:
            sound = audio_io.column(source.schema_arrow)
            names = [name for name in (*TEXT, *SPEAKER, "split") if name in source.schema_arrow.names]
            table = source.read([*names, f"{sound}.path"])
    except (pa.ArrowException, OSError, LookupError) as error:
        return Reject(file, str(error.args[0] if error.args else error).splitlines()[0])
    stem, parent = re.sub(r"-\d+-of-\d+$", "", Path(file).stem), Path(file).parent.name
    file_set = next(filter(_known_split, (stem, parent)), stem)
    jobs = []
    for number, row in enumerate(table.to_pylist()):
        row_set = _first_known(row, "split") or file_set
        columns = {
            "speaker": _first_known(row, *SPEAKER),
            "text": _first_known(row, *TEXT),
            "kind": None,
            "set": row_set,
            "split": _known_split(row_set) or _first_known(row, "split"),
            "name": (row[sound] or {}).get("path"),
        }
        jobs.append(Job(f"{file}#{number}", None, 0.0, None, columns))
    return jobs


def _known_split(name: str) -> str | None:
    """Return the split that the first word of `SPLITS` in a name stands for, None if there is no such word."""
    return next((SPLITS[word] for word in re.findall("[a-z]+", name.lower()) if word in SPLITS), None)


def _first_known(entry: Mapping[str, Any], *keys: str) -> str | None:
    """Return the value of the first of the keys that has one, as a string."""
    value = next((entry[key] for key in keys if entry.get(key) is not None), None)
    return None if value is None else str(value)


def lhotse(src: str | os.PathLike) -> tuple[list[Job], list[Reject]]:
    """Return the one-channel cuts of a lhotse list in JSON Lines, which may be compressed with gzip.

    As in lhotse, relative paths start at the working directory. The text comes from a cut's only supervision, the
    speaker is set if all supervisions agree, and `name` is the cut's id.
    """
    jobs, rejects = [], []
    try:
        with (gzip.open if Path(src).suffix == ".gz" else open)(src, "rb") as file:
            for number, line in enumerate(file, 1):
                try:
                    jobs += [_cut_job(_json_object(line))] if line.strip() else []
                except ValueError as error:
                    rejects.append(Reject(os.path.abspath(src), f"line {number}: {error}"))
    except (OSError, EOFError, zlib.error) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"{src}: expected lhotse's cuts, one JSON object per line ({reason}); check the path") from None
    return jobs, rejects


def _cut_job(entry: dict[str, Any]) -> Job:
    kind, recording = entry.get("type"), entry.get("recording")
    if kind != "MonoCut":
        raise ValueError(f"expected a MonoCut, got {kind or 'no type'}; only cuts with one channel can be read")
    if not recording:
        raise ValueError("expected a cut with a recording, found none; cuts of stored features cannot be read")
    try:
        source = next(source for source in recording["sources"] if entry["channel"] in source["channels"])
        changes = [step["name"] for step in recording.get("transforms") or () if step["name"] != "Resample"]
        supervisions = entry.get("supervisions") or []
        speakers = {_first_known(supervision, "speaker") for supervision in supervisions}
        texts = [_first_known(supervision, "text") for supervision in supervisions]
        path = os.path.abspath(source["source"])
    except (KeyError, TypeError, AttributeError, StopIteration) as error:
        raise ValueError(f"expected a cut in lhotse's format, but parts are missing or wrong ({error!r})") from None
    if source.get("type") != "file":
        raise ValueError(f"expected a source of type file, got {source.get('type')}; save the sound to files")
    if len(source["channels"]) > 1:
        raise ValueError(f"expected a file with one channel, got {len(source['channels'])}; write each to a file")
    if changes:
        raise ValueError(f"expected unchanged sound, got the transforms {', '.join(changes)}; save the result to files")
    columns = {
        "speaker": speakers.pop() if len(speakers) == 1 else None,
        "text": texts[0] if len(texts) == 1 else None,
        "split": None,
        "kind": None,
        "name": _first_known(entry, "id"),
    }
    return Job(path, None, *_offset_and_duration(entry, "start"), columns)


def _json_object(line: bytes) -> dict[str, Any]:
    try:
        entry = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"not JSON ({error})") from None
    try:
        json.dumps(entry, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        half = ascii(error.object[error.start])[1:-1]
        raise ValueError(
            f"expected Unicode text, got {half}, half of a surrogate pair; write the whole character"
        ) from None
    if not isinstance(entry, dict):
        raise ValueError(f"expected a JSON object, got {type(entry).__name__}")
    return entry


def _offset_and_duration(entry: dict[str, Any], offset_key: str) -> tuple[float, float | None]:
    """Return where the utterance starts and how long it is, in seconds; a duration of None means to the end."""
    for key, least, rule in (
        (offset_key, 0.0, f"from 0 to {LONGEST:g} seconds"),
        ("duration", math.ulp(0.0), f"above 0 seconds, at most {LONGEST:g}"),
    ):
        value = entry.get(key)
        if value is not None and not (type(value) in (int, float) and least <= value <= LONGEST):
            raise ValueError(f"{key} must be {rule}, got {value!r}")
    return float(entry.get(offset_key) or 0.0), None if entry.get("duration") is None else float(entry["duration"])


def split(jobs: list[Job], *, split: str | None, valid_share: float, seed: int) -> list[Job]:
    """Return the jobs with a split: `split`, or 'valid' for a share of the speakers and 'train' for the others."""
    if not 0 <= valid_share < 1:
        raise UserError(f"the share held out for valid must be from 0 to below 1, got {valid_share}")
    if split is not None and valid_share:
        raise UserError(
            f"got both split {split!r} for all rows and a valid share of {valid_share}; give one of the two"
        )

    def unit(job: Job) -> str:
        return job.columns["speaker"] or job.path

    units = sorted({unit(job) for job in jobs})
    held_out = set()
    if valid_share and units:
        count = max(1, round(valid_share * len(units)))
        if count >= len(units):
            raise UserError(
                f"a share of {valid_share} of {len(units)} speakers for 'valid' leaves none to train on; give less"
            )
        held_out = {units[i] for i in np.random.default_rng(seed).permutation(len(units))[:count]}

    def split_of(job: Job) -> str:
        return split or ("valid" if unit(job) in held_out else "train")

    return [job._replace(columns=job.columns | {"split": split_of(job)}) for job in jobs]


def _sound_files(root: str | os.PathLike) -> tuple[list[str], list[Reject]]:
    """Return the sorted absolute paths of the sound files below a folder, and reject what cannot be read."""
    if not Path(root).is_dir():
        raise UserError(f"{root}: expected a folder with sound files, found no such folder; check the path")
    entries = audio_io.walk(os.path.abspath(root))
    paths = [str(path) for path, reason in entries if reason == ""]
    rejects = [Reject(str(path), reason) for path, reason in entries if reason]
    for path in paths:
        try:
            path.encode()
        except UnicodeEncodeError:
            rejects.append(Reject(path, "its name is not UTF-8, which a manifest needs; rename the file"))
    rejected = {reject.path for reject in rejects}
    if not paths and not rejects:
        raise UserError(f"{root}: expected {', '.join(audio_io.SUFFIXES)} files in this folder or below, found none")
    return [path for path in paths if path not in rejected], rejects


def _by_stem(root: str | os.PathLike) -> tuple[dict[str, str], list[Reject]]:
    """Return sound files by their path below `root` without suffix, and reject unreadable ones and doubles."""
    files: dict[str, str] = {}
    paths, rejects = _sound_files(root)
    for path in paths:
        stem = os.path.splitext(os.path.relpath(path, root))[0]
        if stem in files:
            rejects.append(Reject(path, f"{os.path.basename(files[stem])} has the same name; keep one of them"))
        else:
            files[stem] = path
    return files, rejects


def _with_speakers(
    files: Sequence[tuple[str, str | None]], root: str | os.PathLike, *, speaker_from: str, kind: str | None
) -> tuple[list[Job], list[Reject]]:
    """Return the jobs of recordings and their noisy recordings (or None), with the speakers that their paths tell."""
    find_speaker = _speaker_finder(speaker_from)
    jobs, rejects = [], []
    for path, noisy in files:
        try:
            columns = {"speaker": find_speaker(path, os.path.relpath(path, root)), "kind": kind}
            jobs.append(pair(path, noisy, columns) if noisy else Job(path, None, 0.0, None, columns))
        except LookupError as error:
            rejects.append(Reject(path, str(error)))
    return jobs, rejects


def _speaker_finder(speaker_from: str) -> Callable[[str, str], str | None]:
    """Return a function from a file's path and its path below the root to its speaker."""
    if speaker_from == "none":
        return lambda path, below_root: None
    if speaker_from == "parent":
        return lambda path, below_root: os.path.basename(os.path.dirname(path))
    try:
        pattern = re.compile(speaker_from)
    except re.error as error:
        raise UserError(
            f"speaker_from must be 'parent', 'none' or a regular expression, got {speaker_from!r} ({error}); correct it"
        ) from None
    if pattern.groups != 1:
        raise UserError(
            f"speaker_from must have one group in parentheses, got {pattern.groups} in {speaker_from!r}; "
            "put the speaker into parentheses"
        )

    def find_by_pattern(path: str, below_root: str) -> str:
        match = pattern.search(Path(below_root).as_posix())
        if not (match and match[1]):
            raise LookupError(f"the pattern {speaker_from!r} finds no speaker")
        return match[1]

    return find_by_pattern
