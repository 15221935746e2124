"""The network has the paper's size, its layers match those of JAX, and no example affects another.

Padding, batching, blocks of queries and the memory options change no result.
"""

import dataclasses
import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sfjax import flow, model, transformer
from sfjax.configs import default

TOY = model.EstimatorConfig(
    width=32,
    layers=4,
    heads=4,
    ffn=64,
    dropout=0.1,
    conv_kernel=5,
    conv_groups=4,
    conv_depth=2,
    patch=1,
    precondition="none",
    residual=False,
    lookahead=-1,
    history=200,
    attention_block=0,
    remat="none",
    unroll=2,
)


def toy(dtype=jnp.float32, adapter=None, phones=0, copies=0, embedding=0, **changes):
    """An estimator of 8 Mel bands; `changes` are fields of its size."""
    config = dataclasses.replace(TOY, **changes)
    return model.Estimator(config, 8, dtype, adapter, phones, copies, embedding)


def inputs(batch, frames, seed=0):
    x, condition = jax.random.normal(jax.random.key(seed), (2, batch, frames, 8))
    return x, jnp.linspace(0.1, 0.9, batch), condition


@functools.cache
def build(**changes):
    network = toy(**changes)

    @jax.jit
    def draw(key, noise):
        params = network.init(key, *inputs(1, 10), jnp.array([10]), copy=jnp.zeros((1, 10), int))
        # larger weights than at the start, so that every part of the network speaks
        return jax.tree.map(lambda p: p + 0.1 * jax.random.normal(noise, p.shape), params)

    return network, draw(jax.random.key(0), jax.random.key(1))


@functools.cache
def jitted(network):
    return jax.jit(network.apply, static_argnames="train")


def count(size, **changes):
    sizes = dict(default.get_config(size).model)
    own = {name: value for name, value in changes.items() if name not in sizes}
    config = model.EstimatorConfig(**sizes | {name: changes[name] for name in changes.keys() - own.keys()})
    network = model.Estimator(config, mels=80, dtype=jnp.float32, **own)
    x = jnp.zeros((1, 8, 80))
    given = (x, jnp.zeros(1), x, jnp.array([8]), None, jnp.zeros((1, 8), int))
    shapes = jax.eval_shape(network.init, jax.random.key(0), *given)
    return sum(int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(shapes))


def test_the_large_network_has_the_papers_parameters():
    assert count("large") == 329_704_529
    assert count("large", conv_kernel=31) == 331_801_681


def test_the_small_network_has_about_15_million_parameters():
    assert 13e6 < count("small") < 17e6


def test_alibi_slopes_and_bias():
    expected = [0.70710678, 0.5, 0.35355339, 0.25, 0.1767767, 0.125, 0.08838835, 0.0625]
    np.testing.assert_allclose(transformer.alibi_slopes(16)[:8], expected, rtol=1e-6)
    bias = transformer.alibi(jnp.arange(6), jnp.arange(6), heads=2, lead=1)
    assert bias.dtype == jnp.float32
    np.testing.assert_array_equal(bias[:, 0], 0)
    np.testing.assert_array_equal(bias[:, :, 0], 0)
    np.testing.assert_allclose(bias[1, 1:, 1:], -(2.0**-8) * np.abs(np.subtract.outer(range(5), range(5))))


def test_attention_equals_jaxs_own():
    query, key, value = jax.random.normal(jax.random.key(0), (3, 2, 37, 4, 8))
    shown = jnp.arange(37) < jnp.array([[37], [20]])
    bias = transformer.alibi(jnp.arange(37), jnp.arange(37), heads=4, lead=1)[None]
    expected = jax.nn.dot_product_attention(query, key, value, bias=bias, mask=shown[:, None, None])
    for block in (0, 8, 37, 64):
        found = transformer.attention(query, key, value, shown, lead=1, block=block)
        np.testing.assert_allclose(found, expected, atol=2e-6)


