"""What a vocoder learns from: recordings and their Mels, or those that a model made of them."""

from __future__ import annotations

import dataclasses

from sfjax.errors import UserError
from sfjax.tasks.phase import MELS


@dataclasses.dataclass(frozen=True)
class Vocode:
    """The Mels are those of the recordings themselves (`clean`), or `predicted` by `sfjax predict`."""

    mels: str

    def __post_init__(self):
        if self.mels not in MELS:
            raise UserError(f"a vocoder wants Mels that are {' or '.join(MELS)}, got {self.mels!r}")

    phase = "speech"

    @property
    def columns(self) -> dict[str, float]:
        """The recording."""
        return {"speech": 1.0}

    @property
    def predicted(self) -> dict[str, int]:
        """The predicted Mels that an example wants, and of how many sources they are."""
        return {"estimate": 1} if self.mels == "predicted" else {}
