"""Target speaker extraction: one speaker of a mixture, named by a recording of the voice (the enrolment)."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Int, Key

from sfjax import masks
from sfjax.errors import UserError
from sfjax.tasks.task import GenerativeTask


@dataclasses.dataclass(frozen=True)
class Extract(GenerativeTask):
    """The condition is the enrolment and the mixture; the target is the enrolment and the speaker alone.

    Both are joined in time, enrolment first, as in AD-FlowTSE (arXiv 2510.16995). Label `enrolled` [frames] is 1 in the
    enrolment and 0 in the mixture. The network sees the two parts as aligned copies: each has its own embedding, and
    positions count from the start of each. The loss counts the frames of the mixture. With probability `drop` the
    condition is dropped. `mask` is the weight of a further error, of the speaker's share in each bin of the mixture
    (`sfjax.amplitude_loss.share_error`).
    """

    drop: float
    mask: float

    kind = "extract"
    phase = "mixture"
    aligned_copies = 2
    columns = {"speech": 1.0, "mixture": 1.0}
    labels = {"enrolled": 1.0}

    def __post_init__(self):
        if not 0 <= self.mask < math.inf:
            raise UserError(f"task.mask must be a weight of 0 or more, got {self.mask}")

    def condition(self, features: dict[str, Array], length: Int[Array, ""]) -> dict[str, Array]:
        """The frames of `mixture`, behind the enrolment, and the number of the part that each frame is in."""
        valid = masks.valid(length, len(features["mixture"]))
        part = jnp.where(features["enrolled"] > 0, 1, 2)
        return {"condition": features["mixture"], "copy": jnp.where(valid, part, 0)}

    def example(self, features: dict[str, Array], length: Int[Array, ""], key: Key[Array, ""]) -> dict[str, Any]:
        """Return one training example; see `GenerativeTask`."""
        inputs = self.condition(features, length)
        counted = inputs["copy"] == 2
        return {
            "target": features["speech"],
            "condition": jnp.where((inputs["copy"] > 0)[:, None], inputs["condition"], 0.0)
            * masks.keep(key, self.drop),
            "copy": inputs["copy"],
            "weight": counted.astype(jnp.float32),
            "length": length,
            "recording": {"mels": features["mixture"], "mask": jnp.float32(self.mask)},
        }
