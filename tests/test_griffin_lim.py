"""Griffin-Lim makes waves with the requested Mels, whatever else is in the batch."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sfjax import audio
from sfjax.vocoder.griffin_lim import griffin_lim, locked_phase, refine


@pytest.fixture(scope="module")
def mel(voice, spec):
    return audio.log_mel(jnp.asarray(np.stack([voice(1.0, seed) for seed in (0, 1)])), spec)


def distance(mel, spec, **options):
    """The mean distance, in natural logarithms, between the Mels and those of the wave that is made of them."""
    wave = jax.jit(lambda mel: griffin_lim(mel, spec, **options))(mel)
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
    samples = jnp.array([16_000, 12_345])
    frames = 78  # of 12 345 samples
    wave = jax.jit(lambda mel, lengths: griffin_lim(mel, spec, iterations=4, lengths=lengths))
    both, alone = wave(mel, samples), wave(mel[1:, :frames], samples[1:])
    np.testing.assert_allclose(both[1, : 160 * frames], alone[0], atol=1e-4)  # of rounding, four times through an FFT


def test_a_phase_locked_start_comes_closer_than_random_phases(mel, spec):
    magnitude = audio.magnitude(mel, spec)
    random = jnp.exp(2j * jnp.pi * jax.random.uniform(jax.random.key(0), magnitude.shape))
    far = lambda wave: float(jnp.abs(audio.log_mel(wave, spec) - mel).mean())
    two = jax.jit(lambda start: refine(magnitude, start, spec, iterations=2))
    both = [far(two(start)) for start in (locked_phase(magnitude, spec), random)]
    assert both[0] < 0.8 * both[1]


def test_the_start_of_a_steady_tone_is_the_tone(spec):
    tone = jnp.sin(2 * jnp.pi * 1234.5 / 16_000 * jnp.arange(16_000))[None]
    magnitude = jnp.abs(audio.stft(tone, spec))
    wave = refine(magnitude, locked_phase(magnitude, spec), spec, iterations=0)
    inner = slice(2000, -2000)
    parts = jnp.fft.rfft(wave[0, inner] * jnp.hanning(12_000))
    near = jnp.abs(jnp.arange(len(parts)) * 16_000 / 12_000 - 1234.5) < 5
    assert jnp.square(jnp.abs(parts))[near].sum() > 0.999 * jnp.square(jnp.abs(parts)).sum()
    np.testing.assert_allclose(jnp.square(wave[0, inner]).mean(), 0.5, rtol=0.01)


def test_the_phases_of_a_frame_follow_from_it_and_the_frames_before(mel, spec):
    magnitude = audio.magnitude(mel, spec)
    np.testing.assert_array_equal(locked_phase(magnitude[1:, :40], spec)[0], locked_phase(magnitude, spec)[1, :40])
