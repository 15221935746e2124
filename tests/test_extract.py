"""Target speaker extraction: an enrolment in front of a mixture, in training, inference and scores."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import soundfile

from sfjax import amplitude_loss, audio, inference, metrics, tasks, train
from sfjax.configs import default
from sfjax.data import examples, manifest
from sfjax.errors import UserError
from sfjax.inference import chunking, enrolment

RATE = 16_000
UNIT = 640  # samples: four frames
STD = default.get_config("tiny").mel.std


def extract(mask=1.0):
    return tasks.make(name="extract", drop=0.0, mask=mask)


def enrolled(seconds=(1.0, 1.0), absent=0.0):
    return examples.Enrolled(examples.Talk(2, None, 1.0, (-33.0, -25.0), (-38.0, -30.0)), UNIT, seconds, absent)


def test_only_the_mixture_counts_and_both_parts_are_numbered():
    features = {name: jax.random.normal(jax.random.key(i), (20, 4)) for i, name in enumerate(("speech", "mixture"))}
    features["enrolled"] = (jnp.arange(20) < 8).astype(jnp.int32)
    example = extract().example(features, jnp.int32(18), jax.random.key(0))
    np.testing.assert_array_equal(example["copy"], [1] * 8 + [2] * 10 + [0] * 2)
    np.testing.assert_array_equal(example["weight"], [0] * 8 + [1] * 10 + [0] * 2)
    np.testing.assert_array_equal(example["condition"][:18], features["mixture"][:18])
    assert not np.asarray(example["condition"][18:]).any()
    np.testing.assert_array_equal(example["target"], features["speech"])


def test_a_negative_weight_of_the_mask_is_refused():
    with pytest.raises(UserError, match="task.mask .* got -1"):
        extract(mask=-1.0)


def test_the_error_of_the_share_is_of_power_and_weighted_by_the_recording():
    mels = jax.random.normal(jax.random.key(0), (3, 2, 6, 5)) - jnp.asarray([1.0, 1.0, 0.0])[:, None, None, None]
    x1, estimate, recording = mels.at[:, :, 5].set(jnp.inf)  # padding is undefined
    weight = jnp.ones((2, 6)).at[:, 5].set(0.0)
    got = amplitude_loss.share_error(estimate, x1, recording, weight, STD)
    amplitude = np.exp(STD * np.asarray(mels[:, :, :5], np.float64))
    share = np.minimum(amplitude[:2] ** 2 / amplitude[2] ** 2, 1.0)
    bins = amplitude[2] ** 0.6
    bins *= 5 * 5 / bins.sum(axis=(1, 2), keepdims=True)
    np.testing.assert_allclose(got[:, :5], (bins * (share[0] - share[1]) ** 2).sum(axis=-1), rtol=1e-4)
    assert not np.asarray(got[:, 5]).any()
    assert not np.asarray(amplitude_loss.share_error(x1, x1, recording, weight, STD)).any()


# Examples


def test_the_enrolment_is_another_recording_of_the_speaker_and_the_target_is_in_the_mixture(corpus):
    rows = manifest.read(corpus / "speech.parquet", split=None)
    for seed in range(8):
        row = rows.row(seed % len(rows))
        waves = enrolled()(rows, row, 3 * RATE, RATE, np.random.default_rng(seed))
        count = int(waves["enrolled"].sum()) * 160
        assert count % UNIT == 0 and 0 < count <= RATE
        assert len(waves["enrolled"]) == -(-len(waves["speech"]) // 160) and waves["enrolled"][: count // 160].all()
        np.testing.assert_array_equal(waves["speech"][:count], waves["mixture"][:count])
        other = waves["mixture"][count:] - waves["speech"][count:]
        for wave in (waves["speech"][:count], waves["speech"][count:], other):
            assert -34 < examples.loudness(wave, RATE) < -24


def test_a_speaker_who_is_absent_has_silence_as_target(corpus):
    rows = manifest.read(corpus / "speech.parquet", split=None)
    waves = enrolled(absent=1.0)(rows, rows.row(0), 3 * RATE, RATE, np.random.default_rng(0))
    count = int(waves["enrolled"].sum()) * 160
    assert waves["speech"][:count].any() and not waves["speech"][count:].any() and waves["mixture"][count:].any()


def test_the_only_recording_of_a_speaker_is_divided(corpus):
    rows = manifest.read(corpus / "speech.parquet", split=None)
    names = [rows.row(i)["speaker"] for i in range(len(rows))]
    single = dataclasses.replace(rows, table=rows.table.take([names.index(name) for name in dict.fromkeys(names)]))
    row = single.row(0)
    voice, rest = enrolled()._voice(single, row, RATE, np.random.default_rng(0))
    assert voice["path"] == rest["path"] == row["path"]
    assert voice["start"] + voice["frames"] == rest["start"] and rest["frames"] + voice["frames"] == row["frames"]
    assert voice["frames"] == min(RATE, row["frames"] // 2)


@pytest.mark.parametrize("wrong", [{"absent": 2.0}, {"seconds": (3.0, 1.0)}, {"seconds": (0.0, 1.0)}])
def test_wrong_enrolments_are_refused(wrong):
    with pytest.raises(UserError, match=f"config.enrolment.{next(iter(wrong))} must be"):
        enrolled(**wrong)


def test_a_list_of_mixtures_names_an_enrolment_that_is_not_in_the_mixture(corpus, call, tmp_path):
    words = ["prepare", "mixtures", corpus / "speech.parquet", tmp_path / "list.parquet", "--count", 12, "--enrolment"]
    assert call(*words)[0] == 0
    rows, speech = (manifest.read(path, split=None) for path in (tmp_path / "list.parquet", corpus / "speech.parquet"))
    speakers = {speech.row(i)["path"]: speech.row(i)["speaker"] for i in range(len(speech))}
    for row in map(rows.row, range(len(rows))):
        assert speakers[row["enrolment"]] == row["speakers"][0]
        end = row["enrolment_start"] + row["enrolment_frames"]
        assert row["enrolment"] != row["sources"][0] or end <= row["start"]
        waves = examples.Enrolled(examples.Listed(2), UNIT, (1.0, 1.0), 0.0)(rows, row, 4 * RATE, RATE, _rng())
        count = int(waves["enrolled"].sum()) * 160
        np.testing.assert_allclose(waves["speech"][:count], examples.enrolment_of(row, RATE)[:count])


def _rng():
    return np.random.default_rng(0)


# Inference and scores


@pytest.fixture(scope="module")
def extractor(toy_config, tmp_path_factory):
    folder = tmp_path_factory.mktemp("extract") / "run"
    shorter = {"optim.updates": 2, "run.valid_batches": 1, "run.pictures": 1, "mix.noise": ""}
    train.run(toy_config("extract", **shorter, **{"enrolment.seconds": (0.5, 0.5)}), folder)
    return inference.load(folder)


def test_the_result_is_the_part_behind_the_voice_for_any_length(extractor, voice, monkeypatch):
    """With an estimate that is louder than the recording everywhere, the mask is 1: the mixture comes back."""
    monkeypatch.setattr(inference.model, "sample_mels", lambda network, params, sampler, x0, *rest, **options: x0 + 99)
    model = dataclasses.replace(extractor, reconstruct="mask")
    for samples in (16_000, 23_457, 16_000 * 9):
        mixture = voice(samples / RATE, 0)[:samples]
        got = model.extract(mixture, RATE, voice=voice(2.0, 1), voice_rate=RATE, seed=samples)
        np.testing.assert_allclose(got, mixture, atol=2e-4)


def test_a_voice_stands_before_each_chunk(extractor, voice, monkeypatch):
    seen = []

    def sample(self, task, chunks, seed, options):
        seen.extend(chunks)
        return [chunking.Sources(chunk.wave[None], None) for chunk in chunks]

    monkeypatch.setattr(inference.Model, "_sample", sample)
    mixture, speaker = voice(60.0, 0), voice(2.0, 1)
    np.testing.assert_allclose(extractor.extract(mixture, RATE, voice=speaker, voice_rate=RATE), mixture, atol=1e-6)
    wanted = enrolment.enrolment(speaker, RATE, extractor.spec)
    assert len(seen) > 3 and all(np.array_equal(chunk.voice, wanted) for chunk in seen)


def test_the_loudest_part_of_a_long_voice_is_used_at_one_loudness(voice, spec):
    wave = voice(20.0, 0) * 0.01
    wave[8 * RATE : 12 * RATE] *= 10
    got = enrolment.enrolment(wave, RATE, spec)
    assert len(got) == 5 * RATE and abs(examples.loudness(got, RATE) + 29) < 0.1
    shape = wave[7 * RATE : 13 * RATE]
    assert np.correlate(shape / np.linalg.norm(shape), got / np.linalg.norm(got), "valid").max() > 0.99


@pytest.mark.parametrize(("seconds", "level", "message"), [(0.3, 1.0, "must last 0.5 s"), (2.0, 0.0, "silent")])
def test_a_voice_that_says_nothing_is_refused(voice, spec, seconds, level, message):
    with pytest.raises(UserError, match=message):
        enrolment.enrolment(voice(seconds, 0) * level, RATE, spec)


def test_the_command_writes_the_speaker_and_starts_again_for_another_voice(extractor, voice, call, tmp_path):
    for name, wave in {"talk": voice(3.0, 0), "one": voice(2.0, 1), "two": voice(2.0, 2)}.items():
        soundfile.write(tmp_path / f"{name}.wav", np.stack([wave, 0 * wave], axis=1) if name == "talk" else wave, RATE)
    words = ["extract", tmp_path / "talk.wav", "-o", tmp_path / "out", "--model", extractor.folder, "--voice"]
    results = []
    for name, said in (("one", "1 of 1 files written"), ("one", "1 there already"), ("two", "1 of 1 files written")):
        code, _, printed = call(*words, tmp_path / f"{name}.wav")
        assert code == 0 and said in printed
        results.append(audio.comment(tmp_path / "out" / "talk.wav"))
    wave = soundfile.read(tmp_path / "out" / "talk.wav")[0]
    assert wave.shape == (3 * RATE, 2) and not wave[:, 1].any()
    assert results[0] == results[1] != results[2]  # the comment has a digest of the voice


@pytest.mark.parametrize(
    ("wanted", "line"),
    [
        ("both a mixture and the voice", "{d}/talk.wav --voice {d}/talk.wav"),
        ("voice.wav: the recording of the voice is silent", "{d}/talk.wav --voice {d}/voice.wav"),
        ("short.wav: the voice must last 0.5 s", "{d}/talk.wav --voice {d}/short.wav"),
        ("none.wav", "{d}/talk.wav --voice {d}/none.wav"),
        ("the following arguments are required: --voice", "{d}/talk.wav"),
    ],
)
def test_what_cannot_be_extracted_is_refused(extractor, voice, refused, tmp_path, wanted, line):
    for name, wave in {"talk": voice(3.0, 0), "voice": np.zeros(RATE), "short": voice(0.3, 0)}.items():
        soundfile.write(tmp_path / f"{name}.wav", wave, RATE)
    words = ["extract", *line.format(d=tmp_path).split(), "-o", tmp_path / "out", "--model", extractor.folder]
    refused(wanted, *words)
    assert not (tmp_path / "out").exists()


def test_the_voice_is_passed_over_in_a_folder_and_never_overwritten(extractor, voice, call, tmp_path):
    for name, seed in {"in/talk": 0, "in/me": 1, "out/talk": 1}.items():
        audio.write(tmp_path / f"{name}.wav", voice(3.0, seed), RATE)  # with the mark of sfjax
    before = (tmp_path / "out/talk.wav").read_bytes()
    words = ["extract", tmp_path / "in", "--model", extractor.folder, "-o", tmp_path / "out", "--voice"]
    code, complaints, _ = call(*words, tmp_path / "in/me.wav", "--force")
    assert code == 2 and len(complaints) == 1 and "me.wav is both a mixture and the voice" in complaints[0]
    assert (tmp_path / "out/talk.wav").read_bytes() != before and not (tmp_path / "out/me.wav").exists()
    before = (tmp_path / "out/talk.wav").read_bytes()
    code, complaints, _ = call(*words, tmp_path / "out/talk.wav", "--force")
    assert code == 2 and "out/talk.wav would be overwritten" in complaints[0]
    assert (tmp_path / "out/talk.wav").read_bytes() == before and (tmp_path / "out/me.wav").exists()


def test_a_list_with_enrolments_scores_the_first_speaker(extractor, corpus, call, tmp_path):
    words = ["prepare", "mixtures", corpus / "speech.parquet", tmp_path / "list.parquet", "--count", 2, "--enrolment"]
    assert call(*words)[0] == 0
    for system in (["--system", "noisy"], ["--model", extractor.folder]):
        words = ["--manifest", tmp_path / "list.parquet", "-o", tmp_path / "scores.json", "--force"]
        assert call("evaluate", *system, *words)[0] == 0
        mean = json.loads((tmp_path / "scores.json").read_text())["mean"]
        assert set(mean) == {"si_sdr", "si_sdri", "estoi", "estoii", "wrong"}
        assert (abs(mean["si_sdri"]) < 1e-3) == (system[0] == "--system")


def test_an_extraction_is_wrong_if_it_is_nearer_to_another_speaker(voice):
    sources = np.stack([voice(2.0, seed) for seed in range(2)])
    mixture = sources.sum(axis=0)
    right, wrong = (metrics.extraction(sources, sources[i] + 0.1 * mixture, mixture, RATE) for i in (0, 1))
    assert (right["wrong"], wrong["wrong"]) == (0.0, 1.0)
    assert right["si_sdri"] == pytest.approx(right["si_sdr"] - metrics.si_sdr(sources[0], mixture))
    assert right["si_sdri"] > 10 > 0 > wrong["si_sdri"] and right["estoii"] > 0
    assert metrics.extraction(sources, np.zeros(2 * RATE, np.float32), mixture, RATE)["si_sdr"] == -100
