"""Open sound files and check their names, also inside of shards and Parquet files.

The path of a recording is the path of a sound file, or `FILE#N`: record N of an ArrayRecord file (`*.arrayrecord`) of
encoded sound, or row N of a Parquet file (`*.parquet`) with a column of encoded sound as Hugging Face's `datasets`
writes it. An existing file with the name `FILE#N` takes precedence.
"""

from __future__ import annotations

import functools
import io
import os
import re
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import soundfile

from sfjax.errors import UserError

CONTAINERS = {".wav": "WAV", ".flac": "FLAC", ".ogg": "OGG", ".opus": "OGG", ".mp3": "MP3"}  # by suffix
SUFFIXES = tuple(CONTAINERS)
SLOPPY = 1024  # bytes that a WAV may have less than its header states before it counts as cut short
PIPED = 2**31 - 2**16  # a header that states more bytes than this was written to a pipe, before the length was known
INSIDE = re.compile(r"(.+\.(?:arrayrecord|parquet))#(\d+)", re.DOTALL)
READERS, FOOTERS = 128, 64  # how many ArrayRecord readers (open files) and Parquet footers a process caches


def check_suffix(path: str | os.PathLike) -> str:
    """Return the container of a name's suffix. Raises `UserError` if it is unknown."""
    suffix = Path(path).suffix.lower()
    if suffix not in CONTAINERS:
        raise UserError(f"{path}: expected a name that ends in {', '.join(CONTAINERS)}, got {suffix or 'no suffix'}")
    return CONTAINERS[suffix]


def recordings(folder: Path) -> dict[str, Path]:
    """List the sound files below a folder, by relative path without suffix. Raises `UserError` if two share one."""
    if not folder.is_dir():
        raise UserError(f"{folder}: expected a folder of recordings, found none; check the path")
    by_name: dict[str, Path] = {}
    for path in sorted(folder.rglob("*")):
        if path.suffix.lower() not in SUFFIXES or path.name.startswith(".") or not path.is_file():
            continue
        name = path.relative_to(folder).with_suffix("").as_posix()
        if name in by_name:
            raise UserError(f"{by_name[name]} and {path} have the same name; keep one of them")
        by_name[name] = path
    return by_name


def open(path: str | os.PathLike) -> soundfile.SoundFile:
    """Open a recording. Raises `UserError` if there is none, or no readable sound in it."""
    inside = None if os.path.isfile(path) else INSIDE.fullmatch(os.fspath(path))
    if inside is None and not os.path.isfile(path):
        kind = "a folder" if os.path.isdir(path) else "nothing"
        raise UserError(f"{path}: expected a sound file, found {kind}; check the path")
    try:
        file = soundfile.SoundFile(path if inside is None else io.BytesIO(_encoded(inside[1], int(inside[2]))))
    except LookupError as error:
        raise UserError(f"{path}: {error.args[0]}") from None
    except (soundfile.LibsndfileError, PermissionError, TypeError) as error:
        reason = getattr(error, "error_string", None) or str(error)
        raise UserError(
            f"{path}: not readable as sound ({reason.strip().rstrip('.')}); convert it to WAV, FLAC, Ogg, Opus or MP3"
        ) from None
    if file.frames > 2**48:  # libsndfile's length of a FLAC that was written to a pipe
        file.close()
        raise UserError(f"{path}: does not state its length; write it again to a file")
    cut = re.search(r"^data : (\d+) \(should be (\d+)\)", file.extra_info, re.MULTILINE)  # from the log of a WAV
    if cut and int(cut[2]) + SLOPPY < int(cut[1]) < PIPED:
        file.close()
        raise UserError(f"{path}: states {cut[1]} bytes of sound, holds {cut[2]}; it is cut short, copy it again")
    return file


