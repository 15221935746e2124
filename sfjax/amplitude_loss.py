"""The squared error of compressed amplitudes: it weights the bins of a log-Mel spectrogram by loudness.

The squared error of log-Mels weights all bins equally, so bins far below the speech dominate it. Here the weight of a
bin is its amplitude, compressed like loudness.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

POWER = 0.3  # exponent: the error compares amplitude ** POWER
MOST = 4.0  # limit of how much too loud an estimate counts, in log(amplitude ** POWER)


def emphasis(
    mels: Float[Array, "batch frames mels"], weight: Float[Array, "batch frames"], std: float
) -> Float[Array, "batch frames mels"]:
    """Return each bin's Mel amplitude to the power 2 · `POWER`, scaled to a mean of 1 over the frames of `weight` 1.

    `mels` is a log-Mel spectrogram divided by `std`.
    """
    share = jax.nn.softmax(2 * POWER * std * mels, axis=(1, 2), where=weight[..., None] > 0)
    return share * weight.sum(axis=1)[:, None, None] * mels.shape[-1]


def error(
    estimate: Float[Array, "batch frames mels"],
    x1: Float[Array, "batch frames mels"],
    weight: Float[Array, "batch frames"],
    std: float,
) -> Float[Array, "batch frames"]:
    """Compute the squared error of compressed amplitudes a = exp(`POWER` · `std` · mel), summed over bins.

    It has the scale of the squared error of log-Mels: near `x1` the error of a bin is its squared log-Mel distance
    times its `emphasis`. Compressed spectra are a common loss in speech enhancement (Ephrat et al., arXiv 1804.03619).
    """
    scale = POWER * std
    bins = emphasis(x1, weight, std)
    difference = jnp.where(weight[..., None] > 0, estimate - x1, 0.0)
    distance = jnp.expm1(jnp.minimum(scale * difference, MOST)) / scale
    return (bins * jnp.square(distance)).sum(axis=-1)


def share_error(
    estimate: Float[Array, "batch frames mels"],
    x1: Float[Array, "batch frames mels"],
    recording: Float[Array, "batch frames mels"],
    weight: Float[Array, "batch frames"],
    std: float,
) -> Float[Array, "batch frames"]:
    """Compute the squared error of the share of `x1` in the power of each bin of `recording`, summed over bins.

    Each bin counts with its `emphasis` in the recording. It is the error of a Wiener mask (mask inference, Luo et al.,
    arXiv 1611.06265), for one source.
    """
    bins, counted = emphasis(recording, weight, std), weight[..., None] > 0

    def share(mels):
        return jnp.exp(jnp.minimum(2.0 * std * jnp.where(counted, mels - recording, 0.0), 0.0))

    return (bins * jnp.square(share(estimate) - share(x1))).sum(axis=-1)
