"""Optimizers (Adam, Muon), the learning-rate schedule, gradient clipping, and the moving average of parameters."""

from __future__ import annotations

import math
import re

import jax
import jax.numpy as jnp
import optax
import optax.contrib

from sfjax.errors import UserError

KERNELS = r"(^|/)(transformer/(early|late)|blocks)/\w+/kernel$"  # stacked matrices, which Muon can update
PHONES = ("phone_table", "phone_gate")  # parameters that embed phones; models without phones have none


def count_updates(batches: int, *, epochs: float, updates: int) -> int:
    """Return the updates of a run: `epochs` epochs of `batches` batches, or `updates` if `epochs` is 0.

    Raises `UserError` if `epochs` is negative or not finite.
    """
    if not 0 <= epochs < math.inf:
        raise UserError(
            f"config.optim.epochs must be 0 or more and finite, got {epochs}; use 0 to train for optim.updates updates"
        )
    return math.ceil(epochs * batches) if epochs else updates


def schedule(*, peak: float, end: float, warmup: int, updates: int) -> optax.Schedule:
    """Return the learning-rate schedule: linear from 0 to `peak` over `warmup` updates, then to `end` at `updates`.

    Source: SpeechFlow 4.1.
    """
    rise = optax.linear_schedule(0.0, peak, warmup)
    fall = optax.linear_schedule(peak, end, max(updates - warmup, 1))
    return optax.join_schedules([rise, fall], [warmup])


def optimizer(
    rate: optax.Schedule,
    *,
    clip: float,
    b1: float,
    b2: float,
    decay: float,
    phones: float,
    muon: float,
) -> optax.GradientTransformation:
    """Return Adam at a learning rate, with the global gradient norm clipped to `clip` (0: no clipping) (Voicebox 5.1).

    `decay` is the weight decay of AdamW, 0 in the paper. The learning rate of the parameters that embed phones is
    multiplied by `phones`. If `muon` is not 0, Muon updates the kernels of stacked layers, at `muon` times the rate:
    the update of a kernel is its momentum, made orthogonal by Newton-Schulz iterations (arXiv 2502.16982;
    optax.contrib.scale_by_muon).
    """
    clipping = optax.clip_by_global_norm(clip) if clip else optax.identity()
    rule = optax.adamw(rate, b1=b1, b2=b2, weight_decay=decay) if decay else optax.adam(rate, b1=b1, b2=b2)
    if muon:
        kernel_rule = _muon(lambda count: muon * rate(count), decay)
        rule = optax.partition({"adam": rule, "muon": kernel_rule}, _label_rules)
    if phones == 1.0:
        return optax.chain(clipping, rule)
    return optax.chain(clipping, rule, optax.masked(optax.scale(phones), _mask_phones))


def _mask_phones(params):
    """Return True for each parameter that embeds phones, False for all others."""

    def embeds_phones(path, _):
        return jax.tree_util.keystr(path, simple=True, separator="/") in PHONES

    return jax.tree_util.tree_map_with_path(embeds_phones, params)


def _label_rules(params):
    """Return the rule of each parameter: "muon" for the kernels of stacked layers, "adam" for all others."""

    def label(path, _):
        name = jax.tree_util.keystr(path, simple=True, separator="/")
        return "muon" if re.search(KERNELS, name) else "adam"

    return jax.tree_util.tree_map_with_path(label, params)


def _muon(rate, decay):
    """Return Muon for stacked kernels [layers, inputs, outputs]; it treats each layer as a matrix of its own.

    A kernel with more outputs than inputs gets a larger update, by the root of their ratio.
    """
    axes = optax.contrib.MuonDimensionNumbers(reduction_axis=1, output_axis=2)

    def scale_by_shape(update, _):
        return update * max(1.0, update.shape[2] / update.shape[1]) ** 0.5

    return optax.chain(
        optax.contrib.scale_by_muon(weight_dimension_numbers=lambda kernels: jax.tree.map(lambda _: axes, kernels)),
        optax.stateless_with_tree_map(scale_by_shape),
        optax.add_decayed_weights(decay) if decay else optax.identity(),
        optax.scale_by_learning_rate(rate),
    )


def average(mean, params, count: jax.Array, decay: float):
    """Return the exponential moving average after update `count`, with decay min(decay, (1 + count) / (10 + count)).

    This warm-up keeps the initial parameters out of the average of a short run.
    """
    current_decay = jnp.minimum(decay, (1.0 + count) / (10.0 + count))
    return optax.incremental_update(params, mean, 1.0 - current_decay)