@pytest.mark.parametrize("block", [0, 8, 19, 64])
def test_the_gradient_of_attention_equals_that_of_jaxs_own(block):
    query, key, value, cotangent = jax.random.normal(jax.random.key(0), (4, 2, 37, 4, 8))
    shown = jnp.arange(37) < jnp.array([[37], [20]])
    bias = transformer.alibi(jnp.arange(37), jnp.arange(37), heads=4, lead=1)[None]
    own = lambda *given: jax.nn.dot_product_attention(*given, bias=bias, mask=shown[:, None, None])
    ours = lambda *given: transformer.attention(*given, shown, lead=1, block=block)
    for computed, tolerance in ((jnp.float32, 5e-6), (jnp.bfloat16, 0.05)):
        given = [x.astype(computed) for x in (query, key, value)]
        expected = jax.vjp(own, query, key, value)[1](cotangent)
        found = jax.vjp(ours, *given)[1](cotangent.astype(computed))
        for mine, theirs in zip(found, expected, strict=True):
            assert mine.dtype == computed
            np.testing.assert_allclose(mine.astype(jnp.float32), theirs, atol=tolerance)
            assert np.abs(theirs).max() > 0.5


def test_gelu_is_the_exact_one():
    x = jnp.linspace(-10, 10, 4001)
    np.testing.assert_allclose(transformer.gelu(x), jax.nn.gelu(x, approximate=False), atol=1e-6)


def test_dropout_keeps_the_mean_and_draws_anew_with_every_key():
    x = jnp.ones((4, 200, 500))
    drawn = [np.asarray(transformer.dropout(x, key, 0.1)) for key in jax.random.split(jax.random.key(0), 3)]
    for one in drawn:
        assert set(np.unique(one)) == {0.0, np.float32(1 / 0.9)}
        for axes in ((0, 1, 2), (0, 1), (0, 2), (1, 2)):  # in all, of a unit, of a frame, of an example
            count = np.prod([x.shape[axis] for axis in axes])
            # four and a half standard errors: of 500 units none may stray further
            assert np.abs((one == 0).mean(axes) - 0.1).max() < 4.5 * np.sqrt(0.1 * 0.9 / count)
        flat = one.ravel() == 0
        for lag in (1, 2, 500, 100_000):  # neighbours in each axis are dropped independently
            assert abs((flat[:-lag] & flat[lag:]).mean() - 0.01) < 0.001
    for one, two in ((0, 1), (1, 2), (0, 2)):
        assert abs(((drawn[one] == 0) & (drawn[two] == 0)).mean() - 0.01) < 0.001
    np.testing.assert_array_equal(drawn[0], transformer.dropout(x, jax.random.split(jax.random.key(0), 3)[0], 0.1))


@pytest.mark.parametrize("frames, taps", [(1, 15), (5, 15), (8, 31), (45, 5), (50, 4)])
def test_the_grouped_convolution_equals_jaxs_own(frames, taps):
    x = jax.random.normal(jax.random.key(0), (2, frames, 12))
    kernel = jax.random.normal(jax.random.key(1), (taps, 3, 12))
    own = jax.lax.conv_general_dilated(
        x, kernel, (1,), "SAME", dimension_numbers=("NTC", "TIO", "NTC"), feature_group_count=4
    )
    np.testing.assert_allclose(transformer.grouped_conv(x, kernel), own, atol=1e-4)


def test_blocks_of_queries_keep_no_square_of_scores():
    def peak(frames, block):
        x = jax.ShapeDtypeStruct((1, frames, 4, 8), jnp.float32)
        shown = jax.ShapeDtypeStruct((1, frames), bool)
        loss = lambda q, shown: transformer.attention(q, q, q, shown, lead=1, block=block).sum()
        return jax.jit(jax.grad(loss)).lower(x, shown).compile().memory_analysis().temp_size_in_bytes

    assert peak(2048, 0) > 4 * 2048**2 * 4
    assert peak(2048, 128) < 4 * 2048**2 * 4 / 2


@pytest.mark.parametrize("patch", [1, 2, 3])
def test_an_example_is_the_same_alone_padded_and_in_any_batch(patch):
    network, params = build(patch=patch)
    x, t, condition = inputs(3, 40)
    lengths = jnp.array([40, 23, 9])
    apply = jitted(network)
    together = apply(params, x, t, condition, lengths)
    for i, n in ((1, 23), (2, 9)):
        alone = apply(params, x[i : i + 1, :n], t[i : i + 1], condition[i : i + 1, :n], lengths[i : i + 1])
        np.testing.assert_allclose(together[i, :n], alone[0], atol=1e-5)
    order = jnp.array([2, 0, 1])
    turned = apply(params, x[order], t[order], condition[order], lengths[order])
    np.testing.assert_allclose(turned[1, :40], together[0], atol=1e-5)
    spoiled = apply(params, x.at[1, 23:].set(7.0), t, condition.at[1, 23:].set(-3.0), lengths)
    np.testing.assert_allclose(spoiled[1, :23], together[1, :23], atol=1e-5)


