"""Separation: sources joined in time, mixtures by LibriMix's rules, speakers that stay where they are."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import soundfile

from sfjax import audio, inference, metrics, tasks, train
from sfjax.configs import default
from sfjax.data import examples, manifest, mixtures
from sfjax.errors import UserError
from sfjax.export import release
from sfjax.inference.chunking import Sources

RATE = 16_000


def separate(speakers=2, order="random", copies="plain", mask=0.0, cluster=0.0):
    chosen = dict(order=order, copies=copies, mask=mask, cluster=cluster)
    return tasks.make(name="separate", speakers=speakers, drop=0.0, **chosen)


@pytest.mark.parametrize("length", [1, 17, 19])
def test_aligned_copies_start_at_multiples_of_four_frames_and_come_back(length):
    task, mels = separate(3, copies="aligned"), jax.random.normal(jax.random.key(0), (3, 19, 4))
    whole = task.joined(mels, jnp.int32(length))
    stride = -(-length // 4) * 4
    wanted = np.zeros((60, 4), np.float32)
    for number in range(3):
        wanted[number * stride : number * stride + length] = mels[number, :length]
    np.testing.assert_array_equal(whole, wanted)
    assert task.joined_length(jnp.int32(length)) == 2 * stride + length
    np.testing.assert_array_equal(task.sources(whole, jnp.int32(length))[:, :length], mels[:, :length])
    copy = np.asarray(task.condition({"mixture": mels[0]}, jnp.int32(length))["copy"])
    starts = [int(np.flatnonzero(copy == number)[0]) for number in (1, 2, 3)]
    assert starts == [0, stride, 2 * stride] and [(copy == number).sum() for number in (1, 2, 3)] == [length] * 3


def test_only_a_best_order_leaves_it_to_the_loss_and_only_aligned_copies_are_numbered():
    features = dict(zip(separate().columns, jax.random.normal(jax.random.key(1), (3, 30, 4)), strict=True))
    keys = {}
    for order in ("random", "best"):
        for copies in ("plain", "aligned"):
            task = separate(order=order, copies=copies)
            keys[order, copies] = set(task.example(features, jnp.int32(25), jax.random.key(0)))
            assert task.compared_sources == (2 if order == "best" else 0)
            assert task.aligned_copies == (2 if copies == "aligned" else 0)
    plain = keys["random", "plain"]
    assert keys["best", "plain"] - plain == {"sources"} and keys["random", "aligned"] - plain == {"copy"}
    assert keys["best", "aligned"] - plain == {"sources", "copy"}
    for error in ("mask", "cluster"):
        assert separate(**{error: 1.0}).compared_sources == 2
    assert separate(mask=1.0).embedding_size == 0 < separate(cluster=1.0).embedding_size


def test_separations_of_two_and_of_three_speakers_cannot_be_compared_in_one_model():
    both = tasks.Several(("two", "three"), (separate(2, order="best"), separate(3, mask=1.0)))
    with pytest.raises(UserError, match="2 and 3 speakers"):
        _ = both.compared_sources
    assert tasks.Several(("two", "three"), (separate(2, order="best"), separate(3))).compared_sources == 2


WRONG = [{"order": "worst"}, {"copies": "three"}, {"speakers": 1}, {"mask": -1.0}, {"cluster": float("nan")}]


@pytest.mark.parametrize("wrong", WRONG)
def test_a_task_that_cannot_be_is_refused(wrong):
    with pytest.raises(UserError, match="must be|needs"):
        separate(**wrong)


@pytest.mark.parametrize("length", [1, 17, 20])
def test_sources_are_joined_without_a_gap_and_come_back(length):
    task, mels = separate(3), jax.random.normal(jax.random.key(0), (3, 20, 4))
    whole = task.joined(mels, jnp.int32(length))
    np.testing.assert_array_equal(whole[: 3 * length], mels[:, :length].reshape(-1, 4))
    assert not np.asarray(whole[3 * length :]).any() and whole.shape == (60, 4)
    np.testing.assert_array_equal(task.sources(whole, jnp.int32(length))[:, :length], mels[:, :length])


def test_the_condition_is_the_mixture_once_for_each_speaker_and_their_order_is_random():
    task = separate()
    features = dict(zip(task.columns, jax.random.normal(jax.random.key(1), (3, 30, 4)), strict=True))
    made = jax.vmap(lambda key: task.example(features, jnp.int32(25), key))(jax.random.split(jax.random.key(2), 200))
    np.testing.assert_array_equal(made["condition"][0, :25], features["mixture"][:25])
    np.testing.assert_array_equal(made["condition"][0, 25:50], features["mixture"][:25])
    first = np.asarray(made["target"])[:, :25]
    straight = (first == np.asarray(features["source_1"])[:25]).all(axis=(1, 2))
    turned = (first == np.asarray(features["source_2"])[:25]).all(axis=(1, 2))
    assert (straight | turned).all() and straight.mean() == pytest.approx(0.5, abs=0.15)
    assert set(np.asarray(made["length"])) == {50} and np.asarray(made["weight"]).sum(axis=1).max() == 50


def talk(speakers=2, noise=None):
    return examples.Talk(speakers, noise, 1.0, (-33.0, -25.0), (-38.0, -30.0))


def test_a_row_without_a_speaker_is_refused_by_name(corpus):
    rows = manifest.read(corpus / "speech.parquet", split=None)
    row = rows.row(0) | {"speaker": None}
    with pytest.raises(UserError, match=r"speech_0.flac: .*no speaker"):
        talk()(rows, row, RATE, RATE, np.random.default_rng(0))


@pytest.mark.parametrize("noisy", [False, True])
def test_a_mixture_is_the_sum_of_different_speakers_at_their_loudness(corpus, noisy):
    rows = manifest.read(corpus / "speech.parquet", split=None)
    noise = manifest.read(corpus / "noise.parquet", split=None) if noisy else None
    for seed in range(10):
        made = talk(noise=noise)(rows, rows.row(seed), 12_000, RATE, np.random.default_rng(seed))
        sources = [made["source_1"], made["source_2"]]
        rest = made["mixture"] - sum(sources)
        assert {len(wave) for wave in made.values()} == {12_000}
        for wave in sources:
            assert -33.1 < examples.loudness(wave, RATE) < -24.9
        if noisy:
            assert -38.1 < examples.loudness(rest, RATE) < -29.9
        else:
            np.testing.assert_allclose(rest, 0, atol=1e-7)


def test_never_is_one_speaker_mixed_with_himself(corpus, monkeypatch):
    rows = manifest.read(corpus / "speech.parquet", split=None)
    mixer = talk(3)
    for seed in range(30):
        rng, chosen = np.random.default_rng(seed), [rows.row(seed % len(rows))]
        while len(chosen) < 3:
            chosen.append(mixer.other(rows, chosen, 1.0, rng))
        assert len({row["speaker"] for row in chosen}) == 3


def test_a_loud_mixture_does_not_clip(voice):
    mixer = examples.Talk(2, None, 1.0, (-6.0, -6.0), (0.0, 0.0))
    waves = [voice(1.0, seed) for seed in (0, 1)]
    gains = mixer.gains(waves, RATE, np.random.default_rng(0))
    mixed = sum(wave * gain for wave, gain in zip(waves, gains, strict=True))
    assert np.abs(mixed).max() == pytest.approx(0.9, abs=1e-4)
    silent = mixer.gains([np.zeros(RATE, np.float32), waves[0]], RATE, np.random.default_rng(0))
    assert np.isfinite(silent).all()


def test_a_list_of_two_speakers_is_refused_where_three_are_wanted(corpus, call, tmp_path):
    assert call("prepare", "mixtures", corpus / "speech.parquet", tmp_path / "two.parquet", "--count", 3)[0] == 0
    rows = manifest.read(tmp_path / "two.parquet", split=None)
    assert examples.maker(separate(2), rows, **GIVEN) == examples.Listed(2)
    with pytest.raises(UserError, match="mixtures have 2 speakers, .* needs 3; set --config.task.speakers=2"):
        examples.maker(separate(3), rows, **GIVEN)


def test_a_manifest_with_one_speaker_is_refused(tmp_path, voice):
    soundfile.write(tmp_path / "a.wav", voice(1.0, 0), RATE)
    row = dict(path="a.wav", start=0, frames=RATE, rate=RATE, speaker="alone")
    manifest.write(tmp_path / "speech.parquet", [row])
    rows = manifest.read(tmp_path / "speech.parquet", split=None)
    with pytest.raises(UserError, match="a mixture needs 2 speakers, .* has 1"):
        examples.maker(separate(), rows, **GIVEN)
    with pytest.raises(UserError, match="speech.parquet: a mixture needs 2 speakers, .* has 1"):
        mixtures.draw(
            tmp_path / "speech.parquet", None, split=None, speakers=2, count=3, seed=0, enrolment=False, **RANGES
        )


GIVEN = dict(
    spec=audio.MelSpec(**default.get_config("tiny").mel),
    simulation=examples.Simulation({}, {}, {"noise": ""}, {}),
    split=None,
)
RANGES = dict(loudness=(-33.0, -25.0), noise_loudness=(-38.0, -30.0))


def test_a_list_of_mixtures_is_always_the_same_and_is_read_as_it_was_drawn(corpus, call, tmp_path):
    for name in ("one", "two"):
        words = ["prepare", "mixtures", corpus / "speech.parquet", tmp_path / f"{name}.parquet", "--count", 15]
        assert call(*words, "--noise", corpus / "noise.parquet")[0] == 0
    one, two = (manifest.read(tmp_path / f"{name}.parquet", split=None) for name in ("one", "two"))
    assert len(one) == 15 and all(one.row(i) == two.row(i) for i in range(15))
    for i in range(15):
        row = one.row(i)
        assert len(set(row["speakers"])) == 2
        waves = examples.Listed(2)(one, row, row["frames"], RATE, np.random.default_rng(0))
        assert -33.1 < examples.loudness(waves["source_1"], RATE) < -24.9
        assert np.abs(waves["mixture"] - waves["source_1"] - waves["source_2"]).max() > 1e-4  # there is noise


# In chunks


class Oracle:
    """A model that separates perfectly and names the speakers of each chunk in an order of its own."""

    def __init__(self, sources, order):
        self.sources, self.order = sources, order

    def __call__(self, task, chunks, seed, options):
        made = []
        for chunk in chunks:
            waves = self.sources[:, chunk.first : chunk.first + len(chunk.wave)]
            made.append(Sources(waves[::-1] if next(self.order) else waves, None))
        return made


def test_speakers_of_three_minutes_stay_on_their_channel(enhancer, voice, monkeypatch):
    model = inference.load(enhancer)
    rng = np.random.default_rng(0)
    sources = np.stack([voice(180.0, seed) * (1 + 0.5 * seed) for seed in (0, 1)])
    sources[1, 30 * RATE : 50 * RATE] = 0  # one of them is silent over several borders
    swaps = iter(lambda: bool(rng.integers(2)), None)
    monkeypatch.setattr(inference.Model, "_sample", lambda self, *given: Oracle(sources, swaps)(*given))
    made = model.treat(separate(), sources.sum(axis=0), RATE)
    order = metrics.best_order(sources, made)
    np.testing.assert_allclose(made[list(order)], sources, atol=1e-5)


@pytest.mark.parametrize("reconstruct", ["ratio", "wiener", "phase"])
def test_a_model_of_aligned_copies_separates_recordings_of_any_length(toy_config, tmp_path_factory, voice, reconstruct):
    folder = tmp_path_factory.getbasetemp() / "aligned"
    if not folder.exists():
        train.run(toy_config("separate", **{"run.pictures": 1, "mix.noise": ""}), folder)
    model = inference.load(folder, reconstruct=reconstruct)
    assert model.network.copies == 2 and model.network.embedding == 0  # it is for training
    # frames that four divides, and that it does not
    for samples in (16_000, 16_321, 23_457) if reconstruct == "ratio" else (16_321,):
        mixture = voice(samples / RATE, 0)[:samples]
        waves = model.separate(mixture, RATE)
        assert waves.shape == (2, samples) and np.isfinite(waves).all()
        if reconstruct == "ratio":
            np.testing.assert_allclose(waves.sum(axis=0), mixture, atol=1e-4)


@pytest.mark.slow
def test_what_only_training_clusters_is_not_exported_and_is_new_where_it_is_trained_again(toy_config, tmp_path):
    shorter = {"run.stop": 1, "mix.noise": ""}
    train.run(toy_config("separate", **shorter), tmp_path / "run")
    assert "embedding" in release.weights(tmp_path / "run", ema=True)[0]
    release.export(tmp_path / "run", tmp_path / "given", ema=True, step=None, dtype="float16")
    assert "embedding" not in release.weights(tmp_path / "given", ema=True)[0]
    given = {"init_from": str(tmp_path / "given")}
    train.run(toy_config("separate", **shorter, **given), tmp_path / "again")
    train.run(toy_config("enhance", **{"run.stop": 1}, **given), tmp_path / "other")
    assert not {"embedding", "copy_table"} & release.weights(tmp_path / "other", ema=True)[0].keys()


# Scores


def test_a_known_permutation_is_recovered_and_scores_do_not_depend_on_the_order(voice):
    sources = np.stack([voice(2.0, seed) for seed in range(3)])
    noise = 0.01 * np.random.default_rng(0).standard_normal(sources.shape).astype(np.float32)
    estimate = (sources + noise)[[2, 0, 1]]
    assert metrics.best_order(sources, estimate) == (1, 2, 0)
    mixture = sources.sum(axis=0)
    one = metrics.improvement(sources, estimate, mixture, RATE)
    two = metrics.improvement(sources, estimate[::-1], mixture, RATE)
    assert one == two
    alone = np.mean(
        [metrics.si_sdr(a, b) - metrics.si_sdr(a, mixture) for a, b in zip(sources, sources + noise, strict=True)]
    )
    assert one["si_sdri"] == pytest.approx(alone)


def test_a_silent_estimate_counts_and_is_told_and_a_silent_reference_has_no_score(voice):
    sources = np.stack([voice(2.0, seed) for seed in range(2)])
    mixture, estimate = sources.sum(axis=0), sources.copy()
    estimate[0] = 0
    found = metrics.improvement(sources, estimate, mixture, RATE)
    assert found["silent"] == 0.5 and found["si_sdr"] == 0.0  # the mean of −100 and 100
    with pytest.raises(metrics.Unscorable, match="the reference is silent"):
        metrics.improvement(estimate, sources, mixture, RATE)


def test_si_sdr_of_a_mixture_is_that_of_fast_bss_eval(voice):
    from fast_bss_eval import numpy as fast_bss_eval  # its front wants torch

    sources = np.stack([voice(2.0, seed) for seed in range(2)]).astype(np.float64)
    rng = np.random.default_rng(0)
    estimate = (sources + 0.02 * rng.standard_normal(sources.shape))[::-1]
    theirs, order = fast_bss_eval.si_sdr(sources, np.ascontiguousarray(estimate), zero_mean=True, return_perm=True)
    assert metrics.best_order(sources, estimate) == tuple(order)
    mine = [metrics.si_sdr(one, estimate[i]) for one, i in zip(sources, order, strict=True)]
    np.testing.assert_allclose(mine, theirs, atol=1e-4)
