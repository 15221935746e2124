"""Cut recordings into overlapping chunks, and join the results with cross-fades."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Array, Float, Int

from sfjax.errors import UserError
from sfjax.inference.bandwidth import FULL

STAGE = 2**0.5  # ratio of neighbouring lengths that programs are compiled for; padding is at most this factor


NO_VOICE = np.zeros(0, np.float32)


class Chunk(NamedTuple):
    """A piece of a recording: its samples at the model's rate, from sample `first` on; `last` marks the last piece.

    The model sees it behind the samples of `voice`, whose speaker it extracts. Above `band` in Hz, a vocoder generates
    the result (`sfjax.inference.bandwidth`).
    """

    first: int
    wave: Float[np.ndarray, " samples"]
    last: bool
    voice: Float[np.ndarray, " _"] = NO_VOICE
    band: float = FULL


class ChunkBatch(NamedTuple):
    """Chunks as one padded batch, with their true lengths in samples and the number of the first frame of each.

    With the number, a frame's noise does not depend on the chunk that it lies in. `enrolled` is the number of frames of
    a voice before each chunk; `waves` and `lengths` include them. `bands` are the bands of the chunks in Hz.
    """

    waves: Float[Array, "batch samples"]
    lengths: Int[Array, " batch"]
    first: Int[Array, " batch"]
    enrolled: Int[Array, " batch"]
    bands: Float[Array, " batch"] | None = None


def cut(blocks: Iterable[np.ndarray], size: int, overlap: int, least: int) -> Iterator[Chunk]:
    """Cut a recording into chunks as `split` does.

    Raises `UserError` if the recording has fewer than `least` samples or is digital silence.
    """
    return split(_audible(blocks, least), size, overlap)


def _audible(blocks, least):
    samples, peak = 0, 0.0
    for block in blocks:
        samples, peak = samples + len(block), max(peak, float(np.abs(block).max(initial=0.0)))
        yield block
    if samples < least:
        raise UserError(f"expected at least {least} samples at the model's rate, got {samples}; leave it out")
    if peak == 0:
        raise UserError("expected speech, found digital silence; leave it out")


def split(blocks: Iterable[Float[np.ndarray, "_ ..."]], size: int, overlap: int) -> Iterator[Chunk]:
    """Split a recording into chunks of `size` samples that overlap by `overlap`; the last one may be shorter."""
    buffer, first = None, 0
    for block in blocks:
        buffer = block if buffer is None else np.concatenate([buffer, block])
        while len(buffer) > size:
            yield Chunk(first, buffer[:size], False)
            buffer, first = buffer[size - overlap :], first + size - overlap
    if buffer is not None:
        yield Chunk(first, buffer, True)


def padded(frames: int, most: int) -> int:
    """Return the length to pad `frames` to: `most` divided by a power of `STAGE`, at least `frames`.

    Few lengths mean few programs to compile.
    """
    length = most
    while (shorter := -(-length // STAGE)) >= frames and shorter >= 50:
        length = int(shorter)
    return int(max(length, frames))


class Sources(NamedTuple):
    """The sources of a chunk: waves at the model's rate, and gains of Mel bands if the waves are made by gains."""

    waves: Float[Array | np.ndarray, "*batch sources samples"]
    gains: Float[Array | np.ndarray, "*batch sources frames mels"] | None


class Job:
    """A recording in work: `blocks` reads it for the model, and `sink` gets the samples of its sources.

    These are the waves of the model, [sources, samples], or what `band_filter` makes of its gains, [sources, samples,
    channels]. Chunks are cross-faded. Each source keeps its position in the output from chunk to chunk.
    `voice` is the enrolment of the speaker to extract (`sfjax.inference.enrolment`), and `band` the band in Hz above
    which a vocoder generates the result (`sfjax.inference.bandwidth`).
    """

    def __init__(
        self,
        name: str,
        blocks: Callable[[], Iterator[np.ndarray]],
        sink: Callable[[np.ndarray], Any],
        band_filter: Callable[[np.ndarray, bool], np.ndarray] | None = None,
        voice: Float[np.ndarray, " _"] = NO_VOICE,
        band: float = FULL,
    ):
        self.name, self.blocks, self.sink = name, blocks, sink
        self.band_filter, self.voice, self.band = band_filter, voice, band
        self.failure, self.overlap = "", 0
        self.tail: Sources

    def take(self, chunk: Chunk, sources: Sources) -> None:
        """Add the next chunk's sources."""
        if self.failure:
            return
        if chunk.first:
            order = list(_order(np.asarray(self.tail.waves), np.asarray(sources.waves[:, : self.overlap])))
            sources = jax.tree.map(lambda tail, array: _joined(tail, array[order]), self.tail, sources)
        if not chunk.last:
            sources, self.tail = _without_end(sources, self.overlap)
        try:
            if self.band_filter is None:
                self.put(np.asarray(sources.waves), chunk.last)
            else:
                self.put(self.band_filter(np.asarray(sources.gains), chunk.last), chunk.last)
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


def _without_end(sources: Sources, overlap: int) -> tuple[Sources, Sources]:
    """Split off the last `overlap` samples and their gains, which the next chunk has, too."""
    waves, gains = sources
    if gains is None:
        return Sources(waves[:, :-overlap], None), Sources(waves[:, -overlap:], None)
    # only the last chunk of a recording may end inside a frame
    frames = overlap * gains.shape[1] // waves.shape[1]
    return Sources(waves[:, :-overlap], gains[:, :-frames]), Sources(waves[:, -overlap:], gains[:, -frames:])


def _joined(tail: np.ndarray, array: np.ndarray) -> np.ndarray:
    """Cross-fade from the end of a chunk to the start of the next one, over samples or frames on axis 1."""
    overlap = tail.shape[1]
    rise = ((np.arange(overlap, dtype=np.float32) + 0.5) / overlap).reshape(-1, *[1] * (array.ndim - 2))
    faded = tail * (1 - rise) + array[:, :overlap] * rise
    return np.concatenate([faded, array[:, overlap:]], axis=1)


def _order(before: np.ndarray, after: np.ndarray) -> tuple[int, ...]:
    """Match the sources of two chunks by their correlation over the samples that both chunks hold.

    Returns the number in `after` of each source in `before`.
    """
    correlation = before @ after.T
    orders = itertools.permutations(range(len(before)))
    return max(orders, key=lambda order: sum(correlation[pair] for pair in enumerate(order)))
