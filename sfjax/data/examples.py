"""The waveforms of one example: read from a manifest's row, or mixed from several rows while they are read.

A maker is called with a manifest, one of its rows, the samples that the example has room for at `rate` Hz, and a
random generator; it returns float32 waves of one length by column. Whatever is wrong with a file is a `UserError`.
"""

from __future__ import annotations

import dataclasses
import functools
import warnings
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyloudnorm
from jaxtyping import Float

from sfjax import audio
from sfjax.data.degrade import Chain
from sfjax.data.manifest import Manifest, read
from sfjax.data.mixing import Mixer
from sfjax.errors import UserError
from sfjax.text import phones

Waves = dict[str, np.ndarray]
Maker = Callable[[Manifest, dict[str, Any], int, int, np.random.Generator], Waves]

DRAWS = 8  # speakers looked at for one who speaks as long as the example has room
MADE_OF = {  # columns of a manifest, beside those of every one, that go into a wave, into Mels or into labels
    "noisy": ("noisy", "speaker"),
    "mixture": ("sources", "gains", "noise", "noise_gain", "speaker"),
    "estimate": ("estimate",),
    "phones": ("phones", "lengths"),
    "tokens": ("phones", "lengths"),
}
CLIPPED, PEAK = 1.0, 0.9  # LibriMix scales a wave that reaches the first down to the second


def maker(
    columns: Iterable[str], predicted: Iterable[str], labels: Mapping[str, float], manifest: Manifest, *,
    split: str | None, mix: Any, degrade: Any, mixture: Any, rate: int, hop: int, phones: tuple[str, ...],
) -> Maker:  # fmt: skip
    """What makes examples with `columns` of the rows of `manifest`; config sections `mix`, `degrade` and `mixture`.

    Noise and impulse responses at `rate` Hz are read from rows of `split`. Where Mels are to be `predicted`, whose hop
    is that many samples, they are the manifest's; so are `labels`, numbers of the inventory `phones`. `UserError` if
    the manifest lacks what is needed.
    """
    names = set(columns)
    if labels:
        if not {"phones", "lengths"} <= set(manifest.columns):
            raise UserError("the manifest has no columns 'phones' and 'lengths'; make one with `sfjax prepare align`")
        return Spoken(hop, phones) if names else Timed(phones, labels["tokens"] / hop)
    if predicted:
        if "estimate" not in manifest.columns:
            raise UserError("the manifest has no column 'estimate'; make one with `sfjax predict`")
        sources = sum(name.startswith("source_") for name in names)
        return Estimated(Listed(sources) if sources else Recorded(True), hop)
    if "mixture" in names:
        speakers = sum(name.startswith("source_") for name in names)
        if "sources" in manifest.columns:
            counts = manifest.source_counts
            if counts and speakers not in counts:
                listed = " or ".join(map(str, counts))
                raise UserError(
                    f"the manifest's mixtures have {listed} speakers, the task wants {speakers}; set "
                    f"--config.task.speakers={min(counts)} or prepare mixtures with --speakers {speakers}"
                )
            return Listed(speakers)
        known = len(manifest.speakers)
        if known < speakers:
            raise UserError(f"a mixture wants {speakers} speakers, the manifest knows {known}; prepare more speech")
        options = dict(mixture)
        noise = options.pop("noise")
        return Talk(speakers, read(Path(noise), split=split, columns=()) if noise else None, **options)
    if "noisy" in names and "noisy" not in manifest.columns:
        return degraded(split=split, mix=mix, degrade=degrade, rate=rate)
    return Recorded("noisy" in names)


def degraded(*, split: str | None, mix: Any, degrade: Any, rate: int) -> Noised | Degraded:
    """Makes pairs of clean speech at `rate` Hz; config sections `mix` and `degrade`, whose manifests' `split` is read.

    `UserError` if neither has anything to do.
    """
    options, noise = dict(mix), mix["noise"]
    options["noise"] = read(Path(noise), split=split, columns=()) if noise else None
    mixer = Mixer(**options) if noise else None
    options, rooms = dict(degrade), degrade["rooms"]
    options["rooms"] = read(Path(rooms), split=split, columns=()) if rooms else None
    chain = Chain(mixer, rate, **options)
    if chain.on:
        return Degraded(chain)
    if mixer is None:
        raise UserError("the manifest has no column 'noisy' and no noise to mix; set --config.mix.noise=noise.parquet")
    return Noised(mixer)


def crop(
    row: dict[str, Any], samples: int, rate: int, rng: np.random.Generator
) -> Callable[[str], Float[np.ndarray, " samples"]]:
    """A function that reads the same random crop, at most `samples` long at `rate` Hz, of any file as long as a row."""
    start, frames = place(row, samples, rate, rng)
    return lambda path: audio.read(path, start=start, frames=frames, rate=rate)[0][:samples]


