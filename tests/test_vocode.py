"""A vocoder through the one loop: its two optimisers, where it starts, and the waves of a model that has one."""

import dataclasses
import functools
import json

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from sfjax import audio, checkpoint, inference, train
from sfjax.config import read
from sfjax.errors import UserError
from sfjax.export import release
from sfjax.inference import auxiliary, infill
from sfjax.vocoder import gan_step, hifigan

pytestmark = pytest.mark.nightly  # its programs take long to compile

TOY = {
    "vocoder.channels": 16,
    "vocoder.residual_kernels": (3,),
    "vocoder.dilations": (1,),
    "vocoder.periods": (2, 3),
    "vocoder.scales": 1,
    "vocoder.discriminators": 0.02,
    "vocoder.frames": 20,
    "data.buckets": (1.0,),
    "data.seconds": 2.0,
    "optim.updates": 2,
    "optim.warmup": 0,
    "optim.decay": 0.01,
}


@pytest.fixture(scope="module")
def folder(toy_config, tmp_path_factory):
    """A finished toy run of a vocoder, drawn while it trained."""
    made = tmp_path_factory.mktemp("vocoder")
    train.run(toy_config("vocode", **TOY | {"run.pictures": 1, "run.validate": 2}), made)
    return made


def batch(corpus, config):
    typed = read(config)
    found = train.readers(typed)[0](0)
    return train.make_program(typed), {name: found[name] for name in ("waves", "mels", "labels", "lengths", "task")}


def difference(one, other):
    return max(float(jnp.abs(a - b).max()) for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True))


def test_the_generator_learns_before_the_discriminators_that_have_just_learned(toy_config, corpus):
    config = toy_config("vocode", **TOY | {"optim.peak": 1e-2})
    made, given = batch(corpus, config)
    state = made.random_state(jax.random.key(0))
    after, metrics = jax.jit(made.step)(state, given)
    spec, section = read(config).mel, read(config).vocoder
    network, judges = gan_step.generator(section, spec), gan_step.discriminators(section)
    now = jax.random.fold_in(jax.random.key(config.seed), 0)
    keys = jax.vmap(lambda i: jax.random.fold_in(now, i))(jnp.arange(2))
    wave = jnp.asarray(given["waves"]["speech"])
    mel = audio.log_mel(wave, spec, jnp.asarray(given["lengths"]))
    wave, mel = hifigan.segments(wave, mel, jnp.asarray(given["lengths"]), keys, frames=20, spec=spec)
    rule = optax.adamw(
        train.optim.schedule(peak=1e-2, end=config.optim.end, warmup=0, updates=2), b1=0.8, b2=0.99, weight_decay=0.01
    )

    @functools.partial(jax.jit, static_argnums=0)
    def learned(error, params):
        gradient = jax.grad(lambda own: error(own)[0] / 2)(params)
        return optax.apply_updates(params, rule.update(gradient, rule.init(params), params)[0])

    old = state.params
    told = lambda own: hifigan.discriminator_error(network, judges, old["generator"], own, wave, mel)
    judged = learned(told, old["discriminators"])
    weights = hifigan.Weights(1.0, 2.0, 45.0)
    passing = lambda own: hifigan.generator_error(network, judges, own, judged, wave, mel, spec=spec, weights=weights)
    assert difference(after.params["discriminators"], judged) < 1e-3
    # Adam's first step is the sign of the gradient: most places agree, those without a gradient need not
    new = learned(passing, old["generator"])
    agree = [np.abs(a - b) < 1e-3 for a, b in zip(*map(jax.tree.leaves, (after.params["generator"], new)), strict=True)]
    assert np.concatenate([x.ravel() for x in agree]).mean() > 0.98
    assert {"loss", "features", "adversarial", "discriminators", "gradient_norm"} <= metrics.keys()
    assert float(metrics["loss"]) == pytest.approx(float(passing(old["generator"])[1]["mel"]) / 2, rel=1e-3)


