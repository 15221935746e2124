"""Recordings and what the model sees of them: files, resampling, STFT, the log-Mel spectrogram and its way back.

Everything below the files is JAX and pure. `log_mel` is the only acoustic feature of the project: training, inference
and vocoders all call it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import math
import os
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import soundfile
import soxr
from jaxtyping import Array, Complex, Float, Int

from sfjax import container
from sfjax.errors import UserError

BOOST = 1000.0  # by which `equalise` turns a band up at most: 60 dB
TINY = 1e-14  # inside the square root of a magnitude, so that its gradient is finite at silence


# Files


class Info(NamedTuple):
    """What a sound file says of itself: samples per channel, Hz, channels and soundfile's names of its encoding."""

    frames: int
    rate: int
    channels: int
    format: str
    subtype: str


def probe(path: str | os.PathLike) -> Info:
    """The header of a sound file; `UserError` if there is no readable sound in it."""
    with container.open(path) as file:
        return Info(file.frames, file.samplerate, file.channels, file.format, file.subtype)


def comment(path: str | os.PathLike) -> str:
    """The comment that a sound file holds, empty if it has none; `UserError` as of `probe`."""
    with container.open(path) as file:
        return file.comment


def read(
    path: str | os.PathLike, *, start: int = 0, frames: int | None = None, rate: int | None = None
) -> tuple[Float[np.ndarray, " samples"], int]:
    """A crop of a sound file as float32 in [-1, 1], its channels averaged, and the rate in Hz it is returned at.

    `start` and `frames` count the file's own samples, and only they are read; with `rate` the crop is resampled.
    Raises `UserError` if the file cannot be read, ends before the crop does, or holds NaN.
    """
    with container.open(path) as file:
        try:
            file.seek(start)
            wav = file.read(-1 if frames is None else frames, dtype="float32", always_2d=True)
        except soundfile.LibsndfileError as error:
            raise UserError(
                f"{path}: broken at sample {start} ({error.error_string}); re-encode or replace it"
            ) from None
        own = file.samplerate
        if len(wav) == 0 or (frames is not None and len(wav) < frames):
            wanted = "at least one sample" if frames is None else f"{frames} samples from {start}"
            raise UserError(f"{path}: expected {wanted}, found {len(wav)}; the file is empty or cut short")
    mono = wav.mean(axis=1)
    _check_finite(path, mono)
    return (mono, own) if rate in (None, own) else (resample(mono, own, rate), rate)