def place(row: dict[str, Any], samples: int, rate: int, rng: np.random.Generator) -> tuple[int, int]:
    """Where a random crop of a row, at most `samples` long at `rate` Hz, starts, and its length, in the file's own."""
    frames = min(row["frames"], samples * row["rate"] // rate)
    return row["start"] + int(rng.integers(row["frames"] - frames + 1)), frames


@dataclasses.dataclass(frozen=True)
class Recorded:
    """The recording of a row, with the noisy one of the same utterance if that is wanted."""

    noisy: bool

    def __call__(self, manifest: Manifest, row: dict, samples: int, rate: int, rng: np.random.Generator) -> Waves:
        wave = crop(row, samples, rate, rng)
        if not self.noisy:
            return {"speech": wave(row["path"])}
        if not row["noisy"]:
            raise UserError(f"{row['path']}: its row has no noisy recording, others have; prepare the pairs again")
        return {"speech": wave(row["path"]), "noisy": wave(row["noisy"])}


@dataclasses.dataclass(frozen=True)
class Noised:
    """A recording and a noisy one mixed from it."""

    mixer: Mixer

    def __call__(self, manifest: Manifest, row: dict, samples: int, rate: int, rng: np.random.Generator) -> Waves:
        speech = crop(row, samples, rate, rng)(row["path"])
        speech, noisy = self.mixer(speech, rate, manifest, row["speaker"], rng)
        return {"speech": speech, "noisy": noisy}


@dataclasses.dataclass(frozen=True)
class Degraded:
    """A recording and what a chain of degradations makes of it; a room and the level change the recording, too."""

    chain: Chain

    def __call__(self, manifest: Manifest, row: dict, samples: int, rate: int, rng: np.random.Generator) -> Waves:
        speech, noisy = self.chain(crop(row, samples, rate, rng)(row["path"]), manifest, row["speaker"], rng)
        return {"speech": speech, "noisy": noisy}


@dataclasses.dataclass(frozen=True)
class Listed:
    """The mixtures that a manifest lists: the sum of a row's `sources` and `noise`, each times its gain.

    Noise that is shorter than its mixture is repeated.
    """

    speakers: int

    def __call__(self, manifest: Manifest, row: dict, samples: int, rate: int, rng: np.random.Generator) -> Waves:
        if len(row["sources"]) != self.speakers:
            raise UserError(f"{row['path']}: expected {self.speakers} speakers, found {len(row['sources'])}")
        start, frames = place(row, samples, rate, rng)
        read = lambda path: audio.read(path, start=start, frames=frames, rate=rate)[0][:samples]
        sources = [read(path) * np.float32(gain) for path, gain in zip(row["sources"], row["gains"], strict=True)]
        mixture = np.sum(sources, axis=0)
        if row.get("noise"):
            noise, first = audio.read(row["noise"], rate=rate)[0], start * rate // row["rate"]
            mixture = mixture + np.resize(np.roll(noise, -first), len(mixture)) * np.float32(row["noise_gain"])
        return _named(sources, mixture)


@dataclasses.dataclass(frozen=True)
class Estimated:
    """What `inner` reads, and the predicted Mels of it: the crop starts with a frame of `hop` samples."""

    inner: Maker
    hop: int

    def __call__(self, manifest: Manifest, row: dict, samples: int, rate: int, rng: np.random.Generator) -> Waves:
        start, frames, first = _on_frames(row, samples, rate, self.hop, rng)
        waves = self.inner(manifest, row | {"start": start, "frames": frames}, samples, rate, rng)
        count = -(-len(next(iter(waves.values()))) // self.hop)
        try:
            mels = np.load(row["estimate"], mmap_mode="r", allow_pickle=False)[:, first : first + count]
        except (OSError, ValueError) as error:
            raise UserError(f"{row['estimate']}: cannot be read ({error}); predict it again") from None
        return waves | {"estimate": mels.astype(np.float32)}


@dataclasses.dataclass(frozen=True)
class Spoken:
    """The recording of a row and the number of each frame's phone: the crop starts with a frame of `hop` samples."""

    hop: int
    phones: tuple[str, ...]

    def __call__(self, manifest: Manifest, row: dict, samples: int, rate: int, rng: np.random.Generator) -> Waves:
        start, frames, first = _on_frames(row, samples, rate, self.hop, rng)
        wave = audio.read(row["path"], start=start, frames=frames, rate=rate)[0][:samples]
        spoken = phones.by_frame(*_phones(row, self.phones))[first : first + -(-len(wave) // self.hop)]
        if len(spoken) < -(-len(wave) // self.hop):
            raise UserError(f"{row['path']}: its phones end before its sound does; run `sfjax prepare align` again")
        return {"speech": wave, "phones": spoken}


@dataclasses.dataclass(frozen=True)
class Timed:
    """The phones of a row and how many frames each lasts: a random part of them, `density` to a sample at most."""

    phones: tuple[str, ...]
    density: float

    def __call__(self, manifest: Manifest, row: dict, samples: int, rate: int, rng: np.random.Generator) -> Waves:
        numbers, lengths = _phones(row, self.phones)
        room = round(samples * self.density)
        first = int(rng.integers(max(len(numbers) - room, 0) + 1))
        return {"tokens": numbers[first : first + room], "lengths": lengths[first : first + room]}


def _phones(row, inventory):
    """The numbers and lengths of a row's phones."""
    if not row["phones"]:
        raise UserError(f"{row['path']}: its row has no phones, others have; run `sfjax prepare align` again")
    return phones.numbers(row["phones"], inventory), np.asarray(row["lengths"], np.int32)


def _on_frames(row, samples, rate, hop, rng):
    """A random crop as `place` finds it, moved back to the start of a frame, and the number of that frame."""
    start, frames = place(row, samples, rate, rng)
    first = round((start - row["start"]) * rate / row["rate"]) // hop
    return row["start"] + round(first * hop * row["rate"] / rate), frames, first


@dataclasses.dataclass(frozen=True)
class Talk:
    """Mixtures of different speakers, and noise if there is any, by the rules of LibriMix (arXiv 2005.11262).

    Sources have a loudness uniform in `loudness`, the noise in `noise_loudness` (LUFS, ITU-R BS.1770), the mixture is
    as long as the shortest source and neither it nor a source clips. The row is the first speaker; of the others a few
    utterances are drawn until one is as long as the room, else the longest is taken.
    """

    speakers: int
    noise: Manifest | None
    loudness: tuple[float, float]
    noise_loudness: tuple[float, float]

    def __call__(self, manifest: Manifest, row: dict, samples: int, rate: int, rng: np.random.Generator) -> Waves:
        rows = [row]
        while len(rows) < self.speakers:
            rows.append(self.other(manifest, rows, samples / rate, rng))
        waves = [crop(one, samples, rate, rng)(one["path"]) for one in rows]
        length = min(map(len, waves))
        waves = [wave[:length] for wave in waves]
        if self.noise is not None:
            one = self.noise.row(int(rng.integers(len(self.noise))))
            waves.append(np.resize(crop(one, length, rate, rng)(one["path"]), length))
        waves = [wave * gain for wave, gain in zip(waves, self.gains(waves, rate, rng), strict=True)]
        return _named(waves[: self.speakers], np.sum(waves, axis=0))

    def gains(self, waves: list[np.ndarray], rate: int, rng: np.random.Generator) -> list[np.float32]:
        """The factor of each source, and of the noise behind them, by which they mix."""
        ranges = [self.loudness] * self.speakers + [self.noise_loudness]
        gains = [_gain(wave, rate, rng.uniform(*span)) for wave, span in zip(waves, ranges, strict=False)]
        peak = np.abs(np.sum([wave * gain for wave, gain in zip(waves, gains, strict=True)], axis=0)).max(initial=0.0)
        return [gain * np.float32(PEAK / peak) for gain in gains] if peak > PEAK else gains

    def other(self, manifest: Manifest, rows: list[dict], seconds: float, rng: np.random.Generator) -> dict[str, Any]:
        """A row of another speaker than those of `rows`, `seconds` long if such a one is soon found."""
        codes, there = manifest.speaker_codes, {manifest.speakers.index(row["speaker"]) for row in rows}
        best = None
        for number in map(int, rng.integers(len(manifest), size=DRAWS)):
            if codes[number] >= 0 and codes[number] not in there:
                if best is None or manifest.seconds[number] > manifest.seconds[best]:
                    best = number
                if manifest.seconds[number] >= seconds:
                    break
        if best is None:  # most rows are of one speaker
            others = np.flatnonzero((codes >= 0) & ~np.isin(codes, list(there)))
            best = int(others[rng.integers(len(others))])
        return manifest.row(best)


def loudness(wav: Float[np.ndarray, " samples"], rate: int) -> float:
    """The integrated loudness in LUFS (ITU-R BS.1770-4); −inf for silence. Waves below 0.4 s are repeated."""
    least = -(-2 * rate // 5)
    with warnings.catch_warnings(), np.errstate(divide="ignore"):
        warnings.simplefilter("ignore")
        return float(_meter(rate).integrated_loudness(wav if len(wav) > least else np.resize(wav, least + 1)))


@functools.cache
def _meter(rate: int) -> Any:
    return pyloudnorm.Meter(rate)


def _gain(wav, rate, target):
    """What brings `wav` to a loudness of `target`, or to a peak of `PEAK` where that would clip; 1 for silence."""
    found = loudness(wav, rate)
    if not np.isfinite(found):
        return np.float32(1)
    gain, peak = 10 ** ((target - found) / 20), np.abs(wav).max()
    return np.float32(PEAK / peak if gain * peak >= CLIPPED else gain)


def _named(sources, mixture):
    waves = {f"source_{number}": wave for number, wave in enumerate(sources, 1)}
    return {name: wave.astype(np.float32) for name, wave in (waves | {"mixture": mixture}).items()}