def copies(frames, length):
    """The numbers of two copies of `length` frames in the first frames of a recording."""
    number = jnp.arange(frames)
    return jnp.where(number < 2 * length, number // length + 1, 0)[None]


def test_the_same_moment_of_aligned_copies_is_at_distance_zero():
    network, params = build(copies=2, conv_depth=0)  # convolutions alone see across the border of two copies
    half, condition = jax.random.normal(jax.random.key(0), (2, 1, 6, 8))
    twice = lambda x: jnp.concatenate([x, x], axis=1)
    copy, t = copies(12, 6), jnp.array([0.3])
    given = (twice(half), t, twice(condition), jnp.array([12]))
    row = params["params"]["copy_table"]
    for table, alike in ((row, False), (jnp.stack([row[0], row[0]]), True)):
        held = {"params": params["params"] | {"copy_table": table}}
        first, second = jnp.split(jitted(network)(held, *given, copy=copy), 2, axis=1)
        assert np.allclose(first, second, atol=1e-5) == alike
    # without numbers the second copy is 6 frames away from the first
    first, second = jnp.split(jitted(network)(params, *given), 2, axis=1)
    assert not np.allclose(first, second, atol=1e-2)


def test_copies_trade_places_with_their_embeddings():
    network, params = build(copies=2, conv_depth=0)
    x, condition = jax.random.normal(jax.random.key(0), (2, 1, 12, 8))
    turn = lambda x: jnp.roll(x, 6, axis=1)
    turned = {"params": params["params"] | {"copy_table": params["params"]["copy_table"][::-1]}}
    run = lambda params, x, c: jitted(network)(params, x, jnp.array([0.3]), c, jnp.array([12]), copy=copies(12, 6))
    np.testing.assert_allclose(turn(run(params, x, condition)), run(turned, turn(x), turn(condition)), atol=1e-5)


@pytest.mark.parametrize("patch", [1, 2])
def test_padding_behind_copies_changes_nothing_and_examples_without_copies_are_as_before(patch):
    network, params = build(copies=2, patch=patch)
    x, t, condition = inputs(2, 20)
    copy = jnp.concatenate([copies(20, 6), jnp.zeros((1, 20), jnp.int32)])
    lengths = jnp.array([12, 17])
    apply = jitted(network)
    both = apply(params, x, t, condition, lengths, copy=copy)
    alone = apply(params, x[:1, :12], t[:1], condition[:1, :12], lengths[:1], copy=copy[:1, :12])
    np.testing.assert_allclose(both[0, :12], alone[0], atol=1e-5)
    without = apply(params, x[1:], t[1:], condition[1:], lengths[1:])
    np.testing.assert_allclose(both[1, :17], without[0, :17], atol=1e-5)


def causal(patch, lookahead, **changes):
    """A causal network whose attention sees 8 tokens back, and parameters of one that sees all frames."""
    network = toy(patch=patch, lookahead=lookahead, history=8 * patch, precondition="flow", residual=True, **changes)
    return network, {"params": build(patch=patch)[1]["params"]}


@pytest.mark.parametrize("patch, lookahead, block", [(1, 0, 0), (1, 3, 7), (2, 4, 0)])
def test_a_causal_network_sees_no_frame_after_its_lookahead(patch, lookahead, block):
    network, params = causal(patch, lookahead, attention_block=block)
    x, t, condition = inputs(1, 24)
    apply = jax.jit(lambda x, condition: network.apply(params, x, t, condition, jnp.array([24])))
    first = 12  # frame of the first change
    blind = first - lookahead  # a multiple of the patch, so that a token begins there
    late = apply(x.at[:, first:].set(9.0), condition.at[:, first:].set(-9.0))
    np.testing.assert_array_equal(late[:, :blind], apply(x, condition)[:, :blind])
    assert np.abs(late - apply(x, condition))[0, blind].max() > 1e-3  # the look-ahead is used

    def early(x, condition):
        return jnp.square(apply(x, condition)[:, :blind]).sum()

    for gradient in jax.jit(jax.grad(early, (0, 1)))(x, condition):
        np.testing.assert_array_equal(gradient[:, first:], 0)
        assert np.abs(gradient[:, first - 1]).max() > 0


@pytest.mark.parametrize("patch, lookahead, blocks", [(1, 0, (1,)), (1, 3, (5,)), (2, 4, (2,))])
def test_a_stream_of_blocks_is_the_same_as_all_frames_at_once(patch, lookahead, blocks):
    network, params = causal(patch, lookahead)
    (x, t, condition), lengths = inputs(2, 40), jnp.array([40, 33])
    expected = jax.jit(network.apply)(params, x, t, condition, lengths)
    x, condition = (jnp.pad(array, ((0, 0), (0, lookahead), (0, 0))) for array in (x, condition))
    shapes = jax.eval_shape(network.init, jax.random.key(0), x[:, :patch], t, condition[:, :patch], lengths)
    past = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes[transformer.PAST])
    apply = jax.jit(functools.partial(network.apply, mutable=[transformer.PAST]))
    first, results = 0, []
    for size in itertools.cycle(blocks):
        end = min(first + size, x.shape[1])
        variables = params | {transformer.PAST: past}
        counts = jnp.clip(lengths - first, 0, end - first)
        result, variables = apply(variables, x[:, first:end], t, condition[:, first:end], counts)
        results.append(result)
        past, first = variables[transformer.PAST], end
        if first == x.shape[1]:
            break
    streamed = jnp.concatenate(results, axis=1)[:, lookahead:]
    for i, length in enumerate(lengths):
        np.testing.assert_allclose(streamed[i, :length], expected[i, :length], atol=1e-5)


