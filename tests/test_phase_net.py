"""The phase net: where it starts, what it is trained for, and that it learns."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sfjax import audio, inference, metrics, tasks, train
from sfjax.config import read
from sfjax.data import examples, manifest
from sfjax.errors import UserError
from sfjax.inference import auxiliary
from sfjax.vocoder import phase_net

LENGTHS = jnp.array([16_000, 12_345])


@pytest.fixture(scope="module")
def sources(voice):
    made = np.zeros((2, 2, 16_000), np.float32)
    for i, length in enumerate(LENGTHS):
        for k in range(2):
            made[i, k, :length] = voice(1.0, 2 * i + k)[:length]
    return jnp.asarray(made)


@pytest.fixture(scope="module")
def net(spec):
    return phase_net.PhaseNet(width=16, kernel=3, layers=2, spec=spec, dtype=jnp.float32)


@pytest.fixture(scope="module")
def apply(net):
    return jax.jit(net.apply)


@pytest.fixture(scope="module")
def start(net):
    """A function from inputs to the net's first parameters."""
    init = jax.jit(net.init)
    return lambda *given: init(jax.random.key(0), *given)


@jax.jit
def moved(params):
    """Parameters a little off those given."""
    return jax.tree.map(lambda p: p + 0.02 * jax.random.normal(jax.random.key(1), p.shape), params)


def seen(sources, spec):
    mel = lambda wave: audio.log_mel(wave, spec, LENGTHS)
    mels = jax.vmap(mel, in_axes=1, out_axes=1)(sources)
    return mels, audio.stft(sources.sum(axis=1), spec, LENGTHS), (LENGTHS + 159) // 160


def test_it_starts_as_the_borrowed_phase(sources, net, start, spec):
    mels, mixture, frames = seen(sources, spec)
    params = start(mels, mixture, frames)
    waves = phase_net.spectra_to_waves(net.apply(params, mels, mixture, frames), spec, LENGTHS)
    np.testing.assert_allclose(waves, audio.borrow_phase(mels, mixture, spec, LENGTHS), atol=1e-6)


def test_the_bound_does_not_depend_on_the_padding_of_its_program(sources, net, start, apply, spec):
    clean = sources[1, :, : LENGTHS[1]]
    mels, spectrum = audio.log_mel(clean, spec), audio.stft(jnp.stack([clean.sum(axis=0)] * 2), spec)
    given = mels[None], spectrum[:1], jnp.array([mels.shape[1]])
    params = moved(start(*given)["params"])
    learned = phase_net.spectra_to_waves(apply({"params": params}, *given), spec, LENGTHS[1:])[0]
    borrowed = audio.borrow_phase(mels[None], spectrum[:1], spec)[0]
    for wanted, used in ((borrowed, None), (learned, auxiliary.Phase(net, params))):
        made = inference.bound(np.asarray(clean), np.asarray(clean.sum(axis=0)), spec, "phase", used)
        np.testing.assert_allclose(made, wanted[:, : LENGTHS[1]], atol=1e-5)


def test_a_source_does_not_depend_on_padding_batch_or_order(sources, start, apply, spec):
    mels, mixture, frames = seen(sources, spec)
    params = moved(start(mels, mixture, frames))
    both = apply(params, mels, mixture, frames)
    n = int(frames[1])
    alone = apply(params, mels[1:, :, :n], mixture[1:, :n], frames[1:])
    np.testing.assert_allclose(alone[0], both[1, :, :n], atol=1e-5)
    turned = apply(params, mels[:, ::-1], mixture, frames)
    np.testing.assert_allclose(turned[:, ::-1], both, atol=1e-5)


