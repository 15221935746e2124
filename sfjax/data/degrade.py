"""Degrade clean speech while the loader reads it.

The order is: room → noise → microphone → clipping → band limit → codec → lost packets → level. `Chain` applies each
degradation with its own probability and draws its strength from its own range; both are in config section `degrade`.
`sfjax.data.noise_mixer.Mixer` adds noise, babble and music after the room, so the SNR counts the reverberant speech.
Every function takes and returns float32 waves of equal length and uses only the random generator you pass.
"""

from __future__ import annotations

import dataclasses
import functools
import io
import math
from typing import NamedTuple

import numpy as np
import scipy.fft
import scipy.interpolate
import scipy.signal
import soundfile
from jaxtyping import Bool, Complex, Float

from sfjax import audio
from sfjax.data.manifest import Manifest
from sfjax.data.noise_mixer import CEILING, Mixer, check_probability, check_range
from sfjax.errors import UserError

LONGEST = 10.0  # seconds of an impulse response; longer files are recordings
SILENT = 1e-6  # peak below which an impulse response is silent
CACHED = 512  # impulse responses in a process's cache
GRID = 512  # bands of a filter's frequency response
ORDERS = (2, 12)  # range of the order of a low-pass filter
FILTERS = ("butter", "cheby1", "cheby2", "ellip", "bessel_mag")
NARROW = 8000  # Hz, the sample rate of a telephone
STEPS = 8  # compression levels of a codec; few, because the delay of each level must be measured
PROBABILITIES = ("room", "microphone", "clip", "band", "codec", "packets", "level")


class Codec(NamedTuple):
    """A codec of libsndfile: container, encoding, sample rate in Hz, compression levels from weak to strong."""

    form: str
    subtype: str
    rate: int
    levels: tuple[float, float] | None
    mode: str | None = None  # bit rate mode


CODECS = {
    "mp3": Codec("MP3", "MPEG_LAYER_III", 16_000, (0.6, 0.95), "CONSTANT"),  # 64 to 16 kb/s
    "opus": Codec("OGG", "OPUS", 16_000, (0.8, 0.98)),  # 57 to 11 kb/s
    "vorbis": Codec("OGG", "VORBIS", 16_000, (0.0, 1.0)),  # 78 to 27 kb/s
    "gsm": Codec("WAV", "GSM610", NARROW, None),  # 13 kb/s
    "mulaw": Codec("WAV", "ULAW", NARROW, None),  # 64 kb/s
}


