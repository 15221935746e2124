"""What tells recordings from HiFi-GAN's waves: discriminators by period and by scale (Kong et al., arXiv 2010.05646).

There is neither weight nor spectral normalisation: the parameters stay a plain tree of kernels and biases, which the
one optimizer and the one checkpoint know, and AdamW's decay bounds them.
"""

from __future__ import annotations

import math
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

SLOPE = 0.1  # of leaky ReLUs
Judgement = tuple[Float[Array, "batch places"], list[Array]]  # scores (1: a recording) and every layer's features


class Discriminators(nn.Module):
    """All of them, `channels` times as wide as the original's (1.0), and at least one channel.

    There is one for each of `periods` in samples (2, 3, 5, 7, 11 in the original) and one for each of `scales` (3): the
    wave itself, then its averages at a half of the rate, a quarter and so on.
    """

    channels: float
    periods: tuple[int, ...]
    scales: int
    dtype: Any

    @nn.compact
    def __call__(self, wav: Float[Array, "batch samples"]) -> list[Judgement]:
        """The judgement of each period's discriminator, then of each scale's."""
        wav = wav.astype(self.dtype)
        found = [Period(period, self.channels, self.dtype, name=f"period_{period}")(wav) for period in self.periods]
        x = wav[..., None]
        for number in range(self.scales):
            if number:
                x = nn.avg_pool(x, (4,), (2,), [(2, 2)])
            found.append(Scale(self.channels, self.dtype, name=f"scale_{number}")(x[..., 0]))
        return found


class Period(nn.Module):
    """Sees every `period`-th sample of a wave, from each place to start from by the same weights."""

    period: int
    channels: float
    dtype: Any

    @nn.compact
    def __call__(self, wav: Float[Array, "batch samples"]) -> Judgement:
        """Scores of all stretches of the wave, and the features of every layer."""
        batch, period = len(wav), self.period
        wav = jnp.pad(wav, ((0, 0), (0, -wav.shape[1] % period)), mode="reflect")
        x = wav.reshape(batch, -1, period).swapaxes(1, 2).reshape(batch * period, -1, 1)
        layers = [(32, 5, 3, 1), (128, 5, 3, 1), (512, 5, 3, 1), (1024, 5, 3, 1), (1024, 5, 1, 1)]
        score, features = _judge(x, layers, self.channels, self.dtype)
        return score.reshape(batch, -1), [x.reshape(batch, period, *x.shape[1:]) for x in features]


class Scale(nn.Module):
    """Sees a stretch of a wave as it is, by wide convolutions in groups."""

    channels: float
    dtype: Any

    @nn.compact
    def __call__(self, wav: Float[Array, "batch samples"]) -> Judgement:
        """Scores of all stretches of the wave, and the features of every layer."""
        layers = [
            (128, 15, 1, 1), (128, 41, 2, 4), (256, 41, 2, 16), (512, 41, 4, 16), (1024, 41, 4, 16), (1024, 41, 1, 16),
            (1024, 5, 1, 1),
        ]  # fmt: skip
        score, features = _judge(wav[..., None], layers, self.channels, self.dtype)
        return score[..., 0], features


class Conv(nn.Module):
    """A strided convolution of odd `kernel` over time, in `groups` of channels.

    Each group is a convolution of its own: the gradient of XLA's grouped one is slow on a CPU. All discriminators at an
    eighth of the width, forward and backward on 4 × 8000 samples, took 0.5 s so on 2 busy cores, 2.0 s with XLA's
    groups, 0.7 s with a loop over groups, which compiles three times as fast. Sums of products over taps, and one
    product over all taps, were slower with and without groups.
    """

    width: int
    kernel: int
    stride: int
    groups: int
    dtype: Any

    @nn.compact
    def __call__(self, x: Float[Array, "batch samples channels"]) -> Float[Array, "batch places width"]:
        """One place for every `stride` samples, zeros around the ends."""
        groups = math.gcd(self.groups, x.shape[-1], self.width)
        shape = (self.kernel, x.shape[-1] // groups, self.width)
        kernel = self.param("kernel", nn.initializers.lecun_normal(), shape)
        bias = self.param("bias", nn.initializers.zeros, (self.width,))
        pairs = zip(jnp.split(x, groups, axis=-1), jnp.split(kernel.astype(self.dtype), groups, axis=-1), strict=True)
        edge = [(self.kernel // 2, self.kernel // 2)]
        made = [
            jax.lax.conv_general_dilated(part, own, (self.stride,), edge, dimension_numbers=("NWC", "WIO", "NWC"))
            for part, own in pairs
        ]
        return jnp.concatenate(made, axis=-1) + bias.astype(self.dtype)


def _judge(x, layers, channels, dtype):
    """The last layer's output and every layer's: what the original compares of a recording and of its imitation."""
    features = []
    for number, (width, kernel, stride, groups) in enumerate(layers):
        width = max(1, round(width * channels))
        x = Conv(width, kernel, stride, groups, dtype, name=f"layer_{number}")(x)
        x = nn.leaky_relu(x, SLOPE)
        features.append(x)
    x = Conv(1, 3, 1, 1, dtype, name="score")(x)
    return x, [*features, x]
