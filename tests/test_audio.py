"""Sound files are read and written correctly; log-Mel spectrograms match librosa and lead back to waveforms."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import soundfile

from sfjax import audio, audio_io, metrics
from sfjax.errors import UserError

# compiled as a whole: operation by operation takes longer
log_mel, stft, istft = (jax.jit(each, static_argnames="spec") for each in (audio.log_mel, audio.stft, audio.istft))


def reconstruct(name):
    return jax.jit(audio.RECONSTRUCTIONS[name], static_argnums=2)


def test_log_mel_is_librosas(spec, voice):
    import librosa

    wav = voice(1.5, 0)
    padded = np.pad(np.pad(wav, (0, -len(wav) % 160)), 432, mode="reflect")
    magnitude = np.abs(librosa.stft(padded, n_fft=1024, hop_length=160, win_length=640, center=False))
    bank = librosa.filters.mel(sr=16_000, n_fft=1024, n_mels=80, fmin=0, fmax=8000)
    expected = (np.log(np.maximum(bank @ magnitude, 1e-5)).T + 5.8843) / 2.2615
    assert np.abs(log_mel(jnp.array([wav]), spec)[0] - expected).max() <= 1e-4


@pytest.mark.parametrize("samples, frames", [(16_000, 100), (16_001, 101), (1600, 10), (1599, 10)])
def test_there_is_one_frame_for_each_started_hop(spec, samples, frames):
    assert log_mel(jnp.ones((1, samples)), spec).shape == (1, frames, 80)
    assert spec.num_frames(samples) == frames


def test_the_filterbank_is_well_conditioned_and_has_no_empty_band(spec):
    bank = audio.filterbank(spec)
    values = np.linalg.svd(bank, compute_uv=False)
    assert bank.shape == (80, 513) and (bank.sum(axis=1) > 0).all()
    assert values[0] / values[-1] < 5


def test_a_padded_wave_has_the_frames_it_has_alone(spec, voice):
    wav = voice(0.777, 1)
    alone = log_mel(jnp.array([wav]), spec)[0]
    padded = log_mel(jnp.array([np.pad(wav, (0, 5000))]), spec, jnp.array([len(wav)]))[0]
    np.testing.assert_array_equal(padded[: len(alone)], alone)


def test_a_wave_shorter_than_the_reflection_is_framed(spec):
    wav = jnp.zeros((1, 8000)).at[0, :200].set(0.1)
    assert np.isfinite(log_mel(wav, spec, jnp.array([200]))).all()


def test_the_gradient_of_silence_is_finite(spec):
    gradient = jax.grad(lambda wav: log_mel(wav, spec).sum())(jnp.zeros((1, 1600)))
    assert np.isfinite(gradient).all()


def test_istft_undoes_stft_to_the_last_sample(spec, voice):
    wav = voice(1.0, 2)
    back = istft(stft(jnp.array([wav]), spec), spec)[0]
    np.testing.assert_allclose(back, wav, atol=1e-6)


def test_a_padded_spectrum_gives_the_wave_it_gives_alone(spec, voice):
    wav = voice(0.5, 2)
    spectrum = stft(jnp.array([wav]), spec)
    padded = jnp.pad(spectrum, ((0, 0), (0, 9), (0, 0)), constant_values=3.0)
    back = istft(padded, spec, jnp.array([len(wav)]))[0]
    np.testing.assert_allclose(back[: len(wav)], wav, atol=1e-6)


def test_reading_a_crop_equals_cutting_the_whole(tmp_path, voice):
    wav = voice(1.0, 3)
    for suffix, tolerance in ((".wav", 0), (".flac", 0), (".ogg", 1e-4)):
        path = tmp_path / f"a{suffix}"
        soundfile.write(path, wav, 16_000)
        whole, rate = audio.read(path)
        crop, _ = audio.read(path, start=5000, frames=3000)
        assert rate == 16_000 and crop.shape == (3000,)
        np.testing.assert_allclose(crop, whole[5000:8000], atol=tolerance)


@pytest.mark.parametrize("suffix", audio_io.CONTAINERS)
def test_every_container_is_written_and_read(tmp_path, voice, suffix):
    wav = voice(1.0, 4)
    audio.write(tmp_path / f"a{suffix}", wav, 16_000)
    back, rate = audio.read(tmp_path / f"a{suffix}")
    lag = np.argmax(np.correlate(back, wav, "full")) - len(wav) + 1
    overlap = min(len(back) - lag, len(wav))
    assert rate == 16_000
    assert np.corrcoef(back[lag : lag + overlap], wav[:overlap])[0, 1] > 0.98


def test_channels_are_averaged(tmp_path):
    soundfile.write(tmp_path / "a.wav", np.tile([0.1, 0.3, 0.5], (100, 1)), 16_000, subtype="FLOAT")
    np.testing.assert_allclose(audio.read(tmp_path / "a.wav")[0], 0.3, atol=1e-7)


@pytest.mark.parametrize("rate", [8_000, 16_000, 44_100, 48_000])
def test_streaming_equals_reading_the_whole(tmp_path, voice, rate):
    wav = audio.resample(voice(2.3, 5), 16_000, rate)
    soundfile.write(tmp_path / "a.wav", wav, rate, subtype="FLOAT")
    streamed = np.concatenate(list(audio.blocks(tmp_path / "a.wav", rate=16_000, seconds=0.37)))
    whole, _ = audio.read(tmp_path / "a.wav", rate=16_000)
    assert len(streamed) == len(whole)
    np.testing.assert_allclose(streamed, whole, atol=2e-4)  # the stream's filter is truncated at its ends


def test_a_written_file_keeps_length_rate_and_encoding_of_its_model(tmp_path, voice):
    like = audio.Info(44_103, 44_100, 1, "FLAC", "PCM_24")
    with audio.Writer(tmp_path / "a.flac", rate=16_000, like=like) as out:
        for piece in np.split(voice(1.0, 6), 4):
            out.write(piece)
        out.write(np.zeros(0, np.float32), last=True)
    assert audio.probe(tmp_path / "a.flac") == like


def test_a_failed_write_leaves_nothing(tmp_path):
    like = audio.Info(100, 16_000, 1, "WAV", "PCM_16")
    with pytest.raises(RuntimeError), audio.Writer(tmp_path / "a.wav", rate=16_000, like=like) as out:
        out.write(np.zeros(50, np.float32))
        raise RuntimeError
    assert not list(tmp_path.iterdir())


def test_unreadable_files_are_one_line_errors(tmp_path):
    (tmp_path / "empty.wav").touch()
    (tmp_path / "text.wav").write_text("not sound")
    for path in (tmp_path / "none.wav", tmp_path, tmp_path / "empty.wav", tmp_path / "text.wav"):
        with pytest.raises(UserError) as error:
            audio.read(path)
        assert str(path) in str(error.value) and "\n" not in str(error.value)


def test_statistics_of_real_speech_are_the_specified_ones(spec, real_data, voice):
    if real_data is None:  # generated voices have their own figures
        mel = np.asarray(log_mel(jnp.stack([voice(2.0, i) for i in range(4)]), spec))
        expected = (-0.1, 1.1)
    else:
        files = sorted((real_data / "pairs/vbd/clean").glob("*.flac"))
        mel = np.concatenate([np.asarray(log_mel(jnp.array([audio.read(f)[0]]), spec))[0] for f in files])
        expected = (-5.890, 2.237)
    found = mel * spec.std + spec.mean if real_data else mel
    assert found.mean() == pytest.approx(expected[0], abs=0.02 if real_data else 0.5)
    assert found.std() == pytest.approx(expected[1], abs=0.02 if real_data else 0.5)


def test_a_recording_keeps_what_lies_under_the_mel_and_loses_what_lies_above(spec, voice):
    noisy = jnp.stack([voice(1.0, 0), voice(1.0, 1)])
    spectrum, own, half = stft(noisy, spec), log_mel(noisy, spec), np.log(2) / spec.std
    attenuate, equalise = reconstruct("mask"), reconstruct("boost")
    for mel, scale in ((own, 1.0), (own + half, 1.0), (own - half, 0.5)):  # nothing is added
        np.testing.assert_allclose(attenuate(mel[:, None], spectrum, spec)[:, 0], scale * noisy, atol=1e-4)
        np.testing.assert_allclose(equalise(mel[:, None], spectrum, spec)[:, 0], scale * noisy, atol=1e-4)
    more = 2.0 + audio.UNCERTAIN  # nepers
    raised = equalise(own[:, None] + more / spec.std, spectrum, spec)[:, 0]
    np.testing.assert_allclose(raised, np.exp(2.0) * noisy, atol=1e-3)
    most = audio.BOOST / np.exp(audio.UNCERTAIN)
    np.testing.assert_allclose(equalise(own[:, None] + 20.0, spectrum, spec)[:, 0], most * noisy, atol=1e-4 * most)
    top = attenuate(own.at[:, :, 60:].add(-10.0)[:, None], spectrum, spec)[:, 0]  # one band of frequencies alone
    gain = np.abs(stft(top, spec) / (jnp.abs(spectrum) + 1e-6))
    edge = int(np.flatnonzero(audio.filterbank(spec)[60])[0])
    assert np.median(gain[..., : edge - 40]) > 0.99 and np.median(gain[..., edge + 120 :]) < 0.05


def test_ratio_masks_of_all_sources_add_up_to_the_recording(spec, voice):
    recording = stft(jnp.stack([voice(1.0, 0), voice(1.0, 1)]), spec)
    mels = jax.random.normal(jax.random.key(0), (2, 3, recording.shape[1], spec.bands))
    whole, ratio_mask = istft(recording, spec), reconstruct("ratio")
    np.testing.assert_allclose(ratio_mask(mels, recording, spec).sum(axis=1), whole, atol=1e-5)
    # equal sources get equal shares, and one that is far louder than the others gets all
    np.testing.assert_allclose(ratio_mask(0 * mels, recording, spec)[:, 0], whole / 3, atol=1e-5)
    loud = ratio_mask(mels.at[:, 1].add(20.0), recording, spec)
    np.testing.assert_allclose(loud[:, 1], whole, atol=1e-5)
    # the level of all sources together does not matter
    np.testing.assert_allclose(ratio_mask(mels - 3.0, recording, spec), ratio_mask(mels, recording, spec), atol=1e-5)


def test_the_wiener_mask_leaves_out_what_no_source_explains(spec, voice):
    recording = stft(jnp.stack([voice(1.0, 0), voice(1.0, 1)]), spec)
    own = log_mel(istft(recording, spec), spec)
    ratio_mask, wiener_mask = reconstruct("ratio"), reconstruct("wiener")
    halves = (
        jnp.stack([own, own], axis=1) - np.log(2) / 2 / spec.std
    )  # each source has half of the power: nothing is left
    ratio = ratio_mask(halves, recording, spec)
    np.testing.assert_allclose(wiener_mask(halves, recording, spec), ratio, atol=1e-3)
    # sources of a quarter of the power each leave half of it to the rest
    quarters = wiener_mask(halves - np.log(2) / 2 / spec.std, recording, spec)
    np.testing.assert_allclose(quarters, ratio / 2, atol=1e-3)
    # sources above the recording share it, as without a rest
    np.testing.assert_allclose(wiener_mask(halves + 1.0, recording, spec), ratio, atol=1e-5)


def test_borrowed_phase_reaches_its_upper_bound(spec, real_data, voice):
    @jax.jit
    def borrowed(clean, noisy, length):
        mel, recording = log_mel(clean, spec, length), stft(noisy, spec, length)
        return audio.borrow_phase(mel[:, None], recording, spec, length)[:, 0]

    def bound(clean, noisy):
        size = -(-len(clean) // 80_000) * 80_000  # few sizes to compile for
        padded = [np.pad(wave, (0, size - len(wave)))[None].astype(np.float32) for wave in (clean, noisy)]
        return np.asarray(borrowed(*padded, np.array([len(clean)])))[0, : len(clean)]

    if real_data is None:
        clean = voice(3.0, 7)
        noisy = clean + 0.01 * np.random.default_rng(0).standard_normal(len(clean)).astype(np.float32)
        before, after = metrics.estoi(clean, noisy, 16_000), metrics.estoi(clean, bound(clean, noisy), 16_000)
        assert after > before + 0.05
        return
    scores = []
    for path in sorted((real_data / "pairs/vbd/clean").glob("*.flac")):
        clean, noisy = audio.read(path)[0], audio.read(real_data / "pairs/vbd/noisy" / path.name)[0]
        scores.append(metrics.score(clean, bound(clean, noisy), 16_000))
    expected = {"pesq_wb": 3.458, "pesq_nb": 3.844, "estoi": 0.939, "csig": 4.93, "cbak": 3.80, "covl": 4.28}
    for name, value in expected.items():
        assert np.mean([score[name] for score in scores]) == pytest.approx(value, abs=0.03), name
