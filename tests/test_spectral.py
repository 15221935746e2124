"""The spectral vocoder starts as Griffin-Lim, learns, is independent of padding, and can be exported from a run."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sfjax import audio, inference, train
from sfjax.config import read
from sfjax.errors import UserError
from sfjax.export import release
from sfjax.inference import auxiliary
from sfjax.vocoder import spectral
from sfjax.vocoder.griffin_lim import griffin_lim

TOY = {
    "vocoder.network": "spectral",
    "spectral.width": 16,
    "spectral.blocks": 1,
    "spectral.iterations": 2,
    "data.buckets": (1.0,),
    "data.seconds": 2.0,
}
SAMPLES = jnp.array([16_000, 12_345])
FRAMES = jnp.array([100, 78])


@pytest.fixture(scope="module")
def mel(voice, spec):
    waves = np.stack([voice(1.0, seed) for seed in (0, 1)])
    return audio.log_mel(jnp.asarray(waves), spec, SAMPLES)


@pytest.fixture(scope="module")
def net(spec):
    return spectral.SpectralNet(width=16, blocks=2, expand=2, kernel=3, iterations=2, spec=spec, dtype=jnp.float32)


@pytest.fixture(scope="module")
def params(net, mel):
    return jax.jit(net.init)(jax.random.key(0), mel, FRAMES)["params"]


@pytest.fixture(scope="module")
def made(net):
    """A function from parameters, Mels and lengths to waves."""
    return jax.jit(lambda params, mel, frames: net.apply({"params": params}, mel, frames))


@pytest.fixture(scope="module")
def moved(params):
    """Parameters away from where they start."""
    return jax.tree.map(lambda p: p + 0.1 * jax.random.normal(jax.random.key(1), p.shape), params)


@pytest.fixture(scope="module")
def folder(toy_config, tmp_path_factory):
    """A finished toy run, drawn while it trained."""
    made = tmp_path_factory.mktemp("spectral")
    config = toy_config(
        "vocode",
        **TOY | {"optim.updates": 30, "optim.warmup": 0, "optim.peak": 1e-2, "run.validate": 10, "run.pictures": 1},
    )
    train.run(config, made)
    return made


def test_it_starts_as_griffin_lim(made, params, mel, spec):
    wanted = jax.jit(lambda mel, lengths: griffin_lim(mel, spec, iterations=2, lengths=lengths))(mel, SAMPLES)
    for wave, other, count in zip(made(params, mel, FRAMES), wanted, FRAMES, strict=True):
        np.testing.assert_allclose(wave[: count * spec.hop], other[: count * spec.hop], atol=1e-6)


def test_a_wave_does_not_depend_on_padding_or_batch_and_has_a_hop_of_samples_for_each_frame(made, moved, mel, spec):
    both = made(moved, mel, FRAMES)
    assert both.shape == (2, 16_000)
    alone = made(moved, mel[1:, :78], FRAMES[1:])
    assert alone.shape == (1, 78 * spec.hop)
    np.testing.assert_allclose(alone[0], both[1, : 78 * spec.hop], atol=1e-4)
    noise = mel.at[1, 78:].set(5.0)  # behind the end
    np.testing.assert_allclose(made(moved, noise, FRAMES)[1, : 78 * spec.hop], alone[0], atol=1e-4)


def test_a_correction_has_a_bound_and_stays_positive(net, params, mel, spec):
    blurred = audio.magnitude(mel, spec)
    for sign in (-1, 1):
        far = params | {"output": jax.tree.map(lambda p, sign=sign: p + sign * 1e3, params["output"])}
        made = jax.jit(lambda far: net.apply({"params": far}, mel, FRAMES, method="magnitude"))(far)
        assert (made >= 0).all() and (made <= 1.001 * np.exp(4) * (blurred + 1e-5)).all()


@pytest.mark.slow
def test_a_short_training_lowers_the_error(folder):
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    losses = [line["valid_loss"] for line in lines if "valid_loss" in line]
    assert losses[-1] < 0.97 * losses[0]
    assert len(list((folder / "samples").glob("*.png"))) == len(list((folder / "samples").glob("*.wav"))) == 3


@pytest.mark.slow
def test_an_exported_vocoder_makes_the_same_waves(folder, spec, mel, tmp_path):
    release.export(folder, tmp_path / "out", ema=True, step=None, dtype="float32")
    run, out = (auxiliary.load_vocoder(place, spec) for place in (folder, tmp_path / "out"))
    waves = [one.network.apply({"params": one.params}, mel, FRAMES) for one in (run, out)]
    np.testing.assert_array_equal(*waves)


@pytest.mark.slow
def test_a_model_speaks_by_it(folder, speaker):
    run, durations = speaker
    options = dict(solver="euler", steps=1, guidance=0.0)
    plain, made = (
        inference.load(run, duration_model=durations, vocoder=vocoder).speak("a big dog", **options)
        for vocoder in (None, folder)
    )
    assert len(made.wave) == len(plain.wave) == 160 * sum(made.line.lengths)
    assert np.abs(made.wave - plain.wave).max() > 1e-4


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"vocoder.network": "odd"}, "unknown vocoder.network 'odd'; choose from hifigan, spectral"),
        ({"spectral.kernel": 4}, "an odd kernel .* got width 16, blocks 1, expand 3, kernel 4"),
        ({"spectral.blocks": 0}, "spectral.blocks must be 1 or more, got 0"),
        ({"spectral.iterations": -1}, "spectral.iterations must be 0 or more, got -1"),
    ],
)
def test_a_config_that_describes_no_vocoder_is_refused(toy_config, changes, message):
    with pytest.raises(UserError, match=message):
        train.make_program(read(toy_config("vocode", **TOY | changes)))


@pytest.mark.parametrize("hertz", [81.3, 155.0, 333.3])
def test_the_pitch_of_harmonics_is_found_in_their_mel(spec, hertz):
    time = np.arange(16_000) / 16_000
    wave = sum(np.sin(2 * np.pi * k * hertz * time + k * k) / k for k in range(1, int(7000 / hertz)))
    heard = jax.jit(lambda wave: spectral.pitch(audio.magnitude(audio.log_mel(wave, spec), spec), spec))
    found = heard(jnp.asarray(0.1 * wave[None], jnp.float32))
    np.testing.assert_allclose(1 / found.period[0, 5:-5], hertz, rtol=0.01)
    noise = 0.1 * jax.random.normal(jax.random.key(0), (1, 16_000))
    assert found.strength[0, 5:-5].min() > heard(noise).strength.mean()
