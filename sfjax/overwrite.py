"""Decide which existing files a command may replace: those that this package wrote.

Every file that this package writes holds a mark where its format has room for one: sound files in their comment,
Parquet files in their metadata, pictures and JSON reports in a field. TextGrids and files of durations, which users
edit, hold a digest of their content, so that an edited file is not replaced. CSV has no room for a mark: a table is
recognised by its header row. A few sound containers have no mark at all; such files are replaced only with `--force`,
like the files of other programs.
"""

from __future__ import annotations

import csv
import hashlib
import json
import os
import re
from collections.abc import Iterable
from pathlib import Path

import soundfile

from sfjax import audio_io
from sfjax.errors import UserError

MARK = "sfjax"
FIELD = {"made_by": MARK}  # the first field of a JSON document
PARQUET = {b"made_by": MARK.encode()}  # metadata of a Parquet file's schema
PICTURE = {"Software": MARK}  # text of a PNG
UNSIGNED = f"{MARK} {'0' * 16}"  # in a text that `sign` gives the digest of its content
SCORES = {"si_sdr", "sim", "words"}  # a column of every CSV of scores that has a score


def sign(text: str) -> str:
    """Return a text that holds `UNSIGNED` with the digest of the text in its place."""
    return text.replace(UNSIGNED, f"{MARK} {hashlib.sha256(text.encode()).hexdigest()[:16]}", 1)


def _is_signed(content: bytes) -> bool:
    """Return whether a text is as `sign` returned it; a user who edits it changes its digest."""
    text = content.decode("utf-8")
    unsigned = re.sub(rf"{MARK} [0-9a-f]{{16}}", UNSIGNED, text, count=1)
    return unsigned != text and sign(unsigned) == text


def refusal(path: str | os.PathLike, *, force: bool) -> str:
    """Return why the file `path` must not be replaced, and what to do; empty if it may be written.

    A pipe or a device is never replaced: a file in its place would break the program that uses it.
    """
    if os.path.exists(path) and not os.path.isfile(path) and not os.path.isdir(path):
        return f"{path} must be a file, got a pipe or a device; choose another name"
    if force or not os.path.lexists(path) or os.path.isdir(path) or is_ours(path):
        return ""
    return f"{path} exists, and no mark in it says that sfjax wrote it; choose another name, or replace it with --force"


def check(paths: Iterable[str | os.PathLike], *, force: bool) -> None:
    """Raise `UserError` if one of the files exists and must not be replaced."""
    for path in paths:
        if reason := refusal(path, force=force):
            raise UserError(reason)


def is_ours(path: str | os.PathLike) -> bool:
    """Return whether a mark in the file says that this package wrote it."""
    suffix = Path(path).suffix.lower()
    try:
        if suffix in audio_io.CONTAINERS:
            with soundfile.SoundFile(audio_io.raw_name(path)) as file:  # also one that is cut short
                return file.comment.split(" ")[0] == MARK
        if suffix == ".parquet":
            import pyarrow.parquet as pq

            return PARQUET.items() <= (pq.read_schema(path).metadata or {}).items()
        with open(path, "rb") as file:
            if suffix == ".jsonl":
                return _is_reject(file.readline())
            if suffix == ".csv":
                return _is_table(file.readline().decode("utf-8"))
            if suffix == ".textgrid":
                return _is_signed(file.read())
            head = file.read(1024)
            if suffix == ".json" and head.startswith(b'{"made_by": '):
                return _is_signed(head + file.read())
    except (OSError, ValueError, csv.Error, soundfile.LibsndfileError):
        return False
    if suffix == ".png":
        return b"tEXtSoftware\0" + MARK.encode() in head
    return suffix == ".json" and head.lstrip(b"{ \n").startswith(json.dumps(FIELD)[1:-1].encode())


def _is_reject(line: bytes) -> bool:
    """Return whether a line of JSON lists a rejected recording, as `sfjax prepare` writes it."""
    entry = json.loads(line)
    return isinstance(entry, dict) and list(entry) == ["path", "reason"]


def _is_table(header: str) -> bool:
    """Return whether a row of CSV is the header of scores (`sfjax score`) or of runs (`sfjax report`)."""
    names = next(csv.reader([header]), [])
    is_scores = names[:1] == ["name"] and names[-1:] == ["reason"] and not SCORES.isdisjoint(names)
    return is_scores or (names[:1] == ["run"] and "step" in names)
