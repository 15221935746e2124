"""The loop: resuming, accumulating, skipping, and what the loss may depend on."""

import functools
import io
import json
import math
import os
import re
import shutil
import signal

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from sfjax import flow, objective, optim, precision, tasks, train, train_step
from sfjax.config import read
from sfjax.errors import UserError
from sfjax.model import Estimator, EstimatorConfig


def losses(folder):
    entries = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return {(entry["step"], name): entry[name] for entry in entries for name in ("loss", "valid_loss") if name in entry}


def equal(one, two):
    jax.tree.map(np.testing.assert_array_equal, jax.device_get(one), jax.device_get(two))


@pytest.fixture(scope="module")
def pretrain(toy_config):
    """A function from overrides to a run of pre-training whose batches have two lengths."""
    return lambda **changes: toy_config("pretrain", **{"data.buckets": (1.5, 2.0)} | changes)


@pytest.fixture(scope="module")
def whole(pretrain, tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    return train.run(pretrain(), folder), folder


@pytest.mark.parametrize("stop", [pytest.param(3, marks=pytest.mark.slow), 4])  # before a validation and after one
def test_a_stopped_and_resumed_run_equals_one_never_stopped(whole, pretrain, tmp_path, stop):
    state, folder = whole
    train.run(pretrain(**{"run.stop": stop}), tmp_path)
    equal(train.run(pretrain(), tmp_path), state)
    assert losses(tmp_path) == losses(folder)


@pytest.mark.slow
def test_a_run_with_muon_and_patches_resumes_as_one_never_stopped(toy_config, tmp_path):
    changes = {"optim.muon": 10.0, "model.patch": 2, "run.valid_batches": 0, "optim.updates": 4}
    state = train.run(toy_config("pretrain", **changes), tmp_path / "whole")
    train.run(toy_config("pretrain", **changes, **{"run.stop": 2}), tmp_path / "parts")
    equal(train.run(toy_config("pretrain", **changes), tmp_path / "parts"), state)


@pytest.mark.slow
def test_muon_leaves_frozen_parameters_alone(whole, toy_config, tmp_path):
    adapters = {"init_from": str(whole[1]), "lora.rank": 4, "optim.muon": 10.0, "run.stop": 2}
    state = train.run(toy_config("enhance", **adapters), tmp_path)
    equal(state.frozen, whole[0].ema)
    moved = jax.tree.map(lambda x: float(jnp.abs(x).max()), state.params)
    assert set(moved) == {"transformer"} and all(jax.tree.leaves(moved))


@pytest.mark.slow
def test_an_interrupted_run_is_saved_and_goes_on(whole, pretrain, tmp_path):
    class Interrupting(io.StringIO):
        def write(self, text):
            if "step 2/" in text:
                os.kill(os.getpid(), signal.SIGINT)
            return super().write(text)

    with pytest.raises(KeyboardInterrupt):
        train.run(pretrain(), tmp_path, out=Interrupting())
    assert max(int(path.name) for path in (tmp_path / "checkpoints").iterdir()) < 6
    equal(train.run(pretrain(), tmp_path), whole[0])


@pytest.mark.slow
def test_epochs_become_updates_in_schedule_config_and_overview_and_lengthen_a_run(toy_config, tmp_path):
    lines = io.StringIO()
    changes = {"optim.epochs": 0.5, "optim.updates": 100, "optim.warmup": 0, "optim.end": 0.0, "run.valid_batches": 0}
    config = toy_config("pretrain", **changes)
    batches = sum(train.readers(read(config))[0].plan.counts)
    expected = math.ceil(0.5 * batches)
    assert 1 < expected < batches
    assert int(train.run(config, tmp_path, out=lines).step) == expected
    assert config.optim.updates == 100  # the caller's config is unchanged
    assert f"an epoch is {batches} updates, and the run {expected} updates ({expected / batches:.3g} epochs)" in (
        lines.getvalue()
    )
    entries = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    rates = [entry["learning_rate"] for entry in entries if "learning_rate" in entry]
    assert rates[-1] == pytest.approx(config.optim.peak / expected)  # one update before the schedule ends at 0
    written = json.loads((tmp_path / "config.json").read_text())["optim"]
    assert (written["epochs"], written["updates"]) == (0.5, expected)
    train.run(config, tmp_path, out=lines)
    assert f"finished its {expected} updates" in lines.getvalue()
    config.optim.epochs = 1.0
    assert int(train.run(config, tmp_path, out=lines).step) == batches
    config.optim.epochs = 0.5
    with pytest.raises(UserError, match=f"optim.updates: {batches} there, {expected} here"):
        train.run(config, tmp_path, out=lines)
    config.optim.epochs = -1.0
    with pytest.raises(UserError, match="optim.epochs must be .* got -1.0"):
        train.run(config, tmp_path / "other", out=lines)


def test_a_finished_run_started_again_does_nothing(whole, pretrain, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(whole[1], copy)
    equal(train.run(pretrain(), copy), whole[0])


def test_fine_tuning_on_other_mels_is_refused(whole, toy_config, tmp_path):
    config = toy_config("enhance", **{"init_from": str(whole[1]), "mel.low": 50.0})
    with pytest.raises(UserError, match="low 0.0, not 50.0"):
        train.run(config, tmp_path)


def test_fine_tuning_starts_from_the_averaged_parameters(whole, toy_config, tmp_path):
    config = toy_config("enhance", **{"init_from": str(whole[1]), "run.stop": 1})  # its learning rate is 0
    equal(train.run(config, tmp_path).params, whole[0].ema)


@pytest.mark.slow
def test_the_record_has_scalars_pictures_and_audio(toy_config, tmp_path):
    train.run(toy_config("enhance", **{"run.pictures": 2, "run.log": 1, "optim.updates": 2}), tmp_path)
    assert {path.name for path in (tmp_path / "samples").iterdir()} == {
        f"0000002_{i}.{suffix}" for i in range(2) for suffix in ("png", "wav")
    }
    entries = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    entry = next(entry for entry in entries if entry["step"] == 2 and "loss" in entry)  # the first step compiled
    assert {"loss", "gradient_norm", "learning_rate", "skipped", "steps_per_second", "audio_seconds_per_second"} <= set(
        entry
    )
    assert list((tmp_path / "tensorboard").iterdir())


# One step

SPEC_KEYS = ("peak", "end", "warmup", "updates")


@pytest.fixture(scope="module")
def parts(toy_config, spec):
    config = toy_config("pretrain", **{"optim.warmup": 0, "model.dropout": 0.0})
    network = Estimator(EstimatorConfig(**config.model), mels=80, dtype=jnp.float32)
    tx = optax.chain(optax.clip_by_global_norm(0.2), optax.sgd(0.1))  # Adam would hide the size of a gradient
    task = tasks.make(**config.task)
    made = objective.estimation(network, flow, spec)
    error = made.error(task)
    rate = optim.schedule(**{name: config.optim[name] for name in SPEC_KEYS})
    policy = precision.policy("fp32")
    state = jax.jit(lambda key: train_step.initial_state(made.init(key), tx, policy, None))(jax.random.key(0))
    rule = train_step.UpdateRule(tx, rate, policy, 0.9)

    @functools.cache
    def step(pieces):
        options = dict(seed=0, error=error, rule=rule, pieces=pieces, t0_fraction=0.0)
        return jax.jit(functools.partial(train_step.step, **options))

    return state, step, error


@pytest.fixture(scope="module")
def batch(voice):
    lengths = np.array([16_000, 9_999, 12_345, 16_000], np.int32)
    waves = np.zeros((4, 16_000), np.float32)
    for i, length in enumerate(lengths):
        waves[i, :length] = voice(1.0, i)[:length]
    return given(jnp.asarray(waves), jnp.asarray(lengths))


def given(speech, lengths):
    """A batch as the loader reads it."""
    return {"waves": {"speech": speech}, "mels": {}, "labels": {}, "lengths": lengths, "task": 0 * lengths}


class PaddedWith:
    """A task whose targets have `value` in their padding."""

    def __init__(self, task, value):
        self.task, self.value = task, value

    def example(self, features, length, key):
        example = self.task.example(features, length, key)
        valid = jnp.arange(len(example["target"])) < length
        return example | {"target": jnp.where(valid[:, None], example["target"], self.value)}


def test_the_padding_of_a_target_changes_no_gradient(parts, batch, toy_config, spec):
    state, config = parts[0], toy_config("pretrain")
    network = Estimator(EstimatorConfig(**config.model), mels=80, dtype=jnp.float32)
    keys, t = jax.random.split(jax.random.key(1), 4), jnp.linspace(0.1, 0.9, 4)

    @functools.partial(jax.jit, static_argnums=0)
    def gradient(value):
        error = objective.estimation(network, flow, spec).error(PaddedWith(tasks.make(**config.task), value))
        return jax.grad(lambda params: error(params, batch, keys, t, None).total)(state.params)

    usual, infinite = gradient(0.0), gradient(float("inf"))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5), usual, infinite)


