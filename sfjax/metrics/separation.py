"""SI-SDR, its improvement, and the best order of separated speakers."""

import itertools

import numpy as np
from jaxtyping import Float

from sfjax.metrics.perceptual import Unscorable, estoi

LIMIT = 100.0  # dB


def si_sdr(
    reference: Float[np.ndarray, "*#batch samples"], estimate: Float[np.ndarray, "*#batch _"]
) -> Float[np.ndarray, "*_"]:
    """Compute the scale-invariant signal-to-distortion ratio in dB over the last axis; other axes broadcast.

    The means are removed first. Values are clamped to ±100 dB, so identical signals give 100 and unrelated signals
    -100, never infinity. Raises `Unscorable` if the lengths differ, a sample is not finite, or a reference or estimate
    is silent. Source: Le Roux et al. 2019, Eq. 5, on zero-mean signals.
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
    """Return the index of the estimate of each reference: the permutation with the greatest mean `si_sdr`.

    A silent estimate counts as -100 dB. Raises `Unscorable` as `si_sdr` does, and if the numbers of references and
    estimates differ.
    """
    if len(reference) != len(estimate):
        raise Unscorable(f"there are {len(reference)} references and {len(estimate)} estimates")
    table = np.array([[_si_sdr_or_limit(target, guess) for guess in estimate] for target in reference])

    def total(order):
        return sum(table[target, guess] for target, guess in enumerate(order))

    return max(itertools.permutations(range(len(estimate))), key=total)


def improvement(
    reference: Float[np.ndarray, "sources samples"],
    estimate: Float[np.ndarray, "sources _"],
    mixture: Float[np.ndarray, " samples"],
    rate: int,
) -> dict[str, float]:
    """Compute the means over the sources, in their best order, of si_sdr and si_sdri (dB), estoi and estoii.

    The last i means improvement over the mixture. `silent` is the share of estimates that are digital silence; they
    count as -100 dB and an ESTOI of 0. Raises `Unscorable`, for example if a reference is silent.
    """
    guesses = [estimate[index] for index in best_order(reference, estimate)]
    rows = [
        _source_scores(target, guess, mixture, rate) | {"silent": float(np.ptp(guess) == 0)}
        for target, guess in zip(reference, guesses, strict=True)
    ]
    return {name: float(np.mean([row[name] for row in rows])) for name in rows[0]}


def extraction(
    reference: Float[np.ndarray, "sources samples"],
    estimate: Float[np.ndarray, " _"],
    mixture: Float[np.ndarray, " samples"],
    rate: int,
) -> dict[str, float]:
    """Compute si_sdr and si_sdri (dB), estoi and estoii of the extracted first source, and whether it is another one.

    `wrong` is 1 if the estimate has a higher SI-SDR to another source than to the first, else 0. A silent estimate
    counts as -100 dB and an ESTOI of 0. Raises `Unscorable`, for example if a reference is silent.
    """
    scores = _source_scores(reference[0], estimate, mixture, rate)
    others = max(_si_sdr_or_limit(other, estimate) for other in reference[1:])
    return scores | {"wrong": float(others > scores["si_sdr"])}


def _source_scores(target, estimate, mixture, rate):
    """Return the scores of one source's estimate; -100 dB and an ESTOI of 0 for a silent one."""
    ratio, ratio_before = _si_sdr_or_limit(target, estimate), float(si_sdr(target, mixture))
    estoi_before = estoi(target, mixture, rate)
    estoi_after = 0.0 if np.ptp(estimate) == 0 else estoi(target, estimate, rate)
    return {
        "si_sdr": ratio,
        "si_sdri": ratio - ratio_before,
        "estoi": estoi_after,
        "estoii": estoi_after - estoi_before,
    }


def _si_sdr_or_limit(reference, estimate):
    """Return the SI-SDR in dB, or -100 for a silent estimate."""
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
