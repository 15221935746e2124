"""Conditional flow matching: the optimal-transport path, its loss, guidance and solvers.

This module is independent of audio and of the network.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key, Shaped

from sfjax.errors import UserError

SIGMA = 1e-5  # σ, the standard deviation of the path at t = 1 (SpeechFlow 3.1)


def path(
    x0: Float[Array, "batch frames mels"], x1: Float[Array, "batch frames mels"], t: Float[Array, " batch"]
) -> tuple[Float[Array, "batch frames mels"], Float[Array, "batch frames mels"]]:
    """Return the point x_t = (1 − (1 − σ)t)·x0 + t·x1 and its velocity x1 − (1 − σ)·x0 (SpeechFlow Eq. 3)."""
    t = t[:, None, None]
    return (1 - (1 - SIGMA) * t) * x0 + t * x1, x1 - (1 - SIGMA) * x0


class Scales(NamedTuple):
    """The factors of a preconditioned field v = `skip` · x_t + `output` · F(`input` · x_t, t) at each time.

    F is the raw output of the network.
    """

    input: Float[Array, " batch"]
    skip: Float[Array, " batch"]
    output: Float[Array, " batch"]


def scales(t: Float[Array, " batch"]) -> Scales:
    """Return the scales that give the network F inputs and targets of variance one, if the data have variance one.

    `skip` · x_t is the best linear estimate of the velocity from x_t. At t = 0 the network predicts x1, at t = 1 it
    predicts −x0, and it need not copy the noise to its output (EDM, arXiv 2206.00364, Appendix B.6, for `path`).
    """
    variance = t**2 + (1 - t) ** 2
    return Scales(variance**-0.5, (2 * t - 1) / variance, variance**-0.5)


def t0_times(u: Float[Array, " batch"], share: float) -> Float[Array, " batch"]:
    """Turn uniform numbers `u` into training times: 0 for a `share` of them, uniform over [0, 1) for the rest.

    At t = 0 the point holds no information about x1, so the field learned there leads to the mean of x1 given the
    condition: one Euler step is a regression.
    """
    return jnp.where(u < share, 0.0, (u - share) / (1 - share))


class Error(NamedTuple):
    """A sum of squared errors and its divisor: the loss is `total / count`, over any number of batches and devices."""

    total: Float[Array, ""]
    count: Float[Array, ""]


def loss(
    field: Callable,
    x1: Float[Array, "batch frames mels"],
    weight: Float[Array, "batch frames"],
    x0: Float[Array, "batch frames mels"],
    t: Float[Array, " batch"],
    compare: Callable | None = None,
) -> Error:
    """Compute the squared distance of `field(x_t, t)` from the path's velocity over frames of weight 1 (Eq. 4 and 5).

    `compare(squared, estimate)` → error [batch, frames] replaces the error of each frame, for example by
    `sfjax.separation_loss.error`. `squared(x1)` is a function that returns the squared error of each frame against an
    x1, also [batch, frames]. `estimate` [batch, frames, mels] is the x1 that one step along the field reaches.

    ```python
    x0, x1 = jax.random.normal(jax.random.key(0), (2, 4, 100, 80))
    error = flow.loss(lambda x, t: x, x1, jnp.ones((4, 100)), x0, jnp.linspace(0.0, 0.9, 4))
    ```
    """
    xt, _ = path(x0, x1, t)
    v = field(xt, t)

    def squared(x1):
        return squared_error(v - path(x0, x1, t)[1], weight)

    error = squared(x1) if compare is None else compare(squared, xt + (1 - t[:, None, None]) * v)
    return Error(error.sum(), weight.sum() * x1.shape[-1])


def squared_error(
    difference: Float[Array, "batch frames mels"], weight: Float[Array, "batch frames"]
) -> Float[Array, "batch frames"]:
    """Sum the squared `difference` of each frame over its bins, times the frame's weight; 0 for frames of weight 0.

    Frames of weight 0 may hold any values. They are masked before the square, so that gradients are finite, too.
    """
    return jnp.square(jnp.where(weight[..., None] > 0, difference, 0.0)).sum(axis=-1) * weight


def noise(key: Key[Array, ""], frames: int, mels: int, first: Int[Array, ""] | int = 0) -> Float[Array, "frames mels"]:
    """Draw a standard normal x0 for `frames` frames of a recording, from frame number `first` on.

    The noise of a frame depends only on the key and the frame's number, so padding, batching and chunking do not change
    it.
    """
    keys = jax.vmap(lambda i: jax.random.fold_in(key, i))(first + jnp.arange(frames))
    return jax.vmap(lambda k: jax.random.normal(k, (mels,)))(keys)


LAYOUT = ("copy",)  # network inputs that describe the order of frames; guidance does not zero them


def guided(network: Callable, guidance: float) -> Callable:
    """Return the field (1 + α)·v(x, condition) − α·v(x, zeros), with α = `guidance` (Voicebox 3.5).

    Both branches are computed as one batch of twice the size. `network(x, t, inputs, lengths)` takes its condition from
    the dict `inputs`; the second branch sets all of them but those in `LAYOUT` to zero. α = 0 gives the conditioned
    field at half the cost.
    """
    if guidance == 0:
        return lambda t, x, args: network(x, jnp.full(x.shape[0], t), *args)

    def field(t, x, args):
        inputs, lengths = args
        zeroed = {name: value if name in LAYOUT else jnp.zeros_like(value) for name, value in inputs.items()}
        doubled_inputs = {name: jnp.concatenate([inputs[name], zeroed[name]]) for name in inputs}
        doubled = jnp.concatenate([x, x])
        v = network(doubled, jnp.full(doubled.shape[0], t), doubled_inputs, jnp.concatenate([lengths, lengths]))
        conditioned, unconditioned = jnp.split(v, 2)
        return (1 + guidance) * conditioned - guidance * unconditioned

    return field


class RK4(diffrax.AbstractERK):
    """The classical fourth-order Runge–Kutta method, which diffrax lacks: no embedded error, so fixed steps only."""

    tableau = diffrax.ButcherTableau(
        a_lower=(np.array([0.5]), np.array([0.0, 0.5]), np.array([0.0, 0.0, 1.0])),
        b_sol=np.array([1, 2, 2, 1]) / 6,
        b_error=np.zeros(4),
        c=np.array([0.5, 0.5, 1.0]),
    )
    interpolation_cls = diffrax.ThirdOrderHermitePolynomialInterpolation.from_k

    def order(self, terms):
        """Return the order of convergence."""
        return 4


SOLVERS = {  # of fixed steps, each with its network evaluations per step
    "euler": (diffrax.Euler, 1),
    "midpoint": (diffrax.Midpoint, 2),
    "heun": (diffrax.Heun, 2),
    "rk4": (RK4, 4),
}
STAGES = {name: stages for name, (_, stages) in SOLVERS.items()}
ADAPTIVE = {"dopri5": diffrax.Dopri5}
MOST_STEPS = 1024  # of any solver


def times(steps: int, sway: float) -> Float[np.ndarray, " times"]:
    """Return the `steps` + 1 times from 0 to 1 of a fixed-step solver: even for `sway` 0, denser near 0 for −1.

    The warp is u + sway · (cos(πu/2) − 1 + u) (F5-TTS, arXiv 2410.06885, Eq. 7). Raises `UserError` if the times do not
    increase.
    """
    u = np.linspace(0.0, 1.0, steps + 1)
    warped = u + sway * (np.cos(np.pi / 2 * u) - 1 + u)
    if not np.all(np.diff(warped) > 0):
        raise UserError(f"sway must give increasing times, got {sway}; choose a value between -1 and 1.75")
    return warped


def check(*, solver: str, steps: int, sway: float, tolerance: float, guidance: float = 0.0) -> None:
    """Raise `UserError` for invalid sampling options (config section `sample`).

    Every process has a `check` with these arguments, so `sfjax.diffusion.check` also takes a `tolerance`.
    """
    if solver not in SOLVERS and solver not in ADAPTIVE:
        raise UserError(f"unknown solver {solver!r}; choose from {', '.join([*SOLVERS, *ADAPTIVE])}")
    if not 1 <= steps <= MOST_STEPS:
        raise UserError(f"steps must be from 1 to {MOST_STEPS}, got {steps}; set it to 16")
    if not 0 < tolerance < math.inf:
        raise UserError(f"tolerance must be above 0 and finite, got {tolerance}; set it to 1e-3")
    if not math.isfinite(guidance):
        raise UserError(f"guidance must be a finite number, got {guidance}; set it to 0 for none")
    times(steps, sway)


def check_finished(sampled: Shaped[np.ndarray, "*_"], *, solver: str, tolerance: float, **_: Any) -> None:
    """Raise `UserError` if an adaptive solver ran out of steps, so that what was `sampled` with its options is NaN."""
    if solver in ADAPTIVE and not np.isfinite(sampled).all():
        raise UserError(
            f"{solver} must reach t = 1 in at most {MOST_STEPS} steps, but needs more at tolerance {tolerance:g}; "
            "set a larger tolerance, or take a solver of fixed steps such as midpoint"
        )


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
    """Solve dx/dt = field(t, x, args) from x0 at t = 0 to x1 at t = 1 by a diffrax solver.

    SpeechFlow A.2 takes 16 steps of midpoint. Fixed-step solvers step along `times(steps, sway)`. `dopri5` chooses its
    steps by `tolerance`, for each example alone, so the result does not depend on the batch; an example is NaN if it
    needs more than `MOST_STEPS` steps. `args` is a tree whose leaves have the batch axis. The state stays float32.
    """
    check(solver=solver, steps=steps, sway=sway, tolerance=tolerance)
    field = jax.jit(field)  # diffrax calls it three times, but the network is traced once
    saveat, adjoint = diffrax.SaveAt(t1=True), diffrax.DirectAdjoint()
    if solver in SOLVERS:
        grid = times(steps, sway).astype(np.float32)
        solution: Any = diffrax.diffeqsolve(
            diffrax.ODETerm(field),
            SOLVERS[solver][0](),
            0.0,
            1.0,
            None,
            x0,
            args,
            stepsize_controller=_Stops(jnp.asarray(grid)),
            max_steps=steps,
            saveat=saveat,
            adjoint=adjoint,
            throw=False,
        )
        return solution.ys[0]

    def solve_example(x0, args):
        def example_field(t, x, args):
            return field(t, x[None], jax.tree.map(lambda leaf: leaf[None], args))[0]

        controller = diffrax.PIDController(rtol=tolerance, atol=tolerance)
        solution: Any = diffrax.diffeqsolve(
            diffrax.ODETerm(example_field),
            ADAPTIVE[solver](),
            0.0,
            1.0,
            1 / steps,
            x0,
            args,
            stepsize_controller=controller,
            max_steps=MOST_STEPS,
            saveat=saveat,
            adjoint=adjoint,
            throw=False,  # raising inside of a compiled program would call Python
        )
        return jnp.where(solution.result == diffrax.RESULTS.successful, solution.ys[0], jnp.nan)

    return jax.vmap(solve_example)(x0, args)


class _Stops(diffrax.StepTo):
    """`diffrax.StepTo` without its checks of the times: they call Python at run time, and `times` does them already."""

    def wrap(self, direction):
        return self

    def init(self, *start):
        return self.ts[1], 2


def sample(
    network: Callable,
    x0: Float[Array, "batch frames mels"],
    inputs: dict[str, Array],
    lengths: Int[Array, " batch"],
    *,
    guidance: float,
    **solver: Any,
) -> Float[Array, "batch frames mels"]:
    """Sample x1 from x0 for the network's `inputs`: `solve` the `guided` field; for the options see `check`.

    ```python
    field = lambda x, t, inputs, lengths: inputs["condition"] - x
    x0, mels = jax.random.normal(jax.random.key(0), (2, 1, 100, 80))
    options = dict(solver="midpoint", steps=16, sway=0.0, tolerance=1e-3)
    x1 = flow.sample(field, x0, {"condition": mels}, jnp.array([100]), guidance=0.7, **options)
    ```
    """
    return solve(guided(network, guidance), x0, (inputs, lengths), **solver)
