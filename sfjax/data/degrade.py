"""Degradations of clean speech, which the loader applies while it reads.

The order is: room → noise → microphone → clipping → band limit → codec → lost packets → level. `Chain` applies each one
with its own probability and draws its strength from its own range; both are in config section `degrade`.
`sfjax.data.mixing.Mixer` adds noise, babble and music after the room, so the SNR counts the reverberant speech. Every
function takes and returns float32 waves of one length and uses only the random generator you pass.
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
from sfjax.data.mixing import CEILING, Mixer, check_probability, check_range
from sfjax.errors import UserError

LONGEST = 10.0  # seconds of an impulse response; what is longer is a recording
SILENT = 1e-6  # peak of an impulse response
CACHED = 512  # impulse responses that a process keeps
GRID = 512  # bands of a filter's frequency response
ORDERS = (2, 12)  # of a low-pass filter
FILTERS = ("butter", "cheby1", "cheby2", "ellip", "bessel_mag")
NARROW = 8000  # Hz, the sample rate of a telephone
STEPS = 8  # compression levels of a codec; few, because the delay of each is measured
PROBABILITIES = ("room", "microphone", "clip", "band", "codec", "packets", "level")


class Codec(NamedTuple):
    """A codec of libsndfile: container, encoding, sample rate in Hz, compression levels from weak to strong."""

    form: str
    subtype: str
    rate: int
    levels: tuple[float, float] | None
    mode: str | None = None  # of its bit rate


CODECS = {
    "mp3": Codec("MP3", "MPEG_LAYER_III", 16_000, (0.6, 0.95), "CONSTANT"),  # 64 to 16 kb/s
    "opus": Codec("OGG", "OPUS", 16_000, (0.8, 0.98)),  # 57 to 11 kb/s
    "vorbis": Codec("OGG", "VORBIS", 16_000, (0.0, 1.0)),  # 78 to 27 kb/s
    "gsm": Codec("WAV", "GSM610", NARROW, None),  # 13 kb/s
    "mulaw": Codec("WAV", "ULAW", NARROW, None),  # 64 kb/s
}


@dataclasses.dataclass(frozen=True)
class Chain:
    """Degrades a recording; fields are config section `degrade`, `mixer` adds noise.

    `room`, `microphone`, `clip`, `band`, `codec`, `packets` and `level` are probabilities. `rooms` are impulse
    responses at `rate` Hz. `soft`, `narrow` and `repeat` are shares of the clipped, band-limited and lossy examples.
    `codecs` lists codecs with weights, as in `mulaw:4,mp3:1`. `UserError` for values outside their limits, unknown
    codecs, and impulse responses that are missing, too long or at another rate.
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
            ("equaliser", 0.0, 60.0), ("peak", 1e-3, 1.0), ("cutoff", 100.0, 1e6), ("compression", 0.0, 1.0),
            ("loss", 0.0, 0.9), ("packet", 1e-3, 1.0), ("burst", 1.0, 100.0), ("gain", -80.0, 40.0),
        ):  # fmt: skip
            check_range(f"degrade.{name}", getattr(self, name), least, most)
        if not (0 < self.early < self.longest <= LONGEST):
            raise UserError(
                f"config.degrade.early has to be above 0 and below longest, which is at most {LONGEST:g} s, "
                f"got {self.early} and {self.longest}"
            )
        weights(self.codecs)
        if self.room and self.rooms is None:
            raise UserError(
                f"config.degrade.room is {self.room} and there are no impulse responses; "
                "set --config.degrade.rooms=rooms.parquet, which `sfjax prepare rooms` makes"
            )
        if self.rooms is not None:
            _check_rooms(self.rooms, self.rate)

    @property
    def on(self) -> bool:
        """Whether any degradation but noise can happen."""
        return any(getattr(self, name) for name in PROBABILITIES)

    def __call__(
        self,
        speech: Float[np.ndarray, " samples"],
        talk: Manifest | None,
        speaker: str | None,
        rng: np.random.Generator,
    ) -> tuple[Float[np.ndarray, " samples"], Float[np.ndarray, " samples"]]:
        """The target and its degraded recording; babble comes from `talk` without `speaker`.

        Without a mixer `talk` is not needed.
        """
        rate, target, wav = self.rate, speech, speech
        happens = lambda probability: probability > 0 and rng.random() < probability
        if happens(self.room):
            assert self.rooms is not None  # checked above
            row = self.rooms.row(int(rng.integers(len(self.rooms))))
            heard = response(row["path"], row["start"], row["frames"], rate, self.longest)
            target, wav = reverberate(speech, heard, early=round(self.early * rate))
        if self.mixer is not None:
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
        top = scale * max(np.abs(wav).max(initial=0.0), np.abs(target).max(initial=0.0))
        scale = np.float32(scale * min(1.0, CEILING / max(top, CEILING)))
        return target * scale, wav * scale


# Room


