"""The state of a run, and the training step: gradient, update, average."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import flax.struct
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float

from sfjax import flow, lora, optim, precision
from sfjax.objective import Batch


class State(flax.struct.PyTreeNode):
    """All that a run carries from step to step.

    Three counters: `step` counts all batches, `skipped` the batches whose gradients were not finite, and `streak` the
    batches without finite gradients in a row up to now. `scale` is the scale of the loss. `params` are the trained
    parameters, `ema` is their average, and `frozen` are the other parameters, which checkpoints leave out.
    """

    step: Any  # typed Any because shapes, shardings and restore targets stand in the same tree
    params: Any
    ema: Any
    frozen: Any
    opt_state: Any
    scale: Any
    skipped: Any
    streak: Any


class UpdateRule(NamedTuple):
    """How a step changes the state: optimizer, its learning rate, precision policy, and decay of the average."""

    tx: optax.GradientTransformation
    rate: optax.Schedule
    policy: precision.Policy
    decay: float


def initial_state(
    params: Any, tx: optax.GradientTransformation, policy: precision.Policy, adapter: lora.Adapter | None
) -> State:
    """Return the state at step 0 with the given parameters; with an adapter, some of them are frozen."""
    params, frozen = lora.split(params, adapter)
    ema = jax.tree.map(jnp.copy, params)
    zero, skipped, streak = (jnp.zeros((), jnp.int32) for _ in range(3))  # donated, so none is shared
    return State(
        step=zero,
        params=params,
        ema=ema,
        frozen=frozen,
        opt_state=tx.init(params),
        scale=precision.start(policy),
        skipped=skipped,
        streak=streak,
    )


def step(
    state: State,
    batch: Batch,
    *,
    seed: int,
    error: Callable,
    rule: UpdateRule,
    pieces: int,
    t0_fraction: float,
) -> tuple[State, dict[str, Float[Array, ""]]]:
    """Train on one batch: the gradient of total error over total count, in `pieces` one after the other; an update.

    Masks, times and noise follow from (seed, step, example).
    """
    now = jax.random.fold_in(jax.random.key(seed), state.step)
    count, values = len(batch["lengths"]), sum(x.size for x in jax.tree.leaves((batch["waves"], batch["labels"])))
    keys = jax.vmap(lambda i: jax.random.fold_in(now, i))(jnp.arange(count))
    keys, key_t = jnp.unstack(jax.vmap(jax.random.split)(keys), axis=1)
    t = flow.t0_times(jax.vmap(jax.random.uniform)(key_t), t0_fraction)
    dropout = jax.random.split(jax.random.fold_in(now, count), pieces)

    # the gradient is that of scale · (about the mean error): a power of two, so that nothing is rounded
    unit = state.scale.value / 2 ** math.ceil(math.log2(values))

    def piece_error(params, piece):
        errors = error(lora.join(params, state.frozen), *piece)
        return errors.total * unit, (errors.total, errors.count)

    def add(sums, piece):
        gradient, (total, count) = jax.grad(piece_error, has_aux=True)(state.params, piece)
        return jax.tree.map(jnp.add, sums, (total, count, gradient)), None

    examples = (batch, keys, t)
    if pieces == 1:
        gradient, (total, count) = jax.grad(piece_error, has_aux=True)(state.params, (*examples, dropout[0]))
    else:
        # every piece takes its share of each device's examples
        cut = jax.tree.map(lambda x: x.reshape(-1, pieces, *x.shape[1:]).swapaxes(0, 1), examples)
        zeros = (jnp.zeros(()), jnp.zeros(()), jax.tree.map(jnp.zeros_like, state.params))
        (total, count, gradient), _ = jax.lax.scan(add, zeros, (*cut, dropout))
    gradient = jax.tree.map(lambda g: g / unit / count, gradient)
    norm = optax.tree.norm(gradient)
    finite = jnp.isfinite(norm) & jnp.isfinite(total)

    gradient = jax.tree.map(lambda g: jnp.where(finite, g, 0.0), gradient)
    updates, opt_state = rule.tx.update(gradient, state.opt_state, state.params)
    params = optax.apply_updates(state.params, updates)
    metrics = {"loss": total / count, "gradient_norm": norm}
    return guarded(state, params, opt_state, finite, metrics, rule)


def guarded(
    state: State,
    params: Any,
    opt_state: Any,
    finite: Bool[Array, ""],
    metrics: dict[str, Float[Array, ""]],
    rule: UpdateRule,
) -> tuple[State, dict[str, Float[Array, ""]]]:
    """Return the next state, with new parameters if the gradients were `finite` and the old ones if not; and `metrics`
    with the learning rate, the loss scale and the counters."""
    ema = optim.average(state.ema, params, state.step - state.skipped, rule.decay)
    new, old = (params, ema, opt_state), (state.params, state.ema, state.opt_state)
    params, ema, opt_state = jax.tree.map(lambda new, old: jnp.where(finite, new, old), new, old)
    bad = (~finite).astype(jnp.int32)
    skipped, streak = state.skipped + bad, (state.streak + 1) * bad
    metrics = metrics | {
        "learning_rate": rule.rate(state.step - state.skipped),
        "loss_scale": state.scale.value,
        "skipped": skipped,
        "streak": streak,
    }
    scale = precision.adjust(state.scale, finite, rule.policy)
    state = state.replace(
        step=state.step + 1,
        params=params,
        ema=ema,
        opt_state=opt_state,
        scale=scale,
        skipped=skipped,
        streak=streak,
    )
    return state, metrics
