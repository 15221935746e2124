"""Schedule, clipping and averaging against closed forms."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sfjax import optim

PAPER = dict(peak=5e-5, end=1e-5, warmup=5000, updates=600_000)


def test_the_schedule_is_the_papers():
    rate = optim.schedule(**PAPER)
    for step, expected in ((0, 0.0), (2500, 2.5e-5), (5000, 5e-5), (302_500, 3e-5), (600_000, 1e-5), (700_000, 1e-5)):
        assert float(rate(step)) == pytest.approx(expected, rel=1e-5, abs=1e-12)


def test_the_gradient_is_clipped_by_its_global_norm():
    tx = optim.adam(**PAPER | {"warmup": 1}, clip=0.2, b1=0.0, b2=0.0)
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


def test_the_average_warms_up_and_then_decays():
    value = jnp.float32(1.0)
    assert float(optim.average(jnp.float32(0.0), value, jnp.int32(0), 0.9999)) == pytest.approx(0.9)
    assert float(optim.average(jnp.float32(0.0), value, jnp.int32(10**6), 0.9999)) == pytest.approx(1e-4, rel=1e-3)
