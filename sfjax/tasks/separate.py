"""Speech separation: the speakers of a mixture, joined in time (SpeechFlow 4.3)."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from sfjax import masks
from sfjax.errors import UserError
from sfjax.tasks.task import GenerativeTask

ORDERS = ("random", "best")
COPIES = ("plain", "aligned")
ALIGNMENT = 4  # frames; a copy starts at a multiple of these, so that no token of up to 4 frames holds two copies
EMBEDDING = 16  # numbers for each bin


@dataclasses.dataclass(frozen=True)
class Separate(GenerativeTask):
    """The target is the `speakers` sources joined in time; the condition is the mixture, once for each speaker.

    With probability `drop` the condition is dropped. All valid frames count.

    `order` is how the sources are ordered in training: "random" draws an order for each example, as in the paper, and
    "best" draws it as well but takes the order with the smallest error where t = 0 (`sfjax.separation_loss.error`).
    `copies` is how the copies of the mixture are arranged: "plain" joins them, as in the paper, and the network sees
    one long recording; "aligned" numbers them for the network and gives the same moment of all copies one position.
    `mask` and `cluster` are the weights of two more errors (`sfjax.separation_loss`); the paper's error has weight 1.
    `mask` weighs the error of the ratio masks, `cluster` deep clustering of an embedding that only training uses.
    """

    speakers: int
    drop: float
    order: str
    copies: str
    mask: float
    cluster: float

    kind = "separate"
    phase = "mixture"

    def __post_init__(self):
        if self.speakers < 2:
            raise UserError(f"separation needs 2 speakers or more, got {self.speakers}; enhance.py cleans one")
        for name, known in (("order", ORDERS), ("copies", COPIES)):
            if getattr(self, name) not in known:
                raise UserError(f"task.{name} must be {' or '.join(known)}, got {getattr(self, name)!r}")
        for name in ("mask", "cluster"):
            if not 0 <= getattr(self, name) < math.inf:
                raise UserError(f"task.{name} must be a weight of 0 or more, got {getattr(self, name)}")

    @property
    def count(self) -> int:
        """The speakers."""
        return self.speakers

    @property
    def aligned_copies(self) -> int:
        """The speakers if `copies` are aligned."""
        return self.speakers if self.copies == "aligned" else 0

    @property
    def compared_sources(self) -> int:
        """The speakers if an error compares them: the best order, ratio masks or clusters."""
        return self.speakers if self.order == "best" or self.mask > 0 or self.cluster > 0 else 0

    @property
    def embedding_size(self) -> int:
        """`EMBEDDING` if bins are clustered."""
        return EMBEDDING if self.cluster > 0 else 0

    @property
    def description(self) -> str:
        """The task and its number of speakers."""
        return f"{super().description} {self.speakers} speakers"

    @property
    def columns(self) -> dict[str, float]:
        """The sources and their mixture, each as long as a batch divided by the speakers."""
        return {name: 1 / self.speakers for name in (*self._sources, "mixture")}

    @property
    def _sources(self) -> tuple[str, ...]:
        return tuple(f"source_{number}" for number in range(1, self.speakers + 1))

    def condition(self, features: dict[str, Array], length: Int[Array, ""]) -> dict[str, Array]:
        """The frames of `mixture`, once for each speaker; for aligned copies the number of each frame's copy too."""
        condition = self.joined(jnp.stack([features["mixture"]] * self.speakers), length)
        layout = {"copy": self._copy(len(condition), length)} if self.copies == "aligned" else {}
        return {"condition": condition, **layout}

    def example(self, features: dict[str, Array], length: Int[Array, ""], key: Key[Array, ""]) -> dict[str, Any]:
        """Return one training example; see `GenerativeTask`."""
        key_order, key_drop = jax.random.split(key)
        sources = jnp.stack([features[name] for name in self._sources])
        target = self.joined(jax.random.permutation(key_order, sources), length)
        inputs = self.condition(features, length)
        copy = self._copy(len(target), length)
        return {
            **inputs,
            "target": target,
            "condition": inputs["condition"] * masks.keep(key_drop, self.drop),
            "weight": (copy > 0).astype(jnp.float32),
            "length": self.joined_length(length),
            **({"sources": self._compared(copy, inputs["condition"])} if self.compared_sources else {}),
        }

    def _compared(self, copy, mixture):
        numbers = {"free": self.order == "best", "mask": self.mask, "cluster": self.cluster}
        return {"copy": copy, "mixture": mixture} | {name: jnp.float32(value) for name, value in numbers.items()}

    def joined(self, mels: Float[Array, "sources frames mels"], length: Int[Array, ""]) -> Float[Array, "_ mels"]:
        """The first `length` frames of each source, one after the other; zeros between aligned copies and behind."""
        count, frames, _ = mels.shape
        total = count * (-(-frames // ALIGNMENT) * ALIGNMENT if self.copies == "aligned" else frames)
        stride = jnp.maximum(self._stride(length), 1)
        number = jnp.arange(total)
        source, moment = jnp.minimum(number // stride, count - 1), jnp.minimum(number % stride, frames - 1)
        return jnp.where((self._copy(total, length) > 0)[:, None], mels[source, moment], 0.0)

    def joined_length(self, length: Int[Array, "*batch"]) -> Int[Array, "*batch"]:
        """The frames of all copies of a recording of `length` frames, up to the end of the last."""
        return (self.speakers - 1) * self._stride(length) + length

    def sources(self, x: Float[Array, "_ mels"], length: Int[Array, ""]) -> Float[Array, "sources frames mels"]:
        """The Mels of all speakers, with as many frames as `joined` gives each; those from `length` on mean nothing."""
        starts = jnp.arange(self.speakers) * self._stride(length)
        return jax.vmap(lambda start: jax.lax.dynamic_slice_in_dim(x, start, len(x) // self.speakers))(starts)

    def _stride(self, length):
        """Frames from the start of one copy to the start of the next."""
        return -(-length // ALIGNMENT) * ALIGNMENT if self.copies == "aligned" else length

    def _copy(self, frames, length):
        """The number of the copy that each frame is in, from 1; 0 between and behind copies."""
        stride, number = jnp.maximum(self._stride(length), 1), jnp.arange(frames)
        within = (number % stride < length) & (number < self.speakers * stride)
        return jnp.where(within, number // stride + 1, 0)
