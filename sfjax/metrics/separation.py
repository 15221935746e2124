"""How well separated or enhanced waveforms match their references, whatever their level and order."""

import itertools

import numpy as np
from jaxtyping import Float

from sfjax.metrics.perceptual import Unscorable, estoi

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


def best_order(
    reference: Float[np.ndarray, "sources samples"], estimate: Float[np.ndarray, "sources _"]
) -> tuple[int, ...]:
    """The number of the estimate that belongs to each reference: the permutation with the greatest mean `si_sdr`.

    A silent estimate counts with -100 dB. Raises `Unscorable` as `si_sdr` does, and if there are not as many estimates
    as references.
    """
    if len(reference) != len(estimate):
        raise Unscorable(f"there are {len(reference)} references and {len(estimate)} estimates")
    table = np.array([[_clamped(one, other) for other in estimate] for one in reference])
    orders = itertools.permutations(range(len(estimate)))
    return max(orders, key=lambda order: sum(table[place, source] for place, source in enumerate(order)))


def improvement(
    reference: Float[np.ndarray, "sources samples"],
    estimate: Float[np.ndarray, "sources _"],
    mixture: Float[np.ndarray, " samples"],
    rate: int,
) -> dict[str, float]:
    """Means over the sources of a mixture in their best order: si_sdr and si_sdri (dB), estoi and estoii.

    The i stands for improvement over the mixture itself. `silent` is how many estimates are digital silence, which
    count with -100 dB and an ESTOI of 0. Raises `Unscorable`, for a silent reference among others.
    """
    order = best_order(reference, estimate)
    rows = []
    for one, number in zip(reference, order, strict=True):
        silent = np.ptp(estimate[number]) == 0
        before, after = estoi(one, mixture, rate), 0.0 if silent else estoi(one, estimate[number], rate)
        ratio, ratio_before = _clamped(one, estimate[number]), float(si_sdr(one, mixture))
        rows.append([ratio, ratio - ratio_before, after, after - before, float(silent)])
    means = np.mean(rows, axis=0).tolist()
    return dict(zip(("si_sdr", "si_sdri", "estoi", "estoii", "silent"), means, strict=True))


def _clamped(reference, estimate):
    if estimate.shape[-1] and np.ptp(estimate) == 0:
        _centred("reference", reference)
        return -LIMIT
    return float(si_sdr(reference, estimate))


def _centred(name: str, wav: Float[np.ndarray, "*batch samples"]) -> Float[np.ndarray, "*batch samples"]:
    if not np.isfinite(wav).all():
        raise Unscorable(f"the {name} holds NaN or infinite samples")
    if wav.shape[-1] == 0 or (np.ptp(wav, axis=-1) == 0).any():
        raise Unscorable(f"the {name} is silent")
    wav = wav.astype(np.float64)
    return wav - wav.mean(axis=-1, keepdims=True)
