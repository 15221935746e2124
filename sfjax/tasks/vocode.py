"""The task of a vocoder: recordings from their log-Mel spectrograms, or from predicted ones."""

from __future__ import annotations

import dataclasses

from sfjax.errors import UserError
from sfjax.tasks.phase import MELS
from sfjax.tasks.task import Task


@dataclasses.dataclass(frozen=True)
class Vocode(Task):
    """The Mels are computed from the recordings (`clean`), or a model predicted them (`sfjax cache-mels`)."""

    mels: str

    kind = "vocode"
    network = "vocoder"
    phase = "speech"

    def __post_init__(self):
        if self.mels not in MELS:
            raise UserError(f"a vocoder needs mels {' or '.join(MELS)}, got {self.mels!r}")

    @property
    def columns(self) -> dict[str, float]:
        """The recording."""
        return {"speech": 1.0}

    @property
    def predicted(self) -> dict[str, int]:
        """The predicted Mels of an example, and the number of their sources."""
        return {"estimate": 1} if self.mels == "predicted" else {}
