"""Read, write and resample sound; compute STFTs and log-Mel spectrograms, and waveforms from them.

Everything after the section on files is pure JAX. `log_mel` is the only acoustic feature of the project: training,
inference and vocoders all call it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import math
import os
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import soundfile
import soxr
from jaxtyping import Array, Complex, Float, Int

from sfjax import audio_io
from sfjax.errors import UserError
from sfjax.overwrite import MARK

BOOST = 1000.0  # the highest gain that `equalisation` considers for a band: 60 dB
TOP_BANDS = 8  # the mean gain of so many of the highest bands applies above them
UNCERTAIN = 1.0  # nepers (8.7 dB); `equalisation` adds this much less than the model predicts
LOUDEST = 2.0**32  # of the samples of a file; a damaged MP3 or file of floats has larger ones, and results become NaN
FLOATS = ("FLOAT", "DOUBLE")  # soundfile's names of the encodings that hold samples beyond [-1, 1]
TINY = 1e-14  # inside the square root of a magnitude, so that its gradient is finite at silence


# Files


class Info(NamedTuple):
    """The header of a sound file: samples per channel, Hz, channels, and soundfile's names of its encoding."""

    frames: int
    rate: int
    channels: int
    format: str
    subtype: str


def probe(path: str | os.PathLike) -> Info:
    """Read the header of a sound file. Raises `UserError` if there is no readable sound in it."""
    audio_io.check_single(path)
    with audio_io.open(path) as file:
        return Info(file.frames, file.samplerate, file.channels, file.format, file.subtype)


def comment(path: str | os.PathLike) -> str:
    """Read the comment in a sound file, empty if it has none. Raises `UserError` as `probe` does."""
    with audio_io.open(path) as file:
        return file.comment


def read(
    path: str | os.PathLike, *, start: int = 0, frames: int | None = None, rate: int | None = None
) -> tuple[Float[np.ndarray, " samples"], int]:
    """Read a crop of a sound file as float32 in [-1, 1], channels averaged; return it and its sample rate in Hz.

    `start` and `frames` count samples of the file, and only these are read; with `rate` the crop is resampled.
    Raises `UserError` if the file cannot be read, ends before the crop does, or holds NaN.
    """
    wav, file_rate = read_channels(path, start=start, frames=frames)
    mono = wav.mean(axis=1)
    return (mono, file_rate) if rate in (None, file_rate) else (resample(mono, file_rate, rate), rate)


def read_channels(
    path: str | os.PathLike, *, start: int = 0, frames: int | None = None
) -> tuple[Float[np.ndarray, "samples channels"], int]:
    """Read a crop of a sound file with all its channels, and its sample rate in Hz; everything else is as in `read`."""
    with audio_io.open(path) as file:
        try:
            audio_io.skip(file, start)
            wanted = max(file.frames - start, 0) if frames is None else frames
            wav = file.read(wanted, dtype="float32", always_2d=True)
        except soundfile.LibsndfileError as error:
            raise UserError(
                f"{path}: broken at sample {start} ({error.error_string}); re-encode or replace it"
            ) from None
        file_rate = file.samplerate
        if len(wav) == 0 or (frames is not None and len(wav) < frames):
            expected = "at least one sample" if frames is None else f"{frames} samples from {start}"
            raise UserError(f"{path}: expected {expected}, found {len(wav)}; the file is empty or cut short")
    _check_finite(path, wav)
    return wav, file_rate


