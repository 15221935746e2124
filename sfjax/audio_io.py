"""Open sound files and check their names, also inside of shards and Parquet files.

The path of a recording is the path of a sound file, or `FILE#N`: record N of an ArrayRecord file (`*.arrayrecord`) of
encoded sound, or row N of a Parquet file (`*.parquet`) with a column of encoded sound as Hugging Face's `datasets`
writes it. An existing file with the name `FILE#N` takes precedence.
"""

from __future__ import annotations

import builtins
import contextlib
import errno
import functools
import io
import mmap
import os
import re
import shutil
import sys
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import soundfile

from sfjax.containers import BadSound, foreign, mp3, ogg, wav
from sfjax.containers.lossy import Chain, Lossy
from sfjax.errors import UserError

CONTAINERS = {".wav": "WAV", ".flac": "FLAC", ".ogg": "OGG", ".opus": "OGG", ".mp3": "MP3"}  # by suffix
SUFFIXES = (*CONTAINERS, *foreign.SUFFIXES)  # of files that are read as recordings
SPARE = 2**16  # bytes: a disk with less free space is full
RATES = (1000, 768_000)  # lowest and highest sample rate in Hz
INSIDE = re.compile(r"(.+\.(?:arrayrecord|parquet))#(\d+)", re.DOTALL)
READERS, FOOTERS = 128, 64  # how many ArrayRecord readers (open files) and Parquet footers a process caches


def check_suffix(path: str | os.PathLike) -> str:
    """Return the container of a name's suffix. Raises `UserError` if it is unknown."""
    suffix = Path(path).suffix.lower()
    if suffix not in CONTAINERS:
        raise UserError(f"{path}: expected a name that ends in {', '.join(CONTAINERS)}, got {suffix or 'no suffix'}")
    return CONTAINERS[suffix]


def walk(
    folder: str | os.PathLike, *, suffixes: tuple[str, ...] = SUFFIXES, excluded: str | os.PathLike | None = None
) -> list[tuple[Path, str | None]]:
    """List every path below a folder, sorted, with "" for a file of `suffixes`, a reason if unreadable, else None.

    All commands take the files of a folder from here. Hidden files and folders do not count (`.Trash-0`,
    `.ipynb_checkpoints`, `._x.wav`), and neither does the folder `excluded`. Links to files and folders are followed,
    at any depth; a folder is entered once, by its own path rather than by a link.
    """
    paths: list[tuple[Path, str | None]] = []
    folders, links = [Path(folder)], list[Path]()
    entered = identity(excluded) if excluded is not None else set()
    while folders or links:
        directory = folders.pop() if folders else links.pop(0)
        if (folder_identity := identity(directory)) & entered:
            continue
        entered |= folder_identity
        try:
            names = sorted(os.listdir(directory))
        except OSError as error:
            paths.append((directory, f"not readable ({error.strerror}); change its permissions or leave it out"))
            continue
        for name in names:
            path = directory / name
            if not name.startswith(".") and path.is_dir():
                (links if path.is_symlink() else folders).append(path)
            else:
                counts = not name.startswith(".") and path.suffix.lower() in suffixes
                paths.append((path, "" if counts else None))
    return sorted(paths, key=lambda item: item[0])


def identity(path: str | os.PathLike) -> set[tuple[int, int]]:
    """Return a set with the device and inode of a path, the same under all its names; empty if it does not exist."""
    try:
        status = os.stat(path)
    except OSError:
        return set()
    return {(status.st_dev, status.st_ino)}


def recordings(folder: Path) -> dict[str, Path]:
    """List the sound files below a folder, by relative path without suffix. Raises `UserError` if two share one.

    A folder in it that cannot be read is an error too.
    """
    if not folder.is_dir():
        raise UserError(f"{folder}: expected a folder of recordings, found none; check the path")
    by_name: dict[str, Path] = {}
    for path, reason in walk(folder):
        if reason:
            raise UserError(f"{path}: {reason}")
        if reason is None:
            continue
        name = path.relative_to(folder).with_suffix("").as_posix()
        if name in by_name:
            raise UserError(f"{by_name[name]} and {path} have the same name; keep one of them")
        by_name[name] = path
    return by_name


def open(path: str | os.PathLike) -> soundfile.SoundFile | Chain:
    """Open a recording. Raises `UserError` if there is none, or no sound in it that can be read to its end."""
    inside = None if os.path.isfile(path) else INSIDE.fullmatch(os.fspath(path))
    if inside is None and not os.path.isfile(path):
        if os.path.exists(path) and not os.path.isdir(path):
            raise UserError(f"{path}: expected a sound file, found a pipe or a device; write its sound to a file")
        kind = "a folder" if os.path.isdir(path) else "nothing"
        raise UserError(f"{path}: expected a sound file, found {kind}; check the path")
    try:
        if inside is None:
            file = _open_content(path, _content(path), raw_name(path))
        else:
            encoded = _encoded(inside[1], int(inside[2]))
            file = _open_content(path, encoded, io.BytesIO(encoded))
    except LookupError as error:
        raise UserError(f"{path}: {error.args[0]}") from None
    except BadSound as error:
        raise UserError(f"{path}: {error}") from None
    except (soundfile.LibsndfileError, OSError, TypeError) as error:
        reason = getattr(error, "error_string", None) or str(error)
        raise UserError(
            f"{path}: not readable as sound ({reason.strip().rstrip('.')}); convert it to WAV, FLAC, Ogg, Opus or MP3"
        ) from None
    if wrong := _wrong_header(file):
        file.close()
        raise UserError(f"{path}: {wrong}")
    return file


