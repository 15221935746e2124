"""The path, loss, guidance and solvers of flow matching give the values of their formulas, whatever the batch is."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sfjax import flow
from sfjax.errors import UserError

DEFAULT = dict(solver="midpoint", steps=16, sway=0.0, tolerance=1e-5)


@pytest.mark.parametrize("t", [0.0, 0.2, 0.5, 0.9, 1.0])
def test_a_preconditioned_network_has_inputs_and_targets_of_variance_one(t):
    x0, x1 = np.random.default_rng(0).standard_normal((2, 1, 200_000, 1)).astype(np.float32)
    xt, velocity = flow.path(jnp.asarray(x0), jnp.asarray(x1), jnp.full(1, t))
    by = flow.scales(jnp.full(1, t))
    target = (velocity - by.skip * xt) / by.output
    assert float(jnp.var(by.input * xt)) == pytest.approx(1, abs=0.02)
    assert float(jnp.var(target)) == pytest.approx(1, abs=0.02)
    assert float(jnp.mean(target * xt)) == pytest.approx(0, abs=0.01)  # the skip has taken all that is linear in x_t
    if t in (0.0, 1.0):
        np.testing.assert_allclose(target, x1 if t == 0 else -x0, atol=1e-3)


def test_the_velocity_is_the_derivative_of_the_path():
    x0, x1 = jax.random.normal(jax.random.key(0), (2, 3, 5, 4))
    t = jnp.array([0.0, 0.3, 1.0])
    _, slope = jax.jvp(lambda t: flow.path(x0, x1, t)[0], (t,), (jnp.ones(3),))
    np.testing.assert_allclose(slope, flow.path(x0, x1, t)[1], atol=1e-6)
    np.testing.assert_allclose(flow.path(x0, x1, jnp.zeros(3))[0], x0, atol=1e-7)
    np.testing.assert_allclose(flow.path(x0, x1, jnp.ones(3))[0], x1 + 1e-5 * x0, atol=1e-6)


def test_a_frame_that_does_not_count_may_be_infinite():
    x0, x1 = jax.random.normal(jax.random.key(0), (2, 2, 3, 4))
    weight = jnp.ones((2, 3)).at[:, 2].set(0.0)

    def total(scale, x1):
        return flow.loss(lambda x, t: scale * x0, x1, weight, x0, jnp.full(2, 0.5)).total

    infinite = jax.value_and_grad(total)(2.0, x1.at[:, 2].set(jnp.inf))
    np.testing.assert_allclose(infinite, jax.value_and_grad(total)(2.0, x1), rtol=1e-6)


def test_the_loss_equals_a_direct_computation():
    rng = np.random.default_rng(0)
    x0, x1 = rng.standard_normal((2, 3, 7, 4)).astype(np.float32)
    t = rng.random(3).astype(np.float32)
    weight = (rng.random((3, 7)) < 0.6).astype(np.float32)
    found = flow.loss(lambda xt, t: 0.3 * xt + t[:, None, None], *map(jnp.asarray, (x1, weight, x0, t)))
    total, count = 0.0, 0
    for b, f, m in np.ndindex(x1.shape):
        if weight[b, f]:
            xt = (1 - (1 - 1e-5) * t[b]) * x0[b, f, m] + t[b] * x1[b, f, m]
            total += (0.3 * xt + t[b] - (x1[b, f, m] - (1 - 1e-5) * x0[b, f, m])) ** 2
            count += 1
    assert float(found.total) == pytest.approx(total, rel=1e-5)
    assert float(found.count) == count


def test_guidance_keeps_the_arrangement_of_frames():
    seen = {}

    def network(x, t, inputs, lengths):
        seen.update(inputs)
        return x

    copy = jnp.array([[1, 1, 2, 2]])
    flow.guided(network, 0.5)(
        0.0, jnp.ones((1, 4, 2)), ({"condition": jnp.ones((1, 4, 2)), "copy": copy}, jnp.array([4]))
    )
    np.testing.assert_array_equal(seen["copy"], jnp.concatenate([copy, copy]))
    np.testing.assert_array_equal(seen["condition"][1], 0)


def test_frames_without_weight_may_hold_anything():
    x = jnp.full((1, 4, 2), jnp.nan).at[:, :2].set(1.0)
    found = flow.loss(lambda xt, t: xt, x, jnp.array([[1.0, 1, 0, 0]]), jnp.ones((1, 4, 2)), jnp.zeros(1))
    assert np.isfinite(found.total) and found.count == 4


@pytest.mark.parametrize(
    "solver, steps, evaluations", [("midpoint", 16, 32), ("euler", 10, 10), ("heun", 4, 8), ("rk4", 4, 16)]
)
def test_a_solver_makes_exactly_its_evaluations(solver, steps, evaluations):
    seen = []

    def field(t, x, args):
        jax.debug.callback(lambda t: seen.append(float(t)), t)
        return -x

    x1 = flow.solve(field, jnp.ones((1, 2, 3)), None, **DEFAULT | {"solver": solver, "steps": steps})
    jax.block_until_ready(x1)
    jax.effects_barrier()
    assert len(seen) == evaluations == flow.STAGES[solver] * steps
    if solver == "midpoint":
        assert sorted(seen) == pytest.approx([k / 32 for k in range(32)])  # never t = 1


@pytest.mark.parametrize("solver", ["euler", "midpoint"])
def test_a_sampling_program_traces_its_network_once(solver):
    traces = []

    def field(t, x, args):
        traces.append(solver)
        return -args * x

    sampler = jax.jit(lambda x0, rate: flow.solve(field, x0, rate, **DEFAULT | {"solver": solver, "steps": 4}))
    x1 = sampler(jnp.ones((1, 2, 3)), jnp.ones((1, 1, 1)))
    assert np.isfinite(x1).all() and len(traces) == 1


@pytest.mark.parametrize("solver, order", [("euler", 1), ("midpoint", 2), ("heun", 2), ("rk4", 4)])
def test_a_solver_has_its_order(solver, order):
    def error(steps):
        field = lambda t, x, args: -x * (1 + t)
        found = flow.solve(field, jnp.ones((1, 1, 1)), None, **DEFAULT | {"solver": solver, "steps": steps})
        return abs(float(found[0, 0, 0]) - np.exp(-1.5))

    assert np.log2(error(3) / error(6)) == pytest.approx(order, abs=0.4)


@pytest.mark.parametrize("options", [{}, {"sway": -1.0}, {"solver": "dopri5"}, {"solver": "rk4", "steps": 8}])
def test_solvers_follow_the_exact_field_of_a_gaussian(options):
    # For x1 ~ N(m, s²) the field is E[x1 − (1 − σ)x0 | x_t], and it takes x0 to m + s·x0.
    m, s, a = 1.5, 0.4, 1 - flow.SIGMA
    mixed = lambda t: (1 - a * t) ** 2 + (t * s) ** 2

    def field(t, x, args):
        return m + (x - t * m) * (t * s**2 - a * (1 - a * t)) / mixed(t)

    x0 = jax.random.normal(jax.random.key(1), (4, 3, 2))
    found = flow.solve(field, x0, None, **DEFAULT | {"steps": 64} | options)
    np.testing.assert_allclose(found, m + s * x0, atol=3e-3)


def test_midpoint_equals_a_hand_written_loop():
    field = lambda t, x, args: jnp.sin(3 * x) * args[:, None, None] + t
    x, args = jax.random.normal(jax.random.key(2), (2, 3, 4)), jnp.array([0.5, 2.0])
    found = flow.solve(field, x, args, **DEFAULT)
    for k in range(16):
        x = x + field(k / 16 + 1 / 32, x + field(k / 16, x, args) / 32, args) / 16
    np.testing.assert_allclose(found, x, atol=1e-6)


def test_an_adaptive_example_does_not_see_its_batch():
    field = lambda t, x, args: -x * args[:, None, None]
    x0, rates = jnp.ones((2, 2, 2)), jnp.array([1.0, 30.0])
    options = DEFAULT | {"solver": "dopri5"}
    both = flow.solve(field, x0, rates, **options)
    alone = flow.solve(field, x0[:1], rates[:1], **options)
    np.testing.assert_allclose(both[0], alone[0], rtol=1e-6)  # it has its own steps


def test_an_adaptive_example_without_enough_steps_is_an_error_and_no_unfinished_state():
    def field(t, x, args):
        return args[:, None, None] * jnp.cos(args[:, None, None] * t)

    options = DEFAULT | {"solver": "dopri5", "tolerance": 1e-6}
    x1 = np.asarray(flow.solve(field, jnp.zeros((2, 1, 1)), jnp.array([1.0, 1e5]), **options))
    assert np.isfinite(x1[0]).all() and np.isnan(x1[1]).all()
    flow.check_finished(x1[0], **options)
    with pytest.raises(UserError, match="dopri5 .*1024 steps.*1e-06"):
        flow.check_finished(x1, **options)


def test_guidance_is_a_line_through_both_branches_in_one_doubled_batch():
    sizes = []

    def network(x, t, inputs, lengths):
        sizes.append((len(x), len(t), len(lengths)))
        return x + 2 * inputs["condition"] + 1

    x, inputs = jnp.ones((3, 4, 2)), {"condition": jnp.full((3, 4, 2), 5.0)}
    lengths = jnp.full(3, 4)
    v = flow.guided(network, 0.5)(0.1, x, (inputs, lengths))
    assert sizes == [(6, 6, 6)]
    np.testing.assert_allclose(v, 1.5 * 12 - 0.5 * 2)
    plain = flow.guided(network, 0.0)(0.1, x, (inputs, lengths))
    np.testing.assert_array_equal(plain, network(x, jnp.full(3, 0.1), inputs, lengths))
    assert sizes[1] == (3, 3, 3)


def test_noise_of_a_frame_depends_on_key_and_number_alone():
    key = jax.random.key(3)
    whole = flow.noise(key, 50, 8)
    np.testing.assert_array_equal(flow.noise(key, 20, 8), whole[:20])
    np.testing.assert_array_equal(flow.noise(key, 20, 8, first=30), whole[30:])
    many = np.asarray(flow.noise(key, 4000, 8))
    assert abs(many.mean()) < 0.03 and many.std() == pytest.approx(1, abs=0.02)
    assert abs(np.corrcoef(many[:-1, 0], many[1:, 0])[0, 1]) < 0.06


def test_unknown_solvers_and_folding_times_are_named():
    with pytest.raises(UserError, match="unknown solver 'magic'"):
        flow.solve(lambda t, x, args: x, jnp.ones((1, 1, 1)), None, **DEFAULT | {"solver": "magic"})
    with pytest.raises(UserError, match="sway .*got 5.0"):
        flow.times(8, 5.0)
