"""Recordings on their way through a model: cut into chunks that overlap, and put together again, cross-faded."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from sfjax.errors import UserError

STAGE = 2**0.5  # ratio of the lengths that programs are compiled for; padding is at most this


class Chunk(NamedTuple):
    """A piece of a recording: its first sample's number, its samples at the model's rate, whether it is the last."""

    first: int
    wave: Float[np.ndarray, " samples"]
    last: bool


def cut(blocks: Iterable[np.ndarray], size: int, overlap: int, least: int) -> Iterator[Chunk]:
    """Chunks of `size` samples that overlap by `overlap`; the last is shorter. `UserError` if they hold nothing."""
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
    """The length that a program is compiled for: `most` divided by a power of `STAGE`, at least `frames`."""
    length = most
    while (shorter := -(-length // STAGE)) >= frames and shorter >= 50:
        length = int(shorter)
    return int(max(length, frames))


class Job:
    """A recording on its way: where its samples come from and where those of its sources go, cross-faded.

    Sources stay where they are from chunk to chunk.
    """

    def __init__(self, name: str, blocks: Callable[[], Iterator[np.ndarray]], sink: Callable[[np.ndarray], Any]):
        self.name, self.blocks, self.sink = name, blocks, sink
        self.failure, self.overlap, self.tail = "", 0, np.zeros((1, 0), np.float32)

    def take(self, chunk: Chunk, wave: Float[np.ndarray, "sources samples"]) -> None:
        """Adds the samples of the next chunk's sources."""
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
        """Hands finished samples on."""
        self.sink(wave)

    def fail(self, reason: str) -> None:
        """Ends the job without a result."""
        self.failure = f"{self.name}: {reason}" if self.name not in reason else reason
        self.abandon()

    def abandon(self) -> None:
        """Leaves nothing half-written behind."""


def _order(before: np.ndarray, after: np.ndarray) -> tuple[int, ...]:
    """Which of the sources `after` goes on with each source `before`, by what the two make of the same samples."""
    alike = before @ after.T
    orders = itertools.permutations(range(len(before)))
    return max(orders, key=lambda order: sum(alike[place, source] for place, source in enumerate(order)))
