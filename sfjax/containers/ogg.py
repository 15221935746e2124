"""Open chained Ogg files: several recordings one after the other (RFC 3533, section 4; RFC 7845, section 7)."""

from __future__ import annotations

import io
import mmap
import re
from typing import Any

import soundfile

from sfjax.containers import BadSound
from sfjax.containers.lossy import Chain, Lossy

FIRST = re.compile(rb"OggS\x00[\x02\x06].{8}", re.DOTALL)  # a page that begins a stream
FLAG = 5  # the byte of a page header with the flag for the first page of a stream


def open(content: bytes | mmap.mmap, source: Any) -> Lossy | Chain:
    """Open an Ogg file, with all its links as one recording; `source` is the name of the file or the file.

    Raises `BadSound` if the links differ in sample rate or channels, or if one of them is no sound.
    """
    candidates = [match.start() for match in FIRST.finditer(content)]
    starts = _links(content) if len(candidates) > 1 else []
    if len(starts) < 2:
        return Lossy(source)
    parts: list[Lossy] = []
    for start, end in zip(starts, [*starts[1:], len(content)], strict=True):
        try:
            parts.append(Lossy(io.BytesIO(content[start:end])))
        except soundfile.LibsndfileError as error:
            for part in parts:
                part.close()
            reason = error.error_string.strip().rstrip(".")
            raise BadSound(
                f"chains {len(starts)} Ogg recordings; number {len(parts) + 1} is not readable ({reason}); "
                "convert each part to WAV"
            ) from None
    return Chain(parts)


def _links(content: bytes | mmap.mmap) -> list[int]:
    """Return where each link begins: at a first page that follows other pages than first pages."""
    starts, position, among_first = [], 0, False
    while position >= 0:
        if content[position : position + 4] != b"OggS" or position + 27 > len(content):
            position = content.find(b"OggS", position + 1)  # damaged, or other data between the links
            continue
        is_first = bool(content[position + FLAG] & 2)
        if is_first and not among_first:
            starts.append(position)
        among_first = is_first
        segments = content[position + 26]
        position += 27 + segments + sum(content[position + 27 : position + 27 + segments])
    return starts
