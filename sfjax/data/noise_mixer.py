"""Mix noise files or babble into speech while the loader reads it, at an SNR between active levels."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
from jaxtyping import Float

from sfjax import audio
from sfjax.data.manifest import Manifest
from sfjax.errors import UserError

BLOCK = 0.02  # seconds over which a level is measured
RANGE = 40.0  # dB below the loudest block at which a block no longer counts as active
CEILING = 0.99  # the largest sample after mixing


def active_level(wav: Float[np.ndarray, " samples"], rate: int) -> float:
    """Return the root mean square of the active blocks of `wav` in dB of full scale; −inf for digital silence.

    A block of 20 ms is active within 40 dB of the loudest. Silence around a clip or between clicks thus does not count.
    """
    size = max(1, int(BLOCK * rate))
    blocks = wav[: max(len(wav) // size, 1) * size]
    power = np.square(blocks, dtype=np.float64).reshape(-1, min(size, len(wav))).mean(axis=1)
    if power.max() <= 0:
        return -np.inf
    return float(10 * np.log10(power[power > power.max() * 10 ** (-RANGE / 10)].mean()))


def at_snr(
    speech: Float[np.ndarray, " samples"],
    noise: Float[np.ndarray, " samples"],
    snr: float,
    *,
    speech_level: float,
    noise_level: float,
) -> Float[np.ndarray, " samples"]:
    """Add `noise` to `speech`, scaled so that their active levels (dB) differ by `snr` dB; no change for silence."""
    if not np.isfinite([speech_level, noise_level]).all():
        return speech.copy()
    return speech + noise * np.float32(10 ** ((speech_level - snr - noise_level) / 20))


def section_fields(section: Any, *, without: str) -> dict[str, Any]:
    """Return the fields of a config section as keyword arguments, except the field `without`."""
    return {name: value for name, value in dict(section).items() if name != without}


def check_probability(name: str, value: float) -> None:
    """Raise `UserError` unless the config field `name` is a number from 0 to 1."""
    if not 0 <= value <= 1:
        raise UserError(f"config.{name} must be a probability from 0 to 1, got {value}")


def check_range(name: str, span: tuple[float, float], least: float, most: float) -> None:
    """Raise `UserError` unless the config field `name` is a range (low, high) between `least` and `most`."""
    low, high = span
    if not least <= low <= high <= most:
        raise UserError(
            f"config.{name} must be a range (low, high) between {least:g} and {most:g}, got ({low}, {high})"
        )


@dataclasses.dataclass(frozen=True)
class Mixer:
    """Make the noisy recording of a clean one: noise files, or babble with probability `babble`, at a random SNR.

    Noise is added with `probability`, else the recording stays clean. `snr` and `gain` are uniform ranges in dB; the
    gain changes speech and mixture equally. Babble is the sum of `talkers` other speakers of the speech manifest at
    equal levels. `reach` is how many seconds of a noise file are read to measure its level. Raises `UserError` for
    invalid probabilities and ranges.
    """

    noise: Manifest
    probability: float
    snr: tuple[float, float]
    gain: tuple[float, float]
    babble: float
    talkers: int
    reach: float

    def __post_init__(self):
        check_probability("mix.probability", self.probability)
        check_probability("mix.babble", self.babble)
        check_range("mix.snr", self.snr, -100.0, 100.0)
        check_range("mix.gain", self.gain, -100.0, 100.0)

    def __call__(
        self, speech: Float[np.ndarray, " samples"], rate: int, talk: Manifest, speaker: str | None, rng
    ) -> tuple[Float[np.ndarray, " samples"], Float[np.ndarray, " samples"]]:
        """Return the clean wave and its mixture, both after the random gain and within full scale."""
        return self.mixed(speech, rate, talk, speaker, rng, target=speech)

    def mixed(
        self,
        speech: Float[np.ndarray, " samples"],
        rate: int,
        talk: Manifest,
        speaker: str | None,
        rng: np.random.Generator,
        *,
        target: Float[np.ndarray, " samples"],
    ) -> tuple[Float[np.ndarray, " samples"], Float[np.ndarray, " samples"]]:
        """Return `target` and the mixture of `speech`, as `__call__` does; `speech` is reverberant, `target` dry."""
        noisy = speech
        if self.probability >= 1 or rng.random() < self.probability:
            noisy = self._noised(speech, rate, talk, speaker, rng)
        scale = 10 ** (rng.uniform(*self.gain) / 20)
        peak = max(np.abs(noisy).max(), np.abs(target).max()) * scale
        scale = np.float32(scale * min(1.0, CEILING / max(peak, CEILING)))
        return target * scale, noisy * scale

    def _noised(self, speech, rate, talk, speaker, rng):
        if rng.random() < self.babble:
            noise, level = self._babble(len(speech), rate, talk, speaker, rng)
        else:
            noise, level = self._clip(self.noise, int(rng.integers(len(self.noise))), len(speech), rate, rng)
        return at_snr(speech, noise, rng.uniform(*self.snr), speech_level=active_level(speech, rate), noise_level=level)

    def _clip(self, manifest, index, samples, rate, rng):
        """Return a random crop of a file, repeated if it is short, and the active level of a longer part around it."""
        row = manifest.row(index)
        reach_frames = -(-max(samples, int(self.reach * rate)) * row["rate"] // rate)
        frames = min(reach_frames, row["frames"])
        start = row["start"] + int(rng.integers(row["frames"] - frames + 1))
        wav, _ = audio.read(row["path"], start=start, frames=frames, rate=rate)
        level = active_level(wav, rate)
        if len(wav) < samples:
            wav = np.tile(wav, -(-samples // len(wav)))
        cut = int(rng.integers(len(wav) - samples + 1))
        return wav[cut : cut + samples], level

    def _babble(self, samples, rate, talk, speaker, rng):
        """Sum one recording of each of some other speakers; all speakers are equally likely, whatever their share."""
        names, codes = talk.speakers, talk.speaker_codes
        if not names:  # unknown speakers: every recording counts as another speaker
            names, codes = list(map(str, range(len(talk)))), np.arange(len(talk))
        total, count = np.zeros(samples, np.float32), 0
        for code in rng.permutation(len(names)):
            if count == self.talkers or names[code] == speaker:
                continue
            wav, level = self._clip(talk, int(rng.choice(np.flatnonzero(codes == code))), samples, rate, rng)
            if np.isfinite(level):
                total += wav * np.float32(10 ** (-level / 20))
                count += 1
        if count < self.talkers:
            raise UserError(
                f"babble needs {self.talkers} speakers other than {speaker}, found {count}; lower --config.mix.talkers"
            )
        return total, active_level(total, rate)
