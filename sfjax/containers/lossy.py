"""Read lossy files, alone or several one after the other, with the same samples for any blocks and crops."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import soundfile
from jaxtyping import Shaped

from sfjax.containers import BadSound

PREROLL = 2**15  # samples: at least 20 frames of an MP3, and 0.6 s of Opus


class Lossy(soundfile.SoundFile):
    """An MP3 or Ogg file whose samples do not depend on the blocks in which it is read.

    soundfile seeks after each read, and a decoder needs what comes before. mpg123 decodes a few frames before the
    position, but a frame may need bits of up to 511 bytes before it, which are 20 frames at the lowest bit rate;
    libsndfile's Opus is wrong after a seek to the last page. So this class does not seek after a read, and decodes
    `PREROLL` samples before a position.
    """

    def seekable(self) -> bool:
        """Return False, so that a read does not seek."""
        return False

    def seek(self, frames: int, whence: int = 0) -> int:
        """Move to a sample, counted from the start."""
        start = max(frames - PREROLL, 0)
        super().seek(start, whence)
        self.read(frames - start, dtype="float32")
        return frames


class Chain:
    """The `parts` of a file as one recording. Raises `BadSound` if their rates or channels differ."""

    def __init__(self, parts: Sequence[Lossy]):
        kinds = list(dict.fromkeys((part.samplerate, part.channels) for part in parts))
        if len(kinds) > 1:
            for part in parts:
                part.close()
            (rate, channels), (other_rate, other_channels) = kinds[:2]
            raise BadSound(
                f"joins recordings of {rate} Hz with {channels} channels and of {other_rate} Hz with {other_channels}; "
                "convert each part to WAV"
            )
        first = parts[0]
        self.parts, self.position = list(parts), 0
        self.frames = sum(part.frames for part in parts)
        self.samplerate, self.channels, self.comment = first.samplerate, first.channels, ""
        self.format, self.subtype, self.extra_info = first.format, first.subtype, first.extra_info

    def seekable(self) -> bool:
        """Return False, as `Lossy` does."""
        return False

    def seek(self, frames: int) -> int:
        """Move to a sample, counted from the start."""
        self.position = frames
        return frames

    def read(self, frames: int, *, dtype: Any, always_2d: bool = True) -> Shaped[np.ndarray, "samples channels"]:
        """Read up to `frames` samples [samples, channels]."""
        pieces: list[Any] = [np.zeros((0, self.channels), dtype)]
        start = 0
        for part in self.parts:
            first, end = max(self.position - start, 0), min(self.position + frames - start, part.frames)
            if first < end:
                if part.tell() != first:
                    part.seek(first)
                pieces.append(part.read(end - first, dtype=dtype, always_2d=True))
                if len(pieces[-1]) < end - first:
                    break  # cut short
            start += part.frames
        block = np.concatenate(pieces)
        self.position += len(block)
        return block

    def close(self) -> None:
        """Close all parts."""
        for part in self.parts:
            part.close()

    def __enter__(self) -> Chain:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
