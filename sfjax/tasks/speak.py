"""Zero-shot text-to-speech and editing: speech from phones, in the voice of the shown frames (SpeechFlow 4.4)."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int, Key

from sfjax import masks
from sfjax.errors import UserError
from sfjax.tasks.task import GenerativeTask

MASKS = ("chunk", "spans")


@dataclasses.dataclass(frozen=True)
class Speak(GenerativeTask):
    """Condition: the number of each frame's phone, and the target with a share of `fraction` of its frames hidden.

    `mask` is "chunk" to hide a chunk of whole phones (Voicebox 3.3), or "spans" to hide spans of at least `shortest`
    frames (SpeechFlow, Table 5). With probability `drop` phones and frames are dropped. The loss counts the hidden
    frames only. `phones` is the inventory; phones are numbered from 1, and 0 is none. A run whose config has no phones
    takes those of its data.
    """

    drop: float
    mask: str
    fraction: tuple[float, float]
    shortest: int
    phones: tuple[str, ...]

    kind = "speak"
    phase = "speech"

    def __post_init__(self):
        if self.mask not in MASKS:
            raise UserError(f"task.mask must be {' or '.join(MASKS)}, got {self.mask!r}")

    @property
    def columns(self) -> dict[str, float]:
        """The recording."""
        return {"speech": 1.0}

    @property
    def labels(self) -> dict[str, float]:
        """The phone of each frame."""
        return {"phones": 1.0}

    def condition(self, features: dict[str, Array], length: Int[Array, ""]) -> dict[str, Array]:
        """The frames of `speech`, with zeros where `hidden` [frames] is true, and `phones` [frames]."""
        return {
            "condition": jnp.where(features["hidden"][:, None], 0.0, features["speech"]),
            "phones": features["phones"],
        }

    def example(self, features: dict[str, Array], length: Int[Array, ""], key: Key[Array, ""]) -> dict[str, Array]:
        """Return one training example; see `GenerativeTask`."""
        key_mask, key_drop = jax.random.split(key)
        speech, phones = features["speech"], features["phones"]
        valid = masks.valid(length, len(speech))
        if self.mask == "chunk":
            hidden = masks.chunk(key_mask, length, phones, fraction=self.fraction)
        else:
            hidden = masks.spans(key_mask, length, frames=len(speech), fraction=self.fraction, shortest=self.shortest)
        keep = masks.keep(key_drop, self.drop)
        hidden = (hidden | ~keep) & valid
        # the condition of padded frames is hidden too: what lies there depends on the batch
        shown = {"speech": speech, "hidden": hidden | ~valid, "phones": jnp.where(valid & keep, phones, 0)}
        weight = hidden.astype(jnp.float32)
        return {"target": speech, "weight": weight, "length": length, **self.condition(shown, length)}
