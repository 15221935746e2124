"""Speech enhancement: clean speech from a noisy recording of it (SpeechFlow 4.2)."""

from __future__ import annotations

import dataclasses

import jax.numpy as jnp
from jaxtyping import Array, Int, Key

from sfjax import masks
from sfjax.tasks.task import GenerativeTask


@dataclasses.dataclass(frozen=True)
class Enhance(GenerativeTask):
    """Condition: the Mel of the noisy recording. With probability `drop` it is dropped."""

    drop: float

    kind = "enhance"
    phase = "noisy"

    @property
    def columns(self) -> dict[str, float]:
        """The clean recording and the noisy one."""
        return {"speech": 1.0, "noisy": 1.0}

    def condition(self, features: dict[str, Array], length: Int[Array, ""]) -> dict[str, Array]:
        """The frames of `noisy`."""
        return {"condition": features["noisy"]}

    def example(self, features: dict[str, Array], length: Int[Array, ""], key: Key[Array, ""]) -> dict[str, Array]:
        """Return one training example; see `GenerativeTask`."""
        valid = masks.valid(length, len(features["speech"]))
        condition = self.condition(features, length)["condition"] * masks.keep(key, self.drop)
        return {
            "target": features["speech"],
            "condition": jnp.where(valid[:, None], condition, 0.0),
            "weight": valid.astype(jnp.float32),
            "length": length,
        }
