"""Adam and Muon, their schedule and clipping, and the moving average of the parameters."""

from __future__ import annotations

import re

import jax
import jax.numpy as jnp
import optax
import optax.contrib

KERNELS = r"(^|/)(transformer/(early|late)|blocks)/\w+/kernel$"  # stacked matrices, which Muon can update
PHONES = ("phone_table", "phone_gate")  # parameters that embed phones; a model of speech alone has none


def schedule(*, peak: float, end: float, warmup: int, updates: int) -> optax.Schedule:
    """The learning rate: linear from 0 to `peak` over `warmup` updates, then linear to `end` at `updates` (4.1)."""
    rise = optax.linear_schedule(0.0, peak, warmup)
    fall = optax.linear_schedule(peak, end, max(updates - warmup, 1))
    return optax.join_schedules([rise, fall], [warmup])


def optimizer(
    *, peak: float, end: float, warmup: int, updates: int, clip: float, b1: float, b2: float, decay: float,
    phones: float, muon: float,
) -> optax.GradientTransformation:  # fmt: skip
    """Adam behind a clip of the global gradient norm to `clip` (0: none) (Voicebox 5.1).

    `decay` is the weight decay of AdamW, 0 in the paper. The parameters that embed phones learn at `phones` times the
    rate. The kernels of stacked layers learn by Muon at `muon` times the rate (0: by Adam): the update of each kernel
    is its momentum, made orthogonal by Newton-Schulz iterations (arXiv 2502.16982; optax.contrib.scale_by_muon).
    """
    rate = schedule(peak=peak, end=end, warmup=warmup, updates=updates)
    bound = optax.clip_by_global_norm(clip) if clip else optax.identity()
    rule = optax.adamw(rate, b1=b1, b2=b2, weight_decay=decay) if decay else optax.adam(rate, b1=b1, b2=b2)
    if muon:
        kernels = _muon(lambda count: muon * rate(count), decay)
        rule = optax.partition({"adam": rule, "muon": kernels}, _rules)
    if phones == 1.0:
        return optax.chain(bound, rule)
    return optax.chain(bound, rule, optax.masked(optax.scale(phones), _phones))


def _phones(params):
    is_one = lambda path, _: jax.tree_util.keystr(path, simple=True, separator="/") in PHONES
    return jax.tree_util.tree_map_with_path(is_one, params)


def _rules(params):
    """The rule that updates each parameter: `muon` for the kernels of stacked layers, `adam` for all others."""

    def rule(path, _):
        name = jax.tree_util.keystr(path, simple=True, separator="/")
        return "muon" if re.search(KERNELS, name) else "adam"

    return jax.tree_util.tree_map_with_path(rule, params)


def _muon(rate, decay):
    """Muon for stacked kernels [layers, inputs, outputs], each layer by itself; the wider a layer's output is than its
    input, the larger its update."""
    axes = optax.contrib.MuonDimensionNumbers(reduction_axis=1, output_axis=2)
    widen = lambda update, _: update * max(1.0, update.shape[2] / update.shape[1]) ** 0.5
    return optax.chain(
        optax.contrib.scale_by_muon(weight_dimension_numbers=lambda kernels: jax.tree.map(lambda _: axes, kernels)),
        optax.stateless_with_tree_map(widen),
        optax.add_decayed_weights(decay) if decay else optax.identity(),
        optax.scale_by_learning_rate(rate),
    )


def average(mean, params, count: jax.Array, decay: float):
    """The exponential moving average after update number `count`, with decay min(decay, (1 + count) / (10 + count)).

    The warm-up keeps the initial parameters out of the average of a short run.
    """
    now = jnp.minimum(decay, (1.0 + count) / (10.0 + count))
    return optax.incremental_update(params, mean, 1.0 - now)
