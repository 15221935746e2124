"""Adam, its schedule and clipping, and the moving average of the parameters."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import optax


def schedule(*, peak: float, end: float, warmup: int, updates: int) -> optax.Schedule:
    """The learning rate: linear from 0 to `peak` over `warmup` updates, then linear to `end` at `updates` (4.1)."""
    rise = optax.linear_schedule(0.0, peak, warmup)
    fall = optax.linear_schedule(peak, end, max(updates - warmup, 1))
    return optax.join_schedules([rise, fall], [warmup])


def adam(
    *, peak: float, end: float, warmup: int, updates: int, clip: float, b1: float, b2: float
) -> optax.GradientTransformation:
    """Adam without weight decay behind a clip of the global gradient norm to `clip` (0: none) (Voicebox 5.1)."""
    rate = schedule(peak=peak, end=end, warmup=warmup, updates=updates)
    bound = optax.clip_by_global_norm(clip) if clip else optax.identity()
    return optax.chain(bound, optax.adam(rate, b1=b1, b2=b2))


def average(mean, params, count: jax.Array, decay: float):
    """The exponential moving average after update number `count`, with decay min(decay, (1 + count) / (10 + count)).

    The warm-up keeps the initial parameters out of the average of a short run.
    """
    now = jnp.minimum(decay, (1.0 + count) / (10.0 + count))
    return optax.incremental_update(params, mean, 1.0 - now)
