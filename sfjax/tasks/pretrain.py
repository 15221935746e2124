"""Generative pre-training: predict the hidden frames of speech from the shown frames (SpeechFlow 3.2)."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int, Key

from sfjax import masks
from sfjax.tasks.task import GenerativeTask


@dataclasses.dataclass(frozen=True)
class Pretrain(GenerativeTask):
    """Condition: the target with spans of at least `shortest` frames hidden, a share of `fraction` in all.

    With probability `drop` everything is hidden. The loss counts the hidden frames only.
    """

    drop: float
    fraction: tuple[float, float]
    shortest: int

    kind = "pretrain"
    phase = "speech"

    @property
    def columns(self) -> dict[str, float]:
        """The recording."""
        return {"speech": 1.0}

    def condition(self, features: dict[str, Array], length: Int[Array, ""]) -> dict[str, Array]:
        """The frames of `speech`, with zeros where `hidden` [frames] is true."""
        return {"condition": jnp.where(features["hidden"][:, None], 0.0, features["speech"])}

    def example(self, features: dict[str, Array], length: Int[Array, ""], key: Key[Array, ""]) -> dict[str, Array]:
        """Return one training example; see `GenerativeTask`."""
        key_span, key_drop = jax.random.split(key)
        speech = features["speech"]
        valid = masks.valid(length, len(speech))
        hidden = masks.spans(key_span, length, frames=len(speech), fraction=self.fraction, shortest=self.shortest)
        hidden = (hidden | ~masks.keep(key_drop, self.drop)) & valid
        # the condition of padded frames is hidden too: what lies there depends on the batch
        condition = self.condition({"speech": speech, "hidden": hidden | ~valid}, length)["condition"]
        return {"target": speech, "condition": condition, "weight": hidden.astype(jnp.float32), "length": length}
