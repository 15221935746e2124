"""Conditional flow matching: the optimal-transport path, its loss, guidance and the solvers. No audio, no network."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key

from sfjax.errors import UserError

SIGMA = 1e-5  # the standard deviation that the path ends with (SpeechFlow 3.1)


def path(
    x0: Float[Array, "batch frames mels"], x1: Float[Array, "batch frames mels"], t: Float[Array, " batch"]
) -> tuple[Float[Array, "batch frames mels"], Float[Array, "batch frames mels"]]:
    """The point x_t = (1 − (1 − σ)t)·x0 + t·x1 and its velocity x1 − (1 − σ)·x0 (SpeechFlow Eq. 3)."""
    t = t[:, None, None]
    return (1 - (1 - SIGMA) * t) * x0 + t * x1, x1 - (1 - SIGMA) * x0


class Scales(NamedTuple):
    """What a preconditioned field v = `skip` · x_t + `output` · F(`input` · x_t, t) is scaled by at each time."""

    input: Float[Array, " batch"]
    skip: Float[Array, " batch"]
    output: Float[Array, " batch"]


def scales(t: Float[Array, " batch"]) -> Scales:
    """Scales that give the network F inputs and targets of variance one where data have variance one.

    `skip` · x_t is the best linear guess of the velocity from x_t: at t = 0 the network predicts x1, at t = 1 −x0, and
    no noise has to pass through it to be subtracted (EDM, arXiv 2206.00364, Appendix B.6, on the path of `path`).
    """
    variance = t**2 + (1 - t) ** 2
    return Scales(variance**-0.5, (2 * t - 1) / variance, variance**-0.5)


def early_times(u: Float[Array, " batch"], share: float) -> Float[Array, " batch"]:
    """Times to learn the field at: 0 for a `share` of the uniform numbers `u`, even over [0, 1) for the rest.

    At t = 0 the point says nothing of x1, so that the field learned there leads to the mean of what the condition
    allows: one Euler step is a regression.
    """
    return jnp.where(u < share, 0.0, (u - share) / (1 - share))


class Error(NamedTuple):
    """A squared error before its division: the loss is `total / count`, over any number of batches and devices."""

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
    """The squared distance of `field(x_t, t)` from the path's velocity, over the frames of weight one (Eq. 4 and 5).

    `compare(squared, estimate)` gives the error of each frame another way, as `sfjax.sources.error` does: from
    `squared`, a function of x1, and from the `estimate` of x1 that the field leads to in one step.
    """
    xt, _ = path(x0, x1, t)
    v = field(xt, t)
    squared = lambda x1: weighted(jnp.square(v - path(x0, x1, t)[1]), weight)
    error = squared(x1) if compare is None else compare(squared, xt + (1 - t[:, None, None]) * v)
    return Error(error.sum(), weight.sum() * x1.shape[-1])


def weighted(
    squared: Float[Array, "batch frames mels"], weight: Float[Array, "batch frames"]
) -> Float[Array, "batch frames"]:
    """The error of each frame; a frame of weight 0 may hold anything, and 0 · inf is not 0."""
    return jnp.where(weight > 0, squared.sum(axis=-1) * weight, 0.0)


def noise(key: Key[Array, ""], frames: int, mels: int, first: Int[Array, ""] | int = 0) -> Float[Array, "frames mels"]:
    """Standard normal x0 for `frames` frames from number `first` of a recording.

    A frame's noise depends on the key and its number alone, so neither padding, batching nor chunking changes it.
    """
    keys = jax.vmap(lambda i: jax.random.fold_in(key, i))(first + jnp.arange(frames))
    return jax.vmap(lambda k: jax.random.normal(k, (mels,)))(keys)


LAYOUT = ("copy",)  # inputs of a network that say how frames are arranged; guidance leaves them as they are


def guided(network: Callable, guidance: float) -> Callable:
    """The field (1 + α)·v(x, condition) − α·v(x, nothing), both branches as one doubled batch (Voicebox 3.5).

    `network(x, t, inputs, lengths)` takes its condition from the dict `inputs`; nothing is zeros, but for the inputs
    `LAYOUT`. α = 0 is the plain conditioned field at half the cost.
    """
    if guidance == 0:
        return lambda t, x, args: network(x, jnp.full(x.shape[0], t), *args)

    def field(t, x, args):
        inputs, lengths = args
        nothing = {name: value if name in LAYOUT else jnp.zeros_like(value) for name, value in inputs.items()}
        both = {name: jnp.concatenate([inputs[name], nothing[name]]) for name in inputs}
        twice = jnp.concatenate([x, x])
        v = network(twice, jnp.full(twice.shape[0], t), both, jnp.concatenate([lengths, lengths]))
        with_condition, without = jnp.split(v, 2)
        return (1 + guidance) * with_condition - guidance * without

    return field


class RK4(diffrax.AbstractERK):
    """The classical fourth-order Runge–Kutta method, which diffrax leaves out: no embedded error, fixed steps only."""

    tableau = diffrax.ButcherTableau(
        a_lower=(np.array([0.5]), np.array([0.0, 0.5]), np.array([0.0, 0.0, 1.0])),
        b_sol=np.array([1, 2, 2, 1]) / 6,
        b_error=np.zeros(4),
        c=np.array([0.5, 0.5, 1.0]),
    )
    interpolation_cls = diffrax.ThirdOrderHermitePolynomialInterpolation.from_k

    def order(self, terms):
        return 4


SOLVERS = {"euler": diffrax.Euler, "midpoint": diffrax.Midpoint, "heun": diffrax.Heun, "rk4": RK4}
ADAPTIVE = {"dopri5": diffrax.Dopri5}
STAGES = {"euler": 1, "midpoint": 2, "heun": 2, "rk4": 4}  # evaluations in a step of a solver


def times(steps: int, sway: float) -> Float[np.ndarray, " times"]:
    """The `steps` + 1 times from 0 to 1 at which a solver stops; even for `sway` 0, denser near 0 for −1.

    The warp is u + sway · (cos(πu/2) − 1 + u) (F5-TTS, arXiv 2410.06885, Eq. 7).
    """
    u = np.linspace(0.0, 1.0, steps + 1)
    warped = u + sway * (np.cos(np.pi / 2 * u) - 1 + u)
    if not np.all(np.diff(warped) > 0):
        raise UserError(f"sway {sway} folds the time axis; choose between -1 and 1.75")
    return warped


def check(*, solver: str, steps: int, sway: float, tolerance: float, guidance: float = 0.0) -> None:
    """`UserError` if options of sampling, as in config section `sample`, cannot work."""
    if solver not in SOLVERS and solver not in ADAPTIVE:
        raise UserError(f"unknown solver {solver!r}; choose from {', '.join([*SOLVERS, *ADAPTIVE])}")
    if steps < 1:
        raise UserError(f"a solver wants at least 1 step, got {steps}; take 16")
    if not 0 < tolerance < math.inf:
        raise UserError(f"the tolerance wants to be above 0, got {tolerance}; take 1e-3")
    if not math.isfinite(guidance):
        raise UserError(f"guidance wants a number, got {guidance}; take 0 for none")
    times(steps, sway)


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
    """x1 from x0 along dx/dt = field(t, x, args), t = 0..1, by a diffrax solver (SpeechFlow A.2: midpoint, 16 steps).

    Fixed-step solvers stop at `times(steps, sway)`. `dopri5` chooses its steps by `tolerance`, each example its own, so
    that it does not depend on its batch; `args` is a tree whose leaves have the batch axis. The state stays float32.
    """
    check(solver=solver, steps=steps, sway=sway, tolerance=tolerance)
    options = dict(saveat=diffrax.SaveAt(t1=True), throw=False, adjoint=diffrax.DirectAdjoint())
    if solver in SOLVERS:
        grid = times(steps, sway).astype(np.float32)
        solution: Any = diffrax.diffeqsolve(
            diffrax.ODETerm(field), SOLVERS[solver](), 0.0, 1.0, None, x0, args,
            stepsize_controller=_Stops(jnp.asarray(grid)), max_steps=steps, **options,
        )  # fmt: skip
        return solution.ys[0]

    def alone(x0, args):
        single = lambda t, x, args: field(t, x[None], jax.tree.map(lambda a: a[None], args))[0]
        controller = diffrax.PIDController(rtol=tolerance, atol=tolerance)
        solution: Any = diffrax.diffeqsolve(
            diffrax.ODETerm(single), ADAPTIVE[solver](), 0.0, 1.0, 1 / steps, x0, args,
            stepsize_controller=controller, max_steps=1024, **options,
        )  # fmt: skip
        return solution.ys[0]

    return jax.vmap(alone)(x0, args)


class _Stops(diffrax.StepTo):
    """Without diffrax's checks of the times, which call Python while a program runs: `times` has made them."""

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
    """x1 from x0 under the network's `inputs`: `solve` along the `guided` field, by config section `sample`."""
    return solve(guided(network, guidance), x0, (inputs, lengths), **solver)
