"""A recording of a low rate gets the model's rate: its own band is unchanged, and a vocoder makes what lies above."""

import dataclasses

import numpy as np
import pytest
import soundfile

from sfjax import audio, inference
from sfjax.errors import UserError
from sfjax.inference import bandwidth, batch

RATE = 16_000
WHOLE = bandwidth.OWN * bandwidth.FADE * 8000  # Hz where the generated band is whole


@pytest.fixture(scope="module")
def model(enhancer):
    """A toy model, with the vocoder of the package."""
    return dataclasses.replace(inference.load(enhancer), reconstruct="mask").with_vocoder()


def power(wav, low, high):
    """The power of a wave between two frequencies in Hz."""
    spectrum, hertz = np.abs(np.fft.rfft(wav * np.hanning(len(wav)))) ** 2, np.fft.rfftfreq(len(wav), 1 / RATE)
    return float(spectrum[(hertz >= low) & (hertz < high)].sum() / len(wav))


def test_the_own_band_is_that_without_extension_and_the_band_above_is_generated(model, voice):
    wav = audio.resample(voice(1.5, 0), RATE, 8000)
    plain = audio.resample(model.enhance(wav, 8000), 8000, RATE)
    wide = model.enhance(wav, 8000, to_rate=RATE)
    assert len(wide) == 2 * len(wav)
    assert power(wide - plain, 0, 3500) < 1e-3 * power(plain, 0, 3500)
    assert power(wide, WHOLE, 8000) > 100 * power(plain, WHOLE, 8000)


def test_a_recording_of_the_models_rate_is_unchanged_in_any_batch(model, voice, tmp_path):
    wav = voice(1.5, 0)
    np.testing.assert_array_equal(model.enhance(wav, RATE, to_rate=RATE), model.enhance(wav, RATE))
    soundfile.write(tmp_path / "narrow.wav", audio.resample(wav, RATE, 8000), 8000)
    soundfile.write(tmp_path / "wide.wav", wav, RATE)
    files = [(tmp_path / f"{name}.wav", [tmp_path / f"out/{name}.wav"]) for name in ("narrow", "wide")]
    results = batch.process_files(model, model.enhancing(), files, to_rate=RATE)
    assert [result.status for result in results] == ["written", "written"]
    rates = [soundfile.info(targets[0]).samplerate for _, targets in files]
    assert rates == [RATE, RATE]
    again = batch.process_files(model, model.enhancing(), files, to_rate=RATE)
    assert [result.status for result in again] == ["there already", "there already"]
    wide, _ = soundfile.read(tmp_path / "out/wide.wav", dtype="int16")
    alone = model.enhance(tmp_path / "wide.wav")
    np.testing.assert_allclose(wide / 2.0**15, alone, atol=2e-4)


def test_other_rates_and_several_channels_are_one_line(model, voice, refused, tmp_path):
    wav = voice(1.0, 0)
    with pytest.raises(UserError, match="16000 Hz, got 48000"):
        model.enhance(wav, 8000, to_rate=48_000)
    with pytest.raises(UserError, match="got 2 channels"):
        model.enhance(np.stack([wav, wav], axis=1), 8000, to_rate=RATE)
    soundfile.write(tmp_path / "a.wav", wav, RATE)
    refused("got 8000", "enhance", tmp_path / "a.wav", "-o", tmp_path / "out", "--to-rate", 8000)
