"""Waveforms as recognisers and speaker encoders need them."""

from __future__ import annotations

import numpy as np
import soxr
from jaxtyping import Float

from sfjax.metrics.perceptual import Unscorable

RATE = 16_000  # Hz; all recognisers and speaker encoders work at this sample rate
SHORTEST = 0.4  # seconds of the shortest recording that gets an embedding


def resampled(wav: Float[np.ndarray, " samples"], rate: int) -> Float[np.ndarray, " resampled"]:
    """Return the waveform at 16 kHz, as float32. Raises `Unscorable` if it is empty or not finite."""
    if wav.ndim != 1:
        raise Unscorable(f"the recording has shape {wav.shape}, expected one axis of samples")
    if not np.isfinite(wav).all():
        raise Unscorable("the recording holds NaN or infinite samples")
    wav = np.asarray(wav, np.float32)
    wav = wav if rate == RATE else soxr.resample(wav, rate, RATE)
    if not wav.size:
        raise Unscorable("the recording is empty")
    return wav


def audible(wav: Float[np.ndarray, " samples"], rate: int) -> Float[np.ndarray, " resampled"]:
    """Return the waveform at 16 kHz. Raises `Unscorable` if it is shorter than 0.4 s, silent or not finite."""
    wav = resampled(wav, rate)
    if len(wav) < SHORTEST * RATE:
        raise Unscorable(f"the recording must last at least {SHORTEST} s, got {len(wav) / RATE:.2f} s")
    if np.ptp(wav) == 0:
        raise Unscorable("the recording is silent")
    return wav
