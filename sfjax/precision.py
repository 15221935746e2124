"""Named policies of what is computed in which type; parameters, softmax, loss and optimizer are always float32."""

from __future__ import annotations

import jax.numpy as jnp

from sfjax.errors import UserError

POLICIES = {"fp32": jnp.float32, "bf16": jnp.bfloat16}


def compute_dtype(policy: str):
    """The type that layers compute in under a policy of `POLICIES`."""
    if policy not in POLICIES:
        raise UserError(f"unknown precision {policy!r}; choose from {', '.join(POLICIES)}")
    return POLICIES[policy]
