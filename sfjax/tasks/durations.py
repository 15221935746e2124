"""The task of predicting how long each phone lasts (Voicebox 3.1 and B.1)."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int, Key

from sfjax import masks
from sfjax.tasks.task import Task

DENSITY = 0.3  # phones and ghost silences of a frame of 10 ms that an example has room for; speech has 0.2


@dataclasses.dataclass(frozen=True)
class Durations(Task):
    """Condition: the phones of an utterance, and their lengths where these are not hidden.

    One segment with a share of `fraction` of the phones is hidden, or with probability `hide` every length. With
    probability `drop` both phones and lengths are dropped. `phones` is the inventory, as in `Speak`.
    """

    drop: float
    hide: float
    fraction: tuple[float, float]
    phones: tuple[str, ...]

    kind = "durations"
    network = "duration_model"

    @property
    def labels(self) -> dict[str, float]:
        """The phones, silences of length 0 among them, and their lengths in frames."""
        return {"tokens": DENSITY, "lengths": DENSITY}

    def example(self, features: dict[str, Array], length: Int[Array, ""], key: Key[Array, ""]) -> dict[str, Array]:
        """One training example: `phones`, `known` and `target` in the logarithm of 1 + frames, what is `hidden`.

        Lengths are spread by U(−.5, .5) around their whole numbers; `weight` is 1 on phones whose error counts.
        """
        key_spread, key_mask, key_hide, key_drop = jax.random.split(key, 4)
        phones, frames = features["tokens"], features["lengths"].astype(jnp.float32)
        valid = masks.valid(length, len(phones))
        spread = jax.random.uniform(key_spread, frames.shape, minval=-0.5, maxval=0.5)
        target = jnp.log1p(jnp.maximum(frames + spread, 0.0))
        own = jnp.arange(len(phones)) + 1  # every phone is a span of its own
        keep = masks.keep(key_drop, self.drop)
        segment = masks.chunk(key_mask, length, own, fraction=self.fraction)
        hidden = (segment | ~masks.keep(key_hide, self.hide) | ~keep) & valid
        return {
            "phones": jnp.where(valid & keep, phones, 0),
            "known": jnp.where(hidden | ~valid, 0.0, target),
            "hidden": hidden,
            "target": target,
            "weight": hidden.astype(jnp.float32),
            "length": length,
        }
