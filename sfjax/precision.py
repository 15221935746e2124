"""Named policies of what is computed in which type; parameters, softmax, loss and optimizer are always float32.

Float16 has no room for small gradients, so its policy scales the loss by a power of two that is found while training
(Micikevicius et al., arXiv 1710.03740). The other policies hold a scale of one in the same place.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import flax.struct
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from sfjax.errors import UserError


class Policy(NamedTuple):
    """What layers compute in, the first loss scale, and the finite steps in a row that double it (0: it is fixed)."""

    compute: Any
    scale: float
    patience: int


POLICIES = {
    "fp32": Policy(jnp.float32, 1.0, 0),
    "bf16": Policy(jnp.bfloat16, 1.0, 0),
    "fp16": Policy(jnp.float16, 2.0**15, 2000),  # for V100 GPUs, which have no bfloat16
}


def policy(name: str) -> Policy:
    """The policy of that name in `POLICIES`."""
    if name not in POLICIES:
        raise UserError(f"unknown precision {name!r}; choose from {', '.join(POLICIES)}")
    return POLICIES[name]


class Scale(flax.struct.PyTreeNode):
    """The factor of the loss before its gradient is taken, and the finite steps since it last changed."""

    value: Any  # typed Any because shapes, shardings and restore targets stand in the same tree
    steps: Any


def start(policy: Policy) -> Scale:
    """The scale of step 0."""
    return Scale(jnp.float32(policy.scale), jnp.int32(0))


def adjust(scale: Scale, finite: Bool[Array, ""], policy: Policy) -> Scale:
    """The scale of the next step: half after gradients that were not finite, double after `patience` that were."""
    if not policy.patience:
        return scale
    steps = jnp.where(finite, scale.steps + 1, 0)
    due = steps >= policy.patience
    value: Float[Array, ""] = jnp.where(finite, jnp.where(due, 2 * scale.value, scale.value), scale.value / 2)
    return Scale(value, jnp.where(due, 0, steps))
