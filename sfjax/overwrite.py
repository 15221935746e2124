"""Decide which existing files a command may replace: those that this package wrote.

Every file that this package writes holds a mark where its format has room for one: sound files in their comment,
Parquet files in their metadata, pictures and JSON reports in a field. Formats without room (CSV, TextGrid, a few sound
containers) have no mark; neither has a file of durations, which users edit. Such files are replaced only with
`--force`, like the files of other programs.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from pathlib import Path

import soundfile

from sfjax import audio_io
from sfjax.errors import UserError

MARK = "sfjax"
FIELD = {"made_by": MARK}  # the first field of a JSON document
PARQUET = {b"made_by": MARK.encode()}  # metadata of a Parquet file's schema
PICTURE = {"Software": MARK}  # text of a PNG


def refusal(path: str | os.PathLike, *, force: bool) -> str:
    """Return why the file `path` must not be replaced, and what to do; empty if it may be written."""
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
            head = file.read(1024)
    except (OSError, ValueError, soundfile.LibsndfileError):
        return False
    if suffix == ".png":
        return b"tEXtSoftware\0" + MARK.encode() in head
    return suffix == ".json" and head.lstrip(b"{ \n").startswith(json.dumps(FIELD)[1:-1].encode())


def _is_reject(line: bytes) -> bool:
    """Return whether a line of JSON lists a rejected recording, as `sfjax prepare` writes it."""
    entry = json.loads(line)
    return isinstance(entry, dict) and list(entry) == ["path", "reason"]
