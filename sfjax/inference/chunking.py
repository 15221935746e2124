"""Cut recordings into overlapping chunks, and join the results with cross-fades."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Array, Float, Int

from sfjax.errors import UserError

STAGE = 2**0.5  # ratio of neighbouring lengths that programs are compiled for; padding is at most this factor


NO_VOICE = np.zeros(0, np.float32)


class Chunk(NamedTuple):
    """A piece of a recording: its samples at the model's rate, from sample `first` on; `last` marks the last piece.

    The model sees it behind the samples of `voice`, whose speaker it extracts.
    """

    first: int
    wave: Float[np.ndarray, " samples"]
    last: bool
    voice: Float[np.ndarray, " _"] = NO_VOICE


class ChunkBatch(NamedTuple):
    """Chunks as one padded batch, with their true lengths in samples and the number of the first frame of each.

    With the number, a frame's noise does not depend on the chunk that it lies in. `enrolled` is the number of frames of
    a voice before each chunk; `waves` and `lengths` include them.
    """

    waves: Float[Array, "batch samples"]
    lengths: Int[Array, " batch"]
    first: Int[Array, " batch"]
    enrolled: Int[Array, " batch"]


def cut(blocks: Iterable[np.ndarray], size: int, overlap: int, least: int) -> Iterator[Chunk]:
    """Cut a recording into chunks of `size` samples that overlap by `overlap`; the last one may be shorter.

    Raises `UserError` if the recording has fewer than `least` samples or is digital silence.
    """
    buffer, first, peak = np.zeros(0, np.float32), 0, 0.0
    for block in blocks:
        buffer = np.concatenate([buffer, block])
        peak = max(peak, float(np.abs(block).max(initial=0.0)))
        while len(buffer) > size:
            yield Chunk(first, buffer[:size], False)
            buffer, first = buffer[size - overlap :], first + size - overlap
    if first + len(buffer) < least:
        raise UserError(
            f"expected at least {least} samples at the model's rate, got {first + len(buffer)}; leave it out"
        )
    if peak == 0:
        raise UserError("expected speech, found digital silence; leave it out")
    yield Chunk(first, buffer, True)


def padded(frames: int, most: int) -> int:
    """Return the length to pad `frames` to: `most` divided by a power of `STAGE`, at least `frames`.

    Few lengths mean few programs to compile.
    """
    length = most
    while (shorter := -(-length // STAGE)) >= frames and shorter >= 50:
        length = int(shorter)
    return int(max(length, frames))


class Job:
    """A recording in work: `blocks` reads its samples, and `sink` gets the samples of its sources, cross-faded.

    Each source keeps its position in the output from chunk to chunk. `voice` is the enrolment of the speaker to
    extract (`sfjax.inference.enrolment`).
    """

    def __init__(
        self,
        name: str,
        blocks: Callable[[], Iterator[np.ndarray]],
        sink: Callable[[np.ndarray], Any],
        voice: Float[np.ndarray, " samples"] = NO_VOICE,
    ):
        self.name, self.blocks, self.sink, self.voice = name, blocks, sink, voice
        self.failure, self.overlap, self.tail = "", 0, np.zeros((1, 0), np.float32)

    def take(self, chunk: Chunk, wave: Float[np.ndarray, "sources samples"]) -> None:
        """Add the samples of the next chunk's sources."""
        if self.failure:
            return
        if chunk.first:
            wave = wave[list(_order(self.tail, wave[:, : self.overlap]))]
            rise = (np.arange(self.overlap, dtype=np.float32) + 0.5) / self.overlap
            faded = self.tail * (1 - rise) + wave[:, : self.overlap] * rise
            wave = np.concatenate([faded, wave[:, self.overlap :]], axis=1)
        if not chunk.last:
            wave, self.tail = wave[:, : -self.overlap], wave[:, -self.overlap :]
        try:
            self.put(wave, chunk.last)
        except UserError as error:
            self.fail(str(error))

    def put(self, wave: np.ndarray, last: bool) -> None:
        """Pass finished samples on."""
        self.sink(wave)

    def fail(self, reason: str) -> None:
        """End the job without a result."""
        self.failure = f"{self.name}: {reason}" if self.name not in reason else reason
        self.abandon()

    def abandon(self) -> None:
        """Remove incomplete results; the base class has none."""


def _order(before: np.ndarray, after: np.ndarray) -> tuple[int, ...]:
    """Match the sources of two chunks by their correlation over the samples that both chunks hold.

    Returns the number in `after` of each source in `before`.
    """
    correlation = before @ after.T
    orders = itertools.permutations(range(len(before)))
    return max(orders, key=lambda order: sum(correlation[pair] for pair in enumerate(order)))
