"""Copy the recordings of a manifest into a few large files, for storage where many small files are slow.

A shard is an ArrayRecord file of 16-bit FLAC records, which can be read one by one. Samples beyond full scale are
clipped.
"""

from __future__ import annotations

import dataclasses
import errno
import functools
import io
import os
import shutil
import sys
from collections.abc import Iterable
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as compute
import soundfile
from tqdm import tqdm

from sfjax import audio
from sfjax.data import decode, manifest
from sfjax.data.manifest import Manifest
from sfjax.errors import UserError

pc: Any = compute  # pyarrow adds its functions at import, where type checkers do not see them


class Crop(NamedTuple):
    """A part of a recording, in samples of its file."""

    path: str
    start: int
    frames: int


NAME = r".+-\d{5}-of-\d{5}\.arrayrecord"  # of a shard


def write(found: Manifest, dest: Path, *, rate: int, hours: float, workers: int) -> Manifest:
    """Copy the sound of every row into shards of `hours` hours at `rate` Hz and return the rows that point there.

    The shards are `STEM.shards/STEM-00000-of-00012.arrayrecord` beside `dest`, the file that the returned rows are for;
    `found` must be in the same folder. Each row is one record, even if several rows share a file, and its noisy
    recording is another record. All other columns are kept; a row without a `name` gets its former path as the name.
    The folder appears when it is complete; it then replaces an earlier folder, and the earlier `dest`, which points
    there, is removed. Raises `UserError` for mixtures, whose sources are recordings of other rows, if a recording
    cannot be read, and if the shards cannot be written.
    """
    if not hours > 0:
        raise UserError(f"{dest}: a shard must have more than 0 hours, got {hours:g}; 2 is usual")
    if workers < 1:
        raise UserError(f"writing shards needs at least one worker, got {workers}")
    if "sources" in found.columns:
        raise UserError(f"{dest}: a list of mixtures cannot have shards; make shards of the speech that it mixes")
    if Path(found.folder) != dest.parent:
        raise UserError(f"{dest}: must be in the folder of its rows, got rows in {found.folder}; choose this folder")
    numbers = np.unique((np.cumsum(found.seconds) - found.seconds) // (hours * 3600), return_inverse=True)[1]
    count = int(numbers[-1]) + 1
    folder = dest.with_name(f"{dest.stem}.shards")
    shards: dict[str, list[Crop]] = {f"{dest.stem}-{i:05d}-of-{count:05d}.arrayrecord": [] for i in range(count)}
    names = list(shards)
    new_paths: dict[str, list[str | None]] = {name: [] for name in ("path", "noisy") if name in found.columns}
    old_paths = {name: found.table.column(name).to_pylist() for name in new_paths}
    starts, frames = found.table.column("start").to_pylist(), found.frames.tolist()
    for row, number in enumerate(numbers):
        records = shards[names[number]]
        for column, paths in new_paths.items():
            path = old_paths[column][row]
            paths.append(f"{folder.name}/{names[number]}#{len(records)}" if path else None)
            if path:
                records.append(Crop(os.path.join(found.folder, path), starts[row], frames[row]))
    _write_shards(shards, folder, dest, rate=rate, workers=workers)
    return _with_paths(found, new_paths, rate)


def _write_shards(shards: dict[str, list[Crop]], folder: Path, dest: Path, *, rate: int, workers: int) -> None:
    unfinished = folder.with_name(f".{folder.name}.part")
    try:
        shutil.rmtree(unfinished, ignore_errors=True)  # of a run that was killed
        unfinished.mkdir(parents=True)
        with decode.mapping(workers) as apply:
            for name, crops in tqdm(shards.items(), desc="sharding", unit="shard", file=sys.stderr):
                with manifest.replacing(unfinished / name) as path:
                    _fill(path, apply(functools.partial(_flac, rate=rate), crops))
        if folder.exists():
            dest.unlink(missing_ok=True)
            shutil.rmtree(folder)
        unfinished.rename(folder)
    except OSError as error:
        reason = error.strerror or error
        raise UserError(f"{folder}: could not be written ({reason}); free space or choose another path") from None
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def _fill(path: Path, records: Iterable[bytes]) -> None:
    from array_record.python.array_record_module import ArrayRecordWriter

    try:
        writer = ArrayRecordWriter(str(path), "group_size:1,uncompressed")  # FLAC is compressed already
        for record in records:
            writer.write(record)
        writer.close()
    except BrokenProcessPool:
        raise
    except RuntimeError as error:
        raise OSError(errno.EIO, str(error).partition(";")[0]) from None


def _flac(crop: Crop, rate: int) -> bytes:
    wav, _ = audio.read(crop.path, start=crop.start, frames=crop.frames, rate=rate)
    # rounded here, because libsndfile would scale by 2**15 - 1
    integers = np.clip(np.rint(wav * 2.0**15), -(2**15), 2**15 - 1).astype(np.int16)
    out = io.BytesIO()
    soundfile.write(out, integers, rate, format="FLAC", subtype="PCM_16")
    return out.getvalue()


def _with_paths(rows: Manifest, new_paths: dict[str, list[str | None]], rate: int) -> Manifest:
    """Return the rows with new paths, by column, whose files hold just the utterance at `rate` Hz."""
    table, old_paths = rows.table, rows.table.column("path")
    columns = {name: pa.array(paths, pa.string()) for name, paths in new_paths.items()} | {
        "start": pa.array(np.zeros(len(rows), np.int64)),
        "frames": pa.array(-(-rows.frames * rate // rows.rates)),
        "rate": pa.array(np.full(len(rows), rate, np.int32)),
        "name": pc.coalesce(table.column("name"), old_paths) if "name" in rows.columns else old_paths,
    }
    for name, values in columns.items():
        index = table.schema.get_field_index(name)
        table = table.append_column(name, values) if index < 0 else table.set_column(index, name, values)
    return dataclasses.replace(rows, table=table)
