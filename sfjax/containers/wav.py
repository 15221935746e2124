"""Open WAV files whose header states less sound than they hold, as a recorder leaves them that was switched off."""

from __future__ import annotations

import mmap
import struct
from typing import NamedTuple

from sfjax.containers import BadSound

SLOPPY = 1024  # bytes after the sound that are ignored if they are no chunks
SECOND = (b"RIFF", b"RF64", b"RIFX", b"data")  # a chunk that begins further sound
UNKNOWN = 2**32 - 1  # the size of a chunk whose true size is in the chunk ds64, or was never known


class Data(NamedTuple):
    """Where the sound of a WAV file begins, the bytes that its header states, and where this number is written."""

    start: int
    stated: int
    size_at: int
    size_format: str  # of `struct`


def is_wav(content: bytes | mmap.mmap) -> bool:
    """Return whether the content begins as a WAV file."""
    return content[:4] in (b"RIFF", b"RF64", b"RIFX") and content[8:12] == b"WAVE"


def repaired(content: bytes | mmap.mmap) -> tuple[bytearray | mmap.mmap, str] | None:
    """Return the content with the length that the sound has, and a note on it; None if the header is right.

    A memory map must be open with ACCESS_COPY: it is changed in memory. Raises `BadSound` if a second recording
    follows, which libsndfile would not read.
    """
    data = _data(content)
    if data is None or data.stated >= len(content) - data.start:
        return None
    end = data.start + data.stated + data.stated % 2
    if data.stated and not _is_sound(content, end):
        return None
    if not data.stated and not _is_sound(content, data.start):
        return None
    length = len(content) - data.start
    fixed = bytearray(content) if isinstance(content, bytes) else content
    struct.pack_into(data.size_format, fixed, data.size_at, min(length, UNKNOWN - 1))
    return fixed, f"its header states {data.stated} bytes of sound, but it holds {length}; all of them are read"


def _data(content: bytes | mmap.mmap) -> Data | None:
    """Find the sound; None if there is none."""
    order = ">" if content[:4] == b"RIFX" else "<"
    position, ds64 = 12, None
    while position + 8 <= len(content):
        name = content[position : position + 4]
        (size,) = struct.unpack(f"{order}I", content[position + 4 : position + 8])
        if name == b"ds64" and position + 24 <= len(content):
            ds64 = position + 16
        if name == b"data":
            if ds64 is not None and size == UNKNOWN:
                (size,) = struct.unpack("<Q", content[ds64 : ds64 + 8])
                return Data(position + 8, size, ds64, "<Q")
            return Data(position + 8, size, position + 4, f"{order}I")
        position += 8 + size + size % 2
    return None


def _is_sound(content: bytes | mmap.mmap, position: int) -> bool:
    """Return whether the rest of a file is more sound, and neither chunks, padding nor a few bytes."""
    order = ">" if content[:4] == b"RIFX" else "<"
    start = position
    while position + 8 <= len(content):
        name = content[position : position + 4]
        (size,) = struct.unpack(f"{order}I", content[position + 4 : position + 8])
        if name in SECOND and size:
            raise BadSound("holds a second recording after the first; split the file, and read its parts")
        if not all(32 <= byte < 127 for byte in name) or position + 8 + size > len(content):
            break
        position += 8 + size + size % 2
    else:
        return False
    rest = content[position : position + 2**20]
    return position == start and len(rest) > SLOPPY and any(rest)
