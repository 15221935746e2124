"""The phase net: magnitude and phase of each source, from its Mels and the spectrum of the mixture (A.2).

A small residual network corrects the mixture's phase, and starts equal to it. It is trained through the inverse STFT
for the scale-invariant SDR of the best permutation (Yu et al., arXiv 1607.00325).
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Complex, Float, Int, Key

from sfjax import audio, masks, sharding
from sfjax.config import Config, ModelConfig
from sfjax.flow import Error
from sfjax.objective import Objective, Trainable

SMALL = 1e-3  # amplitude at which logarithms of magnitudes level off
LARGEST = 4.0  # the logarithm of the factor by which a magnitude is corrected, at most
POWER = 1e-8  # mean square below which a source counts as silent and is left out of the loss


class PhaseNet(nn.Module):
    """`layers` residual blocks of `width` channels over time, each two convolutions of `kernel` frames."""

    width: int
    kernel: int
    layers: int
    spec: audio.MelSpec
    dtype: Any

    @nn.compact
    def __call__(
        self,
        mels: Float[Array, "batch sources frames mels"],
        mixture: Complex[Array, "batch frames bins"],
        lengths: Int[Array, " batch"],
    ) -> Complex[Array, "batch sources frames bins"]:
        """Return the spectrum of each source; `lengths` are the true frames, the rest is ignored."""
        magnitude, unit = audio.magnitude(mels, self.spec), audio.unit(mixture)
        shown = masks.valid(lengths, mixture.shape[1])[:, None, :, None]
        x = jnp.where(shown, _features(magnitude, mixture, self.spec), 0.0).astype(self.dtype)
        x = nn.Dense(self.width, dtype=self.dtype, name="input")(x)
        for number in range(self.layers):
            h = nn.LayerNorm(dtype=self.dtype, name=f"norm_{number}")(x)
            h = nn.gelu(self._conv(jnp.where(shown, h, 0), f"first_{number}"))
            x = x + self._conv(jnp.where(shown, h, 0), f"second_{number}")
        zeros = nn.initializers.zeros
        out = nn.Dense(3 * magnitude.shape[-1], kernel_init=zeros, dtype=self.dtype, name="output")(nn.gelu(x))
        gain, real, imaginary = jnp.split(out.astype(jnp.float32), 3, axis=-1)
        turn = audio.unit(jax.lax.complex(1.0 + real, imaginary))
        return magnitude * jnp.exp(LARGEST * jnp.tanh(gain / LARGEST)) * unit[:, None] * turn

    def _conv(self, x, name):
        """Compute a convolution over frames as one product: an eighth of the time of XLA's backward pass on a CPU."""
        edge = self.kernel // 2
        padded = jnp.pad(x, ((0, 0), (0, 0), (edge, self.kernel - 1 - edge), (0, 0)))
        taps = [padded[:, :, i : i + x.shape[2]] for i in range(self.kernel)]
        return nn.Dense(self.width, dtype=self.dtype, name=name)(jnp.concatenate(taps, axis=-1))


def _features(magnitude, mixture, spec):
    """Return the input features of each source: log levels, the cosine of its angle to the mixture, phase advances."""

    def level(x):
        return jnp.log(x + SMALL)

    whole = jnp.broadcast_to(jnp.abs(mixture)[:, None], magnitude.shape)
    if magnitude.shape[1] > 1:
        others = magnitude.sum(axis=1, keepdims=True) - magnitude
    else:
        others = jnp.sqrt(jnp.maximum(whole**2 - magnitude**2, 0.0) + SMALL**2)
    cosine = (whole**2 + magnitude**2 - others**2) / (2 * whole * magnitude + SMALL**2)
    unit = audio.unit(mixture)
    bins = jnp.arange(mixture.shape[-1])
    expected = jnp.exp(-2j * jnp.pi * ((bins * spec.hop) % spec.n_fft) / spec.n_fft)
    along_time = unit * jnp.conj(jnp.pad(unit, ((0, 0), (1, 0), (0, 0)))[:, :-1]) * expected
    along_bins = unit * jnp.conj(jnp.pad(unit, ((0, 0), (0, 0), (1, 0)))[:, :, :-1])
    parts = [part for x in (along_time, along_bins) for part in (jnp.real(x), jnp.imag(x))]
    same = [jnp.broadcast_to(part[:, None], magnitude.shape) for part in parts]
    own = [level(magnitude), level(others), level(whole), jnp.clip(cosine, -1.0, 1.0)]
    return jnp.concatenate([*own, *same], axis=-1)


def si_sdr(reference: Float[Array, "*#batch samples"], estimate: Float[Array, "*#batch samples"]) -> Float[Array, "*_"]:
    """Compute the scale-invariant SDR in dB over the last axis; other axes broadcast.

    It is finite for silence too; means are not removed.
    """
    power = jnp.square(reference).sum(-1)
    scale = (reference * estimate).sum(-1) / (power + POWER)
    target = scale[..., None] * reference
    noise = jnp.square(estimate - target).sum(-1)
    return 10 * (jnp.log10(jnp.square(target).sum(-1) + POWER) - jnp.log10(noise + POWER))


