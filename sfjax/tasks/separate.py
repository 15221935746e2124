"""Speech separation: every speaker of a mixture, one after the other (SpeechFlow 4.3)."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from sfjax import masks
from sfjax.errors import UserError


@dataclasses.dataclass(frozen=True)
class Separate:
    """The target is the `speakers` sources joined in time, in a random order; the condition the mixture, as often.

    With probability `drop` the condition is nothing. All valid frames count.
    """

    speakers: int
    drop: float

    phase = "mixture"

    def __post_init__(self):
        if self.speakers < 2:
            raise UserError(f"separation wants 2 speakers or more, got {self.speakers}; to clean one take enhance.py")

    @property
    def count(self) -> int:
        """The speakers."""
        return self.speakers

    @property
    def columns(self) -> dict[str, float]:
        """The sources and their mixture, each as long as a batch divided by the speakers."""
        return {name: 1 / self.speakers for name in (*self._sources, "mixture")}

    @property
    def _sources(self) -> tuple[str, ...]:
        return tuple(f"source_{number}" for number in range(1, self.speakers + 1))

    def condition(self, features: dict[str, Array], length: Int[Array, ""]) -> dict[str, Array]:
        """The frames of `mixture`, once for each speaker."""
        return {"condition": self.joined(jnp.stack([features["mixture"]] * self.speakers), length)}

    def example(self, features: dict[str, Array], length: Int[Array, ""], key: Key[Array, ""]) -> dict[str, Array]:
        """One training example; see `sfjax.tasks`."""
        key_order, key_drop = jax.random.split(key)
        sources = jnp.stack([features[name] for name in self._sources])
        target = self.joined(jax.random.permutation(key_order, sources), length)
        return {
            "target": target,
            "condition": self.condition(features, length)["condition"] * masks.keep(key_drop, self.drop),
            "weight": masks.valid(self.speakers * length, len(target)).astype(jnp.float32),
            "length": self.speakers * length,
        }

    def joined(self, mels: Float[Array, "sources frames mels"], length: Int[Array, ""]) -> Float[Array, "_ mels"]:
        """The first `length` frames of each source, one after the other; zeros behind them, as many as all lack."""
        count, frames, _ = mels.shape
        place, whole = jnp.arange(count * frames), jnp.maximum(length, 1)
        source, within = jnp.minimum(place // whole, count - 1), jnp.minimum(place % whole, frames - 1)
        return jnp.where((place < count * length)[:, None], mels[source, within], 0.0)

    def sources(self, x: Float[Array, "_ mels"], length: Int[Array, ""]) -> Float[Array, "sources frames mels"]:
        """The Mels of all speakers; frames from `length` on mean nothing."""
        starts = jnp.arange(self.speakers) * length
        return jax.vmap(lambda start: jax.lax.dynamic_slice_in_dim(x, start, len(x) // self.speakers))(starts)
