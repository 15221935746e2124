"""Check the length in the header of WAV, W64, AIFF, CAF and AU files against the sound that they hold.

A recorder that was switched off leaves a header that states less, a broken copy one that states more.
"""

from __future__ import annotations

import mmap
import struct
from typing import NamedTuple

from sfjax.containers import BadSound

SLOPPY = 1024  # bytes that a file may have less than its header states, or after the sound, if they are no chunks
SECOND = (b"RIFF", b"RF64", b"RIFX", b"riff", b"FORM", b"data", b"SSND")  # a chunk that begins further sound
UNKNOWN = 2**32 - 1  # the size of a chunk whose true size is in the chunk ds64, or was never known
PIPED = 2**31 - 2**16  # a header that states more bytes than this was written to a pipe, before the length was known
W64 = bytes.fromhex("f3acd3118cd100c04f8edb8a")  # the end of the names of chunks in a W64
W64_FILE = bytes.fromhex("2e91cf11a5d628db04c10000")  # and of the name that begins the file


class Layout(NamedTuple):
    """The chunks of a container: position of the first, bytes of a name, format of a size, and bytes of a head.

    `counted` bytes of the head are part of the size. A chunk begins at a `multiple` of bytes after the first. The
    chunk `sound` has `inside` bytes before the sound.
    """

    first: int
    name: int
    size_format: str  # of `struct`
    counted: int
    multiple: int
    sound: bytes
    inside: int


RIFF = Layout(first=12, name=4, size_format="<I", counted=0, multiple=2, sound=b"data", inside=0)
LAYOUTS = {
    b"RIFF": RIFF,
    b"RF64": RIFF,
    b"RIFX": RIFF._replace(size_format=">I"),
    b"FORM": RIFF._replace(size_format=">I", sound=b"SSND", inside=8),
    b"caff": Layout(first=8, name=4, size_format=">q", counted=0, multiple=1, sound=b"data", inside=4),
    b"riff": Layout(first=40, name=16, size_format="<Q", counted=24, multiple=8, sound=b"data" + W64, inside=0),
}
FORMS = {b"RIFF": b"WAVE", b"RF64": b"WAVE", b"RIFX": b"WAVE", b"FORM": b"AIF"}  # what the bytes from 8 begin with


class Data(NamedTuple):
    """Where the sound of a file begins, the bytes that its header states, and where and how this number is written.

    The number in the header is larger by `extra`.
    """

    start: int
    stated: int
    size_at: int
    size_format: str  # of `struct`
    extra: int


def is_known(content: bytes | mmap.mmap) -> bool:
    """Return whether the content begins as one of these files."""
    head = content[:4]
    if head == b"riff":
        return content[4:16] == W64_FILE
    form = FORMS.get(head)
    return content[8 : 8 + len(form)] == form if form else head in (b"caff", b".snd", b"dns.")


def repaired(content: bytes | mmap.mmap) -> tuple[bytearray | mmap.mmap, str] | None:
    """Return the content with the length that the sound has, and a note on it; None if the header is right.

    A memory map must be open with ACCESS_COPY: it is changed in memory. Raises `BadSound` if a second recording
    follows, which libsndfile would not read, or if the file is cut short.
    """
    data = _data(content)
    if data is None:
        return None
    held = len(content) - data.start
    if held + SLOPPY < data.stated < PIPED:
        raise BadSound(f"states {data.stated} bytes of sound, holds {max(held, 0)}; it is cut short, copy it again")
    if data.stated >= held:
        return None
    end = data.start + data.stated + data.stated % 2
    if not _is_sound(content, end if data.stated else data.start):
        return None
    fixed = bytearray(content) if isinstance(content, bytes) else content
    struct.pack_into(data.size_format, fixed, data.size_at, min(held + data.extra, UNKNOWN - 1))
    return fixed, f"its header states {data.stated} bytes of sound, but it holds {held}; all of them are read"


def _data(content: bytes | mmap.mmap) -> Data | None:
    """Find the sound; None if there is none."""
    layout = LAYOUTS.get(content[:4])
    if layout is None:  # AU has no chunks
        size_format = ">I" if content[:4] == b".snd" else "<I"
        if len(content) < 12:
            return None
        start, stated = (struct.unpack(size_format, content[at : at + 4])[0] for at in (4, 8))
        return Data(start, stated, 8, size_format, 0)
    position, ds64, head = layout.first, None, _head(layout)
    while position + head <= len(content):
        name, size = _chunk(content, position, layout)
        if name == b"ds64" and position + 24 <= len(content):
            ds64 = position + 16
        if name == layout.sound:
            if ds64 is not None and size == UNKNOWN:
                (size,) = struct.unpack("<Q", content[ds64 : ds64 + 8])
                return Data(position + head, size, ds64, "<Q", 0)
            extra, start = layout.inside + layout.counted, position + head + layout.inside
            stated = max(0, size - layout.inside)
            return Data(start, stated, position + layout.name, layout.size_format, extra)
        if size < 0:
            return None
        position += head + size + -size % layout.multiple
    return None


def _head(layout: Layout) -> int:
    """Return the bytes of the name and the size of a chunk."""
    return layout.name + struct.calcsize(layout.size_format)


def _chunk(content: bytes | mmap.mmap, position: int, layout: Layout) -> tuple[bytes, int]:
    """Return the name of a chunk, and the bytes after its head."""
    start = position + layout.name
    (size,) = struct.unpack(layout.size_format, content[start : position + _head(layout)])
    return content[position:start], size - layout.counted


def _is_sound(content: bytes | mmap.mmap, position: int) -> bool:
    """Return whether the rest of a file is more sound, and neither chunks, padding nor a few bytes."""
    layout, start = LAYOUTS.get(content[:4]), position
    while layout is not None and position + _head(layout) <= len(content):
        name, size = _chunk(content, position, layout)
        if name[:4] in SECOND and name[4:] in (b"", W64, W64_FILE) and size > 0:
            raise BadSound("holds a second recording after the first; split the file, and read its parts")
        is_name = all(32 <= byte < 127 for byte in name[:4]) and name[4:] in (b"", W64)
        if not is_name or not 0 <= size <= len(content) - position - _head(layout):
            break
        position += _head(layout) + size + -size % layout.multiple
    else:
        if layout is not None:
            return False
    rest = content[position : position + 2**20]
    return position == start and len(rest) > SLOPPY and any(rest)
