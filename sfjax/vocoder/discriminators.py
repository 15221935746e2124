"""HiFi-GAN's discriminators, by period and by scale (Kong et al., arXiv 2010.05646).

They have no weight or spectral normalisation: the parameters are a plain tree of kernels and biases, which works with
the common optimizer and checkpoint, and AdamW's weight decay bounds them.
"""

from __future__ import annotations

import math
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

SLOPE = 0.1  # of leaky ReLUs
Judgement = tuple[Float[Array, "batch places"], list[Array]]  # scores (1: real recording) and features of each layer


class Discriminators(nn.Module):
    """All discriminators; `channels` scales the widths of the original (1.0), with at least one channel.

    There is one discriminator for each of `periods` in samples (2, 3, 5, 7, 11 in the original) and one for each of
    `scales` (3): for the wave itself, then for its averages at a half of the rate, a quarter and so on.
    """

    channels: float
    periods: tuple[int, ...]
    scales: int
    dtype: Any

    @nn.compact
    def __call__(self, wav: Float[Array, "batch samples"]) -> list[Judgement]:
        """Return the judgement of each period's discriminator, then of each scale's."""
        wav = wav.astype(self.dtype)
        judgements = [
            Period(period, self.channels, self.dtype, name=f"period_{period}")(wav) for period in self.periods
        ]
        x = wav[..., None]
        padding: Any = [(2, 2)]  # flax infers str
        for number in range(self.scales):
            if number:
                x = nn.avg_pool(x, (4,), (2,), padding)
            judgements.append(Scale(self.channels, self.dtype, name=f"scale_{number}")(x[..., 0]))
        return judgements


class Period(nn.Module):
    """A discriminator of every `period`-th sample of a wave, with the same weights for each of the `period` offsets."""

    period: int
    channels: float
    dtype: Any

    @nn.compact
    def __call__(self, wav: Float[Array, "batch samples"]) -> Judgement:
        """Return scores of all parts of the wave, and the features of every layer."""
        batch, period = len(wav), self.period
        wav = jnp.pad(wav, ((0, 0), (0, -wav.shape[1] % period)), mode="reflect")
        x = wav.reshape(batch, -1, period).swapaxes(1, 2).reshape(batch * period, -1, 1)
        layers = [(32, 5, 3, 1), (128, 5, 3, 1), (512, 5, 3, 1), (1024, 5, 3, 1), (1024, 5, 1, 1)]
        score, features = _judge(x, layers, self.channels, self.dtype)
        return score.reshape(batch, -1), [x.reshape(batch, period, *x.shape[1:]) for x in features]


class Scale(nn.Module):
    """A discriminator of the wave at one rate, by wide grouped convolutions."""

    channels: float
    dtype: Any

    @nn.compact
    def __call__(self, wav: Float[Array, "batch samples"]) -> Judgement:
        """Return scores of all parts of the wave, and the features of every layer."""
        layers = [
            (128, 15, 1, 1),
            (128, 41, 2, 4),
            (256, 41, 2, 16),
            (512, 41, 4, 16),
            (1024, 41, 4, 16),
            (1024, 41, 1, 16),
            (1024, 5, 1, 1),
        ]
        score, features = _judge(wav[..., None], layers, self.channels, self.dtype)
        return score[..., 0], features


class Conv(nn.Module):
    """A strided convolution of odd `kernel` over time, in `groups` of channels.

    Each group is a separate convolution, because the gradient of XLA's grouped convolution is slow on a CPU. All
    discriminators at an eighth of the width, forward and backward on 4 × 8000 samples on 2 busy cores, took 0.5 s this
    way, 2.0 s with XLA's groups, and 0.7 s with a loop over groups, which compiles three times as fast. Sums of
    products over taps, and one product over all taps, were slower with and without groups.
    """

    width: int
    kernel: int
    stride: int
    groups: int
    dtype: Any

    @nn.compact
    def __call__(self, x: Float[Array, "batch samples channels"]) -> Float[Array, "batch places width"]:
        """Return one output for every `stride` samples, with zeros beyond both ends."""
        groups = math.gcd(self.groups, x.shape[-1], self.width)
        shape = (self.kernel, x.shape[-1] // groups, self.width)
        kernel = self.param("kernel", nn.initializers.lecun_normal(), shape)
        bias = self.param("bias", nn.initializers.zeros, (self.width,))
        inputs = jnp.split(x, groups, axis=-1)
        kernels = jnp.split(kernel.astype(self.dtype), groups, axis=-1)
        edge = [(self.kernel // 2, self.kernel // 2)]
        outputs = [
            jax.lax.conv_general_dilated(part, taps, (self.stride,), edge, dimension_numbers=("NWC", "WIO", "NWC"))
            for part, taps in zip(inputs, kernels, strict=True)
        ]
        return jnp.concatenate(outputs, axis=-1) + bias.astype(self.dtype)


def _judge(x, layers, channels, dtype):
    """Return the last layer's output, and the outputs of all layers, which the feature loss compares."""
    features = []
    for number, (width, kernel, stride, groups) in enumerate(layers):
        width = max(1, round(width * channels))
        x = Conv(width, kernel, stride, groups, dtype, name=f"layer_{number}")(x)
        x = nn.leaky_relu(x, SLOPE)
        features.append(x)
    x = Conv(1, 3, 1, 1, dtype, name="score")(x)
    return x, [*features, x]
