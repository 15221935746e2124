"""An enhanced recording keeps its rate, length and encoding; chunks, batches and other files do not change it."""

import numpy as np
import pytest
import soundfile

import sfjax
from sfjax import audio, metrics
from sfjax.errors import UserError
from sfjax.inference import batch, chunking


@pytest.fixture(scope="module")
def model(enhancer):
    return sfjax.load(enhancer)


def enhance(model, pairs):
    """Enhances each file into another; those that failed, with the reason."""
    made = batch.process_files(model, model.enhancing(), [(source, [target]) for source, target in pairs])
    return {one.source: one.reason for one in made if one.status == "failed"}


@pytest.mark.parametrize("rate", [8_000, 16_000, 44_100])
def test_an_enhanced_wave_keeps_its_rate_and_length(model, voice, rate):
    wav = audio.resample(voice(1.234, 0), 16_000, rate)
    clean = model.enhance(wav, rate)
    assert clean.shape == wav.shape and np.isfinite(clean).all()
    assert np.abs(clean).max() > 0


def test_a_seed_repeats_and_another_differs(model, voice):
    wav = voice(0.8, 0)
    np.testing.assert_array_equal(model.enhance(wav, 16_000, seed=3), model.enhance(wav, 16_000, seed=3))
    assert np.abs(model.enhance(wav, 16_000, seed=3) - model.enhance(wav, 16_000, seed=4)).max() > 1e-4


def test_options_replace_the_runs(model, voice):
    wav = voice(0.8, 0)
    assert np.abs(model.enhance(wav, 16_000, guidance=0.0) - model.enhance(wav, 16_000, guidance=2.0)).max() > 1e-4
    with pytest.raises(UserError, match="unknown option 'step'"):
        model.enhance(wav, 16_000, step=3)


def test_a_recording_in_chunks_is_that_in_one_away_from_the_borders(enhancer, voice):
    # chunks of 2 s that overlap by half a second; what a chunk sees beyond its cross-fade is what all of them see
    model = sfjax.load(enhancer)
    wav = voice(5.0, 1)
    long = model.enhance(wav, 16_000)
    first = model.enhance(wav[:32_000], 16_000)
    np.testing.assert_allclose(long[:24_000], first[:24_000], atol=1e-6)
    second = slice(24_000, 24_000 + 32_000)
    assert len(long) == len(wav)
    assert np.isfinite(long[second]).all() and np.abs(long[second]).max() > 0


def test_the_longer_and_the_shorter_file_share_their_samples(model, tmp_path, voice):
    # 3.5 s end with a whole second chunk: the 8 s file has the same chunks up to there
    wav = voice(8.0, 2)
    soundfile.write(tmp_path / "long.wav", wav, 16_000, subtype="FLOAT")
    soundfile.write(tmp_path / "short.wav", wav[:56_000], 16_000, subtype="FLOAT")
    out = tmp_path / "out"
    assert not enhance(model, [(tmp_path / name, out / name) for name in ("long.wav", "short.wav")])
    long, short = (soundfile.read(out / name, dtype="float32")[0] for name in ("long.wav", "short.wav"))
    assert (len(long), len(short)) == (128_000, 56_000)
    assert metrics.si_sdr(short[:48_000], long[:48_000]) > 60


def test_a_file_is_the_same_alone_and_in_any_batch(model, tmp_path, voice):
    paths = []
    for i, seconds in enumerate((0.5, 1.7, 3.1)):
        paths.append(tmp_path / f"{i}.wav")
        soundfile.write(paths[-1], voice(seconds, i), 16_000, subtype="FLOAT")
    enhance(model, [(path, tmp_path / "together" / path.name) for path in paths])
    for path in paths:
        enhance(model, [(path, tmp_path / "alone" / path.name)])
        alone, together = (soundfile.read(tmp_path / where / path.name)[0] for where in ("alone", "together"))
        np.testing.assert_allclose(alone, together, atol=1e-5)


def test_a_file_keeps_rate_length_name_and_encoding(model, tmp_path, voice):
    wav = audio.resample(voice(1.3, 0), 16_000, 44_100)
    soundfile.write(tmp_path / "a.flac", np.stack([wav, wav], axis=1), 44_100, subtype="PCM_24")
    enhance(model, [(tmp_path / "a.flac", tmp_path / "out/a.flac")])
    info = audio.probe(tmp_path / "out/a.flac")
    assert info == audio.Info(len(wav), 44_100, 1, "FLAC", "PCM_24")


def test_a_bad_file_costs_no_other(model, tmp_path, voice):
    soundfile.write(tmp_path / "good.wav", voice(1.0, 0), 16_000)
    soundfile.write(tmp_path / "silent.wav", np.zeros(16_000), 16_000)
    (tmp_path / "text.wav").write_text("no sound")
    names = ("silent.wav", "good.wav", "text.wav", "missing.wav")
    failed = enhance(model, [(tmp_path / name, tmp_path / "out" / name) for name in names])
    assert {path.name for path in failed} == {"silent.wav", "text.wav", "missing.wav"}
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["good.wav"]


def test_a_pretrained_model_does_not_enhance(toy_config, tmp_path, voice):
    from sfjax import train

    train.run(toy_config("pretrain", **{"run.stop": 1}), tmp_path)
    with pytest.raises(UserError, match="not to enhance"):
        sfjax.load(tmp_path).enhance(voice(1.0, 0), 16_000)


@pytest.mark.parametrize("wav", [np.zeros(16_000), np.zeros(100), np.full(16_000, np.nan), np.ones((2, 2, 16_000))])
def test_waves_that_hold_no_speech_are_refused(model, wav):
    with pytest.raises(UserError):
        model.enhance(wav, 16_000)


def test_programs_are_compiled_for_few_lengths():
    lengths = [chunking.padded(frames, 1600) for frames in range(1, 1601)]
    assert len(set(lengths)) <= 12
    assert all(frames <= length <= max(2**0.5 * frames + 2, 71) for frames, length in enumerate(lengths, 1))


def test_evaluating_scores_a_manifest_of_pairs(enhancer, tmp_path, voice):
    from sfjax import evaluation
    from sfjax.data import manifest

    rows = []
    for i in range(2):
        clean = voice(1.5, i)
        noisy = clean + 0.01 * np.random.default_rng(i).standard_normal(len(clean)).astype(np.float32)
        audio.write(tmp_path / f"clean{i}.flac", clean, 16_000)
        audio.write(tmp_path / f"noisy{i}.flac", noisy, 16_000)
        rows.append(dict(path=f"clean{i}.flac", noisy=f"noisy{i}.flac", start=0, frames=len(clean), rate=16_000))
    manifest.write(tmp_path / "pairs.parquet", rows)
    common = dict(split=None, seed=0, workers=1, progress=False)
    found = {
        system: evaluation.evaluate(tmp_path / "pairs.parquet", sfjax.load(enhancer), system=system, **common)
        for system in ("noisy", "bound", "model")
    }
    assert [row["name"] for row in found["model"].rows] == ["noisy0", "noisy1"]
    clean, noisy = audio.read(tmp_path / "clean0.flac")[0], audio.read(tmp_path / "noisy0.flac")[0]
    assert found["noisy"].rows[0]["estoi"] == pytest.approx(metrics.estoi(clean, noisy, 16_000), abs=1e-6)
    assert found["bound"].mean["estoi"] > found["noisy"].mean["estoi"]
