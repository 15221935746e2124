"""The fast Griffin-Lim algorithm; its initial phases are locked to spectral peaks."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Complex, Float, Int

from sfjax import audio

MOMENTUM = 0.99  # α of the fast algorithm: how far each step extrapolates the step before
QUIET = 1e-6  # amplitude that is added before logarithms of magnitudes
STEADY = 2.0  # bins: a peak whose frequency changes by less per frame is a gliding sinusoid


def griffin_lim(
    mel: Float[Array, "batch frames mels"],
    spec: audio.MelSpec,
    *,
    iterations: int,
    lengths: Int[Array, " batch"] | None = None,
) -> Float[Array, "batch samples"]:
    """Compute waves of frames · hop samples whose amplitude spectra approximate those of normalised log-Mel frames.

    With `lengths`, in samples, padding does not change a wave; the samples behind its end are undefined.
    """
    magnitude = audio.magnitude(mel, spec)
    return refine(magnitude, locked_phase(magnitude, spec), spec, iterations=iterations, lengths=lengths)


def refine(
    magnitude: Float[Array, "batch frames bins"],
    phase: Complex[Array, "batch frames bins"],
    spec: audio.MelSpec,
    *,
    iterations: int,
    lengths: Int[Array, " batch"] | None = None,
) -> Float[Array, "batch samples"]:
    """Compute waves with spectra of size `magnitude` by fast Griffin-Lim, `iterations` steps from `phase`.

    `phase` are complex numbers of size 1, `lengths` are in samples. Source: Perraudin et al., "A fast Griffin-Lim
    algorithm", WASPAA 2013.
    """

    def improve(carry, _):
        phase, last = carry
        now = audio.stft(audio.istft(magnitude * phase, spec, lengths), spec, lengths)
        return (audio.unit(now + MOMENTUM * (now - last)), now), None

    (phase, _), _ = jax.lax.scan(improve, (phase, jnp.zeros_like(phase)), None, length=iterations)
    return audio.istft(magnitude * phase, spec, lengths)


def locked_phase(
    magnitude: Float[Array, "batch frames bins"], spec: audio.MelSpec
) -> Complex[Array, "batch frames bins"]:
    """Estimate a phase for each bin, as a complex number of size 1, from magnitudes alone.

    Each peak of a frame is a sinusoid. Its frequency is the top of the parabola through three log magnitudes. Its phase
    continues the phase that its bin had in the frame before, and the bins around it share this phase. So the phases of
    a frame depend only on this frame and the frames before it. Source: single-pass spectrogram inversion (Beauregard
    et al., DSP 2015) with the phase locking of Laroche and Dolson (1999).
    """
    nearest, frequency = _peaks(magnitude)

    def take_bins(values, bins):
        return jnp.take_along_axis(values, bins, axis=-1)

    def advance(carry, frame):
        cycles, last_frequency = carry
        nearest, frequency = frame
        before = take_bins(last_frequency, nearest)
        mean = jnp.where(jnp.abs(frequency - before) < STEADY, (frequency + before) / 2, frequency)
        cycles = (take_bins(cycles, nearest) + mean * spec.hop / spec.n_fft) % 1.0
        return (cycles, frequency), cycles

    start = (jnp.zeros_like(frequency[:, 0]), frequency[:, 0])
    _, cycles = jax.lax.scan(advance, start, (nearest.swapaxes(0, 1), frequency.swapaxes(0, 1)))
    bins = jnp.arange(magnitude.shape[-1])
    centre = bins * (spec.window // 2) % spec.n_fft / spec.n_fft  # `audio.stft` counts from the start of the window
    return jnp.exp(2j * jnp.pi * (cycles.swapaxes(0, 1) - centre))


def _peaks(magnitude):
    """Return the bin of the nearest peak for each bin, and the frequency of this peak in bins."""
    level = jnp.log(magnitude + QUIET)
    left, middle, right = level[..., :-2], level[..., 1:-1], level[..., 2:]
    is_peak = (middle > left) & (middle >= right)
    curve = jnp.where(is_peak, left - 2 * middle + right, -1.0)
    edges = ((0, 0), (0, 0), (1, 1))
    offset = jnp.pad(jnp.where(is_peak, (left - right) / 2 / curve, 0.0), edges)
    bins, last = jnp.arange(level.shape[-1]), level.shape[-1] - 1
    is_peak = jnp.pad(is_peak, edges)
    below = jax.lax.cummax(jnp.where(is_peak, bins, -2 * last), axis=2)
    above = -jax.lax.cummax(jnp.where(is_peak, -bins, -2 * last), axis=2, reverse=True)
    nearest = jnp.clip(jnp.where(bins - below <= above - bins, below, above), 0, last)
    return nearest, jnp.take_along_axis(bins + offset, nearest, axis=-1)