def blocks(path: str | os.PathLike, *, rate: int, seconds: float) -> Iterator[Float[np.ndarray, " samples"]]:
    """A whole sound file as consecutive mono float32 pieces at `rate` Hz, in the memory of one piece of `seconds`.

    Their total length is ceil(frames · rate / file rate). Raises `UserError` as `read` does.
    """
    with container.open(path) as file:
        if not file.frames:
            raise UserError(f"{path}: expected at least one sample, found 0; the file is empty or cut short")
        own = file.samplerate
        stream = None if own == rate else soxr.ResampleStream(own, rate, 1, dtype="float32")
        left = -(-file.frames * rate // own)
        step = max(1, int(seconds * own))
        for done in range(0, file.frames, step):
            try:
                piece = file.read(step, dtype="float32", always_2d=True).mean(axis=1)
            except soundfile.LibsndfileError as error:
                raise UserError(f"{path}: broken near sample {done} ({error.error_string}); re-encode it") from None
            if len(piece) < min(step, file.frames - done):
                raise UserError(f"{path}: expected {file.frames} samples, found {done + len(piece)}; it is cut short")
            _check_finite(path, piece)
            if stream is not None:
                piece = stream.resample_chunk(piece, last=done + step >= file.frames)
            piece = piece[:left]
            left -= len(piece)
            yield piece
        if left:
            yield np.zeros(left, np.float32)


class Writer:
    """Writes mono pieces at `rate` Hz into a sound file like `like`: its rate, length, container and encoding.

    The file appears under its own name only when everything was written; until then it is `<name>.part`, which is
    removed if writing fails. It holds `comment` if its container can: WAV, FLAC, Ogg, Opus and MP3 do. Raises
    `UserError` if the disk or the encoding refuses.
    """

    def __init__(self, path: str | os.PathLike, *, rate: int, like: Info, comment: str = ""):
        self.path, self.left, self.frames = Path(path), like.frames, like.frames
        self.part = self.path.with_name(self.path.name + ".part")
        self.stream = None if rate == like.rate else soxr.ResampleStream(rate, like.rate, 1, dtype="float32")
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self.part.touch()  # says why it cannot, as libsndfile does not
        except OSError as error:
            raise self._refusal(error.strerror) from None
        try:
            self.file = soundfile.SoundFile(
                self.part, "w", like.rate, channels=1, format=like.format, subtype=like.subtype
            )
        except soundfile.LibsndfileError as error:
            self.part.unlink(missing_ok=True)
            raise self._refusal(error.error_string) from None
        self.comment = ""
        if comment:
            with contextlib.suppress(soundfile.LibsndfileError):
                self.file.comment = comment
                self.comment = comment

    def write(self, piece: Float[np.ndarray, " samples"], *, last: bool = False) -> None:
        """Appends a piece; with `last` the end is cut or filled with zeros to the length of `like`."""
        if self.stream is not None:
            piece = self.stream.resample_chunk(np.ascontiguousarray(piece, np.float32), last=last)
        piece = np.clip(piece[: self.left], -1.0, 1.0)
        if last and len(piece) < self.left:
            piece = np.concatenate([piece, np.zeros(self.left - len(piece), np.float32)])
        self.left -= len(piece)
        try:
            self.file.write(piece)
        except soundfile.LibsndfileError as error:
            raise self._refusal(error.error_string) from None

    def __enter__(self) -> Writer:
        return self

    def __exit__(self, kind, value, trace) -> None:
        try:
            self.file.close()
            if kind is None:
                self._read_back()
                os.replace(self.part, self.path)
        except soundfile.LibsndfileError as error:
            if kind is None:
                raise self._refusal(error.error_string) from None
        except OSError as error:
            raise self._refusal(error.strerror) from None
        finally:
            self.part.unlink(missing_ok=True)

    def _read_back(self) -> None:
        """Finds missing samples: libsndfile says nothing when the disk refuses what it held back until the end."""
        with soundfile.SoundFile(self.part) as file:
            found = sum(len(file.read(2**18, dtype="float32")) for _ in range(0, self.frames, 2**18))
            comment = file.comment  # which stands at the end of an MP3
        if found != self.frames or comment != self.comment:
            raise self._refusal("its end is missing")

    def _refusal(self, why: str) -> UserError:
        why = why.strip().rstrip(".")
        return UserError(f"{self.path}: could not be written ({why}); free space, or choose another folder or format")


def write(path: str | os.PathLike, wav: Float[np.ndarray, " samples"], rate: int) -> None:
    """Writes a whole mono wave (clipped to [-1, 1]) as 16-bit audio in the container that the suffix names."""
    form = container.named(path)
    subtype = "OPUS" if Path(path).suffix.lower() == ".opus" else soundfile.default_subtype(form)
    with Writer(path, rate=rate, like=Info(len(wav), rate, 1, form, subtype)) as out:
        out.write(np.asarray(wav, np.float32), last=True)


def resample(wav: Float[np.ndarray, " samples"], rate: int, to: int) -> Float[np.ndarray, " resampled"]:
    """`wav` from `rate` to `to` Hz by soxr's high-quality filter; ceil(samples · to / rate) samples."""
    if rate == to:
        return wav
    out = soxr.resample(np.asarray(wav, np.float32), rate, to)
    length = -(-len(wav) * to // rate)
    return np.pad(out[:length], (0, max(0, length - len(out))))


def _check_finite(path: str | os.PathLike, wav: np.ndarray) -> None:
    if not np.isfinite(wav).all():
        raise UserError(f"{path}: {np.count_nonzero(~np.isfinite(wav))} samples are NaN or infinite; repair or drop it")


# The log-Mel spectrogram and its way back


@dataclasses.dataclass(frozen=True)
class MelSpec:
    """How waves become normalised log-Mel frames (Voicebox A.1, A.3); fields are config section `mel`.

    `sample_rate`, `low`, `high` in Hz; `n_fft`, `window`, `hop` in samples; `floor` is the smallest Mel amplitude;
    `mean` and `std` normalise the natural logarithm.
    """

    sample_rate: int
    n_fft: int
    window: int
    hop: int
    bands: int
    low: float
    high: float
    floor: float
    mean: float
    std: float

    def frames(self, samples: int) -> int:
        """Frames of a wave of `samples`: one for each started hop."""
        return -(-samples // self.hop)


def log_mel(
    wav: Float[Array, "batch samples"], spec: MelSpec, lengths: Int[Array, " batch"] | None = None
) -> Float[Array, "batch frames mels"]:
    """Normalised log-Mel frames of each wave, frames = ceil(samples / hop) (Voicebox A.1).

    `lengths` are the true lengths in samples of waves padded to one size: the frames of a wave are then those it has
    alone; the frames behind its end mean nothing.
    """
    return _log_mel(stft(wav, spec, lengths), spec)


def _log_mel(spectrum, spec):
    mel = jnp.einsum("bfk,mk->bfm", jnp.sqrt(_power(spectrum) + TINY), filterbank(spec), precision="highest")
    return (jnp.log(jnp.maximum(mel, spec.floor)) - spec.mean) / spec.std


def stft(
    wav: Float[Array, "batch samples"], spec: MelSpec, lengths: Int[Array, " batch"] | None = None
) -> Complex[Array, "batch frames bins"]:
    """Short-time Fourier transform with the framing of `log_mel`.

    Waves are padded with zeros to a multiple of the hop and by reflection with (n_fft − hop) / 2 at both ends; nothing
    is centred. The phase refers to the first sample of the window, not of the n_fft frame.
    """
    samples = spec.frames(wav.shape[1]) * spec.hop
    edge = (spec.n_fft - spec.hop) // 2
    if samples <= edge:
        raise ValueError(f"a wave needs more than {edge} samples to be framed, got {wav.shape[1]}")
    wav = jnp.pad(wav, ((0, 0), (0, samples - wav.shape[1])))
    ends = jnp.full(wav.shape[0], samples) if lengths is None else (lengths + spec.hop - 1) // spec.hop * spec.hop
    margin = edge - (spec.n_fft - spec.window) // 2  # the window sees only this much of the padding
    place = jnp.arange(-margin, samples + spec.window - spec.hop - margin)
    mirrored = 2 * (ends[:, None] - 1) - jnp.abs(place)
    place = jnp.minimum(jnp.abs(place), mirrored)
    padded = jnp.take_along_axis(wav, jnp.maximum(place, 0), axis=1) * (place >= 0)
    hops = padded.reshape(wav.shape[0], -1, spec.hop)
    count = samples // spec.hop
    frames = jnp.concatenate([hops[:, i : i + count] for i in range(spec.window // spec.hop)], axis=2)
    return jnp.fft.rfft(frames * _hann(spec), n=spec.n_fft)


def istft(
    spectrum: Complex[Array, "batch frames bins"], spec: MelSpec, lengths: Int[Array, " batch"] | None = None
) -> Float[Array, "batch samples"]:
    """The wave of frames · hop samples whose `stft` is closest to `spectrum` in least squares.

    With `lengths`, in samples, the frames behind the end of each wave have no part in it.
    """
    frames = jnp.fft.irfft(spectrum, n=spec.n_fft)[..., : spec.window] * _hann(spec)
    ends = jnp.full(frames.shape[0], frames.shape[1]) if lengths is None else (lengths + spec.hop - 1) // spec.hop
    shown = (jnp.arange(frames.shape[1]) < ends[:, None])[..., None]
    frames = jnp.where(shown, frames, 0.0)
    count = frames.shape[1]
    parts = spec.window // spec.hop
    margin = (spec.window - spec.hop) // 2
    weight = jnp.where(shown, _hann(spec) ** 2, 0.0)

    def overlap_add(pieces):
        hops = pieces.reshape(pieces.shape[0], count, parts, spec.hop)
        shifted = [jnp.pad(hops[:, :, i], ((0, 0), (i, parts - 1 - i), (0, 0))) for i in range(parts)]
        total = jnp.sum(jnp.stack(shifted), axis=0)
        return total.reshape(pieces.shape[0], -1)[:, margin : margin + count * spec.hop]

    return overlap_add(frames) / jnp.maximum(overlap_add(weight), TINY)


def borrow_phase(
    mels: Float[Array, "batch sources frames mels"],
    recording: Complex[Array, "batch frames bins"],
    spec: MelSpec,
    lengths: Int[Array, " batch"] | None = None,
) -> Float[Array, "batch sources samples"]:
    """The wave of each source from its normalised log-Mel frames and the phase of `recording` (SpeechFlow A.2).

    Magnitudes come from the filterbank's pseudo-inverse.
    """
    return _waves(magnitude(mels, spec) * unit(recording)[:, None], spec, lengths)


def attenuate(
    mels: Float[Array, "batch sources frames mels"],
    recording: Complex[Array, "batch frames bins"],
    spec: MelSpec,
    lengths: Int[Array, " batch"] | None = None,
) -> Float[Array, "batch sources samples"]:
    """The wave of each source: `recording`, each band turned down to the source's log-Mel frames where it is above.

    Detail that the bands do not resolve stays as it is in the recording, and nothing is added. The gain of a bin is the
    mean of the gains of its bands, weighted by the filterbank.
    """
    return _masked(_gains(mels, recording, spec, most=1.0), recording, spec, lengths)


def equalise(
    mels: Float[Array, "batch sources frames mels"],
    recording: Complex[Array, "batch frames bins"],
    spec: MelSpec,
    lengths: Int[Array, " batch"] | None = None,
) -> Float[Array, "batch sources samples"]:
    """As `attenuate`, but bands are turned up as well, by up to `BOOST`: it brings back what a recording has lost."""
    return _masked(_gains(mels, recording, spec, most=BOOST), recording, spec, lengths)


def _gains(mels, recording, spec, most):
    """The factor of each band that leads from `recording` to `mels`, `most` at most."""
    return jnp.exp(jnp.minimum((mels - _log_mel(recording, spec)[:, None]) * spec.std, math.log(most)))


def ratio_mask(
    mels: Float[Array, "batch sources frames mels"],
    recording: Complex[Array, "batch frames bins"],
    spec: MelSpec,
    lengths: Int[Array, " batch"] | None = None,
) -> Float[Array, "batch sources samples"]:
    """The wave of each source by the ratio mask M_i² / Σ_j M_j² on `recording`; M are Mel amplitudes.

    The masks of all sources add up to 1 in each bin, so the waves add up to the recording. Use it where the recording
    holds nothing but the sources.
    """
    return _masked(jax.nn.softmax(2.0 * spec.std * mels, axis=1), recording, spec, lengths)


def wiener_mask(
    mels: Float[Array, "batch sources frames mels"],
    recording: Complex[Array, "batch frames bins"],
    spec: MelSpec,
    lengths: Int[Array, " batch"] | None = None,
) -> Float[Array, "batch sources samples"]:
    """The wave of each source by the Wiener mask M_i² / (Σ_j M_j² + R²), with the rest R² = max(X² − Σ_j M_j², 0).

    X is the Mel amplitude of `recording`. The rest is the part of its power that no source explains: use it where the
    recording holds noise beside the sources.
    """
    power = 2.0 * (spec.std * mels + spec.mean)
    total = jnp.maximum(jax.nn.logsumexp(power, axis=1), 2.0 * (spec.std * _log_mel(recording, spec) + spec.mean))
    return _masked(jnp.exp(power - total[:, None]), recording, spec, lengths)


def _masked(masks, recording, spec, lengths):
    """Waves of `recording` under masks [batch, sources, frames, mels] in the bands of the filterbank."""
    return _waves(jnp.einsum("bsfm,mk->bsfk", masks, _shares(spec)) * recording[:, None], spec, lengths)


def _waves(spectra, spec, lengths):
    return jax.vmap(lambda spectrum: istft(spectrum, spec, lengths), in_axes=1, out_axes=1)(spectra)


WAVES = {  # how the Mels of sources and a recording become waves
    "inverse": borrow_phase,
    "gains": attenuate,
    "equalise": equalise,
    "ratio": ratio_mask,
    "wiener": wiener_mask,
}


def known(way: str) -> str:
    """The name of one of `WAVES`; `UserError` if it is none."""
    if way not in WAVES:
        raise UserError(f"unknown way from Mels to waves {way!r}; choose from {', '.join(WAVES)}")
    return way


def magnitude(mel: Float[Array, "*batch frames mels"], spec: MelSpec) -> Float[Array, "*batch frames bins"]:
    """The amplitude spectrum of normalised log-Mel frames, through the filterbank's pseudo-inverse."""
    inverse = jnp.asarray(_pseudo_inverse(spec))
    return jnp.maximum(jnp.einsum("...fm,km->...fk", jnp.exp(mel * spec.std + spec.mean), inverse), 0.0)


def unit(spectrum: Complex[Array, "*axes"]) -> Complex[Array, "*axes"]:
    """Each number by its size: the phase alone."""
    return spectrum / jnp.sqrt(_power(spectrum) + TINY)


def _power(spectrum):
    return jnp.real(spectrum) ** 2 + jnp.imag(spectrum) ** 2


@functools.lru_cache
def _hann(spec: MelSpec) -> np.ndarray:
    if spec.window % spec.hop or (spec.window - spec.hop) % 2:
        raise ValueError(f"the window ({spec.window}) must be a multiple of the hop ({spec.hop}) and differ evenly")
    return (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(spec.window) / spec.window)).astype(np.float32)


@functools.lru_cache
def filterbank(spec: MelSpec) -> Float[np.ndarray, "mels bins"]:
    """Triangular filters on the Slaney scale with unit area, from librosa."""
    with warnings.catch_warnings():  # on its way it asks for the progress bars of notebooks
        warnings.simplefilter("ignore")
        from librosa.filters import mel  # slow to import (numba)

    return mel(sr=spec.sample_rate, n_fft=spec.n_fft, n_mels=spec.bands, fmin=spec.low, fmax=spec.high)


@functools.lru_cache
def _shares(spec: MelSpec) -> np.ndarray:
    """The share of each band in each bin; a bin without a band is as its neighbour."""
    weights = filterbank(spec)
    bins = np.arange(weights.shape[1])
    held = bins[weights.any(axis=0)]
    nearest = held[np.abs(bins[:, None] - held).argmin(axis=1)]
    return (weights / np.maximum(weights.sum(axis=0), TINY))[:, nearest]


@functools.lru_cache
def _pseudo_inverse(spec: MelSpec) -> np.ndarray:
    return np.linalg.pinv(filterbank(spec).astype(np.float64)).astype(np.float32)
