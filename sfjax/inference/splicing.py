"""Splice new speech into a recording: find the words and samples that change, and keep all others bit for bit.

A recording is read and written in the sample type of its own encoding. Samples outside a change and its cross-fades are
copied, so they are unchanged in the array and, with a lossless encoding, in the file.
"""

from __future__ import annotations

import contextlib
import itertools
import math
import os
import re
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import soundfile
from jaxtyping import Float, Shaped

from sfjax import audio, audio_io
from sfjax.errors import UserError
from sfjax.overwrite import MARK

SampleType = Literal["int16", "int32", "float32", "float64"]  # of numpy and soundfile

# The sample type that holds the decoded samples of each encoding; other encodings are read as float32. Eight bits use
# the upper half of 16 bits, 24 bits the upper three quarters of 32.
TYPES: dict[str, SampleType] = {
    "PCM_U8": "int16",
    "PCM_S8": "int16",
    "PCM_16": "int16",
    "ULAW": "int16",
    "ALAW": "int16",
    "PCM_24": "int32",
    "PCM_32": "int32",
    "FLOAT": "float32",
    "DOUBLE": "float64",
}
LOSSLESS = set(TYPES) - {"ULAW", "ALAW"}
STEP = {"PCM_U8": 256, "PCM_S8": 256, "PCM_24": 256}  # distance of neighbouring values in that type
WIDEST: dict[SampleType, tuple[str, ...]] = {
    "int16": ("PCM_16",),
    "int32": ("PCM_32", "PCM_24"),
    "float32": ("FLOAT", "PCM_24"),
    "float64": ("DOUBLE", "PCM_24"),
}
SECONDS = r"\d{1,9}(?:\.\d*)?|\.\d+"
BLOCK = 2**16  # samples per write: libsndfile's Vorbis encoder keeps a whole write on the stack


# Which words and samples change


class Change(NamedTuple):
    """The words [first, end) of the old text, and the words of the new text that replace them."""

    old: tuple[int, int]
    new: tuple[int, int]


def changed(old: Sequence[str], new: Sequence[str]) -> Change:
    """Find the smallest span of words in which two texts differ; case and punctuation around words do not count.

    Raises `UserError` if nothing differs.
    """
    before, after = [_compared_form(word) for word in old], [_compared_form(word) for word in new]
    if before == after:
        raise UserError("expected a new text that differs from the old one, got the same words; change at least one")
    first = len(os.path.commonprefix([before, after]))
    same = len(os.path.commonprefix([before[first:][::-1], after[first:][::-1]]))
    return Change((first, len(old) - same), (first, len(new) - same))


def _compared_form(word):
    """Remove case and punctuation around a word; apostrophes inside it count, as `we're` is not `were`."""
    plain = unicodedata.normalize("NFKC", word).casefold().replace("\N{RIGHT SINGLE QUOTATION MARK}", "'")
    return re.sub(r"^[\W_]+|[\W_]+$", "", plain)


def gaps(wav: Shaped[np.ndarray, "samples ..."], *, shortest: int) -> list[tuple[int, int]]:
    """Find lost packets: runs [start, end) of at least `shortest` samples that are exactly zero in all channels."""
    if shortest < 1:
        raise UserError(f"expected gaps of at least 1 sample, got {shortest}; give a longer one")
    silent = (wav == 0).all(axis=tuple(range(1, wav.ndim)))
    edges = np.flatnonzero(np.diff(silent, prepend=False, append=False)).reshape(-1, 2)
    return [(start, end) for start, end in edges.tolist() if end - start >= shortest]