def _encoded(file: str, number: int) -> bytes:
    """Read the encoded sound of one record. Raises `LookupError` with the reason if it cannot."""
    try:
        stat = os.stat(file)
        # part of the cache's key: a file is opened again when it has changed, and after a fork
        stamp = (stat.st_ino, stat.st_mtime_ns, stat.st_size, os.getpid())
        return (_record if file.endswith(".arrayrecord") else _row)(file, stamp, number)
    except FileNotFoundError:
        raise LookupError(f"expected a file {os.path.basename(file)}, found nothing; check the path") from None
    except (RuntimeError, OSError, ValueError) as error:  # as array_record and Arrow raise them
        reason = str(error).partition("\n")[0].partition(";")[0].rstrip(". ") or type(error).__name__
        raise LookupError(f"{os.path.basename(file)} cannot be read ({reason}); copy or write it again") from None


def _record(file, stamp, number):
    reader = _reader(file, stamp)
    _check_number(file, number, reader.num_records(), "records")
    return reader.read([number])[0]


def _check_number(file: str, number: int, count: int, unit: str) -> None:
    if number >= count:
        raise LookupError(f"no such record; {os.path.basename(file)} has {count} {unit}, counted from 0")


@functools.lru_cache(maxsize=READERS)
def _reader(file: str, stamp: tuple) -> Any:
    from array_record.python.array_record_module import ArrayRecordReader

    # no read-ahead: the caller reads one record, so the library does not use its own threads, which a fork loses
    reader = ArrayRecordReader(file, "readahead_buffer_size:0,max_parallelism:0", file_reader_buffer_size=2**15)
    if not reader.ok():  # it raises no error for a file that is cut short or of another format
        raise ValueError("no ArrayRecord file, or cut short")
    return reader


def _row(file, stamp, number):
    footer = _footer(file, stamp)
    _check_number(file, number, int(footer.starts[-1]), "rows")
    group = int(np.searchsorted(footer.starts, number, "right")) - 1
    cell = _row_group(file, stamp, group)[number - int(footer.starts[group])].as_py()
    if cell is None or cell["bytes"] is None:
        raise LookupError(
            f"column {footer.column!r} is null here or names a file elsewhere; write the file with its sound as bytes"
        )
    return cell["bytes"]


class _Footer(NamedTuple):
    metadata: Any
    column: str
    starts: np.ndarray  # the first row of each row group, and the number of rows


@functools.lru_cache(maxsize=FOOTERS)
def _footer(file: str, stamp: tuple) -> _Footer:
    import pyarrow.parquet as pq

    metadata = pq.read_metadata(file)
    starts = np.cumsum([0, *(metadata.row_group(i).num_rows for i in range(metadata.num_row_groups))])
    return _Footer(metadata, column(metadata.schema.to_arrow_schema()), starts)


@functools.lru_cache(maxsize=1)  # a row group may be large, and most files are read in order, row by row
def _row_group(file: str, stamp: tuple, group: int) -> Any:
    """Read the encoded sound of a row group; the file is closed, so threads and processes cannot share it."""
    import pyarrow.parquet as pq

    footer = _footer(file, stamp)
    with pq.ParquetFile(file, metadata=footer.metadata) as source:
        table = source.read_row_group(group, columns=[f"{footer.column}.bytes"], use_threads=False)
    return table.column(footer.column)


def column(schema: Any) -> str:
    """Return the column of encoded sound in an Arrow schema: `audio` if it fits, or the first that fits.

    Its type must be struct<bytes: binary, path: string>, as `datasets` writes sound. Raises `LookupError` if no column
    fits.
    """
    from pyarrow import types

    def holds_sound(kind) -> bool:
        fields = {field.name: field.type for field in kind} if types.is_struct(kind) else {}
        binary = [name for name, type in fields.items() if types.is_binary(type) or types.is_large_binary(type)]
        return binary == ["bytes"] and "path" in fields

    names = [field.name for field in schema if holds_sound(field.type)]
    if not names:
        columns = ", ".join(schema.names)
        raise LookupError(f"expected a column audio of type struct<bytes: binary, path: string>, found only {columns}")
    return "audio" if "audio" in names else names[0]
