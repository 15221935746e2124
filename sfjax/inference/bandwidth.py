"""Bandwidth extension: a vocoder generates what lies above the band of a recording, from the Mels of a model."""

from __future__ import annotations

import math
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from sfjax import audio
from sfjax.errors import UserError
from sfjax.vocoder import hifigan

FULL = math.inf  # band of a recording that is not extended
OWN = 0.45  # a recording's own band ends at this share of its sample rate: resampling damps the rest
FADE = 1.09  # the generated band is whole at this multiple of the own band: 3.9 kHz for a recording of 8 kHz


def band(rate: int, channels: int, to_rate: int | None, spec: audio.MelSpec) -> float:
    """Return the band of a recording in Hz, `FULL` if nothing is to be generated above it.

    With `to_rate`, a recording of a lower rate is extended to this rate, which must be the model's. Raises `UserError`
    for another rate, and for several channels.
    """
    if to_rate is None:
        return FULL
    check_rate(to_rate, spec)
    if rate >= to_rate:
        return FULL
    if channels > 1:
        raise UserError(f"only mono recordings are extended to {to_rate} Hz, got {channels} channels; split them")
    return OWN * rate


def check_rate(to_rate: int, spec: audio.MelSpec) -> None:
    """Raise `UserError` for a rate that recordings cannot be extended to."""
    if to_rate != spec.sample_rate:
        raise UserError(f"recordings can be extended only to the model's rate, {spec.sample_rate} Hz, got {to_rate}")


def extended(
    waves: Float[Array, "batch sources samples"],
    mels: Float[Array, "batch sources frames mels"],
    bands: Float[Array, " batch"],
    lengths: Int[Array, " batch"],
    vocoder: tuple[Any, Any, Any],
    *,
    network: Any,
    spec: audio.MelSpec,
) -> Float[Array, "batch sources samples"]:
    """Fade from `waves` to what a vocoder makes of `mels`, at the upper end of each recording's band.

    `vocoder` has the parameters of `network`, and the mean and deviation of its Mels (`sfjax.vocoder.hifigan.Vocoder`).
    """
    sources, samples = waves.shape[1:]
    counts = spec.num_frames(jnp.repeat(lengths, sources))
    generated = hifigan.vocode(network, vocoder, mels.reshape(-1, *mels.shape[2:]), spec, counts).reshape(waves.shape)
    size = samples + spec.window  # room for the filter at both ends, which a Fourier transform joins
    hertz = jnp.arange(size // 2 + 1) * spec.sample_rate / size
    own = jnp.minimum(bands, spec.sample_rate)[:, None, None]
    weight = jnp.clip((hertz - own) / ((FADE - 1) * own), 0.0, 1.0)
    below, above = (jnp.fft.rfft(wave, n=size) for wave in (waves, generated))
    faded = jnp.fft.irfft(below * (1 - weight) + above * weight, n=size)[..., :samples]
    return jnp.where((bands < FULL)[:, None, None], faded, waves)