def read_gaps(text: str, rate: int, samples: int) -> list[tuple[int, int]]:
    """Read spans [start, end) in samples, sorted, from a list in seconds such as `1.20-1.45,3.0-3.5`.

    Raises `UserError` if the list is malformed, or if a span is empty, overlaps another or ends after `samples`.
    """
    spans = []
    for part in text.split(","):
        times = re.fullmatch(rf"\s*({SECONDS})\s*-\s*({SECONDS})\s*", part)
        if not times:
            raise UserError(f"expected gaps in seconds like 1.20-1.45,3.0-3.5, got {part.strip()!r}; write START-END")
        start, end = (round(float(time) * rate) for time in times.groups())
        if start >= end:
            raise UserError(f"expected a gap that ends after its start, got {part.strip()}; write START-END in seconds")
        if end > samples:
            longest = math.floor(1000 * samples / rate) / 1000
            raise UserError(f"expected gaps that end by {longest} s, got {part.strip()}; give an earlier end")
        spans.append((start, end))
    spans.sort()
    for (start, end), (later, _) in itertools.pairwise(spans):
        if later < end:
            raise UserError(
                f"expected gaps that do not overlap, got one at {start / rate:g}-{end / rate:g} s and one from "
                f"{later / rate:g} s; join them"
            )
    return spans


def merged(spans: Sequence[tuple[int, int]], *, apart: int) -> list[tuple[int, int]]:
    """Sort spans and join those with less than `apart` samples between them."""
    joined: list[tuple[int, int]] = []
    for start, end in sorted(spans):
        if joined and start - joined[-1][1] < apart:
            last_start, last_end = joined.pop()
            start, end = last_start, max(end, last_end)
        joined.append((start, end))
    return joined


# Splicing


class Piece(NamedTuple):
    """The mono `wave` in [-1, 1] that replaces the samples [start, end) of a recording.

    The wave begins `fade` samples before `start` and ends `fade` samples after `end`, or fewer at the ends of the
    recording; `context` counts them. The part between them is as long as the new speech.
    """

    start: int
    end: int
    wave: Float[np.ndarray, " length"]


def context(start: int, end: int, samples: int, *, fade: int) -> tuple[int, int]:
    """Return how many of the `samples` before `start` and after `end` the wave of a `Piece` covers."""
    return min(fade, start), min(fade, samples - end)


def splice(
    wav: Shaped[np.ndarray, "samples ..."], pieces: Sequence[Piece], *, fade: int
) -> Shaped[np.ndarray, "spliced ..."]:
    """Replace samples of a recording by pieces, in the recording's own sample type.

    - Samples before `start - fade` and from `end + fade` on are copied, bit for bit.
    - Within `fade` samples of either end the recording and the wave are cross-faded linearly. Both are nearly the same
      signal there, so the gains add up to 1.
    - Between the fades the result is the wave, the same in all channels. Integer samples are rounded and clipped.

    For each piece the length changes by `len(wave)` − its context − (`end` − `start`). Pieces must be at least
    2 · `fade` samples apart (`merged`). Raises ValueError if pieces do not fit.
    """
    parts, done = [], 0  # `done` samples of the recording are in `parts`
    scale = -int(np.iinfo(wav.dtype).min) if wav.dtype.kind == "i" else 1
    for start, end, wave in sorted(pieces, key=lambda piece: piece.start):
        if not 0 <= start <= end <= len(wav):
            raise ValueError(f"a piece must lie in the recording of {len(wav)} samples, got [{start}, {end})")
        before, after = context(start, end, len(wav), fade=fade)
        if start - before < done:
            raise ValueError(f"pieces must be {2 * fade} samples apart, got one at {start} after one to {done - fade}")
        if wave.ndim != 1 or len(wave) < before + after or not np.isfinite(wave).all():
            raise ValueError(f"a wave must be mono, finite and at least {before + after} samples, got {wave.shape}")
        old = np.zeros((len(wave), *wav.shape[1:]))
        old[:before], old[len(wave) - after :] = wav[start - before : start], wav[end : end + after]
        gain = np.concatenate([_rise(before), np.ones(len(wave) - before - after), _rise(after)[::-1]])
        columns = (-1, *[1] * (wav.ndim - 1))  # broadcasts over the channels
        new = (wave.astype(np.float64) * scale).reshape(columns)
        mixed = old + gain.reshape(columns) * (new - old)
        if wav.dtype.kind == "i":
            mixed = np.clip(np.rint(mixed), -scale, scale - 1)
        parts += [wav[done : start - before], mixed.astype(wav.dtype)]
        done = end + after
    return np.concatenate([*parts, wav[done:]])


