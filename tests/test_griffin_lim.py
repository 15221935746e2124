"""Griffin-Lim: its waves have the Mels that were asked for, whatever stands beside them in the batch."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sfjax import audio
from sfjax.vocoder.griffin_lim import griffin_lim


@pytest.fixture(scope="module")
def mel(voice, spec):
    return audio.log_mel(jnp.asarray(np.stack([voice(1.0, seed) for seed in (0, 1)])), spec)


def distance(mel, spec, **options):
    """The mean distance, in natural logarithms, between the Mels and those of the wave that is made of them."""
    wave = jax.jit(lambda mel: griffin_lim(mel, spec, jax.random.key(0), **options))(mel)
    assert wave.shape == (2, 160 * mel.shape[1])
    return float(jnp.abs(audio.log_mel(wave, spec) - mel).mean()) * spec.std


def test_the_wave_has_the_mels_that_were_asked_for_and_more_iterations_bring_it_closer(mel, spec):
    rough, fine = (distance(mel, spec, iterations=iterations) for iterations in (2, 32))
    assert fine < 0.75 * rough
    assert fine < 0.2


def test_momentum_comes_closer_in_as_many_iterations(mel, spec, monkeypatch):
    fast = distance(mel, spec, iterations=32)
    monkeypatch.setattr("sfjax.vocoder.griffin_lim.MOMENTUM", 0.0)
    assert fast < distance(mel, spec, iterations=32)


def test_a_padded_wave_is_the_one_it_is_alone(mel, spec):
    key, samples = jax.random.key(0), jnp.array([16_000, 12_345])
    frames = 78  # of 12 345 samples
    wave = jax.jit(lambda mel, lengths: griffin_lim(mel, spec, key, iterations=4, lengths=lengths))
    both, alone = wave(mel, samples), wave(mel[1:, :frames], samples[1:])
    np.testing.assert_allclose(both[1, : 160 * frames], alone[0], atol=1e-4)  # of rounding, four times through an FFT
