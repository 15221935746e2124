"""Mixtures have the SNR, level, noise and babble that their options ask for."""

import numpy as np
import pytest

from sfjax.data import manifest, noise_mixer
from sfjax.errors import UserError


def test_silence_around_a_sound_does_not_change_its_level():
    tone = 0.1 * np.sin(np.arange(16_000) * 0.3).astype(np.float32)
    padded = np.concatenate([np.zeros(48_000, np.float32), tone])
    assert noise_mixer.active_level(tone, 16_000) == pytest.approx(20 * np.log10(0.1 / 2**0.5), abs=0.05)
    assert noise_mixer.active_level(padded, 16_000) == pytest.approx(noise_mixer.active_level(tone, 16_000), abs=0.01)
    assert noise_mixer.active_level(np.zeros(16_000, np.float32), 16_000) == -np.inf


@pytest.mark.parametrize("snr", [-5.0, 0.0, 12.5])
def test_a_mixture_has_the_requested_snr(snr, voice):
    speech, noise = voice(2.0, 0), np.random.default_rng(0).standard_normal(32_000).astype(np.float32)
    level, noise_level = noise_mixer.active_level(speech, 16_000), noise_mixer.active_level(noise, 16_000)
    mixed = noise_mixer.at_snr(speech, noise, snr, speech_level=level, noise_level=noise_level)
    assert level - noise_mixer.active_level(mixed - speech, 16_000) == pytest.approx(snr, abs=0.05)


def mixer(corpus, **changes):
    options = dict(probability=1.0, snr=(0.0, 10.0), gain=(0.0, 0.0), babble=0.0, talkers=3, reach=5.0) | changes
    return noise_mixer.Mixer(manifest.read(corpus / "noise.parquet", split=None), **options)


def test_the_gain_changes_the_clean_wave_and_its_mixture_equally(corpus, voice):
    talk = manifest.read(corpus / "speech.parquet", split=None)
    speech = voice(1.0, 3)
    for gain in ((-20.0, -20.0), (6.0, 6.0)):
        clean, noisy = mixer(corpus, gain=gain)(speech, 16_000, talk, "s0", np.random.default_rng(1))
        scale = (clean @ speech) / (speech @ speech)
        np.testing.assert_allclose(clean, scale * speech, atol=1e-6)
        assert 20 * np.log10(scale) == pytest.approx(gain[0], abs=1e-3)
    loud, noisy = mixer(corpus, gain=(40.0, 40.0))(speech, 16_000, talk, "s0", np.random.default_rng(1))
    assert np.abs(noisy).max() <= 0.99 + 1e-6 and np.abs(loud).max() <= 0.99 + 1e-6


def test_babble_leaves_the_speaker_out(corpus, voice, monkeypatch):
    talk = manifest.read(corpus / "speech.parquet", split=None)
    read = []
    clip = noise_mixer.Mixer._clip
    monkeypatch.setattr(
        noise_mixer.Mixer, "_clip", lambda self, m, i, *rest: read.append(m.row(i)) or clip(self, m, i, *rest)
    )
    babbling = mixer(corpus, babble=1.0)
    for seed in range(5):
        babbling(voice(1.0, 0), 16_000, talk, "s1", np.random.default_rng(seed))
    assert len(read) == 15 and {row["kind"] for row in read} == {"speech"}
    assert "s1" not in {row["speaker"] for row in read}
    assert all(len({row["speaker"] for row in read[i : i + 3]}) == 3 for i in range(0, 15, 3))


def test_the_same_generator_gives_the_same_mixture(corpus, voice):
    talk = manifest.read(corpus / "speech.parquet", split=None)
    one, two = (mixer(corpus)(voice(1.0, 0), 16_000, talk, "s0", np.random.default_rng(7)) for _ in range(2))
    np.testing.assert_array_equal(one[1], two[1])


def test_noise_comes_as_often_as_its_probability_says(corpus, voice):
    talk, speech = manifest.read(corpus / "speech.parquet", split=None), voice(0.5, 0)
    pairs = [
        mixer(corpus, probability=0.5)(speech, 16_000, talk, "s0", np.random.default_rng(seed)) for seed in range(60)
    ]
    assert 18 <= sum(not np.array_equal(clean, noisy) for clean, noisy in pairs) <= 42  # three standard deviations


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"probability": 2.0}, "config.mix.probability .* from 0 to 1, got 2.0"),
        ({"babble": -1.0}, "config.mix.babble .*probability.* got -1.0"),
        ({"snr": (5.0, -5.0)}, r"config.mix.snr .*range.* got \(5.0, -5.0\)"),
    ],
)
def test_invalid_probabilities_and_ranges_are_rejected(corpus, changes, words):
    with pytest.raises(UserError, match=words):
        mixer(corpus, **changes)
