"""What the tasks of one target share: there is nothing to join or to take apart."""

from __future__ import annotations

from jaxtyping import Array, Float, Int


class Single:
    """A task whose target is one Mel."""

    count = 1

    def joined(self, mels: Float[Array, "1 frames mels"], length: Int[Array, ""]) -> Float[Array, "frames mels"]:
        """The only Mel."""
        return mels[0]

    def joined_length(self, length: Int[Array, "*batch"]) -> Int[Array, "*batch"]:
        """The frames of the only Mel."""
        return length

    def sources(self, x: Float[Array, "frames mels"], length: Int[Array, ""]) -> Float[Array, "1 frames mels"]:
        """The only Mel."""
        return x[None]
