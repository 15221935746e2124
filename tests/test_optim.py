"""Schedule, clipping and averaging against closed forms."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sfjax import optim

PAPER = dict(peak=5e-5, end=1e-5, warmup=5000, updates=600_000)
PLAIN = dict(clip=0.0, b1=0.9, b2=0.999, decay=0.0, phones=1.0)


def test_the_schedule_is_the_papers():
    rate = optim.schedule(**PAPER)
    for step, expected in ((0, 0.0), (2500, 2.5e-5), (5000, 5e-5), (302_500, 3e-5), (600_000, 1e-5), (700_000, 1e-5)):
        assert float(rate(step)) == pytest.approx(expected, rel=1e-5, abs=1e-12)


def test_the_gradient_is_clipped_by_its_global_norm():
    tx = optim.adam(**PAPER | PLAIN | {"warmup": 1, "clip": 0.2, "b1": 0.0, "b2": 0.0})
    gradient = {"a": jnp.array([3.0]), "b": jnp.array([4.0])}
    bound = tx.init(gradient)[0]
    clipped, _ = tx.update(gradient, tx.init(gradient))
    assert bound is not None and clipped is not None
    import optax

    found, _ = optax.clip_by_global_norm(0.2).update(gradient, optax.EmptyState())
    assert float(optax.tree.norm(found)) == pytest.approx(0.2)
    # b1 = 0: the first moment is the clipped gradient itself
    _, state = tx.update(gradient, tx.init(gradient))
    moment = jax.tree.leaves(state, is_leaf=lambda s: hasattr(s, "mu"))[0].mu
    np.testing.assert_allclose([moment["a"][0], moment["b"][0]], [0.12, 0.16], rtol=1e-5)


def update(**changes):
    """What a step at the highest rate adds to parameters of 2 whose gradient is 1."""
    tx = optim.adam(**PAPER | PLAIN | {"warmup": 1} | changes)
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


def test_the_average_warms_up_and_then_decays():
    value = jnp.float32(1.0)
    assert float(optim.average(jnp.float32(0.0), value, jnp.int32(0), 0.9999)) == pytest.approx(0.9)
    assert float(optim.average(jnp.float32(0.0), value, jnp.int32(10**6), 0.9999)) == pytest.approx(1e-4, rel=1e-3)
