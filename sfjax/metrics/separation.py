"""How well a separated or enhanced waveform matches its reference, whatever its level."""

import numpy as np
from jaxtyping import Float

from sfjax.metrics.perceptual import Unscorable

LIMIT = 100.0  # dB


def si_sdr(
    reference: Float[np.ndarray, "*#batch samples"], estimate: Float[np.ndarray, "*#batch _"]
) -> Float[np.ndarray, "..."]:
    """The scale-invariant signal-to-distortion ratio in dB over the last axis, means removed; other axes broadcast.

    Values are clamped to ±100 dB, so identical signals give 100 and unrelated ones -100, never infinity. Raises
    `Unscorable` if the lengths differ, a sample is not finite, or a reference or estimate is silent. Source: Le Roux et
    al. 2019, Eq. 5, on zero-mean signals.
    """
    if reference.shape[-1] != estimate.shape[-1]:
        raise Unscorable(f"the reference has {reference.shape[-1]} samples, the estimate {estimate.shape[-1]}")
    reference, estimate = _centred("reference", reference), _centred("estimate", estimate)
    scale = (estimate * reference).sum(axis=-1, keepdims=True) / (reference**2).sum(axis=-1, keepdims=True)
    target = scale * reference
    with np.errstate(divide="ignore"):
        ratio = 10 * (np.log10((target**2).sum(axis=-1)) - np.log10(((estimate - target) ** 2).sum(axis=-1)))
    return np.asarray(np.clip(ratio, -LIMIT, LIMIT))


def _centred(name: str, wav: Float[np.ndarray, "*batch samples"]) -> Float[np.ndarray, "*batch samples"]:
    if not np.isfinite(wav).all():
        raise Unscorable(f"the {name} holds NaN or infinite samples")
    if wav.shape[-1] == 0 or (np.ptp(wav, axis=-1) == 0).any():
        raise Unscorable(f"the {name} is silent")
    wav = wav.astype(np.float64)
    return wav - wav.mean(axis=-1, keepdims=True)
