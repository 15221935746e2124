"""Read the waves of an example from a row of a manifest, or mix them from several rows.

You call a maker with a manifest, one of its rows, the largest number of samples of the example at `rate` Hz, the rate
and a random generator. It returns float32 waves of equal length by column. Problems with files raise `UserError`.
"""

from __future__ import annotations

import dataclasses
import functools
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyloudnorm
from jaxtyping import Float

from sfjax import audio
from sfjax.data.degrade import Chain
from sfjax.data.manifest import Manifest, read
from sfjax.data.noise_mixer import Mixer, check_probability, check_range, section_fields
from sfjax.errors import UserError
from sfjax.tasks import Task
from sfjax.tasks.separate import ALIGNMENT
from sfjax.text import phones

Waves = dict[str, np.ndarray]
Maker = Callable[[Manifest, dict[str, Any], int, int, np.random.Generator], Waves]

DRAWS = 8  # utterances to draw until one is as long as the example
MADE_OF = {  # optional manifest columns that a wave, Mels or labels are made from
    "noisy": ("noisy", "speaker"),
    "mixture": ("sources", "gains", "noise", "noise_gain", "speaker"),
    "enrolled": ("enrolment", "enrolment_start", "enrolment_frames"),
    "estimate": ("estimate",),
    "phones": ("phones", "lengths"),
    "tokens": ("phones", "lengths"),
}
CLIPPED, PEAK = 1.0, 0.9  # LibriMix scales a wave whose peak reaches CLIPPED down to PEAK


class Simulation(NamedTuple):
    """The config sections that describe how to make waves that a manifest lacks."""

    mix: Any
    degrade: Any
    mixture: Any
    enrolment: Any


def maker(task: Task, manifest: Manifest, *, spec: audio.MelSpec, simulation: Simulation, split: str | None) -> Maker:
    """Return the maker of examples of one `task` from the rows of `manifest`, at the sample rate of `spec`.

    Waves that the manifest lacks are made by `simulation`, with noise and impulse responses from rows of `split`.
    Predicted Mels and labels come from the manifest, at the hop of `spec`. Raises `UserError` if the manifest lacks
    something that the examples need.
    """
    names, columns = set(task.columns), set(manifest.columns)
    if "enrolled" in task.labels:
        return _enrolled(manifest, spec, simulation, split=split)
    if task.labels:
        if not {"phones", "lengths"} <= columns:
            raise UserError("the manifest has no columns 'phones' and 'lengths'; make one with `sfjax prepare align`")
        return Spoken(spec.hop, task.phones) if names else Timed(task.phones, task.labels["tokens"] / spec.hop)
    if task.predicted:
        if "estimate" not in columns:
            raise UserError("the manifest has no column 'estimate'; make one with `sfjax cache-mels`")
        sources = sum(name.startswith("source_") for name in names)
        return Estimated(Listed(sources) if sources else Recorded(True), spec.hop)
    if "mixture" in names:
        speakers = sum(name.startswith("source_") for name in names)
        return _mixed(speakers, manifest, simulation.mixture, split=split)
    if "noisy" in names and "noisy" not in columns:
        return degraded(split=split, mix=simulation.mix, degrade=simulation.degrade, rate=spec.sample_rate)
    return Recorded("noisy" in names)


def _enrolled(manifest, spec, simulation, *, split):
    """Return the maker of mixtures of two speakers behind an enrolment."""
    mixed = _mixed(2, manifest, simulation.mixture, split=split)
    if isinstance(mixed, Listed) and "enrolment" not in manifest.columns:
        raise UserError("the manifest has no column 'enrolment'; make it with `sfjax prepare mixtures --enrolment`")
    return Enrolled(mixed, ALIGNMENT * spec.hop, **dict(simulation.enrolment))