def test_its_loss_is_the_score_of_the_best_order_whatever_the_order(sources):
    noise = 0.01 * jax.random.normal(jax.random.key(0), sources.shape)
    estimate = sources + noise
    one, two = phase_net.permuted(sources, estimate), phase_net.permuted(sources, estimate[:, ::-1])
    np.testing.assert_array_equal(one, two)
    centred = lambda wav: np.asarray(wav) - np.asarray(wav).mean(-1, keepdims=True)
    mine = phase_net.permuted(jnp.asarray(centred(sources)), jnp.asarray(centred(estimate)))
    theirs = [sum(metrics.si_sdr(np.asarray(s), np.asarray(e))) for s, e in zip(sources, estimate, strict=True)]
    np.testing.assert_allclose(mine, theirs, atol=0.02)
    silent = phase_net.permuted(sources.at[:, 1].set(0.0), estimate)
    np.testing.assert_allclose(silent, phase_net.si_sdr(sources[:, :1], estimate).max(axis=1))  # it has no part
    gradient = jax.grad(lambda e: phase_net.permuted(sources.at[:, 1].set(0.0), e).sum())(estimate)
    assert np.isfinite(gradient).all()


@pytest.fixture(scope="module")
def config(toy_config):
    sizes = {"phase.width": 64, "phase.layers": 1, "optim.peak": 3e-3, "optim.warmup": 10, "optim.clip": 5.0}
    return lambda **changes: toy_config("phase", **sizes, **{"ema": 0.9, "mix.noise": ""}, **changes)


@pytest.fixture(scope="module")
def trained(config, tmp_path_factory):
    folder = tmp_path_factory.mktemp("phase")
    train.run(config(**{"optim.updates": 12}), folder)
    return folder


