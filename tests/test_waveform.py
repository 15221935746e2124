"""Recordings are accepted as users have them, or refused in one line."""

from fractions import Fraction

import numpy as np
import pytest
import soundfile

from sfjax import audio
from sfjax.errors import UserError
from sfjax.inference import waveform

WAVE = np.random.default_rng(0).uniform(-0.9, 0.9, 5_000).astype(np.float32)


@pytest.mark.parametrize(
    "samples, tolerance",
    [
        (WAVE.astype(np.float64), 0),
        (WAVE.astype(np.float16), 2e-3),
        (WAVE.tolist(), 0),
        (np.rint(WAVE * 2.0**7).astype(np.int8), 2**-7),
        (np.rint(WAVE * 2.0**15).astype(np.int16), 2**-15),
        (np.rint(WAVE * 2.0**15).astype(">i2"), 2**-15),
        (np.rint(WAVE * 2.0**31).astype(np.int32), 1e-7),
        (np.rint(WAVE * 2.0**7 + 2**7).astype(np.uint8), 2**-7),
        (np.rint(WAVE * 2.0**15 + 2**15).astype(np.uint16), 2**-15),
        (np.stack([WAVE, WAVE], axis=1), 0),
        (np.stack([WAVE, WAVE]), 0),
        (np.stack([WAVE + 0.1, WAVE - 0.1], axis=1), 1e-7),
        (WAVE[:, None], 0),
    ],
)
def test_arrays_of_any_type_are_the_same_recording(samples, tolerance):
    found, rate = waveform.mono(samples, 16_000)
    assert rate == 16_000 and found.dtype == np.float32
    np.testing.assert_allclose(found, WAVE, atol=tolerance, rtol=0)


def test_a_path_is_a_recording_with_its_own_rate(tmp_path):
    soundfile.write(tmp_path / "a.wav", np.stack([WAVE, -WAVE, WAVE], axis=1), 22_050, subtype="FLOAT")
    for path in (tmp_path / "a.wav", str(tmp_path / "a.wav")):
        found, rate = waveform.mono(path, None)
        assert rate == 22_050
        np.testing.assert_allclose(found, WAVE / 3, atol=1e-6)
        samples, _ = waveform.own_type(path, 22_050)
        assert samples.shape == (5_000, 3) and samples.dtype == np.float32
        with pytest.raises(UserError, match="22050 Hz, got 16000"):
            waveform.mono(path, 16_000)
    with pytest.raises(UserError, match="found nothing"):
        waveform.mono("none.wav", None)


@pytest.mark.parametrize(
    "samples",
    [
        WAVE.astype(np.complex64),
        WAVE.astype(object),
        WAVE > 0,
        WAVE.astype(str),
        None,
        [WAVE, WAVE[:9]],
        np.zeros(9, np.int64),
        np.zeros((1, 2, 3)),
        np.float32(1),
        np.array([0, np.nan]),
        np.array([0, -np.inf]),
        np.array(["2020"], "datetime64"),
    ],
)
@pytest.mark.parametrize("read", [waveform.mono, waveform.own_type])
def test_what_cannot_be_samples_is_refused_in_a_line(samples, read):
    with pytest.raises(UserError, match="^expected (a waveform|samples|finite samples).*got") as error:
        read(samples, 16_000)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "rate", [0, -16_000, 1, 999, 16_000.5, np.nan, np.inf, "16000", b"16000", None, True, [16_000], 1j, 10**9, 10**400]
)
@pytest.mark.parametrize("read", [waveform.mono, waveform.own_type])
def test_what_cannot_be_a_rate_is_refused_in_a_line(rate, read):
    with pytest.raises(UserError, match="^the sample rate must be a number of Hz from 1000 to 768000, got"):
        read(WAVE, rate)


@pytest.mark.parametrize("rate", [16_000.0, np.int64(16_000), np.float32(16_000), np.array(16_000), Fraction(16_000)])
def test_a_whole_number_of_any_type_is_a_rate(rate):
    assert waveform.checked_rate(rate) == 16_000


def test_only_the_types_of_files_can_be_spliced():
    for kind in (np.int16, np.int32, np.float32, np.float64):
        assert waveform.own_type(np.zeros((9, 2), kind), 16_000)[0].dtype == kind
    for samples in (np.zeros(9, np.uint8), np.zeros(9, np.float16), np.zeros((2, 9))):
        with pytest.raises(UserError, match="expected"):
            waveform.own_type(samples, 16_000)


@pytest.mark.parametrize(
    "peak, level", [(0, 1), (1, 1), (1.9, 1), (3, 3), (300, 2**15), (2**15, 2**15), (40_000, 40_000)]
)
def test_the_scale_of_loud_floats_is_kept_or_that_of_integers(peak, level):
    assert waveform.level(float(peak)) == level


@pytest.mark.parametrize("subtype, clipped", [("FLOAT", 0), ("DOUBLE", 0), ("PCM_16", 7), ("PCM_24", 7)])
def test_samples_beyond_full_scale_are_kept_in_files_of_floats_and_counted_elsewhere(tmp_path, subtype, clipped):
    wav = WAVE.copy()
    wav[:7] = 1.5
    with audio.Writer(tmp_path / "a.wav", rate=8_000, like=audio.Info(len(wav), 8_000, 1, "WAV", subtype)) as writer:
        writer.write(wav, last=True)
    assert writer.clipped == clipped
    assert audio.peak(tmp_path / "a.wav") == (1.0 if clipped else 1.5)
    assert soundfile.read(tmp_path / "a.wav")[0].max() == pytest.approx(1.0 if clipped else 1.5, abs=1e-4)
    assert audio.write(tmp_path / "b.flac", wav, 8_000) == 7