def _check_rooms(rooms: Manifest, rate: int) -> None:
    """`UserError` if an impulse response is too long or at another rate; their files are not opened."""
    for i in np.flatnonzero(rooms.rates != rate)[:1]:
        row = rooms.row(int(i))
        raise UserError(f"{row['path']}: the impulse response has {row['rate']} Hz, the run {rate}; resample it")
    for i in np.flatnonzero(rooms.seconds > LONGEST)[:1]:
        path, seconds = rooms.row(int(i))["path"], rooms.seconds[i]
        raise UserError(f"{path}: the impulse response has {seconds:.1f} s, at most {LONGEST:g} s are wanted; cut it")


@functools.lru_cache(maxsize=CACHED)
def response(path: str, start: int, frames: int, rate: int, longest: float) -> tuple[Float[np.ndarray, " taps"], int]:
    """An impulse response and the sample at which its direct sound (its peak) arrives.

    It ends `longest` seconds behind the direct sound. `UserError` if it is silent or cannot be read.
    """
    wav, _ = audio.read(path, start=start, frames=frames, rate=rate)
    direct = int(np.argmax(np.abs(wav)))
    if abs(wav[direct]) < SILENT:
        raise UserError(f"{path}: the impulse response is silent; drop it from the manifest of rooms")
    return wav[: direct + round(longest * rate)], direct


def reverberate(
    speech: Float[np.ndarray, " samples"], heard: tuple[Float[np.ndarray, " taps"], int], *, early: int
) -> tuple[Float[np.ndarray, " samples"], Float[np.ndarray, " samples"]]:
    """The target and the reverberant speech of a room, both aligned to the direct sound.

    The target holds the direct sound and the `early` samples behind it. Both are scaled alike, by the energy of the
    target's part of the response, so that the target is about as loud as the speech.
    """
    wav, direct = heard
    first = wav[: direct + early]
    scale = np.copysign(1 / np.sqrt(np.sum(np.square(first, dtype=np.float64))), wav[direct]).astype(np.float32)
    target, reverberant = convolved(speech, first * scale, wav * scale)
    cut = slice(direct, direct + len(speech))
    return target[cut], reverberant[cut]