def test_accumulating_pieces_equals_the_whole_batch(parts, batch):
    state, step, _ = parts
    one, metrics = step(1)(state, batch)
    two, metrics2 = step(2)(state, batch)
    assert float(metrics["loss"]) == pytest.approx(float(metrics2["loss"]), rel=1e-5)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), one.params, two.params)
    assert any(
        np.abs(a - b).max() > 1e-6 for a, b in zip(*map(jax.tree.leaves, (one.params, state.params)), strict=True)
    )


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_a_share_of_the_times_is_zero_and_the_rest_is_even(share):
    seen = {}

    def error(params, batch, keys, t, dropout):
        jax.debug.callback(lambda t: seen.update(t=t), t)
        return flow.Error(params["x"] * t.sum(), 1.0 * t.size)

    tx, policy = optax.sgd(0.1), precision.policy("fp32")
    state = train_step.initial_state({"x": jnp.ones(())}, tx, policy, None)
    batch = given(jnp.zeros((4000, 1)), jnp.ones(4000, jnp.int32))
    train_step.step(
        state,
        batch,
        seed=0,
        error=error,
        rule=train_step.UpdateRule(tx, optax.constant_schedule(0.1), policy, 0.9),
        pieces=1,
        t0_fraction=share,
    )
    t = np.sort(seen["t"])
    zeros = int((t == 0).sum())
    assert zeros / 4000 == pytest.approx(share, abs=0.03)
    np.testing.assert_allclose(t[zeros:], (np.arange(4000 - zeros) + 0.5) / max(4000 - zeros, 1), atol=0.05)


