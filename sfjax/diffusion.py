"""Variance-preserving diffusion with the same network, as a baseline: its path, loss and sampler (DDIM).

Time runs as in `flow`: t = 0 is noise, t = 1 is data. The path is x_t = α·x1 + σ·x0 with α² + σ² = 1 (Ho et al.,
arXiv 2006.11239); the continuous schedule is from Song et al. (arXiv 2011.13456). The network predicts
v = α·x0 − σ·x1 (Salimans and Ho, arXiv 2202.00512). If it predicted the noise instead, an error e of the noise would be
an error of e·σ/α in the data, 150 times e at the start.
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

BETA = 0.1, 20.0  # β0 and β1: the rate at which noise is added, at the data and at the noise end
STAGES = {"ddim": 1}  # network evaluations per step


def schedule(t: Float[Array, "*batch"]) -> tuple[Float[Array, "*batch"], Float[Array, "*batch"]]:
    """Return α and σ at time t: log α = −s²·(β1 − β0)/4 − s·β0/2 with s = 1 − t."""
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
    """Compute the squared distance of `field(x_t, t)` from v over frames of weight 1; `compare` as in `flow.loss`."""
    alpha, sigma = (scale[:, None, None] for scale in schedule(t))
    xt = alpha * x1 + sigma * x0
    v = field(xt, t)

    def squared(x1):
        return flow.squared_error(v - (alpha * x0 - sigma * x1), weight)

    error = squared(x1) if compare is None else compare(squared, alpha * xt - sigma * v)
    return flow.Error(error.sum(), weight.sum() * x1.shape[-1])


def check(*, solver: str, steps: int, sway: float, tolerance: float, guidance: float = 0.0) -> None:
    """Raise `UserError` for invalid sampling options (config section `sample`)."""
    if solver not in STAGES:
        raise UserError(f"unknown solver {solver!r} for a diffusion model; choose from {', '.join(STAGES)}")
    if not 1 <= steps <= flow.MOST_STEPS:
        raise UserError(f"steps must be from 1 to {flow.MOST_STEPS}, got {steps}; set it to 32")
    if not math.isfinite(guidance):
        raise UserError(f"guidance must be a finite number, got {guidance}; set it to 0 for none")
    flow.times(steps, sway)


def solve(
    field: Callable,
    x0: Float[Array, "batch frames mels"],
    args: Any,
    *,
    solver: str,
    steps: int,
    sway: float,
    tolerance: float,
) -> Float[Array, "batch frames mels"]:
    """Solve for x1 from x0 along field(t, x, args) by deterministic DDIM (Song et al., arXiv 2010.02502).

    `args` and the options are as in `sfjax.flow.solve`; `solver` is a key of `STAGES`, and `tolerance` has no effect.
    """
    check(solver=solver, steps=steps, sway=sway, tolerance=tolerance)
    grid = flow.times(steps, sway).astype(np.float32)

    def step(state, interval):
        x, _ = state
        start, end = interval
        (alpha, sigma), (next_alpha, next_sigma) = schedule(start), schedule(end)
        v = field(start, x, args)
        data, noise = alpha * x - sigma * v, sigma * x + alpha * v
        return (next_alpha * data + next_sigma * noise, data), None

    (_, data), _ = jax.lax.scan(step, (x0, x0), (grid[:-1], grid[1:]))
    return data


def sample(
    network: Callable,
    x0: Float[Array, "batch frames mels"],
    inputs: dict[str, Array],
    lengths: Int[Array, " batch"],
    *,
    guidance: float,
    **solver: Any,
) -> Float[Array, "batch frames mels"]:
    """Sample x1 from x0 for the network's `inputs`: `solve` the `sfjax.flow.guided` field; for the options see `check`.

    A step takes one evaluation of the network, two with guidance.
    """
    return solve(flow.guided(network, guidance), x0, (inputs, lengths), **solver)
