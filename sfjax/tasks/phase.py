"""The task of a phase net: waveforms of sources from their log-Mel spectrograms and their mixture (A.2)."""

from __future__ import annotations

import dataclasses

from sfjax.errors import UserError
from sfjax.tasks.task import Task

MELS = ("clean", "predicted")


@dataclasses.dataclass(frozen=True)
class Phase(Task):
    """Separate the `speakers` of a mixture (1: speech in noise) from their Mels.

    The Mels are computed from the sources (`clean`), or a model predicted them from the recording (`predicted`, see
    `sfjax cache-mels`).
    """

    speakers: int
    mels: str

    kind = "phase"
    network = "phase_net"

    def __post_init__(self):
        if self.speakers < 1 or self.mels not in MELS:
            raise UserError(
                f"a phase net needs 1 speaker or more and mels {' or '.join(MELS)}, got {self.speakers} and "
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
        """The predicted Mels of an example, and the number of their sources."""
        return {"estimate": self.speakers} if self.mels == "predicted" else {}