def test_the_loss_does_not_depend_on_padding_or_batch_order(parts, batch):
    state, _, error = parts
    waves, lengths = batch["waves"], batch["lengths"]
    keys, t = jax.random.split(jax.random.key(1), 4), jnp.array([0.1, 0.4, 0.6, 0.9])
    loss = jax.jit(lambda wav, lengths, keys, t: error(state.params, given(wav, lengths), keys, t, None))
    plain = loss(waves["speech"], lengths, keys, t)
    order = jnp.array([2, 0, 3, 1])
    turned = loss(waves["speech"][order], lengths[order], keys[order], t[order])
    assert float(plain.total) == pytest.approx(float(turned.total), rel=1e-5)
    # masks are drawn on the padded size, so padding is compared example by example with nothing hidden to draw
    junk = waves["speech"].at[1, 10_080:].set(0.5)
    spoiled = loss(junk, lengths, keys, t)
    assert float(plain.total) == pytest.approx(float(spoiled.total), rel=1e-5)
    assert float(plain.count) == float(turned.count) == float(spoiled.count)


def test_a_step_without_finite_gradients_changes_only_the_counters(parts, batch):
    state, step, _ = parts
    broken = batch["waves"]["speech"].at[0, 0].set(jnp.nan)
    bad, metrics = step(1)(state, given(broken, batch["lengths"]))
    equal((bad.params, bad.ema, bad.opt_state), (state.params, state.ema, state.opt_state))
    assert (int(bad.step), int(bad.skipped), int(bad.streak)) == (1, 1, 1)
    good, _ = step(1)(bad, batch)
    assert (int(good.skipped), int(good.streak)) == (1, 0)