def permuted(
    reference: Float[Array, "batch sources samples"], estimate: Float[Array, "batch sources samples"]
) -> Float[Array, " batch"]:
    """Compute the sum of `si_sdr` over the sources that are not silent, in the best order."""
    table = si_sdr(reference[:, :, None], estimate[:, None, :])
    audible = jnp.mean(jnp.square(reference), axis=-1) > POWER
    table = jnp.where(audible[:, :, None], table, 0.0)
    orders = list(itertools.permutations(range(reference.shape[1])))
    sums = [sum(table[:, index, source] for index, source in enumerate(order)) for order in orders]
    return jnp.max(jnp.stack(sums), axis=0)


def spectra_to_waves(
    spectra: Complex[Array, "batch sources frames bins"], spec: audio.MelSpec, lengths: Int[Array, " batch"]
) -> Float[Array, "batch sources samples"]:
    """Return the waveforms of all sources; `lengths` are in samples."""
    return jax.vmap(lambda spectrum: audio.istft(spectrum, spec, lengths), in_axes=1, out_axes=1)(spectra)


def network(config: ModelConfig) -> PhaseNet:
    """Return the phase net of a config."""
    return PhaseNet(**config.phase, spec=config.mel, dtype=config.precision.compute)


def objective(network: PhaseNet) -> Objective:
    """Return the objective of a phase net: minus `permuted`, divided by the number of sources that are not silent."""
    return Objective(
        network,
        functools.partial(_init, network),
        functools.partial(_error, network),
        functools.partial(_draw, network),
    )


def _init(network, key):
    bins, bands = network.spec.n_fft // 2 + 1, network.spec.bands
    mels, spectrum = jnp.zeros((1, 1, 4, bands)), jnp.zeros((1, 4, bins), jnp.complex64)
    return network.init(key, mels, spectrum, jnp.full(1, 4))["params"]


def _error(network, task):
    def error(
        params: Any,
        batch: dict[str, Any],
        keys: Key[Array, " batch"],
        t: Float[Array, " batch"],
        dropout: Key[Array, ""] | None,
    ) -> Error:
        def per_example(waves, mels, lengths):
            sources, estimates, _, _ = _waves(network, task, params, waves, mels, lengths)
            audible = (jnp.mean(jnp.square(sources), axis=-1) > POWER).sum(axis=-1)
            return -permuted(sources, estimates), audible.astype(jnp.float32)

        total, count = sharding.by_example(per_example, batch["waves"], batch["mels"], batch["lengths"])
        return Error(total.sum(), count.sum())

    return error


def _draw(network, task, options):
    del options  # of a sampler

    def draw(params: Any, batch: dict[str, Any], keys: Key[Array, " batch"]) -> dict[str, Array]:
        waves, lengths = batch["waves"], batch["lengths"]
        _, estimates, mels, mixture = _waves(network, task, params, waves, batch["mels"], lengths)
        first = estimates[:, 0]
        condition, sample = (audio.log_mel(wave, network.spec, lengths) for wave in (mixture, first))
        frames = network.spec.num_frames(lengths)
        return {"condition": condition, "sample": sample, "target": mels[:, 0], "wave": first, "frames": frames}

    return draw


def _waves(network, task, params, waves, mels, lengths):
    """Return the sources, the estimates, the Mels and the mixture; waveforms are silent after their ends."""
    spec = network.spec
    inside = jnp.arange(waves[task.phase].shape[1]) < lengths[:, None]
    sources = jnp.where(inside[:, None], jnp.stack([waves[name] for name in task.targets], axis=1), 0.0)
    mixture = jnp.where(inside, waves[task.phase], 0.0)
    if task.predicted:
        mels = mels["estimate"]
    else:
        mels = jax.vmap(lambda wave: audio.log_mel(wave, spec, lengths), in_axes=1, out_axes=1)(sources)
    frames = spec.num_frames(lengths)
    spectra = network.apply({"params": params}, mels, audio.stft(mixture, spec, lengths), frames)
    estimates = spectra_to_waves(spectra, spec, lengths)[..., : sources.shape[-1]]
    return sources, jnp.where(inside[:, None], estimates, 0.0), mels, mixture


def _objective(config: Config) -> Objective:
    return objective(network(config))


def _load(params: Any, config: ModelConfig) -> tuple[PhaseNet, Any]:
    return network(config), jax.device_put(params)


def _initial(config: ModelConfig) -> Callable:
    return objective(network(config)).init


TRAINABLE = Trainable(
    _objective, check=lambda config: None, load=_load, initial=_initial, title="phase net", argument="phase"
)
