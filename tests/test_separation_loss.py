"""The separation losses equal direct computations: the best order of sources, ratio masks, and deep clustering."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sfjax import audio, flow, separation_loss, tasks, train
from sfjax.config import read
from sfjax.configs import default

FRAMES, GAP, MELS, STD = 5, 3, 4, 2.0  # between copies a gap that counts for nothing


def copies(count, batch):
    numbers = np.where(np.arange(FRAMES + GAP) < FRAMES, np.arange(1, count + 1)[:, None], 0)
    return np.tile(numbers, (batch, 1, 1))


def flat(x):
    return jnp.asarray(x.reshape(len(x), -1, *x.shape[3:]))


def joined(copy, *, free=1.0, mask=0.0, cluster=0.0, emphasis=None):
    batch, frames = copy.shape
    whole = lambda value: jnp.asarray(np.full(batch, value, np.float32))
    shown = np.broadcast_to((np.asarray(copy) > 0)[..., None], (batch, frames, MELS)).astype(np.float32)
    emphasis = jnp.asarray(shown) if emphasis is None else emphasis
    return separation_loss.Joined(copy, whole(free), emphasis, whole(mask), whole(cluster))


@functools.partial(jax.jit, static_argnames="count")
def total(v, x1, x0, t, weight, known, count):
    """The loss of a field that says `v`."""
    compare = lambda squared, estimate: separation_loss.error(squared, estimate, x1, t, known, count=count, std=STD)
    return flow.loss(lambda xt, t: v, x1, weight, x0, t, compare)


def squared_by_hand(v, x1, x0):
    """The smallest squared error over all orders of the sources, for arrays [sources, frames, mels]."""
    orders = itertools.permutations(range(len(v)))
    return min(np.sum((v - (x1[list(order)] - (1 - 1e-5) * x0)) ** 2) for order in orders)


@pytest.mark.parametrize("count", [2, 3])
def test_at_the_start_the_best_order_counts_and_later_the_given_one(count):
    x0, x1, v = np.random.default_rng(0).standard_normal((3, 6, count, FRAMES + GAP, MELS)).astype(np.float32)
    copy = copies(count, 6)
    t = jnp.array([0.0, 0.0, 0.0, 0.2, 0.5, 0.9])
    weight = flat((copy > 0).astype(np.float32))
    found = total(flat(v), flat(x1), flat(x0), t, weight, joined(flat(copy)), count=count)
    cut = lambda x, b: x[b, :, :FRAMES]
    best = [squared_by_hand(cut(v, b), cut(x1, b), cut(x0, b)) for b in range(3)]
    given = [np.sum((cut(v, b) - (cut(x1, b) - (1 - 1e-5) * cut(x0, b))) ** 2) for b in range(3, 6)]
    assert float(found.total) == pytest.approx(sum(best) + sum(given), rel=1e-5)
    assert float(found.count) == 6 * count * FRAMES * MELS
    fixed = total(flat(v), flat(x1), flat(x0), t, weight, joined(flat(copy), free=0.0), count=count)
    plain = flow.loss(lambda xt, t: flat(v), flat(x1), weight, flat(x0), t)
    assert float(fixed.total) == pytest.approx(float(plain.total), rel=1e-5) and float(fixed.total) > float(found.total)


def test_sources_in_the_wrong_order_cost_nothing_at_the_start_and_examples_without_sources_keep_theirs():
    x1 = jax.random.normal(jax.random.key(0), (2, 8, MELS))
    copy = jnp.stack([jnp.repeat(jnp.array([1, 2]), 4), jnp.zeros(8, jnp.int32)])
    turned = jnp.roll(x1, 4, axis=1)
    known = joined(copy, mask=3.0)
    found = lambda t: float(total(turned, x1, 0 * x1, jnp.array(t), jnp.ones((2, 8)), known, count=2).total)
    assert found([0.0, 0.0]) == pytest.approx(float(jnp.square(turned - x1)[1].sum()), rel=1e-5)
    assert found([0.5, 0.0]) > float(jnp.square(turned - x1).sum())


def shares_by_hand(mels):
    powers = np.exp(2 * STD * mels.astype(np.float64))
    return powers / powers.sum(axis=0)


@pytest.mark.parametrize("count", [2, 3])
def test_the_error_of_shares_equals_a_direct_computation_and_has_a_part_in_the_order(count):
    rng = np.random.default_rng(1)
    x1, estimate = rng.standard_normal((2, 4, count, FRAMES + GAP, MELS)).astype(np.float32)
    emphasis = rng.random((4, 1, FRAMES + GAP, MELS)).astype(np.float32) * (copies(count, 4) > 0)[..., None]
    known, weight = joined(flat(copies(count, 4)), mask=50.0, emphasis=flat(emphasis)), flat(copies(count, 4) > 0)
    x0 = flat(np.zeros_like(x1))
    found = total(flat(estimate), flat(x1), x0, jnp.zeros(4), weight.astype(jnp.float32), known, count=count)
    wanted, by_mels = 0.0, 0.0
    for b in range(4):
        mine, true, loud = (x[b, :, :FRAMES] for x in (estimate, x1, emphasis))
        errors = []
        for order in map(list, itertools.permutations(range(count))):
            of_shares = np.sum(loud * (shares_by_hand(mine) - shares_by_hand(true[order])) ** 2)
            errors.append((np.sum((mine - true[order]) ** 2), 50 * of_shares))
        wanted += min(map(sum, errors))
        by_mels += sum(min(errors))
    assert float(found.total) == pytest.approx(wanted, rel=1e-4)
    assert by_mels > wanted * 1.01  # the order by Mels alone is another one


def test_shares_are_the_masks_by_which_waves_are_made():
    spec = audio.MelSpec(**default.get_config("tiny").mel)
    waves = 0.1 * jax.random.normal(jax.random.key(0), (1, 2, 3200))
    mels, spectrum = audio.log_mel(waves[0], spec), audio.stft(waves[:, 0] + waves[:, 1], spec)
    found = separation_loss.places(jnp.repeat(jnp.array([[1, 2]]), 20, axis=1), 2)
    one, two = separation_loss.shares(mels.reshape(1, 40, -1), found, spec.std).reshape(2, 1, 20, -1)
    np.testing.assert_allclose(one + two, 1, atol=1e-6)
    bins = jnp.einsum("sbfm,mk->bsfk", jnp.stack([one, two]), audio._shares(spec)) * spectrum[:, None]
    wanted = jax.vmap(lambda each: audio.istft(each, spec), in_axes=1, out_axes=1)(bins)
    np.testing.assert_allclose(audio.RECONSTRUCTIONS["ratio"](mels[None], spectrum, spec), wanted, atol=1e-6)


@pytest.mark.parametrize("count", [2, 3])
def test_the_error_of_clusters_compares_all_pairs_of_bins(count):
    rng = np.random.default_rng(2)
    x1 = rng.standard_normal((2, count, FRAMES + GAP, MELS)).astype(np.float32)
    embedding = rng.standard_normal((2, count, FRAMES + GAP, MELS, 6)).astype(np.float32)
    loud = np.repeat(rng.random((2, 1, FRAMES + GAP, MELS)), count, axis=1) * (copies(count, 2) > 0)[..., None]
    known = joined(flat(copies(count, 2)), emphasis=flat(loud.astype(np.float32)))
    error = jax.jit(lambda embedding, x1: separation_loss.cluster_error(embedding, x1, known, count))
    found = error(flat(embedding), flat(x1))
    for b in range(2):
        v = embedding[b] / np.linalg.norm(embedding[b], axis=-1, keepdims=True)
        label = np.broadcast_to(x1[b].argmax(axis=0), x1[b].shape).ravel()
        weight, v = (loud[b] / loud[b].sum()).ravel(), v.reshape(-1, 6)
        same = label[:, None] == label[None]
        wanted = np.sum(weight[:, None] * weight[None] * (v @ v.T - same) ** 2)
        assert float(found[b]) == pytest.approx(wanted, rel=1e-4)
    perfect = jax.nn.one_hot(flat(np.broadcast_to(x1.argmax(axis=1, keepdims=True), x1.shape)), 6)
    np.testing.assert_allclose(error(perfect, flat(x1)), 0, atol=1e-5)


@pytest.mark.slow
def test_each_error_counts_by_its_weight_and_none_is_that_of_the_paper(toy_config):

    config = toy_config("separate", **{"mix.noise": ""})
    one, two = 0.1 * jax.random.normal(jax.random.key(1), (2, 3, 8000))
    batch = {
        "waves": {"source_1": one, "source_2": two, "mixture": one + two},
        "lengths": jnp.array([8000, 7000, 4000]),
        "task": jnp.zeros(3, jnp.int32),
        "labels": {},
    }
    keys, t = jax.random.split(jax.random.key(2), 3), jnp.array([0.0, 0.0, 0.6])
    drawn = {}

    def error(**changes):
        with config.unlocked():
            config.task.update(changes)
        objective, clusters = train.make_program(read(config)).objective, config.task.cluster > 0
        if clusters not in drawn:
            drawn[clusters] = jax.jit(objective.init)(jax.random.key(0))
        assert ("embedding" in drawn[clusters]) == clusters
        loss = objective.error(tasks.make(**config.task))
        return float(jax.jit(lambda params: loss(params, batch, keys, t, None).total)(drawn[clusters]))

    plain = error(order="random", mask=0.0, cluster=0.0)
    fixed = error(mask=1e-9)
    best = error(order="best", mask=0.0)
    assert fixed == pytest.approx(plain, rel=1e-5) and best <= plain
    one, two = (error(mask=mask) - best for mask in (0.5, 1.0))
    assert 0 < two / 2 <= one * (1 + 1e-4)  # the best order may be another one
    one, two = (error(mask=0.0, cluster=cluster) - best for cluster in (0.5, 1.0))
    assert one == pytest.approx(two / 2, rel=1e-3) and two > 0