def test_a_run_that_stops_learning_ends_with_its_files_named(toy_config, tmp_path, monkeypatch):
    monkeypatch.setattr(flow, "SIGMA", float("nan"))
    with pytest.raises(UserError, match=r"no finite gradient in 3 steps.*speech_"):
        train.run(toy_config("pretrain", **{"run.max_streak": 3, "run.validate": 100}), tmp_path)


def test_too_many_bad_files_end_the_run(toy_config, corpus, tmp_path):
    copy = tmp_path / "corpus"
    shutil.copytree(corpus, copy)
    for i in (0, 1, 2, 4):
        (copy / f"speech_{i}.flac").write_bytes(b"")
    config = toy_config("pretrain", **{"data.train": f"{copy}/speech.parquet", "run.max_bad": 0.001})
    with pytest.raises(UserError, match="more than run.max_bad"):
        train.run(config, tmp_path / "run")
    named = (tmp_path / "run/bad_files.txt").read_text().splitlines()
    assert len(named) == len(set(named)) >= 2 and all("not readable as sound" in line for line in named)


def test_one_program_is_compiled_for_each_bucket(pretrain, tmp_path, caplog):
    with jax.log_compiles():
        train.run(pretrain(**{"run.valid_batches": 0}), tmp_path)
    compiled = [record.message[:40] for record in caplog.records if "Compiling jit(step)" in record.message]
    assert len(compiled) == 2


@pytest.mark.slow
def test_a_trace_covers_the_steps_that_are_asked_for(toy_config, tmp_path):
    for folder, steps in (("within", (2, 3)), ("to_the_end", (6, 9)), ("none", (0, 0))):
        train.run(toy_config("pretrain", **{"debug.profile": steps, "run.valid_batches": 0}), tmp_path / folder)
    traced = {path.relative_to(tmp_path).parts[0] for path in tmp_path.rglob("*.xplane.pb")}
    assert traced == {"within", "to_the_end"}


def test_the_loss_falls(toy_config, tmp_path):
    config = toy_config("enhance", **{"optim.updates": 60, "optim.peak": 3e-3, "run.validate": 60, "run.log": 60})
    train.run(config, tmp_path)
    found = [value for (step, name), value in sorted(losses(tmp_path).items()) if name == "loss"]
    assert np.mean(found[-10:]) < 0.75 * np.mean(found[:10])


@pytest.mark.slow
def test_a_run_describes_itself_says_where_it_resumes_and_may_be_lengthened(toy_config, tmp_path):
    lines = io.StringIO()
    config = toy_config("pretrain", **{"run.valid_batches": 0})
    train.run(config, tmp_path, out=lines)
    init = train.make_program(read(config)).objective.init
    count = sum(leaf.size for leaf in jax.tree.leaves(jax.eval_shape(init, jax.random.key(0))))
    assert f"{count / 1e6:.1f} M parameters" in lines.getvalue() and "from scratch" in lines.getvalue()
    assert re.search(r"data: .* h in \d+ utterances; an epoch is \d+ updates", lines.getvalue())
    assert re.search(r"memory: about \d+\.\d GiB of \d+\.\d GiB", lines.getvalue())

    config.optim.updates = 8
    train.run(config, tmp_path, out=lines)
    assert "resumed at step 6" in lines.getvalue()
    config.optim.updates = 7
    with pytest.raises(UserError, match="optim.updates: 8 there, 7 here"):
        train.run(config, tmp_path, out=lines)
    config.optim.updates = 8
    train.run(config, tmp_path, out=lines)
    assert "finished its 8 updates" in lines.getvalue()
