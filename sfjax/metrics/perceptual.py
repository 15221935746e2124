"""PESQ and ESTOI of a recording against its reference, and the reasons why a pair has no score.

The lengths of a pair come from files, so the functions compare them at run time. That is why the type of the estimate
has the axis `_`.
"""

import warnings

import numpy as np
import pesq
import pystoi
from jaxtyping import Float

# Seconds. PESQ needs at least SHORTEST. Its C code has room for 50 utterances and writes past its tables if there are
# more. LONGEST makes that rare, but half a minute of many short bursts can still do it.
SHORTEST, LONGEST = 0.25, 60.0


class Unscorable(ValueError):
    """The reason, in one line, why an item has no score."""


def pesq_wb(reference: Float[np.ndarray, " samples"], estimate: Float[np.ndarray, " _"], rate: int) -> float:
    """Compute the wide-band PESQ of an estimate, as MOS-LQO from about 1 to 4.644 (estimate equal to reference).

    `rate` must be 16000 Hz. Raises `Unscorable`. More than 50 separate utterances can crash the process: score unknown
    recordings through `sfjax.evaluation`. Source: ITU-T P.862.2, by the `pesq` package.
    """
    return _pesq(*scorable(reference, estimate, rate, rates=(16_000,)), rate, "wb")


def pesq_nb(reference: Float[np.ndarray, " samples"], estimate: Float[np.ndarray, " _"], rate: int) -> float:
    """Compute the narrow-band PESQ of an estimate, as MOS-LQO from about 1 to 4.549 (estimate equal to reference).

    `rate` must be 8000 or 16000 Hz. Raises `Unscorable`, and can crash as `pesq_wb` does. Source: ITU-T P.862.1, by the
    `pesq` package.
    """
    return _pesq(*scorable(reference, estimate, rate, rates=(8_000, 16_000)), rate, "nb")


def estoi(reference: Float[np.ndarray, " samples"], estimate: Float[np.ndarray, " _"], rate: int) -> float:
    """Compute the extended short-time objective intelligibility (ESTOI), at most 1 (estimate equal to reference).

    `rate` must be 8000 or 16000 Hz. Raises `Unscorable`. Source: Jensen & Taal 2016, by the `pystoi` package.
    """
    reference, estimate = scorable(reference, estimate, rate, rates=(8_000, 16_000))
    state = np.random.get_state()
    # pystoi adds noise of 1e-16 from numpy's global generator. In digital silence this noise decides the score, so it
    # must be the same each time.
    np.random.seed(0)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("error", message="Not enough STFT frames", category=RuntimeWarning)
            value = float(pystoi.stoi(reference, estimate, rate, extended=True))
    except RuntimeWarning:
        raise Unscorable("ESTOI needs at least 0.4 s of speech, the reference has less") from None
    finally:
        np.random.set_state(state)
    return _finite("ESTOI", value)


def scorable(
    reference: Float[np.ndarray, " samples"], estimate: Float[np.ndarray, " _"], rate: int, *, rates: tuple[int, ...]
) -> tuple[Float[np.ndarray, " samples"], Float[np.ndarray, " samples"]]:
    """Check that a pair can be scored, and return it as new float64 arrays.

    Raises `Unscorable` unless `rate` is one of `rates` (Hz) and both are one-dimensional, equally long, between 0.25 s
    and 60 s, finite and not silent.
    """
    if rate not in rates:
        raise Unscorable(f"the score is defined at {' or '.join(map(str, rates))} Hz, got {rate} Hz; resample first")
    for name, wav in (("reference", reference), ("estimate", estimate)):
        if wav.ndim != 1:
            raise Unscorable(f"the {name} has shape {wav.shape}, expected one axis of samples")
    if len(reference) != len(estimate):
        raise Unscorable(f"the reference has {len(reference)} samples, the estimate {len(estimate)}; align them first")
    seconds = len(reference) / rate
    if not SHORTEST <= seconds <= LONGEST:
        raise Unscorable(f"the pair lasts {seconds:.2f} s, expected {SHORTEST} s to {LONGEST:g} s")
    for name, wav in (("reference", reference), ("estimate", estimate)):
        if not np.isfinite(wav).all():
            raise Unscorable(f"the {name} holds NaN or infinite samples")
        if np.ptp(wav) == 0:
            raise Unscorable(f"the {name} is silent")
    return np.array(reference, np.float64), np.array(estimate, np.float64)


def _pesq(
    reference: Float[np.ndarray, " samples"], estimate: Float[np.ndarray, " samples"], rate: int, mode: str
) -> float:
    try:
        value = float(pesq.pesq(rate, reference, estimate, mode))
    except pesq.PesqError as error:
        reason = error.args[0] if error.args else type(error).__name__
        raise Unscorable(f"PESQ: {reason.decode() if isinstance(reason, bytes) else reason}") from None
    except ValueError as error:  # a NaN inside the C code appears as a failed conversion
        raise Unscorable(f"PESQ: {error}") from None
    return _finite("PESQ", value)


def _finite(name: str, value: float) -> float:
    if not np.isfinite(value):
        raise Unscorable(f"{name} is {value}")
    return value
