"""The spectral vocoder: a network sharpens the magnitudes of a log-Mel spectrogram, and Griffin-Lim adds phases.

The high bands of a Mel spectrogram merge neighbouring harmonics, and no wave has such magnitudes. ConvNeXt blocks over
frames (Vocos: Siuzdak, arXiv 2306.00814) correct the logarithm of each magnitude. The low bands resolve the harmonics,
so the pitch is known. The correction is a smooth part plus a comb of this pitch; the network predicts both for each
bin. The last layer starts from zeros, so an untrained network gives the result of Griffin-Lim.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from sfjax import audio, masks, sharding
from sfjax.errors import UserError
from sfjax.flow import Error
from sfjax.objective import Batch, Objective
from sfjax.vocoder.griffin_lim import locked_phase, refine
from sfjax.vocoder.vocoder_batch import batch_mels, draw

SMALL = 1e-3  # amplitude that the loss adds before logarithms
LEAST = 1e-5  # amplitude that a positive correction multiplies in an empty bin
LARGEST = 4.0  # limit of a correction, as the natural logarithm of a factor
RESOLVED = 1500.0  # Hz: below, the bands resolve harmonics
PITCH = (50.0, 500.0)  # Hz: the range of the pitch
TYPICAL = 160.0  # Hz: the pitch whose input to the network is 0
LEVEL = 0.5  # standard deviation of the random level of a recording in training, as a natural logarithm
OCTAVE = 10.0  # 1/s: how much less the autocorrelation of a longer period counts, to avoid errors by an octave


class SpectralNet(nn.Module):
    """ConvNeXt blocks that correct magnitudes, then `iterations` of fast Griffin-Lim.

    There are `blocks` blocks of `width` channels over `kernel` frames, with an inner layer `expand` times as wide.
    Raises `UserError` for an even kernel, sizes below 1, or negative iterations.
    """

    width: int
    blocks: int
    expand: int
    kernel: int
    iterations: int
    spec: audio.MelSpec
    dtype: Any

    def __post_init__(self):
        super().__post_init__()
        if self.kernel % 2 == 0 or min(self.width, self.blocks, self.expand, self.kernel) < 1 or self.iterations < 0:
            raise UserError(
                "a spectral vocoder needs sizes of 1 or more, an odd kernel and 0 iterations or more, got "
                f"width {self.width}, blocks {self.blocks}, expand {self.expand}, kernel {self.kernel}, "
                f"iterations {self.iterations}; change section spectral"
            )

    def __call__(
        self, mel: Float[Array, "batch frames mels"], lengths: Int[Array, " batch"]
    ) -> Float[Array, "batch samples"]:
        """Compute waves of frames · hop samples; frames from `lengths` on have no effect."""
        magnitude = self.magnitude(mel, lengths)
        phase = locked_phase(magnitude, self.spec)
        return refine(magnitude, phase, self.spec, iterations=self.iterations, lengths=lengths * self.spec.hop)

    @nn.compact
    def magnitude(
        self, mel: Float[Array, "batch frames mels"], lengths: Int[Array, " batch"]
    ) -> Float[Array, "batch frames bins"]:
        """Compute the corrected amplitude spectrum of normalised log-Mel frames."""
        blurred = audio.magnitude(mel, self.spec)
        shown = masks.valid(lengths, mel.shape[1])[..., None]
        period, strength = pitch(blurred, self.spec)
        features = jnp.concatenate([mel, strength[..., None], jnp.log(period * TYPICAL)[..., None]], axis=-1)
        x = jnp.where(shown, features, 0.0).astype(self.dtype)
        x = nn.Dense(self.width, dtype=self.dtype, name="input")(_taps(x, 3))
        x = nn.LayerNorm(dtype=self.dtype, name="input_norm")(x)
        axes: Any = nn.broadcast  # flax infers int
        stack = nn.scan(
            _Block,
            variable_axes={"params": 0},
            split_rngs={"params": True},
            in_axes=axes,
            length=self.blocks,
            unroll=self.blocks,
        )
        x, _ = stack(self.width, self.expand, self.kernel, self.blocks, self.dtype, name="blocks")(x, shown)
        x = nn.LayerNorm(dtype=self.dtype, name="output_norm")(x)
        bins = blurred.shape[-1]
        out = nn.Dense(3 * bins, kernel_init=nn.initializers.zeros, dtype=self.dtype, name="output")(x)
        smooth, even, odd = jnp.split(out.astype(jnp.float32), 3, axis=-1)
        angle = 2 * jnp.pi * period[..., None] * (jnp.arange(bins) * self.spec.sample_rate / self.spec.n_fft)
        gain = smooth + even * jnp.cos(angle) + odd * jnp.sin(angle)
        gain = LARGEST * jnp.tanh(gain / LARGEST)
        return blurred * jnp.exp(gain) + LEAST * jnp.maximum(jnp.expm1(gain), 0.0)


class Pitch(NamedTuple):
    """The period of a voice in seconds, and how periodic a frame is, from 0 to 1."""

    period: Float[Array, "batch frames"]
    strength: Float[Array, "batch frames"]


def pitch(magnitude: Float[Array, "batch frames bins"], spec: audio.MelSpec) -> Pitch:
    """Estimate the pitch of each frame from the autocorrelation that its magnitude below `RESOLVED` implies.

    The result has no gradient. A frame without a pitch also gets a period, with a low strength.
    """
    hertz = jnp.arange(magnitude.shape[-1]) * spec.sample_rate / spec.n_fft
    taper = jnp.where(hertz < RESOLVED, 0.5 + 0.5 * jnp.cos(jnp.pi * hertz / RESOLVED), 0.0)
    correlation = jnp.fft.irfft(jax.lax.stop_gradient(magnitude) * taper, n=spec.n_fft)
    correlation = correlation / (correlation[..., :1] + LEAST)
    first, last = (round(spec.sample_rate / hertz) for hertz in reversed(PITCH))
    before, current, after = (correlation[..., first + shift : last + shift] for shift in (-1, 0, 1))
    is_peak = (current > before) & (current >= after)
    preference = 1.0 - OCTAVE / spec.sample_rate * jnp.arange(last - first)
    best = jnp.argmax(jnp.where(is_peak, current * preference, -1.0), axis=-1)[..., None]
    left, middle, right = (jnp.take_along_axis(values, best, axis=-1)[..., 0] for values in (before, current, after))
    offset = jnp.clip((left - right) / 2 / jnp.minimum(left - 2 * middle + right, -1e-6), -0.5, 0.5)
    period = (first + best[..., 0] + offset) / spec.sample_rate
    return Pitch(period, jnp.clip(middle, 0.0, 1.0))


class _Block(nn.Module):
    """A ConvNeXt block: a convolution over frames for each channel, then two layers over channels."""

    width: int
    expand: int
    kernel: int
    blocks: int
    dtype: Any

    @nn.compact
    def __call__(self, x, shown):
        taps = self.param("taps", nn.initializers.normal(self.kernel**-0.5), (self.kernel, self.width))
        edge = self.kernel // 2
        padded = jnp.pad(jnp.where(shown, x, 0), ((0, 0), (edge, edge), (0, 0)))
        h = sum(padded[:, i : i + x.shape[1]] * taps[i].astype(self.dtype) for i in range(self.kernel))
        h = nn.LayerNorm(dtype=self.dtype, name="norm")(h)
        h = nn.gelu(nn.Dense(self.width * self.expand, dtype=self.dtype, name="up")(h))
        h = nn.Dense(self.width, dtype=self.dtype, name="down")(h)
        scale = self.param("scale", nn.initializers.constant(1 / self.blocks), (self.width,))
        return x + h * scale.astype(self.dtype), None


def _taps(x, kernel):
    """Concatenate `kernel` neighbouring frames, so that a convolution is one product."""
    edge = kernel // 2
    padded = jnp.pad(x, ((0, 0), (edge, edge), (0, 0)))
    return jnp.concatenate([padded[:, i : i + x.shape[1]] for i in range(kernel)], axis=-1)


def objective(network: SpectralNet) -> Objective:
    """Return the objective: the mean absolute error of natural log magnitudes, at random levels."""
    return Objective(
        network,
        functools.partial(_init, network),
        functools.partial(_error, network),
        functools.partial(_draw, network),
    )


def _init(network, key):
    return network.init(key, jnp.zeros((1, 8, network.spec.bands)), jnp.full(1, 8), method="magnitude")["params"]


def _error(network, task):
    spec = network.spec

    def error(
        params: Any,
        batch: Batch,
        keys: Key[Array, " batch"],
        t: Float[Array, " batch"],
        dropout: Key[Array, ""] | None,
    ) -> Error:
        wave, mel, lengths = batch["waves"]["speech"], batch_mels(task, batch, network.spec), batch["lengths"]
        count = spec.num_frames(lengths)
        level = LEVEL * jax.vmap(jax.random.normal)(keys)[:, None, None]
        true = sharding.by_example(lambda wave, lengths: jnp.abs(audio.stft(wave, spec, lengths)), wave, lengths)
        estimate = network.apply({"params": params}, mel + level / spec.std, count, method="magnitude")
        distance = jnp.abs(jnp.log(estimate + SMALL) - jnp.log(true * jnp.exp(level) + SMALL)).mean(axis=-1)
        inside = masks.valid(count, mel.shape[1])
        return Error(jnp.where(inside, distance, 0.0).sum(), inside.sum().astype(jnp.float32))

    return error


def _draw(network, task, options):
    del options  # of a sampler

    def generate(params, mel, count):
        return network.apply({"params": params}, mel, count)

    return draw(generate, network.spec, task)
