"""The error of amplitudes: what a listener hears of the error of a log-Mel spectrogram.

The squared error of log-Mels counts every bin alike, so bins far below the speech make most of it. Here each bin counts
by its amplitude, compressed as loudness is.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

POWER = 0.3  # of amplitudes: errors of amplitudes ** POWER are compared
MOST = 4.0  # by how much an estimate counts as too loud at most, in units of log amplitude ** POWER


def emphasis(
    mels: Float[Array, "batch frames mels"], weight: Float[Array, "batch frames"], std: float
) -> Float[Array, "batch frames mels"]:
    """The Mel amplitude of each bin to the power 2 · `POWER`, scaled to a mean of 1 over the frames of `weight` 1.

    `mels` is a log-Mel spectrogram that was divided by `std`.
    """
    share = jax.nn.softmax(2 * POWER * std * mels, axis=(1, 2), where=weight[..., None] > 0)
    return share * weight.sum(axis=1)[:, None, None] * mels.shape[-1]


def error(
    estimate: Float[Array, "batch frames mels"],
    x1: Float[Array, "batch frames mels"],
    weight: Float[Array, "batch frames"],
    std: float,
) -> Float[Array, "batch frames"]:
    """The squared error of the compressed amplitudes a = exp(`POWER` · `std` · mel) of `estimate`, summed over bins.

    It is scaled like the squared error of log-Mels: near `x1` a bin's error is its squared distance in log-Mels times
    its `emphasis`. Compressed spectra are a usual loss of speech enhancement (Ephrat et al., arXiv 1804.03619).
    """
    scale = POWER * std
    bins = emphasis(x1, weight, std)
    distance = jnp.expm1(jnp.minimum(scale * (estimate - x1), MOST)) / scale
    return jnp.where(weight[..., None] > 0, bins * jnp.square(distance), 0.0).sum(axis=-1)
