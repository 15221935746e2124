"""The error of compressed amplitudes follows its formula, has the scale of the log-Mel error, and joins the loss."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sfjax import amplitude_loss, tasks, train
from sfjax.config import read
from sfjax.errors import UserError

STD, MELS = 2.0, 4


def mels(seed, *shape):
    return jax.random.normal(jax.random.key(seed), (*shape, MELS))


def test_bins_weigh_by_their_amplitude_and_padding_has_no_weight():
    mixture = jnp.zeros((2, 4, MELS)).at[:, 1, 2].set(np.log(10) / STD).at[:, 3].set(99.0)
    weight = jnp.array([[1.0, 1, 1, 0], [1, 1, 0, 0]])
    found = amplitude_loss.emphasis(mixture, weight, STD)
    np.testing.assert_allclose(found.sum(axis=(1, 2)), weight.sum(axis=1) * MELS, rtol=1e-5)
    np.testing.assert_allclose(found[:, 1, 2] / found[:, 0, 0], 10 ** (2 * amplitude_loss.POWER), rtol=1e-5)
    assert not found[weight == 0].any()


def test_the_error_is_that_of_compressed_amplitudes_up_to_one_factor_for_an_example():
    estimate, x1, weight = mels(0, 2, 6), mels(1, 2, 6), jnp.array([[1.0] * 6, [1.0] * 4 + [0.0] * 2])
    compressed = lambda mel: np.exp(amplitude_loss.POWER * STD * np.asarray(mel, np.float64))
    direct = ((compressed(estimate) - compressed(x1)) ** 2).sum(axis=-1) * np.asarray(weight)
    found = amplitude_loss.error(estimate, x1, weight, STD)
    for mine, wanted in zip(found, direct, strict=True):
        ratio = mine[wanted > 0] / wanted[wanted > 0]
        np.testing.assert_allclose(ratio, ratio[0], rtol=1e-4)
    assert not found[weight == 0].any()


def test_near_the_target_it_is_the_squared_error_of_log_mels_weighed_by_amplitude():
    x1, weight = mels(0, 1, 6), jnp.ones((1, 6))
    shift = 1e-3 * mels(1, 1, 6)
    wanted = (amplitude_loss.emphasis(x1, weight, STD) * shift**2).sum(axis=-1)
    np.testing.assert_allclose(amplitude_loss.error(x1 + shift, x1, weight, STD), wanted, rtol=1e-2)


def test_an_estimate_far_too_loud_has_a_finite_error_and_gradient():
    x1, weight = mels(0, 1, 6), jnp.ones((1, 6))
    value, gradient = jax.value_and_grad(lambda x: amplitude_loss.error(x, x1, weight, STD).sum())(x1 + 1e4)
    assert np.isfinite(value) and np.isfinite(gradient).all()


@pytest.mark.parametrize("name", ["enhance", pytest.param("separate", marks=pytest.mark.slow)])
def test_its_weight_adds_it_to_the_loss_of_any_task(name, toy_config):
    config = toy_config(name, **{"mix.noise": ""} | ({"task.order": "random"} if name == "separate" else {}))
    waves = 0.1 * jax.random.normal(jax.random.key(1), (3, 2, 8000))
    names = ("speech", "noisy") if name == "enhance" else ("source_1", "source_2", "mixture")
    batch = {
        "waves": dict(zip(names, waves, strict=False)),
        "lengths": jnp.array([8000, 7000]),
        "task": jnp.zeros(2, jnp.int32),
        "labels": {},
    }
    keys, t = jax.random.split(jax.random.key(2), 2), jnp.array([0.0, 0.6])
    if name == "separate":
        config.task.mask = config.task.cluster = 0.0

    def error(weight):
        config.amplitude = weight
        objective = train.make_program(read(config)).objective
        loss = objective.error(tasks.make(**config.task))
        return float(jax.jit(lambda key: loss(objective.init(key), batch, keys, t, None).total)(jax.random.key(0)))

    plain, one, two = (error(weight) for weight in (0.0, 1.0, 2.0))
    assert one > plain and two - plain == pytest.approx(2 * (one - plain), rel=1e-3)


@pytest.mark.parametrize("weight", [-1.0, float("nan"), float("inf")])
def test_its_weight_has_to_be_a_number_from_0_on(weight, toy_config):
    with pytest.raises(UserError, match=f"amplitude .*got {weight}"):
        train.make_program(read(toy_config("enhance", amplitude=weight)))
