"""Open MP3 files whose header does not state their length, and files that were joined.

libsndfile reads MP3 with mpg123, which takes the number of frames from a Xing header. Without one it guesses from the
first frame: the end of a file of variable bit rate is then lost, or samples are expected that do not exist. It reads
only the first of joined files. So this module counts the frames by their four-byte headers (ISO 11172-3 and 13818-3),
and gives libsndfile the same frames behind a Xing header with their number. Python libraries that count the frames of
joined files need ffmpeg.
"""

from __future__ import annotations

import dataclasses
import functools
import io
import mmap
from typing import Any, NamedTuple

from sfjax.containers import BadSound
from sfjax.containers.lossy import Chain, Lossy

Content = bytes | mmap.mmap

LAYER_3 = 3
XING = (b"Xing", b"Info")
DECODER_DELAY = 529  # samples
KBITS = {  # bit rates by MPEG-1 or not, and layer, in kbit/s; index 0 is "free", 15 is invalid
    (True, 1): (0, 32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
    (True, 2): (0, 32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (True, 3): (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (False, 1): (0, 32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    (False, 2): (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    (False, 3): (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
RATES = {3: (44_100, 48_000, 32_000), 2: (22_050, 24_000, 16_000), 0: (11_025, 12_000, 8_000)}  # Hz, by version


class Header(NamedTuple):
    """The fields of a frame's header; `length` is in bytes, 0 if it is not stated ("free")."""

    rate: int
    channels: int
    version: int
    layer: int
    length: int

    @property
    def kind(self) -> tuple[int, int, int, int]:
        """The fields that all frames of a stream share."""
        return self[:4]

    @property
    def samples(self) -> int:
        """Samples of a frame."""
        return 384 if self.layer == 1 else 576 if self.layer == LAYER_3 and self.version != 3 else 1152

    @property
    def side_info(self) -> int:
        """Bytes of a layer 3 frame before its data: header and side information."""
        narrow, wide = (17, 32) if self.version == 3 else (9, 17)
        return 4 + (narrow if self.channels == 1 else wide)


@dataclasses.dataclass
class Stream:
    """The frames of one recording: its first header, the position of its Xing header, and [start, end) of the others.

    `runs` joins frames without a gap between them; `count` is their number.
    """

    first: Header
    xing: int | None = None
    runs: list[tuple[int, int]] = dataclasses.field(default_factory=list)
    count: int = 0

    def add(self, start: int, end: int) -> None:
        """Append a frame."""
        self.count += 1
        if self.runs and self.runs[-1][1] == start:
            start, _ = self.runs.pop()
        self.runs.append((start, end))


class Stated(NamedTuple):
    """What a Xing header states: audio frames, and bytes with the header, 0 if it does not state them."""

    frames: int
    bytes: int


def is_mp3(content: Content) -> bool:
    """Return whether the content begins with an MPEG audio frame, after ID3 tags."""
    return _header(content, skip_tags(content, 0)) is not None


def skip_tags(content: Content, position: int) -> int:
    """Return the position after the ID3v2 tags that begin at `position`."""
    while content[position : position + 3] == b"ID3" and len(content) >= position + 10:
        size = functools.reduce(lambda total, byte: total << 7 | byte & 127, content[position + 6 : position + 10], 0)
        position += 10 + size
    return position


def open(content: Content, source: Any) -> Lossy | Chain:
    """Open an MP3 file so that it is read to its end; `source` is the name of the file or the file.

    Each of several joined files loses the delay that its Xing header states. Raises `BadSound` if the frames have
    different sample rates or channels, or an unknown length.
    """
    start = skip_tags(content, 0)
    header = _header(content, start)
    stated = None if header is None else _stated(content, start, header)
    if stated is not None and stated.bytes and not _scan(content, start + stated.bytes, header):
        return Lossy(source)
    streams = [stream for stream in _scan(content, start, None) if stream.count]
    if not streams or (len(streams) == 1 and _is_right(content, streams[0])):
        return Lossy(source)
    parts = [_open_stream(content, stream) for stream in streams]
    return parts[0] if len(parts) == 1 else Chain(parts)


def _open_stream(content: Content, stream: Stream) -> Lossy:
    runs = stream.runs
    if _is_right(content, stream) and stream.xing is not None:
        lead, runs = b"", [(stream.xing, stream.runs[0][0]), *runs]
    else:
        lead = _lead(content, stream) if stream.first.layer == LAYER_3 else b""
    file = Lossy(io.BytesIO(b"".join([lead, *(content[start:end] for start, end in runs)])))
    if not lead and stream.xing is None and file.frames < (stream.count - 1) * stream.first.samples:
        file.close()
        raise BadSound("is MPEG audio of layer 1 or 2 with a variable bit rate; convert it to WAV or FLAC")
    return file


def _is_right(content: Content, stream: Stream) -> bool:
    """Return whether a stream has a Xing header that states its frames, or more frames: it is cut short then."""
    stated = None if stream.xing is None else _stated(content, stream.xing, stream.first)
    # some encoders count the header itself
    return stated is not None and stated.frames != stream.count + 1 and stated.frames >= stream.count


@functools.lru_cache(maxsize=4096)
def _parsed(first: int, second: int, third: int) -> Header | None:
    """Parse the last three bytes of a frame's header; None if they are no header."""
    version, layer = first >> 3 & 3, 4 - (first >> 1 & 3)
    bits, rate_index, padding = second >> 4, second >> 2 & 3, second >> 1 & 1
    if first < 0xE0 or version == 1 or layer == 4 or bits == 15 or rate_index == 3:
        return None
    rate, kbits = RATES[version][rate_index], KBITS[version == 3, layer][bits]
    header = Header(rate, 1 if third >> 6 == 3 else 2, version, layer, 0)
    if not kbits:
        return header
    if layer == 1:
        return header._replace(length=(12_000 * kbits // rate + padding) * 4)
    return header._replace(length=header.samples // 8 * 1000 * kbits // rate + padding)


def _header(content: Content, position: int) -> Header | None:
    if len(content) < position + 4 or content[position] != 0xFF:
        return None
    return _parsed(*content[position + 1 : position + 4])


def _stated(content: Content, start: int, header: Header) -> Stated | None:
    """Read the Xing header of the frame at `start`; None if there is none, or if it states no number of frames."""
    position = start + header.side_info
    flags = int.from_bytes(content[position + 4 : position + 8], "big")
    if header.layer != LAYER_3 or content[position : position + 4] not in XING or not flags & 1:
        return None
    numbers = content[position + 8 : position + 16]
    return Stated(int.from_bytes(numbers[:4], "big"), int.from_bytes(numbers[4:], "big") if flags & 2 else 0)


def _scan(content: Content, position: int, expected: Header | None) -> list[Stream]:
    """Find all frames from `position` on; other data between them, such as tags, is passed over.

    A stream begins at each Xing header. With `expected`, the first stream has its header. Raises `BadSound` if the
    frames are not all of one kind.
    """
    streams: list[Stream] = []
    first, synchronous = expected, False
    while 0 <= position <= len(content) - 4:
        header = _header(content, position)
        if header is None or not (synchronous or _follows(content, position, header)):
            # two bytes alone may be anything, so a second frame must follow
            position, synchronous = _next_candidate(content, position), False
            continue
        if not header.length:
            raise BadSound("is MPEG audio of free bit rate, whose length cannot be read; convert it to WAV or FLAC")
        first, end = first or header, position + header.length
        if header.kind != first.kind:
            raise BadSound(
                f"joins MP3s of {first.rate} Hz with {first.channels} channels and of {header.rate} Hz with "
                f"{header.channels}; convert each part to WAV"
            )
        if end > len(content):
            break  # the last frame is cut off
        if _holds_no_sound(content, position, header):
            streams.append(Stream(header, position))
        else:
            streams = streams or [Stream(header)]
            streams[-1].add(position, end)
        position, synchronous = end, True
    return streams


def _next_candidate(content: Content, position: int) -> int:
    """Return the next position that may begin a frame, -1 if there is none."""
    after_tags = skip_tags(content, position)
    return after_tags if after_tags > position else content.find(b"\xff", position + 1)


def _holds_no_sound(content: Content, position: int, header: Header) -> bool:
    """Return whether a frame has a header for the whole stream in place of sound."""
    tag = position + header.side_info
    return header.layer == LAYER_3 and (
        content[tag : tag + 4] in XING or content[position + 36 : position + 40] == b"VBRI"
    )


def _follows(content: Content, position: int, header: Header) -> bool:
    """Return whether a frame of the same stream, a tag or the end follows the frame at `position`."""
    if not header.length:
        return False
    end = position + header.length
    following = _header(content, end)
    return (
        end == len(content)
        or content[end : end + 3] in (b"TAG", b"ID3", b"APE")
        or (following is not None and following.kind == header.kind)
    )


def _lead(content: Content, stream: Stream) -> bytes:
    """Return two frames to put before the others: a Xing header with their number, and silence.

    mpg123 drops the first 529 samples of a stream whose length it knows, and the delay that the encoder states; the
    delay here makes both together the frame of silence.
    """
    _, first, second, third = content[stream.runs[0][0] : stream.runs[0][0] + 4]
    first |= 1  # no checksum
    for bits in range(1, 15):
        header = _parsed(first, bits << 4 | second & 0x0C, third)
        assert header is not None
        if header.length >= header.side_info + 48:
            break
    start = bytes([0xFF, first, bits << 4 | second & 0x0C, third]).ljust(header.side_info, b"\0")
    delay = header.samples - DECODER_DELAY << 12  # two numbers of 12 bits: delay and padding
    encoder = b"LAME3.100".ljust(21, b"\0") + delay.to_bytes(3, "big")
    xing = b"Xing" + (1).to_bytes(4, "big") + (stream.count + 1).to_bytes(4, "big") + encoder
    return (start + xing).ljust(header.length, b"\0") + start.ljust(header.length, b"\0")
