"""Gains of a model's bands change all channels of a recording at its own rate, and nothing else."""

import jax.numpy as jnp
import numpy as np
import pytest
import scipy.signal
import soundfile

import sfjax
from sfjax import audio
from sfjax.inference import batch
from sfjax.inference.band_filter import BandFilter


def tone(hz, rate, seconds=1.0):
    return np.sin(2 * np.pi * hz * np.arange(round(seconds * rate)) / rate).astype(np.float32)


def filtered(spec, wave, rate, gains, *, block=7919, piece=137):
    """Filter a recording [samples, channels] whose samples and gains come in pieces."""
    blocks = (wave[start : start + block] for start in range(0, len(wave), block))
    band_filter = BandFilter(blocks, rate, wave.shape[1], spec)
    starts = range(0, gains.shape[1], piece)
    return np.concatenate([band_filter(gains[:, i : i + piece], i == starts[-1]) for i in starts], axis=1)


def frames(spec, wave, rate):
    """Return the number of the model's frames of a recording."""
    return spec.num_frames(-(-len(wave) * spec.sample_rate // rate))


@pytest.mark.parametrize("rate, channels", [(8_000, 2), (22_050, 1), (44_100, 3), (48_000, 2)])
def test_gains_of_one_change_no_bit(spec, rate, channels):
    wave = np.random.default_rng(0).standard_normal((9 * rate + 123, channels)).astype(np.float32)
    ones = np.ones((2, frames(spec, wave, rate), spec.bands), np.float32)
    np.testing.assert_array_equal(filtered(spec, wave, rate, ones), np.stack([wave, wave]))


@pytest.mark.parametrize("rate", [16_000, 44_100])
def test_segments_join_to_what_the_whole_recording_gives(spec, rate):
    wave = np.random.default_rng(1).standard_normal((10 * rate, 1)).astype(np.float32)
    own = audio.at_rate(spec, rate)

    def rising(count, hop_seconds):  # the gain of each band rises over time, at a rate of its own
        return np.float32((np.arange(count)[:, None] + 0.5) * hop_seconds * np.linspace(0.0, 0.1, spec.bands))[None]

    gains = jnp.asarray(rising(own.num_frames(len(wave)), own.hop / rate))
    whole = np.asarray(audio.change_bands(gains[None], jnp.asarray(wave.T), own))[0]
    pieces = filtered(spec, wave, rate, rising(frames(spec, wave, rate), 0.01))[..., 0]
    inside = slice(rate // 10, -rate // 10)  # gains are not extrapolated at the ends
    np.testing.assert_allclose(pieces[:, inside], whole[:, inside], atol=1e-5)


def test_the_top_bands_act_above_them_and_never_amplify_there(spec):
    low, high = tone(1_000, 48_000), tone(12_000, 48_000)
    wave, inside = np.stack([low + high, low], axis=1), slice(4_800, -4_800)
    gains = np.ones((1, frames(spec, wave, 48_000), spec.bands), np.float32)
    gains[:, :, -audio.TOP_BANDS :] = 0.25
    out = filtered(spec, wave, 48_000, gains)[0]
    np.testing.assert_allclose(out[inside, 0], (low + 0.25 * high)[inside], atol=1e-3)
    np.testing.assert_allclose(out[inside, 1], low[inside], atol=1e-3)
    out = filtered(spec, wave, 48_000, 4 * np.ones_like(gains))[0]
    np.testing.assert_allclose(out[inside, 0], (4 * low + high)[inside], atol=1e-3)


@pytest.mark.parametrize("rate", [16_000, 22_050, 44_100, 48_000])
def test_gains_act_at_their_time(spec, rate):
    wave = np.random.default_rng(2).standard_normal((12 * rate, 1)).astype(np.float32)
    gains = np.ones((1, frames(spec, wave, rate), spec.bands), np.float32)
    gains[:, 700:] = 0  # from 7 s on
    out = filtered(spec, wave, rate, gains)[0]
    start, end = round(6.96 * rate), round(7.04 * rate)
    np.testing.assert_array_equal(out[:start], wave[:start])
    assert np.abs(out[end:]).max() < 1e-5
    power = np.square(out[start:end, 0] / wave[start:end, 0]).clip(0, 1)
    assert (power < 0.25).mean() == pytest.approx(0.5, abs=0.1)  # half of the time around 7 s


# Recordings and files


@pytest.fixture(scope="module")
def masking(enhancer):
    return sfjax.load(enhancer, reconstruct="mask")


def test_an_array_comes_back_in_its_shape_and_a_silent_channel_silent(masking, voice):
    wave = voice(3.2, 0)
    mono = masking.enhance(wave, 16_000)
    twice = masking.enhance(np.stack([wave, wave], axis=1), 16_000)
    # chunks are cross-faded sample by sample for mono, and frame by frame otherwise
    np.testing.assert_allclose(twice, np.stack([mono, mono], axis=1), atol=5e-4)
    np.testing.assert_allclose(masking.enhance(np.stack([wave, wave]), 16_000), twice.T, atol=1e-6)
    np.testing.assert_array_equal(masking.enhance(wave[:, None], 16_000), mono[:, None])
    fast = audio.resample(wave, 16_000, 48_000)
    assert masking.enhance(fast, 48_000).shape == fast.shape
    one_side = masking.enhance(np.stack([fast, np.zeros_like(fast)], axis=1), 48_000)
    assert one_side.shape == (len(fast), 2) and np.abs(one_side[:, 0]).max() > 0.01 and not one_side[:, 1].any()
    with pytest.warns(UserWarning, match="the same scale"):
        loud = masking.enhance(np.stack([wave, wave], axis=1) * 2**15, 16_000)
    np.testing.assert_allclose(loud / 2**15, twice, atol=1e-5)


@pytest.mark.parametrize(
    "name, subtype, rate, channels",
    [
        ("a.wav", "PCM_24", 48_000, 6),
        ("a.flac", "PCM_16", 44_100, 2),
        ("a.ogg", "VORBIS", 24_000, 2),
        ("a.wav", "FLOAT", 32_000, 1),
    ],
)
def test_a_file_keeps_its_channels_and_is_what_the_array_gives(masking, voice, tmp_path, name, subtype, rate, channels):
    wave = audio.resample(voice(2.4, 1), 16_000, rate)
    wave = wave[:, None] * np.linspace(1.0, 0.0, channels + 1, dtype=np.float32)[:-1]
    soundfile.write(tmp_path / name, wave, rate, subtype=subtype)
    target = tmp_path / "out" / name
    assert batch.process_files(masking, masking.enhancing(), [(tmp_path / name, [target])])[0].status == "written"
    assert audio.probe(target) == audio.probe(tmp_path / name)
    read, written = soundfile.read(tmp_path / name, dtype="float32")[0], soundfile.read(target, dtype="float32")[0]
    expected = masking.enhance(tmp_path / name)
    assert expected.shape == read.shape
    # the streamed resampling for the network differs at its ends, and Vorbis is lossy
    np.testing.assert_allclose(written, expected, atol=0.05 if subtype == "VORBIS" else 5e-3)
    again = batch.process_files(masking, masking.enhancing(), [(tmp_path / name, [target])])
    assert again[0].status == "there already"


def test_floats_beyond_full_scale_keep_their_scale_in_stereo_files(masking, voice, tmp_path):
    wave = np.stack([voice(1.0, 0), voice(1.0, 1)], axis=1)
    for name, scale in (("one.wav", 1), ("many.wav", 2**15)):
        soundfile.write(tmp_path / name, wave * np.float32(scale), 16_000, subtype="FLOAT")
    results = batch.process_files(
        masking, masking.enhancing(), [(tmp_path / name, [tmp_path / "out" / name]) for name in ("one.wav", "many.wav")]
    )
    assert [result.note.count("not in [-1, 1]") for result in results] == [0, 1]
    one, many = (soundfile.read(tmp_path / "out" / name)[0] for name in ("one.wav", "many.wav"))
    np.testing.assert_allclose(many / 2**15, one, atol=1e-5)


def test_a_model_that_generates_a_phase_averages_channels_and_says_so(enhancer, voice, tmp_path, capsys):
    model = sfjax.load(enhancer)
    assert model.reconstruct == "phase"
    wave = np.stack([voice(1.0, 0)] * 2, axis=1)
    assert model.enhance(wave, 16_000).shape == (16_000,)
    soundfile.write(tmp_path / "a.wav", wave, 16_000)
    batch.process_files(model, model.enhancing(), [(tmp_path / "a.wav", [tmp_path / "b.wav"])])
    assert "1 of 1 files have several channels" in capsys.readouterr().err
    assert audio.probe(tmp_path / "b.wav").channels == 1


# The models of the package


@pytest.fixture(scope="module")
def wide_voice():
    """The example voice at 48 kHz, with its band of 4 to 8 kHz repeated from 8 to 12 kHz."""
    from sfjax import examples

    wave, rate = audio.read(examples.path("voice"))
    spectrum = np.fft.rfft(audio.resample(wave, rate, 48_000))
    hz = np.fft.rfftfreq(3 * len(wave), 1 / 48_000)
    width = int(np.searchsorted(hz, 8_000) - np.searchsorted(hz, 4_000))
    start = int(np.searchsorted(hz, 8_000))
    spectrum[start : start + width] = spectrum[start - width : start]
    return np.fft.irfft(spectrum).astype(np.float32)


def _band_level(wave, low, high):
    sos = scipy.signal.butter(8, [low, high], "band", fs=48_000, output="sos")
    return 10 * np.log10(np.mean(np.square(scipy.signal.sosfiltfilt(sos, wave))) + 1e-12)


def test_clean_speech_keeps_what_lies_above_8_khz(wide_voice):
    clean = sfjax.load("sfjax://enhance").enhance(wide_voice, 48_000)
    assert sfjax.metrics.si_sdr(clean, wide_voice) > 25
    assert abs(_band_level(clean, 8_500, 11_500) - _band_level(wide_voice, 8_500, 11_500)) < 3


def test_noise_above_8_khz_goes_down_with_the_noise_below(wide_voice):
    noise = 0.02 * np.random.default_rng(0).standard_normal(2 * 48_000).astype(np.float32)
    recording = np.concatenate([noise, wide_voice])  # noise alone in the first seconds
    clean = sfjax.load("sfjax://enhance").enhance(recording, 48_000)[24_000:72_000]
    for low, high in ((4_000, 7_000), (9_000, 15_000), (16_000, 23_000)):
        assert _band_level(noise[24_000:72_000], low, high) - _band_level(clean, low, high) > 10
