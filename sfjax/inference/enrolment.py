"""Prepare the recording of a voice for target speaker extraction."""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Float

from sfjax import audio
from sfjax.errors import UserError
from sfjax.inference import waveform
from sfjax.inference.waveform import Recording
from sfjax.tasks.separate import ALIGNMENT

LEAST = 0.5  # seconds: the shortest recording of a voice
MOST = 5.0  # seconds: the longest part that is used, as in training
QUIET = 1e-3  # a recording with a lower peak counts as silent
LOUDNESS = -29.0  # LUFS: the middle of the range in training


def enrolment(voice: Recording, rate: Any, spec: audio.MelSpec) -> Float[np.ndarray, " samples"]:
    """Return the loudest `MOST` seconds of a recording of a voice, at the model's rate and at `LOUDNESS`.

    `voice` is as in `sfjax.inference.waveform.mono`. Raises `UserError` if it is too short or silent.
    """
    from sfjax.data.examples import loudness  # imports PyArrow, which other tasks do not need

    wave, rate = waveform.mono(voice, rate)
    if len(wave) < LEAST * rate:
        raise UserError(f"the voice must last {LEAST} s or more, got {len(wave) / rate:.2f} s; 3 s are enough")
    if np.abs(wave).max() < QUIET:
        raise UserError("the recording of the voice is silent; give one in which the speaker talks")
    wave = _loudest(audio.resample(wave, rate, spec.sample_rate), round(MOST * spec.sample_rate))
    unit = ALIGNMENT * spec.hop
    wave = wave[: len(wave) // unit * unit]
    return wave * np.float32(10 ** ((LOUDNESS - loudness(wave, spec.sample_rate)) / 20))


def _loudest(wave, size):
    """Return the `size` samples with the most energy, or all if there are fewer."""
    if len(wave) <= size:
        return wave
    energy = np.cumsum(np.square(wave, dtype=np.float64))
    start = int(np.argmax(energy[size:] - energy[:-size]))
    return wave[start : start + size]