def blocks(path: str | os.PathLike, *, rate: int, seconds: float) -> Iterator[Float[np.ndarray, " samples"]]:
    """Read a whole sound file as consecutive mono float32 pieces of `seconds` at `rate` Hz, one piece in memory.

    Their total length is ceil(frames · rate / file rate). Raises `UserError` as `read` does.
    """
    audio_io.check_single(path)
    with audio_io.open(path) as file:
        file_rate = file.samplerate
        stream = None if file_rate == rate else soxr.ResampleStream(file_rate, rate, 1, dtype="float32")
        left = -(-file.frames * rate // file_rate)  # samples at `rate` that are still to come
        for piece, last in _pieces(file, path, seconds):
            mono = piece.mean(axis=1)
            if stream is not None:
                mono = stream.resample_chunk(mono, last=last)
            mono = mono[:left]
            left -= len(mono)
            yield mono
        if left:
            yield np.zeros(left, np.float32)


def channel_blocks(
    path: str | os.PathLike, *, seconds: float
) -> Generator[Float[np.ndarray, "samples channels"], None, None]:
    """Read a whole sound file as consecutive float32 pieces of `seconds`, at its own rate and with all its channels.

    One piece is in memory. Raises `UserError` as `read` does.
    """
    audio_io.check_single(path)
    with audio_io.open(path) as file:
        for piece, _ in _pieces(file, path, seconds):
            yield piece


def _pieces(file, path, seconds):
    """Yield pieces of an open file, and whether each is the last one."""
    if not file.frames:
        raise UserError(f"{path}: expected at least one sample, found 0; the file is empty or cut short")
    step = max(1, int(seconds * file.samplerate))
    for done in range(0, file.frames, step):
        try:
            piece = file.read(step, dtype="float32", always_2d=True)
        except soundfile.LibsndfileError as error:
            raise UserError(f"{path}: broken near sample {done} ({error.error_string}); re-encode it") from None
        if len(piece) < min(step, file.frames - done):
            raise UserError(f"{path}: expected {file.frames} samples, found {done + len(piece)}; it is cut short")
        _check_finite(path, piece)
        yield piece, done + step >= file.frames


def peak(path: str | os.PathLike) -> float:
    """Return the largest absolute sample of a file of floats, 1.0 for other encodings, whose samples are in [-1, 1]."""
    info = probe(path)
    if info.subtype not in FLOATS:
        return 1.0
    pieces = blocks(path, rate=info.rate, seconds=10.0)
    return max(float(np.abs(piece).max(initial=0.0)) for piece in pieces)


class Writer:
    """Write pieces at `rate` Hz into a sound file with the rate, length, channels, container and encoding of `like`.

    Pieces of several channels must have the rate of `like`.
    The file appears under its own name only when everything is written; until then it is a hidden file, which is
    removed if writing fails. `clipped` counts the samples beyond [-1, 1] that were cut to it; files of floats keep
    theirs. The file holds `comment` if its container can: WAV, FLAC, Ogg, Opus and MP3 do. Raises `UserError` if the
    disk or the encoder fails.
    """

    def __init__(self, path: str | os.PathLike, *, rate: int, like: Info, comment: str = ""):
        self.path, self.left, self.frames, self.channels = Path(path), like.frames, like.frames, like.channels
        self.holds_floats, self.clipped = like.subtype in FLOATS, 0
        self.part = self.path.with_name(f".{self.path.name}.{os.getpid()}.part")
        self.stream = None if rate == like.rate else soxr.ResampleStream(rate, like.rate, 1, dtype="float32")
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self.part.touch()  # its error has a reason; the error of libsndfile has none
        except OSError as error:
            raise self._write_error(error.strerror or str(error)) from None
        try:
            self.file = soundfile.SoundFile(
                audio_io.raw_name(self.part), "w", like.rate, like.channels, like.subtype, format=like.format
            )
        except soundfile.LibsndfileError as error:
            self.part.unlink(missing_ok=True)
            raise self._write_error(error.error_string) from None
        self.comment = ""
        if comment:
            with contextlib.suppress(soundfile.LibsndfileError):
                self.file.comment = comment
                self.comment = comment

    def write(self, piece: Float[np.ndarray, "samples ..."], *, last: bool = False) -> None:
        """Append a piece; with `last`, cut or zero-pad the end to the length of `like`."""
        if self.stream is not None:
            piece = self.stream.resample_chunk(np.ascontiguousarray(piece, np.float32), last=last)
        piece = piece[: self.left]
        if not self.holds_floats:
            self.clipped += int(np.count_nonzero(np.abs(piece) > 1.0))
            piece = np.clip(piece, -1.0, 1.0)
        if last and len(piece) < self.left:
            piece = np.concatenate([piece, np.zeros((self.left - len(piece), *piece.shape[1:]), np.float32)])
        self.left -= len(piece)
        try:
            self.file.write(piece)
        except soundfile.LibsndfileError as error:
            raise self._write_error(error.error_string) from None

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
                raise self._write_error(error.error_string) from None
        except OSError as error:
            raise self._write_error(error.strerror or str(error)) from None
        finally:
            self.part.unlink(missing_ok=True)

    def _read_back(self) -> None:
        """Check that all samples are there: libsndfile ignores a full disk when it writes its buffer at the end."""
        with soundfile.SoundFile(audio_io.raw_name(self.part)) as file:
            frames = sum(len(file.read(2**18, dtype="float32")) for _ in range(0, self.frames, 2**18))
            comment = file.comment  # it is at the end of an MP3
        if frames != self.frames or comment != self.comment:
            raise self._write_error("its end is missing")

    def _write_error(self, reason: str) -> UserError:
        return audio_io.write_error(self.path, reason)


def write(path: str | os.PathLike, wav: Float[np.ndarray, " samples"], rate: int) -> int:
    """Write a whole mono waveform as 16-bit audio in the container of the path's suffix.

    Samples are clipped to [-1, 1]; returns how many.
    """
    container = audio_io.check_suffix(path)
    subtype = "OPUS" if Path(path).suffix.lower() == ".opus" else soundfile.default_subtype(container)
    assert subtype is not None  # libsndfile has a default for each of these containers
    with Writer(path, rate=rate, like=Info(len(wav), rate, 1, container, subtype), comment=MARK) as writer:
        writer.write(np.asarray(wav, np.float32), last=True)
    return writer.clipped


def resample(wav: Float[np.ndarray, " samples"], rate: int, to: int) -> Float[np.ndarray, " resampled"]:
    """Resample from `rate` to `to` Hz with soxr's high-quality filter, to ceil(samples · to / rate) samples."""
    if rate == to:
        return wav
    resampled = soxr.resample(np.asarray(wav, np.float32), rate, to)
    length = -(-len(wav) * to // rate)
    return np.pad(resampled[:length], (0, max(0, length - len(resampled))))


def _check_finite(path: str | os.PathLike, wav: np.ndarray) -> None:
    if not np.isfinite(wav).all():
        raise UserError(f"{path}: {np.count_nonzero(~np.isfinite(wav))} samples are NaN or infinite; repair or drop it")
    if (peak := float(np.abs(wav).max(initial=0.0))) > LOUDEST:
        raise UserError(f"{path}: expected samples up to {LOUDEST:g}, found {peak:g}; it is damaged, copy it again")


# The log-Mel spectrogram, and waveforms from it


@dataclasses.dataclass(frozen=True)
class MelSpec:
    """The settings of the normalised log-Mel spectrogram (Voicebox A.1, A.3); its fields are config section `mel`.

    `sample_rate`, `low`, `high` in Hz; `n_fft`, `window`, `hop` in samples; `floor` is the smallest Mel amplitude;
    `mean` and `std` normalise the natural logarithm. Exported models keep these fields in their `config.json`.
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

    def num_frames(self, samples: Any) -> Any:
        """Return the frames of a waveform of `samples`, a number or an array: one for each started hop."""
        return (samples + self.hop - 1) // self.hop

    @property
    def hop_seconds(self) -> float:
        """The time between two frames in seconds."""
        return self.hop / self.sample_rate


def at_rate(spec: MelSpec, rate: int) -> MelSpec:
    """Return the windows and bands of `spec` for recordings of `rate` Hz: about the same in seconds, the same in Hz."""
    hop = 2 * max(1, round(spec.hop * rate / spec.sample_rate / 2))  # even, so that windows are centred on hops
    n_fft = math.ceil(spec.n_fft * rate / spec.sample_rate / 64) * 64  # without large prime factors, for a fast FFT
    return dataclasses.replace(spec, sample_rate=rate, n_fft=n_fft, window=spec.window // spec.hop * hop, hop=hop)


def differences(there: MelSpec, here: MelSpec) -> str:
    """Describe the fields in which two specifications differ, as in "hop 256, not 160"; empty if they are equal."""
    pairs = {name: (value, getattr(here, name)) for name, value in dataclasses.asdict(there).items()}
    return ", ".join(f"{name} {old}, not {new}" for name, (old, new) in pairs.items() if old != new)


def log_mel(
    wav: Float[Array, "batch samples"], spec: MelSpec, lengths: Int[Array, " batch"] | None = None
) -> Float[Array, "batch frames mels"]:
    """Compute the normalised log-Mel spectrogram of each waveform, frames = ceil(samples / hop) (Voicebox A.1).

    `lengths` are the true lengths in samples of waveforms padded to one size. The frames of each waveform are then the
    same as without padding; the frames after its end have no meaning.

    ```python
    spec = audio.MelSpec(**default.get_config().mel)
    mels = audio.log_mel(jnp.ones((1, 16_000)), spec)
    ```
    """
    return log_mel_of(stft(wav, spec, lengths), spec)


def log_mel_of(spectrum: Complex[Array, "batch frames bins"], spec: MelSpec) -> Float[Array, "batch frames mels"]:
    """Compute the normalised log-Mel spectrogram from the result of `stft` or `spectra`."""
    mel = jnp.einsum("bfk,mk->bfm", jnp.sqrt(_power(spectrum) + TINY), filterbank(spec), precision="highest")
    return (jnp.log(jnp.maximum(mel, spec.floor)) - spec.mean) / spec.std


def stft(
    wav: Float[Array, "batch samples"], spec: MelSpec, lengths: Int[Array, " batch"] | None = None
) -> Complex[Array, "batch frames bins"]:
    """Compute the short-time Fourier transform with the framing of `log_mel`.

    Waveforms are padded with zeros to a multiple of the hop and by reflection with (n_fft − hop) / 2 at both ends;
    nothing is centred. The phase refers to the first sample of the window, not of the n_fft frame.
    """
    samples = spec.num_frames(wav.shape[1]) * spec.hop
    edge = (spec.n_fft - spec.hop) // 2
    if samples <= edge:
        raise ValueError(f"a waveform must have more than {edge} samples to be framed, got {wav.shape[1]}")
    wav = jnp.pad(wav, ((0, 0), (0, samples - wav.shape[1])))
    ends = jnp.full(wav.shape[0], samples) if lengths is None else spec.num_frames(lengths) * spec.hop
    margin = edge - (spec.n_fft - spec.window) // 2  # only this much of the padding is inside a window
    position = jnp.abs(jnp.arange(-margin, samples + spec.window - spec.hop - margin))
    position = jnp.minimum(position, 2 * (ends[:, None] - 1) - position)  # reflected at both ends
    return spectra(jnp.take_along_axis(wav, jnp.maximum(position, 0), axis=1) * (position >= 0), spec)


def spectra(wav: Float[Array, "batch samples"], spec: MelSpec) -> Complex[Array, "batch frames bins"]:
    """Compute the spectra of the windows that lie inside of each waveform, without padding, as `stft` does.

    The samples are a multiple of the hop.
    """
    hops = wav.reshape(wav.shape[0], -1, spec.hop)
    count = hops.shape[1] - spec.window // spec.hop + 1
    frames = jnp.concatenate([hops[:, i : i + count] for i in range(spec.window // spec.hop)], axis=2)
    return jnp.fft.rfft(frames * _hann(spec), n=spec.n_fft)


def istft(
    spectrum: Complex[Array, "batch frames bins"], spec: MelSpec, lengths: Int[Array, " batch"] | None = None
) -> Float[Array, "batch samples"]:
    """Compute the waveform of frames · hop samples whose `stft` is closest to `spectrum` in least squares.

    With `lengths`, in samples, the frames after the end of each waveform are ignored.
    """
    frames, weight = windows(spectrum, spec)
    ends = jnp.full(frames.shape[0], frames.shape[1]) if lengths is None else spec.num_frames(lengths)
    inside = (jnp.arange(frames.shape[1]) < ends[:, None])[..., None]
    margin = (spec.window - spec.hop) // 2
    samples = slice(margin, margin + frames.shape[1] * spec.hop)
    total = overlap_add(jnp.where(inside, frames, 0.0), spec)[:, samples]
    return total / jnp.maximum(overlap_add(jnp.where(inside, weight, 0.0), spec)[:, samples], TINY)


def windows(
    spectrum: Complex[Array, "batch frames bins"], spec: MelSpec
) -> tuple[Float[Array, "batch frames window"], Float[Array, " window"]]:
    """Compute the windowed waveform of each frame and the weight of its samples, the square of the window.

    The waveform is the sum of overlapping frames, divided by the sum of their weights.
    """
    return jnp.fft.irfft(spectrum, n=spec.n_fft)[..., : spec.window] * _hann(spec), jnp.asarray(_hann(spec) ** 2)


def overlap_add(frames: Float[Array, "batch frames window"], spec: MelSpec) -> Float[Array, "batch samples"]:
    """Add frames that follow each other by a hop, to frames · hop + window − hop samples."""
    parts = spec.window // spec.hop
    hops = frames.reshape(*frames.shape[:2], parts, spec.hop)
    shifted = [jnp.pad(hops[:, :, i], ((0, 0), (i, parts - 1 - i), (0, 0))) for i in range(parts)]
    return jnp.sum(jnp.stack(shifted), axis=0).reshape(frames.shape[0], -1)


def borrow_phase(
    mels: Float[Array, "batch sources frames mels"],
    recording: Complex[Array, "batch frames bins"],
    spec: MelSpec,
    lengths: Int[Array, " batch"] | None = None,
) -> Float[Array, "batch sources samples"]:
    """Compute the waveform of each source from its log-Mel spectrogram and the phase of `recording` (SpeechFlow A.2).

    Magnitudes come from the filterbank's pseudo-inverse.
    """
    return _istft_sources(magnitude(mels, spec) * unit(recording)[:, None], spec, lengths)


def attenuation(
    mels: Float[Array, "batch sources frames mels"], recording: Complex[Array, "batch frames bins"], spec: MelSpec
) -> Float[Array, "batch sources frames mels"]:
    """Compute the gains that turn each band of `recording` down to the log-Mel spectrogram of each source.

    A band that is already below it is unchanged. Detail that the bands do not resolve is kept from the recording, and
    nothing is added.
    """
    return jnp.exp(_log_gains(mels, recording, spec, most=1.0))


def equalisation(
    mels: Float[Array, "batch sources frames mels"], recording: Complex[Array, "batch frames bins"], spec: MelSpec
) -> Float[Array, "batch sources frames mels"]:
    """Like `attenuation`, but also turn bands up, to restore what the recording has lost.

    A gain above 1 is reduced by `UNCERTAIN`, so that small predicted gains change nothing: they are errors more often
    than losses. Large ones, up to `BOOST`, restore bands that a channel or a codec has removed.
    """
    gain = _log_gains(mels, recording, spec, most=BOOST)
    return jnp.exp(jnp.where(gain > 0, jnp.maximum(gain - UNCERTAIN, 0.0), gain))


def _log_gains(mels, recording, spec, most):
    """Return the logarithm of the gain of each band from `recording` to `mels`; no gain is above `most`."""
    return jnp.minimum((mels - log_mel_of(recording, spec)[:, None]) * spec.std, math.log(most))


def ratio_mask(
    mels: Float[Array, "batch sources frames mels"], recording: Complex[Array, "batch frames bins"], spec: MelSpec
) -> Float[Array, "batch sources frames mels"]:
    """Compute the ratio mask M_i² / Σ_j M_j² of each source; M are Mel amplitudes.

    The masks of all sources add up to 1 in each band, so the waveforms add up to the recording. Use it if the recording
    contains only the sources.
    """
    return jax.nn.softmax(2.0 * spec.std * mels, axis=1)


def wiener_mask(
    mels: Float[Array, "batch sources frames mels"], recording: Complex[Array, "batch frames bins"], spec: MelSpec
) -> Float[Array, "batch sources frames mels"]:
    """Compute the Wiener mask M_i² / (Σ_j M_j² + R²) of each source, R² = max(X² − Σ_j M_j², 0).

    X is the Mel amplitude of `recording`. The rest R² is the part of its power that no source explains: use it if the
    recording contains noise in addition to the sources.
    """
    power = 2.0 * (spec.std * mels + spec.mean)
    total = jnp.maximum(jax.nn.logsumexp(power, axis=1), 2.0 * (spec.std * log_mel_of(recording, spec) + spec.mean))
    return jnp.exp(power - total[:, None])


GAINS = {"mask": attenuation, "boost": equalisation, "ratio": ratio_mask, "wiener": wiener_mask}  # of Mel bands


def apply_gains(
    gains: Float[Array, "batch sources frames mels"],
    recording: Complex[Array, "batch frames bins"],
    spec: MelSpec,
    lengths: Int[Array, " batch"] | None = None,
) -> Float[Array, "batch sources samples"]:
    """Compute the waveform of each source: `recording` with a gain for each band.

    The gain of a bin is the mean of the gains of its bands, weighted by the filterbank.
    """
    return _istft_sources(jnp.einsum("bsfm,mk->bsfk", gains, _shares(spec)) * recording[:, None], spec, lengths)


def change_bands(
    gains: Float[Array, "batch sources frames mels"],
    recording: Float[Array, "batch samples"],
    spec: MelSpec,
    lengths: Int[Array, " batch"] | None = None,
) -> Float[Array, "batch sources samples"]:
    """Apply gains of Mel bands to recordings of any sample rate; `spec` is from `at_rate`, with a frame for each gain.

    Above the bands, the gain is the mean of the `TOP_BANDS` highest ones, and at most 1. Gains of 1 change no sample.
    """
    spectra = _scale_bands(_with_top(gains) - 1.0, stft(recording, spec, lengths), spec)
    return recording[:, None] + _istft_sources(spectra, spec, lengths)[..., : recording.shape[1]]


def gain_spectra(
    gains: Float[Array, "batch sources frames mels"], recording: Complex[Array, "batch frames bins"], spec: MelSpec
) -> Complex[Array, "batch sources frames bins"]:
    """Apply gains of Mel bands to spectra of any sample rate, as `change_bands` does to recordings."""
    return _scale_bands(_with_top(gains), recording, spec)


def _with_top(gains):
    top = jnp.minimum(jnp.mean(gains[..., -TOP_BANDS:], axis=-1, keepdims=True), 1.0)
    return jnp.concatenate([gains, top], axis=-1)


def _scale_bands(factors, recording, spec):
    return jnp.einsum("bsfm,mk->bsfk", factors, _shares_and_top(spec)) * recording[:, None]


def _reconstruct_by(band_gains):
    def reconstruct(mels, recording, spec, lengths=None):
        return apply_gains(band_gains(mels, recording, spec), recording, spec, lengths)

    return reconstruct


def _istft_sources(spectra, spec, lengths):
    return jax.vmap(lambda spectrum: istft(spectrum, spec, lengths), in_axes=1, out_axes=1)(spectra)


RECONSTRUCTIONS = {  # of waveforms, from the log-Mel spectrograms of sources and a recording
    "phase": borrow_phase,
    **{name: _reconstruct_by(band_gains) for name, band_gains in GAINS.items()},
}


def reconstruction(name: str) -> str:
    """Return `name` if it is in `RECONSTRUCTIONS`. Raises `UserError` otherwise."""
    if name not in RECONSTRUCTIONS:
        raise UserError(f"unknown reconstruction {name!r}; choose from {', '.join(RECONSTRUCTIONS)}")
    return name


def magnitude(mel: Float[Array, "*batch frames mels"], spec: MelSpec) -> Float[Array, "*batch frames bins"]:
    """Compute the magnitude spectrum of a normalised log-Mel spectrogram by the filterbank's pseudo-inverse."""
    inverse = jnp.asarray(_pseudo_inverse(spec))
    return jnp.maximum(jnp.einsum("...fm,km->...fk", jnp.exp(mel * spec.std + spec.mean), inverse), 0.0)


def unit(spectrum: Complex[Array, "*axes"]) -> Complex[Array, "*axes"]:
    """Divide each complex number by its absolute value: only the phase remains."""
    return spectrum / jnp.sqrt(_power(spectrum) + TINY)


def _power(spectrum):
    return jnp.real(spectrum) ** 2 + jnp.imag(spectrum) ** 2


@functools.lru_cache
def _hann(spec: MelSpec) -> np.ndarray:
    if spec.window % spec.hop or (spec.window - spec.hop) % 2:
        raise ValueError(
            "the window must be a multiple of the hop and differ from it by an even number of samples, "
            f"got window {spec.window} and hop {spec.hop}"
        )
    return (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(spec.window) / spec.window)).astype(np.float32)


@functools.lru_cache
def filterbank(spec: MelSpec) -> Float[np.ndarray, "mels bins"]:
    """Return triangular filters of unit area, evenly spaced on Slaney's Mel scale.

    They equal `librosa.filters.mel`, whose import takes a second.
    """
    frequencies = np.linspace(0.0, spec.sample_rate / 2, spec.n_fft // 2 + 1)
    edges = _hz(np.linspace(_mel(spec.low), _mel(spec.high), spec.bands + 2))
    low, centre, high = edges[:-2, None], edges[1:-1, None], edges[2:, None]
    triangles = np.minimum((frequencies - low) / (centre - low), (high - frequencies) / (high - centre))
    return (np.maximum(triangles, 0.0) * 2.0 / (high - low)).astype(np.float32)


def _mel(hz):
    """Slaney's Mel scale: linear up to 1 kHz, which is 15, and logarithmic above, 27 for a factor of 6.4."""
    return np.where(hz < 1000.0, hz * 0.015, 15.0 + 27.0 * np.log(np.maximum(hz, 1000.0) / 1000.0) / np.log(6.4))


def _hz(mel):
    return np.where(mel < 15.0, mel / 0.015, 1000.0 * 6.4 ** ((np.maximum(mel, 15.0) - 15.0) / 27.0))


@functools.lru_cache
def _shares(spec: MelSpec) -> np.ndarray:
    """Return the share of each band in each bin; a bin outside of all bands has the shares of the nearest bin."""
    weights = filterbank(spec)
    bins = np.arange(weights.shape[1])
    covered = bins[weights.any(axis=0)]
    nearest = covered[np.abs(bins[:, None] - covered).argmin(axis=1)]
    return (weights / np.maximum(weights.sum(axis=0), TINY))[:, nearest]


@functools.lru_cache
def _shares_and_top(spec: MelSpec) -> np.ndarray:
    """Return the share of each band in each bin, with one more band for all bins above `spec.high`."""
    above = np.linspace(0.0, spec.sample_rate / 2, spec.n_fft // 2 + 1) > spec.high
    return np.vstack([np.where(above, 0.0, _shares(spec)), above]).astype(np.float32)


@functools.lru_cache
def _pseudo_inverse(spec: MelSpec) -> np.ndarray:
    return np.linalg.pinv(filterbank(spec).astype(np.float64)).astype(np.float32)