def _content(path: str | os.PathLike) -> bytes | mmap.mmap:
    """Map a file into memory; changes to the map are not written. Raises `BadSound` if the file cannot be read."""
    try:
        with builtins.open(path, "rb") as file:
            try:
                return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
            except (OSError, ValueError):  # an empty file, or a file system without maps
                return file.read()
    except OSError as error:
        raise BadSound(f"not readable ({error.strerror}); change its permissions or leave it out") from None


def _open_content(path: str | os.PathLike, content: bytes | mmap.mmap, source: Any) -> soundfile.SoundFile | Chain:
    """Open the sound in `content`, which `source` holds too, as a path in bytes or as a file."""
    start = mp3.skip_tags(content, 0)
    if wav.is_known(content):
        if repaired := wav.repaired(content):
            fixed, note = repaired
            _note(os.fspath(path), note)
            file: Any = io.BytesIO(fixed) if isinstance(fixed, bytearray) else _MappedFile(fixed)
            return soundfile.SoundFile(file)
        return soundfile.SoundFile(source)
    if content[:4] == b"OggS":
        return ogg.open(content, source)
    if mp3.is_mp3(content):
        return mp3.open(content, source)
    if name := foreign.kind(content[start : start + 12]):
        if not isinstance(source, bytes):
            raise BadSound(f"is {name} inside another file; write it to a file, or convert it to FLAC")
        return foreign.open(path, name)
    file = soundfile.SoundFile(source)
    if file.format == "MP3":  # after bytes that are no tag
        file.close()
        return mp3.open(content, source)
    return file


class _MappedFile(io.RawIOBase):
    """A memory map as a binary file. A seek beyond its end, as a damaged header causes, is no error, as in a file."""

    def __init__(self, content: mmap.mmap):
        self.content, self.position = content, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self.position

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        origin = {os.SEEK_SET: 0, os.SEEK_CUR: self.position, os.SEEK_END: len(self.content)}[whence]
        self.position = max(0, origin + offset)
        return self.position

    def readinto(self, buffer: Any, /) -> int:
        piece = self.content[self.position : self.position + len(buffer)]
        buffer[: len(piece)] = piece
        self.position += len(piece)
        return len(piece)


def raw_name(path: str | os.PathLike) -> Any:
    """Return a path as bytes: soundfile encodes a str as UTF-8, which fails for some names; its types omit bytes."""
    return os.fsencode(path)


def write_error(path: str | os.PathLike, reason: str) -> UserError:
    """Return the error of a sound file that could not be written; libsndfile has no reason for a full disk."""
    cause = reason.strip().rstrip(".")
    if cause not in map(os.strerror, errno.errorcode):
        with contextlib.suppress(OSError):
            if shutil.disk_usage(os.path.dirname(os.path.abspath(path))).free < SPARE:
                cause = os.strerror(errno.ENOSPC)
    return UserError(f"{path}: could not be written ({cause}); free space, or choose another folder or format")


def skip(file: soundfile.SoundFile | Chain, samples: int) -> None:
    """Move from the start of a file to a sample. Encodings such as GSM 6.10 cannot seek: they are read up to there."""
    if file.seekable() or isinstance(file, Lossy | Chain):
        file.seek(samples)
        return
    for done in range(0, samples, 2**16):
        file.read(min(2**16, samples - done), dtype="float32")


@functools.lru_cache(maxsize=4096)
def _note(path: str, text: str) -> None:
    """Print a note on a file on standard error, once in a process."""
    print(f"{path}: {text}", file=sys.stderr)


def _wrong_header(file: soundfile.SoundFile | Chain) -> str:
    """Return what is wrong with a header and what to do, or an empty string."""
    if file.frames > 2**48:  # libsndfile's length of a FLAC that was written to a pipe
        return "does not state its length; write it again to a file"
    low, high = RATES
    if not low <= file.samplerate <= high:
        return f"expected a sample rate from {low} to {high} Hz, found {file.samplerate}; correct its header"
    return ""


def check_single(path: str | os.PathLike) -> None:
    """Raise `UserError` if a file joins several FLAC recordings: libsndfile reads only the first.

    Searches the whole file, so a reader of crops does not call it.
    """
    if not os.path.isfile(path):
        return
    try:
        content = _content(path)
    except BadSound as error:
        raise UserError(f"{path}: {error}") from None
    start = mp3.skip_tags(content, 0)
    if content[start : start + 4] == b"fLaC" and any(
        content.find(mark, start + 4) >= 0 for mark in (b"fLaC\0\0\0\x22", b"fLaC\x80\0\0\x22")
    ):
        raise UserError(f"{path}: joins several FLAC recordings; split the file, and read its parts")


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
