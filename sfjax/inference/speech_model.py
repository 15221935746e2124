"""What the parts of inference need from a loaded model (`sfjax.inference.model.Model`)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

from sfjax import audio


@runtime_checkable
class SpeechModel(Protocol):
    """A network with its parameters, how Mels are computed and sampled, and the auxiliary models."""

    @property
    def network(self) -> Any:
        """Return the estimator."""
        ...

    @property
    def params(self) -> Any:
        """Return the network's parameters."""
        ...

    @property
    def process(self) -> Any:
        """Return the module of the generative process, such as `sfjax.flow`."""
        ...

    @property
    def spec(self) -> audio.MelSpec:
        """Return how log-Mel spectrograms are computed."""
        ...

    @property
    def chunking(self) -> dict[str, Any]:
        """Return `seconds` and `overlap` of chunks, and the largest `batch` of them."""
        ...

    @property
    def chunk_frames(self) -> int:
        """Return the frames of a chunk."""
        ...

    @property
    def name(self) -> str:
        """Return the name of the model for messages."""
        ...

    @property
    def phones(self) -> tuple[str, ...]:
        """Return the phone inventory; empty if the model cannot speak."""
        ...

    @property
    def reconstruct(self) -> str:
        """Return a key of `sfjax.audio.RECONSTRUCTIONS`."""
        ...

    @property
    def phase(self) -> Any:
        """Return the phase net, or None."""
        ...

    @property
    def vocoder(self) -> Any:
        """Return the vocoder, or None."""
        ...

    @property
    def duration_model(self) -> Callable | None:
        """Return the duration model, or None."""
        ...

    def chunk_seconds(self, task: Any) -> float:
        """Return the longest part of a recording that a task takes at once."""
        ...

    def filling(self) -> Any:
        """Return the task of filling hidden frames; `UserError` if the model was not trained for it."""
        ...

    def sampling(self, changes: dict[str, Any], task: Any) -> dict[str, Any]:
        """Return the sampling options of a task, with some changed; `UserError` if they cannot work."""
        ...
