"""Precision policies. Parameters, softmax, loss and optimizer are always float32.

Small gradients underflow in float16, so its policy scales the loss by a power of two that is adjusted during training
(Micikevicius et al., arXiv 1710.03740). The other policies keep a scale of one in the same field.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import flax.struct
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from sfjax.errors import UserError


class Policy(NamedTuple):
    """The type that layers compute in, the initial loss scale, and how many finite steps double it (0: none do)."""

    compute: Any
    scale: float
    patience: int


POLICIES = {
    "fp32": Policy(jnp.float32, 1.0, 0),
    "bf16": Policy(jnp.bfloat16, 1.0, 0),
    "fp16": Policy(jnp.float16, 2.0**15, 2000),  # for V100 GPUs, which have no bfloat16
}


def policy(name: str) -> Policy:
    """Return the policy of that name in `POLICIES`. Raises `UserError` if there is none."""
    if name not in POLICIES:
        raise UserError(f"unknown precision {name!r}; choose from {', '.join(POLICIES)}")
    return POLICIES[name]


class Scale(flax.struct.PyTreeNode):
    """The factor of the loss before its gradient is computed, and the finite steps since it last changed."""

    value: Any  # Any, because shapes, shardings and restore targets use the same tree
    steps: Any


def start(policy: Policy) -> Scale:
    """Return the scale of step 0."""
    return Scale(jnp.float32(policy.scale), jnp.int32(0))


def adjust(scale: Scale, finite: Bool[Array, ""], policy: Policy) -> Scale:
    """Return the scale of the next step: halved after non-finite gradients, doubled after `patience` finite ones."""
    if not policy.patience:
        return scale
    steps = jnp.where(finite, scale.steps + 1, 0)
    due = steps >= policy.patience
    value: Float[Array, ""] = jnp.where(finite, jnp.where(due, 2 * scale.value, scale.value), scale.value / 2)
    return Scale(value, jnp.where(due, 0, steps))
