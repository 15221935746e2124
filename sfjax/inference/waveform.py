"""Accept recordings as users have them: arrays of any numeric type and orientation, or paths of sound files."""

from __future__ import annotations

import operator
import os
from typing import Any

import numpy as np
from jaxtyping import Float, Shaped

from sfjax import audio, audio_io
from sfjax.errors import UserError
from sfjax.inference import splicing

Recording = Any  # an array or something that becomes one, or the path of a sound file as str or os.PathLike
LOUD = 2.0  # a peak of float samples above this is no overshoot: the samples are not in [-1, 1]


def floats(recording: Recording, sample_rate: Any) -> tuple[Float[np.ndarray, "*_"], int]:
    """Return a recording as floats in [-1, 1], and its sample rate in Hz.

    An array has the shape [samples], [samples, channels] or [channels, samples], whichever axis is shorter. Integers
    are divided by the largest value of their type; unsigned ones have their zero in the middle. Floats are not scaled.
    A file is [samples] or [samples, channels]; for a path, `sample_rate` is None or the rate of the file. Raises
    `UserError` for other types, for samples that are not finite, and for a rate outside `sfjax.audio_io.RATES`.
    """
    if isinstance(recording, str | os.PathLike):
        samples, rate = audio.read_channels(recording)
        _check_same(recording, sample_rate, rate)
        return samples[:, 0] if samples.shape[1] == 1 else samples, rate
    rate, samples = checked_rate(sample_rate), _numeric(recording)
    if samples.ndim not in (1, 2):
        raise UserError(f"expected a waveform [samples] or [samples, channels], got shape {samples.shape}")
    return _finite(_scaled(samples)), rate


def channels(samples: Float[np.ndarray, "*_"]) -> Float[np.ndarray, "samples channels"]:
    """Return the samples of `floats` as float32 with time on the first axis."""
    by_time = samples[:, None] if samples.ndim == 1 else np.moveaxis(samples, _time_axis(samples), 0)
    return by_time.astype(np.float32)


def averaged(samples: Float[np.ndarray, "*_"]) -> Float[np.ndarray, " samples"]:
    """Return the average over the channels of `floats`, as float32."""
    return (samples if samples.ndim == 1 else samples.mean(axis=1 - _time_axis(samples))).astype(np.float32)


def shaped(
    sources: Float[np.ndarray, "sources samples channels"], samples: Float[np.ndarray, "*_"]
) -> Float[np.ndarray, "sources ..."]:
    """Return each source in the shape of `samples`."""
    return np.moveaxis(sources, 1, 1 + _time_axis(samples)).reshape(len(sources), *samples.shape)


def _time_axis(samples):
    return 1 if samples.ndim == 2 and samples.shape[0] < samples.shape[1] else 0


def mono(recording: Recording, sample_rate: Any) -> tuple[Float[np.ndarray, " samples"], int]:
    """Return a recording as float32 samples with its channels averaged, and its sample rate in Hz.

    Everything else is as in `floats`.
    """
    samples, rate = floats(recording, sample_rate)
    return averaged(samples), rate


def own_type(recording: Recording, sample_rate: Any) -> tuple[Shaped[np.ndarray, "samples ..."], int]:
    """Return a recording in the sample type of its array or file, to change a part of it, and its sample rate in Hz.

    An array has the shape [samples] or [samples, channels] and holds int16, int32, float32 or float64. Raises
    `UserError` as `mono` does.
    """
    if isinstance(recording, str | os.PathLike):
        samples, rate, _ = splicing.read(recording)
        _check_same(recording, sample_rate, rate)
        return samples, rate
    rate, samples = checked_rate(sample_rate), _numeric(recording)
    if samples.dtype.name not in ("int16", "int32", "float32", "float64"):
        raise UserError(f"expected samples of int16, int32, float32 or float64, got {samples.dtype}; convert them")
    if samples.ndim not in (1, 2) or (samples.ndim == 2 and samples.shape[0] < samples.shape[1]):
        raise UserError(f"expected a waveform [samples] or [samples, channels], got shape {samples.shape}")
    return _finite(samples), rate


def checked_rate(sample_rate: Any) -> int:
    """Return a sample rate in Hz as an integer. Raises `UserError` if it is none, or cannot be the rate of speech."""
    low, high = audio_io.RATES
    try:
        if isinstance(sample_rate, bool | np.bool_ | str | bytes):
            raise TypeError
        rate = int(sample_rate) if float(sample_rate).is_integer() else operator.index(sample_rate)
    except (TypeError, ValueError, OverflowError):
        rate = -1
    if not low <= rate <= high:
        raise UserError(f"the sample rate must be a number of Hz from {low} to {high}, got {sample_rate!r}")
    return rate


def _check_same(path: str | os.PathLike, sample_rate: Any, rate: int) -> None:
    if sample_rate is not None and checked_rate(sample_rate) != rate:
        raise UserError(f"{path}: its sample rate is {rate} Hz, got {sample_rate}; leave the rate out for a path")


def _numeric(recording: Any) -> np.ndarray:
    """Return an array of numbers that can be samples."""
    try:
        samples = np.asarray(recording)
    except (TypeError, ValueError, RuntimeError) as error:
        raise UserError(f"expected a waveform as an array, got {type(recording).__name__} ({error})") from None
    kind = samples.dtype
    if kind.kind not in "iuf" or kind.name in ("int64", "uint64"):
        advice = "int16 and int32 have a known full scale" if kind.kind in "iu" else "give real samples"
        raise UserError(f"expected samples as floats in [-1, 1] or as integers of 8 to 32 bits, got {kind}; {advice}")
    return samples


def _scaled(samples: np.ndarray) -> np.ndarray:
    if samples.dtype.kind == "f":
        return samples.astype(np.float64)
    full = 2.0 ** (8 * samples.dtype.itemsize - 1)
    return samples / full - (1.0 if samples.dtype.kind == "u" else 0.0)


def _finite(samples: np.ndarray) -> np.ndarray:
    if wrong := np.count_nonzero(~np.isfinite(samples)):
        raise UserError(f"expected finite samples, got {wrong} that are NaN or infinite; repair the recording")
    return samples


def level(peak: float) -> float:
    """Return the number to divide a recording by for a model, which takes samples in [-1, 1], and to multiply back.

    Floats in the range of 16-bit integers have the full scale of these.
    """
    if peak <= LOUD:
        return 1.0
    return 2.0**15 if 2**8 < peak <= 2**15 else peak