def test_an_embedding_of_copies_is_the_only_new_parameter():
    assert count("tiny", copies=3) - count("tiny") == 3 * default.get_config("tiny").model.width


def test_patches_hold_frames_in_order_and_no_padding():
    x = jnp.arange(1.0, 21.0).reshape(2, 5, 2)
    found = model.patches(x, jnp.array([5, 3]), 2)
    np.testing.assert_array_equal(found[0], [[1, 2, 3, 4], [5, 6, 7, 8], [9, 10, 0, 0]])
    np.testing.assert_array_equal(found[1], [[11, 12, 13, 14], [15, 16, 0, 0], [0, 0, 0, 0]])
    assert model.patches(x, jnp.array([5, 3]), 1) is x


def test_only_input_and_output_grow_with_the_patch():
    shapes = lambda patch: jax.tree.map(jnp.shape, build(patch=patch)[1]["params"])
    plain, paired = shapes(1), shapes(2)
    assert paired.pop("input")["kernel"] == (2 * 16, 32) and plain.pop("input")["kernel"] == (16, 32)
    assert paired.pop("output") == {"kernel": (32, 2 * 8), "bias": (2 * 8,)} and plain.pop("output")
    assert paired == plain


@pytest.mark.parametrize("patch", [1, 2])
def test_a_preconditioned_field_is_scaled_around_the_same_network(patch):
    plain, params = build(patch=patch)
    scaled = toy(patch=patch, precondition="flow")
    x, t, condition = inputs(3, 9)
    lengths = jnp.array([9, 9, 4])
    scales = [scale[:, None, None] for scale in flow.scales(t)]
    wanted = scales[1] * x + scales[2] * jitted(plain)(params, scales[0] * x, t, condition, lengths)
    found = jitted(scaled)(params, x, t, condition, lengths)
    np.testing.assert_allclose(found, wanted, atol=1e-5)
    assert not np.allclose(found, jitted(plain)(params, x, t, condition, lengths), atol=0.1)


@pytest.mark.parametrize("precondition", ["none", "flow"])
def test_a_residual_field_adds_to_what_is_left_of_the_condition(precondition):
    plain, params = build(precondition=precondition)
    residual = toy(precondition=precondition, residual=True)
    x, t, condition = inputs(3, 9)
    rest = x, t, condition, jnp.array([9, 9, 4])
    scale = 1.0 if precondition == "none" else flow.scales(t).output[:, None, None]
    wanted = jitted(plain)(params, *rest) + scale * (1 - t[:, None, None]) * condition
    np.testing.assert_allclose(jitted(residual)(params, *rest), wanted, atol=1e-5)