@pytest.mark.nightly
def test_it_learns_to_pass_the_borrowed_phase(config, corpus, spec, tmp_path):
    """The mixtures are generated voices, whose phases are easy: what is proved is that training works."""
    more = {"optim.updates": 60, "run.validate": 60, "run.valid_batches": 2, "run.pictures": 1}
    train.run(config(**more), tmp_path)
    net = auxiliary.load_phase(tmp_path)
    rows = manifest.read(corpus / "speech.parquet", split="train")
    waves = [audio.read(rows.row(i)["path"])[0][:16_000] for i in (0, 1)]
    sources = jnp.asarray(np.stack(waves))[None]
    length = jnp.array([sources.shape[-1]])
    mels = jax.vmap(lambda wave: audio.log_mel(wave, spec), in_axes=1, out_axes=1)(sources)
    mixture = audio.stft(sources.sum(axis=1), spec)
    spectra = net.network.apply({"params": net.params}, mels, mixture, length // 160)
    better = phase_net.permuted(sources, phase_net.spectra_to_waves(spectra, spec, length)[..., :16_000])
    borrowed = audio.borrow_phase(mels, mixture, spec)
    assert float(better[0]) > float(phase_net.permuted(sources, borrowed[..., :16_000])[0]) + 1.0
    assert list((tmp_path / "samples").glob("*.png"))


def test_a_phase_net_is_no_model_and_a_model_no_phase_net(trained, enhancer):
    with pytest.raises(UserError, match="phase net.*--phase"):
        inference.load(trained)
    with pytest.raises(UserError, match="not a phase net"):
        inference.load(enhancer, phase=enhancer)
    with pytest.raises(UserError, match="1 speaker or more .*clean or predicted"):
        tasks.make(name="phase", speakers=2, mels="dirty")


@pytest.fixture(scope="module")
def separator(toy_config, tmp_path_factory):
    folder = tmp_path_factory.mktemp("separator")
    train.run(toy_config("separate", **{"run.stop": 2, "mix.noise": ""}), folder)
    return folder


@pytest.mark.slow
def test_predicted_mels_are_kept_gone_on_with_and_trained_on(separator, corpus, toy_config, call, tmp_path):
    mixed, out = tmp_path / "mixed.parquet", tmp_path / "out"
    assert call("prepare", "mixtures", corpus / "speech.parquet", mixed, "--count", 8, "--split", "train")[0] == 0
    words = ["cache-mels", "--model", separator, "--manifest", mixed, "-o", out, "--steps", 1]
    assert "8 predicted, 0 there already" in call(*words)[2]
    before = {path: path.read_bytes() for path in (out / "mels").iterdir()}
    next(iter(before)).unlink()
    assert "1 predicted, 7 there already" in call(*words)[2]
    assert before == {path: path.read_bytes() for path in (out / "mels").iterdir()}
    assert "8 predicted, 0 there already" in call(*words, "--seed", 1)[2]  # other noise, other Mels
    assert "0 predicted, 8 there already" in call(*words)[2]
    row = manifest.read(out / "mixed.parquet", split=None).row(3)
    mel = np.load(row["estimate"])
    assert mel.shape == (2, -(-row["frames"] // 160), 80)
    changes = {"task.mels": "predicted", "data.train": f"{out}/mixed.parquet", "data.valid_split": "train"}
    config = toy_config("phase", **changes, **{"phase.width": 8, "mix.noise": "", "data.multiple": 1})
    found, _ = train.readers(read(config))
    batch = found(0)
    for i, name in enumerate(batch["names"]):
        n = int(batch["lengths"][i])
        wave = batch["waves"]["mixture"][i, :n]
        whole = next(
            (
                r
                for r in map(manifest.read(out / "mixed.parquet", split=None).row, range(8))
                if r["path"] == name and _holds(r, batch["mels"]["estimate"][i, :, : -(-n // 160)]) is not None
            ),
            None,
        )
        assert whole is not None and wave.any()
    train.run(config, tmp_path / "run")


def test_predicted_mels_are_cropped_where_the_recording_is(tmp_path):
    wave = np.random.default_rng(0).uniform(-0.5, 0.5, 48_000).astype(np.float32)
    audio.write(tmp_path / "a.wav", wave, 16_000)
    frames = np.broadcast_to(np.arange(300, dtype=np.float32)[:, None], (1, 300, 80))
    np.save(tmp_path / "a.npy", frames)
    row = dict(path="a.wav", start=0, frames=48_000, rate=16_000, sources=["a.wav"], gains=[1.0], estimate="a.npy")
    manifest.write(tmp_path / "a.parquet", [row])
    rows = manifest.read(tmp_path / "a.parquet", split=None)
    make, starts = examples.Estimated(examples.Listed(1), 160), set()
    for seed in range(5):
        made = make(rows, rows.row(0), 16_000, 16_000, np.random.default_rng(seed))
        start = int(made["estimate"][0, 0, 0]) * 160
        np.testing.assert_allclose(made["mixture"], wave[start : start + 16_000], atol=1e-4)
        assert made["estimate"].shape == (1, 100, 80)
        starts.add(start)
    assert len(starts) > 3


def _holds(row, crop):
    """Where a crop of Mels lies in those of a row, in frames."""
    mels = np.load(row["estimate"]).astype(np.float32)
    places = range(mels.shape[1] - crop.shape[1] + 1)
    return next((i for i in places if np.array_equal(mels[:, i : i + crop.shape[1]], crop)), None)


@pytest.mark.slow
def test_a_mixture_is_separated_from_file_to_files_and_scored(
    separator, trained, corpus, call, refused, tmp_path, voice
):
    wav = voice(2.5, 0) + voice(2.5, 1)
    audio.write(tmp_path / "mix/a.wav", wav, 16_000)
    for k in (0, 1):
        audio.write(tmp_path / f"s{k}/a.wav", voice(2.5, k), 16_000)
    words = ["separate", tmp_path / "mix/a.wav", "-o", tmp_path / "out", "--model", separator, "--steps", 1]
    assert call(*words)[0] == 0
    plain = [audio.read(tmp_path / f"out/s{k}/a.wav")[0] for k in (1, 2)]
    assert {len(one) for one in plain} == {len(wav)}
    assert call(*words, "--phase", trained)[0] == 0
    assert any(np.abs(audio.read(tmp_path / f"out/s{k + 1}/a.wav")[0] - plain[k]).max() > 1e-4 for k in (0, 1))
    sides = ["--reference", tmp_path / "s0", tmp_path / "s1", "--estimate", tmp_path / "out/s1", tmp_path / "out/s2"]
    code, _, said = call("score", *sides, "--mixture", tmp_path / "mix")
    assert code == 0 and "si_sdri" in said
    refused("several references are the speakers of a mixture", "score", *sides)
    refused("trained to separate 2 speakers, not to separate 3", *words, "--speakers", "3")
    refused(
        "trained to separate 2 speakers, not to enhance",
        "enhance",
        tmp_path / "mix/a.wav",
        "-o",
        tmp_path / "b",
        "--model",
        separator,
    )