def _mixed(speakers, manifest, mixture, *, split):
    """Return the maker of mixtures: those that the manifest lists, or random ones by config section `mixture`."""
    if "sources" in manifest.columns:
        counts = manifest.source_counts
        if counts and speakers not in counts:
            listed = " or ".join(map(str, counts))
            raise UserError(
                f"the manifest's mixtures have {listed} speakers, but the task needs {speakers}; set "
                f"--config.task.speakers={min(counts)} or prepare mixtures with --speakers {speakers}"
            )
        return Listed(speakers)
    available = len(manifest.speakers)
    if available < speakers:
        raise UserError(f"a mixture needs {speakers} speakers, but the manifest has {available}; prepare more speech")
    noise = mixture["noise"]
    noise_rows = read(Path(noise), split=split, columns=()) if noise else None
    return Talk(speakers, noise_rows, **section_fields(mixture, without="noise"))


def degraded(*, split: str | None, mix: Any, degrade: Any, rate: int) -> Noised | Degraded:
    """Return the maker of pairs of clean and degraded speech at `rate` Hz, for the config sections `mix` and `degrade`.

    Rows of `split` are read from their manifests of noise and rooms. Raises `UserError` if both sections do nothing.
    """
    noise, rooms = mix["noise"], degrade["rooms"]
    noise_rows = read(Path(noise), split=split, columns=()) if noise else None
    mixer = Mixer(noise_rows, **section_fields(mix, without="noise")) if noise_rows is not None else None
    room_rows = read(Path(rooms), split=split, columns=()) if rooms else None
    chain = Chain(mixer, rate, room_rows, **section_fields(degrade, without="rooms"))
    if chain.on:
        return Degraded(chain)
    if mixer is None:
        raise UserError(
            "the manifest has no column 'noisy' and there is no noise to mix; set --config.mix.noise=noise.parquet"
        )
    return Noised(mixer)


def crop(
    row: dict[str, Any], samples: int, rate: int, rng: np.random.Generator
) -> Callable[[str], Float[np.ndarray, " samples"]]:
    """Return a function that reads one random crop, at most `samples` long at `rate` Hz, of any file of a row."""
    start, frames = crop_span(row, samples, rate, rng)
    return lambda path: audio.read(path, start=start, frames=frames, rate=rate)[0][:samples]