@pytest.mark.parametrize(
    "changes", [{"unroll": 1}, {"remat": "dots"}, {"remat": "full", "unroll": 1}, {"attention_block": 16}]
)
def test_memory_options_change_no_value_and_no_gradient(changes):
    network, params = build()
    other = toy(**changes)
    arguments = (*inputs(2, 30), jnp.array([30, 21]))
    # eager gradients of a scan are the same mathematics in another order of sums
    loss = lambda network: jax.jit(jax.value_and_grad(lambda p: (network.apply(p, *arguments) ** 2).mean()))(params)
    (value, gradient), (value2, gradient2) = loss(network), loss(other)
    assert float(value) == pytest.approx(float(value2), rel=1e-5)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5 * float(jnp.abs(a).max()) + 1e-8), gradient, gradient2
    )


def test_skips_join_the_outer_layers():
    # silencing the skip of the last layer cuts what entered the first one: the output must notice
    network, params = build()
    arguments = (*inputs(1, 20), jnp.array([20]))
    kernel = params["params"]["transformer"]["late"]["skip"]["kernel"]
    assert kernel.shape == (2, 64, 32)
    cut = jax.tree.map(lambda p: p, params)
    cut["params"]["transformer"]["late"]["skip"]["kernel"] = kernel.at[1, 32:].set(0.0)
    apply = jitted(network)
    assert np.abs(apply(params, *arguments) - apply(cut, *arguments)).max() > 1e-3


def test_kept_inputs_are_popped_newest_first():
    # Early layer i adds the unit vector i and nothing else; late layer j alone passes its skip input on. What comes out
    # then tells which early layer's input that was.
    trunk = transformer.Transformer(
        dataclasses.replace(TOY, layers=6, dropout=0.0, unroll=3),
        lead=0,
        adapter=None,
        dtype=jnp.float32,
    )
    x = jax.random.normal(jax.random.key(0), (1, 1, 32))
    shown = jnp.ones((1, 1), bool)
    init, apply = functools.partial(trunk.init, train=False), jax.jit(functools.partial(trunk.apply, train=False))
    params = jax.tree.map(jnp.zeros_like, jax.eval_shape(init, jax.random.key(0), x, shown))["params"]
    params["early"]["down"]["bias"] = jnp.eye(3, 32)
    params["norm"]["scale"] = jnp.ones(32)
    for late in range(3):
        passed = jnp.zeros((3, 64, 32)).at[late, 32:].set(jnp.eye(32))
        params["late"]["skip"]["kernel"] = passed.at[late + 1 :, :32].set(jnp.eye(32))
        entered = x + jnp.eye(3, 32)[: 2 - late].sum(axis=0)
        expected = (entered - entered.mean()) / entered.std()
        np.testing.assert_allclose(apply({"params": params}, x, shown)[0], expected, atol=1e-4)


def test_time_features_are_sines_of_geometric_frequencies():
    found = model.time_features(jnp.array([0.0, 0.25]), 1024)
    np.testing.assert_allclose(found[0, :512], 0, atol=1e-7)
    np.testing.assert_allclose(found[0, 512:], 1, atol=1e-7)
    np.testing.assert_allclose(found[1, [0, 511]], [np.sin(250.0), np.sin(0.025)], atol=1e-4)


def test_dropout_acts_in_training_alone():
    network, params = build()
    arguments = (*inputs(1, 20), jnp.array([20]))
    apply = jitted(network)
    still = [apply(params, *arguments) for _ in range(2)]
    np.testing.assert_array_equal(*still)
    moved = apply(params, *arguments, train=True, rngs={"dropout": jax.random.key(0)})
    assert np.abs(moved - still[0]).max() > 1e-3


def test_bf16_computes_near_float32_and_returns_float32():
    network, params = build()
    arguments = (*inputs(2, 30), jnp.array([30, 21]))
    low = jax.jit(toy(dtype=jnp.bfloat16).apply)(params, *arguments)
    exact = jitted(network)(params, *arguments)
    assert low.dtype == jnp.float32
    assert np.abs(low - exact).max() < 0.05 * np.abs(exact).max() + 0.05
