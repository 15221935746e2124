"""A wave from Mels alone, without weights: the fast Griffin-Lim algorithm (Perraudin et al., WASPAA 2013)."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from sfjax import audio

MOMENTUM = 0.99  # the authors' α: how far each step goes beyond the last


def griffin_lim(
    mel: Float[Array, "batch frames mels"],
    spec: audio.MelSpec,
    key: Key[Array, ""],
    *,
    iterations: int,
    lengths: Int[Array, " batch"] | None = None,
) -> Float[Array, "batch samples"]:
    """Waves of frames · hop samples whose amplitude spectra come close to those of normalised log-Mel frames.

    The phases start at random, the same for every example, and are found in `iterations` transforms there and back.
    With `lengths`, in samples, each wave is the one it is alone, and nothing behind its end means anything.
    """
    magnitude = audio.magnitude(mel, spec)
    places = jnp.arange(magnitude.shape[1])  # a frame's phases follow from its number: padding does not change them
    draw = lambda place: jax.random.uniform(jax.random.fold_in(key, place), magnitude.shape[2:], maxval=2 * jnp.pi)
    start = jnp.exp(1j * jax.vmap(draw)(places))

    def improve(_, carry):
        phase, last = carry
        now = audio.stft(audio.istft(magnitude * phase, spec, lengths), spec, lengths)
        return audio.unit(now + MOMENTUM * (now - last)), now

    first = jnp.broadcast_to(start, magnitude.shape)
    phase, _ = jax.lax.fori_loop(0, iterations, improve, (first, jnp.zeros_like(first)))
    return audio.istft(magnitude * phase, spec, lengths)