def crop_span(row: dict[str, Any], samples: int, rate: int, rng: np.random.Generator) -> tuple[int, int]:
    """Return start and length (samples of the file) of a random crop of a row, at most `samples` long at `rate` Hz."""
    frames = min(row["frames"], samples * row["rate"] // rate)
    return row["start"] + int(rng.integers(row["frames"] - frames + 1)), frames


@dataclasses.dataclass(frozen=True)
class Recorded:
    """The recording of a row and, if `noisy`, the noisy recording of the same utterance."""

    noisy: bool

    def __call__(self, manifest: Manifest, row: dict, samples: int, rate: int, rng: np.random.Generator) -> Waves:
        wave = crop(row, samples, rate, rng)
        if not self.noisy:
            return {"speech": wave(row["path"])}
        if not row["noisy"]:
            raise UserError(f"{row['path']}: the row has no noisy recording, but others have; prepare the pairs again")
        return {"speech": wave(row["path"]), "noisy": wave(row["noisy"])}


@dataclasses.dataclass(frozen=True)
class Noised:
    """A recording, and a noisy recording that `mixer` makes from it."""

    mixer: Mixer

    def __call__(self, manifest: Manifest, row: dict, samples: int, rate: int, rng: np.random.Generator) -> Waves:
        speech = crop(row, samples, rate, rng)(row["path"])
        speech, noisy = self.mixer(speech, rate, manifest, row["speaker"], rng)
        return {"speech": speech, "noisy": noisy}


@dataclasses.dataclass(frozen=True)
class Degraded:
    """A recording, and its degradation by a chain; rooms and the level change the clean recording, too."""

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
            raise UserError(f"{row['path']}: expected {self.speakers} speakers, got {len(row['sources'])}")
        start, frames = crop_span(row, samples, rate, rng)
        sources = [
            audio.read(path, start=start, frames=frames, rate=rate)[0][:samples] * np.float32(gain)
            for path, gain in zip(row["sources"], row["gains"], strict=True)
        ]
        mixture = np.sum(sources, axis=0)
        if row.get("noise"):
            noise, noise_start = audio.read(row["noise"], rate=rate)[0], start * rate // row["rate"]
            mixture = mixture + np.resize(np.roll(noise, -noise_start), len(mixture)) * np.float32(row["noise_gain"])
        return _mixture_waves(sources, mixture)


@dataclasses.dataclass(frozen=True)
class Estimated:
    """The waves of `inner` and their predicted Mels; the crop starts at a multiple of `hop` samples."""

    inner: Maker
    hop: int

    def __call__(self, manifest: Manifest, row: dict, samples: int, rate: int, rng: np.random.Generator) -> Waves:
        start, frames, first = _frame_crop(row, samples, rate, self.hop, rng)
        waves = self.inner(manifest, row | {"start": start, "frames": frames}, samples, rate, rng)
        count = -(-len(next(iter(waves.values()))) // self.hop)
        try:
            mels = np.load(row["estimate"], mmap_mode="r", allow_pickle=False)[:, first : first + count]
        except (OSError, ValueError) as error:
            raise UserError(f"{row['estimate']}: cannot be read ({error}); run `sfjax cache-mels` again") from None
        return waves | {"estimate": mels.astype(np.float32)}


@dataclasses.dataclass(frozen=True)
class Spoken:
    """The recording of a row and the phone number of each frame; the crop starts at a multiple of `hop` samples."""

    hop: int
    phones: tuple[str, ...]

    def __call__(self, manifest: Manifest, row: dict, samples: int, rate: int, rng: np.random.Generator) -> Waves:
        start, frames, first = _frame_crop(row, samples, rate, self.hop, rng)
        wave = audio.read(row["path"], start=start, frames=frames, rate=rate)[0][:samples]
        count = -(-len(wave) // self.hop)
        numbers = phones.by_frame(*_numbered_phones(row, self.phones))[first : first + count]
        if len(numbers) < count:
            raise UserError(f"{row['path']}: the phones end before the sound; run `sfjax prepare align` again")
        return {"speech": wave, "phones": numbers}


@dataclasses.dataclass(frozen=True)
class Timed:
    """A random part of a row's phones and their lengths in frames, at most `density` phones per sample."""

    phones: tuple[str, ...]
    density: float

    def __call__(self, manifest: Manifest, row: dict, samples: int, rate: int, rng: np.random.Generator) -> Waves:
        numbers, lengths = _numbered_phones(row, self.phones)
        most = round(samples * self.density)
        first = int(rng.integers(max(len(numbers) - most, 0) + 1))
        return {"tokens": numbers[first : first + most], "lengths": lengths[first : first + most]}


def _numbered_phones(row, inventory):
    """Return the numbers and the lengths in frames of a row's phones."""
    if not row["phones"]:
        raise UserError(f"{row['path']}: the row has no phones, but others have; run `sfjax prepare align` again")
    return phones.numbers(row["phones"], inventory), np.asarray(row["lengths"], np.int32)


def _frame_crop(row, samples, rate, hop, rng):
    """Return a random crop like `crop_span`, moved back to the start of a frame, and the number of this frame."""
    start, frames = crop_span(row, samples, rate, rng)
    first = round((start - row["start"]) * rate / row["rate"]) // hop
    return row["start"] + round(first * hop * row["rate"] / rate), frames, first


@dataclasses.dataclass(frozen=True)
class Enrolled:
    """Mixtures behind a recording of one voice, the enrolment; the target is the enrolment and this speaker's part.

    `mixed` lists or draws the mixtures; their first source is the target. The enrolment has a random length in
    `seconds`, a multiple of `unit` samples. For a listed mixture it is the beginning of the row's `enrolment`. For a
    drawn one it is a crop of another row of the speaker; of a speaker with one row, it is the row's beginning, and the
    mixture gets the rest. With probability `absent` the speaker of the enrolment is not in a drawn mixture, and the
    target is silence. `enrolled` is 1 on the frames of the enrolment, else 0; a frame has `unit` / `ALIGNMENT` samples.
    """

    mixed: Talk | Listed
    unit: int
    seconds: tuple[float, float]
    absent: float

    def __post_init__(self):
        check_probability("enrolment.absent", self.absent)
        check_range("enrolment.seconds", self.seconds, 0.5, 60.0)

    def __call__(self, manifest: Manifest, row: dict, samples: int, rate: int, rng: np.random.Generator) -> Waves:
        size = min(int(rng.uniform(*self.seconds) * rate), samples // 2) // self.unit * self.unit
        if isinstance(self.mixed, Talk):
            enrolment, waves = self._drawn(self.mixed, manifest, row, size, samples - size, rate, rng)
        else:
            enrolment = enrolment_of(row, rate)[:size]
            waves = self.mixed(manifest, row, samples - size, rate, rng)
        enrolment = enrolment[: len(enrolment) // self.unit * self.unit]
        if not len(enrolment):
            raise UserError(f"{row['path']}: no recording of its speaker is long enough for an enrolment; leave it out")
        hop = self.unit // ALIGNMENT
        enrolled = np.zeros(-(-(len(enrolment) + len(waves["mixture"])) // hop), np.int32)
        enrolled[: len(enrolment) // hop] = 1
        joined = {name: np.concatenate([enrolment, waves[name]]) for name in ("source_1", "mixture")}
        return {"speech": joined["source_1"], "mixture": joined["mixture"], "enrolled": enrolled}

    def _drawn(self, talk, manifest, row, size, samples, rate, rng):
        """Return an enrolment of `size` samples and the waves of a mixture of at most `samples` samples."""
        absent = bool(rng.random() < self.absent)
        voice, row = (row, row) if absent else self._voice(manifest, row, -(-size * row["rate"] // rate), rng)
        rows = talk.rows(manifest, row, talk.speakers + absent, samples / rate, rng)
        waves = talk.mixed(rows[absent:], samples, rate, rng)
        enrolment = crop(voice, size, rate, rng)(voice["path"])
        enrolment = enrolment * _gain_to_loudness(enrolment, rate, rng.uniform(*talk.loudness))
        return enrolment, waves | ({"source_1": np.zeros_like(waves["source_1"])} if absent else {})

    def _voice(self, manifest, row, frames, rng):
        """Return another row of the speaker of `row`, and `row`; or the first `frames` of `row`, and its rest."""
        if row["speaker"] is not None:
            same = np.flatnonzero(manifest.speaker_codes == manifest.speakers.index(row["speaker"]))
            for index in rng.permutation(same)[:2]:
                other = manifest.row(int(index))
                if (other["path"], other["start"]) != (row["path"], row["start"]):
                    return other, row
        frames = min(frames, row["frames"] // 2)
        return row | {"frames": frames}, row | {"start": row["start"] + frames, "frames": row["frames"] - frames}


def enrolment_of(row: dict[str, Any], rate: int) -> Float[np.ndarray, " samples"]:
    """Read the enrolment of a listed mixture, at `rate` Hz."""
    return audio.read(row["enrolment"], start=row["enrolment_start"], frames=row["enrolment_frames"], rate=rate)[0]


@dataclasses.dataclass(frozen=True)
class Talk:
    """Mixtures of different speakers, by the rules of LibriMix (arXiv 2005.11262), with noise if it is given.

    Noise is added with `probability`. The loudness of sources is uniform in `loudness`, of noise in `noise_loudness`
    (LUFS, ITU-R BS.1770). The mixture is as long as the shortest source; neither the mixture nor a source clips. The
    row's utterance is the first source. For every other source, a few utterances of other speakers are drawn until one
    is as long as the example; if none is, the longest is used.
    """

    speakers: int
    noise: Manifest | None
    probability: float
    loudness: tuple[float, float]
    noise_loudness: tuple[float, float]

    def __post_init__(self):
        check_probability("mixture.probability", self.probability)

    def __call__(self, manifest: Manifest, row: dict, samples: int, rate: int, rng: np.random.Generator) -> Waves:
        return self.mixed(self.rows(manifest, row, self.speakers, samples / rate, rng), samples, rate, rng)

    def rows(self, manifest: Manifest, row: dict, count: int, seconds: float, rng: np.random.Generator) -> list[dict]:
        """Return `row` and rows of other speakers, `count` in all, each `seconds` long if a few draws find one."""
        rows = [row]
        while len(rows) < count:
            rows.append(self.other(manifest, rows, seconds, rng))
        return rows

    def mixed(self, rows: list[dict], samples: int, rate: int, rng: np.random.Generator) -> Waves:
        """Return a mixture of one crop of each row, with noise if given."""
        waves = [crop(source, samples, rate, rng)(source["path"]) for source in rows]
        length = min(map(len, waves))
        waves = [wave[:length] for wave in waves]
        if self.noise is not None and (self.probability >= 1 or rng.random() < self.probability):
            noise = self.noise.row(int(rng.integers(len(self.noise))))
            waves.append(np.resize(crop(noise, length, rate, rng)(noise["path"]), length))
        waves = [wave * gain for wave, gain in zip(waves, self.gains(waves, rate, rng), strict=True)]
        return _mixture_waves(waves[: self.speakers], np.sum(waves, axis=0))

    def gains(self, waves: list[np.ndarray], rate: int, rng: np.random.Generator) -> list[np.float32]:
        """Return the gain of each source, and of the noise if it follows them."""
        ranges = [self.loudness] * self.speakers + [self.noise_loudness]
        gains = [_gain_to_loudness(wave, rate, rng.uniform(*span)) for wave, span in zip(waves, ranges, strict=False)]
        peak = np.abs(np.sum([wave * gain for wave, gain in zip(waves, gains, strict=True)], axis=0)).max(initial=0.0)
        return [gain * np.float32(PEAK / peak) for gain in gains] if peak > PEAK else gains

    def other(self, manifest: Manifest, rows: list[dict], seconds: float, rng: np.random.Generator) -> dict[str, Any]:
        """Draw a row of a speaker who is not in `rows`, at least `seconds` long if one of a few draws is."""
        if unnamed := [row["path"] for row in rows if row["speaker"] is None]:
            raise UserError(f"{unnamed[0]}: its row has no speaker, so it cannot be mixed; add the speaker")
        codes, used_codes = manifest.speaker_codes, {manifest.speakers.index(row["speaker"]) for row in rows}
        best = None
        for index in map(int, rng.integers(len(manifest), size=DRAWS)):
            if codes[index] >= 0 and codes[index] not in used_codes:
                if best is None or manifest.seconds[index] > manifest.seconds[best]:
                    best = index
                if manifest.seconds[index] >= seconds:
                    break
        if best is None:  # most rows are of the speakers in `rows`
            others = np.flatnonzero((codes >= 0) & ~np.isin(codes, list(used_codes)))
            best = int(others[rng.integers(len(others))])
        return manifest.row(best)


def loudness(wav: Float[np.ndarray, " samples"], rate: int) -> float:
    """Return the integrated loudness in LUFS (ITU-R BS.1770-4); −inf for silence. Waves below 0.4 s are repeated."""
    least = -(-2 * rate // 5)
    with warnings.catch_warnings(), np.errstate(divide="ignore"):
        warnings.simplefilter("ignore")
        return float(_meter(rate).integrated_loudness(wav if len(wav) > least else np.resize(wav, least + 1)))


@functools.cache
def _meter(rate: int) -> Any:
    return pyloudnorm.Meter(rate)


def _gain_to_loudness(wav, rate, target):
    """Return the gain that brings `wav` to `target` LUFS, or to `PEAK` where it would clip; 1 for silence."""
    level = loudness(wav, rate)
    if not np.isfinite(level):
        return np.float32(1)
    gain, peak = 10 ** ((target - level) / 20), np.abs(wav).max()
    return np.float32(PEAK / peak if gain * peak >= CLIPPED else gain)


def _mixture_waves(sources, mixture):
    """Return sources and their mixture as float32 waves by column."""
    waves = {f"source_{number}": wave for number, wave in enumerate(sources, 1)}
    return {name: wave.astype(np.float32) for name, wave in (waves | {"mixture": mixture}).items()}
