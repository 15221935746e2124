"""Apply the band gains of a model to all channels of a recording, at the recording's own sample rate."""

from __future__ import annotations

import functools
from collections.abc import Iterable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from sfjax import audio
from sfjax.inference.chunking import Chunk, split

FRAMES = 400  # frames of a segment, 4 s; one program is compiled for each sample rate


class BandFilter:
    """Filter all channels of a recording by gains of Mel bands, which arrive piece by piece.

    `blocks` are the consecutive samples of the recording at `rate` Hz. They are read when they are needed, and one
    segment is in memory. The gains are for frames of `spec`, the settings of the model; they are interpolated over
    time. Gains of 1 change no sample, and a silent channel stays silent.
    """

    def __init__(
        self, blocks: Iterable[Float[np.ndarray, "_ channels"]], rate: int, channels: int, spec: audio.MelSpec
    ):
        self.channels, self.spec = channels, audio.at_rate(spec, rate)
        self.ratio = (self.spec.hop * spec.sample_rate) / (rate * spec.hop)  # the model's frames in a frame of `rate`
        self.margin = self.spec.window  # a sample depends on fewer samples before and after it
        self.segments = split(blocks, FRAMES * self.spec.hop, 2 * self.margin)
        self.segment: Chunk | None = None
        self.gains, self.first = np.zeros((0, 0, spec.bands), np.float32), 0  # `first` numbers the first frame

    def __call__(
        self, gains: Float[np.ndarray, "sources frames mels"], last: bool
    ) -> Float[np.ndarray, "sources samples channels"]:
        """Return the samples for which the gains are complete with these; with `last`, all that remain."""
        self.gains = np.concatenate([self.gains, gains], axis=1) if len(self.gains) else gains
        pieces = [np.zeros((len(gains), 0, self.channels), np.float32)]
        while (segment := self.segment or next(self.segments, None)) is not None:
            self.segment = segment
            position = self._position(segment)
            if position[-1] > self.gains.shape[1] - 1 and not last:
                break  # the next gains are needed
            pieces.append(self._filtered(segment, np.clip(position, 0, self.gains.shape[1] - 1)))
            passed = max(0, int(position[-2 * self.margin // self.spec.hop]))  # where the next segment begins
            self.segment, self.gains, self.first = None, self.gains[:, passed:], self.first + passed
        return np.concatenate(pieces, axis=1)

    def _position(self, segment: Chunk) -> np.ndarray:
        """Return where the centres of a segment's frames are in `gains`."""
        frames = segment.first // self.spec.hop + np.arange(FRAMES)
        return (frames + 0.5) * self.ratio - 0.5 - self.first

    def _filtered(self, segment: Chunk, position: np.ndarray) -> np.ndarray:
        before = position.astype(int)
        weight = (position - before).astype(np.float32)[:, None]
        after = np.minimum(before + 1, self.gains.shape[1] - 1)
        gains = self.gains[:, before] * (1 - weight) + self.gains[:, after] * weight
        padded = np.zeros((self.channels, FRAMES * self.spec.hop), np.float32)
        padded[:, : len(segment.wave)] = segment.wave.T
        length = jnp.full(1, len(segment.wave), jnp.int32)
        waves = [_change_bands(gains[None], channel[None], length, spec=self.spec)[0] for channel in padded]
        begin = self.margin if segment.first else 0
        end = len(segment.wave) - (0 if segment.last else self.margin)
        return np.stack([np.asarray(wave) for wave in waves], axis=-1)[:, begin:end]


@functools.partial(jax.jit, static_argnames="spec")
def _change_bands(
    gains: Float[Array, "batch sources frames mels"],
    recording: Float[Array, "batch samples"],
    length: Int[Array, " batch"],
    *,
    spec: audio.MelSpec,
) -> Float[Array, "batch sources samples"]:
    return audio.change_bands(gains, recording, spec, length)
