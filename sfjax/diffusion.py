"""Variance-preserving diffusion on the same network, to compare with: its path, its loss and its usual sampler, DDIM.

Time runs as in `flow`: t = 0 is noise, t = 1 is data. x_t = α·x1 + σ·x0 with α² + σ² = 1 (Ho et al., arXiv 2006.11239;
the continuous schedule is that of Song et al., arXiv 2011.13456), and the network tells v = α·x0 − σ·x1 (Salimans and
Ho, arXiv 2202.00512): the noise itself, told with an error e, puts the data wrong by e·σ/α, 150 times e at the start.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from sfjax import flow
from sfjax.errors import UserError

BETA = 0.1, 20.0  # the rate at which noise comes in, at data and at noise
STAGES = {"ddim": 1}  # evaluations in a step of a solver


def schedule(t: Float[Array, "*batch"]) -> tuple[Float[Array, "*batch"], Float[Array, "*batch"]]:
    """α and σ at time t: log α = −s²·(β1 − β0)/4 − s·β0/2 with s = 1 − t."""
    s = 1 - t
    log_alpha = -0.25 * s**2 * (BETA[1] - BETA[0]) - 0.5 * s * BETA[0]
    return jnp.exp(log_alpha), jnp.sqrt(-jnp.expm1(2 * log_alpha))


def loss(
    field: Callable,
    x1: Float[Array, "batch frames mels"],
    weight: Float[Array, "batch frames"],
    x0: Float[Array, "batch frames mels"],
    t: Float[Array, " batch"],
    compare: Callable | None = None,
) -> flow.Error:
    """The squared distance of `field(x_t, t)` from v, over the frames of weight one; `compare` as in `flow.loss`."""
    alpha, sigma = (each[:, None, None] for each in schedule(t))
    xt = alpha * x1 + sigma * x0
    v = field(xt, t)
    squared = lambda x1: flow.weighted(jnp.square(v - (alpha * x0 - sigma * x1)), weight)
    error = squared(x1) if compare is None else compare(squared, alpha * xt - sigma * v)
    return flow.Error(error.sum(), weight.sum() * x1.shape[-1])


def check(*, solver: str, steps: int, sway: float, tolerance: float, guidance: float = 0.0) -> None:
    """`UserError` if options of sampling, as in config section `sample`, cannot work."""
    if solver not in STAGES:
        raise UserError(f"unknown solver {solver!r} of a diffusion model; set it to {', '.join(STAGES)}")
    if steps < 1:
        raise UserError(f"a solver wants at least 1 step, got {steps}; take 32")
    if not math.isfinite(guidance):
        raise UserError(f"guidance wants a number, got {guidance}; take 0 for none")
    flow.times(steps, sway)


def sample(
    network: Callable,
    x0: Float[Array, "batch frames mels"],
    inputs: dict[str, Array],
    lengths: Int[Array, " batch"],
    *,
    solver: str,
    steps: int,
    sway: float,
    tolerance: float,
    guidance: float,
) -> Float[Array, "batch frames mels"]:
    """x1 from x0 under the network's `inputs` by DDIM without noise of its own (Song et al., arXiv 2010.02502).

    One evaluation a step, two with guidance; `tolerance` has no meaning here.
    """
    check(solver=solver, steps=steps, sway=sway, tolerance=tolerance, guidance=guidance)
    field: Any = flow.guided(network, guidance)
    grid = flow.times(steps, sway).astype(np.float32)

    def move(state, ends):
        x, _ = state
        (alpha, sigma), (next_alpha, next_sigma) = map(schedule, ends)
        v = field(ends[0], x, (inputs, lengths))
        data, noise = alpha * x - sigma * v, sigma * x + alpha * v
        return (next_alpha * data + next_sigma * noise, data), None

    (_, data), _ = jax.lax.scan(move, (x0, x0), (grid[:-1], grid[1:]))
    return data
