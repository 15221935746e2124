"""The optimizers, the learning-rate schedule, gradient clipping and the moving average follow their formulas."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sfjax import optim

PAPER = dict(peak=5e-5, end=1e-5, warmup=5000, updates=600_000)
RATE = optim.schedule(**PAPER | {"warmup": 1})
PLAIN = dict(clip=0.0, b1=0.9, b2=0.999, decay=0.0, phones=1.0, muon=0.0)


def test_the_schedule_is_the_papers():
    rate = optim.schedule(**PAPER)
    for step, expected in ((0, 0.0), (2500, 2.5e-5), (5000, 5e-5), (302_500, 3e-5), (600_000, 1e-5), (700_000, 1e-5)):
        assert float(rate(step)) == pytest.approx(expected, rel=1e-5, abs=1e-12)


@pytest.mark.parametrize(
    "clip, gradient, clipped",
    [
        (0.2, [3.0, 4.0], [0.12, 0.16]),  # the norm over both leaves is 5
        (0.2, [0.03, 0.04], [0.03, 0.04]),  # below the bound
        (0.0, [3.0, 4.0], [3.0, 4.0]),  # no clipping
    ],
)
def test_the_gradient_is_clipped_by_its_global_norm(clip, gradient, clipped):
    tx = optim.optimizer(RATE, **PLAIN | {"clip": clip, "b1": 0.0, "b2": 0.0})
    gradient = {"a": jnp.array(gradient[:1]), "b": jnp.array(gradient[1:])}
    _, state = tx.update(gradient, tx.init(gradient))
    # b1 = 0: the first moment is the gradient after clipping
    moment = jax.tree.leaves(state, is_leaf=lambda node: hasattr(node, "mu"))[0].mu
    np.testing.assert_allclose([moment["a"][0], moment["b"][0]], clipped, rtol=1e-5)


def update(**changes):
    """What a step at the highest rate adds to parameters of 2 whose gradient is 1."""
    tx = optim.optimizer(RATE, **PLAIN | changes)
    params = {"up": jnp.full(1, 2.0), "phone_table": jnp.full(1, 2.0), "phone_gate": jnp.full((), 2.0)}
    ones = jax.tree.map(jnp.ones_like, params)
    _, state = tx.update(ones, tx.init(params), params)
    return {name: float(x.sum()) / 5e-5 for name, x in tx.update(ones, state, params)[0].items()}


def test_phones_learn_at_their_own_rate_and_nothing_else_does():
    plain, faster = update(), update(phones=10.0)
    assert plain == pytest.approx({"up": -1.0, "phone_table": -1.0, "phone_gate": -1.0}, rel=1e-4)
    assert faster == pytest.approx({"up": -1.0, "phone_table": -10.0, "phone_gate": -10.0}, rel=1e-4)


def test_weights_decay_by_their_size_beside_the_gradient():
    assert update(decay=0.01)["up"] == pytest.approx(-1.0 - 0.01 * 2.0, rel=1e-4)


def stacked(layers):
    """Parameters and gradients of a Transformer of that many layers, with an embedding of phones beside it."""
    shapes = {"query": (6, 6), "up": (6, 12), "down": (12, 6)}
    keys = iter(jax.random.split(jax.random.key(0), 8))
    draw = lambda *shape: jax.random.normal(next(keys), shape)
    half = {name: {"kernel": draw(layers, *shape), "bias": draw(layers, shape[1])} for name, shape in shapes.items()}
    return {"transformer": {"early": half}, "input": {"kernel": draw(4, 6)}, "phone_gate": draw()}


def muon(gradient, **changes):
    """What the second step at the highest rate adds to parameters of that gradient, by Muon."""
    tx = optim.optimizer(RATE, **PLAIN | {"muon": 10.0} | changes)
    _, state = tx.update(gradient, tx.init(gradient), gradient)
    return jax.tree.map(lambda x: x / 5e-5, tx.update(gradient, state, gradient)[0])


def test_muon_treats_every_layer_of_a_stack_as_it_would_alone():
    gradient = stacked(3)
    together = muon(gradient)["transformer"]["early"]
    for layer in range(3):
        alone = jax.tree.map(lambda x, i=layer: x[i : i + 1], gradient["transformer"]["early"])
        for name, found in muon({"transformer": {"early": alone}})["transformer"]["early"].items():
            np.testing.assert_allclose(found["kernel"][0], together[name]["kernel"][layer], rtol=1e-3, atol=1e-3)


def test_muon_turns_kernels_by_about_one_in_every_direction_and_leaves_the_rest_to_adam():
    gradient = stacked(2)
    found = muon(gradient)
    for name, scale in (("query", 1.0), ("up", 2**0.5), ("down", 1.0)):  # wide kernels move by more
        for layer in found["transformer"]["early"][name]["kernel"]:
            sizes = np.linalg.svd(layer, compute_uv=False) / (10 * scale)
            assert 0.3 < sizes.min() and sizes.max() < 1.3  # Newton-Schulz with Jordan's coefficients is no more exact
    for adam in (found["input"]["kernel"], found["phone_gate"], found["transformer"]["early"]["up"]["bias"]):
        np.testing.assert_allclose(np.abs(adam), 1.0, rtol=1e-3)


def test_muon_updates_the_stacked_blocks_of_other_networks_as_well():
    gradient = stacked(2)
    blocks = muon({"blocks": gradient["transformer"]["early"]})["blocks"]
    jax.tree.map(np.testing.assert_array_equal, blocks, muon(gradient)["transformer"]["early"])


def test_phones_keep_their_rate_under_muon():
    plain, faster = muon(stacked(2)), muon(stacked(2), phones=10.0)
    assert float(faster.pop("phone_gate")) == pytest.approx(10 * float(plain.pop("phone_gate")))
    jax.tree.map(np.testing.assert_array_equal, faster, plain)


def test_the_average_warms_up_and_then_decays():
    value = jnp.float32(1.0)
    assert float(optim.average(jnp.float32(0.0), value, jnp.int32(0), 0.9999)) == pytest.approx(0.9)
    assert float(optim.average(jnp.float32(0.0), value, jnp.int32(10**6), 0.9999)) == pytest.approx(1e-4, rel=1e-3)