def convolved(wav: Float[np.ndarray, " samples"], *filters: Float[np.ndarray, " _"]) -> list[np.ndarray]:
    """The full convolution of `wav` with each filter, by overlap and add of blocks that the processor's cache holds."""
    taps = max(map(len, filters))
    whole = scipy.fft.next_fast_len(len(wav) + taps - 1, real=True)
    sizes = [2**power for power in range(13, 17) if 2 * taps <= 2**power < whole] or [whole]
    count = lambda size: -(-len(wav) // (size - taps + 1))
    size = min(sizes, key=lambda size: count(size) * size * math.log2(size))
    step, blocks = size - taps + 1, count(size)
    padded = np.zeros(blocks * step, np.float32)
    padded[: len(wav)] = wav
    transform = lambda part: np.asarray(scipy.fft.rfft(np.asarray(part, np.float32), size, axis=-1))
    spectra, results = transform(padded.reshape(blocks, step)), []
    for one in filters:
        pieces = np.asarray(scipy.fft.irfft(spectra * transform(one), size, axis=-1))
        result = np.zeros(blocks * step + size, np.float32)
        for number, piece in enumerate(pieces):
            result[number * step : number * step + size] += piece
        results.append(result[: len(wav) + len(one) - 1])
    return results


# Microphone and band


def shaped(
    wav: Float[np.ndarray, " samples"], gains: Float[np.ndarray, " bands"] | Complex[np.ndarray, " bands"]
) -> Float[np.ndarray, " samples"]:
    """`wav` times a frequency response on an even grid of `GRID` + 1 from 0 Hz to half the rate."""
    taps = np.roll(np.fft.irfft(gains), GRID)  # what rings before the sound goes first
    return convolved(wav, taps)[0][GRID : GRID + len(wav)]


def equaliser(rate: int, depth: float, rng: np.random.Generator) -> Complex[np.ndarray, " bands"]:
    """A smooth random frequency response of minimum phase, uniform in ±`depth` dB at each octave, less their mean."""
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
    """The magnitude of a random low-pass filter, whose delay is thus removed; `cutoff` is a range in Hz.

    The family is one of `FILTERS`, its order one of `ORDERS`. Cutoffs above 95 % of half of the sample rate count
    as that.
    """
    family = FILTERS[int(rng.integers(len(FILTERS)))]
    order, hertz = int(rng.integers(ORDERS[0], ORDERS[1] + 1)), min(rng.uniform(*cutoff), 0.95 * rate / 2)
    ripple, floor = rng.uniform(0.05, 1), rng.uniform(40, 80)  # dB
    sections = scipy.signal.iirfilter(
        order, hertz, rp=ripple, rs=floor, btype="low", ftype=family, fs=rate, output="sos",
    )  # fmt: skip
    return np.abs(scipy.signal.sosfreqz(sections, np.linspace(0, math.pi, GRID + 1))[1])


def narrowed(wav: Float[np.ndarray, " samples"], rate: int) -> Float[np.ndarray, " samples"]:
    """`wav` at a sample rate of 8 kHz, and back."""
    return audio.resample(audio.resample(wav, rate, NARROW), NARROW, rate)[: len(wav)]


# Clipping


def clipped(wav: Float[np.ndarray, " samples"], share: float) -> Float[np.ndarray, " samples"]:
    """`wav` cut at `share` of its peak."""
    limit = np.float32(share) * np.abs(wav).max(initial=0.0)
    return np.clip(wav, -limit, limit)


def soft_clipped(wav: Float[np.ndarray, " samples"], share: float) -> Float[np.ndarray, " samples"]:
    """`wav` bent by a hyperbolic tangent towards `share` of its peak."""
    limit = np.maximum(np.float32(share) * np.abs(wav).max(initial=0.0), np.float32(SILENT))
    return limit * np.tanh(wav / limit)


# Codecs


@functools.lru_cache(maxsize=16)
def weights(codecs: str) -> tuple[tuple[str, float], ...]:
    """The codecs of `mulaw:4,mp3` with their probabilities; a weight that is not given is 1.

    `UserError` for an unknown codec, or a weight that is no positive number.
    """
    given = {}
    for part in codecs.split(","):
        name, colon, weight = part.strip().partition(":")
        if name not in CODECS:
            raise UserError(f"config.degrade.codecs has no codec {name!r}; choose from {', '.join(CODECS)}")
        try:
            given[name] = float(weight) if colon else 1.0
        except ValueError:
            given[name] = math.nan
        if not 0 < given[name] < math.inf:
            raise UserError(f"config.degrade.codecs wants a weight above 0, got {part.strip()!r}; write {name}:1")
    total = sum(given.values())
    return tuple((name, weight / total) for name, weight in given.items())


def coded(
    wav: Float[np.ndarray, " samples"], rate: int, name: str, *, compression: float
) -> Float[np.ndarray, " samples"]:
    """`wav` encoded and decoded by a codec of `CODECS`, its delay removed; `compression` from 0 (weak) to 1."""
    codec = CODECS[name]
    level = None
    if codec.levels is not None:
        low, high = codec.levels
        level = low + (high - low) * round(compression * (STEPS - 1)) / (STEPS - 1)
    given = audio.resample(wav, rate, codec.rate)
    scale = np.float32(max(1.0, np.abs(given).max(initial=0.0) / CEILING))  # encoders cut what is beyond full scale
    delay = _delay(name, level)
    decoded = _decoded(given / scale, codec, level)[delay : delay + len(given)] * scale
    decoded = np.pad(decoded, (0, len(given) - len(decoded)))
    return audio.resample(decoded, codec.rate, rate)[: len(wav)].astype(np.float32)


def _decoded(wav, codec, level):
    file = io.BytesIO()
    soundfile.write(
        file, wav, codec.rate, format=codec.form, subtype=codec.subtype, compression_level=level,
        bitrate_mode=codec.mode,
    )  # fmt: skip
    file.seek(0)
    return soundfile.read(file, dtype="float32")[0]


@functools.cache
def _delay(name: str, level: float | None) -> int:
    """By how many samples a codec delays a sound at a compression level: measured once, on a voice-like sound.

    MP3 has no delay at high bit rates, where its file says how much to cut, and 1105 samples at low ones.
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
    """Which of `count` packets are lost: a `share` of them, in bursts of `burst` packets on average.

    The lengths of bursts are geometric, their places random with at least one packet between them.
    """
    left, sizes = round(share * count), []
    while left > 0:
        sizes.append(min(int(rng.geometric(1 / burst)), left))
        left -= sizes[-1]
    kept = count - sum(sizes)
    while len(sizes) > kept + 1:  # no packet is left to stand between them
        sizes.append(sizes.pop() + sizes.pop())
    places = np.sort(rng.choice(kept + 1, len(sizes), replace=False))  # before which kept packet a burst stands
    lost = np.zeros(count, bool)
    for number, place in enumerate(places):
        start = place + sum(sizes[:number])
        lost[start : start + sizes[number]] = True
    return lost


def zeroed(
    wav: Float[np.ndarray, " samples"], lost: Bool[np.ndarray, " packets"], size: int
) -> Float[np.ndarray, " samples"]:
    """`wav` with silence in the place of the lost packets of `size` samples."""
    return np.where(np.repeat(lost, size)[: len(wav)], np.float32(0), wav)


def repeated(
    wav: Float[np.ndarray, " samples"], lost: Bool[np.ndarray, " packets"], size: int
) -> Float[np.ndarray, " samples"]:
    """`wav` with the last packet that arrived in the place of lost ones; silence where none has arrived yet."""
    last = np.maximum.accumulate(np.where(lost, -1, np.arange(len(lost))))
    packets = np.pad(wav, (0, len(lost) * size - len(wav))).reshape(-1, size)
    return np.where(last[:, None] < 0, np.float32(0), packets[last]).reshape(-1)[: len(wav)]