def test_until_it_begins_the_discriminators_stay_and_the_generator_learns(toy_config, corpus):
    config = toy_config("vocode", **TOY | {"vocoder.begin": 1})
    made, given = batch(corpus, config)
    step, state = jax.jit(made.step), made.random_state(jax.random.key(0))
    first, _ = step(state, given)
    assert difference(first.params["discriminators"], state.params["discriminators"]) == 0
    assert difference(first.params["generator"], state.params["generator"]) > 0
    second, _ = step(first, given)
    assert difference(second.params["discriminators"], first.params["discriminators"]) > 0
    assert int(second.step) == 2 and int(second.skipped) == 0


def test_a_step_without_finite_gradients_changes_nothing_but_the_counters(toy_config, corpus):
    made, given = batch(corpus, toy_config("vocode", **TOY))
    state = made.random_state(jax.random.key(0))
    broken = given | {"waves": {"speech": np.full_like(given["waves"]["speech"], np.nan)}}
    after, metrics = jax.jit(made.step)(state, broken)
    for name in ("params", "ema", "opt_state"):
        assert difference(getattr(after, name), getattr(state, name)) == 0
    assert int(metrics["skipped"]) == int(metrics["streak"]) == int(after.step) == 1


def test_a_run_is_judged_by_its_mels_and_seen(folder):
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert any("valid_loss" in line for line in lines)
    assert len(list((folder / "samples").glob("*.png"))) == len(list((folder / "samples").glob("*.wav"))) == 1


def test_an_exported_vocoder_is_the_generator_alone_and_makes_the_same_waves(folder, spec, tmp_path):
    release.export(folder, tmp_path, ema=True, step=None, dtype="float32")
    own, given = auxiliary.load_vocoder(folder, spec), auxiliary.load_vocoder(tmp_path, spec)
    assert {*given.params} == {*checkpoint.params(folder, ema=True)[0]["generator"]}
    mel = jax.random.normal(jax.random.key(0), (1, 30, 80))
    waves = [one.network.apply({"params": one.params}, mel, jnp.array([30])) for one in (own, given)]
    np.testing.assert_array_equal(*waves)
    assert waves[0].shape == (1, 4800)


def test_a_model_with_a_vocoder_speaks_by_it(folder, speaker, spec):
    run, durations = speaker
    options = dict(solver="euler", steps=1, guidance=0.0)
    plain = inference.load(run, duration_model=durations).speak("a big dog", **options)
    made = inference.load(run, duration_model=durations, vocoder=folder).speak("a big dog", **options)
    assert len(made.wave) == len(plain.wave) == 160 * sum(made.line.lengths)
    assert np.abs(made.wave - plain.wave).max() > 1e-4
    # as the generator is called, on natural log-Mels that it normalises itself
    vocoder = auxiliary.load_vocoder(folder, spec)
    model = inference.load(run, vocoder=folder)
    mel = np.random.default_rng(0).standard_normal((40, 80)).astype(np.float32)
    wanted = vocoder.network.apply({"params": vocoder.params}, jnp.asarray(mel)[None], jnp.array([40]))[0]
    np.testing.assert_allclose(infill.to_waves(model, [mel])[0], wanted, atol=1e-5)
    shifted = dataclasses.replace(model, vocoder=vocoder._replace(mean=0.0, std=1.0))
    wanted = vocoder.network.apply(
        {"params": vocoder.params}, jnp.asarray(mel * spec.std + spec.mean)[None], jnp.array([40])
    )[0]
    np.testing.assert_allclose(infill.to_waves(shifted, [mel])[0], wanted, atol=1e-5)


def test_a_vocoder_of_other_mels_is_refused_by_their_settings(folder, spec, toy_config, tmp_path):
    text = (folder / "config.json").read_text()
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "checkpoints").symlink_to(folder / "checkpoints")
    (tmp_path / "run" / "config.json").write_text(text.replace('"high": 8000.0', '"high": 7600.0'))
    with pytest.raises(UserError, match="log-Mel settings .*high 7600.0.* 8000.0.*train a vocoder"):
        auxiliary.load_vocoder(tmp_path / "run", spec)
    with pytest.raises(UserError, match="vocoder.*give it as --vocoder"):
        inference.load(folder)
    with pytest.raises(UserError, match="clean or predicted, got 'odd'"):
        train.run(toy_config("vocode", **TOY | {"task.mels": "odd"}), tmp_path / "odd")
