"""Objective scores of recordings against their references, computed with numpy."""

import numpy as np
from jaxtyping import Float

from sfjax.metrics.composite import composite
from sfjax.metrics.perceptual import Unscorable, estoi, pesq_nb, pesq_wb, scorable
from sfjax.metrics.separation import best_order, extraction, improvement, si_sdr

__all__ = [
    "Unscorable",
    "best_order",
    "composite",
    "estoi",
    "extraction",
    "improvement",
    "pesq_nb",
    "pesq_wb",
    "score",
    "si_sdr",
]


def score(reference: Float[np.ndarray, " samples"], estimate: Float[np.ndarray, " _"], rate: int) -> dict[str, float]:
    """Compute every score of one estimate: pesq_wb, pesq_nb, estoi, csig, cbak, covl and si_sdr (dB).

    `rate` must be 16000 Hz, the rate at which all scores are defined. Raises `Unscorable` if a score has no value.

    ```python
    clean, rng = np.sin(np.arange(32_000) / 9).astype(np.float32), np.random.default_rng(0)
    scores = metrics.score(clean, clean + rng.normal(0.0, 0.1, 32_000).astype(np.float32), 16_000)
    ```
    """
    reference, estimate = scorable(reference, estimate, rate, rates=(16_000,))
    wide = pesq_wb(reference, estimate, rate)
    measures = composite(reference, estimate, rate, pesq=wide)
    return {
        "pesq_wb": wide,
        "pesq_nb": pesq_nb(reference, estimate, rate),
        "estoi": estoi(reference, estimate, rate),
        "csig": measures.csig,
        "cbak": measures.cbak,
        "covl": measures.covl,
        "si_sdr": float(si_sdr(reference, estimate)),
    }