@dataclasses.dataclass(frozen=True)
class Chain:
    """Degrade a recording; `mixer` adds noise, the other fields are config section `degrade`.

    `room`, `microphone`, `clip`, `band`, `codec`, `packets` and `level` are probabilities. `rooms` are impulse
    responses at `rate` Hz. `soft`, `narrow` and `repeat` are shares of the clipped, band-limited and lossy examples.
    `codecs` lists codecs with weights, as in `mulaw:4,mp3:1`. Raises `UserError` for values outside their limits,
    unknown codecs, and impulse responses that are missing, too long or at another rate.
    """

    mixer: Mixer | None
    rate: int
    rooms: Manifest | None
    room: float
    early: float
    longest: float
    microphone: float
    equaliser: tuple[float, float]
    clip: float
    peak: tuple[float, float]
    soft: float
    band: float
    cutoff: tuple[float, float]
    narrow: float
    codec: float
    codecs: str
    compression: tuple[float, float]
    packets: float
    loss: tuple[float, float]
    packet: tuple[float, float]
    burst: tuple[float, float]
    repeat: float
    level: float
    gain: tuple[float, float]

    def __post_init__(self):
        for name in (*PROBABILITIES, "soft", "narrow", "repeat"):
            check_probability(f"degrade.{name}", getattr(self, name))
        for name, least, most in (
            ("equaliser", 0.0, 60.0),
            ("peak", 1e-3, 1.0),
            ("cutoff", 100.0, 1e6),
            ("compression", 0.0, 1.0),
            ("loss", 0.0, 0.9),
            ("packet", 1e-3, 1.0),
            ("burst", 1.0, 100.0),
            ("gain", -80.0, 40.0),
        ):
            check_range(f"degrade.{name}", getattr(self, name), least, most)
        if not (0 < self.early < self.longest <= LONGEST):
            raise UserError(
                f"config.degrade.early must be above 0 and below longest, and longest at most {LONGEST:g} s, "
                f"got {self.early} and {self.longest}"
            )
        weights(self.codecs)
        if self.room and self.rooms is None:
            raise UserError(
                f"config.degrade.room is {self.room}, but there are no impulse responses; "
                "set --config.degrade.rooms=rooms.parquet, a manifest of `sfjax prepare rooms`"
            )
        if self.rooms is not None:
            _check_rooms(self.rooms, self.rate)

    @property
    def on(self) -> bool:
        """Whether any degradation except noise can happen."""
        return any(getattr(self, name) for name in PROBABILITIES)

    def __call__(
        self,
        speech: Float[np.ndarray, " samples"],
        talk: Manifest | None,
        speaker: str | None,
        rng: np.random.Generator,
    ) -> tuple[Float[np.ndarray, " samples"], Float[np.ndarray, " samples"]]:
        """Return the target and its degraded recording.

        Babble comes from speakers of `talk` other than `speaker`; without a mixer `talk` is not needed.
        """

        def happens(probability: float) -> bool:
            return probability > 0 and rng.random() < probability

        rate, target, wav = self.rate, speech, speech
        if happens(self.room):
            assert self.rooms is not None  # checked in __post_init__
            row = self.rooms.row(int(rng.integers(len(self.rooms))))
            impulse_response = response(row["path"], row["start"], row["frames"], rate, self.longest)
            target, wav = reverberate(speech, impulse_response, early=round(self.early * rate))
        if self.mixer is not None:
            assert talk is not None  # babble needs other speakers
            target, wav = self.mixer.mixed(wav, rate, talk, speaker, rng, target=target)
        if happens(self.microphone):
            wav = shaped(wav, equaliser(rate, rng.uniform(*self.equaliser), rng))
        if happens(self.clip):
            wav = (soft_clipped if happens(self.soft) else clipped)(wav, rng.uniform(*self.peak))
        if happens(self.band):
            wav = narrowed(wav, rate) if happens(self.narrow) else shaped(wav, low_pass(rate, self.cutoff, rng))
        if happens(self.codec):
            names, shares = zip(*weights(self.codecs), strict=True)
            wav = coded(wav, rate, str(rng.choice(names, p=shares)), compression=rng.uniform(*self.compression))
        if happens(self.packets):
            size = max(1, round(rng.uniform(*self.packet) * rate))
            lost = losses(-(-len(wav) // size), rng.uniform(*self.loss), rng.uniform(*self.burst), rng)
            wav = (repeated if happens(self.repeat) else zeroed)(wav, lost, size)
        scale = 10 ** (rng.uniform(*self.gain) / 20) if happens(self.level) else 1.0
        peak = scale * max(np.abs(wav).max(initial=0.0), np.abs(target).max(initial=0.0))
        scale = np.float32(scale * min(1.0, CEILING / max(peak, CEILING)))
        return target * scale, wav * scale


# Room


def _check_rooms(rooms: Manifest, rate: int) -> None:
    """Raise `UserError` if an impulse response is too long or at another rate; files are not opened."""
    for i in np.flatnonzero(rooms.rates != rate)[:1]:
        row = rooms.row(int(i))
        raise UserError(f"{row['path']}: the impulse response must have {rate} Hz, got {row['rate']} Hz; resample it")
    for i in np.flatnonzero(rooms.seconds > LONGEST)[:1]:
        path, seconds = rooms.row(int(i))["path"], rooms.seconds[i]
        raise UserError(f"{path}: the impulse response must have at most {LONGEST:g} s, got {seconds:.1f} s; cut it")


@functools.lru_cache(maxsize=CACHED)
def response(path: str, start: int, frames: int, rate: int, longest: float) -> tuple[Float[np.ndarray, " taps"], int]:
    """Read an impulse response and return it with the sample at which its direct sound (its peak) arrives.

    It ends `longest` seconds after the direct sound. Raises `UserError` if it is silent or cannot be read.
    """
    wav, _ = audio.read(path, start=start, frames=frames, rate=rate)
    direct = int(np.argmax(np.abs(wav)))
    if abs(wav[direct]) < SILENT:
        raise UserError(f"{path}: the impulse response is silent; drop it from the manifest of rooms")
    return wav[: direct + round(longest * rate)], direct


def reverberate(
    speech: Float[np.ndarray, " samples"], heard: tuple[Float[np.ndarray, " taps"], int], *, early: int
) -> tuple[Float[np.ndarray, " samples"], Float[np.ndarray, " samples"]]:
    """Return the target and the reverberant speech of a room, both aligned to the direct sound.

    `heard` is a `response`. The target holds the direct sound and the `early` samples after it. Both are scaled by the
    energy of the target's part of the response, so that the target is about as loud as the speech.
    """
    wav, direct = heard
    early_part = wav[: direct + early]
    scale = np.copysign(1 / np.sqrt(np.sum(np.square(early_part, dtype=np.float64))), wav[direct]).astype(np.float32)
    target, reverberant = convolved(speech, early_part * scale, wav * scale)
    cut = slice(direct, direct + len(speech))
    return target[cut], reverberant[cut]


def convolved(wav: Float[np.ndarray, " samples"], *filters: Float[np.ndarray, " _"]) -> list[np.ndarray]:
    """Return the full convolution of `wav` with each filter, by overlap-add in blocks that fit the CPU cache."""
    taps = max(map(len, filters))
    whole = scipy.fft.next_fast_len(len(wav) + taps - 1, real=True)
    sizes = [2**power for power in range(13, 17) if 2 * taps <= 2**power < whole] or [whole]

    def block_count(size: int) -> int:
        return -(-len(wav) // (size - taps + 1))

    def cost(size: int) -> float:
        return block_count(size) * size * math.log2(size)

    size = min(sizes, key=cost)
    step, blocks = size - taps + 1, block_count(size)
    padded = np.zeros(blocks * step, np.float32)
    padded[: len(wav)] = wav
    spectra, results = _spectrum(padded.reshape(blocks, step), size), []
    for impulse_response in filters:
        pieces = np.asarray(scipy.fft.irfft(spectra * _spectrum(impulse_response, size), size, axis=-1))
        result = np.zeros(blocks * step + size, np.float32)
        for number, piece in enumerate(pieces):
            result[number * step : number * step + size] += piece
        results.append(result[: len(wav) + len(impulse_response) - 1])
    return results


def _spectrum(wav: np.ndarray, size: int) -> np.ndarray:
    return np.asarray(scipy.fft.rfft(np.asarray(wav, np.float32), size, axis=-1))


# Microphone and band


def shaped(
    wav: Float[np.ndarray, " samples"], gains: Float[np.ndarray, " bands"] | Complex[np.ndarray, " bands"]
) -> Float[np.ndarray, " samples"]:
    """Filter `wav` with a frequency response on an even grid of `GRID` + 1 points from 0 Hz to half the rate."""
    taps = np.roll(np.fft.irfft(gains), GRID)  # negative times come first
    return convolved(wav, taps)[0][GRID : GRID + len(wav)]


def equaliser(rate: int, depth: float, rng: np.random.Generator) -> Complex[np.ndarray, " bands"]:
    """Draw a smooth frequency response of minimum phase, uniform in ±`depth` dB at each octave, less the mean."""
    octaves = np.arange(math.log2(62.5), math.log2(rate / 2) + 0.5)
    gains = rng.uniform(-depth, depth, len(octaves))
    gains -= gains.mean()
    hertz = np.linspace(0, rate / 2, GRID + 1)
    curve = scipy.interpolate.PchipInterpolator(octaves, gains)
    decibels = curve(np.clip(np.log2(np.maximum(hertz, 1)), octaves[0], octaves[-1]))
    cepstrum = np.fft.irfft(decibels / 20 * math.log(10))
    cepstrum[1:GRID] *= 2
    cepstrum[GRID + 1 :] = 0
    return np.exp(np.fft.rfft(cepstrum))


def low_pass(rate: int, cutoff: tuple[float, float], rng: np.random.Generator) -> Float[np.ndarray, " bands"]:
    """Draw a low-pass filter and return its magnitude, which has no delay; `cutoff` is a range in Hz.

    The family is one of `FILTERS`, the order is in the range `ORDERS`. Cutoffs are limited to 95 % of half the sample
    rate.
    """
    family = FILTERS[int(rng.integers(len(FILTERS)))]
    order, hertz = int(rng.integers(ORDERS[0], ORDERS[1] + 1)), min(rng.uniform(*cutoff), 0.95 * rate / 2)
    ripple, floor = rng.uniform(0.05, 1), rng.uniform(40, 80)  # dB
    sections = scipy.signal.iirfilter(
        order,
        hertz,
        rp=ripple,
        rs=floor,
        btype="low",
        ftype=family,
        fs=rate,
        output="sos",
    )
    return np.abs(scipy.signal.sosfreqz(sections, np.linspace(0, math.pi, GRID + 1))[1])


def narrowed(wav: Float[np.ndarray, " samples"], rate: int) -> Float[np.ndarray, " samples"]:
    """Resample `wav` to 8 kHz and back."""
    return audio.resample(audio.resample(wav, rate, NARROW), NARROW, rate)[: len(wav)]


# Clipping


def clipped(wav: Float[np.ndarray, " samples"], share: float) -> Float[np.ndarray, " samples"]:
    """Clip `wav` at `share` of its peak."""
    limit = np.float32(share) * np.abs(wav).max(initial=0.0)
    return np.clip(wav, -limit, limit)


def soft_clipped(wav: Float[np.ndarray, " samples"], share: float) -> Float[np.ndarray, " samples"]:
    """Limit `wav` smoothly to `share` of its peak, by a hyperbolic tangent."""
    limit = np.maximum(np.float32(share) * np.abs(wav).max(initial=0.0), np.float32(SILENT))
    return limit * np.tanh(wav / limit)


# Codecs


@functools.lru_cache(maxsize=16)
def weights(codecs: str) -> tuple[tuple[str, float], ...]:
    """Return the codecs of a list such as `mulaw:4,mp3` with their probabilities; the default weight is 1.

    Raises `UserError` for an unknown codec, or a weight that is not a positive number.
    """
    by_name = {}
    for part in codecs.split(","):
        name, colon, weight = part.strip().partition(":")
        if name not in CODECS:
            raise UserError(f"config.degrade.codecs has no codec {name!r}; choose from {', '.join(CODECS)}")
        try:
            by_name[name] = float(weight) if colon else 1.0
        except ValueError:
            by_name[name] = math.nan
        if not 0 < by_name[name] < math.inf:
            raise UserError(f"config.degrade.codecs needs a weight above 0, got {part.strip()!r}; write {name}:1")
    total = sum(by_name.values())
    return tuple((name, weight / total) for name, weight in by_name.items())


def coded(
    wav: Float[np.ndarray, " samples"], rate: int, name: str, *, compression: float
) -> Float[np.ndarray, " samples"]:
    """Encode and decode `wav` by a codec of `CODECS`, without its delay; `compression` is from 0 (weak) to 1."""
    codec = CODECS[name]
    level = None
    if codec.levels is not None:
        low, high = codec.levels
        level = low + (high - low) * round(compression * (STEPS - 1)) / (STEPS - 1)
    resampled = audio.resample(wav, rate, codec.rate)
    scale = np.float32(max(1.0, np.abs(resampled).max(initial=0.0) / CEILING))  # encoders clip beyond full scale
    delay = _delay(name, level)
    decoded = _decoded(resampled / scale, codec, level)[delay : delay + len(resampled)] * scale
    decoded = np.pad(decoded, (0, len(resampled) - len(decoded)))
    return audio.resample(decoded, codec.rate, rate)[: len(wav)].astype(np.float32)


def _decoded(wav, codec, level):
    file = io.BytesIO()
    soundfile.write(
        file,
        wav,
        codec.rate,
        format=codec.form,
        subtype=codec.subtype,
        compression_level=level,
        bitrate_mode=codec.mode,
    )
    file.seek(0)
    return soundfile.read(file, dtype="float32")[0]


@functools.cache
def _delay(name: str, level: float | None) -> int:
    """Measure, once and on a voice-like sound, by how many samples a codec delays it at a compression level.

    MP3 has no delay at high bit rates, where the file says how much to cut, and 1105 samples at low bit rates.
    """
    codec = CODECS[name]
    time = np.arange(codec.rate) / codec.rate
    pitch = 110 + 60 * time
    buzz = scipy.signal.sawtooth(2 * np.pi * np.cumsum(pitch) / codec.rate)
    wav = (0.2 * buzz * np.sin(np.pi * 3 * time) ** 2).astype(np.float32)
    decoded = _decoded(wav, codec, level)
    lags = scipy.signal.correlate(decoded, wav, mode="full", method="fft")[len(wav) - 1 :]
    return int(np.argmax(lags[: codec.rate // 4]))


# Lost packets


def losses(count: int, share: float, burst: float, rng: np.random.Generator) -> Bool[np.ndarray, " packets"]:
    """Draw which of `count` packets are lost: a `share` of them, in bursts of `burst` packets on average.

    The lengths of bursts are geometric, their positions random with at least one packet between them.
    """
    remaining, sizes = round(share * count), []
    while remaining > 0:
        sizes.append(min(int(rng.geometric(1 / burst)), remaining))
        remaining -= sizes[-1]
    arrived = count - sum(sizes)
    while len(sizes) > arrived + 1:  # not enough packets to separate the bursts
        sizes.append(sizes.pop() + sizes.pop())
    # each burst comes before one of the packets that arrive, or after all
    positions = np.sort(rng.choice(arrived + 1, len(sizes), replace=False))
    lost = np.zeros(count, bool)
    for number, position in enumerate(positions):
        start = position + sum(sizes[:number])
        lost[start : start + sizes[number]] = True
    return lost


def zeroed(
    wav: Float[np.ndarray, " samples"], lost: Bool[np.ndarray, " packets"], size: int
) -> Float[np.ndarray, " samples"]:
    """Replace the lost packets of `size` samples by silence."""
    return np.where(np.repeat(lost, size)[: len(wav)], np.float32(0), wav)


def repeated(
    wav: Float[np.ndarray, " samples"], lost: Bool[np.ndarray, " packets"], size: int
) -> Float[np.ndarray, " samples"]:
    """Replace each lost packet by the last one that arrived, or by silence if none has arrived yet."""
    last = np.maximum.accumulate(np.where(lost, -1, np.arange(len(lost))))
    packets = np.pad(wav, (0, len(lost) * size - len(wav))).reshape(-1, size)
    return np.where(last[:, None] < 0, np.float32(0), packets[last]).reshape(-1)[: len(wav)]
