"""What a phase net learns from: sources, their recording, and the Mels that it is to make waves of (A.2)."""

from __future__ import annotations

import dataclasses

from sfjax.errors import UserError

MELS = ("clean", "predicted")


@dataclasses.dataclass(frozen=True)
class Phase:
    """`speakers` of a mixture (1: speech in noise); their Mels are those of the sources themselves (`clean`), or what
    a model made of the recording (`predicted`, by `sfjax predict`).
    """

    speakers: int
    mels: str

    def __post_init__(self):
        if self.speakers < 1 or self.mels not in MELS:
            raise UserError(
                f"a phase net wants 1 speaker or more and Mels that are {' or '.join(MELS)}, got {self.speakers} and "
                f"{self.mels!r}"
            )

    @property
    def targets(self) -> tuple[str, ...]:
        """The columns of the sources."""
        return ("speech",) if self.speakers == 1 else tuple(f"source_{i}" for i in range(1, self.speakers + 1))

    @property
    def phase(self) -> str:
        """The column of the recording."""
        return "noisy" if self.speakers == 1 else "mixture"

    @property
    def columns(self) -> dict[str, float]:
        """The sources and the recording."""
        return dict.fromkeys((*self.targets, self.phase), 1.0)

    @property
    def predicted(self) -> dict[str, int]:
        """The predicted Mels that an example wants, and of how many sources they are."""
        return {"estimate": self.speakers} if self.mels == "predicted" else {}