def _rise(length):
    return np.arange(1, length + 1) / (length + 1)


# Files


def read(path: str | os.PathLike) -> tuple[Shaped[np.ndarray, "samples channels"], int, audio.Info]:
    """Read a recording in the sample type of its encoding (`TYPES`), its rate in Hz and its header.

    Raises `UserError` if it cannot be read, is empty or holds NaN or infinity.
    """
    info = audio.probe(path)
    try:
        with audio_io.open(path) as file:
            wav, rate = file.read(file.frames, dtype=_sample_type(info), always_2d=True), file.samplerate
    except soundfile.LibsndfileError as error:
        raise UserError(f"{path}: broken ({error.error_string.strip().rstrip('.')}); re-encode or replace it") from None
    if len(wav) < max(info.frames, 1):
        raise UserError(
            f"{path}: expected {max(info.frames, 1)} samples, found {len(wav)}; the file is empty or cut short"
        )
    if not np.isfinite(wav).all():
        raise UserError(f"{path}: expected finite samples, found NaN or infinity; repair or drop it")
    return wav, rate, info


def _sample_type(info: audio.Info) -> SampleType:
    return TYPES.get(info.subtype, "float32")


def write(path: str | os.PathLike, wav: Shaped[np.ndarray, "samples channels"], like: str | os.PathLike) -> str | None:
    """Write an edited recording with the rate of the file `like`, in the container that the suffix of `path` names.

    `wav` has the sample type that `read(like)` returns. The encoding is the same as in `like`, or the widest that the
    container has. The file is read back: returns None if its samples equal `wav`, else a warning in one line, for
    example for lossy containers. The file gets its name only when it is complete. Raises `UserError` for an unknown
    suffix, or if the file cannot be written.
    """
    path, like, info = Path(path), Path(like), audio.probe(like)
    sample_type = _sample_type(info)
    if wav.dtype != sample_type:
        raise ValueError(f"samples of {like} are {sample_type}, got {wav.dtype}")
    container, subtype = _encoding(path, like, info)
    if info.subtype in STEP:  # libsndfile would round down, which adds an offset
        step = STEP[info.subtype]
        top = np.iinfo(wav.dtype).max // step * step
        wav = np.minimum((wav.astype(np.int64) + step // 2) // step * step, top).astype(wav.dtype)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with soundfile.SoundFile(
            audio_io.raw_name(part), "w", info.rate, wav.shape[1], subtype, format=container
        ) as file:
            with contextlib.suppress(soundfile.LibsndfileError):  # a few containers hold no comment
                file.comment = MARK
            for start in range(0, len(wav), BLOCK):
                file.write(wav[start : start + BLOCK])
        with soundfile.SoundFile(audio_io.raw_name(part)) as file:  # a FLAC that was not closed states no length
            written = file.read(len(wav) + 1, dtype=sample_type, always_2d=True)
        if len(written) != len(wav):  # libsndfile reports no error if the disk is full when it closes the file
            raise OSError("its end is missing")
        os.replace(part, path)
    except (soundfile.LibsndfileError, OSError) as error:
        reason = getattr(error, "error_string", None) or getattr(error, "strerror", None) or str(error)
        raise audio_io.write_error(path, reason) from None
    finally:
        with contextlib.suppress(OSError):
            part.unlink()
    if not np.array_equal(written, wav):
        return f"{path}: {subtype} does not hold the samples of {like} exactly; a .wav does"
    return None


def _encoding(path, like, info):
    """Choose the container and encoding for `path`: a lossless encoding if the container has one."""
    suffix, container = path.suffix.lower(), audio_io.check_suffix(path)
    if suffix == like.suffix.lower():
        container = info.format
    if suffix == ".opus":
        return container, "OPUS"
    keeps_own = info.subtype in LOSSLESS or (container == info.format and container in ("OGG", "MP3"))
    own = [info.subtype] if keeps_own else []
    candidates = [*own, *WIDEST[_sample_type(info)], soundfile.default_subtype(container)]
    return container, next(subtype for subtype in candidates if soundfile.check_format(container, subtype))
