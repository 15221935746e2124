"""Float16 training adjusts its loss scale, and every precision policy trains alike."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sfjax import flow, objective, optim, precision, tasks, train_step
from sfjax.errors import UserError
from sfjax.model import Estimator, EstimatorConfig

FP16 = precision.policy("fp16")


@pytest.fixture(scope="module")
def run(toy_config, spec, voice):
    """A function from a policy's name to its first state and its jitted step on one batch."""
    config = toy_config("pretrain", **{"model.dropout": 0.0, "optim.warmup": 20, "optim.updates": 10_000})
    waves = {"speech": jnp.stack([voice(1.0, i) for i in range(4)])}
    lengths = jnp.full(4, 16_000, jnp.int32)
    batch = {"waves": waves, "mels": {}, "labels": {}, "lengths": lengths, "task": 0 * lengths}

    def make(name):
        policy = precision.policy(name)
        network = Estimator(EstimatorConfig(**config.model), mels=80, dtype=policy.compute)
        made = objective.estimation(network, flow, spec)
        error = made.error(tasks.make(**config.task))
        settings = config.optim.to_dict()
        rate = optim.schedule(**{key: settings.pop(key) for key in ("peak", "end", "warmup", "updates")})
        del settings["epochs"]
        tx = optim.optimizer(rate, **settings)
        rule = train_step.UpdateRule(tx, rate, policy, 0.9)
        state = jax.jit(lambda key: train_step.initial_state(made.init(key), tx, policy, None))(jax.random.key(0))
        step = functools.partial(train_step.step, seed=0, error=error, rule=rule, pieces=1, t0_fraction=0.0)
        return state, jax.jit(lambda state: step(state, batch))

    return make


def test_a_scale_halves_on_overflow_and_doubles_after_patience():
    scale = precision.start(FP16._replace(scale=8.0))
    policy, finite = FP16._replace(patience=3), [False, True, True, True, True, False]
    seen = []
    for each in finite:
        scale = precision.adjust(scale, jnp.array(each), policy)
        seen.append((float(scale.value), int(scale.steps)))
    assert seen == [(4.0, 0), (4.0, 1), (4.0, 2), (8.0, 0), (8.0, 1), (4.0, 0)]


def test_other_policies_keep_a_scale_of_one():
    for name in ("fp32", "bf16"):
        scale = precision.start(precision.policy(name))
        for finite in (True, False):
            scale = precision.adjust(scale, jnp.array(finite), precision.policy(name))
        assert float(scale.value) == 1.0


def test_an_overflow_skips_the_step_whole_and_the_run_recovers(run):
    state, step = run("fp16")
    state = step(state)[0]
    forced = state.replace(scale=precision.Scale(jnp.float32(2.0**40), jnp.int32(7)))
    skipped, metrics = step(forced)
    for name in ("params", "ema", "opt_state"):
        jax.tree.map(np.testing.assert_array_equal, getattr(skipped, name), getattr(forced, name))
    assert float(skipped.scale.value) == 2.0**39 and int(skipped.scale.steps) == 0
    assert (int(skipped.skipped), int(skipped.step)) == (1, 2) and not np.isfinite(metrics["gradient_norm"])
    while int(skipped.streak):
        skipped, metrics = step(skipped)
    assert np.isfinite(metrics["gradient_norm"]) and float(skipped.scale.value) < 2.0**39
    assert any(
        np.any(a != b) for a, b in zip(jax.tree.leaves(skipped.params), jax.tree.leaves(forced.params), strict=True)
    )


def test_the_scale_does_not_change_the_gradient(run):
    state, step = run("fp32")
    larger = state.replace(scale=precision.Scale(jnp.float32(2.0**10), jnp.int32(0)))
    one, other = step(state)[1], step(larger)[1]
    assert float(one["gradient_norm"]) == float(other["gradient_norm"])  # powers of two round nothing


@pytest.mark.nightly
def test_the_policies_learn_alike(run):
    ends = {}
    for name in precision.POLICIES:
        state, step = run(name)
        losses = []
        for _ in range(200):
            state, metrics = step(state)
            losses.append(float(metrics["loss"]))
        assert int(state.skipped) == 0
        ends[name] = np.mean(losses[-20:])
    assert ends["fp32"] < 0.8 * losses[0]
    assert ends["bf16"] == pytest.approx(ends["fp32"], rel=0.02)
    assert ends["fp16"] == pytest.approx(ends["fp32"], rel=0.02)


def test_an_unknown_policy_is_an_error():
    with pytest.raises(UserError, match="unknown precision 'fp8'; choose from fp32, bf16, fp16"):
        precision.policy("fp8")
